// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup
/*
 * test_alloc.c - every allocation of the core fails once, from the first to the last: each operation reports
 * CKPT_E_NOMEM or succeeds, nothing leaks (the sanitizer looks), and the files on the disk are as they were.
 */
#include <dirent.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <zip.h>

#include "checkpoint.h"
#include "pickle_read.h"
#include "repr.h"

#define P(literal) (literal), sizeof(literal) - 1

/* ---- allocations that fail ---- */

static size_t countdown; /* 1: the next one fails; 0: none */
static size_t seen;      /* since arm() */

static void arm(size_t nth) {
  countdown = nth;
  seen = 0;
}

static bool refuse(void) {
  seen++;
  return countdown > 0 && --countdown == 0;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

void *__wrap_malloc(size_t n) { return refuse() ? NULL : __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t size) { return refuse() ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t n) { return refuse() ? NULL : __real_realloc(p, n); }
char *__wrap_strdup(const char *s) { return refuse() ? NULL : __real_strdup(s); }
char *__wrap_strndup(const char *s, size_t n) { return refuse() ? NULL : __real_strndup(s, n); }

/* ---- a directory ---- */

typedef struct place {
  char dir[PATH_MAX - 100];
  char file[PATH_MAX], out[PATH_MAX], deflated[PATH_MAX];
} place;

static int set_up(void **state) {
  const char *base = getenv("TMPDIR");
  place *p = calloc(1, sizeof *p);
  snprintf(p->dir, sizeof p->dir, "%s/ckpt-alloc-XXXXXX", base == NULL ? "/tmp" : base);
  *state = p;
  if (mkdtemp(p->dir) == NULL) return 1;
  snprintf(p->file, sizeof p->file, "%s/model.pth", p->dir);
  snprintf(p->out, sizeof p->out, "%s/out.pth", p->dir);
  snprintf(p->deflated, sizeof p->deflated, "%s/deflated.pth", p->dir);
  return 0;
}

static int tear_down(void **state) {
  place *p = *state;
  unlink(p->file);
  unlink(p->out);
  unlink(p->deflated);
  int failed = rmdir(p->dir); /* not empty: a temporary was left */
  free(p);
  return failed;
}

static int entries(const char *path) {
  int n = 0;
  DIR *d = opendir(path);
  while (readdir(d) != NULL) n++;
  closedir(d);
  return n - 2;
}

static void spill(const char *path, const void *bytes, size_t n) {
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(bytes, 1, n, f), n);
  assert_int_equal(fclose(f), 0);
}

static bool holds(const char *path, const void *bytes, size_t n) {
  char found[64];
  FILE *f = fopen(path, "rb");
  assert_non_null(f);
  size_t got = fread(found, 1, sizeof found, f);
  fclose(f);
  return got == n && memcmp(found, bytes, n) == 0;
}

/* ---- every allocation in turn ---- */

typedef ckpt_status (*operation)(place *p, ckpt_error *err);
typedef void (*check)(place *p, ckpt_status st);

/* Runs the operation until it has not met the failing allocation any more; gives the number of allocations. */
static size_t fail_each(operation run, place *p, check after) {
  for (size_t nth = 1;; nth++) {
    ckpt_error err = {0};
    arm(nth);
    ckpt_status st = run(p, &err);
    size_t made = seen;
    bool met = countdown == 0;
    arm(0);
    if (st != CKPT_OK &&
        (st != CKPT_E_NOMEM || err.status != CKPT_E_NOMEM || strstr(err.message, "out of memory") == NULL))
      fail_msg("allocation %zu: %s, '%s'", nth, ckpt_status_name(st), err.message);
    if (after != NULL) after(p, st);
    if (!met) assert_int_equal(st, CKPT_OK);
    if (!met) return made;
    assert_true(nth < 100000);
  }
}

/* ---- building, cloning, listing ---- */

static ckpt_status add_tensor(ckpt_value *dict, ckpt_document *doc, const char *key, ckpt_dtype dtype,
                              ckpt_error *err) {
  ckpt_tensor *t = NULL;
  ckpt_value *v = NULL;
  CKPT_TRY(ckpt_tensor_new(&t, dtype, 2, (const int64_t[]){2, 3}, err));
  ckpt_status st = ckpt_value_new_tensor(&v, doc, t, err);
  ckpt_tensor_release(t);
  return st == CKPT_OK ? ckpt_value_set(dict, doc, key, v, err) : st;
}

