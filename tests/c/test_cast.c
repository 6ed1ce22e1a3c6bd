/*
 * test_cast.c - casts between numbers: every bit pattern of the 8- and 16-bit floats both ways against a reference of
 * its own, rounding at every boundary, integers, saturation, NaN, complex numbers. tests/e2e/casts.sh has PyTorch's
 * word.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cast.h"

/* ---- reference: a 16-bit float by its definition, without the exponents' arithmetic of cast.c ---- */

typedef struct small_float {
  ckpt_dtype dtype;
  int exponent_bits, mantissa_bits;
} small_float;

static const small_float half = {CKPT_F16, 5, 10}, brain = {CKPT_BF16, 8, 7};

static double power_of_two(int e) {
  double v = 1;
  for (; e > 0; e--) v *= 2;
  for (; e < 0; e++) v /= 2;
  return v;
}

/* value = (-1)^s * 2^(E-bias) * 1.m, or 2^(1-bias) * 0.m for E = 0; the sign is not looked at */
static double magnitude(const small_float *f, unsigned bits) {
  unsigned top = (1u << f->exponent_bits) - 1, m = bits & ((1u << f->mantissa_bits) - 1);
  unsigned e = bits >> f->mantissa_bits & top;
  int bias = (int)(top >> 1);
  double fraction = (double)m / (double)(1u << f->mantissa_bits);
  if (e == top) return m == 0 ? (double)INFINITY : (double)NAN;
  return e == 0 ? fraction * power_of_two(1 - bias) : (1 + fraction) * power_of_two((int)e - bias);
}

static unsigned infinity_of(const small_float *f) { return ((1u << f->exponent_bits) - 1) << f->mantissa_bits; }

/* Nearest by bisection over all finite magnitudes, ties to the even pattern: patterns are ordered as their values are.
 */
static unsigned nearest(const small_float *f, double v) {
  unsigned low = 0, high = infinity_of(f), sign = signbit(v) ? 0x8000u : 0;
  v = fabs(v);
  while (high - low > 1) {
    unsigned mid = (low + high) / 2;
    if (magnitude(f, mid) <= v)
      low = mid;
    else
      high = mid;
  }
  if (magnitude(f, low) == v) return sign | low;
  double below = magnitude(f, low), above = below + (below - magnitude(f, low - 1));
  if (high != infinity_of(f)) above = magnitude(f, high); /* past the largest: as if the format went on */
  double down = v - below, up = above - v;
  bool take_high = isinf(v) || up < down || (up == down && high % 2 == 0);
  return sign | (take_high ? high : low);
}

/* ---- helpers ---- */

static double to_double(ckpt_dtype from, const void *bytes) {
  double d = -77;
  ckpt_cast_run(&d, CKPT_F64, bytes, from, 1);
  return d;
}

static unsigned to_small(const small_float *f, double v) {
  unsigned char bytes[2] = {0xee, 0xee};
  ckpt_cast_run(bytes, f->dtype, &v, CKPT_F64, 1);
  return ckpt_le16(bytes);
}

static void assert_same_double(double a, double b) {
  if (isnan(b)) {
    assert_true(isnan(a));
    return;
  }
  assert_true(a == b && !signbit(a) == !signbit(b));
}

/* ---- 16-bit floats ---- */

static void check_every_pattern(const small_float *f) {
  for (unsigned bits = 0; bits < 65536; bits++) {
    unsigned char bytes[2];
    ckpt_put16(bytes, (uint16_t)bits);
    double wanted = magnitude(f, bits & 0x7fff), got = to_double(f->dtype, bytes);
    assert_same_double(got, bits >= 0x8000 ? -wanted : wanted);
    if (isnan(wanted)) {
      unsigned back = to_small(f, got);
      assert_true((back & 0x7fff) > infinity_of(f));
    } else {
      assert_int_equal(to_small(f, got), bits);
    }
  }
}

static void every_float16(void **state) {
  (void)state;
  check_every_pattern(&half);
}

static void every_bfloat16(void **state) {
  (void)state;
  check_every_pattern(&brain);
}

