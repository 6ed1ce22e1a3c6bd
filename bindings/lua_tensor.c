/*
 * lua_tensor.c - type ckpt.tensor. Dimensions and indices count from 1, as everything in Lua.
 */
#include <string.h>

#include "lua_types.h"

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

/* An empty box on the top, for a tensor that is about to be made: nothing is held while Lua could raise. */
static ckpt_tensor **new_tensor_box(lua_State *L) { return (ckpt_tensor **)ckpt_lua_new_box(L, CKPT_T_TENSOR); }

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

static int tensor_sha256(lua_State *L) {
  ckpt_error err;
  char hex[65];
  if (ckpt_tensor_sha256(hex, ckpt_lua_check_tensor(L, 1), &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_pushstring(L, hex);
  return 1;
}

/* The logical contents, contiguous: a tensor that is itself so, or a copy in `dtype`. */
static ckpt_status materialise(ckpt_tensor **out, const ckpt_tensor *t, ckpt_dtype dtype, ckpt_error *err) {
  ckpt_tensor *copy = NULL;
  ckpt_status st = ckpt_tensor_new(&copy, dtype, ckpt_tensor_ndim(t), ckpt_tensor_shape(t), err);
  if (st == CKPT_OK) st = ckpt_tensor_copy(copy, t, err);
  if (st != CKPT_OK) {
    ckpt_tensor_release(copy);
    return st;
  }
  *out = copy;
  return CKPT_OK;
}

/* The box on the top holds what was made, or nil, message, code. */
static int made_or_fail(lua_State *L, ckpt_status st, ckpt_tensor *const *t, const ckpt_error *err) {
  if (st != CKPT_OK) return ckpt_lua_fail(L, err);
  step_collector(L, *t);
  return 1;
}

static ckpt_dtype check_dtype(lua_State *L, int index) {
  ckpt_dtype dtype = CKPT_F32;
  ckpt_error err;
  if (ckpt_dtype_parse(&dtype, luaL_checkstring(L, index), &err) != CKPT_OK) luaL_argerror(L, index, err.message);
  return dtype;
}

static int tensor_to(lua_State *L) {
  ckpt_error err;
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  ckpt_dtype dtype = check_dtype(L, 2);
  ckpt_tensor **made = new_tensor_box(L);
  ckpt_status st = ckpt_tensor_is_meta(t)
                       ? ckpt_tensor_meta(made, dtype, ckpt_tensor_ndim(t), ckpt_tensor_shape(t), &err)
                       : materialise(made, t, dtype, &err);
  return made_or_fail(L, st, made, &err);
}

static int tensor_clone(lua_State *L) {
  ckpt_error err;
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  ckpt_tensor **made = new_tensor_box(L);
  return made_or_fail(L, materialise(made, t, ckpt_tensor_dtype(t), &err), made, &err);
}

static int tensor_copy(lua_State *L) {
  ckpt_error err;
  if (ckpt_tensor_copy(ckpt_lua_check_tensor(L, 1), ckpt_lua_check_tensor(L, 2), &err) != CKPT_OK)
    return ckpt_lua_fail(L, &err);
  lua_settop(L, 1);
  return 1;
}

static int tensor_index_select(lua_State *L) {
  enum { MAX_INDEX = 1 << 20 };
  ckpt_error err;
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  lua_Integer dim = ckpt_lua_check_integer(L, 2);
  luaL_checktype(L, 3, LUA_TTABLE);
  luaL_argcheck(L, dim >= 1 && dim <= ckpt_tensor_ndim(t), 2, "there is no such dimension");
  luaL_argcheck(L, lua_rawlen(L, 3) <= MAX_INDEX, 3, "too many indices");
  int n = (int)lua_rawlen(L, 3);
  int64_t *index = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *index, 0);
  ckpt_lua_check_dims(L, 3, index, n);
  for (int i = 0; i < n; i++) index[i]--;
  ckpt_tensor **made = new_tensor_box(L);
  return made_or_fail(L, ckpt_tensor_index_select(made, t, (int)dim - 1, (size_t)n, index, &err), made, &err);
}

/* ---- numbers in and out ---- */

static ckpt_dtype wide_dtype(ckpt_dtype dtype) {
  switch (dtype) {
    case CKPT_F16:
    case CKPT_BF16:
    case CKPT_F32:
    case CKPT_F64: return CKPT_F64;
    default: return CKPT_I64;
  }
}

static void push_element(lua_State *L, ckpt_dtype dtype, ckpt_dtype wide, const void *data, int64_t i) {
  if (wide == CKPT_F64)
    lua_pushnumber(L, ((const double *)data)[i]);
  else if (dtype == CKPT_BOOL)
    lua_pushboolean(L, ((const int64_t *)data)[i] != 0);
  else
    lua_pushinteger(L, ((const int64_t *)data)[i]);
}

/* All elements in row-major order, as one flat table. */
static int tensor_tolist(lua_State *L) {
  ckpt_error err;
  const void *data = NULL;
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  ckpt_dtype dtype = wide_dtype(ckpt_tensor_dtype(t));
  luaL_argcheck(L, ckpt_tensor_numel(t) <= INT32_MAX / 2, 1, "too many elements for a table");
  ckpt_tensor **wide = new_tensor_box(L); /* owned by the stack while the table grows */
  if (materialise(wide, t, dtype, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  if (ckpt_tensor_data(&data, *wide, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_createtable(L, (int)ckpt_tensor_numel(t), 0);
  for (int64_t i = 0; i < ckpt_tensor_numel(t); i++) {
    push_element(L, ckpt_tensor_dtype(t), dtype, data, i);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* The logical bytes, row-major and little-endian, as a string. */
static int tensor_bytes(lua_State *L) {
  ckpt_error err;
  const void *data = NULL;
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  ckpt_tensor **copy = new_tensor_box(L);
  if (materialise(copy, t, ckpt_tensor_dtype(t), &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  if (ckpt_tensor_data(&data, *copy, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_pushlstring(L, data, (size_t)ckpt_tensor_numel(t) * ckpt_dtype_size(ckpt_tensor_dtype(t)));
  return 1;
}

static void fill_from_table(lua_State *L, int index, ckpt_tensor *wide, bool is_float) {
  const void *data = NULL;
  ckpt_tensor_data(&data, wide, NULL); /* our own: cannot fail */
  for (int64_t i = 0; i < ckpt_tensor_numel(wide); i++) {
    lua_rawgeti(L, index, i + 1);
    if (is_float)
      ((double *)(uintptr_t)data)[i] = luaL_checknumber(L, -1);
    else if (lua_isboolean(L, -1))
      ((int64_t *)(uintptr_t)data)[i] = lua_toboolean(L, -1);
    else
      ((int64_t *)(uintptr_t)data)[i] = ckpt_lua_check_integer(L, -1);
    lua_pop(L, 1);
  }
}

/* ckpt.tensor(dtype, shape [, numbers]): zeros, or the numbers of a flat table. */

int ckpt_lua_new_tensor(lua_State *L) {
  ckpt_error err;
  int64_t shape[CKPT_MAX_DIMS];
  ckpt_dtype dtype = check_dtype(L, 1), in = wide_dtype(dtype);
  int n = ckpt_lua_check_dims(L, 2, shape, CKPT_MAX_DIMS);
  lua_settop(L, 3);
  ckpt_tensor **wide = new_tensor_box(L);
  if (lua_isnil(L, 3)) return made_or_fail(L, ckpt_tensor_new(wide, dtype, n, shape, &err), wide, &err);
  luaL_checktype(L, 3, LUA_TTABLE);
  if (ckpt_tensor_new(wide, in, n, shape, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  luaL_argcheck(L, lua_rawlen(L, 3) == (lua_Unsigned)ckpt_tensor_numel(*wide), 3, "as many numbers as the shape has");
  fill_from_table(L, 3, *wide, in == CKPT_F64);
  ckpt_tensor **made = new_tensor_box(L);
  return made_or_fail(L, materialise(made, *wide, dtype, &err), made, &err);
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
    lua_pushinteger(L, ckpt_tensor_numel(t) * (lua_Integer)ckpt_dtype_size(ckpt_tensor_dtype(t)));
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
                                     {"sha256", tensor_sha256},
                                     {"to", tensor_to},
                                     {"clone", tensor_clone},
                                     {"copy_", tensor_copy},
                                     {"index_select", tensor_index_select},
                                     {"tolist", tensor_tolist},
                                     {"bytes", tensor_bytes},
                                     {NULL, NULL}};
  ckpt_lua_new_type(L, CKPT_T_TENSOR, meta, methods);
  ckpt_lua_set_fields(L, CKPT_T_TENSOR, fields);
}
