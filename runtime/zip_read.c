/*
 * zip_read.c - see zip_read.h. libzip is not thread-safe, so all calls into it after open are under one mutex; what it
 * found is remembered per entry and then read without it.
 */
#include "zip_read.h"

#include <libdeflate.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <zip.h>

#include "strmap.h"

enum { MAX_ENTRIES = 1 << 24, MAX_RATIO = 1032 /* deflate's limit */, DEFLATE_SLACK = 4096 };

typedef struct entry {
  ckpt_zip_entry info;
  _Atomic(const unsigned char *) span;
} entry;

struct ckpt_zip {
  atomic_int refs;
  ckpt_mapping *map;
  const unsigned char *base; /* bytes of the archive */
  size_t size, at, last_read; /* at: our source's position; last_read: where libzip read last */
  zip_t *zip;
  zip_error_t source_error;
  pthread_mutex_t lock;
  entry *entries;
  size_t n;
  ckpt_strmap names;
};

/* ---- the source ---- */

static zip_int64_t source_read(ckpt_zip *z, void *data, zip_uint64_t n) {
  size_t left = z->size - z->at;
  if (n > left) n = left;
  if (n > 0) memcpy(data, z->base + z->at, (size_t)n);
  z->last_read = z->at;
  z->at += (size_t)n;
  return (zip_int64_t)n;
}

static zip_int64_t source_seek(ckpt_zip *z, void *data, zip_uint64_t n) {
  zip_int64_t to = zip_source_seek_compute_offset(z->at, z->size, data, n, &z->source_error);
  if (to < 0) return -1;
  z->at = (size_t)to;
  return 0;
}

static zip_int64_t source_stat(const ckpt_zip *z, void *data) {
  zip_stat_t *st = data;
  zip_stat_init(st);
  st->valid = ZIP_STAT_SIZE;
  st->size = z->size;
  return sizeof *st;
}

static zip_int64_t source(void *user, void *data, zip_uint64_t n, zip_source_cmd_t cmd) {
  ckpt_zip *z = user;
  switch (cmd) {
    case ZIP_SOURCE_OPEN: z->at = 0; return 0;
    case ZIP_SOURCE_READ: return source_read(z, data, n);
    case ZIP_SOURCE_SEEK: return source_seek(z, data, n);
    case ZIP_SOURCE_TELL: return (zip_int64_t)z->at;
    case ZIP_SOURCE_STAT: return source_stat(z, data);
    case ZIP_SOURCE_ERROR: return zip_error_to_data(&z->source_error, data, n);
    case ZIP_SOURCE_CLOSE:
    case ZIP_SOURCE_FREE: return 0;
    case ZIP_SOURCE_SUPPORTS:
      return zip_source_make_command_bitmap(ZIP_SOURCE_OPEN, ZIP_SOURCE_READ, ZIP_SOURCE_CLOSE, ZIP_SOURCE_STAT,
                                            ZIP_SOURCE_ERROR, ZIP_SOURCE_FREE, ZIP_SOURCE_SEEK, ZIP_SOURCE_TELL,
                                            ZIP_SOURCE_SUPPORTS, -1);
    default: zip_error_set(&z->source_error, ZIP_ER_OPNOTSUPP, 0); return -1;
  }
}

/* ---- opening ---- */

static bool has_end_record(const ckpt_zip *z) {
  size_t low = z->size > 65557 ? z->size - 65557 : 0; /* end record and the longest comment */
  for (size_t i = z->size; i-- > low;)
    if (z->size - i >= 22 && memcmp(z->base + i, "PK\5\6", 4) == 0) return true;
  return false;
}

static ckpt_status open_failed(const ckpt_zip *z, zip_error_t *ze, ckpt_error *err) {
  const char *text = zip_error_strerror(ze);
  if (zip_error_code_zip(ze) == ZIP_ER_MEMORY) return ckpt_fail_nomem(err, z->size);
  if (!has_end_record(z))
    return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)z->size, "zip end record missing at byte %zu, the file ends early",
                     z->size);
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "the zip directory is damaged (libzip: %s)", text);
}

