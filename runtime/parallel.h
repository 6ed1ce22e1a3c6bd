/*
 * parallel.h - one piece of work spread over threads that live as long as the call. Nothing outlives it, so that a host
 * may fork, unload or be without threads of its own. All signals are blocked in the threads: the host's handlers run
 * where the host expects them.
 */
#ifndef CKPT_PARALLEL_H
#define CKPT_PARALLEL_H

#include <pthread.h>

#include "base.h"

typedef void (*ckpt_task)(void *context, size_t i);

/*
 * Calls task(context, i) once for each i in [0, n), in any order, in up to `threads` threads, the caller's being one;
 * returns when all are done. A thread that cannot be had is done without, so this cannot fail.
 */
void ckpt_parallel(ckpt_task task, void *context, size_t n, unsigned threads);

/* Threads worth having for work on so many bytes: the processors that we may run on, at most 16; 1 for little work. */
unsigned ckpt_parallel_threads(size_t bytes);

/*
 * One piece of work beside the caller's own: start, do something else, join. Where no thread can be had the work is
 * done by start itself. `b` must stay where it is in between.
 */
typedef struct ckpt_beside {
  void (*work)(void *context);
  void *context;
  pthread_t thread;
  bool started;
} ckpt_beside;

void ckpt_beside_start(ckpt_beside *b, void (*work)(void *context), void *context);
void ckpt_beside_join(ckpt_beside *b);

#endif
