/*
 * shards_write.c - see shards_write.h. The order is what keeps a set whole:
 *
 *   1  nothing is begun where a name is in use that the new set would have to take from a set that can be opened
 *   2  each shard is written, checked, synced and named; whatever fails takes the shards before it away again
 *   3  the index is written last: without it the shards are no checkpoint to anybody; it is swapped in as a whole
 *
 * A process that is killed between 2 and 3 leaves shards without an index. The next save of that name replaces them,
 * because nothing refers to them. Files of an older set with another number of shards are not touched.
 */
#include "shards_write.h"

#include <stdio.h>
#include <stdlib.h>

#include "shard_index.h"

enum { MAX_NAME = 256 };

typedef struct set {
  const ckpt_save_job *job;
  const ckpt_split *split;
  char (*names)[MAX_NAME]; /* of the shards */
  char index[MAX_NAME];
  size_t *order;  /* numbers of the tensors, shard by shard */
  size_t *starts; /* where each shard begins in it, and the end */
} set;

/* ---- names ---- */

/* model.safetensors -> model-00001-of-00002.safetensors */
static ckpt_status make_names(set *s, ckpt_error *err) {
  const char *name = s->job->name, *dot = strrchr(name, '.');
  CKPT_TRY(ckpt_name_check(name, err));
  int stem = (int)(dot == NULL ? strlen(name) : (size_t)(dot - name));
  for (size_t i = 0; i < s->split->n; i++) {
    snprintf(s->names[i], MAX_NAME, "%.*s-%05zu-of-%05zu%s", stem, name, i + 1, s->split->n, name + stem);
    CKPT_TRY(ckpt_name_check(s->names[i], err));
  }
  snprintf(s->index, MAX_NAME, "%s" CKPT_SHARD_INDEX_SUFFIX, name);
  return ckpt_name_check(s->index, err);
}

static ckpt_status check_free(const set *s, ckpt_error *err) {
  ckpt_dir *dir = s->job->dir;
  const char *path = ckpt_dir_path(dir);
  if (ckpt_dir_has(dir, s->job->name))
    return ckpt_fail(
        err, CKPT_E_EXISTS, -1,
        "%s/%s is there: readers would take it instead of the %zu shards; remove it, or choose another name", path,
        s->job->name, s->split->n);
  for (size_t i = 0; ckpt_dir_has(dir, s->index) && i < s->split->n; i++)
    if (ckpt_dir_has(dir, s->names[i]))
      return ckpt_fail(
          err, CKPT_E_EXISTS, -1,
          "%s/%s is there, and so is its index: a set cannot be replaced as a whole; remove '%s', or choose "
          "another name",
          path, s->names[i], s->index);
  return CKPT_OK;
}

/* ---- the index ---- */

typedef struct text {
  const char *bytes;
} text;

static ckpt_status write_text(ckpt_sink *sink, const ckpt_content *content, ckpt_error *err) {
  return sink->write(sink, ((const text *)content->data)->bytes, (size_t)content->size, err);
}

static ckpt_status check_text(ckpt_mapping *map, const char *name, const ckpt_content *content, ckpt_error *err) {
  (void)content;
  ckpt_shard_index index = {0};
  ckpt_status st = ckpt_shard_index_parse(&index, NULL, NULL, map, err);
  if (st != CKPT_OK) return ckpt_fail_in(err, st, name);
  ckpt_shard_index_free(&index);
  return CKPT_OK;
}

/* Second names of what is written once are left to the shards' metadata, as in the sets of others. */
static size_t fill_rows(ckpt_shard_row *rows, const set *s) {
  size_t n = 0;
  for (size_t i = 0; i < s->job->flat->n; i++) {
    const ckpt_flat_tensor *t = &s->job->flat->tensors[i];
    if (!s->job->safetensors || t->kept == i) rows[n++] = (ckpt_shard_row){t->name, s->names[s->split->file[i]], i};
  }
  return n;
}

static ckpt_status format_index(char **bytes, size_t *size, const set *s, ckpt_error *err) {
  const ckpt_save_options *o = s->job->options;
  ckpt_shard_row *rows = calloc(s->job->flat->n + 1, sizeof *rows);
  ckpt_shard_pair *pairs = calloc(o->n_metadata + 1, sizeof *pairs);
  ckpt_status st = CKPT_OK;
  if (rows == NULL || pairs == NULL) CKPT_GO(ckpt_fail_nomem(err, (s->job->flat->n + 1) * sizeof *rows));
  for (size_t i = 0; i < o->n_metadata; i++) pairs[i] = (ckpt_shard_pair){o->metadata[2 * i], o->metadata[2 * i + 1]};
  CKPT_GO(ckpt_shard_index_format(bytes, size, s->split->total, rows, fill_rows(rows, s), pairs, o->n_metadata, err));
done:
  free(rows);
  free(pairs);
  return st;
}

/* ---- the set ---- */

static void sort_tensors(set *s) {
  size_t n = s->job->flat->n;
  for (size_t i = 0; i < n; i++) s->starts[s->split->file[i] + 1]++;
  for (size_t i = 0; i < s->split->n; i++) s->starts[i + 1] += s->starts[i];
  for (size_t i = 0; i < n; i++) s->order[s->starts[s->split->file[i]]++] = i;
  for (size_t i = s->split->n; i > 0; i--) s->starts[i] = s->starts[i - 1];
  s->starts[0] = 0;
}

static ckpt_status save_shard(const set *s, size_t i, ckpt_error *err) {
  return ckpt_save_tensors(s->job, s->names[i], s->order + s->starts[i], s->starts[i + 1] - s->starts[i], err);
}

/* Best effort: what stays is a shard that nobody refers to. */
static void take_away(const set *s, size_t n) {
  for (size_t i = 0; i < n; i++) {
    const char *name = s->names[i];
    ckpt_dir_retire(s->job->dir, &name, 1, NULL);
  }
}

static ckpt_status save_files(const set *s, const text *index, size_t size, ckpt_error *err) {
  ckpt_content content = {size, index, write_text, check_text, NULL, false};
  ckpt_status st = CKPT_OK;
  size_t written = 0;
  while (st == CKPT_OK && written < s->split->n) {
    st = save_shard(s, written, err);
    if (st == CKPT_OK) written++;
  }
  if (st == CKPT_OK) st = ckpt_save_publish(s->job->dir, s->index, &content, err);
  if (st == CKPT_OK) return ckpt_save_report_add(s->job->report, CKPT_SAVED_FILES, s->index, err);
  take_away(s, written);
  return st;
}

static ckpt_status save(set *s, ckpt_error *err) {
  text index = {NULL};
  char *bytes = NULL;
  size_t size = 0;
  CKPT_TRY(make_names(s, err));
  CKPT_TRY(check_free(s, err));
  CKPT_TRY(format_index(&bytes, &size, s, err));
  index.bytes = bytes;
  ckpt_status st = save_files(s, &index, size, err);
  free(bytes);
  return st;
}

ckpt_status ckpt_shards_save(const ckpt_save_job *job, const ckpt_split *split, ckpt_error *err) {
  set s = {.job = job, .split = split};
  s.names = calloc(split->n, sizeof *s.names);
  s.order = calloc(job->flat->n + 1, sizeof *s.order);
  s.starts = calloc(split->n + 1, sizeof *s.starts);
  bool made = s.names != NULL && s.order != NULL && s.starts != NULL;
  if (made) sort_tensors(&s);
  ckpt_status st = made ? save(&s, err) : ckpt_fail_nomem(err, split->n * sizeof *s.names);
  free(s.names);
  free(s.order);
  free(s.starts);
  return st;
}
