/*
 * lua_api.c - ckpt.api(): the names that are really registered, for the spec that compares them with the document.
 */
#include <string.h>

#include "lua_types.h"

/* Appends the name on the top to the list at `list`; pops it. */
static void append(lua_State *L, int list) { lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1); }

/* Sets the list on the top, sorted, as a field of the table below it. */
static void set_sorted(lua_State *L, const char *field) {
  lua_getglobal(L, "table");
  lua_getfield(L, -1, "sort");
  lua_pushvalue(L, -3);
  lua_call(L, 1, 0);
  lua_pop(L, 1);
  lua_setfield(L, -2, field);
}

/* The keys of the table at `from` whose values are functions (or are none) and whose names begin so or not. */
static void push_names(lua_State *L, int from, bool functions, bool meta) {
  lua_newtable(L);
  int list = lua_gettop(L);
  if (!lua_istable(L, from)) return;
  for (lua_pushnil(L); lua_next(L, from) != 0; lua_pop(L, 1)) {
    bool named = lua_type(L, -2) == LUA_TSTRING;
    const char *name = named ? lua_tostring(L, -2) : "";
    if (!named || lua_isfunction(L, -1) != functions || (strncmp(name, "__", 2) == 0) != meta) continue;
    lua_pushvalue(L, -2);
    append(L, list);
  }
}

/* { methods =, fields =, operators = } of a type */
static void push_type(lua_State *L, const char *type) {
  lua_newtable(L);
  int out = lua_gettop(L);
  luaL_getmetatable(L, type);
  int meta = lua_gettop(L);
  if (lua_getfield(L, meta, "__methods") == LUA_TNIL) lua_getfield(L, meta, "__index");
  push_names(L, lua_gettop(L), true, false);
  lua_pushvalue(L, out);
  lua_insert(L, -2);
  set_sorted(L, "methods");
  push_names(L, meta, true, true);
  lua_pushvalue(L, out);
  lua_insert(L, -2);
  set_sorted(L, "operators");
  if (lua_getfield(L, meta, "__fields") == LUA_TNIL) lua_newtable(L);
  lua_setfield(L, out, "fields");
  lua_settop(L, out);
}

/* { functions =, fields =, types = { tensor =, ... } }. Upvalue: the module. */
static int api(lua_State *L) {
  static const char *const types[] = {CKPT_T_TENSOR, CKPT_T_STATE_DICT, CKPT_T_VALUE, CKPT_T_CHECKPOINT,
                                      CKPT_T_CHECKPOINTER};
  lua_settop(L, 0);
  luaL_checkstack(L, 20, "api");
  lua_newtable(L);
  push_names(L, lua_upvalueindex(1), true, false);
  set_sorted(L, "functions");
  push_names(L, lua_upvalueindex(1), false, false);
  set_sorted(L, "fields");
  lua_newtable(L);
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
    push_type(L, types[i]);
    lua_setfield(L, -2, types[i] + strlen("ckpt."));
  }
  lua_setfield(L, -2, "types");
  return 1;
}

void ckpt_lua_open_api(lua_State *L) {
  lua_pushvalue(L, -1);
  lua_pushcclosure(L, api, 1);
  lua_setfield(L, -2, "api");
}
