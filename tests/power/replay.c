/*
 * replay.c - power loss after power loss, from the log of what a saver's disk was told. At every flush of the log: what
 * was written before the last flush is there, and of what was written since then any part may be. Each such state is
 * mounted (the file system recovers its journal), checked against what had been acknowledged, and the run goes on in
 * it.
 *
 *   replay -s SCENARIO -p POLICIES -f TYPE -m MOUNTPOINT [-o OPTIONS] [-n SUBSETS] [-a ATOM] [-j JOBS] [-r SEED]
 *          [-c] DIRECTORY       with log.img and start.img in it; -c: a saver with a bug, the first catch ends it
 *
 * Of what is pending at a flush: all of it; nothing of it; and SUBSETS (20) random parts that differ, as far as there
 * are so many; some cut at a moment, some with writes that are torn: any of their pieces of ATOM (512) bytes. A block
 * with a superblock of ext4 stays whole: its checksum is over two sectors, so the file system itself counts on that.
 * The last line is "STATES states, BAD bad", the exit status 1 if any is bad.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "disk.h"
#include "log.h"

enum { MAX_JOBS = 16, MAX_TOLD = 8, TRIES = 8, SUPERBLOCK_FROM = 1024, SUPERBLOCK_TO = 2048 };

typedef struct options {
  const char *scenario, *policies, *type, *options, *mount, *work;
  int subsets, jobs;
  uint64_t atom, seed;
  bool control;
} options;

typedef struct shared { /* between the jobs */
  _Atomic long states, bad;
} shared;

typedef struct replay {
  const options *o;
  shared *sum;
  int job;
  write_log log;
  disk disk;
  checked checked;
  ack said;
  uint64_t ack_at; /* where acknowledgements are written */
  size_t *pending; /* entries since the last flush */
  size_t n_pending, flush;
  uint64_t random;
  uint64_t *seen; /* states at this flush */
  size_t n_seen;
  long turn;
} replay;

static uint64_t next_random(uint64_t *s) { /* xorshift64* */
  *s ^= *s >> 12, *s ^= *s << 25, *s ^= *s >> 27;
  return (*s * UINT64_C(2685821657736338717)) >> 16;
}

/* ---- one state ---- */

static bool look(char why[WHY_BYTES], replay *r) {
  bool mounted = disk_mount(&r->disk, r->o->mount, r->o->type, r->o->options);
  if (!mounted) return snprintf(why, WHY_BYTES, "the file system is lost: %s", strerror(errno)), false;
  bool ok = check_left(why, &r->checked, &r->said) && check_recovery(why, &r->checked, &r->said);
  if (!disk_unmount(r->o->mount)) exit(3);
  return ok;
}

static void tell(replay *r, const char *kind, const char *why) {
  long bad = ++r->sum->bad;
  if (bad <= (r->o->control ? 1 : MAX_TOLD))
    printf("# flush %zu, %s of %zu writes, save %d acknowledged: %s\n", r->flush, kind, r->n_pending, r->said.save,
           why);
  fflush(stdout);
}

/* The jobs take turns. `kept` says of each pending write: 0 lost, 1 written, else the seed of how it is torn. */
static void put(replay *r, const uint64_t *kept) {
  for (size_t i = 0; i < r->n_pending; i++) {
    const log_entry *e = &r->log.entries[r->pending[i]];
    uint64_t torn = kept[i];
    for (uint64_t at = 0; kept[i] == 1 && at == 0; at = e->n) disk_put(&r->disk, e->at, e->data, e->n);
    for (uint64_t at = 0; kept[i] > 1 && at < e->n; at += r->o->atom) {
      uint64_t n = e->n - at < r->o->atom ? e->n - at : r->o->atom;
      if (next_random(&torn) & 1) disk_put(&r->disk, e->at + at, e->data + at, n);
    }
  }
}

static bool is_new(replay *r, const uint64_t *kept) {
  uint64_t h = UINT64_C(14695981039346656037);
  for (size_t i = 0; i < r->n_pending; i++) h = (h ^ kept[i]) * UINT64_C(1099511628211);
  for (size_t i = 0; i < r->n_seen; i++)
    if (r->seen[i] == h) return false;
  r->seen[r->n_seen++] = h;
  return true;
}

static void one_state(replay *r, const uint64_t *kept, const char *kind) {
  char why[WHY_BYTES] = "";
  if (!is_new(r, kept) || r->turn++ % r->o->jobs != r->job || (r->o->control && r->sum->bad > 0)) return;
  if (!disk_reset(&r->disk)) exit(3);
  put(r, kept);
  r->sum->states++;
  if (!look(why, r)) tell(r, kind, why);
}

/* ---- all states at a flush ---- */

static bool may_tear(const replay *r, const log_entry *e) {
  return e->n > r->o->atom && (e->at >= SUPERBLOCK_TO || e->at + e->n <= SUPERBLOCK_FROM);
}

/* Where little is pending, what there is is torn more often. */
static void choose(replay *r, uint64_t *kept) {
  static const unsigned percent[] = {10, 50, 90};
  uint64_t one_in = r->n_pending < 4 ? 2 : 4;
  unsigned likely = percent[next_random(&r->random) % 3];
  bool tears = next_random(&r->random) % 2, cut = next_random(&r->random) % 2;
  size_t until = cut ? next_random(&r->random) % (r->n_pending + 1) : r->n_pending;
  for (size_t i = 0; i < r->n_pending; i++) {
    kept[i] = i < until && next_random(&r->random) % 100 < likely;
    if (kept[i] && tears && next_random(&r->random) % one_in == 0 && may_tear(r, &r->log.entries[r->pending[i]]))
      kept[i] = next_random(&r->random) | 2;
  }
}

