/*
 * edit.c - changing values in place. A dict stays hashed, a set stays without doubles, and what a file had built by a
 * call (set([...])) forgets that call, so that it is written as it is now.
 */
#include <stdlib.h>

#include "key.h"

static ckpt_status wrong_kind(const ckpt_value *v, const char *wanted, ckpt_error *err) {
  return ckpt_fail(err, CKPT_E_TYPE, -1, "a %s where a %s was expected", ckpt_kind_name(ckpt_value_kind(v)), wanted);
}

/* ---- dicts ---- */

static ckpt_dict *pairs_of(ckpt_value *v) {
  if (v->kind == CKPT_DICT) return v->as.dict;
  return v->kind == CKPT_OBJECT && v->made->how != CKPT_BY_PERSID ? &v->as.object->dict : NULL;
}

ckpt_value *ckpt_value_find(const ckpt_value *v, const ckpt_value *key) {
  const ckpt_dict *d = ckpt_value_dict(v);
  size_t at = d == NULL ? SIZE_MAX : ckpt_dict_find(d, key);
  return at == SIZE_MAX ? NULL : d->flat.items[2 * at + 1];
}

ckpt_status ckpt_value_put(ckpt_value *v, ckpt_document *doc, ckpt_value *key, ckpt_value *item, ckpt_error *err) {
  ckpt_dict *d = pairs_of(v);
  if (d == NULL) return wrong_kind(v, "dict", err);
  if (!ckpt_value_is_hashable(key))
    return ckpt_fail(err, CKPT_E_TYPE, -1, "a %s cannot be the key of a dict", ckpt_kind_name(ckpt_value_kind(key)));
  CKPT_TRY(ckpt_dict_put(d, doc, key, item, err));
  if (v->kind == CKPT_DICT) v->made = NULL;
  return CKPT_OK;
}

ckpt_status ckpt_value_remove_key(ckpt_value *v, const ckpt_value *key, ckpt_error *err) {
  ckpt_dict *d = pairs_of(v);
  if (d == NULL) return wrong_kind(v, "dict", err);
  size_t at = ckpt_dict_find(d, key);
  if (at == SIZE_MAX) return ckpt_fail(err, CKPT_E_NOTFOUND, -1, "the dict has no such key");
  ckpt_dict_remove(d, at);
  if (v->kind == CKPT_DICT) v->made = NULL;
  return CKPT_OK;
}

static bool all_differ(const ckpt_dict *seen, size_t n) { return seen->flat.n / 2 == n; }

ckpt_status ckpt_value_rename_keys(ckpt_value *v, ckpt_value *const *keys, ckpt_error *err) {
  ckpt_dict *d = pairs_of(v), seen = {0};
  ckpt_document *scratch = NULL;
  if (d == NULL) return wrong_kind(v, "dict", err);
  CKPT_TRY(ckpt_document_new(&scratch, err));
  ckpt_status st = CKPT_OK;
  size_t n = d->flat.n / 2;
  for (size_t i = 0; st == CKPT_OK && i < n; i++) {
    st = ckpt_dict_put(&seen, scratch, keys[i], keys[i], err);
    if (st == CKPT_OK && !all_differ(&seen, i + 1))
      st = ckpt_fail(err, CKPT_E_EXISTS, -1, "two keys would become '%.200s'",
                     keys[i]->kind == CKPT_STR ? keys[i]->as.text.bytes : "?");
  }
  if (st == CKPT_OK) ckpt_dict_set_keys(d, keys);
  ckpt_document_release(scratch);
  return st;
}

/* ---- lists ---- */

static ckpt_seq *items_of(ckpt_value *v) {
  if (v->kind == CKPT_LIST) return &v->as.seq;
  return v->kind == CKPT_OBJECT && v->made->how != CKPT_BY_PERSID ? &v->as.object->items : NULL;
}

static ckpt_status past_end(size_t i, const ckpt_seq *seq, ckpt_error *err) {
  return ckpt_fail(err, CKPT_E_RANGE, -1, "there is no item %zu in a list of %zu (counted from 0)", i, seq->n);
}

ckpt_status ckpt_value_replace(ckpt_value *list, size_t i, ckpt_value *item, ckpt_error *err) {
  ckpt_seq *seq = items_of(list);
  if (seq == NULL) return wrong_kind(list, "list", err);
  if (i >= seq->n) return past_end(i, seq, err);
  seq->items[i] = item;
  return CKPT_OK;
}

ckpt_status ckpt_value_insert(ckpt_value *list, ckpt_document *doc, size_t i, ckpt_value *item, ckpt_error *err) {
  ckpt_seq *seq = items_of(list);
  if (seq == NULL) return wrong_kind(list, "list", err);
  if (i > seq->n) return past_end(i, seq, err);
  CKPT_TRY(ckpt_seq_push(seq, doc, item, err));
  memmove(seq->items + i + 1, seq->items + i, (seq->n - 1 - i) * sizeof *seq->items);
  seq->items[i] = item;
  return CKPT_OK;
}

