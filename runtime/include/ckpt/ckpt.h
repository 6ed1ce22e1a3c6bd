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
 * CKPT_E_ARGUMENT for a meta tensor. Valid while the tensor lives; read-only unless the caller made the storage. In a
 * file whose bytes are not aligned (legacy, torch.distributed.checkpoint) the address is not either: memcpy elements.
 * Conjugate and negative bits are not applied here, ckpt_tensor_copy applies them. Thread-safe.
 */
CKPT_API ckpt_status ckpt_tensor_data(const void **out, const ckpt_tensor *t, ckpt_error *err);

/*
 * dst[...] = src[...] element by element, in logical order, cast where the dtypes differ (see ckpt_tensor_to). Shapes
 * must be equal (CKPT_E_SHAPE). dst must be writable; it may be a view, even of src's storage, but not one with several
 * elements in one place (CKPT_E_UNSUPPORTED).
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

/* Elements differ beyond the tolerance where |a - b| > atol + rtol * max(|a|, |b|). All zero: exactly equal or not. */
typedef struct ckpt_compare_options {
  double atol, rtol;
  bool equal_nan; /* a NaN equals a NaN */
} ckpt_compare_options;

typedef struct ckpt_comparison {
  int64_t differing; /* elements that are not equal; 0 and -0 are */
  int64_t beyond;    /* of those, beyond the tolerance */
  int64_t unordered; /* of those, a NaN on either side: beyond every tolerance, in no maximum */
  int64_t first;     /* row-major index of the first element beyond the tolerance, or -1 */
  double max_abs;    /* largest |a - b|; infinite beside an infinity */
  double max_rel;    /* largest |a - b| / max(|a|, |b|) */
} ckpt_comparison;

/*
 * Compares two tensors of one shape (CKPT_E_SHAPE) block by block, without a copy of either. Dtypes may differ:
 * integers are compared exactly, all else as doubles (complex numbers by the modulus of the difference); quantised and
 * bit dtypes only with the same dtype, as the integers that are stored (packed ones by the byte). CKPT_E_UNSUPPORTED
 * for other pairs, CKPT_E_ARGUMENT for a meta tensor. options NULL: all zero. Thread-safe.
 */
CKPT_API ckpt_status ckpt_tensor_compare(ckpt_comparison *out, const ckpt_tensor *a, const ckpt_tensor *b,
                                         const ckpt_compare_options *options, ckpt_error *err);

/* Heap memory that the tensor's storage holds now: 0 for a borrowed, mapped or meta one. Thread-safe. */
CKPT_API size_t ckpt_tensor_heap_bytes(const ckpt_tensor *t);

/* ---- Views of tensors -------------------------------------------------------------------------------- */

/*
 * A view shares its storage: no data is read or moved. Dimensions count from 0, negative ones from the end. All of
 * these fail with CKPT_E_RANGE for a dimension, index or size that is not there, and with CKPT_E_UNSUPPORTED for the
 * packed dtypes (quint4x2, quint2x4), whose elements share bytes. A meta tensor gives a meta tensor. Thread-safe.
 */

/* Entry `index` of dimension `dim` (negative: from the end), without that dimension. */
CKPT_API ckpt_status ckpt_tensor_select(ckpt_tensor **out, const ckpt_tensor *t, int dim, int64_t index,
                                        ckpt_error *err);

/* Entries first, first + step, ... below `last` of a dimension: 0 <= first <= last <= size, step >= 1. */
CKPT_API ckpt_status ckpt_tensor_slice(ckpt_tensor **out, const ckpt_tensor *t, int dim, int64_t first, int64_t last,
                                       int64_t step, ckpt_error *err);

/* Dimension i of the result is dimension dims[i] of t; each of its ndim dimensions is named once. */
CKPT_API ckpt_status ckpt_tensor_permute(ckpt_tensor **out, const ckpt_tensor *t, const int *dims, ckpt_error *err);

CKPT_API ckpt_status ckpt_tensor_transpose(ckpt_tensor **out, const ckpt_tensor *t, int a, int b, ckpt_error *err);

/*
 * The same elements in the same order under another shape, of which one size may be -1: what is left. A view where the
 * strides allow it, as in PyTorch; else a lazy copy (see below). CKPT_E_SHAPE if the elements do not fill the shape.
 */
