/*
 * race.h - readers, writers and removers of one run's directory, all at once.
 *
 *   race.c     main: rounds, TAP
 *   run.c      a writer's checkpointer, and what its saves hold
 *   readers.c  open the aliases in a loop while they move
 *   locking.c  several writers on one directory
 *   vanish.c   the directory moves away, or is removed, under its writer
 *
 * Readers and rival writers are processes, or threads where a sanitizer is to see them all.
 */
#ifndef RACE_H
#define RACE_H

#include <ckpt/checkpointer.h>

#include <pthread.h>
#include <sys/types.h>

#include "io.h"

enum { RACE_WEIGHTS = 8192, RACE_READERS = 8, RACE_WRITERS = 4, RACE_WORKERS = 16, FAULT_BYTES = 500 };

typedef struct shared { /* by all processes */
  _Atomic long opens, saves, faults, held, taken, refused;
  _Atomic int ready, stop, owners, newest;
  char fault[FAULT_BYTES]; /* the first */
} shared;

typedef struct race {
  const char *top; /* a directory of the test's own */
  shared *sum;
  bool threads; /* workers are threads, not processes */
} race;

/* Counts it; the first is kept. */
void race_fault(shared *sum, const char *format, ...) CKPT_PRINTF(2, 3);

/* ---- workers ---- */

typedef struct worker {
  void (*work)(const race *r, const char *dir, int number);
  const race *race;
  const char *dir;
  int number;
  pthread_t thread;
  pid_t pid;
} worker;

/* Starts `n` workers; the wait is for all of them, and one that crashed is a fault. */
void race_start(worker *w, int n, const race *r, const char *dir, void (*work)(const race *, const char *, int));
void race_wait(worker *w, int n);

/* ---- a writer ---- */

typedef enum run_bug { RUN_RIGHT, RUN_UNLINKS_FIRST, RUN_TAKES_ANY } run_bug;

typedef struct run_kind {
  const char *name, *policy; /* policy NULL: the default */
  bool async, copies;        /* copies: a file system without hard links */
  run_bug bug;               /* unlinks an alias before it moves it; writes over files that somebody has open */
} run_kind;

typedef struct run {
  ckpt_checkpointer *cp;
  ckpt_io io;
  float w[RACE_WEIGHTS];
  int64_t save;
  bool async;
  ckpt_error err;
} run;

/* A run in `dir`, on the heap; NULL and *err if it is refused. */
run *run_open(const char *dir, const run_kind *kind, ckpt_error *err);
void run_close(run *r);

/* Makes a save, of that number; in a thread it is waited for only after each third. */
ckpt_status run_save(run *r, int64_t save);

float run_weight(int64_t save, int i);
double run_accuracy(int64_t save);

/* ---- the tests; each is run on an empty directory ---- */

void readers_work(const race *r, const char *dir, int number);
void locking_work(const race *r, const char *dir, int number);

/* A run's directory is moved, or removed, after some of its saves; false: it went on as if nothing was, or said
 * nothing. */
bool vanish_once(const race *r, const char *dir, unsigned delay_us, bool moves);

/* rm -rf, until nothing is left. */
void remove_all(const char *dir);

#endif
