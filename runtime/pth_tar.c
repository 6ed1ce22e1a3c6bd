/* pth_tar.c - see pth_tar.h. */
#include "pth_tar.h"

#include <stdio.h>
#include <stdlib.h>

#include "tar_read.h"
#include "torch_build.h"
#include "torch_old.h"

/* A storage, a part of one, or a tensor: what a persistent id can name. */
typedef struct thing {
  ckpt_value *value;     /* an OBJECT for a storage, a TENSOR */
  ckpt_storage *storage; /* NULL for a tensor */
  ckpt_storage *root;    /* the storage that it is a part of: itself, if of none */
  int64_t offset, numel; /* of the part, in elements */
  ckpt_dtype dtype;
  const ckpt_value *cls, *location;
} thing;

typedef struct tar {
  ckpt_mapping *map;
  ckpt_document *doc;
  ckpt_strmap by_key; /* decimal key -> index into things */
  thing *things;
  size_t n, capacity;
  ckpt_pickle_hooks torch;
  ckpt_torch_old old;
} tar;

/* Where we are in a member. */
typedef struct cursor {
  const char *name;
  const unsigned char *data;
  size_t size, pos, last; /* last: where what was read last began */
  uint64_t base;          /* of data, in the file */
} cursor;

bool ckpt_tar_is(const ckpt_mapping *map) {
  return ckpt_mapping_size(map) >= 262 && memcmp(ckpt_mapping_data(map) + 257, "ustar", 5) == 0;
}

/* ---- reading a member ---- */

static ckpt_status fail(const cursor *c, ckpt_error *err, const char *what) {
  return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)c->last, "%s+0x%zx: %s", c->name, c->last, what);
}

static ckpt_status fail_key(const cursor *c, ckpt_error *err, int64_t key, const char *what) {
  return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)c->last, "%s+0x%zx: key %lld %s", c->name, c->last, (long long)key,
                   what);
}

/* Puts the position before what a lower layer said of what was read last. */
static ckpt_status at(const cursor *c, ckpt_status st, ckpt_error *err) {
  char where[64];
  if (st == CKPT_OK) return CKPT_OK;
  snprintf(where, sizeof where, "%s+0x%zx", c->name, c->last);
  err->position = (int64_t)c->last;
  if (st == CKPT_E_RANGE) err->status = st = CKPT_E_CORRUPT;
  return ckpt_fail_in(err, st, where);
}

/* The document may take as much as the pickles that have been met so far are worth. */
static ckpt_status read_pickle(ckpt_value **out, const tar *t, cursor *c, const ckpt_pickle_hooks *hooks,
                               ckpt_error *err) {
  size_t extent = ckpt_pickle_extent(c->data, c->pos, c->size);
  ckpt_arena *arena = ckpt_document_arena(t->doc);
  if (!ckpt_add_size(&arena->limit, arena->limit, (extent - c->pos) * 128 + 1024)) arena->limit = SIZE_MAX;
  c->last = c->pos;
  return ckpt_pickle_read_at(out, &c->pos, t->doc, c->data, c->pos, extent, c->name, hooks, err);
}

static ckpt_status read_count(int64_t *out, const tar *t, cursor *c, ckpt_error *err) {
  ckpt_value *v = NULL;
  CKPT_TRY(read_pickle(&v, t, c, NULL, err));
  if (v->kind != CKPT_INT || v->as.integer < 0) return fail(c, err, "a count that is none");
  *out = v->as.integer;
  return CKPT_OK;
}

static ckpt_status take(const unsigned char **out, cursor *c, uint64_t n, const char *what, ckpt_error *err) {
  c->last = c->pos;
  if (n > c->size - c->pos)
    return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)c->pos, "%s+0x%zx: %s needs %llu bytes, the member has %zu more",
                     c->name, c->pos, what, (unsigned long long)n, c->size - c->pos);
  *out = c->data + c->pos;
  c->pos += (size_t)n;
  return CKPT_OK;
}

