/* way.c - see way.h. */
#include "way.h"

#include <stdlib.h>

#include "children.h"

/* ---- children ---- */

static const ckpt_value *state_of(const ckpt_value *v) {
  return v->kind == CKPT_DICT ? v->as.dict->state : ckpt_value_object_state(v);
}

static const ckpt_value *state_child(ckpt_way *way, const ckpt_value *state, size_t i) {
  if (state == NULL) return NULL;
  if (state->kind != CKPT_DICT) {
    way->step = CKPT_STEP_STATE;
    return i == 0 ? state : NULL;
  }
  way->step = CKPT_STEP_KEY;
  way->key = ckpt_value_pair_key(state, i);
  return ckpt_value_pair_value(state, i);
}

const ckpt_value *ckpt_way_child(ckpt_way *way, const ckpt_value *v, size_t i) {
  if (v->kind == CKPT_OBJECT && v->made->how == CKPT_BY_PERSID) return NULL;
  const ckpt_value *args = ckpt_value_object_args(v);
  size_t n = args == NULL ? 0 : ckpt_value_count(args);
  way->index = i;
  way->step = CKPT_STEP_ARG;
  if (i < n) return ckpt_value_item(args, i);
  i -= n;
  const ckpt_value *kwargs = v->kind == CKPT_OBJECT ? v->made->kwargs : NULL;
  way->step = CKPT_STEP_KWARGS;
  if (kwargs != NULL && i-- == 0) return kwargs;
  way->index = i;
  n = v->kind == CKPT_DICT ? 0 : ckpt_value_count(v);
  way->step = CKPT_STEP_ITEM;
  if (i < n) return ckpt_value_item(v, i);
  i -= n;
  n = ckpt_value_pair_count(v);
  way->step = CKPT_STEP_KEY;
  way->key = ckpt_value_pair_key(v, i);
  return i < n ? ckpt_value_pair_value(v, i) : state_child(way, state_of(v), i - n);
}

/* ---- places ---- */

ckpt_status ckpt_places_add(ckpt_places *p, const ckpt_value *v, const ckpt_way *way, bool *added, ckpt_error *err) {
  bool is_new = ckpt_ptrmap_get(&p->seen, v) == SIZE_MAX;
  if (added != NULL) *added = is_new;
  if (!is_new) return CKPT_OK;
  if (p->n == p->capacity) {
    size_t capacity = p->capacity == 0 ? 64 : p->capacity * 2;
    ckpt_place *more = realloc(p->at, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
    p->at = more;
    p->capacity = capacity;
  }
  CKPT_TRY(ckpt_ptrmap_set(&p->seen, v, p->n, err));
  p->at[p->n++] = (ckpt_place){v, *way};
  return CKPT_OK;
}

ckpt_status ckpt_places_walk(ckpt_places *p, size_t from, ckpt_error *err) {
  for (size_t at = from; at < p->n; at++) {
    ckpt_way way = {.parent = at};
    const ckpt_value *child;
    for (size_t i = 0; (child = ckpt_way_child(&way, p->at[at].value, i)) != NULL; i++)
      CKPT_TRY(ckpt_places_add(p, child, &way, NULL, err));
  }
  return CKPT_OK;
}

void ckpt_places_free(ckpt_places *p) {
  free(p->at);
  ckpt_ptrmap_free(&p->seen);
  *p = (ckpt_places){0};
}

/* ---- paths ---- */

/* The ways from the root to the last one; free() them. Not more than a path has room for. */
static ckpt_status ancestors(const ckpt_way ***out, size_t *n, const ckpt_places *p, const ckpt_way *last,
                             ckpt_error *err) {
  size_t count = 1;
  for (const ckpt_way *w = last; w->step != CKPT_STEP_ROOT; w = &p->at[w->parent].way) count++;
  if (count > CKPT_MAX_PATH) return ckpt_fail(err, CKPT_E_LIMIT, -1, "a path longer than %d bytes", CKPT_MAX_PATH);
  const ckpt_way **chain = malloc(count * sizeof *chain);
  if (chain == NULL) return ckpt_fail_nomem(err, count * sizeof *chain);
  for (size_t k = count; k-- > 0;) {
    chain[k] = last;
    if (k > 0) last = &p->at[last->parent].way;
  }
  *out = chain;
  *n = count;
  return CKPT_OK;
}

ckpt_status ckpt_places_path_by(char **out, const ckpt_places *p, const ckpt_way *way, ckpt_error *err) {
  const ckpt_way **chain = NULL;
  size_t n = 0;
  ckpt_path path = {0};
  CKPT_TRY(ckpt_path_new(&path, err));
  ckpt_status st = ancestors(&chain, &n, p, way, err);
  for (size_t i = 0; st == CKPT_OK && i < n; i++) st = ckpt_path_append(&path, chain[i], err);
  free(chain);
  if (st != CKPT_OK) {
    ckpt_path_free(&path);
    return st;
  }
  memmove(path.text, ckpt_path_shown(&path), strlen(ckpt_path_shown(&path)) + 1);
  *out = path.text;
  return CKPT_OK;
}

ckpt_status ckpt_places_path(char **out, const ckpt_places *p, size_t at, ckpt_error *err) {
  return ckpt_places_path_by(out, p, &p->at[at].way, err);
}
