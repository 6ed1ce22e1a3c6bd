/*
 * load.c - hostile_load [--free] [--lenient] [--records] FILE: does with a file what programs do with checkpoints:
 * opens it, walks it, digests every tensor, verifies it, sanitizes it, writes it anew (into nothing).
 *
 * It prints one line: stage, code, how much resident memory it took in KiB, byte, message; the stage is the one that
 * failed, or "done". --records prints instead, for each record of a zip file, its size, CRC-32 and name.
 * Unless --free, a seccomp filter ends the process at the first system call that reading a file does not need: nothing
 * is run, connected to, loaded or written. Exit status 0 whatever the file is.
 */
#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checkpoint.h"
#include "pickle_write.h"
#include "pth.h"

/* ---- what a reader may ask of the system ---- */

#define ALLOW(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define FIELD(f) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, f))
#define KILL BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)

/* openat for reading only; write to the standard output only. */
static const struct sock_filter filter[] = {
    FIELD(arch),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
    KILL,
    FIELD(nr),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 4),
    FIELD(args[2]),
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_WRONLY | O_RDWR | O_CREAT | O_TRUNC, 0, 1),
    KILL,
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 0, 4),
    FIELD(args[0]),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 1, 0),
    KILL,
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    ALLOW(SYS_read),
    ALLOW(SYS_pread64),
    ALLOW(SYS_lseek),
    ALLOW(SYS_close),
    ALLOW(SYS_fstat),
    ALLOW(SYS_newfstatat),
    ALLOW(SYS_getdents64),
    ALLOW(SYS_fcntl),
    ALLOW(SYS_mmap),
    ALLOW(SYS_munmap),
    ALLOW(SYS_mremap),
    ALLOW(SYS_madvise),
    ALLOW(SYS_brk),
    ALLOW(SYS_futex),
    ALLOW(SYS_getrandom),
    ALLOW(SYS_sysinfo), /* qsort asks how much memory there is */
    ALLOW(SYS_exit),
    ALLOW(SYS_exit_group),
    KILL,
};

