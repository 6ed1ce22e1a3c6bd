// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
/*
 * test_pth_tar.c - PyTorch's first format: the file of tests/data/old; archives made here with one thing wrong in the
 * tar itself or in one of its members; every byte changed, every length cut.
 */
#include "old_formats.h"
#include "pickle_read.h"
#include "tar_read.h"

/* ---- what the file holds ---- */

static void values(void **state) {
  (void)state;
  ckpt_checkpoint *cp = opened("tar.pth");
  assert_string_equal(ckpt_checkpoint_format(cp), "torch-tar");
  assert_int_equal(ckpt_checkpoint_saves(cp), 1);
  assert_int_equal(ckpt_checkpoint_trailing(cp), 0);
  HOLDS(cp, "w", 1, 2, 3, 4);
  HOLDS(cp, "tail", 3, 4);
  HOLDS(cp, "count", 7, 8);
  HOLDS(cp, "parameter", 3, 4);
  assert_ptr_equal(at(cp, "w"), at(cp, "again"));
  assert_int_equal(ckpt_tensor_offset(tensor_at(cp, "tail")), 2);
  assert_true(ckpt_tensor_shares_storage(tensor_at(cp, "w"), tensor_at(cp, "tail")));
  assert_true(ckpt_tensor_shares_storage(tensor_at(cp, "w"), tensor_at(cp, "parameter")));
  assert_true(ckpt_tensor_requires_grad(tensor_at(cp, "parameter")));
  assert_int_equal(ckpt_tensor_dtype(tensor_at(cp, "count")), CKPT_I64);
  ckpt_value *file = NULL;
  assert_string_equal(text_at(cp, "net"), "oldnet.Net");
  assert_string_equal(ckpt_value_text(ckpt_value_class_source(at(cp, "net"), &file), NULL),
                      "class Net(nn.Module): pass\n");
  assert_string_equal(ckpt_value_text(file, NULL), "/home/me/oldnet.py");
  ckpt_checkpoint_close(cp);
}

static void one_save(void **state) {
  (void)state;
  size_t n = 0;
  unsigned char *bytes = fixture(&n, "tar.pth");
  refused(bytes, n, 1, CKPT_E_NOTFOUND, "there is no save 2: the file holds 1 only");
  free(bytes);
}

/* Tensors lie in the mapping itself and outlive the checkpoint. */
static void tensors_outlive_their_checkpoint(void **state) {
  (void)state;
  size_t n = 0;
  unsigned char *bytes = fixture(&n, "tar.pth");
  ckpt_checkpoint *cp = NULL;
  ckpt_mapping *map = NULL;
  const void *data = NULL;
  assert_int_equal(ckpt_mapping_memory(&map, bytes, n, NULL), CKPT_OK);
  assert_int_equal(ckpt_checkpoint_open_mapping(&cp, map, "f", NULL, NULL), CKPT_OK);
  ckpt_mapping_release(map);
  ckpt_tensor *t = ckpt_tensor_retain(tensor_at(cp, "w"));
  ckpt_checkpoint_close(cp);
  assert_int_equal(ckpt_tensor_data(&data, t, NULL), CKPT_OK);
  assert_true((const unsigned char *)data > bytes && (const unsigned char *)data < bytes + n);
  assert_int_equal(ckpt_tensor_heap_bytes(t), 0);
  ckpt_tensor_release(t);
  free(bytes);
}

/* ---- archives made here ---- */

typedef struct member {
  const char *name, *bytes;
  size_t n;
  char type; /* 0: a regular file */
} member;

/* A ustar header and the bytes, filled to 512. */
static size_t put_member(unsigned char *out, const member *m) {
  unsigned sum = 0;
  char *h = memset(out, 0, 512);
  size_t filled = (m->n + 511) / 512 * 512;
  snprintf(h, 100, "%s", m->name);
  memcpy(h + 100, "0000644\0000000000\0000000000", 23);
  snprintf(h + 124, 12, "%011zo", m->n);
  memcpy(h + 136, "00000000000", 12);
  memset(h + 148, ' ', 8);
  h[156] = m->type == 0 ? '0' : m->type;
  if (m->type == '1' || m->type == '2') memcpy(h + 157, "elsewhere", 9);
  memcpy(h + 257, "ustar\00000", 8);
  for (int i = 0; i < 512; i++) sum += out[i];
  snprintf(h + 148, 8, "%06o", sum);
  memset(out + 512, 0, filled);
  if (m->n > 0) memcpy(out + 512, m->bytes, m->n);
  return 512 + filled;
}

