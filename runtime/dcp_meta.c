/* dcp_meta.c - see dcp_meta.h. */
#include "dcp_meta.h"

#include <stdlib.h>

#include "torch_build.h"

typedef struct reader {
  ckpt_document *doc;
  ckpt_strmap index; /* key of a MetadataIndex -> place in `items` */
  ckpt_dcp_item *items;
  const ckpt_value *paths; /* planner_data, or NULL */
  ckpt_error *err;         /* never NULL */
} reader;

/* ---- objects ---- */

/* Classes moved between modules (torch.distributed._shard.checkpoint before 2.0): only their own name counts. */
static bool is_a(const ckpt_value *v, const char *name) {
  size_t n = 0;
  if (v == NULL || v->kind != CKPT_OBJECT || v->made->callable == NULL || v->made->callable->kind != CKPT_CLASS)
    return false;
  const char *own = ckpt_value_class_name(v->made->callable, &n);
  return strlen(name) == n && memcmp(own, name, n) == 0;
}

/* A field of an object; NULL if it is absent, as fields that have their default are, or None. */
static const ckpt_value *field(const ckpt_value *object, const char *name) {
  const ckpt_value *state = object->as.object->state;
  const ckpt_value *v = state == NULL || state->kind != CKPT_DICT ? NULL : ckpt_value_get(state, name);
  return v == NULL || v->kind == CKPT_NONE ? NULL : v;
}

static const char *text_of(const ckpt_value *v) {
  return v != NULL && v->kind == CKPT_STR && strlen(v->as.text.bytes) == v->as.text.n ? v->as.text.bytes : NULL;
}

static ckpt_status bad(const reader *r, const char *fqn, const char *what) {
  return ckpt_fail(r->err, CKPT_E_CORRUPT, -1, ".metadata: '%.200s': %s", fqn, what);
}

/* The sizes or offsets of a tensor: a torch.Size. */
static ckpt_status read_dims(const int64_t **out, int *ndim, const reader *r, const ckpt_value *v, const char *fqn,
                             const char *what) {
  if (v == NULL || (v->kind != CKPT_TUPLE && v->kind != CKPT_LIST)) return bad(r, fqn, what);
  size_t n = v->as.seq.n;
  if (n > CKPT_MAX_DIMS)
    return ckpt_fail(r->err, CKPT_E_LIMIT, -1, ".metadata: '%.200s' has %zu dimensions; at most %d are supported", fqn,
                     n, CKPT_MAX_DIMS);
  int64_t *dims = ckpt_arena_alloc(ckpt_document_arena(r->doc), n * sizeof *dims, r->err);
  if (dims == NULL) return r->err->status;
  for (size_t i = 0; i < n; i++) {
    const ckpt_value *item = v->as.seq.items[i];
    if (item->kind != CKPT_INT || item->as.integer < 0) return bad(r, fqn, what);
    dims[i] = item->as.integer;
  }
  *out = dims;
  *ndim = (int)n;
  return CKPT_OK;
}

static ckpt_status read_count(uint64_t *out, const ckpt_value *v) {
  if (v == NULL || v->kind != CKPT_INT || v->as.integer < 0) return CKPT_E_CORRUPT;
  *out = (uint64_t)v->as.integer;
  return CKPT_OK;
}

/* ---- storage_data ---- */

/* What a MetadataIndex is equal by: name and offset (the index is a hint). NULL with r->err filled. */
static const char *index_key(size_t *length, const reader *r, const char *fqn, const int64_t *offset, int ndim) {
  size_t n = strlen(fqn) + 1, dims = offset == NULL ? 0 : (size_t)ndim * sizeof *offset;
  char *key = ckpt_arena_alloc(ckpt_document_arena(r->doc), n + 1 + dims, r->err);
  if (key == NULL) return NULL;
  memcpy(key, fqn, n);
  key[n] = offset == NULL ? 'b' : 't';
  if (dims > 0) memcpy(key + n + 1, offset, dims);
  *length = n + 1 + dims;
  return key;
}

static ckpt_status check_file_name(const reader *r, const char *fqn, const ckpt_value *v) {
  const char *name = text_of(v);
  if (name == NULL) return bad(r, fqn, "the name of its file is no string");
  bool plain = name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
  if (plain) return CKPT_OK;
  return ckpt_fail(r->err, CKPT_E_CORRUPT, -1,
                   ".metadata: '%.150s' is said to lie in '%.150s', which is no plain file name", fqn, name);
}

