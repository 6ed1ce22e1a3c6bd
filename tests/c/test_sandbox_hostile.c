// LDFLAGS: -Wl,--wrap=realloc,--wrap=malloc,--wrap=calloc,--wrap=free
/*
 * test_sandbox_hostile.c - scripts that would not end (T17), that want all memory (T18), and that must cost the same
 * each time (T21).
 *
 * CKPT_RUNS=100 repeats each script under the deadline and prints the worst; CKPT_LONG=1 fails every allocation.
 */
#include "sandbox_fixture.h"

#include "hostile_scripts.h"

enum { STEP_LIMIT = 250000, SLOW_STEPS = 5000, DEADLINE = 100, WATCHDOG = 120 };

static bool says(size_t i, const char *part) { return hostile[i].part != NULL && strcmp(hostile[i].part, part) == 0; }

static size_t memory_of(size_t i) { return (size_t)(says(i, MEMORY) ? 2 : 16) << 20; }

static uint64_t steps_of(size_t i) {
  bool many = says(i, COLLIDE) || says(i, MEMORY) || hostile[i].part == NULL;
  return says(i, SLOW) ? SLOW_STEPS : many ? 10 * STEP_LIMIT : STEP_LIMIT;
}

static long number_from(const char *variable, long otherwise) {
  const char *text = getenv(variable);
  return text != NULL ? atol(text) : otherwise;
}

/* CPU time: a busy machine does not count. */
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- the budget: what ends a script is a count --------------------------------------------------------- */

static void every_script_ends_within_its_budget(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(hostile); i++) {
    alarm(WATCHDOG);
    ckpt_sandbox *s = open_with(memory_of(i), steps_of(i));
    if (hostile[i].part != NULL)
      must_contain(s, hostile[i].text, hostile[i].part);
    else
      must_run(s, hostile[i].text);
    if (ckpt_sandbox_steps(s) > steps_of(i))
      fail_msg("%s: %llu steps", hostile[i].text, (unsigned long long)ckpt_sandbox_steps(s));
    if (says(i, STEPS) || says(i, SLOW)) assert_int_equal(ckpt_sandbox_steps(s), steps_of(i));
    must_run(s, "assert(1 + 1 == 2 and #('x'):rep(1000) == 1000)");
    ckpt_sandbox_free(s);
  }
  alarm(0);
  print_message("T17: %zu hostile scripts, each ended by the count of its steps\n", CKPT_COUNTOF(hostile));
}

/* ---- the deadline: what ends a script is the clock ------------------------------------------------------ */

/* Seconds beyond the deadline, below 0 where the script ended by itself. */
static double overshoot(size_t i) {
  ckpt_error err = {.message = ""};
  ckpt_sandbox *s = open_with_budget(memory_of(i), UINT64_C(1000000000000), DEADLINE);
  double start = now();
  ckpt_status st = run(s, hostile[i].text, &err);
  double took = now() - start - DEADLINE * 1e-3;
  if (st != CKPT_OK && st != CKPT_E_POLICY) fail_msg("%s: %s", hostile[i].text, err.message);
  must_run(s, "assert(1 + 1 == 2)");
  ckpt_sandbox_free(s);
  return took;
}

/* No limit of time is asserted: the watchdog proves that each ends, the figure is printed. */
static void every_script_ends_at_its_deadline(void **state) {
  (void)state;
  double worst = -1;
  size_t slowest = 0, late = 0;
  long runs = number_from("CKPT_RUNS", 1);
  for (size_t i = 0; i < CKPT_COUNTOF(hostile); i++) {
    double most = -1;
    for (long k = 0; k < runs; k++) {
      alarm(WATCHDOG);
      double over = overshoot(i);
      if (over > most) most = over;
    }
    if (most > 0.020) late++;
    if (most > 0.020) print_message("# %.1f ms over: %s\n", most * 1e3, hostile[i].text);
    if (most > worst) slowest = i;
    if (most > worst) worst = most;
  }
  alarm(0);
  print_message(
      "T17: %zu of %zu scripts ended within %d ms + 20 ms of CPU time, worst of %ld runs each: +%.1f ms (%.60s)\n",
      CKPT_COUNTOF(hostile) - late, CKPT_COUNTOF(hostile), DEADLINE, runs, worst * 1e3, hostile[slowest].text);
}

/* ---- the compiler: no instruction runs while it works -------------------------------------------------- */

