/*
 * quantized.h - quantised tensors as values: read from a file's words, said in them again.
 *
 *   _rebuild_qtensor(storage, offset, size, stride, qparams, requires_grad, hooks)
 *   qparams   (torch.per_tensor_affine, scale, zero_point)
 *             (torch.per_channel_affine | torch.per_channel_affine_float_qparams, scales, zero_points, axis)
 */
#ifndef CKPT_QUANTIZED_H
#define CKPT_QUANTIZED_H

#include "quantizer.h"
#include "value.h"

/* Gives the new tensor `t`, which nobody else holds yet, the quantiser of these qparams. */
ckpt_status ckpt_quantized_read(ckpt_tensor *t, const ckpt_value *qparams, ckpt_error *err);

/* Gives a TENSOR value that a program made, and whose tensor has a quantiser, the words that a file says it with. */
ckpt_status ckpt_quantized_say(ckpt_value *v, ckpt_document *doc, ckpt_error *err);

/* Reads scales and zero points of a quantised TENSOR and checks them; any other value is fine. */
ckpt_status ckpt_quantized_check(const ckpt_value *v, ckpt_error *err);

#endif
