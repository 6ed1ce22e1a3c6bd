/*
 * io.h - the table of calls through which everything goes that publish, dir, alias and ledger do to a file system.
 * Tests put a table of their own there: one that fails on demand, or a file system that loses what was not synced.
 *
 * Each entry does what the system call of its name does, once: -1 and errno on failure, short counts allowed. What has
 * to be repeated (EINTR, short writes) is repeated by the helpers below, above the table, so that a test can see it.
 * The writes of a large file, and the fsync of a new one, come from a thread of their own, but no two calls for one
 * directory are ever made at the same time.
 * Descriptors must be real ones where a written file is mapped to be verified (a memfd will do).
 * Names are single components of `dir`, except in openat and mkdirat with AT_FDCWD while a directory is being opened.
 */
#ifndef CKPT_IO_H
#define CKPT_IO_H

#include <sys/stat.h>
#include <sys/types.h>

#include "base.h"

typedef struct ckpt_io {
  void *ctx; /* first argument of every call */
  int (*openat)(void *ctx, int dir, const char *name, int flags, mode_t mode);
  int (*close)(void *ctx, int fd); /* the descriptor is gone even when this fails */
  ssize_t (*pread)(void *ctx, int fd, void *data, size_t size, off_t at);
  ssize_t (*write)(void *ctx, int fd, const void *data, size_t size);
  int (*fsync)(void *ctx, int fd);
  int (*fallocate)(void *ctx, int fd, int mode, off_t at, off_t size);
  int (*ftruncate)(void *ctx, int fd, off_t size);
  int (*clone)(void *ctx, int to, int from);                    /* ioctl FICLONE */
  int (*link_fd)(void *ctx, int fd, int dir, const char *name); /* linkat of an O_TMPFILE: gives it a name */
  int (*linkat)(void *ctx, int dir, const char *name, const char *other);
  int (*renameat)(void *ctx, int dir, const char *from, const char *to);
  int (*unlinkat)(void *ctx, int dir, const char *name);
  int (*mkdirat)(void *ctx, int dir, const char *name, mode_t mode);
  int (*fstat)(void *ctx, int fd, struct stat *st);
  int (*statat)(void *ctx, int dir, const char *name, struct stat *st); /* follows no link */
  /* Calls each(arg, name) for every entry, "." and ".." too, until it returns false (which is no failure). */
  int (*list)(void *ctx, int dir, bool (*each)(void *arg, const char *name), void *arg);
  int (*flock)(void *ctx, int fd); /* LOCK_EX | LOCK_NB */
  int (*lease)(void *ctx, int fd); /* F_SETLEASE, F_WRLCK, and back: 0 if no other descriptor or mapping has the file */
  ssize_t (*random)(void *ctx, void *data, size_t size);
  int (*direct)(void *ctx, int fd, bool on); /* fcntl O_DIRECT; NULL: never */
} ckpt_io;

/* The system's own calls. */
const ckpt_io *ckpt_io_posix(void);

/*
 * EINTR is tried again a bounded number of times: under a profiler's timer the call gets through, and a system that
 * answers nothing else does not hang the trainer. There is no helper for fsync: whatever it returned, it is never
 * called twice for the same data (the kernel may have marked the pages clean, also while it was interrupted).
 */
int ckpt_io_open(const ckpt_io *io, int dir, const char *name, int flags, mode_t mode);
int ckpt_io_write_all(const ckpt_io *io, int fd, const void *data, size_t size);
int ckpt_io_write_some(const ckpt_io *io, int fd, const void *data, size_t size, size_t *done); /* *done, also if -1 */
int ckpt_io_truncate(const ckpt_io *io, int fd, off_t size);
ssize_t ckpt_io_read_at(const ckpt_io *io, int fd, void *data, size_t size, off_t at); /* short only at the end */

/* Space for `size` bytes, the file's size unchanged. 0 where the file system cannot say; -1 when it has none. */
int ckpt_io_reserve(const ckpt_io *io, int fd, off_t size);

/* Direct writing on or off; whether it is on now. Keeps errno. */
bool ckpt_io_direct(const ckpt_io *io, int fd, bool on);

/* Closes, keeping errno. What close reports was reported by fsync before. */
void ckpt_io_close(const ckpt_io *io, int fd);

#endif
