/* log.c - see log.h. */
#include "log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x6a736677736872)

static uint64_t number(const unsigned char *p, size_t bytes) {
  uint64_t v = 0;
  memcpy(&v, p, bytes); /* the machine that wrote it is this one */
  return v;
}

static bool refuse(const char *path, const char *what) {
  fprintf(stderr, "%s: %s\n", path, what);
  return false;
}

static bool map_file(write_log *log, const char *path) {
  struct stat st;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fstat(fd, &st) != 0 || st.st_size < 512) return refuse(path, "it cannot be read, or is no log");
  log->map_n = (size_t)st.st_size;
  log->map = mmap(NULL, log->map_n, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  return log->map != MAP_FAILED || refuse(path, "it cannot be mapped");
}

/* The entry at `at`, and where the next one is; false if the file ends before it. */
static bool read_entry(log_entry *e, size_t *at, const write_log *log, size_t sector) {
  const unsigned char *p = (const unsigned char *)log->map + *at;
  if (log->map_n - *at < sector) return false;
  *e = (log_entry){number(p, 8) * sector, number(p + 8, 8) * sector, number(p + 16, 8), NULL};
  *at += sector;
  if (e->n == 0 || (e->flags & LOG_DISCARD)) return true;
  if (log->map_n - *at < e->n) return false;
  e->data = p + sector;
  *at += e->n;
  return true;
}

bool log_open(write_log *log, const char *path) {
  *log = (write_log){0};
  if (!map_file(log, path)) return false;
  const unsigned char *head = log->map;
  uint64_t n = number(head + 16, 8), sector = number(head + 24, 4);
  if (number(head, 8) != MAGIC || sector < 512 || sector > 4096) return refuse(path, "this is no log of writes");
  if (n > log->map_n / sector) return refuse(path, "the log has more entries than room for them");
  log->entries = calloc(n + 1, sizeof *log->entries);
  if (log->entries == NULL) return refuse(path, "no memory");
  for (size_t at = sector; log->n < n; log->n++)
    if (!read_entry(&log->entries[log->n], &at, log, sector)) return refuse(path, "the log is cut off");
  return true;
}

void log_close(write_log *log) {
  free(log->entries);
  if (log->map != NULL) munmap(log->map, log->map_n);
  *log = (write_log){0};
}
