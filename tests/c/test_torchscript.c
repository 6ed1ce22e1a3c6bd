// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
/*
 * test_torchscript.c - TorchScript archives as a state dict: names and what is kept beside them, modules that are
 * shared, cyclic or strange, containers and objects, constants and extra files, archives of other kinds, files changed
 * at every byte, memory that runs out.
 */
#include "archive_fixture.h"

#include "repr.h"

static const char floats[] = "\0\0\0\0\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40\0\0\xa0\x40"; /* 0..5 */

/* Pickles, spelled shortly: strings by UNICODE, which ends at the line's end. */
#define S(text) "V" text "\n"
#define NEW(cls) "c__torch__\n" cls "\n)\x81"
#define FIELDS(fields) \
  "}(" fields          \
  "u"                  \
  "b"
#define MODULE(cls, fields) NEW(cls) FIELDS(S("training") "\x88" fields)
#define STORAGE(cls, key, numel) "((" S("storage") "ctorch\n" cls "\n" S(key) S("cpu") "K" numel "tQ"
#define TENSOR_OF(cls, key, numel) \
  "ctorch._utils\n_rebuild_tensor_v2\n" STORAGE(cls, key, numel) "K\0K" numel "\x85K\1\x85\x89NtR"
#define TENSOR TENSOR_OF("FloatStorage", "0", "\6")
#define TAG(container, type) "ctorch.jit._pickle\nrestore_type_tag\n(" container S(type) "tR"

#define VERSION \
  { "a/version", P("3\n") }
#define DATA \
  { "a/data/0", floats, sizeof floats - 1 }
#define CONSTANTS \
  { "a/constants.pkl", P("\x80\2).") }
#define CODE(text) \
  { "a/code/__torch__.py", P(text) }

enum { MAX_RECORDS = 9 };

/* ---- what a file shows ---- */

typedef struct script_case {
  const char *root, *attributes; /* repr of the root and of its attributes, where it opens */
  ckpt_status status;
  const char *message; /* behind "path: ", where it does not */
  record records[MAX_RECORDS];
} script_case;

#define SCRIPT(pickle, ...) \
  { {"a/data.pkl", P(pickle ".")}, DATA, VERSION, CONSTANTS, __VA_ARGS__ }
#define OPENS(root, attributes, ...) \
  { root, attributes, CKPT_OK, NULL, SCRIPT(__VA_ARGS__) }
#define REFUSED(status, message, ...) \
  { NULL, NULL, status, message, SCRIPT(__VA_ARGS__) }
#define NO_MORE \
  { NULL, NULL, 0 }
#define ABOUT(cls, more) "{'__class__': '__torch__." cls "'" more "}"
#define ON ", 'training': True"
#define META(more) "{'_metadata': {'': " ABOUT("M", ON) more "}}"
#define MODULE_CODE "class M(Module):\n  __parameters__ = []\nclass N(Module):\n"

