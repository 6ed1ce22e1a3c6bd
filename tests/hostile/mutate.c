/*
 * mutate.c - hostile_mutate splice LOADS SEED...: every seed cut at every length, and each of its bytes overwritten by
 * 00, FF, itself^01 and itself^80; each result is opened, verified and walked. LOADS > 0 takes an even sample of about
 * so many. Meant for a build with AddressSanitizer and UBSan: what it looks for is a report of theirs, or a load that
 * takes longer than a second.
 *
 * hostile_mutate flip STEP: a checkpoint of 64 KiB is written, and each of its bits flipped in turn (every STEPth). A
 * load either reports the flip or gives the values that were saved; anything else is a violation.
 *
 * Speaks TAP. All loads are from memory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "checkpoint.h"

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static ckpt_status walk_all(const ckpt_checkpoint *cp, ckpt_error *err) {
  ckpt_walk *w = NULL;
  ckpt_walk_step step = {0};
  CKPT_TRY(ckpt_walk_new(&w, ckpt_checkpoint_root(cp), err));
  ckpt_status st = ckpt_walk_next(&step, w, err);
  while (st == CKPT_OK && step.value != NULL) st = ckpt_walk_next(&step, w, err);
  ckpt_walk_free(w);
  return st;
}

static const ckpt_open_options verify = {.verify = true}, lenient = {.verify = true, .lenient = true};

static unsigned char *read_file(size_t *n, const char *path) {
  FILE *f = fopen(path, "rb");
  if (f == NULL) return NULL;
  fseek(f, 0, SEEK_END);
  *n = (size_t)ftell(f);
  rewind(f);
  unsigned char *bytes = malloc(*n + 1);
  if (bytes != NULL && fread(bytes, 1, *n, f) != *n) *n = 0;
  fclose(f);
  return bytes;
}

/* ---- splice ---- */

typedef struct tally {
  size_t loads, opened, slow;
  double slowest;
} tally;

static void load(tally *t, const unsigned char *bytes, size_t n, bool strict) {
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  double start = now();
  ckpt_status st = ckpt_checkpoint_open_memory(&cp, bytes, n, "m", strict ? &verify : &lenient, &err);
  if (st == CKPT_OK) st = walk_all(cp, &err);
  ckpt_checkpoint_close(cp);
  double took = now() - start;
  t->loads++;
  t->opened += st == CKPT_OK;
  t->slow += took > 1;
  if (took > t->slowest) t->slowest = took;
}

/* In a block of exactly that size, so that a step outside is seen. */
static void load_cut(tally *t, const unsigned char *bytes, size_t n, bool strict) {
  unsigned char *exact = malloc(n);
  if (exact == NULL) abort();
  memcpy(exact, bytes, n);
  load(t, exact, n, strict);
  free(exact);
}

static void splice(tally *t, unsigned char *seed, size_t n, size_t step, size_t *phase) {
  unsigned char *exact = malloc(n);
  if (exact == NULL) abort();
  memcpy(exact, seed, n);
  for (size_t at = 0; at < n; at++) {
    const unsigned char was = seed[at], to[4] = {0, 0xff, was ^ 0x01, was ^ 0x80};
    if (at > 0 && (*phase)++ % step == 0) load_cut(t, seed, at, true);
    for (int i = 0; i < 4; i++) {
      if (to[i] == was || (*phase)++ % step != 0) continue;
      exact[at] = to[i];
      load(t, exact, n, i % 2 == 0); /* half of them as a lenient reader */
    }
    exact[at] = was;
  }
  free(exact);
}

static int run_splice(size_t wanted, int n, char **paths) {
  tally t = {0};
  size_t total = 0, phase = 0;
  for (int pass = 0; pass < 2; pass++) {
    size_t step = wanted == 0 || 5 * total <= wanted ? 1 : 5 * total / wanted;
    for (int i = 0; i < n; i++) {
      size_t size = 0;
      unsigned char *seed = read_file(&size, paths[i]);
      if (seed == NULL || size == 0) {
        printf("Bail out! %s cannot be read\n", paths[i]);
        return 2;
      }
      if (pass == 0) total += size;
      if (pass == 1) splice(&t, seed, size, step, &phase);
      free(seed);
    }
  }
  bool good = t.slow == 0 && t.loads > 0;
  printf("1..1\n%sok 1 - %zu loads of %d seeds cut and overwritten: %zu still opened, the slowest took %.3f s\n",
         good ? "" : "not ", t.loads, n, t.opened, t.slowest);
  return good ? 0 : 1;
}

/* ---- flip ---- */

