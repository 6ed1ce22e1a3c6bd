/* test_ledger.c - the journal: what is written is read back, torn and foreign lines cost nothing but themselves. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "fault_io.h"
#include "ledger.h"

typedef struct fixture {
  char *path;
  ckpt_dir *dir;
  fault_io f;
  int fds;
} fixture;

static int set_up(void **state) {
  fixture *x = calloc(1, sizeof *x);
  x->path = scratch_new();
  x->fds = count_fds();
  fault_init(&x->f);
  *state = x;
  return ckpt_dir_open(&x->dir, x->path, true, true, &x->f.io, NULL);
}

static int tear_down(void **state) {
  fixture *x = *state;
  ckpt_dir_close(x->dir);
  int leaked = count_fds() - x->fds;
  scratch_free(x->path);
  free(x);
  return leaked;
}

/* ---- helpers ---- */

static void put_raw(const fixture *x, const char *text, size_t size, int flags) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/" CKPT_LEDGER_NAME, x->path);
  int fd = open(path, O_WRONLY | O_CREAT | flags, 0600);
  assert_int_equal(write(fd, text, size), size);
  close(fd);
}

static void set_raw(const fixture *x, const char *text) { put_raw(x, text, strlen(text), O_TRUNC); }

static const char *raw(const fixture *x) {
  static char text[8192];
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/" CKPT_LEDGER_NAME, x->path);
  int fd = open(path, O_RDONLY);
  if (fd < 0) return NULL;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  text[n < 0 ? 0 : n] = '\0';
  return text;
}

static ckpt_ledger *read_back(const fixture *x, size_t n, size_t skipped) {
  ckpt_ledger *ledger = NULL;
  ckpt_error err = {0};
  if (ckpt_ledger_read(&ledger, x->dir, &err) != CKPT_OK) fail_msg("%s", err.message);
  assert_int_equal(ledger->n, n);
  assert_int_equal(ledger->skipped, skipped);
  return ledger;
}

/* The one entry of a one-line ledger. */
static ckpt_ledger *read_one(const fixture *x, const char *line) {
  set_raw(x, line);
  return read_back(x, 1, 0);
}

static char event_save[] = "save", file_12[] = "model_epoch12.pth", latest[] = "model_latest.pth";
static char best_name[] = "b\xc3\xa4st \"1\".pth", old_9[] = "model_epoch9.pth", acc[] = "acc";

static ckpt_ledger_entry plain_entry(void) {
  return (ckpt_ledger_entry){.event = event_save, .time = INT64_MIN, .epoch = INT64_MIN, .step = INT64_MIN};
}

/* ---- round trips ---- */

static void absent_ledger_is_empty(void **state) {
  ckpt_ledger_free(read_back(*state, 0, 0));
  ckpt_ledger_free(NULL);
}

static void entry_is_the_line_of_the_header(void **state) {
  fixture *x = *state;
  char *aliases[] = {latest}, *retired[] = {old_9};
  ckpt_metric metrics[] = {{acc, 0.9527}};
  ckpt_ledger_entry e = {event_save, 1764000000, 12, 1440, file_12, 411838, false, 1, 1, 1, aliases, retired, metrics};
  assert_int_equal(ckpt_ledger_append(x->dir, &e, NULL), CKPT_OK);
  assert_string_equal(
      raw(x),
      "{\"event\":\"save\",\"time\":1764000000,\"epoch\":12,\"step\":1440,\"file\":\"model_epoch12.pth\","
      "\"bytes\":411838,\"aliases\":[\"model_latest.pth\"],\"retired\":[\"model_epoch9.pth\"],"
      "\"best\":false,\"metrics\":{\"acc\":0.9527}}\n");
}

