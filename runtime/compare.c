/*
 * compare.c - two tensors of one shape, element by element, without a copy of either: blocks of both are widened into
 * buffers on the stack. Blocks of equal bytes are passed over.
 *
 * Integers meet integers exactly. Anything else meets as doubles, complex numbers as pairs of them; quantised and
 * packed elements are compared as the integers that the file holds.
 */
#include <math.h>

#include "cast.h"
#include "tensor.h"

enum { BLOCK = 1024 }; /* elements at a time: both widened blocks fit in 32 KiB */

typedef enum lane { LANE_INT, LANE_REAL, LANE_COMPLEX } lane;

typedef struct side {
  const ckpt_tensor *t;
  const unsigned char *data;
  ckpt_dtype parts; /* what one number of an element is: float32 for complex64, int8 for qint8 */
  bool complex, direct;
  size_t bytes; /* of one element */
} side;

/* Room for one widened block of one side, and for its bytes before. */
typedef union block {
  int64_t ints[BLOCK];
  double reals[2 * BLOCK];
} block;

typedef struct job {
  side a, b;
  int64_t count; /* elements, or bytes of packed ones */
  lane lane;
  bool same_bits, nan_matters;
  const ckpt_compare_options *options;
  ckpt_comparison *result;
} job;

/* ---- one element ---- */

static double magnitude(int64_t v, bool is_unsigned) { return is_unsigned ? (double)(uint64_t)v : fabs((double)v); }

/* Counts an element that differs. `abs` is NaN where a number meets a NaN; `base` is the larger magnitude. */
static void count_difference(job *j, int64_t at, double abs, double base) {
  ckpt_comparison *r = j->result;
  bool unordered = isnan(abs);
  r->differing++;
  r->unordered += unordered;
  if (unordered || isinf(base) || !(abs <= j->options->atol + j->options->rtol * base)) {
    if (r->beyond++ == 0) r->first = at;
  }
  if (unordered) return;
  if (abs > r->max_abs) r->max_abs = abs;
  double rel = isinf(base) ? INFINITY : abs / base;
  if (rel > r->max_rel) r->max_rel = rel;
}

/* The exact difference, as the nearest double. */
static double int_distance(int64_t a, bool a_unsigned, int64_t b, bool b_unsigned) {
  bool a_negative = !a_unsigned && a < 0, b_negative = !b_unsigned && b < 0;
  if (a_negative != b_negative) return magnitude(a, a_unsigned) + magnitude(b, b_unsigned);
  bool a_larger = a_negative ? a > b : (uint64_t)a > (uint64_t)b;
  return (double)(a_larger ? (uint64_t)a - (uint64_t)b : (uint64_t)b - (uint64_t)a);
}

static bool same_real(double a, double b, const ckpt_compare_options *o) {
  return a == b || (o->equal_nan && isnan(a) && isnan(b));
}

static double distance(double a, double b) { return a == b ? 0 : fabs(a - b); }

/* ---- one block ---- */

static void compare_ints(job *j, const int64_t *a, const int64_t *b, int64_t at, int64_t n) {
  bool au = j->a.parts == CKPT_U64, bu = j->b.parts == CKPT_U64;
  for (int64_t i = 0; i < n; i++) {
    bool same = a[i] == b[i] && (au == bu || a[i] >= 0);
    if (same) continue;
    count_difference(j, at + i, int_distance(a[i], au, b[i], bu), fmax(magnitude(a[i], au), magnitude(b[i], bu)));
  }
}

static void compare_reals(job *j, const double *a, const double *b, int64_t at, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    if (same_real(a[i], b[i], j->options)) continue;
    double base = fmax(fabs(a[i]), fabs(b[i]));
    count_difference(j, at + i, isnan(a[i]) || isnan(b[i]) ? NAN : fabs(a[i] - b[i]), base);
  }
}

