/*
 * spare.c - recycled blocks: to write over a file whose blocks are there costs less than to have new ones found and
 * noted (measured: four fifths of the time with direct writing, a third through the page cache, with fsync). So a
 * retired checkpoint may be kept, under a temporary name, for the next new file to be written into.
 *
 * Never one that is still somebody's: it must be a regular file with no other name, and a write lease must show that no
 * descriptor and no mapping of any process holds it, this one included. Whatever else is the case, it is unlinked and
 * the new file is a new file. Killed at any moment: the spare is a left-over like any other, and the next open removes
 * it.
 */
#include <fcntl.h>

#include "dir.h"

static bool is_alone(const struct stat *st) { return S_ISREG(st->st_mode) && st->st_nlink == 1 && st->st_size > 0; }

void ckpt_dir_set_recycle(ckpt_dir *dir, bool recycle) { dir->recycle = recycle; }

bool ckpt_dir_keep_spare(ckpt_dir *dir, const char *name) {
  struct stat st;
  char temp[CKPT_TEMP_NAME];
  if (!dir->recycle || dir->spare[0] != '\0') return false;
  if (dir->io->statat(dir->io->ctx, dir->fd, name, &st) != 0 || !is_alone(&st)) return false;
  if (ckpt_dir_temp_name(temp, dir, NULL) != CKPT_OK) return false;
  if (dir->io->renameat(dir->io->ctx, dir->fd, name, temp) != 0) return false;
  memcpy(dir->spare, temp, sizeof temp);
  return true;
}

void ckpt_dir_drop_spare(ckpt_dir *dir) {
  ckpt_dir_drop(dir, dir->spare);
  dir->spare[0] = '\0';
}

/* The lease comes last: whoever opened it before is seen, and nobody else knows its name. */
static bool may_overwrite(ckpt_dir *dir, int fd, struct stat *st) {
  return dir->io->fstat(dir->io->ctx, fd, st) == 0 && is_alone(st) && dir->io->lease(dir->io->ctx, fd) == 0;
}

static bool cut(ckpt_dir *dir, int fd, uint64_t *blocks, const struct stat *st, uint64_t size) {
  *blocks = (uint64_t)st->st_size < size ? (uint64_t)st->st_size : size;
  return (uint64_t)st->st_size <= size || ckpt_io_truncate(dir->io, fd, (off_t)size) == 0;
}

bool ckpt_dir_take_spare(int *out, char temp[CKPT_TEMP_NAME], uint64_t *blocks, ckpt_dir *dir, uint64_t size) {
  struct stat st;
  if (dir->spare[0] == '\0') return false;
  int fd = ckpt_io_open(dir->io, dir->fd, dir->spare, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0);
  bool ok = fd >= 0 && may_overwrite(dir, fd, &st) && cut(dir, fd, blocks, &st, size);
  if (ok) {
    memcpy(temp, dir->spare, CKPT_TEMP_NAME);
    *out = fd;
  } else {
    if (fd >= 0) ckpt_io_close(dir->io, fd);
    ckpt_dir_drop_spare(dir);
  }
  dir->spare[0] = '\0';
  return ok;
}
