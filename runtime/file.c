/*
 * file.c - see file.h. The mapping is MAP_PRIVATE: pages that are only read are the page cache's own either way, but no
 * stray write of ours could ever reach the file, and some FUSE file systems refuse MAP_SHARED. What a published
 * checkpoint holds does not change under it, because we never modify one in place.
 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct ckpt_mapping {
  atomic_size_t refs;
  const unsigned char *data;
  size_t size;
  bool mapped;        /* to be unmapped by us */
  atomic_size_t used; /* bytes since the pages were last let go */
  ckpt_trust trust;
};

static ckpt_status make(ckpt_mapping **out, const void *data, size_t size, bool mapped, ckpt_error *err) {
  ckpt_mapping *m = malloc(sizeof *m);
  if (m == NULL) return ckpt_fail_nomem(err, sizeof *m);
  atomic_init(&m->refs, 1);
  m->data = data;
  m->size = size;
  m->mapped = mapped;
  atomic_init(&m->used, 0);
  m->trust = ckpt_trust_of(NULL);
  *out = m;
  return CKPT_OK;
}

ckpt_status ckpt_mapping_memory(ckpt_mapping **out, const void *data, size_t size, ckpt_error *err) {
  return make(out, data, size, false, err);
}

static ckpt_status map_fd(ckpt_mapping **out, int fd, size_t size, const char *name, ckpt_error *err) {
  void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (data == MAP_FAILED) return ckpt_fail_errno(err, errno, "%s: the file cannot be mapped", name);
  ckpt_status st = make(out, data, size, true, err);
  if (st != CKPT_OK) munmap(data, size);
  return st;
}

ckpt_status ckpt_mapping_open_fd(ckpt_mapping **out, int fd, const char *name, ckpt_error *err) {
  struct stat st;
  if (fstat(fd, &st) != 0) return ckpt_fail_errno(err, errno, "%s: the file cannot be looked at", name);
  if (S_ISDIR(st.st_mode)) return ckpt_fail(err, CKPT_E_FORMAT, -1, "%s: a directory, not a checkpoint file", name);
  if (!S_ISREG(st.st_mode))
    return ckpt_fail(err, CKPT_E_FORMAT, -1, "%s: a FIFO, socket or device, not a checkpoint file", name);
  if (st.st_size == 0) return make(out, "", 0, false, err); /* mmap refuses a length of 0 */
  if ((uintmax_t)st.st_size > SIZE_MAX / 2)
    return ckpt_fail(err, CKPT_E_LIMIT, -1, "%s: %lld bytes are more than this process can address", name,
                     (long long)st.st_size);
  return map_fd(out, fd, (size_t)st.st_size, name, err);
}

enum {
  MAX_INTERRUPTIONS = 1000
}; /* as in io.c: a profiler's timer is waited out, a system that says nothing else is not */

/* O_NONBLOCK: opening a FIFO must not wait for somebody to write into it. A socket cannot be opened at all (ENXIO). */
ckpt_status ckpt_mapping_open_at(ckpt_mapping **out, int dir, const char *path, ckpt_error *err) {
  int fd, tries = 0;
  do fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  while (fd < 0 && errno == EINTR && ++tries < MAX_INTERRUPTIONS);
  if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
    return ckpt_fail(err, CKPT_E_NOTFOUND, -1, "%s: there is no such file", path);
  if (fd < 0 && errno == ENXIO)
    return ckpt_fail(err, CKPT_E_FORMAT, -1, "%s: a FIFO, socket or device, not a checkpoint file", path);
  if (fd < 0) return ckpt_fail_errno(err, errno, "%s: the file cannot be opened", path);
  ckpt_status st = ckpt_mapping_open_fd(out, fd, path, err);
  close(fd);
  return st;
}

ckpt_status ckpt_mapping_open(ckpt_mapping **out, const char *path, ckpt_error *err) {
  return ckpt_mapping_open_at(out, AT_FDCWD, path, err);
}

ckpt_mapping *ckpt_mapping_retain(ckpt_mapping *m) {
  atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
  return m;
}

void ckpt_mapping_release(ckpt_mapping *m) {
  if (m == NULL || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1) return;
  if (m->mapped) munmap((void *)(uintptr_t)m->data, m->size);
  free(m);
}

/* MADV_DONTNEED on pages of a file that were never written to: the next look brings them back as they were. */
void ckpt_mapping_used(ckpt_mapping *m, size_t n) {
  if (!m->mapped || m->size < CKPT_MAPPING_WINDOW) return;
  size_t before = atomic_fetch_add_explicit(&m->used, n, memory_order_relaxed);
  if (before + n < CKPT_MAPPING_WINDOW) return;
  atomic_store_explicit(&m->used, 0, memory_order_relaxed);
  madvise((void *)(uintptr_t)m->data, m->size, MADV_DONTNEED);
}

void ckpt_mapping_set_trust(ckpt_mapping *m, const ckpt_trust *trust) { m->trust = *trust; }
const ckpt_trust *ckpt_mapping_trust(const ckpt_mapping *m) { return &m->trust; }

const unsigned char *ckpt_mapping_data(const ckpt_mapping *m) { return m->data; }
size_t ckpt_mapping_size(const ckpt_mapping *m) { return m->size; }

/* ---- hints ---- */

enum { FOLIO = 2 << 20 };

/*
 * What is forgotten begins at the 2 MB before the range, since a page fault brings its neighbours too, with Linux 6.18
 * the whole of a large folio, and ends before the page that goes on. Who is still reading there meets a fault, no other
 * bytes.
 */
static void advise(const ckpt_mapping *m, const void *at, size_t size, int advice) {
  size_t start = (size_t)((const unsigned char *)at - m->data), end = start + size;
  size_t page = (size_t)sysconf(_SC_PAGESIZE), unit = advice == MADV_DONTNEED ? FOLIO : page;
  if (!m->mapped || start > m->size || size > m->size - start) return; /* of other memory it would drop the contents */
  start -= start % unit;
  if (advice == MADV_DONTNEED && end < m->size) end -= end % page;
  if (end > start) madvise((void *)(uintptr_t)(m->data + start), end - start, advice);
}

/* Where the last page is in the cache the others have been there too: to walk through them would be the only cost. */
void ckpt_mapping_expect(const ckpt_mapping *m, const void *at, size_t size) {
  size_t end = (size_t)((const unsigned char *)at - m->data) + size, page = (size_t)sysconf(_SC_PAGESIZE);
  unsigned char resident = 0;
  if (!m->mapped || size == 0 || end > m->size) return;
  void *last = (void *)(uintptr_t)(m->data + (end - 1) / page * page);
  if (mincore(last, 1, &resident) != 0 || (resident & 1) == 0) advise(m, at, size, MADV_WILLNEED);
}

void ckpt_mapping_forget(const ckpt_mapping *m, const void *at, size_t size) { advise(m, at, size, MADV_DONTNEED); }
