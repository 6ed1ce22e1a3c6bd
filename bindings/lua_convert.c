/*
 * lua_convert.c - Lua to Python: the value of any Lua value, in a document.
 *
 * A table becomes an empty value when it is first met and is filled when its turn comes, so that tables shared twice
 * stay shared, cyclic tables give cyclic values and depth costs no stack. Dicts are hashed last, when their keys are
 * complete. Values of the same document are themselves; those of other documents are copied by one cloner, so that they
 * keep what they share.
 *
 * No metamethod is called: tables are read raw.
 */
#include <lualib.h>
#include <string.h>

#include "clone.h"
#include "key.h"
#include "lua_value.h"
#include "pickle_text.h"

static const char sort_key = 0;

typedef struct converter {
  lua_State *L;
  ckpt_document *doc;
  int seen;             /* stack index of a table: Lua table -> its value, and [n] -> the n-th table to be filled */
  lua_Integer n, done;  /* tables in it, and those filled */
  ckpt_cloner **cloner; /* in a box on the stack; *cloner is NULL until it is needed */
  int depth;            /* of callables inside callables */
  ckpt_error err;
} converter;

static void must(converter *c, ckpt_status st) { ckpt_lua_must(c->L, st, &c->err); }

static ckpt_value *refer(converter *c, int index);

/* What a message calls it: the name of its metatable, or Lua's of its type. */
static const char *name_of(lua_State *L, int index) {
  return luaL_getmetafield(L, index, "__name") == LUA_TSTRING ? lua_tostring(L, -1) : luaL_typename(L, index);
}

/* ---- scalars ---- */

static ckpt_value *from_string(converter *c, int index, bool key) {
  size_t n;
  ckpt_value *v = NULL;
  const char *s = lua_tolstring(c->L, index, &n);
  if (!ckpt_utf8_valid((const unsigned char *)s, n))
    luaL_error(c->L, "a string that is not UTF-8 is no str of Python: ckpt.bytes(s) gives bytes");
  must(c, key ? ckpt_document_intern(&v, c->doc, s, n, &c->err) : ckpt_value_new_str(&v, c->doc, s, n, &c->err));
  return v;
}

static ckpt_value *from_number(converter *c, int index) {
  ckpt_value *v = NULL;
  must(c, lua_isinteger(c->L, index) ? ckpt_value_new_int(&v, c->doc, lua_tointeger(c->L, index), &c->err)
                                     : ckpt_value_new_double(&v, c->doc, lua_tonumber(c->L, index), &c->err));
  return v;
}

static ckpt_value *from_value(converter *c, ckpt_value *from, const ckpt_document *doc) {
  ckpt_value *v = NULL;
  if (doc == c->doc) return from;
  if (*c->cloner == NULL) must(c, ckpt_cloner_new(c->cloner, c->doc, NULL, NULL, &c->err));
  must(c, ckpt_cloner_copy(&v, *c->cloner, from, &c->err));
  return v;
}

/* A tensor that a value of this document, or of its own, stands for is that value: a parameter stays one. */
static ckpt_value *from_tensor(converter *c, int index) {
  ckpt_document *doc;
  ckpt_tensor *t = ckpt_lua_check_tensor(c->L, index);
  ckpt_value *v = ckpt_document_value_of(c->doc, t);
  ckpt_value *from = v == NULL ? ckpt_lua_tensor_value(c->L, index, &doc) : NULL;
  if (from != NULL) return from_value(c, from, doc);
  if (v == NULL) must(c, ckpt_value_new_tensor(&v, c->doc, t, &c->err));
  return v;
}

