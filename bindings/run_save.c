/*
 * run_save.c - a save: the policy plans, the runtime writes. The order is the protocol's: new file durable, aliases,
 * ledger, retirement. A policy that fails is told in one line and the file is written without it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "run.h"

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
  ckpt_ledger *ledger = NULL;
  bool found = false;
  if (!plan->reuse || plan->file == NULL) return CKPT_OK;
  CKPT_TRY(ckpt_ledger_read(&ledger, cp->dir, err));
  for (size_t i = 0; i < ledger->n; i++) {
    const ckpt_ledger_entry *e = &ledger->entries[i];
    if (e->file != NULL && strcmp(e->file, plan->file) == 0) found = e->epoch == cp->epoch;
  }
  ckpt_ledger_free(ledger);
  if (found && ckpt_dir_has(cp->dir, plan->file)) return CKPT_OK;
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
  if (cp->policy_failures >= CKPT_POLICY_FAILURES) return fallback_plan(plan, cp, err);
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

static ckpt_status append_ledger(ckpt_checkpointer *cp, const ckpt_save_plan *plan, bool best, uint64_t bytes,
                                 ckpt_error *err) {
  char event[8];
  snprintf(event, sizeof event, "%s", best ? "best" : "save");
  ckpt_ledger_entry e = {event,
                         time(NULL),
                         cp->epoch,
                         cp->step,
                         plan->file,
                         bytes,
                         best && plan->result,
                         plan->aliases.n,
                         plan->retire.n,
                         cp->n_metrics,
                         plan->aliases.items,
                         plan->retire.items,
                         cp->metrics};
  return ckpt_ledger_append(cp->dir, &e, err);
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

static ckpt_status do_plan(ckpt_checkpointer *cp, ckpt_save_plan *plan, bool best, ckpt_error *err) {
  uint64_t bytes = 0;
  CKPT_TRY(write_with_settings(&bytes, cp, plan, err));
  if (plan->reuse) CKPT_TRY(size_of(&bytes, cp, plan->file, err));
  for (size_t i = 0; i < plan->aliases.n; i++)
    CKPT_TRY(ckpt_dir_alias(cp->dir, plan->file, plan->aliases.items[i], err));
  if (!plan->no_ledger) CKPT_TRY(append_ledger(cp, plan, best, bytes, err));
  return ckpt_dir_retire(cp->dir, (const char *const *)plan->retire.items, plan->retire.n, err);
}

static ckpt_status save(ckpt_checkpointer *cp, int64_t epoch, bool best, bool *improved, ckpt_error *err) {
  ckpt_save_plan plan = {0};
  if (cp->rank != 0) return CKPT_OK;
  ckpt_begin_epoch(cp, epoch);
  ckpt_status st = make_plan(&plan, cp, best, err);
  if (st == CKPT_OK && plan.file != NULL) st = do_plan(cp, &plan, best, err);
  for (size_t i = 0; st == CKPT_OK && i < plan.log.n; i++) ckpt_log(cp, CKPT_LOG_INFO, "%s", plan.log.items[i]);
  if (st == CKPT_OK && improved != NULL) *improved = plan.result;
  ckpt_save_plan_free(&plan);
  return st;
}

ckpt_status ckpt_save(ckpt_checkpointer *cp, int64_t epoch, ckpt_error *err) {
  return save(cp, epoch, false, NULL, err);
}

ckpt_status ckpt_save_best(ckpt_checkpointer *cp, int64_t epoch, bool *improved, ckpt_error *err) {
  if (improved != NULL) *improved = false;
  return save(cp, epoch, true, improved, err);
}
