/* test_compare.c - ckpt_tensor_compare: every kind of number, NaN and infinities, tolerances, views, refusals. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tensor.h"

#define DIMS(...) ((const int64_t[]){__VA_ARGS__})

/* A tensor of one dimension over an array of the test's. */
static ckpt_tensor *over(ckpt_dtype dtype, void *data, int64_t n) {
  ckpt_tensor *t = NULL;
  assert_int_equal(CKPT_OK, ckpt_tensor_borrow(&t, dtype, data, 1, &n, NULL));
  return t;
}

static ckpt_comparison compare(const ckpt_tensor *a, const ckpt_tensor *b, const ckpt_compare_options *options) {
  ckpt_comparison r = {.differing = -7};
  ckpt_error err = {0};
  assert_int_equal(CKPT_OK, ckpt_tensor_compare(&r, a, b, options, &err));
  return r;
}

/* Compares two arrays of n elements, both ways: the result does not depend on the order. */
static ckpt_comparison arrays(ckpt_dtype da, void *a, ckpt_dtype db, void *b, int64_t n,
                              const ckpt_compare_options *options) {
  ckpt_tensor *ta = over(da, a, n), *tb = over(db, b, n);
  ckpt_comparison r = compare(ta, tb, options), back = compare(tb, ta, options);
  assert_int_equal(r.differing, back.differing);
  assert_int_equal(r.beyond, back.beyond);
  assert_int_equal(r.unordered, back.unordered);
  assert_int_equal(r.first, back.first);
  assert_true(r.max_abs == back.max_abs && r.max_rel == back.max_rel);
  ckpt_tensor_release(ta);
  ckpt_tensor_release(tb);
  return r;
}

static void assert_same(ckpt_comparison r) {
  assert_int_equal(0, r.differing);
  assert_int_equal(0, r.beyond);
  assert_int_equal(0, r.unordered);
  assert_int_equal(-1, r.first);
  assert_true(r.max_abs == 0 && r.max_rel == 0);
}

static void floats_by_value(void **state) {
  (void)state;
  float a[] = {1, -2, 0.0f, 4, 5}, b[] = {1, -2.5f, -0.0f, 4, 10};
  ckpt_comparison r = arrays(CKPT_F32, a, CKPT_F32, b, 5, NULL);
  assert_int_equal(2, r.differing);
  assert_int_equal(2, r.beyond);
  assert_int_equal(0, r.unordered);
  assert_int_equal(1, r.first);
  assert_true(r.max_abs == 5 && r.max_rel == 0.5);
  assert_same(arrays(CKPT_F32, a, CKPT_F32, a, 5, NULL));
}

static void tolerances(void **state) {
  (void)state;
  double a[] = {100, 1, 1e-9}, b[] = {101, 1.5, 0};
  ckpt_comparison r = arrays(CKPT_F64, a, CKPT_F64, b, 3, &(ckpt_compare_options){.rtol = 0.01});
  assert_int_equal(3, r.differing);
  assert_int_equal(2, r.beyond);
  assert_int_equal(1, r.first);
  assert_int_equal(1, arrays(CKPT_F64, a, CKPT_F64, b, 3, &(ckpt_compare_options){.atol = 0.5}).beyond);
  assert_int_equal(0, arrays(CKPT_F64, a, CKPT_F64, b, 3, &(ckpt_compare_options){0.01, 0.34, false}).beyond);
  assert_true(r.max_abs == 1 && r.max_rel == 1);
}

static void nan_and_infinity(void **state) {
  (void)state;
  float a[] = {NAN, NAN, 1, INFINITY, INFINITY, 3}, b[] = {NAN, 2, NAN, INFINITY, -INFINITY, 3};
  ckpt_comparison r = arrays(CKPT_F32, a, CKPT_F32, b, 6, NULL);
  assert_int_equal(4, r.differing);
  assert_int_equal(3, r.unordered);
  assert_int_equal(0, r.first);
  assert_true(isinf(r.max_abs) && isinf(r.max_rel));
  r = arrays(CKPT_F32, a, CKPT_F32, b, 6, &(ckpt_compare_options){1e300, 1e300, true});
  assert_int_equal(3, r.differing);
  assert_int_equal(3, r.beyond); /* no tolerance reaches a NaN or an infinity */
  assert_int_equal(2, r.unordered);
  assert_int_equal(1, r.first);
  float c[] = {NAN, 2};
  ckpt_tensor *t = over(CKPT_F32, c, 2);
  assert_int_equal(1, compare(t, t, NULL).unordered);
  assert_same(compare(t, t, &(ckpt_compare_options){.equal_nan = true}));
  ckpt_tensor_release(t);
}