static void must_stop_compiling(const char *head, const char *piece, const char *tail) {
  static char text[1 << 20];
  size_t n = (size_t)snprintf(text, sizeof text, "%s", head), m = strlen(piece), last = strlen(tail);
  for (; n + m + last + 1 < sizeof text; n += m) memcpy(text + n, piece, m);
  memcpy(text + n, tail, last + 1);
  ckpt_error err = {.message = ""};
  ckpt_sandbox *s = open_with_budget((size_t)16 << 20, UINT64_C(1000000000000), DEADLINE);
  double start = now();
  alarm(WATCHDOG);
  run(s, text, &err);
  alarm(0);
  print_message("T17: 1 MiB of '%s': %.1f ms, %s\n", piece, (now() - start) * 1e3, err.message);
  must_run(s, "assert(1 + 1 == 2)");
  ckpt_sandbox_free(s);
}

static void texts_that_are_slow_to_compile_are_stopped(void **state) {
  (void)state;
  must_stop_compiling("local a if a", " or a", " then end");
  must_stop_compiling("local a = a", " and a", "");
  must_stop_compiling("local a if a then ", "elseif a then ", "end");
  must_stop_compiling("", "goto a; ", "::a::");
  must_stop_compiling("while a do ", "break ", "end");
  must_stop_compiling("return ", "(", "");
  must_stop_compiling("return ", "{", "");
  must_stop_compiling("local a ", "do local b ", "");
  must_stop_compiling("return ", "a..", "a");
  must_stop_compiling("return ", "- ", "a");
  must_stop_compiling("x = [", "=", "");
}

/* ---- memory (T18): every allocation of every script fails ----------------------------------------------- */

/* The script with its n-th allocation failing (and all later ones). Nothing may be lost, whatever becomes of it. */
static bool fail_at(size_t i, long n, bool later) {
  size_t outside = blocks;
  ckpt_error err = {.message = ""};
  ckpt_sandbox *s = open_with(memory_of(i), 20000);
  int ref = LUA_NOREF;
  countdown = n;
  fail_on = later;
  failed = false;
  ckpt_status st = ckpt_sandbox_load(&ref, s, "policies/x.lua", &err);
  bool reached = failed;
  countdown = -1;
  if (st != CKPT_OK && st != CKPT_E_NOMEM && st != CKPT_E_POLICY)
    fail_msg("%s: allocation %ld: %s", hostile[i].text, n, err.message);
  if (st != CKPT_OK && err.message[0] == '\0') fail_msg("%s: allocation %ld: no message", hostile[i].text, n);
  ckpt_sandbox_free(s);
  if (blocks != outside) fail_msg("%s: allocation %ld: %zu blocks left", hostile[i].text, n, blocks - outside);
  return reached;
}

static void every_allocation_of_every_script_may_fail(void **state) {
  (void)state;
  long total = 0, stride = number_from("CKPT_LONG", 0) != 0 ? 1 : 23;
  for (size_t i = 0; i < CKPT_COUNTOF(hostile); i++) {
    write_text("policies/x.lua", hostile[i].text);
    for (int later = 0; later < 2; later++)
      for (long n = 1; fail_at(i, n, later != 0); n += n < 20 ? 1 : stride + n / 10 * (stride > 1)) total++;
  }
  print_message("T18: %zu scripts with %ld allocations failing, nothing lost\n", CKPT_COUNTOF(hostile), total);
}

static void no_byte_beyond_the_limit(void **state) {
  (void)state;
  size_t most = 0;
  for (size_t i = 0; i < CKPT_COUNTOF(hostile); i++) {
    ckpt_error err;
    size_t limit = (size_t)1 << 20, outside = live;
    ckpt_sandbox *s = open_with(limit, steps_of(i));
    write_text("policies/x.lua", hostile[i].text);
    peak = live;
    size_t before = live - outside;
    int ref = LUA_NOREF;
    ckpt_sandbox_load(&ref, s, "policies/x.lua", &err);
    assert_true(before <= limit);
    if (peak - outside > limit) fail_msg("%s: %zu bytes", hostile[i].text, peak - outside);
    if (peak - outside > most) most = peak - outside;
    if (live - outside != (size_t)ckpt_sandbox_memory(s))
      fail_msg("%s: %zu bytes, of which the sandbox knows %zu", hostile[i].text, live - outside,
               (size_t)ckpt_sandbox_memory(s));
    ckpt_sandbox_free(s);
    assert_int_equal(live, outside);
  }
  print_message("T18: at most %zu of %d bytes handed out\n", most, 1 << 20);
}

/* ---- determinism (T21) --------------------------------------------------------------------------------- */

