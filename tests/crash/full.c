/*
 * full.c - T3: a disk that is full, really: a tmpfs of every size from what the old checkpoints take to what the new
 * ones need, of every number of inodes, and a limit on the size of files. The old checkpoint stays loadable, nothing
 * stays occupied that was not before, and with more room the run goes on.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>

#include "crash.h"

enum {
  PAGE = 4096,
  ROOMY = 16384 /* pages */,
  ANY = 100000 /* inodes: 0 could not be limited later */,
  FLOATS = 12000,
  MOST = 4000,
  STEP = 512
};

typedef struct limits {
  long pages, inodes; /* of the file system */
  long bytes;         /* of a file; below 0: no limit */
} limits;

typedef struct full_test {
  const scenario *s;
  char where[PATH_MAX], template[PATH_MAX], disk[PATH_MAX], run[PATH_MAX];
  crash_report before, *report;
  tally *t;
  int succeeded;
} full_test;

/* ---- the disk ---- */

/* Mounts of a namespace of our own: whatever happens, they are gone with us. Without root by a user namespace. */
static bool own_mounts(void) {
  if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static bool set_disk(const full_test *f, const limits *l, unsigned long flags) {
  char options[80];
  snprintf(options, sizeof options, "size=%ldk,nr_inodes=%ld", l->pages * PAGE / 1024, l->inodes);
  return mount("tmpfs", f->disk, "tmpfs", flags, options) == 0;
}

typedef struct use {
  long pages, inodes;
} use;

static use used(const full_test *f) {
  struct statfs st;
  if (statfs(f->disk, &st) != 0) abort();
  return (use){(long)(st.f_blocks - st.f_bfree) * st.f_bsize / PAGE, (long)(st.f_files - st.f_ffree)};
}

/* ---- one run ---- */

static void play(const full_test *f, const limits *l) {
  struct rlimit r = {(rlim_t)l->bytes, (rlim_t)l->bytes};
  int status = 0;
  fflush(stdout);
  pid_t pid = fork();
  if (pid < 0) abort();
  if (pid == 0) {
    signal(SIGXFSZ, SIG_IGN);
    if (l->bytes >= 0 && setrlimit(RLIMIT_FSIZE, &r) != 0) abort();
    crash_play(f->s, f->run, f->report);
    _exit(0);
  }
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0) snprintf(f->report->broken, sizeof f->report->broken, "the saver crashes");
}

static bool tells_the_cause(const full_test *f, const limits *l) {
  int sys = l->bytes >= 0 ? EFBIG : ENOSPC;
  const crash_report *r = f->report;
  return r->failures == 0 || (r->status == CKPT_E_IO && r->sys == sys && strstr(r->message, strerror(sys)) != NULL);
}

/* Where nothing was saved nothing more is occupied (less, where a killed one had left something); the first opening
 * makes a directory and its lock. */
static bool is_given_back(const full_test *f, use before, use after) {
  bool saved = f->report->acked != f->before.acked;
  long made = f->s->before == 0 ? 2 : 0;
  return saved || (after.pages <= before.pages && after.inodes <= before.inodes + made);
}

static void judge(const full_test *f, const limits *l, use before) {
  char what[256] = "";
  use after = used(f);
  limits more = {ROOMY, ANY, -1};
  if (f->report->broken[0] != '\0') snprintf(what, sizeof what, "%s", f->report->broken);
  if (what[0] == '\0' && !tells_the_cause(f, l)) snprintf(what, sizeof what, "the cause is not told");
  if (what[0] == '\0' && !is_given_back(f, before, after))
    snprintf(what, sizeof what, "%ld pages and %ld inodes before, %ld and %ld after a failed save", before.pages,
             before.inodes, after.pages, after.inodes);
  if (what[0] == '\0') crash_broken(what, f->run, f->report);
  if (what[0] == '\0' && !set_disk(f, &more, MS_REMOUNT)) snprintf(what, sizeof what, "no remount");
  if (what[0] == '\0') crash_broken_after_recovery(what, f->s, f->run, f->report);
  if (what[0] != '\0')
    tally_broken(f->t, "%s, %ld pages, %ld inodes, files up to %ld bytes: %s (%s)", f->s->name, l->pages, l->inodes,
                 l->bytes, what, f->report->message);
}

