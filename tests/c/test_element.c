/* test_element.c - single numbers in and out of tensors of every dtype, and what a dtype does not hold. */
#include <math.h>

#include "element.h"
#include "tensor_fixture.h"

#define OK(call) assert_int_equal((call), CKPT_OK)

static ckpt_tensor *fresh(ckpt_dtype dtype, int ndim, const int64_t *shape) {
  ckpt_tensor *t = NULL;
  OK(ckpt_tensor_new(&t, dtype, ndim, shape, NULL));
  return t;
}

static ckpt_scalar complex_number(double re, double im) {
  return (ckpt_scalar){.kind = CKPT_SCALAR_COMPLEX, .real = re, .imag = im};
}

/* ---- there and back ---- */

typedef struct trip {
  ckpt_dtype dtype;
  ckpt_scalar in, out;
} trip;

#define WHOLE(v) \
  { CKPT_SCALAR_INT, (v), 0, 0 }
#define UINT(v) \
  { CKPT_SCALAR_UINT, (int64_t)(v), 0, 0 }
#define TRUTH(v) \
  { CKPT_SCALAR_BOOL, (v), 0, 0 }
#define REAL(v) \
  { CKPT_SCALAR_FLOAT, 0, (v), 0 }
#define COMPLEX(re, im) \
  { CKPT_SCALAR_COMPLEX, 0, (re), (im) }

static const trip trips[] = {
    {CKPT_BOOL, TRUTH(1), TRUTH(1)},
    {CKPT_BOOL, WHOLE(1), TRUTH(1)},
    {CKPT_BOOL, REAL(0), TRUTH(0)},
    {CKPT_U8, WHOLE(255), WHOLE(255)},
    {CKPT_U8, TRUTH(1), WHOLE(1)},
    {CKPT_I8, WHOLE(-128), WHOLE(-128)},
    {CKPT_I16, REAL(-32768), WHOLE(-32768)},
    {CKPT_U16, WHOLE(65535), WHOLE(65535)},
    {CKPT_I32, WHOLE(INT32_MIN), WHOLE(INT32_MIN)},
    {CKPT_U32, WHOLE(UINT32_MAX), WHOLE(UINT32_MAX)},
    {CKPT_I64, WHOLE(INT64_MIN), WHOLE(INT64_MIN)},
    {CKPT_I64, WHOLE((INT64_C(1) << 53) + 1), WHOLE((INT64_C(1) << 53) + 1)},
    {CKPT_U64, WHOLE(INT64_MAX), WHOLE(INT64_MAX)},
    {CKPT_U64, UINT(UINT64_MAX), UINT(UINT64_MAX)},
    {CKPT_U64, REAL(0x1p63), UINT(UINT64_C(1) << 63)},
    {CKPT_F64, REAL(0.1), REAL(0.1)},
    {CKPT_F64, UINT(UINT64_MAX), REAL(0x1p64)},
    {CKPT_F64, WHOLE(3), REAL(3)},
    {CKPT_F32, REAL(0.1), REAL((double)0.1f)},
    {CKPT_F16, REAL(65504), REAL(65504)},
    {CKPT_F16, REAL((double)INFINITY), REAL((double)INFINITY)},
    {CKPT_BF16, REAL(-2.5), REAL(-2.5)},
    {CKPT_BF16, COMPLEX(1.5, 0), REAL(1.5)},
    {CKPT_F8_E5M2, REAL(-1.75), REAL(-1.75)},
    {CKPT_F8_E4M3FN, WHOLE(448), REAL(448)},
    {CKPT_F8_E5M2FNUZ, REAL(57344), REAL(57344)},
    {CKPT_F8_E4M3FNUZ, REAL(240), REAL(240)},
    {CKPT_F8_E8M0FNU, REAL(0.25), REAL(0.25)},
    {CKPT_C32, COMPLEX(1.5, -2), COMPLEX(1.5, -2)},
    {CKPT_BC32, COMPLEX(1.5, -2), COMPLEX(1.5, -2)},
    {CKPT_C64, REAL(3), COMPLEX(3, 0)},
    {CKPT_C64, WHOLE(3), COMPLEX(3, 0)},
    {CKPT_C128, COMPLEX(0.1, 1e300), COMPLEX(0.1, 1e300)},
};

