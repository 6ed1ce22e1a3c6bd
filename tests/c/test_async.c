/*
 * test_async.c - saves in a thread, and saves over the blocks of retired files: what is saved is what was bound when
 * the call was made; the directory ends as if each save had been waited for; a failure is told and costs no old file; a
 * file that somebody has open is left alone.
 */
#include <pthread.h>
#include <semaphore.h>

#include "publish_fixture.h"
#include "run.h"

enum { WEIGHTS = 4096 };

typedef struct run_fixture {
  ckpt_checkpointer *cp;
  float w[WEIGHTS], momentum[WEIGHTS];
  ckpt_error err;
  char policy[PATH_MAX];
  char lines[4096]; /* what was logged */
} run_fixture;

static void remember_line(void *user, ckpt_log_level level, const char *line) {
  run_fixture *f = user;
  size_t n = strlen(f->lines);
  (void)level;
  snprintf(f->lines + n, sizeof f->lines - n, "%s\n", line);
}

static void write_policy(run_fixture *f, const char *path, const char *fields) {
  snprintf(f->policy, sizeof f->policy, "%s.lua", path);
  FILE *file = fopen(f->policy, "w");
  fprintf(file, "local policy = require 'policies.default'()\n%s\nreturn policy\n", fields);
  fclose(file);
}

static run_fixture *open_run(const char *path, const char *fields, const ckpt_io *io) {
  run_fixture *f = calloc(1, sizeof *f);
  write_policy(f, path, fields);
  ckpt_checkpointer_options o = {.dir = path, .policy = f->policy, .log = remember_line, .log_user = f};
  if (ckpt_checkpointer_open_io(&f->cp, &o, io, &f->err) != CKPT_OK) fail_msg("%s", f->err.message);
  int64_t shape[] = {WEIGHTS};
  assert_int_equal(ckpt_bind_tensor(f->cp, "model", "w", CKPT_F32, f->w, 1, shape, &f->err), CKPT_OK);
  assert_int_equal(ckpt_bind_tensor(f->cp, "optimizer", "w.m", CKPT_F32, f->momentum, 1, shape, &f->err), CKPT_OK);
  return f;
}

static void close_run(run_fixture *f) {
  ckpt_checkpointer_close(f->cp);
  unlink(f->policy);
  free(f);
}

/* The arrays of an epoch: a number in each element that no other epoch has. */
static void train(run_fixture *f, int epoch) {
  for (int i = 0; i < WEIGHTS; i++) {
    f->w[i] = (float)(epoch * 10000 + i);
    f->momentum[i] = -f->w[i];
  }
}

/* Whether the file is whole and of that epoch. */
static bool holds(const char *dir, const char *name, int epoch) {
  static const ckpt_open_options verify = {.verify = true};
  char path[PATH_MAX];
  ckpt_checkpoint *cp = NULL;
  const void *data = NULL;
  ckpt_error err = {0};
  if (ckpt_checkpoint_open(&cp, join(path, dir, name), &verify, &err) != CKPT_OK) return false;
  const ckpt_value *model = ckpt_value_get(ckpt_checkpoint_root(cp), "model");
  ckpt_tensor *t = ckpt_value_tensor(ckpt_value_get(model, "w"));
  bool same = t != NULL && ckpt_tensor_data(&data, t, &err) == CKPT_OK &&
              ((const float *)data)[5] == (float)(epoch * 10000 + 5) &&
              ((const float *)data)[WEIGHTS - 1] == (float)(epoch * 10000 + WEIGHTS - 1);
  ckpt_checkpoint_close(cp);
  return same;
}

static void save_epoch(run_fixture *f, int epoch, bool async) {
  bool improved;
  train(f, epoch);
  assert_int_equal(ckpt_set_metric(f->cp, "acc", 0.5 + (epoch * 7 % 5) / 100.0, &f->err), CKPT_OK);
  ckpt_status st = async ? ckpt_save_async(f->cp, epoch, &f->err) : ckpt_save(f->cp, epoch, &f->err);
  if (st != CKPT_OK) fail_msg("%s", f->err.message);
  st =
      async ? ckpt_save_best_async(f->cp, epoch, &improved, &f->err) : ckpt_save_best(f->cp, epoch, &improved, &f->err);
  if (st != CKPT_OK) fail_msg("%s", f->err.message);
}

/* ---- snapshots ---- */

