/*
 * view.h - what views and computed tensors share: finding a dimension, naming a shape.
 */
#ifndef CKPT_VIEW_H
#define CKPT_VIEW_H

#include "tensor.h"

/* `given` in [-n, n) as a dimension in [0, n); CKPT_E_RANGE, which tells how many there are. */
ckpt_status ckpt_view_dim(int *out, int given, int n, ckpt_error *err);

/* Marks the n named dimensions of t; CKPT_E_RANGE for one that is not there or named twice. */
ckpt_status ckpt_view_dims(bool marked[CKPT_MAX_DIMS], const ckpt_tensor *t, int n, const int *dims, ckpt_error *err);

/* "[2, 3]" for messages; cut short where it is too long. Returns out. */
enum { CKPT_SHAPE_TEXT = 120 };
const char *ckpt_view_shape_text(char out[CKPT_SHAPE_TEXT], int ndim, const int64_t *shape);

/* CKPT_E_UNSUPPORTED, naming the operation, for dtypes whose elements share bytes. */
ckpt_status ckpt_view_check_packed(const ckpt_tensor *t, const char *what, ckpt_error *err);

#endif
