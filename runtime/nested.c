/* nested.c - nested (ragged) strided tensors: the rows of a table of sizes, strides and offsets are views of a buffer.
 */
#include "sparse.h"

typedef struct nested {
  ckpt_tensor *buffer, *sizes, *strides; /* borrowed */
  const ckpt_value *offsets;             /* a tensor, or a list in PyTorch 1.13 */
  int64_t n;
  int dims;
} nested;

static ckpt_status bad(ckpt_error *err, const char *what) {
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a nested tensor %s", what);
}

static ckpt_tensor *part(const ckpt_value *args, size_t i) {
  const ckpt_value *v = i < args->as.seq.n ? args->as.seq.items[i] : NULL;
  return v != NULL && v->kind == CKPT_TENSOR ? v->as.tensor : NULL;
}

static bool is_table(const ckpt_tensor *t) {
  return t != NULL && ckpt_tensor_dtype(t) == CKPT_I64 && ckpt_tensor_ndim(t) == 2;
}

/* How many offsets there are, -1 if they are none. */
static int64_t count_offsets(const ckpt_value *v) {
  if (v == NULL) return -1;
  if (v->kind == CKPT_LIST || v->kind == CKPT_TUPLE) return (int64_t)v->as.seq.n;
  const ckpt_tensor *t = v->kind == CKPT_TENSOR ? v->as.tensor : NULL;
  bool are = t != NULL && ckpt_tensor_dtype(t) == CKPT_I64 && ckpt_tensor_ndim(t) == 1;
  return are ? ckpt_tensor_numel(t) : -1;
}

/* A row of sizes and one of strides for each offset. Without any the tables are not even integers. */
static ckpt_status read_tables(nested *t, const ckpt_value *args, ckpt_error *err) {
  if (t->n == 0) return CKPT_OK;
  t->sizes = part(args, 1);
  t->strides = part(args, 2);
  if (!is_table(t->sizes) || !is_table(t->strides)) return bad(err, "whose sizes and strides are no tables");
  const int64_t *shape = ckpt_tensor_shape(t->sizes);
  if (shape[0] != t->n || memcmp(shape, ckpt_tensor_shape(t->strides), 2 * sizeof *shape) != 0)
    return bad(err, "whose sizes, strides and offsets differ in number");
  if (shape[1] > CKPT_MAX_DIMS)
    return ckpt_fail(err, CKPT_E_LIMIT, -1, "a nested tensor of %lld dimensions; at most %d are supported",
                     (long long)shape[1], CKPT_MAX_DIMS);
  t->dims = (int)shape[1];
  return CKPT_OK;
}

static ckpt_status read_nested(nested *out, const ckpt_value *v, ckpt_error *err) {
  if (!ckpt_value_is_nested(v))
    return ckpt_fail(err, CKPT_E_TYPE, -1, "a %s where a nested tensor was expected",
                     ckpt_kind_name(ckpt_value_kind(v)));
  const ckpt_value *args = ckpt_composite_args(v);
  nested t = {.buffer = part(args, 0)};
  if (t.buffer == NULL || args->as.seq.n != 4) return bad(err, "that is not made of a buffer and three tables");
  t.offsets = args->as.seq.items[3];
  t.n = count_offsets(t.offsets);
  if (t.n < 0) return bad(err, "without offsets");
  CKPT_TRY(read_tables(&t, args, err));
  *out = t;
  return CKPT_OK;
}

ckpt_status ckpt_value_nested_count(size_t *out, const ckpt_value *v, ckpt_error *err) {
  nested t = {0};
  CKPT_TRY(read_nested(&t, v, err));
  *out = (size_t)t.n;
  return CKPT_OK;
}

static ckpt_status read_row(int64_t *out, const ckpt_tensor *table, size_t i, int dims, ckpt_error *err) {
  const void *data = NULL;
  CKPT_TRY(ckpt_tensor_data(&data, table, err));
  if (dims > 0) ckpt_tensor_gather(out, table, data, (int64_t)i * dims, dims);
  return CKPT_OK;
}

static ckpt_status read_offset(int64_t *out, const ckpt_value *offsets, size_t i, ckpt_error *err) {
  if (offsets->kind == CKPT_TENSOR) return read_row(out, offsets->as.tensor, i, 1, err);
  if (ckpt_value_int(out, offsets->as.seq.items[i], NULL) == CKPT_OK) return CKPT_OK;
  return bad(err, "whose offsets are no integers");
}

ckpt_status ckpt_value_nested_tensor(ckpt_tensor **out, const ckpt_value *v, size_t i, ckpt_error *err) {
  nested t = {0};
  int64_t shape[CKPT_MAX_DIMS], stride[CKPT_MAX_DIMS], offset = 0;
  CKPT_TRY(read_nested(&t, v, err));
  if (i >= (size_t)t.n)
    return ckpt_fail(err, CKPT_E_RANGE, -1, "there is no tensor %zu in a nested tensor of %lld", i, (long long)t.n);
  CKPT_TRY(read_row(shape, t.sizes, i, t.dims, err));
  CKPT_TRY(read_row(stride, t.strides, i, t.dims, err));
  CKPT_TRY(read_offset(&offset, t.offsets, i, err));
  ckpt_status st = ckpt_tensor_view(out, t.buffer, offset, t.dims, shape, stride, err);
  if (st != CKPT_E_RANGE) return st;
  ckpt_fail_in(err, st, "a nested tensor reaches out of its buffer");
  if (err != NULL) err->status = CKPT_E_CORRUPT;
  return CKPT_E_CORRUPT;
}
