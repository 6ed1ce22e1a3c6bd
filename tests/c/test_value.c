/* test_value.c - documents and their values: building, looking up, dict keys as Python compares them, paths, clones. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "value.h"

static int set_up(void **state) { return ckpt_document_new((ckpt_document **)state, NULL) != CKPT_OK; }

static int tear_down(void **state) {
  ckpt_document_release(*state);
  return 0;
}

static ckpt_value *integer(ckpt_document *doc, int64_t i) {
  ckpt_value *v = NULL;
  assert_int_equal(ckpt_value_new_int(&v, doc, i, NULL), CKPT_OK);
  return v;
}

static ckpt_value *number(ckpt_document *doc, double d) {
  ckpt_value *v = NULL;
  assert_int_equal(ckpt_value_new_double(&v, doc, d, NULL), CKPT_OK);
  return v;
}

static ckpt_value *string(ckpt_document *doc, const char *s) {
  ckpt_value *v = NULL;
  assert_int_equal(ckpt_value_new_str(&v, doc, s, strlen(s), NULL), CKPT_OK);
  return v;
}

static ckpt_value *make(ckpt_document *doc, ckpt_kind kind) {
  ckpt_value *v = ckpt_value_make(doc, kind, NULL);
  assert_non_null(v);
  return v;
}

static void set(ckpt_value *dict, ckpt_document *doc, const char *key, ckpt_value *item) {
  assert_int_equal(ckpt_value_set(dict, doc, key, item, NULL), CKPT_OK);
}

static void append(ckpt_value *list, ckpt_document *doc, ckpt_value *item) {
  assert_int_equal(ckpt_value_append(list, doc, item, NULL), CKPT_OK);
}

static void put(ckpt_value *dict, ckpt_document *doc, ckpt_value *key, ckpt_value *item) {
  assert_int_equal(ckpt_dict_put(dict->as.dict, doc, key, item, NULL), CKPT_OK);
}

static int64_t int_of(const ckpt_value *v) {
  int64_t i = -77;
  assert_non_null(v);
  assert_int_equal(ckpt_value_int(&i, v, NULL), CKPT_OK);
  return i;
}

/* ---- scalars ---- */

