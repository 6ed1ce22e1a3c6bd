/* value_fixture.h - a document per test and short names for making its values. Include after cmocka.h. */
#ifndef CKPT_VALUE_FIXTURE_H
#define CKPT_VALUE_FIXTURE_H

#include <stdlib.h>

#include "repr.h"
#include "value.h"

static ckpt_document *doc;

static inline int new_doc(void **state) {
  (void)state;
  return ckpt_document_new(&doc, NULL) != CKPT_OK;
}

static inline int free_doc(void **state) {
  (void)state;
  ckpt_document_release(doc);
  doc = NULL;
  return 0;
}

#define ok(call) assert_int_equal((call), CKPT_OK)

static inline ckpt_value *integer(int64_t i) {
  ckpt_value *v = NULL;
  ok(ckpt_value_new_int(&v, doc, i, NULL));
  return v;
}

static inline ckpt_value *number(double d) {
  ckpt_value *v = NULL;
  ok(ckpt_value_new_double(&v, doc, d, NULL));
  return v;
}

static inline ckpt_value *string(const char *s) {
  ckpt_value *v = NULL;
  ok(ckpt_value_new_str(&v, doc, s, strlen(s), NULL));
  return v;
}

static inline ckpt_value *long_integer(const char *digits) {
  ckpt_value *v = NULL;
  ok(ckpt_value_new_int_text(&v, doc, digits, strlen(digits), NULL));
  return v;
}

static inline ckpt_value *class_of(const char *module, const char *name) {
  ckpt_value *v = NULL;
  ok(ckpt_value_new_class(&v, doc, module, name, NULL));
  return v;
}

static inline ckpt_value *make(ckpt_kind kind) {
  ckpt_value *v = ckpt_value_make(doc, kind, NULL);
  assert_non_null(v);
  return v;
}

/* A list, tuple or set of these, up to the first NULL. */
static inline ckpt_value *seq(ckpt_kind kind, ckpt_value *const *items) {
  ckpt_value *v = make(kind);
  for (; *items != NULL; items++) ok(ckpt_seq_push(&v->as.seq, doc, *items, NULL));
  return v;
}

#define LIST(...) seq(CKPT_LIST, (ckpt_value *[]){__VA_ARGS__, NULL})
#define TUPLE(...) seq(CKPT_TUPLE, (ckpt_value *[]){__VA_ARGS__, NULL})
#define SET(...) seq(CKPT_SET, (ckpt_value *[]){__VA_ARGS__, NULL})
#define FROZENSET(...) seq(CKPT_FROZENSET, (ckpt_value *[]){__VA_ARGS__, NULL})

/* A dict of key, value, key, value up to the first NULL. */
static inline ckpt_value *dict_of(ckpt_value *const *flat) {
  ckpt_value *v = make(CKPT_DICT);
  for (; *flat != NULL; flat += 2) ok(ckpt_value_put(v, doc, flat[0], flat[1], NULL));
  return v;
}

#define DICT(...) dict_of((ckpt_value *[]){__VA_ARGS__, NULL})

static inline ckpt_value *object(const char *module, const char *name, ckpt_value *args, ckpt_value *state) {
  ckpt_value *v = NULL;
  ok(ckpt_value_new_object(&v, doc, CKPT_BY_REDUCE, class_of(module, name), args, NULL, NULL));
  if (state != NULL) ok(ckpt_value_set_state(v, state, NULL));
  return v;
}

/* float32 [2] with these numbers */
static inline ckpt_value *tensor(float a, float b) {
  ckpt_tensor *t = NULL;
  ckpt_value *v = NULL;
  const void *data = NULL;
  ok(ckpt_tensor_new(&t, CKPT_F32, 1, (int64_t[]){2}, NULL));
  ok(ckpt_tensor_data(&data, t, NULL));
  memcpy((void *)(uintptr_t)data, (float[]){a, b}, 8);
  ok(ckpt_value_new_tensor(&v, doc, t, NULL));
  ckpt_tensor_release(t);
  return v;
}

static inline void assert_repr(const ckpt_value *v, const char *expected) {
  char *text = NULL;
  size_t n = 0;
  assert_non_null(v);
  ok(ckpt_repr(&text, &n, v, 10000, NULL));
  assert_string_equal(text, expected);
  free(text);
}

#endif
