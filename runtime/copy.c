/*
 * copy.c - ckpt_tensor_copy: the logical contents of one tensor, cast, into another.
 */
#include <stdlib.h>

#include "cast.h"
#include "strided.h"
#include "tensor.h"

bool ckpt_tensor_same_shape(const ckpt_tensor *a, const ckpt_tensor *b) {
  int n = ckpt_tensor_ndim(a);
  return n == ckpt_tensor_ndim(b) &&
         (n == 0 || memcmp(ckpt_tensor_shape(a), ckpt_tensor_shape(b), (size_t)n * sizeof(int64_t)) == 0);
}

static bool is_plain(const ckpt_tensor *t) { return !ckpt_tensor_conj(t) && !ckpt_tensor_neg(t); }

ckpt_status ckpt_tensor_check_writable(const ckpt_tensor *t, ckpt_error *err) {
  if (ckpt_tensor_is_meta(t) || !ckpt_storage_is_writable(ckpt_tensor_storage(t)))
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "the destination tensor is read-only");
  if (!ckpt_tensor_is_contiguous(t) || !is_plain(t))
    return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "the destination tensor is not contiguous");
  return CKPT_OK;
}

/* A view can be copied into, but for one that has several elements in one place. */
static ckpt_status check_destination(const ckpt_tensor *t, ckpt_error *err) {
  bool expanded = false;
  for (int i = 0; i < ckpt_tensor_ndim(t); i++)
    expanded |= ckpt_tensor_shape(t)[i] > 1 && ckpt_tensor_stride(t)[i] == 0;
  if (ckpt_tensor_is_meta(t) || !ckpt_storage_is_writable(ckpt_tensor_storage(t)))
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "the destination tensor is read-only");
  if (expanded)
    return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "several elements of the destination tensor lie in one place");
  return is_plain(t) && ckpt_dtype_per_byte(ckpt_tensor_dtype(t)) == 1 ? CKPT_OK : ckpt_tensor_check_writable(t, err);
}

static ckpt_status check_copy(const ckpt_tensor *dst, const ckpt_tensor *src, ckpt_error *err) {
  ckpt_dtype to = ckpt_tensor_dtype(dst), from = ckpt_tensor_dtype(src);
  if (!ckpt_tensor_same_shape(dst, src))
    return ckpt_fail(err, CKPT_E_SHAPE, -1, "source and destination have different shapes");
  CKPT_TRY(ckpt_cast_check(to, from, err));
  return check_destination(dst, err);
}

void ckpt_tensor_cast_range(unsigned char *to, ckpt_dtype to_dtype, const ckpt_tensor *src, const void *from,
                            int64_t start, int64_t count) {
  unsigned char buffer[1 << 14];
  ckpt_dtype from_dtype = ckpt_tensor_dtype(src);
  if (to_dtype == from_dtype && to_dtype != CKPT_BOOL) { /* a file's bools may be any bytes, a program's are 0 and 1 */
    ckpt_tensor_gather(to, src, from, start, count);
    return;
  }
  int64_t step = (int64_t)(sizeof buffer / ckpt_dtype_size(from_dtype));
  for (int64_t at = 0; at < count; at += step) {
    int64_t n = count - at < step ? count - at : step;
    ckpt_tensor_gather(buffer, src, from, start + at, n);
    ckpt_cast_run(to + (size_t)at * ckpt_dtype_size(to_dtype), to_dtype, buffer, from_dtype, (size_t)n);
  }
}

void ckpt_tensor_cast_into(unsigned char *to, ckpt_dtype to_dtype, const ckpt_tensor *src, const void *from) {
  ckpt_tensor_cast_range(to, to_dtype, src, from, 0, ckpt_tensor_numel(src));
}

/* By way of memory of its own: into a strided view, or where the two may overlap. */
static ckpt_status copy_around(unsigned char *to, const ckpt_tensor *dst, const ckpt_tensor *src, const void *from,
                               ckpt_error *err) {
  int64_t rows[CKPT_MAX_DIMS];
  unsigned char *buffer = malloc(ckpt_tensor_nbytes(dst));
  if (buffer == NULL) return ckpt_fail_nomem(err, ckpt_tensor_nbytes(dst));
  ckpt_tensor_cast_into(buffer, ckpt_tensor_dtype(dst), src, from);
  ckpt_strided_rows(rows, ckpt_tensor_ndim(dst), ckpt_tensor_shape(dst));
  ckpt_strided_copy(to, ckpt_tensor_stride(dst), (ckpt_region){buffer, rows}, ckpt_tensor_ndim(dst),
                    ckpt_tensor_shape(dst), ckpt_dtype_size(ckpt_tensor_dtype(dst)));
  free(buffer);
  return CKPT_OK;
}

static ckpt_status copy_data(unsigned char *to, const ckpt_tensor *dst, const ckpt_tensor *src, const void *from,
                             ckpt_error *err) {
  bool packed = ckpt_dtype_per_byte(ckpt_tensor_dtype(dst)) > 1;
  if (!packed && (!ckpt_tensor_is_contiguous(dst) || ckpt_tensor_shares_storage(dst, src)))
    return copy_around(to, dst, src, from, err);
  ckpt_tensor_cast_into(to, ckpt_tensor_dtype(dst), src, from);
  return CKPT_OK;
}

ckpt_status ckpt_tensor_copy(ckpt_tensor *dst, const ckpt_tensor *src, ckpt_error *err) {
  const void *from, *to;
  void *owned;
  CKPT_TRY(check_copy(dst, src, err));
  CKPT_TRY(ckpt_tensor_check_packed(src, err));
  CKPT_TRY(ckpt_tensor_data(&to, dst, err));
  CKPT_TRY(ckpt_tensor_read(&from, &owned, src, err));
  unsigned char *writable = (unsigned char *)(uintptr_t)to; /* check_copy saw that it is */
  ckpt_status st = ckpt_tensor_numel(src) == 0 ? CKPT_OK : copy_data(writable, dst, src, from, err);
  free(owned);
  return st;
}
