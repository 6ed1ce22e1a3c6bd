/* shard_index.c - see shard_index.h. */
#include "shard_index.h"

#include <stdlib.h>

#include "json_read.h"
#include "json_write.h"

enum { MAX_INDEX = 100000000 }; /* as much as the header of a safetensors file may have */

/* ---- reading ---- */

bool ckpt_shard_index_is(const ckpt_mapping *map) {
  const unsigned char *b = ckpt_mapping_data(map);
  size_t i = 0, n = ckpt_mapping_size(map);
  while (i < n && memchr(" \t\r\n", b[i], 4) != NULL) i++;
  return i < n && b[i] == '{' && (n < 9 || ckpt_le64(b) > MAX_INDEX); /* or else a safetensors file of 123 + ... */
}

/* A shard lies beside its index: whatever leads elsewhere is no name of one. */
static bool is_plain(const json_t *v) {
  const char *name = json_string_value(v);
  if (name == NULL || strlen(name) != json_string_length(v)) return false;
  if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return false;
  return strpbrk(name, "/\\") == NULL && strlen(name) <= 255;
}

uint64_t ckpt_shard_index_place(const ckpt_shard_index *index, const ckpt_shard_row *row) {
  const json_t *json = index->json;
  size_t number = 0;
  for (void *i = json_object_iter(index->json); i != NULL; i = json_object_iter_next(index->json, i), number++)
    if (strcmp(json_object_iter_key(i), "weight_map") == 0) break;
  return json == NULL ? 0 : ckpt_json_place(index->text, index->text_n, number, row->number);
}

static ckpt_status read_rows(ckpt_shard_index *index, ckpt_error *err) {
  json_t *map = json_object_get(index->json, "weight_map");
  if (!json_is_object(map))
    return ckpt_fail(err, CKPT_E_FORMAT, 0,
                     "JSON, but no index of a sharded checkpoint: it has no object 'weight_map'");
  size_t n = json_object_size(map);
  index->rows = calloc(n + 1, sizeof *index->rows);
  if (index->rows == NULL) return ckpt_fail_nomem(err, (n + 1) * sizeof *index->rows);
  for (void *i = json_object_iter(map); i != NULL; i = json_object_iter_next(map, i)) {
    const json_t *file = json_object_iter_value(i);
    ckpt_shard_row *row = &index->rows[index->n];
    *row = (ckpt_shard_row){json_object_iter_key(i), json_string_value(file), index->n};
    if (!is_plain(file)) {
      uint64_t at = ckpt_shard_index_place(index, row);
      return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)at,
                       "the index, byte %llu: the shard of tensor '%.100s' must be the name of a file beside it",
                       (unsigned long long)at, row->name);
    }
    index->n++;
  }
  return CKPT_OK;
}

static ckpt_status value_of(ckpt_value **out, ckpt_document *doc, const json_t *v, ckpt_error *err) {
  switch (json_typeof(v)) {
    case JSON_NULL: return ckpt_value_new_none(out, doc, err);
    case JSON_TRUE:
    case JSON_FALSE: return ckpt_value_new_bool(out, doc, json_is_true(v), err);
    case JSON_INTEGER: return ckpt_value_new_int(out, doc, json_integer_value(v), err);
    case JSON_REAL: return ckpt_value_new_double(out, doc, json_real_value(v), err);
    case JSON_STRING: return ckpt_value_new_str(out, doc, json_string_value(v), json_string_length(v), err);
    default: break;
  }
  char *text = json_dumps(v, JSON_COMPACT);
  if (text == NULL) return ckpt_fail(err, CKPT_E_NOMEM, -1, "out of memory: the index's metadata cannot be kept");
  ckpt_status st = ckpt_value_new_str(out, doc, text, strlen(text), err);
  free(text);
  return st;
}

static ckpt_status read_metadata(ckpt_value **out, ckpt_document *doc, json_t *json, ckpt_error *err) {
  json_t *metadata = json_object_get(json, "metadata");
  ckpt_value *dict = NULL;
  if (metadata == NULL || json_is_null(metadata)) return CKPT_OK;
  if (!json_is_object(metadata)) return ckpt_fail(err, CKPT_E_CORRUPT, 0, "the index's metadata must be an object");
  CKPT_TRY(ckpt_value_new_dict(&dict, doc, false, err));
  for (void *i = json_object_iter(metadata); i != NULL; i = json_object_iter_next(metadata, i)) {
    ckpt_value *v = NULL;
    CKPT_TRY(value_of(&v, doc, json_object_iter_value(i), err));
    CKPT_TRY(ckpt_value_set(dict, doc, json_object_iter_key(i), v, err));
  }
  *out = dict;
  return CKPT_OK;
}