static size_t archive(unsigned char *out, const member *members, size_t n) {
  size_t size = 0;
  for (size_t i = 0; i < n; i++) size += put_member(out + size, &members[i]);
  memset(out + size, 0, 1024);
  return size + 1024;
}

#define TORCH(name) "ctorch\n" name "\n"
#define PICKLE(o) "\x80\2" o "."
#define I64(byte) byte "\0\0\0\0\0\0\0"
#define ENTRY(key, location, cls) PICKLE("(" key location cls "t")
#define TWO_FLOATS I64("\2") "\0\0\x80?\0\0\0@"
#define ONE_STORAGE PICKLE("K\1") ENTRY("K\1", "X\3\0\0\0cpu", TORCH("FloatStorage")) TWO_FLOATS
#define PARTS(items) PICKLE("](" items "e")
#define STORAGES ONE_STORAGE PARTS("(K\5K\1K\1K\1t")
#define VIEW(size, stride, offset) "\1\0\0\0\0\0\0\0" I64(size) I64(stride) I64(offset)
#define TENSORS PICKLE("K\1") ENTRY("K\2", "K\1", TORCH("FloatTensor")) VIEW("\2", "\1", "\0")
#define OBJECT PICKLE("K\2Q")

enum { STORAGES_AT, TENSORS_AT, OBJECT_AT };

typedef struct row {
  int at; /* which member is replaced */
  const char *bytes;
  size_t n;
  ckpt_status status;
  const char *message;
} row;

static void refuse_each(const row *rows, size_t n) {
  static unsigned char bytes[1 << 14];
  for (size_t i = 0; i < n; i++) {
    member members[] = {{"storages", P(STORAGES), 0}, {"tensors", P(TENSORS), 0}, {"pickle", P(OBJECT), 0}};
    members[rows[i].at].bytes = rows[i].bytes;
    members[rows[i].at].n = rows[i].n;
    refused(bytes, archive(bytes, members, 3), 0, rows[i].status, rows[i].message);
  }
}

