/*
 * bench.c - our side of the benchmark, and the machine's: reads operations from standard input (bench.h), or takes one
 * from its arguments, each operation after a "+": bench model many 20000 + save /tmp/many.pth + open /tmp/many.pth
 */
#include "bench.h"

#include <stdarg.h>
#include <time.h>

enum { MAX_ARGS = 16 };

double bench_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

double bench_fail(bench *b, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(b->why, sizeof b->why, format, args);
  va_end(args);
  return -1;
}

double bench_failed(bench *b, const ckpt_error *err) { return bench_fail(b, "%s", err->message); }

static const struct {
  const char *name;
  bench_operation run;
  int args; /* at least */
} operations[] = {
    {"model", bench_model_op, 2},
    {"save", bench_save, 1},
    {"optimizer", bench_optimizer, 2},
    {"open", bench_open, 1},
    {"verify", bench_verify, 1},
    {"load", bench_load, 2},
    {"copy", bench_copy, 1},
    {"pickle", bench_pickle, 1},
    {"save_latest", bench_save_latest, 2},
    {"memcpy", bench_memcpy, 2},
    {"write", bench_write, 1},
    {"copy_file", bench_copy_file, 2},
    {"libzip", bench_libzip, 1},
    {"drop", bench_drop, 1},
    {"run", bench_run, 1},
    {"align", bench_align, 1},
    {"start", bench_start, 1},
    {"align_quadratic", bench_align_quadratic, 1},
    {"recycled", bench_recycled, 2},
    {"stall", bench_stall, 2},
    {"close_run", bench_close_run, 0},
    {"memcpy_state", bench_memcpy_state, 1},
    {"fork_state", bench_fork_state, 0},
    {"policy", bench_policy, 2},
    {"gate", bench_gate, 1},
    {"resave", bench_resave, 2},
};

static double dispatch(bench *b, int n, char **args) {
  for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
    if (strcmp(operations[i].name, args[0]) != 0) continue;
    if (n - 1 < operations[i].args) return bench_fail(b, "%s needs %d arguments", args[0], operations[i].args);
    return operations[i].run(b, n - 1, args + 1);
  }
  return bench_fail(b, "there is no operation '%s'", args[0]);
}

static bool answer(bench *b, int n, char **args) {
  double took = n == 0 ? bench_fail(b, "no operation") : dispatch(b, n, args);
  if (took < 0)
    printf("error: %s\n", b->why);
  else
    printf("%.9f\n", took);
  fflush(stdout);
  return took >= 0;
}

static bool serve(bench *b) {
  char line[4096], *args[MAX_ARGS], *save = NULL;
  while (fgets(line, sizeof line, stdin) != NULL) {
    int n = 0;
    for (char *word = strtok_r(line, " \n", &save); word != NULL && n < MAX_ARGS; word = strtok_r(NULL, " \n", &save))
      args[n++] = word;
    answer(b, n, args);
  }
  return true;
}

static bool run_arguments(bench *b, int n, char **args) {
  bool good = true;
  for (int start = 0, at = 0; good && at <= n; at++) {
    if (at < n && strcmp(args[at], "+") != 0) continue;
    good = answer(b, at - start, args + start);
    start = at + 1;
  }
  return good;
}

int main(int argc, char **argv) {
  bench b = {0};
  bool good = argc > 1 ? run_arguments(&b, argc - 1, argv + 1) : serve(&b);
  bench_model_free(&b.model);
  return good ? 0 : 1;
}