static void what_was_bound_at_the_call_is_saved(void **state) {
  run_fixture *f = open_run(*state, "", NULL);
  save_epoch(f, 1, true);
  train(f, 99); /* goes on at once */
  assert_int_equal(ckpt_wait(f->cp, &f->err), CKPT_OK);
  assert_true(holds(*state, "model_epoch1.pth", 1));
  assert_true(holds(*state, "model_latest.pth", 1));
  assert_true(holds(*state, "model_best.pth", 1));
  close_run(f);
}

/* Names and sizes of what is there, and the ledger without its times. */
static void describe_run(char *out, size_t size, const char *path) {
  ckpt_dir *dir = NULL;
  ckpt_dir_entry *list = NULL;
  ckpt_ledger *ledger = NULL;
  size_t n = 0, at = 0;
  assert_int_equal(ckpt_dir_open(&dir, path, false, false, NULL, NULL), CKPT_OK);
  assert_int_equal(ckpt_dir_list(&list, &n, dir, NULL), CKPT_OK);
  assert_int_equal(ckpt_ledger_read(&ledger, dir, NULL), CKPT_OK);
  for (size_t i = 0; i < n; i++) at += (size_t)snprintf(out + at, size - at, "%s ", list[i].name);
  for (size_t i = 0; i < ledger->n; i++) {
    const ckpt_ledger_entry *e = &ledger->entries[i];
    at += (size_t)snprintf(out + at, size - at, "\n%s %lld %s %llu %zu %zu %d", e->event, (long long)e->epoch, e->file,
                           (unsigned long long)e->bytes, e->n_aliases, e->n_retired, e->best);
  }
  ckpt_ledger_free(ledger);
  ckpt_dir_list_free(list, n);
  ckpt_dir_close(dir);
}

static void ten_epochs(const char *path, const char *fields, bool async, char *out, size_t size) {
  run_fixture *f = open_run(path, fields, NULL);
  for (int epoch = 1; epoch <= 10; epoch++) save_epoch(f, epoch, async);
  assert_int_equal(ckpt_wait(f->cp, &f->err), CKPT_OK);
  describe_run(out, size, path);
  close_run(f);
}

static void the_directory_ends_as_if_each_had_been_waited_for(void **state) {
  static const char keep[] = "policy.keep = { last = 2, best = 1 }";
  char waited[4096], beside[4096], by_policy[4096];
  ten_epochs(*state, keep, false, waited, sizeof waited);
  scratch_remove(*state);
  ten_epochs(*state, keep, true, beside, sizeof beside);
  assert_string_equal(waited, beside);
  scratch_remove(*state);
  ten_epochs(*state, "policy.keep, policy.async = { last = 2, best = 1 }, true", false, by_policy, sizeof by_policy);
  assert_string_equal(waited, by_policy);
  assert_int_equal(mkdir(*state, 0700) == 0 || errno == EEXIST, 1);
}

static void closing_waits(void **state) {
  run_fixture *f = open_run(*state, "", NULL);
  save_epoch(f, 1, true);
  save_epoch(f, 2, true);
  close_run(f);
  assert_true(holds(*state, "model_epoch2.pth", 2));
  assert_clean(*state);
}

static void log_lines_come_in_the_callers_thread(void **state) {
  run_fixture *f = open_run(*state, "", NULL);
  train(f, 1);
  assert_int_equal(ckpt_save_async(f->cp, 1, &f->err), CKPT_OK);
  assert_string_equal(f->lines, "");
  assert_int_equal(ckpt_wait(f->cp, &f->err), CKPT_OK);
  assert_string_equal(f->lines, "Saved model_epoch1.pth.\n");
  close_run(f);
}

/* ---- failures ---- */

static void a_failure_comes_with_the_next_call(void **state) {
  fault_io io;
  fault_init(&io);
  run_fixture *f = open_run(*state, "policy.keep = { last = 1, best = 0 }", &io.io);
  train(f, 1);
  assert_int_equal(ckpt_save_async(f->cp, 1, &f->err), CKPT_OK);
  assert_int_equal(ckpt_wait(f->cp, &f->err), CKPT_OK);
  fault_rule(&io, "fsync", 1, 1, EIO); /* the next file is lost */
  train(f, 2);
  assert_int_equal(ckpt_save_async(f->cp, 2, &f->err), CKPT_OK);
  assert_int_equal(ckpt_wait(f->cp, &f->err), CKPT_E_IO);
  ASSERT_STARTS(f->err.message, "the save of epoch 2 that was under way: %s", (const char *)*state);
  assert_int_equal(ckpt_wait(f->cp, &f->err), CKPT_OK); /* told once */
  assert_true(holds(*state, "model_epoch1.pth", 1));
  assert_true(holds(*state, "model_latest.pth", 1));
  train(f, 3);
  assert_int_equal(ckpt_save_async(f->cp, 3, &f->err), CKPT_OK);
  assert_int_equal(ckpt_wait(f->cp, &f->err), CKPT_OK);
  assert_true(holds(*state, "model_latest.pth", 3));
  assert_null(content(*state, "model_epoch1.pth"));
  close_run(f);
}

