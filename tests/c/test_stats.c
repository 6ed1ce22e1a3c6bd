/* test_stats.c - statistics against numbers worked out by hand and a two-pass reference; equality bit by bit. */
#include <math.h>

#include "tensor_fixture.h"

#define OK(call) assert_int_equal((call), CKPT_OK)

static const double inf = (double)INFINITY, nan_ = (double)NAN;

static ckpt_tensor *tensor_of(ckpt_dtype dtype, int64_t n, const double *values) {
  ckpt_tensor *wide = NULL, *t = NULL;
  OK(ckpt_tensor_borrow(&wide, CKPT_F64, (void *)(uintptr_t)values, 1, &n, NULL));
  OK(ckpt_tensor_to(&t, wide, dtype, NULL));
  ckpt_tensor_release(wide);
  return t;
}

#define OF(dtype, ...) tensor_of(dtype, CKPT_COUNTOF(((const double[]){__VA_ARGS__})), ((const double[]){__VA_ARGS__}))

/* Of a tensor that is released. */
static ckpt_stats stats_of(ckpt_tensor *t) {
  ckpt_stats s;
  OK(ckpt_tensor_stats(&s, t, NULL));
  ckpt_tensor_release(t);
  return s;
}

static bool near(double a, double b) { return fabs(a - b) <= 1e-12 * fabs(b); }

/* ---- values ---- */

static void a_few_numbers(void **state) {
  (void)state;
  static const ckpt_dtype dtypes[] = {CKPT_F64,     CKPT_F32,       CKPT_F16,         CKPT_BF16,
                                      CKPT_F8_E5M2, CKPT_F8_E4M3FN, CKPT_F8_E4M3FNUZ, CKPT_F8_E5M2FNUZ,
                                      CKPT_I8,      CKPT_I16,       CKPT_I32,         CKPT_I64};
  for (size_t i = 0; i < CKPT_COUNTOF(dtypes); i++) {
    ckpt_stats s = stats_of(OF(dtypes[i], -2, 0, 4, 6));
    assert_true(s.count == 4 && s.nan == 0 && s.infinite == 0 && s.zeros == 1);
    assert_true(s.min == -2 && s.max == 6 && s.mean == 2);
    assert_true(near(s.std, sqrt(40.0 / 3))); /* torch.std: divisor n-1 */
  }
}

static void unsigned_numbers(void **state) {
  (void)state;
  static const ckpt_dtype dtypes[] = {CKPT_U8, CKPT_U16, CKPT_U32, CKPT_U64};
  for (size_t i = 0; i < CKPT_COUNTOF(dtypes); i++) {
    ckpt_stats s = stats_of(OF(dtypes[i], 1, 3, 0));
    assert_true(s.min == 0 && s.max == 3 && near(s.mean, 4.0 / 3) && s.zeros == 1);
  }
  ckpt_stats flags = stats_of(OF(CKPT_BOOL, 1, 0, 1, 1));
  assert_true(flags.min == 0 && flags.max == 1 && flags.mean == 0.75 && flags.std == 0.5);
}

static void what_is_not_finite_is_counted_and_left_out(void **state) {
  (void)state;
  ckpt_stats s = stats_of(OF(CKPT_F32, nan_, 1, inf, 3, -inf, nan_, -0.0, nan_));
  assert_true(s.count == 8 && s.nan == 3 && s.infinite == 2 && s.zeros == 1);
  assert_true(s.min == 0 && s.max == 3 && near(s.mean, 4.0 / 3));
}

static void of_nothing_there_is_nothing(void **state) {
  (void)state;
  ckpt_stats empty = stats_of(counted(2, DIMS(0, 3))), only_nan = stats_of(OF(CKPT_F16, nan_, inf));
  assert_true(empty.count == 0 && isnan(empty.min) && isnan(empty.max) && isnan(empty.mean) && isnan(empty.std));
  assert_true(only_nan.count == 2 && isnan(only_nan.min) && isnan(only_nan.mean) && isnan(only_nan.std));
  ckpt_stats one = stats_of(OF(CKPT_F32, 5));
  assert_true(one.min == 5 && one.max == 5 && one.mean == 5 && isnan(one.std));
}

