/*
 * arith.c - computed tensors whose elements are others than their sources': to, scale, add.
 *
 * Sums and products are computed block by block in a carrier: the dtype itself for integers (wrapping around), float32
 * and float64, and float32 for the smaller floats, which are rounded once at the end; complex numbers by their parts.
 */
#include "cast.h"
#include "element.h"
#include "lazy.h"
#include "view.h"

/* ---- casts ---- */

static void part_to(unsigned char *to, const ckpt_lazy *lazy, size_t i, const void *data) {
  ckpt_tensor_cast_into(to, ckpt_tensor_dtype(lazy->result), lazy->sources[i], data);
}

static const ckpt_lazy_op to_op = {.part = part_to, .cut = ckpt_lazy_cut_alike, .elementwise = true};

ckpt_status ckpt_tensor_to(ckpt_tensor **out, const ckpt_tensor *t, ckpt_dtype dtype, ckpt_error *err) {
  CKPT_TRY(ckpt_cast_check(dtype, ckpt_tensor_dtype(t), err));
  if (dtype == ckpt_tensor_dtype(t)) return ckpt_tensor_contiguous(out, t, err);
  ckpt_lazy_plan plan = {&to_op, dtype, ckpt_tensor_ndim(t), ckpt_tensor_shape(t), 1, &t, NULL, 0};
  return ckpt_lazy_make(out, &plan, err);
}

/* ---- blocks of numbers ---- */

enum { BLOCK = 512 };

typedef union block {
  uint64_t whole[BLOCK]; /* two's complement: sums and products wrap alike for signed and unsigned */
  float single[BLOCK];
  double wide[BLOCK];
} block;

typedef enum carrier { WHOLE, SINGLE, DOUBLE } carrier;

static carrier carrier_of(ckpt_dtype dtype) {
  ckpt_dtype part = ckpt_dtype_part(dtype);
  if (ckpt_dtype_is_integer(part)) return WHOLE;
  return part == CKPT_F64 ? DOUBLE : SINGLE;
}

static ckpt_dtype carrier_dtype(carrier c) { return c == WHOLE ? CKPT_I64 : c == SINGLE ? CKPT_F32 : CKPT_F64; }

static void cast_parts(void *to, ckpt_dtype to_dtype, const void *from, ckpt_dtype from_dtype, size_t n) {
  if (to_dtype == from_dtype)
    memcpy(to, from, n * ckpt_dtype_size(to_dtype));
  else
    ckpt_cast_run(to, to_dtype, from, from_dtype, n);
}

/* A number in every carrier; of a real one the imaginary part is 0. */
typedef struct operand {
  uint64_t whole;
  float single[2];
  double wide[2];
} operand;

typedef void (*combine)(block *a, const block *b, const operand *x, carrier c, size_t n);

/* ---- products ---- */

static void scale_real(block *a, const block *b, const operand *x, carrier c, size_t n) {
  (void)b;
  for (size_t i = 0; c == WHOLE && i < n; i++) a->whole[i] *= x->whole;
  for (size_t i = 0; c == SINGLE && i < n; i++) a->single[i] *= x->single[0];
  for (size_t i = 0; c == DOUBLE && i < n; i++) a->wide[i] *= x->wide[0];
}

static void scale_complex(block *a, const block *b, const operand *x, carrier c, size_t n) {
  (void)b;
  for (size_t i = 0; c == SINGLE && i < n; i += 2) {
    float re = a->single[i], im = a->single[i + 1];
    a->single[i] = re * x->single[0] - im * x->single[1];
    a->single[i + 1] = re * x->single[1] + im * x->single[0];
  }
  for (size_t i = 0; c == DOUBLE && i < n; i += 2) {
    double re = a->wide[i], im = a->wide[i + 1];
    a->wide[i] = re * x->wide[0] - im * x->wide[1];
    a->wide[i + 1] = re * x->wide[1] + im * x->wide[0];
  }
}