/* A table whose fsync waits: the thread can be held while the trainer goes on. */
static sem_t gate;
static int held_fsync(void *ctx, int fd) {
  (void)ctx;
  sem_wait(&gate);
  return ckpt_io_posix()->fsync(NULL, fd);
}
static int failing_once, fsyncs;
static int held_failing_fsync(void *ctx, int fd) {
  (void)ctx;
  sem_wait(&gate);
  if (++fsyncs != failing_once) return ckpt_io_posix()->fsync(NULL, fd);
  errno = EIO;
  return -1;
}

static void open_gate(void) {
  for (int i = 0; i < 1000; i++) sem_post(&gate);
}

/* Epoch 3 was planned on an epoch 2 that never came: what its plan retires stays. */
static void what_was_planned_on_a_failure_retires_nothing(void **state) {
  ckpt_io io = *ckpt_io_posix();
  io.fsync = held_failing_fsync;
  sem_init(&gate, 0, 0);
  run_fixture *f = open_run(*state, "policy.keep, policy.latest = { last = 2, best = 0 }, false", &io);
  failing_once = fsyncs = 0;
  open_gate();
  train(f, 1);
  assert_int_equal(ckpt_save(f->cp, 1, &f->err), CKPT_OK);
  while (sem_trywait(&gate) == 0) continue;
  failing_once = fsyncs + 1;
  train(f, 2);
  assert_int_equal(ckpt_save_async(f->cp, 2, &f->err), CKPT_OK);
  f->cp->async_memory = 1 << 30;
  train(f, 3);
  assert_int_equal(ckpt_save_async(f->cp, 3, &f->err), CKPT_OK); /* its plan retires epoch 1 */
  open_gate();
  assert_int_equal(ckpt_wait(f->cp, &f->err), CKPT_E_IO);
  assert_true(holds(*state, "model_epoch1.pth", 1));
  assert_null(content(*state, "model_epoch2.pth"));
  assert_true(holds(*state, "model_epoch3.pth", 3));
  close_run(f);
  sem_destroy(&gate);
}

/* ---- back-pressure ---- */

typedef struct waiter {
  run_fixture *f;
  atomic_bool done;
  ckpt_status st;
} waiter;

static void *save_second(void *arg) {
  waiter *w = arg;
  w->st = ckpt_save_async(w->f->cp, 2, &w->f->err);
  atomic_store(&w->done, true);
  return NULL;
}

static void one_snapshot_at_a_time(void **state) {
  ckpt_io io = *ckpt_io_posix();
  pthread_t thread;
  io.fsync = held_fsync;
  sem_init(&gate, 0, 0);
  open_gate(); /* for the opening */
  run_fixture *f = open_run(*state, "", &io);
  while (sem_trywait(&gate) == 0) continue;
  waiter w = {.f = f};
  train(f, 1);
  assert_int_equal(ckpt_save_async(f->cp, 1, &f->err), CKPT_OK);
  assert_int_equal(pthread_create(&thread, NULL, save_second, &w), 0);
  usleep(100000);
  assert_false(atomic_load(&w.done)); /* the first snapshot is still needed */
  open_gate();
  pthread_join(thread, NULL);
  assert_int_equal(w.st, CKPT_OK);
  assert_int_equal(ckpt_wait(f->cp, &f->err), CKPT_OK);
  close_run(f);
  sem_destroy(&gate);
}

/* ---- recycled blocks ---- */

static const char recycling[] = "policy.keep, policy.recycle, policy.latest = { last = 1, best = 0 }, true, false";

static void new_files_take_the_place_of_retired_ones(void **state) {
  run_fixture *f = open_run(*state, recycling, NULL);
  train(f, 1);
  assert_int_equal(ckpt_save(f->cp, 1, &f->err), CKPT_OK);
  ino_t first = inode(*state, "model_epoch1.pth");
  train(f, 2);
  assert_int_equal(ckpt_save(f->cp, 2, &f->err), CKPT_OK); /* epoch 1 becomes the spare */
  assert_null(content(*state, "model_epoch1.pth"));
  train(f, 3);
  assert_int_equal(ckpt_save(f->cp, 3, &f->err), CKPT_OK);
  assert_int_equal(inode(*state, "model_epoch3.pth"), first);
  assert_true(holds(*state, "model_epoch3.pth", 3));
  close_run(f);
  assert_clean(*state);
}

