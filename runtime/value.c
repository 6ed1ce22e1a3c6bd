/*
 * value.c - the document and its values: making, looking, changing. See value.h for what a value is.
 */
#include "value.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "intern.h"
#include "ptrmap.h"
#include "quantized.h"
#include "sparse.h"

typedef struct owned { /* things of one kind that a document has, in the order in which it got them */
  void **items;
  size_t n, capacity;
} owned;

struct ckpt_document {
  atomic_int refs;
  ckpt_arena arena;
  ckpt_value *root;
  owned tensors, storages; /* these live outside the arena and go with the document */
  owned noted;             /* values that stand for tensors */
  size_t n_indexed;
  ckpt_ptrmap values; /* tensor -> the address of its value, of the first n_indexed; filled when somebody asks */
  ckpt_interned keys;
  ckpt_value none, yes, no, empty_tuple;
  bool limited;
  ckpt_limits limits;
};

/* ---- document ---- */

ckpt_status ckpt_document_make(ckpt_document **out, size_t limit, ckpt_error *err) {
  ckpt_document *doc = calloc(1, sizeof *doc);
  if (doc == NULL) return ckpt_fail_nomem(err, sizeof *doc);
  atomic_init(&doc->refs, 1);
  doc->arena.limit = limit;
  doc->none.kind = CKPT_NONE;
  doc->yes.kind = doc->no.kind = CKPT_BOOLEAN;
  doc->yes.as.boolean = true;
  doc->empty_tuple.kind = CKPT_TUPLE;
  *out = doc;
  return CKPT_OK;
}

ckpt_status ckpt_document_new(ckpt_document **out, ckpt_error *err) { return ckpt_document_make(out, 0, err); }

ckpt_document *ckpt_document_retain(ckpt_document *doc) {
  atomic_fetch_add_explicit(&doc->refs, 1, memory_order_relaxed);
  return doc;
}

enum { AHEAD = 8 };

/* They lie in memory as they came; what is far ahead is asked for early. */
static void release_all(ckpt_document *doc) {
  const owned *tensors = &doc->tensors, *storages = &doc->storages;
  for (size_t i = 0; i < tensors->n; i++) {
    if (i + AHEAD < tensors->n) __builtin_prefetch(tensors->items[i + AHEAD], 1);
    ckpt_tensor_release(tensors->items[i]);
  }
  for (size_t i = 0; i < storages->n; i++) {
    if (i + AHEAD < storages->n) __builtin_prefetch(storages->items[i + AHEAD], 1);
    ckpt_storage_release(storages->items[i]);
  }
  free(tensors->items);
  free(storages->items);
}

void ckpt_document_release(ckpt_document *doc) {
  if (doc == NULL || atomic_fetch_sub_explicit(&doc->refs, 1, memory_order_acq_rel) != 1) return;
  release_all(doc);
  free(doc->noted.items);
  ckpt_ptrmap_free(&doc->values);
  free(doc->keys.slots);
  ckpt_arena_free(&doc->arena);
  free(doc);
}

void ckpt_document_set_limits(ckpt_document *doc, const ckpt_limits *limits) {
  doc->limits = *limits;
  doc->limited = true;
}

const ckpt_limits *ckpt_document_limits(const ckpt_document *doc) { return doc->limited ? &doc->limits : NULL; }
ckpt_arena *ckpt_document_arena(ckpt_document *doc) { return &doc->arena; }
ckpt_value *ckpt_document_root(const ckpt_document *doc) { return doc->root; }
void ckpt_document_set_root(ckpt_document *doc, ckpt_value *root) { doc->root = root; }
ckpt_value *ckpt_document_none(ckpt_document *doc) { return &doc->none; }
ckpt_value *ckpt_document_bool(ckpt_document *doc, bool b) { return b ? &doc->yes : &doc->no; }
ckpt_value *ckpt_document_empty_tuple(ckpt_document *doc) { return &doc->empty_tuple; }

/* Room for one more in a list that the document keeps. */
static ckpt_status room_in(owned *list, ckpt_error *err) {
  if (list->n < list->capacity) return CKPT_OK;
  size_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
  void **more = realloc(list->items, capacity * sizeof *more);
  if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
  list->items = more;
  list->capacity = capacity;
  return CKPT_OK;
}

