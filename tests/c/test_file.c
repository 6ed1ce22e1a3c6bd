/* test_file.c - mappings: what can be mapped, what is refused and how, and that counted mappings outlive their opener.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#include "fault_io.h"
#include "file.h"

static int set_up(void **state) {
  *state = scratch_new();
  return *state == NULL;
}

static int tear_down(void **state) {
  scratch_free(*state);
  return 0;
}

static char *join(char *out, const char *dir, const char *name) {
  snprintf(out, PATH_MAX, "%s/%s", dir, name);
  return out;
}

static void put_file(const char *path, const char *data, size_t size) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  assert_int_equal(write(fd, data, size), size);
  close(fd);
}

static void assert_fails(const char *path, ckpt_status status, const char *text) {
  ckpt_mapping *m = NULL;
  ckpt_error err = {0};
  int fds = count_fds();
  assert_int_equal(ckpt_mapping_open(&m, path, &err), status);
  assert_int_equal(err.status, status);
  assert_null(m);
  assert_int_equal(strncmp(err.message, path, strlen(path)), 0);
  assert_non_null(strstr(err.message, text));
  assert_int_equal(ckpt_mapping_open(&m, path, NULL), status);
  assert_int_equal(count_fds(), fds);
}

static void maps_a_file(void **state) {
  char path[PATH_MAX];
  ckpt_mapping *m = NULL;
  put_file(join(path, *state, "a.pth"), "hello\0world", 11);
  int fds = count_fds();
  assert_int_equal(ckpt_mapping_open(&m, path, NULL), CKPT_OK);
  assert_int_equal(count_fds(), fds); /* the mapping needs no descriptor */
  assert_int_equal(ckpt_mapping_size(m), 11);
  assert_memory_equal(ckpt_mapping_data(m), "hello\0world", 11);
  unlink(path);
  assert_memory_equal(ckpt_mapping_data(m), "hello\0world", 11);
  ckpt_mapping_release(m);
}

static void maps_an_empty_file(void **state) {
  char path[PATH_MAX];
  ckpt_mapping *m = NULL;
  put_file(join(path, *state, "empty"), "", 0);
  assert_int_equal(ckpt_mapping_open(&m, path, NULL), CKPT_OK);
  assert_int_equal(ckpt_mapping_size(m), 0);
  assert_non_null(ckpt_mapping_data(m));
  ckpt_mapping_release(m);
}

static void maps_a_descriptor_that_stays_open(void **state) {
  char path[PATH_MAX];
  ckpt_mapping *m = NULL;
  put_file(join(path, *state, "a"), "x", 1);
  int fd = open(path, O_RDONLY);
  assert_int_equal(ckpt_mapping_open_fd(&m, fd, "a", NULL), CKPT_OK);
  assert_int_equal(fcntl(fd, F_GETFD) >= 0, 1);
  close(fd);
  assert_int_equal(ckpt_mapping_data(m)[0], 'x');
  ckpt_mapping_release(m);
}

static void bad_descriptor_fails(void **state) {
  (void)state;
  ckpt_mapping *m = NULL;
  ckpt_error err = {0};
  assert_int_equal(ckpt_mapping_open_fd(&m, -1, "nobody.pth", &err), CKPT_E_IO);
  assert_int_equal(err.sys, EBADF);
  assert_non_null(strstr(err.message, "nobody.pth: "));
}

static void maps_memory(void **state) {
  (void)state;
  static const char data[] = "abc";
  ckpt_mapping *m = NULL;
  assert_int_equal(ckpt_mapping_memory(&m, data, 3, NULL), CKPT_OK);
  assert_ptr_equal(ckpt_mapping_data(m), data);
  assert_int_equal(ckpt_mapping_size(m), 3);
  ckpt_mapping_release(m);
}

/* The last release unmaps; the one before it does not (a use after free would be seen by the sanitizer). */
static void counts(void **state) {
  char path[PATH_MAX];
  ckpt_mapping *m = NULL;
  put_file(join(path, *state, "a"), "x", 1);
  assert_int_equal(ckpt_mapping_open(&m, path, NULL), CKPT_OK);
  assert_ptr_equal(ckpt_mapping_retain(m), m);
  ckpt_mapping_release(m);
  assert_int_equal(ckpt_mapping_data(m)[0], 'x');
  ckpt_mapping_release(m);
  ckpt_mapping_release(NULL);
}

static void *retain_and_release(void *arg) {
  for (int i = 0; i < 50000; i++) ckpt_mapping_release(ckpt_mapping_retain(arg));
  return NULL;
}

static void counts_across_threads(void **state) {
  (void)state;
  pthread_t threads[4];
  ckpt_mapping *m = NULL;
  assert_int_equal(ckpt_mapping_memory(&m, "x", 1, NULL), CKPT_OK);
  for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, retain_and_release, m), 0);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  assert_int_equal(ckpt_mapping_data(m)[0], 'x');
  ckpt_mapping_release(m); /* the leak checker sees a count that is too high */
}

static void refuses_what_is_no_file(void **state) {
  char path[PATH_MAX];
  assert_fails(*state, CKPT_E_FORMAT, "a directory, not a checkpoint file");
  assert_fails(join(path, *state, "none.pth"), CKPT_E_NOTFOUND, "there is no such file");
  put_file(join(path, *state, "plain"), "x", 1);
  assert_fails(join(path, *state, "plain/below"), CKPT_E_NOTFOUND, "there is no such file");
  assert_fails("/dev/null", CKPT_E_FORMAT, "device");
  assert_fails("", CKPT_E_NOTFOUND, "there is no such file");
  assert_int_equal(symlink("loop", join(path, *state, "loop")), 0);
  assert_fails(path, CKPT_E_IO, "cannot be opened");
}

/* alarm() ends the test program if the open waits for a writer. */
static void fifo_does_not_hang(void **state) {
  char path[PATH_MAX];
  assert_int_equal(mkfifo(join(path, *state, "fifo"), 0600), 0);
  alarm(5);
  assert_fails(path, CKPT_E_FORMAT, "FIFO");
  alarm(0);
}

static void socket_is_refused(void **state) {
  char path[PATH_MAX];
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  assert_true(strlen(join(path, *state, "socket")) < sizeof address.sun_path);
  memcpy(address.sun_path, path, strlen(path) + 1);
  assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
  assert_fails(path, CKPT_E_FORMAT, "socket");
  close(fd);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(maps_a_file, set_up, tear_down),
      cmocka_unit_test_setup_teardown(maps_an_empty_file, set_up, tear_down),
      cmocka_unit_test_setup_teardown(maps_a_descriptor_that_stays_open, set_up, tear_down),
      cmocka_unit_test(bad_descriptor_fails),
      cmocka_unit_test(maps_memory),
      cmocka_unit_test_setup_teardown(counts, set_up, tear_down),
      cmocka_unit_test(counts_across_threads),
      cmocka_unit_test_setup_teardown(refuses_what_is_no_file, set_up, tear_down),
      cmocka_unit_test_setup_teardown(fifo_does_not_hang, set_up, tear_down),
      cmocka_unit_test_setup_teardown(socket_is_refused, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
