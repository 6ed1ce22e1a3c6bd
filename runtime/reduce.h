/*
 * reduce.h - computed tensors whose elements are made of several of their source's, or of none: sums and means of a
 * dimension, resized dimensions, repetitions, constants. Lazy, as those of ckpt.h are; meta tensors give meta tensors.
 */
#ifndef CKPT_REDUCE_H
#define CKPT_REDUCE_H

#include "tensor.h"

/* Bounds on what a rule may ask for: a result far larger than its source is a mistake or an attack. */
enum { CKPT_REPEAT_MAX = 4096, CKPT_RESIZE_MAX = 1 << 20 };
#define CKPT_FULL_MAX ((size_t)1 << 36) /* bytes of a constant */

/*
 * The sum or mean of a dimension, which stays with size 1, in the tensor's dtype: integers wrap around, floats are
 * added up in float64 and rounded once. A mean is of floats only; a mean of no entries is NaN.
 */
ckpt_status ckpt_tensor_sum(ckpt_tensor **out, const ckpt_tensor *t, int dim, ckpt_error *err);
ckpt_status ckpt_tensor_mean(ckpt_tensor **out, const ckpt_tensor *t, int dim, ckpt_error *err);

/* The entries of a dimension n times over: 0 1 2 0 1 2, as in PyTorch. 0 <= n <= CKPT_REPEAT_MAX. */
ckpt_status ckpt_tensor_repeat(ckpt_tensor **out, const ckpt_tensor *t, int dim, int64_t n, ckpt_error *err);

/* `value` everywhere; `meta`: without data. CKPT_E_LIMIT for more than CKPT_FULL_MAX bytes. */
ckpt_status ckpt_tensor_full(ckpt_tensor **out, ckpt_dtype dtype, int ndim, const int64_t *shape, ckpt_scalar value,
                             bool meta, ckpt_error *err);

typedef enum ckpt_resize { CKPT_RESIZE_NEAREST, CKPT_RESIZE_LINEAR, CKPT_RESIZE_CUBIC } ckpt_resize;

/*
 * The n dimensions `dims` with other sizes, as interpolate(align_corners=False) of PyTorch: one dimension after
 * another, 16-bit floats by way of float32. NEAREST takes any dtype, the others floats.
 */
ckpt_status ckpt_tensor_resize(ckpt_tensor **out, const ckpt_tensor *t, int n, const int *dims, const int64_t *sizes,
                               ckpt_resize mode, ckpt_error *err);

#endif
