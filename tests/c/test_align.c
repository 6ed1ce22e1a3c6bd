// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc
/*
 * test_align.c - suffix alignment: cases by hand, and thousands of random ones beside the quadratic algorithm that
 * Detectron2 uses (each target with each source). CKPT_SEED repeats a run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../../runtime/base.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);

static long countdown = -1; /* allocations until one fails; -1: none does */

static bool fails(void) { return countdown >= 0 && countdown-- == 0; }
void *__wrap_malloc(size_t size) { return fails() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t n, size_t size) { return fails() ? NULL : __real_calloc(n, size); }

/* ---- By hand ----------------------------------------------------------------------------------------- */

#define NONE SIZE_MAX

static size_t align_one(const char *target, size_t n, const char *const *sources, char boundary) {
  size_t *found = NULL;
  assert_int_equal(ckpt_align(&found, 1, &target, n, sources, boundary, NULL), CKPT_OK);
  size_t result = found[0];
  free(found);
  return result;
}

static void test_longest_suffix(void **state) {
  (void)state;
  const char *sources[] = {"weight", "conv1.weight", "layer1.conv1.weight", "onv1.weight", "bias"};
  assert_int_equal(align_one("backbone.layer1.conv1.weight", 5, sources, 0), 2);
  assert_int_equal(align_one("backbone.layer2.conv1.weight", 5, sources, 0), 1);
  assert_int_equal(align_one("layer2.Conv1.weight", 5, sources, 0), 3);
  assert_int_equal(align_one("weight", 5, sources, 0), 0);
  assert_int_equal(align_one("unweight", 5, sources, 0), 0);
  assert_int_equal(align_one("weights", 5, sources, 0), NONE);
  assert_int_equal(align_one("", 5, sources, 0), NONE);
}

static void test_boundary(void **state) {
  (void)state;
  const char *sources[] = {"weight", "conv1.weight", "onv1.weight", ".weight", "a.conv1.weight"};
  assert_int_equal(align_one("b.conv1.weight", 5, sources, '.'), 1);
  assert_int_equal(align_one("bconv1.weight", 5, sources, '.'), 0); /* not conv1.weight, which is half a segment */
  assert_int_equal(align_one("conv1.weight", 5, sources, '.'), 1);
  assert_int_equal(align_one("unweight", 5, sources, '.'), NONE);
  assert_int_equal(align_one("x..weight", 5, sources, '.'), 3);
  assert_int_equal(align_one("b/weight", 5, sources, '/'), 0);
}

static void test_last_of_equals_wins(void **state) {
  (void)state;
  const char *sources[] = {"w", "a.w", "w", "a.w", "w"};
  assert_int_equal(align_one("b.w", 5, sources, '.'), 4);
  assert_int_equal(align_one("b.a.w", 5, sources, '.'), 3);
  assert_int_equal(align_one("a.w", 5, sources, 0), 3);
}

static void test_empty_names(void **state) {
  (void)state;
  const char *sources[] = {"", "w"};
  assert_int_equal(align_one("v", 2, sources, 0), 0); /* "" is a suffix of everything */
  assert_int_equal(align_one("", 2, sources, 0), 0);
  assert_int_equal(align_one("v.w", 2, sources, 0), 1);
  assert_int_equal(align_one("v", 2, sources, '.'), NONE); /* but no segment */
  assert_int_equal(align_one("", 2, sources, '.'), 0);
  assert_int_equal(align_one("v.", 2, sources, '.'), NONE);
}

static void test_high_bytes(void **state) {
  (void)state;
  const char *sources[] = {"\377", "\200\377", "a"};
  assert_int_equal(align_one("x.\200\377", 3, sources, 0), 1);
  assert_int_equal(align_one("\177\377", 3, sources, 0), 0);
}

static void test_nothing(void **state) {
  (void)state;
  size_t *found = NULL;
  assert_int_equal(ckpt_align(&found, 0, NULL, 0, NULL, '.', NULL), CKPT_OK);
  assert_non_null(found);
  free(found);
  assert_int_equal(align_one("a", 0, NULL, '.'), NONE);
}

static void test_every_allocation_can_fail(void **state) {
  (void)state;
  const char *names[] = {"a.b", "b"};
  ckpt_status st = CKPT_E_NOMEM;
  long n = 0;
  for (; st != CKPT_OK; n++) {
    size_t *found = NULL;
    ckpt_error err = {0};
    countdown = n;
    st = ckpt_align(&found, 2, names, 2, names, '.', &err);
    countdown = -1;
    if (st != CKPT_OK) assert_true(st == CKPT_E_NOMEM && err.status == st && found == NULL);
    free(found);
  }
  assert_true(n > 2);
}

/* ---- Beside the quadratic algorithm ------------------------------------------------------------------ */

static bool ends_with(const char *target, const char *source, char boundary) {
  size_t t = strlen(target), s = strlen(source);
  if (s > t || memcmp(target + t - s, source, s) != 0) return false;
  return boundary == 0 || s == t || (s > 0 && target[t - s - 1] == boundary);
}

