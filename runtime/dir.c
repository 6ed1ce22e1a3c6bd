/*
 * dir.c - a run directory: opening, lock, left-overs, listing, names. See publish.h for the protocol.
 *
 * A directory that is made here is synced into its parent, or a power loss would take the whole run with it.
 * The lock is on the open file: a child that the trainer forks keeps it until it ends or execs.
 */
#include "dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LOCK_NAME ".ckpt.lock"

ckpt_status ckpt_dir_fail(const ckpt_dir *dir, const char *name, const char *what, ckpt_error *err) {
  return ckpt_fail_errno(err, errno, "%s/%s: %s", dir->path, name, what);
}

/* Some file systems (CIFS, some FUSE) cannot sync a directory and say EINVAL; theirs are durable or not without us. */
static int sync_fd(const ckpt_io *io, int fd) {
  if (io->fsync(io->ctx, fd) == 0 || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS) return 0;
  return -1;
}

ckpt_status ckpt_dir_sync(ckpt_dir *dir, ckpt_error *err) {
  if (sync_fd(dir->io, dir->fd) == 0) return CKPT_OK;
  return ckpt_fail_errno(err, errno, "%s: the directory cannot be synced", dir->path);
}

/* ---- temporary names ---- */

ckpt_status ckpt_dir_temp_name(char out[CKPT_TEMP_NAME], ckpt_dir *dir, ckpt_error *err) {
  uint64_t bits = 0;
  ssize_t n;
  int tries = 0;
  do n = dir->io->random(dir->io->ctx, &bits, sizeof bits);
  while (n < 0 && errno == EINTR && ++tries < 100);
  if (n < 0) return ckpt_fail_errno(err, errno, "%s: no random number for a temporary name can be had", dir->path);
  snprintf(out, CKPT_TEMP_NAME, CKPT_TEMP_PREFIX "%016llx", (unsigned long long)bits);
  return CKPT_OK;
}

/* 0666: the kernel takes the umask (or the directory's default ACL) off, and umask(2) is not ours to call. */
ckpt_status ckpt_dir_temp_open(int *out, char temp[CKPT_TEMP_NAME], ckpt_dir *dir, ckpt_error *err) {
  char name[CKPT_TEMP_NAME];
  CKPT_TRY(ckpt_dir_temp_name(name, dir, err));
  int fd = ckpt_io_open(dir->io, dir->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd < 0) return ckpt_fail_errno(err, errno, "%s: no file can be made here", dir->path);
  memcpy(temp, name, sizeof name);
  *out = fd;
  return CKPT_OK;
}

void ckpt_dir_drop(ckpt_dir *dir, const char *temp) {
  if (temp[0] != '\0') dir->io->unlinkat(dir->io->ctx, dir->fd, temp);
}

/* ---- listing ---- */

typedef struct name_list {
  char **names;
  size_t n, capacity;
  bool (*wanted)(const char *name);
  size_t missing; /* bytes that could not be had, 0 while all is well */
} name_list;

static void free_names(name_list *list) {
  for (size_t i = 0; i < list->n; i++) free(list->names[i]);
  free(list->names);
}

static bool grow_names(name_list *list) {
  if (list->n < list->capacity) return true;
  size_t more = list->capacity == 0 ? 32 : list->capacity * 2;
  char **bigger = realloc(list->names, more * sizeof *bigger);
  if (bigger == NULL) return false;
  list->names = bigger;
  list->capacity = more;
  return true;
}

static bool add_name(void *arg, const char *name) {
  name_list *list = arg;
  if (!list->wanted(name)) return true;
  char *copy = grow_names(list) ? strdup(name) : NULL;
  if (copy == NULL)
    list->missing = strlen(name) + 1;
  else
    list->names[list->n++] = copy;
  return copy != NULL;
}

/* All names first, then something is done with them: a directory is not changed while it is being read. */
static ckpt_status read_names(name_list *list, ckpt_dir *dir, ckpt_error *err) {
  ckpt_status st = CKPT_OK;
  if (dir->io->list(dir->io->ctx, dir->fd, add_name, list) != 0)
    st = ckpt_fail_errno(err, errno, "%s: the directory cannot be listed", dir->path);
  else if (list->missing != 0)
    st = ckpt_fail_nomem(err, list->missing);
  if (st != CKPT_OK) free_names(list);
  return st;
}

static bool is_temporary(const char *name) { return strncmp(name, CKPT_TEMP_PREFIX, strlen(CKPT_TEMP_PREFIX)) == 0; }
static bool is_visible(const char *name) { return name[0] != '.'; }

/* Of a writer that was killed; only ever called with the lock, so no living one owns them. */
static ckpt_status remove_leftovers(ckpt_dir *dir, ckpt_error *err) {
  name_list list = {.wanted = is_temporary};
  CKPT_TRY(read_names(&list, dir, err));
  for (size_t i = 0; i < list.n; i++) ckpt_dir_drop(dir, list.names[i]);
  free_names(&list);
  return CKPT_OK;
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const ckpt_dir_entry *)a)->name, ((const ckpt_dir_entry *)b)->name);
}

