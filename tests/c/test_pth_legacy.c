// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
/*
 * test_pth_legacy.c - PyTorch's stream format: the files of tests/data/old, several saves, views, what Python 2 and
 * PyTorch before 0.4 wrote; streams with one thing wrong; every byte changed, every length cut.
 */
#include <unistd.h>

#include "old_formats.h"
#include "pickle_read.h"
#include "pth_legacy.h"

static int64_t int_at(const ckpt_checkpoint *cp, const char *path) {
  int64_t i = 0;
  assert_int_equal(ckpt_value_int(&i, at(cp, path), NULL), CKPT_OK);
  return i;
}

/* ---- what the files hold ---- */

static void two_saves(void **state) {
  (void)state;
  for (size_t save = 0; save < 2; save++) {
    ckpt_checkpoint *cp = opened_save("two_saves.pth", save);
    assert_string_equal(ckpt_checkpoint_format(cp), "torch-legacy");
    assert_int_equal(ckpt_checkpoint_saves(cp), 2);
    assert_int_equal(ckpt_checkpoint_trailing(cp), 0);
    assert_int_equal(int_at(cp, "epoch"), save + 1);
    if (save == 0) HOLDS(cp, "w", 1, 2);
    if (save == 1) HOLDS(cp, "w", 3, 4);
    ckpt_checkpoint_close(cp);
  }
}

static void a_save_that_is_not_there(void **state) {
  (void)state;
  size_t n = 0;
  unsigned char *bytes = fixture(&n, "two_saves.pth");
  refused(bytes, n, 2, CKPT_E_NOTFOUND, "there is no save 3: the file holds 2");
  refused(bytes, n / 2, 1, CKPT_E_NOTFOUND, "there is no save 2: the file holds 1 only");
  free(bytes);
}

/* What PyTorch does not look at is no fault; what begins as a save and is broken is one for those who verify. */
static void trailing_bytes(void **state) {
  (void)state;
  size_t n = 0;
  unsigned char *bytes = fixture(&n, "two_saves.pth");
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  assert_int_equal(open_bytes(&cp, bytes, n - 3, 0, false, &err), CKPT_OK);
  assert_int_equal(ckpt_checkpoint_saves(cp), 1);
  assert_int_equal(ckpt_checkpoint_trailing(cp), n / 2 - 3);
  assert_int_equal(ckpt_checkpoint_verify(cp, &err), CKPT_E_CORRUPT);
  assert_string_equal(err.message, "file+0x26c: storage '7' needs 8 bytes, the file has 5 more: it is cut off");
  assert_int_equal(err.position, 0x26c);
  ckpt_checkpoint_close(cp);
  memset(bytes + n / 2, 0, n / 2);
  assert_int_equal(open_bytes(&cp, bytes, n, 0, true, &err), CKPT_OK);
  assert_int_equal(ckpt_checkpoint_saves(cp), 1);
  assert_int_equal(ckpt_checkpoint_trailing(cp), n / 2);
  ckpt_checkpoint_close(cp);
  free(bytes);
}

/* Parts of a storage: one storage in memory, and one in a new file. */
static void views(void **state) {
  (void)state;
  ckpt_checkpoint *cp = opened("views.pth");
  const ckpt_tensor *all = tensor_at(cp, "all"), *part = tensor_at(cp, "part"), *tail = tensor_at(cp, "tail");
  HOLDS(cp, "all", 0, 1, 2, 3, 4, 5);
  HOLDS(cp, "part", 2, 3);
  HOLDS(cp, "tail", 4, 5);
  HOLDS(cp, "typed", 4, 5);
  HOLDS(cp, "parameter", 1, 2, 3);
  assert_int_equal(ckpt_tensor_offset(part), 2);
  assert_int_equal(ckpt_tensor_offset(tail), 4);
  assert_true(ckpt_tensor_shares_storage(all, part));
  assert_true(ckpt_tensor_shares_storage(all, tail));
  assert_true(ckpt_tensor_shares_storage(all, tensor_at(cp, "typed")));
  assert_true(ckpt_tensor_shares_storage(all, tensor_at(cp, "parameter")));
  assert_true(ckpt_tensor_requires_grad(tensor_at(cp, "parameter")));
  ckpt_pickle p = {0};
  assert_int_equal(ckpt_pickle_write(&p, ckpt_checkpoint_root(cp), NULL), CKPT_OK);
  assert_int_equal(p.n_storages, 2); /* the root, and the part that stands there as a storage */
  assert_int_equal(ckpt_storage_size(p.storages[0]), 24);
  assert_int_equal(ckpt_storage_size(p.storages[1]), 12);
  ckpt_pickle_free(&p);
  ckpt_checkpoint_close(cp);
}

