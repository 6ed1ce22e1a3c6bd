/* cast.c - see cast.h. */
#include "cast.h"

#include <math.h>

/* ---- small floats: exponent and mantissa widths of an IEEE-like format ---- */

static double small_to_double(unsigned bits, int exponent_bits, int mantissa_bits) {
  int bias = (1 << (exponent_bits - 1)) - 1;
  unsigned mantissa = bits & ((1u << mantissa_bits) - 1);
  int exponent = (int)(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  double sign = bits >> (exponent_bits + mantissa_bits) & 1 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) return mantissa != 0 ? copysign(NAN, sign) : sign * INFINITY;
  if (exponent == 0) return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * ldexp((double)mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

/* Rounds to nearest even in one step from the double, so that nothing is rounded twice. */
static unsigned double_to_small(double v, int exponent_bits, int mantissa_bits) {
  int bias = (1 << (exponent_bits - 1)) - 1, top = (1 << exponent_bits) - 1;
  unsigned sign = (signbit(v) ? 1u : 0u) << (exponent_bits + mantissa_bits);
  unsigned infinity = (unsigned)top << mantissa_bits;
  if (isnan(v)) return sign | infinity | 1u << (mantissa_bits - 1);
  v = fabs(v);
  if (isinf(v)) return sign | infinity;
  int e = 0;
  frexp(v, &e);
  int exponent = e - 1 < 1 - bias ? 1 - bias : e - 1;
  double scaled = nearbyint(ldexp(v, mantissa_bits - exponent)); /* in units of the last place */
  unsigned q = (unsigned)scaled, one = 1u << mantissa_bits;
  if (q < one) return sign | q;
  unsigned bits = ((unsigned)(exponent + bias - 1) << mantissa_bits) + q;
  return sign | (bits > infinity ? infinity : bits);
}

/* ---- one element ---- */

static double load_double(const unsigned char *p, ckpt_dtype dtype) {
  float f;
  double d;
  uint32_t word;
  switch (dtype) {
    case CKPT_F64: memcpy(&d, p, 8); return d;
    case CKPT_F32: memcpy(&f, p, 4); return (double)f;
    case CKPT_F16: return small_to_double(ckpt_le16(p), 5, 10);
    case CKPT_BF16:
      word = (uint32_t)ckpt_le16(p) << 16;
      memcpy(&f, &word, 4);
      return (double)f;
    case CKPT_U64: return (double)ckpt_le64(p);
    default: return 0;
  }
}

static int64_t load_int(const unsigned char *p, ckpt_dtype dtype) {
  switch (dtype) {
    case CKPT_BOOL: return p[0] != 0;
    case CKPT_U8: return p[0];
    case CKPT_I8: return (int8_t)p[0];
    case CKPT_U16: return ckpt_le16(p);
    case CKPT_I16: return (int16_t)ckpt_le16(p);
    case CKPT_U32: return ckpt_le32(p);
    case CKPT_I32: return (int32_t)ckpt_le32(p);
    default: return (int64_t)ckpt_le64(p);
  }
}

static void store_double(unsigned char *p, ckpt_dtype dtype, double v) {
  float f = (float)v;
  switch (dtype) {
    case CKPT_F64: memcpy(p, &v, 8); break;
    case CKPT_F32: memcpy(p, &f, 4); break;
    case CKPT_F16: ckpt_put16(p, (uint16_t)double_to_small(v, 5, 10)); break;
    default: ckpt_put16(p, (uint16_t)double_to_small(v, 8, 7)); break;
  }
}

static void store_int(unsigned char *p, ckpt_dtype dtype, int64_t v) {
  switch (ckpt_dtype_size(dtype)) {
    case 1: p[0] = dtype == CKPT_BOOL ? v != 0 : (unsigned char)v; break;
    case 2: ckpt_put16(p, (uint16_t)v); break;
    case 4: ckpt_put32(p, (uint32_t)v); break;
    default: ckpt_put64(p, (uint64_t)v); break;
  }
}

static int64_t bounded(double v, double low, double high) {
  if (isnan(v)) return 0;
  v = trunc(v);
  if (v < low) return (int64_t)low;
  return v >= high ? (int64_t)(high / 2) - 1 + (int64_t)(high / 2) : (int64_t)v;
}

static int64_t double_to_int(double v, ckpt_dtype dtype) {
  int bits = 8 * (int)ckpt_dtype_size(dtype);
  if (dtype == CKPT_BOOL) return v != 0; /* NaN is true, as in C and PyTorch */
  if (ckpt_dtype_numeric(dtype) == CKPT_NUM_INT) return bounded(v, -ldexp(1, bits - 1), ldexp(1, bits - 1));
  if (bits < 64) return bounded(v, 0, ldexp(1, bits));
  if (!(v > 0)) return 0;
  return v >= ldexp(1, 64) ? -1 : (int64_t)(uint64_t)v;
}

/* ---- runs ---- */

static bool is_float(ckpt_dtype d) { return d == CKPT_F16 || d == CKPT_BF16 || d == CKPT_F32 || d == CKPT_F64; }

static bool is_integer(ckpt_dtype d) {
  ckpt_numeric n = ckpt_dtype_numeric(d);
  return n == CKPT_NUM_INT || n == CKPT_NUM_UINT || n == CKPT_NUM_BOOL;
}

bool ckpt_cast_supported(ckpt_dtype to, ckpt_dtype from) {
  return (is_float(to) || is_integer(to)) && (is_float(from) || is_integer(from));
}

static void cast_one(unsigned char *to, ckpt_dtype to_dtype, const unsigned char *from, ckpt_dtype from_dtype) {
  if (is_integer(from_dtype) && is_integer(to_dtype)) {
    store_int(to, to_dtype, load_int(from, from_dtype));
    return;
  }
  bool whole = is_integer(from_dtype) && from_dtype != CKPT_U64;
  double v = whole ? (double)load_int(from, from_dtype) : load_double(from, from_dtype);
  if (is_integer(to_dtype))
    store_int(to, to_dtype, double_to_int(v, to_dtype));
  else
    store_double(to, to_dtype, v);
}

void ckpt_cast_run(void *to, ckpt_dtype to_dtype, const void *from, ckpt_dtype from_dtype, size_t n) {
  size_t to_size = ckpt_dtype_size(to_dtype), from_size = ckpt_dtype_size(from_dtype);
  for (size_t i = 0; i < n; i++)
    cast_one((unsigned char *)to + i * to_size, to_dtype, (const unsigned char *)from + i * from_size, from_dtype);
}