/* Moves the names of regular files out of `names`. A file that vanished meanwhile was not in the directory. */
static ckpt_status stat_names(ckpt_dir_entry *list, size_t *n, name_list *names, ckpt_dir *dir, ckpt_error *err) {
  for (size_t i = 0; i < names->n; i++) {
    struct stat st;
    bool found = dir->io->statat(dir->io->ctx, dir->fd, names->names[i], &st) == 0;
    if (!found && errno != ENOENT) return ckpt_dir_fail(dir, names->names[i], "the file cannot be looked at", err);
    if (!found || !S_ISREG(st.st_mode)) continue;
    list[(*n)++] = (ckpt_dir_entry){names->names[i], (uint64_t)st.st_size, st.st_mtim.tv_sec, st.st_ino};
    names->names[i] = NULL;
  }
  return CKPT_OK;
}

ckpt_status ckpt_dir_list(ckpt_dir_entry **out, size_t *out_n, ckpt_dir *dir, ckpt_error *err) {
  name_list names = {.wanted = is_visible};
  size_t n = 0;
  CKPT_TRY(read_names(&names, dir, err));
  ckpt_dir_entry *list = calloc(names.n + 1, sizeof *list);
  ckpt_status st =
      list == NULL ? ckpt_fail_nomem(err, (names.n + 1) * sizeof *list) : stat_names(list, &n, &names, dir, err);
  free_names(&names);
  if (st != CKPT_OK) {
    ckpt_dir_list_free(list, n);
    return st;
  }
  qsort(list, n, sizeof *list, by_name);
  *out = list;
  *out_n = n;
  return CKPT_OK;
}

void ckpt_dir_list_free(ckpt_dir_entry *list, size_t n) {
  for (size_t i = 0; i < n; i++) free(list[i].name);
  free(list);
}

/* ---- opening ---- */

enum { OPEN_DIRECTORY = O_RDONLY | O_DIRECTORY | O_CLOEXEC };

/* A parent that we may write but not read cannot be synced by us; that is no reason to refuse the run. */
static ckpt_status sync_parent(const ckpt_io *io, const char *path, ckpt_error *err) {
  int made = ckpt_io_open(io, AT_FDCWD, path, OPEN_DIRECTORY, 0);
  int parent = made < 0 ? -1 : ckpt_io_open(io, made, "..", OPEN_DIRECTORY, 0);
  bool ok = parent >= 0 ? sync_fd(io, parent) == 0 : errno == EACCES;
  ckpt_status st = ok ? CKPT_OK : ckpt_fail_errno(err, errno, "%s: the new directory cannot be synced", path);
  if (parent >= 0) ckpt_io_close(io, parent);
  if (made >= 0) ckpt_io_close(io, made);
  return st;
}

static ckpt_status make_one(const ckpt_io *io, const char *path, ckpt_error *err) {
  if (io->mkdirat(io->ctx, AT_FDCWD, path, 0777) == 0) return sync_parent(io, path, err);
  if (errno == EEXIST) return CKPT_OK;
  return ckpt_fail_errno(err, errno, "%s: the directory cannot be made", path);
}

/* mkdir -p */
static ckpt_status make_path(const ckpt_io *io, const char *path, ckpt_error *err) {
  char *copy = strdup(path);
  if (copy == NULL) return ckpt_fail_nomem(err, strlen(path) + 1);
  ckpt_status st = CKPT_OK;
  for (char *p = copy + 1; st == CKPT_OK && *p != '\0'; p++) {
    if (*p != '/' || p[-1] == '/') continue;
    *p = '\0';
    st = make_one(io, copy, err);
    *p = '/';
  }
  if (st == CKPT_OK) st = make_one(io, copy, err);
  free(copy);
  return st;
}

static ckpt_status open_descriptor(ckpt_dir *dir, bool create, ckpt_error *err) {
  dir->fd = ckpt_io_open(dir->io, AT_FDCWD, dir->path, OPEN_DIRECTORY, 0);
  if (dir->fd < 0 && errno == ENOENT && create) {
    CKPT_TRY(make_path(dir->io, dir->path, err));
    dir->fd = ckpt_io_open(dir->io, AT_FDCWD, dir->path, OPEN_DIRECTORY, 0);
  }
  if (dir->fd >= 0) return CKPT_OK;
  if (errno == ENOENT) return ckpt_fail(err, CKPT_E_NOTFOUND, -1, "%s: there is no such directory", dir->path);
  if (errno == ENOTDIR) return ckpt_fail(err, CKPT_E_NOTFOUND, -1, "%s: this is not a directory", dir->path);
  return ckpt_fail_errno(err, errno, "%s: the directory cannot be opened", dir->path);
}

static ckpt_status open_lock(ckpt_dir *dir, ckpt_error *err) {
  int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  dir->lock = ckpt_io_open(dir->io, dir->fd, LOCK_NAME, flags, 0666);
  if (dir->lock >= 0) return CKPT_OK;
  if (errno == EROFS || errno == EACCES)
    return ckpt_fail_errno(err, errno, "%s: checkpoints cannot be written here, the directory is read-only for us",
                           dir->path);
  return ckpt_dir_fail(dir, LOCK_NAME, "the lock file cannot be made", err);
}

