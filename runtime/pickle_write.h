/*
 * pickle_write.h - values to a protocol-2 pickle, opcode for opcode as CPython's C pickler writes it: every object that
 * has an identity is memoised when it is first written, containers go out in batches of 1000.
 */
#ifndef CKPT_PICKLE_WRITE_H
#define CKPT_PICKLE_WRITE_H

#include "value.h"

typedef struct ckpt_pickle {
  unsigned char *bytes; /* free with ckpt_pickle_free */
  size_t n;
  ckpt_storage **storages; /* in order of first appearance; storage i has the key "i". Borrowed from the values */
  size_t n_storages;
} ckpt_pickle;

/* CKPT_E_UNSUPPORTED for what cannot be written. No recursion: depth costs no stack. */
ckpt_status ckpt_pickle_write(ckpt_pickle *out, const ckpt_value *root, ckpt_error *err);
void ckpt_pickle_free(ckpt_pickle *p);

#endif
