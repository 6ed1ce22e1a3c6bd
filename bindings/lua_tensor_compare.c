/*
 * lua_tensor_compare.c - t:compare(u): what two tensors of one shape differ in.
 */
#include "lua_tensor.h"

/* A field of the options table at `index` (or none). */
static double option_number(lua_State *L, int index, const char *name) {
  lua_getfield(L, index, name);
  double v = luaL_optnumber(L, -1, 0);
  lua_pop(L, 1);
  if (!(v >= 0)) luaL_error(L, "%s must be a number that is not negative", name);
  return v;
}

static ckpt_compare_options check_tolerances(lua_State *L, int index) {
  ckpt_compare_options o = {0};
  if (lua_isnoneornil(L, index)) return o;
  luaL_checktype(L, index, LUA_TTABLE);
  o.atol = option_number(L, index, "atol");
  o.rtol = option_number(L, index, "rtol");
  lua_getfield(L, index, "equal_nan");
  o.equal_nan = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return o;
}

static void set_integer(lua_State *L, const char *name, lua_Integer v) {
  lua_pushinteger(L, v);
  lua_setfield(L, -2, name);
}

static void set_number(lua_State *L, const char *name, lua_Number v) {
  lua_pushnumber(L, v);
  lua_setfield(L, -2, name);
}

/* t:compare(u [, { atol, rtol, equal_nan }]) -> { differing, beyond, unordered, first, max_abs, max_rel } */
static int tensor_compare(lua_State *L) {
  ckpt_error err;
  ckpt_comparison r = {0};
  ckpt_compare_options options = check_tolerances(L, 3);
  if (ckpt_tensor_compare(&r, ckpt_lua_check_tensor(L, 1), ckpt_lua_check_tensor(L, 2), &options, &err) != CKPT_OK)
    return ckpt_lua_fail(L, &err);
  lua_createtable(L, 0, 6);
  set_integer(L, "differing", r.differing);
  set_integer(L, "beyond", r.beyond);
  set_integer(L, "unordered", r.unordered);
  if (r.first >= 0) set_integer(L, "first", r.first + 1);
  set_number(L, "max_abs", r.max_abs);
  set_number(L, "max_rel", r.max_rel);
  return 1;
}

void ckpt_lua_tensor_compare(lua_State *L) {
  static const luaL_Reg methods[] = {{"compare", tensor_compare}, {NULL, NULL}};
  luaL_setfuncs(L, methods, 0);
}
