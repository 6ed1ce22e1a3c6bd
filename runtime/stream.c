/* stream.c - see stream.h. */
#include "stream.h"

#include <stdlib.h>

enum { BLOCK = 1 << 20, COMPUTED = 16 << 20 /* strided sources are read once for each of these blocks */ };

/* ---- storages ---- */

static ckpt_status pass(ckpt_sink *to, ckpt_storage *s, const unsigned char *data, size_t n, ckpt_error *err) {
  for (size_t at = 0, k; at < n; at += k) {
    k = n - at < BLOCK ? n - at : BLOCK;
    CKPT_TRY(to->write(to, data + at, k, err));
    ckpt_storage_used(s, k);
  }
  return CKPT_OK;
}

static ckpt_status pass_ranges(ckpt_sink *to, ckpt_storage *s, size_t at, size_t n, unsigned char *buffer, size_t size,
                               ckpt_error *err) {
  size_t end = at + n, done = 0;
  for (; at < end; at += done) {
    CKPT_TRY(ckpt_storage_range(buffer, &done, s, at, end - at < size ? end - at : size, err));
    CKPT_TRY(to->write(to, buffer, done, err));
  }
  return CKPT_OK;
}

static ckpt_status stream_ranges(ckpt_sink *to, ckpt_storage *s, size_t at, size_t n, ckpt_error *err) {
  size_t size = n < COMPUTED ? n : COMPUTED;
  unsigned char *buffer = malloc(size);
  if (buffer == NULL) return ckpt_fail_nomem(err, size);
  ckpt_status st = pass_ranges(to, s, at, n, buffer, size, err);
  free(buffer);
  return st;
}

/* Of many parts each would cost the whole: then it is kept. */
static ckpt_status stream_whole(ckpt_sink *to, ckpt_storage *s, size_t at, size_t n, ckpt_error *err) {
  const unsigned char *data = NULL;
  unsigned char *kept = NULL;
  void *owned = NULL;
  bool part = n < ckpt_storage_size(s) / 2;
  CKPT_TRY(part ? ckpt_storage_data(&kept, s, err) : ckpt_storage_read(&data, &owned, s, err));
  ckpt_status st = pass(to, s, (part ? kept : data) + at, n, err);
  free(owned);
  return st;
}

ckpt_status ckpt_storage_stream(ckpt_sink *to, ckpt_storage *s, size_t at, size_t n, ckpt_error *err) {
  if (n == 0) return CKPT_OK;
  bool computed = !ckpt_storage_lies(s) && ckpt_storage_streams(s);
  return computed ? stream_ranges(to, s, at, n, err) : stream_whole(to, s, at, n, err);
}

/* ---- tensors ---- */

/* What lies in memory of the program's own may change until it is written: it is gathered, not computed later. */
static ckpt_status gather_blocks(ckpt_sink *to, const ckpt_tensor *t, ckpt_error *err) {
  const void *data = NULL;
  CKPT_TRY(ckpt_tensor_data(&data, t, err));
  unsigned char *buffer = malloc(BLOCK);
  if (buffer == NULL) return ckpt_fail_nomem(err, BLOCK);
  size_t size = ckpt_dtype_size(ckpt_tensor_dtype(t));
  int64_t numel = ckpt_tensor_numel(t), step = (int64_t)(BLOCK / size);
  ckpt_status st = CKPT_OK;
  for (int64_t at = 0; st == CKPT_OK && at < numel; at += step) {
    int64_t n = numel - at < step ? numel - at : step;
    ckpt_tensor_gather(buffer, t, data, at, n);
    st = to->write(to, buffer, (size_t)n * size, err);
  }
  free(buffer);
  return st;
}

static ckpt_status stream_direct(ckpt_sink *to, const ckpt_tensor *t, ckpt_error *err) {
  size_t per = (size_t)ckpt_dtype_per_byte(ckpt_tensor_dtype(t)), size = ckpt_dtype_size(ckpt_tensor_dtype(t));
  return ckpt_storage_stream(to, ckpt_tensor_storage(t), (size_t)ckpt_tensor_offset(t) / per * size,
                             ckpt_tensor_nbytes(t), err);
}

ckpt_status ckpt_tensor_stream(ckpt_sink *to, const ckpt_tensor *t, ckpt_error *err) {
  ckpt_tensor *contiguous = NULL;
  if (ckpt_tensor_is_meta(t)) return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "a meta tensor has no data");
  if (ckpt_tensor_numel(t) == 0) return CKPT_OK;
  if (ckpt_tensor_is_contiguous(t) && !ckpt_tensor_conj(t) && !ckpt_tensor_neg(t)) return stream_direct(to, t, err);
  if (ckpt_storage_is_writable(ckpt_tensor_storage(t))) return gather_blocks(to, t, err);
  CKPT_TRY(ckpt_tensor_contiguous(&contiguous, t, err));
  ckpt_status st = stream_direct(to, contiguous, err);
  ckpt_tensor_release(contiguous);
  return st;
}