/* What a trainer saves: weights, an optimizer's state, numbers; close to 64 KiB. */
static ckpt_status make_root(ckpt_value **root, ckpt_document *doc, ckpt_error *err) {
  CKPT_TRY(ckpt_value_new_dict(root, doc, true, err));
  for (int i = 0; i < 5; i++) {
    char name[40];
    ckpt_tensor *t = NULL;
    ckpt_value *v = NULL;
    const void *data = NULL;
    snprintf(name, sizeof name, "layer%d.weight", i);
    CKPT_TRY(ckpt_tensor_new(&t, i == 4 ? CKPT_I64 : CKPT_F32, 2, (const int64_t[]){i == 4 ? 12 : 60, 60}, err));
    CKPT_TRY(ckpt_tensor_data(&data, t, err));
    unsigned char *bytes = (unsigned char *)(uintptr_t)data;
    for (size_t k = 0; k < (i == 4 ? 12 * 60 * 8 : 60 * 60 * 4); k++)
      bytes[k] = (unsigned char)(k * 2654435761u >> 13 ^ (unsigned)i * 71);
    ckpt_status st = ckpt_value_new_tensor(&v, doc, t, err);
    ckpt_tensor_release(t);
    CKPT_TRY(st);
    CKPT_TRY(ckpt_value_set(*root, doc, name, v, err));
  }
  ckpt_value *epoch = NULL, *lr = NULL, *text = NULL;
  CKPT_TRY(ckpt_value_new_int(&epoch, doc, 1234567, err));
  CKPT_TRY(ckpt_value_new_double(&lr, doc, 0.001, err));
  CKPT_TRY(ckpt_value_new_str(&text, doc, "a run of the flip test", 22, err));
  CKPT_TRY(ckpt_value_set(*root, doc, "epoch", epoch, err));
  CKPT_TRY(ckpt_value_set(*root, doc, "lr", lr, err));
  return ckpt_value_set(*root, doc, "comment", text, err);
}

typedef struct flips {
  size_t loads, reported, harmless, violations;
} flips;

static void flip_one(flips *f, unsigned char *bytes, size_t n, size_t bit, const ckpt_value *expected) {
  ckpt_checkpoint *cp = NULL;
  bool same = false;
  bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
  ckpt_status st = ckpt_checkpoint_open_memory(&cp, bytes, n, "m", &verify, NULL);
  if (st == CKPT_OK) st = ckpt_value_equal(&same, ckpt_checkpoint_root(cp), expected, NULL);
  f->loads++;
  f->reported += st != CKPT_OK;
  f->harmless += st == CKPT_OK && same;
  if (st == CKPT_OK && !same) {
    f->violations++;
    printf("# bit %zu of byte %zu changes what is loaded, and nothing is reported\n", bit % 8, bit / 8);
  }
  ckpt_checkpoint_close(cp);
  bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
}

static int flip_file(size_t step, const char *path) {
  flips f = {0};
  size_t n = 0;
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  unsigned char *bytes = read_file(&n, path), *other = read_file(&n, path);
  if (bytes == NULL || other == NULL || ckpt_checkpoint_open_memory(&cp, other, n, "m", &verify, &err) != CKPT_OK) {
    printf("Bail out! %s\n", err.message);
    return 2;
  }
  for (size_t bit = 0; bit < 8 * n; bit += step) flip_one(&f, bytes, n, bit, ckpt_checkpoint_root(cp));
  ckpt_checkpoint_close(cp);
  free(bytes);
  free(other);
  bool good = f.violations == 0 && f.reported > f.loads / 2;
  printf(
      "1..1\n%sok 1 - %zu flips in a checkpoint of %zu bytes: %zu reported, %zu change nothing that is loaded, "
      "%zu unseen\n",
      good ? "" : "not ", f.loads, n, f.reported, f.harmless, f.violations);
  return good ? 0 : 1;
}

static int run_flip(size_t step, const char *path) {
  ckpt_document *doc = NULL;
  ckpt_value *root = NULL;
  ckpt_error err = {0};
  ckpt_status st = ckpt_document_new(&doc, &err);
  if (st == CKPT_OK) st = make_root(&root, doc, &err);
  if (st == CKPT_OK) st = ckpt_save_file(path, root, &err);
  ckpt_document_release(doc);
  if (st == CKPT_OK) return flip_file(step, path);
  printf("Bail out! %s\n", err.message);
  return 2;
}

int main(int argc, char **argv) {
  size_t number = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
  if (argc > 3 && strcmp(argv[1], "splice") == 0) return run_splice(number, argc - 3, argv + 3);
  if (argc == 4 && strcmp(argv[1], "flip") == 0 && number > 0) return run_flip(number, argv[3]);
  fputs("usage: hostile_mutate splice LOADS SEED... | flip STEP PATH (which is written)\n", stderr);
  return 2;
}
