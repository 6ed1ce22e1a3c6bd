/*
 * run_document.c - what a save holds, built from the bound slots. Tensors are the trainer's own arrays.
 *
 *   model      name -> tensor; so is any group of the model's names (a moving average)
 *   optimizer  PyTorch's: {"state": {index: {slot: tensor}},
 *                          "param_groups": [{"lr": ..., "param_names": [...], "params": [...]}]}
 *   others     paths joined by dots become nested dicts
 */
#include <stdio.h>
#include <stdlib.h>

#include "run.h"

typedef struct builder {
  const ckpt_checkpointer *cp;
  ckpt_document *doc;
  ckpt_error *err;
} builder;

static ckpt_status slot_value(ckpt_value **out, builder *b, const ckpt_slot *s) {
  switch (s->kind) {
    case CKPT_SLOT_TENSOR: return ckpt_value_new_tensor(out, b->doc, s->frozen == NULL ? s->tensor : s->frozen, b->err);
    case CKPT_SLOT_INT: return ckpt_value_new_int(out, b->doc, *s->at.integer, b->err);
    case CKPT_SLOT_DOUBLE: return ckpt_value_new_double(out, b->doc, *s->at.number, b->err);
    case CKPT_SLOT_BOOL: return ckpt_value_new_bool(out, b->doc, *s->at.boolean, b->err);
    default: return ckpt_value_new_str(out, b->doc, s->at.string, strlen(s->at.string), b->err);
  }
}

/* dict[key] as a dict, made if need be. */
static ckpt_status sub_dict(ckpt_value **out, builder *b, ckpt_value *dict, const char *key) {
  ckpt_value *v = ckpt_value_get(dict, key);
  if (v == NULL) {
    CKPT_TRY(ckpt_value_new_dict(&v, b->doc, false, b->err));
    CKPT_TRY(ckpt_value_set(dict, b->doc, key, v, b->err));
  }
  if (ckpt_value_kind(v) != CKPT_DICT)
    return ckpt_fail(b->err, CKPT_E_ARGUMENT, -1, "'%s' is bound both as a value and as a group of values", key);
  *out = v;
  return CKPT_OK;
}

/* Puts a value under keys joined by dots. */
static ckpt_status set_path(builder *b, ckpt_value *dict, const char *path, ckpt_value *v) {
  char *copy = strdup(path), *save = NULL;
  if (copy == NULL) return ckpt_fail_nomem(b->err, strlen(path) + 1);
  ckpt_status st = CKPT_OK;
  const char *key = strtok_r(copy, ".", &save);
  for (const char *next; st == CKPT_OK && key != NULL && (next = strtok_r(NULL, ".", &save)) != NULL; key = next)
    st = sub_dict(&dict, b, dict, key);
  if (st == CKPT_OK) st = ckpt_value_set(dict, b->doc, key == NULL ? path : key, v, b->err);
  free(copy);
  return st;
}

/* Another state dict of the model, such as its moving average: tensors under the names of the model's tensors. */
static bool is_state_dict(const ckpt_checkpointer *cp, const char *group) {
  size_t n = 0;
  for (size_t i = 0; i < cp->n_slots; i++) {
    const ckpt_slot *s = cp->slots[i];
    if (strcmp(s->group, group) != 0) continue;
    if (s->kind != CKPT_SLOT_TENSOR || ckpt_slot_find(cp, "model", s->path) == NULL) return false;
    n++;
  }
  return n > 0;
}

static ckpt_status plain_group(builder *b, ckpt_value *dict, const char *group) {
  bool flat = is_state_dict(b->cp, group); /* the dots in a state dict's names are part of the names */
  for (size_t i = 0; i < b->cp->n_slots; i++) {
    const ckpt_slot *s = b->cp->slots[i];
    ckpt_value *v = NULL;
    if (strcmp(s->group, group) != 0) continue;
    CKPT_TRY(slot_value(&v, b, s));
    CKPT_TRY(flat ? ckpt_value_set(dict, b->doc, s->path, v, b->err) : set_path(b, dict, s->path, v));
  }
  return CKPT_OK;
}

/* ---- optimizer ---- */

/* Each parameter's dict of slots, in one pass over what is bound; NULL for a parameter without. */
static ckpt_status collect_slots(builder *b, ckpt_value **slots) {
  for (size_t i = 0; i < b->cp->n_slots; i++) {
    const ckpt_slot *s = b->cp->slots[i];
    const char *rest = NULL;
    ckpt_value *v = NULL;
    if (strcmp(s->group, "optimizer") != 0 || s->kind != CKPT_SLOT_TENSOR) continue;
    const ckpt_slot *owner = ckpt_slot_owner(&rest, b->cp, s);
    if (owner == NULL)
      return ckpt_fail(b->err, CKPT_E_ARGUMENT, -1,
                       "optimizer slot '%s' belongs to no bound parameter: it must be <parameter>.<slot>", s->path);
    ckpt_value **dict = &slots[owner->parameter_index];
    if (*dict == NULL) CKPT_TRY(ckpt_value_new_dict(dict, b->doc, false, b->err));
    CKPT_TRY(slot_value(&v, b, s));
    CKPT_TRY(ckpt_value_set(*dict, b->doc, rest, v, b->err));
  }
  return CKPT_OK;
}

