/*
 * test_publish.c - new files of a directory, their aliases and their end: what is published, what a failing call leaves
 * behind (nothing), and the other ways on file systems without unnamed files, links, reservation or directory syncs.
 */
#include "publish_fixture.h"

/* ---- publishing ---- */

static void publishes_and_replaces(void **state) {
  ckpt_dir *dir = open_locked(*state, NULL);
  assert_int_equal(publish(dir, "a.pth", "one", NULL), CKPT_OK);
  assert_content(*state, "a.pth", "one");
  ino_t first = inode(*state, "a.pth");
  assert_int_equal(publish(dir, "a.pth", "two!", NULL), CKPT_OK);
  assert_content(*state, "a.pth", "two!");
  assert_int_not_equal(inode(*state, "a.pth"), first);
  assert_clean(*state);
  ckpt_dir_close(dir);
}

static void replaces_a_link_and_not_what_it_points_to(void **state) {
  char path[PATH_MAX];
  put_file(*state, "outside", "precious");
  assert_int_equal(symlink("outside", join(path, *state, "a.pth")), 0);
  ckpt_dir *dir = open_locked(*state, NULL);
  assert_int_equal(publish(dir, "a.pth", "new", NULL), CKPT_OK);
  assert_content(*state, "a.pth", "new"); /* O_NOFOLLOW: a file now */
  assert_content(*state, "outside", "precious");
  ckpt_dir_close(dir);
}

static void umask_is_the_kernels(void **state) {
  char path[PATH_MAX];
  struct stat st;
  mode_t old = umask(027);
  ckpt_dir *dir = open_locked(*state, NULL);
  assert_int_equal(publish(dir, "a.pth", "x", NULL), CKPT_OK);
  umask(old);
  assert_int_equal(stat(join(path, *state, "a.pth"), &st), 0);
  assert_int_equal(st.st_mode & 07777, 0640);
  ckpt_dir_close(dir);
}

static void abandon_leaves_nothing(void **state) {
  fault_io f;
  for (int named = 0; named < 2; named++) {
    fault_init(&f);
    if (named) fault_rule(&f, "tmpfile", 1, FAULT_ALWAYS, EOPNOTSUPP);
    put_file(*state, "a.pth", "old");
    ckpt_dir *dir = open_locked(*state, &f.io);
    ckpt_output *o = NULL;
    assert_int_equal(ckpt_output_begin(&o, dir, 4096, NULL), CKPT_OK);
    assert_int_equal(count_names(*state, ".tmp-ckpt-"), named);
    assert_int_equal(ckpt_output_sink(o)->write(ckpt_output_sink(o), "half", 4, NULL), CKPT_OK);
    ckpt_output_abandon(o);
    assert_clean(*state);
    assert_content(*state, "a.pth", "old");
    ckpt_dir_close(dir);
  }
  ckpt_output_abandon(NULL);
  ckpt_dir_close(NULL);
}

/* Too much reserved, too little, nothing: the file holds what was written, before it gets its name and after. */
static void size_is_what_was_written(void **state) {
  const uint64_t expected[] = {0, 1, 10, 1 << 20};
  char path[PATH_MAX];
  ckpt_dir *dir = open_locked(*state, NULL);
  for (size_t i = 0; i < CKPT_COUNTOF(expected); i++) {
    ckpt_output *o = NULL;
    struct stat st;
    assert_int_equal(ckpt_output_begin(&o, dir, expected[i], NULL), CKPT_OK);
    assert_int_equal(ckpt_output_sink(o)->write(ckpt_output_sink(o), "0123456789", 10, NULL), CKPT_OK);
    assert_int_equal(fstat(ckpt_output_fd(o), &st), 0);
    assert_int_equal(st.st_size, 10);
    assert_int_equal(ckpt_output_commit(o, "a.pth", NULL), CKPT_OK);
    assert_int_equal(stat(join(path, *state, "a.pth"), &st), 0);
    assert_int_equal(st.st_size, 10);
    assert_true(st.st_blocks * 512 <= 65536); /* of the megabyte nothing is left */
  }
  ckpt_dir_close(dir);
}

