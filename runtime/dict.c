/*
 * dict.c - key look-up: linear in small dicts, by open addressing in large ones. Pairs keep their order in `flat`; the
 * table holds pair numbers only, so that it can be thrown away and made again.
 */
#include "key.h"

enum { LINEAR_PAIRS = 8 };

/* The slot that holds an equal key's pair, or the free slot where it would go. */
static uint32_t *find_hashed(const ckpt_dict *d, const ckpt_value *key, size_t hash) {
  for (size_t at = hash & (d->slots - 1);; at = (at + 1) & (d->slots - 1)) {
    uint32_t pair = d->table[at];
    if (pair == 0 || ckpt_key_equal(d->flat.items[2 * (size_t)(pair - 1)], key)) return &d->table[at];
  }
}

static uint32_t *find_slot(const ckpt_dict *d, const ckpt_value *key) {
  return find_hashed(d, key, ckpt_key_hash(key));
}

static size_t find_linear(const ckpt_dict *d, const ckpt_value *key) {
  for (size_t i = d->flat.n / 2; i-- > 0;)
    if (ckpt_key_equal(d->flat.items[2 * i], key)) return i;
  return SIZE_MAX;
}

size_t ckpt_dict_find(const ckpt_dict *d, const ckpt_value *key) {
  if (d->table == NULL) return find_linear(d, key);
  uint32_t pair = *find_slot(d, key);
  return pair == 0 ? SIZE_MAX : (size_t)pair - 1;
}

size_t ckpt_dict_find_text(const ckpt_dict *d, const char *key, size_t n) {
  ckpt_value probe = {.kind = CKPT_STR};
  probe.as.text.bytes = key;
  probe.as.text.n = n;
  return ckpt_dict_find(d, &probe);
}

static ckpt_status new_table(ckpt_dict *d, ckpt_document *doc, ckpt_error *err) {
  size_t slots = 32, pairs = d->flat.n / 2;
  if (pairs >= UINT32_MAX / 4) return ckpt_fail(err, CKPT_E_LIMIT, -1, "a dict of %zu keys", pairs);
  while (slots < 4 * pairs) slots *= 2;
  ckpt_error here = {0};
  uint32_t *table = ckpt_arena_alloc(ckpt_document_arena(doc), slots * sizeof *table, &here);
  if (table == NULL) {
    if (err != NULL) *err = here;
    return here.status;
  }
  d->table = table;
  d->slots = slots;
  return CKPT_OK;
}

static void settle_linear(ckpt_dict *d) {
  size_t n = d->flat.n / 2;
  ckpt_value **flat = d->flat.items;
  d->flat.n = 0;
  for (size_t i = 0; i < n; i++) {
    size_t at = find_linear(d, flat[2 * i]);
    if (at == SIZE_MAX) {
      at = d->flat.n / 2;
      flat[2 * at] = flat[2 * i];
      d->flat.n += 2;
    }
    flat[2 * at + 1] = flat[2 * i + 1];
  }
}

ckpt_status ckpt_dict_settle(ckpt_dict *d, ckpt_document *doc, ckpt_error *err) {
  size_t n = d->flat.n / 2, kept = 0;
  d->unsettled = false;
  if (n <= LINEAR_PAIRS) {
    settle_linear(d);
    return CKPT_OK;
  }
  CKPT_TRY(new_table(d, doc, err));
  ckpt_value **flat = d->flat.items;
  for (size_t i = 0; i < n; i++) {
    uint32_t *slot = find_slot(d, flat[2 * i]);
    if (*slot == 0) {
      flat[2 * kept] = flat[2 * i];
      *slot = (uint32_t)++kept;
    }
    flat[2 * (size_t)(*slot - 1) + 1] = flat[2 * i + 1];
  }
  d->flat.n = 2 * kept;
  return CKPT_OK;
}

ckpt_status ckpt_dict_put_hashed(ckpt_dict *d, ckpt_document *doc, ckpt_value *key, size_t hash, ckpt_value *item,
                                 ckpt_error *err) {
  uint32_t *slot = d->table == NULL ? NULL : find_hashed(d, key, hash);
  size_t at = slot == NULL ? find_linear(d, key) : (size_t)*slot - 1; /* of a free one SIZE_MAX */
  if (at != SIZE_MAX) {
    d->flat.items[2 * at + 1] = item;
    return CKPT_OK;
  }
  CKPT_TRY(ckpt_seq_push(&d->flat, doc, key, err));
  ckpt_status st = ckpt_seq_push(&d->flat, doc, item, err);
  if (st != CKPT_OK) {
    d->flat.n--;
    return st;
  }
  size_t pairs = d->flat.n / 2;
  if (slot == NULL || 2 * pairs > d->slots) {
    st = ckpt_dict_settle(d, doc, err);
    if (st != CKPT_OK) d->flat.n -= 2;
    return st;
  }
  *slot = (uint32_t)pairs;
  return CKPT_OK;
}

ckpt_status ckpt_dict_put(ckpt_dict *d, ckpt_document *doc, ckpt_value *key, ckpt_value *item, ckpt_error *err) {
  return ckpt_dict_put_hashed(d, doc, key, d->table == NULL ? 0 : ckpt_key_hash(key), item, err);
}

/* Entries behind the hole move into it where their way from home leads over it, so that no search ends too early. */
static void free_slot(ckpt_dict *d, size_t hole) {
  size_t mask = d->slots - 1;
  for (size_t at = (hole + 1) & mask; d->table[at] != 0; at = (at + 1) & mask) {
    size_t home = ckpt_key_hash(d->flat.items[2 * (size_t)(d->table[at] - 1)]) & mask;
    if (((at - home) & mask) < ((at - hole) & mask)) continue;
    d->table[hole] = d->table[at];
    hole = at;
  }
  d->table[hole] = 0;
}

void ckpt_dict_remove(ckpt_dict *d, size_t pair) {
  if (d->table != NULL) {
    free_slot(d, (size_t)(find_slot(d, d->flat.items[2 * pair]) - d->table));
    for (size_t i = 0; i < d->slots; i++) d->table[i] -= d->table[i] > pair + 1 ? 1 : 0;
  }
  ckpt_value **at = d->flat.items + 2 * pair;
  memmove(at, at + 2, (d->flat.n - 2 * pair - 2) * sizeof *at);
  d->flat.n -= 2;
}

void ckpt_dict_set_keys(ckpt_dict *d, ckpt_value *const *keys) {
  size_t n = d->flat.n / 2;
  for (size_t i = 0; i < n; i++) d->flat.items[2 * i] = keys[i];
  if (d->table == NULL) return;
  memset(d->table, 0, d->slots * sizeof *d->table);
  for (size_t i = 0; i < n; i++) *find_slot(d, keys[i]) = (uint32_t)(i + 1);
}
