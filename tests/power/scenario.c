/* scenario.c - see scenario.h. */
#include "scenario.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"
#include "tables.h"

/*
 * `over` writes no ledger and every save over the same name: what stands between it and a power loss is the sync of the
 * directory alone, since syncing the ledger commits ext4's whole journal. `large` is written past the page cache.
 */
static const scenario scenarios[] = {
    {"waited", "keep.lua", false, false, 16000},      {"async", "keep.lua", true, false, 16000},
    {"recycled", "recycle.lua", false, false, 16000}, {"over", "over.lua", false, false, 16000},
    {"copies", "keep.lua", false, true, 16000},       {"large", "keep.lua", false, false, 4400000}};

static const double accuracies[SCENARIO_SAVES] = {.5, .6, .55, .7, .65, .7, .6};

const scenario *scenario_find(const char *name) {
  for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
    if (strcmp(scenarios[i].name, name) == 0) return &scenarios[i];
  return NULL;
}

/* Whole numbers below 2^24: exact, and no two saves share one. */
float scenario_weight(int64_t save, int32_t i) { return (float)(save * 100000 + i % 100000); }

double scenario_accuracy(int64_t save) { return save >= 0 && save < SCENARIO_SAVES ? accuracies[save] : .9; }

static ckpt_status bind(ckpt_checkpointer *cp, run_state *state, const scenario *s, ckpt_error *err) {
  ckpt_status st = ckpt_bind_tensor(cp, "model", "w", CKPT_F32, state->w, 1, (int64_t[]){s->weights}, err);
  if (!st) st = ckpt_bind_int(cp, "meta", "save", &state->save, err);
  return st ? st : ckpt_bind_double(cp, "meta", "best_acc", &state->best_acc, err);
}

ckpt_status scenario_open(ckpt_checkpointer **out, run_state *state, const scenario *s, const char *policies,
                          const char *dir, const char *bug, ckpt_error *err) {
  char policy[4096];
  ckpt_checkpointer_options options = {.dir = dir, .policy = policy, .auto_resume = true};
  snprintf(policy, sizeof policy, "%s/%s", policies, s->policy);
  *state = (run_state){.w = calloc((size_t)s->weights, sizeof(float)), .save = SCENARIO_NONE};
  if (state->w == NULL || !tables_bug(&state->io, bug)) return CKPT_E_ARGUMENT;
  if (s->copies) tables_take_links(&state->io);
  ckpt_status st = ckpt_checkpointer_open_io(out, &options, &state->io, err);
  return st ? st : bind(*out, state, s, err);
}

ckpt_status scenario_fill(ckpt_checkpointer *cp, run_state *state, const scenario *s, int save, ckpt_error *err) {
  for (int32_t i = 0; i < s->weights; i++) state->w[i] = scenario_weight(save, i);
  state->save = save;
  ckpt_set_step(cp, save);
  return ckpt_set_metric(cp, "acc", scenario_accuracy(save), err);
}

/* ---- acks ---- */

void ack_write(char block[ACK_BYTES], const ack *a) {
  memset(block, 0, ACK_BYTES);
  snprintf(block, ACK_BYTES, "acknowledged %d %d %" PRIu64 " %" PRIx64 "\n", a->save, a->best, a->ledger_bytes,
           a->ledger_hash);
}

bool ack_read(ack *a, const void *block) {
  char text[ACK_BYTES];
  memcpy(text, block, sizeof text);
  text[sizeof text - 1] = '\0';
  return sscanf(text, "acknowledged %d %d %" SCNu64 " %" SCNx64, &a->save, &a->best, &a->ledger_bytes,
                &a->ledger_hash) == 4;
}

uint64_t hash_file(const char *path, uint64_t n) {
  uint64_t h = UINT64_C(14695981039346656037), left = n;
  FILE *f = fopen(path, "rb");
  for (int c; f != NULL && left > 0 && (c = getc(f)) != EOF; left--) h = (h ^ (uint64_t)c) * UINT64_C(1099511628211);
  if (f != NULL) fclose(f);
  return left == 0 ? h : 0;
}