static ckpt_status take_i64(int64_t *out, cursor *c, const char *what, ckpt_error *err) {
  const unsigned char *p = NULL;
  CKPT_TRY(take(&p, c, 8, what, err));
  *out = (int64_t)ckpt_le64(p);
  return CKPT_OK;
}

/* (integer, ..., class): n parts, the first `integers` of them numbers. */
static ckpt_status check_parts(const cursor *c, const ckpt_value *v, size_t n, size_t integers, ckpt_error *err) {
  bool right = v->kind == CKPT_TUPLE && v->as.seq.n == n;
  for (size_t i = 0; right && i < integers; i++) right = v->as.seq.items[i]->kind == CKPT_INT;
  return right ? CKPT_OK : fail(c, err, "an entry without its parts");
}

/* ---- things ---- */

static ckpt_status add(tar *t, const cursor *c, int64_t key, const thing *new, ckpt_error *err) {
  char text[24];
  int n = snprintf(text, sizeof text, "%lld", (long long)key);
  if (ckpt_strmap_get(&t->by_key, text, (size_t)n) != SIZE_MAX) return fail_key(c, err, key, "is there twice");
  if (t->n == t->capacity) {
    size_t capacity = t->capacity == 0 ? 64 : t->capacity * 2;
    thing *more = realloc(t->things, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
    t->things = more;
    t->capacity = capacity;
  }
  const char *copy = ckpt_arena_copy(ckpt_document_arena(t->doc), text, (size_t)n, err);
  if (copy == NULL) return err->status;
  CKPT_TRY(ckpt_strmap_set(&t->by_key, copy, (size_t)n, t->n, err));
  t->things[t->n++] = *new;
  return CKPT_OK;
}

static const thing *find(const tar *t, const char *key, size_t n) {
  size_t i = ckpt_strmap_get(&t->by_key, key, n);
  return i == SIZE_MAX ? NULL : &t->things[i];
}

static ckpt_status find_storage(thing *out, const tar *t, const cursor *c, int64_t key, ckpt_error *err) {
  char text[24];
  int n = snprintf(text, sizeof text, "%lld", (long long)key);
  const thing *found = find(t, text, (size_t)n);
  if (found == NULL || found->storage == NULL) return fail_key(c, err, key, "is no storage");
  *out = *found;
  return CKPT_OK;
}

/* The object that a storage is for the pickle: the persistent id that a new file will have for it. */
static ckpt_status make_object(thing *s, const tar *t, int64_t key, ckpt_error *err) {
  char text[24];
  int n = snprintf(text, sizeof text, "%lld", (long long)key);
  ckpt_value *tuple = NULL, *tag = NULL, *name = NULL, *numel = NULL;
  CKPT_TRY(ckpt_value_new_tuple(&tuple, t->doc, err));
  CKPT_TRY(ckpt_value_new_str(&tag, t->doc, "storage", 7, err));
  CKPT_TRY(ckpt_value_new_str(&name, t->doc, text, (size_t)n, err));
  CKPT_TRY(ckpt_value_new_int(&numel, t->doc, s->numel, err));
  const ckpt_value *parts[] = {tag, s->cls, name, s->location, numel};
  for (size_t i = 0; i < CKPT_COUNTOF(parts); i++)
    CKPT_TRY(ckpt_value_append(tuple, t->doc, (ckpt_value *)(uintptr_t)parts[i], err));
  s->value = ckpt_value_make_object(t->doc, CKPT_BY_PERSID, NULL, tuple, err);
  if (s->value == NULL) return err->status;
  s->value->made->storage = s->storage;
  return CKPT_OK;
}

/* ---- storages ---- */

static ckpt_status span(thing *s, const tar *t, uint64_t offset, ckpt_error *err) {
  CKPT_TRY(ckpt_storage_span(&s->storage, t->map, offset, (uint64_t)s->numel * ckpt_dtype_size(s->dtype), err));
  return ckpt_document_own_storage(t->doc, s->storage, err);
}

static ckpt_status storage_class(ckpt_dtype *out, const cursor *c, const ckpt_value *cls, ckpt_error *err) {
  size_t n = 0;
  const char *name = cls->kind == CKPT_CLASS ? ckpt_value_class_name(cls, &n) : "";
  return ckpt_dtype_of_storage_class(out, name, n) == CKPT_OK ? CKPT_OK : fail(c, err, "a storage of no storage class");
}

/* (key, location, class), then the number of elements and the elements. */
static ckpt_status read_storage(tar *t, cursor *c, ckpt_error *err) {
  thing s = {.offset = 0};
  ckpt_value *v = NULL;
  const unsigned char *data = NULL;
  uint64_t bytes;
  CKPT_TRY(read_pickle(&v, t, c, NULL, err));
  CKPT_TRY(check_parts(c, v, 3, 1, err));
  int64_t key = v->as.seq.items[0]->as.integer;
  s.location = v->as.seq.items[1];
  s.cls = v->as.seq.items[2];
  CKPT_TRY(storage_class(&s.dtype, c, s.cls, err));
  CKPT_TRY(take_i64(&s.numel, c, "a storage's size", err));
  if (s.numel < 0 || __builtin_mul_overflow((uint64_t)s.numel, (uint64_t)ckpt_dtype_size(s.dtype), &bytes))
    return fail(c, err, "a storage's size that is no count");
  CKPT_TRY(take(&data, c, bytes, "a storage", err));
  CKPT_TRY(span(&s, t, c->base + (uint64_t)(data - c->data), err));
  s.root = s.storage;
  CKPT_TRY(make_object(&s, t, key, err));
  return add(t, c, key, &s, err);
}

/* (key, key of the root, offset, elements): a part of a storage. */
static ckpt_status add_part(tar *t, const cursor *c, const ckpt_value *v, ckpt_error *err) {
  thing s = {.offset = 0};
  unsigned char *data = NULL;
  int64_t end;
  CKPT_TRY(check_parts(c, v, 4, 4, err));
  ckpt_value *const *part = v->as.seq.items;
  int64_t key = part[0]->as.integer, offset = part[2]->as.integer, numel = part[3]->as.integer;
  CKPT_TRY(find_storage(&s, t, c, part[1]->as.integer, err));
  if (offset < 0 || numel < 0 || !ckpt_add_i64(&end, offset, numel) || end > s.numel)
    return fail_key(c, err, key, "is a part of a storage that reaches beyond it");
  CKPT_TRY(ckpt_storage_data(&data, s.storage, err));
  s.offset += offset;
  s.numel = numel;
  CKPT_TRY(
      span(&s, t, (uint64_t)(data - ckpt_mapping_data(t->map)) + (uint64_t)offset * ckpt_dtype_size(s.dtype), err));
  CKPT_TRY(make_object(&s, t, key, err));
  return add(t, c, key, &s, err);
}

static ckpt_status read_storages(tar *t, cursor *c, ckpt_error *err) {
  int64_t count = 0;
  ckpt_value *parts = NULL;
  CKPT_TRY(read_count(&count, t, c, err));
  for (int64_t i = 0; i < count; i++) CKPT_TRY(read_storage(t, c, err));
  CKPT_TRY(read_pickle(&parts, t, c, NULL, err));
  if (parts->kind != CKPT_LIST) return fail(c, err, "no list where the parts of storages should be");
  for (size_t i = 0; i < parts->as.seq.n; i++) CKPT_TRY(add_part(t, c, parts->as.seq.items[i], err));
  return CKPT_OK;
}

/* ---- tensors ---- */

static ckpt_status take_dims(int64_t *dims, cursor *c, int n, ckpt_error *err) {
  for (int i = 0; i < n; i++) CKPT_TRY(take_i64(&dims[i], c, "a tensor's size", err));
  return CKPT_OK;
}

/* Over the part first, for its bounds, then over the storage that it is a part of, so that sharing is kept. */
static ckpt_status make_tensor(thing *out, const tar *t, const thing *s, ckpt_tensor_spec *spec, ckpt_error *err) {
  ckpt_tensor *tensor = NULL;
  CKPT_TRY(ckpt_tensor_make(&tensor, s->storage, spec, err));
  ckpt_tensor_release(tensor);
  if (!ckpt_add_i64(&spec->offset, spec->offset, s->offset))
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a storage offset that does not fit in 63 bits");
  CKPT_TRY(ckpt_tensor_make(&tensor, s->root, spec, err));
  ckpt_status st = ckpt_value_new_tensor(&out->value, t->doc, tensor, err);
  ckpt_tensor_release(tensor);
  return st;
}

static ckpt_status read_head(thing *s, ckpt_tensor_spec *spec, const tar *t, const cursor *c, const ckpt_value *v,
                             ckpt_error *err) {
  CKPT_TRY(check_parts(c, v, 3, 2, err));
  CKPT_TRY(find_storage(s, t, c, v->as.seq.items[1]->as.integer, err));
  if (!ckpt_torch_old_tensor_class(&spec->dtype, v->as.seq.items[2]))
    return fail(c, err, "a tensor of no tensor class");
  return spec->dtype == s->dtype ? CKPT_OK : fail(c, err, "a tensor whose class does not fit its storage's");
}

/* (key, storage key, class), then ndim, 4 bytes of nothing, sizes, strides and offset. */
static ckpt_status read_tensor(tar *t, cursor *c, ckpt_error *err) {
  int64_t shape[CKPT_MAX_DIMS], stride[CKPT_MAX_DIMS];
  ckpt_tensor_spec spec = {.shape = shape, .stride = stride};
  const unsigned char *p = NULL;
  thing s = {.offset = 0}, tensor = {.offset = 0};
  ckpt_value *v = NULL;
  CKPT_TRY(read_pickle(&v, t, c, NULL, err));
  CKPT_TRY(read_head(&s, &spec, t, c, v, err));
  CKPT_TRY(take(&p, c, 8, "a tensor's number of dimensions", err));
  uint32_t ndim = ckpt_le32(p);
  if (ndim > INT32_MAX) return fail(c, err, "a tensor of a negative number of dimensions");
  if (ndim > CKPT_MAX_DIMS)
    return ckpt_fail(err, CKPT_E_LIMIT, (int64_t)c->last,
                     "%s+0x%zx: a tensor of %u dimensions; at most %d are supported", c->name, c->last, ndim,
                     CKPT_MAX_DIMS);
  spec.ndim = (int)ndim;
  CKPT_TRY(take_dims(shape, c, spec.ndim, err));
  CKPT_TRY(take_dims(stride, c, spec.ndim, err));
  CKPT_TRY(take_i64(&spec.offset, c, "a tensor's offset", err));
  CKPT_TRY(at(c, make_tensor(&tensor, t, &s, &spec, err), err));
  return add(t, c, v->as.seq.items[0]->as.integer, &tensor, err);
}

static ckpt_status read_tensors(tar *t, cursor *c, ckpt_error *err) {
  int64_t count = 0;
  CKPT_TRY(read_count(&count, t, c, err));
  for (int64_t i = 0; i < count; i++) CKPT_TRY(read_tensor(t, c, err));
  return CKPT_OK;
}

/* ---- the object ---- */

static ckpt_value *known(void *context, const ckpt_value *id) {
  const tar *t = context;
  char text[24];
  const thing *found = NULL;
  if (id->kind == CKPT_STR) found = find(t, id->as.text.bytes, id->as.text.n);
  if (id->kind == CKPT_INT) {
    int n = snprintf(text, sizeof text, "%lld", (long long)id->as.integer);
    found = find(t, text, (size_t)n);
  }
  return found == NULL ? NULL : found->value;
}

static ckpt_status on_persid(void *context, ckpt_value *v, ckpt_error *err) {
  const ckpt_value *id = v->made->args;
  (void)context;
  if (id->kind == CKPT_TUPLE) return ckpt_torch_old_module(v, 0, err);
  if (id->kind == CKPT_INT)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "key %lld is neither a tensor nor a storage", (long long)id->as.integer);
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a persistent id that names neither a tensor nor a storage");
}

