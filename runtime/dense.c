/*
 * dense.c - a dense tensor out of a sparse one. Each stored value is a run of `inner` elements (a block, or the dense
 * dimensions behind an index) that is added to its place.
 */
#include <stdlib.h>

#include "sparse.h"

typedef void (*adder)(unsigned char *to, const unsigned char *from, size_t n);

/* ---- adding runs of elements ---- */

#define ADDER(name, type)                                                    \
  static void name(unsigned char *to, const unsigned char *from, size_t n) { \
    type a, b;                                                               \
    for (size_t i = 0; i < n; i++, to += sizeof a, from += sizeof a) {       \
      memcpy(&a, to, sizeof a);                                              \
      memcpy(&b, from, sizeof b);                                            \
      a = (type)(a + b);                                                     \
      memcpy(to, &a, sizeof a);                                              \
    }                                                                        \
  }
ADDER(add_u8, uint8_t) /* two's complement: signed ones add alike */
ADDER(add_u16, uint16_t)
ADDER(add_u32, uint32_t)
ADDER(add_u64, uint64_t)
ADDER(add_f32, float)
ADDER(add_f64, double)
#undef ADDER

static void add_bool(unsigned char *to, const unsigned char *from, size_t n) {
  for (size_t i = 0; i < n; i++) to[i] = to[i] != 0 || from[i] != 0;
}

static void add_c64(unsigned char *to, const unsigned char *from, size_t n) { add_f32(to, from, 2 * n); }
static void add_c128(unsigned char *to, const unsigned char *from, size_t n) { add_f64(to, from, 2 * n); }

static adder adder_of(ckpt_dtype dtype) {
  switch (dtype) {
    case CKPT_BOOL: return add_bool;
    case CKPT_U8:
    case CKPT_I8: return add_u8;
    case CKPT_U16:
    case CKPT_I16: return add_u16;
    case CKPT_U32:
    case CKPT_I32: return add_u32;
    case CKPT_U64:
    case CKPT_I64: return add_u64;
    case CKPT_F32: return add_f32;
    case CKPT_F64: return add_f64;
    case CKPT_C64: return add_c64;
    case CKPT_C128: return add_c128;
    default: return NULL;
  }
}

/* ---- the job ---- */

typedef struct job {
  const ckpt_sparse *s;
  unsigned char *to;           /* the dense tensor */
  const unsigned char *values; /* contiguous */
  size_t size;                 /* of one element */
  adder add;
  int64_t tail; /* elements of the dense dimensions */
} job;

static void add_run(const job *j, int64_t to, int64_t from, int64_t n) {
  j->add(j->to + (size_t)to * j->size, j->values + (size_t)from * j->size, (size_t)n);
}

static void run_coo(const job *j, const int64_t *indices) {
  const ckpt_sparse *s = j->s;
  for (int64_t i = 0; i < s->nnz; i++) {
    int64_t at = 0;
    for (int k = 0; k < s->sparse_ndim; k++) at = at * s->shape[k] + indices[k * s->nnz + i];
    add_run(j, at * j->tail, i * j->tail, j->tail);
  }
}

/* Block number `i` of batch `b`, whose place in blocks is (row, column): its rows are runs. */
static void add_block(const job *j, const ckpt_compressed *c, int64_t b, int64_t i, int64_t row, int64_t column) {
  const int64_t *shape = j->s->shape + c->batch_ndim;
  int64_t run = c->blocks[1] * j->tail;
  int64_t from = (b * j->s->nnz + i) * c->blocks[0] * run;
  for (int64_t r = 0; r < c->blocks[0]; r++, from += run) {
    int64_t at = (b * shape[0] + row * c->blocks[0] + r) * shape[1] + column * c->blocks[1];
    add_run(j, at * j->tail, from, run);
  }
}

static void run_compressed(const job *j, const int64_t *pointers, const int64_t *plain) {
  ckpt_compressed c;
  ckpt_sparse_compressed(&c, j->s);
  for (int64_t b = 0; b < c.batches; b++, pointers += c.n_compressed + 1, plain += j->s->nnz)
    for (int64_t k = 0; k < c.n_compressed; k++)
      for (int64_t i = pointers[k]; i < pointers[k + 1]; i++)
        add_block(j, &c, b, i, c.by_rows ? k : plain[i], c.by_rows ? plain[i] : k);
}

