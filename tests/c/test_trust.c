/*
 * test_trust.c - how far a file is believed: each limit of ckpt_limits on both sides of its boundary, at its default
 * and where a caller sets it, and what `lenient` lets pass. Opened from memory, as any program may.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above first */
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint.h"
#include "pickle_write.h"

/* ---- building pickles -------------------------------------------------------------------------------- */

typedef struct bytes {
  unsigned char *at;
  size_t n, capacity;
} bytes;

static void put(bytes *b, const void *p, size_t n) {
  if (b->n + n > b->capacity) {
    b->capacity = 2 * (b->capacity + n) + 64;
    b->at = realloc(b->at, b->capacity);
    assert_non_null(b->at);
  }
  memcpy(b->at + b->n, p, n);
  b->n += n;
}

static void times(bytes *b, size_t count, const char *p, size_t n) {
  for (size_t i = 0; i < count; i++) put(b, p, n);
}

#define PUT(b, text) put(b, text, sizeof(text) - 1)
#define TIMES(b, count, text) times(b, count, text, sizeof(text) - 1)

static ckpt_status try(const bytes *b, const ckpt_open_options *options, ckpt_error *err) {
  ckpt_checkpoint *cp = NULL;
  unsigned char *exact = malloc(b->n); /* so that the sanitizer sees each step outside */
  memcpy(exact, b->at, b->n);
  ckpt_status st = ckpt_checkpoint_open_memory(&cp, exact, b->n, "m", options, err);
  if (st != CKPT_OK) assert_null(cp);
  ckpt_checkpoint_close(cp);
  free(exact);
  return st;
}

static void expect(const bytes *b, const ckpt_open_options *options, ckpt_status status, const char *text) {
  ckpt_error err = {0};
  ckpt_status st = try(b, options, &err);
  if (st != status || (st != CKPT_OK && strstr(err.message, text) == NULL))
    fail_msg("%s: %s; expected %s: ...%s", ckpt_status_name(st), err.message, ckpt_status_name(status), text);
}

/* ---- depth ------------------------------------------------------------------------------------------- */

/* Each makes a value with a None exactly `depth` levels below the root. */
typedef void (*nest)(bytes *b, size_t depth);

static void nested_lists(bytes *b, size_t depth) { /* inside out, as no pickler does */
  TIMES(b, depth, "]");
  PUT(b, "N");
  TIMES(b, depth, "a");
}

static void nested_tuples(bytes *b, size_t depth) {
  PUT(b, "N");
  TIMES(b, depth, "\x85");
}

static void nested_marks(bytes *b, size_t depth) {
  TIMES(b, depth, "(");
  PUT(b, "N");
  TIMES(b, depth, "t");
}

static void nested_dicts(bytes *b, size_t depth) {
  TIMES(b, depth, "}K\1");
  PUT(b, "N");
  TIMES(b, depth, "s");
}

static void nested_sets(bytes *b, size_t depth) {
  TIMES(b, depth, "(");
  PUT(b, "N");
  TIMES(b, depth, "\x91");
}

/* f(state...): each object is the state of the one before. */
static void nested_states(bytes *b, size_t depth) {
  TIMES(b, depth, "cm\nC\n)\x81");
  PUT(b, "N");
  TIMES(b, depth, "b");
}

/* Each list is in the one before, and only then given its own item: what the heights say is far too low. */
static void outside_in(bytes *b, size_t depth) {
  PUT(b, "]q\1");
  for (size_t i = 0; i < depth - 1; i++) PUT(b, "h\1]q\1a0"); /* memo 1: the innermost so far */
  PUT(b, "h\1Na0");
}

static const nest nests[] = {nested_lists, nested_tuples, nested_marks, nested_dicts,
                             nested_sets,  nested_states, outside_in};

static void check_depth(nest make, size_t depth, size_t limit, bool fits) {
  bytes b = {0};
  const ckpt_open_options options = {.limits.depth = limit};
  PUT(&b, "\x80\2");
  make(&b, depth);
  PUT(&b, ".");
  expect(&b, &options, fits ? CKPT_OK : CKPT_E_LIMIT, "levels deep in one another");
  free(b.at);
}

