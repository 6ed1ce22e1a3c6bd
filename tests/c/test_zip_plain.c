// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup
/*
 * test_zip_plain.c - archives that are read without libzip, beside libzip. What is taken as plain libzip must take too,
 * with the same records at the same bytes; so every byte of an archive's structure is changed in several ways, every
 * length is cut, and both readers are asked. Errors are always libzip's way's own, so they are equal as texts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above first */
#include <cmocka.h>

#include "alloc_faults.h"
#include "zip_plain.h"
#include "zip_write.h"

typedef struct memory {
  ckpt_sink sink;
  unsigned char bytes[1 << 16];
  size_t n;
} memory;

static ckpt_status put(ckpt_sink *sink, const void *data, size_t size, ckpt_error *err) {
  memory *m = (memory *)sink;
  (void)err;
  assert_true(size <= sizeof m->bytes - m->n);
  memcpy(m->bytes + m->n, data, size);
  m->n += size;
  return CKPT_OK;
}

static void write_archive(memory *m, const char *const *names, size_t n) {
  static const char data[300] = "the bytes of a record, which are whatever they are";
  ckpt_zip_writer *w = NULL;
  *m = (memory){.sink.write = put};
  assert_int_equal(ckpt_zip_writer_new(&w, &m->sink, "Some.Folder", NULL), CKPT_OK);
  for (size_t i = 0; i < n; i++) assert_int_equal(ckpt_zip_writer_add(w, names[i], data, 37 * i % 300, NULL), CKPT_OK);
  assert_int_equal(ckpt_zip_writer_finish(w, NULL), CKPT_OK);
  ckpt_zip_writer_free(w);
}

static const char *const usual[] = {"data.pkl", "byteorder", "data/0", "data/1", "data/10", "data/2", "version"};

static bool is_plain(const unsigned char *bytes, size_t n) {
  ckpt_zip_directory d;
  bool plain = false;
  assert_int_equal(ckpt_zip_plain(&d, &plain, bytes, n, NULL), CKPT_OK);
  if (plain) {
    free(d.entries);
    free(d.names);
  }
  return plain;
}

static void assert_same_entries(ckpt_zip *a, ckpt_zip *b) {
  assert_int_equal(ckpt_zip_count(a), ckpt_zip_count(b));
  for (size_t i = 0; i < ckpt_zip_count(a); i++) {
    const ckpt_zip_entry *x = ckpt_zip_entry_at(a, i), *y = ckpt_zip_entry_at(b, i);
    const unsigned char *at = NULL, *to = NULL;
    assert_string_equal(x->name, y->name);
    assert_int_equal(x->size, y->size);
    assert_int_equal(x->packed, y->packed);
    assert_int_equal(x->crc, y->crc);
    assert_int_equal(x->stored, y->stored);
    assert_int_equal(ckpt_zip_find(a, y->name), i);
    assert_int_equal(ckpt_zip_find(b, x->name), i);
    if (!x->stored) continue;
    assert_int_equal(ckpt_zip_span(&at, a, i, NULL), CKPT_OK);
    assert_int_equal(ckpt_zip_span(&to, b, i, NULL), CKPT_OK);
    assert_ptr_equal(at, to);
  }
}

/* Both readers take it or refuse it in the same words; gives whether they took it. */
static bool readers_agree(const unsigned char *bytes, size_t n) {
  ckpt_mapping *map = NULL;
  ckpt_zip *ours = NULL, *theirs = NULL;
  ckpt_error a = {0}, b = {0};
  assert_int_equal(ckpt_mapping_memory(&map, bytes, n, NULL), CKPT_OK);
  ckpt_status st = ckpt_zip_open(&ours, map, 0, n, &a), expected = ckpt_zip_open_libzip(&theirs, map, 0, n, &b);
  if (st != expected) fail_msg("ours: '%s', libzip's way: '%s'", a.message, b.message);
  if (st == CKPT_OK) assert_same_entries(ours, theirs);
  if (st != CKPT_OK) assert_string_equal(a.message, b.message);
  ckpt_zip_release(ours);
  ckpt_zip_release(theirs);
  ckpt_mapping_release(map);
  return st == CKPT_OK;
}

static void test_usual_archives_are_plain(void **state) {
  (void)state;
  static memory m;
  write_archive(&m, usual, CKPT_COUNTOF(usual));
  assert_true(is_plain(m.bytes, m.n));
  assert_true(readers_agree(m.bytes, m.n));
  write_archive(&m, usual, 1);
  assert_true(is_plain(m.bytes, m.n));
  assert_true(readers_agree(m.bytes, m.n));
}

