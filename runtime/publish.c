/*
 * publish.c - writing a new file and giving it its name; appending to one. See publish.h for the protocol.
 *
 * Until its last step a new file has no name that anybody looks for. Where unnamed files cannot be given a name (no
 * links, no /proc) the bytes are copied once into a named temporary, and the directory remembers it.
 */
#include "dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "direct.h"

enum { STREAMED = 16 << 20 };

struct ckpt_output {
  ckpt_sink sink; /* first: the sink's address is the output's */
  ckpt_dir *dir;
  int fd;
  uint64_t reserved, written;
  ckpt_direct *direct; /* of a large file, until it is flushed */
  bool synced;
  char temp[CKPT_TEMP_NAME]; /* "" while the file has no name at all */
};

/* ---- beginning ---- */

/* Unnamed where that works: it vanishes by itself when we are killed, and nobody can put a link in its place. */
static ckpt_status open_temporary(ckpt_output *o, uint64_t expected, ckpt_error *err) {
  ckpt_dir *dir = o->dir;
  if (expected > 0 && ckpt_dir_take_spare(&o->fd, o->temp, &o->reserved, dir, expected)) return CKPT_OK;
  if (dir->named_only) return ckpt_dir_temp_open(&o->fd, o->temp, dir, err);
  o->fd = ckpt_io_open(dir->io, dir->fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
  if (o->fd >= 0) return CKPT_OK;
  if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT)
    return ckpt_fail_errno(err, errno, "%s: no file can be made here", dir->path);
  dir->named_only = true;
  return ckpt_dir_temp_open(&o->fd, o->temp, dir, err);
}

static ckpt_status reserve(ckpt_output *o, uint64_t expected, ckpt_error *err) {
  if (expected == 0) return CKPT_OK;
  if (expected > INT64_MAX)
    return ckpt_fail(err, CKPT_E_RANGE, -1, "%s: no file holds %llu bytes", o->dir->path, (unsigned long long)expected);
  if (expected <= o->reserved) return CKPT_OK;
  o->reserved = expected;
  if (ckpt_io_reserve(o->dir->io, o->fd, (off_t)expected) == 0) return CKPT_OK;
  return ckpt_fail_errno(err, errno, "%s: there is no room for a file of %llu bytes", o->dir->path,
                         (unsigned long long)expected);
}

static ckpt_status write_failed(const ckpt_output *o, int sys, ckpt_error *err) {
  return ckpt_fail_errno(err, sys, "%s: the new file cannot be written", o->dir->path);
}

static ckpt_status sink_write(ckpt_sink *sink, const void *data, size_t size, ckpt_error *err) {
  ckpt_output *o = (ckpt_output *)sink;
  int sys = 0;
  if (o->direct != NULL)
    sys = ckpt_direct_write(o->direct, data, size);
  else if (ckpt_io_write_all(o->dir->io, o->fd, data, size) != 0)
    sys = errno;
  if (sys != 0) return write_failed(o, sys, err);
  o->written += size;
  return CKPT_OK;
}

ckpt_status ckpt_output_begin(ckpt_output **out, ckpt_dir *dir, uint64_t expected, ckpt_error *err) {
  ckpt_output *o = calloc(1, sizeof *o);
  if (o == NULL) return ckpt_fail_nomem(err, sizeof *o);
  o->sink.write = sink_write;
  o->dir = dir;
  o->fd = -1;
  ckpt_status st = open_temporary(o, expected, err);
  bool recycled = o->reserved > 0; /* its pages are in the cache: nothing is to be gained by going past them */
  if (st == CKPT_OK) st = reserve(o, expected, err);
  if (st == CKPT_OK && expected >= STREAMED && !recycled) st = ckpt_direct_new(&o->direct, dir->io, o->fd, err);
  if (st != CKPT_OK) {
    ckpt_output_abandon(o);
    return st;
  }
  *out = o;
  return CKPT_OK;
}

ckpt_sink *ckpt_output_sink(ckpt_output *o) { return &o->sink; }
int ckpt_output_fd(const ckpt_output *o) { return o->fd; }

void ckpt_output_abandon(ckpt_output *o) {
  if (o == NULL) return;
  ckpt_direct_free(o->direct); /* its thread uses the descriptor */
  if (o->fd >= 0) ckpt_io_close(o->dir->io, o->fd);
  ckpt_dir_drop(o->dir, o->temp);
  free(o);
}

/* ---- naming ---- */

/* What linkat of an unnamed file says where that is impossible: no links, no /proc, or a rule against it. */
static bool naming_unsupported(int sys) {
  return ckpt_links_unsupported(sys) || sys == ENOENT || sys == EACCES || sys == ELOOP;
}

static ckpt_status copy_to_named(ckpt_output *o, ckpt_error *err) {
  int fd = -1;
  CKPT_TRY(ckpt_dir_temp_open(&fd, o->temp, o->dir, err));
  ckpt_status st = ckpt_dir_copy(o->dir, fd, o->fd, o->temp, err);
  ckpt_io_close(o->dir->io, fd);
  if (st == CKPT_OK) o->dir->named_only = true;
  return st;
}

