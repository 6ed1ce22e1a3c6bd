/* legacy_view.c - see legacy_view.h. */
#include "legacy_view.h"

#include <stdlib.h>

#include "ptrmap.h"
#include "torch_build.h"

typedef struct view {
  ckpt_value *root;      /* the persistent id of the root, an OBJECT */
  ckpt_storage *storage; /* the part itself */
  int64_t offset;        /* in elements */
} view;

struct ckpt_legacy_views {
  ckpt_document *doc;
  ckpt_mapping *map;
  ckpt_strmap by_key; /* view key -> index */
  ckpt_ptrmap by_storage;
  view *items;
  size_t n, capacity;
};

ckpt_status ckpt_legacy_views_new(ckpt_legacy_views **out, ckpt_document *doc, ckpt_mapping *map, ckpt_error *err) {
  ckpt_legacy_views *views = calloc(1, sizeof *views);
  if (views == NULL) return ckpt_fail_nomem(err, sizeof *views);
  views->doc = doc;
  views->map = map;
  *out = views;
  return CKPT_OK;
}

void ckpt_legacy_views_free(ckpt_legacy_views *views) {
  if (views == NULL) return;
  ckpt_strmap_free(&views->by_key);
  ckpt_ptrmap_free(&views->by_storage);
  free(views->items);
  free(views);
}

/* ---- view metadata ---- */

typedef struct metadata {
  const ckpt_value *key;
  int64_t offset, numel;
} metadata;

static ckpt_status read_metadata(metadata *out, const ckpt_value *v, const ckpt_storage_id *id, ckpt_error *err) {
  bool right = v->kind == CKPT_TUPLE && v->as.seq.n == 3;
  ckpt_value *const *part = right ? v->as.seq.items : NULL;
  right = right && part[0]->kind == CKPT_STR && part[1]->kind == CKPT_INT && part[2]->kind == CKPT_INT;
  if (!right)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a view of storage '%.64s' without key, offset and size", id->key);
  metadata m = {part[0], part[1]->as.integer, part[2]->as.integer};
  int64_t end;
  if (m.offset < 0 || m.numel < 0 || !ckpt_add_i64(&end, m.offset, m.numel) || (uint64_t)end > id->numel)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a view of %lld elements from %lld on of storage '%.64s', which has %llu",
                     (long long)m.numel, (long long)m.offset, id->key, (unsigned long long)id->numel);
  *out = m;
  return CKPT_OK;
}

/* ---- views ---- */

static ckpt_status make_room(ckpt_legacy_views *views, ckpt_error *err) {
  if (views->n < views->capacity) return CKPT_OK;
  size_t capacity = views->capacity == 0 ? 16 : views->capacity * 2;
  view *more = realloc(views->items, capacity * sizeof *more);
  if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
  views->items = more;
  views->capacity = capacity;
  return CKPT_OK;
}

/* The bytes of the part; a root always lies in the mapping. */
static ckpt_status span(ckpt_storage **out, const ckpt_legacy_views *views, ckpt_storage *root, size_t itemsize,
                        const metadata *m, ckpt_error *err) {
  unsigned char *at = NULL;
  CKPT_TRY(ckpt_storage_data(&at, root, err));
  uint64_t start = (uint64_t)(at - ckpt_mapping_data(views->map)) + (uint64_t)m->offset * itemsize;
  CKPT_TRY(ckpt_storage_span(out, views->map, start, (uint64_t)m->numel * itemsize, err));
  return ckpt_document_own_storage(views->doc, *out, err);
}

static ckpt_status add_view(size_t *out, ckpt_legacy_views *views, const ckpt_value *v, size_t itemsize,
                            const metadata *m, ckpt_error *err) {
  view made = {.offset = m->offset};
  CKPT_TRY(make_room(views, err));
  CKPT_TRY(span(&made.storage, views, v->made->storage, itemsize, m, err));
  made.root = ckpt_value_make_object(views->doc, CKPT_BY_PERSID, NULL, v->made->args, err);
  if (made.root == NULL) return err->status;
  made.root->made->storage = v->made->storage;
  CKPT_TRY(ckpt_strmap_set(&views->by_key, m->key->as.text.bytes, m->key->as.text.n, views->n, err));
  CKPT_TRY(ckpt_ptrmap_set(&views->by_storage, made.storage, views->n, err));
  *out = views->n;
  views->items[views->n++] = made;
  return CKPT_OK;
}

