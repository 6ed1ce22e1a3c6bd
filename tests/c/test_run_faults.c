/*
 * test_run_faults.c - a save of a run that fails behind the new file: every file and alias is as it was. What only
 * cannot be removed is told, and no failure. No file of a run is read through a symbolic link or another directory.
 * What tests/crash does with the kernel's own calls is found there; these are the cases that it has found.
 */
#include "publish_fixture.h"
#include "run.h"

typedef struct fixture {
  ckpt_checkpointer *cp;
  float w[8];
  char warnings[1024], policy[PATH_MAX];
  ckpt_error err;
} fixture;

static void remember(void *user, ckpt_log_level level, const char *line) {
  fixture *f = user;
  size_t n = strlen(f->warnings);
  if (level == CKPT_LOG_WARNING) snprintf(f->warnings + n, sizeof f->warnings - n, "%s\n", line);
}

static void open_run(fixture *f, const char *path, const ckpt_io *io) {
  FILE *policy;
  *f = (fixture){.cp = NULL};
  snprintf(f->policy, sizeof f->policy, "%s.lua", path);
  policy = fopen(f->policy, "w");
  fputs("local policy = require 'policies.default'()\npolicy.keep = { last = 1, best = 1 }\nreturn policy\n", policy);
  fclose(policy);
  ckpt_checkpointer_options o = {.dir = path, .policy = f->policy, .auto_resume = true, .log = remember, .log_user = f};
  if (ckpt_checkpointer_open_io(&f->cp, &o, io, &f->err) != CKPT_OK) fail_msg("%s", f->err.message);
  assert_int_equal(ckpt_bind_tensor(f->cp, "model", "w", CKPT_F32, f->w, 1, (int64_t[]){8}, NULL), CKPT_OK);
}

static void close_run(fixture *f) {
  ckpt_checkpointer_close(f->cp);
  unlink(f->policy);
}

static ckpt_status save(fixture *f, int epoch) {
  for (int i = 0; i < 8; i++) f->w[i] = (float)(100 * epoch + i);
  return ckpt_save(f->cp, epoch, &f->err);
}

static bool exists(const char *dir, const char *name) {
  char path[PATH_MAX];
  struct stat st;
  return lstat(join(path, dir, name), &st) == 0;
}

/* ---- what can be taken back ---- */

static void names_change_hands_and_back(void **state) {
  const char *path = *state;
  ckpt_dir *dir = open_locked(path, NULL);
  assert_int_equal(publish(dir, "a.pth", "old", NULL), CKPT_OK);
  assert_int_equal(ckpt_dir_alias(dir, "a.pth", "latest.pth", NULL), CKPT_OK);
  ino_t before = inode(path, "latest.pth");
  ckpt_dir_hold(dir);
  for (int i = 0; i < 6; i++) {
    assert_int_equal(publish(dir, "a.pth", "newer", NULL), CKPT_OK);
    assert_int_equal(publish(dir, "b.pth", "new", NULL), CKPT_OK);
    assert_int_equal(ckpt_dir_alias(dir, "b.pth", "latest.pth", NULL), CKPT_OK);
  }
  assert_content(path, "latest.pth", "new");
  ckpt_dir_undo(dir);
  assert_content(path, "a.pth", "old");
  assert_content(path, "latest.pth", "old");
  assert_int_equal(inode(path, "latest.pth"), before);
  assert_false(exists(path, "b.pth"));
  assert_clean(path);
  ckpt_dir_hold(dir);
  assert_int_equal(publish(dir, "a.pth", "newest", NULL), CKPT_OK);
  ckpt_dir_keep(dir);
  ckpt_dir_undo(dir); /* there is nothing to take back any more */
  assert_content(path, "a.pth", "newest");
  assert_clean(path);
  ckpt_dir_close(dir);
}

/* Each call of a save fails once: if the save does, its files are as they were. */
static void every_failing_call_leaves_everything_as_it_was(void **state) {
  const char *path = *state;
  int failures = 0;
  for (int n = 1, hit = 1; hit; n++) {
    fault_io io;
    fixture f;
    scratch_remove(path);
    fault_init(&io);
    open_run(&f, path, &io.io);
    assert_int_equal(save(&f, 1), CKPT_OK);
    ino_t first = inode(path, "model_epoch1.pth");
    io.nth = io.calls + n;
    io.nth_errno = EIO;
    ckpt_status st = save(&f, 2);
    hit = io.failed[0] != '\0';
    if (st != CKPT_OK) {
      failures++;
      assert_int_equal(f.err.sys, EIO);
      assert_int_equal(inode(path, "model_latest.pth"), first);
      assert_true(exists(path, "model_epoch1.pth"));
      assert_false(exists(path, "model_epoch2.pth"));
    }
    close_run(&f);
  }
  assert_true(failures > 12);
}

