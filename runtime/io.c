/* io.c - the table over the system's calls. Interrupted calls are taken up again here, so that nobody else has to. */
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#define RETRY(result, call) \
  do result = (call);       \
  while ((result) < 0 && errno == EINTR)

static int io_openat(void *self, int dir, const char *name, int flags, mode_t mode) {
  (void)self;
  int r;
  RETRY(r, openat(dir, name, flags, mode));
  return r;
}

static int io_close(void *self, int fd) {
  (void)self;
  return close(fd);
}

static ssize_t io_write(void *self, int fd, const void *data, size_t size) {
  (void)self;
  ssize_t r;
  RETRY(r, write(fd, data, size));
  return r;
}

static ssize_t io_pread(void *self, int fd, void *data, size_t size, off_t at) {
  (void)self;
  ssize_t r;
  RETRY(r, pread(fd, data, size, at));
  return r;
}

static int io_fsync(void *self, int fd) {
  (void)self;
  int r;
  RETRY(r, fsync(fd));
  return r;
}

static int io_allocate(void *self, int fd, off_t size) {
  (void)self;
  int r;
  RETRY(r, fallocate(fd, 0, 0, size));
  return r;
}

static int io_clone(void *self, int to, int from) {
  (void)self;
  return ioctl(to, FICLONE, from);
}

static int io_link_fd(void *self, int fd, int dir, const char *name) {
  (void)self;
  char path[40];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return linkat(AT_FDCWD, path, dir, name, AT_SYMLINK_FOLLOW);
}

static int io_linkat(void *self, int dir, const char *name, const char *alias) {
  (void)self;
  return linkat(dir, name, dir, alias, 0);
}

static int io_renameat(void *self, int dir, const char *from, const char *to) {
  (void)self;
  return renameat(dir, from, dir, to);
}

static int io_unlinkat(void *self, int dir, const char *name) {
  (void)self;
  return unlinkat(dir, name, 0);
}

static int io_statat(void *self, int dir, const char *name, struct stat *st) {
  (void)self;
  return fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW);
}

static int io_lock(void *self, int fd) {
  (void)self;
  return flock(fd, LOCK_EX | LOCK_NB);
}

static ssize_t io_random(void *self, void *data, size_t size) {
  (void)self;
  ssize_t r;
  RETRY(r, getrandom(data, size, 0));
  return r;
}

const ckpt_io *ckpt_io_posix(void) {
  static const ckpt_io posix = {NULL,        io_openat,    io_close,  io_write,    io_pread,    io_fsync, io_allocate, io_clone,
                                io_link_fd,  io_linkat,    io_renameat, io_unlinkat, io_statat, io_lock,  io_random};
  return &posix;
}
