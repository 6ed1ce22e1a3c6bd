/*
 * test_lazy.c - computed tensors: their results, that nothing is read before somebody looks, what is kept and what is
 * not, chains, threads, failures, meta tensors, conjugate and negative bits, and what is refused at once.
 */
#include <pthread.h>

#include "lazy.h"
#include "tensor_fixture.h"

#define OK(call) assert_int_equal((call), CKPT_OK)

#define REFUSED(call, code, text)           \
  do {                                      \
    ckpt_tensor *out = NULL;                \
    ckpt_error err = {.status = CKPT_OK};   \
    assert_int_equal((call), code);         \
    assert_int_equal(err.status, code);     \
    assert_string_equal(err.message, text); \
    assert_null(out);                       \
  } while (0)

/* ---- results ---- */

static void contiguous(void **state) {
  (void)state;
  source s;
  count_up(&s);
  ckpt_tensor *t = sourced(&s, CKPT_I32, 2, DIMS(2, 3)), *across = NULL, *v = NULL;
  OK(ckpt_tensor_contiguous(&v, t, NULL));
  assert_ptr_equal(v, t); /* it is so already */
  ckpt_tensor_release(v);
  OK(ckpt_tensor_transpose(&across, t, 0, 1, NULL));
  OK(ckpt_tensor_contiguous(&v, across, NULL));
  assert_false(ckpt_tensor_shares_storage(v, t));
  assert_stride(v, DIMS(2, 1));
  assert_ints(v, INTS(0, 3, 1, 4, 2, 5));
  ckpt_tensor_release(across);
  ckpt_tensor_release(t);
}

/* Larger than a tile, and not a multiple of one. */
static void contiguous_of_large_transposes(void **state) {
  (void)state;
  static const int64_t sizes[] = {1, 2, 15, 16, 17, 32, 33, 48, 64};
  for (size_t i = 0; i < CKPT_COUNTOF(sizes) * CKPT_COUNTOF(sizes); i++) {
    int64_t rows = sizes[i / CKPT_COUNTOF(sizes)], columns = sizes[i % CKPT_COUNTOF(sizes)];
    ckpt_tensor *t = counted(3, DIMS(2, rows, columns)), *across = NULL, *v = NULL, *p = NULL;
    const void *data = NULL;
    OK(ckpt_tensor_transpose(&across, t, 1, 2, NULL));
    OK(ckpt_tensor_pad(&p, across, DIMS(0, 0, 0), DIMS(0, 1, 0), ckpt_scalar_int(-1), NULL));
    OK(ckpt_tensor_slice(&v, p, 1, 0, columns, 1, NULL));
    OK(ckpt_tensor_data(&data, v, NULL));
    for (int64_t k = 0; k < 2 * rows * columns; k++) {
      int64_t b = k / (rows * columns), c = k / rows % columns, r = k % rows;
      int64_t at = (b * (columns + 1) + c) * rows + r;
      assert_int_equal(((const int32_t *)data)[at], (b * rows + r) * columns + c);
    }
    ckpt_tensor_release(v);
    ckpt_tensor_release(p);
    ckpt_tensor_release(across);
    ckpt_tensor_release(t);
  }
}

static void index_select(void **state) {
  (void)state;
  source s;
  count_up(&s);
  ckpt_tensor *t = sourced(&s, CKPT_I32, 3, DIMS(2, 3, 2)), *v = NULL;
  OK(ckpt_tensor_index_select(&v, t, 1, 3, DIMS(2, 0, 2), NULL));
  assert_shape(v, 3, DIMS(2, 3, 2));
  assert_ints(v, INTS(4, 5, 0, 1, 4, 5, 10, 11, 6, 7, 10, 11));
  OK(ckpt_tensor_index_select(&v, t, 1, 0, NULL, NULL));
  assert_shape(v, 3, DIMS(2, 0, 2));
  ckpt_tensor_release(v);
  ckpt_tensor_release(t);
}

static void flip(void **state) {
  (void)state;
  source s;
  count_up(&s);
  ckpt_tensor *t = sourced(&s, CKPT_I32, 2, DIMS(2, 3)), *v = NULL;
  OK(ckpt_tensor_flip(&v, t, 1, (const int[]){-1}, NULL));
  assert_ints(v, INTS(2, 1, 0, 5, 4, 3));
  OK(ckpt_tensor_flip(&v, t, 2, (const int[]){0, 1}, NULL));
  assert_ints(v, INTS(5, 4, 3, 2, 1, 0));
  OK(ckpt_tensor_flip(&v, t, 0, NULL, NULL));
  assert_ints(v, INTS(0, 1, 2, 3, 4, 5));
  REFUSED(ckpt_tensor_flip(&out, t, 2, (const int[]){0, -2}, &err), CKPT_E_RANGE, "dimension 0 is named twice");
  REFUSED(ckpt_tensor_flip(&out, t, 1, (const int[]){2}, &err), CKPT_E_RANGE,
          "there is no dimension 2 in a tensor of 2");
  ckpt_tensor_release(t);
}

