/*
 * zip_read.c - see zip_read.h. An archive as PyTorch writes it is read by zip_plain.c; this is about all others.
 *
 * libzip opens the archive with ZIP_CHECKCONS: every file that PyTorch writes passes it, and it compares each local
 * header with the directory. Two things it does not check decide whether two readers see the same records, so they are
 * checked here: that there is one end record only, and that records neither overlap nor reach into the directory. All
 * records are therefore located at open (0.3 us each, a quarter of libzip's own time).
 *
 * Invariant: after open, everything but `zip` and `at` is constant. libzip is not thread-safe, so inflating, the only
 * call into it after open, is under the mutex.
 */
#include "zip_read.h"

#include <libdeflate.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <zip.h>

#include "hash.h"
#include "strmap.h"
#include "zip_plain.h"

enum { MAX_RATIO = 1032 /* deflate's limit */, DEFLATE_SLACK = 4096, BLOCK = 1 << 18, FORGET = 4096 };
enum { END_SIZE = 22, END64_SIZE = 56, LOCATOR_SIZE = 20, CENTRAL_SIZE = 46, LOCAL_SIZE = 30, MAX_COMMENT = 65535 };
enum { FLAG_ENCRYPTED = 0x0001, FLAG_PATCH = 0x0020, FLAG_STRONG = 0x0040, FLAG_MASKED = 0x2000 };
enum { DOS_DIRECTORY = 0x10 };
enum { AROUND = 1 << 16 /* what the kernel maps around a page that is looked at */ };

typedef ckpt_zip_place entry;

struct ckpt_zip {
  atomic_int refs;
  ckpt_mapping *map;
  const unsigned char *base;    /* bytes of the archive */
  size_t size, directory;       /* directory: offset of the central directory */
  size_t start;                 /* of the archive in the mapping, from whose first byte positions in errors count */
  size_t at;                    /* our source's position */
  size_t first_seek, last_read; /* where libzip went first since this was set to SIZE_MAX, and read last */
  zip_t *zip;                   /* NULL: a plain archive, which needs none */
  zip_error_t source_error;
  pthread_mutex_t lock;
  entry *entries;
  size_t n;
  char *text;      /* the entries' names, when they are not libzip's */
  uint32_t *table; /* entry numbers + 1 by the hash of their names, 0: free; twice the room that is needed */
  size_t slots;    /* a power of two */
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
  if (z->first_seek == SIZE_MAX) z->first_seek = z->at;
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

/* The last end record as PyTorch looks for it (anything may follow), or SIZE_MAX. */
static size_t last_end(const ckpt_zip *z) {
  size_t low = z->size > END_SIZE + MAX_COMMENT ? z->size - END_SIZE - MAX_COMMENT : 0;
  for (size_t i = z->size < END_SIZE ? 0 : z->size - END_SIZE + 1; i-- > low;)
    if (memcmp(z->base + i, "PK\5\6", 4) == 0) return i;
  return SIZE_MAX;
}

static int64_t position(const ckpt_zip *z, size_t at) { return (int64_t)(z->start + at); }

/* A download that was cut off often ends at a round number. */
static ckpt_status no_end(const ckpt_zip *z, ckpt_error *err) {
  size_t at = z->size < END_SIZE ? 0 : z->size - END_SIZE, mib = z->size >> 20;
  if (mib > 0 && z->size == mib << 20)
    return ckpt_fail(err, CKPT_E_CORRUPT, position(z, at),
                     "zip end record missing at byte %zu, the file ends early (%zu MiB exactly)", z->start + at, mib);
  return ckpt_fail(err, CKPT_E_CORRUPT, position(z, at),
                   "zip end record missing at byte %zu, the file ends early after %zu bytes", z->start + at, z->size);
}

static ckpt_status open_failed(const ckpt_zip *z, zip_error_t *ze, ckpt_error *err) {
  size_t end = last_end(z);
  if (zip_error_code_zip(ze) == ZIP_ER_MEMORY) return ckpt_fail_nomem(err, z->size);
  if (zip_error_code_zip(ze) == ZIP_ER_EXISTS)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "two records of the zip archive have the same name");
  if (end == SIZE_MAX) return no_end(z, err);
  size_t after = z->size - end - END_SIZE, comment = ckpt_le16(z->base + end + 20);
  if (after != comment)
    return ckpt_fail(err, CKPT_E_CORRUPT, position(z, end),
                     "the zip end record at byte %zu is followed by %zu bytes where it announces %zu", z->start + end,
                     after, comment);
  return ckpt_fail(err, CKPT_E_CORRUPT, position(z, end),
                   "the zip directory that the end record at byte %zu describes is damaged (libzip: %s)",
                   z->start + end, zip_error_strerror(ze));
}

