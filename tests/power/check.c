/* check.c - see check.h. */
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define LATEST "model_latest.pth"
#define BEST "model_best.pth"
enum { MAX_INODES = 64 };

static bool wrong(char why[WHY_BYTES], const char *format, ...) CKPT_PRINTF(2, 3);
static bool wrong(char why[WHY_BYTES], const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(why, WHY_BYTES, format, args);
  va_end(args);
  return false;
}

/* ---- one checkpoint ---- */

static bool has_weights_of(char why[WHY_BYTES], const ckpt_value *root, const char *name, const scenario *s,
                           int64_t save) {
  const void *data = NULL;
  const ckpt_value *w = ckpt_value_at(root, "model.w");
  ckpt_tensor *t = w == NULL ? NULL : ckpt_value_tensor(w);
  if (t == NULL || ckpt_tensor_numel(t) != s->weights || ckpt_tensor_data(&data, t, NULL) != CKPT_OK)
    return wrong(why, "%s holds no model.w of %" PRId32 " floats", name, s->weights);
  const float *f = data;
  for (int32_t i = 0; i < s->weights; i++)
    if (f[i] != scenario_weight(save, i)) /* exact: whole numbers */
      return wrong(why, "%s: model.w[%" PRId32 "] of save %" PRId64 " is %g", name, i, save, (double)f[i]);
  return true;
}

/* The save that the file holds, with every byte of it verified. */
static bool read_save(char why[WHY_BYTES], int64_t *save, const char *path, const scenario *s) {
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  const ckpt_open_options options = {.verify = true};
  if (ckpt_checkpoint_open(&cp, path, &options, &err) != CKPT_OK) return wrong(why, "torn or absent: %s", err.message);
  const ckpt_value *root = ckpt_checkpoint_root(cp), *number = ckpt_value_at(root, "meta.save");
  bool ok = (number != NULL && ckpt_value_int(save, number, NULL) == CKPT_OK) ||
            wrong(why, "%s says nothing of its save", path);
  ok = ok && has_weights_of(why, root, path, s, *save);
  ckpt_checkpoint_close(cp);
  return ok;
}

/* ---- the directory as it was left ---- */

static bool is_checkpoint(const char *name) {
  size_t n = strlen(name);
  return name[0] != '.' && n > 4 && strcmp(name + n - 4, ".pth") == 0;
}

static bool read_all(char why[WHY_BYTES], int64_t *newest, const checked *c, DIR *d) {
  char path[4096];
  for (const struct dirent *e; (e = readdir(d)) != NULL;) {
    int64_t save = SCENARIO_NONE;
    if (!is_checkpoint(e->d_name)) continue;
    snprintf(path, sizeof path, "%s/%s", c->dir, e->d_name);
    if (!read_save(why, &save, path, c->scenario)) return false;
    if (save > *newest) *newest = save;
  }
  return true;
}

static bool check_files(char why[WHY_BYTES], const checked *c, const ack *a) {
  int64_t newest = SCENARIO_NONE;
  DIR *d = opendir(c->dir);
  if (d == NULL) return a->save < 0 || wrong(why, "the directory is lost");
  bool ok = read_all(why, &newest, c, d);
  closedir(d);
  if (ok && newest < a->save) return wrong(why, "lost: save %d was acknowledged, %" PRId64 " is left", a->save, newest);
  return ok;
}

static bool check_aliases(char why[WHY_BYTES], const checked *c, const ack *a) {
  char path[4096];
  int64_t save = SCENARIO_NONE;
  snprintf(path, sizeof path, "%s/" LATEST, c->dir);
  if (a->save >= 0 && !read_save(why, &save, path, c->scenario)) return false;
  if (save < a->save) return wrong(why, "lost: " LATEST " is of save %" PRId64 ", not %d", save, a->save);
  snprintf(path, sizeof path, "%s/" BEST, c->dir);
  if (a->best < 0) return true;
  if (!read_save(why, &save, path, c->scenario)) return false;
  return scenario_accuracy(save) >= scenario_accuracy(a->best) ||
         wrong(why, "lost: " BEST " is of save %" PRId64 ", worse than %d", save, a->best);
}

