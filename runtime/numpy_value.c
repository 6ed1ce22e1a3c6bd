/* numpy_value.c - what a numpy array is to the rest: a tensor, or Python's own numbers and strings. */
#include <stdlib.h>

#include "numpy.h"

/* ---- elements ---- */

typedef struct numpy_type {
  char kind;
  size_t itemsize;
  ckpt_dtype dtype;
} numpy_type;

ckpt_status ckpt_array_dtype(ckpt_dtype *out, const ckpt_array *a, ckpt_error *err) {
  static const numpy_type types[] = {{'b', 1, CKPT_BOOL}, {'i', 1, CKPT_I8},    {'i', 2, CKPT_I16}, {'i', 4, CKPT_I32},
                                     {'i', 8, CKPT_I64},  {'u', 1, CKPT_U8},    {'u', 2, CKPT_U16}, {'u', 4, CKPT_U32},
                                     {'u', 8, CKPT_U64},  {'f', 2, CKPT_F16},   {'f', 4, CKPT_F32}, {'f', 8, CKPT_F64},
                                     {'c', 8, CKPT_C64},  {'c', 16, CKPT_C128}, {'M', 8, CKPT_I64}, {'m', 8, CKPT_I64}};
  for (size_t i = 0; i < CKPT_COUNTOF(types); i++)
    if (types[i].kind == a->kind && types[i].itemsize == a->itemsize) {
      *out = types[i].dtype;
      return CKPT_OK;
    }
  return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "a numpy array of dtype '%c%zu', which PyTorch does not have", a->kind,
                   a->kind == 'U' ? a->itemsize / 4 : a->itemsize);
}

static void copy_bytes(unsigned char *to, const ckpt_array *a, size_t at, size_t n, size_t unit) {
  memcpy(to, a->bytes + at, n);
  if (!a->big_endian || unit < 2) return;
  for (size_t i = 0; i + unit <= n; i += unit)
    for (size_t k = 0; k < unit / 2; k++) {
      unsigned char low = to[i + k];
      to[i + k] = to[i + unit - 1 - k];
      to[i + unit - 1 - k] = low;
    }
}

/* ---- tensor ---- */

ckpt_status ckpt_array_tensor(ckpt_tensor **out, const ckpt_array *a, ckpt_error *err) {
  ckpt_dtype dtype = CKPT_U8;
  ckpt_storage *storage = NULL;
  unsigned char *data = NULL;
  CKPT_TRY(ckpt_array_dtype(&dtype, a, err));
  size_t n = (size_t)a->count * a->itemsize; /* as many bytes as the file has */
  CKPT_TRY(ckpt_storage_new(&storage, n, err));
  ckpt_status st = ckpt_storage_data(&data, storage, err);
  if (st == CKPT_OK && n > 0) copy_bytes(data, a, 0, n, ckpt_dtype_swap_unit(dtype));
  ckpt_tensor_spec spec = {.dtype = dtype, .ndim = a->ndim, .shape = a->shape, .stride = a->stride};
  if (st == CKPT_OK) st = ckpt_tensor_make(out, storage, &spec, err);
  ckpt_storage_release(storage);
  return st;
}

/* ---- single elements ---- */

/* Where element i in row-major order lies. */
static size_t offset_of(const ckpt_array *a, int64_t i) {
  int64_t at = 0;
  for (int d = a->ndim - 1; d >= 0; d--) {
    at += i % a->shape[d] * a->stride[d];
    i /= a->shape[d];
  }
  return (size_t)at * a->itemsize;
}

static ckpt_status new_number(ckpt_value **out, ckpt_document *doc, ckpt_dtype dtype, const unsigned char *bytes,
                              ckpt_error *err) {
  ckpt_tensor *one = NULL, *wide = NULL;
  const void *number = NULL;
  unsigned char copy[16];
  memcpy(copy, bytes, ckpt_dtype_size(dtype));
  bool is_float = ckpt_dtype_numeric(dtype) == CKPT_NUM_FLOAT;
  ckpt_status st = ckpt_tensor_borrow(&one, dtype, copy, 0, NULL, err);
  if (st == CKPT_OK) st = ckpt_tensor_new(&wide, is_float ? CKPT_F64 : CKPT_I64, 0, NULL, err);
  if (st == CKPT_OK) st = ckpt_tensor_copy(wide, one, err);
  if (st == CKPT_OK) st = ckpt_tensor_data(&number, wide, err);
  if (st == CKPT_OK)
    st = is_float ? ckpt_value_new_double(out, doc, *(const double *)number, err)
                  : ckpt_value_new_int(out, doc, *(const int64_t *)number, err);
  ckpt_tensor_release(one);
  ckpt_tensor_release(wide);
  return st;
}

/* An unsigned integer beyond 63 bits: nine bytes of two's complement. */
static ckpt_status new_uint64(ckpt_value **out, ckpt_document *doc, uint64_t n, ckpt_error *err) {
  ckpt_error here = {0};
  unsigned char bytes[9] = {0};
  if (n <= INT64_MAX) return ckpt_value_new_int(out, doc, (int64_t)n, err);
  ckpt_put64(bytes, n);
  ckpt_value *v = ckpt_value_make_text(doc, CKPT_BIGINT, bytes, sizeof bytes, &here);
  if (v == NULL) {
    if (err != NULL) *err = here;
    return here.status;
  }
  *out = v;
  return CKPT_OK;
}

