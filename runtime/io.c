/* io.c - see io.h. First the table over the system's calls, then the helpers that repeat what has to be repeated. */
#include "io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

/* ---- the system's calls ---- */

static int io_openat(void *ctx, int dir, const char *name, int flags, mode_t mode) {
  (void)ctx;
  return openat(dir, name, flags, mode);
}

static int io_close(void *ctx, int fd) {
  (void)ctx;
  return close(fd);
}

static ssize_t io_pread(void *ctx, int fd, void *data, size_t size, off_t at) {
  (void)ctx;
  return pread(fd, data, size, at);
}

static ssize_t io_write(void *ctx, int fd, const void *data, size_t size) {
  (void)ctx;
  return write(fd, data, size);
}

static int io_fsync(void *ctx, int fd) {
  (void)ctx;
  return fsync(fd);
}

static int io_direct(void *ctx, int fd, bool on) {
  (void)ctx;
  int flags = fcntl(fd, F_GETFL);
  return flags < 0 ? -1 : fcntl(fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT);
}

static int io_fallocate(void *ctx, int fd, int mode, off_t at, off_t size) {
  (void)ctx;
  return fallocate(fd, mode, at, size);
}

static int io_ftruncate(void *ctx, int fd, off_t size) {
  (void)ctx;
  return ftruncate(fd, size);
}

static int io_clone(void *ctx, int to, int from) {
  (void)ctx;
  return ioctl(to, FICLONE, from);
}

/* AT_EMPTY_PATH needs a capability on kernels before 6.10, /proc needs to be mounted: one of them nearly always works.
 */
static int io_link_fd(void *ctx, int fd, int dir, const char *name) {
  (void)ctx;
  char path[40];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  if (linkat(AT_FDCWD, path, dir, name, AT_SYMLINK_FOLLOW) == 0) return 0;
  return errno == ENOENT ? linkat(fd, "", dir, name, AT_EMPTY_PATH) : -1;
}

static int io_linkat(void *ctx, int dir, const char *name, const char *other) {
  (void)ctx;
  return linkat(dir, name, dir, other, 0);
}

static int io_renameat(void *ctx, int dir, const char *from, const char *to) {
  (void)ctx;
  return renameat(dir, from, dir, to);
}

static int io_unlinkat(void *ctx, int dir, const char *name) {
  (void)ctx;
  return unlinkat(dir, name, 0);
}

static int io_mkdirat(void *ctx, int dir, const char *name, mode_t mode) {
  (void)ctx;
  return mkdirat(dir, name, mode);
}

static int io_fstat(void *ctx, int fd, struct stat *st) {
  (void)ctx;
  return fstat(fd, st);
}

static int io_statat(void *ctx, int dir, const char *name, struct stat *st) {
  (void)ctx;
  return fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW);
}

/* By getdents64: opendir would take 32 KB of memory and three more calls each time, which a policy's every call pays.
 */
static int list_entries(int fd, bool (*each)(void *arg, const char *name), void *arg) {
  _Alignas(struct dirent64) char buffer[4096];
  for (;;) {
    ssize_t n = getdents64(fd, buffer, sizeof buffer);
    if (n <= 0) return (int)n;
    for (ssize_t at = 0; at < n;) {
      const struct dirent64 *e = (const struct dirent64 *)(const void *)(buffer + at);
      if (!each(arg, e->d_name)) return 0;
      at += e->d_reclen;
    }
  }
}

/* Through a descriptor of its own: the position of `dir` stays where it was. */
static int io_list(void *ctx, int dir, bool (*each)(void *arg, const char *name), void *arg) {
  (void)ctx;
  int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return -1;
  int r = list_entries(fd, each, arg), sys = errno;
  close(fd);
  errno = sys;
  return r;
}

static int io_flock(void *ctx, int fd) {
  (void)ctx;
  return flock(fd, LOCK_EX | LOCK_NB);
}

/* Should somebody come in between, the kernel sends a signal: SIGURG, which does nothing unless it is wanted. */
static int io_lease(void *ctx, int fd) {
  (void)ctx;
  if (fcntl(fd, F_SETSIG, SIGURG) != 0 || fcntl(fd, F_SETLEASE, F_WRLCK) != 0) return -1;
  return fcntl(fd, F_SETLEASE, F_UNLCK);
}

