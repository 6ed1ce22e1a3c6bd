// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
/*
 * test_bare_pickle.c - pickles without anything around them: every protocol, several in a file, tensors that carry
 * their bytes along or lack them; where a pickle ends.
 */
#include "bare_pickle.h"
#include "old_formats.h"
#include "pickle_read.h"

/* ---- what the files hold ---- */

static void every_protocol(void **state) {
  (void)state;
  for (int protocol = 0; protocol <= 5; protocol++) {
    char name[32];
    int64_t i = 0;
    double number = 0;
    size_t n = 0;
    snprintf(name, sizeof name, "bare_protocol%d.pkl", protocol);
    ckpt_checkpoint *cp = opened(name);
    assert_string_equal(ckpt_checkpoint_format(cp), "pickle");
    assert_int_equal(ckpt_checkpoint_saves(cp), 1);
    assert_int_equal(ckpt_checkpoint_trailing(cp), 0);
    assert_int_equal(ckpt_value_int(&i, at(cp, "int"), NULL), CKPT_OK);
    assert_int_equal(i, -5);
    assert_int_equal(ckpt_value_kind(at(cp, "big")), CKPT_BIGINT);
    assert_int_equal(ckpt_value_double(&number, at(cp, "float"), NULL), CKPT_OK);
    assert_true(number == 0.5);
    assert_string_equal(text_at(cp, "text"), "\xc3\xa9");
    assert_int_equal(ckpt_value_kind(at(cp, "bytes")), CKPT_BYTES);
    assert_memory_equal(ckpt_value_text(at(cp, "bytes"), &n), "\xff", 1);
    assert_int_equal(n, 1);
    assert_int_equal(ckpt_value_kind(at(cp, "list[1]")), CKPT_NONE);
    assert_int_equal(ckpt_value_kind(at(cp, "pair")), CKPT_TUPLE);
    ckpt_checkpoint_close(cp);
  }
}

static void several_pickles(void **state) {
  (void)state;
  static const ckpt_kind kinds[] = {CKPT_DICT, CKPT_DICT, CKPT_LIST};
  for (size_t save = 0; save < 3; save++) {
    ckpt_checkpoint *cp = opened_save("several.pkl", save);
    assert_int_equal(ckpt_checkpoint_saves(cp), 3);
    assert_int_equal(ckpt_checkpoint_trailing(cp), 0);
    assert_int_equal(ckpt_value_kind(ckpt_checkpoint_root(cp)), kinds[save]);
    ckpt_checkpoint_close(cp);
  }
  size_t n = 0;
  unsigned char *bytes = fixture(&n, "several.pkl");
  refused(bytes, n, 3, CKPT_E_NOTFOUND, "there is no save 4: the file holds 3");
  free(bytes);
}

typedef struct file {
  const char *bytes;
  size_t n, saves, trailing;
} file;

/* With PROTO, what follows and has none is no pickle; without, everything must be one. */
static void what_follows(void **state) {
  (void)state;
  static const file files[] = {
      {P("\x80\2N."), 1, 0},        {P("\x80\2N.N."), 1, 2},         {P("\x80\2N.\x80\4N."), 2, 0},
      {P("\x80\2N.\x80\2."), 1, 3}, {P("\x80\2N.\x80\2N.\0"), 2, 1}, {P("N."), 1, 0},
      {P("I1\n.I2\n."), 2, 0},      {P("N.\x80\2N."), 2, 0},         {P("\x80\2N.\x80"), 1, 1},
  };
  for (size_t i = 0; i < CKPT_COUNTOF(files); i++) {
    ckpt_checkpoint *cp = NULL;
    ckpt_error err = {0};
    if (open_bytes(&cp, files[i].bytes, files[i].n, 0, false, &err) != CKPT_OK) fail_msg("%zu: %s", i, err.message);
    assert_int_equal(ckpt_checkpoint_saves(cp), files[i].saves);
    assert_int_equal(ckpt_checkpoint_trailing(cp), files[i].trailing);
    ckpt_checkpoint_close(cp);
  }
  refused(P("\x80\2N.\x80\2."), 0, CKPT_E_CORRUPT, "file+0x6: the stack is empty where a value is needed");
  refused(P("\x80\2K\1Qz"), 0, CKPT_E_CORRUPT, "file+0x5: 0x7a is no pickle opcode");
  refused(P("\x80\2N.\x80\2N"), 1, CKPT_E_CORRUPT, "file+0x7: the pickle ends without STOP");
}

/* ---- tensors ---- */

