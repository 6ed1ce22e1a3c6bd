/* test_arena.c - pieces are aligned, zeroed and apart; the limit holds exactly; nothing is lost at the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "arena.h"

/* AddressSanitizer otherwise ends the program where malloc should give NULL. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }

static void pieces_are_aligned_zeroed_and_apart(void **state) {
  (void)state;
  enum { N = 3000 };
  static unsigned char *pieces[N];
  ckpt_arena a = {0};
  for (size_t i = 0; i < N; i++) {
    pieces[i] = ckpt_arena_alloc(&a, i % 97, NULL);
    assert_non_null(pieces[i]);
    assert_int_equal((uintptr_t)pieces[i] % 16, 0);
    for (size_t k = 0; k < i % 97; k++) assert_int_equal(pieces[i][k], 0);
    memset(pieces[i], (int)(i % 251) + 1, i % 97);
  }
  for (size_t i = 0; i < N; i++)
    for (size_t k = 0; k < i % 97; k++) assert_int_equal(pieces[i][k], i % 251 + 1);
  ckpt_arena_free(&a);
  assert_null(a.blocks);
  assert_int_equal(a.used, 0);
}

static void used_counts_rounded_bytes(void **state) {
  (void)state;
  ckpt_arena a = {0};
  assert_non_null(ckpt_arena_alloc(&a, 1, NULL));
  assert_int_equal(a.used, 16);
  assert_non_null(ckpt_arena_alloc(&a, 16, NULL));
  assert_int_equal(a.used, 32);
  assert_non_null(ckpt_arena_alloc(&a, 17, NULL));
  assert_int_equal(a.used, 64);
  assert_non_null(ckpt_arena_alloc(&a, 0, NULL));
  assert_int_equal(a.used, 64);
  ckpt_arena_free(&a);
}

/* A piece larger than any block, then small ones again. */
static void large_pieces(void **state) {
  (void)state;
  static const size_t sizes[] = {5, 4096, 4097, (size_t)3 << 20, 8, (size_t)1 << 20, ((size_t)1 << 20) + 1, 1};
  ckpt_arena a = {0};
  for (size_t i = 0; i < CKPT_COUNTOF(sizes); i++) {
    unsigned char *p = ckpt_arena_alloc(&a, sizes[i], NULL);
    assert_non_null(p);
    assert_int_equal(p[0] + p[sizes[i] - 1], 0);
    memset(p, 0xff, sizes[i]); /* the sanitizer sees a block that is too small */
  }
  ckpt_arena_free(&a);
}

static void the_limit_is_exact(void **state) {
  (void)state;
  ckpt_error err = {0};
  ckpt_arena a = {.limit = 64};
  assert_non_null(ckpt_arena_alloc(&a, 33, &err)); /* 48 */
  assert_null(ckpt_arena_alloc(&a, 17, &err));
  assert_int_equal(err.status, CKPT_E_LIMIT);
  assert_string_equal(err.message, "the objects need more than the 64 bytes allowed for them");
  assert_int_equal(a.used, 48);
  assert_non_null(ckpt_arena_alloc(&a, 16, &err));
  assert_null(ckpt_arena_alloc(&a, 1, NULL));
  assert_non_null(ckpt_arena_alloc(&a, 0, &err));
  ckpt_arena_free(&a);
}

static void absurd_sizes_fail(void **state) {
  (void)state;
  ckpt_arena a = {0};
  static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 14, SIZE_MAX - 15, SIZE_MAX - 31};
  for (size_t i = 0; i < CKPT_COUNTOF(sizes); i++) {
    ckpt_error err = {0};
    assert_null(ckpt_arena_alloc(&a, sizes[i], &err));
    assert_int_equal(err.status, CKPT_E_NOMEM);
  }
  assert_int_equal(a.used, 0);
  ckpt_error err = {0};
  assert_null(ckpt_arena_copy(&a, "", SIZE_MAX, &err));
  assert_int_equal(err.status, CKPT_E_NOMEM);
  ckpt_arena_free(&a);
}

static void copies_are_terminated(void **state) {
  (void)state;
  ckpt_arena a = {0};
  char *s = ckpt_arena_copy(&a, "a\0b", 3, NULL);
  assert_memory_equal(s, "a\0b", 4);
  s = ckpt_arena_copy(&a, NULL, 0, NULL);
  assert_string_equal(s, "");
  char sixteen[16];
  memset(sixteen, 'x', sizeof sixteen);
  s = ckpt_arena_copy(&a, sixteen, 16, NULL);
  ckpt_arena_copy(&a, sixteen, 16, NULL);
  assert_int_equal(s[16], 0);
  assert_int_equal(strlen(s), 16);
  ckpt_arena_free(&a);
}

static void free_of_an_empty_arena(void **state) {
  (void)state;
  ckpt_arena a = {0};
  ckpt_arena_free(&a);
  ckpt_arena_free(&a);
  assert_non_null(ckpt_arena_alloc(&a, 8, NULL)); /* it can be used again */
  ckpt_arena_free(&a);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(pieces_are_aligned_zeroed_and_apart),
      cmocka_unit_test(used_counts_rounded_bytes),
      cmocka_unit_test(large_pieces),
      cmocka_unit_test(the_limit_is_exact),
      cmocka_unit_test(absurd_sizes_fail),
      cmocka_unit_test(copies_are_terminated),
      cmocka_unit_test(free_of_an_empty_arena),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
