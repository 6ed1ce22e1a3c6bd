/* sandbox_base.c - basic functions of a policy's environment that are not Lua's own (see sandbox_inside.h). */
#include <string.h>

#include "sandbox_inside.h"

int ckpt_sandbox_stock(lua_State *L) { return lua_tocfunction(L, lua_upvalueindex(1))(L); }

size_t ckpt_sandbox_bytes(lua_State *L, int arg) {
  return lua_type(L, arg) == LUA_TSTRING ? (size_t)lua_rawlen(L, arg) : 0;
}

/* ---- tostring, print --------------------------------------------------------------------------------- */

void ckpt_sandbox_tolstring(lua_State *L, int index) {
  int type = lua_type(L, index);
  bool object = type > LUA_TSTRING || type == LUA_TLIGHTUSERDATA;
  index = lua_absindex(L, index);
  if (object && luaL_getmetafield(L, index, "__tostring") == LUA_TNIL) {
    if (luaL_getmetafield(L, index, "__name") != LUA_TSTRING) lua_pushstring(L, luaL_typename(L, index));
    return;
  }
  if (object) lua_pop(L, 1);
  luaL_tolstring(L, index, NULL);
}

int ckpt_sandbox_tostring(lua_State *L) {
  luaL_checkany(L, 1);
  lua_settop(L, 1);
  ckpt_sandbox_tolstring(L, 1);
  return 1;
}

/* Hands print's text on line by line. */
static void print_lines(lua_State *L, const char *text) {
  for (const char *end; (end = strchr(text, '\n')) != NULL; text = end + 1) {
    ckpt_sandbox_charge(L, 16);
    ckpt_sandbox_print(L, lua_pushlstring(L, text, (size_t)(end - text)));
    lua_pop(L, 1);
  }
  ckpt_sandbox_print(L, text);
}

int ckpt_sandbox_l_print(lua_State *L) {
  int n = lua_gettop(L);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (int i = 1; i <= n; i++) {
    if (i > 1) luaL_addchar(&b, '\t');
    ckpt_sandbox_tolstring(L, i);
    luaL_addvalue(&b);
  }
  luaL_pushresult(&b);
  ckpt_sandbox_charge(L, 16 + ckpt_sandbox_bytes(L, -1));
  print_lines(L, lua_tostring(L, -1));
  return 0;
}

/* ---- xpcall ------------------------------------------------------------------------------------------ */

/* Message handler around the policy's own, which is upvalue 1: it would run with hooks off once the budget is spent. */
static int handle(lua_State *L) {
  if (ckpt_sandbox_exhausted(L)) return 1;
  lua_settop(L, 1);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, 1, 1);
  return 1;
}

int ckpt_sandbox_xpcall(lua_State *L) {
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

/* ---- metatables -------------------------------------------------------------------------------------- */

/*
 * What Lua sees is a copy of the metamethods, made when the metatable is set, and the policy cannot reach it. So none
 * of the following can come about later, by an assignment to the metatable:
 *   - __gc: a finalizer runs with hooks off;
 *   - __mode: a chain of n keys in a weak table takes n^2 steps of one collection (20,000 keys: 2 s);
 *   - __call that is no function: Lua shifts the arguments once for each link of such a chain, and never ends on a
 * loop;
 *   - __index or __newindex that lead back: 2,000 rounds, each through a chain of colliding keys;
 *   - fields of this library's own types.
 */
static const char *const copied[] = {
    "__add",  "__band",     "__bnot",  "__bor", "__bxor", "__call", "__close",     "__concat",   "__div",
    "__eq",   "__idiv",     "__index", "__le",  "__len",  "__lt",   "__metatable", "__mod",      "__mul",
    "__name", "__newindex", "__pairs", "__pow", "__shl",  "__shr",  "__sub",       "__tostring", "__unm"};
enum { LONGEST_CHAIN = 100 };

static const char origin_key; /* in the copy: the metatable that it was made of */

static bool is_copied(const char *name) {
  for (size_t i = 0; i < sizeof copied / sizeof *copied; i++)
    if (strcmp(copied[i], name) == 0) return true;
  return false;
}

/* A metamethod is at -1, its name at -2. */
static void check_metamethod(lua_State *L, const char *name) {
  if (strcmp(name, "__gc") == 0) luaL_error(L, "setmetatable: a policy cannot have finalizers (__gc)");
  if (strcmp(name, "__mode") == 0) luaL_error(L, "setmetatable: a policy cannot have weak tables (__mode)");
  if (strcmp(name, "__call") == 0 && !lua_isfunction(L, -1))
    luaL_error(L, "setmetatable: __call must be a function, not %s", luaL_typename(L, -1));
}

/* Copies the metamethods of the table at 2 into the table at 3. */
static void copy_metamethods(lua_State *L) {
  for (lua_pushnil(L); lua_next(L, 2) != 0; lua_pop(L, 1)) {
    ckpt_sandbox_charge(L, 1);
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
    if (strncmp(name, "__", 2) != 0) continue;
    check_metamethod(L, name);
    if (!is_copied(name)) continue;
    lua_pushvalue(L, -2);
    lua_pushvalue(L, -2);
    lua_rawset(L, 3);
  }
  lua_pushvalue(L, 2);
  lua_rawsetp(L, 3, &origin_key);
}

/* Follows `field` from the copy at 3; it must not come to the table at 1. */
static void check_chain(lua_State *L, const char *field) {
  lua_pushvalue(L, 3);
  for (int i = 0;; i++) {
    lua_pushstring(L, field);
    if (lua_rawget(L, -2) != LUA_TTABLE) break;
    if (lua_rawequal(L, 1, -1)) luaL_error(L, "setmetatable: %s leads back to the table itself", field);
    if (i == LONGEST_CHAIN) luaL_error(L, "setmetatable: a chain of more than %d tables by %s", LONGEST_CHAIN, field);
    if (!lua_getmetatable(L, -1)) break;
    lua_replace(L, -3);
    lua_pop(L, 1);
  }
  lua_settop(L, 3);
}

int ckpt_sandbox_setmetatable(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_argexpected(L, lua_isnil(L, 2) || lua_istable(L, 2), 2, "nil or table");
  lua_settop(L, 2);
  if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL) return luaL_error(L, "cannot change a protected metatable");
  if (lua_istable(L, 2)) {
    lua_newtable(L);
    copy_metamethods(L);
    check_chain(L, "__index");
    check_chain(L, "__newindex");
  } else {
    lua_pushnil(L);
  }
  lua_setmetatable(L, 1);
  lua_settop(L, 1);
  return 1;
}

/* The metatable that was set, or what its __metatable says; false for one that no policy has set. */
int ckpt_sandbox_getmetatable(lua_State *L) {
  luaL_checkany(L, 1);
  if (!lua_getmetatable(L, 1)) {
    lua_pushnil(L);
    return 1;
  }
  if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL) return 1;
  if (lua_rawgetp(L, -1, &origin_key) == LUA_TNIL) lua_pushboolean(L, 0);
  return 1;
}