/* At and on both sides of the middle between every two neighbours, and of the values themselves. */
static void check_rounding(const small_float *f) {
  for (unsigned bits = 0; bits < infinity_of(f); bits++) {
    double here = magnitude(f, bits), next = magnitude(f, bits + 1);
    if (isinf(next)) next = here + (here - magnitude(f, bits - 1));
    double middle = here + (next - here) / 2;
    const double probes[] = {middle, (double)nextafterf((float)middle, 0), (double)nextafterf((float)middle, INFINITY),
                             (double)nextafterf((float)here, (float)next)};
    for (size_t i = 0; i < CKPT_COUNTOF(probes); i++) {
      assert_int_equal(to_small(f, probes[i]), nearest(f, probes[i]));
      assert_int_equal(to_small(f, -probes[i]), nearest(f, -probes[i]));
    }
  }
}

static void float16_rounds_to_nearest_even(void **state) {
  (void)state;
  check_rounding(&half);
  assert_int_equal(to_small(&half, 65519.99), 0x7bff);
  assert_int_equal(to_small(&half, 65520), 0x7c00);
  assert_int_equal(to_small(&half, 2049), 0x6800); /* a tie: 2048 is even */
  assert_int_equal(to_small(&half, 2051), 0x6802);
  assert_int_equal(to_small(&half, 0x1p-25), 0x0000); /* half of the least subnormal */
  assert_int_equal(to_small(&half, 0x1.00001p-25), 0x0001);
}

static void bfloat16_rounds_to_nearest_even(void **state) {
  (void)state;
  check_rounding(&brain);
  assert_int_equal(to_small(&brain, 1.00390625), 0x3f80); /* a tie: 1.0 is even */
  assert_int_equal(to_small(&brain, 1e39), 0x7f80);
}

/* As PyTorch does it: the rest behind float32's 24 bits is gone when the 16-bit tie is decided. */
static void float64_goes_by_float32(void **state) {
  (void)state;
  assert_int_equal(to_small(&half, 2049 + 0x1p-30), 0x6800);
  assert_int_equal(to_small(&brain, 1.00390625 + 0x1p-40), 0x3f80);
  assert_int_equal(to_small(&brain, 1.00390625 + 0x1p-20), 0x3f81);
}

static void integers_are_rounded_once(void **state) {
  (void)state;
  const int64_t whole = (INT64_C(1) << 60) + (INT64_C(1) << 36) + 1; /* by way of a double it would be a tie */
  const uint64_t large = (UINT64_C(1) << 63) + (UINT64_C(1) << 39) + 1;
  float got;
  ckpt_cast_run(&got, CKPT_F32, &whole, CKPT_I64, 1);
  assert_true(got == 0x1.000002p60f);
  ckpt_cast_run(&got, CKPT_F32, &large, CKPT_U64, 1);
  assert_true(got == 0x1.000002p63f);
}

/* ---- 8-bit floats ---- */

typedef struct byte_float {
  ckpt_dtype dtype;
  int mantissa_bits, bias, largest; /* pattern */
  int overflow, nan;                /* patterns of +inf and +NaN cast to it */
  bool fnuz;
} byte_float;

static const byte_float byte_floats[] = {
    {CKPT_F8_E5M2, 2, 15, 0x7b, 0x7c, 0x7f, false},
    {CKPT_F8_E4M3FN, 3, 7, 0x7e, 0x7e, 0x7f, false},
    {CKPT_F8_E5M2FNUZ, 2, 16, 0x7f, 0x80, 0x80, true},
    {CKPT_F8_E4M3FNUZ, 3, 8, 0x7f, 0x80, 0x80, true},
};

static double byte_magnitude(const byte_float *f, int bits) {
  int e = bits >> f->mantissa_bits, m = bits & ((1 << f->mantissa_bits) - 1);
  double fraction = (double)m / (double)(1 << f->mantissa_bits);
  return e == 0 ? fraction * power_of_two(1 - f->bias) : (1 + fraction) * power_of_two(e - f->bias);
}

static int to_byte(const byte_float *f, double v) {
  unsigned char got = 0xee;
  ckpt_cast_run(&got, f->dtype, &v, CKPT_F64, 1);
  return got;
}

static void check_byte_values(const byte_float *f) {
  for (int bits = 0; bits <= f->largest; bits++) {
    unsigned char plus = (unsigned char)bits, minus = (unsigned char)(bits | 0x80);
    double wanted = byte_magnitude(f, bits);
    assert_same_double(to_double(f->dtype, &plus), wanted);
    assert_int_equal(to_byte(f, wanted), plus);
    if (f->fnuz && bits == 0) continue;
    assert_same_double(to_double(f->dtype, &minus), -wanted);
    assert_int_equal(to_byte(f, -wanted), minus);
  }
}

