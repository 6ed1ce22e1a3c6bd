/*
 * tensor.c - strided views. Invariants of every tensor that exists: sizes, strides and offset are not negative; numel
 * and its byte count fit; and, unless it is empty or meta, every element lies inside the storage.
 */
#include "quantizer.h"

#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "strided.h"

struct ckpt_tensor {
  atomic_int refs;
  ckpt_dtype dtype;
  int ndim;
  bool requires_grad, conj, neg;
  bool inside; /* lies in its storage's room and goes with it */
  ckpt_storage *storage;
  int64_t offset, numel;
  size_t nbytes;
  ckpt_quantizer *quantizer; /* of a quantised tensor, or NULL */
  int64_t dims[];            /* shape[ndim], stride[ndim] */
};

/* ---- construction ---- */

static ckpt_status check_shape(int64_t *numel, const ckpt_tensor_spec *spec, ckpt_error *err) {
  if (spec->ndim < 0 || spec->ndim > CKPT_MAX_DIMS)
    return ckpt_fail(err, CKPT_E_LIMIT, -1, "%d dimensions; at most %d are supported", spec->ndim, CKPT_MAX_DIMS);
  int64_t n = 1;
  bool overflow = false, empty = false;
  for (int i = 0; i < spec->ndim; i++) {
    if (spec->shape[i] < 0)
      return ckpt_fail(err, CKPT_E_RANGE, -1, "size %lld of dimension %d is negative", (long long)spec->shape[i], i);
    if (spec->stride != NULL && spec->stride[i] < 0)
      return ckpt_fail(err, CKPT_E_RANGE, -1, "stride %lld of dimension %d is negative", (long long)spec->stride[i], i);
    empty |= spec->shape[i] == 0;
    overflow |= !ckpt_mul_i64(&n, n, spec->shape[i]);
  }
  if (overflow && !empty) return ckpt_fail(err, CKPT_E_RANGE, -1, "the number of elements does not fit in 63 bits");
  *numel = empty ? 0 : n;
  return CKPT_OK;
}

/* offset + sum (size-1)*stride, the last element that the view reaches. */
static ckpt_status last_element(int64_t *out, const ckpt_tensor *t, ckpt_error *err) {
  int64_t last = t->offset;
  for (int i = 0; i < t->ndim; i++) {
    int64_t step;
    if (!ckpt_mul_i64(&step, t->dims[i] - 1, t->dims[t->ndim + i]) || !ckpt_add_i64(&last, last, step))
      return ckpt_fail(err, CKPT_E_RANGE, -1, "the last element's position does not fit in 63 bits");
  }
  *out = last;
  return CKPT_OK;
}

static ckpt_status check_bounds(const ckpt_tensor *t, ckpt_error *err) {
  if (t->offset < 0) return ckpt_fail(err, CKPT_E_RANGE, -1, "storage offset %lld is negative", (long long)t->offset);
  if (t->numel == 0 || t->storage == NULL) return CKPT_OK;
  int64_t last = 0, need;
  CKPT_TRY(last_element(&last, t, err));
  int64_t per = ckpt_dtype_per_byte(t->dtype);
  if (last == INT64_MAX || !ckpt_mul_i64(&need, last / per + 1, (int64_t)ckpt_dtype_size(t->dtype)))
    return ckpt_fail(err, CKPT_E_RANGE, -1, "the last element's byte does not fit in 63 bits");
  size_t have = ckpt_storage_size(t->storage);
  if ((uint64_t)need > have)
    return ckpt_fail(err, CKPT_E_RANGE, -1, "the storage holds %zu bytes, the view needs %lld", have, (long long)need);
  return CKPT_OK;
}

static ckpt_status count_bytes(size_t *out, ckpt_dtype dtype, int64_t numel, ckpt_error *err) {
  int64_t per = ckpt_dtype_per_byte(dtype), bytes;
  int64_t units = numel / per + (numel % per != 0);
  if (!ckpt_mul_i64(&bytes, units, (int64_t)ckpt_dtype_size(dtype)))
    return ckpt_fail(err, CKPT_E_RANGE, -1, "the tensor's bytes do not fit in 63 bits");
  *out = (size_t)bytes;
  return CKPT_OK;
}