static ckpt_status read_info(ckpt_dcp_item *item, const reader *r, const ckpt_value *info, const char *fqn) {
  if (!is_a(info, "_StorageInfo"))
    return ckpt_fail(r->err, CKPT_E_UNSUPPORTED, -1, ".metadata: '%.200s' is kept by a storage other than files", fqn);
  const ckpt_value *transforms = field(info, "transform_descriptors");
  if (transforms != NULL && ckpt_value_count(transforms) > 0) {
    const char *first = text_of(ckpt_value_item(transforms, 0));
    return ckpt_fail(r->err, CKPT_E_UNSUPPORTED, -1,
                     ".metadata: '%.200s' went through the transform '%.60s', which cannot be undone here", fqn,
                     first == NULL ? "?" : first);
  }
  CKPT_TRY(check_file_name(r, fqn, field(info, "relative_path")));
  item->fqn = fqn;
  item->file = text_of(field(info, "relative_path"));
  if (read_count(&item->offset, field(info, "offset")) != CKPT_OK ||
      read_count(&item->length, field(info, "length")) != CKPT_OK)
    return bad(r, fqn, "the place of its bytes is no offset and length");
  return CKPT_OK;
}

static ckpt_status read_index(reader *r, size_t i, const ckpt_value *key, const ckpt_value *info) {
  const int64_t *offset = NULL;
  int ndim = 0;
  size_t n = 0;
  const char *fqn = is_a(key, "MetadataIndex") ? text_of(field(key, "fqn")) : NULL;
  if (fqn == NULL) return bad(r, "storage_data", "a key that is no MetadataIndex with a name");
  if (field(key, "offset") != NULL)
    CKPT_TRY(read_dims(&offset, &ndim, r, field(key, "offset"), fqn, "an offset that is no tuple of counts"));
  CKPT_TRY(read_info(&r->items[i], r, info, fqn));
  const char *text = index_key(&n, r, fqn, offset, ndim);
  if (text == NULL) return r->err->status;
  if (ckpt_strmap_get(&r->index, text, n) != SIZE_MAX) return bad(r, fqn, "two items at one place");
  return ckpt_strmap_set(&r->index, text, n, i, r->err);
}

static int by_place(const void *a, const void *b) {
  const ckpt_dcp_item *x = *(const ckpt_dcp_item *const *)a, *y = *(const ckpt_dcp_item *const *)b;
  int files = strcmp(x->file, y->file);
  return files != 0 ? files : (x->offset > y->offset) - (x->offset < y->offset);
}

static ckpt_status check_places(const reader *r, size_t n) {
  const ckpt_dcp_item **sorted = ckpt_arena_alloc(ckpt_document_arena(r->doc), n * sizeof *sorted, r->err);
  if (sorted == NULL) return r->err->status;
  for (size_t i = 0; i < n; i++) sorted[i] = &r->items[i];
  qsort(sorted, n, sizeof *sorted, by_place);
  for (size_t i = 1; i < n; i++) {
    const ckpt_dcp_item *a = sorted[i - 1], *b = sorted[i];
    if (strcmp(a->file, b->file) == 0 && b->offset - a->offset < a->length)
      return ckpt_fail(r->err, CKPT_E_CORRUPT, -1, ".metadata: '%.150s' and '%.150s' lie over the same bytes of %.120s",
                       a->fqn, b->fqn, a->file);
  }
  return CKPT_OK;
}

static ckpt_status read_storage(reader *r, const ckpt_value *storage) {
  if (storage == NULL || storage->kind != CKPT_DICT) return bad(r, "storage_data", "no dict of items");
  size_t n = ckpt_value_pair_count(storage);
  r->items = ckpt_arena_alloc(ckpt_document_arena(r->doc), n * sizeof *r->items, r->err);
  if (r->items == NULL) return r->err->status;
  for (size_t i = 0; i < n; i++)
    CKPT_TRY(read_index(r, i, ckpt_value_pair_key(storage, i), ckpt_value_pair_value(storage, i)));
  return check_places(r, n);
}

/* NULL with *st CKPT_OK if there is no such item. */
static const ckpt_dcp_item *find_item(ckpt_status *st, const reader *r, const char *fqn, const int64_t *offset,
                                      int ndim) {
  size_t n = 0;
  const char *key = index_key(&n, r, fqn, offset, ndim);
  *st = key == NULL ? r->err->status : CKPT_OK;
  size_t at = key == NULL ? SIZE_MAX : ckpt_strmap_get(&r->index, key, n);
  return at == SIZE_MAX ? NULL : &r->items[at];
}

