/*
 * rearrange.c - computed tensors whose elements are those of their sources at other places: contiguous, index_select,
 * flip, roll, cat, stack, pad. All but the first place strided regions of sources into regions of the result.
 */
#include <stdlib.h>

#include "element.h"
#include "lazy.h"
#include "strided.h"
#include "view.h"

/* ---- regions ---- */

/* A box of elements: of source `from` at `source`, to `target` in the result; both in elements, from the first one. */
typedef struct placement {
  int64_t target, source;
  const int64_t *shape;
} placement;

static void place(unsigned char *to, const ckpt_lazy *lazy, const ckpt_tensor *from, const void *data, placement p) {
  int64_t rows[CKPT_MAX_DIMS];
  int ndim = ckpt_tensor_ndim(from);
  int64_t size = (int64_t)ckpt_dtype_size(ckpt_tensor_dtype(from));
  ckpt_strided_rows(rows, ndim, ckpt_tensor_shape(lazy->result));
  ckpt_strided_copy(to + p.target * size, rows,
                    (ckpt_region){(const unsigned char *)data + p.source * size, ckpt_tensor_stride(from)}, ndim,
                    p.shape, (size_t)size);
}

static int64_t row_of(const ckpt_tensor *t, int dim) {
  int64_t rows[CKPT_MAX_DIMS];
  ckpt_strided_rows(rows, ckpt_tensor_ndim(t), ckpt_tensor_shape(t));
  return rows[dim];
}

static void copy_shape(int64_t *to, const ckpt_tensor *t) {
  if (ckpt_tensor_ndim(t) > 0) memcpy(to, ckpt_tensor_shape(t), (size_t)ckpt_tensor_ndim(t) * sizeof *to);
}

/* A result of one source, with its dtype. */
static ckpt_status derive(ckpt_tensor **out, const ckpt_lazy_op *op, const ckpt_tensor *t, const int64_t *shape,
                          const void *params, size_t params_size, ckpt_error *err) {
  ckpt_lazy_plan plan = {op, ckpt_tensor_dtype(t), ckpt_tensor_ndim(t), shape, 1, &t, params, params_size};
  return ckpt_lazy_make(out, &plan, err);
}

/* ---- contiguous ---- */

ckpt_status ckpt_tensor_contiguous(ckpt_tensor **out, const ckpt_tensor *t, ckpt_error *err) {
  if (!ckpt_tensor_is_contiguous(t) || ckpt_tensor_conj(t) || ckpt_tensor_neg(t))
    return derive(out, &ckpt_lazy_contiguous, t, ckpt_tensor_shape(t), NULL, 0, err);
  *out = ckpt_tensor_retain((ckpt_tensor *)(uintptr_t)t); /* only its count changes */
  return CKPT_OK;
}

/* ---- index_select ---- */

typedef struct selection {
  int dim;
  int64_t index[]; /* as many as the result has entries */
} selection;

static void part_select(unsigned char *to, const ckpt_lazy *lazy, size_t i, const void *data) {
  const selection *s = lazy->params;
  const ckpt_tensor *from = lazy->sources[i];
  int64_t shape[CKPT_MAX_DIMS], row = row_of(lazy->result, s->dim), stride = ckpt_tensor_stride(from)[s->dim];
  int64_t n = ckpt_tensor_shape(lazy->result)[s->dim];
  copy_shape(shape, from);
  shape[s->dim] = 1;
  for (int64_t k = 0; k < n; k++) place(to, lazy, from, data, (placement){k * row, s->index[k] * stride, shape});
}

/* How many of the indices from `first` on, n at most, follow each other upwards. */
static int64_t run_of(const selection *s, int64_t first, int64_t n) {
  int64_t k = 1;
  while (k < n && s->index[first + k] == s->index[first] + k) k++;
  return k;
}

