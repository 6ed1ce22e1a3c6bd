/*
 * sandbox_lib.c - the policy's closed environment (see sandbox.h): allow-lists, each entry Lua's own function or ours.
 *
 * Invariants
 *   - What is not named here cannot be reached, and the string metatable is locked and leads to the same `string`
 * table. After it is built, the environment is the registry's table of globals. tests/c/test_sandbox_reach.c holds the
 * list of all C functions that can be found from it.
 *   - A C function is one instruction to the hook, so each charges its work before or while doing it: bytes / 16 for
 *     plain passes over strings, one step for each entry moved or compared. Lua's own functions are left where they are
 *     constant, or bounded by the stack.
 */
#include <lualib.h>

#include "sandbox_inside.h"

#define RANDOM_SEED 42

/* ---- The environment --------------------------------------------------------------------------------- */

/* `own` takes the place of the standard function, which it gets as upvalue 1 if it `wraps` it; NULL: the standard one.
 */
typedef struct entry {
  const char *name;
  lua_CFunction own;
  bool wraps;
} entry;

static const entry base_entries[] = {{"assert", NULL, false},
                                     {"error", NULL, false},
                                     {"ipairs", NULL, false},
                                     {"next", ckpt_sandbox_next, false},
                                     {"pairs", ckpt_sandbox_pairs, false},
                                     {"pcall", NULL, false},
                                     {"select", NULL, false},
                                     {"tostring", ckpt_sandbox_tostring, false},
                                     {"type", NULL, false},
                                     {"rawequal", ckpt_sandbox_charged, true},
                                     {"rawget", NULL, false},
                                     {"rawlen", NULL, false},
                                     {"rawset", NULL, false},
                                     {"getmetatable", ckpt_sandbox_getmetatable, false},
                                     {"print", ckpt_sandbox_l_print, false},
                                     {"tonumber", ckpt_sandbox_charged, true},
                                     {"xpcall", ckpt_sandbox_xpcall, false},
                                     {"setmetatable", ckpt_sandbox_setmetatable, false},
                                     {NULL, NULL, false}};

static const entry string_entries[] = {{"byte", ckpt_sandbox_byte, true},
                                       {"char", NULL, false},
                                       {"len", NULL, false},
                                       {"sub", NULL, false},
                                       {"format", ckpt_sandbox_format, true},
                                       {"lower", ckpt_sandbox_charged, true},
                                       {"upper", ckpt_sandbox_charged, true},
                                       {"reverse", ckpt_sandbox_charged, true},
                                       {"pack", ckpt_sandbox_charged_bytes, true},
                                       {"packsize", ckpt_sandbox_charged_bytes, true},
                                       {"unpack", ckpt_sandbox_charged_bytes, true},
                                       {"rep", ckpt_sandbox_rep, false},
                                       {"find", ckpt_sandbox_find, false},
                                       {"match", ckpt_sandbox_match, false},
                                       {"gmatch", ckpt_sandbox_gmatch, false},
                                       {"gsub", ckpt_sandbox_gsub, false},
                                       {NULL, NULL, false}};

static const entry table_entries[] = {{"concat", ckpt_sandbox_concat, false}, {"insert", ckpt_sandbox_insert, false},
                                      {"move", ckpt_sandbox_move, false},     {"pack", NULL, false},
                                      {"remove", ckpt_sandbox_remove, false}, {"sort", ckpt_sandbox_sort, false},
                                      {"unpack", ckpt_sandbox_unpack, false}, {NULL, NULL, false}};

static const entry math_entries[] = {
    {"abs", NULL, false},    {"acos", NULL, false}, {"asin", NULL, false},       {"atan", NULL, false},
    {"ceil", NULL, false},   {"cos", NULL, false},  {"deg", NULL, false},        {"exp", NULL, false},
    {"floor", NULL, false},  {"fmod", NULL, false}, {"huge", NULL, false},       {"log", NULL, false},
    {"max", NULL, false},    {"min", NULL, false},  {"maxinteger", NULL, false}, {"mininteger", NULL, false},
    {"modf", NULL, false},   {"pi", NULL, false},   {"rad", NULL, false},        {"sin", NULL, false},
    {"random", NULL, false}, {"sqrt", NULL, false}, {"tan", NULL, false},        {"tointeger", NULL, false},
    {"type", NULL, false},   {"ult", NULL, false},  {NULL, NULL, false}};

static const entry utf8_entries[] = {{"char", NULL, false},
                                     {"charpattern", NULL, false},
                                     {"codepoint", ckpt_sandbox_codepoint, true},
                                     {"codes", ckpt_sandbox_codes, true},
                                     {"len", ckpt_sandbox_charged, true},
                                     {"offset", ckpt_sandbox_charged, true},
                                     {NULL, NULL, false}};

/* Fills the table on the top from the library table below it. */
static void fill(lua_State *L, const entry *e) {
  for (; e->name != NULL; e++) {
    if (e->own == NULL || e->wraps) lua_getfield(L, -2, e->name);
    if (e->own != NULL) lua_pushcclosure(L, e->own, e->wraps ? 1 : 0);
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
  lua_getfield(L, -2, "next");
  lua_pushcclosure(L, ckpt_sandbox_pairs, 1);
  lua_setfield(L, -2, "pairs");
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
  lua_pushboolean(L, 0); /* not nil: how a table grows after a key was removed hangs on the seed of its hash */
  lua_setfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
}
