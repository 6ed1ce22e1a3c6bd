/*
 * tensor_fixture.h - tensors for tests: of one's own, and read-only ones whose bytes a source gives, which counts how
 * often it is asked and can fail.
 */
#ifndef TENSOR_FIXTURE_H
#define TENSOR_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tensor.h"

#define DIMS(...) ((const int64_t[]){__VA_ARGS__})

typedef struct source {
  int fetched, dropped;
  bool fails;
  unsigned char bytes[512];
} source;

static inline ckpt_status source_fetch(unsigned char **out, bool *heap, void *context, ckpt_error *err) {
  source *s = context;
  s->fetched++;
  if (s->fails) return ckpt_fail(err, CKPT_E_CORRUPT, 7, "the source fails");
  *out = malloc(sizeof s->bytes);
  assert_non_null(*out);
  memcpy(*out, s->bytes, sizeof s->bytes);
  *heap = true;
  return CKPT_OK;
}

static inline void source_drop(void *context) { ((source *)context)->dropped++; }

/* A read-only tensor over the first bytes of `s`, which outlives it. */
static inline ckpt_tensor *sourced(source *s, ckpt_dtype dtype, int ndim, const int64_t *shape) {
  static const ckpt_storage_source calls = {.fetch = source_fetch, .drop = source_drop};
  ckpt_tensor *t = NULL, *meta = NULL;
  ckpt_storage *storage = NULL;
  assert_int_equal(ckpt_tensor_meta(&meta, dtype, ndim, shape, NULL), CKPT_OK);
  assert_true(ckpt_tensor_nbytes(meta) <= sizeof s->bytes);
  assert_int_equal(ckpt_storage_from(&storage, ckpt_tensor_nbytes(meta), &calls, s, NULL), CKPT_OK);
  ckpt_tensor_spec spec = {.dtype = dtype, .ndim = ndim, .shape = shape};
  assert_int_equal(ckpt_tensor_make(&t, storage, &spec, NULL), CKPT_OK);
  ckpt_storage_release(storage);
  ckpt_tensor_release(meta);
  return t;
}

/* The source holds the int32 0, 1, 2, ... */
static inline void count_up(source *s) {
  memset(s, 0, sizeof *s);
  for (size_t i = 0; i < sizeof s->bytes / 4; i++) ckpt_put32(s->bytes + 4 * i, (uint32_t)i);
}

/* A tensor of its own with the int32 0, 1, 2, ... */
static inline ckpt_tensor *counted(int ndim, const int64_t *shape) {
  ckpt_tensor *t = NULL;
  const void *data = NULL;
  assert_int_equal(ckpt_tensor_new(&t, CKPT_I32, ndim, shape, NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_data(&data, t, NULL), CKPT_OK);
  for (int64_t i = 0; i < ckpt_tensor_numel(t); i++) ((int32_t *)(uintptr_t)data)[i] = (int32_t)i;
  return t;
}

static inline ckpt_tensor *meta_of(ckpt_dtype dtype, int ndim, const int64_t *shape) {
  ckpt_tensor *t = NULL;
  assert_int_equal(ckpt_tensor_meta(&t, dtype, ndim, shape, NULL), CKPT_OK);
  return t;
}

static inline void assert_shape(const ckpt_tensor *t, int ndim, const int64_t *shape) {
  assert_int_equal(ckpt_tensor_ndim(t), ndim);
  if (ndim > 0) assert_memory_equal(ckpt_tensor_shape(t), shape, (size_t)ndim * sizeof *shape);
}

static inline void assert_stride(const ckpt_tensor *t, const int64_t *stride) {
  assert_memory_equal(ckpt_tensor_stride(t), stride, (size_t)ckpt_tensor_ndim(t) * sizeof *stride);
}

/* The logical elements of an int32 tensor, without looking at what it keeps; it is released. */
static inline void assert_ints(ckpt_tensor *t, int64_t n, const int32_t *wanted) {
  ckpt_tensor *copy = NULL;
  const void *data = NULL;
  assert_int_equal(ckpt_tensor_dtype(t), CKPT_I32);
  assert_int_equal(ckpt_tensor_numel(t), n);
  assert_int_equal(ckpt_tensor_new(&copy, CKPT_I32, ckpt_tensor_ndim(t), ckpt_tensor_shape(t), NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_copy(copy, t, NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_data(&data, copy, NULL), CKPT_OK);
  assert_memory_equal(data, wanted, (size_t)n * sizeof *wanted);
  ckpt_tensor_release(copy);
  ckpt_tensor_release(t);
}

#define INTS(...) CKPT_COUNTOF(((const int32_t[]){__VA_ARGS__})), ((const int32_t[]){__VA_ARGS__})

#endif
