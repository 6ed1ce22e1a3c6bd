/* test_tensor.c - dtypes, strided views and their bounds, copy, index_select, SHA-256, conjugate and negative bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "tensor.h"

/* AddressSanitizer otherwise ends the program where malloc should give NULL. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }

#define DIMS(...) ((const int64_t[]){__VA_ARGS__})

/* ---- dtypes ---- */

typedef struct dtype_row {
  ckpt_dtype dtype;
  const char *name;
  size_t bytes;
  int number; /* PyTorch's ScalarType, by which the enum is ordered up to the u16 block */
  const char *storage;
} dtype_row;

/* From torch-format.md section 3, not from the table under test. */
static const dtype_row dtypes[] = {
    {CKPT_U8, "uint8", 1, 0, "ByteStorage"},
    {CKPT_I8, "int8", 1, 1, "CharStorage"},
    {CKPT_I16, "int16", 2, 2, "ShortStorage"},
    {CKPT_I32, "int32", 4, 3, "IntStorage"},
    {CKPT_I64, "int64", 8, 4, "LongStorage"},
    {CKPT_F16, "float16", 2, 5, "HalfStorage"},
    {CKPT_F32, "float32", 4, 6, "FloatStorage"},
    {CKPT_F64, "float64", 8, 7, "DoubleStorage"},
    {CKPT_C32, "complex32", 4, 8, "UntypedStorage"},
    {CKPT_C64, "complex64", 8, 9, "ComplexFloatStorage"},
    {CKPT_C128, "complex128", 16, 10, "ComplexDoubleStorage"},
    {CKPT_BOOL, "bool", 1, 11, "BoolStorage"},
    {CKPT_QI8, "qint8", 1, 12, "QInt8Storage"},
    {CKPT_QU8, "quint8", 1, 13, "QUInt8Storage"},
    {CKPT_QI32, "qint32", 4, 14, "QInt32Storage"},
    {CKPT_BF16, "bfloat16", 2, 15, "BFloat16Storage"},
    {CKPT_QU4X2, "quint4x2", 1, 16, "QUInt4x2Storage"},
    {CKPT_QU2X4, "quint2x4", 1, 17, "QUInt2x4Storage"},
    {CKPT_BITS1X8, "bits1x8", 1, 18, "UntypedStorage"},
    {CKPT_BITS2X4, "bits2x4", 1, 19, "UntypedStorage"},
    {CKPT_BITS4X2, "bits4x2", 1, 20, "UntypedStorage"},
    {CKPT_BITS8, "bits8", 1, 21, "UntypedStorage"},
    {CKPT_BITS16, "bits16", 2, 22, "UntypedStorage"},
    {CKPT_F8_E5M2, "float8_e5m2", 1, 23, "UntypedStorage"},
    {CKPT_F8_E4M3FN, "float8_e4m3fn", 1, 24, "UntypedStorage"},
    {CKPT_F8_E5M2FNUZ, "float8_e5m2fnuz", 1, 25, "UntypedStorage"},
    {CKPT_F8_E4M3FNUZ, "float8_e4m3fnuz", 1, 26, "UntypedStorage"},
    {CKPT_U16, "uint16", 2, 27, "UntypedStorage"},
    {CKPT_U32, "uint32", 4, 28, "UntypedStorage"},
    {CKPT_U64, "uint64", 8, 29, "UntypedStorage"},
    {CKPT_F8_E8M0FNU, "float8_e8m0fnu", 1, 30, "UntypedStorage"},
    {CKPT_F4_E2M1FN_X2, "float4_e2m1fn_x2", 1, 31, "UntypedStorage"},
    {CKPT_BC32, "bcomplex32", 4, 32, "UntypedStorage"},
};

static void every_dtype(void **state) {
  (void)state;
  assert_int_equal(CKPT_COUNTOF(dtypes), CKPT_DTYPE_COUNT);
  for (size_t i = 0; i < CKPT_COUNTOF(dtypes); i++) {
    const dtype_row *r = &dtypes[i];
    ckpt_dtype parsed = CKPT_DTYPE_COUNT;
    assert_int_equal(r->dtype, r->number);
    assert_string_equal(ckpt_dtype_name(r->dtype), r->name);
    assert_int_equal(ckpt_dtype_size(r->dtype), r->bytes);
    assert_string_equal(ckpt_dtype_storage_class(r->dtype), r->storage);
    assert_int_equal(ckpt_dtype_parse(&parsed, r->name, NULL), CKPT_OK);
    assert_int_equal(parsed, r->dtype);
  }
}

static void foreign_dtype_names(void **state) {
  (void)state;
  static const char *const names[] = {"", "float", "Float32", "float32 ", "torch.float32", "uint1"};
  for (size_t i = 0; i < CKPT_COUNTOF(names); i++) {
    ckpt_dtype parsed = CKPT_I16;
    ckpt_error err = {0};
    assert_int_equal(ckpt_dtype_parse(&parsed, names[i], &err), CKPT_E_NOTFOUND);
    assert_int_equal(parsed, CKPT_I16);
    assert_non_null(strstr(err.message, "' is no dtype; one is float32"));
  }
}