static void integers_exactly(void **state) {
  (void)state;
  int64_t a[] = {INT64_C(9007199254740993), INT64_MIN, -1, 7}, b[] = {INT64_C(9007199254740992), INT64_MAX, 1, 7};
  ckpt_comparison r = arrays(CKPT_I64, a, CKPT_I64, b, 4, NULL);
  assert_int_equal(3, r.differing);
  assert_int_equal(0, r.first);
  assert_true(r.max_abs == 18446744073709551615.0);
  uint64_t u[] = {UINT64_MAX, 5, 7}, v[] = {UINT64_MAX - 1, 5, 9};
  r = arrays(CKPT_U64, u, CKPT_U64, v, 3, NULL);
  assert_int_equal(2, r.differing);
  assert_true(r.max_abs == 2);
  int64_t s[] = {-1, 5, 7};
  r = arrays(CKPT_U64, u, CKPT_I64, s, 3, NULL);
  assert_int_equal(1, r.differing); /* the same bits, another number */
  assert_true(r.max_abs == 18446744073709551616.0);
  int8_t small[] = {-5, 100};
  int64_t wide[] = {-5, 101};
  r = arrays(CKPT_I8, small, CKPT_I64, wide, 2, NULL);
  assert_int_equal(1, r.differing);
  assert_int_equal(1, r.first);
  unsigned char flags[] = {1, 0}, numbers[] = {1, 0};
  assert_same(arrays(CKPT_BOOL, flags, CKPT_U8, numbers, 2, NULL));
  unsigned char odd[] = {2, 0};
  assert_same(arrays(CKPT_BOOL, flags, CKPT_BOOL, odd, 2, NULL)); /* any byte but 0 is true */
}

static void integers_beside_floats(void **state) {
  (void)state;
  int32_t a[] = {1, 2, 3};
  double b[] = {1, 2.5, NAN};
  ckpt_comparison r = arrays(CKPT_I32, a, CKPT_F64, b, 3, NULL);
  assert_int_equal(2, r.differing);
  assert_int_equal(1, r.unordered);
  assert_true(r.max_abs == 0.5 && r.max_rel == 0.2);
}

static void half_floats(void **state) {
  (void)state;
  uint16_t half[] = {0x3c00, 0xc000}, brain[] = {0x3f80, 0xc000}; /* 1, -2 */
  float single[] = {1, -2};
  assert_same(arrays(CKPT_F16, half, CKPT_F32, single, 2, NULL));
  assert_same(arrays(CKPT_BF16, brain, CKPT_F16, half, 2, NULL));
}

static void complex_numbers(void **state) {
  (void)state;
  float a[] = {1, 2, 3, 4, 0, NAN}, b[] = {1, 2, 6, 8, 0, NAN};
  ckpt_comparison r = arrays(CKPT_C64, a, CKPT_C64, b, 3, &(ckpt_compare_options){.equal_nan = true});
  assert_int_equal(1, r.differing);
  assert_int_equal(1, r.first);
  assert_true(r.max_abs == 5 && r.max_rel == 0.5);
  double wide[] = {1, 2, 3, 4, 0, 0}, real[] = {1, 3, 0};
  r = arrays(CKPT_C64, a, CKPT_C128, wide, 3, NULL);
  assert_int_equal(1, r.unordered);
  assert_int_equal(1, r.differing);
  r = arrays(CKPT_C128, wide, CKPT_F64, real, 3, NULL);
  assert_int_equal(2, r.differing); /* imaginary parts 2 and 4 */
  assert_true(r.max_abs == 4);
  float inf[] = {INFINITY, 1}, inf2[] = {INFINITY, 2};
  r = arrays(CKPT_C64, inf, CKPT_C64, inf2, 1, NULL);
  assert_int_equal(1, r.beyond);
  assert_true(r.max_abs == 1);
}

static void stored_integers(void **state) {
  (void)state;
  unsigned char a[] = {0xff, 0x12, 3}, b[] = {0x01, 0x12, 3};
  assert_true(arrays(CKPT_QI8, a, CKPT_QI8, b, 3, NULL).max_abs == 2);
  assert_true(arrays(CKPT_QU8, a, CKPT_QU8, b, 3, NULL).max_abs == 254);
  assert_int_equal(1, arrays(CKPT_BITS8, a, CKPT_BITS8, b, 3, NULL).differing);
  assert_int_equal(1, arrays(CKPT_QU4X2, a, CKPT_QU4X2, b, 6, NULL).differing);
  assert_same(arrays(CKPT_QU2X4, a, CKPT_QU2X4, a, 12, NULL));
}

/* Longer than a block, one side in reverse order of dimensions, a difference in the last element. */
static void views(void **state) {
  (void)state;
  enum { ROWS = 70, COLUMNS = 50 };
  static float a[ROWS][COLUMNS], b[COLUMNS][ROWS];
  for (int i = 0; i < ROWS; i++)
    for (int k = 0; k < COLUMNS; k++) a[i][k] = b[k][i] = (float)(i * COLUMNS + k);
  ckpt_tensor *ta = NULL, *tb = NULL, *view = NULL;
  assert_int_equal(CKPT_OK, ckpt_tensor_borrow(&ta, CKPT_F32, a, 2, DIMS(ROWS, COLUMNS), NULL));
  assert_int_equal(CKPT_OK, ckpt_tensor_borrow(&tb, CKPT_F32, b, 2, DIMS(COLUMNS, ROWS), NULL));
  assert_int_equal(CKPT_OK, ckpt_tensor_view(&view, tb, 0, 2, DIMS(ROWS, COLUMNS), DIMS(1, ROWS), NULL));
  assert_same(compare(ta, view, NULL));
  b[COLUMNS - 1][ROWS - 1] = 0;
  ckpt_comparison r = compare(ta, view, NULL);
  assert_int_equal(1, r.differing);
  assert_int_equal(ROWS * COLUMNS - 1, r.first);
  assert_true(r.max_abs == ROWS * COLUMNS - 1);
  ckpt_tensor_release(ta);
  ckpt_tensor_release(tb);
  ckpt_tensor_release(view);
}

