/*
 * lua_tensor_numbers.c - numbers into tensors and out of them: ckpt.tensor, get, set, fill, item, tolist, bytes, equal.
 *
 *   bool        boolean (0 and 1 go in too)          integers   integer
 *   uint64      beyond the largest Lua integer a float, of the right size but rounded; bytes() is exact
 *   floats      float (integers go in too)           complex    { re, im } (a real number goes in too)
 */
#include <string.h>

#include "element.h"
#include "lua_tensor.h"
#include "tensor.h"

/* ---- one number ---- */

static double check_part(lua_State *L, int index, int arg, int part) {
  lua_rawgeti(L, index, part);
  if (lua_type(L, -1) != LUA_TNUMBER) luaL_argerror(L, arg, "a complex number is { re, im }");
  double v = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return v;
}

ckpt_scalar ckpt_lua_check_scalar(lua_State *L, int index, int arg) {
  ckpt_scalar v = {.kind = CKPT_SCALAR_COMPLEX};
  index = lua_absindex(L, index);
  switch (lua_type(L, index)) {
    case LUA_TBOOLEAN: return (ckpt_scalar){.kind = CKPT_SCALAR_BOOL, .whole = lua_toboolean(L, index)};
    case LUA_TNUMBER:
      if (lua_isinteger(L, index)) return ckpt_scalar_int(lua_tointeger(L, index));
      return ckpt_scalar_double(lua_tonumber(L, index));
    case LUA_TTABLE:
      v.real = check_part(L, index, arg, 1);
      v.imag = check_part(L, index, arg, 2);
      return v;
    default: luaL_argerror(L, arg, lua_pushfstring(L, "number expected, got %s", luaL_typename(L, index))); return v;
  }
}

static void push_scalar(lua_State *L, ckpt_scalar v) {
  switch (v.kind) {
    case CKPT_SCALAR_BOOL: lua_pushboolean(L, v.whole != 0); break;
    case CKPT_SCALAR_INT: lua_pushinteger(L, v.whole); break;
    case CKPT_SCALAR_UINT: lua_pushnumber(L, (lua_Number)(uint64_t)v.whole); break;
    case CKPT_SCALAR_FLOAT: lua_pushnumber(L, v.real); break;
    case CKPT_SCALAR_COMPLEX:
      lua_createtable(L, 2, 0);
      lua_pushnumber(L, v.real);
      lua_rawseti(L, -2, 1);
      lua_pushnumber(L, v.imag);
      lua_rawseti(L, -2, 2);
      break;
  }
}

/* ---- one element ---- */

/* One index for each dimension, from argument 2 on; 0-based in `index`. */
static void check_indices(lua_State *L, const ckpt_tensor *t, int64_t *index) {
  for (int i = 0; i < ckpt_tensor_ndim(t); i++) {
    lua_Integer at = ckpt_lua_check_integer(L, i + 2), size = ckpt_tensor_shape(t)[i];
    if (at == 0 || at > size || at < -size)
      luaL_argerror(L, i + 2, lua_pushfstring(L, "index %I is outside a dimension of size %I", at, size));
    index[i] = at > 0 ? at - 1 : at;
  }
}

