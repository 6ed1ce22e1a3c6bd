/*
 * model_fs.h - a file system of one directory that forgets: a ckpt_io that knows what a power loss may leave.
 *
 * Of each file it keeps what was synced and the sectors written since; of the directory the entries that were synced
 * and the operations since. What POSIX promises and no more: an fsync of a file makes its bytes durable but not its
 * name, an fsync of the directory its names but no file's bytes; a rename is atomic; anything else that was not synced
 * may have reached the disk in any subset and any order, a write also in part, sector by sector, and a file's size
 * before its bytes. So `model_crash` with other choices gives every legal state.
 *
 * Files live in memfds, so descriptors are real: what maps a file can map these.
 */
#ifndef CKPT_TEST_MODEL_FS_H
#define CKPT_TEST_MODEL_FS_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "io.h"

enum {
  MODEL_FILES = 64,
  MODEL_NAMES = 48,
  MODEL_OPS = 64,
  MODEL_FDS = 1024,
  MODEL_SECTOR = 512,
  MODEL_MAX_FILE = 1 << 16
};

typedef struct model_file {
  int memfd; /* -1: the slot is free */
  int opened, linked;
  unsigned char *synced; /* what the disk has for certain */
  size_t synced_n;
  unsigned char dirty[MODEL_MAX_FILE / MODEL_SECTOR / 8]; /* sectors that were written since */
} model_file;

typedef struct model_name {
  char name[40];
  int file;
} model_name;

typedef struct model_names {
  model_name at[MODEL_NAMES];
  int n;
} model_names;

typedef struct model_op { /* of the directory, not synced yet: link (from ""), unlink (to ""), rename */
  char from[40], to[40];
  int file;
} model_op;

typedef struct model_fs {
  ckpt_io io;
  model_file files[MODEL_FILES];
  model_names now, synced;
  model_op ops[MODEL_OPS];
  int n_ops;
  int fds[MODEL_FDS]; /* descriptor -> file + 1, -1: the directory, -2: the lock, 0: none */
  uint64_t random;
  bool no_unnamed;                               /* a weaker system */
  bool no_file_sync, no_dir_sync, late_dir_sync; /* savers with a bug, which must be caught; late: after the unlinks */
  void (*after)(void *arg);                      /* after each call that changes something */
  void *arg;
} model_fs;

#define MODEL_PATH "/model"

static inline model_fs *model_of(void *ctx) { return ctx; }

static inline void model_changed(model_fs *fs) {
  if (fs->after != NULL) fs->after(fs->arg);
}

/* ---- names ---- */

static inline int model_find(const model_names *names, const char *name) {
  for (int i = 0; i < names->n; i++)
    if (strcmp(names->at[i].name, name) == 0) return i;
  return -1;
}

static inline void model_take(model_names *names, const char *name) {
  int i = model_find(names, name);
  if (i >= 0) names->at[i] = names->at[--names->n];
}

static inline void model_give(model_names *names, const char *name, int file) {
  int i = model_find(names, name);
  if (i < 0) i = names->n++;
  if (i >= MODEL_NAMES) abort();
  char copy[sizeof names->at[i].name]; /* the name may be one of these */
  snprintf(copy, sizeof copy, "%s", name);
  memcpy(names->at[i].name, copy, sizeof copy);
  names->at[i].file = file;
}

/* An operation whose predecessor never reached the disk has nothing to work on. */
static inline void model_apply(model_names *names, const model_op *op) {
  if (op->from[0] != '\0') {
    int i = model_find(names, op->from);
    if (i < 0) return;
    if (op->to[0] != '\0') model_give(names, op->to, names->at[i].file);
    model_take(names, op->from);
  } else {
    model_give(names, op->to, op->file);
  }
}

static inline void model_do(model_fs *fs, const char *from, const char *to, int file) {
  if (fs->n_ops == MODEL_OPS) abort();
  model_op *op = &fs->ops[fs->n_ops++];
  snprintf(op->from, sizeof op->from, "%s", from);
  snprintf(op->to, sizeof op->to, "%s", to);
  op->file = file;
  model_apply(&fs->now, op);
  model_changed(fs);
}

/* ---- files ---- */

static inline size_t model_size(const model_file *f) {
  struct stat st;
  return fstat(f->memfd, &st) == 0 ? (size_t)st.st_size : 0;
}

