/*
 * run_load.c - all or nothing: candidates are opened and verified, the policy's plan is checked whole against file and
 * model, every source is made ready, and only then is anything written into the trainer's memory. The last step cannot
 * fail.
 */
#include <stdio.h>
#include <stdlib.h>

#include "load_stage.h"

/* ---- candidates ---- */

static bool is_path(const ckpt_checkpointer *cp, const char *file) {
  return strchr(file, '/') != NULL || (cp->weights != NULL && strcmp(file, cp->weights) == 0);
}

static char *candidate_path(const ckpt_checkpointer *cp, const char *file) {
  if (is_path(cp, file)) return strdup(file);
  size_t n = strlen(cp->path) + strlen(file) + 2;
  char *path = malloc(n);
  if (path != NULL) snprintf(path, n, "%s/%s", cp->path, file);
  return path;
}

/* A name of the run's directory by its descriptor: what the path leads to meanwhile may be another directory. */
static ckpt_status open_whole(ckpt_checkpoint **source, const ckpt_checkpointer *run, const char *file,
                              const char *path, ckpt_error *err) {
  ckpt_checkpoint *cp = NULL;
  bool here = run->dir != NULL && !is_path(run, file);
  CKPT_TRY(here ? ckpt_checkpoint_open_in(&cp, run->dir, file, NULL, err) : ckpt_checkpoint_open(&cp, path, NULL, err));
  ckpt_status st = ckpt_checkpoint_verify_to_read(cp, err);
  if (st == CKPT_OK) {
    *source = cp;
    return CKPT_OK;
  }
  ckpt_checkpoint_close(cp);
  return ckpt_fail_in(err, st, path);
}

static ckpt_status try_candidate(ckpt_checkpoint **source, char **path, const ckpt_checkpointer *cp,
                                 const ckpt_candidate *c, ckpt_error *err) {
  char *p = candidate_path(cp, c->file);
  if (p == NULL) return ckpt_fail_nomem(err, strlen(c->file) + strlen(cp->path) + 2);
  ckpt_status st = open_whole(source, cp, c->file, p, err);
  if (st == CKPT_OK)
    *path = p;
  else
    free(p);
  return st;
}

/* A file of the run's own that is broken; what cannot be read, is too large or of a newer kind may well be whole. */
static ckpt_status note_invalid(ckpt_strings *invalid, const ckpt_candidate *c, ckpt_status st, ckpt_error *err) {
  bool broken = (st == CKPT_E_CORRUPT || st == CKPT_E_FORMAT) && c->resume && ckpt_name_check(c->file, NULL) == CKPT_OK;
  return broken ? ckpt_strings_add(invalid, c->file, strlen(c->file), err) : CKPT_OK;
}

static ckpt_status choose(ckpt_checkpoint **source, char **path, ckpt_candidate *chosen, ckpt_strings *invalid,
                          ckpt_checkpointer *cp, const ckpt_candidates *list, ckpt_error *err) {
  ckpt_error first = {0};
  for (size_t i = 0; i < list->n; i++) {
    ckpt_error here = {0};
    ckpt_status st = try_candidate(source, path, cp, &list->items[i], &here);
    if (st == CKPT_OK) {
      *chosen = list->items[i];
      if (i > 0) ckpt_log(cp, CKPT_LOG_WARNING, "  taking %s instead", *path);
      return CKPT_OK;
    }
    if (i == 0) first = here;
    if (!list->items[i].must && st != CKPT_E_NOMEM) {
      ckpt_log(cp, CKPT_LOG_WARNING, "%s", here.message);
      CKPT_TRY(note_invalid(invalid, &list->items[i], st, err));
      continue;
    }
    if (err != NULL) *err = here;
    return st;
  }
  if (list->n == 0) return CKPT_OK; /* scratch */
  if (err != NULL) *err = first;
  return first.status; /* starting over beside checkpoints that cannot be read would be the wrong kind of help */
}

ckpt_status ckpt_choose_source(ckpt_checkpoint **source, char **path, ckpt_candidate *chosen, ckpt_strings *invalid,
                               ckpt_checkpointer *cp, ckpt_error *err) {
  ckpt_candidates list = {0};
  *source = NULL;
  *path = NULL;
  CKPT_TRY(ckpt_plan_candidates(&list, cp, err));
  ckpt_status st = choose(source, path, chosen, invalid, cp, &list, err);
  if (st == CKPT_OK && *source != NULL && (chosen->file = strdup(chosen->file)) == NULL) st = ckpt_fail_nomem(err, 64);
  ckpt_candidates_free(&list);
  return st;
}

/* ---- doing it ---- */

static int64_t file_epoch(const ckpt_checkpoint *source) {
  const ckpt_value *v = ckpt_value_get(ckpt_checkpoint_root(source), "epoch");
  int64_t epoch = INT64_MIN;
  if (v != NULL) ckpt_value_int(&epoch, v, NULL);
  return epoch;
}

static void finish(ckpt_checkpointer *cp, const ckpt_load_plan *plan, int64_t epoch, bool resumed) {
  bool counts = resumed && epoch > INT64_MIN && epoch < INT64_MAX;
  cp->next_epoch = plan->has_next_epoch ? plan->next_epoch : counts ? epoch + 1 : 1;
  for (size_t i = 0; i < plan->log.n; i++) ckpt_log(cp, CKPT_LOG_INFO, "%s", plan->log.items[i]);
}

