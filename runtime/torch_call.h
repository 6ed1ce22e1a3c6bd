/*
 * torch_call.h - the call that rebuilds a tensor, as values: what the writer says of a tensor of its own, for where
 * that call is an argument of another one.
 */
#ifndef CKPT_TORCH_CALL_H
#define CKPT_TORCH_CALL_H

#include "value.h"

/* False for quantised tensors, whose scale is not in the tensor. */
bool ckpt_torch_can_call(const ckpt_tensor *t);

/*
 * _rebuild_tensor_v2 (or _v3, or _rebuild_meta_tensor_no_storage) and the tuple of its arguments. The storage's key is
 * "0": the writer numbers storages itself.
 */
ckpt_status ckpt_torch_call(ckpt_value **function, ckpt_value **args, ckpt_document *doc, const ckpt_tensor *t,
                            ckpt_error *err);

#endif
