// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
/*
 * test_zip_read.c - archives as PyTorch makes them, as other tools make them, and as an attacker makes them.
 *
 * Archives are built here field by field, so that each can lie in one place. The attack classes are rows 1 to 14 of
 * torch-format section 8.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above first */
#include <cmocka.h>
#include <dirent.h>
#include <libdeflate.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../runtime/zip_read.h"
#include "../../runtime/zip_write.h"

/* ---- An allocator that fails ------------------------------------------------------------------------- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

static long countdown = -1; /* allocations until one fails; -1: none does */
static size_t largest;      /* the largest block asked for */

static bool fails(size_t size) {
  if (size > largest) largest = size;
  return countdown >= 0 && countdown-- == 0;
}
void *__wrap_malloc(size_t size) { return fails(size) ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t n, size_t size) { return fails(n * size) ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t size) { return fails(size) ? NULL : __real_realloc(p, size); }

/* ---- Building archives ------------------------------------------------------------------------------- */

typedef struct record {
  const char *name;
  const char *data;
  size_t name_n, n; /* 0: strlen */
  bool deflate, no_crc;
  uint16_t flags, method; /* method 0: as `deflate` says */
  uint32_t attributes;
  uint32_t claims;     /* another uncompressed size, in both headers */
  uint32_t crc_change; /* to be xored, in both headers */
  /* filled by the builder */
  size_t header, bytes, entry, packed;
} record;

typedef struct archive {
  unsigned char bytes[1 << 16];
  size_t n, directory, end;
} archive;

static void put(archive *a, const void *p, size_t n) {
  assert_true(n <= sizeof a->bytes - a->n);
  if (n > 0) memcpy(a->bytes + a->n, p, n);
  a->n += n;
}

static size_t pack(unsigned char *to, size_t room, const record *r) {
  if (!r->deflate) {
    assert_true(r->n <= room);
    if (r->n > 0) memcpy(to, r->data, r->n);
    return r->n;
  }
  struct libdeflate_compressor *c = libdeflate_alloc_compressor(9);
  size_t n = libdeflate_deflate_compress(c, r->data, r->n, to, room);
  libdeflate_free_compressor(c);
  assert_true(n > 0);
  return n;
}

/* The fields that both headers share, from "version needed" to "extra length": 26 bytes. */
static void common_fields(unsigned char f[26], const record *r) {
  uint32_t crc = r->no_crc ? 0 : libdeflate_crc32(0, r->data, r->n) ^ r->crc_change;
  memset(f, 0, 26);
  ckpt_put16(f, 20);
  ckpt_put16(f + 2, r->flags);
  ckpt_put16(f + 4, r->method != 0 ? r->method : r->deflate ? 8 : 0);
  ckpt_put32(f + 10, crc);
  ckpt_put32(f + 14, (uint32_t)r->packed);
  ckpt_put32(f + 18, r->claims != 0 ? r->claims : (uint32_t)r->n);
  ckpt_put16(f + 22, (uint16_t)r->name_n);
}

static void put_record(archive *a, record *r) {
  unsigned char f[26], packed[1 << 14];
  if (r->name_n == 0) r->name_n = strlen(r->name);
  if (r->n == 0 && r->data != NULL) r->n = strlen(r->data);
  r->packed = pack(packed, sizeof packed, r);
  r->header = a->n;
  common_fields(f, r);
  put(a, "PK\3\4", 4);
  put(a, f, 26);
  put(a, r->name, r->name_n);
  r->bytes = a->n;
  put(a, packed, r->packed);
}

static void put_entry(archive *a, record *r) {
  unsigned char f[26], tail[14] = {0};
  common_fields(f, r);
  ckpt_put32(tail + 6, r->attributes);
  ckpt_put32(tail + 10, (uint32_t)r->header);
  r->entry = a->n;
  put(a, "PK\1\2\24\0", 6);
  put(a, f, 26);
  put(a, tail, 14);
  put(a, r->name, r->name_n);
}

static void put_end(archive *a, size_t n, const char *comment) {
  unsigned char e[22] = {'P', 'K', 5, 6};
  a->end = a->n;
  ckpt_put16(e + 8, (uint16_t)n);
  ckpt_put16(e + 10, (uint16_t)n);
  ckpt_put32(e + 12, (uint32_t)(a->n - a->directory));
  ckpt_put32(e + 16, (uint32_t)a->directory);
  ckpt_put16(e + 20, (uint16_t)strlen(comment));
  put(a, e, 22);
  put(a, comment, strlen(comment));
}

