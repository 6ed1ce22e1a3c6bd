/* test_view.c - views: shapes, strides and offsets over the same bytes, none of which are read; and what is refused. */
#include "tensor_fixture.h"

#define OK(call) assert_int_equal((call), CKPT_OK)

/* `call` with `out` and `err` fails so, and gives nothing. */
#define REFUSED(call, code, text)           \
  do {                                      \
    ckpt_tensor *out = NULL;                \
    ckpt_error err = {.status = CKPT_OK};   \
    assert_int_equal((call), code);         \
    assert_int_equal(err.status, code);     \
    assert_string_equal(err.message, text); \
    assert_null(out);                       \
  } while (0)

static ckpt_tensor *scalar(void) { return counted(0, NULL); }

/* ---- parts ---- */

static void select_takes_a_dimension_away(void **state) {
  (void)state;
  ckpt_tensor *t = counted(3, DIMS(2, 3, 4)), *v = NULL;
  OK(ckpt_tensor_select(&v, t, 1, 2, NULL));
  assert_shape(v, 2, DIMS(2, 4));
  assert_stride(v, DIMS(12, 1));
  assert_int_equal(ckpt_tensor_offset(v), 8);
  assert_true(ckpt_tensor_shares_storage(v, t));
  assert_ints(v, INTS(8, 9, 10, 11, 20, 21, 22, 23));
  OK(ckpt_tensor_select(&v, t, -1, -1, NULL));
  assert_ints(v, INTS(3, 7, 11, 15, 19, 23));
  REFUSED(ckpt_tensor_select(&out, t, 3, 0, &err), CKPT_E_RANGE, "there is no dimension 3 in a tensor of 3");
  REFUSED(ckpt_tensor_select(&out, t, 0, 2, &err), CKPT_E_RANGE, "index 2 is outside dimension 0 of size 2");
  REFUSED(ckpt_tensor_select(&out, t, 0, -3, &err), CKPT_E_RANGE, "index -3 is outside dimension 0 of size 2");
  ckpt_tensor_release(t);
}

static void slices(void **state) {
  (void)state;
  ckpt_tensor *t = counted(2, DIMS(3, 4)), *v = NULL;
  OK(ckpt_tensor_slice(&v, t, 1, 1, 4, 2, NULL));
  assert_shape(v, 2, DIMS(3, 2));
  assert_stride(v, DIMS(4, 2));
  assert_ints(v, INTS(1, 3, 5, 7, 9, 11));
  OK(ckpt_tensor_slice(&v, t, 0, 1, 3, 1, NULL));
  assert_true(ckpt_tensor_is_contiguous(v));
  assert_ints(v, INTS(4, 5, 6, 7, 8, 9, 10, 11));
  OK(ckpt_tensor_slice(&v, t, 0, 0, 3, INT64_MAX, NULL)); /* the first row only */
  assert_ints(v, INTS(0, 1, 2, 3));
  OK(ckpt_tensor_slice(&v, t, 0, 3, 3, 1, NULL));
  assert_shape(v, 2, DIMS(0, 4));
  ckpt_tensor_release(v);
  REFUSED(ckpt_tensor_slice(&out, t, 1, -1, 2, 1, &err), CKPT_E_RANGE,
          "entries [-1, 2) are not inside dimension 1 of size 4");
  REFUSED(ckpt_tensor_slice(&out, t, 1, 0, 5, 1, &err), CKPT_E_RANGE,
          "entries [0, 5) are not inside dimension 1 of size 4");
  REFUSED(ckpt_tensor_slice(&out, t, 1, 3, 2, 1, &err), CKPT_E_RANGE,
          "entries [3, 2) are not inside dimension 1 of size 4");
  REFUSED(ckpt_tensor_slice(&out, t, 1, 0, 2, 0, &err), CKPT_E_RANGE, "a step of 0; the least is 1");
  ckpt_tensor_release(t);
}

