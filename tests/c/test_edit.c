/* test_edit.c - values changed in place and built: dicts, lists, sets, keys as Python compares them, long integers. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "key.h"
#include "value_fixture.h"

/* ---- dicts ---- */

static ckpt_value *numbered(int n) {
  char key[16];
  ckpt_value *d = make(CKPT_DICT);
  for (int i = 0; i < n; i++) {
    snprintf(key, sizeof key, "k%d", i);
    ok(ckpt_value_set(d, doc, key, integer(i), NULL));
  }
  return d;
}

static int64_t at_key(const ckpt_value *d, int i) {
  char key[16];
  int64_t found = -1;
  snprintf(key, sizeof key, "k%d", i);
  const ckpt_value *v = ckpt_value_get(d, key);
  if (v != NULL) ok(ckpt_value_int(&found, v, NULL));
  return found;
}

/* Keys leave and come back in an order of no pattern; every key is looked up after every step. */
static void removal_keeps_dicts_whole(void **state) {
  (void)state;
  static const int sizes[] = {1, 2, 8, 9, 16, 40};
  for (size_t s = 0; s < CKPT_COUNTOF(sizes); s++) {
    int n = sizes[s];
    bool there[40];
    ckpt_value *d = numbered(n);
    for (int i = 0; i < n; i++) there[i] = true;
    for (int step = 0; step < 3 * n; step++) {
      char key[16];
      int i = (step * 7 + step / n * 3) % n;
      snprintf(key, sizeof key, "k%d", i);
      if (there[i])
        ok(ckpt_value_remove_key(d, string(key), NULL));
      else
        ok(ckpt_value_put(d, doc, string(key), integer(i), NULL));
      there[i] = !there[i];
      size_t count = 0;
      for (int k = 0; k < n; k++) {
        assert_int_equal(at_key(d, k), there[k] ? k : -1);
        count += there[k];
      }
      assert_int_equal(ckpt_value_count(d), count);
    }
  }
}

static void removal_keeps_order(void **state) {
  (void)state;
  ckpt_error err = {0};
  ckpt_value *d = DICT(string("a"), integer(1), string("b"), integer(2), string("c"), integer(3));
  ok(ckpt_value_remove_key(d, string("b"), NULL));
  assert_repr(d, "{'a': 1, 'c': 3}");
  ok(ckpt_value_put(d, doc, string("b"), integer(4), NULL));
  ok(ckpt_value_put(d, doc, string("a"), integer(5), NULL));
  assert_repr(d, "{'a': 5, 'c': 3, 'b': 4}");
  assert_int_equal(ckpt_value_remove_key(d, string("x"), &err), CKPT_E_NOTFOUND);
  assert_string_equal(err.message, "the dict has no such key");
}

static void wrong_kinds_and_keys(void **state) {
  (void)state;
  ckpt_error err = {0};
  ckpt_value *d = make(CKPT_DICT), *list = LIST(integer(1));
  assert_int_equal(ckpt_value_put(d, doc, list, list, &err), CKPT_E_TYPE);
  assert_string_equal(err.message, "a list cannot be the key of a dict");
  assert_int_equal(ckpt_value_put(d, doc, TUPLE(integer(1), TUPLE(list)), list, &err), CKPT_E_TYPE);
  assert_string_equal(err.message, "a tuple cannot be the key of a dict");
  assert_int_equal(ckpt_value_put(list, doc, integer(1), list, &err), CKPT_E_TYPE);
  assert_string_equal(err.message, "a list where a dict was expected");
  assert_int_equal(ckpt_value_remove_key(list, integer(1), &err), CKPT_E_TYPE);
  assert_int_equal(ckpt_value_rename_keys(list, NULL, &err), CKPT_E_TYPE);
  assert_int_equal(ckpt_value_replace(d, 0, list, &err), CKPT_E_TYPE);
  assert_int_equal(ckpt_value_insert(d, doc, 0, list, &err), CKPT_E_TYPE);
  assert_int_equal(ckpt_value_remove_item(TUPLE(list), 0, &err), CKPT_E_TYPE);
  assert_string_equal(err.message, "a tuple where a list was expected");
  assert_int_equal(ckpt_value_extend(d, doc, list, &err), CKPT_E_TYPE);
  assert_int_equal(ckpt_value_add(FROZENSET(integer(1)), doc, integer(2), &err), CKPT_E_TYPE);
  assert_string_equal(err.message, "a frozenset where a set was expected");
  assert_int_equal(ckpt_value_add(SET(integer(1)), doc, list, &err), CKPT_E_TYPE);
  assert_string_equal(err.message, "a list cannot be in a set");
  assert_int_equal(ckpt_value_discard(list, doc, integer(1), &err), CKPT_E_TYPE);
  assert_int_equal(ckpt_value_set_state(d, list, &err), CKPT_E_TYPE);
  assert_string_equal(err.message, "a dict has no state: objects and OrderedDicts have");
  assert_int_equal(ckpt_value_count(d), 0);
}

