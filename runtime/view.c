/* view.c - views: other shapes, strides and offsets over the same storage. */
#include "view.h"

#include <stdio.h>

/* A view in the making: copied from a tensor, changed, made. */
typedef struct sketch {
  int ndim;
  int64_t offset, shape[CKPT_MAX_DIMS], stride[CKPT_MAX_DIMS];
} sketch;

static void copy_dims(int64_t *to, const int64_t *from, int n) {
  if (n > 0) memcpy(to, from, (size_t)n * sizeof *to);
}

static ckpt_status begin(sketch *s, const ckpt_tensor *t, const char *what, ckpt_error *err) {
  CKPT_TRY(ckpt_view_check_packed(t, what, err));
  s->ndim = ckpt_tensor_ndim(t);
  s->offset = ckpt_tensor_offset(t);
  copy_dims(s->shape, ckpt_tensor_shape(t), s->ndim);
  copy_dims(s->stride, ckpt_tensor_stride(t), s->ndim);
  return CKPT_OK;
}

static ckpt_status finish(ckpt_tensor **out, const ckpt_tensor *t, const sketch *s, ckpt_error *err) {
  return ckpt_tensor_view(out, t, s->offset, s->ndim, s->shape, s->stride, err);
}

/* Moves the start by n entries of a dimension; a meta tensor's strides are bounded by nothing. */
static ckpt_status advance(sketch *s, int dim, int64_t n, ckpt_error *err) {
  int64_t by;
  if (ckpt_mul_i64(&by, n, s->stride[dim]) && ckpt_add_i64(&s->offset, s->offset, by)) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_RANGE, -1, "the position of entry %lld does not fit in 63 bits", (long long)n);
}

static void remove_dim(sketch *s, int dim) {
  s->ndim--;
  for (int i = dim; i < s->ndim; i++) {
    s->shape[i] = s->shape[i + 1];
    s->stride[i] = s->stride[i + 1];
  }
}

/* ---- dimensions ---- */

ckpt_status ckpt_view_dim(int *out, int given, int n, ckpt_error *err) {
  if (given < -n || given >= n)
    return ckpt_fail(err, CKPT_E_RANGE, -1, "there is no dimension %d in a tensor of %d", given, n);
  *out = given < 0 ? given + n : given;
  return CKPT_OK;
}

ckpt_status ckpt_view_dims(bool marked[CKPT_MAX_DIMS], const ckpt_tensor *t, int n, const int *dims, ckpt_error *err) {
  for (int i = 0; i < n; i++) {
    int dim = 0;
    CKPT_TRY(ckpt_view_dim(&dim, dims[i], ckpt_tensor_ndim(t), err));
    if (marked[dim]) return ckpt_fail(err, CKPT_E_RANGE, -1, "dimension %d is named twice", dim);
    marked[dim] = true;
  }
  return CKPT_OK;
}

const char *ckpt_view_shape_text(char out[CKPT_SHAPE_TEXT], int ndim, const int64_t *shape) {
  size_t at = 0;
  for (int i = 0; i < ndim && at < CKPT_SHAPE_TEXT; i++)
    at += (size_t)snprintf(out + at, CKPT_SHAPE_TEXT - at, "%s%lld", i == 0 ? "[" : ", ", (long long)shape[i]);
  if (at < CKPT_SHAPE_TEXT) snprintf(out + at, CKPT_SHAPE_TEXT - at, "%s", ndim == 0 ? "[]" : "]");
  return out;
}

ckpt_status ckpt_view_check_packed(const ckpt_tensor *t, const char *what, ckpt_error *err) {
  if (ckpt_dtype_per_byte(ckpt_tensor_dtype(t)) == 1) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "no %s on packed %s", what, ckpt_dtype_name(ckpt_tensor_dtype(t)));
}

/* ---- parts of a dimension ---- */

ckpt_status ckpt_tensor_select(ckpt_tensor **out, const ckpt_tensor *t, int dim, int64_t index, ckpt_error *err) {
  sketch s;
  CKPT_TRY(begin(&s, t, "select", err));
  CKPT_TRY(ckpt_view_dim(&dim, dim, s.ndim, err));
  int64_t size = s.shape[dim];
  if (index < -size || index >= size)
    return ckpt_fail(err, CKPT_E_RANGE, -1, "index %lld is outside dimension %d of size %lld", (long long)index, dim,
                     (long long)size);
  if (ckpt_tensor_numel(t) > 0) CKPT_TRY(advance(&s, dim, index < 0 ? index + size : index, err));
  remove_dim(&s, dim);
  return finish(out, t, &s, err);
}