CKPT_API ckpt_status ckpt_tensor_reshape(ckpt_tensor **out, const ckpt_tensor *t, int ndim, const int64_t *shape,
                                         ckpt_error *err);

/* Dimensions first to last become one; a reshape. A 0-dim tensor becomes one of 1 element. */
CKPT_API ckpt_status ckpt_tensor_flatten(ckpt_tensor **out, const ckpt_tensor *t, int first, int last, ckpt_error *err);

/* Without those of the n dimensions that have size 1; n = 0: without any of size 1. */
CKPT_API ckpt_status ckpt_tensor_squeeze(ckpt_tensor **out, const ckpt_tensor *t, int n, const int *dims,
                                         ckpt_error *err);

/* With a new dimension of size 1 before dimension `dim` (ndim or -1: behind the last). */
CKPT_API ckpt_status ckpt_tensor_unsqueeze(ckpt_tensor **out, const ckpt_tensor *t, int dim, ckpt_error *err);

/* Dimensions of size 1 repeated (stride 0) up to `shape`, which may have more at the front; -1 keeps a size. */
CKPT_API ckpt_status ckpt_tensor_expand(ckpt_tensor **out, const ckpt_tensor *t, int ndim, const int64_t *shape,
                                        ckpt_error *err);

/* n views one after another along `dim`, of `sizes`, which add up to its size (else CKPT_E_SHAPE). out[n] is filled. */
CKPT_API ckpt_status ckpt_tensor_split(ckpt_tensor **out, const ckpt_tensor *t, size_t n, const int64_t *sizes, int dim,
                                       ckpt_error *err);

/*
 * At most n >= 1 views of equal size, the last one smaller: size ceil(size/n), so that there may be fewer than n, as
 * in PyTorch. out[n] has room for them; *made is how many.
 */
CKPT_API ckpt_status ckpt_tensor_chunk(ckpt_tensor **out, size_t *made, const ckpt_tensor *t, size_t n, int dim,
                                       ckpt_error *err);

/* ---- Computed tensors -------------------------------------------------------------------------------- */

/*
 * These return at once: shapes, dtypes and bounds are checked, and the result's elements are computed when somebody
 * first looks at them (ckpt_tensor_data), in the thread that does, which can fail with CKPT_E_NOMEM or as the files
 * under the sources do. Copying, comparing, digesting and saving compute without keeping. Results are contiguous and
 * read-only and keep their sources. But a result over a tensor that can be written to (ckpt_tensor_new, _borrow) is
 * computed here and now, and is writable itself; so is every ninth of a chain. Conjugate and negative bits are applied.
 * Meta tensors give meta tensors. CKPT_E_UNSUPPORTED names a dtype for which an operation has no meaning.
 */

/* t itself if it is contiguous and plain, else a copy of its logical contents. */
CKPT_API ckpt_status ckpt_tensor_contiguous(ckpt_tensor **out, const ckpt_tensor *t, ckpt_error *err);

/* The entries `index[0..n)` of dimension `dim`. */
CKPT_API ckpt_status ckpt_tensor_index_select(ckpt_tensor **out, const ckpt_tensor *t, int dim, size_t n,
                                              const int64_t *index, ckpt_error *err);

/* The order of the entries of n dimensions reversed. */
CKPT_API ckpt_status ckpt_tensor_flip(ckpt_tensor **out, const ckpt_tensor *t, int n, const int *dims, ckpt_error *err);

/* Entry i of `dim` moved to i + shift, round the end. */
CKPT_API ckpt_status ckpt_tensor_roll(ckpt_tensor **out, const ckpt_tensor *t, int64_t shift, int dim, ckpt_error *err);

/* n >= 1 tensors of one dtype one after another along `dim`; the other sizes are equal (else CKPT_E_SHAPE). */
CKPT_API ckpt_status ckpt_tensor_cat(ckpt_tensor **out, size_t n, const ckpt_tensor *const *tensors, int dim,
                                     ckpt_error *err);

/* n >= 1 tensors of one dtype and shape along a new dimension before `dim` (ndim or -1: behind the last). */
CKPT_API ckpt_status ckpt_tensor_stack(ckpt_tensor **out, size_t n, const ckpt_tensor *const *tensors, int dim,
                                       ckpt_error *err);

/*
 * The mean of n >= 1 tensors of one floating or complex dtype and one shape: summed and divided in float64, then
 * rounded once to their dtype. Computed when its bytes are needed, with one source's bytes at hand at a time.
 */
