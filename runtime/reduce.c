/*
 * reduce.c - see reduce.h. The dimension that is worked on is first brought to the front by a view, so that whatever is
 * added up or weighed are long runs of the others.
 */
#include "reduce.h"

#include <math.h>
#include <stdlib.h>

#include "element.h"
#include "lazy.h"
#include "strided.h"
#include "view.h"

enum { BLOCK = 512 };

/* ---- the dimension at the front ---- */

/* A view of t with `dim` first; `to_front` false: with the first one at `dim`. */
static ckpt_status move_dim(ckpt_tensor **out, const ckpt_tensor *t, int dim, bool to_front, ckpt_error *err) {
  int dims[CKPT_MAX_DIMS], n = ckpt_tensor_ndim(t);
  for (int i = 0; i < n; i++) dims[i] = i;
  if (to_front) {
    for (int i = dim; i > 0; i--) dims[i] = i - 1;
    dims[0] = dim;
  } else {
    for (int i = 0; i < dim; i++) dims[i] = i + 1;
    dims[dim] = 0;
  }
  return ckpt_tensor_permute(out, t, dims, err);
}

/* What remains of a tensor when its first dimension has `size` entries, as a lazy result. */
static ckpt_status derive(ckpt_tensor **out, const ckpt_lazy_op *op, const ckpt_tensor *front, int64_t size,
                          const void *params, size_t params_size, ckpt_error *err) {
  int64_t shape[CKPT_MAX_DIMS];
  int n = ckpt_tensor_ndim(front);
  memcpy(shape, ckpt_tensor_shape(front), (size_t)n * sizeof *shape);
  shape[0] = size;
  ckpt_lazy_plan plan = {op, ckpt_tensor_dtype(front), n, shape, 1, &front, params, params_size};
  return ckpt_lazy_make(out, &plan, err);
}

/* derive, over t with `dim` at the front, and back; the result is contiguous. */
static ckpt_status along(ckpt_tensor **out, const ckpt_lazy_op *op, const ckpt_tensor *t, int dim, int64_t size,
                         const void *params, size_t params_size, ckpt_error *err) {
  ckpt_tensor *front = NULL, *made = NULL, *back = NULL;
  ckpt_status st;
  CKPT_GO(move_dim(&front, t, dim, true, err));
  CKPT_GO(derive(&made, op, front, size, params, params_size, err));
  CKPT_GO(move_dim(&back, made, dim, false, err));
  st = ckpt_tensor_contiguous(out, back, err);
done:
  ckpt_tensor_release(front);
  ckpt_tensor_release(made);
  ckpt_tensor_release(back);
  return st;
}

/* ---- runs of a row: entry k of the first dimension, elements [at, at + n) of the others ---- */

typedef struct rows {
  const ckpt_tensor *source;
  const void *data;
  int64_t inner; /* elements of one row */
} rows;

static rows rows_of(const ckpt_lazy *lazy, const void *data) {
  const ckpt_tensor *source = lazy->sources[0];
  return (rows){source, data, ckpt_tensor_numel(source) / ckpt_tensor_shape(source)[0]};
}

static void read_row(void *to, ckpt_dtype carrier, const rows *r, int64_t k, int64_t at, int64_t n) {
  unsigned char buffer[BLOCK * CKPT_ELEMENT_MAX];
  ckpt_dtype dtype = ckpt_tensor_dtype(r->source);
  void *raw = dtype == carrier ? to : buffer;
  ckpt_tensor_gather(raw, r->source, r->data, k * r->inner + at, n);
  if (dtype != carrier) ckpt_cast_run(to, carrier, buffer, dtype, (size_t)n);
}

static void write_row(unsigned char *to, ckpt_dtype dtype, int64_t at, const void *from, ckpt_dtype carrier,
                      int64_t n) {
  unsigned char *here = to + (size_t)at * ckpt_dtype_size(dtype);
  if (dtype == carrier)
    memcpy(here, from, (size_t)n * ckpt_dtype_size(dtype));
  else
    ckpt_cast_run(here, dtype, from, carrier, (size_t)n);
}

/* ---- sum, mean ---- */

static void sum_floats(unsigned char *to, const ckpt_lazy *lazy, const rows *r, double divisor) {
  double sum[BLOCK], row[BLOCK];
  int64_t size = ckpt_tensor_shape(r->source)[0];
  for (int64_t at = 0; at < r->inner; at += BLOCK) {
    int64_t n = r->inner - at < BLOCK ? r->inner - at : BLOCK;
    memset(sum, 0, sizeof sum);
    for (int64_t k = 0; k < size; k++) {
      read_row(row, CKPT_F64, r, k, at, n);
      for (int64_t i = 0; i < n; i++) sum[i] += row[i];
    }
    for (int64_t i = 0; i < n; i++) sum[i] /= divisor;
    write_row(to, ckpt_tensor_dtype(lazy->result), at, sum, CKPT_F64, n);
  }
}