static void all_states(replay *r) {
  uint64_t *kept = calloc(r->n_pending + 1, sizeof *kept);
  if (kept == NULL) exit(3);
  r->n_seen = 0;
  one_state(r, kept, "none");
  for (int i = 0; r->n_pending > 0 && i < TRIES * r->o->subsets && r->n_seen <= (size_t)r->o->subsets; i++) {
    choose(r, kept);
    one_state(r, kept, "a part");
  }
  for (size_t i = 0; i < r->n_pending; i++) kept[i] = 1;
  one_state(r, kept, "all");
  free(kept);
}

static void commit(replay *r) {
  if (!disk_reset(&r->disk)) exit(3);
  for (size_t i = 0; i < r->n_pending; i++) {
    const log_entry *e = &r->log.entries[r->pending[i]];
    disk_commit(&r->disk, e->at, e->data, e->n);
  }
  r->n_pending = 0;
}

static void run(replay *r) {
  for (size_t i = 0; i < r->log.n; i++) {
    const log_entry *e = &r->log.entries[i];
    if (e->at >= r->ack_at && e->n == ACK_BYTES && ack_read(&r->said, e->data)) continue;
    if (e->flags & LOG_FLUSH) {
      r->flush = i;
      all_states(r);
      commit(r);
    }
    if (e->data != NULL) r->pending[r->n_pending++] = i;
  }
  all_states(r);
}

/* ---- a job ---- */

static bool measure_empty(replay *r) {
  r->checked.empty_blocks = UINT64_MAX;
  if (strcmp(r->o->type, "ext4") != 0) return true; /* others count their trees' blocks as they like */
  if (!disk_mount(&r->disk, r->o->mount, r->o->type, r->o->options)) return perror("mount"), false;
  r->checked.empty_blocks = blocks_in_use(r->o->mount);
  return disk_unmount(r->o->mount);
}

static bool begin(replay *r) {
  char path[4096];
  static char dir[4096];
  snprintf(path, sizeof path, "%s/log.img", r->o->work);
  if (!log_open(&r->log, path)) return false;
  snprintf(path, sizeof path, "%s/start.img", r->o->work);
  if (!disk_open(&r->disk, path)) return false;
  snprintf(dir, sizeof dir, "%s/run", r->o->mount);
  r->checked.scenario = scenario_find(r->o->scenario);
  r->checked.policies = r->o->policies;
  r->checked.dir = dir;
  r->said = (ack){.save = SCENARIO_NONE, .best = SCENARIO_NONE};
  r->ack_at = r->disk.n - (1 << 20);
  r->random = r->o->seed * 2 + 1;
  r->pending = calloc(r->log.n + 1, sizeof *r->pending);
  r->seen = calloc((size_t)r->o->subsets + 2, sizeof *r->seen);
  return r->pending != NULL && r->seen != NULL && measure_empty(r);
}

static int job(const options *o, shared *sum, int number) {
  replay r = {.o = o, .sum = sum, .job = number};
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  bool ok = disk_private_mounts() && begin(&r);
  if (ok) run(&r);
  if (ok && number == 0 && r.said.save != SCENARIO_SAVES - 1)
    ok = fprintf(stderr, "the log lacks acknowledgements\n") < 0;
  free(r.pending);
  free(r.seen);
  disk_close(&r.disk);
  log_close(&r.log);
  return ok ? 0 : 3;
}

static bool all_jobs(const options *o, shared *sum) {
  bool ok = true;
  fflush(stdout);
  for (int i = 0; i < o->jobs; i++) {
    pid_t pid = fork();
    if (pid == 0) exit(job(o, sum, i));
    ok &= pid > 0;
  }
  for (int status; wait(&status) > 0;) ok &= WIFEXITED(status) && WEXITSTATUS(status) == 0;
  return ok;
}

static bool parse(options *o, int argc, char **argv) {
  *o = (options){.type = "ext4", .subsets = 20, .jobs = 1, .atom = 512, .seed = 1};
  for (int c; (c = getopt(argc, argv, "s:p:f:o:m:n:a:j:r:c")) != -1;) switch (c) {
      case 's': o->scenario = optarg; break;
      case 'p': o->policies = optarg; break;
      case 'f': o->type = optarg; break;
      case 'o': o->options = optarg; break;
      case 'm': o->mount = optarg; break;
      case 'n': o->subsets = atoi(optarg); break;
      case 'a': o->atom = strtoull(optarg, NULL, 10); break;
      case 'j': o->jobs = atoi(optarg); break;
      case 'r': o->seed = strtoull(optarg, NULL, 10); break;
      case 'c': o->control = true; break;
      default: return false;
    }
  o->work = argv[optind];
  return o->work != NULL && o->mount != NULL && o->policies != NULL && o->scenario != NULL &&
         scenario_find(o->scenario) != NULL && o->subsets >= 0 && o->atom > 0 && o->jobs > 0 && o->jobs <= MAX_JOBS;
}

int main(int argc, char **argv) {
  options o;
  if (!parse(&o, argc, argv)) return fprintf(stderr, "replay: see the head of tests/power/replay.c\n"), 2;
  shared *sum = mmap(NULL, sizeof *sum, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (sum == MAP_FAILED) return perror("replay"), 3;
  bool ok = all_jobs(&o, sum);
  printf("%ld states, %ld bad\n", sum->states, sum->bad);
  return !ok ? 3 : sum->bad > 0;
}