static ckpt_status open_archive(ckpt_zip *z, ckpt_error *err) {
  zip_error_t ze;
  zip_error_init(&ze);
  zip_source_t *src = zip_source_function_create(source, z, &ze);
  if (src != NULL) z->zip = zip_open_from_source(src, ZIP_RDONLY | ZIP_CHECKCONS, &ze);
  ckpt_status st = z->zip == NULL ? open_failed(z, &ze, err) : CKPT_OK;
  if (z->zip == NULL) zip_source_free(src);
  zip_error_fini(&ze);
  return st;
}

static ckpt_status refuse(const zip_stat_t *st, ckpt_status status, const char *why, ckpt_error *err) {
  return ckpt_fail(err, status, -1, "record '%.200s': %s", st->name, why);
}

static bool is_directory(const ckpt_zip *z, const zip_stat_t *st) {
  zip_uint8_t system;
  zip_uint32_t attributes = 0;
  size_t n = strlen(st->name);
  zip_file_get_external_attributes(z->zip, st->index, 0, &system, &attributes);
  return (n > 0 && st->name[n - 1] == '/') || ((attributes & 0x10) != 0 && system == ZIP_OPSYS_DOS);
}

static ckpt_status check_entry(const ckpt_zip *z, const zip_stat_t *st, ckpt_error *err) {
  const zip_uint64_t need = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_CRC;
  if ((st->valid & need) != need) return refuse(st, CKPT_E_CORRUPT, "its directory entry is incomplete", err);
  if (st->comp_method != ZIP_CM_STORE && st->comp_method != ZIP_CM_DEFLATE)
    return refuse(st, CKPT_E_UNSUPPORTED, "neither stored nor deflated", err);
  if ((st->valid & ZIP_STAT_ENCRYPTION_METHOD) != 0 && st->encryption_method != ZIP_EM_NONE)
    return refuse(st, CKPT_E_UNSUPPORTED, "encrypted", err);
  if (st->comp_size > z->size) return refuse(st, CKPT_E_CORRUPT, "longer than the whole file", err);
  if (st->comp_method == ZIP_CM_STORE && st->comp_size != st->size)
    return refuse(st, CKPT_E_CORRUPT, "stored, but with two different sizes", err);
  if (st->size > 0 && st->comp_size == 0) return refuse(st, CKPT_E_CORRUPT, "has a size but no bytes", err);
  if (st->size > 0 && is_directory(z, st)) return refuse(st, CKPT_E_CORRUPT, "a directory with contents", err);
  return CKPT_OK;
}

static ckpt_status read_entry(ckpt_zip *z, size_t i, ckpt_error *err) {
  zip_stat_t st;
  zip_stat_init(&st);
  if (zip_stat_index(z->zip, i, ZIP_FL_ENC_RAW, &st) != 0)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "zip entry %zu: %s", i, zip_strerror(z->zip));
  CKPT_TRY(check_entry(z, &st, err));
  z->entries[i].info = (ckpt_zip_entry){st.name, st.size, st.comp_size, st.crc, st.comp_method == ZIP_CM_STORE};
  if (ckpt_strmap_get(&z->names, st.name, strlen(st.name)) != SIZE_MAX)
    return refuse(&st, CKPT_E_CORRUPT, "there are two of that name", err);
  return ckpt_strmap_set(&z->names, st.name, strlen(st.name), i, err);
}

/* PyTorch looks records up without regard to ASCII case, so two such names would make it choose at random. */
static ckpt_status check_folded(const ckpt_zip *z, ckpt_error *err) {
  ckpt_strmap folded = {0};
  size_t total = 0, at = 0;
  for (size_t i = 0; i < z->n; i++) total += strlen(z->entries[i].info.name) + 1;
  char *text = malloc(total + 1);
  ckpt_status st = text == NULL ? ckpt_fail_nomem(err, total) : CKPT_OK;
  for (size_t i = 0; st == CKPT_OK && i < z->n; i++) {
    const char *name = z->entries[i].info.name;
    size_t n = strlen(name);
    for (size_t k = 0; k <= n; k++) text[at + k] = (char)(name[k] >= 'A' && name[k] <= 'Z' ? name[k] + 32 : name[k]);
    if (ckpt_strmap_get(&folded, text + at, n) != SIZE_MAX)
      st = ckpt_fail(err, CKPT_E_CORRUPT, -1, "record '%.200s': another name differs only in case", name);
    else
      st = ckpt_strmap_set(&folded, text + at, n, i, err);
    at += n + 1;
  }
  ckpt_strmap_free(&folded);
  free(text);
  return st;
}

