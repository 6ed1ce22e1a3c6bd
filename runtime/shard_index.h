/*
 * shard_index.h - the JSON file that says which tensor lies in which file of a set, as transformers writes it.
 *
 *   { "metadata": { "total_size": 1234 }, "weight_map": { "tensor": "model-00001-of-00002.safetensors", ... } }
 */
#ifndef CKPT_SHARD_INDEX_H
#define CKPT_SHARD_INDEX_H

#include "file.h"
#include "sink.h"
#include "value.h"

#define CKPT_SHARD_INDEX_SUFFIX ".index.json"

typedef struct ckpt_shard_row {
  const char *name, *file;
  size_t number; /* of the weight_map's members, for messages */
} ckpt_shard_row;

typedef struct ckpt_shard_index { /* zeroed: empty */
  ckpt_shard_row *rows;           /* in the order of the file */
  size_t n;
  void *json; /* owns the strings */
  const char *text;
  size_t text_n;
} ckpt_shard_index;

/* True for a file that begins as JSON text does. */
bool ckpt_shard_index_is(const ckpt_mapping *map);

/*
 * Checks the whole file: CKPT_E_FORMAT for JSON without a weight_map, CKPT_E_CORRUPT for a file name that is more than
 * a name. *metadata (may be NULL) gets a dict of `doc`, or NULL if there is none: numbers, strings, booleans and None;
 * anything nested as its JSON text. The mapping must outlive the index.
 */
ckpt_status ckpt_shard_index_parse(ckpt_shard_index *out, ckpt_value **metadata, ckpt_document *doc,
                                   const ckpt_mapping *map, ckpt_error *err);
void ckpt_shard_index_free(ckpt_shard_index *index);

/* Where in its file a row stands. */
uint64_t ckpt_shard_index_place(const ckpt_shard_index *index, const ckpt_shard_row *row);

typedef struct ckpt_shard_pair {
  const char *key, *value;
} ckpt_shard_pair;

/* The bytes of json.dumps(index, indent=2, sort_keys=True) and a newline; sorts rows and pairs. free(*out). */
ckpt_status ckpt_shard_index_format(char **out, size_t *size, uint64_t total, ckpt_shard_row *rows, size_t n,
                                    ckpt_shard_pair *metadata, size_t n_metadata, ckpt_error *err);

#endif
