/*
 * stream.h - a large new file, written past the page cache by a thread of its own.
 *
 * Through the page cache each page has to be found, filled and later looked for again, and a machine under memory or
 * disk pressure stops the writer at every step; a file that is synced at once gains nothing from it. So the bytes go
 * through two aligned blocks: the caller fills one while the disk takes the other. Where the file system knows no
 * direct writing, or refuses one, the same bytes go through the page cache; where no thread can be had, the caller
 * writes.
 */
#ifndef CKPT_STREAM_H
#define CKPT_STREAM_H

#include "io.h"

typedef struct ckpt_stream ckpt_stream;

/* Appends to an empty file; io and fd are borrowed. Until the stream is flushed the table is used by its thread. */
ckpt_status ckpt_stream_new(ckpt_stream **out, const ckpt_io *io, int fd, ckpt_error *err);

/* 0, or an errno: the first thing that went wrong, maybe with bytes that were given earlier. */
int ckpt_stream_write(ckpt_stream *s, const void *data, size_t size);

/* Waits until all is written. Afterwards the file is written in the usual way. */
int ckpt_stream_flush(ckpt_stream *s);
void ckpt_stream_free(ckpt_stream *s);

#endif
