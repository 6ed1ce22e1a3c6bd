/* parallel.c - see parallel.h. Who is free takes the next number; the number is all that the threads share. */
#include "parallel.h"

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

enum { MAX_THREADS = 16 };
#define LITTLE_WORK ((size_t)4 << 20) /* starting and joining a thread costs what copying 200 KB does */

typedef struct shared {
  ckpt_task task;
  void *context;
  size_t n;
  atomic_size_t next;
} shared;

/* Signals are blocked while threads are made, which inherit that. */
static unsigned start(pthread_t *threads, unsigned wanted, void *(*run)(void *), void *arg) {
  sigset_t all, before;
  unsigned n = 0;
  sigfillset(&all);
  if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0) return 0;
  while (n < wanted && pthread_create(&threads[n], NULL, run, arg) == 0) n++;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return n;
}

static void *work(void *arg) {
  shared *s = arg;
  for (;;) {
    size_t i = atomic_fetch_add_explicit(&s->next, 1, memory_order_relaxed);
    if (i >= s->n) return NULL;
    s->task(s->context, i);
  }
}

void ckpt_parallel(ckpt_task task, void *context, size_t n, unsigned threads) {
  pthread_t helpers[MAX_THREADS];
  shared s = {.task = task, .context = context, .n = n};
  atomic_init(&s.next, 0);
  if (threads > MAX_THREADS) threads = MAX_THREADS;
  if (threads > n) threads = (unsigned)n;
  unsigned started = threads > 1 ? start(helpers, threads - 1, work, &s) : 0;
  work(&s);
  for (unsigned i = 0; i < started; i++) pthread_join(helpers[i], NULL);
}

unsigned ckpt_parallel_threads(size_t bytes) {
  cpu_set_t set;
  if (bytes < LITTLE_WORK || sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  int n = CPU_COUNT(&set);
  return n > MAX_THREADS ? MAX_THREADS : n < 1 ? 1 : (unsigned)n;
}

/* ---- beside ---- */

static void *work_beside(void *arg) {
  ckpt_beside *b = arg;
  b->work(b->context);
  return NULL;
}

void ckpt_beside_start(ckpt_beside *b, void (*run)(void *context), void *context) {
  b->work = run;
  b->context = context;
  b->started = start(&b->thread, 1, work_beside, b) == 1;
  if (!b->started) run(context);
}

void ckpt_beside_join(ckpt_beside *b) {
  if (b->started) pthread_join(b->thread, NULL);
  b->started = false;
}
