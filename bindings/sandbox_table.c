/*
 * sandbox_table.c - the functions of `table`. They are raw: no metamethod's word is taken for a length or an entry.
 * Each charges a step for an entry, while it goes, so that a range of 2^62 entries ends when the budget does.
 */
#include <limits.h>

#include "sandbox_inside.h"

#define PORTION 256 /* entries between two charges */

/* The raw length: n entries that are there, whatever __len says. */
static lua_Integer check_table(lua_State *L, int arg) {
  luaL_checktype(L, arg, LUA_TTABLE);
  return (lua_Integer)lua_rawlen(L, arg);
}

/* To be called for each entry, with a counter from 0. */
static void count(lua_State *L, unsigned *n) {
  if ((*n)++ % PORTION == 0) ckpt_sandbox_charge(L, PORTION);
}

static void move_entry(lua_State *L, int to_table, lua_Integer from, lua_Integer to) {
  lua_rawgeti(L, 1, from);
  lua_rawseti(L, to_table, to);
}

int ckpt_sandbox_insert(lua_State *L) {
  unsigned done = 0;
  lua_Integer n = check_table(L, 1), at = n + 1;
  int arguments = lua_gettop(L);
  if (arguments != 2 && arguments != 3) return luaL_error(L, "wrong number of arguments to 'insert'");
  if (arguments == 3) {
    at = luaL_checkinteger(L, 2);
    luaL_argcheck(L, (lua_Unsigned)at - 1u < (lua_Unsigned)n + 1u, 2, "position out of bounds");
  }
  for (lua_Integer i = n + 1; i > at; i--) {
    count(L, &done);
    move_entry(L, 1, i - 1, i);
  }
  lua_rawseti(L, 1, at);
  return 0;
}

int ckpt_sandbox_remove(lua_State *L) {
  unsigned done = 0;
  lua_Integer n = check_table(L, 1), at = luaL_optinteger(L, 2, n);
  if (at != n) luaL_argcheck(L, (lua_Unsigned)at - 1u <= (lua_Unsigned)n, 2, "position out of bounds");
  lua_rawgeti(L, 1, at);
  for (; at < n; at++) {
    count(L, &done);
    move_entry(L, 1, at + 1, at);
  }
  lua_pushnil(L);
  lua_rawseti(L, 1, at);
  return 1;
}

static void move_range(lua_State *L, int to, lua_Integer f, lua_Integer e, lua_Integer t) {
  unsigned done = 0;
  luaL_argcheck(L, f > 0 || e < LUA_MAXINTEGER + f, 3, "too many elements to move");
  lua_Integer n = e - f + 1;
  luaL_argcheck(L, t <= LUA_MAXINTEGER - n + 1, 4, "destination wrap around");
  bool upwards = t > e || t <= f || (to != 1 && !lua_rawequal(L, 1, to));
  for (lua_Integer i = 0; i < n; i++) {
    lua_Integer k = upwards ? i : n - 1 - i;
    count(L, &done);
    move_entry(L, to, f + k, t + k);
  }
}

int ckpt_sandbox_move(lua_State *L) {
  int to = lua_isnoneornil(L, 5) ? 1 : 5;
  lua_Integer f = luaL_checkinteger(L, 2), e = luaL_checkinteger(L, 3), t = luaL_checkinteger(L, 4);
  check_table(L, 1);
  check_table(L, to);
  if (e >= f) move_range(L, to, f, e, t);
  lua_pushvalue(L, to);
  return 1;
}

static void add_entry(lua_State *L, luaL_Buffer *b, lua_Integer i) {
  lua_rawgeti(L, 1, i);
  if (!lua_isstring(L, -1)) luaL_error(L, "invalid value (at index %I) in table for 'concat'", (LUAI_UACINT)i);
  luaL_addvalue(b);
}

int ckpt_sandbox_concat(lua_State *L) {
  size_t size;
  unsigned done = 0;
  lua_Integer n = check_table(L, 1);
  const char *sep = luaL_optlstring(L, 2, "", &size);
  lua_Integer i = luaL_optinteger(L, 3, 1), last = luaL_optinteger(L, 4, n);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (; i < last; i++) {
    count(L, &done);
    add_entry(L, &b, i);
    luaL_addlstring(&b, sep, size);
  }
  if (i == last) add_entry(L, &b, i);
  luaL_pushresult(&b);
  return 1;
}