static void compare_complex(job *j, const double *a, const double *b, int64_t at, int64_t n) {
  for (int64_t i = 0; i < n; i++, a += 2, b += 2) {
    if (same_real(a[0], b[0], j->options) && same_real(a[1], b[1], j->options)) continue;
    bool unordered = isnan(a[0]) || isnan(a[1]) || isnan(b[0]) || isnan(b[1]);
    double abs = unordered ? NAN : hypot(distance(a[0], b[0]), distance(a[1], b[1]));
    count_difference(j, at + i, abs, fmax(hypot(a[0], a[1]), hypot(b[0], b[1])));
  }
}

/* The bytes of elements [at, at+n), where they lie or gathered into `room`. */
static const void *bytes_of(const side *s, unsigned char *room, int64_t at, int64_t n) {
  if (s->direct) return s->data + (size_t)at * s->bytes;
  ckpt_tensor_gather(room, s->t, s->data, at, n);
  return room;
}

static void cast(void *to, ckpt_dtype to_dtype, const void *from, ckpt_dtype from_dtype, size_t n) {
  if (to_dtype == from_dtype)
    memcpy(to, from, n * ckpt_dtype_size(to_dtype));
  else
    ckpt_cast_run(to, to_dtype, from, from_dtype, n);
}

/* The n elements as int64 or double, (re, im) pairs for complex. A real number's imaginary part is 0. */
static void widen(block *to, const job *j, const side *s, const void *bytes, int64_t n) {
  if (j->lane == LANE_INT) {
    cast(to->ints, CKPT_I64, bytes, s->parts, (size_t)n);
    return;
  }
  cast(to->reals, CKPT_F64, bytes, s->parts, (size_t)n * (s->complex ? 2 : 1));
  if (j->lane != LANE_COMPLEX || s->complex) return;
  for (int64_t i = n - 1; i >= 0; i--) {
    to->reals[2 * i] = to->reals[i];
    to->reals[2 * i + 1] = 0;
  }
}

static void compare_block(job *j, int64_t at, int64_t n) {
  unsigned char room_a[16 * BLOCK], room_b[16 * BLOCK];
  const void *pa = bytes_of(&j->a, room_a, at, n), *pb = bytes_of(&j->b, room_b, at, n);
  if (j->same_bits && !j->nan_matters && memcmp(pa, pb, (size_t)n * j->a.bytes) == 0) return;
  block a, b;
  widen(&a, j, &j->a, pa, n);
  widen(&b, j, &j->b, pb, n);
  if (j->lane == LANE_INT)
    compare_ints(j, a.ints, b.ints, at, n);
  else if (j->lane == LANE_REAL)
    compare_reals(j, a.reals, b.reals, at, n);
  else
    compare_complex(j, a.reals, b.reals, at, n);
}

/* ---- what is compared with what ---- */

static ckpt_dtype parts_of(ckpt_dtype dtype) {
  switch (dtype) {
    case CKPT_C32: return CKPT_F16;
    case CKPT_C64: return CKPT_F32;
    case CKPT_C128: return CKPT_F64;
    case CKPT_BC32: return CKPT_BF16;
    case CKPT_QI8: return CKPT_I8;
    case CKPT_QI32: return CKPT_I32;
    case CKPT_BITS16: return CKPT_U16;
    default: break;
  }
  ckpt_numeric n = ckpt_dtype_numeric(dtype);
  return n == CKPT_NUM_QUANT || n == CKPT_NUM_BITS ? CKPT_U8 : dtype;
}

/* Quantised and bit dtypes mean nothing beside another dtype. */
static bool is_private(ckpt_dtype dtype) {
  ckpt_numeric n = ckpt_dtype_numeric(dtype);
  return n == CKPT_NUM_QUANT || n == CKPT_NUM_BITS;
}

static bool is_real(ckpt_dtype dtype) {
  ckpt_numeric n = ckpt_dtype_numeric(dtype);
  return n == CKPT_NUM_FLOAT || n == CKPT_NUM_COMPLEX;
}

