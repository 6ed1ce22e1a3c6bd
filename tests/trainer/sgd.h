/*
 * sgd.h - momentum SGD with the meaning of torch.optim.SGD, and the schedule of torch's StepLR.
 *
 * The fields are those of a param group, under PyTorch's names. Momentum starts at zero, which gives the same first
 * step as PyTorch's "no buffer yet" because dampening is 0 here. `initial_lr` is what PyTorch's schedulers call it.
 */
#ifndef TRAINER_SGD_H
#define TRAINER_SGD_H

#include <stdbool.h>

#include "net.h"

enum { SGD_STEP_SIZE = 8 };
#define SGD_GAMMA                                                                                    \
  0.5 /* a power of two: initial_lr * gamma^k and PyTorch's repeated lr *= gamma are the same number \
       */

typedef struct sgd {
  double lr, initial_lr, momentum, dampening, weight_decay;
  bool nesterov, maximize;
  net buffer;
} sgd;

void sgd_init(sgd *o, double lr);

/* One step of all parameters, then *grad is zero again. */
void sgd_step(sgd *o, net *weights, net *grad);

/* lr = initial_lr * gamma ^ floor(epochs / step_size), after `epochs` finished epochs. */
void sgd_schedule(sgd *o, int64_t epochs);

#endif