CKPT_API ckpt_status ckpt_tensor_average(ckpt_tensor **out, size_t n, const ckpt_tensor *const *tensors,
                                         ckpt_error *err);

/* A number of any dtype. */
typedef enum ckpt_scalar_kind {
  CKPT_SCALAR_BOOL,
  CKPT_SCALAR_INT,
  CKPT_SCALAR_UINT, /* a uint64 beyond int64: `whole` has its bits */
  CKPT_SCALAR_FLOAT,
  CKPT_SCALAR_COMPLEX
} ckpt_scalar_kind;

typedef struct ckpt_scalar {
  ckpt_scalar_kind kind;
  int64_t whole;     /* BOOL, INT, UINT */
  double real, imag; /* FLOAT, COMPLEX */
} ckpt_scalar;

CKPT_API ckpt_scalar ckpt_scalar_int(int64_t i);
CKPT_API ckpt_scalar ckpt_scalar_double(double d);

/*
 * t with before[i] elements of `value` in front of dimension i and after[i] behind it; ndim counts, none negative.
 * CKPT_E_RANGE for a value that the dtype does not hold.
 */
CKPT_API ckpt_status ckpt_tensor_pad(ckpt_tensor **out, const ckpt_tensor *t, const int64_t *before,
                                     const int64_t *after, ckpt_scalar value, ckpt_error *err);

/*
 * t * factor, t + u and t + number, in t's dtype. Integers wrap around and take whole numbers only (CKPT_E_TYPE: cast
 * first); 8- and 16-bit floats are computed in float32 and rounded once, as PyTorch does it, but the number is not
 * rounded to 16 bits first (PyTorch's releases differ in that). u has t's dtype and shape. Not for bool.
 */
CKPT_API ckpt_status ckpt_tensor_scale(ckpt_tensor **out, const ckpt_tensor *t, ckpt_scalar factor, ckpt_error *err);
CKPT_API ckpt_status ckpt_tensor_add(ckpt_tensor **out, const ckpt_tensor *t, const ckpt_tensor *u, ckpt_error *err);
CKPT_API ckpt_status ckpt_tensor_add_number(ckpt_tensor **out, const ckpt_tensor *t, ckpt_scalar number,
                                            ckpt_error *err);

/*
 * t in another dtype, with PyTorch's results: all integers, bool, floats of 8 to 64 bits among each other and to
 * complex, complex to complex. A float that does not fit an integer becomes the nearest bound and NaN 0, where PyTorch
 * has no defined result; uint8 takes the low bits of an int64, as PyTorch does. Complex to real is refused.
 */
CKPT_API ckpt_status ckpt_tensor_to(ckpt_tensor **out, const ckpt_tensor *t, ckpt_dtype dtype, ckpt_error *err);

/* ---- Elements and statistics ------------------------------------------------------------------------- */

/* The element at `index` (ndim of them, negative from the end). CKPT_E_RANGE, CKPT_E_UNSUPPORTED for bits, quantised.
 */
CKPT_API ckpt_status ckpt_tensor_get(ckpt_scalar *out, const ckpt_tensor *t, const int64_t *index, ckpt_error *err);

/*
 * Writes into a tensor that can be written to (CKPT_E_ARGUMENT: clone it first). CKPT_E_RANGE for a number that the
 * dtype does not hold: outside an integer's bounds, or finite but beyond a float's; CKPT_E_TYPE for a fraction into an
 * integer, or an imaginary part into a real. Not to be called while another thread looks at the tensor.
 */
CKPT_API ckpt_status ckpt_tensor_set(ckpt_tensor *t, const int64_t *index, ckpt_scalar value, ckpt_error *err);
CKPT_API ckpt_status ckpt_tensor_fill(ckpt_tensor *t, ckpt_scalar value, ckpt_error *err);

/* Same dtype, shape and logical bits: NaN equals NaN of the same bits, 0 and -0 differ. Two meta tensors have no bits.
 */
CKPT_API ckpt_status ckpt_tensor_equal(bool *out, const ckpt_tensor *a, const ckpt_tensor *b, ckpt_error *err);

/*
 * One pass over the elements in float64. min, max, mean and std are those of the finite ones, NaN if there are none;
 * std is the sample's (divisor n-1, as torch.std), NaN for fewer than two. A complex number counts by its magnitude;
 * it is NaN or infinite if one of its parts is. 64-bit integers beyond 2^53 are rounded.
 */
