/*
 * fuzz.h - what the fuzz targets share. A target is one file fuzz_NAME.c with LLVMFuzzerTestOneInput; it opens no file,
 * and it calls CHECK for what must hold of whatever it was given. Built by `make fuzz` with libFuzzer, by `make
 * check-corpus` with replay.c, which runs the corpus once.
 */
#ifndef CKPT_FUZZ_H
#define CKPT_FUZZ_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint.h"
#include "pickle_write.h"
#include "sink.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

/* libFuzzer's own mutations, for a part of an input. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

#define CHECK(what)                                                       \
  do {                                                                    \
    if (!(what)) {                                                        \
      fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #what); \
      abort();                                                            \
    }                                                                     \
  } while (0)

/* Collects what is written, up to 16 MiB. */
typedef struct fuzz_memory {
  ckpt_sink sink;
  unsigned char *bytes;
  size_t n, capacity;
} fuzz_memory;

static inline ckpt_status fuzz_collect(ckpt_sink *sink, const void *data, size_t size, ckpt_error *err) {
  fuzz_memory *m = (fuzz_memory *)sink;
  if (size > ((size_t)16 << 20) - m->n) return ckpt_fail(err, CKPT_E_LIMIT, -1, "more than 16 MiB");
  if (m->n + size > m->capacity) {
    m->capacity = 2 * (m->n + size) + 256;
    m->bytes = realloc(m->bytes, m->capacity);
    CHECK(m->bytes != NULL);
  }
  if (size > 0) memcpy(m->bytes + m->n, data, size);
  m->n += size;
  return CKPT_OK;
}

#define FUZZ_MEMORY \
  { {fuzz_collect}, NULL, 0, 0 }

/* What a status must be accompanied by. */
static inline void fuzz_check_error(ckpt_status st, const ckpt_error *err) {
  if (st == CKPT_OK) return;
  CHECK(err->status == st);
  CHECK(err->message[0] != '\0' && memchr(err->message, '\0', sizeof err->message) != NULL);
}

/* What a file may be told to be, by whoever opens it. */
static inline void fuzz_check_open(ckpt_status st, const ckpt_error *err) {
  fuzz_check_error(st, err);
  CHECK(st == CKPT_OK || st == CKPT_E_FORMAT || st == CKPT_E_CORRUPT || st == CKPT_E_UNSUPPORTED || st == CKPT_E_LIMIT ||
        st == CKPT_E_NOMEM || st == CKPT_E_NOTFOUND);
}

/* Everything once: paths, kinds, the bytes of every tensor of moderate size. */
static inline void fuzz_use(const ckpt_checkpoint *cp) {
  ckpt_walk *w = NULL;
  ckpt_walk_step step = {0};
  ckpt_error err = {0};
  size_t steps = 0;
  if (ckpt_walk_new(&w, ckpt_checkpoint_root(cp), &err) != CKPT_OK) return;
  while (steps++ < 4096 && ckpt_walk_next(&step, w, &err) == CKPT_OK && step.value != NULL) {
    char hex[65];
    const ckpt_tensor *t = ckpt_value_tensor(step.value);
    if (t == NULL || step.again || ckpt_tensor_is_meta(t) || ckpt_tensor_numel(t) > 4096) continue;
    fuzz_check_error(ckpt_tensor_sha256(hex, t, &err), &err);
  }
  ckpt_walk_free(w);
}

/* NaN is equal only to itself, which it is no more when it has been written and read. */
static inline bool fuzz_has_nan(const ckpt_value *root) {
  ckpt_walk *w = NULL;
  ckpt_walk_step step = {0};
  bool found = false;
  if (ckpt_walk_new(&w, root, NULL) != CKPT_OK) return true;
  while (!found) {
    if (ckpt_walk_next(&step, w, NULL) != CKPT_OK) found = true;
    if (step.value == NULL) break;
    found |= step.value->kind == CKPT_FLOAT && step.value->as.number != step.value->as.number;
    const ckpt_dict *d = ckpt_value_dict(step.value);
    for (size_t i = 0; d != NULL && i < d->flat.n; i += 2) found |= d->flat.items[i]->kind != CKPT_STR;
  }
  ckpt_walk_free(w);
  return found;
}

#endif
