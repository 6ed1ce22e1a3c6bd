/*
 * pth.h - PyTorch's zip format (1.6 to today): a pickle beside one record per storage.
 *
 *   P/data.pkl  P/.format_version  P/.storage_alignment  P/byteorder  P/data/0 ... P/version  P/.data/serialization_id
 */
#ifndef CKPT_PTH_H
#define CKPT_PTH_H

#include "pickle_write.h"
#include "sink.h"
#include "zip_write.h"

/* Reads the archive into a new document. *format gets "torch-zip" or "torchscript" (static). */
ckpt_status ckpt_pth_read(ckpt_document **out, const char **format, ckpt_zip *zip, ckpt_error *err);

/* The exact size of the file that ckpt_pth_write makes. */
ckpt_status ckpt_pth_measure(uint64_t *out, const ckpt_pickle *pickle, const char *prefix, ckpt_error *err);

/* Writes container and records as PyTorch 2.7+ does. `prefix` is the archive's folder name. */
ckpt_status ckpt_pth_write(ckpt_sink *sink, const ckpt_pickle *pickle, const char *prefix, ckpt_error *err);

/*
 * What a save makes sure of before the file gets its name. rehearse reads the pickle back from memory, as a reader will
 * from the file, while the storages are being written (it may run in another thread). check reads the written file: its
 * structure by every rule of a reader, each record there and of its size, the pickle byte for byte. Together that is
 * opening the file; the storages' bytes are the disk's to keep, and their CRCs tell later whether it did.
 */
ckpt_status ckpt_pth_rehearse(const ckpt_pickle *pickle, ckpt_error *err);
ckpt_status ckpt_pth_check(ckpt_mapping *map, const ckpt_pickle *pickle, ckpt_error *err);

/* The folder name that torch.save derives from a path: basename without its last extension; "archive" if not ASCII. */
ckpt_status ckpt_pth_prefix(char *out, size_t size, const char *path, ckpt_error *err);

#endif
