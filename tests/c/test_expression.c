// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup
/*
 * test_expression.c - sums, means, repetitions, constants, resizing: results, laziness, bounds, every allocation
 * failing; expression trees over them, over meta tensors and over those of a source.
 */
#include <math.h>

#include "tensor_fixture.h"

#include "alloc_faults.h"
#include "expression.h"
#include "reduce.h"

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

/* A tensor of its own of these doubles. */
static ckpt_tensor *doubles(int ndim, const int64_t *shape, const double *values) {
  ckpt_tensor *t = NULL;
  const void *data = NULL;
  OK(ckpt_tensor_new(&t, CKPT_F64, ndim, shape, NULL));
  OK(ckpt_tensor_data(&data, t, NULL));
  memcpy((void *)(uintptr_t)data, values, ckpt_tensor_nbytes(t));
  return t;
}

#define DOUBLES(...) ((const double[]){__VA_ARGS__})

/* The elements of a float64 tensor, which is released. */
static void assert_doubles(ckpt_tensor *t, int64_t n, const double *wanted) {
  const void *data = NULL;
  assert_int_equal(ckpt_tensor_dtype(t), CKPT_F64);
  assert_int_equal(ckpt_tensor_numel(t), n);
  assert_true(ckpt_tensor_is_contiguous(t));
  OK(ckpt_tensor_data(&data, t, NULL));
  for (int64_t i = 0; i < n; i++) assert_true(fabs(((const double *)data)[i] - wanted[i]) < 1e-6);
  ckpt_tensor_release(t);
}

/* ---- sums, means ---- */

static void sums_of_integers(void **state) {
  (void)state;
  source s;
  count_up(&s);
  ckpt_tensor *t = sourced(&s, CKPT_I32, 3, DIMS(2, 3, 2)), *v = NULL;
  OK(ckpt_tensor_sum(&v, t, 1, NULL));
  assert_shape(v, 3, DIMS(2, 1, 2));
  assert_int_equal(s.fetched, 0); /* nothing is read before somebody looks */
  assert_ints(v, INTS(6, 9, 24, 27));
  OK(ckpt_tensor_sum(&v, t, -3, NULL));
  assert_ints(v, INTS(6, 8, 10, 12, 14, 16));
  OK(ckpt_tensor_sum(&v, t, 2, NULL));
  assert_ints(v, INTS(1, 5, 9, 13, 17, 21));
  ckpt_tensor_release(t);
}

static void sums_wrap_around(void **state) {
  (void)state;
  ckpt_tensor *t = NULL, *v = NULL;
  OK(ckpt_tensor_new(&t, CKPT_I32, 1, DIMS(3), NULL));
  OK(ckpt_tensor_fill(t, ckpt_scalar_int(INT32_MAX), NULL));
  OK(ckpt_tensor_sum(&v, t, 0, NULL));
  assert_ints(v, INTS(INT32_MAX - 2));
  ckpt_tensor_release(t);
}

/* More than one block of the other dimensions. */
static void long_rows(void **state) {
  (void)state;
  ckpt_tensor *t = counted(2, DIMS(3, 1300)), *v = NULL;
  const void *data = NULL;
  OK(ckpt_tensor_sum(&v, t, 0, NULL));
  OK(ckpt_tensor_data(&data, v, NULL));
  for (int i = 0; i < 1300; i++) assert_int_equal(((const int32_t *)data)[i], 3 * i + 1300 + 2600);
  ckpt_tensor_release(v);
  ckpt_tensor_release(t);
}

static void means(void **state) {
  (void)state;
  ckpt_tensor *t = doubles(2, DIMS(2, 3), DOUBLES(1, 2, 6, 10, 20, 60)), *v = NULL, *across = NULL;
  OK(ckpt_tensor_mean(&v, t, 1, NULL));
  assert_shape(v, 2, DIMS(2, 1));
  assert_doubles(v, 2, DOUBLES(3, 30));
  OK(ckpt_tensor_transpose(&across, t, 0, 1, NULL));
  OK(ckpt_tensor_mean(&v, across, 1, NULL));
  assert_doubles(v, 3, DOUBLES(5.5, 11, 33));
  ckpt_tensor_release(across);
  ckpt_tensor_release(t);
}