/* Entries first, first + step, ... of `count`; the last one is inside. */
static ckpt_status narrow(ckpt_tensor **out, const ckpt_tensor *t, int dim, int64_t first, int64_t count, int64_t step,
                          ckpt_error *err) {
  sketch s;
  CKPT_TRY(begin(&s, t, "slice", err));
  s.shape[dim] = count;
  if (ckpt_tensor_numel(t) == 0 || count == 0) return finish(out, t, &s, err); /* its strides may be anything */
  CKPT_TRY(advance(&s, dim, first, err));
  int64_t stride;
  bool fits = ckpt_mul_i64(&stride, s.stride[dim], step);
  if (!fits && count > 1)
    return ckpt_fail(err, CKPT_E_RANGE, -1, "the stride of dimension %d does not fit in 63 bits", dim);
  if (fits) s.stride[dim] = stride; /* of a single entry it reaches nothing: any will do */
  return finish(out, t, &s, err);
}

ckpt_status ckpt_tensor_slice(ckpt_tensor **out, const ckpt_tensor *t, int dim, int64_t first, int64_t last,
                              int64_t step, ckpt_error *err) {
  CKPT_TRY(ckpt_view_dim(&dim, dim, ckpt_tensor_ndim(t), err));
  int64_t size = ckpt_tensor_shape(t)[dim];
  if (first < 0 || last > size || first > last)
    return ckpt_fail(err, CKPT_E_RANGE, -1, "entries [%lld, %lld) are not inside dimension %d of size %lld",
                     (long long)first, (long long)last, dim, (long long)size);
  if (step < 1) return ckpt_fail(err, CKPT_E_RANGE, -1, "a step of %lld; the least is 1", (long long)step);
  int64_t count = last == first ? 0 : (last - first - 1) / step + 1;
  return narrow(out, t, dim, first, count, step, err);
}

static void release_all(ckpt_tensor **tensors, size_t n) {
  while (n > 0) ckpt_tensor_release(tensors[--n]);
}

static ckpt_status check_sizes(const ckpt_tensor *t, size_t n, const int64_t *sizes, int dim, ckpt_error *err) {
  int64_t size = ckpt_tensor_shape(t)[dim], sum = 0;
  for (size_t i = 0; i < n; i++) {
    if (sizes[i] < 0) return ckpt_fail(err, CKPT_E_RANGE, -1, "size %lld is negative", (long long)sizes[i]);
    if (!ckpt_add_i64(&sum, sum, sizes[i])) sum = INT64_MAX;
  }
  if (sum == size) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_SHAPE, -1, "the sizes add up to %lld, the dimension has %lld entries", (long long)sum,
                   (long long)size);
}

ckpt_status ckpt_tensor_split(ckpt_tensor **out, const ckpt_tensor *t, size_t n, const int64_t *sizes, int dim,
                              ckpt_error *err) {
  int64_t first = 0;
  CKPT_TRY(ckpt_view_dim(&dim, dim, ckpt_tensor_ndim(t), err));
  CKPT_TRY(check_sizes(t, n, sizes, dim, err));
  for (size_t i = 0; i < n; first += sizes[i++]) {
    ckpt_status st = narrow(&out[i], t, dim, first, sizes[i], 1, err);
    if (st == CKPT_OK) continue;
    release_all(out, i);
    return st;
  }
  return CKPT_OK;
}

ckpt_status ckpt_tensor_chunk(ckpt_tensor **out, size_t *made, const ckpt_tensor *t, size_t n, int dim,
                              ckpt_error *err) {
  CKPT_TRY(ckpt_view_dim(&dim, dim, ckpt_tensor_ndim(t), err));
  if (n < 1 || n > INT64_MAX) return ckpt_fail(err, CKPT_E_RANGE, -1, "a tensor has 1 chunk or more, not %zu", n);
  int64_t size = ckpt_tensor_shape(t)[dim], each = size == 0 ? 0 : (size - 1) / (int64_t)n + 1, first = 0;
  size_t count = size == 0 ? n : 0; /* of nothing there are n times nothing, as in PyTorch */
  if (size > 0) count = (size_t)((size - 1) / each + 1);
  for (size_t i = 0; i < count; i++, first += each) {
    ckpt_status st = narrow(&out[i], t, dim, first, size - first < each ? size - first : each, 1, err);
    if (st == CKPT_OK) continue;
    release_all(out, i);
    return st;
  }
  *made = count;
  return CKPT_OK;
}

/* ---- order of dimensions ---- */

