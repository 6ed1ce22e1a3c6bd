/*
 * load_optimizer.c - the optimizer's state of a file, moved to the parameters of the model.
 *
 * Where the file names its parameters (param_groups[g].param_names), a slot follows its parameter: it is looked up
 * under the name of what fills the parameter, and goes through the same operations, if those only rearrange (a scaled
 * weight has gradients that are scaled the other way, so what is computed is not carried over). What has not the
 * parameter's shape in the file (`step`, factored moments) goes along as it is. A file without names is matched by
 * place.
 */
#include <stdlib.h>

#include "expr_text.h"
#include "load_stage.h"

typedef struct mover {
  ckpt_stage *s;
  const ckpt_value *state, *groups;
  ckpt_strmap by_name; /* the file's name of a parameter -> its index */
  bool named;
  int64_t *by_place; /* parameter_index -> the file's index; -1: not in the file */
  ckpt_slot **params;
  size_t n_params;
  const char *slot; /* which slot a lookup is for */
} mover;

/* ---- the file's parameters ---- */

static ckpt_status read_group(mover *m, const ckpt_value *group, size_t *place) {
  const ckpt_value *params = ckpt_value_get(group, "params"), *names = ckpt_value_get(group, "param_names");
  size_t n = params == NULL ? 0 : ckpt_value_count(params);
  m->named &= names != NULL && ckpt_value_count(names) == n;
  for (size_t i = 0; i < n; i++, (*place)++) {
    int64_t index = 0;
    CKPT_TRY(ckpt_value_int(&index, ckpt_value_item(params, i), m->s->err));
    const ckpt_value *name = names == NULL ? NULL : ckpt_value_item(names, i);
    size_t length = 0;
    const char *text = name == NULL || ckpt_value_kind(name) != CKPT_STR ? NULL : ckpt_value_text(name, &length);
    if (text != NULL && index >= 0) CKPT_TRY(ckpt_strmap_set(&m->by_name, text, length, (size_t)index, m->s->err));
    if (*place < m->n_params) m->by_place[*place] = index;
  }
  return CKPT_OK;
}

static ckpt_status read_groups(mover *m) {
  size_t place = 0;
  m->named = true;
  for (size_t i = 0; i < m->n_params; i++) m->by_place[i] = -1;
  for (size_t g = 0; g < ckpt_value_count(m->groups); g++)
    CKPT_TRY(read_group(m, ckpt_value_item(m->groups, g), &place));
  if (m->named || place == m->n_params) return CKPT_OK;
  return ckpt_fail(m->s->err, CKPT_E_CONTRACT, -1,
                   "%s: the optimizer in the file has %zu parameters, the model binds %zu", m->s->record->path, place,
                   m->n_params);
}

/* ---- one slot ---- */

/* The value of a slot of the file's parameter of that index, or NULL. */
static const ckpt_value *slot_value(const mover *m, int64_t index, const char *slot) {
  ckpt_value key = {.kind = CKPT_INT};
  key.as.integer = index;
  const ckpt_dict *d = ckpt_value_dict(m->state);
  size_t at = d == NULL || index < 0 ? SIZE_MAX : ckpt_dict_find(d, &key);
  return at == SIZE_MAX ? NULL : ckpt_value_get(ckpt_value_pair_value(m->state, at), slot);
}

static int64_t index_of(const mover *m, const char *name) {
  size_t at = ckpt_strmap_get(&m->by_name, name, strlen(name));
  return at == SIZE_MAX ? -1 : (int64_t)at;
}

/* For the evaluation of a parameter's operations over one of its slots instead. */
static ckpt_tensor *slot_tensor(void *context, const char *name) {
  const mover *m = context;
  const ckpt_value *v = slot_value(m, index_of(m, name), m->slot);
  return v == NULL ? NULL : ckpt_value_tensor(v);
}