/* More than 8 keys, so that a dict is hashed, and enough of everything to make each array grow. */
static ckpt_status fill(ckpt_document *doc, ckpt_error *err) {
  char key[32];
  ckpt_value *root = NULL, *list = NULL, *v = NULL;
  CKPT_TRY(ckpt_value_new_dict(&root, doc, true, err));
  ckpt_document_set_root(doc, root);
  for (int i = 0; i < 70; i++) {
    snprintf(key, sizeof key, "layer.%d", i);
    CKPT_TRY(add_tensor(root, doc, key, i % 2 == 0 ? CKPT_F32 : CKPT_U16, err));
  }
  CKPT_TRY(ckpt_value_new_list(&list, doc, err));
  CKPT_TRY(ckpt_value_set(root, doc, "list", list, err));
  for (int i = 0; i < 20; i++) {
    CKPT_TRY(ckpt_value_new_str(&v, doc, "text", 4, err));
    CKPT_TRY(ckpt_value_append(list, doc, v, err));
    CKPT_TRY(ckpt_value_append(list, doc, ckpt_value_pair_value(root, 1), err)); /* aliases */
  }
  CKPT_TRY(ckpt_value_new_bytes(&v, doc, "\xff", 1, err));
  return ckpt_value_append(list, doc, v, err);
}

static ckpt_status build(ckpt_document **out, ckpt_error *err) {
  ckpt_document *doc = NULL;
  CKPT_TRY(ckpt_document_new(&doc, err));
  ckpt_status st = fill(doc, err);
  if (st == CKPT_OK)
    *out = doc;
  else
    ckpt_document_release(doc);
  return st;
}

static ckpt_status clone_and_list(const ckpt_document *doc, ckpt_error *err) {
  ckpt_document *other = NULL;
  ckpt_value *copy = NULL;
  ckpt_listing *l = NULL;
  CKPT_TRY(ckpt_document_new(&other, err));
  ckpt_status st = ckpt_value_clone(&copy, other, ckpt_document_root(doc), err);
  if (st == CKPT_OK) st = ckpt_listing_new(&l, copy, err);
  if (st == CKPT_OK && ckpt_listing_count(l) != 70) st = CKPT_E_CORRUPT;
  ckpt_listing_free(l);
  ckpt_document_release(other);
  return st;
}

static ckpt_status build_clone_list(place *p, ckpt_error *err) {
  (void)p;
  ckpt_document *doc = NULL;
  CKPT_TRY(build(&doc, err));
  ckpt_status st = clone_and_list(doc, err);
  ckpt_document_release(doc);
  return st;
}

static void values(void **state) {
  size_t made = fail_each(build_clone_list, *state, NULL);
  print_message("%zu allocations\n", made);
  assert_true(made > 150);
}

/* ---- graphs: equality, walk, map, edits, state dicts ---- */

static ckpt_status change(void *context, ckpt_tensor **t, const char *path, ckpt_error *err) {
  (void)context;
  ckpt_tensor *other = NULL;
  CKPT_TRY(ckpt_tensor_new(&other, CKPT_U16, 1, (int64_t[]){1}, err));
  (void)path;
  *t = other;
  return CKPT_OK;
}

static ckpt_status walk_all(const ckpt_value *v, ckpt_error *err) {
  ckpt_walk *w = NULL;
  ckpt_walk_step step = {0};
  CKPT_TRY(ckpt_walk_new(&w, v, err));
  ckpt_status st = CKPT_OK;
  do st = ckpt_walk_next(&step, w, err);
  while (st == CKPT_OK && step.value != NULL);
  ckpt_walk_free(w);
  return st;
}