static void steps_and_messages_are_the_same_each_time(void **state) {
  (void)state;
  uint64_t total = 0;
  for (size_t i = 0; i < CKPT_COUNTOF(hostile); i++) {
    ckpt_error err[2] = {{.message = ""}, {.message = ""}};
    uint64_t steps[2];
    for (int k = 0; k < 2; k++) {
      alarm(WATCHDOG);
      ckpt_sandbox *s = open_with(memory_of(i), steps_of(i));
      run(s, hostile[i].text, &err[k]);
      steps[k] = ckpt_sandbox_steps(s);
      ckpt_sandbox_free(s);
    }
    assert_string_equal(err[0].message, err[1].message);
    if (steps[0] != steps[1])
      fail_msg("%s: %llu steps, then %llu", hostile[i].text, (unsigned long long)steps[0],
               (unsigned long long)steps[1]);
    total += steps[0];
  }
  print_message("T21: %zu scripts twice, the same %llu steps and the same words\n", CKPT_COUNTOF(hostile),
                (unsigned long long)total);
}

/* Decisions that hang on an order, an address or a tie: each prints the same line in every run on every machine. */
static const struct {
  const char *text, *printed;
} decided[] = {
    {"local t = { zeta = 1, alpha = 2, [10] = 3, [2] = 4, [1.5] = 5, [true] = 6, [-1] = 7 }\n"
     "local s = '' for k in pairs(t) do s = s .. tostring(k) .. ' ' end print(s)",
     "true -1 1.5 2 10 alpha zeta |"},
    {"local t = { b = 1, a = 2, c = 3 } print(next(t), next(t, 'a'), (next(t, 'c')))", "a\tb\tnil|"},
    {"print({}, print, tostring(setmetatable({}, { __name = 'thing' })), string.format('%s', {}))",
     "table\tfunction\tthing\ttable|"},
    {"local t = {} for i = 1, 500 do t[i] = { k = i % 3, i = i } end table.sort(t, function(a, b) return a.k < b.k "
     "end)\n"
     "print(t[1].i, t[2].i, t[167].i, t[500].i)",
     "3\t6\t1\t500|"},
    {"print(math.random(1000), math.random(1000))", "742\t50|"},
    {"print(('%.2f %5d %q'):format(1 / 3, 42, 'x\\n'), 'z' < 'a', ('\\u{e9}'):upper() == '\\u{e9}')",
     "0.33    42 \"x\\|\"\tfalse\ttrue|"},
};

static void decisions_are_the_same_each_time(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(decided); i++) {
    ckpt_sandbox *s = open_default();
    must_run(s, decided[i].text);
    if (strcmp(printed, decided[i].printed) != 0) fail_msg("%s: printed %s", decided[i].text, printed);
    ckpt_sandbox_free(s);
  }
}

/* ---- endurance (T20) ----------------------------------------------------------------------------------- */

static int nothing(lua_State *L) {
  (void)L;
  return 0;
}

static int loop_once(lua_State *L) {
  const char *text = lua_touserdata(L, 1);
  if (luaL_loadbufferx(L, text, strlen(text), "@loop.lua", "t") != LUA_OK) return lua_error(L);
  lua_call(L, 0, 0);
  return 0;
}

static int call_policy(lua_State *L) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, *(int *)lua_touserdata(L, 1));
  lua_newtable(L);
  lua_call(L, 1, 1);
  return 0;
}

static int collect_all(lua_State *L) {
  lua_gc(L, LUA_GCCOLLECT);
  return 0;
}

static int64_t settled_memory(ckpt_sandbox *s) {
  assert_int_equal(ckpt_sandbox_call(s, collect_all, NULL, NULL), CKPT_OK);
  return ckpt_sandbox_memory(s);
}

static void a_state_does_not_grow_with_its_calls(void **state) {
  (void)state;
  long calls = number_from("CKPT_CALLS", 100000);
  int ref = LUA_NOREF;
  int64_t before = 0;
  ckpt_sandbox *s = open_default();
  write_text(
      "policies/x.lua",
      "return function(run) local t = setmetatable({}, { __index = run }) for i = 1, 10 do t[i] = ('x'):rep(i) end\n"
      "pcall(error, {}) return { file = ('model_%d.pth'):format(#t), aliases = { t[1]:gsub('x', 'y') } } end");
  assert_int_equal(ckpt_sandbox_load(&ref, s, "policies/x.lua", NULL), CKPT_OK);
  double start = now();
  for (long i = 0; i < calls; i++) {
    assert_int_equal(ckpt_sandbox_call(s, call_policy, &ref, NULL), CKPT_OK);
    if (i == 10) before = settled_memory(s);
  }
  double each = (now() - start) / (double)calls;
  start = now();
  for (long i = 0; i < calls; i++) assert_int_equal(ckpt_sandbox_call(s, nothing, NULL, NULL), CKPT_OK);
  double gate = (now() - start) / (double)calls;
  assert_int_equal(settled_memory(s), before);
  print_message("T20: %ld calls, state size +-0 bytes, %.2f us a call, %.2f us of it for the gate\n", calls, each * 1e6,
                gate * 1e6);
  ckpt_sandbox_free(s);
}

