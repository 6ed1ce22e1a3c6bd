/*
 * test_sanitize.c - sanitised copies: what each kind of value becomes and what is said of it, sharing, cycles, depth;
 * and the files tests/data/inside_*.pth with each byte of their pickles changed, through everything that looks inside.
 */
#include "inside_fixture.h"

#include <pthread.h>

#include "check.h"
#include "file.h"
#include "numpy.h"
#include "pickle_write.h"
#include "repr.h"
#include "sparse.h"
#include "way.h"
#include "weights_only.h"

static const float numbers[] = {1, 2};
static const span storages[] = {{"v", numbers, 8}, {NULL, NULL, 0}};

#define W TENSOR("FloatStorage", "v", "K\2", "K\2\x85", "K\1\x85")
#define KEY(c) "X\1\0\0\0" c
#define C "cm\nC\n"

/* ---- what becomes of values ---- */

/* "path class [dropped|changed] into", a line each. */
static char *text_of(const ckpt_changes *changes) {
  char *text = NULL;
  size_t n = 0;
  FILE *f = open_memstream(&text, &n);
  for (size_t i = 0; i < ckpt_changes_count(changes); i++) {
    const ckpt_change *c = ckpt_changes_at(changes, i);
    fprintf(f, "%s %s %s %s\n", c->path, c->class_name, c->dropped ? "dropped" : "changed", c->into);
  }
  fclose(f);
  assert_null(ckpt_changes_at(changes, ckpt_changes_count(changes)));
  return text;
}

typedef struct good_case {
  const char *pickle;
  size_t n;
  ckpt_profile profile;
  const char *repr, *changes;
} good_case;

#define NEW CKPT_WEIGHTS_ONLY_2_6
#define OLD CKPT_WEIGHTS_ONLY_1_13

static const good_case goods[] = {
    {P("}(" KEY("a") "NK\1\x88G\x3f\xf8\0\0\0\0\0\0](K\1)eu."), NEW, "{'a': None, 1: True, 1.5: [1, ()]}", ""},
    {P("U\1a."), NEW, "'a'", ""}, /* a Python 2 str */
    {P("U\1\xff."), NEW, "b'\\xff'", " str changed bytes\n"},
    {P("C\0."), NEW, "b''", ""},
    {P("C\1a."), OLD, "<tensor>", " bytes changed tensor\n"},
    {P("G\x3f\xf8\0\0\0\0\0\0."), OLD, "<tensor>", " float changed tensor\n"},
    {P("ctorch\nfloat32\n."), OLD, "torch.float32", ""},
    {P("ctorch\nbfloat16\n."), NEW, "torch.bfloat16", ""},
    {P("](" C ")Re."), NEW, "[None]", "[0] m.C dropped None\n"},
    {P("(K\1" C ")Rt."), NEW, "(1, None)", "[1] m.C dropped None\n"},
    {P("}(" KEY("a") C ")R" KEY("b") "K\1u."), NEW, "{'b': 1}", "a m.C dropped \n"},
    {P("}(" C ")R" W KEY("b") "K\1u."), NEW, "{'b': 1}", "<m.C> m.C dropped \n<m.C> tensor dropped \n"},
    {P("c__builtin__\nset\n](K\1" C ")Re\x85R."), NEW, "{1}", "[1] m.C dropped \n"},
    {P("c__builtin__\nset\n](K\1e\x85R."), OLD, "[1]", " set changed list\n"},
    {P("c__builtin__\nfrozenset\n](K\1e\x85R."), NEW, "{1}", " frozenset changed set\n"},
    {P("c__builtin__\nset\n](c__builtin__\nfrozenset\n]\x85Re\x85R."), NEW, "set()",
     "[0] frozenset changed set\n[0] frozenset dropped \n"},
    {P("ccollections\nOrderedDict\n)R" KEY("a") "K\1s}" KEY("m") C ")Rsb."), NEW, "{'a': 1}", "m m.C dropped \n"},
    {P("ccollections\nOrderedDict\n)RK\1b."), NEW, "{}", "state int dropped \n"},
    {P("ccollections\ndefaultdict\nc__builtin__\nlist\n\x85RK\1K\2s."), NEW, "{1: 2}",
     " collections.defaultdict changed dict\n"},
    {P("ccollections\ndeque\n)K\3\x86R."), NEW, "[]", " collections.deque changed list\n"},
    {P("ccollections\ndeque\n]K\1a\x85R."), NEW, "[1]", " collections.deque changed list\n"},
    {P("ccopy_reg\n_reconstructor\n(cm\nD\nc__builtin__\ndict\n}K\1K\2stR."), NEW, "{1: 2}", " m.D changed dict\n"},
    {P("ccopy_reg\n_reconstructor\n(cm\nL\nc__builtin__\nlist\n]K\1atR."), NEW, "[1]", " m.L changed list\n"},
    {P("ccollections\nCounter\n}K\1K\2s\x85R."), NEW, "Counter({1: 2})", ""},
    {P("ccollections\nCounter\n}K\1K\2s\x85R."), OLD, "{1: 2}", " collections.Counter changed dict\n"},
    {P("ctorch\ndevice\nX\4\0\0\0cudaK\1\x86R."), NEW, "device(type='cuda', index=1)", ""},
    {P("ctorch\ndevice\nX\4\0\0\0cudaK\1\x86R."), OLD, "'cuda:1'", " torch.device changed str\n"},
    {P("cbuiltins\ncomplex\nK\1K\2\x86R."), OLD, "<tensor>", " builtins.complex changed tensor\n"},
    {P("ctorch\nSize\nK\2K\3\x86\x85R."), NEW, "torch.Size([2, 3])", ""},
    {P("](" C ")R}" KEY("w") W "sbK\1e."), NEW, "[None, 1]", "[0] m.C dropped None\n[0].w tensor dropped \n"},
    {P("](" W "q\1" C "h\1\x85Re."), NEW, "[<tensor>, None]", "[1] m.C dropped None\n"}, /* it is kept elsewhere */
    {P("](" C "q\1)Rq\2h\2e."), NEW, "[None, None]", "[0] m.C dropped None\n[1] m.C dropped None\n"},
    {P("]" C ")}" KEY("w") W "s\x92"
                             "a."),
     NEW, "[None]", "[0] m.C dropped None\n[0].kwargs.w tensor dropped \n"},
    {P("]K\1\x85Qa."), NEW, "[None]", "[0] object dropped None\n"}, /* a persistent id of no storage */
    {P("]" STORAGE("FloatStorage", "v", "K\2") "a."), NEW, "[<>]", ""},
    {P("]ctorch._utils\n_rebuild_wrapper_subclass\n(cm\nC\nctorch\nfloat32\ntRa."), NEW, "[None]",
     "[0] torch._utils._rebuild_wrapper_subclass dropped None\n"},
};

