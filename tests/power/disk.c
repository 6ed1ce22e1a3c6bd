/* disk.c - see disk.h. */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

enum { PAGE = 4096, TRIES = 64 };
#define FLUSH_BUFFERS _IO(0x12, 97) /* BLKFLSBUF; linux/fs.h and sys/mount.h do not go together */

static bool failed(const char *what) {
  fprintf(stderr, "disk: %s: %s\n", what, strerror(errno));
  return false;
}

bool disk_private_mounts(void) {
  if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0) return true;
  return failed("no mount namespace can be had");
}

/* ---- the loop device ---- */

/* Others look for a free device too: the one that is free may be taken before we have it. */
static bool attach(disk *d) {
  struct loop_config config = {.fd = (uint32_t)d->file, .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
  int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
  for (int i = 0; control >= 0 && d->loop < 0 && i < TRIES; i++) {
    int number = ioctl(control, LOOP_CTL_GET_FREE);
    if (number < 0) break;
    snprintf(d->device, sizeof d->device, "/dev/loop%d", number);
    int fd = open(d->device, O_RDWR | O_CLOEXEC);
    if (fd < 0) break;
    if (ioctl(fd, LOOP_CONFIGURE, &config) == 0)
      d->loop = fd;
    else
      close(fd);
  }
  if (control >= 0) close(control);
  return d->loop >= 0 || failed("no loop device can be had");
}

/* ---- content ---- */

/* The image is mostly holes; so are both memories then. */
static bool read_image(disk *d, int fd) {
  off_t from = 0, to = 0;
  while ((from = lseek(fd, to, SEEK_DATA)) >= 0) {
    to = lseek(fd, from, SEEK_HOLE);
    if (to < 0 || pread(fd, d->base + from, (size_t)(to - from), from) != to - from) return false;
    memcpy(d->now + from, d->base + from, (size_t)(to - from));
  }
  return errno == ENXIO;
}

static bool make_memory(disk *d, off_t n) {
  d->n = (size_t)n;
  d->file = memfd_create("disk", MFD_CLOEXEC);
  if (d->file < 0 || ftruncate(d->file, n) != 0) return false;
  d->base = mmap(NULL, d->n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  d->now = mmap(NULL, d->n, PROT_READ | PROT_WRITE, MAP_SHARED, d->file, 0);
  return d->base != MAP_FAILED && d->now != MAP_FAILED;
}

bool disk_open(disk *d, const char *image) {
  *d = (disk){.file = -1, .loop = -1};
  int fd = open(image, O_RDONLY | O_CLOEXEC);
  off_t n = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
  bool ok = n > 0 && n % PAGE == 0 && make_memory(d, n) && read_image(d, fd);
  if (!ok) failed(image);
  if (fd >= 0) close(fd);
  return ok && attach(d);
}

void disk_close(disk *d) {
  if (d->loop >= 0) close(d->loop);
  if (d->file >= 0) close(d->file);
  if (d->base != NULL && d->base != MAP_FAILED) munmap(d->base, d->n);
  if (d->now != NULL && d->now != MAP_FAILED) munmap(d->now, d->n);
}

void disk_put(disk *d, uint64_t at, const void *data, size_t n) {
  if (at <= d->n && n <= d->n - at) memcpy(d->now + at, data, n);
}

void disk_commit(disk *d, uint64_t at, const void *data, size_t n) {
  if (at <= d->n && n <= d->n - at) memcpy(d->base + at, data, n);
  disk_put(d, at, data, n);
}

static void reset_pages(disk *d, size_t from, size_t to) {
  for (size_t at = from; at < to; at += PAGE)
    if (memcmp(d->now + at, d->base + at, PAGE) != 0) memcpy(d->now + at, d->base + at, PAGE);
}

/* The device's own cache knows nothing of what is written behind it, nor the other way round. */
static bool drop_cache(const disk *d) {
  return ioctl(d->loop, FLUSH_BUFFERS, 0) == 0 || failed("its cache cannot be dropped");
}

bool disk_reset(disk *d) {
  off_t from = 0, to = 0;
  if (!drop_cache(d)) return false;
  while ((from = lseek(d->file, to, SEEK_DATA)) >= 0) {
    to = lseek(d->file, from, SEEK_HOLE);
    if (to < 0) return failed("its holes cannot be found");
    reset_pages(d, (size_t)from, (size_t)to);
  }
  return true;
}

/* ---- mounting ---- */

bool disk_mount(const disk *d, const char *where, const char *type, const char *options) {
  return drop_cache(d) && mount(d->device, where, type, MS_NOATIME, options) == 0;
}

bool disk_unmount(const char *where) { return umount2(where, 0) == 0 || failed("umount"); }
