/*
 * test_quantized.c - quantised tensors: qparams that do not fit are refused when the file is read, scales that are no
 * numbers when they are used; dequantising; views; words for tensors that a program made.
 */
#include "inside_fixture.h"

#include <math.h>

#include "check.h"
#include "pickle_write.h"
#include "quantized.h"

static const signed char integers[] = {-1, 0, 1, 2, 3, 4};
static const unsigned char packed[] = {0x21, 0x43, 0xf0}; /* 1 2 3 4 0 15 */
static const double scales[] = {0.5, 2}, nan_scales[] = {0.5, NAN}, no_scales[] = {0, 1};
static const int64_t zeros[] = {1, -1};
static const float float_zeros[] = {0.5f, INFINITY};

static const span storages[] = {{"q", integers, 6},   {"p", packed, 3}, {"s", scales, 16},     {"n", nan_scales, 16},
                                {"o", no_scales, 16}, {"z", zeros, 16}, {"f", float_zeros, 8}, {NULL, NULL, 0}};

#define HALF "G\x3f\xe0\0\0\0\0\0\0"
#define Q(storage, size, stride, qparams) \
  "ctorch._utils\n_rebuild_qtensor\n(" storage "K\0" size stride "(" qparams "t\x89NtR."
#define INT8(qparams) Q(STORAGE("QInt8Storage", "q", "K\6"), "K\2K\3\x86", "K\3K\1\x86", qparams)
#define TENSOR_AFFINE "ctorch\nper_tensor_affine\n"
#define CHANNEL_AFFINE "ctorch\nper_channel_affine\n"
#define DOUBLES(key) TENSOR("DoubleStorage", key, "K\2", "K\2\x85", "K\1\x85")
#define LONGS(key) TENSOR("LongStorage", key, "K\2", "K\2\x85", "K\1\x85")
#define ONE(key) TENSOR("LongStorage", key, "K\2", "K\1\x85", "K\1\x85")
#define FLOAT_ZEROS TENSOR("FloatStorage", "f", "K\2", "K\2\x85", "K\1\x85")

static int set_up(void **state) { return ckpt_document_new((ckpt_document **)state, NULL) != CKPT_OK; }

static int tear_down(void **state) {
  ckpt_document_release(*state);
  return 0;
}

typedef struct bad_case {
  const char *pickle;
  size_t n;
  const char *message;
} bad_case;

static const bad_case unreadable[] = {
    {P(INT8("")), "a quantised tensor without a scheme"},
    {P(INT8("N")), "a quantised tensor of an unknown scheme"},
    {P(INT8("ctorch\nper_tensor_sometimes\n" HALF "K\0")), "a quantised tensor of an unknown scheme"},
    {P(INT8(TENSOR_AFFINE HALF)), "a quantised tensor without a scale and an integer zero point"},
    {P(INT8(TENSOR_AFFINE "N"
                          "K\0")),
     "a quantised tensor without a scale and an integer zero point"},
    {P(INT8(TENSOR_AFFINE HALF HALF)), "a quantised tensor without a scale and an integer zero point"},
    {P(INT8(CHANNEL_AFFINE DOUBLES("s") LONGS("z"))), "a quantised tensor without scales, zero points and an axis"},
    {P(INT8(CHANNEL_AFFINE DOUBLES("s") LONGS("z") "J\xff\xff\xff\xff")),
     "a quantised tensor without scales, zero points and an axis"},
    {P(INT8(CHANNEL_AFFINE DOUBLES("s") LONGS("z") "K\2")),
     "a quantised tensor of 2 dimensions with scales along axis 2"},
    {P(INT8(CHANNEL_AFFINE DOUBLES("s") LONGS("z") "K\1")), "a quantised tensor with 2 scales for an axis of 3"},
    {P(INT8(CHANNEL_AFFINE DOUBLES("s") ONE("z") "K\0")), "a quantised tensor with 1 zero points for an axis of 2"},
    {P(INT8(CHANNEL_AFFINE "N" LONGS("z") "K\0")), "a quantised tensor whose scales or zero points are no tensor"},
    {P(INT8(CHANNEL_AFFINE "]" LONGS("z") "K\0")), "a quantised tensor with 0 scales for an axis of 2"},
    {P(INT8(CHANNEL_AFFINE "](K\1Ne" LONGS("z") "K\0")),
     "a quantised tensor whose scales or zero points are no numbers"},
    {P(INT8(CHANNEL_AFFINE DOUBLES("s") "](K\1" HALF "eK\0")),
     "a quantised tensor whose scales or zero points are no numbers"},
    {P(INT8(CHANNEL_AFFINE TENSOR("DoubleStorage", "s", "K\2", ")", ")") LONGS("z") "K\0")),
     "a quantised tensor whose scales are no list of numbers"},
    {P(Q(STORAGE("CharStorage", "q", "K\6"), "K\6\x85", "K\1\x85", TENSOR_AFFINE HALF "K\0")),
     "a scale on a int8 tensor, which is not quantised"},
    {P(Q(STORAGE("QInt8Storage", "q", "K\6"), "K\6\x85", "K\2\x85", TENSOR_AFFINE HALF "K\0")),
     "a qint8 tensor of 1 dimensions over storage 'q': the storage holds 6 bytes, the view needs 11"},
    {P(Q(STORAGE("QUInt4x2Storage", "p", "K\3"), "K\7\x85", "K\1\x85", TENSOR_AFFINE HALF "K\0")),
     "a quint4x2 tensor of 1 dimensions over storage 'p': the storage holds 3 bytes, the view needs 4"},
    {P("ctorch._utils\n_rebuild_qtensor\n(NtR."), "_rebuild_qtensor takes 7 arguments"},
};

