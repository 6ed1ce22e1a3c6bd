/* test_graph.c - whole graphs: deep equality, walks, maps; with sharing, cycles and hostile sizes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "clone.h"
#include "value_fixture.h"

/* ---- equality ---- */

static bool equal(const ckpt_value *a, const ckpt_value *b) {
  bool there = false, back = true;
  ok(ckpt_value_equal(&there, a, b, NULL));
  ok(ckpt_value_equal(&back, b, a, NULL));
  assert_int_equal(there, back);
  return there;
}

static ckpt_value *bytes(ckpt_kind kind, const char *s) { return ckpt_value_make_text(doc, kind, s, strlen(s), NULL); }

static ckpt_value *ordered(ckpt_value *dict) {
  dict->ordered = true;
  return dict;
}

static void scalars_and_containers(void **state) {
  (void)state;
  ckpt_value *one = integer(1), *a = string("a"), *b = string("b");
  assert_true(equal(one, number(1.0)));
  assert_true(equal(one, ckpt_document_bool(doc, true)));
  assert_false(equal(one, a));
  assert_true(equal(make(CKPT_NONE), ckpt_document_none(doc)));
  assert_false(equal(make(CKPT_NONE), integer(0)));
  assert_true(equal(LIST(one, a), LIST(number(1), string("a"))));
  assert_false(equal(LIST(one, a), TUPLE(one, a)));
  assert_false(equal(LIST(one, a), LIST(one)));
  assert_false(equal(LIST(one, a), LIST(a, one)));
  assert_true(equal(DICT(a, one, b, a), DICT(b, a, a, one)));
  assert_false(equal(DICT(a, one), DICT(b, one)));
  assert_false(equal(DICT(a, one), DICT(a, a)));
  assert_false(equal(DICT(a, one), DICT(a, one, b, one)));
  assert_true(equal(ordered(DICT(a, one, b, a)), DICT(b, a, a, one)));
  assert_true(equal(ordered(DICT(a, one, b, a)), ordered(DICT(a, one, b, a))));
  assert_false(equal(ordered(DICT(a, one, b, a)), ordered(DICT(b, a, a, one))));
  assert_true(equal(SET(one, a), FROZENSET(string("a"), number(1))));
  assert_false(equal(SET(one, a), SET(one, b)));
  assert_false(equal(SET(one, a), SET(one)));
  assert_true(equal(bytes(CKPT_BYTES, "x"), bytes(CKPT_BYTEARRAY, "x")));
  assert_false(equal(bytes(CKPT_BYTES, "x"), bytes(CKPT_BYTES, "y")));
  assert_false(equal(bytes(CKPT_BYTES, "x"), string("x")));
  assert_true(equal(class_of("a", "B"), class_of("a", "B")));
  assert_false(equal(class_of("a", "B"), class_of("a", "C")));
  assert_true(equal(long_integer("0x123456789abcdef0123456789"), long_integer("0x123456789ABCDEF0123456789")));
}

static void nan_is_equal_to_itself_only(void **state) {
  (void)state;
  ckpt_value *nan = number(NAN);
  assert_false(equal(LIST(nan), LIST(number(NAN))));
  assert_true(equal(LIST(nan), LIST(nan)));
}

static ckpt_value *cyclic(int length) { /* [[[...[itself]...]]] */
  ckpt_value *first = make(CKPT_LIST), *at = first;
  for (int i = 1; i < length; i++) {
    ckpt_value *next = make(CKPT_LIST);
    ok(ckpt_value_append(at, doc, next, NULL));
    at = next;
  }
  ok(ckpt_value_append(at, doc, first, NULL));
  return first;
}

static void cycles_end(void **state) {
  (void)state;
  assert_true(equal(cyclic(1), cyclic(1)));
  assert_true(equal(cyclic(1000), cyclic(1001))); /* nothing tells them apart */
  ckpt_value *a = cyclic(3), *b = cyclic(3);
  ok(ckpt_value_append(b, doc, integer(1), NULL));
  assert_false(equal(a, b));
}

static ckpt_value *laughs(int depth, ckpt_value *bottom) {
  ckpt_value *v = bottom;
  for (int i = 0; i < depth; i++) v = LIST(v, v);
  return v;
}

