/*
 * old_formats.h - what the tests of the formats before zip share: the files of tests/data/old, opening bytes in memory,
 * every byte changed, every length cut, every allocation failed. The program that includes it is linked with
 *   -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
 */
#ifndef CKPT_TEST_OLD_FORMATS_H
#define CKPT_TEST_OLD_FORMATS_H

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "checkpoint.h"
#include "pickle_write.h"

#define P(literal) (literal), sizeof(literal) - 1

/* ---- allocations that fail ---- */

static size_t countdown; /* 1: the next one fails; 0: none */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

static bool refuse(void) { return countdown > 0 && --countdown == 0; }
void *__wrap_malloc(size_t n) { return refuse() ? NULL : __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t size) { return refuse() ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t n) { return refuse() ? NULL : __real_realloc(p, n); }

/* ---- files ---- */

static unsigned char *fixture(size_t *n, const char *name) {
  char path[PATH_MAX];
  const char *top = getenv("CKPT_TOP");
  snprintf(path, sizeof path, "%s/tests/data/old/%s", top == NULL ? "." : top, name);
  FILE *f = fopen(path, "rb");
  if (f == NULL) fail_msg("%s is not there", path);
  unsigned char *bytes = malloc(1 << 16);
  *n = fread(bytes, 1, 1 << 16, f);
  fclose(f);
  return bytes;
}

/* From memory of exactly that size, so that the sanitizer sees a read past the end. */
static ckpt_status open_bytes(ckpt_checkpoint **out, const void *bytes, size_t n, size_t save, bool verify,
                              ckpt_error *err) {
  static unsigned char *exact; /* the mapping borrows it: it lives until the next one */
  ckpt_mapping *map = NULL;
  ckpt_open_options options = {.verify = verify, .save = save};
  size_t armed = countdown;
  countdown = 0;
  free(exact);
  exact = n == 0 ? NULL : malloc(n);
  if (n > 0) memcpy(exact, bytes, n);
  countdown = armed;
  CKPT_TRY(ckpt_mapping_memory(&map, n == 0 ? (const void *)"" : exact, n, err));
  ckpt_status st = ckpt_checkpoint_open_mapping(out, map, "f", &options, err);
  ckpt_mapping_release(map);
  return st;
}

static ckpt_checkpoint *opened_save(const char *name, size_t save) {
  size_t n = 0;
  unsigned char *bytes = fixture(&n, name);
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  if (open_bytes(&cp, bytes, n, save, true, &err) != CKPT_OK) fail_msg("%s: %s", name, err.message);
  free(bytes);
  return cp;
}

static ckpt_checkpoint *opened(const char *name) { return opened_save(name, 0); }

/* ---- values ---- */

static const ckpt_value *at(const ckpt_checkpoint *cp, const char *path) {
  const ckpt_value *v = ckpt_value_at(ckpt_checkpoint_root(cp), path);
  if (v == NULL) fail_msg("there is no '%s'", path);
  return v;
}

static ckpt_tensor *tensor_at(const ckpt_checkpoint *cp, const char *path) {
  ckpt_tensor *t = ckpt_value_tensor(at(cp, path));
  if (t == NULL) fail_msg("'%s' is no tensor", path);
  return t;
}

/* The tensor's values, in logical order, as floats. */
static void holds(const ckpt_checkpoint *cp, const char *path, size_t n, const float *wanted) {
  float got[16] = {0};
  ckpt_tensor *to = NULL, *from = tensor_at(cp, path);
  assert_int_equal(ckpt_tensor_numel(from), n);
  assert_int_equal(ckpt_tensor_borrow(&to, CKPT_F32, got, ckpt_tensor_ndim(from), ckpt_tensor_shape(from), NULL),
                   CKPT_OK);
  assert_int_equal(ckpt_tensor_copy(to, from, NULL), CKPT_OK);
  ckpt_tensor_release(to);
  for (size_t i = 0; i < n; i++) assert_true(got[i] == wanted[i]);
}

#define HOLDS(cp, path, ...) \
  holds(cp, path, sizeof((float[]){__VA_ARGS__}) / sizeof(float), (const float[]){__VA_ARGS__})

static const char *text_at(const ckpt_checkpoint *cp, const char *path) { return ckpt_value_text(at(cp, path), NULL); }

