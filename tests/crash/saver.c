/*
 * saver.c - what saves: a trainer of one tensor on the public API, in the ways that a run's life has.
 *
 * Each save has a step of its own, from which every weight follows, so that whoever reads a file can tell whether it is
 * whole. A save that fails is tried once more, as a trainer would with its next epoch.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "crash.h"

#define KEEP "policy.keep = { last = 2, best = 1 }\nreturn policy\n"
#define POLICY "local policy = require 'policies.default'()\n"

static int n_weights = 64;

void crash_set_size(int n) { n_weights = n; }

/* ---- opening ---- */

static const char *policy_path(char out[PATH_MAX], const char *where) {
  struct stat st;
  return stat(path_of(out, where, "policy.lua"), &st) == 0 ? out : NULL;
}

static ckpt_status bind(crash_run *r, ckpt_error *err) {
  ckpt_status st = ckpt_bind_tensor(r->cp, "model", "w", CKPT_F32, r->weights, 1, (int64_t[]){n_weights}, err);
  if (st == CKPT_OK) st = ckpt_bind_int(r->cp, "info", "step", &r->step, err);
  return st == CKPT_OK ? ckpt_bind_double(r->cp, "info", "acc", &r->acc, err) : st;
}

static void count_warning(void *report, ckpt_log_level level, const char *line) {
  (void)line;
  ((crash_report *)report)->warnings += level == CKPT_LOG_WARNING;
}

static ckpt_status open_run(crash_run *r, ckpt_load_report *loaded, ckpt_error *err) {
  char policy[PATH_MAX], where[PATH_MAX];
  snprintf(where, sizeof where, "%.*s", (int)(strrchr(r->dir, '/') - r->dir), r->dir);
  ckpt_checkpointer_options o = {.dir = r->dir,
                                 .policy = policy_path(policy, where),
                                 .auto_resume = true,
                                 .log = count_warning,
                                 .log_user = r->report};
  r->cp = NULL;
  ckpt_status st = ckpt_checkpointer_open(&r->cp, &o, err);
  if (st == CKPT_OK) st = bind(r, err);
  return st == CKPT_OK ? ckpt_load(r->cp, loaded, err) : st;
}

static void close_run(crash_run *r) {
  ckpt_checkpointer_close(r->cp);
  r->cp = NULL;
}

static void broken(crash_report *report, const char *what, const char *name) {
  if (report->broken[0] == '\0') snprintf(report->broken, sizeof report->broken, "%s: %.100s", what, name);
}

/* A failure is noted once: the first is the one that the fault caused. */
static void note(crash_report *report, ckpt_status st, const ckpt_error *err) {
  if (st == CKPT_OK || report->failures++ > 0) return;
  report->status = st;
  report->sys = err->sys;
  snprintf(report->message, sizeof report->message, "%s", err->message);
}

static bool begin(crash_run *r) {
  ckpt_error err = {0};
  ckpt_load_report loaded;
  for (int tries = 0; tries < 2; tries++) {
    ckpt_status st = open_run(r, &loaded, &err);
    note(r->report, st, &err);
    if (st == CKPT_OK) return true;
    close_run(r);
  }
  return false;
}

/* ---- I6: what a failed save may not have done ---- */

enum { MAX_NAMES = 24 };

typedef struct picture { /* the visible files, and the bytes of each */
  char names[MAX_NAMES][64];
  char *bytes[MAX_NAMES];
  size_t sizes[MAX_NAMES];
  int n, leftovers;
  const char *dir;
} picture;

static void add_to_picture(void *arg, const char *name) {
  picture *p = arg;
  char path[PATH_MAX];
  if (strncmp(name, LEFTOVER, strlen(LEFTOVER)) == 0) p->leftovers++;
  if (name[0] == '.' || p->n == MAX_NAMES) return;
  snprintf(p->names[p->n], sizeof p->names[0], "%.60s", name);
  p->bytes[p->n] = get_file(&p->sizes[p->n], path_of(path, p->dir, name));
  p->n++;
}

static void take_picture(picture *p, const char *dir) {
  *p = (picture){.dir = dir};
  each_name(dir, add_to_picture, p);
}

static void free_picture(picture *p) {
  for (int i = 0; i < p->n; i++) free(p->bytes[i]);
}

static int find_in(const picture *p, const char *name) {
  for (int i = 0; i < p->n; i++)
    if (strcmp(p->names[i], name) == 0) return i;
  return -1;
}