static ckpt_status edit(ckpt_value *root, ckpt_document *doc, ckpt_error *err) {
  ckpt_value *v = NULL, *set = NULL, *big = NULL;
  CKPT_TRY(ckpt_value_new_parameter(&v, doc, ckpt_value_tensor(ckpt_value_pair_value(root, 2)), true, err));
  CKPT_TRY(ckpt_value_set(root, doc, "parameter", v, err));
  CKPT_TRY(ckpt_value_new_set(&set, doc, false, err));
  for (int i = 0; i < 40; i++) {
    CKPT_TRY(ckpt_value_new_int(&v, doc, i % 20, err));
    CKPT_TRY(ckpt_seq_push(&set->as.seq, doc, v, err));
  }
  CKPT_TRY(ckpt_set_settle(set, err));
  CKPT_TRY(ckpt_value_set(root, doc, "set", set, err));
  CKPT_TRY(ckpt_value_new_size(&v, doc, 3, (int64_t[]){1, 2, 3}, err));
  CKPT_TRY(ckpt_value_set(root, doc, "size", v, err));
  CKPT_TRY(ckpt_value_new_device(&v, doc, "cuda", 1, err));
  CKPT_TRY(ckpt_value_set(root, doc, "device", v, err));
  CKPT_TRY(ckpt_value_new_int_text(&big, doc, "123456789012345678901234567890", 30, err));
  CKPT_TRY(ckpt_value_set(root, doc, "big", big, err));
  char *text = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_value_int_text(&text, &n, big, false, err));
  free(text);
  CKPT_TRY(ckpt_value_int_text(&text, &n, big, true, err));
  free(text);
  return ckpt_value_remove_key(root, ckpt_value_pair_key(root, 0), err);
}

static ckpt_status find_state_dict(const ckpt_value *root, ckpt_error *err) {
  const ckpt_value *v = NULL;
  char *path = NULL;
  ckpt_state_dict *sd = NULL;
  CKPT_TRY(ckpt_state_dict_find(&v, &path, root, err));
  free(path);
  CKPT_TRY(ckpt_state_dict_from_value(&sd, v, NULL, err));
  ckpt_state_dict_free(sd);
  return CKPT_OK;
}

static ckpt_status use_graph(ckpt_document *doc, ckpt_document *other, ckpt_error *err) {
  ckpt_value *copy = NULL, *root = ckpt_document_root(doc);
  bool equal = false;
  CKPT_TRY(edit(root, doc, err));
  CKPT_TRY(ckpt_value_clone(&copy, other, root, err));
  CKPT_TRY(ckpt_value_equal(&equal, root, copy, err));
  if (!equal) return ckpt_fail(err, CKPT_E_CORRUPT, -1, "the copy differs");
  CKPT_TRY(walk_all(root, err));
  CKPT_TRY(find_state_dict(root, err));
  return ckpt_value_map(&copy, other, root, change, NULL, err);
}

static ckpt_status graph(place *p, ckpt_error *err) {
  (void)p;
  ckpt_document *doc = NULL, *other = NULL;
  CKPT_TRY(build(&doc, err));
  ckpt_status st = ckpt_document_new(&other, err);
  if (st == CKPT_OK) st = use_graph(doc, other, err);
  ckpt_document_release(doc);
  ckpt_document_release(other);
  return st;
}

static void graphs(void **state) { assert_true(fail_each(graph, *state, NULL) > 200); }

/* ---- opening, listing, saving ---- */

static void write_fixture(const place *p) {
  ckpt_document *doc = NULL;
  assert_int_equal(build(&doc, NULL), CKPT_OK);
  assert_int_equal(ckpt_save_file(p->file, ckpt_document_root(doc), NULL), CKPT_OK);
  ckpt_document_release(doc);
}

static ckpt_status digest_all(const ckpt_listing *l, ckpt_error *err) {
  char hex[65];
  for (size_t i = 0; i < ckpt_listing_count(l); i++)
    CKPT_TRY(ckpt_tensor_sha256(hex, ckpt_value_tensor(ckpt_listing_entry_at(l, i)->value), err));
  return CKPT_OK;
}

static ckpt_status open_list(const char *path, ckpt_checkpoint **out, ckpt_error *err) {
  static const ckpt_open_options verify = {.verify = true};
  ckpt_listing *l = NULL;
  CKPT_TRY(ckpt_checkpoint_open(out, path, &verify, err));
  CKPT_TRY(ckpt_listing_new(&l, ckpt_checkpoint_root(*out), err));
  ckpt_status st = digest_all(l, err);
  ckpt_listing_free(l);
  return st;
}

static ckpt_status open_list_save(place *p, ckpt_error *err) {
  ckpt_checkpoint *cp = NULL;
  ckpt_status st = open_list(p->file, &cp, err);
  if (st == CKPT_OK) st = ckpt_save_file(p->out, ckpt_checkpoint_root(cp), err);
  ckpt_checkpoint_close(cp);
  return st;
}

