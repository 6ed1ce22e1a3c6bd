/*
 * ckpt.h - tensor state dicts and PyTorch checkpoints for C.
 *
 * Read from top to bottom: status and errors, dtypes, tensors, values, state dicts, alignment, open, save.
 * Nothing here knows of Lua; <ckpt/checkpointer.h> adds the policies.
 *
 * Conventions
 *   - A function that can fail returns a ckpt_status: CKPT_OK (0) or a negative code. Output parameters come
 *     first, `ckpt_error *err` comes last and may be NULL. On failure no output parameter is changed.
 *   - `T **out` gives the caller a reference of its own; a returned pointer is borrowed from the argument.
 *   - Releasing, freeing or closing NULL does nothing.
 *   - Thread safety: tensors and storages are immutable handles with atomic counts and may be used by many
 *     threads; a document and its values, or a state dict, by one thread at a time.
 *   - Untrusted files: nothing in a file is ever executed, and no length in a file is believed before it has
 *     been compared with the bytes that are really there.
 */
#ifndef CKPT_CKPT_H
#define CKPT_CKPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CKPT_VERSION "0.1.0"

#if defined(__GNUC__)
#define CKPT_API __attribute__((visibility("default")))
#define CKPT_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define CKPT_API
#define CKPT_PRINTF(f, a)
#endif

/* ---- Status and errors ------------------------------------------------------------------------------- */

/* X(name, value, text). The names are also what Lua gets as its third result, in lower case without prefix. */
#define CKPT_STATUS_MAP(X)                   \
  X(OK, 0, "ok")                             \
  X(E_NOMEM, -1, "out of memory")            \
  X(E_ARGUMENT, -2, "wrong argument")        \
  X(E_IO, -3, "input/output error")          \
  X(E_NOTFOUND, -4, "not found")             \
  X(E_EXISTS, -5, "already there")           \
  X(E_BUSY, -6, "in use by another process") \
  X(E_FORMAT, -7, "not a checkpoint")        \
  X(E_CORRUPT, -8, "corrupt checkpoint")     \
  X(E_UNSUPPORTED, -9, "not supported")      \
  X(E_LIMIT, -10, "limit exceeded")          \
  X(E_TYPE, -11, "value of another kind")    \
  X(E_RANGE, -12, "out of range")            \
  X(E_SHAPE, -13, "shapes differ")           \
  X(E_POLICY, -14, "the policy failed")      \
  X(E_CONTRACT, -15, "the load contract is not met")

typedef enum ckpt_status {
#define CKPT_X(name, value, text) CKPT_##name = (value),
  CKPT_STATUS_MAP(CKPT_X)
#undef CKPT_X
} ckpt_status;

/*
 * What went wrong. `message` is a sentence that names file, record and byte where they are known; it is filled
 * where the fault is found. `position` is a byte offset in the file or record that the message names, or -1.
 * `sys` is an errno value, or 0.
 */
typedef struct ckpt_error {
  ckpt_status status;
  int sys;
  int64_t position;
  char message[512];
} ckpt_error;

/* Static text of a status, never NULL. Thread-safe. */
CKPT_API const char *ckpt_status_text(ckpt_status status);

/* Static lower-case name of a status: "ok", "nomem", "corrupt", ... Never NULL. Thread-safe. */
CKPT_API const char *ckpt_status_name(ckpt_status status);

/* ---- Dtypes ------------------------------------------------------------------------------------------ */

/*
 * X(enum, name, bytes, class, storage class, numeric kind). `name` is PyTorch's without "torch."; `bytes` is one
 * element; `class` is the rebuild function that PyTorch 2.14 writes (V2: the storage class carries the dtype; V3: the
 * dtype is an argument over UntypedStorage; Q: quantised). Storage classes live in module `torch`.
 */