static void sharing_costs_nothing(void **state) {
  (void)state;
  assert_true(equal(laughs(5000, integer(1)), laughs(5000, integer(1))));
  assert_false(equal(laughs(5000, integer(1)), laughs(5000, integer(2))));
}

static void tensors_bit_for_bit(void **state) {
  (void)state;
  ckpt_tensor *t = NULL, *view = NULL;
  ckpt_value *meta = NULL, *v = NULL, *flipped = NULL;
  assert_true(equal(tensor(1, 2), tensor(1, 2)));
  assert_false(equal(tensor(1, 2), tensor(1, 3)));
  assert_false(equal(tensor(0.0F, 1), tensor(-0.0F, 1)));
  assert_true(equal(tensor(NAN, 1), tensor(NAN, 1)));
  ok(ckpt_tensor_meta(&t, CKPT_F32, 1, (int64_t[]){2}, NULL));
  ok(ckpt_value_new_tensor(&meta, doc, t, NULL));
  ckpt_tensor_release(t);
  assert_false(equal(meta, tensor(0, 0)));
  assert_true(equal(LIST(meta), LIST(meta)));
  ok(ckpt_tensor_new(&t, CKPT_I32, 2, (int64_t[]){2, 3}, NULL));
  const void *data = NULL;
  ok(ckpt_tensor_data(&data, t, NULL));
  memcpy((void *)(uintptr_t)data, (int32_t[]){1, 1, 1, 1, 1, 1}, 24);
  ok(ckpt_tensor_view(&view, t, 0, 2, (int64_t[]){2, 3}, (int64_t[]){1, 2}, NULL)); /* other strides, same contents */
  ok(ckpt_value_new_tensor(&v, doc, t, NULL));
  ok(ckpt_value_new_tensor(&flipped, doc, view, NULL));
  assert_true(equal(v, flipped));
  ((int32_t *)(uintptr_t)data)[1] = 2;
  assert_false(equal(v, flipped));
  ckpt_tensor_release(t);
  ckpt_tensor_release(view);
}

static void large_tensors(void **state) {
  (void)state;
  ckpt_value *v[2];
  const void *data = NULL;
  for (int i = 0; i < 2; i++) {
    ckpt_tensor *t = NULL;
    ok(ckpt_tensor_new(&t, CKPT_C128, 1, (int64_t[]){10000}, NULL));
    ok(ckpt_tensor_data(&data, t, NULL));
    ok(ckpt_value_new_tensor(&v[i], doc, t, NULL));
    ckpt_tensor_release(t);
  }
  assert_true(equal(v[0], v[1]));
  ((char *)(uintptr_t)data)[159999] = 1;
  assert_false(equal(v[0], v[1]));
}

static void objects_by_their_parts(void **state) {
  (void)state;
  ckpt_value *args = TUPLE(integer(1)), *a = object("m", "C", args, DICT(string("x"), integer(1)));
  assert_true(equal(a, object("m", "C", TUPLE(number(1)), DICT(string("x"), integer(1)))));
  assert_false(equal(a, object("m", "C", args, DICT(string("x"), integer(2)))));
  assert_false(equal(a, object("m", "C", args, NULL)));
  assert_false(equal(a, object("m", "D", args, DICT(string("x"), integer(1)))));
  assert_false(equal(a, object("m", "C", make(CKPT_TUPLE), DICT(string("x"), integer(1)))));
  ckpt_value *b = object("m", "C", args, DICT(string("x"), integer(1)));
  ok(ckpt_value_append(b, doc, integer(1), NULL));
  assert_false(equal(a, b));
  assert_false(equal(a, integer(1)));
}

static ckpt_value *storage(const char *text, const char *key) {
  ckpt_value *v = NULL, *id = TUPLE(string("storage"), class_of("torch", "ByteStorage"), string(key), string("cpu"),
                                    integer((int64_t)strlen(text)));
  ok(ckpt_value_new_object(&v, doc, CKPT_BY_PERSID, NULL, id, NULL, NULL));
  ckpt_storage *s = NULL;
  unsigned char *data = NULL;
  ok(ckpt_storage_new(&s, strlen(text), NULL));
  ok(ckpt_storage_data(&data, s, NULL));
  memcpy(data, text, strlen(text));
  ok(ckpt_document_own_storage(doc, s, NULL));
  v->made->storage = s;
  return v;
}

