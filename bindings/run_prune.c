/*
 * run_prune.c - removing what no pool wants, outside of a save; pins.
 *
 * A save has just written and verified a file when it retires others. A prune has not: so it first looks for the newest
 * checkpoint that is valid, and that one stays, whatever the policy says.
 */
#include <stdio.h>
#include <stdlib.h>

#include "run.h"

/* ---- pins ---- */

static void remove_at(ckpt_strings *s, size_t i) {
  if (i >= s->n) return;
  free(s->items[i]);
  memmove(&s->items[i], &s->items[i + 1], (s->n - i - 1) * sizeof *s->items);
  s->n--;
}

static void spare(ckpt_save_plan *plan, size_t i) {
  remove_at(&plan->retire, i);
  remove_at(&plan->why, i);
}

ckpt_status ckpt_spare_pinned(ckpt_checkpointer *cp, ckpt_save_plan *plan, ckpt_error *err) {
  const ckpt_ledger *ledger = NULL;
  if (plan->retire.n == 0) return CKPT_OK;
  CKPT_TRY(ckpt_run_ledger(&ledger, cp, err));
  for (size_t i = plan->retire.n; i-- > 0;) {
    if (!ckpt_ledger_pinned(ledger, plan->retire.items[i])) continue;
    ckpt_log(cp, CKPT_LOG_INFO, "%s stays: it is pinned", plan->retire.items[i]);
    spare(plan, i);
  }
  return CKPT_OK;
}

/* The epoch and step of the last save that wrote the file. */
static void find_save(ckpt_ledger_entry *e, const ckpt_ledger *ledger) {
  for (size_t i = ledger == NULL ? 0 : ledger->n; i-- > 0;) {
    const ckpt_ledger_entry *at = &ledger->entries[i];
    if (at->file == NULL || strcmp(at->file, e->file) != 0 || at->epoch == INT64_MIN) continue;
    e->epoch = at->epoch;
    e->step = at->step;
    return;
  }
}

static ckpt_status enter_pin(ckpt_dir *dir, const ckpt_ledger_entry *e, bool pinned, ckpt_error *err) {
  if (pinned && !ckpt_dir_has(dir, e->file))
    return ckpt_fail(err, CKPT_E_NOTFOUND, -1, "%s/%s: there is no such file to pin", ckpt_dir_path(dir), e->file);
  return ckpt_ledger_append(dir, e, err);
}

/* With the lock where it is free, without it where a run has it: see ckpt_ledger_append. */
static ckpt_status open_shared(ckpt_dir **dir, const char *path, ckpt_error *err) {
  ckpt_status st = ckpt_dir_open(dir, path, false, true, NULL, err);
  return st == CKPT_E_BUSY ? ckpt_dir_open(dir, path, false, false, NULL, err) : st;
}

ckpt_status ckpt_pin(ckpt_checkpointer *cp, const char *file, bool pinned, ckpt_error *err) {
  char event[8], name[256];
  const ckpt_ledger *ledger = NULL;
  ckpt_dir *dir = NULL;
  CKPT_TRY(ckpt_name_check(file, err));
  CKPT_TRY(ckpt_run_ledger(&ledger, cp, err));
  snprintf(event, sizeof event, "%s", pinned ? "pin" : "unpin");
  snprintf(name, sizeof name, "%s", file);
  ckpt_begin_call(cp);
  ckpt_ledger_entry e = {.event = event, .time = cp->now, .epoch = INT64_MIN, .step = INT64_MIN, .file = name};
  find_save(&e, ledger);
  if (cp->model != NULL) return ckpt_ledger_add(cp->model->ledger, &e, err);
  if (cp->rank == 0 && cp->dir != NULL) return enter_pin(cp->dir, &e, pinned, err);
  CKPT_TRY(open_shared(&dir, cp->path, err));
  ckpt_status st = enter_pin(dir, &e, pinned, err);
  ckpt_dir_close(dir);
  return st;
}

/* ---- the newest valid one ---- */

ckpt_status ckpt_verify_in(ckpt_dir *dir, const char *name, ckpt_error *err) {
  static const ckpt_open_options options = {.verify = true};
  ckpt_checkpoint *cp = NULL;
  ckpt_status st = ckpt_checkpoint_open_in(&cp, dir, name, &options, err);
  ckpt_checkpoint_close(cp);
  return st;
}

