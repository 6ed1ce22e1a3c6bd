/* sgd.c - torch.optim.SGD and torch.optim.lr_scheduler.StepLR. */
#include "sgd.h"

#include <math.h>
#include <string.h>

void sgd_init(sgd *o, double lr) {
  memset(o, 0, sizeof *o);
  o->lr = o->initial_lr = lr;
  o->momentum = 0.9;
  o->weight_decay = 1e-4;
}

void sgd_step(sgd *o, net *weights, net *grad) {
  float *w = net_floats(weights), *g = net_floats(grad), *b = net_floats(&o->buffer);
  float lr = (float)o->lr, momentum = (float)o->momentum, decay = (float)o->weight_decay;
  float undamped = (float)(1 - o->dampening), sign = o->maximize ? -1 : 1;
  for (size_t i = 0; i < NET_FLOATS; i++) {
    float d = sign * g[i] + decay * w[i];
    b[i] = momentum * b[i] + undamped * d;
    w[i] -= lr * (o->nesterov ? d + momentum * b[i] : b[i]);
  }
  memset(grad, 0, sizeof *grad);
}

void sgd_schedule(sgd *o, int64_t epochs) {
  int64_t drops = epochs / SGD_STEP_SIZE;
  o->lr = o->initial_lr * pow(SGD_GAMMA, (double)drops);
}
