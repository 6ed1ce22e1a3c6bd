// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup
/*
 * test_keeping.c - saves on request (from a signal handler), saves that are due, saves that are only played; the ledger
 * in memory; means; each allocation of them failing once.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "alloc_faults.h"
#include "fault_io.h"
#include "run.h"

static int set_up(void **state) {
  *state = scratch_new();
  return *state == NULL;
}

static int tear_down(void **state) {
  scratch_free(*state);
  return 0;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

static void in_dir(char out[PATH_MAX], const char *dir, const char *name) {
  assert_true(snprintf(out, PATH_MAX, "%s/%s", dir, name) < PATH_MAX);
}

static const char *write_policy(const char *dir, const char *text) {
  static char path[PATH_MAX];
  in_dir(path, dir, "policy.lua");
  FILE *f = fopen(path, "w");
  assert_non_null(f);
  fputs(text, f);
  fclose(f);
  return path;
}

static float weights[4];
static char run_path[PATH_MAX];

static ckpt_checkpointer *open_run(const char *dir, const char *policy, int rank, bool simulate) {
  ckpt_error err = {0};
  ckpt_checkpointer *cp = NULL;
  in_dir(run_path, dir, "run");
  ckpt_checkpointer_options o = {
      .dir = run_path, .policy = policy, .rank = rank, .simulate = simulate, .simulate_bytes = 10};
  if (ckpt_checkpointer_open(&cp, &o, &err) != CKPT_OK) fail_msg("%s", err.message);
  assert_int_equal(ckpt_bind_tensor(cp, "model", "w", CKPT_F32, weights, 1, (int64_t[]){4}, &err), CKPT_OK);
  return cp;
}

static bool is_there(const char *name) {
  char path[PATH_MAX];
  in_dir(path, run_path, name);
  return access(path, F_OK) == 0;
}

static bool due(ckpt_checkpointer *cp, int64_t epoch) {
  ckpt_error err;
  bool yes = false;
  assert_int_equal(ckpt_should_save(cp, epoch, &yes, &err), CKPT_OK);
  return yes;
}

/* ---- requests ---- */

static ckpt_checkpointer *signalled;

static void on_signal(int sig) {
  (void)sig;
  ckpt_request_save(signalled);
}

static void a_signal_asks_for_one_save(void **state) {
  ckpt_error err;
  ckpt_checkpointer *cp = open_run(*state, write_policy(*state, "return { when = { epochs = 100 } }"), 0, false);
  signalled = cp;
  signal(SIGUSR1, on_signal);
  assert_false(ckpt_save_requested(cp));
  assert_false(due(cp, 1));
  assert_int_equal(ckpt_save(cp, 1, &err), CKPT_OK);
  assert_false(is_there("model_epoch1.pth"));
  raise(SIGUSR1);
  signal(SIGUSR1, SIG_DFL);
  assert_true(ckpt_save_requested(cp));
  assert_true(due(cp, 2));
  assert_true(due(cp, 2)); /* asking does not take it back */
  assert_int_equal(ckpt_save(cp, 2, &err), CKPT_OK);
  assert_true(is_there("model_epoch2.pth"));
  assert_false(ckpt_save_requested(cp));
  assert_int_equal(ckpt_save(cp, 3, &err), CKPT_OK);
  assert_false(is_there("model_epoch3.pth"));
  ckpt_set_final(cp, true);
  assert_int_equal(ckpt_save(cp, 4, &err), CKPT_OK);
  assert_true(is_there("model_epoch4.pth"));
  ckpt_checkpointer_close(cp);
}

static void a_save_that_fails_leaves_the_request(void **state) {
  ckpt_error err;
  char blocked[PATH_MAX];
  ckpt_checkpointer *cp = open_run(*state, write_policy(*state, "return { when = { epochs = 100 } }"), 0, false);
  in_dir(blocked, run_path, "model_epoch1.pth");
  assert_int_equal(mkdir(blocked, 0700), 0);
  ckpt_request_save(cp);
  assert_int_equal(ckpt_save(cp, 1, &err), CKPT_E_IO);
  assert_true(ckpt_save_requested(cp));
  assert_int_equal(rmdir(blocked), 0);
  assert_int_equal(ckpt_save(cp, 1, &err), CKPT_OK);
  assert_true(is_there("model_epoch1.pth"));
  ckpt_checkpointer_close(cp);
}