/* Of the files that the ledger knows, from its end. What is not valid is logged. */
static ckpt_status newest_valid(char **out, ckpt_checkpointer *cp, const ckpt_ledger *ledger, ckpt_error *err) {
  ckpt_strings tried = {0};
  ckpt_error first = {0}, here = {0};
  ckpt_status st = CKPT_OK;
  for (size_t i = ledger->n; st == CKPT_OK && *out == NULL && i-- > 0;) {
    const char *name = ledger->entries[i].file, *event = ledger->entries[i].event;
    if (strcmp(event, "save") != 0 && strcmp(event, "best") != 0) continue;
    if (name == NULL || ckpt_strings_has(&tried, name) || !ckpt_dir_has(cp->dir, name)) continue;
    st = ckpt_strings_add(&tried, name, strlen(name), err);
    if (st != CKPT_OK) break;
    if (ckpt_verify_in(cp->dir, name, &here) == CKPT_OK) {
      *out = strdup(name);
      if (*out == NULL) st = ckpt_fail_nomem(err, strlen(name) + 1);
      continue;
    }
    if (tried.n == 1) first = here;
    ckpt_log(cp, CKPT_LOG_WARNING, "%s", here.message);
  }
  if (st == CKPT_OK && *out == NULL)
    st = ckpt_fail(err, CKPT_E_CONTRACT, -1, "%s: no checkpoint of the run is valid, so nothing is removed (%s)",
                   cp->path, first.message);
  ckpt_strings_free(&tried);
  return st;
}

static ckpt_status spare_valid(ckpt_save_plan *plan, char **spared, ckpt_checkpointer *cp, ckpt_error *err) {
  const ckpt_ledger *ledger = NULL;
  char *valid = NULL;
  if (plan->retire.n == 0 || cp->dir == NULL) return CKPT_OK;
  CKPT_TRY(ckpt_run_ledger(&ledger, cp, err));
  CKPT_TRY(newest_valid(&valid, cp, ledger, err));
  for (size_t i = 0; i < plan->retire.n; i++) {
    if (strcmp(plan->retire.items[i], valid) != 0) continue;
    spare(plan, i);
    *spared = valid;
    return CKPT_OK;
  }
  free(valid);
  return CKPT_OK;
}

/* ---- removing ---- */

/* First the ledger's line, then the files, as a save does it: what is gone has its entry. */
static ckpt_status remove_files(ckpt_checkpointer *cp, const ckpt_save_plan *plan, ckpt_error *err) {
  char event[] = "prune";
  ckpt_ledger_entry e = {.event = event, .time = cp->now, .epoch = INT64_MIN, .step = INT64_MIN};
  e.retired = plan->retire.items;
  e.n_retired = plan->retire.n;
  CKPT_TRY(ckpt_ledger_append(cp->dir, &e, err));
  return ckpt_dir_retire(cp->dir, (const char *const *)plan->retire.items, plan->retire.n, err);
}

static bool is_known(const ckpt_ledger *ledger, const char *name) {
  for (size_t i = 0; ledger != NULL && i < ledger->n; i++) {
    const ckpt_ledger_entry *e = &ledger->entries[i];
    if (e->file != NULL && strcmp(e->file, name) == 0) return true;
    for (size_t k = 0; k < e->n_aliases; k++)
      if (strcmp(e->aliases[k], name) == 0) return true;
  }
  return false;
}

/* Only what the run itself has written goes, whatever the policy says. */
static ckpt_status check_names(ckpt_checkpointer *cp, const ckpt_save_plan *plan, ckpt_error *err) {
  const ckpt_ledger *ledger = NULL;
  CKPT_TRY(ckpt_run_ledger(&ledger, cp, err));
  for (size_t i = 0; i < plan->retire.n; i++)
    if (!is_known(ledger, plan->retire.items[i]))
      return ckpt_fail(err, CKPT_E_POLICY, -1, "the plan removes '%s', which is no file of this run's ledger",
                       plan->retire.items[i]);
  return CKPT_OK;
}

ckpt_status ckpt_prune(ckpt_save_plan *plan, char **spared, ckpt_checkpointer *cp, bool act, ckpt_error *err) {
  *spared = NULL;
  if (act && (cp->rank != 0 || cp->dir == NULL))
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "%s: only rank 0 of a run on the disk removes files", cp->path);
  CKPT_TRY(ckpt_ask_prune(plan, cp, err));
  ckpt_status st = check_names(cp, plan, err);
  if (st == CKPT_OK) st = ckpt_spare_pinned(cp, plan, err);
  if (st == CKPT_OK) st = spare_valid(plan, spared, cp, err);
  if (st == CKPT_OK && act && plan->retire.n > 0) st = remove_files(cp, plan, err);
  if (st != CKPT_OK) ckpt_save_plan_free(plan);
  return st;
}