static void short_and_interrupted_writes_go_on(void **state) {
  fault_io f;
  fault_init(&f);
  f.max_write = 3;
  fault_rule(&f, "write", 2, 3, EINTR);
  fault_rule(&f, "tmpfile", 1, 2, EINTR);
  fault_rule(&f, "fallocate", 1, 2, EINTR);
  ckpt_dir *dir = open_locked(*state, &f.io);
  assert_int_equal(publish(dir, "a.pth", "0123456789", NULL), CKPT_OK);
  assert_content(*state, "a.pth", "0123456789");
  ckpt_dir_close(dir);
}

static void endless_interruption_is_an_error(void **state) {
  fault_io f;
  ckpt_error err = {0};
  fault_init(&f);
  fault_rule(&f, "write", 1, FAULT_ALWAYS, EINTR);
  ckpt_dir *dir = open_locked(*state, &f.io);
  assert_int_equal(publish(dir, "a.pth", "x", &err), CKPT_E_IO);
  assert_int_equal(err.sys, EINTR);
  assert_null(content(*state, "a.pth"));
  ckpt_dir_close(dir);
}

/* A file system that cannot reserve is no reason to fail. */
static void unsupported_reservation_is_ignored(void **state) {
  const int errors[] = {EOPNOTSUPP, ENOSYS};
  for (size_t i = 0; i < CKPT_COUNTOF(errors); i++) {
    fault_io f;
    fault_init(&f);
    fault_rule(&f, "fallocate", 1, FAULT_ALWAYS, errors[i]);
    ckpt_dir *dir = open_locked(*state, &f.io);
    assert_int_equal(publish(dir, "a.pth", "x", NULL), CKPT_OK);
    ckpt_dir_close(dir);
  }
  assert_content(*state, "a.pth", "x");
}

/* One call of `op` fails while a.pth is replaced: the error is told, the old file intact, nothing is left. */
static void replace_fails(const char *path, const char *op, int from, int sys, const char *text) {
  for (int named = 0; named < 2; named++) {
    fault_io f;
    ckpt_error err = {0};
    fault_init(&f);
    if (named) fault_rule(&f, "tmpfile", 1, FAULT_ALWAYS, EISDIR);
    fault_rule(&f, op, from, 1, sys);
    put_file(path, "a.pth", "old");
    ckpt_dir *dir = open_locked(path, &f.io);
    assert_int_equal(publish(dir, "a.pth", "new", &err), CKPT_E_IO);
    assert_int_equal(err.sys, sys);
    ASSERT_STARTS(err.message, "%s", path);
    assert_non_null(strstr(err.message, text));
    assert_content(path, "a.pth", "old");
    assert_clean(path);
    assert_int_equal(publish(dir, "a.pth", "new", NULL), CKPT_OK); /* and the next save works */
    assert_content(path, "a.pth", "new");
    ckpt_dir_close(dir);
  }
}

static void full_disk_shows_at_the_beginning(void **state) {
  fault_io f;
  ckpt_error err = {0};
  ckpt_output *o = NULL;
  fault_init(&f);
  fault_rule(&f, "fallocate", 1, FAULT_ALWAYS, ENOSPC);
  ckpt_dir *dir = open_locked(*state, &f.io);
  assert_int_equal(ckpt_output_begin(&o, dir, 12345, &err), CKPT_E_IO);
  assert_null(o);
  assert_int_equal(err.sys, ENOSPC);
  ASSERT_STARTS(err.message, "%s: there is no room for a file of 12345 bytes: ", (char *)*state);
  ckpt_dir_close(dir);
  replace_fails(*state, "fallocate", 1, ENOSPC, "there is no room");
}

static void full_disk_while_writing(void **state) {
  replace_fails(*state, "write", 1, ENOSPC, "the new file cannot be written");
}

