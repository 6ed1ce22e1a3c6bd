/*
 * state_dict_value.c - state dicts of values: the tensors of a dict, or of a module that was saved whole.
 *
 *   module object, its state:  { "_parameters": {name: Parameter or None}, "_buffers": {name: Tensor or None},
 *                                "_modules": {name: module or None}, "_non_persistent_buffers_set": {name, ...}, ... }
 *
 * Names are those of Module.state_dict(): own parameters, own buffers, then children, joined by dots. Modules are
 * walked with a stack of places; a module may be reached twice, which lists it twice, but not through itself.
 */
#include <stdio.h>
#include <stdlib.h>

#include "ptrmap.h"
#include "repr.h"
#include "value.h"

enum { MAX_TENSORS = 1000000, MAX_NAME = 1 << 14 };

/* ---- dicts ---- */

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

/* A key that no tensor is under, as a listing shows it. */
static ckpt_status skip_key(ckpt_state_dict *sd, const ckpt_value *key, ckpt_error *err) {
  enum { SHOWN = 4000 };
  size_t n = 0;
  const char *text = ckpt_value_kind(key) == CKPT_STR ? ckpt_value_text(key, &n) : NULL;
  if (text != NULL) return ckpt_state_dict_skip(sd, text, n, err);
  char *repr = NULL;
  CKPT_TRY(ckpt_repr(&repr, &n, key, SHOWN, err));
  ckpt_status st = ckpt_state_dict_skip(sd, repr, n, err);
  free(repr);
  return st;
}

static ckpt_status take_pairs(ckpt_state_dict *sd, size_t *skipped, const ckpt_value *dict, ckpt_error *err) {
  for (size_t i = 0; i < ckpt_value_pair_count(dict); i++) {
    const ckpt_value *key = ckpt_value_pair_key(dict, i);
    ckpt_tensor *t = ckpt_value_tensor(ckpt_value_pair_value(dict, i));
    if (t == NULL) {
      ++*skipped;
      CKPT_TRY(skip_key(sd, key, err));
      continue;
    }
    CKPT_TRY(check_key(key, i, err));
    CKPT_TRY(ckpt_state_dict_set(sd, ckpt_value_text(key, NULL), t, err));
  }
  return CKPT_OK;
}

/* ---- modules ---- */

typedef struct place {
  const ckpt_value *module;
  size_t next, name; /* child; length of the name that leads here */
} place;

typedef struct module_walk {
  ckpt_state_dict *sd;
  size_t skipped;
  place *places;
  size_t n, capacity;
  ckpt_ptrmap open; /* module -> 1 while it is on the stack */
  char name[MAX_NAME];
  size_t length, visited;
  ckpt_error *err;
} module_walk;

static const ckpt_value *field(const ckpt_value *module, const char *name, ckpt_kind kind) {
  const ckpt_value *state = ckpt_value_object_state(module);
  const ckpt_value *v = state == NULL || ckpt_value_kind(state) != CKPT_DICT ? NULL : ckpt_value_get(state, name);
  return v != NULL && ckpt_value_kind(v) == kind ? v : NULL;
}

static bool is_module(const ckpt_value *v) {
  return ckpt_value_kind(v) == CKPT_OBJECT && field(v, "_parameters", CKPT_DICT) != NULL &&
         field(v, "_buffers", CKPT_DICT) != NULL && field(v, "_modules", CKPT_DICT) != NULL;
}

/* Puts `key` behind the first `length` bytes of the name. */
static ckpt_status set_name(module_walk *w, size_t length, const ckpt_value *key) {
  size_t n = 0;
  const char *text = ckpt_value_kind(key) == CKPT_STR ? ckpt_value_text(key, &n) : NULL;
  if (text == NULL || strlen(text) != n)
    return ckpt_fail(w->err, CKPT_E_TYPE, -1, "a module has a part whose name is no string");
  if (length + n + 2 > MAX_NAME)
    return ckpt_fail(w->err, CKPT_E_LIMIT, -1, "a module's name is longer than %d bytes", MAX_NAME);
  memcpy(w->name + length, text, n + 1);
  w->length = length + n;
  return CKPT_OK;
}

static ckpt_status count_visit(module_walk *w) {
  if (++w->visited <= MAX_TENSORS) return CKPT_OK;
  return ckpt_fail(w->err, CKPT_E_LIMIT, -1, "a module of more than %d parts", MAX_TENSORS);
}

static ckpt_status skip_name(module_walk *w) {
  w->skipped++;
  return ckpt_state_dict_skip(w->sd, w->name, w->length, w->err);
}

