/* load_report.c - see load_report.h. */
#include "load_report.h"

#include <stdlib.h>

/* ---- making ---- */

static bool is_model_tensor(const ckpt_slot *s) {
  return s->kind == CKPT_SLOT_TENSOR && strcmp(s->group, "model") == 0;
}

static ckpt_status make_entries(ckpt_load_record *r, const ckpt_checkpointer *cp, ckpt_error *err) {
  r->entries = ckpt_arena_alloc(&r->arena, (cp->n_slots + 1) * sizeof *r->entries, err);
  if (r->entries == NULL) return CKPT_E_NOMEM;
  for (size_t i = 0; i < cp->n_slots; i++) {
    const ckpt_slot *s = cp->slots[i];
    if (!is_model_tensor(s)) continue;
    ckpt_load_entry *e = &r->entries[r->n_entries];
    *e = (ckpt_load_entry){.to = s->path,
                           .status = CKPT_LOAD_MISSING,
                           .file_ndim = -1,
                           .model_dtype = ckpt_tensor_dtype(s->tensor),
                           .model_ndim = ckpt_tensor_ndim(s->tensor),
                           .model_shape = ckpt_tensor_shape(s->tensor)};
    r->bytes += (int64_t)ckpt_tensor_nbytes(s->tensor);
    CKPT_TRY(ckpt_strmap_set(&r->index, e->to, strlen(e->to), r->n_entries++, err));
  }
  return CKPT_OK;
}

/* What the plan says of keys that it does not fill; it may speak of keys that are not there. */
static void explain(ckpt_load_record *r) {
  for (size_t i = 0; i < r->plan.n_unfilled; i++) {
    const ckpt_unfilled *u = &r->plan.unfilled[i];
    ckpt_load_entry *e = ckpt_load_record_find(r, u->to);
    if (e == NULL) continue;
    e->status = u->status;
    e->source = u->from;
    e->rule = u->rule;
    e->note = u->note;
  }
}

static ckpt_status copy_suggestions(ckpt_load_record *r, ckpt_error *err) {
  r->suggestions = ckpt_arena_alloc(&r->arena, (r->plan.n_suggestions + 1) * sizeof *r->suggestions, err);
  if (r->suggestions == NULL) return CKPT_E_NOMEM;
  for (size_t i = 0; i < r->plan.n_suggestions; i++)
    r->suggestions[i] = (ckpt_load_suggestion){r->plan.suggestions[i].text, r->plan.suggestions[i].matches};
  return CKPT_OK;
}

ckpt_status ckpt_load_record_new(ckpt_load_record **out, const ckpt_checkpointer *cp, ckpt_load_plan *plan, char **path,
                                 ckpt_error *err) {
  ckpt_load_record *r = calloc(1, sizeof *r);
  if (r == NULL) {
    ckpt_load_plan_free(plan);
    free(*path);
    *path = NULL;
    return ckpt_fail_nomem(err, sizeof *r);
  }
  r->epoch = INT64_MIN;
  r->plan = *plan;
  r->path = *path;
  *plan = (ckpt_load_plan){0};
  *path = NULL;
  ckpt_status st = make_entries(r, cp, err);
  if (st == CKPT_OK) st = copy_suggestions(r, err);
  if (st != CKPT_OK) {
    ckpt_load_record_free(r);
    return st;
  }
  explain(r);
  *out = r;
  return CKPT_OK;
}

void ckpt_load_record_free(ckpt_load_record *r) {
  if (r == NULL) return;
  ckpt_strings *lists[] = {&r->missing, &r->unexpected, &r->mismatched, &r->dropped, &r->violations};
  for (size_t i = 0; i < CKPT_COUNTOF(lists); i++) ckpt_strings_free(lists[i]);
  ckpt_strmap_free(&r->index);
  ckpt_arena_free(&r->arena);
  ckpt_load_plan_free(&r->plan);
  free(r->path);
  free(r);
}

/* ---- filling ---- */

ckpt_load_entry *ckpt_load_record_find(const ckpt_load_record *r, const char *to) {
  size_t at = ckpt_strmap_get(&r->index, to, strlen(to));
  return at == SIZE_MAX ? NULL : &r->entries[at];
}

ckpt_status ckpt_load_record_source(ckpt_load_record *r, ckpt_load_entry *e, const ckpt_tensor *source,
                                    ckpt_error *err) {
  int n = ckpt_tensor_ndim(source);
  int64_t *shape = ckpt_arena_alloc(&r->arena, (size_t)(n + 1) * sizeof *shape, err);
  if (shape == NULL) return CKPT_E_NOMEM;
  if (n > 0) memcpy(shape, ckpt_tensor_shape(source), (size_t)n * sizeof *shape);
  e->file_shape = shape;
  e->file_ndim = n;
  e->file_dtype = ckpt_tensor_dtype(source);
  return CKPT_OK;
}

ckpt_status ckpt_load_record_note(ckpt_load_record *r, const char **note, const char *text, ckpt_error *err) {
  const char *copy = ckpt_arena_copy(&r->arena, text, strlen(text), err);
  if (copy == NULL) return CKPT_E_NOMEM;
  *note = copy;
  return CKPT_OK;
}