typedef struct ckpt_stats {
  int64_t count; /* all elements */
  int64_t nan, infinite, zeros;
  double min, max, mean, std;
} ckpt_stats;

/* CKPT_E_ARGUMENT for a meta tensor, CKPT_E_UNSUPPORTED for quantised and bit dtypes. Thread-safe. */
CKPT_API ckpt_status ckpt_tensor_stats(ckpt_stats *out, const ckpt_tensor *t, ckpt_error *err);

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

/* How a pickle makes an object. The state, items and pairs are given to it afterwards. */
typedef enum ckpt_how {
  CKPT_BY_REDUCE,    /* callable(*args) */
  CKPT_BY_NEWOBJ,    /* callable.__new__(callable, *args) */
  CKPT_BY_NEWOBJ_EX, /* the same with kwargs */
  CKPT_BY_PERSID     /* a persistent id; args is the id itself */
} ckpt_how;

/* Attributes: the state of an OBJECT, or what an OrderedDict carries beside its pairs (`_metadata`); may be NULL. */
CKPT_API ckpt_value *ckpt_value_state(const ckpt_value *v);

/* The value under any key of a DICT or OBJECT, compared as Python does (1 == 1.0 == True; tuples by their items). */
CKPT_API ckpt_value *ckpt_value_find(const ckpt_value *v, const ckpt_value *key);

/* True if `item` is in a SET or FROZENSET, or a key of a DICT. Linear for sets. */
CKPT_API bool ckpt_value_contains(const ckpt_value *v, const ckpt_value *item);

/*
 * An INT of any length in decimal, or as Python's hex(); free() the text. Decimal is quadratic: beyond 16 KiB of number
 * it is CKPT_E_LIMIT. CKPT_E_TYPE for another kind.
 */
CKPT_API ckpt_status ckpt_value_int_text(char **out, size_t *n, const ckpt_value *v, bool hex, ckpt_error *err);

/*
 * Equality as Python's == has it, cycles included: numbers by value, dicts whatever their order (two OrderedDicts in
 * order), NaN only with itself; tensors bit for bit in dtype, shape and logical contents; objects by class, arguments
 * and what they were given. Attributes of OrderedDicts do not count. Time is near-linear in the size of both.
 * CKPT_E_CORRUPT or CKPT_E_NOMEM if a tensor's bytes cannot be had.
 */
CKPT_API ckpt_status ckpt_value_equal(bool *out, const ckpt_value *a, const ckpt_value *b, ckpt_error *err);

/*
 * Of a CLASS: what an old file of a whole nn.Module holds besides the name, as STRs: its source text and (*file, may be
 * NULL) the path that it came from. NULL where the file holds none. Inert: it is never run, and not written anew.
 */
CKPT_API ckpt_value *ckpt_value_class_source(const ckpt_value *v, ckpt_value **file);

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
CKPT_API ckpt_status ckpt_value_new_bytearray(ckpt_value **out, ckpt_document *doc, const void *s, size_t n,
                                              ckpt_error *err);
CKPT_API ckpt_status ckpt_value_new_set(ckpt_value **out, ckpt_document *doc, bool frozen, ckpt_error *err);
CKPT_API ckpt_status ckpt_value_new_complex(ckpt_value **out, ckpt_document *doc, double re, double im,
                                            ckpt_error *err);

/* An integer from decimal digits (4300 at most, as in Python) or from "0x" and hexadecimal ones; a sign may precede. */
CKPT_API ckpt_status ckpt_value_new_int_text(ckpt_value **out, ckpt_document *doc, const char *text, size_t n,
                                             ckpt_error *err);

/* A Python name, such as ("torch", "float32"); nothing looks whether there is one. */
CKPT_API ckpt_status ckpt_value_new_class(ckpt_value **out, ckpt_document *doc, const char *module, const char *name,
                                          ckpt_error *err);

/*
 * An object of any class: `callable` a CLASS or OBJECT, `args` a TUPLE, `kwargs` a DICT for CKPT_BY_NEWOBJ_EX and else
 * NULL. State, items and pairs are given to it by ckpt_value_set_state, ckpt_value_append and ckpt_value_put.
 */
