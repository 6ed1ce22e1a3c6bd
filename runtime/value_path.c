/*
 * value_path.c - finding a value by its path, the same paths that a listing shows.
 */
#include "value.h"

#include <stdlib.h>

static bool ends_segment(char c) { return c == '\0' || c == '.' || c == '['; }

/* The pair under a decimal integer key of a dict. */
static size_t find_integer_key(const ckpt_dict *d, const char *text, size_t n) {
  char digits[24];
  if (n == 0 || n >= sizeof digits) return SIZE_MAX;
  memcpy(digits, text, n);
  digits[n] = '\0';
  char *end;
  ckpt_value probe = {.kind = CKPT_INT};
  probe.as.integer = strtoll(digits, &end, 10);
  return *end == '\0' ? ckpt_dict_find(d, &probe) : SIZE_MAX;
}

static ckpt_value *in_dict(const ckpt_dict *d, const char *text, size_t n) {
  if (d == NULL) return NULL;
  size_t i = ckpt_dict_find_text(d, text, n);
  if (i == SIZE_MAX) i = find_integer_key(d, text, n);
  return i == SIZE_MAX ? NULL : d->flat.items[2 * i + 1];
}

/* One segment of exactly n bytes: a key, or a part of an object. */
static ckpt_value *child(const ckpt_value *v, const char *text, size_t n) {
  ckpt_value *found = in_dict(ckpt_value_dict(v), text, n);
  if (found != NULL || v->kind != CKPT_OBJECT) return found;
  ckpt_value *state = v->as.object->state;
  if (state != NULL && state->kind == CKPT_DICT) found = in_dict(state->as.dict, text, n);
  if (found != NULL) return found;
  if (n == 5 && memcmp(text, "state", 5) == 0) return state;
  return n == 4 && memcmp(text, "args", 4) == 0 ? v->made->args : NULL;
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
  char *end;
  unsigned long long i = strtoull(*path + 1, &end, 10);
  if (end == *path + 1 || *end != ']') return NULL;
  *path = end + 1;
  return ckpt_value_item(v, (size_t)i);
}

ckpt_value *ckpt_value_at(const ckpt_value *v, const char *path) {
  while (*path != '\0' && v != NULL) {
    if (*path == '.') path++;
    ckpt_value *next = *path == '[' ? step_index(v, &path) : NULL;
    v = next != NULL ? next : step_key(v, &path);
  }
  return (ckpt_value *)(uintptr_t)v;
}