static size_t reference(const char *target, size_t n, const char *const *sources, char boundary) {
  size_t best = NONE;
  for (size_t i = 0; i < n; i++)
    if (ends_with(target, sources[i], boundary) && (best == NONE || strlen(sources[i]) >= strlen(sources[best])))
      best = i;
  return best;
}

static uint64_t seed;

static unsigned next(unsigned below) { /* xorshift */
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return (unsigned)(seed >> 33) % below;
}

enum { MOST = 24, LONGEST = 40 };

static size_t random_names(char texts[MOST][LONGEST + 1], const char **names) {
  size_t count = next(MOST + 1);
  unsigned longest = 1 + next(next(4) == 0 ? LONGEST : 8), letters = 1 + next(3);
  for (size_t i = 0; i < count; i++) {
    size_t n = next(longest + 1);
    for (size_t k = 0; k < n; k++) texts[i][k] = "a.b"[next(letters)];
    texts[i][n] = '\0';
    names[i] = texts[i];
  }
  return count;
}

static size_t compare_once(char boundary) {
  static char target_texts[MOST][LONGEST + 1], source_texts[MOST][LONGEST + 1];
  const char *targets[MOST], *sources[MOST];
  size_t n = random_names(target_texts, targets), m = random_names(source_texts, sources), *found = NULL, matched = 0;
  assert_int_equal(ckpt_align(&found, n, targets, m, sources, boundary, NULL), CKPT_OK);
  for (size_t i = 0; i < n; i++) {
    size_t expected = reference(targets[i], m, sources, boundary);
    if (found[i] != expected)
      fail_msg("'%s', boundary '%c': found %zd, expected %zd", targets[i], boundary, (ssize_t)found[i],
               (ssize_t)expected);
    matched += expected != NONE;
  }
  free(found);
  return matched;
}

static void test_random(void **state) {
  (void)state;
  const char *given = getenv("CKPT_SEED");
  size_t matched = 0;
  seed = given != NULL ? strtoull(given, NULL, 0) | 1 : ((uint64_t)time(NULL) << 16 | 1) * 0x9e3779b97f4a7c15u;
  print_message("CKPT_SEED=0x%llx\n", (unsigned long long)seed);
  for (int i = 0; i < 20000; i++) matched += compare_once(".\0a"[i % 3]);
  print_message("20000 random key sets, %zu matches, all as the quadratic reference has them\n", matched);
  assert_true(matched > 20000);
}

/* ---- Growth ------------------------------------------------------------------------------------------ */

static double milliseconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Many equal sources that fit no segment: a walk over each of them for each target would take 10^10 steps. */
static void test_many_equal_sources(void **state) {
  (void)state;
  enum { N = 100000 };
  const char **targets = calloc(N, sizeof *targets), **sources = calloc(N, sizeof *sources);
  size_t *found = NULL;
  for (size_t i = 0; i < N; i++) {
    targets[i] = "xw";
    sources[i] = "w";
  }
  double start = milliseconds();
  assert_int_equal(ckpt_align(&found, N, targets, N, sources, '.', NULL), CKPT_OK);
  assert_true(milliseconds() - start < 5000);
  for (size_t i = 0; i < N; i++) assert_true(found[i] == NONE);
  free(found);
  free(targets);
  free(sources);
}

/* So many that tables are large and threads take part: names of many lengths, a seventh of them not among the sources.
 */
static void test_many_different_names(void **state) {
  (void)state;
  enum { N = 80000 };
  char(*texts)[2][48] = calloc(N, sizeof *texts);
  const char **targets = calloc(N, sizeof *targets), **sources = calloc(N, sizeof *sources);
  size_t *found = NULL, wrong = 0;
  for (int i = 0; i < N; i++) {
    int width = 1 + i % 19;
    snprintf(texts[i][0], sizeof texts[i][0], "%s%d.%0*d.weight", i % 7 == 0 ? "q" : "w", i, width, i);
    snprintf(texts[i][1], sizeof texts[i][1], "%sw%d.%0*d.weight", i % 2 == 0 ? "module." : "", i, width, i);
    sources[i] = texts[i][0];
    targets[i] = texts[i][1];
  }
  assert_int_equal(ckpt_align(&found, N, targets, N, sources, '.', NULL), CKPT_OK);
  for (size_t i = 0; i < N; i++) wrong += found[i] != (i % 7 == 0 ? NONE : i);
  assert_int_equal(wrong, 0);
  free(found);
  free(targets);
  free(sources);
  free(texts);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_longest_suffix),
      cmocka_unit_test(test_boundary),
      cmocka_unit_test(test_last_of_equals_wins),
      cmocka_unit_test(test_empty_names),
      cmocka_unit_test(test_high_bytes),
      cmocka_unit_test(test_nothing),
      cmocka_unit_test(test_every_allocation_can_fail),
      cmocka_unit_test(test_random),
      cmocka_unit_test(test_many_equal_sources),
      cmocka_unit_test(test_many_different_names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