/* ---- budgets ------------------------------------------------------------------------------------------- */

static void exhaustion_names_the_line(void **state) {
  (void)state;
  must_say_fresh("\nlocal function f()\n  while true do end\nend\npcall(f)\n",
                 "policies/x.lua:3: ran for more than 1,000,000 steps: stopped");
  ckpt_sandbox *s = open_with(0, 0);
  must_say(s, "while true do end", "policies/x.lua:1: ran for more than 50,000,000 steps: stopped");
  must_say(s, "table.move({}, 1, 1 << 62, 2)", "policies/x.lua:1: ran for more than 50,000,000 steps: stopped");
  ckpt_sandbox_free(s);
  s = open_with_budget(0, UINT64_C(1000000000000), 30);
  must_say(s, "\nwhile true do end", "policies/x.lua:2: ran for more than 30 ms: stopped");
  must_say(s, "while true do pcall(string.find, ('a'):rep(9999), '.-.-.-b') end",
           "policies/x.lua:1: ran for more than 30 ms: stopped");
  ckpt_sandbox_free(s);
}

static void each_call_has_a_fresh_budget(void **state) {
  (void)state;
  ckpt_sandbox *s = open_with(0, 100000);
  char text[] = "for i = 1, 60000 do end";
  for (int i = 0; i < 50; i++) assert_int_equal(ckpt_sandbox_call(s, loop_once, text, NULL), CKPT_OK);
  char twice[] = "for i = 1, 120000 do end";
  assert_int_equal(ckpt_sandbox_call(s, loop_once, twice, NULL), CKPT_E_POLICY);
  assert_int_equal(ckpt_sandbox_call(s, loop_once, text, NULL), CKPT_OK);
  ckpt_sandbox_budget more = {.steps = 200000};
  assert_int_equal(ckpt_sandbox_call_with(s, &more, loop_once, twice, NULL), CKPT_OK);
  assert_in_range(ckpt_sandbox_steps(s), 120000, 122000);
  assert_int_equal(ckpt_sandbox_call_with(s, NULL, loop_once, twice, NULL), CKPT_E_POLICY);
  ckpt_sandbox_free(s);
}

static int call_inner(lua_State *L) {
  ckpt_status *inner = lua_touserdata(L, 1);
  char text[] = "while true do end";
  *inner = ckpt_sandbox_call(ckpt_sandbox_of(L), loop_once, text, NULL);
  ckpt_sandbox_charge(L, 1);
  return 0;
}

static void an_inner_call_spends_the_outer_budget(void **state) {
  (void)state;
  ckpt_sandbox *s = open_default();
  ckpt_error err;
  ckpt_status inner = CKPT_OK;
  assert_int_equal(ckpt_sandbox_call(s, call_inner, &inner, &err), CKPT_E_POLICY);
  assert_int_equal(inner, CKPT_E_POLICY);
  assert_string_equal(err.message, "loop.lua:1: ran for more than 1,000,000 steps: stopped");
  must_run(s, "for i = 1, 1000 do end");
  ckpt_sandbox_free(s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_script_ends_within_its_budget),
      cmocka_unit_test(every_script_ends_at_its_deadline),
      cmocka_unit_test(texts_that_are_slow_to_compile_are_stopped),
      cmocka_unit_test(every_allocation_of_every_script_may_fail),
      cmocka_unit_test(no_byte_beyond_the_limit),
      cmocka_unit_test(steps_and_messages_are_the_same_each_time),
      cmocka_unit_test(decisions_are_the_same_each_time),
      cmocka_unit_test(a_state_does_not_grow_with_its_calls),
      cmocka_unit_test(exhaustion_names_the_line),
      cmocka_unit_test(each_call_has_a_fresh_budget),
      cmocka_unit_test(an_inner_call_spends_the_outer_budget),
  };
  cmocka_set_test_filter(getenv("CKPT_ONLY"));
  return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
