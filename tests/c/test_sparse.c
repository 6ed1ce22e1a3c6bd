/*
 * test_sparse.c - sparse and nested tensors: parts that do not fit, indices that lie outside, dense tensors out of
 * proportion; what adds up.
 */
#include "inside_fixture.h"

#include "check.h"
#include "sparse.h"

static const int64_t near[] = {0, 1, 1, 0}, negative[] = {0, -1, 1, 0}, far[] = {0, 1, 1, 3}, twice[] = {1, 1, 0, 0};
static const int64_t late[] = {1, 1, 2}, rows[] = {0, 1, 2}, down[] = {0, 2, 1}, up[] = {0, 3, 2}, one[] = {1, 0};
static const int32_t narrow[] = {0, 1, 2, 1};
static const float values[] = {1, 2, 3, 4};
static const uint16_t halves[] = {0x3c00, 0x3c00}; /* 1.0 */

static const span storages[] = {{"i", near, 32},  {"n", negative, 32}, {"f", far, 32},    {"t", twice, 32},
                                {"l", late, 24},  {"r", rows, 24},     {"d", down, 24},   {"u", up, 24},
                                {"o", one, 16},   {"s", narrow, 16},   {"v", values, 16}, {"h", halves, 4},
                                {"w", halves, 2}, {NULL, NULL, 0}};

#define LAYOUT(name) "ctorch.serialization\n_get_layout\n(X\x10\0\0\0torch.sparse_" name "tR"
#define SPARSE(layout, data) "ctorch._utils\n_rebuild_sparse_tensor\n(" LAYOUT(layout) "(" data "ttR."
#define INDICES(key) TENSOR("LongStorage", key, "K\4", "K\2K\2\x86", "K\2K\1\x86")
#define POINTERS(key) TENSOR("LongStorage", key, "K\3", "K\3\x85", "K\1\x85")
#define COLUMNS TENSOR("LongStorage", "o", "K\2", "K\2\x85", "K\1\x85")
#define FLOATS(n) TENSOR("FloatStorage", "v", "K\4", n "\x85", "K\1\x85")
#define BLOCKS(a, b, c) TENSOR("FloatStorage", "v", "K\4", a b c "\x87", "K\1K\1K\1\x87")
#define PAIR FLOATS("K\2")
#define SIZE(a, b) a b "\x86"
#define TWO SIZE("K\2", "K\2")
#define BIG "\x8a\x04\0\0\0\x40"               /* 2^30 */
#define HUGE_SIZE "\x8a\x08\0\0\0\0\0\0\0\x40" /* 2^62 */

static int set_up(void **state) { return ckpt_document_new((ckpt_document **)state, NULL) != CKPT_OK; }

static int tear_down(void **state) {
  ckpt_document_release(*state);
  return 0;
}

/* ---- what is wrong ---- */

typedef struct bad_case {
  const char *pickle;
  size_t n;
  ckpt_status status;
  const char *message;
} bad_case;