static inline bool model_named(const model_fs *fs, int file) {
  for (int i = 0; i < fs->now.n; i++)
    if (fs->now.at[i].file == file) return true;
  for (int i = 0; i < fs->synced.n; i++)
    if (fs->synced.at[i].file == file) return true;
  for (int i = 0; i < fs->n_ops; i++)
    if (fs->ops[i].from[0] == '\0' && fs->ops[i].file == file) return true;
  return false;
}

static inline void model_drop_file(model_file *f) {
  if (f->memfd >= 0) close(f->memfd);
  free(f->synced);
  *f = (model_file){.memfd = -1};
}

static inline int model_new_file(model_fs *fs) {
  for (int i = 0; i < MODEL_FILES; i++) {
    model_file *f = &fs->files[i];
    if (f->memfd >= 0 && f->opened == 0 && !model_named(fs, i)) model_drop_file(f);
    if (f->memfd >= 0) continue;
    f->memfd = memfd_create("model", MFD_CLOEXEC);
    return f->memfd < 0 ? -1 : i;
  }
  abort();
}

static inline int model_open_file(model_fs *fs, int file, int flags) {
  char path[40];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fs->files[file].memfd);
  int fd = open(path, (flags & (O_ACCMODE | O_APPEND)) | O_CLOEXEC);
  if (fd < 0) return -1;
  if (fd >= MODEL_FDS) abort();
  fs->fds[fd] = file + 1;
  fs->files[file].opened++;
  return fd;
}

static inline int model_special(model_fs *fs, int what) {
  int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (fd >= MODEL_FDS) abort();
  if (fd >= 0) fs->fds[fd] = what;
  return fd;
}

static inline void model_sync_file(model_file *f) {
  size_t n = model_size(f);
  free(f->synced);
  f->synced = malloc(n + 1);
  if (f->synced == NULL || pread(f->memfd, f->synced, n, 0) != (ssize_t)n) abort();
  f->synced_n = n;
  memset(f->dirty, 0, sizeof f->dirty);
}

static inline void model_mark(model_file *f, size_t at, size_t n) {
  if (at + n > MODEL_MAX_FILE) abort();
  for (size_t s = at / MODEL_SECTOR; s * MODEL_SECTOR < at + n; s++) f->dirty[s / 8] |= (unsigned char)(1u << (s % 8));
}

/* ---- the table ---- */

static inline int model_openat(void *ctx, int dir, const char *name, int flags, mode_t mode) {
  model_fs *fs = model_of(ctx);
  (void)mode;
  if (dir == AT_FDCWD) return model_special(fs, -1);
  if (strcmp(name, "..") == 0) return model_special(fs, -1);
  if (strcmp(name, ".ckpt.lock") == 0) return model_special(fs, -2);
  if ((flags & O_TMPFILE) == O_TMPFILE) {
    errno = EOPNOTSUPP;
    int file = fs->no_unnamed ? -1 : model_new_file(fs);
    return file < 0 ? -1 : model_open_file(fs, file, O_RDWR);
  }
  int i = model_find(&fs->now, name);
  errno = i < 0 ? ENOENT : EEXIST;
  if (i >= 0) return (flags & O_EXCL) ? -1 : model_open_file(fs, fs->now.at[i].file, flags);
  int file = (flags & O_CREAT) ? model_new_file(fs) : -1;
  if (file < 0) return -1;
  int fd = model_open_file(fs, file, flags);
  if (fd >= 0) model_do(fs, "", name, file);
  return fd;
}

static inline int model_close(void *ctx, int fd) {
  model_fs *fs = model_of(ctx);
  if (fs->fds[fd] > 0) fs->files[fs->fds[fd] - 1].opened--;
  fs->fds[fd] = 0;
  return close(fd);
}

static inline ssize_t model_pread(void *ctx, int fd, void *data, size_t size, off_t at) {
  (void)ctx;
  return pread(fd, data, size, at);
}

/* Not more than a sector at a time: the power may go in the middle of what was one write. */
static inline ssize_t model_write(void *ctx, int fd, const void *data, size_t size) {
  model_fs *fs = model_of(ctx);
  model_file *f = &fs->files[fs->fds[fd] - 1];
  size_t before = (fcntl(fd, F_GETFL) & O_APPEND) ? model_size(f) : (size_t)lseek(fd, 0, SEEK_CUR);
  ssize_t n = write(fd, data, size < MODEL_SECTOR ? size : MODEL_SECTOR);
  if (n > 0) model_mark(f, before, (size_t)n);
  if (n > 0) model_changed(fs);
  return n;
}

