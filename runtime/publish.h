/*
 * publish.h - durable files in one directory: a new file is complete and on the disk before an old one is touched.
 *
 *   open       hold the directory by descriptor; all names below are single components of it
 *   begin      an unnamed file (O_TMPFILE), or an exclusively created `.tmp-ckpt-<16 hex>` where that is not supported
 *   commit     fsync the file; give it its name (link, or link to a temporary name and rename over an existing one);
 *              fsync the directory. Only then is it published. If that last sync fails, the old file gets its name back
 *              from a link that was kept (a file system without links has no such way back: the new file stays, whole).
 *   alias      another name for a published file: hard link, else reflink, else copy; swapped in by rename
 *   retire     unlink; only ever called after the above
 *
 * A failed fsync is never retried on the same file: the temporary is dropped and the error reported.
 */
#ifndef CKPT_PUBLISH_H
#define CKPT_PUBLISH_H

#include "io.h"
#include "sink.h"

typedef struct ckpt_dir ckpt_dir;
typedef struct ckpt_output ckpt_output; /* a file being written */

enum { CKPT_ASIDE_NAME = 224 }; /* bytes: the longest name, what is added, NUL */

typedef struct ckpt_dir_entry {
  char *name;
  uint64_t bytes;
  int64_t mtime;  /* seconds since the epoch */
  uint64_t inode; /* equal inodes are one file under several names */
} ckpt_dir_entry;

/*
 * Opens a directory. With `create` it is made first (with its parents). With `lock` an exclusive lock is taken on
 * `.ckpt.lock` in it, CKPT_E_BUSY if another process has it, and left-over temporaries of a killed writer are removed.
 * `io` NULL is ckpt_io_posix(). Without `lock` the directory is only read.
 */
ckpt_status ckpt_dir_open(ckpt_dir **out, const char *path, bool create, bool lock, const ckpt_io *io, ckpt_error *err);
void ckpt_dir_close(ckpt_dir *dir);
/* CKPT_E_IO unless the directory is ours or root's: whoever owns it can put anything in the place of any name. */
ckpt_status ckpt_dir_check_owner(ckpt_dir *dir, ckpt_error *err);

const char *ckpt_dir_path(const ckpt_dir *dir);

/* Regular files whose names do not start with '.', sorted by name in byte order. Free with ckpt_dir_list_free. */
ckpt_status ckpt_dir_list(ckpt_dir_entry **out, size_t *n, ckpt_dir *dir, ckpt_error *err);
void ckpt_dir_list_free(ckpt_dir_entry *list, size_t n);

bool ckpt_dir_has(ckpt_dir *dir, const char *name); /* follows no link */

/* CKPT_OK if `name` is one plain path component that a policy may name: not empty, ".", "..", hidden, with '/' or NUL,
 * a control character, or longer than 200 bytes. */
ckpt_status ckpt_name_check(const char *name, ckpt_error *err);

/*
 * With `recycle` one of the files that retire would unlink is kept under a temporary name instead, and the next new
 * file is written over its blocks, if nobody else has it: see spare.c. Off at first.
 */
void ckpt_dir_set_recycle(ckpt_dir *dir, bool recycle);

/* Starts a file of about `expected` bytes (0: unknown); the space is allocated now so that a full disk shows here. */
ckpt_status ckpt_output_begin(ckpt_output **out, ckpt_dir *dir, uint64_t expected, ckpt_error *err);
ckpt_sink *ckpt_output_sink(ckpt_output *o);
int ckpt_output_fd(const ckpt_output *o); /* to read back what was written (no more, no less), once it is flushed */

/* All of what the sink was given is in the file then, for whoever reads it back; large files are written by a thread.
 */
ckpt_status ckpt_output_flush(ckpt_output *o, ckpt_error *err);

/*
 * The fsync of commit ahead of it, so that it may run in a thread of its own while what was written is looked at.
 * Nothing may be written afterwards, and after a failure the output can only be abandoned. `name` is for
 * the message.
 */
ckpt_status ckpt_output_sync(ckpt_output *o, const char *name, ckpt_error *err);

/* fsync, name, fsync the directory. `o` is consumed either way. On failure no file of that name was changed. */
ckpt_status ckpt_output_commit(ckpt_output *o, const char *name, ckpt_error *err);
void ckpt_output_abandon(ckpt_output *o);

/* `alias` becomes another name of `name`, atomically and durably; an alias that existed is never absent. */
ckpt_status ckpt_dir_alias(ckpt_dir *dir, const char *name, const char *alias, ckpt_error *err);

/*
 * A file that is not valid gets a further name, `name` and ".corrupt" (".corrupt-2", ... if that is taken), durably:
 * its content outlives its other names. If it has such a name already, that one. If it has such a name already, that
 * one. Where there are no hard links it is renamed.
 */
ckpt_status ckpt_dir_keep_aside(char to[CKPT_ASIDE_NAME], ckpt_dir *dir, const char *name, ckpt_error *err);

/*
 * From hold on every name that commit and alias change can be taken back: undo gives each the file it had, or takes it
 * away again, as far as the disk lets us; keep lets the old files go. Not for names of a file system without links.
 */
void ckpt_dir_hold(ckpt_dir *dir);
void ckpt_dir_keep(ckpt_dir *dir);
void ckpt_dir_undo(ckpt_dir *dir);

/* Unlinks the names (missing ones are no error), then fsyncs the directory. Goes on after an error; reports the first.
 */
ckpt_status ckpt_dir_retire(ckpt_dir *dir, const char *const *names, size_t n, ckpt_error *err);

/*
 * Appends `data` to a file (made if need be) and syncs it, and the directory when it was made. On failure what got into
 * the file is taken back, as far as the disk lets us.
 */
ckpt_status ckpt_dir_append(ckpt_dir *dir, const char *name, const void *data, size_t size, ckpt_error *err);

#endif
