/*
 * run_load.c - all or nothing: candidates are opened and verified, the policy's plan is checked whole against file and
 * model, every source is made ready, and only then is anything written into the trainer's memory. The last step cannot
 * fail.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cast.h"
#include "run.h"
#include "transfer.h"

typedef struct stage {
  ckpt_checkpointer *cp;
  const ckpt_checkpoint *source;
  const char *path;
  ckpt_move *moves; /* their sources are retained */
  size_t n_moves, move_capacity;
  ckpt_setting *settings;
  size_t n_settings, setting_capacity;
  size_t kept; /* bound things that the file does not have */
  ckpt_error *err;
} stage;

/* ---- candidates ---- */

static char *candidate_path(const ckpt_checkpointer *cp, const char *file) {
  bool is_path = strchr(file, '/') != NULL || (cp->weights != NULL && strcmp(file, cp->weights) == 0);
  if (is_path) return strdup(file);
  size_t n = strlen(cp->path) + strlen(file) + 2;
  char *path = malloc(n);
  if (path != NULL) snprintf(path, n, "%s/%s", cp->path, file);
  return path;
}

static ckpt_status try_candidate(ckpt_checkpoint **source, char **path, const ckpt_checkpointer *cp,
                                 const ckpt_candidate *c, ckpt_error *err) {
  static const ckpt_open_options verify = {.verify = true};
  char *p = candidate_path(cp, c->file);
  if (p == NULL) return ckpt_fail_nomem(err, strlen(c->file) + strlen(cp->path) + 2);
  ckpt_status st = ckpt_checkpoint_open(source, p, &verify, err);
  if (st == CKPT_OK)
    *path = p;
  else
    free(p);
  return st;
}

static ckpt_status choose(ckpt_checkpoint **source, char **path, ckpt_candidate *chosen, ckpt_checkpointer *cp,
                          const ckpt_candidates *list, ckpt_error *err) {
  ckpt_error first = {0};
  for (size_t i = 0; i < list->n; i++) {
    ckpt_error here = {0};
    ckpt_status st = try_candidate(source, path, cp, &list->items[i], &here);
    if (st == CKPT_OK) {
      *chosen = list->items[i];
      if (i > 0) ckpt_log(cp, CKPT_LOG_WARNING, "  taking %s instead", *path);
      return CKPT_OK;
    }
    if (i == 0) first = here;
    if (!list->items[i].must && st != CKPT_E_NOMEM) {
      ckpt_log(cp, CKPT_LOG_WARNING, "%s", here.message);
      continue;
    }
    if (err != NULL) *err = here;
    return st;
  }
  if (list->n == 0) return CKPT_OK; /* scratch */
  if (err != NULL) *err = first;
  return first.status; /* starting over beside checkpoints that cannot be read would be the wrong kind of help */
}

ckpt_status ckpt_choose_source(ckpt_checkpoint **source, char **path, ckpt_candidate *chosen, ckpt_checkpointer *cp,
                               ckpt_error *err) {
  ckpt_candidates list = {0};
  *source = NULL;
  *path = NULL;
  CKPT_TRY(ckpt_plan_candidates(&list, cp, err));
  ckpt_status st = choose(source, path, chosen, cp, &list, err);
  if (st == CKPT_OK && *source != NULL && (chosen->file = strdup(chosen->file)) == NULL) st = ckpt_fail_nomem(err, 64);
  ckpt_candidates_free(&list);
  return st;
}

/* ---- staging ---- */

