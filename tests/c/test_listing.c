/*
 * test_listing.c - the paths of tensors and objects as ckpt.h describes them; aliases, storages, cycles; containers
 * that are shared over and over cost no more than their size.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "pickle_read.h"

#define P(literal) (literal), sizeof(literal) - 1

static int set_up(void **state) { return ckpt_document_new((ckpt_document **)state, NULL) != CKPT_OK; }

static int tear_down(void **state) {
  ckpt_document_release(*state);
  return 0;
}

/* ---- building ---- */

static ckpt_value *make(ckpt_document *doc, ckpt_kind kind) {
  ckpt_value *v = ckpt_value_make(doc, kind, NULL);
  assert_non_null(v);
  return v;
}

static ckpt_value *tensor(ckpt_document *doc) {
  ckpt_tensor *t = NULL;
  ckpt_value *v = NULL;
  assert_int_equal(ckpt_tensor_new(&t, CKPT_U8, 1, (const int64_t[]){4}, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_tensor(&v, doc, t, NULL), CKPT_OK);
  ckpt_tensor_release(t);
  return v;
}

static ckpt_value *integer(ckpt_document *doc, int64_t i) {
  ckpt_value *v = NULL;
  assert_int_equal(ckpt_value_new_int(&v, doc, i, NULL), CKPT_OK);
  return v;
}

static void set(ckpt_value *dict, ckpt_document *doc, const char *key, ckpt_value *item) {
  assert_int_equal(ckpt_value_set(dict, doc, key, item, NULL), CKPT_OK);
}

static void put(ckpt_value *dict, ckpt_document *doc, ckpt_value *key, ckpt_value *item) {
  assert_int_equal(ckpt_dict_put(dict->as.dict, doc, key, item, NULL), CKPT_OK);
}

static void append(ckpt_value *list, ckpt_document *doc, ckpt_value *item) {
  assert_int_equal(ckpt_value_append(list, doc, item, NULL), CKPT_OK);
}

static ckpt_value *read_ok(ckpt_document *doc, const char *bytes, size_t n) {
  ckpt_value *v = NULL;
  ckpt_error err = {0};
  if (ckpt_pickle_read(&v, NULL, doc, (const unsigned char *)bytes, n, "data.pkl", NULL, &err) != CKPT_OK)
    fail_msg("%s", err.message);
  return v;
}

/* ---- comparing ---- */

static ckpt_listing *list_of(const ckpt_value *root) {
  ckpt_listing *l = NULL;
  ckpt_error err = {0};
  if (ckpt_listing_new(&l, root, &err) != CKPT_OK) fail_msg("%s", err.message);
  return l;
}

/* "path" for each entry and "=alias" for each of its aliases, a line each. */
static char *text_of(const ckpt_listing *l) {
  char *text = NULL;
  size_t n = 0;
  FILE *f = open_memstream(&text, &n);
  for (size_t i = 0; i < ckpt_listing_count(l); i++) {
    const ckpt_listing_entry *e = ckpt_listing_entry_at(l, i);
    fprintf(f, "%s\n", e->path);
    for (size_t k = 0; k < e->n_aliases; k++) fprintf(f, "=%s\n", e->aliases[k]);
  }
  fclose(f);
  return text;
}

static void check(const ckpt_value *root, const char *wanted) {
  ckpt_listing *l = list_of(root);
  char *text = text_of(l);
  assert_string_equal(text, wanted);
  assert_null(ckpt_listing_entry_at(l, ckpt_listing_count(l)));
  assert_null(ckpt_listing_entry_at(l, SIZE_MAX));
  free(text);
  ckpt_listing_free(l);
}

/* ---- paths ---- */

static void a_bare_tensor_has_an_empty_path(void **state) { check(tensor(*state), "\n"); }

static void nothing_to_list(void **state) {
  ckpt_document *doc = *state;
  check(integer(doc, 1), "");
  check(make(doc, CKPT_DICT), "");
  ckpt_listing_free(NULL);
}

/* A whole training state: model, optimizer by index, epoch. */
static ckpt_value *training_state(ckpt_document *doc) {
  ckpt_value *root = make(doc, CKPT_DICT), *model = make(doc, CKPT_DICT), *optimizer = make(doc, CKPT_DICT);
  ckpt_value *states = make(doc, CKPT_DICT), *zero = make(doc, CKPT_DICT), *list = make(doc, CKPT_LIST);
  set(root, doc, "epoch", integer(doc, 3));
  set(root, doc, "model", model);
  set(model, doc, "conv1.weight", tensor(doc));
  set(model, doc, "conv1.bias", tensor(doc));
  set(root, doc, "optimizer", optimizer);
  set(optimizer, doc, "state", states);
  put(states, doc, integer(doc, 0), zero);
  set(zero, doc, "momentum_buffer", tensor(doc));
  set(root, doc, "list", list);
  append(list, doc, tensor(doc));
  append(list, doc, make(doc, CKPT_TUPLE));
  append(ckpt_value_item(list, 1), doc, tensor(doc));
  return root;
}

static void paths_of_dicts_and_lists(void **state) {
  check(training_state(*state),
        "model.conv1.weight\nmodel.conv1.bias\noptimizer.state.0.momentum_buffer\nlist[0]\nlist[1][0]\n");
}

static void paths_begin_with_an_index(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *outer = make(doc, CKPT_TUPLE), *inner = make(doc, CKPT_LIST), *set_value = make(doc, CKPT_SET);
  append(outer, doc, inner);
  append(inner, doc, integer(doc, 1));
  append(inner, doc, tensor(doc));
  append(outer, doc, training_state(doc));
  append(outer, doc, set_value);
  assert_int_equal(ckpt_seq_push(&set_value->as.seq, doc, tensor(doc), NULL), CKPT_OK);
  check(outer,
        "[0][1]\n[1].model.conv1.weight\n[1].model.conv1.bias\n[1].optimizer.state.0.momentum_buffer\n"
        "[1].list[0]\n[1].list[1][0]\n[2][0]\n");
}

/* Keys that are no strings stand as Python's repr. */
static void keys_as_python_shows_them(void **state) {
  static const char keys[] =
      "](K\x0aK\x0aK\0\x87\x88NG\x3f\xf8\0\0\0\0\0\0C\3a'\xff"
      "J\xfd\xff\xff\xffX\3\0\0\0a.bX\0\0\0\0K\5\x85)cm\nC\n"
      "X\4\0\0\0it'se.";
  ckpt_document *doc = *state;
  ckpt_value *dict = make(doc, CKPT_DICT), *list = read_ok(doc, P(keys));
  for (size_t i = 0; i < ckpt_value_count(list); i++) put(dict, doc, ckpt_value_item(list, i), tensor(doc));
  check(dict, "(10, 10, 0)\nTrue\nNone\n1.5\nb\"a'\\xff\"\n-3\na.b\n\n(5,)\n()\nm.C\nit's\n");
  ckpt_value *root = make(doc, CKPT_DICT), *inner = make(doc, CKPT_LIST);
  put(root, doc, ckpt_value_item(list, 0), inner);
  for (int i = 0; i < 4; i++) append(inner, doc, integer(doc, i));
  append(inner, doc, tensor(doc));
  check(root, "(10, 10, 0)[4]\n");
}

/* Only the dot that joins is left out. */
static void keys_that_begin_with_a_dot(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *dict = make(doc, CKPT_DICT), *inner = make(doc, CKPT_DICT);
  set(dict, doc, ".a", tensor(doc));
  set(dict, doc, "b", inner);
  set(inner, doc, ".c", tensor(doc));
  check(dict, ".a\nb..c\n");
}

static void many_tensors(void **state) {
  ckpt_document *doc = *state;
  enum { N = 3000 };
  char path[32];
  ckpt_value *list = make(doc, CKPT_LIST);
  for (int i = 0; i < N; i++) append(list, doc, tensor(doc));
  ckpt_listing *l = list_of(list);
  assert_int_equal(ckpt_listing_count(l), N);
  for (size_t i = 0; i < N; i++) {
    const ckpt_listing_entry *e = ckpt_listing_entry_at(l, i);
    snprintf(path, sizeof path, "[%zu]", i);
    assert_string_equal(e->path, path);
    assert_ptr_equal(e->value, ckpt_value_item(list, i));
    assert_int_equal(e->storage, i);
    assert_int_equal(e->n_aliases, 0);
  }
  ckpt_listing_free(l);
}

/* ---- objects ---- */

static ckpt_value *object(ckpt_document *doc, const char *module, const char *name, ckpt_value *args) {
  ckpt_value *cls = ckpt_value_make_class(doc, module, strlen(module), name, strlen(name), NULL);
  ckpt_value *v = ckpt_value_make_object(doc, CKPT_BY_REDUCE, cls, args, NULL);
  assert_non_null(v);
  return v;
}

static void parts_of_objects(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *args = make(doc, CKPT_TUPLE), *fields = make(doc, CKPT_DICT), *root = make(doc, CKPT_DICT);
  append(args, doc, integer(doc, 1));
  append(args, doc, tensor(doc));
  ckpt_value *v = object(doc, "m", "C", args);
  set(root, doc, "net", v);
  assert_int_equal(ckpt_seq_push(&v->as.object->items, doc, tensor(doc), NULL), CKPT_OK);
  assert_int_equal(ckpt_dict_put(&v->as.object->dict, doc, integer(doc, 7), tensor(doc), NULL), CKPT_OK);
  v->as.object->state = fields;
  set(fields, doc, "weight", tensor(doc));
  check(root, "net\nnet.args[1]\nnet[0]\nnet.7\nnet.weight\n");
  v->as.object->state = make(doc, CKPT_LIST);
  append(v->as.object->state, doc, tensor(doc));
  check(root, "net\nnet.args[1]\nnet[0]\nnet.7\nnet.state[0]\n");
  v->as.object->state = tensor(doc);
  check(v, "\nargs[1]\n[0]\n7\nstate\n");
}

static void plain_objects_are_not_listed(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *list = make(doc, CKPT_LIST), *args = make(doc, CKPT_TUPLE);
  append(args, doc, tensor(doc));
  append(list, doc, object(doc, "torch", "device", args));
  append(list, doc, object(doc, "m", "C", ckpt_document_empty_tuple(doc)));
  append(list, doc, ckpt_value_make_object(doc, CKPT_BY_PERSID, NULL, args, NULL));
  check(list, "[0].args[0]\n[1]\n"); /* not the device, and nothing inside a persistent id */
  ckpt_listing *l = list_of(list);
  assert_int_equal(ckpt_value_kind(ckpt_listing_entry_at(l, 1)->value), CKPT_OBJECT);
  assert_true(ckpt_listing_entry_at(l, 1)->storage == SIZE_MAX);
  ckpt_listing_free(l);
}

static void metadata_of_an_ordered_dict(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *dict = make(doc, CKPT_DICT), *attributes = make(doc, CKPT_DICT);
  dict->ordered = true;
  dict->as.dict->state = attributes;
  set(dict, doc, "w", tensor(doc));
  set(attributes, doc, "extra", tensor(doc));
  check(dict, "w\nextra\n");
}

/* ---- sharing ---- */

static void aliases_of_a_tensor(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *root = make(doc, CKPT_DICT), *list = make(doc, CKPT_LIST), *t = tensor(doc);
  set(root, doc, "a", t);
  set(root, doc, "list", list);
  for (int i = 0; i < 5; i++) append(list, doc, t);
  set(root, doc, "b", tensor(doc));
  check(root, "a\n=list[0]\n=list[1]\n=list[2]\n=list[3]\n=list[4]\nb\n");
}

static void aliases_inside_a_shared_container(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *root = make(doc, CKPT_DICT), *shared = make(doc, CKPT_DICT);
  set(shared, doc, "w", tensor(doc));
  set(shared, doc, "o", object(doc, "m", "C", ckpt_document_empty_tuple(doc)));
  set(root, doc, "model", shared);
  set(root, doc, "ema", shared);
  set(root, doc, "swa", shared);
  check(root, "model.w\n=ema.w\n=swa.w\nmodel.o\n=ema.o\n=swa.o\n");
}

static void storages_are_numbered(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *list = make(doc, CKPT_LIST), *v = NULL, *first = tensor(doc);
  ckpt_tensor *t = NULL;
  append(list, doc, first);
  append(list, doc, tensor(doc));
  assert_int_equal(ckpt_tensor_view(&t, ckpt_value_tensor(first), 1, 0, NULL, NULL, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_tensor(&v, doc, t, NULL), CKPT_OK);
  ckpt_tensor_release(t);
  append(list, doc, v);
  assert_int_equal(ckpt_tensor_meta(&t, CKPT_F32, 0, NULL, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_tensor(&v, doc, t, NULL), CKPT_OK);
  ckpt_tensor_release(t);
  append(list, doc, v);
  ckpt_listing *l = list_of(list);
  static const size_t wanted[] = {0, 1, 0, SIZE_MAX};
  assert_int_equal(ckpt_listing_count(l), 4);
  for (size_t i = 0; i < 4; i++) assert_true(ckpt_listing_entry_at(l, i)->storage == wanted[i]);
  ckpt_listing_free(l);
}

static void cycles_end(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *list = make(doc, CKPT_LIST), *dict = make(doc, CKPT_DICT);
  append(list, doc, list);
  append(list, doc, dict);
  set(dict, doc, "up", list);
  set(dict, doc, "self", dict);
  set(dict, doc, "t", tensor(doc));
  append(list, doc, dict);
  check(list, "[1].t\n=[2].t\n");
  ckpt_value *o = object(doc, "m", "C", ckpt_document_empty_tuple(doc));
  o->as.object->state = make(doc, CKPT_DICT);
  set(o->as.object->state, doc, "me", o);
  check(o, "\n=me\n");
}

/* ---- everything ---- */

/* "depth kind parent|rest" for each entry and "=alias" for each of its aliases, a line each. */
static void check_everything(const ckpt_value *root, const char *wanted) {
  ckpt_listing *l = NULL;
  char *text = NULL;
  size_t n = 0;
  assert_int_equal(ckpt_listing_everything(&l, root, NULL), CKPT_OK);
  FILE *f = open_memstream(&text, &n);
  for (size_t i = 0; i < ckpt_listing_count(l); i++) {
    const ckpt_listing_entry *e = ckpt_listing_entry_at(l, i);
    const char *kind = ckpt_kind_name(ckpt_value_kind(e->value));
    fprintf(f, "%zu %s %.*s|%s%s\n", e->depth, kind, (int)e->parent, e->path, e->path + e->parent,
            e->again ? " again" : "");
    for (size_t k = 0; k < e->n_aliases; k++) fprintf(f, "=%s\n", e->aliases[k]);
  }
  fclose(f);
  assert_string_equal(text, wanted);
  free(text);
  ckpt_listing_free(l);
}

static void everything_with_its_depth(void **state) {
  ckpt_document *doc = *state;
  check_everything(training_state(doc),
                   "0 dict |\n1 int |epoch\n1 dict |model\n2 tensor model|.conv1.weight\n2 tensor model|.conv1.bias\n"
                   "1 dict |optimizer\n2 dict optimizer|.state\n3 dict optimizer.state|.0\n"
                   "4 tensor optimizer.state.0|.momentum_buffer\n"
                   "1 list |list\n2 tensor list|[0]\n2 tuple list|[1]\n3 tensor list[1]|[0]\n");
  check_everything(ckpt_document_none(doc), "0 None |\n");
  ckpt_value *v = object(doc, "m", "C", ckpt_document_empty_tuple(doc)), *fields = make(doc, CKPT_DICT);
  v->as.object->state = fields;
  set(fields, doc, "epoch", integer(doc, 1));
  check_everything(v, "0 object |\n1 int |epoch\n");
}

/* A number is listed wherever it stands, a container once; a cycle ends. */
static void everything_shared(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *root = make(doc, CKPT_DICT), *list = make(doc, CKPT_LIST), *n = integer(doc, 7);
  append(list, doc, n);
  append(list, doc, root);
  set(root, doc, "a", list);
  set(root, doc, "n", n);
  set(root, doc, "b", list);
  check_everything(root, "0 dict |\n=a[1]\n=b[1]\n1 list |a\n=b\n2 int a|[0]\n1 int |n\n2 int b|[0] again\n");
}

/* ---- limits ---- */

/* 60 levels of [x, x]: 2^60 paths to one tensor. alarm() ends the program if they are all walked. */
static void billion_laughs_end_quickly(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *v = make(doc, CKPT_LIST), *root = make(doc, CKPT_DICT);
  append(v, doc, tensor(doc));
  for (int i = 0; i < 60; i++) {
    ckpt_value *outer = make(doc, CKPT_LIST);
    append(outer, doc, v);
    append(outer, doc, v);
    v = outer;
  }
  set(root, doc, "laughs", v);
  set(root, doc, "after", training_state(doc));
  alarm(20);
  ckpt_listing *l = list_of(root);
  alarm(0);
  assert_int_equal(ckpt_listing_count(l), 6);
  assert_string_equal(ckpt_listing_entry_at(l, 5)->path, "after.list[1][0]"); /* what comes later is not lost */
  assert_in_range(ckpt_listing_entry_at(l, 0)->n_aliases, 1, CKPT_MAX_ALIASES);
  ckpt_listing_free(l);
}

/* The same with tuples in dicts, every level with a tensor of its own: each is found once. */
static void laughs_with_tensors_lose_none(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *v = tensor(doc);
  for (int i = 0; i < 60; i++) {
    ckpt_value *outer = make(doc, CKPT_DICT);
    set(outer, doc, "a", v);
    set(outer, doc, "b", v);
    set(outer, doc, "t", tensor(doc));
    v = outer;
  }
  alarm(20);
  ckpt_listing *l = list_of(v);
  alarm(0);
  assert_int_equal(ckpt_listing_count(l), 61);
  ckpt_listing_free(l);
}

static void aliases_are_limited(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *list = make(doc, CKPT_LIST), *t = tensor(doc), *o = object(doc, "m", "C", ckpt_document_empty_tuple(doc));
  for (int i = 0; i < CKPT_MAX_ALIASES + 10; i++) append(list, doc, i == 5 ? o : t);
  ckpt_listing *l = list_of(list);
  assert_int_equal(ckpt_listing_count(l), 2);
  assert_int_equal(ckpt_listing_entry_at(l, 0)->n_aliases, CKPT_MAX_ALIASES);
  assert_string_equal(ckpt_listing_entry_at(l, 0)->aliases[4], "[6]");
  assert_string_equal(ckpt_listing_entry_at(l, 0)->aliases[CKPT_MAX_ALIASES - 1], "[100001]");
  ckpt_listing_free(l);
}

static void long_paths_are_refused(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *v = tensor(doc);
  ckpt_listing *l = NULL;
  ckpt_error err = {0};
  for (int i = 0; i < 30000; i++) {
    ckpt_value *outer = make(doc, CKPT_LIST);
    append(outer, doc, v);
    v = outer;
  }
  assert_int_equal(ckpt_listing_new(&l, v, &err), CKPT_E_LIMIT);
  assert_string_equal(err.message,
                      "a path longer than 65536 bytes begins "
                      "'[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]'");
  assert_null(l);
  assert_int_equal(ckpt_listing_new(&l, v, NULL), CKPT_E_LIMIT);
}

static void the_longest_path(void **state) {
  ckpt_document *doc = *state;
  char key[65536];
  ckpt_listing *l = NULL;
  for (size_t n = 65533; n < sizeof key; n++) {
    ckpt_value *dict = make(doc, CKPT_DICT);
    memset(key, 'k', n);
    key[n] = '\0';
    set(dict, doc, key, tensor(doc));
    ckpt_status st = ckpt_listing_new(&l, dict, NULL);
    assert_int_equal(st, n <= 65534 ? CKPT_OK : CKPT_E_LIMIT); /* a dot, the key, a NUL */
    if (st != CKPT_OK) break;
    assert_string_equal(ckpt_listing_entry_at(l, 0)->path, key);
    ckpt_listing_free(l);
  }
}

/* ---- the way back ---- */

/* What a listing shows can be asked for. */
static void paths_lead_back(void **state) {
  static const char keys[] = "](K\x0aK\x0aK\0\x87\x88NG\x3f\xf8\0\0\0\0\0\0C\1aJ\xfd\xff\xff\xffX\3\0\0\0a.be.";
  ckpt_document *doc = *state;
  ckpt_value *root = training_state(doc), *list = read_ok(doc, P(keys)), *odd = make(doc, CKPT_DICT);
  set(root, doc, "odd", odd);
  for (size_t i = 0; i < ckpt_value_count(list); i++) put(odd, doc, ckpt_value_item(list, i), tensor(doc));
  ckpt_listing *l = list_of(root);
  char missing[1000] = "";
  for (size_t i = 0; i < ckpt_listing_count(l); i++) {
    const ckpt_listing_entry *e = ckpt_listing_entry_at(l, i);
    if (ckpt_value_at(root, e->path) == e->value) continue;
    strncat(missing, e->path, sizeof missing - strlen(missing) - 2);
    strcat(missing, "\n");
  }
  ckpt_listing_free(l);
  assert_string_equal(missing, "");
}

#define WITH_DOCUMENT(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      WITH_DOCUMENT(a_bare_tensor_has_an_empty_path),
      WITH_DOCUMENT(nothing_to_list),
      WITH_DOCUMENT(paths_of_dicts_and_lists),
      WITH_DOCUMENT(paths_begin_with_an_index),
      WITH_DOCUMENT(keys_as_python_shows_them),
      WITH_DOCUMENT(keys_that_begin_with_a_dot),
      WITH_DOCUMENT(many_tensors),
      WITH_DOCUMENT(parts_of_objects),
      WITH_DOCUMENT(plain_objects_are_not_listed),
      WITH_DOCUMENT(metadata_of_an_ordered_dict),
      WITH_DOCUMENT(aliases_of_a_tensor),
      WITH_DOCUMENT(aliases_inside_a_shared_container),
      WITH_DOCUMENT(storages_are_numbered),
      WITH_DOCUMENT(cycles_end),
      WITH_DOCUMENT(everything_with_its_depth),
      WITH_DOCUMENT(everything_shared),
      WITH_DOCUMENT(billion_laughs_end_quickly),
      WITH_DOCUMENT(laughs_with_tensors_lose_none),
      WITH_DOCUMENT(aliases_are_limited),
      WITH_DOCUMENT(long_paths_are_refused),
      WITH_DOCUMENT(the_longest_path),
      WITH_DOCUMENT(paths_lead_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