static void fill_strides(ckpt_tensor *t, const int64_t *stride) {
  int64_t run = 1;
  for (int i = t->ndim - 1; i >= 0; i--) {
    t->dims[t->ndim + i] = stride != NULL ? stride[i] : run;
    if (stride == NULL && t->dims[i] > 1 && !ckpt_mul_i64(&run, run, t->dims[i])) run = INT64_MAX; /* empty only */
  }
}

ckpt_status ckpt_tensor_make(ckpt_tensor **out, ckpt_storage *storage, const ckpt_tensor_spec *spec, ckpt_error *err) {
  int64_t numel = 0;
  CKPT_TRY(check_shape(&numel, spec, err));
  size_t bytes = sizeof(ckpt_tensor) + 2 * (size_t)spec->ndim * sizeof(int64_t);
  ckpt_tensor *t = storage == NULL ? NULL : ckpt_storage_room(storage, bytes);
  bool inside = t != NULL;
  if (!inside) t = calloc(1, bytes);
  if (t == NULL) return ckpt_fail_nomem(err, bytes);
  atomic_init(&t->refs, 1);
  t->inside = inside;
  t->dtype = spec->dtype;
  t->ndim = spec->ndim;
  t->requires_grad = spec->requires_grad;
  t->conj = spec->conj;
  t->neg = spec->neg;
  t->offset = spec->offset;
  t->numel = numel;
  t->storage = storage;
  if (spec->ndim > 0) memcpy(t->dims, spec->shape, (size_t)spec->ndim * sizeof(int64_t));
  fill_strides(t, spec->stride);
  ckpt_status st = count_bytes(&t->nbytes, t->dtype, numel, err);
  if (st == CKPT_OK) st = check_bounds(t, err);
  if (st != CKPT_OK) {
    if (!inside) free(t);
    return st;
  }
  if (storage != NULL) ckpt_storage_retain(storage);
  *out = t;
  return CKPT_OK;
}

static ckpt_status spec_bytes(size_t *out, const ckpt_tensor_spec *spec, ckpt_error *err) {
  int64_t numel = 0;
  CKPT_TRY(check_shape(&numel, spec, err));
  return count_bytes(out, spec->dtype, numel, err);
}

static ckpt_status over_storage(ckpt_tensor **out, ckpt_storage *s, const ckpt_tensor_spec *spec, ckpt_error *err) {
  ckpt_status st = ckpt_tensor_make(out, s, spec, err);
  ckpt_storage_release(s);
  return st;
}

ckpt_status ckpt_tensor_new(ckpt_tensor **out, ckpt_dtype dtype, int ndim, const int64_t *shape, ckpt_error *err) {
  ckpt_tensor_spec spec = {.dtype = dtype, .ndim = ndim, .shape = shape};
  size_t bytes = 0;
  ckpt_storage *s = NULL;
  CKPT_TRY(spec_bytes(&bytes, &spec, err));
  CKPT_TRY(ckpt_storage_new(&s, bytes, err));
  return over_storage(out, s, &spec, err);
}

ckpt_status ckpt_tensor_borrow(ckpt_tensor **out, ckpt_dtype dtype, void *data, int ndim, const int64_t *shape,
                               ckpt_error *err) {
  ckpt_tensor_spec spec = {.dtype = dtype, .ndim = ndim, .shape = shape};
  size_t bytes = 0;
  ckpt_storage *s = NULL;
  CKPT_TRY(spec_bytes(&bytes, &spec, err));
  if (data == NULL && bytes > 0) return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "no data for a tensor of %zu bytes", bytes);
  CKPT_TRY(ckpt_storage_borrow(&s, data, bytes, err));
  return over_storage(out, s, &spec, err);
}

ckpt_status ckpt_tensor_meta(ckpt_tensor **out, ckpt_dtype dtype, int ndim, const int64_t *shape, ckpt_error *err) {
  ckpt_tensor_spec spec = {.dtype = dtype, .ndim = ndim, .shape = shape};
  return ckpt_tensor_make(out, NULL, &spec, err);
}

ckpt_tensor_spec ckpt_tensor_spec_of(const ckpt_tensor *t) {
  return (ckpt_tensor_spec){t->dtype,  t->ndim,          t->dims, t->dims + t->ndim,
                            t->offset, t->requires_grad, t->conj, t->neg};
}

