/* bench_machine.c - what the machine itself can do: copying out of a mapping, writing, libzip alone; and programs. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zip.h>

#include "bench.h"

extern char **environ;

/* ---- memory ---- */

typedef struct share {
  const char *from;
  char *to;
  size_t n;
} share;

static void *copy_share(void *arg) {
  const share *s = arg;
  memcpy(s->to, s->from, s->n);
  return NULL;
}

static void copy_shares(const char *from, char *to, size_t n, int threads) {
  pthread_t helpers[64];
  share shares[64];
  for (int i = 0; i < threads; i++) {
    size_t start = n / (size_t)threads * (size_t)i, end = i == threads - 1 ? n : n / (size_t)threads * (size_t)(i + 1);
    shares[i] = (share){from + start, to + start, end - start};
    if (i > 0) pthread_create(&helpers[i], NULL, copy_share, &shares[i]);
  }
  copy_share(&shares[0]);
  for (int i = 1; i < threads; i++) pthread_join(helpers[i], NULL);
}

/* memcpy PATH THREADS: a fresh mapping of the file into memory that has been touched. */
double bench_memcpy(bench *b, int n, char **args) {
  (void)n;
  static char *to; /* kept: to get such memory costs more than to copy into it */
  static size_t size;
  struct stat st;
  int fd = open(args[0], O_RDONLY | O_CLOEXEC), threads = (int)strtol(args[1], NULL, 10);
  if (fd < 0 || fstat(fd, &st) != 0) return bench_fail(b, "%s: %s", args[0], strerror(errno));
  if (size < (size_t)st.st_size) {
    free(to);
    size = (size_t)st.st_size;
    to = malloc(size);
    if (to == NULL) return bench_fail(b, "no memory");
    memset(to, 1, size);
  }
  double start = bench_now();
  char *from = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (from == MAP_FAILED) return bench_fail(b, "mmap: %s", strerror(errno));
  copy_shares(from, to, (size_t)st.st_size, threads < 1 ? 1 : threads > 64 ? 64 : threads);
  munmap(from, (size_t)st.st_size);
  double took = bench_now() - start;
  close(fd);
  return took;
}

/* ---- disk ---- */

/* write PATH: the model's arrays one after the other into a new file, in blocks of 4 MB, and fsync. */
double bench_write(bench *b, int n, char **args) {
  (void)n;
  enum { BLOCK = 4 << 20 };
  unlink(args[0]);
  double start = bench_now();
  int fd = open(args[0], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return bench_fail(b, "%s: %s", args[0], strerror(errno));
  bool good = true;
  for (size_t i = 0; i < b->model.n; i++) {
    size_t size = sizeof(float);
    for (int d = 0; d < b->model.ndim[i]; d++) size *= (size_t)b->model.shape[i][d];
    for (size_t at = 0, k; good && at < size; at += k) {
      k = size - at < BLOCK ? size - at : BLOCK;
      good = write(fd, (const char *)b->model.data[i] + at, k) == (ssize_t)k;
    }
  }
  good = good && fsync(fd) == 0;
  double took = bench_now() - start;
  close(fd);
  return good ? took : bench_fail(b, "%s: %s", args[0], strerror(errno));
}

/* copy_file FROM TO: copy_file_range, not synced. */
double bench_copy_file(bench *b, int n, char **args) {
  (void)n;
  unlink(args[1]);
  double start = bench_now();
  int from = open(args[0], O_RDONLY | O_CLOEXEC), to = open(args[1], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  ssize_t got = from < 0 || to < 0 ? -1 : 1;
  while (got > 0) got = copy_file_range(from, NULL, to, NULL, (size_t)1 << 30, 0);
  double took = bench_now() - start;
  int sys = errno;
  close(from);
  close(to);
  return got == 0 ? took : bench_fail(b, "%s: %s", args[1], strerror(sys));
}

/* libzip PATH: zip_open and zip_discard alone. */
double bench_libzip(bench *b, int n, char **args) {
  (void)n;
  int why = 0;
  double start = bench_now();
  zip_t *z = zip_open(args[0], ZIP_RDONLY | ZIP_CHECKCONS, &why);
  if (z == NULL) return bench_fail(b, "%s: libzip error %d", args[0], why);
  zip_discard(z);
  return bench_now() - start;
}

/* drop PATH: the file's pages leave the page cache. */
double bench_drop(bench *b, int n, char **args) {
  (void)n;
  int fd = open(args[0], O_RDONLY | O_CLOEXEC);
  if (fd < 0) return bench_fail(b, "%s: %s", args[0], strerror(errno));
  int why = fsync(fd) != 0 ? errno : posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  close(fd);
  return why == 0 ? 0 : bench_fail(b, "%s: %s", args[0], strerror(why));
}

/* ---- programs ---- */

/* run PROGRAM ARGUMENT...: megabytes that the program had in memory at most; its output is thrown away. */
double bench_run(bench *b, int n, char **args) {
  pid_t pid;
  int status = 0;
  struct rusage used;
  char *words[20] = {0};
  posix_spawn_file_actions_t actions;
  for (int i = 0; i < n && i < 19; i++) words[i] = args[i];
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  int why = posix_spawnp(&pid, args[0], &actions, NULL, words, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (why != 0) return bench_fail(b, "%s: %s", args[0], strerror(why));
  if (wait4(pid, &status, 0, &used) != pid) return bench_fail(b, "%s: %s", args[0], strerror(errno));
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return bench_fail(b, "%s failed (status %d)", args[0], status);
  return (double)used.ru_maxrss / 1024;
}