static void sums_of_nothing(void **state) {
  (void)state;
  ckpt_tensor *t = NULL, *v = NULL;
  const void *data = NULL;
  OK(ckpt_tensor_new(&t, CKPT_F64, 2, DIMS(0, 2), NULL));
  OK(ckpt_tensor_sum(&v, t, 0, NULL));
  assert_shape(v, 2, DIMS(1, 2));
  assert_doubles(v, 2, DOUBLES(0, 0));
  OK(ckpt_tensor_mean(&v, t, 0, NULL));
  OK(ckpt_tensor_data(&data, v, NULL));
  assert_true(isnan(((const double *)data)[0]) && isnan(((const double *)data)[1]));
  ckpt_tensor_release(v);
  OK(ckpt_tensor_sum(&v, t, 1, NULL));
  assert_shape(v, 2, DIMS(0, 1));
  ckpt_tensor_release(v);
  ckpt_tensor_release(t);
}

static void refused_sums(void **state) {
  (void)state;
  ckpt_tensor *t = counted(1, DIMS(2)), *c = NULL, *b = NULL;
  REFUSED(ckpt_tensor_sum(&out, t, 1, &err), CKPT_E_RANGE, "there is no dimension 1 in a tensor of 1");
  REFUSED(ckpt_tensor_mean(&out, t, 0, &err), CKPT_E_UNSUPPORTED, "mean is not defined for int32");
  OK(ckpt_tensor_new(&c, CKPT_C64, 1, DIMS(2), NULL));
  REFUSED(ckpt_tensor_sum(&out, c, 0, &err), CKPT_E_UNSUPPORTED, "sum is not defined for complex64");
  OK(ckpt_tensor_new(&b, CKPT_BOOL, 1, DIMS(2), NULL));
  REFUSED(ckpt_tensor_sum(&out, b, 0, &err), CKPT_E_UNSUPPORTED, "sum is not defined for bool");
  ckpt_tensor_release(b);
  ckpt_tensor_release(c);
  ckpt_tensor_release(t);
}

/* ---- repeat, full ---- */

static void repeats(void **state) {
  (void)state;
  source s;
  count_up(&s);
  ckpt_tensor *t = sourced(&s, CKPT_I32, 2, DIMS(2, 2)), *v = NULL;
  OK(ckpt_tensor_repeat(&v, t, 0, 2, NULL));
  assert_shape(v, 2, DIMS(4, 2));
  assert_int_equal(s.fetched, 0);
  assert_ints(v, INTS(0, 1, 2, 3, 0, 1, 2, 3));
  OK(ckpt_tensor_repeat(&v, t, -1, 3, NULL));
  assert_ints(v, INTS(0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3));
  OK(ckpt_tensor_repeat(&v, t, 1, 0, NULL));
  assert_shape(v, 2, DIMS(2, 0));
  ckpt_tensor_release(v);
  REFUSED(ckpt_tensor_repeat(&out, t, 0, -1, &err), CKPT_E_LIMIT, "-1 times; from 0 to 4096 are allowed");
  REFUSED(ckpt_tensor_repeat(&out, t, 0, 4097, &err), CKPT_E_LIMIT, "4097 times; from 0 to 4096 are allowed");
  ckpt_tensor_release(t);
}

static void repeats_that_do_not_fit(void **state) {
  (void)state;
  ckpt_tensor *t = meta_of(CKPT_I32, 1, DIMS(INT64_C(1) << 55)), *out = NULL;
  assert_int_equal(ckpt_tensor_repeat(&out, t, 0, 4096, NULL), CKPT_E_RANGE);
  assert_null(out);
  ckpt_tensor_release(t);
}

