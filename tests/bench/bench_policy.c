/* bench_policy.c - what takes no time to speak of, many times over: alignment, the start of a run, calls of a policy.
 */
#include <lua.h>

#include "bench.h"
#include "run.h"

/* ---- alignment ---- */

typedef struct keys {
  size_t n;
  char (*texts)[96];
  const char **names;
} keys;

/* The i-th key of a ResNet grown wide and deep: 20 tensors in a block, 250 blocks in a layer. */
static void write_key(char *to, const char *prefix, size_t i) {
  static const char *const parts[] = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"};
  size_t slot = i % 20, block = i / 20;
  char layer[64];
  snprintf(layer, sizeof layer, "%slayer%zu.%zu", prefix, 1 + block / 250, block % 250);
  if (slot < 5)
    snprintf(to, 96, "%s.conv%zu.%s", layer, 1 + slot / 2, slot % 2 == 0 ? "weight" : "bias");
  else
    snprintf(to, 96, "%s.bn%zu.%s", layer, slot / 5, parts[slot % 5]);
}

static bool make_keys(keys *k, const char *prefix, size_t n) {
  *k = (keys){n, calloc(n, sizeof *k->texts), calloc(n, sizeof *k->names)};
  if (k->texts == NULL || k->names == NULL) return false;
  for (size_t i = 0; i < n; i++) {
    write_key(k->texts[i], prefix, i);
    k->names[i] = k->texts[i];
  }
  return true;
}

static void free_keys(keys *k) {
  free(k->texts);
  free(k->names);
}

/* Each model key with each key of the weights, as Detectron2's align_and_update_state_dicts does it. */
static void align_quadratic(size_t *found, const keys *model, const keys *weights) {
  for (size_t i = 0; i < model->n; i++) {
    size_t n = strlen(model->names[i]), best = 0;
    found[i] = SIZE_MAX;
    for (size_t k = 0; k < weights->n; k++) {
      size_t m = strlen(weights->names[k]);
      if (m < best || m > n || memcmp(model->names[i] + n - m, weights->names[k], m) != 0) continue;
      best = m;
      found[i] = k;
    }
  }
}

static double align(bench *b, size_t n, bool quadratic) {
  keys model = {0}, weights = {0};
  size_t *found = NULL, *expected = calloc(n, sizeof *expected);
  ckpt_error err = {0};
  if (expected == NULL || !make_keys(&model, "backbone.body.", n) || !make_keys(&weights, "", n))
    return bench_fail(b, "no memory");
  double start = bench_now();
  ckpt_status st = ckpt_align(&found, n, model.names, n, weights.names, '\0', &err);
  double took = bench_now() - start;
  if (st == CKPT_OK && quadratic) {
    start = bench_now();
    align_quadratic(expected, &model, &weights);
    took = bench_now() - start;
    if (memcmp(found, expected, n * sizeof *found) != 0) took = bench_fail(b, "the two algorithms disagree");
  }
  free(found);
  free(expected);
  free_keys(&model);
  free_keys(&weights);
  return st == CKPT_OK ? took : bench_failed(b, &err);
}

/* align N: N model keys with N keys of weights. */
double bench_align(bench *b, int n, char **args) {
  (void)n;
  return align(b, strtoull(args[0], NULL, 10), false);
}

double bench_align_quadratic(bench *b, int n, char **args) {
  (void)n;
  return align(b, strtoull(args[0], NULL, 10), true);
}

/* ---- the runtime ---- */

/* start DIR [POLICY]: opening a run: a new Lua state, the policies, the directory's lock. */
double bench_start(bench *b, int n, char **args) {
  ckpt_error err = {0};
  ckpt_checkpointer *run = NULL;
  ckpt_checkpointer_options options = {.dir = args[0], .policy = n > 1 ? args[1] : NULL};
  double start = bench_now();
  ckpt_status st = ckpt_checkpointer_open(&run, &options, &err);
  double took = bench_now() - start;
  ckpt_checkpointer_close(run);
  return st == CKPT_OK ? took : bench_failed(b, &err);
}

/*
 * policy DIR N [POLICY]: one plan of a save, the mean of N: the directory and the ledger read, the run's tables, the
 * call, the checked plan.
 */
double bench_policy(bench *b, int n, char **args) {
  ckpt_error err = {0};
  ckpt_checkpointer *run = NULL;
  ckpt_checkpointer_options options = {.dir = args[0], .policy = n > 2 ? args[2] : NULL};
  long calls = strtol(args[1], NULL, 10);
  ckpt_status st = ckpt_checkpointer_open(&run, &options, &err);
  if (st == CKPT_OK) ckpt_begin_epoch(run, 1);
  double start = bench_now();
  for (long i = 0; st == CKPT_OK && i < calls; i++) {
    ckpt_save_plan plan = {0};
    st = ckpt_plan_save(&plan, run, false, &err);
    ckpt_save_plan_free(&plan);
  }
  double took = (bench_now() - start) / (double)calls;
  ckpt_checkpointer_close(run);
  return st == CKPT_OK ? took : bench_failed(b, &err);
}

static int call_empty(lua_State *L) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, *(int *)lua_touserdata(L, 1));
  lua_getfield(L, -1, "name");
  return 0;
}

/* gate N: the way into the sandbox and back, the mean of N: budget, protected call, clock. */
double bench_gate(bench *b, int n, char **args) {
  (void)n;
  ckpt_error err = {0};
  ckpt_sandbox *s = NULL;
  int ref = 0;
  ckpt_sandbox_options options = {.embedded = ckpt_embedded_files};
  long calls = strtol(args[0], NULL, 10);
  ckpt_status st = ckpt_sandbox_new(&s, &options, &err);
  if (st == CKPT_OK) st = ckpt_sandbox_load(&ref, s, "pet", &err);
  double start = bench_now();
  for (long i = 0; st == CKPT_OK && i < calls; i++) st = ckpt_sandbox_call(s, call_empty, &ref, &err);
  double took = (bench_now() - start) / (double)calls;
  ckpt_sandbox_free(s);
  return st == CKPT_OK ? took : bench_failed(b, &err);
}
