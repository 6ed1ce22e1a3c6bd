/*
 * check.h - what can be wrong inside values although the file could be read: indices of sparse and nested tensors,
 * scales of quantised ones, numpy arrays whose bytes do not fit their shape.
 */
#ifndef CKPT_CHECK_H
#define CKPT_CHECK_H

#include "value.h"

/* Reads indices and scales, never the tensors' own data. CKPT_E_CORRUPT names the path. */
ckpt_status ckpt_value_check(const ckpt_value *root, ckpt_error *err);

#endif
