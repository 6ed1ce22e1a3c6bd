// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup
/* test_state_dict.c - order, replacement, removal, look-up, ownership, and what a dict of a file may hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../runtime/value.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *s);

static long countdown = -1; /* allocations until one fails; -1: none does */

static bool fails(void) { return countdown >= 0 && countdown-- == 0; }
void *__wrap_malloc(size_t size) { return fails() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t n, size_t size) { return fails() ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t size) { return fails() ? NULL : __real_realloc(p, size); }
char *__wrap_strdup(const char *s) { return fails() ? NULL : __real_strdup(s); }

/* A meta tensor whose one dimension tells it from others. */
static ckpt_tensor *tensor(int64_t length) {
  ckpt_tensor *t = NULL;
  assert_int_equal(ckpt_tensor_meta(&t, CKPT_F32, 1, &length, NULL), CKPT_OK);
  return t;
}

static ckpt_status set(ckpt_state_dict *sd, const char *name, int64_t length, ckpt_error *err) {
  ckpt_tensor *t = tensor(length);
  ckpt_status st = ckpt_state_dict_set(sd, name, t, err);
  ckpt_tensor_release(t);
  return st;
}

static int64_t length_of(const ckpt_tensor *t) { return ckpt_tensor_shape(t)[0]; }

/* "a=1 b=2": names and lengths in order; also that each name is found. */
static void assert_holds(const ckpt_state_dict *sd, const char *expected) {
  char text[1024] = "";
  size_t n = 0;
  for (size_t i = 0; i < ckpt_state_dict_count(sd); i++) {
    const char *name = ckpt_state_dict_name(sd, i);
    const ckpt_tensor *t = ckpt_state_dict_tensor(sd, i);
    assert_ptr_equal(ckpt_state_dict_get(sd, name), t);
    n += (size_t)snprintf(text + n, sizeof text - n, "%s%s=%d", i == 0 ? "" : " ", name, (int)length_of(t));
  }
  assert_string_equal(text, expected);
}

static ckpt_state_dict *new_abc(void) {
  ckpt_state_dict *sd = NULL;
  assert_int_equal(ckpt_state_dict_new(&sd, NULL), CKPT_OK);
  assert_int_equal(set(sd, "a", 1, NULL), CKPT_OK);
  assert_int_equal(set(sd, "b", 2, NULL), CKPT_OK);
  assert_int_equal(set(sd, "c", 3, NULL), CKPT_OK);
  return sd;
}

static void test_order(void **state) {
  (void)state;
  ckpt_state_dict *sd = new_abc();
  assert_holds(sd, "a=1 b=2 c=3");
  assert_int_equal(set(sd, "", 4, NULL), CKPT_OK);
  assert_int_equal(set(sd, "a", 5, NULL), CKPT_OK); /* in its place */
  assert_holds(sd, "a=5 b=2 c=3 =4");
  assert_null(ckpt_state_dict_name(sd, 4));
  assert_null(ckpt_state_dict_tensor(sd, 4));
  assert_null(ckpt_state_dict_get(sd, "d"));
  ckpt_state_dict_free(sd);
  ckpt_state_dict_free(NULL);
}

static void test_empty(void **state) {
  (void)state;
  ckpt_state_dict *sd = NULL;
  ckpt_error err;
  assert_int_equal(ckpt_state_dict_new(&sd, NULL), CKPT_OK);
  assert_int_equal(ckpt_state_dict_count(sd), 0);
  assert_null(ckpt_state_dict_name(sd, 0));
  assert_null(ckpt_state_dict_get(sd, ""));
  assert_int_equal(ckpt_state_dict_remove(sd, "a", &err), CKPT_E_NOTFOUND);
  assert_string_equal(err.message, "the state dict has no 'a'");
  ckpt_state_dict_free(sd);
}

static void test_remove(void **state) {
  (void)state;
  ckpt_state_dict *sd = new_abc();
  assert_int_equal(ckpt_state_dict_remove(sd, "b", NULL), CKPT_OK);
  assert_holds(sd, "a=1 c=3");
  assert_null(ckpt_state_dict_get(sd, "b"));
  assert_int_equal(ckpt_state_dict_remove(sd, "b", NULL), CKPT_E_NOTFOUND);
  assert_int_equal(set(sd, "b", 6, NULL), CKPT_OK); /* now the last */
  assert_holds(sd, "a=1 c=3 b=6");
  assert_int_equal(ckpt_state_dict_remove(sd, "a", NULL), CKPT_OK);
  assert_int_equal(ckpt_state_dict_remove(sd, "b", NULL), CKPT_OK);
  assert_int_equal(ckpt_state_dict_remove(sd, "c", NULL), CKPT_OK);
  assert_holds(sd, "");
  ckpt_state_dict_free(sd);
}