ckpt_status ckpt_document_own_tensor(ckpt_document *doc, ckpt_tensor *t, ckpt_error *err) {
  ckpt_status st = room_in(&doc->tensors, err);
  if (st == CKPT_OK)
    doc->tensors.items[doc->tensors.n++] = t;
  else
    ckpt_tensor_release(t);
  return st;
}

ckpt_status ckpt_document_own_storage(ckpt_document *doc, ckpt_storage *s, ckpt_error *err) {
  ckpt_status st = room_in(&doc->storages, err);
  if (st == CKPT_OK)
    doc->storages.items[doc->storages.n++] = s;
  else
    ckpt_storage_release(s);
  return st;
}

ckpt_status ckpt_document_note_tensor(ckpt_document *doc, ckpt_value *v, ckpt_error *err) {
  CKPT_TRY(room_in(&doc->noted, err));
  doc->noted.items[doc->noted.n++] = v;
  return CKPT_OK;
}

/* What does not get into the index, for want of memory, is looked through from the end. */
ckpt_value *ckpt_document_value_of(ckpt_document *doc, const ckpt_tensor *t) {
  while (doc->n_indexed < doc->noted.n) {
    ckpt_value *v = doc->noted.items[doc->n_indexed];
    if (ckpt_ptrmap_set(&doc->values, v->as.tensor, (size_t)(uintptr_t)v, NULL) != CKPT_OK) break;
    doc->n_indexed++;
  }
  for (size_t i = doc->noted.n; i-- > doc->n_indexed;)
    if (((ckpt_value *)doc->noted.items[i])->as.tensor == t) return doc->noted.items[i];
  size_t at = ckpt_ptrmap_get(&doc->values, t);
  return at == SIZE_MAX ? NULL : (ckpt_value *)(uintptr_t)at;
}

/* ---- raw builders ---- */

ckpt_value *ckpt_value_make(ckpt_document *doc, ckpt_kind kind, ckpt_error *err) {
  ckpt_value *v = ckpt_arena_alloc(&doc->arena, sizeof *v, err);
  if (v == NULL) return NULL;
  v->kind = (uint8_t)kind;
  if (kind == CKPT_DICT && (v->as.dict = ckpt_arena_alloc(&doc->arena, sizeof(ckpt_dict), err)) == NULL) return NULL;
  return v;
}

ckpt_value *ckpt_value_make_text(ckpt_document *doc, ckpt_kind kind, const void *bytes, size_t n, ckpt_error *err) {
  ckpt_value *v = ckpt_value_make(doc, kind, err);
  char *copy = v == NULL ? NULL : ckpt_arena_copy(&doc->arena, bytes, n, err);
  if (copy == NULL) return NULL;
  v->as.text.bytes = copy;
  v->as.text.n = n;
  return v;
}

ckpt_value *ckpt_value_make_class(ckpt_document *doc, const char *module, size_t module_n, const char *name,
                                  size_t name_n, ckpt_error *err) {
  ckpt_value *v = ckpt_value_make(doc, CKPT_CLASS, err);
  char *text = v == NULL ? NULL : ckpt_arena_alloc(&doc->arena, module_n + name_n + 2, err);
  if (text == NULL) return NULL;
  memcpy(text, module, module_n);
  text[module_n] = '.';
  memcpy(text + module_n + 1, name, name_n);
  v->as.text.bytes = text;
  v->as.text.n = module_n + 1 + name_n;
  v->as.text.module = module_n;
  return v;
}

ckpt_value *ckpt_value_make_object_in(ckpt_object *room, ckpt_document *doc, ckpt_how how, ckpt_value *callable,
                                      ckpt_value *args, ckpt_error *err) {
  ckpt_value *v = ckpt_value_make(doc, CKPT_OBJECT, err);
  if (v == NULL) return NULL;
  v->made = ckpt_arena_alloc(&doc->arena, sizeof(ckpt_made), err);
  if (room != NULL) *room = (ckpt_object){0};
  v->as.object = v->made == NULL ? NULL : room != NULL ? room : ckpt_arena_alloc(&doc->arena, sizeof(ckpt_object), err);
  if (v->as.object == NULL) return NULL;
  *v->made = (ckpt_made){how, callable, args, NULL, NULL};
  return v;
}

ckpt_value *ckpt_value_make_object(ckpt_document *doc, ckpt_how how, ckpt_value *callable, ckpt_value *args,
                                   ckpt_error *err) {
  return ckpt_value_make_object_in(NULL, doc, how, callable, args, err);
}