static void sum_integers(unsigned char *to, const ckpt_lazy *lazy, const rows *r) {
  uint64_t sum[BLOCK], row[BLOCK];
  int64_t size = ckpt_tensor_shape(r->source)[0];
  for (int64_t at = 0; at < r->inner; at += BLOCK) {
    int64_t n = r->inner - at < BLOCK ? r->inner - at : BLOCK;
    memset(sum, 0, sizeof sum);
    for (int64_t k = 0; k < size; k++) {
      read_row(row, CKPT_I64, r, k, at, n);
      for (int64_t i = 0; i < n; i++) sum[i] += row[i];
    }
    write_row(to, ckpt_tensor_dtype(lazy->result), at, sum, CKPT_I64, n);
  }
}

static void part_sum(unsigned char *to, const ckpt_lazy *lazy, size_t i, const void *data) {
  (void)i;
  rows r = rows_of(lazy, data);
  if (ckpt_dtype_is_integer(ckpt_tensor_dtype(lazy->result)))
    sum_integers(to, lazy, &r);
  else
    sum_floats(to, lazy, &r, 1);
}

static void part_mean(unsigned char *to, const ckpt_lazy *lazy, size_t i, const void *data) {
  (void)i;
  rows r = rows_of(lazy, data);
  sum_floats(to, lazy, &r, (double)ckpt_tensor_shape(r.source)[0]);
}

/* Of no entries: begin alone is called. */
static void begin_sum(unsigned char *to, const ckpt_lazy *lazy) { memset(to, 0, ckpt_tensor_nbytes(lazy->result)); }

static void begin_mean(unsigned char *to, const ckpt_lazy *lazy) {
  unsigned char nan[CKPT_ELEMENT_MAX];
  ckpt_dtype dtype = ckpt_tensor_dtype(lazy->result);
  if (ckpt_element_encode(nan, dtype, ckpt_scalar_double((double)NAN), NULL) == CKPT_OK)
    ckpt_strided_fill(to, (size_t)ckpt_tensor_numel(lazy->result), nan, ckpt_dtype_size(dtype));
}

static const ckpt_lazy_op sum_op = {.begin = begin_sum, .part = part_sum},
                          mean_op = {.begin = begin_mean, .part = part_mean};

static ckpt_status check_real(const ckpt_tensor *t, const char *what, bool floats, ckpt_error *err) {
  ckpt_dtype dtype = ckpt_tensor_dtype(t);
  if (ckpt_dtype_is_real(dtype) && dtype != CKPT_BOOL && !(floats && ckpt_dtype_is_integer(dtype))) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "%s is not defined for %s", what, ckpt_dtype_name(dtype));
}

ckpt_status ckpt_tensor_sum(ckpt_tensor **out, const ckpt_tensor *t, int dim, ckpt_error *err) {
  CKPT_TRY(check_real(t, "sum", false, err));
  CKPT_TRY(ckpt_view_dim(&dim, dim, ckpt_tensor_ndim(t), err));
  return along(out, &sum_op, t, dim, 1, NULL, 0, err);
}

ckpt_status ckpt_tensor_mean(ckpt_tensor **out, const ckpt_tensor *t, int dim, ckpt_error *err) {
  CKPT_TRY(check_real(t, "mean", true, err));
  CKPT_TRY(ckpt_view_dim(&dim, dim, ckpt_tensor_ndim(t), err));
  return along(out, &mean_op, t, dim, 1, NULL, 0, err);
}

/* ---- repeat ---- */

