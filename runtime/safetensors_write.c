/* safetensors_write.c - see safetensors_write.h, and safetensors.h for the layout. */
#include "safetensors_write.h"

#include <stdio.h>
#include <stdlib.h>

#include "json_write.h"
#include "safetensors.h"
#include "stream.h"

/* A float4 tensor counts bytes, the format counts the two values in each. */
static bool is_paired(const ckpt_tensor *t) { return ckpt_tensor_dtype(t) == CKPT_F4_E2M1FN_X2; }

bool ckpt_safetensors_takes(const ckpt_tensor *t) {
  if (ckpt_tensor_is_meta(t) || ckpt_safetensors_dtype(ckpt_tensor_dtype(t), NULL) == NULL) return false;
  return !is_paired(t) || ckpt_tensor_ndim(t) > 0;
}

/* ---- order ---- */

static size_t rank_of(const ckpt_safetensors_tensor *t) {
  size_t rank = 0;
  ckpt_safetensors_dtype(ckpt_tensor_dtype(t->tensor), &rank);
  return rank;
}

static int by_dtype_and_name(const void *a, const void *b) {
  size_t x = rank_of(a), y = rank_of(b);
  if (x != y) return x < y ? -1 : 1;
  return strcmp(((const ckpt_safetensors_tensor *)a)->name, ((const ckpt_safetensors_tensor *)b)->name);
}

static int by_key(const void *a, const void *b) {
  return strcmp(((const ckpt_safetensors_pair *)a)->key, ((const ckpt_safetensors_pair *)b)->key);
}

/* ---- the header ---- */

static ckpt_status add_metadata(ckpt_text *t, const ckpt_safetensors_pair *pairs, size_t n, ckpt_error *err) {
  CKPT_TRY(ckpt_text_print(t, err, "\"" CKPT_SAFETENSORS_METADATA "\":{"));
  for (size_t i = 0; i < n; i++) {
    if (i > 0) CKPT_TRY(ckpt_text_add(t, ",", 1, err));
    CKPT_TRY(ckpt_text_string(t, pairs[i].key, false, err));
    CKPT_TRY(ckpt_text_add(t, ":", 1, err));
    CKPT_TRY(ckpt_text_string(t, pairs[i].value, false, err));
  }
  return ckpt_text_add(t, "}", 1, err);
}

static ckpt_status add_shape(ckpt_text *t, const ckpt_safetensors_tensor *e, ckpt_error *err) {
  int n = ckpt_tensor_ndim(e->tensor);
  for (int i = 0; i < n; i++) {
    int64_t size = ckpt_tensor_shape(e->tensor)[i];
    if (is_paired(e->tensor) && i == n - 1 && !ckpt_mul_i64(&size, size, 2))
      return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "tensor '%.200s': twice its last size does not fit", e->name);
    CKPT_TRY(ckpt_text_print(t, err, "%s%lld", i == 0 ? "" : ",", (long long)size));
  }
  return CKPT_OK;
}

static ckpt_status add_tensor(ckpt_text *t, const ckpt_safetensors_tensor *e, uint64_t begin, uint64_t end,
                              ckpt_error *err) {
  if (strcmp(e->name, CKPT_SAFETENSORS_METADATA) == 0)
    return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1,
                     "a tensor named " CKPT_SAFETENSORS_METADATA
                     " cannot be in a safetensors file: the format means another thing");
  CKPT_TRY(ckpt_text_string(t, e->name, false, err));
  CKPT_TRY(ckpt_text_print(t, err, ":{\"dtype\":\"%s\",\"shape\":[",
                           ckpt_safetensors_dtype(ckpt_tensor_dtype(e->tensor), NULL)));
  CKPT_TRY(add_shape(t, e, err));
  return ckpt_text_print(t, err, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin, (unsigned long long)end);
}

static ckpt_status check_tensor(const ckpt_safetensors_tensor *e, ckpt_error *err) {
  ckpt_status st = ckpt_tensor_check_spread(e->tensor, err);
  return st == CKPT_OK ? CKPT_OK : ckpt_fail_in(err, st, e->name);
}

/* *size gets the bytes of all tensors. */
static ckpt_status add_all(ckpt_text *t, uint64_t *size, const ckpt_safetensors *file,
                           const ckpt_safetensors_pair *metadata, size_t n_metadata, ckpt_error *err) {
  CKPT_TRY(ckpt_text_add(t, "\0\0\0\0\0\0\0\0{", 9, err));
  if (n_metadata > 0) CKPT_TRY(add_metadata(t, metadata, n_metadata, err));
  for (size_t i = 0; i < file->n; i++) {
    uint64_t begin = *size;
    CKPT_TRY(check_tensor(&file->tensors[i], err));
    if (__builtin_add_overflow(*size, ckpt_tensor_nbytes(file->tensors[i].tensor), size) || *size > INT64_MAX)
      return ckpt_fail(err, CKPT_E_LIMIT, -1, "the tensors need more than 2^63 bytes");
    if (i > 0 || n_metadata > 0) CKPT_TRY(ckpt_text_add(t, ",", 1, err));
    CKPT_TRY(add_tensor(t, &file->tensors[i], begin, *size, err));
  }
  CKPT_TRY(ckpt_text_add(t, "}", 1, err));
  while (t->n % 8 != 0) CKPT_TRY(ckpt_text_add(t, " ", 1, err));
  if (t->n - 8 > CKPT_SAFETENSORS_MAX_HEADER)
    return ckpt_fail(err, CKPT_E_LIMIT, -1, "%zu tensors make a header of %zu bytes; safetensors allows %d", file->n,
                     t->n - 8, CKPT_SAFETENSORS_MAX_HEADER);
  ckpt_put64(t->bytes, t->n - 8);
  return CKPT_OK;
}

ckpt_status ckpt_safetensors_prepare(ckpt_safetensors *out, ckpt_safetensors_tensor *tensors, size_t n,
                                     ckpt_safetensors_pair *metadata, size_t n_metadata, ckpt_error *err) {
  ckpt_text t = {0};
  ckpt_safetensors file = {.tensors = tensors, .n = n};
  uint64_t size = 0;
  if (n > 1) qsort(tensors, n, sizeof *tensors, by_dtype_and_name);
  if (n_metadata > 1) qsort(metadata, n_metadata, sizeof *metadata, by_key);
  ckpt_status st = add_all(&t, &size, &file, metadata, n_metadata, err);
  if (st != CKPT_OK) {
    free(t.bytes);
    return st;
  }
  file.header = t.bytes;
  file.header_n = t.n;
  file.size = t.n + size;
  *out = file;
  return CKPT_OK;
}

void ckpt_safetensors_free(ckpt_safetensors *file) {
  free(file->header);
  *file = (ckpt_safetensors){0};
}

/* ---- the data ---- */

ckpt_status ckpt_safetensors_write(ckpt_sink *sink, const ckpt_safetensors *file, ckpt_error *err) {
  CKPT_TRY(sink->write(sink, file->header, file->header_n, err));
  for (size_t i = 0; i < file->n; i++) CKPT_TRY(ckpt_tensor_stream(sink, file->tensors[i].tensor, err));
  return CKPT_OK;
}