ckpt_status ckpt_seq_push(ckpt_seq *seq, ckpt_document *doc, ckpt_value *item, ckpt_error *err) {
  if (seq->n == seq->capacity) {
    size_t capacity = seq->capacity == 0 ? 4 : seq->capacity * 2;
    ckpt_error here = {0};
    ckpt_value **items = ckpt_arena_alloc(&doc->arena, capacity * sizeof *items, &here);
    if (items == NULL) {
      if (err != NULL) *err = here;
      return here.status;
    }
    if (seq->n > 0) memcpy(items, seq->items, seq->n * sizeof *items);
    seq->items = items;
    seq->capacity = capacity;
  }
  seq->items[seq->n++] = item;
  return CKPT_OK;
}

/* ---- kinds and scalars ---- */

ckpt_kind ckpt_value_kind(const ckpt_value *v) { return (ckpt_kind)v->kind; }

const char *ckpt_kind_name(ckpt_kind kind) {
  static const char *const names[] = {"None", "bool",  "int",  "int", "float",     "str",    "bytes", "bytearray",
                                      "list", "tuple", "dict", "set", "frozenset", "tensor", "class", "object"};
  return names[kind];
}

static ckpt_status wrong_kind(const ckpt_value *v, const char *wanted, ckpt_error *err) {
  return ckpt_fail(err, CKPT_E_TYPE, -1, "a %s where a %s was expected", ckpt_kind_name(ckpt_value_kind(v)), wanted);
}

ckpt_status ckpt_value_bool(bool *out, const ckpt_value *v, ckpt_error *err) {
  if (v->kind != CKPT_BOOLEAN) return wrong_kind(v, "bool", err);
  *out = v->as.boolean;
  return CKPT_OK;
}

ckpt_status ckpt_value_int(int64_t *out, const ckpt_value *v, ckpt_error *err) {
  if (v->kind != CKPT_INT) return wrong_kind(v, "64-bit int", err);
  *out = v->as.integer;
  return CKPT_OK;
}

ckpt_status ckpt_value_double(double *out, const ckpt_value *v, ckpt_error *err) {
  if (v->kind != CKPT_FLOAT && v->kind != CKPT_INT) return wrong_kind(v, "float", err);
  *out = v->kind == CKPT_INT ? (double)v->as.integer : v->as.number;
  return CKPT_OK;
}

const char *ckpt_value_text(const ckpt_value *v, size_t *length) {
  switch (v->kind) {
    case CKPT_STR:
    case CKPT_BYTES:
    case CKPT_BYTEARRAY:
    case CKPT_BIGINT:
    case CKPT_CLASS:
      if (length != NULL) *length = v->as.text.n;
      return v->as.text.bytes;
    default: return NULL;
  }
}

ckpt_tensor *ckpt_value_tensor(const ckpt_value *v) { return v->kind == CKPT_TENSOR ? v->as.tensor : NULL; }

bool ckpt_value_is_class(const ckpt_value *v, const char *module, const char *name) {
  if (v->kind != CKPT_CLASS) return false;
  const char *text = v->as.text.bytes; /* a name that ends early, by a NUL inside, is told by its length */
  size_t m = v->as.text.module;
  return m == strlen(module) && memcmp(text, module, m) == 0 && strcmp(text + m + 1, name) == 0 &&
         strlen(name) == v->as.text.n - m - 1;
}

const char *ckpt_value_class_name(const ckpt_value *v, size_t *n) {
  *n = v->as.text.n - v->as.text.module - 1;
  return v->as.text.bytes + v->as.text.module + 1;
}

/* ---- containers ---- */

static const ckpt_seq *seq_of(const ckpt_value *v) {
  switch (v->kind) {
    case CKPT_LIST:
    case CKPT_TUPLE:
    case CKPT_SET:
    case CKPT_FROZENSET: return &v->as.seq;
    case CKPT_OBJECT: return &v->as.object->items;
    default: return NULL;
  }
}

const ckpt_dict *ckpt_value_dict(const ckpt_value *v) {
  if (v->kind == CKPT_DICT) return v->as.dict;
  return v->kind == CKPT_OBJECT ? &v->as.object->dict : NULL;
}

size_t ckpt_value_count(const ckpt_value *v) {
  const ckpt_seq *seq = seq_of(v);
  if (seq != NULL) return seq->n;
  return v->kind == CKPT_DICT ? v->as.dict->flat.n / 2 : 0;
}