static void other_ranks_never_save(void **state) {
  ckpt_error err;
  ckpt_checkpointer *cp = open_run(*state, "default", 1, false);
  ckpt_request_save(cp);
  assert_false(due(cp, 1));
  assert_int_equal(ckpt_save(cp, 1, &err), CKPT_OK);
  assert_int_equal(access(run_path, F_OK), -1);
  ckpt_checkpointer_close(cp);
}

static void the_clock_can_be_set(void **state) {
  ckpt_error err;
  ckpt_ledger *ledger = NULL;
  ckpt_checkpointer *cp = open_run(*state, write_policy(*state, "return { when = { minutes = 10 } }"), 0, false);
  ckpt_set_time(cp, 1000);
  assert_int_equal(ckpt_save(cp, 1, &err), CKPT_OK);
  ckpt_set_time(cp, 1599);
  assert_false(due(cp, 2));
  ckpt_set_time(cp, 1600);
  assert_true(due(cp, 2));
  assert_int_equal(ckpt_ledger_read(&ledger, cp->dir, &err), CKPT_OK);
  assert_int_equal(ledger->entries[0].time, 1000);
  ckpt_ledger_free(ledger);
  ckpt_checkpointer_close(cp);
}

/* ---- saves that are played ---- */

static void a_simulated_run_writes_nothing(void **state) {
  ckpt_error err;
  bool improved = false;
  ckpt_checkpointer *cp = open_run(*state, "default", 0, true);
  for (int64_t epoch = 1; epoch <= 5; epoch++) {
    ckpt_set_metric(cp, "acc", epoch == 2 ? 0.9 : 0.1, &err);
    assert_int_equal(ckpt_save(cp, epoch, &err), CKPT_OK);
    assert_int_equal(ckpt_save_best(cp, epoch, &improved, &err), CKPT_OK);
    assert_int_equal(improved, epoch <= 2);
  }
  assert_int_equal(access(run_path, F_OK), -1);
  assert_int_equal(cp->model->n, 6); /* epochs 2 to 5, the latest, the best */
  assert_int_equal(cp->model->most_files, 4);
  assert_int_equal(cp->model->most_bytes, 40);
  assert_string_equal(cp->model->files[0].name, "model_best.pth");
  assert_int_equal(cp->model->files[0].inode, cp->model->files[1].inode);
  ckpt_checkpointer_close(cp);
}

/* ---- the ledger ---- */

static ckpt_ledger_entry entry_of(char *event, char *file) {
  return (ckpt_ledger_entry){.event = event, .time = 7, .epoch = 3, .step = INT64_MIN, .file = file};
}

static void a_ledger_is_read_again_when_it_has_changed(void **state) {
  ckpt_error err;
  ckpt_dir *dir = NULL;
  ckpt_ledger *ledger = NULL;
  ckpt_ledger_stamp stamp = {0};
  char save[] = "save", file[] = "a.pth";
  ckpt_ledger_entry e = entry_of(save, file);
  assert_int_equal(ckpt_dir_open(&dir, *state, false, true, NULL, &err), CKPT_OK);
  assert_int_equal(ckpt_ledger_refresh(&ledger, &stamp, dir, &err), CKPT_OK);
  assert_int_equal(ledger->n, 0);
  ckpt_ledger *before = ledger;
  assert_int_equal(ckpt_ledger_refresh(&ledger, &stamp, dir, &err), CKPT_OK);
  assert_ptr_equal(before, ledger);
  for (size_t n = 1; n <= 3; n++) {
    assert_int_equal(ckpt_ledger_append(dir, &e, &err), CKPT_OK);
    assert_int_equal(ckpt_ledger_refresh(&ledger, &stamp, dir, &err), CKPT_OK);
    assert_int_equal(ledger->n, n);
    before = ledger;
    assert_int_equal(ckpt_ledger_refresh(&ledger, &stamp, dir, &err), CKPT_OK);
    assert_ptr_equal(before, ledger);
  }
  ckpt_ledger_free(ledger);
  ckpt_dir_close(dir);
}