static void numbers_come_back(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(trips); i++) {
    const trip *row = &trips[i];
    ckpt_tensor *t = fresh(row->dtype, 2, DIMS(2, 3));
    ckpt_scalar got = {.kind = CKPT_SCALAR_BOOL, .whole = 99}, other;
    OK(ckpt_tensor_set(t, DIMS(1, -1), row->in, NULL));
    OK(ckpt_tensor_get(&got, t, DIMS(-1, 2), NULL));
    assert_int_equal(got.kind, row->out.kind);
    assert_true(got.whole == row->out.whole && got.real == row->out.real && got.imag == row->out.imag);
    OK(ckpt_tensor_get(&other, t, DIMS(1, 1), NULL)); /* its neighbour is untouched */
    assert_true(other.whole == 0 && (other.real == 0 || row->dtype == CKPT_F8_E8M0FNU) && other.imag == 0);
    ckpt_tensor_release(t);
  }
}

static void nan_is_a_number_too(void **state) {
  (void)state;
  static const ckpt_dtype dtypes[] = {CKPT_F64, CKPT_F32, CKPT_F16, CKPT_BF16, CKPT_F8_E4M3FN, CKPT_F8_E5M2FNUZ};
  for (size_t i = 0; i < CKPT_COUNTOF(dtypes); i++) {
    ckpt_tensor *t = fresh(dtypes[i], 0, NULL);
    ckpt_scalar got;
    OK(ckpt_tensor_set(t, NULL, ckpt_scalar_double((double)NAN), NULL));
    OK(ckpt_tensor_get(&got, t, NULL, NULL));
    assert_true(isnan(got.real));
    ckpt_tensor_release(t);
  }
}

/* An integer goes to a float in one step, as a cast does it. */
static void integers_are_rounded_once(void **state) {
  (void)state;
  ckpt_tensor *t = fresh(CKPT_F32, 0, NULL);
  ckpt_scalar got;
  OK(ckpt_tensor_fill(t, ckpt_scalar_int((INT64_C(1) << 60) + (INT64_C(1) << 36) + 1), NULL));
  OK(ckpt_tensor_get(&got, t, NULL, NULL));
  assert_true(got.real == 0x1.000002p60);
  ckpt_tensor_release(t);
}

/* ---- what does not fit ---- */

typedef struct refusal {
  ckpt_dtype dtype;
  ckpt_scalar value;
  ckpt_status status;
  const char *message;
} refusal;