static void put_directory(archive *a, record *r, size_t n) {
  a->directory = a->n;
  for (size_t i = 0; i < n; i++) put_entry(a, &r[i]);
}

static void build(archive *a, record *r, size_t n) {
  a->n = 0;
  for (size_t i = 0; i < n; i++) put_record(a, &r[i]);
  put_directory(a, r, n);
  put_end(a, n, "");
}

/* Opens bytes that lie in a block of exactly their size, so that the sanitizer sees each step outside. */
typedef struct opened {
  unsigned char *copy;
  ckpt_mapping *map;
  ckpt_zip *zip;
  ckpt_status st;
  ckpt_error err;
} opened;

static void open_bytes(opened *o, const void *bytes, size_t n) {
  memset(o, 0, sizeof *o);
  o->copy = __real_malloc(n + (n == 0));
  if (n > 0) memcpy(o->copy, bytes, n);
  assert_int_equal(ckpt_mapping_memory(&o->map, o->copy, n, NULL), CKPT_OK);
  o->st = ckpt_zip_open(&o->zip, o->map, 0, n, &o->err);
  if (o->st != CKPT_OK) assert_null(o->zip);
}

static void close_bytes(opened *o) {
  ckpt_zip_release(o->zip);
  ckpt_mapping_release(o->map);
  free(o->copy);
}

static void expect_refused(const void *bytes, size_t n, ckpt_status status, const char *text, int64_t position) {
  opened o;
  open_bytes(&o, bytes, n);
  if (o.st != status || strstr(o.err.message, text) == NULL || o.err.position != position)
    fail_msg("%s at %lld: %s; expected %s at %lld: ...%s", ckpt_status_name(o.st), (long long)o.err.position,
             o.err.message, ckpt_status_name(status), (long long)position, text);
  close_bytes(&o);
}

static void expect_refused_record(record r, ckpt_status status, const char *text) {
  archive a;
  build(&a, &r, 1);
  expect_refused(a.bytes, a.n, status, text, (int64_t)r.entry);
}

/* A little of everything: what the mutations start from. */
static void build_sample(archive *a, record r[4]) {
  static char many[2000];
  memset(many, 'm', sizeof many);
  r[0] = (record){.name = "P/data.pkl", .data = "a stored record"};
  r[1] = (record){.name = "P/code", .data = many, .n = sizeof many, .deflate = true};
  r[2] = (record){.name = "P/data/0"};
  r[3] = (record){.name = "P/dir/", .attributes = 0x10};
  build(a, r, 4);
}

typedef struct archive_sink {
  ckpt_sink sink;
  archive *a;
} archive_sink;

static ckpt_status to_archive(ckpt_sink *sink, const void *data, size_t size, ckpt_error *err) {
  (void)err;
  put(((archive_sink *)sink)->a, data, size);
  return CKPT_OK;
}

/* As PyTorch lays it out: descriptors, padding, zip64 end record. */
static void build_pytorch(archive *a) {
  archive_sink sink = {{to_archive}, a};
  ckpt_zip_writer *w = NULL;
  a->n = 0;
  assert_int_equal(ckpt_zip_writer_new(&w, &sink.sink, "archive", NULL), CKPT_OK);
  assert_int_equal(ckpt_zip_writer_add(w, "data.pkl", "pickle", 6, NULL), CKPT_OK);
  assert_int_equal(ckpt_zip_writer_add(w, "data/0", NULL, 0, NULL), CKPT_OK);
  assert_int_equal(ckpt_zip_writer_finish(w, NULL), CKPT_OK);
  ckpt_zip_writer_free(w);
}

/* ---- Good archives ----------------------------------------------------------------------------------- */

static void test_entries(void **state) {
  (void)state;
  archive a;
  record r[4];
  opened o;
  build_sample(&a, r);
  open_bytes(&o, a.bytes, a.n);
  assert_int_equal(o.st, CKPT_OK);
  assert_int_equal(ckpt_zip_count(o.zip), 4);
  for (size_t i = 0; i < 4; i++) {
    const ckpt_zip_entry *e = ckpt_zip_entry_at(o.zip, i);
    assert_string_equal(e->name, r[i].name);
    assert_int_equal(e->size, r[i].n);
    assert_int_equal(e->packed, r[i].packed);
    assert_int_equal(e->stored, !r[i].deflate);
    assert_int_equal(ckpt_zip_find(o.zip, r[i].name), i);
    assert_int_equal(ckpt_zip_check(o.zip, i, &o.err), CKPT_OK);
  }
  assert_true(ckpt_zip_find(o.zip, "P/DATA.PKL") == SIZE_MAX);
  assert_true(ckpt_zip_find(o.zip, "P/data.pk") == SIZE_MAX);
  close_bytes(&o);
}