static void failed_file_sync_is_not_repeated(void **state) {
  fault_io f;
  fault_init(&f);
  fault_rule(&f, "fsync", 1, 1, EIO);
  ckpt_dir *dir = open_locked(*state, &f.io);
  assert_int_equal(publish(dir, "a.pth", "new", NULL), CKPT_E_IO);
  assert_int_equal(f.rules[0].seen, 1);
  assert_null(content(*state, "a.pth"));
  ckpt_dir_close(dir);
  replace_fails(*state, "fsync", 1, EIO, "a.pth: the new file cannot be synced");
}

/* The name has moved already: it moves back. */
static void failed_directory_sync_gives_the_name_back(void **state) {
  fault_io f;
  fault_init(&f);
  fault_rule(&f, "fsync", 2, 1, EIO);
  ckpt_dir *dir = open_locked(*state, &f.io);
  assert_int_equal(publish(dir, "new.pth", "new", NULL), CKPT_E_IO);
  assert_null(content(*state, "new.pth"));
  ckpt_dir_close(dir);
  replace_fails(*state, "fsync", 2, EIO, "the directory cannot be synced");
}

static void failed_rename(void **state) {
  replace_fails(*state, "renameat", 1, EIO, "cannot be moved to the new file");
}

/* CIFS and some FUSE file systems know no sync of a directory. */
static void unsupported_directory_sync_is_ignored(void **state) {
  fault_io f;
  fault_init(&f);
  fault_rule(&f, "fsync", 2, 1, EINVAL);
  ckpt_dir *dir = open_locked(*state, &f.io);
  assert_int_equal(publish(dir, "a.pth", "x", NULL), CKPT_OK);
  ckpt_dir_close(dir);
}

static void works_without_unnamed_files(void **state) {
  const int errors[] = {EOPNOTSUPP, EISDIR, EINVAL, ENOENT};
  for (size_t i = 0; i < CKPT_COUNTOF(errors); i++) {
    fault_io f;
    fault_init(&f);
    fault_rule(&f, "tmpfile", 1, FAULT_ALWAYS, errors[i]);
    ckpt_dir *dir = open_locked(*state, &f.io);
    assert_int_equal(publish(dir, "a.pth", "one", NULL), CKPT_OK);
    assert_int_equal(publish(dir, "a.pth", "two", NULL), CKPT_OK);
    assert_int_equal(f.rules[0].seen, 1); /* not tried again */
    assert_content(*state, "a.pth", "two");
    assert_clean(*state);
    ckpt_dir_close(dir);
  }
}

/* No /proc, or no links at all: the bytes go into a named file once, then named files are used from the start. */
static void works_where_an_unnamed_file_gets_no_name(void **state) {
  const int errors[] = {EPERM, EOPNOTSUPP, EXDEV, ENOENT, EACCES};
  for (size_t i = 0; i < CKPT_COUNTOF(errors); i++) {
    fault_io f;
    fault_init(&f);
    fault_rule(&f, "link_fd", 1, FAULT_ALWAYS, errors[i]);
    ckpt_dir *dir = open_locked(*state, &f.io);
    assert_int_equal(publish(dir, "a.pth", "one", NULL), CKPT_OK);
    assert_content(*state, "a.pth", "one");
    int tries = f.rules[0].seen;
    assert_int_equal(publish(dir, "a.pth", "two", NULL), CKPT_OK);
    assert_int_equal(f.rules[0].seen, tries);
    assert_content(*state, "a.pth", "two");
    assert_clean(*state);
    ckpt_dir_close(dir);
  }
}

static void bad_names_are_not_published(void **state) {
  ckpt_dir *dir = open_locked(*state, NULL);
  const char *names[] = {"../a.pth", ".ckpt.lock"};
  assert_int_equal(publish(dir, "a/b", "x", NULL), CKPT_E_ARGUMENT);
  assert_int_equal(publish(dir, "a.pth", "x", NULL), CKPT_OK);
  assert_int_equal(ckpt_dir_alias(dir, "a.pth", "../b.pth", NULL), CKPT_E_ARGUMENT);
  assert_int_equal(ckpt_dir_alias(dir, "../a.pth", "b.pth", NULL), CKPT_E_ARGUMENT);
  assert_int_equal(ckpt_dir_retire(dir, names, 2, NULL), CKPT_E_ARGUMENT);
  assert_int_equal(ckpt_dir_append(dir, "../log", "x", 1, NULL), CKPT_E_ARGUMENT);
  assert_non_null(content(*state, ".ckpt.lock"));
  assert_clean(*state);
  ckpt_dir_close(dir);
}