static void renaming(void **state) {
  (void)state;
  ckpt_error err = {0};
  for (int n = 3; n < 30; n += 13) {
    ckpt_value *d = numbered(n), *keys[30];
    for (int i = 0; i < n; i++) keys[i] = ckpt_value_pair_key(d, (size_t)(i + 1) % (size_t)n);
    ok(ckpt_value_rename_keys(d, keys, NULL));
    for (int i = 0; i < n; i++) assert_int_equal(at_key(d, (i + 1) % n), i);
    keys[1] = integer(7);
    keys[2] = number(7.0);
    assert_int_equal(ckpt_value_rename_keys(d, keys, &err), CKPT_E_EXISTS);
    assert_string_equal(err.message, "two keys would become '?'");
    for (int i = 0; i < n; i++) assert_int_equal(at_key(d, (i + 1) % n), i);
  }
}

static void keys_compare_as_in_python(void **state) {
  (void)state;
  ckpt_value *complex_a = NULL, *complex_b = NULL, *device = NULL, *plain = NULL;
  ok(ckpt_value_new_complex(&complex_a, doc, 1, 2, NULL));
  ok(ckpt_value_new_complex(&complex_b, doc, 1, 2, NULL));
  ok(ckpt_value_new_device(&device, doc, "cuda", 1, NULL));
  ok(ckpt_value_new_device(&plain, doc, "cuda", -1, NULL));
  ckpt_value *nan = number(NAN);
  ckpt_value *same[][2] = {
      {integer(1), number(1.0)},
      {integer(1), ckpt_document_bool(doc, true)},
      {number(0.0), number(-0.0)},
      {long_integer("0x10000000000000000"), number(18446744073709551616.0)},
      {long_integer("-100000000000000000000"), number(-1e20)},
      {long_integer("123456789012345678901234567890"), long_integer("123456789012345678901234567890")},
      {TUPLE(integer(1), string("a")), TUPLE(number(1.0), string("a"))},
      {TUPLE(TUPLE(integer(1)), make(CKPT_NONE)), TUPLE(TUPLE(integer(1)), ckpt_document_none(doc))},
      {make(CKPT_TUPLE), ckpt_document_empty_tuple(doc)},
      {FROZENSET(integer(1), string("a")), FROZENSET(string("a"), number(1.0))},
      {complex_a, complex_b},
      {class_of("torch", "float32"), class_of("torch", "float32")},
      {nan, nan},
  };
  ckpt_value *other[][2] = {
      {integer(1), string("1")},
      {string("a"), class_of("a", "b")},
      {TUPLE(integer(1)), TUPLE(integer(1), integer(1))},
      {TUPLE(integer(1)), FROZENSET(integer(1))},
      {FROZENSET(integer(1)), FROZENSET(integer(2))},
      {integer(INT64_C(9007199254740993)), number(9007199254740992.0)},
      {long_integer("18446744073709551617"), number(18446744073709551616.0)},
      {long_integer("0x1"
                    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
                    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
                    "00000000000000000000000000000000000000000000000000000000000000000000000000000000"),
       number(INFINITY)},
      {nan, number(NAN)},
      {device, plain},
      {object("a", "B", TUPLE(integer(1)), NULL), object("a", "B", TUPLE(integer(1)), NULL)},
  };
  for (size_t i = 0; i < CKPT_COUNTOF(same); i++) {
    assert_true(ckpt_key_equal(same[i][0], same[i][1]) && ckpt_key_equal(same[i][1], same[i][0]));
    assert_int_equal(ckpt_key_hash(same[i][0]), ckpt_key_hash(same[i][1]));
  }
  for (size_t i = 0; i < CKPT_COUNTOF(other); i++) assert_false(ckpt_key_equal(other[i][0], other[i][1]));
}

