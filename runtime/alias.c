/*
 * alias.c - a name changes hands: swap with a way back, second names by link or copy, removal. See publish.h.
 *
 *   temp    the new file, under a temporary name
 *   name ->  linkat(name, old)       the way back, and the old file stays whole until the new one is durable
 *            renameat(temp, name)    atomic: `name` is never absent
 *            fsync(directory)        failed: renameat(old, name)
 *            unlinkat(temp)          rename of two names of one file does nothing and leaves both
 *            unlinkat(old)
 */
#include "dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

enum { COPY_BUFFER = 1 << 20 };

bool ckpt_links_unsupported(int sys) {
  return sys == EPERM || sys == EOPNOTSUPP || sys == ENOSYS || sys == EMLINK || sys == EXDEV || sys == EINVAL;
}

/* ---- swapping ---- */

static ckpt_status keep_old(ckpt_way_back *back, char old[CKPT_TEMP_NAME], ckpt_dir *dir, const char *name,
                            ckpt_error *err) {
  struct stat st;
  char temp[CKPT_TEMP_NAME];
  CKPT_TRY(ckpt_dir_temp_name(temp, dir, err));
  if (dir->io->linkat(dir->io->ctx, dir->fd, name, temp) == 0) {
    memcpy(old, temp, sizeof temp);
    *back = CKPT_BY_RENAME;
    return CKPT_OK;
  }
  if (errno != ENOENT && !ckpt_links_unsupported(errno))
    return ckpt_dir_fail(dir, name, "the old file cannot be kept for the time of the change", err);
  bool absent = errno == ENOENT || (dir->io->statat(dir->io->ctx, dir->fd, name, &st) != 0 && errno == ENOENT);
  *back = absent ? CKPT_BY_UNLINK : CKPT_NO_WAY_BACK;
  return CKPT_OK;
}

/* Two names of one file (it was saved again): then a rename leaves the old one, for ckpt_dir_drop. */
static void go_back(ckpt_way_back back, const char *old, ckpt_dir *dir, const char *name) {
  if (back == CKPT_BY_RENAME) dir->io->renameat(dir->io->ctx, dir->fd, old, name);
  if (back == CKPT_BY_UNLINK) dir->io->unlinkat(dir->io->ctx, dir->fd, name);
}

ckpt_status ckpt_dir_room_for_change(ckpt_dir *dir, ckpt_error *err) {
  if (!dir->holding || dir->n_changes < dir->change_capacity) return CKPT_OK;
  size_t more = dir->change_capacity == 0 ? 4 : 2 * dir->change_capacity;
  ckpt_name_change *bigger = realloc(dir->changes, more * sizeof *bigger);
  if (bigger == NULL) return ckpt_fail_nomem(err, more * sizeof *bigger);
  dir->changes = bigger;
  dir->change_capacity = more;
  return CKPT_OK;
}

void ckpt_dir_note_change(ckpt_dir *dir, ckpt_way_back back, const char *old, const char *name) {
  if (!dir->holding) {
    ckpt_dir_drop(dir, old);
    return;
  }
  ckpt_name_change *c = &dir->changes[dir->n_changes++];
  c->back = back;
  snprintf(c->name, sizeof c->name, "%s", name);
  snprintf(c->old, sizeof c->old, "%s", old);
}

void ckpt_dir_hold(ckpt_dir *dir) { dir->holding = true; }

void ckpt_dir_keep(ckpt_dir *dir) {
  while (dir->n_changes > 0) ckpt_dir_drop(dir, dir->changes[--dir->n_changes].old);
  dir->holding = false;
}

/* The last change first: an alias leaves a file before the file's own name goes. */
void ckpt_dir_undo(ckpt_dir *dir) {
  bool any = dir->n_changes > 0;
  while (dir->n_changes > 0) {
    const ckpt_name_change *c = &dir->changes[--dir->n_changes];
    go_back(c->back, c->old, dir, c->name);
    ckpt_dir_drop(dir, c->old);
  }
  if (any) ckpt_dir_sync(dir, NULL);
  dir->holding = false;
}

