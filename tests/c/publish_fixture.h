/* publish_fixture.h - what the tests of publish.h share: a directory per test, descriptors counted, files and contents.
 */
#ifndef CKPT_TEST_PUBLISH_FIXTURE_H
#define CKPT_TEST_PUBLISH_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "fault_io.h"
#include "publish.h"

static int fds_before;

static inline int set_up(void **state) {
  *state = scratch_new();
  fds_before = count_fds();
  return *state == NULL;
}

static inline int tear_down(void **state) {
  int fds = count_fds();
  scratch_free(*state);
  if (fds != fds_before) fprintf(stderr, "%d descriptors before, %d after\n", fds_before, fds);
  return fds != fds_before;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

static inline char *join(char *out, const char *dir, const char *name) {
  int n = snprintf(out, PATH_MAX, "%s/%s", dir, name);
  assert_true(n > 0 && n < PATH_MAX);
  return out;
}

static inline void put_file(const char *dir, const char *name, const char *text) {
  char path[PATH_MAX];
  int fd = open(join(path, dir, name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  assert_int_equal(write(fd, text, strlen(text)), strlen(text));
  close(fd);
}

/* Content as a string in a static inline buffer; NULL if there is no such file. */
static inline const char *content(const char *dir, const char *name) {
  static char text[256];
  char path[PATH_MAX];
  int fd = open(join(path, dir, name), O_RDONLY | O_NOFOLLOW);
  if (fd < 0) return NULL;
  ssize_t n = read(fd, text, sizeof text - 1);
  text[n < 0 ? 0 : n] = '\0';
  close(fd);
  return text;
}

static inline void assert_content(const char *dir, const char *name, const char *expected) {
  const char *text = content(dir, name);
  assert_non_null(text);
  assert_string_equal(text, expected);
}

static inline ino_t inode(const char *dir, const char *name) {
  char path[PATH_MAX];
  struct stat st;
  assert_int_equal(lstat(join(path, dir, name), &st), 0);
  return st.st_ino;
}

static inline ckpt_dir *open_locked(const char *path, const ckpt_io *io) {
  ckpt_dir *dir = NULL;
  ckpt_error err = {0};
  if (ckpt_dir_open(&dir, path, true, true, io, &err) != CKPT_OK) fail_msg("%s", err.message);
  return dir;
}

static inline ckpt_status publish(ckpt_dir *dir, const char *name, const char *text, ckpt_error *err) {
  ckpt_output *o = NULL;
  CKPT_TRY(ckpt_output_begin(&o, dir, strlen(text), err));
  ckpt_sink *sink = ckpt_output_sink(o);
  ckpt_status st = sink->write(sink, text, strlen(text), err);
  if (st == CKPT_OK) return ckpt_output_commit(o, name, err);
  ckpt_output_abandon(o);
  return st;
}

static inline void assert_clean(const char *path) { assert_int_equal(count_names(path, ".tmp-ckpt-"), 0); }

#define ASSERT_STARTS(message, ...)                                            \
  do {                                                                         \
    char expected_[PATH_MAX + 200];                                            \
    snprintf(expected_, sizeof expected_, __VA_ARGS__);                        \
    if (strncmp(message, expected_, strlen(expected_)) != 0)                   \
      fail_msg("message: %s\nexpected to start with: %s", message, expected_); \
  } while (0)

#endif