/* ---- aliases and retiring ---- */

static void alias_is_the_same_file(void **state) {
  ckpt_dir *dir = open_locked(*state, NULL);
  assert_int_equal(publish(dir, "a.pth", "one", NULL), CKPT_OK);
  assert_int_equal(publish(dir, "b.pth", "two", NULL), CKPT_OK);
  assert_int_equal(ckpt_dir_alias(dir, "a.pth", "latest.pth", NULL), CKPT_OK);
  assert_int_equal(inode(*state, "a.pth"), inode(*state, "latest.pth"));
  assert_int_equal(ckpt_dir_alias(dir, "b.pth", "latest.pth", NULL), CKPT_OK);
  assert_int_equal(inode(*state, "b.pth"), inode(*state, "latest.pth"));
  assert_content(*state, "a.pth", "one");
  assert_clean(*state);
  ckpt_dir_close(dir);
}

static void alias_of_itself_does_nothing(void **state) {
  fault_io f;
  fault_init(&f);
  ckpt_dir *dir = open_locked(*state, &f.io);
  assert_int_equal(publish(dir, "a.pth", "one", NULL), CKPT_OK);
  assert_int_equal(ckpt_dir_alias(dir, "a.pth", "b.pth", NULL), CKPT_OK);
  fault_rule(&f, "linkat", 1, FAULT_ALWAYS, EIO);
  fault_rule(&f, "renameat", 1, FAULT_ALWAYS, EIO);
  assert_int_equal(ckpt_dir_alias(dir, "a.pth", "b.pth", NULL), CKPT_OK);
  assert_int_equal(ckpt_dir_alias(dir, "a.pth", "a.pth", NULL), CKPT_OK);
  assert_content(*state, "b.pth", "one");
  ckpt_dir_close(dir);
}

static void alias_falls_back_to_a_copy(void **state) {
  const int errors[] = {EPERM, EOPNOTSUPP, EMLINK, ENOSYS};
  for (size_t i = 0; i < CKPT_COUNTOF(errors); i++) {
    fault_io f;
    fault_init(&f);
    f.max_write = 2;
    put_file(*state, "latest.pth", "before");
    fault_rule(&f, "linkat", 1, FAULT_ALWAYS, errors[i]);
    fault_rule(&f, "clone", 1, FAULT_ALWAYS, EOPNOTSUPP);
    ckpt_dir *dir = open_locked(*state, &f.io);
    assert_int_equal(publish(dir, "a.pth", "content", NULL), CKPT_OK);
    assert_int_equal(ckpt_dir_alias(dir, "a.pth", "latest.pth", NULL), CKPT_OK);
    assert_int_not_equal(inode(*state, "a.pth"), inode(*state, "latest.pth"));
    assert_content(*state, "latest.pth", "content");
    assert_clean(*state);
    ckpt_dir_close(dir);
  }
}

