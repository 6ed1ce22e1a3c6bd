// LDFLAGS: -Wl,--wrap=pthread_create,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup
/*
 * test_direct.c - large new files: every way in which they are written gives the same bytes, and every failing write is
 * told: with direct writing and without, with the thread and without, in short writes, with each call failing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above first */
#include <cmocka.h>

#include "alloc_faults.h"
#include "fault_io.h"
#include "direct.h"

static bool threads_allowed = true;

int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*run)(void *), void *arg) {
  return threads_allowed ? __real_pthread_create(t, a, run, arg) : EAGAIN;
}

enum { LARGE = (5 << 20) + 1234 };

static unsigned char *noise(size_t n) {
  unsigned char *data = malloc(n);
  uint32_t x = 1;
  for (size_t i = 0; i < n; i++) data[i] = (unsigned char)((x = x * 1664525 + 1013904223) >> 24);
  return data;
}

static int unnamed(void) {
  char path[PATH_MAX];
  const char *base = getenv("TMPDIR");
  snprintf(path, sizeof path, "%s/ckpt-stream-XXXXXX", base == NULL ? "/tmp" : base);
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  unlink(path);
  return fd;
}

/* In pieces of growing, odd sizes; the first failure. */
static int write_pieces(ckpt_direct *s, const unsigned char *data, size_t size) {
  int failed = 0;
  for (size_t at = 0, n = 1; failed == 0 && at < size; at += n, n = n * 3 + 1) {
    if (n > size - at) n = size - at;
    failed = ckpt_direct_write(s, data + at, n);
  }
  int flushed = ckpt_direct_flush(s);
  return failed != 0 ? failed : flushed;
}

static int run(const ckpt_io *io, int fd, const unsigned char *data, size_t size) {
  ckpt_direct *s = NULL;
  assert_int_equal(ckpt_direct_new(&s, io, fd, NULL), CKPT_OK);
  int failed = write_pieces(s, data, size);
  ckpt_direct_free(s);
  return failed;
}

static void assert_holds(int fd, const unsigned char *data, size_t size) {
  unsigned char *back = malloc(size + 1);
  assert_int_equal(pread(fd, back, size + 1, 0), size);
  assert_memory_equal(back, data, size);
  assert_int_equal(fcntl(fd, F_GETFL) & O_DIRECT, 0); /* as it was */
  free(back);
}

static void test_same_bytes_in_every_way(void **state) {
  (void)state;
  static const size_t sizes[] = {0, 1, 4096, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20, LARGE};
  unsigned char *data = noise(LARGE);
  for (int way = 0; way < 16; way++)
    for (size_t i = 0; i < CKPT_COUNTOF(sizes); i++) {
      fault_io f;
      fault_init(&f);
      int fd = unnamed();
      threads_allowed = (way & 1) != 0;
      if ((way & 2) != 0) fault_rule(&f, "direct", 1, FAULT_ALWAYS, EINVAL);
      if ((way & 4) != 0) f.max_write = 100000; /* no multiple of what direct writing wants */
      if ((way & 8) != 0) f.io.direct = NULL;
      assert_int_equal(run(&f.io, fd, data, sizes[i]), 0);
      assert_holds(fd, data, sizes[i]);
      close(fd);
    }
  threads_allowed = true;
  free(data);
}

static void test_each_write_fails(void **state) {
  (void)state;
  unsigned char *data = noise(LARGE);
  for (int threads = 0; threads < 2; threads++)
    for (int nth = 1; nth <= 6; nth++) {
      fault_io f;
      fault_init(&f);
      int fd = unnamed();
      threads_allowed = threads != 0;
      fault_rule(&f, "write", nth, 1, EIO);
      assert_int_equal(run(&f.io, fd, data, LARGE), EIO);
      close(fd);
    }
  threads_allowed = true;
  free(data);
}

/* Given up in the middle: the thread ends, and nothing is left open. */
static void test_freed_in_the_middle(void **state) {
  (void)state;
  unsigned char *data = noise(LARGE);
  ckpt_direct *s = NULL;
  int fd = unnamed();
  assert_int_equal(ckpt_direct_new(&s, ckpt_io_posix(), fd, NULL), CKPT_OK);
  assert_int_equal(ckpt_direct_write(s, data, LARGE), 0);
  ckpt_direct_free(s);
  ckpt_direct_free(NULL);
  close(fd);
  free(data);
}

static ckpt_status new_and_free(void *context, ckpt_error *err) {
  ckpt_direct *s = NULL;
  ckpt_status st = ckpt_direct_new(&s, ckpt_io_posix(), *(int *)context, err);
  ckpt_direct_free(s);
  return st;
}

static void test_without_memory(void **state) {
  (void)state;
  int fd = unnamed();
  threads_allowed = false; /* the countdown is the test's own */
  assert_int_equal(fail_each_allocation(new_and_free, &fd), 2);
  threads_allowed = true;
  close(fd);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_same_bytes_in_every_way),
      cmocka_unit_test(test_each_write_fails),
      cmocka_unit_test(test_freed_in_the_middle),
      cmocka_unit_test(test_without_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