static void roll(void **state) {
  (void)state;
  source s;
  count_up(&s);
  ckpt_tensor *t = sourced(&s, CKPT_I32, 2, DIMS(2, 3)), *empty = sourced(&s, CKPT_I32, 1, DIMS(0)), *v = NULL;
  OK(ckpt_tensor_roll(&v, t, 1, 1, NULL));
  assert_ints(v, INTS(2, 0, 1, 5, 3, 4));
  OK(ckpt_tensor_roll(&v, t, -7, 1, NULL));
  assert_ints(v, INTS(1, 2, 0, 4, 5, 3));
  OK(ckpt_tensor_roll(&v, t, INT64_MIN, 0, NULL));
  assert_ints(v, INTS(0, 1, 2, 3, 4, 5));
  OK(ckpt_tensor_roll(&v, empty, 3, 0, NULL));
  assert_shape(v, 1, DIMS(0));
  ckpt_tensor_release(v);
  REFUSED(ckpt_tensor_roll(&out, t, 1, 2, &err), CKPT_E_RANGE, "there is no dimension 2 in a tensor of 2");
  ckpt_tensor_release(t);
  ckpt_tensor_release(empty);
}

static void cat_and_stack(void **state) {
  (void)state;
  source s;
  count_up(&s);
  ckpt_tensor *a = sourced(&s, CKPT_I32, 2, DIMS(2, 2)), *b = sourced(&s, CKPT_I32, 2, DIMS(2, 1)), *v = NULL;
  const ckpt_tensor *both[] = {a, b}, *twice[] = {a, a};
  OK(ckpt_tensor_cat(&v, 2, both, 1, NULL));
  assert_shape(v, 2, DIMS(2, 3));
  assert_ints(v, INTS(0, 1, 0, 2, 3, 1));
  OK(ckpt_tensor_cat(&v, 2, twice, -2, NULL));
  assert_ints(v, INTS(0, 1, 2, 3, 0, 1, 2, 3));
  OK(ckpt_tensor_stack(&v, 2, twice, -1, NULL));
  assert_shape(v, 3, DIMS(2, 2, 2));
  assert_ints(v, INTS(0, 0, 1, 1, 2, 2, 3, 3));
  OK(ckpt_tensor_stack(&v, 1, twice, 0, NULL));
  assert_shape(v, 3, DIMS(1, 2, 2));
  ckpt_tensor_release(v);
  ckpt_tensor_release(a);
  ckpt_tensor_release(b);
}

static void refused_joins(void **state) {
  (void)state;
  ckpt_tensor *a = counted(2, DIMS(2, 2)), *b = counted(2, DIMS(3, 1)), *c = counted(1, DIMS(2)), *f = NULL;
  ckpt_tensor *zero = counted(0, NULL), *packed = NULL;
  OK(ckpt_tensor_new(&f, CKPT_F16, 2, DIMS(2, 2), NULL));
  OK(ckpt_tensor_new(&packed, CKPT_QU2X4, 1, DIMS(4), NULL));
  const ckpt_tensor *ab[] = {a, b}, *ac[] = {a, c}, *af[] = {a, f}, *zz[] = {zero, zero}, *pp[] = {packed, packed};
  REFUSED(ckpt_tensor_cat(&out, 2, ab, 1, &err), CKPT_E_SHAPE,
          "shapes [2, 2] and [3, 1] differ beside the dimension that they are joined along");
  REFUSED(ckpt_tensor_cat(&out, 2, ac, 0, &err), CKPT_E_SHAPE,
          "shapes [2, 2] and [2] differ beside the dimension that they are joined along");
  REFUSED(ckpt_tensor_cat(&out, 2, af, 0, &err), CKPT_E_TYPE,
          "tensors of int32 and float16 are not joined: cast one of them");
  REFUSED(ckpt_tensor_cat(&out, 0, ab, 0, &err), CKPT_E_ARGUMENT, "cat of no tensors");
  REFUSED(ckpt_tensor_cat(&out, 2, zz, 0, &err), CKPT_E_RANGE, "there is no dimension 0 in a tensor of 0");
  REFUSED(ckpt_tensor_cat(&out, 2, pp, 0, &err), CKPT_E_UNSUPPORTED, "no cat on packed quint2x4");
  REFUSED(ckpt_tensor_stack(&out, 2, ab, 0, &err), CKPT_E_SHAPE, "shapes [2, 2] and [3, 1] differ");
  REFUSED(ckpt_tensor_stack(&out, 2, af, 0, &err), CKPT_E_TYPE,
          "tensors of int32 and float16 are not joined: cast one of them");
  REFUSED(ckpt_tensor_stack(&out, 0, ab, 0, &err), CKPT_E_ARGUMENT, "stack of no tensors");
  REFUSED(ckpt_tensor_stack(&out, 1, ab, 3, &err), CKPT_E_RANGE, "there is no dimension 3 in a tensor of 3");
  ckpt_tensor *all[] = {a, b, c, f, zero, packed};
  for (size_t i = 0; i < CKPT_COUNTOF(all); i++) ckpt_tensor_release(all[i]);
}

