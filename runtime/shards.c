/* shards.c - see shards.h. Shards are opened as single files: an index that names an index is refused, not followed. */
#include "shards.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint.h"

/* ---- finding the index ---- */

static bool is_index_name(const char *name) {
  size_t n = strlen(name), k = strlen(CKPT_SHARD_INDEX_SUFFIX);
  return n > k && name[0] != '.' && strcmp(name + n - k, CKPT_SHARD_INDEX_SUFFIX) == 0;
}

static ckpt_status join(char **out, const char *dir, size_t dir_n, const char *name, ckpt_error *err) {
  size_t size = dir_n + strlen(name) + 2;
  char *path = malloc(size);
  if (path == NULL) return ckpt_fail_nomem(err, size);
  bool slash = dir_n > 0 && dir[dir_n - 1] != '/';
  snprintf(path, size, "%.*s%s%s", (int)dir_n, dir, slash ? "/" : "", name);
  *out = path;
  return CKPT_OK;
}

static ckpt_status find_in(char **out, DIR *dir, const char *path, ckpt_error *err) {
  char *found = NULL;
  ckpt_status st = CKPT_OK;
  for (struct dirent *e = readdir(dir); st == CKPT_OK && e != NULL; e = readdir(dir)) {
    if (!is_index_name(e->d_name)) continue;
    if (found != NULL)
      st = ckpt_fail(err, CKPT_E_FORMAT, -1, "%s: a directory with several indexes, such as '%.100s': open one of them",
                     path, e->d_name);
    else
      st = join(&found, path, strlen(path), e->d_name, err);
  }
  if (st == CKPT_OK)
    *out = found;
  else
    free(found);
  return st;
}

/* What is no directory, or cannot be read as one, is for those who open files to say. */
ckpt_status ckpt_shards_find(char **out, const char *path, ckpt_error *err) {
  DIR *dir = opendir(path);
  if (dir == NULL && errno == ENOMEM) return ckpt_fail_nomem(err, sizeof(struct dirent));
  if (dir == NULL) return CKPT_OK;
  ckpt_status st = find_in(out, dir, path, err);
  closedir(dir);
  return st;
}

/* ---- opening the shards ---- */

typedef struct reader {
  ckpt_shards set;
  ckpt_shard_index index;
  const char *path; /* of the index */
  ckpt_open_options options;
  ckpt_document *doc;
  ckpt_value *root, *metadata;
  ckpt_strmap rows; /* tensor -> its row */
  bool *found;      /* for each row, whether its shard holds the tensor */
} reader;

static int by_file(const void *a, const void *b) {
  const ckpt_shard_row *x = a, *y = b;
  int c = strcmp(x->file, y->file);
  return c != 0 ? c : x->number < y->number ? -1 : x->number > y->number;
}

/* Sorts the rows by file, and gives each file that they name a place in the set. */
static ckpt_status name_shards(reader *r, ckpt_error *err) {
  size_t bytes = 1, used = 0;
  if (r->index.n > 1) qsort(r->index.rows, r->index.n, sizeof *r->index.rows, by_file);
  for (size_t i = 0; i < r->index.n; i++) bytes += strlen(r->index.rows[i].file) + 1;
  r->set.names = malloc(bytes);
  r->set.list = calloc(r->index.n + 1, sizeof *r->set.list);
  if (r->set.names == NULL || r->set.list == NULL) return ckpt_fail_nomem(err, bytes);
  for (size_t i = 0; i < r->index.n; i++) {
    const ckpt_shard_row *row = &r->index.rows[i];
    CKPT_TRY(ckpt_strmap_set(&r->rows, row->name, strlen(row->name), i, err));
    if (i > 0 && strcmp(row->file, row[-1].file) == 0) continue;
    size_t n = strlen(row->file) + 1;
    r->set.list[r->set.n].name = memcpy(r->set.names + used, row->file, n);
    r->set.n++;
    used += n;
  }
  return CKPT_OK;
}

static const ckpt_shard_row *first_row(const reader *r, const char *file) {
  size_t i = 0;
  while (strcmp(r->index.rows[i].file, file) != 0) i++;
  return &r->index.rows[i];
}

static ckpt_status open_shard(reader *r, ckpt_shard *shard, ckpt_error *err) {
  const char *slash = strrchr(r->path, '/');
  char *path = NULL;
  ckpt_mapping *map = NULL;
  CKPT_TRY(join(&path, r->path, slash == NULL ? 0 : (size_t)(slash + 1 - r->path), shard->name, err));
  ckpt_status st = ckpt_mapping_open(&map, path, err);
  free(path);
  if (st == CKPT_E_NOTFOUND) {
    const ckpt_shard_row *row = first_row(r, shard->name);
    return ckpt_fail(err, st, (int64_t)ckpt_shard_index_place(&r->index, row),
                     "shard '%.200s', which holds tensor '%.100s', is not there", shard->name, row->name);
  }
  if (st == CKPT_OK) st = ckpt_checkpoint_open_mapping(&shard->cp, map, shard->name, &r->options, err);
  ckpt_mapping_release(map);
  return st;
}

/* ---- one dict of all ---- */

static ckpt_status fail_row(const reader *r, size_t row, const char *shard, ckpt_error *err) {
  const ckpt_shard_row *w = &r->index.rows[row];
  int64_t at = (int64_t)ckpt_shard_index_place(&r->index, w);
  if (shard == NULL)
    return ckpt_fail(err, CKPT_E_CORRUPT, at, "tensor '%.100s' is not in shard '%.150s', where the index says it is",
                     w->name, w->file);
  return ckpt_fail(err, CKPT_E_CORRUPT, at, "tensor '%.100s' is in shard '%.150s', and the index says '%.150s'",
                   w->name, shard, w->file);
}