static ckpt_value *from_state_dict(converter *c, int index) {
  const ckpt_state_dict *sd = ckpt_lua_check_state_dict(c->L, index);
  ckpt_value *v = NULL, *t = NULL;
  must(c, ckpt_value_new_dict(&v, c->doc, false, &c->err));
  for (size_t i = 0; i < ckpt_state_dict_count(sd); i++) {
    t = ckpt_document_value_of(c->doc, ckpt_state_dict_tensor(sd, i));
    if (t == NULL) must(c, ckpt_value_new_tensor(&t, c->doc, ckpt_state_dict_tensor(sd, i), &c->err));
    must(c, ckpt_value_set(v, c->doc, ckpt_state_dict_name(sd, i), t, &c->err));
  }
  return v;
}

static ckpt_value *from_userdata(converter *c, int index) {
  lua_State *L = c->L;
  ckpt_document *doc;
  if (luaL_testudata(L, index, CKPT_T_MARK) != NULL) return ckpt_document_none(c->doc);
  if (luaL_testudata(L, index, CKPT_T_TENSOR) != NULL) return from_tensor(c, index);
  if (luaL_testudata(L, index, CKPT_T_STATE_DICT) != NULL) return from_state_dict(c, index);
  if (luaL_testudata(L, index, CKPT_T_CHECKPOINT) != NULL) {
    const ckpt_checkpoint *cp = ckpt_lua_check_box(L, index, CKPT_T_CHECKPOINT);
    return from_value(c, ckpt_checkpoint_root(cp), ckpt_checkpoint_document(cp));
  }
  ckpt_value *from = ckpt_lua_test_value(L, index, &doc);
  if (from == NULL) luaL_error(L, "a %s has no counterpart in Python", name_of(L, index));
  return from_value(c, from, doc);
}

/* ---- objects ---- */

/* "package.module.Class": the module is what its field says, else all before the last dot. */
static ckpt_value *class_from_name(converter *c, int index) {
  lua_State *L = c->L;
  ckpt_value *v = NULL;
  size_t n = 0, module = 0;
  const char *name = lua_tolstring(L, -1, &n);
  lua_pushliteral(L, "module");
  bool given = lua_rawget(L, index) == LUA_TSTRING;
  const char *prefix = given ? lua_tolstring(L, -1, &module) : strrchr(name, '.');
  if (!given && prefix != NULL) module = (size_t)(prefix - name);
  if (module == 0 || module + 1 >= n || name[module] != '.' || (given && memcmp(prefix, name, module) != 0) ||
      strlen(name) != n)
    luaL_error(L, "the class '%s' of an object must be 'module.Name'", name);
  lua_pushlstring(L, name, module);
  must(c, ckpt_value_new_class(&v, c->doc, lua_tostring(L, -1), name + module + 1, &c->err));
  lua_pop(L, 2);
  return v;
}

/* What makes the object: `callable`, or `class`, a name or a value. */
static ckpt_value *callable_of(converter *c, int index) {
  enum { MAX_DEPTH = 100 };
  lua_State *L = c->L;
  ckpt_value *v = NULL;
  lua_pushliteral(L, "callable");
  if (lua_rawget(L, index) == LUA_TNIL) {
    lua_pop(L, 1);
    lua_pushliteral(L, "class");
    lua_rawget(L, index);
  }
  if (++c->depth > MAX_DEPTH) luaL_error(L, "callables nested deeper than %d", MAX_DEPTH);
  if (lua_type(L, -1) == LUA_TSTRING)
    v = class_from_name(c, index);
  else if (!lua_isnil(L, -1))
    v = refer(c, lua_gettop(L));
  c->depth--;
  lua_pop(L, 1);
  return v;
}

/* Notes what a table became. */
static ckpt_value *note(converter *c, int index, ckpt_value *v) {
  lua_pushvalue(c->L, index);
  lua_pushlightuserdata(c->L, v);
  lua_rawset(c->L, c->seen);
  return v;
}

/* The same for a table that is to be filled. */
static ckpt_value *remember(converter *c, int index, ckpt_value *v) {
  lua_pushvalue(c->L, index);
  lua_rawseti(c->L, c->seen, ++c->n);
  return note(c, index, v);
}

