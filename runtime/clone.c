/*
 * clone.c - copies a value graph into another document. Each value is made once, empty, and filled when its turn comes,
 * so that sharing and cycles come out as they went in and depth costs no stack.
 */
#include <stdlib.h>

#include "ptrmap.h"
#include "value.h"

typedef struct pair {
  const ckpt_value *from;
  ckpt_value *to;
} pair;

typedef struct cloner {
  ckpt_document *doc;
  ckpt_ptrmap seen; /* source -> index into pairs */
  pair *pairs;
  size_t n, capacity;
  ckpt_error *err; /* never NULL */
} cloner;

static ckpt_status remember(cloner *c, const ckpt_value *from, ckpt_value *to) {
  if (c->n == c->capacity) {
    size_t capacity = c->capacity == 0 ? 64 : c->capacity * 2;
    pair *more = realloc(c->pairs, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(c->err, capacity * sizeof *more);
    c->pairs = more;
    c->capacity = capacity;
  }
  CKPT_TRY(ckpt_ptrmap_set(&c->seen, from, c->n, c->err));
  c->pairs[c->n++] = (pair){from, to};
  return CKPT_OK;
}

/* The copy of a value, perhaps not filled yet. NULL gives NULL. */
static ckpt_status copy_of(ckpt_value **out, cloner *c, const ckpt_value *v) {
  size_t at = v == NULL ? SIZE_MAX : ckpt_ptrmap_get(&c->seen, v);
  if (v == NULL || at != SIZE_MAX) {
    *out = v == NULL ? NULL : c->pairs[at].to;
    return CKPT_OK;
  }
  if (v->kind == CKPT_NONE || v->kind == CKPT_BOOLEAN) {
    *out = v->kind == CKPT_NONE ? ckpt_document_none(c->doc) : ckpt_document_bool(c->doc, v->as.boolean);
    return CKPT_OK;
  }
  if (v->kind == CKPT_TUPLE && v->made == NULL && v->as.seq.n == 0) {
    *out = ckpt_document_empty_tuple(c->doc);
    return CKPT_OK;
  }
  *out = ckpt_value_make(c->doc, (ckpt_kind)v->kind, c->err);
  return *out == NULL ? c->err->status : remember(c, v, *out);
}

static ckpt_status fill_seq(cloner *c, ckpt_seq *to, const ckpt_seq *from) {
  for (size_t i = 0; i < from->n; i++) {
    ckpt_value *item = NULL;
    CKPT_TRY(copy_of(&item, c, from->items[i]));
    CKPT_TRY(ckpt_seq_push(to, c->doc, item, c->err));
  }
  return CKPT_OK;
}

static ckpt_status fill_made(cloner *c, ckpt_value *to, const ckpt_made *made) {
  if (made == NULL) return CKPT_OK;
  to->made = ckpt_arena_alloc(ckpt_document_arena(c->doc), sizeof *made, c->err);
  if (to->made == NULL) return c->err->status;
  to->made->how = made->how;
  CKPT_TRY(copy_of(&to->made->callable, c, made->callable));
  CKPT_TRY(copy_of(&to->made->args, c, made->args));
  CKPT_TRY(copy_of(&to->made->kwargs, c, made->kwargs));
  if (made->storage == NULL) return CKPT_OK;
  CKPT_TRY(ckpt_document_own_storage(c->doc, ckpt_storage_retain(made->storage), c->err));
  to->made->storage = made->storage;
  return CKPT_OK;
}

static ckpt_status fill_text(cloner *c, ckpt_value *to, const ckpt_value *from) {
  to->as.text = from->as.text;
  to->as.text.bytes = ckpt_arena_copy(ckpt_document_arena(c->doc), from->as.text.bytes, from->as.text.n, c->err);
  return to->as.text.bytes == NULL ? c->err->status : CKPT_OK;
}

static ckpt_status fill_dict(cloner *c, ckpt_dict *to, const ckpt_dict *from) {
  CKPT_TRY(fill_seq(c, &to->flat, &from->flat));
  return copy_of(&to->state, c, from->state);
}

static ckpt_status fill_object(cloner *c, ckpt_value *to, const ckpt_object *from) {
  to->as.object = ckpt_arena_alloc(ckpt_document_arena(c->doc), sizeof *from, c->err);
  if (to->as.object == NULL) return c->err->status;
  CKPT_TRY(fill_seq(c, &to->as.object->items, &from->items));
  CKPT_TRY(fill_dict(c, &to->as.object->dict, &from->dict));
  return copy_of(&to->as.object->state, c, from->state);
}

static ckpt_status fill(cloner *c, ckpt_value *to, const ckpt_value *from) {
  to->ordered = from->ordered;
  to->bytestring = from->bytestring;
  CKPT_TRY(fill_made(c, to, from->made));
  switch (from->kind) {
    case CKPT_LIST:
    case CKPT_TUPLE:
    case CKPT_SET:
    case CKPT_FROZENSET: return fill_seq(c, &to->as.seq, &from->as.seq);
    case CKPT_DICT: return fill_dict(c, to->as.dict, from->as.dict);
    case CKPT_OBJECT: return fill_object(c, to, from->as.object);
    case CKPT_TENSOR:
      to->as.tensor = from->as.tensor;
      return ckpt_document_own_tensor(c->doc, ckpt_tensor_retain(from->as.tensor), c->err);
    case CKPT_INT:
    case CKPT_FLOAT: to->as = from->as; return CKPT_OK;
    default: return fill_text(c, to, from);
  }
}

/* Dicts are hashed last, when their keys are filled. */
static ckpt_status settle(cloner *c) {
  for (size_t i = 0; i < c->n; i++) {
    ckpt_value *v = c->pairs[i].to;
    if (v->kind == CKPT_DICT) CKPT_TRY(ckpt_dict_settle(v->as.dict, c->doc, c->err));
    if (v->kind == CKPT_OBJECT) CKPT_TRY(ckpt_dict_settle(&v->as.object->dict, c->doc, c->err));
  }
  return CKPT_OK;
}

static ckpt_status run(ckpt_value **out, cloner *c, const ckpt_value *v) {
  CKPT_TRY(copy_of(out, c, v));
  for (size_t i = 0; i < c->n; i++) CKPT_TRY(fill(c, c->pairs[i].to, c->pairs[i].from));
  return settle(c);
}

ckpt_status ckpt_value_clone(ckpt_value **out, ckpt_document *doc, const ckpt_value *v, ckpt_error *err) {
  ckpt_error here = {0};
  cloner c = {.doc = doc, .err = &here};
  ckpt_value *made = NULL;
  ckpt_status st = run(&made, &c, v);
  ckpt_ptrmap_free(&c.seen);
  free(c.pairs);
  if (st == CKPT_OK)
    *out = made;
  else if (err != NULL)
    *err = here;
  return st;
}