#define CKPT_DTYPE_MAP(X)                                            \
  X(U8, "uint8", 1, V2, "ByteStorage", UINT)                         \
  X(I8, "int8", 1, V2, "CharStorage", INT)                           \
  X(I16, "int16", 2, V2, "ShortStorage", INT)                        \
  X(I32, "int32", 4, V2, "IntStorage", INT)                          \
  X(I64, "int64", 8, V2, "LongStorage", INT)                         \
  X(F16, "float16", 2, V2, "HalfStorage", FLOAT)                     \
  X(F32, "float32", 4, V2, "FloatStorage", FLOAT)                    \
  X(F64, "float64", 8, V2, "DoubleStorage", FLOAT)                   \
  X(C32, "complex32", 4, V3, "UntypedStorage", COMPLEX)              \
  X(C64, "complex64", 8, V2, "ComplexFloatStorage", COMPLEX)         \
  X(C128, "complex128", 16, V2, "ComplexDoubleStorage", COMPLEX)     \
  X(BOOL, "bool", 1, V2, "BoolStorage", BOOL)                        \
  X(QI8, "qint8", 1, Q, "QInt8Storage", QUANT)                       \
  X(QU8, "quint8", 1, Q, "QUInt8Storage", QUANT)                     \
  X(QI32, "qint32", 4, Q, "QInt32Storage", QUANT)                    \
  X(BF16, "bfloat16", 2, V2, "BFloat16Storage", FLOAT)               \
  X(QU4X2, "quint4x2", 1, Q, "QUInt4x2Storage", QUANT)               \
  X(QU2X4, "quint2x4", 1, Q, "QUInt2x4Storage", QUANT)               \
  X(BITS1X8, "bits1x8", 1, V3, "UntypedStorage", BITS)               \
  X(BITS2X4, "bits2x4", 1, V3, "UntypedStorage", BITS)               \
  X(BITS4X2, "bits4x2", 1, V3, "UntypedStorage", BITS)               \
  X(BITS8, "bits8", 1, V3, "UntypedStorage", BITS)                   \
  X(BITS16, "bits16", 2, V3, "UntypedStorage", BITS)                 \
  X(F8_E5M2, "float8_e5m2", 1, V3, "UntypedStorage", FLOAT)          \
  X(F8_E4M3FN, "float8_e4m3fn", 1, V3, "UntypedStorage", FLOAT)      \
  X(F8_E5M2FNUZ, "float8_e5m2fnuz", 1, V3, "UntypedStorage", FLOAT)  \
  X(F8_E4M3FNUZ, "float8_e4m3fnuz", 1, V3, "UntypedStorage", FLOAT)  \
  X(U16, "uint16", 2, V3, "UntypedStorage", UINT)                    \
  X(U32, "uint32", 4, V3, "UntypedStorage", UINT)                    \
  X(U64, "uint64", 8, V3, "UntypedStorage", UINT)                    \
  X(F8_E8M0FNU, "float8_e8m0fnu", 1, V3, "UntypedStorage", FLOAT)    \
  X(F4_E2M1FN_X2, "float4_e2m1fn_x2", 1, V3, "UntypedStorage", BITS) \
  X(BC32, "bcomplex32", 4, V3, "UntypedStorage", COMPLEX)

typedef enum ckpt_dtype {
#define CKPT_X(id, name, bytes, rebuild, storage, numeric) CKPT_##id,
  CKPT_DTYPE_MAP(CKPT_X)
#undef CKPT_X
      CKPT_DTYPE_COUNT
} ckpt_dtype;

/* PyTorch's name without "torch.", never NULL. Thread-safe. */
CKPT_API const char *ckpt_dtype_name(ckpt_dtype dtype);

/* Bytes of one element. Thread-safe. */
CKPT_API size_t ckpt_dtype_size(ckpt_dtype dtype);

/* The dtype of that name ("float32"), or CKPT_E_NOTFOUND. Thread-safe. */
CKPT_API ckpt_status ckpt_dtype_parse(ckpt_dtype *out, const char *name, ckpt_error *err);

/* ---- Tensors ----------------------------------------------------------------------------------------- */

/*
 * A tensor is a counted, strided view of a counted storage. Shape, stride and offset are in elements; strides are
 * never negative; a 0-dim tensor has one element. A tensor keeps its storage, and a storage that lies in a mapped
 * file keeps the mapping: closing the checkpoint never invalidates a tensor. A tensor without storage is "meta".
 */
typedef struct ckpt_tensor ckpt_tensor;

#define CKPT_MAX_DIMS 64 /* PyTorch has no limit of its own; a file with more is refused with CKPT_E_LIMIT */

/* A zero-filled contiguous tensor of its own. */
CKPT_API ckpt_status ckpt_tensor_new(ckpt_tensor **out, ckpt_dtype dtype, int ndim, const int64_t *shape,
                                     ckpt_error *err);