static void check_byte_ties(const byte_float *f) {
  for (int bits = 0; bits < f->largest; bits++) {
    double here = byte_magnitude(f, bits), middle = here + (byte_magnitude(f, bits + 1) - here) / 2;
    assert_int_equal(to_byte(f, middle), bits % 2 == 0 ? bits : bits + 1);
    assert_int_equal(to_byte(f, (double)nextafterf((float)middle, 0)), bits);
    assert_int_equal(to_byte(f, (double)nextafterf((float)middle, INFINITY)), bits + 1);
  }
}

static void every_float8(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(byte_floats); i++) {
    const byte_float *f = &byte_floats[i];
    check_byte_values(f);
    check_byte_ties(f);
    assert_int_equal(to_byte(f, (double)INFINITY), f->overflow);
    assert_int_equal(to_byte(f, 1e30), f->overflow);
    assert_int_equal(to_byte(f, -1e30), f->overflow | 0x80);
    assert_int_equal(to_byte(f, (double)NAN), f->nan);
    assert_int_equal(to_byte(f, -0.0), f->fnuz ? 0 : 0x80);
    assert_int_equal(to_byte(f, -1e-30), f->fnuz ? 0 : 0x80);
  }
}

static void no_numbers_of_float8(void **state) {
  (void)state;
  static const struct {
    ckpt_dtype dtype;
    unsigned char bits;
  } nans[] = {{CKPT_F8_E5M2, 0x7d},     {CKPT_F8_E5M2, 0xff},     {CKPT_F8_E4M3FN, 0x7f}, {CKPT_F8_E4M3FN, 0xff},
              {CKPT_F8_E5M2FNUZ, 0x80}, {CKPT_F8_E4M3FNUZ, 0x80}, {CKPT_F8_E8M0FNU, 0xff}};
  for (size_t i = 0; i < CKPT_COUNTOF(nans); i++) assert_true(isnan(to_double(nans[i].dtype, &nans[i].bits)));
  assert_true(to_double(CKPT_F8_E5M2, "\x7c") == (double)INFINITY);
  assert_true(to_double(CKPT_F8_E5M2, "\xfc") == -(double)INFINITY);
}

static void exponents_alone(void **state) {
  (void)state;
  static const byte_float e8m0 = {.dtype = CKPT_F8_E8M0FNU};
  for (int bits = 0; bits < 255; bits++) {
    unsigned char byte = (unsigned char)bits;
    assert_true(to_double(CKPT_F8_E8M0FNU, &byte) == ldexp(1, bits - 127));
    assert_int_equal(to_byte(&e8m0, ldexp(1, bits - 127)), bits);
    assert_int_equal(to_byte(&e8m0, -ldexp(1, bits - 127)), bits); /* the sign is dropped */
  }
  assert_int_equal(to_byte(&e8m0, 1.5), 128); /* a tie goes up, as the digit before the point is 1 */
  assert_int_equal(to_byte(&e8m0, 1.4999), 127);
  assert_int_equal(to_byte(&e8m0, 0), 0);
  assert_int_equal(to_byte(&e8m0, (double)INFINITY), 0xff);
  assert_int_equal(to_byte(&e8m0, (double)NAN), 0xff);
}

/* ---- complex numbers ---- */

static void complex_by_its_parts(void **state) {
  (void)state;
  static const double from[] = {1.5, -2.25, 1e300, -0.0};
  float to[4];
  unsigned char small[8];
  ckpt_cast_run(to, CKPT_C64, from, CKPT_C128, 2);
  assert_true(to[0] == 1.5f && to[1] == -2.25f && isinf(to[2]) && to[3] == 0 && signbit(to[3]));
  ckpt_cast_run(small, CKPT_C32, from, CKPT_C128, 2);
  assert_memory_equal(small, "\x00\x3e\x80\xc0\x00\x7c\x00\x80", 8);
  ckpt_cast_run(small, CKPT_BC32, from, CKPT_C128, 2);
  assert_memory_equal(small, "\xc0\x3f\x10\xc0\x80\x7f\x00\x80", 8);
}

