/* depth.c - see depth.h. */
#include "depth.h"

#include <stdlib.h>

#include "way.h"

typedef struct place {
  const ckpt_value *value;
  size_t next;
} place;

typedef struct walk {
  place *places;
  size_t n, capacity;
  ckpt_ptrmap seen;
} walk;

/* Nothing is below what holds nothing. */
static bool is_leaf(const ckpt_value *v) {
  ckpt_way way;
  return ckpt_way_child(&way, v, 0) == NULL;
}

static ckpt_status enter(walk *w, const ckpt_value *v, ckpt_error *err) {
  if (ckpt_ptrmap_get(&w->seen, v) != SIZE_MAX) return CKPT_OK;
  CKPT_TRY(ckpt_ptrmap_set(&w->seen, v, 0, err));
  if (w->n == w->capacity) {
    size_t capacity = w->capacity == 0 ? 64 : w->capacity * 2;
    place *more = realloc(w->places, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
    w->places = more;
    w->capacity = capacity;
  }
  w->places[w->n++] = (place){v, 0};
  return CKPT_OK;
}

static ckpt_status run(bool *deeper, walk *w, size_t limit, ckpt_error *err) {
  while (w->n > 0 && !*deeper) {
    place *p = &w->places[w->n - 1];
    ckpt_way way = {0};
    const ckpt_value *child = ckpt_way_child(&way, p->value, p->next++);
    if (child == NULL)
      w->n--;
    else if (w->n > limit) /* the child lies w->n steps below the root */
      *deeper = true;
    else if (!is_leaf(child))
      CKPT_TRY(enter(w, child, err));
  }
  return CKPT_OK;
}

ckpt_status ckpt_value_deeper(bool *out, const ckpt_value *root, size_t limit, ckpt_error *err) {
  walk w = {0};
  bool deeper = false;
  ckpt_status st = enter(&w, root, err);
  if (st == CKPT_OK) st = run(&deeper, &w, limit, err);
  free(w.places);
  ckpt_ptrmap_free(&w.seen);
  if (st == CKPT_OK) *out = deeper;
  return st;
}
