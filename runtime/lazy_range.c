/*
 * lazy_range.c - a computed tensor box by box, see lazy.h: how a file larger than the memory is cast and rearranged.
 *
 * A box is cut out of the result, dimension after dimension, and computed as a result of its own. Its sources are boxes
 * too. What of them lies in a file is read where it lies; a box of a large strided view is first gathered in the order
 * in which it lies there, window by window, because the order of the result would touch all of the file at once.
 */
#include <stdlib.h>

#include "lazy.h"
#include "strided.h"

enum { MOST = 4 << 20 /* elements of a box */, WINDOW = CKPT_MAPPING_WINDOW };

/* ---- as they are ---- */

static void part_contiguous(unsigned char *to, const ckpt_lazy *lazy, size_t i, const void *data) {
  ckpt_tensor_cast_into(to, ckpt_tensor_dtype(lazy->result), lazy->sources[i], data);
}

const ckpt_lazy_op ckpt_lazy_contiguous = {.part = part_contiguous, .cut = ckpt_lazy_cut_alike};

/* ---- cuts ---- */

static ckpt_status narrow(ckpt_tensor **out, const ckpt_tensor *t, int dim, int64_t first, int64_t n, ckpt_error *err) {
  return ckpt_tensor_slice(out, t, dim, first, first + n, 1, err);
}

static void copy_shape(int64_t *to, const ckpt_tensor *t) {
  if (ckpt_tensor_ndim(t) > 0) memcpy(to, ckpt_tensor_shape(t), (size_t)ckpt_tensor_ndim(t) * sizeof *to);
}

ckpt_status ckpt_lazy_again(ckpt_lazy **out, const ckpt_lazy *lazy, const int64_t *shape,
                            const ckpt_tensor *const *sources, ckpt_error *err) {
  ckpt_lazy_plan plan = {lazy->op,
                         ckpt_tensor_dtype(lazy->result),
                         ckpt_tensor_ndim(lazy->result),
                         shape,
                         lazy->n_sources,
                         sources,
                         lazy->params,
                         lazy->params_size};
  return ckpt_lazy_new(out, &plan, err);
}

ckpt_status ckpt_lazy_cut_from(ckpt_lazy **out, int64_t n, const ckpt_lazy *lazy, int dim, int64_t source_first,
                               ckpt_error *err) {
  int64_t shape[CKPT_MAX_DIMS];
  ckpt_status st = CKPT_OK;
  ckpt_tensor **views = calloc(lazy->n_sources + 1, sizeof *views);
  if (views == NULL) return ckpt_fail_nomem(err, (lazy->n_sources + 1) * sizeof *views);
  copy_shape(shape, lazy->result);
  shape[dim] = n;
  for (size_t i = 0; st == CKPT_OK && i < lazy->n_sources; i++)
    st = narrow(&views[i], lazy->sources[i], dim, source_first, n, err);
  if (st == CKPT_OK) st = ckpt_lazy_again(out, lazy, shape, (const ckpt_tensor *const *)views, err);
  for (size_t i = 0; i < lazy->n_sources; i++) ckpt_tensor_release(views[i]);
  free(views);
  return st;
}

ckpt_status ckpt_lazy_cut_alike(ckpt_lazy **out, int64_t *n, const ckpt_lazy *lazy, int dim, int64_t first,
                                ckpt_error *err) {
  return ckpt_lazy_cut_from(out, *n, lazy, dim, first, err);
}

ckpt_status ckpt_lazy_cut_copy(ckpt_lazy **out, int64_t n, const ckpt_lazy *lazy, size_t source, int dim, int64_t first,
                               ckpt_error *err) {
  ckpt_tensor *view = NULL;
  CKPT_TRY(narrow(&view, lazy->sources[source], dim, first, n, err));
  ckpt_lazy_plan plan = {&ckpt_lazy_contiguous,
                         ckpt_tensor_dtype(view),
                         ckpt_tensor_ndim(view),
                         ckpt_tensor_shape(view),
                         1,
                         (const ckpt_tensor *[]){view},
                         NULL,
                         0};
  ckpt_status st = ckpt_lazy_new(out, &plan, err);
  ckpt_tensor_release(view);
  return st;
}

/* ---- boxes ---- */

/* The largest box that begins at element `start` and has at most `most` elements. */
typedef struct box {
  int dim;                       /* entries [first, first+n) of this one */
  int64_t first, n;              /* n is what is wished for */
  int64_t inner;                 /* elements of one entry */
  int64_t before[CKPT_MAX_DIMS]; /* the entry of each dimension before it */
} box;