static const script_case cases[] = {
    /* names in order of declaration; bookkeeping and None go to _metadata */
    OPENS("{}", META(""), MODULE("M", ""), NO_MORE),
    OPENS("{'w': <tensor>, 'fc.b': <tensor>, 'fc.0.name': 'x', 'scale': 2, 'flag': True}",
          "{'_metadata': {'': {'__class__': '__torch__.M', 'training': True, '_is_full_backward_hook': None, 'absent': "
          "None}, 'fc': {'__class__': '__torch__.N', 'training': False}, 'fc.0': {'__class__': '__torch__.O', "
          "'training': True}}}",
          MODULE("M", S("_is_full_backward_hook") "N" S("w") TENSOR S("fc") NEW("N")
                          FIELDS(S("training") "\x89" S("b") TENSOR S("0") MODULE("O", S("name") S("x")))
                              S("scale") "K\2" S("absent") "N" S("flag") "\x88"),
          NO_MORE),
    /* torch.nn's own modules: settings are no entries, tensors and modules are */
    OPENS("{'conv.weight': <tensor>}",
          "{'_metadata': {'': {'__class__': '__torch__.M', 'training': True}, 'conv': {'__class__': "
          "'__torch__.torch.nn.modules.conv.Conv2d', 'training': True, 'transposed': False, 'pad': (0, 0)}}}",
          MODULE("M", S("conv") "c__torch__.torch.nn.modules.conv\nConv2d\n)\x81" FIELDS(
                          S("training") "\x88" S("transposed") "\x89" S("weight") TENSOR S("pad") "K\0K\0\x86")),
          NO_MORE),
    /* containers are plain, whatever function they went through */
    OPENS("{'i': [1, 2], 't': [<tensor>], 'd': [1.5], 'b': [True], 's': {'k': [3]}, 'e': [], 'p': (1, ('x',))}",
          META(""),
          MODULE("M",
                 S("i") "ctorch.jit._pickle\nbuild_intlist\n(](K\1K\2etR" S(
                     "t") "ctorch.jit._pickle\nbuild_tensorlist\n(](" TENSOR
                          "etR" S("d") "ctorch.jit._pickle\nbuild_doublelist\n(](F1.5\netR" S(
                              "b") "ctorch.jit._pickle\nbuild_boollist\n(](\x88"
                                   "etR" S("s") TAG("}(" S("k") TAG("](K\3e", "List[int]") "u", "Dict[str, List[int]]")
                                       S("e") TAG("]", "List[int]") S("p") "(K\1(" S("x") "tt"),
          NO_MORE),
    REFUSED(CKPT_E_CORRUPT, "data.pkl+0x44: torch.jit._pickle.build_intlist of what is no list or dict",
            MODULE("M", S("i") "ctorch.jit._pickle\nbuild_intlist\n(K\1tR"), NO_MORE),
    REFUSED(CKPT_E_CORRUPT, "data.pkl+0x45: torch.jit._pickle.restore_type_tag of what is no list or dict",
            MODULE("M", S("i") "ctorch.jit._pickle\nrestore_type_tag\n(tR"), NO_MORE),
    /* what is no module: a dict of its fields; the source decides, without one `training` */
    OPENS("{'o.x': 1}", "{'_metadata': {'': " ABOUT("M", ON) ", 'o': " ABOUT("N", "") "}}",
          MODULE("M", S("o") NEW("N") FIELDS(S("x") "K\1")), CODE(MODULE_CODE), NO_MORE),
    OPENS("{'o': {'__class__': '__torch__.P', 'training': True, 'x': 1}}", META(""),
          MODULE("M", S("o") MODULE("P", S("x") "K\1")), CODE(MODULE_CODE "class P:\n  x : int\n"), NO_MORE),
    OPENS("{'o': {'__class__': '__torch__.P', 'x': 1}, 'l': [{'__class__': '__torch__.M', 'y': 2}]}", META(""),
          MODULE("M", S("o") NEW("P") FIELDS(S("x") "K\1") S("l") "](" NEW("M") FIELDS(S("y") "K\2") "e"),
          CODE("def f(x):\n  class M(Module):\nclass Pa(Module):\nclass P(Modules):"), NO_MORE),
    OPENS("{'o': {'__class__': '__torch__.P'}, 'c': {'__class__': '__torch__.Color', 'value': 2}, 'two': {'__class__': "
          "'__torch__.F', '__args__': (1, 2)}}",
          META(""), MODULE("M", S("o") NEW("P") S("c") "c__torch__\nColor\nK\2R" S("two") "c__torch__\nF\nK\1K\2\x86R"),
          NO_MORE),
    /* a state that is no dict of fields */
    OPENS("{'q': {'__class__': '__torch__.P', '__state__': (1, 2)}, 'n.__state__': [3]}",
          "{'_metadata': {'': " ABOUT("M", ON) ", 'n': " ABOUT("N", "") "}}",
          MODULE("M", S("q") NEW("P") "K\1K\2\x86"
                                      "b" S("n") NEW("N") "]K\3a"
                                                          "b"),
          CODE(MODULE_CODE), NO_MORE),
    OPENS("{'__state__': 3}", "{'_metadata': {'': " ABOUT("M", "") "}}",
          NEW("M") "K\3"
                   "b",
          NO_MORE),
    REFUSED(CKPT_E_CORRUPT, "an object of class '__torch__.P' that is used as a list or dict",
            MODULE("M", S("o") NEW("P") "K\1a"), NO_MORE),
    REFUSED(CKPT_E_CORRUPT, "an object of class '__torch__.M' that is used as a list or dict", NEW("M") "NNs", NO_MORE),
    REFUSED(CKPT_E_CORRUPT, "two fields have the name '__class__'",
            MODULE("M", S("o") NEW("P") FIELDS(S("__class__") "K\1")), NO_MORE),
    /* names that cannot be told apart, or are none */
    REFUSED(CKPT_E_CORRUPT, "two fields have the name 'a.b'",
            MODULE("M", S("a.b") "K\1" S("a") MODULE("N", S("b") "K\2")), NO_MORE),
    REFUSED(CKPT_E_CORRUPT, "two fields have the name 'a.b'",
            MODULE("M", S("a.b") MODULE("N", "") S("a") MODULE("N", S("b") MODULE("N", ""))), NO_MORE),
    REFUSED(CKPT_E_CORRUPT, "module 'a' has a field whose name is a int", MODULE("M", S("a") MODULE("N", "K\1K\2")),
            NO_MORE),
    REFUSED(CKPT_E_CORRUPT, "module 'a.b' lies inside itself",
            MODULE("M", S("a") NEW("N") "p0\n" FIELDS(S("training") "\x88" S("b") "g0\n")), NO_MORE),
    /* a module in two places has both names, and its tensor is one */
    OPENS("{'a.w': <tensor>, 'b.w': <tensor>}",
          "{'_metadata': {'': " ABOUT("M", ON) ", 'a': " ABOUT("N", ON) ", 'b': " ABOUT("N", ON) "}}",
          MODULE("M", S("a") MODULE("N", S("w") TENSOR) "p0\n" S("b") "g0\n"), NO_MORE),
    /* no module at all */
    OPENS("[1, {'__class__': '__torch__.P', 'x': 2}]", NULL, "](K\1" NEW("P") FIELDS(S("x") "K\2") "e", NO_MORE),
    OPENS("{'a': 1}", NULL, "}(" S("a") "K\1u", NO_MORE),
    /* sparse tensors as C++ writes them get Python's arguments */
    OPENS("{'s': <torch._utils._rebuild_sparse_tensor>}", META(""),
          MODULE("M", S("s") "ctorch._utils\n_rebuild_sparse_tensor\n(K\1K\2\x85\x89" TENSOR TENSOR "NtR"), NO_MORE),
    REFUSED(CKPT_E_CORRUPT, "data.pkl+0x4a: a sparse tensor made of 2 arguments, not 6",
            MODULE("M", S("s") "ctorch._utils\n_rebuild_sparse_tensor\n(K\1K\2tR"), NO_MORE),
    REFUSED(CKPT_E_UNSUPPORTED, "data.pkl+0x4e: a sparse tensor of layout 3",
            MODULE("M", S("s") "ctorch._utils\n_rebuild_sparse_tensor\n(K\3NNNNNNtR"), NO_MORE),
    /* files beside the program, and constants, are attributes of the dict */
    OPENS("{}", "{'_metadata': {'': " ABOUT("M", ON) "}, '_extra_files': {'n.txt': 'hi', 'd/b': b'\\xff'}}",
          MODULE("M", ""), {"a/extra/n.txt", P("hi")}, {"a/extra/d/b", P("\xff")}, NO_MORE),
    {"{}",
     "{'_metadata': {'': " ABOUT("M", ON) "}, '_constants': (<tensor>,)}",
     CKPT_OK,
     NULL,
     {{"a/data.pkl", P(MODULE("M", "") ".")},
      VERSION,
      {"a/constants.pkl", P(TENSOR "\x85.")},
      {"a/constants/0", floats, sizeof floats - 1}}},
    {NULL,
     NULL,
     CKPT_E_CORRUPT,
     "constants.pkl+0x4b: record 'constants/0' of storage '0' is missing",
     {{"a/data.pkl", P(MODULE("M", "") ".")}, DATA, VERSION, {"a/constants.pkl", P(TENSOR "\x85.")}}},
    {NULL, NULL, CKPT_E_FORMAT, "record 'a/data.pkl' is missing", {VERSION, CONSTANTS}},
    /* archives of other kinds */
    {NULL,
     NULL,
     CKPT_E_UNSUPPORTED,
     "a TorchScript archive of PyTorch 1.0 to 1.3 (with 'model.json'): torch.jit.load and torch.jit.save of a later "
     "PyTorch turn it into one that can be read",
     {{"a/model.json", P("{}")}, {"a/version", P("1\n")}, {"a/tensors/0", P("1234")}}},
    {NULL,
     NULL,
     CKPT_E_UNSUPPORTED,
     "a torch.package archive: its objects exist only when the program inside is run",
     {{"a/.data/extern_modules", P("torch\n")}, {"a/.data/version", P("6\n")}, {"a/m/m.pkl", P("\x80\2N.")}}},
};