/* A contiguous tensor over the caller's `data`, which must outlive it. Nothing is copied. */
CKPT_API ckpt_status ckpt_tensor_borrow(ckpt_tensor **out, ckpt_dtype dtype, void *data, int ndim, const int64_t *shape,
                                        ckpt_error *err);

/* Names and shapes only: a tensor without data. */
CKPT_API ckpt_status ckpt_tensor_meta(ckpt_tensor **out, ckpt_dtype dtype, int ndim, const int64_t *shape,
                                      ckpt_error *err);

/* Another view of `base`'s storage; bounds are checked. `offset` counts from the start of the storage. */
CKPT_API ckpt_status ckpt_tensor_view(ckpt_tensor **out, const ckpt_tensor *base, int64_t offset, int ndim,
                                      const int64_t *shape, const int64_t *stride, ckpt_error *err);

/* A new contiguous tensor with the entries `index[0..n)` of dimension `dim` (0-based; negative counts from the end). */
CKPT_API ckpt_status ckpt_tensor_index_select(ckpt_tensor **out, const ckpt_tensor *t, int dim, size_t n,
                                              const int64_t *index, ckpt_error *err);

CKPT_API ckpt_tensor *ckpt_tensor_retain(ckpt_tensor *t); /* returns t */
CKPT_API void ckpt_tensor_release(ckpt_tensor *t);

CKPT_API ckpt_dtype ckpt_tensor_dtype(const ckpt_tensor *t);
CKPT_API int ckpt_tensor_ndim(const ckpt_tensor *t);
CKPT_API const int64_t *ckpt_tensor_shape(const ckpt_tensor *t);
CKPT_API const int64_t *ckpt_tensor_stride(const ckpt_tensor *t);
CKPT_API int64_t ckpt_tensor_offset(const ckpt_tensor *t);
CKPT_API int64_t ckpt_tensor_numel(const ckpt_tensor *t);
CKPT_API bool ckpt_tensor_is_contiguous(const ckpt_tensor *t);
CKPT_API bool ckpt_tensor_is_meta(const ckpt_tensor *t);
CKPT_API bool ckpt_tensor_requires_grad(const ckpt_tensor *t);

/* True if both are views of one storage. */
CKPT_API bool ckpt_tensor_shares_storage(const ckpt_tensor *a, const ckpt_tensor *b);

/*
 * The address of the tensor's first element; stride() applies from there. The bytes of a file are found (and, for a
 * deflated record, inflated and kept) at the first call, which therefore can fail: CKPT_E_CORRUPT, CKPT_E_NOMEM;
 * CKPT_E_ARGUMENT for a meta tensor. Valid while the tensor lives; read-only unless the caller made the storage.
 * Conjugate and negative bits are not applied here, ckpt_tensor_copy applies them. Thread-safe.
 */
CKPT_API ckpt_status ckpt_tensor_data(const void **out, const ckpt_tensor *t, ckpt_error *err);

/*
 * dst[...] = src[...] element by element, in logical order, cast where the dtypes differ. Shapes must be equal
 * (CKPT_E_SHAPE); complex, quantised and bit dtypes are not cast (CKPT_E_UNSUPPORTED). dst must be writable.
 */
CKPT_API ckpt_status ckpt_tensor_copy(ckpt_tensor *dst, const ckpt_tensor *src, ckpt_error *err);

/* SHA-256, in 64 hex digits and a NUL, of the logical row-major little-endian bytes. */
CKPT_API ckpt_status ckpt_tensor_sha256(char out[65], const ckpt_tensor *t, ckpt_error *err);

/* How the integers of a quantised tensor stand for numbers: (stored - zero_point) * scale. Tensors are borrowed. */
typedef enum ckpt_qscheme {
  CKPT_PER_TENSOR_AFFINE,
  CKPT_PER_CHANNEL_AFFINE,
  CKPT_PER_CHANNEL_AFFINE_FLOAT_QPARAMS /* zero points are floats; files call it per_channel_affine too */
} ckpt_qscheme;

typedef struct ckpt_quantization {
  ckpt_qscheme scheme;
  double scale; /* per tensor */
  int64_t zero_point;
  ckpt_tensor *scales, *zero_points; /* per channel: one entry for each index of `axis` (0-based) */
  int axis;
} ckpt_quantization;