static ckpt_status take_lock(ckpt_dir *dir, ckpt_error *err) {
  CKPT_TRY(open_lock(dir, err));
  if (dir->io->flock(dir->io->ctx, dir->lock) == 0) return CKPT_OK;
  if (errno != EWOULDBLOCK) return ckpt_dir_fail(dir, LOCK_NAME, "the lock cannot be taken", err);
  return ckpt_fail(err, CKPT_E_BUSY, -1, "%s: another process is writing checkpoints here (lock %s is held)", dir->path,
                   LOCK_NAME);
}

static ckpt_status open_dir(ckpt_dir *dir, bool create, bool lock, ckpt_error *err) {
  CKPT_TRY(open_descriptor(dir, create, err));
  if (!lock) return CKPT_OK;
  CKPT_TRY(take_lock(dir, err));
  return remove_leftovers(dir, err);
}

static ckpt_status copy_path(char **out, const char *path, ckpt_error *err) {
  size_t n = strlen(path);
  if (n == 0) return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "the directory's path is empty; '.' is the current one");
  while (n > 1 && path[n - 1] == '/') n--;
  char *copy = strndup(path, n);
  if (copy == NULL) return ckpt_fail_nomem(err, n + 1);
  *out = copy;
  return CKPT_OK;
}

ckpt_status ckpt_dir_open(ckpt_dir **out, const char *path, bool create, bool lock, const ckpt_io *io,
                          ckpt_error *err) {
  ckpt_dir *dir = calloc(1, sizeof *dir);
  if (dir == NULL) return ckpt_fail_nomem(err, sizeof *dir);
  *dir = (ckpt_dir){.io = io == NULL ? ckpt_io_posix() : io, .fd = -1, .lock = -1};
  ckpt_status st = copy_path(&dir->path, path, err);
  if (st == CKPT_OK) st = open_dir(dir, create, lock, err);
  if (st != CKPT_OK) {
    ckpt_dir_close(dir);
    return st;
  }
  *out = dir;
  return CKPT_OK;
}

void ckpt_dir_close(ckpt_dir *dir) {
  if (dir == NULL) return;
  if (dir->fd >= 0) ckpt_dir_drop_spare(dir);
  free(dir->changes);
  if (dir->lock >= 0) ckpt_io_close(dir->io, dir->lock);
  if (dir->fd >= 0) ckpt_io_close(dir->io, dir->fd);
  free(dir->path);
  free(dir);
}

ckpt_status ckpt_dir_check_owner(ckpt_dir *dir, ckpt_error *err) {
  struct stat st;
  if (dir->io->fstat(dir->io->ctx, dir->fd, &st) != 0)
    return ckpt_fail_errno(err, errno, "%s: the directory cannot be looked at", dir->path);
  if (st.st_uid == 0 || st.st_uid == geteuid()) return CKPT_OK;
  return ckpt_fail_errno(err, EPERM,
                         "%s: the directory belongs to another user (%u), who could exchange its files at any moment; "
                         "the option foreign_dir=true takes it all the same",
                         dir->path, (unsigned)st.st_uid);
}

const char *ckpt_dir_path(const ckpt_dir *dir) { return dir->path; }

/* ---- names ---- */

bool ckpt_dir_has(ckpt_dir *dir, const char *name) {
  struct stat st;
  return dir->io->statat(dir->io->ctx, dir->fd, name, &st) == 0;
}

int ckpt_dir_open_file(ckpt_dir *dir, const char *name, int flags, struct stat *st) {
  int fd = ckpt_io_open(dir->io, dir->fd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
  if (fd < 0) return -1;
  int r = dir->io->fstat(dir->io->ctx, fd, st);
  if (r == 0 && S_ISREG(st->st_mode)) return fd;
  if (r == 0) errno = EINVAL;
  ckpt_io_close(dir->io, fd);
  return -1;
}

static bool is_control(char c) { return (unsigned char)c < 0x20 || c == 0x7f; }

static const char *name_fault(const char *name) {
  if (name[0] == '\0') return "it is empty";
  if (name[0] == '.') return "it begins with '.'";
  if (strlen(name) > CKPT_MAX_NAME) return "it is longer than 200 bytes";
  if (strchr(name, '/') != NULL) return "it holds a '/', and a file lies in the run's directory itself";
  for (const char *p = name; *p != '\0'; p++)
    if (is_control(*p)) return "it holds a control character";
  return NULL;
}

/* The message shows control characters as '?': it may end up on a terminal. */
ckpt_status ckpt_name_check(const char *name, ckpt_error *err) {
  const char *why = name_fault(name);
  if (why == NULL) return CKPT_OK;
  char shown[CKPT_MAX_NAME + 1];
  snprintf(shown, sizeof shown, "%s", name);
  for (char *p = shown; *p != '\0'; p++)
    if (is_control(*p)) *p = '?';
  return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "'%s' is no name for a checkpoint: %s", shown, why);
}
