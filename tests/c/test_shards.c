// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup
/*
 * test_shards.c - sharded sets: which tensor goes where, what the index says, what is refused when a set is read, and
 * that a set on the disk is whole at every moment: each call to the file system fails, and is the last one, in turn.
 */
#include "publish_fixture.h"

#include "alloc_faults.h"
#include "checkpoint.h"
#include "safetensors_write.h"
#include "shards_write.h"

/* ---- values ---- */

static ckpt_document *doc;

static int set_up_doc(void **state) { return ckpt_document_new(&doc, NULL) != CKPT_OK || set_up(state); }

static int tear_down_doc(void **state) {
  ckpt_document_release(doc);
  return tear_down(state);
}

#define SHARD_TEST(f) cmocka_unit_test_setup_teardown(f, set_up_doc, tear_down_doc)

static ckpt_value *dict(void) {
  ckpt_value *v = NULL;
  assert_int_equal(ckpt_value_new_dict(&v, doc, false, NULL), CKPT_OK);
  return v;
}

static ckpt_tensor *bytes(int64_t n, int fill) {
  ckpt_tensor *t = NULL;
  const void *data = NULL;
  assert_int_equal(ckpt_tensor_new(&t, CKPT_U8, 1, &n, NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_data(&data, t, NULL), CKPT_OK);
  memset((void *)(uintptr_t)data, fill, (size_t)n);
  assert_int_equal(ckpt_document_own_tensor(doc, t, NULL), CKPT_OK);
  return t;
}

static ckpt_tensor *view(const ckpt_tensor *base, int64_t offset, int64_t n) {
  ckpt_tensor *t = NULL;
  assert_int_equal(ckpt_tensor_view(&t, base, offset, 1, &n, NULL, NULL), CKPT_OK);
  assert_int_equal(ckpt_document_own_tensor(doc, t, NULL), CKPT_OK);
  return t;
}

static void put(ckpt_value *d, const char *key, ckpt_tensor *t) {
  ckpt_value *v = NULL;
  assert_int_equal(ckpt_value_new_tensor(&v, doc, t, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_set(d, doc, key, v, NULL), CKPT_OK);
}

/* Tensors a, b, c, ... of these sizes. */
static ckpt_value *of_sizes(size_t n, const int64_t *sizes) {
  ckpt_value *d = dict();
  for (size_t i = 0; i < n; i++) put(d, (char[]){(char)('a' + i), '\0'}, bytes(sizes[i], (int)i + 1));
  return d;
}

#define SIZES(...) of_sizes(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]){__VA_ARGS__})

/* ---- files ---- */

static char path[PATH_MAX];

static ckpt_status save_as(void **state, const char *name, const ckpt_value *root, uint64_t max, ckpt_error *err) {
  const ckpt_save_options o = {.shard_bytes = max};
  return ckpt_save_file_as(NULL, join(path, *state, name), root, &o, err);
}

static void save(void **state, const char *name, const ckpt_value *root, uint64_t max) {
  ckpt_error err = {0};
  if (save_as(state, name, root, max, &err) != CKPT_OK) fail_msg("%s", err.message);
}

static ckpt_checkpoint *open_good(void **state, const char *name) {
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  if (ckpt_checkpoint_open(&cp, join(path, *state, name), &(ckpt_open_options){.verify = true}, &err) != CKPT_OK)
    fail_msg("%s", err.message);
  return cp;
}

/* "a b c" */
static const char *keys(const ckpt_checkpoint *cp) {
  static char text[512];
  const ckpt_value *root = ckpt_checkpoint_root(cp);
  text[0] = '\0';
  for (size_t i = 0; i < ckpt_value_pair_count(root); i++) {
    size_t n = strlen(text);
    snprintf(text + n, sizeof text - n, "%s%s", i == 0 ? "" : " ", ckpt_value_text(ckpt_value_pair_key(root, i), NULL));
  }
  return text;
}

static void assert_keys(void **state, const char *name, const char *expected) {
  ckpt_checkpoint *cp = open_good(state, name);
  assert_string_equal(keys(cp), expected);
  ckpt_checkpoint_close(cp);
}

static void put_bytes(void **state, const char *name, const void *data, size_t n) {
  FILE *f = fopen(join(path, *state, name), "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(data, 1, n, f), n);
  fclose(f);
}

static char *slurp(void **state, const char *name, size_t *n) {
  static char text[4096];
  FILE *f = fopen(join(path, *state, name), "rb");
  assert_non_null(f);
  *n = fread(text, 1, sizeof text - 1, f);
  text[*n] = '\0';
  fclose(f);
  return text;
}

/* ---- which tensor goes where ---- */

static void assert_split(const ckpt_value *root, bool safetensors, uint64_t max, size_t n, uint64_t total,
                         const size_t *files) {
  ckpt_flat flat = {0};
  ckpt_split split = {0};
  assert_int_equal(ckpt_flat_new(&flat, root, ckpt_safetensors_takes, NULL), CKPT_OK);
  assert_int_equal(ckpt_split_new(&split, &flat, safetensors, max, NULL), CKPT_OK);
  assert_int_equal(split.n, n);
  assert_int_equal(split.total, total);
  for (size_t i = 0; i < flat.n; i++)
    if (split.file[i] != files[i]) fail_msg("'%s' went to file %zu", flat.tensors[i].name, split.file[i]);
  ckpt_split_free(&split);
  ckpt_flat_free(&flat);
}

#define FILES(...) ((size_t[]){__VA_ARGS__})

/* The example of huggingface_hub's own documentation, and what its code does with tensors larger than a file. */
static void files_are_filled_in_order(void **state) {
  (void)state;
  assert_split(SIZES(6, 6, 2, 6, 2, 2), true, 10, 3, 24, FILES(0, 1, 1, 2, 2, 2));
  assert_split(SIZES(6, 6, 2, 6, 2, 2), false, 10, 3, 24, FILES(0, 1, 1, 2, 2, 2));
  assert_split(SIZES(2, 20, 2, 9, 20), true, 10, 4, 53, FILES(1, 0, 1, 3, 2));
  assert_split(SIZES(5, 5), true, 10, 1, 10, FILES(0, 0));
  assert_split(SIZES(20), true, 10, 1, 20, FILES(0));
  assert_split(SIZES(1, 1, 0, 0), true, 1, 2, 2, FILES(0, 1, 1, 1));
  assert_split(SIZES(1, 2, 3), true, 0, 1, 6, FILES(0, 0, 0));
  assert_split(dict(), true, 10, 0, 0, NULL);
}

static void a_storage_is_not_divided(void **state) {
  (void)state;
  ckpt_value *d = dict();
  ckpt_tensor *base = bytes(12, 1);
  put(d, "a", view(base, 0, 4));
  put(d, "b", bytes(4, 2));
  put(d, "c", view(base, 4, 4));
  put(d, "d", view(base, 0, 4));                       /* tied to a */
  assert_split(d, true, 8, 2, 12, FILES(0, 1, 0, 0));  /* 8 bytes of a and c, 4 of b */
  assert_split(d, false, 8, 2, 16, FILES(0, 1, 0, 0)); /* the 12 of the storage, and 4 */
}

/* ---- writing ---- */

static void a_set_of_safetensors(void **state) {
  ckpt_value *d = SIZES(6, 6, 2);
  size_t n = 0;
  put(d, "tied", d->as.dict->flat.items[1]->as.tensor);
  const ckpt_save_options o = {
      .shard_bytes = 8, .n_metadata = 2, .metadata = (const char *[]){"z\xc3\xa9", "\"", "format", "pt"}};
  ckpt_save_report *report = NULL;
  ckpt_error err = {0};
  if (ckpt_save_file_as(&report, join(path, *state, "model.safetensors"), d, &o, &err) != CKPT_OK)
    fail_msg("%s", err.message);
  assert_int_equal(ckpt_save_report_count(report, CKPT_SAVED_FILES), 3);
  assert_string_equal(ckpt_save_report_text(report, CKPT_SAVED_FILES, 0), "model-00001-of-00002.safetensors");
  assert_string_equal(ckpt_save_report_text(report, CKPT_SAVED_FILES, 2), "model.safetensors.index.json");
  assert_string_equal(ckpt_save_report_text(report, CKPT_SAVED_TIED, 0), "tied");
  ckpt_save_report_free(report);
  assert_string_equal(slurp(state, "model.safetensors.index.json", &n),
                      "{\n  \"metadata\": {\n    \"format\": \"pt\",\n    \"total_size\": 14,\n"
                      "    \"z\\u00e9\": \"\\\"\"\n  },\n  \"weight_map\": {\n"
                      "    \"a\": \"model-00001-of-00002.safetensors\",\n"
                      "    \"b\": \"model-00002-of-00002.safetensors\",\n"
                      "    \"c\": \"model-00002-of-00002.safetensors\"\n  }\n}\n");
  ckpt_checkpoint *cp = open_good(state, "model.safetensors.index.json");
  assert_string_equal(ckpt_checkpoint_format(cp), "sharded");
  assert_string_equal(keys(cp), "a tied b c");
  const ckpt_value *root = ckpt_checkpoint_root(cp), *metadata = ckpt_checkpoint_metadata(cp);
  int64_t total = 0;
  assert_ptr_equal(ckpt_value_get(root, "tied"), ckpt_value_get(root, "a"));
  assert_int_equal(ckpt_value_int(&total, ckpt_value_get(metadata, "total_size"), NULL), CKPT_OK);
  assert_int_equal(total, 14);
  assert_string_equal(ckpt_value_text(ckpt_value_get(metadata, "format"), NULL), "pt");
  assert_string_equal(ckpt_value_text(ckpt_value_get(metadata, "tied"), NULL), "a"); /* of the shard */
  assert_true(ckpt_checkpoint_bytes(cp) > n + 14);
  ckpt_tensor *t = ckpt_tensor_retain(ckpt_value_tensor(ckpt_value_get(root, "c")));
  ckpt_checkpoint_close(cp);
  const void *data = NULL; /* the tensor outlives the set */
  assert_int_equal(ckpt_tensor_data(&data, t, NULL), CKPT_OK);
  assert_memory_equal(data, "\3\3", 2);
  ckpt_tensor_release(t);
}

static void a_set_of_pth_files(void **state) {
  ckpt_value *d = SIZES(6, 6, 2);
  size_t n = 0;
  put(d, "tied", d->as.dict->flat.items[1]->as.tensor);
  put(d, "part", view(d->as.dict->flat.items[1]->as.tensor, 2, 3));
  save(state, "pytorch_model.bin", d, 8);
  assert_string_equal(slurp(state, "pytorch_model.bin.index.json", &n),
                      "{\n  \"metadata\": {\n    \"total_size\": 14\n  },\n  \"weight_map\": {\n"
                      "    \"a\": \"pytorch_model-00001-of-00002.bin\",\n"
                      "    \"b\": \"pytorch_model-00002-of-00002.bin\",\n"
                      "    \"c\": \"pytorch_model-00002-of-00002.bin\",\n"
                      "    \"part\": \"pytorch_model-00001-of-00002.bin\",\n"
                      "    \"tied\": \"pytorch_model-00001-of-00002.bin\"\n  }\n}\n");
  ckpt_checkpoint *cp = open_good(state, "pytorch_model.bin.index.json");
  const ckpt_value *root = ckpt_checkpoint_root(cp);
  assert_string_equal(keys(cp), "a tied part b c");
  assert_true(ckpt_tensor_shares_storage(ckpt_value_tensor(ckpt_value_get(root, "a")),
                                         ckpt_value_tensor(ckpt_value_get(root, "part"))));
  ckpt_checkpoint_close(cp);
}

/* What fits one file is written as without a limit, whatever else is in it. */
static void what_fits_is_one_file(void **state) {
  ckpt_value *d = SIZES(6, 2), *v = NULL;
  save(state, "a.safetensors", d, 8);
  assert_keys(state, "a.safetensors", "a b");
  assert_int_equal(ckpt_value_new_int(&v, doc, 3, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_set(d, doc, "epoch", v, NULL), CKPT_OK);
  save(state, "a.pth", d, 8);
  assert_keys(state, "a.pth", "a b epoch");
  assert_int_equal(count_names(*state, ""), 4);
  ckpt_error err = {0};
  assert_int_equal(save_as(state, "b.pth", d, 7, &err), CKPT_E_UNSUPPORTED);
  assert_string_equal(err.message, "a set of pth files holds tensors only, not: 'epoch'; tensors_only drops them");
  assert_int_equal(count_names(*state, ""), 4);
}

static void refuses_to_save(void **state, const char *name, ckpt_value *d, ckpt_status status, const char *message) {
  ckpt_error err = {0};
  int before = count_names(*state, "");
  ckpt_status st = save_as(state, name, d, 8, &err);
  if (st != status || strstr(err.message, message) == NULL) fail_msg("%s: %s", ckpt_status_name(st), err.message);
  assert_int_equal(count_names(*state, ""), before);
}

static void a_set_that_is_there_is_kept(void **state) {
  ckpt_value *d = SIZES(6, 6), *other = SIZES(6, 6, 6);
  save(state, "m.safetensors", d, 8);
  refuses_to_save(state, "m.safetensors", d, CKPT_E_EXISTS,
                  "m-00001-of-00002.safetensors is there, and so is its index: a set cannot be replaced as a whole; "
                  "remove 'm.safetensors.index.json', or choose another name");
  save(state, "m.safetensors", other, 8); /* other names: the index goes over from one set to the other */
  assert_keys(state, "m.safetensors.index.json", "a b c");
  assert_int_equal(unlink(join(path, *state, "m.safetensors.index.json")), 0);
  save(state, "m.safetensors", d, 8); /* shards that nobody refers to are replaced */
  assert_keys(state, "m.safetensors.index.json", "a b");
  put_file(*state, "n.safetensors", "one file");
  refuses_to_save(
      state, "n.safetensors", d, CKPT_E_EXISTS,
      "n.safetensors is there: readers would take it instead of the 2 shards; remove it, or choose another");
}

static void names_that_no_set_can_have(void **state) {
  char name[220];
  memset(name, 'x', 190);
  name[190] = '\0';
  refuses_to_save(state, name, SIZES(6, 6), CKPT_E_ARGUMENT, "it is longer than 200 bytes");
  refuses_to_save(state, ".hidden.bin", SIZES(6, 6), CKPT_E_ARGUMENT, "it begins with '.'");
  const ckpt_save_options o = {.shard_bytes = 8, .n_metadata = 1, .metadata = (const char *[]){"total_size", "1"}};
  ckpt_error err = {0};
  assert_int_equal(ckpt_save_file_as(NULL, join(path, *state, "a.bin"), SIZES(6, 6), &o, &err), CKPT_E_ARGUMENT);
  assert_string_equal(err.message, "the metadata key 'total_size' is the index's own");
  assert_int_equal(count_names(*state, ""), 2);
}

static void a_name_without_a_dot(void **state) {
  save(state, "plain", SIZES(6, 6), 8);
  assert_keys(state, "plain.index.json", "a b");
  assert_keys(state, "plain-00002-of-00002", "b");
}

/* ---- every call fails ---- */

static ckpt_status save_through(const char *dir_path, const ckpt_io *io, const ckpt_value *root) {
  const ckpt_save_options o = {.shard_bytes = 8};
  ckpt_save_job job = {.name = "m.safetensors", .options = &o, .safetensors = true};
  ckpt_flat flat = {0};
  ckpt_split split = {0};
  ckpt_status st = ckpt_dir_open(&job.dir, dir_path, false, false, io, NULL);
  if (st == CKPT_OK) st = ckpt_save_report_new(&job.report, NULL);
  if (st == CKPT_OK) st = ckpt_flat_new(&flat, root, ckpt_safetensors_takes, NULL);
  if (st == CKPT_OK) st = ckpt_split_new(&split, &flat, true, 8, NULL);
  job.flat = &flat;
  if (st == CKPT_OK) st = ckpt_shards_save(&job, &split, NULL);
  ckpt_split_free(&split);
  ckpt_flat_free(&flat);
  ckpt_save_report_free(job.report);
  ckpt_dir_close(job.dir);
  return st;
}

/* An older set of three, or nothing. */
static void scene(void **state, bool older) {
  char command[PATH_MAX + 20];
  snprintf(command, sizeof command, "rm -rf '%s'/*  '%s'/.tmp*", (char *)*state, (char *)*state);
  assert_int_equal(system(command), 0);
  if (older) save(state, "m.safetensors", SIZES(5, 5, 5), 8);
}

/* After whatever happened: the index, if there is one, names a whole set, the old one or the new one. */
static void assert_whole(void **state, bool older, bool done) {
  char at[PATH_MAX];
  if (access(join(at, *state, "m.safetensors.index.json"), F_OK) != 0) {
    assert_false(older || done);
    return;
  }
  ckpt_checkpoint *cp = open_good(state, "m.safetensors.index.json");
  bool is_new = strcmp(keys(cp), "a b") == 0;
  assert_true(is_new || (older && strcmp(keys(cp), "a b c") == 0));
  assert_true(is_new || !done);
  ckpt_checkpoint_close(cp);
}

static void every_call_fails_once(void **state) {
  ckpt_value *d = SIZES(6, 6);
  for (int older = 0; older < 2; older++)
    for (int nth = 1, hit = 1; hit; nth++) {
      fault_io f;
      fault_init(&f);
      f.nth = nth;
      f.nth_errno = EIO;
      scene(state, older);
      ckpt_status st = save_through(*state, &f.io, d);
      hit = f.failed[0] != '\0';
      assert_whole(state, older, st == CKPT_OK);
      if (!hit) assert_int_equal(st, CKPT_OK);
      if (!hit) assert_true(nth > 20);
      if (st != CKPT_OK && strcmp(f.failed, "unlinkat") != 0)
        assert_int_equal(count_names(*state, "m-0000") - (older ? 3 : 0), 0); /* nothing is left of the new set */
      assert_int_equal(count_fds(), fds_before);
    }
}

static void a_process_ends_before_every_call(void **state) {
  ckpt_value *d = SIZES(6, 6);
  for (int older = 0; older < 2; older++)
    for (int nth = 1, done = 0; !done; nth++) {
      scene(state, older);
      pid_t pid = fork();
      if (pid == 0) {
        fault_io f;
        fault_init(&f);
        f.nth = nth;
        f.nth_errno = FAULT_KILL;
        _exit(save_through(*state, &f.io, d) == CKPT_OK ? 0 : 1);
      }
      int status = 0;
      waitpid(pid, &status, 0);
      assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == FAULT_KILLED));
      done = WEXITSTATUS(status) == 0;
      assert_whole(state, older, done);
      if (!older && !done && access(join(path, *state, "m.safetensors.index.json"), F_OK) != 0)
        save(state, "m.safetensors", d, 8); /* and the next save gets through */
    }
}

/* ---- reading sets of others ---- */

#define ROW(t) "{\"" t "\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}"

static void put_shard(void **state, const char *name, const char *header) {
  unsigned char file[512];
  size_t n = strlen(header);
  ckpt_put64(file, n);
  memcpy(file + 8, header, n);
  file[8 + n] = 7;
  put_bytes(state, name, file, 9 + n);
}

#define INDEX(map) "{\"weight_map\":{" map "}}"

static void put_index(void **state, const char *text) { put_bytes(state, "x.index.json", text, strlen(text)); }

static void the_order_is_that_of_the_shards(void **state) {
  save(state, "s0", SIZES(3, 3, 3), 0); /* a pth file; b and c are in it and not in the index: not lost */
  put_index(state, "  \n" INDEX("\"x\":\"s10\",\"y\":\"s2\",\"a\":\"s0\""));
  put_shard(state, "s2", ROW("y"));
  put_shard(state, "s10", ROW("x"));
  assert_keys(state, "x.index.json", "a b c x y");
}

static void metadata_of_others(void **state) {
  put_shard(state, "s", ROW("a"));
  put_index(state,
            "{\"metadata\":{\"total_size\":28966928384.0,\"n\":null,\"t\":true,\"q\":{\"bits\":[4]},\"i\":-3},"
            "\"weight_map\":{\"a\":\"s\"},\"other\":1}");
  ckpt_checkpoint *cp = open_good(state, "x.index.json");
  const ckpt_value *m = ckpt_checkpoint_metadata(cp);
  double total = 0;
  bool t = false;
  assert_int_equal(ckpt_value_double(&total, ckpt_value_get(m, "total_size"), NULL), CKPT_OK);
  assert_true(total == 28966928384.0);
  assert_int_equal(ckpt_value_kind(ckpt_value_get(m, "n")), CKPT_NONE);
  assert_int_equal(ckpt_value_bool(&t, ckpt_value_get(m, "t"), NULL), CKPT_OK);
  assert_string_equal(ckpt_value_text(ckpt_value_get(m, "q"), NULL), "{\"bits\":[4]}");
  ckpt_checkpoint_close(cp);
  put_index(state, "{\"metadata\":null,\"weight_map\":{}}");
  cp = open_good(state, "x.index.json");
  assert_null(ckpt_checkpoint_metadata(cp));
  assert_string_equal(keys(cp), "");
  ckpt_checkpoint_close(cp);
}

static void a_directory_with_one_index(void **state) {
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  assert_int_equal(ckpt_checkpoint_open(&cp, *state, NULL, &err), CKPT_E_FORMAT);
  assert_non_null(strstr(err.message, "a directory, not a checkpoint file"));
  save(state, "m.safetensors", SIZES(6, 6), 8);
  put_file(*state, ".hidden.index.json", "no matter");
  assert_keys(state, "", "a b");
  assert_keys(state, ".", "a b");
  put_file(*state, "other.index.json", "no matter");
  assert_int_equal(ckpt_checkpoint_open(&cp, *state, NULL, &err), CKPT_E_FORMAT);
  assert_non_null(strstr(err.message, "a directory with several indexes, such as '"));
  assert_non_null(strstr(err.message, "open one of them"));
}

typedef struct bad {
  const char *index;
  ckpt_status status;
  int64_t position;
  const char *message;
} bad;

static const bad bads[] = {
    {INDEX("\"a\":\"../s\""), CKPT_E_CORRUPT, 15,
     "the index, byte 15: the shard of tensor 'a' must be the name of a file beside it"},
    {INDEX("\"a\":\"s\", \"b\":\"/etc/passwd\""), CKPT_E_CORRUPT, 24,
     "byte 24: the shard of tensor 'b' must be the name"},
    {INDEX("\"a\":\"d/s\""), CKPT_E_CORRUPT, 15, "must be the name of a file beside it"},
    {INDEX("\"a\":\"d\\\\s\""), CKPT_E_CORRUPT, 15, "must be the name of a file beside it"},
    {INDEX("\"a\":\"..\""), CKPT_E_CORRUPT, 15, "must be the name of a file beside it"},
    {INDEX("\"a\":\".\""), CKPT_E_CORRUPT, 15, "must be the name of a file beside it"},
    {INDEX("\"a\":\"\""), CKPT_E_CORRUPT, 15, "must be the name of a file beside it"},
    {INDEX("\"a\":\"s\\u0000\""), CKPT_E_CORRUPT, 15, "must be the name of a file beside it"},
    {INDEX("\"a\":1"), CKPT_E_CORRUPT, 15, "must be the name of a file beside it"},
    {INDEX("\"a\":null"), CKPT_E_CORRUPT, 15, "must be the name of a file beside it"},
    {"{}", CKPT_E_FORMAT, 0, "JSON, but no index of a sharded checkpoint: it has no object 'weight_map'"},
    {"{\"weight_map\":[]}", CKPT_E_FORMAT, 0, "it has no object 'weight_map'"},
    {"{\"metadata\":[],\"weight_map\":{}}", CKPT_E_CORRUPT, 0, "the index's metadata must be an object"},
    {INDEX("\"a\":\"s\",\"a\":\"s\""), CKPT_E_CORRUPT, -2, "the index is wrong at byte"},
    {INDEX("\"a\":\"s\"") "x", CKPT_E_CORRUPT, -2, "the index is wrong at byte"},
    {"{\"weight_map\":{\"a\":\"s\"}", CKPT_E_CORRUPT, -2, "the index is wrong at byte"},
    {INDEX("\"a\":\"gone\""), CKPT_E_NOTFOUND, 15, "shard 'gone', which holds tensor 'a', is not there"},
    {INDEX("\"a\":\"s\",\"b\":\"gone\",\"c\":\"gone\""), CKPT_E_NOTFOUND, 23, "shard 'gone', which holds tensor 'b'"},
    {INDEX("\"z\":\"s\""), CKPT_E_CORRUPT, 15, "tensor 'z' is not in shard 's', where the index says it is"},
    {INDEX("\"a\":\"s\",\"b\":\"s2\""), CKPT_E_CORRUPT, 15, "tensor 'a' is in shard 's2', and the index says 's'"},
    {INDEX("\"z\":\"s2\",\"y\":\"s\""), CKPT_E_CORRUPT, -1, "tensor 'a' is in shard 's2' and in another one"},
    {INDEX("\"a\":\"x.index.json\""), CKPT_E_FORMAT, -2,
     "x.index.json: not a checkpoint: it begins with the bytes 7b 22"},
    {INDEX("\"a\":\"text\""), CKPT_E_FORMAT, -2, "text: not a checkpoint"},
    {INDEX("\"a\":\"dir\""), CKPT_E_FORMAT, -2, "a directory, not a checkpoint file"},
    {INDEX("\"a\":\"list\""), CKPT_E_CORRUPT, -1, "shard 'list' holds a list, not a state dict"},
    {INDEX("\"a\":\"ints\""), CKPT_E_CORRUPT, -1, "shard 'ints' has a key that is no string: it is no state dict"},
};

static void put_odd_shards(void **state) {
  ckpt_value *list = NULL, *ints = dict(), *one = NULL;
  put_shard(state, "s", ROW("a"));
  put_shard(state, "s2",
            "{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
            "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}");
  put_file(*state, "text", "hello");
  assert_int_equal(mkdir(join(path, *state, "dir"), 0777), 0);
  assert_int_equal(ckpt_value_new_list(&list, doc, NULL), CKPT_OK);
  save(state, "list", list, 0);
  assert_int_equal(ckpt_value_new_int(&one, doc, 1, NULL), CKPT_OK);
  assert_int_equal(ckpt_dict_put(ints->as.dict, doc, one, one, NULL), CKPT_OK);
  save(state, "ints", ints, 0);
}

static void every_fault_of_a_set_is_named(void **state) {
  put_odd_shards(state);
  for (size_t i = 0; i < CKPT_COUNTOF(bads); i++) {
    ckpt_checkpoint *cp = NULL;
    ckpt_error err = {0};
    put_index(state, bads[i].index);
    ckpt_status st = ckpt_checkpoint_open(&cp, join(path, *state, "x.index.json"), NULL, &err);
    bool placed = bads[i].position == -2 || bads[i].position == err.position;
    if (st != bads[i].status || strstr(err.message, bads[i].message) == NULL || !placed)
      fail_msg("%s\n  gave %s at %lld: %s", bads[i].index, ckpt_status_name(st), (long long)err.position, err.message);
    ASSERT_STARTS(err.message, "%s/", (char *)*state);
  }
}

static void verify_names_the_shard(void **state) {
  size_t n = 0;
  save(state, "m.bin", SIZES(6, 6), 8);
  char *shard = slurp(state, "m-00002-of-00002.bin", &n), *data = memmem(shard, n, "\2\2\2\2\2\2", 6);
  assert_non_null(data);
  data[3] ^= 1;
  put_bytes(state, "m-00002-of-00002.bin", shard, n);
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  assert_int_equal(
      ckpt_checkpoint_open(&cp, join(path, *state, "m.bin.index.json"), &(ckpt_open_options){.verify = true}, &err),
      CKPT_E_CORRUPT);
  assert_non_null(strstr(err.message, "m.bin.index.json: m-00002-of-00002.bin: "));
  assert_int_equal(ckpt_checkpoint_open(&cp, path, NULL, &err), CKPT_OK);
  assert_int_equal(ckpt_checkpoint_verify(cp, &err), CKPT_E_CORRUPT);
  ckpt_checkpoint_close(cp);
}

static const char sample[] = "{\"metadata\": {\"total_size\": 2},\n\"weight_map\": {\"a\": \"s\", \"b\": \"s3\"}}\n";

static void an_index_cut_or_changed(void **state) {
  put_shard(state, "s", ROW("a"));
  put_shard(state, "s3", ROW("b"));
  for (size_t n = 0; n < sizeof sample - 2; n++) {
    ckpt_checkpoint *cp = NULL;
    put_bytes(state, "x.index.json", sample, n);
    assert_int_not_equal(ckpt_checkpoint_open(&cp, join(path, *state, "x.index.json"), NULL, NULL), CKPT_OK);
  }
  for (size_t at = 0; at < sizeof sample - 1; at++)
    for (int byte = 0; byte < 256; byte += 1 + (byte > 127) * 16) {
      char text[sizeof sample];
      ckpt_checkpoint *cp = NULL;
      memcpy(text, sample, sizeof text);
      text[at] = (char)byte;
      put_bytes(state, "x.index.json", text, sizeof text - 1);
      ckpt_checkpoint_open(&cp, join(path, *state, "x.index.json"), NULL, NULL);
      ckpt_checkpoint_close(cp);
    }
}

/* ---- allocations ---- */

static ckpt_status open_index(void *context, ckpt_error *err) {
  ckpt_checkpoint *cp = NULL;
  ckpt_status st = ckpt_checkpoint_open(&cp, context, NULL, err);
  ckpt_checkpoint_close(cp);
  return st;
}

static void every_allocation_fails_while_reading(void **state) {
  put_shard(state, "s",
            "{\"__metadata__\":{\"x\":\"y\"},\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}");
  put_shard(state, "s3", ROW("b"));
  put_index(state, sample);
  char index[PATH_MAX];
  assert_true(fail_each_allocation(open_index, join(index, *state, "x.index.json")) > 30);
  assert_true(fail_each_allocation(open_index, *state) > 30); /* by its directory */
  fail_jansson_too(true);
  assert_true(fail_each_allocation(open_index, index) > 80);
  fail_jansson_too(false);
}

typedef struct saving {
  const char *path;
  const ckpt_value *root;
} saving;

static ckpt_status save_set(void *context, ckpt_error *err) {
  const saving *s = context;
  const ckpt_save_options o = {.shard_bytes = 8};
  return ckpt_save_file_as(NULL, s->path, s->root, &o, err);
}

static void every_allocation_fails_while_writing(void **state) {
  char at[PATH_MAX];
  for (int i = 0; i < 2; i++) {
    saving s = {join(at, *state, i == 0 ? "m.safetensors" : "m.bin"), SIZES(6, 6)};
    assert_true(fail_each_allocation(save_set, &s) > 50);
    assert_int_equal(count_names(*state, "m"), 3 * (i + 1));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      SHARD_TEST(files_are_filled_in_order),
      SHARD_TEST(a_storage_is_not_divided),
      SHARD_TEST(a_set_of_safetensors),
      SHARD_TEST(a_set_of_pth_files),
      SHARD_TEST(what_fits_is_one_file),
      SHARD_TEST(a_set_that_is_there_is_kept),
      SHARD_TEST(names_that_no_set_can_have),
      SHARD_TEST(a_name_without_a_dot),
      SHARD_TEST(every_call_fails_once),
      SHARD_TEST(a_process_ends_before_every_call),
      SHARD_TEST(the_order_is_that_of_the_shards),
      SHARD_TEST(metadata_of_others),
      SHARD_TEST(a_directory_with_one_index),
      SHARD_TEST(every_fault_of_a_set_is_named),
      SHARD_TEST(verify_names_the_shard),
      SHARD_TEST(an_index_cut_or_changed),
      SHARD_TEST(every_allocation_fails_while_reading),
      SHARD_TEST(every_allocation_fails_while_writing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