/* The tensors of a dict of a module, but those in the set `but`. */
static ckpt_status take_tensors(module_walk *w, const ckpt_value *dict, const ckpt_value *but) {
  size_t length = w->length;
  for (size_t i = 0; i < ckpt_value_pair_count(dict); i++) {
    const ckpt_value *key = ckpt_value_pair_key(dict, i), *v = ckpt_value_pair_value(dict, i);
    bool left_out = ckpt_value_kind(v) == CKPT_NONE || (but != NULL && ckpt_value_contains(but, key));
    if (left_out) continue;
    CKPT_TRY(count_visit(w));
    CKPT_TRY(set_name(w, length, key));
    if (ckpt_value_tensor(v) == NULL)
      CKPT_TRY(skip_name(w));
    else
      CKPT_TRY(ckpt_state_dict_set(w->sd, w->name, ckpt_value_tensor(v), w->err));
  }
  w->length = length;
  return CKPT_OK;
}

static ckpt_status enter(module_walk *w, const ckpt_value *module) {
  if (ckpt_ptrmap_get(&w->open, module) == 1)
    return ckpt_fail(w->err, CKPT_E_CORRUPT, -1, "the module '%.200s' contains itself", w->name);
  if (w->n == w->capacity) {
    size_t capacity = w->capacity == 0 ? 32 : w->capacity * 2;
    place *more = realloc(w->places, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(w->err, capacity * sizeof *more);
    w->places = more;
    w->capacity = capacity;
  }
  CKPT_TRY(count_visit(w));
  CKPT_TRY(ckpt_ptrmap_set(&w->open, module, 1, w->err));
  w->places[w->n++] = (place){module, 0, w->length};
  CKPT_TRY(take_tensors(w, field(module, "_parameters", CKPT_DICT), NULL));
  return take_tensors(w, field(module, "_buffers", CKPT_DICT), field(module, "_non_persistent_buffers_set", CKPT_SET));
}

static ckpt_status step(module_walk *w) {
  place *p = &w->places[w->n - 1];
  const ckpt_value *children = field(p->module, "_modules", CKPT_DICT);
  const ckpt_value *child = ckpt_value_pair_value(children, p->next);
  if (child == NULL) {
    w->n--;
    return ckpt_ptrmap_set(&w->open, p->module, 0, w->err);
  }
  const ckpt_value *key = ckpt_value_pair_key(children, p->next++);
  if (ckpt_value_kind(child) == CKPT_NONE) return CKPT_OK;
  CKPT_TRY(set_name(w, p->name, key));
  if (!is_module(child)) return skip_name(w);
  w->name[w->length++] = '.';
  return enter(w, child);
}

static ckpt_status take_module(ckpt_state_dict *sd, size_t *skipped, const ckpt_value *module, ckpt_error *err) {
  ckpt_error here = {0};
  module_walk *w = calloc(1, sizeof *w);
  if (w == NULL) return ckpt_fail_nomem(err, sizeof *w);
  w->sd = sd;
  w->err = &here;
  ckpt_status st = enter(w, module);
  while (st == CKPT_OK && w->n > 0) st = step(w);
  *skipped = w->skipped;
  if (st != CKPT_OK && err != NULL) *err = here;
  free(w->places);
  ckpt_ptrmap_free(&w->open);
  free(w);
  return st;
}

ckpt_status ckpt_state_dict_from_value(ckpt_state_dict **out, const ckpt_value *v, size_t *skipped, ckpt_error *err) {
  ckpt_kind kind = ckpt_value_kind(v);
  if (kind != CKPT_DICT && !is_module(v))
    return ckpt_fail(err, CKPT_E_TYPE, -1, "a value of kind %s where a state dict was expected", ckpt_kind_name(kind));
  ckpt_state_dict *sd = NULL;
  size_t left_out = 0;
  CKPT_TRY(ckpt_state_dict_new(&sd, err));
  ckpt_status st = kind == CKPT_DICT ? take_pairs(sd, &left_out, v, err) : take_module(sd, &left_out, v, err);
  if (st != CKPT_OK) {
    ckpt_state_dict_free(sd);
    return st;
  }
  if (skipped != NULL) *skipped = left_out;
  *out = sd;
  return CKPT_OK;
}

/* ---- finding ---- */

static const char *const usual[] = {
    "state_dict", "model_state_dict", "model_state", "model",          "module",    "network",    "net",     "params",
    "weights",    "generator",        "ema",         "ema_state_dict", "model_ema", "params_ema", "teacher", "student"};

/* A module with parameters: not a loss or an activation. What cannot be read counts, so that its error is told. */
static bool module_holds_tensors(const ckpt_value *v) {
  ckpt_state_dict *sd = NULL;
  if (!is_module(v) || ckpt_state_dict_from_value(&sd, v, NULL, NULL) != CKPT_OK) return is_module(v);
  bool holds = ckpt_state_dict_count(sd) > 0;
  ckpt_state_dict_free(sd);
  return holds;
}

/* A dict with a tensor under a name, or a module. */
static bool holds_tensors(const ckpt_value *v) {
  if (v == NULL || ckpt_value_kind(v) != CKPT_DICT) return v != NULL && module_holds_tensors(v);
  for (size_t i = 0; i < ckpt_value_pair_count(v); i++)
    if (ckpt_value_tensor(ckpt_value_pair_value(v, i)) != NULL &&
        ckpt_value_kind(ckpt_value_pair_key(v, i)) == CKPT_STR)
      return true;
  return false;
}

/* What lies under a usual key, NULL if nothing does. */
static const ckpt_value *under_usual_key(const char **key, const ckpt_value *v) {
  for (size_t i = 0; i < CKPT_COUNTOF(usual); i++) {
    const ckpt_value *found = ckpt_value_get(v, usual[i]);
    if (!holds_tensors(found)) continue;
    *key = usual[i];
    return found;
  }
  return NULL;
}

static ckpt_status say_path(const ckpt_value **out, char **path, const ckpt_value *v, const char *first,
                            const char *second, ckpt_error *err) {
  size_t n = strlen(first) + strlen(second) + 2;
  char *text = malloc(n);
  if (text == NULL) return ckpt_fail_nomem(err, n);
  strcpy(text, first);
  if (*first != '\0' && *second != '\0') strcat(text, ".");
  strcat(text, second);
  *out = v;
  *path = text;
  return CKPT_OK;
}

/* "'a', 'b', 'c'", cut where the buffer ends. */
static void list_keys(char *text, size_t size, const ckpt_value *v, bool (*fits)(const ckpt_value *)) {
  size_t n = 0, length = 0;
  text[0] = '\0';
  for (size_t i = 0; i < ckpt_value_pair_count(v) && n < size; i++) {
    const ckpt_value *key = ckpt_value_pair_key(v, i);
    if (ckpt_value_kind(key) != CKPT_STR || !fits(ckpt_value_pair_value(v, i))) continue;
    n += (size_t)snprintf(text + n, size - n, "%s'%s'", n == 0 ? "" : ", ", ckpt_value_text(key, &length));
  }
}

static bool anything(const ckpt_value *v) { return v != NULL; }

static ckpt_status not_found(const ckpt_value *root, size_t candidates, ckpt_error *err) {
  char keys[256];
  if (candidates > 1) {
    list_keys(keys, sizeof keys, root, holds_tensors);
    return ckpt_fail(err, CKPT_E_NOTFOUND, -1, "several state dicts are there, none under a usual key: %s", keys);
  }
  list_keys(keys, sizeof keys, root, anything);
  if (ckpt_value_kind(root) == CKPT_DICT && keys[0] != '\0')
    return ckpt_fail(err, CKPT_E_NOTFOUND, -1, "no state dict is at the top level; the keys there are %s", keys);
  const char *kind = ckpt_kind_name(ckpt_value_kind(root));
  return ckpt_fail(err, CKPT_E_NOTFOUND, -1, "%s %s, in which no state dict is", strchr("io", *kind) ? "an" : "a",
                   kind);
}

static ckpt_status find_only(const ckpt_value **out, char **path, const ckpt_value *root, ckpt_error *err) {
  const ckpt_value *found = NULL, *key = NULL;
  size_t candidates = 0, n;
  for (size_t i = 0; i < ckpt_value_pair_count(root); i++) {
    if (ckpt_value_kind(ckpt_value_pair_key(root, i)) != CKPT_STR) continue;
    if (!holds_tensors(ckpt_value_pair_value(root, i))) continue;
    candidates++;
    key = ckpt_value_pair_key(root, i);
    found = ckpt_value_pair_value(root, i);
  }
  if (candidates != 1) return not_found(root, candidates, err);
  return say_path(out, path, found, ckpt_value_text(key, &n), "", err);
}

ckpt_status ckpt_state_dict_find(const ckpt_value **out, char **path, const ckpt_value *root, ckpt_error *err) {
  const char *key = NULL;
  if (is_module(root)) return say_path(out, path, root, "", "", err);
  const ckpt_value *found = under_usual_key(&key, root);
  if (found != NULL) return say_path(out, path, found, key, "", err);
  for (size_t i = 0; i < CKPT_COUNTOF(usual); i++) {
    const ckpt_value *outer = ckpt_value_get(root, usual[i]);
    found = outer == NULL ? NULL : under_usual_key(&key, outer);
    if (found != NULL) return say_path(out, path, found, usual[i], key, err);
  }
  if (holds_tensors(root)) return say_path(out, path, root, "", "", err);
  return find_only(out, path, root, err);
}
