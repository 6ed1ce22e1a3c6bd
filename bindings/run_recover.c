/*
 * run_recover.c - what a run mends in its own directory, each thing with a line in the log:
 *
 *   an alias of the last save, or of the last best, that is gone (the directory was restored or copied without it) is
 *   made again when the run is opened;
 *   a checkpoint that proved not to be valid, while an older one was loaded in its place, is set aside as
 *   NAME.corrupt. Its content is never deleted. Aliases it had go to the newest other save that had them (that of a
 *   best to the best that is left) and is valid; where there is none, the alias is gone rather than a trap.
 *
 * The order: the ledger's line "corrupt", from which on the save is no candidate, no best, and fills no pool; the name
 * NAME.corrupt; the aliases; last NAME itself goes. So a NAME that is still there, though the ledger says "corrupt", is
 * one that was interrupted: the next opening goes on with it.
 * Nothing here makes a load or an opening fail: what cannot be mended is told and left.
 */
#include <stdio.h>
#include <stdlib.h>

#include "run.h"

static bool is_event(const ckpt_ledger_entry *e, const char *event) {
  return e->file != NULL && strcmp(e->event, event) == 0;
}

static bool is_save(const ckpt_ledger_entry *e) { return is_event(e, "save") || is_event(e, "best"); }

static bool names_it(char *const *names, size_t n, const char *name) {
  for (size_t i = 0; i < n; i++)
    if (strcmp(names[i], name) == 0) return true;
  return false;
}

/* The ledger, and an empty one where there is none. It is read again if another call has changed it. */
static ckpt_status read_ledger(const ckpt_ledger **out, ckpt_checkpointer *cp, ckpt_error *err) {
  static const ckpt_ledger none = {0};
  CKPT_TRY(ckpt_run_ledger(out, cp, err));
  if (*out == NULL) *out = &none;
  return CKPT_OK;
}

/* ---- who gets an alias ---- */

typedef struct search {
  ckpt_checkpointer *cp;
  const char *alias;
  const ckpt_strings *bad; /* files that are known not to be valid */
  char *heir;              /* what was found */
} search;

static ckpt_status consider(search *s, const char *file, ckpt_error *err) {
  bool other = strcmp(file, s->alias) != 0 && !ckpt_strings_has(s->bad, file) && ckpt_dir_has(s->cp->dir, file);
  ckpt_status st = !other ? CKPT_E_NOTFOUND : ckpt_verify_in(s->cp->dir, file, err);
  if (st == CKPT_E_NOMEM) return st;
  if (st != CKPT_OK) return CKPT_OK; /* not this one */
  s->heir = strdup(file);
  return s->heir == NULL ? ckpt_fail_nomem(err, strlen(file) + 1) : CKPT_OK;
}

/* The newest save that had the alias. */
static ckpt_status last_owner(search *s, const char *event, ckpt_error *err) {
  const ckpt_ledger *ledger = NULL;
  CKPT_TRY(read_ledger(&ledger, s->cp, err));
  for (size_t i = ledger->n; s->heir == NULL && i-- > 0;) {
    const ckpt_ledger_entry *e = &ledger->entries[i];
    if (is_event(e, event) && names_it(e->aliases, e->n_aliases, s->alias)) CKPT_TRY(consider(s, e->file, err));
  }
  return CKPT_OK;
}

static ckpt_status is_of_best(bool *yes, search *s, ckpt_error *err) {
  const ckpt_ledger *ledger = NULL;
  CKPT_TRY(read_ledger(&ledger, s->cp, err));
  *yes = false;
  for (size_t i = 0; i < ledger->n; i++) {
    const ckpt_ledger_entry *e = &ledger->entries[i];
    if (names_it(e->aliases, e->n_aliases, s->alias)) *yes = e->best;
  }
  return CKPT_OK;
}

/* The best that is left, if the alias is that of the run's best: the policy knows what is better. */
static ckpt_status next_best(search *s, ckpt_error *err) {
  ckpt_strings rows = {0};
  bool of_best = false;
  CKPT_TRY(is_of_best(&of_best, s, err));
  if (!of_best) return CKPT_OK;
  ckpt_status st = ckpt_ask_files(&rows, s->cp, "ranking", err);
  bool failed = st != CKPT_OK && st != CKPT_E_NOMEM; /* a policy that cannot say: who had it before? */
  for (size_t i = 0; st == CKPT_OK && s->heir == NULL && i + 1 < rows.n; i += 2) st = consider(s, rows.items[i], err);
  ckpt_strings_free(&rows);
  return failed ? CKPT_OK : st;
}

