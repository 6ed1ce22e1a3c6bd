// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
/*
 * test_dcp.c - torch.distributed.checkpoint directories: what PyTorch wrote (tests/data/dcp) against its own reading of
 * it; a directory made here, with one thing in its .metadata or its files changed; every byte changed; memory that runs
 * out.
 */
#include "archive_fixture.h"

#include "dcp_chunks.h"
#include "dcp_nest.h"
#include "repr.h"

#define DIMS(...) ((const int64_t[]){__VA_ARGS__})

/* ---- a directory made here ---- */

#define CLASS(name) "ctorch.distributed.checkpoint.metadata\n" name "\n"
#define SIZE(dims) "ctorch\nSize\n((" dims "ttR"
#define CHUNK(offsets, sizes) \
  CLASS("ChunkStorageMetadata") ")\x81}(Voffsets\n" SIZE(offsets) "Vsizes\n" SIZE(sizes) "ub"
#define TENSOR(name, dtype, size, chunks)                                                        \
  "V" name "\n" CLASS("TensorStorageMetadata") ")\x81}(Vproperties\n" CLASS(                     \
      "TensorProperties") ")\x81(ctorch\n" dtype                                                 \
                          "\nctorch.serialization\n_get_layout\n(Vtorch.strided\ntRI00\n" CLASS( \
                              "_MEM_FORMAT_ENCODING") "(I0\ntRI00\ntbVsize\n" SIZE(size) "Vchunks\n](" chunks "eub"
#define BYTES(name) "V" name "\n" CLASS("BytesStorageMetadata") ")\x81"
#define ITEM(name, offset, file)                                                          \
  CLASS("MetadataIndex")                                                                  \
  ")\x81}(Vfqn\nV" name "\n" offset                                                       \
  "Vindex\nI0\nub"                                                                        \
  "ctorch.distributed.checkpoint.filesystem\n_StorageInfo\n)\x81}(Vrelative_path\nV" file \
  "\nVoffset\nI%zu\nVlength\n"                                                            \
  "I%zu\nub"
#define AT(dims) "Voffset\n" SIZE(dims)

/* w is 4x6 floats in three chunks, v three integers in one, n a dict. The first two lie in a.distcp, the rest in b. */
static const char metadata[] = CLASS("Metadata") ")\x81}(Vstate_dict_metadata\n}(" TENSOR(
    "m.w", "float32", "I4\nI6\n",
    CHUNK("I0\nI0\n", "I2\nI6\n") CHUNK("I2\nI0\n", "I2\nI4\n") CHUNK("I2\nI4\n", "I2\nI2\n"))
    TENSOR("m.v", "int64", "I3\n", CHUNK("I0\n", "I3\n"))
        BYTES("n") "uVplanner_data\n}(Vm.w\n(Vm\nVw\ntVm.v\n(Vm\nVv\ntVn\n(Vn\ntuVstorage_data\n}(" ITEM(
            "m.w", AT("I0\nI0\n"), "a.distcp") ITEM("m.w", AT("I2\nI0\n"), "a.distcp")
            ITEM("m.w", AT("I2\nI4\n"), "b.distcp") ITEM("m.v", AT("I0\n"), "b.distcp")
                ITEM("n", "", "b.distcp") "uVversion\nV1.0.0\nub.";

enum { ITEMS = 5, MAX_METADATA = 1 << 14 };

typedef struct layout {
  size_t offsets[ITEMS], sizes[ITEMS];
} layout;

/* Appends what torch.save would write of `root` to a file of the directory. */
static void append(layout *l, int i, const char *dir, const char *file, const ckpt_value *root) {
  size_t n = 0;
  struct stat st;
  assert_int_equal(ckpt_save_file(in(dir, "item.pth"), root, NULL), CKPT_OK);
  unsigned char *bytes = slurp(&n, in(dir, "item.pth"));
  unlink(in(dir, "item.pth"));
  FILE *f = fopen(in(dir, file), "ab");
  assert_int_equal(fstat(fileno(f), &st), 0);
  assert_int_equal(fwrite(bytes, 1, n, f), n);
  assert_int_equal(fclose(f), 0);
  free(bytes);
  l->offsets[i] = (size_t)st.st_size;
  l->sizes[i] = n;
}

