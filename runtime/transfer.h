/*
 * transfer.h - many tensors into as many arrays at once: from the mapping into the caller's memory, cast and permuted
 * on the way, on all cores.
 */
#ifndef CKPT_TRANSFER_H
#define CKPT_TRANSFER_H

#include "tensor.h"

typedef struct ckpt_move {
  ckpt_tensor *to, *from;
} ckpt_move;

/*
 * Does what ckpt_tensor_copy(to, from) in the order of the array would do. Where destinations share memory, or there is
 * no memory for a plan, it does just that. The first error is returned after all others have been done; sources whose
 * bytes are at hand, into contiguous arrays, cannot fail.
 */
ckpt_status ckpt_transfer(const ckpt_move *moves, size_t n, ckpt_error *err);

#endif
