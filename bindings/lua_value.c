/*
 * lua_value.c - type ckpt.value: a container, an object or bytes of a checkpoint, seen from Lua.
 *
 * Scalars are Lua's own (int, float, str, bool); None is ckpt.none. A box keeps the document, its uservalue the value.
 * Items of lists and tuples count from 1. Two boxes over one value are equal.
 */
#include "lua_value.h"
#include "repr.h"

static const char none_key = 0;

void ckpt_lua_push_none(lua_State *L) { lua_rawgetp(L, LUA_REGISTRYINDEX, &none_key); }

void ckpt_lua_must(lua_State *L, ckpt_status st, const ckpt_error *err) {
  if (st != CKPT_OK) luaL_error(L, "%s", err->message);
}

/* ---- boxes ---- */

static ckpt_value *boxed(lua_State *L, int index) {
  lua_getiuservalue(L, index, 1);
  ckpt_value *v = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return v;
}

ckpt_value *ckpt_lua_check_value(lua_State *L, int index, ckpt_document **doc) {
  *doc = ckpt_lua_check_box(L, index, CKPT_T_VALUE);
  return boxed(L, index);
}

ckpt_value *ckpt_lua_test_value(lua_State *L, int index, ckpt_document **doc) {
  return luaL_testudata(L, index, CKPT_T_VALUE) == NULL ? NULL : ckpt_lua_check_value(L, index, doc);
}

void ckpt_lua_push_box(lua_State *L, ckpt_document *doc, ckpt_value *v) {
  luaL_checkstack(L, 4, "value");
  void **box = ckpt_lua_new_box(L, CKPT_T_VALUE);
  lua_pushlightuserdata(L, v);
  lua_setiuservalue(L, -2, 1);
  *box = ckpt_document_retain(doc);
}

void ckpt_lua_push_value(lua_State *L, ckpt_document *doc, ckpt_value *v) {
  luaL_checkstack(L, 4, "value");
  switch (v->kind) {
    case CKPT_NONE: ckpt_lua_push_none(L); break;
    case CKPT_BOOLEAN: lua_pushboolean(L, v->as.boolean); break;
    case CKPT_INT: lua_pushinteger(L, v->as.integer); break;
    case CKPT_FLOAT: lua_pushnumber(L, v->as.number); break;
    case CKPT_STR: lua_pushlstring(L, v->as.text.bytes, v->as.text.n); break;
    case CKPT_TENSOR: ckpt_lua_push_tensor_value(L, doc, v); break;
    default: ckpt_lua_push_box(L, doc, v);
  }
}

void ckpt_lua_push_built(lua_State *L, int index) {
  ckpt_error err;
  index = lua_absindex(L, index);
  ckpt_document **box = (ckpt_document **)ckpt_lua_new_box(L, CKPT_T_VALUE);
  ckpt_lua_must(L, ckpt_document_new(box, &err), &err);
  ckpt_value *v = ckpt_lua_to_value(L, index, *box);
  ckpt_document_set_root(*box, v);
  lua_pushlightuserdata(L, v);
  lua_setiuservalue(L, -2, 1);
}

ckpt_value *ckpt_lua_any_value(lua_State *L, int index, ckpt_document **doc) {
  if (luaL_testudata(L, index, CKPT_T_CHECKPOINT) != NULL) {
    const ckpt_checkpoint *cp = ckpt_lua_check_box(L, index, CKPT_T_CHECKPOINT);
    ckpt_lua_push_box(L, ckpt_checkpoint_document(cp), ckpt_checkpoint_root(cp));
    lua_replace(L, index);
  } else if (luaL_testudata(L, index, CKPT_T_VALUE) == NULL) {
    luaL_checkany(L, index);
    ckpt_lua_push_built(L, index);
    lua_replace(L, index);
  }
  return ckpt_lua_check_value(L, index, doc);
}

static int value_gc(lua_State *L) {
  ckpt_document_release(ckpt_lua_take_box(L, CKPT_T_VALUE));
  return 0;
}

/* Python's repr, cut at some 2000 bytes. */
static int value_tostring(lua_State *L) {
  enum { SHOWN = 2000 };
  ckpt_document *doc;
  ckpt_error err;
  size_t n = 0;
  const ckpt_value *v = ckpt_lua_check_value(L, 1, &doc);
  char **text = ckpt_lua_new_text(L);
  ckpt_lua_must(L, ckpt_repr(text, &n, v, SHOWN, &err), &err);
  lua_pushlstring(L, *text, n < SHOWN + 4 ? n : SHOWN + 4);
  return 1;
}

static int value_len(lua_State *L) {
  ckpt_document *doc;
  const ckpt_value *v = ckpt_lua_check_value(L, 1, &doc);
  lua_pushinteger(L, (lua_Integer)ckpt_value_count(v));
  return 1;
}