ckpt_value *ckpt_value_item(const ckpt_value *v, size_t i) {
  const ckpt_seq *seq = seq_of(v);
  return seq != NULL && i < seq->n ? seq->items[i] : NULL;
}

bool ckpt_value_is_ordered(const ckpt_value *v) { return v->kind == CKPT_DICT && v->ordered; }

size_t ckpt_value_pair_count(const ckpt_value *v) {
  const ckpt_dict *d = ckpt_value_dict(v);
  return d == NULL ? 0 : d->flat.n / 2;
}

ckpt_value *ckpt_value_pair_key(const ckpt_value *v, size_t i) {
  return i < ckpt_value_pair_count(v) ? ckpt_value_dict(v)->flat.items[2 * i] : NULL;
}

ckpt_value *ckpt_value_pair_value(const ckpt_value *v, size_t i) {
  return i < ckpt_value_pair_count(v) ? ckpt_value_dict(v)->flat.items[2 * i + 1] : NULL;
}

ckpt_value *ckpt_value_object_class(const ckpt_value *v) { return v->kind == CKPT_OBJECT ? v->made->callable : NULL; }
ckpt_value *ckpt_value_object_args(const ckpt_value *v) { return v->kind == CKPT_OBJECT ? v->made->args : NULL; }

/* Argument 3 of _rebuild_from_type_v2(function, type, args, state) and of _rebuild_parameter_with_state. */
static ckpt_value *tensor_attributes(const ckpt_value *v) {
  const ckpt_made *m = v->made;
  if (m == NULL || m->how != CKPT_BY_REDUCE || m->args->as.seq.n < 4) return NULL;
  if (!ckpt_value_is_class(m->callable, "torch._tensor", "_rebuild_from_type_v2") &&
      !ckpt_value_is_class(m->callable, "torch._utils", "_rebuild_parameter_with_state"))
    return NULL;
  ckpt_value *state = m->args->as.seq.items[3];
  return state->kind == CKPT_NONE ? NULL : state;
}

ckpt_value *ckpt_value_object_state(const ckpt_value *v) {
  if (v->kind == CKPT_TENSOR) return tensor_attributes(v);
  return v->kind == CKPT_OBJECT ? v->as.object->state : NULL;
}

/* The id of a module ends with its class, the file name and the text. */
ckpt_value *ckpt_value_class_source(const ckpt_value *v, ckpt_value **file) {
  if (v->kind != CKPT_CLASS || v->made == NULL || v->made->args->as.seq.n < 3) return NULL;
  const ckpt_seq *id = &v->made->args->as.seq;
  ckpt_value *name = id->items[id->n - 2], *text = id->items[id->n - 1];
  if (name->kind != CKPT_STR || text->kind != CKPT_STR) return NULL;
  if (file != NULL) *file = name;
  return text;
}

typedef struct class_name {
  const char *module, *name;
} class_name;

bool ckpt_value_is_opaque(const ckpt_value *v) {
  static const class_name plain[] = {{"torch", "device"},
                                     {"torch.serialization", "_get_layout"},
                                     {"collections", "Counter"},
                                     {"__builtin__", "complex"},
                                     {"builtins", "complex"}};
  if (v->kind != CKPT_OBJECT || v->made->how == CKPT_BY_PERSID) return false;
  if (ckpt_value_is_sparse(v) || ckpt_value_is_nested(v)) return false;
  for (size_t i = 0; i < CKPT_COUNTOF(plain); i++)
    if (v->made->callable != NULL && ckpt_value_is_class(v->made->callable, plain[i].module, plain[i].name))
      return false;
  return true;
}

ckpt_value *ckpt_value_get(const ckpt_value *v, const char *key) {
  const ckpt_dict *d = ckpt_value_dict(v);
  size_t i = d == NULL ? SIZE_MAX : ckpt_dict_find_text(d, key, strlen(key));
  return i == SIZE_MAX ? NULL : d->flat.items[2 * i + 1];
}

/* ---- builders ---- */

static ckpt_status give(ckpt_value **out, ckpt_value *v, const ckpt_error *here, ckpt_error *err) {
  if (v == NULL) {
    if (err != NULL) *err = *here;
    return here->status;
  }
  *out = v;
  return CKPT_OK;
}

ckpt_status ckpt_value_new_none(ckpt_value **out, ckpt_document *doc, ckpt_error *err) {
  (void)err;
  *out = &doc->none;
  return CKPT_OK;
}

