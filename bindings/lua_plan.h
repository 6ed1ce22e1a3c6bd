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

/* cp:plan_load() -> the report of cp:load(), and { select, refuse, fault, log } */
int ckpt_lua_plan_load(lua_State *L);
/* cp:plan_save(epoch [, best]) -> { file, aliases, retire, why, result, reason, reuse, log } */
int ckpt_lua_plan_save(lua_State *L);
int ckpt_lua_done(lua_State *L);    /* cp:done() -> the same of the last save or save_best, or nil */
int ckpt_lua_due(lua_State *L);     /* cp:due(epoch) -> whether a save is due, why */
int ckpt_lua_kept(lua_State *L);    /* cp:kept() -> list of { file, why }, of the policy's function `kept` */
int ckpt_lua_ranking(lua_State *L); /* cp:ranking() -> list of { file, why }, the best first */
int ckpt_lua_files(lua_State *L);   /* cp:files() -> files of the directory, entries of its ledger */
int ckpt_lua_prune(lua_State *L);   /* cp:prune([act]) -> { retire, why, spared }; without `act` nothing is removed */
int ckpt_lua_pin(lua_State *L);     /* cp:pin(file [, pinned]) */
int ckpt_lua_peak(lua_State *L);    /* cp:peak() -> files and bytes at once, of a run that is only played */

#endif