static const bad_case bad_parts[] = {
    {P("ctorch._utils\n_rebuild_sparse_tensor\n(N(ttR."), CKPT_E_CORRUPT, "a sparse tensor of unknown layout ''"},
    {P(SPARSE("xyz", INDICES("i") PAIR TWO)), CKPT_E_CORRUPT, "a sparse tensor of unknown layout 'torch.sparse_xyz'"},
    {P("ctorch._utils\n_rebuild_sparse_tensor\n(" LAYOUT("coo") "NtR."), CKPT_E_CORRUPT,
     "a sparse tensor without its parts"},
    {P(SPARSE("coo", INDICES("i") PAIR)), CKPT_E_CORRUPT,
     "a sparse tensor that is not made of indices, values and a size"},
    {P(SPARSE("coo", "K\1" PAIR TWO)), CKPT_E_CORRUPT, "a sparse tensor whose indices are no tensor"},
    {P(SPARSE("coo", PAIR PAIR TWO)), CKPT_E_CORRUPT, "a sparse tensor whose indices are float32"},
    {P(SPARSE("coo", INDICES("i") "N" TWO)), CKPT_E_CORRUPT, "a sparse tensor whose values are no tensor"},
    {P(SPARSE("coo", INDICES("i") PAIR "N")), CKPT_E_CORRUPT, "a sparse tensor without a size"},
    {P(SPARSE("coo", INDICES("i") PAIR SIZE("K\2", "\x88"))), CKPT_E_CORRUPT,
     "a sparse tensor whose size is no list of sizes"},
    {P(SPARSE("coo", INDICES("i") PAIR SIZE("K\2", "J\xff\xff\xff\xff"))), CKPT_E_CORRUPT,
     "a sparse tensor whose size is no list of sizes"},
    {P(SPARSE("coo", INDICES("i") PAIR SIZE(HUGE_SIZE, HUGE_SIZE))), CKPT_E_CORRUPT,
     "a sparse tensor whose number of elements does not fit in 63 bits"},
    {P(SPARSE("coo", COLUMNS PAIR TWO)), CKPT_E_CORRUPT, "a sparse tensor whose indices have not two dimensions"},
    {P(SPARSE("coo", INDICES("i") PAIR "K\2\x85")), CKPT_E_CORRUPT,
     "a sparse tensor with more rows of indices than dimensions"},
    {P(SPARSE("coo", INDICES("i") FLOATS("K\3") TWO)), CKPT_E_CORRUPT,
     "a sparse tensor whose values do not fit its indices and its size"},
    {P(SPARSE("coo", INDICES("i") PAIR "K\2K\2K\2\x87")), CKPT_E_CORRUPT,
     "a sparse tensor whose values do not fit its indices and its size"},
    {P(SPARSE("csr", POINTERS("r") COLUMNS PAIR)), CKPT_E_CORRUPT,
     "a sparse tensor that is not made of two lists of indices, values and a size"},
    {P(SPARSE("csr", PAIR COLUMNS PAIR TWO)), CKPT_E_CORRUPT, "a sparse tensor whose compressed indices are float32"},
    {P(SPARSE("csr", POINTERS("r") "N" PAIR TWO)), CKPT_E_CORRUPT, "a sparse tensor whose plain indices are no tensor"},
    {P(SPARSE("csr", POINTERS("r") COLUMNS PAIR "K\2\x85")), CKPT_E_CORRUPT,
     "a sparse tensor whose parts have dimensions that do not fit its size"},
    {P(SPARSE("csr", POINTERS("r") INDICES("i") PAIR TWO)), CKPT_E_CORRUPT,
     "a sparse tensor whose parts have dimensions that do not fit its size"},
    {P(SPARSE("csr", INDICES("i") INDICES("i")
                         TENSOR("FloatStorage", "v", "K\4", "K\2K\2\x86", "K\2K\1\x86") "K\3K\1K\2\x87")),
     CKPT_E_CORRUPT, "a sparse tensor whose parts have batches of other sizes"},
    {P(SPARSE("csr", POINTERS("r") COLUMNS FLOATS("K\3") TWO)), CKPT_E_CORRUPT,
     "a sparse tensor whose values do not fit its indices and its size"},
    {P(SPARSE("csr", POINTERS("r") COLUMNS PAIR SIZE("K\3", "K\2"))), CKPT_E_CORRUPT,
     "a sparse tensor whose compressed indices do not fit its size"},
    {P(SPARSE("bsr", POINTERS("r") COLUMNS BLOCKS("K\2", "K\2", "K\1") SIZE("K\3", "K\2"))), CKPT_E_CORRUPT,
     "a sparse tensor whose blocks do not divide its size"},
    {P(SPARSE("bsr", POINTERS("r") COLUMNS BLOCKS("K\2", "K\0", "K\1") TWO)), CKPT_E_CORRUPT,
     "a sparse tensor whose blocks do not divide its size"},
};

static void parts_that_do_not_fit(void **state) {
  ckpt_document *doc = *state;
  for (size_t i = 0; i < CKPT_COUNTOF(bad_parts); i++) {
    const bad_case *c = &bad_parts[i];
    ckpt_sparse s = {.nnz = 77};
    ckpt_error err = {0};
    ckpt_tensor *t = NULL;
    const ckpt_value *v = must_read(doc, storages, c->pickle, c->n);
    assert_int_equal(ckpt_value_sparse(&s, v, &err), c->status);
    assert_string_equal(err.message, c->message);
    assert_int_equal(s.nnz, 77);
    assert_int_equal(ckpt_value_to_dense(&t, v, NULL), c->status);
    assert_int_equal(ckpt_value_check(v, NULL), c->status);
    assert_null(t);
  }
}