ckpt_status ckpt_value_remove_item(ckpt_value *list, size_t i, ckpt_error *err) {
  ckpt_seq *seq = items_of(list);
  if (seq == NULL) return wrong_kind(list, "list", err);
  if (i >= seq->n) return past_end(i, seq, err);
  memmove(seq->items + i, seq->items + i + 1, (seq->n - 1 - i) * sizeof *seq->items);
  seq->n--;
  return CKPT_OK;
}

ckpt_status ckpt_value_extend(ckpt_value *list, ckpt_document *doc, const ckpt_value *from, ckpt_error *err) {
  ckpt_seq *seq = items_of(list);
  if (seq == NULL) return wrong_kind(list, "list", err);
  size_t before = seq->n;
  for (size_t i = 0, n = ckpt_value_count(from); i < n; i++) { /* n once: a list may be extended by itself */
    ckpt_status st = ckpt_value_item(from, i) == NULL ? wrong_kind(from, "list", err)
                                                      : ckpt_seq_push(seq, doc, ckpt_value_item(from, i), err);
    if (st == CKPT_OK) continue;
    seq->n = before;
    return st;
  }
  return CKPT_OK;
}

/* ---- sets ---- */

/* The items of a set that is the caller's to change: what set([...]) shares with its argument is copied first. */
static ckpt_status own_items(ckpt_value *set, ckpt_document *doc, ckpt_error *err) {
  if (set->made == NULL) return CKPT_OK;
  ckpt_seq copy = {0};
  for (size_t i = 0; i < set->as.seq.n; i++) CKPT_TRY(ckpt_seq_push(&copy, doc, set->as.seq.items[i], err));
  set->as.seq = copy;
  set->made = NULL;
  return CKPT_OK;
}

static size_t find_item(const ckpt_seq *seq, const ckpt_value *item) {
  for (size_t i = 0; i < seq->n; i++)
    if (ckpt_key_equal(seq->items[i], item)) return i;
  return SIZE_MAX;
}

bool ckpt_value_contains(const ckpt_value *v, const ckpt_value *item) {
  if (v->kind == CKPT_SET || v->kind == CKPT_FROZENSET) return find_item(&v->as.seq, item) != SIZE_MAX;
  return ckpt_value_find(v, item) != NULL;
}

ckpt_status ckpt_value_add(ckpt_value *set, ckpt_document *doc, ckpt_value *item, ckpt_error *err) {
  if (set->kind != CKPT_SET) return wrong_kind(set, "set", err);
  if (!ckpt_value_is_hashable(item))
    return ckpt_fail(err, CKPT_E_TYPE, -1, "a %s cannot be in a set", ckpt_kind_name(ckpt_value_kind(item)));
  if (find_item(&set->as.seq, item) != SIZE_MAX) return CKPT_OK;
  CKPT_TRY(own_items(set, doc, err));
  return ckpt_seq_push(&set->as.seq, doc, item, err);
}

ckpt_status ckpt_value_discard(ckpt_value *set, ckpt_document *doc, const ckpt_value *item, ckpt_error *err) {
  if (set->kind != CKPT_SET) return wrong_kind(set, "set", err);
  size_t at = find_item(&set->as.seq, item);
  if (at == SIZE_MAX) return ckpt_fail(err, CKPT_E_NOTFOUND, -1, "the set has no such item");
  CKPT_TRY(own_items(set, doc, err));
  ckpt_seq *seq = &set->as.seq;
  memmove(seq->items + at, seq->items + at + 1, (seq->n - 1 - at) * sizeof *seq->items);
  seq->n--;
  return CKPT_OK;
}

/* By way of a dict of its own, so that large sets take no quadratic time. */
ckpt_status ckpt_set_settle(ckpt_value *set, ckpt_error *err) {
  ckpt_document *scratch = NULL;
  ckpt_dict seen = {0};
  ckpt_seq *seq = &set->as.seq;
  CKPT_TRY(ckpt_document_new(&scratch, err));
  ckpt_status st = CKPT_OK;
  for (size_t i = 0; st == CKPT_OK && i < seq->n; i++)
    if (ckpt_dict_find(&seen, seq->items[i]) == SIZE_MAX)
      st = ckpt_dict_put(&seen, scratch, seq->items[i], seq->items[i], err);
  if (st == CKPT_OK) {
    seq->n = seen.flat.n / 2;
    for (size_t i = 0; i < seq->n; i++) seq->items[i] = seen.flat.items[2 * i];
  }
  ckpt_document_release(scratch);
  return st;
}

/* ---- state ---- */

ckpt_value *ckpt_value_state(const ckpt_value *v) {
  return v->kind == CKPT_DICT ? v->as.dict->state : ckpt_value_object_state(v);
}

ckpt_status ckpt_value_set_state(ckpt_value *v, ckpt_value *state, ckpt_error *err) {
  if (v->kind == CKPT_DICT && v->ordered)
    v->as.dict->state = state;
  else if (v->kind == CKPT_OBJECT && v->made->how != CKPT_BY_PERSID)
    v->as.object->state = state;
  else
    return ckpt_fail(err, CKPT_E_TYPE, -1, "a %s has no state: objects and OrderedDicts have",
                     ckpt_kind_name(ckpt_value_kind(v)));
  return CKPT_OK;
}
