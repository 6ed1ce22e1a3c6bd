/*
 * lua_mark.c - what Lua says of Python: the constructors of the module. Each gives a marked Lua table, whose contents
 * may still be changed until it is saved or put into a value. Some also read a value of the kind that they make.
 *
 *   list, tuple, size, set, frozenset   { item, ... }
 *   dict                                { [key] = item }; the metatable may hold an order (lua_totable.c)
 *   items, ordered                      { {key, item}, ... }; `state` of an ordered one: its attributes
 *   bytes, bytearray, bigint            { text }
 *   complex { re, im }   device { type, index }   dtype { name }   class { module, name }   parameter { tensor, bool }
 *   object                              { class =, module =, callable =, args =, kwargs =, state =, how =, items =,
 *                                         pairs = }
 */
#include <string.h>

#include "lua_value.h"

/* ---- marks ---- */

static const char *const names[] = {"",
#define CKPT_X(id, name, kind) "ckpt." name,
                                    CKPT_LUA_MARKS(CKPT_X)
#undef CKPT_X
};

ckpt_lua_mark ckpt_lua_mark_of(lua_State *L, int index) {
  if (lua_type(L, index) != LUA_TTABLE || !lua_getmetatable(L, index)) return CKPT_MARK_NONE;
  lua_pushliteral(L, "__ckpt");
  lua_rawget(L, -2);
  lua_Integer mark = lua_tointeger(L, -1);
  lua_pop(L, 2);
  return mark > 0 && mark < (lua_Integer)CKPT_COUNTOF(names) ? (ckpt_lua_mark)mark : CKPT_MARK_NONE;
}

void ckpt_lua_set_mark(lua_State *L, ckpt_lua_mark mark) { luaL_setmetatable(L, names[mark]); }

const char *ckpt_lua_mark_kind(ckpt_lua_mark mark) {
  static const char *const kinds[] = {"table",
#define CKPT_X(id, name, kind) kind,
                                      CKPT_LUA_MARKS(CKPT_X)
#undef CKPT_X
  };
  return kinds[mark];
}

static int text_tostring(lua_State *L) {
  lua_rawgeti(L, 1, 1);
  return 1;
}

void ckpt_lua_new_marks(lua_State *L) {
  for (int i = 1; i < (int)CKPT_COUNTOF(names); i++) {
    if (luaL_newmetatable(L, names[i]) != 0) {
      lua_pushinteger(L, i);
      lua_setfield(L, -2, "__ckpt");
      if (i == CKPT_MARK_BYTES || i == CKPT_MARK_BYTEARRAY || i == CKPT_MARK_BIGINT) {
        lua_pushcfunction(L, text_tostring);
        lua_setfield(L, -2, "__tostring");
      }
    }
    lua_pop(L, 1);
  }
}

/* The table that was given, marked. */
static int mark_table(lua_State *L, ckpt_lua_mark mark) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  ckpt_lua_set_mark(L, mark);
  return 1;
}

/* A new table of the arguments 1..n, marked. What can never be written raises here and not when it is. */
static int mark_arguments(lua_State *L, ckpt_lua_mark mark, int n) {
  lua_settop(L, n);
  lua_createtable(L, n, 0);
  for (int i = 1; i <= n; i++) {
    lua_pushvalue(L, i);
    lua_rawseti(L, -2, i);
  }
  ckpt_lua_set_mark(L, mark);
  ckpt_lua_push_built(L, -1);
  lua_pop(L, 1);
  return 1;
}

/* ---- containers ---- */

static int mark_list(lua_State *L) { return mark_table(L, CKPT_MARK_LIST); }
static int mark_tuple(lua_State *L) { return mark_table(L, CKPT_MARK_TUPLE); }
static int mark_size(lua_State *L) { return mark_table(L, CKPT_MARK_SIZE); }
static int mark_set(lua_State *L) { return mark_table(L, CKPT_MARK_SET); }
static int mark_frozenset(lua_State *L) { return mark_table(L, CKPT_MARK_FROZENSET); }
static int mark_dict(lua_State *L) { return mark_table(L, CKPT_MARK_DICT); }
static int mark_items(lua_State *L) { return mark_table(L, CKPT_MARK_ITEMS); }

static int mark_ordered(lua_State *L) {
  lua_settop(L, 2);
  luaL_checktype(L, 1, LUA_TTABLE);
  if (!lua_isnil(L, 2)) lua_setfield(L, 1, "state");
  return mark_table(L, CKPT_MARK_ORDERED);
}

/* ---- scalars ---- */