CKPT_API ckpt_status ckpt_value_new_object(ckpt_value **out, ckpt_document *doc, ckpt_how how, ckpt_value *callable,
                                           ckpt_value *args, ckpt_value *kwargs, ckpt_error *err);

/* torch.Size, torch.device (no index: a negative one), torch.dtype and nn.Parameter as torch.save writes them. */
CKPT_API ckpt_status ckpt_value_new_size(ckpt_value **out, ckpt_document *doc, size_t n, const int64_t *dims,
                                         ckpt_error *err);
CKPT_API ckpt_status ckpt_value_new_device(ckpt_value **out, ckpt_document *doc, const char *type, int index,
                                           ckpt_error *err);
CKPT_API ckpt_status ckpt_value_new_dtype(ckpt_value **out, ckpt_document *doc, ckpt_dtype dtype, ckpt_error *err);
CKPT_API ckpt_status ckpt_value_new_parameter(ckpt_value **out, ckpt_document *doc, const ckpt_tensor *t,
                                              bool requires_grad, ckpt_error *err);

/* Append to a LIST, an OBJECT or a TUPLE that is being built; set a key of a DICT (replaces, keeping the place). Values
 * must be of one document. */
CKPT_API ckpt_status ckpt_value_append(ckpt_value *list, ckpt_document *doc, ckpt_value *item, ckpt_error *err);
CKPT_API ckpt_status ckpt_value_set(ckpt_value *dict, ckpt_document *doc, const char *key, ckpt_value *item,
                                    ckpt_error *err);

/*
 * Editing in place. All values must be of one document; indices count from 0. CKPT_E_TYPE for a value of another kind
 * (tuples and frozensets cannot be changed) or an unhashable key, CKPT_E_RANGE past the end, CKPT_E_NOTFOUND for a key
 * or item that is not there. What a file had built by a call is written as it is after the edit. Pairs and items of an
 * OBJECT that subclasses dict or list are edited alike. A key or item must not be changed itself while it is one.
 */
CKPT_API ckpt_status ckpt_value_put(ckpt_value *dict, ckpt_document *doc, ckpt_value *key, ckpt_value *item,
                                    ckpt_error *err);
CKPT_API ckpt_status ckpt_value_remove_key(ckpt_value *dict, const ckpt_value *key, ckpt_error *err);

/* Other keys for all pairs, one for each in order; CKPT_E_EXISTS, and nothing changed, if two of them are equal. */
CKPT_API ckpt_status ckpt_value_rename_keys(ckpt_value *dict, ckpt_value *const *keys, ckpt_error *err);

CKPT_API ckpt_status ckpt_value_replace(ckpt_value *list, size_t i, ckpt_value *item, ckpt_error *err);
CKPT_API ckpt_status ckpt_value_insert(ckpt_value *list, ckpt_document *doc, size_t i, ckpt_value *item,
                                       ckpt_error *err);
CKPT_API ckpt_status ckpt_value_remove_item(ckpt_value *list, size_t i, ckpt_error *err);

/* Appends the items of a list, tuple or set. */
CKPT_API ckpt_status ckpt_value_extend(ckpt_value *list, ckpt_document *doc, const ckpt_value *from, ckpt_error *err);

/* Of a SET; linear. Adding what is there already changes nothing. */
CKPT_API ckpt_status ckpt_value_add(ckpt_value *set, ckpt_document *doc, ckpt_value *item, ckpt_error *err);
CKPT_API ckpt_status ckpt_value_discard(ckpt_value *set, ckpt_document *doc, const ckpt_value *item, ckpt_error *err);

/* Gives an OBJECT its state, or an OrderedDict its attributes; NULL takes them away. */
CKPT_API ckpt_status ckpt_value_set_state(ckpt_value *v, ckpt_value *state, ckpt_error *err);

/*
 * A copy of `v` in another document, in which `map` has seen each tensor once, at its first path (as a listing has it).
 * *t is the tensor: it stays, or `map` puts another into it (that reference passes on), or NULL to leave it out: then
 * a dict has no such entry and a list has None. Sharing is kept. A parameter stays one, attributes of tensors stay.
 */
