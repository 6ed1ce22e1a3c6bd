/*
 * storage.h - counted bytes under tensors: owned, borrowed from the caller, or a record of an archive that is
 * found (or inflated) at first use. Immutable handles; the first use may race and is decided by compare-and-swap.
 */
#ifndef CKPT_STORAGE_H
#define CKPT_STORAGE_H

#include "zip_read.h"

typedef struct ckpt_storage ckpt_storage;

ckpt_status ckpt_storage_new(ckpt_storage **out, size_t size, ckpt_error *err); /* zeroed */
ckpt_status ckpt_storage_borrow(ckpt_storage **out, void *data, size_t size, ckpt_error *err);

/* Record `index` of an archive; retains it. `swap_unit` > 1: a big-endian file, bytes are swapped in units of it. */
ckpt_status ckpt_storage_record(ckpt_storage **out, ckpt_zip *zip, size_t index, unsigned swap_unit, ckpt_error *err);

/* Of a record of a big-endian file (swap_unit not 0): other units, before anything has looked at its bytes. */
void ckpt_storage_set_swap(ckpt_storage *s, unsigned swap_unit);

ckpt_storage *ckpt_storage_retain(ckpt_storage *s);
void ckpt_storage_release(ckpt_storage *s);
size_t ckpt_storage_size(const ckpt_storage *s);
size_t ckpt_storage_heap_bytes(const ckpt_storage *s);
bool ckpt_storage_is_writable(const ckpt_storage *s);

/* The bytes. Fails only for a record: CKPT_E_CORRUPT, CKPT_E_NOMEM, CKPT_E_LIMIT. */
ckpt_status ckpt_storage_data(unsigned char **out, ckpt_storage *s, ckpt_error *err);

#endif
