/* lua_read.c - the module's functions that look at values. Each takes anything that could be saved. */
#include <stdlib.h>

#include "lua_value.h"

/* ---- kinds ---- */

static const char *lua_kind(lua_State *L, int index) {
  switch (lua_type(L, index)) {
    case LUA_TNIL:
    case LUA_TNONE: return NULL;
    case LUA_TBOOLEAN: return "bool";
    case LUA_TSTRING: return "str";
    case LUA_TNUMBER: return lua_isinteger(L, index) ? "int" : "float";
    case LUA_TTABLE: return ckpt_lua_mark_kind(ckpt_lua_mark_of(L, index));
    default: break;
  }
  if (luaL_testudata(L, index, CKPT_T_TENSOR) != NULL) return "tensor";
  if (luaL_testudata(L, index, CKPT_T_STATE_DICT) != NULL) return "state_dict";
  if (luaL_testudata(L, index, CKPT_T_CHECKPOINT) != NULL) return "checkpoint";
  if (luaL_testudata(L, index, CKPT_T_MARK) != NULL) return "None";
  return luaL_typename(L, index);
}

/* ckpt.type(v): Python's name of what it is: "dict", "list", "int", "tensor", "object", ... */
static int value_type(lua_State *L) {
  ckpt_document *doc;
  luaL_checkany(L, 1);
  const ckpt_value *v = ckpt_lua_test_value(L, 1, &doc);
  lua_pushstring(L, v != NULL ? ckpt_kind_name(ckpt_value_kind(v)) : lua_kind(L, 1));
  return 1;
}

/* ---- texts ---- */

static int text_gc(lua_State *L) {
  char **text = luaL_checkudata(L, 1, "ckpt.text");
  free(*text);
  *text = NULL;
  return 0;
}

char **ckpt_lua_new_text(lua_State *L) {
  char **text = lua_newuserdatauv(L, sizeof *text, 0);
  *text = NULL;
  luaL_setmetatable(L, "ckpt.text");
  return text;
}

/* ckpt.text(v): the bytes of bytes, bytearray, a class name or a long integer. */
static int value_text(lua_State *L) {
  ckpt_document *doc;
  size_t n = 0;
  const char *text = ckpt_value_text(ckpt_lua_any_value(L, 1, &doc), &n);
  luaL_argcheck(L, text != NULL, 1, "bytes, a class or a long integer expected");
  lua_pushlstring(L, text, n);
  return 1;
}

static int integer_text(lua_State *L, bool hex) {
  ckpt_document *doc;
  ckpt_error err;
  size_t n = 0;
  const ckpt_value *v = ckpt_lua_any_value(L, 1, &doc);
  luaL_argcheck(L, v->kind == CKPT_INT || v->kind == CKPT_BIGINT, 1, "an int expected");
  char **text = ckpt_lua_new_text(L);
  if (ckpt_value_int_text(text, &n, v, hex, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_pushlstring(L, *text, n);
  return 1;
}

static int value_decimal(lua_State *L) { return integer_text(L, false); }
static int value_hex(lua_State *L) { return integer_text(L, true); }

/* ---- parts ---- */

static int state_dict_keys(lua_State *L) {
  const ckpt_state_dict *sd = ckpt_lua_check_state_dict(L, 1);
  lua_newtable(L);
  for (size_t i = 0; i < ckpt_state_dict_count(sd); i++) {
    lua_pushstring(L, ckpt_state_dict_name(sd, i));
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* ckpt.keys(v): what pairs(v) gives first, as a list. */
static int value_keys(lua_State *L) {
  ckpt_document *doc;
  if (luaL_testudata(L, 1, CKPT_T_STATE_DICT) != NULL) return state_dict_keys(L);
  const ckpt_value *v = ckpt_lua_any_value(L, 1, &doc);
  size_t pairs = ckpt_value_pair_count(v), items = v->kind == CKPT_DICT ? 0 : ckpt_value_count(v);
  lua_newtable(L);
  for (size_t i = 0; i < pairs + items; i++) {
    if (i < pairs)
      ckpt_lua_push_value(L, doc, ckpt_value_pair_key(v, i));
    else
      lua_pushinteger(L, (lua_Integer)(i - pairs) + 1);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* ckpt.get(v, key): v[key] of anything, with a key of any kind. */
static int value_get(lua_State *L) {
  ckpt_document *doc;
  const ckpt_value *v = ckpt_lua_any_value(L, 1, &doc);
  luaL_checkany(L, 2);
  ckpt_value *found = ckpt_lua_find(L, doc, v, 2);
  if (found == NULL)
    lua_pushnil(L);
  else
    ckpt_lua_push_value(L, doc, found);
  return 1;
}

/* ckpt.raw(v, key): the same as a value even if it is a tensor or a scalar: what it is made of can be asked. */
static int value_raw(lua_State *L) {
  ckpt_document *doc;
  const ckpt_value *v = ckpt_lua_any_value(L, 1, &doc);
  luaL_checkany(L, 2);
  ckpt_value *found = ckpt_lua_find(L, doc, v, 2);
  if (found == NULL)
    lua_pushnil(L);
  else
    ckpt_lua_push_box(L, doc, found);
  return 1;
}

/* ckpt.has(v, x): whether x is a key of a dict or in a set. */
static int value_has(lua_State *L) {
  ckpt_document *doc, *other;
  const ckpt_value *v = ckpt_lua_any_value(L, 1, &doc), *x = ckpt_lua_any_value(L, 2, &other);
  lua_pushboolean(L, ckpt_value_contains(v, x));
  return 1;
}

/* ckpt.state(v): the state of an object, the attributes of an OrderedDict, or nil. */
static int value_state(lua_State *L) {
  ckpt_document *doc;
  ckpt_value *state = ckpt_value_state(ckpt_lua_any_value(L, 1, &doc));
  if (state == NULL)
    lua_pushnil(L);
  else
    ckpt_lua_push_value(L, doc, state);
  return 1;
}

/* ckpt.equal(a, b) */
static int value_equal(lua_State *L) {
  ckpt_document *doc;
  ckpt_error err;
  bool equal = false;
  const ckpt_value *a = ckpt_lua_any_value(L, 1, &doc), *b = ckpt_lua_any_value(L, 2, &doc);
  if (ckpt_value_equal(&equal, a, b, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_pushboolean(L, equal);
  return 1;
}

void ckpt_lua_open_read(lua_State *L) {
  static const luaL_Reg functions[] = {{"type", value_type},   {"text", value_text}, {"decimal", value_decimal},
                                       {"hex", value_hex},     {"keys", value_keys}, {"get", value_get},
                                       {"raw", value_raw},     {"has", value_has},   {"state", value_state},
                                       {"equal", value_equal}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}

void ckpt_lua_new_texts(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", text_gc}, {NULL, NULL}};
  ckpt_lua_new_type(L, "ckpt.text", meta, NULL);
}