static void pad(void **state) {
  (void)state;
  source s;
  count_up(&s);
  ckpt_tensor *t = sourced(&s, CKPT_I32, 2, DIMS(2, 2)), *zero = counted(0, NULL), *v = NULL;
  OK(ckpt_tensor_pad(&v, t, DIMS(1, 0), DIMS(0, 1), ckpt_scalar_int(-7), NULL));
  assert_shape(v, 2, DIMS(3, 3));
  assert_ints(v, INTS(-7, -7, -7, 0, 1, -7, 2, 3, -7));
  OK(ckpt_tensor_pad(&v, zero, NULL, NULL, ckpt_scalar_int(1), NULL));
  assert_ints(v, INTS(0));
  REFUSED(ckpt_tensor_pad(&out, t, DIMS(0, -1), DIMS(0, 0), ckpt_scalar_int(0), &err), CKPT_E_RANGE,
          "dimension 1 is padded by -1 and 0: neither may be negative");
  REFUSED(ckpt_tensor_pad(&out, t, DIMS(INT64_MAX, 0), DIMS(0, 0), ckpt_scalar_int(0), &err), CKPT_E_RANGE,
          "the padded size of dimension 0 does not fit in 63 bits");
  REFUSED(ckpt_tensor_pad(&out, t, DIMS(INT64_MAX / 2, 0), DIMS(0, 0), ckpt_scalar_int(0), &err), CKPT_E_RANGE,
          "the number of elements does not fit in 63 bits");
  REFUSED(ckpt_tensor_pad(&out, t, DIMS(0, 0), DIMS(0, 0), ckpt_scalar_double(0.5), &err), CKPT_E_TYPE,
          "0.5 is no whole number, int32 holds nothing else");
  ckpt_tensor_release(t);
  ckpt_tensor_release(zero);
}

/* ---- arithmetic ---- */

static void integers_wrap_around(void **state) {
  (void)state;
  source s;
  count_up(&s);
  ckpt_tensor *t = sourced(&s, CKPT_I32, 1, DIMS(3)), *v = NULL;
  OK(ckpt_tensor_scale(&v, t, ckpt_scalar_int(INT32_MAX), NULL));
  assert_ints(v, INTS(0, INT32_MAX, -2));
  OK(ckpt_tensor_add_number(&v, t, ckpt_scalar_double(INT32_MAX), NULL));
  assert_ints(v, INTS(INT32_MAX, INT32_MIN, INT32_MIN + 1));
  OK(ckpt_tensor_add(&v, t, t, NULL));
  assert_ints(v, INTS(0, 2, 4));
  ckpt_tensor_release(t);
}

/* The logical float64 values of a tensor, whatever it is. */
static void assert_doubles(ckpt_tensor *t, int64_t n, const double *wanted) {
  ckpt_tensor *copy = NULL;
  const void *data = NULL;
  bool complex = ckpt_tensor_dtype(t) == CKPT_C64 || ckpt_tensor_dtype(t) == CKPT_C128;
  OK(ckpt_tensor_new(&copy, complex ? CKPT_C128 : CKPT_F64, ckpt_tensor_ndim(t), ckpt_tensor_shape(t), NULL));
  OK(ckpt_tensor_copy(copy, t, NULL));
  OK(ckpt_tensor_data(&data, copy, NULL));
  assert_int_equal(ckpt_tensor_numel(t) * (complex ? 2 : 1), n);
  for (int64_t i = 0; i < n; i++) assert_true(((const double *)data)[i] == wanted[i]);
  ckpt_tensor_release(copy);
  ckpt_tensor_release(t);
}

#define DOUBLES(...) CKPT_COUNTOF(((const double[]){__VA_ARGS__})), ((const double[]){__VA_ARGS__})

static ckpt_tensor *tensor_of(ckpt_dtype dtype, int64_t n, const double *values) {
  ckpt_tensor *wide = NULL, *t = NULL;
  OK(ckpt_tensor_borrow(&wide, CKPT_F64, (void *)(uintptr_t)values, 1, &n, NULL));
  OK(ckpt_tensor_to(&t, wide, dtype, NULL));
  ckpt_tensor_release(wide);
  return t;
}