static ckpt_status on_built(void *context, ckpt_value *v, ckpt_error *err) {
  const tar *t = context;
  CKPT_TRY(t->torch.built(t->torch.context, v, err));
  return ckpt_torch_old_built(&t->old, v, err);
}

static ckpt_status on_state(bool *done, void *context, ckpt_value *to, ckpt_value *state, ckpt_error *err) {
  const tar *t = context;
  return ckpt_torch_old_state(done, &t->old, to, state, err);
}

static ckpt_status no_storage(ckpt_storage **out, void *context, const char *key, uint64_t bytes, unsigned swap_unit,
                              ckpt_error *err) {
  (void)out, (void)context, (void)bytes, (void)swap_unit;
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "storage '%.64s' is none of the archive's", key);
}

static ckpt_status read_object(tar *t, cursor *c, ckpt_error *err) {
  ckpt_torch_builder *torch = NULL;
  ckpt_value *root = NULL;
  CKPT_TRY(ckpt_torch_builder_new(&torch, t->doc, no_storage, NULL, err));
  t->torch = ckpt_torch_builder_hooks(torch);
  t->old = (ckpt_torch_old){t->doc, {.context = t, .built = on_built}};
  ckpt_pickle_hooks hooks = {.context = t, .known = known, .persid = on_persid, .built = on_built, .state = on_state};
  ckpt_status st = read_pickle(&root, t, c, &hooks, err);
  if (st == CKPT_OK) ckpt_document_set_root(t->doc, root);
  ckpt_torch_builder_free(torch);
  return st;
}

