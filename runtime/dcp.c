/* dcp.c - see dcp.h: files, items, and the values made of them. */
#include "dcp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dcp_chunks.h"
#include "dcp_nest.h"
#include "file.h"
#include "pth.h"
#include "zip_strict.h"

typedef struct opened {
  const ckpt_dcp_item *item;
  ckpt_zip *zip;
} opened;

struct ckpt_dcp {
  ckpt_document *doc;
  ckpt_dcp_meta meta;
  ckpt_mapping **files;
  size_t n_files, file_capacity;
  ckpt_strmap names; /* file name -> place in `files` */
  opened *items;
  size_t n_items, item_capacity;
  uint64_t bytes;
  ckpt_trust trust;
};

/* ---- files ---- */

static ckpt_status keep_file(ckpt_dcp *dcp, const char *name, ckpt_mapping *map, ckpt_error *err) {
  if (dcp->n_files == dcp->file_capacity) {
    size_t capacity = dcp->file_capacity == 0 ? 16 : dcp->file_capacity * 2;
    ckpt_mapping **more = realloc(dcp->files, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
    dcp->files = more;
    dcp->file_capacity = capacity;
  }
  CKPT_TRY(ckpt_strmap_set(&dcp->names, name, strlen(name), dcp->n_files, err));
  dcp->files[dcp->n_files++] = map;
  dcp->bytes += ckpt_mapping_size(map);
  return CKPT_OK;
}

/* The place of a file, which is mapped when it is first named. `name` must live as long as the metadata. */
static ckpt_status find_file(size_t *out, ckpt_dcp *dcp, int dir, const char *name, ckpt_error *err) {
  ckpt_mapping *map = NULL;
  *out = ckpt_strmap_get(&dcp->names, name, strlen(name));
  if (*out != SIZE_MAX) return CKPT_OK;
  ckpt_status st = ckpt_mapping_open_at(&map, dir, name, err);
  if (st == CKPT_E_NOTFOUND)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "the file '%.200s', which .metadata names, is missing", name);
  CKPT_TRY(st);
  ckpt_mapping_set_trust(map, &dcp->trust);
  st = keep_file(dcp, name, map, err);
  if (st != CKPT_OK) {
    ckpt_mapping_release(map);
    return st;
  }
  *out = dcp->n_files - 1;
  return CKPT_OK;
}

/* ---- items ---- */

static ckpt_status keep_item(ckpt_dcp *dcp, opened item, ckpt_error *err) {
  if (dcp->n_items == dcp->item_capacity) {
    size_t capacity = dcp->item_capacity == 0 ? 64 : dcp->item_capacity * 2;
    opened *more = realloc(dcp->items, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
    dcp->items = more;
    dcp->item_capacity = capacity;
  }
  dcp->items[dcp->n_items++] = item;
  return CKPT_OK;
}

/* "__0_0.distcp+0x4ed, 'model.w': " before what a lower layer said of an item. */
static ckpt_status in_item(ckpt_status st, const ckpt_dcp_item *item, ckpt_error *err) {
  char where[360];
  if (st == CKPT_OK) return st;
  snprintf(where, sizeof where, "%.120s+0x%llx, '%.200s'", item->file, (unsigned long long)item->offset, item->fqn);
  return ckpt_fail_in(err, st, where);
}

static ckpt_status open_zip(ckpt_zip **out, ckpt_dcp *dcp, size_t file, const ckpt_dcp_item *item, ckpt_error *err) {
  opened o = {item, NULL};
  CKPT_TRY(ckpt_zip_open(&o.zip, dcp->files[file], (size_t)item->offset, (size_t)item->length, err));
  ckpt_status st = ckpt_zip_check_strict(dcp->files[file], (size_t)item->offset, (size_t)item->length, err);
  if (st == CKPT_OK) st = keep_item(dcp, o, err);
  if (st != CKPT_OK) {
    ckpt_zip_release(o.zip);
    return st;
  }
  *out = o.zip;
  return CKPT_OK;
}

/* The document of an item, which is the caller's. */
static ckpt_status read_item(ckpt_document **out, ckpt_dcp *dcp, int dir, const ckpt_dcp_item *item, ckpt_error *err) {
  size_t file = 0;
  ckpt_zip *zip = NULL;
  const char *format = NULL;
  CKPT_TRY(find_file(&file, dcp, dir, item->file, err));
  uint64_t size = ckpt_mapping_size(dcp->files[file]);
  if (item->offset > size || item->length > size - item->offset)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1,
                     "%.150s holds %llu bytes; '%.150s' is said to lie in the %llu bytes from byte %llu on", item->file,
                     (unsigned long long)size, item->fqn, (unsigned long long)item->length,
                     (unsigned long long)item->offset);
  ckpt_status st = open_zip(&zip, dcp, file, item, err);
  if (st == CKPT_OK) st = ckpt_pth_read(out, &format, zip, err);
  return in_item(st, item, err);
}

/* ---- values ---- */