static int value_eq(lua_State *L) {
  ckpt_document *doc;
  const ckpt_value *a = ckpt_lua_test_value(L, 1, &doc), *b = ckpt_lua_test_value(L, 2, &doc);
  lua_pushboolean(L, a != NULL && a == b);
  return 1;
}

/* ---- keys ---- */

/* A key that is a scalar of Lua's: no value needs to be made to look for it. */
static bool scalar_key(lua_State *L, int index, ckpt_value *probe) {
  switch (lua_type(L, index)) {
    case LUA_TSTRING:
      probe->kind = CKPT_STR;
      probe->as.text.bytes = lua_tolstring(L, index, &probe->as.text.n);
      return true;
    case LUA_TBOOLEAN:
      probe->kind = CKPT_BOOLEAN;
      probe->as.boolean = lua_toboolean(L, index);
      return true;
    case LUA_TNUMBER:
      probe->kind = lua_isinteger(L, index) ? CKPT_INT : CKPT_FLOAT;
      if (probe->kind == CKPT_INT)
        probe->as.integer = lua_tointeger(L, index);
      else
        probe->as.number = lua_tonumber(L, index);
      return true;
    default: return false;
  }
}

size_t ckpt_lua_find_pair(lua_State *L, int index, ckpt_document *doc, const ckpt_dict *d) {
  ckpt_value probe = {0};
  ckpt_document *other = NULL;
  if (scalar_key(L, index, &probe)) return ckpt_dict_find(d, &probe);
  if (lua_isnoneornil(L, index)) return SIZE_MAX;
  const ckpt_value *key = ckpt_lua_test_value(L, index, &other);
  if (key != NULL && other == doc) return ckpt_dict_find(d, key);
  ckpt_lua_push_built(L, index);
  key = ckpt_lua_check_value(L, -1, &other);
  size_t at = ckpt_dict_find(d, key);
  lua_pop(L, 1);
  return at;
}

ckpt_value *ckpt_lua_fields(const ckpt_value *v) {
  ckpt_value *state = v->kind == CKPT_OBJECT ? v->as.object->state : NULL;
  return state != NULL && state->kind == CKPT_DICT ? state : NULL;
}

static ckpt_value *find_key(lua_State *L, ckpt_document *doc, const ckpt_value *v, int key) {
  const ckpt_dict *d = ckpt_value_dict(v);
  size_t at = d == NULL ? SIZE_MAX : ckpt_lua_find_pair(L, key, doc, d);
  return at == SIZE_MAX ? NULL : d->flat.items[2 * at + 1];
}

ckpt_value *ckpt_lua_find(lua_State *L, ckpt_document *doc, const ckpt_value *v, int key) {
  ckpt_value *found = find_key(L, doc, v, key);
  if (found == NULL && v->kind != CKPT_DICT && lua_isinteger(L, key) && lua_tointeger(L, key) > 0)
    found = ckpt_value_item(v, (size_t)lua_tointeger(L, key) - 1);
  return found == NULL && ckpt_lua_fields(v) != NULL ? find_key(L, doc, ckpt_lua_fields(v), key) : found;
}

static int value_index(lua_State *L) {
  ckpt_document *doc;
  const ckpt_value *v = ckpt_lua_check_value(L, 1, &doc);
  ckpt_value *found = ckpt_lua_find(L, doc, v, 2);
  if (found == NULL)
    lua_pushnil(L);
  else
    ckpt_lua_push_value(L, doc, found);
  return 1;
}

/* ---- assignment ---- */

static void assign_key(lua_State *L, ckpt_document *doc, ckpt_value *dict, int key, int x) {
  ckpt_error err;
  const ckpt_dict *d = ckpt_value_dict(dict);
  size_t at = ckpt_lua_find_pair(L, key, doc, d);
  if (!lua_isnil(L, x)) {
    ckpt_value *k = at == SIZE_MAX ? ckpt_lua_to_key(L, key, doc) : d->flat.items[2 * at];
    ckpt_value *item = ckpt_lua_to_value(L, x, doc);
    ckpt_lua_must(L, ckpt_value_put(dict, doc, k, item, &err), &err);
  } else if (at != SIZE_MAX) {
    ckpt_lua_must(L, ckpt_value_remove_key(dict, d->flat.items[2 * at], &err), &err);
  }
}

static void assign_item(lua_State *L, ckpt_document *doc, ckpt_value *list, lua_Integer i, int x) {
  ckpt_error err;
  lua_Integer n = (lua_Integer)ckpt_value_count(list);
  if (i < 1 || i > n + 1) luaL_error(L, "there is no item %I in a list of %I", i, n);
  if (lua_isnil(L, x)) {
    if (i < n) luaL_error(L, "ckpt.remove takes an item out of a list, nil only the last one");
    if (i == n) ckpt_lua_must(L, ckpt_value_remove_item(list, (size_t)i - 1, &err), &err);
    return;
  }
  ckpt_value *item = ckpt_lua_to_value(L, x, doc);
  ckpt_lua_must(
      L, i > n ? ckpt_value_append(list, doc, item, &err) : ckpt_value_replace(list, (size_t)i - 1, item, &err), &err);
}