static void test_span_and_read(void **state) {
  (void)state;
  archive a;
  record r[4];
  opened o;
  const unsigned char *span = NULL;
  build_sample(&a, r);
  open_bytes(&o, a.bytes, a.n);
  assert_int_equal(ckpt_zip_span(&span, o.zip, 0, &o.err), CKPT_OK);
  assert_ptr_equal(span, o.copy + r[0].bytes);
  assert_int_equal(ckpt_zip_span(&span, o.zip, 2, &o.err), CKPT_OK);
  assert_non_null(span);
  assert_int_equal(ckpt_zip_span(&span, o.zip, 1, &o.err), CKPT_E_UNSUPPORTED);
  assert_non_null(strstr(o.err.message, "record 'P/code' (byte "));
  for (size_t i = 0; i < 4; i++) {
    unsigned char *bytes = NULL;
    assert_int_equal(ckpt_zip_read(&bytes, o.zip, i, &o.err), CKPT_OK);
    if (r[i].n > 0) assert_memory_equal(bytes, r[i].data, r[i].n);
    free(bytes);
  }
  close_bytes(&o);
}

/* One archive among others in a file: positions count from the start of the file. */
static void test_archive_inside_a_file(void **state) {
  (void)state;
  archive a;
  record r[4];
  unsigned char file[1 << 14] = {0};
  ckpt_mapping *map = NULL;
  ckpt_zip *z = NULL;
  ckpt_error err;
  const unsigned char *span = NULL;
  build_sample(&a, r);
  memcpy(file + 1000, a.bytes, a.n);
  file[1000 + r[0].bytes] ^= 1;
  assert_int_equal(ckpt_mapping_memory(&map, file, sizeof file, NULL), CKPT_OK);
  assert_int_equal(ckpt_zip_open(&z, map, 999, a.n, &err), CKPT_E_FORMAT);
  assert_int_equal(err.position, 999);
  assert_int_equal(ckpt_zip_open(&z, map, 1000, a.n, &err), CKPT_OK);
  ckpt_mapping_release(map); /* the archive keeps it */
  assert_int_equal(ckpt_zip_span(&span, z, 0, &err), CKPT_OK);
  assert_ptr_equal(span, file + 1000 + r[0].bytes);
  assert_int_equal(ckpt_zip_check(z, 0, &err), CKPT_E_CORRUPT);
  assert_int_equal(err.position, 1000 + r[0].bytes);
  assert_ptr_equal(ckpt_zip_retain(z), z);
  ckpt_zip_release(z);
  assert_int_equal(ckpt_zip_count(z), 4);
  ckpt_zip_release(z);
}

/* A checkpoint within a checkpoint: the end record of the inner one is no end record of the outer one. */
static void test_archive_as_payload(void **state) {
  (void)state;
  archive inner, outer;
  record r[4];
  opened o;
  build_sample(&inner, r);
  record payload = {.name = "P/data/0", .data = (char *)inner.bytes, .n = inner.n};
  build(&outer, &payload, 1);
  open_bytes(&o, outer.bytes, outer.n);
  assert_int_equal(o.st, CKPT_OK);
  assert_int_equal(ckpt_zip_count(o.zip), 1);
  assert_int_equal(ckpt_zip_check(o.zip, 0, NULL), CKPT_OK);
  close_bytes(&o);
}

/* ---- CRC --------------------------------------------------------------------------------------------- */

static void expect_result(record r, ckpt_status status, const char *text) {
  archive a;
  opened o;
  unsigned char *bytes = NULL;
  build(&a, &r, 1);
  open_bytes(&o, a.bytes, a.n);
  assert_int_equal(o.st, CKPT_OK);
  assert_int_equal(ckpt_zip_check(o.zip, 0, &o.err), status);
  if (status != CKPT_OK) {
    if (strstr(o.err.message, text) == NULL) fail_msg("%s", o.err.message);
    assert_int_equal(o.err.position, r.bytes);
    memset(&o.err, 0, sizeof o.err);
  }
  assert_int_equal(ckpt_zip_read(&bytes, o.zip, 0, &o.err), status);
  if (status != CKPT_OK) assert_null(bytes);
  if (status != CKPT_OK) assert_non_null(strstr(o.err.message, text));
  if (status == CKPT_OK) assert_memory_equal(bytes, r.data, r.n);
  free(bytes);
  close_bytes(&o);
}

