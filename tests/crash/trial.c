/* trial.c - one scenario under many faults: its directory is made once and copied for each. */
#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "crash.h"

typedef struct play {
  const scenario *s;
  const char *where;
  crash_report *report;
} play;

static void play_it(void *arg) {
  play *p = arg;
  crash_play(p->s, p->where, p->report);
}

outcome trial_run(const trial *t, const char *where, crash_report *report, const fault *f) {
  char template[PATH_MAX];
  fault here = *f;
  play p = {t->s, where, report};
  here.lacks = t->s->lacks;
  remove_tree(where);
  if (!copy_tree(path_of(template, t->where, "template"), where)) abort();
  *report = t->before;
  return run_under(&here, report, play_it, &p);
}

static bool look(char out[256], const trial *t, const char *where, const crash_report *report) {
  snprintf(out, 256, "%s", report->broken);
  if (out[0] != '\0' || crash_broken(out, where, report)) return true;
  return t->s->bug == NO_BUG && crash_broken_after_recovery(out, t->s, where, report);
}

/* In a process of its own, so that the memory of this one, from which savers are forked, stays as it is: the calls for
 * memory are then the same each time. */
bool trial_broken(char out[256], const trial *t, const char *where, crash_report *report) {
  int status = 0;
  fflush(stdout);
  pid_t pid = fork();
  if (pid < 0) abort();
  if (pid == 0) {
    look(report->verdict, t, where, report);
    _exit(0);
  }
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  snprintf(out, 256, "%s", status == 0 ? report->verdict : "the recovery crashes");
  return out[0] != '\0';
}

bool trial_prepare(trial *t, const scenario *s, fault_kind kind) {
  char path[PATH_MAX], what[256];
  crash_report *report = report_new(NULL);
  fault f = {.kind = kind};
  *t = (trial){.s = s, .t = tally_new()};
  if (!scratch_make(t->where)) abort();
  if (mkdir(path_of(path, t->where, "template"), 0777) != 0 || !crash_prepare(s, path, report)) return false;
  t->before = *report;
  outcome o = trial_run(t, path_of(path, t->where, "job0"), report, &f);
  t->calls = o.calls;
  bool ok = o.status == 0 && report->failures == 0 && report->finished && !trial_broken(what, t, path, report);
  if (!ok) printf("# %s, without a fault: status %d, %s %s\n", s->name, o.status, report->message, what);
  return ok;
}

void trial_end(trial *t) { remove_tree(t->where); }

bool is_chosen(char **names, const scenario *s) {
  for (int i = 0; names[i] != NULL; i++)
    if (strcmp(names[i], s->name) == 0) return true;
  return names[0] == NULL;
}
