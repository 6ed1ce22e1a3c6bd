/*
 * numpy.h - numpy's arrays and scalars, out of the objects that pickles say them with. They stay objects in the tree,
 * so that they are written back as they were; these functions look at them.
 *
 *   dtype    numpy.dtype(code, False, True), state (3, order, subdtype, names, fields, itemsize, alignment, flags);
 *            code 'f8', 'U2', ...; order '<', '>', '|' or '='
 *   scalar   numpy.core.multiarray.scalar(dtype, bytes)
 *   array    numpy.core.multiarray._reconstruct(numpy.ndarray, (0,), b"b"), state (1, shape, dtype, fortran, bytes),
 *            with a list in place of the bytes for dtype 'O'
 *            numpy.core.numeric._frombuffer(bytes, dtype, shape, order[, axes])      (protocol 5)
 *
 * numpy 2 says numpy._core where numpy 1 says numpy.core.
 */
#ifndef CKPT_NUMPY_H
#define CKPT_NUMPY_H

#include "value.h"

/* The torch dtype of an array's elements; CKPT_E_UNSUPPORTED for strings, objects, records, long doubles. */
ckpt_status ckpt_array_dtype(ckpt_dtype *out, const ckpt_array *a, ckpt_error *err);

#endif