static void tensors_with_their_bytes(void **state) {
  (void)state;
  static const char *const names[] = {"inline_protocol2.pkl", "inline_protocol4.pkl"};
  for (size_t i = 0; i < CKPT_COUNTOF(names); i++) {
    ckpt_checkpoint *cp = opened(names[i]);
    HOLDS(cp, "a", 1, 2, 3);
    HOLDS(cp, "b", 1, 2, 3);
    assert_ptr_equal(at(cp, "a"), at(cp, "same"));
    assert_true(ckpt_tensor_shares_storage(tensor_at(cp, "a"), tensor_at(cp, "b")));
    ckpt_tensor *kept = ckpt_tensor_retain(tensor_at(cp, "b"));
    ckpt_checkpoint_close(cp);
    char hex[65];
    assert_int_equal(ckpt_tensor_sha256(hex, kept, NULL), CKPT_OK);
    ckpt_tensor_release(kept);
  }
}

#define UTILS(name) "ctorch._utils\n" name "\n"
#define LOAD "ctorch.storage\n_load_from_bytes\n"
#define SIZES "K\1\x85K\1\x85"
#define TENSOR(storage) UTILS("_rebuild_tensor") "(" storage "K\0" SIZES "tR"
#define HOOKS "ccollections\nOrderedDict\n)R"
#define ID                                           \
  "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" \
  "0"                                                \
  "X\3\0\0\0cpuK\1tQ"
#define MAGIC "\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."

static void is_object(const char *bytes, size_t n) {
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  if (open_bytes(&cp, bytes, n, 0, true, &err) != CKPT_OK) fail_msg("%s", err.message);
  assert_int_equal(ckpt_value_kind(ckpt_checkpoint_root(cp)), CKPT_OBJECT);
  ckpt_listing *l = NULL;
  assert_int_equal(ckpt_listing_new(&l, ckpt_checkpoint_root(cp), NULL), CKPT_OK);
  ckpt_listing_free(l);
  ckpt_checkpoint_close(cp);
}

/* A data.pkl without its archive: the file opens, its tensors are objects without data, and none is lost. */
static void tensors_without_their_bytes(void **state) {
  (void)state;
  is_object(P("\x80\2" ID "."));
  is_object(P("\x80\2" TENSOR(ID) "."));
  is_object(P("\x80\2" UTILS("_rebuild_parameter") TENSOR(ID) "\x88" HOOKS "\x87R."));
  is_object(
      P("\x80\2"
        "ctorch._tensor\n_rebuild_from_type_v2\n(" UTILS("_rebuild_tensor") "N(" ID "K\0" SIZES "tNtR."));
  is_object(P("\x80\2" TENSOR(LOAD "N\x85R") "."));
  is_object(P("\x80\3" TENSOR(LOAD "C\3abc\x85R") "."));
  is_object(P("\x80\3" LOAD "C\x21" MAGIC "\x80\2M\xe9\3.\x80\2}.\x80\2N.\x80\2].\x85R."));
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  ckpt_pickle p = {0};
  assert_int_equal(open_bytes(&cp, P("\x80\2}U\1w" TENSOR(ID) "s."), 0, true, &err), CKPT_OK);
  assert_int_equal(ckpt_pickle_write(&p, ckpt_checkpoint_root(cp), &err), CKPT_E_UNSUPPORTED);
  assert_string_equal(err.message, "w.args[0]: a persistent id of something that the file does not hold");
  ckpt_checkpoint_close(cp);
}

static void storages_with_something_wrong(void **state) {
  (void)state;
  refused(P("\x80\3" LOAD "C\x0f" MAGIC "\x85R."), 0, CKPT_E_CORRUPT,
          "file+0x34: a storage inside the pickle: file+0xf: the pickle ends without STOP");
  refused(P("\x80\2" TENSOR("N") "."), 0, CKPT_E_CORRUPT, "file+0x2b: a tensor without a storage");
}

/* The same bytes asked for a thousand times are copied once. */
static void bytes_asked_for_again(void **state) {
  (void)state;
  size_t n = 0;
  unsigned char *whole = fixture(&n, "inline_protocol4.pkl"), *from = whole;
  while (memcmp(from, MAGIC, 15) != 0) from++;
  size_t length = from[-1];
  unsigned char *bytes = malloc(1 << 16), *p = bytes;
  p += sprintf((char *)p, "\x80\3(" LOAD "q%cC%c", 0x71, (int)length); /* memo entry 'q' is the function */
  memcpy(p, from, length);
  p += length;
  p += sprintf((char *)p, "q%c\x85R", 0x72);
  for (int i = 0; i < 1000; i++) p += sprintf((char *)p, "h%ch%c\x85R", 0x71, 0x72);
  p += sprintf((char *)p, "t.");
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  if (open_bytes(&cp, bytes, (size_t)(p - bytes), 0, true, &err) != CKPT_OK) fail_msg("%s", err.message);
  const ckpt_value *first = ckpt_value_item(ckpt_checkpoint_root(cp), 0);
  assert_int_equal(ckpt_value_count(ckpt_checkpoint_root(cp)), 1001);
  assert_int_equal(ckpt_storage_size(first->made->storage), 12);
  for (size_t i = 1; i < 1001; i++)
    assert_ptr_equal(ckpt_value_item(ckpt_checkpoint_root(cp), i)->made->storage, first->made->storage);
  ckpt_checkpoint_close(cp);
  free(bytes);
  free(whole);
}