/* ---- state_dict_metadata ---- */

/* TensorProperties: (dtype, layout, requires_grad, memory format, pin_memory). */
static ckpt_status read_properties(ckpt_dcp_entry *e, const reader *r, const ckpt_value *v) {
  const ckpt_value *state = v == NULL || v->kind != CKPT_OBJECT ? NULL : v->as.object->state;
  const ckpt_value *dtype = state == NULL ? NULL : ckpt_value_item(state, 0);
  const ckpt_value *grad = state == NULL ? NULL : ckpt_value_item(state, 2);
  size_t n;
  if (dtype == NULL || dtype->kind != CKPT_CLASS || dtype->as.text.module != 5 ||
      memcmp(dtype->as.text.bytes, "torch", 5) != 0)
    return bad(r, e->fqn, "its dtype is no torch dtype");
  if (ckpt_dtype_parse(&e->dtype, ckpt_value_class_name(dtype, &n), NULL) != CKPT_OK)
    return bad(r, e->fqn, "its dtype is not known");
  e->requires_grad = grad != NULL && grad->kind == CKPT_BOOLEAN && grad->as.boolean;
  return CKPT_OK;
}

static bool is_empty(const int64_t *sizes, int n) {
  for (int i = 0; i < n; i++)
    if (sizes[i] == 0) return true;
  return false;
}

static ckpt_status read_chunk(ckpt_dcp_chunk *out, const reader *r, const ckpt_dcp_entry *e, const ckpt_value *v) {
  static const char what[] = "a chunk whose offsets and sizes are not as many counts as it has dimensions";
  int offsets = 0, sizes = 0;
  ckpt_status st = CKPT_OK;
  if (!is_a(v, "ChunkStorageMetadata")) return bad(r, e->fqn, "a chunk that is no ChunkStorageMetadata");
  CKPT_TRY(read_dims(&out->offsets, &offsets, r, field(v, "offsets"), e->fqn, what));
  CKPT_TRY(read_dims(&out->sizes, &sizes, r, field(v, "sizes"), e->fqn, what));
  if (offsets != e->ndim || sizes != e->ndim) return bad(r, e->fqn, what);
  out->item = find_item(&st, r, e->fqn, out->offsets, offsets);
  if (st == CKPT_OK && out->item == NULL && e->n_chunks == 1) out->item = find_item(&st, r, e->fqn, NULL, 0);
  CKPT_TRY(st);
  if (out->item != NULL || is_empty(out->sizes, sizes)) return CKPT_OK;
  return bad(r, e->fqn, "a chunk of it is not in storage_data");
}

static ckpt_status read_tensor(ckpt_dcp_entry *e, const reader *r, const ckpt_value *v) {
  const ckpt_value *chunks = field(v, "chunks");
  e->tensor = true;
  CKPT_TRY(read_properties(e, r, field(v, "properties")));
  CKPT_TRY(read_dims(&e->shape, &e->ndim, r, field(v, "size"), e->fqn, "its size is no tuple of counts"));
  if (chunks == NULL || chunks->kind != CKPT_LIST) return bad(r, e->fqn, "its chunks are no list");
  e->n_chunks = chunks->as.seq.n;
  ckpt_dcp_chunk *out = ckpt_arena_alloc(ckpt_document_arena(r->doc), e->n_chunks * sizeof *out, r->err);
  if (out == NULL) return r->err->status;
  for (size_t i = 0; i < e->n_chunks; i++) CKPT_TRY(read_chunk(&out[i], r, e, chunks->as.seq.items[i]));
  e->chunks = out;
  return CKPT_OK;
}

static ckpt_status read_path(ckpt_dcp_entry *e, const reader *r, const ckpt_value *name) {
  size_t at = r->paths == NULL ? SIZE_MAX : ckpt_dict_find(r->paths->as.dict, name);
  if (at == SIZE_MAX) return CKPT_OK;
  const ckpt_value *path = r->paths->as.dict->flat.items[2 * at + 1];
  bool good = path->kind == CKPT_TUPLE && path->as.seq.n > 0;
  for (size_t i = 0; good && i < path->as.seq.n; i++) {
    const ckpt_value *key = path->as.seq.items[i];
    good = key->kind == CKPT_STR || (key->kind == CKPT_INT && key->as.integer >= 0);
  }
  if (!good) return bad(r, e->fqn, "its path in planner_data is no tuple of names and indices");
  e->path = path;
  return CKPT_OK;
}

