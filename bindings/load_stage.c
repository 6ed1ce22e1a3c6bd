/* load_stage.c - see load_stage.h. */
#include "load_stage.h"

#include <stdio.h>
#include <stdlib.h>

#include "cast.h"
#include "expr_text.h"
#include "strided.h"

/* ---- tensors ---- */

static ckpt_status add_move(ckpt_stage *s, ckpt_tensor *to, ckpt_tensor *from, bool partial) {
  ckpt_moves *list = partial ? &s->corners : &s->whole;
  if (list->n == list->capacity) {
    size_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
    ckpt_move *more = realloc(list->items, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(s->err, capacity * sizeof *more);
    list->items = more;
    list->capacity = capacity;
  }
  list->items[list->n++] = (ckpt_move){ckpt_tensor_retain(to), ckpt_tensor_retain(from)};
  s->last_is_corner = partial;
  return CKPT_OK;
}

static void shape_text(char *out, size_t size, const ckpt_tensor *t) {
  size_t at = (size_t)snprintf(out, size, "%s [", ckpt_dtype_name(ckpt_tensor_dtype(t)));
  for (int i = 0; i < ckpt_tensor_ndim(t) && at < size; i++)
    at += (size_t)snprintf(out + at, size - at, "%s%lld", i > 0 ? "," : "", (long long)ckpt_tensor_shape(t)[i]);
  if (at < size) snprintf(out + at, size - at, "]");
}

static ckpt_status check_pair(ckpt_stage *s, const char *what, const ckpt_tensor *to, const ckpt_tensor *from,
                              bool overlap) {
  char a[160], b[160];
  const char *path = s->record->path;
  shape_text(a, sizeof a, from);
  shape_text(b, sizeof b, to);
  bool fits = overlap ? ckpt_tensor_ndim(to) == ckpt_tensor_ndim(from) : ckpt_tensor_same_shape(to, from);
  if (!fits) return ckpt_fail(s->err, CKPT_E_SHAPE, -1, "%s: '%s' is %s in the file and %s here", path, what, a, b);
  if (ckpt_tensor_is_meta(from))
    return ckpt_fail(s->err, CKPT_E_SHAPE, -1, "%s: '%s' is a meta tensor, it has no data", path, what);
  if (ckpt_tensor_dtype(to) != ckpt_tensor_dtype(from) &&
      !ckpt_cast_supported(ckpt_tensor_dtype(to), ckpt_tensor_dtype(from)))
    return ckpt_fail(s->err, CKPT_E_UNSUPPORTED, -1, "%s: '%s' cannot be cast from %s to %s", path, what, a, b);
  return CKPT_OK;
}

/* Everything that could make the copy fail is asked now. */
static ckpt_status ready(ckpt_stage *s, ckpt_tensor *to, ckpt_tensor *from, bool partial) {
  const void *data;
  ckpt_status st = ckpt_tensor_check_packed(from, s->err);
  if (st == CKPT_OK && !s->dry) st = ckpt_tensor_data(&data, from, s->err);
  if (st != CKPT_OK) return ckpt_fail_in(s->err, st, s->record->path);
  return add_move(s, to, from, partial);
}

/* The beginning of each dimension of t, as far as `sizes` go. */
static ckpt_status corner(ckpt_tensor **out, ckpt_tensor *t, const int64_t *sizes, ckpt_error *err) {
  ckpt_tensor *cut = ckpt_tensor_retain(t);
  ckpt_status st = CKPT_OK;
  for (int i = 0; i < ckpt_tensor_ndim(t) && st == CKPT_OK; i++) {
    ckpt_tensor *next = NULL;
    st = ckpt_tensor_slice(&next, cut, i, 0, sizes[i], 1, err);
    ckpt_tensor_release(cut);
    cut = next;
  }
  if (st == CKPT_OK) *out = cut;
  return st;
}

/* A copy of `from` with the dtype of `to`, row by row: what is left for the commit is to move bytes. */
static ckpt_status make_plain(ckpt_tensor **out, const ckpt_stage *s, const ckpt_tensor *to, ckpt_tensor *from) {
  if (s->dry) {
    *out = ckpt_tensor_retain(from);
    return CKPT_OK;
  }
  ckpt_tensor *plain = NULL;
  CKPT_TRY(ckpt_tensor_new(&plain, ckpt_tensor_dtype(to), ckpt_tensor_ndim(from), ckpt_tensor_shape(from), s->err));
  ckpt_status st = ckpt_tensor_copy(plain, from, s->err);
  if (st == CKPT_OK)
    *out = plain;
  else
    ckpt_tensor_release(plain);
  return st;
}

static ckpt_status stage_corner(ckpt_stage *s, ckpt_tensor *to, ckpt_tensor *from) {
  int64_t sizes[CKPT_MAX_DIMS];
  ckpt_tensor *a = NULL, *b = NULL, *plain = NULL;
  for (int i = 0; i < ckpt_tensor_ndim(to); i++) {
    int64_t x = ckpt_tensor_shape(to)[i], y = ckpt_tensor_shape(from)[i];
    sizes[i] = x < y ? x : y;
  }
  ckpt_status st = corner(&a, to, sizes, s->err);
  if (st == CKPT_OK) st = corner(&b, from, sizes, s->err);
  if (st == CKPT_OK) st = make_plain(&plain, s, to, b);
  if (st == CKPT_OK) st = ready(s, a, plain, true);
  ckpt_tensor_release(a);
  ckpt_tensor_release(b);
  ckpt_tensor_release(plain);
  return st;
}

ckpt_status ckpt_stage_tensor(ckpt_stage *s, const char *what, ckpt_tensor *to, ckpt_tensor *from, bool overlap) {
  CKPT_TRY(check_pair(s, what, to, from, overlap));
  ckpt_status st = s->dry ? CKPT_OK : ckpt_tensor_check_writable(to, s->err);
  if (st != CKPT_OK) return ckpt_fail_in(s->err, st, s->record->path);
  bool partial = overlap && !ckpt_tensor_same_shape(to, from);
  return partial ? stage_corner(s, to, from) : ready(s, to, from, false);
}

/* ---- plain values ---- */

static ckpt_status number_of(double *out, const ckpt_value *v, ckpt_error *err) {
  ckpt_tensor *t = ckpt_value_tensor(v);
  if (t == NULL || ckpt_tensor_numel(t) != 1) return ckpt_value_double(out, v, err);
  ckpt_tensor *one = NULL; /* a learning rate may be a tensor */
  CKPT_TRY(ckpt_tensor_borrow(&one, CKPT_F64, out, ckpt_tensor_ndim(t), ckpt_tensor_shape(t), err));
  ckpt_status st = ckpt_tensor_copy(one, t, err);
  ckpt_tensor_release(one);
  return st;
}

static ckpt_status read_setting(ckpt_setting *out, ckpt_slot *slot, const ckpt_value *v, ckpt_error *err) {
  *out = (ckpt_setting){.slot = slot};
  switch (slot->kind) {
    case CKPT_SLOT_INT: return ckpt_value_int(&out->integer, v, err);
    case CKPT_SLOT_DOUBLE: return number_of(&out->number, v, err);
    case CKPT_SLOT_BOOL: return ckpt_value_bool(&out->boolean, v, err);
    default: break;
  }
  if (ckpt_value_kind(v) != CKPT_STR) return ckpt_fail(err, CKPT_E_TYPE, -1, "no string");
  out->string = strdup(ckpt_value_text(v, NULL));
  return out->string == NULL ? ckpt_fail_nomem(err, 64) : CKPT_OK;
}

static ckpt_status stage_setting(ckpt_stage *s, ckpt_slot *slot, const ckpt_value *v) {
  char where[600];
  if (s->n_settings == s->setting_capacity) {
    size_t capacity = s->setting_capacity == 0 ? 16 : s->setting_capacity * 2;
    ckpt_setting *more = realloc(s->settings, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(s->err, capacity * sizeof *more);
    s->settings = more;
    s->setting_capacity = capacity;
  }
  ckpt_status st = read_setting(&s->settings[s->n_settings], slot, v, s->err);
  if (st == CKPT_OK) s->n_settings++;
  if (st == CKPT_OK) return CKPT_OK;
  snprintf(where, sizeof where, "%.300s: '%.100s' of group '%.60s'", s->record->path, slot->path, slot->group);
  return ckpt_fail_in(s->err, st, where);
}

/* Adam's step was a plain int before PyTorch 1.12. */
static ckpt_status stage_number(ckpt_stage *s, ckpt_slot *slot, const ckpt_value *v) {
  double number = 0;
  ckpt_tensor *t = NULL;
  const void *data;
  CKPT_TRY(ckpt_value_double(&number, v, s->err));
  CKPT_TRY(ckpt_tensor_new(&t, CKPT_F64, 0, NULL, s->err));
  if (ckpt_tensor_data(&data, t, s->err) == CKPT_OK) memcpy((void *)(uintptr_t)data, &number, sizeof number);
  ckpt_status st = ckpt_stage_tensor(s, slot->path, slot->tensor, t, false);
  ckpt_tensor_release(t);
  return st;
}

ckpt_status ckpt_stage_slot(ckpt_stage *s, ckpt_slot *slot, const ckpt_value *v) {
  if (v == NULL || ckpt_value_kind(v) == CKPT_NONE) {
    s->kept++;
    return CKPT_OK;
  }
  if (slot->kind != CKPT_SLOT_TENSOR) return stage_setting(s, slot, v);
  if (ckpt_value_tensor(v) == NULL) return stage_number(s, slot, v);
  return ckpt_stage_tensor(s, slot->path, slot->tensor, ckpt_value_tensor(v), false);
}

static ckpt_status stage_group(ckpt_stage *s, const ckpt_group_source *g) {
  const ckpt_value *base = ckpt_value_at(ckpt_checkpoint_root(s->source), g->from);
  if (base == NULL)
    return ckpt_fail(s->err, CKPT_E_CONTRACT, -1, "%s: there is no '%s' in the file", s->record->path, g->from);
  for (size_t i = 0; i < s->cp->n_slots; i++) {
    ckpt_slot *slot = s->cp->slots[i];
    if (strcmp(slot->group, g->group) == 0) CKPT_TRY(ckpt_stage_slot(s, slot, ckpt_value_at(base, slot->path)));
  }
  return CKPT_OK;
}

/* ---- the model ---- */

static const char *first_source(const ckpt_assignment *a) { return a->sources.n == 0 ? NULL : a->sources.items[0]; }

ckpt_status ckpt_stage_result(ckpt_tensor **out, ckpt_stage *s, const ckpt_assignment *a, ckpt_expr_find find,
                              void *context) {
  for (size_t i = 0; i < a->sources.n; i++)
    if (find(context, a->sources.items[i]) == NULL)
      return ckpt_fail(s->err, CKPT_E_POLICY, -1, "the plan takes '%s', which %s does not have", a->sources.items[i],
                       s->record->path);
  if (a->expr == NULL) {
    *out = ckpt_tensor_retain(find(context, first_source(a)));
    return CKPT_OK;
  }
  ckpt_status st = ckpt_expr_evaluate(out, a->expr, find, context, false, s->err);
  return st == CKPT_OK ? CKPT_OK : ckpt_fail_in(s->err, st, a->to);
}

static ckpt_tensor *in_dict(void *context, const char *name) {
  const ckpt_stage *s = context;
  const ckpt_value *v = ckpt_value_get(s->dict, name);
  return v == NULL ? NULL : ckpt_value_tensor(v);
}

/* A tensor that cannot go where it should is a fault of this key; the others are looked at too. */
static ckpt_status note_fault(ckpt_stage *s, ckpt_load_entry *e, ckpt_status st) {
  if (st != CKPT_E_SHAPE && st != CKPT_E_UNSUPPORTED && st != CKPT_E_RANGE) return st;
  if (s->n_faults++ == 0) s->fault = *s->err;
  e->status = CKPT_LOAD_MISMATCHED;
  const char *text = s->err->message;
  size_t n = strlen(s->record->path);
  if (strncmp(text, s->record->path, n) == 0 && strncmp(text + n, ": ", 2) == 0) text += n + 2;
  CKPT_TRY(ckpt_strings_add(&s->record->violations, text, strlen(text), s->err));
  return ckpt_load_record_note(s->record, &e->note, text, s->err);
}

static void count_bytes(ckpt_stage *s, ckpt_load_entry *e) {
  const ckpt_moves *list = s->last_is_corner ? &s->corners : &s->whole;
  e->status = s->last_is_corner ? CKPT_LOAD_PARTIAL : CKPT_LOAD_MATCHED;
  s->record->matched_bytes += (int64_t)ckpt_tensor_nbytes(list->items[list->n - 1].to);
}

/* Where the entry comes from, by its assignment. */
static ckpt_status describe(ckpt_stage *s, ckpt_load_entry *e, const ckpt_assignment *a) {
  char text[CKPT_EXPR_TEXT];
  ckpt_tensor *source = a->sources.n == 0 ? NULL : in_dict(s, first_source(a));
  e->rule = a->rule;
  e->note = a->note;
  CKPT_TRY(ckpt_load_record_join(s->record, &e->source, &a->sources, s->err));
  if (a->expr != NULL)
    CKPT_TRY(ckpt_load_record_note(s->record, &e->operations, ckpt_expr_text(text, a->expr), s->err));
  return source == NULL ? CKPT_OK : ckpt_load_record_source(s->record, e, source, s->err);
}

static ckpt_status stage_entry(ckpt_stage *s, ckpt_load_entry *e, const ckpt_assignment *a) {
  ckpt_tensor *t = NULL;
  const ckpt_slot *slot = ckpt_slot_find(s->cp, "model", a->to);
  if (slot == NULL) return ckpt_fail_nomem(s->err, strlen(a->to)); /* the entry is there, so is the slot */
  CKPT_TRY(describe(s, e, a));
  ckpt_status st = ckpt_stage_result(&t, s, a, in_dict, s);
  if (st == CKPT_OK) st = ckpt_stage_tensor(s, a->to, slot->tensor, t, a->overlap);
  ckpt_tensor_release(t);
  if (st != CKPT_OK) return note_fault(s, e, st);
  count_bytes(s, e);
  return CKPT_OK;
}

/* Notes each target once; a second time is the policy's error. */
static ckpt_status mark_target(ckpt_stage *s, const char *to, size_t place) {
  if (ckpt_strmap_get(&s->by_target, to, strlen(to)) != SIZE_MAX)
    return ckpt_fail(s->err, CKPT_E_POLICY, -1, "the plan fills '%s' twice", to);
  return ckpt_strmap_set(&s->by_target, to, strlen(to), place, s->err);
}

static ckpt_status stage_assignments(ckpt_stage *s, ckpt_strmap *used) {
  const ckpt_load_plan *plan = &s->record->plan;
  for (size_t i = 0; i < plan->n_assign; i++) {
    const ckpt_assignment *a = &plan->assign[i];
    ckpt_load_entry *e = ckpt_load_record_find(s->record, a->to);
    if (e == NULL)
      return ckpt_fail(s->err, CKPT_E_POLICY, -1, "the plan fills '%s', which the model does not have", a->to);
    CKPT_TRY(mark_target(s, a->to, i));
    for (size_t k = 0; k < a->sources.n; k++)
      CKPT_TRY(ckpt_strmap_set(used, a->sources.items[k], strlen(a->sources.items[k]), 1, s->err));
    CKPT_TRY(stage_entry(s, e, a));
  }
  return ckpt_load_record_finish(s->record, s->dict, used, s->err);
}

static ckpt_status stage_model(ckpt_stage *s) {
  const char *select = s->record->plan.select == NULL ? "" : s->record->plan.select;
  s->dict = ckpt_value_at(ckpt_checkpoint_root(s->source), select);
  if (s->dict == NULL || ckpt_value_kind(s->dict) != CKPT_DICT)
    return ckpt_fail(s->err, CKPT_E_CONTRACT, -1, "%s: there is no state dict at '%s'", s->record->path, select);
  ckpt_strmap used = {0};
  ckpt_status st = stage_assignments(s, &used);
  ckpt_strmap_free(&used);
  return st;
}

/* ---- the plan ---- */

static ckpt_status copy_violations(ckpt_stage *s) {
  const ckpt_strings *from = &s->record->plan.violations;
  for (size_t i = 0; i < from->n; i++)
    CKPT_TRY(ckpt_strings_add(&s->record->violations, from->items[i], strlen(from->items[i]), s->err));
  return CKPT_OK;
}

/* The policy's refusal, or the first of what cannot be; the others are in the record. */
static ckpt_status verdict(ckpt_stage *s) {
  const char *refuse = s->record->plan.refuse;
  if (refuse != NULL) return ckpt_fail(s->err, CKPT_E_CONTRACT, -1, "%s: %s", s->record->path, refuse);
  if (s->n_faults == 0) return CKPT_OK;
  if (s->n_faults == 1)
    *s->err = s->fault;
  else
    ckpt_fail(s->err, s->fault.status, -1, "%.400s, and %zu more like it", s->fault.message, s->n_faults - 1);
  return s->fault.status;
}

/* The only condition that needs the bytes; a load that is merely planned leaves it open. */
static ckpt_status check_twins(ckpt_stage *s, const ckpt_twins *c) {
  char text[400];
  bool equal = true;
  const ckpt_tensor *a = in_dict(s, c->a), *b = in_dict(s, c->b);
  if (a != NULL && b != NULL) CKPT_TRY(ckpt_tensor_equal(&equal, a, b, s->err));
  if (equal) return CKPT_OK;
  snprintf(text, sizeof text, "'%.120s' and '%.120s' stand for one tensor (rule %.40s), but their bytes differ", c->a,
           c->b, c->rule == NULL ? "?" : c->rule);
  CKPT_TRY(ckpt_strings_add(&s->record->violations, text, strlen(text), s->err));
  ckpt_fail(s->err, CKPT_E_CONTRACT, -1, "%s: %s", s->record->path, text);
  if (s->n_faults++ == 0) s->fault = *s->err;
  return CKPT_OK;
}

static ckpt_status check_all_twins(ckpt_stage *s) {
  const ckpt_load_plan *plan = &s->record->plan;
  for (size_t i = 0; i < plan->n_checks && !s->dry; i++) CKPT_TRY(check_twins(s, &plan->checks[i]));
  return CKPT_OK;
}

ckpt_status ckpt_stage_plan(ckpt_stage *s) {
  const ckpt_load_plan *plan = &s->record->plan;
  CKPT_TRY(copy_violations(s));
  ckpt_status st = stage_model(s);
  if (st == CKPT_OK) st = check_all_twins(s);
  if (plan->refuse == NULL || st == CKPT_E_NOMEM) CKPT_TRY(st);
  CKPT_TRY(verdict(s));
  if (plan->optimizer != NULL) CKPT_TRY(ckpt_stage_optimizer(s, plan->optimizer));
  for (size_t i = 0; i < plan->n_values; i++) CKPT_TRY(stage_group(s, &plan->values[i]));
  return CKPT_OK;
}

/* ---- doing it ---- */

void ckpt_setting_swap(ckpt_setting *s) {
  ckpt_setting before = *s;
  switch (s->slot->kind) {
    case CKPT_SLOT_INT:
      s->integer = *s->slot->at.integer;
      *s->slot->at.integer = before.integer;
      break;
    case CKPT_SLOT_DOUBLE:
      s->number = *s->slot->at.number;
      *s->slot->at.number = before.number;
      break;
    case CKPT_SLOT_BOOL:
      s->boolean = *s->slot->at.boolean;
      *s->slot->at.boolean = before.boolean;
      break;
    default: s->string = s->slot->at.string; s->slot->at.string = before.string;
  }
}

static void copy_corner(const ckpt_move *m) {
  const void *to, *from;
  int64_t rows[CKPT_MAX_DIMS];
  int n = ckpt_tensor_ndim(m->to);
  if (ckpt_tensor_numel(m->to) == 0) return;
  if (ckpt_tensor_data(&to, m->to, NULL) != CKPT_OK || ckpt_tensor_data(&from, m->from, NULL) != CKPT_OK) return;
  ckpt_strided_rows(rows, n, ckpt_tensor_shape(m->to));
  ckpt_strided_copy((unsigned char *)(uintptr_t)to, ckpt_tensor_stride(m->to), (ckpt_region){from, rows}, n,
                    ckpt_tensor_shape(m->to), ckpt_dtype_size(ckpt_tensor_dtype(m->to)));
}

void ckpt_stage_commit(ckpt_stage *s) {
  ckpt_transfer(s->whole.items, s->whole.n, NULL);
  for (size_t i = 0; i < s->corners.n; i++) copy_corner(&s->corners.items[i]);
  for (size_t i = 0; i < s->n_settings; i++) ckpt_setting_swap(&s->settings[i]);
}

static void free_moves(ckpt_moves *list) {
  for (size_t i = 0; i < list->n; i++) {
    ckpt_tensor_release(list->items[i].to);
    ckpt_tensor_release(list->items[i].from);
  }
  free(list->items);
}

void ckpt_stage_free(ckpt_stage *s) {
  free_moves(&s->whole);
  free_moves(&s->corners);
  for (size_t i = 0; i < s->n_settings; i++) free(s->settings[i].string);
  ckpt_strmap_free(&s->by_target);
  free(s->settings);
}