static ckpt_status open_archive(ckpt_zip *z, ckpt_error *err) {
  zip_error_t ze;
  zip_error_init(&ze);
  zip_source_t *src = zip_source_function_create(source, z, &ze);
  int check = ckpt_zip_trust(z)->lenient ? 0 : ZIP_CHECKCONS;
  if (src != NULL) z->zip = zip_open_from_source(src, ZIP_RDONLY | check, &ze);
  ckpt_status st = z->zip == NULL ? open_failed(z, &ze, err) : CKPT_OK;
  if (z->zip == NULL) zip_source_free(src);
  zip_error_fini(&ze);
  return st;
}

/* Where the directory lies. libzip takes the best of several end records, PyTorch the last: there must be one. */
static ckpt_status find_directory(ckpt_zip *z, ckpt_error *err) {
  int comment = 0;
  zip_get_archive_comment(z->zip, &comment, ZIP_FL_ENC_RAW);
  size_t end = last_end(z);
  if (comment < 0 || end == SIZE_MAX || z->size - end - END_SIZE != (size_t)comment)
    return ckpt_fail(err, CKPT_E_CORRUPT, position(z, end), "the zip archive has two end records");
  uint64_t at = ckpt_le32(z->base + end + 16);
  if (end >= LOCATOR_SIZE && memcmp(z->base + end - LOCATOR_SIZE, "PK\6\7", 4) == 0) {
    uint64_t end64 = ckpt_le64(z->base + end - LOCATOR_SIZE + 8);
    if (end64 > end || end - end64 < END64_SIZE + LOCATOR_SIZE)
      return ckpt_fail(err, CKPT_E_CORRUPT, position(z, end - LOCATOR_SIZE),
                       "the zip64 locator at byte %zu points outside the file", z->start + end - LOCATOR_SIZE);
    at = ckpt_le64(z->base + end64 + 48);
  }
  if (at > end) return ckpt_fail(err, CKPT_E_CORRUPT, position(z, end), "the zip directory lies outside the file");
  z->directory = (size_t)at;
  return CKPT_OK;
}

static ckpt_status refuse(const ckpt_zip *z, size_t at, const char *name, ckpt_status status, const char *why,
                          ckpt_error *err) {
  return ckpt_fail(err, status, position(z, at), "record '%.200s' (byte %zu): %s", name, z->start + at, why);
}

/* What libzip does not hand out: flags, and the name with its length. `at` is where the entry should be. */
static ckpt_status check_raw(const ckpt_zip *z, size_t at, const char *name, ckpt_error *err) {
  const unsigned char *p = z->base + at;
  size_t n = strlen(name);
  if (z->size - at < CENTRAL_SIZE || memcmp(p, "PK\1\2", 4) != 0)
    return refuse(z, at, name, CKPT_E_CORRUPT, "the directory has no such entry here", err);
  if ((ckpt_le16(p + 8) & (FLAG_ENCRYPTED | FLAG_STRONG | FLAG_MASKED)) != 0)
    return refuse(z, at, name, CKPT_E_UNSUPPORTED, "it is encrypted", err);
  if ((ckpt_le16(p + 8) & FLAG_PATCH) != 0) return refuse(z, at, name, CKPT_E_UNSUPPORTED, "it is a patch", err);
  if (ckpt_le16(p + 28) != n || z->size - at - CENTRAL_SIZE < n || memcmp(p + CENTRAL_SIZE, name, n) != 0)
    return refuse(z, at, name, CKPT_E_CORRUPT, "its name holds a NUL byte or is given twice", err);
  return CKPT_OK;
}

