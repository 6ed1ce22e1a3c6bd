/*
 * buffered.h - a sink in front of another one: small pieces are collected into blocks, large ones pass as they are, so
 * that what writes field by field costs one call for each block and nothing is copied that need not be.
 */
#ifndef CKPT_BUFFERED_H
#define CKPT_BUFFERED_H

#include "sink.h"

typedef struct ckpt_buffered ckpt_buffered;

/* `to` is borrowed until free. free drops what has not been flushed. */
ckpt_status ckpt_buffered_new(ckpt_buffered **out, ckpt_sink *to, ckpt_error *err);
ckpt_sink *ckpt_buffered_sink(ckpt_buffered *b);
ckpt_status ckpt_buffered_flush(ckpt_buffered *b, ckpt_error *err);
void ckpt_buffered_free(ckpt_buffered *b);

#endif
