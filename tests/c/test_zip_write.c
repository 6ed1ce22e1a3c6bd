// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup
/*
 * test_zip_write.c - the container is PyTorch's byte for byte: a small archive made by another program from
 * torch-format 1.2, files of PyTorch 2.14 taken apart and written again, and the zip64 forms beyond 4 GiB.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above first */
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../../runtime/zip_read.h"
#include "../../runtime/zip_write.h"

/* ---- An allocator that fails ------------------------------------------------------------------------- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *s);

static long countdown = -1; /* allocations until one fails; -1: none does */

static bool fails(void) { return countdown >= 0 && countdown-- == 0; }
void *__wrap_malloc(size_t size) { return fails() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t n, size_t size) { return fails() ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t size) { return fails() ? NULL : __real_realloc(p, size); }
char *__wrap_strdup(const char *s) { return fails() ? NULL : __real_strdup(s); }

/* ---- Sinks ------------------------------------------------------------------------------------------- */

typedef struct memory {
  ckpt_sink sink;
  unsigned char *bytes;
  size_t n, capacity;
  long writes_left; /* -1: all succeed */
} memory;

static ckpt_status take(ckpt_sink *sink, const void *data, size_t size, ckpt_error *err) {
  memory *m = (memory *)sink;
  if (m->writes_left == 0) return ckpt_fail_errno(err, 28, "the disk of the test");
  if (m->writes_left > 0) m->writes_left--;
  if (m->n + size > m->capacity) {
    m->capacity = (m->n + size) * 2;
    m->bytes = __real_realloc(m->bytes, m->capacity);
    assert_non_null(m->bytes);
  }
  memcpy(m->bytes + m->n, data, size);
  m->n += size;
  return CKPT_OK;
}

static memory new_memory(void) { return (memory){.sink = {take}, .writes_left = -1}; }

/* ---- The golden archive ------------------------------------------------------------------------------ */

/* Made by a few lines of Python from torch-format 1.2: p/data.pkl = "abc", p/data/0 empty, serialization id. */
static const char golden[] =
    "PK\003\004\000\000\010\010\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\012\000"
    "\030\000p/data.pklFB\024\000ZZZZZZZZZZZZZZZZZZZZabcPK\007\010\302A$5\003\000\000\000\003\000\000\000PK\003"
    "\004\000\000\000\010\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\010\000\007\000"
    "p/data/0FB\003\000ZZZPK\003\004\000\000\010\010\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
    "\000\000\000\030\000\012\000p/.data/serialization_idFB\006\000ZZZZZZ1095612775800150504100000000003546004347"
    "PK\007\010V\344f.(\000\000\000(\000\000\000PK\001\002\000\000\000\000\010\010\000\000\000\000\000\000\302A$5"
    "\003\000\000\000\003\000\000\000\012\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000p/da"
    "ta.pklPK\001\002\000\000\000\000\000\010\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
    "\000\010\000\000\000\000\000\000\000\000\000\000\000\000\000S\000\000\000p/data/0PK\001\002\000\000\000\000"
    "\010\010\000\000\000\000\000\000V\344f.(\000\000\000(\000\000\000\030\000\000\000\000\000\000\000\000\000"
    "\000\000\000\000\200\000\000\000p/.data/serialization_idPK\006\006,\000\000\000\000\000\000\000\036\003-\000"
    "\000\000\000\000\000\000\000\000\003\000\000\000\000\000\000\000\003\000\000\000\000\000\000\000\264\000\000"
    "\000\000\000\000\000\370\000\000\000\000\000\000\000PK\006\007\000\000\000\000\254\001\000\000\000\000\000"
    "\000\001\000\000\000PK\005\006\000\000\000\000\003\000\003\000\264\000\000\000\370\000\000\000\000\000";

static ckpt_status write_golden(memory *m, ckpt_error *err) {
  ckpt_zip_writer *w = NULL;
  CKPT_TRY(ckpt_zip_writer_new(&w, &m->sink, "p", err));
  ckpt_status st = ckpt_zip_writer_add(w, "data.pkl", "abc", 3, err);
  if (st == CKPT_OK) st = ckpt_zip_writer_add(w, "data/0", NULL, 0, err);
  if (st == CKPT_OK) st = ckpt_zip_writer_finish(w, err);
  if (st == CKPT_OK) assert_int_equal(ckpt_zip_writer_offset(w), m->n);
  ckpt_zip_writer_free(w);
  return st;
}