static void constants(void **state) {
  (void)state;
  ckpt_tensor *v = NULL;
  OK(ckpt_tensor_full(&v, CKPT_I32, 2, DIMS(2, 2), ckpt_scalar_int(7), false, NULL));
  assert_int_equal(ckpt_tensor_heap_bytes(v), 0); /* not made before somebody looks */
  assert_ints(v, INTS(7, 7, 7, 7));
  OK(ckpt_tensor_full(&v, CKPT_F64, 0, NULL, ckpt_scalar_double(2.5), false, NULL));
  assert_doubles(v, 1, DOUBLES(2.5));
  OK(ckpt_tensor_full(&v, CKPT_F32, 1, DIMS(3), ckpt_scalar_int(1), true, NULL));
  assert_true(ckpt_tensor_is_meta(v));
  ckpt_tensor_release(v);
  REFUSED(ckpt_tensor_full(&out, CKPT_I8, 1, DIMS(2), ckpt_scalar_int(300), false, &err), CKPT_E_RANGE,
          "300 does not fit int8");
  for (int meta = 0; meta < 2; meta++)
    REFUSED(ckpt_tensor_full(&out, CKPT_I8, 1, DIMS(INT64_C(1) << 37), ckpt_scalar_int(0), meta, &err), CKPT_E_LIMIT,
            "a constant of 137438953472 bytes is refused");
}

/* ---- resize: the numbers are PyTorch's ---- */

static void resizes(void **state) {
  (void)state;
  const int one[] = {0};
  ckpt_tensor *t = doubles(1, DIMS(4), DOUBLES(1, 2, 3, 4)), *v = NULL;
  OK(ckpt_tensor_resize(&v, t, 1, one, DIMS(2), CKPT_RESIZE_NEAREST, NULL));
  assert_doubles(v, 2, DOUBLES(1, 3));
  OK(ckpt_tensor_resize(&v, t, 1, one, DIMS(6), CKPT_RESIZE_NEAREST, NULL));
  assert_doubles(v, 6, DOUBLES(1, 1, 2, 3, 3, 4));
  OK(ckpt_tensor_resize(&v, t, 1, one, DIMS(2), CKPT_RESIZE_LINEAR, NULL));
  assert_doubles(v, 2, DOUBLES(1.5, 3.5));
  OK(ckpt_tensor_resize(&v, t, 1, one, DIMS(8), CKPT_RESIZE_LINEAR, NULL));
  assert_doubles(v, 8, DOUBLES(1, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4));
  OK(ckpt_tensor_resize(&v, t, 1, one, DIMS(2), CKPT_RESIZE_CUBIC, NULL));
  assert_doubles(v, 2, DOUBLES(1.40625, 3.59375));
  ckpt_tensor_release(t);
}

static void resizes_of_two(void **state) {
  (void)state;
  const int both[] = {1, 0};
  ckpt_tensor *t = doubles(2, DIMS(2, 2), DOUBLES(1, 2, 3, 4)), *v = NULL;
  OK(ckpt_tensor_resize(&v, t, 2, both, DIMS(1, 4), CKPT_RESIZE_LINEAR, NULL));
  assert_shape(v, 2, DIMS(4, 1));
  assert_doubles(v, 4, DOUBLES(1.5, 2, 3, 3.5));
  ckpt_tensor_release(t);
}

static void refused_resizes(void **state) {
  (void)state;
  const int dims[] = {0, 0}, far[] = {3};
  ckpt_tensor *t = counted(1, DIMS(2)), *none = NULL;
  REFUSED(ckpt_tensor_resize(&out, t, 1, dims, DIMS(4), CKPT_RESIZE_CUBIC, &err), CKPT_E_UNSUPPORTED,
          "resize is not defined for int32");
  REFUSED(ckpt_tensor_resize(&out, t, 2, dims, DIMS(4, 4), CKPT_RESIZE_NEAREST, &err), CKPT_E_RANGE,
          "dimension 0 is named twice");
  REFUSED(ckpt_tensor_resize(&out, t, 1, far, DIMS(4), CKPT_RESIZE_NEAREST, &err), CKPT_E_RANGE,
          "there is no dimension 3 in a tensor of 1");
  REFUSED(ckpt_tensor_resize(&out, t, 1, dims, DIMS(0), CKPT_RESIZE_NEAREST, &err), CKPT_E_LIMIT,
          "dimension 0 of size 2 to 0; from 1 to 1048576 are allowed");
  REFUSED(ckpt_tensor_resize(&out, t, 1, dims, DIMS(1 << 21), CKPT_RESIZE_NEAREST, &err), CKPT_E_LIMIT,
          "dimension 0 of size 2 to 2097152; from 1 to 1048576 are allowed");
  OK(ckpt_tensor_new(&none, CKPT_F32, 1, DIMS(0), NULL));
  REFUSED(ckpt_tensor_resize(&out, none, 1, dims, DIMS(2), CKPT_RESIZE_LINEAR, &err), CKPT_E_LIMIT,
          "dimension 0 of size 0 to 2; from 1 to 1048576 are allowed");
  ckpt_tensor_release(none);
  ckpt_tensor_release(t);
}