static void test_retains(void **state) {
  (void)state;
  ckpt_state_dict *sd = new_abc();
  ckpt_tensor *t = ckpt_tensor_retain(ckpt_state_dict_get(sd, "a")), *same = ckpt_state_dict_get(sd, "b");
  assert_int_equal(ckpt_state_dict_set(sd, "b", same, NULL), CKPT_OK); /* by itself: must not be freed first */
  assert_int_equal(length_of(ckpt_state_dict_get(sd, "b")), 2);
  ckpt_state_dict_free(sd);
  assert_int_equal(length_of(t), 1);
  ckpt_tensor_release(t);
}

/* Against an array of what should be there: random sets and removals, order and all. */
static void test_many(void **state) {
  (void)state;
  enum { NAMES = 500, STEPS = 5000 };
  int64_t there[NAMES], order[NAMES];
  size_t count = 0;
  char name[16];
  ckpt_state_dict *sd = NULL;
  unsigned random = 12345;
  assert_int_equal(ckpt_state_dict_new(&sd, NULL), CKPT_OK);
  memset(there, 0, sizeof there);
  for (int64_t step = 1; step <= STEPS; step++) {
    random = random * 1103515245u + 12345u;
    unsigned k = (random >> 16) % NAMES;
    snprintf(name, sizeof name, "layer.%u", k);
    if (there[k] == 0) order[count++] = k;
    if (there[k] == 0 || step % 2 == 0) {
      there[k] = step;
      assert_int_equal(set(sd, name, step, NULL), CKPT_OK);
      continue;
    }
    there[k] = 0;
    size_t at = 0;
    while (order[at] != k) at++;
    memmove(order + at, order + at + 1, (--count - at) * sizeof *order);
    assert_int_equal(ckpt_state_dict_remove(sd, name, NULL), CKPT_OK);
  }
  assert_int_equal(ckpt_state_dict_count(sd), count);
  for (size_t i = 0; i < count; i++) {
    snprintf(name, sizeof name, "layer.%d", (int)order[i]);
    assert_string_equal(ckpt_state_dict_name(sd, i), name);
    assert_int_equal(length_of(ckpt_state_dict_get(sd, name)), there[order[i]]);
  }
  ckpt_state_dict_free(sd);
}

/* What failed left the dict as it was. */
static void test_every_allocation_can_fail(void **state) {
  (void)state;
  char name[16];
  ckpt_state_dict *sd = new_abc();
  for (int i = 0; i < 60; i++) { /* the arrays and the index grow on the way */
    ckpt_error err = {0};
    ckpt_status st = CKPT_E_NOMEM;
    ckpt_tensor *t = tensor(i + 10);
    snprintf(name, sizeof name, "n%d", i);
    for (long n = 0; st != CKPT_OK; n++) {
      size_t before = ckpt_state_dict_count(sd);
      countdown = n;
      st = ckpt_state_dict_set(sd, name, t, &err);
      countdown = -1;
      if (st == CKPT_OK) continue;
      assert_true(st == CKPT_E_NOMEM && err.status == st);
      assert_int_equal(ckpt_state_dict_count(sd), before);
      assert_null(ckpt_state_dict_get(sd, name));
    }
    assert_ptr_equal(ckpt_state_dict_get(sd, name), t);
    ckpt_tensor_release(t);
  }
  ckpt_state_dict_free(sd);
}

static void test_removal_needs_no_memory(void **state) {
  (void)state;
  ckpt_state_dict *sd = new_abc();
  countdown = 0;
  assert_int_equal(ckpt_state_dict_remove(sd, "a", NULL), CKPT_OK);
  assert_int_equal(countdown, 0);
  countdown = -1;
  assert_holds(sd, "b=2 c=3");
  ckpt_state_dict_free(sd);
}

/* The name may be the dict's own: it is not looked at once it is freed. */
static void test_remove_by_its_own_name(void **state) {
  (void)state;
  ckpt_state_dict *sd = new_abc();
  while (ckpt_state_dict_count(sd) > 0)
    assert_int_equal(ckpt_state_dict_remove(sd, ckpt_state_dict_name(sd, 0), NULL), CKPT_OK);
  ckpt_state_dict_free(sd);
}

/* ---- From values ------------------------------------------------------------------------------------- */

static ckpt_document *doc;

static int new_document(void **state) {
  (void)state;
  return ckpt_document_new(&doc, NULL);
}

