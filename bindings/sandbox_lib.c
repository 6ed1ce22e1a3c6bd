/*
 * sandbox_lib.c - the functions of a policy's closed environment (see sandbox.h).
 *
 * Invariants
 *   - The environment is built from allow-lists; what is not named here cannot be reached, and the string metatable is
 *     locked and leads to the same `string` table. After it is built, it is the registry's table of globals.
 *   - A C function is one instruction to the hook, so each charges its work before doing it: bytes / 16 for plain
 *     passes over strings, one step for each entry moved or compared.
 *   - The functions of `table` are raw: they take no metamethod's word for a length.
 *   - A callback from C cannot outlive the budget: the handler of xpcall is not run once the budget is spent (it would
 *     run with hooks off), comparisons of table.sort are charged one by one.
 *
 * Patterns. Lua's matcher backtracks and no hook sees it. Work is bounded before it starts: with a subject of n bytes
 * and q quantifiers (* + -, and also %b and %1, which scan too), the matcher can choose at most C(n+q, q) positions
 * from one start, C(n+q+1, q+1) over all starts of a pattern without ^; each choice costs at most one walk over the
 * pattern, and each ? doubles it. A quantifier that ends the pattern ("[^\n]+") never backtracks and does not count. If
 * the product exceeds the step limit of a call, the function raises "pattern too costly for a subject of N bytes";
 * otherwise the n bytes are charged, and the time of a match that may be long is settled after it. A pattern without
 * quantifiers is never refused (at most n walks, charged at 16 items a step), nor is a plain find, which is linear.
 */
#include <lauxlib.h>
#include <limits.h>
#include <lualib.h>
#include <string.h>

#include "../runtime/base.h"
#include "sandbox.h"

#define BYTES_PER_STEP 16
#define LONG_MATCH 65536 /* estimated steps from which a match is settled by the clock */
#define RANDOM_SEED 42

/* Runs the function of the standard library that is upvalue 1, in the frame of the function that replaces it. */
static int run_stock(lua_State *L) { return lua_tocfunction(L, lua_upvalueindex(1))(L); }

/* Bytes of a string argument, 0 for anything else. Nothing is converted. */
static size_t bytes_at(lua_State *L, int arg) {
  return lua_type(L, arg) == LUA_TSTRING ? (size_t)lua_rawlen(L, arg) : 0;
}

/* A standard function whose work is a pass over its string arguments. */
static int l_charged(lua_State *L) {
  uint64_t bytes = 0;
  for (int i = lua_gettop(L); i > 0; i--) bytes += bytes_at(L, i);
  ckpt_sandbox_charge(L, 1 + bytes / BYTES_PER_STEP);
  return run_stock(L);
}

/* ---- Basic functions --------------------------------------------------------------------------------- */

/* Hands print's text on line by line. */
static void print_lines(lua_State *L, const char *text) {
  for (const char *end; (end = strchr(text, '\n')) != NULL; text = end + 1) {
    ckpt_sandbox_print(L, lua_pushlstring(L, text, (size_t)(end - text)));
    lua_pop(L, 1);
  }
  ckpt_sandbox_print(L, text);
}

static int l_print(lua_State *L) {
  int n = lua_gettop(L);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (int i = 1; i <= n; i++) {
    if (i > 1) luaL_addchar(&b, '\t');
    luaL_tolstring(L, i, NULL);
    luaL_addvalue(&b);
  }
  luaL_pushresult(&b);
  ckpt_sandbox_charge(L, 1 + bytes_at(L, -1));
  print_lines(L, lua_tostring(L, -1));
  return 0;
}

/* A finalizer runs with hooks off. Lua looks for __gc only here: one that is put into the metatable later is ignored.
 */
static int l_setmetatable(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_argexpected(L, lua_isnil(L, 2) || lua_istable(L, 2), 2, "nil or table");
  lua_settop(L, 2);
  if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL) return luaL_error(L, "cannot change a protected metatable");
  if (lua_istable(L, 2)) {
    lua_pushliteral(L, "__gc");
    if (lua_rawget(L, 2) != LUA_TNIL) return luaL_error(L, "setmetatable: a policy cannot have finalizers (__gc)");
    lua_pop(L, 1);
  }
  lua_setmetatable(L, 1);
  return 1;
}