static const refusal refusals[] = {
    {CKPT_U8, WHOLE(256), CKPT_E_RANGE, "256 does not fit uint8"},
    {CKPT_U8, WHOLE(-1), CKPT_E_RANGE, "-1 does not fit uint8"},
    {CKPT_I8, WHOLE(128), CKPT_E_RANGE, "128 does not fit int8"},
    {CKPT_I8, WHOLE(-129), CKPT_E_RANGE, "-129 does not fit int8"},
    {CKPT_U32, WHOLE(INT64_C(1) << 32), CKPT_E_RANGE, "4294967296 does not fit uint32"},
    {CKPT_U64, WHOLE(-1), CKPT_E_RANGE, "-1 does not fit uint64"},
    {CKPT_I64, UINT(UINT64_MAX), CKPT_E_RANGE, "18446744073709551615 does not fit int64"},
    {CKPT_I64, REAL(0x1p63), CKPT_E_RANGE, "9223372036854775808 does not fit int64"},
    {CKPT_I64, REAL(1e300), CKPT_E_RANGE, "1e+300 does not fit int64"},
    {CKPT_I64, REAL(-1e300), CKPT_E_RANGE, "-1e+300 does not fit int64"},
    {CKPT_BOOL, WHOLE(2), CKPT_E_RANGE, "2 does not fit bool"},
    {CKPT_I32, REAL(0.5), CKPT_E_TYPE, "0.5 is no whole number, int32 holds nothing else"},
    {CKPT_I32, COMPLEX(1, 1), CKPT_E_TYPE, "1+1i has an imaginary part, int32 has none"},
    {CKPT_F32, COMPLEX(1, -1), CKPT_E_TYPE, "1-1i has an imaginary part, float32 has none"},
    {CKPT_F16, REAL(65520), CKPT_E_RANGE, "65520 does not fit float16"},
    {CKPT_F16, WHOLE(INT64_MIN), CKPT_E_RANGE, "-9.22337e+18 does not fit float16"},
    {CKPT_F32, REAL(1e39), CKPT_E_RANGE, "1e+39 does not fit float32"},
    {CKPT_BF16, REAL(-3.4e38), CKPT_E_RANGE, "-3.4e+38 does not fit bfloat16"},
    {CKPT_F8_E5M2, REAL(61440), CKPT_E_RANGE, "61440 does not fit float8_e5m2"},
    {CKPT_F8_E4M3FN, REAL(465), CKPT_E_RANGE, "465 does not fit float8_e4m3fn"},
    {CKPT_F8_E4M3FN, WHOLE(500), CKPT_E_RANGE, "500 does not fit float8_e4m3fn"},
    {CKPT_F8_E4M3FN, REAL((double)INFINITY), CKPT_E_RANGE, "inf does not fit float8_e4m3fn"},
    {CKPT_F8_E4M3FNUZ, REAL(248), CKPT_E_RANGE, "248 does not fit float8_e4m3fnuz"},
    {CKPT_F8_E5M2FNUZ, REAL((double)INFINITY), CKPT_E_RANGE, "inf does not fit float8_e5m2fnuz"},
    {CKPT_F8_E8M0FNU, REAL(-1), CKPT_E_RANGE, "-1 does not fit float8_e8m0fnu"},
    {CKPT_C32, COMPLEX(0, 1e6), CKPT_E_RANGE, "1e+06 does not fit float16"},
    {CKPT_QI8, WHOLE(1), CKPT_E_UNSUPPORTED, "a number is not defined for qint8: its elements are no numbers"},
    {CKPT_BITS8, WHOLE(1), CKPT_E_UNSUPPORTED, "a number is not defined for bits8: its elements are no numbers"},
};

static void numbers_that_do_not_fit(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(refusals); i++) {
    ckpt_tensor *t = fresh(refusals[i].dtype, 1, DIMS(2));
    ckpt_error err = {.status = CKPT_OK};
    assert_int_equal(ckpt_tensor_set(t, DIMS(0), refusals[i].value, &err), refusals[i].status);
    assert_string_equal(err.message, refusals[i].message);
    err.message[0] = '\0';
    assert_int_equal(ckpt_tensor_fill(t, refusals[i].value, &err), refusals[i].status);
    assert_string_equal(err.message, refusals[i].message);
    ckpt_tensor_release(t);
  }
}

/* ---- tensors ---- */

static void indices(void **state) {
  (void)state;
  ckpt_tensor *t = counted(2, DIMS(2, 3)), *bits = fresh(CKPT_BITS8, 1, DIMS(1)), *meta = meta_of(CKPT_F32, 0, NULL);
  ckpt_scalar got = {.kind = CKPT_SCALAR_INT, .whole = 77};
  ckpt_error err = {.status = CKPT_OK};
  assert_int_equal(ckpt_tensor_get(&got, t, DIMS(1, 3), &err), CKPT_E_RANGE);
  assert_string_equal(err.message, "index 3 is outside dimension 1 of size 3");
  assert_int_equal(ckpt_tensor_set(t, DIMS(-3, 0), got, &err), CKPT_E_RANGE);
  assert_string_equal(err.message, "index -3 is outside dimension 0 of size 2");
  assert_int_equal(ckpt_tensor_get(&got, bits, DIMS(0), &err), CKPT_E_UNSUPPORTED);
  assert_string_equal(err.message, "an element is not defined for bits8: its elements are no numbers");
  assert_int_equal(ckpt_tensor_get(&got, meta, NULL, &err), CKPT_E_ARGUMENT);
  assert_string_equal(err.message, "a meta tensor has no data");
  assert_int_equal(got.whole, 77);
  ckpt_tensor_release(t);
  ckpt_tensor_release(bits);
  ckpt_tensor_release(meta);
}