static void check_repr(const ckpt_value *v, const char *want) {
  char *text = NULL;
  size_t n = 0;
  assert_int_equal(ckpt_repr(&text, &n, v, 4096, NULL), CKPT_OK);
  assert_string_equal(text, want);
  free(text);
}

static void check_opens(const char *path, const script_case *c) {
  ckpt_checkpoint *cp = opened(path);
  const ckpt_value *root = ckpt_checkpoint_root(cp);
  assert_string_equal(ckpt_checkpoint_format(cp), "torchscript");
  check_repr(root, c->root);
  assert_int_equal(ckpt_value_is_ordered(root), c->attributes != NULL);
  if (c->attributes != NULL) check_repr(root->as.dict->state, c->attributes);
  ckpt_checkpoint_close(cp);
}

static void what_is_in_the_file(void **state) {
  const char *path = in(*state, "a.pt");
  for (size_t i = 0; i < CKPT_COUNTOF(cases); i++) {
    ckpt_error err = {0};
    build(path, cases[i].records);
    if (cases[i].status == CKPT_OK) {
      check_opens(path, &cases[i]);
      continue;
    }
    ckpt_status st = refused(&err, path);
    assert_string_equal(err.message, cases[i].message);
    assert_int_equal(st, cases[i].status);
  }
}

