/*
 * lua_state_dict.c - type ckpt.state_dict: sd[name], sd[name] = tensor or nil, #sd, pairs(sd) in order.
 */
#include <stdlib.h>

#include "lua_types.h"

ckpt_state_dict *ckpt_lua_check_state_dict(lua_State *L, int index) {
  return ckpt_lua_check_box(L, index, CKPT_T_STATE_DICT);
}

static int sd_gc(lua_State *L) {
  ckpt_state_dict_free(ckpt_lua_take_box(L, CKPT_T_STATE_DICT));
  return 0;
}

static int sd_len(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)ckpt_state_dict_count(ckpt_lua_check_state_dict(L, 1)));
  return 1;
}

/* Only strings are keys: sd[1] is nil, not an error, so that a policy may ask. */
static int sd_index(lua_State *L) {
  const ckpt_state_dict *sd = ckpt_lua_check_state_dict(L, 1);
  ckpt_tensor *t = lua_type(L, 2) == LUA_TSTRING ? ckpt_state_dict_get(sd, lua_tostring(L, 2)) : NULL;
  if (t == NULL)
    lua_pushnil(L);
  else
    ckpt_lua_push_tensor(L, t);
  return 1;
}

static int sd_newindex(lua_State *L) {
  ckpt_error err;
  ckpt_state_dict *sd = ckpt_lua_check_state_dict(L, 1);
  const char *name = ckpt_lua_check_text(L, 2);
  if (lua_isnil(L, 3)) {
    if (ckpt_state_dict_get(sd, name) != NULL) ckpt_state_dict_remove(sd, name, &err);
    return 0;
  }
  if (ckpt_state_dict_set(sd, name, ckpt_lua_check_tensor(L, 3), &err) != CKPT_OK)
    return luaL_error(L, "%s", err.message);
  return 0;
}

static int next_entry(lua_State *L) {
  const ckpt_state_dict *sd = ckpt_lua_check_state_dict(L, lua_upvalueindex(1));
  size_t i = (size_t)lua_tointeger(L, lua_upvalueindex(2));
  const char *name = ckpt_state_dict_name(sd, i);
  if (name == NULL) return 0;
  lua_pushinteger(L, (lua_Integer)i + 1);
  lua_replace(L, lua_upvalueindex(2));
  lua_pushstring(L, name);
  ckpt_lua_push_tensor(L, ckpt_state_dict_tensor(sd, i));
  return 2;
}

static int sd_pairs(lua_State *L) {
  ckpt_lua_check_state_dict(L, 1);
  lua_settop(L, 1);
  lua_pushinteger(L, 0);
  lua_pushcclosure(L, next_entry, 2);
  return 1;
}

static int sd_tostring(lua_State *L) {
  const ckpt_state_dict *sd = *(ckpt_state_dict **)luaL_checkudata(L, 1, CKPT_T_STATE_DICT);
  if (sd == NULL)
    lua_pushliteral(L, "state dict (closed)");
  else
    lua_pushfstring(L, "state dict of %I tensors", (lua_Integer)ckpt_state_dict_count(sd));
  return 1;
}

/* ckpt.state_dict(): an empty one. */

int ckpt_lua_new_state_dict(lua_State *L) {
  ckpt_error err;
  ckpt_state_dict **sd = (ckpt_state_dict **)ckpt_lua_new_box(L, CKPT_T_STATE_DICT);
  if (ckpt_state_dict_new(sd, &err) != CKPT_OK) return luaL_error(L, "%s", err.message);
  return 1;
}

void ckpt_lua_open_state_dict(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", sd_gc},
                                  {"__close", sd_gc},
                                  {"__len", sd_len},
                                  {"__index", sd_index},
                                  {"__newindex", sd_newindex},
                                  {"__pairs", sd_pairs},
                                  {"__tostring", sd_tostring},
                                  {NULL, NULL}};
  ckpt_lua_new_type(L, CKPT_T_STATE_DICT, meta, NULL);
}

/* ---- alignment ---- */

/* A list of strings as C sees it; the strings stay on the table, the array on the stack. */
static const char **check_names(lua_State *L, int index, size_t *n) {
  luaL_checktype(L, index, LUA_TTABLE);
  *n = lua_rawlen(L, index);
  const char **names = lua_newuserdatauv(L, (*n + 1) * sizeof *names, 0);
  for (size_t i = 0; i < *n; i++) {
    if (lua_rawgeti(L, index, (lua_Integer)i + 1) != LUA_TSTRING)
      luaL_argerror(L, index, "every entry must be a string");
    names[i] = lua_tostring(L, -1);
    lua_pop(L, 1);
  }
  return names;
}

int ckpt_lua_align(lua_State *L) {
  ckpt_error err;
  size_t n_targets, n_sources, *found = NULL;
  const char *boundary = luaL_optstring(L, 3, "");
  const char **targets = check_names(L, 1, &n_targets), **sources = check_names(L, 2, &n_sources);
  luaL_argcheck(L, n_targets <= INT32_MAX, 1, "too many names");
  void *copy = lua_newuserdatauv(L, (n_targets + 1) * sizeof *found, 0); /* owns the result while the table grows */
  lua_createtable(L, (int)n_targets, 0);
  if (ckpt_align(&found, n_targets, targets, n_sources, sources, boundary[0], &err) != CKPT_OK)
    return luaL_error(L, "%s", err.message);
  size_t *kept = copy;
  for (size_t i = 0; i < n_targets; i++) kept[i] = found[i];
  free(found);
  for (size_t i = 0; i < n_targets; i++) {
    if (kept[i] == SIZE_MAX)
      lua_pushboolean(L, 0);
    else
      lua_pushinteger(L, (lua_Integer)kept[i] + 1);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}
