/*
 * element.h - single numbers: ckpt_scalar to and from the bytes of one element.
 */
#ifndef CKPT_ELEMENT_H
#define CKPT_ELEMENT_H

#include "cast.h"

enum { CKPT_ELEMENT_MAX = 16 }; /* bytes of the largest dtype */

/* The number as one element; refuses what the dtype does not hold (see ckpt_tensor_set). */
ckpt_status ckpt_element_encode(unsigned char out[CKPT_ELEMENT_MAX], ckpt_dtype dtype, ckpt_scalar value,
                                ckpt_error *err);

/* The number that one element is; its dtype passes ckpt_element_check. */
ckpt_scalar ckpt_element_decode(const unsigned char *bytes, ckpt_dtype dtype);

/* CKPT_E_UNSUPPORTED, naming `what`, for dtypes whose elements are no numbers: quantised and bits. */
ckpt_status ckpt_element_check(ckpt_dtype dtype, const char *what, ckpt_error *err);

#endif
