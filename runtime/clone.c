/*
 * clone.c - see clone.h. Each value is made once, empty, and filled when its turn comes,
 * so that sharing and cycles come out as they went in and depth costs no stack.
 */
#include "clone.h"

#include <stdlib.h>

#include "ptrmap.h"

typedef struct pair {
  const ckpt_value *from; /* NULL: `to` needs no filling */
  ckpt_value *to;         /* NULL: left out */
} pair;

struct ckpt_cloner {
  ckpt_document *doc;
  ckpt_clone_tensor tensor;
  void *context;
  ckpt_ptrmap seen; /* source -> index into pairs */
  pair *pairs;
  size_t n, capacity, filled, settled;
  const ckpt_wording *said;  /* what was cloned last... */
  const ckpt_wording *again; /* ...and the clone */
  ckpt_error *err;           /* &error */
  ckpt_error error;
};

typedef struct ckpt_cloner cloner;

static ckpt_status remember(cloner *c, const ckpt_value *source, const ckpt_value *from, ckpt_value *to) {
  if (c->n == c->capacity) {
    size_t capacity = c->capacity == 0 ? 64 : c->capacity * 2;
    pair *more = realloc(c->pairs, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(c->err, capacity * sizeof *more);
    c->pairs = more;
    c->capacity = capacity;
  }
  CKPT_TRY(ckpt_ptrmap_set(&c->seen, source, c->n, c->err));
  c->pairs[c->n++] = (pair){from, to};
  return CKPT_OK;
}

/* None, bools and the empty tuple are a document's own. */
static ckpt_value *constant(const cloner *c, const ckpt_value *v) {
  if (v->kind == CKPT_NONE) return ckpt_document_none(c->doc);
  if (v->kind == CKPT_BOOLEAN) return ckpt_document_bool(c->doc, v->as.boolean);
  bool empty = v->kind == CKPT_TUPLE && v->made == NULL && v->as.seq.n == 0;
  return empty ? ckpt_document_empty_tuple(c->doc) : NULL;
}

static ckpt_status ask(bool *answered, cloner *c, const ckpt_value *v, ckpt_value **out) {
  ckpt_value *to = NULL;
  bool drop = false;
  CKPT_TRY(c->tensor(c->context, &to, &drop, c, v, c->err));
  *answered = to != NULL || drop;
  if (!*answered) return CKPT_OK;
  *out = to;
  return remember(c, v, NULL, to);
}

ckpt_status ckpt_cloner_refer(ckpt_value **out, cloner *c, const ckpt_value *v) {
  size_t at = v == NULL ? SIZE_MAX : ckpt_ptrmap_get(&c->seen, v);
  if (v == NULL || at != SIZE_MAX) {
    *out = v == NULL ? NULL : c->pairs[at].to;
    return CKPT_OK;
  }
  *out = constant(c, v);
  if (*out != NULL) return CKPT_OK;
  bool answered = false;
  if (v->kind == CKPT_TENSOR && c->tensor != NULL) CKPT_TRY(ask(&answered, c, v, out));
  if (answered) return CKPT_OK;
  *out = ckpt_value_make(c->doc, (ckpt_kind)v->kind, c->err);
  return *out == NULL ? c->err->status : remember(c, v, v, *out);
}

/* What is left out is skipped, or None where places count. */
static ckpt_status fill_seq(cloner *c, ckpt_seq *to, const ckpt_seq *from, bool skip) {
  for (size_t i = 0; i < from->n; i++) {
    ckpt_value *item = NULL;
    CKPT_TRY(ckpt_cloner_refer(&item, c, from->items[i]));
    if (item == NULL && skip) continue;
    if (item == NULL) item = ckpt_document_none(c->doc);
    CKPT_TRY(ckpt_seq_push(to, c->doc, item, c->err));
  }
  return CKPT_OK;
}

static ckpt_status fill_made(cloner *c, ckpt_value *to, const ckpt_made *made) {
  if (made == NULL) return CKPT_OK;
  to->made = ckpt_arena_alloc(ckpt_document_arena(c->doc), sizeof *made, c->err);
  if (to->made == NULL) return c->err->status;
  to->made->how = made->how;
  CKPT_TRY(ckpt_cloner_refer(&to->made->callable, c, made->callable));
  CKPT_TRY(ckpt_cloner_refer(&to->made->args, c, made->args));
  CKPT_TRY(ckpt_cloner_refer(&to->made->kwargs, c, made->kwargs));
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
  for (size_t i = 0; i < from->flat.n; i += 2) {
    ckpt_value *key = NULL, *item = NULL;
    CKPT_TRY(ckpt_cloner_refer(&key, c, from->flat.items[i]));
    CKPT_TRY(ckpt_cloner_refer(&item, c, from->flat.items[i + 1]));
    if (key == NULL || item == NULL) continue;
    CKPT_TRY(ckpt_seq_push(&to->flat, c->doc, key, c->err));
    CKPT_TRY(ckpt_seq_push(&to->flat, c->doc, item, c->err));
  }
  return ckpt_cloner_refer(&to->state, c, from->state);
}

static ckpt_status fill_object(cloner *c, ckpt_value *to, const ckpt_object *from) {
  to->as.object = ckpt_arena_alloc(ckpt_document_arena(c->doc), sizeof *from, c->err);
  if (to->as.object == NULL) return c->err->status;
  CKPT_TRY(fill_seq(c, &to->as.object->items, &from->items, false));
  CKPT_TRY(fill_dict(c, &to->as.object->dict, &from->dict));
  return ckpt_cloner_refer(&to->as.object->state, c, from->state);
}

/* The words of a file are few, and tensors that are said alike follow one another. */
static ckpt_status fill_said(cloner *c, ckpt_value *to, const ckpt_wording *said) {
  if (said != NULL && said != c->said) {
    ckpt_wording *again = ckpt_arena_alloc(ckpt_document_arena(c->doc), sizeof *again, c->err);
    if (again == NULL) return c->err->status;
    CKPT_TRY(ckpt_cloner_refer(&again->tag, c, said->tag));
    CKPT_TRY(ckpt_cloner_refer(&again->storage_class, c, said->storage_class));
    CKPT_TRY(ckpt_cloner_refer(&again->location, c, said->location));
    c->said = said;
    c->again = again;
  }
  to->as.said = said == NULL ? NULL : c->again;
  return CKPT_OK;
}

static ckpt_status fill_tensor(cloner *c, ckpt_value *to, const ckpt_value *from) {
  to->as.tensor = from->as.tensor;
  CKPT_TRY(fill_said(c, to, from->as.said));
  CKPT_TRY(ckpt_document_own_tensor(c->doc, ckpt_tensor_retain(from->as.tensor), c->err));
  return ckpt_document_note_tensor(c->doc, to, c->err);
}

static ckpt_status fill(cloner *c, ckpt_value *to, const ckpt_value *from) {
  to->ordered = from->ordered;
  to->bytestring = from->bytestring;
  to->recalled = from->recalled;
  CKPT_TRY(fill_made(c, to, from->made));
  switch (from->kind) {
    case CKPT_LIST:
    case CKPT_TUPLE: return fill_seq(c, &to->as.seq, &from->as.seq, false);
    case CKPT_SET:
    case CKPT_FROZENSET: return fill_seq(c, &to->as.seq, &from->as.seq, true);
    case CKPT_DICT: return fill_dict(c, to->as.dict, from->as.dict);
    case CKPT_OBJECT: return fill_object(c, to, from->as.object);
    case CKPT_TENSOR: return fill_tensor(c, to, from);
    case CKPT_INT:
    case CKPT_FLOAT: to->as = from->as; return CKPT_OK;
    default: return fill_text(c, to, from);
  }
}

/* Dicts are hashed last, when their keys are filled. */
static ckpt_status settle(cloner *c) {
  for (; c->settled < c->n; c->settled++) {
    ckpt_value *v = c->pairs[c->settled].to;
    if (c->pairs[c->settled].from == NULL) continue;
    if (v->kind == CKPT_DICT) CKPT_TRY(ckpt_dict_settle(v->as.dict, c->doc, c->err));
    if (v->kind == CKPT_OBJECT) CKPT_TRY(ckpt_dict_settle(&v->as.object->dict, c->doc, c->err));
  }
  return CKPT_OK;
}

static ckpt_status run(ckpt_value **out, cloner *c, const ckpt_value *v) {
  CKPT_TRY(ckpt_cloner_refer(out, c, v));
  for (; c->filled < c->n; c->filled++)
    if (c->pairs[c->filled].from != NULL) CKPT_TRY(fill(c, c->pairs[c->filled].to, c->pairs[c->filled].from));
  return settle(c);
}

ckpt_status ckpt_cloner_new(cloner **out, ckpt_document *doc, ckpt_clone_tensor tensor, void *context,
                            ckpt_error *err) {
  cloner *c = calloc(1, sizeof *c);
  if (c == NULL) return ckpt_fail_nomem(err, sizeof *c);
  c->doc = doc;
  c->tensor = tensor;
  c->context = context;
  c->err = &c->error;
  *out = c;
  return CKPT_OK;
}

void ckpt_cloner_free(cloner *c) {
  if (c == NULL) return;
  ckpt_ptrmap_free(&c->seen);
  free(c->pairs);
  free(c);
}

ckpt_document *ckpt_cloner_document(const cloner *c) { return c->doc; }

ckpt_status ckpt_cloner_copy(ckpt_value **out, cloner *c, const ckpt_value *v, ckpt_error *err) {
  ckpt_value *made = NULL;
  ckpt_status st = run(&made, c, v);
  if (st == CKPT_OK)
    *out = made == NULL ? ckpt_document_none(c->doc) : made;
  else if (err != NULL)
    *err = c->error;
  return st;
}

ckpt_status ckpt_value_clone(ckpt_value **out, ckpt_document *doc, const ckpt_value *v, ckpt_error *err) {
  cloner *c = NULL;
  CKPT_TRY(ckpt_cloner_new(&c, doc, NULL, NULL, err));
  ckpt_status st = ckpt_cloner_copy(out, c, v, err);
  ckpt_cloner_free(c);
  return st;
}
