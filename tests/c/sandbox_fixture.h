/*
 * sandbox_fixture.h - what the tests of the sandbox share: the first line of each is
 * // LDFLAGS: -Wl,--wrap=realloc,--wrap=malloc,--wrap=calloc,--wrap=free
 *
 * The allocator of the C library is wrapped: each block of the Lua heap is counted here too, so that the memory limit
 * is not taken on the sandbox's own word, and any allocation can be made to fail.
 */
#ifndef CKPT_TEST_SANDBOX_FIXTURE_H
#define CKPT_TEST_SANDBOX_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above first */
#include <cmocka.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../../bindings/sandbox.h"
#include "../../runtime/base.h"

/* ---- The allocator ----------------------------------------------------------------------------------- */

void *__real_realloc(void *p, size_t size);
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void __real_free(void *p);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void __wrap_free(void *p);

#define SLOTS (1u << 22) /* more than 64 MiB of the smallest blocks */
static struct {
  void *p;
  size_t size;
} slots[SLOTS];
static size_t live, peak, blocks;
static long countdown = -1; /* allocations until one fails; -1: none does */
static bool fail_on;        /* every later one fails too */
static bool failed;

static inline size_t slot_of(const void *p) {
  size_t i = (size_t)(((uintptr_t)p >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 40) & (SLOTS - 1);
  while (slots[i].p != NULL && slots[i].p != p) i = (i + 1) & (SLOTS - 1);
  return i;
}

static inline void track(void *p, size_t size) {
  size_t i = slot_of(p);
  slots[i].p = p;
  slots[i].size = size;
  live += size;
  blocks++;
  if (live > peak) peak = live;
}

/* Closes the gap that a removal leaves, as linear probing needs. */
static inline bool untrack(const void *p) {
  size_t i = slot_of(p);
  if (p == NULL || slots[i].p == NULL) return false;
  live -= slots[i].size;
  blocks--;
  slots[i].p = NULL;
  for (size_t k = (i + 1) & (SLOTS - 1); slots[k].p != NULL; k = (k + 1) & (SLOTS - 1)) {
    void *moved = slots[k].p;
    size_t size = slots[k].size;
    slots[k].p = NULL;
    size_t to = slot_of(moved);
    slots[to].p = moved;
    slots[to].size = size;
  }
  return true;
}

static inline bool refuse(void) {
  if (countdown < 0) return false;
  if (countdown > 0) countdown--;
  if (countdown > 0) return false;
  if (failed && !fail_on) return false;
  failed = true;
  return true;
}

void *__wrap_realloc(void *p, size_t size) {
  if (refuse()) return NULL;
  untrack(p);
  void *q = __real_realloc(p, size);
  if (q != NULL) track(q, size);
  return q;
}

void *__wrap_malloc(size_t size) { return refuse() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t n, size_t size) { return refuse() ? NULL : __real_calloc(n, size); }

void __wrap_free(void *p) {
  untrack(p);
  __real_free(p);
}

/* ---- Helpers ----------------------------------------------------------------------------------------- */

static const char default_text[] = "return { name = 'built-in default', map = require 'maps.vgg' }";
static const char pet_text[] = "return { name = 'built-in pet' }";
static const char vgg_text[] = "return { 'built-in vgg' }";
static const char binary_text[] = "\x1bLua\x54 and so on";

static const struct ckpt_embedded embedded[] = {{"policies/default.lua", default_text, sizeof default_text - 1},
                                                {"policies/maps/vgg.lua", vgg_text, sizeof vgg_text - 1},
                                                {"policies/pet.lua", pet_text, sizeof pet_text - 1},
                                                {"policies/maps/binary.lua", binary_text, sizeof binary_text - 1},
                                                {"scripts/inspect.lua", pet_text, sizeof pet_text - 1},
                                                {NULL, NULL, 0}};

static char directory[256], printed[1024];

static inline void collect(void *user, const char *line) {
  assert_ptr_equal(user, printed);
  size_t n = strlen(printed);
  snprintf(printed + n, sizeof printed - n, "%s|", line);
}

static inline void write_bytes(const char *path, const char *bytes, size_t size) {
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(bytes, 1, size, f), size);
  assert_int_equal(fclose(f), 0);
}

