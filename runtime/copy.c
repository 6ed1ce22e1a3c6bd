/*
 * copy.c - ckpt_tensor_copy: the logical contents of one tensor, cast, into another.
 */
#include <stdlib.h>

#include "cast.h"
#include "tensor.h"

bool ckpt_tensor_same_shape(const ckpt_tensor *a, const ckpt_tensor *b) {
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
  if (!ckpt_tensor_same_shape(dst, src))
    return ckpt_fail(err, CKPT_E_SHAPE, -1, "source and destination have different shapes");
  CKPT_TRY(ckpt_cast_check(to, from, err));
  return ckpt_tensor_check_writable(dst, err);
}

void ckpt_tensor_cast_into(unsigned char *to, ckpt_dtype to_dtype, const ckpt_tensor *src, const void *from) {
  unsigned char buffer[1 << 14];
  ckpt_dtype from_dtype = ckpt_tensor_dtype(src);
  if (to_dtype == from_dtype) {
    ckpt_tensor_gather(to, src, from, 0, ckpt_tensor_numel(src));
    return;
  }
  int64_t n = ckpt_tensor_numel(src), step = (int64_t)(sizeof buffer / ckpt_dtype_size(from_dtype));
  for (int64_t at = 0; at < n; at += step) {
    int64_t count = n - at < step ? n - at : step;
    ckpt_tensor_gather(buffer, src, from, at, count);
    ckpt_cast_run(to + (size_t)at * ckpt_dtype_size(to_dtype), to_dtype, buffer, from_dtype, (size_t)count);
  }
}

ckpt_status ckpt_tensor_copy(ckpt_tensor *dst, const ckpt_tensor *src, ckpt_error *err) {
  const void *from, *to;
  void *owned;
  CKPT_TRY(check_copy(dst, src, err));
  CKPT_TRY(ckpt_tensor_check_packed(src, err));
  CKPT_TRY(ckpt_tensor_data(&to, dst, err));
  CKPT_TRY(ckpt_tensor_read(&from, &owned, src, err));
  unsigned char *writable = (unsigned char *)(uintptr_t)to; /* check_copy saw that it is */
  if (ckpt_tensor_numel(src) > 0) ckpt_tensor_cast_into(writable, ckpt_tensor_dtype(dst), src, from);
  free(owned);
  return CKPT_OK;
}
