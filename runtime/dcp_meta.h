/*
 * dcp_meta.h - the `.metadata` of a torch.distributed.checkpoint directory: a bare pickle of
 *
 *   Metadata {state_dict_metadata: {fqn: TensorStorageMetadata {properties, size, chunks: [{offsets, sizes}]}
 *                                        | BytesStorageMetadata},
 *             planner_data: {fqn: (key, ...)} | None,
 *             storage_data: {MetadataIndex {fqn, offset}: _StorageInfo {relative_path, offset, length}}}
 *
 * taken apart: every entry with where its bytes lie. Only .metadata is looked at here; what it says is checked against
 * itself, not yet against the files. Format facts: torch/distributed/checkpoint/metadata.py, filesystem.py (2.14).
 */
#ifndef CKPT_DCP_META_H
#define CKPT_DCP_META_H

#include "value.h"

/* Bytes [offset, offset+length) of a file of the directory: one archive of torch.save. */
typedef struct ckpt_dcp_item {
  const char *fqn, *file; /* whose bytes they are; a plain file name */
  uint64_t offset, length;
} ckpt_dcp_item;

typedef struct ckpt_dcp_chunk {
  const int64_t *offsets, *sizes; /* of the tensor's number of dimensions */
  const ckpt_dcp_item *item;      /* NULL for an empty chunk that no file holds */
} ckpt_dcp_chunk;

typedef struct ckpt_dcp_entry {
  const char *fqn;        /* NUL-terminated */
  const ckpt_value *path; /* a tuple of strings and integers; NULL: the name itself is the only key */
  bool tensor;
  const ckpt_dcp_item *item; /* of what is no tensor */
  ckpt_dtype dtype;
  bool requires_grad;
  int ndim;
  const int64_t *shape;
  size_t n_chunks;
  const ckpt_dcp_chunk *chunks;
} ckpt_dcp_entry;

typedef struct ckpt_dcp_meta {
  ckpt_document *doc; /* owns all of it */
  ckpt_dcp_entry *entries;
  size_t n;
} ckpt_dcp_meta;

/*
 * CKPT_E_FORMAT: a pickle of something else. CKPT_E_CORRUPT: a field missing or of a wrong kind, an entry whose item is
 * not listed, a file name with a folder. CKPT_E_UNSUPPORTED: items of another storage, transformed (compressed) items.
 */
ckpt_status ckpt_dcp_meta_read(ckpt_dcp_meta *out, const ckpt_mapping *map, ckpt_error *err);
void ckpt_dcp_meta_free(ckpt_dcp_meta *meta);

#endif