/* Where it is found, else a field, else a new pair of what has pairs already. */
static void assign_part(lua_State *L, ckpt_document *doc, ckpt_value *v, int key, int x) {
  const ckpt_object *o = v->as.object;
  ckpt_value *fields = ckpt_lua_fields(v);
  bool there = ckpt_lua_find_pair(L, key, doc, &o->dict) != SIZE_MAX;
  if (!there && lua_isinteger(L, key) && lua_tointeger(L, key) >= 1 && lua_tointeger(L, key) <= (lua_Integer)o->items.n)
    assign_item(L, doc, v, lua_tointeger(L, key), x);
  else if (!there && fields != NULL && o->dict.flat.n == 0)
    assign_key(L, doc, fields, key, x);
  else if (there || o->dict.flat.n > 0)
    assign_key(L, doc, v, key, x);
  else
    luaL_error(L, "the object has no fields: ckpt.set_state gives it some, ckpt.put a pair");
}

void ckpt_lua_assign(lua_State *L, ckpt_document *doc, ckpt_value *v, int key, int x) {
  switch (v->kind) {
    case CKPT_DICT: assign_key(L, doc, v, key, x); break;
    case CKPT_LIST:
      if (!lua_isinteger(L, key)) luaL_error(L, "the index of a list must be an integer");
      assign_item(L, doc, v, lua_tointeger(L, key), x);
      break;
    case CKPT_OBJECT: assign_part(L, doc, v, key, x); break;
    case CKPT_SET: luaL_error(L, "ckpt.add and ckpt.remove change a set"); break;
    default: luaL_error(L, "a %s cannot be changed", ckpt_kind_name(ckpt_value_kind(v)));
  }
}

static int value_newindex(lua_State *L) {
  ckpt_document *doc;
  ckpt_value *v = ckpt_lua_check_value(L, 1, &doc);
  lua_settop(L, 3);
  ckpt_lua_assign(L, doc, v, 2, 3);
  return 0;
}

/* ---- pairs ---- */

/*
 * Pairs of a dict, then items: key or index, value. Upvalues: the box, the place, the key that was given last: if that
 * one has been taken out meanwhile the next one has moved into its place.
 */
static int next_item(lua_State *L) {
  ckpt_document *doc;
  const ckpt_value *v = ckpt_lua_check_value(L, lua_upvalueindex(1), &doc);
  size_t i = (size_t)lua_tointeger(L, lua_upvalueindex(2)), pairs = ckpt_value_pair_count(v);
  const void *last = lua_touserdata(L, lua_upvalueindex(3));
  if (last != NULL && i <= pairs + 1 && ckpt_value_pair_key(v, i - 1) != last) i--;
  ckpt_value *key = ckpt_value_pair_key(v, i), *item = NULL;
  lua_pushinteger(L, (lua_Integer)i + 1);
  lua_replace(L, lua_upvalueindex(2));
  lua_pushlightuserdata(L, key);
  lua_replace(L, lua_upvalueindex(3));
  if (key != NULL) {
    ckpt_lua_push_value(L, doc, key);
    item = ckpt_value_pair_value(v, i);
  } else {
    lua_pushinteger(L, (lua_Integer)(i - pairs) + 1);
    item = v->kind == CKPT_DICT ? NULL : ckpt_value_item(v, i - pairs);
  }
  if (item == NULL) return 0;
  ckpt_lua_push_value(L, doc, item);
  return 2;
}

static int value_pairs(lua_State *L) {
  luaL_checkudata(L, 1, CKPT_T_VALUE);
  lua_settop(L, 1);
  lua_pushinteger(L, 0);
  lua_pushlightuserdata(L, NULL);
  lua_pushcclosure(L, next_item, 3);
  return 1;
}

/* ---- opening ---- */

void ckpt_lua_value_functions(lua_State *L) {
  ckpt_lua_open_read(L);
  ckpt_lua_open_edit(L);
  ckpt_lua_open_marks(L);
  ckpt_lua_open_totable(L);
  ckpt_lua_open_walk(L);
  ckpt_lua_push_none(L);
  lua_setfield(L, -2, "none");
}

static int none_tostring(lua_State *L) {
  lua_pushliteral(L, "None");
  return 1;
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

void ckpt_lua_open_value(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", value_gc},
                                  {"__close", value_gc},
                                  {"__tostring", value_tostring},
                                  {"__index", value_index},
                                  {"__newindex", value_newindex},
                                  {"__len", value_len},
                                  {"__pairs", value_pairs},
                                  {"__eq", value_eq},
                                  {NULL, NULL}};
  ckpt_lua_new_type(L, CKPT_T_VALUE, meta, NULL);
  ckpt_lua_new_texts(L);
  ckpt_lua_new_marks(L);
  ckpt_lua_open_convert(L);
  open_none(L);
}