static void floats_are_rounded_once(void **state) {
  (void)state;
  ckpt_tensor *half = tensor_of(CKPT_F16, DOUBLES(2048, 1, 3)), *tiny = tensor_of(CKPT_F8_E4M3FN, DOUBLES(16, 1.5));
  ckpt_tensor *single = tensor_of(CKPT_F32, DOUBLES(1, 3)), *wide = tensor_of(CKPT_F64, DOUBLES(1, 3)), *v = NULL;
  OK(ckpt_tensor_add_number(&v, half, ckpt_scalar_double(0.75), NULL));
  assert_doubles(v, DOUBLES(2048, 1.75, 3.75));
  OK(ckpt_tensor_add_number(&v, half, ckpt_scalar_int(3), NULL));
  assert_doubles(v, DOUBLES(2052, 4, 6)); /* 2051 is a tie */
  OK(ckpt_tensor_add(&v, tiny, tiny, NULL));
  assert_doubles(v, DOUBLES(32, 3));
  OK(ckpt_tensor_scale(&v, tiny, ckpt_scalar_double(1.1), NULL));
  assert_doubles(v, DOUBLES(18, 1.625));
  OK(ckpt_tensor_scale(&v, single, ckpt_scalar_double(0.1), NULL));
  assert_doubles(v, DOUBLES((double)(1 * 0.1f), (double)(3 * 0.1f)));
  OK(ckpt_tensor_scale(&v, wide, ckpt_scalar_double(0.1), NULL));
  assert_doubles(v, DOUBLES(1 * 0.1, 3 * 0.1));
  OK(ckpt_tensor_add(&v, wide, wide, NULL));
  assert_doubles(v, DOUBLES(2, 6));
  ckpt_tensor *all[] = {half, tiny, single, wide};
  for (size_t i = 0; i < CKPT_COUNTOF(all); i++) ckpt_tensor_release(all[i]);
}

static ckpt_scalar complex_number(double re, double im) {
  return (ckpt_scalar){.kind = CKPT_SCALAR_COMPLEX, .real = re, .imag = im};
}

static void complex_numbers(void **state) {
  (void)state;
  static const ckpt_dtype dtypes[] = {CKPT_C64, CKPT_C128};
  for (size_t i = 0; i < 2; i++) {
    ckpt_tensor *t = tensor_of(dtypes[i], DOUBLES(1, 2)), *moved = NULL, *v = NULL;
    OK(ckpt_tensor_add_number(&moved, t, complex_number(0, 3), NULL));
    OK(ckpt_tensor_scale(&v, moved, complex_number(2, -1), NULL)); /* (1+3i)(2-i), (2+3i)(2-i) */
    assert_doubles(v, DOUBLES(5, 5, 7, 4));
    OK(ckpt_tensor_scale(&v, moved, ckpt_scalar_int(2), NULL));
    assert_doubles(v, DOUBLES(2, 6, 4, 6));
    OK(ckpt_tensor_add(&v, moved, t, NULL));
    assert_doubles(v, DOUBLES(2, 3, 4, 3));
    OK(ckpt_tensor_add_number(&v, moved, ckpt_scalar_int(1), NULL));
    assert_doubles(v, DOUBLES(2, 3, 3, 3));
    ckpt_tensor_release(moved);
    ckpt_tensor_release(t);
  }
}

static void refused_arithmetic(void **state) {
  (void)state;
  ckpt_tensor *t = counted(1, DIMS(2)), *u = counted(2, DIMS(1, 2)), *flags = NULL, *half = NULL, *q = NULL;
  OK(ckpt_tensor_new(&flags, CKPT_BOOL, 1, DIMS(2), NULL));
  OK(ckpt_tensor_new(&half, CKPT_F16, 1, DIMS(2), NULL));
  OK(ckpt_tensor_new(&q, CKPT_QI8, 1, DIMS(2), NULL));
  REFUSED(ckpt_tensor_scale(&out, t, ckpt_scalar_double(0.5), &err), CKPT_E_TYPE,
          "0.5 is no whole number, int32 holds nothing else");
  REFUSED(ckpt_tensor_add_number(&out, t, ckpt_scalar_int(INT64_MAX), &err), CKPT_E_RANGE,
          "9223372036854775807 does not fit int32");
  REFUSED(ckpt_tensor_scale(&out, half, complex_number(0, 1), &err), CKPT_E_TYPE,
          "0+1i has an imaginary part, float16 has none");
  REFUSED(ckpt_tensor_scale(&out, flags, ckpt_scalar_int(1), &err), CKPT_E_UNSUPPORTED,
          "scale is not defined for bool: cast it first");
  REFUSED(ckpt_tensor_add(&out, q, q, &err), CKPT_E_UNSUPPORTED,
          "add is not defined for qint8: its elements are no numbers");
  REFUSED(ckpt_tensor_add_number(&out, q, ckpt_scalar_int(1), &err), CKPT_E_UNSUPPORTED,
          "add is not defined for qint8: its elements are no numbers");
  REFUSED(ckpt_tensor_pad(&out, q, DIMS(0), DIMS(0), ckpt_scalar_int(1), &err), CKPT_E_UNSUPPORTED,
          "pad is not defined for qint8: its elements are no numbers");
  REFUSED(ckpt_tensor_add(&out, t, half, &err), CKPT_E_TYPE, "int32 and float16 are not added: cast one of them");
  REFUSED(ckpt_tensor_add(&out, t, u, &err), CKPT_E_SHAPE,
          "tensors of different shapes are not added: expand one of them");
  REFUSED(ckpt_tensor_to(&out, q, CKPT_F32, &err), CKPT_E_UNSUPPORTED, "no cast from qint8 to float32");
  ckpt_tensor *all[] = {t, u, flags, half, q};
  for (size_t i = 0; i < CKPT_COUNTOF(all); i++) ckpt_tensor_release(all[i]);
}

