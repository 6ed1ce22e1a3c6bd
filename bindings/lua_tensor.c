/*
 * lua_tensor.c - type ckpt.tensor. Dimensions and indices count from 1, as everything in Lua.
 */
#include <string.h>

#include "lua_tensor.h"
#include "tensor.h"

ckpt_tensor *ckpt_lua_check_tensor(lua_State *L, int index) { return ckpt_lua_check_box(L, index, CKPT_T_TENSOR); }

/* Memory of tensors is invisible to the collector: it is stepped by what was allocated. */
static void step_collector(lua_State *L, const ckpt_tensor *t) {
  size_t kib = ckpt_tensor_heap_bytes(t) / 1024;
  if (kib > 0) lua_gc(L, LUA_GCSTEP, kib > 1 << 20 ? 1 << 20 : (int)kib);
}

void ckpt_lua_push_tensor(lua_State *L, ckpt_tensor *t) {
  void **box = ckpt_lua_new_box(L, CKPT_T_TENSOR);
  *box = ckpt_tensor_retain(t);
}

ckpt_tensor **ckpt_lua_tensor_box(lua_State *L) { return (ckpt_tensor **)ckpt_lua_new_box(L, CKPT_T_TENSOR); }

static int tensor_gc(lua_State *L) {
  ckpt_tensor_release(ckpt_lua_take_box(L, CKPT_T_TENSOR));
  return 0;
}

/* ---- looking ---- */

static void push_shape_text(luaL_Buffer *b, const ckpt_tensor *t) {
  for (int i = 0; i < ckpt_tensor_ndim(t); i++) {
    if (i > 0) luaL_addstring(b, "x");
    lua_pushinteger(b->L, ckpt_tensor_shape(t)[i]);
    luaL_addvalue(b);
  }
}

static int tensor_tostring(lua_State *L) {
  const ckpt_tensor *t = *(ckpt_tensor **)luaL_checkudata(L, 1, CKPT_T_TENSOR);
  if (t == NULL) {
    lua_pushliteral(L, "tensor (closed)");
    return 1;
  }
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  luaL_addstring(&b, "tensor ");
  luaL_addstring(&b, ckpt_dtype_name(ckpt_tensor_dtype(t)));
  luaL_addstring(&b, " [");
  push_shape_text(&b, t);
  luaL_addstring(&b, "]");
  luaL_pushresult(&b);
  return 1;
}

static int tensor_stride(lua_State *L) {
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  ckpt_lua_push_dims(L, ckpt_tensor_ndim(t), ckpt_tensor_stride(t));
  return 1;
}

static int tensor_is_contiguous(lua_State *L) {
  lua_pushboolean(L, ckpt_tensor_is_contiguous(ckpt_lua_check_tensor(L, 1)));
  return 1;
}

static int tensor_is_meta(lua_State *L) {
  lua_pushboolean(L, ckpt_tensor_is_meta(ckpt_lua_check_tensor(L, 1)));
  return 1;
}

static int tensor_shares_storage(lua_State *L) {
  lua_pushboolean(L, ckpt_tensor_shares_storage(ckpt_lua_check_tensor(L, 1), ckpt_lua_check_tensor(L, 2)));
  return 1;
}

/* t:storage() -> what tensors over one storage have in common, and only they while one of them lives; nil for meta */
static int tensor_storage(lua_State *L) {
  ckpt_storage *storage = ckpt_tensor_storage(ckpt_lua_check_tensor(L, 1));
  if (storage == NULL)
    lua_pushnil(L);
  else
    lua_pushlightuserdata(L, storage);
  return 1;
}