static void real_to_complex(void **state) {
  (void)state;
  static const int16_t from[] = {3, -4, 5};
  static const float same[] = {3, -4, 5};
  double to[6];
  float narrow[6];
  ckpt_cast_run(to, CKPT_C128, from, CKPT_I16, 3);
  ckpt_cast_run(narrow, CKPT_C64, same, CKPT_F32, 3);
  for (int i = 0; i < 3; i++) {
    assert_true(to[2 * i] == from[i] && to[2 * i + 1] == 0);
    assert_true(narrow[2 * i] == same[i] && narrow[2 * i + 1] == 0);
  }
}

static void extremes_of_small_floats(void **state) {
  (void)state;
  const small_float *formats[] = {&half, &brain};
  for (size_t i = 0; i < 2; i++) {
    const small_float *f = formats[i];
    assert_int_equal(to_small(f, 1.7e308), infinity_of(f));
    assert_int_equal(to_small(f, -1.7e308), 0x8000 | infinity_of(f));
    assert_int_equal(to_small(f, (double)INFINITY), infinity_of(f));
    assert_int_equal(to_small(f, 4.9e-324), 0);
    assert_int_equal(to_small(f, -4.9e-324), 0x8000);
    assert_int_equal(to_small(f, -0.0), 0x8000);
    assert_true((to_small(f, (double)NAN) & 0x7fff) > infinity_of(f));
  }
}

/* float32 to bfloat16 must not be rounded by way of something else. */
static void float32_to_bfloat16(void **state) {
  (void)state;
  for (uint32_t bits = 0; bits < 0xffff0000u; bits += 0x3fff) {
    float v;
    unsigned char bytes[2];
    memcpy(&v, &bits, 4);
    ckpt_cast_run(bytes, CKPT_BF16, &v, CKPT_F32, 1);
    if (isnan(v)) {
      assert_true((ckpt_le16(bytes) & 0x7fff) > 0x7f80);
      continue;
    }
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16; /* the usual trick, on the bits alone */
    assert_int_equal(ckpt_le16(bytes), rounded);
  }
}

static void double_to_float32(void **state) {
  (void)state;
  static const double values[] = {0, -0.0, 1.0 / 3, 1e300, -1e300, 1e-320, 16777217, 3.4028235677973366e38};
  for (size_t i = 0; i < CKPT_COUNTOF(values); i++) {
    float got, wanted = (float)values[i];
    ckpt_cast_run(&got, CKPT_F32, &values[i], CKPT_F64, 1);
    assert_memory_equal(&got, &wanted, 4);
  }
}

/* ---- integers ---- */

typedef struct int_case {
  ckpt_dtype to;
  double from;
  int64_t wanted; /* the low bytes of it */
} int_case;

static const int_case int_cases[] = {
    {CKPT_U8, 255.9, 255},
    {CKPT_U8, 256, 0},
    {CKPT_U8, -0.9, 0},
    {CKPT_U8, -1, 255},
    {CKPT_U8, -300.7, 212}, /* PyTorch's way to uint8 is by int64 */
    {CKPT_U8, 1e300, 255},
    {CKPT_I8, 127.5, 127},
    {CKPT_I8, 128, 127},
    {CKPT_I8, -128.9, -128},
    {CKPT_I8, -129, -128},
    {CKPT_I8, -1.9, -1},
    {CKPT_I16, 32768, 32767},
    {CKPT_I16, -32769, -32768},
    {CKPT_U16, 65536, 65535},
    {CKPT_U16, 65535.9, 65535},
    {CKPT_I32, 2147483648.0, 2147483647},
    {CKPT_I32, -2147483649.0, INT32_MIN},
    {CKPT_I32, -2147483648.5, INT32_MIN},
    {CKPT_U32, 4294967296.0, 4294967295},
    {CKPT_U32, 4294967295.5, 4294967295},
    {CKPT_U32, -1e10, 0},
    {CKPT_I64, 0x1p63, INT64_MAX},
    {CKPT_I64, 0x1.fffffffffffffp62, INT64_C(0x7ffffffffffffc00)},
    {CKPT_I64, -0x1p63, INT64_MIN},
    {CKPT_I64, -0x1.0000000000001p63, INT64_MIN},
    {CKPT_I64, -1e300, INT64_MIN},
    {CKPT_U64, 0x1p64, -1},
    {CKPT_U64, 0x1p63, INT64_MIN},
    {CKPT_U64, -5, 0},
    {CKPT_U64, 7.9, 7},
    {CKPT_BOOL, 0.0, 0},
    {CKPT_BOOL, -0.0, 0},
    {CKPT_BOOL, 0.25, 1},
    {CKPT_BOOL, -3, 1},
};