static ssize_t io_random(void *ctx, void *data, size_t size) {
  (void)ctx;
  return getrandom(data, size, 0);
}

const ckpt_io *ckpt_io_posix(void) {
  static const ckpt_io posix = {
      .openat = io_openat,
      .close = io_close,
      .pread = io_pread,
      .write = io_write,
      .fsync = io_fsync,
      .direct = io_direct,
      .fallocate = io_fallocate,
      .clone = io_clone,
      .ftruncate = io_ftruncate,
      .link_fd = io_link_fd,
      .linkat = io_linkat,
      .fstat = io_fstat,
      .renameat = io_renameat,
      .unlinkat = io_unlinkat,
      .mkdirat = io_mkdirat,
      .list = io_list,
      .statat = io_statat,
      .flock = io_flock,
      .lease = io_lease,
      .random = io_random,
  };
  return &posix;
}

/* ---- what has to be repeated ---- */

enum { MAX_INTERRUPTIONS = 1000 };
#define MAX_CHUNK ((size_t)0x7ffff000) /* what Linux transfers at most in one call */

static bool again(int *interruptions) { return errno == EINTR && ++*interruptions < MAX_INTERRUPTIONS; }

int ckpt_io_open(const ckpt_io *io, int dir, const char *name, int flags, mode_t mode) {
  int fd, tries = 0;
  do fd = io->openat(io->ctx, dir, name, flags, mode);
  while (fd < 0 && again(&tries));
  return fd;
}

int ckpt_io_truncate(const ckpt_io *io, int fd, off_t size) {
  int r, tries = 0;
  do r = io->ftruncate(io->ctx, fd, size);
  while (r < 0 && again(&tries));
  return r;
}

int ckpt_io_write_some(const ckpt_io *io, int fd, const void *data, size_t size, size_t *done) {
  int tries = 0;
  for (*done = 0; *done < size;) {
    size_t left = size - *done;
    ssize_t n = io->write(io->ctx, fd, (const char *)data + *done, left < MAX_CHUNK ? left : MAX_CHUNK);
    if (n == 0) errno = EIO; /* no error and no progress: not something to wait for */
    if (n < 0 && again(&tries)) continue;
    if (n <= 0) return -1;
    *done += (size_t)n;
    tries = 0;
  }
  return 0;
}

int ckpt_io_write_all(const ckpt_io *io, int fd, const void *data, size_t size) {
  size_t done;
  return ckpt_io_write_some(io, fd, data, size, &done);
}

ssize_t ckpt_io_read_at(const ckpt_io *io, int fd, void *data, size_t size, off_t at) {
  size_t done = 0;
  for (int tries = 0; done < size;) {
    size_t want = size - done < MAX_CHUNK ? size - done : MAX_CHUNK;
    ssize_t n = io->pread(io->ctx, fd, (char *)data + done, want, at + (off_t)done);
    if (n < 0 && again(&tries)) continue;
    if (n < 0) return -1;
    if (n == 0) break;
    done += (size_t)n;
    tries = 0;
  }
  return (ssize_t)done;
}

/* Allocation of a large file can be interrupted each time by a profiler's timer; it is a help, so it may be given up.
 */
int ckpt_io_reserve(const ckpt_io *io, int fd, off_t size) {
  int r, tries = 0;
  do r = io->fallocate(io->ctx, fd, FALLOC_FL_KEEP_SIZE, 0, size);
  while (r < 0 && again(&tries));
  if (r == 0 || errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL || errno == EINTR) return 0;
  return -1;
}

bool ckpt_io_direct(const ckpt_io *io, int fd, bool on) {
  int sys = errno;
  bool done = io->direct != NULL && io->direct(io->ctx, fd, on) == 0;
  errno = sys;
  return done && on;
}

void ckpt_io_close(const ckpt_io *io, int fd) {
  int sys = errno;
  io->close(io->ctx, fd);
  errno = sys;
}
