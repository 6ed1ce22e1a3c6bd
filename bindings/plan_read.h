/*
 * plan_read.h - reading the fields of a table that a policy returned. All raise on what is wrong, with the field's
 * name; what they allocate hangs on the structure that the caller frees.
 */
#ifndef CKPT_PLAN_READ_H
#define CKPT_PLAN_READ_H

#include <lauxlib.h>

#include "run.h"

/* Raises the error's message unless st is CKPT_OK. */
void ckpt_plan_must(lua_State *L, ckpt_status st, const ckpt_error *err);

/* Raises "the plan's 'field' must be EXPECTED, not TYPE" about the value on the top. Does not return. */
int ckpt_plan_nonsense(lua_State *L, const char *field, const char *expected);

/* The string on the top, copied; it must hold no NUL. */
char *ckpt_plan_copy(lua_State *L, const char *field);

/* t[field] as a string of the plan's own; nil or false leaves *out as it is. */
void ckpt_plan_string(lua_State *L, int t, const char *field, char **out);
bool ckpt_plan_bool(lua_State *L, int t, const char *field, bool otherwise);

/* t[field] on the top as a list; its length, 0 for nil. The caller pops it. */
lua_Integer ckpt_plan_list(lua_State *L, int t, const char *field);
void ckpt_plan_strings(lua_State *L, int t, const char *field, ckpt_strings *out);

/* Grows an array of a plan by one zeroed item and gives its address. */
void *ckpt_plan_grow(lua_State *L, void **items, size_t *n, size_t *capacity, size_t size);

/* The load plan in the table on the top (plan_load.c). */
void ckpt_plan_read_load(lua_State *L, ckpt_load_plan *out);

#endif
