/* trainer.c - epochs of minibatch SGD over the digits. */
#include "trainer.h"

#include <stdio.h>
#include <string.h>

void trainer_init(trainer *t, uint64_t seed) {
  memset(t, 0, sizeof *t);
  rng_seed(&t->shuffle, seed);
  net_init(&t->weights, &t->shuffle);
  sgd_init(&t->optimizer, 0.05);
}

/* One step on the rows that order[0..n) names. */
static void run_batch(trainer *t, const data_split *train, const uint32_t *order, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    net_backward(&t->gradient, &t->weights, train->x[order[i]], train->y[order[i]], 1 / (float)n);
  sgd_step(&t->optimizer, &t->weights, &t->gradient);
  t->step++;
}

void trainer_run_epoch(trainer *t, const data_split *train, void (*on_step)(int64_t step)) {
  uint32_t order[DATA_MAX_ROWS];
  rng_permutation(&t->shuffle, order, train->n);
  for (uint32_t at = 0; at < train->n; at += TRAIN_BATCH) {
    uint32_t left = train->n - at;
    run_batch(t, train, order + at, left < TRAIN_BATCH ? left : TRAIN_BATCH);
    on_step(t->step);
  }
  t->iteration++;
  t->cur_epoch = t->iteration;
  sgd_schedule(&t->optimizer, t->iteration);
}

void trainer_evaluate(trainer *t, const data_split *test) {
  double loss = 0;
  uint32_t right = 0;
  for (uint32_t i = 0; i < test->n; i++) {
    int predicted = 0;
    loss += (double)net_classify(&predicted, &t->weights, test->x[i], test->y[i]);
    right += predicted == test->y[i];
  }
  t->cur_acc = (double)right / test->n;
  t->loss = loss / test->n;
}

void trainer_set_best(trainer *t) {
  t->best_acc = t->cur_acc;
  t->best_epoch = t->cur_epoch;
}

bool trainer_dump(const trainer *t, const char *path) {
  FILE *f = fopen(path, "wb");
  if (f == NULL) return false;
  bool ok = fwrite(&t->weights, sizeof t->weights, 1, f) == 1;
  ok &= fwrite(&t->optimizer.buffer, sizeof t->optimizer.buffer, 1, f) == 1;
  ok &= fwrite(&t->optimizer.lr, sizeof t->optimizer.lr, 1, f) == 1;
  ok &= fwrite(&t->iteration, sizeof t->iteration, 1, f) == 1;
  ok &= fwrite(&t->shuffle, sizeof t->shuffle, 1, f) == 1;
  return (fclose(f) == 0) & ok;
}