/* The ledger may have grown where the line could not be taken back. */
static bool is_as_before(const picture *a, int i, const picture *b, int k) {
  bool ledger = strcmp(a->names[i], LEDGER) == 0;
  if (a->bytes[i] == NULL || b->bytes[k] == NULL) return a->bytes[i] == b->bytes[k];
  if (b->sizes[k] < a->sizes[i] || (!ledger && b->sizes[k] != a->sizes[i])) return false;
  return memcmp(a->bytes[i], b->bytes[k], a->sizes[i]) == 0;
}

static void compare_pictures(crash_report *report, const picture *before, const picture *after, const char *when) {
  char what[80];
  for (int i = 0; i < before->n; i++) {
    int k = find_in(after, before->names[i]);
    bool gone = k < 0;
    if (!gone && is_as_before(before, i, after, k)) continue;
    snprintf(what, sizeof what, "I6, %s failed but a file %s", when, gone ? "is gone" : "has changed");
    broken(report, what, before->names[i]);
  }
}

/* ---- saving ---- */

typedef ckpt_status save_function(crash_run *r, int64_t epoch, bool *improved, ckpt_error *err);

static ckpt_status plain(crash_run *r, int64_t epoch, bool *improved, ckpt_error *err) {
  *improved = false;
  return ckpt_save(r->cp, epoch, err);
}

static ckpt_status best(crash_run *r, int64_t epoch, bool *improved, ckpt_error *err) {
  return ckpt_save_best(r->cp, epoch, improved, err);
}

/* What has changed cannot go back without hard links, nor where no name can be moved any more. */
static bool can_go_back(const crash_run *r) {
  bool renames = atomic_load(&r->report->hit) != SYS_renameat || atomic_load(&r->report->from_there_on) == 0;
  return renames && r->has_links;
}

/* The fault is not put at what the saver does for itself. */
static ckpt_status watched(crash_run *r, save_function *save, int64_t epoch, bool *improved, ckpt_error *err) {
  picture before, after;
  crash_report *report = r->report;
  atomic_store(&report->watched, 0);
  take_picture(&before, r->dir);
  atomic_store(&report->watched, 1);
  ckpt_status st = save(r, epoch, improved, err);
  atomic_store(&report->watched, 0);
  take_picture(&after, r->dir);
  if (st != CKPT_OK && can_go_back(r))
    compare_pictures(report, &before, &after, save == best ? "ckpt_save_best" : "ckpt_save");
  if (st != CKPT_OK && after.leftovers > before.leftovers && atomic_load(&report->hit) != SYS_unlinkat)
    broken(report, "a temporary file stays after a failed save", "");
  free_picture(&before);
  free_picture(&after);
  atomic_store(&report->watched, 1);
  return st;
}

static void set_weights(crash_run *r, int64_t step, double acc) {
  r->step = step;
  r->acc = acc;
  for (int i = 0; i < n_weights; i++) r->weights[i] = (float)(step * 1000 + i % 1000);
}

static bool save_twice_at_most(crash_run *r, save_function *save, int64_t epoch, bool *improved) {
  ckpt_error err = {0};
  for (int tries = 0; tries < 2; tries++) {
    r->report->saves++;
    ckpt_status st = watched(r, save, epoch, improved, &err);
    note(r->report, st, &err);
    if (st == CKPT_OK) return true;
  }
  return false;
}

static void acknowledge(crash_run *r, bool improved) {
  r->report->acked = r->step;
  if (improved) r->report->acked_best = r->acc;
}

static bool save(crash_run *r, int64_t step, int64_t epoch, double acc) {
  bool improved = false;
  ckpt_error err = {0};
  set_weights(r, step, acc);
  ckpt_set_step(r->cp, step);
  ckpt_set_time(r->cp, 1000000 + step);
  note(r->report, ckpt_set_metric(r->cp, "acc", acc, &err), &err);
  if (!save_twice_at_most(r, plain, epoch, &improved)) return false;
  acknowledge(r, false);
  if (!save_twice_at_most(r, best, epoch, &improved)) return false;
  acknowledge(r, improved);
  return true;
}

/* ---- scenarios ---- */

/* How good each save before the scenario is; the best is the second, which then is old enough to be retired. */
static double acc_before(int step) { return step == 2 ? .6 : .4 + .01 * step; }

static void one_save(crash_run *r, int64_t epoch, double acc) {
  if (begin(r)) save(r, r->step + 1, epoch, acc);
  close_run(r);
}

static void first(crash_run *r) { one_save(r, 1, .5); }
static void worse(crash_run *r) { one_save(r, 6, .3); }
static void better(crash_run *r) { one_save(r, 6, .9); }
static void again(crash_run *r) { one_save(r, 5, .7); }

