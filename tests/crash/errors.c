/*
 * errors.c - T2: every error at every call that speaks of files, memory maps or threads, once and from there on, and
 * short reads and writes. A save may then fail, saying what failed, or succeed if that is the truth. The saver tries a
 * failed save once more in the same process; afterwards a new process recovers.
 */
#include <errno.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "crash.h"

static const int errors[] = {EIO, ENOSPC, EDQUOT, EINTR, EMFILE, EROFS, EACCES};

enum { SHORTENED = (int)COUNTOF(errors), KINDS }; /* of a case: an error of the list, or a short transfer */

typedef struct fault_case {
  int at, kind;
  bool from_there_on;
} fault_case;

static fault fault_of(const fault_case *c) {
  fault f = {.kind = c->kind == SHORTENED ? SHORT : FAIL, .at = c->at, .from_there_on = c->from_there_on};
  f.error = c->kind == SHORTENED ? 0 : errors[c->kind];
  return f;
}

/* Memory that cannot be mapped is memory that there is not. */
static bool tells_the_cause(const crash_report *r, int nr, int error) {
  if (nr == SYS_close && r->status == CKPT_E_BUSY) return true; /* it was not closed: the lock is still held */
  bool memory = nr == SYS_mmap || nr == SYS_clone3 || nr == SYS_munmap;
  if (memory && r->status == CKPT_E_NOMEM) return true;
  if (r->status == CKPT_E_POLICY)
    return strstr(r->message, ".lua: ") != NULL && strstr(r->message, strerror(error)) != NULL;
  return r->status == CKPT_E_IO && r->sys == error && strstr(r->message, strerror(error)) != NULL;
}

/* What is not told although it must be: nothing was made durable by an fsync that failed. */
static bool is_hushed_up(const crash_report *r, int nr, const fault *f) {
  return r->failures == 0 && r->warnings == 0 && f->kind == FAIL && (nr == SYS_fsync || nr == SYS_fdatasync);
}

static const char *fault_of_answer(const trial *t, const crash_report *r, const outcome *o, const fault *f) {
  int nr = atomic_load(&r->hit);
  if (o->hang) return "it hangs";
  if (o->status != 0) return "it crashes, or a sanitizer has found something";
  if (!r->finished) return "it ends early";
  if (!o->hit || t->s->bug != NO_BUG) return NULL;
  if (is_hushed_up(r, nr, f)) return "an fsync that failed is not told";
  if (f->kind == SHORT && r->failures > 0) return "a short transfer is taken for a failure";
  if (f->kind == FAIL && r->failures > 0 && !tells_the_cause(r, nr, f->error)) return "the cause is not told";
  return NULL;
}

static void one_case(const trial *t, const char *where, crash_report *report, const fault_case *c) {
  char what[256];
  fault f = fault_of(c);
  outcome o = trial_run(t, where, report, &f);
  const char *answer = fault_of_answer(t, report, &o, &f);
  atomic_fetch_add(&t->t->points, 1);
  atomic_fetch_add(o.hit ? &t->t->hit : &t->t->missed, 1);
  if (report->failures > 0) atomic_fetch_add(&t->t->failed, 1);
  bool broken = trial_broken(what, t, where, report);
  if (answer == NULL && !broken) return;
  tally_broken(t->t, "%s, %s at call %d (%s)%s: %s%s%s (%s)", t->s->name,
               f.kind == SHORT ? "short" : strerrorname_np(f.error), c->at, call_name(atomic_load(&report->hit)),
               c->from_there_on ? " and from there on" : "", answer == NULL ? "" : answer,
               answer != NULL && broken ? "; " : "", broken ? what : "", report->message);
}

/* Of CRASH_EVERY cases one: each call and each error is among them, though not each pair. */
static void work(void *arg, int job, int jobs) {
  const trial *t = arg;
  char where[PATH_MAX], name[24];
  crash_report *report = report_new(NULL);
  int every = t->s->bug == NO_BUG ? wanted("CRASH_EVERY", 1) | 1 : 1, i = 0; /* odd: once and from there on */
  snprintf(name, sizeof name, "job%d", job);
  path_of(where, t->where, name);
  for (fault_case c = {.at = 1}; c.at <= t->calls; c.at++)
    for (c.kind = 0; c.kind < (c.at <= t->transfers ? KINDS : SHORTENED); c.kind++)
      for (int on = 0; on < 2; on++, i++) {
        c.from_there_on = on == 1;
        if (i % every == 0 && i / every % jobs == job) one_case(t, where, report, &c);
      }
}

static bool count_transfers(trial *t) {
  char where[PATH_MAX];
  fault f = {.kind = SHORT};
  outcome o = trial_run(t, path_of(where, t->where, "job0"), report_new(NULL), &f);
  t->transfers = o.calls;
  return o.status == 0;
}

static void test_one(const scenario *s) {
  trial t;
  bool ok = trial_prepare(&t, s, FAIL) && count_transfers(&t) && in_jobs(work, &t);
  int broken = atomic_load(&t.t->broken), hit = atomic_load(&t.t->hit), failed = atomic_load(&t.t->failed);
  if (s->bug == NO_BUG)
    tap(ok && broken == 0 && failed > 0 && hit > failed,
        "%s: %d faults at %d calls, %d met, %d not reached; %d told, the others went well, %d violations", s->name,
        atomic_load(&t.t->points), t.calls, hit, atomic_load(&t.t->missed), failed, broken);
  else
    tap(ok && broken > 0, "the saver with the bug '%s' is caught: %d violations in %d faults", s->name, broken, hit);
  trial_end(&t);
}

int test_errors(char **names) {
  if (!faults_supported()) return 77;
  for (const scenario *s = crash_scenarios; s->name != NULL; s++)
    if (is_chosen(names, s)) test_one(s);
  for (const scenario *s = crash_controls; s->name != NULL; s++)
    if (s->bug != UNLINK_FIRST && (s->bug != FORGETFUL || getenv("SANITIZED") != NULL) && is_chosen(names, s))
      test_one(s);
  return tap_end();
}
