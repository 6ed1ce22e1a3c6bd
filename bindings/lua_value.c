/*
 * lua_value.c - type ckpt.value: a container, an object or bytes of a checkpoint, seen from Lua.
 *
 * Scalars are Lua's own (int, float, str, bool); None is ckpt.none. A box keeps the document, its uservalue the value.
 * Items of lists and tuples count from 1.
 */
#include "lua_types.h"

#include <lualib.h>
#include <stdlib.h>

#include "repr.h"
#include "value.h"

static const char none_key = 0;

void ckpt_lua_push_none(lua_State *L) { lua_rawgetp(L, LUA_REGISTRYINDEX, &none_key); }

/* ---- boxes ---- */

static ckpt_value *check_value(lua_State *L, int index, ckpt_document **doc) {
  *doc = ckpt_lua_check_box(L, index, CKPT_T_VALUE);
  lua_getiuservalue(L, index, 1);
  ckpt_value *v = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return v;
}

static void push_box(lua_State *L, ckpt_document *doc, ckpt_value *v) {
  void **box = ckpt_lua_new_box(L, CKPT_T_VALUE);
  lua_pushlightuserdata(L, v);
  lua_setiuservalue(L, -2, 1);
  *box = ckpt_document_retain(doc);
}

ckpt_value *ckpt_lua_test_value(lua_State *L, int index, ckpt_document **doc) {
  return luaL_testudata(L, index, CKPT_T_VALUE) == NULL ? NULL : check_value(L, index, doc);
}

void ckpt_lua_push_box(lua_State *L, ckpt_document *doc, ckpt_value *v) { push_box(L, doc, v); }

void ckpt_lua_push_value(lua_State *L, ckpt_document *doc, ckpt_value *v) {
  luaL_checkstack(L, 4, "value");
  switch (v->kind) {
    case CKPT_NONE: ckpt_lua_push_none(L); break;
    case CKPT_BOOLEAN: lua_pushboolean(L, v->as.boolean); break;
    case CKPT_INT: lua_pushinteger(L, v->as.integer); break;
    case CKPT_FLOAT: lua_pushnumber(L, v->as.number); break;
    case CKPT_STR: lua_pushlstring(L, v->as.text.bytes, v->as.text.n); break;
    case CKPT_TENSOR: ckpt_lua_push_tensor_value(L, doc, v); break;
    default: push_box(L, doc, v);
  }
}

static int value_gc(lua_State *L) {
  ckpt_document_release(ckpt_lua_take_box(L, CKPT_T_VALUE));
  return 0;
}

static int value_tostring(lua_State *L) {
  enum { SHOWN = 2000 };
  ckpt_document *doc;
  ckpt_error err;
  char *text = NULL;
  size_t n = 0;
  const ckpt_value *v = check_value(L, 1, &doc);
  if (ckpt_repr(&text, &n, v, SHOWN, &err) != CKPT_OK) return luaL_error(L, "%s", err.message);
  lua_pushlstring(L, text, n < SHOWN + 4 ? n : SHOWN + 4);
  free(text);
  return 1;
}

static int value_len(lua_State *L) {
  ckpt_document *doc;
  const ckpt_value *v = check_value(L, 1, &doc);
  lua_pushinteger(L, (lua_Integer)ckpt_value_count(v));
  return 1;
}

/* A key of a dict as Lua has it: strings, integers, floats and bools. */
static size_t find_pair(lua_State *L, int index, const ckpt_value *v) {
  const ckpt_dict *d = ckpt_value_dict(v);
  ckpt_value probe = {.kind = CKPT_STR};
  if (d == NULL) return SIZE_MAX;
  switch (lua_type(L, index)) {
    case LUA_TSTRING: probe.as.text.bytes = lua_tolstring(L, index, &probe.as.text.n); break;
    case LUA_TBOOLEAN:
      probe.kind = CKPT_BOOLEAN;
      probe.as.boolean = lua_toboolean(L, index);
      break;
    case LUA_TNUMBER:
      probe.kind = lua_isinteger(L, index) ? CKPT_INT : CKPT_FLOAT;
      if (probe.kind == CKPT_INT)
        probe.as.integer = lua_tointeger(L, index);
      else
        probe.as.number = lua_tonumber(L, index);
      break;
    default: return SIZE_MAX;
  }
  return ckpt_dict_find(d, &probe);
}

