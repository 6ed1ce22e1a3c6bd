/* tables.c - see tables.h. */
#include "tables.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* ---- no hard links ---- */

static int no_link(void *ctx, int dir, const char *name, const char *other) {
  (void)ctx, (void)dir, (void)name, (void)other;
  errno = EPERM;
  return -1;
}

static int no_link_fd(void *ctx, int fd, int dir, const char *name) {
  (void)ctx, (void)fd, (void)dir, (void)name;
  errno = EPERM;
  return -1;
}

void tables_take_links(ckpt_io *io) {
  io->linkat = no_link;
  io->link_fd = no_link_fd;
}

/* ---- bugs ---- */

static bool is_directory(int fd) {
  struct stat st;
  return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

static int sync_directories_only(void *ctx, int fd) { return is_directory(fd) ? ckpt_io_posix()->fsync(ctx, fd) : 0; }

static int sync_files_only(void *ctx, int fd) { return is_directory(fd) ? 0 : ckpt_io_posix()->fsync(ctx, fd); }

/* Over the blocks that are there; ext4 takes a file that is cut first for a replacement, and keeps it whole. */
static int copy_over(int from, int to) {
  char block[65536];
  ssize_t n;
  while ((n = read(from, block, sizeof block)) > 0)
    if (write(to, block, (size_t)n) != n) return -1;
  return n < 0 || ftruncate(to, lseek(to, 0, SEEK_CUR)) != 0 ? -1 : fsync(to);
}

static int write_over(void *ctx, int dir, const char *from, const char *to) {
  int source = openat(dir, from, O_RDONLY | O_CLOEXEC);
  int target = openat(dir, to, O_WRONLY | O_CLOEXEC);
  int r = source < 0 ? -1 : target < 0 ? ckpt_io_posix()->renameat(ctx, dir, from, to) : copy_over(source, target);
  if (source >= 0) close(source);
  if (target >= 0) close(target);
  return r;
}

bool tables_bug(ckpt_io *out, const char *bug) {
  *out = *ckpt_io_posix();
  if (strcmp(bug, "no-file-sync") == 0)
    out->fsync = sync_directories_only;
  else if (strcmp(bug, "no-dir-sync") == 0)
    out->fsync = sync_files_only;
  else if (strcmp(bug, "in-place") == 0)
    out->renameat = write_over;
  else
    return strcmp(bug, "none") == 0;
  return true;
}