static void what_cannot_be_removed_is_told(void **state) {
  const char *path = *state;
  fault_io io;
  fixture f;
  fault_init(&io);
  open_run(&f, path, &io.io);
  assert_int_equal(save(&f, 1), CKPT_OK);
  fault_rule(&io, "unlinkat", 1, FAULT_ALWAYS, EROFS);
  assert_int_equal(save(&f, 2), CKPT_OK);
  assert_non_null(strstr(f.warnings, "model_epoch1.pth: the file cannot be removed: "));
  assert_non_null(strstr(f.warnings, "; the save itself is made"));
  assert_true(exists(path, "model_epoch1.pth"));
  io.rules[0].times = 0;
  assert_int_equal(save(&f, 3), CKPT_OK); /* tries again */
  assert_false(exists(path, "model_epoch1.pth"));
  assert_false(exists(path, "model_epoch2.pth"));
  close_run(&f);
}

static void a_save_in_a_thread_tells_errno(void **state) {
  fault_io io;
  fixture f;
  fault_init(&io);
  open_run(&f, *state, &io.io);
  fault_rule(&io, "fallocate", 1, 1, ENOSPC);
  assert_int_equal(ckpt_save_async(f.cp, 1, &f.err), CKPT_OK);
  assert_int_equal(ckpt_wait(f.cp, &f.err), CKPT_E_IO);
  assert_int_equal(f.err.sys, ENOSPC);
  close_run(&f);
}

/* ---- links ---- */

static void a_resume_follows_no_symbolic_link(void **state) {
  const char *path = *state;
  char outside[PATH_MAX], name[PATH_MAX];
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  fixture f;
  open_run(&f, path, NULL);
  assert_int_equal(save(&f, 1), CKPT_OK);
  snprintf(outside, sizeof outside, "%s.pth", path);
  assert_int_equal(rename(join(name, path, "model_epoch1.pth"), outside), 0);
  assert_int_equal(symlink(outside, name), 0);
  assert_int_equal(ckpt_checkpoint_open_in(&cp, f.cp->dir, "model_epoch1.pth", NULL, &err), CKPT_E_IO);
  ASSERT_STARTS(err.message, "%s/model_epoch1.pth: a symbolic link, which is not followed", path);
  assert_int_equal(ckpt_checkpoint_open_in(&cp, f.cp->dir, "none.pth", NULL, &err), CKPT_E_NOTFOUND);
  close_run(&f);
  unlink(outside);
}

/* The run goes on in the directory that it has opened, whatever its path leads to meanwhile. */
static void a_directory_that_is_exchanged_is_not_followed(void **state) {
  const char *path = *state;
  char aside[PATH_MAX];
  ckpt_load_report report;
  fixture f;
  open_run(&f, path, NULL);
  assert_int_equal(save(&f, 1), CKPT_OK);
  assert_int_equal(save(&f, 2), CKPT_OK);
  snprintf(aside, sizeof aside, "%s.aside", path);
  assert_int_equal(rename(path, aside), 0);
  assert_int_equal(symlink("/nonexistent", path), 0);
  memset(f.w, 0, sizeof f.w);
  assert_int_equal(ckpt_load(f.cp, &report, &f.err), CKPT_OK);
  assert_true(f.w[1] == 201);
  assert_int_equal(save(&f, 3), CKPT_OK);
  assert_true(exists(aside, "model_epoch3.pth"));
  close_run(&f);
  assert_int_equal(unlink(path), 0);
  assert_int_equal(rename(aside, path), 0);
}

static void a_directory_of_another_user_is_refused(void **state) {
  const char *path = *state;
  const char *set[] = {"foreign_dir=true", NULL};
  ckpt_checkpointer *cp = NULL;
  ckpt_error err = {0};
  ckpt_checkpointer_options o = {.dir = path};
  if (chown(path, 12345, (gid_t)-1) != 0) skip(); /* only root can give one away */
  assert_int_equal(ckpt_checkpointer_open(&cp, &o, &err), CKPT_E_IO);
  ASSERT_STARTS(err.message, "%s: the directory belongs to another user (12345)", path);
  o.set = set;
  assert_int_equal(ckpt_checkpointer_open(&cp, &o, &err), CKPT_OK);
  ckpt_checkpointer_close(cp);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(names_change_hands_and_back),
      TEST(every_failing_call_leaves_everything_as_it_was),
      TEST(what_cannot_be_removed_is_told),
      TEST(a_save_in_a_thread_tells_errno),
      TEST(a_resume_follows_no_symbolic_link),
      TEST(a_directory_that_is_exchanged_is_not_followed),
      TEST(a_directory_of_another_user_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