static void what_becomes_of_values(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(goods); i++) {
    const good_case *c = &goods[i];
    ckpt_document *doc = new_document(), *clean = new_document();
    ckpt_value *v = NULL;
    ckpt_changes *changes = NULL;
    ckpt_error err = {0};
    char *repr = NULL, *text = NULL;
    size_t n = 0;
    const ckpt_value *from = must_read(doc, storages, c->pickle, c->n);
    if (ckpt_value_sanitize(&v, &changes, clean, from, c->profile, &err) != CKPT_OK)
      fail_msg("%zu: %s", i, err.message);
    assert_int_equal(ckpt_repr(&repr, &n, v, 200, NULL), CKPT_OK);
    assert_string_equal(repr, c->repr);
    assert_string_equal(text = text_of(changes), c->changes);
    free(repr);
    free(text);
    ckpt_changes_free(changes);
    ckpt_document_release(doc); /* the copy stands by itself */
    ckpt_pickle p = {0};
    assert_int_equal(ckpt_pickle_write(&p, v, NULL), CKPT_OK);
    ckpt_pickle_free(&p);
    ckpt_document_release(clean);
  }
}

static void what_cannot_be(void **state) {
  static const struct {
    const char *pickle;
    size_t n;
    ckpt_status status;
    const char *message;
  } bad[] = {
      {P(C ")R."), CKPT_E_UNSUPPORTED,
       "the whole value is one m.C, which would be dropped: save its state dict instead"},
      {P("cm\nf\n."), CKPT_E_UNSUPPORTED,
       "the whole value is one m.f, which would be dropped: save its state dict instead"},
      {P("}" KEY("a") "cnumpy.core.multiarray\nscalar\n)Rs."), CKPT_E_CORRUPT, "a: a numpy array without a dtype"},
      {P("}" KEY("a") "ctorch._utils\n_rebuild_sparse_tensor\n(NNtRs."), CKPT_E_CORRUPT,
       "a: a sparse tensor of unknown layout ''"},
      {P("]ctorch._utils\n_rebuild_nested_tensor\n)Ra."), CKPT_E_CORRUPT,
       "[0]: a nested tensor that is not made of a buffer and three tables"},
  };
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(bad); i++) {
    ckpt_document *doc = new_document();
    ckpt_value *v = NULL;
    ckpt_changes *changes = NULL;
    ckpt_error err = {0};
    const ckpt_value *from = must_read(doc, storages, bad[i].pickle, bad[i].n);
    assert_int_equal(ckpt_value_sanitize(&v, &changes, doc, from, NEW, &err), bad[i].status);
    assert_string_equal(err.message, bad[i].message);
    assert_int_equal(ckpt_value_sanitize(&v, &changes, doc, from, NEW, NULL), bad[i].status);
    assert_null(v);
    assert_null(changes);
    ckpt_document_release(doc);
  }
}

