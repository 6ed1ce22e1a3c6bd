/* small_float.c - see small_float.h. */
#include "small_float.h"

typedef struct format {
  unsigned mantissa;  /* bits */
  unsigned bias, max; /* the pattern of the largest finite number, without sign */
  unsigned overflow;  /* pattern beyond it, without sign */
  unsigned nan;       /* pattern of NaN */
  unsigned sign;      /* the sign bit of numbers, and of NaN unless that is fnuz's only pattern */
  bool fnuz;
} format;

static const format half = {10, 15, 0x7bff, 0x7c00, 0x7e00, 0x8000, false};
static const format e5m2 = {2, 15, 0x7b, 0x7c, 0x7f, 0x80, false};
static const format e4m3fn = {3, 7, 0x7e, 0x7e, 0x7f, 0x80, false};
static const format e5m2fnuz = {2, 16, 0x7f, 0x80, 0x80, 0x80, true};
static const format e4m3fnuz = {3, 8, 0x7f, 0x80, 0x80, 0x80, true};

/* bfloat16 and e8m0fnu are float32's own upper bits and have functions of their own. */
static const format *format_of(ckpt_dtype dtype) {
  switch (dtype) {
    case CKPT_F16: return &half;
    case CKPT_F8_E5M2: return &e5m2;
    case CKPT_F8_E4M3FN: return &e4m3fn;
    case CKPT_F8_E5M2FNUZ: return &e5m2fnuz;
    case CKPT_F8_E4M3FNUZ: return &e4m3fnuz;
    default: return NULL;
  }
}

bool ckpt_small_float_is(ckpt_dtype dtype) {
  return dtype == CKPT_BF16 || dtype == CKPT_F8_E8M0FNU || format_of(dtype) != NULL;
}

/* ---- decoding ---- */

/* A number of units 2^(1-bias-mantissa), below 2^mantissa of them: normalised in float32, which has the room. */
static uint32_t decode_subnormal(const format *f, unsigned units) {
  if (units == 0) return 0;
  unsigned top = 31 - (unsigned)__builtin_clz(units);
  uint32_t exponent = top + 128 - f->bias - f->mantissa;
  return exponent << 23 | (units << (23 - top) & 0x7fffff);
}

static uint32_t decode(const format *f, unsigned bits) {
  unsigned magnitude = bits & (f->sign - 1), exponent = magnitude >> f->mantissa;
  uint32_t sign = bits & f->sign ? 0x80000000u : 0;
  if (f->fnuz && bits == f->nan) return 0x7f800001; /* PyTorch's NaN for formats that have but one */
  if (exponent == 0) return sign | decode_subnormal(f, magnitude);
  if (magnitude <= f->max) return sign | ((magnitude << (23 - f->mantissa)) + ((127 - f->bias) << 23));
  uint32_t payload = magnitude << (23 - f->mantissa) & 0x7fffff;
  return sign | 0x7f800000 | payload | (payload != 0 ? 0x400000 : 0); /* quiet */
}

static uint32_t decode_e8m0(unsigned bits) {
  if (bits == 0) return 0x00400000; /* 2^-127, a subnormal */
  return bits == 0xff ? 0x7f800001 : (uint32_t)bits << 23;
}

static void decode_bytes(float *to, const unsigned char *from, const format *f, size_t n) {
  float table[256];
  for (unsigned i = 0; i < 256; i++) {
    uint32_t bits = f == NULL ? decode_e8m0(i) : decode(f, i);
    memcpy(&table[i], &bits, sizeof bits);
  }
  for (size_t i = 0; i < n; i++) to[i] = table[from[i]];
}

static void decode_halves(float *to, const unsigned char *from, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint32_t bits = decode(&half, ckpt_le16(from + 2 * i));
    memcpy(&to[i], &bits, sizeof bits);
  }
}

void ckpt_small_float_decode(float *to, const unsigned char *from, ckpt_dtype dtype, size_t n) {
  if (dtype == CKPT_F16) {
    decode_halves(to, from, n);
  } else if (dtype == CKPT_BF16) {
    for (size_t i = 0; i < n; i++) {
      uint32_t bits = (uint32_t)ckpt_le16(from + 2 * i) << 16;
      memcpy(&to[i], &bits, sizeof bits);
    }
  } else {
    decode_bytes(to, from, format_of(dtype), n);
  }
}

/* ---- encoding ---- */

/* v / 2^shift to nearest, ties to even; 0 < shift < 32 */
static uint32_t shift_even(uint32_t v, unsigned shift) {
  uint32_t rest = v & ((1u << shift) - 1), middle = 1u << (shift - 1), q = v >> shift;
  return q + (rest > middle || (rest == middle && (q & 1) != 0));
}

/* The magnitude of a float32 that is neither NaN nor infinite. */
static unsigned encode_magnitude(const format *f, uint32_t bits) {
  unsigned drop = 23 - f->mantissa, least = 128 - f->bias; /* float32's exponent of the least normal number */
  unsigned exponent = bits >> 23;
  if (exponent >= least) {
    unsigned q = shift_even(bits, drop) - ((least - 1) << f->mantissa);
    return q > f->max ? f->overflow : q;
  }
  if (least - exponent > f->mantissa + 1) return 0; /* less than half of the least subnormal */
  return shift_even((bits & 0x7fffff) | 0x800000, drop + least - exponent);
}

static unsigned encode(const format *f, uint32_t bits) {
  uint32_t magnitude = bits & 0x7fffffff;
  unsigned sign = bits >> 31 ? f->sign : 0, q;
  if (magnitude > 0x7f800000) return f->nan | sign;
  q = magnitude == 0x7f800000 ? f->overflow : encode_magnitude(f, magnitude);
  return f->fnuz && q == 0 ? 0 : q | sign;
}

static uint16_t encode_bfloat(uint32_t bits) {
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0;
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* The sign is dropped, infinity is NaN; a tie goes up but below 2^-126, where the digit before the point is 0. */
static unsigned char encode_e8m0(uint32_t bits) {
  uint32_t exponent = bits >> 23 & 0xff, rest = bits & 0x7fffff;
  if (exponent == 0xff) return 0xff;
  bool up = rest > 0x400000 || (rest == 0x400000 && exponent > 0);
  return (unsigned char)(exponent + up);
}

void ckpt_small_float_encode(unsigned char *to, const float *from, ckpt_dtype dtype, size_t n) {
  const format *f = format_of(dtype);
  for (size_t i = 0; i < n; i++) {
    uint32_t bits;
    memcpy(&bits, &from[i], sizeof bits);
    if (dtype == CKPT_BF16)
      ckpt_put16(to + 2 * i, encode_bfloat(bits));
    else if (dtype == CKPT_F16)
      ckpt_put16(to + 2 * i, (uint16_t)encode(&half, bits));
    else
      to[i] = f == NULL ? encode_e8m0(bits) : (unsigned char)encode(f, bits);
  }
}
