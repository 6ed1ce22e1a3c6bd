/*
 * tar_read.h - members of a tar archive as spans of its mapping. libarchive reads the headers (ustar, PAX, GNU); names
 * in the archive are compared and never used as paths.
 */
#ifndef CKPT_TAR_READ_H
#define CKPT_TAR_READ_H

#include "file.h"

typedef struct ckpt_tar_member {
  const char *name; /* wanted, exactly so */
  bool found;
  uint64_t offset, size; /* bytes of the mapping, all inside it */
} ckpt_tar_member;

/*
 * Looks for members by name; one that is not there stays `found = false`. CKPT_E_CORRUPT for a broken archive, and for
 * a wanted member that is there twice, is no regular file, or does not lie in one piece.
 */
ckpt_status ckpt_tar_find(ckpt_tar_member *members, size_t n, const ckpt_mapping *map, ckpt_error *err);

#endif
