/*
 * fault_io.h - a ckpt_io over the system's calls that fails on demand, and a directory of its own for each test.
 *
 *   fault_io f;
 *   fault_init(&f);
 *   fault_rule(&f, "fsync", 2, 1, EIO);     from the 2nd fsync on, one time
 *   f.nth = 7; f.nth_errno = EIO;           the 7th call of the table, whatever it is; FAULT_KILL: the process ends
 * there ckpt_dir_open(&dir, path, true, true, &f.io, &err);
 *
 * A failing close has closed. "tmpfile" is an openat with O_TMPFILE.
 */
#ifndef CKPT_TEST_FAULT_IO_H
#define CKPT_TEST_FAULT_IO_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io.h"

enum { FAULT_ALWAYS = INT_MAX / 2, FAULT_RULES = 6, FAULT_KILL = -1, FAULT_KILLED = 77 };

typedef struct fault_io {
  ckpt_io io;
  int calls, nth, nth_errno;
  bool persistent;  /* all calls after the nth fail too */
  char failed[16];  /* the call that `nth` hit, "" while none */
  size_t max_write; /* short writes of at most so many bytes; 0: whole ones */
  struct {
    char op[16];
    int seen, from, times, sys;
  } rules[FAULT_RULES];
} fault_io;

static bool fault_hit(void *ctx, const char *op) {
  fault_io *f = ctx;
  int sys = 0;
  f->calls++;
  for (int i = 0; i < FAULT_RULES; i++) {
    if (strcmp(f->rules[i].op, op) != 0) continue;
    int k = ++f->rules[i].seen - f->rules[i].from;
    if (k >= 0 && k < f->rules[i].times) sys = f->rules[i].sys;
  }
  if (f->calls == f->nth || (f->persistent && f->nth > 0 && f->calls > f->nth)) {
    if (f->nth_errno == FAULT_KILL) _exit(FAULT_KILLED);
    sys = f->nth_errno;
    if (f->failed[0] == '\0') snprintf(f->failed, sizeof f->failed, "%s", op);
  }
  if (sys != 0) errno = sys;
  return sys != 0;
}

/* name, result, parameters with the comma, arguments with the comma */
#define FAULT_CALLS(X)                                                                                      \
  X(pread, ssize_t, (void *ctx, int fd, void *data, size_t size, off_t at), (NULL, fd, data, size, at))     \
  X(fsync, int, (void *ctx, int fd), (NULL, fd))                                                            \
  X(direct, int, (void *ctx, int fd, bool on), (NULL, fd, on))                                              \
  X(fallocate, int, (void *ctx, int fd, int mode, off_t at, off_t size), (NULL, fd, mode, at, size))        \
  X(ftruncate, int, (void *ctx, int fd, off_t size), (NULL, fd, size))                                      \
  X(clone, int, (void *ctx, int to, int from), (NULL, to, from))                                            \
  X(link_fd, int, (void *ctx, int fd, int dir, const char *name), (NULL, fd, dir, name))                    \
  X(linkat, int, (void *ctx, int dir, const char *name, const char *other), (NULL, dir, name, other))       \
  X(renameat, int, (void *ctx, int dir, const char *from, const char *to), (NULL, dir, from, to))           \
  X(unlinkat, int, (void *ctx, int dir, const char *name), (NULL, dir, name))                               \
  X(mkdirat, int, (void *ctx, int dir, const char *name, mode_t mode), (NULL, dir, name, mode))             \
  X(fstat, int, (void *ctx, int fd, struct stat *st), (NULL, fd, st))                                       \
  X(statat, int, (void *ctx, int dir, const char *name, struct stat *st), (NULL, dir, name, st))            \
  X(list, int, (void *ctx, int dir, bool (*each)(void *, const char *), void *arg), (NULL, dir, each, arg)) \
  X(flock, int, (void *ctx, int fd), (NULL, fd))                                                            \
  X(lease, int, (void *ctx, int fd), (NULL, fd))                                                            \
  X(random, ssize_t, (void *ctx, void *data, size_t size), (NULL, data, size))

#define FAULT_WRAP(op, result, parameters, arguments) \
  static result fault_##op parameters { return fault_hit(ctx, #op) ? -1 : ckpt_io_posix()->op arguments; }
FAULT_CALLS(FAULT_WRAP)
#undef FAULT_WRAP

static int fault_openat(void *ctx, int dir, const char *name, int flags, mode_t mode) {
  bool hit = fault_hit(ctx, (flags & O_TMPFILE) == O_TMPFILE ? "tmpfile" : "openat");
  return hit ? -1 : ckpt_io_posix()->openat(NULL, dir, name, flags, mode);
}

static ssize_t fault_write(void *ctx, int fd, const void *data, size_t size) {
  const fault_io *f = ctx;
  if (fault_hit(ctx, "write")) return -1;
  return ckpt_io_posix()->write(NULL, fd, data, f->max_write > 0 && size > f->max_write ? f->max_write : size);
}

static int fault_close(void *ctx, int fd) {
  bool hit = fault_hit(ctx, "close");
  int sys = errno;
  ckpt_io_posix()->close(NULL, fd);
  errno = sys;
  return hit ? -1 : 0;
}

static inline void fault_init(fault_io *f) {
  memset(f, 0, sizeof *f);
  f->io = (ckpt_io){.ctx = f, .openat = fault_openat, .close = fault_close, .write = fault_write};
#define FAULT_SET(op, result, parameters, arguments) f->io.op = fault_##op;
  FAULT_CALLS(FAULT_SET)
#undef FAULT_SET
}

static inline void fault_rule(fault_io *f, const char *op, int from, int times, int sys) {
  int i = 0;
  while (f->rules[i].op[0] != '\0') i++;
  snprintf(f->rules[i].op, sizeof f->rules[i].op, "%s", op);
  f->rules[i].from = from;
  f->rules[i].times = times;
  f->rules[i].sys = sys;
}

/* ---- a directory for a test ---- */

static inline char *scratch_new(void) {
  const char *base = getenv("TMPDIR");
  char *path = malloc(PATH_MAX);
  snprintf(path, PATH_MAX, "%s/ckpt-test-XXXXXX", base == NULL ? "/tmp" : base);
  return mkdtemp(path);
}

static inline void scratch_remove(const char *path) {
  DIR *d = opendir(path);
  char *child = NULL;
  for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
    if (asprintf(&child, "%s/%s", path, e->d_name) < 0) abort();
    if (unlink(child) != 0) scratch_remove(child);
    free(child);
  }
  if (d != NULL) closedir(d);
  rmdir(path);
}

static inline void scratch_free(char *path) {
  scratch_remove(path);
  free(path);
}

/* Entries of a directory whose names begin with `prefix`. */
static inline int count_names(const char *path, const char *prefix) {
  int n = 0;
  DIR *d = opendir(path);
  for (struct dirent *e; (e = readdir(d)) != NULL;) n += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
  closedir(d);
  return n;
}

/* Open descriptors of this process; the one that reads the list is counted each time. */
static inline int count_fds(void) { return count_names("/proc/self/fd", ""); }

#endif
