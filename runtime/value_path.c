/*
 * value_path.c - finding a value by its path, the same paths that a listing shows.
 */
#include <stdlib.h>

#include "repr.h"
#include "value.h"

static bool ends_segment(char c) { return c == '\0' || c == '.' || c == '['; }

/* A decimal integer as Python writes it: no sign but '-', no leading zeros, within 64 bits. */
static bool is_integer(int64_t *out, const char *text, size_t n) {
  size_t sign = n > 0 && text[0] == '-' ? 1 : 0;
  int64_t v = 0;
  if (n == sign || n > 20 || (text[sign] == '0' && n > 1)) return false;
  for (size_t i = sign; i < n; i++) {
    bool digit = text[i] >= '0' && text[i] <= '9';
    if (!digit || !ckpt_mul_i64(&v, v, 10) || !ckpt_add_i64(&v, v, '0' - text[i])) return false;
  }
  if (sign == 0 && v == INT64_MIN) return false;
  *out = sign == 1 ? v : -v; /* counted downwards, so that the smallest fits */
  return true;
}

/* The pair under a decimal integer key of a dict. */
static size_t find_integer_key(const ckpt_dict *d, const char *text, size_t n) {
  ckpt_value probe = {.kind = CKPT_INT};
  return is_integer(&probe.as.integer, text, n) ? ckpt_dict_find(d, &probe) : SIZE_MAX;
}

/* The pair under a key of another kind, by its repr: (10, 10, 0), True, 1.5. */
static size_t find_repr_key(const ckpt_dict *d, const char *text, size_t n) {
  for (size_t i = 0; i < d->flat.n / 2; i++) {
    const ckpt_value *key = d->flat.items[2 * i];
    char *repr = NULL;
    size_t length = 0;
    if (key->kind == CKPT_STR || key->kind == CKPT_INT) continue;
    if (ckpt_repr(&repr, &length, key, n + 1, NULL) != CKPT_OK) return SIZE_MAX;
    bool same = length == n && memcmp(repr, text, n) == 0;
    free(repr);
    if (same) return i;
  }
  return SIZE_MAX;
}

static ckpt_value *in_dict(const ckpt_dict *d, const char *text, size_t n) {
  if (d == NULL) return NULL;
  size_t i = ckpt_dict_find_text(d, text, n);
  if (i == SIZE_MAX) i = find_integer_key(d, text, n);
  if (i == SIZE_MAX) i = find_repr_key(d, text, n);
  return i == SIZE_MAX ? NULL : d->flat.items[2 * i + 1];
}

/* One segment of exactly n bytes: a key, or a part of an object. */
static ckpt_value *child(const ckpt_value *v, const char *text, size_t n) {
  ckpt_value *found = in_dict(ckpt_value_dict(v), text, n);
  if (found != NULL) return found;
  ckpt_value *state = ckpt_value_state(v);
  if (state != NULL && state->kind == CKPT_DICT) found = in_dict(state->as.dict, text, n);
  if (found != NULL || v->kind == CKPT_DICT) return found;
  if (n == 5 && memcmp(text, "state", 5) == 0) return state;
  if (n == 6 && memcmp(text, "kwargs", 6) == 0) return v->kind == CKPT_OBJECT ? v->made->kwargs : NULL;
  return n == 4 && memcmp(text, "args", 4) == 0 ? ckpt_value_object_args(v) : NULL;
}

/* The longest beginning of `path` that names a child; *path moves behind it. */
static ckpt_value *step_key(const ckpt_value *v, const char **path) {
  for (size_t n = strlen(*path); n > 0; n--) {
    if (!ends_segment((*path)[n])) continue;
    ckpt_value *found = child(v, *path, n);
    if (found == NULL) continue;
    *path += n;
    return found;
  }
  return NULL;
}

static ckpt_value *step_index(const ckpt_value *v, const char **path) {
  const char *end = strchr(*path, ']');
  int64_t i = 0;
  if (end == NULL || !is_integer(&i, *path + 1, (size_t)(end - *path - 1)) || i < 0) return NULL;
  ckpt_value *found = ckpt_value_item(v, (size_t)i);
  if (found != NULL) *path = end + 1;
  return found;
}

/* A key may itself begin with '.' or '[', so what is there literally is tried first. */
static ckpt_value *step(const ckpt_value *v, const char **path) {
  ckpt_value *next = **path == '[' ? step_index(v, path) : NULL;
  return next != NULL ? next : step_key(v, path);
}

ckpt_value *ckpt_value_at(const ckpt_value *v, const char *path) {
  bool first = true;
  while (*path != '\0' && v != NULL) {
    const char *rest = path;
    if (!first && *rest == '.') rest++;
    const ckpt_value *next = step(v, &rest);
    if (next == NULL && first && *path == '.') { /* the leading dot that listings leave out */
      rest = path + 1;
      next = step(v, &rest);
    }
    v = next;
    path = rest;
    first = false;
  }
  return (ckpt_value *)(uintptr_t)v;
}
