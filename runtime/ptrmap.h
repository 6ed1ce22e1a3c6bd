/*
 * ptrmap.h - a hash map from addresses to numbers: memo of the pickler, what a walk has seen. Not thread-safe.
 */
#ifndef CKPT_PTRMAP_H
#define CKPT_PTRMAP_H

#include "base.h"

typedef struct ckpt_ptrmap {
  struct {
    const void *key; /* NULL: free */
    size_t value;
  } * slots;
  size_t capacity, count;
} ckpt_ptrmap;

/* A zeroed ckpt_ptrmap is an empty map. */
void ckpt_ptrmap_free(ckpt_ptrmap *map);
ckpt_status ckpt_ptrmap_set(ckpt_ptrmap *map, const void *key, size_t value, ckpt_error *err);

/* Where the value of a key is, until something else is set; that of a key which was not there is SIZE_MAX. */
ckpt_status ckpt_ptrmap_place(size_t **out, ckpt_ptrmap *map, const void *key, ckpt_error *err);
size_t ckpt_ptrmap_get(const ckpt_ptrmap *map, const void *key); /* SIZE_MAX: not there */

#endif