static inline void write_text(const char *path, const char *text) { write_bytes(path, text, strlen(text)); }

static inline ckpt_sandbox *open_with_budget(size_t memory, uint64_t steps, uint64_t deadline) {
  ckpt_sandbox *s = NULL;
  ckpt_error err = {.message = ""};
  ckpt_sandbox_options o = {.memory_limit = memory,
                            .budget = {.steps = steps, .deadline = deadline},
                            .base_dir = "policies",
                            .embedded = embedded,
                            .print = collect,
                            .user = printed};
  if (ckpt_sandbox_new(&s, &o, &err) != CKPT_OK) fail_msg("%s", err.message);
  printed[0] = '\0';
  return s;
}

/* With a deadline that only a machine out of order meets: steps decide. */
static inline ckpt_sandbox *open_with(size_t memory, uint64_t steps) { return open_with_budget(memory, steps, 100000); }

static inline ckpt_sandbox *open_default(void) { return open_with((size_t)16 << 20, 1000000); }

/* Runs `text` as policies/x.lua; the result is released. */
static inline ckpt_status run(ckpt_sandbox *s, const char *text, ckpt_error *err) {
  int ref = LUA_NOREF;
  write_text("policies/x.lua", text);
  ckpt_status st = ckpt_sandbox_load(&ref, s, "policies/x.lua", err);
  if (st == CKPT_OK) luaL_unref(ckpt_sandbox_state(s), LUA_REGISTRYINDEX, ref);
  assert_int_equal(lua_gettop(ckpt_sandbox_state(s)), 0);
  return st;
}

static inline void must_run(ckpt_sandbox *s, const char *text) {
  ckpt_error err = {.message = ""};
  if (run(s, text, &err) != CKPT_OK) fail_msg("%s\n%s", text, err.message);
}

/* The whole message. */
static inline void must_say(ckpt_sandbox *s, const char *text, const char *message) {
  ckpt_error err = {.message = ""};
  assert_int_equal(run(s, text, &err), CKPT_E_POLICY);
  assert_int_equal(err.status, CKPT_E_POLICY);
  assert_string_equal(err.message, message);
}

static inline void must_contain(ckpt_sandbox *s, const char *text, const char *part) {
  ckpt_error err = {.message = ""};
  ckpt_status st = run(s, text, &err);
  if (st != CKPT_E_POLICY || strstr(err.message, part) == NULL)
    fail_msg("%s\n-> status %d, '%s' instead of '%s'", text, st, err.message, part);
}

static inline void must_run_fresh(const char *text) {
  ckpt_sandbox *s = open_default();
  must_run(s, text);
  ckpt_sandbox_free(s);
}

static inline void must_say_fresh(const char *text, const char *message) {
  ckpt_sandbox *s = open_default();
  must_say(s, text, message);
  ckpt_sandbox_free(s);
}

/* ---- The directory the tests run in -------------------------------------------------------------------- */

static inline int make_directory(void **state) {
  (void)state;
  const char *tmp = getenv("TMPDIR");
  snprintf(directory, sizeof directory, "%s/ckpt-sandbox-XXXXXX", tmp != NULL ? tmp : "/tmp");
  if (mkdtemp(directory) == NULL || chdir(directory) != 0) return -1;
  return mkdir("policies", 0700) != 0 || mkdir("policies/maps", 0700) != 0 ? -1 : 0;
}

static inline int remove_directory(void **state) {
  (void)state;
  char command[300];
  if (chdir("/") != 0) return -1;
  snprintf(command, sizeof command, "rm -rf '%s'", directory);
  return system(command) == 0 ? 0 : -1;
}

#endif