static void splits(void **state) {
  (void)state;
  ckpt_tensor *t = counted(2, DIMS(2, 5)), *v[3] = {NULL};
  OK(ckpt_tensor_split(v, t, 3, DIMS(1, 0, 4), 1, NULL));
  assert_ints(v[0], INTS(0, 5));
  assert_shape(v[1], 2, DIMS(2, 0));
  ckpt_tensor_release(v[1]);
  assert_ints(v[2], INTS(1, 2, 3, 4, 6, 7, 8, 9));
  REFUSED(ckpt_tensor_split(&out, t, 2, DIMS(1, 3), 1, &err), CKPT_E_SHAPE,
          "the sizes add up to 4, the dimension has 5 entries");
  REFUSED(ckpt_tensor_split(&out, t, 2, DIMS(-1, 6), 1, &err), CKPT_E_RANGE, "size -1 is negative");
  REFUSED(ckpt_tensor_split(&out, t, 2, DIMS(INT64_MAX, 6), 1, &err), CKPT_E_SHAPE,
          "the sizes add up to 9223372036854775807, the dimension has 5 entries");
  REFUSED(ckpt_tensor_split(&out, t, 1, DIMS(2), 2, &err), CKPT_E_RANGE, "there is no dimension 2 in a tensor of 2");
  ckpt_tensor_release(t);
}

static void chunks(void **state) {
  (void)state;
  ckpt_tensor *t = counted(1, DIMS(5)), *empty = counted(2, DIMS(3, 0)), *v[4] = {NULL};
  size_t n = 99;
  OK(ckpt_tensor_chunk(v, &n, t, 4, 0, NULL)); /* 2, 2, 1: three of them, as in PyTorch */
  assert_int_equal(n, 3);
  assert_ints(v[0], INTS(0, 1));
  assert_ints(v[1], INTS(2, 3));
  assert_ints(v[2], INTS(4));
  OK(ckpt_tensor_chunk(v, &n, empty, 2, 1, NULL));
  assert_int_equal(n, 2);
  for (size_t i = 0; i < n; i++) {
    assert_shape(v[i], 2, DIMS(3, 0));
    ckpt_tensor_release(v[i]);
  }
  REFUSED(ckpt_tensor_chunk(&out, &n, t, 0, 0, &err), CKPT_E_RANGE, "a tensor has 1 chunk or more, not 0");
  REFUSED(ckpt_tensor_chunk(&out, &n, t, 1, 1, &err), CKPT_E_RANGE, "there is no dimension 1 in a tensor of 1");
  assert_int_equal(n, 2);
  ckpt_tensor_release(t);
  ckpt_tensor_release(empty);
}

/* ---- order ---- */

static void permutes(void **state) {
  (void)state;
  ckpt_tensor *t = counted(3, DIMS(2, 3, 2)), *v = NULL;
  OK(ckpt_tensor_permute(&v, t, (const int[]){2, 0, -2}, NULL));
  assert_shape(v, 3, DIMS(2, 2, 3));
  assert_stride(v, DIMS(1, 6, 2));
  assert_ints(v, INTS(0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11));
  OK(ckpt_tensor_transpose(&v, t, 0, -1, NULL));
  assert_stride(v, DIMS(1, 2, 6));
  ckpt_tensor_release(v);
  REFUSED(ckpt_tensor_permute(&out, t, (const int[]){0, 1, 1}, &err), CKPT_E_RANGE, "dimension 1 is named twice");
  REFUSED(ckpt_tensor_permute(&out, t, (const int[]){0, 1, 3}, &err), CKPT_E_RANGE,
          "there is no dimension 3 in a tensor of 3");
  REFUSED(ckpt_tensor_transpose(&out, t, 0, -4, &err), CKPT_E_RANGE, "there is no dimension -4 in a tensor of 3");
  ckpt_tensor_release(t);
}

/* ---- sizes of 1 ---- */