static void signs_are_applied(void **state) {
  (void)state;
  float a[] = {1, -2}, b[] = {-1, 2};
  ckpt_storage *s = NULL;
  ckpt_tensor *neg = NULL, *plain = over(CKPT_F32, b, 2);
  assert_int_equal(CKPT_OK, ckpt_storage_borrow(&s, a, sizeof a, NULL));
  ckpt_tensor_spec spec = {.dtype = CKPT_F32, .ndim = 1, .shape = DIMS(2), .neg = true};
  assert_int_equal(CKPT_OK, ckpt_tensor_make(&neg, s, &spec, NULL));
  assert_same(compare(neg, plain, NULL));
  ckpt_storage_release(s);
  ckpt_tensor_release(neg);
  ckpt_tensor_release(plain);
}

static void nothing_to_compare(void **state) {
  (void)state;
  ckpt_tensor *a = NULL, *b = NULL;
  assert_int_equal(CKPT_OK, ckpt_tensor_new(&a, CKPT_F32, 2, DIMS(0, 3), NULL));
  assert_int_equal(CKPT_OK, ckpt_tensor_new(&b, CKPT_I64, 2, DIMS(0, 3), NULL));
  assert_same(compare(a, b, NULL));
  ckpt_tensor_release(a);
  ckpt_tensor_release(b);
  int64_t n = 5;
  double d = 5;
  assert_int_equal(CKPT_OK, ckpt_tensor_borrow(&a, CKPT_I64, &n, 0, NULL, NULL));
  assert_int_equal(CKPT_OK, ckpt_tensor_borrow(&b, CKPT_F64, &d, 0, NULL, NULL));
  assert_same(compare(a, b, NULL));
  ckpt_tensor_release(a);
  ckpt_tensor_release(b);
}

static void refuses(ckpt_status status, const char *message, const ckpt_tensor *a, const ckpt_tensor *b) {
  ckpt_comparison r = {.differing = -7};
  ckpt_error err = {0};
  assert_int_equal(status, ckpt_tensor_compare(&r, a, b, NULL, &err));
  assert_string_equal(message, err.message);
  assert_int_equal(-7, r.differing);
}

static void refusals(void **state) {
  (void)state;
  float f[4] = {0};
  ckpt_tensor *a = over(CKPT_F32, f, 4), *b = over(CKPT_F32, f, 3), *q = over(CKPT_QI8, f, 4), *meta = NULL;
  ckpt_tensor *spread = NULL, *packed = NULL, *part = NULL;
  assert_int_equal(CKPT_OK, ckpt_tensor_meta(&meta, CKPT_F32, 1, DIMS(4), NULL));
  refuses(CKPT_E_SHAPE, "tensors of different shapes cannot be compared", a, b);
  refuses(CKPT_E_UNSUPPORTED, "float32 cannot be compared with qint8", a, q);
  refuses(CKPT_E_ARGUMENT, "a meta tensor has no data", a, meta);
  refuses(CKPT_E_ARGUMENT, "a meta tensor has no data", meta, a);
  assert_int_equal(CKPT_OK, ckpt_tensor_view(&spread, a, 0, 1, DIMS(INT64_C(1) << 40), DIMS(0), NULL));
  refuses(CKPT_E_LIMIT, "the view spreads a storage of 16 bytes over 4398046511104", spread, spread);
  packed = over(CKPT_QU4X2, f, 8);
  assert_int_equal(CKPT_OK, ckpt_tensor_view(&part, packed, 1, 1, DIMS(2), DIMS(1), NULL));
  refuses(CKPT_E_UNSUPPORTED, "a quint4x2 view that is not contiguous cannot be taken apart: its elements share bytes",
          part, part);
  ckpt_tensor *all[] = {a, b, q, meta, spread, packed, part};
  for (size_t i = 0; i < CKPT_COUNTOF(all); i++) ckpt_tensor_release(all[i]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(floats_by_value),
      cmocka_unit_test(tolerances),
      cmocka_unit_test(nan_and_infinity),
      cmocka_unit_test(integers_exactly),
      cmocka_unit_test(integers_beside_floats),
      cmocka_unit_test(half_floats),
      cmocka_unit_test(complex_numbers),
      cmocka_unit_test(stored_integers),
      cmocka_unit_test(views),
      cmocka_unit_test(signs_are_applied),
      cmocka_unit_test(nothing_to_compare),
      cmocka_unit_test(refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
