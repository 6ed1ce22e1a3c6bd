/*
 * small_float.h - the 8- and 16-bit floating formats, to and from float32, by their bits alone: the host's rounding
 * mode and its flushing of subnormals have no say.
 *
 *              sign exponent mantissa bias   beyond the largest   NaN              zero
 *   float16      1      5       10     15    infinity             exponent 31      +0 -0
 *   bfloat16     1      8        7    127    infinity             exponent 255     +0 -0
 *   e5m2         1      5        2     15    infinity             exponent 31      +0 -0
 *   e4m3fn       1      4        3      7    the largest, 448     S.1111.111       +0 -0   (NaN in earlier PyTorch)
 *   e5m2fnuz     1      5        2     16    NaN                  0x80             +0
 *   e4m3fnuz     1      4        3      8    NaN                  0x80             +0
 *   e8m0fnu      -      8        -    127    NaN                  0xff             none (least: 2^-127)
 */
#ifndef CKPT_SMALL_FLOAT_H
#define CKPT_SMALL_FLOAT_H

#include "dtype.h"

/* True for the formats of the table above. */
bool ckpt_small_float_is(ckpt_dtype dtype);

/* n elements of `dtype` to float32: exact. */
void ckpt_small_float_decode(float *to, const unsigned char *from, ckpt_dtype dtype, size_t n);

/* n float32 to `dtype`: to nearest, ties to even; subnormals, overflow and the bits of NaN as PyTorch has them. */
void ckpt_small_float_encode(unsigned char *to, const float *from, ckpt_dtype dtype, size_t n);

#endif