ckpt_status ckpt_tensor_view(ckpt_tensor **out, const ckpt_tensor *base, int64_t offset, int ndim, const int64_t *shape,
                             const int64_t *stride, ckpt_error *err) {
  ckpt_tensor_spec spec = ckpt_tensor_spec_of(base);
  spec.offset = offset;
  spec.ndim = ndim;
  spec.shape = shape;
  spec.stride = stride;
  CKPT_TRY(ckpt_tensor_make(out, base->storage, &spec, err));
  ckpt_quantizer *q = base->quantizer; /* scales along an axis mean nothing for another shape */
  if (q != NULL && ckpt_quantizer_get(q)->scheme == CKPT_PER_TENSOR_AFFINE)
    ckpt_tensor_set_quantizer(*out, ckpt_quantizer_retain(q));
  return CKPT_OK;
}

ckpt_status ckpt_tensor_with_grad(ckpt_tensor **out, const ckpt_tensor *t, bool requires_grad, ckpt_error *err) {
  ckpt_tensor_spec spec = ckpt_tensor_spec_of(t);
  spec.requires_grad = requires_grad;
  CKPT_TRY(ckpt_tensor_make(out, t->storage, &spec, err));
  if (t->quantizer != NULL) ckpt_tensor_set_quantizer(*out, ckpt_quantizer_retain(t->quantizer));
  return CKPT_OK;
}

ckpt_tensor *ckpt_tensor_retain(ckpt_tensor *t) {
  atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
  return t;
}

void ckpt_tensor_release(ckpt_tensor *t) {
  if (t == NULL || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1) return;
  ckpt_storage *storage = t->storage;
  ckpt_quantizer_release(t->quantizer);
  if (!t->inside) free(t);
  ckpt_storage_release(storage); /* last: the tensor may lie in it */
}

/* ---- looking ---- */

ckpt_dtype ckpt_tensor_dtype(const ckpt_tensor *t) { return t->dtype; }
int ckpt_tensor_ndim(const ckpt_tensor *t) { return t->ndim; }
const int64_t *ckpt_tensor_shape(const ckpt_tensor *t) { return t->dims; }
const int64_t *ckpt_tensor_stride(const ckpt_tensor *t) { return t->dims + t->ndim; }
int64_t ckpt_tensor_offset(const ckpt_tensor *t) { return t->offset; }
int64_t ckpt_tensor_numel(const ckpt_tensor *t) { return t->numel; }
size_t ckpt_tensor_nbytes(const ckpt_tensor *t) { return t->nbytes; }
bool ckpt_tensor_is_meta(const ckpt_tensor *t) { return t->storage == NULL; }
bool ckpt_tensor_requires_grad(const ckpt_tensor *t) { return t->requires_grad; }
bool ckpt_tensor_conj(const ckpt_tensor *t) { return t->conj; }
bool ckpt_tensor_neg(const ckpt_tensor *t) { return t->neg; }
ckpt_storage *ckpt_tensor_storage(const ckpt_tensor *t) { return t->storage; }
ckpt_quantizer *ckpt_tensor_quantizer(const ckpt_tensor *t) { return t->quantizer; }

void ckpt_tensor_set_quantizer(ckpt_tensor *t, ckpt_quantizer *quantizer) {
  ckpt_quantizer_release(t->quantizer);
  t->quantizer = quantizer;
}

size_t ckpt_tensor_heap_bytes(const ckpt_tensor *t) {
  return t->storage == NULL ? 0 : ckpt_storage_heap_bytes(t->storage);
}

bool ckpt_tensor_is_contiguous(const ckpt_tensor *t) {
  int64_t run = 1;
  for (int i = t->ndim - 1; i >= 0 && t->numel > 0; i--) {
    if (t->dims[i] == 1) continue;
    if (t->dims[t->ndim + i] != run) return false;
    run *= t->dims[i];
  }
  return true;
}

bool ckpt_tensor_shares_storage(const ckpt_tensor *a, const ckpt_tensor *b) {
  return a->storage != NULL && a->storage == b->storage;
}

/* Where the tensor begins in its storage's bytes. */
static const void *first_element(const ckpt_tensor *t, const unsigned char *data) {
  if (t->numel == 0) return data;
  return data + (size_t)(t->offset / ckpt_dtype_per_byte(t->dtype)) * ckpt_dtype_size(t->dtype);
}

