/*
 * run_save.c - a save: the policy plans, the runtime writes. The order is the protocol's: new file durable, aliases,
 * ledger, retirement. A policy that fails is told in one line and the file is written without it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "run.h"

/* ---- the plan ---- */

/* `reuse` names a file of this very epoch that is there already; anything else would give old content a new meaning. */
static ckpt_status check_reuse(const ckpt_save_plan *plan, ckpt_checkpointer *cp, ckpt_error *err) {
  ckpt_run_view view;
  bool found = false, there = false;
  if (!plan->reuse || plan->file == NULL) return CKPT_OK;
  CKPT_TRY(ckpt_run_view_read(&view, cp, err));
  const ckpt_ledger *ledger = view.ledger;
  for (size_t i = 0; i < ledger->n; i++) {
    const ckpt_ledger_entry *e = &ledger->entries[i];
    if (e->file != NULL && strcmp(e->file, plan->file) == 0) found = e->epoch == cp->epoch;
  }
  for (size_t i = 0; i < view.n_files; i++) there |= strcmp(view.files[i].name, plan->file) == 0;
  ckpt_run_view_free(&view);
  if (found && there) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_POLICY, -1, "the plan reuses '%s', which holds no save of epoch %lld", plan->file,
                   (long long)cp->epoch);
}

static ckpt_status ask_policy(ckpt_save_plan *plan, ckpt_checkpointer *cp, bool best, ckpt_error *err) {
  CKPT_TRY(ckpt_plan_save(plan, cp, best, err));
  ckpt_status st = check_reuse(plan, cp, err);
  if (st != CKPT_OK) ckpt_save_plan_free(plan);
  return st;
}

static ckpt_status make_plan(ckpt_save_plan *plan, ckpt_checkpointer *cp, bool best, ckpt_error *err) {
  ckpt_error here = {0};
  ckpt_asked what = best ? CKPT_ASKED_BEST : CKPT_ASKED_SAVE;
  if (cp->policy_failures >= CKPT_POLICY_FAILURES) return ckpt_plan_without_policy(plan, cp, err);
  ckpt_status st = ask_policy(plan, cp, best, &here);
  if (st == CKPT_OK) {
    ckpt_policy_worked(cp, what);
    return CKPT_OK;
  }
  if (st == CKPT_E_IO) { /* the directory itself, not the policy */
    if (err != NULL) *err = here;
    return st;
  }
  ckpt_policy_failed(cp, what, here.message);
  return ckpt_plan_without_policy(plan, cp, err);
}

/* ---- writing ---- */

static ckpt_status add_extra(ckpt_document *doc, const ckpt_document *extra, ckpt_error *err) {
  const ckpt_value *from = extra == NULL ? NULL : ckpt_document_root(extra);
  for (size_t i = 0; from != NULL && i < ckpt_value_pair_count(from); i++) {
    ckpt_value *copy = NULL;
    const ckpt_value *key = ckpt_value_pair_key(from, i);
    if (ckpt_value_kind(key) != CKPT_STR) continue;
    CKPT_TRY(ckpt_value_clone(&copy, doc, ckpt_value_pair_value(from, i), err));
    CKPT_TRY(ckpt_value_set(ckpt_document_root(doc), doc, ckpt_value_text(key, NULL), copy, err));
  }
  return CKPT_OK;
}

ckpt_status ckpt_save_document(ckpt_document **out, const ckpt_checkpointer *cp, const ckpt_save_plan *plan,
                               ckpt_error *err) {
  ckpt_document *doc = NULL;
  CKPT_TRY(ckpt_run_document(&doc, cp, plan->all_parts ? NULL : &plan->parts, err));
  ckpt_status st = add_extra(doc, plan->extra, err);
  if (st == CKPT_OK)
    *out = doc;
  else
    ckpt_document_release(doc);
  return st;
}

ckpt_status ckpt_run_append(ckpt_checkpointer *cp, const ckpt_ledger_entry *entry, ckpt_error *err) {
  return cp->model != NULL ? ckpt_ledger_add(cp->model->ledger, entry, err) : ckpt_ledger_append(cp->dir, entry, err);
}

/* What the ledger is told of a save; it borrows from the plan and the run. */
static ckpt_ledger_entry entry_of(const ckpt_checkpointer *cp, const ckpt_save_plan *plan, char *event, bool best) {
  return (ckpt_ledger_entry){.event = event,
                             .time = cp->now,
                             .epoch = cp->epoch,
                             .step = cp->step,
                             .file = plan->file,
                             .best = best && plan->result,
                             .n_aliases = plan->aliases.n,
                             .n_retired = plan->retire.n,
                             .n_metrics = cp->n_metrics,
                             .aliases = plan->aliases.items,
                             .retired = plan->retire.items,
                             .metrics = cp->metrics};
}

/* The size of a file that is there already. */
static ckpt_status size_of(uint64_t *bytes, ckpt_dir *dir, const char *name, ckpt_error *err) {
  ckpt_dir_entry *list = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_dir_list(&list, &n, dir, err));
  for (size_t i = 0; i < n; i++)
    if (strcmp(list[i].name, name) == 0) *bytes = list[i].bytes;
  ckpt_dir_list_free(list, n);
  return CKPT_OK;
}

