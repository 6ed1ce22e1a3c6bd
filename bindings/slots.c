/* slots.c - what a trainer has bound: arrays and variables, by group and path. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "run.h"

/* ---- strings ---- */

ckpt_status ckpt_strings_add(ckpt_strings *s, const char *text, size_t n, ckpt_error *err) {
  if (s->n == s->capacity) {
    size_t capacity = s->capacity == 0 ? 8 : s->capacity * 2;
    char **more = realloc(s->items, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
    s->items = more;
    s->capacity = capacity;
  }
  char *copy = strndup(text, n);
  if (copy == NULL) return ckpt_fail_nomem(err, n + 1);
  s->items[s->n++] = copy;
  return CKPT_OK;
}

ckpt_status ckpt_strings_addf(ckpt_strings *s, ckpt_error *err, const char *format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  return ckpt_strings_add(s, text, strlen(text), err);
}

bool ckpt_strings_has(const ckpt_strings *s, const char *text) {
  for (size_t i = 0; i < s->n; i++)
    if (strcmp(s->items[i], text) == 0) return true;
  return false;
}

void ckpt_strings_free(ckpt_strings *s) {
  for (size_t i = 0; i < s->n; i++) free(s->items[i]);
  free(s->items);
  *s = (ckpt_strings){0};
}

/* ---- finding ---- */

static void put_key(char *key, const char *group, const char *path) {
  size_t g = strlen(group);
  memcpy(key, group, g);
  key[g] = '\n';
  memcpy(key + g + 1, path, strlen(path) + 1);
}

static char *slot_key(const char *group, const char *path) {
  char *key = malloc(strlen(group) + strlen(path) + 2);
  if (key != NULL) put_key(key, group, path);
  return key;
}

/* Names are short, and a slot must not seem to be missing because memory is: only a name beyond any is allocated. */
ckpt_slot *ckpt_slot_find(const ckpt_checkpointer *cp, const char *group, const char *path) {
  char small[1024];
  bool fits = strlen(group) + strlen(path) + 2 <= sizeof small;
  char *key = fits ? small : slot_key(group, path);
  if (fits) put_key(small, group, path);
  size_t at = key == NULL ? SIZE_MAX : ckpt_strmap_get(&cp->slot_index, key, strlen(key));
  if (!fits) free(key);
  return at == SIZE_MAX ? NULL : cp->slots[at];
}

/* ---- adding ---- */

static ckpt_status check_names(const ckpt_checkpointer *cp, const char *group, const char *path, ckpt_error *err) {
  bool valid = group[0] != '\0' && strpbrk(group, ".\n") == NULL && path[0] != '\0';
  if (!valid) return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "'%s' / '%s' is no group and name to bind", group, path);
  if (ckpt_slot_find(cp, group, path) == NULL) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_EXISTS, -1, "'%s' is bound twice in group '%s'", path, group);
}

static ckpt_status room(ckpt_checkpointer *cp, ckpt_error *err) {
  if (cp->n_slots < cp->slot_capacity) return CKPT_OK;
  size_t capacity = cp->slot_capacity == 0 ? 32 : cp->slot_capacity * 2;
  ckpt_slot **more = realloc(cp->slots, capacity * sizeof *more);
  if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
  cp->slots = more;
  cp->slot_capacity = capacity;
  return CKPT_OK;
}

static void slot_free(ckpt_slot *s) {
  if (s == NULL) return;
  if (s->kind == CKPT_SLOT_STRING) free(s->at.string);
  ckpt_tensor_release(s->tensor);
  free(s->group);
  free(s->path);
  free(s);
}

static ckpt_status index_slot(ckpt_checkpointer *cp, const char *group, const char *path, ckpt_error *err) {
  char *key = slot_key(group, path);
  if (key == NULL) return ckpt_fail_nomem(err, 64);
  ckpt_status st = ckpt_strings_add(&cp->slot_names, key, strlen(key), err);
  free(key);
  if (st != CKPT_OK) return st;
  key = cp->slot_names.items[cp->slot_names.n - 1];
  return ckpt_strmap_set(&cp->slot_index, key, strlen(key), cp->n_slots, err);
}