/* A failed save has not touched the old file; a good one has replaced it. Nothing else lies in the directory. */
static void old_file_is_whole(place *p, ckpt_status st) {
  assert_int_equal(entries(p->dir), 2);
  assert_int_equal(holds(p->out, "the old one", 11), st != CKPT_OK);
  spill(p->out, "the old one", 11);
}

static void a_file(void **state) {
  place *p = *state;
  write_fixture(p);
  spill(p->out, "the old one", 11);
  size_t made = fail_each(open_list_save, p, old_file_is_whole);
  print_message("%zu allocations\n", made);
  assert_true(made > 150);
}

/* Without an old file a failed save leaves none. */
static void no_file_or_a_whole_one(place *p, ckpt_status st) {
  assert_int_equal(entries(p->dir), st == CKPT_OK ? 2 : 1);
  if (st != CKPT_OK) return;
  ckpt_checkpoint *cp = NULL;
  assert_int_equal(open_list(p->out, &cp, NULL), CKPT_OK);
  ckpt_checkpoint_close(cp);
  unlink(p->out);
}

static void a_new_file(void **state) {
  place *p = *state;
  write_fixture(p);
  fail_each(open_list_save, p, no_file_or_a_whole_one);
}

/* Whoever is told the size of what was saved writes it down: it is right, or the save has failed. */
static ckpt_status publish(place *p, ckpt_error *err) {
  ckpt_document *doc = NULL;
  ckpt_dir *dir = NULL;
  uint64_t bytes = 0;
  struct stat st;
  CKPT_TRY(build(&doc, err));
  ckpt_status status = ckpt_dir_open(&dir, p->dir, false, false, NULL, err);
  if (status == CKPT_OK) status = ckpt_checkpoint_publish(dir, "out.pth", ckpt_document_root(doc), &bytes, err);
  ckpt_dir_close(dir);
  ckpt_document_release(doc);
  if (status != CKPT_OK) return status;
  if (stat(p->out, &st) == 0 && (uint64_t)st.st_size == bytes) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "said to have %llu bytes", (unsigned long long)bytes);
}

static void the_size_that_is_told(void **state) { fail_each(publish, *state, NULL); }

/* ---- a file with deflated records, and pickles of other kinds ---- */

static const char small_pickle[] =
    "\x80\2}X\1\0\0\0a"
    "ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
    "0X\3\0\0\0"
    "cpuK\6tQK\0K\6\x85K\1\x85\x89"
    "ccollections\nOrderedDict\n)RtRs.";

static void add_record(zip_t *z, const char *name, const void *data, size_t n) {
  zip_int64_t at = zip_file_add(z, name, zip_source_buffer(z, data, n, 0), 0);
  assert_true(at >= 0);
  zip_set_file_compression(z, (zip_uint64_t)at, ZIP_CM_DEFLATE, 0);
}

static ckpt_status open_deflated(place *p, ckpt_error *err) {
  ckpt_checkpoint *cp = NULL;
  ckpt_status st = open_list(p->deflated, &cp, err);
  ckpt_checkpoint_close(cp);
  return st;
}

static void a_deflated_file(void **state) {
  place *p = *state;
  static const char zeros[24];
  zip_t *z = zip_open(p->deflated, ZIP_CREATE | ZIP_TRUNCATE, NULL);
  assert_non_null(z);
  add_record(z, "a/data.pkl", P(small_pickle));
  add_record(z, "a/data/0", zeros, sizeof zeros);
  add_record(z, "a/version", "3\n", 2);
  add_record(z, "a/byteorder", "big", 3);
  assert_int_equal(zip_close(z), 0);
  assert_true(fail_each(open_deflated, p, NULL) > 10);
}

/* Texts of protocol 0, big integers, objects with all their parts, a mark stack and a memo that grow. */
static const char odd_pickle[] =
    "](Vab\\u00e9\nS'x\\n'\nL123456789012345678901234567890L\nF1.5\n\x8a\x09\0\0\0\0\0\0\0\0\1C\1a\x96\1\0\0\0\0\0\0\0b"
    "cm\nC\nq\1K\1\x85R(K\1K\2eK\3K\4s}b"
    "h\1)\x81h\1)}\x92(K\1im\nC\n(h\1K\1oP1\nK\1\x85Q\x8f(K\1\x90(K\1\x91"
    "(K\1K\2d\x8c\1m\x8c\1n\x93(((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((("
    "tttttttttttttttttttt"
    "ttttttttttttttttttttttttttttttttttttttttttttttttttp70\n"
    "e.";

