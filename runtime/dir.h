/*
 * dir.h - the inside of an open directory, shared by dir.c (opening, listing), alias.c (a name changes hands),
 * publish.c (new files) and ledger.c. Every name is a single component below `fd`; nothing follows a symbolic link.
 */
#ifndef CKPT_DIR_H
#define CKPT_DIR_H

#include "publish.h"

enum { CKPT_TEMP_NAME = 32, CKPT_MAX_NAME = 200 };

/* How a name gets back what it had: it is removed, another name of the old file is renamed to it, or not at all. */
typedef enum ckpt_way_back { CKPT_NO_WAY_BACK, CKPT_BY_UNLINK, CKPT_BY_RENAME } ckpt_way_back;

typedef struct ckpt_name_change { /* of a name, that can still be taken back */
  ckpt_way_back back;
  char name[CKPT_MAX_NAME + 1], old[CKPT_TEMP_NAME];
} ckpt_name_change;

struct ckpt_dir {
  const ckpt_io *io;
  char *path;      /* for messages only */
  int fd, lock;    /* lock: -1 without one */
  bool named_only; /* unnamed files were tried and do not work here */
  bool recycle;
  bool holding; /* changes are kept until ckpt_dir_keep or ckpt_dir_undo */
  ckpt_name_change *changes;
  size_t n_changes, change_capacity;
  char spare[CKPT_TEMP_NAME]; /* a retired file that is kept for its blocks; "": none. See spare.c */
};

#define CKPT_TEMP_PREFIX ".tmp-ckpt-"

/* A name that nobody can guess: ".tmp-ckpt-" and 16 hexadecimal digits. */
ckpt_status ckpt_dir_temp_name(char out[CKPT_TEMP_NAME], ckpt_dir *dir, ckpt_error *err);

/* A new, empty file under such a name, open for reading and writing. */
ckpt_status ckpt_dir_temp_open(int *out, char temp[CKPT_TEMP_NAME], ckpt_dir *dir, ckpt_error *err);

/* Unlinks a temporary name, if there is one ("" or a missing file is none). Best effort: the next open cleans up. */
void ckpt_dir_drop(ckpt_dir *dir, const char *temp);

ckpt_status ckpt_dir_sync(ckpt_dir *dir, ckpt_error *err);

/*
 * The file under `temp` takes over `name`, durably; `temp` is gone afterwards in any case. When the directory cannot be
 * synced, the file that `name` had before gets it back (except on a file system without hard links).
 */
ckpt_status ckpt_dir_swap_in(ckpt_dir *dir, const char *temp, const char *name, ckpt_error *err);

/* Room for one more change, before the name is touched; then the change, which takes over the file under `old`. */
ckpt_status ckpt_dir_room_for_change(ckpt_dir *dir, ckpt_error *err);
void ckpt_dir_note_change(ckpt_dir *dir, ckpt_way_back back, const char *old, const char *name);

/* All bytes of one descriptor into another, empty one: reflink where there is such a thing; then synced. */
ckpt_status ckpt_dir_copy(ckpt_dir *dir, int to, int from, const char *name, ckpt_error *err);

/* Opens a file that must be a regular one, without waiting for the other end of a FIFO; fills *st. -1 and errno. */
int ckpt_dir_open_file(ckpt_dir *dir, const char *name, int flags, struct stat *st);

/* CKPT_E_IO with "dir/name: what: errno". */
ckpt_status ckpt_dir_fail(const ckpt_dir *dir, const char *name, const char *what, ckpt_error *err);

/* The file becomes the spare, if it may; false if it is to be unlinked instead. */
bool ckpt_dir_keep_spare(ckpt_dir *dir, const char *name);

/* The spare is unlinked. */
void ckpt_dir_drop_spare(ckpt_dir *dir);

/*
 * The spare, open for writing, under its temporary name, cut to `size` bytes if it was longer (*blocks: what it has).
 * There is none afterwards in any case. False: there was none, or somebody else has it open or mapped.
 */
bool ckpt_dir_take_spare(int *fd, char temp[CKPT_TEMP_NAME], uint64_t *blocks, ckpt_dir *dir, uint64_t size);

/* True for the errno values by which a file system says that it has no (further) hard links for us. */
bool ckpt_links_unsupported(int sys);

#endif