typedef ckpt_status (*ckpt_map_function)(void *context, ckpt_tensor **t, const char *path, ckpt_error *err);
CKPT_API ckpt_status ckpt_value_map(ckpt_value **out, ckpt_document *doc, const ckpt_value *v, ckpt_map_function map,
                                    void *context, ckpt_error *err);

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
 * The tensors of a DICT value, by key, or the parameters and persistent buffers of a whole module (an OBJECT), named as
 * its state_dict() would name them. Entries that are no tensors are left out and counted in *skipped (may be NULL).
 * CKPT_E_TYPE if the value is neither, or a tensor's key is no string; CKPT_E_CORRUPT for a module inside itself,
 * CKPT_E_LIMIT for one of more than a million tensors.
 */
CKPT_API ckpt_status ckpt_state_dict_from_value(ckpt_state_dict **out, const ckpt_value *dict, size_t *skipped,
                                                ckpt_error *err);

/* The names that were left out when it was made of a value, in order; NULL past the last. */
CKPT_API const char *ckpt_state_dict_skipped(const ckpt_state_dict *sd, size_t i);

/*
 * The value of a checkpoint that is a state dict, and its path (free() it): what lies under a key that people use for
 * it
 * ("state_dict", "model_state_dict", "model", "module", "network", "net", "params", "weights", "ema", ... and such a
 * key inside such a key), else the root itself, else the only one that there is at the top level. CKPT_E_NOTFOUND names
 * the keys that are there.
 */
CKPT_API ckpt_status ckpt_state_dict_find(const ckpt_value **out, char **path, const ckpt_value *root, ckpt_error *err);

/* ---- Alignment --------------------------------------------------------------------------------------- */

/*
 * For each target name, the longest source name that is a suffix of it. With `boundary` set ('.'), only whole
 * segments count: the suffix must be the whole name or follow that character. *out gets n_targets indices into
 * sources, SIZE_MAX where none fits; free() it. Of equal source names the last wins.
 * Time is near-linear in the total length of the names: each is hashed once, from its end. CKPT_E_LIMIT from 2^30 names
 * on.
 */
CKPT_API ckpt_status ckpt_align(size_t **out, size_t n_targets, const char *const *targets, size_t n_sources,
                                const char *const *sources, char boundary, ckpt_error *err);

/* ---- Open and inspect -------------------------------------------------------------------------------- */

typedef struct ckpt_checkpoint ckpt_checkpoint;

/*
 * What a file may ask for at most; 0: the default. Beyond it opening fails with CKPT_E_LIMIT. What no limit is needed
 * for is bounded by the bytes that are there: the objects of a pickle take at most 256 bytes for each of its bytes
 * (which is what a list of empty dicts needs), and no tensor is larger than its storage.
 */
typedef struct ckpt_limits {
  size_t depth;   /* values inside one another: 1,000 (PyTorch's own need fewer than 50); from 65,535 on: any depth */
  size_t opcodes; /* of one pickle: 50,000,000 */
  size_t memo;    /* entries of the memo of one pickle: 10,000,000 */
  size_t entries; /* records of a zip archive: 1,000,000 */
  size_t header;  /* bytes of the header of a safetensors file, or of an index of shards: 100,000,000 */
} ckpt_limits;

typedef struct ckpt_open_options {
  bool verify; /* also ckpt_checkpoint_verify (a stored CRC of 0 counts as absent) */
  size_t save; /* which of several saves in one file, from 0; CKPT_E_NOTFOUND if it holds fewer */
  /*
   * Take a zip archive also where another reader might see other records in it: bytes before, between or behind them, a
   * comment, headers that differ from the directory, names that are no plain paths. Nothing that PyTorch writes is so.
   * What cannot be read in one way by us either (two end records, overlapping records, a name twice) stays refused.
   */
  bool lenient;
  ckpt_limits limits;
} ckpt_open_options;

/*
 * Opens a checkpoint by its content, never by its name; a directory that holds `.metadata` (or that file) as a
 * torch.distributed.checkpoint; the index of a sharded set, or a directory with exactly one such index, as one dict of
 * all its files, which lie beside it. Files are mapped; only their directories, headers and pickles are read. Errors:
 * CKPT_E_NOTFOUND, CKPT_E_IO, CKPT_E_FORMAT (foreign file), CKPT_E_CORRUPT, CKPT_E_UNSUPPORTED, CKPT_E_LIMIT. The
 * message begins with `path`. A file must not be shortened while it is open: ckpt itself never changes a published
 * file.
 */
CKPT_API ckpt_status ckpt_checkpoint_open(ckpt_checkpoint **out, const char *path, const ckpt_open_options *options,
                                          ckpt_error *err);

