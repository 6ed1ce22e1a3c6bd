/*
 * torch_build.h - what PyTorch's names mean: storages behind persistent ids, tensors behind rebuild functions, and the
 * few standard Python types that older protocols spell as calls. Hooks for the pickle machine.
 *
 * Format facts: torch/_utils.py (_rebuild_tensor, _v2, _v3, _rebuild_parameter, _rebuild_qtensor,
 * _rebuild_meta_tensor_no_storage, _rebuild_device_tensor_from_cpu_tensor, _from_numpy), torch/_tensor.py
 * (_rebuild_from_type_v2), torch/serialization.py (persistent ids).
 */
#ifndef CKPT_TORCH_BUILD_H
#define CKPT_TORCH_BUILD_H

#include "pickle_read.h"
#include "torch_storages.h"

/* What a storage's persistent id says; its bytes are numel x element size. */
typedef struct ckpt_storage_id {
  char key[256];
  ckpt_dtype dtype;
  uint64_t numel, bytes;
} ckpt_storage_id;

/* True for a tuple that begins with "storage"; only such a one is read. */
bool ckpt_storage_id_is(const ckpt_value *id);
ckpt_status ckpt_storage_id_read(ckpt_storage_id *out, const ckpt_value *id, ckpt_error *err);

typedef struct ckpt_torch_builder ckpt_torch_builder;

ckpt_status ckpt_torch_builder_new(ckpt_torch_builder **out, ckpt_document *doc, ckpt_find_storage find, void *context,
                                   ckpt_error *err);
void ckpt_torch_builder_free(ckpt_torch_builder *b);
ckpt_pickle_hooks ckpt_torch_builder_hooks(ckpt_torch_builder *b);

#endif