static bool is_directory(const ckpt_zip *z, const zip_stat_t *st) {
  zip_uint8_t system;
  zip_uint32_t attributes = 0;
  size_t n = strlen(st->name);
  zip_file_get_external_attributes(z->zip, st->index, 0, &system, &attributes);
  return (n > 0 && st->name[n - 1] == '/') || (attributes & DOS_DIRECTORY) != 0;
}

static ckpt_status check_entry(const ckpt_zip *z, size_t at, const zip_stat_t *st, ckpt_error *err) {
  const zip_uint64_t need = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_CRC;
  if ((st->valid & need) != need)
    return refuse(z, at, st->name, CKPT_E_CORRUPT, "its directory entry is incomplete", err);
  if (st->comp_method != ZIP_CM_STORE && st->comp_method != ZIP_CM_DEFLATE)
    return refuse(z, at, st->name, CKPT_E_UNSUPPORTED, "it is neither stored nor deflated", err);
  if (st->comp_size > z->size)
    return refuse(z, at, st->name, CKPT_E_CORRUPT, "it is said to be longer than the whole file", err);
  if (st->comp_method == ZIP_CM_STORE && st->comp_size != st->size)
    return refuse(z, at, st->name, CKPT_E_CORRUPT, "it is stored, but its two sizes differ", err);
  if (st->size > 0 && st->comp_size == 0)
    return refuse(z, at, st->name, CKPT_E_CORRUPT, "it has a size but no bytes", err);
  if (st->size > 0 && is_directory(z, st))
    return refuse(z, at, st->name, CKPT_E_CORRUPT, "it is a directory, but has contents", err);
  return CKPT_OK;
}

static bool follows_header(const ckpt_zip *z, size_t header, size_t data) {
  if (header >= z->directory || z->directory - header < LOCAL_SIZE) return false;
  const unsigned char *p = z->base + header;
  return memcmp(p, "PK\3\4", 4) == 0 && data == header + LOCAL_SIZE + ckpt_le16(p + 26) + ckpt_le16(p + 28);
}

/*
 * Lets libzip read one byte of the packed record and notes where it went: first to the local header, last to the
 * bytes. libzip reads nothing for a record without bytes.
 */
static ckpt_status locate(ckpt_zip *z, size_t i, size_t at, ckpt_error *err) {
  entry *e = &z->entries[i];
  unsigned char byte;
  if (e->info.packed == 0) return CKPT_OK;
  z->first_seek = SIZE_MAX;
  zip_file_t *f = zip_fopen_index(z->zip, i, ZIP_FL_COMPRESSED);
  if (f == NULL) return refuse(z, at, e->info.name, CKPT_E_CORRUPT, zip_strerror(z->zip), err);
  zip_int64_t got = zip_fread(f, &byte, 1);
  zip_fclose(f);
  ckpt_mapping_used(z->map, AROUND);
  e->header = z->first_seek;
  e->data = z->last_read;
  if (got != 1 || !follows_header(z, e->header, e->data))
    return refuse(z, at, e->info.name, CKPT_E_CORRUPT, "its bytes cannot be found", err);
  if (e->data > z->directory || e->info.packed > z->directory - e->data)
    return refuse(z, e->data, e->info.name, CKPT_E_CORRUPT, "its bytes reach into the zip directory", err);
  return CKPT_OK;
}

/* ---- names ---- */