/* Who opened the old file goes on reading the old bytes. */
static void a_file_that_is_open_is_not_written_over(void **state) {
  char path[PATH_MAX];
  ckpt_checkpoint *reader = NULL;
  run_fixture *f = open_run(*state, recycling, NULL);
  train(f, 1);
  assert_int_equal(ckpt_save(f->cp, 1, &f->err), CKPT_OK);
  ino_t first = inode(*state, "model_epoch1.pth");
  assert_int_equal(ckpt_checkpoint_open(&reader, join(path, *state, "model_epoch1.pth"), NULL, &f->err), CKPT_OK);
  for (int epoch = 2; epoch <= 3; epoch++) {
    train(f, epoch);
    assert_int_equal(ckpt_save(f->cp, epoch, &f->err), CKPT_OK);
  }
  assert_int_not_equal(inode(*state, "model_epoch3.pth"), first);
  assert_true(holds(*state, "model_epoch3.pth", 3));
  assert_int_equal(ckpt_checkpoint_verify(reader, &f->err), CKPT_OK);
  ckpt_checkpoint_close(reader);
  close_run(f);
  assert_clean(*state);
}

static void a_file_with_another_name_is_not_written_over(void **state) {
  char from[PATH_MAX], to[PATH_MAX];
  run_fixture *f = open_run(*state, recycling, NULL);
  train(f, 1);
  assert_int_equal(ckpt_save(f->cp, 1, &f->err), CKPT_OK);
  assert_int_equal(link(join(from, *state, "model_epoch1.pth"), join(to, *state, "mine.pth")), 0);
  for (int epoch = 2; epoch <= 4; epoch++) {
    train(f, epoch);
    assert_int_equal(ckpt_save(f->cp, epoch, &f->err), CKPT_OK);
  }
  assert_true(holds(*state, "mine.pth", 1));
  assert_true(holds(*state, "model_epoch4.pth", 4));
  close_run(f);
}

static void without_leases_new_files_are_new(void **state) {
  fault_io io;
  fault_init(&io);
  fault_rule(&io, "lease", 1, FAULT_ALWAYS, EINVAL);
  run_fixture *f = open_run(*state, recycling, &io.io);
  for (int epoch = 1; epoch <= 4; epoch++) {
    train(f, epoch);
    assert_int_equal(ckpt_save(f->cp, epoch, &f->err), CKPT_OK);
  }
  assert_true(holds(*state, "model_epoch4.pth", 4));
  close_run(f);
  assert_clean(*state);
}

/* Larger and smaller than the blocks that are there. */
static void sizes_may_change(void **state) {
  run_fixture *f = open_run(*state, recycling, NULL);
  float more[3 * WEIGHTS] = {0};
  for (int epoch = 1; epoch <= 2; epoch++) {
    train(f, epoch);
    assert_int_equal(ckpt_save(f->cp, epoch, &f->err), CKPT_OK);
  }
  assert_int_equal(ckpt_bind_tensor(f->cp, "extra", "x", CKPT_F32, more, 1, (int64_t[]){3 * WEIGHTS}, &f->err),
                   CKPT_OK);
  for (int epoch = 3; epoch <= 5; epoch++) {
    char name[32];
    snprintf(name, sizeof name, "model_epoch%d.pth", epoch);
    train(f, epoch);
    assert_int_equal(ckpt_save(f->cp, epoch, &f->err), CKPT_OK);
    assert_true(holds(*state, name, epoch));
  }
  close_run(f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(what_was_bound_at_the_call_is_saved),
      TEST(the_directory_ends_as_if_each_had_been_waited_for),
      TEST(closing_waits),
      TEST(log_lines_come_in_the_callers_thread),
      TEST(a_failure_comes_with_the_next_call),
      TEST(what_was_planned_on_a_failure_retires_nothing),
      TEST(one_snapshot_at_a_time),
      TEST(new_files_take_the_place_of_retired_ones),
      TEST(a_file_that_is_open_is_not_written_over),
      TEST(a_file_with_another_name_is_not_written_over),
      TEST(without_leases_new_files_are_new),
      TEST(sizes_may_change),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
