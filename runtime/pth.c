/* pth.c - see pth.h. */
#include "pth.h"

#include <stdio.h>
#include <stdlib.h>

#include "stream.h"
#include "torch_build.h"
#include "torchscript.h"

/* ---- read ---- */

static ckpt_status read_pickle(ckpt_document *doc, ckpt_archive *a, const unsigned char *bytes, size_t n,
                               ckpt_error *err) {
  ckpt_torch_builder *builder = NULL;
  CKPT_TRY(ckpt_torch_builder_new(&builder, doc, ckpt_archive_storage, a, err));
  ckpt_pickle_hooks hooks = ckpt_torch_builder_hooks(builder);
  ckpt_value *root = NULL;
  ckpt_status st = ckpt_pickle_read(&root, NULL, doc, bytes, n, "data.pkl", &hooks, err);
  if (st == CKPT_OK) ckpt_document_set_root(doc, root);
  ckpt_torch_builder_free(builder);
  return st;
}

/* The archive of torch.save. */
static ckpt_status read_saved(ckpt_document **out, ckpt_archive *a, ckpt_error *err) {
  const unsigned char *bytes = NULL;
  unsigned char *heap = NULL;
  size_t n = 0, i = ckpt_archive_find(a, "data.pkl");
  ckpt_document *doc = NULL;
  if (i == SIZE_MAX) return ckpt_fail(err, CKPT_E_FORMAT, -1, "record '%s/data.pkl' is missing", a->prefix);
  CKPT_TRY(ckpt_archive_bytes(&bytes, &n, &heap, a, i, err));
  ckpt_status st = ckpt_document_make(&doc, ckpt_pickle_memory_limit(n), err);
  if (st == CKPT_OK) ckpt_document_set_limits(doc, &ckpt_zip_trust(a->zip)->limits);
  if (st == CKPT_OK) st = read_pickle(doc, a, bytes, n, err);
  free(heap);
  if (st != CKPT_OK) {
    ckpt_document_release(doc);
    return st;
  }
  *out = doc;
  return CKPT_OK;
}

