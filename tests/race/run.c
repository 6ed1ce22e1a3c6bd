/* run.c - a writer's checkpointer, and what its saves hold. See race.h. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "race.h"
#include "run.h"

void race_fault(shared *sum, const char *format, ...) {
  va_list args;
  if (sum->faults++ > 0) return;
  va_start(args, format);
  vsnprintf(sum->fault, sizeof sum->fault, format, args);
  va_end(args);
}

float run_weight(int64_t save, int i) { return (float)(save % 1000 * 10000 + i); }

/* Rises in the long run; about one save in three is a new best. */
double run_accuracy(int64_t save) { return (double)save / 4 + (double)(save * 7 % 5); }

/* ---- a file system without hard links: aliases are copies, new files have temporary names ---- */

static int no_link(void *ctx, int dir, const char *name, const char *other) {
  (void)ctx, (void)dir, (void)name, (void)other;
  errno = EPERM;
  return -1;
}

static int no_link_fd(void *ctx, int fd, int dir, const char *name) {
  (void)ctx, (void)fd, (void)dir, (void)name;
  errno = EPERM;
  return -1;
}

/* ---- writers with a bug, which the readers must see ---- */

static int unlink_first(void *ctx, int dir, const char *from, const char *to) {
  ckpt_io_posix()->unlinkat(ctx, dir, to);
  usleep(500); /* as if the processor were another's just then */
  return ckpt_io_posix()->renameat(ctx, dir, from, to);
}

static int take_any(void *ctx, int fd) {
  (void)ctx, (void)fd;
  return 0;
}

/* ---- a run ---- */

static void choose_calls(ckpt_io *io, const run_kind *kind) {
  *io = *ckpt_io_posix();
  if (kind->copies) io->linkat = no_link, io->link_fd = no_link_fd;
  if (kind->bug == RUN_UNLINKS_FIRST) io->renameat = unlink_first;
  if (kind->bug == RUN_TAKES_ANY) io->lease = take_any;
}

static ckpt_status bind(run *r, ckpt_error *err) {
  ckpt_status st = ckpt_bind_tensor(r->cp, "model", "w", CKPT_F32, r->w, 1, (int64_t[]){RACE_WEIGHTS}, err);
  return st ? st : ckpt_bind_int(r->cp, "meta", "save", &r->save, err);
}

run *run_open(const char *dir, const run_kind *kind, ckpt_error *err) {
  ckpt_checkpointer_options options = {.dir = dir, .policy = kind->policy};
  run *r = calloc(1, sizeof *r);
  if (r == NULL) abort();
  choose_calls(&r->io, kind);
  r->async = kind->async;
  ckpt_status st = ckpt_checkpointer_open_io(&r->cp, &options, &r->io, err);
  if (!st) st = bind(r, err);
  if (!st) return r;
  run_close(r);
  return NULL;
}

void run_close(run *r) {
  ckpt_checkpointer_close(r->cp);
  free(r);
}

static ckpt_status save_async(run *r, int64_t epoch) {
  ckpt_status st = ckpt_save_async(r->cp, epoch, &r->err);
  if (!st) st = ckpt_save_best_async(r->cp, epoch, NULL, &r->err);
  return st || epoch % 3 != 0 ? st : ckpt_wait(r->cp, &r->err);
}

ckpt_status run_save(run *r, int64_t save) {
  for (int i = 0; i < RACE_WEIGHTS; i++) r->w[i] = run_weight(save, i);
  r->save = save;
  ckpt_set_step(r->cp, save);
  ckpt_status st = ckpt_set_metric(r->cp, "acc", run_accuracy(save), &r->err);
  if (!st && r->async) return save_async(r, save + 1);
  if (!st) st = ckpt_save(r->cp, save + 1, &r->err);
  return st ? st : ckpt_save_best(r->cp, save + 1, NULL, &r->err);
}
