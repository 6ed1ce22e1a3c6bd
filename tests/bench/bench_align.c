/*
 * bench_align.c - suffix alignment at growing numbers of keys, beside the quadratic algorithm (each model key with
 * each key of the weights, as Detectron2's align_and_update_state_dicts does it).
 *
 * Keys are those of a ResNet grown wide and deep; the model's have the prefix "backbone.body.".
 */
#include <ckpt/ckpt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LONGEST = 96, RUNS = 5 };

typedef struct keys {
  size_t n;
  char (*texts)[LONGEST];
  const char **names;
} keys;

/* The i-th key of a ResNet: 20 tensors in a block, 250 blocks in a layer. */
static void write_key(char *to, const char *prefix, size_t i) {
  static const char *const parts[] = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"};
  size_t slot = i % 20, block = i / 20;
  char layer[64];
  snprintf(layer, sizeof layer, "%slayer%zu.%zu", prefix, 1 + block / 250, block % 250);
  if (slot < 5)
    snprintf(to, LONGEST, "%s.conv%zu.%s", layer, 1 + slot / 2, slot % 2 == 0 ? "weight" : "bias");
  else
    snprintf(to, LONGEST, "%s.bn%zu.%s", layer, slot / 5, parts[slot % 5]);
}

static bool make_keys(keys *k, const char *prefix, size_t n) {
  k->n = n;
  k->texts = calloc(n, sizeof *k->texts);
  k->names = calloc(n, sizeof *k->names);
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

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

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

/* Best of RUNS in milliseconds, negative on failure. *out is the caller's. */
static double time_ours(size_t **out, const keys *model, const keys *weights) {
  double best = -1;
  for (int run = 0; run < RUNS; run++) {
    free(*out);
    *out = NULL;
    double start = now();
    if (ckpt_align(out, model->n, model->names, weights->n, weights->names, 0, NULL) != CKPT_OK) return -1;
    double took = now() - start;
    if (best < 0 || took < best) best = took;
  }
  return best;
}

/* Milliseconds of the quadratic algorithm, negative if its result is not `expected`. */
static double time_quadratic(const size_t *expected, const keys *model, const keys *weights) {
  size_t *found = calloc(model->n, sizeof *found);
  if (found == NULL) return -1;
  double start = now();
  align_quadratic(found, model, weights);
  double took = now() - start;
  if (memcmp(found, expected, model->n * sizeof *found) != 0) took = -1;
  free(found);
  return took;
}

static void print_ratio(double took, double before) {
  if (before > 0)
    printf(" %7.1fx", took / before);
  else
    printf(" %8s", "");
}

/* One line of the table; before[0] and before[1] are the times of the line above. */
static bool print_size(size_t n, bool quadratic, double before[2]) {
  keys model = {0}, weights = {0};
  size_t *found = NULL;
  bool good = make_keys(&model, "backbone.body.", n) && make_keys(&weights, "", n);
  double ours = good ? time_ours(&found, &model, &weights) : -1;
  double theirs = ours >= 0 && quadratic ? time_quadratic(found, &model, &weights) : 0;
  good = ours >= 0 && theirs >= 0;
  printf("%6zu %10.3f", n, ours);
  print_ratio(ours, before[0]);
  if (quadratic) printf(" %12.1f", theirs);
  if (quadratic) print_ratio(theirs, before[1]);
  printf("\n");
  before[0] = ours;
  before[1] = theirs;
  free(found);
  free_keys(&model);
  free_keys(&weights);
  return good;
}

int main(void) {
  static const size_t sizes[] = {1000, 3000, 10000, 30000};
  double before[2] = {0};
  bool good = true;
  printf("%6s %10s %8s %12s %8s\n", "keys", "ckpt ms", "growth", "quadratic ms", "growth");
  for (size_t i = 0; good && i < sizeof sizes / sizeof *sizes; i++)
    good = print_size(sizes[i], sizes[i] <= 10000, before);
  if (!good) fprintf(stderr, "bench_align: out of memory, or the two algorithms disagree\n");
  return good ? 0 : 1;
}