ckpt_status ckpt_dir_swap_in(ckpt_dir *dir, const char *temp, const char *name, ckpt_error *err) {
  ckpt_way_back back = CKPT_NO_WAY_BACK;
  char old[CKPT_TEMP_NAME] = "";
  ckpt_status st = CKPT_OK;
  CKPT_GO(ckpt_dir_room_for_change(dir, err));
  CKPT_GO(keep_old(&back, old, dir, name, err));
  if (dir->io->renameat(dir->io->ctx, dir->fd, temp, name) != 0)
    CKPT_GO(ckpt_dir_fail(dir, name, "the name cannot be moved to the new file", err));
  st = ckpt_dir_sync(dir, err);
  if (st != CKPT_OK) go_back(back, old, dir, name);
done:
  ckpt_dir_drop(dir, temp);
  if (st == CKPT_OK)
    ckpt_dir_note_change(dir, back, old, name);
  else
    ckpt_dir_drop(dir, old);
  return st;
}

/* ---- copying ---- */

static ckpt_status copy_bytes(ckpt_dir *dir, int to, int from, const char *name, ckpt_error *err) {
  char *buffer = malloc(COPY_BUFFER);
  if (buffer == NULL) return ckpt_fail_nomem(err, COPY_BUFFER);
  ckpt_status st = CKPT_OK;
  ssize_t n = 1;
  for (off_t at = 0; st == CKPT_OK && n > 0; at += n) {
    n = ckpt_io_read_at(dir->io, from, buffer, COPY_BUFFER, at);
    if (n < 0)
      st = ckpt_dir_fail(dir, name, "the file cannot be read for a copy", err);
    else if (ckpt_io_write_all(dir->io, to, buffer, (size_t)n) != 0)
      st = ckpt_dir_fail(dir, name, "the copy cannot be written", err);
  }
  free(buffer);
  return st;
}

static ckpt_status clone_or_copy(ckpt_dir *dir, int to, int from, const char *name, ckpt_error *err) {
  struct stat st;
  if (dir->io->clone(dir->io->ctx, to, from) == 0) return CKPT_OK;
  if (dir->io->fstat(dir->io->ctx, from, &st) != 0)
    return ckpt_dir_fail(dir, name, "the file cannot be looked at", err);
  if (st.st_size > 0 && ckpt_io_reserve(dir->io, to, st.st_size) != 0)
    return ckpt_dir_fail(dir, name, "there is no room for a copy", err);
  return copy_bytes(dir, to, from, name, err);
}

ckpt_status ckpt_dir_copy(ckpt_dir *dir, int to, int from, const char *name, ckpt_error *err) {
  CKPT_TRY(clone_or_copy(dir, to, from, name, err));
  if (dir->io->fsync(dir->io->ctx, to) == 0) return CKPT_OK;
  return ckpt_dir_fail(dir, name, "the copy cannot be synced", err);
}

/* ---- aliases ---- */

static ckpt_status copy_named(char temp[CKPT_TEMP_NAME], ckpt_dir *dir, const char *name, ckpt_error *err) {
  struct stat st;
  int to = -1, from = ckpt_dir_open_file(dir, name, O_RDONLY, &st);
  if (from < 0) return ckpt_dir_fail(dir, name, "the file cannot be opened for a copy", err);
  ckpt_status status = ckpt_dir_temp_open(&to, temp, dir, err);
  if (status == CKPT_OK) status = ckpt_dir_copy(dir, to, from, name, err);
  if (to >= 0) ckpt_io_close(dir->io, to);
  ckpt_io_close(dir->io, from);
  return status;
}

/* The same content under a temporary name. `temp` is filled as soon as there is something to drop. */
static ckpt_status make_second(char temp[CKPT_TEMP_NAME], ckpt_dir *dir, const char *name, ckpt_error *err) {
  char second[CKPT_TEMP_NAME];
  CKPT_TRY(ckpt_dir_temp_name(second, dir, err));
  if (dir->io->linkat(dir->io->ctx, dir->fd, name, second) == 0) {
    memcpy(temp, second, sizeof second);
    return CKPT_OK;
  }
  if (!ckpt_links_unsupported(errno)) return ckpt_dir_fail(dir, name, "no second name can be made", err);
  return copy_named(temp, dir, name, err);
}

