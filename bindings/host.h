/*
 * host.h - what the commands of the executable need of the system beside checkpoints: files to look at, a journal, and
 * processes to work in. Given to scripts/main.lua alone; neither a policy nor `require "ckpt"` sees it.
 */
#ifndef CKPT_HOST_H
#define CKPT_HOST_H

#include "lua_types.h"

/* Pushes the table of functions. */
void ckpt_lua_push_host(lua_State *L);

/* Adds to the table on the top. */
void ckpt_lua_host_files(lua_State *L);
void ckpt_lua_host_jobs(lua_State *L);

#endif