/* `outside_in` leaves the root at the bottom of the stack. */
static void depth_is_limited(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(nests); i++) {
    check_depth(nests[i], 1000, 0, true);
    check_depth(nests[i], 1001, 0, false);
    check_depth(nests[i], 50, 50, true);
    check_depth(nests[i], 51, 50, false);
    check_depth(nests[i], 65534, 65534, true);
    check_depth(nests[i], 65535, 65534, false);
    check_depth(nests[i], 70000, 65535, true);
    check_depth(nests[i], 1000000, 0, false);
  }
}

static void cycles_are_not_deep(void **state) {
  (void)state;
  bytes b = {0};
  PUT(&b, "\x80\2]q\1");
  TIMES(&b, 5000, "h\1a"); /* itself, five thousand times */
  PUT(&b, "]q\2h\1ah\2a.");
  expect(&b, NULL, CKPT_OK, "");
  b.n = 0;
  PUT(&b, "\x80\2]q\1");
  TIMES(&b, 5000, "}K\1h\1sa"); /* children that know their parent */
  PUT(&b, ".");
  expect(&b, NULL, CKPT_OK, "");
  free(b.at);
}

/* ---- depth on a small stack -------------------------------------------------------------------------- */

typedef struct deep {
  nest make;
  size_t depth;
  bool equal;
  ckpt_status opened, written, walked;
} deep;

static void *use_deep(void *arg) {
  deep *d = arg;
  bytes b = {0};
  ckpt_checkpoint *cp = NULL;
  ckpt_pickle pickle = {0};
  ckpt_document *doc = NULL;
  ckpt_value *copy = NULL;
  const ckpt_open_options any = {.verify = true, .limits = {.depth = SIZE_MAX, .opcodes = SIZE_MAX, .memo = SIZE_MAX}};
  PUT(&b, "\x80\2");
  d->make(&b, d->depth);
  PUT(&b, ".");
  d->opened = ckpt_checkpoint_open_memory(&cp, b.at, b.n, "m", &any, NULL);
  d->written = d->opened == CKPT_OK ? ckpt_pickle_write(&pickle, ckpt_checkpoint_root(cp), NULL) : d->opened;
  ckpt_pickle_free(&pickle);
  if (d->written == CKPT_OK && ckpt_document_new(&doc, NULL) == CKPT_OK &&
      ckpt_value_clone(&copy, doc, ckpt_checkpoint_root(cp), NULL) == CKPT_OK)
    ckpt_value_equal(&d->equal, ckpt_checkpoint_root(cp), copy, NULL);
  ckpt_document_release(doc);
  ckpt_checkpoint_close(cp);
  free(b.at);
  return NULL;
}

/* CKPT_DEPTH=10000000 is the full size; it takes 3 GB of memory. */
static void depth_costs_no_stack(void **state) {
  (void)state;
  const char *given = getenv("CKPT_DEPTH");
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  assert_int_equal(pthread_attr_setstacksize(&attr, 64 << 10), 0);
  const char *only = getenv("CKPT_NEST"); /* number of the one kind that is tried */
  for (size_t i = 0; i < CKPT_COUNTOF(nests); i++) {
    pthread_t thread;
    if (only != NULL && i != strtoull(only, NULL, 10)) continue;
    deep d = {.make = nests[i], .depth = given == NULL ? 300000 : strtoull(given, NULL, 10)};
    assert_int_equal(pthread_create(&thread, &attr, use_deep, &d), 0);
    pthread_join(thread, NULL);
    assert_int_equal(d.opened, CKPT_OK);
    assert_int_equal(d.written, CKPT_OK);
    assert_true(d.equal || nests[i] == nested_sets); /* sets of sets are compared by identity only */
  }
  pthread_attr_destroy(&attr);
}