static void squeezes(void **state) {
  (void)state;
  ckpt_tensor *t = counted(4, DIMS(1, 2, 1, 3)), *v = NULL;
  OK(ckpt_tensor_squeeze(&v, t, 0, NULL, NULL));
  assert_shape(v, 2, DIMS(2, 3));
  ckpt_tensor_release(v);
  OK(ckpt_tensor_squeeze(&v, t, 2, (const int[]){-2, 1}, NULL)); /* dimension 1 has size 2 and stays */
  assert_shape(v, 3, DIMS(1, 2, 3));
  ckpt_tensor_release(v);
  OK(ckpt_tensor_unsqueeze(&v, t, -1, NULL));
  assert_shape(v, 5, DIMS(1, 2, 1, 3, 1));
  assert_stride(v, DIMS(6, 3, 3, 1, 1));
  ckpt_tensor_release(v);
  OK(ckpt_tensor_unsqueeze(&v, t, 1, NULL));
  assert_shape(v, 5, DIMS(1, 1, 2, 1, 3));
  ckpt_tensor_release(v);
  REFUSED(ckpt_tensor_squeeze(&out, t, 1, (const int[]){4}, &err), CKPT_E_RANGE,
          "there is no dimension 4 in a tensor of 4");
  REFUSED(ckpt_tensor_unsqueeze(&out, t, 5, &err), CKPT_E_RANGE, "there is no dimension 5 in a tensor of 5");
  ckpt_tensor_release(t);
}

static void as_many_dimensions_as_there_can_be(void **state) {
  (void)state;
  ckpt_tensor *t = scalar();
  for (int i = 0; i < CKPT_MAX_DIMS; i++) {
    ckpt_tensor *next = NULL;
    OK(ckpt_tensor_unsqueeze(&next, t, 0, NULL));
    ckpt_tensor_release(t);
    t = next;
  }
  REFUSED(ckpt_tensor_unsqueeze(&out, t, 0, &err), CKPT_E_LIMIT, "65 dimensions; at most 64 are supported");
  ckpt_tensor *flat = NULL;
  OK(ckpt_tensor_flatten(&flat, t, 0, -1, NULL));
  assert_shape(flat, 1, DIMS(1));
  ckpt_tensor_release(flat);
  ckpt_tensor_release(t);
}

static void expands(void **state) {
  (void)state;
  ckpt_tensor *t = counted(2, DIMS(2, 1)), *v = NULL;
  OK(ckpt_tensor_expand(&v, t, 3, DIMS(2, -1, 3), NULL));
  assert_shape(v, 3, DIMS(2, 2, 3));
  assert_stride(v, DIMS(0, 1, 0));
  assert_ints(v, INTS(0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1));
  OK(ckpt_tensor_expand(&v, t, 2, DIMS(2, 0), NULL));
  assert_int_equal(ckpt_tensor_numel(v), 0);
  ckpt_tensor_release(v);
  REFUSED(ckpt_tensor_expand(&out, t, 2, DIMS(3, 1), &err), CKPT_E_SHAPE, "shape [2, 1] does not expand to [3, 1]");
  REFUSED(ckpt_tensor_expand(&out, t, 1, DIMS(2), &err), CKPT_E_SHAPE, "shape [2, 1] does not expand to [2]");
  REFUSED(ckpt_tensor_expand(&out, t, 3, DIMS(-1, 2, 1), &err), CKPT_E_SHAPE,
          "shape [2, 1] does not expand to [-1, 2, 1]");
  ckpt_tensor_release(t);
}

/* ---- reshape ---- */