static int mark_bytes(lua_State *L) {
  luaL_checkstring(L, 1);
  return mark_arguments(L, CKPT_MARK_BYTES, 1);
}

static int mark_bytearray(lua_State *L) {
  luaL_checkstring(L, 1);
  return mark_arguments(L, CKPT_MARK_BYTEARRAY, 1);
}

static int mark_bigint(lua_State *L) {
  luaL_checkstring(L, 1);
  lua_tostring(L, 1); /* of an integer: its digits */
  return mark_arguments(L, CKPT_MARK_BIGINT, 1);
}

static ckpt_value *reads(lua_State *L) {
  ckpt_document *doc;
  return ckpt_lua_test_value(L, 1, &doc);
}

/* The arguments of an object made by that function of Python or torch, or NULL. */
static const ckpt_seq *arguments_of(const ckpt_value *v, const char *module, const char *name) {
  bool same = v->kind == CKPT_OBJECT && v->made->how == CKPT_BY_REDUCE && v->made->callable != NULL &&
              ckpt_value_is_class(v->made->callable, module, name);
  return same ? &v->made->args->as.seq : NULL;
}

static const ckpt_seq *complex_parts(const ckpt_value *v) {
  const ckpt_seq *parts = arguments_of(v, "__builtin__", "complex");
  return parts != NULL ? parts : arguments_of(v, "builtins", "complex");
}

static int mark_complex(lua_State *L) {
  const ckpt_value *v = reads(L);
  if (v == NULL) {
    luaL_checknumber(L, 1);
    luaL_checknumber(L, 2);
    return mark_arguments(L, CKPT_MARK_COMPLEX, 2);
  }
  const ckpt_seq *parts = complex_parts(v);
  double re = 0, im = 0;
  bool two = parts != NULL && parts->n == 2 && ckpt_value_double(&re, parts->items[0], NULL) == CKPT_OK &&
             ckpt_value_double(&im, parts->items[1], NULL) == CKPT_OK;
  luaL_argcheck(L, two, 1, "a complex number expected");
  lua_pushnumber(L, re);
  lua_pushnumber(L, im);
  return 2;
}

static int push_device(lua_State *L, const ckpt_value *v) {
  const ckpt_seq *parts = arguments_of(v, "torch", "device");
  luaL_argcheck(L, parts != NULL && parts->n >= 1 && parts->items[0]->kind == CKPT_STR, 1, "a torch.device expected");
  lua_pushlstring(L, parts->items[0]->as.text.bytes, parts->items[0]->as.text.n);
  if (parts->n < 2 || parts->items[1]->kind != CKPT_INT) return 1;
  lua_pushinteger(L, parts->items[1]->as.integer);
  return 2;
}

static int mark_device(lua_State *L) {
  if (reads(L) != NULL) return push_device(L, reads(L));
  const char *type = ckpt_lua_check_text(L, 1), *colon = strchr(type, ':');
  if (!lua_isnoneornil(L, 2)) luaL_argcheck(L, ckpt_lua_check_integer(L, 2) >= 0, 2, "an index from 0 on expected");
  lua_settop(L, 2);
  if (colon != NULL && lua_isnil(L, 2)) { /* "cuda:0" */
    luaL_argcheck(L, lua_stringtonumber(L, colon + 1) != 0 && lua_isinteger(L, -1), 1, "no device of torch");
    lua_replace(L, 2);
    lua_pushlstring(L, type, (size_t)(colon - type));
    lua_replace(L, 1);
  }
  return mark_arguments(L, CKPT_MARK_DEVICE, lua_isnil(L, 2) ? 1 : 2);
}

static int mark_dtype(lua_State *L) {
  const ckpt_value *v = reads(L);
  ckpt_dtype dtype = CKPT_U8;
  size_t n;
  if (v == NULL) {
    ckpt_lua_check_text(L, 1);
    return mark_arguments(L, CKPT_MARK_DTYPE, 1);
  }
  bool torch = v->kind == CKPT_CLASS && v->as.text.module == 5 && memcmp(v->as.text.bytes, "torch", 5) == 0;
  luaL_argcheck(L, torch && ckpt_dtype_parse(&dtype, ckpt_value_class_name(v, &n), NULL) == CKPT_OK, 1,
                "a torch.dtype expected");
  lua_pushstring(L, ckpt_dtype_name(dtype));
  return 1;
}

static int mark_class(lua_State *L) {
  const ckpt_value *v = reads(L);
  if (v == NULL) {
    ckpt_lua_check_text(L, 1);
    ckpt_lua_check_text(L, 2);
    return mark_arguments(L, CKPT_MARK_CLASS, 2);
  }
  luaL_argcheck(L, v->kind == CKPT_CLASS, 1, "a class expected");
  size_t n;
  const char *name = ckpt_value_class_name(v, &n);
  lua_pushlstring(L, v->as.text.bytes, v->as.text.module);
  lua_pushlstring(L, name, n);
  return 2;
}

