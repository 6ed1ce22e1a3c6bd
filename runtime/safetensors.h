/*
 * safetensors.h - reading Hugging Face's safetensors, and what reader and writer both know of it.
 *
 *   +-----------+----------------------------------------------------+-----------------------------+
 *   | N, u64 LE | N bytes of JSON, padded with spaces                | data: all tensors, no holes |
 *   +-----------+----------------------------------------------------+-----------------------------+
 *   {"__metadata__":{"key":"value"}, "name":{"dtype":"F32","shape":[2,3],"data_offsets":[begin,end]}, ...}
 *
 * Offsets count from the data's first byte. Tensors are row-major and little-endian and share no bytes.
 */
#ifndef CKPT_SAFETENSORS_H
#define CKPT_SAFETENSORS_H

#include "file.h"
#include "value.h"

#define CKPT_SAFETENSORS_METADATA "__metadata__"

/* The library's limit on N. */
enum { CKPT_SAFETENSORS_MAX_HEADER = 100000000 };

/* True for what begins as such a file does, also where the rest is wrong. */
bool ckpt_safetensors_is(const ckpt_mapping *map);

/*
 * Reads a file that ckpt_safetensors_is knows into a new document: a plain dict of name -> tensor in the order of the
 * data, each tensor a span of the mapping. *metadata gets the dict under `__metadata__`, or NULL. A metadata key that
 * names no tensor and whose value does is how save_model tells of a tied tensor: it becomes a second name of that
 * tensor, behind all others. Every rule of the library's own reader holds; refused beyond it: equal keys, a header that
 * does not begin with '{', names with a NUL, sizes beyond 63 bits, F6 and odd rows of F4 (PyTorch has no dtype for
 * them). Accepted beyond it: the integer -0, which the parser does not tell from 0.
 */
ckpt_status ckpt_safetensors_read(ckpt_document **out, ckpt_value **metadata, ckpt_mapping *map, ckpt_error *err);

/* The format's name of a dtype, NULL if it has none; *rank (may be NULL) orders dtypes in a file, the first is 0. */
const char *ckpt_safetensors_dtype(ckpt_dtype dtype, size_t *rank);

#endif
