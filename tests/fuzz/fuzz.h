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
#include "ptrmap.h"
#include "sink.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

/* libFuzzer's own mutations, for a part of an input. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

#define CHECK(what)                                                             \
  do {                                                                          \
    if (!(what)) {                                                              \
      fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #what); \
      abort();                                                                  \
    }                                                                           \
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
  CHECK(st == CKPT_OK || st == CKPT_E_FORMAT || st == CKPT_E_CORRUPT || st == CKPT_E_UNSUPPORTED ||
        st == CKPT_E_LIMIT || st == CKPT_E_NOMEM || st == CKPT_E_NOTFOUND);
}

/* libcrypto is not built for MSan, which would report what it does itself. */
#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#define FUZZ_WITHOUT_LIBCRYPTO
#endif
#endif

/* Looks at every element. */
static inline ckpt_status fuzz_read_tensor(const ckpt_tensor *t, ckpt_error *err) {
#ifdef FUZZ_WITHOUT_LIBCRYPTO
  bool same;
  return ckpt_tensor_equal(&same, t, t, err);
#else
  char hex[65];
  return ckpt_tensor_sha256(hex, t, err);
#endif
}

/* Everything once: paths, kinds, the bytes of every tensor of moderate size. */
static inline void fuzz_use(const ckpt_checkpoint *cp) {
  ckpt_walk *w = NULL;
  ckpt_walk_step step = {0};
  ckpt_error err = {0};
  size_t steps = 0;
  if (ckpt_walk_new(&w, ckpt_checkpoint_root(cp), &err) != CKPT_OK) return;
  while (steps++ < 4096 && ckpt_walk_next(&step, w, &err) == CKPT_OK && step.value != NULL) {
    const ckpt_tensor *t = ckpt_value_tensor(step.value);
    if (t == NULL || step.again || ckpt_tensor_is_meta(t) || ckpt_tensor_numel(t) > 4096) continue;
    fuzz_check_error(fuzz_read_tensor(t, &err), &err);
  }
  ckpt_walk_free(w);
}

static inline bool fuzz_is_plain(const ckpt_value *v) {
  return v->kind <= CKPT_STR && !(v->kind == CKPT_FLOAT && v->as.number != v->as.number);
}

/* Values that were met, each once. */
typedef struct fuzz_values {
  const ckpt_value **at;
  size_t n, capacity;
  ckpt_ptrmap seen;
} fuzz_values;

static inline void fuzz_meet(fuzz_values *f, const ckpt_value *v) {
  if (v == NULL || ckpt_ptrmap_get(&f->seen, v) != SIZE_MAX) return;
  if (f->n == f->capacity) {
    f->capacity = 2 * f->capacity + 64;
    f->at = realloc(f->at, f->capacity * sizeof *f->at);
    CHECK(f->at != NULL);
  }
  CHECK(ckpt_ptrmap_set(&f->seen, v, 0, NULL) == CKPT_OK);
  f->at[f->n++] = v;
}

static inline void fuzz_meet_all(fuzz_values *f, const ckpt_seq *seq) {
  for (size_t i = 0; i < seq->n; i++) fuzz_meet(f, seq->items[i]);
}

/* Everything that a value is made of, also what a walk does not show: keys, functions, how it was built. */
static inline void fuzz_meet_parts(fuzz_values *f, const ckpt_value *v) {
  if (v->made != NULL) {
    fuzz_meet(f, v->made->callable);
    fuzz_meet(f, v->made->args);
    fuzz_meet(f, v->made->kwargs);
  }
  if (v->kind == CKPT_OBJECT) fuzz_meet_all(f, &v->as.object->items);
  if (v->kind == CKPT_OBJECT) fuzz_meet(f, v->as.object->state);
  if (v->kind == CKPT_DICT) fuzz_meet(f, v->as.dict->state);
  bool seq = v->kind == CKPT_LIST || v->kind == CKPT_TUPLE || v->kind == CKPT_SET || v->kind == CKPT_FROZENSET;
  if (seq) fuzz_meet_all(f, &v->as.seq);
  if (ckpt_value_dict(v) != NULL) fuzz_meet_all(f, &ckpt_value_dict(v)->flat);
}

/*
 * Whether equality may fail after a copy: NaN is equal only to itself; items of sets and keys of dicts that Python
 * would not take (lists, objects) by identity only.
 */
static inline bool fuzz_is_odd(const ckpt_value *root) {
  fuzz_values f = {0};
  bool odd = false;
  fuzz_meet(&f, root);
  for (size_t i = 0; i < f.n && !odd; i++) {
    const ckpt_value *v = f.at[i];
    bool is_set = v->kind == CKPT_SET || v->kind == CKPT_FROZENSET;
    odd |= v->kind == CKPT_FLOAT && !fuzz_is_plain(v);
    const ckpt_dict *d = ckpt_value_dict(v);
    for (size_t k = 0; d != NULL && k < d->flat.n; k += 2) odd |= !fuzz_is_plain(d->flat.items[k]);
    for (size_t k = 0; is_set && k < v->as.seq.n; k++) odd |= !fuzz_is_plain(v->as.seq.items[k]);
    fuzz_meet_parts(&f, v);
  }
  ckpt_ptrmap_free(&f.seen);
  free(f.at);
  return odd;
}

#endif
