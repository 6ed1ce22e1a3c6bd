/* ptrmap.c - see ptrmap.h. Linear probing at a load of at most one half; there is no removal. */
#include "ptrmap.h"

#include <stdlib.h>

void ckpt_ptrmap_free(ckpt_ptrmap *map) {
  free(map->slots);
  *map = (ckpt_ptrmap){0};
}

static size_t find(const ckpt_ptrmap *map, const void *key) {
  size_t at = (size_t)((uint64_t)(uintptr_t)key * 0x9e3779b97f4a7c15u >> 32);
  while (map->slots[at & (map->capacity - 1)].key != NULL && map->slots[at & (map->capacity - 1)].key != key) at++;
  return at & (map->capacity - 1);
}

static ckpt_status grow(ckpt_ptrmap *map, ckpt_error *err) {
  ckpt_ptrmap bigger = {NULL, map->capacity == 0 ? 64 : map->capacity * 2, map->count};
  bigger.slots = calloc(bigger.capacity, sizeof *bigger.slots);
  if (bigger.slots == NULL) return ckpt_fail_nomem(err, bigger.capacity * sizeof *bigger.slots);
  for (size_t i = 0; i < map->capacity; i++)
    if (map->slots[i].key != NULL) bigger.slots[find(&bigger, map->slots[i].key)] = map->slots[i];
  free(map->slots);
  *map = bigger;
  return CKPT_OK;
}

ckpt_status ckpt_ptrmap_place(size_t **out, ckpt_ptrmap *map, const void *key, ckpt_error *err) {
  if ((map->count + 1) * 2 > map->capacity) CKPT_TRY(grow(map, err));
  size_t at = find(map, key);
  if (map->slots[at].key == NULL) {
    map->count++;
    map->slots[at].key = key;
    map->slots[at].value = SIZE_MAX;
  }
  *out = &map->slots[at].value;
  return CKPT_OK;
}

ckpt_status ckpt_ptrmap_set(ckpt_ptrmap *map, const void *key, size_t value, ckpt_error *err) {
  size_t *place = NULL;
  CKPT_TRY(ckpt_ptrmap_place(&place, map, key, err));
  *place = value;
  return CKPT_OK;
}

size_t ckpt_ptrmap_get(const ckpt_ptrmap *map, const void *key) {
  if (map->capacity == 0) return SIZE_MAX;
  size_t at = find(map, key);
  return map->slots[at].key == NULL ? SIZE_MAX : map->slots[at].value;
}