static void storage_classes(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(dtypes); i++) {
    ckpt_dtype found = CKPT_DTYPE_COUNT, wanted = dtypes[i].dtype;
    if (strcmp(dtypes[i].storage, "UntypedStorage") == 0) wanted = CKPT_U8;
    assert_int_equal(ckpt_dtype_of_storage_class(&found, dtypes[i].storage, strlen(dtypes[i].storage)), CKPT_OK);
    assert_int_equal(found, wanted);
  }
  ckpt_dtype found = CKPT_I8;
  assert_int_equal(ckpt_dtype_of_storage_class(&found, "Float8_e4m3fnStorage", 20), CKPT_OK);
  assert_int_equal(found, CKPT_F8_E4M3FN);
  assert_int_equal(ckpt_dtype_of_storage_class(&found, "FloatStorage", 11), CKPT_E_NOTFOUND);
  assert_int_equal(ckpt_dtype_of_storage_class(&found, "FloatTensor", 11), CKPT_E_NOTFOUND);
  assert_int_equal(found, CKPT_F8_E4M3FN);
}

static void units_of_dtypes(void **state) {
  (void)state;
  assert_int_equal(ckpt_dtype_swap_unit(CKPT_C64), 4);
  assert_int_equal(ckpt_dtype_swap_unit(CKPT_C128), 8);
  assert_int_equal(ckpt_dtype_swap_unit(CKPT_C32), 2);
  assert_int_equal(ckpt_dtype_swap_unit(CKPT_F64), 8);
  assert_int_equal(ckpt_dtype_swap_unit(CKPT_BOOL), 1);
  assert_int_equal(ckpt_dtype_per_byte(CKPT_QU4X2), 2);
  assert_int_equal(ckpt_dtype_per_byte(CKPT_QU2X4), 4);
  assert_int_equal(ckpt_dtype_per_byte(CKPT_U8), 1);
}

/* ---- shapes and strides ---- */

static ckpt_tensor *fresh(ckpt_dtype dtype, int ndim, const int64_t *shape) {
  ckpt_tensor *t = NULL;
  assert_int_equal(ckpt_tensor_new(&t, dtype, ndim, shape, NULL), CKPT_OK);
  return t;
}

static ckpt_tensor *view(const ckpt_tensor *base, int64_t offset, int ndim, const int64_t *shape,
                         const int64_t *stride) {
  ckpt_tensor *t = NULL;
  assert_int_equal(ckpt_tensor_view(&t, base, offset, ndim, shape, stride, NULL), CKPT_OK);
  return t;
}

typedef struct stride_case {
  int ndim;
  int64_t shape[4], stride[4], numel;
} stride_case;

/* Strides as the specification of the task has them: a size of 1 or 0 does not grow the stride. */
static const stride_case stride_cases[] = {
    {0, {0}, {0}, 1},
    {1, {5}, {1}, 5},
    {2, {2, 3}, {3, 1}, 6},
    {3, {2, 3, 4}, {12, 4, 1}, 24},
    {3, {2, 1, 4}, {4, 4, 1}, 8},
    {4, {1, 1, 1, 1}, {1, 1, 1, 1}, 1},
    {2, {3, 0}, {1, 1}, 0},
    {3, {2, 0, 3}, {3, 3, 1}, 0},
    {1, {0}, {1}, 0},
};

static void contiguous_strides(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(stride_cases); i++) {
    const stride_case *c = &stride_cases[i];
    ckpt_tensor *t = fresh(CKPT_F32, c->ndim, c->shape);
    assert_int_equal(ckpt_tensor_ndim(t), c->ndim);
    assert_int_equal(ckpt_tensor_numel(t), c->numel);
    assert_int_equal(ckpt_tensor_nbytes(t), c->numel * 4);
    assert_int_equal(ckpt_tensor_offset(t), 0);
    assert_true(ckpt_tensor_is_contiguous(t));
    for (int d = 0; d < c->ndim; d++) assert_int_equal(ckpt_tensor_shape(t)[d], c->shape[d]);
    for (int d = 0; d < c->ndim; d++) assert_int_equal(ckpt_tensor_stride(t)[d], c->stride[d]);
    ckpt_tensor_release(t);
  }
}

static void what_is_contiguous(void **state) {
  (void)state;
  ckpt_tensor *base = fresh(CKPT_F32, 1, DIMS(24)), *t;
  struct {
    int64_t shape[3], stride[3];
    bool contiguous;
  } rows[] = {{{2, 3, 4}, {12, 4, 1}, true},  {{2, 1, 4}, {4, 99, 1}, true}, {{2, 3, 4}, {1, 2, 6}, false},
              {{2, 3, 2}, {12, 4, 2}, false}, {{1, 1, 1}, {7, 7, 7}, true},  {{2, 0, 4}, {99, 3, 99}, true}};
  for (size_t i = 0; i < CKPT_COUNTOF(rows); i++) {
    t = view(base, 0, 3, rows[i].shape, rows[i].stride);
    assert_int_equal(ckpt_tensor_is_contiguous(t), rows[i].contiguous);
    ckpt_tensor_release(t);
  }
  ckpt_tensor_release(base);
}

static void new_tensors_are_zero_and_counted(void **state) {
  (void)state;
  ckpt_tensor *t = fresh(CKPT_F64, 1, DIMS(100));
  const void *data;
  static const unsigned char zeros[800];
  assert_int_equal(ckpt_tensor_data(&data, t, NULL), CKPT_OK);
  assert_memory_equal(data, zeros, 800);
  assert_int_equal(ckpt_tensor_heap_bytes(t), 800);
  assert_ptr_equal(ckpt_tensor_retain(t), t);
  ckpt_tensor_release(t);
  assert_int_equal(ckpt_tensor_dtype(t), CKPT_F64);
  ckpt_tensor_release(t);
  ckpt_tensor_release(NULL);
}

