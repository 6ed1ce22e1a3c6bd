/*
 * bench_runs.c - a run that stays open over many saves, as a trainer's does: over recycled blocks, and in its thread.
 * Beside them what the machine can do: a copy of the state by as many threads, and a fork with its pages shared.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "parallel.h"

static ckpt_checkpointer *open_one; /* one at a time, until close_run */
static int64_t last_epoch;

static ckpt_status open_run(bench *b, const char *dir, const char *policy, ckpt_error *err) {
  ckpt_checkpointer_options options = {.dir = dir, .policy = policy};
  ckpt_status st = ckpt_checkpointer_open(&open_one, &options, err);
  const bench_model *m = &b->model;
  for (size_t i = 0; st == CKPT_OK && i < m->n; i++)
    st = ckpt_bind_tensor(open_one, "model", m->names[i], CKPT_F32, m->data[i], m->ndim[i], m->shape[i], err);
  last_epoch = 0;
  return st;
}

/* The first saves of a run have nothing to recycle, and their snapshot's memory is new. */
static ckpt_status warm_up(bench *b, const char *dir, const char *policy, bool async, ckpt_error *err) {
  ckpt_status st = open_run(b, dir, policy, err);
  for (int i = 0; st == CKPT_OK && i < 3; i++) {
    st = async ? ckpt_save_async(open_one, ++last_epoch, err) : ckpt_save(open_one, ++last_epoch, err);
    if (st == CKPT_OK) st = ckpt_wait(open_one, err);
  }
  return st;
}

/* recycled DIR POLICY: ckpt_save, durable, over the blocks of the save before the last. */
double bench_recycled(bench *b, int n, char **args) {
  ckpt_error err = {0};
  (void)n;
  if (open_one == NULL && warm_up(b, args[0], args[1], false, &err) != CKPT_OK) return bench_failed(b, &err);
  double start = bench_now();
  ckpt_status st = ckpt_save(open_one, ++last_epoch, &err);
  return st == CKPT_OK ? bench_now() - start : bench_failed(b, &err);
}

/* stall DIR POLICY: how long ckpt_save_async keeps the trainer; the rest of the save is not counted. */
double bench_stall(bench *b, int n, char **args) {
  ckpt_error err = {0};
  (void)n;
  if (open_one == NULL && warm_up(b, args[0], args[1], true, &err) != CKPT_OK) return bench_failed(b, &err);
  double start = bench_now();
  ckpt_status st = ckpt_save_async(open_one, ++last_epoch, &err);
  double took = bench_now() - start;
  if (st == CKPT_OK) st = ckpt_wait(open_one, &err);
  return st == CKPT_OK ? took : bench_failed(b, &err);
}

double bench_close_run(bench *b, int n, char **args) {
  (void)b, (void)n, (void)args;
  ckpt_checkpointer_close(open_one);
  open_one = NULL;
  return 0;
}

/* ---- the machine ---- */

enum { PIECE = 4 << 20 };

typedef struct copy {
  const bench_model *m;
  char *to;
  size_t *at, *size, *of;
  const char **from;
  size_t n;
} copy;

static size_t bytes_of(const bench_model *m, size_t i) {
  size_t size = sizeof(float);
  for (int d = 0; d < m->ndim[i]; d++) size *= (size_t)m->shape[i][d];
  return size;
}

static void copy_piece(void *context, size_t i) {
  const copy *c = context;
  memcpy(c->to + c->at[i], c->from[i], c->size[i]);
}

static bool plan_copy(copy *c, const bench_model *m) {
  size_t n = m->bytes / PIECE + m->n + 1, at = 0;
  c->at = calloc(n, sizeof *c->at);
  c->size = calloc(n, sizeof *c->size);
  c->from = calloc(n, sizeof *c->from);
  if (c->at == NULL || c->size == NULL || c->from == NULL) return false;
  for (size_t i = 0; i < m->n; i++)
    for (size_t done = 0, k; done < bytes_of(m, i); done += k, at += k) {
      k = bytes_of(m, i) - done < PIECE ? bytes_of(m, i) - done : PIECE;
      c->at[c->n] = at;
      c->size[c->n] = k;
      c->from[c->n++] = (const char *)m->data[i] + done;
    }
  return true;
}

/* memcpy_state THREADS: the model's arrays into memory that has been touched before. */
double bench_memcpy_state(bench *b, int n, char **args) {
  static char *to;
  static size_t size;
  copy c = {0};
  (void)n;
  if (size < b->model.bytes) {
    if (to != NULL) munmap(to, size);
    size = b->model.bytes;
    to = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (to == MAP_FAILED) return bench_fail(b, "no memory");
    madvise(to, size, MADV_HUGEPAGE);
    memset(to, 1, size);
  }
  c.to = to;
  if (!plan_copy(&c, &b->model)) return bench_fail(b, "no memory");
  double start = bench_now();
  ckpt_parallel(copy_piece, &c, c.n, (unsigned)strtoul(args[0], NULL, 10));
  double took = bench_now() - start;
  free(c.at);
  free(c.size);
  free(c.from);
  return took;
}

/* fork_state: what the trainer waits for when a child gets its pages, and the price of its next pass over them. */
double bench_fork_state(bench *b, int n, char **args) {
  int tell[2];
  (void)n, (void)args;
  if (pipe(tell) != 0) return bench_fail(b, "pipe: %s", strerror(errno));
  double start = bench_now();
  pid_t pid = fork();
  if (pid == 0) { /* holds the pages until the parent has written to each */
    char c;
    close(tell[1]);
    _exit(read(tell[0], &c, 1) == 0 ? 0 : 1);
  }
  if (pid < 0) return bench_fail(b, "fork: %s", strerror(errno));
  for (size_t i = 0; i < b->model.n; i++)
    for (size_t at = 0; at < bytes_of(&b->model, i); at += 4096) ((volatile float *)b->model.data[i])[at / 4] += 0;
  double took = bench_now() - start;
  close(tell[0]);
  close(tell[1]);
  waitpid(pid, NULL, 0);
  return took;
}