static int drop_document(void **state) {
  (void)state;
  ckpt_document_release(doc);
  return 0;
}

static ckpt_value *tensor_value(int64_t length) {
  ckpt_value *v = NULL;
  ckpt_tensor *t = tensor(length);
  assert_int_equal(ckpt_value_new_tensor(&v, doc, t, NULL), CKPT_OK);
  ckpt_tensor_release(t);
  return v;
}

static ckpt_value *new_dict(void) {
  ckpt_value *dict = NULL, *epoch = NULL;
  assert_int_equal(ckpt_value_new_dict(&dict, doc, true, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_int(&epoch, doc, 3, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_set(dict, doc, "w", tensor_value(7), NULL), CKPT_OK);
  assert_int_equal(ckpt_value_set(dict, doc, "epoch", epoch, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_set(dict, doc, "b", tensor_value(8), NULL), CKPT_OK);
  return dict;
}

static void test_from_value(void **state) {
  (void)state;
  ckpt_state_dict *sd = NULL;
  size_t skipped = 99;
  ckpt_value *dict = new_dict();
  assert_int_equal(ckpt_state_dict_from_value(&sd, dict, &skipped, NULL), CKPT_OK);
  assert_holds(sd, "w=7 b=8");
  assert_int_equal(skipped, 1);
  assert_ptr_equal(ckpt_state_dict_get(sd, "w"), ckpt_value_tensor(ckpt_value_get(dict, "w")));
  ckpt_state_dict_free(sd);
  assert_int_equal(ckpt_state_dict_from_value(&sd, dict, NULL, NULL), CKPT_OK);
  ckpt_state_dict_free(sd);
}

static void test_from_value_without_memory(void **state) {
  (void)state;
  ckpt_value *dict = new_dict();
  ckpt_status st = CKPT_E_NOMEM;
  ckpt_state_dict *sd = NULL;
  long n = 0;
  for (; st != CKPT_OK; n++) {
    size_t skipped = 99;
    countdown = n;
    st = ckpt_state_dict_from_value(&sd, dict, &skipped, NULL);
    countdown = -1;
    if (st != CKPT_OK) assert_true(st == CKPT_E_NOMEM && sd == NULL && skipped == 99);
  }
  assert_true(n > 4);
  ckpt_state_dict_free(sd);
}

static void expect_type_error(const ckpt_value *v, const char *text) {
  ckpt_state_dict *sd = NULL;
  ckpt_error err = {0};
  size_t skipped = 99;
  assert_int_equal(ckpt_state_dict_from_value(&sd, v, &skipped, &err), CKPT_E_TYPE);
  if (strstr(err.message, text) == NULL) fail_msg("%s", err.message);
  assert_null(sd);
  assert_int_equal(skipped, 99);
}

static void test_no_state_dict(void **state) {
  (void)state;
  ckpt_value *list = NULL;
  assert_int_equal(ckpt_value_new_list(&list, doc, NULL), CKPT_OK);
  expect_type_error(list, "a value of kind list where a state dict was expected");
  expect_type_error(tensor_value(1), "a value of kind tensor where a state dict was expected");
}

static ckpt_value *dict_with_key(ckpt_value *key) {
  ckpt_value *dict = new_dict();
  assert_int_equal(ckpt_dict_put(dict->as.dict, doc, key, tensor_value(1), NULL), CKPT_OK);
  return dict;
}

static void test_foreign_keys(void **state) {
  (void)state;
  ckpt_value *zero = NULL, *nul = NULL;
  assert_int_equal(ckpt_value_new_int(&zero, doc, 0, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_str(&nul, doc, "w\0x", 3, NULL), CKPT_OK);
  expect_type_error(dict_with_key(zero), "key 3 of the dict is of kind int, a state dict has names only");
  expect_type_error(dict_with_key(nul), "key 3 of the dict ('w') contains a NUL, a tensor's name cannot");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_order),
      cmocka_unit_test(test_empty),
      cmocka_unit_test(test_remove),
      cmocka_unit_test(test_retains),
      cmocka_unit_test(test_many),
      cmocka_unit_test(test_every_allocation_can_fail),
      cmocka_unit_test(test_removal_needs_no_memory),
      cmocka_unit_test(test_remove_by_its_own_name),
      cmocka_unit_test_setup_teardown(test_from_value, new_document, drop_document),
      cmocka_unit_test_setup_teardown(test_from_value_without_memory, new_document, drop_document),
      cmocka_unit_test_setup_teardown(test_no_state_dict, new_document, drop_document),
      cmocka_unit_test_setup_teardown(test_foreign_keys, new_document, drop_document),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
