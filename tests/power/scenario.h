/*
 * scenario.h - the runs whose power is cut, as the saver makes them and as the replay knows them: what each save holds,
 * under which policy, how good it is, and what the saver says once it is told that a save is durable.
 */
#ifndef POWER_SCENARIO_H
#define POWER_SCENARIO_H

#include <ckpt/checkpointer.h>

#include "io.h"

enum { SCENARIO_SAVES = 7, SCENARIO_NONE = -1, SCENARIO_AGAIN = 90, ACK_BYTES = 512 };

typedef struct scenario {
  const char *name;
  const char *policy; /* a file of this directory */
  bool async;         /* saves in the thread, waited for after every second one */
  bool copies;        /* on a file system without hard links */
  int32_t weights;    /* floats in a checkpoint */
} scenario;

/* The bound arrays and variables of a run. */
typedef struct run_state {
  float *w;
  int64_t save;
  double best_acc;
  ckpt_io io;
} run_state;

/* What was acknowledged, in save numbers; SCENARIO_NONE: nothing yet. The ledger's bytes then are a prefix of it. */
typedef struct ack {
  int save, best;
  uint64_t ledger_bytes, ledger_hash;
} ack;

const scenario *scenario_find(const char *name); /* NULL: there is none */

/* Weight `i` of a save, and its metric; SCENARIO_AGAIN is the save that is made after a recovery. */
float scenario_weight(int64_t save, int32_t i);
double scenario_accuracy(int64_t save);

/*
 * Opens the run in `dir` under the scenario's policy, a file in `policies`, with a saver's bug or "none", and binds
 * `state`, whose array is new (free it) and which may not move. After a failure too, *out is to be closed if it is not
 * NULL.
 */
ckpt_status scenario_open(ckpt_checkpointer **out, run_state *state, const scenario *s, const char *policies,
                          const char *dir, const char *bug, ckpt_error *err);

/* Fills the arrays with a save's values, sets its metric. */
ckpt_status scenario_fill(ckpt_checkpointer *cp, run_state *state, const scenario *s, int save, ckpt_error *err);

/* The ack as a block of ACK_BYTES, and back; false if the block is none. */
void ack_write(char block[ACK_BYTES], const ack *a);
bool ack_read(ack *a, const void *block);

/* Hash of the first `n` bytes of a file; 0 if it is shorter or not there (n 0: of nothing). */
uint64_t hash_file(const char *path, uint64_t n);

#endif