static ckpt_status open_side(side *s, const ckpt_tensor *t, ckpt_error *err) {
  const void *data;
  CKPT_TRY(ckpt_tensor_check_packed(t, err));
  CKPT_TRY(ckpt_tensor_check_spread(t, err));
  CKPT_TRY(ckpt_tensor_data(&data, t, err));
  ckpt_dtype dtype = ckpt_tensor_dtype(t);
  *s = (side){.t = t, .data = data, .parts = parts_of(dtype), .bytes = ckpt_dtype_size(dtype)};
  s->complex = ckpt_dtype_numeric(dtype) == CKPT_NUM_COMPLEX;
  s->direct = ckpt_tensor_is_contiguous(t) && !ckpt_tensor_conj(t) && !ckpt_tensor_neg(t);
  return CKPT_OK;
}

static ckpt_status check_pair(const ckpt_tensor *a, const ckpt_tensor *b, ckpt_error *err) {
  int n = ckpt_tensor_ndim(a);
  ckpt_dtype x = ckpt_tensor_dtype(a), y = ckpt_tensor_dtype(b);
  if (n != ckpt_tensor_ndim(b) ||
      (n > 0 && memcmp(ckpt_tensor_shape(a), ckpt_tensor_shape(b), (size_t)n * sizeof(int64_t)) != 0))
    return ckpt_fail(err, CKPT_E_SHAPE, -1, "tensors of different shapes cannot be compared");
  lane l = is_real(x) || is_real(y) ? LANE_REAL : LANE_INT;
  ckpt_dtype wide = l == LANE_REAL ? CKPT_F64 : CKPT_I64;
  bool known = ckpt_cast_supported(wide, parts_of(x)) && ckpt_cast_supported(wide, parts_of(y));
  if ((x == y || (!is_private(x) && !is_private(y))) && known) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "%s cannot be compared with %s", ckpt_dtype_name(x),
                   ckpt_dtype_name(y));
}

static lane lane_of(const job *j) {
  if (j->a.complex || j->b.complex) return LANE_COMPLEX;
  bool real = ckpt_dtype_numeric(j->a.parts) == CKPT_NUM_FLOAT || ckpt_dtype_numeric(j->b.parts) == CKPT_NUM_FLOAT;
  return real ? LANE_REAL : LANE_INT;
}

/* The very same elements: nothing to look at, unless a NaN must be found that differs from itself. */
static bool is_same_view(const ckpt_tensor *a, const ckpt_tensor *b) {
  size_t n = (size_t)ckpt_tensor_ndim(a) * sizeof(int64_t);
  return ckpt_tensor_shares_storage(a, b) && ckpt_tensor_dtype(a) == ckpt_tensor_dtype(b) &&
         ckpt_tensor_offset(a) == ckpt_tensor_offset(b) && ckpt_tensor_conj(a) == ckpt_tensor_conj(b) &&
         ckpt_tensor_neg(a) == ckpt_tensor_neg(b) &&
         (n == 0 || memcmp(ckpt_tensor_stride(a), ckpt_tensor_stride(b), n) == 0);
}

ckpt_status ckpt_tensor_compare(ckpt_comparison *out, const ckpt_tensor *a, const ckpt_tensor *b,
                                const ckpt_compare_options *options, ckpt_error *err) {
  static const ckpt_compare_options exact = {0};
  ckpt_comparison result = {.first = -1};
  job j = {.options = options != NULL ? options : &exact, .result = &result};
  CKPT_TRY(check_pair(a, b, err));
  CKPT_TRY(open_side(&j.a, a, err));
  CKPT_TRY(open_side(&j.b, b, err));
  j.lane = lane_of(&j);
  j.same_bits = ckpt_tensor_dtype(a) == ckpt_tensor_dtype(b);
  j.nan_matters = j.lane != LANE_INT && !j.options->equal_nan;
  bool packed = ckpt_dtype_per_byte(ckpt_tensor_dtype(a)) > 1;
  j.count = packed ? (int64_t)ckpt_tensor_nbytes(a) : ckpt_tensor_numel(a);
  bool skip = is_same_view(a, b) && !j.nan_matters;
  for (int64_t at = 0; !skip && at < j.count; at += BLOCK)
    compare_block(&j, at, j.count - at < BLOCK ? j.count - at : BLOCK);
  *out = result;
  return CKPT_OK;
}
