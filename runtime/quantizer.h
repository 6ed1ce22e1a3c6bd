/*
 * quantizer.h - what makes numbers of a quantised tensor's integers: real = (stored - zero_point) * scale, with one
 * pair for the whole tensor or one for each index of an axis. Counted and immutable; a tensor's handle carries it.
 */
#ifndef CKPT_QUANTIZER_H
#define CKPT_QUANTIZER_H

#include "tensor.h"

/*
 * Checked against the tensor that it is for: a quantised dtype; an axis that exists; as many scales and zero points as
 * the axis is long. The tensors of `q` are retained. CKPT_E_CORRUPT. The bytes of scales and zero points are not read.
 */
ckpt_status ckpt_quantizer_new(ckpt_quantizer **out, const ckpt_quantization *q, const ckpt_tensor *t, ckpt_error *err);
ckpt_quantizer *ckpt_quantizer_retain(ckpt_quantizer *quantizer);
void ckpt_quantizer_release(ckpt_quantizer *quantizer);
const ckpt_quantization *ckpt_quantizer_get(const ckpt_quantizer *quantizer);

/*
 * Scales and zero points as doubles, one for each index of the axis, or one in all; free() both. CKPT_E_CORRUPT for a
 * scale that is not a positive finite number, or a zero point that is no finite one.
 */
ckpt_status ckpt_quantizer_numbers(double **scales, double **zero_points, const ckpt_quantizer *quantizer,
                                   ckpt_error *err);

#endif
