/* cast.c - see cast.h. Every run goes block by block through int64, float32 or float64, whichever holds its source. */
#include "cast.h"

#include <math.h>

#include "small_float.h"

enum { BLOCK = 512 };

typedef enum carrier { WHOLE, SINGLE, DOUBLE } carrier;

typedef union block {
  int64_t whole[BLOCK]; /* uint64 by its bits */
  float single[BLOCK];
  double wide[BLOCK];
} block;

static carrier carrier_of(ckpt_dtype dtype) {
  if (ckpt_dtype_is_integer(dtype)) return WHOLE;
  return dtype == CKPT_F64 ? DOUBLE : SINGLE;
}

/* ---- dtypes ---- */

bool ckpt_dtype_is_integer(ckpt_dtype dtype) {
  ckpt_numeric n = ckpt_dtype_numeric(dtype);
  return n == CKPT_NUM_INT || n == CKPT_NUM_UINT || n == CKPT_NUM_BOOL;
}

bool ckpt_dtype_is_real(ckpt_dtype dtype) {
  return ckpt_dtype_is_integer(dtype) || ckpt_dtype_numeric(dtype) == CKPT_NUM_FLOAT;
}

ckpt_dtype ckpt_dtype_part(ckpt_dtype dtype) {
  switch (dtype) {
    case CKPT_C32: return CKPT_F16;
    case CKPT_C64: return CKPT_F32;
    case CKPT_C128: return CKPT_F64;
    case CKPT_BC32: return CKPT_BF16;
    default: return dtype;
  }
}

static bool is_complex(ckpt_dtype dtype) { return ckpt_dtype_numeric(dtype) == CKPT_NUM_COMPLEX; }

bool ckpt_cast_supported(ckpt_dtype to, ckpt_dtype from) {
  if (is_complex(to)) return is_complex(from) || ckpt_dtype_is_real(from);
  return ckpt_dtype_is_real(to) && ckpt_dtype_is_real(from);
}

ckpt_status ckpt_cast_check(ckpt_dtype to, ckpt_dtype from, ckpt_error *err) {
  if (to == from || ckpt_cast_supported(to, from)) return CKPT_OK;
  const char *why = is_complex(from) && ckpt_dtype_is_real(to) ? ": the imaginary parts would be lost" : "";
  return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "no cast from %s to %s%s", ckpt_dtype_name(from), ckpt_dtype_name(to),
                   why);
}

/* ---- into a block ---- */

