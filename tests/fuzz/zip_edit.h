/*
 * zip_edit.h - a mutation of a zip archive that keeps it one: records are changed, dropped, renamed or doubled and the
 * archive is laid out anew, checksums and all, so that a fuzzer gets past the container. Every fourth time the bytes
 * are changed as they are.
 */
#ifndef CKPT_ZIP_EDIT_H
#define CKPT_ZIP_EDIT_H

#include "fuzz.h"

/* How the payload of one record is changed; NULL: as libFuzzer does it. */
typedef size_t (*zip_edit_payload)(const char *name, uint8_t *data, size_t size, size_t max, unsigned seed);

size_t zip_edit(uint8_t *data, size_t size, size_t max, unsigned seed, zip_edit_payload payload);

#endif
