/* pth_archive.c - see pth_archive.h. What PyTorch's reader requires is stated at each check. */
#include "pth_archive.h"

#include <stdio.h>
#include <stdlib.h>

/* Joins parts by '/'; false if there is no room. */
static bool join(char *out, size_t size, const char *const *parts, size_t n) {
  size_t at = 0;
  for (size_t i = 0; i < n; i++) {
    size_t length = strlen(parts[i]);
    if (length >= size - at - 1) return false;
    if (i > 0) out[at++] = '/';
    memcpy(out + at, parts[i], length);
    at += length;
  }
  out[at] = '\0';
  return true;
}

size_t ckpt_archive_find(const ckpt_archive *a, const char *name) {
  char full[600];
  const char *const parts[] = {a->prefix, name};
  return join(full, sizeof full, parts, 2) ? ckpt_zip_find(a->zip, full) : SIZE_MAX;
}

size_t ckpt_archive_next(ckpt_archive *a, const char *name) {
  char full[600];
  const char *const parts[] = {a->prefix, name};
  if (!join(full, sizeof full, parts, 2)) return SIZE_MAX;
  size_t next = a->last + 1, n = ckpt_zip_count(a->zip);
  bool is_next = next < n && strcmp(ckpt_zip_entry_at(a->zip, next)->name, full) == 0;
  size_t found = is_next ? next : ckpt_zip_find(a->zip, full);
  if (found != SIZE_MAX) a->last = found;
  return found;
}

/* Pickles name their storages in the order of the records. */
static size_t find_storage(ckpt_archive *a, const char *key) {
  char name[300];
  const char *const parts[] = {a->storages, key};
  return join(name, sizeof name, parts, 2) ? ckpt_archive_next(a, name) : SIZE_MAX;
}

/* PyTorch takes the text before the first '/' of the first entry, and wants every entry below it. */
static ckpt_status find_prefix(ckpt_archive *a, ckpt_error *err) {
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
static ckpt_status read_text(char *out, size_t size, bool *found, const ckpt_archive *a, const char *name,
                             ckpt_error *err) {
  size_t i = ckpt_archive_find(a, name);
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
static ckpt_status check_version(const ckpt_archive *a, ckpt_error *err) {
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
static ckpt_status read_byteorder(ckpt_archive *a, ckpt_error *err) {
  char text[16];
  bool found = false;
  CKPT_TRY(read_text(text, sizeof text, &found, a, "byteorder", err));
  a->big_endian = found && strcmp(text, "big") == 0;
  if (!found || a->big_endian || strcmp(text, "little") == 0) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "record 'byteorder' must be 'little' or 'big', not '%s'", text);
}

/* Since 2.10 PyTorch wants the record's size to be numel x itemsize exactly. */
ckpt_status ckpt_archive_storage(ckpt_storage **out, void *context, const char *key, uint64_t bytes, unsigned swap_unit,
                                 ckpt_error *err) {
  ckpt_archive *a = context;
  size_t i = find_storage(a, key);
  if (i == SIZE_MAX)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "record '%s/%s' of storage '%s' is missing", a->storages, key, key);
  const ckpt_zip_entry *e = ckpt_zip_entry_at(a->zip, i);
  if (e->size != bytes)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "record '%s/%s' holds %llu bytes, its storage needs %llu", a->storages,
                     key, (unsigned long long)e->size, (unsigned long long)bytes);
  CKPT_TRY(ckpt_storage_record(out, a->zip, i, err));
  if (a->big_endian) ckpt_storage_set_swap(*out, swap_unit);
  return CKPT_OK;
}

/* What has the shape of an archive and is none that we read is told by its records. */
static ckpt_status check_kind(const ckpt_archive *a, ckpt_error *err) {
  if (ckpt_archive_find(a, ".data/extern_modules") != SIZE_MAX)
    return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1,
                     "a torch.package archive: its objects exist only when the program inside is run");
  if (ckpt_archive_find(a, "model.json") != SIZE_MAX)
    return ckpt_fail(
        err, CKPT_E_UNSUPPORTED, -1,
        "a TorchScript archive of PyTorch 1.0 to 1.3 (with 'model.json'): torch.jit.load and torch.jit.save "
        "of a later PyTorch turn it into one that can be read");
  return CKPT_OK;
}

ckpt_status ckpt_archive_open(ckpt_archive *out, ckpt_zip *zip, ckpt_error *err) {
  ckpt_archive a = {.zip = zip, .storages = "data"};
  CKPT_TRY(find_prefix(&a, err));
  CKPT_TRY(check_kind(&a, err));
  CKPT_TRY(check_version(&a, err));
  CKPT_TRY(read_byteorder(&a, err));
  *out = a;
  return CKPT_OK;
}

ckpt_status ckpt_archive_bytes(const unsigned char **out, size_t *n, unsigned char **heap, const ckpt_archive *a,
                               size_t i, ckpt_error *err) {
  const ckpt_zip_entry *e = ckpt_zip_entry_at(a->zip, i);
  *n = (size_t)e->size;
  CKPT_TRY(ckpt_zip_check(a->zip, i, err));
  if (e->stored) return ckpt_zip_span(out, a->zip, i, err);
  CKPT_TRY(ckpt_zip_read(heap, a->zip, i, err));
  *out = *heap;
  return CKPT_OK;
}
