/*
 * test_pth.c - PyTorch's zip format as a whole: written, read back, changed at every byte and cut at every length;
 * archives that libzip makes with a record wrong, missing or strange; pickles whose tensors do not fit.
 */
#include <dirent.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <zip.h>

#include "checkpoint.h"
#include "pickle_read.h"
#include "pth.h"

#define P(literal) (literal), sizeof(literal) - 1
#define DIMS(...) ((const int64_t[]){__VA_ARGS__})

/* ---- files ---- */

static int set_up(void **state) {
  const char *base = getenv("TMPDIR");
  char *path = malloc(PATH_MAX);
  snprintf(path, PATH_MAX, "%s/ckpt-pth-XXXXXX", base == NULL ? "/tmp" : base);
  *state = mkdtemp(path);
  return *state == NULL;
}

static int tear_down(void **state) {
  char child[PATH_MAX + 300];
  DIR *d = opendir(*state);
  for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
    snprintf(child, sizeof child, "%s/%s", (char *)*state, e->d_name);
    if (e->d_name[0] != '.' || strlen(e->d_name) > 2) unlink(child);
  }
  closedir(d);
  int failed = rmdir(*state);
  free(*state);
  return failed;
}

static const char *in(const char *dir, const char *name) {
  static char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  return path;
}

static unsigned char *slurp(size_t *n, const char *path) {
  struct stat st;
  FILE *f = fopen(path, "rb");
  assert_non_null(f);
  assert_int_equal(fstat(fileno(f), &st), 0);
  unsigned char *bytes = malloc((size_t)st.st_size + 1);
  *n = fread(bytes, 1, (size_t)st.st_size, f);
  assert_int_equal(*n, st.st_size);
  fclose(f);
  return bytes;
}

static void spill(const char *path, const void *bytes, size_t n) {
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(bytes, 1, n, f), n);
  assert_int_equal(fclose(f), 0);
}

/* ---- a document with something of everything ---- */

static void set(ckpt_value *dict, ckpt_document *doc, const char *key, ckpt_value *item) {
  assert_int_equal(ckpt_value_set(dict, doc, key, item, NULL), CKPT_OK);
}

static ckpt_value *tensor_value(ckpt_document *doc, ckpt_tensor *t) {
  ckpt_value *v = NULL;
  assert_int_equal(ckpt_value_new_tensor(&v, doc, t, NULL), CKPT_OK);
  ckpt_tensor_release(t);
  return v;
}

/* Contents that differ from dtype to dtype and from byte to byte. */
static ckpt_tensor *filled(ckpt_dtype dtype, int ndim, const int64_t *shape) {
  ckpt_tensor *t = NULL;
  unsigned char *data = NULL;
  assert_int_equal(ckpt_tensor_new(&t, dtype, ndim, shape, NULL), CKPT_OK);
  assert_int_equal(ckpt_storage_data(&data, ckpt_tensor_storage(t), NULL), CKPT_OK);
  for (size_t i = 0; i < ckpt_tensor_nbytes(t); i++) data[i] = (unsigned char)(dtype == CKPT_BOOL ? 1 : i * 7 + dtype);
  return t;
}

static ckpt_tensor *view(const ckpt_tensor *base, int64_t offset, int ndim, const int64_t *shape,
                         const int64_t *stride) {
  ckpt_tensor *t = NULL;
  assert_int_equal(ckpt_tensor_view(&t, base, offset, ndim, shape, stride, NULL), CKPT_OK);
  return t;
}

