/*
 * run_recover.c - what a run mends in its own directory, each thing with a line in the log:
 *
 *   an alias of the last save, or of the last best, that is gone (the directory was restored or copied without it) is
 *   made again when the run is opened;
 *   a checkpoint that proved not to be valid, while an older one was loaded in its place, is set aside as
 *   NAME.corrupt. Its content is never deleted. Names it shared go to the newest other save that had them (that of a
 *   best to the next best) and is valid; where there is none, the name is gone rather than a trap.
 *
 * The ledger's line "corrupt" comes first: from then on the save is no candidate, no best, and fills no pool.
 * Nothing here makes a load or an opening fail: what cannot be mended is told and left.
 */
#include <stdio.h>
#include <stdlib.h>

#include "run.h"

static bool is_event(const ckpt_ledger_entry *e, const char *event) {
  return e->file != NULL && strcmp(e->event, event) == 0;
}

static bool names_it(char *const *names, size_t n, const char *name) {
  for (size_t i = 0; i < n; i++)
    if (strcmp(names[i], name) == 0) return true;
  return false;
}

/* ---- aliases that are gone ---- */

static bool retired_since(const ckpt_ledger *ledger, size_t at, const char *name) {
  for (size_t i = at + 1; i < ledger->n; i++)
    if (names_it(ledger->entries[i].retired, ledger->entries[i].n_retired, name)) return true;
  return false;
}

static void restore(const ckpt_checkpointer *cp, const char *file, const char *alias) {
  ckpt_error err = {0};
  if (ckpt_dir_alias(cp->dir, file, alias, &err) == CKPT_OK)
    ckpt_log(cp, CKPT_LOG_WARNING, "%s was missing: it is another name of %s again", alias, file);
  else
    ckpt_log(cp, CKPT_LOG_WARNING, "%s is missing and cannot be made again: %s", alias, err.message);
}

/* Only the last entry of a kind speaks of what should be there now. */
static void restore_aliases(const ckpt_checkpointer *cp, const ckpt_ledger *ledger, const char *event) {
  size_t at = ledger->n;
  while (at > 0 && !is_event(&ledger->entries[at - 1], event)) at--;
  if (at == 0) return;
  const ckpt_ledger_entry *e = &ledger->entries[at - 1];
  if (!ckpt_dir_has(cp->dir, e->file)) return;
  for (size_t i = 0; i < e->n_aliases; i++) {
    const char *alias = e->aliases[i];
    if (!ckpt_dir_has(cp->dir, alias) && !retired_since(ledger, at - 1, alias)) restore(cp, e->file, alias);
  }
}

void ckpt_recover_aliases(ckpt_checkpointer *cp) {
  const ckpt_ledger *ledger = NULL;
  ckpt_error err = {0};
  if (ckpt_run_ledger(&ledger, cp, &err) != CKPT_OK) {
    ckpt_log(cp, CKPT_LOG_WARNING, "%s", err.message);
    return;
  }
  if (ledger == NULL) return;
  restore_aliases(cp, ledger, "save");
  restore_aliases(cp, ledger, "best");
}

/* ---- who inherits a name ---- */

typedef struct estate { /* a file that is set aside */
  ckpt_checkpointer *cp;
  const char *file;
  ckpt_strings bad; /* files that were looked at and are not valid, and `file` */
} estate;

/* An heir is a valid file of the run; what is found invalid is remembered, and set aside when a load meets it. */
static bool may_inherit(estate *e, const char *file) {
  if (ckpt_strings_has(&e->bad, file) || !ckpt_dir_has(e->cp->dir, file)) return false;
  if (ckpt_verify_in(e->cp->path, file, NULL) == CKPT_OK) return true;
  ckpt_strings_add(&e->bad, file, strlen(file), NULL); /* without memory for it it is looked at again */
  return false;
}

/* The newest other save that had the alias. */
static const char *last_owner(estate *e, const ckpt_ledger *ledger, const char *alias, const char *event) {
  for (size_t i = ledger->n; i-- > 0;) {
    const ckpt_ledger_entry *at = &ledger->entries[i];
    if (is_event(at, event) && names_it(at->aliases, at->n_aliases, alias) && may_inherit(e, at->file)) return at->file;
  }
  return NULL;
}

/* The best that is left, if the alias was that of the run's best: by the policy, which knows what is better. */
static char *next_best(estate *e, const ckpt_ledger *ledger, const char *alias) {
  ckpt_strings rows = {0};
  char *heir = NULL;
  bool of_best = false;
  for (size_t i = 0; i < ledger->n; i++) {
    const ckpt_ledger_entry *at = &ledger->entries[i];
    if (names_it(at->aliases, at->n_aliases, alias)) of_best = at->best;
  }
  if (!of_best || ckpt_ask_files(&rows, e->cp, "ranking", NULL) != CKPT_OK) return NULL;
  for (size_t i = 0; heir == NULL && i + 1 < rows.n; i += 2)
    if (may_inherit(e, rows.items[i])) heir = strdup(rows.items[i]);
  ckpt_strings_free(&rows);
  return heir;
}

