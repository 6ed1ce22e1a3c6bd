/*
 * weights_only.h - what torch.load(weights_only=True) takes: the allow lists of PyTorch 2.6 and later, and of 1.13.
 */
#ifndef CKPT_WEIGHTS_ONLY_H
#define CKPT_WEIGHTS_ONLY_H

#include "value.h"

/* Whether a CLASS (or function) is on the list. */
bool ckpt_weights_only_takes(ckpt_profile profile, const ckpt_value *cls);

/* Whether that PyTorch has tensors of the dtype, and rebuilds them. */
bool ckpt_weights_only_dtype(ckpt_profile profile, ckpt_dtype dtype);

#endif
