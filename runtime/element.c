/* element.c - see element.h; and reading and writing single elements of tensors. */
#include "element.h"

#include <math.h>
#include <stdlib.h>

#include "strided.h"
#include "tensor.h"

ckpt_scalar ckpt_scalar_int(int64_t i) { return (ckpt_scalar){.kind = CKPT_SCALAR_INT, .whole = i}; }
ckpt_scalar ckpt_scalar_double(double d) { return (ckpt_scalar){.kind = CKPT_SCALAR_FLOAT, .real = d}; }

ckpt_status ckpt_element_check(ckpt_dtype dtype, const char *what, ckpt_error *err) {
  if (ckpt_dtype_is_real(dtype) || ckpt_dtype_part(dtype) != dtype) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "%s is not defined for %s: its elements are no numbers", what,
                   ckpt_dtype_name(dtype));
}

/* ---- numbers to bytes ---- */

static bool is_fractional(ckpt_scalar v) { return v.kind == CKPT_SCALAR_FLOAT || v.kind == CKPT_SCALAR_COMPLEX; }

/* A float that is a whole number, as an integer. */
static ckpt_status whole_of(ckpt_scalar *v, ckpt_dtype dtype, ckpt_error *err) {
  if (!is_fractional(*v)) return CKPT_OK;
  if (v->real != trunc(v->real))
    return ckpt_fail(err, CKPT_E_TYPE, -1, "%g is no whole number, %s holds nothing else", v->real,
                     ckpt_dtype_name(dtype));
  if (v->real < -ldexp(1, 63) || v->real >= ldexp(1, 64))
    return ckpt_fail(err, CKPT_E_RANGE, -1, "%g does not fit %s", v->real, ckpt_dtype_name(dtype));
  bool large = v->real >= ldexp(1, 63);
  v->whole = large ? (int64_t)(uint64_t)v->real : (int64_t)v->real;
  v->kind = large ? CKPT_SCALAR_UINT : CKPT_SCALAR_INT;
  return CKPT_OK;
}

static bool fits(ckpt_scalar v, ckpt_dtype dtype) {
  unsigned bits = 8 * (unsigned)ckpt_dtype_size(dtype);
  bool is_signed = ckpt_dtype_numeric(dtype) == CKPT_NUM_INT;
  if (v.kind == CKPT_SCALAR_UINT) return dtype == CKPT_U64;
  if (dtype == CKPT_BOOL) return v.whole == 0 || v.whole == 1;
  if (bits == 64) return is_signed || v.whole >= 0;
  if (is_signed) return v.whole >= -(INT64_C(1) << (bits - 1)) && v.whole < INT64_C(1) << (bits - 1);
  return v.whole >= 0 && v.whole < INT64_C(1) << bits;
}

static ckpt_status encode_whole(unsigned char *out, ckpt_dtype dtype, ckpt_scalar v, ckpt_error *err) {
  CKPT_TRY(whole_of(&v, dtype, err));
  if (!fits(v, dtype)) {
    if (v.kind == CKPT_SCALAR_UINT)
      return ckpt_fail(err, CKPT_E_RANGE, -1, "%llu does not fit %s", (unsigned long long)v.whole,
                       ckpt_dtype_name(dtype));
    return ckpt_fail(err, CKPT_E_RANGE, -1, "%lld does not fit %s", (long long)v.whole, ckpt_dtype_name(dtype));
  }
  if (dtype == CKPT_I64)
    ckpt_put64(out, (uint64_t)v.whole);
  else
    ckpt_cast_run(out, dtype, &v.whole, CKPT_I64, 1);
  return CKPT_OK;
}

static void cast_or_copy(void *to, ckpt_dtype to_dtype, const void *from, ckpt_dtype from_dtype) {
  if (to_dtype == from_dtype)
    memcpy(to, from, ckpt_dtype_size(to_dtype));
  else
    ckpt_cast_run(to, to_dtype, from, from_dtype, 1);
}

/* A number must not become infinite, NaN, the largest of a format that ends there, or lose its sign. */
static bool is_lost(double v, double back, ckpt_dtype dtype) {
  if (isnan(v)) return false;
  if (dtype == CKPT_F8_E4M3FN && fabs(v) > 464) return true; /* the middle between 448 and what would follow */
  if (dtype == CKPT_F8_E8M0FNU && v < 0) return true;
  return isnan(back) || (isfinite(v) && isinf(back));
}

static ckpt_status encode_double(unsigned char *out, ckpt_dtype dtype, double v, ckpt_error *err) {
  double back;
  cast_or_copy(out, dtype, &v, CKPT_F64);
  cast_or_copy(&back, CKPT_F64, out, dtype);
  if (is_lost(v, back, dtype)) return ckpt_fail(err, CKPT_E_RANGE, -1, "%g does not fit %s", v, ckpt_dtype_name(dtype));
  return CKPT_OK;
}

static ckpt_status encode_float(unsigned char *out, ckpt_dtype dtype, ckpt_scalar v, ckpt_error *err) {
  if (is_fractional(v)) return encode_double(out, dtype, v.real, err);
  double wide, back;
  ckpt_dtype from = v.kind == CKPT_SCALAR_UINT ? CKPT_U64 : CKPT_I64;
  ckpt_cast_run(&wide, CKPT_F64, &v.whole, from, 1);
  ckpt_cast_run(out, dtype, &v.whole, from, 1); /* rounded once, not by way of the double */
  cast_or_copy(&back, CKPT_F64, out, dtype);
  return is_lost(wide, back, dtype) ? encode_double(out, dtype, wide, err) : CKPT_OK;
}