/* A tuple of two of a tuple of two ... is small in the file and exponential when spelled out. */
static void hostile_keys_cost_little(void **state) {
  (void)state;
  ckpt_value *a = TUPLE(integer(1), integer(2)), *b = TUPLE(integer(1), integer(2));
  for (int i = 0; i < 100; i++) {
    a = TUPLE(a, a);
    b = TUPLE(b, b);
  }
  assert_false(ckpt_key_equal(a, b)); /* deeper than is looked at: equal only to itself */
  assert_true(ckpt_key_equal(a, a));
  ckpt_key_hash(a);
  assert_true(ckpt_value_is_hashable(a));
  ckpt_value *c = integer(1), *d = integer(1);
  for (int i = 0; i < CKPT_KEY_DEPTH - 1; i++) {
    c = TUPLE(c);
    d = TUPLE(d);
  }
  assert_true(ckpt_key_equal(c, d));
  assert_int_equal(ckpt_key_hash(c), ckpt_key_hash(d));
}

static void find_and_contains(void **state) {
  (void)state;
  ckpt_value *d = DICT(TUPLE(integer(1), integer(2)), string("t"), number(2.0), string("f"));
  assert_repr(ckpt_value_find(d, TUPLE(number(1.0), integer(2))), "'t'");
  assert_repr(ckpt_value_find(d, integer(2)), "'f'");
  assert_null(ckpt_value_find(d, integer(3)));
  assert_null(ckpt_value_find(LIST(integer(1)), integer(1)));
  assert_true(ckpt_value_contains(d, integer(2)));
  assert_true(ckpt_value_contains(SET(integer(2)), number(2.0)));
  assert_false(ckpt_value_contains(FROZENSET(integer(2)), integer(3)));
}

/* ---- lists and objects ---- */

static void lists(void **state) {
  (void)state;
  ckpt_error err = {0};
  ckpt_value *list = LIST(integer(1), integer(2));
  ok(ckpt_value_insert(list, doc, 0, integer(0), NULL));
  ok(ckpt_value_insert(list, doc, 3, integer(4), NULL));
  ok(ckpt_value_insert(list, doc, 3, integer(3), NULL));
  assert_repr(list, "[0, 1, 2, 3, 4]");
  ok(ckpt_value_replace(list, 4, string("x"), NULL));
  ok(ckpt_value_remove_item(list, 0, NULL));
  ok(ckpt_value_remove_item(list, 3, NULL));
  ok(ckpt_value_extend(list, doc, list, NULL));
  ok(ckpt_value_extend(list, doc, SET(integer(9)), NULL));
  assert_repr(list, "[1, 2, 3, 1, 2, 3, 9]");
  assert_int_equal(ckpt_value_replace(list, 7, list, &err), CKPT_E_RANGE);
  assert_string_equal(err.message, "there is no item 7 in a list of 7 (counted from 0)");
  assert_int_equal(ckpt_value_insert(list, doc, 8, list, &err), CKPT_E_RANGE);
  assert_int_equal(ckpt_value_remove_item(list, 7, &err), CKPT_E_RANGE);
  assert_int_equal(ckpt_value_extend(list, doc, DICT(integer(1), integer(1)), &err), CKPT_E_TYPE);
  assert_int_equal(ckpt_value_count(list), 7);
}

static void parts_of_objects(void **state) {
  (void)state;
  ckpt_value *v = object("collections", "deque", ckpt_document_empty_tuple(doc), NULL);
  ok(ckpt_value_append(v, doc, integer(1), NULL));
  ok(ckpt_value_insert(v, doc, 0, integer(0), NULL));
  ok(ckpt_value_put(v, doc, string("k"), integer(3), NULL));
  assert_int_equal(ckpt_value_count(v), 2);
  assert_int_equal(ckpt_value_pair_count(v), 1);
  ok(ckpt_value_remove_key(v, string("k"), NULL));
  ok(ckpt_value_set_state(v, integer(5), NULL));
  assert_repr(ckpt_value_state(v), "5");
  ok(ckpt_value_set_state(v, NULL, NULL));
  assert_null(ckpt_value_state(v));
  assert_null(ckpt_value_state(integer(1)));
  ckpt_value *ordered = NULL;
  ok(ckpt_value_new_dict(&ordered, doc, true, NULL));
  ok(ckpt_value_set_state(ordered, integer(6), NULL));
  assert_repr(ckpt_value_state(ordered), "6");
}

/* ---- sets ---- */

static ckpt_value *set_of_call(ckpt_value *list) { /* what set([...]) is after reading */
  ckpt_value *v = make(CKPT_SET), *call = object("__builtin__", "set", TUPLE(list), NULL);
  v->made = call->made;
  v->as.seq = list->as.seq;
  return v;
}

