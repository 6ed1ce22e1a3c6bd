/* kill.c - T1: SIGKILL before every system call of every scenario, then what is left is looked at. */
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "crash.h"

enum { BEYOND = 12 }; /* points behind the last that was counted: threads vary */

typedef struct kill_test {
  const scenario *s;
  char where[PATH_MAX];
  crash_report before; /* what the template's saves acknowledged */
  int calls;
  tally *t;
} kill_test;

typedef struct play {
  const scenario *s;
  const char *where;
  crash_report *report;
} play;

static void play_it(void *arg) {
  play *p = arg;
  crash_play(p->s, p->where, p->report);
}

static outcome one_run(const kill_test *k, const char *where, crash_report *report, int at) {
  char template[PATH_MAX];
  fault f = {.kind = KILL, .at = at, .lacks = k->s->lacks};
  play p = {k->s, where, report};
  remove_tree(where);
  if (!copy_tree(path_of(template, k->where, "template"), where)) abort();
  *report = k->before;
  return run_under(&f, report, play_it, &p);
}

static void look(const kill_test *k, const char *where, const crash_report *report, int at) {
  char what[256];
  bool bad = report->broken[0] != '\0' || crash_broken(what, where, report);
  if (!bad) bad = k->s->bug == NO_BUG && crash_broken_after_recovery(what, k->s, where, report);
  if (bad)
    tally_broken(k->t, "%s, killed before call %d (%s): %s", k->s->name, at, call_name(atomic_load(&report->hit)),
                 report->broken[0] != '\0' ? report->broken : what);
}

static void one_point(const kill_test *k, const char *where, crash_report *report, int at) {
  outcome o = one_run(k, where, report, at);
  bool killed = o.hit && WIFSIGNALED(o.status) && WTERMSIG(o.status) == SIGKILL && !o.hang;
  if (o.hang || (!killed && o.status != 0)) tally_broken(k->t, "%s, call %d: it hangs or crashes", k->s->name, at);
  if (at <= k->calls || killed) atomic_fetch_add(&k->t->points, 1);
  if (killed) atomic_fetch_add(&k->t->hit, 1);
  if (!killed && at <= k->calls) atomic_fetch_add(&k->t->missed, 1);
  look(k, where, report, at);
}

static void work(void *arg, int job, int jobs) {
  const kill_test *k = arg;
  char where[PATH_MAX], name[24];
  crash_report *report = report_new(NULL);
  int every = wanted("CRASH_EVERY", 1);
  snprintf(name, sizeof name, "job%d", job);
  path_of(where, k->where, name);
  for (int at = 1 + job; at <= k->calls + BEYOND; at += jobs)
    if (at % every == 0) one_point(k, where, report, at);
  remove_tree(where);
}

static bool prepare(kill_test *k) {
  char path[PATH_MAX];
  crash_report *report = report_new(NULL);
  if (mkdir(path_of(path, k->where, "template"), 0777) != 0 || !crash_prepare(k->s, path, report)) return false;
  k->before = *report;
  outcome o = one_run(k, path_of(path, k->where, "job0"), report, 0);
  k->calls = o.calls;
  if (report->failures > 0 || report->broken[0] != '\0' || !report->finished)
    tally_broken(k->t, "%s, without a fault: %s %s", k->s->name, report->message, report->broken);
  look(k, path, report, 0);
  return atomic_load(&k->t->broken) == 0;
}

static void test_one(const scenario *s) {
  kill_test k = {.s = s, .t = tally_new()};
  if (!scratch_make(k.where)) abort();
  bool ok = prepare(&k) && in_jobs(work, &k);
  int broken = atomic_load(&k.t->broken), missed = atomic_load(&k.t->missed);
  if (s->bug == NO_BUG)
    tap(ok && broken == 0, "%s: %d points, %d killed, %d not reached, %d violations", s->name,
        atomic_load(&k.t->points), atomic_load(&k.t->hit), missed, broken);
  else
    tap(ok && broken > 0, "the saver with the bug '%s' is caught: %d violations at %d points", s->name, broken,
        atomic_load(&k.t->hit));
  remove_tree(k.where);
}

static bool is_chosen(char **names, const scenario *s) {
  for (int i = 0; names[i] != NULL; i++)
    if (strcmp(names[i], s->name) == 0) return true;
  return names[0] == NULL;
}

int test_kill(char **names) {
  if (!faults_supported()) return 77;
  for (const scenario *s = crash_scenarios; s->name != NULL; s++)
    if (is_chosen(names, s)) test_one(s);
  for (const scenario *s = crash_controls; s->name != NULL; s++)
    if ((s->bug == IN_PLACE || s->bug == UNLINK_FIRST) && is_chosen(names, s)) test_one(s);
  return tap_end();
}