static int push_element(lua_State *L, const ckpt_tensor *t, const int64_t *index) {
  ckpt_error err;
  ckpt_scalar v;
  if (ckpt_tensor_get(&v, t, index, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  push_scalar(L, v);
  return 1;
}

/* t:get(i, j, ...) */
static int tensor_get(lua_State *L) {
  int64_t index[CKPT_MAX_DIMS];
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  check_indices(L, t, index);
  luaL_argcheck(L, lua_gettop(L) == ckpt_tensor_ndim(t) + 1, ckpt_tensor_ndim(t) + 2, "more indices than dimensions");
  return push_element(L, t, index);
}

/* t:item(): the only element */
static int tensor_item(lua_State *L) {
  static const int64_t first[CKPT_MAX_DIMS];
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  luaL_argcheck(L, ckpt_tensor_numel(t) == 1, 1, "item() is of a tensor with one element");
  return push_element(L, t, first);
}

/* t:set(i, j, ..., value) -> t. What cannot be written is the caller's mistake and is not to go unseen. */
static int tensor_set(lua_State *L) {
  int64_t index[CKPT_MAX_DIMS];
  ckpt_error err;
  ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  int arg = ckpt_tensor_ndim(t) + 2;
  check_indices(L, t, index);
  luaL_argcheck(L, lua_gettop(L) == arg, arg, "one value follows one index for each dimension");
  if (ckpt_tensor_set(t, index, ckpt_lua_check_scalar(L, arg, arg), &err) != CKPT_OK)
    luaL_argerror(L, arg, err.message);
  lua_settop(L, 1);
  return 1;
}

/* t:fill(value) -> t */
static int tensor_fill(lua_State *L) {
  ckpt_error err;
  ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  if (ckpt_tensor_fill(t, ckpt_lua_check_scalar(L, 2, 2), &err) != CKPT_OK) luaL_argerror(L, 2, err.message);
  lua_settop(L, 1);
  return 1;
}

/* ---- all elements ---- */

/* All elements in row-major order, as one flat table. */
static int tensor_tolist(lua_State *L) {
  ckpt_error err;
  const void *data = NULL;
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  ckpt_dtype dtype = ckpt_tensor_dtype(t);
  size_t size = ckpt_dtype_size(dtype);
  luaL_argcheck(L, ckpt_tensor_numel(t) <= INT32_MAX / 2, 1, "too many elements for a table");
  if (ckpt_element_check(dtype, "tolist", &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  ckpt_tensor **copy = ckpt_lua_tensor_box(L); /* owned by the stack while the table grows */
  if (ckpt_lua_tensor_clone(copy, t, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  if (ckpt_tensor_data(&data, *copy, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_createtable(L, (int)ckpt_tensor_numel(t), 0);
  for (int64_t i = 0; i < ckpt_tensor_numel(t); i++) {
    push_scalar(L, ckpt_element_decode((const unsigned char *)data + (size_t)i * size, dtype));
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* The logical bytes, row-major and little-endian, as a string. */
static int tensor_bytes(lua_State *L) {
  ckpt_error err;
  const void *data = NULL;
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  ckpt_tensor **copy = ckpt_lua_tensor_box(L);
  if (ckpt_lua_tensor_clone(copy, t, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  if (ckpt_tensor_data(&data, *copy, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_pushlstring(L, data, ckpt_tensor_nbytes(t));
  return 1;
}

/* t:equal(u): the same dtype, shape and bits */
static int tensor_equal(lua_State *L) {
  ckpt_error err;
  bool same = false;
  if (ckpt_tensor_equal(&same, ckpt_lua_check_tensor(L, 1), ckpt_lua_check_tensor(L, 2), &err) != CKPT_OK)
    return ckpt_lua_fail(L, &err);
  lua_pushboolean(L, same);
  return 1;
}

/* ---- ckpt.tensor ---- */

static void fill_from_table(lua_State *L, int index, const ckpt_tensor *t, unsigned char *to) {
  ckpt_error err;
  unsigned char element[CKPT_ELEMENT_MAX];
  ckpt_dtype dtype = ckpt_tensor_dtype(t);
  size_t size = ckpt_dtype_size(dtype);
  luaL_argcheck(L, lua_rawlen(L, index) == (lua_Unsigned)ckpt_tensor_numel(t), index,
                "as many numbers as the shape has");
  for (int64_t i = 0; i < ckpt_tensor_numel(t); i++) {
    lua_rawgeti(L, index, i + 1);
    if (ckpt_element_encode(element, dtype, ckpt_lua_check_scalar(L, -1, index), &err) != CKPT_OK)
      luaL_argerror(L, index, lua_pushfstring(L, "number %I: %s", (lua_Integer)i + 1, err.message));
    memcpy(to + (size_t)i * size, element, size);
    lua_pop(L, 1);
  }
}

static void fill_from_bytes(lua_State *L, int index, const ckpt_tensor *t, unsigned char *to) {
  size_t n;
  const char *bytes = lua_tolstring(L, index, &n);
  if (n != ckpt_tensor_nbytes(t))
    luaL_argerror(
        L, index,
        lua_pushfstring(L, "%I bytes where the shape needs %I", (lua_Integer)n, (lua_Integer)ckpt_tensor_nbytes(t)));
  if (n > 0) memcpy(to, bytes, n);
}

/* ckpt.tensor(dtype, shape [, numbers | bytes]): zeros, the numbers of a flat table, or the bytes as they are. */
int ckpt_lua_new_tensor(lua_State *L) {
  ckpt_error err;
  int64_t shape[CKPT_MAX_DIMS];
  const void *data = NULL;
  ckpt_dtype dtype = ckpt_lua_check_dtype(L, 1);
  int n = ckpt_lua_check_dims(L, 2, shape, CKPT_MAX_DIMS);
  lua_settop(L, 3);
  bool from_bytes = lua_type(L, 3) == LUA_TSTRING;
  if (!from_bytes && !lua_isnil(L, 3)) luaL_checktype(L, 3, LUA_TTABLE);
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  ckpt_status st = ckpt_tensor_new(made, dtype, n, shape, &err);
  if (st == CKPT_OK) st = ckpt_tensor_data(&data, *made, &err);
  if (st != CKPT_OK) return ckpt_lua_fail(L, &err);
  unsigned char *to = (unsigned char *)(uintptr_t)data; /* a new tensor is writable */
  if (from_bytes)
    fill_from_bytes(L, 3, *made, to);
  else if (lua_istable(L, 3))
    fill_from_table(L, 3, *made, to);
  return ckpt_lua_tensor_made(L, CKPT_OK, made, &err);
}

void ckpt_lua_tensor_numbers(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"get", tensor_get},       {"item", tensor_item},   {"set", tensor_set},     {"fill", tensor_fill},
      {"tolist", tensor_tolist}, {"bytes", tensor_bytes}, {"equal", tensor_equal}, {NULL, NULL}};
  luaL_setfuncs(L, methods, 0);
}
