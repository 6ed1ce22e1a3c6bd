/*
 * fuzz_manager.c - a run and what befalls it, on the file system of tests/c/model_fs.h, which forgets what was not
 * synced. An input is a sequence of three bytes each: what happens, and two numbers for it. The oracle, whatever
 * happened (names of reliability invariants in brackets):
 *
 *   [I1, I2] there is a whole checkpoint at least as new as the last save that was acknowledged
 *   [I3]     an alias that was acknowledged is there, whole, and not older
 *   [I4]     the best is not worse than the best that was acknowledged
 *   [I5]     a new run finds no temporary file, and resumes from the newest
 *   [I6]     a save that failed once changed no name
 *   and every file under a name of its own is whole, but the one that was spoilt on purpose, which is never deleted.
 */
#include <sys/mman.h>

#include "../c/model_fs.h"
#include "fuzz.h"
#include "run.h"

enum { WEIGHTS = 8, MOST_EVENTS = 14, MOST_SAVES = 2 * MOST_EVENTS };

const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=1:quarantine_size_mb=16"; }

typedef struct world {
  model_fs fs;       /* first: the table's context is both */
  unsigned calls;    /* since the event began */
  unsigned fail_at;  /* this call fails; 0: none */
  bool lasting;      /* and all after it */
  int sys;           /* with this */
  unsigned crash_at; /* before this call the power goes; 0: none */
  bool crashed;
  uint64_t ops, choice;
  model_state left;
  ckpt_checkpointer *cp;
  int saves;                       /* serial numbers of saves begun; a file has its own in its weights */
  int acknowledged, best;          /* serial numbers; 0: none */
  double accuracy[MOST_SAVES + 1]; /* by serial number */
  int64_t epoch;
  float weights[WEIGHTS];
} world;

/* ---- calls that fail, and power that goes ---- */

static bool refused(void *context) {
  world *w = context;
  w->calls++;
  if (w->calls == w->crash_at && !w->crashed) {
    model_crash(&w->left, &w->fs, w->ops, w->choice);
    w->crashed = true;
  }
  bool fails = w->fail_at > 0 && (w->calls == w->fail_at || (w->lasting && w->calls > w->fail_at));
  if (fails) errno = w->sys;
  return fails;
}

#define FAULTY(type, name, parameters, arguments) \
  static type faulty_##name parameters { return refused(ctx) ? -1 : model_##name arguments; }

FAULTY(int, openat, (void *ctx, int dir, const char *name, int flags, mode_t mode), (ctx, dir, name, flags, mode))
FAULTY(ssize_t, pread, (void *ctx, int fd, void *data, size_t size, off_t at), (ctx, fd, data, size, at))
FAULTY(ssize_t, write, (void *ctx, int fd, const void *data, size_t size), (ctx, fd, data, size))
FAULTY(int, fsync, (void *ctx, int fd), (ctx, fd))
FAULTY(int, fallocate, (void *ctx, int fd, int mode, off_t at, off_t size), (ctx, fd, mode, at, size))
FAULTY(int, ftruncate, (void *ctx, int fd, off_t size), (ctx, fd, size))
FAULTY(int, link_fd, (void *ctx, int fd, int dir, const char *name), (ctx, fd, dir, name))
FAULTY(int, linkat, (void *ctx, int dir, const char *name, const char *other), (ctx, dir, name, other))
FAULTY(int, renameat, (void *ctx, int dir, const char *from, const char *to), (ctx, dir, from, to))
FAULTY(int, unlinkat, (void *ctx, int dir, const char *name), (ctx, dir, name))
FAULTY(int, fstat, (void *ctx, int fd, struct stat *st), (ctx, fd, st))
FAULTY(int, statat, (void *ctx, int dir, const char *name, struct stat *st), (ctx, dir, name, st))
FAULTY(int, list, (void *ctx, int dir, bool (*each)(void *arg, const char *name), void *arg), (ctx, dir, each, arg))
FAULTY(int, flock, (void *ctx, int fd), (ctx, fd))
FAULTY(int, lease, (void *ctx, int fd), (ctx, fd))

