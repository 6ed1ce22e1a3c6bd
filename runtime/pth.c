/* pth.c - see pth.h. What PyTorch's reader requires is stated at each check. */
#include "pth.h"

#include <stdio.h>
#include <stdlib.h>

#include "torch_build.h"

typedef struct archive {
  ckpt_zip *zip;
  char prefix[256];
  bool big_endian;
} archive;

/* ---- records ---- */

/* Index of P/name, SIZE_MAX if the archive has none. */
static size_t find(const archive *a, const char *name) {
  char full[600];
  int n = snprintf(full, sizeof full, "%s/%s", a->prefix, name);
  return n > 0 && (size_t)n < sizeof full ? ckpt_zip_find(a->zip, full) : SIZE_MAX;
}

/* PyTorch takes the text before the first '/' of the first entry, and wants every entry below it. */
static ckpt_status find_prefix(archive *a, ckpt_error *err) {
  size_t n = ckpt_zip_count(a->zip);
  const char *first = n == 0 ? "" : ckpt_zip_entry_at(a->zip, 0)->name, *slash = strchr(first, '/');
  if (slash == NULL)
    return ckpt_fail(err, CKPT_E_FORMAT, -1, "a zip archive, but not one of PyTorch's: no folder inside");
  size_t length = (size_t)(slash - first);
  if (length >= sizeof a->prefix) return ckpt_fail(err, CKPT_E_LIMIT, -1, "the archive's folder name is too long");
  memcpy(a->prefix, first, length);
  a->prefix[length] = '\0';
  for (size_t i = 0; i < n; i++) {
    const char *name = ckpt_zip_entry_at(a->zip, i)->name;
    if (strncmp(name, first, length + 1) != 0)
      return ckpt_fail(err, CKPT_E_FORMAT, -1, "record '%.100s' lies outside the folder '%.100s'", name, a->prefix);
  }
  return CKPT_OK;
}

/* A small text record, NUL-terminated; *found tells whether it is there. */
static ckpt_status read_text(char *out, size_t size, bool *found, const archive *a, const char *name, ckpt_error *err) {
  size_t i = find(a, name);
  *found = i != SIZE_MAX;
  if (!*found) return CKPT_OK;
  const ckpt_zip_entry *e = ckpt_zip_entry_at(a->zip, i);
  if (e->size >= size) return ckpt_fail(err, CKPT_E_CORRUPT, -1, "record '%s' is longer than it can be", name);
  unsigned char *bytes = NULL;
  CKPT_TRY(ckpt_zip_read(&bytes, a->zip, i, err));
  memcpy(out, bytes, (size_t)e->size);
  out[e->size] = '\0';
  free(bytes);
  return CKPT_OK;
}

/* `.data/version`, else `version`, must be 1 to 10. */
static ckpt_status check_version(const archive *a, ckpt_error *err) {
  char text[32];
  bool found = false;
  CKPT_TRY(read_text(text, sizeof text, &found, a, ".data/version", err));
  if (!found) CKPT_TRY(read_text(text, sizeof text, &found, a, "version", err));
  if (!found) return ckpt_fail(err, CKPT_E_FORMAT, -1, "record '%s/version' is missing", a->prefix);
  long version = strtol(text, NULL, 10);
  if (version < 1) return ckpt_fail(err, CKPT_E_CORRUPT, -1, "record 'version' holds no version number");
  if (version > 10)
    return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "file format version %ld; PyTorch's are 1 to 10", version);
  return CKPT_OK;
}

/* Exactly "little" or "big"; files from before PyTorch 2.1 have none and are little. */
static ckpt_status read_byteorder(archive *a, ckpt_error *err) {
  char text[16];
  bool found = false;
  CKPT_TRY(read_text(text, sizeof text, &found, a, "byteorder", err));
  a->big_endian = found && strcmp(text, "big") == 0;
  if (!found || a->big_endian || strcmp(text, "little") == 0) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "record 'byteorder' must be 'little' or 'big', not '%s'", text);
}

