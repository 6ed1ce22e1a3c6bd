/*
 * lua_tensor_ops.c - views, computed tensors and statistics of type ckpt.tensor. Dimensions and indices count from 1,
 * ranges include their last index, negative ones count from the end. What is wrong with an argument raises with its
 * number; what the tensors do not allow (shapes, dtypes, files) is nil, message, code.
 */
#include <math.h>
#include <string.h>

#include "lua_tensor.h"

enum { MAX_LIST = 1 << 20 };

/* ---- arguments ---- */

/* Dimension `given`, 0-based; raises as for argument `arg`. */
static int to_dim(lua_State *L, lua_Integer given, int n, int arg) {
  if (given == 0 || given > n || given < -n)
    luaL_argerror(L, arg, lua_pushfstring(L, "there is no dimension %I in a tensor of %d", given, n));
  return (int)(given > 0 ? given - 1 : given + n);
}

static int check_dim(lua_State *L, int arg, int n) { return to_dim(L, ckpt_lua_check_integer(L, arg), n, arg); }

static int opt_dim(lua_State *L, int arg, int n, int otherwise) {
  return lua_isnoneornil(L, arg) ? otherwise : check_dim(L, arg, n);
}

/* Index `given` of a dimension of that size, 0-based. */
static int64_t to_index(lua_State *L, lua_Integer given, int64_t size, int arg) {
  if (given == 0 || given > size || given < -size)
    luaL_argerror(L, arg, lua_pushfstring(L, "index %I is outside a dimension of size %I", given, (lua_Integer)size));
  return given > 0 ? given - 1 : given + size;
}

/* A list of integers in memory that Lua owns; one that is never NULL. */
static int64_t *check_list(lua_State *L, int arg, size_t *n) {
  luaL_checktype(L, arg, LUA_TTABLE);
  luaL_argcheck(L, lua_rawlen(L, arg) <= MAX_LIST, arg, "too many entries");
  *n = (size_t)lua_rawlen(L, arg);
  int64_t *list = lua_newuserdatauv(L, (*n + 1) * sizeof *list, 0);
  ckpt_lua_check_dims(L, arg, list, MAX_LIST);
  return list;
}

/* The distinct dimensions in the arguments from `first` on; how many. */
static int check_dim_arguments(lua_State *L, int first, int n, int *dims) {
  bool seen[CKPT_MAX_DIMS] = {false};
  int count = 0;
  for (int arg = first; arg <= lua_gettop(L); arg++) {
    int dim = check_dim(L, arg, n);
    luaL_argcheck(L, !seen[dim], arg, "the dimension is named twice");
    seen[dim] = true;
    dims[count++] = dim;
  }
  return count;
}

/* ---- views ---- */

/* t:select(dim, i) */
static int tensor_select(lua_State *L) {
  ckpt_error err;
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  int dim = check_dim(L, 2, ckpt_tensor_ndim(t));
  int64_t index = to_index(L, ckpt_lua_check_integer(L, 3), ckpt_tensor_shape(t)[dim], 3);
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_tensor_select(made, t, dim, index, &err), made, &err);
}

/* t:slice(dim, first [, last [, step]]): both ends included; last = first - 1 gives none. */
static int tensor_slice(lua_State *L) {
  ckpt_error err;
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  int dim = check_dim(L, 2, ckpt_tensor_ndim(t));
  int64_t size = ckpt_tensor_shape(t)[dim];
  lua_Integer first = ckpt_lua_check_integer(L, 3), last = lua_isnoneornil(L, 4) ? size : ckpt_lua_check_integer(L, 4);
  lua_Integer step = lua_isnoneornil(L, 5) ? 1 : ckpt_lua_check_integer(L, 5);
  if (first < 0 && first >= -size) first += size + 1;
  if (last < 0 && last >= -size) last += size + 1;
  luaL_argcheck(L, first >= 1 && first <= size + 1, 3, "it is outside the dimension");
  luaL_argcheck(L, last >= 0 && last <= size, 4, "it is outside the dimension");
  luaL_argcheck(L, last >= first - 1, 4, "it comes before the first index");
  luaL_argcheck(L, step >= 1, 5, "the least step is 1");
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_tensor_slice(made, t, dim, first - 1, last, step, &err), made, &err);
}

/* t:permute{ 2, 1, ... } */
static int tensor_permute(lua_State *L) {
  ckpt_error err;
  int64_t list[CKPT_MAX_DIMS];
  int dims[CKPT_MAX_DIMS];
  bool seen[CKPT_MAX_DIMS] = {false};
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  int n = ckpt_lua_check_dims(L, 2, list, CKPT_MAX_DIMS);
  luaL_argcheck(L, n == ckpt_tensor_ndim(t), 2, "every dimension is named once");
  for (int i = 0; i < n; i++) {
    dims[i] = to_dim(L, list[i], n, 2);
    luaL_argcheck(L, !seen[dims[i]], 2, "every dimension is named once");
    seen[dims[i]] = true;
  }
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_tensor_permute(made, t, dims, &err), made, &err);
}

