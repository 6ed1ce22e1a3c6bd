/*
 * test_numpy.c - numpy's arrays and scalars: every length against the bytes that are there, orders of axes and of
 * bytes, dtypes that are none.
 */
#include "inside_fixture.h"

#include "check.h"
#include "numpy.h"
#include "repr.h"

static const span none[] = {{NULL, NULL, 0}};

#define TEXT(n, s) "X" n "\0\0\0" s
#define BYTES(n, s) "C" n s
#define DTYPE(code, order) \
  "cnumpy\ndtype\n(" code "\x89\x88tR(K\3" TEXT("\1", order) "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
#define F4 DTYPE(TEXT("\2", "f4"), "<")
#define I2 DTYPE(TEXT("\2", "i2"), "<")
#define SCALAR(args) "cnumpy.core.multiarray\nscalar\n(" args "tR."
#define ARRAY_OF(cls, state) "cnumpy.core.multiarray\n_reconstruct\n(" cls "K\0\x85" BYTES("\1", "b") "tR(" state "tb."
#define ARRAY(state) ARRAY_OF("cnumpy\nndarray\n", state)
#define BUFFER(args) "cnumpy._core.numeric\n_frombuffer\n(" args "tR."
#define SIX "\0\0\1\0\2\0\3\0\4\0\5\0"
#define SIX_BYTES BYTES("\x0c", SIX)

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