ckpt_status ckpt_tensor_permute(ckpt_tensor **out, const ckpt_tensor *t, const int *dims, ckpt_error *err) {
  sketch s;
  bool marked[CKPT_MAX_DIMS] = {false};
  CKPT_TRY(begin(&s, t, "permute", err));
  CKPT_TRY(ckpt_view_dims(marked, t, s.ndim, dims, err));
  for (int i = 0; i < s.ndim; i++) {
    int from = dims[i] < 0 ? dims[i] + s.ndim : dims[i];
    s.shape[i] = ckpt_tensor_shape(t)[from];
    s.stride[i] = ckpt_tensor_stride(t)[from];
  }
  return finish(out, t, &s, err);
}

ckpt_status ckpt_tensor_transpose(ckpt_tensor **out, const ckpt_tensor *t, int a, int b, ckpt_error *err) {
  sketch s;
  CKPT_TRY(begin(&s, t, "transpose", err));
  CKPT_TRY(ckpt_view_dim(&a, a, s.ndim, err));
  CKPT_TRY(ckpt_view_dim(&b, b, s.ndim, err));
  s.shape[a] = ckpt_tensor_shape(t)[b];
  s.stride[a] = ckpt_tensor_stride(t)[b];
  s.shape[b] = ckpt_tensor_shape(t)[a];
  s.stride[b] = ckpt_tensor_stride(t)[a];
  return finish(out, t, &s, err);
}

/* ---- dimensions of size 1 ---- */

ckpt_status ckpt_tensor_squeeze(ckpt_tensor **out, const ckpt_tensor *t, int n, const int *dims, ckpt_error *err) {
  sketch s;
  bool marked[CKPT_MAX_DIMS] = {false};
  CKPT_TRY(begin(&s, t, "squeeze", err));
  CKPT_TRY(ckpt_view_dims(marked, t, n, dims, err));
  s.ndim = 0;
  for (int i = 0; i < ckpt_tensor_ndim(t); i++) {
    if (ckpt_tensor_shape(t)[i] == 1 && (n == 0 || marked[i])) continue;
    s.shape[s.ndim] = ckpt_tensor_shape(t)[i];
    s.stride[s.ndim++] = ckpt_tensor_stride(t)[i];
  }
  return finish(out, t, &s, err);
}

ckpt_status ckpt_tensor_unsqueeze(ckpt_tensor **out, const ckpt_tensor *t, int dim, ckpt_error *err) {
  sketch s;
  CKPT_TRY(begin(&s, t, "unsqueeze", err));
  CKPT_TRY(ckpt_view_dim(&dim, dim, s.ndim + 1, err));
  if (s.ndim == CKPT_MAX_DIMS)
    return ckpt_fail(err, CKPT_E_LIMIT, -1, "%d dimensions; at most %d are supported", s.ndim + 1, CKPT_MAX_DIMS);
  for (int i = s.ndim; i > dim; i--) {
    s.shape[i] = s.shape[i - 1];
    s.stride[i] = s.stride[i - 1];
  }
  bool last = dim == s.ndim++;
  int64_t run = 1;
  if (!last && !ckpt_mul_i64(&run, s.shape[dim + 1], s.stride[dim + 1])) run = 1;
  s.shape[dim] = 1;
  s.stride[dim] = run; /* PyTorch's: as if the dimension went on */
  return finish(out, t, &s, err);
}

static bool expand_dim(sketch *s, int i, const ckpt_tensor *t, int from) {
  int64_t have = from < 0 ? 1 : ckpt_tensor_shape(t)[from], want = s->shape[i];
  if (want == -1 && from >= 0) want = have;
  if (want < 0 || (have != 1 && have != want)) return false;
  s->shape[i] = want;
  s->stride[i] = have == want && from >= 0 ? ckpt_tensor_stride(t)[from] : 0;
  return true;
}

ckpt_status ckpt_tensor_expand(ckpt_tensor **out, const ckpt_tensor *t, int ndim, const int64_t *shape,
                               ckpt_error *err) {
  sketch s;
  char have[CKPT_SHAPE_TEXT], want[CKPT_SHAPE_TEXT];
  int old = ckpt_tensor_ndim(t);
  CKPT_TRY(begin(&s, t, "expand", err));
  bool fits = ndim >= old && ndim <= CKPT_MAX_DIMS;
  s.ndim = ndim;
  if (fits) copy_dims(s.shape, shape, ndim);
  for (int i = 0; fits && i < ndim; i++) fits = expand_dim(&s, i, t, i - (ndim - old));
  if (fits) return finish(out, t, &s, err);
  return ckpt_fail(err, CKPT_E_SHAPE, -1, "shape %s does not expand to %s",
                   ckpt_view_shape_text(have, old, ckpt_tensor_shape(t)), ckpt_view_shape_text(want, ndim, shape));
}