static void storages_with_something_wrong(void **state) {
  (void)state;
  static const row rows[] = {
      {STORAGES_AT, P(""), CKPT_E_CORRUPT, "storages+0x0: the pickle ends without STOP"},
      {STORAGES_AT, P(PICKLE("N")), CKPT_E_CORRUPT, "storages+0x0: a count that is none"},
      {STORAGES_AT, P(PICKLE("J\xff\xff\xff\xff")), CKPT_E_CORRUPT, "storages+0x0: a count that is none"},
      {STORAGES_AT, P(PICKLE("\x8a\5\0\0\0\x80\0")), CKPT_E_CORRUPT, "storages+0xa: the pickle ends without STOP"},
      {STORAGES_AT, P(PICKLE("K\1") PICKLE("N")), CKPT_E_CORRUPT, "storages+0x5: an entry without its parts"},
      {STORAGES_AT, P(PICKLE("K\1") ENTRY("N", "N", "N")), CKPT_E_CORRUPT, "storages+0x5: an entry without its parts"},
      {STORAGES_AT, P(PICKLE("K\1") ENTRY("K\1", "N", "N")), CKPT_E_CORRUPT,
       "storages+0x5: a storage of no storage class"},
      {STORAGES_AT, P(PICKLE("K\1") ENTRY("K\1", "N", TORCH("OddStorage"))), CKPT_E_CORRUPT,
       "storages+0x5: a storage of no storage class"},
      {STORAGES_AT, P(PICKLE("K\1") ENTRY("K\1", "N", TORCH("FloatStorage"))), CKPT_E_CORRUPT,
       "storages+0x21: a storage's size needs 8 bytes, the member has 0 more"},
      {STORAGES_AT, P(PICKLE("K\1") ENTRY("K\1", "N", TORCH("FloatStorage")) "\xff\xff\xff\xff\xff\xff\xff\xff"),
       CKPT_E_CORRUPT, "storages+0x21: a storage's size that is no count"},
      {STORAGES_AT, P(PICKLE("K\1") ENTRY("K\1", "N", TORCH("FloatStorage")) "\0\0\0\0\0\0\0\x40"), CKPT_E_CORRUPT,
       "storages+0x21: a storage's size that is no count"},
      {STORAGES_AT, P(PICKLE("K\1") ENTRY("K\1", "N", TORCH("FloatStorage")) I64("\2") "1234567"), CKPT_E_CORRUPT,
       "storages+0x29: a storage needs 8 bytes, the member has 7 more"},
      {STORAGES_AT, P(ONE_STORAGE), CKPT_E_CORRUPT, "storages+0x38: the pickle ends without STOP"},
      {STORAGES_AT, P(ONE_STORAGE PICKLE("N")), CKPT_E_CORRUPT,
       "storages+0x38: no list where the parts of storages should be"},
      {STORAGES_AT, P(ONE_STORAGE PARTS("N")), CKPT_E_CORRUPT, "storages+0x38: an entry without its parts"},
      {STORAGES_AT, P(ONE_STORAGE PARTS("(K\5K\1K\1Nt")), CKPT_E_CORRUPT, "storages+0x38: an entry without its parts"},
      {STORAGES_AT, P(ONE_STORAGE PARTS("(K\5K\7K\1K\1t")), CKPT_E_CORRUPT, "storages+0x38: key 7 is no storage"},
      {STORAGES_AT, P(ONE_STORAGE PARTS("(K\1K\1K\1K\1t")), CKPT_E_CORRUPT, "storages+0x38: key 1 is there twice"},
      {STORAGES_AT, P(ONE_STORAGE PARTS("(K\5K\5K\1K\1t")), CKPT_E_CORRUPT, "storages+0x38: key 5 is no storage"},
      {STORAGES_AT, P(ONE_STORAGE PARTS("(K\5K\1K\1K\2t")), CKPT_E_CORRUPT,
       "storages+0x38: key 5 is a part of a storage that reaches beyond it"},
      {STORAGES_AT, P(ONE_STORAGE PARTS("(K\5K\1J\xff\xff\xff\xffK\2t")), CKPT_E_CORRUPT,
       "storages+0x38: key 5 is a part of a storage that reaches beyond it"},
      {STORAGES_AT, P(ONE_STORAGE PARTS("(K\5K\1K\1J\xff\xff\xff\xfft")), CKPT_E_CORRUPT,
       "storages+0x38: key 5 is a part of a storage that reaches beyond it"},
      {STORAGES_AT, P(ONE_STORAGE PARTS("(K\5K\1\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\1t")), CKPT_E_CORRUPT,
       "storages+0x38: key 5 is a part of a storage that reaches beyond it"},
  };
  refuse_each(rows, CKPT_COUNTOF(rows));
}