static ckpt_value *seen_before(converter *c, int index) {
  lua_pushvalue(c->L, index);
  lua_rawget(c->L, c->seen);
  ckpt_value *v = lua_touserdata(c->L, -1);
  lua_pop(c->L, 1);
  return v;
}

static ckpt_value *new_tuple(converter *c, int index) {
  ckpt_value *v = NULL;
  if (lua_rawlen(c->L, index) == 0) return ckpt_document_empty_tuple(c->doc);
  must(c, ckpt_value_new_tuple(&v, c->doc, &c->err));
  return remember(c, index, v);
}

/* Arguments: a tuple of a plain table too. */
static ckpt_value *refer_tuple(converter *c, int index) {
  if (lua_isnil(c->L, index)) return ckpt_document_empty_tuple(c->doc);
  if (!lua_istable(c->L, index) || ckpt_lua_mark_of(c->L, index) != CKPT_MARK_NONE) return refer(c, index);
  ckpt_value *v = seen_before(c, index);
  return v != NULL ? v : new_tuple(c, index);
}

static ckpt_how read_how(lua_State *L, int index) {
  static const char *const hows[] = {"reduce", "newobj", "newobj_ex", "persid"};
  const char *how = lua_tostring(L, index);
  for (int i = 0; i < (int)CKPT_COUNTOF(hows); i++)
    if (how != NULL && strcmp(how, hows[i]) == 0) return (ckpt_how)i;
  if (!lua_isnil(L, index)) luaL_error(L, "an object is made by reduce, newobj, newobj_ex or persid");
  return CKPT_BY_REDUCE;
}

static ckpt_value *new_object(converter *c, int index) {
  lua_State *L = c->L;
  ckpt_value *v = NULL, *kwargs = NULL, *callable = callable_of(c, index);
  int top = lua_gettop(L);
  lua_pushliteral(L, "how");
  lua_rawget(L, index);
  ckpt_how how = read_how(L, top + 1);
  lua_pushliteral(L, "args");
  lua_rawget(L, index);
  ckpt_value *args = how == CKPT_BY_PERSID ? refer(c, top + 2) : refer_tuple(c, top + 2);
  lua_pushliteral(L, "kwargs");
  if (lua_rawget(L, index) != LUA_TNIL) kwargs = refer(c, top + 3);
  must(c, ckpt_value_new_object(&v, c->doc, how, callable, args, kwargs, &c->err));
  lua_settop(L, top);
  return remember(c, index, v);
}

/* ---- containers, empty ---- */

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

/* A field of a mark's own metatable on the top (lua_totable.c), or nil. */
static void push_meta(lua_State *L, int index, const char *field) {
  if (luaL_getmetafield(L, index, field) == LUA_TNIL) lua_pushnil(L);
}

static bool is_ordered(lua_State *L, int index) {
  push_meta(L, index, "__ordered");
  bool ordered = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return ordered;
}

static ckpt_value *new_container(converter *c, int index, ckpt_lua_mark mark) {
  ckpt_value *v = NULL;
  switch (mark) {
    case CKPT_MARK_LIST: must(c, ckpt_value_new_list(&v, c->doc, &c->err)); break;
    case CKPT_MARK_TUPLE: return new_tuple(c, index);
    case CKPT_MARK_SET:
    case CKPT_MARK_FROZENSET: must(c, ckpt_value_new_set(&v, c->doc, mark == CKPT_MARK_FROZENSET, &c->err)); break;
    case CKPT_MARK_ORDERED: must(c, ckpt_value_new_dict(&v, c->doc, true, &c->err)); break;
    case CKPT_MARK_DICT: must(c, ckpt_value_new_dict(&v, c->doc, is_ordered(c->L, index), &c->err)); break;
    default: must(c, ckpt_value_new_dict(&v, c->doc, false, &c->err));
  }
  return remember(c, index, v);
}