/*
 * The same for a file that is in memory, which must stay there, unchanged, while the checkpoint or a tensor of it
 * lives. `name` begins messages. One file only: the index of a sharded set is refused (CKPT_E_FORMAT).
 */
CKPT_API ckpt_status ckpt_checkpoint_open_memory(ckpt_checkpoint **out, const void *data, size_t size, const char *name,
                                                 const ckpt_open_options *options, ckpt_error *err);
CKPT_API void ckpt_checkpoint_close(ckpt_checkpoint *cp);

/* "torch-zip", "torchscript", "torch-legacy" (before 1.6), "torch-tar" (0.1), "torch-dcp", "safetensors", "sharded",
 * "pickle" */
CKPT_API const char *ckpt_checkpoint_format(const ckpt_checkpoint *cp);
CKPT_API uint64_t ckpt_checkpoint_bytes(const ckpt_checkpoint *cp); /* size of the file, or of all files */

/*
 * How many saves the file holds: several torch.save (legacy format) or pickle.dump calls may have written into it one
 * after the other. 1 for the other formats. What follows the last whole save is not looked at, as PyTorch does not.
 */
CKPT_API size_t ckpt_checkpoint_saves(const ckpt_checkpoint *cp);

/* Bytes behind the last whole save that are none; 0 if every byte of the file is accounted for. */
CKPT_API uint64_t ckpt_checkpoint_trailing(const ckpt_checkpoint *cp);

CKPT_API ckpt_document *ckpt_checkpoint_document(const ckpt_checkpoint *cp);
CKPT_API ckpt_value *ckpt_checkpoint_root(const ckpt_checkpoint *cp);

/*
 * What a file says of itself beside its tensors, a dict: `__metadata__` of a safetensors file (strings), `metadata` of
 * a sharded set's index and what its shards say besides. NULL if it says nothing, and for formats that have no place
 * for it. Lives as long as the document.
 */
CKPT_API ckpt_value *ckpt_checkpoint_metadata(const ckpt_checkpoint *cp);

/*
 * Reads every record once and compares its CRC-32, then the indices of sparse and nested tensors, the scales of
 * quantised ones and the lengths of numpy arrays. CKPT_E_CORRUPT names the record and its byte, or the path. The
 * formats before 1.6 have no checksums; of them every save in the file is read, also the one that is cut off at its
 * end.
 */
CKPT_API ckpt_status ckpt_checkpoint_verify(const ckpt_checkpoint *cp, ckpt_error *err);

/* Records of a zip file, each with the CRC-32 that its directory has (0: none). Formats without records have 0. */
typedef struct ckpt_record {
  const char *name;
  uint64_t bytes; /* unpacked */
  uint32_t crc;
} ckpt_record;

CKPT_API size_t ckpt_checkpoint_record_count(const ckpt_checkpoint *cp);
CKPT_API ckpt_record ckpt_checkpoint_record(const ckpt_checkpoint *cp, size_t i); /* i < count */

/* ckpt_checkpoint_verify in parts: one record alone; everything but the records of a zip file. */
CKPT_API ckpt_status ckpt_checkpoint_check_record(const ckpt_checkpoint *cp, size_t i, ckpt_error *err);
CKPT_API ckpt_status ckpt_checkpoint_check_contents(const ckpt_checkpoint *cp, ckpt_error *err);

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
  const ckpt_value *value; /* a TENSOR, or an OBJECT; of everything: any */
  size_t storage;          /* group number of a tensor's storage, SIZE_MAX for none */
  size_t depth;            /* containers around it */
  size_t parent;           /* bytes of `path` that are the path of the innermost of them */
  bool again;              /* of everything: in a container whose entry has this path as an alias only */
  size_t n_aliases;
  const char *const *aliases;
} ckpt_listing_entry;

CKPT_API ckpt_status ckpt_listing_new(ckpt_listing **out, const ckpt_value *root, ckpt_error *err);

/* All values: containers before what is in them, scalars at each of their paths. Tuples and scalars have no aliases. */
CKPT_API ckpt_status ckpt_listing_everything(ckpt_listing **out, const ckpt_value *root, ckpt_error *err);
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

