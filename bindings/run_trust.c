/*
 * run_trust.c - what becomes of a policy that fails while training goes on. Each cause is told once; a function that
 * has failed three times in a row has the whole policy set aside, which is told once too. From then on every save is
 * the runtime's own, and nothing is deleted.
 */
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