static void test_crc(void **state) {
  (void)state;
  expect_result((record){.name = "P/x", .data = "data", .crc_change = 1}, CKPT_E_CORRUPT,
                "record 'P/x' (byte 33): its CRC-32 is adf3f363, the directory says adf3f362: the bytes have changed");
  expect_result((record){.name = "P/x", .data = "data data data", .deflate = true, .crc_change = 1}, CKPT_E_CORRUPT,
                "record 'P/x' (byte 33): its CRC-32 is not the directory's: the bytes have changed");
  expect_result((record){.name = "P/x", .data = "data", .no_crc = true}, CKPT_OK, "");
  expect_result((record){.name = "P/x", .data = "data data data", .deflate = true, .no_crc = true}, CKPT_OK, "");
}

/* ---- Deflate ----------------------------------------------------------------------------------------- */

static void test_deflate_lies(void **state) {
  (void)state;
  static char zeros[8000];
  const record honest = {.name = "P/x", .data = zeros, .n = sizeof zeros, .deflate = true, .no_crc = true};
  record r = honest;
  expect_result(r, CKPT_OK, "");
  r.claims = sizeof zeros - 1;
  expect_result(r, CKPT_E_CORRUPT, "it inflates to more bytes than the directory says");
  r.claims = sizeof zeros + 1;
  expect_result(r, CKPT_E_CORRUPT, "it inflates to fewer bytes than the directory says");
}

static void test_deflate_bomb(void **state) {
  (void)state;
  archive a;
  opened o;
  unsigned char *bytes = NULL;
  record r = {.name = "P/x", .data = "small", .deflate = true, .claims = 0x7fffffff};
  build(&a, &r, 1);
  open_bytes(&o, a.bytes, a.n);
  assert_int_equal(o.st, CKPT_OK);
  largest = 0;
  assert_int_equal(ckpt_zip_read(&bytes, o.zip, 0, &o.err), CKPT_E_LIMIT);
  assert_int_equal(ckpt_zip_check(o.zip, 0, &o.err), CKPT_E_LIMIT);
  assert_true(largest < 1000); /* refused before a byte of it was asked for */
  assert_non_null(strstr(o.err.message, "cannot inflate to the 2147483647 that the directory states"));
  assert_int_equal(o.err.position, r.bytes);
  close_bytes(&o);
}

static void test_deflate_garbage(void **state) {
  (void)state;
  record r[4];
  archive a;
  opened o;
  unsigned char *bytes = NULL;
  build_sample(&a, r);
  a.bytes[r[1].bytes] = 0xff; /* a block type that does not exist */
  open_bytes(&o, a.bytes, a.n);
  assert_int_equal(o.st, CKPT_OK);
  assert_int_equal(ckpt_zip_read(&bytes, o.zip, 1, &o.err), CKPT_E_CORRUPT);
  assert_non_null(strstr(o.err.message, "record 'P/code' (byte "));
  assert_int_equal(ckpt_zip_check(o.zip, 0, NULL), CKPT_OK); /* the others are as good as before */
  close_bytes(&o);
}

/* ---- Refused at open --------------------------------------------------------------------------------- */

static void test_refused_records(void **state) {
  (void)state;
  const ckpt_status bad = CKPT_E_CORRUPT, no = CKPT_E_UNSUPPORTED;
  expect_refused_record((record){.name = "P/x", .data = "x", .flags = 1}, no,
                        "record 'P/x' (byte 34): it is encrypted");
  expect_refused_record((record){.name = "P/x", .data = "x", .flags = 0x40}, no, "it is encrypted");
  expect_refused_record((record){.name = "P/x", .data = "x", .flags = 0x2000}, no, "it is encrypted");
  expect_refused_record((record){.name = "P/x", .data = "x", .flags = 0x20}, no, "it is a patch");
  expect_refused_record((record){.name = "P/x", .data = "x", .method = 12}, no, "it is neither stored nor deflated");
  expect_refused_record((record){.name = "P/x", .data = "x", .method = 14}, no, "it is neither stored nor deflated");
  expect_refused_record((record){.name = "P/x", .data = "x", .method = 93}, no, "it is neither stored nor deflated");
  expect_refused_record((record){.name = "P/x", .data = "x", .claims = 2}, bad,
                        "it is stored, but its two sizes differ");
  expect_refused_record((record){.name = "P/x", .method = 8, .claims = 2}, bad, "it has a size but no bytes");
  expect_refused_record((record){.name = "P/x/", .data = "x"}, bad, "it is a directory, but has contents");
  expect_refused_record((record){.name = "P/x", .data = "x", .attributes = 0x10}, bad, "it is a directory, but has");
  expect_refused_record((record){.name = "P/x\0y", .name_n = 5, .data = "x"}, bad, "its name holds a NUL byte");
}