static void an_edited_set_forgets_its_call(void **state) {
  (void)state;
  ckpt_error err = {0};
  ckpt_value *list = LIST(integer(1), integer(2)), *set = set_of_call(list);
  ok(ckpt_value_add(set, doc, number(2.0), NULL)); /* there already */
  assert_non_null(set->made);
  assert_int_equal(ckpt_value_discard(set, doc, integer(7), &err), CKPT_E_NOTFOUND);
  assert_string_equal(err.message, "the set has no such item");
  assert_non_null(set->made);
  ok(ckpt_value_discard(set, doc, integer(1), NULL));
  assert_null(set->made);
  ok(ckpt_value_add(set, doc, string("x"), NULL));
  assert_repr(set, "{2, 'x'}");
  assert_repr(list, "[1, 2]");
  set = set_of_call(list);
  ok(ckpt_value_add(set, doc, integer(3), NULL));
  assert_null(set->made);
  assert_repr(set, "{1, 2, 3}");
  assert_repr(list, "[1, 2]");
}

static void sets_settle(void **state) {
  (void)state;
  ckpt_value *set = make(CKPT_SET);
  for (int i = 0; i < 100; i++) ok(ckpt_seq_push(&set->as.seq, doc, integer(i % 10), NULL));
  ok(ckpt_set_settle(set, NULL));
  assert_repr(set, "{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}");
}

/* ---- integers of any length ---- */

static void check_integer(const char *given, const char *decimal, const char *hex) {
  char *text = NULL;
  size_t n = 0;
  ckpt_value *v = long_integer(given);
  ok(ckpt_value_int_text(&text, &n, v, false, NULL));
  assert_string_equal(text, decimal);
  assert_int_equal(n, strlen(decimal));
  free(text);
  ok(ckpt_value_int_text(&text, &n, v, true, NULL));
  assert_string_equal(text, hex);
  assert_int_equal(n, strlen(hex));
  free(text);
}

static void integers_and_texts(void **state) {
  (void)state;
  check_integer("0", "0", "0x0");
  check_integer("-0x0", "0", "0x0");
  check_integer("+17", "17", "0x11");
  check_integer("-1", "-1", "-0x1");
  check_integer("9223372036854775807", "9223372036854775807", "0x7fffffffffffffff");
  check_integer("-9223372036854775808", "-9223372036854775808", "-0x8000000000000000");
  check_integer("9223372036854775808", "9223372036854775808", "0x8000000000000000");
  check_integer("-0x8000000000000001", "-9223372036854775809", "-0x8000000000000001");
  check_integer("0xFFffFFffFFffFFff", "18446744073709551615", "0xffffffffffffffff");
  check_integer("-123456789012345678901234567890", "-123456789012345678901234567890", "-0x18ee90ff6c373e0ee4e3f0ad2");
  check_integer("1000000000000000000000000000", "1000000000000000000000000000", "0x33b2e3c9fd0803ce8000000");
  assert_int_equal(ckpt_value_kind(long_integer("9223372036854775807")), CKPT_INT);
  assert_int_equal(ckpt_value_kind(long_integer("9223372036854775808")), CKPT_BIGINT);
}

static void no_integers(void **state) {
  (void)state;
  static const char *const texts[] = {"", "-", "0x", "12a", "0xg", "--1", "1 ", "1_000", "0x-1"};
  ckpt_error err = {0};
  ckpt_value *v = NULL;
  for (size_t i = 0; i < CKPT_COUNTOF(texts); i++)
    assert_int_equal(ckpt_value_new_int_text(&v, doc, texts[i], strlen(texts[i]), &err), CKPT_E_ARGUMENT);
  assert_string_equal(err.message, "'0x-1' is no integer: digits, or 0x and hexadecimal digits, are");
  char *digits = malloc(5001), *text = NULL;
  size_t n = 0;
  memset(digits, '9', 5000);
  assert_int_equal(ckpt_value_new_int_text(&v, doc, digits, 5000, &err), CKPT_E_LIMIT);
  assert_string_equal(err.message, "an integer of 5000 digits; at most 4300 are read");
  free(digits);
  char *bytes = calloc(1, 20000);
  bytes[19999] = 1;
  v = ckpt_value_make_text(doc, CKPT_BIGINT, bytes, 20000, NULL);
  free(bytes);
  assert_int_equal(ckpt_value_int_text(&text, &n, v, false, &err), CKPT_E_LIMIT);
  assert_non_null(strstr(err.message, "ask for hexadecimal"));
  ok(ckpt_value_int_text(&text, &n, v, true, &err));
  assert_int_equal(n, 2 + 39999);
  free(text);
  assert_int_equal(ckpt_value_int_text(&text, &n, string("1"), true, &err), CKPT_E_TYPE);
  assert_string_equal(err.message, "a str where an int was expected");
}