static ckpt_status cut_selection(ckpt_lazy **out, int64_t *n, const ckpt_lazy *lazy, int dim, int64_t first,
                                 ckpt_error *err) {
  const selection *s = lazy->params;
  if (dim != s->dim) return ckpt_lazy_cut_alike(out, n, lazy, dim, first, err);
  *n = run_of(s, first, *n);
  return ckpt_lazy_cut_copy(out, *n, lazy, 0, dim, s->index[first], err);
}

static const ckpt_lazy_op select_op = {.plain = true, .part = part_select, .cut = cut_selection};

static ckpt_status check_index(int64_t size, int dim, size_t n, const int64_t *index, ckpt_error *err) {
  if (n > INT64_MAX / sizeof *index - 1) return ckpt_fail(err, CKPT_E_RANGE, -1, "too many indices");
  for (size_t i = 0; i < n; i++)
    if (index[i] < 0 || index[i] >= size)
      return ckpt_fail(err, CKPT_E_RANGE, -1, "index %lld is outside dimension %d of size %lld", (long long)index[i],
                       dim, (long long)size);
  return CKPT_OK;
}

ckpt_status ckpt_tensor_index_select(ckpt_tensor **out, const ckpt_tensor *t, int dim, size_t n, const int64_t *index,
                                     ckpt_error *err) {
  int64_t shape[CKPT_MAX_DIMS];
  CKPT_TRY(ckpt_view_dim(&dim, dim, ckpt_tensor_ndim(t), err));
  CKPT_TRY(ckpt_view_check_packed(t, "index_select", err));
  CKPT_TRY(check_index(ckpt_tensor_shape(t)[dim], dim, n, index, err));
  copy_shape(shape, t);
  shape[dim] = (int64_t)n;
  size_t bytes = sizeof(selection) + n * sizeof *index;
  selection *s = malloc(bytes);
  if (s == NULL) return ckpt_fail_nomem(err, bytes);
  s->dim = dim;
  if (n > 0) memcpy(s->index, index, n * sizeof *index);
  ckpt_status st = derive(out, &select_op, t, shape, s, bytes, err);
  free(s);
  return st;
}

/* ---- flip: the source is walked with negative strides from its other end ---- */

typedef struct flipped {
  bool dims[CKPT_MAX_DIMS];
} flipped;

static void part_flip(unsigned char *to, const ckpt_lazy *lazy, size_t i, const void *data) {
  const flipped *f = lazy->params;
  const ckpt_tensor *from = lazy->sources[i];
  const int64_t *shape = ckpt_tensor_shape(from);
  int64_t rows[CKPT_MAX_DIMS], stride[CKPT_MAX_DIMS], at = 0, size = (int64_t)ckpt_dtype_size(ckpt_tensor_dtype(from));
  for (int d = 0; d < ckpt_tensor_ndim(from); d++) {
    stride[d] = f->dims[d] ? -ckpt_tensor_stride(from)[d] : ckpt_tensor_stride(from)[d];
    if (f->dims[d]) at += (shape[d] - 1) * ckpt_tensor_stride(from)[d];
  }
  ckpt_strided_rows(rows, ckpt_tensor_ndim(from), shape);
  ckpt_strided_copy(to, rows, (ckpt_region){(const unsigned char *)data + at * size, stride}, ckpt_tensor_ndim(from),
                    shape, (size_t)size);
}

static ckpt_status cut_flipped(ckpt_lazy **out, int64_t *n, const ckpt_lazy *lazy, int dim, int64_t first,
                               ckpt_error *err) {
  const flipped *f = lazy->params;
  int64_t size = ckpt_tensor_shape(lazy->result)[dim];
  return ckpt_lazy_cut_from(out, *n, lazy, dim, f->dims[dim] ? size - first - *n : first, err);
}

static const ckpt_lazy_op flip_op = {.plain = true, .part = part_flip, .cut = cut_flipped};

ckpt_status ckpt_tensor_flip(ckpt_tensor **out, const ckpt_tensor *t, int n, const int *dims, ckpt_error *err) {
  flipped f = {{false}};
  CKPT_TRY(ckpt_view_check_packed(t, "flip", err));
  CKPT_TRY(ckpt_view_dims(f.dims, t, n, dims, err));
  return derive(out, &flip_op, t, ckpt_tensor_shape(t), &f, sizeof f, err);
}