static void test_refused_names(void **state) {
  (void)state;
  archive a;
  record same[2] = {{.name = "P/x", .data = "1"}, {.name = "P/x", .data = "2"}};
  build(&a, same, 2);
  expect_refused(a.bytes, a.n, CKPT_E_CORRUPT, "two records of the zip archive have the same name", -1);
  record folded[2] = {{.name = "P/Data", .data = "1"}, {.name = "P/dAta", .data = "2"}};
  build(&a, folded, 2);
  expect_refused(a.bytes, a.n, CKPT_E_CORRUPT, "records 'P/Data' and 'P/dAta' differ only in case", -1);
  record umlauts[2] = {{.name = "P/\303\204", .data = "1"}, {.name = "P/\303\244", .data = "2"}};
  opened o; /* only ASCII is folded */
  build(&a, umlauts, 2);
  open_bytes(&o, a.bytes, a.n);
  assert_int_equal(o.st, CKPT_OK);
  close_bytes(&o);
}

/* A record whose bytes are another record, header and all, with an entry of its own. */
static void test_overlap(void **state) {
  (void)state;
  archive inner, a;
  record r[2] = {{.name = "P/inner", .data = "twice used"}};
  build(&inner, r, 1);
  r[1] = r[0];
  r[0] = (record){.name = "P/outer", .data = (char *)inner.bytes, .n = inner.directory};
  a.n = 0;
  put_record(&a, &r[0]);
  r[1].header = r[0].bytes;
  put_directory(&a, r, 2);
  put_end(&a, 2, "");
  expect_refused(a.bytes, a.n, CKPT_E_CORRUPT, "records 'P/outer' and 'P/inner' share the byte 37", 37);
}

/* Its local header has an extra field that its entry does not, so that its bytes end in the directory. */
static void test_into_directory(void **state) {
  (void)state;
  archive a;
  record r = {.name = "P/x", .data = "XX\6\0abcdef and the rest", .n = 20};
  build(&a, &r, 1);
  ckpt_put16(a.bytes + r.header + 28, 10);
  expect_refused(a.bytes, a.n, CKPT_E_CORRUPT, "record 'P/x' (byte 43): its bytes reach into the zip directory", 43);
}

static void test_directory_lies(void **state) {
  (void)state;
  archive a;
  record r[4];
  const size_t fields[] = {8, 10, 12, 16}; /* entries on this disk, entries, size and offset of the directory */
  for (size_t i = 0; i < CKPT_COUNTOF(fields); i++) {
    build_sample(&a, r);
    a.bytes[a.end + fields[i]] ^= 1;
    expect_refused(a.bytes, a.n, CKPT_E_CORRUPT, "the zip directory that the end record at byte", (int64_t)a.end);
    build_sample(&a, r);
    a.bytes[a.end + fields[i] + 1] = 0xff;
    expect_refused(a.bytes, a.n, CKPT_E_CORRUPT, "is damaged (libzip: ", (int64_t)a.end);
  }
}

/* zip64 end records that announce far more entries than there are bytes. */
static void test_many_announced(void **state) {
  (void)state;
  for (int bits = 16; bits < 64; bits += 4) {
    archive a;
    record r = {.name = "P/x", .data = "x"};
    unsigned char e[56] = {'P', 'K', 6, 6, 44}, locator[20] = {'P', 'K', 6, 7};
    a.n = 0;
    put_record(&a, &r);
    put_directory(&a, &r, 1);
    ckpt_put64(e + 24, (uint64_t)1 << bits);
    ckpt_put64(e + 32, (uint64_t)1 << bits);
    ckpt_put64(e + 40, a.n - a.directory);
    ckpt_put64(e + 48, a.directory);
    ckpt_put64(locator + 8, a.n);
    ckpt_put32(locator + 16, 1);
    put(&a, e, sizeof e);
    put(&a, locator, sizeof locator);
    a.end = a.n;
    put(&a, "PK\5\6\0\0\0\0\377\377\377\377\377\377\377\377\377\377\377\377\0\0", 22);
    expect_refused(a.bytes, a.n, CKPT_E_CORRUPT, "is damaged (libzip: ", (int64_t)a.end);
  }
}