/* t:transpose(a, b) */
static int tensor_transpose(lua_State *L) {
  ckpt_error err;
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  int a = check_dim(L, 2, ckpt_tensor_ndim(t)), b = check_dim(L, 3, ckpt_tensor_ndim(t));
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_tensor_transpose(made, t, a, b, &err), made, &err);
}

/* t:reshape{ ... }, one size may be -1 */
static int tensor_reshape(lua_State *L) {
  ckpt_error err;
  int64_t shape[CKPT_MAX_DIMS];
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  int n = ckpt_lua_check_dims(L, 2, shape, CKPT_MAX_DIMS);
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_tensor_reshape(made, t, n, shape, &err), made, &err);
}

/* t:flatten([first [, last]]) */
static int tensor_flatten(lua_State *L) {
  ckpt_error err;
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  int n = ckpt_tensor_ndim(t), first = opt_dim(L, 2, n, 0), last = opt_dim(L, 3, n, n == 0 ? 0 : n - 1);
  luaL_argcheck(L, first <= last, 3, "it comes before the first dimension");
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_tensor_flatten(made, t, first, last, &err), made, &err);
}

/* t:squeeze([dim, ...]): without them all of size 1 */
static int tensor_squeeze(lua_State *L) {
  ckpt_error err;
  int dims[CKPT_MAX_DIMS];
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  int n = check_dim_arguments(L, 2, ckpt_tensor_ndim(t), dims);
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_tensor_squeeze(made, t, n, dims, &err), made, &err);
}

/* t:unsqueeze(dim): the new dimension is dimension dim */
static int tensor_unsqueeze(lua_State *L) {
  ckpt_error err;
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  int dim = check_dim(L, 2, ckpt_tensor_ndim(t) + 1);
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_tensor_unsqueeze(made, t, dim, &err), made, &err);
}

/* t:expand{ ... }, -1 keeps a size */
static int tensor_expand(lua_State *L) {
  ckpt_error err;
  int64_t shape[CKPT_MAX_DIMS];
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  int n = ckpt_lua_check_dims(L, 2, shape, CKPT_MAX_DIMS);
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_tensor_expand(made, t, n, shape, &err), made, &err);
}

static bool add_up(size_t n, const int64_t *sizes, int64_t wanted) {
  int64_t sum = 0;
  for (size_t i = 0; i < n; i++)
    if (sizes[i] < 0 || __builtin_add_overflow(sum, sizes[i], &sum)) return false;
  return sum == wanted;
}