/* ---- when ---- */

static void nothing_is_read_before_somebody_looks(void **state) {
  (void)state;
  source s;
  count_up(&s);
  ckpt_tensor *t = sourced(&s, CKPT_I32, 1, DIMS(4)), *v = NULL;
  const void *data = NULL, *again = NULL;
  OK(ckpt_tensor_to(&v, t, CKPT_F64, NULL));
  ckpt_tensor_release(t);
  assert_int_equal(s.fetched, 0);
  assert_int_equal(ckpt_tensor_heap_bytes(v), 0);
  OK(ckpt_tensor_data(&data, v, NULL));
  assert_int_equal(s.fetched, 1);
  assert_int_equal(ckpt_tensor_heap_bytes(v), 32);
  OK(ckpt_tensor_data(&again, v, NULL));
  assert_ptr_equal(data, again);
  assert_true(((const double *)data)[3] == 3.0);
  assert_int_equal(s.dropped, 0);
  ckpt_tensor_release(v);
  assert_int_equal(s.dropped, 1);
}

static void reading_keeps_nothing(void **state) {
  (void)state;
  source s;
  count_up(&s);
  ckpt_tensor *t = sourced(&s, CKPT_I32, 1, DIMS(8)), *v = NULL, *copy = NULL;
  ckpt_stats stats;
  char hex[65];
  bool same = false;
  OK(ckpt_tensor_flip(&v, t, 1, (const int[]){0}, NULL));
  OK(ckpt_tensor_new(&copy, CKPT_I32, 1, DIMS(8), NULL));
  OK(ckpt_tensor_copy(copy, v, NULL));
  OK(ckpt_tensor_sha256(hex, v, NULL));
  OK(ckpt_tensor_stats(&stats, v, NULL));
  OK(ckpt_tensor_equal(&same, v, copy, NULL));
  assert_true(same);
  assert_int_equal(s.fetched, 4); /* each computed anew */
  assert_int_equal(ckpt_tensor_heap_bytes(v), 0);
  assert_int_equal(ckpt_tensor_heap_bytes(t), 0);
  ckpt_tensor_release(copy);
  ckpt_tensor_release(v);
  ckpt_tensor_release(t);
}

/* Of many parts of one storage each would cost the whole: they keep it. */
static void small_parts_keep_their_storage(void **state) {
  (void)state;
  source s;
  count_up(&s);
  ckpt_tensor *t = sourced(&s, CKPT_I32, 2, DIMS(8, 4)), *v = NULL, *rows[8];
  char hex[65];
  OK(ckpt_tensor_scale(&v, t, ckpt_scalar_int(2), NULL));
  for (int i = 0; i < 8; i++) {
    OK(ckpt_tensor_select(&rows[i], v, 0, i, NULL));
    OK(ckpt_tensor_sha256(hex, rows[i], NULL));
  }
  assert_int_equal(s.fetched, 1);
  assert_int_equal(ckpt_tensor_heap_bytes(v), 128);
  for (int i = 0; i < 8; i++) ckpt_tensor_release(rows[i]);
  ckpt_tensor_release(v);
  ckpt_tensor_release(t);
}

static void a_failure_is_not_kept(void **state) {
  (void)state;
  source s;
  count_up(&s);
  s.fails = true;
  ckpt_tensor *t = sourced(&s, CKPT_I32, 1, DIMS(2)), *a = NULL, *v = NULL;
  const void *data = NULL;
  ckpt_error err = {.status = CKPT_OK};
  char hex[65];
  OK(ckpt_tensor_roll(&a, t, 1, 0, NULL));
  OK(ckpt_tensor_scale(&v, a, ckpt_scalar_int(5), NULL));
  assert_int_equal(ckpt_tensor_data(&data, v, &err), CKPT_E_CORRUPT);
  assert_string_equal(err.message, "the source fails");
  assert_int_equal(err.position, 7);
  assert_null(data);
  assert_int_equal(ckpt_tensor_sha256(hex, v, NULL), CKPT_E_CORRUPT);
  s.fails = false;
  assert_ints(v, INTS(5, 0));
  ckpt_tensor_release(a);
  ckpt_tensor_release(t);
}

