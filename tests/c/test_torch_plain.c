// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup
/*
 * test_torch_plain.c - tensors taken at one glance are what the opcodes one by one make of them: for every cut of a
 * pickle, every byte of it changed, every limit, and whatever is asked of the memo afterwards or put in its place, both
 * ways give one status, one message, one value, and one pickle when it is written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "alloc_faults.h"
#include "pickle_write.h"
#include "repr.h"
#include "torch_build.h"

#define DIMS(...) ((const int64_t[]){__VA_ARGS__})

enum { MAX_STORAGE = 4096, ROOM = 8192 };

/* ---- both ways ---- */

static ckpt_status find(ckpt_storage **out, void *context, const char *key, uint64_t bytes, unsigned swap_unit,
                        ckpt_error *err) {
  (void)context, (void)swap_unit;
  if (bytes <= MAX_STORAGE) return ckpt_storage_new(out, (size_t)bytes, err);
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "there is no storage '%s'", key);
}

typedef struct reading {
  ckpt_status status;
  ckpt_error err;
  ckpt_document *doc;
  ckpt_value *root;
} reading;

static reading read_by(const unsigned char *bytes, size_t n, const ckpt_limits *limits, bool whole) {
  reading r = {0};
  ckpt_torch_builder *builder = NULL;
  assert_int_equal(ckpt_document_make(&r.doc, 0, NULL), CKPT_OK);
  if (limits != NULL) ckpt_document_set_limits(r.doc, limits);
  assert_int_equal(ckpt_torch_builder_new(&builder, r.doc, find, NULL, NULL), CKPT_OK);
  ckpt_pickle_hooks hooks = ckpt_torch_builder_hooks(builder);
  assert_non_null(hooks.call);
  if (!whole) hooks.call = NULL;
  r.status = ckpt_pickle_read(&r.root, NULL, r.doc, bytes, n, "data.pkl", &hooks, &r.err);
  ckpt_torch_builder_free(builder);
  return r;
}

static void assert_same_values(const reading *a, const reading *b) {
  ckpt_pickle p = {0}, q = {0};
  char *x = NULL, *y = NULL;
  size_t n = 0;
  assert_int_equal(ckpt_repr(&x, &n, a->root, 100000, NULL), CKPT_OK);
  assert_int_equal(ckpt_repr(&y, &n, b->root, 100000, NULL), CKPT_OK);
  assert_string_equal(x, y);
  ckpt_error e = {0}, f = {0};
  assert_int_equal(ckpt_pickle_write(&p, a->root, &e), ckpt_pickle_write(&q, b->root, &f));
  assert_string_equal(e.message, f.message);
  assert_int_equal(p.n, q.n);
  if (p.n > 0) assert_memory_equal(p.bytes, q.bytes, p.n);
  assert_int_equal(p.n_storages, q.n_storages);
  ckpt_pickle_free(&p);
  ckpt_pickle_free(&q);
  free(x);
  free(y);
}

/* Gives the status, which is that of both. */
static ckpt_status both(const unsigned char *bytes, size_t n, const ckpt_limits *limits) {
  reading a = read_by(bytes, n, limits, true), b = read_by(bytes, n, limits, false);
  assert_string_equal(a.err.message, b.err.message);
  assert_int_equal(a.status, b.status);
  assert_int_equal(a.err.position, b.err.position);
  if (a.status == CKPT_OK) assert_same_values(&a, &b);
  ckpt_document_release(a.doc);
  ckpt_document_release(b.doc);
  return a.status;
}

/* ---- a pickle ---- */

typedef struct sample {
  unsigned char bytes[ROOM];
  size_t n, puts; /* n without STOP; puts: entries of the memo */
} sample;