static void find_box(box *b, const ckpt_tensor *result, int64_t start, int64_t most) {
  const int64_t *shape = ckpt_tensor_shape(result);
  int64_t rest = start;
  b->inner = ckpt_tensor_numel(result);
  for (b->dim = 0;; b->dim++) {
    b->inner /= shape[b->dim];
    int64_t entry = rest / b->inner;
    rest -= entry * b->inner;
    if (rest == 0 && b->inner <= most) {
      int64_t left = shape[b->dim] - entry, fit = most / b->inner;
      b->first = entry;
      b->n = left < fit ? left : fit;
      return;
    }
    b->before[b->dim] = entry;
  }
}

/* Replaces *lazy, which is freed unless it is `whole`. */
static ckpt_status cut(ckpt_lazy **lazy, const ckpt_lazy *whole, int dim, int64_t first, int64_t *n, ckpt_error *err) {
  ckpt_lazy *next = NULL;
  ckpt_status st = (*lazy)->op->cut(&next, n, *lazy, dim, first, err);
  if (*lazy != whole) ckpt_lazy_free(*lazy);
  *lazy = next;
  return st;
}

/* A result of its own, freed by the caller even on failure; *elements gets how many it has. */
static ckpt_status cut_box(ckpt_lazy **out, int64_t *elements, const ckpt_lazy *whole, const box *b, ckpt_error *err) {
  ckpt_lazy *lazy = (ckpt_lazy *)(uintptr_t)whole; /* not changed: cut makes others of it */
  ckpt_status st = CKPT_OK;
  int64_t one = 1, n = b->n;
  for (int d = 0; st == CKPT_OK && d < b->dim; d++) st = cut(&lazy, whole, d, b->before[d], &one, err);
  if (st == CKPT_OK) st = cut(&lazy, whole, b->dim, b->first, &n, err);
  *out = lazy == whole ? NULL : lazy;
  *elements = n * b->inner;
  return st;
}

/* ---- the bytes of a source ---- */

typedef struct reading {
  const void *data;
  void *owned;
  ckpt_tensor *shape; /* stands for the source: contiguous where `owned` is a copy; or NULL */
} reading;

static void release_reading(reading *r) {
  free(r->owned);
  ckpt_tensor_release(r->shape);
  *r = (reading){NULL, NULL, NULL};
}

static ckpt_status make_room(reading *r, const ckpt_tensor *t, ckpt_error *err) {
  ckpt_tensor_spec spec = ckpt_tensor_spec_of(t);
  spec.offset = 0;
  spec.stride = NULL;
  CKPT_TRY(ckpt_tensor_make(&r->shape, NULL, &spec, err));
  r->data = r->owned = malloc(ckpt_tensor_nbytes(t));
  return r->owned == NULL ? ckpt_fail_nomem(err, ckpt_tensor_nbytes(t)) : CKPT_OK;
}

static ckpt_status compute_source(reading *r, const ckpt_tensor *t, ckpt_error *err) {
  size_t size = ckpt_dtype_size(ckpt_tensor_dtype(t)), n = ckpt_tensor_nbytes(t), done = 0;
  size_t start = (size_t)ckpt_tensor_offset(t) * size;
  CKPT_TRY(make_room(r, t, err));
  for (size_t at = 0; at < n; at += done)
    CKPT_TRY(
        ckpt_storage_range((unsigned char *)r->owned + at, &done, ckpt_tensor_storage(t), start + at, n - at, err));
  return CKPT_OK;
}

/* The dimension whose entries lie farthest from each other. */
static int widest(const ckpt_tensor *t) {
  int at = 0;
  for (int i = 1; i < ckpt_tensor_ndim(t); i++)
    if (ckpt_tensor_shape(t)[i] > 1 &&
        (ckpt_tensor_shape(t)[at] == 1 || ckpt_tensor_stride(t)[i] > ckpt_tensor_stride(t)[at]))
      at = i;
  return at;
}

static size_t reach(const ckpt_tensor *t) {
  int64_t last = 0;
  for (int i = 0; i < ckpt_tensor_ndim(t); i++) last += (ckpt_tensor_shape(t)[i] - 1) * ckpt_tensor_stride(t)[i];
  return ((size_t)last + 1) * ckpt_dtype_size(ckpt_tensor_dtype(t));
}

