/*
 * sandbox_order.c - next and pairs in an order of the keys: booleans, numbers by value, strings by bytes. Lua's own
 * order depends on a seed that differs from run to run, and a policy must decide alike each time. Keys that are objects
 * have no order; they come last, in Lua's.
 */
#include <math.h>
#include <string.h>

#include "sandbox_inside.h"

typedef struct key {
  int rank; /* 0 false, 1 true, 2 number, 3 string, 4 object */
  bool integer;
  lua_Integer i;
  double number;
  const char *text; /* borrowed: it is a key of the table */
  size_t size;
  lua_Integer place; /* in Lua's order */
} key;

static key read_key(lua_State *L, int index) {
  key k = {.rank = 4};
  switch (lua_type(L, index)) {
    case LUA_TBOOLEAN: k.rank = lua_toboolean(L, index); break;
    case LUA_TNUMBER:
      k.rank = 2;
      k.integer = lua_isinteger(L, index);
      k.i = k.integer ? lua_tointeger(L, index) : 0;
      k.number = lua_tonumber(L, index);
      break;
    case LUA_TSTRING:
      k.rank = 3;
      k.text = lua_tolstring(L, index, &k.size);
      break;
    default: break;
  }
  return k;
}

/* A float key is no integer, so that equal doubles mean two integers, or an integer beside a float of 2^53 and more. */
static int compare_numbers(const key *a, const key *b) {
  if (a->number != b->number) return a->number < b->number ? -1 : 1;
  if (a->integer != b->integer) return a->integer ? -1 : 1;
  return a->i == b->i ? 0 : a->i < b->i ? -1 : 1;
}

static int compare_texts(const key *a, const key *b) {
  size_t n = a->size < b->size ? a->size : b->size;
  int c = memcmp(a->text, b->text, n);
  if (c != 0) return c;
  return a->size == b->size ? 0 : a->size < b->size ? -1 : 1;
}

static int compare(const key *a, const key *b) {
  if (a->rank != b->rank) return a->rank < b->rank ? -1 : 1;
  if (a->rank == 2) return compare_numbers(a, b);
  if (a->rank == 3) return compare_texts(a, b);
  return a->place == b->place ? 0 : a->place < b->place ? -1 : 1;
}

static void charge_key(lua_State *L, const key *k) {
  ckpt_sandbox_charge(L, 1 + k->size / CKPT_SANDBOX_BYTES_PER_STEP);
}

/* ---- next -------------------------------------------------------------------------------------------- */

/* Leaves the least key above *after (NULL: of all) on the stack, at 3; false if there is none with an order. */
static bool find_above(lua_State *L, const key *after) {
  key least = {.rank = 4};
  lua_settop(L, 2);
  lua_pushnil(L);
  for (lua_pushnil(L); lua_next(L, 1) != 0; lua_pop(L, 1)) {
    key k = read_key(L, -2);
    charge_key(L, &k);
    if (k.rank == 4 || (after != NULL && compare(&k, after) <= 0)) continue;
    if (least.rank < 4 && compare(&k, &least) >= 0) continue;
    least = k;
    lua_pushvalue(L, -2);
    lua_replace(L, 3);
  }
  return least.rank < 4;
}

/* The key and value after the key on the top, by Lua's order, of those that are objects. */
static int next_object(lua_State *L) {
  while (lua_next(L, 1) != 0) {
    key k = read_key(L, -2);
    ckpt_sandbox_charge(L, 1);
    if (k.rank == 4) return 2;
    lua_pop(L, 1);
  }
  lua_pushnil(L);
  return 1;
}

int ckpt_sandbox_next(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 2);
  key after = read_key(L, 2);
  bool first = lua_isnil(L, 2);
  if (first || after.rank < 4) {
    if (find_above(L, first ? NULL : &after)) {
      lua_pushvalue(L, 3);
      lua_rawget(L, 1);
      return 2;
    }
    lua_pushnil(L);
  }
  return next_object(L);
}

/* ---- pairs ------------------------------------------------------------------------------------------- */