static void everything_comes_back(void **state) {
  fixture *x = *state;
  char *aliases[] = {latest, best_name}, *retired[] = {old_9};
  ckpt_metric metrics[] = {{acc, 0.1 + 0.2}};
  ckpt_ledger_entry e = {event_save, -1, 0,       INT64_MAX, best_name, (uint64_t)1 << 40, true, 2,
                         1,          1,  aliases, retired,   metrics};
  assert_int_equal(ckpt_ledger_append(x->dir, &e, NULL), CKPT_OK);
  ckpt_ledger *ledger = read_back(x, 1, 0);
  const ckpt_ledger_entry *r = ledger->entries;
  assert_string_equal(r->event, "save");
  assert_true(r->time == -1 && r->epoch == 0 && r->step == INT64_MAX);
  assert_string_equal(r->file, best_name);
  assert_true(r->bytes == (uint64_t)1 << 40 && r->best);
  assert_true(r->n_aliases == 2 && r->n_retired == 1 && r->n_metrics == 1);
  assert_string_equal(r->aliases[0], latest);
  assert_string_equal(r->aliases[1], best_name);
  assert_string_equal(r->retired[0], old_9);
  assert_string_equal(r->metrics[0].name, acc);
  assert_true(r->metrics[0].value == 0.1 + 0.2);
  ckpt_ledger_free(ledger);
}

static void what_is_not_recorded_stays_so(void **state) {
  fixture *x = *state;
  ckpt_ledger_entry e = plain_entry();
  assert_int_equal(ckpt_ledger_append(x->dir, &e, NULL), CKPT_OK);
  assert_string_equal(raw(x), "{\"event\":\"save\",\"best\":false}\n");
  ckpt_ledger *ledger = read_back(x, 1, 0);
  const ckpt_ledger_entry *r = ledger->entries;
  assert_true(r->time == INT64_MIN && r->epoch == INT64_MIN && r->step == INT64_MIN);
  assert_null(r->file);
  assert_true(r->bytes == 0 && !r->best && r->n_aliases + r->n_retired + r->n_metrics == 0);
  ckpt_ledger_free(ledger);
}

static bool same_number(double a, double b) { return (isnan(a) && isnan(b)) || (a == b && signbit(a) == signbit(b)); }

static void all_numbers_come_back(void **state) {
  fixture *x = *state;
  const double values[] = {NAN,       INFINITY, -INFINITY, 0.0, -0.0, 1.0, 0.1, 1e300, 5e-324, 0x1.fffffffffffffp1023,
                           1.0 / 3.0, 1e22,     -2.5};
  ckpt_metric metrics[CKPT_COUNTOF(values)];
  char names[CKPT_COUNTOF(values)][8];
  for (size_t i = 0; i < CKPT_COUNTOF(values); i++) {
    snprintf(names[i], sizeof names[i], "m%zu", i);
    metrics[i] = (ckpt_metric){names[i], values[i]};
  }
  ckpt_ledger_entry e = plain_entry();
  e.n_metrics = CKPT_COUNTOF(values);
  e.metrics = metrics;
  assert_int_equal(ckpt_ledger_append(x->dir, &e, NULL), CKPT_OK);
  assert_non_null(strstr(raw(x), "\"m0\":\"nan\",\"m1\":\"inf\",\"m2\":\"-inf\""));
  ckpt_ledger *ledger = read_back(x, 1, 0);
  assert_int_equal(ledger->entries[0].n_metrics, CKPT_COUNTOF(values));
  for (size_t i = 0; i < CKPT_COUNTOF(values); i++) {
    assert_string_equal(ledger->entries[0].metrics[i].name, names[i]); /* in order */
    assert_true(same_number(ledger->entries[0].metrics[i].value, values[i]));
  }
  ckpt_ledger_free(ledger);
}

static void many_entries_keep_their_order(void **state) {
  fixture *x = *state;
  for (int i = 0; i < 150; i++) {
    ckpt_ledger_entry e = plain_entry();
    e.epoch = i;
    assert_int_equal(ckpt_ledger_append(x->dir, &e, NULL), CKPT_OK);
  }
  ckpt_ledger *ledger = read_back(x, 150, 0);
  for (int i = 0; i < 150; i++) assert_int_equal(ledger->entries[i].epoch, i);
  ckpt_ledger_free(ledger);
}

static void a_name_that_json_cannot_hold_is_refused(void **state) {
  fixture *x = *state;
  char bad[] = "caf\xe9.pth", *list[] = {latest, bad};
  ckpt_metric metric = {bad, 1};
  for (int i = 0; i < 3; i++) {
    ckpt_error err = {0};
    ckpt_ledger_entry e = plain_entry();
    if (i == 0) e.file = bad;
    if (i == 1) e.aliases = list, e.n_aliases = 2;
    if (i == 2) e.metrics = &metric, e.n_metrics = 1;
    assert_int_equal(ckpt_ledger_append(x->dir, &e, &err), CKPT_E_ARGUMENT);
    assert_non_null(strstr(err.message, "not valid UTF-8"));
  }
  assert_null(raw(x));
}