ckpt_status ckpt_pth_read(ckpt_document **out, const char **format, ckpt_zip *zip, ckpt_error *err) {
  ckpt_archive a;
  CKPT_TRY(ckpt_archive_open(&a, zip, err));
  bool script = ckpt_torchscript_is(&a);
  CKPT_TRY(script ? ckpt_torchscript_read(out, &a, err) : read_saved(out, &a, err));
  *format = script ? "torchscript" : "torch-zip";
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

/* "data/0", "data/1", ...: each name is the one before, counted up. */
typedef struct counted_name {
  char text[40];
  size_t n;
} counted_name;

static const counted_name first_name = {"data/0", 6};

static void count_up(counted_name *name) {
  size_t at = name->n;
  while (name->text[--at] == '9') name->text[at] = '0';
  if (name->text[at] != '/') {
    name->text[at]++;
    return;
  }
  name->text[at + 1] = '1'; /* a digit more, all others are 0 by now */
  name->text[name->n++] = '0';
  name->text[name->n] = '\0';
}

static ckpt_status fill_storage(ckpt_sink *to, void *storage, ckpt_error *err) {
  return ckpt_storage_stream(to, storage, 0, ckpt_storage_size(storage), err);
}

/* What had to be inflated is let go again: of a large checkpoint one storage is in memory at a time. */
static ckpt_status write_whole(ckpt_zip_writer *w, const char *name, ckpt_storage *storage, ckpt_error *err) {
  const unsigned char *data = NULL;
  void *owned = NULL;
  CKPT_TRY(ckpt_storage_read(&data, &owned, storage, err));
  ckpt_status st = ckpt_zip_writer_add_storage(w, name, storage, data, err);
  free(owned);
  return st;
}

static ckpt_status write_storage(ckpt_zip_writer *w, const char *name, ckpt_storage *storage, ckpt_error *err) {
  bool computed = !ckpt_storage_lies(storage) && ckpt_storage_streams(storage);
  if (!computed) return write_whole(w, name, storage, err);
  return ckpt_zip_writer_add_from(w, name, ckpt_storage_size(storage), fill_storage, storage, err);
}

static ckpt_status write_storages(ckpt_zip_writer *w, const ckpt_pickle *pickle, ckpt_error *err) {
  counted_name name = first_name;
  for (size_t i = 0; i < pickle->n_storages; i++, count_up(&name))
    CKPT_TRY(write_storage(w, name.text, pickle->storages[i], err));
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

/* Of all records, in the order in which they are written. */
static bool measure_all(ckpt_zip_measure *m, const ckpt_pickle *pickle) {
  counted_name name = first_name;
  bool fits = ckpt_zip_measure_add(m, strlen("data.pkl"), pickle->n);
  for (size_t i = 0; i < CKPT_COUNTOF(before); i++)
    fits = fits && ckpt_zip_measure_add(m, strlen(before[i].name), strlen(before[i].text));
  for (size_t i = 0; fits && i < pickle->n_storages; i++, count_up(&name))
    fits = ckpt_zip_measure_add(m, name.n, ckpt_storage_size(pickle->storages[i]));
  for (size_t i = 0; i < CKPT_COUNTOF(after); i++)
    fits = fits && ckpt_zip_measure_add(m, strlen(after[i].name), strlen(after[i].text));
  return fits;
}

ckpt_status ckpt_pth_measure(uint64_t *out, const ckpt_pickle *pickle, const char *prefix, ckpt_error *err) {
  ckpt_zip_measure m = {.prefix_n = strlen(prefix)};
  if (!measure_all(&m, pickle) || !ckpt_zip_measure_end(out, &m))
    return ckpt_fail(err, CKPT_E_LIMIT, -1, "the file would be larger than 2^64 bytes");
  return CKPT_OK;
}

/* ---- before the file gets its name ---- */

/* A ckpt_find_storage among those that are written. */
static ckpt_status find_written(ckpt_storage **out, void *context, const char *key, uint64_t bytes, unsigned swap_unit,
                                ckpt_error *err) {
  const ckpt_pickle *pickle = context;
  (void)swap_unit;
  char *end;
  unsigned long long i = strtoull(key, &end, 10);
  if (*end != '\0' || i >= pickle->n_storages || ckpt_storage_size(pickle->storages[i]) != bytes)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "storage '%s' of %llu bytes is none of those that are written", key,
                     (unsigned long long)bytes);
  *out = ckpt_storage_retain(pickle->storages[i]);
  return CKPT_OK;
}

static ckpt_status rehearse(ckpt_document *doc, const ckpt_pickle *pickle, ckpt_error *err) {
  ckpt_torch_builder *builder = NULL;
  ckpt_value *root = NULL;
  ckpt_pickle context = *pickle; /* only looked at */
  CKPT_TRY(ckpt_torch_builder_new(&builder, doc, find_written, &context, err));
  ckpt_pickle_hooks hooks = ckpt_torch_builder_hooks(builder);
  ckpt_status st = ckpt_pickle_read(&root, NULL, doc, pickle->bytes, pickle->n, "data.pkl", &hooks, err);
  ckpt_torch_builder_free(builder);
  return st;
}

ckpt_status ckpt_pth_rehearse(const ckpt_pickle *pickle, ckpt_error *err) {
  ckpt_document *doc = NULL;
  CKPT_TRY(ckpt_document_make(&doc, ckpt_pickle_memory_limit(pickle->n), err));
  ckpt_status st = rehearse(doc, pickle, err);
  ckpt_document_release(doc);
  return st;
}

static ckpt_status check_pickle(const ckpt_archive *a, const ckpt_pickle *pickle, ckpt_error *err) {
  const unsigned char *bytes = NULL;
  unsigned char *heap = NULL;
  size_t n = 0, i = ckpt_archive_find(a, "data.pkl");
  if (i == SIZE_MAX) return ckpt_fail(err, CKPT_E_CORRUPT, -1, "record '%s/data.pkl' is missing", a->prefix);
  CKPT_TRY(ckpt_archive_bytes(&bytes, &n, &heap, a, i, err));
  bool same = n == pickle->n && memcmp(bytes, pickle->bytes, n) == 0;
  free(heap);
  return same ? CKPT_OK : ckpt_fail(err, CKPT_E_CORRUPT, -1, "the pickle in the file is not the one that was written");
}

static ckpt_status check_records(ckpt_zip *zip, const ckpt_pickle *pickle, ckpt_error *err) {
  ckpt_archive a;
  CKPT_TRY(ckpt_archive_open(&a, zip, err));
  CKPT_TRY(check_pickle(&a, pickle, err));
  counted_name name = first_name;
  for (size_t i = 0; i < pickle->n_storages; i++, count_up(&name)) {
    size_t at = ckpt_archive_next(&a, name.text);
    if (at == SIZE_MAX || ckpt_zip_entry_at(zip, at)->size != ckpt_storage_size(pickle->storages[i]))
      return ckpt_fail(err, CKPT_E_CORRUPT, -1, "record '%s/%s' is missing or of another size than was written",
                       a.prefix, name.text);
  }
  return CKPT_OK;
}

ckpt_status ckpt_pth_check(ckpt_mapping *map, const ckpt_pickle *pickle, ckpt_error *err) {
  ckpt_zip *zip = NULL;
  CKPT_TRY(ckpt_zip_open(&zip, map, 0, ckpt_mapping_size(map), err));
  ckpt_status st = check_records(zip, pickle, err);
  ckpt_zip_release(zip);
  return st;
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