static ckpt_status change_names(ckpt_save_job *job, ckpt_error *err) {
  const ckpt_save_plan *plan = &job->plan;
  if (job->doc == NULL)
    CKPT_TRY(size_of(&job->entry.bytes, job->dir, plan->file, err));
  else
    CKPT_TRY(ckpt_checkpoint_publish(job->dir, plan->file, ckpt_document_root(job->doc), &job->entry.bytes, err));
  for (size_t i = 0; i < plan->aliases.n; i++)
    CKPT_TRY(ckpt_dir_alias(job->dir, plan->file, plan->aliases.items[i], err));
  return plan->no_ledger ? CKPT_OK : ckpt_ledger_append(job->dir, &job->entry, err);
}

/* Until the ledger knows of it a save can be taken back, and is when it fails. Then it is made: what cannot be removed
 * is told, and tried again by the next save. */
ckpt_status ckpt_save_job_do(ckpt_save_job *job, ckpt_error *err) {
  const ckpt_save_plan *plan = &job->plan;
  ckpt_dir_set_recycle(job->dir, plan->recycle);
  ckpt_dir_hold(job->dir);
  ckpt_status st = change_names(job, err);
  if (st != CKPT_OK) {
    ckpt_dir_undo(job->dir);
    return st;
  }
  ckpt_dir_keep(job->dir);
  if (!job->keep_all) ckpt_dir_retire(job->dir, (const char *const *)plan->retire.items, plan->retire.n, &job->stays);
  return CKPT_OK;
}

/* The values that the plan sets are part of what is saved; if the file cannot be written they are taken back. */
static ckpt_status do_now(ckpt_checkpointer *cp, ckpt_save_job *job, ckpt_error *err) {
  ckpt_save_plan *plan = &job->plan;
  for (size_t i = 0; i < plan->n_set; i++) ckpt_setting_swap(&plan->set[i]);
  ckpt_status st = plan->reuse ? CKPT_OK : ckpt_save_document(&job->doc, cp, plan, err);
  if (st == CKPT_OK) st = ckpt_save_job_do(job, err);
  for (size_t i = plan->n_set; st != CKPT_OK && i-- > 0;) ckpt_setting_swap(&plan->set[i]);
  ckpt_document_release(job->doc);
  return st;
}

static ckpt_status do_in_memory(ckpt_checkpointer *cp, ckpt_save_plan *plan, const ckpt_ledger_entry *entry,
                                ckpt_error *err) {
  for (size_t i = 0; i < plan->n_set; i++) ckpt_setting_swap(&plan->set[i]);
  return ckpt_model_do(cp->model, plan, plan->no_ledger ? NULL : entry, cp->now, err);
}

/* A save that is waited for comes after those that are under way. */
static ckpt_status do_waited(ckpt_checkpointer *cp, ckpt_save_job *job, ckpt_error *err) {
  ckpt_error earlier = {0};
  ckpt_status before = ckpt_async_reap(cp, true, &earlier), st = do_now(cp, job, err);
  if (st == CKPT_OK) st = ckpt_save_job_done(cp, job, err);
  if (st == CKPT_OK && before != CKPT_OK && err != NULL) *err = earlier;
  return st == CKPT_OK ? before : st;
}

/* The plan is kept, for whoever asks what was done. */
static ckpt_status keep_plan(ckpt_checkpointer *cp, ckpt_save_plan *plan, ckpt_error *err) {
  if (cp->done == NULL) cp->done = calloc(1, sizeof *cp->done);
  if (cp->done == NULL) {
    ckpt_save_plan_free(plan);
    return ckpt_fail_nomem(err, sizeof *plan);
  }
  ckpt_save_plan_free(cp->done);
  *cp->done = *plan;
  *plan = (ckpt_save_plan){0};
  return CKPT_OK;
}

ckpt_status ckpt_save_done(ckpt_checkpointer *cp, ckpt_save_plan *plan, ckpt_error *err) {
  for (size_t i = 0; i < plan->log.n; i++) ckpt_log(cp, CKPT_LOG_INFO, "%s", plan->log.items[i]);
  return keep_plan(cp, plan, err);
}

ckpt_status ckpt_save_job_done(ckpt_checkpointer *cp, ckpt_save_job *job, ckpt_error *err) {
  if (job->stays.status != CKPT_OK) ckpt_log(cp, CKPT_LOG_WARNING, "%s; the save itself is made", job->stays.message);
  return ckpt_save_done(cp, &job->plan, err);
}