static ckpt_value *from_table(converter *c, int index) {
  ckpt_value *v = seen_before(c, index);
  if (v != NULL) return v;
  ckpt_lua_mark mark = ckpt_lua_mark_of(c->L, index);
  if (mark == CKPT_MARK_NONE) mark = is_list(c->L, index) ? CKPT_MARK_LIST : CKPT_MARK_DICT;
  v = ckpt_lua_mark_value(c->L, index, mark, c->doc);
  if (v != NULL) return note(c, index, v);
  return mark == CKPT_MARK_OBJECT ? new_object(c, index) : new_container(c, index, mark);
}

static ckpt_value *refer_as(converter *c, int index, bool key) {
  luaL_checkstack(c->L, 16, "tables");
  switch (lua_type(c->L, index)) {
    case LUA_TBOOLEAN: return ckpt_document_bool(c->doc, lua_toboolean(c->L, index));
    case LUA_TNUMBER: return from_number(c, index);
    case LUA_TSTRING: return from_string(c, index, key);
    case LUA_TTABLE: return from_table(c, index);
    case LUA_TUSERDATA: return from_userdata(c, index);
    default: luaL_error(c->L, "a %s has no counterpart in Python", luaL_typename(c->L, index));
  }
  return NULL;
}

static ckpt_value *refer(converter *c, int index) { return refer_as(c, index, false); }

/* ---- filling ---- */

static void fill_items(converter *c, int index, ckpt_seq *to) {
  for (lua_Unsigned i = 1, n = lua_rawlen(c->L, index); i <= n; i++) {
    lua_rawgeti(c->L, index, (lua_Integer)i);
    must(c, ckpt_seq_push(to, c->doc, refer(c, lua_gettop(c->L)), &c->err));
    lua_pop(c->L, 1);
  }
}

/* The key and the item are the two top entries. */
static void push_pair(converter *c, ckpt_dict *to) {
  int key = lua_gettop(c->L) - 1;
  ckpt_value *k = refer_as(c, key, true), *item = refer(c, key + 1);
  must(c, ckpt_seq_push(&to->flat, c->doc, k, &c->err));
  must(c, ckpt_seq_push(&to->flat, c->doc, item, &c->err));
  lua_pop(c->L, 2);
}

/* { {key, item}, ... } */
static void fill_pairs(converter *c, int index, ckpt_dict *to) {
  lua_State *L = c->L;
  for (lua_Unsigned i = 1, n = lua_rawlen(L, index); i <= n; i++) {
    if (lua_rawgeti(L, index, (lua_Integer)i) != LUA_TTABLE || lua_rawlen(L, -1) != 2)
      luaL_error(L, "a list of {key, value} expected: entry %d is none", (int)i);
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 2);
    push_pair(c, to);
    lua_pop(L, 1);
  }
}

static int key_rank(lua_State *L, int index) {
  int t = lua_type(L, index);
  return t == LUA_TBOOLEAN ? 1 : t == LUA_TNUMBER ? 2 : t == LUA_TSTRING ? 3 : 0;
}

/* Sorts keys: None, bools, numbers by value, strings by bytes: the order of a plain table is not Lua's accident. */
static int key_less(lua_State *L) {
  int a = key_rank(L, 1), b = key_rank(L, 2);
  bool less = a < b;
  if (a == b && a == 1) less = lua_toboolean(L, 1) < lua_toboolean(L, 2);
  if (a == b && a > 1) less = lua_compare(L, 1, 2, LUA_OPLT);
  lua_pushboolean(L, less);
  return 1;
}

/* Appends the key on the top to the list below it and to the set below that; pops it. */
static void take_key(lua_State *L, lua_Integer *n) {
  lua_pushvalue(L, -1);
  lua_rawseti(L, -3, ++*n);
  lua_pushboolean(L, 1);
  lua_rawset(L, -4);
}

