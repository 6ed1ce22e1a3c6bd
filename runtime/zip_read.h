/*
 * zip_read.h - records of a zip archive over a mapping: plain ones read directly (zip_plain.h), all others by way of
 * libzip, which judges whatever is doubtful.
 *
 * libzip reads the directory and all headers; it does not say where a stored member's bytes lie, but our source
 * callback over the mapping sees libzip seek to them, and that gives the span without a second parser.
 * An archive is constant once open: everything here may be called from many threads.
 */
#ifndef CKPT_ZIP_READ_H
#define CKPT_ZIP_READ_H

#include "file.h"

typedef struct ckpt_zip ckpt_zip; /* counted: a lazy storage keeps its archive */

typedef struct ckpt_zip_entry {
  const char *name; /* NUL-terminated; names with an embedded NUL are refused at open */
  uint64_t size;    /* uncompressed */
  uint64_t packed;  /* compressed */
  uint32_t crc;     /* 0 counts as absent (torch.save without compute_crc32) */
  bool stored;      /* method 0; otherwise deflate */
} ckpt_zip_entry;

/*
 * Opens the archive that fills bytes [offset, offset+size) of the mapping (a .distcp holds many). Retains the mapping.
 * CKPT_E_FORMAT: no PK\3\4 at `offset`. CKPT_E_CORRUPT: inconsistent, truncated, overlapping records, a second end
 * record, duplicate names (also such that differ only in ASCII case). CKPT_E_UNSUPPORTED: encrypted, unknown method.
 * CKPT_E_LIMIT: more entries than the mapping is trusted with. Messages name the record and the byte where they are
 * known.
 */
ckpt_status ckpt_zip_open(ckpt_zip **out, ckpt_mapping *map, size_t offset, size_t size, ckpt_error *err);

/* The same by libzip alone, however plain the archive: what tests compare with. */
ckpt_status ckpt_zip_open_libzip(ckpt_zip **out, ckpt_mapping *map, size_t offset, size_t size, ckpt_error *err);

ckpt_zip *ckpt_zip_retain(ckpt_zip *z);
const ckpt_trust *ckpt_zip_trust(const ckpt_zip *z); /* the mapping's */
void ckpt_zip_release(ckpt_zip *z);

size_t ckpt_zip_count(const ckpt_zip *z);
const ckpt_zip_entry *ckpt_zip_entry_at(const ckpt_zip *z, size_t i);

/* Index of the record of exactly that name, or SIZE_MAX. By hash. */
size_t ckpt_zip_find(const ckpt_zip *z, const char *name);

/*
 * The bytes of a stored record inside the mapping. CKPT_E_UNSUPPORTED for a deflated one. A record of 0 bytes has
 * some valid address. They were located at open, so this cannot fail otherwise. Thread-safe.
 */
ckpt_status ckpt_zip_span(const unsigned char **out, ckpt_zip *z, size_t i, ckpt_error *err);

/* The mapping that the archive lies in; borrowed. */
const ckpt_mapping *ckpt_zip_mapping(const ckpt_zip *z);

/*
 * The record's bytes in memory of the caller's own (free()), inflated if need be, never more than entry.size bytes
 * and never more than 1,032 times its packed size (deflate's limit). CRC is checked. Thread-safe.
 */
ckpt_status ckpt_zip_read(unsigned char **out, ckpt_zip *z, size_t i, ckpt_error *err);

/* n bytes of stored records have been looked at and are done with (ckpt_mapping_used). */
void ckpt_zip_used(ckpt_zip *z, size_t n);

/* Reads the record once and compares its CRC-32 with the directory's (a stored CRC of 0 passes). Thread-safe. */
ckpt_status ckpt_zip_check(ckpt_zip *z, size_t i, ckpt_error *err);

#endif
