/* test_state_dict_value.c - state dicts of values: what is left out, whole modules, finding one in a checkpoint. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "value_fixture.h"

static void assert_names(const ckpt_value *v, const char *names, const char *skipped) {
  char there[500] = "", out[500] = "";
  const char *name;
  ckpt_state_dict *sd = NULL;
  size_t count = 99, n = 0;
  ok(ckpt_state_dict_from_value(&sd, v, &count, NULL));
  for (size_t i = 0; (name = ckpt_state_dict_name(sd, i)) != NULL; i++) {
    strcat(there, i == 0 ? "" : " ");
    strcat(there, name);
  }
  for (; (name = ckpt_state_dict_skipped(sd, n)) != NULL; n++) {
    strcat(out, n == 0 ? "" : " ");
    strcat(out, name);
  }
  ckpt_state_dict_free(sd);
  assert_string_equal(there, names);
  assert_string_equal(out, skipped);
  assert_int_equal(n, count);
}

static void what_is_left_out_is_named(void **state) {
  (void)state;
  ckpt_value *t = tensor(1, 2);
  assert_names(DICT(string("w"), t, string("epoch"), integer(1), integer(3), string("x"), string("b"), t,
                    TUPLE(integer(1)), string("y")),
               "w b", "epoch 3 (1,)");
  assert_names(make(CKPT_DICT), "", "");
}

/* ---- modules ---- */

static ckpt_value *module(ckpt_value *parameters, ckpt_value *buffers, ckpt_value *modules) {
  ckpt_value *fields = DICT(string("training"), ckpt_document_bool(doc, true), string("_parameters"), parameters,
                            string("_buffers"), buffers, string("_modules"), modules);
  return object("torch.nn.modules.module", "Module", ckpt_document_empty_tuple(doc), fields);
}

static void a_whole_module(void **state) {
  (void)state;
  ckpt_value *none = ckpt_document_none(doc), *t = tensor(1, 2), *empty = make(CKPT_DICT);
  ckpt_value *norm = module(DICT(string("weight"), t, string("bias"), none),
                            DICT(string("mean"), t, string("scratch"), t, string("odd"), integer(1)), empty);
  ok(ckpt_value_set(ckpt_value_object_state(norm), doc, "_non_persistent_buffers_set", SET(string("scratch")), NULL));
  ckpt_value *fc = module(DICT(string("weight"), t), empty, empty);
  ckpt_value *block = module(empty, empty, DICT(string("0"), fc, string("1"), norm, string("2"), fc));
  ckpt_value *net = module(DICT(string("scale"), t), empty,
                           DICT(string("body"), block, string("none"), none, string("alien"), integer(1)));
  assert_names(net, "scale body.0.weight body.1.weight body.1.mean body.2.weight", "body.1.odd alien");
}

static void assert_refused(const ckpt_value *v, ckpt_status st, const char *message) {
  ckpt_state_dict *sd = NULL;
  ckpt_error err = {0};
  assert_int_equal(ckpt_state_dict_from_value(&sd, v, NULL, &err), st);
  if (strstr(err.message, message) == NULL) fail_msg("%s", err.message);
  assert_null(sd);
}

static void hostile_modules(void **state) {
  (void)state;
  ckpt_value *t = tensor(1, 2), *empty = make(CKPT_DICT), *children = make(CKPT_DICT);
  ckpt_value *inside = module(empty, empty, children);
  ok(ckpt_value_set(children, doc, "me", inside, NULL));
  assert_refused(module(empty, empty, DICT(string("a"), inside)), CKPT_E_CORRUPT, "the module 'a.me.' contains itself");
  ckpt_value *many = module(DICT(string("a"), t, string("b"), t), empty, empty);
  for (int i = 0; i < 25; i++) many = module(empty, empty, DICT(string("l"), many, string("r"), many));
  assert_refused(many, CKPT_E_LIMIT, "a module of more than 1000000 parts");
  char name[9001];
  memset(name, 'n', 9000);
  name[9000] = '\0';
  ckpt_value *deep = module(DICT(string(name), t), empty, empty);
  assert_refused(module(empty, empty, DICT(string(name), deep)), CKPT_E_LIMIT,
                 "a module's name is longer than 16384 bytes");
  assert_refused(module(DICT(integer(1), t), empty, empty), CKPT_E_TYPE, "a module has a part whose name is no string");
  assert_refused(object("m", "C", ckpt_document_empty_tuple(doc), empty), CKPT_E_TYPE,
                 "a value of kind object where a state dict was expected");
  assert_refused(DICT(integer(1), t), CKPT_E_TYPE, "key 0 of the dict is of kind int, a state dict has names only");
}