static void install(world *w) {
  ckpt_io *io = &w->fs.io;
  io->ctx = w;
  io->openat = faulty_openat, io->pread = faulty_pread, io->write = faulty_write, io->fsync = faulty_fsync;
  io->fallocate = faulty_fallocate, io->ftruncate = faulty_ftruncate, io->link_fd = faulty_link_fd;
  io->linkat = faulty_linkat, io->renameat = faulty_renameat, io->unlinkat = faulty_unlinkat;
  io->fstat = faulty_fstat, io->statat = faulty_statat, io->list = faulty_list, io->flock = faulty_flock;
  io->lease = faulty_lease;
}

/* ---- looking ---- */

/* The serial number in a file; 0 if there is none of that name, -1 if it is not whole. */
static int serial_of(world *w, const char *name) {
  static const ckpt_open_options verify = {.verify = true};
  int i = model_find(&w->fs.now, name), serial = -1;
  if (i < 0) return 0;
  model_file *f = &w->fs.files[w->fs.now.at[i].file];
  size_t n = model_size(f);
  void *bytes = malloc(n + 1);
  ckpt_checkpoint *cp = NULL;
  CHECK(bytes != NULL && pread(f->memfd, bytes, n, 0) == (ssize_t)n);
  if (ckpt_checkpoint_open_memory(&cp, bytes, n, name, &verify, NULL) == CKPT_OK) {
    const void *data = NULL;
    const ckpt_value *model = ckpt_value_get(ckpt_checkpoint_root(cp), "model");
    const ckpt_tensor *t = model == NULL ? NULL : ckpt_value_tensor(ckpt_value_get(model, "w"));
    if (t != NULL && ckpt_tensor_data(&data, t, NULL) == CKPT_OK) serial = (int)*(const float *)data;
  }
  ckpt_checkpoint_close(cp);
  free(bytes);
  return serial;
}

static bool ends_with(const char *name, const char *end) {
  size_t n = strlen(name), m = strlen(end);
  return n >= m && strcmp(name + n - m, end) == 0;
}

static void check(world *w) {
  int newest = 0;
  for (int i = 0; i < w->fs.now.n; i++) {
    const char *name = w->fs.now.at[i].name;
    if (name[0] == '.' || !ends_with(name, ".pth")) continue;
    int serial = serial_of(w, name);
    CHECK(serial > 0);
    if (serial > newest) newest = serial;
  }
  CHECK(newest >= w->acknowledged);
  CHECK(w->acknowledged == 0 || serial_of(w, "model_latest.pth") >= w->acknowledged);
  int best = serial_of(w, "model_best.pth");
  CHECK(w->best == 0 || (best > 0 && w->accuracy[best] >= w->accuracy[w->best]));
}

/* ---- runs ---- */

static ckpt_status begin(world *w, ckpt_error *err) {
  int64_t shape[] = {WEIGHTS};
  ckpt_load_report report;
  ckpt_checkpointer_options o = {.dir = MODEL_PATH, .auto_resume = true};
  CKPT_TRY(ckpt_checkpointer_open_io(&w->cp, &o, &w->fs.io, err));
  CKPT_TRY(ckpt_bind_tensor(w->cp, "model", "w", CKPT_F32, w->weights, 1, shape, err));
  for (int i = 0; i < WEIGHTS; i++) w->weights[i] = 0;
  CKPT_TRY(ckpt_load(w->cp, &report, err));
  w->epoch = ckpt_next_epoch(w->cp);
  return CKPT_OK;
}

static void end(world *w) {
  ckpt_checkpointer_close(w->cp);
  w->cp = NULL;
}

/* A new run, on a system that works: it finds what there is. */
static void restart(world *w) {
  ckpt_error err = {0};
  end(w);
  w->fail_at = w->crash_at = 0;
  CHECK(begin(w, &err) == CKPT_OK);
  for (int i = 0; i < w->fs.now.n; i++) CHECK(strncmp(w->fs.now.at[i].name, ".tmp-ckpt-", 10) != 0);
  CHECK((int)w->weights[0] >= w->acknowledged);
  check(w);
}

static void power_returns(world *w) {
  model_fs *fs = &w->fs;
  end(w);
  model_free(fs);
  model_boot(fs, &w->left, w->choice | 1);
  install(w);
  model_state_free(&w->left);
  w->crashed = false;
  restart(w);
}