/* Restores the heap order of keys[root..n). */
static void sift(key *keys, size_t root, size_t n) {
  key k = keys[root];
  for (size_t child; (child = 2 * root + 1) < n; root = child) {
    if (child + 1 < n && compare(&keys[child], &keys[child + 1]) < 0) child++;
    if (compare(&k, &keys[child]) >= 0) break;
    keys[root] = keys[child];
  }
  keys[root] = k;
}

/* Heap sort: in place, and n log n whatever the keys are. */
static void sort_keys(key *keys, size_t n) {
  for (size_t i = n / 2; i-- > 0;) sift(keys, i, n);
  for (size_t last = n; last-- > 1;) {
    key k = keys[0];
    keys[0] = keys[last];
    keys[last] = k;
    sift(keys, 0, last);
  }
}

/* Upvalues: the keys in their order, and how many have been given. What has been removed meanwhile is left out. */
static int next_in_order(lua_State *L) {
  lua_Integer i = lua_tointeger(L, lua_upvalueindex(2));
  lua_settop(L, 1);
  luaL_checktype(L, 1, LUA_TTABLE);
  for (;;) {
    ckpt_sandbox_charge(L, 1);
    if (lua_rawgeti(L, lua_upvalueindex(1), ++i) == LUA_TNIL) return 1;
    lua_pushvalue(L, -1);
    if (lua_rawget(L, 1) != LUA_TNIL) break;
    lua_pop(L, 2);
  }
  lua_pushinteger(L, i);
  lua_replace(L, lua_upvalueindex(2));
  return 2;
}

/* How many keys the table at 1 has; *simple: they are in an order already. */
static lua_Integer count_keys(lua_State *L, bool *simple) {
  lua_Integer n = 0;
  *simple = true;
  for (lua_pushnil(L); lua_next(L, 1) != 0; lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TNUMBER || !lua_isinteger(L, -2) || lua_tointeger(L, -2) != n + 1) *simple = false;
    if (n++ % 256 == 0) ckpt_sandbox_charge(L, 256);
  }
  return n;
}

static int push_stock(lua_State *L) {
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushvalue(L, 1);
  lua_pushnil(L);
  return 3;
}

/* Keys of the table at 1 as a list at 2 in Lua's order, and as records in a userdata at 3. */
static key *collect_keys(lua_State *L, lua_Integer n) {
  lua_createtable(L, (int)n, 0);
  key *keys = lua_newuserdatauv(L, (size_t)n * sizeof *keys, 0);
  uint64_t bytes = 0, rounds = 1;
  lua_Integer i = 0;
  for (lua_pushnil(L); lua_next(L, 1) != 0; lua_pop(L, 1)) {
    keys[i] = read_key(L, -2);
    keys[i].place = i + 1;
    bytes += keys[i++].size;
    lua_pushvalue(L, -2);
    lua_rawseti(L, 2, i);
  }
  while (n >> rounds > 0) rounds++;
  ckpt_sandbox_charge(L, (uint64_t)n * rounds + bytes / CKPT_SANDBOX_BYTES_PER_STEP);
  return keys;
}

/* The iterator is the standard `next` (upvalue 1) where its order is the keys' own. */
int ckpt_sandbox_pairs(lua_State *L) {
  bool simple;
  luaL_checkany(L, 1);
  if (luaL_getmetafield(L, 1, "__pairs") != LUA_TNIL) {
    lua_pushvalue(L, 1);
    lua_call(L, 1, 3);
    return 3;
  }
  lua_settop(L, 1);
  if (!lua_istable(L, 1)) return push_stock(L);
  lua_Integer n = count_keys(L, &simple);
  if (simple || n == 1) return push_stock(L);
  key *keys = collect_keys(L, n);
  sort_keys(keys, (size_t)n);
  lua_createtable(L, (int)n, 0);
  for (lua_Integer i = 0; i < n; i++) {
    lua_rawgeti(L, 2, keys[i].place);
    lua_rawseti(L, 4, i + 1);
  }
  lua_pushinteger(L, 0);
  lua_pushcclosure(L, next_in_order, 2);
  lua_pushvalue(L, 1);
  lua_pushnil(L);
  return 3;
}