/* ---- Ends -------------------------------------------------------------------------------------------- */

/* The first end record has a comment, which is a second one: libzip and PyTorch may each take another. */
static void test_two_end_records(void **state) {
  (void)state;
  archive a;
  record r = {.name = "P/x", .data = "x"};
  unsigned char second[22];
  build(&a, &r, 1);
  memcpy(second, a.bytes + a.end, sizeof second);
  ckpt_put16(a.bytes + a.end + 20, sizeof second);
  put(&a, second, sizeof second);
  expect_refused(a.bytes, a.n, CKPT_E_CORRUPT, "the zip archive has two end records", (int64_t)(a.n - 22));
}

static void test_comment(void **state) {
  (void)state;
  archive a;
  record r = {.name = "P/x", .data = "x"};
  opened o;
  a.n = 0;
  put_record(&a, &r);
  put_directory(&a, &r, 1);
  put_end(&a, 1, "a comment that does no harm");
  open_bytes(&o, a.bytes, a.n);
  assert_int_equal(o.st, CKPT_OK);
  close_bytes(&o);
}

static void test_junk_behind(void **state) {
  (void)state;
  static archive a;
  record r = {.name = "P/x", .data = "x"};
  unsigned char *file = calloc(1, 5000000);
  build(&a, &r, 1);
  memcpy(file, a.bytes, a.n);
  expect_refused(file, a.n + 100, CKPT_E_CORRUPT, "is followed by 100 bytes where it announces 0", (int64_t)a.end);
  expect_refused(file, a.n + 70000, CKPT_E_CORRUPT, "zip end record missing at byte", (int64_t)a.n + 70000 - 22);
  expect_refused(file, 5000000, CKPT_E_CORRUPT, "zip end record missing at byte 4999978, the file ends early", 4999978);
  expect_refused(file, 1 << 20, CKPT_E_CORRUPT,
                 "zip end record missing at byte 1048554, the file ends early (1 MiB exactly)", 1048554);
  memmove(file + 1, file, a.n);
  expect_refused(file, a.n + 1, CKPT_E_FORMAT, "not a zip archive", 0);
  expect_refused("PK\3\4", 4, CKPT_E_CORRUPT, "zip end record missing at byte 0, the file ends early after 4 bytes", 0);
  expect_refused("PK\3", 3, CKPT_E_FORMAT, "not a zip archive", 0);
  expect_refused("", 0, CKPT_E_FORMAT, "not a zip archive", 0);
  free(file);
}

static void truncate_everywhere(const archive *a) {
  for (size_t n = 0; n < a->n; n++) {
    opened o;
    open_bytes(&o, a->bytes, n);
    assert_int_equal(o.st, n < 4 ? CKPT_E_FORMAT : CKPT_E_CORRUPT);
    assert_true(o.err.status == o.st && o.err.message[0] != '\0');
    close_bytes(&o);
  }
}

static void test_truncated_everywhere(void **state) {
  (void)state;
  archive a;
  record r[4];
  build_sample(&a, r);
  truncate_everywhere(&a);
  build_pytorch(&a);
  truncate_everywhere(&a);
}

/* ---- Every byte -------------------------------------------------------------------------------------- */

/* Reads all there is. Returns whether nothing was found wrong. */
static bool use_all(opened *o) {
  bool good = o->st == CKPT_OK;
  for (size_t i = 0; o->zip != NULL && i < ckpt_zip_count(o->zip); i++) {
    unsigned char *bytes = NULL;
    const unsigned char *span = NULL;
    volatile unsigned char last;
    const ckpt_zip_entry *e = ckpt_zip_entry_at(o->zip, i);
    good = ckpt_zip_check(o->zip, i, NULL) == CKPT_OK && good;
    if (ckpt_zip_span(&span, o->zip, i, NULL) == CKPT_OK && e->size > 0) last = span[e->size - 1];
    if (ckpt_zip_read(&bytes, o->zip, i, NULL) == CKPT_OK && e->size > 0) last = bytes[e->size - 1];
    (void)last;
    free(bytes);
  }
  return good;
}

