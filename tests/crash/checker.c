/* checker.c - what a killed or failing saver left: I1 to I5. */
#include <sys/stat.h>

#include "crash.h"

/* ---- one file ---- */

static const ckpt_value *at(const ckpt_checkpoint *cp, const char *path) {
  return ckpt_value_at(ckpt_checkpoint_root(cp), path);
}

/* Every weight follows from the step. */
static bool weights_fit(const ckpt_checkpoint *cp, int64_t step) {
  const ckpt_value *v = at(cp, "model.w");
  const void *data = NULL;
  const ckpt_tensor *t = v == NULL ? NULL : ckpt_value_tensor(v);
  if (t == NULL || ckpt_tensor_data(&data, t, NULL) != CKPT_OK) return false;
  const float *w = data;
  for (int64_t i = 0; i < ckpt_tensor_numel(t); i++)
    if (w[i] != (float)(step * 1000 + i % 1000)) return false;
  return ckpt_tensor_numel(t) > 0;
}

int64_t crash_step_of(double *acc, const char *dir, const char *name) {
  static const ckpt_open_options options = {.verify = true};
  char path[PATH_MAX];
  ckpt_checkpoint *cp = NULL;
  int64_t step = 0;
  if (ckpt_checkpoint_open(&cp, path_of(path, dir, name), &options, NULL) != CKPT_OK) return 0;
  const ckpt_value *s = at(cp, "info.step"), *a = at(cp, "info.acc");
  bool ok = s != NULL && a != NULL && ckpt_value_int(&step, s, NULL) == CKPT_OK &&
            ckpt_value_double(acc, a, NULL) == CKPT_OK && weights_fit(cp, step);
  ckpt_checkpoint_close(cp);
  return ok ? step : 0;
}

/* ---- the directory ---- */

typedef struct look {
  const char *dir;
  char *out;
  int64_t newest;
  int files; /* checkpoints with names of their own */
  bool recovered;
} look;

static void broken(look *l, const char *format, const char *name) {
  char text[256];
  snprintf(text, sizeof text, "%.60s: %.100s", format, name);
  if (l->out[0] == '\0') memcpy(l->out, text, sizeof text);
}

static bool is_checkpoint(const char *name) {
  size_t n = strlen(name);
  return name[0] != '.' && n > 4 && strcmp(name + n - 4, ".pth") == 0;
}

static bool is_known(const char *name) {
  return strcmp(name, LEDGER) == 0 || strcmp(name, ".ckpt.lock") == 0 || is_checkpoint(name);
}

static void look_at(void *arg, const char *name) {
  look *l = arg;
  double acc;
  if (l->recovered && !is_known(name)) broken(l, "I5, this stays after the recovery", name);
  if (!is_checkpoint(name) || strcmp(name, "average.pth") == 0) return;
  int64_t step = crash_step_of(&acc, l->dir, name);
  if (step == 0) broken(l, "a checkpoint is torn", name);
  if (step > l->newest) l->newest = step;
  l->files += strncmp(name, "model_epoch", 11) == 0;
}

/* A file that was there before and is written anew: the old one or the new one. */
static void check_single(look *l) {
  char path[PATH_MAX];
  struct stat st;
  ckpt_checkpoint *cp = NULL;
  static const ckpt_open_options options = {.verify = true};
  if (stat(path_of(path, l->dir, "average.pth"), &st) != 0) return;
  if (ckpt_checkpoint_open(&cp, path, &options, NULL) != CKPT_OK) broken(l, "a checkpoint is torn", "average.pth");
  ckpt_checkpoint_close(cp);
}

static void check_aliases(look *l, const crash_report *report) {
  double acc = -1, best = -1;
  int64_t latest = crash_step_of(&acc, l->dir, LATEST);
  if (report->acked > 0 && latest == 0) broken(l, "I3, the alias is absent or torn", LATEST);
  if (report->acked > 0 && latest < report->acked) broken(l, "I3, the alias is older than acknowledged", LATEST);
  if (report->acked_best < 0) return;
  if (crash_step_of(&best, l->dir, BEST) == 0) broken(l, "I3, the alias is absent or torn", BEST);
  if (best < report->acked_best) broken(l, "I4, the best is worse than acknowledged", BEST);
}

/* Every acknowledged save has its line. */
static void check_ledger(look *l, const crash_report *report) {
  char path[PATH_MAX], line[40];
  size_t size = 0;
  if (report->acked == 0 || report->no_ledger) return;
  char *text = get_file(&size, path_of(path, l->dir, LEDGER));
  snprintf(line, sizeof line, "\"step\":%lld,", (long long)report->acked);
  if (text == NULL || strstr(text, line) == NULL) broken(l, "the ledger lacks an acknowledged save", line);
  free(text);
}

static void check(look *l, const crash_report *report) {
  each_name(l->dir, look_at, l);
  if (report->acked > 0 && l->newest == 0) broken(l, "I1, there is no valid checkpoint", "");
  if (l->newest < report->acked) broken(l, "I2, an acknowledged save is lost", "");
  check_aliases(l, report);
  check_single(l);
}

bool crash_broken(char out[256], const char *where, const crash_report *report) {
  char dir[PATH_MAX];
  look l = {.dir = path_of(dir, where, "run"), .out = out};
  out[0] = '\0';
  check(&l, report);
  check_ledger(&l, report);
  return out[0] != '\0';
}

/* ---- recovery ---- */

enum { MOST_FILES = 5 }; /* the three or two last and a best; one that the run did not end to save */

bool crash_broken_after_recovery(char out[256], const scenario *s, const char *where, const crash_report *report) {
  char dir[PATH_MAX];
  ckpt_error err = {0};
  int64_t resumed = 0;
  crash_report after = *report;
  look l = {.dir = path_of(dir, where, "run"), .out = out, .recovered = true};
  out[0] = '\0';
  if (!crash_resume(s, where, &resumed, &err)) broken(&l, "the recovery fails", err.message);
  if (resumed < report->acked) broken(&l, "I2, the run resumes from before an acknowledged save", "");
  after.acked = resumed + 1;
  check(&l, &after);
  check_ledger(&l, &after);
  if (l.files > MOST_FILES) broken(&l, "I5, checkpoints stay that nothing keeps", "");
  return out[0] != '\0';
}