static uint32_t *find_slot(const ckpt_zip *z, const char *name, size_t n) {
  size_t mask = z->slots - 1;
  for (size_t at = (size_t)ckpt_hash_bytes(name, n) & mask;; at = (at + 1) & mask) {
    uint32_t found = z->table[at];
    if (found == 0 || strcmp(z->entries[found - 1].info.name, name) == 0) return &z->table[at];
  }
}

static ckpt_status make_table(ckpt_zip *z, ckpt_error *err) {
  z->slots = 4;
  while (z->slots < 2 * z->n + 2) z->slots *= 2;
  z->table = calloc(z->slots, sizeof *z->table);
  return z->table == NULL ? ckpt_fail_nomem(err, z->slots * sizeof *z->table) : CKPT_OK;
}

/* Whether the name was not there. */
static bool add_name(ckpt_zip *z, size_t i) {
  const char *name = z->entries[i].info.name;
  uint32_t *slot = find_slot(z, name, strlen(name));
  if (*slot != 0) return false;
  *slot = (uint32_t)i + 1;
  return true;
}

/* Reads entry i, whose directory entry is at *at, and moves *at to the next one. */
static ckpt_status read_entry(ckpt_zip *z, size_t i, size_t *at, ckpt_error *err) {
  zip_stat_t st;
  zip_stat_init(&st);
  if (zip_stat_index(z->zip, i, ZIP_FL_ENC_RAW, &st) != 0 || st.name == NULL)
    return ckpt_fail(err, CKPT_E_CORRUPT, position(z, *at), "zip entry %zu: %s", i, zip_strerror(z->zip));
  CKPT_TRY(check_raw(z, *at, st.name, err));
  CKPT_TRY(check_entry(z, *at, &st, err));
  z->entries[i].info = (ckpt_zip_entry){st.name, st.size, st.comp_size, st.crc, st.comp_method == ZIP_CM_STORE};
  CKPT_TRY(locate(z, i, *at, err));
  const unsigned char *p = z->base + *at;
  *at += (size_t)CENTRAL_SIZE + ckpt_le16(p + 28) + ckpt_le16(p + 30) + ckpt_le16(p + 32);
  if (*at > z->size) return refuse(z, z->size, st.name, CKPT_E_CORRUPT, "its directory entry is cut off", err);
  if (add_name(z, i)) return CKPT_OK; /* libzip refuses equal ones unless it is told not to look */
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "two records of the zip archive have the same name");
}

static void fold_case(char *to, const char *from, size_t n) {
  for (size_t i = 0; i < n; i++) to[i] = (char)(from[i] >= 'A' && from[i] <= 'Z' ? from[i] + 32 : from[i]);
}

/* Puts all names in lower case into `text`, which has room for them, and finds two that are the same. */
static ckpt_status find_folded(const ckpt_zip *z, ckpt_strmap *folded, char *text, ckpt_error *err) {
  for (size_t i = 0; i < z->n; i++) {
    const char *name = z->entries[i].info.name;
    size_t n = strlen(name), other;
    fold_case(text, name, n);
    other = ckpt_strmap_get(folded, text, n);
    if (other != SIZE_MAX)
      return ckpt_fail(err, CKPT_E_CORRUPT, -1, "records '%.200s' and '%.200s' differ only in case",
                       z->entries[other].info.name, name);
    CKPT_TRY(ckpt_strmap_set(folded, text, n, i, err));
    text += n;
  }
  return CKPT_OK;
}

/* Names that begin with the first one's folder and have no capital behind it differ in more than case. */
static bool are_folded(const ckpt_zip *z) {
  const char *first = z->n == 0 ? "" : z->entries[0].info.name, *slash = strchr(first, '/');
  size_t folder = slash == NULL ? 0 : (size_t)(slash - first) + 1;
  for (size_t i = 0; i < z->n; i++) {
    const char *name = z->entries[i].info.name;
    if (strncmp(name, first, folder) != 0) return false;
    for (const char *p = name + folder; *p != '\0'; p++)
      if (*p >= 'A' && *p <= 'Z') return false;
  }
  return true;
}

