/*
 * inject.c - a process of its own under a fault, by seccomp's user notifications (Linux 5.5): each system call of all
 * its threads waits until we say that it may go on, or what it shall return instead, or the process is killed before
 * it.
 *
 * strace does the same by ptrace, but counts for each thread and each name apart, starts a program for each point, and
 * keeps LeakSanitizer from working. kill.sh checks a part of what is found here by strace.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "crash.h"

#define SET_FLAGS SECCOMP_IOW(4, __u64) /* Linux 6.6; SYNC_WAKE_UP: both on one processor */
enum { SYNC_WAKE_UP = 1, PATIENCE = 60000 /* ms */, ENDLESS = 2000000 /* calls */, UNSUPPORTED = 77 };

/* ---- which calls ---- */

typedef struct call {
  const char *name;
  int nr;
} call;

#define CALL(name) \
  { #name, SYS_##name }

/* Those that an error is put at: what speaks of files, memory maps and threads. */
static const call faulty[] = {
    CALL(openat),    CALL(close),     CALL(read),       CALL(write),    CALL(pread64),   CALL(pwrite64),
    CALL(fsync),     CALL(fdatasync), CALL(linkat),     CALL(renameat), CALL(renameat2), CALL(unlinkat),
    CALL(fallocate), CALL(ftruncate), CALL(flock),      CALL(fcntl),    CALL(ioctl),     CALL(newfstatat),
    CALL(fstat),     CALL(statx),     CALL(getdents64), CALL(mkdirat),  CALL(mmap),      CALL(munmap),
    CALL(madvise),   CALL(mincore),   CALL(getrandom),  CALL(clone3),   CALL(lseek),     CALL(fchmod),
};

/* Others, for messages: SIGKILL comes before any. */
static const call others[] = {
    CALL(mprotect),
    CALL(brk),
    CALL(futex),
    CALL(exit),
    CALL(exit_group),
    CALL(rt_sigprocmask),
    CALL(rseq),
    CALL(set_robust_list),
    CALL(sched_getaffinity),
    CALL(prlimit64),
    CALL(sysinfo),
    CALL(fadvise64),
    CALL(readlinkat),
    CALL(sync_file_range),
    CALL(clock_nanosleep),
    CALL(prctl),
    CALL(gettid),
    CALL(getpid),
    CALL(tgkill),
    CALL(clone),
    CALL(mremap),
    CALL(geteuid),
    CALL(getuid),
};

static const char *name_in(const call *list, size_t n, int nr) {
  for (size_t i = 0; i < n; i++)
    if (list[i].nr == nr) return list[i].name;
  return NULL;
}

const char *call_name(int nr) {
  static char other[24];
  const char *name = name_in(faulty, COUNTOF(faulty), nr);
  if (name == NULL) name = name_in(others, COUNTOF(others), nr);
  if (name != NULL) return name;
  snprintf(other, sizeof other, "call %d", nr);
  return other;
}

bool is_faulty(int nr, fault_kind kind) {
  if (kind == SHORT) return nr == SYS_read || nr == SYS_write || nr == SYS_pread64 || nr == SYS_pwrite64;
  return kind != FAIL || name_in(faulty, COUNTOF(faulty), nr) != NULL;
}

/* ---- the process ---- */

static int install(void) {
  static struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sendmsg, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  static struct sock_fprog program = {COUNTOF(code), code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
  return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

typedef union control {
  struct cmsghdr header;
  char space[CMSG_SPACE(sizeof(int))];
} control;

static bool send_fd(int socket, int fd) {
  char byte = 0;
  control c = {.header = {.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
  struct msghdr m = {
      .msg_iov = &(struct iovec){&byte, 1}, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c};
  memcpy(CMSG_DATA(&c.header), &fd, sizeof fd);
  return sendmsg(socket, &m, 0) == 1;
}

static int receive_fd(int socket) {
  char byte;
  int fd = -1;
  control c;
  struct msghdr m = {
      .msg_iov = &(struct iovec){&byte, 1}, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c};
  if (recvmsg(socket, &m, MSG_CMSG_CLOEXEC) != 1 || CMSG_FIRSTHDR(&m) == NULL) return -1;
  memcpy(&fd, CMSG_DATA(&c.header), sizeof fd);
  return fd;
}

/* exit, not _exit: LeakSanitizer looks at the end. */
static void child(int socket, void (*body)(void *arg), void *arg) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  int listener = install();
  if (listener < 0 || !send_fd(socket, listener)) _exit(UNSUPPORTED);
  close(listener);
  close(socket);
  body(arg);
  exit(0);
}

/* ---- answering ---- */

typedef struct supervisor {
  const fault *f;
  crash_report *report;
  outcome *out;
  pid_t pid;
  int listener, persistent; /* number of the call that fails from now on, -1: none */
} supervisor;

static int descriptor_of(pid_t pid, int fd) {
  int process = (int)syscall(SYS_pidfd_open, pid, 0);
  int copy = process < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, process, fd, 0);
  if (process >= 0) close(process);
  return copy;
}

/* Half of a read or write, done for the process on its own open file. */
static ssize_t transfer_half(const supervisor *s, const struct seccomp_data *d) {
  size_t size = d->args[2] < 2 ? d->args[2] : d->args[2] / 2;
  char *buffer = malloc(size + 1);
  int fd = descriptor_of(s->pid, (int)d->args[0]);
  struct iovec here = {buffer, size}, there = {(void *)(uintptr_t)d->args[1], size};
  ssize_t n = -1;
  off_t at = (off_t)d->args[3];
  if (buffer == NULL || fd < 0) abort();
  if (d->nr == SYS_write || d->nr == SYS_pwrite64) process_vm_readv(s->pid, &here, 1, &there, 1, 0);
  if (d->nr == SYS_write) n = write(fd, buffer, size);
  if (d->nr == SYS_pwrite64) n = pwrite(fd, buffer, size, at);
  if (d->nr == SYS_read) n = read(fd, buffer, size);
  if (d->nr == SYS_pread64) n = pread(fd, buffer, size, at);
  int sys = errno;
  if (n > 0 && (d->nr == SYS_read || d->nr == SYS_pread64)) process_vm_writev(s->pid, &here, 1, &there, 1, 0);
  close(fd);
  free(buffer);
  return n < 0 ? -sys : n;
}

/* What the file system cannot do it never can; that is no fault and is not counted. 0: it can. */
static int lacking(const fault *f, const struct seccomp_data *d) {
  bool unnamed = d->nr == SYS_openat && (d->args[2] & O_TMPFILE) == O_TMPFILE;
  bool link = d->nr == SYS_linkat;
  if ((f->lacks & NO_LINKS) != 0 && link) return EPERM;
  return (f->lacks & NO_UNNAMED) != 0 && unnamed ? EOPNOTSUPP : 0;
}

/* A sanitizer's own memory must not fail: it ends the process then. Of ours are the maps of files. */
static bool is_of_sanitizer(const struct seccomp_data *d) {
  bool anonymous = d->nr == SYS_mmap && (int)d->args[4] < 0;
  return getenv("SANITIZED") != NULL &&
         (anonymous || d->nr == SYS_munmap || d->nr == SYS_madvise || d->nr == SYS_clone3);
}

/* True if the fault is to be put at this call. */
static bool is_due(supervisor *s, const struct seccomp_data *d) {
  int nr = d->nr;
  if (atomic_load(&s->report->watched) == 0 || is_of_sanitizer(d)) return false;
  if (nr == s->persistent) return true;
  if (!is_faulty(nr, s->f->kind)) return false;
  if (++s->out->calls != s->f->at) return false;
  s->out->hit = true;
  atomic_store(&s->report->hit, nr);
  atomic_store(&s->report->from_there_on, s->f->from_there_on);
  if (s->f->from_there_on) s->persistent = nr;
  return true;
}

/* False: the process is to be killed instead. */
static bool answer(supervisor *s, const struct seccomp_notif *n, struct seccomp_notif_resp *r) {
  int lack = lacking(s->f, &n->data);
  *r = (struct seccomp_notif_resp){.id = n->id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
  bool due = is_due(s, &n->data);
  if (due && s->f->kind == KILL) return false;
  if (due && s->f->kind == FAIL) *r = (struct seccomp_notif_resp){.id = n->id, .error = -s->f->error};
  if (due && s->f->kind == SHORT) {
    ssize_t got = transfer_half(s, &n->data);
    *r = (struct seccomp_notif_resp){.id = n->id, .val = got < 0 ? 0 : got, .error = got < 0 ? (int)got : 0};
  }
  if (!due && lack != 0) *r = (struct seccomp_notif_resp){.id = n->id, .error = -lack};
  return true;
}

/* False when the process is at its end. */
static bool serve_one(supervisor *s) {
  union {
    struct seccomp_notif n;
    char space[512];
  } in = {.space = {0}};
  union {
    struct seccomp_notif_resp r;
    char space[512];
  } reply = {.space = {0}};
  struct pollfd p = {s->listener, POLLIN, 0};
  int ready = poll(&p, 1, PATIENCE);
  if (ready < 0 && errno == EINTR) return true;
  if (ready == 0) s->out->hang = true;
  if (ready <= 0 || (p.revents & POLLIN) == 0) return false;
  if (ioctl(s->listener, SECCOMP_IOCTL_NOTIF_RECV, &in) != 0) return errno == ENOENT || errno == EINTR;
  if (!answer(s, &in.n, &reply.r)) return false;
  ioctl(s->listener, SECCOMP_IOCTL_NOTIF_SEND, &reply); /* ENOENT: it was interrupted, and calls again */
  return true;
}

static void serve(supervisor *s) {
  int served = 0;
  ioctl(s->listener, SET_FLAGS, SYNC_WAKE_UP); /* older kernels are slower */
  while (serve_one(s))
    if (++served == ENDLESS) {
      s->out->hang = true;
      return;
    }
}

outcome run_under(const fault *f, crash_report *report, void (*body)(void *arg), void *arg) {
  outcome out = {0};
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) abort();
  fflush(stdout);
  pid_t pid = fork();
  if (pid < 0) abort();
  if (pid == 0) {
    close(pair[0]);
    child(pair[1], body, arg);
  }
  close(pair[1]);
  supervisor s = {f, report, &out, pid, receive_fd(pair[0]), -1};
  close(pair[0]);
  out.unsupported = s.listener < 0;
  if (!out.unsupported) {
    serve(&s);
    if (out.hang || (out.hit && f->kind == KILL)) kill(pid, SIGKILL);
    close(s.listener);
  }
  while (waitpid(pid, &out.status, 0) < 0 && errno == EINTR) {
  }
  return out;
}

static void nothing(void *arg) { (void)arg; }

bool faults_supported(void) {
  fault f = {.kind = NO_FAULT};
  outcome o = run_under(&f, report_new(NULL), nothing, NULL);
  return !o.unsupported && o.status == 0;
}
