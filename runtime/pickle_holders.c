/* pickle_holders.c - see pickle_holders.h. Walks with a stack of their own: depth costs none of C's. */
#include "pickle_holders.h"

#include <stdlib.h>

typedef struct stack {
  const ckpt_value **values;
  size_t n, capacity;
} stack;

static ckpt_status push(stack *s, const ckpt_value *v, ckpt_error *err) {
  if (v == NULL) return CKPT_OK;
  if (s->n == s->capacity) {
    size_t capacity = s->capacity == 0 ? 256 : s->capacity * 2;
    const ckpt_value **more = realloc(s->values, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
    s->values = more;
    s->capacity = capacity;
  }
  s->values[s->n++] = v;
  return CKPT_OK;
}

static ckpt_status push_seq(stack *s, const ckpt_seq *seq, ckpt_error *err) {
  for (size_t i = 0; i < seq->n; i++) CKPT_TRY(push(s, seq->items[i], err));
  return CKPT_OK;
}

static ckpt_status push_dict(stack *s, const ckpt_dict *d, ckpt_error *err) {
  CKPT_TRY(push_seq(s, &d->flat, err));
  return push(s, d->state, err);
}

static ckpt_status push_made(stack *s, const ckpt_made *made, ckpt_error *err) {
  CKPT_TRY(push(s, made->callable, err));
  CKPT_TRY(push(s, made->args, err));
  return push(s, made->kwargs, err);
}

/* What the pickler writes of v: of what was made by a call, the call. */
static ckpt_status push_parts(stack *s, const ckpt_value *v, ckpt_error *err) {
  if (v->made != NULL) CKPT_TRY(push_made(s, v->made, err));
  switch (v->kind) {
    case CKPT_LIST:
    case CKPT_TUPLE:
    case CKPT_SET:
    case CKPT_FROZENSET: return v->made != NULL ? CKPT_OK : push_seq(s, &v->as.seq, err);
    case CKPT_DICT: return v->made != NULL ? CKPT_OK : push_dict(s, v->as.dict, err);
    case CKPT_OBJECT:
      CKPT_TRY(push_seq(s, &v->as.object->items, err));
      CKPT_TRY(push_dict(s, &v->as.object->dict, err));
      return push(s, v->as.object->state, err);
    default: return CKPT_OK;
  }
}

static ckpt_status count(ckpt_ptrmap *holders, stack *s, const ckpt_value *root, ckpt_error *err) {
  CKPT_TRY(push(s, root, err));
  while (s->n > 0) {
    const ckpt_value *v = s->values[--s->n];
    size_t n = ckpt_ptrmap_get(holders, v);
    CKPT_TRY(ckpt_ptrmap_set(holders, v, n == SIZE_MAX ? 1 : n + 1, err));
    if (n == SIZE_MAX) CKPT_TRY(push_parts(s, v, err));
  }
  return CKPT_OK;
}

ckpt_status ckpt_holders_count(ckpt_ptrmap *holders, const ckpt_value *root, ckpt_error *err) {
  stack s = {0};
  ckpt_status st = count(holders, &s, root, err);
  free(s.values);
  return st;
}

/* Drops v, a part of the making of `of`, from the memo, or pushes what of it may have to be dropped. */
static ckpt_status forget_part(ckpt_ptrmap *memo, stack *s, const ckpt_value *of, const ckpt_value *v,
                               ckpt_error *err) {
  if (v->kind == CKPT_TUPLE && v->made == NULL) return push_seq(s, &v->as.seq, err);
  bool is_callable = v == of->made->callable && v->kind == CKPT_OBJECT;
  bool is_copied = (v->kind == CKPT_LIST || v->kind == CKPT_DICT) && v->made == NULL;
  if (v->recalled || !(is_callable || is_copied)) return CKPT_OK;
  CKPT_TRY(ckpt_ptrmap_set(memo, v, SIZE_MAX, err)); /* SIZE_MAX: as if it had never been there */
  if (!is_callable) return CKPT_OK;
  CKPT_TRY(push_made(s, v->made, err));
  return push(s, v->as.object->state, err);
}

static ckpt_status forget(ckpt_ptrmap *memo, const ckpt_ptrmap *holders, stack *s, const ckpt_value *of,
                          ckpt_error *err) {
  CKPT_TRY(push_made(s, of->made, err));
  while (s->n > 0) {
    const ckpt_value *v = s->values[--s->n];
    if (ckpt_ptrmap_get(holders, v) == 1) CKPT_TRY(forget_part(memo, s, of, v, err));
  }
  return CKPT_OK;
}

ckpt_status ckpt_holders_forget(ckpt_ptrmap *memo, const ckpt_ptrmap *holders, const ckpt_value *v, ckpt_error *err) {
  stack s = {0};
  ckpt_status st = forget(memo, holders, &s, v, err);
  free(s.values);
  return st;
}
