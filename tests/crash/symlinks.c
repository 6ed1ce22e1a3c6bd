/*
 * symlinks.c - T13: another process exchanges the names of a run, and its whole directory, with symbolic links while
 * the run saves, loads and prunes.
 *
 *   base/run      the run's directory, at times a link to `outside`
 *   base/attic    what the attacker exchanges: links to outside/secret.pth, to outside/new and to outside itself
 *   base/outside  secret.pth, a valid checkpoint that no run has saved; watched by inotify
 *
 * Nothing outside may be opened, read, written or linked, whatever the saver makes of what it finds. The directory is
 * left alone only while the saver opens it: a path that is a link then is the caller's.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "crash.h"
#include "run.h"

enum { LINKS = 4, MAX_SEEN = 64, SECRET_STEP = 999999, ROUND = 6, SWAPS_FOR_A_SAVE = 50, MAX_EPOCH = 200 };

typedef struct shared {
  atomic_int directory; /* 1 while the saver opens it, or it is exchanged */
  atomic_int stop;
  atomic_long swaps;
  long rounds, saves, failed, refused, prunes, loads, leaks;
} shared;

typedef struct attack {
  char base[PATH_MAX], run[PATH_MAX], attic[PATH_MAX], outside[PATH_MAX], secret[PATH_MAX];
  shared *s;
  uint64_t random;
} attack;

static uint64_t next_random(attack *a) {
  a->random ^= a->random << 13;
  a->random ^= a->random >> 7;
  return a->random ^= a->random << 17;
}

/* ---- the attacker ---- */

typedef struct seen {
  char names[MAX_SEEN][80];
  int n, run, attic;
} seen;

static bool exchange(attack *a, int from, const char *name, int to, const char *other) {
  if (syscall(SYS_renameat2, from, name, to, other, 2 /* RENAME_EXCHANGE */) != 0) return false;
  atomic_fetch_add(&a->s->swaps, 1);
  return true;
}