/* ---- what is written reads back ---- */

static void check_written(const char *from, const char *to) {
  ckpt_checkpoint *cp = opened(from), *copy = NULL;
  ckpt_error err = {0};
  if (ckpt_save_file(to, ckpt_checkpoint_root(cp), &err) != CKPT_OK) fail_msg("%s", err.message);
  copy = opened(to);
  assert_string_equal(ckpt_checkpoint_format(copy), "torch-zip");
  assert_true(same_listing(ckpt_checkpoint_root(cp), ckpt_checkpoint_root(copy)));
  ckpt_checkpoint_close(copy);
  ckpt_checkpoint_close(cp);
}

static void as_a_pth_file(void **state) {
  char from[PATH_MAX];
  snprintf(from, sizeof from, "%s", in(*state, "a.pt"));
  for (size_t i = 0; i < CKPT_COUNTOF(cases); i++) {
    if (cases[i].status != CKPT_OK) continue;
    build(from, cases[i].records);
    check_written(from, in(*state, "b.pth"));
  }
}

/* TorchScript memoises the storage, Python the tuple that names it: two views must still be two views of one storage.
 */
static void a_storage_that_is_memoised(void **state) {
  char from[PATH_MAX];
  const record records[] =
      SCRIPT(MODULE("M", S("a") "ctorch._utils\n_rebuild_tensor_v2\n" STORAGE(
                             "FloatStorage", "0",
                             "\6") "p0\nK\0K\2\x85K\1\x85"
                                   "\x89NtR" S("b") "ctorch._utils\n_rebuild_tensor_v2\n(g0\nK\2K\4\x85K\1\x85\x89NtR"),
             NO_MORE);
  snprintf(from, sizeof from, "%s", in(*state, "a.pt"));
  build(from, records);
  check_written(from, in(*state, "b.pth"));
  ckpt_checkpoint *cp = opened(in(*state, "b.pth"));
  const ckpt_tensor *a = ckpt_value_tensor(ckpt_value_get(ckpt_checkpoint_root(cp), "a"));
  const ckpt_tensor *b = ckpt_value_tensor(ckpt_value_get(ckpt_checkpoint_root(cp), "b"));
  assert_true(ckpt_tensor_shares_storage(a, b));
  assert_int_equal(ckpt_tensor_offset(b), 2);
  ckpt_checkpoint_close(cp);
}

/* PyTorch has no class UInt16Storage: such a tensor is written in PyTorch's own way. */
static void dtypes_without_a_storage_class(void **state) {
  char from[PATH_MAX];
  const record records[] = {{"a/data.pkl", P(MODULE("M", S("w") TENSOR_OF("UInt16Storage", "0", "\x0c")) ".")},
                            DATA,
                            VERSION,
                            CONSTANTS,
                            NO_MORE};
  size_t n = 0;
  snprintf(from, sizeof from, "%s", in(*state, "a.pt"));
  build(from, records);
  check_written(from, in(*state, "b.pth"));
  unsigned char *bytes = slurp(&n, in(*state, "b.pth"));
  assert_null(memmem(bytes, n, "UInt16Storage", 13));
  assert_non_null(memmem(bytes, n, "_rebuild_tensor_v3", 18));
  free(bytes);
}