/* ---- roll: two pieces change places ---- */

typedef struct rolled {
  int dim;
  int64_t shift; /* in [0, size) */
} rolled;

static void part_roll(unsigned char *to, const ckpt_lazy *lazy, size_t i, const void *data) {
  const rolled *r = lazy->params;
  const ckpt_tensor *from = lazy->sources[i];
  int64_t shape[CKPT_MAX_DIMS], row = row_of(from, r->dim), stride = ckpt_tensor_stride(from)[r->dim];
  copy_shape(shape, from);
  int64_t rest = shape[r->dim] - r->shift;
  shape[r->dim] = rest;
  place(to, lazy, from, data, (placement){r->shift * row, 0, shape});
  shape[r->dim] = r->shift;
  if (r->shift > 0) place(to, lazy, from, data, (placement){0, rest * stride, shape});
}

static ckpt_status cut_rolled(ckpt_lazy **out, int64_t *n, const ckpt_lazy *lazy, int dim, int64_t first,
                              ckpt_error *err) {
  const rolled *r = lazy->params;
  if (dim != r->dim) return ckpt_lazy_cut_alike(out, n, lazy, dim, first, err);
  int64_t size = ckpt_tensor_shape(lazy->result)[dim], piece = first < r->shift ? r->shift : size;
  if (*n > piece - first) *n = piece - first;
  return ckpt_lazy_cut_copy(out, *n, lazy, 0, dim, first < r->shift ? first + size - r->shift : first - r->shift, err);
}

static const ckpt_lazy_op roll_op = {.plain = true, .part = part_roll, .cut = cut_rolled};

ckpt_status ckpt_tensor_roll(ckpt_tensor **out, const ckpt_tensor *t, int64_t shift, int dim, ckpt_error *err) {
  rolled r = {0, 0};
  CKPT_TRY(ckpt_view_check_packed(t, "roll", err));
  CKPT_TRY(ckpt_view_dim(&r.dim, dim, ckpt_tensor_ndim(t), err));
  int64_t size = ckpt_tensor_shape(t)[r.dim];
  if (size > 0) r.shift = shift % size < 0 ? shift % size + size : shift % size;
  return derive(out, &roll_op, t, ckpt_tensor_shape(t), &r, sizeof r, err);
}

/* ---- cat and stack ---- */

typedef struct joined {
  int dim;
} joined;

/* Where source i begins along the dimension. */
static int64_t start_of(const ckpt_lazy *lazy, int dim, size_t i) {
  int64_t start = 0;
  for (size_t k = 0; k < i; k++) start += ckpt_tensor_shape(lazy->sources[k])[dim];
  return start;
}

static void part_cat(unsigned char *to, const ckpt_lazy *lazy, size_t i, const void *data) {
  const joined *j = lazy->params;
  const ckpt_tensor *from = lazy->sources[i];
  place(to, lazy, from, data,
        (placement){start_of(lazy, j->dim, i) * row_of(lazy->result, j->dim), 0, ckpt_tensor_shape(from)});
}

static ckpt_status cut_joined(ckpt_lazy **out, int64_t *n, const ckpt_lazy *lazy, int dim, int64_t first,
                              ckpt_error *err) {
  const joined *j = lazy->params;
  size_t i = 0;
  if (dim != j->dim) return ckpt_lazy_cut_alike(out, n, lazy, dim, first, err);
  while (first >= ckpt_tensor_shape(lazy->sources[i])[dim]) first -= ckpt_tensor_shape(lazy->sources[i++])[dim];
  int64_t left = ckpt_tensor_shape(lazy->sources[i])[dim] - first;
  if (*n > left) *n = left;
  return ckpt_lazy_cut_copy(out, *n, lazy, i, dim, first, err);
}

static const ckpt_lazy_op cat_op = {.plain = true, .part = part_cat, .cut = cut_joined};