/* Message handler around the policy's own, which is upvalue 1. */
static int handle(lua_State *L) {
  if (ckpt_sandbox_exhausted(L)) return 1;
  lua_settop(L, 1);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, 1, 1);
  return 1;
}

static int l_xpcall(lua_State *L) {
  luaL_checkany(L, 1);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  int n = lua_gettop(L);
  lua_pushvalue(L, 2);
  lua_pushcclosure(L, handle, 1);
  lua_replace(L, 2); /* function, handler, arguments */
  lua_pushvalue(L, 1);
  lua_insert(L, 3); /* function, handler, function, arguments */
  bool ok = lua_pcall(L, n - 2, LUA_MULTRET, 2) == LUA_OK;
  lua_pushboolean(L, ok);
  lua_replace(L, 2);
  return lua_gettop(L) - 1;
}

/* ---- string ------------------------------------------------------------------------------------------ */

/* Bytes of n copies of `bytes` with `sep` between them, SIZE_MAX if that overflows. */
static size_t repeated(size_t bytes, size_t sep, lua_Integer n) {
  size_t all, between, sum;
  if (!ckpt_mul_size(&all, bytes, (size_t)n) || !ckpt_mul_size(&between, sep, (size_t)n - 1)) return SIZE_MAX;
  return ckpt_add_size(&sum, all, between) ? sum : SIZE_MAX;
}

static int l_rep(lua_State *L) {
  size_t bytes, sep;
  luaL_checklstring(L, 1, &bytes);
  lua_Integer n = luaL_checkinteger(L, 2);
  luaL_optlstring(L, 3, "", &sep);
  size_t size = n > 0 ? repeated(bytes, sep, n) : 0;
  if (size == 0) {
    lua_pushliteral(L, "");
    return 1;
  }
  if (size > ckpt_sandbox_memory_limit(L))
    return luaL_error(L, "string.rep: the result would not fit into the memory limit");
  ckpt_sandbox_charge(L, 1 + (uint64_t)n + size / BYTES_PER_STEP);
  return run_stock(L);
}

/* ---- Patterns ---------------------------------------------------------------------------------------- */

typedef struct shape {
  uint64_t quantifiers; /* that can make the matcher come back */
  uint64_t optional;    /* ? */
  bool anchored;
} shape;

/* After the ']' of the set that begins at p[i]. */
static size_t set_end(const char *p, size_t i, size_t size) {
  i += i + 1 < size && p[i + 1] == '^' ? 2 : 1;
  if (i < size) i += p[i] == '%' ? 2 : 1; /* a first ']' stands for itself */
  while (i < size && p[i] != ']') i += p[i] == '%' ? 2 : 1;
  return i + 1;
}

/* After the single item at p[i]; %b and back references scan the subject and count as quantifiers. */
static size_t item_end(shape *out, const char *p, size_t i, size_t size) {
  if (p[i] == '[') return set_end(p, i, size);
  if (p[i] != '%' || i + 1 >= size) return i + 1;
  char c = p[i + 1];
  bool scans = c == 'b' || (c >= '0' && c <= '9');
  if (scans) out->quantifiers++;
  return i + (c == 'b' ? 4 : 2);
}

/* Counts too much rather than too little: "*" after %b, %1 or %f is an ordinary character to Lua. */
static shape shape_of(const char *p, size_t size, bool may_anchor) {
  shape out = {.anchored = may_anchor && size > 0 && p[0] == '^'};
  bool last = false; /* the last item is a quantified one, with nothing but parentheses after it */
  size_t i = out.anchored ? 1 : 0;
  while (i < size) {
    if (p[i] == '(' || p[i] == ')') {
      i++;
      continue;
    }
    i = item_end(&out, p, i, size);
    last = i < size && strchr("*+-", p[i]) != NULL && p[i] != '\0';
    if (last) out.quantifiers++;
    if (i < size && p[i] == '?') out.optional++;
    if (last || (i < size && p[i] == '?')) i++;
  }
  if (last) out.quantifiers--;
  return out;
}