/* Everything made ready and checked, and written unless it is only asked for. */
static ckpt_status carry_out(ckpt_checkpointer *cp, ckpt_load_record *r, const ckpt_checkpoint *source, bool dry,
                             ckpt_error *err) {
  ckpt_stage s = {.cp = cp, .source = source, .record = r, .resume = r->mode == CKPT_RESUMED, .err = err};
  s.dry = dry || r->plan.refuse != NULL;
  ckpt_status st = ckpt_stage_plan(&s);
  if (st == CKPT_OK && !dry) {
    ckpt_stage_commit(&s);
    finish(cp, &r->plan, r->epoch, s.resume);
    if (s.kept > 0 && s.resume)
      ckpt_log(cp, CKPT_LOG_WARNING, "%s: %zu bound values are not in the file and stay as they are", r->path, s.kept);
  }
  ckpt_stage_free(&s);
  return st;
}

/* An error's message is short: where there are more violations than one, the log has each of them. */
static void log_violations(const ckpt_checkpointer *cp, const ckpt_load_record *r) {
  for (size_t i = 0; r->violations.n > 1 && i < r->violations.n; i++)
    ckpt_log(cp, CKPT_LOG_WARNING, "%s: %s", r->path, r->violations.items[i]);
  for (size_t i = 0; i < r->plan.n_suggestions; i++)
    ckpt_log(cp, CKPT_LOG_WARNING, "  %s %s (would match %lld)?", i == 0 ? "did you mean" : "or",
             r->suggestions[i].text, (long long)r->suggestions[i].matches);
}

static ckpt_status record_source(ckpt_load_record **out, ckpt_checkpointer *cp, const ckpt_checkpoint *source,
                                 const ckpt_candidate *chosen, char **path, ckpt_error *err) {
  ckpt_load_plan plan = {0};
  const char *mode = source == NULL ? "scratch" : chosen->resume ? "resume" : "pretrain";
  CKPT_TRY(ckpt_plan_load(&plan, cp, source, source == NULL ? NULL : chosen->file, *path, mode, err));
  CKPT_TRY(ckpt_load_record_new(out, cp, &plan, path, err));
  (*out)->mode = source == NULL ? CKPT_SCRATCH : chosen->resume ? CKPT_RESUMED : CKPT_PRETRAINED;
  (*out)->epoch = source == NULL ? INT64_MIN : file_epoch(source);
  return CKPT_OK;
}

static ckpt_status load_source(ckpt_load_record **out, ckpt_checkpointer *cp, const ckpt_checkpoint *source,
                               const ckpt_candidate *chosen, char **path, bool dry, ckpt_error *err) {
  CKPT_TRY(record_source(out, cp, source, chosen, path, err));
  if (source != NULL) return carry_out(cp, *out, source, dry, err);
  const char *refuse = (*out)->plan.refuse;
  if (refuse != NULL) return ckpt_fail(err, CKPT_E_CONTRACT, -1, "%s: %s", cp->path, refuse);
  if (!dry) finish(cp, &(*out)->plan, INT64_MIN, false);
  return CKPT_OK;
}

ckpt_status ckpt_load_run(ckpt_load_record **out, ckpt_checkpointer *cp, bool dry, ckpt_error *err) {
  ckpt_error here = {0};
  ckpt_checkpoint *source = NULL;
  ckpt_candidate chosen = {0};
  ckpt_strings invalid = {0};
  char *path = NULL;
  *out = NULL;
  CKPT_TRY(ckpt_async_reap(cp, true, err));
  ckpt_status st = ckpt_choose_source(&source, &path, &chosen, &invalid, cp, &here);
  if (st == CKPT_OK) st = load_source(out, cp, source, &chosen, &path, dry, &here);
  if (st == CKPT_OK && !dry && cp->rank == 0 && cp->dir != NULL) ckpt_recover_invalid(cp, &invalid);
  ckpt_strings_free(&invalid);
  if (source != NULL) free(chosen.file);
  free(path);
  ckpt_checkpoint_close(source);
  if (st != CKPT_OK && err != NULL) *err = here;
  return st;
}

/* What a failure that the contract is not about has left in a record is of no use to anyone. */
static bool is_about_contract(ckpt_status st) {
  return st == CKPT_OK || st == CKPT_E_CONTRACT || st == CKPT_E_SHAPE || st == CKPT_E_UNSUPPORTED;
}

ckpt_status ckpt_load(ckpt_checkpointer *cp, ckpt_load_report *report, ckpt_error *err) {
  ckpt_load_record *r = NULL;
  ckpt_status st = ckpt_load_run(&r, cp, false, err);
  if (!is_about_contract(st)) {
    ckpt_load_record_free(r);
    r = NULL;
  }
  ckpt_load_record_free(cp->record);
  cp->record = r;
  if (st != CKPT_OK && r != NULL) log_violations(cp, r);
  if (report != NULL) *report = ckpt_load_record_view(r);
  return st;
}
