/*
 * dcp_chunks.h - one tensor out of rectangular chunks, put together when it is first looked at.
 *
 *      offsets (0, 3)
 *   +---------+------+      size of the tensor: (4, 5)
 *   | (0,0)   | (0,3)|      chunks: (2, 3), (2, 2), (2, 3), (2, 2)
 *   +---------+------+
 *   | (2,0)   | (2,3)|      together they are the tensor: none reaches outside,
 *   +---------+------+      no two overlap, nothing is missing
 */
#ifndef CKPT_DCP_CHUNKS_H
#define CKPT_DCP_CHUNKS_H

#include "dcp_meta.h"

/* CKPT_E_CORRUPT unless the chunks are the tensor; CKPT_E_LIMIT if they lie in a way that takes too long to check. */
ckpt_status ckpt_dcp_check_chunks(const ckpt_dcp_entry *e, ckpt_error *err);

/* True if one chunk is all of the tensor. */
bool ckpt_dcp_is_whole(const ckpt_dcp_entry *e);

/*
 * A contiguous tensor over the checked chunks of `e`; parts[i] is chunk i (NULL for an empty one), of the entry's dtype
 * and the chunk's sizes. The parts are retained; `e` need not outlive the call.
 */
ckpt_status ckpt_dcp_join(ckpt_tensor **out, const ckpt_dcp_entry *e, ckpt_tensor *const *parts, ckpt_error *err);

#endif