static const bad_case bad_indices[] = {
    {P(SPARSE("coo", INDICES("f") PAIR TWO)), CKPT_E_CORRUPT, "a sparse tensor with index 3 in dimension 1 of size 2"},
    {P(SPARSE("coo", INDICES("n") PAIR TWO)), CKPT_E_CORRUPT, "a sparse tensor with index -1 in dimension 0 of size 2"},
    {P(SPARSE("csr", POINTERS("l") COLUMNS PAIR TWO)), CKPT_E_CORRUPT,
     "a sparse tensor whose compressed indices do not go from 0 to the number of its values"},
    {P(SPARSE("csr", POINTERS("d") COLUMNS PAIR TWO)), CKPT_E_CORRUPT,
     "a sparse tensor whose compressed indices do not go from 0 to the number of its values"},
    {P(SPARSE("csr", POINTERS("u") COLUMNS PAIR SIZE("K\2", "K\4"))), CKPT_E_CORRUPT,
     "a sparse tensor whose compressed indices go down"},
    {P(SPARSE("csr", TENSOR("LongStorage", "d", "K\3", "K\2\x85", "K\1\x85") COLUMNS PAIR SIZE("K\1", "K\1"))),
     CKPT_E_CORRUPT, "a sparse tensor with more values in a row than the row has places"},
    {P(SPARSE("csr", POINTERS("r") COLUMNS PAIR SIZE("K\2", "K\1"))), CKPT_E_CORRUPT,
     "a sparse tensor with plain index 1 of 1"},
};

/* The parts fit, so that only who reads the indices sees it; verification names the path. */
static void indices_that_lie_outside(void **state) {
  ckpt_document *doc = *state;
  for (size_t i = 0; i < CKPT_COUNTOF(bad_indices); i++) {
    const bad_case *c = &bad_indices[i];
    ckpt_sparse s;
    ckpt_error err = {0};
    ckpt_tensor *t = NULL;
    ckpt_value *list = NULL, *v = must_read(doc, storages, c->pickle, c->n);
    assert_int_equal(ckpt_value_sparse(&s, v, NULL), CKPT_OK);
    assert_int_equal(ckpt_value_to_dense(&t, v, &err), c->status);
    assert_string_equal(err.message, c->message);
    assert_int_equal(ckpt_value_new_list(&list, doc, NULL), CKPT_OK);
    assert_int_equal(ckpt_value_append(list, doc, v, NULL), CKPT_OK);
    assert_int_equal(ckpt_value_check(list, &err), c->status);
    assert_memory_equal(err.message, "[0]: ", 5);
    assert_string_equal(err.message + 5, c->message);
  }
}

static void out_of_proportion(void **state) {
  ckpt_error err = {0};
  ckpt_tensor *t = NULL;
  const ckpt_value *v = must_read(*state, storages, P(SPARSE("coo", INDICES("i") PAIR SIZE(BIG, BIG))));
  assert_int_equal(ckpt_value_to_dense(&t, v, &err), CKPT_E_LIMIT);
  assert_string_equal(err.message, "a sparse tensor of 40 bytes would be out of proportion when dense");
  assert_int_equal(ckpt_value_check(v, NULL), CKPT_OK);
}

static void what_cannot_be_added(void **state) {
  ckpt_error err = {0};
  ckpt_tensor *t = NULL;
  static const char bits[] = "ctorch._utils\n_rebuild_sparse_tensor\n(" LAYOUT("coo") "(" INDICES(
      "i") "ctorch._utils\n_rebuild_tensor_v3\n(" STORAGE("UntypedStorage", "w",
                                                          "K\2") "K\0K\2\x85K\1\x85\x89Nctorch\nbits8\ntR" TWO "ttR.";
  const ckpt_value *v = must_read(*state, storages, P(bits));
  assert_int_equal(ckpt_value_to_dense(&t, v, &err), CKPT_E_UNSUPPORTED);
  assert_string_equal(err.message, "a sparse tensor of bits8 cannot be made dense");
}

static void other_values(void **state) {
  ckpt_document *doc = *state;
  ckpt_error err = {0};
  ckpt_sparse s;
  size_t n;
  const ckpt_value *none = ckpt_document_none(doc);
  assert_int_equal(ckpt_value_sparse(&s, none, &err), CKPT_E_TYPE);
  assert_string_equal(err.message, "a None where a sparse tensor was expected");
  assert_int_equal(ckpt_value_nested_count(&n, none, &err), CKPT_E_TYPE);
  assert_string_equal(err.message, "a None where a nested tensor was expected");
}

/* ---- what is right ---- */