static void storages_by_their_bytes(void **state) {
  (void)state;
  assert_true(equal(storage("abc", "0"), storage("abc", "7")));
  assert_false(equal(storage("abc", "0"), storage("abd", "0")));
  assert_false(equal(storage("abc", "0"), storage("ab", "0")));
}

/* ---- walks ---- */

/* "path=kind" of every step, "path*" where it was given before. */
static void assert_walk(const ckpt_value *v, const char *expected) {
  char text[2000] = "";
  ckpt_walk *w = NULL;
  ckpt_walk_step step;
  ok(ckpt_walk_new(&w, v, NULL));
  for (;;) {
    ok(ckpt_walk_next(&step, w, NULL));
    if (step.value == NULL) break;
    assert_int_equal(strlen(step.path), step.length);
    size_t n = strlen(text);
    snprintf(text + n, sizeof text - n, "%s%s%s%s", n == 0 ? "" : " ", step.path, step.again ? "*" : "=",
             step.again ? "" : ckpt_kind_name(ckpt_value_kind(step.value)));
  }
  ok(ckpt_walk_next(&step, w, NULL)); /* over stays over */
  assert_null(step.value);
  ckpt_walk_free(w);
  assert_string_equal(text, expected);
}

static void walks(void **state) {
  (void)state;
  assert_walk(integer(1), "=int");
  ckpt_value *list = LIST(integer(1)), *root = DICT(string("a"), list, integer(2), TUPLE(list, tensor(1, 2)));
  ok(ckpt_value_set(root, doc, "self", root, NULL));
  assert_walk(root, "=dict a=list a[0]=int 2=tuple 2[0]* 2[1]=tensor self*");
  ckpt_value *o = object("m", "C", TUPLE(integer(1)), DICT(string("f"), string("x")));
  ok(ckpt_value_append(o, doc, string("i"), NULL));
  ok(ckpt_value_put(o, doc, string("k"), string("p"), NULL));
  assert_walk(LIST(o), "=list [0]=object [0].args[0]=int [0][0]=str [0].k=str [0].f=str");
  ok(ckpt_value_set_state(o, integer(1), NULL));
  o->made->kwargs = DICT(string("w"), integer(2));
  assert_walk(o, "=object args[0]=int kwargs=dict kwargs.w=int [0]=str k=str state=int");
  assert_ptr_equal(ckpt_value_at(o, "kwargs.w"), ckpt_value_get(o->made->kwargs, "w"));
  ckpt_value *empty = ckpt_document_empty_tuple(doc);
  assert_walk(LIST(empty, empty), "=list [0]=tuple [1]=tuple");
}

static size_t steps(const ckpt_value *v) {
  size_t n = 0;
  ckpt_walk *w = NULL;
  ckpt_walk_step step = {NULL, 0, doc == NULL ? NULL : integer(0), false};
  ok(ckpt_walk_new(&w, v, NULL));
  for (; step.value != NULL; n++) ok(ckpt_walk_next(&step, w, NULL));
  ckpt_walk_free(w);
  return n - 1;
}

static void walks_of_hostile_graphs_are_short(void **state) {
  (void)state;
  assert_int_equal(steps(laughs(1000, integer(1))), 2001);
  assert_int_equal(steps(cyclic(1000)), 1001);
}

static void a_path_can_be_too_long(void **state) {
  (void)state;
  ckpt_error err = {0};
  ckpt_walk *w = NULL;
  ckpt_walk_step step;
  ok(ckpt_walk_new(&w, cyclic(50000), NULL));
  ckpt_status st = CKPT_OK;
  while (st == CKPT_OK) st = ckpt_walk_next(&step, w, &err);
  assert_int_equal(st, CKPT_E_LIMIT);
  assert_non_null(strstr(err.message, "a path longer than 65536 bytes begins '[0][0]"));
  ckpt_walk_free(w);
}

/* ---- maps ---- */