/* Elements as they lie (conj and neg bits are not applied), a window of the file at a time. */
static void gather_windows(unsigned char *to, const ckpt_tensor *t, const unsigned char *from) {
  int64_t rows[CKPT_MAX_DIMS], shape[CKPT_MAX_DIMS];
  int ndim = ckpt_tensor_ndim(t), dim = widest(t);
  size_t size = ckpt_dtype_size(ckpt_tensor_dtype(t));
  int64_t all = ckpt_tensor_shape(t)[dim], apart = ckpt_tensor_stride(t)[dim] * (int64_t)size;
  int64_t step = apart < WINDOW && apart > 0 ? WINDOW / apart : 1;
  ckpt_strided_rows(rows, ndim, ckpt_tensor_shape(t));
  copy_shape(shape, t);
  for (int64_t at = 0; at < all; at += step) {
    shape[dim] = all - at < step ? all - at : step;
    ckpt_strided_copy(to + at * rows[dim] * (int64_t)size, rows,
                      (ckpt_region){from + at * apart, ckpt_tensor_stride(t)}, ndim, shape, size);
    ckpt_storage_used(ckpt_tensor_storage(t), (size_t)(shape[dim] * apart));
  }
}

/* plain: the operation moves elements itself, in an order as good as any as long as all is in one window. */
static ckpt_status read_source(reading *r, const ckpt_tensor *t, bool plain, ckpt_error *err) {
  ckpt_storage *s = ckpt_tensor_storage(t);
  if (!ckpt_storage_lies(s)) return compute_source(r, t, err);
  CKPT_TRY(ckpt_tensor_data(&r->data, t, err));
  if (ckpt_tensor_is_contiguous(t) || (plain && reach(t) <= WINDOW)) return CKPT_OK;
  const unsigned char *from = r->data;
  CKPT_TRY(make_room(r, t, err));
  gather_windows(r->owned, t, from);
  return CKPT_OK;
}

/* ---- computing ---- */

/* The source is at hand under its own shape or, copied, under one that is contiguous. */
static void add_part(unsigned char *to, ckpt_lazy *lazy, size_t i, const reading *r) {
  ckpt_tensor *source = lazy->sources[i];
  if (r->shape != NULL) lazy->sources[i] = r->shape;
  lazy->op->part(to, lazy, i, r->data);
  lazy->sources[i] = source;
  if (r->shape == NULL) ckpt_storage_used(ckpt_tensor_storage(source), reach(source));
}

static ckpt_status compute_box(unsigned char *to, ckpt_lazy *lazy, ckpt_error *err) {
  ckpt_status st = CKPT_OK;
  if (lazy->op->begin != NULL) lazy->op->begin(to, lazy);
  for (size_t i = 0; st == CKPT_OK && i < lazy->n_sources; i++) {
    reading r = {NULL, NULL, NULL};
    if (ckpt_tensor_numel(lazy->sources[i]) == 0) continue;
    st = read_source(&r, lazy->sources[i], lazy->op->plain, err);
    if (st == CKPT_OK) add_part(to, lazy, i, &r);
    release_reading(&r);
  }
  return st;
}

ckpt_status ckpt_lazy_range(unsigned char *to, size_t *done, void *context, size_t at, size_t n, ckpt_error *err) {
  const ckpt_lazy *whole = context;
  size_t size = ckpt_dtype_size(ckpt_tensor_dtype(whole->result)), most = n / size;
  ckpt_lazy *lazy = NULL;
  int64_t elements = 0;
  box b;
  find_box(&b, whole->result, (int64_t)(at / size), most < MOST ? (int64_t)most : MOST);
  ckpt_status st = cut_box(&lazy, &elements, whole, &b, err);
  if (st == CKPT_OK) st = compute_box(to, lazy, err);
  ckpt_lazy_free(lazy);
  *done = (size_t)elements * size;
  return st;
}

/* A view that is strided over another result would need all of that for each box. */
static bool source_streams(const ckpt_tensor *t) {
  ckpt_storage *s = ckpt_tensor_storage(t);
  return ckpt_storage_lies(s) || (ckpt_tensor_is_contiguous(t) && ckpt_storage_streams(s));
}

bool ckpt_lazy_streams(const void *context) {
  const ckpt_lazy *lazy = context;
  ckpt_dtype dtype = ckpt_tensor_dtype(lazy->result);
  if (lazy->op->cut == NULL || ckpt_dtype_per_byte(dtype) > 1 || ckpt_tensor_ndim(lazy->result) == 0) return false;
  for (size_t i = 0; i < lazy->n_sources; i++)
    if (ckpt_tensor_numel(lazy->sources[i]) > 0 && !source_streams(lazy->sources[i])) return false;
  return true;
}