/* The keys that the table's own metatable has in order (lua_totable.c), as far as they are there. */
static void take_ordered(lua_State *L, int index, int order, lua_Integer *n) {
  for (lua_Unsigned i = 1; i <= lua_rawlen(L, order); i++) {
    lua_rawgeti(L, order, (lua_Integer)i);
    lua_pushvalue(L, -1);
    bool there = !lua_isnil(L, -1) && lua_rawget(L, index) != LUA_TNIL;
    lua_pop(L, 1);
    lua_pushvalue(L, -1);
    bool taken = there && lua_rawget(L, -4) != LUA_TNIL;
    lua_pop(L, 1);
    if (there && !taken)
      take_key(L, n);
    else
      lua_pop(L, 1);
  }
}

/* The keys that no order names, to be sorted. */
static void take_others(lua_State *L, int index, lua_Integer *n) {
  for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
    lua_pushvalue(L, -2);
    bool taken = lua_rawget(L, -5) != LUA_TNIL;
    lua_pop(L, 1);
    if (taken) continue;
    if (key_rank(L, -2) == 0 && luaL_testudata(L, -2, CKPT_T_MARK) == NULL)
      luaL_error(L, "a %s as key has no order in a plain table: ckpt.items{ {key, value}, ... } says it",
                 name_of(L, lua_absindex(L, -2)));
    lua_pushvalue(L, -2);
    lua_rawseti(L, -4, ++*n);
  }
}

/* The pairs of the list of keys on the top, which is popped. */
static void push_listed(converter *c, int index, ckpt_dict *to) {
  int keys = lua_gettop(c->L);
  for (lua_Unsigned i = 1, n = lua_rawlen(c->L, keys); i <= n; i++) {
    lua_rawgeti(c->L, keys, (lua_Integer)i);
    lua_pushvalue(c->L, -1);
    lua_rawget(c->L, index);
    push_pair(c, to);
  }
  lua_pop(c->L, 1);
}

static void fill_keyed(converter *c, int index, ckpt_dict *to) {
  lua_State *L = c->L;
  lua_Integer ordered = 0, others = 0;
  push_meta(L, index, "__order");
  int order = lua_gettop(L);
  lua_newtable(L); /* a set of the keys taken */
  lua_newtable(L);
  if (lua_istable(L, order)) take_ordered(L, index, order, &ordered);
  push_listed(c, index, to);
  lua_newtable(L);
  take_others(L, index, &others);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &sort_key);
  lua_pushvalue(L, -2);
  lua_pushcfunction(L, key_less);
  lua_call(L, 2, 0);
  push_listed(c, index, to);
  lua_settop(L, order - 1);
}

static void fill_dict(converter *c, int index, ckpt_value *to) {
  ckpt_lua_mark mark = ckpt_lua_mark_of(c->L, index);
  bool listed = mark == CKPT_MARK_ITEMS || mark == CKPT_MARK_ORDERED;
  if (listed)
    fill_pairs(c, index, to->as.dict);
  else
    fill_keyed(c, index, to->as.dict);
  if (mark == CKPT_MARK_ORDERED) {
    lua_pushliteral(c->L, "state");
    lua_rawget(c->L, index);
  } else {
    push_meta(c->L, index, "__state");
  }
  if (!lua_isnil(c->L, -1) && to->ordered) to->as.dict->state = refer(c, lua_gettop(c->L));
  lua_pop(c->L, 1);
}

static void fill_object(converter *c, int index, ckpt_object *to) {
  lua_State *L = c->L;
  int top = lua_gettop(L);
  lua_pushliteral(L, "state");
  if (lua_rawget(L, index) != LUA_TNIL) to->state = refer(c, top + 1);
  lua_pushliteral(L, "items");
  if (lua_rawget(L, index) == LUA_TTABLE) fill_items(c, top + 2, &to->items);
  lua_pushliteral(L, "pairs");
  if (lua_rawget(L, index) == LUA_TTABLE) fill_pairs(c, top + 3, &to->dict);
  lua_settop(L, top);
}

