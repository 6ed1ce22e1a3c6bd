/*
 * lua_state_dict.c - type ckpt.state_dict: sd[name], sd[name] = tensor or nil, #sd, pairs(sd) in order; the functions
 * of the module that find, build and rename.
 */
#include <stdlib.h>
#include <string.h>

#include "lua_value.h"

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

/* ---- finding ---- */

static void push_skipped(lua_State *L, const ckpt_state_dict *sd) {
  const char *name;
  lua_newtable(L);
  for (size_t i = 0; (name = ckpt_state_dict_skipped(sd, i)) != NULL; i++) {
    lua_pushstring(L, name);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
}

int ckpt_lua_push_state_dict_of(lua_State *L, const ckpt_value *root, const char *where) {
  ckpt_error err;
  const ckpt_value *v = NULL;
  ckpt_state_dict **sd = (ckpt_state_dict **)ckpt_lua_new_box(L, CKPT_T_STATE_DICT);
  char **path = ckpt_lua_new_text(L);
  if (where != NULL) {
    v = ckpt_value_at(root, where);
    lua_pushstring(L, where);
  } else {
    if (ckpt_state_dict_find(&v, path, root, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
    lua_pushstring(L, *path);
  }
  if (v == NULL) {
    luaL_pushfail(L);
    lua_pushfstring(L, "the checkpoint has no '%s'", where);
    lua_pushliteral(L, "notfound");
    return 3;
  }
  if (ckpt_state_dict_from_value(sd, v, NULL, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_replace(L, -2);
  push_skipped(L, *sd);
  lua_insert(L, -2);
  return 3;
}

/* ---- ckpt.state_dict ---- */

static ckpt_state_dict **push_empty(lua_State *L) {
  ckpt_error err;
  ckpt_state_dict **sd = (ckpt_state_dict **)ckpt_lua_new_box(L, CKPT_T_STATE_DICT);
  ckpt_lua_must(L, ckpt_state_dict_new(sd, &err), &err);
  return sd;
}

int ckpt_lua_new_state_dict(lua_State *L) {
  push_empty(L);
  return 1;
}

/* { {name, tensor}, ... } at 1; a table by name has no order. */
static int from_rows(lua_State *L) {
  ckpt_error err;
  for (lua_pushnil(L); lua_next(L, 1) != 0; lua_pop(L, 1))
    luaL_argcheck(L, lua_isinteger(L, -2), 1, "a list of {name, tensor} expected");
  ckpt_state_dict **sd = push_empty(L);
  int top = lua_gettop(L);
  for (lua_Unsigned i = 1, n = lua_rawlen(L, 1); i <= n; i++) {
    luaL_argcheck(L, lua_rawgeti(L, 1, (lua_Integer)i) == LUA_TTABLE, 1, "a list of {name, tensor} expected");
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 2);
    luaL_argcheck(L, lua_type(L, -2) == LUA_TSTRING && luaL_testudata(L, -1, CKPT_T_TENSOR) != NULL, 1,
                  "a list of {name, tensor} expected");
    ckpt_lua_must(L, ckpt_state_dict_set(*sd, ckpt_lua_check_text(L, top + 2), ckpt_lua_check_tensor(L, -1), &err),
                  &err);
    lua_settop(L, top);
  }
  return 1;
}

/* ckpt.state_dict(): an empty one; of rows; of a file, a checkpoint or a value -> sd, names left out, where it was. */
static int sd_new(lua_State *L) {
  ckpt_document *doc;
  ckpt_error err;
  if (lua_isnoneornil(L, 1)) return ckpt_lua_new_state_dict(L);
  if (lua_istable(L, 1) && ckpt_lua_mark_of(L, 1) == CKPT_MARK_NONE) return from_rows(L);
  const char *where = luaL_optstring(L, 2, NULL);
  if (lua_type(L, 1) != LUA_TSTRING) return ckpt_lua_push_state_dict_of(L, ckpt_lua_any_value(L, 1, &doc), where);
  const char *path = ckpt_lua_check_text(L, 1);
  ckpt_checkpoint **cp = (ckpt_checkpoint **)ckpt_lua_new_box(L, CKPT_T_CHECKPOINT);
  if (ckpt_checkpoint_open(cp, path, NULL, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  return ckpt_lua_push_state_dict_of(L, ckpt_checkpoint_root(*cp), where);
}

/* ---- names ---- */

typedef enum renaming { RENAME, STRIP, ADD } renaming;

/* Pushes the new name of the name on the top, which stays below it. Arguments 2 and 3 say what to do. */
static bool push_renamed(lua_State *L, renaming how) {
  size_t n, m;
  const char *name = lua_tolstring(L, -1, &n), *what = lua_tolstring(L, 2, &m);
  if (how == ADD) {
    lua_pushvalue(L, 2);
    lua_pushvalue(L, -2);
    lua_concat(L, 2);
    return true;
  }
  bool fits = how == RENAME ? n == m && memcmp(name, what, n) == 0 : n > m && memcmp(name, what, m) == 0;
  if (!fits)
    lua_pushvalue(L, -1);
  else if (how == RENAME)
    lua_pushvalue(L, 3);
  else
    lua_pushlstring(L, name + m, n - m);
  return fits;
}

static int collision(lua_State *L, const char *name) {
  luaL_pushfail(L);
  lua_pushfstring(L, "two entries would be named '%s'", name);
  lua_pushliteral(L, "exists");
  return 3;
}

/* Builds it anew under the new names, then takes the place of the old one: in their order, or not at all. */
static int rename_state_dict(lua_State *L, renaming how) {
  ckpt_error err;
  lua_Integer changed = 0;
  const ckpt_state_dict *old = ckpt_lua_check_state_dict(L, 1);
  ckpt_state_dict **sd = push_empty(L);
  for (size_t i = 0; i < ckpt_state_dict_count(old); i++) {
    lua_pushstring(L, ckpt_state_dict_name(old, i));
    changed += push_renamed(L, how);
    const char *name = lua_tostring(L, -1);
    if (ckpt_state_dict_get(*sd, name) != NULL) return collision(L, name);
    ckpt_lua_must(L, ckpt_state_dict_set(*sd, name, ckpt_state_dict_tensor(old, i), &err), &err);
    lua_pop(L, 2);
  }
  ckpt_state_dict **box = lua_touserdata(L, 1), *made = *sd;
  *sd = *box; /* freed with its box */
  *box = made;
  lua_pushinteger(L, changed);
  return 1;
}

/* The same for a dict of a checkpoint; keys that are no strings stay. */
static int rename_dict(lua_State *L, renaming how) {
  ckpt_error err;
  ckpt_document *doc;
  lua_Integer changed = 0;
  ckpt_value *v = ckpt_lua_check_value(L, 1, &doc);
  luaL_argcheck(L, v->kind == CKPT_DICT, 1, "a dict or a state dict expected");
  size_t n = ckpt_value_pair_count(v);
  ckpt_value **keys = lua_newuserdatauv(L, (n + 1) * sizeof *keys, 0);
  for (size_t i = 0; i < n; i++) {
    size_t length;
    keys[i] = ckpt_value_pair_key(v, i);
    if (keys[i] == NULL || keys[i]->kind != CKPT_STR) continue;
    lua_pushlstring(L, keys[i]->as.text.bytes, keys[i]->as.text.n);
    bool other = push_renamed(L, how);
    const char *name = lua_tolstring(L, -1, &length);
    if (other) ckpt_lua_must(L, ckpt_document_intern(&keys[i], doc, name, length, &err), &err);
    changed += other;
    lua_pop(L, 2);
  }
  luaL_argcheck(L, ckpt_value_pair_count(v) == n, 1, "it was changed meanwhile");
  if (ckpt_value_rename_keys(v, keys, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_pushinteger(L, changed);
  return 1;
}

static int rename_any(lua_State *L, renaming how) {
  ckpt_lua_check_text(L, 2);
  if (luaL_testudata(L, 1, CKPT_T_STATE_DICT) != NULL) return rename_state_dict(L, how);
  return rename_dict(L, how);
}

/* ckpt.rename(sd, old, new) -> true, or nil, message, code if there is no such name or the new one is taken. */
static int sd_rename(lua_State *L) {
  ckpt_lua_check_text(L, 3);
  if (rename_any(L, RENAME) != 1) return 3;
  if (lua_tointeger(L, -1) == 1) {
    lua_pushboolean(L, 1);
    return 1;
  }
  luaL_pushfail(L);
  lua_pushfstring(L, "there is no '%s'", lua_tostring(L, 2));
  lua_pushliteral(L, "notfound");
  return 3;
}

static int sd_strip_prefix(lua_State *L) { return rename_any(L, STRIP); }
static int sd_add_prefix(lua_State *L) { return rename_any(L, ADD); }

void ckpt_lua_state_dict_functions(lua_State *L) {
  static const luaL_Reg functions[] = {{"state_dict", sd_new},
                                       {"rename", sd_rename},
                                       {"strip_prefix", sd_strip_prefix},
                                       {"add_prefix", sd_add_prefix},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
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
