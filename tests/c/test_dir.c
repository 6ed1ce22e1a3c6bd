/* test_dir.c - a run directory: made and synced, locked, cleaned, listed; and the names that may be used in it. */
#include "publish_fixture.h"

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

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(makes_directories),    TEST(new_directories_are_synced),   TEST(a_file_is_no_directory),
      TEST(read_only_directory),  TEST(one_writer_at_a_time),         TEST(removes_left_overs),
      TEST(lists_files_in_order), TEST(listing_fails_with_a_message), TEST(many_files),
      TEST(checks_names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