static void use_changed(archive *a, size_t at, unsigned char to) {
  opened o;
  unsigned char was = a->bytes[at];
  a->bytes[at] = to;
  open_bytes(&o, a->bytes, a->n);
  use_all(&o);
  close_bytes(&o);
  a->bytes[at] = was;
}

static void change_every_byte(archive *a) {
  for (size_t at = 0; at < a->n; at++) {
    use_changed(a, at, 0);
    use_changed(a, at, 0xff);
    use_changed(a, at, a->bytes[at] ^ 1);
  }
}

static void test_every_byte_changed(void **state) {
  (void)state;
  archive a;
  record r[4];
  build_pytorch(&a);
  change_every_byte(&a);
  build_sample(&a, r);
  change_every_byte(&a);
  for (size_t at = r[0].bytes; at < r[0].bytes + r[0].n; at++) { /* a changed payload never goes unseen */
    opened o;
    a.bytes[at] ^= 1;
    open_bytes(&o, a.bytes, a.n);
    assert_false(use_all(&o));
    close_bytes(&o);
    a.bytes[at] ^= 1;
  }
}

/* ---- Memory and threads ------------------------------------------------------------------------------ */

static void test_every_allocation_can_fail(void **state) {
  (void)state;
  archive a;
  record r[4];
  ckpt_mapping *map = NULL;
  ckpt_status st = CKPT_E_NOMEM;
  long n = 0;
  build_sample(&a, r);
  assert_int_equal(ckpt_mapping_memory(&map, a.bytes, a.n, NULL), CKPT_OK);
  for (; st != CKPT_OK; n++) {
    ckpt_zip *z = NULL;
    unsigned char *bytes = NULL;
    ckpt_error err = {0};
    countdown = n;
    st = ckpt_zip_open(&z, map, 0, a.n, &err);
    if (st == CKPT_OK) st = ckpt_zip_read(&bytes, z, 1, &err);
    countdown = -1;
    if (st != CKPT_OK) assert_int_equal(err.status, CKPT_E_NOMEM);
    free(bytes);
    ckpt_zip_release(z);
  }
  assert_true(n > 5);
  ckpt_mapping_release(map);
}

typedef struct reader {
  ckpt_zip *zip;
  const record *records;
  const unsigned char *spans[200];
  int faults;
} reader;

static void *read_all(void *user) {
  reader *me = user;
  for (size_t i = 0; i < 200; i++) {
    unsigned char *bytes = NULL;
    bool stored = ckpt_zip_entry_at(me->zip, i)->stored;
    if (stored && ckpt_zip_span(&me->spans[i], me->zip, i, NULL) != CKPT_OK) me->faults++;
    if (ckpt_zip_read(&bytes, me->zip, i, NULL) != CKPT_OK || memcmp(bytes, me->records[i].data, me->records[i].n) != 0)
      me->faults++;
    free(bytes);
  }
  return NULL;
}

static void test_threads(void **state) {
  (void)state;
  static archive a;
  static record r[200];
  static char names[200][32], texts[200][80];
  static reader readers[4];
  pthread_t threads[4];
  opened o;
  for (int i = 0; i < 200; i++) {
    snprintf(names[i], sizeof names[i], "P/data/%d", i);
    snprintf(texts[i], sizeof texts[i], "%d %d %d %d %d", i, i, i, i, i);
    r[i] = (record){.name = names[i], .data = texts[i], .deflate = i % 3 == 0};
  }
  build(&a, r, 200);
  open_bytes(&o, a.bytes, a.n);
  assert_int_equal(o.st, CKPT_OK);
  for (int i = 0; i < 4; i++) {
    readers[i] = (reader){.zip = o.zip, .records = r};
    assert_int_equal(pthread_create(&threads[i], NULL, read_all, &readers[i]), 0);
  }
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < 4; i++) assert_int_equal(readers[i].faults, 0);
  for (int i = 0; i < 4; i++) assert_memory_equal(readers[i].spans, readers[0].spans, sizeof readers[0].spans);
  close_bytes(&o);
}

/* ---- Files of others --------------------------------------------------------------------------------- */