static ckpt_status parse(ckpt_shard_index *index, size_t most, ckpt_error *err) {
  json_t *json = NULL;
  if (index->text_n > most)
    return ckpt_fail(err, CKPT_E_LIMIT, 0, "an index of %zu bytes; at most %zu are read", index->text_n, most);
  CKPT_TRY(ckpt_json_parse(&json, index->text, index->text_n, 0, "the index", err));
  index->json = json;
  return read_rows(index, err);
}

ckpt_status ckpt_shard_index_parse(ckpt_shard_index *out, ckpt_value **metadata, ckpt_document *doc,
                                   const ckpt_mapping *map, ckpt_error *err) {
  ckpt_shard_index index = {.text = (const char *)ckpt_mapping_data(map), .text_n = ckpt_mapping_size(map)};
  ckpt_status st = parse(&index, ckpt_mapping_trust(map)->limits.header, err);
  if (st == CKPT_OK && metadata != NULL) st = read_metadata(metadata, doc, index.json, err);
  if (st == CKPT_OK)
    *out = index;
  else
    ckpt_shard_index_free(&index);
  return st;
}

void ckpt_shard_index_free(ckpt_shard_index *index) {
  free(index->rows);
  json_decref(index->json);
  *index = (ckpt_shard_index){0};
}

/* ---- writing ---- */

static int by_name(const void *a, const void *b) {
  return strcmp(((const ckpt_shard_row *)a)->name, ((const ckpt_shard_row *)b)->name);
}

static int by_key(const void *a, const void *b) {
  return strcmp(((const ckpt_shard_pair *)a)->key, ((const ckpt_shard_pair *)b)->key);
}

static ckpt_status add_member(ckpt_text *t, bool first, const char *key, const char *value, ckpt_error *err) {
  CKPT_TRY(ckpt_text_print(t, err, "%s    ", first ? "" : ",\n"));
  CKPT_TRY(ckpt_text_string(t, key, true, err));
  CKPT_TRY(ckpt_text_add(t, ": ", 2, err));
  return ckpt_text_string(t, value, true, err);
}

static ckpt_status add_total(ckpt_text *t, bool first, uint64_t total, ckpt_error *err) {
  return ckpt_text_print(t, err, "%s    \"total_size\": %llu", first ? "" : ",\n", (unsigned long long)total);
}

/* total_size stands among the other keys in their order. */
static ckpt_status add_metadata(ckpt_text *t, uint64_t total, const ckpt_shard_pair *pairs, size_t n, ckpt_error *err) {
  bool told = false;
  for (size_t i = 0; i < n; i++) {
    int order = strcmp(pairs[i].key, "total_size");
    if (order == 0) return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "the metadata key 'total_size' is the index's own");
    if (order > 0 && !told) CKPT_TRY(add_total(t, i == 0, total, err));
    told |= order > 0;
    CKPT_TRY(add_member(t, i == 0 && !told, pairs[i].key, pairs[i].value, err));
  }
  return told ? CKPT_OK : add_total(t, n == 0, total, err);
}

static ckpt_status add_index(ckpt_text *t, uint64_t total, const ckpt_shard_row *rows, size_t n,
                             const ckpt_shard_pair *metadata, size_t n_metadata, ckpt_error *err) {
  CKPT_TRY(ckpt_text_print(t, err, "{\n  \"metadata\": {\n"));
  CKPT_TRY(add_metadata(t, total, metadata, n_metadata, err));
  CKPT_TRY(ckpt_text_print(t, err, "\n  },\n  \"weight_map\": {\n"));
  for (size_t i = 0; i < n; i++) CKPT_TRY(add_member(t, i == 0, rows[i].name, rows[i].file, err));
  return ckpt_text_print(t, err, "\n  }\n}\n");
}

ckpt_status ckpt_shard_index_format(char **out, size_t *size, uint64_t total, ckpt_shard_row *rows, size_t n,
                                    ckpt_shard_pair *metadata, size_t n_metadata, ckpt_error *err) {
  ckpt_text t = {0};
  if (n > 1) qsort(rows, n, sizeof *rows, by_name);
  if (n_metadata > 1) qsort(metadata, n_metadata, sizeof *metadata, by_key);
  ckpt_status st = add_index(&t, total, rows, n, metadata, n_metadata, err);
  if (st != CKPT_OK) {
    free(t.bytes);
    return st;
  }
  *out = t.bytes;
  *size = t.n;
  return CKPT_OK;
}
