/*
 * bench.h - what one side of the benchmark measures. The driver (bench.lua) sends lines "operation argument...", and
 * gets "seconds" back for each, or "error: sentence". The Python peer (peer.py) speaks the same.
 */
#ifndef CKPT_BENCH_H
#define CKPT_BENCH_H

#include <ckpt/checkpointer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct bench_model { /* a state dict whose arrays are the program's own */
  size_t n, bytes;
  char (*names)[96];
  float **data;
  int *ndim;
  int64_t (*shape)[4];
} bench_model;

typedef struct bench {
  bench_model model;
  char why[600]; /* of the failure */
} bench;

/* Seconds, or a negative number with `why` filled. */
typedef double (*bench_operation)(bench *b, int n, char **args);

double bench_now(void);
double bench_fail(bench *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
double bench_failed(bench *b, const ckpt_error *err);

/* Tensors as the files of the benchmark hold them. model_free leaves an empty one. */
bool bench_model_vgg16(bench_model *m, size_t bytes);
bool bench_model_many(bench_model *m, size_t n);
void bench_model_free(bench_model *m);
ckpt_status bench_model_document(ckpt_document **out, const bench_model *m, ckpt_error *err);

double bench_model_op(bench *b, int n, char **args);
double bench_save(bench *b, int n, char **args);
double bench_optimizer(bench *b, int n, char **args);
double bench_open(bench *b, int n, char **args);
double bench_verify(bench *b, int n, char **args);
double bench_load(bench *b, int n, char **args);
double bench_copy(bench *b, int n, char **args);
double bench_save_latest(bench *b, int n, char **args);
double bench_pickle(bench *b, int n, char **args);
double bench_resave(bench *b, int n, char **args);

double bench_memcpy(bench *b, int n, char **args);
double bench_write(bench *b, int n, char **args);
double bench_copy_file(bench *b, int n, char **args);
double bench_libzip(bench *b, int n, char **args);
double bench_drop(bench *b, int n, char **args);
double bench_run(bench *b, int n, char **args);

double bench_recycled(bench *b, int n, char **args);
double bench_stall(bench *b, int n, char **args);
double bench_close_run(bench *b, int n, char **args);
double bench_memcpy_state(bench *b, int n, char **args);
double bench_fork_state(bench *b, int n, char **args);

double bench_align(bench *b, int n, char **args);
double bench_align_quadratic(bench *b, int n, char **args);
double bench_start(bench *b, int n, char **args);
double bench_policy(bench *b, int n, char **args);
double bench_gate(bench *b, int n, char **args);

#endif