typedef struct asked {
  char paths[500];
  const char *drop, *replace, *fail;
  ckpt_tensor *by;
} asked;

static ckpt_status answer(void *context, ckpt_tensor **t, const char *path, ckpt_error *err) {
  asked *a = context;
  size_t n = strlen(a->paths);
  snprintf(a->paths + n, sizeof a->paths - n, "%s ", path);
  if (a->fail != NULL && strcmp(a->fail, path) == 0) return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "as told");
  if (a->drop != NULL && strcmp(a->drop, path) == 0) *t = NULL;
  if (a->replace != NULL && strcmp(a->replace, path) == 0) *t = ckpt_tensor_retain(a->by);
  return CKPT_OK;
}

static ckpt_value *map(asked *a, const ckpt_value *v) {
  ckpt_value *out = NULL;
  ok(ckpt_value_map(&out, doc, v, answer, a, NULL));
  return out;
}

static void maps(void **state) {
  (void)state;
  ckpt_value *w = tensor(1, 2), *list = LIST(w, integer(1), w),
             *root = DICT(string("a"), w, string("b"), list, string("c"), tensor(3, 4), string("l"), list);
  ok(ckpt_value_set(root, doc, "self", root, NULL));
  ckpt_value *other = tensor(5, 6);
  asked a = {.replace = "a", .by = other->as.tensor, .drop = "c"};
  ckpt_value *m = map(&a, root);
  assert_string_equal(a.paths, "a c ");
  assert_int_equal(ckpt_value_count(m), 4);
  assert_null(ckpt_value_get(m, "c"));
  ckpt_value *copy = ckpt_value_get(m, "b");
  assert_ptr_equal(ckpt_value_item(copy, 0), ckpt_value_get(m, "a"));
  assert_ptr_equal(ckpt_value_item(copy, 2), ckpt_value_get(m, "a"));
  assert_ptr_equal(ckpt_value_get(m, "l"), copy);
  assert_ptr_equal(ckpt_value_get(m, "self"), m);
  assert_true(equal(ckpt_value_get(m, "a"), other));
  assert_int_equal(ckpt_value_count(root), 5);
  asked drop = {.drop = "a"};
  m = map(&drop, root);
  assert_repr(ckpt_value_get(m, "b"), "[None, 1, None]");
}

static void maps_of_odd_places(void **state) {
  (void)state;
  asked root = {.drop = ""}, state_of = {.drop = "state"}, args = {.drop = "args[0]"}, item = {.drop = "[1]"};
  assert_repr(map(&root, tensor(1, 2)), "None");
  ckpt_value *o = object("m", "C", TUPLE(tensor(1, 2)), tensor(3, 4));
  assert_null(ckpt_value_state(map(&state_of, o)));
  assert_repr(ckpt_value_object_args(map(&args, o)), "(None,)");
  assert_repr(map(&item, SET(integer(1), tensor(1, 2))), "{1}");
  assert_repr(map(&(asked){.drop = NULL}, integer(3)), "3");
}

static void a_parameter_stays_one(void **state) {
  (void)state;
  ckpt_value *p = NULL, *q = NULL;
  ok(ckpt_value_new_parameter(&p, doc, tensor(1, 2)->as.tensor, true, NULL));
  asked a = {.replace = "[0]", .by = tensor(5, 6)->as.tensor};
  q = ckpt_value_item(map(&a, LIST(p)), 0);
  assert_true(ckpt_value_is_class(q->made->callable, "torch._utils", "_rebuild_parameter"));
  assert_repr(q->made->args, "(<tensor>, True, {})");
  assert_true(ckpt_tensor_requires_grad(q->as.tensor));
  assert_false(ckpt_tensor_requires_grad(q->made->args->as.seq.items[0]->as.tensor));
  assert_true(ckpt_tensor_shares_storage(q->as.tensor, q->made->args->as.seq.items[0]->as.tensor));
  ckpt_tensor *t = NULL;
  ok(ckpt_tensor_new(&t, CKPT_I64, 0, NULL, NULL));
  a.by = t;
  q = ckpt_value_item(map(&a, LIST(p)), 0);
  assert_repr(q->made->args, "(<tensor>, False, {})");
  ckpt_tensor_release(t);
}