/* Temporary names too: what the saver has open at this moment. */
static void look_round(seen *s) {
  DIR *d = fdopendir(openat(s->run, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  s->n = 0;
  if (d == NULL) return;
  for (struct dirent *e; (e = readdir(d)) != NULL && s->n < MAX_SEEN;)
    if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
      snprintf(s->names[s->n++], sizeof s->names[0], "%.79s", e->d_name);
  closedir(d);
}

static void pause_a_little(attack *a) {
  for (uint64_t n = next_random(a) % 400; n > 0; n--) atomic_signal_fence(memory_order_seq_cst);
  if (next_random(a) % 4 == 0) sched_yield();
}

/* The link is made anew when what was exchanged for it has come to stay. */
static void mend_link(const seen *s, const char *link, const char *target) {
  struct stat st;
  if (fstatat(s->attic, link, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode)) return;
  unlinkat(s->attic, link, 0);
  if (symlinkat(target, s->attic, link) != 0) abort();
}

static const char *const targets[LINKS] = {"../outside/secret.pth", "../outside/new", "../outside", "secret.pth"};

static void swap_name(attack *a, seen *s) {
  static const char *const favourites[] = {LATEST, BEST, LEDGER, ".ckpt.lock"};
  char link[16];
  uint64_t r = next_random(a);
  const char *name = favourites[r % COUNTOF(favourites)];
  if ((r >> 8) % 2 == 0 && s->n > 0) name = s->names[(r >> 16) % (unsigned)s->n];
  snprintf(link, sizeof link, "link%u", (unsigned)((r >> 32) % LINKS));
  mend_link(s, link, targets[(r >> 32) % LINKS]);
  if (!exchange(a, s->attic, link, s->run, name)) return;
  pause_a_little(a);
  exchange(a, s->attic, link, s->run, name);
}

/* While the directory is away its names go on being exchanged. True if it is away now. */
static bool swap_directory(attack *a, int base, bool away) {
  int free_ = 0;
  if (!away && !atomic_compare_exchange_strong(&a->s->directory, &free_, 1)) return false;
  if (!exchange(a, base, "attic/directory", base, "run")) abort();
  if (away) atomic_store(&a->s->directory, 0);
  return !away;
}

static void attack_all(attack *a) {
  static seen s;
  int base = open(a->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  s.run = open(a->run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  s.attic = open(a->attic, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  bool away = false;
  for (uint64_t i = 0; atomic_load(&a->s->stop) == 0; i++) {
    if (i % 8 == 0) look_round(&s);
    if (i % 128 == 0) away = swap_directory(a, base, away);
    swap_name(a, &s);
  }
  if (away) swap_directory(a, base, away);
}

/* ---- the saver ---- */

/* Waits until the directory is in its place and stays there. */
static void hold_directory(shared *s) {
  for (int free_ = 0; !atomic_compare_exchange_weak(&s->directory, &free_, 3); free_ = 0) sched_yield();
}

typedef struct victim {
  attack *a;
  ckpt_checkpointer *cp;
  float weights[64];
  int64_t step;
  double acc;
} victim;

static void load_victim(victim *v) {
  v->a->s->loads += ckpt_load(v->cp, NULL, NULL) == CKPT_OK;
  if (v->step != SECRET_STEP) return;
  v->a->s->leaks++;
  v->step = 0;
}

static bool open_victim(victim *v) {
  ckpt_checkpointer_options o = {.dir = v->a->run, .auto_resume = true};
  hold_directory(v->a->s);
  ckpt_status st = ckpt_checkpointer_open(&v->cp, &o, NULL);
  atomic_store(&v->a->s->directory, 0);
  if (st == CKPT_OK) st = ckpt_bind_tensor(v->cp, "model", "w", CKPT_F32, v->weights, 1, (int64_t[]){64}, NULL);
  if (st == CKPT_OK) st = ckpt_bind_int(v->cp, "info", "step", &v->step, NULL);
  if (st == CKPT_OK) st = ckpt_bind_double(v->cp, "info", "acc", &v->acc, NULL);
  return st == CKPT_OK;
}

static void save_victim(victim *v) {
  shared *s = v->a->s;
  v->step = v->step % MAX_EPOCH + 1;
  v->acc = (double)(next_random(v->a) % 1000) / 1000;
  for (int i = 0; i < 64; i++) v->weights[i] = (float)(v->step * 1000 + i);
  ckpt_set_metric(v->cp, "acc", v->acc, NULL);
  s->failed += ckpt_save(v->cp, v->step, NULL) != CKPT_OK;
  s->failed += ckpt_save_best(v->cp, v->step, NULL, NULL) != CKPT_OK;
  s->saves += 2;
}

static const char *epoch_name(int epoch) {
  static char name[40];
  snprintf(name, sizeof name, "model_epoch%d.pth", epoch);
  return name;
}

static void prune_victim(victim *v) {
  ckpt_save_plan plan = {0};
  ckpt_pin(v->cp, epoch_name((int)v->step), true, NULL);
  ckpt_pin(v->cp, epoch_name((int)v->step), false, NULL);
  char *spared = NULL;
  v->a->s->prunes += ckpt_prune(&plan, &spared, v->cp, true, NULL) == CKPT_OK;
  ckpt_save_plan_free(&plan);
  free(spared);
}

static bool is_enough(const shared *s, long wanted_swaps) {
  return atomic_load(&s->swaps) >= wanted_swaps && s->saves >= wanted_swaps / SWAPS_FOR_A_SAVE;
}

/* A link that the attacker could not take back would make every opening fail from now on. */
static void remove_link(void *run, const char *name) {
  char path[PATH_MAX];
  struct stat st;
  if (lstat(path_of(path, run, name), &st) == 0 && S_ISLNK(st.st_mode)) unlink(path);
}

static void clean(attack *a) {
  hold_directory(a->s);
  each_name(a->run, remove_link, a->run);
  atomic_store(&a->s->directory, 0);
}

static void be_attacked(attack *a, long wanted_swaps) {
  static victim v;
  v.a = a;
  for (; !is_enough(a->s, wanted_swaps); a->s->rounds++) {
    if (!open_victim(&v)) a->s->refused++;
    for (int i = 0; v.cp != NULL && i < ROUND; i++) {
      load_victim(&v);
      save_victim(&v);
    }
    if (v.cp != NULL) prune_victim(&v);
    ckpt_checkpointer_close(v.cp);
    v.cp = NULL;
    clean(a);
  }
}

/* ---- what is outside ---- */

typedef struct outside {
  struct stat directory, secret;
  int events;
} outside;

/* Under every name that a run looks for, should its path lead here. */
static bool make_secret(attack *a) {
  ckpt_checkpointer *cp = NULL;
  float w[64] = {0};
  int64_t step = SECRET_STEP;
  double acc = 2;
  ckpt_checkpointer_options o = {.dir = path_of((char[PATH_MAX]){0}, a->base, "other")};
  bool ok = ckpt_checkpointer_open(&cp, &o, NULL) == CKPT_OK &&
            ckpt_bind_tensor(cp, "model", "w", CKPT_F32, w, 1, (int64_t[]){64}, NULL) == CKPT_OK &&
            ckpt_bind_int(cp, "info", "step", &step, NULL) == CKPT_OK &&
            ckpt_bind_double(cp, "info", "acc", &acc, NULL) == CKPT_OK && ckpt_save(cp, 1, NULL) == CKPT_OK;
  ckpt_checkpointer_close(cp);
  size_t size = 0;
  char from[PATH_MAX], *data = get_file(&size, path_of(from, o.dir, "model_epoch1.pth"));
  ok = ok && data != NULL && put_file(a->outside, "secret.pth", data, size);
  ok = ok && put_file(a->outside, LATEST, data, size) && put_file(a->outside, BEST, data, size);
  for (int i = 1; ok && i <= MAX_EPOCH; i++) ok = put_file(a->outside, epoch_name(i), data, size);
  free(data);
  remove_tree(o.dir);
  return ok;
}

static bool watch(outside *o, const attack *a) {
  const uint32_t mask = IN_OPEN | IN_ACCESS | IN_MODIFY | IN_ATTRIB | IN_CREATE | IN_DELETE | IN_MOVE;
  bool known = stat(a->outside, &o->directory) == 0 && stat(a->secret, &o->secret) == 0;
  o->events = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  return known && o->events >= 0 && inotify_add_watch(o->events, a->outside, mask) >= 0;
}

static bool same_times(const struct stat *a, const struct stat *b) {
  return a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
         a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec &&
         a->st_nlink == b->st_nlink && a->st_size == b->st_size;
}

/* Events are read first: our own look would be one. */
static bool is_untouched(outside *o, const attack *a) {
  char events[4096];
  struct stat directory, secret;
  ssize_t n = read(o->events, events, sizeof events);
  const struct inotify_event *e = (const void *)events;
  if (n > 0) printf("# an event outside: %#x %s\n", e->mask, e->len > 0 ? e->name : "");
  bool same = stat(a->outside, &directory) == 0 && stat(a->secret, &secret) == 0 &&
              same_times(&directory, &o->directory) && same_times(&secret, &o->secret);
  return n < 0 && same;
}

/* ---- the test ---- */

static bool set_up(attack *a) {
  *a = (attack){.random = 88172645463325252ULL};
  a->s = mmap(NULL, sizeof *a->s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (a->s == MAP_FAILED || !scratch_make(a->base)) return false;
  path_of(a->run, a->base, "run");
  path_of(a->attic, a->base, "attic");
  path_of(a->outside, a->base, "outside");
  path_of(a->secret, a->outside, "secret.pth");
  char link[PATH_MAX];
  return mkdir(a->run, 0700) == 0 && mkdir(a->attic, 0700) == 0 && mkdir(a->outside, 0700) == 0 && make_secret(a) &&
         symlink("outside", path_of(link, a->attic, "directory")) == 0;
}

static pid_t start(attack *a, void (*attacker)(attack *a)) {
  fflush(stdout);
  pid_t pid = fork();
  if (pid < 0) abort();
  if (pid > 0) return pid;
  attacker(a);
  _exit(0);
}

static void victim_process(attack *a) {
  a->random ^= 0x9e3779b97f4a7c15;
  be_attacked(a, wanted("CRASH_SWAPS", 100000));
}

/* A saver that follows links: the watch must see it. */
static void careless_process(attack *a) {
  char path[PATH_MAX];
  for (int i = 0; i < 20000 && a->s->rounds == 0; i++) {
    int fd = open(path_of(path, a->run, LATEST), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) close(fd);
  }
}

static bool under_attack(attack *a, outside *o, void (*process)(attack *a)) {
  int status = -1, other = -1;
  if (!set_up(a) || !watch(o, a)) abort();
  pid_t attacker = start(a, attack_all), saver = start(a, process);
  while (waitpid(saver, &status, 0) < 0 && errno == EINTR) {
  }
  atomic_store(&a->s->stop, 1);
  while (waitpid(attacker, &other, 0) < 0 && errno == EINTR) {
  }
  return status == 0 && other == 0;
}

static void end(attack *a, outside *o) {
  close(o->events);
  remove_tree(a->base);
}

static void test_attack(void) {
  attack a;
  outside o;
  bool whole = under_attack(&a, &o, victim_process);
  const shared *s = a.s;
  printf("# %ld rounds, %ld openings refused, %ld loads, %ld saves of which %ld failed, %ld prunes\n", s->rounds,
         s->refused, s->loads, s->saves, s->failed, s->prunes);
  tap(whole, "no process crashes in %ld swaps", atomic_load(&s->swaps));
  tap(is_untouched(&o, &a), "nothing outside is opened, written or linked in %ld swaps", atomic_load(&s->swaps));
  tap(s->leaks == 0, "nothing is read through a link in %ld loads", s->loads);
  tap(s->saves - s->failed > s->saves / 4 && s->loads > 0, "saves go well meanwhile: %ld of %ld", s->saves - s->failed,
      s->saves);
  end(&a, &o);
  whole = under_attack(&a, &o, careless_process);
  tap(whole && !is_untouched(&o, &a), "a saver that follows links is caught");
  end(&a, &o);
}

/* ---- who may read and who owns ---- */

typedef struct modes {
  const char *dir;
  mode_t umask_;
  int files, wrong;
} modes;

static void check_mode(void *arg, const char *name) {
  modes *m = arg;
  char path[PATH_MAX];
  struct stat st;
  if (lstat(path_of(path, m->dir, name), &st) != 0) return;
  m->files++;
  m->wrong += (st.st_mode & 07777) != (0666 & ~m->umask_);
}

static void test_mode(mode_t mask) {
  char base[PATH_MAX], dir[PATH_MAX];
  struct stat st = {0};
  crash_report report;
  mode_t before = umask(mask);
  bool ok = scratch_make(base) && crash_prepare(crash_find("again"), base, &report);
  umask(before);
  modes m = {path_of(dir, base, "run"), mask, 0, 0};
  each_name(dir, check_mode, &m);
  ok = ok && stat(dir, &st) == 0 && (st.st_mode & 07777) == (0777 & ~mask);
  tap(ok && m.files > 5 && m.wrong == 0, "umask %03o: the directory and %d files are as narrow as it says", mask,
      m.files);
  remove_tree(base);
}

static bool opens(const char *dir, const char *option, ckpt_error *err) {
  ckpt_checkpointer *cp = NULL;
  const char *set[] = {option, NULL};
  ckpt_checkpointer_options o = {.dir = dir, .set = option == NULL ? NULL : set};
  bool ok = ckpt_checkpointer_open(&cp, &o, err) == CKPT_OK;
  ckpt_checkpointer_close(cp);
  return ok;
}

static void test_owner(void) {
  char base[PATH_MAX];
  ckpt_error err = {0};
  if (!scratch_make(base)) abort();
  if (chown(base, 12345, (gid_t)-1) != 0) {
    tap(true, "a directory of another user # SKIP only root can give one away");
    remove_tree(base);
    return;
  }
  bool refused = !opens(base, NULL, &err) && err.status == CKPT_E_IO && strstr(err.message, "another user (12345)");
  tap(refused, "a directory of another user is refused");
  tap(opens(base, "foreign_dir=true", &err), "unless foreign_dir=true");
  remove_tree(base);
}

int test_symlinks(void) {
  static const mode_t masks[] = {077, 022, 0};
  test_attack();
  for (size_t i = 0; i < COUNTOF(masks); i++) test_mode(masks[i]);
  test_owner();
  return tap_end();
}