/* False where the disk does not even hold what was there before. */
static bool one_size(full_test *f, const limits *l) {
  limits more = {ROOMY, ANY, -1};
  remove_tree(f->run);
  if (!set_disk(f, &more, MS_REMOUNT)) abort();
  bool fits = copy_tree(f->template, f->run) && set_disk(f, l, MS_REMOUNT);
  if (fits) {
    use before = used(f);
    *f->report = f->before;
    play(f, l);
    atomic_fetch_add(&f->t->points, 1);
    if (f->report->failures > 0) atomic_fetch_add(&f->t->failed, 1);
    f->succeeded = f->report->failures == 0 ? f->succeeded + 1 : 0;
    judge(f, l, before);
  }
  return fits;
}

/* ---- every size ---- */

/* From too little to enough, and one more. */
static void every_size(full_test *f) {
  f->succeeded = 0;
  for (long pages = 1; f->succeeded < 2 && pages < MOST; pages++) one_size(f, &(limits){pages, ANY, -1});
}

static void every_number_of_inodes(full_test *f) {
  f->succeeded = 0;
  for (long n = 2; f->succeeded < 2 && n < MOST; n++) one_size(f, &(limits){ROOMY, n, -1});
}

static void both(full_test *f) {
  for (long pages = 1; pages <= 16; pages++)
    for (long n = 2; n <= 12; n++) one_size(f, &(limits){pages, n, -1});
}

static void every_file_size(full_test *f) {
  f->succeeded = 0;
  for (long bytes = 0; f->succeeded < 2 && bytes < MOST * STEP; bytes += STEP)
    one_size(f, &(limits){ROOMY, ANY, bytes});
}

static bool prepare(full_test *f, const scenario *s) {
  *f = (full_test){.s = s, .report = report_new(NULL), .t = tally_new()};
  if (!scratch_make(f->where)) abort();
  path_of(f->template, f->where, "template");
  path_of(f->disk, f->where, "disk");
  path_of(f->run, f->disk, "here");
  if (mkdir(f->disk, 0777) != 0 || mkdir(f->template, 0777) != 0) abort();
  bool ok = set_disk(f, &(limits){ROOMY, ANY, -1}, 0) && crash_prepare(s, f->template, f->report);
  f->before = *f->report;
  return ok;
}

static void test_one(const scenario *s, const char *what, void (*every)(full_test *f)) {
  full_test f;
  bool ok = prepare(&f, s);
  if (ok) every(&f);
  int points = atomic_load(&f.t->points), failed = atomic_load(&f.t->failed), broken = atomic_load(&f.t->broken);
  bool met =
      s->bug != NO_BUG ? broken > 0 : broken == 0 && points > 1 && failed < points && (failed > 0 || s->leave != NULL);
  tap(ok && met, "%s, %s: %d sizes, %d too small, %d violations%s", s->name, what, points, failed, broken,
      s->bug == NO_BUG ? "" : ": the bug is caught");
  umount2(f.disk, MNT_DETACH);
  remove_tree(f.where);
}

int test_full(char **names) {
  if (!own_mounts()) return 77;
  crash_set_size(FLOATS);
  for (const scenario *s = crash_scenarios; s->name != NULL; s++) {
    if (!is_chosen(names, s) || s->lacks != 0) continue;
    test_one(s, "every size of the disk", every_size);
    test_one(s, "every number of inodes", every_number_of_inodes);
    test_one(s, "every size of a file", every_file_size);
    if (strcmp(s->name, "first") == 0) test_one(s, "sizes and inodes", both);
  }
  if (is_chosen(names, crash_find("deaf"))) test_one(crash_find("deaf"), "every size of the disk", every_size);
  return tap_end();
}