static void check_int_case(const int_case *c) {
  unsigned char got[9], wanted[8];
  memset(got, 0xee, sizeof got);
  ckpt_put64(wanted, (uint64_t)c->wanted);
  ckpt_cast_run(got, c->to, &c->from, CKPT_F64, 1);
  assert_memory_equal(got, wanted, ckpt_dtype_size(c->to));
  assert_int_equal(got[ckpt_dtype_size(c->to)], 0xee);
}

static void doubles_saturate(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(int_cases); i++) check_int_case(&int_cases[i]);
}

static void infinities_and_nan_to_integers(void **state) {
  (void)state;
  static const ckpt_dtype signed_types[] = {CKPT_I8, CKPT_I16, CKPT_I32, CKPT_I64};
  static const ckpt_dtype unsigned_types[] = {CKPT_U8, CKPT_U16, CKPT_U32, CKPT_U64};
  const double inf = (double)INFINITY, nan = (double)NAN;
  for (int i = 0; i < 4; i++) {
    int64_t high = (int64_t)(UINT64_MAX >> (65 - (8 << i)));
    check_int_case(&(int_case){signed_types[i], inf, high});
    check_int_case(&(int_case){signed_types[i], -inf, -high - 1});
    check_int_case(&(int_case){signed_types[i], nan, 0});
    check_int_case(&(int_case){unsigned_types[i], inf, -1});
    check_int_case(&(int_case){unsigned_types[i], -inf, 0});
    check_int_case(&(int_case){unsigned_types[i], nan, 0});
  }
  check_int_case(&(int_case){CKPT_BOOL, nan, 1}); /* as in C and PyTorch */
}

static void integers_keep_their_low_bits(void **state) {
  (void)state;
  static const int64_t values[] = {0, 1, -1, 127, 128, 255, 256, -129, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN};
  static const ckpt_dtype types[] = {CKPT_U8, CKPT_I8, CKPT_U16, CKPT_I16, CKPT_U32, CKPT_I32, CKPT_U64, CKPT_I64};
  for (size_t i = 0; i < CKPT_COUNTOF(values); i++)
    for (size_t k = 0; k < CKPT_COUNTOF(types); k++) {
      unsigned char got[8], wanted[8];
      ckpt_put64(wanted, (uint64_t)values[i]);
      ckpt_cast_run(got, types[k], &values[i], CKPT_I64, 1);
      assert_memory_equal(got, wanted, ckpt_dtype_size(types[k]));
    }
}