static int value_index(lua_State *L) {
  ckpt_document *doc;
  const ckpt_value *v = check_value(L, 1, &doc);
  size_t at = find_pair(L, 2, v);
  ckpt_value *found = at == SIZE_MAX ? NULL : ckpt_value_pair_value(v, at);
  if (found == NULL && v->kind != CKPT_DICT && lua_isinteger(L, 2) && lua_tointeger(L, 2) > 0)
    found = ckpt_value_item(v, (size_t)lua_tointeger(L, 2) - 1);
  if (found == NULL)
    lua_pushnil(L);
  else
    ckpt_lua_push_value(L, doc, found);
  return 1;
}

/* Pairs of a dict, then items: key or index, value. Upvalues: the box, the place. */
static int next_item(lua_State *L) {
  ckpt_document *doc;
  const ckpt_value *v = check_value(L, lua_upvalueindex(1), &doc);
  size_t i = (size_t)lua_tointeger(L, lua_upvalueindex(2)), pairs = ckpt_value_pair_count(v);
  lua_pushinteger(L, (lua_Integer)i + 1);
  lua_replace(L, lua_upvalueindex(2));
  if (i < pairs) {
    ckpt_lua_push_value(L, doc, ckpt_value_pair_key(v, i));
    ckpt_lua_push_value(L, doc, ckpt_value_pair_value(v, i));
    return 2;
  }
  ckpt_value *item = v->kind == CKPT_DICT ? NULL : ckpt_value_item(v, i - pairs);
  if (item == NULL) return 0;
  lua_pushinteger(L, (lua_Integer)(i - pairs) + 1);
  ckpt_lua_push_value(L, doc, item);
  return 2;
}

static int value_pairs(lua_State *L) {
  luaL_checkudata(L, 1, CKPT_T_VALUE);
  lua_settop(L, 1);
  lua_pushinteger(L, 0);
  lua_pushcclosure(L, next_item, 2);
  return 1;
}

/* ---- what Lua says of Python: marks ---- */

static int mark(lua_State *L, const char *name) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  luaL_setmetatable(L, name);
  return 1;
}

static int mark_tuple(lua_State *L) { return mark(L, "ckpt.tuple"); }
static int mark_ordered(lua_State *L) { return mark(L, "ckpt.ordered"); }
static int mark_dict(lua_State *L) { return mark(L, "ckpt.dict"); }

static int mark_bytes(lua_State *L) {
  luaL_checkstring(L, 1);
  lua_createtable(L, 1, 0);
  lua_pushvalue(L, 1);
  lua_rawseti(L, -2, 1);
  luaL_setmetatable(L, "ckpt.bytes");
  return 1;
}

static bool is_marked(lua_State *L, int index, const char *name) {
  if (!lua_getmetatable(L, index)) return false;
  luaL_getmetatable(L, name);
  bool same = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return same;
}

static int none_tostring(lua_State *L) {
  lua_pushliteral(L, "None");
  return 1;
}

/* ---- functions of the module ---- */

static const char *lua_kind(lua_State *L, int index) {
  switch (lua_type(L, index)) {
    case LUA_TNIL:
    case LUA_TNONE: return NULL;
    case LUA_TBOOLEAN: return "bool";
    case LUA_TSTRING: return "str";
    case LUA_TNUMBER: return lua_isinteger(L, index) ? "int" : "float";
    default: break;
  }
  if (luaL_testudata(L, index, CKPT_T_TENSOR) != NULL) return "tensor";
  if (luaL_testudata(L, index, CKPT_T_STATE_DICT) != NULL) return "state_dict";
  if (luaL_testudata(L, index, CKPT_T_MARK) != NULL) return "None";
  return luaL_typename(L, index);
}

/* ckpt.type(v): Python's name of what it is: "dict", "list", "int", "tensor", "object", ... */
static int value_type(lua_State *L) {
  luaL_checkany(L, 1);
  if (luaL_testudata(L, 1, CKPT_T_VALUE) != NULL) {
    ckpt_document *doc;
    lua_pushstring(L, ckpt_kind_name(ckpt_value_kind(check_value(L, 1, &doc))));
  } else {
    lua_pushstring(L, lua_kind(L, 1));
  }
  return 1;
}

/* ckpt.text(v): the bytes of bytes, bytearray, a class name or a long integer. */
static int value_text(lua_State *L) {
  ckpt_document *doc;
  size_t n = 0;
  const char *text = ckpt_value_text(check_value(L, 1, &doc), &n);
  luaL_argcheck(L, text != NULL, 1, "bytes, a class or a long integer expected");
  lua_pushlstring(L, text, n);
  return 1;
}

