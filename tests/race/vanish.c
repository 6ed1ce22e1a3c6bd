/*
 * vanish.c - the directory of a run is moved away or removed while it saves. What was opened is the directory, not its
 * name: moved, the saves go on there, and a new directory under the old name gets nothing of them; removed, each save
 * is an error with a sentence, for there is nothing to save into. In no case does anything crash, or claim a save that
 * is nowhere.
 */
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "race.h"

enum { SAVES_AFTER = 3, MOST_SAVES = 5000 };

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) {
  (void)st, (void)kind, (void)at;
  remove(path); /* the writer may have put something new there: the next walk takes it */
  return 0;
}

void remove_all(const char *dir) {
  while (access(dir, F_OK) == 0) nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

typedef struct remover {
  const char *dir, *moved; /* moved NULL: it is removed */
  unsigned delay_us;
  _Atomic int done;
} remover;

static void *make_vanish(void *arg) {
  remover *r = arg;
  usleep(r->delay_us);
  if (r->moved == NULL)
    remove_all(r->dir);
  else if (rename(r->dir, r->moved) != 0)
    abort();
  r->done = 1;
  return NULL;
}

/* What the last save that was acknowledged left under the alias. */
static bool holds_save(const race *r, const char *dir, int64_t save) {
  char path[4096];
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  int64_t found = -1;
  const ckpt_open_options options = {.verify = true};
  snprintf(path, sizeof path, "%s/model_latest.pth", dir);
  if (ckpt_checkpoint_open(&cp, path, &options, &err) != CKPT_OK) {
    race_fault(r->sum, "after a move: %s", err.message);
    return false;
  }
  ckpt_value_int(&found, ckpt_value_at(ckpt_checkpoint_root(cp), "meta.save"), NULL);
  ckpt_checkpoint_close(cp);
  if (found != save) race_fault(r->sum, "after a move: save %d is there, not %d", (int)found, (int)save);
  return found == save;
}

static bool is_told(const race *r, const run *writer) {
  bool told = writer->err.message[0] != '\0' && strstr(writer->err.message, "vanish") != NULL;
  if (!told) race_fault(r->sum, "a removed directory is no sentence: '%s'", writer->err.message);
  return told;
}

/* Saves until the directory is gone, and some more; *last: the last one that was acknowledged, *errors of the later. */
static bool save_on(const race *r, run *writer, remover *mover, int64_t *last, int *errors) {
  int after = 0;
  for (int64_t save = 0; after < SAVES_AFTER && save < MOST_SAVES; save++) {
    bool gone = mover->done;
    if (run_save(writer, save) == CKPT_OK)
      *last = save;
    else if (!is_told(r, writer))
      return false;
    else
      *errors += gone;
    after += gone;
  }
  return after == SAVES_AFTER;
}

bool vanish_once(const race *r, const char *dir, unsigned delay_us, bool moves) {
  static const run_kind kind = {.name = "vanishing", .policy = NULL};
  char moved[4000];
  pthread_t thread;
  int64_t last = -1;
  int errors = 0;
  ckpt_error err = {0};
  snprintf(moved, sizeof moved, "%s-moved", dir);
  remover mover = {.dir = dir, .moved = moves ? moved : NULL, .delay_us = delay_us};
  run *writer = run_open(dir, &kind, &err);
  if (writer == NULL || pthread_create(&thread, NULL, make_vanish, &mover) != 0) abort();
  bool ok = save_on(r, writer, &mover, &last, &errors);
  pthread_join(thread, NULL);
  run_close(writer);
  if (moves) ok = ok && errors == 0 && holds_save(r, moved, last) && access(dir, F_OK) != 0;
  if (!moves) ok = ok && errors == SAVES_AFTER && access(dir, F_OK) != 0;
  remove_all(moved);
  return ok;
}