/* s->heir: a valid file, the caller's; NULL if there is none. */
static ckpt_status find_heir(search *s, ckpt_error *err) {
  CKPT_TRY(last_owner(s, "save", err));
  if (s->heir == NULL) CKPT_TRY(next_best(s, err));
  return s->heir == NULL ? last_owner(s, "best", err) : CKPT_OK;
}

/* ---- aliases that are gone ---- */

static bool retired_since(const ckpt_ledger *ledger, size_t at, const char *name) {
  for (size_t i = at + 1; i < ledger->n; i++)
    if (names_it(ledger->entries[i].retired, ledger->entries[i].n_retired, name)) return true;
  return false;
}

/* What the ledger says is corrupt, and no save has written anew. */
static bool is_corrupt(const ckpt_ledger *ledger, const char *file) {
  bool corrupt = false;
  for (size_t i = 0; i < ledger->n; i++) {
    const ckpt_ledger_entry *e = &ledger->entries[i];
    bool about = (is_save(e) || is_event(e, "corrupt")) && strcmp(e->file, file) == 0;
    if (about) corrupt = !is_save(e);
  }
  return corrupt;
}

static ckpt_status restore(ckpt_checkpointer *cp, const char *alias, ckpt_error *err) {
  ckpt_strings none = {0};
  search s = {.cp = cp, .alias = alias, .bad = &none};
  ckpt_status st = find_heir(&s, err);
  if (st == CKPT_OK && s.heir != NULL) st = ckpt_dir_alias(cp->dir, s.heir, alias, err);
  if (st == CKPT_OK && s.heir != NULL)
    ckpt_log(cp, CKPT_LOG_WARNING, "%s was missing: it is another name of %s again", alias, s.heir);
  free(s.heir);
  return st;
}

/* Adds the missing aliases of the last entry of a kind: only that one speaks of what should be there now. */
static ckpt_status list_missing(ckpt_strings *out, ckpt_checkpointer *cp, const char *event, ckpt_error *err) {
  const ckpt_ledger *ledger = NULL;
  CKPT_TRY(read_ledger(&ledger, cp, err));
  size_t at = ledger->n;
  while (at > 0 && !is_event(&ledger->entries[at - 1], event)) at--;
  if (at == 0) return CKPT_OK;
  const ckpt_ledger_entry *e = &ledger->entries[at - 1];
  bool by_us = is_corrupt(ledger, e->file) || retired_since(ledger, at - 1, e->file);
  if (!by_us && !ckpt_dir_has(cp->dir, e->file)) return CKPT_OK; /* somebody removed it */
  for (size_t i = 0; i < e->n_aliases; i++) {
    const char *alias = e->aliases[i];
    if (!ckpt_dir_has(cp->dir, alias) && !retired_since(ledger, at - 1, alias))
      CKPT_TRY(ckpt_strings_add(out, alias, strlen(alias), err));
  }
  return CKPT_OK;
}

static ckpt_status restore_aliases(ckpt_checkpointer *cp, ckpt_error *err) {
  ckpt_strings missing = {0};
  ckpt_status st = list_missing(&missing, cp, "save", err);
  if (st == CKPT_OK) st = list_missing(&missing, cp, "best", err);
  for (size_t i = 0; st == CKPT_OK && i < missing.n; i++) st = restore(cp, missing.items[i], err);
  ckpt_strings_free(&missing);
  return st;
}

/* ---- setting aside ---- */

static ckpt_status enter(const ckpt_checkpointer *cp, const char *file, ckpt_error *err) {
  char event[] = "corrupt", name[256];
  snprintf(name, sizeof name, "%s", file);
  ckpt_ledger_entry e = {.event = event, .time = cp->now, .epoch = INT64_MIN, .step = INT64_MIN, .file = name};
  return ckpt_ledger_append(cp->dir, &e, err);
}

static bool had_alias(const ckpt_ledger *ledger, const char *name) {
  bool had = false;
  for (size_t i = 0; i < ledger->n; i++)
    had |= names_it(ledger->entries[i].aliases, ledger->entries[i].n_aliases, name);
  return had;
}

static ckpt_status is_alias(bool *yes, ckpt_checkpointer *cp, const char *name, ckpt_error *err) {
  const ckpt_ledger *ledger = NULL;
  CKPT_TRY(read_ledger(&ledger, cp, err));
  *yes = had_alias(ledger, name);
  return CKPT_OK;
}