static uint64_t times(uint64_t a, uint64_t b) {
  uint64_t product;
  return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

/* C(n+k, k), saturating. */
static uint64_t choices(uint64_t n, uint64_t k) {
  unsigned __int128 c = 1;
  for (uint64_t i = 1; i <= k && n > 0; i++) {
    c = c * (n + i) / i;
    if (c > UINT64_MAX) return UINT64_MAX;
  }
  return (uint64_t)c;
}

static uint64_t estimate(const shape *s, size_t subject, size_t pattern) {
  uint64_t levels = s->quantifiers + (s->anchored ? 0 : 1);
  uint64_t work = times(choices(subject, levels), pattern + 1);
  return s->optional < 63 ? times(work, UINT64_C(1) << s->optional) : (subject > 0 ? UINT64_MAX : work);
}

/* Bytes from position `init` (argument 3) to the end of a subject of n bytes. */
static size_t bytes_from(lua_State *L, size_t n, int arg) {
  lua_Integer init = luaL_optinteger(L, arg, 1);
  if (init > 0) return (uint64_t)init - 1 > n ? 0 : n - (size_t)(init - 1);
  return init == 0 || init < -(lua_Integer)n ? n : (size_t)-init;
}

/* Without quantifiers each start costs at most one walk over the pattern: charged, never refused. */
static bool admit_simple(lua_State *L, size_t subject, size_t pattern) {
  uint64_t work = times(subject, pattern + 1) / BYTES_PER_STEP;
  ckpt_sandbox_charge(L, work > subject ? work : subject);
  return work >= LONG_MATCH;
}

/* Refuses a costly pattern, charges the subject; true if the match may still take long. Subject 1, pattern 2. */
static bool admit(lua_State *L, size_t subject, bool may_anchor) {
  size_t size;
  const char *pattern = luaL_checklstring(L, 2, &size);
  ckpt_sandbox_charge(L, 1 + size / BYTES_PER_STEP);
  shape s = shape_of(pattern, size, may_anchor);
  if (s.quantifiers == 0 && s.optional == 0) return admit_simple(L, subject, size);
  uint64_t work = estimate(&s, subject, size);
  if (work > ckpt_sandbox_step_limit(L))
    luaL_error(L, "pattern too costly for a subject of %I bytes", (lua_Integer)subject);
  ckpt_sandbox_charge(L, subject);
  return work >= LONG_MATCH;
}

static int finish_match(lua_State *L, int results, bool settle) {
  if (settle) ckpt_sandbox_settle(L);
  return results;
}

static bool is_plain(const char *p, size_t size) {
  for (size_t i = 0; i < size; i++)
    if (p[i] != '\0' && strchr("^$*+?.([%-", p[i]) != NULL) return false;
  return true;
}

/* find without patterns. memmem is linear; the standard library's search is not. */
static int find_plain(lua_State *L, const char *s, size_t n, size_t rest, bool in_range) {
  size_t size;
  const char *p = luaL_checklstring(L, 2, &size);
  ckpt_sandbox_charge(L, 1 + (rest + size) / BYTES_PER_STEP);
  const char *at = in_range ? memmem(s + (n - rest), rest, p, size) : NULL;
  if (at == NULL) {
    luaL_pushfail(L);
    return 1;
  }
  lua_pushinteger(L, at - s + 1);
  lua_pushinteger(L, at - s + (lua_Integer)size);
  return 2;
}

static int l_find(lua_State *L) {
  size_t n, size;
  const char *s = luaL_checklstring(L, 1, &n), *p = luaL_checklstring(L, 2, &size);
  size_t rest = bytes_from(L, n, 3);
  bool in_range = luaL_optinteger(L, 3, 1) <= (lua_Integer)n + 1;
  ckpt_sandbox_charge(L, 1 + size / BYTES_PER_STEP);
  if (lua_toboolean(L, 4) || is_plain(p, size)) return find_plain(L, s, n, rest, in_range);
  bool settle = admit(L, rest, true);
  return finish_match(L, run_stock(L), settle);
}

static int l_match(lua_State *L) {
  size_t n;
  luaL_checklstring(L, 1, &n);
  bool settle = admit(L, bytes_from(L, n, 3), true);
  return finish_match(L, run_stock(L), settle);
}

static int l_gsub(lua_State *L) {
  size_t n;
  luaL_checklstring(L, 1, &n);
  bool settle = admit(L, n, true);
  return finish_match(L, run_stock(L), settle);
}

/* Iterator around the standard one, which is upvalue 1. */
static int next_match(lua_State *L) {
  lua_settop(L, 0);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_call(L, 0, LUA_MULTRET);
  return finish_match(L, lua_gettop(L), true);
}

static int l_gmatch(lua_State *L) {
  size_t n;
  luaL_checklstring(L, 1, &n);
  bool settle = admit(L, bytes_from(L, n, 3), false);
  int results = run_stock(L);
  if (settle) lua_pushcclosure(L, next_match, 1);
  return results;
}

/* ---- table ------------------------------------------------------------------------------------------- */

/* The raw length: n entries that are there, whatever __len says. */
static lua_Integer check_table(lua_State *L, int arg) {
  luaL_checktype(L, arg, LUA_TTABLE);
  return (lua_Integer)lua_rawlen(L, arg);
}

/* Charges to - from + 1 entries, which may be far more than there are, up to all 2^64 integers. */
static void charge_range(lua_State *L, lua_Integer from, lua_Integer to) {
  uint64_t span = to >= from ? (uint64_t)to - (uint64_t)from : 0;
  ckpt_sandbox_charge(L, span < UINT64_MAX ? span + 1 : span);
}

static int l_insert(lua_State *L) {
  lua_Integer n = check_table(L, 1), at = n + 1;
  int count = lua_gettop(L);
  if (count != 2 && count != 3) return luaL_error(L, "wrong number of arguments to 'insert'");
  if (count == 3) {
    at = luaL_checkinteger(L, 2);
    luaL_argcheck(L, (lua_Unsigned)at - 1u < (lua_Unsigned)n + 1u, 2, "position out of bounds");
  }
  charge_range(L, at, n);
  for (lua_Integer i = n + 1; i > at; i--) {
    lua_rawgeti(L, 1, i - 1);
    lua_rawseti(L, 1, i);
  }
  lua_rawseti(L, 1, at);
  return 0;
}

static int l_remove(lua_State *L) {
  lua_Integer n = check_table(L, 1), at = luaL_optinteger(L, 2, n);
  if (at != n) luaL_argcheck(L, (lua_Unsigned)at - 1u <= (lua_Unsigned)n, 2, "position out of bounds");
  charge_range(L, at, n);
  lua_rawgeti(L, 1, at);
  for (; at < n; at++) {
    lua_rawgeti(L, 1, at + 1);
    lua_rawseti(L, 1, at);
  }
  lua_pushnil(L);
  lua_rawseti(L, 1, at);
  return 1;
}

static void move_entry(lua_State *L, int to_table, lua_Integer from, lua_Integer to) {
  lua_rawgeti(L, 1, from);
  lua_rawseti(L, to_table, to);
}

static int l_move(lua_State *L) {
  int to = lua_isnoneornil(L, 5) ? 1 : 5;
  lua_Integer f = luaL_checkinteger(L, 2), e = luaL_checkinteger(L, 3), t = luaL_checkinteger(L, 4);
  check_table(L, 1);
  check_table(L, to);
  charge_range(L, f, e);
  if (e >= f) {
    luaL_argcheck(L, f > 0 || e < LUA_MAXINTEGER + f, 3, "too many elements to move");
    lua_Integer n = e - f + 1;
    luaL_argcheck(L, t <= LUA_MAXINTEGER - n + 1, 4, "destination wrap around");
    bool upwards = t > e || t <= f || (to != 1 && !lua_rawequal(L, 1, to));
    for (lua_Integer i = 0; i < n; i++) {
      lua_Integer k = upwards ? i : n - 1 - i;
      move_entry(L, to, f + k, t + k);
    }
  }
  lua_pushvalue(L, to);
  return 1;
}

static void add_entry(lua_State *L, luaL_Buffer *b, lua_Integer i) {
  lua_rawgeti(L, 1, i);
  if (!lua_isstring(L, -1)) luaL_error(L, "invalid value (at index %I) in table for 'concat'", i);
  luaL_addvalue(b);
}

static int l_concat(lua_State *L) {
  size_t size;
  lua_Integer n = check_table(L, 1);
  const char *sep = luaL_optlstring(L, 2, "", &size);
  lua_Integer i = luaL_optinteger(L, 3, 1), last = luaL_optinteger(L, 4, n);
  charge_range(L, i, last);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (; i < last; i++) {
    add_entry(L, &b, i);
    luaL_addlstring(&b, sep, size);
  }
  if (i == last) add_entry(L, &b, i);
  luaL_pushresult(&b);
  return 1;
}

static int l_unpack(lua_State *L) {
  lua_Integer n = check_table(L, 1), i = luaL_optinteger(L, 2, 1), last = luaL_optinteger(L, 3, n);
  if (i > last) return 0;
  lua_Unsigned count = (lua_Unsigned)last - (lua_Unsigned)i;
  if (count >= (lua_Unsigned)INT_MAX || !lua_checkstack(L, (int)++count))
    return luaL_error(L, "too many results to unpack");
  ckpt_sandbox_charge(L, count);
  for (; i < last; i++) lua_rawgeti(L, 1, i);
  lua_rawgeti(L, 1, last);
  return (int)count;
}

/* Comparison around the policy's own, which is upvalue 1: it may be a C function, which the hook does not see. */
static int compare(lua_State *L) {
  size_t a = bytes_at(L, 1), b = bytes_at(L, 2);
  ckpt_sandbox_charge(L, 1 + (a < b ? a : b) / BYTES_PER_STEP);
  lua_settop(L, 2);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, 2, 1);
  return 1;
}