static void python_2(void **state) {
  (void)state;
  ckpt_checkpoint *cp = opened("python2.pth");
  const ckpt_value *model = at(cp, "model"), *cls = ckpt_value_object_class(model);
  ckpt_value *file = NULL, *source = ckpt_value_class_source(cls, &file);
  assert_int_equal(ckpt_value_kind(cls), CKPT_CLASS);
  assert_string_equal(ckpt_value_text(cls, NULL), "oldnet.Net");
  assert_string_equal(ckpt_value_text(source, NULL), "class Net(nn.Module): pass\n");
  assert_string_equal(ckpt_value_text(file, NULL), "/home/me/oldnet.py");
  HOLDS(cp, "model._parameters.weight", 1, 2, 3, 4);
  HOLDS(cp, "model._parameters.frozen", 3, 4);
  HOLDS(cp, "old", 1, 2, 3, 4);
  HOLDS(cp, "variable", -1, 2);
  assert_int_equal(ckpt_tensor_dtype(tensor_at(cp, "variable")), CKPT_I64);
  assert_true(ckpt_tensor_requires_grad(tensor_at(cp, "model._parameters.weight")));
  assert_false(ckpt_tensor_requires_grad(tensor_at(cp, "model._parameters.frozen")));
  assert_false(ckpt_tensor_requires_grad(tensor_at(cp, "variable")));
  assert_true(ckpt_tensor_shares_storage(tensor_at(cp, "old"), tensor_at(cp, "model._parameters.weight")));
  assert_string_equal(text_at(cp, "name"), "caf\xc3\xa9");
  assert_int_equal(ckpt_value_kind(at(cp, "raw")), CKPT_BYTES);
  ckpt_checkpoint_close(cp);
}

