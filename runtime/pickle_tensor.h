/*
 * pickle_tensor.h - how a pickler writes tensors and storages: as torch.save does, byte for byte.
 *
 * Storages are numbered in the order in which they first appear. Nearly all tensors of a file are said in the same
 * words, which are in the memo once they were written: such a tensor is put together in one go.
 */
#ifndef CKPT_PICKLE_TENSOR_H
#define CKPT_PICKLE_TENSOR_H

#include "pickle_out.h"

typedef struct ckpt_numbered { /* what is known of a storage's number */
  size_t type;                 /* of the storage class that it is written as, SIZE_MAX while none was asked for */
  size_t key;                  /* memo number of its key string, SIZE_MAX while it is not written */
} ckpt_numbered;

/* Words of a tensor that are all in the memo: their numbers there. */
typedef struct ckpt_phrase {
  const void *words; /* the ckpt_wording of a file, or the name of a program's dtype; NULL: no phrase */
  size_t function, tag, storage_class, location, ordered;
} ckpt_phrase;

typedef struct ckpt_storages_out {
  ckpt_ptrmap ids; /* storage (or a typed view of it) -> its number */
  ckpt_storage **storages;
  ckpt_numbered *numbers; /* as many as storages */
  size_t n, capacity;
  ckpt_phrase phrases[4]; /* those learnt last */
  size_t next_phrase;
} ckpt_storages_out;

/* Not the list of storages, which the caller takes. */
void ckpt_storages_out_free(ckpt_storages_out *s);

/* A storage's number. `key` tells apart what must not share a record. */
ckpt_status ckpt_storages_number(size_t *out, ckpt_storages_out *s, ckpt_storage *storage, const void *key,
                                 ckpt_error *err);
ckpt_status ckpt_storages_key(ckpt_pickle_out *w, ckpt_storages_out *s, size_t number);

/*
 * What a tensor is known by in the memo: one that a program made is one object wherever it is put, one of a file is one
 * node.
 */
const void *ckpt_tensor_identity(const ckpt_value *v);

/* A TENSOR that is not in the memo, and that has no `made`. */
ckpt_status ckpt_out_tensor(ckpt_pickle_out *w, ckpt_storages_out *s, const ckpt_value *v);

#endif