static void a_view_keeps_the_storage(void **state) {
  (void)state;
  ckpt_tensor *base = fresh(CKPT_U8, 1, DIMS(8));
  ckpt_tensor *t = view(base, 3, 1, DIMS(2), DIMS(1));
  const void *start, *data;
  assert_int_equal(ckpt_tensor_data(&start, base, NULL), CKPT_OK);
  assert_true(ckpt_tensor_shares_storage(base, t));
  ckpt_tensor_release(base);
  assert_int_equal(ckpt_tensor_data(&data, t, NULL), CKPT_OK);
  assert_ptr_equal(data, (const char *)start + 3);
  assert_int_equal(*(const unsigned char *)data, 0);
  ckpt_tensor_release(t);
}

static void borrowed_memory(void **state) {
  (void)state;
  float values[6] = {0, 1, 2, 3, 4, 5};
  ckpt_tensor *t = NULL;
  ckpt_error err = {0};
  const void *data;
  assert_int_equal(ckpt_tensor_borrow(&t, CKPT_F32, values, 2, DIMS(2, 3), NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_data(&data, t, NULL), CKPT_OK);
  assert_ptr_equal(data, values);
  assert_int_equal(ckpt_tensor_heap_bytes(t), 0);
  ckpt_tensor_release(t);
  t = NULL;
  assert_int_equal(ckpt_tensor_borrow(&t, CKPT_F32, NULL, 2, DIMS(2, 3), &err), CKPT_E_ARGUMENT);
  assert_string_equal(err.message, "no data for a tensor of 24 bytes");
  assert_null(t);
  assert_int_equal(ckpt_tensor_borrow(&t, CKPT_F32, NULL, 2, DIMS(2, 0), &err), CKPT_OK);
  ckpt_tensor_release(t);
}

static void meta_tensors(void **state) {
  (void)state;
  ckpt_tensor *a = NULL, *b = NULL;
  ckpt_error err = {0};
  const void *data = &err;
  char hex[65];
  assert_int_equal(ckpt_tensor_meta(&a, CKPT_F32, 2, DIMS(1000000, 1000000), NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_meta(&b, CKPT_F32, 2, DIMS(1000000, 1000000), NULL), CKPT_OK);
  assert_true(ckpt_tensor_is_meta(a));
  assert_false(ckpt_tensor_shares_storage(a, b));
  assert_int_equal(ckpt_tensor_heap_bytes(a), 0);
  assert_int_equal(ckpt_tensor_data(&data, a, &err), CKPT_E_ARGUMENT);
  assert_string_equal(err.message, "a meta tensor has no data");
  assert_ptr_equal(data, &err);
  assert_int_equal(ckpt_tensor_sha256(hex, a, NULL), CKPT_E_ARGUMENT);
  assert_int_equal(ckpt_tensor_copy(a, b, NULL), CKPT_E_ARGUMENT);
  ckpt_tensor_release(a);
  ckpt_tensor_release(b);
}

/* ---- bounds ---- */

typedef struct bound_case {
  int64_t offset;
  int ndim;
  int64_t shape[3], stride[3];
  ckpt_status status;
  const char *message; /* NULL: fits */
} bound_case;

/* Views of a storage of 10 float32. */
static const bound_case bound_cases[] = {
    {0, 1, {10}, {1}, CKPT_OK, NULL},
    {0, 1, {11}, {1}, CKPT_E_RANGE, "the storage holds 40 bytes, the view needs 44"},
    {1, 1, {10}, {1}, CKPT_E_RANGE, "the storage holds 40 bytes, the view needs 44"},
    {9, 1, {1}, {1}, CKPT_OK, NULL},
    {10, 1, {1}, {1}, CKPT_E_RANGE, "the storage holds 40 bytes, the view needs 44"},
    {9, 0, {0}, {0}, CKPT_OK, NULL},
    {10, 0, {0}, {0}, CKPT_E_RANGE, "the storage holds 40 bytes, the view needs 44"},
    {0, 1, {4}, {3}, CKPT_OK, NULL},
    {1, 1, {4}, {3}, CKPT_E_RANGE, "the storage holds 40 bytes, the view needs 44"},
    {0, 2, {3, 2}, {4, 1}, CKPT_OK, NULL},
    {0, 2, {3, 3}, {4, 1}, CKPT_E_RANGE, "the storage holds 40 bytes, the view needs 44"},
    {9, 1, {1000000}, {0}, CKPT_OK, NULL},
    {10, 1, {1000000}, {0}, CKPT_E_RANGE, "the storage holds 40 bytes, the view needs 44"},
    {9, 1, {1}, {INT64_MAX}, CKPT_OK, NULL}, /* a stride over one element goes nowhere */
    {10, 1, {0}, {1}, CKPT_OK, NULL},        /* empty: any offset */
    {INT64_MAX, 1, {0}, {1}, CKPT_OK, NULL},
    {INT64_MAX, 2, {5, 0}, {INT64_MAX, INT64_MAX}, CKPT_OK, NULL},
    {-1, 1, {1}, {1}, CKPT_E_RANGE, "storage offset -1 is negative"},
    {-1, 1, {0}, {1}, CKPT_E_RANGE, "storage offset -1 is negative"},
    {INT64_MIN, 0, {0}, {0}, CKPT_E_RANGE, "storage offset -9223372036854775808 is negative"},
    {0, 2, {2, -1}, {1, 1}, CKPT_E_RANGE, "size -1 of dimension 1 is negative"},
    {0, 2, {0, -1}, {1, 1}, CKPT_E_RANGE, "size -1 of dimension 1 is negative"},
    {0, 2, {2, 2}, {-1, 1}, CKPT_E_RANGE, "stride -1 of dimension 0 is negative"},
    {0, 2, {INT64_MAX, 2}, {0, 0}, CKPT_E_RANGE, "the number of elements does not fit in 63 bits"},
    {0, 3, {INT64_MAX, 2, 0}, {0, 0, 0}, CKPT_OK, NULL},
    {0, 1, {INT64_MAX}, {0}, CKPT_E_RANGE, "the tensor's bytes do not fit in 63 bits"},
    {0, 1, {3}, {INT64_MAX}, CKPT_E_RANGE, "the last element's position does not fit in 63 bits"},
    {INT64_MAX, 1, {2}, {1}, CKPT_E_RANGE, "the last element's position does not fit in 63 bits"},
    {INT64_MAX, 1, {1}, {1}, CKPT_E_RANGE, "the last element's byte does not fit in 63 bits"},
    {INT64_MAX / 4, 1, {1}, {1}, CKPT_E_RANGE, "the last element's byte does not fit in 63 bits"},
    {INT64_MAX / 4 - 1, 1, {1}, {1}, CKPT_E_RANGE, "the storage holds 40 bytes, the view needs 9223372036854775804"},
    {0, -1, {0}, {0}, CKPT_E_LIMIT, "-1 dimensions; at most 64 are supported"},
    {0, 65, {0}, {0}, CKPT_E_LIMIT, "65 dimensions; at most 64 are supported"},
};

static void check_bound(const ckpt_tensor *base, const bound_case *c) {
  ckpt_tensor *t = NULL;
  ckpt_error err = {0};
  assert_int_equal(ckpt_tensor_view(&t, base, c->offset, c->ndim, c->shape, c->stride, &err), c->status);
  if (c->message == NULL) {
    assert_non_null(t);
    const void *data;
    assert_int_equal(ckpt_tensor_data(&data, t, NULL), CKPT_OK);
  } else {
    assert_null(t);
    assert_string_equal(err.message, c->message);
    assert_int_equal(err.position, -1);
  }
  ckpt_tensor_release(t);
}

static void bounds_of_views(void **state) {
  (void)state;
  ckpt_tensor *base = fresh(CKPT_F32, 1, DIMS(10));
  for (size_t i = 0; i < CKPT_COUNTOF(bound_cases); i++) check_bound(base, &bound_cases[i]);
  ckpt_tensor_release(base);
}

static void sixty_four_dimensions(void **state) {
  (void)state;
  int64_t shape[CKPT_MAX_DIMS];
  for (int i = 0; i < CKPT_MAX_DIMS; i++) shape[i] = i % 16 == 0 ? 2 : 1;
  ckpt_tensor *t = fresh(CKPT_U8, CKPT_MAX_DIMS, shape);
  assert_int_equal(ckpt_tensor_numel(t), 16);
  assert_int_equal(ckpt_tensor_stride(t)[0], 8);
  ckpt_tensor_release(t);
}

static void too_large_to_make(void **state) {
  (void)state;
  ckpt_tensor *t = NULL;
  ckpt_error err = {0};
  assert_int_equal(ckpt_tensor_new(&t, CKPT_F64, 1, DIMS(INT64_MAX), &err), CKPT_E_RANGE);
  assert_int_equal(ckpt_tensor_new(&t, CKPT_F64, 1, DIMS(INT64_MAX / 8), &err), CKPT_E_NOMEM);
  assert_string_equal(err.message, "out of memory: 9223372036854775800 bytes could not be had");
  assert_int_equal(ckpt_tensor_new(&t, CKPT_F64, 2, DIMS(2, -2), &err), CKPT_E_RANGE);
  assert_null(t);
}

/* Two or four elements share a byte: no read may go past the storage, whatever the strides say. */
static void packed_dtypes_stay_inside(void **state) {
  (void)state;
  ckpt_tensor *base = NULL, *t = NULL;
  char hex[65];
  unsigned char bytes[3] = {0x21, 0x43, 0x65};
  assert_int_equal(ckpt_tensor_borrow(&base, CKPT_QU4X2, bytes, 1, DIMS(5), NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_nbytes(base), 3);
  assert_int_equal(ckpt_tensor_view(&t, base, 0, 1, DIMS(7), DIMS(1), NULL), CKPT_E_RANGE);
  assert_null(t);
  ckpt_status st = ckpt_tensor_view(&t, base, 0, 1, DIMS(40000), DIMS(0), NULL);
  if (st == CKPT_OK) assert_int_not_equal(ckpt_tensor_sha256(hex, t, NULL), CKPT_OK); /* 3 bytes are not 20000 */
  ckpt_tensor_release(t);
  ckpt_tensor_release(base);
}

/* ---- copy ---- */

/* 0, 1, 2, ... as float32 */
static ckpt_tensor *counting(float *values, int n, int ndim, const int64_t *shape) {
  ckpt_tensor *t = NULL;
  for (int i = 0; i < n; i++) values[i] = (float)i;
  assert_int_equal(ckpt_tensor_borrow(&t, CKPT_F32, values, ndim, shape, NULL), CKPT_OK);
  return t;
}

static const float *floats(const ckpt_tensor *t) {
  const void *data = NULL;
  assert_int_equal(ckpt_tensor_data(&data, t, NULL), CKPT_OK);
  return data;
}

static void copy_contiguous(void **state) {
  (void)state;
  float values[6];
  ckpt_tensor *src = counting(values, 6, 2, DIMS(2, 3)), *dst = fresh(CKPT_F32, 2, DIMS(2, 3));
  assert_int_equal(ckpt_tensor_copy(dst, src, NULL), CKPT_OK);
  assert_memory_equal(floats(dst), values, sizeof values);
  ckpt_tensor_release(src);
  ckpt_tensor_release(dst);
}

static void copy_permuted(void **state) {
  (void)state;
  float values[24];
  ckpt_tensor *base = counting(values, 24, 3, DIMS(2, 3, 4));
  ckpt_tensor *src = view(base, 0, 3, DIMS(4, 2, 3), DIMS(1, 12, 4)), *dst = fresh(CKPT_F32, 3, DIMS(4, 2, 3));
  assert_int_equal(ckpt_tensor_copy(dst, src, NULL), CKPT_OK);
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 2; j++)
      for (int k = 0; k < 3; k++) assert_true(floats(dst)[i * 6 + j * 3 + k] == (float)(i + 12 * j + 4 * k));
  ckpt_tensor_release(base);
  ckpt_tensor_release(src);
  ckpt_tensor_release(dst);
}

/* Every element size takes a path of its own through the strided copy. */
static void copy_strided_of_every_size(void **state) {
  (void)state;
  static const ckpt_dtype types[] = {CKPT_U8, CKPT_I16, CKPT_F32, CKPT_F64, CKPT_C128};
  for (size_t i = 0; i < CKPT_COUNTOF(types); i++) {
    size_t size = ckpt_dtype_size(types[i]);
    unsigned char bytes[160];
    const void *data;
    for (size_t k = 0; k < sizeof bytes; k++) bytes[k] = (unsigned char)k;
    ckpt_tensor *base = NULL, *dst = fresh(types[i], 1, DIMS(3));
    assert_int_equal(ckpt_tensor_borrow(&base, types[i], bytes, 1, DIMS(10), NULL), CKPT_OK);
    ckpt_tensor *src = view(base, 1, 1, DIMS(3), DIMS(4));
    assert_int_equal(ckpt_tensor_copy(dst, src, NULL), CKPT_OK);
    assert_int_equal(ckpt_tensor_data(&data, dst, NULL), CKPT_OK);
    for (size_t k = 0; k < 3; k++)
      assert_memory_equal((const unsigned char *)data + k * size, bytes + (1 + 4 * k) * size, size);
    ckpt_tensor_release(base);
    ckpt_tensor_release(src);
    ckpt_tensor_release(dst);
  }
}

static void copy_expanded(void **state) {
  (void)state;
  float values[3];
  ckpt_tensor *base = counting(values, 3, 1, DIMS(3));
  ckpt_tensor *src = view(base, 1, 2, DIMS(2, 2), DIMS(0, 1)), *dst = fresh(CKPT_F32, 2, DIMS(2, 2));
  assert_int_equal(ckpt_tensor_copy(dst, src, NULL), CKPT_OK);
  assert_memory_equal(floats(dst), ((const float[]){1, 2, 1, 2}), 16);
  ckpt_tensor_release(base);
  ckpt_tensor_release(src);
  ckpt_tensor_release(dst);
}

/* More than one block of the buffer, strided and cast in one go. */
static void copy_casts_strided(void **state) {
  (void)state;
  enum { N = 9000 };
  static float values[2 * N];
  ckpt_tensor *base = counting(values, 2 * N, 1, DIMS(2 * N));
  ckpt_tensor *src = view(base, 1, 1, DIMS(N), DIMS(2)), *dst = fresh(CKPT_I64, 1, DIMS(N));
  const void *data;
  assert_int_equal(ckpt_tensor_copy(dst, src, NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_data(&data, dst, NULL), CKPT_OK);
  for (int i = 0; i < N; i++) assert_int_equal(((const int64_t *)data)[i], 2 * i + 1);
  ckpt_tensor_release(base);
  ckpt_tensor_release(src);
  ckpt_tensor_release(dst);
}

static void copy_scalar_and_empty(void **state) {
  (void)state;
  float values[2];
  ckpt_tensor *base = counting(values, 2, 1, DIMS(2));
  ckpt_tensor *src = view(base, 1, 0, NULL, NULL), *dst = fresh(CKPT_F32, 0, NULL);
  assert_int_equal(ckpt_tensor_copy(dst, src, NULL), CKPT_OK);
  assert_true(floats(dst)[0] == 1.0f);
  ckpt_tensor_release(src);
  ckpt_tensor_release(dst);
  src = view(base, 99, 2, DIMS(0, 3), DIMS(3, 1));
  dst = fresh(CKPT_F32, 2, DIMS(0, 3));
  assert_int_equal(ckpt_tensor_copy(dst, src, NULL), CKPT_OK);
  ckpt_tensor_release(src);
  ckpt_tensor_release(dst);
  ckpt_tensor_release(base);
}

typedef struct refusal {
  ckpt_dtype to, from;
  int64_t to_size, from_size;
  ckpt_status status;
  const char *message;
} refusal;

static void refused_copies(void **state) {
  (void)state;
  static const refusal rows[] = {
      {CKPT_F32, CKPT_F32, 2, 3, CKPT_E_SHAPE, "source and destination have different shapes"},
      {CKPT_F32, CKPT_C64, 2, 2, CKPT_E_UNSUPPORTED,
       "no cast from complex64 to float32: the imaginary parts would be lost"},
      {CKPT_U8, CKPT_QU8, 2, 2, CKPT_E_UNSUPPORTED, "no cast from quint8 to uint8"},
      {CKPT_F32, CKPT_F4_E2M1FN_X2, 2, 2, CKPT_E_UNSUPPORTED, "no cast from float4_e2m1fn_x2 to float32"},
  };
  for (size_t i = 0; i < CKPT_COUNTOF(rows); i++) {
    ckpt_tensor *dst = fresh(rows[i].to, 1, &rows[i].to_size), *src = fresh(rows[i].from, 1, &rows[i].from_size);
    ckpt_error err = {0};
    assert_int_equal(ckpt_tensor_copy(dst, src, &err), rows[i].status);
    assert_string_equal(err.message, rows[i].message);
    ckpt_tensor_release(dst);
    ckpt_tensor_release(src);
  }
}

static void copy_into_a_view(void **state) {
  (void)state;
  float values[6];
  ckpt_tensor *src = counting(values, 6, 2, DIMS(3, 2)), *base = fresh(CKPT_I32, 2, DIMS(2, 3));
  ckpt_tensor *dst = view(base, 0, 2, DIMS(3, 2), DIMS(1, 3));
  const void *data;
  assert_int_equal(ckpt_tensor_copy(dst, src, NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_data(&data, base, NULL), CKPT_OK);
  assert_memory_equal(data, ((const int32_t[]){0, 2, 4, 1, 3, 5}), 24);
  assert_int_equal(ckpt_tensor_copy(base, src, NULL), CKPT_E_SHAPE); /* [2, 3] is not [3, 2] */
  ckpt_tensor_release(src);
  ckpt_tensor_release(dst);
  ckpt_tensor_release(base);
}

static void copy_onto_itself(void **state) {
  (void)state;
  float values[9];
  ckpt_tensor *t = counting(values, 9, 2, DIMS(3, 3)), *across = view(t, 0, 2, DIMS(3, 3), DIMS(1, 3));
  assert_int_equal(ckpt_tensor_copy(t, across, NULL), CKPT_OK); /* transposed in place */
  assert_memory_equal(values, ((const float[]){0, 3, 6, 1, 4, 7, 2, 5, 8}), 36);
  ckpt_tensor_release(across);
  ckpt_tensor_release(t);
}

static void destinations_that_cannot_be(void **state) {
  (void)state;
  ckpt_error err = {0};
  float values[4];
  ckpt_tensor *src = counting(values, 4, 2, DIMS(2, 2)), *base = fresh(CKPT_F32, 1, DIMS(2)), *meta = NULL;
  ckpt_tensor *dst = view(base, 0, 2, DIMS(2, 2), DIMS(0, 1));
  assert_int_equal(ckpt_tensor_copy(dst, src, &err), CKPT_E_UNSUPPORTED);
  assert_string_equal(err.message, "several elements of the destination tensor lie in one place");
  assert_int_equal(ckpt_tensor_check_writable(dst, &err), CKPT_E_UNSUPPORTED);
  assert_string_equal(err.message, "the destination tensor is not contiguous");
  assert_int_equal(ckpt_tensor_meta(&meta, CKPT_F32, 2, DIMS(2, 2), NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_copy(meta, src, &err), CKPT_E_ARGUMENT);
  assert_string_equal(err.message, "the destination tensor is read-only");
  ckpt_tensor_release(src);
  ckpt_tensor_release(dst);
  ckpt_tensor_release(base);
  ckpt_tensor_release(meta);
}

/* ---- conjugate and negative bits ---- */

static ckpt_tensor *with_bits(ckpt_tensor *base, bool conj, bool neg) {
  ckpt_tensor *t = NULL;
  ckpt_tensor_spec spec = {.dtype = ckpt_tensor_dtype(base), .ndim = 1, .shape = DIMS(2), .conj = conj, .neg = neg};
  assert_int_equal(ckpt_tensor_make(&t, ckpt_tensor_storage(base), &spec, NULL), CKPT_OK);
  return t;
}

static void check_bits(ckpt_tensor *base, bool conj, bool neg, const float *wanted) {
  ckpt_tensor *src = with_bits(base, conj, neg), *dst = fresh(CKPT_C64, 1, DIMS(2));
  char a[65], b[65];
  assert_int_equal(ckpt_tensor_copy(dst, src, NULL), CKPT_OK);
  assert_memory_equal(floats(dst), wanted, 16);
  assert_int_equal(ckpt_tensor_sha256(a, src, NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_sha256(b, dst, NULL), CKPT_OK);
  assert_string_equal(a, b);
  ckpt_tensor_release(src);
  ckpt_tensor_release(dst);
}

static void conjugate_and_negative(void **state) {
  (void)state;
  float values[4] = {1, 2, -3, -4};
  ckpt_tensor *base = NULL;
  assert_int_equal(ckpt_tensor_borrow(&base, CKPT_C64, values, 1, DIMS(2), NULL), CKPT_OK);
  check_bits(base, true, false, (const float[]){1, -2, -3, 4});
  check_bits(base, false, true, (const float[]){-1, -2, 3, 4});
  check_bits(base, true, true, (const float[]){-1, 2, 3, -4});
  check_bits(base, false, false, values);
  ckpt_tensor_release(base);
}

static void negative_of_a_real_tensor(void **state) {
  (void)state;
  double values[2] = {1.5, -0.0};
  ckpt_tensor *base = NULL;
  assert_int_equal(ckpt_tensor_borrow(&base, CKPT_F64, values, 1, DIMS(2), NULL), CKPT_OK);
  ckpt_tensor *src = with_bits(base, false, true), *dst = fresh(CKPT_F64, 1, DIMS(2));
  assert_int_equal(ckpt_tensor_copy(dst, src, NULL), CKPT_OK);
  assert_memory_equal(floats(dst), ((const double[]){-1.5, 0.0}), 16);
  assert_int_equal(ckpt_tensor_copy(src, dst, NULL), CKPT_E_UNSUPPORTED); /* not into such a view */
  ckpt_tensor_release(base);
  ckpt_tensor_release(src);
  ckpt_tensor_release(dst);
}

static void requires_grad_is_of_the_handle(void **state) {
  (void)state;
  ckpt_tensor *t = fresh(CKPT_F32, 1, DIMS(3)), *grad = NULL;
  assert_int_equal(ckpt_tensor_with_grad(&grad, t, true, NULL), CKPT_OK);
  assert_true(ckpt_tensor_requires_grad(grad));
  assert_false(ckpt_tensor_requires_grad(t));
  assert_true(ckpt_tensor_shares_storage(grad, t));
  ckpt_tensor_release(grad);
  ckpt_tensor_release(t);
}

/* ---- index_select ---- */

static ckpt_tensor *selected(const ckpt_tensor *t, int dim, size_t n, const int64_t *index) {
  ckpt_tensor *out = NULL;
  assert_int_equal(ckpt_tensor_index_select(&out, t, dim, n, index, NULL), CKPT_OK);
  assert_true(ckpt_tensor_is_contiguous(out));
  return out;
}

static void select_rows_and_columns(void **state) {
  (void)state;
  float values[6];
  ckpt_tensor *t = counting(values, 6, 2, DIMS(2, 3));
  ckpt_tensor *rows = selected(t, 0, 3, DIMS(1, 0, 1)), *columns = selected(t, -1, 2, DIMS(2, 0));
  assert_int_equal(ckpt_tensor_shape(rows)[0], 3);
  assert_memory_equal(floats(rows), ((const float[]){3, 4, 5, 0, 1, 2, 3, 4, 5}), 36);
  assert_int_equal(ckpt_tensor_shape(columns)[1], 2);
  assert_memory_equal(floats(columns), ((const float[]){2, 0, 5, 3}), 16);
  ckpt_tensor_release(rows);
  ckpt_tensor_release(columns);
  ckpt_tensor_release(t);
}

static void select_from_a_transposed_view(void **state) {
  (void)state;
  float values[24];
  ckpt_tensor *base = counting(values, 24, 1, DIMS(24)), *t = view(base, 0, 3, DIMS(3, 2, 4), DIMS(4, 12, 1));
  ckpt_tensor *out = selected(t, 1, 1, DIMS(1));
  for (int i = 0; i < 3; i++)
    for (int k = 0; k < 4; k++) assert_true(floats(out)[4 * i + k] == (float)(12 + 4 * i + k));
  ckpt_tensor_release(out);
  ckpt_tensor_release(t);
  ckpt_tensor_release(base);
}

static void select_nothing_and_meta(void **state) {
  (void)state;
  ckpt_tensor *t = fresh(CKPT_F32, 2, DIMS(2, 3)), *meta = NULL;
  ckpt_tensor *out = selected(t, 1, 0, NULL);
  assert_int_equal(ckpt_tensor_numel(out), 0);
  assert_int_equal(ckpt_tensor_shape(out)[0], 2);
  ckpt_tensor_release(out);
  assert_int_equal(ckpt_tensor_meta(&meta, CKPT_F32, 2, DIMS(2, 3), NULL), CKPT_OK);
  out = selected(meta, 1, 2, DIMS(0, 0));
  assert_true(ckpt_tensor_is_meta(out));
  assert_int_equal(ckpt_tensor_shape(out)[1], 2);
  ckpt_tensor_release(out);
  ckpt_tensor_release(meta);
  ckpt_tensor_release(t);
}

static void refuses(const ckpt_tensor *t, int dim, int64_t index, ckpt_status status, const char *message) {
  ckpt_tensor *out = NULL;
  ckpt_error err = {0};
  assert_int_equal(ckpt_tensor_index_select(&out, t, dim, 1, &index, &err), status);
  assert_string_equal(err.message, message);
  assert_null(out);
}

static void refused_selections(void **state) {
  (void)state;
  ckpt_tensor *t = fresh(CKPT_F32, 2, DIMS(2, 3)), *scalar = fresh(CKPT_F32, 0, NULL);
  ckpt_tensor *packed = fresh(CKPT_QU4X2, 1, DIMS(4));
  refuses(t, 2, 0, CKPT_E_RANGE, "there is no dimension 2 in a tensor of 2");
  refuses(t, -3, 0, CKPT_E_RANGE, "there is no dimension -3 in a tensor of 2");
  refuses(scalar, 0, 0, CKPT_E_RANGE, "there is no dimension 0 in a tensor of 0");
  refuses(t, 0, 2, CKPT_E_RANGE, "index 2 is outside dimension 0 of size 2");
  refuses(t, 1, -1, CKPT_E_RANGE, "index -1 is outside dimension 1 of size 3");
  refuses(t, -1, INT64_MIN, CKPT_E_RANGE, "index -9223372036854775808 is outside dimension 1 of size 3");
  refuses(packed, 0, 0, CKPT_E_UNSUPPORTED, "no index_select on packed quint4x2");
  ckpt_tensor_release(t);
  ckpt_tensor_release(scalar);
  ckpt_tensor_release(packed);
}

/* ---- SHA-256 and the spread ---- */

static void known_digests(void **state) {
  (void)state;
  char text[] = "abc", hex[65];
  ckpt_tensor *t = NULL;
  assert_int_equal(ckpt_tensor_borrow(&t, CKPT_U8, text, 1, DIMS(3), NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_sha256(hex, t, NULL), CKPT_OK);
  assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  ckpt_tensor *empty = view(t, 0, 1, DIMS(0), DIMS(1));
  assert_int_equal(ckpt_tensor_sha256(hex, empty, NULL), CKPT_OK);
  assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  ckpt_tensor *a = view(t, 0, 1, DIMS(1000000), DIMS(0)); /* FIPS 180-2: a million times "a" */
  assert_int_equal(ckpt_tensor_sha256(hex, a, NULL), CKPT_OK);
  assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  ckpt_tensor_release(a);
  ckpt_tensor_release(empty);
  ckpt_tensor_release(t);
}

static void digest_is_of_the_logical_order(void **state) {
  (void)state;
  float values[6], turned[6] = {0, 3, 1, 4, 2, 5};
  char a[65], b[65], c[65];
  ckpt_tensor *t = counting(values, 6, 2, DIMS(2, 3)), *plain = NULL;
  ckpt_tensor *transposed = view(t, 0, 2, DIMS(3, 2), DIMS(1, 3));
  assert_int_equal(ckpt_tensor_borrow(&plain, CKPT_F32, turned, 2, DIMS(3, 2), NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_sha256(a, transposed, NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_sha256(b, plain, NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_sha256(c, t, NULL), CKPT_OK);
  assert_string_equal(a, b);
  assert_string_not_equal(a, c);
  ckpt_tensor_release(t);
  ckpt_tensor_release(plain);
  ckpt_tensor_release(transposed);
}

/* A view of one element with stride 0 must not be spelled out for 2^40 elements. */
static void the_spread_is_limited(void **state) {
  (void)state;
  char hex[65];
  ckpt_tensor *base = fresh(CKPT_F32, 1, DIMS(1)), *out = NULL;
  ckpt_tensor *huge = view(base, 0, 2, DIMS(INT64_C(1) << 40, 1), DIMS(0, 0));
  ckpt_tensor *large = view(base, 0, 1, DIMS(1 << 24), DIMS(0)); /* 64 MiB: still allowed */
  ckpt_error err = {0};
  assert_int_equal(ckpt_tensor_sha256(hex, huge, &err), CKPT_E_LIMIT);
  assert_string_equal(err.message, "the view spreads a storage of 4 bytes over 4398046511104");
  assert_int_equal(ckpt_tensor_index_select(&out, huge, 1, 1, DIMS(0), &err), CKPT_E_LIMIT);
  assert_null(out);
  assert_int_equal(ckpt_tensor_check_spread(large, &err), CKPT_OK);
  assert_int_equal(ckpt_tensor_check_spread(base, &err), CKPT_OK);
  ckpt_tensor_release(large);
  ckpt_tensor_release(huge);
  ckpt_tensor_release(base);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_dtype),
      cmocka_unit_test(foreign_dtype_names),
      cmocka_unit_test(storage_classes),
      cmocka_unit_test(units_of_dtypes),
      cmocka_unit_test(contiguous_strides),
      cmocka_unit_test(what_is_contiguous),
      cmocka_unit_test(new_tensors_are_zero_and_counted),
      cmocka_unit_test(a_view_keeps_the_storage),
      cmocka_unit_test(borrowed_memory),
      cmocka_unit_test(meta_tensors),
      cmocka_unit_test(bounds_of_views),
      cmocka_unit_test(sixty_four_dimensions),
      cmocka_unit_test(too_large_to_make),
      cmocka_unit_test(packed_dtypes_stay_inside),
      cmocka_unit_test(copy_contiguous),
      cmocka_unit_test(copy_permuted),
      cmocka_unit_test(copy_strided_of_every_size),
      cmocka_unit_test(copy_expanded),
      cmocka_unit_test(copy_casts_strided),
      cmocka_unit_test(copy_scalar_and_empty),
      cmocka_unit_test(refused_copies),
      cmocka_unit_test(copy_into_a_view),
      cmocka_unit_test(copy_onto_itself),
      cmocka_unit_test(destinations_that_cannot_be),
      cmocka_unit_test(conjugate_and_negative),
      cmocka_unit_test(negative_of_a_real_tensor),
      cmocka_unit_test(requires_grad_is_of_the_handle),
      cmocka_unit_test(select_rows_and_columns),
      cmocka_unit_test(select_from_a_transposed_view),
      cmocka_unit_test(select_nothing_and_meta),
      cmocka_unit_test(refused_selections),
      cmocka_unit_test(known_digests),
      cmocka_unit_test(digest_is_of_the_logical_order),
      cmocka_unit_test(the_spread_is_limited),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