/* ---- sharing ---- */

static void tied_tensors_stay_one(void **state) {
  const record records[] = SCRIPT(MODULE("M", S("a") TENSOR "p0\n" S("b") MODULE("N", S("w") "g0\n")), NO_MORE);
  const char *path = in(*state, "a.pt");
  build(path, records);
  ckpt_checkpoint *cp = opened(path);
  const ckpt_value *root = ckpt_checkpoint_root(cp);
  assert_ptr_equal(ckpt_value_get(root, "a"), ckpt_value_get(root, "b.w"));
  assert_non_null(ckpt_value_get(root, "a"));
  ckpt_checkpoint_close(cp);
}

/* What lies beside the entries is found by the path that a listing shows. */
static void constants_are_reachable(void **state) {
  const record records[] = {{"a/data.pkl", P(MODULE("M", S("w") "K\1") ".")},
                            VERSION,
                            {"a/constants.pkl", P(TENSOR "\x85.")},
                            {"a/constants/0", floats, sizeof floats - 1},
                            NO_MORE};
  const char *path = in(*state, "a.pt");
  build(path, records);
  ckpt_checkpoint *cp = opened(path);
  const ckpt_value *v = ckpt_value_at(ckpt_checkpoint_root(cp), "_constants[0]");
  assert_non_null(v);
  assert_int_equal(ckpt_value_kind(v), CKPT_TENSOR);
  assert_null(ckpt_value_get(ckpt_checkpoint_root(cp), "_constants"));
  ckpt_checkpoint_close(cp);
}

/* A module inside a module inside ..., each there twice: a name for each way would fill any memory. */
static void nested_sharing_is_bounded(void **state) {
  char pickle[4096] = "c__torch__\nM\n)\x81";
  size_t n = strlen(pickle);
  for (int i = 0; i < 40; i++) n += (size_t)sprintf(pickle + n, "}(" S("training") "\x88" S("a") NEW("M"));
  n += (size_t)sprintf(pickle + n, FIELDS(S("training") "\x88" S("x") "K\1"));
  for (int i = 0; i < 40; i++) n += (size_t)sprintf(pickle + n, "p%d\n" S("b") "g%d\nub", i, i);
  pickle[n++] = '.';
  const record records[] = {{"a/data.pkl", pickle, n}, VERSION, CONSTANTS, NO_MORE};
  ckpt_error err = {0};
  build(in(*state, "a.pt"), records);
  assert_int_equal(refused(&err, in(*state, "a.pt")), CKPT_E_LIMIT);
  assert_non_null(strstr(err.message, "allowed for them"));
}

/* Depth costs no stack. */
static void deep_modules(void **state) {
  enum { DEPTH = 300 };
  char *pickle = malloc(DEPTH * 64), want[2 * DEPTH + 8] = "";
  size_t n = (size_t)sprintf(pickle, NEW("M"));
  for (int i = 0; i < DEPTH; i++) {
    n += (size_t)sprintf(pickle + n, "}(" S("training") "\x88" S("a") NEW("M"));
    strcat(want, "a.");
  }
  n += (size_t)sprintf(pickle + n, FIELDS(S("training") "\x88" S("x") "K\1"));
  for (int i = 0; i < DEPTH; i++) n += (size_t)sprintf(pickle + n, "ub");
  pickle[n++] = '.';
  strcat(want, "x");
  const record records[] = {{"a/data.pkl", pickle, n}, VERSION, CONSTANTS, NO_MORE};
  build(in(*state, "a.pt"), records);
  free(pickle);
  ckpt_checkpoint *cp = opened(in(*state, "a.pt"));
  assert_int_equal(ckpt_value_count(ckpt_checkpoint_root(cp)), 1);
  assert_non_null(ckpt_value_get(ckpt_checkpoint_root(cp), want));
  ckpt_checkpoint_close(cp);
}

/* ---- bad input ---- */