/* Pieces of `sizes` along a dimension, as a list. */
static int push_pieces(lua_State *L, const ckpt_tensor *t, size_t n, const int64_t *sizes, int dim) {
  ckpt_error err;
  int64_t first = 0, size = ckpt_tensor_shape(t)[dim];
  if (!add_up(n, sizes, size)) {
    luaL_pushfail(L);
    lua_pushfstring(L, "the sizes do not add up to the %I entries of the dimension", (lua_Integer)size);
    lua_pushstring(L, ckpt_status_name(CKPT_E_SHAPE));
    return 3;
  }
  lua_createtable(L, (int)n, 0);
  for (size_t i = 0; i < n; first += sizes[i++]) {
    ckpt_tensor **made = ckpt_lua_tensor_box(L);
    if (ckpt_tensor_slice(made, t, dim, first, first + sizes[i], 1, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* Pieces of size `each`, the last one smaller. */
static int push_equal_pieces(lua_State *L, const ckpt_tensor *t, int64_t each, int64_t n, int dim) {
  int64_t size = ckpt_tensor_shape(t)[dim];
  luaL_argcheck(L, n <= MAX_LIST, 2, "too many pieces");
  int64_t *sizes = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *sizes, 0);
  for (int64_t i = 0; i < n; i++) sizes[i] = size - i * each < each ? size - i * each : each;
  return push_pieces(L, t, (size_t)n, sizes, dim);
}

/* t:split(sizes | size, dim) -> list */
static int tensor_split(lua_State *L) {
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  size_t n;
  int dim = opt_dim(L, 3, ckpt_tensor_ndim(t), 0);
  luaL_argcheck(L, ckpt_tensor_ndim(t) > 0, 1, "a tensor without dimensions has no pieces");
  if (lua_istable(L, 2)) {
    const int64_t *sizes = check_list(L, 2, &n);
    return push_pieces(L, t, n, sizes, dim);
  }
  int64_t each = ckpt_lua_check_integer(L, 2), size = ckpt_tensor_shape(t)[dim];
  luaL_argcheck(L, each >= 1, 2, "a piece has 1 entry or more");
  return push_equal_pieces(L, t, each, size == 0 ? 1 : (size - 1) / each + 1, dim);
}

/* t:chunk(n, dim) -> list of at most n */
static int tensor_chunk(lua_State *L) {
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  int64_t n = ckpt_lua_check_integer(L, 2);
  int dim = opt_dim(L, 3, ckpt_tensor_ndim(t), 0);
  luaL_argcheck(L, ckpt_tensor_ndim(t) > 0, 1, "a tensor without dimensions has no pieces");
  luaL_argcheck(L, n >= 1, 2, "there is 1 chunk or more");
  int64_t size = ckpt_tensor_shape(t)[dim], each = size == 0 ? 0 : (size - 1) / n + 1;
  return push_equal_pieces(L, t, each, size == 0 ? n : (size - 1) / each + 1, dim);
}

/* ---- computed tensors ---- */

/* t:to(dtype) */
static int tensor_to(lua_State *L) {
  ckpt_error err;
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  ckpt_dtype dtype = ckpt_lua_check_dtype(L, 2);
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_tensor_to(made, t, dtype, &err), made, &err);
}

static int tensor_contiguous(lua_State *L) {
  ckpt_error err;
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_tensor_contiguous(made, t, &err), made, &err);
}

/* t:index_select(dim, { i, ... }) */
static int tensor_index_select(lua_State *L) {
  ckpt_error err;
  size_t n;
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  int dim = check_dim(L, 2, ckpt_tensor_ndim(t));
  int64_t *index = check_list(L, 3, &n);
  for (size_t i = 0; i < n; i++) index[i] = to_index(L, index[i], ckpt_tensor_shape(t)[dim], 3);
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_tensor_index_select(made, t, dim, n, index, &err), made, &err);
}

/* t:flip(dim, ...) */
static int tensor_flip(lua_State *L) {
  ckpt_error err;
  int dims[CKPT_MAX_DIMS];
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  luaL_argcheck(L, lua_gettop(L) > 1, 2, "a dimension is expected");
  int n = check_dim_arguments(L, 2, ckpt_tensor_ndim(t), dims);
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_tensor_flip(made, t, n, dims, &err), made, &err);
}

/* t:roll(shift, dim) */
static int tensor_roll(lua_State *L) {
  ckpt_error err;
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  int64_t shift = ckpt_lua_check_integer(L, 2);
  int dim = check_dim(L, 3, ckpt_tensor_ndim(t));
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_tensor_roll(made, t, shift, dim, &err), made, &err);
}

static int64_t check_amount(lua_State *L, int pair, int i) {
  lua_rawgeti(L, pair, i);
  if (!lua_isinteger(L, -1) || lua_tointeger(L, -1) < 0)
    luaL_argerror(L, 2, "a pair holds two integers, none negative: { before, after }");
  int64_t n = lua_tointeger(L, -1);
  lua_pop(L, 1);
  return n;
}

/* t:pad({ { before, after }, ... } [, value]): one pair for each dimension, those left out are not padded */
static int tensor_pad(lua_State *L) {
  ckpt_error err;
  int64_t before[CKPT_MAX_DIMS] = {0}, after[CKPT_MAX_DIMS] = {0};
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  luaL_argcheck(L, lua_rawlen(L, 2) <= (lua_Unsigned)ckpt_tensor_ndim(t), 2, "more pairs than dimensions");
  for (int i = 0; i < (int)lua_rawlen(L, 2); i++) {
    lua_rawgeti(L, 2, i + 1);
    luaL_argcheck(L, lua_istable(L, -1), 2, "every entry is a pair { before, after }");
    before[i] = check_amount(L, lua_gettop(L), 1);
    after[i] = check_amount(L, lua_gettop(L), 2);
    lua_pop(L, 1);
  }
  ckpt_scalar value = lua_isnoneornil(L, 3) ? ckpt_scalar_int(0) : ckpt_lua_check_scalar(L, 3, 3);
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_tensor_pad(made, t, before, after, value, &err), made, &err);
}

/* t:scale(x) */
static int tensor_scale(lua_State *L) {
  ckpt_error err;
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  ckpt_scalar factor = ckpt_lua_check_scalar(L, 2, 2);
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_tensor_scale(made, t, factor, &err), made, &err);
}

