/*
 * crash.h - crash and fault tests on the real kernel: what saves (saver.c), what looks at what is left (checker.c), and
 * what comes between a saver and the kernel (inject.c).
 *
 *   kill.c      T1   SIGKILL before every system call
 *   errors.c    T2   every error at every call, once and from there on; short reads and writes
 *   full.c      T3   a full disk of every size, too few inodes, a limit on the size of files
 *   symlinks.c  T13  another process swaps names with symbolic links
 *
 * The invariants are those of the project's reliability reference: I1 there is a valid checkpoint once a save was
 * acknowledged, I2 the newest valid one is at least as new, I3 an alias that existed is never absent, dangling or torn,
 * I4 the best is not worse than the best that was acknowledged, I5 after a recovery nothing is left over, I6 a save
 * that returned an error changed no alias and deleted nothing.
 */
#ifndef CKPT_TEST_CRASH_H
#define CKPT_TEST_CRASH_H

#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <ckpt/checkpointer.h>

#define COUNTOF(a) (sizeof(a) / sizeof((a)[0]))
#define LATEST "model_latest.pth"
#define BEST "model_best.pth"
#define LEDGER "ckpt.jsonl"
#define LEFTOVER ".tmp-ckpt-"

/* What a saver says, in memory that outlives it: shared with the process that watches, or a file. */
typedef struct crash_report {
  atomic_int watched;       /* calls are counted while this is 1 */
  atomic_int hit;           /* number of the call at which a fault was put, -1: none yet */
  atomic_int from_there_on; /* and at all like it since */
  int64_t acked;            /* step of the last save that was acknowledged, 0: none */
  double acked_best;        /* the same of ckpt_save_best; below 0: none */
  int warnings;             /* lines of the log */
  int saves, failures;      /* calls of the library that save; how many failed */
  ckpt_status status;       /* of the first failure, and errno */
  int sys;
  char message[sizeof((ckpt_error *)0)->message]; /* of the first failure */
  char broken[256];         /* what the saver itself found broken (I6, descriptors, left-overs); "": nothing */
  char verdict[256];        /* of whoever looked at what was left */
  bool no_ledger, finished; /* no_ledger: the saver writes none */
} crash_report;

/* Savers with a bug, which every test of this room must catch. */
typedef enum crash_bug {
  NO_BUG,
  IN_PLACE,     /* writes over the file that is there */
  UNLINK_FIRST, /* removes the alias, then makes it again */
  RENAME_FIRST, /* gives the name before the fsync */
  DEAF,         /* looks at no result */
  LEAKY,        /* keeps the descriptor after an error */
  FORGETFUL     /* and memory, which only a sanitizer sees */
} crash_bug;

/* Of file systems that cannot do everything. */
enum { NO_LINKS = 1, NO_UNNAMED = 2 };

typedef struct crash_run {
  const char *dir;
  crash_report *report;
  ckpt_checkpointer *cp;
  float *weights;
  int64_t step;
  double acc;
  bool has_links;
  crash_bug bug;
  char *data; /* of a bug: the bytes to write */
  size_t size;
} crash_run;

typedef struct scenario {
  const char *name, *policy;      /* policy: text of a file, NULL: the default */
  int before;                     /* saves that were made before */
  unsigned lacks;                 /* NO_LINKS, NO_UNNAMED */
  void (*leave)(const char *dir); /* what else lies there; NULL: nothing */
  void (*run)(crash_run *r);
  bool threads; /* saves end in an order of their own: I6 cannot be told of one */
  crash_bug bug;
} scenario;

/* ---- saver.c ---- */

extern const scenario crash_scenarios[], crash_controls[]; /* each ends with a name of NULL */
const scenario *crash_find(const char *name);

/* Floats in a checkpoint; 64 at first. */
void crash_set_size(int n);

/* The directory as it is before the scenario begins: `where`/run, and files beside it. False: it cannot be made. */
bool crash_prepare(const scenario *s, const char *where, crash_report *report);