/* n log n comparisons, each of which may read two strings as long as the longest in the table at 1. */
static void charge_sort(lua_State *L, lua_Integer n) {
  uint64_t longest = 0, rounds = 1;
  ckpt_sandbox_charge(L, (uint64_t)n);
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, 1, i);
    uint64_t bytes = bytes_at(L, -1);
    if (bytes > longest) longest = bytes;
    lua_pop(L, 1);
  }
  while (rounds < 63 && n >> rounds > 0) rounds++;
  ckpt_sandbox_charge(L, times(times((uint64_t)n, rounds), 1 + longest / BYTES_PER_STEP));
}

static void copy_entries(lua_State *L, int from, int to, lua_Integer n) {
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, from, i);
    lua_rawseti(L, to, i);
  }
}

/* Sorts a plain copy, so that no metamethod of the table takes part and a failing comparison leaves it as it was. */
static int l_sort(lua_State *L) {
  lua_Integer n = check_table(L, 1);
  bool ordered = !lua_isnoneornil(L, 2);
  if (ordered) luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  charge_sort(L, n);
  lua_createtable(L, n < INT_MAX ? (int)n : 0, 0);
  copy_entries(L, 1, 3, n);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushvalue(L, 3);
  lua_pushvalue(L, 2);
  if (ordered) lua_pushcclosure(L, compare, 1);
  lua_call(L, 2, 0);
  copy_entries(L, 3, 1, n);
  return 0;
}