static void several(crash_run *r) {
  static const double acc[] = {.55, .65, .62, .7};
  bool ok = begin(r);
  for (int i = 0; ok && i < 4; i++) ok = save(r, r->step + 1, 6 + i, acc[i]);
  close_run(r);
}

/* Queued, then waited for: which of them failed cannot be told, so nothing is acknowledged if one did. */
static void queued(crash_run *r) {
  ckpt_error err = {0};
  bool improved = false;
  ckpt_status st = begin(r) ? CKPT_OK : CKPT_E_IO;
  double top = r->report->acked_best;
  for (int i = 0; st == CKPT_OK && i < 3; i++) {
    set_weights(r, r->step + 1, .65 - .01 * (i == 1));
    ckpt_set_step(r->cp, r->step);
    r->report->saves += 2;
    st = ckpt_set_metric(r->cp, "acc", r->acc, &err);
    if (st == CKPT_OK) st = ckpt_save_async(r->cp, 6 + i, &err);
    if (st == CKPT_OK) st = ckpt_save_best_async(r->cp, 6 + i, &improved, &err);
    if (st == CKPT_OK && improved) top = r->acc;
    if (st == CKPT_OK && i == 1) st = ckpt_wait(r->cp, &err);
    if (st == CKPT_OK && i == 1) r->report->acked = r->step, r->report->acked_best = top;
  }
  if (st == CKPT_OK) st = ckpt_wait(r->cp, &err);
  note(r->report, st, &err);
  if (st == CKPT_OK) r->report->acked = r->step, r->report->acked_best = top;
  close_run(r);
}

/* One after another; a second at the same time is refused. */
static void managers(crash_run *r) {
  crash_run second = *r;
  ckpt_error err = {0};
  ckpt_load_report loaded;
  for (int i = 0; i < 2; i++) {
    bool ok = begin(r);
    ckpt_status st = ok ? open_run(&second, &loaded, &err) : CKPT_E_BUSY;
    if (ok && st == CKPT_OK) broken(r->report, "a second manager was let in", "");
    if (ok && st != CKPT_E_BUSY) note(r->report, st, &err);
    close_run(&second);
    if (ok) save(r, r->step + 1, 6 + i, .61 + .01 * i);
    close_run(r);
  }
}

/* The best is told before the save: one file serves for both. */
static void best_first(crash_run *r) {
  ckpt_error err = {0};
  if (begin(r)) {
    bool improved;
    set_weights(r, r->step + 1, .9);
    ckpt_set_step(r->cp, r->step);
    ckpt_set_final(r->cp, true);
    note(r->report, ckpt_set_metric(r->cp, "acc", r->acc, &err), &err);
    if (save_twice_at_most(r, best, 6, &improved)) acknowledge(r, improved);
    if (save_twice_at_most(r, plain, 6, &improved)) acknowledge(r, false);
  }
  close_run(r);
}

/* ---- what else lies there ---- */

static void left_by_a_killed_one(const char *dir) {
  char path[PATH_MAX];
  put_file(dir, LEFTOVER "0123456789abcdef", "PK\3\4torn", 8);
  put_file(dir, LEFTOVER "fedcba9876543210", "", 0);
  if (link(path_of(path, dir, LATEST), path_of((char[PATH_MAX]){0}, dir, LEFTOVER "00000000000000ff")) != 0) abort();
  FILE *ledger = fopen(path_of(path, dir, LEDGER), "a");
  if (ledger == NULL || fputs("{\"event\":\"save\",\"epo", ledger) < 0 || fclose(ledger) != 0) abort();
}

/* As other programs make it. A best made so would dangle once its file is retired: the runtime makes no such names. */
static void alias_by_symlink(const char *dir) {
  char path[PATH_MAX];
  if (unlink(path_of(path, dir, LATEST)) != 0 || symlink("model_epoch5.pth", path) != 0) abort();
}

static void aliases_by_copy(const char *dir) {
  char path[PATH_MAX];
  const char *names[] = {LATEST, BEST};
  for (int i = 0; i < 2; i++) {
    size_t size = 0;
    char *data = get_file(&size, path_of(path, dir, names[i]));
    if (data == NULL || unlink(path) != 0 || !put_file(dir, names[i], data, size)) abort();
    free(data);
  }
}

/* ---- savers with a bug ---- */

/* Half of it, the rest, all checked but where the bug is not to. */
static bool write_halves(int fd, const char *data, size_t size) {
  size_t half = size / 2;
  return write(fd, data, half) == (ssize_t)half && write(fd, data + half, size - half) == (ssize_t)(size - half);
}