static void tensors_with_something_wrong(void **state) {
  (void)state;
#define HEAD(cls) PICKLE("K\1") ENTRY("K\2", "K\1", TORCH(cls))
  static const row rows[] = {
      {TENSORS_AT, P(""), CKPT_E_CORRUPT, "tensors+0x0: the pickle ends without STOP"},
      {TENSORS_AT, P(PICKLE("K\2") ENTRY("K\2", "K\1", TORCH("FloatTensor")) VIEW("\2", "\1", "\0")), CKPT_E_CORRUPT,
       "tensors+0x41: the pickle ends without STOP"},
      {TENSORS_AT, P(PICKLE("K\1") PICKLE(")")), CKPT_E_CORRUPT, "tensors+0x5: an entry without its parts"},
      {TENSORS_AT, P(PICKLE("K\1") ENTRY("K\2", "N", TORCH("FloatTensor"))), CKPT_E_CORRUPT,
       "tensors+0x5: an entry without its parts"},
      {TENSORS_AT, P(PICKLE("K\1") ENTRY("K\2", "K\7", TORCH("FloatTensor"))), CKPT_E_CORRUPT,
       "tensors+0x5: key 7 is no storage"},
      {TENSORS_AT, P(HEAD("OddTensor")), CKPT_E_CORRUPT, "tensors+0x5: a tensor of no tensor class"},
      {TENSORS_AT, P(HEAD("FloatStorage")), CKPT_E_CORRUPT, "tensors+0x5: a tensor of no tensor class"},
      {TENSORS_AT, P(HEAD("LongTensor")), CKPT_E_CORRUPT,
       "tensors+0x5: a tensor whose class does not fit its storage's"},
      {TENSORS_AT, P(HEAD("FloatTensor")), CKPT_E_CORRUPT,
       "tensors+0x21: a tensor's number of dimensions needs 8 bytes, the member has 0 more"},
      {TENSORS_AT, P(HEAD("FloatTensor") "\xff\xff\xff\xff\0\0\0\0"), CKPT_E_CORRUPT,
       "tensors+0x21: a tensor of a negative number of dimensions"},
      {TENSORS_AT, P(HEAD("FloatTensor") "\0\0\0\x80\0\0\0\0"), CKPT_E_CORRUPT,
       "tensors+0x21: a tensor of a negative number of dimensions"},
      {TENSORS_AT, P(HEAD("FloatTensor") "\x41\0\0\0\0\0\0\0"), CKPT_E_LIMIT,
       "tensors+0x21: a tensor of 65 dimensions; at most 64 are supported"},
      {TENSORS_AT, P(HEAD("FloatTensor") "\1\0\0\0\0\0\0\0" I64("\2")), CKPT_E_CORRUPT,
       "tensors+0x31: a tensor's size needs 8 bytes, the member has 0 more"},
      {TENSORS_AT, P(HEAD("FloatTensor") "\1\0\0\0\0\0\0\0" I64("\2") I64("\1")), CKPT_E_CORRUPT,
       "tensors+0x39: a tensor's offset needs 8 bytes, the member has 0 more"},
      {TENSORS_AT, P(HEAD("FloatTensor") VIEW("\3", "\1", "\0")), CKPT_E_CORRUPT,
       "tensors+0x39: the storage holds 8 bytes, the view needs 12"},
      {TENSORS_AT, P(HEAD("FloatTensor") VIEW("\2", "\2", "\0")), CKPT_E_CORRUPT,
       "tensors+0x39: the storage holds 8 bytes, the view needs 12"},
      {TENSORS_AT, P(HEAD("FloatTensor") VIEW("\2", "\1", "\1")), CKPT_E_CORRUPT,
       "tensors+0x39: the storage holds 8 bytes, the view needs 12"},
      {TENSORS_AT, P(HEAD("FloatTensor") "\1\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff" I64("\1") I64("\0")),
       CKPT_E_CORRUPT, "tensors+0x39: size -1 of dimension 0 is negative"},
      {TENSORS_AT, P(PICKLE("K\1") ENTRY("K\1", "K\1", TORCH("FloatTensor")) VIEW("\2", "\1", "\0")), CKPT_E_CORRUPT,
       "tensors+0x39: key 1 is there twice"},
      {TENSORS_AT,
       P(PICKLE("K\2") ENTRY("K\2", "K\1", TORCH("FloatTensor")) VIEW("\2", "\1", "\0")
             ENTRY("K\3", "K\2", TORCH("FloatTensor")) VIEW("\2", "\1", "\0")),
       CKPT_E_CORRUPT, "tensors+0x41: key 2 is no storage"},
      {TENSORS_AT, P(PICKLE("K\1") ENTRY("K\2", "K\5", TORCH("FloatTensor")) VIEW("\2", "\1", "\0")), CKPT_E_CORRUPT,
       "tensors+0x39: the storage holds 4 bytes, the view needs 8"},
      {TENSORS_AT,
       P(PICKLE("K\1") ENTRY("K\2", "K\5", TORCH("FloatTensor")) "\1\0\0\0\0\0\0\0" I64("\0")
             I64("\1") "\xff\xff\xff\xff\xff\xff\xff\x7f"),
       CKPT_E_CORRUPT, "tensors+0x39: a storage offset that does not fit in 63 bits"},
  };
  refuse_each(rows, CKPT_COUNTOF(rows));
}