static void small_integers_extend_by_sign(void **state) {
  (void)state;
  static const unsigned char ones[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  static const struct {
    ckpt_dtype from;
    int64_t whole;
    double number;
  } rows[] = {{CKPT_I8, -1, -1},        {CKPT_U8, 255, 255},    {CKPT_I16, -1, -1},
              {CKPT_U16, 65535, 65535}, {CKPT_I32, -1, -1},     {CKPT_U32, UINT32_MAX, 4294967295.0},
              {CKPT_I64, -1, -1},       {CKPT_U64, -1, 0x1p64}, {CKPT_BOOL, 1, 1}};
  for (size_t i = 0; i < CKPT_COUNTOF(rows); i++) {
    int64_t whole = -77;
    ckpt_cast_run(&whole, CKPT_I64, ones, rows[i].from, 1);
    assert_true(whole == rows[i].whole);
    assert_true(to_double(rows[i].from, ones) == rows[i].number);
  }
}

static void bool_is_zero_or_one(void **state) {
  (void)state;
  static const int64_t values[] = {0, 256, -1, INT64_MIN};
  static const uint64_t large = UINT64_C(1) << 63;
  unsigned char got[4];
  ckpt_cast_run(got, CKPT_BOOL, values, CKPT_I64, 4);
  assert_memory_equal(got, "\0\1\1\1", 4);
  ckpt_cast_run(got, CKPT_BOOL, &large, CKPT_U64, 1);
  assert_int_equal(got[0], 1);
}

/* ---- runs and pairs ---- */

static void runs_go_over_all_elements(void **state) {
  (void)state;
  enum { N = 1000 };
  static int16_t from[N];
  static float to[N + 1];
  for (int i = 0; i < N; i++) from[i] = (int16_t)(i * 37 - 5000);
  to[N] = 42;
  ckpt_cast_run(to, CKPT_F32, from, CKPT_I16, N);
  for (int i = 0; i < N; i++) assert_true(to[i] == (float)from[i]);
  assert_true(to[N] == 42.0f);
  ckpt_cast_run(to, CKPT_F32, from + 1, CKPT_I16, 0);
  assert_true(to[0] == (float)from[0]);
}

static bool is_among(ckpt_dtype d, const ckpt_dtype *list, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (list[i] == d) return true;
  return false;
}

static void pairs_that_can_be_cast(void **state) {
  (void)state;
  static const ckpt_dtype reals[] = {CKPT_U8,          CKPT_I8,          CKPT_I16,       CKPT_I32,     CKPT_I64,
                                     CKPT_F16,         CKPT_F32,         CKPT_F64,       CKPT_BOOL,    CKPT_BF16,
                                     CKPT_U16,         CKPT_U32,         CKPT_U64,       CKPT_F8_E5M2, CKPT_F8_E4M3FN,
                                     CKPT_F8_E5M2FNUZ, CKPT_F8_E4M3FNUZ, CKPT_F8_E8M0FNU};
  static const ckpt_dtype complexes[] = {CKPT_C32, CKPT_C64, CKPT_C128, CKPT_BC32};
  for (int i = 0; i < CKPT_DTYPE_COUNT * CKPT_DTYPE_COUNT; i++) {
    ckpt_dtype to = (ckpt_dtype)(i / CKPT_DTYPE_COUNT), from = (ckpt_dtype)(i % CKPT_DTYPE_COUNT);
    bool real = is_among(from, reals, CKPT_COUNTOF(reals));
    bool complex = is_among(from, complexes, CKPT_COUNTOF(complexes));
    bool can = is_among(to, reals, CKPT_COUNTOF(reals))           ? real
               : is_among(to, complexes, CKPT_COUNTOF(complexes)) ? real || complex
                                                                  : false;
    assert_int_equal(ckpt_cast_supported(to, from), can);
  }
}

static void refused_pairs(void **state) {
  (void)state;
  ckpt_error err = {0};
  assert_int_equal(ckpt_cast_check(CKPT_F32, CKPT_C64, &err), CKPT_E_UNSUPPORTED);
  assert_string_equal(err.message, "no cast from complex64 to float32: the imaginary parts would be lost");
  assert_int_equal(ckpt_cast_check(CKPT_F32, CKPT_QI8, &err), CKPT_E_UNSUPPORTED);
  assert_string_equal(err.message, "no cast from qint8 to float32");
  assert_int_equal(ckpt_cast_check(CKPT_QI8, CKPT_QI8, &err), CKPT_OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_float16),
      cmocka_unit_test(every_bfloat16),
      cmocka_unit_test(float16_rounds_to_nearest_even),
      cmocka_unit_test(bfloat16_rounds_to_nearest_even),
      cmocka_unit_test(float64_goes_by_float32),
      cmocka_unit_test(integers_are_rounded_once),
      cmocka_unit_test(every_float8),
      cmocka_unit_test(no_numbers_of_float8),
      cmocka_unit_test(exponents_alone),
      cmocka_unit_test(complex_by_its_parts),
      cmocka_unit_test(real_to_complex),
      cmocka_unit_test(extremes_of_small_floats),
      cmocka_unit_test(float32_to_bfloat16),
      cmocka_unit_test(double_to_float32),
      cmocka_unit_test(doubles_saturate),
      cmocka_unit_test(infinities_and_nan_to_integers),
      cmocka_unit_test(integers_keep_their_low_bits),
      cmocka_unit_test(small_integers_extend_by_sign),
      cmocka_unit_test(bool_is_zero_or_one),
      cmocka_unit_test(runs_go_over_all_elements),
      cmocka_unit_test(pairs_that_can_be_cast),
      cmocka_unit_test(refused_pairs),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