/* ---- damage ---- */

static void a_torn_last_line_is_ignored(void **state) {
  fixture *x = *state;
  set_raw(x, "{\"event\":\"a\"}\n{\"event\":\"b\",\"ep");
  ckpt_ledger *ledger = read_back(x, 1, 0);
  assert_string_equal(ledger->entries[0].event, "a");
  ckpt_ledger_free(ledger);
  set_raw(x, "{\"event\":\"a\"}\n{\"event\":\"b\"}"); /* whole, but it was not acknowledged */
  ckpt_ledger_free(read_back(x, 1, 0));
}

static void the_next_append_starts_on_a_new_line(void **state) {
  fixture *x = *state;
  ckpt_ledger_entry e = plain_entry();
  set_raw(x, "{\"event\":\"a\"}\n{\"event\":\"b\",\"ep");
  assert_int_equal(ckpt_ledger_append(x->dir, &e, NULL), CKPT_OK);
  assert_int_equal(ckpt_ledger_append(x->dir, &e, NULL), CKPT_OK);
  assert_string_equal(raw(x),
                      "{\"event\":\"a\"}\n{\"event\":\"b\",\"ep\n{\"event\":\"save\",\"best\":false}\n"
                      "{\"event\":\"save\",\"best\":false}\n");
  ckpt_ledger_free(read_back(x, 3, 1));
}

/* Cut at every byte: what was whole before the cut is there, and an append after it is read. */
static void cut_anywhere(void **state) {
  fixture *x = *state;
  const char text[] = "{\"event\":\"a\",\"epoch\":1}\n{\"event\":\"b\",\"metrics\":{\"acc\":0.5}}\n";
  for (size_t cut = 0; cut < sizeof text; cut++) {
    size_t whole = 0;
    for (size_t i = 0; i < cut; i++) whole += text[i] == '\n';
    put_raw(x, text, cut, O_TRUNC);
    ckpt_ledger_free(read_back(x, whole, 0));
    ckpt_ledger_entry e = plain_entry();
    ckpt_ledger *ledger = NULL;
    assert_int_equal(ckpt_ledger_append(x->dir, &e, NULL), CKPT_OK);
    assert_int_equal(ckpt_ledger_read(&ledger, x->dir, NULL), CKPT_OK);
    assert_true(ledger->n >= whole + 1 && ledger->skipped <= 1);
    assert_string_equal(ledger->entries[ledger->n - 1].event, "save");
    ckpt_ledger_free(ledger);
  }
}

/* Each byte changed into some others: never fatal, and the other line is always there. */
static void changed_anywhere(void **state) {
  fixture *x = *state;
  const char text[] =
      "{\"event\":\"a\",\"epoch\":1,\"aliases\":[\"x\"],\"metrics\":{\"acc\":0.5}}\n{\"event\":\"b\"}\n";
  const char with[] = {'\0', '"', '}', '\n', (char)0xff, '9'};
  for (size_t i = 0; i < sizeof text - 16; i++)
    for (size_t k = 0; k < sizeof with; k++) {
      char changed[sizeof text];
      ckpt_ledger *ledger = NULL;
      memcpy(changed, text, sizeof text);
      changed[i] = with[k];
      put_raw(x, changed, sizeof text - 1, O_TRUNC);
      assert_int_equal(ckpt_ledger_read(&ledger, x->dir, NULL), CKPT_OK);
      assert_true(ledger->n >= 1 || ledger->skipped >= 1);
      if (with[k] != '\n' && text[i] != '\n') assert_string_equal(ledger->entries[ledger->n - 1].event, "b");
      ckpt_ledger_free(ledger);
    }
}

static void garbage_lines_are_counted(void **state) {
  fixture *x = *state;
  set_raw(
      x, "{\"event\":\"a\"}\nrubbish\n[1,2]\n42\n\"text\"\nnull\n\n  \t\r\n{\"event\":\"b\"}\r\n{}\n{\"event\":NaN}\n");
  ckpt_ledger *ledger = read_back(x, 3, 6);
  assert_string_equal(ledger->entries[1].event, "b");
  assert_string_equal(ledger->entries[2].event, "");
  ckpt_ledger_free(ledger);
}

