/*
 * archive_fixture.h - a temporary directory, files written and read whole, zip archives out of records, and allocations
 * that fail on demand (the test's first line wraps malloc and its like). For tests of formats.
 */
#ifndef CKPT_TESTS_ARCHIVE_FIXTURE_H
#define CKPT_TESTS_ARCHIVE_FIXTURE_H

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

#define P(literal) (literal), sizeof(literal) - 1

/* ---- a directory ---- */

static int set_up(void **state) {
  const char *base = getenv("TMPDIR");
  char *path = malloc(PATH_MAX);
  snprintf(path, PATH_MAX, "%s/ckpt-test-XXXXXX", base == NULL ? "/tmp" : base);
  *state = mkdtemp(path);
  return *state == NULL;
}

static int tear_down(void **state) {
  char child[PATH_MAX + 300];
  DIR *d = opendir(*state);
  for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
    snprintf(child, sizeof child, "%s/%s", (char *)*state, e->d_name);
    if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) unlink(child);
  }
  closedir(d);
  int failed = rmdir(*state);
  free(*state);
  return failed;
}

#define IN_DIRECTORY(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

static const char *in(const char *dir, const char *name) {
  static char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  return path;
}

static inline unsigned char *slurp(size_t *n, const char *path) {
  struct stat st;
  FILE *f = fopen(path, "rb");
  assert_non_null(f);
  assert_int_equal(fstat(fileno(f), &st), 0);
  unsigned char *bytes = malloc((size_t)st.st_size + 1);
  *n = fread(bytes, 1, (size_t)st.st_size, f);
  assert_int_equal(*n, st.st_size);
  fclose(f);
  return bytes;
}

static inline void spill(const char *path, const void *bytes, size_t n) {
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(bytes, 1, n, f), n);
  assert_int_equal(fclose(f), 0);
}

/* ---- archives ---- */

typedef struct record {
  const char *name, *data;
  size_t n;
} record;

/* Records as libzip writes them; the end is a record without name. */
static inline void build(const char *path, const record *records) {
  int code = 0;
  zip_t *z = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &code);
  assert_non_null(z);
  for (; records->name != NULL; records++) {
    zip_source_t *src = zip_source_buffer(z, records->data, records->n, 0);
    zip_int64_t at = zip_file_add(z, records->name, src, ZIP_FL_ENC_UTF_8);
    assert_true(at >= 0);
    zip_set_file_compression(z, (zip_uint64_t)at, ZIP_CM_STORE, 0);
  }
  assert_int_equal(zip_close(z), 0);
}

/* ---- looking ---- */

static inline ckpt_checkpoint *opened(const char *path) {
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  if (ckpt_checkpoint_open(&cp, path, NULL, &err) != CKPT_OK) fail_msg("%s", err.message);
  return cp;
}

/* Everything that can be looked at is looked at: for files that were tampered with. */
static inline void look_at_all(const ckpt_checkpoint *cp) {
  ckpt_listing *list = NULL;
  char hex[65];
  if (ckpt_listing_new(&list, ckpt_checkpoint_root(cp), NULL) != CKPT_OK) return;
  for (size_t i = 0; i < ckpt_listing_count(list); i++) {
    const ckpt_tensor *t = ckpt_value_tensor(ckpt_listing_entry_at(list, i)->value);
    if (t != NULL) ckpt_tensor_sha256(hex, t, NULL);
  }
  ckpt_listing_free(list);
}

/* Opens what must not open: *err gets the error without its leading "path: ". */
static inline ckpt_status refused(ckpt_error *err, const char *path) {
  ckpt_checkpoint *cp = NULL;
  ckpt_status st = ckpt_checkpoint_open(&cp, path, NULL, err);
  assert_null(cp);
  assert_int_equal(strncmp(err->message, path, strlen(path)), 0);
  memmove(err->message, err->message + strlen(path) + 2, strlen(err->message + strlen(path) + 2) + 1);
  return st;
}

static inline bool same_listing(const ckpt_value *a, const ckpt_value *b) {
  ckpt_listing *x = NULL, *y = NULL;
  char p[65], q[65];
  assert_int_equal(ckpt_listing_new(&x, a, NULL), CKPT_OK);
  assert_int_equal(ckpt_listing_new(&y, b, NULL), CKPT_OK);
  bool same = ckpt_listing_count(x) == ckpt_listing_count(y);
  for (size_t i = 0; same && i < ckpt_listing_count(x); i++) {
    const ckpt_listing_entry *e = ckpt_listing_entry_at(x, i), *f = ckpt_listing_entry_at(y, i);
    const ckpt_tensor *t = ckpt_value_tensor(e->value), *u = ckpt_value_tensor(f->value);
    same = strcmp(e->path, f->path) == 0 && (t == NULL) == (u == NULL);
    if (!same || t == NULL) continue;
    assert_int_equal(ckpt_tensor_sha256(p, t, NULL), CKPT_OK);
    assert_int_equal(ckpt_tensor_sha256(q, u, NULL), CKPT_OK);
    same = strcmp(p, q) == 0 && ckpt_tensor_dtype(t) == ckpt_tensor_dtype(u);
  }
  ckpt_listing_free(x);
  ckpt_listing_free(y);
  return same;
}

/* ---- allocations that fail ---- */

static size_t countdown; /* 1: the next one fails; 0: none */

static bool refuse(void) { return countdown > 0 && --countdown == 0; }

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

void *__wrap_malloc(size_t n) { return refuse() ? NULL : __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t size) { return refuse() ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t n) { return refuse() ? NULL : __real_realloc(p, n); }

/* Each allocation of opening a file and looking at it fails in turn; gives how many there are. */
static inline size_t open_without_memory(const char *path) {
  for (size_t nth = 1;; nth++) {
    ckpt_checkpoint *cp = NULL;
    ckpt_error err = {0};
    countdown = nth;
    ckpt_status st = ckpt_checkpoint_open(&cp, path, NULL, &err);
    if (st == CKPT_OK) look_at_all(cp);
    bool met = countdown == 0;
    countdown = 0;
    if (st != CKPT_OK && (st != CKPT_E_NOMEM || err.status != CKPT_E_NOMEM))
      fail_msg("allocation %zu: %s, '%s'", nth, ckpt_status_name(st), err.message);
    ckpt_checkpoint_close(cp);
    if (!met) return nth;
    assert_true(nth < 100000);
  }
}

#endif