static void objects_with_something_wrong(void **state) {
  (void)state;
  static const row rows[] = {
      {OBJECT_AT, P(""), CKPT_E_CORRUPT, "pickle+0x0: the pickle ends without STOP"},
      {OBJECT_AT, P("\x80\2K\2Q"), CKPT_E_CORRUPT, "pickle+0x5: the pickle ends without STOP"},
      {OBJECT_AT, P(PICKLE("K\3Q")), CKPT_E_CORRUPT, "pickle+0x4: key 3 is neither a tensor nor a storage"},
      {OBJECT_AT, P(PICKLE("X\1\0\0\0003Q")), CKPT_E_CORRUPT,
       "pickle+0x8: a persistent id that names neither a tensor nor a storage"},
      {OBJECT_AT, P(PICKLE("NQ")), CKPT_E_CORRUPT,
       "pickle+0x3: a persistent id that names neither a tensor nor a storage"},
      {OBJECT_AT, P(PICKLE(")Q")), CKPT_E_CORRUPT, "pickle+0x3: a module's persistent id without a class"},
      {OBJECT_AT, P(PICKLE("ctorch._utils\n_rebuild_tensor\n(NK\0K\1\x85K\1\x85tR")), CKPT_E_CORRUPT,
       "pickle+0x2b: a tensor without a storage"},
  };
  refuse_each(rows, CKPT_COUNTOF(rows));
}

/* ---- what is wrong with the archive ---- */

static void refuse_archive(const member *members, size_t n, ckpt_status status, const char *message) {
  static unsigned char bytes[1 << 14];
  refused(bytes, archive(bytes, members, n), 0, status, message);
}

#define GOOD_STORAGES \
  { "storages", P(STORAGES), 0 }
#define GOOD_TENSORS \
  { "tensors", P(TENSORS), 0 }
#define GOOD_OBJECT \
  { "pickle", P(OBJECT), 0 }

static void members_with_something_wrong(void **state) {
  (void)state;
  const member none[] = {{"README", P("hello"), 0}}, no_tensors[] = {GOOD_STORAGES, GOOD_OBJECT};
  const member twice[] = {GOOD_STORAGES, GOOD_TENSORS, GOOD_OBJECT, GOOD_TENSORS};
  const char *const refusals[] = {"byte 2048: tar member 'pickle' is no regular file"};
  refuse_archive(none, 1, CKPT_E_FORMAT, "a tar archive, but not one of PyTorch's: it has no member 'storages'");
  refuse_archive(no_tensors, 2, CKPT_E_FORMAT, "a tar archive, but not one of PyTorch's: it has no member 'tensors'");
  refuse_archive(twice, 4, CKPT_E_CORRUPT, "byte 3072: tar member 'tensors' is there twice");
  for (const char *type = "123456"; *type != '\0'; type++) {
    const member odd[] = {GOOD_STORAGES, GOOD_TENSORS, {"pickle", P(""), *type}};
    refuse_archive(odd, 3, CKPT_E_CORRUPT, refusals[0]);
  }
}

/* Names that would be paths, links and devices beside the three members are not looked at. */
static void members_that_do_not_matter(void **state) {
  (void)state;
  static unsigned char bytes[1 << 14];
  const member members[] = {{"../../etc/passwd", P("x"), 0},
                            {"/storages", P(""), '2'},
                            GOOD_OBJECT,
                            {"dev", P(""), '3'},
                            GOOD_TENSORS,
                            {"a/b/", P(""), '5'},
                            {"tensors/", P(""), 0},
                            GOOD_STORAGES,
                            {"sys_info", P("?"), 0}};
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  if (open_bytes(&cp, bytes, archive(bytes, members, CKPT_COUNTOF(members)), 0, true, &err) != CKPT_OK)
    fail_msg("%s", err.message);
  HOLDS(cp, "", 1, 2);
  ckpt_checkpoint_close(cp);
}