/* A class with its source can be copied, and is still a plain class in a new file. */
static void source_of_a_class(void **state) {
  (void)state;
  ckpt_checkpoint *cp = opened("python2.pth");
  ckpt_document *doc = NULL;
  ckpt_value *copy = NULL;
  ckpt_pickle p = {0};
  const ckpt_value *cls = ckpt_value_object_class(at(cp, "model"));
  assert_int_equal(ckpt_document_new(&doc, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_clone(&copy, doc, cls, NULL), CKPT_OK);
  assert_string_equal(ckpt_value_text(ckpt_value_class_source(copy, NULL), NULL), "class Net(nn.Module): pass\n");
  assert_int_equal(ckpt_pickle_write(&p, copy, NULL), CKPT_OK);
  assert_int_equal(p.n, sizeof "\x80\2coldnet\nNet\nq\0." - 1);
  assert_memory_equal(p.bytes, "\x80\2coldnet\nNet\nq\0.", p.n);
  ckpt_pickle_free(&p);
  ckpt_document_release(doc);
  assert_null(ckpt_value_class_source(at(cp, "name"), NULL));
  ckpt_checkpoint_close(cp);
}

static void other_protocols(void **state) {
  (void)state;
  static const char *const names[] = {"legacy_protocol0.pth", "legacy_protocol1.pth", "legacy_protocol4.pth"};
  for (size_t i = 0; i < CKPT_COUNTOF(names); i++) {
    ckpt_checkpoint *cp = opened(names[i]);
    assert_string_equal(ckpt_checkpoint_format(cp), "torch-legacy");
    assert_int_equal(ckpt_checkpoint_saves(cp), 1);
    assert_int_equal(ckpt_value_kind(at(cp, "n")), CKPT_BIGINT);
    if (i > 0) HOLDS(cp, "w", 0.5, 1.5);
    ckpt_checkpoint_close(cp);
  }
}

/* ---- streams with something wrong ---- */

#define MAGIC "\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
#define HEAD MAGIC "\x80\2M\xe9\3.\x80\2}."
#define TORCH(name) "ctorch\n" name "\n"
#define UTILS(name) "ctorch._utils\n" name "\n"
#define STORAGE "X\7\0\0\0storage"
#define KEY(k) "X\1\0\0\0" k
#define ID(key, numel, rest) "(" STORAGE TORCH("FloatStorage") KEY(key) "X\3\0\0\0cpu" numel rest "tQ"
#define PLAIN(key, numel) ID(key, numel, "N")
#define SIZES(size, stride) size "\x85" stride "\x85"
#define VIEW(id, offset, n) UTILS("_rebuild_tensor") "(" id offset SIZES(n, "K\1") "tR"
#define KEYS(keys) "\x80\2](" keys "e."
#define ONE_KEY KEYS(KEY("a"))
#define TWO_FLOATS "\2\0\0\0\0\0\0\0\0\0\x80?\0\0\0@"
#define OBJECT(o) "\x80\2" o "."
#define SAVE(o)  \
  HEAD OBJECT(o) \
  ONE_KEY TWO_FLOATS

typedef struct row {
  const char *bytes;
  size_t n;
  ckpt_status status;
  const char *message;
} row;

static void refuse_all(const row *rows, size_t n) {
  for (size_t i = 0; i < n; i++) refused(rows[i].bytes, rows[i].n, 0, rows[i].status, rows[i].message);
}

static void streams_with_something_wrong(void **state) {
  (void)state;
  static const row rows[] = {
      {P(MAGIC), CKPT_E_CORRUPT, "file+0xf: the pickle ends without STOP"},
      {P(MAGIC "\x80\2M\xea\3."), CKPT_E_UNSUPPORTED,
       "file+0xf: protocol version 1002 of the legacy format; PyTorch's is 1001"},
      {P(MAGIC "\x80\2N."), CKPT_E_UNSUPPORTED, "file+0xf: protocol version 0 of the legacy format; PyTorch's is 1001"},
      {P(MAGIC "\x80\2M\xe9\3.\x80\2."), CKPT_E_CORRUPT, "file+0x17: the stack is empty where a value is needed"},
      {P(HEAD), CKPT_E_CORRUPT, "file+0x19: the pickle ends without STOP"},
      {P(HEAD OBJECT("N")), CKPT_E_CORRUPT, "file+0x1d: the pickle ends without STOP"},
      {P(HEAD OBJECT("N") "\x80\2}."), CKPT_E_CORRUPT, "file+0x1d: a dict where the list of storage keys should be"},
      {P(HEAD OBJECT("N") KEYS("K\1")), CKPT_E_CORRUPT, "file+0x1d: a storage key that is no string"},
      {P(HEAD OBJECT("N") ONE_KEY), CKPT_E_CORRUPT,
       "file+0x1d: storage 'a' is in the list of keys, but not in the object"},
      {P(HEAD OBJECT(PLAIN("a", "K\2")) KEYS(KEY("a") KEY("a")) TWO_FLOATS), CKPT_E_CORRUPT,
       "file+0x50: storage 'a' is twice in the list of keys"},
      {P(HEAD OBJECT(PLAIN("a", "K\2") PLAIN("b", "K\2") "\x86") ONE_KEY TWO_FLOATS), CKPT_E_CORRUPT,
       "file+0x85: storage 'b' is in the object, but not in the list of keys"},
      {P(HEAD OBJECT(PLAIN("a", "K\2")) ONE_KEY), CKPT_E_CORRUPT,
       "file+0x5c: storage 'a' has no size: the file is cut off"},
      {P(HEAD OBJECT(PLAIN("a", "K\2")) ONE_KEY "\2\0\0\0\0\0\0"), CKPT_E_CORRUPT,
       "file+0x5c: storage 'a' has no size: the file is cut off"},
      {P(HEAD OBJECT(PLAIN("a", "K\3")) ONE_KEY TWO_FLOATS), CKPT_E_CORRUPT,
       "file+0x5c: storage 'a' has 2 elements here, 3 in the object"},
      {P(HEAD OBJECT(PLAIN("a", "K\2")) ONE_KEY "\xff\xff\xff\xff\xff\xff\xff\xff"), CKPT_E_CORRUPT,
       "file+0x5c: storage 'a' has -1 elements here, 2 in the object"},
      {P(HEAD OBJECT(PLAIN("a", "K\2")) ONE_KEY "\0\0\0\0\0\0\0\x80"), CKPT_E_CORRUPT,
       "file+0x5c: storage 'a' has -9223372036854775808 elements here, 2 in the object"},
      {P(HEAD OBJECT(PLAIN("a", "K\2")) ONE_KEY "\2\0\0\0\0\0\0\0\1\2\3\4\5\6\7"), CKPT_E_CORRUPT,
       "file+0x5c: storage 'a' needs 8 bytes, the file has 7 more: it is cut off"},
      {P(HEAD OBJECT(PLAIN("a", "\x8a\x08\0\0\0\0\0\0\0\x10")) ONE_KEY "\0\0\0\0\0\0\0\x10"), CKPT_E_CORRUPT,
       "file+0x64: storage 'a' needs 4611686018427387904 bytes, the file has 0 more: it is cut off"},
  };
  refuse_all(rows, CKPT_COUNTOF(rows));
}

static void ids_with_something_wrong(void **state) {
  (void)state;
  static const row rows[] = {
      {P(SAVE("(" STORAGE TORCH("FloatStorage") KEY("a") "X\3\0\0\0cputQ")), CKPT_E_CORRUPT,
       "file+0x4b: a storage's persistent id with fewer than five parts"},
      {P(SAVE("(" STORAGE TORCH("FloatStorage") "NX\3\0\0\0cpuK\2tQ")), CKPT_E_CORRUPT,
       "file+0x48: a storage whose key is no short string"},
      {P(SAVE("(" STORAGE TORCH("OddStorage") KEY("a") "X\3\0\0\0cpuK\2NtQ")), CKPT_E_CORRUPT,
       "file+0x4c: 'torch.OddStorage' is no storage class"},
      {P(SAVE("(" STORAGE "K\1" KEY("a") "X\3\0\0\0cpuK\2NtQ")), CKPT_E_CORRUPT,
       "file+0x3c: a storage without a class"},
      {P(SAVE(PLAIN("a", "J\xff\xff\xff\xff"))), CKPT_E_CORRUPT,
       "file+0x51: a storage whose number of elements is no count"},
      {P(SAVE(PLAIN("a", "N"))), CKPT_E_CORRUPT, "file+0x4d: a storage whose number of elements is no count"},
      {P(SAVE(PLAIN("a", "\x8a\x08\0\0\0\0\0\0\0\x40"))), CKPT_E_CORRUPT,
       "file+0x56: a storage whose number of elements is no count"},
      {P(SAVE(PLAIN("a", "K\2") PLAIN("a", "K\3") "\x86")), CKPT_E_CORRUPT,
       "file+0x82: storage 'a' is said to hold 12 bytes here and 8 elsewhere"},
      {P(SAVE(PLAIN("a", "K\2") "(X\6\0\0\0moduleK\1NNtQ\x86")), CKPT_E_CORRUPT,
       "file+0x60: a module's persistent id without a class"},
      {P(SAVE(PLAIN("a", "K\2") "X\6\0\0\0module\x85Q\x86")), CKPT_E_CORRUPT,
       "file+0x5b: a module's persistent id without a class"},
      {P(SAVE(VIEW(PLAIN("a", "K\2"), "K\1", "K\2"))), CKPT_E_CORRUPT,
       "file+0x77: a float32 tensor of 1 dimensions over storage 'a': the storage holds 8 bytes, the view needs 12"},
  };
  refuse_all(rows, CKPT_COUNTOF(rows));
}

static void views_with_something_wrong(void **state) {
  (void)state;
#define PART(offset, n) "(" KEY("v") offset n "t"
  static const row rows[] = {
      {P(SAVE(ID("a", "K\2", "K\1"))), CKPT_E_CORRUPT, "file+0x4f: a view of storage 'a' without key, offset and size"},
      {P(SAVE(ID("a", "K\2", "K\0K\1\x86"))), CKPT_E_CORRUPT,
       "file+0x52: a view of storage 'a' without key, offset and size"},
      {P(SAVE(ID("a", "K\2", "NK\0K\1\x87"))), CKPT_E_CORRUPT,
       "file+0x53: a view of storage 'a' without key, offset and size"},
      {P(SAVE(ID("a", "K\2", PART("K\1", "K\2")))), CKPT_E_CORRUPT,
       "file+0x59: a view of 2 elements from 1 on of storage 'a', which has 2"},
      {P(SAVE(ID("a", "K\2", PART("J\xff\xff\xff\xff", "K\2")))), CKPT_E_CORRUPT,
       "file+0x5c: a view of 2 elements from -1 on of storage 'a', which has 2"},
      {P(SAVE(ID("a", "K\2", PART("K\1", "J\xff\xff\xff\xff")))), CKPT_E_CORRUPT,
       "file+0x5c: a view of -1 elements from 1 on of storage 'a', which has 2"},
      {P(SAVE(ID("a", "K\2", PART("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", "K\1")))), CKPT_E_CORRUPT,
       "file+0x61: a view of 1 elements from 9223372036854775807 on of storage 'a', which has 2"},
      {P(SAVE(ID("a", "K\2", PART("K\0", "K\1")) ID("a", "K\2", PART("K\1", "K\1")) "\x86")), CKPT_E_CORRUPT,
       "file+0x98: view 'v' is another part of a storage here than before"},
      {P(SAVE(VIEW(ID("a", "K\2", PART("K\0", "K\1")), "K\0", "K\2"))), CKPT_E_CORRUPT,
       "file+0x82: a float32 tensor of 1 dimensions over storage 'a': the storage holds 4 bytes, the view needs 8"},
      {P(SAVE(VIEW(ID("a", "K\2", PART("K\1", "K\1")), "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", "K\0"))),
       CKPT_E_CORRUPT, "file+0x8a: a storage offset that does not fit in 63 bits"},
  };
  refuse_all(rows, CKPT_COUNTOF(rows));
}

static void old_tensors_with_something_wrong(void **state) {
  (void)state;
#define STATE(id, n) "(" id "K\0" SIZES(n, "K\1") "t"
  static const row rows[] = {
      {P(SAVE(TORCH("LongTensor") ")\x81" STATE(PLAIN("a", "K\2"), "K\2") "b")), CKPT_E_CORRUPT,
       "file+0x6d: a torch.LongTensor over a storage of float32"},
      {P(SAVE(TORCH("FloatTensor") ")\x81" STATE(PLAIN("a", "K\2"), "K\3") "b")), CKPT_E_CORRUPT,
       "file+0x6e: a float32 tensor of 1 dimensions over storage 'a': the storage holds 8 bytes, the view needs 12"},
      {P(SAVE(TORCH("FloatTensor") ")\x81" STATE("N", "K\3") "b" PLAIN("a", "K\2") "\x86")), CKPT_E_CORRUPT,
       "file+0x3b: a tensor without a storage"},
      {P(SAVE(VIEW(PLAIN("a", "K\2"), "K\0", "K\2") "}b")), CKPT_E_CORRUPT, "file+0x79: BUILD on what has no state"},
      {P(SAVE(VIEW(PLAIN("a", "K\2"), "K\0", "K\2") "(\x88\x89NtbN\x86")), CKPT_E_CORRUPT,
       "file+0x7d: BUILD on what has no state"},
  };
  refuse_all(rows, CKPT_COUNTOF(rows));
}

/* ---- old spellings ---- */

static ckpt_checkpoint *opened_bytes(const char *bytes, size_t n) {
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  if (open_bytes(&cp, bytes, n, 0, true, &err) != CKPT_OK) fail_msg("%s", err.message);
  return cp;
}

#define PARAMETER "ctorch.nn.parameter\nParameter\n"
#define VARIABLE "ctorch.autograd.variable\nVariable\n"
#define TWO VIEW(PLAIN("a", "K\2"), "K\0", "K\2")

static void is_tensor(const char *bytes, size_t n, bool requires_grad) {
  ckpt_checkpoint *cp = opened_bytes(bytes, n);
  HOLDS(cp, "", 1, 2);
  assert_int_equal(ckpt_tensor_requires_grad(tensor_at(cp, "")), requires_grad);
  assert_int_equal(use(cp, NULL), CKPT_OK);
  ckpt_checkpoint_close(cp);
}

/* Each way in which a tensor was spelled, with requires_grad from arguments, state, or neither. */
static void spellings_of_tensors(void **state) {
  (void)state;
  is_tensor(P(SAVE(TWO)), false);
  is_tensor(P(SAVE("ctorch.cuda\nFloatTensor\n)\x81" STATE(PLAIN("a", "K\2"), "K\2") "b")), false);
  is_tensor(P(SAVE(TORCH("FloatTensor") ")R" STATE(PLAIN("a", "K\2"), "K\2") "b")), false);
  is_tensor(P(SAVE(PARAMETER TWO "\x85\x81")), true);
  is_tensor(P(SAVE(PARAMETER TWO "\x89\x86R")), false);
  is_tensor(P(SAVE(PARAMETER TWO "\x85R(\x89\x89Ntb")), false);
  is_tensor(P(SAVE(PARAMETER ")\x81(" TWO "NN\x88\x89tb")), true);
  is_tensor(P(SAVE(VARIABLE TWO "\x85R(\x88\x89Ntb")), true);
  is_tensor(P(SAVE(VARIABLE TWO "\x85R")), false);
  is_tensor(P(SAVE(VARIABLE ")R(" TWO "NN\x88\x89tb")), true);
}

static void is_object(const char *bytes, size_t n) {
  ckpt_checkpoint *cp = opened_bytes(bytes, n);
  assert_int_equal(ckpt_value_kind(ckpt_checkpoint_root(cp)), CKPT_OBJECT);
  assert_int_equal(use(cp, NULL), CKPT_OK);
  ckpt_checkpoint_close(cp);
}

/* What only looks like one of them stays as it is. */
static void other_objects(void **state) {
  (void)state;
  is_object(P(SAVE(PARAMETER PLAIN("a", "K\2") "\x85\x81")));
  is_object(P(SAVE(PARAMETER TWO "\x88\x89\x87R")));
  is_object(P(SAVE(PARAMETER ")\x81" PLAIN("a", "K\2") "\x85"
                                                       "b")));
  is_object(P(SAVE("cother\nVariable\n" TWO "\x85R")));
  is_object(P(SAVE(TORCH("OddTensor") ")\x81(" PLAIN("a", "K\2") "NNNtb")));
  is_object(P(SAVE("cother\nFloatTensor\n)\x81(" PLAIN("a", "K\2") "NNNtb")));
  is_object(P(SAVE("cm\nC\n)\x81(" TWO "NN\x88\x89tb")));
  is_object(P(SAVE("cm\nC\n" PLAIN("a", "K\2") "\x85R")));
}

/* ---- changed, cut, out of memory ---- */

static const char *const files[] = {"two_saves.pth",        "views.pth",
                                    "python2.pth",          "legacy_protocol0.pth",
                                    "legacy_protocol1.pth", "legacy_protocol4.pth"};

static void changed(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(files); i++) changed_at_every_byte(files[i]);
}