static void add(ckpt_value *dict, ckpt_document *doc, const char *name, ckpt_dtype dtype, int ndim, const int64_t *dims,
                bool grad) {
  ckpt_tensor *t = NULL, *with = NULL;
  ckpt_value *v = NULL;
  assert_int_equal(ckpt_tensor_new(&t, dtype, ndim, dims, NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_with_grad(&with, t, grad, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_tensor(&v, doc, with, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_set(dict, doc, name, v, NULL), CKPT_OK);
  ckpt_tensor_release(t);
  ckpt_tensor_release(with);
}

/* Of every rank and of two dtypes, with a second name for one and a view of half of another. */
static void make_sample(sample *s, size_t fillers) {
  ckpt_document *doc = NULL;
  ckpt_value *dict = NULL, *list = NULL, *number = NULL, *view = NULL;
  ckpt_tensor *half = NULL;
  ckpt_pickle p = {0};
  assert_int_equal(ckpt_document_new(&doc, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_dict(&dict, doc, true, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_list(&list, doc, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_set(dict, doc, "cpu", list, NULL), CKPT_OK);
  for (size_t i = 0; i < fillers; i++) { /* so that memo numbers take four bytes */
    assert_int_equal(ckpt_value_new_list(&number, doc, NULL), CKPT_OK);
    assert_int_equal(ckpt_value_append(list, doc, number, NULL), CKPT_OK);
  }
  add(dict, doc, "first", CKPT_F32, 1, DIMS(3), false);
  add(dict, doc, "long", CKPT_I64, 0, NULL, false);
  add(dict, doc, "scalar", CKPT_F32, 0, NULL, true);
  add(dict, doc, "vector", CKPT_F32, 1, DIMS(300), false);
  add(dict, doc, "matrix", CKPT_I64, 2, DIMS(3, 2), false);
  add(dict, doc, "cube", CKPT_F32, 3, DIMS(2, 3, 4), true);
  add(dict, doc, "kernel", CKPT_F32, 4, DIMS(2, 1, 3, 1), false);
  add(dict, doc, "empty", CKPT_F32, 2, DIMS(0, 4), false);
  assert_int_equal(ckpt_value_set(dict, doc, "again", ckpt_value_get(dict, "vector"), NULL), CKPT_OK);
  ckpt_tensor *vector = ckpt_value_tensor(ckpt_value_get(dict, "vector"));
  assert_int_equal(ckpt_tensor_view(&half, vector, 100, 1, DIMS(50), DIMS(2), NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_tensor(&view, doc, half, NULL), CKPT_OK);
  ckpt_tensor_release(half);
  assert_int_equal(ckpt_value_set(dict, doc, "half", view, NULL), CKPT_OK);
  add(dict, doc, "last", CKPT_F32, 1, DIMS(7), false);
  assert_int_equal(ckpt_pickle_write(&p, dict, NULL), CKPT_OK);
  assert_true(p.n < ROOM / 2);
  memcpy(s->bytes, p.bytes, p.n);
  s->n = p.n - 1;
  ckpt_pickle_free(&p);
  ckpt_document_release(doc);
  while (s->puts < 2000) { /* how far the memo goes */
    unsigned char get[ROOM];
    memcpy(get, s->bytes, s->n);
    get[s->n] = 'j';
    ckpt_put64(get + s->n + 1, s->puts);
    get[s->n + 5] = '.';
    reading r = read_by(get, s->n + 6, NULL, false);
    ckpt_document_release(r.doc);
    if (r.status != CKPT_OK) break;
    s->puts++;
  }
}

/* ---- tests ---- */

static size_t count_said(const ckpt_value *dict) {
  size_t n = 0;
  for (size_t i = 0; i < ckpt_value_pair_count(dict); i++) {
    const ckpt_value *v = ckpt_value_pair_value(dict, i);
    n += v->kind == CKPT_TENSOR && v->made == NULL && v->as.said != NULL;
  }
  return n;
}

static void plain_calls_are_taken_whole(void **state) {
  sample s = {0};
  (void)state;
  for (size_t fillers = 0; fillers < 600; fillers += 300) {
    s = (sample){0};
    make_sample(&s, fillers);
    s.bytes[s.n++] = '.';
    reading r = read_by(s.bytes, s.n, NULL, true);
    assert_int_equal(r.status, CKPT_OK);
    /* All but the first of each dtype, and what is asked for again by the view: "vector" and its second name. */
    assert_int_equal(count_said(r.root), 6);
    ckpt_document_release(r.doc);
    assert_int_equal(both(s.bytes, s.n, NULL), CKPT_OK);
  }
}

static void cut_anywhere(void **state) {
  sample s = {0};
  (void)state;
  make_sample(&s, 0);
  for (size_t n = 0; n <= s.n; n++) {
    unsigned char *exact = malloc(n + 1); /* so that a sanitizer sees what is read behind the end */
    assert_non_null(exact);
    memcpy(exact, s.bytes, n);
    assert_int_not_equal(both(exact, n, NULL), CKPT_OK);
    exact[n] = '.';
    both(exact, n + 1, NULL);
    free(exact);
  }
}

static void changed_anywhere(void **state) {
  static const unsigned char to[] = {0,   1,   'h', 'q', 'j', 'r',  'K',  'M',  '(',
                                     ')', 't', 'R', 'Q', '.', 0x85, 0x88, 0x89, 255};
  sample s = {0};
  size_t good = 0;
  (void)state;
  make_sample(&s, 0);
  s.bytes[s.n++] = '.';
  for (size_t at = 0; at < s.n; at++) {
    unsigned char kept = s.bytes[at];
    for (size_t i = 0; i < sizeof to + 2; i++) {
      s.bytes[at] = i < sizeof to ? to[i] : (unsigned char)(kept + 2 * (i - sizeof to) - 1);
      good += both(s.bytes, s.n, NULL) == CKPT_OK;
    }
    s.bytes[at] = kept;
  }
  assert_true(good > 1000); /* not all of them is refused at once */
}

/* (dict, memo[i]) */
static void every_part_may_be_asked_for(void **state) {
  for (size_t fillers = 0; fillers < 600; fillers += 300) {
    sample s = {0};
    (void)state;
    make_sample(&s, fillers);
    assert_true(s.puts > 60);
    for (size_t i = 0; i < s.puts; i++) {
      unsigned char *end = s.bytes + s.n;
      *end++ = 'j';
      ckpt_put64(end, i);
      memcpy(end + 4, "\x86.", 2);
      assert_int_equal(both(s.bytes, s.n + 7, NULL), CKPT_OK);
    }
  }
}

/* Another value takes the place of memo[i]; then (dict, memo[j]), where what was there before must come out. */
static void no_part_changes_under_a_call(void **state) {
  sample s = {0};
  (void)state;
  make_sample(&s, 0);
  for (size_t i = 0; i < s.puts; i++)
    for (size_t j = 0; j < s.puts; j += 1 + s.puts / 40) {
      const unsigned char tail[] = {']', 'q', (unsigned char)i, '0', 'h', (unsigned char)j, 0x86, '.'};
      memcpy(s.bytes + s.n, tail, sizeof tail);
      assert_int_equal(both(s.bytes, s.n + sizeof tail, NULL), CKPT_OK);
    }
}

/* The calls come twice, and between them another value takes the place of memo[i]. */
static void later_calls_see_what_was_put(void **state) {
  sample s = {0};
  unsigned char bytes[ROOM];
  (void)state;
  make_sample(&s, 0);
  for (size_t i = 0; i < s.puts; i++) {
    const unsigned char between[] = {'X', 4, 0, 0, 0, 'c', 'u', 'd', 'a', 'q', (unsigned char)i, '0'};
    memcpy(bytes, s.bytes, s.n);
    memcpy(bytes + s.n, between, sizeof between);
    memcpy(bytes + s.n + sizeof between, s.bytes + 2, s.n - 2); /* behind the protocol */
    size_t n = 2 * s.n - 2 + sizeof between;
    memcpy(bytes + n, "\x86.", 2);
    both(bytes, n + 2, NULL);
  }
}

static void limits_are_met_at_the_same_place(void **state) {
  sample s = {0};
  size_t passed = 0;
  (void)state;
  make_sample(&s, 0);
  s.bytes[s.n++] = '.';
  for (size_t i = 1; i < 600; i++) {
    passed += both(s.bytes, s.n, &(ckpt_limits){.depth = i, .opcodes = SIZE_MAX, .memo = SIZE_MAX}) == CKPT_OK;
    passed += both(s.bytes, s.n, &(ckpt_limits){.depth = SIZE_MAX, .opcodes = i, .memo = SIZE_MAX}) == CKPT_OK;
    passed += both(s.bytes, s.n, &(ckpt_limits){.depth = SIZE_MAX, .opcodes = SIZE_MAX, .memo = i}) == CKPT_OK;
  }
  assert_in_range(passed, 1000, 3 * 599 - 300);
}

/* A pickle that is asked for a part while it is as deep as it may be is not refused for the call's own marks. */
static void parts_are_read_at_any_depth(void **state) {
  const ckpt_limits limits = {.depth = 40, .opcodes = SIZE_MAX, .memo = SIZE_MAX};
  sample s = {0};
  (void)state;
  make_sample(&s, 0);
  for (size_t depth = 20; depth < 45; depth++) {
    size_t n = s.n;
    for (size_t i = 0; i < depth; i++) s.bytes[n++] = '(';
    s.bytes[n++] = 'h';
    s.bytes[n++] = (unsigned char)(s.puts - 3);
    for (size_t i = 0; i < depth; i++) s.bytes[n++] = 't';
    s.bytes[n++] = '.';
    both(s.bytes, n, &limits);
  }
}

static ckpt_status read_whole(void *context, ckpt_error *err) {
  const sample *s = context;
  ckpt_torch_builder *builder = NULL;
  ckpt_document *doc = NULL;
  ckpt_value *root = NULL;
  ckpt_status st = ckpt_document_make(&doc, 0, err);
  if (st == CKPT_OK) st = ckpt_torch_builder_new(&builder, doc, find, NULL, err);
  if (st == CKPT_OK) {
    ckpt_pickle_hooks hooks = ckpt_torch_builder_hooks(builder);
    st = ckpt_pickle_read(&root, NULL, doc, s->bytes, s->n, "data.pkl", &hooks, err);
  }
  ckpt_torch_builder_free(builder);
  ckpt_document_release(doc);
  return st;
}

static void every_allocation_may_fail(void **state) {
  sample s = {0};
  (void)state;
  make_sample(&s, 0);
  s.bytes[s.n++] = '.';
  assert_true(fail_each_allocation(read_whole, &s) > 20);
  s.bytes[s.n - 1] = 'h'; /* and with a call that is read again, and with all of them */
  memcpy(s.bytes + s.n, "\x50\x86.", 3);
  s.n += 3;
  fail_each_allocation(read_whole, &s);
  memcpy(s.bytes + s.n - 4, "Nq\x50\x86.", 5);
  s.n += 1;
  fail_each_allocation(read_whole, &s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(plain_calls_are_taken_whole),
      cmocka_unit_test(cut_anywhere),
      cmocka_unit_test(changed_anywhere),
      cmocka_unit_test(every_part_may_be_asked_for),
      cmocka_unit_test(no_part_changes_under_a_call),
      cmocka_unit_test(later_calls_see_what_was_put),
      cmocka_unit_test(limits_are_met_at_the_same_place),
      cmocka_unit_test(parts_are_read_at_any_depth),
      cmocka_unit_test(every_allocation_may_fail),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