static void assert_dense(ckpt_document *doc, const char *pickle, size_t n, const float *wanted, size_t count) {
  ckpt_error err = {0};
  ckpt_tensor *t = NULL;
  if (ckpt_value_to_dense(&t, must_read(doc, storages, pickle, n), &err) != CKPT_OK) fail_msg("%s", err.message);
  assert_int_equal(ckpt_tensor_dtype(t), CKPT_F32);
  assert_int_equal(ckpt_tensor_numel(t), count);
  assert_memory_equal(data_of(t), wanted, count * sizeof *wanted);
  ckpt_tensor_release(t);
}

static void dense_tensors(void **state) {
  ckpt_document *doc = *state;
  assert_dense(doc, P(SPARSE("coo", INDICES("i") PAIR TWO)), (const float[]){0, 1, 2, 0}, 4);
  assert_dense(doc, P(SPARSE("coo", INDICES("i") PAIR TWO "\x88")), (const float[]){0, 1, 2, 0}, 4);
  assert_dense(doc, P(SPARSE("coo", INDICES("t") PAIR TWO)), (const float[]){0, 0, 3, 0}, 4); /* 1 + 2 */
  assert_dense(doc, P(SPARSE("csr", POINTERS("r") COLUMNS PAIR TWO)), (const float[]){0, 1, 2, 0}, 4);
  assert_dense(doc, P(SPARSE("csc", POINTERS("r") COLUMNS PAIR TWO)), (const float[]){0, 2, 1, 0}, 4);
  assert_dense(doc, P(SPARSE("bsr", POINTERS("r") COLUMNS BLOCKS("K\2", "K\1", "K\2") SIZE("K\2", "K\4"))),
               (const float[]){0, 0, 1, 2, 2, 3, 0, 0}, 8);
  assert_dense(doc, P(SPARSE("csr", TENSOR("IntStorage", "s", "K\4", "K\3\x85", "K\1\x85") COLUMNS PAIR TWO)),
               (const float[]){0, 1, 2, 0}, 4);
  assert_dense(
      doc, P("ctorch._utils\n_rebuild_sparse_csr_tensor\n(" LAYOUT("csr") "(" POINTERS("r") COLUMNS PAIR TWO "ttR."),
      (const float[]){0, 1, 2, 0}, 4);
}

/* Small floats are added in float32 and rounded once. */
static void halves_add_up(void **state) {
  ckpt_tensor *t = NULL;
  const ckpt_value *v = must_read(
      *state, storages, P(SPARSE("coo", INDICES("t") TENSOR("HalfStorage", "h", "K\2", "K\2\x85", "K\1\x85") TWO)));
  assert_int_equal(ckpt_value_to_dense(&t, v, NULL), CKPT_OK);
  assert_memory_equal(data_of(t), ((const uint16_t[]){0, 0, 0x4000, 0}), 8);
  ckpt_tensor_release(t);
}

/* ---- nested ---- */

#define NESTED(args) "ctorch._utils\n_rebuild_nested_tensor\n(" args "tR."
#define BUFFER FLOATS("K\4")
#define TABLE(key) TENSOR("LongStorage", key, "K\4", "K\2K\2\x86", "K\2K\1\x86")

static const bad_case bad_nested[] = {
    {P(NESTED("")), CKPT_E_CORRUPT, "a nested tensor that is not made of a buffer and three tables"},
    {P(NESTED(BUFFER TABLE("t") TABLE("t") "N")), CKPT_E_CORRUPT, "a nested tensor without offsets"},
    {P(NESTED(BUFFER BUFFER TABLE("t") COLUMNS)), CKPT_E_CORRUPT,
     "a nested tensor whose sizes and strides are no tables"},
    {P(NESTED(BUFFER TABLE("t") TENSOR("LongStorage", "t", "K\4", "K\1K\2\x86", "K\2K\1\x86") COLUMNS)), CKPT_E_CORRUPT,
     "a nested tensor whose sizes, strides and offsets differ in number"},
    {P(NESTED(BUFFER TABLE("t") TABLE("t") POINTERS("r"))), CKPT_E_CORRUPT,
     "a nested tensor whose sizes, strides and offsets differ in number"},
    {P(NESTED(BUFFER TABLE("t") TABLE("t") "(K\0\x88t")), CKPT_E_CORRUPT,
     "a nested tensor whose offsets are no integers"},
    {P(NESTED(BUFFER TABLE("f") TABLE("f") COLUMNS)), CKPT_E_CORRUPT,
     "a nested tensor reaches out of its buffer: the storage holds 16 bytes, the view needs 28"},
    {P(NESTED(BUFFER TABLE("n") TABLE("t") COLUMNS)), CKPT_E_CORRUPT,
     "a nested tensor reaches out of its buffer: size -1 of dimension 1 is negative"},
};