/* ckpt.object(v): { class = "module.name", args = , state = } of an inert object. */
static int value_object(lua_State *L) {
  ckpt_document *doc;
  const ckpt_value *v = check_value(L, 1, &doc);
  luaL_argcheck(L, v->kind == CKPT_OBJECT, 1, "an object expected");
  const ckpt_value *cls = ckpt_value_object_class(v);
  lua_createtable(L, 0, 3);
  if (cls != NULL && cls->kind == CKPT_CLASS) {
    lua_pushlstring(L, cls->as.text.bytes, cls->as.text.n);
    lua_setfield(L, -2, "class");
  }
  if (v->made->args != NULL) {
    ckpt_lua_push_value(L, doc, v->made->args);
    lua_setfield(L, -2, "args");
  }
  if (v->as.object->state != NULL) {
    ckpt_lua_push_value(L, doc, v->as.object->state);
    lua_setfield(L, -2, "state");
  }
  return 1;
}

/* ---- Lua to Python ---- */

typedef struct converter {
  lua_State *L;
  ckpt_document *doc;
  int seen; /* stack index of the table: Lua table -> light userdata of its value */
  int depth;
  ckpt_error err;
} converter;

static ckpt_value *convert(converter *c, int index);

static void must(converter *c, ckpt_status st) {
  if (st != CKPT_OK) luaL_error(c->L, "%s", c->err.message);
}

static ckpt_value *remember(converter *c, int index, ckpt_value *v) {
  lua_pushvalue(c->L, index);
  lua_pushlightuserdata(c->L, v);
  lua_rawset(c->L, c->seen);
  return v;
}

static ckpt_value *convert_items(converter *c, int index, ckpt_value *to) {
  lua_Unsigned n = lua_rawlen(c->L, index);
  for (lua_Unsigned i = 1; i <= n; i++) {
    lua_rawgeti(c->L, index, (lua_Integer)i);
    must(c, ckpt_value_append(to, c->doc, convert(c, lua_gettop(c->L)), &c->err));
    lua_pop(c->L, 1);
  }
  return to;
}

static ckpt_value *convert_list(converter *c, int index, bool tuple) {
  ckpt_value *v = NULL;
  if (tuple && lua_rawlen(c->L, index) == 0) return ckpt_document_empty_tuple(c->doc);
  must(c, (tuple ? ckpt_value_new_tuple : ckpt_value_new_list)(&v, c->doc, &c->err));
  return convert_items(c, index, remember(c, index, v));
}

/* The pair whose key and value are the two top entries; string keys are interned by the document. */
static void put_pair(converter *c, ckpt_value *dict) {
  lua_State *L = c->L;
  int key = lua_gettop(L) - 1;
  ckpt_value *item = convert(c, key + 1);
  if (lua_type(L, key) == LUA_TSTRING && lua_rawlen(L, key) == strlen(lua_tostring(L, key))) {
    must(c, ckpt_value_set(dict, c->doc, lua_tostring(L, key), item, &c->err));
  } else {
    if (lua_type(L, key) != LUA_TNUMBER && lua_type(L, key) != LUA_TSTRING && lua_type(L, key) != LUA_TBOOLEAN)
      luaL_error(L, "a %s cannot be the key of a dict", luaL_typename(L, key));
    must(c, ckpt_dict_put(dict->as.dict, c->doc, convert(c, key), item, &c->err));
  }
  lua_pop(L, 2);
}

static int key_rank(lua_State *L, int index) {
  int t = lua_type(L, index);
  return t == LUA_TBOOLEAN ? 0 : t == LUA_TNUMBER ? 1 : 2;
}

/* Sorts keys: bools, numbers by value, strings by bytes: the order of a plain table is not Lua's accident. */
static int key_less(lua_State *L) {
  int a = key_rank(L, 1), b = key_rank(L, 2);
  bool less = a < b;
  if (a == b && a == 0) less = lua_toboolean(L, 1) < lua_toboolean(L, 2);
  if (a == b && a > 0) less = lua_compare(L, 1, 2, LUA_OPLT);
  lua_pushboolean(L, less);
  return 1;
}

static void push_sorted_keys(converter *c, int index) {
  lua_State *L = c->L;
  lua_newtable(L);
  lua_Integer n = 0;
  for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
    int t = lua_type(L, -2);
    if (t != LUA_TSTRING && t != LUA_TNUMBER && t != LUA_TBOOLEAN)
      luaL_error(L, "a %s cannot be the key of a dict", luaL_typename(L, -2));
    lua_pushvalue(L, -2);
    lua_rawseti(L, -4, ++n);
  }
  lua_getfield(L, LUA_REGISTRYINDEX, "ckpt.sort");
  lua_pushvalue(L, -2);
  lua_pushcfunction(L, key_less);
  lua_call(L, 2, 0);
}

