/*
 * main.c - one program for the tests of this room.
 *
 *   crash kill|errors|full [SCENARIO...]    T1, T2, T3: TAP
 *   crash symlinks                          T13: TAP
 *   crash prepare SCENARIO DIR REPORT       by hand, or under strace: the directory before the scenario,
 *   crash save    SCENARIO DIR REPORT       the scenario, what is acknowledged goes to the file REPORT,
 *   crash check   SCENARIO DIR REPORT       what is wrong with what is left; exit status 1 if anything is
 */
#include "crash.h"

static int check(const scenario *s, const char *where, const crash_report *report) {
  char what[256];
  if (report->broken[0] != '\0') snprintf(what, sizeof what, "%s", report->broken);
  bool bad = report->broken[0] != '\0' || crash_broken(what, where, report) ||
             crash_broken_after_recovery(what, s, where, report);
  if (bad) printf("%s\n", what);
  return bad;
}

static int by_hand(char **arguments) {
  const scenario *s = crash_find(arguments[1]);
  crash_report *report = report_new(arguments[3]);
  if (s == NULL) return 2;
  if (strcmp(arguments[0], "prepare") == 0) return !crash_prepare(s, arguments[2], report);
  if (strcmp(arguments[0], "check") == 0) return check(s, arguments[2], report);
  crash_play(s, arguments[2], report);
  return report->failures > 0;
}

static int usage(void) {
  fprintf(stderr, "crash kill|errors|full [SCENARIO...], symlinks, prepare|save|check SCENARIO DIR REPORT\n");
  return 2;
}

int main(int argc, char **argv) {
  if (argc < 2) return usage();
  if (strcmp(argv[1], "kill") == 0) return test_kill(argv + 2);
  if (strcmp(argv[1], "errors") == 0) return test_errors(argv + 2);
  if (strcmp(argv[1], "full") == 0) return test_full(argv + 2);
  if (strcmp(argv[1], "symlinks") == 0) return test_symlinks();
  if (argc == 5) return by_hand(argv + 1);
  return usage();
}