static void complex_by_magnitude(void **state) {
  (void)state;
  static const float values[] = {3, -4, 0, 0, NAN, 1, 1, INFINITY, -INFINITY, NAN};
  ckpt_tensor *t = NULL;
  OK(ckpt_tensor_borrow(&t, CKPT_C64, (void *)(uintptr_t)values, 1, DIMS(5), NULL));
  ckpt_stats s = stats_of(t);
  assert_true(s.count == 5 && s.nan == 2 && s.infinite == 1 && s.zeros == 1);
  assert_true(s.min == 0 && s.max == 5 && s.mean == 2.5);
}

/* A mean far larger than the deviation: the naive sum of squares would be wrong in the first digit. */
static void a_large_mean_costs_no_digits(void **state) {
  (void)state;
  enum { N = 100001 };
  double *values = malloc(N * sizeof *values);
  assert_non_null(values);
  double squares = 0;
  for (int i = 0; i < N; i++) {
    values[i] = 1e9 + i % 7 - 3;
    squares += (i % 7 - 3) * (i % 7 - 3);
  }
  ckpt_stats s = stats_of(tensor_of(CKPT_F64, N, values));
  double mean = 0; /* of the offsets, exact: N = 14285 x 7 + 6 */
  for (int i = 0; i < N; i++) mean += (double)(i % 7 - 3) / N;
  assert_true(fabs(s.mean - 1e9 - mean) < 1e-6);
  assert_true(fabs(s.std - sqrt((squares - N * mean * mean) / (N - 1))) < 1e-9);
  free(values);
}

static void blocks_are_merged(void **state) {
  (void)state;
  enum { N = 12345 };
  static double values[N];
  uint64_t seed = 88172645463325252u;
  double mean = 0, squares = 0, least = inf;
  for (int i = 0; i < N; i++) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    values[i] = (double)(int64_t)seed / 0x1p60 + i;
    mean += values[i] / N;
    if (values[i] < least) least = values[i];
  }
  for (int i = 0; i < N; i++) squares += (values[i] - mean) * (values[i] - mean);
  ckpt_stats s = stats_of(tensor_of(CKPT_F64, N, values));
  assert_true(fabs(s.mean - mean) < 1e-9 && s.min == least);
  assert_true(fabs(s.std - sqrt(squares / (N - 1))) < 1e-9);
}

static void views_and_bits(void **state) {
  (void)state;
  ckpt_tensor *base = OF(CKPT_F32, 1, 2, 3, 4, 5, 6), *neg = NULL;
  ckpt_tensor_spec spec = {.dtype = CKPT_F32, .ndim = 1, .shape = DIMS(3), .stride = DIMS(2), .offset = 1, .neg = true};
  OK(ckpt_tensor_make(&neg, ckpt_tensor_storage(base), &spec, NULL));
  ckpt_stats s = stats_of(neg);
  assert_true(s.min == -6 && s.max == -2 && s.mean == -4 && s.std == 2);
  ckpt_tensor_release(base);
}

static void refused_statistics(void **state) {
  (void)state;
  ckpt_error err = {.status = CKPT_OK};
  ckpt_stats s = {.count = 77};
  ckpt_tensor *meta = meta_of(CKPT_F32, 1, DIMS(2)), *q = NULL, *base = OF(CKPT_F32, 1), *wide = NULL;
  OK(ckpt_tensor_new(&q, CKPT_QU8, 1, DIMS(2), NULL));
  OK(ckpt_tensor_expand(&wide, base, 1, DIMS(INT64_C(1) << 40), NULL));
  assert_int_equal(ckpt_tensor_stats(&s, meta, &err), CKPT_E_ARGUMENT);
  assert_string_equal(err.message, "a meta tensor has no data");
  assert_int_equal(ckpt_tensor_stats(&s, q, &err), CKPT_E_UNSUPPORTED);
  assert_string_equal(err.message, "stats is not defined for quint8: its elements are no numbers");
  assert_int_equal(ckpt_tensor_stats(&s, wide, &err), CKPT_E_LIMIT);
  assert_int_equal(s.count, 77);
  ckpt_tensor *all[] = {meta, q, base, wide};
  for (size_t i = 0; i < CKPT_COUNTOF(all); i++) ckpt_tensor_release(all[i]);
}

/* ---- equality ---- */

static bool equal(const ckpt_tensor *a, const ckpt_tensor *b) {
  bool same = false, back = true;
  OK(ckpt_tensor_equal(&same, a, b, NULL));
  OK(ckpt_tensor_equal(&back, b, a, NULL));
  assert_int_equal(same, back);
  return same;
}