static void scalars(void **state) {
  ckpt_document *doc = *state;
  bool b = false;
  double d = 0;
  ckpt_value *v = NULL;
  assert_int_equal(ckpt_value_new_bool(&v, doc, true, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_bool(&b, v, NULL), CKPT_OK);
  assert_true(b);
  assert_int_equal(int_of(integer(doc, INT64_MIN)), INT64_MIN);
  assert_int_equal(ckpt_value_double(&d, number(doc, -0.5), NULL), CKPT_OK);
  assert_true(d == -0.5);
  assert_int_equal(ckpt_value_double(&d, integer(doc, 3), NULL), CKPT_OK);
  assert_true(d == 3);
  assert_int_equal(ckpt_value_new_none(&v, doc, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_kind(v), CKPT_NONE);
}

static void texts_are_copied(void **state) {
  ckpt_document *doc = *state;
  char bytes[] = "a\0b";
  size_t n = 0;
  ckpt_value *s = NULL, *b = NULL;
  assert_int_equal(ckpt_value_new_str(&s, doc, bytes, 3, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_bytes(&b, doc, bytes, 2, NULL), CKPT_OK);
  bytes[0] = 'x';
  assert_memory_equal(ckpt_value_text(s, &n), "a\0b", 4);
  assert_int_equal(n, 3);
  assert_memory_equal(ckpt_value_text(b, &n), "a\0", 3);
  assert_int_equal(n, 2);
  assert_int_equal(ckpt_value_kind(s), CKPT_STR);
  assert_int_equal(ckpt_value_kind(b), CKPT_BYTES);
  assert_null(ckpt_value_text(integer(doc, 1), NULL));
}

static void other_kinds_are_refused(void **state) {
  ckpt_document *doc = *state;
  ckpt_error err = {0};
  bool b = true;
  int64_t i = 5;
  double d = 6;
  assert_int_equal(ckpt_value_bool(&b, integer(doc, 0), &err), CKPT_E_TYPE);
  assert_string_equal(err.message, "a int where a bool was expected");
  assert_int_equal(ckpt_value_int(&i, number(doc, 1), &err), CKPT_E_TYPE);
  assert_string_equal(err.message, "a float where a 64-bit int was expected");
  assert_int_equal(ckpt_value_double(&d, string(doc, "1"), &err), CKPT_E_TYPE);
  assert_string_equal(err.message, "a str where a float was expected");
  assert_int_equal(ckpt_value_int(&i, ckpt_document_bool(doc, true), NULL), CKPT_E_TYPE);
  assert_true(b && i == 5 && d == 6);
}

static void wrong_containers_are_refused(void **state) {
  ckpt_document *doc = *state;
  ckpt_error err = {0};
  ckpt_value *dict = make(doc, CKPT_DICT), *list = make(doc, CKPT_LIST), *one = integer(doc, 1);
  assert_int_equal(ckpt_value_append(dict, doc, one, &err), CKPT_E_TYPE);
  assert_string_equal(err.message, "a dict where a list was expected");
  assert_int_equal(ckpt_value_set(list, doc, "k", one, &err), CKPT_E_TYPE);
  assert_string_equal(err.message, "a list where a dict was expected");
  assert_int_equal(ckpt_value_append(ckpt_document_empty_tuple(doc), doc, one, NULL), CKPT_E_TYPE);
  assert_null(ckpt_value_get(list, "k"));
  assert_null(ckpt_value_tensor(one));
  assert_int_equal(ckpt_value_count(one), 0);
  assert_int_equal(ckpt_value_pair_count(list), 0);
  assert_null(ckpt_value_item(dict, 0));
  assert_null(ckpt_value_object_class(dict));
  assert_null(ckpt_value_object_args(dict));
  assert_null(ckpt_value_object_state(dict));
}

static void every_kind_has_a_name(void **state) {
  (void)state;
  static const char *const names[] = {"None", "bool",  "int",  "int", "float",     "str",    "bytes", "bytearray",
                                      "list", "tuple", "dict", "set", "frozenset", "tensor", "class", "object"};
  assert_int_equal(CKPT_COUNTOF(names), CKPT_OBJECT + 1);
  for (int i = 0; i <= CKPT_OBJECT; i++) assert_string_equal(ckpt_kind_name((ckpt_kind)i), names[i]);
}

static void documents_are_counted(void **state) {
  ckpt_document *doc = *state;
  assert_null(ckpt_document_root(doc));
  ckpt_value *v = string(doc, "root");
  ckpt_document_set_root(doc, v);
  assert_ptr_equal(ckpt_document_retain(doc), doc);
  ckpt_document_release(doc);
  assert_string_equal(ckpt_value_text(ckpt_document_root(doc), NULL), "root");
  ckpt_document_release(NULL);
}

static void tensors_are_retained(void **state) {
  ckpt_document *doc = *state;
  ckpt_tensor *t = NULL;
  ckpt_value *v = NULL;
  assert_int_equal(ckpt_tensor_new(&t, CKPT_F32, 1, (const int64_t[]){2}, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_tensor(&v, doc, t, NULL), CKPT_OK);
  ckpt_tensor_release(t);
  assert_ptr_equal(ckpt_value_tensor(v), t);
  assert_int_equal(ckpt_tensor_numel(ckpt_value_tensor(v)), 2);
}

static void the_documents_limit(void **state) {
  (void)state;
  ckpt_document *doc = NULL;
  ckpt_value *v = NULL;
  ckpt_error err = {0};
  ckpt_tensor *t = NULL;
  assert_int_equal(ckpt_document_make(&doc, 64, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_bytes(&v, doc, "x", 1, &err), CKPT_OK); /* 48 + 16 */
  assert_int_equal(ckpt_value_new_int(&v, doc, 1, &err), CKPT_E_LIMIT);
  assert_string_equal(err.message, "the objects need more than the 64 bytes allowed for them");
  assert_int_equal(ckpt_value_kind(v), CKPT_BYTES);
  assert_int_equal(ckpt_tensor_new(&t, CKPT_F32, 0, NULL, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_tensor(&v, doc, t, NULL), CKPT_E_LIMIT);
  assert_int_equal(ckpt_document_own_tensor(doc, t, &err), CKPT_OK); /* what it owns beside its values is not limited */
  ckpt_document_release(doc);
}

/* ---- lists ---- */

static void lists_grow(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *list = NULL, *tuple = NULL;
  assert_int_equal(ckpt_value_new_list(&list, doc, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_tuple(&tuple, doc, NULL), CKPT_OK);
  for (int i = 0; i < 1000; i++) append(list, doc, integer(doc, i));
  append(tuple, doc, list);
  assert_int_equal(ckpt_value_count(list), 1000);
  for (int i = 0; i < 1000; i++) assert_int_equal(int_of(ckpt_value_item(list, (size_t)i)), i);
  assert_null(ckpt_value_item(list, 1000));
  assert_null(ckpt_value_item(list, SIZE_MAX));
  assert_ptr_equal(ckpt_value_item(tuple, 0), list);
}

/* ---- dicts ---- */

static void dicts_keep_their_order(void **state) {
  ckpt_document *doc = *state;
  static const char *const keys[] = {"zeta", "alpha", "", "beta", "alpha2"};
  ckpt_value *dict = NULL, *plain = NULL;
  assert_int_equal(ckpt_value_new_dict(&dict, doc, true, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_dict(&plain, doc, false, NULL), CKPT_OK);
  for (size_t i = 0; i < 5; i++) set(dict, doc, keys[i], integer(doc, (int64_t)i));
  set(dict, doc, "alpha", integer(doc, 11)); /* replaced in its place */
  assert_true(ckpt_value_is_ordered(dict));
  assert_false(ckpt_value_is_ordered(plain));
  assert_int_equal(ckpt_value_count(dict), 5);
  assert_int_equal(ckpt_value_pair_count(dict), 5);
  for (size_t i = 0; i < 5; i++) {
    assert_string_equal(ckpt_value_text(ckpt_value_pair_key(dict, i), NULL), keys[i]);
    assert_int_equal(int_of(ckpt_value_pair_value(dict, i)), i == 1 ? 11 : i);
  }
  assert_null(ckpt_value_pair_key(dict, 5));
  assert_null(ckpt_value_pair_value(dict, 5));
  assert_int_equal(int_of(ckpt_value_get(dict, "")), 2);
  assert_null(ckpt_value_get(dict, "alph"));
}

static void equal_keys_are_one_value(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *a = make(doc, CKPT_DICT), *b = make(doc, CKPT_DICT), *none = ckpt_document_none(doc);
  set(a, doc, "lr", none);
  set(b, doc, "lr", none);
  assert_ptr_equal(ckpt_value_pair_key(a, 0), ckpt_value_pair_key(b, 0));
}

/* From 8 to 9 pairs a dict goes from linear to hashed; every size on the way must answer the same. */
static void large_dicts(void **state) {
  ckpt_document *doc = *state;
  enum { N = 5000 };
  char key[32];
  ckpt_value *dict = make(doc, CKPT_DICT);
  for (int i = 0; i < N; i++) {
    snprintf(key, sizeof key, "layer.%d", i);
    set(dict, doc, key, integer(doc, i));
    assert_int_equal(int_of(ckpt_value_get(dict, key)), i);
    assert_int_equal(int_of(ckpt_value_get(dict, "layer.0")), 0);
    assert_null(ckpt_value_get(dict, "layer"));
  }
  for (int i = 0; i < N; i += 3) {
    snprintf(key, sizeof key, "layer.%d", i);
    set(dict, doc, key, integer(doc, -i));
  }
  assert_int_equal(ckpt_value_count(dict), N);
  for (int i = 0; i < N; i++) {
    snprintf(key, sizeof key, "layer.%d", i);
    assert_int_equal(int_of(ckpt_value_get(dict, key)), i % 3 == 0 ? -i : i);
    assert_string_equal(ckpt_value_text(ckpt_value_pair_key(dict, (size_t)i), NULL), key);
  }
}

static void numbers_as_keys(void **state) {
  ckpt_document *doc = *state;
  for (int extra = 0; extra < 40; extra += 13) { /* linear, then hashed */
    ckpt_value *dict = make(doc, CKPT_DICT), *yes = ckpt_document_bool(doc, true);
    for (int i = 0; i < extra; i++) put(dict, doc, integer(doc, 1000 + i), yes);
    size_t before = ckpt_value_count(dict);
    put(dict, doc, integer(doc, 1), string(doc, "int"));
    put(dict, doc, yes, string(doc, "bool"));
    put(dict, doc, number(doc, 1.0), string(doc, "float"));
    assert_int_equal(ckpt_value_count(dict), before + 1); /* 1 == True == 1.0, the first key stays */
    assert_int_equal(ckpt_value_kind(ckpt_value_pair_key(dict, before)), CKPT_INT);
    assert_string_equal(ckpt_value_text(ckpt_value_pair_value(dict, before), NULL), "float");
    put(dict, doc, number(doc, 0.0), yes);
    put(dict, doc, number(doc, -0.0), yes);
    put(dict, doc, ckpt_document_bool(doc, false), yes);
    assert_int_equal(ckpt_value_count(dict), before + 2);
    put(dict, doc, string(doc, "1"), yes);
    put(dict, doc, number(doc, 1.5), yes);
    put(dict, doc, number(doc, (double)NAN), yes);
    put(dict, doc, number(doc, (double)NAN), yes); /* two NaN are two keys */
    assert_int_equal(ckpt_value_count(dict), before + 6);
  }
}

/* Python compares int and float exactly: 2**53 + 1 is not 2.0**53. */
static void large_numbers_as_keys(void **state) {
  ckpt_document *doc = *state;
  const int64_t odd = (INT64_C(1) << 53) + 1;
  for (int extra = 0; extra < 20; extra += 10) {
    ckpt_value *dict = make(doc, CKPT_DICT), *none = ckpt_document_none(doc);
    for (int i = 0; i < extra; i++) put(dict, doc, integer(doc, i), none);
    size_t before = ckpt_value_count(dict);
    put(dict, doc, integer(doc, odd), none);
    put(dict, doc, integer(doc, odd - 1), none);
    assert_int_equal(ckpt_value_count(dict), before + 2);
    put(dict, doc, number(doc, 0x1p53), none); /* equals odd - 1 */
    assert_int_equal(ckpt_value_count(dict), before + 2);
  }
}

static void an_int_is_not_the_float_beside_it(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *dict = make(doc, CKPT_DICT), *none = ckpt_document_none(doc);
  put(dict, doc, integer(doc, (INT64_C(1) << 53) + 1), none);
  put(dict, doc, number(doc, 0x1p53), none);
  assert_int_equal(ckpt_value_count(dict), 2);
}

static void texts_of_other_kinds_differ(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *dict = make(doc, CKPT_DICT), *none = ckpt_document_none(doc);
  ckpt_value *nul = ckpt_value_make_text(doc, CKPT_STR, "a\0", 2, NULL);
  put(dict, doc, string(doc, "a"), none);
  put(dict, doc, ckpt_value_make_text(doc, CKPT_BYTES, "a", 1, NULL), none);
  put(dict, doc, nul, none);
  put(dict, doc, none, none);
  put(dict, doc, ckpt_value_make_class(doc, "a", 1, "b", 1, NULL), none);
  put(dict, doc, string(doc, "a.b"), none);
  assert_int_equal(ckpt_value_count(dict), 6);
  put(dict, doc, ckpt_value_make_text(doc, CKPT_STR, "a\0", 2, NULL), nul);
  put(dict, doc, ckpt_value_make_class(doc, "a", 1, "b", 1, NULL), nul);
  assert_int_equal(ckpt_value_count(dict), 6);
  assert_ptr_equal(ckpt_value_get(dict, "a"), none);
}

/* What the reader does: pairs pushed raw, then joined: the last value at the first key's place. */
static void settle_joins_equal_keys(void **state) {
  ckpt_document *doc = *state;
  for (int n = 3; n < 40; n += 9) {
    ckpt_value *dict = make(doc, CKPT_DICT);
    for (int i = 0; i < 2 * n; i++) {
      assert_int_equal(ckpt_seq_push(&dict->as.dict->flat, doc, integer(doc, i % n), NULL), CKPT_OK);
      assert_int_equal(ckpt_seq_push(&dict->as.dict->flat, doc, integer(doc, i), NULL), CKPT_OK);
    }
    assert_int_equal(ckpt_dict_settle(dict->as.dict, doc, NULL), CKPT_OK);
    assert_int_equal(ckpt_value_count(dict), n);
    for (int i = 0; i < n; i++) {
      assert_int_equal(int_of(ckpt_value_pair_key(dict, (size_t)i)), i);
      assert_int_equal(int_of(ckpt_value_pair_value(dict, (size_t)i)), n + i);
      assert_int_equal(ckpt_dict_find(dict->as.dict, integer(doc, i)), i);
    }
  }
}

/* ---- paths ---- */

static ckpt_value *path_fixture(ckpt_document *doc) {
  ckpt_value *root = make(doc, CKPT_DICT), *model = make(doc, CKPT_DICT), *states = make(doc, CKPT_DICT);
  ckpt_value *list = make(doc, CKPT_LIST), *nested = make(doc, CKPT_DICT);
  set(root, doc, "model", model);
  set(model, doc, "a.b", integer(doc, 1));
  set(model, doc, "a", nested);
  set(nested, doc, "b", integer(doc, 2));
  set(nested, doc, "c", integer(doc, 3));
  set(model, doc, "x[0]", integer(doc, 4));
  set(root, doc, "list", list);
  append(list, doc, integer(doc, 10));
  append(list, doc, nested);
  set(root, doc, "state", states);
  put(states, doc, integer(doc, 0), nested);
  put(states, doc, integer(doc, -5), integer(doc, 6));
  set(root, doc, "[3]", integer(doc, 7));
  set(root, doc, ".hidden", integer(doc, 8));
  set(root, doc, "late", integer(doc, 9));
  return root;
}

typedef struct path_case {
  const char *path;
  int64_t wanted; /* -1: not there */
} path_case;

static void check_paths(const ckpt_value *root, const path_case *cases, size_t n) {
  for (size_t i = 0; i < n; i++) {
    const ckpt_value *v = ckpt_value_at(root, cases[i].path);
    int64_t got = v == NULL ? -1 : int_of(v);
    if (got != cases[i].wanted) fail_msg("path '%s' gives %lld", cases[i].path, (long long)got);
  }
}

static void values_by_path(void **state) {
  static const path_case cases[] = {
      {"model.a.b", 1}, /* the longest key that fits */
      {"model.a.c", 3},
      {".model.a.c", 3},
      {"model.x[0]", 4},
      {"list[0]", 10},
      {"list[1].b", 2},
      {"list[1].c", 3},
      {"state.0.b", 2},
      {"state.-5", 6},
      {"late", 9},
      {"model.a.d", -1},
      {"model.a.b.c", -1},
      {"list[2]", -1},
      {"list[-1]", -1},
      {"list[]", -1},
      {"list[0", -1},
      {"list[0x0]", -1},
      {"list.0", -1},
      {"list[1]c", 3},
      {"nothing", -1},
      {"mode", -1},
      {"modelx", -1},
      {"state.1", -1},
      {"state.0x0.b", -1},
      {"list[99999999999999999999]", -1},
      {"state.99999999999999999999999999", -1},
  };
  ckpt_document *doc = *state;
  ckpt_value *root = path_fixture(doc);
  assert_ptr_equal(ckpt_value_at(root, ""), root);
  check_paths(root, cases, CKPT_COUNTOF(cases));
}

/* A '[' that is no index of a list may begin a key; an index that leads nowhere must not be skipped. */
static void brackets_in_keys(void **state) {
  static const path_case cases[] = {{"[3]", 7}, {"[9]late", -1}, {"[0]late", -1}};
  check_paths(path_fixture(*state), cases, CKPT_COUNTOF(cases));
}

/* A listing writes this key as ".hidden": the dot that joins segments is left out at the root, the key's own stays. */
static void dots_that_begin_keys(void **state) {
  static const path_case cases[] = {{".hidden", 8}, {"..hidden", 8}};
  check_paths(path_fixture(*state), cases, CKPT_COUNTOF(cases));
}

static void integer_keys_do_not_wrap(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *dict = make(doc, CKPT_DICT);
  put(dict, doc, integer(doc, INT64_MAX), integer(doc, 1));
  put(dict, doc, integer(doc, 7), integer(doc, 2));
  static const path_case cases[] = {
      {"9223372036854775807", 1}, {"9223372036854775808", -1}, {"7", 2}, {"07", -1}, {"+7", -1}, {" 7", -1}};
  check_paths(dict, cases, CKPT_COUNTOF(cases));
}

static void paths_into_objects(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *cls = ckpt_value_make_class(doc, "m", 1, "C", 1, NULL), *args = make(doc, CKPT_TUPLE);
  append(args, doc, integer(doc, 5));
  ckpt_value *v = ckpt_value_make_object(doc, CKPT_BY_REDUCE, cls, args, NULL), *fields = make(doc, CKPT_DICT);
  set(fields, doc, "epoch", integer(doc, 4));
  v->as.object->state = fields;
  assert_int_equal(int_of(ckpt_value_at(v, "epoch")), 4);
  assert_int_equal(int_of(ckpt_value_at(v, "args[0]")), 5);
  assert_int_equal(int_of(ckpt_value_at(v, "state.epoch")), 4);
  assert_null(ckpt_value_at(v, "args[1]"));
  assert_ptr_equal(ckpt_value_object_class(v), cls);
  assert_ptr_equal(ckpt_value_object_args(v), args);
  assert_ptr_equal(ckpt_value_object_state(v), fields);
}

/* ---- classes and objects ---- */

static void classes(void **state) {
  ckpt_document *doc = *state;
  size_t n = 0;
  ckpt_value *v = ckpt_value_make_class(doc, "torch.nn", 8, "Linear.Inner", 12, NULL);
  assert_string_equal(ckpt_value_text(v, &n), "torch.nn.Linear.Inner");
  assert_int_equal(n, 21);
  assert_true(ckpt_value_is_class(v, "torch.nn", "Linear.Inner"));
  assert_false(ckpt_value_is_class(v, "torch.nn.Linear", "Inner"));
  assert_false(ckpt_value_is_class(v, "torch.nn", "Linear"));
  assert_string_equal(ckpt_value_class_name(v, &n), "Linear.Inner");
  assert_int_equal(n, 12);
}

static void opaque_objects(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *args = ckpt_document_empty_tuple(doc);
  ckpt_value *device = ckpt_value_make_class(doc, "torch", 5, "device", 6, NULL);
  ckpt_value *other = ckpt_value_make_class(doc, "torch", 5, "Device", 6, NULL);
  assert_false(ckpt_value_is_opaque(ckpt_value_make_object(doc, CKPT_BY_REDUCE, device, args, NULL)));
  assert_true(ckpt_value_is_opaque(ckpt_value_make_object(doc, CKPT_BY_REDUCE, other, args, NULL)));
  assert_true(ckpt_value_is_opaque(ckpt_value_make_object(doc, CKPT_BY_NEWOBJ, other, args, NULL)));
  assert_false(ckpt_value_is_opaque(ckpt_value_make_object(doc, CKPT_BY_PERSID, NULL, args, NULL)));
  assert_false(ckpt_value_is_opaque(args));
}

/* ---- clones ---- */

static ckpt_value *clone_of(ckpt_document **doc, const ckpt_value *v) {
  ckpt_value *copy = NULL;
  assert_int_equal(ckpt_document_new(doc, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_clone(&copy, *doc, v, NULL), CKPT_OK);
  return copy;
}

static void a_clone_keeps_sharing_and_cycles(void **state) {
  ckpt_document *doc = NULL;
  assert_int_equal(ckpt_document_new(&doc, NULL), CKPT_OK);
  ckpt_value *list = make(doc, CKPT_LIST), *shared = make(doc, CKPT_DICT), *tuple = make(doc, CKPT_TUPLE);
  append(list, doc, shared);
  append(list, doc, shared);
  append(list, doc, list);
  append(tuple, doc, list);
  append(list, doc, tuple);
  set(shared, doc, "up", list);
  ckpt_value *copy = clone_of((ckpt_document **)state, list);
  ckpt_document_release(doc); /* nothing of it may be needed any more */
  assert_int_equal(ckpt_value_count(copy), 4);
  assert_ptr_equal(ckpt_value_item(copy, 0), ckpt_value_item(copy, 1));
  assert_ptr_equal(ckpt_value_item(copy, 2), copy);
  assert_ptr_equal(ckpt_value_item(ckpt_value_item(copy, 3), 0), copy);
  assert_ptr_equal(ckpt_value_get(ckpt_value_item(copy, 0), "up"), copy);
  ckpt_document_release(*state);
}

/* None, True, -3, 0.25, four texts, (), two sets, a class and an object of that class that is its own state. */
static ckpt_value *every_kind(ckpt_document *doc) {
  static const ckpt_kind texts[] = {CKPT_STR, CKPT_BYTES, CKPT_BYTEARRAY, CKPT_BIGINT};
  ckpt_value *list = make(doc, CKPT_LIST), *cls = ckpt_value_make_class(doc, "a.b", 3, "c", 1, NULL);
  ckpt_value *object = ckpt_value_make_object(doc, CKPT_BY_NEWOBJ, cls, ckpt_document_empty_tuple(doc), NULL);
  append(list, doc, ckpt_document_none(doc));
  append(list, doc, ckpt_document_bool(doc, true));
  append(list, doc, integer(doc, -3));
  append(list, doc, number(doc, 0.25));
  for (size_t i = 0; i < 4; i++) append(list, doc, ckpt_value_make_text(doc, texts[i], "123456789\x01", 10, NULL));
  ckpt_value_item(list, 5)->bytestring = true;
  append(list, doc, ckpt_document_empty_tuple(doc));
  append(list, doc, make(doc, CKPT_SET));
  append(list, doc, make(doc, CKPT_FROZENSET));
  append(list, doc, cls);
  append(list, doc, object);
  assert_int_equal(ckpt_seq_push(&object->as.object->items, doc, integer(doc, 9), NULL), CKPT_OK);
  assert_int_equal(ckpt_dict_put(&object->as.object->dict, doc, integer(doc, 1), list, NULL), CKPT_OK);
  object->as.object->state = object;
  return list;
}

static void assert_every_kind(const ckpt_value *kept, ckpt_document *doc) {
  double d = 0;
  size_t n = 0;
  assert_ptr_equal(ckpt_value_item(kept, 0), ckpt_document_none(doc));
  assert_ptr_equal(ckpt_value_item(kept, 1), ckpt_document_bool(doc, true));
  assert_int_equal(int_of(ckpt_value_item(kept, 2)), -3);
  assert_int_equal(ckpt_value_double(&d, ckpt_value_item(kept, 3), NULL), CKPT_OK);
  assert_true(d == 0.25);
  for (size_t i = 4; i < 8; i++) {
    assert_memory_equal(ckpt_value_text(ckpt_value_item(kept, i), &n), "123456789\x01", 11);
    assert_int_equal(n, 10);
    assert_int_equal(ckpt_value_item(kept, i)->bytestring, i == 5);
  }
  assert_true(ckpt_value_is_class(ckpt_value_item(kept, 11), "a.b", "c"));
  ckpt_value *object = ckpt_value_item(kept, 12);
  assert_int_equal(object->made->how, CKPT_BY_NEWOBJ);
  assert_ptr_equal(ckpt_value_object_class(object), ckpt_value_item(kept, 11));
  assert_ptr_equal(ckpt_value_object_state(object), object);
  assert_int_equal(int_of(ckpt_value_item(object, 0)), 9);
  assert_ptr_equal(ckpt_value_pair_value(object, 0), kept);
}

static void a_clone_has_every_kind(void **state) {
  ckpt_document *doc = NULL;
  assert_int_equal(ckpt_document_new(&doc, NULL), CKPT_OK);
  ckpt_value *list = every_kind(doc), *kept = clone_of((ckpt_document **)state, list);
  assert_int_equal(ckpt_value_count(kept), ckpt_value_count(list));
  for (size_t i = 0; i < ckpt_value_count(list); i++)
    assert_int_equal(ckpt_value_kind(ckpt_value_item(kept, i)), ckpt_value_kind(ckpt_value_item(list, i)));
  ckpt_document_release(doc);
  assert_every_kind(kept, *state);
  ckpt_document_release(*state);
}

static void a_clone_shares_tensors(void **state) {
  ckpt_document *doc = NULL;
  ckpt_tensor *t = NULL;
  ckpt_value *v = NULL;
  assert_int_equal(ckpt_document_new(&doc, NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_new(&t, CKPT_U8, 1, (const int64_t[]){4}, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_tensor(&v, doc, t, NULL), CKPT_OK);
  ckpt_tensor_release(t);
  ckpt_value *copy = clone_of((ckpt_document **)state, v);
  ckpt_document_release(doc);
  assert_ptr_equal(ckpt_value_tensor(copy), t);
  assert_int_equal(ckpt_tensor_numel(t), 4);
  ckpt_document_release(*state);
}

static void a_cloned_dict_is_looked_up(void **state) {
  ckpt_document *doc = NULL;
  char key[16];
  assert_int_equal(ckpt_document_new(&doc, NULL), CKPT_OK);
  ckpt_value *dict = make(doc, CKPT_DICT);
  dict->ordered = true;
  dict->as.dict->state = string(doc, "metadata");
  for (int i = 0; i < 100; i++) {
    snprintf(key, sizeof key, "k%d", i);
    set(dict, doc, key, integer(doc, i));
  }
  ckpt_value *copy = clone_of((ckpt_document **)state, dict);
  ckpt_document_release(doc);
  assert_true(ckpt_value_is_ordered(copy));
  assert_string_equal(ckpt_value_text(copy->as.dict->state, NULL), "metadata");
  for (int i = 0; i < 100; i++) {
    snprintf(key, sizeof key, "k%d", i);
    assert_int_equal(int_of(ckpt_value_get(copy, key)), i);
  }
  set(copy, *state, "k50", integer(*state, -1));
  assert_int_equal(ckpt_value_count(copy), 100);
  ckpt_document_release(*state);
}

static void a_clone_that_does_not_fit(void **state) {
  ckpt_document *small = NULL, *doc = *state;
  ckpt_value *list = make(doc, CKPT_LIST), *out = list;
  ckpt_error err = {0};
  for (int i = 0; i < 100; i++) append(list, doc, integer(doc, i));
  assert_int_equal(ckpt_document_make(&small, 2000, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_clone(&out, small, list, &err), CKPT_E_LIMIT);
  assert_int_equal(err.status, CKPT_E_LIMIT);
  assert_ptr_equal(out, list);
  ckpt_document_release(small);
}

#define WITH_DOCUMENT(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      WITH_DOCUMENT(scalars),
      WITH_DOCUMENT(texts_are_copied),
      WITH_DOCUMENT(other_kinds_are_refused),
      WITH_DOCUMENT(wrong_containers_are_refused),
      cmocka_unit_test(every_kind_has_a_name),
      WITH_DOCUMENT(documents_are_counted),
      WITH_DOCUMENT(tensors_are_retained),
      cmocka_unit_test(the_documents_limit),
      WITH_DOCUMENT(lists_grow),
      WITH_DOCUMENT(dicts_keep_their_order),
      WITH_DOCUMENT(equal_keys_are_one_value),
      WITH_DOCUMENT(large_dicts),
      WITH_DOCUMENT(numbers_as_keys),
      WITH_DOCUMENT(large_numbers_as_keys),
      WITH_DOCUMENT(an_int_is_not_the_float_beside_it),
      WITH_DOCUMENT(texts_of_other_kinds_differ),
      WITH_DOCUMENT(settle_joins_equal_keys),
      WITH_DOCUMENT(values_by_path),
      WITH_DOCUMENT(brackets_in_keys),
      WITH_DOCUMENT(dots_that_begin_keys),
      WITH_DOCUMENT(integer_keys_do_not_wrap),
      WITH_DOCUMENT(paths_into_objects),
      WITH_DOCUMENT(classes),
      WITH_DOCUMENT(opaque_objects),
      cmocka_unit_test(a_clone_keeps_sharing_and_cycles),
      cmocka_unit_test(a_clone_has_every_kind),
      cmocka_unit_test(a_clone_shares_tensors),
      cmocka_unit_test(a_cloned_dict_is_looked_up),
      WITH_DOCUMENT(a_clone_that_does_not_fit),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