ckpt_status ckpt_tensor_data(const void **out, const ckpt_tensor *t, ckpt_error *err) {
  if (t->storage == NULL) return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "a meta tensor has no data");
  unsigned char *data;
  CKPT_TRY(ckpt_storage_data(&data, t->storage, err));
  *out = first_element(t, data);
  return CKPT_OK;
}

ckpt_status ckpt_tensor_read(const void **out, void **owned, const ckpt_tensor *t, ckpt_error *err) {
  const unsigned char *data;
  *owned = NULL;
  if (t->storage == NULL || t->nbytes < ckpt_storage_size(t->storage) / 2) return ckpt_tensor_data(out, t, err);
  CKPT_TRY(ckpt_storage_read(&data, owned, t->storage, err));
  *out = first_element(t, data);
  return CKPT_OK;
}

/* ---- reading the logical contents ---- */

static void flip_signs(unsigned char *buffer, const ckpt_tensor *t, int64_t count) {
  bool complex = ckpt_dtype_numeric(t->dtype) == CKPT_NUM_COMPLEX;
  size_t unit = ckpt_dtype_swap_unit(t->dtype);
  size_t parts = (size_t)count * (complex ? 2 : 1);
  for (size_t i = 0; i < parts; i++) {
    bool imaginary = complex && i % 2 == 1;
    if (t->neg != (t->conj && imaginary)) buffer[i * unit + unit - 1] ^= 0x80;
  }
}

static void copy_run(unsigned char *to, const unsigned char *from, int64_t n, int64_t stride, size_t size) {
  if (stride == 1) {
    memcpy(to, from, (size_t)n * size);
    return;
  }
  size_t step = (size_t)stride * size;
  switch (size) {
    case 1:
      for (int64_t i = 0; i < n; i++) to[i] = from[(size_t)i * step];
      break;
    case 4:
      for (int64_t i = 0; i < n; i++) memcpy(to + 4 * i, from + (size_t)i * step, 4);
      break;
    default:
      for (int64_t i = 0; i < n; i++) memcpy(to + (size_t)i * size, from + (size_t)i * step, size);
  }
}

/* Walks the rows (runs of the last dimension) that cover [start, start+count). */
static void gather_rows(unsigned char *to, const ckpt_tensor *t, const unsigned char *data, int64_t start,
                        int64_t count) {
  const int64_t *shape = t->dims, *stride = t->dims + t->ndim;
  size_t size = ckpt_dtype_size(t->dtype);
  int64_t row = t->ndim == 0 ? 1 : shape[t->ndim - 1], row_stride = t->ndim == 0 ? 1 : stride[t->ndim - 1];
  while (count > 0) {
    int64_t column = start % row, rest = start / row, at = column * row_stride;
    for (int i = t->ndim - 2; i >= 0; i--) {
      at += rest % shape[i] * stride[i];
      rest /= shape[i];
    }
    int64_t n = row - column < count ? row - column : count;
    copy_run(to, data + (size_t)at * size, n, row_stride, size);
    to += (size_t)n * size;
    start += n;
    count -= n;
  }
}

/* Whole slices of the first dimension are a region of their own, copied in the order that suits the memory. */
static bool gather_slices(unsigned char *to, const ckpt_tensor *t, const unsigned char *data, int64_t start,
                          int64_t count) {
  int64_t shape[CKPT_MAX_DIMS], rows[CKPT_MAX_DIMS], slice = t->ndim < 2 ? 0 : t->numel / t->dims[0];
  if (slice == 0 || start % slice != 0 || count % slice != 0) return false;
  size_t size = ckpt_dtype_size(t->dtype);
  memcpy(shape, t->dims, (size_t)t->ndim * sizeof *shape);
  shape[0] = count / slice;
  ckpt_strided_rows(rows, t->ndim, shape);
  const unsigned char *from = data + (size_t)(start / slice * t->dims[t->ndim]) * size;
  ckpt_strided_copy(to, rows, (ckpt_region){from, t->dims + t->ndim}, t->ndim, shape, size);
  return true;
}

void ckpt_tensor_gather(void *buffer, const ckpt_tensor *t, const void *data, int64_t start, int64_t count) {
  size_t size = ckpt_dtype_size(t->dtype);
  if (ckpt_dtype_per_byte(t->dtype) > 1) {
    memcpy(buffer, (const unsigned char *)data + start / ckpt_dtype_per_byte(t->dtype), t->nbytes);
    return;
  }
  if (ckpt_tensor_is_contiguous(t))
    memcpy(buffer, (const unsigned char *)data + (size_t)start * size, (size_t)count * size);
  else if (!gather_slices(buffer, t, data, start, count))
    gather_rows(buffer, t, data, start, count);
  if (t->neg || t->conj) flip_signs(buffer, t, count);
}

