/*
 * strmap.h - a hash map from byte strings to numbers; open addressing, keys borrowed. Not thread-safe.
 */
#ifndef CKPT_STRMAP_H
#define CKPT_STRMAP_H

#include "base.h"

typedef struct ckpt_strmap_slot {
  const char *key; /* NULL: empty */
  size_t length;
  uint64_t hash;
  size_t value;
} ckpt_strmap_slot;

typedef struct ckpt_strmap {
  ckpt_strmap_slot *slots;
  size_t capacity, count; /* capacity is a power of two, or 0 */
} ckpt_strmap;

/* A zeroed ckpt_strmap is an empty map. */
void ckpt_strmap_free(ckpt_strmap *map);

/* Sets key -> value, replacing. The key's bytes must outlive the map. CKPT_E_NOMEM leaves the map as it was. */
ckpt_status ckpt_strmap_set(ckpt_strmap *map, const char *key, size_t length, size_t value, ckpt_error *err);

/* The value of a key, or SIZE_MAX. */
size_t ckpt_strmap_get(const ckpt_strmap *map, const char *key, size_t length);

#endif
