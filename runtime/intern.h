/*
 * intern.h - strings used as dict keys, so that equal ones are one value of the document, as interned ones are one
 * object in Python.
 */
#ifndef CKPT_INTERN_H
#define CKPT_INTERN_H

#include "value.h"

typedef struct ckpt_interned_slot {
  size_t hash;       /* ckpt_key_hash's */
  ckpt_value *value; /* NULL: free */
} ckpt_interned_slot;

typedef struct ckpt_interned { /* zeroed: empty */
  ckpt_interned_slot *slots;   /* free() */
  size_t capacity, count;      /* capacity: a power of two, or 0 */
} ckpt_interned;

/* The STR of these bytes, and its hash. */
ckpt_status ckpt_intern(ckpt_value **out, size_t *hash, ckpt_interned *keys, ckpt_document *doc, const char *key,
                        size_t n, ckpt_error *err);

#endif