/* Takes the plan. */
static ckpt_status do_plan(ckpt_checkpointer *cp, ckpt_save_plan *plan, bool best, ckpt_error *err) {
  ckpt_save_job job = {.dir = cp->dir};
  ckpt_status st = plan->file == NULL ? CKPT_OK : ckpt_spare_pinned(cp, plan, err);
  if (st == CKPT_OK && plan->file == NULL) return ckpt_save_done(cp, plan, err);
  snprintf(job.event, sizeof job.event, "%s", best ? "best" : "save");
  job.entry = entry_of(cp, plan, job.event, best);
  if (st == CKPT_OK && cp->model != NULL) {
    st = do_in_memory(cp, plan, &job.entry, err);
    if (st == CKPT_OK) return ckpt_save_done(cp, plan, err);
  }
  job.plan = *plan;
  *plan = (ckpt_save_plan){0};
  if (st == CKPT_OK && (job.plan.async || cp->asynchronous)) return ckpt_async_submit(cp, &job, err);
  if (st == CKPT_OK) st = do_waited(cp, &job, err);
  ckpt_save_plan_free(&job.plan);
  return st;
}

/* First what has ended meanwhile is told. Its failure is reported, but costs this save nothing. */
static ckpt_status plan_and_do(ckpt_checkpointer *cp, bool best, bool *improved, ckpt_error *err) {
  ckpt_save_plan plan = {0};
  ckpt_error earlier = {0};
  ckpt_status before = ckpt_async_reap(cp, false, &earlier), st = make_plan(&plan, cp, best, err);
  bool better = plan.result;
  if (st == CKPT_OK) st = do_plan(cp, &plan, best, err);
  if (st == CKPT_OK && improved != NULL) *improved = better;
  if (st == CKPT_OK && before != CKPT_OK && err != NULL) *err = earlier;
  return st == CKPT_OK ? before : st;
}

/* ---- is it due? ---- */

/* A policy that cannot say costs no checkpoint: the save is made. */
static ckpt_status ask_due(bool *due, char **why, ckpt_checkpointer *cp, ckpt_error *err) {
  ckpt_error here = {0};
  *due = true;
  if (cp->policy_failures >= CKPT_POLICY_FAILURES) return CKPT_OK;
  ckpt_status st = ckpt_ask_due(due, why, cp, &here);
  if (st == CKPT_OK) {
    ckpt_policy_worked(cp, CKPT_ASKED_DUE);
    return CKPT_OK;
  }
  *due = true;
  if (st != CKPT_E_IO) {
    ckpt_policy_failed(cp, CKPT_ASKED_DUE, here.message);
    return CKPT_OK;
  }
  if (err != NULL) *err = here;
  return st;
}

ckpt_status ckpt_should_save(ckpt_checkpointer *cp, int64_t epoch, bool *due, ckpt_error *err) {
  *due = false;
  if (cp->rank != 0) return CKPT_OK;
  ckpt_begin_call(cp);
  ckpt_begin_epoch(cp, epoch);
  cp->signal = ckpt_save_requested(cp);
  return ask_due(due, NULL, cp, err);
}

/* A request that comes while the file is written is one for the next save. */
static ckpt_status save_if_due(ckpt_checkpointer *cp, int64_t epoch, ckpt_error *err) {
  bool due = true;
  ckpt_save_plan not_due = {.result = false};
  if (cp->rank != 0) return CKPT_OK;
  ckpt_begin_call(cp);
  ckpt_begin_epoch(cp, epoch);
  cp->signal = atomic_exchange(&cp->requested, false);
  ckpt_status st = ask_due(&due, &not_due.reason, cp, err);
  if (st == CKPT_OK && due) {
    free(not_due.reason);
    st = plan_and_do(cp, false, NULL, err);
  } else if (st == CKPT_OK) {
    st = keep_plan(cp, &not_due, err);
  }
  if (st != CKPT_OK && cp->signal) ckpt_request_save(cp);
  return st;
}

static ckpt_status save_best(ckpt_checkpointer *cp, int64_t epoch, bool *improved, ckpt_error *err) {
  if (improved != NULL) *improved = false;
  if (cp->rank != 0) return CKPT_OK;
  ckpt_begin_call(cp);
  ckpt_begin_epoch(cp, epoch);
  return plan_and_do(cp, true, improved, err);
}

ckpt_status ckpt_save(ckpt_checkpointer *cp, int64_t epoch, ckpt_error *err) { return save_if_due(cp, epoch, err); }

ckpt_status ckpt_save_best(ckpt_checkpointer *cp, int64_t epoch, bool *improved, ckpt_error *err) {
  return save_best(cp, epoch, improved, err);
}

ckpt_status ckpt_save_async(ckpt_checkpointer *cp, int64_t epoch, ckpt_error *err) {
  cp->asynchronous = true;
  ckpt_status st = save_if_due(cp, epoch, err);
  cp->asynchronous = false;
  return st;
}

ckpt_status ckpt_save_best_async(ckpt_checkpointer *cp, int64_t epoch, bool *improved, ckpt_error *err) {
  cp->asynchronous = true;
  ckpt_status st = save_best(cp, epoch, improved, err);
  cp->asynchronous = false;
  return st;
}

ckpt_status ckpt_wait(ckpt_checkpointer *cp, ckpt_error *err) { return ckpt_async_reap(cp, true, err); }
