/*
 * inside_fixture.h - pickles written by hand over storages that a test names, read as PyTorch's.
 *
 *   static const span storages[] = {{"i", indices, sizeof indices}, {NULL}};
 *   ckpt_value *v = read_with(doc, storages, P(TENSOR("LongStorage", "i", "K\4", "K\2K\2\x86", "K\2K\1\x86") "."),
 * &err);
 */
#ifndef INSIDE_FIXTURE_H
#define INSIDE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "torch_build.h"
#include "value.h"

#define P(literal) (literal), sizeof(literal) - 1

/* A persistent id whose key is one character; a strided tensor at offset 0 over it. */
#define STORAGE(cls, key, numel)                    \
  "(X\7\0\0\0storagectorch\n" cls "\nX\1\0\0\0" key \
  "X\3\0\0\0"                                       \
  "cpu" numel "tQ"
#define TENSOR(cls, key, numel, size, stride) \
  "ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE(cls, key, numel) "K\0" size stride "\x89NtR"

typedef struct span {
  const char *key; /* NULL ends a table */
  const void *bytes;
  size_t n;
} span;

static ckpt_status find_span(ckpt_storage **out, void *context, const char *key, uint64_t bytes, unsigned swap_unit,
                             ckpt_error *err) {
  (void)swap_unit;
  for (const span *s = context; s->key != NULL; s++)
    if (strcmp(s->key, key) == 0 && s->n == bytes)
      return ckpt_storage_borrow(out, (void *)(uintptr_t)s->bytes, s->n, err);
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "no storage '%s' of %llu bytes", key, (unsigned long long)bytes);
}

static inline ckpt_value *read_with(ckpt_document *doc, const span *storages, const char *bytes, size_t n,
                                    ckpt_error *err) {
  ckpt_torch_builder *b = NULL;
  ckpt_value *v = NULL;
  assert_int_equal(ckpt_torch_builder_new(&b, doc, find_span, (void *)(uintptr_t)storages, NULL), CKPT_OK);
  ckpt_pickle_hooks hooks = ckpt_torch_builder_hooks(b);
  ckpt_pickle_read(&v, NULL, doc, (const unsigned char *)bytes, n, "data.pkl", &hooks, err);
  ckpt_torch_builder_free(b);
  return v;
}

static inline ckpt_value *must_read(ckpt_document *doc, const span *storages, const char *bytes, size_t n) {
  ckpt_error err = {0};
  ckpt_value *v = read_with(doc, storages, bytes, n, &err);
  if (v == NULL) fail_msg("%s", err.message);
  return v;
}

static inline ckpt_document *new_document(void) {
  ckpt_document *doc = NULL;
  assert_int_equal(ckpt_document_new(&doc, NULL), CKPT_OK);
  return doc;
}

static inline const void *data_of(const ckpt_tensor *t) {
  const void *data = NULL;
  assert_int_equal(ckpt_tensor_data(&data, t, NULL), CKPT_OK);
  return data;
}

#endif