/* Lists it, digests every tensor and writes its pickle: whatever a hostile file has become, it can be used. */
static ckpt_status use(const ckpt_checkpoint *cp, ckpt_error *err) {
  ckpt_listing *l = NULL;
  ckpt_pickle p = {0};
  char hex[65];
  CKPT_TRY(ckpt_listing_new(&l, ckpt_checkpoint_root(cp), err));
  ckpt_status st = CKPT_OK;
  for (size_t i = 0; st == CKPT_OK && i < ckpt_listing_count(l); i++) {
    const ckpt_tensor *t = ckpt_value_tensor(ckpt_listing_entry_at(l, i)->value);
    if (t != NULL && !ckpt_tensor_is_meta(t)) st = ckpt_tensor_sha256(hex, t, err);
  }
  ckpt_listing_free(l);
  if (st == CKPT_OK) st = ckpt_pickle_write(&p, ckpt_checkpoint_root(cp), err);
  ckpt_pickle_free(&p);
  return st;
}

static ckpt_status open_and_use(const unsigned char *bytes, size_t n, size_t save, ckpt_error *err) {
  ckpt_checkpoint *cp = NULL;
  ckpt_status st = open_bytes(&cp, bytes, n, save, true, err);
  if (st == CKPT_OK) st = use(cp, err);
  ckpt_checkpoint_close(cp);
  return st;
}

/* ---- every byte, every length, every allocation ---- */

static void changed_at_every_byte(const char *name) {
  static const unsigned char changes[] = {0x01, 0x20, 0x80, 0xff};
  size_t n = 0, refused = 0;
  unsigned char *bytes = fixture(&n, name);
  for (size_t i = 0; i < n; i++)
    for (size_t k = 0; k < sizeof changes; k++) {
      ckpt_error err = {0};
      bytes[i] ^= changes[k];
      ckpt_status st = open_and_use(bytes, n, 0, &err);
      bytes[i] ^= changes[k];
      assert_int_equal(st, err.status);
      refused += st != CKPT_OK;
    }
  print_message("%s: %zu of %zu changes refused\n", name, refused, n * sizeof changes);
  assert_true(refused > n / 4);
  free(bytes);
}

/* Cut before `least` it is refused; from `most` on it opens: a first save may be whole, or an end mark missing. */
static void cut_at_every_length(const char *name, size_t least, size_t most) {
  size_t whole = 0;
  unsigned char *bytes = fixture(&whole, name);
  for (size_t n = 0; n < whole; n++) {
    ckpt_checkpoint *cp = NULL;
    ckpt_error err = {0};
    ckpt_status st = open_bytes(&cp, bytes, n, 0, false, &err);
    if (st == CKPT_OK ? n < least : n >= most || (st != CKPT_E_CORRUPT && st != CKPT_E_FORMAT))
      fail_msg("%s cut at %zu: %s", name, n, st == CKPT_OK ? "opens" : err.message);
    if (st == CKPT_OK) use(cp, NULL);
    ckpt_checkpoint_close(cp);
  }
  free(bytes);
}

static void every_allocation_fails(const char *name, size_t save) {
  size_t n = 0, nth = 0;
  unsigned char *bytes = fixture(&n, name);
  for (bool met = true; met;) {
    ckpt_error err = {0};
    countdown = ++nth;
    ckpt_status st = open_and_use(bytes, n, save, &err);
    met = countdown == 0;
    countdown = 0;
    if (st != CKPT_OK && (st != CKPT_E_NOMEM || err.status != CKPT_E_NOMEM))
      fail_msg("%s, allocation %zu: %s", name, nth, err.message);
    if (!met) assert_int_equal(st, CKPT_OK);
  }
  print_message("%s: %zu allocations\n", name, nth - 1);
  free(bytes);
}

/* ---- refusals ---- */

static void refused(const void *bytes, size_t n, size_t save, ckpt_status status, const char *message) {
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  ckpt_status st = open_bytes(&cp, bytes, n, save, true, &err);
  if (st != status || strcmp(err.message + 3, message) != 0)
    fail_msg("%s\n  '%s' instead of\n  '%s'", ckpt_status_name(st), err.message + 3, message);
  assert_null(cp);
}

#endif
