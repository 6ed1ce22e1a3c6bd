/*
 * state_dict.c - an ordered map of names to tensors: items in order, and a hash table of their places.
 *
 * No strmap: taking a name out moves the place of all behind it, and a policy may take out thousands. With the hashes
 * kept in the items the table is filled anew in microseconds, and removal needs no memory.
 *
 * Invariant: the table has twice as many slots as there is room for items; a slot is 0 or the place of an item plus 1.
 */
#include "value.h"

#include <stdlib.h>

typedef struct item {
  char *name;
  uint64_t hash;
  ckpt_tensor *tensor;
} item;

struct ckpt_state_dict {
  item *items;
  size_t n, capacity; /* capacity is 0 or a power of two */
  size_t *table;
  char **skipped; /* what it was made of and could not take; doubled at powers of two */
  size_t n_skipped;
};

/* FNV-1a with a final mix; the low bits choose the slot. */
static uint64_t hash_name(const char *name) {
  uint64_t h = 0xcbf29ce484222325u;
  for (; *name != '\0'; name++) h = (h ^ (unsigned char)*name) * 0x100000001b3u;
  return h ^ h >> 29;
}

/* The slot of that name, or the free one where it would be. There must be a table. */
static size_t *find(const ckpt_state_dict *sd, const char *name, uint64_t hash) {
  size_t mask = sd->capacity * 2 - 1;
  for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
    size_t *slot = &sd->table[i];
    if (*slot == 0) return slot;
    const item *it = &sd->items[*slot - 1];
    if (it->hash == hash && strcmp(it->name, name) == 0) return slot;
  }
}

/* The place of that name, or SIZE_MAX. */
static size_t place_of(const ckpt_state_dict *sd, const char *name, uint64_t hash) {
  return sd->n == 0 ? SIZE_MAX : *find(sd, name, hash) - 1;
}

/* Fills the table anew. The names differ, so that only free slots are looked for. */
static void index_items(ckpt_state_dict *sd) {
  size_t mask = sd->capacity * 2 - 1;
  memset(sd->table, 0, sd->capacity * 2 * sizeof *sd->table);
  for (size_t i = 0; i < sd->n; i++) {
    size_t at = (size_t)sd->items[i].hash & mask;
    while (sd->table[at] != 0) at = (at + 1) & mask;
    sd->table[at] = i + 1;
  }
}

ckpt_status ckpt_state_dict_new(ckpt_state_dict **out, ckpt_error *err) {
  ckpt_state_dict *sd = calloc(1, sizeof *sd);
  if (sd == NULL) return ckpt_fail_nomem(err, sizeof *sd);
  *out = sd;
  return CKPT_OK;
}

void ckpt_state_dict_free(ckpt_state_dict *sd) {
  if (sd == NULL) return;
  for (size_t i = 0; i < sd->n; i++) {
    free(sd->items[i].name);
    ckpt_tensor_release(sd->items[i].tensor);
  }
  for (size_t i = 0; i < sd->n_skipped; i++) free(sd->skipped[i]);
  free(sd->skipped);
  free(sd->items);
  free(sd->table);
  free(sd);
}

static ckpt_status make_room(ckpt_state_dict *sd, ckpt_error *err) {
  if (sd->n < sd->capacity) return CKPT_OK;
  size_t capacity = sd->capacity == 0 ? 32 : sd->capacity * 2;
  item *items = realloc(sd->items, capacity * sizeof *items);
  if (items == NULL) return ckpt_fail_nomem(err, capacity * sizeof *items);
  sd->items = items;
  size_t *table = realloc(sd->table, capacity * 2 * sizeof *table);
  if (table == NULL) return ckpt_fail_nomem(err, capacity * 2 * sizeof *table);
  sd->table = table;
  sd->capacity = capacity;
  index_items(sd);
  return CKPT_OK;
}

ckpt_status ckpt_state_dict_set(ckpt_state_dict *sd, const char *name, ckpt_tensor *t, ckpt_error *err) {
  uint64_t hash = hash_name(name);
  size_t at = place_of(sd, name, hash);
  if (at != SIZE_MAX) {
    ckpt_tensor *before = sd->items[at].tensor;
    sd->items[at].tensor = ckpt_tensor_retain(t);
    ckpt_tensor_release(before);
    return CKPT_OK;
  }
  CKPT_TRY(make_room(sd, err));
  char *copy = strdup(name);
  if (copy == NULL) return ckpt_fail_nomem(err, strlen(name) + 1);
  sd->items[sd->n] = (item){copy, hash, ckpt_tensor_retain(t)};
  sd->n++;
  *find(sd, name, hash) = sd->n;
  return CKPT_OK;
}

ckpt_status ckpt_state_dict_remove(ckpt_state_dict *sd, const char *name, ckpt_error *err) {
  size_t at = place_of(sd, name, hash_name(name));
  if (at == SIZE_MAX) return ckpt_fail(err, CKPT_E_NOTFOUND, -1, "the state dict has no '%.200s'", name);
  free(sd->items[at].name);
  ckpt_tensor_release(sd->items[at].tensor);
  memmove(sd->items + at, sd->items + at + 1, (sd->n - at - 1) * sizeof *sd->items);
  sd->n--;
  index_items(sd);
  return CKPT_OK;
}

size_t ckpt_state_dict_count(const ckpt_state_dict *sd) { return sd->n; }
const char *ckpt_state_dict_name(const ckpt_state_dict *sd, size_t i) { return i < sd->n ? sd->items[i].name : NULL; }
ckpt_tensor *ckpt_state_dict_tensor(const ckpt_state_dict *sd, size_t i) {
  return i < sd->n ? sd->items[i].tensor : NULL;
}

ckpt_tensor *ckpt_state_dict_get(const ckpt_state_dict *sd, const char *name) {
  size_t at = place_of(sd, name, hash_name(name));
  return at == SIZE_MAX ? NULL : sd->items[at].tensor;
}

ckpt_status ckpt_state_dict_skip(ckpt_state_dict *sd, const char *name, size_t n, ckpt_error *err) {
  if ((sd->n_skipped & (sd->n_skipped - 1)) == 0) { /* 0, 1, 2, 4, ... */
    size_t capacity = sd->n_skipped == 0 ? 1 : 2 * sd->n_skipped;
    char **more = realloc(sd->skipped, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
    sd->skipped = more;
  }
  char *copy = strndup(name, n);
  if (copy == NULL) return ckpt_fail_nomem(err, n + 1);
  sd->skipped[sd->n_skipped++] = copy;
  return CKPT_OK;
}

const char *ckpt_state_dict_skipped(const ckpt_state_dict *sd, size_t i) {
  return i < sd->n_skipped ? sd->skipped[i] : NULL;
}
