/*
 * cast.h - runs of numbers from one dtype to another, with PyTorch's results.
 *
 *   integer -> integer   the low bits; to bool: whether it is not 0
 *   integer -> float     rounded once to float32 or float64; the 8- and 16-bit floats are then made from float32
 *   float   -> float     rounded to nearest, ties to even; float64 goes to 8 and 16 bits by way of float32, as PyTorch
 *                        does it; NaN stays NaN (its bits are small_float.h's)
 *   float   -> integer   truncated. What does not fit is undefined in PyTorch, but for uint8; here it becomes the
 *                        nearest bound, NaN becomes 0, and uint8 keeps the low bits of the int64 so made, as in PyTorch
 *   complex -> complex   part by part; real -> complex: with an imaginary part of 0; complex -> real is refused:
 *                        PyTorch warns and drops the imaginary part
 */
#ifndef CKPT_CAST_H
#define CKPT_CAST_H

#include "dtype.h"

/* True for integers, bool, and floats of 8 to 64 bits: the dtypes that count. */
bool ckpt_dtype_is_real(ckpt_dtype dtype);
bool ckpt_dtype_is_integer(ckpt_dtype dtype); /* bool too */

/* The dtype of one part of a complex number; any other dtype is its own. */
ckpt_dtype ckpt_dtype_part(ckpt_dtype dtype);

bool ckpt_cast_supported(ckpt_dtype to, ckpt_dtype from);

/* CKPT_E_UNSUPPORTED with the reason unless the dtypes are equal or ckpt_cast_run takes them. */
ckpt_status ckpt_cast_check(ckpt_dtype to, ckpt_dtype from, ckpt_error *err);

/* Casts n contiguous elements of two different dtypes; the buffers do not overlap. */
void ckpt_cast_run(void *to, ckpt_dtype to_dtype, const void *from, ckpt_dtype from_dtype, size_t n);

#endif