static char *heir_of(estate *e, const char *alias) {
  const ckpt_ledger *ledger = NULL;
  if (ckpt_run_ledger(&ledger, e->cp, NULL) != CKPT_OK || ledger == NULL) return NULL;
  const char *file = last_owner(e, ledger, alias, "save");
  char *heir = file == NULL ? next_best(e, ledger, alias) : NULL;
  if (file == NULL && heir == NULL && ckpt_run_ledger(&ledger, e->cp, NULL) == CKPT_OK)
    file = last_owner(e, ledger, alias, "best");
  return file == NULL ? heir : strdup(file);
}

/* A name that is one of the run's and belongs to the file that is set aside. */
static void pass_on(estate *e, const char *alias) {
  ckpt_error err = {0};
  char *heir = heir_of(e, alias);
  ckpt_status st = heir != NULL ? ckpt_dir_alias(e->cp->dir, heir, alias, &err)
                                : ckpt_dir_retire(e->cp->dir, (const char *const *)&alias, 1, &err);
  if (st != CKPT_OK)
    ckpt_log(e->cp, CKPT_LOG_WARNING, "  %s", err.message);
  else if (heir != NULL)
    ckpt_log(e->cp, CKPT_LOG_WARNING, "  %s is another name of %s now", alias, heir);
  else
    ckpt_log(e->cp, CKPT_LOG_WARNING, "  %s is gone: no other checkpoint that had the name is valid", alias);
  free(heir);
}

/* ---- setting aside ---- */

static ckpt_status enter(const ckpt_checkpointer *cp, const char *file, ckpt_error *err) {
  char event[] = "corrupt", name[256];
  snprintf(name, sizeof name, "%s", file);
  ckpt_ledger_entry e = {.event = event, .time = cp->now, .epoch = INT64_MIN, .step = INT64_MIN, .file = name};
  return ckpt_ledger_append(cp->dir, &e, err);
}

static uint64_t inode_of(const ckpt_dir_entry *list, size_t n, const char *name) {
  for (size_t i = 0; i < n; i++)
    if (strcmp(list[i].name, name) == 0) return list[i].inode;
  return 0;
}

static bool is_alias(ckpt_checkpointer *cp, const char *name) {
  const ckpt_ledger *ledger = NULL;
  if (ckpt_run_ledger(&ledger, cp, NULL) != CKPT_OK || ledger == NULL) return false;
  for (size_t i = 0; i < ledger->n; i++)
    if (names_it(ledger->entries[i].aliases, ledger->entries[i].n_aliases, name)) return true;
  return false;
}

/* The file has a name to stay under: those it had go. A name that is none of the run's is somebody else's, and stays.
 */
static ckpt_status give_up_names(estate *e, const ckpt_dir_entry *list, size_t n, ckpt_error *err) {
  uint64_t inode = inode_of(list, n, e->file);
  for (size_t i = 0; i < n; i++)
    if (list[i].inode == inode && is_alias(e->cp, list[i].name)) pass_on(e, list[i].name);
  return is_alias(e->cp, e->file) ? CKPT_OK : ckpt_dir_retire(e->cp->dir, &e->file, 1, err);
}

static ckpt_status set_aside(estate *e, ckpt_error *err) {
  char to[CKPT_ASIDE_NAME];
  ckpt_dir_entry *list = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_dir_list(&list, &n, e->cp->dir, err));
  ckpt_status st = enter(e->cp, e->file, err);
  if (st == CKPT_OK) st = ckpt_dir_keep_aside(to, e->cp->dir, e->file, err);
  if (st == CKPT_OK) ckpt_log(e->cp, CKPT_LOG_WARNING, "  %s is set aside as %s", e->file, to);
  if (st == CKPT_OK) st = give_up_names(e, list, n, err);
  ckpt_dir_list_free(list, n);
  return st;
}

void ckpt_recover_invalid(ckpt_checkpointer *cp, const ckpt_strings *files) {
  ckpt_begin_call(cp);
  ckpt_dir_set_recycle(cp->dir, false);
  for (size_t i = 0; i < files->n; i++) {
    ckpt_error err = {0};
    estate e = {.cp = cp, .file = files->items[i]};
    ckpt_status st = CKPT_OK;
    for (size_t k = 0; st == CKPT_OK && k < files->n; k++)
      st = ckpt_strings_add(&e.bad, files->items[k], strlen(files->items[k]), &err);
    if (st == CKPT_OK) st = set_aside(&e, &err);
    if (st != CKPT_OK) ckpt_log(cp, CKPT_LOG_WARNING, "  %s cannot be set aside: %s", e.file, err.message);
    ckpt_strings_free(&e.bad);
  }
}