/* Names that differ in case only, are folders, or are not ASCII. */
static void test_doubtful_names(void **state) {
  (void)state;
  static memory m;
  static const char *const folded[] = {"data/a", "data/A"}, *const twice[] = {"data/a", "data/a"};
  static const char *const folder[] = {"data/", "x"}, *const wide[] = {"data/\xc3\xa4", "x"};
  write_archive(&m, folded, 2);
  assert_false(readers_agree(m.bytes, m.n));
  write_archive(&m, twice, 2);
  assert_false(readers_agree(m.bytes, m.n));
  write_archive(&m, folder, 2);
  assert_false(is_plain(m.bytes, m.n));
  readers_agree(m.bytes, m.n);
  write_archive(&m, wide, 2);
  assert_false(is_plain(m.bytes, m.n));
  assert_true(readers_agree(m.bytes, m.n));
}

static void test_each_byte_changed(void **state) {
  (void)state;
  static memory m;
  static const unsigned char changes[] = {0x01, 0x02, 0x08, 0x20, 0x40, 0x80, 0xff};
  size_t taken = 0, plain = 0;
  write_archive(&m, usual, CKPT_COUNTOF(usual));
  for (size_t i = 4; i < m.n; i++)
    for (size_t k = 0; k < sizeof changes; k++) {
      m.bytes[i] ^= changes[k];
      plain += is_plain(m.bytes, m.n);
      taken += readers_agree(m.bytes, m.n);
      m.bytes[i] ^= changes[k];
    }
  assert_true(plain > 0 && taken >= plain); /* bytes of records may be any */
}

/* Two bytes at once, in both headers of a record, so that they agree with each other. */
static void test_both_headers_changed(void **state) {
  (void)state;
  static memory m;
  write_archive(&m, usual, CKPT_COUNTOF(usual));
  ckpt_zip_directory d;
  bool plain = false;
  assert_int_equal(ckpt_zip_plain(&d, &plain, m.bytes, m.n, NULL), CKPT_OK);
  assert_true(plain);
  size_t central = d.at;
  for (size_t i = 0; i < d.n; i++) {
    size_t local = ckpt_le32(m.bytes + central + 42), name = ckpt_le16(m.bytes + central + 28);
    for (size_t field = 0; field < 26 + name; field++)
      for (unsigned bit = 1; bit < 256; bit <<= 1) {
        size_t at = field < 26 ? field : field + 16; /* the directory has 16 bytes more before the name */
        m.bytes[local + 4 + field] ^= (unsigned char)bit;
        m.bytes[central + 6 + at - (field < 26 ? 0 : 2)] ^= (unsigned char)bit;
        readers_agree(m.bytes, m.n);
        m.bytes[local + 4 + field] ^= (unsigned char)bit;
        m.bytes[central + 6 + at - (field < 26 ? 0 : 2)] ^= (unsigned char)bit;
      }
    central += 46 + name + ckpt_le16(m.bytes + central + 30);
  }
  free(d.entries);
  free(d.names);
}

static void test_each_length(void **state) {
  (void)state;
  static memory m;
  write_archive(&m, usual, CKPT_COUNTOF(usual));
  for (size_t n = 4; n < m.n; n++) assert_false(readers_agree(m.bytes, n));
  m.bytes[m.n] = 0; /* one byte more than there should be */
  readers_agree(m.bytes, m.n + 1);
}

/* What looks like another end record, in a record's bytes: libzip decides. */
static void test_a_second_end(void **state) {
  (void)state;
  static memory m;
  write_archive(&m, usual, CKPT_COUNTOF(usual));
  for (size_t i = 4; i + 4 <= m.n - 22; i += 7) {
    unsigned char kept[4];
    memcpy(kept, m.bytes + i, 4);
    memcpy(m.bytes + i, "PK\5\6", 4);
    assert_false(is_plain(m.bytes, m.n));
    readers_agree(m.bytes, m.n);
    memcpy(m.bytes + i, kept, 4);
  }
}

typedef struct opening {
  ckpt_mapping *map;
  size_t n;
} opening;

static ckpt_status open_and_close(void *context, ckpt_error *err) {
  const opening *o = context;
  ckpt_zip *z = NULL;
  ckpt_status st = ckpt_zip_open(&z, o->map, 0, o->n, err);
  ckpt_zip_release(z);
  return st;
}

static void test_without_memory(void **state) {
  (void)state;
  static memory m;
  opening o = {NULL, 0};
  write_archive(&m, usual, CKPT_COUNTOF(usual));
  o.n = m.n;
  assert_int_equal(ckpt_mapping_memory(&o.map, m.bytes, m.n, NULL), CKPT_OK);
  assert_true(fail_each_allocation(open_and_close, &o) >= 4); /* entries, names, table, order */
  ckpt_mapping_release(o.map);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_usual_archives_are_plain),
      cmocka_unit_test(test_doubtful_names),
      cmocka_unit_test(test_each_byte_changed),
      cmocka_unit_test(test_both_headers_changed),
      cmocka_unit_test(test_each_length),
      cmocka_unit_test(test_a_second_end),
      cmocka_unit_test(test_without_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
