/*
 * sink.h - where bytes of an output go: a file being published, or memory in tests.
 */
#ifndef CKPT_SINK_H
#define CKPT_SINK_H

#include "base.h"

/* Takes all of `size` bytes or fails. Called in order, from one thread. */
typedef struct ckpt_sink {
  ckpt_status (*write)(struct ckpt_sink *sink, const void *data, size_t size, ckpt_error *err);
} ckpt_sink;

#endif