static ckpt_document *small_document(void) {
  ckpt_document *doc = NULL;
  ckpt_value *root = NULL, *text = NULL;
  ckpt_tensor *w = filled(CKPT_F32, 2, DIMS(2, 3));
  assert_int_equal(ckpt_document_new(&doc, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_dict(&root, doc, true, NULL), CKPT_OK);
  ckpt_document_set_root(doc, root);
  assert_int_equal(ckpt_value_new_str(&text, doc, "resnet", 6, NULL), CKPT_OK);
  set(root, doc, "arch", text);
  set(root, doc, "row", tensor_value(doc, view(w, 3, 1, DIMS(3), DIMS(1))));
  set(root, doc, "turned", tensor_value(doc, view(w, 0, 2, DIMS(3, 2), DIMS(1, 3))));
  set(root, doc, "w", tensor_value(doc, w));
  set(root, doc, "step", tensor_value(doc, filled(CKPT_I64, 0, NULL)));
  return doc;
}

static ckpt_document *full_document(void) {
  ckpt_document *doc = small_document();
  ckpt_value *root = ckpt_document_root(doc);
  for (int i = 0; i < CKPT_DTYPE_COUNT; i++) {
    if (ckpt_dtype_rebuild((ckpt_dtype)i) == CKPT_REBUILD_Q) continue;
    set(root, doc, ckpt_dtype_name((ckpt_dtype)i), tensor_value(doc, filled((ckpt_dtype)i, 2, DIMS(3, 5))));
  }
  set(root, doc, "empty", tensor_value(doc, filled(CKPT_F32, 2, DIMS(0, 5))));
  ckpt_tensor *meta = NULL;
  assert_int_equal(ckpt_tensor_meta(&meta, CKPT_F64, 1, DIMS(1000000), NULL), CKPT_OK);
  set(root, doc, "meta", tensor_value(doc, meta));
  return doc;
}

static void assert_same_tensor(const ckpt_tensor *a, const ckpt_tensor *b) {
  size_t bytes = (size_t)ckpt_tensor_ndim(a) * sizeof(int64_t);
  char x[65] = "", y[65] = "";
  assert_int_equal(ckpt_tensor_dtype(a), ckpt_tensor_dtype(b));
  assert_int_equal(ckpt_tensor_ndim(a), ckpt_tensor_ndim(b));
  assert_memory_equal(ckpt_tensor_shape(a), ckpt_tensor_shape(b), bytes);
  assert_memory_equal(ckpt_tensor_stride(a), ckpt_tensor_stride(b), bytes);
  assert_int_equal(ckpt_tensor_offset(a), ckpt_tensor_offset(b));
  assert_int_equal(ckpt_tensor_requires_grad(a), ckpt_tensor_requires_grad(b));
  assert_int_equal(ckpt_tensor_is_meta(a), ckpt_tensor_is_meta(b));
  if (ckpt_tensor_is_meta(a)) return;
  assert_int_equal(ckpt_tensor_sha256(x, a, NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_sha256(y, b, NULL), CKPT_OK);
  assert_string_equal(x, y);
}

static void assert_same_dict(const ckpt_value *a, const ckpt_value *b) {
  assert_int_equal(ckpt_value_pair_count(a), ckpt_value_pair_count(b));
  assert_int_equal(ckpt_value_is_ordered(a), ckpt_value_is_ordered(b));
  for (size_t i = 0; i < ckpt_value_pair_count(a); i++) {
    const ckpt_value *x = ckpt_value_pair_value(a, i), *y = ckpt_value_pair_value(b, i);
    assert_string_equal(ckpt_value_text(ckpt_value_pair_key(a, i), NULL),
                        ckpt_value_text(ckpt_value_pair_key(b, i), NULL));
    assert_int_equal(ckpt_value_kind(x), ckpt_value_kind(y));
    if (ckpt_value_tensor(x) != NULL) assert_same_tensor(ckpt_value_tensor(x), ckpt_value_tensor(y));
  }
}

static ckpt_checkpoint *opened(const char *path) {
  static const ckpt_open_options verify = {.verify = true};
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  if (ckpt_checkpoint_open(&cp, path, &verify, &err) != CKPT_OK) fail_msg("%s", err.message);
  return cp;
}

/* ---- round trip ---- */

static void what_is_written_is_read(void **state) {
  ckpt_document *doc = full_document();
  ckpt_error err = {0};
  if (ckpt_save_file(in(*state, "model.pth"), ckpt_document_root(doc), &err) != CKPT_OK) fail_msg("%s", err.message);
  ckpt_checkpoint *cp = opened(in(*state, "model.pth"));
  const ckpt_value *root = ckpt_checkpoint_root(cp);
  assert_same_dict(ckpt_document_root(doc), root);
  assert_string_equal(ckpt_checkpoint_format(cp), "torch-zip");
  assert_true(ckpt_tensor_shares_storage(ckpt_value_tensor(ckpt_value_get(root, "w")),
                                         ckpt_value_tensor(ckpt_value_get(root, "turned"))));
  ckpt_document_release(doc);
  ckpt_checkpoint_close(cp);
  ckpt_checkpoint_close(NULL);
}

static void what_is_read_is_written_alike(void **state) {
  ckpt_document *doc = full_document();
  size_t n = 0, m = 0;
  assert_int_equal(ckpt_save_file(in(*state, "model.pth"), ckpt_document_root(doc), NULL), CKPT_OK);
  unsigned char *first = slurp(&n, in(*state, "model.pth"));
  ckpt_checkpoint *cp = opened(in(*state, "model.pth"));
  assert_int_equal(ckpt_checkpoint_bytes(cp), n);
  assert_int_equal(ckpt_save_file(in(*state, "model.pth"), ckpt_checkpoint_root(cp), NULL), CKPT_OK); /* over itself */
  unsigned char *second = slurp(&m, in(*state, "model.pth"));
  assert_int_equal(n, m);
  assert_memory_equal(first, second, n);
  free(first);
  free(second);
  ckpt_checkpoint_close(cp);
  ckpt_document_release(doc);
}

static void tensors_outlive_their_checkpoint(void **state) {
  ckpt_document *doc = small_document();
  assert_int_equal(ckpt_save_file(in(*state, "model.pth"), ckpt_document_root(doc), NULL), CKPT_OK);
  ckpt_checkpoint *cp = opened(in(*state, "model.pth"));
  ckpt_tensor *w = ckpt_tensor_retain(ckpt_value_tensor(ckpt_value_get(ckpt_checkpoint_root(cp), "w")));
  ckpt_checkpoint_close(cp);
  unlink(in(*state, "model.pth"));
  assert_same_tensor(w, ckpt_value_tensor(ckpt_value_get(ckpt_document_root(doc), "w")));
  assert_int_equal(ckpt_tensor_heap_bytes(w), 0);
  assert_int_equal(ckpt_tensor_copy(w, ckpt_value_tensor(ckpt_value_get(ckpt_document_root(doc), "w")), NULL),
                   CKPT_E_ARGUMENT); /* a file is read-only */
  ckpt_tensor_release(w);
  ckpt_document_release(doc);
}

static void the_size_is_known_before(void **state) {
  ckpt_document *doc = full_document();
  ckpt_pickle p = {0};
  assert_int_equal(ckpt_pickle_write(&p, ckpt_document_root(doc), NULL), CKPT_OK);
  assert_int_equal(ckpt_save_file(in(*state, "m.pth"), ckpt_document_root(doc), NULL), CKPT_OK);
  ckpt_checkpoint *cp = opened(in(*state, "m.pth"));
  uint64_t size = 0;
  assert_int_equal(ckpt_pth_measure(&size, &p, "m", NULL), CKPT_OK);
  assert_int_equal(size, ckpt_checkpoint_bytes(cp));
  ckpt_checkpoint_close(cp);
  ckpt_pickle_free(&p);
  ckpt_document_release(doc);
}

/* ---- saving that fails ---- */

static void a_failed_save_leaves_the_old_file(void **state) {
  static const char bad[] =
      "}X\5\0\0\0model}X\3\0\0\0"
      "badK\1Qss.";
  ckpt_document *doc = NULL;
  ckpt_value *root = NULL;
  ckpt_error err = {0};
  size_t n = 0;
  spill(in(*state, "model.pth"), "old", 3);
  assert_int_equal(ckpt_document_new(&doc, NULL), CKPT_OK);
  assert_int_equal(ckpt_pickle_read(&root, NULL, doc, (const unsigned char *)bad, sizeof bad - 1, "x", NULL, NULL),
                   CKPT_OK);
  ckpt_status st = ckpt_save_file(in(*state, "model.pth"), root, &err);
  ckpt_document_release(doc);
  unsigned char *bytes = slurp(&n, in(*state, "model.pth"));
  bool kept = n == 3 && memcmp(bytes, "old", 3) == 0;
  free(bytes);
  assert_true(kept);
  assert_int_equal(st, CKPT_E_UNSUPPORTED);
  assert_non_null(strstr(err.message, "a persistent id of something that the file does not hold"));
}

/* ckpt.h: "CKPT_E_UNSUPPORTED names the path of a value that the format cannot hold." */
static void what_cannot_be_saved_is_named(void **state) {
  ckpt_document *doc = NULL;
  ckpt_value *root = NULL, *model = NULL, *bad = NULL;
  ckpt_tensor *t = NULL;
  ckpt_error err = {0};
  assert_int_equal(ckpt_document_new(&doc, NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_new(&t, CKPT_QU8, 1, (int64_t[]){2}, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_tensor(&bad, doc, t, NULL), CKPT_OK);
  ckpt_tensor_release(t);
  assert_int_equal(ckpt_value_new_dict(&root, doc, false, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_dict(&model, doc, false, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_set(root, doc, "model", model, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_set(model, doc, "bad", bad, NULL), CKPT_OK);
  assert_int_equal(ckpt_save_file(in(*state, "model.pth"), root, &err), CKPT_E_UNSUPPORTED);
  ckpt_document_release(doc);
  if (strstr(err.message, "model.bad") == NULL) fail_msg("no path in: %s", err.message);
}

typedef struct prefix_case {
  const char *path, *prefix; /* NULL: refused */
} prefix_case;

static void names_of_the_folder_inside(void **state) {
  (void)state;
  static const prefix_case cases[] = {{"my.model.v1.pth", "my.model.v1"},
                                      {"/a.b/x.pth.tar", "x.pth"},
                                      {"noext", "noext"},
                                      {"a\\b.pt", "b"},
                                      {"mod\xc3\xa8le.pth", "archive"},
                                      {"d\xc3\xa9/m.pth", "archive"},
                                      {".hidden", NULL},
                                      {"dir/", NULL},
                                      {"", NULL}};
  for (size_t i = 0; i < CKPT_COUNTOF(cases); i++) {
    char prefix[64] = "untouched";
    ckpt_error err = {0};
    ckpt_status st = ckpt_pth_prefix(prefix, sizeof prefix, cases[i].path, &err);
    assert_int_equal(st, cases[i].prefix == NULL ? CKPT_E_ARGUMENT : CKPT_OK);
    assert_string_equal(prefix, cases[i].prefix == NULL ? "untouched" : cases[i].prefix);
    assert_int_equal(strstr(err.message, "gives the archive inside no name") != NULL, cases[i].prefix == NULL);
  }
  char four[4];
  assert_int_equal(ckpt_pth_prefix(four, 4, "abc.pth", NULL), CKPT_OK);
  assert_int_equal(ckpt_pth_prefix(four, 4, "abcd.pth", NULL), CKPT_E_ARGUMENT);
}

static void places_that_cannot_be_saved_to(void **state) {
  ckpt_document *doc = small_document();
  ckpt_value *root = ckpt_document_root(doc);
  assert_int_equal(ckpt_save_file(in(*state, "none/model.pth"), root, NULL), CKPT_E_NOTFOUND);
  assert_int_equal(ckpt_save_file(in(*state, ".pth"), root, NULL), CKPT_E_ARGUMENT);
  assert_int_equal(ckpt_save_file(in(*state, ""), root, NULL), CKPT_E_ARGUMENT);
  ckpt_document_release(doc);
}

/* ---- changed and cut ---- */

/* In memory of exactly that size, so that the sanitizer sees a read past the end. */
static ckpt_status open_bytes(ckpt_checkpoint **out, ckpt_mapping **map, const unsigned char *bytes, size_t n,
                              bool verify, ckpt_error *err) {
  ckpt_open_options options = {.verify = verify};
  assert_int_equal(ckpt_mapping_memory(map, bytes, n, NULL), CKPT_OK);
  ckpt_status st = ckpt_checkpoint_open_mapping(out, *map, "m.pth", &options, err);
  assert_int_equal(st, err->status);
  if (st != CKPT_OK) assert_int_equal(strncmp(err->message, "m.pth: ", 7), 0);
  return st;
}

/* Digest of the pickle that would be written and of all tensors: equal if the values are. */
static void fingerprint(char out[20 * 65], const ckpt_checkpoint *cp) {
  ckpt_pickle p = {0};
  const ckpt_value *root = ckpt_checkpoint_root(cp);
  size_t at = 0;
  memset(out, 0, 20 * 65);
  if (ckpt_pickle_write(&p, root, NULL) == CKPT_OK) {
    ckpt_tensor *t = NULL;
    assert_int_equal(ckpt_tensor_borrow(&t, CKPT_U8, p.bytes, 1, DIMS((int64_t)p.n), NULL), CKPT_OK);
    assert_int_equal(ckpt_tensor_sha256(out, t, NULL), CKPT_OK);
    ckpt_tensor_release(t);
  }
  ckpt_pickle_free(&p);
  for (size_t i = 0; i < ckpt_value_pair_count(root) && at < 18; i++) {
    const ckpt_tensor *t = ckpt_value_tensor(ckpt_value_pair_value(root, i));
    if (t != NULL) ckpt_tensor_sha256(out + 65 * ++at, t, NULL);
  }
}

typedef struct tally {
  int refused, same;
} tally;

static void try_changed(tally *counts, unsigned char *bytes, size_t n, const char *wanted, size_t at) {
  for (int verify = 0; verify < 2; verify++) {
    ckpt_checkpoint *cp = NULL;
    ckpt_mapping *map = NULL;
    ckpt_error err = {0};
    char got[20 * 65];
    if (open_bytes(&cp, &map, bytes, n, verify, &err) == CKPT_OK) {
      fingerprint(got, cp);
      if (verify && memcmp(got, wanted, sizeof got) != 0)
        fail_msg("byte %zu changed to %02x goes unnoticed", at, bytes[at]);
      counts->same += verify;
    } else {
      counts->refused += verify;
    }
    ckpt_checkpoint_close(cp);
    ckpt_mapping_release(map);
  }
}

static unsigned char *small_file(size_t *n, char *print, const char *dir) {
  ckpt_document *doc = small_document();
  assert_int_equal(ckpt_save_file(in(dir, "model.pth"), ckpt_document_root(doc), NULL), CKPT_OK);
  ckpt_document_release(doc);
  ckpt_checkpoint *cp = opened(in(dir, "model.pth"));
  fingerprint(print, cp);
  ckpt_checkpoint_close(cp);
  return slurp(n, in(dir, "model.pth"));
}

/* Either the open or its verification reports the change, or it changes no value (padding, time stamps). */
static void changed_at_every_byte(void **state) {
  static const unsigned char changes[] = {0x01, 0x80, 0xff};
  char wanted[20 * 65];
  size_t n = 0;
  tally counts = {0, 0};
  unsigned char *file = small_file(&n, wanted, *state), *bytes = malloc(n);
  for (size_t at = 0; at < n; at++)
    for (size_t k = 0; k < sizeof changes; k++) {
      memcpy(bytes, file, n);
      bytes[at] ^= changes[k];
      try_changed(&counts, bytes, n, wanted, at);
    }
  print_message("%zu bytes: %d changes refused, %d without effect\n", n, counts.refused, counts.same);
  assert_true(counts.refused > 3 * 1000);
  free(file);
  free(bytes);
}

static void cut_at_every_length(void **state) {
  char print[20 * 65];
  size_t whole = 0;
  unsigned char *file = small_file(&whole, print, *state);
  for (size_t n = 0; n < whole; n++) {
    ckpt_checkpoint *cp = NULL;
    ckpt_mapping *map = NULL;
    ckpt_error err = {0};
    unsigned char *bytes = malloc(n);
    if (n > 0) memcpy(bytes, file, n);
    ckpt_status st = open_bytes(&cp, &map, bytes, n, false, &err);
    assert_int_equal(st, n < 4 ? CKPT_E_FORMAT : CKPT_E_CORRUPT);
    assert_null(cp);
    ckpt_mapping_release(map);
    free(bytes);
  }
  free(file);
}

/* ---- archives by libzip ---- */

typedef struct record {
  const char *name, *data;
  size_t n;
  bool deflate;
} record;

/* {'a': torch.arange(6.).reshape(2, 3)} */
static const char example[] =
    "\x80\2}q\0X\1\0\0\0aq\1ctorch._utils\n_rebuild_tensor_v2\nq\2(("
    "X\7\0\0\0storageq\3ctorch\nFloatStorage\nq\4X\1\0\0\0"
    "0q\5X\3\0\0\0cpuq\6K\6tq\7QK\0K\2K\3\x86q\x08K\3K\1\x86q\x09\x89"
    "ccollections\nOrderedDict\nq\n)Rq\x0btq\x0cRq\rs.";

static const char floats[] = "\0\0\0\0\0\0\x80?\0\0\0@\0\0@@\0\0\x80@\0\0\xa0@";
static const char swapped[] = "\0\0\0\0?\x80\0\0@\0\0\0@@\0\0@\x80\0\0@\xa0\0\0";

#define PICKLE \
  { "a/data.pkl", P(example), false }
#define DATA \
  { "a/data/0", P(floats), false }
#define VERSION \
  { "a/version", P("3\n"), false }

static void build(const char *path, const record *records, size_t n) {
  zip_t *z = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, NULL);
  assert_non_null(z);
  for (size_t i = 0; i < n && records[i].name != NULL; i++) {
    zip_source_t *src = zip_source_buffer(z, records[i].data, records[i].n, 0);
    zip_int64_t at = zip_file_add(z, records[i].name, src, ZIP_FL_ENC_UTF_8);
    assert_true(at >= 0);
    zip_set_file_compression(z, (zip_uint64_t)at, records[i].deflate ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0);
  }
  assert_int_equal(zip_close(z), 0);
}

enum { MAX_RECORDS = 7 };

typedef struct archive_case {
  ckpt_status status;
  const char *message; /* behind "path: "; the format where it opens */
  record records[MAX_RECORDS];
} archive_case;

#define SWAPPED \
  { "a/data/0", P(swapped), false }
#define NO_NUMBER "record 'version' holds no version number"
#define SIZES(n) "data.pkl+0x6d: record 'data/0' holds " n " bytes, its storage needs 24"

static const archive_case archives[] = {
    {CKPT_OK, "torch-zip", {PICKLE, DATA, VERSION}},
    {CKPT_OK, "torch-zip", {VERSION, DATA, PICKLE}},
    {CKPT_OK, "torch-zip", {{"a/data.pkl", P(example), true}, {"a/data/0", P(floats), true}, VERSION}},
    {CKPT_OK, "torch-zip", {PICKLE, DATA, VERSION, {"a/other", P("x"), false}}},
    {CKPT_OK, "torchscript", {PICKLE, DATA, VERSION, {"a/constants.pkl", P("\x80\2)."), false}}},
    {CKPT_E_CORRUPT,
     "record '/data.pkl' (byte 305) can be read in more than one way: its name is empty or absolute",
     {{"/data.pkl", P(example), false}, {"/data/0", P(floats), false}, {"/version", P("3"), false}}},
    {CKPT_OK, "torch-zip", {PICKLE, SWAPPED, VERSION, {"a/byteorder", P("big"), false}}},
    {CKPT_OK, "torch-zip", {PICKLE, DATA, VERSION, {"a/byteorder", P("little"), false}}},
    /* version */
    {CKPT_OK, "torch-zip", {PICKLE, DATA, {"a/version", P("  10 and more"), false}}},
    {CKPT_OK, "torch-zip", {PICKLE, DATA, {"a/version", P("99"), false}, {"a/.data/version", P("6"), false}}},
    {CKPT_E_FORMAT, "record 'a/version' is missing", {PICKLE, DATA}},
    {CKPT_E_CORRUPT, NO_NUMBER, {PICKLE, DATA, {"a/version", P(""), false}}},
    {CKPT_E_CORRUPT, NO_NUMBER, {PICKLE, DATA, {"a/version", P("abc"), false}}},
    {CKPT_E_CORRUPT, NO_NUMBER, {PICKLE, DATA, {"a/version", P("0\n"), false}}},
    {CKPT_E_CORRUPT, NO_NUMBER, {PICKLE, DATA, {"a/version", P("-1"), false}}},
    {CKPT_E_CORRUPT, NO_NUMBER, {PICKLE, DATA, VERSION, {"a/.data/version", P("x"), false}}},
    {CKPT_E_UNSUPPORTED,
     "file format version 11; PyTorch's are 1 to 10",
     {PICKLE, DATA, {"a/version", P("11\n"), false}}},
    {CKPT_E_CORRUPT,
     "record 'version' is longer than it can be",
     {PICKLE, DATA, {"a/version", P("3                                       "), false}}},
    /* byteorder */
    {CKPT_E_CORRUPT,
     "record 'byteorder' must be 'little' or 'big', not 'LITTLE'",
     {PICKLE, DATA, VERSION, {"a/byteorder", P("LITTLE"), false}}},
    {CKPT_E_CORRUPT,
     "record 'byteorder' must be 'little' or 'big', not 'big\n'",
     {PICKLE, DATA, VERSION, {"a/byteorder", P("big\n"), false}}},
    {CKPT_E_CORRUPT,
     "record 'byteorder' must be 'little' or 'big', not ''",
     {PICKLE, DATA, VERSION, {"a/byteorder", P(""), false}}},
    /* folders */
    {CKPT_E_FORMAT,
     "record 'foo.txt' lies outside the folder 'a'",
     {PICKLE, DATA, VERSION, {"foo.txt", P("x"), false}}},
    {CKPT_E_FORMAT, "record 'A/x' lies outside the folder 'a'", {PICKLE, DATA, VERSION, {"A/x", P("x"), false}}},
    {CKPT_E_FORMAT, "record 'ab/x' lies outside the folder 'a'", {PICKLE, DATA, VERSION, {"ab/x", P("x"), false}}},
    {CKPT_E_FORMAT, "a zip archive, but not one of PyTorch's: no folder inside", {{"foo.txt", P("x"), false}, PICKLE}},
    {CKPT_E_FORMAT,
     "record 'a/version' is missing",
     {{"a/b/data.pkl", P(example), false}, {"a/b/version", P("3"), false}}},
    /* records */
    {CKPT_E_FORMAT, "record 'a/data.pkl' is missing", {DATA, VERSION}},
    {CKPT_E_CORRUPT, "data.pkl+0x6d: record 'data/0' of storage '0' is missing", {PICKLE, VERSION}},
    {CKPT_E_CORRUPT,
     "data.pkl+0x6d: record 'data/0' of storage '0' is missing",
     {PICKLE, VERSION, {"a/data/1", P(floats), false}}},
    {CKPT_E_CORRUPT, SIZES("23"), {PICKLE, {"a/data/0", floats, 23, false}, VERSION}},
    {CKPT_E_CORRUPT, SIZES("25"), {PICKLE, {"a/data/0", floats, 25, false}, VERSION}},
    {CKPT_E_CORRUPT, SIZES("0"), {PICKLE, {"a/data/0", floats, 0, false}, VERSION}},
    {CKPT_E_CORRUPT, SIZES("23"), {PICKLE, {"a/data/0", floats, 23, true}, VERSION}},
    /* the pickle */
    {CKPT_E_CORRUPT, "data.pkl+0x0: the pickle ends without STOP", {{"a/data.pkl", P(""), false}, DATA, VERSION}},
    {CKPT_E_CORRUPT, "data.pkl+0x2: 0xff is no pickle opcode", {{"a/data.pkl", P("\x80\2\xff"), true}, DATA, VERSION}},
};

static void check_values(const ckpt_checkpoint *cp) {
  const ckpt_tensor *t = ckpt_value_tensor(ckpt_value_get(ckpt_checkpoint_root(cp), "a"));
  const void *data = NULL;
  assert_non_null(t);
  assert_int_equal(ckpt_tensor_data(&data, t, NULL), CKPT_OK);
  assert_memory_equal(data, floats, 24);
}

static void check_archive(const char *path, const archive_case *c) {
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  build(path, c->records, MAX_RECORDS);
  ckpt_status st = ckpt_checkpoint_open(&cp, path, NULL, &err);
  assert_string_equal(st == CKPT_OK ? ckpt_checkpoint_format(cp) : err.message + strlen(path) + 2, c->message);
  assert_int_equal(st, c->status);
  if (st == CKPT_OK) check_values(cp);
  if (st != CKPT_OK) assert_memory_equal(err.message, path, strlen(path));
  ckpt_checkpoint_close(cp);
}

static void archives_with_something_wrong(void **state) {
  for (size_t i = 0; i < CKPT_COUNTOF(archives); i++) check_archive(in(*state, "a.pth"), &archives[i]);
}

/* ---- pickles with something wrong ---- */

#define STORAGE(cls, numel)       \
  "(X\7\0\0\0storagectorch\n" cls \
  "\nX\1\0\0\0"                   \
  "0X\3\0\0\0"                    \
  "cpu" numel "tQ"
#define FLOATS STORAGE("FloatStorage", "K\6")
#define V2(args) "ctorch._utils\n_rebuild_tensor_v2\n(" args "tR."
#define V3(args) "ctorch._utils\n_rebuild_tensor_v3\n(" args "tR."
#define HOOKS "ccollections\nOrderedDict\n)R"
#define OVER(n, d) \
  "a float32 tensor of " d " dimensions over storage '0': the storage holds 24 bytes, the view needs " n

typedef struct tensor_case {
  const char *pickle;
  size_t n;
  ckpt_status status;
  const char *message; /* behind the position; NULL: opens */
} tensor_case;

static const tensor_case tensors[] = {
    {P(V2(FLOATS "K\0K\2K\3\x86K\3K\1\x86\x89" HOOKS)), CKPT_OK, NULL},
    {P(V2(FLOATS "K\0]K\6a]K\1a\x89N")), CKPT_OK, NULL}, /* lists will do, and no hooks */
    {P("ctorch._utils\n_rebuild_tensor\n(" FLOATS "K\0K\6\x85K\1\x85tR."), CKPT_OK, NULL},
    {P(V3(STORAGE("UntypedStorage", "K\x18") "K\0K\6\x85K\1\x85\x89" HOOKS "ctorch\nfloat32\n")), CKPT_OK, NULL},
    {P(V2(FLOATS "K\0K\7\x85K\1\x85\x89N")), CKPT_E_CORRUPT, OVER("28", "1")},
    {P(V2(FLOATS "K\1K\6\x85K\1\x85\x89N")), CKPT_E_CORRUPT, OVER("28", "1")},
    {P(V2(FLOATS "K\0K\2K\3\x86K\4K\1\x86\x89N")), CKPT_E_CORRUPT, OVER("28", "2")},
    {P(V2(FLOATS "J\xff\xff\xff\xffK\1\x85K\1\x85\x89N")), CKPT_E_CORRUPT,
     "a float32 tensor of 1 dimensions over storage '0': storage offset -1 is negative"},
    {P(V2(FLOATS "K\0J\xff\xff\xff\xff\x85K\1\x85\x89N")), CKPT_E_CORRUPT,
     "a float32 tensor of 1 dimensions over storage '0': size -1 of dimension 0 is negative"},
    {P(V2(FLOATS "K\0K\2K\3\x86K\1\x85\x89N")), CKPT_E_CORRUPT, "a tensor whose size and stride differ in length"},
    {P(V2(FLOATS "\x88K\6\x85K\1\x85\x89N")), CKPT_E_CORRUPT, "a tensor whose storage offset is no integer"},
    {P(V2(FLOATS "K\0K\6K\1\x85\x89N")), CKPT_E_CORRUPT, "a tensor whose size is no tuple"},
    {P(V2(FLOATS "K\0\x88\x85K\1\x85\x89N")), CKPT_E_CORRUPT, "a tensor whose size is no integer"},
    {P(V2(FLOATS "K\0K\6\x85N\x85\x89N")), CKPT_E_CORRUPT, "a tensor whose stride is no integer"},
    {P(V2(FLOATS "K\0K\6\x85K\1\x85K\1N")), CKPT_E_CORRUPT, "a tensor whose requires_grad is no bool"},
    {P(V2(FLOATS "K\0K\6\x85K\1\x85\x89")), CKPT_E_CORRUPT, "_rebuild_tensor_v2 takes 6 or 7 arguments"},
    {P(V2("NK\0K\6\x85K\1\x85\x89N")), CKPT_E_CORRUPT, "a tensor without a storage"},
    {P(V2("K\1\x85QK\0K\6\x85K\1\x85\x89N")), CKPT_E_CORRUPT, "a tensor without a storage"},
    {P(V3(FLOATS "K\0K\6\x85K\1\x85\x89NN")), CKPT_E_CORRUPT, "a tensor whose dtype is no torch dtype"},
    {P(V3(FLOATS "K\0K\6\x85K\1\x85\x89Nctorch\nfloat33\n")), CKPT_E_UNSUPPORTED,
     "'float33' is no dtype; one is float32"},
    {P(V3(FLOATS "K\0K\6\x85K\1\x85\x89Nctorch\nfloat64\n")), CKPT_E_CORRUPT,
     "a float64 tensor of 1 dimensions over storage '0': the storage holds 24 bytes, the view needs 48"},
    {P(V2(STORAGE("FloatStorage", "K\5") "K\0K\5\x85K\1\x85\x89N")), CKPT_E_CORRUPT,
     "record 'data/0' holds 24 bytes, its storage needs 20"},
    {P(V2(STORAGE("FloatStorage", "J\xff\xff\xff\xff") "K\0)"
                                                       ")\x89N")),
     CKPT_E_CORRUPT, "a storage whose number of elements is no count"},
    {P(V2(STORAGE("FloatStorage", "\x8a\x08\0\0\0\0\0\0\0\x40") "K\0)"
                                                                ")\x89N")),
     CKPT_E_CORRUPT, "a storage whose number of elements is no count"},
    {P(V2(STORAGE("FloatTensor", "K\6") "K\0)"
                                        ")\x89N")),
     CKPT_E_CORRUPT, "'torch.FloatTensor' is no storage class"},
    {P("X\7\0\0\0storage\x85Q."), CKPT_E_CORRUPT, "a storage's persistent id with fewer than five parts"},
    {P("(" FLOATS STORAGE("DoubleStorage", "K\6") "t."), CKPT_E_CORRUPT,
     "storage '0' is said to hold 48 bytes here and 24 elsewhere"},
    {P("(X\7\0\0\0storageNX\1\0\0\0"
       "0NK\6tQ."),
     CKPT_E_CORRUPT, "a storage without a class"},
    {P("(X\7\0\0\0storagectorch\nFloatStorage\nNNK\6tQ."), CKPT_E_CORRUPT, "a storage whose key is no short string"},
    {P("ctorch._utils\n_rebuild_parameter\n(NN\x89tR."), CKPT_E_CORRUPT, "a parameter without a tensor"},
    {P("c_codecs\nencode\n(X\2\0\0\0\xc4\x80X\6\0\0\0latin1tR."), CKPT_E_CORRUPT, "bytes that are not Latin-1"},
    {P("c_codecs\nencode\n(X\0\0\0\0X\3\0\0\0hextR."), CKPT_E_CORRUPT,
     "_codecs.encode of anything but a string to latin1"},
    {P("ccollections\nOrderedDict\n(]K\1atR."), CKPT_E_CORRUPT, "an OrderedDict made of what are no pairs"},
};

static void check_tensor(const char *path, const tensor_case *c) {
  const record records[] = {{"a/data.pkl", c->pickle, c->n, false}, DATA, VERSION};
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  build(path, records, 3);
  ckpt_status st = ckpt_checkpoint_open(&cp, path, NULL, &err);
  const char *said = strstr(err.message, "data.pkl+0x"), *colon = said == NULL ? NULL : strchr(said, ':');
  if (c->message == NULL) {
    assert_string_equal(err.message, "");
    assert_int_equal(ckpt_value_kind(ckpt_checkpoint_root(cp)), CKPT_TENSOR);
  } else {
    assert_non_null(colon);
    assert_string_equal(colon + 2, c->message);
    assert_in_range(err.position, 0, c->n - 1);
  }
  assert_int_equal(st, c->status);
  ckpt_checkpoint_close(cp);
}

static void tensors_with_something_wrong(void **state) {
  for (size_t i = 0; i < CKPT_COUNTOF(tensors); i++) check_tensor(in(*state, "a.pth"), &tensors[i]);
}

/* Each of these pickles changed at every byte: no change may make anything read where it should not. */
static void tensor_pickles_changed_at_every_byte(void **state) {
  (void)state;
  ckpt_checkpoint *cp = NULL;
  const char *path = in(*state, "a.pth");
  char pickle[300], hex[65];
  for (size_t at = 0; at < tensors[0].n; at++)
    for (int change = 1; change < 256; change += 9) {
      const record records[] = {{"a/data.pkl", pickle, tensors[0].n, false}, DATA, VERSION};
      memcpy(pickle, tensors[0].pickle, tensors[0].n);
      pickle[at] = (char)(pickle[at] ^ change);
      build(path, records, 3);
      cp = NULL;
      if (ckpt_checkpoint_open(&cp, path, NULL, NULL) != CKPT_OK) continue;
      const ckpt_tensor *t = ckpt_value_tensor(ckpt_checkpoint_root(cp));
      if (t != NULL) ckpt_tensor_sha256(hex, t, NULL);
      ckpt_checkpoint_close(cp);
    }
}

/* OrderedDict([[k, v], ...]) and then more keys: all must be found, and a key that comes twice is one. */
static void an_ordered_dict_that_grows(void **state) {
  char pickle[400] = "ccollections\nOrderedDict\n](";
  size_t n = strlen(pickle);
  for (int i = 0; i < 12; i++, n += 7) memcpy(pickle + n, ((const char[]){']', '(', 'K', (char)i, 'K', 0, 'e'}), 7);
  memcpy(pickle + n, "e\x85R(K\x05K\1K\x14K\2u.", 14);
  const record records[] = {{"a/data.pkl", pickle, n + 14, false}, VERSION};
  build(in(*state, "a.pth"), records, 2);
  ckpt_checkpoint *cp = opened(in(*state, "a.pth"));
  int64_t five = -1;
  size_t count = ckpt_value_count(ckpt_checkpoint_root(cp));
  bool found = ckpt_value_at(ckpt_checkpoint_root(cp), "20") != NULL;
  ckpt_value_int(&five, ckpt_value_at(ckpt_checkpoint_root(cp), "5"), NULL);
  ckpt_checkpoint_close(cp);
  assert_int_equal(count, 13);
  assert_true(found);
  assert_int_equal(five, 1);
}

/* ---- other files ---- */

typedef struct foreign {
  const char *bytes;
  size_t n;
  ckpt_status status;
  const char *message;
} foreign;

static void other_files(void **state) {
  static const foreign files[] = {
      {P(""), CKPT_E_FORMAT, "the file is empty"},
      {P("h"), CKPT_E_FORMAT,
       "not a checkpoint: it begins with the bytes 68 00, which is no known format (as a pickle of protocol 0 or 1: "
       "file+0x0: an argument of 1 bytes where only 0 remain: the pickle is cut off or corrupt)"},
      {P("hello"), CKPT_E_FORMAT,
       "not a checkpoint: it begins with the bytes 68 65, which is no known format (as a pickle of protocol 0 or 1: "
       "file+0x0: memo entry 101 was never stored)"},
      {P("N.hello"), CKPT_E_FORMAT,
       "not a checkpoint: it begins with the bytes 4e 2e, which is no known format (as a pickle of protocol 0 or 1: "
       "file+0x2: what follows is none)"},
      {P("PYTORCH1"), CKPT_E_UNSUPPORTED, "a file of a PyTorch preview release: this version of ckpt does not read it"},
      {P("PK\3\4"), CKPT_E_CORRUPT, "zip end record missing at byte 0, the file ends early after 4 bytes"},
  };
  const char *path = in(*state, "a.pth");
  for (size_t i = 0; i < CKPT_COUNTOF(files); i++) {
    ckpt_checkpoint *cp = NULL;
    ckpt_error err = {0};
    spill(path, files[i].bytes, files[i].n);
    assert_int_equal(ckpt_checkpoint_open(&cp, path, NULL, &err), files[i].status);
    assert_string_equal(err.message + strlen(path) + 2, files[i].message);
    assert_null(cp);
  }
}

#define IN_DIRECTORY(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      IN_DIRECTORY(what_is_written_is_read),
      IN_DIRECTORY(what_is_read_is_written_alike),
      IN_DIRECTORY(tensors_outlive_their_checkpoint),
      IN_DIRECTORY(the_size_is_known_before),
      IN_DIRECTORY(a_failed_save_leaves_the_old_file),
      IN_DIRECTORY(what_cannot_be_saved_is_named),
      cmocka_unit_test(names_of_the_folder_inside),
      IN_DIRECTORY(places_that_cannot_be_saved_to),
      IN_DIRECTORY(changed_at_every_byte),
      IN_DIRECTORY(cut_at_every_length),
      IN_DIRECTORY(archives_with_something_wrong),
      IN_DIRECTORY(tensors_with_something_wrong),
      IN_DIRECTORY(tensor_pickles_changed_at_every_byte),
      IN_DIRECTORY(an_ordered_dict_that_grows),
      IN_DIRECTORY(other_files),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
