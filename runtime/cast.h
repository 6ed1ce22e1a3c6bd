/*
 * cast.h - runs of numbers from one dtype to another.
 *
 * Integers go to integers by their low bits, everything else goes through double: exact for every dtype handled here
 * but 64-bit integers beyond 2^53. Doubles are rounded to nearest, ties to even; to an integer they are truncated, NaN
 * is 0 and what does not fit becomes the nearest bound.
 */
#ifndef CKPT_CAST_H
#define CKPT_CAST_H

#include "dtype.h"

/* True for the pairs that ckpt_cast_run takes: all signed and unsigned integers, bool, float16, bfloat16, 32, 64. */
bool ckpt_cast_supported(ckpt_dtype to, ckpt_dtype from);

/* Casts n contiguous elements; the buffers do not overlap. */
void ckpt_cast_run(void *to, ckpt_dtype to_dtype, const void *from, ckpt_dtype from_dtype, size_t n);

#endif
