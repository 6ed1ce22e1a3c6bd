/* kill.c - T1: SIGKILL before every system call of every scenario, then what is left is looked at. */
#include <signal.h>
#include <sys/wait.h>

#include "crash.h"

enum { BEYOND = 12 }; /* points behind the last that was counted: threads vary */

static void one_point(const trial *t, const char *where, crash_report *report, int at) {
  char what[256];
  fault f = {.kind = KILL, .at = at};
  outcome o = trial_run(t, where, report, &f);
  bool killed = o.hit && WIFSIGNALED(o.status) && WTERMSIG(o.status) == SIGKILL && !o.hang;
  bool whole = !o.hit && o.status == 0;
  if (at <= t->calls || killed) atomic_fetch_add(&t->t->points, 1);
  if (killed) atomic_fetch_add(&t->t->hit, 1);
  if (!killed && at <= t->calls) atomic_fetch_add(&t->t->missed, 1);
  if (!killed && !whole) tally_broken(t->t, "%s, call %d: it hangs or crashes", t->s->name, at);
  if (trial_broken(what, t, where, report))
    tally_broken(t->t, "%s, killed before call %d (%s): %s", t->s->name, at, call_name(atomic_load(&report->hit)),
                 what);
}

static void work(void *arg, int job, int jobs) {
  const trial *t = arg;
  char where[PATH_MAX], name[24];
  crash_report *report = report_new(NULL);
  int every = t->s->bug == NO_BUG ? wanted("CRASH_EVERY", 1) : 1;
  snprintf(name, sizeof name, "job%d", job);
  path_of(where, t->where, name);
  for (int at = 1 + job; at <= t->calls + BEYOND; at += jobs)
    if (at % every == 0) one_point(t, where, report, at);
}

static void test_one(const scenario *s) {
  trial t;
  bool ok = trial_prepare(&t, s, KILL) && in_jobs(work, &t);
  int broken = atomic_load(&t.t->broken), hit = atomic_load(&t.t->hit);
  if (s->bug == NO_BUG)
    tap(ok && broken == 0 && hit > 0, "%s: %d points, %d killed, %d not reached, %d violations", s->name,
        atomic_load(&t.t->points), hit, atomic_load(&t.t->missed), broken);
  else
    tap(ok && broken > 0, "the saver with the bug '%s' is caught: %d violations at %d points", s->name, broken, hit);
  trial_end(&t);
}

int test_kill(char **names) {
  if (!faults_supported()) return 77;
  for (const scenario *s = crash_scenarios; s->name != NULL; s++)
    if (is_chosen(names, s)) test_one(s);
  for (const scenario *s = crash_controls; s->name != NULL; s++)
    if ((s->bug == IN_PLACE || s->bug == UNLINK_FIRST) && is_chosen(names, s)) test_one(s);
  return tap_end();
}
