/*
 * average.c - the mean of several floating tensors, as of checkpoints of one run.
 *
 * Sums are made in float64, one source at a time, and divided once; the result is then rounded to the sources' dtype.
 * So the mean of equal tensors of a smaller dtype is that tensor, bit for bit (-0 stays -0), and rounding and the order
 * of the sources are felt in the last bits of a float64 only.
 */
#include "cast.h"
#include "element.h"
#include "lazy.h"
#include "view.h"

enum { BLOCK = 512 };

static void take_parts(double *to, const void *from, ckpt_dtype dtype, size_t n) {
  if (dtype == CKPT_F64)
    memcpy(to, from, n * sizeof *to);
  else
    ckpt_cast_run(to, CKPT_F64, from, dtype, n);
}

/* Adds (for the first source: puts) the elements of a source; behind the last one the sum is divided. */
static void part_mean(unsigned char *to, const ckpt_lazy *lazy, size_t i, const void *data) {
  double block[BLOCK], *sum = (double *)(void *)to, n = (double)lazy->n_sources;
  unsigned char gathered[BLOCK * CKPT_ELEMENT_MAX / 2];
  const ckpt_tensor *source = lazy->sources[i];
  ckpt_dtype dtype = ckpt_tensor_dtype(source), part = ckpt_dtype_part(dtype);
  int64_t parts = part == dtype ? 1 : 2, step = BLOCK / parts, numel = ckpt_tensor_numel(source);
  for (int64_t at = 0; at < numel; at += step) {
    int64_t count = numel - at < step ? numel - at : step;
    double *here = sum + at * parts;
    ckpt_tensor_gather(gathered, source, data, at, count);
    take_parts(block, gathered, part, (size_t)(count * parts));
    for (int64_t k = 0; k < count * parts; k++) here[k] = i == 0 ? block[k] : here[k] + block[k];
    for (int64_t k = 0; i + 1 == lazy->n_sources && k < count * parts; k++) here[k] /= n;
  }
}

static const ckpt_lazy_op mean_op = {.part = part_mean, .cut = ckpt_lazy_cut_alike};

static bool same_shape(const ckpt_tensor *a, const ckpt_tensor *b) {
  if (ckpt_tensor_ndim(a) != ckpt_tensor_ndim(b)) return false;
  for (int i = 0; i < ckpt_tensor_ndim(a); i++)
    if (ckpt_tensor_shape(a)[i] != ckpt_tensor_shape(b)[i]) return false;
  return true;
}

static ckpt_status check_sources(size_t n, const ckpt_tensor *const *tensors, ckpt_error *err) {
  if (n == 0) return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "the mean of no tensors");
  ckpt_dtype dtype = ckpt_tensor_dtype(tensors[0]), part = ckpt_dtype_part(dtype);
  CKPT_TRY(ckpt_element_check(dtype, "a mean", err));
  if (ckpt_dtype_is_integer(part))
    return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "a mean is of floating numbers, not of %s", ckpt_dtype_name(dtype));
  for (size_t i = 1; i < n; i++) {
    if (ckpt_tensor_dtype(tensors[i]) != dtype)
      return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "tensors 1 and %zu of a mean are of %s and %s", i + 1,
                       ckpt_dtype_name(dtype), ckpt_dtype_name(ckpt_tensor_dtype(tensors[i])));
    if (!same_shape(tensors[0], tensors[i]))
      return ckpt_fail(err, CKPT_E_SHAPE, -1, "tensors 1 and %zu of a mean are of different shapes", i + 1);
  }
  return CKPT_OK;
}

ckpt_status ckpt_tensor_average(ckpt_tensor **out, size_t n, const ckpt_tensor *const *tensors, ckpt_error *err) {
  ckpt_tensor *wide = NULL;
  CKPT_TRY(check_sources(n, tensors, err));
  const ckpt_tensor *first = tensors[0];
  ckpt_dtype dtype = ckpt_tensor_dtype(first);
  if (n == 1) return ckpt_tensor_contiguous(out, first, err);
  ckpt_lazy_plan plan = {&mean_op,
                         ckpt_dtype_part(dtype) == dtype ? CKPT_F64 : CKPT_C128,
                         ckpt_tensor_ndim(first),
                         ckpt_tensor_shape(first),
                         n,
                         tensors,
                         NULL,
                         0};
  CKPT_TRY(ckpt_lazy_make(&wide, &plan, err));
  ckpt_status st = ckpt_tensor_to(out, wide, dtype, err);
  ckpt_tensor_release(wide);
  return st;
}