void ckpt_tensor_passed(const ckpt_tensor *t, const void *data, int64_t at, int64_t count) {
  enum { SHARE = 1 << 20 };
  size_t size = ckpt_dtype_size(t->dtype), start = (size_t)at * size, end = start + (size_t)count * size;
  if (start / SHARE == end / SHARE || ckpt_dtype_per_byte(t->dtype) > 1 || !ckpt_tensor_is_contiguous(t)) return;
  start -= start % SHARE;
  ckpt_storage_forget(t->storage, (const unsigned char *)data + start, end - start);
}

ckpt_status ckpt_tensor_check_spread(const ckpt_tensor *t, ckpt_error *err) {
  if (t->storage == NULL) return CKPT_OK;
  size_t have = ckpt_storage_size(t->storage);
  if (t->nbytes <= ((size_t)64 << 20) || t->nbytes / 4096 <= have) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_LIMIT, -1, "the view spreads a storage of %zu bytes over %zu", have, t->nbytes);
}

ckpt_status ckpt_tensor_check_packed(const ckpt_tensor *t, ckpt_error *err) {
  int64_t per = ckpt_dtype_per_byte(t->dtype);
  if (per == 1 || t->numel == 0 || (ckpt_tensor_is_contiguous(t) && t->offset % per == 0)) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1,
                   "a %s view that is not contiguous cannot be taken apart: its elements share bytes",
                   ckpt_dtype_name(t->dtype));
}

/* ---- digest ---- */

static int digest_gathered(EVP_MD_CTX *md, const ckpt_tensor *t, const void *data) {
  unsigned char buffer[1 << 14];
  int64_t step = (int64_t)(sizeof buffer / ckpt_dtype_size(t->dtype));
  int ok = 1;
  for (int64_t at = 0; ok && at < t->numel; at += step) {
    int64_t n = t->numel - at < step ? t->numel - at : step;
    ckpt_tensor_gather(buffer, t, data, at, n);
    ok = EVP_DigestUpdate(md, buffer, (size_t)n * ckpt_dtype_size(t->dtype));
  }
  return ok;
}

static int digest_in_place(EVP_MD_CTX *md, const ckpt_tensor *t, const unsigned char *data) {
  enum { BLOCK = 1 << 18, FORGET = 4096 };
  int ok = 1;
  for (size_t at = 0, n; ok && at < t->nbytes; at += n) {
    n = t->nbytes - at < BLOCK ? t->nbytes - at : BLOCK;
    ok = EVP_DigestUpdate(md, data + at, n);
    if (n >= FORGET) ckpt_storage_forget(t->storage, data + at, n);
  }
  return ok;
}

static int digest(EVP_MD_CTX *md, unsigned char sum[32], const ckpt_tensor *t, const void *data) {
  bool direct = (ckpt_tensor_is_contiguous(t) && !t->conj && !t->neg) || ckpt_dtype_per_byte(t->dtype) > 1;
  if (EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1) return 0;
  if ((direct ? digest_in_place(md, t, data) : digest_gathered(md, t, data)) != 1) return 0;
  return EVP_DigestFinal_ex(md, sum, NULL);
}

ckpt_status ckpt_tensor_sha256(char out[65], const ckpt_tensor *t, ckpt_error *err) {
  const void *data;
  void *owned;
  unsigned char sum[32];
  CKPT_TRY(ckpt_tensor_check_spread(t, err));
  CKPT_TRY(ckpt_tensor_check_packed(t, err));
  CKPT_TRY(ckpt_tensor_read(&data, &owned, t, err));
  EVP_MD_CTX *md = EVP_MD_CTX_new();
  int ok = md != NULL && digest(md, sum, t, data);
  EVP_MD_CTX_free(md);
  free(owned);
  if (!ok) return ckpt_fail(err, CKPT_E_NOMEM, -1, "libcrypto could not compute a SHA-256");
  for (int i = 0; i < 32; i++) snprintf(out + 2 * i, 3, "%02x", sum[i]);
  return CKPT_OK;
}