static void a_zero_filled_tail_is_ignored(void **state) {
  fixture *x = *state;
  char text[64] = "{\"event\":\"a\"}\n"; /* what some file systems leave after a power loss */
  put_raw(x, text, sizeof text, O_TRUNC);
  ckpt_ledger_free(read_back(x, 1, 0));
  ckpt_ledger_entry e = plain_entry();
  assert_int_equal(ckpt_ledger_append(x->dir, &e, NULL), CKPT_OK);
  ckpt_ledger_free(read_back(x, 2, 1));
}

static void wrong_types_are_as_good_as_absent(void **state) {
  fixture *x = *state;
  ckpt_ledger *ledger =
      read_one(x,
               "{\"event\":7,\"time\":\"now\",\"epoch\":1.5,\"step\":null,\"file\":[],\"bytes\":-3,\"best\":1,"
               "\"aliases\":{\"a\":1},\"retired\":[1,\"x\",null,\"y\"],\"metrics\":{\"a\":null,\"b\":1,\"c\":\"nan\","
               "\"d\":\"much\"}}\n");
  const ckpt_ledger_entry *r = ledger->entries;
  assert_string_equal(r->event, "");
  assert_true(r->time == INT64_MIN && r->epoch == INT64_MIN && r->step == INT64_MIN);
  assert_null(r->file);
  assert_true(r->bytes == 0 && !r->best && r->n_aliases == 0 && r->n_retired == 2 && r->n_metrics == 2);
  assert_string_equal(r->retired[0], "x");
  assert_string_equal(r->retired[1], "y");
  assert_string_equal(r->metrics[0].name, "b");
  assert_true(r->metrics[0].value == 1 && isnan(r->metrics[1].value));
  ckpt_ledger_free(ledger);
  ckpt_ledger_free(read_one(x, "{\"aliases\":\"x\",\"retired\":7,\"metrics\":[1]}\n"));
}

static void odd_numbers_cost_no_line(void **state) {
  fixture *x = *state;
  ckpt_ledger *ledger = read_one(x, "{\"epoch\":12.0,\"step\":99999999999999999999,\"time\":1e300,\"bytes\":2e3}\n");
  assert_true(ledger->entries[0].epoch == 12 && ledger->entries[0].step == INT64_MIN);
  assert_true(ledger->entries[0].time == INT64_MIN && ledger->entries[0].bytes == 2000);
  ckpt_ledger_free(ledger);
  ledger = read_one(x, "{\"event\":\"a\\u0000b\",\"file\":\"x\\u0000\",\"epoch\":3,\"epoch\":4}\n");
  assert_string_equal(ledger->entries[0].event, "");
  assert_null(ledger->entries[0].file);
  assert_int_equal(ledger->entries[0].epoch, 4);
  ckpt_ledger_free(ledger);
}

static void deep_nesting_is_a_garbage_line(void **state) {
  fixture *x = *state;
  enum { DEPTH = 200000 };
  char *text = malloc(DEPTH + 32);
  memset(text, '[', DEPTH);
  strcpy(text + DEPTH, "\n{\"event\":\"a\"}\n");
  set_raw(x, text);
  free(text);
  ckpt_ledger_free(read_back(x, 1, 1));
}

static void what_is_no_file_is_no_ledger(void **state) {
  fixture *x = *state;
  char path[PATH_MAX];
  ckpt_ledger *ledger = NULL;
  ckpt_error err = {0};
  ckpt_ledger_entry e = plain_entry();
  snprintf(path, sizeof path, "%s/" CKPT_LEDGER_NAME, x->path);
  alarm(5);
  assert_int_equal(mkfifo(path, 0600), 0);
  assert_int_equal(ckpt_ledger_read(&ledger, x->dir, &err), CKPT_E_IO);
  assert_int_equal(strncmp(err.message, path, strlen(path)), 0);
  assert_int_equal(ckpt_ledger_append(x->dir, &e, &err), CKPT_E_IO);
  unlink(path);
  assert_int_equal(symlink("/etc/passwd", path), 0);
  assert_int_equal(ckpt_ledger_read(&ledger, x->dir, NULL), CKPT_E_IO);
  assert_int_equal(ckpt_ledger_append(x->dir, &e, NULL), CKPT_E_IO);
  alarm(0);
  assert_null(ledger);
}