/* One string in eleven dimensions: eleven lists of one. */
static void more_lists_than_items(void **state) {
  (void)state;
  static const char pickle[] =
      "}" KEY("a") "cnumpy.core.numeric\n_frombuffer\n(C\1acnumpy\ndtype\n(X\2\0\0\0S1\x89\x88tR(K\1K\1K\1K\1K\1K\1"
                   "K\1K\1K\1K\1K\1tX\1\0\0\0CtRs.";
  ckpt_document *doc = new_document();
  ckpt_value *v = NULL;
  ckpt_changes *changes = NULL;
  ckpt_error err = {0};
  const ckpt_value *from = must_read(doc, storages, P(pickle));
  assert_int_equal(ckpt_value_sanitize(&v, &changes, doc, from, NEW, &err), CKPT_E_LIMIT);
  assert_string_equal(err.message, "a: a numpy array of 1 elements would become 10 lists");
  ckpt_document_release(doc);
}

/* One object stays one, a cycle stays a cycle, one storage stays one. */
static void sharing_and_cycles(void **state) {
  (void)state;
  static const char pickle[] = "](]q\1h\1ah\1" W "q\2h\2e.";
  ckpt_document *doc = new_document();
  ckpt_value *v = NULL;
  ckpt_changes *changes = NULL;
  const ckpt_value *from = must_read(doc, storages, P(pickle));
  assert_int_equal(ckpt_value_sanitize(&v, &changes, doc, from, NEW, NULL), CKPT_OK);
  assert_int_equal(ckpt_changes_count(changes), 0);
  assert_ptr_equal(ckpt_value_item(v, 0), ckpt_value_item(v, 1));
  assert_ptr_equal(ckpt_value_item(ckpt_value_item(v, 0), 0), ckpt_value_item(v, 0));
  assert_ptr_equal(ckpt_value_item(v, 2), ckpt_value_item(v, 3));
  assert_ptr_not_equal(v, from);
  assert_true(ckpt_tensor_shares_storage(ckpt_value_tensor(ckpt_value_item(v, 2)),
                                         ckpt_value_tensor(ckpt_value_item(from, 2))));
  ckpt_changes_free(changes);
  ckpt_document_release(doc);
}

/* ---- the lists ---- */

static bool takes(ckpt_document *doc, ckpt_profile profile, const char *module, const char *name) {
  return ckpt_weights_only_takes(profile, ckpt_value_make_class(doc, module, strlen(module), name, strlen(name), NULL));
}

