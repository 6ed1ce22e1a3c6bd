/* test_strmap.c - both hash maps: byte strings to numbers, addresses to numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "ptrmap.h"
#include "strmap.h"

enum { MANY = 20000 };

static void an_empty_map_has_nothing(void **state) {
  (void)state;
  ckpt_strmap map = {0};
  ckpt_ptrmap pointers = {0};
  assert_true(ckpt_strmap_get(&map, "a", 1) == SIZE_MAX);
  assert_true(ckpt_strmap_get(&map, "", 0) == SIZE_MAX);
  assert_true(ckpt_ptrmap_get(&pointers, &map) == SIZE_MAX);
  ckpt_strmap_free(&map);
  ckpt_ptrmap_free(&pointers);
}

static void keys_are_bytes_and_length(void **state) {
  (void)state;
  ckpt_strmap map = {0};
  assert_int_equal(ckpt_strmap_set(&map, "a\0b", 3, 1, NULL), CKPT_OK);
  assert_int_equal(ckpt_strmap_set(&map, "a\0c", 3, 2, NULL), CKPT_OK);
  assert_int_equal(ckpt_strmap_set(&map, "a", 1, 3, NULL), CKPT_OK);
  assert_int_equal(ckpt_strmap_set(&map, "", 0, 4, NULL), CKPT_OK);
  assert_int_equal(map.count, 4);
  assert_int_equal(ckpt_strmap_get(&map, "a\0b", 3), 1);
  assert_int_equal(ckpt_strmap_get(&map, "a\0c", 3), 2);
  assert_int_equal(ckpt_strmap_get(&map, "ab", 1), 3);
  assert_int_equal(ckpt_strmap_get(&map, "x", 0), 4);
  assert_true(ckpt_strmap_get(&map, "a\0", 2) == SIZE_MAX);
  ckpt_strmap_free(&map);
  assert_int_equal(map.count, 0);
}

static void set_replaces(void **state) {
  (void)state;
  ckpt_strmap map = {0};
  char first[] = "key", second[] = "key";
  ckpt_strmap_set(&map, first, 3, 1, NULL);
  ckpt_strmap_set(&map, second, 3, 2, NULL);
  first[0] = 'x'; /* the later key's bytes are the ones that must live */
  assert_int_equal(map.count, 1);
  assert_int_equal(ckpt_strmap_get(&map, "key", 3), 2);
  ckpt_strmap_free(&map);
}

static void many_strings(void **state) {
  (void)state;
  static char keys[MANY][24];
  ckpt_strmap map = {0};
  for (size_t i = 0; i < MANY; i++) {
    int n = snprintf(keys[i], sizeof keys[i], "layer.%zu.weight", i);
    assert_int_equal(ckpt_strmap_set(&map, keys[i], (size_t)n, i, NULL), CKPT_OK);
    assert_true(map.count * 2 <= map.capacity);
  }
  assert_int_equal(map.count, MANY);
  assert_int_equal(map.capacity & (map.capacity - 1), 0);
  for (size_t i = 0; i < MANY; i++) assert_int_equal(ckpt_strmap_get(&map, keys[i], strlen(keys[i])), i);
  for (size_t i = 0; i < MANY; i++) {
    keys[i][0] = 'L';
    assert_true(ckpt_strmap_get(&map, keys[i], strlen(keys[i])) == SIZE_MAX);
    keys[i][0] = 'l';
  }
  ckpt_strmap_free(&map);
}

static void addresses(void **state) {
  (void)state;
  static double things[MANY];
  ckpt_ptrmap map = {0};
  for (size_t i = 0; i < MANY; i += 2) assert_int_equal(ckpt_ptrmap_set(&map, &things[i], i, NULL), CKPT_OK);
  for (size_t i = 0; i < MANY; i += 4) assert_int_equal(ckpt_ptrmap_set(&map, &things[i], i + 1, NULL), CKPT_OK);
  assert_int_equal(map.count, MANY / 2);
  assert_true(map.count * 2 <= map.capacity);
  for (size_t i = 0; i < MANY; i++) {
    size_t wanted = i % 4 == 0 ? i + 1 : i % 2 == 0 ? i : SIZE_MAX;
    assert_true(ckpt_ptrmap_get(&map, &things[i]) == wanted);
  }
  ckpt_ptrmap_free(&map);
  assert_true(ckpt_ptrmap_get(&map, &things[0]) == SIZE_MAX);
}

/* Small numbers serve as addresses too (storage numbers); the values 0 and SIZE_MAX - 1 are values like any other. */
static void numbers_as_addresses(void **state) {
  (void)state;
  ckpt_ptrmap map = {0};
  for (size_t i = 1; i < 5000; i++) ckpt_ptrmap_set(&map, (const void *)(uintptr_t)i, i == 1 ? 0 : SIZE_MAX - i, NULL);
  for (size_t i = 2; i < 5000; i++) assert_true(ckpt_ptrmap_get(&map, (const void *)(uintptr_t)i) == SIZE_MAX - i);
  assert_int_equal(ckpt_ptrmap_get(&map, (const void *)(uintptr_t)1), 0);
  assert_true(ckpt_ptrmap_get(&map, (const void *)(uintptr_t)5000) == SIZE_MAX);
  ckpt_ptrmap_free(&map);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_empty_map_has_nothing),
      cmocka_unit_test(keys_are_bytes_and_length),
      cmocka_unit_test(set_replaces),
      cmocka_unit_test(many_strings),
      cmocka_unit_test(addresses),
      cmocka_unit_test(numbers_as_addresses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
