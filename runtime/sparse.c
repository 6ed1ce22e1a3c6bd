/* sparse.c - see sparse.h: the parts of a sparse tensor, and whether they fit together. */
#include "sparse.h"

static ckpt_status bad(ckpt_error *err, const char *what) {
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a sparse tensor %s", what);
}

/* ---- names ---- */

static const char *const layouts[] = {"sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc"};

const char *ckpt_layout_name(ckpt_layout layout) { return layouts[layout]; }

static const ckpt_value *item(const ckpt_value *tuple, size_t i) {
  return i < tuple->as.seq.n ? tuple->as.seq.items[i] : NULL;
}

/* The tensor inside a Parameter; function and arguments inside _rebuild_from_type_v2(function, type, args, state). */
static bool unwrap(const ckpt_value **function, const ckpt_value **args, const ckpt_value *v) {
  enum { MAX_WRAPPERS = 8 };
  for (int i = 0; i < MAX_WRAPPERS && v != NULL && v->kind == CKPT_OBJECT && v->made->how == CKPT_BY_REDUCE; i++) {
    *function = v->made->callable;
    *args = v->made->args;
    if (ckpt_value_is_class(*function, "torch._tensor", "_rebuild_from_type_v2")) {
      *function = item(v->made->args, 0);
      *args = item(v->made->args, 2);
      if (*function == NULL || *args == NULL || (*args)->kind != CKPT_TUPLE) return false;
    }
    bool is_parameter = ckpt_value_is_class(*function, "torch._utils", "_rebuild_parameter") ||
                        ckpt_value_is_class(*function, "torch._utils", "_rebuild_parameter_with_state");
    if (!is_parameter) return true;
    v = item(*args, 0);
  }
  return false;
}

bool ckpt_value_is_sparse(const ckpt_value *v) {
  const ckpt_value *f, *args;
  return unwrap(&f, &args, v) && (ckpt_value_is_class(f, "torch._utils", "_rebuild_sparse_tensor") ||
                                  ckpt_value_is_class(f, "torch._utils", "_rebuild_sparse_csr_tensor"));
}

bool ckpt_value_is_nested(const ckpt_value *v) {
  const ckpt_value *f, *args;
  return unwrap(&f, &args, v) && ckpt_value_is_class(f, "torch._utils", "_rebuild_nested_tensor");
}

const ckpt_value *ckpt_composite_function(const ckpt_value *v) {
  const ckpt_value *f = NULL, *args;
  return unwrap(&f, &args, v) ? f : NULL;
}

const ckpt_value *ckpt_composite_args(const ckpt_value *v) {
  const ckpt_value *f, *args = NULL;
  return unwrap(&f, &args, v) ? args : NULL;
}

/* ---- parts ---- */

/* _get_layout("torch.sparse_coo") */
static ckpt_status read_layout(ckpt_layout *out, const ckpt_value *v, ckpt_error *err) {
  bool made = v != NULL && v->kind == CKPT_OBJECT && v->made->callable != NULL &&
              ckpt_value_is_class(v->made->callable, "torch.serialization", "_get_layout");
  const ckpt_value *name = made ? item(v->made->args, 0) : NULL;
  const char *text = name == NULL || name->kind != CKPT_STR ? "" : name->as.text.bytes;
  for (size_t i = 0; i < CKPT_COUNTOF(layouts); i++)
    if (strncmp(text, "torch.", 6) == 0 && strcmp(text + 6, layouts[i]) == 0) {
      *out = (ckpt_layout)i;
      return CKPT_OK;
    }
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a sparse tensor of unknown layout '%.40s'", text);
}

static ckpt_status read_part(ckpt_tensor **out, const ckpt_value *data, size_t i, const char *what, ckpt_error *err) {
  const ckpt_value *v = item(data, i);
  if (v == NULL || v->kind != CKPT_TENSOR)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a sparse tensor whose %s are no tensor", what);
  *out = v->as.tensor;
  return CKPT_OK;
}