/* ---- builders ---- */

static void what_torch_knows(void **state) {
  (void)state;
  ckpt_error err = {0};
  ckpt_value *v = NULL;
  ok(ckpt_value_new_size(&v, doc, 2, (int64_t[]){2, 3}, NULL));
  assert_repr(v, "torch.Size([2, 3])");
  assert_repr(v->made->args, "((2, 3),)");
  ok(ckpt_value_new_size(&v, doc, 0, NULL, NULL));
  assert_repr(v, "torch.Size([])");
  ok(ckpt_value_new_device(&v, doc, "cuda", 1, NULL));
  assert_repr(ckpt_value_object_args(v), "('cuda', 1)");
  ok(ckpt_value_new_dtype(&v, doc, CKPT_BF16, NULL));
  assert_repr(v, "torch.bfloat16");
  ok(ckpt_value_new_parameter(&v, doc, tensor(1, 2)->as.tensor, true, NULL));
  assert_true(ckpt_tensor_requires_grad(v->as.tensor));
  assert_false(ckpt_tensor_requires_grad(v->made->args->as.seq.items[0]->as.tensor));
  ckpt_tensor *t = NULL;
  ok(ckpt_tensor_new(&t, CKPT_I64, 0, NULL, NULL));
  assert_int_equal(ckpt_value_new_parameter(&v, doc, t, true, &err), CKPT_E_ARGUMENT);
  assert_string_equal(err.message, "a parameter of dtype int64 cannot require a gradient");
  ok(ckpt_value_new_parameter(&v, doc, t, false, &err));
  ckpt_tensor_release(t);
  assert_int_equal(ckpt_value_new_class(&v, doc, "a\nb", "c", &err), CKPT_E_ARGUMENT);
  assert_string_equal(err.message, "'c' in module 'a\nb' is no name of Python");
}

static void objects_need_their_parts(void **state) {
  (void)state;
  ckpt_error err = {0};
  ckpt_value *v = NULL, *args = ckpt_document_empty_tuple(doc), *cls = class_of("a", "B"), *kwargs = make(CKPT_DICT);
  assert_int_equal(ckpt_value_new_object(&v, doc, CKPT_BY_REDUCE, NULL, args, NULL, &err), CKPT_E_ARGUMENT);
  assert_string_equal(err.message, "an object needs a class or a function that makes it");
  assert_int_equal(ckpt_value_new_object(&v, doc, CKPT_BY_REDUCE, integer(1), args, NULL, &err), CKPT_E_ARGUMENT);
  assert_int_equal(ckpt_value_new_object(&v, doc, CKPT_BY_NEWOBJ, cls, LIST(cls), NULL, &err), CKPT_E_ARGUMENT);
  assert_string_equal(err.message, "an object's arguments must be a tuple");
  assert_int_equal(ckpt_value_new_object(&v, doc, CKPT_BY_NEWOBJ, cls, args, kwargs, &err), CKPT_E_ARGUMENT);
  assert_int_equal(ckpt_value_new_object(&v, doc, CKPT_BY_NEWOBJ_EX, cls, args, NULL, &err), CKPT_E_ARGUMENT);
  assert_string_equal(err.message, "an object has keyword arguments, in a dict, if it is made by newobj_ex");
  ok(ckpt_value_new_object(&v, doc, CKPT_BY_NEWOBJ_EX, cls, args, kwargs, NULL));
  ok(ckpt_value_new_object(&v, doc, CKPT_BY_PERSID, NULL, string("id"), NULL, NULL));
}

#define WITH_DOC(f) cmocka_unit_test_setup_teardown(f, new_doc, free_doc)

int main(void) {
  const struct CMUnitTest tests[] = {
      WITH_DOC(removal_keeps_dicts_whole),
      WITH_DOC(removal_keeps_order),
      WITH_DOC(wrong_kinds_and_keys),
      WITH_DOC(renaming),
      WITH_DOC(keys_compare_as_in_python),
      WITH_DOC(hostile_keys_cost_little),
      WITH_DOC(find_and_contains),
      WITH_DOC(lists),
      WITH_DOC(parts_of_objects),
      WITH_DOC(an_edited_set_forgets_its_call),
      WITH_DOC(sets_settle),
      WITH_DOC(integers_and_texts),
      WITH_DOC(no_integers),
      WITH_DOC(what_torch_knows),
      WITH_DOC(objects_need_their_parts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
