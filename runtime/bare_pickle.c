/* bare_pickle.c - see bare_pickle.h. */
#include "bare_pickle.h"

#include <stdlib.h>

#include "pth_legacy.h"
#include "ptrmap.h"
#include "torch_build.h"

typedef struct reader {
  ckpt_document *doc;
  const ckpt_trust *trust;
  ckpt_pickle_hooks torch;
  ckpt_ptrmap loaded; /* bytes -> index of the storage that they hold: asked for again, it is not copied again */
  ckpt_storage **storages;
  size_t n, capacity;
} reader;

bool ckpt_bare_pickle_marked(const ckpt_mapping *map, size_t pos) {
  const unsigned char *p = ckpt_mapping_data(map) + pos;
  return ckpt_mapping_size(map) - pos >= 2 && p[0] == 0x80 && p[1] <= 5;
}

/* ---- storages inside the pickle ---- */

static ckpt_status keep(reader *r, const ckpt_value *bytes, ckpt_storage *s, ckpt_error *err) {
  if (r->n == r->capacity) {
    size_t capacity = r->capacity == 0 ? 16 : r->capacity * 2;
    ckpt_storage **more = realloc(r->storages, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
    r->storages = more;
    r->capacity = capacity;
  }
  CKPT_TRY(ckpt_ptrmap_set(&r->loaded, bytes, r->n, err));
  r->storages[r->n++] = s;
  return CKPT_OK;
}

/* A copy that outlives the bytes it came from, which are the document's. */
static ckpt_status copy_storage(ckpt_storage **out, reader *r, const ckpt_value *bytes, ckpt_storage *from,
                                ckpt_error *err) {
  unsigned char *to = NULL, *at = NULL;
  ckpt_storage *s = NULL;
  size_t n = ckpt_storage_size(from);
  CKPT_TRY(ckpt_storage_new(&s, n, err));
  CKPT_TRY(ckpt_document_own_storage(r->doc, s, err));
  CKPT_TRY(ckpt_storage_data(&to, s, err));
  CKPT_TRY(ckpt_storage_data(&at, from, err));
  if (n > 0) memcpy(to, at, n);
  CKPT_TRY(keep(r, bytes, s, err));
  *out = s;
  return CKPT_OK;
}

static ckpt_status take_storage(reader *r, ckpt_value *v, const ckpt_value *root, ckpt_error *err) {
  if (root->kind != CKPT_OBJECT || root->made->how != CKPT_BY_PERSID || root->made->storage == NULL) return CKPT_OK;
  const ckpt_value *bytes = v->made->args->as.seq.items[0];
  ckpt_made made = {.how = CKPT_BY_PERSID};
  size_t at = ckpt_ptrmap_get(&r->loaded, bytes);
  if (at != SIZE_MAX) made.storage = r->storages[at];
  if (at == SIZE_MAX) CKPT_TRY(copy_storage(&made.storage, r, bytes, root->made->storage, err));
  CKPT_TRY(ckpt_value_clone(&made.args, r->doc, root->made->args, err));
  *v->made = made;
  return CKPT_OK;
}

/* The saved storage becomes what a persistent id in a file is: the new file will hold it as one. */
static ckpt_status load_from_bytes(reader *r, ckpt_value *v, const ckpt_value *bytes, ckpt_error *err) {
  ckpt_mapping *map = NULL;
  ckpt_document *doc = NULL;
  size_t end;
  CKPT_TRY(ckpt_mapping_memory(&map, bytes->as.text.bytes, bytes->as.text.n, err));
  ckpt_mapping_set_trust(map, r->trust);
  ckpt_status st = CKPT_OK;
  if (ckpt_legacy_begins(map, 0)) {
    st = ckpt_legacy_format.read(&doc, &end, map, 0, err);
    if (st != CKPT_OK) ckpt_fail_in(err, st, "a storage inside the pickle");
  }
  if (doc != NULL) st = take_storage(r, v, ckpt_document_root(doc), err);
  ckpt_document_release(doc);
  ckpt_mapping_release(map);
  return st;
}

/* ---- what lacks its bytes ---- */

static bool in_module(const ckpt_value *cls, const char *module) {
  size_t n = strlen(module);
  return cls->kind == CKPT_CLASS && cls->as.text.module == n && memcmp(cls->as.text.bytes, module, n) == 0;
}

static bool is_rebuild(const ckpt_value *f) { return in_module(f, "torch._utils") || in_module(f, "torch._tensor"); }

/* A storage that the file only names, or a tensor over one. */
static bool is_hollow(const ckpt_value *v) {
  if (v->kind != CKPT_OBJECT || v->made->storage != NULL) return false;
  return v->made->how == CKPT_BY_PERSID || is_rebuild(v->made->callable) ||
         in_module(v->made->callable, "torch.storage");
}

static bool has_hollow(const ckpt_value *args, int depth) {
  for (size_t i = 0; i < args->as.seq.n; i++) {
    const ckpt_value *item = args->as.seq.items[i];
    if (is_hollow(item) || (depth > 0 && item->kind == CKPT_TUPLE && has_hollow(item, depth - 1))) return true;
  }
  return false;
}

/* ---- hooks ---- */

static ckpt_status on_built(void *context, ckpt_value *v, ckpt_error *err) {
  reader *r = context;
  const ckpt_value *f = v->made->callable;
  const ckpt_seq *args = &v->made->args->as.seq;
  bool has_bytes = args->n == 1 && args->items[0]->kind == CKPT_BYTES;
  if (has_bytes && ckpt_value_is_class(f, "torch.storage", "_load_from_bytes"))
    return load_from_bytes(r, v, args->items[0], err);
  if (is_rebuild(f) && has_hollow(v->made->args, 1)) return CKPT_OK; /* a tensor without its bytes stays inert */
  return r->torch.built(r->torch.context, v, err);
}

static ckpt_status no_storage(ckpt_storage **out, void *context, const char *key, uint64_t bytes, unsigned swap_unit,
                              ckpt_error *err) {
  (void)out, (void)context, (void)bytes, (void)swap_unit;
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a pickle alone has no storage '%.64s'", key);
}

static ckpt_status read_values(ckpt_document *doc, size_t *end, const ckpt_mapping *map, size_t start, size_t extent,
                               ckpt_torch_builder *torch, ckpt_error *err) {
  const unsigned char *data = ckpt_mapping_data(map);
  const ckpt_trust *trust = ckpt_mapping_trust(map);
  reader r = {.doc = doc, .trust = trust, .torch = ckpt_torch_builder_hooks(torch)};
  ckpt_pickle_hooks hooks = {.context = &r, .built = on_built};
  ckpt_value *root = NULL;
  ckpt_status st = ckpt_pickle_read_at(&root, end, doc, data, start, extent, "file", &hooks, err);
  if (st == CKPT_OK) ckpt_document_set_root(doc, root);
  ckpt_ptrmap_free(&r.loaded);
  free(r.storages);
  return st;
}

static ckpt_status read_at(ckpt_document **out, size_t *end, ckpt_mapping *map, size_t start, ckpt_error *err) {
  ckpt_document *doc = NULL;
  ckpt_torch_builder *torch = NULL;
  const unsigned char *data = ckpt_mapping_data(map);
  size_t extent = ckpt_pickle_extent(data, start, ckpt_mapping_size(map)), stop = start;
  CKPT_TRY(ckpt_document_make(&doc, ckpt_pickle_memory_limit(extent - start), err));
  ckpt_document_set_limits(doc, &ckpt_mapping_trust(map)->limits);
  ckpt_status st = ckpt_torch_builder_new(&torch, doc, no_storage, NULL, err);
  if (st == CKPT_OK) st = read_values(doc, &stop, map, start, extent, torch, err);
  ckpt_torch_builder_free(torch);
  if (st == CKPT_OK) *end = stop;
  if (st == CKPT_OK && out != NULL)
    *out = doc;
  else
    ckpt_document_release(doc);
  return st;
}

/* Behind a pickle without PROTO anything may be another one. */
static bool begins(const ckpt_mapping *map, size_t pos) {
  return ckpt_bare_pickle_marked(map, pos) || !ckpt_bare_pickle_marked(map, 0);
}

const ckpt_save_format ckpt_bare_pickle_format = {begins, read_at};
