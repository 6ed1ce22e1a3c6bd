/*
 * map.c - a copy of a value in which tensors are others or left out (ckpt_value_map in ckpt.h).
 *
 * First every tensor is asked about, in the order of a listing; then the graph is cloned. How a file had made a tensor
 * is carried over where it is more than the tensor: a parameter is made of the new tensor, with its requires_grad where
 * the dtype may have one; attributes and subclass stay around a new rebuild call.
 *
 *   _rebuild_parameter(tensor, requires_grad, hooks)                    the first argument is replaced
 *   _rebuild_parameter_with_state(tensor, requires_grad, hooks, state)  likewise
 *   _rebuild_from_type_v2(function, type, arguments, state)             function and arguments are replaced
 *   anything else                                                       a plain tensor
 */
#include <stdlib.h>

#include "clone.h"
#include "ptrmap.h"
#include "torch_call.h"

typedef struct change {
  ckpt_tensor *tensor; /* NULL: left out */
} change;

typedef struct mapping {
  ckpt_ptrmap places; /* value -> its place in `changes`; what stays is not in it */
  change *changes;
  size_t n, capacity;
} mapping;

/* ---- asking ---- */

/* Takes the reference over, even on failure. */
static ckpt_status note(mapping *m, const ckpt_value *v, ckpt_tensor *t, ckpt_error *err) {
  ckpt_status st = CKPT_OK;
  if (m->n == m->capacity) {
    size_t capacity = m->capacity == 0 ? 64 : m->capacity * 2;
    change *more = realloc(m->changes, capacity * sizeof *more);
    if (more == NULL) CKPT_GO(ckpt_fail_nomem(err, capacity * sizeof *more));
    m->changes = more;
    m->capacity = capacity;
  }
  CKPT_GO(ckpt_ptrmap_set(&m->places, v, m->n, err));
  m->changes[m->n++].tensor = t;
  return CKPT_OK;
done:
  ckpt_tensor_release(t);
  return st;
}

static ckpt_status ask(mapping *m, const ckpt_listing_entry *e, ckpt_map_function map, void *context, ckpt_error *err) {
  ckpt_tensor *before = ckpt_value_tensor(e->value), *t = before;
  if (before == NULL) return CKPT_OK;
  CKPT_TRY(map(context, &t, e->path, err));
  return t == before ? CKPT_OK : note(m, e->value, t, err);
}

static ckpt_status ask_all(mapping *m, const ckpt_value *v, ckpt_map_function map, void *context, ckpt_error *err) {
  ckpt_listing *list = NULL;
  ckpt_status st = ckpt_listing_new(&list, v, err);
  for (size_t i = 0; st == CKPT_OK && i < ckpt_listing_count(list); i++)
    st = ask(m, ckpt_listing_entry_at(list, i), map, context, err);
  ckpt_listing_free(list);
  return st;
}

/* ---- making ---- */

static bool made_by(const ckpt_value *v, const char *module, const char *name) {
  return v->made != NULL && v->made->how == CKPT_BY_REDUCE && v->made->callable != NULL &&
         ckpt_value_is_class(v->made->callable, module, name);
}

static bool is_parameter(const ckpt_value *v) {
  return made_by(v, "torch._utils", "_rebuild_parameter") ||
         made_by(v, "torch._utils", "_rebuild_parameter_with_state");
}

static ckpt_status new_made(ckpt_made **out, ckpt_cloner *c, const ckpt_value *v, ckpt_value *args, ckpt_error *err) {
  ckpt_error here = {0};
  ckpt_made *made = ckpt_arena_alloc(ckpt_document_arena(ckpt_cloner_document(c)), sizeof *made, &here);
  if (made == NULL) {
    if (err != NULL) *err = here;
    return here.status;
  }
  *made = (ckpt_made){CKPT_BY_REDUCE, NULL, args, NULL, NULL};
  CKPT_TRY(ckpt_cloner_refer(&made->callable, c, v->made->callable));
  *out = made;
  return CKPT_OK;
}

/* The arguments of v's call, with others for the first `n`. */
static ckpt_status new_args(ckpt_value **out, ckpt_cloner *c, const ckpt_value *v, ckpt_value *const *first, size_t n,
                            ckpt_error *err) {
  ckpt_document *doc = ckpt_cloner_document(c);
  ckpt_value *args = NULL;
  const ckpt_seq *old = &v->made->args->as.seq;
  CKPT_TRY(ckpt_value_new_tuple(&args, doc, err));
  for (size_t i = 0; i < old->n; i++) {
    ckpt_value *item = i < n ? first[i] : NULL;
    if (item == NULL) CKPT_TRY(ckpt_cloner_refer(&item, c, old->items[i]));
    if (item == NULL) item = ckpt_document_none(doc);
    CKPT_TRY(ckpt_value_append(args, doc, item, err));
  }
  *out = args;
  return CKPT_OK;
}