/* ---- where a pickle ends ---- */

typedef struct extent {
  const char *bytes;
  size_t n, end;
} extent;

static void extents(void **state) {
  (void)state;
  static const extent rows[] = {
      {P("N.xx"), 2},
      {P(""), 0},
      {P("N"), 1},
      {P("Nz."), 2}, /* behind what is no opcode, which a reader names */
      {P("X\1\0\0\0.."), 7},
      {P("X\5\0\0\0.."), 7},
      {P("X\1\0"), 3},
      {P("X\xff\xff\xff\xff."), 6},
      {P("\x8d\xff\xff\xff\xff\xff\xff\xff\xff."), 10},
      {P("c.\n.\n.N"), 6},
      {P("c.\n."), 4},
      {P("I.\n.N"), 4},
      {P("G........."), 10},
      {P("G...."), 5},
      {P("\x95........."), 10},
      {P("U\1...N"), 4},
      {P("\x8a\1..N"), 4},
  };
  for (size_t i = 0; i < CKPT_COUNTOF(rows); i++) {
    unsigned char *exact = malloc(rows[i].n + 1);
    memcpy(exact + 1, rows[i].bytes, rows[i].n);
    assert_int_equal(ckpt_pickle_extent(exact, 1, rows[i].n + 1), rows[i].end + 1);
    free(exact);
  }
}

/* No opcode takes the reader further than the extent says: what it makes of the rest does not depend on the rest. */
static void extents_of_every_opcode(void **state) {
  (void)state;
  unsigned char bytes[40];
  for (int code = 0; code < 256; code++)
    for (int fill = 0; fill < 256; fill += 5) {
      ckpt_document *doc = NULL;
      ckpt_value *v = NULL;
      size_t used[2] = {0, 0};
      ckpt_status st[2];
      memset(bytes, fill, sizeof bytes);
      memcpy(bytes, "\x80\2NNN(", 6);
      bytes[6] = (unsigned char)code;
      size_t end = ckpt_pickle_extent(bytes, 0, sizeof bytes);
      for (int i = 0; i < 2; i++) {
        assert_int_equal(ckpt_document_make(&doc, 1 << 20, NULL), CKPT_OK);
        st[i] = ckpt_pickle_read(&v, &used[i], doc, bytes, i == 0 ? sizeof bytes : end, "p", NULL, NULL);
        ckpt_document_release(doc);
      }
      assert_int_equal(used[0], used[1]);
      assert_int_equal(st[0] == CKPT_OK, st[1] == CKPT_OK);
      assert_true(used[0] <= end);
    }
}

/* ---- changed, cut, out of memory ---- */

static const char *const names[] = {"bare_protocol0.pkl", "bare_protocol1.pkl",   "bare_protocol2.pkl",
                                    "bare_protocol3.pkl", "bare_protocol4.pkl",   "bare_protocol5.pkl",
                                    "several.pkl",        "inline_protocol2.pkl", "inline_protocol4.pkl"};

static void changed(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(names); i++) changed_at_every_byte(names[i]);
}

static void cut(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(names); i++)
    cut_at_every_length(names[i], i == 6 ? 21 : SIZE_MAX, i == 6 ? 21 : SIZE_MAX);
}

static void out_of_memory(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(names); i++) every_allocation_fails(names[i], 0);
  every_allocation_fails("several.pkl", 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_protocol),
      cmocka_unit_test(several_pickles),
      cmocka_unit_test(what_follows),
      cmocka_unit_test(tensors_with_their_bytes),
      cmocka_unit_test(tensors_without_their_bytes),
      cmocka_unit_test(storages_with_something_wrong),
      cmocka_unit_test(bytes_asked_for_again),
      cmocka_unit_test(extents),
      cmocka_unit_test(extents_of_every_opcode),
      cmocka_unit_test(changed),
      cmocka_unit_test(cut),
      cmocka_unit_test(out_of_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