ckpt_status ckpt_load_record_join(ckpt_load_record *r, const char **out, const ckpt_strings *names, ckpt_error *err) {
  size_t n = 1;
  for (size_t i = 0; i < names->n; i++) n += strlen(names->items[i]) + 2;
  if (names->n == 0) return CKPT_OK;
  char *joined = ckpt_arena_alloc(&r->arena, n, err);
  if (joined == NULL) return CKPT_E_NOMEM;
  *out = joined;
  for (size_t i = 0; i < names->n; i++) {
    if (i > 0) joined = stpcpy(joined, ", ");
    joined = stpcpy(joined, names->items[i]);
  }
  return CKPT_OK;
}

/* ---- the lists ---- */

static ckpt_status list_entries(ckpt_load_record *r, const ckpt_value *dict, ckpt_error *err) {
  for (size_t i = 0; i < r->n_entries; i++) {
    ckpt_load_entry *e = &r->entries[i];
    bool filled = e->status == CKPT_LOAD_MATCHED || e->status == CKPT_LOAD_PARTIAL;
    r->matched += filled;
    if (!filled) CKPT_TRY(ckpt_strings_add(&r->missing, e->to, strlen(e->to), err));
    const ckpt_value *v = e->source == NULL || e->file_ndim >= 0 ? NULL : ckpt_value_get(dict, e->source);
    if (v != NULL && ckpt_value_tensor(v) != NULL) CKPT_TRY(ckpt_load_record_source(r, e, ckpt_value_tensor(v), err));
  }
  return CKPT_OK;
}

static ckpt_status list_dropped(ckpt_load_record *r, ckpt_strmap *gone, ckpt_error *err) {
  for (size_t i = 0; i < r->plan.dropped.n; i++) {
    const char *key = r->plan.dropped.items[i], *rule = r->plan.dropped_by.items[i];
    CKPT_TRY(ckpt_strmap_set(gone, key, strlen(key), 1, err));
    CKPT_TRY(rule[0] == '\0' ? ckpt_strings_add(&r->dropped, key, strlen(key), err)
                             : ckpt_strings_addf(&r->dropped, err, "%s (rule %s)", key, rule));
  }
  return CKPT_OK;
}

static ckpt_status list_unexpected(ckpt_load_record *r, const ckpt_value *dict, const ckpt_strmap *used,
                                   const ckpt_strmap *gone, ckpt_error *err) {
  for (size_t i = 0; i < ckpt_value_pair_count(dict); i++) {
    size_t n = 0;
    const ckpt_value *key = ckpt_value_pair_key(dict, i);
    const char *name = ckpt_value_kind(key) == CKPT_STR ? ckpt_value_text(key, &n) : NULL;
    if (name == NULL || ckpt_value_tensor(ckpt_value_pair_value(dict, i)) == NULL) continue;
    if (ckpt_strmap_get(used, name, n) != SIZE_MAX || ckpt_strmap_get(gone, name, n) != SIZE_MAX) continue;
    CKPT_TRY(ckpt_strings_add(&r->unexpected, name, n, err));
  }
  return CKPT_OK;
}

static ckpt_status copy_strings(ckpt_strings *out, const ckpt_strings *from, ckpt_error *err) {
  for (size_t i = 0; i < from->n; i++) CKPT_TRY(ckpt_strings_add(out, from->items[i], strlen(from->items[i]), err));
  return CKPT_OK;
}

ckpt_status ckpt_load_record_finish(ckpt_load_record *r, const ckpt_value *dict, const ckpt_strmap *used,
                                    ckpt_error *err) {
  ckpt_strmap gone = {0};
  ckpt_status st = list_entries(r, dict, err);
  if (st == CKPT_OK) st = list_dropped(r, &gone, err);
  if (st == CKPT_OK) st = list_unexpected(r, dict, used, &gone, err);
  if (st == CKPT_OK) st = copy_strings(&r->mismatched, &r->plan.mismatched, err);
  ckpt_strmap_free(&gone);
  return st;
}

/* ---- showing ---- */

ckpt_load_report ckpt_load_record_view(const ckpt_load_record *r) {
  if (r == NULL) return (ckpt_load_report){.epoch = INT64_MIN};
  return (ckpt_load_report){.mode = r->mode,
                            .path = r->path,
                            .epoch = r->epoch,
                            .matched = r->matched,
                            .n_missing = r->missing.n,
                            .n_unexpected = r->unexpected.n,
                            .n_mismatched = r->mismatched.n,
                            .missing = (const char *const *)r->missing.items,
                            .unexpected = (const char *const *)r->unexpected.items,
                            .mismatched = (const char *const *)r->mismatched.items,
                            .map = r->plan.map,
                            .n_entries = r->n_entries,
                            .n_dropped = r->dropped.n,
                            .n_unfired = r->plan.unfired.n,
                            .n_violations = r->violations.n,
                            .n_suggestions = r->plan.n_suggestions,
                            .n_parameters = r->n_parameters,
                            .entries = r->entries,
                            .dropped = (const char *const *)r->dropped.items,
                            .unfired = (const char *const *)r->plan.unfired.items,
                            .violations = (const char *const *)r->violations.items,
                            .suggestions = r->suggestions,
                            .parameters = r->parameters,
                            .bytes = r->bytes,
                            .matched_bytes = r->matched_bytes};
}