/* ---- reshape ---- */

/* The shape with its -1 filled in; false if the elements do not fill it. */
static bool full_shape(int64_t *out, int64_t numel, int ndim, const int64_t *shape) {
  int64_t known = 1;
  int open = -1;
  for (int i = 0; i < ndim; i++) {
    out[i] = shape[i];
    if (shape[i] == -1 && open < 0)
      open = i;
    else if (shape[i] < 0 || !ckpt_mul_i64(&known, known, shape[i]))
      return false;
  }
  if (open < 0) return known == numel;
  if (known == 0 || numel % known != 0) return false;
  out[open] = numel / known;
  return true;
}

static bool runs_on(int64_t stride, int64_t run, int64_t base) {
  int64_t end;
  return ckpt_mul_i64(&end, run, base) && stride == end;
}

/*
 * Strides of the same elements under `shape`, as PyTorch's computeStride finds them: runs of old dimensions that lie
 * one after another in memory are cut into new ones from the end; false if a new dimension goes over the end of a run.
 */
static bool restride(sketch *s, const ckpt_tensor *t) {
  const int64_t *old = ckpt_tensor_shape(t), *stride = ckpt_tensor_stride(t);
  int n = ckpt_tensor_ndim(t), i = s->ndim - 1;
  int64_t base = n > 0 ? stride[n - 1] : 1, run = 1, cut = 1;
  for (int d = n - 1; d >= 0; d--) {
    run *= old[d];
    if (d > 0 && (old[d - 1] == 1 || runs_on(stride[d - 1], run, base))) continue;
    for (; i >= 0 && (cut < run || s->shape[i] == 1); i--) {
      if (!ckpt_mul_i64(&s->stride[i], cut, base)) return false;
      cut *= s->shape[i];
    }
    if (cut != run) return false;
    if (d > 0) base = stride[d - 1];
    run = cut = 1;
  }
  for (; i >= 0; i--) s->stride[i] = 1; /* of a tensor without dimensions */
  return true;
}

ckpt_status ckpt_tensor_reshape(ckpt_tensor **out, const ckpt_tensor *t, int ndim, const int64_t *shape,
                                ckpt_error *err) {
  sketch s;
  CKPT_TRY(begin(&s, t, "reshape", err));
  if (ndim < 0 || ndim > CKPT_MAX_DIMS)
    return ckpt_fail(err, CKPT_E_LIMIT, -1, "%d dimensions; at most %d are supported", ndim, CKPT_MAX_DIMS);
  if (!full_shape(s.shape, ckpt_tensor_numel(t), ndim, shape)) {
    char have[CKPT_SHAPE_TEXT], want[CKPT_SHAPE_TEXT];
    return ckpt_fail(err, CKPT_E_SHAPE, -1, "shape %s cannot become %s",
                     ckpt_view_shape_text(have, ckpt_tensor_ndim(t), ckpt_tensor_shape(t)),
                     ckpt_view_shape_text(want, ndim, shape));
  }
  s.ndim = ndim;
  if (ckpt_tensor_numel(t) == 0) return ckpt_tensor_view(out, t, s.offset, ndim, s.shape, NULL, err);
  if (restride(&s, t)) return finish(out, t, &s, err);
  ckpt_tensor *copy = NULL;
  CKPT_TRY(ckpt_tensor_contiguous(&copy, t, err));
  ckpt_status st = ckpt_tensor_view(out, copy, 0, ndim, s.shape, NULL, err);
  ckpt_tensor_release(copy);
  return st;
}

ckpt_status ckpt_tensor_flatten(ckpt_tensor **out, const ckpt_tensor *t, int first, int last, ckpt_error *err) {
  int64_t shape[CKPT_MAX_DIMS];
  int ndim = ckpt_tensor_ndim(t), n = 0;
  if (ndim == 0) return ckpt_tensor_reshape(out, t, 1, (const int64_t[]){1}, err);
  CKPT_TRY(ckpt_view_dim(&first, first, ndim, err));
  CKPT_TRY(ckpt_view_dim(&last, last, ndim, err));
  if (first > last) return ckpt_fail(err, CKPT_E_RANGE, -1, "dimension %d comes after dimension %d", first, last);
  for (int i = 0; i < ndim; i++) {
    if (i <= first || i > last)
      shape[n++] = ckpt_tensor_shape(t)[i];
    else if (!ckpt_mul_i64(&shape[n - 1], shape[n - 1], ckpt_tensor_shape(t)[i]))
      shape[n - 1] = 0; /* of an empty tensor only */
  }
  return ckpt_tensor_reshape(out, t, n, shape, err);
}