static ckpt_value *convert_dict(converter *c, int index) {
  lua_State *L = c->L;
  ckpt_value *v = NULL;
  must(c, ckpt_value_new_dict(&v, c->doc, false, &c->err));
  remember(c, index, v);
  push_sorted_keys(c, index);
  int keys = lua_gettop(L);
  for (lua_Unsigned i = 1, n = lua_rawlen(L, keys); i <= n; i++) {
    lua_rawgeti(L, keys, (lua_Integer)i);
    lua_pushvalue(L, -1);
    lua_rawget(L, index);
    put_pair(c, v);
  }
  lua_pop(L, 1);
  return v;
}

/* ckpt.ordered{ {key, value}, ... } */
static ckpt_value *convert_ordered(converter *c, int index) {
  lua_State *L = c->L;
  ckpt_value *v = NULL;
  must(c, ckpt_value_new_dict(&v, c->doc, true, &c->err));
  remember(c, index, v);
  for (lua_Unsigned i = 1, n = lua_rawlen(L, index); i <= n; i++) {
    if (lua_rawgeti(L, index, (lua_Integer)i) != LUA_TTABLE || lua_rawlen(L, -1) != 2)
      luaL_error(L, "ckpt.ordered takes a list of {key, value}");
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 2);
    put_pair(c, v);
    lua_pop(L, 1);
  }
  return v;
}

/* Only 1..n: a list. */
static bool is_list(lua_State *L, int index) {
  lua_Unsigned n = lua_rawlen(L, index), seen = 0;
  for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
    bool in = lua_isinteger(L, -2) && lua_tointeger(L, -2) >= 1 && (lua_Unsigned)lua_tointeger(L, -2) <= n;
    seen++;
    if (in) continue;
    lua_pop(L, 2);
    return false;
  }
  return seen == n;
}

static ckpt_value *convert_bytes(converter *c, int index) {
  ckpt_value *v = NULL;
  size_t n;
  lua_rawgeti(c->L, index, 1);
  const char *s = luaL_checklstring(c->L, -1, &n);
  must(c, ckpt_value_new_bytes(&v, c->doc, s, n, &c->err));
  lua_pop(c->L, 1);
  return v;
}

static ckpt_value *convert_table(converter *c, int index) {
  lua_State *L = c->L;
  lua_pushvalue(L, index);
  lua_rawget(L, c->seen);
  ckpt_value *before = lua_touserdata(L, -1);
  lua_pop(L, 1);
  if (before != NULL) return before;
  if (is_marked(L, index, "ckpt.bytes")) return convert_bytes(c, index);
  if (is_marked(L, index, "ckpt.tuple")) return convert_list(c, index, true);
  if (is_marked(L, index, "ckpt.ordered")) return convert_ordered(c, index);
  if (is_marked(L, index, "ckpt.dict") || !is_list(L, index)) return convert_dict(c, index);
  return convert_list(c, index, false);
}

static ckpt_value *convert_state_dict(converter *c, int index) {
  const ckpt_state_dict *sd = ckpt_lua_check_state_dict(c->L, index);
  ckpt_value *v = NULL, *t = NULL;
  must(c, ckpt_value_new_dict(&v, c->doc, false, &c->err));
  for (size_t i = 0; i < ckpt_state_dict_count(sd); i++) {
    must(c, ckpt_value_new_tensor(&t, c->doc, ckpt_state_dict_tensor(sd, i), &c->err));
    must(c, ckpt_value_set(v, c->doc, ckpt_state_dict_name(sd, i), t, &c->err));
  }
  return v;
}

/* One copy of a file's value, however often it is met. */
static ckpt_value *convert_once(converter *c, ckpt_value *from) {
  ckpt_value *v = NULL;
  if (lua_rawgetp(c->L, c->seen, from) == LUA_TNIL) {
    must(c, ckpt_value_clone(&v, c->doc, from, &c->err));
    lua_pushlightuserdata(c->L, v);
    lua_rawsetp(c->L, c->seen, from);
  } else {
    v = lua_touserdata(c->L, -1);
  }
  lua_pop(c->L, 1);
  return v;
}

static ckpt_value *convert_tensor(converter *c, int index) {
  ckpt_document *doc;
  ckpt_value *v = NULL, *from = ckpt_lua_tensor_value(c->L, index, &doc);
  if (from != NULL) return convert_once(c, from);
  must(c, ckpt_value_new_tensor(&v, c->doc, ckpt_lua_check_tensor(c->L, index), &c->err));
  return v;
}