CKPT_API const char *ckpt_qscheme_name(ckpt_qscheme scheme); /* "per_tensor_affine", ...; PyTorch's without "torch." */

/* CKPT_E_TYPE for a tensor that is not quantised, or one whose scale is not known (a view, a program's own). */
CKPT_API ckpt_status ckpt_tensor_quantization(ckpt_quantization *out, const ckpt_tensor *t, ckpt_error *err);

/*
 * A new contiguous float32 tensor of the numbers that a quantised one stands for; packed dtypes (quint4x2, quint2x4)
 * are taken apart. CKPT_E_TYPE as above; CKPT_E_CORRUPT for a scale that is no positive finite number. Thread-safe.
 */
CKPT_API ckpt_status ckpt_tensor_dequantize(ckpt_tensor **out, const ckpt_tensor *t, ckpt_error *err);

/* Heap memory that the tensor's storage holds now: 0 for a borrowed, mapped or meta one. Thread-safe. */
CKPT_API size_t ckpt_tensor_heap_bytes(const ckpt_tensor *t);

/* ---- Values ------------------------------------------------------------------------------------------ */

/*
 * A checkpoint is a tree (in truth a graph: sharing and cycles are kept) of values. A document owns all of its
 * values in one arena; a ckpt_value pointer is borrowed and lives as long as the document.
 */
typedef struct ckpt_document ckpt_document;
typedef struct ckpt_value ckpt_value;

typedef enum ckpt_kind {
  CKPT_NONE,
  CKPT_BOOLEAN,
  CKPT_INT,    /* fits int64_t */
  CKPT_BIGINT, /* any other integer: little-endian two's complement bytes */
  CKPT_FLOAT,
  CKPT_STR, /* UTF-8; lone surrogates pass through as Python writes them */
  CKPT_BYTES,
  CKPT_BYTEARRAY,
  CKPT_LIST,
  CKPT_TUPLE,
  CKPT_DICT, /* dict and collections.OrderedDict (ckpt_value_is_ordered); order is kept */
  CKPT_SET,
  CKPT_FROZENSET,
  CKPT_TENSOR,
  CKPT_CLASS, /* a Python name, such as torch.float32: inert */
  CKPT_OBJECT /* an object of an unknown class: inert, its parts can be walked */
} ckpt_kind;

CKPT_API ckpt_status ckpt_document_new(ckpt_document **out, ckpt_error *err);
CKPT_API ckpt_document *ckpt_document_retain(ckpt_document *doc); /* returns doc */
CKPT_API void ckpt_document_release(ckpt_document *doc);
CKPT_API ckpt_value *ckpt_document_root(const ckpt_document *doc); /* NULL while none is set */
CKPT_API void ckpt_document_set_root(ckpt_document *doc, ckpt_value *root);

CKPT_API ckpt_kind ckpt_value_kind(const ckpt_value *v);
CKPT_API const char *ckpt_kind_name(ckpt_kind kind); /* "dict", "tensor", ... */

/* Scalars. Each fails with CKPT_E_TYPE on another kind; double also takes an integer. */
CKPT_API ckpt_status ckpt_value_bool(bool *out, const ckpt_value *v, ckpt_error *err);
CKPT_API ckpt_status ckpt_value_int(int64_t *out, const ckpt_value *v, ckpt_error *err);
CKPT_API ckpt_status ckpt_value_double(double *out, const ckpt_value *v, ckpt_error *err);

/* Bytes of a STR, BYTES, BYTEARRAY or BIGINT; for a CLASS its dotted name. NULL for any other kind. */
CKPT_API const char *ckpt_value_text(const ckpt_value *v, size_t *length);

/* Borrowed tensor of a TENSOR, else NULL. */
CKPT_API ckpt_tensor *ckpt_value_tensor(const ckpt_value *v);

/* Items of a LIST, TUPLE, SET or FROZENSET, pairs of a DICT; for an OBJECT its list items. 0 for the rest. */
CKPT_API size_t ckpt_value_count(const ckpt_value *v);
CKPT_API ckpt_value *ckpt_value_item(const ckpt_value *v, size_t i); /* NULL past the end */
CKPT_API bool ckpt_value_is_ordered(const ckpt_value *v);            /* collections.OrderedDict */