/* Gives an unnamed file a temporary name, to be renamed over the file that is there. */
static ckpt_status name_temporarily(ckpt_output *o, ckpt_error *err) {
  char temp[CKPT_TEMP_NAME];
  CKPT_TRY(ckpt_dir_temp_name(temp, o->dir, err));
  if (o->dir->io->link_fd(o->dir->io->ctx, o->fd, o->dir->fd, temp) == 0) {
    memcpy(o->temp, temp, sizeof temp);
    return CKPT_OK;
  }
  if (naming_unsupported(errno)) return copy_to_named(o, err);
  return ckpt_dir_fail(o->dir, temp, "the new file cannot be given a name", err);
}

static ckpt_status sync_new_name(ckpt_output *o, const char *name, ckpt_error *err) {
  ckpt_status st = ckpt_dir_sync(o->dir, err);
  if (st != CKPT_OK)
    ckpt_dir_drop(o->dir, name);
  else
    ckpt_dir_note_change(o->dir, CKPT_BY_UNLINK, "", name);
  return st;
}

/* A name that is free is taken in one step; one that is in use changes hands. */
static ckpt_status give_name(ckpt_output *o, const char *name, ckpt_error *err) {
  const ckpt_io *io = o->dir->io;
  CKPT_TRY(ckpt_dir_room_for_change(o->dir, err));
  if (o->temp[0] == '\0') {
    if (io->link_fd(io->ctx, o->fd, o->dir->fd, name) == 0) return sync_new_name(o, name, err);
    if (errno != EEXIST && !naming_unsupported(errno))
      return ckpt_dir_fail(o->dir, name, "the new file cannot be given its name", err);
    CKPT_TRY(name_temporarily(o, err));
  }
  ckpt_status st = ckpt_dir_swap_in(o->dir, o->temp, name, err);
  o->temp[0] = '\0';
  return st;
}

/* Bytes that were there before (of a spare) must not be read back as if they had been written. */
static ckpt_status trim(ckpt_output *o, ckpt_error *err) {
  if (o->reserved > o->written && ckpt_io_truncate(o->dir->io, o->fd, (off_t)o->written) != 0)
    return ckpt_fail_errno(err, errno, "%s: the space that was reserved too much cannot be given back", o->dir->path);
  o->reserved = o->written;
  return CKPT_OK;
}

ckpt_status ckpt_output_flush(ckpt_output *o, ckpt_error *err) {
  int sys = o->direct == NULL ? 0 : ckpt_direct_flush(o->direct);
  ckpt_direct_free(o->direct);
  o->direct = NULL;
  return sys == 0 ? trim(o, err) : write_failed(o, sys, err);
}

ckpt_status ckpt_output_sync(ckpt_output *o, const char *name, ckpt_error *err) {
  const ckpt_io *io = o->dir->io;
  CKPT_TRY(ckpt_output_flush(o, err));
  if (io->fsync(io->ctx, o->fd) != 0) return ckpt_dir_fail(o->dir, name, "the new file cannot be synced", err);
  o->synced = true;
  return CKPT_OK;
}

static ckpt_status commit(ckpt_output *o, const char *name, ckpt_error *err) {
  CKPT_TRY(ckpt_name_check(name, err));
  if (!o->synced) CKPT_TRY(ckpt_output_sync(o, name, err));
  return give_name(o, name, err);
}

ckpt_status ckpt_output_commit(ckpt_output *o, const char *name, ckpt_error *err) {
  ckpt_status st = commit(o, name, err);
  ckpt_output_abandon(o);
  return st;
}

/* ---- appending ---- */

/* An empty file counts as new: whoever made it may have been killed before the directory was synced. */
typedef struct appended {
  int fd;
  off_t before;
  bool made;
} appended;

static ckpt_status open_append(appended *a, ckpt_dir *dir, const char *name, ckpt_error *err) {
  struct stat st;
  a->made = false;
  a->fd = ckpt_dir_open_file(dir, name, O_WRONLY | O_APPEND, &st);
  if (a->fd < 0 && errno == ENOENT) {
    a->made = true;
    a->fd = ckpt_dir_open_file(dir, name, O_WRONLY | O_APPEND | O_CREAT | O_EXCL, &st);
  }
  if (a->fd < 0) return ckpt_dir_fail(dir, name, "the file cannot be opened for appending", err);
  a->before = st.st_size;
  return CKPT_OK;
}

static ckpt_status write_append(const appended *a, ckpt_dir *dir, const char *name, const void *data, size_t size,
                                ckpt_error *err) {
  if (ckpt_io_write_all(dir->io, a->fd, data, size) != 0)
    return ckpt_dir_fail(dir, name, "the file cannot be appended to", err);
  if (dir->io->fsync(dir->io->ctx, a->fd) != 0) return ckpt_dir_fail(dir, name, "the file cannot be synced", err);
  return a->before == 0 ? ckpt_dir_sync(dir, err) : CKPT_OK;
}

/* What was not acknowledged is taken back, as far as the disk lets us. */
static void undo_append(const appended *a, ckpt_dir *dir, const char *name) {
  if (a->made)
    ckpt_dir_drop(dir, name);
  else
    ckpt_io_truncate(dir->io, a->fd, a->before);
}

ckpt_status ckpt_dir_append(ckpt_dir *dir, const char *name, const void *data, size_t size, ckpt_error *err) {
  appended a = {.fd = -1};
  CKPT_TRY(ckpt_name_check(name, err));
  CKPT_TRY(open_append(&a, dir, name, err));
  ckpt_status st = write_append(&a, dir, name, data, size, err);
  if (st != CKPT_OK) undo_append(&a, dir, name);
  ckpt_io_close(dir->io, a.fd);
  return st;
}