/* A new dimension before `dim`, spread over n entries, and both made one. */
static ckpt_status spread(ckpt_tensor **out, const ckpt_tensor *t, int dim, int64_t n, ckpt_error *err) {
  int64_t shape[CKPT_MAX_DIMS];
  int ndim = ckpt_tensor_ndim(t);
  ckpt_tensor *view = NULL, *wide = NULL, *flat = NULL;
  ckpt_status st;
  CKPT_GO(ckpt_tensor_unsqueeze(&view, t, dim, err));
  memcpy(shape, ckpt_tensor_shape(view), (size_t)(ndim + 1) * sizeof *shape);
  shape[dim] = n;
  CKPT_GO(ckpt_tensor_expand(&wide, view, ndim + 1, shape, err));
  memcpy(shape, ckpt_tensor_shape(t), (size_t)ndim * sizeof *shape);
  if (!ckpt_mul_i64(&shape[dim], shape[dim], n))
    CKPT_GO(ckpt_fail(err, CKPT_E_RANGE, -1, "the repeated size does not fit in 63 bits"));
  CKPT_GO(ckpt_tensor_reshape(&flat, wide, ndim, shape, err));
  st = ckpt_tensor_contiguous(out, flat, err);
done:
  ckpt_tensor_release(view);
  ckpt_tensor_release(wide);
  ckpt_tensor_release(flat);
  return st;
}

ckpt_status ckpt_tensor_repeat(ckpt_tensor **out, const ckpt_tensor *t, int dim, int64_t n, ckpt_error *err) {
  CKPT_TRY(ckpt_view_check_packed(t, "repeat", err));
  CKPT_TRY(ckpt_view_dim(&dim, dim, ckpt_tensor_ndim(t), err));
  if (n < 0 || n > CKPT_REPEAT_MAX)
    return ckpt_fail(err, CKPT_E_LIMIT, -1, "%lld times; from 0 to %d are allowed", (long long)n, CKPT_REPEAT_MAX);
  return spread(out, t, dim, n, err);
}

/* ---- constants ---- */

typedef struct constant {
  unsigned char element[CKPT_ELEMENT_MAX];
} constant;

static void begin_full(unsigned char *to, const ckpt_lazy *lazy) {
  const constant *c = lazy->params;
  ckpt_strided_fill(to, (size_t)ckpt_tensor_numel(lazy->result), c->element,
                    ckpt_dtype_size(ckpt_tensor_dtype(lazy->result)));
}

static const ckpt_lazy_op full_op = {.begin = begin_full};

ckpt_status ckpt_tensor_full(ckpt_tensor **out, ckpt_dtype dtype, int ndim, const int64_t *shape, ckpt_scalar value,
                             bool meta, ckpt_error *err) {
  constant c = {{0}};
  ckpt_tensor *model = NULL;
  CKPT_TRY(ckpt_element_check(dtype, "a constant", err));
  CKPT_TRY(ckpt_element_encode(c.element, dtype, value, err));
  CKPT_TRY(ckpt_tensor_meta(&model, dtype, ndim, shape, err));
  size_t bytes = ckpt_tensor_nbytes(model);
  if (meta && bytes <= CKPT_FULL_MAX) {
    *out = model;
    return CKPT_OK;
  }
  ckpt_tensor_release(model);
  if (bytes > CKPT_FULL_MAX) return ckpt_fail(err, CKPT_E_LIMIT, -1, "a constant of %zu bytes is refused", bytes);
  ckpt_lazy_plan plan = {&full_op, dtype, ndim, shape, 0, NULL, &c, sizeof c};
  return ckpt_lazy_make(out, &plan, err);
}

/* ---- resize ---- */

typedef struct resizing {
  ckpt_resize mode;
  bool wide; /* float64 */
  int64_t from, to;
} resizing;

/* Entries of the source that make up one of the result. */
typedef struct taps {
  int n;
  int64_t index[4];
  double weight[4];
} taps;

static int64_t clamp(int64_t i, int64_t size) { return i < 0 ? 0 : i >= size ? size - 1 : i; }

static taps linear_taps(double at, int64_t size) {
  if (at < 0) at = 0;
  int64_t i = clamp((int64_t)at, size);
  double part = at - (double)i;
  return (taps){2, {i, clamp(i + 1, size)}, {1 - part, part}};
}

/* PyTorch's cubic convolution, with A = -0.75. */
static double near_weight(double x) { return ((-0.75 + 2) * x - (-0.75 + 3)) * x * x + 1; }
static double far_weight(double x) { return ((-0.75 * x + 5 * 0.75) * x - 8 * 0.75) * x + 4 * 0.75; }

static taps cubic_taps(double at, int64_t size) {
  double low = floor(at), part = at - low;
  int64_t i = (int64_t)low;
  return (taps){4,
                {clamp(i - 1, size), clamp(i, size), clamp(i + 1, size), clamp(i + 2, size)},
                {far_weight(part + 1), near_weight(part), near_weight(1 - part), far_weight(2 - part)}};
}

