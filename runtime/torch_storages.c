/* torch_storages.c - see torch_storages.h. */
#include "torch_storages.h"

#include <stdlib.h>

/*
 * The number that a key says, if it is one that Python would write and no larger than the storages so far let expect;
 * else SIZE_MAX.
 */
static size_t number_of(const ckpt_torch_storages *b, const char *key) {
  size_t n = 0, limit = 4 * b->n + 1024;
  if (key[0] == '\0' || (key[0] == '0' && key[1] != '\0') || b->n >= UINT32_MAX) return SIZE_MAX;
  for (const char *p = key; *p != '\0'; p++) {
    if (*p < '0' || *p > '9' || n >= limit) return SIZE_MAX;
    n = 10 * n + (size_t)(*p - '0');
  }
  return n < limit ? n : SIZE_MAX;
}

static ckpt_status room_for_number(ckpt_torch_storages *b, size_t number, ckpt_error *err) {
  size_t n = 2 * number + 64;
  if (number < b->n_numbered) return CKPT_OK;
  uint32_t *more = realloc(b->numbered, n * sizeof *more);
  if (more == NULL) return ckpt_fail_nomem(err, n * sizeof *more);
  memset(more + b->n_numbered, 0, (n - b->n_numbered) * sizeof *more);
  b->numbered = more;
  b->n_numbered = n;
  return CKPT_OK;
}

/* The place of the storage of that key, or SIZE_MAX. A key may have come too early to be numbered. */
static size_t find_key(const ckpt_torch_storages *b, const char *key, size_t number) {
  if (number < b->n_numbered && b->numbered[number] != 0) return b->numbered[number] - 1;
  return b->keys.count == 0 ? SIZE_MAX : ckpt_strmap_get(&b->keys, key, strlen(key));
}

/* The next storage gets that key. */
static ckpt_status remember_key(ckpt_torch_storages *b, const char *key, size_t number, ckpt_error *err) {
  if (number != SIZE_MAX) {
    CKPT_TRY(room_for_number(b, number, err));
    b->numbered[number] = (uint32_t)b->n + 1;
    return CKPT_OK;
  }
  ckpt_error here = {0};
  char *copy = ckpt_arena_copy(ckpt_document_arena(b->doc), key, strlen(key), &here);
  if (copy != NULL) return ckpt_strmap_set(&b->keys, copy, strlen(copy), b->n, err);
  if (err != NULL) *err = here;
  return here.status;
}

static ckpt_status room_for_storage(ckpt_torch_storages *b, ckpt_error *err) {
  if (b->n < b->capacity) return CKPT_OK;
  size_t capacity = b->capacity == 0 ? 64 : b->capacity * 2;
  ckpt_storage **more = realloc(b->storages, capacity * sizeof *more);
  if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
  b->storages = more;
  b->capacity = capacity;
  return CKPT_OK;
}

static ckpt_status add(ckpt_torch_storages *b, const char *key, size_t number, uint64_t bytes, unsigned swap,
                       ckpt_error *err) {
  ckpt_storage *s = NULL;
  CKPT_TRY(b->find(&s, b->context, key, bytes, swap, err));
  CKPT_TRY(ckpt_document_own_storage(b->doc, s, err));
  CKPT_TRY(room_for_storage(b, err));
  CKPT_TRY(remember_key(b, key, number, err));
  b->storages[b->n++] = s;
  return CKPT_OK;
}

ckpt_status ckpt_torch_storages_get(ckpt_storage **out, ckpt_torch_storages *b, const char *key, uint64_t bytes,
                                    unsigned swap, ckpt_error *err) {
  size_t number = number_of(b, key), at = find_key(b, key, number);
  if (at == SIZE_MAX) {
    at = b->n;
    CKPT_TRY(add(b, key, number, bytes, swap, err));
  }
  if (ckpt_storage_size(b->storages[at]) != bytes)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "storage '%s' is said to hold %llu bytes here and %zu elsewhere", key,
                     (unsigned long long)bytes, ckpt_storage_size(b->storages[at]));
  *out = b->storages[at];
  return CKPT_OK;
}

void ckpt_torch_storages_free(ckpt_torch_storages *b) {
  ckpt_strmap_free(&b->keys);
  free(b->numbered);
  free(b->storages);
}