static ckpt_status read_index_part(ckpt_tensor **out, const ckpt_value *data, size_t i, const char *what,
                                   bool int32_too, ckpt_error *err) {
  CKPT_TRY(read_part(out, data, i, what, err));
  ckpt_dtype dtype = ckpt_tensor_dtype(*out);
  if (dtype == CKPT_I64 || (int32_too && dtype == CKPT_I32)) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a sparse tensor whose %s are %s", what, ckpt_dtype_name(dtype));
}

static ckpt_status read_shape(ckpt_sparse *s, const ckpt_value *size, ckpt_error *err) {
  int64_t n = 1;
  if (size == NULL || (size->kind != CKPT_TUPLE && size->kind != CKPT_LIST)) return bad(err, "without a size");
  if (size->as.seq.n > CKPT_MAX_DIMS)
    return ckpt_fail(err, CKPT_E_LIMIT, -1, "a sparse tensor of %zu dimensions; at most %d are supported",
                     size->as.seq.n, CKPT_MAX_DIMS);
  s->ndim = (int)size->as.seq.n;
  for (int i = 0; i < s->ndim; i++) {
    const ckpt_value *one = size->as.seq.items[i];
    if (one->kind != CKPT_INT || one->as.integer < 0) return bad(err, "whose size is no list of sizes");
    s->shape[i] = one->as.integer;
    if (s->shape[i] > 0 && !ckpt_mul_i64(&n, n, s->shape[i]))
      return bad(err, "whose number of elements does not fit in 63 bits");
  }
  return CKPT_OK;
}

/* The last `n` dimensions of the values against those of the shape. */
static bool same_tail(const ckpt_sparse *s, int n) {
  const int64_t *shape = ckpt_tensor_shape(s->values);
  int ndim = ckpt_tensor_ndim(s->values);
  for (int i = 1; i <= n; i++)
    if (shape[ndim - i] != s->shape[s->ndim - i]) return false;
  return true;
}

/* ---- COO ---- */

static ckpt_status read_coo(ckpt_sparse *s, const ckpt_value *data, ckpt_error *err) {
  if (data->as.seq.n < 3 || data->as.seq.n > 4) return bad(err, "that is not made of indices, values and a size");
  CKPT_TRY(read_index_part(&s->indices, data, 0, "indices", false, err));
  CKPT_TRY(read_part(&s->values, data, 1, "values", err));
  CKPT_TRY(read_shape(s, item(data, 2), err));
  const ckpt_value *coalesced = item(data, 3);
  s->coalesced = coalesced != NULL && coalesced->kind == CKPT_BOOLEAN && coalesced->as.boolean;
  if (ckpt_tensor_ndim(s->indices) != 2) return bad(err, "whose indices have not two dimensions");
  int64_t rows = ckpt_tensor_shape(s->indices)[0];
  s->nnz = ckpt_tensor_shape(s->indices)[1];
  if (rows > s->ndim) return bad(err, "with more rows of indices than dimensions");
  s->sparse_ndim = (int)rows;
  s->dense_ndim = s->ndim - s->sparse_ndim;
  bool fits = ckpt_tensor_ndim(s->values) == 1 + s->dense_ndim && ckpt_tensor_shape(s->values)[0] == s->nnz;
  return fits && same_tail(s, s->dense_ndim) ? CKPT_OK : bad(err, "whose values do not fit its indices and its size");
}

/* ---- CSR, CSC, BSR, BSC ---- */

static bool is_blocked(ckpt_layout layout) { return layout == CKPT_SPARSE_BSR || layout == CKPT_SPARSE_BSC; }

