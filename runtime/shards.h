/*
 * shards.h - a set of checkpoint files and the index that names them, read as one state dict.
 */
#ifndef CKPT_SHARDS_H
#define CKPT_SHARDS_H

#include "file.h"
#include "shard_index.h"

typedef struct ckpt_shard {
  const char *name; /* of the file, borrowed from the set */
  ckpt_checkpoint *cp;
} ckpt_shard;

typedef struct ckpt_shards { /* zeroed: no set */
  ckpt_shard *list;          /* by name, in byte order */
  size_t n;
  char *names; /* one after the other, each with its NUL */
} ckpt_shards;

/* If `path` is a directory that holds exactly one index: *out is its path, to be freed; else *out stays NULL. */
ckpt_status ckpt_shards_find(char **out, const char *path, ckpt_error *err);

/*
 * Opens every shard that the index (at `path`) names, and builds one plain dict of all their entries: shard by shard in
 * the order of their names, in each in its own order. Entries that the index does not list are there too.
 * CKPT_E_NOTFOUND for a missing shard; CKPT_E_CORRUPT for a tensor that is not in the shard that the index says, or
 * that is in two; a shard's own error with its name in front. *metadata: see ckpt_checkpoint_metadata.
 */
ckpt_status ckpt_shards_read(ckpt_shards *out, ckpt_document **doc, ckpt_value **metadata, ckpt_mapping *index,
                             const char *path, ckpt_error *err);
void ckpt_shards_close(ckpt_shards *set);

uint64_t ckpt_shards_bytes(const ckpt_shards *set);
ckpt_status ckpt_shards_verify(const ckpt_shards *set, ckpt_error *err);

#endif
