/*
 * copy.c - the tensor operations that move data: copy with cast, and index_select.
 */
#include "cast.h"
#include "tensor.h"

static bool same_shape(const ckpt_tensor *a, const ckpt_tensor *b) {
  int n = ckpt_tensor_ndim(a);
  return n == ckpt_tensor_ndim(b) &&
         (n == 0 || memcmp(ckpt_tensor_shape(a), ckpt_tensor_shape(b), (size_t)n * sizeof(int64_t)) == 0);
}

ckpt_status ckpt_tensor_check_writable(const ckpt_tensor *t, ckpt_error *err) {
  if (ckpt_tensor_is_meta(t) || !ckpt_storage_is_writable(ckpt_tensor_storage(t)))
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "the destination tensor is read-only");
  if (!ckpt_tensor_is_contiguous(t) || ckpt_tensor_conj(t) || ckpt_tensor_neg(t))
    return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "the destination tensor is not contiguous");
  return CKPT_OK;
}

static ckpt_status check_copy(const ckpt_tensor *dst, const ckpt_tensor *src, ckpt_error *err) {
  ckpt_dtype to = ckpt_tensor_dtype(dst), from = ckpt_tensor_dtype(src);
  if (!same_shape(dst, src)) return ckpt_fail(err, CKPT_E_SHAPE, -1, "source and destination have different shapes");
  if (to != from && !ckpt_cast_supported(to, from))
    return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "no cast from %s to %s", ckpt_dtype_name(from), ckpt_dtype_name(to));
  return ckpt_tensor_check_writable(dst, err);
}

/* Casts block by block through a buffer on the stack. */
static void copy_cast(unsigned char *to, const ckpt_tensor *dst, const ckpt_tensor *src, const void *from) {
  unsigned char buffer[1 << 14];
  ckpt_dtype to_dtype = ckpt_tensor_dtype(dst), from_dtype = ckpt_tensor_dtype(src);
  int64_t n = ckpt_tensor_numel(src), step = (int64_t)(sizeof buffer / ckpt_dtype_size(from_dtype));
  for (int64_t at = 0; at < n; at += step) {
    int64_t count = n - at < step ? n - at : step;
    ckpt_tensor_gather(buffer, src, from, at, count);
    ckpt_cast_run(to + (size_t)at * ckpt_dtype_size(to_dtype), to_dtype, buffer, from_dtype, (size_t)count);
  }
}

ckpt_status ckpt_tensor_copy(ckpt_tensor *dst, const ckpt_tensor *src, ckpt_error *err) {
  const void *from, *to;
  CKPT_TRY(check_copy(dst, src, err));
  CKPT_TRY(ckpt_tensor_check_packed(src, err));
  CKPT_TRY(ckpt_tensor_data(&from, src, err));
  CKPT_TRY(ckpt_tensor_data(&to, dst, err));
  if (ckpt_tensor_numel(src) == 0) return CKPT_OK;
  unsigned char *writable = (unsigned char *)(uintptr_t)to; /* check_copy saw that it is */
  bool as_is = ckpt_tensor_dtype(dst) == ckpt_tensor_dtype(src) && ckpt_tensor_dtype(src) != CKPT_BOOL;
  if (as_is) /* a file's bools may be any bytes, a program's are 0 and 1 */
    ckpt_tensor_gather(writable, src, from, 0, ckpt_tensor_numel(src));
  else
    copy_cast(writable, dst, src, from);
  return CKPT_OK;
}

/* ---- index_select ---- */

static ckpt_status check_index(int *dim, const ckpt_tensor *t, size_t n, const int64_t *index, ckpt_error *err) {
  int ndim = ckpt_tensor_ndim(t), given = *dim;
  if (*dim < 0) *dim += ndim;
  if (*dim < 0 || *dim >= ndim)
    return ckpt_fail(err, CKPT_E_RANGE, -1, "there is no dimension %d in a tensor of %d", given, ndim);
  if (ckpt_dtype_per_byte(ckpt_tensor_dtype(t)) > 1)
    return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "no index_select on packed %s",
                     ckpt_dtype_name(ckpt_tensor_dtype(t)));
  int64_t size = ckpt_tensor_shape(t)[*dim];
  for (size_t i = 0; i < n; i++)
    if (index[i] < 0 || index[i] >= size)
      return ckpt_fail(err, CKPT_E_RANGE, -1, "index %lld is outside dimension %d of size %lld", (long long)index[i],
                       *dim, (long long)size);
  return CKPT_OK;
}

/* Seen as [outer, size, inner]: for each outer, the n chosen runs of `inner` elements. */
static void select_runs(unsigned char *to, const ckpt_tensor *t, const void *from, int dim, size_t n,
                        const int64_t *index) {
  const int64_t *shape = ckpt_tensor_shape(t);
  int64_t outer = 1, inner = 1;
  for (int i = 0; i < dim; i++) outer *= shape[i];
  for (int i = dim + 1; i < ckpt_tensor_ndim(t); i++) inner *= shape[i];
  size_t bytes = (size_t)inner * ckpt_dtype_size(ckpt_tensor_dtype(t));
  for (int64_t o = 0; o < outer; o++)
    for (size_t i = 0; i < n; i++, to += bytes)
      ckpt_tensor_gather(to, t, from, (o * shape[dim] + index[i]) * inner, inner);
}

ckpt_status ckpt_tensor_index_select(ckpt_tensor **out, const ckpt_tensor *t, int dim, size_t n, const int64_t *index,
                                     ckpt_error *err) {
  CKPT_TRY(check_index(&dim, t, n, index, err));
  CKPT_TRY(ckpt_tensor_check_spread(t, err));
  int64_t shape[CKPT_MAX_DIMS];
  memcpy(shape, ckpt_tensor_shape(t), (size_t)ckpt_tensor_ndim(t) * sizeof(int64_t));
  if (n > INT64_MAX) return ckpt_fail(err, CKPT_E_RANGE, -1, "too many indices");
  shape[dim] = (int64_t)n;
  if (ckpt_tensor_is_meta(t)) return ckpt_tensor_meta(out, ckpt_tensor_dtype(t), ckpt_tensor_ndim(t), shape, err);
  const void *from, *to;
  ckpt_tensor *made = NULL;
  CKPT_TRY(ckpt_tensor_data(&from, t, err));
  CKPT_TRY(ckpt_tensor_new(&made, ckpt_tensor_dtype(t), ckpt_tensor_ndim(t), shape, err));
  if (ckpt_tensor_numel(made) > 0 && ckpt_tensor_data(&to, made, err) == CKPT_OK)
    select_runs((unsigned char *)(uintptr_t)to, t, from, dim, n, index);
  *out = made;
  return CKPT_OK;
}
