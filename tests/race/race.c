/*
 * race.c [-t] [-n OPENS] [-v TIMES] DIRECTORY - readers, writers and removers of one run's directory, all at once; see
 * race.h. OPENS (50,000) checkpoints are opened in all, in rounds of five kinds of writers; then four writers fight for
 * one directory until they had it 2 TIMES times; then TIMES (100) times a directory is moved or removed under its
 * writer. -t: threads alone. TAP.
 */
#define _FILE_OFFSET_BITS 64
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "race.h"

enum { ROUND_OPENS = 10000, ROUND_SAVES = 400 };

/* ---- workers ---- */

static void *thread_main(void *arg) {
  worker *w = arg;
  w->work(w->race, w->dir, w->number);
  return NULL;
}

static void start_process(worker *w) {
  w->pid = fork();
  if (w->pid < 0) abort();
  if (w->pid > 0) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  w->work(w->race, w->dir, w->number);
  _exit(0);
}

void race_start(worker *w, int n, const race *r, const char *dir, void (*work)(const race *, const char *, int)) {
  for (int i = 0; i < n; i++) {
    w[i] = (worker){.work = work, .race = r, .dir = dir, .number = i};
    if (!r->threads)
      start_process(&w[i]);
    else if (pthread_create(&w[i].thread, NULL, thread_main, &w[i]) != 0)
      abort();
  }
}

void race_wait(worker *w, int n) {
  for (int i = 0; i < n; i++) {
    int status = 0;
    if (w[i].race->threads)
      pthread_join(w[i].thread, NULL);
    else if (waitpid(w[i].pid, &status, 0) != w[i].pid || status != 0)
      race_fault(w[i].race->sum, "worker %d ended with status 0x%x", i, (unsigned)status);
  }
}

/* ---- readers beside a writer ---- */

#define KEEP "return { keep = { last = 2, best = 1 }"
static const struct {
  run_kind kind;
  const char *policy;
  bool recycles;
} kinds[] = {{{.name = "links"}, KEEP " }", false},
             {{.name = "links, in a thread", .async = true}, KEEP " }", false},
             {{.name = "copies", .copies = true}, KEEP " }", false},
             {{.name = "links over recycled blocks"}, KEEP ", recycle = true }", true},
             {{.name = "copies over recycled blocks, in a thread", .async = true, .copies = true},
              KEEP ", recycle = true }",
              true},
             {{.name = "unlinks an alias before it moves it", .bug = RUN_UNLINKS_FIRST}, KEEP " }", false},
             {{.name = "writes over files that are open", .bug = RUN_TAKES_ANY}, KEEP ", recycle = true }", true}};
enum { ALL_KINDS = sizeof kinds / sizeof *kinds, KINDS = ALL_KINDS - 2 };

typedef struct tally {
  long opens, saves, held, recycled, faults;
} tally;

/* A file that was made before this save was is one of the recycled. */
static bool is_recycled(const char *latest, const struct timespec *before) {
  struct statx st;
  if (statx(AT_FDCWD, latest, 0, STATX_BTIME, &st) != 0 || !(st.stx_mask & STATX_BTIME)) return false;
  return st.stx_btime.tv_sec < before->tv_sec ||
         (st.stx_btime.tv_sec == before->tv_sec && (long)st.stx_btime.tv_nsec < before->tv_nsec);
}

/* The clock that time stamps of files are taken from. */
static struct timespec file_clock(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME_COARSE, &t);
  return t;
}

static void write_beside(const race *r, const char *dir, const run_kind *kind, long opens, tally *t) {
  char latest[4096];
  ckpt_error err = {0};
  shared *sum = r->sum;
  run *mine = run_open(dir, kind, &err);
  if (mine == NULL) race_fault(sum, "the writer: %s", err.message);
  snprintf(latest, sizeof latest, "%s/model_latest.pth", dir);
  for (int64_t save = 0; mine != NULL && (sum->opens < opens || save < 3); save++) {
    if (kind->bug != RUN_RIGHT && sum->faults > 0) break;
    struct timespec before = file_clock();
    if (save >= ROUND_SAVES) {
      usleep(1000);
      continue;
    }
    if (run_save(mine, save) != CKPT_OK) race_fault(sum, "the writer, save %d: %s", (int)save, mine->err.message);
    if (!kind->async && is_recycled(latest, &before)) t->recycled++;
    if (kind->async && save % 3 != 2) continue; /* epochs that are waited for */
    sum->ready = 1;
    sum->saves = save + 1;
  }
  sum->stop = 1;
  if (mine != NULL) run_close(mine);
}

static void tell_fault(const race *r) {
  if (r->sum->faults > 0) printf("# %ld faults; the first: %s\n", r->sum->faults, r->sum->fault);
}

static void one_round(race *r, size_t k, long opens, tally *t) {
  char dir[4000], policy[4096];
  worker readers[RACE_READERS];
  run_kind kind = kinds[k].kind;
  memset(r->sum, 0, sizeof *r->sum);
  snprintf(dir, sizeof dir, "%s/read", r->top);
  snprintf(policy, sizeof policy, "%s/policy.lua", r->top);
  FILE *f = fopen(policy, "w");
  if (f == NULL || fputs(kinds[k].policy, f) < 0 || fclose(f) != 0) abort();
  kind.policy = policy;
  race_start(readers, RACE_READERS, r, dir, readers_work);
  write_beside(r, dir, &kind, opens, t);
  race_wait(readers, RACE_READERS);
  remove_all(dir);
  t->opens += r->sum->opens;
  t->saves += r->sum->saves;
  t->held += r->sum->held;
  t->faults += r->sum->faults;
  tell_fault(r);
}

