/* test_base.c - statuses against the X-macro, error messages, checked arithmetic, little-endian access. */
#include <ctype.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base.h"

typedef struct status_row {
  ckpt_status status;
  int value;
  const char *name, *text;
} status_row;

static const status_row rows[] = {
#define CKPT_X(name, value, text) {CKPT_##name, value, #name, text},
    CKPT_STATUS_MAP(CKPT_X)
#undef CKPT_X
};

static void every_status_has_its_text(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(rows); i++) {
    assert_int_equal(rows[i].status, rows[i].value);
    assert_string_equal(ckpt_status_text(rows[i].status), rows[i].text);
    assert_int_equal(rows[i].value, -(int)i); /* no gap: Lua counts down until the text is unknown */
  }
  assert_string_equal(ckpt_status_text((ckpt_status)-1000), "unknown status");
  assert_string_equal(ckpt_status_text((ckpt_status)1), "unknown status");
}

/* The switch in base.c is written by hand; the table is not. */
static void every_status_has_its_name(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(rows); i++) {
    const char *from = rows[i].name;
    char lower[64] = "";
    if (strncmp(from, "E_", 2) == 0) from += 2;
    for (size_t k = 0; from[k] != '\0'; k++) lower[k] = (char)tolower((unsigned char)from[k]);
    assert_string_equal(ckpt_status_name(rows[i].status), lower);
  }
  assert_string_equal(ckpt_status_name((ckpt_status)-1000), "unknown");
}

static void fail_fills_everything(void **state) {
  (void)state;
  ckpt_error err;
  memset(&err, 0xff, sizeof err);
  assert_int_equal(ckpt_fail(&err, CKPT_E_RANGE, 17, "%d of %s", 3, "four"), CKPT_E_RANGE);
  assert_int_equal(err.status, CKPT_E_RANGE);
  assert_int_equal(err.sys, 0);
  assert_int_equal(err.position, 17);
  assert_string_equal(err.message, "3 of four");
  assert_int_equal(ckpt_fail(NULL, CKPT_E_BUSY, 0, "%s", "nobody listens"), CKPT_E_BUSY);
}