static void set_aside_under_a_name_that_is_free(void **state) {
  fault_io f;
  char to[CKPT_ASIDE_NAME];
  ckpt_dir *dir = open_locked(*state, NULL);
  put_file(*state, "a.pth", "broken");
  assert_int_equal(ckpt_dir_keep_aside(to, dir, "a.pth", NULL), CKPT_OK);
  assert_string_equal(to, "a.pth.corrupt");
  assert_int_equal(inode(*state, "a.pth"), inode(*state, to));
  assert_int_equal(ckpt_dir_keep_aside(to, dir, "a.pth", NULL), CKPT_OK);
  assert_string_equal(to, "a.pth.corrupt"); /* it has that name already */
  assert_int_equal(publish(dir, "a.pth", "another", NULL), CKPT_OK);
  assert_int_equal(ckpt_dir_keep_aside(to, dir, "a.pth", NULL), CKPT_OK);
  assert_string_equal(to, "a.pth.corrupt-2");
  assert_int_equal(publish(dir, "a.pth", "broken", NULL), CKPT_OK);
  assert_int_equal(ckpt_dir_keep_aside(to, dir, "../a.pth", NULL), CKPT_E_ARGUMENT);
  assert_int_equal(ckpt_dir_keep_aside(to, dir, "b.pth", NULL), CKPT_E_IO);
  ckpt_dir_close(dir);
  fault_init(&f);
  fault_rule(&f, "linkat", 1, FAULT_ALWAYS, EPERM);
  dir = open_locked(*state, &f.io);
  assert_int_equal(ckpt_dir_keep_aside(to, dir, "a.pth", NULL), CKPT_OK); /* no links here: it is renamed */
  assert_string_equal(to, "a.pth.corrupt-3");
  assert_content(*state, to, "broken");
  assert_null(content(*state, "a.pth"));
  ckpt_dir_close(dir);
}

static void failed_copy_leaves_the_alias(void **state) {
  const char *ops[] = {"write", "pread", "fsync", "fallocate", "renameat"};
  for (size_t i = 0; i < CKPT_COUNTOF(ops); i++) {
    fault_io f;
    fault_init(&f);
    put_file(*state, "a.pth", "content");
    put_file(*state, "latest.pth", "before");
    fault_rule(&f, "linkat", 1, FAULT_ALWAYS, EPERM);
    fault_rule(&f, "clone", 1, FAULT_ALWAYS, EOPNOTSUPP);
    fault_rule(&f, ops[i], 1, 1, ENOSPC);
    ckpt_dir *dir = open_locked(*state, &f.io);
    assert_int_equal(ckpt_dir_alias(dir, "a.pth", "latest.pth", NULL), CKPT_E_IO);
    assert_content(*state, "latest.pth", "before");
    assert_clean(*state);
    ckpt_dir_close(dir);
  }
}

static void alias_of_nothing_or_of_a_link_is_refused(void **state) {
  ckpt_error err = {0};
  char path[PATH_MAX];
  put_file(*state, "latest.pth", "before");
  assert_int_equal(symlink("latest.pth", join(path, *state, "link.pth")), 0);
  ckpt_dir *dir = open_locked(*state, NULL);
  assert_int_equal(ckpt_dir_alias(dir, "none.pth", "latest.pth", &err), CKPT_E_NOTFOUND);
  ASSERT_STARTS(err.message, "%s/none.pth: there is no such file to make 'latest.pth' of", (char *)*state);
  assert_int_equal(ckpt_dir_alias(dir, "link.pth", "latest.pth", &err), CKPT_E_ARGUMENT);
  assert_content(*state, "latest.pth", "before");
  assert_clean(*state);
  ckpt_dir_close(dir);
}

static void retires_also_what_is_missing(void **state) {
  const char *names[] = {"none.pth", "a.pth", "b.pth"};
  ckpt_dir *dir = open_locked(*state, NULL);
  put_file(*state, "a.pth", "1");
  put_file(*state, "b.pth", "2");
  assert_true(ckpt_dir_has(dir, "a.pth"));
  assert_int_equal(ckpt_dir_retire(dir, names, 3, NULL), CKPT_OK);
  assert_false(ckpt_dir_has(dir, "a.pth"));
  assert_false(ckpt_dir_has(dir, "b.pth"));
  assert_int_equal(ckpt_dir_retire(dir, NULL, 0, NULL), CKPT_OK);
  ckpt_dir_close(dir);
}

