/*
 * lua_totable.c - Python to Lua: ckpt.totable, a deep copy of a value in Lua tables.
 *
 * A container becomes one table however often it is reached, so that what was shared is shared and cycles are cycles;
 * ckpt.value(ckpt.totable(v)) equals v. Dicts are tables by key whose metatable keeps the order: pairs() follows it. As
 * in lua_convert.c, tables are made empty and filled when their turn comes.
 */
#include "bigint.h"
#include "lua_value.h"

typedef struct builder {
  lua_State *L;
  ckpt_document *doc;
  int seen; /* stack index of a table: address of a value -> its table, and [n] -> the n-th value's address */
  lua_Integer n, done; /* values in it, and those whose tables are filled */
} builder;

static void push(builder *b, ckpt_value *v);

/* ---- pairs in order ---- */

/* Appends the keys of `order` that the table at 1 still has. Stack: table, keys, set of keys taken, order. */
static void take_ordered(lua_State *L, lua_Integer *n) {
  for (lua_Unsigned i = 1; i <= lua_rawlen(L, 4); i++) {
    lua_rawgeti(L, 4, (lua_Integer)i);
    lua_pushvalue(L, -1);
    if (lua_rawget(L, 1) != LUA_TNIL) {
      lua_pushvalue(L, -2);
      lua_rawseti(L, 2, ++*n);
      lua_pushvalue(L, -2);
      lua_pushboolean(L, 1);
      lua_rawset(L, 3);
    }
    lua_settop(L, 4);
  }
}

static int next_pair(lua_State *L) {
  lua_Integer i = lua_tointeger(L, lua_upvalueindex(3));
  for (;;) {
    lua_settop(L, 0);
    if (lua_rawgeti(L, lua_upvalueindex(2), ++i) == LUA_TNIL) return 1;
    lua_pushvalue(L, -1);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) break; /* else taken out meanwhile */
  }
  lua_pushinteger(L, i);
  lua_replace(L, lua_upvalueindex(3));
  return 2;
}

/* __pairs: the keys in their order, then what was added since. Upvalue: the order. */
static int ordered_pairs(lua_State *L) {
  lua_Integer n = 0;
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_newtable(L);
  lua_newtable(L);
  lua_pushvalue(L, lua_upvalueindex(1));
  take_ordered(L, &n);
  for (lua_pushnil(L); lua_next(L, 1) != 0; lua_pop(L, 1)) {
    lua_pushvalue(L, -2);
    bool taken = lua_rawget(L, 3) != LUA_TNIL;
    lua_pop(L, 1);
    if (taken) continue;
    lua_pushvalue(L, -2);
    lua_rawseti(L, 2, ++n);
  }
  lua_settop(L, 2);
  lua_pushinteger(L, 0);
  lua_pushcclosure(L, next_pair, 3);
  return 1;
}

/* ---- tables, empty ---- */

/* Notes the table on the top as what v became. */
static void remember(builder *b, ckpt_value *v) {
  lua_pushvalue(b->L, -1);
  lua_rawsetp(b->L, b->seen, v);
  lua_pushlightuserdata(b->L, v);
  lua_rawseti(b->L, b->seen, ++b->n);
}

static void push_text(builder *b, const ckpt_value *v, ckpt_lua_mark mark) {
  lua_createtable(b->L, 1, 0);
  lua_pushlstring(b->L, v->as.text.bytes, v->as.text.n);
  lua_rawseti(b->L, -2, 1);
  ckpt_lua_set_mark(b->L, mark);
}

static void push_bigint(builder *b, const ckpt_value *v) {
  ckpt_error err;
  size_t n = 0;
  lua_State *L = b->L;
  lua_createtable(L, 1, 0);
  char **text = ckpt_lua_new_text(L);
  ckpt_lua_must(L, ckpt_bigint_hex(text, &n, v, &err), &err);
  lua_pushlstring(L, *text, n);
  lua_rawseti(L, -3, 1);
  lua_pop(L, 1);
  ckpt_lua_set_mark(L, CKPT_MARK_BIGINT);
}

static void push_class(builder *b, const ckpt_value *v) {
  size_t n;
  const char *name = ckpt_value_class_name(v, &n);
  lua_createtable(b->L, 2, 0);
  lua_pushlstring(b->L, v->as.text.bytes, v->as.text.module);
  lua_rawseti(b->L, -2, 1);
  lua_pushlstring(b->L, name, n);
  lua_rawseti(b->L, -2, 2);
  ckpt_lua_set_mark(b->L, CKPT_MARK_CLASS);
}

/* The metatable is the table's own: it keeps the order. */
static void push_dict(builder *b, const ckpt_value *v) {
  lua_State *L = b->L;
  lua_newtable(L);
  lua_createtable(L, 0, 6);
  lua_pushinteger(L, CKPT_MARK_DICT);
  lua_setfield(L, -2, "__ckpt");
  lua_pushliteral(L, "ckpt.dict");
  lua_setfield(L, -2, "__name");
  lua_pushboolean(L, v->ordered);
  lua_setfield(L, -2, "__ordered");
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_setfield(L, -3, "__order");
  lua_pushcclosure(L, ordered_pairs, 1);
  lua_setfield(L, -2, "__pairs");
  lua_setmetatable(L, -2);
}

static ckpt_lua_mark mark_of_kind(const ckpt_value *v) {
  switch (v->kind) {
    case CKPT_TUPLE: return v->made != NULL ? CKPT_MARK_SIZE : CKPT_MARK_TUPLE;
    case CKPT_SET: return CKPT_MARK_SET;
    case CKPT_FROZENSET: return CKPT_MARK_FROZENSET;
    case CKPT_OBJECT: return CKPT_MARK_OBJECT;
    default: return CKPT_MARK_NONE;
  }
}