static ckpt_status read_odd(place *p, ckpt_error *err) {
  (void)p;
  ckpt_document *doc = NULL;
  ckpt_value *v = NULL;
  char *text = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_document_new(&doc, err));
  ckpt_status st =
      ckpt_pickle_read(&v, NULL, doc, (const unsigned char *)odd_pickle, sizeof odd_pickle - 1, "data.pkl", NULL, err);
  if (st == CKPT_OK) st = ckpt_repr(&text, &n, v, 1000, err);
  free(text);
  ckpt_document_release(doc);
  return st;
}

static void a_pickle_of_odd_things(void **state) { assert_true(fail_each(read_odd, *state, NULL) > 8); }

/* ---- state dicts and tensors ---- */

static ckpt_status use_state_dict(ckpt_state_dict *sd, ckpt_error *err) {
  char name[32];
  for (int i = 0; i < 40; i++) {
    ckpt_tensor *t = NULL;
    snprintf(name, sizeof name, "name.%d", i);
    CKPT_TRY(ckpt_tensor_new(&t, CKPT_F32, 1, (const int64_t[]){4}, err));
    ckpt_status st = ckpt_state_dict_set(sd, name, t, err);
    ckpt_tensor_release(t);
    CKPT_TRY(st);
  }
  CKPT_TRY(ckpt_state_dict_remove(sd, "name.3", err));
  ckpt_tensor *picked = NULL;
  CKPT_TRY(ckpt_tensor_index_select(&picked, ckpt_state_dict_get(sd, "name.4"), 0, 1, (const int64_t[]){2}, err));
  ckpt_tensor_release(picked);
  return ckpt_state_dict_count(sd) == 39 ? CKPT_OK : CKPT_E_CORRUPT;
}

static ckpt_status state_dict(place *p, ckpt_error *err) {
  (void)p;
  ckpt_state_dict *sd = NULL;
  CKPT_TRY(ckpt_state_dict_new(&sd, err));
  ckpt_status st = use_state_dict(sd, err);
  ckpt_state_dict_free(sd);
  return st;
}

static void a_state_dict(void **state) { assert_true(fail_each(state_dict, *state, NULL) > 100); }

static ckpt_status align(place *p, ckpt_error *err) {
  (void)p;
  static const char *const targets[] = {"module.a.weight", "module.b.weight"}, *const sources[] = {"a.weight",
                                                                                                   "weight"};
  size_t *found = NULL;
  CKPT_TRY(ckpt_align(&found, 2, targets, 2, sources, '.', err));
  bool right = found[0] == 0 && found[1] == 1;
  free(found);
  return right ? CKPT_OK : CKPT_E_CORRUPT;
}

static void alignment(void **state) { assert_true(fail_each(align, *state, NULL) >= 1); }

/* ---- computed tensors ---- */

/* Puts what was made in the place of *t. */
static ckpt_status step(ckpt_tensor **t, ckpt_status st, ckpt_tensor *const *made) {
  if (st != CKPT_OK) return st;
  ckpt_tensor_release(*t);
  *t = *made;
  return CKPT_OK;
}

static ckpt_status compute(ckpt_tensor **t, ckpt_error *err) {
  ckpt_tensor *made = NULL, *pieces[2] = {NULL};
  const void *data;
  CKPT_TRY(step(t, ckpt_tensor_transpose(&made, *t, 0, 1, err), &made));
  CKPT_TRY(step(t, ckpt_tensor_reshape(&made, *t, 1, (const int64_t[]){-1}, err), &made));
  CKPT_TRY(step(t, ckpt_tensor_index_select(&made, *t, 0, 2, (const int64_t[]){0, 1}, err), &made));
  CKPT_TRY(step(t, ckpt_tensor_to(&made, *t, CKPT_F64, err), &made));
  CKPT_TRY(step(t, ckpt_tensor_scale(&made, *t, ckpt_scalar_int(2), err), &made));
  CKPT_TRY(ckpt_tensor_split(pieces, *t, 2, (const int64_t[]){1, 1}, 0, err));
  ckpt_status st = ckpt_tensor_stack(&made, 2, (const ckpt_tensor *const *)pieces, 0, err);
  for (int i = 0; i < 2; i++) ckpt_tensor_release(pieces[i]);
  CKPT_TRY(step(t, st, &made));
  CKPT_TRY(step(t, ckpt_tensor_add(&made, *t, *t, err), &made));
  return ckpt_tensor_data(&data, *t, err);
}