/* ---- what happens ---- */

/* Checkpoints and aliases are what they were; an empty ledger may have come. */
static void same_names(const model_names *a, const model_names *b) {
  int more = 0;
  for (int i = 0; i < b->n; i++) more += b->at[i].name[0] != '.' && ends_with(b->at[i].name, ".pth");
  for (int i = 0; i < a->n; i++) {
    int k = model_find(b, a->at[i].name);
    if (a->at[i].name[0] == '.') continue;
    CHECK(k >= 0 && b->at[k].file == a->at[i].file);
    more -= ends_with(a->at[i].name, ".pth");
  }
  CHECK(more == 0);
}

static ckpt_status save(world *w, uint8_t how, ckpt_error *err) {
  ckpt_set_step(w->cp, w->saves);
  for (int i = 0; i < WEIGHTS; i++) w->weights[i] = (float)w->saves;
  CKPT_TRY(ckpt_set_metric(w->cp, "acc", w->accuracy[w->saves], err));
  CKPT_TRY((how & 1 ? ckpt_save_async : ckpt_save)(w->cp, w->epoch, err));
  return how & 1 ? ckpt_wait(w->cp, err) : CKPT_OK;
}

static ckpt_status save_best(world *w, uint8_t how, bool *improved, ckpt_error *err) {
  CKPT_TRY((how & 1 ? ckpt_save_best_async : ckpt_save_best)(w->cp, w->epoch, improved, err));
  return how & 1 ? ckpt_wait(w->cp, err) : CKPT_OK;
}

/* how: bit 0 in a thread, bit 1 the best too, bit 2 the same epoch again, bits 3 to 6 how good it is. */
static void do_save(world *w, uint8_t how) {
  ckpt_error err = {0};
  bool improved = false, once = w->fail_at > 0 && !w->lasting;
  model_names before = w->fs.now;
  w->saves++;
  w->accuracy[w->saves] = (double)(how >> 3 & 15) / 16;
  ckpt_status st = save(w, how, &err);
  fuzz_check_error(st, &err);
  if (st == CKPT_OK && !w->crashed) w->acknowledged = w->saves;
  if (st != CKPT_OK && once) same_names(&before, &w->fs.now);
  if (st == CKPT_OK && (how & 2)) {
    before = w->fs.now;
    st = save_best(w, how, &improved, &err);
    fuzz_check_error(st, &err);
    if (st == CKPT_OK && improved && !w->crashed) w->best = w->saves;
    if (st != CKPT_OK && once) same_names(&before, &w->fs.now);
  }
  w->fail_at = 0;
  if (w->crashed)
    power_returns(w);
  else
    check(w);
  if (!(how & 4)) w->epoch++;
}

static void do_prune(world *w) {
  ckpt_error err = {0};
  ckpt_save_plan plan = {0};
  char *spared = NULL;
  ckpt_status st = ckpt_prune(&plan, &spared, w->cp, true, &err);
  fuzz_check_error(st, &err);
  if (st == CKPT_OK) ckpt_save_plan_free(&plan);
  free(spared);
  w->fail_at = 0;
  if (w->crashed)
    power_returns(w);
  else
    check(w);
}

static int count_aside(const world *w) {
  int n = 0;
  for (int k = 0; k < w->fs.now.n; k++) n += strstr(w->fs.now.at[k].name, ".pth.corrupt") != NULL;
  return n;
}

/* The newest file loses its end, wherever else its content has names: what is left of the run goes on without it. */
static void spoil(world *w) {
  int i = model_find(&w->fs.now, "model_latest.pth");
  if (i < 0 || w->acknowledged == 0) return;
  model_file *f = &w->fs.files[w->fs.now.at[i].file];
  int aside = count_aside(w);
  end(w);
  CHECK(ftruncate(f->memfd, (off_t)model_size(f) / 2) == 0);
  model_sync_file(f);
  ckpt_error err = {0};
  w->fail_at = w->crash_at = 0;
  ckpt_status st = begin(w, &err);
  fuzz_check_error(st, &err);
  if (st != CKPT_OK) { /* there is no other: all of it stays as it is, and this run is over */
    CHECK(st == CKPT_E_CORRUPT || st == CKPT_E_FORMAT);
    w->saves = MOST_SAVES;
    return;
  }
  CHECK(w->weights[0] > 0);
  if (count_aside(w) == aside) { /* a save that was cut short: the ledger has it not, and the file has not been met */
    w->saves = MOST_SAVES;
    return;
  }
  int best = serial_of(w, "model_best.pth");
  if (best < 0 && w->best == 0) { /* a name that no save was acknowledged with: nobody knows that it is the run's */
    w->saves = MOST_SAVES;
    return;
  }
  w->acknowledged = serial_of(w, "model_latest.pth");
  if (w->best != 0) w->best = best;
  CHECK(w->acknowledged >= 0 && w->best >= 0);
  check(w);
}