static ckpt_status read_directory(ckpt_zip *z, ckpt_error *err) {
  zip_int64_t n = zip_get_num_entries(z->zip, 0);
  if (n < 0 || n > MAX_ENTRIES) return ckpt_fail(err, CKPT_E_LIMIT, -1, "a zip archive of %lld entries", (long long)n);
  z->entries = calloc((size_t)n + 1, sizeof *z->entries);
  if (z->entries == NULL) return ckpt_fail_nomem(err, ((size_t)n + 1) * sizeof *z->entries);
  z->n = (size_t)n;
  for (size_t i = 0; i < z->n; i++) CKPT_TRY(read_entry(z, i, err));
  return check_folded(z, err);
}

ckpt_status ckpt_zip_open(ckpt_zip **out, ckpt_mapping *map, size_t offset, size_t size, ckpt_error *err) {
  const unsigned char *base = ckpt_mapping_data(map) + offset;
  if (size < 4 || memcmp(base, "PK\3\4", 4) != 0) return ckpt_fail(err, CKPT_E_FORMAT, 0, "not a zip archive");
  ckpt_zip *z = calloc(1, sizeof *z);
  if (z == NULL) return ckpt_fail_nomem(err, sizeof *z);
  atomic_init(&z->refs, 1);
  pthread_mutex_init(&z->lock, NULL);
  zip_error_init(&z->source_error);
  z->map = ckpt_mapping_retain(map);
  z->base = base;
  z->size = size;
  ckpt_status st = open_archive(z, err);
  if (st == CKPT_OK) st = read_directory(z, err);
  if (st != CKPT_OK) {
    ckpt_zip_release(z);
    return st;
  }
  *out = z;
  return CKPT_OK;
}

ckpt_zip *ckpt_zip_retain(ckpt_zip *z) {
  atomic_fetch_add_explicit(&z->refs, 1, memory_order_relaxed);
  return z;
}

void ckpt_zip_release(ckpt_zip *z) {
  if (z == NULL || atomic_fetch_sub_explicit(&z->refs, 1, memory_order_acq_rel) != 1) return;
  if (z->zip != NULL) zip_discard(z->zip);
  zip_error_fini(&z->source_error);
  pthread_mutex_destroy(&z->lock);
  ckpt_strmap_free(&z->names);
  free(z->entries);
  ckpt_mapping_release(z->map);
  free(z);
}

size_t ckpt_zip_count(const ckpt_zip *z) { return z->n; }
const ckpt_zip_entry *ckpt_zip_entry_at(const ckpt_zip *z, size_t i) { return &z->entries[i].info; }
size_t ckpt_zip_find(const ckpt_zip *z, const char *name) { return ckpt_strmap_get(&z->names, name, strlen(name)); }

/* ---- bytes ---- */

static ckpt_status record_failed(const ckpt_zip *z, size_t i, const char *why, ckpt_error *err) {
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "record '%.200s': %s", z->entries[i].info.name, why);
}

/* Lets libzip read one byte of the raw member and notes where it looked. Under the lock. */
static ckpt_status locate(const unsigned char **out, ckpt_zip *z, size_t i, ckpt_error *err) {
  const ckpt_zip_entry *e = &z->entries[i].info;
  unsigned char byte;
  if (e->size == 0) {
    *out = z->base;
    return CKPT_OK;
  }
  zip_file_t *f = zip_fopen_index(z->zip, i, ZIP_FL_COMPRESSED);
  if (f == NULL) return record_failed(z, i, zip_strerror(z->zip), err);
  zip_int64_t got = zip_fread(f, &byte, 1);
  size_t at = z->last_read;
  zip_fclose(f);
  if (got != 1 || at > z->size || e->size > z->size - at || z->base[at] != byte)
    return record_failed(z, i, "its bytes do not lie inside the file", err);
  *out = z->base + at;
  return CKPT_OK;
}