/* Pairs of a DICT (or of an OBJECT that subclasses dict), in order. */
CKPT_API size_t ckpt_value_pair_count(const ckpt_value *v);
CKPT_API ckpt_value *ckpt_value_pair_key(const ckpt_value *v, size_t i);
CKPT_API ckpt_value *ckpt_value_pair_value(const ckpt_value *v, size_t i);

/* The value under a string key of a DICT, or NULL. Linear for small dicts, hashed for large ones. */
CKPT_API ckpt_value *ckpt_value_get(const ckpt_value *v, const char *key);

/*
 * The value at a path such as "optimizer.state.0.momentum_buffer" or "[0].weight", or NULL. Keys that contain dots
 * are found too: the longest key that fits wins. "" is v itself.
 */
CKPT_API ckpt_value *ckpt_value_at(const ckpt_value *v, const char *path);

/*
 * Of an OBJECT: its class or the function that made it, constructor arguments (a tuple) and state; may be NULL. A
 * TENSOR has a state too: the attributes that Python had hung on it, or on the Parameter.
 */
CKPT_API ckpt_value *ckpt_value_object_class(const ckpt_value *v);
CKPT_API ckpt_value *ckpt_value_object_args(const ckpt_value *v);
CKPT_API ckpt_value *ckpt_value_object_state(const ckpt_value *v);

/* ckpt_tensor_quantization and ckpt_tensor_dequantize of a TENSOR; CKPT_E_TYPE for any other value. */
CKPT_API ckpt_status ckpt_value_quantization(ckpt_quantization *out, const ckpt_value *v, ckpt_error *err);
CKPT_API ckpt_status ckpt_value_dequantize(ckpt_tensor **out, const ckpt_value *v, ckpt_error *err);

/*
 * A numpy array or scalar, which stays an OBJECT in the tree and is written back unchanged. Everything is borrowed from
 * the value; every length has been compared with the bytes that are there. Element (i, j, ...) lies at
 * (i * stride[0] + j * stride[1] + ...) * itemsize.
 */
typedef struct ckpt_array {
  char kind;       /* numpy's letter: b bool, i int, u uint, f float, c complex, S bytes, U str, M m times, O objects */
  bool scalar;     /* a numpy scalar, such as np.float64(1.5): no dimensions */
  bool big_endian; /* elements are to be swapped */
  size_t itemsize; /* bytes of one element; of 'U', four for each character */
  int ndim;
  int64_t shape[CKPT_MAX_DIMS], stride[CKPT_MAX_DIMS], count;
  const unsigned char *bytes; /* count * itemsize; NULL for 'O' */
  const ckpt_value *objects;  /* of 'O': a LIST of count items in row-major order, or of a scalar the item itself */
} ckpt_array;

/* Whether an OBJECT is made by numpy's functions for arrays and scalars. */
CKPT_API bool ckpt_value_is_array(const ckpt_value *v);

/* CKPT_E_TYPE for any other value; CKPT_E_CORRUPT; CKPT_E_UNSUPPORTED for records and classes derived from ndarray. */
CKPT_API ckpt_status ckpt_value_array(ckpt_array *out, const ckpt_value *v, ckpt_error *err);

/*
 * A tensor of its own with the array's numbers and strides, in little-endian order; times become int64 counts of their
 * unit. CKPT_E_UNSUPPORTED for strings, objects and dtypes that PyTorch lacks (long double).
 */
CKPT_API ckpt_status ckpt_array_tensor(ckpt_tensor **out, const ckpt_array *a, ckpt_error *err);

/*
 * Element i in row-major order as Python's own number, str or bytes: a new value of `doc`. A complex number becomes a
 * complex object (ckpt_value_complex). For 'O' the item itself, whose document is the array's.
 */
CKPT_API ckpt_status ckpt_array_item(ckpt_value **out, ckpt_document *doc, const ckpt_array *a, int64_t i,
                                     ckpt_error *err);

/* The parts of a Python complex, or a numpy complex scalar. CKPT_E_TYPE for any other value. */
CKPT_API ckpt_status ckpt_value_complex(double *re, double *im, const ckpt_value *v, ckpt_error *err);

