/*
 * io.h - the table of calls through which every write, name and sync of a run directory goes. Tests put their own table there:
 * one that fails on demand, or a file system of their own that loses what was not synced.
 *
 * Each has the meaning and the errno of the system call of its name; `self` is the table's own.
 */
#ifndef CKPT_IO_H
#define CKPT_IO_H

#include <dirent.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base.h"

typedef struct ckpt_io {
  void *self;
  int (*openat)(void *self, int dir, const char *name, int flags, mode_t mode);
  int (*close)(void *self, int fd);
  ssize_t (*write)(void *self, int fd, const void *data, size_t size);
  ssize_t (*pread)(void *self, int fd, void *data, size_t size, off_t at);
  int (*fsync)(void *self, int fd);
  int (*allocate)(void *self, int fd, off_t size);         /* fallocate(fd, 0, 0, size) */
  int (*clone)(void *self, int to, int from);              /* ioctl FICLONE */
  int (*link_fd)(void *self, int fd, int dir, const char *name); /* gives an O_TMPFILE its name */
  int (*linkat)(void *self, int dir, const char *name, const char *alias);
  int (*renameat)(void *self, int dir, const char *from, const char *to);
  int (*unlinkat)(void *self, int dir, const char *name);
  int (*statat)(void *self, int dir, const char *name, struct stat *st); /* follows no link */
  int (*lock)(void *self, int fd);                         /* flock, exclusive, not waiting */
  ssize_t (*random)(void *self, void *data, size_t size);
} ckpt_io;

/* The system's own calls. */
const ckpt_io *ckpt_io_posix(void);

#endif
