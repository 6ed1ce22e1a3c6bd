/*
 * sparse.h - sparse and nested tensors, out of the objects that files say them with. They stay objects in the tree, and
 * their parts are tensors of their own in a listing.
 *
 *   _rebuild_sparse_tensor(layout, data), layout = _get_layout("torch.sparse_coo")
 *     COO                  data = (indices int64 [sparse dims, nnz], values [nnz, dense dims...], size[, is_coalesced])
 *     CSR, CSC, BSR, BSC   data = (compressed [batch..., n+1], plain [batch..., nnz], values [batch..., nnz, block...,
 *                          dense...], size)
 *   _rebuild_sparse_csr_tensor(layout, data)         (PyTorch 1.13)
 *   _rebuild_nested_tensor(buffer, sizes int64 [n, dims], strides, offsets int64 [n] or a list)
 */
#ifndef CKPT_SPARSE_H
#define CKPT_SPARSE_H

#include "value.h"

bool ckpt_value_is_sparse(const ckpt_value *v);
bool ckpt_value_is_nested(const ckpt_value *v);

/* The function that rebuilds a sparse or nested tensor, inside of Parameters and subclasses, and its arguments. */
const ckpt_value *ckpt_composite_function(const ckpt_value *v);
const ckpt_value *ckpt_composite_args(const ckpt_value *v);

/* Every index lies where the shape allows it; for compressed layouts the pointers climb from 0 to nnz. Reads them all.
 */
ckpt_status ckpt_sparse_check_indices(const ckpt_sparse *s, ckpt_error *err);

/* What belongs to a compressed layout. */
typedef struct ckpt_compressed {
  int batch_ndim, block_ndim;    /* block_ndim: 0, or 2 for BSR and BSC */
  bool by_rows;                  /* CSR, BSR: compressed along rows */
  int64_t batches, blocks[2];    /* blocks: size of a block, 1 x 1 without */
  int64_t n_compressed, n_plain; /* rows and columns (or the reverse), in blocks */
} ckpt_compressed;

void ckpt_sparse_compressed(ckpt_compressed *out, const ckpt_sparse *s); /* of a checked, compressed one */

/* The integers of an index tensor as a contiguous int64 tensor of its own; *numbers are its elements. */
ckpt_status ckpt_sparse_integers(ckpt_tensor **out, const int64_t **numbers, const ckpt_tensor *t, ckpt_error *err);

#endif