static bool control_in_place(crash_run *r, const char *data, size_t size) {
  char path[PATH_MAX];
  int fd = open(path_of(path, r->dir, LATEST), O_WRONLY | O_TRUNC | O_CLOEXEC);
  if (fd < 0) return false;
  bool ok = write_halves(fd, data, size) && fsync(fd) == 0;
  return close(fd) == 0 && ok;
}

static bool control_rename(crash_run *r, const char *data, size_t size) {
  char path[PATH_MAX], temp[PATH_MAX];
  int fd = open(path_of(temp, r->dir, LEFTOVER "c0"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0 && r->bug != DEAF) return false;
  bool ok = write_halves(fd, data, size);
  if (r->bug == UNLINK_FIRST) unlink(path_of(path, r->dir, LATEST));
  if (ok || r->bug == DEAF) ok = rename(temp, path_of(path, r->dir, LATEST)) == 0;
  if (ok || r->bug == DEAF) ok = fsync(fd) == 0;
  if (ok || r->bug != LEAKY) close(fd);
  if (!ok && r->bug != DEAF) unlink(temp);
  if (!ok && r->bug == FORGETFUL) *(volatile char *)malloc(77) = 1;
  return ok || r->bug == DEAF;
}

static ckpt_status control_save(crash_run *r, int64_t epoch, bool *improved, ckpt_error *err) {
  (void)epoch;
  *improved = false;
  bool ok = r->bug == IN_PLACE ? control_in_place(r, r->data, r->size) : control_rename(r, r->data, r->size);
  if (ok) return CKPT_OK;
  snprintf(err->message, sizeof err->message, "the save failed");
  return err->status = CKPT_E_IO;
}

static void control(crash_run *r) {
  bool improved;
  r->report->no_ledger = true;
  set_weights(r, 6, .3);
  if (save_twice_at_most(r, control_save, 6, &improved)) acknowledge(r, false);
}

static ckpt_status whole_file(crash_run *r, int64_t epoch, bool *improved, ckpt_error *err) {
  char path[PATH_MAX];
  ckpt_document *doc = NULL;
  ckpt_value *root = NULL, *info = NULL;
  (void)epoch;
  *improved = false;
  ckpt_status st = ckpt_document_new(&doc, err);
  if (st == CKPT_OK) st = ckpt_value_new_dict(&root, doc, false, err);
  if (st == CKPT_OK) st = ckpt_value_new_int(&info, doc, 6, err);
  if (st == CKPT_OK) st = ckpt_value_set(root, doc, "step", info, err);
  if (st == CKPT_OK) st = ckpt_save_file(path_of(path, r->dir, "average.pth"), root, err);
  ckpt_document_release(doc);
  return st;
}

/* A file of its own, over one that is there. */
static void single(crash_run *r) {
  bool improved;
  save_twice_at_most(r, whole_file, 6, &improved);
}

static void an_older_file(const char *dir) {
  char path[PATH_MAX];
  size_t size = 0;
  char *data = get_file(&size, path_of(path, dir, LATEST));
  if (data == NULL || !put_file(dir, "average.pth", data, size)) abort();
  free(data);
}

const scenario crash_scenarios[] = {
    {.name = "first", .run = first},
    {.name = "retention", .policy = POLICY KEEP, .before = 5, .run = worse},
    {.name = "better", .policy = POLICY KEEP, .before = 5, .run = better},
    {.name = "again", .before = 5, .run = again},
    {.name = "recovery", .before = 5, .leave = left_by_a_killed_one, .run = worse},
    {.name = "several", .policy = POLICY KEEP, .before = 5, .run = several},
    {.name = "async", .policy = POLICY KEEP, .before = 5, .run = queued, .threads = true},
    {.name = "recycled", .policy = POLICY "policy.recycle = true\n" KEEP, .before = 5, .run = several},
    {.name = "managers", .before = 5, .run = managers},
    {.name = "copies", .policy = POLICY KEEP, .before = 5, .lacks = NO_LINKS, .leave = aliases_by_copy, .run = better},
    {.name = "symlinks", .before = 5, .leave = alias_by_symlink, .run = better},
    {.name = "named", .policy = POLICY KEEP, .before = 5, .lacks = NO_UNNAMED, .run = several},
    {.name = "best-first", .before = 5, .run = best_first},
    {.name = "single", .before = 5, .leave = an_older_file, .run = single},
    {.name = NULL},
};

const scenario crash_controls[] = {
    {.name = "in-place", .before = 5, .run = control, .bug = IN_PLACE},
    {.name = "unlink-first", .before = 5, .run = control, .bug = UNLINK_FIRST},
    {.name = "rename-first", .before = 5, .run = control, .bug = RENAME_FIRST},
    {.name = "deaf", .before = 5, .run = control, .bug = DEAF},
    {.name = "leaky", .before = 5, .run = control, .bug = LEAKY},
    {.name = "forgetful", .before = 5, .run = control, .bug = FORGETFUL},
    {.name = NULL},
};

const scenario *crash_find(const char *name) {
  for (const scenario *s = crash_scenarios; s->name != NULL; s++)
    if (strcmp(s->name, name) == 0) return s;
  for (const scenario *s = crash_controls; s->name != NULL; s++)
    if (strcmp(s->name, name) == 0) return s;
  return NULL;
}

/* ---- the three acts ---- */

static crash_run *new_run(const scenario *s, const char *where, crash_report *report) {
  crash_run *r = calloc(1, sizeof *r);
  char path[PATH_MAX];
  if (r == NULL || (r->weights = calloc((size_t)n_weights, sizeof *r->weights)) == NULL) abort();
  r->dir = strdup(path_of(path, where, "run"));
  if (s->bug != NO_BUG) r->data = get_file(&r->size, path_of(path, where, "control.pth"));
  r->report = report;
  r->bug = s->bug;
  r->has_links = (s->lacks & NO_LINKS) == 0;
  return r;
}

static void free_run(crash_run *r) {
  free((void *)(uintptr_t)r->dir);
  free(r->data);
  free(r->weights);
  free(r);
}

/* What a saver with a bug writes: step 6, as a file beside the run. */
static bool make_control_file(const scenario *s, crash_run *r, const char *where) {
  char from[PATH_MAX];
  size_t size = 0;
  if (s->bug == NO_BUG) return true;
  crash_run other = *r;
  other.dir = path_of((char[PATH_MAX]){0}, where, "other");
  bool ok = begin(&other) && save(&other, 6, 6, .3);
  close_run(&other);
  char *data = get_file(&size, path_of(from, other.dir, "model_epoch6.pth"));
  ok = ok && data != NULL && put_file(where, "control.pth", data, size);
  free(data);
  remove_tree(other.dir);
  return ok;
}

bool crash_prepare(const scenario *s, const char *where, crash_report *report) {
  crash_run *r = new_run(s, where, report);
  *report = (crash_report){.acked_best = -1, .hit = -1};
  bool ok = s->policy == NULL || put_file(where, "policy.lua", s->policy, strlen(s->policy));
  if (ok) ok = make_control_file(s, r, where);
  *report = (crash_report){.acked_best = -1, .hit = -1};
  if (ok && s->before > 0) ok = begin(r);
  for (int i = 1; ok && i <= s->before; i++) ok = save(r, i, i, acc_before(i));
  close_run(r);
  if (ok && s->leave != NULL) s->leave(r->dir);
  if (!ok) printf("# %s: it cannot be prepared: %s%s\n", s->name, report->message, report->broken);
  free_run(r);
  report->saves = 0;
  atomic_store(&report->watched, 0);
  return ok;
}

void crash_play(const scenario *s, const char *where, crash_report *report) {
  crash_run *r = new_run(s, where, report);
  int before = count_names("/proc/self/fd", "");
  atomic_store(&report->watched, 1);
  s->run(r);
  atomic_store(&report->watched, 0);
  int after = count_names("/proc/self/fd", "");
  if (after != before && atomic_load(&report->hit) != SYS_close) { /* a close that we answered did nothing */
    char what[60];
    snprintf(what, sizeof what, "%d descriptors before, %d after", before, after);
    broken(report, what, "");
  }
  free_run(r);
  report->finished = true;
}

bool crash_resume(const scenario *s, const char *where, int64_t *resumed, ckpt_error *err) {
  crash_report report = {.acked_best = -1, .hit = -1};
  crash_run *r = new_run(s, where, &report);
  ckpt_load_report loaded = {0};
  ckpt_status st = open_run(r, &loaded, err);
  *resumed = loaded.mode == CKPT_RESUMED ? r->step : 0;
  bool ok = st == CKPT_OK && save(r, *resumed + 1, ckpt_next_epoch(r->cp), .1);
  if (st == CKPT_OK && !ok) snprintf(err->message, sizeof err->message, "%s", report.message);
  close_run(r);
  free_run(r);
  return ok;
}
