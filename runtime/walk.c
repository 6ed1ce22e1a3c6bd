/*
 * walk.c - everything of a value, with its paths (ckpt_walk_new in ckpt.h). A container is gone into once, so that a
 * walk has as many steps as the graph has edges, however often things are shared.
 */
#include <stdlib.h>

#include "children.h"
#include "ptrmap.h"

typedef struct place {
  const ckpt_value *value;
  size_t next, path;
} place;

struct ckpt_walk {
  const ckpt_value *root; /* NULL when it has been given */
  place *places;
  size_t n, capacity;
  ckpt_path path;
  ckpt_ptrmap seen;
};

ckpt_status ckpt_walk_new(ckpt_walk **out, const ckpt_value *root, ckpt_error *err) {
  ckpt_walk *w = calloc(1, sizeof *w);
  if (w == NULL) return ckpt_fail_nomem(err, sizeof *w);
  w->root = root;
  ckpt_status st = ckpt_path_new(&w->path, err);
  if (st != CKPT_OK) {
    ckpt_walk_free(w);
    return st;
  }
  *out = w;
  return CKPT_OK;
}

void ckpt_walk_free(ckpt_walk *w) {
  if (w == NULL) return;
  ckpt_path_free(&w->path);
  ckpt_ptrmap_free(&w->seen);
  free(w->places);
  free(w);
}

static ckpt_status enter(ckpt_walk *w, const ckpt_value *v, ckpt_error *err) {
  if (w->n == w->capacity) {
    size_t capacity = w->capacity == 0 ? 32 : w->capacity * 2;
    place *more = realloc(w->places, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
    w->places = more;
    w->capacity = capacity;
  }
  w->places[w->n++] = (place){v, 0, w->path.length};
  return CKPT_OK;
}

/* The next value at w->path, or NULL. */
static ckpt_status advance(const ckpt_value **out, ckpt_walk *w, ckpt_error *err) {
  *out = w->root;
  w->root = NULL;
  while (*out == NULL && w->n > 0) {
    place *p = &w->places[w->n - 1];
    ckpt_path_cut(&w->path, p->path);
    CKPT_TRY(ckpt_value_child(out, &w->path, p->value, p->next++, err));
    if (*out == NULL) w->n--;
  }
  return CKPT_OK;
}

static bool has_identity(const ckpt_value *v) {
  bool empty = v->kind == CKPT_TUPLE && v->as.seq.n == 0; /* one for the whole document */
  return v->kind == CKPT_TENSOR || (ckpt_value_has_children(v) && !empty);
}

ckpt_status ckpt_walk_next(ckpt_walk_step *step, ckpt_walk *w, ckpt_error *err) {
  const ckpt_value *v = NULL;
  CKPT_TRY(advance(&v, w, err));
  bool again = false;
  if (v != NULL && has_identity(v)) {
    again = ckpt_ptrmap_get(&w->seen, v) != SIZE_MAX;
    if (!again) CKPT_TRY(ckpt_ptrmap_set(&w->seen, v, 0, err));
    if (!again && ckpt_value_has_children(v)) CKPT_TRY(enter(w, v, err));
  }
  const char *shown = ckpt_path_shown(&w->path);
  *step = (ckpt_walk_step){shown, w->path.length - (size_t)(shown - w->path.text), (ckpt_value *)(uintptr_t)v, again};
  return CKPT_OK;
}