/* ---- the archive ---- */

enum { STORAGES, TENSORS, OBJECT, MEMBERS };

static ckpt_status check_members(const ckpt_tar_member *members, ckpt_error *err) {
  for (size_t i = 0; i < MEMBERS; i++)
    if (!members[i].found)
      return ckpt_fail(err, CKPT_E_FORMAT, -1, "a tar archive, but not one of PyTorch's: it has no member '%s'",
                       members[i].name);
  return CKPT_OK;
}

static ckpt_status read_archive(tar *t, ckpt_error *err) {
  static ckpt_status (*const readers[MEMBERS])(tar *, cursor *, ckpt_error *) = {read_storages, read_tensors,
                                                                                 read_object};
  ckpt_tar_member members[MEMBERS] = {{.name = "storages"}, {.name = "tensors"}, {.name = "pickle"}};
  CKPT_TRY(ckpt_tar_find(members, MEMBERS, t->map, err));
  CKPT_TRY(check_members(members, err));
  for (size_t i = 0; i < MEMBERS; i++) {
    cursor c = {.name = members[i].name, .size = (size_t)members[i].size, .base = members[i].offset};
    c.data = ckpt_mapping_data(t->map) + members[i].offset;
    CKPT_TRY(readers[i](t, &c, err));
  }
  return CKPT_OK;
}

ckpt_status ckpt_tar_read(ckpt_document **out, ckpt_mapping *map, ckpt_error *err) {
  ckpt_error here = {0};
  tar t = {.map = map};
  CKPT_TRY(ckpt_document_make(&t.doc, ckpt_pickle_memory_limit(0), err));
  ckpt_document_set_limits(t.doc, &ckpt_mapping_trust(map)->limits);
  ckpt_status st = read_archive(&t, &here);
  ckpt_strmap_free(&t.by_key);
  free(t.things);
  if (st == CKPT_OK) {
    *out = t.doc;
    return CKPT_OK;
  }
  ckpt_document_release(t.doc);
  if (err != NULL) *err = here;
  return st;
}
