/*
 * strided.h - moving elements between two strided regions of memory.
 */
#ifndef CKPT_STRIDED_H
#define CKPT_STRIDED_H

#include "base.h"

/*
 * One region: the address of its first element and its strides, in elements. Strides may be negative or 0 (a region
 * that is written to has none of 0); the addresses have been checked by whoever made the region.
 */
typedef struct ckpt_region {
  const unsigned char *at;
  const int64_t *stride;
} ckpt_region;

/* to[...] = from[...] for `shape`, elements of `size` bytes; at most CKPT_MAX_DIMS dimensions. */
void ckpt_strided_copy(unsigned char *to, const int64_t *to_stride, ckpt_region from, int ndim, const int64_t *shape,
                       size_t size);

/* Strides of a contiguous tensor of that shape. */
void ckpt_strided_rows(int64_t *stride, int ndim, const int64_t *shape);

/* The `n` elements at `to` become copies of the one at `element`. */
void ckpt_strided_fill(unsigned char *to, size_t n, const void *element, size_t size);

#endif