/*
 * A sparse tensor, which stays an OBJECT in the tree; its parts are borrowed. COO has `indices` [sparse_ndim, nnz] and
 * values [nnz, dense...]; the compressed layouts have `compressed` [batch..., n + 1], `plain` [batch..., nnz] and
 * values [batch..., nnz, block..., dense...].
 */
typedef enum ckpt_layout {
  CKPT_SPARSE_COO,
  CKPT_SPARSE_CSR,
  CKPT_SPARSE_CSC,
  CKPT_SPARSE_BSR,
  CKPT_SPARSE_BSC
} ckpt_layout;

typedef struct ckpt_sparse {
  ckpt_layout layout;
  bool coalesced; /* COO: the file says that no index comes twice */
  int ndim, sparse_ndim, dense_ndim;
  int64_t shape[CKPT_MAX_DIMS], nnz;
  ckpt_tensor *indices;            /* COO only, else NULL */
  ckpt_tensor *compressed, *plain; /* NULL for COO */
  ckpt_tensor *values;
} ckpt_sparse;

CKPT_API const char *ckpt_layout_name(ckpt_layout layout); /* "sparse_coo", ...; PyTorch's without "torch." */

/*
 * The parts of a sparse tensor, their shapes checked against each other; the indices themselves are not read (to_dense
 * and ckpt_checkpoint_verify do). CKPT_E_TYPE for any other value; CKPT_E_CORRUPT.
 */
CKPT_API ckpt_status ckpt_value_sparse(ckpt_sparse *out, const ckpt_value *v, ckpt_error *err);

/*
 * A new dense tensor of a sparse one; what an uncoalesced one says twice adds up. CKPT_E_CORRUPT for an index outside;
 * CKPT_E_LIMIT where the dense tensor would be out of proportion (over 64 MiB and 4096 times the sparse one);
 * CKPT_E_UNSUPPORTED for values that cannot be added (quantised, bits).
 */
CKPT_API ckpt_status ckpt_value_to_dense(ckpt_tensor **out, const ckpt_value *v, ckpt_error *err);

/* The tensors of a nested (ragged) one: how many, and views of them. CKPT_E_TYPE, CKPT_E_CORRUPT, CKPT_E_RANGE. */
CKPT_API ckpt_status ckpt_value_nested_count(size_t *out, const ckpt_value *v, ckpt_error *err);
CKPT_API ckpt_status ckpt_value_nested_tensor(ckpt_tensor **out, const ckpt_value *v, size_t i, ckpt_error *err);

/* Builders: a new value of `doc`. Strings and bytes are copied; a tensor is retained until the document goes. */
CKPT_API ckpt_status ckpt_value_new_none(ckpt_value **out, ckpt_document *doc, ckpt_error *err);
CKPT_API ckpt_status ckpt_value_new_bool(ckpt_value **out, ckpt_document *doc, bool b, ckpt_error *err);
CKPT_API ckpt_status ckpt_value_new_int(ckpt_value **out, ckpt_document *doc, int64_t i, ckpt_error *err);
CKPT_API ckpt_status ckpt_value_new_double(ckpt_value **out, ckpt_document *doc, double d, ckpt_error *err);
CKPT_API ckpt_status ckpt_value_new_str(ckpt_value **out, ckpt_document *doc, const char *s, size_t n, ckpt_error *err);
CKPT_API ckpt_status ckpt_value_new_bytes(ckpt_value **out, ckpt_document *doc, const void *s, size_t n,
                                          ckpt_error *err);
CKPT_API ckpt_status ckpt_value_new_list(ckpt_value **out, ckpt_document *doc, ckpt_error *err);
CKPT_API ckpt_status ckpt_value_new_tuple(ckpt_value **out, ckpt_document *doc, ckpt_error *err);
CKPT_API ckpt_status ckpt_value_new_dict(ckpt_value **out, ckpt_document *doc, bool ordered, ckpt_error *err);
CKPT_API ckpt_status ckpt_value_new_tensor(ckpt_value **out, ckpt_document *doc, ckpt_tensor *t, ckpt_error *err);

/* Append to a LIST or TUPLE; set a key of a DICT (replaces, keeping the place). Values must be of one document. */
CKPT_API ckpt_status ckpt_value_append(ckpt_value *list, ckpt_document *doc, ckpt_value *item, ckpt_error *err);
CKPT_API ckpt_status ckpt_value_set(ckpt_value *dict, ckpt_document *doc, const char *key, ckpt_value *item,
                                    ckpt_error *err);