/* One dtype, and one shape but for dimension `dim` (-1: no exception). */
static ckpt_status check_alike(const ckpt_tensor *first, const ckpt_tensor *t, int dim, ckpt_error *err) {
  char one[CKPT_SHAPE_TEXT], other[CKPT_SHAPE_TEXT];
  int ndim = ckpt_tensor_ndim(first);
  if (ckpt_tensor_dtype(t) != ckpt_tensor_dtype(first))
    return ckpt_fail(err, CKPT_E_TYPE, -1, "tensors of %s and %s are not joined: cast one of them",
                     ckpt_dtype_name(ckpt_tensor_dtype(first)), ckpt_dtype_name(ckpt_tensor_dtype(t)));
  bool same = ckpt_tensor_ndim(t) == ndim;
  for (int d = 0; same && d < ndim; d++) same = d == dim || ckpt_tensor_shape(t)[d] == ckpt_tensor_shape(first)[d];
  if (same) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_SHAPE, -1, "shapes %s and %s differ%s",
                   ckpt_view_shape_text(one, ndim, ckpt_tensor_shape(first)),
                   ckpt_view_shape_text(other, ckpt_tensor_ndim(t), ckpt_tensor_shape(t)),
                   dim < 0 ? "" : " beside the dimension that they are joined along");
}

ckpt_status ckpt_tensor_cat(ckpt_tensor **out, size_t n, const ckpt_tensor *const *tensors, int dim, ckpt_error *err) {
  int64_t shape[CKPT_MAX_DIMS], sum = 0;
  if (n == 0) return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "cat of no tensors");
  CKPT_TRY(ckpt_view_check_packed(tensors[0], "cat", err));
  const ckpt_tensor *first = tensors[0];
  CKPT_TRY(ckpt_view_dim(&dim, dim, ckpt_tensor_ndim(first), err));
  for (size_t i = 0; i < n; i++) {
    CKPT_TRY(check_alike(first, tensors[i], dim, err));
    if (!ckpt_add_i64(&sum, sum, ckpt_tensor_shape(tensors[i])[dim]))
      return ckpt_fail(err, CKPT_E_RANGE, -1, "the sizes of dimension %d do not add up in 63 bits", dim);
  }
  copy_shape(shape, first);
  shape[dim] = sum;
  joined j = {dim};
  ckpt_lazy_plan plan = {&cat_op, ckpt_tensor_dtype(first), ckpt_tensor_ndim(first), shape, n, tensors, &j, sizeof j};
  return ckpt_lazy_make(out, &plan, err);
}

/* The views with the new dimension, which cat then joins. */
static ckpt_status unsqueeze_all(ckpt_tensor **views, size_t n, const ckpt_tensor *const *tensors, int dim,
                                 ckpt_error *err) {
  for (size_t i = 0; i < n; i++) {
    CKPT_TRY(check_alike(tensors[0], tensors[i], -1, err));
    CKPT_TRY(ckpt_tensor_unsqueeze(&views[i], tensors[i], dim, err));
  }
  return CKPT_OK;
}

ckpt_status ckpt_tensor_stack(ckpt_tensor **out, size_t n, const ckpt_tensor *const *tensors, int dim,
                              ckpt_error *err) {
  if (n == 0) return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "stack of no tensors");
  CKPT_TRY(ckpt_view_check_packed(tensors[0], "stack", err));
  ckpt_tensor **views = calloc(n, sizeof(ckpt_tensor *));
  if (views == NULL) return ckpt_fail_nomem(err, n * sizeof(ckpt_tensor *));
  ckpt_status st = unsqueeze_all(views, n, tensors, dim, err);
  if (st == CKPT_OK) st = ckpt_tensor_cat(out, n, (const ckpt_tensor *const *)views, dim, err);
  for (size_t i = 0; i < n; i++) ckpt_tensor_release(views[i]);
  free(views);
  return st;
}

/* ---- pad ---- */

typedef struct padding {
  int64_t before[CKPT_MAX_DIMS];
  unsigned char element[CKPT_ELEMENT_MAX];
} padding;