static ckpt_status pass_on(ckpt_checkpointer *cp, const ckpt_strings *bad, const char *alias, ckpt_error *err) {
  search s = {.cp = cp, .alias = alias, .bad = bad};
  CKPT_TRY(find_heir(&s, err));
  ckpt_status st = s.heir != NULL ? ckpt_dir_alias(cp->dir, s.heir, alias, err)
                                  : ckpt_dir_retire(cp->dir, (const char *const *)&alias, 1, err);
  if (st == CKPT_OK && s.heir != NULL)
    ckpt_log(cp, CKPT_LOG_WARNING, "  %s is another name of %s now", alias, s.heir);
  else if (st == CKPT_OK)
    ckpt_log(cp, CKPT_LOG_WARNING, "  %s is gone: no other checkpoint that had the name is valid", alias);
  free(s.heir);
  return st;
}

/* The file has a name to stay under: the run's other names for it go, then its own. Any further name is not ours. */
static ckpt_status give_up_names(ckpt_checkpointer *cp, const ckpt_strings *bad, const char *file,
                                 const ckpt_dir_entry *list, size_t n, ckpt_error *err) {
  uint64_t inode = 0;
  bool alias = false;
  for (size_t i = 0; i < n; i++)
    if (strcmp(list[i].name, file) == 0) inode = list[i].inode;
  for (size_t i = 0; i < n; i++) {
    if (list[i].inode != inode || strcmp(list[i].name, file) == 0) continue;
    CKPT_TRY(is_alias(&alias, cp, list[i].name, err));
    if (alias) CKPT_TRY(pass_on(cp, bad, list[i].name, err));
  }
  CKPT_TRY(is_alias(&alias, cp, file, err));
  return alias ? pass_on(cp, bad, file, err) : ckpt_dir_retire(cp->dir, &file, 1, err);
}

/* `bad` holds the file, and others that are not valid. */
static ckpt_status set_aside(ckpt_checkpointer *cp, const ckpt_strings *bad, const char *file, ckpt_error *err) {
  char to[CKPT_ASIDE_NAME];
  ckpt_dir_entry *list = NULL;
  size_t n = 0;
  ckpt_dir_set_recycle(cp->dir, false);
  CKPT_TRY(ckpt_dir_list(&list, &n, cp->dir, err));
  ckpt_status st = ckpt_dir_keep_aside(to, cp->dir, file, err);
  if (st == CKPT_OK) ckpt_log(cp, CKPT_LOG_WARNING, "  %s is set aside as %s", file, to);
  if (st == CKPT_OK) st = give_up_names(cp, bad, file, list, n, err);
  ckpt_dir_list_free(list, n);
  return st;
}

void ckpt_recover_invalid(ckpt_checkpointer *cp, const ckpt_strings *files) {
  ckpt_begin_call(cp);
  for (size_t i = 0; i < files->n; i++) {
    ckpt_error err = {0};
    ckpt_status st = enter(cp, files->items[i], &err);
    if (st == CKPT_OK) st = set_aside(cp, files, files->items[i], &err);
    if (st != CKPT_OK) ckpt_log(cp, CKPT_LOG_WARNING, "  %s is not set aside: %s", files->items[i], err.message);
  }
}

/* ---- what was interrupted ---- */

/* Files that the ledger says are corrupt, and that are still there under their own names. */
static ckpt_status list_interrupted(ckpt_strings *out, ckpt_checkpointer *cp, ckpt_error *err) {
  const ckpt_ledger *ledger = NULL;
  CKPT_TRY(read_ledger(&ledger, cp, err));
  for (size_t i = 0; i < ledger->n; i++) {
    const char *file = ledger->entries[i].file;
    if (!is_event(&ledger->entries[i], "corrupt") || !is_corrupt(ledger, file)) continue;
    if (ckpt_strings_has(out, file) || !ckpt_dir_has(cp->dir, file)) continue;
    if (had_alias(ledger, file)) continue; /* it may be another file's by now: the next load looks at it */
    CKPT_TRY(ckpt_strings_add(out, file, strlen(file), err));
  }
  return CKPT_OK;
}

static ckpt_status go_on(ckpt_checkpointer *cp, ckpt_error *err) {
  ckpt_strings files = {0};
  ckpt_status st = list_interrupted(&files, cp, err);
  for (size_t i = 0; st == CKPT_OK && i < files.n; i++) {
    ckpt_log(cp, CKPT_LOG_WARNING, "%s/%s is not valid, says the ledger", cp->path, files.items[i]);
    st = set_aside(cp, &files, files.items[i], err);
  }
  ckpt_strings_free(&files);
  return st;
}

void ckpt_recover(ckpt_checkpointer *cp) {
  ckpt_error err = {0};
  ckpt_begin_call(cp);
  ckpt_status st = go_on(cp, &err);
  if (st == CKPT_OK) st = restore_aliases(cp, &err);
  if (st != CKPT_OK) ckpt_log(cp, CKPT_LOG_WARNING, "%s: not all could be mended: %s", cp->path, err.message);
}