static void allow_lists(void **state) {
  (void)state;
  static const char *const both[][2] = {{"collections", "OrderedDict"},
                                        {"torch", "FloatStorage"},
                                        {"torch.cuda", "HalfStorage"},
                                        {"torch", "QUInt4x2Storage"},
                                        {"torch.sparse", "LongTensor"},
                                        {"torch", "BoolTensor"},
                                        {"torch", "Size"},
                                        {"torch", "float32"},
                                        {"torch.storage", "UntypedStorage"},
                                        {"torch._utils", "_rebuild_tensor_v2"}};
  static const char *const later[][2] = {{"collections", "Counter"},
                                         {"__builtin__", "set"},
                                         {"builtins", "bytearray"},
                                         {"_codecs", "encode"},
                                         {"torch", "device"},
                                         {"torch", "uint16"},
                                         {"torch", "per_channel_affine"},
                                         {"torch._utils", "_rebuild_qtensor"},
                                         {"torch._tensor", "_rebuild_from_type_v2"}};
  static const char *const never[][2] = {{"os", "system"},
                                         {"torch", "UntypedStorage"},
                                         {"torch.cuda", "QInt8Storage"},
                                         {"torch.sparse", "BoolTensor"},
                                         {"builtins", "bytes"},
                                         {"builtins", "frozenset"},
                                         {"torch", "Storage"},
                                         {"torch", "load"},
                                         {"collections", "deque"},
                                         {"numpy", "dtype"},
                                         {"torch.sparse", "FloatStorage"}};
  ckpt_document *doc = new_document();
  for (size_t i = 0; i < CKPT_COUNTOF(both); i++) {
    assert_true(takes(doc, NEW, both[i][0], both[i][1]));
    assert_true(takes(doc, OLD, both[i][0], both[i][1]));
  }
  for (size_t i = 0; i < CKPT_COUNTOF(later); i++) {
    assert_true(takes(doc, NEW, later[i][0], later[i][1]));
    assert_false(takes(doc, OLD, later[i][0], later[i][1]));
  }
  for (size_t i = 0; i < CKPT_COUNTOF(never); i++) {
    assert_false(takes(doc, NEW, never[i][0], never[i][1]));
    assert_false(takes(doc, OLD, never[i][0], never[i][1]));
  }
  assert_true(takes(doc, OLD, "torch._utils", "_rebuild_sparse_csr_tensor"));
  assert_false(takes(doc, NEW, "torch._utils", "_rebuild_sparse_csr_tensor"));
  assert_false(ckpt_weights_only_takes(NEW, ckpt_document_none(doc)));
  ckpt_document_release(doc);
}

/* ---- depth ---- */

enum { DEEP = 1000000 };

/* A million lists in each other and an object in the innermost, on 64 KiB of stack: a path that long is refused. */
static void *sanitize_nested(void *arg) {
  (void)arg;
  unsigned char *bytes = malloc(2 * DEEP + 16);
  ckpt_document *doc = new_document();
  ckpt_value *v = NULL;
  ckpt_changes *changes = NULL;
  ckpt_error err = {0};
  memset(bytes, ']', DEEP);
  memset(bytes + DEEP, 'a', DEEP - 1);
  bytes[2 * DEEP - 1] = '.';
  const ckpt_value *from = must_read(doc, storages, (char *)bytes, 2 * DEEP);
  assert_int_equal(ckpt_value_sanitize(&v, &changes, doc, from, NEW, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_check(from, NULL), CKPT_OK);
  ckpt_changes_free(changes);
  memcpy(bytes + DEEP, C ")R", 7);
  memset(bytes + DEEP + 7, 'a', DEEP);
  bytes[2 * DEEP + 7] = '.';
  from = must_read(doc, storages, (char *)bytes, 2 * DEEP + 8);
  assert_int_equal(ckpt_value_sanitize(&v, &changes, doc, from, NEW, &err), CKPT_E_LIMIT);
  assert_string_equal(err.message, "a path longer than 65536 bytes");
  ckpt_document_release(doc);
  free(bytes);
  return NULL;
}

static void depth_costs_no_stack(void **state) {
  (void)state;
  pthread_attr_t attributes;
  pthread_t thread;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, getenv("SANITIZED") != NULL ? 1 << 20 : 1 << 17);
  assert_int_equal(pthread_create(&thread, &attributes, sanitize_nested, NULL), 0);
  pthread_join(thread, NULL);
  pthread_attr_destroy(&attributes);
}

/* ---- files with each byte changed ---- */

typedef struct file {
  ckpt_zip *zip;
  char prefix[64];
} file;

static ckpt_status find_record(ckpt_storage **out, void *context, const char *key, uint64_t bytes, unsigned swap_unit,
                               ckpt_error *err) {
  const file *f = context;
  char name[400];
  (void)swap_unit;
  snprintf(name, sizeof name, "%s/data/%s", f->prefix, key);
  size_t i = ckpt_zip_find(f->zip, name);
  if (i == SIZE_MAX || ckpt_zip_entry_at(f->zip, i)->size != bytes)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "no storage");
  return ckpt_storage_record(out, f->zip, i, err);
}

static void look_at(const ckpt_value *v, ckpt_document *doc) {
  ckpt_array a;
  ckpt_tensor *t = NULL;
  ckpt_value *item = NULL;
  size_t n = 0;
  double re, im;
  if (ckpt_value_to_dense(&t, v, NULL) == CKPT_OK) ckpt_tensor_release(t);
  if (v->kind == CKPT_TENSOR && ckpt_value_dequantize(&t, v, NULL) == CKPT_OK) ckpt_tensor_release(t);
  ckpt_value_complex(&re, &im, v, NULL);
  if (ckpt_value_nested_count(&n, v, NULL) == CKPT_OK)
    for (size_t i = 0; i < n && i < 8; i++)
      if (ckpt_value_nested_tensor(&t, v, i, NULL) == CKPT_OK) ckpt_tensor_release(t);
  if (ckpt_value_array(&a, v, NULL) != CKPT_OK) return;
  if (ckpt_array_tensor(&t, &a, NULL) == CKPT_OK) ckpt_tensor_release(t);
  for (int64_t i = 0; i < a.count && i < 8; i++) ckpt_array_item(&item, doc, &a, i, NULL);
}

