/*
 * bare_pickle.h - pickles without anything around them, protocols 0 to 5, one or several in a file. Their persistent
 * ids stay inert objects. Tensors in them carry their bytes along:
 *
 *   _rebuild_tensor_v2(torch.storage._load_from_bytes(b"<a legacy save of the storage>"), offset, size, ...)
 */
#ifndef CKPT_BARE_PICKLE_H
#define CKPT_BARE_PICKLE_H

#include "saves.h"

/* True if the bytes at `pos` begin with PROTO, as every pickle since protocol 2 does. */
bool ckpt_bare_pickle_marked(const ckpt_mapping *map, size_t pos);

extern const ckpt_save_format ckpt_bare_pickle_format;

#endif