int ckpt_sandbox_unpack(lua_State *L) {
  lua_Integer n = check_table(L, 1), i = luaL_optinteger(L, 2, 1), last = luaL_optinteger(L, 3, n);
  if (i > last) return 0;
  lua_Unsigned more = (lua_Unsigned)last - (lua_Unsigned)i;
  if (more >= CKPT_SANDBOX_RESULTS || !lua_checkstack(L, (int)more + 1))
    return luaL_error(L, "too many results to unpack");
  ckpt_sandbox_charge(L, more + 1);
  for (; i < last; i++) lua_rawgeti(L, 1, i);
  lua_rawgeti(L, 1, last);
  return (int)more + 1;
}

/* ---- sort -------------------------------------------------------------------------------------------- */

/*
 * A stable merge sort, of a copy: n log n comparisons whatever the order function says, the same order each time, and
 * a comparison that fails leaves the table as it was. Stack: table, order or nil, then two tables of the entries.
 */
enum { TABLE = 1, ORDER = 2, FIRST = 3, SECOND = 4 };

/* Whether the value at `b` comes before the one at `a`, absolute indices. */
static bool comes_before(lua_State *L, int b, int a) {
  size_t n = ckpt_sandbox_bytes(L, a), m = ckpt_sandbox_bytes(L, b);
  ckpt_sandbox_charge(L, 2 + (n < m ? n : m) / CKPT_SANDBOX_BYTES_PER_STEP);
  if (lua_isnil(L, ORDER)) return lua_compare(L, b, a, LUA_OPLT);
  lua_pushvalue(L, ORDER);
  lua_pushvalue(L, b);
  lua_pushvalue(L, a);
  lua_call(L, 2, 1);
  bool before = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return before;
}

/* Merges from[low..mid) and from[mid..high) into to[low..high). */
static void merge(lua_State *L, int from, int to, lua_Integer low, lua_Integer mid, lua_Integer high) {
  lua_Integer i = low, k = mid, out = low;
  int a = lua_gettop(L) + 1, b = a + 1;
  lua_rawgeti(L, from, i);
  lua_rawgeti(L, from, k);
  while (i < mid && k < high) {
    bool second = comes_before(L, b, a);
    lua_pushvalue(L, second ? b : a);
    lua_rawseti(L, to, out++);
    lua_rawgeti(L, from, second ? ++k : ++i);
    lua_replace(L, second ? b : a);
  }
  lua_settop(L, a - 1);
  for (; i < mid || k < high; out++) {
    lua_rawgeti(L, from, i < mid ? i : k);
    lua_rawseti(L, to, out);
    if (i < mid)
      i++;
    else
      k++;
  }
}

/* One pass over runs of `width`: pairs are merged, a last single run is copied. */
static void merge_runs(lua_State *L, int from, int to, lua_Integer n, lua_Integer width) {
  for (lua_Integer low = 1; low <= n; low += 2 * width) {
    lua_Integer mid = low + width, high = mid + width;
    if (mid > n + 1) mid = n + 1;
    if (high > n + 1) high = n + 1;
    merge(L, from, to, low, mid, high);
  }
}

static void copy_entries(lua_State *L, int from, int to, lua_Integer n) {
  unsigned done = 0;
  for (lua_Integer i = 1; i <= n; i++) {
    count(L, &done);
    lua_rawgeti(L, from, i);
    lua_rawseti(L, to, i);
  }
}

int ckpt_sandbox_sort(lua_State *L) {
  lua_Integer n = check_table(L, TABLE);
  if (!lua_isnoneornil(L, ORDER)) luaL_checktype(L, ORDER, LUA_TFUNCTION);
  luaL_argcheck(L, n < INT_MAX, 1, "array too big");
  lua_settop(L, ORDER);
  luaL_checkstack(L, 16, "sort");
  lua_createtable(L, (int)n, 0);
  lua_createtable(L, (int)n, 0);
  copy_entries(L, TABLE, FIRST, n);
  int from = FIRST, to = SECOND;
  for (lua_Integer width = 1; width < n; width *= 2) {
    merge_runs(L, from, to, n, width);
    int swap = from;
    from = to;
    to = swap;
  }
  if (n > 1) copy_entries(L, from, TABLE, n);
  return 0;
}
