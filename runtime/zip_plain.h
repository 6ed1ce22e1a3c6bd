/*
 * zip_plain.h - the directory of an archive as torch.save and ckpt write it, read in one pass without libzip.
 *
 * libzip spends a time-zone look-up and several allocations on each entry: of 20,000 tensors that is nine tenths of an
 * open. Nearly all checkpoints need none of what it knows: records are stored, names are ASCII, nothing is extra. What
 * is not exactly so, and all that is in any way doubtful, is "not plain" and goes to libzip, which decides and finds
 * the words. Whatever is plain libzip takes too, and reads the same (tests/c/test_zip_plain.c holds them to it).
 */
#ifndef CKPT_ZIP_PLAIN_H
#define CKPT_ZIP_PLAIN_H

#include "zip_read.h"

typedef struct ckpt_zip_place {
  ckpt_zip_entry info;
  size_t header, data; /* offsets of the local header and of the packed bytes; 0 for a record without bytes */
} ckpt_zip_place;

typedef struct ckpt_zip_directory {
  ckpt_zip_place *entries;
  size_t n, at; /* at: offset of the directory */
  char *names;  /* what the entries' names point into; NULL when they are libzip's */
} ckpt_zip_directory;

/* *plain tells whether it is; only then is *out filled, whose arrays are the caller's to free(). CKPT_E_NOMEM. */
ckpt_status ckpt_zip_plain(ckpt_zip_directory *out, bool *plain, const unsigned char *base, size_t size,
                           ckpt_error *err);

#endif
