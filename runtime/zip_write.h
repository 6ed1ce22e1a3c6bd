/*
 * zip_write.h - PyTorch's exact container layout (torch-format: PyTorchStreamWriter over miniz, PyTorch 2.7+).
 *
 *   record := local header (sizes 0, flags 0x0808 or 0x0800 when empty), prefix/name, [zip64 extra],
 *             "FB" padding extra so that the payload starts on a multiple of 64, payload, [data descriptor]
 *   file   := record..., central directory, zip64 end record (always), zip64 locator, end record
 */
#ifndef CKPT_ZIP_WRITE_H
#define CKPT_ZIP_WRITE_H

#include "sink.h"
#include "storage.h"

typedef struct ckpt_zip_writer ckpt_zip_writer;

/* Starts an archive whose records lie under `prefix`/. The sink is borrowed until finish or free. */
ckpt_status ckpt_zip_writer_new(ckpt_zip_writer **out, ckpt_sink *sink, const char *prefix, ckpt_error *err);

/*
 * Writes one record whole, straight from where it lies. Of a large one the CRC-32 is computed by a thread beside the
 * writing, of a small one as it passes.
 */
ckpt_status ckpt_zip_writer_add(ckpt_zip_writer *w, const char *name, const void *data, size_t size, ckpt_error *err);

/* Writes exactly the bytes that a record was announced to have into the sink; CKPT_OK or an error of its own. */
typedef ckpt_status (*ckpt_zip_fill)(ckpt_sink *to, void *context, ckpt_error *err);

/* The same for `size` bytes that are not at hand all at once: `fill` writes them. */
ckpt_status ckpt_zip_writer_add_from(ckpt_zip_writer *w, const char *name, uint64_t size, ckpt_zip_fill fill,
                                     void *context, ckpt_error *err);

/*
 * The same for the bytes of a storage (ckpt_storage_read gave `data`). What lies in a mapping is read once, for the CRC
 * and the writing alike, and its pages are let go behind the reader: a file of any size passes through little memory.
 */
ckpt_status ckpt_zip_writer_add_storage(ckpt_zip_writer *w, const char *name, const ckpt_storage *s, const void *data,
                                        ckpt_error *err);

/*
 * Writes `.data/serialization_id` as PyTorch does (its second half folds the CRCs of all descriptors written before),
 * then the directory and the end records. Nothing may be added afterwards.
 */
ckpt_status ckpt_zip_writer_finish(ckpt_zip_writer *w, ckpt_error *err);
void ckpt_zip_writer_free(ckpt_zip_writer *w);

/* Bytes that the sink has been given so far. */
uint64_t ckpt_zip_writer_offset(const ckpt_zip_writer *w);

/*
 * The exact size of an archive before it is written, which lets the caller reserve it: one record after the other is
 * added, by the lengths of its name and its bytes, then the end is asked for. false: it does not fit in 64 bits.
 */
typedef struct ckpt_zip_measure {
  size_t prefix_n; /* of the prefix, set by the caller; the rest is 0 */
  uint64_t offset, central;
} ckpt_zip_measure;

bool ckpt_zip_measure_add(ckpt_zip_measure *m, size_t name_n, uint64_t size);
bool ckpt_zip_measure_end(uint64_t *total, ckpt_zip_measure *m);

#endif
