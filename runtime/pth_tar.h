/*
 * pth_tar.h - PyTorch's first format (0.1): a tar archive of three members.
 *
 *   storages   pickle(count), count x { pickle((key, location, class)) | i64 elements | bytes },
 *              pickle([(key, key of the root, offset, elements), ...])      parts of the storages above
 *   tensors    pickle(count), count x { pickle((key, storage key, class)) |
 *              i32 ndim | 4 bytes ignored | i64 size[ndim] | i64 stride[ndim] | i64 storage offset }
 *   pickle     the object; its persistent ids are keys of tensors or storages
 *
 * Keys are integers. Members lie in any order; others are not looked at, and no name in the archive is ever a path.
 */
#ifndef CKPT_PTH_TAR_H
#define CKPT_PTH_TAR_H

#include "file.h"
#include "value.h"

bool ckpt_tar_is(const ckpt_mapping *map);
ckpt_status ckpt_tar_read(ckpt_document **out, ckpt_mapping *map, ckpt_error *err);

#endif
