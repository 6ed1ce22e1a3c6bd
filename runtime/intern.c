/* intern.c - see intern.h. Linear probing at a load of at most one half; there is no removal. */
#include "intern.h"

#include <stdlib.h>

#include "key.h"

static ckpt_interned_slot *free_slot(const ckpt_interned *keys, size_t hash) {
  size_t at = hash;
  while (keys->slots[at & (keys->capacity - 1)].value != NULL) at++;
  return &keys->slots[at & (keys->capacity - 1)];
}

static ckpt_interned_slot *find(const ckpt_interned *keys, size_t hash, const char *key, size_t n) {
  for (size_t at = hash;; at++) {
    ckpt_interned_slot *s = &keys->slots[at & (keys->capacity - 1)];
    if (s->value == NULL) return s;
    if (s->hash == hash && s->value->as.text.n == n && memcmp(s->value->as.text.bytes, key, n) == 0) return s;
  }
}

static ckpt_status grow(ckpt_interned *keys, ckpt_error *err) {
  ckpt_interned more = {NULL, keys->capacity == 0 ? 64 : keys->capacity * 2, keys->count};
  more.slots = calloc(more.capacity, sizeof *more.slots);
  if (more.slots == NULL) return ckpt_fail_nomem(err, more.capacity * sizeof *more.slots);
  for (size_t i = 0; i < keys->capacity; i++)
    if (keys->slots[i].value != NULL) *free_slot(&more, keys->slots[i].hash) = keys->slots[i];
  free(keys->slots);
  *keys = more;
  return CKPT_OK;
}

ckpt_status ckpt_intern(ckpt_value **out, size_t *hash, ckpt_interned *keys, ckpt_document *doc, const char *key,
                        size_t n, ckpt_error *err) {
  ckpt_value probe = {.kind = CKPT_STR};
  probe.as.text.bytes = key;
  probe.as.text.n = n;
  *hash = ckpt_key_hash(&probe);
  if ((keys->count + 1) * 2 > keys->capacity) CKPT_TRY(grow(keys, err));
  ckpt_interned_slot *s = find(keys, *hash, key, n);
  if (s->value == NULL) {
    ckpt_value *v = NULL;
    CKPT_TRY(ckpt_value_new_str(&v, doc, key, n, err));
    *s = (ckpt_interned_slot){*hash, v};
    keys->count++;
  }
  *out = s->value;
  return CKPT_OK;
}