/* t:add(u | x) */
static int tensor_add(lua_State *L) {
  ckpt_error err;
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  if (lua_isuserdata(L, 2)) {
    const ckpt_tensor *u = ckpt_lua_check_tensor(L, 2);
    ckpt_tensor **sum = ckpt_lua_tensor_box(L);
    return ckpt_lua_tensor_made(L, ckpt_tensor_add(sum, t, u, &err), sum, &err);
  }
  ckpt_scalar number = ckpt_lua_check_scalar(L, 2, 2);
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_tensor_add_number(made, t, number, &err), made, &err);
}

/* ---- joining ---- */

/* The tensors of a list, borrowed from it; all of them stay in the list while C works. */
static const ckpt_tensor **check_tensors(lua_State *L, int arg, size_t *n) {
  luaL_checktype(L, arg, LUA_TTABLE);
  luaL_argcheck(L, lua_rawlen(L, arg) >= 1 && lua_rawlen(L, arg) <= MAX_LIST, arg, "a list of tensors is expected");
  *n = (size_t)lua_rawlen(L, arg);
  const ckpt_tensor **list = lua_newuserdatauv(L, *n * sizeof(ckpt_tensor *), 0);
  for (size_t i = 0; i < *n; i++) {
    lua_rawgeti(L, arg, (lua_Integer)i + 1);
    luaL_argcheck(L, luaL_testudata(L, -1, CKPT_T_TENSOR) != NULL, arg, "every entry is a tensor");
    list[i] = ckpt_lua_check_tensor(L, -1);
    lua_pop(L, 1);
  }
  return list;
}

/* ckpt.cat(list [, dim]) */
int ckpt_lua_cat(lua_State *L) {
  ckpt_error err;
  size_t n;
  lua_settop(L, 2);
  const ckpt_tensor **list = check_tensors(L, 1, &n);
  int dim = opt_dim(L, 2, ckpt_tensor_ndim(list[0]), 0);
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_tensor_cat(made, n, list, dim, &err), made, &err);
}

/* ckpt.stack(list [, dim]): the new dimension is dimension dim */
int ckpt_lua_stack(lua_State *L) {
  ckpt_error err;
  size_t n;
  lua_settop(L, 2);
  const ckpt_tensor **list = check_tensors(L, 1, &n);
  int dim = opt_dim(L, 2, ckpt_tensor_ndim(list[0]) + 1, 0);
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_tensor_stack(made, n, list, dim, &err), made, &err);
}

/* ckpt.mean(list) */
int ckpt_lua_mean(lua_State *L) {
  ckpt_error err;
  size_t n;
  lua_settop(L, 1);
  const ckpt_tensor **list = check_tensors(L, 1, &n);
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  return ckpt_lua_tensor_made(L, ckpt_tensor_average(made, n, list, &err), made, &err);
}

/* ---- statistics ---- */

static void set_number(lua_State *L, const char *name, double v) {
  if (isnan(v)) return;
  lua_pushnumber(L, v);
  lua_setfield(L, -2, name);
}

static void set_count(lua_State *L, const char *name, int64_t n) {
  lua_pushinteger(L, n);
  lua_setfield(L, -2, name);
}

/* t:stats() -> { min, max, mean, std (nil where there is none), count, zeros, nan, inf, nonfinite } */
static int tensor_stats(lua_State *L) {
  ckpt_error err;
  ckpt_stats s;
  if (ckpt_tensor_stats(&s, ckpt_lua_check_tensor(L, 1), &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_createtable(L, 0, 9);
  set_number(L, "min", s.min);
  set_number(L, "max", s.max);
  set_number(L, "mean", s.mean);
  set_number(L, "std", s.std);
  set_count(L, "count", s.count);
  set_count(L, "zeros", s.zeros);
  set_count(L, "nan", s.nan);
  set_count(L, "inf", s.infinite);
  set_count(L, "nonfinite", s.nan + s.infinite);
  return 1;
}

void ckpt_lua_tensor_ops(lua_State *L) {
  static const luaL_Reg methods[] = {{"select", tensor_select},
                                     {"slice", tensor_slice},
                                     {"permute", tensor_permute},
                                     {"transpose", tensor_transpose},
                                     {"reshape", tensor_reshape},
                                     {"flatten", tensor_flatten},
                                     {"squeeze", tensor_squeeze},
                                     {"unsqueeze", tensor_unsqueeze},
                                     {"expand", tensor_expand},
                                     {"split", tensor_split},
                                     {"chunk", tensor_chunk},
                                     {"to", tensor_to},
                                     {"contiguous", tensor_contiguous},
                                     {"index_select", tensor_index_select},
                                     {"flip", tensor_flip},
                                     {"roll", tensor_roll},
                                     {"pad", tensor_pad},
                                     {"scale", tensor_scale},
                                     {"add", tensor_add},
                                     {"stats", tensor_stats},
                                     {NULL, NULL}};
  luaL_setfuncs(L, methods, 0);
}