static int lock(void) {
  const struct sock_fprog program = {CKPT_COUNTOF(filter), (struct sock_filter *)(uintptr_t)filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
  return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* The most memory that was resident at any time, in KiB. getrusage would count the program that started this one. */
static long resident(void) {
  char text[4096] = "";
  int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  const char *line = n > 0 ? strstr(text, "VmHWM:") : NULL;
  return line == NULL ? -1 : strtol(line + 6, NULL, 10);
}

/* ---- the stages ---- */

static ckpt_status walk(const ckpt_checkpoint *cp, ckpt_error *err) {
  ckpt_walk *w = NULL;
  ckpt_walk_step step = {0};
  CKPT_TRY(ckpt_walk_new(&w, ckpt_checkpoint_root(cp), err));
  ckpt_status st = ckpt_walk_next(&step, w, err);
  while (st == CKPT_OK && step.value != NULL) st = ckpt_walk_next(&step, w, err);
  ckpt_walk_free(w);
  return st;
}

static ckpt_status digest_one(void *context, ckpt_tensor **t, const char *path, ckpt_error *err) {
  char hex[65];
  (void)context, (void)path;
  return ckpt_tensor_is_meta(*t) ? CKPT_OK : ckpt_tensor_sha256(hex, *t, err);
}

static ckpt_status digest(const ckpt_checkpoint *cp, ckpt_error *err) {
  ckpt_document *doc = NULL;
  ckpt_value *copy = NULL;
  CKPT_TRY(ckpt_document_new(&doc, err));
  ckpt_status st = ckpt_value_map(&copy, doc, ckpt_checkpoint_root(cp), digest_one, NULL, err);
  ckpt_document_release(doc);
  return st;
}

static ckpt_status nowhere(ckpt_sink *sink, const void *data, size_t size, ckpt_error *err) {
  (void)sink, (void)data, (void)size, (void)err;
  return CKPT_OK;
}

static ckpt_status write_root(const ckpt_value *root, ckpt_error *err) {
  ckpt_pickle pickle = {0};
  ckpt_sink sink = {nowhere};
  CKPT_TRY(ckpt_pickle_write(&pickle, root, err));
  ckpt_status st = ckpt_pth_write(&sink, &pickle, "m", err);
  ckpt_pickle_free(&pickle);
  return st;
}

static ckpt_status convert(const ckpt_checkpoint *cp, ckpt_error *err) {
  return write_root(ckpt_checkpoint_root(cp), err);
}

static ckpt_status sanitize(const ckpt_checkpoint *cp, ckpt_error *err) {
  ckpt_document *doc = NULL;
  ckpt_value *clean = NULL;
  ckpt_changes *changes = NULL;
  CKPT_TRY(ckpt_document_new(&doc, err));
  ckpt_status st = ckpt_value_sanitize(&clean, &changes, doc, ckpt_checkpoint_root(cp), CKPT_WEIGHTS_ONLY_2_6, err);
  bool nothing = st == CKPT_E_UNSUPPORTED; /* is left of it: the root itself is an opaque object */
  if (st == CKPT_OK) st = write_root(clean, err);
  ckpt_changes_free(changes);
  ckpt_document_release(doc);
  return nothing ? CKPT_OK : st;
}

typedef struct stage {
  const char *name;
  ckpt_status (*run)(const ckpt_checkpoint *cp, ckpt_error *err);
} stage;

static const stage stages[] = {{"verify", ckpt_checkpoint_verify},
                               {"walk", walk},
                               {"digest", digest},
                               {"convert", convert},
                               {"sanitize", sanitize}};

/* ---- records ---- */

static void print_records(const char *path) {
  ckpt_mapping *map = NULL;
  ckpt_zip *zip = NULL;
  if (ckpt_mapping_open(&map, path, NULL) != CKPT_OK) return;
  if (ckpt_zip_open(&zip, map, 0, ckpt_mapping_size(map), NULL) == CKPT_OK)
    for (size_t i = 0; i < ckpt_zip_count(zip); i++) {
      unsigned char *bytes = NULL;
      const ckpt_zip_entry *e = ckpt_zip_entry_at(zip, i);
      if (ckpt_zip_read(&bytes, zip, i, NULL) != CKPT_OK) continue;
      printf("%llu %08x %s\n", (unsigned long long)e->size, libdeflate_crc32(0, bytes, (size_t)e->size), e->name);
      free(bytes);
    }
  ckpt_zip_release(zip);
  ckpt_mapping_release(map);
}

static void use(const char *path, const ckpt_open_options *options) {
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {.position = -1};
  const char *name = "open";
  long before = resident();
  ckpt_status st = ckpt_checkpoint_open(&cp, path, options, &err);
  for (size_t i = 0; st == CKPT_OK && i < CKPT_COUNTOF(stages); i++) {
    name = stages[i].name;
    st = stages[i].run(cp, &err);
  }
  ckpt_checkpoint_close(cp);
  printf("%s\t%s\t%ld\t%lld\t%s\n", st == CKPT_OK ? "done" : name, ckpt_status_name(st), resident() - before,
         (long long)err.position, st == CKPT_OK ? "" : err.message);
}

int main(int argc, char **argv) {
  ckpt_open_options options = {0};
  bool records = false, locked = true;
  int i = 1;
  for (; i < argc - 1; i++) {
    options.lenient |= strcmp(argv[i], "--lenient") == 0;
    records |= strcmp(argv[i], "--records") == 0;
    locked &= strcmp(argv[i], "--free") != 0;
  }
  static char out[1 << 16];
  setvbuf(stdout, out, _IOFBF, sizeof out);
  if (i != argc - 1) {
    fputs("usage: hostile_load [--free] [--lenient] [--records] FILE\n", stderr);
    return 2;
  }
  if (locked && lock() != 0) {
    fprintf(stderr, "hostile_load: no seccomp filter: %s\n", strerror(errno));
    return 2;
  }
  if (records)
    print_records(argv[i]);
  else
    use(argv[i], &options);
  fflush(stdout);
  return 0;
}
