/*
 * direct.h - a large file, written past the page cache by a thread of its own, over blocks that are there (spare.c) or
 * into new ones.
 *
 * Through the page cache each page has to be found, filled and later looked for again, and a machine under memory or
 * disk pressure stops the writer at every step; a file that is synced at once gains nothing from it. So the bytes go
 * through two aligned blocks: the caller fills one while the disk takes the other. Where the file system knows no
 * direct writing, or refuses one, the same bytes go through the page cache; where no thread can be had, the caller
 * writes.
 */
#ifndef CKPT_DIRECT_H
#define CKPT_DIRECT_H

#include "io.h"

typedef struct ckpt_direct ckpt_direct;

/* Writes from the file's first byte on, where it stands; io and fd are borrowed. Until the stream is flushed the table
 * is used by its thread. */
ckpt_status ckpt_direct_new(ckpt_direct **out, const ckpt_io *io, int fd, ckpt_error *err);

/* 0, or an errno: the first thing that went wrong, maybe with bytes that were given earlier. */
int ckpt_direct_write(ckpt_direct *s, const void *data, size_t size);

/* Waits until all is written. Afterwards the file is written in the usual way. */
int ckpt_direct_flush(ckpt_direct *s);
void ckpt_direct_free(ckpt_direct *s);

#endif