static ckpt_status like_parameter(ckpt_made **out, ckpt_cloner *c, const ckpt_value *v, ckpt_tensor *t,
                                  ckpt_error *err) {
  ckpt_document *doc = ckpt_cloner_document(c);
  ckpt_value *first[2] = {NULL, NULL}, *args = NULL;
  ckpt_tensor *inner = NULL;
  CKPT_TRY(ckpt_tensor_with_grad(&inner, t, false, err));
  ckpt_status st = ckpt_value_new_tensor(&first[0], doc, inner, err);
  ckpt_tensor_release(inner);
  CKPT_TRY(st);
  first[1] = ckpt_document_bool(doc, ckpt_tensor_requires_grad(t));
  CKPT_TRY(new_args(&args, c, v, first, 2, err));
  return new_made(out, c, v, args, err);
}

static ckpt_status like_typed(ckpt_made **out, ckpt_cloner *c, const ckpt_value *v, ckpt_tensor *t, ckpt_error *err) {
  ckpt_document *doc = ckpt_cloner_document(c);
  ckpt_value *first[3] = {NULL, NULL, NULL}, *args = NULL;
  CKPT_TRY(ckpt_torch_call(&first[0], &first[2], doc, t, err));
  CKPT_TRY(new_args(&args, c, v, first, 3, err));
  return new_made(out, c, v, args, err);
}

/* requires_grad is the value's, not the new tensor's, as far as its dtype may have one. */
static ckpt_status with_grad_of(ckpt_tensor **out, const ckpt_value *v, const ckpt_tensor *t, ckpt_error *err) {
  ckpt_numeric kind = ckpt_dtype_numeric(ckpt_tensor_dtype(t));
  bool may = kind == CKPT_NUM_FLOAT || kind == CKPT_NUM_COMPLEX;
  return ckpt_tensor_with_grad(out, t, may && ckpt_tensor_requires_grad(v->as.tensor), err);
}

static ckpt_status replace(ckpt_value **out, ckpt_cloner *c, const ckpt_value *v, const ckpt_tensor *t,
                           ckpt_error *err) {
  ckpt_tensor *handle = NULL;
  ckpt_value *to = NULL;
  CKPT_TRY(with_grad_of(&handle, v, t, err));
  ckpt_status st = ckpt_value_new_tensor(&to, ckpt_cloner_document(c), handle, err);
  if (st == CKPT_OK && is_parameter(v)) st = like_parameter(&to->made, c, v, handle, err);
  if (st == CKPT_OK && made_by(v, "torch._tensor", "_rebuild_from_type_v2") && ckpt_torch_can_call(handle))
    st = like_typed(&to->made, c, v, handle, err);
  ckpt_tensor_release(handle);
  if (st == CKPT_OK) *out = to;
  return st;
}

/* ckpt_clone_tensor */
static ckpt_status on_tensor(void *context, ckpt_value **out, bool *drop, ckpt_cloner *c, const ckpt_value *v,
                             ckpt_error *err) {
  const mapping *m = context;
  size_t at = ckpt_ptrmap_get(&m->places, v);
  if (at == SIZE_MAX) return CKPT_OK;
  *drop = m->changes[at].tensor == NULL;
  return *drop ? CKPT_OK : replace(out, c, v, m->changes[at].tensor, err);
}

static ckpt_status run(ckpt_value **out, mapping *m, ckpt_document *doc, const ckpt_value *v, ckpt_map_function map,
                       void *context, ckpt_error *err) {
  ckpt_cloner *c = NULL;
  CKPT_TRY(ask_all(m, v, map, context, err));
  CKPT_TRY(ckpt_cloner_new(&c, doc, on_tensor, m, err));
  ckpt_status st = ckpt_cloner_copy(out, c, v, err);
  ckpt_cloner_free(c);
  return st;
}

ckpt_status ckpt_value_map(ckpt_value **out, ckpt_document *doc, const ckpt_value *v, ckpt_map_function map,
                           void *context, ckpt_error *err) {
  mapping m = {0};
  ckpt_status st = run(out, &m, doc, v, map, context, err);
  for (size_t i = 0; i < m.n; i++) ckpt_tensor_release(m.changes[i].tensor);
  free(m.changes);
  ckpt_ptrmap_free(&m.places);
  return st;
}