static void a_ledger_of_two_gigabytes_is_refused(void **state) {
  fixture *x = *state;
  ckpt_ledger *ledger = NULL;
  char path[PATH_MAX];
  set_raw(x, "");
  snprintf(path, sizeof path, "%s/" CKPT_LEDGER_NAME, x->path);
  assert_int_equal(truncate(path, (off_t)1 << 31), 0); /* sparse */
  assert_int_equal(ckpt_ledger_read(&ledger, x->dir, NULL), CKPT_E_LIMIT);
  assert_null(ledger);
}

/* ---- failing calls ---- */

static void a_failed_append_leaves_no_trace(void **state) {
  fixture *x = *state;
  char before[256];
  ckpt_ledger_entry e = plain_entry();
  const char *starts[] = {"", "{\"event\":\"a\"}\n", "{\"event\":\"a\"}\n{\"torn"};
  for (size_t k = 0; k < CKPT_COUNTOF(starts); k++)
    for (int n = 1, hit = 1; hit; n++) {
      set_raw(x, starts[k]);
      snprintf(before, sizeof before, "%s", raw(x));
      fault_init(&x->f);
      x->f.max_write = 7;
      x->f.nth = n;
      x->f.nth_errno = ENOSPC;
      ckpt_status st = ckpt_ledger_append(x->dir, &e, NULL);
      hit = x->f.failed[0] != '\0';
      if (st == CKPT_OK)
        assert_true(!hit || strcmp(x->f.failed, "close") == 0);
      else
        assert_string_equal(raw(x), before);
      assert_int_equal(count_fds(), x->fds + 2); /* the directory and its lock */
    }
}

static void a_failed_read_is_told(void **state) {
  fixture *x = *state;
  for (int n = 1, hit = 1; hit; n++) {
    ckpt_ledger *ledger = NULL;
    ckpt_error err = {0};
    set_raw(x, "{\"event\":\"a\"}\n");
    fault_init(&x->f);
    x->f.nth = n;
    x->f.nth_errno = EIO;
    ckpt_status st = ckpt_ledger_read(&ledger, x->dir, &err);
    hit = x->f.failed[0] != '\0';
    if (st == CKPT_OK)
      assert_true(!hit || strcmp(x->f.failed, "close") == 0);
    else
      assert_null(ledger);
    ckpt_ledger_free(ledger);
  }
}

static void the_first_line_syncs_the_directory(void **state) {
  fixture *x = *state;
  ckpt_ledger_entry e = plain_entry();
  fault_rule(&x->f, "fsync", 1, 0, 0);
  assert_int_equal(ckpt_ledger_append(x->dir, &e, NULL), CKPT_OK);
  assert_int_equal(x->f.rules[0].seen, 2);
  assert_int_equal(ckpt_ledger_append(x->dir, &e, NULL), CKPT_OK);
  assert_int_equal(x->f.rules[0].seen, 3);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(absent_ledger_is_empty),
      TEST(entry_is_the_line_of_the_header),
      TEST(everything_comes_back),
      TEST(what_is_not_recorded_stays_so),
      TEST(all_numbers_come_back),
      TEST(many_entries_keep_their_order),
      TEST(a_name_that_json_cannot_hold_is_refused),
      TEST(a_torn_last_line_is_ignored),
      TEST(the_next_append_starts_on_a_new_line),
      TEST(cut_anywhere),
      TEST(changed_anywhere),
      TEST(garbage_lines_are_counted),
      TEST(a_zero_filled_tail_is_ignored),
      TEST(wrong_types_are_as_good_as_absent),
      TEST(odd_numbers_cost_no_line),
      TEST(deep_nesting_is_a_garbage_line),
      TEST(what_is_no_file_is_no_ledger),
      TEST(a_ledger_of_two_gigabytes_is_refused),
      TEST(a_failed_append_leaves_no_trace),
      TEST(a_failed_read_is_told),
      TEST(the_first_line_syncs_the_directory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