/* ---- opcodes and memo -------------------------------------------------------------------------------- */

static void opcodes_are_limited(void **state) {
  (void)state;
  bytes b = {0};
  PUT(&b, "\x80\2");
  TIMES(&b, 97, "N0");
  PUT(&b, "N.");
  expect(&b, &(ckpt_open_options){.limits.opcodes = 197}, CKPT_OK, "");
  expect(&b, &(ckpt_open_options){.limits.opcodes = 196}, CKPT_E_LIMIT, "file+0xc5: more than 196 opcodes");
  free(b.at);
}

static void the_default_of_opcodes(void **state) {
  (void)state;
  bytes b = {0};
  PUT(&b, "\x80\2");
  TIMES(&b, 24999998, "N0"); /* with PROTO, None and STOP 49,999,999 */
  PUT(&b, "\x80\2N.");
  expect(&b, NULL, CKPT_OK, "");
  b.n -= 4;
  PUT(&b, "\x80\2\x80\2N.");
  expect(&b, NULL, CKPT_E_LIMIT, "more than 50000000 opcodes");
  free(b.at);
}

static void the_memo_is_limited(void **state) {
  (void)state;
  bytes b = {0};
  PUT(&b, "\x80\4N");
  TIMES(&b, 100, "\x94");
  PUT(&b, ".");
  expect(&b, &(ckpt_open_options){.limits.memo = 100}, CKPT_OK, "");
  expect(&b, &(ckpt_open_options){.limits.memo = 99}, CKPT_E_LIMIT, "more than 99 entries in the memo");
  b.n = 3;
  TIMES(&b, 10000000, "\x94");
  PUT(&b, ".");
  expect(&b, NULL, CKPT_OK, "");
  b.n--;
  PUT(&b, "\x94.");
  expect(&b, NULL, CKPT_E_LIMIT, "file+0x989683: more than 10000000 entries in the memo");
  free(b.at);
}

/* ---- headers ----------------------------------------------------------------------------------------- */

static void put_header(bytes *b, size_t n) {
  unsigned char length[8];
  ckpt_put64(length, n);
  b->n = 0;
  put(b, length, 8);
  PUT(b, "{}");
  TIMES(b, n - 2, " ");
}

static void headers_are_limited(void **state) {
  (void)state;
  bytes b = {0};
  put_header(&b, 64);
  expect(&b, &(ckpt_open_options){.limits.header = 64}, CKPT_OK, "");
  expect(&b, &(ckpt_open_options){.limits.header = 63}, CKPT_E_LIMIT,
         "a safetensors header of 64 bytes; at most 63 are allowed");
  free(b.at);
}

/* ---- zip archives ------------------------------------------------------------------------------------ */

/* A record as a plain zip tool stores it. `gap` bytes stand before it. */
typedef struct zip {
  bytes file, directory;
  size_t n;
} zip;

static void put_fields(bytes *b, const char *name, size_t n, uint32_t crc) {
  unsigned char f[26] = {20};
  ckpt_put32(f + 10, crc);
  ckpt_put32(f + 14, (uint32_t)n);
  ckpt_put32(f + 18, (uint32_t)n);
  ckpt_put16(f + 22, (uint16_t)strlen(name));
  put(b, f, sizeof f);
}

static void add(zip *z, const char *name, const char *data, size_t n) {
  unsigned char tail[14] = {0};
  ckpt_put32(tail + 10, (uint32_t)z->file.n);
  PUT(&z->file, "PK\3\4");
  put_fields(&z->file, name, n, 0);
  put(&z->file, name, strlen(name));
  put(&z->file, data, n);
  PUT(&z->directory, "PK\1\2\24\0");
  put_fields(&z->directory, name, n, 0);
  put(&z->directory, tail, sizeof tail);
  put(&z->directory, name, strlen(name));
  z->n++;
}

