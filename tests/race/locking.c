/*
 * locking.c - several writers want one directory: one at a time has it, and saves; the others are told so, in a
 * sentence, and come again.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "race.h"

enum { SAVES = 2 };

/* Alone with the directory: no other writer may be, and the saves go on where the one before stopped. */
static void save_alone(const race *r, run *mine) {
  shared *sum = r->sum;
  if (++sum->owners != 1) race_fault(sum, "two writers have the directory");
  for (int i = 0; i < SAVES; i++)
    if (run_save(mine, ++sum->newest) != CKPT_OK) race_fault(sum, "a writer that has the lock: %s", mine->err.message);
  sum->ready = 1;
  sum->saves += SAVES;
  sum->owners--;
}

static void want(const race *r, const char *dir) {
  static const run_kind kind = {.name = "rival", .policy = NULL};
  ckpt_error err = {0};
  run *mine = run_open(dir, &kind, &err);
  if (mine != NULL) {
    r->sum->taken++;
    save_alone(r, mine);
    run_close(mine);
  } else if (err.status == CKPT_E_BUSY && strstr(err.message, "another process is writing checkpoints here") != NULL) {
    r->sum->refused++;
  } else {
    race_fault(r->sum, "a writer without the lock is told: %s", err.message);
  }
}

void locking_work(const race *r, const char *dir, int number) {
  while (!r->sum->stop) {
    want(r, dir);
    usleep(200 + 100 * (unsigned)number);
  }
}