static void look_at_all(const ckpt_value *root, ckpt_document *doc) {
  ckpt_places p = {0};
  const ckpt_way start = {.step = CKPT_STEP_ROOT};
  assert_int_equal(ckpt_places_add(&p, root, &start, NULL, NULL), CKPT_OK);
  assert_int_equal(ckpt_places_walk(&p, 0, NULL), CKPT_OK);
  for (size_t i = 0; i < p.n; i++) look_at(p.at[i].value, doc);
  ckpt_places_free(&p);
}

static void sanitize_and_write(const ckpt_value *root, ckpt_profile profile) {
  ckpt_document *doc = new_document();
  ckpt_value *v = NULL;
  ckpt_changes *changes = NULL;
  ckpt_pickle p = {0};
  ckpt_error err = {0};
  if (ckpt_value_sanitize(&v, &changes, doc, root, profile, &err) == CKPT_OK) {
    ckpt_changes_free(changes);
    if (ckpt_pickle_write(&p, v, &err) == CKPT_OK) ckpt_pickle_free(&p);
  }
  ckpt_document_release(doc);
}

/* True if it could be read. */
static bool try_pickle(ckpt_find_storage find, void *context, const unsigned char *bytes, size_t n) {
  ckpt_torch_builder *b = NULL;
  ckpt_document *doc = NULL;
  ckpt_value *v = NULL;
  assert_int_equal(ckpt_document_make(&doc, ckpt_pickle_memory_limit(n), NULL), CKPT_OK);
  assert_int_equal(ckpt_torch_builder_new(&b, doc, find, context, NULL), CKPT_OK);
  ckpt_pickle_hooks hooks = ckpt_torch_builder_hooks(b);
  bool read = ckpt_pickle_read(&v, NULL, doc, bytes, n, "data.pkl", &hooks, NULL) == CKPT_OK;
  ckpt_torch_builder_free(b);
  if (read) {
    ckpt_value_check(v, NULL);
    look_at_all(v, doc);
    sanitize_and_write(v, NEW);
    sanitize_and_write(v, OLD);
  }
  ckpt_document_release(doc);
  return read;
}

static size_t change_each_byte(file *f, unsigned char *bytes, size_t n) {
  size_t read = 0;
  for (size_t i = 0; i < n; i++) {
    unsigned char kept = bytes[i];
    bytes[i] = (unsigned char)(kept ^ (1u << (i % 8)));
    read += try_pickle(find_record, f, bytes, n);
    bytes[i] = kept;
  }
  return read;
}

static void fuzz_file(const char *name) {
  file f = {0};
  ckpt_mapping *map = NULL;
  char path[300];
  unsigned char *bytes = NULL;
  const char *top = getenv("CKPT_TOP");
  snprintf(path, sizeof path, "%s/tests/data/%s.pth", top == NULL ? "." : top, name);
  snprintf(f.prefix, sizeof f.prefix, "%s", name);
  assert_int_equal(ckpt_mapping_open(&map, path, NULL), CKPT_OK);
  assert_int_equal(ckpt_zip_open(&f.zip, map, 0, ckpt_mapping_size(map), NULL), CKPT_OK);
  snprintf(path, sizeof path, "%s/data.pkl", name);
  size_t i = ckpt_zip_find(f.zip, path), n = (size_t)ckpt_zip_entry_at(f.zip, i)->size;
  assert_int_equal(ckpt_zip_read(&bytes, f.zip, i, NULL), CKPT_OK);
  assert_true(try_pickle(find_record, &f, bytes, n));
  print_message("%s: %zu of %zu changes could be read\n", name, change_each_byte(&f, bytes, n), n);
  free(bytes);
  ckpt_zip_release(f.zip);
  ckpt_mapping_release(map);
}

static void changed_bytes(void **state) {
  static const char *const names[] = {"inside_objects",   "inside_numpy",   "inside_numpy5",  "inside_torch",
                                      "inside_quantized", "inside_devices", "inside_keyword4"};
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(names); i++) fuzz_file(names[i]);
}