/* ---- trees ---- */

static ckpt_tensor *the_tensor(void *context, const char *key) { return strcmp(key, "x") == 0 ? context : NULL; }

static ckpt_expr_node *leaf(ckpt_expr *e, const char *key) {
  ckpt_expr_node *n = ckpt_arena_alloc(&e->arena, sizeof *n, NULL);
  assert_non_null(n);
  n->key = key;
  return n;
}

/* name(integers..., list) of `of` (NULL: of nothing). */
static ckpt_expr_node *node(ckpt_expr *e, const char *name, int n, const int64_t *integers, ckpt_expr_node *of) {
  ckpt_expr_node *made = leaf(e, NULL);
  made->op = ckpt_expr_find_op(name);
  assert_non_null(made->op);
  made->n_integers = n;
  if (n > 0) memcpy(made->integer, integers, (size_t)n * sizeof *integers);
  made->n_of = of != NULL;
  made->of = ckpt_arena_alloc(&e->arena, sizeof *made->of, NULL);
  if (of != NULL) made->of[0] = of;
  return made;
}

static ckpt_expr *a_tree(void) {
  ckpt_expr *e = NULL;
  OK(ckpt_expr_new(&e, NULL));
  ckpt_expr_node *rope = node(e, "rope_split", 1, DIMS(2), leaf(e, "x"));
  e->root = node(e, "sum", 1, DIMS(1), node(e, "repeat", 2, DIMS(1, 2), rope));
  return e;
}

static void trees_over_meta_and_real_tensors(void **state) {
  (void)state;
  source s;
  count_up(&s);
  ckpt_expr *e = a_tree();
  ckpt_tensor *t = sourced(&s, CKPT_I32, 2, DIMS(8, 2)), *meta = meta_of(CKPT_I32, 2, DIMS(8, 2)), *v = NULL;
  OK(ckpt_expr_evaluate(&v, e, the_tensor, meta, true, NULL));
  assert_true(ckpt_tensor_is_meta(v));
  assert_shape(v, 2, DIMS(8, 1));
  ckpt_tensor_release(v);
  OK(ckpt_expr_evaluate(&v, e, the_tensor, t, false, NULL));
  assert_int_equal(s.fetched, 0);
  assert_ints(v, INTS(2, 18, 10, 26, 34, 50, 42, 58)); /* rows 0 2 1 3, 4 6 5 7 of 2(4r + 1) */
  ckpt_tensor_release(meta);
  ckpt_tensor_release(t);
  ckpt_expr_free(e);
}

static void failures_say_where(void **state) {
  (void)state;
  ckpt_expr *e = a_tree();
  ckpt_tensor *t = meta_of(CKPT_I32, 2, DIMS(6, 2));
  REFUSED(ckpt_expr_evaluate(&out, e, the_tensor, t, true, &err), CKPT_E_SHAPE,
          "rope_split(2) of int32 [6, 2]: 2 x 2 heads do not divide a first dimension of 6");
  e->root = node(e, "rope_split", 2, DIMS(1, 6), leaf(e, "x"));
  ckpt_tensor *right = NULL;
  OK(ckpt_expr_evaluate(&right, e, the_tensor, t, true, NULL));
  ckpt_tensor_release(right);
  e->root = node(e, "rope_merge", 2, DIMS(1, 4), leaf(e, "x")); /* one head of six rows would do */
  REFUSED(ckpt_expr_evaluate(&out, e, the_tensor, t, true, &err), CKPT_E_SHAPE,
          "rope_merge(1, 4) of int32 [6, 2]: 1 heads of 4 are not a first dimension of 6");
  e->root = leaf(e, "y");
  REFUSED(ckpt_expr_evaluate(&out, e, the_tensor, t, true, &err), CKPT_E_NOTFOUND, "there is no tensor 'y'");
  ckpt_tensor_release(t);
  ckpt_expr_free(e);
}