static void begin_pad(unsigned char *to, const ckpt_lazy *lazy) {
  const padding *p = lazy->params;
  ckpt_strided_fill(to, (size_t)ckpt_tensor_numel(lazy->result), p->element,
                    ckpt_dtype_size(ckpt_tensor_dtype(lazy->result)));
}

static void part_pad(unsigned char *to, const ckpt_lazy *lazy, size_t i, const void *data) {
  const padding *p = lazy->params;
  const ckpt_tensor *from = lazy->sources[i];
  int64_t at = 0;
  for (int d = 0; d < ckpt_tensor_ndim(from); d++) at += p->before[d] * row_of(lazy->result, d);
  place(to, lazy, from, data, (placement){at, 0, ckpt_tensor_shape(from)});
}

static ckpt_status cut_padded(ckpt_lazy **out, int64_t *n, const ckpt_lazy *lazy, int dim, int64_t first,
                              ckpt_error *err);

static const ckpt_lazy_op pad_op = {.plain = true, .begin = begin_pad, .part = part_pad, .cut = cut_padded};

/* Entries with nothing of the source in them. */
static ckpt_status cut_margin(ckpt_lazy **out, int64_t n, const ckpt_lazy *lazy, int dim, ckpt_error *err) {
  int64_t shape[CKPT_MAX_DIMS];
  copy_shape(shape, lazy->result);
  shape[dim] = n;
  ckpt_lazy_plan plan = {
      &pad_op,          ckpt_tensor_dtype(lazy->result), ckpt_tensor_ndim(lazy->result), shape, 0, NULL, lazy->params,
      lazy->params_size};
  return ckpt_lazy_new(out, &plan, err);
}

/* Of the result's three parts along a dimension the one that `first` is in; the cut keeps to it. */
static ckpt_status cut_padded(ckpt_lazy **out, int64_t *n, const ckpt_lazy *lazy, int dim, int64_t first,
                              ckpt_error *err) {
  const padding *p = lazy->params;
  if (lazy->n_sources == 0) return cut_margin(out, *n, lazy, dim, err);
  int64_t start = p->before[dim], end = start + ckpt_tensor_shape(lazy->sources[0])[dim];
  int64_t stop = first < start ? start : first < end ? end : ckpt_tensor_shape(lazy->result)[dim];
  if (*n > stop - first) *n = stop - first;
  if (first < start || first >= end) return cut_margin(out, *n, lazy, dim, err);
  CKPT_TRY(ckpt_lazy_cut_from(out, *n, lazy, dim, first - start, err));
  ((padding *)(*out)->params)->before[dim] = 0;
  return CKPT_OK;
}

static ckpt_status pad_dim(int64_t *size, int dim, int64_t before, int64_t after, ckpt_error *err) {
  if (before < 0 || after < 0)
    return ckpt_fail(err, CKPT_E_RANGE, -1, "dimension %d is padded by %lld and %lld: neither may be negative", dim,
                     (long long)before, (long long)after);
  if (ckpt_add_i64(size, *size, before) && ckpt_add_i64(size, *size, after)) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_RANGE, -1, "the padded size of dimension %d does not fit in 63 bits", dim);
}

ckpt_status ckpt_tensor_pad(ckpt_tensor **out, const ckpt_tensor *t, const int64_t *before, const int64_t *after,
                            ckpt_scalar value, ckpt_error *err) {
  int64_t shape[CKPT_MAX_DIMS];
  padding p = {{0}, {0}};
  CKPT_TRY(ckpt_element_check(ckpt_tensor_dtype(t), "pad", err));
  CKPT_TRY(ckpt_element_encode(p.element, ckpt_tensor_dtype(t), value, err));
  copy_shape(shape, t);
  for (int d = 0; d < ckpt_tensor_ndim(t); d++) {
    CKPT_TRY(pad_dim(&shape[d], d, before[d], after[d], err));
    p.before[d] = before[d];
  }
  return derive(out, &pad_op, t, shape, &p, sizeof p, err);
}
