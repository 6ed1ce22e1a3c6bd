/* quantizer.c - see quantizer.h. */
#include "quantizer.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

struct ckpt_quantizer {
  atomic_int refs;
  ckpt_quantization q; /* its tensors are retained */
};

const char *ckpt_qscheme_name(ckpt_qscheme scheme) {
  static const char *const names[] = {"per_tensor_affine", "per_channel_affine", "per_channel_affine_float_qparams"};
  return names[scheme];
}

/* ---- making ---- */

static bool is_real(ckpt_dtype dtype) {
  ckpt_numeric n = ckpt_dtype_numeric(dtype);
  return n == CKPT_NUM_INT || n == CKPT_NUM_UINT || n == CKPT_NUM_FLOAT;
}

static ckpt_status check_list(const ckpt_tensor *list, const char *what, int64_t wanted, ckpt_error *err) {
  if (list == NULL || ckpt_tensor_ndim(list) != 1 || !is_real(ckpt_tensor_dtype(list)))
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a quantised tensor whose %s are no list of numbers", what);
  if (ckpt_tensor_numel(list) != wanted)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a quantised tensor with %lld %s for an axis of %lld",
                     (long long)ckpt_tensor_numel(list), what, (long long)wanted);
  return CKPT_OK;
}

static ckpt_status check(const ckpt_quantization *q, const ckpt_tensor *t, ckpt_error *err) {
  if (ckpt_dtype_numeric(ckpt_tensor_dtype(t)) != CKPT_NUM_QUANT)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a scale on a %s tensor, which is not quantised",
                     ckpt_dtype_name(ckpt_tensor_dtype(t)));
  if (q->scheme == CKPT_PER_TENSOR_AFFINE) return CKPT_OK;
  if (q->axis < 0 || q->axis >= ckpt_tensor_ndim(t))
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a quantised tensor of %d dimensions with scales along axis %d",
                     ckpt_tensor_ndim(t), q->axis);
  int64_t wanted = ckpt_tensor_shape(t)[q->axis];
  CKPT_TRY(check_list(q->scales, "scales", wanted, err));
  return check_list(q->zero_points, "zero points", wanted, err);
}

ckpt_status ckpt_quantizer_new(ckpt_quantizer **out, const ckpt_quantization *q, const ckpt_tensor *t,
                               ckpt_error *err) {
  CKPT_TRY(check(q, t, err));
  ckpt_quantizer *made = calloc(1, sizeof *made);
  if (made == NULL) return ckpt_fail_nomem(err, sizeof *made);
  atomic_init(&made->refs, 1);
  made->q = *q;
  if (q->scheme == CKPT_PER_TENSOR_AFFINE) {
    made->q.scales = made->q.zero_points = NULL;
  } else {
    bool floats = ckpt_dtype_numeric(ckpt_tensor_dtype(q->zero_points)) == CKPT_NUM_FLOAT; /* files do not say it */
    made->q.scheme = floats ? CKPT_PER_CHANNEL_AFFINE_FLOAT_QPARAMS : CKPT_PER_CHANNEL_AFFINE;
    ckpt_tensor_retain(q->scales);
    ckpt_tensor_retain(q->zero_points);
  }
  *out = made;
  return CKPT_OK;
}

ckpt_quantizer *ckpt_quantizer_retain(ckpt_quantizer *quantizer) {
  atomic_fetch_add_explicit(&quantizer->refs, 1, memory_order_relaxed);
  return quantizer;
}

void ckpt_quantizer_release(ckpt_quantizer *quantizer) {
  if (quantizer == NULL || atomic_fetch_sub_explicit(&quantizer->refs, 1, memory_order_acq_rel) != 1) return;
  ckpt_tensor_release(quantizer->q.scales);
  ckpt_tensor_release(quantizer->q.zero_points);
  free(quantizer);
}

const ckpt_quantization *ckpt_quantizer_get(const ckpt_quantizer *quantizer) { return &quantizer->q; }

/* ---- numbers ---- */

/* The entries of a list of numbers; free() them. */
static ckpt_status doubles_of(double **out, const ckpt_tensor *list, ckpt_error *err) {
  size_t n = (size_t)ckpt_tensor_numel(list);
  ckpt_tensor *wide = NULL;
  const void *data = NULL;
  double *numbers = NULL;
  ckpt_status st = ckpt_tensor_check_spread(list, err);
  if (st == CKPT_OK) st = ckpt_tensor_new(&wide, CKPT_F64, 1, ckpt_tensor_shape(list), err);
  if (st == CKPT_OK) st = ckpt_tensor_copy(wide, list, err);
  if (st == CKPT_OK) st = ckpt_tensor_data(&data, wide, err);
  if (st == CKPT_OK && (numbers = calloc(n + 1, sizeof *numbers)) == NULL)
    st = ckpt_fail_nomem(err, n * sizeof *numbers);
  if (st == CKPT_OK && n > 0) memcpy(numbers, data, n * sizeof *numbers);
  ckpt_tensor_release(wide);
  if (st == CKPT_OK) *out = numbers;
  return st;
}

static ckpt_status read_numbers(double **scales, double **zero_points, const ckpt_quantization *q, ckpt_error *err) {
  if (q->scheme != CKPT_PER_TENSOR_AFFINE) {
    CKPT_TRY(doubles_of(scales, q->scales, err));
    return doubles_of(zero_points, q->zero_points, err);
  }
  *scales = calloc(1, sizeof **scales);
  *zero_points = calloc(1, sizeof **zero_points);
  if (*scales == NULL || *zero_points == NULL) return ckpt_fail_nomem(err, sizeof **scales);
  **scales = q->scale;
  **zero_points = (double)q->zero_point;
  return CKPT_OK;
}

static ckpt_status check_numbers(const double *scales, const double *zero_points, size_t n, ckpt_error *err) {
  for (size_t i = 0; i < n; i++) {
    if (!(scales[i] > 0) || isinf(scales[i]))
      return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a quantised tensor whose scale %zu is %g, not a positive number", i,
                       scales[i]);
    if (!isfinite(zero_points[i]))
      return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a quantised tensor whose zero point %zu is %g, no finite number", i,
                       zero_points[i]);
  }
  return CKPT_OK;
}

ckpt_status ckpt_quantizer_numbers(double **scales, double **zero_points, const ckpt_quantizer *quantizer,
                                   ckpt_error *err) {
  const ckpt_quantization *q = &quantizer->q;
  double *s = NULL, *z = NULL;
  size_t n = q->scheme == CKPT_PER_TENSOR_AFFINE ? 1 : (size_t)ckpt_tensor_numel(q->scales);
  ckpt_status st = read_numbers(&s, &z, q, err);
  if (st == CKPT_OK) st = check_numbers(s, z, n, err);
  if (st != CKPT_OK) {
    free(s);
    free(z);
    return st;
  }
  *scales = s;
  *zero_points = z;
  return CKPT_OK;
}