static void a_pin_holds_until_it_is_taken_away(void **state) {
  ckpt_error err;
  ckpt_ledger *ledger = calloc(1, sizeof *ledger);
  char pin[] = "pin", unpin[] = "unpin", a[] = "a.pth", b[] = "b.pth";
  const ckpt_ledger_entry list[] = {entry_of(pin, a), entry_of(pin, b), entry_of(unpin, a), entry_of(unpin, b),
                                    entry_of(pin, b)};
  (void)state;
  assert_false(ckpt_ledger_pinned(NULL, "a.pth"));
  assert_false(ckpt_ledger_pinned(ledger, "a.pth"));
  static const bool a_is[] = {true, true, false, false, false}, b_is[] = {false, true, true, false, true};
  for (size_t i = 0; i < CKPT_COUNTOF(list); i++) {
    assert_int_equal(ckpt_ledger_add(ledger, &list[i], &err), CKPT_OK);
    assert_int_equal(ckpt_ledger_pinned(ledger, "a.pth"), a_is[i]);
    assert_int_equal(ckpt_ledger_pinned(ledger, "b.pth"), b_is[i]);
  }
  assert_int_equal(ledger->entries[4].epoch, 3);
  assert_int_equal(ledger->entries[4].step, INT64_MIN);
  ckpt_ledger_free(ledger);
}

/* ---- allocations ---- */

static ckpt_status play_model(void *context, ckpt_error *err) {
  char save[] = "save", file[] = "a.pth", alias[] = "b.pth", old[] = "old.pth";
  char *aliases[] = {alias}, *retire[] = {old};
  ckpt_model *m = NULL;
  ckpt_save_plan plan = {.file = file, .aliases = {aliases, 1, 1}, .retire = {retire, 1, 1}};
  ckpt_ledger_entry e = entry_of(save, file);
  CKPT_TRY(ckpt_model_new(&m, context, 10, err));
  ckpt_status st = CKPT_OK;
  for (int i = 0; st == CKPT_OK && i < 20; i++) st = ckpt_model_do(m, &plan, &e, 5, err);
  ckpt_model_free(m);
  return st;
}

static ckpt_status take_mean(void *context, ckpt_error *err) {
  const ckpt_tensor *list[] = {context, context, context};
  ckpt_tensor *mean = NULL;
  const void *data = NULL;
  CKPT_TRY(ckpt_tensor_average(&mean, 3, list, err));
  ckpt_status st = ckpt_tensor_data(&data, mean, err);
  if (st == CKPT_OK && memcmp(data, (float[]){1, 2, 3, 4}, 16) != 0)
    st = ckpt_fail(err, CKPT_E_CORRUPT, -1, "another mean");
  ckpt_tensor_release(mean);
  return st;
}

static void memory_may_end_anywhere(void **state) {
  ckpt_error err;
  ckpt_tensor *t = NULL;
  char none[PATH_MAX];
  in_dir(none, *state, "none");
  assert_true(fail_each_allocation(play_model, none) > 20);
  assert_int_equal(ckpt_tensor_new(&t, CKPT_F32, 1, (int64_t[]){4}, &err), CKPT_OK);
  const void *data = NULL;
  assert_int_equal(ckpt_tensor_data(&data, t, &err), CKPT_OK);
  memcpy((void *)(uintptr_t)data, (float[]){1, 2, 3, 4}, 16);
  assert_true(fail_each_allocation(take_mean, t) > 2);
  ckpt_tensor_release(t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_signal_asks_for_one_save),
      TEST(a_save_that_fails_leaves_the_request),
      TEST(other_ranks_never_save),
      TEST(the_clock_can_be_set),
      TEST(a_simulated_run_writes_nothing),
      TEST(a_ledger_is_read_again_when_it_has_changed),
      TEST(a_pin_holds_until_it_is_taken_away),
      TEST(memory_may_end_anywhere),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
