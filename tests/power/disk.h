/*
 * disk.h - a disk in memory that can be mounted: a memfd behind a loop device. Nothing of it outlives the process: the
 * memfd has no name, the loop device clears itself, and mounts are made in a namespace of the process's own.
 *
 * Its content is that of `base` but for what disk_put has written since the last disk_reset, and what the mounted file
 * system has.
 */
#ifndef POWER_DISK_H
#define POWER_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct disk {
  unsigned char *base; /* what is durable */
  unsigned char *now;  /* the memfd's memory */
  size_t n;
  int file, loop; /* -1: none */
  char device[32];
} disk;

/* A mount namespace of this process alone. False, and a line on stderr, as from all of these. */
bool disk_private_mounts(void);

/* A disk with the content of the image. */
bool disk_open(disk *d, const char *image);
void disk_close(disk *d);

/* Makes bytes durable: they are part of what disk_reset goes back to. */
void disk_commit(disk *d, uint64_t at, const void *data, size_t n);

/* Back to what is durable; only while it is not mounted. */
bool disk_reset(disk *d);
void disk_put(disk *d, uint64_t at, const void *data, size_t n);

/* `options` as in mount(8)'s -o, for the file system alone. False and errno if it cannot be mounted: no line. */
bool disk_mount(const disk *d, const char *where, const char *type, const char *options);
bool disk_unmount(const char *where);

#endif