static void cut(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(files); i++)
    cut_at_every_length(files[i], i == 0 ? 318 : SIZE_MAX, i == 0 ? 318 : SIZE_MAX);
}

static void out_of_memory(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(files); i++) every_allocation_fails(files[i], 0);
  every_allocation_fails("two_saves.pth", 1);
}

/* More storages than any array begins with. */
static void many_storages(void **state) {
  (void)state;
  unsigned char *bytes = malloc(1 << 20), *p = bytes;
#define PUT(literal) (memcpy(p, literal, sizeof(literal) - 1), p += sizeof(literal) - 1)
  PUT(HEAD "\x80\2](");
  for (int i = 0; i < 300; i++) p += sprintf((char *)p, "(U%cstoragectorch\nByteStorage\nV%d\nNK%cNtQ", 7, i, 1);
  PUT("e.\x80\2](");
  for (int i = 300; i-- > 0;) p += sprintf((char *)p, "V%d\n", i);
  PUT("e.");
  for (int i = 300; i-- > 0;) {
    PUT("\1\0\0\0\0\0\0\0");
    *p++ = (unsigned char)i;
  }
  ckpt_checkpoint *cp = opened_bytes((char *)bytes, (size_t)(p - bytes));
  for (size_t i = 0; i < 300; i++) {
    unsigned char *data = NULL;
    const ckpt_value *v = ckpt_value_item(ckpt_checkpoint_root(cp), i);
    assert_int_equal(ckpt_storage_data(&data, v->made->storage, NULL), CKPT_OK);
    assert_int_equal(*data, i & 0xff);
  }
  ckpt_checkpoint_close(cp);
  free(bytes);
}