/* PyTorch looks records up without regard to ASCII case, so two such names would make it choose at random. */
static ckpt_status check_folded(const ckpt_zip *z, ckpt_error *err) {
  ckpt_strmap folded = {0};
  size_t total = 1;
  if (are_folded(z)) return CKPT_OK;
  for (size_t i = 0; i < z->n; i++) total += strlen(z->entries[i].info.name);
  char *text = malloc(total);
  ckpt_status st = text == NULL ? ckpt_fail_nomem(err, total) : find_folded(z, &folded, text, err);
  ckpt_strmap_free(&folded);
  free(text);
  return st;
}

static int by_header(const void *pa, const void *pb) {
  const entry *a = *(const entry *const *)pa, *b = *(const entry *const *)pb;
  return a->header < b->header ? -1 : a->header > b->header;
}

static ckpt_status check_neighbours(const ckpt_zip *z, const entry *a, const entry *b, ckpt_error *err) {
  if (b->header >= a->data && b->header - a->data >= a->info.packed) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_CORRUPT, position(z, b->header), "records '%.200s' and '%.200s' share the byte %zu",
                   a->info.name, b->info.name, z->start + b->header);
}

static ckpt_status check_overlap(const ckpt_zip *z, ckpt_error *err) {
  size_t n = 0;
  bool sorted = true; /* as the writers do it */
  const entry **order = malloc((z->n + 1) * sizeof *order);
  if (order == NULL) return ckpt_fail_nomem(err, (z->n + 1) * sizeof *order);
  for (size_t i = 0; i < z->n; i++) {
    const entry *e = &z->entries[i];
    if (e->info.packed == 0) continue;
    sorted &= n == 0 || e->header > order[n - 1]->header;
    order[n++] = e;
  }
  if (!sorted) qsort(order, n, sizeof *order, by_header);
  ckpt_status st = CKPT_OK;
  for (size_t i = 1; st == CKPT_OK && i < n; i++) st = check_neighbours(z, order[i - 1], order[i], err);
  free(order);
  return st;
}

static ckpt_status check_count(const ckpt_zip *z, uint64_t n, ckpt_error *err) {
  size_t most = ckpt_zip_trust(z)->limits.entries;
  if (n <= most) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_LIMIT, -1, "a zip archive of %llu entries, at most %zu are read", (unsigned long long)n,
                   most);
}

static ckpt_status read_directory(ckpt_zip *z, ckpt_error *err) {
  zip_int64_t n = zip_get_num_entries(z->zip, 0);
  CKPT_TRY(check_count(z, n < 0 ? UINT64_MAX : (uint64_t)n, err));
  CKPT_TRY(find_directory(z, err));
  z->entries = calloc((size_t)n + 1, sizeof *z->entries);
  if (z->entries == NULL) return ckpt_fail_nomem(err, ((size_t)n + 1) * sizeof *z->entries);
  z->n = (size_t)n;
  CKPT_TRY(make_table(z, err));
  size_t at = z->directory;
  for (size_t i = 0; i < z->n; i++) CKPT_TRY(read_entry(z, i, &at, err));
  CKPT_TRY(check_folded(z, err));
  return check_overlap(z, err);
}

/* ---- plain archives ---- */

static ckpt_status index_plain(ckpt_zip *z, ckpt_error *err) {
  CKPT_TRY(make_table(z, err));
  for (size_t i = 0; i < z->n; i++)
    if (!add_name(z, i)) return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a name that is given twice");
  CKPT_TRY(check_folded(z, err));
  return check_overlap(z, err);
}

static void forget_plain(ckpt_zip *z) {
  free(z->table);
  free(z->entries);
  free(z->text);
  z->table = NULL;
  z->entries = NULL;
  z->text = NULL;
  z->n = 0;
}

