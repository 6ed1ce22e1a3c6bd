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

/* `own` gets the standard function as upvalue 1; NULL: the standard function as it is. */
typedef struct entry {
  const char *name;
  lua_CFunction own;
} entry;

static const entry base_entries[] = {{"assert", NULL},
                                     {"error", NULL},
                                     {"ipairs", NULL},
                                     {"next", ckpt_sandbox_next},
                                     {"pairs", ckpt_sandbox_pairs},
                                     {"pcall", NULL},
                                     {"select", NULL},
                                     {"tostring", ckpt_sandbox_tostring},
                                     {"type", NULL},
                                     {"rawequal", ckpt_sandbox_charged},
                                     {"rawget", NULL},
                                     {"rawlen", NULL},
                                     {"rawset", NULL},
                                     {"getmetatable", ckpt_sandbox_getmetatable},
                                     {"print", ckpt_sandbox_l_print},
                                     {"tonumber", ckpt_sandbox_charged},
                                     {"xpcall", ckpt_sandbox_xpcall},
                                     {"setmetatable", ckpt_sandbox_setmetatable},
                                     {NULL, NULL}};

static const entry string_entries[] = {{"byte", ckpt_sandbox_byte},
                                       {"char", NULL},
                                       {"len", NULL},
                                       {"sub", NULL},
                                       {"format", ckpt_sandbox_format},
                                       {"lower", ckpt_sandbox_charged},
                                       {"upper", ckpt_sandbox_charged},
                                       {"reverse", ckpt_sandbox_charged},
                                       {"pack", ckpt_sandbox_charged_bytes},
                                       {"packsize", ckpt_sandbox_charged_bytes},
                                       {"unpack", ckpt_sandbox_charged_bytes},
                                       {"rep", ckpt_sandbox_rep},
                                       {"find", ckpt_sandbox_find},
                                       {"match", ckpt_sandbox_match},
                                       {"gmatch", ckpt_sandbox_gmatch},
                                       {"gsub", ckpt_sandbox_gsub},
                                       {NULL, NULL}};

static const entry table_entries[] = {
    {"concat", ckpt_sandbox_concat}, {"insert", ckpt_sandbox_insert}, {"move", ckpt_sandbox_move},     {"pack", NULL},
    {"remove", ckpt_sandbox_remove}, {"sort", ckpt_sandbox_sort},     {"unpack", ckpt_sandbox_unpack}, {NULL, NULL}};

static const entry math_entries[] = {
    {"abs", NULL},  {"acos", NULL}, {"asin", NULL},       {"atan", NULL},       {"ceil", NULL}, {"cos", NULL},
    {"deg", NULL},  {"exp", NULL},  {"floor", NULL},      {"fmod", NULL},       {"huge", NULL}, {"log", NULL},
    {"max", NULL},  {"min", NULL},  {"maxinteger", NULL}, {"mininteger", NULL}, {"modf", NULL}, {"pi", NULL},
    {"rad", NULL},  {"sin", NULL},  {"random", NULL},     {"sqrt", NULL},       {"tan", NULL},  {"tointeger", NULL},
    {"type", NULL}, {"ult", NULL},  {NULL, NULL}};

static const entry utf8_entries[] = {{"char", NULL},
                                     {"charpattern", NULL},
                                     {"codepoint", ckpt_sandbox_codepoint},
                                     {"codes", ckpt_sandbox_codes},
                                     {"len", ckpt_sandbox_charged},
                                     {"offset", ckpt_sandbox_charged},
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
  lua_pushnil(L);
  lua_setfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
}