/* A storage of 4 GiB and 2 bytes, a hole but for its last byte, and a second save behind it. */
static void more_than_4_gib(void **state) {
  (void)state;
  static const char head[] = HEAD OBJECT("(" STORAGE TORCH("ByteStorage") KEY(
      "a") "X\3\0\0\0cpu"
           "\x8a\5\2\0\0\0\1NtQ") ONE_KEY "\2\0\0\0\1\0\0\0";
  static const char tail[] = SAVE(PLAIN("a", "K\2"));
  static const off_t last = (off_t)(sizeof head - 1) + 0x100000001;
  FILE *f = tmpfile();
  ckpt_mapping *map = NULL;
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  unsigned char *data = NULL;
  assert_non_null(f);
  assert_int_equal(pwrite(fileno(f), head, sizeof head - 1, 0), sizeof head - 1);
  assert_int_equal(pwrite(fileno(f), "!", 1, last), 1);
  assert_int_equal(pwrite(fileno(f), tail, sizeof tail - 1, last + 1), sizeof tail - 1);
  assert_int_equal(ckpt_mapping_open_fd(&map, fileno(f), "f", NULL), CKPT_OK);
  if (ckpt_checkpoint_open_mapping(&cp, map, "f", NULL, &err) != CKPT_OK) fail_msg("%s", err.message);
  ckpt_storage *s = ckpt_checkpoint_root(cp)->made->storage;
  assert_int_equal(ckpt_checkpoint_saves(cp), 2);
  assert_true(ckpt_storage_size(s) == 0x100000002);
  assert_int_equal(ckpt_storage_data(&data, s, NULL), CKPT_OK);
  assert_int_equal(data[0x100000001], '!');
  ckpt_checkpoint_close(cp);
  ckpt_mapping_release(map);
  fclose(f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(two_saves),
      cmocka_unit_test(a_save_that_is_not_there),
      cmocka_unit_test(trailing_bytes),
      cmocka_unit_test(views),
      cmocka_unit_test(python_2),
      cmocka_unit_test(source_of_a_class),
      cmocka_unit_test(other_protocols),
      cmocka_unit_test(streams_with_something_wrong),
      cmocka_unit_test(ids_with_something_wrong),
      cmocka_unit_test(views_with_something_wrong),
      cmocka_unit_test(old_tensors_with_something_wrong),
      cmocka_unit_test(spellings_of_tensors),
      cmocka_unit_test(other_objects),
      cmocka_unit_test(changed),
      cmocka_unit_test(cut),
      cmocka_unit_test(out_of_memory),
      cmocka_unit_test(many_storages),
      cmocka_unit_test(more_than_4_gib),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
