/*
 * safetensors_write.h - writing safetensors files, the bytes that the library (0.8) writes for the same tensors.
 */
#ifndef CKPT_SAFETENSORS_WRITE_H
#define CKPT_SAFETENSORS_WRITE_H

#include "sink.h"
#include "tensor.h"

typedef struct ckpt_safetensors_tensor {
  const char *name;
  const ckpt_tensor *tensor;
} ckpt_safetensors_tensor;

typedef struct ckpt_safetensors_pair {
  const char *key, *value;
} ckpt_safetensors_pair;

/* True for a tensor that a file can hold: one with data, of a dtype that the format has. */
bool ckpt_safetensors_takes(const ckpt_tensor *t);

/*
 * A file that is ready to be written: the header is made, everything that can be refused has been. `tensors` and
 * `metadata` are put in the file's order (dtype, then name; by key) and must outlive it; names are unique.
 */
typedef struct ckpt_safetensors {
  char *header; /* with its length in front and its padding behind; free with ckpt_safetensors_free */
  size_t header_n;
  const ckpt_safetensors_tensor *tensors;
  size_t n;
  uint64_t size; /* of the whole file */
} ckpt_safetensors;

/* CKPT_E_UNSUPPORTED for a name that is not UTF-8 or is `__metadata__`, CKPT_E_LIMIT for too large a header. */
ckpt_status ckpt_safetensors_prepare(ckpt_safetensors *out, ckpt_safetensors_tensor *tensors, size_t n,
                                     ckpt_safetensors_pair *metadata, size_t n_metadata, ckpt_error *err);
void ckpt_safetensors_free(ckpt_safetensors *file);

/* Tensors are written contiguous, in logical order, with conj and neg bits applied. */
ckpt_status ckpt_safetensors_write(ckpt_sink *sink, const ckpt_safetensors *file, ckpt_error *err);

#endif