static inline bool model_unlinks(const model_fs *fs) {
  for (int i = 0; i < fs->n_ops; i++)
    if (fs->ops[i].to[0] == '\0' && fs->ops[i].from[0] != '.') return true;
  return false;
}

static inline int model_fsync(void *ctx, int fd) {
  model_fs *fs = model_of(ctx);
  if (fs->fds[fd] > 0 && !fs->no_file_sync) model_sync_file(&fs->files[fs->fds[fd] - 1]);
  if (fs->fds[fd] == -1 && !fs->no_dir_sync && (!fs->late_dir_sync || model_unlinks(fs))) {
    fs->synced = fs->now;
    fs->n_ops = 0;
  }
  model_changed(fs);
  return 0;
}

static inline int model_fallocate(void *ctx, int fd, int mode, off_t at, off_t size) {
  (void)ctx, (void)fd, (void)mode, (void)at, (void)size;
  return 0;
}

static inline int model_ftruncate(void *ctx, int fd, off_t size) {
  model_fs *fs = model_of(ctx);
  int r = ftruncate(fd, size);
  model_changed(fs);
  return r;
}

static inline int model_clone(void *ctx, int to, int from) {
  (void)ctx, (void)to, (void)from;
  errno = EOPNOTSUPP;
  return -1;
}

static inline int model_link(model_fs *fs, int file, const char *name) {
  errno = EEXIST;
  if (model_find(&fs->now, name) >= 0) return -1;
  model_do(fs, "", name, file);
  return 0;
}

static inline int model_link_fd(void *ctx, int fd, int dir, const char *name) {
  (void)dir;
  return model_link(model_of(ctx), model_of(ctx)->fds[fd] - 1, name);
}

static inline int model_linkat(void *ctx, int dir, const char *name, const char *other) {
  model_fs *fs = model_of(ctx);
  int i = model_find(&fs->now, name);
  (void)dir;
  errno = ENOENT;
  return i < 0 ? -1 : model_link(fs, fs->now.at[i].file, other);
}

/* Two names of one file: nothing is done, and both stay. */
static inline int model_renameat(void *ctx, int dir, const char *from, const char *to) {
  model_fs *fs = model_of(ctx);
  int i = model_find(&fs->now, from), j = model_find(&fs->now, to);
  (void)dir;
  errno = ENOENT;
  if (i < 0) return -1;
  if (j >= 0 && fs->now.at[i].file == fs->now.at[j].file) return 0;
  model_do(fs, from, to, -1);
  return 0;
}

static inline int model_unlinkat(void *ctx, int dir, const char *name) {
  model_fs *fs = model_of(ctx);
  (void)dir;
  errno = ENOENT;
  if (model_find(&fs->now, name) < 0) return -1;
  model_do(fs, name, "", -1);
  return 0;
}

static inline int model_mkdirat(void *ctx, int dir, const char *name, mode_t mode) {
  (void)ctx, (void)dir, (void)name, (void)mode;
  errno = EEXIST;
  return -1;
}

static inline void model_stat(const model_fs *fs, int file, struct stat *st) {
  *st = (struct stat){.st_mode = S_IFREG | 0600, .st_ino = (ino_t)file + 1, .st_nlink = 1};
  st->st_size = (off_t)model_size(&fs->files[file]);
}

static inline int model_fstat(void *ctx, int fd, struct stat *st) {
  model_fs *fs = model_of(ctx);
  if (fs->fds[fd] <= 0) return fstat(fd, st);
  model_stat(fs, fs->fds[fd] - 1, st);
  return 0;
}

static inline int model_statat(void *ctx, int dir, const char *name, struct stat *st) {
  model_fs *fs = model_of(ctx);
  int i = model_find(&fs->now, name);
  (void)dir;
  errno = ENOENT;
  if (i < 0) return -1;
  model_stat(fs, fs->now.at[i].file, st);
  return 0;
}

static inline int model_list(void *ctx, int dir, bool (*each)(void *arg, const char *name), void *arg) {
  model_names names = model_of(ctx)->now;
  (void)dir;
  for (int i = 0; i < names.n; i++)
    if (!each(arg, names.at[i].name)) break;
  return 0;
}

static inline int model_flock(void *ctx, int fd) {
  (void)ctx, (void)fd;
  return 0;
}

static inline int model_lease(void *ctx, int fd) {
  model_fs *fs = model_of(ctx);
  errno = EAGAIN;
  return fs->files[fs->fds[fd] - 1].opened == 1 ? 0 : -1;
}

