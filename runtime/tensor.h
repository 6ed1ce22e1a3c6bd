/*
 * tensor.h - what the runtime's other files may know of a tensor. Shapes and strides follow the struct.
 */
#ifndef CKPT_TENSOR_H
#define CKPT_TENSOR_H

#include "dtype.h"
#include "storage.h"

typedef struct ckpt_quantizer ckpt_quantizer; /* quantizer.h */

typedef struct ckpt_tensor_spec {
  ckpt_dtype dtype;
  int ndim;
  const int64_t *shape, *stride; /* stride NULL: contiguous */
  int64_t offset;                /* in elements */
  bool requires_grad, conj, neg; /* conj, neg: the logical value is the conjugate / the negative of the bytes */
} ckpt_tensor_spec;

/* A view of `storage` (NULL: meta), which is retained. Every bound is checked with overflow-safe arithmetic. */
ckpt_status ckpt_tensor_make(ckpt_tensor **out, ckpt_storage *storage, const ckpt_tensor_spec *spec, ckpt_error *err);

/* The spec of `t`; shape and stride are borrowed from it. */
ckpt_tensor_spec ckpt_tensor_spec_of(const ckpt_tensor *t);

/* A copy of the handle `t` with another requires_grad. */
ckpt_status ckpt_tensor_with_grad(ckpt_tensor **out, const ckpt_tensor *t, bool requires_grad, ckpt_error *err);

ckpt_storage *ckpt_tensor_storage(const ckpt_tensor *t); /* borrowed; NULL for meta */

/* Of a quantised tensor: borrowed, NULL while it has none. set takes the reference; only on a handle not shared yet. */
ckpt_quantizer *ckpt_tensor_quantizer(const ckpt_tensor *t);
void ckpt_tensor_set_quantizer(ckpt_tensor *t, ckpt_quantizer *quantizer);

bool ckpt_tensor_conj(const ckpt_tensor *t);
bool ckpt_tensor_neg(const ckpt_tensor *t);

/* Bytes of the logical contents: numel x element size (packed dtypes rounded up). Checked at construction. */
size_t ckpt_tensor_nbytes(const ckpt_tensor *t);

/*
 * The tensor's first element for one reading; *owned (or NULL) is to be freed. What a source must inflate or compute is
 * not kept, unless the tensor is but a part of its storage: of many parts each would cost the whole.
 */
ckpt_status ckpt_tensor_read(const void **out, void **owned, const ckpt_tensor *t, ckpt_error *err);

/*
 * Copies the logical elements [start, start+count) in row-major order into `buffer`; conj and neg bits are applied.
 * `data` is the tensor's first element (ckpt_tensor_data).
 */
void ckpt_tensor_gather(void *buffer, const ckpt_tensor *t, const void *data, int64_t start, int64_t count);

/*
 * A hint that [at, at+count) have been read for now, by who goes through a contiguous tensor from front to back: what
 * lies in a mapping leaves this process's memory, a megabyte at a time.
 */
void ckpt_tensor_passed(const ckpt_tensor *t, const void *data, int64_t at, int64_t count);

bool ckpt_tensor_same_shape(const ckpt_tensor *a, const ckpt_tensor *b);

/* All of the logical elements, cast to `to_dtype` (ckpt_cast_check) block by block. */
void ckpt_tensor_cast_into(unsigned char *to, ckpt_dtype to_dtype, const ckpt_tensor *src, const void *from);

/* The same for the logical elements [start, start+count), in row-major order; `to` is where the first of them goes. */
void ckpt_tensor_cast_range(unsigned char *to, ckpt_dtype to_dtype, const ckpt_tensor *src, const void *from,
                            int64_t start, int64_t count);

/* CKPT_E_UNSUPPORTED for a view of packed elements (quint4x2, quint2x4) that does not lie in whole bytes. */
ckpt_status ckpt_tensor_check_packed(const ckpt_tensor *t, ckpt_error *err);

/* Whether a copy into t needs no memory. CKPT_E_ARGUMENT for a tensor that lies in a file or has no data;
 * CKPT_E_UNSUPPORTED for one that is not contiguous.
 */
ckpt_status ckpt_tensor_check_writable(const ckpt_tensor *t, ckpt_error *err);

/* CKPT_E_LIMIT for a tensor that is far larger than its storage (stride 0 over 2^40 elements): not to be spelled out.
 */
ckpt_status ckpt_tensor_check_spread(const ckpt_tensor *t, ckpt_error *err);

#endif
