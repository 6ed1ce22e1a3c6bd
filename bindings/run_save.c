/*
 * run_save.c - a save: the policy plans, the runtime writes. The order is the protocol's: new file durable, aliases,
 * ledger, retirement. A policy that fails is told in one line and the file is written without it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "run.h"

enum { MAX_POLICY_FAILURES = 3 };

/* ---- the plan, or what is done without one ---- */

static ckpt_status fallback_plan(ckpt_save_plan *plan, const ckpt_checkpointer *cp, ckpt_error *err) {
  char name[64];
  snprintf(name, sizeof name, "model_epoch%lld.pth", (long long)cp->epoch);
  *plan = (ckpt_save_plan){.all_parts = true, .file = strdup(name)};
  if (plan->file == NULL) return ckpt_fail_nomem(err, sizeof name);
  return ckpt_strings_add(&plan->aliases, "model_latest.pth", 16, err);
}

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
  if (cp->policy_failures >= MAX_POLICY_FAILURES) return fallback_plan(plan, cp, err);
  ckpt_status st = ask_policy(plan, cp, best, &here);
  if (st == CKPT_OK) {
    cp->policy_failures = 0;
    return CKPT_OK;
  }
  if (st == CKPT_E_IO) { /* the directory itself, not the policy */
    if (err != NULL) *err = here;
    return st;
  }
  cp->policy_failures++;
  ckpt_log(cp, CKPT_LOG_WARNING, "%s: checkpoint saved, nothing deleted", here.message);
  if (cp->policy_failures == MAX_POLICY_FAILURES)
    ckpt_log(cp, CKPT_LOG_WARNING,
             "the policy has failed %d times in a row and is set aside: every save is kept from now on",
             MAX_POLICY_FAILURES);
  return fallback_plan(plan, cp, err);
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

static ckpt_status write_file(uint64_t *bytes, ckpt_checkpointer *cp, const ckpt_save_plan *plan, ckpt_error *err) {
  ckpt_document *doc = NULL;
  CKPT_TRY(ckpt_run_document(&doc, cp, plan->all_parts ? NULL : &plan->parts, err));
  ckpt_status st = add_extra(doc, plan->extra, err);
  if (st == CKPT_OK) st = ckpt_checkpoint_publish(cp->dir, plan->file, ckpt_document_root(doc), bytes, err);
  ckpt_document_release(doc);
  return st;
}

/* The values that the plan sets are part of what is saved; if the file cannot be written they are taken back. */
static ckpt_status write_with_settings(uint64_t *bytes, ckpt_checkpointer *cp, ckpt_save_plan *plan, ckpt_error *err) {
  for (size_t i = 0; i < plan->n_set; i++) ckpt_setting_swap(&plan->set[i]);
  ckpt_status st = plan->reuse ? CKPT_OK : write_file(bytes, cp, plan, err);
  for (size_t i = plan->n_set; st != CKPT_OK && i-- > 0;) ckpt_setting_swap(&plan->set[i]);
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
static ckpt_status size_of(uint64_t *bytes, ckpt_checkpointer *cp, const char *name, ckpt_error *err) {
  ckpt_dir_entry *list = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_dir_list(&list, &n, cp->dir, err));
  for (size_t i = 0; i < n; i++)
    if (strcmp(list[i].name, name) == 0) *bytes = list[i].bytes;
  ckpt_dir_list_free(list, n);
  return CKPT_OK;
}

static ckpt_status do_on_disk(ckpt_checkpointer *cp, ckpt_save_plan *plan, ckpt_ledger_entry *entry, ckpt_error *err) {
  CKPT_TRY(write_with_settings(&entry->bytes, cp, plan, err));
  if (plan->reuse) CKPT_TRY(size_of(&entry->bytes, cp, plan->file, err));
  for (size_t i = 0; i < plan->aliases.n; i++)
    CKPT_TRY(ckpt_dir_alias(cp->dir, plan->file, plan->aliases.items[i], err));
  if (!plan->no_ledger) CKPT_TRY(ckpt_run_append(cp, entry, err));
  return ckpt_dir_retire(cp->dir, (const char *const *)plan->retire.items, plan->retire.n, err);
}

static ckpt_status do_plan(ckpt_checkpointer *cp, ckpt_save_plan *plan, bool best, ckpt_error *err) {
  char event[8];
  snprintf(event, sizeof event, "%s", best ? "best" : "save");
  CKPT_TRY(ckpt_spare_pinned(cp, plan, err));
  ckpt_ledger_entry entry = entry_of(cp, plan, event, best);
  if (cp->model == NULL) return do_on_disk(cp, plan, &entry, err);
  for (size_t i = 0; i < plan->n_set; i++) ckpt_setting_swap(&plan->set[i]);
  return ckpt_model_do(cp->model, plan, plan->no_ledger ? NULL : &entry, cp->now, err);
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
  return CKPT_OK;
}

static ckpt_status plan_and_do(ckpt_checkpointer *cp, bool best, bool *improved, ckpt_error *err) {
  ckpt_save_plan plan = {0};
  ckpt_status st = make_plan(&plan, cp, best, err);
  if (st == CKPT_OK && plan.file != NULL) st = do_plan(cp, &plan, best, err);
  for (size_t i = 0; st == CKPT_OK && i < plan.log.n; i++) ckpt_log(cp, CKPT_LOG_INFO, "%s", plan.log.items[i]);
  if (st == CKPT_OK && improved != NULL) *improved = plan.result;
  if (st == CKPT_OK) return keep_plan(cp, &plan, err);
  ckpt_save_plan_free(&plan);
  return st;
}

/* ---- is it due? ---- */

/* A policy that cannot say costs no checkpoint: the save is made. */
static ckpt_status ask_due(bool *due, char **why, ckpt_checkpointer *cp, ckpt_error *err) {
  ckpt_error here = {0};
  *due = true;
  if (cp->policy_failures >= MAX_POLICY_FAILURES) return CKPT_OK;
  ckpt_status st = ckpt_ask_due(due, why, cp, &here);
  if (st == CKPT_OK) return CKPT_OK;
  *due = true;
  if (st != CKPT_E_IO) {
    ckpt_log(cp, CKPT_LOG_WARNING, "%s: taken for due", here.message);
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
ckpt_status ckpt_save(ckpt_checkpointer *cp, int64_t epoch, ckpt_error *err) {
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

ckpt_status ckpt_save_best(ckpt_checkpointer *cp, int64_t epoch, bool *improved, ckpt_error *err) {
  if (improved != NULL) *improved = false;
  if (cp->rank != 0) return CKPT_OK;
  ckpt_begin_call(cp);
  ckpt_begin_epoch(cp, epoch);
  return plan_and_do(cp, true, improved, err);
}