static void reshape_is_a_view_where_it_can_be(void **state) {
  (void)state;
  ckpt_tensor *t = counted(3, DIMS(2, 3, 4)), *part = NULL, *v = NULL;
  OK(ckpt_tensor_reshape(&v, t, 3, DIMS(4, -1, 1), NULL));
  assert_shape(v, 3, DIMS(4, 6, 1));
  assert_true(ckpt_tensor_shares_storage(v, t));
  ckpt_tensor_release(v);
  OK(ckpt_tensor_slice(&part, t, 2, 1, 3, 1, NULL)); /* [2, 3, 2], strides 12, 4, 1 */
  OK(ckpt_tensor_flatten(&v, part, 0, 1, NULL));     /* the first two run on */
  assert_shape(v, 2, DIMS(6, 2));
  assert_stride(v, DIMS(4, 1));
  assert_true(ckpt_tensor_shares_storage(v, t));
  ckpt_tensor_release(v);
  OK(ckpt_tensor_reshape(&v, part, 4, DIMS(2, 3, 2, 1), NULL));
  assert_stride(v, DIMS(12, 4, 1, 1));
  ckpt_tensor_release(v);
  OK(ckpt_tensor_flatten(&v, part, 0, -1, NULL)); /* the last two do not */
  assert_false(ckpt_tensor_shares_storage(v, t));
  assert_true(ckpt_tensor_is_contiguous(v));
  assert_ints(v, INTS(1, 2, 5, 6, 9, 10, 13, 14, 17, 18, 21, 22));
  ckpt_tensor_release(part);
  ckpt_tensor_release(t);
}

static void reshape_of_little(void **state) {
  (void)state;
  ckpt_tensor *t = scalar(), *empty = counted(2, DIMS(0, 3)), *v = NULL;
  OK(ckpt_tensor_reshape(&v, t, 2, DIMS(1, -1), NULL));
  assert_shape(v, 2, DIMS(1, 1));
  ckpt_tensor *back = NULL;
  OK(ckpt_tensor_reshape(&back, v, 0, NULL, NULL));
  assert_shape(back, 0, NULL);
  ckpt_tensor_release(back);
  ckpt_tensor_release(v);
  OK(ckpt_tensor_flatten(&v, t, 0, 0, NULL));
  assert_shape(v, 1, DIMS(1));
  ckpt_tensor_release(v);
  OK(ckpt_tensor_reshape(&v, empty, 2, DIMS(5, -1), NULL));
  assert_shape(v, 2, DIMS(5, 0));
  ckpt_tensor_release(v);
  OK(ckpt_tensor_flatten(&v, empty, 0, 1, NULL));
  assert_shape(v, 1, DIMS(0));
  ckpt_tensor_release(v);
  REFUSED(ckpt_tensor_reshape(&out, empty, 2, DIMS(0, -1), &err), CKPT_E_SHAPE, "shape [0, 3] cannot become [0, -1]");
  ckpt_tensor_release(t);
  ckpt_tensor_release(empty);
}

static void refused_reshapes(void **state) {
  (void)state;
  ckpt_tensor *t = counted(2, DIMS(2, 3));
  REFUSED(ckpt_tensor_reshape(&out, t, 1, DIMS(5), &err), CKPT_E_SHAPE, "shape [2, 3] cannot become [5]");
  REFUSED(ckpt_tensor_reshape(&out, t, 2, DIMS(-1, -1), &err), CKPT_E_SHAPE, "shape [2, 3] cannot become [-1, -1]");
  REFUSED(ckpt_tensor_reshape(&out, t, 2, DIMS(-1, 4), &err), CKPT_E_SHAPE, "shape [2, 3] cannot become [-1, 4]");
  REFUSED(ckpt_tensor_reshape(&out, t, 2, DIMS(-2, -3), &err), CKPT_E_SHAPE, "shape [2, 3] cannot become [-2, -3]");
  REFUSED(ckpt_tensor_reshape(&out, t, 0, NULL, &err), CKPT_E_SHAPE, "shape [2, 3] cannot become []");
  REFUSED(ckpt_tensor_reshape(&out, t, 2, DIMS(INT64_MAX, INT64_MAX), &err), CKPT_E_SHAPE,
          "shape [2, 3] cannot become [9223372036854775807, 9223372036854775807]");
  REFUSED(ckpt_tensor_reshape(&out, t, 65, NULL, &err), CKPT_E_LIMIT, "65 dimensions; at most 64 are supported");
  REFUSED(ckpt_tensor_flatten(&out, t, 1, 0, &err), CKPT_E_RANGE, "dimension 1 comes after dimension 0");
  REFUSED(ckpt_tensor_flatten(&out, t, 0, 2, &err), CKPT_E_RANGE, "there is no dimension 2 in a tensor of 2");
  ckpt_tensor_release(t);
}