/* An alias vanishes; one that is the last name of its file would take the content with it. */
static void drop_alias(world *w, uint8_t which) {
  const char *name = which & 1 ? "model_best.pth" : "model_latest.pth";
  int i = model_find(&w->fs.now, name), names = 0;
  for (int k = 0; i >= 0 && k < w->fs.now.n; k++) names += w->fs.now.at[k].file == w->fs.now.at[i].file;
  if (names < 2) return;
  end(w);
  CHECK(model_unlinkat(w, 0, name) == 0);
  w->fs.synced = w->fs.now;
  w->fs.n_ops = 0;
  restart(w);
}

static void happens(world *w, const uint8_t event[3]) {
  w->calls = 0;
  switch (event[0] % 8) {
    case 0: /* a save, while one call fails, or all from it on */
      w->fail_at = event[2] & 127;
      w->lasting = event[2] >> 7;
      w->sys = (const int[]){EIO, ENOSPC, EDQUOT, EINTR, EMFILE, EROFS, EACCES, EIO}[event[0] >> 3 & 7];
      do_save(w, event[1]);
      break;
    case 1: /* a save, while the power goes */
      w->crash_at = event[2];
      w->ops = event[0] >> 3 == 31 ? UINT64_MAX : (uint64_t)event[0] * UINT64_C(0x9e3779b97f4a7c15) >> (event[2] & 7);
      w->choice = event[0] >> 3;
      do_save(w, event[1]);
      w->crash_at = 0;
      break;
    case 2: do_save(w, event[1]); break;
    case 3: restart(w); break;
    case 4: do_prune(w); break;
    case 5: spoil(w); break;
    case 6: drop_alias(w, event[1]); break;
    default:
      model_crash(&w->left, &w->fs, (uint64_t)event[1], event[2]);
      w->choice = event[2];
      power_returns(w);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static world w; /* large */
  ckpt_error err = {0};
  memset(&w, 0, sizeof w);
  model_init(&w.fs, 1);
  install(&w);
  CHECK(begin(&w, &err) == CKPT_OK);
  for (size_t i = 0; i + 3 <= size && i < 3 * MOST_EVENTS && w.saves < MOST_SAVES; i += 3) happens(&w, data + i);
  end(&w);
  model_state_free(&w.left);
  model_free(&w.fs);
  return 0;
}

/* Whole events: one is changed, added, taken away, or made like another. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed) {
  uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
  size_t n = size / 3, most = max / 3 < MOST_EVENTS ? max / 3 : MOST_EVENTS;
  uint64_t bits = model_next_random(&state);
  uint8_t event[3] = {(uint8_t)(bits >> 8), (uint8_t)(bits >> 16), (uint8_t)(bits >> 24)};
  size_t at = n == 0 ? 0 : (bits >> 32) % n;
  if (most == 0) return size;
  if (n < most && bits % 4 < 2) {
    memmove(data + 3 * at + 3, data + 3 * at, 3 * (n - at));
    n++;
  } else if (n > 4 && bits % 4 == 2) {
    memmove(data + 3 * at, data + 3 * at + 3, 3 * (n - at - 1));
    return 3 * (n - 1);
  } else if (n > 0 && bits % 8 == 7) {
    size_t k = at * 3 + (bits >> 56) % 3;
    data[k] = (uint8_t)(data[k] + (bits >> 40 & 7) - 3);
    return 3 * n;
  }
  if (n == 0) return size;
  memcpy(data + 3 * at, event, 3);
  return 3 * n;
}