static void qparams_that_do_not_fit(void **state) {
  for (size_t i = 0; i < CKPT_COUNTOF(unreadable); i++) {
    ckpt_error err = {0};
    assert_null(read_with(*state, storages, unreadable[i].pickle, unreadable[i].n, &err));
    const char *said = strstr(err.message, ": ");
    assert_non_null(said);
    assert_string_equal(said + 2, unreadable[i].message);
    assert_int_equal(err.status, CKPT_E_CORRUPT);
    assert_in_range(err.position, 0, unreadable[i].n);
  }
}

static const bad_case unusable[] = {
    {P(INT8(TENSOR_AFFINE "K\0K\0")), "a quantised tensor whose scale 0 is 0, not a positive number"},
    {P(INT8(TENSOR_AFFINE "G\x7f\xf0\0\0\0\0\0\0K\0")),
     "a quantised tensor whose scale 0 is inf, not a positive number"},
    {P(INT8(TENSOR_AFFINE "J\xff\xff\xff\xffK\0")), "a quantised tensor whose scale 0 is -1, not a positive number"},
    {P(INT8(CHANNEL_AFFINE DOUBLES("n") LONGS("z") "K\0")),
     "a quantised tensor whose scale 1 is nan, not a positive number"},
    {P(INT8(CHANNEL_AFFINE DOUBLES("o") LONGS("z") "K\0")),
     "a quantised tensor whose scale 0 is 0, not a positive number"},
    {P(INT8(CHANNEL_AFFINE DOUBLES("s") FLOAT_ZEROS "K\0")),
     "a quantised tensor whose zero point 1 is inf, no finite number"},
};

static void scales_that_are_no_numbers(void **state) {
  for (size_t i = 0; i < CKPT_COUNTOF(unusable); i++) {
    ckpt_error err = {0};
    ckpt_tensor *t = NULL;
    const ckpt_value *v = must_read(*state, storages, unusable[i].pickle, unusable[i].n);
    assert_int_equal(ckpt_value_dequantize(&t, v, &err), CKPT_E_CORRUPT);
    assert_string_equal(err.message, unusable[i].message);
    assert_int_equal(ckpt_value_check(v, &err), CKPT_E_CORRUPT);
    assert_string_equal(err.message, unusable[i].message);
  }
}

static void assert_numbers(ckpt_document *doc, const char *pickle, size_t n, const float *wanted) {
  ckpt_error err = {0};
  ckpt_tensor *t = NULL;
  const ckpt_value *v = must_read(doc, storages, pickle, n);
  if (ckpt_value_dequantize(&t, v, &err) != CKPT_OK) fail_msg("%s", err.message);
  assert_int_equal(ckpt_tensor_dtype(t), CKPT_F32);
  assert_memory_equal(data_of(t), wanted, 6 * sizeof *wanted);
  assert_int_equal(ckpt_value_check(v, NULL), CKPT_OK);
  ckpt_tensor_release(t);
}