/* Finds out whether there is something to do; an alias that cannot be looked at is not there. */
static ckpt_status compare(bool *same, ckpt_dir *dir, const char *name, const char *alias, ckpt_error *err) {
  struct stat a, b;
  if (dir->io->statat(dir->io->ctx, dir->fd, name, &a) != 0) {
    if (errno != ENOENT) return ckpt_dir_fail(dir, name, "the file cannot be looked at", err);
    return ckpt_fail(err, CKPT_E_NOTFOUND, -1, "%s/%s: there is no such file to make '%s' of", dir->path, name, alias);
  }
  if (!S_ISREG(a.st_mode))
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "%s/%s: not a regular file, '%s' cannot be made of it", dir->path, name,
                     alias);
  *same = dir->io->statat(dir->io->ctx, dir->fd, alias, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
  return CKPT_OK;
}

ckpt_status ckpt_dir_alias(ckpt_dir *dir, const char *name, const char *alias, ckpt_error *err) {
  char temp[CKPT_TEMP_NAME] = "";
  bool same = false;
  CKPT_TRY(ckpt_name_check(name, err));
  CKPT_TRY(ckpt_name_check(alias, err));
  CKPT_TRY(compare(&same, dir, name, alias, err));
  if (same) return CKPT_OK;
  ckpt_status st = make_second(temp, dir, name, err);
  if (st == CKPT_OK) return ckpt_dir_swap_in(dir, temp, alias, err);
  ckpt_dir_drop(dir, temp);
  return st;
}

/* ---- setting aside ---- */

enum { MAX_ASIDE = 1000 }; /* files of one name that are set aside */

static ckpt_status name_aside(const char *to, ckpt_dir *dir, const char *name, ckpt_error *err) {
  const ckpt_io *io = dir->io;
  int r = io->linkat(io->ctx, dir->fd, name, to);
  if (r != 0 && ckpt_links_unsupported(errno)) r = io->renameat(io->ctx, dir->fd, name, to);
  return r == 0 ? ckpt_dir_sync(dir, err) : ckpt_dir_fail(dir, name, "the file cannot be set aside", err);
}

ckpt_status ckpt_dir_keep_aside(char to[CKPT_ASIDE_NAME], ckpt_dir *dir, const char *name, ckpt_error *err) {
  CKPT_TRY(ckpt_name_check(name, err));
  snprintf(to, CKPT_ASIDE_NAME, "%s.corrupt", name);
  for (int i = 2; ckpt_dir_has(dir, to) && i <= MAX_ASIDE; i++) {
    bool same = false;
    CKPT_TRY(compare(&same, dir, name, to, err));
    if (same) return CKPT_OK;
    snprintf(to, CKPT_ASIDE_NAME, "%s.corrupt-%d", name, i);
  }
  return name_aside(to, dir, name, err);
}

/* ---- removal ---- */

static ckpt_status retire_one(ckpt_dir *dir, const char *name, ckpt_error *err) {
  CKPT_TRY(ckpt_name_check(name, err));
  if (ckpt_dir_keep_spare(dir, name)) return CKPT_OK;
  if (dir->io->unlinkat(dir->io->ctx, dir->fd, name) == 0 || errno == ENOENT) return CKPT_OK;
  return ckpt_dir_fail(dir, name, "the file cannot be removed", err);
}

ckpt_status ckpt_dir_retire(ckpt_dir *dir, const char *const *names, size_t n, ckpt_error *err) {
  ckpt_status first = CKPT_OK;
  for (size_t i = 0; i < n; i++) {
    ckpt_status st = retire_one(dir, names[i], first == CKPT_OK ? err : NULL);
    if (first == CKPT_OK) first = st;
  }
  if (n == 0) return CKPT_OK;
  ckpt_status st = ckpt_dir_sync(dir, first == CKPT_OK ? err : NULL);
  if (st != CKPT_OK) ckpt_dir_drop_spare(dir); /* on the disk it may still have its old name */
  return first != CKPT_OK ? first : st;
}