static ckpt_value *convert_userdata(converter *c, int index) {
  lua_State *L = c->L;
  ckpt_document *doc;
  if (luaL_testudata(L, index, CKPT_T_MARK) != NULL) return ckpt_document_none(c->doc);
  if (luaL_testudata(L, index, CKPT_T_STATE_DICT) != NULL) return convert_state_dict(c, index);
  if (luaL_testudata(L, index, CKPT_T_TENSOR) != NULL) return convert_tensor(c, index);
  if (luaL_testudata(L, index, CKPT_T_VALUE) == NULL)
    luaL_error(L, "a %s has no counterpart in Python", luaL_typename(L, index));
  return convert_once(c, check_value(L, index, &doc));
}

static ckpt_value *convert_scalar(converter *c, int index) {
  lua_State *L = c->L;
  ckpt_value *v = NULL;
  size_t n;
  const char *s;
  switch (lua_type(L, index)) {
    case LUA_TBOOLEAN: return ckpt_document_bool(c->doc, lua_toboolean(L, index));
    case LUA_TNUMBER:
      must(c, lua_isinteger(L, index) ? ckpt_value_new_int(&v, c->doc, lua_tointeger(L, index), &c->err)
                                      : ckpt_value_new_double(&v, c->doc, lua_tonumber(L, index), &c->err));
      return v;
    case LUA_TSTRING:
      s = lua_tolstring(L, index, &n);
      must(c, ckpt_value_new_str(&v, c->doc, s, n, &c->err));
      return v;
    default: luaL_error(L, "a %s has no counterpart in Python", luaL_typename(L, index));
  }
  return NULL;
}

static ckpt_value *convert(converter *c, int index) {
  enum { MAX_DEPTH = 180 };
  luaL_checkstack(c->L, 12, "deeply nested table");
  if (++c->depth > MAX_DEPTH) luaL_error(c->L, "tables nested deeper than %d", MAX_DEPTH);
  ckpt_value *v;
  switch (lua_type(c->L, index)) {
    case LUA_TTABLE: v = convert_table(c, index); break;
    case LUA_TUSERDATA: v = convert_userdata(c, index); break;
    default: v = convert_scalar(c, index);
  }
  c->depth--;
  return v;
}

ckpt_value *ckpt_lua_to_value(lua_State *L, int index, ckpt_document *doc) {
  index = lua_absindex(L, index);
  lua_newtable(L);
  converter c = {.L = L, .doc = doc, .seen = lua_gettop(L)};
  ckpt_value *v = convert(&c, index);
  lua_pop(L, 1);
  return v;
}

/* ---- opening ---- */

void ckpt_lua_value_functions(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"tuple", mark_tuple}, {"ordered", mark_ordered}, {"dict", mark_dict},      {"bytes", mark_bytes},
      {"type", value_type},  {"text", value_text},      {"object", value_object}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  ckpt_lua_push_none(L);
  lua_setfield(L, -2, "none");
}

static void open_none(lua_State *L) {
  static const luaL_Reg meta[] = {{"__tostring", none_tostring}, {NULL, NULL}};
  ckpt_lua_new_type(L, CKPT_T_MARK, meta, NULL);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &none_key);
  if (lua_isnil(L, -1)) {
    lua_newuserdatauv(L, 0, 0);
    luaL_setmetatable(L, CKPT_T_MARK);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &none_key);
  }
  lua_pop(L, 1);
}

/* table.sort of this state, kept where conversions find it even if a script replaces it. */
static void keep_sort(lua_State *L) {
  luaL_requiref(L, LUA_TABLIBNAME, luaopen_table, 0);
  lua_getfield(L, -1, "sort");
  lua_setfield(L, LUA_REGISTRYINDEX, "ckpt.sort");
  lua_pop(L, 1);
}

void ckpt_lua_open_value(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", value_gc},
                                  {"__close", value_gc},
                                  {"__tostring", value_tostring},
                                  {"__index", value_index},
                                  {"__len", value_len},
                                  {"__pairs", value_pairs},
                                  {NULL, NULL}};
  static const char *const marks[] = {"ckpt.tuple", "ckpt.ordered", "ckpt.dict", "ckpt.bytes"};
  ckpt_lua_new_type(L, CKPT_T_VALUE, meta, NULL);
  for (size_t i = 0; i < CKPT_COUNTOF(marks); i++) {
    luaL_newmetatable(L, marks[i]);
    lua_pop(L, 1);
  }
  open_none(L);
  keep_sort(L);
}
