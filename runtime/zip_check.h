/*
 * zip_check.h - the checksums of all records of an archive at once, on all cores, in constant memory.
 */
#ifndef CKPT_ZIP_CHECK_H
#define CKPT_ZIP_CHECK_H

#include "zip_read.h"

/* As ckpt_zip_check of each record in order: the first one whose bytes have changed is the one that is reported. */
ckpt_status ckpt_zip_check_all(ckpt_zip *z, ckpt_error *err);

/* The CRC-32 of a followed by b, from the CRC-32 of each and the length of b. */
uint32_t ckpt_crc32_join(uint32_t a, uint32_t b, uint64_t b_size);

#endif