static const bad_case bad[] = {
    {P(SCALAR("")), CKPT_E_CORRUPT, "a numpy array without a dtype"},
    {P(SCALAR("N")), CKPT_E_CORRUPT, "a numpy array without a dtype"},
    {P(SCALAR(F4)), CKPT_E_CORRUPT, "a numpy array without bytes"},
    {P(SCALAR(F4 BYTES("\3", "abc"))), CKPT_E_CORRUPT, "a numpy array of 1 elements of 4 bytes over 3 bytes"},
    {P(SCALAR(F4 TEXT("\4", "abcd"))), CKPT_E_CORRUPT, "a numpy array without bytes"},
    {P(SCALAR("cnumpy\ndtype\n)R" BYTES("\4", "abcd"))), CKPT_E_CORRUPT, "a numpy array without a dtype"},
    {P(SCALAR(DTYPE("K\1", "<") BYTES("\4", "abcd"))), CKPT_E_UNSUPPORTED, "a numpy array of an unknown dtype ''"},
    {P(SCALAR(DTYPE(TEXT("\2", "q4"), "<") BYTES("\4", "abcd"))), CKPT_E_UNSUPPORTED,
     "a numpy array of an unknown dtype 'q4'"},
    {P(SCALAR(DTYPE(TEXT("\2", "fx"), "<") BYTES("\4", "abcd"))), CKPT_E_UNSUPPORTED,
     "a numpy array of an unknown dtype 'fx'"},
    {P(SCALAR(DTYPE(TEXT("\x0a", "f999999999"), "<") BYTES("\4", "abcd"))), CKPT_E_UNSUPPORTED,
     "a numpy array of an unknown dtype 'f999999999'"},
    {P(SCALAR(DTYPE(TEXT("\2", "f4"), "?") BYTES("\4", "abcd"))), CKPT_E_CORRUPT,
     "a numpy array whose dtype has no byte order"},
    {P(SCALAR("cnumpy\ndtype\n(" TEXT("\2", "f4") "tRNb" BYTES("\4", "abcd"))), CKPT_E_CORRUPT,
     "a numpy array whose dtype has no state"},
    {P(SCALAR("cnumpy\ndtype\n(" TEXT("\2", "V8") "tR(K\3" TEXT("\1", "|") "N(t}tb" BYTES("\1", "a"))),
     CKPT_E_UNSUPPORTED, "a numpy array of records, which are no plain values"},
    {P(SCALAR(DTYPE(TEXT("\2", "O8"), "|"))), CKPT_E_CORRUPT, "a numpy array of one object that is missing"},
    {P("cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\ntR."), CKPT_E_CORRUPT,
     "a numpy array without its state"},
    {P("cnumpy.core.multiarray\n_reconstruct\n)R."), CKPT_E_UNSUPPORTED, "an array of a class derived from numpy's"},
    {P(ARRAY_OF("cm\nMine\n", "K\1K\6\x85" I2 "\x89" SIX_BYTES)), CKPT_E_UNSUPPORTED,
     "an array of a class derived from numpy's"},
    {P(ARRAY("K\1K\6\x85" I2)), CKPT_E_CORRUPT, "a numpy array without its state"},
    {P(ARRAY("K\1K\6" I2 "\x89" SIX_BYTES)), CKPT_E_CORRUPT, "a numpy array without a shape"},
    {P(ARRAY("K\1\x88\x85" I2 "\x89" SIX_BYTES)), CKPT_E_CORRUPT, "a numpy array whose shape is no list of sizes"},
    {P(ARRAY("K\1J\xff\xff\xff\xff\x85" I2 "\x89" SIX_BYTES)), CKPT_E_CORRUPT,
     "a numpy array whose shape is no list of sizes"},
    {P(ARRAY("K\1(\x8a\x08\0\0\0\0\0\0\0\x40K\4t" I2 "\x89" SIX_BYTES)), CKPT_E_CORRUPT,
     "a numpy array whose number of elements does not fit in 63 bits"},
    {P(ARRAY("K\1(\x8a\x08\0\0\0\0\0\0\0\x40t" I2 "\x89" SIX_BYTES)), CKPT_E_CORRUPT,
     "a numpy array of 4611686018427387904 elements of 2 bytes over 12 bytes"},
    {P(ARRAY("K\1K\5\x85" I2 "\x89" SIX_BYTES)), CKPT_E_CORRUPT,
     "a numpy array of 5 elements of 2 bytes over 12 bytes"},
    {P(ARRAY("K\1K\2\x85" DTYPE(TEXT("\2", "U0"), "<") "\x89" BYTES("\0", ""))), CKPT_E_CORRUPT,
     "a numpy array of many elements that take no bytes"},
    {P(ARRAY("K\1K\2\x85" DTYPE(TEXT("\2", "O8"), "|") "\x89]K\1a")), CKPT_E_CORRUPT,
     "a numpy array of objects whose list is not as long as its shape says"},
    {P(BUFFER(SIX_BYTES I2 "K\6\x85" TEXT("\1", "Z"))), CKPT_E_CORRUPT, "a numpy array without an order of its axes"},
    {P(BUFFER(SIX_BYTES I2 "K\2K\3\x86" TEXT("\1", "K") "K\0\x85")), CKPT_E_CORRUPT,
     "a numpy array with an axis too many or too few"},
    {P(BUFFER(SIX_BYTES I2 "K\2K\3\x86" TEXT("\1", "K") "K\1K\1\x86")), CKPT_E_CORRUPT,
     "a numpy array whose axes are no permutation"},
    {P(BUFFER(SIX_BYTES I2 "K\2K\3\x86" TEXT("\1", "K") "K\1")), CKPT_E_CORRUPT,
     "a numpy array whose axes are no list"},
    {P("N."), CKPT_E_TYPE, "a None where a numpy array was expected"},
};

static void arrays_that_are_wrong(void **state) {
  for (size_t i = 0; i < CKPT_COUNTOF(bad); i++) {
    ckpt_array a = {.count = 77};
    ckpt_error err = {0};
    const ckpt_value *v = must_read(*state, none, bad[i].pickle, bad[i].n);
    assert_int_equal(ckpt_value_array(&a, v, &err), bad[i].status);
    assert_string_equal(err.message, bad[i].message);
    assert_int_equal(a.count, 77);
    assert_int_equal(ckpt_value_array(&a, v, NULL), bad[i].status);
    assert_int_equal(ckpt_value_check(v, NULL), bad[i].status == CKPT_E_CORRUPT ? CKPT_E_CORRUPT : CKPT_OK);
  }
}

static void too_many_dimensions(void **state) {
  char shape[3 * (CKPT_MAX_DIMS + 1) + 1], pickle[2000];
  static const char before[] = "cnumpy._core.numeric\n_frombuffer\n(C\0" I2 "(", after[] = "t" TEXT("\1", "C") "tR.";
  ckpt_array a;
  ckpt_error err = {0};
  size_t n = 0;
  for (int i = 0; i <= CKPT_MAX_DIMS; i++, n += 2) memcpy(shape + n, "K\1", 2);
  memcpy(pickle, before, sizeof before - 1);
  memcpy(pickle + sizeof before - 1, shape, n);
  memcpy(pickle + sizeof before - 1 + n, after, sizeof after - 1);
  const ckpt_value *v = must_read(*state, none, pickle, sizeof before + sizeof after + n - 2);
  assert_int_equal(ckpt_value_array(&a, v, &err), CKPT_E_LIMIT);
  assert_string_equal(err.message, "a numpy array of 65 dimensions; at most 64 are supported");
}

