/*
 * test_publish.c - durable files of one directory: publishing, aliases, retiring, locks and names; the fallbacks of
 * weaker file systems; and every call of the table failing once, failing from there on, and being the last one of a
 * process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "fault_io.h"
#include "publish.h"

static int fds_before;

static int set_up(void **state) {
  *state = scratch_new();
  fds_before = count_fds();
  return *state == NULL;
}

static int tear_down(void **state) {
  int fds = count_fds();
  scratch_free(*state);
  if (fds != fds_before) fprintf(stderr, "%d descriptors before, %d after\n", fds_before, fds);
  return fds != fds_before;
}

/* ---- helpers ---- */

static char *join(char *out, const char *dir, const char *name) {
  snprintf(out, PATH_MAX, "%s/%s", dir, name);
  return out;
}

static void put_file(const char *dir, const char *name, const char *text) {
  char path[PATH_MAX];
  int fd = open(join(path, dir, name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  assert_int_equal(write(fd, text, strlen(text)), strlen(text));
  close(fd);
}

/* Content as a string in a static buffer; NULL if there is no such file. */
static const char *content(const char *dir, const char *name) {
  static char text[256];
  char path[PATH_MAX];
  int fd = open(join(path, dir, name), O_RDONLY | O_NOFOLLOW);
  if (fd < 0) return NULL;
  ssize_t n = read(fd, text, sizeof text - 1);
  text[n < 0 ? 0 : n] = '\0';
  close(fd);
  return text;
}

static void assert_content(const char *dir, const char *name, const char *expected) {
  const char *text = content(dir, name);
  assert_non_null(text);
  assert_string_equal(text, expected);
}

static ino_t inode(const char *dir, const char *name) {
  char path[PATH_MAX];
  struct stat st;
  assert_int_equal(lstat(join(path, dir, name), &st), 0);
  return st.st_ino;
}

static ckpt_dir *open_locked(const char *path, const ckpt_io *io) {
  ckpt_dir *dir = NULL;
  ckpt_error err = {0};
  if (ckpt_dir_open(&dir, path, true, true, io, &err) != CKPT_OK) fail_msg("%s", err.message);
  return dir;
}

static ckpt_status publish(ckpt_dir *dir, const char *name, const char *text, ckpt_error *err) {
  ckpt_output *o = NULL;
  CKPT_TRY(ckpt_output_begin(&o, dir, strlen(text), err));
  ckpt_sink *sink = ckpt_output_sink(o);
  ckpt_status st = sink->write(sink, text, strlen(text), err);
  if (st == CKPT_OK) return ckpt_output_commit(o, name, err);
  ckpt_output_abandon(o);
  return st;
}

static void assert_clean(const char *path) { assert_int_equal(count_names(path, ".tmp-ckpt-"), 0); }

#define ASSERT_STARTS(message, ...)                                            \
  do {                                                                         \
    char expected_[PATH_MAX + 200];                                            \
    snprintf(expected_, sizeof expected_, __VA_ARGS__);                        \
    if (strncmp(message, expected_, strlen(expected_)) != 0)                   \
      fail_msg("message: %s\nexpected to start with: %s", message, expected_); \
  } while (0)

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

/* ---- directories ---- */

static void makes_directories(void **state) {
  char path[PATH_MAX];
  struct stat st;
  fault_io f;
  fault_init(&f);
  ckpt_dir *dir = open_locked(join(path, *state, "x//y/z///"), &f.io);
  fault_rule(&f, "fsync", 1, 0, EIO);
  assert_int_equal(strcmp(ckpt_dir_path(dir) + strlen(*state), "/x//y/z"), 0);
  assert_int_equal(publish(dir, "a.pth", "x", NULL), CKPT_OK);
  assert_content(join(path, *state, "x/y/z"), "a.pth", "x");
  ckpt_dir_close(dir);
  dir = NULL;
  assert_int_equal(ckpt_dir_open(&dir, join(path, *state, "none/"), false, false, NULL, NULL), CKPT_E_NOTFOUND);
  assert_int_equal(stat(path, &st), -1);
  assert_int_equal(ckpt_dir_open(&dir, "", true, true, NULL, NULL), CKPT_E_ARGUMENT);
  assert_null(dir);
}

/* A new directory is only there after a power loss if its parent was synced. */
static void new_directories_are_synced(void **state) {
  char path[PATH_MAX];
  fault_io f;
  ckpt_error err = {0};
  ckpt_dir *dir = NULL;
  fault_init(&f);
  fault_rule(&f, "fsync", 1, 1, EIO);
  assert_int_equal(ckpt_dir_open(&dir, join(path, *state, "x/y"), true, false, &f.io, &err), CKPT_E_IO);
  assert_non_null(strstr(err.message, "/x: the new directory cannot be synced"));
  fault_init(&f);
  fault_rule(&f, "fsync", 1, 0, 0);
  assert_int_equal(ckpt_dir_open(&dir, path, true, false, &f.io, &err), CKPT_OK);
  assert_int_equal(f.rules[0].seen, 1); /* x is there now, y is new */
  ckpt_dir_close(dir);
}

static void a_file_is_no_directory(void **state) {
  char path[PATH_MAX];
  ckpt_dir *dir = NULL;
  ckpt_error err = {0};
  put_file(*state, "plain", "x");
  assert_int_equal(ckpt_dir_open(&dir, join(path, *state, "plain"), true, true, NULL, &err), CKPT_E_NOTFOUND);
  ASSERT_STARTS(err.message, "%s: this is not a directory", path);
  assert_int_equal(ckpt_dir_open(&dir, join(path, *state, "plain/x"), true, true, NULL, &err), CKPT_E_NOTFOUND);
  assert_null(dir);
}

static void read_only_directory(void **state) {
  const int errors[] = {EROFS, EACCES};
  for (size_t i = 0; i < CKPT_COUNTOF(errors); i++) {
    fault_io f;
    ckpt_dir *dir = NULL;
    ckpt_error err = {0};
    fault_init(&f);
    fault_rule(&f, "openat", 2, 1, errors[i]);
    assert_int_equal(ckpt_dir_open(&dir, *state, true, true, &f.io, &err), CKPT_E_IO);
    assert_int_equal(err.sys, errors[i]);
    ASSERT_STARTS(err.message, "%s: checkpoints cannot be written here, the directory is read-only", (char *)*state);
    assert_null(dir);
  }
}

/* A second process; what it saw comes back as its exit status. */
static int open_in_child(const char *path) {
  pid_t pid = fork();
  if (pid == 0) {
    ckpt_dir *dir = NULL;
    ckpt_error err = {0};
    ckpt_status st = ckpt_dir_open(&dir, path, true, true, NULL, &err);
    bool told = strstr(err.message, ": another process is writing checkpoints here (lock .ckpt.lock is held)") != NULL;
    ckpt_dir_close(dir);
    _exit(st == CKPT_OK ? 1 : st == CKPT_E_BUSY && told ? 2 : 3);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void one_writer_at_a_time(void **state) {
  ckpt_dir *dir = open_locked(*state, NULL), *reader = NULL;
  put_file(*state, ".tmp-ckpt-0123456789abcdef", "of a living writer");
  assert_int_equal(open_in_child(*state), 2);
  assert_int_equal(count_names(*state, ".tmp-ckpt-"), 1); /* who has no lock cleans nothing */
  assert_int_equal(ckpt_dir_open(&reader, *state, false, false, NULL, NULL), CKPT_OK);
  ckpt_dir_close(reader);
  ckpt_dir_close(dir);
  assert_int_equal(open_in_child(*state), 1);
}

static void removes_left_overs(void **state) {
  char path[PATH_MAX];
  put_file(*state, ".tmp-ckpt-0123456789abcdef", "x");
  put_file(*state, ".tmp-ckpt-alias-0123456789abcdef", "x");
  put_file(*state, ".tmp-other", "x");
  put_file(*state, "a.pth", "x");
  assert_int_equal(mkdir(join(path, *state, ".tmp-ckpt-directory"), 0700), 0);
  ckpt_dir *dir = NULL;
  assert_int_equal(ckpt_dir_open(&dir, *state, true, false, NULL, NULL), CKPT_OK);
  ckpt_dir_close(dir);
  assert_int_equal(count_names(*state, ".tmp-ckpt-"), 3);
  assert_int_equal(count_names(*state, ".ckpt.lock"), 0); /* without lock the directory is only read */
  dir = open_locked(*state, NULL);
  assert_int_equal(count_names(*state, ".tmp-ckpt-"), 1); /* not a file, not ours */
  assert_content(*state, ".tmp-other", "x");
  assert_content(*state, "a.pth", "x");
  ckpt_dir_close(dir);
}

static void lists_files_in_order(void **state) {
  char path[PATH_MAX];
  const char *names[] = {"b.pth", "a.pth", "B.pth", ".hidden", "a10.pth", "a9.pth"};
  const char *expected[] = {"B.pth", "a.pth", "a10.pth", "a9.pth", "b.pth"};
  ckpt_dir_entry *list = NULL;
  size_t n = 0;
  for (size_t i = 0; i < CKPT_COUNTOF(names); i++) put_file(*state, names[i], names[i]);
  assert_int_equal(mkdir(join(path, *state, "folder"), 0700), 0);
  assert_int_equal(symlink("a.pth", join(path, *state, "link.pth")), 0);
  ckpt_dir *dir = open_locked(*state, NULL);
  for (int round = 0; round < 2; round++) { /* a second time too: the position in the directory does not matter */
    assert_int_equal(ckpt_dir_list(&list, &n, dir, NULL), CKPT_OK);
    assert_int_equal(n, CKPT_COUNTOF(expected));
    for (size_t i = 0; i < n; i++) {
      assert_string_equal(list[i].name, expected[i]);
      assert_int_equal(list[i].bytes, strlen(expected[i]));
      assert_int_equal(list[i].inode, inode(*state, expected[i]));
      assert_true(list[i].mtime > 1000000000);
    }
    ckpt_dir_list_free(list, n);
  }
  ckpt_dir_close(dir);
}

static void listing_fails_with_a_message(void **state) {
  const char *ops[] = {"list", "statat"};
  for (size_t i = 0; i < CKPT_COUNTOF(ops); i++) {
    fault_io f;
    ckpt_dir_entry *list = NULL;
    size_t n = 7;
    ckpt_error err = {0};
    fault_init(&f);
    put_file(*state, "a.pth", "x");
    put_file(*state, "b.pth", "x");
    ckpt_dir *dir = open_locked(*state, &f.io);
    fault_rule(&f, ops[i], i == 0 ? 1 : 2, 1, EIO);
    assert_int_equal(ckpt_dir_list(&list, &n, dir, &err), CKPT_E_IO);
    ASSERT_STARTS(err.message, "%s", (char *)*state);
    assert_null(list);
    assert_int_equal(n, 7);
    ckpt_dir_close(dir);
  }
}

static void many_files(void **state) {
  char name[32];
  ckpt_dir_entry *list = NULL;
  size_t n = 0;
  for (int i = 0; i < 300; i++) {
    snprintf(name, sizeof name, "f%03d", 299 - i);
    put_file(*state, name, "");
  }
  ckpt_dir *dir = open_locked(*state, NULL);
  assert_int_equal(ckpt_dir_list(&list, &n, dir, NULL), CKPT_OK);
  assert_int_equal(n, 300);
  assert_string_equal(list[0].name, "f000");
  assert_string_equal(list[299].name, "f299");
  ckpt_dir_list_free(list, n);
  ckpt_dir_close(dir);
}

/* ---- names ---- */

static void checks_names(void **state) {
  (void)state;
  char longest[202], message[64];
  memset(longest, 'x', sizeof longest);
  longest[201] = '\0';
  const struct {
    const char *name, *why; /* NULL: a good one */
  } names[] = {
      {"a.pth", NULL},
      {"a b", NULL},
      {"modell_\xc3\xa4.pth", NULL},
      {"a..b", NULL},
      {"-", NULL},
      {longest + 1, NULL},
      {longest, "longer than 200"},
      {"", "empty"},
      {".", "begins with"},
      {"..", "begins with"},
      {".hidden", "begins with"},
      {"a/b", "'/'"},
      {"/", "'/'"},
      {"../a", "begins with"},
      {"a\nb", "control"},
      {"a\x7f", "control"},
      {"\x1b[31m", "control"},
  };
  for (size_t i = 0; i < CKPT_COUNTOF(names); i++) {
    ckpt_error err = {0};
    ckpt_status st = ckpt_name_check(names[i].name, &err);
    assert_int_equal(st, names[i].why == NULL ? CKPT_OK : CKPT_E_ARGUMENT);
    if (names[i].why != NULL) assert_non_null(strstr(err.message, names[i].why));
    for (const char *p = err.message; *p != '\0'; p++) assert_true((unsigned char)*p >= 0x20 && *p != 0x7f);
  }
  snprintf(message, sizeof message, "%d", ckpt_name_check("a/b", NULL));
  assert_string_equal(message, "-2");
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

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

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
      TEST(failed_copy_leaves_the_alias),
      TEST(alias_of_nothing_or_of_a_link_is_refused),
      TEST(retires_also_what_is_missing),
      TEST(retires_on_after_an_error),
      TEST(makes_directories),
      TEST(new_directories_are_synced),
      TEST(a_file_is_no_directory),
      TEST(read_only_directory),
      TEST(one_writer_at_a_time),
      TEST(removes_left_overs),
      TEST(lists_files_in_order),
      TEST(listing_fails_with_a_message),
      TEST(many_files),
      cmocka_unit_test(checks_names),
      TEST(appends),
      TEST(a_failed_append_is_taken_back),
      TEST(append_follows_no_link_and_waits_for_no_fifo),
      TEST(every_call_fails_once),
      TEST(every_call_fails_from_there_on),
      TEST(a_process_ends_before_every_call),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