static const ckpt_tensor *parameter_tensor(const mover *m, const char *name) {
  const ckpt_value *v = name == NULL ? NULL : ckpt_value_get(m->s->dict, name);
  return v == NULL ? NULL : ckpt_value_tensor(v);
}

static const char *source_of(const ckpt_assignment *a) { return a->sources.n == 0 ? NULL : a->sources.items[0]; }

/* Whether the slot is as its parameter is in the file, element by element. */
static bool goes_with(const mover *m, const ckpt_assignment *a, const ckpt_value *v) {
  const ckpt_tensor *slot = ckpt_value_tensor(v), *parameter = parameter_tensor(m, source_of(a));
  return slot != NULL && parameter != NULL && ckpt_tensor_same_shape(slot, parameter);
}

/* Why the slots of these sources cannot be put together, or NULL. */
static const char *obstacle(const mover *m, const ckpt_assignment *a) {
  if (a->expr != NULL && !ckpt_expr_rearranges(a->expr))
    return "its rule computes new values, which a moment cannot follow";
  for (size_t i = 0; i < a->sources.n; i++)
    if (slot_value(m, index_of(m, a->sources.items[i]), m->slot) == NULL)
      return "the file has no state for one of its sources";
  return NULL;
}

static ckpt_status stage_rearranged(const char **why, mover *m, ckpt_slot *slot, const ckpt_assignment *a) {
  ckpt_tensor *t = NULL;
  *why = obstacle(m, a);
  if (*why != NULL) {
    m->s->kept++;
    return CKPT_OK;
  }
  ckpt_status st = ckpt_stage_result(&t, m->s, a, slot_tensor, m);
  if (st == CKPT_OK) st = ckpt_stage_tensor(m->s, slot->path, slot->tensor, t, a->overlap);
  ckpt_tensor_release(t);
  return st;
}

/* Sets *why where the slot stays as it is. */
static ckpt_status stage_named(const char **why, mover *m, ckpt_slot *slot, const ckpt_assignment *a) {
  int64_t own = source_of(a) == NULL ? -1 : index_of(m, source_of(a));
  int64_t index = own < 0 ? index_of(m, a->to) : own;
  const ckpt_value *v = slot_value(m, index, m->slot);
  if (index < 0)
    *why = "the file's optimizer has no parameter of that name";
  else if (v == NULL || ckpt_value_kind(v) == CKPT_NONE)
    *why = "the file has no state for it";
  if (*why != NULL) {
    m->s->kept++;
    return CKPT_OK;
  }
  bool follows = own >= 0 && goes_with(m, a, v);
  return follows ? stage_rearranged(why, m, slot, a) : ckpt_stage_slot(m->s, slot, v);
}

static ckpt_status stage_placed(const char **why, mover *m, ckpt_slot *slot, const ckpt_slot *owner) {
  const ckpt_value *v = slot_value(m, m->by_place[owner->parameter_index], m->slot);
  if (v == NULL) *why = "the file has no state for it";
  return ckpt_stage_slot(m->s, slot, v);
}

/* ---- the parameters' report ---- */

/* A slot that does not fit is an error of a resume; a pre-training goes on without it. */
static ckpt_status forgive(mover *m, const char **why, ckpt_status st) {
  bool shape = st == CKPT_E_SHAPE || st == CKPT_E_UNSUPPORTED || st == CKPT_E_RANGE;
  if (m->s->resume || !shape) return st;
  m->s->kept++;
  return ckpt_load_record_note(m->s->record, why, m->s->err->message, m->s->err);
}

static const ckpt_assignment *assignment_of(const mover *m, const char *name) {
  size_t at = ckpt_strmap_get(&m->s->by_target, name, strlen(name));
  return at == SIZE_MAX ? NULL : &m->s->record->plan.assign[at];
}