ckpt_status ckpt_slot_add(ckpt_slot **out, ckpt_checkpointer *cp, const char *group, const char *path,
                          ckpt_slot_kind kind, ckpt_error *err) {
  CKPT_TRY(check_names(cp, group, path, err));
  CKPT_TRY(room(cp, err));
  if (!ckpt_strings_has(&cp->groups, group)) CKPT_TRY(ckpt_strings_add(&cp->groups, group, strlen(group), err));
  ckpt_slot *s = calloc(1, sizeof *s);
  if (s == NULL) return ckpt_fail_nomem(err, sizeof *s);
  *s = (ckpt_slot){.group = strdup(group), .path = strdup(path), .kind = kind};
  ckpt_status st = s->group == NULL || s->path == NULL ? ckpt_fail_nomem(err, 64) : index_slot(cp, group, path, err);
  if (st != CKPT_OK) {
    slot_free(s);
    return st;
  }
  cp->slots[cp->n_slots++] = s;
  *out = s;
  return CKPT_OK;
}

void ckpt_slots_free(ckpt_checkpointer *cp) {
  for (size_t i = 0; i < cp->n_slots; i++) slot_free(cp->slots[i]);
  free(cp->slots);
  ckpt_strmap_free(&cp->slot_index);
  ckpt_strings_free(&cp->slot_names);
  ckpt_strings_free(&cp->groups);
}

ckpt_status ckpt_slot_bind_tensor(ckpt_checkpointer *cp, const char *group, const char *path, ckpt_tensor *t,
                                  bool buffer, ckpt_error *err) {
  ckpt_slot *s = NULL;
  CKPT_TRY(ckpt_slot_add(&s, cp, group, path, CKPT_SLOT_TENSOR, err));
  s->tensor = ckpt_tensor_retain(t);
  s->buffer = buffer;
  return CKPT_OK;
}

static ckpt_status bind_array(ckpt_checkpointer *cp, const char *group, const char *name, ckpt_dtype dtype, void *data,
                              int ndim, const int64_t *shape, bool buffer, ckpt_error *err) {
  ckpt_tensor *t = NULL;
  CKPT_TRY(ckpt_tensor_borrow(&t, dtype, data, ndim, shape, err));
  ckpt_status st = ckpt_slot_bind_tensor(cp, group, name, t, buffer, err);
  ckpt_tensor_release(t);
  return st;
}

ckpt_status ckpt_bind_tensor(ckpt_checkpointer *cp, const char *group, const char *name, ckpt_dtype dtype, void *data,
                             int ndim, const int64_t *shape, ckpt_error *err) {
  return bind_array(cp, group, name, dtype, data, ndim, shape, false, err);
}

ckpt_status ckpt_bind_buffer(ckpt_checkpointer *cp, const char *name, ckpt_dtype dtype, void *data, int ndim,
                             const int64_t *shape, ckpt_error *err) {
  return bind_array(cp, "model", name, dtype, data, ndim, shape, true, err);
}

ckpt_status ckpt_bind_int(ckpt_checkpointer *cp, const char *group, const char *path, int64_t *value, ckpt_error *err) {
  ckpt_slot *s = NULL;
  CKPT_TRY(ckpt_slot_add(&s, cp, group, path, CKPT_SLOT_INT, err));
  s->at.integer = value;
  return CKPT_OK;
}

ckpt_status ckpt_bind_double(ckpt_checkpointer *cp, const char *group, const char *path, double *value,
                             ckpt_error *err) {
  ckpt_slot *s = NULL;
  CKPT_TRY(ckpt_slot_add(&s, cp, group, path, CKPT_SLOT_DOUBLE, err));
  s->at.number = value;
  return CKPT_OK;
}

ckpt_status ckpt_bind_bool(ckpt_checkpointer *cp, const char *group, const char *path, bool *value, ckpt_error *err) {
  ckpt_slot *s = NULL;
  CKPT_TRY(ckpt_slot_add(&s, cp, group, path, CKPT_SLOT_BOOL, err));
  s->at.boolean = value;
  return CKPT_OK;
}

/* The bound slot of that kind, or a new one; its `at` is NULL when new. */
static ckpt_status get_or_add(ckpt_slot **out, ckpt_checkpointer *cp, const char *group, const char *path,
                              ckpt_slot_kind kind, ckpt_error *err) {
  ckpt_slot *s = ckpt_slot_find(cp, group, path);
  if (s == NULL) return ckpt_slot_add(out, cp, group, path, kind, err);
  if (s->kind != kind)
    return ckpt_fail(err, CKPT_E_TYPE, -1, "'%s' in group '%s' is bound as something else", path, group);
  *out = s;
  return CKPT_OK;
}

ckpt_status ckpt_slot_set_int(ckpt_checkpointer *cp, const char *group, const char *path, int64_t v, ckpt_error *err) {
  ckpt_slot *s = NULL;
  CKPT_TRY(get_or_add(&s, cp, group, path, CKPT_SLOT_INT, err));
  if (s->at.integer == NULL) s->at.integer = &s->own.integer;
  *s->at.integer = v;
  return CKPT_OK;
}