static ckpt_status add_move(stage *s, ckpt_tensor *to, ckpt_tensor *from) {
  if (s->n_moves == s->move_capacity) {
    size_t capacity = s->move_capacity == 0 ? 64 : s->move_capacity * 2;
    ckpt_move *more = realloc(s->moves, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(s->err, capacity * sizeof *more);
    s->moves = more;
    s->move_capacity = capacity;
  }
  s->moves[s->n_moves++] = (ckpt_move){to, ckpt_tensor_retain(from)};
  return CKPT_OK;
}

static void shape_text(char *out, size_t size, const ckpt_tensor *t) {
  size_t at = (size_t)snprintf(out, size, "%s [", ckpt_dtype_name(ckpt_tensor_dtype(t)));
  for (int i = 0; i < ckpt_tensor_ndim(t) && at < size; i++)
    at += (size_t)snprintf(out + at, size - at, "%s%lld", i > 0 ? "," : "", (long long)ckpt_tensor_shape(t)[i]);
  if (at < size) snprintf(out + at, size - at, "]");
}

static bool same_shape(const ckpt_tensor *a, const ckpt_tensor *b) {
  if (ckpt_tensor_ndim(a) != ckpt_tensor_ndim(b)) return false;
  for (int i = 0; i < ckpt_tensor_ndim(a); i++)
    if (ckpt_tensor_shape(a)[i] != ckpt_tensor_shape(b)[i]) return false;
  return true;
}

/* Everything that could make the copy fail is asked now. */
static ckpt_status stage_tensor(stage *s, const char *what, ckpt_tensor *to, ckpt_tensor *from) {
  char a[160], b[160];
  const void *data;
  shape_text(a, sizeof a, from);
  shape_text(b, sizeof b, to);
  if (!same_shape(to, from))
    return ckpt_fail(s->err, CKPT_E_SHAPE, -1, "%s: '%s' is %s in the file and %s here", s->path, what, a, b);
  if (ckpt_tensor_is_meta(from))
    return ckpt_fail(s->err, CKPT_E_SHAPE, -1, "%s: '%s' is a meta tensor, it has no data", s->path, what);
  if (ckpt_tensor_dtype(to) != ckpt_tensor_dtype(from) &&
      !ckpt_cast_supported(ckpt_tensor_dtype(to), ckpt_tensor_dtype(from)))
    return ckpt_fail(s->err, CKPT_E_UNSUPPORTED, -1, "%s: '%s' cannot be cast from %s to %s", s->path, what, a, b);
  ckpt_status st = ckpt_tensor_data(&data, from, s->err);
  if (st == CKPT_OK) st = ckpt_tensor_check_packed(from, s->err);
  if (st == CKPT_OK) st = ckpt_tensor_check_writable(to, s->err);
  if (st != CKPT_OK) return ckpt_fail_in(s->err, st, s->path);
  return add_move(s, to, from);
}

/* ---- the model ---- */

static ckpt_status apply_ops(ckpt_tensor **out, stage *s, const ckpt_assignment *a, ckpt_tensor *from) {
  ckpt_tensor *t = ckpt_tensor_retain(from);
  for (size_t i = 0; i < a->n_ops; i++) {
    ckpt_tensor *next = NULL;
    ckpt_status st = ckpt_tensor_index_select(&next, t, a->ops[i].dim, a->ops[i].n, a->ops[i].index, s->err);
    ckpt_tensor_release(t);
    if (st != CKPT_OK) return ckpt_fail_in(s->err, st, a->from);
    t = next;
  }
  *out = t;
  return CKPT_OK;
}

static ckpt_status stage_assignment(stage *s, const ckpt_value *dict, const ckpt_assignment *a) {
  const ckpt_slot *slot = ckpt_slot_find(s->cp, "model", a->to);
  const ckpt_value *v = ckpt_value_get(dict, a->from);
  if (slot == NULL || slot->kind != CKPT_SLOT_TENSOR)
    return ckpt_fail(s->err, CKPT_E_POLICY, -1, "the plan fills '%s', which the model does not have", a->to);
  if (v == NULL || ckpt_value_tensor(v) == NULL)
    return ckpt_fail(s->err, CKPT_E_POLICY, -1, "the plan takes '%s', which %s does not have", a->from, s->path);
  ckpt_tensor *t = NULL;
  CKPT_TRY(apply_ops(&t, s, a, ckpt_value_tensor(v)));
  ckpt_status st = stage_tensor(s, a->to, slot->tensor, t);
  ckpt_tensor_release(t);
  return st;
}

/* Notes each name once; a second time is the policy's error. */
static ckpt_status mark_once(ckpt_strmap *seen, const char *name, stage *s) {
  if (ckpt_strmap_get(seen, name, strlen(name)) != SIZE_MAX)
    return ckpt_fail(s->err, CKPT_E_POLICY, -1, "the plan fills '%s' twice", name);
  return ckpt_strmap_set(seen, name, strlen(name), 1, s->err);
}

static ckpt_status report_model(stage *s, const ckpt_value *dict, const ckpt_strmap *filled, const ckpt_strmap *used) {
  ckpt_checkpointer *cp = s->cp;
  for (size_t i = 0; i < cp->n_slots; i++) {
    const ckpt_slot *slot = cp->slots[i];
    if (slot->kind != CKPT_SLOT_TENSOR || strcmp(slot->group, "model") != 0) continue;
    if (ckpt_strmap_get(filled, slot->path, strlen(slot->path)) == SIZE_MAX)
      CKPT_TRY(ckpt_strings_add(&cp->missing, slot->path, strlen(slot->path), s->err));
  }
  for (size_t i = 0; i < ckpt_value_pair_count(dict); i++) {
    size_t n = 0;
    const ckpt_value *key = ckpt_value_pair_key(dict, i);
    const char *name = ckpt_value_kind(key) == CKPT_STR ? ckpt_value_text(key, &n) : NULL;
    if (name == NULL || ckpt_value_tensor(ckpt_value_pair_value(dict, i)) == NULL) continue;
    if (ckpt_strmap_get(used, name, n) == SIZE_MAX) CKPT_TRY(ckpt_strings_add(&cp->unexpected, name, n, s->err));
  }
  return CKPT_OK;
}

static ckpt_status stage_all(stage *s, const ckpt_value *dict, const ckpt_load_plan *plan, ckpt_strmap *filled,
                             ckpt_strmap *used) {
  for (size_t i = 0; i < plan->n_assign; i++) {
    const ckpt_assignment *a = &plan->assign[i];
    CKPT_TRY(mark_once(filled, a->to, s));
    CKPT_TRY(ckpt_strmap_set(used, a->from, strlen(a->from), 1, s->err));
    CKPT_TRY(stage_assignment(s, dict, a));
  }
  return report_model(s, dict, filled, used);
}

static ckpt_status stage_model(stage *s, const ckpt_load_plan *plan) {
  const char *select = plan->select == NULL ? "" : plan->select;
  const ckpt_value *dict = ckpt_value_at(ckpt_checkpoint_root(s->source), select);
  if (dict == NULL || ckpt_value_kind(dict) != CKPT_DICT)
    return ckpt_fail(s->err, CKPT_E_CONTRACT, -1, "%s: there is no state dict at '%s'", s->path, select);
  ckpt_strmap filled = {0}, used = {0};
  ckpt_status st = stage_all(s, dict, plan, &filled, &used);
  ckpt_strmap_free(&filled);
  ckpt_strmap_free(&used);
  return st;
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

static ckpt_status stage_setting(stage *s, ckpt_slot *slot, const ckpt_value *v) {
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
  snprintf(where, sizeof where, "%.300s: '%.100s' of group '%.60s'", s->path, slot->path, slot->group);
  return ckpt_fail_in(s->err, st, where);
}

/* A slot from a value of the file; what the file does not have (or has as None) stays as it is. */
static ckpt_status stage_slot(stage *s, ckpt_slot *slot, const ckpt_value *v) {
  if (v == NULL || ckpt_value_kind(v) == CKPT_NONE) {
    s->kept++;
    return CKPT_OK;
  }
  if (slot->kind != CKPT_SLOT_TENSOR) return stage_setting(s, slot, v);
  if (ckpt_value_tensor(v) != NULL) return stage_tensor(s, slot->path, slot->tensor, ckpt_value_tensor(v));
  double number = 0; /* Adam's step was a plain int before PyTorch 1.12 */
  ckpt_tensor *t = NULL;
  CKPT_TRY(ckpt_value_double(&number, v, s->err));
  CKPT_TRY(ckpt_tensor_new(&t, CKPT_F64, 0, NULL, s->err));
  const void *data;
  if (ckpt_tensor_data(&data, t, s->err) == CKPT_OK) memcpy((void *)(uintptr_t)data, &number, sizeof number);
  ckpt_status st = stage_tensor(s, slot->path, slot->tensor, t);
  ckpt_tensor_release(t);
  return st;
}

static ckpt_status stage_group(stage *s, const ckpt_group_source *g) {
  const ckpt_value *base = ckpt_value_at(ckpt_checkpoint_root(s->source), g->from);
  if (base == NULL) return ckpt_fail(s->err, CKPT_E_CONTRACT, -1, "%s: there is no '%s' in the file", s->path, g->from);
  for (size_t i = 0; i < s->cp->n_slots; i++) {
    ckpt_slot *slot = s->cp->slots[i];
    if (strcmp(slot->group, g->group) == 0) CKPT_TRY(stage_slot(s, slot, ckpt_value_at(base, slot->path)));
  }
  return CKPT_OK;
}

/* ---- the optimizer ---- */

/* The file's index of each of our parameters: by name where the file has names, else by position. */
typedef struct index_map {
  int64_t *index; /* by parameter_index; -1: not in the file */
  ckpt_slot **params;
  size_t n;
} index_map;

static ckpt_status map_group(stage *s, index_map *map, const ckpt_value *group, size_t *position, bool *named) {
  const ckpt_value *params = ckpt_value_get(group, "params"), *names = ckpt_value_get(group, "param_names");
  size_t n = params == NULL ? 0 : ckpt_value_count(params);
  *named &= names != NULL && ckpt_value_count(names) == n;
  for (size_t i = 0; i < n; i++, (*position)++) {
    int64_t index = 0;
    CKPT_TRY(ckpt_value_int(&index, ckpt_value_item(params, i), s->err));
    const ckpt_value *name = names == NULL ? NULL : ckpt_value_item(names, i);
    const char *text = name == NULL ? NULL : ckpt_value_text(name, NULL);
    const ckpt_slot *slot = text == NULL ? NULL : ckpt_slot_find(s->cp, "model", text);
    if (slot != NULL && ckpt_slot_is_parameter(slot)) map->index[slot->parameter_index] = index;
    if (text == NULL && *position < map->n) map->index[*position] = index;
  }
  return CKPT_OK;
}

static ckpt_status map_indices(stage *s, index_map *map, const ckpt_value *groups) {
  size_t position = 0;
  bool named = true;
  for (size_t i = 0; i < map->n; i++) map->index[i] = -1;
  for (size_t g = 0; g < ckpt_value_count(groups); g++)
    CKPT_TRY(map_group(s, map, ckpt_value_item(groups, g), &position, &named));
  if (named || position == map->n) return CKPT_OK;
  return ckpt_fail(s->err, CKPT_E_CONTRACT, -1, "%s: the optimizer in the file has %zu parameters, the model binds %zu",
                   s->path, position, map->n);
}

static ckpt_status stage_state(stage *s, const index_map *map, const ckpt_value *state) {
  for (size_t i = 0; i < s->cp->n_slots; i++) {
    ckpt_slot *slot = s->cp->slots[i];
    const char *rest = NULL;
    if (strcmp(slot->group, "optimizer") != 0 || slot->kind != CKPT_SLOT_TENSOR) continue;
    const ckpt_slot *owner = ckpt_slot_owner(&rest, s->cp, slot);
    ckpt_value key = {.kind = CKPT_INT};
    key.as.integer = owner == NULL ? -1 : map->index[owner->parameter_index];
    const ckpt_dict *d = ckpt_value_dict(state);
    size_t at = d == NULL ? SIZE_MAX : ckpt_dict_find(d, &key);
    const ckpt_value *slots = at == SIZE_MAX ? NULL : ckpt_value_pair_value(state, at);
    CKPT_TRY(stage_slot(s, slot, slots == NULL ? NULL : ckpt_value_get(slots, rest)));
  }
  return CKPT_OK;
}

static ckpt_status stage_options(stage *s, const ckpt_value *groups) {
  for (size_t i = 0; i < s->cp->n_slots; i++) {
    ckpt_slot *slot = s->cp->slots[i];
    const char *key = NULL;
    if (strcmp(slot->group, "optimizer") != 0 || slot->kind == CKPT_SLOT_TENSOR) continue;
    const ckpt_value *group = ckpt_value_item(groups, (size_t)ckpt_optimizer_path(&key, slot->path));
    CKPT_TRY(stage_slot(s, slot, group == NULL ? NULL : ckpt_value_get(group, key)));
  }
  return CKPT_OK;
}

static ckpt_status stage_mapped(stage *s, index_map *map, const ckpt_value *state, const ckpt_value *groups) {
  CKPT_TRY(map_indices(s, map, groups));
  CKPT_TRY(stage_state(s, map, state));
  return stage_options(s, groups);
}

static ckpt_status stage_optimizer(stage *s, const char *path) {
  const ckpt_value *v = ckpt_value_at(ckpt_checkpoint_root(s->source), path);
  const ckpt_value *state = v == NULL ? NULL : ckpt_value_get(v, "state");
  const ckpt_value *groups = v == NULL ? NULL : ckpt_value_get(v, "param_groups");
  if (state == NULL || groups == NULL || ckpt_value_kind(groups) != CKPT_LIST)
    return ckpt_fail(s->err, CKPT_E_CONTRACT, -1, "%s: there is no optimizer state dict at '%s'", s->path, path);
  index_map map = {0};
  CKPT_TRY(ckpt_parameters(&map.params, &map.n, s->cp, s->err));
  map.index = calloc(map.n + 1, sizeof *map.index);
  ckpt_status st = map.index == NULL ? ckpt_fail_nomem(s->err, map.n * 8) : stage_mapped(s, &map, state, groups);
  free(map.index);
  free(map.params);
  return st;
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

/* Nothing here can fail: shapes, casts and bytes have been looked at. */
static void commit(stage *s) {
  ckpt_transfer(s->moves, s->n_moves, NULL);
  for (size_t i = 0; i < s->n_settings; i++) ckpt_setting_swap(&s->settings[i]);
}

static void stage_free(stage *s) {
  for (size_t i = 0; i < s->n_moves; i++) ckpt_tensor_release(s->moves[i].from);
  for (size_t i = 0; i < s->n_settings; i++) free(s->settings[i].string);
  free(s->moves);
  free(s->settings);
}

static ckpt_status stage_plan(stage *s, const ckpt_load_plan *plan) {
  if (plan->refuse != NULL) return ckpt_fail(s->err, CKPT_E_CONTRACT, -1, "%s: %s", s->path, plan->refuse);
  CKPT_TRY(stage_model(s, plan));
  if (plan->optimizer != NULL) CKPT_TRY(stage_optimizer(s, plan->optimizer));
  for (size_t i = 0; i < plan->n_values; i++) CKPT_TRY(stage_group(s, &plan->values[i]));
  return CKPT_OK;
}

static int64_t file_epoch(const ckpt_checkpoint *source) {
  const ckpt_value *v = ckpt_value_get(ckpt_checkpoint_root(source), "epoch");
  int64_t epoch = INT64_MIN;
  if (v != NULL) ckpt_value_int(&epoch, v, NULL);
  return epoch;
}

static void finish(ckpt_checkpointer *cp, const ckpt_load_plan *plan, int64_t epoch, bool resumed) {
  bool counts = resumed && epoch > INT64_MIN && epoch < INT64_MAX;
  cp->next_epoch = plan->has_next_epoch ? plan->next_epoch : counts ? epoch + 1 : 1;
  for (size_t i = 0; i < plan->log.n; i++) ckpt_log(cp, CKPT_LOG_INFO, "%s", plan->log.items[i]);
}

static void forget_report(ckpt_checkpointer *cp) {
  ckpt_strings_free(&cp->missing);
  ckpt_strings_free(&cp->unexpected);
  ckpt_strings_free(&cp->mismatched);
  free(cp->loaded);
  cp->loaded = NULL;
}

static void fill_report(ckpt_load_report *r, const ckpt_checkpointer *cp, ckpt_load_mode mode, int64_t epoch,
                        size_t matched) {
  if (r == NULL) return;
  *r = (ckpt_load_report){mode,
                          cp->loaded,
                          epoch,
                          matched,
                          cp->missing.n,
                          cp->unexpected.n,
                          cp->mismatched.n,
                          (const char *const *)cp->missing.items,
                          (const char *const *)cp->unexpected.items,
                          (const char *const *)cp->mismatched.items};
}

static ckpt_status load_source(ckpt_load_report *report, ckpt_checkpointer *cp, const ckpt_checkpoint *source,
                               const ckpt_candidate *chosen, const char *path, ckpt_error *err) {
  ckpt_load_plan plan = {0};
  const char *mode = chosen->resume ? "resume" : "pretrain";
  CKPT_TRY(ckpt_plan_load(&plan, cp, source, chosen->file, path, mode, err));
  stage s = {.cp = cp, .source = source, .path = path, .err = err};
  ckpt_status st = stage_plan(&s, &plan);
  if (st == CKPT_OK) {
    commit(&s);
    cp->mismatched = plan.mismatched;
    plan.mismatched = (ckpt_strings){0};
    finish(cp, &plan, file_epoch(source), chosen->resume);
    fill_report(report, cp, chosen->resume ? CKPT_RESUMED : CKPT_PRETRAINED, file_epoch(source), plan.n_assign);
  }
  if (st == CKPT_OK && s.kept > 0 && chosen->resume)
    ckpt_log(cp, CKPT_LOG_WARNING, "%s: %zu bound values are not in the file and stay as they are", path, s.kept);
  stage_free(&s);
  ckpt_load_plan_free(&plan);
  return st;
}

static ckpt_status load_scratch(ckpt_load_report *report, ckpt_checkpointer *cp, ckpt_error *err) {
  ckpt_load_plan plan = {0};
  CKPT_TRY(ckpt_plan_load(&plan, cp, NULL, NULL, NULL, "scratch", err));
  finish(cp, &plan, INT64_MIN, false);
  ckpt_load_plan_free(&plan);
  fill_report(report, cp, CKPT_SCRATCH, INT64_MIN, 0);
  return CKPT_OK;
}

ckpt_status ckpt_load(ckpt_checkpointer *cp, ckpt_load_report *report, ckpt_error *err) {
  ckpt_error here = {0};
  ckpt_checkpoint *source = NULL;
  ckpt_candidate chosen = {0};
  char *path = NULL;
  forget_report(cp);
  ckpt_status st = ckpt_choose_source(&source, &path, &chosen, cp, &here);
  cp->loaded = path;
  if (st == CKPT_OK)
    st = source == NULL ? load_scratch(report, cp, &here) : load_source(report, cp, source, &chosen, path, &here);
  if (source != NULL) free(chosen.file);
  ckpt_checkpoint_close(source);
  if (st != CKPT_OK && err != NULL) *err = here;
  return st;
}