static void complex_parts(double *re, double *im, ckpt_dtype dtype, const unsigned char *bytes) {
  float f[2];
  double d[2];
  if (dtype == CKPT_C128) {
    memcpy(d, bytes, sizeof d);
  } else {
    memcpy(f, bytes, sizeof f);
    d[0] = (double)f[0];
    d[1] = (double)f[1];
  }
  *re = d[0];
  *im = d[1];
}

static size_t put_utf8(char *to, uint32_t c) {
  unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
  size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  if (n == 1) {
    to[0] = (char)c;
    return 1;
  }
  for (size_t i = n; i-- > 1; c >>= 6) to[i] = (char)(0x80 | (c & 0x3f));
  to[0] = (char)(lead[n] | c);
  return n;
}

/* UTF-32, padded with zeros to the length of the longest. */
static ckpt_status new_str(ckpt_value **out, ckpt_document *doc, const unsigned char *utf32, size_t n,
                           ckpt_error *err) {
  size_t length = 0;
  while (n > 0 && ckpt_le32(utf32 + 4 * (n - 1)) == 0) n--;
  char *text = malloc(4 * n + 1);
  if (text == NULL) return ckpt_fail_nomem(err, 4 * n + 1);
  for (size_t i = 0; i < n; i++) {
    uint32_t c = ckpt_le32(utf32 + 4 * i);
    if (c > 0x10ffff) {
      free(text);
      return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a numpy string with a character beyond Unicode");
    }
    length += put_utf8(text + length, c);
  }
  ckpt_status st = ckpt_value_new_str(out, doc, text, length, err);
  free(text);
  return st;
}

static ckpt_status new_text(ckpt_value **out, ckpt_document *doc, const ckpt_array *a, size_t at, ckpt_error *err) {
  size_t n = a->itemsize;
  if (a->kind == 'S') {
    while (n > 0 && a->bytes[at + n - 1] == 0) n--;
    return ckpt_value_new_bytes(out, doc, a->bytes + at, n, err);
  }
  unsigned char *utf32 = malloc(n + 1);
  if (utf32 == NULL) return ckpt_fail_nomem(err, n + 1);
  copy_bytes(utf32, a, at, n, 4);
  ckpt_status st = new_str(out, doc, utf32, n / 4, err);
  free(utf32);
  return st;
}

ckpt_status ckpt_array_item(ckpt_value **out, ckpt_document *doc, const ckpt_array *a, int64_t i, ckpt_error *err) {
  unsigned char bytes[16];
  ckpt_dtype dtype = CKPT_U8;
  double re, im;
  if (i < 0 || i >= a->count)
    return ckpt_fail(err, CKPT_E_RANGE, -1, "there is no element %lld in a numpy array of %lld", (long long)i,
                     (long long)a->count);
  if (a->kind == 'O') {
    const ckpt_value *v = a->scalar ? a->objects : a->objects->as.seq.items[i];
    *out = (ckpt_value *)(uintptr_t)v;
    return CKPT_OK;
  }
  size_t at = offset_of(a, i);
  if (a->kind == 'S' || a->kind == 'U') return new_text(out, doc, a, at, err);
  CKPT_TRY(ckpt_array_dtype(&dtype, a, err));
  copy_bytes(bytes, a, at, a->itemsize, ckpt_dtype_swap_unit(dtype));
  if (dtype == CKPT_BOOL) return ckpt_value_new_bool(out, doc, bytes[0] != 0, err);
  if (dtype == CKPT_U64) return new_uint64(out, doc, ckpt_le64(bytes), err);
  if (a->kind != 'c') return new_number(out, doc, dtype, bytes, err);
  complex_parts(&re, &im, dtype, bytes);
  return ckpt_value_new_complex(out, doc, re, im, err);
}

/* ---- complex ---- */

static bool is_complex_object(const ckpt_value *v) {
  const ckpt_value *f = v->kind == CKPT_OBJECT ? v->made->callable : NULL;
  return f != NULL && v->made->how == CKPT_BY_REDUCE &&
         (ckpt_value_is_class(f, "__builtin__", "complex") || ckpt_value_is_class(f, "builtins", "complex"));
}

ckpt_status ckpt_value_complex(double *re, double *im, const ckpt_value *v, ckpt_error *err) {
  ckpt_array a;
  double parts[2] = {0, 0};
  if (is_complex_object(v)) {
    const ckpt_seq *args = &v->made->args->as.seq;
    if (args->n > 2) return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a complex number of %zu parts", args->n);
    for (size_t i = 0; i < args->n; i++) CKPT_TRY(ckpt_value_double(&parts[i], args->items[i], err));
  } else {
    bool is_one = ckpt_value_is_array(v) && ckpt_value_array(&a, v, NULL) == CKPT_OK && a.kind == 'c' && a.scalar;
    ckpt_dtype dtype = CKPT_U8;
    if (!is_one)
      return ckpt_fail(err, CKPT_E_TYPE, -1, "a %s where a complex number was expected",
                       ckpt_kind_name(ckpt_value_kind(v)));
    unsigned char bytes[16];
    CKPT_TRY(ckpt_array_dtype(&dtype, &a, err));
    copy_bytes(bytes, &a, 0, a.itemsize, ckpt_dtype_swap_unit(dtype));
    complex_parts(&parts[0], &parts[1], dtype, bytes);
  }
  *re = parts[0];
  *im = parts[1];
  return CKPT_OK;
}
