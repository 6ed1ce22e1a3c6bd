/* tally.c - points counted by several processes, and lines of TAP. */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "crash.h"

static void *shared(size_t size, int fd) {
  void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
  if (p == MAP_FAILED) abort();
  return p;
}

tally *tally_new(void) { return shared(sizeof(tally), -1); }

crash_report *report_new(const char *file) {
  if (file == NULL) return shared(sizeof(crash_report), -1);
  int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, sizeof(crash_report)) != 0) abort();
  crash_report *r = shared(sizeof *r, fd);
  close(fd);
  return r;
}

/* One write for a line, and no more than a few: the rest are counted. */
void tally_broken(tally *t, const char *format, ...) {
  char text[640];
  va_list args;
  atomic_fetch_add(&t->broken, 1);
  if (atomic_fetch_add(&t->shown, 1) >= wanted("CRASH_SHOW", 6)) return;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  printf("# %s\n", text);
  fflush(stdout);
}

bool in_jobs(void (*work)(void *arg, int job, int jobs), void *arg) {
  int jobs = wanted("JOBS", 2), status;
  bool ok = true;
  fflush(stdout);
  for (int job = 0; job < jobs; job++) {
    pid_t pid = fork();
    if (pid < 0) abort();
    if (pid > 0) continue;
    work(arg, job, jobs);
    fflush(stdout);
    _exit(0);
  }
  while (wait(&status) > 0) ok = ok && status == 0;
  return ok;
}

/* ---- TAP ---- */

static struct { int n, bad; } lines;

void tap(bool ok, const char *format, ...) {
  va_list args;
  printf("%sok %d - ", ok ? "" : "not ", ++lines.n);
  lines.bad += !ok;
  va_start(args, format);
  vprintf(format, args);
  va_end(args);
  printf("\n");
  fflush(stdout);
}

int tap_end(void) {
  printf("1..%d\n", lines.n);
  return lines.bad != 0;
}

int wanted(const char *variable, int otherwise) {
  const char *text = getenv(variable);
  return text == NULL || text[0] == '\0' ? otherwise : atoi(text);
}