ckpt_status ckpt_zip_span(const unsigned char **out, ckpt_zip *z, size_t i, ckpt_error *err) {
  entry *e = &z->entries[i];
  const unsigned char *span = atomic_load_explicit(&e->span, memory_order_acquire);
  if (span == NULL) {
    if (!e->info.stored) return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "record '%.200s' is deflated", e->info.name);
    pthread_mutex_lock(&z->lock);
    ckpt_status st = locate(&span, z, i, err);
    pthread_mutex_unlock(&z->lock);
    if (st != CKPT_OK) return st;
    atomic_store_explicit(&e->span, span, memory_order_release);
  }
  *out = span;
  return CKPT_OK;
}

static ckpt_status check_crc(const ckpt_zip *z, size_t i, const unsigned char *bytes, ckpt_error *err) {
  const ckpt_zip_entry *e = &z->entries[i].info;
  uint32_t crc = libdeflate_crc32(0, bytes, (size_t)e->size);
  if (e->crc == 0 || crc == e->crc) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_CORRUPT, e->stored ? (int64_t)(bytes - z->base) : -1,
                   "record '%.200s': its CRC-32 is %08x, the directory says %08x: the bytes have changed", e->name, crc,
                   e->crc);
}

/* Inflates through libzip, which checks the CRC as well. Under the lock. */
static ckpt_status inflate_record(unsigned char *to, ckpt_zip *z, size_t i, ckpt_error *err) {
  uint64_t size = z->entries[i].info.size;
  unsigned char extra;
  zip_file_t *f = zip_fopen_index(z->zip, i, 0);
  if (f == NULL) return record_failed(z, i, zip_strerror(z->zip), err);
  zip_int64_t got = zip_fread(f, to, size);
  bool exact = got >= 0 && (uint64_t)got == size && zip_fread(f, &extra, 1) == 0;
  ckpt_status st = CKPT_OK;
  if (!exact) {
    const char *why = zip_error_code_zip(zip_file_get_error(f)) == 0 ? "it does not inflate to the size it states"
                                                                    : zip_file_strerror(f);
    st = record_failed(z, i, why, err);
  }
  zip_fclose(f);
  return st;
}

static ckpt_status read_stored(unsigned char *to, ckpt_zip *z, size_t i, ckpt_error *err) {
  const unsigned char *span = NULL;
  CKPT_TRY(ckpt_zip_span(&span, z, i, err));
  CKPT_TRY(check_crc(z, i, span, err));
  memcpy(to, span, (size_t)z->entries[i].info.size);
  return CKPT_OK;
}

static ckpt_status read_deflated(unsigned char *to, ckpt_zip *z, size_t i, ckpt_error *err) {
  pthread_mutex_lock(&z->lock);
  ckpt_status st = inflate_record(to, z, i, err);
  pthread_mutex_unlock(&z->lock);
  return st;
}

ckpt_status ckpt_zip_read(unsigned char **out, ckpt_zip *z, size_t i, ckpt_error *err) {
  const ckpt_zip_entry *e = &z->entries[i].info;
  if (!e->stored && e->size > DEFLATE_SLACK && e->size / MAX_RATIO > e->packed)
    return ckpt_fail(err, CKPT_E_LIMIT, -1, "record '%.200s' claims to inflate from %llu to %llu bytes", e->name,
                     (unsigned long long)e->packed, (unsigned long long)e->size);
  unsigned char *bytes = malloc((size_t)e->size + 1);
  if (bytes == NULL) return ckpt_fail_nomem(err, (size_t)e->size + 1);
  ckpt_status st = e->stored ? read_stored(bytes, z, i, err) : read_deflated(bytes, z, i, err);
  if (st != CKPT_OK) {
    free(bytes);
    return st;
  }
  *out = bytes;
  return CKPT_OK;
}

ckpt_status ckpt_zip_check(ckpt_zip *z, size_t i, ckpt_error *err) {
  if (z->entries[i].info.stored) {
    const unsigned char *span = NULL;
    CKPT_TRY(ckpt_zip_span(&span, z, i, err));
    return check_crc(z, i, span, err);
  }
  unsigned char *bytes = NULL;
  CKPT_TRY(ckpt_zip_read(&bytes, z, i, err));
  free(bytes);
  return CKPT_OK;
}