/* ---- sums ---- */

static void add_number(block *a, const block *b, const operand *x, carrier c, size_t n) {
  (void)b;
  for (size_t i = 0; c == WHOLE && i < n; i++) a->whole[i] += x->whole;
  for (size_t i = 0; c == SINGLE && i < n; i++) a->single[i] += x->single[0];
  for (size_t i = 0; c == DOUBLE && i < n; i++) a->wide[i] += x->wide[0];
}

static void add_complex(block *a, const block *b, const operand *x, carrier c, size_t n) {
  (void)b;
  for (size_t i = 0; c == SINGLE && i < n; i++) a->single[i] += x->single[i % 2];
  for (size_t i = 0; c == DOUBLE && i < n; i++) a->wide[i] += x->wide[i % 2];
}

static void add_block(block *a, const block *b, const operand *x, carrier c, size_t n) {
  (void)x;
  for (size_t i = 0; c == WHOLE && i < n; i++) a->whole[i] += b->whole[i];
  for (size_t i = 0; c == SINGLE && i < n; i++) a->single[i] += b->single[i];
  for (size_t i = 0; c == DOUBLE && i < n; i++) a->wide[i] += b->wide[i];
}

/* ---- passes over a result ---- */

/* `to` = what `to` holds, combined with the logical elements of `from` (NULL: with x alone). */
static void combine_all(unsigned char *to, const ckpt_tensor *result, const ckpt_tensor *from, const void *data,
                        combine f, const operand *x) {
  block a, b = {{0}}; /* b: of no use to an operation with a number */
  unsigned char gathered[BLOCK * CKPT_ELEMENT_MAX / 2];
  ckpt_dtype dtype = ckpt_tensor_dtype(result), part = ckpt_dtype_part(dtype);
  carrier c = carrier_of(dtype);
  int64_t parts = part == dtype ? 1 : 2, step = BLOCK / parts, numel = ckpt_tensor_numel(result);
  for (int64_t at = 0; at < numel; at += step) {
    int64_t count = numel - at < step ? numel - at : step;
    size_t n = (size_t)(count * parts);
    unsigned char *here = to + (size_t)at * ckpt_dtype_size(dtype);
    if (from != NULL) {
      ckpt_tensor_gather(gathered, from, data, at, count);
      cast_parts(&b, carrier_dtype(c), gathered, part, n);
    }
    cast_parts(&a, carrier_dtype(c), here, part, n);
    f(&a, &b, x, c, n);
    cast_parts(here, part, &a, carrier_dtype(c), n);
  }
}

static void gather_all(unsigned char *to, const ckpt_lazy *lazy, size_t i, const void *data) {
  ckpt_tensor_gather(to, lazy->sources[i], data, 0, ckpt_tensor_numel(lazy->result));
}

static bool is_complex(const ckpt_lazy *lazy) {
  ckpt_dtype dtype = ckpt_tensor_dtype(lazy->result);
  return ckpt_dtype_part(dtype) != dtype;
}

static void part_scale(unsigned char *to, const ckpt_lazy *lazy, size_t i, const void *data) {
  gather_all(to, lazy, i, data);
  combine_all(to, lazy->result, NULL, NULL, is_complex(lazy) ? scale_complex : scale_real, lazy->params);
}

static void part_add_number(unsigned char *to, const ckpt_lazy *lazy, size_t i, const void *data) {
  gather_all(to, lazy, i, data);
  combine_all(to, lazy->result, NULL, NULL, is_complex(lazy) ? add_complex : add_number, lazy->params);
}

static void part_add(unsigned char *to, const ckpt_lazy *lazy, size_t i, const void *data) {
  if (i == 0)
    gather_all(to, lazy, i, data);
  else
    combine_all(to, lazy->result, lazy->sources[i], data, add_block, NULL);
}

