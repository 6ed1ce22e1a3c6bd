// LDFLAGS: -Wl,--wrap=malloc,--wrap=free
/* test_lazy_save.c - saving tensors that are not computed yet: what is written, and how much memory it takes. */
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#include "tensor_fixture.h"

#define OK(call) assert_int_equal((call), CKPT_OK)

/* ---- memory in large pieces ---- */

static size_t held, most;

static size_t large(void *p) {
  size_t n = p == NULL ? 0 : malloc_usable_size(p);
  return n >= 1 << 20 ? n : 0;
}

void *__real_malloc(size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void __wrap_free(void *p);

void *__wrap_malloc(size_t n) {
  void *p = __real_malloc(n);
  held += large(p);
  if (held > most) most = held;
  return p;
}

void __wrap_free(void *p) {
  held -= large(p);
  __real_free(p);
}

/* ---- files ---- */

static int set_up(void **state) {
  const char *base = getenv("TMPDIR");
  char *path = malloc(PATH_MAX);
  snprintf(path, PATH_MAX, "%s/ckpt-lazy-XXXXXX", base == NULL ? "/tmp" : base);
  *state = mkdtemp(path);
  return *state == NULL;
}

static const char *in(const char *dir, const char *name) {
  static char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  return path;
}

static int tear_down(void **state) {
  unlink(in(*state, "a.pth"));
  int failed = rmdir(*state); /* not empty: a temporary was left */
  free(*state);
  return failed;
}

static void add(ckpt_document *doc, const char *key, ckpt_tensor *t) {
  ckpt_value *v = NULL;
  OK(ckpt_value_new_tensor(&v, doc, t, NULL));
  OK(ckpt_value_set(ckpt_document_root(doc), doc, key, v, NULL));
}

static ckpt_document *dict_document(void) {
  ckpt_document *doc = NULL;
  ckpt_value *root = NULL;
  OK(ckpt_document_new(&doc, NULL));
  OK(ckpt_value_new_dict(&root, doc, true, NULL));
  ckpt_document_set_root(doc, root);
  return doc;
}

/* ---- saving ---- */

enum { TENSORS = 6, ELEMENTS = 1 << 20 }; /* of 4 bytes */

/* Lazy and large out of nothing: padding around an empty read-only tensor; then two steps more. */
static ckpt_tensor *large_and_lazy(source *s, int value) {
  ckpt_tensor *empty = sourced(s, CKPT_I32, 1, DIMS(0)), *padded = NULL, *wide = NULL, *t = NULL;
  OK(ckpt_tensor_pad(&padded, empty, DIMS(ELEMENTS), DIMS(0), ckpt_scalar_int(value), NULL));
  OK(ckpt_tensor_to(&wide, padded, CKPT_I16, NULL));
  OK(ckpt_tensor_to(&t, wide, CKPT_F32, NULL));
  ckpt_tensor_release(empty);
  ckpt_tensor_release(padded);
  ckpt_tensor_release(wide);
  return t;
}

static void one_tensor_in_memory_at_a_time(void **state) {
  source s = {0};
  char key[8];
  ckpt_document *doc = dict_document();
  ckpt_tensor *tensors[TENSORS];
  for (int i = 0; i < TENSORS; i++) {
    snprintf(key, sizeof key, "t%d", i);
    tensors[i] = large_and_lazy(&s, i);
    add(doc, key, tensors[i]);
  }
  most = held = 0;
  OK(ckpt_save_file(in(*state, "a.pth"), ckpt_document_root(doc), NULL));
  assert_true(most >= 4 * ELEMENTS);
  assert_true(most < 4 * 4 * ELEMENTS); /* one result, what it is computed from, and the writer's own blocks */
  assert_int_equal(held, 0);
  ckpt_checkpoint *cp = NULL;
  OK(ckpt_checkpoint_open(&cp, in(*state, "a.pth"), NULL, NULL));
  for (int i = 0; i < TENSORS; i++) {
    ckpt_scalar got;
    assert_int_equal(ckpt_tensor_heap_bytes(tensors[i]), 0);
    snprintf(key, sizeof key, "t%d", i);
    OK(ckpt_tensor_get(&got, ckpt_value_tensor(ckpt_value_get(ckpt_checkpoint_root(cp), key)), DIMS(-1), NULL));
    assert_true(got.real == i);
    ckpt_tensor_release(tensors[i]);
  }
  ckpt_checkpoint_close(cp);
  ckpt_document_release(doc);
}

static void what_was_looked_at_is_written_as_it_is(void **state) {
  source s;
  const void *data;
  count_up(&s);
  ckpt_document *doc = dict_document();
  ckpt_tensor *t = sourced(&s, CKPT_I32, 1, DIMS(8)), *v = NULL;
  OK(ckpt_tensor_flip(&v, t, 1, (const int[]){0}, NULL));
  OK(ckpt_tensor_data(&data, v, NULL));
  add(doc, "v", v);
  OK(ckpt_save_file(in(*state, "a.pth"), ckpt_document_root(doc), NULL));
  assert_int_equal(s.fetched, 1);
  assert_int_equal(ckpt_tensor_heap_bytes(v), 32);
  ckpt_tensor_release(t);
  ckpt_tensor_release(v);
  ckpt_document_release(doc);
}

/* A source that fails in the middle of a save: an error, and no file. */
static void a_failing_source(void **state) {
  source s;
  ckpt_error err = {.status = CKPT_OK};
  count_up(&s);
  s.fails = true;
  ckpt_document *doc = dict_document();
  ckpt_tensor *own = counted(1, DIMS(4)), *t = sourced(&s, CKPT_I32, 1, DIMS(8)), *v = NULL;
  OK(ckpt_tensor_roll(&v, t, 1, 0, NULL));
  add(doc, "own", own);
  add(doc, "v", v);
  assert_int_equal(ckpt_save_file(in(*state, "a.pth"), ckpt_document_root(doc), &err), CKPT_E_CORRUPT);
  assert_non_null(strstr(err.message, "the source fails"));
  assert_int_equal(access(in(*state, "a.pth"), F_OK), -1);
  ckpt_tensor *all[] = {own, t, v};
  for (size_t i = 0; i < CKPT_COUNTOF(all); i++) ckpt_tensor_release(all[i]);
  ckpt_document_release(doc);
}

#define IN_DIRECTORY(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      IN_DIRECTORY(one_tensor_in_memory_at_a_time),
      IN_DIRECTORY(what_was_looked_at_is_written_as_it_is),
      IN_DIRECTORY(a_failing_source),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
