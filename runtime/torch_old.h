/*
 * torch_old.h - what only PyTorch before 0.4 wrote into its pickles, said in today's words, so that the values are
 * tensors and a new file of them loads everywhere:
 *
 *   torch.FloatTensor() + BUILD (storage, offset, size, stride)   ->  _rebuild_tensor_v2(...)
 *   torch.nn.parameter.Parameter(tensor) + BUILD (requires_grad, volatile, hooks)   ->  _rebuild_parameter(...)
 *   torch.autograd.variable.Variable(tensor) + BUILD (the same)   ->  a tensor, which is what a Variable is since 0.4
 *   a persistent id that holds a class and its source text   ->  the class
 *
 * What does not look like this stays the inert object that it is.
 */
#ifndef CKPT_TORCH_OLD_H
#define CKPT_TORCH_OLD_H

#include "pickle_read.h"

typedef struct ckpt_torch_old {
  ckpt_document *doc;
  ckpt_pickle_hooks next; /* of the format, which make the tensors */
} ckpt_torch_old;

/* True for torch.FloatTensor and its like, also torch.cuda's; *dtype is that of their elements. */
bool ckpt_torch_old_tensor_class(ckpt_dtype *dtype, const ckpt_value *cls);

/* After REDUCE and NEWOBJ, when next.built has left the object as it was. */
ckpt_status ckpt_torch_old_built(const ckpt_torch_old *old, ckpt_value *v, ckpt_error *err);

/* Before BUILD (see ckpt_pickle_hooks). */
ckpt_status ckpt_torch_old_state(bool *done, const ckpt_torch_old *old, ckpt_value *to, ckpt_value *state,
                                 ckpt_error *err);

/*
 * The object of a persistent id whose item `at` is a class, followed by file name and text of its source, becomes that
 * class; the id stays with it (ckpt_value_class_source).
 */
ckpt_status ckpt_torch_old_module(ckpt_value *v, size_t at, ckpt_error *err);

#endif