void ckpt_sparse_compressed(ckpt_compressed *out, const ckpt_sparse *s) {
  const int64_t *shape = ckpt_tensor_shape(s->values);
  *out = (ckpt_compressed){.batch_ndim = ckpt_tensor_ndim(s->compressed) - 1,
                           .block_ndim = is_blocked(s->layout) ? 2 : 0,
                           .by_rows = s->layout == CKPT_SPARSE_CSR || s->layout == CKPT_SPARSE_BSR,
                           .batches = 1,
                           .blocks = {1, 1}};
  int b = out->batch_ndim;
  for (int i = 0; i < b; i++) out->batches *= s->shape[i];
  for (int i = 0; i < out->block_ndim; i++) out->blocks[i] = shape[b + 1 + i];
  int64_t rows = s->shape[b] / out->blocks[0], columns = s->shape[b + 1] / out->blocks[1];
  out->n_compressed = out->by_rows ? rows : columns;
  out->n_plain = out->by_rows ? columns : rows;
}

static bool same_head(const ckpt_tensor *t, const ckpt_sparse *s, int n) {
  return n == 0 || memcmp(ckpt_tensor_shape(t), s->shape, (size_t)n * sizeof(int64_t)) == 0;
}

/* Dimensions of the parts against each other and the size; then divisions and indexing are safe. */
static ckpt_status check_ndims(const ckpt_sparse *s, int batch, int block, ckpt_error *err) {
  if (batch < 0 || s->dense_ndim < 0 || ckpt_tensor_ndim(s->plain) != batch + 1 ||
      ckpt_tensor_ndim(s->values) != batch + 1 + block + s->dense_ndim)
    return bad(err, "whose parts have dimensions that do not fit its size");
  if (!same_head(s->compressed, s, batch) || !same_head(s->plain, s, batch) || !same_head(s->values, s, batch))
    return bad(err, "whose parts have batches of other sizes");
  for (int i = 0; i < block; i++) {
    int64_t size = ckpt_tensor_shape(s->values)[batch + 1 + i];
    if (size < 1 || s->shape[batch + i] % size != 0) return bad(err, "whose blocks do not divide its size");
  }
  return CKPT_OK;
}

static ckpt_status read_compressed(ckpt_sparse *s, const ckpt_value *data, ckpt_error *err) {
  if (data->as.seq.n != 4) return bad(err, "that is not made of two lists of indices, values and a size");
  CKPT_TRY(read_index_part(&s->compressed, data, 0, "compressed indices", true, err));
  CKPT_TRY(read_index_part(&s->plain, data, 1, "plain indices", true, err));
  CKPT_TRY(read_part(&s->values, data, 2, "values", err));
  CKPT_TRY(read_shape(s, item(data, 3), err));
  int batch = ckpt_tensor_ndim(s->compressed) - 1, block = is_blocked(s->layout) ? 2 : 0;
  s->sparse_ndim = 2;
  s->dense_ndim = s->ndim - batch - 2;
  CKPT_TRY(check_ndims(s, batch, block, err));
  ckpt_compressed c;
  ckpt_sparse_compressed(&c, s);
  s->nnz = ckpt_tensor_shape(s->plain)[batch];
  if (ckpt_tensor_shape(s->values)[batch] != s->nnz || !same_tail(s, s->dense_ndim))
    return bad(err, "whose values do not fit its indices and its size");
  if (ckpt_tensor_shape(s->compressed)[batch] - 1 != c.n_compressed)
    return bad(err, "whose compressed indices do not fit its size");
  return CKPT_OK;
}

ckpt_status ckpt_value_sparse(ckpt_sparse *out, const ckpt_value *v, ckpt_error *err) {
  ckpt_sparse s = {0};
  if (!ckpt_value_is_sparse(v))
    return ckpt_fail(err, CKPT_E_TYPE, -1, "a %s where a sparse tensor was expected",
                     ckpt_kind_name(ckpt_value_kind(v)));
  const ckpt_value *args = ckpt_composite_args(v), *data = item(args, 1);
  CKPT_TRY(read_layout(&s.layout, item(args, 0), err));
  if (data == NULL || data->kind != CKPT_TUPLE) return bad(err, "without its parts");
  CKPT_TRY(s.layout == CKPT_SPARSE_COO ? read_coo(&s, data, err) : read_compressed(&s, data, err));
  *out = s;
  return CKPT_OK;
}

