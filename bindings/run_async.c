/*
 * run_async.c - saves in a thread of their own. The trainer stops for the policy's plan and for a snapshot of its
 * arrays; writing, syncing, aliases, ledger and retirement are the thread's, one save after another, in the order and
 * by the very function of a save that is waited for (ckpt_save_job_do).
 *
 *   trainer   plan, settings, snapshot, document -> queue          ... later calls: reap what has ended
 *   thread                                 queue -> publish, aliases, ledger, retirement; the snapshot's memory is free
 *
 * A plan is made on what the directory will be when all saves before it are done: a model in memory (run_model.c) of
 * the directory, with each plan played on it. A save that fails breaks that promise, so those that were planned on it
 * retire nothing. Only the thread touches the directory while something is under way, but for listing and reading.
 *
 * `lock` guards the queue and the free memory; a node belongs to the trainer before it is queued and once it is done,
 * to the thread in between.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "run.h"

typedef struct node {
  ckpt_save_job job;
  ckpt_snapshot snapshot;
  ckpt_status st;
  ckpt_error err;
  bool done;
  struct node *next;
} node;

struct ckpt_async {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  pthread_t thread;
  bool started, stop;
  node *first, *last, *next; /* oldest first; `next` is the first that is not done */
  bool failed;               /* one has failed since there was nothing under way */
  uint64_t in_use;           /* bytes of snapshots that are under way */
  ckpt_snapshot spare;       /* memory of one that has ended */
  ckpt_model *ahead;
};

/* ---- nodes ---- */

static void free_metrics(ckpt_ledger_entry *e) {
  for (size_t i = 0; i < e->n_metrics; i++) free(e->metrics[i].name);
  free(e->metrics);
}

static void free_node(node *n) {
  if (n == NULL) return;
  ckpt_document_release(n->job.doc);
  ckpt_save_plan_free(&n->job.plan);
  free_metrics(&n->job.entry);
  ckpt_snapshot_free(&n->snapshot);
  free(n);
}

/* The run's metrics go on changing. */
static ckpt_status own_metrics(ckpt_ledger_entry *e, ckpt_error *err) {
  const ckpt_metric *from = e->metrics;
  size_t n = e->n_metrics;
  e->metrics = calloc(n + 1, sizeof *e->metrics);
  e->n_metrics = 0;
  if (e->metrics == NULL) return ckpt_fail_nomem(err, (n + 1) * sizeof *e->metrics);
  for (; e->n_metrics < n; e->n_metrics++) {
    ckpt_metric *m = &e->metrics[e->n_metrics];
    *m = (ckpt_metric){strdup(from[e->n_metrics].name), from[e->n_metrics].value};
    if (m->name == NULL) return ckpt_fail_nomem(err, strlen(from[e->n_metrics].name) + 1);
  }
  return CKPT_OK;
}

/* Takes the plan over in any case. */
static ckpt_status new_node(node **out, ckpt_save_job *job, ckpt_error *err) {
  node *n = calloc(1, sizeof *n);
  if (n == NULL) {
    ckpt_save_plan_free(&job->plan);
    return ckpt_fail_nomem(err, sizeof *n);
  }
  n->job = *job;
  n->job.entry.event = n->job.event;
  job->plan = (ckpt_save_plan){0};
  ckpt_status st = own_metrics(&n->job.entry, err);
  if (st == CKPT_OK)
    *out = n;
  else
    free_node(n);
  return st;
}

/* ---- the thread ---- */

/* The lock is held, but not while the job is done. */
static void do_next(struct ckpt_async *a) {
  node *n = a->next;
  n->job.keep_all = a->failed;
  pthread_mutex_unlock(&a->lock);
  n->st = ckpt_save_job_do(&n->job, &n->err);
  ckpt_document_release(n->job.doc);
  n->job.doc = NULL;
  pthread_mutex_lock(&a->lock);
  a->failed |= n->st != CKPT_OK;
  a->in_use -= n->snapshot.capacity;
  if (n->snapshot.capacity >= a->spare.capacity) {
    ckpt_snapshot smaller = a->spare;
    a->spare = n->snapshot;
    n->snapshot = smaller;
  }
  n->done = true;
  a->next = n->next;
  pthread_cond_broadcast(&a->changed);
}

static void *work(void *arg) {
  struct ckpt_async *a = arg;
  pthread_mutex_lock(&a->lock);
  while (a->next != NULL || !a->stop) {
    if (a->next != NULL)
      do_next(a);
    else
      pthread_cond_wait(&a->changed, &a->lock);
  }
  pthread_mutex_unlock(&a->lock);
  return NULL;
}

/* Signals are the host's, in the host's threads. Without a thread the saves are done by whoever queues them. */
static void start(struct ckpt_async *a) {
  sigset_t all, before;
  sigfillset(&all);
  if (a->started || pthread_sigmask(SIG_SETMASK, &all, &before) != 0) return;
  a->started = pthread_create(&a->thread, NULL, work, a) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static ckpt_status make(ckpt_checkpointer *cp, ckpt_error *err) {
  if (cp->async == NULL) {
    struct ckpt_async *a = calloc(1, sizeof *a);
    if (a == NULL) return ckpt_fail_nomem(err, sizeof *a);
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->changed, NULL);
    cp->async = a;
  }
  start(cp->async);
  if (cp->async->ahead == NULL) return ckpt_model_of(&cp->async->ahead, cp->dir, 0, err);
  return CKPT_OK;
}

ckpt_model *ckpt_async_ahead(const ckpt_checkpointer *cp) { return cp->async == NULL ? NULL : cp->async->ahead; }

/* ---- queueing ---- */