static void set_field(unsigned char *header, size_t at, size_t n, const char *text) {
  unsigned sum = 0;
  memset(header + at, 0, n);
  memcpy(header + at, text, strlen(text));
  memset(header + 148, ' ', 8);
  for (int i = 0; i < 512; i++) sum += header[i];
  snprintf((char *)header + 148, 8, "%06o", sum);
}

static void headers_with_something_wrong(void **state) {
  (void)state;
  static unsigned char bytes[1 << 14];
  const member members[] = {GOOD_STORAGES, GOOD_TENSORS, GOOD_OBJECT};
  static const char *const sizes[] = {"77777777777",
                                      "00000010000",
                                      "garbage",
                                      "-1",
                                      "\x80\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                                      "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"};
  for (size_t i = 0; i < CKPT_COUNTOF(sizes); i++)
    for (size_t at_member = 0; at_member < 3; at_member++) {
      ckpt_checkpoint *cp = NULL;
      ckpt_error err = {0};
      size_t n = archive(bytes, members, 3);
      set_field(bytes + 1024 * at_member, 124, 12, sizes[i]);
      ckpt_status st = open_bytes(&cp, bytes, n, 0, true, &err);
      if (st != CKPT_E_CORRUPT && st != CKPT_E_FORMAT) fail_msg("%zu, %zu: %s", i, at_member, err.message);
    }
  size_t n = archive(bytes, members, 3);
  set_field(bytes + 2048, 124, 12, "00000010000");
  refused(bytes, n, 0, CKPT_E_CORRUPT, "the tar archive is broken at byte 2048: Truncated tar archive");
  n = archive(bytes, members, 3);
  bytes[1024 + 148] ^= 1;
  refused(bytes, n, 0, CKPT_E_CORRUPT, "the tar archive is broken at byte 1024: Damaged tar archive");
  n = archive(bytes, members, 3);
  refused(bytes, n - 1023, 0, CKPT_E_CORRUPT, "the tar archive is broken at byte 3073: Truncated tar archive");
}

/* GNU's sparse files: holes, whose zeros are nowhere in the archive. */
static void sparse_members(void **state) {
  (void)state;
  static unsigned char bytes[1 << 14];
  const member members[] = {GOOD_STORAGES, GOOD_TENSORS, {"pickle", P(OBJECT), 'S'}};
  static const char *const offsets[] = {"00000000100", "00000000000"};
  static const char *const refusals[] = {"byte 2048: tar member 'pickle' does not lie in one piece",
                                         "byte 2048: tar member 'pickle' does not lie whole in the file"};
  for (size_t i = 0; i < 2; i++) {
    size_t n = archive(bytes, members, 3);
    unsigned char *header = bytes + 2048;
    set_field(header, 257, 8, "ustar  ");
    set_field(header, 386, 12, offsets[i]);
    set_field(header, 398, 12, "00000000006");
    set_field(header, 483, 12, "00000000200");
    refused(bytes, n, 0, CKPT_E_CORRUPT, refusals[i]);
  }
}

/* ---- changed, cut, out of memory ---- */

static void changed(void **state) {
  (void)state;
  changed_at_every_byte("tar.pth");
}

/* The last member ends at byte 4096; the blocks of zeros behind it may be missing. */
static void cut(void **state) {
  (void)state;
  cut_at_every_length("tar.pth", 4096, 5120);
}

static void out_of_memory(void **state) {
  (void)state;
  every_allocation_fails("tar.pth", 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(values),
      cmocka_unit_test(one_save),
      cmocka_unit_test(tensors_outlive_their_checkpoint),
      cmocka_unit_test(storages_with_something_wrong),
      cmocka_unit_test(tensors_with_something_wrong),
      cmocka_unit_test(objects_with_something_wrong),
      cmocka_unit_test(members_with_something_wrong),
      cmocka_unit_test(members_that_do_not_matter),
      cmocka_unit_test(headers_with_something_wrong),
      cmocka_unit_test(sparse_members),
      cmocka_unit_test(changed),
      cmocka_unit_test(cut),
      cmocka_unit_test(out_of_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