static void test_golden(void **state) {
  (void)state;
  memory m = new_memory();
  assert_int_equal(write_golden(&m, NULL), CKPT_OK);
  assert_int_equal(m.n, sizeof golden - 1);
  assert_memory_equal(m.bytes, golden, m.n);
  free(m.bytes);
}

static void test_every_write_can_fail(void **state) {
  (void)state;
  long n = 0;
  ckpt_status st = CKPT_E_IO;
  for (; st != CKPT_OK; n++) {
    memory m = new_memory();
    ckpt_error err = {0};
    m.writes_left = n;
    st = write_golden(&m, &err);
    if (st != CKPT_OK) {
      assert_int_equal(st, CKPT_E_IO);
      assert_int_equal(err.sys, 28);
      assert_memory_equal(m.bytes == NULL ? golden : (char *)m.bytes, golden, m.n);
    }
    free(m.bytes);
  }
  assert_true(n > 10);
}

static void test_every_allocation_can_fail(void **state) {
  (void)state;
  long n = 0;
  ckpt_status st = CKPT_E_NOMEM;
  for (; st != CKPT_OK; n++) {
    memory m = new_memory();
    ckpt_error err = {0};
    countdown = n;
    st = write_golden(&m, &err);
    countdown = -1;
    if (st != CKPT_OK) assert_int_equal(err.status, CKPT_E_NOMEM);
    free(m.bytes);
  }
  assert_true(n > 4); /* writer, prefix, records, names */
}

static void test_long_names(void **state) {
  (void)state;
  memory m = new_memory();
  ckpt_error err = {0};
  ckpt_zip_writer *w = NULL;
  char *name = calloc(1, 65536);
  memset(name, 'n', 65534);
  assert_int_equal(ckpt_zip_writer_new(&w, &m.sink, "p", &err), CKPT_OK);
  assert_int_equal(ckpt_zip_writer_add(w, name, "x", 1, &err), CKPT_E_LIMIT);
  assert_non_null(strstr(err.message, "a name of 65536 bytes, a zip archive holds at most 65535"));
  assert_int_equal(m.n, 0);
  name[65533] = '\0';
  assert_int_equal(ckpt_zip_writer_add(w, name, "x", 1, &err), CKPT_OK);
  assert_int_equal(ckpt_zip_writer_finish(w, &err), CKPT_OK);
  ckpt_zip_writer_free(w);
  free(name);
  free(m.bytes);
}

static void test_many_records(void **state) {
  (void)state;
  enum { N = 70000 }; /* more than the 16-bit counts hold */
  memory m = new_memory();
  ckpt_zip_writer *w = NULL;
  ckpt_mapping *map = NULL;
  ckpt_zip *z = NULL;
  char name[32];
  assert_int_equal(ckpt_zip_writer_new(&w, &m.sink, "many", NULL), CKPT_OK);
  for (int i = 0; i < N; i++) {
    snprintf(name, sizeof name, "data/%d", i);
    assert_int_equal(ckpt_zip_writer_add(w, name, &i, sizeof i, NULL), CKPT_OK);
  }
  assert_int_equal(ckpt_zip_writer_finish(w, NULL), CKPT_OK);
  ckpt_zip_writer_free(w);
  assert_int_equal(ckpt_le16(m.bytes + m.n - 22 + 8), 65535);
  assert_int_equal(ckpt_le64(m.bytes + m.n - 98 + 24), N + 1);
  assert_int_equal(ckpt_mapping_memory(&map, m.bytes, m.n, NULL), CKPT_OK);
  assert_int_equal(ckpt_zip_open(&z, map, 0, m.n, NULL), CKPT_OK);
  assert_int_equal(ckpt_zip_count(z), N + 1);
  assert_int_equal(ckpt_zip_find(z, "many/data/69999"), 69999);
  ckpt_zip_release(z);
  ckpt_mapping_release(map);
  free(m.bytes);
}

/* ---- Sizes ------------------------------------------------------------------------------------------- */

