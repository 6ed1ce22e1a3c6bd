/*
 * torch_storages.h - the storages of one file by their keys: each is one object however often the file names it, and
 * always of the same size.
 */
#ifndef CKPT_TORCH_STORAGES_H
#define CKPT_TORCH_STORAGES_H

#include "value.h"

/*
 * Finds the bytes of a storage: `key` is its name in the file, `bytes` what the persistent id says it holds. Gives a
 * new reference. `swap_unit` is what a big-endian file swaps.
 */
typedef ckpt_status (*ckpt_find_storage)(ckpt_storage **out, void *context, const char *key, uint64_t bytes,
                                         unsigned swap_unit, ckpt_error *err);

typedef struct ckpt_torch_storages {
  ckpt_document *doc; /* owns what is found */
  ckpt_find_storage find;
  void *context;
  ckpt_strmap keys;   /* storage key -> place in `storages`; of those that are not in `numbered` */
  uint32_t *numbered; /* a key that is a small number -> place + 1, 0: none */
  size_t n_numbered;
  ckpt_storage **storages; /* borrowed */
  size_t n, capacity;
} ckpt_torch_storages;

/* The storage of that key, borrowed. CKPT_E_CORRUPT: it was said to be of another size before. */
ckpt_status ckpt_torch_storages_get(ckpt_storage **out, ckpt_torch_storages *b, const char *key, uint64_t bytes,
                                    unsigned swap, ckpt_error *err);

void ckpt_torch_storages_free(ckpt_torch_storages *b);

#endif
