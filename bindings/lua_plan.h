/*
 * lua_plan.h - methods of ckpt.checkpointer that find out without doing: what a load or a save would do, what is kept.
 */
#ifndef CKPT_LUA_PLAN_H
#define CKPT_LUA_PLAN_H

#include "lua_types.h"
#include "load_report.h"

/* The run behind the first argument; raises for another type. */
ckpt_checkpointer *ckpt_lua_check_checkpointer(lua_State *L);

/* t[field] = list of strings, for the table on the top. */
void ckpt_lua_set_list(lua_State *L, const char *field, const char *const *items, size_t n);

/* Pushes a load's report as a table (lua_report.c). */
void ckpt_lua_push_report(lua_State *L, const ckpt_load_report *r);

void ckpt_lua_open_answer(lua_State *L);

int ckpt_lua_plan_load(
    lua_State *L); /* cp:plan_load() -> the report of cp:load(), and { select, refuse, fault, log } */
int ckpt_lua_plan_save(
    lua_State *L);                /* cp:plan_save(epoch [, best]) -> { file, aliases, retire, result, reuse, log } */
int ckpt_lua_kept(lua_State *L);  /* cp:kept() -> list of { file, why }, of the policy's function `kept` */
int ckpt_lua_files(lua_State *L); /* cp:files() -> files of the directory, entries of its ledger */

#endif