static const ckpt_lazy_op scale_op = {.part = part_scale, .cut = ckpt_lazy_cut_alike, .elementwise = true};
static const ckpt_lazy_op add_number_op = {.part = part_add_number, .cut = ckpt_lazy_cut_alike, .elementwise = true};
static const ckpt_lazy_op add_op = {.part = part_add, .cut = ckpt_lazy_cut_alike};

/* ---- results ---- */

static ckpt_status check_numbers(const ckpt_tensor *t, const char *what, ckpt_error *err) {
  CKPT_TRY(ckpt_element_check(ckpt_tensor_dtype(t), what, err));
  if (ckpt_tensor_dtype(t) != CKPT_BOOL) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "%s is not defined for bool: cast it first", what);
}

/* The number in the carriers' precision, not in that of a small dtype: PyTorch multiplies a half by a float. */
static ckpt_status make_operand(operand *out, ckpt_dtype dtype, ckpt_scalar v, ckpt_error *err) {
  unsigned char bytes[CKPT_ELEMENT_MAX];
  ckpt_dtype part = ckpt_dtype_part(dtype);
  if (carrier_of(dtype) == WHOLE) {
    CKPT_TRY(ckpt_element_encode(bytes, dtype, v, err));
    cast_parts(&out->whole, CKPT_I64, bytes, dtype, 1);
    return CKPT_OK;
  }
  if (part == dtype && v.kind == CKPT_SCALAR_COMPLEX && v.imag != 0)
    return ckpt_element_encode(bytes, dtype, v, err); /* says why not */
  CKPT_TRY(ckpt_element_encode(bytes, part == dtype ? CKPT_F64 : CKPT_C128, v, err));
  memcpy(out->wide, bytes, part == dtype ? sizeof(double) : 2 * sizeof(double));
  for (int i = 0; i < 2; i++) out->single[i] = (float)out->wide[i];
  return CKPT_OK;
}

static ckpt_status with_number(ckpt_tensor **out, const ckpt_lazy_op *op, const char *what, const ckpt_tensor *t,
                               ckpt_scalar v, ckpt_error *err) {
  operand x = {0, {0, 0}, {0, 0}};
  CKPT_TRY(check_numbers(t, what, err));
  CKPT_TRY(make_operand(&x, ckpt_tensor_dtype(t), v, err));
  ckpt_lazy_plan plan = {op, ckpt_tensor_dtype(t), ckpt_tensor_ndim(t), ckpt_tensor_shape(t), 1, &t, &x, sizeof x};
  return ckpt_lazy_make(out, &plan, err);
}

ckpt_status ckpt_tensor_scale(ckpt_tensor **out, const ckpt_tensor *t, ckpt_scalar factor, ckpt_error *err) {
  return with_number(out, &scale_op, "scale", t, factor, err);
}

ckpt_status ckpt_tensor_add_number(ckpt_tensor **out, const ckpt_tensor *t, ckpt_scalar number, ckpt_error *err) {
  return with_number(out, &add_number_op, "add", t, number, err);
}

ckpt_status ckpt_tensor_add(ckpt_tensor **out, const ckpt_tensor *t, const ckpt_tensor *u, ckpt_error *err) {
  const ckpt_tensor *both[] = {t, u};
  CKPT_TRY(check_numbers(t, "add", err));
  if (ckpt_tensor_dtype(t) != ckpt_tensor_dtype(u))
    return ckpt_fail(err, CKPT_E_TYPE, -1, "%s and %s are not added: cast one of them",
                     ckpt_dtype_name(ckpt_tensor_dtype(t)), ckpt_dtype_name(ckpt_tensor_dtype(u)));
  if (!ckpt_tensor_same_shape(t, u))
    return ckpt_fail(err, CKPT_E_SHAPE, -1, "tensors of different shapes are not added: expand one of them");
  ckpt_lazy_plan plan = {&add_op, ckpt_tensor_dtype(t), ckpt_tensor_ndim(t), ckpt_tensor_shape(t), 2, both, NULL, 0};
  return ckpt_lazy_make(out, &plan, err);
}
