/*
 * run_trust.c - what becomes of a policy that fails while training goes on. Each cause is told once; a function that
 * has failed three times in a row has the whole policy set aside, which is told once too. From then on every save is
 * the runtime's own, and nothing is deleted.
 */
#include <stdio.h>
#include <stdlib.h>

#include "run.h"

enum { MOST_CAUSES = 32 };

static bool is_news(ckpt_checkpointer *cp, const char *message) {
  if (ckpt_strings_has(&cp->told, message)) return false;
  if (cp->told.n >= MOST_CAUSES) ckpt_strings_free(&cp->told);
  ckpt_strings_add(&cp->told, message, strlen(message), NULL); /* without memory it is told again */
  return true;
}

void ckpt_policy_worked(ckpt_checkpointer *cp, ckpt_asked what) { cp->failures_in_row[what] = 0; }

void ckpt_policy_failed(ckpt_checkpointer *cp, ckpt_asked what, const char *message) {
  static const char *const instead[] = {"checkpoint saved, nothing deleted", "checkpoint saved, nothing deleted",
                                        "taken for due"};
  if (is_news(cp, message)) ckpt_log(cp, CKPT_LOG_WARNING, "%s: %s", message, instead[what]);
  if (++cp->failures_in_row[what] < CKPT_POLICY_FAILURES || cp->policy_failures >= CKPT_POLICY_FAILURES) return;
  cp->policy_failures = CKPT_POLICY_FAILURES;
  ckpt_log(cp, CKPT_LOG_WARNING,
           "the policy %s has failed %d times in a row and is set aside: from now on every save is kept as "
           "model_epoch<N>.pth and nothing is deleted",
           cp->policy, CKPT_POLICY_FAILURES);
}

/* ---- a save without a policy ---- */

static ckpt_status add_number(ckpt_document *doc, const char *key, int64_t number, ckpt_error *err) {
  ckpt_value *v = NULL;
  if (number == INT64_MIN) return CKPT_OK;
  CKPT_TRY(ckpt_value_new_int(&v, doc, number, err));
  return ckpt_value_set(ckpt_document_root(doc), doc, key, v, err);
}

/* Without its epoch in it a checkpoint would be resumed as if nothing had been trained. */
static ckpt_status add_moment(ckpt_save_plan *plan, const ckpt_checkpointer *cp, ckpt_error *err) {
  ckpt_value *root = NULL;
  CKPT_TRY(ckpt_document_new(&plan->extra, err));
  CKPT_TRY(ckpt_value_new_dict(&root, plan->extra, false, err));
  ckpt_document_set_root(plan->extra, root);
  CKPT_TRY(add_number(plan->extra, "epoch", cp->epoch, err));
  return add_number(plan->extra, "step", cp->step, err);
}

ckpt_status ckpt_plan_without_policy(ckpt_save_plan *plan, const ckpt_checkpointer *cp, ckpt_error *err) {
  char name[64];
  snprintf(name, sizeof name, "model_epoch%lld.pth", (long long)cp->epoch);
  *plan = (ckpt_save_plan){.all_parts = true, .file = strdup(name)};
  ckpt_status st = plan->file == NULL ? ckpt_fail_nomem(err, sizeof name) : add_moment(plan, cp, err);
  if (st == CKPT_OK) st = ckpt_strings_add(&plan->aliases, "model_latest.pth", 16, err);
  if (st != CKPT_OK) ckpt_save_plan_free(plan);
  return st;
}
