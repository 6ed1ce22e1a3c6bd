/*
 * remedy.h - what becomes of one value when it is made fit for torch.load(weights_only=True), seen by itself: its parts
 * have remedies of their own.
 */
#ifndef CKPT_REMEDY_H
#define CKPT_REMEDY_H

#include "value.h"

typedef enum ckpt_remedy {
  CKPT_KEEP,        /* as it is */
  CKPT_DROP,        /* nothing that could be kept */
  CKPT_TO_LIST,     /* its items (ckpt_remedy_items) */
  CKPT_TO_SET,      /* its items */
  CKPT_TO_DICT,     /* its pairs (ckpt_remedy_pairs) */
  CKPT_TO_TENSOR,   /* the tensor alone, without the words that the file had for it */
  CKPT_TO_NUMBERS,  /* a quantised tensor: the float32 that it stands for; one with conj or neg bits: spelled out */
  CKPT_TO_BYTES,    /* the same bytes, said so that they are taken */
  CKPT_TO_TEXT,     /* torch.device: its name */
  CKPT_TO_INNER,    /* a sparse or nested tensor without its wrapper */
  CKPT_TO_SPARSE,   /* a sparse tensor in the words of the other PyTorch */
  CKPT_FROM_ARRAY,  /* numpy: a tensor, a number, a string, a list */
  CKPT_FROM_SCALAR, /* a float, complex or bytes as a tensor */
} ckpt_remedy;

/* *quiet: no change that a person would see. Fails for corrupt arrays and sparse tensors: CKPT_E_CORRUPT. */
ckpt_status ckpt_remedy_of(ckpt_remedy *out, bool *quiet, ckpt_profile profile, const ckpt_value *v, ckpt_error *err);

const ckpt_seq *ckpt_remedy_items(const ckpt_value *v);  /* NULL if it has none */
const ckpt_dict *ckpt_remedy_pairs(const ckpt_value *v); /* NULL if it has none */

/* The class that made v, or the function: "collections.deque", "numpy.core.multiarray.scalar", "str", "qint8". */
const char *ckpt_remedy_class(const ckpt_value *v);

#endif
