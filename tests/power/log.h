/*
 * log.h - the log of a disk's writes, as QEMU's blklogwrites (and Linux' dm-log-writes) writes it:
 *
 *   sector 0   u64 magic, u64 version, u64 entries, u32 sector size
 *   then for each entry, each on a sector of its own
 *              u64 sector, u64 sectors, u64 flags, u64 length, padding; then the sectors' bytes unless it is a discard
 *
 * A flush is an entry without bytes: every write before it in the log is durable once the log has it.
 */
#ifndef POWER_LOG_H
#define POWER_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOG_FLUSH = 1, LOG_FUA = 2, LOG_DISCARD = 4 };

typedef struct log_entry {
  uint64_t at, n; /* bytes of the disk */
  uint64_t flags;
  const unsigned char *data; /* of the mapping; NULL: none */
} log_entry;

typedef struct write_log {
  log_entry *entries;
  size_t n;
  void *map;
  size_t map_n;
} write_log;

/* Maps the file. False, and a line on stderr, if it is no such log. */
bool log_open(write_log *log, const char *path);
void log_close(write_log *log);

#endif