/* ---- indices ---- */

ckpt_status ckpt_sparse_integers(ckpt_tensor **out, const int64_t **numbers, const ckpt_tensor *t, ckpt_error *err) {
  ckpt_tensor *wide = NULL;
  const void *data = NULL;
  CKPT_TRY(ckpt_tensor_check_spread(t, err));
  CKPT_TRY(ckpt_tensor_new(&wide, CKPT_I64, ckpt_tensor_ndim(t), ckpt_tensor_shape(t), err));
  ckpt_status st = ckpt_tensor_copy(wide, t, err);
  if (st == CKPT_OK) st = ckpt_tensor_data(&data, wide, err);
  if (st != CKPT_OK) {
    ckpt_tensor_release(wide);
    return st;
  }
  *out = wide;
  *numbers = data;
  return CKPT_OK;
}

static ckpt_status check_row(const int64_t *row, int64_t n, int64_t dim, int64_t size, ckpt_error *err) {
  for (int64_t i = 0; i < n; i++)
    if (row[i] < 0 || row[i] >= size)
      return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a sparse tensor with index %lld in dimension %lld of size %lld",
                       (long long)row[i], (long long)dim, (long long)size);
  return CKPT_OK;
}

static ckpt_status check_coo(const ckpt_sparse *s, ckpt_error *err) {
  ckpt_tensor *held = NULL;
  const int64_t *indices = NULL;
  ckpt_status st = ckpt_sparse_integers(&held, &indices, s->indices, err);
  for (int64_t k = 0; st == CKPT_OK && k < s->sparse_ndim; k++)
    st = check_row(indices + k * s->nnz, s->nnz, k, s->shape[k], err);
  ckpt_tensor_release(held);
  return st;
}

/* One batch: n + 1 pointers that climb from 0 to nnz, no row longer than there are columns; columns that exist. */
static ckpt_status check_batch(const ckpt_sparse *s, const ckpt_compressed *c, const int64_t *pointers,
                               const int64_t *plain, ckpt_error *err) {
  if (pointers[0] != 0 || pointers[c->n_compressed] != s->nnz)
    return bad(err, "whose compressed indices do not go from 0 to the number of its values");
  for (int64_t i = 0; i < c->n_compressed; i++) {
    if (pointers[i + 1] < pointers[i]) return bad(err, "whose compressed indices go down");
    if (pointers[i + 1] - pointers[i] > c->n_plain)
      return bad(err, "with more values in a row than the row has places");
  }
  for (int64_t i = 0; i < s->nnz; i++)
    if (plain[i] < 0 || plain[i] >= c->n_plain)
      return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a sparse tensor with plain index %lld of %lld", (long long)plain[i],
                       (long long)c->n_plain);
  return CKPT_OK;
}

static ckpt_status check_compressed(const ckpt_sparse *s, ckpt_error *err) {
  ckpt_tensor *held[2] = {NULL, NULL};
  const int64_t *pointers = NULL, *plain = NULL;
  ckpt_compressed c;
  ckpt_sparse_compressed(&c, s);
  ckpt_status st = ckpt_sparse_integers(&held[0], &pointers, s->compressed, err);
  if (st == CKPT_OK) st = ckpt_sparse_integers(&held[1], &plain, s->plain, err);
  for (int64_t b = 0; st == CKPT_OK && b < c.batches; b++)
    st = check_batch(s, &c, pointers + b * (c.n_compressed + 1), plain + b * s->nnz, err);
  ckpt_tensor_release(held[0]);
  ckpt_tensor_release(held[1]);
  return st;
}

ckpt_status ckpt_sparse_check_indices(const ckpt_sparse *s, ckpt_error *err) {
  return s->layout == CKPT_SPARSE_COO ? check_coo(s, err) : check_compressed(s, err);
}