static inline uint64_t model_next_random(uint64_t *state) { /* xorshift64* */
  *state ^= *state >> 12, *state ^= *state << 25, *state ^= *state >> 27;
  return *state * UINT64_C(2685821657736338717);
}

static inline ssize_t model_random(void *ctx, void *data, size_t size) {
  uint64_t v = model_next_random(&model_of(ctx)->random);
  memcpy(data, &v, size < sizeof v ? size : sizeof v);
  return (ssize_t)size;
}

static inline void model_init(model_fs *fs, uint64_t seed) {
  memset(fs, 0, sizeof *fs);
  fs->random = seed;
  for (int i = 0; i < MODEL_FILES; i++) fs->files[i].memfd = -1;
  fs->io = (ckpt_io){.ctx = fs,
                     .openat = model_openat,
                     .close = model_close,
                     .pread = model_pread,
                     .write = model_write,
                     .fsync = model_fsync,
                     .fallocate = model_fallocate,
                     .ftruncate = model_ftruncate,
                     .clone = model_clone,
                     .link_fd = model_link_fd,
                     .linkat = model_linkat,
                     .renameat = model_renameat,
                     .unlinkat = model_unlinkat,
                     .mkdirat = model_mkdirat,
                     .fstat = model_fstat,
                     .statat = model_statat,
                     .list = model_list,
                     .flock = model_flock,
                     .lease = model_lease,
                     .random = model_random};
}

static inline void model_free(model_fs *fs) {
  for (int i = 0; i < MODEL_FILES; i++) model_drop_file(&fs->files[i]);
}

/* ---- power loss ---- */

typedef struct model_content {
  unsigned char *bytes; /* malloc */
  size_t n;
} model_content;

typedef struct model_state { /* what is on the disk afterwards */
  model_names names;
  model_content content[MODEL_FILES];
} model_state;

/*
 * What is left of one file: `choice` 0 what was synced, 1 everything; 2 the new size with none of its bytes; else a
 * subset of the sectors, at the new size.
 */
static inline model_content model_left(const model_file *f, uint64_t choice) {
  size_t n = model_size(f), kept = f->synced_n < n ? f->synced_n : n;
  if (choice == 0) n = f->synced_n, kept = n;
  model_content c = {calloc(1, n + 1), n};
  if (c.bytes == NULL) abort();
  if (kept > 0) memcpy(c.bytes, f->synced, kept);
  if (choice == 0 || choice == 2) return c;
  for (size_t s = 0; s * MODEL_SECTOR < n; s++) {
    size_t at = s * MODEL_SECTOR, length = n - at < MODEL_SECTOR ? n - at : MODEL_SECTOR;
    bool reached = choice == 1 || (model_next_random(&choice) & 1) != 0;
    if ((f->dirty[s / 8] >> (s % 8) & 1) && reached && pread(f->memfd, c.bytes + at, length, (off_t)at) < 0) abort();
  }
  return c;
}

/* A bit of `ops` for each operation of the directory that reached the disk; `choice` for the files, mixed for each. */
static inline void model_crash(model_state *out, const model_fs *fs, uint64_t ops, uint64_t choice) {
  out->names = fs->synced;
  for (int i = 0; i < fs->n_ops; i++)
    if (ops >> i & 1) model_apply(&out->names, &fs->ops[i]);
  bool wanted[MODEL_FILES] = {false};
  for (int i = 0; i < out->names.n; i++) wanted[out->names.at[i].file] = true;
  for (int i = 0; i < MODEL_FILES; i++) {
    uint64_t mixed = choice < 3 ? choice : choice ^ ((uint64_t)(i + 1) * UINT64_C(0x9e3779b97f4a7c15));
    if (wanted[i]) out->content[i] = model_left(&fs->files[i], mixed < 3 && choice >= 3 ? mixed + 3 : mixed);
  }
}

static inline void model_state_free(model_state *s) {
  for (int i = 0; i < MODEL_FILES; i++) free(s->content[i].bytes);
  memset(s, 0, sizeof *s);
}

/* A machine that starts again from there. */
static inline void model_boot(model_fs *out, const model_state *s, uint64_t seed) {
  model_init(out, seed);
  out->now = out->synced = s->names;
  for (int i = 0; i < MODEL_FILES; i++) {
    model_file *f = &out->files[i];
    if (s->content[i].bytes == NULL) continue;
    f->memfd = memfd_create("model", MFD_CLOEXEC);
    if (f->memfd < 0 || write(f->memfd, s->content[i].bytes, s->content[i].n) != (ssize_t)s->content[i].n) abort();
    model_sync_file(f);
  }
}

#endif