static void views_are_written_through(void **state) {
  (void)state;
  ckpt_tensor *t = counted(2, DIMS(2, 3)), *column = NULL, *wide = NULL;
  OK(ckpt_tensor_select(&column, t, 1, 1, NULL));
  OK(ckpt_tensor_fill(column, ckpt_scalar_int(-1), NULL));
  OK(ckpt_tensor_expand(&wide, column, 2, DIMS(4, 2), NULL)); /* one place, many times */
  OK(ckpt_tensor_set(wide, DIMS(3, 1), ckpt_scalar_int(-2), NULL));
  ckpt_tensor_release(wide);
  ckpt_tensor_release(column);
  assert_ints(t, INTS(0, -1, 2, 3, -2, 5));
}

static void what_is_read_only(void **state) {
  (void)state;
  source s = {0};
  ckpt_error err = {.status = CKPT_OK};
  ckpt_tensor *t = sourced(&s, CKPT_F32, 1, DIMS(2)), *meta = meta_of(CKPT_F32, 1, DIMS(2)), *neg = NULL;
  ckpt_tensor *base = fresh(CKPT_F32, 1, DIMS(2));
  ckpt_tensor_spec spec = ckpt_tensor_spec_of(base);
  spec.neg = true;
  OK(ckpt_tensor_make(&neg, ckpt_tensor_storage(base), &spec, NULL));
  assert_int_equal(ckpt_tensor_fill(t, ckpt_scalar_int(1), &err), CKPT_E_ARGUMENT);
  assert_string_equal(err.message, "the tensor is read-only; a clone of it is not");
  assert_int_equal(ckpt_tensor_set(t, DIMS(0), ckpt_scalar_int(1), NULL), CKPT_E_ARGUMENT);
  assert_int_equal(ckpt_tensor_fill(meta, ckpt_scalar_int(1), NULL), CKPT_E_ARGUMENT);
  assert_int_equal(ckpt_tensor_fill(neg, ckpt_scalar_int(1), &err), CKPT_E_UNSUPPORTED);
  assert_string_equal(err.message, "the tensor has a conjugate or negative bit; a clone of it has none");
  assert_int_equal(s.fetched, 0);
  ckpt_tensor *all[] = {t, meta, neg, base};
  for (size_t i = 0; i < CKPT_COUNTOF(all); i++) ckpt_tensor_release(all[i]);
}

static void fills(void **state) {
  (void)state;
  ckpt_tensor *t = fresh(CKPT_C64, 2, DIMS(3, 5)), *empty = fresh(CKPT_F32, 2, DIMS(0, 2));
  OK(ckpt_tensor_fill(t, complex_number(1, -2), NULL));
  for (int64_t i = 0; i < 15; i++) {
    ckpt_scalar got;
    OK(ckpt_tensor_get(&got, t, DIMS(i / 5, i % 5), NULL));
    assert_true(got.real == 1 && got.imag == -2);
  }
  OK(ckpt_tensor_fill(empty, ckpt_scalar_int(1), NULL));
  ckpt_tensor_release(t);
  ckpt_tensor_release(empty);
}

static void bits_are_applied(void **state) {
  (void)state;
  ckpt_tensor *base = fresh(CKPT_C128, 1, DIMS(1)), *t = NULL;
  ckpt_scalar got;
  OK(ckpt_tensor_fill(base, complex_number(1, 2), NULL));
  ckpt_tensor_spec spec = ckpt_tensor_spec_of(base);
  spec.conj = spec.neg = true;
  OK(ckpt_tensor_make(&t, ckpt_tensor_storage(base), &spec, NULL));
  OK(ckpt_tensor_get(&got, t, DIMS(0), NULL));
  assert_true(got.real == -1 && got.imag == 2);
  ckpt_tensor_release(t);
  ckpt_tensor_release(base);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(numbers_come_back),
      cmocka_unit_test(nan_is_a_number_too),
      cmocka_unit_test(integers_are_rounded_once),
      cmocka_unit_test(numbers_that_do_not_fit),
      cmocka_unit_test(indices),
      cmocka_unit_test(views_are_written_through),
      cmocka_unit_test(what_is_read_only),
      cmocka_unit_test(fills),
      cmocka_unit_test(bits_are_applied),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
