/*
 * run_model.c - a run's directory in memory: names, sizes and a ledger, no contents. Saves are played on it with the
 * very policy, plans and checks of a live run (run_save.c); what it does is what publish.c and ledger.c do to a disk.
 */
#include <lauxlib.h>
#include <stdlib.h>

#include "run.h"

/* ---- names ---- */

/* The place of a name, or where it would be. */
static size_t find(const ckpt_model *m, const char *name, bool *found) {
  size_t low = 0, high = m->n;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (strcmp(m->files[middle].name, name) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  *found = low < m->n && strcmp(m->files[low].name, name) == 0;
  return low;
}

static ckpt_status make_room(ckpt_model *m, ckpt_error *err) {
  if (m->n < m->capacity) return CKPT_OK;
  size_t more = m->capacity == 0 ? 16 : 2 * m->capacity;
  ckpt_dir_entry *bigger = realloc(m->files, more * sizeof *bigger);
  if (bigger == NULL) return ckpt_fail_nomem(err, more * sizeof *bigger);
  m->files = bigger;
  m->capacity = more;
  return CKPT_OK;
}

/* The name is that file's from now on. */
static ckpt_status put(ckpt_model *m, const char *name, const ckpt_dir_entry *file, ckpt_error *err) {
  bool found;
  size_t at = find(m, name, &found);
  if (!found) {
    CKPT_TRY(make_room(m, err));
    char *copy = strdup(name);
    if (copy == NULL) return ckpt_fail_nomem(err, strlen(name) + 1);
    memmove(&m->files[at + 1], &m->files[at], (m->n - at) * sizeof *m->files);
    m->n++;
    m->files[at].name = copy;
  }
  m->files[at] = (ckpt_dir_entry){m->files[at].name, file->bytes, file->mtime, file->inode};
  return CKPT_OK;
}

static void take_away(ckpt_model *m, const char *name) {
  bool found;
  size_t at = find(m, name, &found);
  if (!found) return;
  free(m->files[at].name);
  memmove(&m->files[at], &m->files[at + 1], (m->n - at - 1) * sizeof *m->files);
  m->n--;
}

/* ---- what there is at once ---- */

static int by_inode(const void *a, const void *b) {
  uint64_t x = ((const ckpt_dir_entry *)a)->inode, y = ((const ckpt_dir_entry *)b)->inode;
  return x < y ? -1 : x > y;
}

static ckpt_status measure(ckpt_model *m, ckpt_error *err) {
  size_t files = 0;
  uint64_t bytes = 0;
  ckpt_dir_entry *list = malloc((m->n + 1) * sizeof *list);
  if (list == NULL) return ckpt_fail_nomem(err, (m->n + 1) * sizeof *list);
  if (m->n > 0) memcpy(list, m->files, m->n * sizeof *list);
  qsort(list, m->n, sizeof *list, by_inode);
  for (size_t i = 0; i < m->n; i++) {
    bool again = i > 0 && list[i].inode == list[i - 1].inode;
    if (again || strcmp(list[i].name, CKPT_LEDGER_NAME) == 0) continue;
    files++;
    bytes += list[i].bytes;
  }
  free(list);
  if (files > m->most_files) m->most_files = files;
  if (bytes > m->most_bytes) m->most_bytes = bytes;
  return CKPT_OK;
}

/* ---- playing a plan ---- */

static ckpt_status write_file(ckpt_model *m, const ckpt_save_plan *plan, int64_t now, ckpt_error *err) {
  if (plan->reuse) return CKPT_OK;
  ckpt_dir_entry file = {.bytes = m->bytes, .mtime = now, .inode = m->inodes + 1};
  CKPT_TRY(put(m, plan->file, &file, err));
  m->inodes++;
  return CKPT_OK;
}

static ckpt_status give_aliases(ckpt_model *m, const ckpt_save_plan *plan, ckpt_error *err) {
  bool found;
  size_t at = find(m, plan->file, &found);
  if (!found) return ckpt_fail(err, CKPT_E_NOTFOUND, -1, "the model has no file '%s'", plan->file);
  const ckpt_dir_entry file = m->files[at];
  for (size_t i = 0; i < plan->aliases.n; i++) CKPT_TRY(put(m, plan->aliases.items[i], &file, err));
  return CKPT_OK;
}

/* Where the plan reuses a file, the entry has its size. */
static ckpt_status add_line(ckpt_model *m, const ckpt_save_plan *plan, const ckpt_ledger_entry *entry,
                            ckpt_error *err) {
  bool found;
  ckpt_ledger_entry e = *entry;
  size_t at = find(m, plan->file, &found);
  e.bytes = found ? m->files[at].bytes : 0;
  return ckpt_ledger_add(m->ledger, &e, err);
}

ckpt_status ckpt_model_do(ckpt_model *m, const ckpt_save_plan *plan, const ckpt_ledger_entry *entry, int64_t now,
                          ckpt_error *err) {
  CKPT_TRY(write_file(m, plan, now, err));
  CKPT_TRY(give_aliases(m, plan, err));
  if (entry != NULL) CKPT_TRY(add_line(m, plan, entry, err));
  CKPT_TRY(measure(m, err));
  for (size_t i = 0; i < plan->retire.n; i++) take_away(m, plan->retire.items[i]);
  return CKPT_OK;
}

/* ---- beginning ---- */

static ckpt_status read_directory(ckpt_model *m, ckpt_dir *dir, ckpt_error *err) {
  CKPT_TRY(ckpt_dir_list(&m->files, &m->n, dir, err));
  m->capacity = m->n;
  CKPT_TRY(ckpt_ledger_read(&m->ledger, dir, err));
  for (size_t i = 0; i < m->n; i++)
    if (m->files[i].inode > m->inodes) m->inodes = m->files[i].inode;
  return measure(m, err);
}

static ckpt_model *new_model(uint64_t bytes) {
  ckpt_model *m = calloc(1, sizeof *m);
  if (m == NULL) return NULL;
  m->bytes = bytes;
  m->table = LUA_NOREF;
  return m;
}

ckpt_status ckpt_model_of(ckpt_model **out, ckpt_dir *dir, uint64_t bytes, ckpt_error *err) {
  ckpt_model *m = new_model(bytes);
  ckpt_status st = m == NULL ? ckpt_fail_nomem(err, sizeof *m) : read_directory(m, dir, err);
  if (st == CKPT_OK)
    *out = m;
  else
    ckpt_model_free(m);
  return st;
}

static ckpt_status read_path(ckpt_model *m, const char *path, ckpt_error *err) {
  ckpt_dir *dir = NULL;
  ckpt_status st = ckpt_dir_open(&dir, path, false, false, NULL, err);
  if (st == CKPT_OK) st = read_directory(m, dir, err);
  ckpt_dir_close(dir);
  return st;
}

ckpt_status ckpt_model_new(ckpt_model **out, const char *path, uint64_t bytes, ckpt_error *err) {
  ckpt_model *m = new_model(bytes);
  if (m == NULL) return ckpt_fail_nomem(err, sizeof *m);
  ckpt_status st = read_path(m, path, err);
  if (st == CKPT_E_NOTFOUND) {
    m->ledger = calloc(1, sizeof *m->ledger);
    st = m->ledger == NULL ? ckpt_fail_nomem(err, sizeof *m->ledger) : CKPT_OK;
  }
  if (st != CKPT_OK) {
    ckpt_model_free(m);
    return st;
  }
  *out = m;
  return CKPT_OK;
}

void ckpt_model_free(ckpt_model *m) {
  if (m == NULL) return;
  for (size_t i = 0; i < m->n; i++) free(m->files[i].name);
  free(m->files);
  ckpt_ledger_free(m->ledger);
  free(m);
}
