/*
 * zip_strict.h - whether a zip archive can be read in one way only.
 *
 *   [local header, name, extra] [bytes] [descriptor]  ...once for each entry, side by side from the first byte on
 *   [directory] [zip64 end record, locator] [end record]  ...behind them, and nothing behind that
 *
 * A reader that goes by the directory, one that goes from header to header and one that looks for an end record must
 * meet the same records. zip_read.c reads what the directory says; this file finds what says otherwise.
 */
#ifndef CKPT_ZIP_STRICT_H
#define CKPT_ZIP_STRICT_H

#include "file.h"

/*
 * Of the archive that fills bytes [offset, offset+size) of the mapping, and that ckpt_zip_open has opened.
 * CKPT_E_CORRUPT names the byte where it can be read in another way. A mapping that is trusted leniently passes.
 */
ckpt_status ckpt_zip_check_strict(const ckpt_mapping *map, size_t offset, size_t size, ckpt_error *err);

#endif