/* A tensor that two shards hold could be either: the index cannot know which one was meant to be read. */
static ckpt_status take_pair(reader *r, size_t shard, ckpt_value *key, ckpt_value *item, ckpt_error *err) {
  size_t n = 0;
  const char *file = r->set.list[shard].name;
  const char *name = key->kind == CKPT_STR ? ckpt_value_text(key, &n) : NULL;
  if (name == NULL)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "shard '%.200s' has a key that is no string: it is no state dict", file);
  size_t row = ckpt_strmap_get(&r->rows, name, n);
  if (row != SIZE_MAX && strcmp(r->index.rows[row].file, file) != 0) return fail_row(r, row, file, err);
  if (ckpt_dict_find(ckpt_value_dict(r->root), key) != SIZE_MAX)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "tensor '%.100s' is in shard '%.150s' and in another one", name, file);
  if (row != SIZE_MAX) r->found[row] = true;
  return ckpt_dict_put(r->root->as.dict, r->doc, key, item, err);
}

static ckpt_status take_shard(reader *r, size_t shard, ckpt_error *err) {
  const ckpt_value *root = ckpt_checkpoint_root(r->set.list[shard].cp);
  ckpt_value *copy = NULL;
  if (ckpt_value_kind(root) != CKPT_DICT)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "shard '%.200s' holds a %s, not a state dict", r->set.list[shard].name,
                     ckpt_kind_name(ckpt_value_kind(root)));
  CKPT_TRY(ckpt_value_clone(&copy, r->doc, root, err));
  for (size_t i = 0; i < ckpt_value_pair_count(copy); i++)
    CKPT_TRY(take_pair(r, shard, ckpt_value_pair_key(copy, i), ckpt_value_pair_value(copy, i), err));
  return CKPT_OK;
}

/* What the shards say of themselves, such as safetensors' "format": "pt", where the index does not say it. */
static ckpt_status take_metadata(reader *r, size_t shard, ckpt_error *err) {
  const ckpt_value *more = ckpt_checkpoint_metadata(r->set.list[shard].cp);
  ckpt_value *copy = NULL;
  if (more == NULL) return CKPT_OK;
  if (r->metadata == NULL) CKPT_TRY(ckpt_value_new_dict(&r->metadata, r->doc, false, err));
  CKPT_TRY(ckpt_value_clone(&copy, r->doc, more, err));
  for (size_t i = 0; i < ckpt_value_pair_count(copy); i++) {
    ckpt_value *key = ckpt_value_pair_key(copy, i);
    if (ckpt_dict_find(ckpt_value_dict(r->metadata), key) != SIZE_MAX) continue;
    CKPT_TRY(ckpt_dict_put(r->metadata->as.dict, r->doc, key, ckpt_value_pair_value(copy, i), err));
  }
  return CKPT_OK;
}

static ckpt_status check_rows(const reader *r, ckpt_error *err) {
  for (size_t i = 0; i < r->index.n; i++)
    if (!r->found[i]) return fail_row(r, i, NULL, err);
  return CKPT_OK;
}

static ckpt_status read_set(reader *r, ckpt_mapping *index, ckpt_error *err) {
  CKPT_TRY(ckpt_document_new(&r->doc, err));
  CKPT_TRY(ckpt_shard_index_parse(&r->index, &r->metadata, r->doc, index, err));
  r->found = calloc(r->index.n + 1, sizeof *r->found);
  if (r->found == NULL) return ckpt_fail_nomem(err, (r->index.n + 1) * sizeof *r->found);
  CKPT_TRY(name_shards(r, err));
  CKPT_TRY(ckpt_value_new_dict(&r->root, r->doc, false, err));
  for (size_t i = 0; i < r->set.n; i++) {
    CKPT_TRY(open_shard(r, &r->set.list[i], err));
    CKPT_TRY(take_shard(r, i, err));
    CKPT_TRY(take_metadata(r, i, err));
  }
  CKPT_TRY(check_rows(r, err));
  ckpt_document_set_root(r->doc, r->root);
  return CKPT_OK;
}

ckpt_status ckpt_shards_read(ckpt_shards *out, ckpt_document **doc, ckpt_value **metadata, ckpt_mapping *index,
                             const char *path, ckpt_error *err) {
  reader r = {.path = path, .options = ckpt_trust_options(ckpt_mapping_trust(index))};
  ckpt_status st = read_set(&r, index, err);
  ckpt_shard_index_free(&r.index);
  ckpt_strmap_free(&r.rows);
  free(r.found);
  if (st != CKPT_OK) {
    ckpt_shards_close(&r.set);
    ckpt_document_release(r.doc);
    return st;
  }
  *out = r.set;
  *doc = r.doc;
  *metadata = r.metadata;
  return CKPT_OK;
}

/* ---- afterwards ---- */

void ckpt_shards_close(ckpt_shards *set) {
  for (size_t i = 0; i < set->n; i++) ckpt_checkpoint_close(set->list[i].cp);
  free(set->list);
  free(set->names);
  *set = (ckpt_shards){0};
}

uint64_t ckpt_shards_bytes(const ckpt_shards *set) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < set->n; i++) bytes += ckpt_checkpoint_bytes(set->list[i].cp);
  return bytes;
}

ckpt_status ckpt_shards_verify(const ckpt_shards *set, ckpt_error *err) {
  for (size_t i = 0; i < set->n; i++) {
    ckpt_status st = ckpt_checkpoint_verify(set->list[i].cp, err);
    if (st != CKPT_OK) return ckpt_fail_in(err, st, set->list[i].name);
  }
  return CKPT_OK;
}