/* The scenario itself, and what it found. `where`/run is its directory. */
void crash_play(const scenario *s, const char *where, crash_report *report);

/* Opens, resumes, saves once more and closes, as the next start of the trainer does. */
bool crash_resume(const scenario *s, const char *where, int64_t *resumed, ckpt_error *err);

/* ---- checker.c ---- */

/* What is wrong with the directory, in a sentence; false if nothing is. */
bool crash_broken(char out[256], const char *where, const crash_report *report);

/* Recovers, and looks again. */
bool crash_broken_after_recovery(char out[256], const scenario *s, const char *where, const crash_report *report);

/* The step of a valid checkpoint, 0 for anything else. */
int64_t crash_step_of(double *acc, const char *dir, const char *name);

/* ---- files.c ---- */

char *path_of(char out[PATH_MAX], const char *dir, const char *name);
void remove_tree(const char *path);
bool copy_tree(const char *from, const char *to); /* hard links stay links */
bool put_file(const char *dir, const char *name, const void *data, size_t size);
char *get_file(size_t *size, const char *path); /* NULL: cannot be read */
int count_names(const char *dir, const char *prefix);

/* Calls each(arg, name) for the entries but "." and ".."; false if the directory cannot be read. */
bool each_name(const char *dir, void (*each)(void *arg, const char *name), void *arg);

/* A new directory on a file system in memory where there is one: CRASH_DIR, /dev/shm, TMPDIR, /tmp. */
bool scratch_make(char out[PATH_MAX]);

/* ---- inject.c ---- */

typedef enum fault_kind { NO_FAULT, KILL, FAIL, SHORT } fault_kind;

typedef struct fault {
  fault_kind kind;
  int at; /* from 1: which of the counted calls */
  int error;
  bool from_there_on; /* all calls of the same number too */
  unsigned lacks;
} fault;

typedef struct outcome {
  int calls; /* that were counted */
  bool hit, hang, unsupported;
  int status; /* of waitpid */
} outcome;

/* Calls that a fault other than KILL may be put at: those that speak of files, memory maps and threads. */
bool is_faulty(int nr, fault_kind kind);
const char *call_name(int nr);

/* False where the kernel or a container has no seccomp notifications. */
bool faults_supported(void);

/* Runs body(arg) in a process of its own under the fault. */
outcome run_under(const fault *f, crash_report *report, void (*body)(void *arg), void *arg);

/* ---- tally.c: points counted by several jobs ---- */

typedef struct tally {
  atomic_int points, hit, missed, broken, failed, shown;
} tally;

tally *tally_new(void);
void tally_broken(tally *t, const char *format, ...) CKPT_PRINTF(2, 3);

/* Runs work(arg, job, jobs) in as many processes, and waits. False if one of them ended badly. */
bool in_jobs(void (*work)(void *arg, int job, int jobs), void *arg);

crash_report *report_new(const char *file); /* NULL: in shared memory */

/* TAP. */
void tap(bool ok, const char *format, ...) CKPT_PRINTF(2, 3);
int tap_end(void);
int wanted(const char *variable, int otherwise);

/* ---- trial.c: one scenario under many faults ---- */

typedef struct trial {
  const scenario *s;
  char where[PATH_MAX];
  crash_report before;  /* what the saves before it acknowledged */
  int calls, transfers; /* of an undisturbed run: calls that are counted; reads and writes among them */
  tally *t;
} trial;

/* False if the scenario does not go well without a fault. */
bool trial_prepare(trial *t, const scenario *s, fault_kind kind);
void trial_end(trial *t);

/* One run in a copy of the directory at `where`. */
outcome trial_run(const trial *t, const char *where, crash_report *report, const fault *f);

/* What is wrong afterwards, also after a recovery. */
bool trial_broken(char out[256], const trial *t, const char *where, crash_report *report);

bool is_chosen(char **names, const scenario *s); /* no names: all */

/* ---- tests ---- */

int test_kill(char **names);
int test_errors(char **names);
int test_full(char **names);
int test_symlinks(void);

#endif