/* *plain is false when libzip is to have a look, also at what is plain but for the order of its parts. */
static ckpt_status open_plain(ckpt_zip *z, bool *plain, ckpt_error *err) {
  ckpt_zip_directory d;
  CKPT_TRY(ckpt_zip_plain(&d, plain, z->map, z->base, z->size, err));
  if (!*plain) return CKPT_OK;
  z->entries = d.entries;
  z->n = d.n;
  z->text = d.names;
  z->directory = d.at;
  ckpt_status st = index_plain(z, err);
  *plain = st == CKPT_OK;
  if (st != CKPT_OK) forget_plain(z);
  return st == CKPT_E_NOMEM ? st : CKPT_OK;
}

/* ---- opening either way ---- */

static ckpt_status open_libzip(ckpt_zip *z, bool *plain, ckpt_error *err) {
  (void)z, (void)err;
  *plain = false;
  return CKPT_OK;
}

static ckpt_status open_by(ckpt_zip **out, ckpt_status (*try_plain)(ckpt_zip *, bool *, ckpt_error *),
                           ckpt_mapping *map, size_t offset, size_t size, ckpt_error *err) {
  const unsigned char *base = ckpt_mapping_data(map) + offset;
  if (size < 4 || memcmp(base, "PK\3\4", 4) != 0)
    return ckpt_fail(err, CKPT_E_FORMAT, (int64_t)offset, "not a zip archive: no PK\\3\\4 at byte %zu", offset);
  ckpt_zip *z = calloc(1, sizeof *z);
  if (z == NULL) return ckpt_fail_nomem(err, sizeof *z);
  atomic_init(&z->refs, 1);
  pthread_mutex_init(&z->lock, NULL);
  zip_error_init(&z->source_error);
  z->map = ckpt_mapping_retain(map);
  z->base = base;
  z->size = size;
  z->start = offset;
  bool plain = false;
  ckpt_status st = try_plain(z, &plain, err);
  if (st == CKPT_OK && plain) st = check_count(z, z->n, err);
  if (st == CKPT_OK && !plain) st = open_archive(z, err);
  if (st == CKPT_OK && !plain) st = read_directory(z, err);
  if (st != CKPT_OK) {
    ckpt_zip_release(z);
    return st;
  }
  *out = z;
  return CKPT_OK;
}

ckpt_status ckpt_zip_open(ckpt_zip **out, ckpt_mapping *map, size_t offset, size_t size, ckpt_error *err) {
  return open_by(out, open_plain, map, offset, size, err);
}

ckpt_status ckpt_zip_open_libzip(ckpt_zip **out, ckpt_mapping *map, size_t offset, size_t size, ckpt_error *err) {
  return open_by(out, open_libzip, map, offset, size, err);
}

ckpt_zip *ckpt_zip_retain(ckpt_zip *z) {
  atomic_fetch_add_explicit(&z->refs, 1, memory_order_relaxed);
  return z;
}

const ckpt_trust *ckpt_zip_trust(const ckpt_zip *z) { return ckpt_mapping_trust(z->map); }

void ckpt_zip_release(ckpt_zip *z) {
  if (z == NULL || atomic_fetch_sub_explicit(&z->refs, 1, memory_order_acq_rel) != 1) return;
  if (z->zip != NULL) zip_discard(z->zip);
  zip_error_fini(&z->source_error);
  pthread_mutex_destroy(&z->lock);
  free(z->table);
  free(z->entries);
  free(z->text);
  ckpt_mapping_release(z->map);
  free(z);
}

const ckpt_mapping *ckpt_zip_mapping(const ckpt_zip *z) { return z->map; }
size_t ckpt_zip_count(const ckpt_zip *z) { return z->n; }
const ckpt_zip_entry *ckpt_zip_entry_at(const ckpt_zip *z, size_t i) { return &z->entries[i].info; }

size_t ckpt_zip_find(const ckpt_zip *z, const char *name) {
  uint32_t found = *find_slot(z, name, strlen(name));
  return found == 0 ? SIZE_MAX : found - 1;
}

/* ---- bytes ---- */