/* Both are released. */
static bool both_equal(ckpt_tensor *a, ckpt_tensor *b) {
  bool same = equal(a, b);
  ckpt_tensor_release(a);
  ckpt_tensor_release(b);
  return same;
}

static void equality_is_of_bits(void **state) {
  (void)state;
  assert_true(both_equal(OF(CKPT_F32, 1, nan_), OF(CKPT_F32, 1, nan_)));
  assert_false(both_equal(OF(CKPT_F32, 0.0), OF(CKPT_F32, -0.0)));
  assert_false(both_equal(OF(CKPT_F32, 1), OF(CKPT_F64, 1)));
  assert_false(both_equal(OF(CKPT_F32, 1), OF(CKPT_F32, 1, 1)));
  assert_false(both_equal(counted(2, DIMS(2, 3)), counted(2, DIMS(3, 2))));
  assert_true(both_equal(counted(2, DIMS(0, 3)), counted(2, DIMS(0, 3))));
  assert_true(both_equal(meta_of(CKPT_F32, 1, DIMS(9)), meta_of(CKPT_F32, 1, DIMS(9))));
  assert_false(both_equal(meta_of(CKPT_I32, 1, DIMS(9)), counted(1, DIMS(9))));
}

static void equality_is_of_the_logical_order(void **state) {
  (void)state;
  ckpt_tensor *t = counted(2, DIMS(40, 50)), *across = NULL, *copy = NULL;
  OK(ckpt_tensor_transpose(&across, t, 0, 1, NULL));
  OK(ckpt_tensor_contiguous(&copy, across, NULL));
  assert_true(equal(across, copy));
  OK(ckpt_tensor_set(copy, DIMS(-1, -1), ckpt_scalar_int(0), NULL));
  assert_false(equal(across, copy));
  ckpt_tensor *all[] = {t, across, copy};
  for (size_t i = 0; i < CKPT_COUNTOF(all); i++) ckpt_tensor_release(all[i]);
}

static void packed_equality(void **state) {
  (void)state;
  unsigned char a[] = {0x21, 0x43, 0x05}, b[] = {0x21, 0x43, 0x75}, c[] = {0x21, 0x43, 0x76}, d[] = {0x20, 0x43, 0x05};
  unsigned char *bytes[] = {a, b, c, d};
  ckpt_tensor *t[4] = {NULL};
  for (int i = 0; i < 4; i++) OK(ckpt_tensor_borrow(&t[i], CKPT_QU4X2, bytes[i], 1, DIMS(5), NULL));
  assert_true(equal(t[0], t[1])); /* the last nibble belongs to no element */
  assert_false(equal(t[0], t[2]));
  assert_false(equal(t[0], t[3]));
  for (int i = 0; i < 4; i++) ckpt_tensor_release(t[i]);
}

static void failing_sources(void **state) {
  (void)state;
  source s = {.fails = true};
  ckpt_tensor *t = sourced(&s, CKPT_I32, 1, DIMS(2)), *own = counted(1, DIMS(2));
  bool same = true;
  ckpt_stats stats;
  assert_int_equal(ckpt_tensor_equal(&same, t, own, NULL), CKPT_E_CORRUPT);
  assert_int_equal(ckpt_tensor_equal(&same, own, t, NULL), CKPT_E_CORRUPT);
  assert_true(same);
  assert_int_equal(ckpt_tensor_stats(&stats, t, NULL), CKPT_E_CORRUPT);
  ckpt_tensor_release(t);
  ckpt_tensor_release(own);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_few_numbers),
      cmocka_unit_test(unsigned_numbers),
      cmocka_unit_test(what_is_not_finite_is_counted_and_left_out),
      cmocka_unit_test(of_nothing_there_is_nothing),
      cmocka_unit_test(complex_by_magnitude),
      cmocka_unit_test(a_large_mean_costs_no_digits),
      cmocka_unit_test(blocks_are_merged),
      cmocka_unit_test(views_and_bits),
      cmocka_unit_test(refused_statistics),
      cmocka_unit_test(equality_is_of_bits),
      cmocka_unit_test(equality_is_of_the_logical_order),
      cmocka_unit_test(packed_equality),
      cmocka_unit_test(failing_sources),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
