/* dir.c - a run directory: opening, lock, listing, aliases, removal. See publish.h for the protocol. */
#include "dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

ckpt_status ckpt_dir_fail(const ckpt_dir *dir, const char *name, const char *what, ckpt_error *err) {
  return ckpt_fail_errno(err, errno, "%s/%s: %s", dir->path, name, what);
}

/* ---- opening ---- */

/* mkdir -p, without the directory's name in memory of ours being changed for others. */
static ckpt_status make_path(const char *path, ckpt_error *err) {
  char *copy = strdup(path);
  if (copy == NULL) return ckpt_fail_nomem(err, strlen(path) + 1);
  ckpt_status st = CKPT_OK;
  for (char *p = copy + 1; st == CKPT_OK; p++) {
    if (*p != '/' && *p != '\0') continue;
    char end = *p;
    *p = '\0';
    if (mkdir(copy, 0777) != 0 && errno != EEXIST && errno != EISDIR && (end == '\0' || errno != EROFS))
      st = ckpt_fail_errno(err, errno, "%s: the directory cannot be made", copy);
    *p = end;
    if (end == '\0') break;
  }
  free(copy);
  return st;
}

static ckpt_status take_lock(ckpt_dir *dir, ckpt_error *err) {
  const ckpt_io *io = dir->io;
  dir->lock = io->openat(io->self, dir->fd, ".ckpt.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (dir->lock < 0) return ckpt_fail_errno(err, errno, "%s: checkpoints cannot be written here", dir->path);
  if (io->lock(io->self, dir->lock) == 0) return CKPT_OK;
  if (errno != EWOULDBLOCK) return ckpt_dir_fail(dir, ".ckpt.lock", "the lock cannot be taken", err);
  return ckpt_fail(err, CKPT_E_BUSY, -1, "%s: another process is writing checkpoints here (it holds .ckpt.lock)", dir->path);
}

static DIR *open_listing(ckpt_dir *dir) {
  int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *d = fd < 0 ? NULL : fdopendir(fd);
  if (d == NULL && fd >= 0) close(fd);
  return d;
}

/* Temporaries of a writer that was killed; only ever called with the lock, so no living one can own them. */
static ckpt_status remove_leftovers(ckpt_dir *dir, ckpt_error *err) {
  DIR *d = open_listing(dir);
  if (d == NULL) return ckpt_fail_errno(err, errno, "%s: the directory cannot be listed", dir->path);
  for (struct dirent *e; (e = readdir(d)) != NULL;)
    if (strncmp(e->d_name, CKPT_TEMP_PREFIX, strlen(CKPT_TEMP_PREFIX)) == 0)
      dir->io->unlinkat(dir->io->self, dir->fd, e->d_name);
  closedir(d);
  return CKPT_OK;
}

static ckpt_status open_dir(ckpt_dir *dir, bool create, bool lock, ckpt_error *err) {
  if (create) CKPT_TRY(make_path(dir->path, err));
  dir->fd = dir->io->openat(dir->io->self, AT_FDCWD, dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (dir->fd < 0 && (errno == ENOENT || errno == ENOTDIR))
    return ckpt_fail(err, CKPT_E_NOTFOUND, -1, "%s: there is no such directory", dir->path);
  if (dir->fd < 0) return ckpt_fail_errno(err, errno, "%s: the directory cannot be opened", dir->path);
  if (!lock) return CKPT_OK;
  CKPT_TRY(take_lock(dir, err));
  return remove_leftovers(dir, err);
}

static char *copy_path(const char *path) {
  size_t n = strlen(path);
  while (n > 1 && path[n - 1] == '/') n--;
  return n == 0 ? strdup(".") : strndup(path, n);
}

ckpt_status ckpt_dir_open(ckpt_dir **out, const char *path, bool create, bool lock, const ckpt_io *io, ckpt_error *err) {
  ckpt_dir *dir = calloc(1, sizeof *dir);
  if (dir == NULL) return ckpt_fail_nomem(err, sizeof *dir);
  *dir = (ckpt_dir){io == NULL ? ckpt_io_posix() : io, copy_path(path), -1, -1};
  ckpt_status st = dir->path == NULL ? ckpt_fail_nomem(err, strlen(path) + 1) : open_dir(dir, create, lock, err);
  if (st != CKPT_OK) {
    ckpt_dir_close(dir);
    return st;
  }
  *out = dir;
  return CKPT_OK;
}

void ckpt_dir_close(ckpt_dir *dir) {
  if (dir == NULL) return;
  if (dir->lock >= 0) dir->io->close(dir->io->self, dir->lock);
  if (dir->fd >= 0) dir->io->close(dir->io->self, dir->fd);
  free(dir->path);
  free(dir);
}

const char *ckpt_dir_path(const ckpt_dir *dir) { return dir->path; }

ckpt_status ckpt_dir_sync(ckpt_dir *dir, ckpt_error *err) {
  if (dir->io->fsync(dir->io->self, dir->fd) == 0) return CKPT_OK;
  return ckpt_fail_errno(err, errno, "%s: the directory cannot be synced", dir->path);
}

ckpt_status ckpt_dir_temp_name(char out[CKPT_TEMP_NAME], ckpt_dir *dir, ckpt_error *err) {
  uint64_t bits = 0;
  if (dir->io->random(dir->io->self, &bits, sizeof bits) != sizeof bits)
    return ckpt_fail_errno(err, errno, "%s: no random name can be had", dir->path);
  snprintf(out, CKPT_TEMP_NAME, CKPT_TEMP_PREFIX "%016llx", (unsigned long long)bits);
  return CKPT_OK;
}

/* ---- listing ---- */

static int by_name(const void *a, const void *b) {
  return strcmp(((const ckpt_dir_entry *)a)->name, ((const ckpt_dir_entry *)b)->name);
}

static ckpt_status add_entry(ckpt_dir_entry **list, size_t *n, size_t *capacity, const char *name, const struct stat *st,
                             ckpt_error *err) {
  if (*n == *capacity) {
    size_t more = *capacity == 0 ? 32 : *capacity * 2;
    ckpt_dir_entry *bigger = realloc(*list, more * sizeof *bigger);
    if (bigger == NULL) return ckpt_fail_nomem(err, more * sizeof *bigger);
    *list = bigger;
    *capacity = more;
  }
  char *copy = strdup(name);
  if (copy == NULL) return ckpt_fail_nomem(err, strlen(name) + 1);
  (*list)[(*n)++] = (ckpt_dir_entry){copy, (uint64_t)st->st_size, st->st_mtim.tv_sec, st->st_ino};
  return CKPT_OK;
}

static ckpt_status read_list(ckpt_dir_entry **list, size_t *n, DIR *d, ckpt_dir *dir, ckpt_error *err) {
  size_t capacity = 0;
  for (struct dirent *e; (e = readdir(d)) != NULL;) {
    struct stat st;
    if (e->d_name[0] == '.' || dir->io->statat(dir->io->self, dir->fd, e->d_name, &st) != 0) continue;
    if (S_ISREG(st.st_mode)) CKPT_TRY(add_entry(list, n, &capacity, e->d_name, &st, err));
  }
  return CKPT_OK;
}

ckpt_status ckpt_dir_list(ckpt_dir_entry **out, size_t *out_n, ckpt_dir *dir, ckpt_error *err) {
  ckpt_dir_entry *list = NULL;
  size_t n = 0;
  DIR *d = open_listing(dir);
  if (d == NULL) return ckpt_fail_errno(err, errno, "%s: the directory cannot be listed", dir->path);
  ckpt_status st = read_list(&list, &n, d, dir, err);
  closedir(d);
  if (st != CKPT_OK) {
    ckpt_dir_list_free(list, n);
    return st;
  }
  if (n > 1) qsort(list, n, sizeof *list, by_name);
  *out = list;
  *out_n = n;
  return CKPT_OK;
}

void ckpt_dir_list_free(ckpt_dir_entry *list, size_t n) {
  for (size_t i = 0; i < n; i++) free(list[i].name);
  free(list);
}

bool ckpt_dir_has(ckpt_dir *dir, const char *name) {
  struct stat st;
  return dir->io->statat(dir->io->self, dir->fd, name, &st) == 0;
}

ckpt_status ckpt_name_check(const char *name, ckpt_error *err) {
  size_t n = strlen(name);
  const char *why = n == 0 ? "it is empty" : n > 200 ? "it is longer than 200 bytes" : name[0] == '.' ? "it begins with '.'" : NULL;
  for (size_t i = 0; i < n && why == NULL; i++)
    if (name[i] == '/' || (unsigned char)name[i] < 0x20 || name[i] == 0x7f) why = "it holds a '/' or a control character";
  return why == NULL ? CKPT_OK : ckpt_fail(err, CKPT_E_ARGUMENT, -1, "'%.200s' is no name for a checkpoint: %s", name, why);
}

/* ---- aliases and removal ---- */

static ckpt_status copy_bytes(ckpt_dir *dir, int to, int from, const char *name, ckpt_error *err) {
  const ckpt_io *io = dir->io;
  char *buffer = malloc(1 << 20);
  if (buffer == NULL) return ckpt_fail_nomem(err, 1 << 20);
  ckpt_status st = CKPT_OK;
  off_t at = 0;
  for (ssize_t n; st == CKPT_OK && (n = io->pread(io->self, from, buffer, 1 << 20, at)) != 0; at += n) {
    if (n < 0) {
      st = ckpt_dir_fail(dir, name, "the file cannot be read", err);
      break;
    }
    for (ssize_t done = 0, w; st == CKPT_OK && done < n; done += w)
      if ((w = io->write(io->self, to, buffer + done, (size_t)(n - done))) < 0)
        st = ckpt_dir_fail(dir, name, "the copy cannot be written", err);
  }
  free(buffer);
  return st;
}

static ckpt_status fill_copy(ckpt_dir *dir, int to, const char *name, ckpt_error *err) {
  const ckpt_io *io = dir->io;
  int from = io->openat(io->self, dir->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);
  if (from < 0) return ckpt_dir_fail(dir, name, "the file cannot be opened", err);
  ckpt_status st = io->clone(io->self, to, from) == 0 ? CKPT_OK : copy_bytes(dir, to, from, name, err);
  io->close(io->self, from);
  if (st == CKPT_OK && io->fsync(io->self, to) != 0) st = ckpt_dir_fail(dir, name, "the copy cannot be synced", err);
  return st;
}

/* A file of its own with the same bytes: reflink where the file system has it, else a copy. */
static ckpt_status make_copy(ckpt_dir *dir, const char *name, const char *temp, ckpt_error *err) {
  const ckpt_io *io = dir->io;
  int to = io->openat(io->self, dir->fd, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (to < 0) return ckpt_dir_fail(dir, temp, "the copy cannot be made", err);
  ckpt_status st = fill_copy(dir, to, name, err);
  if (io->close(io->self, to) != 0 && st == CKPT_OK) st = ckpt_dir_fail(dir, name, "the copy cannot be closed", err);
  return st;
}

static bool links_unsupported(int sys) {
  return sys == EPERM || sys == EOPNOTSUPP || sys == ENOSYS || sys == EMLINK || sys == EINVAL;
}

static ckpt_status make_second(ckpt_dir *dir, const char *name, const char *temp, ckpt_error *err) {
  if (dir->io->linkat(dir->io->self, dir->fd, name, temp) == 0) return CKPT_OK;
  if (!links_unsupported(errno)) return ckpt_dir_fail(dir, name, "no second name can be made", err);
  return make_copy(dir, name, temp, err);
}

static bool same_file(ckpt_dir *dir, const char *a, const char *b) {
  struct stat sa, sb;
  return dir->io->statat(dir->io->self, dir->fd, a, &sa) == 0 && dir->io->statat(dir->io->self, dir->fd, b, &sb) == 0 &&
         sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

ckpt_status ckpt_dir_alias(ckpt_dir *dir, const char *name, const char *alias, ckpt_error *err) {
  char temp[CKPT_TEMP_NAME];
  CKPT_TRY(ckpt_name_check(alias, err));
  if (same_file(dir, name, alias)) return CKPT_OK;
  CKPT_TRY(ckpt_dir_temp_name(temp, dir, err));
  ckpt_status st = make_second(dir, name, temp, err);
  if (st == CKPT_OK && dir->io->renameat(dir->io->self, dir->fd, temp, alias) != 0)
    st = ckpt_dir_fail(dir, alias, "the name cannot be moved to the new file", err);
  dir->io->unlinkat(dir->io->self, dir->fd, temp); /* gone already but after a failure */
  return st == CKPT_OK ? ckpt_dir_sync(dir, err) : st;
}

ckpt_status ckpt_dir_retire(ckpt_dir *dir, const char *const *names, size_t n, ckpt_error *err) {
  ckpt_status st = CKPT_OK;
  for (size_t i = 0; i < n; i++) {
    ckpt_status checked = ckpt_name_check(names[i], st == CKPT_OK ? err : NULL);
    if (checked == CKPT_OK && dir->io->unlinkat(dir->io->self, dir->fd, names[i]) != 0 && errno != ENOENT)
      checked = ckpt_dir_fail(dir, names[i], "the file cannot be removed", st == CKPT_OK ? err : NULL);
    if (st == CKPT_OK) st = checked;
  }
  if (n == 0 || st != CKPT_OK) return st;
  return ckpt_dir_sync(dir, err);
}