ckpt_status ckpt_value_new_bool(ckpt_value **out, ckpt_document *doc, bool b, ckpt_error *err) {
  (void)err;
  *out = ckpt_document_bool(doc, b);
  return CKPT_OK;
}

ckpt_status ckpt_value_new_int(ckpt_value **out, ckpt_document *doc, int64_t i, ckpt_error *err) {
  ckpt_error here = {0};
  ckpt_value *v = ckpt_value_make(doc, CKPT_INT, &here);
  if (v != NULL) v->as.integer = i;
  return give(out, v, &here, err);
}

ckpt_status ckpt_value_new_double(ckpt_value **out, ckpt_document *doc, double d, ckpt_error *err) {
  ckpt_error here = {0};
  ckpt_value *v = ckpt_value_make(doc, CKPT_FLOAT, &here);
  if (v != NULL) v->as.number = d;
  return give(out, v, &here, err);
}

ckpt_status ckpt_value_new_str(ckpt_value **out, ckpt_document *doc, const char *s, size_t n, ckpt_error *err) {
  ckpt_error here = {0};
  return give(out, ckpt_value_make_text(doc, CKPT_STR, s, n, &here), &here, err);
}

ckpt_status ckpt_value_new_bytes(ckpt_value **out, ckpt_document *doc, const void *s, size_t n, ckpt_error *err) {
  ckpt_error here = {0};
  return give(out, ckpt_value_make_text(doc, CKPT_BYTES, s, n, &here), &here, err);
}

static ckpt_status new_kind(ckpt_value **out, ckpt_document *doc, ckpt_kind kind, ckpt_error *err) {
  ckpt_error here = {0};
  return give(out, ckpt_value_make(doc, kind, &here), &here, err);
}

ckpt_status ckpt_value_new_list(ckpt_value **out, ckpt_document *doc, ckpt_error *err) {
  return new_kind(out, doc, CKPT_LIST, err);
}

ckpt_status ckpt_value_new_tuple(ckpt_value **out, ckpt_document *doc, ckpt_error *err) {
  return new_kind(out, doc, CKPT_TUPLE, err);
}

ckpt_status ckpt_value_new_dict(ckpt_value **out, ckpt_document *doc, bool ordered, ckpt_error *err) {
  ckpt_value *v = NULL;
  CKPT_TRY(new_kind(&v, doc, CKPT_DICT, err));
  v->ordered = ordered;
  *out = v;
  return CKPT_OK;
}

ckpt_status ckpt_value_new_tensor(ckpt_value **out, ckpt_document *doc, ckpt_tensor *t, ckpt_error *err) {
  ckpt_value *v = NULL;
  CKPT_TRY(new_kind(&v, doc, CKPT_TENSOR, err));
  CKPT_TRY(ckpt_document_own_tensor(doc, ckpt_tensor_retain(t), err));
  v->as.tensor = t;
  if (ckpt_tensor_quantizer(t) != NULL) CKPT_TRY(ckpt_quantized_say(v, doc, err));
  CKPT_TRY(ckpt_document_note_tensor(doc, v, err));
  *out = v;
  return CKPT_OK;
}

ckpt_status ckpt_value_append(ckpt_value *list, ckpt_document *doc, ckpt_value *item, ckpt_error *err) {
  if (list->kind == CKPT_OBJECT) return ckpt_seq_push(&list->as.object->items, doc, item, err);
  if ((list->kind != CKPT_LIST && list->kind != CKPT_TUPLE) || list == &doc->empty_tuple)
    return wrong_kind(list, "list", err);
  return ckpt_seq_push(&list->as.seq, doc, item, err);
}

ckpt_status ckpt_document_intern(ckpt_value **out, ckpt_document *doc, const char *key, size_t n, ckpt_error *err) {
  size_t hash;
  return ckpt_intern(out, &hash, &doc->keys, doc, key, n, err);
}

ckpt_status ckpt_value_set(ckpt_value *dict, ckpt_document *doc, const char *key, ckpt_value *item, ckpt_error *err) {
  if (dict->kind != CKPT_DICT) return wrong_kind(dict, "dict", err);
  ckpt_value *k = NULL;
  size_t hash = 0;
  CKPT_TRY(ckpt_intern(&k, &hash, &doc->keys, doc, key, strlen(key), err));
  return ckpt_dict_put_hashed(dict->as.dict, doc, k, hash, item, err);
}