static ckpt_status stage_one(mover *m, ckpt_slot *slot, const ckpt_slot *owner, ckpt_load_parameter *p) {
  const ckpt_assignment *a = assignment_of(m, owner->path);
  const char *why = NULL;
  ckpt_status st = CKPT_OK;
  p->name = owner->path;
  p->n_slots++;
  if (m->named && a != NULL) p->source = source_of(a);
  if (a == NULL) {
    why = "the parameter itself is not loaded";
    m->s->kept++;
  } else {
    st = m->named ? stage_named(&why, m, slot, a) : stage_placed(&why, m, slot, owner);
    if (st != CKPT_OK) st = forgive(m, &why, st);
  }
  if (why == NULL) p->n_moved++;
  if (why != NULL) p->note = why;
  return st;
}

static ckpt_status stage_slots(mover *m, ckpt_load_parameter *list) {
  const ckpt_checkpointer *cp = m->s->cp;
  for (size_t i = 0; i < cp->n_slots; i++) {
    ckpt_slot *slot = cp->slots[i];
    if (strcmp(slot->group, "optimizer") != 0 || slot->kind != CKPT_SLOT_TENSOR) continue;
    const ckpt_slot *owner = ckpt_slot_owner(&m->slot, cp, slot);
    if (owner == NULL)
      m->s->kept++;
    else
      CKPT_TRY(stage_one(m, slot, owner, &list[owner->parameter_index]));
  }
  return CKPT_OK;
}

/* Parameters without bound slots (frozen here) are not in the list. */
static ckpt_status report_slots(mover *m) {
  ckpt_load_record *r = m->s->record;
  ckpt_load_parameter *list = ckpt_arena_alloc(&r->arena, (m->n_params + 1) * sizeof *list, m->s->err);
  if (list == NULL) return CKPT_E_NOMEM;
  CKPT_TRY(stage_slots(m, list));
  r->parameters = list;
  for (size_t i = 0; i < m->n_params; i++)
    if (list[i].n_slots > 0) list[r->n_parameters++] = list[i];
  return CKPT_OK;
}

/* ---- the whole ---- */

static ckpt_status stage_options(mover *m) {
  for (size_t i = 0; i < m->s->cp->n_slots; i++) {
    ckpt_slot *slot = m->s->cp->slots[i];
    const char *key = NULL;
    if (strcmp(slot->group, "optimizer") != 0 || slot->kind == CKPT_SLOT_TENSOR) continue;
    const ckpt_value *group = ckpt_value_item(m->groups, (size_t)ckpt_optimizer_path(&key, slot->path));
    CKPT_TRY(ckpt_stage_slot(m->s, slot, group == NULL ? NULL : ckpt_value_get(group, key)));
  }
  return CKPT_OK;
}

static ckpt_status stage_all(mover *m) {
  CKPT_TRY(read_groups(m));
  CKPT_TRY(report_slots(m));
  return m->s->record->plan.no_options ? CKPT_OK : stage_options(m);
}

ckpt_status ckpt_stage_optimizer(ckpt_stage *s, const char *path) {
  const ckpt_value *v = ckpt_value_at(ckpt_checkpoint_root(s->source), path);
  mover m = {.s = s};
  m.state = v == NULL ? NULL : ckpt_value_get(v, "state");
  m.groups = v == NULL ? NULL : ckpt_value_get(v, "param_groups");
  if (m.state == NULL || m.groups == NULL || ckpt_value_kind(m.groups) != CKPT_LIST)
    return ckpt_fail(s->err, CKPT_E_CONTRACT, -1, "%s: there is no optimizer state dict at '%s'", s->record->path,
                     path);
  CKPT_TRY(ckpt_parameters(&m.params, &m.n_params, s->cp, s->err));
  m.by_place = calloc(m.n_params + 1, sizeof *m.by_place);
  ckpt_status st = m.by_place == NULL ? ckpt_fail_nomem(s->err, m.n_params * 8) : stage_all(&m);
  ckpt_strmap_free(&m.by_name);
  free(m.by_place);
  free(m.params);
  return st;
}