ckpt_status ckpt_slot_set_double(ckpt_checkpointer *cp, const char *group, const char *path, double v,
                                 ckpt_error *err) {
  ckpt_slot *s = NULL;
  CKPT_TRY(get_or_add(&s, cp, group, path, CKPT_SLOT_DOUBLE, err));
  if (s->at.number == NULL) s->at.number = &s->own.number;
  *s->at.number = v;
  return CKPT_OK;
}

ckpt_status ckpt_slot_set_bool(ckpt_checkpointer *cp, const char *group, const char *path, bool v, ckpt_error *err) {
  ckpt_slot *s = NULL;
  CKPT_TRY(get_or_add(&s, cp, group, path, CKPT_SLOT_BOOL, err));
  if (s->at.boolean == NULL) s->at.boolean = &s->own.boolean;
  *s->at.boolean = v;
  return CKPT_OK;
}

ckpt_status ckpt_set_string(ckpt_checkpointer *cp, const char *group, const char *path, const char *value,
                            ckpt_error *err) {
  ckpt_slot *s = NULL;
  char *copy = strdup(value);
  if (copy == NULL) return ckpt_fail_nomem(err, strlen(value) + 1);
  ckpt_status st = get_or_add(&s, cp, group, path, CKPT_SLOT_STRING, err);
  if (st != CKPT_OK) {
    free(copy);
    return st;
  }
  free(s->at.string);
  s->at.string = copy;
  return CKPT_OK;
}

const char *ckpt_get_string(const ckpt_checkpointer *cp, const char *group, const char *path) {
  const ckpt_slot *s = ckpt_slot_find(cp, group, path);
  return s == NULL || s->kind != CKPT_SLOT_STRING ? NULL : s->at.string;
}

/* ---- parameters ---- */

bool ckpt_slot_is_parameter(const ckpt_slot *s) {
  return s->kind == CKPT_SLOT_TENSOR && !s->buffer && strcmp(s->group, "model") == 0;
}

ckpt_status ckpt_set_param_group(ckpt_checkpointer *cp, const char *parameter, int group, ckpt_error *err) {
  ckpt_slot *s = ckpt_slot_find(cp, "model", parameter);
  if (s == NULL || !ckpt_slot_is_parameter(s))
    return ckpt_fail(err, CKPT_E_NOTFOUND, -1, "'%s' is no bound parameter of the model", parameter);
  if (group < 0 || group > 999) return ckpt_fail(err, CKPT_E_RANGE, -1, "param group %d: 0 to 999", group);
  s->param_group = group;
  return CKPT_OK;
}

ckpt_status ckpt_parameters(ckpt_slot ***out, size_t *n, const ckpt_checkpointer *cp, ckpt_error *err) {
  ckpt_slot **list = malloc((cp->n_slots + 1) * sizeof *list);
  if (list == NULL) return ckpt_fail_nomem(err, (cp->n_slots + 1) * sizeof *list);
  size_t count = 0;
  int last = 0;
  for (size_t i = 0; i < cp->n_slots; i++)
    if (ckpt_slot_is_parameter(cp->slots[i]) && cp->slots[i]->param_group > last) last = cp->slots[i]->param_group;
  for (int group = 0; group <= last; group++)
    for (size_t i = 0; i < cp->n_slots; i++)
      if (ckpt_slot_is_parameter(cp->slots[i]) && cp->slots[i]->param_group == group) list[count++] = cp->slots[i];
  for (size_t i = 0; i < count; i++) list[i]->parameter_index = i;
  *out = list;
  *n = count;
  return CKPT_OK;
}

const ckpt_slot *ckpt_slot_owner(const char **rest, const ckpt_checkpointer *cp, const ckpt_slot *slot) {
  char name[1024];
  size_t n = strlen(slot->path);
  if (n >= sizeof name) return NULL;
  memcpy(name, slot->path, n + 1);
  for (char *dot = strrchr(name, '.'); dot != NULL; dot = strrchr(name, '.')) {
    *dot = '\0';
    const ckpt_slot *owner = ckpt_slot_find(cp, "model", name);
    if (owner == NULL || !ckpt_slot_is_parameter(owner)) continue;
    *rest = slot->path + (dot - name) + 1;
    return owner;
  }
  return NULL;
}

int ckpt_optimizer_path(const char **key, const char *path) {
  char *end;
  long group = strtol(path, &end, 10);
  *key = path;
  if (end == path || *end != '.' || group < 0 || group > 999) return 0;
  *key = end + 1;
  return (int)group;
}