/* What can be written to may be something else tomorrow. */
static void own_tensors_are_computed_at_once(void **state) {
  (void)state;
  ckpt_tensor *t = counted(1, DIMS(2)), *v = NULL;
  OK(ckpt_tensor_scale(&v, t, ckpt_scalar_int(3), NULL));
  assert_int_equal(ckpt_tensor_heap_bytes(v), 8);
  OK(ckpt_tensor_fill(t, ckpt_scalar_int(9), NULL));
  OK(ckpt_tensor_set(v, DIMS(0), ckpt_scalar_int(1), NULL)); /* and so is the result */
  assert_ints(v, INTS(1, 3));
  ckpt_tensor_release(t);
}

static void lazy_tensors_are_read_only(void **state) {
  (void)state;
  source s;
  count_up(&s);
  ckpt_tensor *t = sourced(&s, CKPT_I32, 1, DIMS(2)), *v = NULL;
  ckpt_error err = {.status = CKPT_OK};
  OK(ckpt_tensor_scale(&v, t, ckpt_scalar_int(3), NULL));
  assert_int_equal(ckpt_tensor_fill(v, ckpt_scalar_int(1), &err), CKPT_E_ARGUMENT);
  assert_string_equal(err.message, "the tensor is read-only; a clone of it is not");
  assert_int_equal(ckpt_tensor_copy(v, t, &err), CKPT_E_ARGUMENT);
  ckpt_tensor_release(v);
  ckpt_tensor_release(t);
}

/* ---- chains ---- */

/* However long, looked at on the way or not: neither computing nor letting go goes deep. */
static void long_chains(void **state) {
  (void)state;
  for (int look = 0; look < 2; look++) {
    source s;
    count_up(&s);
    ckpt_tensor *t = sourced(&s, CKPT_I32, 1, DIMS(2));
    for (int i = 0; i < 100000; i++) {
      ckpt_tensor *next = NULL;
      const void *data;
      OK(ckpt_tensor_add_number(&next, t, ckpt_scalar_int(1), NULL));
      ckpt_tensor_release(t);
      t = next;
      if (look) OK(ckpt_tensor_data(&data, t, NULL));
    }
    assert_ints(t, INTS(100000, 100001));
    assert_int_equal(s.dropped, 1);
  }
}

static void a_chain_is_lazy_up_to_its_depth(void **state) {
  (void)state;
  source s;
  count_up(&s);
  ckpt_tensor *t = sourced(&s, CKPT_I32, 1, DIMS(2));
  for (int i = 0; i <= CKPT_LAZY_DEPTH; i++) {
    ckpt_tensor *next = NULL;
    assert_int_equal(s.fetched, 0);
    OK(ckpt_tensor_roll(&next, t, 1, 0, NULL));
    ckpt_tensor_release(t);
    t = next;
  }
  assert_int_equal(s.fetched, 1);
  assert_int_equal(s.dropped, 1);
  assert_ints(t, INTS(1, 0));
}

/* t + t again and again: what is read twice in a row is computed once. */
static void diamonds(void **state) {
  (void)state;
  source s;
  count_up(&s);
  ckpt_tensor *t = sourced(&s, CKPT_I32, 1, DIMS(2));
  for (int i = 0; i < 30; i++) {
    ckpt_tensor *next = NULL;
    OK(ckpt_tensor_add(&next, t, t, NULL));
    ckpt_tensor_release(t);
    t = next;
  }
  assert_int_equal(s.fetched, 1);
  assert_ints(t, INTS(0, 1 << 30));
}

/* ---- threads ---- */

typedef struct looker {
  const ckpt_tensor *t;
  const void *data;
} looker;

static void *look(void *context) {
  looker *l = context;
  if (ckpt_tensor_data(&l->data, l->t, NULL) != CKPT_OK) l->data = NULL;
  return NULL;
}