static ckpt_status compute_from_file(place *p, ckpt_error *err) {
  ckpt_checkpoint *cp = NULL;
  ckpt_stats stats;
  CKPT_TRY(ckpt_checkpoint_open(&cp, p->file, NULL, err));
  ckpt_tensor *t = ckpt_tensor_retain(ckpt_value_tensor(ckpt_value_get(ckpt_checkpoint_root(cp), "layer.0")));
  ckpt_checkpoint_close(cp);
  ckpt_status st = compute(&t, err);
  if (st == CKPT_OK) st = ckpt_tensor_stats(&stats, t, err);
  ckpt_tensor_release(t);
  return st;
}

static void computed_tensors(void **state) {
  write_fixture(*state);
  assert_true(fail_each(compute_from_file, *state, NULL) > 30);
}

/* ---- what is inside ---- */

static ckpt_status sanitize_and_save(place *p, const ckpt_value *root, ckpt_error *err) {
  ckpt_document *doc = NULL;
  ckpt_value *v = NULL;
  ckpt_changes *changes = NULL;
  CKPT_TRY(ckpt_document_new(&doc, err));
  ckpt_status st = ckpt_value_sanitize(&v, &changes, doc, root, CKPT_WEIGHTS_ONLY_1_13, err);
  if (st == CKPT_OK) st = ckpt_save_file(p->out, v, err);
  ckpt_changes_free(changes);
  ckpt_document_release(doc);
  return st;
}

static ckpt_status dense_and_nested(const ckpt_value *root, ckpt_error *err) {
  static const char *const sparse[] = {"sparse.coo", "sparse.bsr_batch", "sparse.csr_half", "sparse.coo_complex"};
  ckpt_tensor *t = NULL;
  for (size_t i = 0; root != NULL && i < CKPT_COUNTOF(sparse); i++) {
    const ckpt_value *v = ckpt_value_at(root, sparse[i]);
    if (v == NULL) return CKPT_OK;
    CKPT_TRY(ckpt_value_to_dense(&t, v, err));
    ckpt_tensor_release(t);
  }
  CKPT_TRY(ckpt_value_nested_tensor(&t, ckpt_value_at(root, "wrapped.nested"), 1, err));
  ckpt_tensor_release(t);
  return CKPT_OK;
}

static const char *inside_file; /* of this run */

static ckpt_status inside(place *p, ckpt_error *err) {
  static const ckpt_open_options verify = {.verify = true};
  ckpt_checkpoint *cp = NULL;
  CKPT_TRY(ckpt_checkpoint_open(&cp, inside_file, &verify, err));
  ckpt_status st = dense_and_nested(ckpt_checkpoint_root(cp), err);
  if (st == CKPT_OK) st = sanitize_and_save(p, ckpt_checkpoint_root(cp), err);
  ckpt_checkpoint_close(cp);
  return st;
}

static void what_is_inside(void **state) {
  static const char *const names[] = {"torch", "quantized", "objects", "numpy", "devices"};
  const char *top = getenv("CKPT_TOP");
  char path[PATH_MAX];
  for (size_t i = 0; i < CKPT_COUNTOF(names); i++) {
    snprintf(path, sizeof path, "%s/tests/data/inside_%s.pth", top == NULL ? "." : top, names[i]);
    inside_file = path;
    print_message("%s: %zu allocations\n", names[i], fail_each(inside, *state, NULL));
  }
}

#define IN_DIRECTORY(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      IN_DIRECTORY(values),
      IN_DIRECTORY(graphs),
      IN_DIRECTORY(a_file),
      IN_DIRECTORY(a_new_file),
      IN_DIRECTORY(the_size_that_is_told),
      IN_DIRECTORY(a_deflated_file),
      IN_DIRECTORY(a_pickle_of_odd_things),
      IN_DIRECTORY(a_state_dict),
      IN_DIRECTORY(alignment),
      IN_DIRECTORY(computed_tensors),
      IN_DIRECTORY(what_is_inside),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