/* 0 where it does not fit. */
static uint64_t measured(const char *prefix, size_t n, const char *const *names, const uint64_t *sizes) {
  ckpt_zip_measure m = {.prefix_n = strlen(prefix)};
  uint64_t total = 0;
  for (size_t i = 0; i < n; i++)
    if (!ckpt_zip_measure_add(&m, strlen(names[i]), sizes[i])) return 0;
  return ckpt_zip_measure_end(&total, &m) ? total : 0;
}

/* The totals are those of another program, made from torch-format 1.2. */
static void test_measure(void **state) {
  (void)state;
  const char *names[] = {"data/0", "data/1", "data/2"};
  assert_true(measured("p", 0, NULL, NULL) == 288);
  assert_true(measured("p", 3, names, (uint64_t[]){0, 1, 64}) == 770);
  assert_true(measured("p", 1, names, (uint64_t[]){0xfffffffe}) == 4294967786);
  assert_true(measured("p", 1, names, (uint64_t[]){0xffffffff}) == 4294967806);
  assert_true(measured("p", 2, names, (uint64_t[]){UINT64_MAX, 1}) == 0);
  assert_true(measured("p", 2, names, (uint64_t[]){UINT64_MAX / 2, UINT64_MAX / 2}) == 0);
}

/* ---- PyTorch's own files ----------------------------------------------------------------------------- */

static const char *shared(void) {
  static char path[4096];
  const char *given = getenv("CKPT_SHARED"), *top = getenv("CKPT_TOP");
  snprintf(path, sizeof path, "%s%s",
           given != NULL ? given
           : top != NULL ? top
                         : ".",
           given != NULL ? "" : "/../shared");
  return path;
}

/* True for a file with the record P/.storage_alignment = 64 and with CRCs. */
static bool is_ours(ckpt_zip *z, const char *prefix) {
  char name[512];
  snprintf(name, sizeof name, "%s/.storage_alignment", prefix);
  size_t i = ckpt_zip_find(z, name);
  const unsigned char *p = NULL;
  if (i == SIZE_MAX || ckpt_zip_entry_at(z, i)->size != 2 || ckpt_zip_entry_at(z, i)->crc == 0) return false;
  return ckpt_zip_span(&p, z, i, NULL) == CKPT_OK && memcmp(p, "64", 2) == 0;
}

static void write_again(memory *m, ckpt_zip *z, const char *prefix) {
  ckpt_zip_writer *w = NULL;
  size_t n = ckpt_zip_count(z) - 1, skip = strlen(prefix) + 1;
  const char **names = calloc(n + 1, sizeof *names);
  uint64_t *sizes = calloc(n + 1, sizeof *sizes);
  assert_int_equal(ckpt_zip_writer_new(&w, &m->sink, prefix, NULL), CKPT_OK);
  for (size_t i = 0; i < n; i++) {
    const unsigned char *p = NULL;
    names[i] = ckpt_zip_entry_at(z, i)->name + skip;
    sizes[i] = ckpt_zip_entry_at(z, i)->size;
    assert_int_equal(ckpt_zip_span(&p, z, i, NULL), CKPT_OK);
    assert_int_equal(ckpt_zip_writer_add(w, names[i], p, (size_t)sizes[i], NULL), CKPT_OK);
  }
  assert_int_equal(ckpt_zip_writer_finish(w, NULL), CKPT_OK);
  assert_int_equal(measured(prefix, n, names, sizes), m->n);
  ckpt_zip_writer_free(w);
  free(names);
  free(sizes);
}

/* Takes the first 20 digits of the id (PyTorch's order of names) and both places of its CRC from the original. */
static void adopt_id(memory *m, ckpt_zip *z, const unsigned char *original) {
  size_t last = ckpt_zip_count(z) - 1, n = strlen(ckpt_zip_entry_at(z, last)->name);
  const unsigned char *id = NULL;
  assert_int_equal(ckpt_zip_span(&id, z, last, NULL), CKPT_OK);
  size_t at = (size_t)(id - original), entry = m->n - 98 - 46 - n;
  assert_memory_equal(original + entry, "PK\1\2", 4);
  memcpy(m->bytes + at, id, 20);
  memcpy(m->bytes + at + 40 + 4, id + 40 + 4, 4);
  memcpy(m->bytes + entry + 16, original + entry + 16, 4);
}

