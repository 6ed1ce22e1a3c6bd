/*
 * way.h - ways through a value graph: the children of a value, and the path that a listing shows for a place, kept as
 * links to the place before so that a walk over everything costs no more than its size.
 */
#ifndef CKPT_WAY_H
#define CKPT_WAY_H

#include "ptrmap.h"
#include "value.h"

typedef enum ckpt_step {
  CKPT_STEP_ROOT,
  CKPT_STEP_ARG,   /* .args[index] */
  CKPT_STEP_ITEM,  /* [index] */
  CKPT_STEP_KEY,   /* .key */
  CKPT_STEP_STATE, /* .state */
  CKPT_STEP_ARGS,  /* .args, the tuple itself */
  CKPT_STEP_KWARGS,
  CKPT_STEP_WITHIN /* no step to be seen: a dict state, whose keys are the object's fields */
} ckpt_step;

typedef struct ckpt_way {
  size_t parent; /* place of the value before; of no meaning at the root */
  ckpt_step step;
  size_t index;          /* of an argument or an item */
  const ckpt_value *key; /* of a pair */
} ckpt_way;

/*
 * Child i of v in the order arguments, keyword arguments, items, pairs, state (the fields of a dict state), and the
 * step to it; NULL past the last. A persistent id has none.
 */
const ckpt_value *ckpt_way_child(ckpt_way *way, const ckpt_value *v, size_t i);

/* What has been walked: each value once. */
typedef struct ckpt_place {
  const ckpt_value *value;
  ckpt_way way;
} ckpt_place;

typedef struct ckpt_places {
  ckpt_place *at;
  size_t n, capacity;
  ckpt_ptrmap seen; /* value -> its place */
} ckpt_places;

/* Adds a value unless it is there; *added may be NULL. */
ckpt_status ckpt_places_add(ckpt_places *p, const ckpt_value *v, const ckpt_way *way, bool *added, ckpt_error *err);

/* Adds everything that is reached from place `from` on and not there yet. */
ckpt_status ckpt_places_walk(ckpt_places *p, size_t from, ckpt_error *err);
void ckpt_places_free(ckpt_places *p);

/* The path of a place, or of a value that a way leads to from one; free() it. CKPT_E_LIMIT beyond 64 KiB. */
ckpt_status ckpt_places_path(char **out, const ckpt_places *p, size_t at, ckpt_error *err);
ckpt_status ckpt_places_path_by(char **out, const ckpt_places *p, const ckpt_way *way, ckpt_error *err);

#endif