/* ---- TAP ---- */

static int tests, failed;

static void check(bool ok, const char *text) {
  printf("%sok %d - %s\n", ok ? "" : "not ", ++tests, text);
  failed += !ok;
  fflush(stdout);
}

static bool has_leases(const race *r) {
  char path[4096];
  snprintf(path, sizeof path, "%s/leased", r->top);
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  bool ok = fd >= 0 && fcntl(fd, F_SETLEASE, F_WRLCK) == 0 && fcntl(fd, F_SETLEASE, F_UNLCK) == 0;
  if (fd >= 0) close(fd);
  unlink(path);
  return ok;
}

static void test_readers(race *r, long opens) {
  tally all[KINDS] = {{0}};
  char text[400];
  long each = opens < KINDS * ROUND_OPENS ? (opens + KINDS - 1) / KINDS : ROUND_OPENS, round = 0;
  for (long left = opens; left > 0; left -= each, round++)
    one_round(r, (size_t)round % KINDS, each, &all[round % KINDS]);
  for (size_t k = 0; k < KINDS; k++) {
    const tally *t = &all[k];
    snprintf(text, sizeof text, "%s: %ld opens by %d readers beside %ld saves, each whole, none older; %ld held on to",
             kinds[k].kind.name, t->opens, RACE_READERS, t->saves, t->held);
    check(t->faults == 0 && t->opens > 0 && t->saves > 0, text);
    if (!kinds[k].recycles || kinds[k].kind.async) continue;
    snprintf(text, sizeof text, "%ld of these files were written over recycled blocks%s", t->recycled,
             has_leases(r) ? "" : " # SKIP this file system has no leases");
    check(t->recycled > 0 || t->saves < 6 || !has_leases(r), text);
  }
}

/* The readers are no proof unless they see what is wrong. */
static void test_bugs(race *r) {
  char text[200];
  for (size_t k = KINDS; k < ALL_KINDS; k++) {
    tally t = {0};
    bool needs_leases = kinds[k].recycles && !has_leases(r);
    one_round(r, k, ROUND_OPENS, &t);
    snprintf(text, sizeof text, "a writer that %s is seen after %ld opens%s", kinds[k].kind.name, t.opens,
             needs_leases ? " # SKIP this file system has no leases" : "");
    check(t.faults > 0 || needs_leases, text);
  }
}

static void test_locking(race *r, long rounds) {
  char dir[4000], text[200];
  worker rivals[RACE_WRITERS], reader;
  memset(r->sum, 0, sizeof *r->sum);
  snprintf(dir, sizeof dir, "%s/locked", r->top);
  race_start(rivals, RACE_WRITERS, r, dir, locking_work);
  race_start(&reader, 1, r, dir, readers_work);
  while (r->sum->taken < rounds && r->sum->faults == 0) usleep(2000);
  r->sum->stop = 1;
  race_wait(rivals, RACE_WRITERS);
  race_wait(&reader, 1);
  remove_all(dir);
  tell_fault(r);
  snprintf(text, sizeof text, "%d writers of one directory: %ld had it alone, %ld were told that another has it",
           RACE_WRITERS, r->sum->taken, r->sum->refused);
  check(r->sum->faults == 0 && r->sum->refused > 0, text);
}

static void test_vanishing(race *r, int times, bool moves) {
  char dir[4000], text[200];
  int right = 0;
  memset(r->sum, 0, sizeof *r->sum);
  snprintf(dir, sizeof dir, "%s/vanish", r->top);
  for (int i = 0; i < times; i++) right += vanish_once(r, dir, (unsigned)i * 173 % 12000, moves);
  tell_fault(r);
  snprintf(text, sizeof text,
           moves ? "moved away under its writer, %d of %d times: the saves follow it"
                 : "removed under its writer, %d of %d times: each save is an error that says so",
           right, times);
  check(right == times && r->sum->faults == 0, text);
}

int main(int argc, char **argv) {
  race r = {0};
  long opens = 50000;
  int times = 100;
  for (int c; (c = getopt(argc, argv, "tn:v:")) != -1;) {
    if (c == 't') r.threads = true;
    if (c == 'n') opens = strtol(optarg, NULL, 10);
    if (c == 'v') times = (int)strtol(optarg, NULL, 10);
    if (c == '?') return 2;
  }
  r.top = argv[optind];
  r.sum = mmap(NULL, sizeof *r.sum, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (r.top == NULL || r.sum == MAP_FAILED) return fprintf(stderr, "usage: race [-t] [-n OPENS] [-v TIMES] DIR\n"), 2;
  test_readers(&r, opens);
  if (!r.threads) test_bugs(&r);
  test_locking(&r, 2 * times);
  test_vanishing(&r, times, true);
  test_vanishing(&r, times, false);
  printf("1..%d\n", tests);
  return failed > 0;
}
