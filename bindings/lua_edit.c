/*
 * lua_edit.c - the module's functions that change values in place. What is put in may be any Lua value, a tensor, a
 * state dict, or a value: of the same document it is itself, of another one it is copied.
 */
#include "lua_value.h"

static int done(lua_State *L, ckpt_status st, const ckpt_error *err) {
  ckpt_lua_must(L, st, err);
  lua_settop(L, 1);
  return 1; /* the value itself, so that calls can be chained */
}

/* ckpt.put(v, key, x): a pair of a dict, or of an object that is one. */
static int value_put(lua_State *L) {
  ckpt_error err;
  ckpt_document *doc;
  ckpt_value *v = ckpt_lua_check_value(L, 1, &doc);
  luaL_checkany(L, 3);
  ckpt_value *key = ckpt_lua_to_key(L, 2, doc), *x = ckpt_lua_to_value(L, 3, doc);
  return done(L, ckpt_value_put(v, doc, key, x, &err), &err);
}

/* ckpt.append(v, x) */
static int value_append(lua_State *L) {
  ckpt_error err;
  ckpt_document *doc;
  ckpt_value *v = ckpt_lua_check_value(L, 1, &doc);
  luaL_argcheck(L, v->kind == CKPT_LIST || v->kind == CKPT_OBJECT, 1, "a list expected");
  ckpt_value *x = ckpt_lua_to_value(L, 2, doc);
  return done(L, ckpt_value_append(v, doc, x, &err), &err);
}

/* ckpt.extend(v, list) */
static int value_extend(lua_State *L) {
  ckpt_error err;
  ckpt_document *doc;
  ckpt_value *v = ckpt_lua_check_value(L, 1, &doc);
  const ckpt_value *x = ckpt_lua_to_value(L, 2, doc);
  return done(L, ckpt_value_extend(v, doc, x, &err), &err);
}

/* An index from 1 to n. */
static size_t check_place(lua_State *L, int index, size_t n) {
  lua_Integer i = ckpt_lua_check_integer(L, index);
  luaL_argcheck(L, i >= 1 && (lua_Unsigned)i <= n, index, "out of range");
  return (size_t)i - 1;
}

/* ckpt.insert(v, i, x): before item i, or at the end with i = #v + 1. */
static int value_insert(lua_State *L) {
  ckpt_error err;
  ckpt_document *doc;
  ckpt_value *v = ckpt_lua_check_value(L, 1, &doc);
  size_t at = check_place(L, 2, ckpt_value_count(v) + 1);
  ckpt_value *x = ckpt_lua_to_value(L, 3, doc);
  return done(L, ckpt_value_insert(v, doc, at, x, &err), &err);
}

/* ckpt.add(set, x) */
static int value_add(lua_State *L) {
  ckpt_error err;
  ckpt_document *doc;
  ckpt_value *v = ckpt_lua_check_value(L, 1, &doc);
  ckpt_value *x = ckpt_lua_to_key(L, 2, doc);
  return done(L, ckpt_value_add(v, doc, x, &err), &err);
}

/* true, or false if it was not there. */
static int removed(lua_State *L, ckpt_status st, const ckpt_error *err) {
  if (st != CKPT_E_NOTFOUND) ckpt_lua_must(L, st, err);
  lua_pushboolean(L, st == CKPT_OK);
  return 1;
}

static int remove_item(lua_State *L, ckpt_value *list) {
  ckpt_error err;
  return removed(L, ckpt_value_remove_item(list, check_place(L, 2, ckpt_value_count(list)), &err), &err);
}

/* ckpt.remove(v, what): a key of a dict, an index of a list, an item of a set, a name of a state dict. */
static int value_remove(lua_State *L) {
  ckpt_error err;
  ckpt_document *doc;
  luaL_checkany(L, 2);
  if (luaL_testudata(L, 1, CKPT_T_STATE_DICT) != NULL) {
    ckpt_state_dict *sd = ckpt_lua_check_state_dict(L, 1);
    return removed(L, ckpt_state_dict_remove(sd, ckpt_lua_check_text(L, 2), &err), &err);
  }
  ckpt_value *v = ckpt_lua_check_value(L, 1, &doc);
  if (v->kind == CKPT_LIST || (v->kind == CKPT_OBJECT && v->as.object->dict.flat.n == 0)) return remove_item(L, v);
  const ckpt_value *what = ckpt_lua_to_key(L, 2, doc);
  ckpt_status st = v->kind == CKPT_SET ? ckpt_value_discard(v, doc, what, &err) : ckpt_value_remove_key(v, what, &err);
  return removed(L, st, &err);
}

/* ckpt.set_state(v, x): of an object, or the attributes of an OrderedDict; nil takes it away. */
static int value_set_state(lua_State *L) {
  ckpt_error err;
  ckpt_document *doc;
  ckpt_value *v = ckpt_lua_check_value(L, 1, &doc);
  lua_settop(L, 2);
  ckpt_value *x = lua_isnil(L, 2) ? NULL : ckpt_lua_to_value(L, 2, doc);
  return done(L, ckpt_value_set_state(v, x, &err), &err);
}

void ckpt_lua_open_edit(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"put", value_put}, {"append", value_append}, {"extend", value_extend},       {"insert", value_insert},
      {"add", value_add}, {"remove", value_remove}, {"set_state", value_set_state}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