/* Since 2.10 PyTorch wants the record's size to be numel x itemsize exactly. */
static ckpt_status find_storage(ckpt_storage **out, void *context, const char *key, uint64_t bytes, unsigned swap_unit,
                                ckpt_error *err) {
  const archive *a = context;
  char name[300];
  snprintf(name, sizeof name, "data/%s", key);
  size_t i = find(a, name);
  if (i == SIZE_MAX) return ckpt_fail(err, CKPT_E_CORRUPT, -1, "record '%s' of storage '%s' is missing", name, key);
  const ckpt_zip_entry *e = ckpt_zip_entry_at(a->zip, i);
  if (e->size != bytes)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "record '%s' holds %llu bytes, its storage needs %llu", name,
                     (unsigned long long)e->size, (unsigned long long)bytes);
  CKPT_TRY(ckpt_storage_record(out, a->zip, i, err));
  if (a->big_endian) ckpt_storage_set_swap(*out, swap_unit);
  return CKPT_OK;
}

/* The bytes of data.pkl; *heap is to be freed (it is NULL when they lie in the mapping). */
static ckpt_status pickle_bytes(const unsigned char **out, size_t *n, unsigned char **heap, const archive *a,
                                ckpt_error *err) {
  size_t i = find(a, "data.pkl");
  if (i == SIZE_MAX) return ckpt_fail(err, CKPT_E_FORMAT, -1, "record '%s/data.pkl' is missing", a->prefix);
  const ckpt_zip_entry *e = ckpt_zip_entry_at(a->zip, i);
  *n = (size_t)e->size;
  CKPT_TRY(ckpt_zip_check(a->zip, i, err));
  if (e->stored) return ckpt_zip_span(out, a->zip, i, err);
  CKPT_TRY(ckpt_zip_read(heap, a->zip, i, err));
  *out = *heap;
  return CKPT_OK;
}

static ckpt_status read_pickle(ckpt_document *doc, archive *a, const unsigned char *bytes, size_t n, ckpt_error *err) {
  ckpt_torch_builder *builder = NULL;
  CKPT_TRY(ckpt_torch_builder_new(&builder, doc, find_storage, a, err));
  ckpt_pickle_hooks hooks = ckpt_torch_builder_hooks(builder);
  ckpt_value *root = NULL;
  ckpt_status st = ckpt_pickle_read(&root, NULL, doc, bytes, n, "data.pkl", &hooks, err);
  if (st == CKPT_OK) ckpt_document_set_root(doc, root);
  ckpt_torch_builder_free(builder);
  return st;
}

ckpt_status ckpt_pth_read(ckpt_document **out, const char **format, ckpt_zip *zip, ckpt_error *err) {
  archive a = {.zip = zip};
  const unsigned char *bytes = NULL;
  unsigned char *heap = NULL;
  size_t n = 0;
  ckpt_document *doc = NULL;
  CKPT_TRY(find_prefix(&a, err));
  CKPT_TRY(check_version(&a, err));
  CKPT_TRY(read_byteorder(&a, err));
  CKPT_TRY(pickle_bytes(&bytes, &n, &heap, &a, err));
  ckpt_status st = ckpt_document_make(&doc, ckpt_pickle_memory_limit(n), err);
  if (st == CKPT_OK) st = read_pickle(doc, &a, bytes, n, err);
  free(heap);
  if (st != CKPT_OK) {
    ckpt_document_release(doc);
    return st;
  }
  *format = find(&a, "constants.pkl") == SIZE_MAX ? "torch-zip" : "torchscript";
  *out = doc;
  return CKPT_OK;
}

/* ---- writing ---- */

typedef struct fixed_record {
  const char *name, *text;
} fixed_record;

static const fixed_record before[] = {{".format_version", "1"}, {".storage_alignment", "64"}, {"byteorder", "little"}};
static const fixed_record after[] = {{"version", "3\n"}};

static ckpt_status write_fixed(ckpt_zip_writer *w, const fixed_record *records, size_t n, ckpt_error *err) {
  for (size_t i = 0; i < n; i++)
    CKPT_TRY(ckpt_zip_writer_add(w, records[i].name, records[i].text, strlen(records[i].text), err));
  return CKPT_OK;
}

/* What had to be inflated or computed is let go again: of a large checkpoint one storage is in memory at a time. */
static ckpt_status write_storage(ckpt_zip_writer *w, size_t key, ckpt_storage *storage, ckpt_error *err) {
  char name[40];
  const unsigned char *data = NULL;
  void *owned = NULL;
  snprintf(name, sizeof name, "data/%zu", key);
  CKPT_TRY(ckpt_storage_read(&data, &owned, storage, err));
  ckpt_status st = ckpt_zip_writer_add(w, name, data, ckpt_storage_size(storage), err);
  free(owned);
  return st;
}