static void retires_on_after_an_error(void **state) {
  const char *names[] = {"a.pth", "b.pth", "c.pth"};
  fault_io f;
  ckpt_error err = {0};
  fault_init(&f);
  for (int i = 0; i < 3; i++) put_file(*state, names[i], "x");
  ckpt_dir *dir = open_locked(*state, &f.io);
  fault_rule(&f, "unlinkat", 1, 1, EIO);
  fault_rule(&f, "unlinkat", 3, 1, EPERM);
  fault_rule(&f, "fsync", 1, 1, ENOSPC);
  assert_int_equal(ckpt_dir_retire(dir, names, 3, &err), CKPT_E_IO);
  assert_int_equal(err.sys, EIO); /* the first */
  ASSERT_STARTS(err.message, "%s/a.pth: the file cannot be removed", (char *)*state);
  assert_true(ckpt_dir_has(dir, "a.pth"));
  assert_false(ckpt_dir_has(dir, "b.pth"));
  assert_int_equal(f.rules[2].seen, 1); /* synced all the same */
  ckpt_dir_close(dir);
}

/* ---- appending ---- */

static void appends(void **state) {
  ckpt_dir *dir = open_locked(*state, NULL);
  assert_int_equal(ckpt_dir_append(dir, "log", "one\n", 4, NULL), CKPT_OK);
  assert_int_equal(ckpt_dir_append(dir, "log", "two\n", 4, NULL), CKPT_OK);
  assert_content(*state, "log", "one\ntwo\n");
  ckpt_dir_close(dir);
}

static void a_failed_append_is_taken_back(void **state) {
  const char *ops[] = {"write", "fsync"};
  for (size_t i = 0; i < CKPT_COUNTOF(ops); i++) {
    fault_io f;
    fault_init(&f);
    f.max_write = 2;
    fault_rule(&f, ops[i], i == 0 ? 2 : 1, FAULT_ALWAYS, ENOSPC);
    put_file(*state, "log", "one\n");
    ckpt_dir *dir = open_locked(*state, &f.io);
    assert_int_equal(ckpt_dir_append(dir, "log", "two\n", 4, NULL), CKPT_E_IO);
    assert_content(*state, "log", "one\n");
    assert_int_equal(ckpt_dir_append(dir, "new", "two\n", 4, NULL), CKPT_E_IO);
    assert_null(content(*state, "new"));
    ckpt_dir_close(dir);
  }
}

static void append_follows_no_link_and_waits_for_no_fifo(void **state) {
  char path[PATH_MAX];
  put_file(*state, "outside", "precious");
  assert_int_equal(symlink("outside", join(path, *state, "log")), 0);
  assert_int_equal(mkfifo(join(path, *state, "fifo"), 0600), 0);
  ckpt_dir *dir = open_locked(*state, NULL);
  alarm(5);
  assert_int_equal(ckpt_dir_append(dir, "log", "x", 1, NULL), CKPT_E_IO);
  assert_int_equal(ckpt_dir_append(dir, "fifo", "x", 1, NULL), CKPT_E_IO);
  alarm(0);
  assert_content(*state, "outside", "precious");
  ckpt_dir_close(dir);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(publishes_and_replaces),
      TEST(replaces_a_link_and_not_what_it_points_to),
      TEST(umask_is_the_kernels),
      TEST(abandon_leaves_nothing),
      TEST(size_is_what_was_written),
      TEST(short_and_interrupted_writes_go_on),
      TEST(endless_interruption_is_an_error),
      TEST(unsupported_reservation_is_ignored),
      TEST(full_disk_shows_at_the_beginning),
      TEST(full_disk_while_writing),
      TEST(failed_file_sync_is_not_repeated),
      TEST(failed_directory_sync_gives_the_name_back),
      TEST(failed_rename),
      TEST(unsupported_directory_sync_is_ignored),
      TEST(works_without_unnamed_files),
      TEST(works_where_an_unnamed_file_gets_no_name),
      TEST(bad_names_are_not_published),
      TEST(alias_is_the_same_file),
      TEST(alias_of_itself_does_nothing),
      TEST(alias_falls_back_to_a_copy),
      TEST(set_aside_under_a_name_that_is_free),
      TEST(failed_copy_leaves_the_alias),
      TEST(alias_of_nothing_or_of_a_link_is_refused),
      TEST(retires_also_what_is_missing),
      TEST(retires_on_after_an_error),
      TEST(appends),
      TEST(a_failed_append_is_taken_back),
      TEST(append_follows_no_link_and_waits_for_no_fifo),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