static bool check_ledger(char why[WHY_BYTES], const checked *c, const ack *a) {
  char path[4096];
  snprintf(path, sizeof path, "%s/ckpt.jsonl", c->dir);
  return a->ledger_bytes == 0 || hash_file(path, a->ledger_bytes) == a->ledger_hash ||
         wrong(why, "lost: a line of the ledger that was acknowledged");
}

bool check_left(char why[WHY_BYTES], const checked *c, const ack *a) {
  return check_files(why, c, a) && check_aliases(why, c, a) && check_ledger(why, c, a);
}

/* ---- recovery ---- */

static bool resume(char why[WHY_BYTES], ckpt_checkpointer *cp, const run_state *state, const ack *a) {
  ckpt_load_report report;
  ckpt_error err = {0};
  if (ckpt_load(cp, &report, &err) != CKPT_OK) return wrong(why, "it does not resume: %s", err.message);
  if (a->save >= 0 && (report.mode != CKPT_RESUMED || state->save < a->save))
    return wrong(why, "lost: it resumes from save %" PRId64 ", %d was acknowledged", state->save, a->save);
  return true;
}

static bool save_again(char why[WHY_BYTES], ckpt_checkpointer *cp, run_state *state, const checked *c) {
  ckpt_error err = {0};
  int64_t epoch = ckpt_next_epoch(cp);
  ckpt_status st = scenario_fill(cp, state, c->scenario, SCENARIO_AGAIN, &err);
  if (!st) st = ckpt_save(cp, epoch, &err);
  if (!st) st = ckpt_save_best(cp, epoch, NULL, &err);
  return st == CKPT_OK || wrong(why, "it does not save again: %s", err.message);
}

typedef struct inodes {
  ino_t seen[MAX_INODES];
  size_t n;
  uint64_t bytes;
} inodes;

static void count_inode(inodes *all, const struct stat *st) {
  for (size_t i = 0; i < all->n; i++)
    if (all->seen[i] == st->st_ino) return;
  if (all->n < MAX_INODES) all->seen[all->n++] = st->st_ino;
  all->bytes += (uint64_t)st->st_blocks * 512;
}

uint64_t blocks_in_use(const char *path) {
  struct statvfs v;
  return statvfs(path, &v) == 0 ? v.f_blocks - v.f_bfree : 0;
}

/* Space that was reserved or written and belongs to nothing that has a name would be lost. */
static bool check_space(char why[WHY_BYTES], const checked *c, const inodes *all) {
  struct statvfs v;
  if (c->empty_blocks == UINT64_MAX || statvfs(c->dir, &v) != 0) return true;
  uint64_t used = (blocks_in_use(c->dir) - c->empty_blocks) * v.f_frsize;
  return used == all->bytes || wrong(why, "%" PRIu64 " bytes are in use for files of %" PRIu64, used, all->bytes);
}

static bool is_clean(char why[WHY_BYTES], const checked *c, DIR *d) {
  inodes all = {.n = 0};
  syncfs(dirfd(d)); /* blocks are given out late */
  for (const struct dirent *e; (e = readdir(d)) != NULL;) {
    struct stat st;
    if (strncmp(e->d_name, ".tmp-ckpt-", 10) == 0) return wrong(why, "a temporary file stays: %s", e->d_name);
    if (strstr(e->d_name, ".corrupt") != NULL) return wrong(why, "a whole checkpoint is set aside: %s", e->d_name);
    if (strcmp(e->d_name, "..") != 0 && fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
      count_inode(&all, &st);
  }
  return check_space(why, c, &all);
}

bool check_recovery(char why[WHY_BYTES], const checked *c, const ack *a) {
  ckpt_checkpointer *cp = NULL;
  ckpt_error err = {0};
  run_state state;
  bool ok = scenario_open(&cp, &state, c->scenario, c->policies, c->dir, "none", &err) == CKPT_OK ||
            wrong(why, "it does not open: %s", err.message);
  ok = ok && resume(why, cp, &state, a) && save_again(why, cp, &state, c);
  ckpt_checkpointer_close(cp);
  free(state.w);
  DIR *d = ok ? opendir(c->dir) : NULL;
  if (d == NULL) return ok && wrong(why, "the directory is lost");
  const ack again = {.save = SCENARIO_AGAIN, .best = SCENARIO_AGAIN};
  ok = is_clean(why, c, d) && check_left(why, c, &again);
  closedir(d);
  return ok;
}