/* ---- State dicts ------------------------------------------------------------------------------------- */

/* An ordered map name -> tensor; it retains its tensors. Look-up is by hash. */
typedef struct ckpt_state_dict ckpt_state_dict;

CKPT_API ckpt_status ckpt_state_dict_new(ckpt_state_dict **out, ckpt_error *err);
CKPT_API void ckpt_state_dict_free(ckpt_state_dict *sd);

/* Appends, or replaces the tensor of that name in its place. */
CKPT_API ckpt_status ckpt_state_dict_set(ckpt_state_dict *sd, const char *name, ckpt_tensor *t, ckpt_error *err);

/* Takes the name out; CKPT_E_NOTFOUND if it is not there. The others keep their order. */
CKPT_API ckpt_status ckpt_state_dict_remove(ckpt_state_dict *sd, const char *name, ckpt_error *err);

CKPT_API size_t ckpt_state_dict_count(const ckpt_state_dict *sd);
CKPT_API const char *ckpt_state_dict_name(const ckpt_state_dict *sd, size_t i);         /* NULL past the end */
CKPT_API ckpt_tensor *ckpt_state_dict_tensor(const ckpt_state_dict *sd, size_t i);      /* borrowed */
CKPT_API ckpt_tensor *ckpt_state_dict_get(const ckpt_state_dict *sd, const char *name); /* borrowed or NULL */

/*
 * The tensors of a DICT value, by key. Entries that are no tensors are left out and counted in *skipped (may be
 * NULL). CKPT_E_TYPE if the value is not a dict with string keys.
 */
CKPT_API ckpt_status ckpt_state_dict_from_value(ckpt_state_dict **out, const ckpt_value *dict, size_t *skipped,
                                                ckpt_error *err);

/* ---- Alignment --------------------------------------------------------------------------------------- */

/*
 * For each target name, the longest source name that is a suffix of it. With `boundary` set ('.'), only whole
 * segments count: the suffix must be the whole name or follow that character. *out gets n_targets indices into
 * sources, SIZE_MAX where none fits; free() it. Of equal source names the last wins.
 * Time is near-linear in the total length of the names: both lists are sorted by their reversed bytes and swept once.
 */
CKPT_API ckpt_status ckpt_align(size_t **out, size_t n_targets, const char *const *targets, size_t n_sources,
                                const char *const *sources, char boundary, ckpt_error *err);

/* ---- Open and inspect -------------------------------------------------------------------------------- */

typedef struct ckpt_checkpoint ckpt_checkpoint;

typedef struct ckpt_open_options {
  bool verify; /* also ckpt_checkpoint_verify (a stored CRC of 0 counts as absent) */
} ckpt_open_options;

/*
 * Opens a checkpoint by its content, never by its name. The file is mapped; only its directory and its pickle are
 * read. Errors: CKPT_E_NOTFOUND, CKPT_E_IO, CKPT_E_FORMAT (foreign file), CKPT_E_CORRUPT, CKPT_E_UNSUPPORTED,
 * CKPT_E_LIMIT. The message begins with `path`. A file must not be shortened while it is open: ckpt itself never
 * changes a published file.
 */
CKPT_API ckpt_status ckpt_checkpoint_open(ckpt_checkpoint **out, const char *path, const ckpt_open_options *options,
                                          ckpt_error *err);
CKPT_API void ckpt_checkpoint_close(ckpt_checkpoint *cp);

CKPT_API const char *ckpt_checkpoint_format(const ckpt_checkpoint *cp); /* "torch-zip", "torchscript", ... */
CKPT_API uint64_t ckpt_checkpoint_bytes(const ckpt_checkpoint *cp);     /* size of the file */
CKPT_API ckpt_document *ckpt_checkpoint_document(const ckpt_checkpoint *cp);
CKPT_API ckpt_value *ckpt_checkpoint_root(const ckpt_checkpoint *cp);

/*
 * Reads every record once and compares its CRC-32, then the indices of sparse and nested tensors, the scales of
 * quantised ones and the lengths of numpy arrays. CKPT_E_CORRUPT names the record and its byte, or the path.
 */