static void numbers(void **state) {
  ckpt_document *doc = *state;
  static const float by_row[] = {-1, -0.5, 0, 6, 8, 10};
  assert_numbers(doc, P(INT8(TENSOR_AFFINE HALF "K\1")), (const float[]){-1, -0.5, 0, 0.5, 1, 1.5});
  assert_numbers(doc, P(INT8(CHANNEL_AFFINE DOUBLES("s") LONGS("z") "K\0")), by_row);
  assert_numbers(doc, P(INT8("ctorch\nper_channel_affine_float_qparams\n" DOUBLES("s") LONGS("z") "K\0")), by_row);
  assert_numbers(doc,
                 P(INT8(CHANNEL_AFFINE "](" HALF "K\2e](K\1J\xff\xff\xff\xff"
                                       "eK\0")),
                 by_row);
  assert_numbers(doc,
                 P(Q(STORAGE("QUInt4x2Storage", "p", "K\3"), "K\2K\3\x86", "K\3K\1\x86", TENSOR_AFFINE HALF "K\0")),
                 (const float[]){0.5, 1, 1.5, 2, 0, 7.5});
}

/* A view keeps the one scale of its tensor; scales along an axis mean nothing for another shape. */
static void views(void **state) {
  ckpt_tensor *t = NULL;
  ckpt_quantization q;
  ckpt_error err = {0};
  const ckpt_value *v = must_read(*state, storages, P(INT8(TENSOR_AFFINE HALF "K\1")));
  const int64_t shape[] = {2}, stride[] = {3};
  assert_int_equal(ckpt_tensor_view(&t, ckpt_value_tensor(v), 1, 1, shape, stride, NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_quantization(&q, t, NULL), CKPT_OK);
  assert_int_equal(q.zero_point, 1);
  ckpt_tensor_release(t);
  v = must_read(*state, storages, P(INT8(CHANNEL_AFFINE DOUBLES("s") LONGS("z") "K\0")));
  assert_int_equal(ckpt_value_quantization(&q, v, NULL), CKPT_OK);
  assert_int_equal(q.axis, 0);
  assert_string_equal(ckpt_qscheme_name(q.scheme), "per_channel_affine");
  assert_int_equal(ckpt_tensor_view(&t, ckpt_value_tensor(v), 1, 1, shape, stride, NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_quantization(&q, t, &err), CKPT_E_TYPE);
  assert_string_equal(err.message, "a quantised tensor whose scale is not known");
  ckpt_tensor_release(t);
  assert_int_equal(ckpt_value_quantization(&q, ckpt_document_none(*state), &err), CKPT_E_TYPE);
  assert_string_equal(err.message, "a None where a quantised tensor was expected");
}

/* Put into another document by its tensor alone, it is written as the file said it. */
static void words(void **state) {
  static const char *const schemes[] = {INT8(TENSOR_AFFINE HALF "K\1"),
                                        INT8(CHANNEL_AFFINE DOUBLES("s") LONGS("z") "K\0")};
  static const size_t sizes[] = {sizeof INT8(TENSOR_AFFINE HALF "K\1") - 1,
                                 sizeof INT8(CHANNEL_AFFINE DOUBLES("s") LONGS("z") "K\0") - 1};
  for (size_t i = 0; i < 2; i++) {
    ckpt_document *other = new_document();
    ckpt_value *copy = NULL;
    ckpt_pickle p = {0};
    const ckpt_value *v = must_read(*state, storages, schemes[i], sizes[i]);
    assert_int_equal(ckpt_value_new_tensor(&copy, other, ckpt_value_tensor(v), NULL), CKPT_OK);
    assert_int_equal(ckpt_pickle_write(&p, copy, NULL), CKPT_OK);
    assert_int_equal(p.n_storages, i == 0 ? 1 : 3);
    assert_ptr_equal(p.storages[0], ckpt_tensor_storage(ckpt_value_tensor(v)));
    const span again[] = {{"0", integers, 6}, {"1", scales, 16}, {"2", zeros, 16}, {NULL, NULL, 0}};
    const ckpt_value *read = must_read(other, again, (const char *)p.bytes, p.n);
    char a[65], b[65];
    ckpt_tensor *x = NULL, *y = NULL;
    assert_int_equal(ckpt_value_dequantize(&x, v, NULL), CKPT_OK);
    assert_int_equal(ckpt_value_dequantize(&y, read, NULL), CKPT_OK);
    assert_int_equal(ckpt_tensor_sha256(a, x, NULL), CKPT_OK);
    assert_int_equal(ckpt_tensor_sha256(b, y, NULL), CKPT_OK);
    assert_string_equal(a, b);
    ckpt_tensor_release(x);
    ckpt_tensor_release(y);
    ckpt_pickle_free(&p);
    ckpt_document_release(other);
  }
}

#define WITH_DOCUMENT(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      WITH_DOCUMENT(qparams_that_do_not_fit),
      WITH_DOCUMENT(scales_that_are_no_numbers),
      WITH_DOCUMENT(numbers),
      WITH_DOCUMENT(views),
      WITH_DOCUMENT(words),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