static bool same_dims(const int64_t *a, const int64_t *b, int n) {
  return n == 0 || memcmp(a, b, (size_t)n * sizeof *a) == 0;
}

/* The item's value must be the tensor that .metadata speaks of. */
static ckpt_status check_part(const ckpt_dcp_entry *e, const ckpt_dcp_chunk *c, const ckpt_value *v, ckpt_error *err) {
  const ckpt_tensor *t = ckpt_value_tensor(v);
  if (t == NULL || ckpt_tensor_is_meta(t))
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a %s where the bytes of a tensor should be",
                     t == NULL ? ckpt_kind_name(ckpt_value_kind(v)) : "tensor without bytes");
  if (ckpt_tensor_dtype(t) != e->dtype)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a tensor of %s, .metadata says %s",
                     ckpt_dtype_name(ckpt_tensor_dtype(t)), ckpt_dtype_name(e->dtype));
  if (ckpt_tensor_ndim(t) != e->ndim || !same_dims(ckpt_tensor_shape(t), c->sizes, e->ndim))
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "the chunk's sizes are not those that .metadata says");
  return CKPT_OK;
}

/* What was saved by one rank alone is taken over as it is; requires_grad stands in .metadata only. */
static ckpt_status take_whole(ckpt_value **out, ckpt_dcp *dcp, const ckpt_dcp_entry *e, const ckpt_value *v,
                              ckpt_error *err) {
  ckpt_tensor *t = NULL;
  if (!e->requires_grad || ckpt_dtype_rebuild(e->dtype) == CKPT_REBUILD_Q)
    return ckpt_value_clone(out, dcp->doc, v, err);
  CKPT_TRY(ckpt_tensor_with_grad(&t, ckpt_value_tensor(v), true, err));
  ckpt_status st = ckpt_value_new_tensor(out, dcp->doc, t, err);
  ckpt_tensor_release(t);
  return st;
}

static ckpt_status read_whole(ckpt_value **out, ckpt_dcp *dcp, int dir, const ckpt_dcp_entry *e, ckpt_error *err) {
  ckpt_document *doc = NULL;
  CKPT_TRY(read_item(&doc, dcp, dir, e->chunks[0].item, err));
  ckpt_status st = check_part(e, &e->chunks[0], ckpt_document_root(doc), err);
  if (st == CKPT_OK) st = take_whole(out, dcp, e, ckpt_document_root(doc), err);
  ckpt_document_release(doc);
  return in_item(st, e->chunks[0].item, err);
}

static ckpt_status read_part(ckpt_tensor **out, ckpt_dcp *dcp, int dir, const ckpt_dcp_entry *e, size_t i,
                             ckpt_error *err) {
  const ckpt_dcp_chunk *c = &e->chunks[i];
  ckpt_document *doc = NULL;
  if (c->item == NULL) return CKPT_OK;
  CKPT_TRY(read_item(&doc, dcp, dir, c->item, err));
  ckpt_status st = check_part(e, c, ckpt_document_root(doc), err);
  if (st == CKPT_OK) *out = ckpt_tensor_retain(ckpt_value_tensor(ckpt_document_root(doc)));
  ckpt_document_release(doc);
  return in_item(st, c->item, err);
}

static ckpt_status join_parts(ckpt_value **out, ckpt_dcp *dcp, int dir, const ckpt_dcp_entry *e, ckpt_tensor **parts,
                              ckpt_error *err) {
  ckpt_tensor *t = NULL;
  for (size_t i = 0; i < e->n_chunks; i++) CKPT_TRY(read_part(&parts[i], dcp, dir, e, i, err));
  CKPT_TRY(ckpt_dcp_join(&t, e, parts, err));
  ckpt_status st = ckpt_value_new_tensor(out, dcp->doc, t, err);
  ckpt_tensor_release(t);
  return st;
}

static ckpt_status read_joined(ckpt_value **out, ckpt_dcp *dcp, int dir, const ckpt_dcp_entry *e, ckpt_error *err) {
  ckpt_tensor **parts = calloc(e->n_chunks + 1, sizeof(ckpt_tensor *));
  if (parts == NULL) return ckpt_fail_nomem(err, e->n_chunks * sizeof(ckpt_tensor *));
  ckpt_status st = join_parts(out, dcp, dir, e, parts, err);
  for (size_t i = 0; i < e->n_chunks; i++) ckpt_tensor_release(parts[i]);
  free(parts);
  return st;
}

static ckpt_status read_tensor(ckpt_value **out, ckpt_dcp *dcp, int dir, const ckpt_dcp_entry *e, ckpt_error *err) {
  ckpt_status st = ckpt_dcp_check_chunks(e, err);
  if (st != CKPT_OK) {
    char where[240];
    snprintf(where, sizeof where, ".metadata: '%.200s'", e->fqn);
    return ckpt_fail_in(err, st, where);
  }
  return ckpt_dcp_is_whole(e) ? read_whole(out, dcp, dir, e, err) : read_joined(out, dcp, dir, e, err);
}

