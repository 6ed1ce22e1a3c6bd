/*
 * pth_legacy.h - PyTorch's stream format, the default before 1.6: five pickles, then the storages.
 *
 *   80 02 8A 0A 6C FC 9C 46 F9 20 6A A8 50 19 2E   magic number, a pickle like the others
 *   80 02 4D E9 03 2E                              protocol version, 1001
 *   80 02 7D ... 2E                                sys_info: ignored, the bytes are little-endian whatever it says
 *   80 02 ... 2E                                   the object
 *   80 02 5D ... 2E                                the storages' keys, a list of strings
 *   then for each key in that order:  i64 number of elements | elements
 *
 * Nothing is aligned. Another save may follow. A persistent id has six parts; the last is None or tells which part of
 * the storage is meant.
 */
#ifndef CKPT_PTH_LEGACY_H
#define CKPT_PTH_LEGACY_H

#include "saves.h"

/* True if a save begins at `pos`, whatever pickle protocol its magic number is written in. */
bool ckpt_legacy_begins(const ckpt_mapping *map, size_t pos);

extern const ckpt_save_format ckpt_legacy_format;

#endif