static const char *shared(const char *below) {
  static char path[8192];
  const char *given = getenv("CKPT_SHARED"), *top = getenv("CKPT_TOP");
  const char *base = given != NULL ? given : top != NULL ? top : ".";
  snprintf(path, sizeof path, "%s%s/%s", base, given != NULL ? "" : "/../shared", below);
  return path;
}

static ckpt_status use_file(const char *path) {
  opened o = {0};
  assert_int_equal(ckpt_mapping_open(&o.map, path, NULL), CKPT_OK);
  o.st = ckpt_zip_open(&o.zip, o.map, 0, ckpt_mapping_size(o.map), &o.err);
  if (o.st == CKPT_OK && !use_all(&o)) o.st = CKPT_E_CORRUPT;
  close_bytes(&o);
  return o.st;
}

/* Calls use_file for each file of a folder and counts the good ones. */
static int use_folder(const char *below, int *total) {
  char path[8192 + 512];
  int good = 0;
  DIR *dir = opendir(shared(below));
  if (dir == NULL) skip();
  for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
    if (e->d_type == DT_DIR) continue;
    snprintf(path, sizeof path, "%s/%s", shared(below), e->d_name);
    good += use_file(path) == CKPT_OK;
    ++*total;
  }
  closedir(dir);
  return good;
}

static void test_pytorch_files(void **state) {
  (void)state;
  int total = 0, good = use_folder("data/torch", &total);
  print_message("%d of %d files are zip archives, every record of them right\n", good, total);
  assert_true(good >= 19);
}

static void test_published_files(void **state) {
  (void)state;
  char line[4096], path[2 * 8192];
  int good = 0;
  snprintf(path, sizeof path, "%s", shared("data/real/INDEX.tsv"));
  FILE *f = fopen(path, "r");
  if (f == NULL) skip();
  while (fgets(line, sizeof line, f) != NULL) {
    char *name = strtok(line, "\t"), *format = (strtok(NULL, "\t"), strtok(NULL, "\t"));
    if (format == NULL || (strcmp(format, "zip") != 0 && strcmp(format, "torchscript") != 0)) continue;
    snprintf(path, sizeof path, "%s/%s", shared("data/real"), name);
    if (use_file(path) != CKPT_OK) fail_msg("%s", path);
    good++;
  }
  fclose(f);
  print_message("%d published checkpoints, every record of them right\n", good);
  assert_true(good > 0);
}

/* libzip's own regression files, most of them malformed: whatever is found, nothing breaks. */
static void test_stress_files(void **state) {
  (void)state;
  int total = 0, good = use_folder("data/zip-stress/regress/data", &total);
  print_message("%d of %d accepted\n", good, total);
  assert_true(total > 0 && good > 0 && good < total / 2);
  assert_int_equal(use_file(shared("data/zip-stress/regress/data/incons-filename-nul-byte.zip")), CKPT_E_CORRUPT);
  assert_int_equal(use_file(shared("data/zip-stress/regress/data/zip64-in-archive-comment.zip")), CKPT_E_CORRUPT);
  assert_int_equal(use_file(shared("data/zip-stress/regress/data/incons-data.zip")), CKPT_E_CORRUPT);
  assert_int_equal(use_file(shared("data/zip-stress/regress/data/zip64.zip")), CKPT_OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_entries),
      cmocka_unit_test(test_span_and_read),
      cmocka_unit_test(test_archive_inside_a_file),
      cmocka_unit_test(test_archive_as_payload),
      cmocka_unit_test(test_crc),
      cmocka_unit_test(test_deflate_lies),
      cmocka_unit_test(test_deflate_bomb),
      cmocka_unit_test(test_deflate_garbage),
      cmocka_unit_test(test_refused_records),
      cmocka_unit_test(test_refused_names),
      cmocka_unit_test(test_overlap),
      cmocka_unit_test(test_into_directory),
      cmocka_unit_test(test_directory_lies),
      cmocka_unit_test(test_many_announced),
      cmocka_unit_test(test_two_end_records),
      cmocka_unit_test(test_comment),
      cmocka_unit_test(test_junk_behind),
      cmocka_unit_test(test_truncated_everywhere),
      cmocka_unit_test(test_every_byte_changed),
      cmocka_unit_test(test_every_allocation_can_fail),
      cmocka_unit_test(test_threads),
      cmocka_unit_test(test_pytorch_files),
      cmocka_unit_test(test_published_files),
      cmocka_unit_test(test_stress_files),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