/* The place, in float32 for a float32 tensor, as PyTorch computes it. */
static double place_of(const resizing *r, int64_t i) {
  if (r->wide) return (double)r->from / (double)r->to * ((double)i + 0.5) - 0.5;
  float scale = (float)r->from / (float)r->to;
  return (double)(scale * ((float)i + 0.5f) - 0.5f);
}

static taps taps_of(const resizing *r, int64_t i) {
  double at = place_of(r, i);
  return r->mode == CKPT_RESIZE_LINEAR ? linear_taps(at, r->from) : cubic_taps(at, r->from);
}

static void part_resize(unsigned char *to, const ckpt_lazy *lazy, size_t part, const void *data) {
  (void)part;
  const resizing *z = lazy->params;
  rows r = rows_of(lazy, data);
  double sum[BLOCK], row[BLOCK];
  for (int64_t i = 0; i < z->to; i++) {
    taps t = taps_of(z, i);
    for (int64_t at = 0; at < r.inner; at += BLOCK) {
      int64_t n = r.inner - at < BLOCK ? r.inner - at : BLOCK;
      memset(sum, 0, sizeof sum);
      for (int k = 0; k < t.n; k++) {
        read_row(row, CKPT_F64, &r, t.index[k], at, n);
        for (int64_t j = 0; j < n; j++) sum[j] += t.weight[k] * row[j];
      }
      write_row(to, ckpt_tensor_dtype(lazy->result), i * r.inner + at, sum, CKPT_F64, n);
    }
  }
}

static const ckpt_lazy_op resize_op = {.part = part_resize};

static ckpt_status pick_nearest(ckpt_tensor **out, const ckpt_tensor *t, int dim, int64_t from, int64_t to,
                                ckpt_error *err) {
  float scale = (float)from / (float)to;
  size_t bytes = (size_t)to * sizeof(int64_t);
  int64_t *index = malloc(bytes);
  if (index == NULL) return ckpt_fail_nomem(err, bytes);
  for (int64_t i = 0; i < to; i++) index[i] = clamp((int64_t)((float)i * scale), from);
  ckpt_status st = ckpt_tensor_index_select(out, t, dim, (size_t)to, index, err);
  free(index);
  return st;
}

static ckpt_status resize_dim(ckpt_tensor **out, const ckpt_tensor *t, int dim, int64_t size, ckpt_resize mode,
                              ckpt_error *err) {
  CKPT_TRY(ckpt_view_dim(&dim, dim, ckpt_tensor_ndim(t), err));
  int64_t from = ckpt_tensor_shape(t)[dim];
  if (size < 1 || size > CKPT_RESIZE_MAX || from < 1 || from > CKPT_RESIZE_MAX)
    return ckpt_fail(err, CKPT_E_LIMIT, -1, "dimension %d of size %lld to %lld; from 1 to %d are allowed", dim,
                     (long long)from, (long long)size, CKPT_RESIZE_MAX);
  if (mode == CKPT_RESIZE_NEAREST) return pick_nearest(out, t, dim, from, size, err);
  resizing z = {mode, ckpt_tensor_dtype(t) == CKPT_F64, from, size};
  return along(out, &resize_op, t, dim, size, &z, sizeof z, err);
}

/* The dtype in which several passes are made: small floats are rounded once, at the end. */
static ckpt_dtype carrier_of(ckpt_dtype dtype, ckpt_resize mode) {
  return mode == CKPT_RESIZE_NEAREST || dtype == CKPT_F64 ? dtype : CKPT_F32;
}

ckpt_status ckpt_tensor_resize(ckpt_tensor **out, const ckpt_tensor *t, int n, const int *dims, const int64_t *sizes,
                               ckpt_resize mode, ckpt_error *err) {
  bool seen[CKPT_MAX_DIMS] = {false};
  ckpt_dtype dtype = ckpt_tensor_dtype(t);
  ckpt_tensor *now = NULL;
  CKPT_TRY(ckpt_view_dims(seen, t, n, dims, err));
  if (mode != CKPT_RESIZE_NEAREST) CKPT_TRY(check_real(t, "resize", true, err));
  CKPT_TRY(ckpt_tensor_to(&now, t, carrier_of(dtype, mode), err));
  ckpt_status st = CKPT_OK;
  for (int i = 0; st == CKPT_OK && i < n; i++) {
    ckpt_tensor *next = NULL;
    st = resize_dim(&next, now, dims[i], sizes[i], mode, err);
    ckpt_tensor_release(now);
    now = next;
  }
  if (st == CKPT_OK) st = ckpt_tensor_to(out, now, dtype, err);
  ckpt_tensor_release(now);
  return st;
}