static void every_operation_is_found_by_its_name(void **state) {
  (void)state;
  size_t n = 0;
  for (const ckpt_expr_op *op; (op = ckpt_expr_op_at(n)) != NULL; n++)
    assert_ptr_equal(ckpt_expr_find_op(op->name), op);
  assert_int_equal(n, 26);
  assert_null(ckpt_expr_find_op("permut"));
}

/* ---- memory ---- */

static ckpt_status look(ckpt_tensor *t, ckpt_error *err) {
  void *owned = NULL;
  const void *data = NULL;
  ckpt_status st = ckpt_tensor_read(&data, &owned, t, err);
  free(owned);
  ckpt_tensor_release(t);
  return st;
}

static ckpt_status evaluate(void *context, ckpt_error *err) {
  ckpt_expr *e = a_tree();
  ckpt_tensor *v = NULL;
  ckpt_status st = ckpt_expr_evaluate(&v, e, the_tensor, context, false, err);
  ckpt_expr_free(e);
  return st == CKPT_OK ? look(v, err) : st;
}

static ckpt_status resize(void *context, ckpt_error *err) {
  ckpt_tensor *v = NULL;
  CKPT_TRY(ckpt_tensor_resize(&v, context, 2, (const int[]){0, 1}, DIMS(3, 5), CKPT_RESIZE_CUBIC, err));
  return look(v, err);
}

static ckpt_status resize_nearest(void *context, ckpt_error *err) {
  ckpt_tensor *v = NULL;
  CKPT_TRY(ckpt_tensor_resize(&v, context, 1, (const int[]){0}, DIMS(3), CKPT_RESIZE_NEAREST, err));
  return look(v, err);
}

static ckpt_status make_full(void *context, ckpt_error *err) {
  (void)context;
  ckpt_tensor *v = NULL;
  CKPT_TRY(ckpt_tensor_full(&v, CKPT_F32, 1, DIMS(3), ckpt_scalar_int(1), false, err));
  return look(v, err);
}

/* The tree itself is built by calls that must not fail here: it is made once, outside of the count. */
static ckpt_expr *tree;

static ckpt_status evaluate_tree(void *context, ckpt_error *err) {
  ckpt_tensor *v = NULL;
  CKPT_TRY(ckpt_expr_evaluate(&v, tree, the_tensor, context, false, err));
  return look(v, err);
}

static ckpt_status new_tree(void *context, ckpt_error *err) {
  ckpt_expr *e = NULL;
  (void)context;
  ckpt_status st = ckpt_expr_new(&e, err);
  ckpt_expr_free(e);
  return st;
}

static void every_allocation_may_fail(void **state) {
  (void)state;
  ckpt_tensor *half = NULL, *whole = counted(2, DIMS(8, 2));
  OK(ckpt_tensor_new(&half, CKPT_F16, 2, DIMS(2, 2), NULL));
  tree = a_tree();
  assert_true(fail_each_allocation(evaluate_tree, whole) > 5);
  assert_true(fail_each_allocation(resize, half) > 5);
  assert_true(fail_each_allocation(resize_nearest, half) > 1);
  assert_true(fail_each_allocation(make_full, NULL) > 2);
  assert_int_equal(fail_each_allocation(new_tree, NULL), 1);
  OK(evaluate(whole, NULL));
  ckpt_expr_free(tree);
  ckpt_tensor_release(whole);
  ckpt_tensor_release(half);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sums_of_integers),
      cmocka_unit_test(sums_wrap_around),
      cmocka_unit_test(long_rows),
      cmocka_unit_test(means),
      cmocka_unit_test(sums_of_nothing),
      cmocka_unit_test(refused_sums),
      cmocka_unit_test(repeats),
      cmocka_unit_test(repeats_that_do_not_fit),
      cmocka_unit_test(constants),
      cmocka_unit_test(resizes),
      cmocka_unit_test(resizes_of_two),
      cmocka_unit_test(refused_resizes),
      cmocka_unit_test(trees_over_meta_and_real_tensors),
      cmocka_unit_test(failures_say_where),
      cmocka_unit_test(every_operation_is_found_by_its_name),
      cmocka_unit_test(every_allocation_may_fail),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