static ckpt_value *value_of_table(converter *c, int index) { return seen_before(c, index); }

/* Fills the tables noted so far; filling notes more. */
static void fill_all(converter *c) {
  while (c->done < c->n) {
    lua_rawgeti(c->L, c->seen, ++c->done);
    int index = lua_gettop(c->L);
    ckpt_value *v = value_of_table(c, index);
    switch (v->kind) {
      case CKPT_DICT: fill_dict(c, index, v); break;
      case CKPT_OBJECT: fill_object(c, index, v->as.object); break;
      default: fill_items(c, index, &v->as.seq);
    }
    lua_settop(c->L, index - 1);
  }
}

/* ---- settling ---- */

static void check_keys(converter *c, const ckpt_seq *seq, size_t step, const char *what) {
  for (size_t i = 0; i < seq->n; i += step)
    if (!ckpt_value_is_hashable(seq->items[i]))
      luaL_error(c->L, "a %s cannot be %s", ckpt_kind_name(ckpt_value_kind(seq->items[i])), what);
}

static void settle(converter *c, ckpt_value *v, bool sets) {
  bool set = v->kind == CKPT_SET || v->kind == CKPT_FROZENSET;
  ckpt_dict *d = v->kind == CKPT_DICT ? v->as.dict : v->kind == CKPT_OBJECT ? &v->as.object->dict : NULL;
  if (set && sets) {
    check_keys(c, &v->as.seq, 1, "in a set");
    must(c, ckpt_set_settle(v, &c->err));
  } else if (d != NULL && !sets) {
    check_keys(c, &d->flat, 2, "the key of a dict");
    must(c, ckpt_dict_settle(d, c->doc, &c->err));
  }
}

/* First the sets, which may be keys, then the dicts. */
static void settle_all(converter *c) {
  for (int pass = 0; pass < 2; pass++) {
    for (lua_Integer i = 1; i <= c->n; i++) {
      lua_rawgeti(c->L, c->seen, i);
      settle(c, value_of_table(c, lua_gettop(c->L)), pass == 0);
      lua_pop(c->L, 1);
    }
  }
}

/* ---- the conversion ---- */

static ckpt_value *convert(lua_State *L, int index, ckpt_document *doc, bool key) {
  index = lua_absindex(L, index);
  luaL_checkstack(L, 16, "value");
  ckpt_cloner **cloner = lua_newuserdatauv(L, sizeof *cloner, 0);
  *cloner = NULL;
  luaL_setmetatable(L, "ckpt.cloner");
  lua_newtable(L);
  converter c = {.L = L, .doc = doc, .seen = lua_gettop(L), .cloner = cloner};
  ckpt_value *v = refer_as(&c, index, key);
  fill_all(&c);
  settle_all(&c);
  lua_pop(L, 2);
  return v;
}

ckpt_value *ckpt_lua_to_value(lua_State *L, int index, ckpt_document *doc) { return convert(L, index, doc, false); }
ckpt_value *ckpt_lua_to_key(lua_State *L, int index, ckpt_document *doc) { return convert(L, index, doc, true); }

/* ---- opening ---- */

static int cloner_gc(lua_State *L) {
  ckpt_cloner **box = luaL_checkudata(L, 1, "ckpt.cloner");
  ckpt_cloner_free(*box);
  *box = NULL;
  return 0;
}

/* table.sort of this state, kept where conversions find it even if a script replaces it. */
static void keep_sort(lua_State *L) {
  luaL_requiref(L, LUA_TABLIBNAME, luaopen_table, 0);
  lua_getfield(L, -1, "sort");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &sort_key);
  lua_pop(L, 1);
}

void ckpt_lua_open_convert(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", cloner_gc}, {NULL, NULL}};
  ckpt_lua_new_type(L, "ckpt.cloner", meta, NULL);
  keep_sort(L);
}