/* ---- every function with the wrong arguments ---- */

static const char *const functions[] = {"torch._utils\n_rebuild_tensor",
                                        "torch._utils\n_rebuild_tensor_v2",
                                        "torch._utils\n_rebuild_tensor_v3",
                                        "torch._utils\n_rebuild_qtensor",
                                        "torch._utils\n_rebuild_parameter",
                                        "torch._utils\n_rebuild_parameter_with_state",
                                        "torch._utils\n_rebuild_meta_tensor_no_storage",
                                        "torch._utils\n_rebuild_device_tensor_from_cpu_tensor",
                                        "torch._utils\n_rebuild_device_tensor_from_numpy",
                                        "torch._utils\n_rebuild_xla_tensor",
                                        "torch._utils\n_rebuild_sparse_tensor",
                                        "torch._utils\n_rebuild_sparse_csr_tensor",
                                        "torch._utils\n_rebuild_nested_tensor",
                                        "torch._utils\n_rebuild_wrapper_subclass",
                                        "torch._tensor\n_rebuild_from_type_v2",
                                        "torch.serialization\n_get_layout",
                                        "torch\nSize",
                                        "torch\ndevice",
                                        "torch\nFloatTensor",
                                        "numpy\ndtype",
                                        "numpy.core.multiarray\nscalar",
                                        "numpy.core.multiarray\n_reconstruct",
                                        "numpy._core.numeric\n_frombuffer",
                                        "collections\nOrderedDict",
                                        "collections\nCounter",
                                        "collections\ndefaultdict",
                                        "collections\ndeque",
                                        "copy_reg\n_reconstructor",
                                        "copy_reg\n__newobj_ex__",
                                        "__builtin__\nbytes",
                                        "__builtin__\nbytearray",
                                        "__builtin__\nset",
                                        "__builtin__\nfrozenset",
                                        "__builtin__\ncomplex",
                                        "__builtin__\nslice",
                                        "_codecs\nencode"};

typedef struct part {
  const char *bytes;
  size_t n;
} part;

static const part parts[] = {{P("N")},
                             {P("K\1")},
                             {P("J\xff\xff\xff\xff")},
                             {P("\x8a\x05\0\x10\xa5\xd4\xe8")}, /* 10^12 */
                             {P("\x88")},
                             {P(")")},
                             {P("]")},
                             {P("}")},
                             {P("K\2K\1\x86")},
                             {P("]K\1a")},
                             {P("X\1\0\0\0a")},
                             {P("C\1a")},
                             {P("ctorch\nfloat32\n")},
                             {P("ctorch._utils\n_rebuild_tensor_v2\n")},
                             {P(W)},
                             {P(STORAGE("FloatStorage", "v", "K\2"))},
                             {P(STORAGE("QInt8Storage", "v", "K\x08"))},
                             {P(C ")R")},
                             {P(C ")R}" KEY("w") W "sb")}};

static size_t put(unsigned char *to, size_t at, const void *bytes, size_t n) {
  memcpy(to + at, bytes, n);
  return at + n;
}

/* The function applied to `count` arguments, beginning with kind `first` and going on in steps. */
static void call(const char *function, size_t count, size_t first, size_t step) {
  unsigned char pickle[4096];
  size_t n = put(pickle, 0, "]c", 2);
  n = put(pickle, n, function, strlen(function));
  n = put(pickle, n, "\n(", 2);
  for (size_t i = 0; i < count; i++) {
    const part *p = &parts[(first + i * step) % CKPT_COUNTOF(parts)];
    n = put(pickle, n, p->bytes, p->n);
  }
  n = put(pickle, n, "tRa.", 4);
  try_pickle(find_span, (void *)(uintptr_t)storages, pickle, n);
}

static void wrong_arguments(void **state) {
  (void)state;
  for (size_t f = 0; f < CKPT_COUNTOF(functions); f++)
    for (size_t count = 0; count <= 12; count++)
      for (size_t first = 0; first < CKPT_COUNTOF(parts); first++)
        for (size_t step = 0; step < 4; step++) call(functions[f], count, first, step);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_becomes_of_values), cmocka_unit_test(what_cannot_be),
      cmocka_unit_test(sharing_and_cycles),     cmocka_unit_test(allow_lists),
      cmocka_unit_test(more_lists_than_items),  cmocka_unit_test(depth_costs_no_stack),
      cmocka_unit_test(changed_bytes),          cmocka_unit_test(wrong_arguments),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