static int64_t load_whole(const unsigned char *p, ckpt_dtype dtype) {
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

static void load_block(block *b, const unsigned char *from, ckpt_dtype dtype, size_t n) {
  size_t size = ckpt_dtype_size(dtype);
  if (ckpt_dtype_is_integer(dtype))
    for (size_t i = 0; i < n; i++) b->whole[i] = load_whole(from + i * size, dtype);
  else if (ckpt_small_float_is(dtype))
    ckpt_small_float_decode(b->single, from, dtype, n);
  else
    memcpy(b, from, n * size);
}

/* ---- to integers ---- */

/* What an integer dtype holds: numbers of [low, high), beyond them bottom and top. */
typedef struct limits {
  double low, high;
  int64_t bottom, top; /* uint64 by its bits */
} limits;

static limits limits_of(ckpt_dtype dtype) {
  int bits = 8 * (int)ckpt_dtype_size(dtype);
  bool is_signed = ckpt_dtype_numeric(dtype) == CKPT_NUM_INT;
  if (dtype == CKPT_U8) { /* PyTorch's way there: by int64, so that -1 is 255 on every machine */
    bits = 64;
    is_signed = true;
  }
  if (is_signed)
    return (limits){-ldexp(1, bits - 1), ldexp(1, bits - 1), INT64_MIN >> (64 - bits), INT64_MAX >> (64 - bits)};
  return (limits){0, ldexp(1, bits), 0, (int64_t)(UINT64_MAX >> (64 - bits))};
}

static int64_t double_to_whole(double v, const limits *l) {
  if (isnan(v)) return 0;
  if (v <= l->low) return l->bottom;
  if (v >= l->high) return l->top;
  return v < 0x1p63 ? (int64_t)v : (int64_t)(uint64_t)v;
}

static void make_truth(block *b, carrier from, size_t n) {
  for (size_t i = 0; from == DOUBLE && i < n; i++) b->whole[i] = b->wide[i] != 0; /* NaN is true, as in C and PyTorch */
  for (size_t i = n; from == SINGLE && i-- > 0;) b->whole[i] = b->single[i] != 0;
}

/* float32 from the end: what is written lies behind what is still to be read */
static void make_whole(block *b, carrier from, ckpt_dtype to, size_t n) {
  if (to == CKPT_BOOL) {
    make_truth(b, from, n);
    return;
  }
  const limits l = limits_of(to);
  for (size_t i = 0; from == DOUBLE && i < n; i++) b->whole[i] = double_to_whole(b->wide[i], &l);
  for (size_t i = n; from == SINGLE && i-- > 0;) b->whole[i] = double_to_whole((double)b->single[i], &l);
}

static void store_whole(unsigned char *to, ckpt_dtype dtype, const int64_t *v, size_t n) {
  size_t size = ckpt_dtype_size(dtype);
  for (size_t i = 0; i < n; i++) {
    unsigned char *p = to + i * size;
    switch (size) {
      case 1: *p = dtype == CKPT_BOOL ? v[i] != 0 : (unsigned char)v[i]; break;
      case 2: ckpt_put16(p, (uint16_t)v[i]); break;
      case 4: ckpt_put32(p, (uint32_t)v[i]); break;
      default: ckpt_put64(p, (uint64_t)v[i]); break;
    }
  }
}

/* ---- to floats ---- */

static void make_single(block *b, carrier from, bool is_unsigned, size_t n) {
  if (from == DOUBLE)
    for (size_t i = 0; i < n; i++) b->single[i] = (float)b->wide[i];
  else if (from == WHOLE && is_unsigned)
    for (size_t i = 0; i < n; i++) b->single[i] = (float)(uint64_t)b->whole[i];
  else if (from == WHOLE)
    for (size_t i = 0; i < n; i++) b->single[i] = (float)b->whole[i];
}

static void make_double(block *b, carrier from, bool is_unsigned, size_t n) {
  if (from == SINGLE)
    for (size_t i = n; i-- > 0;) b->wide[i] = (double)b->single[i];
  else if (from == WHOLE && is_unsigned)
    for (size_t i = 0; i < n; i++) b->wide[i] = (double)(uint64_t)b->whole[i];
  else if (from == WHOLE)
    for (size_t i = 0; i < n; i++) b->wide[i] = (double)b->whole[i];
}

static void store_single(unsigned char *to, ckpt_dtype dtype, const float *v, size_t n) {
  if (dtype == CKPT_F32)
    memcpy(to, v, n * sizeof *v);
  else
    ckpt_small_float_encode(to, v, dtype, n);
}

/* ---- runs ---- */

static void cast_block(unsigned char *to, ckpt_dtype to_dtype, const unsigned char *from, ckpt_dtype from_dtype,
                       size_t n) {
  block b;
  carrier in = carrier_of(from_dtype);
  bool is_unsigned = from_dtype == CKPT_U64;
  load_block(&b, from, from_dtype, n);
  switch (carrier_of(to_dtype)) {
    case WHOLE:
      make_whole(&b, in, to_dtype, n);
      store_whole(to, to_dtype, b.whole, n);
      break;
    case SINGLE:
      make_single(&b, in, is_unsigned, n);
      store_single(to, to_dtype, b.single, n);
      break;
    case DOUBLE:
      make_double(&b, in, is_unsigned, n);
      memcpy(to, b.wide, n * sizeof *b.wide);
      break;
  }
}

static void cast_real(unsigned char *to, ckpt_dtype to_dtype, const unsigned char *from, ckpt_dtype from_dtype,
                      size_t n) {
  size_t to_size = ckpt_dtype_size(to_dtype), from_size = ckpt_dtype_size(from_dtype);
  if (to_dtype == from_dtype) {
    memcpy(to, from, n * to_size);
    return;
  }
  for (size_t at = 0; at < n; at += BLOCK)
    cast_block(to + at * to_size, to_dtype, from + at * from_size, from_dtype, n - at < BLOCK ? n - at : BLOCK);
}

/* Backwards, so that the parts, cast into the front half of the run, can be spread in place. */
static void spread_parts(unsigned char *to, size_t size, size_t n) {
  for (size_t i = n; i-- > 0;) {
    memmove(to + 2 * i * size, to + i * size, size);
    memset(to + (2 * i + 1) * size, 0, size);
  }
}

void ckpt_cast_run(void *to, ckpt_dtype to_dtype, const void *from, ckpt_dtype from_dtype, size_t n) {
  ckpt_dtype part = ckpt_dtype_part(to_dtype);
  cast_real(to, part, from, ckpt_dtype_part(from_dtype), is_complex(from_dtype) ? 2 * n : n);
  if (is_complex(to_dtype) && !is_complex(from_dtype)) spread_parts(to, ckpt_dtype_size(part), n);
}
