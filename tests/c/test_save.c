// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup
/*
 * test_save.c - ckpt_save_file_as: what goes where, what is refused by name before there is any output, what the report
 * says. Sharded sets: test_shards.c.
 */
#include "publish_fixture.h"

#include "alloc_faults.h"
#include "checkpoint.h"
#include "flat.h"

/* ---- values ---- */

static ckpt_document *doc;

static int set_up_doc(void **state) { return ckpt_document_new(&doc, NULL) != CKPT_OK || set_up(state); }

static int tear_down_doc(void **state) {
  ckpt_document_release(doc);
  return tear_down(state);
}

#define SAVE_TEST(f) cmocka_unit_test_setup_teardown(f, set_up_doc, tear_down_doc)

static ckpt_tensor *owned(ckpt_tensor *t) {
  assert_int_equal(ckpt_document_own_tensor(doc, t, NULL), CKPT_OK);
  return t;
}

static ckpt_tensor *tensor(ckpt_dtype dtype, int64_t n, int first) {
  ckpt_tensor *t = NULL;
  const void *data = NULL;
  assert_int_equal(ckpt_tensor_new(&t, dtype, 1, &n, NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_data(&data, t, NULL), CKPT_OK);
  memset((void *)(uintptr_t)data, first, ckpt_tensor_nbytes(t));
  return owned(t);
}

static ckpt_tensor *view(const ckpt_tensor *base, int64_t offset, int64_t n, int64_t stride) {
  ckpt_tensor *t = NULL;
  assert_int_equal(ckpt_tensor_view(&t, base, offset, 1, &n, &stride, NULL), CKPT_OK);
  return owned(t);
}

static ckpt_value *dict(bool ordered) {
  ckpt_value *v = NULL;
  assert_int_equal(ckpt_value_new_dict(&v, doc, ordered, NULL), CKPT_OK);
  return v;
}

static ckpt_value *put(ckpt_value *d, const char *key, ckpt_value *v) {
  assert_int_equal(ckpt_value_set(d, doc, key, v, NULL), CKPT_OK);
  return v;
}

static ckpt_value *put_tensor(ckpt_value *d, const char *key, ckpt_tensor *t) {
  ckpt_value *v = NULL;
  assert_int_equal(ckpt_value_new_tensor(&v, doc, t, NULL), CKPT_OK);
  return put(d, key, v);
}

static ckpt_value *put_int(ckpt_value *d, const char *key, int64_t i) {
  ckpt_value *v = NULL;
  assert_int_equal(ckpt_value_new_int(&v, doc, i, NULL), CKPT_OK);
  return put(d, key, v);
}

/* ---- saving and looking ---- */

static char path[PATH_MAX];

static ckpt_save_report *save(void **state, const char *name, const ckpt_value *root, const ckpt_save_options *o) {
  ckpt_save_report *report = NULL;
  ckpt_error err = {0};
  join(path, *state, name);
  if (ckpt_save_file_as(&report, path, root, o, &err) != CKPT_OK) fail_msg("%s", err.message);
  return report;
}

/* "a b c" */
static const char *words(const ckpt_save_report *report, ckpt_saved which) {
  static char text[256];
  text[0] = '\0';
  for (size_t i = 0; i < ckpt_save_report_count(report, which); i++) {
    size_t n = strlen(text);
    snprintf(text + n, sizeof text - n, "%s%s", i == 0 ? "" : " ", ckpt_save_report_text(report, which, i));
  }
  assert_null(ckpt_save_report_text(report, which, ckpt_save_report_count(report, which)));
  return text;
}

#define assert_words(report, which, text) assert_string_equal(words(report, which), text)

static int entries(const char *dir) { return count_names(dir, ""); }

static void refuses(void **state, const char *name, const ckpt_value *root, const ckpt_save_options *o,
                    ckpt_status status, const char *message) {
  ckpt_save_report *report = NULL;
  ckpt_error err = {0};
  int before = entries(*state);
  join(path, *state, name);
  ckpt_status st = ckpt_save_file_as(&report, path, root, o, &err);
  if (st != status || strstr(err.message, message) == NULL)
    fail_msg("%s: '%s'\nexpected '%s'", ckpt_status_name(st), err.message, message);
  assert_null(report);
  assert_int_equal(entries(*state), before);
}

static ckpt_checkpoint *open_saved(void) {
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  if (ckpt_checkpoint_open(&cp, path, NULL, &err) != CKPT_OK) fail_msg("%s", err.message);
  return cp;
}

/* The keys of a flat file, in order. */
static const char *keys(const ckpt_checkpoint *cp) {
  static char text[256];
  const ckpt_value *root = ckpt_checkpoint_root(cp);
  text[0] = '\0';
  for (size_t i = 0; i < ckpt_value_pair_count(root); i++) {
    size_t n = strlen(text);
    snprintf(text + n, sizeof text - n, "%s%s", i == 0 ? "" : " ", ckpt_value_text(ckpt_value_pair_key(root, i), NULL));
  }
  return text;
}

/* ---- formats ---- */

static void the_name_gives_the_format(void **state) {
  static const struct {
    const char *name, *format, *written;
  } cases[] = {{"a.pth", NULL, "torch-zip"},           {"a.bin", NULL, "torch-zip"},
               {"a.safetensors", NULL, "safetensors"}, {"a.bin", "safetensors", "safetensors"},
               {"a.safetensors", "pth", "torch-zip"},  {"safetensors", NULL, "torch-zip"}};
  ckpt_value *root = dict(false);
  put_tensor(root, "w", tensor(CKPT_F32, 2, 1));
  for (size_t i = 0; i < CKPT_COUNTOF(cases); i++) {
    ckpt_save_options o = {.format = cases[i].format};
    ckpt_save_report *report = save(state, cases[i].name, root, &o);
    assert_words(report, CKPT_SAVED_FILES, cases[i].name);
    ckpt_save_report_free(report);
    ckpt_checkpoint *cp = open_saved();
    assert_string_equal(ckpt_checkpoint_format(cp), cases[i].written);
    ckpt_checkpoint_close(cp);
  }
  assert_int_equal(ckpt_save_file_as(NULL, path, root, NULL, NULL), CKPT_OK); /* no options: ckpt_save_file */
  ckpt_checkpoint *cp = open_saved();
  assert_string_equal(ckpt_checkpoint_format(cp), "torch-zip");
  ckpt_checkpoint_close(cp);
  ckpt_save_report_free(NULL);
  refuses(state, "a.pth", root, &(ckpt_save_options){.format = "onnx"}, CKPT_E_ARGUMENT,
          "'onnx' is no format to save in: 'pth' and 'safetensors' are");
}

static void nested_values_become_flat(void **state) {
  ckpt_value *root = dict(true), *model = put(root, "model", dict(false));
  put_tensor(model, "fc.weight", tensor(CKPT_F32, 2, 1));
  put_tensor(put(put(root, "optimizer", dict(false)), "state", dict(false)), "exp", tensor(CKPT_F32, 1, 2));
  ckpt_save_report_free(save(state, "a.safetensors", root, &(ckpt_save_options){0}));
  ckpt_checkpoint *cp = open_saved();
  assert_string_equal(keys(cp), "model.fc.weight optimizer.state.exp");
  ckpt_checkpoint_close(cp);
  ckpt_save_report_free(save(state, "a.pth", root, &(ckpt_save_options){.tensors_only = true}));
  cp = open_saved();
  assert_string_equal(keys(cp), "model.fc.weight optimizer.state.exp");
  ckpt_checkpoint_close(cp);
}

/* ---- what is no tensor ---- */

static void plain_values_are_named(void **state) {
  ckpt_value *root = dict(false), *list = NULL;
  put_tensor(root, "w", tensor(CKPT_F32, 2, 1));
  put_int(root, "epoch", 3);
  put(root, "state", dict(false));
  assert_int_equal(ckpt_value_new_list(&list, doc, NULL), CKPT_OK);
  put(root, "lrs", list);
  ckpt_value *none = NULL;
  assert_int_equal(ckpt_value_new_none(&none, doc, NULL), CKPT_OK);
  for (int i = 0; i < 5; i++) assert_int_equal(ckpt_value_append(list, doc, none, NULL), CKPT_OK);
  refuses(
      state, "a.safetensors", root, &(ckpt_save_options){0}, CKPT_E_UNSUPPORTED,
      "safetensors holds tensors only, not: 'epoch', 'state', 'lrs[0]', 'lrs[1]', 'lrs[2]' and 2 more; tensors_only "
      "drops them");
  ckpt_save_report *report = save(state, "a.safetensors", root, &(ckpt_save_options){.tensors_only = true});
  assert_words(report, CKPT_SAVED_DROPPED, "epoch state lrs[0] lrs[1] lrs[2] lrs[3] lrs[4]");
  ckpt_save_report_free(report);
  report = save(state, "a.pth", root, &(ckpt_save_options){.tensors_only = true});
  assert_words(report, CKPT_SAVED_DROPPED, "epoch state lrs[0] lrs[1] lrs[2] lrs[3] lrs[4]");
  ckpt_save_report_free(report);
  report = save(state, "a.pth", root, &(ckpt_save_options){0});
  assert_words(report, CKPT_SAVED_DROPPED, "");
  ckpt_save_report_free(report);
}

/* An object is named once, not with all of its parts; its tensors are taken out of it. */
static void objects_are_dropped_without_their_tensors(void **state) {
  ckpt_error err = {0};
  ckpt_value *root = dict(false), *args = NULL, *one = NULL, *t = NULL, *fields = dict(false);
  assert_int_equal(ckpt_value_new_tuple(&args, doc, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_int(&one, doc, 1, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_append(args, doc, one, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_new_tensor(&t, doc, tensor(CKPT_U8, 1, 1), NULL), CKPT_OK);
  assert_int_equal(ckpt_value_append(args, doc, t, NULL), CKPT_OK);
  ckpt_value *cls = ckpt_value_make_class(doc, "a", 1, "Model", 5, &err);
  ckpt_value *object = ckpt_value_make_object(doc, CKPT_BY_REDUCE, cls, args, &err);
  object->as.object->state = fields;
  put_int(fields, "n", 1);
  put_tensor(fields, "w", tensor(CKPT_U8, 1, 2));
  put(root, "model", object);
  put(root, "again", object);
  refuses(state, "a.safetensors", root, &(ckpt_save_options){0}, CKPT_E_UNSUPPORTED,
          "not: 'model', 'again'; tensors_only");
  ckpt_save_report *report = save(state, "a.safetensors", root, &(ckpt_save_options){.tensors_only = true});
  assert_words(report, CKPT_SAVED_DROPPED, "model again");
  assert_words(report, CKPT_SAVED_TIED, "again.args[1] again.w");
  ckpt_save_report_free(report);
  ckpt_checkpoint *cp = open_saved();
  assert_string_equal(keys(cp), "model.args[1] model.w again.args[1] again.w");
  ckpt_checkpoint_close(cp);
}

/* PyTorch's state dicts have an attribute `_metadata`, which nobody misses; any other is somebody's. */
static void attributes_of_a_state_dict(void **state) {
  ckpt_value *root = dict(false), *sd = put(root, "model", dict(true)), *attributes = dict(false);
  put_tensor(sd, "w", tensor(CKPT_F32, 2, 1));
  sd->as.dict->state = attributes;
  put_int(put(attributes, "_metadata", dict(true)), "version", 1);
  ckpt_save_report *report = save(state, "a.safetensors", root, &(ckpt_save_options){0});
  assert_words(report, CKPT_SAVED_DROPPED, "model._metadata");
  ckpt_save_report_free(report);
  put_int(attributes, "mine", 1);
  refuses(state, "b.safetensors", root, &(ckpt_save_options){0}, CKPT_E_UNSUPPORTED, "not: 'model.mine'; tensors_only");
}

static void an_empty_file_and_a_bare_tensor(void **state) {
  ckpt_save_report_free(save(state, "a.safetensors", dict(false), &(ckpt_save_options){0}));
  ckpt_checkpoint *cp = open_saved();
  assert_string_equal(keys(cp), "");
  ckpt_checkpoint_close(cp);
  ckpt_value *bare = NULL, *one = NULL;
  assert_int_equal(ckpt_value_new_tensor(&bare, doc, tensor(CKPT_U8, 3, 7), NULL), CKPT_OK);
  ckpt_save_report_free(save(state, "b.safetensors", bare, &(ckpt_save_options){0}));
  cp = open_saved();
  assert_non_null(ckpt_value_get(ckpt_checkpoint_root(cp), ""));
  ckpt_checkpoint_close(cp);
  assert_int_equal(ckpt_value_new_int(&one, doc, 1, NULL), CKPT_OK);
  refuses(state, "c.safetensors", one, &(ckpt_save_options){0}, CKPT_E_UNSUPPORTED, "holds tensors only, not: ''");
}

static void names_meet(void **state) {
  ckpt_value *root = dict(false);
  put_tensor(root, "a.b", tensor(CKPT_U8, 1, 1));
  put_tensor(put(root, "a", dict(false)), "b", tensor(CKPT_U8, 1, 2));
  refuses(state, "a.safetensors", root, &(ckpt_save_options){0}, CKPT_E_UNSUPPORTED,
          "two tensors would have the name 'a.b': one of their keys holds the dot");
}

static void a_nul_in_a_name(void **state) {
  ckpt_value *root = dict(false), *v = NULL;
  ckpt_error err = {0};
  ckpt_value *key = ckpt_value_make_text(doc, CKPT_STR, "a\0b", 3, &err);
  assert_int_equal(ckpt_value_new_tensor(&v, doc, tensor(CKPT_U8, 1, 1), NULL), CKPT_OK);
  assert_int_equal(ckpt_dict_put(root->as.dict, doc, key, v, NULL), CKPT_OK);
  refuses(state, "a.safetensors", root, &(ckpt_save_options){0}, CKPT_E_UNSUPPORTED,
          "the path of a tensor holds a NUL: it begins '.a'");
}

static void a_name_that_is_no_utf8(void **state) {
  ckpt_value *root = dict(false);
  put_tensor(root, "a\xff", tensor(CKPT_U8, 1, 1));
  refuses(state, "a.safetensors", root, &(ckpt_save_options){0}, CKPT_E_UNSUPPORTED, "is not UTF-8");
}

/* ---- tensors that the format cannot hold ---- */

static void alien_tensors_are_named(void **state) {
  ckpt_value *root = dict(false);
  ckpt_tensor *meta = NULL;
  int64_t two = 2;
  put_tensor(root, "w", tensor(CKPT_F32, 2, 1));
  put_tensor(root, "c", tensor(CKPT_C128, 2, 1));
  put_tensor(root, "q", tensor(CKPT_QU8, 2, 1));
  put_tensor(root, "h", tensor(CKPT_C32, 2, 1));
  put_tensor(root, "bits", tensor(CKPT_BITS8, 2, 1));
  assert_int_equal(ckpt_tensor_meta(&meta, CKPT_F32, 1, &two, NULL), CKPT_OK);
  put(root, "m2", put_tensor(root, "m", owned(meta)));
  refuses(state, "a.safetensors", root, &(ckpt_save_options){.tensors_only = true}, CKPT_E_UNSUPPORTED,
          "safetensors has no place for these tensors: 'c', 'q', 'h', 'bits', 'm' and 1 more; drop_unsupported leaves");
  ckpt_save_report *report = save(state, "a.safetensors", root, &(ckpt_save_options){.drop_unsupported = true});
  assert_words(report, CKPT_SAVED_DROPPED, "c q h bits m m2");
  ckpt_save_report_free(report);
  ckpt_checkpoint *cp = open_saved();
  assert_string_equal(keys(cp), "w");
  ckpt_checkpoint_close(cp);
}

/* ---- sharing ---- */

static void tied_names_are_written_once(void **state) {
  ckpt_value *root = dict(false);
  ckpt_tensor *t = tensor(CKPT_F32, 4, 1);
  ckpt_value *first = put_tensor(root, "embed", t);
  put_tensor(root, "other", tensor(CKPT_F32, 4, 2));
  put(root, "head", first);                   /* the same object */
  put_tensor(root, "copy", view(t, 0, 4, 1)); /* another object, the same view */
  ckpt_save_report *report = save(state, "a.safetensors", root, &(ckpt_save_options){0});
  assert_words(report, CKPT_SAVED_TIED, "head copy");
  assert_words(report, CKPT_SAVED_KEPT, "embed embed");
  assert_words(report, CKPT_SAVED_COPIED, "");
  ckpt_save_report_free(report);
  ckpt_checkpoint *cp = open_saved();
  assert_string_equal(keys(cp), "embed other copy head");
  ckpt_value *r = ckpt_checkpoint_root(cp);
  assert_ptr_equal(ckpt_value_get(r, "copy"), ckpt_value_get(r, "embed"));
  assert_ptr_equal(ckpt_value_get(r, "head"), ckpt_value_get(r, "embed"));
  assert_string_equal(ckpt_value_text(ckpt_value_get(ckpt_checkpoint_metadata(cp), "head"), NULL), "embed");
  report = save(state, "b.safetensors", r, &(ckpt_save_options){0}); /* and again */
  assert_words(report, CKPT_SAVED_TIED, "copy head");
  ckpt_save_report_free(report);
  ckpt_checkpoint_close(cp);
}

static void overlapping_views_are_copied(void **state) {
  ckpt_value *root = dict(false);
  ckpt_tensor *t = tensor(CKPT_F32, 8, 1);
  put_tensor(root, "tail", view(t, 4, 4, 1));
  put_tensor(root, "head", view(t, 0, 4, 1)); /* disjoint from tail: no copy of anything */
  put_tensor(root, "even", view(t, 0, 4, 2));
  put_tensor(root, "all", t);
  put_tensor(root, "none", view(t, 3, 0, 1));
  ckpt_save_report *report = save(state, "a.safetensors", root, &(ckpt_save_options){0});
  assert_words(report, CKPT_SAVED_COPIED, "tail head even");
  assert_words(report, CKPT_SAVED_TIED, "");
  ckpt_save_report_free(report);
  ckpt_checkpoint *cp = open_saved();
  assert_string_equal(keys(cp), "all even head none tail");
  ckpt_checkpoint_close(cp);
  root = dict(false);
  put_tensor(root, "tail", view(t, 4, 4, 1));
  put_tensor(root, "head", view(t, 0, 4, 1));
  report = save(state, "a.safetensors", root, &(ckpt_save_options){0});
  assert_words(report, CKPT_SAVED_COPIED, "");
  ckpt_save_report_free(report);
}

/* conj and neg are part of a view: x and -x are not tied. */
static void signs_are_part_of_a_view(void **state) {
  ckpt_value *root = dict(false);
  ckpt_tensor *t = tensor(CKPT_F32, 2, 1), *n = NULL;
  ckpt_tensor_spec spec = {.dtype = CKPT_F32, .ndim = 1, .shape = (int64_t[]){2}, .neg = true};
  assert_int_equal(ckpt_tensor_make(&n, ckpt_tensor_storage(t), &spec, NULL), CKPT_OK);
  put_tensor(root, "x", t);
  put_tensor(root, "y", owned(n));
  ckpt_save_report *report = save(state, "a.safetensors", root, &(ckpt_save_options){0});
  assert_words(report, CKPT_SAVED_TIED, "");
  assert_words(report, CKPT_SAVED_COPIED, "y");
  ckpt_save_report_free(report);
}

/* ---- metadata ---- */

static void metadata_is_written(void **state) {
  ckpt_value *root = dict(false);
  put_tensor(root, "w", tensor(CKPT_F32, 2, 1));
  ckpt_save_options o = {.n_metadata = 2, .metadata = (const char *[]){"format", "pt", "w", "a note on w"}};
  ckpt_save_report_free(save(state, "a.safetensors", root, &o));
  ckpt_checkpoint *cp = open_saved();
  assert_string_equal(ckpt_value_text(ckpt_value_get(ckpt_checkpoint_metadata(cp), "format"), NULL), "pt");
  assert_string_equal(keys(cp), "w");
  ckpt_checkpoint_close(cp);
}

static void metadata_that_would_mislead(void **state) {
  ckpt_value *root = dict(false);
  put(root, "v", put_tensor(root, "w", tensor(CKPT_F32, 2, 1)));
  static const struct {
    const char *name, *pairs[4];
    size_t n;
    ckpt_status status;
    const char *message;
  } cases[] = {
      {"a.safetensors",
       {"x", "w"},
       1,
       CKPT_E_ARGUMENT,
       "the metadata 'x' = 'w' would say that tensor 'w' has a second"},
      {"a.safetensors", {"v", "z"}, 1, CKPT_E_ARGUMENT, "the metadata key 'v' is the name of a tied tensor"},
      {"a.safetensors", {"x", "1", "x", "2"}, 2, CKPT_E_ARGUMENT, "the metadata key 'x' is given twice"},
      {"a.safetensors", {"x\xff", "1"}, 1, CKPT_E_UNSUPPORTED, "is not UTF-8"},
      {"a.safetensors", {"x", "\xff"}, 1, CKPT_E_UNSUPPORTED, "is not UTF-8"},
      {"a.pth", {"x", "1"}, 1, CKPT_E_UNSUPPORTED, "a pth file has no place for metadata ('x')"},
  };
  for (size_t i = 0; i < CKPT_COUNTOF(cases); i++) {
    ckpt_save_options o = {.n_metadata = cases[i].n, .metadata = (const char *const *)cases[i].pairs};
    refuses(state, cases[i].name, root, &o, cases[i].status, cases[i].message);
    o.tensors_only = true;
    refuses(state, cases[i].name, root, &o, cases[i].status, cases[i].message);
  }
}

/* ---- limits ---- */

/* Each level holds the one below twice: 2^20 paths to one tensor. Not one of them may be lost in silence. */
static void too_many_second_names(void **state) {
  ckpt_value *v = dict(false);
  put_tensor(v, "t", tensor(CKPT_U8, 1, 1));
  for (int i = 0; i < 20; i++) {
    ckpt_value *up = dict(false);
    put(up, "a", v);
    put(up, "b", v);
    v = up;
  }
  refuses(state, "a.safetensors", v, &(ckpt_save_options){0}, CKPT_E_LIMIT, "too many second names");
}

/* ---- failures ---- */

static void a_failed_save_leaves_the_old_file(void **state) {
  ckpt_value *root = dict(false);
  put_tensor(root, "w", tensor(CKPT_F32, 2, 1));
  put_file(*state, "a.safetensors", "old");
  put_int(root, "epoch", 3);
  refuses(state, "a.safetensors", root, &(ckpt_save_options){0}, CKPT_E_UNSUPPORTED, "'epoch'");
  assert_content(*state, "a.safetensors", "old");
  refuses(state, "none/a.safetensors", root, &(ckpt_save_options){0}, CKPT_E_NOTFOUND, "there is no such directory");
}

static ckpt_status save_sample(void *context, ckpt_error *err) {
  const ckpt_save_options o = {.tensors_only = true, .n_metadata = 1, .metadata = (const char *[]){"format", "pt"}};
  ckpt_save_report *report = NULL;
  ckpt_status st = ckpt_save_file_as(&report, path, context, &o, err);
  ckpt_save_report_free(report);
  return st;
}

static void every_allocation_fails(void **state) {
  ckpt_value *root = dict(false), *w = put_tensor(root, "w", tensor(CKPT_F32, 8, 1));
  put(root, "v", w);
  put_tensor(root, "x", view(w->as.tensor, 1, 3, 2));
  put_int(root, "epoch", 3);
  join(path, *state, "a.safetensors");
  assert_true(fail_each_allocation(save_sample, root) > 40);
  assert_int_equal(entries(*state), 3); /* with . and .. */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      SAVE_TEST(the_name_gives_the_format),
      SAVE_TEST(nested_values_become_flat),
      SAVE_TEST(plain_values_are_named),
      SAVE_TEST(objects_are_dropped_without_their_tensors),
      SAVE_TEST(attributes_of_a_state_dict),
      SAVE_TEST(an_empty_file_and_a_bare_tensor),
      SAVE_TEST(names_meet),
      SAVE_TEST(a_nul_in_a_name),
      SAVE_TEST(a_name_that_is_no_utf8),
      SAVE_TEST(alien_tensors_are_named),
      SAVE_TEST(tied_names_are_written_once),
      SAVE_TEST(overlapping_views_are_copied),
      SAVE_TEST(signs_are_part_of_a_view),
      SAVE_TEST(metadata_is_written),
      SAVE_TEST(metadata_that_would_mislead),
      SAVE_TEST(too_many_second_names),
      SAVE_TEST(a_failed_save_leaves_the_old_file),
      SAVE_TEST(every_allocation_fails),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
