/*
 * checkpoint.h - opening and saving for the rest of the project, beyond ckpt.h: from descriptors and into directories.
 */
#ifndef CKPT_CHECKPOINT_H
#define CKPT_CHECKPOINT_H

#include "file.h"
#include "publish.h"
#include "value.h"

/* Opens a mapped file; the mapping is retained. `name` begins messages. */
ckpt_status ckpt_checkpoint_open_mapping(ckpt_checkpoint **out, ckpt_mapping *map, const char *name,
                                         const ckpt_open_options *options, ckpt_error *err);

/*
 * Opens a file of an open directory, whatever its path leads to meanwhile. A symbolic link is not followed (CKPT_E_IO);
 * what is no single file (a directory, the index of a sharded set) is opened by its path, as ckpt_checkpoint_open does.
 */
ckpt_status ckpt_checkpoint_open_in(ckpt_checkpoint **out, ckpt_dir *dir, const char *name,
                                    const ckpt_open_options *options, ckpt_error *err);

/* As ckpt_checkpoint_verify, for who reads all of the file next: its pages stay mapped. The message has no path. */
ckpt_status ckpt_checkpoint_verify_to_read(const ckpt_checkpoint *cp, ckpt_error *err);

/*
 * Writes `root` as file `name` of an open directory: temporary file, sync, read back (save.c says how), name, sync of
 * the directory. *bytes gets the size (may be NULL).
 */
ckpt_status ckpt_checkpoint_publish(ckpt_dir *dir, const char *name, const ckpt_value *root, uint64_t *bytes,
                                    ckpt_error *err);

#endif
