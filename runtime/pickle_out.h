/*
 * pickle_out.h - what a pickler writes: its bytes, its memo, and what has no parts. A memo number is given in the order
 * of the PUTs; strings and classes are memoised when they are first written, and fetched from then on.
 */
#ifndef CKPT_PICKLE_OUT_H
#define CKPT_PICKLE_OUT_H

#include "ptrmap.h"
#include "strmap.h"
#include "value.h"

typedef struct ckpt_global {
  const char *text;
  size_t id; /* memo number */
} ckpt_global;

typedef struct ckpt_pickle_out {
  unsigned char *bytes;
  size_t n, capacity;
  ckpt_ptrmap memo; /* identity of an object -> memo number; SIZE_MAX: as if it had never been there */
  size_t memo_count;
  ckpt_strmap classes;    /* "module.name" -> memo number: Python memoises the one class object */
  ckpt_global globals[4]; /* those written last */
  size_t next_global;
  ckpt_error *err; /* never NULL */
} ckpt_pickle_out;

void ckpt_out_free(ckpt_pickle_out *w);

/* Room for n more bytes. */
ckpt_status ckpt_out_grow(ckpt_pickle_out *w, size_t n);
static inline ckpt_status ckpt_out_room(ckpt_pickle_out *w, size_t n) {
  return w->capacity - w->n < n ? ckpt_out_grow(w, n) : CKPT_OK;
}

static inline ckpt_status ckpt_out_bytes(ckpt_pickle_out *w, const void *bytes, size_t n) {
  CKPT_TRY(ckpt_out_room(w, n));
  if (n > 0) memcpy(w->bytes + w->n, bytes, n);
  w->n += n;
  return CKPT_OK;
}

static inline ckpt_status ckpt_out_op(ckpt_pickle_out *w, unsigned char op) {
  CKPT_TRY(ckpt_out_room(w, 1));
  w->bytes[w->n++] = op;
  return CKPT_OK;
}

/* Opcode with a little-endian argument of 1, 2, 4 or 8 bytes. */
static inline ckpt_status ckpt_out_uint(ckpt_pickle_out *w, unsigned char op, uint64_t v, size_t bytes) {
  CKPT_TRY(ckpt_out_room(w, 9));
  w->bytes[w->n] = op;
  ckpt_put64(w->bytes + w->n + 1, v);
  w->n += 1 + bytes;
  return CKPT_OK;
}

/* ---- memo ---- */

/* GET; PUT of what nothing asks for again, which tells its number; PUT of an object. */
ckpt_status ckpt_out_get(ckpt_pickle_out *w, size_t id);
ckpt_status ckpt_out_number(ckpt_pickle_out *w, size_t *id);
ckpt_status ckpt_out_put(ckpt_pickle_out *w, const void *key);

/* ---- what has no parts ---- */

ckpt_status ckpt_out_int(ckpt_pickle_out *w, int64_t v);
enum { CKPT_LONGEST_INT = 10 };
size_t ckpt_out_int_at(unsigned char *to, int64_t v); /* the same where there is room; gives the length */
ckpt_status ckpt_out_bigint(ckpt_pickle_out *w, const ckpt_value *v);
ckpt_status ckpt_out_float(ckpt_pickle_out *w, double d);
ckpt_status ckpt_out_text(ckpt_pickle_out *w, const char *s, size_t n); /* not memoised */

/* A STR or CLASS, from the memo if it is there. */
ckpt_status ckpt_out_str(ckpt_pickle_out *w, const ckpt_value *v);
ckpt_status ckpt_out_class(ckpt_pickle_out *w, const ckpt_value *v);

/* A Python 2 str, which is not in the memo yet. */
ckpt_status ckpt_out_bytestring(ckpt_pickle_out *w, const ckpt_value *v);

/* A string of ours, and "module.name" of a class: static ones, known by their addresses. */
ckpt_status ckpt_out_word(ckpt_pickle_out *w, const char *word);
ckpt_status ckpt_out_global(ckpt_pickle_out *w, const char *text);

#endif