/* Back-pressure: a snapshot more than there may be waits for one to end. */
static void take_memory(struct ckpt_async *a, node *n, size_t size, uint64_t most) {
  pthread_mutex_lock(&a->lock);
  while (a->in_use > 0 && a->in_use + size > most) pthread_cond_wait(&a->changed, &a->lock);
  n->snapshot = a->spare;
  a->spare = (ckpt_snapshot){0};
  pthread_mutex_unlock(&a->lock);
}

static void count_memory(struct ckpt_async *a, const node *n) {
  pthread_mutex_lock(&a->lock);
  a->in_use += n->snapshot.capacity;
  pthread_mutex_unlock(&a->lock);
}

static ckpt_status freeze(ckpt_checkpointer *cp, node *n, ckpt_error *err) {
  const ckpt_save_plan *plan = &n->job.plan;
  const ckpt_strings *parts = plan->all_parts ? NULL : &plan->parts;
  if (plan->reuse) return CKPT_OK;
  size_t size = ckpt_snapshot_size(cp, parts);
  take_memory(cp->async, n, size, cp->async_memory);
  CKPT_TRY(ckpt_snapshot_freeze(&n->snapshot, cp, parts, err));
  ckpt_status st = ckpt_save_document(&n->job.doc, cp, plan, err);
  ckpt_snapshot_thaw(cp);
  cp->async->ahead->bytes = size;
  return st;
}

static void queue(struct ckpt_async *a, node *n) {
  count_memory(a, n);
  pthread_mutex_lock(&a->lock);
  if (a->last != NULL)
    a->last->next = n;
  else
    a->first = n;
  a->last = n;
  if (a->next == NULL) a->next = n;
  pthread_cond_broadcast(&a->changed);
  if (!a->started) do_next(a);
  pthread_mutex_unlock(&a->lock);
}

/* What a plan sets is part of what is saved. */
static ckpt_status prepare(ckpt_checkpointer *cp, node *n, ckpt_error *err) {
  ckpt_save_plan *plan = &n->job.plan;
  const ckpt_ledger_entry *line = plan->no_ledger ? NULL : &n->job.entry;
  for (size_t i = 0; i < plan->n_set; i++) ckpt_setting_swap(&plan->set[i]);
  ckpt_status st = freeze(cp, n, err);
  if (st == CKPT_OK) st = ckpt_model_do(cp->async->ahead, plan, line, n->job.entry.time, err);
  for (size_t i = plan->n_set; st != CKPT_OK && i-- > 0;) ckpt_setting_swap(&plan->set[i]);
  return st;
}

ckpt_status ckpt_async_submit(ckpt_checkpointer *cp, ckpt_save_job *job, ckpt_error *err) {
  node *n = NULL;
  CKPT_TRY(new_node(&n, job, err));
  ckpt_status st = make(cp, err);
  if (st == CKPT_OK) st = prepare(cp, n, err);
  if (st != CKPT_OK) {
    free_node(n);
    return st;
  }
  queue(cp->async, n);
  return CKPT_OK;
}

/* ---- reaping ---- */

/* The oldest that has ended; NULL for none. With `all` waits for the oldest there is. */
static node *take_done(struct ckpt_async *a, bool all) {
  pthread_mutex_lock(&a->lock);
  while (all && a->first != NULL && !a->first->done) pthread_cond_wait(&a->changed, &a->lock);
  node *n = a->first != NULL && a->first->done ? a->first : NULL;
  if (n != NULL) a->first = n->next;
  if (a->first == NULL) a->last = NULL;
  pthread_mutex_unlock(&a->lock);
  return n;
}

/* What the plan of a save that failed had set stays: later saves were planned on it, and it may have changed since. */
static ckpt_status tell(ckpt_checkpointer *cp, node *n, ckpt_error *err) {
  if (n->st == CKPT_OK) return ckpt_save_job_done(cp, &n->job, err);
  ckpt_fail(err, n->st, n->err.position, "the save of epoch %lld that was under way: %s", (long long)n->job.entry.epoch,
            n->err.message);
  if (err != NULL) err->sys = n->err.sys;
  return n->st;
}

/* Nothing is under way: the directory itself is the truth again. */
static void end_ahead(struct ckpt_async *a) {
  if (a->first != NULL) return;
  ckpt_model_free(a->ahead);
  a->ahead = NULL;
  a->failed = false;
}

ckpt_status ckpt_async_reap(ckpt_checkpointer *cp, bool all, ckpt_error *err) {
  ckpt_status first = CKPT_OK;
  node *n;
  if (cp->async == NULL) return CKPT_OK;
  while ((n = take_done(cp->async, all)) != NULL) {
    ckpt_status st = tell(cp, n, first == CKPT_OK ? err : NULL);
    if (first == CKPT_OK) first = st;
    free_node(n);
  }
  end_ahead(cp->async);
  return first;
}

void ckpt_async_free(ckpt_checkpointer *cp) {
  struct ckpt_async *a = cp->async;
  ckpt_error err = {0};
  if (a == NULL) return;
  if (ckpt_async_reap(cp, true, &err) != CKPT_OK) ckpt_log(cp, CKPT_LOG_WARNING, "%s", err.message);
  pthread_mutex_lock(&a->lock);
  a->stop = true;
  pthread_cond_broadcast(&a->changed);
  pthread_mutex_unlock(&a->lock);
  if (a->started) pthread_join(a->thread, NULL);
  ckpt_snapshot_free(&a->spare);
  pthread_cond_destroy(&a->changed);
  pthread_mutex_destroy(&a->lock);
  free(a);
  cp->async = NULL;
}