CKPT_API ckpt_status ckpt_checkpoint_verify(const ckpt_checkpoint *cp, ckpt_error *err);

/*
 * All tensors and opaque objects of a value with their paths: `.key` for a dict key or an object's field (the leading
 * dot left out), `[i]` for a list or tuple item; integer keys in decimal, other keys as Python's repr; an object's
 * dict state gives its fields, any other state is `.state`, constructor arguments are `.args[i]`. What is reached
 * twice is listed at its first path, further paths as aliases (at most CKPT_MAX_ALIASES in all).
 */
#define CKPT_MAX_ALIASES 100000
typedef struct ckpt_listing ckpt_listing;

typedef struct ckpt_listing_entry {
  const char *path;        /* UTF-8, NUL-terminated; "" for the root */
  const ckpt_value *value; /* a TENSOR, or an OBJECT */
  size_t storage;          /* group number of a tensor's storage, SIZE_MAX for none */
  size_t n_aliases;
  const char *const *aliases;
} ckpt_listing_entry;

CKPT_API ckpt_status ckpt_listing_new(ckpt_listing **out, const ckpt_value *root, ckpt_error *err);
CKPT_API void ckpt_listing_free(ckpt_listing *listing);
CKPT_API size_t ckpt_listing_count(const ckpt_listing *listing);
CKPT_API const ckpt_listing_entry *ckpt_listing_entry_at(const ckpt_listing *listing, size_t i); /* NULL past the end */

/* ---- Sanitize ---------------------------------------------------------------------------------------- */

/* Whose torch.load(weights_only=True) is to take the result. */
typedef enum ckpt_profile {
  CKPT_WEIGHTS_ONLY_2_6, /* PyTorch 2.6 and later */
  CKPT_WEIGHTS_ONLY_1_13 /* the first: no floats, bytes, sets, quantised tensors, nor dtypes newer than itself */
} ckpt_profile;

/* What became of one value of the source. */
typedef struct ckpt_change {
  const char *path;       /* as in a listing */
  const char *class_name; /* what it was: "collections.deque", "numpy.core.multiarray.scalar", "frozenset" */
  bool dropped;
  const char *into; /* what stands there now: "list", "tensor", "dict"; "None" for a dropped item; "" for nothing */
} ckpt_change;

typedef struct ckpt_changes ckpt_changes;

/*
 * A copy of a value graph in `doc`, sharing and cycles kept, without what weights_only refuses. Opaque objects are
 * dropped: an entry of a dict or set disappears, an item of a list or tuple becomes None. numpy scalars become numbers,
 * numeric arrays tensors, other arrays lists; dicts and lists of derived classes (defaultdict, deque) plain ones;
 * frozensets sets. A tensor in an unknown wrapper becomes a plain one; a tensor inside a dropped object is reported as
 * dropped too, unless it is kept elsewhere. For 1.13 floats, complex numbers and bytes become tensors, quantised
 * tensors float32, sets lists, Counters dicts, devices strings; tensors of dtypes that it lacks are dropped. *changes
 * (free it) lists everything that is not as it was. CKPT_E_UNSUPPORTED if the root itself would be dropped.
 */
CKPT_API ckpt_status ckpt_value_sanitize(ckpt_value **out, ckpt_changes **changes, ckpt_document *doc,
                                         const ckpt_value *v, ckpt_profile profile, ckpt_error *err);
CKPT_API size_t ckpt_changes_count(const ckpt_changes *changes);
CKPT_API const ckpt_change *ckpt_changes_at(const ckpt_changes *changes, size_t i); /* NULL past the end */
CKPT_API void ckpt_changes_free(ckpt_changes *changes);

/* ---- Save -------------------------------------------------------------------------------------------- */

/*
 * Writes `root` as a PyTorch 2.7+ file (protocol 2, 64-byte alignment; the bytes that torch.save writes, the
 * serialization id aside). The file is written under a temporary name in the same directory, synced, checked and
 * renamed; then the directory is synced. On failure the old file of that name is as it was, and no new one exists.
 * CKPT_E_UNSUPPORTED names the path of a value that the format cannot hold.
 */
CKPT_API ckpt_status ckpt_save_file(const char *path, const ckpt_value *root, ckpt_error *err);

#ifdef __cplusplus
}
#endif
#endif