static ckpt_status put_slots(builder *b, ckpt_value *state, ckpt_value *const *slots, size_t n) {
  for (size_t p = 0; p < n; p++) {
    ckpt_value *index = NULL;
    if (slots[p] == NULL) continue;
    CKPT_TRY(ckpt_value_new_int(&index, b->doc, (int64_t)p, b->err));
    CKPT_TRY(ckpt_dict_put(state->as.dict, b->doc, index, slots[p], b->err));
  }
  return CKPT_OK;
}

static ckpt_status fill_state(builder *b, ckpt_value *state, size_t n) {
  ckpt_value **slots = calloc(n + 1, sizeof *slots);
  if (slots == NULL) return ckpt_fail_nomem(b->err, n * sizeof *slots);
  ckpt_status st = collect_slots(b, slots);
  if (st == CKPT_OK) st = put_slots(b, state, slots, n);
  free(slots);
  return st;
}

static ckpt_status fill_options(builder *b, ckpt_value *dict, int group) {
  for (size_t i = 0; i < b->cp->n_slots; i++) {
    const ckpt_slot *s = b->cp->slots[i];
    const char *key = NULL;
    ckpt_value *v = NULL;
    if (strcmp(s->group, "optimizer") != 0 || s->kind == CKPT_SLOT_TENSOR) continue;
    if (ckpt_optimizer_path(&key, s->path) != group) continue;
    CKPT_TRY(slot_value(&v, b, s));
    CKPT_TRY(ckpt_value_set(dict, b->doc, key, v, b->err));
  }
  return CKPT_OK;
}

static ckpt_status fill_params(builder *b, ckpt_value *dict, int group, ckpt_slot *const *params, size_t n) {
  ckpt_value *names = NULL, *indices = NULL;
  CKPT_TRY(ckpt_value_new_list(&names, b->doc, b->err));
  CKPT_TRY(ckpt_value_new_list(&indices, b->doc, b->err));
  for (size_t p = 0; p < n; p++) {
    ckpt_value *name = NULL, *index = NULL;
    if (params[p]->param_group != group) continue;
    CKPT_TRY(ckpt_value_new_str(&name, b->doc, params[p]->path, strlen(params[p]->path), b->err));
    CKPT_TRY(ckpt_value_append(names, b->doc, name, b->err));
    CKPT_TRY(ckpt_value_new_int(&index, b->doc, (int64_t)p, b->err));
    CKPT_TRY(ckpt_value_append(indices, b->doc, index, b->err));
  }
  CKPT_TRY(ckpt_value_set(dict, b->doc, "param_names", names, b->err));
  return ckpt_value_set(dict, b->doc, "params", indices, b->err);
}

static int last_group(const ckpt_checkpointer *cp, ckpt_slot *const *params, size_t n) {
  int last = 0;
  for (size_t p = 0; p < n; p++)
    if (params[p]->param_group > last) last = params[p]->param_group;
  for (size_t i = 0; i < cp->n_slots; i++) {
    const char *key;
    const ckpt_slot *s = cp->slots[i];
    if (strcmp(s->group, "optimizer") != 0 || s->kind == CKPT_SLOT_TENSOR) continue;
    if (ckpt_optimizer_path(&key, s->path) > last) last = ckpt_optimizer_path(&key, s->path);
  }
  return last;
}

static ckpt_status fill_optimizer(builder *b, ckpt_value *dict, ckpt_slot *const *params, size_t n) {
  ckpt_value *state = NULL, *groups = NULL;
  CKPT_TRY(sub_dict(&state, b, dict, "state"));
  CKPT_TRY(fill_state(b, state, n));
  CKPT_TRY(ckpt_value_new_list(&groups, b->doc, b->err));
  for (int g = 0; g <= last_group(b->cp, params, n); g++) {
    ckpt_value *group = NULL;
    CKPT_TRY(ckpt_value_new_dict(&group, b->doc, false, b->err));
    CKPT_TRY(fill_options(b, group, g));
    CKPT_TRY(fill_params(b, group, g, params, n));
    CKPT_TRY(ckpt_value_append(groups, b->doc, group, b->err));
  }
  return ckpt_value_set(dict, b->doc, "param_groups", groups, b->err);
}

static ckpt_status optimizer_group(builder *b, ckpt_value *dict) {
  ckpt_slot **params = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_parameters(&params, &n, b->cp, b->err));
  ckpt_status st = fill_optimizer(b, dict, params, n);
  free(params);
  return st;
}

/* ---- all ---- */

static ckpt_status fill(builder *b, ckpt_value *root, const ckpt_strings *parts) {
  for (size_t i = 0; i < b->cp->groups.n; i++) {
    const char *group = b->cp->groups.items[i];
    ckpt_value *dict = NULL;
    if (parts != NULL && !ckpt_strings_has(parts, group)) continue;
    CKPT_TRY(sub_dict(&dict, b, root, group));
    CKPT_TRY(strcmp(group, "optimizer") == 0 ? optimizer_group(b, dict) : plain_group(b, dict, group));
  }
  return CKPT_OK;
}

ckpt_status ckpt_run_document(ckpt_document **out, const ckpt_checkpointer *cp, const ckpt_strings *parts,
                              ckpt_error *err) {
  builder b = {cp, NULL, err};
  ckpt_value *root = NULL;
  CKPT_TRY(ckpt_document_new(&b.doc, err));
  ckpt_status st = ckpt_value_new_dict(&root, b.doc, false, err);
  if (st == CKPT_OK) st = fill(&b, root, parts);
  if (st != CKPT_OK) {
    ckpt_document_release(b.doc);
    return st;
  }
  ckpt_document_set_root(b.doc, root);
  *out = b.doc;
  return CKPT_OK;
}