/* Returns whether the file was one to compare. */
static bool compare_file(const char *path) {
  ckpt_mapping *map = NULL;
  ckpt_zip *z = NULL;
  char prefix[256];
  assert_int_equal(ckpt_mapping_open(&map, path, NULL), CKPT_OK);
  bool compared = ckpt_zip_open(&z, map, 0, ckpt_mapping_size(map), NULL) == CKPT_OK;
  if (compared) {
    const char *first = ckpt_zip_entry_at(z, 0)->name;
    snprintf(prefix, sizeof prefix, "%.*s", (int)strcspn(first, "/"), first);
    compared = is_ours(z, prefix);
  }
  if (compared) {
    memory m = new_memory();
    write_again(&m, z, prefix);
    assert_int_equal(m.n, ckpt_mapping_size(map));
    adopt_id(&m, z, ckpt_mapping_data(map));
    assert_memory_equal(m.bytes, ckpt_mapping_data(map), m.n);
    free(m.bytes);
  }
  ckpt_zip_release(z);
  ckpt_mapping_release(map);
  return compared;
}

static void test_pytorch_files(void **state) {
  (void)state;
  char path[8192];
  int compared = 0;
  snprintf(path, sizeof path, "%s/data/torch", shared());
  DIR *dir = opendir(path);
  if (dir == NULL) skip();
  for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
    size_t n = strlen(e->d_name);
    snprintf(path, sizeof path, "%s/data/torch/%s", shared(), e->d_name);
    if (n > 3 && strcmp(e->d_name + n - 3, ".pt") == 0) compared += compare_file(path);
  }
  closedir(dir);
  print_message("%d files of PyTorch 2.7+ written again, byte-identical\n", compared);
  assert_true(compared >= 10);
}

/* ---- Beyond 4 GiB ------------------------------------------------------------------------------------ */

#define BIG ((size_t)0x100000001)

typedef struct sparse {
  ckpt_sink sink;
  int fd;
  const unsigned char *hole; /* BIG bytes that are not written */
  uint64_t at;
} sparse;

static ckpt_status leave_holes(ckpt_sink *sink, const void *data, size_t size, ckpt_error *err) {
  sparse *s = (sparse *)sink;
  const unsigned char *p = data;
  bool hole = p >= s->hole && p < s->hole + BIG;
  assert_true(size <= 4u << 20); /* block by block */
  if (!hole && pwrite(s->fd, data, size, (off_t)s->at) != (ssize_t)size) return ckpt_fail_errno(err, 5, "pwrite");
  s->at += size;
  return CKPT_OK;
}

static void write_beyond(sparse *s) {
  ckpt_zip_writer *w = NULL;
  ckpt_error err = {0};
  assert_int_equal(ckpt_zip_writer_new(&w, &s->sink, "big", &err), CKPT_OK);
  assert_int_equal(ckpt_zip_writer_add(w, "small", "abc", 3, &err), CKPT_OK);
  assert_int_equal(ckpt_zip_writer_add(w, "data/0", s->hole, BIG, &err), CKPT_OK);
  assert_int_equal(ckpt_zip_writer_add(w, "data/1", "x", 1, &err), CKPT_OK);
  assert_int_equal(ckpt_zip_writer_add(w, "data/2", NULL, 0, &err), CKPT_OK);
  assert_int_equal(ckpt_zip_writer_finish(w, &err), CKPT_OK);
  const char *names[] = {"small", "data/0", "data/1", "data/2"};
  assert_true(measured("big", 4, names, (uint64_t[]){3, BIG, 1, 0}) == s->at);
  ckpt_zip_writer_free(w);
}

/* The local header that ends `extra` bytes before the payload at `p`. */
static void check_local_header(const unsigned char *p, size_t name_n, int flags, const unsigned char *zip64, size_t n) {
  size_t pad = 0;
  while (memcmp(p - pad - 4, "FB", 2) != 0 && pad < 64) pad++;
  assert_true(pad < 64 && ckpt_le16(p - pad - 2) == pad);
  const unsigned char *extra = p - pad - 4 - n, *header = extra - name_n - 30;
  unsigned char expected[30] = {'P', 'K', 3, 4};
  ckpt_put16(expected + 6, (uint16_t)flags);
  ckpt_put16(expected + 26, (uint16_t)name_n);
  ckpt_put16(expected + 28, (uint16_t)(n + 4 + pad));
  assert_memory_equal(header, expected, 30);
  assert_memory_equal(extra, zip64, n);
}

