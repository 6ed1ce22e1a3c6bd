// LDFLAGS: -Wl,--wrap=realloc,--wrap=malloc,--wrap=calloc,--wrap=free
/* test_sandbox_limits.c - budgets and the memory limit (T18): exact, the same each time, given back. */
#include "sandbox_fixture.h"

/* ---- Memory --------------------------------------------------------------------------------------------- */

static void memory_limit_holds_exactly(void **state) {
  (void)state;
  const size_t limit = (size_t)1 << 20;
  size_t outside = live;
  ckpt_sandbox *s = open_with(limit, 0);
  peak = live;
  must_run(s,
           "local t, size = {}, 1 << 18\n"
           "while size > 0 do if not pcall(function() t = { t, ('x'):rep(size) } end) then size = size >> 1 end end");
  assert_true(peak - outside <= limit);
  assert_true(peak - outside > limit - 256);
  assert_int_equal(live - outside, ckpt_sandbox_memory(s));
  must_run(s, "assert(#('x'):rep(100000) == 100000)");
  ckpt_sandbox_free(s);
  assert_int_equal(live, outside);
}

static void a_shrink_never_fails(void **state) {
  (void)state;
  void *ud;
  ckpt_sandbox *s = open_default();
  lua_Alloc allocate = lua_getallocf(ckpt_sandbox_state(s), &ud);
  int64_t before = ckpt_sandbox_memory(s);
  void *p = allocate(ud, NULL, LUA_TTABLE, 1000);
  assert_int_equal(ckpt_sandbox_memory(s), before + 1000);
  countdown = 1;
  fail_on = true;
  void *q = allocate(ud, p, 1000, 10), *r = allocate(ud, q, 10, 2000);
  countdown = -1;
  assert_ptr_equal(q, p);
  assert_null(r);
  assert_int_equal(ckpt_sandbox_memory(s), before + 10);
  assert_null(allocate(ud, q, 10, 0));
  assert_int_equal(ckpt_sandbox_memory(s), before);
  ckpt_sandbox_free(s);
}

static void out_of_memory_has_its_sentence(void **state) {
  (void)state;
  ckpt_sandbox *s = open_with(0, 0);
  must_say(s, "local t = {}\nwhile true do t[#t + 1] = {} end",
           "policies/x.lua: used more than 64 MiB of memory (4 MiB for one string): stopped");
  must_run(s, "local t = {} for i = 1, 1000 do t[i] = {} end");
  ckpt_sandbox_free(s);
  s = open_with(300000, 0);
  must_say(s, "local t = {}\nwhile true do t[#t + 1] = {} end",
           "policies/x.lua: used more than 300000 bytes of memory (4 MiB for one string): stopped");
  ckpt_sandbox_free(s);
}

static void a_limit_too_small_for_the_libraries_is_refused(void **state) {
  (void)state;
  static const size_t limits[] = {1, 100, 2000, 5000, 10000};
  for (size_t i = 0; i < CKPT_COUNTOF(limits); i++) {
    ckpt_error err;
    ckpt_sandbox *s = NULL;
    ckpt_sandbox_options o = {.memory_limit = limits[i]};
    assert_int_equal(ckpt_sandbox_new(&s, &o, &err), CKPT_E_LIMIT);
    assert_null(s);
    assert_non_null(strstr(err.message, "an empty policy environment does not fit into"));
  }
  assert_int_equal(blocks, 0);
}

/* One life of a sandbox: everything that allocates. */
static ckpt_status live_once(ckpt_error *err) {
  ckpt_sandbox *s = NULL;
  ckpt_sandbox_options o = {.base_dir = "policies", .embedded = embedded, .print = collect, .user = printed};
  int ref = 12345;
  ckpt_status st = ckpt_sandbox_new(&s, &o, err);
  if (st != CKPT_OK) assert_null(s);
  if (st == CKPT_OK) st = ckpt_sandbox_load(&ref, s, "policies/oom.lua", err);
  if (st != CKPT_OK) assert_int_equal(ref, 12345);
  ckpt_sandbox_free(s);
  return st;
}

static void fail_each(bool all_later, long *reached) {
  for (long n = 1;; n++) {
    ckpt_error err = {.message = ""};
    countdown = n;
    fail_on = all_later;
    failed = false;
    ckpt_status st = live_once(&err);
    countdown = -1;
    if (st != CKPT_OK && st != CKPT_E_NOMEM) fail_msg("allocation %ld: status %d, %s", n, st, err.message);
    if (failed && all_later) assert_int_equal(st, CKPT_E_NOMEM);
    if (blocks != 0) fail_msg("allocation %ld: %zu blocks left", n, blocks);
    *reached = n;
    if (!failed) return;
  }
}

static void every_allocation_may_fail(void **state) {
  (void)state;
  long once = 0, all = 0;
  write_text("policies/oom.lua",
             "local m = require 'default'; local t = {} for i = 1, 20 do t[i] = { i .. '' } end\n"
             "local c = {} for w in ('a b c'):gmatch('%a') do table.insert(c, w) end\n"
             "table.sort(c, function(a, b) return a > b end) print(table.concat(c))\n"
             "return { m, t, tostring(m) }");
  fail_each(true, &all);
  fail_each(false, &once);
  assert_true(all > 200);
  assert_true(once > 200);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(memory_limit_holds_exactly),
      cmocka_unit_test(a_shrink_never_fails),
      cmocka_unit_test(out_of_memory_has_its_sentence),
      cmocka_unit_test(a_limit_too_small_for_the_libraries_is_refused),
      cmocka_unit_test(every_allocation_may_fail),
  };
  return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
