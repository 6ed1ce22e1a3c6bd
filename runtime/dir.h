/*
 * dir.h - the inside of an open directory, shared by dir.c (names, aliases) and publish.c (new files).
 */
#ifndef CKPT_DIR_H
#define CKPT_DIR_H

#include "publish.h"

struct ckpt_dir {
  const ckpt_io *io;
  char *path;
  int fd, lock; /* lock: -1 without one */
};

enum { CKPT_TEMP_NAME = 32 };
#define CKPT_TEMP_PREFIX ".tmp-ckpt-"

/* A name that nobody can guess: ".tmp-ckpt-" and 16 hexadecimal digits. */
ckpt_status ckpt_dir_temp_name(char out[CKPT_TEMP_NAME], ckpt_dir *dir, ckpt_error *err);

ckpt_status ckpt_dir_sync(ckpt_dir *dir, ckpt_error *err);

/* CKPT_E_IO with "dir/name: what: errno". */
ckpt_status ckpt_dir_fail(const ckpt_dir *dir, const char *name, const char *what, ckpt_error *err);

#endif