/* ---- The environment --------------------------------------------------------------------------------- */

/* `own` gets the standard function as upvalue 1; NULL: the standard function as it is. */
typedef struct entry {
  const char *name;
  lua_CFunction own;
} entry;

static const entry base_entries[] = {{"assert", NULL},     {"error", NULL},
                                     {"ipairs", NULL},     {"next", NULL},
                                     {"pairs", NULL},      {"pcall", NULL},
                                     {"select", NULL},     {"tostring", NULL},
                                     {"type", NULL},       {"rawequal", l_charged},
                                     {"rawget", NULL},     {"rawlen", NULL},
                                     {"rawset", NULL},     {"getmetatable", NULL},
                                     {"print", l_print},   {"tonumber", l_charged},
                                     {"xpcall", l_xpcall}, {"setmetatable", l_setmetatable},
                                     {NULL, NULL}};

static const entry string_entries[] = {
    {"byte", NULL},        {"char", NULL},       {"len", NULL},          {"sub", NULL},       {"format", l_charged},
    {"lower", l_charged},  {"upper", l_charged}, {"reverse", l_charged}, {"pack", l_charged}, {"packsize", l_charged},
    {"unpack", l_charged}, {"rep", l_rep},       {"find", l_find},       {"match", l_match},  {"gmatch", l_gmatch},
    {"gsub", l_gsub},      {NULL, NULL}};