static void many_threads_look_at_one(void **state) {
  (void)state;
  enum { THREADS = 8, ROUNDS = 50 };
  for (int round = 0; round < ROUNDS; round++) {
    source s = {0};
    ckpt_tensor *t = sourced(&s, CKPT_I32, 1, DIMS(0)), *v = NULL; /* empty: read-only, and no source to count */
    pthread_t threads[THREADS];
    looker lookers[THREADS];
    OK(ckpt_tensor_pad(&v, t, DIMS(4096), DIMS(0), ckpt_scalar_int(7), NULL));
    for (int i = 0; i < THREADS; i++) {
      lookers[i] = (looker){v, NULL};
      assert_int_equal(pthread_create(&threads[i], NULL, look, &lookers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < THREADS; i++) assert_ptr_equal(lookers[i].data, lookers[0].data);
    assert_non_null(lookers[0].data);
    assert_int_equal(((const int32_t *)lookers[0].data)[4095], 7);
    ckpt_tensor_release(v);
    ckpt_tensor_release(t);
  }
}

/* ---- what a handle says ---- */

static void meta_tensors_go_through(void **state) {
  (void)state;
  ckpt_tensor *t = meta_of(CKPT_F32, 2, DIMS(1000000, 2000000)), *v = NULL, *own = NULL;
  const ckpt_tensor *both[] = {t, t};
  OK(ckpt_tensor_to(&v, t, CKPT_BF16, NULL));
  assert_true(ckpt_tensor_is_meta(v) && ckpt_tensor_dtype(v) == CKPT_BF16);
  ckpt_tensor_release(v);
  OK(ckpt_tensor_cat(&v, 2, both, 0, NULL));
  assert_shape(v, 2, DIMS(2000000, 2000000));
  assert_true(ckpt_tensor_is_meta(v));
  ckpt_tensor_release(v);
  OK(ckpt_tensor_add(&v, t, t, NULL));
  assert_true(ckpt_tensor_is_meta(v));
  ckpt_tensor_release(v);
  OK(ckpt_tensor_new(&own, CKPT_F32, 2, DIMS(1, 2000000), NULL));
  const ckpt_tensor *mixed[] = {own, t};
  REFUSED(ckpt_tensor_cat(&out, 2, mixed, 0, &err), CKPT_E_ARGUMENT, "1 of 2 tensors are meta: they have no data");
  ckpt_tensor_release(own);
  ckpt_tensor_release(t);
}

static ckpt_tensor *with_bits(const ckpt_tensor *base, bool conj, bool neg) {
  ckpt_tensor *t = NULL;
  ckpt_tensor_spec spec = ckpt_tensor_spec_of(base);
  spec.conj = conj;
  spec.neg = neg;
  OK(ckpt_tensor_make(&t, ckpt_tensor_storage(base), &spec, NULL));
  return t;
}

static ckpt_tensor *plain(ckpt_tensor *t) {
  assert_false(ckpt_tensor_conj(t) || ckpt_tensor_neg(t));
  return t;
}

static void bits_are_applied(void **state) {
  (void)state;
  ckpt_tensor *base = tensor_of(CKPT_C64, DOUBLES(1, 2)), *moved = NULL, *v = NULL;
  OK(ckpt_tensor_add_number(&moved, base, complex_number(0, 3), NULL)); /* 1+3i, 2+3i */
  ckpt_tensor *conj = with_bits(moved, true, false), *neg = with_bits(moved, false, true);
  const ckpt_tensor *list[] = {conj, neg};
  OK(ckpt_tensor_contiguous(&v, conj, NULL));
  assert_doubles(plain(v), DOUBLES(1, -3, 2, -3));
  OK(ckpt_tensor_flip(&v, conj, 1, (const int[]){0}, NULL));
  assert_doubles(plain(v), DOUBLES(2, -3, 1, -3));
  OK(ckpt_tensor_cat(&v, 2, list, 0, NULL));
  assert_doubles(plain(v), DOUBLES(1, -3, 2, -3, -1, -3, -2, -3));
  OK(ckpt_tensor_to(&v, neg, CKPT_C128, NULL));
  assert_doubles(plain(v), DOUBLES(-1, -3, -2, -3));
  OK(ckpt_tensor_add(&v, conj, neg, NULL));
  assert_doubles(plain(v), DOUBLES(0, -6, 0, -6));
  OK(ckpt_tensor_scale(&v, conj, ckpt_scalar_int(2), NULL));
  assert_doubles(plain(v), DOUBLES(2, -6, 4, -6));
  ckpt_tensor *all[] = {base, moved, conj, neg};
  for (size_t i = 0; i < CKPT_COUNTOF(all); i++) ckpt_tensor_release(all[i]);
}

static void gradients(void **state) {
  (void)state;
  ckpt_tensor *base = tensor_of(CKPT_F32, DOUBLES(1, 2)), *t = NULL, *v = NULL;
  OK(ckpt_tensor_with_grad(&t, base, true, NULL));
  const ckpt_tensor *list[] = {base, t};
  OK(ckpt_tensor_cat(&v, 2, list, 0, NULL));
  assert_true(ckpt_tensor_requires_grad(v));
  ckpt_tensor_release(v);
  OK(ckpt_tensor_to(&v, t, CKPT_F16, NULL));
  assert_true(ckpt_tensor_requires_grad(v));
  ckpt_tensor_release(v);
  OK(ckpt_tensor_to(&v, t, CKPT_I8, NULL)); /* integers have none */
  assert_false(ckpt_tensor_requires_grad(v));
  ckpt_tensor_release(v);
  ckpt_tensor_release(t);
  ckpt_tensor_release(base);
}

/* ---- limits ---- */

static void hostile_views_are_not_spelled_out(void **state) {
  (void)state;
  ckpt_tensor *base = tensor_of(CKPT_F32, DOUBLES(1)), *wide = NULL;
  OK(ckpt_tensor_expand(&wide, base, 2, DIMS(INT64_C(1) << 40, 1), NULL));
  const char *text = "the view spreads a storage of 4 bytes over 4398046511104";
  REFUSED(ckpt_tensor_flip(&out, wide, 1, (const int[]){0}, &err), CKPT_E_LIMIT, text);
  REFUSED(ckpt_tensor_to(&out, wide, CKPT_I8, &err), CKPT_E_LIMIT, text);
  REFUSED(ckpt_tensor_contiguous(&out, wide, &err), CKPT_E_LIMIT, text);
  ckpt_tensor_release(wide);
  ckpt_tensor_release(base);
}

static void results_that_do_not_fit(void **state) {
  (void)state;
  ckpt_tensor *t = meta_of(CKPT_U8, 1, DIMS(INT64_MAX / 2)), *v = NULL;
  const ckpt_tensor *three[] = {t, t, t};
  REFUSED(ckpt_tensor_cat(&out, 3, three, 0, &err), CKPT_E_RANGE, "the sizes of dimension 0 do not add up in 63 bits");
  REFUSED(ckpt_tensor_stack(&out, 3, three, 0, &err), CKPT_E_RANGE, "the number of elements does not fit in 63 bits");
  REFUSED(ckpt_tensor_to(&out, t, CKPT_F64, &err), CKPT_E_RANGE, "the tensor's bytes do not fit in 63 bits");
  OK(ckpt_tensor_to(&v, t, CKPT_I8, NULL));
  ckpt_tensor_release(v);
  ckpt_tensor_release(t);
}

/* Every operation that moves bytes moves those of any dtype whose elements are whole bytes. */
static void dtypes_without_numbers_are_moved(void **state) {
  (void)state;
  static const ckpt_dtype dtypes[] = {CKPT_QI8, CKPT_QI32, CKPT_BITS16, CKPT_BITS1X8, CKPT_F4_E2M1FN_X2, CKPT_BC32};
  for (size_t i = 0; i < CKPT_COUNTOF(dtypes); i++) {
    source s;
    count_up(&s);
    ckpt_tensor *t = sourced(&s, dtypes[i], 1, DIMS(4)), *v = NULL, *back = NULL;
    const ckpt_tensor *both[] = {t, t};
    bool same = false;
    OK(ckpt_tensor_roll(&v, t, 1, 0, NULL));
    OK(ckpt_tensor_index_select(&back, v, 0, 4, DIMS(1, 2, 3, 0), NULL));
    OK(ckpt_tensor_equal(&same, back, t, NULL));
    assert_true(same);
    ckpt_tensor_release(back);
    OK(ckpt_tensor_cat(&back, 2, both, 0, NULL));
    assert_int_equal(ckpt_tensor_dtype(back), dtypes[i]);
    ckpt_tensor_release(back);
    ckpt_tensor_release(v);
    ckpt_tensor_release(t);
  }
}

static void packed_dtypes_are_refused(void **state) {
  (void)state;
  ckpt_tensor *t = NULL;
  OK(ckpt_tensor_new(&t, CKPT_QU4X2, 1, DIMS(4), NULL));
  REFUSED(ckpt_tensor_index_select(&out, t, 0, 1, DIMS(0), &err), CKPT_E_UNSUPPORTED,
          "no index_select on packed quint4x2");
  REFUSED(ckpt_tensor_flip(&out, t, 1, (const int[]){0}, &err), CKPT_E_UNSUPPORTED, "no flip on packed quint4x2");
  REFUSED(ckpt_tensor_roll(&out, t, 1, 0, &err), CKPT_E_UNSUPPORTED, "no roll on packed quint4x2");
  ckpt_tensor_release(t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(contiguous),
      cmocka_unit_test(contiguous_of_large_transposes),
      cmocka_unit_test(index_select),
      cmocka_unit_test(flip),
      cmocka_unit_test(roll),
      cmocka_unit_test(cat_and_stack),
      cmocka_unit_test(refused_joins),
      cmocka_unit_test(pad),
      cmocka_unit_test(integers_wrap_around),
      cmocka_unit_test(floats_are_rounded_once),
      cmocka_unit_test(complex_numbers),
      cmocka_unit_test(refused_arithmetic),
      cmocka_unit_test(nothing_is_read_before_somebody_looks),
      cmocka_unit_test(reading_keeps_nothing),
      cmocka_unit_test(small_parts_keep_their_storage),
      cmocka_unit_test(a_failure_is_not_kept),
      cmocka_unit_test(own_tensors_are_computed_at_once),
      cmocka_unit_test(lazy_tensors_are_read_only),
      cmocka_unit_test(long_chains),
      cmocka_unit_test(a_chain_is_lazy_up_to_its_depth),
      cmocka_unit_test(diamonds),
      cmocka_unit_test(many_threads_look_at_one),
      cmocka_unit_test(meta_tensors_go_through),
      cmocka_unit_test(bits_are_applied),
      cmocka_unit_test(gradients),
      cmocka_unit_test(hostile_views_are_not_spelled_out),
      cmocka_unit_test(results_that_do_not_fit),
      cmocka_unit_test(dtypes_without_numbers_are_moved),
      cmocka_unit_test(packed_dtypes_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
