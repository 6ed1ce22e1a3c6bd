/*
 * shards_write.h - a checkpoint as a set of files and the index that names them.
 */
#ifndef CKPT_SHARDS_WRITE_H
#define CKPT_SHARDS_WRITE_H

#include "save.h"
#include "split.h"

/* See ckpt_save_file_as. The split has more than one file. */
ckpt_status ckpt_shards_save(const ckpt_save_job *job, const ckpt_split *split, ckpt_error *err);

#endif