/* A message holds as much of a long shape as it can. */
static void long_shapes_in_messages(void **state) {
  (void)state;
  int64_t shape[CKPT_MAX_DIMS];
  ckpt_error err = {.status = CKPT_OK};
  ckpt_tensor *out = NULL, *t = NULL;
  for (int i = 0; i < CKPT_MAX_DIMS; i++) shape[i] = i == 0 ? INT64_MAX : 1;
  t = meta_of(CKPT_U8, CKPT_MAX_DIMS, shape);
  assert_int_equal(ckpt_tensor_reshape(&out, t, 1, DIMS(5), &err), CKPT_E_SHAPE);
  assert_non_null(strstr(err.message, "shape [9223372036854775807, 1, 1, "));
  assert_non_null(strstr(err.message, " cannot become [5]"));
  ckpt_tensor_release(t);
}

/* ---- without data ---- */

static void meta_tensors_have_views(void **state) {
  (void)state;
  ckpt_tensor *t = meta_of(CKPT_F32, 2, DIMS(1000000, 3000000)), *v = NULL, *w = NULL;
  OK(ckpt_tensor_slice(&v, t, 0, 10, 20, 3, NULL));
  assert_true(ckpt_tensor_is_meta(v));
  assert_shape(v, 2, DIMS(4, 3000000));
  OK(ckpt_tensor_flatten(&w, v, 0, 1, NULL)); /* no view, but nothing to compute either */
  assert_true(ckpt_tensor_is_meta(w));
  assert_shape(w, 1, DIMS(12000000));
  ckpt_tensor_release(v);
  ckpt_tensor_release(w);
  ckpt_tensor_release(t);
}

/* Strides of a meta tensor are not bounded by a storage. */
static void wild_strides(void **state) {
  (void)state;
  ckpt_tensor *t = NULL, *flat = NULL;
  ckpt_tensor_spec spec = {.dtype = CKPT_F32, .ndim = 2, .shape = DIMS(8, 8), .stride = DIMS(INT64_MAX, INT64_MAX / 2)};
  OK(ckpt_tensor_make(&t, NULL, &spec, NULL));
  REFUSED(ckpt_tensor_select(&out, t, 0, 2, &err), CKPT_E_RANGE, "the position of entry 2 does not fit in 63 bits");
  REFUSED(ckpt_tensor_slice(&out, t, 1, 0, 8, 4, &err), CKPT_E_RANGE,
          "the stride of dimension 1 does not fit in 63 bits");
  OK(ckpt_tensor_flatten(&flat, t, 0, 1, NULL));
  assert_shape(flat, 1, DIMS(64));
  ckpt_tensor_release(flat);
  ckpt_tensor_release(t);
}

static void views_do_not_look(void **state) {
  (void)state;
  source s;
  count_up(&s);
  ckpt_tensor *t = sourced(&s, CKPT_I32, 2, DIMS(8, 8)), *a = NULL, *b = NULL;
  OK(ckpt_tensor_permute(&a, t, (const int[]){1, 0}, NULL));
  OK(ckpt_tensor_slice(&b, a, 0, 1, 3, 1, NULL));
  assert_int_equal(s.fetched, 0);
  ckpt_tensor_release(a);
  ckpt_tensor_release(t);
  assert_int_equal(s.dropped, 0);
  ckpt_tensor_release(b);
  assert_int_equal(s.dropped, 1);
  assert_int_equal(s.fetched, 0);
}