static void long_messages_are_cut(void **state) {
  (void)state;
  char text[2000];
  ckpt_error err = {0};
  memset(text, 'x', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  ckpt_fail(&err, CKPT_E_IO, -1, "%s", text);
  assert_int_equal(strlen(err.message), sizeof err.message - 1);
  ckpt_fail_errno(&err, ENOENT, "%s", text);
  assert_int_equal(strlen(err.message), sizeof err.message - 1);
  text[300] = '\0';
  ckpt_fail_in(&err, CKPT_E_IO, text);
  assert_int_equal(strlen(err.message), sizeof err.message - 1);
  assert_memory_equal(err.message + 300, ": xxx", 5);
  text[300] = 'x';
  ckpt_fail_in(&err, CKPT_E_IO, text);
  assert_int_equal(strlen(err.message), sizeof err.message - 1);
}

static void errno_follows_the_message(void **state) {
  (void)state;
  ckpt_error err = {0};
  assert_int_equal(ckpt_fail_errno(&err, ENOENT, "%s: cannot open", "a.pth"), CKPT_E_IO);
  assert_string_equal(err.message, "a.pth: cannot open: No such file or directory");
  assert_int_equal(err.sys, ENOENT);
  assert_int_equal(err.position, -1);
  assert_int_equal(err.status, CKPT_E_IO);
  assert_int_equal(ckpt_fail_errno(NULL, EIO, "x"), CKPT_E_IO);
}

static void out_of_memory_names_the_bytes(void **state) {
  (void)state;
  ckpt_error err = {0};
  assert_int_equal(ckpt_fail_nomem(&err, 4711), CKPT_E_NOMEM);
  assert_string_equal(err.message, "out of memory: 4711 bytes could not be had");
  assert_int_equal(err.position, -1);
  assert_int_equal(ckpt_fail_nomem(NULL, 1), CKPT_E_NOMEM);
}

static void context_goes_before(void **state) {
  (void)state;
  ckpt_error err = {0};
  ckpt_fail(&err, CKPT_E_CORRUPT, 9, "bad");
  assert_int_equal(ckpt_fail_in(&err, CKPT_E_IO, "data.pkl"), CKPT_E_CORRUPT); /* the error's own status wins */
  assert_int_equal(ckpt_fail_in(&err, CKPT_E_IO, "a.pth"), CKPT_E_CORRUPT);
  assert_string_equal(err.message, "a.pth: data.pkl: bad");
  assert_int_equal(err.position, 9);
  assert_int_equal(ckpt_fail_in(NULL, CKPT_E_LIMIT, "a.pth"), CKPT_E_LIMIT);
}

static ckpt_status try_it(ckpt_status st, bool *went_on) {
  CKPT_TRY(st);
  *went_on = true;
  return CKPT_OK;
}

static ckpt_status go_it(ckpt_status call, bool *went_on) {
  ckpt_status st = CKPT_OK;
  CKPT_GO(call);
  *went_on = true;
done:
  return st;
}

static void macros_leave_on_failure(void **state) {
  (void)state;
  bool tried = false, gone = false;
  assert_int_equal(try_it(CKPT_E_TYPE, &tried), CKPT_E_TYPE);
  assert_int_equal(go_it(CKPT_E_TYPE, &gone), CKPT_E_TYPE);
  assert_false(tried || gone);
  assert_int_equal(try_it(CKPT_OK, &tried), CKPT_OK);
  assert_int_equal(go_it(CKPT_OK, &gone), CKPT_OK);
  assert_true(tried && gone);
}

static void sizes_are_checked(void **state) {
  (void)state;
  size_t n = 0;
  assert_true(ckpt_add_size(&n, SIZE_MAX - 1, 1));
  assert_true(n == SIZE_MAX);
  assert_false(ckpt_add_size(&n, SIZE_MAX, 1));
  assert_false(ckpt_add_size(&n, SIZE_MAX / 2 + 1, SIZE_MAX / 2 + 1));
  assert_true(ckpt_mul_size(&n, SIZE_MAX / 3, 3));
  assert_true(n == SIZE_MAX / 3 * 3);
  assert_false(ckpt_mul_size(&n, SIZE_MAX / 3 + 1, 3));
  assert_false(ckpt_mul_size(&n, (size_t)1 << 32, (size_t)1 << 32));
  assert_true(ckpt_mul_size(&n, 0, SIZE_MAX));
  assert_int_equal(n, 0);
}

static void signed_numbers_are_checked(void **state) {
  (void)state;
  int64_t n = 0;
  assert_true(ckpt_add_i64(&n, INT64_MAX - 1, 1));
  assert_true(n == INT64_MAX);
  assert_false(ckpt_add_i64(&n, INT64_MAX, 1));
  assert_false(ckpt_add_i64(&n, INT64_MIN, -1));
  assert_true(ckpt_add_i64(&n, INT64_MIN, INT64_MAX));
  assert_true(n == -1);
  assert_true(ckpt_mul_i64(&n, INT64_C(3037000499), INT64_C(3037000499)));
  assert_false(ckpt_mul_i64(&n, INT64_C(3037000500), INT64_C(3037000500)));
  assert_false(ckpt_mul_i64(&n, INT64_MIN, -1));
  assert_true(ckpt_mul_i64(&n, INT64_MIN, 1));
  assert_true(n == INT64_MIN);
}

static void little_endian(void **state) {
  (void)state;
  unsigned char b[10] = {0xee, 0x01, 0x82, 0x03, 0x84, 0x05, 0x86, 0x07, 0xf8, 0xee};
  assert_int_equal(ckpt_le16(b + 1), 0x8201);
  assert_true(ckpt_le32(b + 1) == 0x84038201u);
  assert_true(ckpt_le64(b + 1) == 0xf807860584038201u);
  unsigned char to[10] = {0};
  ckpt_put64(to + 1, 0xf807860584038201u);
  assert_memory_equal(to + 1, b + 1, 8);
  assert_int_equal(to[0] + to[9], 0);
  memset(to, 0, sizeof to);
  ckpt_put32(to + 1, 0x84038201u);
  assert_memory_equal(to + 1, b + 1, 4);
  assert_int_equal(to[5], 0);
  memset(to, 0, sizeof to);
  ckpt_put16(to + 1, 0x8201);
  assert_memory_equal(to + 1, b + 1, 2);
  assert_int_equal(to[3], 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_status_has_its_text),
      cmocka_unit_test(every_status_has_its_name),
      cmocka_unit_test(fail_fills_everything),
      cmocka_unit_test(long_messages_are_cut),
      cmocka_unit_test(errno_follows_the_message),
      cmocka_unit_test(out_of_memory_names_the_bytes),
      cmocka_unit_test(context_goes_before),
      cmocka_unit_test(macros_leave_on_failure),
      cmocka_unit_test(sizes_are_checked),
      cmocka_unit_test(signed_numbers_are_checked),
      cmocka_unit_test(little_endian),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
