/*
 * stats.c - what a tensor's numbers are like, and whether two tensors are the same.
 *
 * The elements are taken in blocks. Of each block the finite ones are counted, averaged and their squared distances
 * summed in a second look at the block; blocks are merged as Chan, Golub and LeVeque do it: mean and deviation are
 * those of a two-pass computation, with one pass over the file.
 */
#include <math.h>
#include <stdlib.h>

#include "element.h"
#include "stream.h"

enum { BLOCK = 512 };

typedef struct moments {
  double n, mean, squares; /* squares: of the distances to the mean */
} moments;

/* ---- one block ---- */

/* Magnitudes in place of pairs; a part that is NaN beats one that is infinite. */
static void fold_complex(double *v, size_t n) {
  for (size_t i = 0; i < n; i++) {
    double re = v[2 * i], im = v[2 * i + 1];
    v[i] = isnan(re) || isnan(im) ? (double)NAN : hypot(re, im);
  }
}

/* Counts and takes out what is not finite; what is left. */
static size_t sift(ckpt_stats *s, double *v, size_t n) {
  size_t finite = 0;
  for (size_t i = 0; i < n; i++) {
    double x = v[i];
    if (isfinite(x)) {
      s->zeros += x == 0;
      v[finite++] = x;
    } else if (isnan(x)) {
      s->nan++;
    } else {
      s->infinite++;
    }
  }
  return finite;
}

static void note_bounds(ckpt_stats *s, const double *v, size_t n) {
  for (size_t i = 0; i < n; i++) {
    if (!(v[i] >= s->min)) s->min = v[i]; /* also when it is still NaN */
    if (!(v[i] <= s->max)) s->max = v[i];
  }
}

static moments moments_of(const double *v, size_t n) {
  moments m = {(double)n, 0, 0};
  for (size_t i = 0; i < n; i++) m.mean += v[i];
  m.mean /= m.n; /* 0/0 of nothing is not merged */
  for (size_t i = 0; i < n; i++) m.squares += (v[i] - m.mean) * (v[i] - m.mean);
  return m;
}

static void merge(moments *all, moments m) {
  if (m.n == 0) return;
  double n = all->n + m.n, distance = m.mean - all->mean;
  all->mean += distance * (m.n / n);
  all->squares += m.squares + distance * distance * (all->n * (m.n / n));
  all->n = n;
}

/* ---- all blocks ---- */

static void load(double *v, const unsigned char *bytes, ckpt_dtype dtype, size_t n) {
  ckpt_dtype part = ckpt_dtype_part(dtype);
  size_t parts = part == dtype ? n : 2 * n;
  if (part == CKPT_F64)
    memcpy(v, bytes, parts * sizeof *v);
  else
    ckpt_cast_run(v, CKPT_F64, bytes, part, parts);
  if (part != dtype) fold_complex(v, n);
}

/* Takes a tensor's bytes as they pass. */
typedef struct survey {
  ckpt_sink sink; /* first: the sink's address is the survey's */
  ckpt_stats *stats;
  ckpt_dtype dtype;
  moments all;
} survey;

static ckpt_status go_over(ckpt_sink *sink, const void *data, size_t size, ckpt_error *err) {
  survey *s = (survey *)sink;
  const unsigned char *bytes = data;
  double v[2 * BLOCK];
  size_t element = ckpt_dtype_size(s->dtype), count = size / element;
  (void)err;
  for (size_t at = 0; at < count; at += BLOCK) {
    size_t n = count - at < BLOCK ? count - at : BLOCK;
    load(v, bytes + at * element, s->dtype, n);
    n = sift(s->stats, v, n);
    note_bounds(s->stats, v, n);
    merge(&s->all, moments_of(v, n));
  }
  return CKPT_OK;
}

ckpt_status ckpt_tensor_stats(ckpt_stats *out, const ckpt_tensor *t, ckpt_error *err) {
  const double none = (double)NAN;
  ckpt_stats s = {.count = ckpt_tensor_numel(t), .min = none, .max = none, .mean = none, .std = none};
  survey over = {{go_over}, &s, ckpt_tensor_dtype(t), {0, 0, 0}};
  CKPT_TRY(ckpt_element_check(ckpt_tensor_dtype(t), "stats", err));
  CKPT_TRY(ckpt_tensor_check_spread(t, err));
  CKPT_TRY(ckpt_tensor_stream(&over.sink, t, err));
  if (over.all.n > 0) s.mean = over.all.mean;
  if (over.all.n > 1) s.std = sqrt(over.all.squares / (over.all.n - 1));
  *out = s;
  return CKPT_OK;
}

/* ---- equality ---- */

static bool same_elements(const ckpt_tensor *a, const void *x, const ckpt_tensor *b, const void *y) {
  unsigned char left[BLOCK * CKPT_ELEMENT_MAX], right[BLOCK * CKPT_ELEMENT_MAX];
  size_t size = ckpt_dtype_size(ckpt_tensor_dtype(a));
  for (int64_t at = 0; at < ckpt_tensor_numel(a); at += BLOCK) {
    int64_t rest = ckpt_tensor_numel(a) - at, n = rest < BLOCK ? rest : BLOCK;
    ckpt_tensor_gather(left, a, x, at, n);
    ckpt_tensor_gather(right, b, y, at, n);
    if (memcmp(left, right, (size_t)n * size) != 0) return false;
  }
  return true;
}

/* Packed elements lie in whole bytes (ckpt_tensor_check_packed); the unused bits of the last one do not count. */
static bool same_packed(const ckpt_tensor *t, const unsigned char *x, const unsigned char *y) {
  int64_t per = ckpt_dtype_per_byte(ckpt_tensor_dtype(t)), used = ckpt_tensor_numel(t) % per;
  size_t whole = ckpt_tensor_nbytes(t) - (used > 0);
  unsigned mask = (1u << (used * 8 / per)) - 1;
  if (whole > 0 && memcmp(x, y, whole) != 0) return false;
  return used == 0 || ((x[whole] ^ y[whole]) & mask) == 0;
}

static ckpt_status compare(bool *out, const ckpt_tensor *a, const ckpt_tensor *b, ckpt_error *err) {
  const void *x, *y;
  void *owned, *other;
  CKPT_TRY(ckpt_tensor_read(&x, &owned, a, err));
  ckpt_status st = ckpt_tensor_read(&y, &other, b, err);
  if (st == CKPT_OK) {
    bool packed = ckpt_dtype_per_byte(ckpt_tensor_dtype(a)) > 1;
    *out = ckpt_tensor_numel(a) == 0 || (packed ? same_packed(a, x, y) : same_elements(a, x, b, y));
    free(other);
  }
  free(owned);
  return st;
}

ckpt_status ckpt_tensor_equal(bool *out, const ckpt_tensor *a, const ckpt_tensor *b, ckpt_error *err) {
  const ckpt_tensor *both[] = {a, b};
  bool alike = ckpt_tensor_dtype(a) == ckpt_tensor_dtype(b) && ckpt_tensor_same_shape(a, b);
  if (!alike || ckpt_tensor_is_meta(a) || ckpt_tensor_is_meta(b)) {
    *out = alike && ckpt_tensor_is_meta(a) && ckpt_tensor_is_meta(b);
    return CKPT_OK;
  }
  for (int i = 0; i < 2; i++) {
    CKPT_TRY(ckpt_tensor_check_spread(both[i], err));
    CKPT_TRY(ckpt_tensor_check_packed(both[i], err));
  }
  return compare(out, a, b, err);
}