static ckpt_status encode_complex(unsigned char *out, ckpt_dtype dtype, ckpt_scalar v, ckpt_error *err) {
  ckpt_dtype part = ckpt_dtype_part(dtype);
  CKPT_TRY(encode_float(out, part, v, err));
  return encode_double(out + ckpt_dtype_size(part), part, v.kind == CKPT_SCALAR_COMPLEX ? v.imag : 0, err);
}

ckpt_status ckpt_element_encode(unsigned char out[CKPT_ELEMENT_MAX], ckpt_dtype dtype, ckpt_scalar value,
                                ckpt_error *err) {
  CKPT_TRY(ckpt_element_check(dtype, "a number", err));
  if (!ckpt_dtype_is_real(dtype)) return encode_complex(out, dtype, value, err);
  if (value.kind == CKPT_SCALAR_COMPLEX && value.imag != 0)
    return ckpt_fail(err, CKPT_E_TYPE, -1, "%g%+gi has an imaginary part, %s has none", value.real, value.imag,
                     ckpt_dtype_name(dtype));
  return ckpt_dtype_is_integer(dtype) ? encode_whole(out, dtype, value, err) : encode_float(out, dtype, value, err);
}

/* ---- bytes to numbers ---- */

static double part_of(const unsigned char *bytes, ckpt_dtype part) {
  double v;
  cast_or_copy(&v, CKPT_F64, bytes, part);
  return v;
}

ckpt_scalar ckpt_element_decode(const unsigned char *bytes, ckpt_dtype dtype) {
  ckpt_dtype part = ckpt_dtype_part(dtype);
  if (part != dtype)
    return (ckpt_scalar){CKPT_SCALAR_COMPLEX, 0, part_of(bytes, part), part_of(bytes + ckpt_dtype_size(part), part)};
  if (!ckpt_dtype_is_integer(dtype)) return ckpt_scalar_double(part_of(bytes, dtype));
  ckpt_scalar v = {.kind = CKPT_SCALAR_INT};
  cast_or_copy(&v.whole, CKPT_I64, bytes, dtype);
  if (dtype == CKPT_BOOL) v.kind = CKPT_SCALAR_BOOL;
  if (dtype == CKPT_U64 && v.whole < 0) v.kind = CKPT_SCALAR_UINT;
  return v;
}

/* ---- elements of tensors ---- */

/* The view of one element. */
static ckpt_status locate(ckpt_tensor **out, const ckpt_tensor *t, const int64_t *index, ckpt_error *err) {
  int64_t at = ckpt_tensor_offset(t);
  if (ckpt_tensor_is_meta(t)) return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "a meta tensor has no data");
  for (int i = 0; i < ckpt_tensor_ndim(t); i++) {
    int64_t size = ckpt_tensor_shape(t)[i], given = index[i];
    if (given < -size || given >= size)
      return ckpt_fail(err, CKPT_E_RANGE, -1, "index %lld is outside dimension %d of size %lld", (long long)given, i,
                       (long long)size);
    at += (given < 0 ? given + size : given) * ckpt_tensor_stride(t)[i];
  }
  return ckpt_tensor_view(out, t, at, 0, NULL, NULL, err);
}

static ckpt_status look(ckpt_scalar *out, const ckpt_tensor *one, ckpt_error *err) {
  unsigned char bytes[CKPT_ELEMENT_MAX];
  const void *data;
  CKPT_TRY(ckpt_tensor_data(&data, one, err));
  ckpt_tensor_gather(bytes, one, data, 0, 1);
  *out = ckpt_element_decode(bytes, ckpt_tensor_dtype(one));
  return CKPT_OK;
}

ckpt_status ckpt_tensor_get(ckpt_scalar *out, const ckpt_tensor *t, const int64_t *index, ckpt_error *err) {
  ckpt_tensor *one = NULL;
  CKPT_TRY(ckpt_element_check(ckpt_tensor_dtype(t), "an element", err));
  CKPT_TRY(locate(&one, t, index, err));
  ckpt_status st = look(out, one, err);
  ckpt_tensor_release(one);
  return st;
}

static ckpt_status check_writable(const ckpt_tensor *t, ckpt_error *err) {
  if (ckpt_tensor_is_meta(t) || !ckpt_storage_is_writable(ckpt_tensor_storage(t)))
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "the tensor is read-only; a clone of it is not");
  if (ckpt_tensor_conj(t) || ckpt_tensor_neg(t))
    return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "the tensor has a conjugate or negative bit; a clone of it has none");
  return CKPT_OK;
}

/* Distinct indices at one address are harmless: all are given the same bytes. */
ckpt_status ckpt_tensor_fill(ckpt_tensor *t, ckpt_scalar value, ckpt_error *err) {
  static const int64_t still[CKPT_MAX_DIMS];
  unsigned char element[CKPT_ELEMENT_MAX];
  const void *data;
  CKPT_TRY(check_writable(t, err));
  CKPT_TRY(ckpt_tensor_check_spread(t, err));
  CKPT_TRY(ckpt_element_encode(element, ckpt_tensor_dtype(t), value, err));
  CKPT_TRY(ckpt_tensor_data(&data, t, err));
  if (ckpt_tensor_numel(t) == 0) return CKPT_OK;
  ckpt_strided_copy((unsigned char *)(uintptr_t)data, ckpt_tensor_stride(t), (ckpt_region){element, still},
                    ckpt_tensor_ndim(t), ckpt_tensor_shape(t), ckpt_dtype_size(ckpt_tensor_dtype(t)));
  return CKPT_OK;
}

ckpt_status ckpt_tensor_set(ckpt_tensor *t, const int64_t *index, ckpt_scalar value, ckpt_error *err) {
  ckpt_tensor *one = NULL;
  CKPT_TRY(locate(&one, t, index, err));
  ckpt_status st = ckpt_tensor_fill(one, value, err);
  ckpt_tensor_release(one);
  return st;
}
