/* strmap.c - see strmap.h. Linear probing at a load of at most one half; there is no removal. */
#include "strmap.h"

#include <stdlib.h>

#include "hash.h"

void ckpt_strmap_free(ckpt_strmap *map) {
  free(map->slots);
  *map = (ckpt_strmap){0};
}

static ckpt_strmap_slot *find(const ckpt_strmap *map, const char *key, size_t length, uint64_t hash) {
  size_t mask = map->capacity - 1;
  for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
    ckpt_strmap_slot *s = &map->slots[i];
    if (s->key == NULL) return s;
    if (s->hash == hash && s->length == length && memcmp(s->key, key, length) == 0) return s;
  }
}

static ckpt_status grow(ckpt_strmap *map, ckpt_error *err) {
  size_t capacity = map->capacity == 0 ? 16 : map->capacity * 2;
  ckpt_strmap bigger = {calloc(capacity, sizeof(ckpt_strmap_slot)), capacity, map->count};
  if (bigger.slots == NULL) return ckpt_fail_nomem(err, capacity * sizeof(ckpt_strmap_slot));
  for (size_t i = 0; i < map->capacity; i++) {
    const ckpt_strmap_slot *s = &map->slots[i];
    if (s->key != NULL) *find(&bigger, s->key, s->length, s->hash) = *s;
  }
  free(map->slots);
  *map = bigger;
  return CKPT_OK;
}

ckpt_status ckpt_strmap_set(ckpt_strmap *map, const char *key, size_t length, size_t value, ckpt_error *err) {
  if ((map->count + 1) * 2 > map->capacity) CKPT_TRY(grow(map, err));
  uint64_t hash = ckpt_hash_bytes(key, length);
  ckpt_strmap_slot *s = find(map, key, length, hash);
  if (s->key == NULL) map->count++;
  *s = (ckpt_strmap_slot){key, length, hash, value};
  return CKPT_OK;
}

size_t ckpt_strmap_get(const ckpt_strmap *map, const char *key, size_t length) {
  if (map->capacity == 0) return SIZE_MAX;
  const ckpt_strmap_slot *s = find(map, key, length, ckpt_hash_bytes(key, length));
  return s->key == NULL ? SIZE_MAX : s->value;
}