/* ---- tensors ---- */

static void assert_tensor(ckpt_document *doc, const char *pickle, size_t n, const int64_t *stride,
                          const int16_t *wanted) {
  ckpt_array a;
  ckpt_tensor *t = NULL, *copy = NULL;
  ckpt_error err = {0};
  const ckpt_value *v = must_read(doc, none, pickle, n);
  if (ckpt_value_array(&a, v, &err) != CKPT_OK) fail_msg("%s", err.message);
  assert_true(ckpt_value_is_array(v));
  assert_int_equal(ckpt_array_tensor(&t, &a, NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_dtype(t), CKPT_I16);
  assert_int_equal(ckpt_tensor_ndim(t), 2);
  assert_memory_equal(ckpt_tensor_stride(t), stride, 2 * sizeof *stride);
  assert_int_equal(ckpt_tensor_new(&copy, CKPT_I16, 2, ckpt_tensor_shape(t), NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_copy(copy, t, NULL), CKPT_OK);
  assert_memory_equal(data_of(copy), wanted, 12);
  for (int64_t i = 0; i < 6; i++) { /* the same, one by one */
    ckpt_value *item = NULL;
    int64_t number = 0;
    assert_int_equal(ckpt_array_item(&item, doc, &a, i, NULL), CKPT_OK);
    assert_int_equal(ckpt_value_int(&number, item, NULL), CKPT_OK);
    assert_int_equal(number, wanted[i]);
  }
  ckpt_tensor_release(copy);
  ckpt_tensor_release(t);
}

#define SHAPE "K\2K\3\x86"

static void orders_of_axes_and_bytes(void **state) {
  ckpt_document *doc = *state;
  static const int16_t by_rows[] = {0, 1, 2, 3, 4, 5}, by_columns[] = {0, 2, 4, 1, 3, 5},
                       swapped[] = {0, 256, 512, 768, 1024, 1280};
  static const int64_t c[] = {3, 1}, f[] = {1, 2};
  assert_tensor(doc, P(ARRAY("K\1" SHAPE I2 "\x89" SIX_BYTES)), c, by_rows);
  assert_tensor(doc, P(ARRAY("K\1" SHAPE I2 "\x88" SIX_BYTES)), f, by_columns);
  assert_tensor(doc, P(ARRAY("K\1" SHAPE I2 "K\1" SIX_BYTES)), f, by_columns);
  assert_tensor(doc, P(ARRAY(SHAPE I2 "\x89" SIX_BYTES)), c, by_rows); /* the oldest have no version */
  assert_tensor(doc, P(ARRAY("K\1" SHAPE DTYPE(TEXT("\2", "i2"), ">") "\x89" SIX_BYTES)), c, swapped);
  assert_tensor(doc, P(ARRAY("K\1" SHAPE DTYPE("U\2i2", "=") "\x89U\x0c" SIX)), c, by_rows); /* Python 2 */
  assert_tensor(doc,
                P(ARRAY("K\1" SHAPE "cnumpy\ndtype\n(" TEXT("\2", "i2") "tR(" TEXT("\1", "<") "NNNtb\x89" SIX_BYTES)),
                c, by_rows);
  assert_tensor(doc, P(BUFFER(SIX_BYTES I2 SHAPE TEXT("\1", "C"))), c, by_rows);
  assert_tensor(doc, P(BUFFER("\x96\x0c\0\0\0\0\0\0\0" SIX I2 SHAPE TEXT("\1", "F"))), f, by_columns);
  assert_tensor(doc, P(BUFFER(SIX_BYTES I2 "K\3K\2\x86" TEXT("\1", "K") "K\1K\0\x86")), f, by_columns);
  assert_tensor(doc, P(ARRAY_OF("cnumpy\nmemmap\n", "K\1" SHAPE I2 "\x89" SIX_BYTES)), c, by_rows);
}

static void arrays_that_are_no_tensors(void **state) {
  ckpt_error err = {0};
  ckpt_array a;
  ckpt_tensor *t = NULL;
  const ckpt_value *v =
      must_read(*state, none, P(ARRAY("K\1K\1\x85" DTYPE(TEXT("\2", "U1"), "<") "\x89" BYTES("\4", "a\0\0\0"))));
  assert_int_equal(ckpt_value_array(&a, v, NULL), CKPT_OK);
  assert_int_equal(ckpt_array_tensor(&t, &a, &err), CKPT_E_UNSUPPORTED);
  assert_string_equal(err.message, "a numpy array of dtype 'U1', which PyTorch does not have");
  assert_int_equal(ckpt_array_item((ckpt_value *[]){NULL}, *state, &a, 1, &err), CKPT_E_RANGE);
  assert_string_equal(err.message, "there is no element 1 in a numpy array of 1");
}

/* ---- single values ---- */

typedef struct item_case {
  const char *pickle;
  size_t n;
  const char *repr;
} item_case;

static const item_case items[] = {
    {P(SCALAR(DTYPE(TEXT("\2", "f2"), "<") BYTES("\2", "\0\x3c"))), "1.0"},
    {P(SCALAR(DTYPE(TEXT("\2", "f8"), ">") BYTES("\x08", "\x3f\xf8\0\0\0\0\0\0"))), "1.5"},
    {P(SCALAR(DTYPE(TEXT("\2", "i1"), "|") BYTES("\1", "\xff"))), "-1"},
    {P(SCALAR(DTYPE(TEXT("\2", "u4"), "<") BYTES("\4", "\xff\xff\xff\xff"))), "4294967295"},
    {P(SCALAR(DTYPE(TEXT("\2", "b1"), "|") BYTES("\1", "\2"))), "True"},
    {P(SCALAR(DTYPE(TEXT("\2", "c8"), "<") BYTES("\x08", "\0\0\x80\x3f\0\0\0\xc0"))), "(1-2j)"},
    {P(SCALAR(DTYPE(TEXT("\3", "c16"), ">") BYTES("\x10", "\0\0\0\0\0\0\0\0\x3f\xf0\0\0\0\0\0\0"))), "1j"},
    {P(SCALAR(DTYPE(TEXT("\2", "S3"), "|") BYTES("\3", "a\0\0"))), "b'a'"},
    {P(SCALAR(DTYPE(TEXT("\2", "U2"), "<") BYTES("\x08", "\xe9\0\0\0\0\xf6\1\0"))), "'\xc3\xa9\xf0\x9f\x98\x80'"},
    {P(SCALAR(DTYPE(TEXT("\2", "U1"), "<") BYTES("\4", "\0\xd8\0\0"))), "'\xed\xa0\x80'"}, /* a lone surrogate */
    {P(SCALAR(DTYPE(TEXT("\2", "U0"), "<") BYTES("\0", ""))), "''"},
    {P(SCALAR(DTYPE(TEXT("\2", "M8"), "<") BYTES("\x08", "\7\0\0\0\0\0\0\0"))), "7"},
    {P(SCALAR(DTYPE(TEXT("\2", "O8"), "|") "]K\1a")), "[1]"},
};

static void single_values(void **state) {
  for (size_t i = 0; i < CKPT_COUNTOF(items); i++) {
    ckpt_array a;
    ckpt_error err = {0};
    ckpt_value *item = NULL;
    char *text = NULL;
    size_t n = 0;
    const ckpt_value *v = must_read(*state, none, items[i].pickle, items[i].n);
    if (ckpt_value_array(&a, v, &err) != CKPT_OK) fail_msg("%s", err.message);
    assert_true(a.scalar);
    if (ckpt_array_item(&item, *state, &a, 0, &err) != CKPT_OK) fail_msg("%s", err.message);
    assert_int_equal(ckpt_repr(&text, &n, item, 100, NULL), CKPT_OK);
    assert_string_equal(text, items[i].repr);
    free(text);
  }
}

static void unsigned_64(void **state) {
  ckpt_array a;
  ckpt_value *item = NULL;
  const ckpt_value *v = must_read(
      *state, none, P(SCALAR(DTYPE(TEXT("\2", "u8"), "<") BYTES("\x08", "\xff\xff\xff\xff\xff\xff\xff\xff"))));
  assert_int_equal(ckpt_value_array(&a, v, NULL), CKPT_OK);
  assert_int_equal(ckpt_array_item(&item, *state, &a, 0, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_kind(item), CKPT_BIGINT);
  assert_memory_equal(item->as.text.bytes, "\xff\xff\xff\xff\xff\xff\xff\xff\0", 9);
}

static void beyond_unicode(void **state) {
  ckpt_array a;
  ckpt_error err = {0};
  ckpt_value *item = NULL;
  const ckpt_value *v = must_read(*state, none, P(SCALAR(DTYPE(TEXT("\2", "U1"), "<") BYTES("\4", "\0\0\x11\0"))));
  assert_int_equal(ckpt_value_array(&a, v, NULL), CKPT_OK);
  assert_int_equal(ckpt_array_item(&item, *state, &a, 0, &err), CKPT_E_CORRUPT);
  assert_string_equal(err.message, "a numpy string with a character beyond Unicode");
}

/* ---- complex numbers ---- */

static void complex_numbers(void **state) {
  double re = 7, im = 7;
  ckpt_error err = {0};
  assert_int_equal(ckpt_value_complex(&re, &im, must_read(*state, none, P("cbuiltins\ncomplex\n(K\1tR.")), NULL),
                   CKPT_OK);
  assert_true(re == 1 && im == 0);
  const ckpt_value *v = must_read(*state, none, P("cbuiltins\ncomplex\n(K\1K\2K\3tR."));
  assert_int_equal(ckpt_value_complex(&re, &im, v, &err), CKPT_E_CORRUPT);
  assert_string_equal(err.message, "a complex number of 3 parts");
  v = must_read(*state, none, P("cbuiltins\ncomplex\n(K\1NtR."));
  assert_int_equal(ckpt_value_complex(&re, &im, v, &err), CKPT_E_TYPE);
  assert_int_equal(ckpt_value_complex(&re, &im, must_read(*state, none, P("K\1.")), &err), CKPT_E_TYPE);
  assert_string_equal(err.message, "a int where a complex number was expected");
}

/* ---- tensors of other devices ---- */

#define FROM_NUMPY(args) "ctorch._utils\n_rebuild_device_tensor_from_numpy\n(" args "tR."

static void device_tensors(void **state) {
  ckpt_error err = {0};
  static const char good[] = "ctorch._utils\n_rebuild_device_tensor_from_numpy\n("
                             "cnumpy._core.numeric\n_frombuffer\n(" SIX_BYTES I2 "K\6\x85" TEXT("\1", "C") "tR"
                             "ctorch\nint64\n" TEXT("\5", "xla:0") "\x89tR.";
  const ckpt_value *v = must_read(*state, none, P(good));
  const int64_t wanted[] = {0, 1, 2, 3, 4, 5};
  assert_int_equal(ckpt_value_kind(v), CKPT_TENSOR);
  assert_int_equal(ckpt_tensor_dtype(ckpt_value_tensor(v)), CKPT_I64);
  assert_memory_equal(data_of(ckpt_value_tensor(v)), wanted, sizeof wanted);
  assert_null(read_with(*state, none, P(FROM_NUMPY("NN")), &err));
  assert_non_null(strstr(err.message, "_rebuild_device_tensor_from_numpy takes 4 arguments"));
  assert_null(read_with(*state, none, P(FROM_NUMPY("NNNN")), &err));
  assert_non_null(strstr(err.message, "a None where a numpy array was expected"));
  assert_null(read_with(*state, none, P("ctorch._utils\n_rebuild_device_tensor_from_cpu_tensor\n(NNNNtR."), &err));
  assert_non_null(strstr(err.message, "a device tensor without a tensor"));
}

#define WITH_DOCUMENT(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      WITH_DOCUMENT(arrays_that_are_wrong),
      WITH_DOCUMENT(too_many_dimensions),
      WITH_DOCUMENT(orders_of_axes_and_bytes),
      WITH_DOCUMENT(arrays_that_are_no_tensors),
      WITH_DOCUMENT(single_values),
      WITH_DOCUMENT(unsigned_64),
      WITH_DOCUMENT(beyond_unicode),
      WITH_DOCUMENT(complex_numbers),
      WITH_DOCUMENT(device_tensors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