/* ---- finding ---- */

static void assert_found(const ckpt_value *root, const char *expected, const ckpt_value *value) {
  const ckpt_value *v = NULL;
  char *path = NULL;
  ckpt_error err = {0};
  if (ckpt_state_dict_find(&v, &path, root, &err) != CKPT_OK) fail_msg("%s", err.message);
  assert_string_equal(path, expected);
  assert_ptr_equal(v, value);
  free(path);
}

static void found_where_people_keep_it(void **state) {
  (void)state;
  ckpt_value *t = tensor(1, 2), *sd = DICT(string("w"), t), *one = integer(1), *epoch = string("epoch");
  assert_found(sd, "", sd);
  assert_found(DICT(epoch, one, string("state_dict"), sd), "state_dict", sd);
  ckpt_value *ema = DICT(string("w"), t);
  assert_found(DICT(string("ema"), ema, string("model"), sd), "model", sd);
  assert_found(DICT(string("model"), one, string("ema"), ema), "ema", ema);
  assert_found(DICT(string("model"), DICT(string("state_dict"), sd), epoch, one), "model.state_dict", sd);
  assert_found(DICT(string("best"), t, string("state_dict"), sd), "state_dict",
               sd); /* a tensor beside it is no model */
  assert_found(DICT(epoch, one, string("encoder"), sd), "encoder", sd);
  ckpt_value *empty = make(CKPT_DICT), *net = module(DICT(string("w"), t), empty, empty);
  assert_found(net, "", net);
  assert_found(DICT(string("net"), net), "net", net);
  ckpt_value *loss = module(empty, empty, empty); /* has nothing to load */
  assert_found(DICT(string("criterion"), loss, string("network"), loss, string("actor"), sd), "actor", sd);
  ckpt_value *mixed = DICT(string("w"), t, epoch, one);
  assert_found(mixed, "", mixed);
}

static void assert_not_found(const ckpt_value *root, const char *message) {
  const ckpt_value *v = NULL;
  char *path = NULL;
  ckpt_error err = {0};
  assert_int_equal(ckpt_state_dict_find(&v, &path, root, &err), CKPT_E_NOTFOUND);
  assert_string_equal(err.message, message);
  assert_true(v == NULL && path == NULL);
}

static void not_found(void **state) {
  (void)state;
  ckpt_value *sd = DICT(string("w"), tensor(1, 2)), *one = integer(1);
  assert_not_found(DICT(string("a"), sd, string("x"), one, string("b"), sd),
                   "several state dicts are there, none under a usual key: 'a', 'b'");
  assert_not_found(DICT(string("state"), one, integer(3), one, string("groups"), one),
                   "no state dict is at the top level; the keys there are 'state', 'groups'");
  assert_not_found(LIST(sd), "a list, in which no state dict is");
  assert_not_found(make(CKPT_DICT), "a dict, in which no state dict is");
  assert_not_found(integer(1), "an int, in which no state dict is");
  assert_not_found(tensor(1, 2), "a tensor, in which no state dict is");
  assert_not_found(DICT(integer(1), tensor(1, 2)), "a dict, in which no state dict is");
  char key[301];
  memset(key, 'k', 300);
  key[300] = '\0';
  ckpt_error err = {0};
  const ckpt_value *v = NULL;
  char *path = NULL;
  assert_int_equal(ckpt_state_dict_find(&v, &path, DICT(string(key), one, string("z"), one), &err), CKPT_E_NOTFOUND);
  assert_int_equal(strlen(err.message), strlen("no state dict is at the top level; the keys there are ") + 255);
}

#define WITH_DOC(f) cmocka_unit_test_setup_teardown(f, new_doc, free_doc)

int main(void) {
  const struct CMUnitTest tests[] = {
      WITH_DOC(what_is_left_out_is_named),  WITH_DOC(a_whole_module), WITH_DOC(hostile_modules),
      WITH_DOC(found_where_people_keep_it), WITH_DOC(not_found),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