static void push_container(builder *b, ckpt_value *v) {
  if (v->kind == CKPT_DICT) {
    push_dict(b, v);
  } else {
    lua_newtable(b->L);
    if (mark_of_kind(v) != CKPT_MARK_NONE) ckpt_lua_set_mark(b->L, mark_of_kind(v));
  }
  remember(b, v);
}

/* A persistent id stays a value: its storage has no counterpart in Lua. */
static void push_new(builder *b, ckpt_value *v) {
  switch (v->kind) {
    case CKPT_BYTES: push_text(b, v, CKPT_MARK_BYTES); break;
    case CKPT_BYTEARRAY: push_text(b, v, CKPT_MARK_BYTEARRAY); break;
    case CKPT_BIGINT: push_bigint(b, v); break;
    case CKPT_CLASS: push_class(b, v); break;
    case CKPT_OBJECT:
      if (v->made->how == CKPT_BY_PERSID) {
        ckpt_lua_push_box(b->L, b->doc, v);
        break;
      } /* fall through */
    default: push_container(b, v); return;
  }
  lua_pushvalue(b->L, -1);
  lua_rawsetp(b->L, b->seen, v);
}

static void push(builder *b, ckpt_value *v) {
  luaL_checkstack(b->L, 16, "tables");
  if (v->kind <= CKPT_STR && v->kind != CKPT_BIGINT) {
    ckpt_lua_push_value(b->L, b->doc, v);
  } else if (lua_rawgetp(b->L, b->seen, v) == LUA_TNIL) {
    lua_pop(b->L, 1);
    if (v->kind == CKPT_TENSOR)
      ckpt_lua_push_value(b->L, b->doc, v);
    else
      push_new(b, v);
  }
}

/* ---- filling the table on the top ---- */

static void fill_items(builder *b, const ckpt_seq *items) {
  for (size_t i = 0; i < items->n; i++) {
    push(b, items->items[i]);
    lua_rawseti(b->L, -2, (lua_Integer)i + 1);
  }
}

/* NaN cannot be a key in Lua: it stays a value. */
static void push_key(builder *b, ckpt_value *key) {
  if (key->kind == CKPT_FLOAT && key->as.number != key->as.number)
    ckpt_lua_push_box(b->L, b->doc, key);
  else
    push(b, key);
}

static void fill_dict(builder *b, const ckpt_dict *d) {
  lua_State *L = b->L;
  luaL_getmetafield(L, -1, "__order");
  for (size_t i = 0; i < d->flat.n; i += 2) {
    push_key(b, d->flat.items[i]);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, (lua_Integer)(i / 2) + 1);
    push(b, d->flat.items[i + 1]);
    lua_rawset(L, -4);
  }
  lua_pop(L, 1);
  if (d->state == NULL) return;
  lua_getmetatable(L, -1);
  push(b, d->state);
  lua_setfield(L, -2, "__state");
  lua_pop(L, 1);
}

static void set_part(builder *b, ckpt_value *v, const char *field) {
  if (v == NULL) return;
  push(b, v);
  lua_setfield(b->L, -2, field);
}

static void fill_pairs(builder *b, const ckpt_seq *flat) {
  lua_State *L = b->L;
  lua_newtable(L);
  for (size_t i = 0; i < flat->n; i += 2) {
    lua_createtable(L, 2, 0);
    push(b, flat->items[i]);
    lua_rawseti(L, -2, 1);
    push(b, flat->items[i + 1]);
    lua_rawseti(L, -2, 2);
    lua_rawseti(L, -2, (lua_Integer)(i / 2) + 1);
  }
  lua_setfield(L, -2, "pairs");
}

static void fill_object(builder *b, const ckpt_value *v) {
  const ckpt_object *o = v->as.object;
  ckpt_lua_set_making(b->L, v->made);
  if (v->made->callable != NULL && v->made->callable->kind != CKPT_CLASS) set_part(b, v->made->callable, "callable");
  set_part(b, v->made->args, "args");
  set_part(b, v->made->kwargs, "kwargs");
  set_part(b, o->state, "state");
  if (o->dict.flat.n > 0) fill_pairs(b, &o->dict.flat);
  if (o->items.n == 0) return;
  lua_newtable(b->L);
  fill_items(b, &o->items);
  lua_setfield(b->L, -2, "items");
}

static void fill(builder *b, const ckpt_value *v) {
  if (v->kind == CKPT_DICT)
    fill_dict(b, v->as.dict);
  else if (v->kind == CKPT_OBJECT)
    fill_object(b, v);
  else
    fill_items(b, &v->as.seq);
}

static int totable(lua_State *L) {
  ckpt_document *doc;
  ckpt_value *v = ckpt_lua_any_value(L, 1, &doc);
  lua_settop(L, 1);
  lua_newtable(L);
  builder b = {.L = L, .doc = doc, .seen = 2};
  push(&b, v);
  while (b.done < b.n) {
    lua_rawgeti(L, b.seen, ++b.done);
    ckpt_value *next = lua_touserdata(L, -1);
    lua_rawgetp(L, b.seen, next);
    fill(&b, next);
    lua_settop(L, 3);
  }
  return 1;
}

void ckpt_lua_open_totable(lua_State *L) {
  static const luaL_Reg functions[] = {{"totable", totable}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