/*
 * Everything of a value, one step at a time: the value itself at path "", then its parts before what follows them. What
 * is shared is given at each of its paths, but gone into only at the first: the others have `again` set. So a walk ends
 * on cycles and has at most as many steps as the file has references. The graph may be edited during a walk as long as
 * nothing is taken out of what is being walked. CKPT_E_LIMIT for a path of more than 64 KiB.
 */
typedef struct ckpt_walk ckpt_walk;

typedef struct ckpt_walk_step {
  const char *path;  /* valid until the next step; may hold NULs, as keys may */
  size_t length;     /* of the path */
  ckpt_value *value; /* NULL: the walk is over */
  bool again;        /* it was given before, at another path */
} ckpt_walk_step;

CKPT_API ckpt_status ckpt_walk_new(ckpt_walk **out, const ckpt_value *root, ckpt_error *err);
CKPT_API ckpt_status ckpt_walk_next(ckpt_walk_step *step, ckpt_walk *walk, ckpt_error *err);
CKPT_API void ckpt_walk_free(ckpt_walk *walk);

/* ---- Save -------------------------------------------------------------------------------------------- */

/*
 * Writes `root` as a PyTorch 2.7+ file (protocol 2, 64-byte alignment; the bytes that torch.save writes, the
 * serialization id aside). The file is written under a temporary name in the same directory, synced, checked and
 * renamed; then the directory is synced. On failure the old file of that name is as it was, and no new one exists.
 * CKPT_E_UNSUPPORTED names the path of a value that the format cannot hold. Depth has no limit here, but a file of more
 * than 1,000 values inside one another opens only where ckpt_limits allow it.
 */
CKPT_API ckpt_status ckpt_save_file(const char *path, const ckpt_value *root, ckpt_error *err);

/*
 * How to save, all zero for a .pth file with everything in it. Formats that hold tensors only (safetensors, and every
 * sharded set) write them flat, under the paths of ckpt_listing_new.
 */
typedef struct ckpt_save_options {
  const char *format;          /* "pth", "safetensors"; NULL: by the name, ".safetensors" or else pth */
  bool tensors_only;           /* leave out plain values and objects (not the tensors in them); a .pth gets flat, too */
  bool drop_unsupported;       /* leave out tensors that the format has no place for */
  uint64_t shard_bytes;        /* at most so many bytes of tensors in a file; 0: one file */
  size_t n_metadata;           /* pairs in `metadata`: key, value, key, value, ... */
  const char *const *metadata; /* for `__metadata__` of safetensors files and for a set's index */
} ckpt_save_options;

/* What a save did, as lists of names. TIED names were written once, under the name that KEPT has at the same place. */
typedef enum ckpt_saved {
  CKPT_SAVED_FILES,   /* names of the files, the one to open last */
  CKPT_SAVED_TIED,    /* second names of equal views of one storage, in formats that cannot share */
  CKPT_SAVED_KEPT,    /* for each of TIED */
  CKPT_SAVED_COPIED,  /* tensors that shared bytes with another one and no longer do */
  CKPT_SAVED_DROPPED, /* paths of what was left out, as the options said */
  CKPT_SAVED_COUNT
} ckpt_saved;

typedef struct ckpt_save_report ckpt_save_report;
CKPT_API void ckpt_save_report_free(ckpt_save_report *report);
CKPT_API size_t ckpt_save_report_count(const ckpt_save_report *report, ckpt_saved list);
CKPT_API const char *ckpt_save_report_text(const ckpt_save_report *report, ckpt_saved list, size_t i); /* or NULL */

/*
 * Saves as the options say (NULL: as ckpt_save_file does), each file as durably as ckpt_save_file. *report may be asked
 * for (NULL: not). CKPT_E_UNSUPPORTED names, before there is any output, the paths of what the format cannot hold.
 * safetensors: the bytes that the library 0.8 writes; an equal view of one storage under several names is written once,
 * the further names go to `__metadata__` as save_model writes them, and reading restores them.
 * Sharded (only if more than shard_bytes): NAME-00001-of-0000N.EXT, and last NAME.EXT.index.json, as transformers does.
 * A storage stays in one file. CKPT_E_EXISTS if NAME.EXT is there, or an index and one of the new names: no set of
 * files is ever half replaced.
 */
CKPT_API ckpt_status ckpt_save_file_as(ckpt_save_report **report, const char *path, const ckpt_value *root,
                                       const ckpt_save_options *options, ckpt_error *err);

#ifdef __cplusplus
}
#endif
#endif
