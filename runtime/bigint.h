/*
 * bigint.h - integers beyond 64 bits: little-endian two's complement bytes, as short as they can be, at least nine.
 */
#ifndef CKPT_BIGINT_H
#define CKPT_BIGINT_H

#include "value.h"

/* The number of a BIGINT if a double holds exactly that, else false. */
bool ckpt_bigint_double(double *out, const ckpt_value *v);

/* As Python's hex(): "-0x1f". The text is the caller's, free() it. */
ckpt_status ckpt_bigint_hex(char **out, size_t *n, const ckpt_value *v, ckpt_error *err);

#endif
