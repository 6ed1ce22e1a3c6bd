/*
 * readers.c - a reader opens model_latest.pth and model_best.pth in a loop while they move and what they named is
 * removed: each time it must get a whole checkpoint, its checksums right, its values those of its save, and never an
 * older one than before. Now and then it keeps what it opened: the values must stay, whatever becomes of the file.
 */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "race.h"

enum { HOLD_EVERY = 50, HOLD_FOR = 25, READERS_NICE = 5 };

typedef struct reader {
  const race *race;
  ckpt_checkpoint *held;
  int64_t held_save, seen[2]; /* of latest, of best */
} reader;

static bool has_values(const ckpt_checkpoint *cp, int64_t save) {
  const void *data = NULL;
  const ckpt_value *w = ckpt_value_at(ckpt_checkpoint_root(cp), "model.w");
  if (w == NULL || ckpt_tensor_data(&data, ckpt_value_tensor(w), NULL) != CKPT_OK) return false;
  const float *f = data;
  for (int i = 0; i < RACE_WEIGHTS; i++)
    if (f[i] != run_weight(save, i)) return false; /* exact: whole numbers */
  return true;
}

static bool saved(int64_t *save, const ckpt_checkpoint *cp) {
  const ckpt_value *v = ckpt_value_at(ckpt_checkpoint_root(cp), "meta.save");
  return v != NULL && ckpt_value_int(save, v, NULL) == CKPT_OK;
}

static void check_order(reader *r, int best, int64_t save) {
  bool back = best ? run_accuracy(save) < run_accuracy(r->seen[1]) : save < r->seen[0];
  if (r->seen[best] >= 0 && back)
    race_fault(r->race->sum, "%s went back from save %" PRId64 " to %" PRId64, best ? "the best" : "the latest",
               r->seen[best], save);
  r->seen[best] = save;
}

static void let_go(reader *r) {
  if (r->held == NULL) return;
  if (!has_values(r->held, r->held_save))
    race_fault(r->race->sum, "the values of save %" PRId64 ", which was open, have changed", r->held_save);
  ckpt_checkpoint_close(r->held);
  r->held = NULL;
  r->race->sum->held++;
}

static void look(reader *r, const char *path, int best, long turn) {
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  int64_t save = -1;
  const ckpt_open_options options = {.verify = true};
  if (ckpt_checkpoint_open(&cp, path, &options, &err) != CKPT_OK) {
    race_fault(r->race->sum, "not opened: %s", err.message);
    return;
  }
  if (!saved(&save, cp) || !has_values(cp, save))
    race_fault(r->race->sum, "%s: the values are not those of save %" PRId64, path, save);
  check_order(r, best, save);
  if (turn % HOLD_EVERY == HOLD_FOR) let_go(r);
  if (turn % HOLD_EVERY == 0 && r->held == NULL)
    r->held = cp, r->held_save = save;
  else
    ckpt_checkpoint_close(cp);
}

void readers_work(const race *r, const char *dir, int number) {
  char path[2][4096];
  reader me = {.race = r, .seen = {-1, -1}};
  if (nice(READERS_NICE) == -1) perror("nice"); /* or the writer hardly gets to save on a machine of two cores */
  snprintf(path[0], sizeof path[0], "%s/model_latest.pth", dir);
  snprintf(path[1], sizeof path[1], "%s/model_best.pth", dir);
  while (!r->sum->ready && !r->sum->stop) usleep(500);
  for (long turn = number; !r->sum->stop; turn++) {
    int best = turn % 4 == 3;
    look(&me, path[best], best, turn);
    r->sum->opens++;
  }
  let_go(&me);
}
