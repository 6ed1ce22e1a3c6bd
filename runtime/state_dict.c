/* state_dict.c - an ordered map of names to tensors: arrays in order, and a hash of the names. */
#include <stdlib.h>

#include "strmap.h"

typedef struct item {
  char *name;
  ckpt_tensor *tensor;
} item;

struct ckpt_state_dict {
  item *items;
  size_t n, capacity;
  ckpt_strmap index;
};

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
  free(sd->items);
  ckpt_strmap_free(&sd->index);
  free(sd);
}

static ckpt_status make_room(ckpt_state_dict *sd, ckpt_error *err) {
  if (sd->n < sd->capacity) return CKPT_OK;
  size_t capacity = sd->capacity == 0 ? 32 : sd->capacity * 2;
  item *more = realloc(sd->items, capacity * sizeof *more);
  if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
  sd->items = more;
  sd->capacity = capacity;
  return CKPT_OK;
}

ckpt_status ckpt_state_dict_set(ckpt_state_dict *sd, const char *name, ckpt_tensor *t, ckpt_error *err) {
  size_t n = strlen(name), at = ckpt_strmap_get(&sd->index, name, n);
  if (at != SIZE_MAX) {
    ckpt_tensor *before = sd->items[at].tensor;
    sd->items[at].tensor = ckpt_tensor_retain(t);
    ckpt_tensor_release(before);
    return CKPT_OK;
  }
  CKPT_TRY(make_room(sd, err));
  char *copy = strdup(name);
  if (copy == NULL) return ckpt_fail_nomem(err, n + 1);
  ckpt_status st = ckpt_strmap_set(&sd->index, copy, n, sd->n, err);
  if (st != CKPT_OK) {
    free(copy);
    return st;
  }
  sd->items[sd->n++] = (item){copy, ckpt_tensor_retain(t)};
  return CKPT_OK;
}

/* The index is made anew: removal is rare, look-up is not. */
ckpt_status ckpt_state_dict_remove(ckpt_state_dict *sd, const char *name, ckpt_error *err) {
  size_t at = ckpt_strmap_get(&sd->index, name, strlen(name));
  if (at == SIZE_MAX) return ckpt_fail(err, CKPT_E_NOTFOUND, -1, "the state dict has no '%.200s'", name);
  ckpt_strmap index = {0};
  for (size_t i = 0; i < sd->n; i++) {
    if (i == at) continue;
    const char *key = sd->items[i].name;
    ckpt_status st = ckpt_strmap_set(&index, key, strlen(key), i < at ? i : i - 1, err);
    if (st == CKPT_OK) continue;
    ckpt_strmap_free(&index);
    return st;
  }
  free(sd->items[at].name);
  ckpt_tensor_release(sd->items[at].tensor);
  memmove(sd->items + at, sd->items + at + 1, (sd->n - at - 1) * sizeof *sd->items);
  sd->n--;
  ckpt_strmap_free(&sd->index);
  sd->index = index;
  return CKPT_OK;
}

size_t ckpt_state_dict_count(const ckpt_state_dict *sd) { return sd->n; }
const char *ckpt_state_dict_name(const ckpt_state_dict *sd, size_t i) { return i < sd->n ? sd->items[i].name : NULL; }
ckpt_tensor *ckpt_state_dict_tensor(const ckpt_state_dict *sd, size_t i) {
  return i < sd->n ? sd->items[i].tensor : NULL;
}

ckpt_tensor *ckpt_state_dict_get(const ckpt_state_dict *sd, const char *name) {
  size_t at = ckpt_strmap_get(&sd->index, name, strlen(name));
  return at == SIZE_MAX ? NULL : sd->items[at].tensor;
}

/* Keys come from a file: anything may be a key. */
static ckpt_status check_key(const ckpt_value *key, size_t i, ckpt_error *err) {
  size_t n = 0;
  if (ckpt_value_kind(key) != CKPT_STR)
    return ckpt_fail(err, CKPT_E_TYPE, -1, "key %zu of the dict is of kind %s, a state dict has names only", i,
                     ckpt_kind_name(ckpt_value_kind(key)));
  const char *text = ckpt_value_text(key, &n);
  if (strlen(text) == n) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_TYPE, -1, "key %zu of the dict ('%.100s') contains a NUL, a tensor's name cannot", i,
                   text);
}

static ckpt_status take_pairs(ckpt_state_dict *sd, size_t *skipped, const ckpt_value *dict, ckpt_error *err) {
  for (size_t i = 0; i < ckpt_value_pair_count(dict); i++) {
    const ckpt_value *key = ckpt_value_pair_key(dict, i);
    ckpt_tensor *t = ckpt_value_tensor(ckpt_value_pair_value(dict, i));
    CKPT_TRY(check_key(key, i, err));
    if (t == NULL)
      ++*skipped;
    else
      CKPT_TRY(ckpt_state_dict_set(sd, ckpt_value_text(key, NULL), t, err));
  }
  return CKPT_OK;
}

ckpt_status ckpt_state_dict_from_value(ckpt_state_dict **out, const ckpt_value *dict, size_t *skipped,
                                       ckpt_error *err) {
  ckpt_kind kind = ckpt_value_kind(dict);
  if (kind != CKPT_DICT)
    return ckpt_fail(err, CKPT_E_TYPE, -1, "a value of kind %s where a state dict was expected", ckpt_kind_name(kind));
  ckpt_state_dict *sd = NULL;
  size_t left_out = 0;
  CKPT_TRY(ckpt_state_dict_new(&sd, err));
  ckpt_status st = take_pairs(sd, &left_out, dict, err);
  if (st != CKPT_OK) {
    ckpt_state_dict_free(sd);
    return st;
  }
  if (skipped != NULL) *skipped = left_out;
  *out = sd;
  return CKPT_OK;
}