static void attributes_stay(void **state) {
  (void)state;
  ckpt_value *args = TUPLE(class_of("torch._utils", "_rebuild_tensor_v2"), class_of("torch", "Tensor"),
                           TUPLE(integer(0)), DICT(string("tag"), integer(7)));
  ckpt_value *v = tensor(1, 2), *call = object("torch._tensor", "_rebuild_from_type_v2", args, NULL), *m = NULL;
  v->made = call->made;
  ckpt_tensor *t = NULL;
  ok(ckpt_tensor_new(&t, CKPT_U16, 1, (int64_t[]){3}, NULL));
  asked a = {.replace = "", .by = t};
  m = map(&a, v);
  assert_repr(m->made->args,
              "(torch._utils._rebuild_tensor_v3, torch.Tensor, (<>, 0, (3,), (1,), False, {}, torch.uint16), "
              "{'tag': 7})");
  ckpt_tensor_release(t);
  ok(ckpt_tensor_meta(&t, CKPT_F32, 1, (int64_t[]){3}, NULL));
  a.by = t;
  assert_repr(map(&a, v)->made->args,
              "(torch._utils._rebuild_meta_tensor_no_storage, torch.Tensor, "
              "(torch.float32, (3,), (1,), False), {'tag': 7})");
  ckpt_tensor_release(t);
}

static void a_map_that_fails(void **state) {
  (void)state;
  ckpt_error err = {0};
  ckpt_value *out = NULL;
  asked a = {.replace = "[0]", .by = tensor(5, 6)->as.tensor, .fail = "[1]"};
  assert_int_equal(ckpt_value_map(&out, doc, LIST(tensor(1, 2), tensor(3, 4)), answer, &a, &err), CKPT_E_ARGUMENT);
  assert_string_equal(err.message, "as told");
  assert_null(out);
}

/* What two calls of one cloner reach is one value in the copy. */
static void a_cloner_remembers(void **state) {
  (void)state;
  ckpt_cloner *c = NULL;
  ckpt_document *other = NULL;
  ckpt_value *list = LIST(integer(1)), *a = NULL, *b = NULL;
  ok(ckpt_document_new(&other, NULL));
  ok(ckpt_cloner_new(&c, other, NULL, NULL, NULL));
  ok(ckpt_cloner_copy(&a, c, LIST(list), NULL));
  ok(ckpt_cloner_copy(&b, c, list, NULL));
  assert_ptr_equal(ckpt_value_item(a, 0), b);
  assert_ptr_not_equal(b, list);
  ckpt_cloner_free(c);
  ckpt_document_release(other);
}

static void tensors_know_their_values(void **state) {
  (void)state;
  ckpt_value *v = tensor(1, 2);
  assert_ptr_equal(ckpt_document_value_of(doc, v->as.tensor), v);
  ckpt_tensor *t = NULL;
  ok(ckpt_tensor_new(&t, CKPT_F32, 0, NULL, NULL));
  assert_null(ckpt_document_value_of(doc, t));
  ckpt_tensor_release(t);
}

#define WITH_DOC(f) cmocka_unit_test_setup_teardown(f, new_doc, free_doc)

int main(void) {
  const struct CMUnitTest tests[] = {
      WITH_DOC(scalars_and_containers),
      WITH_DOC(nan_is_equal_to_itself_only),
      WITH_DOC(cycles_end),
      WITH_DOC(sharing_costs_nothing),
      WITH_DOC(tensors_bit_for_bit),
      WITH_DOC(large_tensors),
      WITH_DOC(objects_by_their_parts),
      WITH_DOC(storages_by_their_bytes),
      WITH_DOC(walks),
      WITH_DOC(walks_of_hostile_graphs_are_short),
      WITH_DOC(a_path_can_be_too_long),
      WITH_DOC(maps),
      WITH_DOC(maps_of_odd_places),
      WITH_DOC(a_parameter_stays_one),
      WITH_DOC(attributes_stay),
      WITH_DOC(a_map_that_fails),
      WITH_DOC(a_cloner_remembers),
      WITH_DOC(tensors_know_their_values),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