static const entry table_entries[] = {{"concat", l_concat}, {"insert", l_insert}, {"move", l_move},     {"pack", NULL},
                                      {"remove", l_remove}, {"sort", l_sort},     {"unpack", l_unpack}, {NULL, NULL}};

static const entry math_entries[] = {
    {"abs", NULL},  {"acos", NULL}, {"asin", NULL},       {"atan", NULL},       {"ceil", NULL}, {"cos", NULL},
    {"deg", NULL},  {"exp", NULL},  {"floor", NULL},      {"fmod", NULL},       {"huge", NULL}, {"log", NULL},
    {"max", NULL},  {"min", NULL},  {"maxinteger", NULL}, {"mininteger", NULL}, {"modf", NULL}, {"pi", NULL},
    {"rad", NULL},  {"sin", NULL},  {"random", NULL},     {"sqrt", NULL},       {"tan", NULL},  {"tointeger", NULL},
    {"type", NULL}, {"ult", NULL},  {NULL, NULL}};

static const entry utf8_entries[] = {{"char", NULL},       {"charpattern", NULL}, {"codepoint", l_charged},
                                     {"codes", l_charged}, {"len", l_charged},    {"offset", l_charged},
                                     {NULL, NULL}};

/* Fills the table on the top from the library table below it. */
static void fill(lua_State *L, const entry *e) {
  for (; e->name != NULL; e++) {
    lua_getfield(L, -2, e->name);
    if (e->own != NULL) lua_pushcclosure(L, e->own, 1);
    lua_setfield(L, -2, e->name);
  }
}

/* env[name] = the allowed part of a library. `env` is on the top. */
static void add_library(lua_State *L, const char *name, lua_CFunction open, const entry *entries) {
  luaL_requiref(L, name, open, 0);
  lua_newtable(L);
  fill(L, entries);
  lua_setfield(L, -3, name);
  lua_pop(L, 1);
}

/* `math.random` begins at the same number in each sandbox; the seed function goes no further than here. */
static void seed_random(lua_State *L) {
  luaL_requiref(L, LUA_MATHLIBNAME, luaopen_math, 0);
  lua_getfield(L, -1, "randomseed");
  lua_pushinteger(L, RANDOM_SEED);
  lua_call(L, 1, 0);
  lua_pop(L, 1);
}

/* Strings find env.string through their metatable, which keeps the arithmetic of numerals. `env` is on the top. */
static void lock_strings(lua_State *L) {
  lua_pushliteral(L, "");
  lua_getmetatable(L, -1);
  lua_getfield(L, -3, LUA_STRLIBNAME);
  lua_setfield(L, -2, "__index");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 2);
}

void ckpt_sandbox_open_libs(lua_State *L) {
  luaL_requiref(L, LUA_GNAME, luaopen_base, 0);
  lua_newtable(L);
  fill(L, base_entries);
  lua_pushcfunction(L, ckpt_sandbox_require);
  lua_setfield(L, -2, "require");
  add_library(L, LUA_STRLIBNAME, luaopen_string, string_entries);
  add_library(L, LUA_TABLIBNAME, luaopen_table, table_entries);
  seed_random(L);
  add_library(L, LUA_MATHLIBNAME, luaopen_math, math_entries);
  add_library(L, LUA_UTF8LIBNAME, luaopen_utf8, utf8_entries);
  lock_strings(L);
  lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
  lua_pop(L, 1);
  lua_pushnil(L);
  lua_setfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
}