static ckpt_status run(const job *j, ckpt_error *err) {
  const ckpt_sparse *s = j->s;
  bool coo = s->layout == CKPT_SPARSE_COO;
  ckpt_tensor *held[2] = {NULL, NULL};
  const int64_t *first = NULL, *second = NULL;
  ckpt_status st = ckpt_sparse_integers(&held[0], &first, coo ? s->indices : s->compressed, err);
  if (st == CKPT_OK && !coo) st = ckpt_sparse_integers(&held[1], &second, s->plain, err);
  if (st == CKPT_OK && ckpt_tensor_numel(s->values) > 0) {
    if (coo)
      run_coo(j, first);
    else
      run_compressed(j, first, second);
  }
  ckpt_tensor_release(held[0]);
  ckpt_tensor_release(held[1]);
  return st;
}

/* ---- sizes ---- */

static size_t sparse_bytes(const ckpt_sparse *s) {
  size_t n = ckpt_tensor_nbytes(s->values);
  if (s->indices != NULL) return n + ckpt_tensor_nbytes(s->indices);
  return n + ckpt_tensor_nbytes(s->compressed) + ckpt_tensor_nbytes(s->plain);
}

/* A few bytes of a file may say that they are a tensor of 2^40 elements. */
static ckpt_status check_size(const ckpt_sparse *s, ckpt_dtype dtype, ckpt_error *err) {
  size_t n = ckpt_dtype_size(dtype), have = sparse_bytes(s);
  bool fits = true;
  for (int i = 0; i < s->ndim; i++)
    if (s->shape[i] == 0) return CKPT_OK;
  for (int i = 0; fits && i < s->ndim; i++) fits = ckpt_mul_size(&n, n, (size_t)s->shape[i]);
  if (fits && (n <= (size_t)64 << 20 || n / 4096 <= have)) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_LIMIT, -1, "a sparse tensor of %zu bytes would be out of proportion when dense", have);
}

/* ---- making ---- */

/* Added in their own type, small floats in float32 and rounded once. */
static ckpt_dtype working_dtype(ckpt_dtype dtype) {
  bool small = ckpt_dtype_numeric(dtype) == CKPT_NUM_FLOAT && ckpt_dtype_size(dtype) < 4;
  return small ? CKPT_F32 : dtype;
}

static ckpt_status add_up(ckpt_tensor *to, const ckpt_sparse *s, ckpt_error *err) {
  ckpt_dtype dtype = ckpt_tensor_dtype(to);
  ckpt_tensor *values = NULL;
  const void *out = NULL, *in = NULL;
  job j = {.s = s, .size = ckpt_dtype_size(dtype), .add = adder_of(dtype), .tail = 1};
  for (int i = 0; i < s->dense_ndim; i++) j.tail *= s->shape[s->ndim - 1 - i];
  ckpt_status st = ckpt_tensor_new(&values, dtype, ckpt_tensor_ndim(s->values), ckpt_tensor_shape(s->values), err);
  if (st == CKPT_OK) st = ckpt_tensor_copy(values, s->values, err);
  if (st == CKPT_OK) st = ckpt_tensor_data(&in, values, err);
  if (st == CKPT_OK) st = ckpt_tensor_data(&out, to, err);
  j.values = in;
  j.to = (unsigned char *)(uintptr_t)out;
  if (st == CKPT_OK) st = run(&j, err);
  ckpt_tensor_release(values);
  return st;
}

static ckpt_status narrow(ckpt_tensor **t, ckpt_dtype dtype, ckpt_error *err) {
  ckpt_tensor *small = NULL;
  if (ckpt_tensor_dtype(*t) == dtype) return CKPT_OK;
  CKPT_TRY(ckpt_tensor_new(&small, dtype, ckpt_tensor_ndim(*t), ckpt_tensor_shape(*t), err));
  ckpt_status st = ckpt_tensor_copy(small, *t, err);
  if (st != CKPT_OK) {
    ckpt_tensor_release(small);
    return st;
  }
  ckpt_tensor_release(*t);
  *t = small;
  return CKPT_OK;
}

ckpt_status ckpt_value_to_dense(ckpt_tensor **out, const ckpt_value *v, ckpt_error *err) {
  ckpt_sparse s;
  ckpt_tensor *dense = NULL;
  CKPT_TRY(ckpt_value_sparse(&s, v, err));
  ckpt_dtype dtype = ckpt_tensor_dtype(s.values), working = working_dtype(dtype);
  if (adder_of(working) == NULL)
    return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "a sparse tensor of %s cannot be made dense", ckpt_dtype_name(dtype));
  CKPT_TRY(ckpt_tensor_check_spread(s.values, err));
  CKPT_TRY(check_size(&s, working, err));
  CKPT_TRY(ckpt_sparse_check_indices(&s, err));
  CKPT_TRY(ckpt_tensor_new(&dense, working, s.ndim, s.shape, err));
  ckpt_status st = add_up(dense, &s, err);
  if (st == CKPT_OK) st = narrow(&dense, dtype, err);
  if (st == CKPT_OK)
    *out = dense;
  else
    ckpt_tensor_release(dense);
  return st;
}