static ckpt_status write_storages(ckpt_zip_writer *w, const ckpt_pickle *pickle, ckpt_error *err) {
  for (size_t i = 0; i < pickle->n_storages; i++) CKPT_TRY(write_storage(w, i, pickle->storages[i], err));
  return CKPT_OK;
}

static ckpt_status write_all(ckpt_zip_writer *w, const ckpt_pickle *pickle, ckpt_error *err) {
  CKPT_TRY(ckpt_zip_writer_add(w, "data.pkl", pickle->bytes, pickle->n, err));
  CKPT_TRY(write_fixed(w, before, CKPT_COUNTOF(before), err));
  CKPT_TRY(write_storages(w, pickle, err));
  CKPT_TRY(write_fixed(w, after, CKPT_COUNTOF(after), err));
  return ckpt_zip_writer_finish(w, err);
}

ckpt_status ckpt_pth_write(ckpt_sink *sink, const ckpt_pickle *pickle, const char *prefix, ckpt_error *err) {
  ckpt_zip_writer *w = NULL;
  CKPT_TRY(ckpt_zip_writer_new(&w, sink, prefix, err));
  ckpt_status st = write_all(w, pickle, err);
  ckpt_zip_writer_free(w);
  return st;
}

/* Names and sizes of all records, in the order in which they are written. */
typedef struct measure {
  const char **names;
  uint64_t *sizes;
  char (*keys)[32];
  size_t n;
} measure;

static void measure_record(measure *m, const char *name, uint64_t size) {
  m->names[m->n] = name;
  m->sizes[m->n++] = size;
}

static uint64_t measure_all(measure *m, const ckpt_pickle *pickle, const char *prefix) {
  measure_record(m, "data.pkl", pickle->n);
  for (size_t i = 0; i < CKPT_COUNTOF(before); i++) measure_record(m, before[i].name, strlen(before[i].text));
  for (size_t i = 0; i < pickle->n_storages; i++) {
    snprintf(m->keys[i], sizeof m->keys[i], "data/%zu", i);
    measure_record(m, m->keys[i], ckpt_storage_size(pickle->storages[i]));
  }
  for (size_t i = 0; i < CKPT_COUNTOF(after); i++) measure_record(m, after[i].name, strlen(after[i].text));
  return ckpt_zip_writer_measure(prefix, m->n, m->names, m->sizes);
}

ckpt_status ckpt_pth_measure(uint64_t *out, const ckpt_pickle *pickle, const char *prefix, ckpt_error *err) {
  size_t n = pickle->n_storages + CKPT_COUNTOF(before) + CKPT_COUNTOF(after) + 1;
  measure m = {calloc(n, sizeof *m.names), calloc(n, sizeof *m.sizes), calloc(n, sizeof *m.keys), 0};
  bool made = m.names != NULL && m.sizes != NULL && m.keys != NULL;
  uint64_t size = made ? measure_all(&m, pickle, prefix) : 0;
  free(m.names);
  free(m.sizes);
  free(m.keys);
  if (!made) return ckpt_fail_nomem(err, n * sizeof *m.keys);
  if (size == 0) return ckpt_fail(err, CKPT_E_LIMIT, -1, "the file would be larger than 2^64 bytes");
  *out = size;
  return CKPT_OK;
}

ckpt_status ckpt_pth_prefix(char *out, size_t size, const char *path, ckpt_error *err) {
  const char *base = path;
  bool ascii = true;
  for (const char *p = path; *p != '\0'; p++) {
    if (*p == '/' || *p == '\\') base = p + 1;
    ascii &= (unsigned char)*p < 0x80;
  }
  const char *dot = strrchr(base, '.');
  size_t n = dot == NULL ? strlen(base) : (size_t)(dot - base);
  if (!ascii) {
    base = "archive";
    n = strlen(base);
  }
  if (n == 0 || n >= size)
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1,
                     "'%.200s' gives the archive inside no name: it must have 1 to %zu characters", path, size - 1);
  memcpy(out, base, n);
  out[n] = '\0';
  return CKPT_OK;
}