static void check_beyond(ckpt_zip *z, const unsigned char *base, size_t total) {
  const unsigned char *p[5] = {0}, *big;
  unsigned char sizes[20] = {1, 0, 16, 0}, offset[12] = {1, 0, 8, 0}, both[28] = {1, 0, 16, 0};
  for (size_t i = 0; i < 5; i++) assert_int_equal(ckpt_zip_span(&p[i], z, i, NULL), CKPT_OK);
  for (size_t i = 0; i < 5; i++) assert_int_equal((p[i] - base) % 64, 0);
  big = p[1];
  ckpt_put64(sizes + 4, BIG); /* the compressed size is 0 in the local header */
  check_local_header(big, 10, 0x0808, sizes, 20);
  assert_memory_equal(big + BIG, "PK\7\10", 4);
  assert_true(ckpt_le64(big + BIG + 8) == BIG && ckpt_le64(big + BIG + 16) == BIG);
  ckpt_put64(offset + 4, (uint64_t)(big - base) + BIG + 24); /* a descriptor of 24 bytes */
  check_local_header(p[2], 10, 0x0808, offset, 12);
  assert_true(ckpt_le64(p[2] + 1 + 8) == 1 && ckpt_le64(p[2] + 1 + 16) == 1); /* though the record is tiny */
  ckpt_put64(both + 4, BIG);
  ckpt_put64(both + 12, BIG);
  const unsigned char *entry = base + ckpt_le64(base + total - 98 + 48) + 46 + 9;
  assert_memory_equal(entry + 20, "\377\377\377\377\377\377\377\377\12\0\24\0", 12);
  assert_int_equal(ckpt_le32(entry + 42), 64 + 3 + 16); /* below 4 GiB: no offset in the extra */
  assert_memory_equal(entry + 46 + 10, both, 20);
  assert_memory_equal(base + total - 22 + 16, "\377\377\377\377\0\0", 6);
}

static void test_beyond_4_gib(void **state) {
  (void)state;
  char path[4096];
  const char *tmp = getenv("TMPDIR");
  snprintf(path, sizeof path, "%s/ckpt-zip64-XXXXXX", tmp != NULL ? tmp : "/tmp");
  sparse s = {.sink = {leave_holes}, .fd = mkstemp(path)};
  assert_true(s.fd >= 0);
  unlink(path);
  void *zeros = mmap(NULL, BIG, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  assert_ptr_not_equal(zeros, MAP_FAILED);
  madvise(zeros, BIG, MADV_HUGEPAGE);
  s.hole = zeros;
  write_beyond(&s);
  munmap(zeros, BIG);
  ckpt_mapping *map = NULL;
  ckpt_zip *z = NULL;
  ckpt_error err = {0};
  assert_int_equal(ckpt_mapping_open_fd(&map, s.fd, path, &err), CKPT_OK);
  assert_int_equal(ckpt_mapping_size(map), s.at);
  if (ckpt_zip_open(&z, map, 0, ckpt_mapping_size(map), &err) != CKPT_OK) fail_msg("%s", err.message);
  assert_int_equal(ckpt_zip_entry_at(z, 1)->size, BIG);
  for (size_t i = 0; i < 5; i++)
    if (i != 1) assert_int_equal(ckpt_zip_check(z, i, &err), CKPT_OK);
  check_beyond(z, ckpt_mapping_data(map), ckpt_mapping_size(map));
  ckpt_zip_release(z);
  ckpt_mapping_release(map);
  close(s.fd);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_golden),        cmocka_unit_test(test_every_write_can_fail),
      cmocka_unit_test(test_long_names),    cmocka_unit_test(test_every_allocation_can_fail),
      cmocka_unit_test(test_many_records),  cmocka_unit_test(test_measure),
      cmocka_unit_test(test_pytorch_files), cmocka_unit_test(test_beyond_4_gib),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
