/*
 * test_publish_faults.c - one save after another in which each call of the table fails once, fails from there on, or is
 * the last of the process. Old content stays whole until new content is durable, nothing is left over, a recovery
 * works.
 */
#include "publish_fixture.h"

/* ---- every call ---- */

/* What a save does, and how far it came. */
typedef enum step { OPENED = 1, PUBLISHED, REPLACED, ALIASED, RETIRED, APPENDED } step;

typedef enum weakness { NONE, NO_UNNAMED, NO_NAMING, NO_LINKS, WEAKNESSES } weakness;

static void weaken(fault_io *f, weakness w) {
  if (w == NO_UNNAMED) fault_rule(f, "tmpfile", 1, FAULT_ALWAYS, EOPNOTSUPP);
  if (w == NO_NAMING || w == NO_LINKS) fault_rule(f, "link_fd", 1, FAULT_ALWAYS, EPERM);
  if (w == NO_LINKS) fault_rule(f, "linkat", 1, FAULT_ALWAYS, EPERM);
  if (w == NO_LINKS) fault_rule(f, "clone", 1, FAULT_ALWAYS, EOPNOTSUPP);
}

static void scene(const char *path) {
  scratch_remove(path);
  assert_int_equal(mkdir(path, 0700), 0);
  put_file(path, "a.pth", "old");
  put_file(path, "latest.pth", "before");
  put_file(path, "gone.pth", "retired");
  put_file(path, "log", "line\n");
  put_file(path, ".tmp-ckpt-0123456789abcdef", "left over");
}

static step save_all(const char *path, fault_io *f) {
  const char *gone[] = {"gone.pth", "never.pth"};
  ckpt_dir *dir = NULL;
  step done = 0;
  if (ckpt_dir_open(&dir, path, true, true, &f->io, NULL) == CKPT_OK) done = OPENED;
  if (done == OPENED && publish(dir, "new.pth", "new", NULL) == CKPT_OK) done = PUBLISHED;
  if (done == PUBLISHED && publish(dir, "a.pth", "newer", NULL) == CKPT_OK) done = REPLACED;
  if (done == REPLACED && ckpt_dir_alias(dir, "a.pth", "latest.pth", NULL) == CKPT_OK) done = ALIASED;
  if (done == ALIASED && ckpt_dir_retire(dir, gone, 2, NULL) == CKPT_OK) done = RETIRED;
  if (done == RETIRED && ckpt_dir_append(dir, "log", "next\n", 5, NULL) == CKPT_OK) done = APPENDED;
  ckpt_dir_close(dir);
  return done;
}

/* `loose`: the step that failed may have had its effect, but whole or not at all. */
static void assert_either(const char *path, const char *name, bool done, bool loose, const char *old, const char *new) {
  const char *text = content(path, name);
  const char *expected = done ? new : old;
  if (loose && !done && text != NULL && strcmp(text, new) == 0) return;
  if (expected == NULL) {
    assert_null(text);
    return;
  }
  assert_non_null(text);
  assert_string_equal(text, expected);
}

static void assert_scene(const char *path, step done, bool loose) {
  assert_either(path, "new.pth", done >= PUBLISHED, loose, NULL, "new");
  assert_either(path, "a.pth", done >= REPLACED, loose, "old", "newer");
  assert_either(path, "latest.pth", done >= ALIASED, loose, "before", "newer");
  if (content(path, "gone.pth") == NULL) assert_content(path, "latest.pth", "newer"); /* nothing goes too early */
  if (done > 0 && done < ALIASED) assert_content(path, "gone.pth", "retired");
  if (done >= RETIRED) assert_null(content(path, "gone.pth"));
}

/* A recovered directory has no temporaries, and a save in it works. */
static void assert_recovers(const char *path) {
  fault_io sound;
  fault_init(&sound);
  ckpt_dir_close(open_locked(path, NULL));
  assert_clean(path);
  assert_int_equal(save_all(path, &sound), APPENDED);
  assert_scene(path, APPENDED, false);
}

/* Failures that are nobody's loss: the work was done, or there was another way to do it. */
static bool harmless(const char *op) {
  return strcmp(op, "close") == 0 || strcmp(op, "unlinkat") == 0 || strcmp(op, "statat") == 0 ||
         strcmp(op, "clone") == 0;
}

static void fail_once(const char *path, weakness w, int sys) {
  for (int n = 1;; n++) {
    fault_io f;
    fault_init(&f);
    weaken(&f, w);
    f.nth = n;
    f.nth_errno = sys;
    scene(path);
    step done = save_all(path, &f);
    assert_int_equal(count_fds(), fds_before);
    if (f.failed[0] == '\0') {
      assert_int_equal(done, APPENDED);
      assert_true(n > 40); /* the loop has seen what it is for */
      return;
    }
    if (done == APPENDED && !harmless(f.failed)) fail_msg("call %d, %s: its failure was not told", n, f.failed);
    assert_scene(path, done, w == NO_LINKS && strcmp(f.failed, "fsync") == 0);
    assert_content(path, "log", done == APPENDED ? "line\nnext\n" : "line\n");
    if (strcmp(f.failed, "unlinkat") != 0 && done >= OPENED) assert_clean(path);
    assert_recovers(path);
  }
}

static void every_call_fails_once(void **state) {
  const int errors[] = {EIO, ENOSPC, EACCES};
  for (weakness w = NONE; w < WEAKNESSES; w++) fail_once(*state, w, errors[0]);
  for (size_t i = 1; i < CKPT_COUNTOF(errors); i++) {
    fault_io probe; /* with other errors some calls have another way, so only I1-I6 are asserted */
    for (int n = 1, hit = 1; hit; n++) {
      fault_init(&probe);
      probe.nth = n;
      probe.nth_errno = errors[i];
      scene(*state);
      step done = save_all(*state, &probe);
      hit = probe.failed[0] != '\0';
      assert_scene(*state, done, false);
      assert_int_equal(count_fds(), fds_before);
      assert_recovers(*state);
    }
  }
}

static void every_call_fails_from_there_on(void **state) {
  for (weakness w = NONE; w < WEAKNESSES; w++)
    for (int n = 1, hit = 1; hit; n++) {
      fault_io f;
      fault_init(&f);
      weaken(&f, w);
      f.nth = n;
      f.nth_errno = EIO;
      f.persistent = true;
      scene(*state);
      step done = save_all(*state, &f);
      hit = f.failed[0] != '\0';
      assert_int_equal(count_fds(), fds_before);
      assert_scene(*state, done, true);
      assert_recovers(*state);
    }
}

/* 0 if the process ended at call n, else how far it came. */
static int save_killed(const char *path, weakness w, int n) {
  pid_t pid = fork();
  if (pid == 0) {
    fault_io f;
    fault_init(&f);
    weaken(&f, w);
    f.nth = n;
    f.nth_errno = FAULT_KILL;
    _exit((int)save_all(path, &f));
  }
  int status = 0;
  waitpid(pid, &status, 0);
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status) == FAULT_KILLED ? 0 : WEXITSTATUS(status);
}

static void a_process_ends_before_every_call(void **state) {
  for (weakness w = NONE; w < WEAKNESSES; w++)
    for (int n = 1, done = 0; done == 0; n++) {
      scene(*state);
      done = save_killed(*state, w, n);
      assert_true(done == 0 || done == APPENDED);
      assert_scene(*state, (step)done, true);
      assert_recovers(*state);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(every_call_fails_once),
      TEST(every_call_fails_from_there_on),
      TEST(a_process_ends_before_every_call),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