static int tensor_sha256(lua_State *L) {
  ckpt_error err;
  char hex[65];
  if (ckpt_tensor_sha256(hex, ckpt_lua_check_tensor(L, 1), &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_pushstring(L, hex);
  return 1;
}

/* ---- making ---- */

ckpt_status ckpt_lua_tensor_clone(ckpt_tensor **out, const ckpt_tensor *t, ckpt_error *err) {
  ckpt_tensor *copy = NULL;
  CKPT_TRY(ckpt_tensor_check_spread(t, err));
  ckpt_status st = ckpt_tensor_new(&copy, ckpt_tensor_dtype(t), ckpt_tensor_ndim(t), ckpt_tensor_shape(t), err);
  if (st == CKPT_OK) st = ckpt_tensor_copy(copy, t, err);
  if (st != CKPT_OK) {
    ckpt_tensor_release(copy);
    return st;
  }
  *out = copy;
  return CKPT_OK;
}

int ckpt_lua_tensor_made(lua_State *L, ckpt_status st, ckpt_tensor *const *t, const ckpt_error *err) {
  if (st != CKPT_OK) return ckpt_lua_fail(L, err);
  step_collector(L, *t);
  return 1;
}

ckpt_dtype ckpt_lua_check_dtype(lua_State *L, int index) {
  ckpt_dtype dtype = CKPT_F32;
  ckpt_error err;
  if (ckpt_dtype_parse(&dtype, luaL_checkstring(L, index), &err) != CKPT_OK) luaL_argerror(L, index, err.message);
  return dtype;
}

static int tensor_clone(lua_State *L) {
  ckpt_error err;
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_lua_tensor_clone(made, t, &err), made, &err);
}

static int tensor_copy(lua_State *L) {
  ckpt_error err;
  if (ckpt_tensor_copy(ckpt_lua_check_tensor(L, 1), ckpt_lua_check_tensor(L, 2), &err) != CKPT_OK)
    return ckpt_lua_fail(L, &err);
  lua_settop(L, 1);
  return 1;
}

/* ---- fields ---- */

static int push_field(lua_State *L, const ckpt_tensor *t, const char *field) {
  if (strcmp(field, "shape") == 0)
    ckpt_lua_push_dims(L, ckpt_tensor_ndim(t), ckpt_tensor_shape(t));
  else if (strcmp(field, "dtype") == 0)
    lua_pushstring(L, ckpt_dtype_name(ckpt_tensor_dtype(t)));
  else if (strcmp(field, "ndim") == 0)
    lua_pushinteger(L, ckpt_tensor_ndim(t));
  else if (strcmp(field, "numel") == 0)
    lua_pushinteger(L, ckpt_tensor_numel(t));
  else if (strcmp(field, "nbytes") == 0)
    lua_pushinteger(L, (lua_Integer)ckpt_tensor_nbytes(t));
  else if (strcmp(field, "offset") == 0)
    lua_pushinteger(L, ckpt_tensor_offset(t));
  else if (strcmp(field, "requires_grad") == 0)
    lua_pushboolean(L, ckpt_tensor_requires_grad(t));
  else
    return 0;
  return 1;
}

static int tensor_index(lua_State *L) {
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  const char *field = luaL_checkstring(L, 2);
  if (push_field(L, t, field)) return 1;
  luaL_getmetafield(L, 1, "__methods");
  lua_getfield(L, -1, field);
  return 1;
}

void ckpt_lua_open_tensor(lua_State *L) {
  static const char *const fields[] = {"shape", "dtype", "ndim", "numel", "nbytes", "offset", "requires_grad", NULL};
  static const luaL_Reg meta[] = {{"__gc", tensor_gc},
                                  {"__close", tensor_gc},
                                  {"__tostring", tensor_tostring},
                                  {"__index", tensor_index},
                                  {NULL, NULL}};
  static const luaL_Reg methods[] = {{"stride", tensor_stride},
                                     {"is_contiguous", tensor_is_contiguous},
                                     {"is_meta", tensor_is_meta},
                                     {"shares_storage", tensor_shares_storage},
                                     {"storage", tensor_storage},
                                     {"sha256", tensor_sha256},
                                     {"clone", tensor_clone},
                                     {"copy_", tensor_copy},
                                     {NULL, NULL}};
  ckpt_lua_new_type(L, CKPT_T_TENSOR, meta, methods);
  luaL_getmetatable(L, CKPT_T_TENSOR);
  lua_getfield(L, -1, "__methods"); /* metatable, its methods */
  ckpt_lua_tensor_numbers(L);
  ckpt_lua_tensor_ops(L);
  ckpt_lua_tensor_compare(L);
  lua_pop(L, 2);
  ckpt_lua_set_fields(L, CKPT_T_TENSOR, fields);
}