static ckpt_status read_object(ckpt_value **out, ckpt_dcp *dcp, int dir, const ckpt_dcp_entry *e, ckpt_error *err) {
  ckpt_document *doc = NULL;
  CKPT_TRY(read_item(&doc, dcp, dir, e->item, err));
  ckpt_status st = ckpt_value_clone(out, dcp->doc, ckpt_document_root(doc), err);
  ckpt_document_release(doc);
  return st;
}

static ckpt_status read_entries(ckpt_dcp *dcp, int dir, ckpt_error *err) {
  ckpt_dcp_nest nest = {.doc = dcp->doc};
  CKPT_TRY(ckpt_value_new_dict(&nest.root, dcp->doc, false, err));
  for (size_t i = 0; i < dcp->meta.n; i++) {
    const ckpt_dcp_entry *e = &dcp->meta.entries[i];
    ckpt_value *v = NULL;
    CKPT_TRY(e->tensor ? read_tensor(&v, dcp, dir, e, err) : read_object(&v, dcp, dir, e, err));
    CKPT_TRY(ckpt_dcp_nest_put(&nest, e->fqn, e->path, v, err));
  }
  ckpt_document_set_root(dcp->doc, nest.root);
  return CKPT_OK;
}

/* ---- the directory ---- */

static ckpt_status read_metadata(ckpt_dcp *dcp, int dir, ckpt_error *err) {
  ckpt_mapping *map = NULL;
  CKPT_TRY(ckpt_mapping_open_at(&map, dir, ".metadata", err));
  ckpt_mapping_set_trust(map, &dcp->trust);
  ckpt_status st = ckpt_dcp_meta_read(&dcp->meta, map, err);
  dcp->bytes = ckpt_mapping_size(map);
  ckpt_mapping_release(map);
  return st;
}

static ckpt_status read_directory(ckpt_dcp *dcp, int dir, ckpt_error *err) {
  CKPT_TRY(read_metadata(dcp, dir, err));
  CKPT_TRY(ckpt_document_new(&dcp->doc, err));
  return read_entries(dcp, dir, err);
}

ckpt_status ckpt_dcp_open(ckpt_dcp **out, const char *dir, const ckpt_trust *trust, ckpt_error *err) {
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return ckpt_fail_errno(err, errno, "the directory cannot be opened");
  ckpt_dcp *dcp = calloc(1, sizeof *dcp);
  if (dcp != NULL) dcp->trust = *trust;
  ckpt_status st = dcp == NULL ? ckpt_fail_nomem(err, sizeof *dcp) : read_directory(dcp, fd, err);
  close(fd);
  if (st == CKPT_OK)
    *out = dcp;
  else
    ckpt_dcp_close(dcp);
  return st;
}

void ckpt_dcp_close(ckpt_dcp *dcp) {
  if (dcp == NULL) return;
  ckpt_document_release(dcp->doc);
  for (size_t i = 0; i < dcp->n_items; i++) ckpt_zip_release(dcp->items[i].zip);
  for (size_t i = 0; i < dcp->n_files; i++) ckpt_mapping_release(dcp->files[i]);
  ckpt_strmap_free(&dcp->names);
  ckpt_dcp_meta_free(&dcp->meta);
  free(dcp->items);
  free(dcp->files);
  free(dcp);
}

ckpt_document *ckpt_dcp_document(const ckpt_dcp *dcp) { return dcp->doc; }
uint64_t ckpt_dcp_bytes(const ckpt_dcp *dcp) { return dcp->bytes; }

static ckpt_status verify_item(const opened *o, ckpt_error *err) {
  for (size_t i = 0; i < ckpt_zip_count(o->zip); i++) CKPT_TRY(ckpt_zip_check(o->zip, i, err));
  return CKPT_OK;
}

ckpt_status ckpt_dcp_verify(const ckpt_dcp *dcp, ckpt_error *err) {
  for (size_t i = 0; i < dcp->n_items; i++)
    CKPT_TRY(in_item(verify_item(&dcp->items[i], err), dcp->items[i].item, err));
  return CKPT_OK;
}

/* ---- detection ---- */

static bool holds_metadata(const char *dir) {
  struct stat st;
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  bool found = fd >= 0 && fstatat(fd, ".metadata", &st, 0) == 0 && S_ISREG(st.st_mode);
  if (fd >= 0) close(fd);
  return found;
}

ckpt_status ckpt_dcp_find(char **dir, const char *path, ckpt_error *err) {
  const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
  bool file = strcmp(name, ".metadata") == 0;
  size_t n = !file ? strlen(path) : slash == NULL ? 1 : slash == path ? 1 : (size_t)(slash - path);
  char *copy = malloc(n + 1);
  if (copy == NULL) return ckpt_fail_nomem(err, n + 1);
  memcpy(copy, file && slash == NULL ? "." : path, n);
  copy[n] = '\0';
  bool found = holds_metadata(copy);
  if (!found) free(copy);
  *dir = found ? copy : NULL;
  return CKPT_OK;
}