static void append_tensor(layout *l, int i, const char *dir, const char *file, ckpt_tensor *t) {
  ckpt_document *doc = NULL;
  ckpt_value *v = NULL;
  assert_int_equal(ckpt_document_new(&doc, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_tensor(&v, doc, t, NULL), CKPT_OK);
  append(l, i, dir, file, v);
  ckpt_document_release(doc);
  ckpt_tensor_release(t);
}

static float whole[24]; /* 0, 1, 2, ... as m.w */

/* Rows [r, r+h) and columns [c, c+w) of it, not contiguous. */
static ckpt_tensor *part(int64_t r, int64_t c, int64_t h, int64_t w) {
  ckpt_tensor *all = NULL, *t = NULL;
  assert_int_equal(ckpt_tensor_borrow(&all, CKPT_F32, whole, 2, DIMS(4, 6), NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_view(&t, all, r * 6 + c, 2, DIMS(h, w), DIMS(6, 1), NULL), CKPT_OK);
  ckpt_tensor_release(all);
  return t;
}

static void append_dict(layout *l, int i, const char *dir, const char *file) {
  ckpt_document *doc = NULL;
  ckpt_value *dict = NULL, *v = NULL;
  ckpt_tensor *t = part(0, 0, 1, 2);
  ckpt_document_new(&doc, NULL);
  ckpt_value_new_dict(&dict, doc, false, NULL);
  ckpt_value_new_int(&v, doc, 7, NULL);
  ckpt_value_set(dict, doc, "k", v, NULL);
  ckpt_value_new_tensor(&v, doc, t, NULL);
  assert_int_equal(ckpt_value_set(dict, doc, "t", v, NULL), CKPT_OK);
  append(l, i, dir, file, dict);
  ckpt_tensor_release(t);
  ckpt_document_release(doc);
}

static void write_files(layout *l, const char *dir) {
  ckpt_tensor *v = NULL;
  static int64_t numbers[3] = {10, 20, 30};
  for (int i = 0; i < 24; i++) whole[i] = (float)i;
  unlink(in(dir, "a.distcp"));
  unlink(in(dir, "b.distcp"));
  append_tensor(l, 0, dir, "a.distcp", part(0, 0, 2, 6));
  append_tensor(l, 1, dir, "a.distcp", part(2, 0, 2, 4));
  append_tensor(l, 2, dir, "b.distcp", part(2, 4, 2, 2));
  assert_int_equal(ckpt_tensor_borrow(&v, CKPT_I64, numbers, 1, DIMS(3), NULL), CKPT_OK);
  append_tensor(l, 3, dir, "b.distcp", v);
  append_dict(l, 4, dir, "b.distcp");
}

/* The .metadata for these files; `from` in it becomes `to`, the first time it occurs behind `after`. */
static void write_metadata(const char *dir, const layout *l, const char *after, const char *from, const char *to) {
  char text[MAX_METADATA], *at = text;
  const size_t *o = l->offsets, *s = l->sizes;
  snprintf(text, sizeof text, metadata, o[0], s[0], o[1], s[1], o[2], s[2], o[3], s[3], o[4], s[4]);
  if (after != NULL) assert_non_null(at = strstr(at, after));
  if (from != NULL) assert_non_null(at = strstr(at, from));
  size_t cut = from == NULL ? 0 : strlen(from), add = to == NULL ? 0 : strlen(to), rest = strlen(at);
  assert_true(strlen(text) + add < sizeof text);
  memmove(at + add, at + cut, rest - cut + 1);
  if (add > 0) memcpy(at, to, add);
  spill(in(dir, ".metadata"), text, strlen(text));
}

static void write_directory(layout *l, const char *dir) {
  write_files(l, dir);
  write_metadata(dir, l, NULL, NULL, NULL);
}

static void check_repr(const ckpt_value *v, const char *want) {
  char *text = NULL;
  size_t n = 0;
  assert_int_equal(ckpt_repr(&text, &n, v, 4096, NULL), CKPT_OK);
  assert_string_equal(text, want);
  free(text);
}

/* ---- it opens ---- */

static void check_values(const ckpt_tensor *t) {
  const void *data = NULL;
  assert_int_equal(ckpt_tensor_data(&data, t, NULL), CKPT_OK);
  assert_memory_equal(data, whole, sizeof whole);
}

static void as_the_dict_that_was_saved(void **state) {
  layout l;
  write_directory(&l, *state);
  ckpt_checkpoint *cp = opened(*state);
  const ckpt_value *root = ckpt_checkpoint_root(cp);
  assert_string_equal(ckpt_checkpoint_format(cp), "torch-dcp");
  check_repr(root, "{'m': {'w': <tensor>, 'v': <tensor>}, 'n': {'k': 7, 't': <tensor>}}");
  ckpt_tensor *w = ckpt_value_tensor(ckpt_value_at(root, "m.w")), *v = ckpt_value_tensor(ckpt_value_at(root, "m.v"));
  assert_int_equal(ckpt_tensor_heap_bytes(w), 0); /* nothing is put together before it is looked at */
  check_values(w);
  assert_int_equal(ckpt_tensor_heap_bytes(w), sizeof whole);
  assert_int_equal(ckpt_tensor_stride(w)[0], 6);
  const void *data = NULL;
  assert_int_equal(ckpt_tensor_data(&data, v, NULL), CKPT_OK);
  int64_t numbers[3]; /* items follow one another without regard to alignment */
  memcpy(numbers, data, sizeof numbers);
  assert_int_equal(numbers[2], 30);
  assert_int_equal(ckpt_tensor_heap_bytes(v), 0); /* in place */
  assert_int_equal(ckpt_checkpoint_verify(cp, NULL), CKPT_OK);
  ckpt_checkpoint_close(cp);
}

static void by_its_metadata_file(void **state) {
  layout l;
  size_t sizes = 0, n = 0;
  write_directory(&l, *state);
  ckpt_checkpoint *cp = opened(in(*state, ".metadata"));
  for (int i = 0; i < ITEMS; i++) sizes += l.sizes[i];
  free(slurp(&n, in(*state, ".metadata")));
  assert_int_equal(ckpt_checkpoint_bytes(cp), n + sizes);
  ckpt_checkpoint_close(cp);
  char before[PATH_MAX];
  assert_non_null(getcwd(before, sizeof before));
  assert_int_equal(chdir(*state), 0);
  ckpt_checkpoint_close(opened(".metadata"));
  assert_int_equal(chdir(before), 0);
}

static void tensors_outlive_it(void **state) {
  layout l;
  write_directory(&l, *state);
  ckpt_checkpoint *cp = opened(*state);
  ckpt_tensor *w = ckpt_tensor_retain(ckpt_value_tensor(ckpt_value_at(ckpt_checkpoint_root(cp), "m.w")));
  ckpt_checkpoint_close(cp);
  check_values(w);
  ckpt_tensor_release(w);
}

static void a_directory_of_another_kind(void **state) {
  ckpt_error err = {0};
  assert_int_equal(refused(&err, *state), CKPT_E_FORMAT);
  assert_string_equal(err.message, "a directory, not a checkpoint file");
  assert_int_equal(refused(&err, in(*state, ".metadata")), CKPT_E_NOTFOUND);
  assert_int_equal(refused(&err, in(*state, "none")), CKPT_E_NOTFOUND);
}

/* ---- .metadata that says other things, and is right ---- */

typedef struct change {
  const char *after, *from, *to;
  const char *root; /* its repr, where it opens */
  ckpt_status status;
  const char *message; /* behind "path: ", where it does not */
} change;

#define PLAIN "{'m': {'w': <tensor>, 'v': <tensor>}, 'n': {'k': 7, 't': <tensor>}}"
#define ALL_PATHS "}(Vm.w\n(Vm\nVw\ntVm.v\n(Vm\nVv\ntVn\n(Vn\ntu"
#define PATHS(w, v, n) "}(Vm.w\n(" w "tVm.v\n(" v "tVn\n(" n "tu"

static const change right[] = {
    /* paths: strings are keys, integers places of lists, what is absent is flat */
    {"planner_data", ALL_PATHS, "N", "{'m.w': <tensor>, 'm.v': <tensor>, 'n': {'k': 7, 't': <tensor>}}", 0, NULL},
    {"planner_data", ALL_PATHS, "V?\n", "{'m.w': <tensor>, 'm.v': <tensor>, 'n': {'k': 7, 't': <tensor>}}", 0, NULL},
    {"planner_data", "Vm.v\n(Vm\nVv\nt", "", "{'m': {'w': <tensor>}, 'm.v': <tensor>, 'n': {'k': 7, 't': <tensor>}}", 0,
     NULL},
    {"planner_data", ALL_PATHS, PATHS("Vl\nI1\n", "Vl\nI3\nI0\n", "Vl\nI0\nV0\n"),
     "{'l': [{'0': {'k': 7, 't': <tensor>}}, <tensor>, None, [<tensor>]]}", 0, NULL},
    {"planner_data", ALL_PATHS, PATHS("Va\nV0\n", "Va\nV1\nVb.c\n", "Vd\nV\n"),
     "{'a': {'0': <tensor>, '1': {'b.c': <tensor>}}, 'd': {'': {'k': 7, 't': <tensor>}}}", 0, NULL},
    /* before 2.0 everything lay in torch.distributed._shard; a chunk that is all may be without offset */
    {NULL, "ctorch.distributed.checkpoint.metadata\nMetadata",
     "ctorch.distributed._shard.checkpoint.metadata\nMetadata", PLAIN, 0, NULL},
    {"_StorageInfo\n)\x81}(Vrelative_path\nVb.distcp", "Voffset\nctorch\nSize\n((I0\nttR", "Voffset\nN", PLAIN, 0,
     NULL},
    {"Vn\nVindex", "Vlength\n", "Vtransform_descriptors\nNVlength\n", PLAIN, 0, NULL},
    {"Vn\nVindex", "Vlength\n", "Vtransform_descriptors\n)Vlength\n", PLAIN, 0, NULL},
    /* an empty chunk need not lie anywhere */
    {"Vm.v\n", "](", "](" CHUNK("I3\n", "I0\n"), PLAIN, 0, NULL},
};

static void other_words_for_it(void **state) {
  layout l;
  write_files(&l, *state);
  for (size_t i = 0; i < CKPT_COUNTOF(right); i++) {
    write_metadata(*state, &l, right[i].after, right[i].from, right[i].to);
    ckpt_checkpoint *cp = opened(*state);
    check_repr(ckpt_checkpoint_root(cp), right[i].root);
    look_at_all(cp);
    ckpt_checkpoint_close(cp);
  }
}

static void parameters_require_grad(void **state) {
  layout l;
  write_files(&l, *state);
  write_metadata(*state, &l, "torch.strided", "tRI00\n", "tRI01\n");
  ckpt_checkpoint *cp = opened(*state);
  ckpt_tensor *w = ckpt_value_tensor(ckpt_value_at(ckpt_checkpoint_root(cp), "m.w"));
  assert_true(ckpt_tensor_requires_grad(w));
  check_values(w);
  ckpt_checkpoint_close(cp);
  write_metadata(*state, &l, "int64", "tRI00\n", "tRI01\n");
  cp = opened(*state);
  assert_true(ckpt_tensor_requires_grad(ckpt_value_tensor(ckpt_value_at(ckpt_checkpoint_root(cp), "m.v"))));
  assert_false(ckpt_tensor_requires_grad(ckpt_value_tensor(ckpt_value_at(ckpt_checkpoint_root(cp), "m.w"))));
  ckpt_checkpoint_close(cp);
}

/* ---- .metadata that is wrong ---- */

#define WRONG(after, from, to, status, message) \
  { after, from, to, NULL, status, ".metadata: " message }
#define CORRUPT(after, from, to, message) WRONG(after, from, to, CKPT_E_CORRUPT, message)
#define FIRST_CHUNK "ChunkStorageMetadata"
#define CHUNK_DIMS "'m.w': a chunk whose offsets and sizes are not as many counts as it has dimensions"
#define NO_PATH "'m.w': its path in planner_data is no tuple of names and indices"

static const change wrong[] = {
    {NULL, "metadata\nMetadata", "metadata\nOther", NULL, CKPT_E_FORMAT,
     ".metadata: not a torch.distributed.checkpoint: its pickle holds no Metadata"},
    CORRUPT(NULL, "Vstate_dict_metadata", "Vother", "'state_dict_metadata': no dict of entries"),
    CORRUPT(NULL, "Vstorage_data", "Vother", "'storage_data': no dict of items"),
    CORRUPT(NULL, "Vm.w\nctorch", "I1\nctorch", "'state_dict_metadata': a name that is no string"),
    CORRUPT(NULL, "BytesStorageMetadata", "Other", "'n': neither TensorStorageMetadata nor BytesStorageMetadata"),
    /* tensors */
    CORRUPT(NULL, "ctorch\nfloat32", "cother\nfloat32", "'m.w': its dtype is no torch dtype"),
    CORRUPT(NULL, "float32", "float33", "'m.w': its dtype is not known"),
    CORRUPT(NULL, "Vsize\nctorch\nSize\n((I4\nI6\nttR", "Vsize\nI4\n", "'m.w': its size is no tuple of counts"),
    CORRUPT(NULL, "I4\nI6", "I4\nI-6", "'m.w': its size is no tuple of counts"),
    CORRUPT(NULL, "I4\nI6", "I4\nV6", "'m.w': its size is no tuple of counts"),
    CORRUPT(NULL, "Vchunks\n]", "Vchunks\nVx\nVother\n]", "'m.w': its chunks are no list"),
    {NULL, "I4\nI6", "I9223372036854775807\nI6", NULL, CKPT_E_CORRUPT,
     ".metadata: 'm.w': the number of elements does not fit in 63 bits"},
    /* chunks */
    CORRUPT(FIRST_CHUNK, "I0\nI0\n", "I0\n", CHUNK_DIMS),
    CORRUPT(FIRST_CHUNK, "I2\nI6\n", "I2\nI6\nI1\n", CHUNK_DIMS),
    CORRUPT(FIRST_CHUNK, "I2\nI6\n", "I2\nI-6\n", CHUNK_DIMS),
    CORRUPT(NULL, FIRST_CHUNK, "Other", "'m.w': a chunk that is no ChunkStorageMetadata"),
    CORRUPT(FIRST_CHUNK, "I0\nI0\n", "I1\nI0\n", "'m.w': a chunk of it is not in storage_data"),
    CORRUPT(FIRST_CHUNK, "I2\nI6\n", "I2\nI7\n",
            "'m.w': chunk 0, at (0, 0) of size (2, 7), reaches outside the tensor of size (4, 6)"),
    CORRUPT(FIRST_CHUNK, "I2\nI6\n", "I9223372036854775807\nI6\n",
            "'m.w': chunk 0, at (0, 0) of size (9223372036854775807, 6), reaches outside the tensor of size (4, 6)"),
    CORRUPT(FIRST_CHUNK, "I2\nI6\n", "I3\nI6\n", "'m.w': the chunks at (0, 0) and at (2, 0) overlap"),
    CORRUPT(FIRST_CHUNK, "I2\nI6\n", "I2\nI5\n", "'m.w': the chunks hold 22 of the tensor's 24 elements"),
    CORRUPT("Vm.v\n", "((I3\nttR", "((I4\nttR", "'m.v': the chunks hold 3 of the tensor's 4 elements"),
    CORRUPT("Vm.v\n", "](", "](" CHUNK("I4\n", "I0\n"),
            "'m.v': chunk 0, at (4,) of size (0,), reaches outside the tensor of size (3,)"),
    /* paths */
    CORRUPT("planner_data", "(Vm\nVw\nt", ")", NO_PATH),
    CORRUPT("planner_data", "(Vm\nVw\nt", "Vm\n", NO_PATH),
    CORRUPT("planner_data", "(Vm\nVw\nt", "(Vm\nI-1\nt", NO_PATH),
    CORRUPT("planner_data", "(Vm\nVw\nt", "(Vm\nNt", NO_PATH),
    CORRUPT("planner_data", "(Vm\nVw\nt", "(I0\nVw\nt", "'m.w': its path has an index where others have a name"),
    CORRUPT("planner_data", "(Vm\nVv\nt", "(Vm\nI0\nt", "'m.v': its path has an index where others have a name"),
    CORRUPT("planner_data", ALL_PATHS, PATHS("Vl\nI0\n", "Vl\nVx\n", "Vn\n"),
            "'m.v': its path has a name where others have an index"),
    CORRUPT("planner_data", "(Vm\nVv\nt", "(Vm\nVw\nt", "'m.v': another entry has the same path"),
    CORRUPT("planner_data", ALL_PATHS, PATHS("Vl\nI0\n", "Vl\nI0\n", "Vn\n"), "'m.v': another entry has the same path"),
    CORRUPT("planner_data", "(Vm\nVv\nt", "(Vm\nVw\nVx\nt",
            "'m.v': its path leads through a value that is saved whole"),
    WRONG("planner_data", "(Vm\nVv\nt", "(Vl\nI1048576\nt", CKPT_E_LIMIT,
          "'m.v': index 1048576 makes lists of more than 1048576 places"),
    /* items */
    CORRUPT(NULL, "MetadataIndex", "Other", "'storage_data': a key that is no MetadataIndex with a name"),
    CORRUPT("MetadataIndex", "Vfqn\nVm.w\n", "Vfqn\nN", "'storage_data': a key that is no MetadataIndex with a name"),
    CORRUPT("MetadataIndex", "Voffset\n", "Voffset\nV?\nVother\n", "'m.w': an offset that is no tuple of counts"),
    CORRUPT("MetadataIndex", "I0\nI0\n", "I2\nI0\n", "'m.w': two items at one place"),
    CORRUPT("Vn\nVindex", "Vb.distcp", "I1", "'n': the name of its file is no string"),
    CORRUPT("Vn\nVindex", "Vb.distcp", "V../b.distcp",
            "'n' is said to lie in '../b.distcp', which is no plain file name"),
    CORRUPT("Vn\nVindex", "Vb.distcp", "V/etc/passwd",
            "'n' is said to lie in '/etc/passwd', which is no plain file name"),
    CORRUPT("Vn\nVindex", "Vb.distcp", "V..", "'n' is said to lie in '..', which is no plain file name"),
    CORRUPT("Vn\nVindex", "Vb.distcp", "V.", "'n' is said to lie in '.', which is no plain file name"),
    CORRUPT("Vn\nVindex", "Vb.distcp", "V", "'n' is said to lie in '', which is no plain file name"),
    CORRUPT("Vn\nVindex", "Vlength\n", "Vlength\nI-1\nVother\n", "'n': the place of its bytes is no offset and length"),
    CORRUPT("Vn\nVindex", "Voffset\n", "Voffset\nV1\nVother\n", "'n': the place of its bytes is no offset and length"),
    CORRUPT("Vn\nVindex", "Voffset\n", "Voffset\nI0\nVother\n", "'m.w' and 'n' lie over the same bytes of b.distcp"),
    CORRUPT("uVstorage_data", "Vfqn\nVn\n", "Vfqn\nVo\n", "'n': it is not in storage_data"),
    WRONG("Vn\nVindex", "_StorageInfo", "_Remote", CKPT_E_UNSUPPORTED, "'n' is kept by a storage other than files"),
    WRONG("Vn\nVindex", "Vlength\n", "Vtransform_descriptors\n](VStreamTransformExtension\neVlength\n",
          CKPT_E_UNSUPPORTED, "'n' went through the transform 'StreamTransformExtension', which cannot be undone here"),
};

static void check_refused(const char *dir, const change *c) {
  ckpt_error err = {0};
  ckpt_status st = refused(&err, dir);
  assert_string_equal(err.message, c->message);
  assert_int_equal(st, c->status);
}

static void metadata_with_something_wrong(void **state) {
  layout l;
  write_files(&l, *state);
  for (size_t i = 0; i < CKPT_COUNTOF(wrong); i++) {
    write_metadata(*state, &l, wrong[i].after, wrong[i].from, wrong[i].to);
    check_refused(*state, &wrong[i]);
  }
}

static void too_many_dimensions(void **state) {
  layout l;
  char dims[300] = "";
  ckpt_error err = {0};
  for (int i = 0; i < 65; i++) strcat(dims, "I1\n");
  write_files(&l, *state);
  write_metadata(*state, &l, NULL, "I4\nI6\n", dims);
  assert_int_equal(refused(&err, *state), CKPT_E_LIMIT);
  assert_string_equal(err.message, ".metadata: 'm.w' has 65 dimensions; at most 64 are supported");
}

static void metadata_that_is_no_pickle(void **state) {
  static const change pickles[] = {
      {NULL, NULL, "", NULL, CKPT_E_CORRUPT, ".metadata+0x0: the pickle ends without STOP"},
      {NULL, NULL, "N.", NULL, CKPT_E_FORMAT,
       ".metadata: not a torch.distributed.checkpoint: its pickle holds no Metadata"},
      {NULL, NULL,
       "ctorch._utils\n_rebuild_tensor_v2\n(("
       "Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI1\ntQI0\nI1\n\x85I1\n\x85\x89NtR.",
       NULL, CKPT_E_CORRUPT, ".metadata+0x4c: a tensor among the metadata"},
  };
  for (size_t i = 0; i < CKPT_COUNTOF(pickles); i++) {
    spill(in(*state, ".metadata"), pickles[i].to, strlen(pickles[i].to));
    check_refused(*state, &pickles[i]);
  }
}

/* ---- files that are wrong ---- */

/* The message with %zu for the numbers of the layout. */
static void check_message(const char *dir, ckpt_status status, const char *format, size_t a, size_t b, size_t c) {
  char want[512];
  ckpt_error err = {0};
  assert_int_equal(refused(&err, dir), status);
  snprintf(want, sizeof want, format, a, b, c);
  assert_string_equal(err.message, want);
}

static void files_with_something_wrong(void **state) {
  layout l;
  size_t n = 0;
  char b[PATH_MAX];
  write_directory(&l, *state);
  snprintf(b, sizeof b, "%s", in(*state, "b.distcp"));
  unsigned char *bytes = slurp(&n, b);
  spill(b, bytes, n - 1);
  check_message(*state, CKPT_E_CORRUPT,
                "b.distcp holds %zu bytes; 'n' is said to lie in the %zu bytes from byte %zu on", n - 1, l.sizes[4],
                l.offsets[4]);
  bytes[l.offsets[3]] = 'Q';
  spill(b, bytes, n);
  ckpt_error err = {0};
  assert_int_equal(refused(&err, *state), CKPT_E_FORMAT);
  char want[64];
  snprintf(want, sizeof want, "b.distcp+0x%zx, 'm.v': ", l.offsets[3]);
  assert_int_equal(strncmp(err.message, want, strlen(want)), 0);
  free(bytes);
  unlink(b);
  check_message(*state, CKPT_E_CORRUPT, "the file 'b.distcp', which .metadata names, is missing", 0, 0, 0);
  assert_int_equal(mkdir(b, 0700), 0);
  check_message(*state, CKPT_E_FORMAT, "b.distcp: a directory, not a checkpoint file", 0, 0, 0);
  rmdir(b);
}

static void items_of_another_kind(void **state) {
  layout l;
  ckpt_tensor *t = NULL;
  write_directory(&l, *state);
  unlink(in(*state, "b.distcp"));
  append_tensor(&l, 2, *state, "b.distcp", part(2, 4, 2, 2));
  append_dict(&l, 3, *state, "b.distcp");
  append_dict(&l, 4, *state, "b.distcp");
  write_metadata(*state, &l, NULL, NULL, NULL);
  check_message(*state, CKPT_E_CORRUPT, "b.distcp+0x%zx, 'm.v': a dict where the bytes of a tensor should be",
                l.offsets[3], 0, 0);
  append_tensor(&l, 3, *state, "b.distcp", part(0, 0, 1, 3));
  write_metadata(*state, &l, NULL, NULL, NULL);
  check_message(*state, CKPT_E_CORRUPT, "b.distcp+0x%zx, 'm.v': a tensor of float32, .metadata says int64",
                l.offsets[3], 0, 0);
  assert_int_equal(ckpt_tensor_new(&t, CKPT_I64, 1, DIMS(4), NULL), CKPT_OK);
  append_tensor(&l, 3, *state, "b.distcp", t);
  write_metadata(*state, &l, NULL, NULL, NULL);
  check_message(*state, CKPT_E_CORRUPT, "b.distcp+0x%zx, 'm.v': the chunk's sizes are not those that .metadata says",
                l.offsets[3], 0, 0);
  assert_int_equal(ckpt_tensor_meta(&t, CKPT_I64, 1, DIMS(3), NULL), CKPT_OK);
  append_tensor(&l, 3, *state, "b.distcp", t);
  write_metadata(*state, &l, NULL, NULL, NULL);
  check_message(*state, CKPT_E_CORRUPT,
                "b.distcp+0x%zx, 'm.v': a tensor without bytes where the bytes of a tensor should be", l.offsets[3], 0,
                0);
}

/* A chunk of the wrong size among several, too. */
static void a_part_of_another_size(void **state) {
  layout l;
  write_directory(&l, *state);
  append_tensor(&l, 1, *state, "a.distcp", part(2, 0, 2, 5));
  write_metadata(*state, &l, NULL, NULL, NULL);
  check_message(*state, CKPT_E_CORRUPT, "a.distcp+0x%zx, 'm.w': the chunk's sizes are not those that .metadata says",
                l.offsets[1], 0, 0);
}

/* Bytes that do not fit their checksum are found by verify, not by opening. */
static void checksums(void **state) {
  layout l;
  size_t n = 0;
  write_directory(&l, *state);
  unsigned char *bytes = slurp(&n, in(*state, "b.distcp"));
  unsigned char *ten = memmem(bytes + l.offsets[3], l.sizes[3], "\x0a\0\0\0\0\0\0\0\x14", 9);
  assert_non_null(ten);
  *ten = 11;
  spill(in(*state, "b.distcp"), bytes, n);
  free(bytes);
  ckpt_checkpoint *cp = opened(*state);
  ckpt_error err = {0};
  assert_int_equal(ckpt_checkpoint_verify(cp, &err), CKPT_E_CORRUPT);
  ckpt_checkpoint_close(cp);
  char want[64];
  snprintf(want, sizeof want, "b.distcp+0x%zx, 'm.v': ", l.offsets[3]);
  assert_int_equal(strncmp(err.message, want, strlen(want)), 0);
  cp = NULL;
  assert_int_equal(ckpt_checkpoint_open(&cp, *state, &(ckpt_open_options){.verify = true}, &err), CKPT_E_CORRUPT);
  assert_null(cp);
}

/* ---- chunks by themselves ---- */

/* A cube of n x n x n chunks of one element. */
static ckpt_dcp_chunk *cube(int64_t n, int64_t *numbers) {
  static const int64_t ones[] = {1, 1, 1};
  ckpt_dcp_chunk *chunks = calloc((size_t)(n * n * n), sizeof *chunks);
  for (int64_t i = 0; i < n * n * n; i++, numbers += 3) {
    numbers[0] = i / n / n;
    numbers[1] = i / n % n;
    numbers[2] = i % n;
    chunks[i] = (ckpt_dcp_chunk){numbers, ones, NULL};
  }
  return chunks;
}

static void many_chunks(void **state) {
  (void)state;
  const int64_t sides[] = {8, 30};
  for (int i = 0; i < 2; i++) {
    int64_t n = sides[i], shape[] = {n, n, n}, *numbers = calloc((size_t)(3 * n * n * n), sizeof *numbers);
    ckpt_dcp_chunk *chunks = cube(n, numbers);
    ckpt_dcp_entry e = {.dtype = CKPT_U8, .ndim = 3, .shape = shape, .n_chunks = (size_t)(n * n * n), .chunks = chunks};
    ckpt_error err = {0};
    assert_int_equal(ckpt_dcp_check_chunks(&e, &err), i == 0 ? CKPT_OK : CKPT_E_LIMIT);
    if (i == 1) assert_string_equal(err.message, "27000 chunks lie in too many places to be checked");
    free(chunks);
    free(numbers);
  }
}

static void quantised_chunks(void **state) {
  (void)state;
  ckpt_dcp_chunk chunks[] = {{DIMS(0), DIMS(1), NULL}, {DIMS(1), DIMS(1), NULL}};
  ckpt_dcp_entry e = {.dtype = CKPT_QI8, .ndim = 1, .shape = DIMS(2), .n_chunks = 2, .chunks = chunks};
  ckpt_tensor *parts[2] = {NULL, NULL}, *t = NULL;
  ckpt_error err = {0};
  assert_int_equal(ckpt_dcp_check_chunks(&e, NULL), CKPT_OK);
  assert_int_equal(ckpt_dcp_join(&t, &e, parts, &err), CKPT_E_UNSUPPORTED);
  assert_string_equal(err.message, "a qint8 tensor in chunks: each has a scale of its own");
}

/* A chunk that repeats one byte 2^40 times is refused before anything that large is made. */
static void chunks_that_are_spread(void **state) {
  (void)state;
  const int64_t half = INT64_C(1) << 40;
  ckpt_dcp_chunk chunks[] = {{DIMS(0), &half, NULL}, {&half, &half, NULL}};
  const int64_t size = 2 * half;
  ckpt_dcp_entry e = {.dtype = CKPT_U8, .ndim = 1, .shape = &size, .n_chunks = 2, .chunks = chunks};
  ckpt_tensor *one = NULL, *spread = NULL, *t = NULL;
  assert_int_equal(ckpt_tensor_new(&one, CKPT_U8, 1, DIMS(1), NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_view(&spread, one, 0, 1, &half, DIMS(0), NULL), CKPT_OK);
  ckpt_tensor *parts[2] = {spread, spread};
  assert_int_equal(ckpt_dcp_check_chunks(&e, NULL), CKPT_OK);
  assert_int_equal(ckpt_dcp_join(&t, &e, parts, NULL), CKPT_E_LIMIT);
  ckpt_tensor_release(one);
  ckpt_tensor_release(spread);
}

/* Names with a NUL cannot come from .metadata; keys inside a path may have one. */
static void keys_with_a_nul(void **state) {
  (void)state;
  ckpt_dcp_nest nest = {0};
  ckpt_value *path = NULL, *key = NULL;
  ckpt_document_new(&nest.doc, NULL);
  ckpt_value_new_dict(&nest.root, nest.doc, false, NULL);
  ckpt_value_new_tuple(&path, nest.doc, NULL);
  ckpt_value_new_str(&key, nest.doc, "a\0b", 3, NULL);
  ckpt_value_append(path, nest.doc, key, NULL);
  assert_int_equal(ckpt_dcp_nest_put(&nest, "x", path, ckpt_document_none(nest.doc), NULL), CKPT_OK);
  size_t n = 0;
  ckpt_value_text(ckpt_value_pair_key(nest.root, 0), &n);
  assert_int_equal(n, 3);
  ckpt_document_release(nest.doc);
}

/* ---- bad input ---- */

static void look_if_it_opens(const char *path) {
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  if (ckpt_checkpoint_open(&cp, path, NULL, &err) == CKPT_OK) look_at_all(cp);
  ckpt_checkpoint_close(cp);
}

static void change_each_byte(const char *dir, const char *file, int changes) {
  char path[PATH_MAX];
  size_t n = 0;
  snprintf(path, sizeof path, "%s", in(dir, file));
  unsigned char *bytes = slurp(&n, path);
  for (size_t i = 0; i < n; i++)
    for (int k = 0; k < changes; k++) {
      unsigned char flip = (unsigned char)(1 + (i + (size_t)k * 97) % 255);
      bytes[i] ^= flip;
      spill(path, bytes, n);
      bytes[i] ^= flip;
      look_if_it_opens(dir);
    }
  spill(path, bytes, n);
  free(bytes);
}

static void changed_at_every_byte(void **state) {
  layout l;
  write_directory(&l, *state);
  change_each_byte(*state, ".metadata", 2);
  change_each_byte(*state, "a.distcp", 1);
}

static void cut_each_length(const char *dir, const char *file) {
  char path[PATH_MAX];
  size_t n = 0;
  snprintf(path, sizeof path, "%s", in(dir, file));
  unsigned char *bytes = slurp(&n, path);
  for (size_t i = 0; i < n; i++) {
    ckpt_error err = {0};
    spill(path, bytes, i);
    assert_int_not_equal(refused(&err, dir), CKPT_OK);
  }
  spill(path, bytes, n);
  free(bytes);
}

static void cut_at_every_length(void **state) {
  layout l;
  write_directory(&l, *state);
  cut_each_length(*state, ".metadata");
  cut_each_length(*state, "b.distcp");
}

static void when_memory_runs_out(void **state) {
  layout l;
  write_directory(&l, *state);
  assert_in_range(open_without_memory(*state), 10, 100000);
}

/* ---- PyTorch's own ---- */

static void check_against_pytorch(const char *dir) {
  char path[PATH_MAX + 8], *ours = NULL, *theirs = NULL;
  size_t n = 0;
  snprintf(path, sizeof path, "%s.pth", dir);
  ckpt_checkpoint *a = opened(dir), *b = opened(path);
  assert_int_equal(ckpt_repr(&ours, &n, ckpt_checkpoint_root(a), 8192, NULL), CKPT_OK);
  assert_int_equal(ckpt_repr(&theirs, &n, ckpt_checkpoint_root(b), 8192, NULL), CKPT_OK);
  assert_string_equal(ours, theirs);
  assert_true(same_listing(ckpt_checkpoint_root(a), ckpt_checkpoint_root(b)));
  assert_int_equal(ckpt_checkpoint_verify(a, NULL), CKPT_OK);
  free(ours);
  free(theirs);
  ckpt_checkpoint_close(a);
  ckpt_checkpoint_close(b);
}

/* tests/data/make_dcp.py: each directory beside what dcp_to_torch_save makes of it. */
static void as_pytorch_reads_it(void **state) {
  (void)state;
  const char *top = getenv("CKPT_TOP"), *names[] = {"plain", "nested", "sharded"};
  char dir[PATH_MAX];
  for (size_t i = 0; i < CKPT_COUNTOF(names); i++) {
    snprintf(dir, sizeof dir, "%s/tests/data/dcp/%s", top == NULL ? "." : top, names[i]);
    check_against_pytorch(dir);
  }
}

static void a_shared_one(void **state) {
  (void)state;
  const char *shared = getenv("CKPT_SHARED");
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/data/torch/dcp", shared == NULL ? "../shared" : shared);
  if (access(path, R_OK) != 0) skip();
  ckpt_checkpoint *cp = opened(path);
  check_repr(ckpt_checkpoint_root(cp), "{'model': {'w': <tensor>}, 'step': 5}");
  ckpt_checkpoint_close(cp);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      IN_DIRECTORY(as_the_dict_that_was_saved),
      IN_DIRECTORY(by_its_metadata_file),
      IN_DIRECTORY(tensors_outlive_it),
      IN_DIRECTORY(a_directory_of_another_kind),
      IN_DIRECTORY(other_words_for_it),
      IN_DIRECTORY(parameters_require_grad),
      IN_DIRECTORY(metadata_with_something_wrong),
      IN_DIRECTORY(too_many_dimensions),
      IN_DIRECTORY(metadata_that_is_no_pickle),
      IN_DIRECTORY(files_with_something_wrong),
      IN_DIRECTORY(items_of_another_kind),
      IN_DIRECTORY(a_part_of_another_size),
      IN_DIRECTORY(checksums),
      cmocka_unit_test(many_chunks),
      cmocka_unit_test(quantised_chunks),
      cmocka_unit_test(chunks_that_are_spread),
      cmocka_unit_test(keys_with_a_nul),
      IN_DIRECTORY(changed_at_every_byte),
      IN_DIRECTORY(cut_at_every_length),
      IN_DIRECTORY(when_memory_runs_out),
      cmocka_unit_test(as_pytorch_reads_it),
      cmocka_unit_test(a_shared_one),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