static ckpt_status get_view(view **out, ckpt_legacy_views *views, const ckpt_value *v, size_t itemsize,
                            const metadata *m, ckpt_error *err) {
  size_t at = ckpt_strmap_get(&views->by_key, m->key->as.text.bytes, m->key->as.text.n);
  if (at == SIZE_MAX) CKPT_TRY(add_view(&at, views, v, itemsize, m, err));
  view *w = &views->items[at];
  bool same = w->root->made->storage == v->made->storage && w->offset == m->offset &&
              ckpt_storage_size(w->storage) == (uint64_t)m->numel * itemsize;
  if (!same)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "view '%.64s' is another part of a storage here than before",
                     m->key->as.text.bytes);
  *out = w;
  return CKPT_OK;
}

/* ("storage", class, key, location, elements) of the part alone. */
static ckpt_status part_id(ckpt_value **out, const ckpt_legacy_views *views, const ckpt_value *id, int64_t numel,
                           ckpt_error *err) {
  ckpt_value *tuple = NULL, *count = NULL;
  CKPT_TRY(ckpt_value_new_tuple(&tuple, views->doc, err));
  CKPT_TRY(ckpt_value_new_int(&count, views->doc, numel, err));
  for (size_t i = 0; i < 5; i++)
    CKPT_TRY(ckpt_value_append(tuple, views->doc, i == 4 ? count : id->as.seq.items[i], err));
  *out = tuple;
  return CKPT_OK;
}

ckpt_status ckpt_legacy_views_persid(ckpt_legacy_views *views, ckpt_value *v, ckpt_error *err) {
  const ckpt_seq *parts = &v->made->args->as.seq;
  ckpt_storage_id id;
  metadata m = {0};
  view *w = NULL;
  if (parts->n < 6 || parts->items[5]->kind == CKPT_NONE) return CKPT_OK;
  CKPT_TRY(ckpt_storage_id_read(&id, v->made->args, err));
  CKPT_TRY(read_metadata(&m, parts->items[5], &id, err));
  CKPT_TRY(get_view(&w, views, v, ckpt_dtype_size(id.dtype), &m, err));
  CKPT_TRY(part_id(&v->made->args, views, v->made->args, m.numel, err));
  v->made->storage = w->storage;
  return CKPT_OK;
}

/* ---- tensors ---- */

/* The arguments that begin with the storage: the object's own, or those that _rebuild_from_type_v2 passes on. */
static ckpt_value **storage_args(ckpt_value *v) {
  ckpt_value **args = &v->made->args;
  bool passed_on = ckpt_value_is_class(v->made->callable, "torch._tensor", "_rebuild_from_type_v2");
  return passed_on ? &(*args)->as.seq.items[2] : args;
}

static bool begins_with(const ckpt_value *args, const ckpt_storage *s) {
  const ckpt_seq *items = &args->as.seq;
  return items->n > 1 && items->items[0]->kind == CKPT_OBJECT && items->items[0]->made->storage == s &&
         items->items[1]->kind == CKPT_INT;
}

/* A fresh tuple, with the first items replaced: the old one may be somebody else's too. */
static ckpt_status replace(ckpt_value **args, ckpt_document *doc, ckpt_value *const *first, size_t n, ckpt_error *err) {
  const ckpt_seq *old = &(*args)->as.seq;
  ckpt_value *tuple = NULL;
  CKPT_TRY(ckpt_value_new_tuple(&tuple, doc, err));
  for (size_t i = 0; i < old->n; i++) CKPT_TRY(ckpt_value_append(tuple, doc, i < n ? first[i] : old->items[i], err));
  *args = tuple;
  return CKPT_OK;
}

static ckpt_status move_to_root(ckpt_legacy_views *views, ckpt_value *v, const view *w, ckpt_error *err) {
  ckpt_value *first[2] = {w->root, NULL};
  int64_t sum;
  CKPT_TRY(replace(&v->made->args, views->doc, NULL, 0, err));
  ckpt_value **args = storage_args(v);
  if (!ckpt_add_i64(&sum, (*args)->as.seq.items[1]->as.integer, w->offset))
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a storage offset that does not fit in 63 bits");
  CKPT_TRY(ckpt_value_new_int(&first[1], views->doc, sum, err));
  return replace(args, views->doc, first, 2, err);
}

/* Bounds have been checked against the part; now the tensor is made once more, over the whole. */
ckpt_status ckpt_legacy_views_built(ckpt_legacy_views *views, ckpt_value *v, const ckpt_pickle_hooks *torch,
                                    ckpt_error *err) {
  ckpt_value as_object = *v;
  CKPT_TRY(torch->built(torch->context, v, err));
  const ckpt_storage *s = v->kind == CKPT_TENSOR ? ckpt_tensor_storage(v->as.tensor) : NULL;
  size_t at = s == NULL ? SIZE_MAX : ckpt_ptrmap_get(&views->by_storage, s);
  if (at == SIZE_MAX || !begins_with(*storage_args(v), s)) return CKPT_OK;
  *v = as_object;
  CKPT_TRY(move_to_root(views, v, &views->items[at], err));
  return torch->built(torch->context, v, err);
}
