/*
 * dict.c - key look-up: linear in small dicts, by open addressing in large ones. Pairs keep their order in `flat`; the
 * table holds pair numbers only, so that it can be thrown away and made again.
 */
#include "value.h"

enum { LINEAR_PAIRS = 8 };

static bool is_number(const ckpt_value *v) {
  return v->kind == CKPT_INT || v->kind == CKPT_FLOAT || v->kind == CKPT_BOOLEAN;
}

static double as_number(const ckpt_value *v) {
  if (v->kind == CKPT_FLOAT) return v->as.number;
  return v->kind == CKPT_INT ? (double)v->as.integer : (double)v->as.boolean;
}

/* Exactly: beyond 2^53 a double stands for one integer only. */
static bool int_equals(int64_t i, double d) {
  const double bound = 9223372036854775808.0; /* 2^63 */
  return d >= -bound && d < bound && d == (double)i && (int64_t)d == i;
}

static bool equal(const ckpt_value *a, const ckpt_value *b) {
  if (a == b) return true;
  if (a->kind == CKPT_INT && b->kind == CKPT_INT) return a->as.integer == b->as.integer;
  if (a->kind == CKPT_INT && b->kind == CKPT_FLOAT) return int_equals(a->as.integer, b->as.number);
  if (a->kind == CKPT_FLOAT && b->kind == CKPT_INT) return int_equals(b->as.integer, a->as.number);
  if (is_number(a) && is_number(b)) return as_number(a) == as_number(b);
  if (a->kind != b->kind) return false;
  if (a->kind == CKPT_NONE) return true;
  const char *text = ckpt_value_text(a, NULL);
  return text != NULL && a->as.text.n == b->as.text.n && memcmp(text, b->as.text.bytes, a->as.text.n) == 0;
}

static size_t hash(const ckpt_value *v) {
  uint64_t h = 0xcbf29ce484222325u;
  double number = is_number(v) ? as_number(v) + 0.0 : 0; /* +0.0: -0.0 equals 0.0 */
  size_t n = sizeof number;
  const char *bytes = is_number(v) ? (const char *)&number : ckpt_value_text(v, &n);
  if (bytes == NULL) return (size_t)((uint64_t)(uintptr_t)v * 0x9e3779b97f4a7c15u >> 24);
  for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)bytes[i]) * 0x100000001b3u;
  return (size_t)(h ^ h >> 29);
}

/* The slot that holds an equal key's pair, or the free slot where it would go. */
static uint32_t *find_slot(const ckpt_dict *d, const ckpt_value *key) {
  for (size_t at = hash(key) & (d->slots - 1);; at = (at + 1) & (d->slots - 1)) {
    uint32_t pair = d->table[at];
    if (pair == 0 || equal(d->flat.items[2 * (size_t)(pair - 1)], key)) return &d->table[at];
  }
}

static size_t find_linear(const ckpt_dict *d, const ckpt_value *key) {
  for (size_t i = d->flat.n / 2; i-- > 0;)
    if (equal(d->flat.items[2 * i], key)) return i;
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

ckpt_status ckpt_dict_put(ckpt_dict *d, ckpt_document *doc, ckpt_value *key, ckpt_value *item, ckpt_error *err) {
  size_t at = ckpt_dict_find(d, key);
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
  if (d->table == NULL || 2 * pairs > d->slots) {
    st = ckpt_dict_settle(d, doc, err);
    if (st != CKPT_OK) d->flat.n -= 2;
    return st;
  }
  *find_slot(d, key) = (uint32_t)pairs;
  return CKPT_OK;
}