static ckpt_status read_entry(ckpt_dcp_entry *e, const reader *r, const ckpt_value *name, const ckpt_value *v) {
  ckpt_status st = CKPT_OK;
  e->fqn = text_of(name);
  if (e->fqn == NULL) return bad(r, "state_dict_metadata", "a name that is no string");
  CKPT_TRY(read_path(e, r, name));
  if (is_a(v, "TensorStorageMetadata")) return read_tensor(e, r, v);
  if (!is_a(v, "BytesStorageMetadata")) return bad(r, e->fqn, "neither TensorStorageMetadata nor BytesStorageMetadata");
  e->item = find_item(&st, r, e->fqn, NULL, 0);
  CKPT_TRY(st);
  return e->item != NULL ? CKPT_OK : bad(r, e->fqn, "it is not in storage_data");
}

static ckpt_status read_entries(ckpt_dcp_meta *meta, reader *r, const ckpt_value *dict) {
  if (dict == NULL || dict->kind != CKPT_DICT) return bad(r, "state_dict_metadata", "no dict of entries");
  meta->n = ckpt_value_pair_count(dict);
  meta->entries = ckpt_arena_alloc(ckpt_document_arena(r->doc), meta->n * sizeof *meta->entries, r->err);
  if (meta->entries == NULL) return r->err->status;
  for (size_t i = 0; i < meta->n; i++)
    CKPT_TRY(read_entry(&meta->entries[i], r, ckpt_value_pair_key(dict, i), ckpt_value_pair_value(dict, i)));
  return CKPT_OK;
}

/* ---- the whole ---- */

static ckpt_status no_storage(ckpt_storage **out, void *context, const char *key, uint64_t bytes, unsigned swap_unit,
                              ckpt_error *err) {
  (void)out, (void)context, (void)key, (void)bytes, (void)swap_unit;
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a tensor among the metadata");
}

static ckpt_status read_pickle(ckpt_value **out, ckpt_document *doc, const unsigned char *bytes, size_t n,
                               ckpt_error *err) {
  ckpt_torch_builder *builder = NULL;
  CKPT_TRY(ckpt_torch_builder_new(&builder, doc, no_storage, NULL, err));
  ckpt_pickle_hooks hooks = ckpt_torch_builder_hooks(builder);
  ckpt_status st = ckpt_pickle_read(out, NULL, doc, bytes, n, ".metadata", &hooks, err);
  ckpt_torch_builder_free(builder);
  return st;
}

static ckpt_status read_all(ckpt_dcp_meta *meta, reader *r, const unsigned char *bytes, size_t n) {
  ckpt_value *root = NULL;
  CKPT_TRY(read_pickle(&root, r->doc, bytes, n, r->err));
  if (!is_a(root, "Metadata"))
    return ckpt_fail(r->err, CKPT_E_FORMAT, 0,
                     ".metadata: not a torch.distributed.checkpoint: its pickle holds no Metadata");
  const ckpt_value *paths = field(root, "planner_data");
  r->paths = paths != NULL && paths->kind == CKPT_DICT ? paths : NULL;
  CKPT_TRY(read_storage(r, field(root, "storage_data")));
  return read_entries(meta, r, field(root, "state_dict_metadata"));
}

ckpt_status ckpt_dcp_meta_read(ckpt_dcp_meta *out, const ckpt_mapping *map, ckpt_error *err) {
  ckpt_error here = {0};
  ckpt_dcp_meta meta = {0};
  reader r = {.err = &here};
  size_t n = ckpt_mapping_size(map), limit = ckpt_pickle_memory_limit(n);
  ckpt_status st = ckpt_document_make(&r.doc, limit > SIZE_MAX / 2 ? limit : 2 * limit, &here);
  if (st == CKPT_OK) ckpt_document_set_limits(r.doc, &ckpt_mapping_trust(map)->limits);
  if (st == CKPT_OK) st = read_all(&meta, &r, ckpt_mapping_data(map), n);
  ckpt_strmap_free(&r.index);
  if (st != CKPT_OK) {
    ckpt_document_release(r.doc);
    if (err != NULL) *err = here;
    return st;
  }
  meta.doc = r.doc;
  *out = meta;
  return CKPT_OK;
}

void ckpt_dcp_meta_free(ckpt_dcp_meta *meta) {
  ckpt_document_release(meta->doc);
  *meta = (ckpt_dcp_meta){0};
}