static ckpt_status record_failed(const ckpt_zip *z, size_t i, const char *why, ckpt_error *err) {
  return refuse(z, z->entries[i].data, z->entries[i].info.name, CKPT_E_CORRUPT, why, err);
}

ckpt_status ckpt_zip_span(const unsigned char **out, ckpt_zip *z, size_t i, ckpt_error *err) {
  const entry *e = &z->entries[i];
  if (!e->info.stored) return refuse(z, e->data, e->info.name, CKPT_E_UNSUPPORTED, "it is deflated, not stored", err);
  *out = z->base + e->data;
  return CKPT_OK;
}

void ckpt_zip_used(ckpt_zip *z, size_t n) { ckpt_mapping_used(z->map, n); }

static ckpt_status check_crc(const ckpt_zip *z, size_t i, const unsigned char *bytes, ckpt_error *err) {
  const ckpt_zip_entry *e = &z->entries[i].info;
  uint32_t crc = 0;
  if (e->crc == 0) return CKPT_OK;
  for (size_t done = 0, n; done < e->size; done += n) {
    n = e->size - done < BLOCK ? (size_t)e->size - done : BLOCK;
    crc = libdeflate_crc32(crc, bytes + done, n);
    if (n >= FORGET) ckpt_mapping_forget(z->map, bytes + done, n);
  }
  if (crc == e->crc) return CKPT_OK;
  size_t at = z->start + z->entries[i].data;
  return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)at,
                   "record '%.200s' (byte %zu): its CRC-32 is %08x, the directory says %08x: the bytes have changed",
                   e->name, at, crc, e->crc);
}

/* After all of `size` bytes: NULL if the record ends there, else what libzip found. */
static const char *end_fault(zip_file_t *f, uint32_t crc) {
  unsigned char extra;
  zip_int64_t got = zip_fread(f, &extra, 1);
  int code = zip_error_code_zip(zip_file_get_error(f));
  if (got == 0 || (got < 0 && code == ZIP_ER_CRC && crc == 0)) return NULL;
  if (got > 0) return "it inflates to more bytes than the directory says";
  return code == ZIP_ER_CRC ? "its CRC-32 is not the directory's: the bytes have changed" : zip_file_strerror(f);
}

/* Inflates through libzip, which compares the CRC as well. Under the lock. */
static ckpt_status inflate_record(unsigned char *to, ckpt_zip *z, size_t i, ckpt_error *err) {
  const ckpt_zip_entry *e = &z->entries[i].info;
  zip_file_t *f = zip_fopen_index(z->zip, i, 0);
  if (f == NULL) return record_failed(z, i, zip_strerror(z->zip), err);
  zip_int64_t got = zip_fread(f, to, e->size);
  const char *why = NULL;
  if (got < 0)
    why = zip_file_strerror(f);
  else if ((uint64_t)got < e->size)
    why = "it inflates to fewer bytes than the directory says";
  else
    why = end_fault(f, e->crc);
  ckpt_status st = why == NULL ? CKPT_OK : record_failed(z, i, why, err);
  zip_fclose(f);
  return st;
}

static ckpt_status read_stored(unsigned char *to, ckpt_zip *z, size_t i, ckpt_error *err) {
  const unsigned char *bytes = z->base + z->entries[i].data;
  CKPT_TRY(check_crc(z, i, bytes, err));
  memcpy(to, bytes, (size_t)z->entries[i].info.size);
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
    return ckpt_fail(err, CKPT_E_LIMIT, position(z, z->entries[i].data),
                     "record '%.200s' (byte %zu): %llu bytes cannot inflate to the %llu that the directory states",
                     e->name, z->start + z->entries[i].data, (unsigned long long)e->packed,
                     (unsigned long long)e->size);
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
  if (z->entries[i].info.stored) return check_crc(z, i, z->base + z->entries[i].data, err);
  unsigned char *bytes = NULL;
  CKPT_TRY(ckpt_zip_read(&bytes, z, i, err));
  free(bytes);
  return CKPT_OK;
}
