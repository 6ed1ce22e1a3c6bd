/*
 * save.h - writing checkpoints into an open directory; shared by save.c (one file) and shards_write.c (a set).
 */
#ifndef CKPT_SAVE_H
#define CKPT_SAVE_H

#include "flat.h"
#include "publish.h"

typedef struct ckpt_save_job {
  ckpt_dir *dir;
  const char *name; /* as the caller gave it */
  const ckpt_save_options *options;
  bool safetensors; /* else pth */
  const ckpt_flat *flat;
  ckpt_save_report *report;
} ckpt_save_job;

/*
 * What a file will hold. `check` looks at what was written before it gets its name; `rehearse` (or NULL) makes sure
 * beforehand of what can be known without the file, in a thread beside the writing if `long_rehearsal`.
 */
typedef struct ckpt_content {
  uint64_t size;
  const void *data;
  ckpt_status (*write)(ckpt_sink *sink, const struct ckpt_content *content, ckpt_error *err);
  ckpt_status (*check)(ckpt_mapping *map, const char *name, const struct ckpt_content *content, ckpt_error *err);
  ckpt_status (*rehearse)(const struct ckpt_content *content, ckpt_error *err);
  bool long_rehearsal;
} ckpt_content;

/* Temporary file, sync, check, name, sync of the directory. */
ckpt_status ckpt_save_publish(ckpt_dir *dir, const char *name, const ckpt_content *content, ckpt_error *err);

/* Writes the tensors whose numbers are in `chosen` (of job->flat, ascending) as file `name`, and reports it. */
ckpt_status ckpt_save_tensors(const ckpt_save_job *job, const char *name, const size_t *chosen, size_t n,
                              ckpt_error *err);

#endif