static void finish(zip *z, const char *comment) {
  unsigned char end[22] = {'P', 'K', 5, 6};
  ckpt_put16(end + 8, (uint16_t)z->n);
  ckpt_put16(end + 10, (uint16_t)z->n);
  ckpt_put32(end + 12, (uint32_t)z->directory.n);
  ckpt_put32(end + 16, (uint32_t)z->file.n);
  ckpt_put16(end + 20, (uint16_t)strlen(comment));
  put(&z->file, z->directory.at, z->directory.n);
  put(&z->file, end, sizeof end);
  put(&z->file, comment, strlen(comment));
}

static void drop(zip *z) {
  free(z->file.at);
  free(z->directory.at);
}

static void add_checkpoint(zip *z) {
  add(z, "a/data.pkl", "\x80\2N.", 4);
  add(z, "a/version", "3\n", 2);
}

static void records_are_limited(void **state) {
  (void)state;
  zip z = {0};
  add_checkpoint(&z);
  for (int i = 2; i < 300; i++) {
    char name[32];
    snprintf(name, sizeof name, "a/%d", i);
    add(&z, name, "x", 1);
  }
  finish(&z, "");
  expect(&z.file, &(ckpt_open_options){.limits.entries = 300}, CKPT_OK, "");
  expect(&z.file, &(ckpt_open_options){.limits.entries = 299}, CKPT_E_LIMIT, "300 entries, at most 299 are read");
  drop(&z);
}

static void lenience(void **state) {
  (void)state;
  static const ckpt_open_options lenient = {.lenient = true};
  for (int what = 0; what < 5; what++) {
    zip z = {0};
    add(&z, what == 0 ? "/data.pkl" : "a/data.pkl", "\x80\2N.", 4);
    if (what == 1) PUT(&z.file, "PK\3\4 what nobody speaks of");
    add(&z, what == 0 ? "/version" : "a/version", "3\n", 2);
    if (what == 2) z.file.at[z.file.n - 3] ^= 1; /* the last letter of "version" in the header */
    if (what == 3) z.file.at[10] = 1;            /* time */
    finish(&z, what == 4 ? "a comment" : "");
    expect(&z.file, &lenient, CKPT_OK, "");
    expect(&z.file, NULL, CKPT_E_CORRUPT, what == 2 || what == 3 ? "is damaged (libzip: " : "in more than one way");
    drop(&z);
  }
}

/* What cannot be read in one way by us either stays refused. */
static void lenience_has_an_end(void **state) {
  (void)state;
  static const ckpt_open_options lenient = {.lenient = true};
  zip z = {0};
  add_checkpoint(&z);
  add(&z, "a/Version", "3\n", 2);
  finish(&z, "");
  expect(&z.file, &lenient, CKPT_E_CORRUPT, "differ only in case");
  drop(&z);
  z = (zip){0};
  add_checkpoint(&z);
  add(&z, "a/version", "4\n", 2);
  finish(&z, "");
  expect(&z.file, &lenient, CKPT_E_CORRUPT, "the same name");
  drop(&z);
}

static void an_index_is_no_single_file(void **state) {
  (void)state;
  bytes b = {0};
  PUT(&b, "{\"weight_map\": {\"w\": \"../../etc/passwd\"}}");
  expect(&b, NULL, CKPT_E_FORMAT, "not a checkpoint");
  b.n = 0;
  PUT(&b, "x");
  b.n = 0;
  expect(&b, NULL, CKPT_E_FORMAT, "the file is empty");
  free(b.at);
}

int main(void) {
#define TEST(f) cmocka_unit_test(f)
  const struct CMUnitTest tests[] = {
      TEST(depth_is_limited),    TEST(cycles_are_not_deep),        TEST(depth_costs_no_stack),
      TEST(opcodes_are_limited), TEST(the_default_of_opcodes),     TEST(the_memo_is_limited),
      TEST(headers_are_limited), TEST(records_are_limited),        TEST(lenience),
      TEST(lenience_has_an_end), TEST(an_index_is_no_single_file),
  };
  return cmocka_run_group_tests_name("trust", tests, NULL, NULL);
}
