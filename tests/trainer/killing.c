/* killing.c - SIGKILL to itself, at an optimizer step or at an fsync. */
#include "killing.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>

int __real_fsync(int fd);
int __wrap_fsync(int fd);

static struct {
  int64_t at_step, in_save, at_fsync;
  int64_t saves, fsyncs;
  bool saving;
} plan;

/* What was printed so far is to be seen: only the checkpoints shall be what a kill leaves. */
static void die(void) {
  fflush(NULL);
  raise(SIGKILL);
}

void killing_plan(int64_t at_step, int64_t in_save, int64_t at_fsync) {
  plan.at_step = at_step;
  plan.in_save = in_save;
  plan.at_fsync = at_fsync;
}

void killing_on_step(int64_t step) {
  if (plan.at_step > 0 && step == plan.at_step) die();
}

void killing_save_begins(void) {
  plan.saves++;
  plan.fsyncs = 0;
  plan.saving = true;
}

void killing_save_ends(void) { plan.saving = false; }

int __wrap_fsync(int fd) {
  if (plan.saving && plan.in_save > 0 && plan.saves == plan.in_save && ++plan.fsyncs == plan.at_fsync) die();
  return __real_fsync(fd);
}