static ckpt_status read_nested(const ckpt_value *v, ckpt_error *err) {
  size_t n = 0;
  CKPT_TRY(ckpt_value_nested_count(&n, v, err));
  for (size_t i = 0; i < n; i++) {
    ckpt_tensor *t = NULL;
    CKPT_TRY(ckpt_value_nested_tensor(&t, v, i, err));
    ckpt_tensor_release(t);
  }
  return CKPT_OK;
}

static void nested_tensors_that_are_wrong(void **state) {
  for (size_t i = 0; i < CKPT_COUNTOF(bad_nested); i++) {
    ckpt_error err = {0};
    const ckpt_value *v = must_read(*state, storages, bad_nested[i].pickle, bad_nested[i].n);
    assert_int_equal(read_nested(v, &err), bad_nested[i].status);
    assert_string_equal(err.message, bad_nested[i].message);
    assert_int_equal(ckpt_value_check(v, NULL), bad_nested[i].status);
  }
}

static void nested_tensors(void **state) {
  ckpt_error err = {0};
  ckpt_tensor *t = NULL;
  size_t n = 0;
  const ckpt_value *v = must_read(*state, storages, P(NESTED(BUFFER TABLE("t") TABLE("t") "]K\1aK\0a")));
  assert_int_equal(ckpt_value_nested_count(&n, v, NULL), CKPT_OK);
  assert_int_equal(n, 2);
  assert_int_equal(ckpt_value_nested_tensor(&t, v, 0, &err), CKPT_OK);
  assert_int_equal(ckpt_tensor_offset(t), 1);
  assert_int_equal(ckpt_tensor_numel(t), 1);
  assert_float_equal(((const float *)data_of(t))[0], 2, 0);
  ckpt_tensor_release(t);
  assert_int_equal(ckpt_value_nested_tensor(&t, v, 2, &err), CKPT_E_RANGE);
  assert_string_equal(err.message, "there is no tensor 2 in a nested tensor of 2");
  v = must_read(*state, storages, P(NESTED(BUFFER "NN)"))); /* of nothing: what the tables are does not matter */
  assert_int_equal(ckpt_value_nested_count(&n, v, NULL), CKPT_OK);
  assert_int_equal(n, 0);
}

/* ---- wrappers ---- */

/* Parameters in Parameters, without end: none of them is sparse, and nothing recurses. */
static void wrappers(void **state) {
  enum { DEEP = 100000 };
  static const char open[] = "ctorch._utils\n_rebuild_parameter\n(", close[] = "\x89NtR";
  size_t n = 0;
  const char inner[] = SPARSE("coo", INDICES("i") PAIR TWO);
  char *pickle = malloc(DEEP * (sizeof open + sizeof close) + sizeof inner);
  assert_non_null(pickle);
  for (int i = 0; i < DEEP; i++, n += sizeof open - 1) memcpy(pickle + n, open, sizeof open - 1);
  memcpy(pickle + n, inner, sizeof inner - 2);
  n += sizeof inner - 2;
  for (int i = 0; i < DEEP; i++, n += sizeof close - 1) memcpy(pickle + n, close, sizeof close - 1);
  pickle[n++] = '.';
  const ckpt_value *v = must_read(*state, storages, pickle, n);
  free(pickle);
  assert_false(ckpt_value_is_sparse(v));
  assert_true(ckpt_value_is_opaque(v));
  assert_int_equal(ckpt_value_check(v, NULL), CKPT_OK);
}

#define WITH_DOCUMENT(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      WITH_DOCUMENT(parts_that_do_not_fit), WITH_DOCUMENT(indices_that_lie_outside),
      WITH_DOCUMENT(out_of_proportion),     WITH_DOCUMENT(what_cannot_be_added),
      WITH_DOCUMENT(other_values),          WITH_DOCUMENT(dense_tensors),
      WITH_DOCUMENT(halves_add_up),         WITH_DOCUMENT(nested_tensors_that_are_wrong),
      WITH_DOCUMENT(nested_tensors),        WITH_DOCUMENT(wrappers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
