/*
 * dtype.h - what the runtime knows of a dtype beyond ckpt.h: how PyTorch stores it and how it counts.
 */
#ifndef CKPT_DTYPE_H
#define CKPT_DTYPE_H

#include "base.h"

typedef enum ckpt_rebuild { CKPT_REBUILD_V2, CKPT_REBUILD_V3, CKPT_REBUILD_Q } ckpt_rebuild;

typedef enum ckpt_numeric {
  CKPT_NUM_UINT,
  CKPT_NUM_INT,
  CKPT_NUM_FLOAT,
  CKPT_NUM_COMPLEX,
  CKPT_NUM_BOOL,
  CKPT_NUM_QUANT,
  CKPT_NUM_BITS
} ckpt_numeric;

ckpt_rebuild ckpt_dtype_rebuild(ckpt_dtype dtype);
ckpt_numeric ckpt_dtype_numeric(ckpt_dtype dtype);

/* Class in module `torch` that carries the dtype in a file: "FloatStorage"; "UntypedStorage" for the v3 ones. */
const char *ckpt_dtype_storage_class(ckpt_dtype dtype);

/*
 * The dtype of a storage class (also `Float8_e4m3fnStorage` and such, which TorchScript writes); UntypedStorage is
 * uint8. CKPT_E_NOTFOUND without a message if there is none of that name.
 */
ckpt_status ckpt_dtype_of_storage_class(ckpt_dtype *out, const char *name, size_t length);

/* Elements in one byte: 2 for quint4x2, 4 for quint2x4, else 1. */
int64_t ckpt_dtype_per_byte(ckpt_dtype dtype);

/* Unit in which a big-endian file swaps bytes: complex numbers swap each half. */
unsigned ckpt_dtype_swap_unit(ckpt_dtype dtype);

#endif
