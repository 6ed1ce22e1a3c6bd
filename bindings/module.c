/*
 * module.c - luaopen_ckpt: the module's table. Idempotent and without static state: busted opens it again for every
 * file.
 */
#include "expr.h"
#include "lua_tensor.h"

static int module_live(lua_State *L) {
  lua_pushinteger(L, ckpt_lua_live(L));
  return 1;
}

static void set_dtypes(lua_State *L) {
  lua_createtable(L, CKPT_DTYPE_COUNT, 0);
  for (int i = 0; i < CKPT_DTYPE_COUNT; i++) {
    lua_pushstring(L, ckpt_dtype_name((ckpt_dtype)i));
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "dtypes");
}

CKPT_API int luaopen_ckpt(lua_State *L);
CKPT_API int luaopen_ckpt(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"tensor", ckpt_lua_new_tensor}, {"cat", ckpt_lua_cat},     {"stack", ckpt_lua_stack},
      {"mean", ckpt_lua_mean},         {"align", ckpt_lua_align}, {"infer", ckpt_lua_infer},
      {"apply", ckpt_lua_apply},       {"live", module_live},     {NULL, NULL}};
  luaL_checkversion(L);
  ckpt_lua_open_types(L);
  luaL_newlib(L, functions);
  ckpt_lua_value_functions(L);
  ckpt_lua_state_dict_functions(L);
  ckpt_lua_open_checkpoint(L);
  ckpt_lua_open_save(L);
  ckpt_lua_open_inside(L);
  ckpt_lua_open_checkpointer(L);
  set_dtypes(L);
  lua_pushliteral(L, CKPT_VERSION);
  lua_setfield(L, -2, "version");
  ckpt_lua_open_api(L);
  return 1;
}