/* ---- dtypes ---- */

static void packed_elements_share_bytes(void **state) {
  (void)state;
  ckpt_tensor *t = NULL, *v[1];
  size_t n;
  OK(ckpt_tensor_new(&t, CKPT_QU4X2, 2, DIMS(2, 2), NULL));
  REFUSED(ckpt_tensor_select(&out, t, 0, 0, &err), CKPT_E_UNSUPPORTED, "no select on packed quint4x2");
  REFUSED(ckpt_tensor_slice(&out, t, 0, 0, 1, 1, &err), CKPT_E_UNSUPPORTED, "no slice on packed quint4x2");
  REFUSED(ckpt_tensor_split(v, t, 1, DIMS(2), 0, &err), CKPT_E_UNSUPPORTED, "no slice on packed quint4x2");
  REFUSED(ckpt_tensor_chunk(v, &n, t, 1, 0, &err), CKPT_E_UNSUPPORTED, "no slice on packed quint4x2");
  REFUSED(ckpt_tensor_permute(&out, t, (const int[]){1, 0}, &err), CKPT_E_UNSUPPORTED, "no permute on packed quint4x2");
  REFUSED(ckpt_tensor_transpose(&out, t, 0, 1, &err), CKPT_E_UNSUPPORTED, "no transpose on packed quint4x2");
  REFUSED(ckpt_tensor_reshape(&out, t, 1, DIMS(4), &err), CKPT_E_UNSUPPORTED, "no reshape on packed quint4x2");
  REFUSED(ckpt_tensor_squeeze(&out, t, 0, NULL, &err), CKPT_E_UNSUPPORTED, "no squeeze on packed quint4x2");
  REFUSED(ckpt_tensor_unsqueeze(&out, t, 0, &err), CKPT_E_UNSUPPORTED, "no unsqueeze on packed quint4x2");
  REFUSED(ckpt_tensor_expand(&out, t, 2, DIMS(2, 2), &err), CKPT_E_UNSUPPORTED, "no expand on packed quint4x2");
  ckpt_tensor_release(t);
}

static void views_keep_what_a_handle_says(void **state) {
  (void)state;
  ckpt_tensor *t = NULL, *v = NULL, *base = NULL;
  OK(ckpt_tensor_new(&base, CKPT_C64, 1, DIMS(4), NULL));
  ckpt_tensor_spec spec = {.dtype = CKPT_C64, .ndim = 1, .shape = DIMS(4), .requires_grad = true, .conj = true};
  OK(ckpt_tensor_make(&t, ckpt_tensor_storage(base), &spec, NULL));
  OK(ckpt_tensor_slice(&v, t, 0, 1, 3, 1, NULL));
  assert_true(ckpt_tensor_conj(v) && ckpt_tensor_requires_grad(v) && !ckpt_tensor_neg(v));
  ckpt_tensor_release(v);
  ckpt_tensor_release(t);
  ckpt_tensor_release(base);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(select_takes_a_dimension_away),
      cmocka_unit_test(slices),
      cmocka_unit_test(splits),
      cmocka_unit_test(chunks),
      cmocka_unit_test(permutes),
      cmocka_unit_test(squeezes),
      cmocka_unit_test(as_many_dimensions_as_there_can_be),
      cmocka_unit_test(expands),
      cmocka_unit_test(reshape_is_a_view_where_it_can_be),
      cmocka_unit_test(reshape_of_little),
      cmocka_unit_test(refused_reshapes),
      cmocka_unit_test(long_shapes_in_messages),
      cmocka_unit_test(meta_tensors_have_views),
      cmocka_unit_test(wild_strides),
      cmocka_unit_test(views_do_not_look),
      cmocka_unit_test(packed_elements_share_bytes),
      cmocka_unit_test(views_keep_what_a_handle_says),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
