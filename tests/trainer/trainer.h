/*
 * trainer.h - all that evolves in a run, and how it evolves.
 *
 * A run is a function of its seed: everything that an epoch reads is in this struct, and checkpoints.c binds all of it
 * but `gradient`, which is zero between steps. So a run that resumes at the start of an epoch has the bits of one that
 * was never stopped.
 */
#ifndef TRAINER_TRAINER_H
#define TRAINER_TRAINER_H

#include "data.h"
#include "net.h"
#include "rng.h"
#include "sgd.h"

enum { TRAIN_BATCH = 32 };

typedef struct trainer {
  net weights, gradient;
  sgd optimizer;
  rng shuffle;
  int64_t iteration; /* finished epochs */
  int64_t step;      /* finished optimizer steps */
  int64_t cur_epoch, best_epoch;
  double cur_acc, best_acc; /* fractions of the test digits */
  double loss;              /* mean cross entropy of the test digits */
} trainer;

void trainer_init(trainer *t, uint64_t seed);

/* One pass over shuffled training rows; `on_step` is called with the number of each finished step. */
void trainer_run_epoch(trainer *t, const data_split *train, void (*on_step)(int64_t step));

/* Sets cur_acc and loss. */
void trainer_evaluate(trainer *t, const data_split *test);

/* Notes the finished epoch as the best one. */
void trainer_set_best(trainer *t);

/*
 * Writes what a resumed run must have in common with an uninterrupted one, little-endian, without any header:
 * weights and momentum (float32, in the order of net_params), lr (float64), iteration (int64), shuffle (32 bytes).
 */
bool trainer_dump(const trainer *t, const char *path);

#endif
