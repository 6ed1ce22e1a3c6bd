/*
 * split.h - which tensor goes to which file of a sharded set, decided as huggingface_hub decides: greedily in order,
 * what is larger than a file gets one of its own, and a storage is never divided.
 */
#ifndef CKPT_SPLIT_H
#define CKPT_SPLIT_H

#include "flat.h"

typedef struct ckpt_split { /* zeroed: empty */
  size_t n;                 /* files; 0 without tensors */
  size_t *file;             /* number of its file for each tensor of the flat value */
  uint64_t total;           /* bytes of all tensors, each written byte once: the index's total_size */
} ckpt_split;

/* `safetensors`: a storage counts by the tensors that are written of it, else by its own size. max 0: one file. */
ckpt_status ckpt_split_new(ckpt_split *out, const ckpt_flat *flat, bool safetensors, uint64_t max, ckpt_error *err);
void ckpt_split_free(ckpt_split *split);

#endif
