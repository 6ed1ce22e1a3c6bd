/*
 * checkpoints.c - what a training program writes to get checkpoints: it binds its arrays and variables by name once,
 * loads once, and saves after each epoch. No other file of the trainer speaks to the checkpointer, but that main.c asks
 * it for the next epoch and closes it.
 */
#include "checkpoints.h"

#include <stdio.h>

static ckpt_status bind(ckpt_checkpointer *cp, trainer *t, ckpt_error *e) {
  sgd *o = &t->optimizer;
  ckpt_status st = CKPT_OK;
  for (const net_param *p = net_params; p < net_params + NET_PARAMS && !st; p++) {
    char slot[64];
    snprintf(slot, sizeof slot, "%s.momentum_buffer", p->name);
    st = ckpt_bind_tensor(cp, "model", p->name, CKPT_F32, net_data(&t->weights, p), p->ndim, p->shape, e);
    if (!st) st = ckpt_bind_tensor(cp, "optimizer", slot, CKPT_F32, net_data(&o->buffer, p), p->ndim, p->shape, e);
  }
  if (!st) st = ckpt_bind_double(cp, "optimizer", "lr", &o->lr, e);
  if (!st) st = ckpt_bind_double(cp, "optimizer", "initial_lr", &o->initial_lr, e);
  if (!st) st = ckpt_bind_double(cp, "optimizer", "momentum", &o->momentum, e);
  if (!st) st = ckpt_bind_double(cp, "optimizer", "dampening", &o->dampening, e);
  if (!st) st = ckpt_bind_double(cp, "optimizer", "weight_decay", &o->weight_decay, e);
  if (!st) st = ckpt_bind_bool(cp, "optimizer", "nesterov", &o->nesterov, e);
  if (!st) st = ckpt_bind_bool(cp, "optimizer", "maximize", &o->maximize, e);
  if (!st) st = ckpt_bind_int(cp, "scheduler", "iteration", &t->iteration, e);
  if (!st) st = ckpt_bind_int(cp, "scheduler", "step", &t->step, e);
  if (!st) st = ckpt_bind_double(cp, "scheduler", "info.cur_acc", &t->cur_acc, e);
  if (!st) st = ckpt_bind_double(cp, "scheduler", "info.best_acc", &t->best_acc, e);
  if (!st) st = ckpt_bind_int(cp, "scheduler", "info.cur_epoch", &t->cur_epoch, e);
  if (!st) st = ckpt_bind_int(cp, "scheduler", "info.best_epoch", &t->best_epoch, e);
  return st ? st : ckpt_bind_tensor(cp, "rng", "shuffle", CKPT_U8, t->shuffle.state, 1, (int64_t[]){RNG_BYTES}, e);
}

ckpt_status checkpoints_open(ckpt_checkpointer **out, ckpt_load_report *report,
                             const ckpt_checkpointer_options *options, trainer *t, ckpt_error *err) {
  ckpt_status st = ckpt_checkpointer_open(out, options, err);
  if (!st) st = bind(*out, t, err);
  return st ? st : ckpt_load(*out, report, err);
}

ckpt_status checkpoints_save(bool *improved, ckpt_checkpointer *cp, trainer *t, ckpt_error *err) {
  ckpt_set_step(cp, t->step);
  ckpt_status st = ckpt_set_metric(cp, "acc", t->cur_acc, err);
  if (!st) st = ckpt_set_metric(cp, "loss", t->loss, err);
  if (!st) st = ckpt_save(cp, t->iteration, err);
  return st ? st : ckpt_save_best(cp, t->iteration, improved, err);
}