static const record everything[] = {
    {"a/data.pkl",
     P(MODULE("M", S("w") TENSOR S("fc") MODULE("N", S("b") TENSOR) "p0\n" S("l") TAG("](K\1e", "List[int]") S("o")
                       NEW("P") FIELDS(S("x") "K\1") S("again") "g0\n" S("c") "c__torch__\nColor\nK\2R" S(
                           "s") "ctorch._utils\n_rebuild_sparse_tensor\n(K\1K\2\x85\x89" TENSOR TENSOR "NtR") ".")},
    DATA,
    VERSION,
    {"a/constants.pkl", P(TENSOR "\x85.")},
    {"a/constants/0", floats, sizeof floats - 1},
    CODE(MODULE_CODE "class P:\n  x : int\n"),
    {"a/extra/n", P("text")},
    NO_MORE};

static void look_if_it_opens(const char *path) {
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  if (ckpt_checkpoint_open(&cp, path, NULL, &err) == CKPT_OK) look_at_all(cp);
  ckpt_checkpoint_close(cp);
}

static void changed_at_every_byte(void **state) {
  const char *path = in(*state, "a.pt");
  size_t n = 0;
  build(path, everything);
  unsigned char *bytes = slurp(&n, path);
  for (size_t i = 0; i < n; i++) {
    bytes[i] ^= (unsigned char)(1 + i % 255);
    spill(path, bytes, n);
    bytes[i] ^= (unsigned char)(1 + i % 255);
    look_if_it_opens(path);
  }
  free(bytes);
}

/* The pickle changed and its checksum made anew, so that more than the checksum is asked. */
static void pickle_changed_at_every_byte(void **state) {
  const char *path = in(*state, "a.pt");
  record records[CKPT_COUNTOF(everything)];
  char *pickle = malloc(everything[0].n);
  memcpy(records, everything, sizeof records);
  records[0].data = pickle;
  for (size_t i = 0; i < records[0].n; i++)
    for (int change = 1; change < 256; change += 51) {
      memcpy(pickle, everything[0].data, records[0].n);
      pickle[i] = (char)(pickle[i] ^ change);
      build(path, records);
      look_if_it_opens(path);
    }
  free(pickle);
}

static void cut_at_every_length(void **state) {
  const char *path = in(*state, "a.pt");
  size_t n = 0;
  build(path, everything);
  unsigned char *bytes = slurp(&n, path);
  for (size_t i = 0; i < n; i++) {
    ckpt_error err = {0};
    spill(path, bytes, i);
    assert_int_not_equal(refused(&err, path), CKPT_OK);
  }
  free(bytes);
}

static void when_memory_runs_out(void **state) {
  const char *path = in(*state, "a.pt");
  build(path, everything);
  assert_in_range(open_without_memory(path), 10, 100000);
}

/* ---- PyTorch's own files ---- */

static void files_of_pytorch(void **state) {
  (void)state;
  const char *shared = getenv("CKPT_SHARED");
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/data/torch/torchscript.pt", shared == NULL ? "../shared" : shared);
  if (access(path, R_OK) != 0) skip();
  ckpt_checkpoint *cp = opened(path);
  const ckpt_value *root = ckpt_checkpoint_root(cp);
  check_repr(root, "{'buf': <tensor>, 'fc.weight': <tensor>, 'fc.bias': <tensor>}");
  check_repr(root->as.dict->state,
             "{'_metadata': {'': {'__class__': '__torch__.M', 'training': True, '_is_full_backward_hook': None}, 'fc': "
             "{'__class__': '__torch__.torch.nn.modules.linear.Linear', 'training': True, '_is_full_backward_hook': "
             "None}}}");
  assert_false(ckpt_tensor_requires_grad(ckpt_value_tensor(ckpt_value_get(root, "buf"))));
  assert_true(ckpt_tensor_requires_grad(ckpt_value_tensor(ckpt_value_get(root, "fc.bias"))));
  ckpt_checkpoint_close(cp);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      IN_DIRECTORY(what_is_in_the_file),        IN_DIRECTORY(as_a_pth_file),
      IN_DIRECTORY(a_storage_that_is_memoised), IN_DIRECTORY(dtypes_without_a_storage_class),
      IN_DIRECTORY(tied_tensors_stay_one),      IN_DIRECTORY(constants_are_reachable),
      IN_DIRECTORY(nested_sharing_is_bounded),  IN_DIRECTORY(deep_modules),
      IN_DIRECTORY(changed_at_every_byte),      IN_DIRECTORY(pickle_changed_at_every_byte),
      IN_DIRECTORY(cut_at_every_length),        IN_DIRECTORY(when_memory_runs_out),
      cmocka_unit_test(files_of_pytorch),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
