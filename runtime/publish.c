/* publish.c - writing a new file and giving it its name. See publish.h for the protocol. */
#include "dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_WRITE = 1 << 30 };

struct ckpt_output {
  ckpt_sink sink; /* first: the sink's address is the output's */
  ckpt_dir *dir;
  int fd;
  char temp[CKPT_TEMP_NAME]; /* "" while the file has no name at all */
};

/* ---- beginning ---- */

static int open_named(ckpt_output *o, ckpt_error *err) {
  const ckpt_io *io = o->dir->io;
  if (ckpt_dir_temp_name(o->temp, o->dir, err) != CKPT_OK) return -1;
  int fd = io->openat(io->self, o->dir->fd, o->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd < 0) ckpt_fail_errno(err, errno, "%s: no file can be made here", o->dir->path);
  return fd;
}

/* Unnamed where that works: it vanishes by itself when we are killed, and nobody can put a link in its place. */
static int open_temporary(ckpt_output *o, ckpt_error *err) {
  const ckpt_io *io = o->dir->io;
  int fd = io->openat(io->self, o->dir->fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
  if (fd >= 0) return fd;
  if (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL || errno == ENOENT) return open_named(o, err);
  ckpt_fail_errno(err, errno, "%s: no file can be made here", o->dir->path);
  return -1;
}

static ckpt_status sink_write(ckpt_sink *sink, const void *data, size_t size, ckpt_error *err) {
  ckpt_output *o = (ckpt_output *)sink;
  const ckpt_io *io = o->dir->io;
  for (const char *p = data; size > 0;) {
    ssize_t n = io->write(io->self, o->fd, p, size < MAX_WRITE ? size : MAX_WRITE);
    if (n < 0) return ckpt_fail_errno(err, errno, "%s: the new file cannot be written", o->dir->path);
    p += n;
    size -= (size_t)n;
  }
  return CKPT_OK;
}

/* A full disk shows here, before anything was touched; a file system that cannot say is no reason to fail. */
static ckpt_status reserve(ckpt_output *o, uint64_t expected, ckpt_error *err) {
  if (expected == 0 || expected > INT64_MAX) return CKPT_OK;
  if (o->dir->io->allocate(o->dir->io->self, o->fd, (off_t)expected) == 0) return CKPT_OK;
  if (errno != ENOSPC && errno != EDQUOT && errno != EFBIG && errno != EIO) return CKPT_OK;
  return ckpt_fail_errno(err, errno, "%s: a file of %llu bytes does not fit", o->dir->path, (unsigned long long)expected);
}

ckpt_status ckpt_output_begin(ckpt_output **out, ckpt_dir *dir, uint64_t expected, ckpt_error *err) {
  ckpt_error here = {0};
  ckpt_output *o = calloc(1, sizeof *o);
  if (o == NULL) return ckpt_fail_nomem(err, sizeof *o);
  o->sink.write = sink_write;
  o->dir = dir;
  o->fd = open_temporary(o, &here);
  ckpt_status st = o->fd < 0 ? here.status : reserve(o, expected, &here);
  if (st != CKPT_OK) {
    if (err != NULL) *err = here;
    ckpt_output_abandon(o);
    return st;
  }
  *out = o;
  return CKPT_OK;
}

ckpt_sink *ckpt_output_sink(ckpt_output *o) { return &o->sink; }
int ckpt_output_fd(const ckpt_output *o) { return o->fd; }

void ckpt_output_abandon(ckpt_output *o) {
  if (o == NULL) return;
  if (o->fd >= 0) o->dir->io->close(o->dir->io->self, o->fd);
  if (o->temp[0] != '\0') o->dir->io->unlinkat(o->dir->io->self, o->dir->fd, o->temp);
  free(o);
}

/* ---- naming ---- */

/* Gives an unnamed file a temporary name, to be renamed over the one that is there. */
static ckpt_status name_temporarily(ckpt_output *o, ckpt_error *err) {
  char temp[CKPT_TEMP_NAME];
  CKPT_TRY(ckpt_dir_temp_name(temp, o->dir, err));
  if (o->dir->io->link_fd(o->dir->io->self, o->fd, o->dir->fd, temp) != 0)
    return ckpt_dir_fail(o->dir, temp, "the new file cannot be given a name", err);
  memcpy(o->temp, temp, sizeof temp);
  return CKPT_OK;
}

/* A name that is free is taken in one step; a name that is in use changes hands by rename, which is atomic. */
static ckpt_status give_name(ckpt_output *o, const char *name, ckpt_error *err) {
  const ckpt_io *io = o->dir->io;
  if (o->temp[0] == '\0') {
    if (io->link_fd(io->self, o->fd, o->dir->fd, name) == 0) return CKPT_OK;
    if (errno != EEXIST) return ckpt_dir_fail(o->dir, name, "the new file cannot be given its name", err);
    CKPT_TRY(name_temporarily(o, err));
  }
  if (io->renameat(io->self, o->dir->fd, o->temp, name) != 0)
    return ckpt_dir_fail(o->dir, name, "the new file cannot be given its name", err);
  o->temp[0] = '\0';
  return CKPT_OK;
}

/* A failed fsync is never repeated: the kernel has marked the pages clean, and a second one would lie. */
static ckpt_status commit(ckpt_output *o, const char *name, ckpt_error *err) {
  CKPT_TRY(ckpt_name_check(name, err));
  if (o->dir->io->fsync(o->dir->io->self, o->fd) != 0)
    return ckpt_dir_fail(o->dir, name, "the new file cannot be synced", err);
  CKPT_TRY(give_name(o, name, err));
  return ckpt_dir_sync(o->dir, err);
}

ckpt_status ckpt_output_commit(ckpt_output *o, const char *name, ckpt_error *err) {
  ckpt_status st = commit(o, name, err);
  ckpt_output_abandon(o);
  return st;
}

/* ---- appending ---- */

static ckpt_status append_to(ckpt_dir *dir, int fd, const char *name, const void *data, size_t size, ckpt_error *err) {
  const ckpt_io *io = dir->io;
  for (const char *p = data; size > 0;) {
    ssize_t n = io->write(io->self, fd, p, size);
    if (n < 0) return ckpt_dir_fail(dir, name, "the line cannot be appended", err);
    p += n;
    size -= (size_t)n;
  }
  return io->fsync(io->self, fd) == 0 ? CKPT_OK : ckpt_dir_fail(dir, name, "the file cannot be synced", err);
}

ckpt_status ckpt_dir_append(ckpt_dir *dir, const char *name, const void *data, size_t size, ckpt_error *err) {
  const ckpt_io *io = dir->io;
  bool made = !ckpt_dir_has(dir, name);
  int fd = io->openat(io->self, dir->fd, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd < 0) return ckpt_dir_fail(dir, name, "the file cannot be opened", err);
  ckpt_status st = append_to(dir, fd, name, data, size, err);
  if (io->close(io->self, fd) != 0 && st == CKPT_OK) st = ckpt_dir_fail(dir, name, "the file cannot be closed", err);
  return st == CKPT_OK && made ? ckpt_dir_sync(dir, err) : st;
}
