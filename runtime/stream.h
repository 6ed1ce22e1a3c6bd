/*
 * stream.h - the bytes of storages and tensors in order, a block at a time: what lies in a file is let go again as it
 * passes, what is computed is computed piece by piece. Only what can be had whole alone (deflated, big-endian, or
 * gathered from parts) is in memory as a whole, one storage at a time.
 */
#ifndef CKPT_STREAM_H
#define CKPT_STREAM_H

#include "sink.h"
#include "tensor.h"

/* Bytes [at, at+n) of a storage into a sink. `at` is a multiple of the size of its elements. */
ckpt_status ckpt_storage_stream(ckpt_sink *to, ckpt_storage *s, size_t at, size_t n, ckpt_error *err);

/* The logical contents of a tensor with data, in row-major order, with conj and neg bits applied. */
ckpt_status ckpt_tensor_stream(ckpt_sink *to, const ckpt_tensor *t, ckpt_error *err);

#endif