static int mark_parameter(lua_State *L) {
  ckpt_lua_check_tensor(L, 1);
  lua_settop(L, 2);
  lua_pushboolean(L, lua_isnil(L, 2) || lua_toboolean(L, 2));
  lua_replace(L, 2);
  return mark_arguments(L, CKPT_MARK_PARAMETER, 2);
}

/* ---- objects ---- */

static void set_value(lua_State *L, ckpt_document *doc, ckpt_value *v, const char *field) {
  if (v == NULL) return;
  ckpt_lua_push_value(L, doc, v);
  lua_setfield(L, -2, field);
}

void ckpt_lua_set_making(lua_State *L, const ckpt_made *made) {
  static const char *const hows[] = {"reduce", "newobj", "newobj_ex", "persid"};
  const ckpt_value *callable = made->callable;
  lua_pushstring(L, hows[made->how]);
  lua_setfield(L, -2, "how");
  if (callable == NULL || callable->kind != CKPT_CLASS) return;
  lua_pushlstring(L, callable->as.text.bytes, callable->as.text.n);
  lua_setfield(L, -2, "class");
  lua_pushlstring(L, callable->as.text.bytes, callable->as.text.module);
  lua_setfield(L, -2, "module");
}

static void set_items(lua_State *L, ckpt_document *doc, const ckpt_seq *items) {
  if (items->n == 0) return;
  lua_newtable(L);
  for (size_t i = 0; i < items->n; i++) {
    ckpt_lua_push_value(L, doc, items->items[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "items");
}

static void set_pairs(lua_State *L, ckpt_document *doc, const ckpt_seq *flat) {
  if (flat->n == 0) return;
  lua_newtable(L);
  for (size_t i = 0; i + 1 < flat->n; i += 2) {
    lua_createtable(L, 2, 0);
    ckpt_lua_push_value(L, doc, flat->items[i]);
    lua_rawseti(L, -2, 1);
    ckpt_lua_push_value(L, doc, flat->items[i + 1]);
    lua_rawseti(L, -2, 2);
    lua_rawseti(L, -2, (lua_Integer)(i / 2) + 1);
  }
  lua_setfield(L, -2, "pairs");
}

/* How a value was made, as ckpt.object takes it. */
static int describe(lua_State *L, ckpt_document *doc, const ckpt_value *v) {
  luaL_argcheck(L, v->made != NULL, 1, "an object expected");
  lua_createtable(L, 0, 6);
  ckpt_lua_set_making(L, v->made);
  if (v->made->callable != NULL && v->made->callable->kind != CKPT_CLASS)
    set_value(L, doc, v->made->callable, "callable");
  set_value(L, doc, v->made->args, "args");
  set_value(L, doc, v->made->kwargs, "kwargs");
  if (v->kind == CKPT_OBJECT) {
    set_value(L, doc, v->as.object->state, "state");
    set_items(L, doc, &v->as.object->items);
    set_pairs(L, doc, &v->as.object->dict.flat);
  }
  ckpt_lua_set_mark(L, CKPT_MARK_OBJECT);
  return 1;
}

static int mark_object(lua_State *L) {
  ckpt_document *doc;
  const ckpt_value *v = ckpt_lua_test_value(L, 1, &doc);
  return v != NULL ? describe(L, doc, v) : mark_table(L, CKPT_MARK_OBJECT);
}

/* ckpt.value(x): a value of its own, to be looked at and edited. */
static int new_value(lua_State *L) {
  luaL_checkany(L, 1);
  ckpt_lua_push_built(L, 1);
  return 1;
}

void ckpt_lua_open_marks(lua_State *L) {
  static const luaL_Reg functions[] = {{"value", new_value},
                                       {"list", mark_list},
                                       {"tuple", mark_tuple},
                                       {"size", mark_size},
                                       {"set", mark_set},
                                       {"frozenset", mark_frozenset},
                                       {"dict", mark_dict},
                                       {"items", mark_items},
                                       {"ordered", mark_ordered},
                                       {"bytes", mark_bytes},
                                       {"bytearray", mark_bytearray},
                                       {"bigint", mark_bigint},
                                       {"complex", mark_complex},
                                       {"device", mark_device},
                                       {"dtype", mark_dtype},
                                       {"class", mark_class},
                                       {"object", mark_object},
                                       {"parameter", mark_parameter},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
