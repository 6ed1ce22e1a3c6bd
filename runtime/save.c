/*
 * save.c - every format into a file of its own: whole as a pickle, or its tensors flat. What was written must read back
 * before it gets a name: a fault of ours is found while the old file is still there. Of a pth that is done in two parts
 * (pth.h): the objects from memory while the file is written and synced, its structure while it is being synced.
 */
#include "save.h"

#include <stdlib.h>

#include "buffered.h"
#include "checkpoint.h"
#include "parallel.h"
#include "pth.h"
#include "safetensors.h"
#include "safetensors_write.h"
#include "shards_write.h"

/* ---- publishing ---- */

static ckpt_status check_opens(ckpt_mapping *map, const char *name, const ckpt_content *content, ckpt_error *err) {
  (void)content;
  ckpt_checkpoint *cp = NULL;
  CKPT_TRY(ckpt_checkpoint_open_mapping(&cp, map, name, NULL, err));
  ckpt_checkpoint_close(cp);
  return CKPT_OK;
}

static ckpt_status check_output(const ckpt_output *o, const char *name, const ckpt_content *content, ckpt_error *err) {
  ckpt_mapping *map = NULL;
  CKPT_TRY(ckpt_mapping_open_fd(&map, ckpt_output_fd(o), name, err));
  ckpt_status st = content->check(map, name, content, err);
  ckpt_mapping_release(map);
  return st;
}

/* Something that is done beside something else, and how it went. */
typedef struct errand {
  ckpt_output *o;
  const char *name;
  const ckpt_content *content;
  ckpt_status st;
  ckpt_error err;
  ckpt_beside beside;
} errand;

static void sync_output(void *context) {
  errand *e = context;
  e->st = ckpt_output_sync(e->o, e->name, &e->err);
}

static void rehearse(void *context) {
  errand *e = context;
  e->st = e->content->rehearse(e->content, &e->err);
}

/* The first failure counts, and its message. */
static ckpt_status join(errand *e, ckpt_status st, ckpt_error *err) {
  ckpt_beside_join(&e->beside);
  if (st == CKPT_OK && e->st != CKPT_OK && err != NULL) *err = e->err;
  return st == CKPT_OK ? e->st : st;
}

/* The disk is waited for beside the check, which costs the processor only. */
static ckpt_status sync_and_check(ckpt_output *o, const char *name, const ckpt_content *content, ckpt_error *err) {
  errand e = {.o = o, .name = name};
  ckpt_beside_start(&e.beside, sync_output, &e);
  return join(&e, check_output(o, name, content, err), err);
}

static ckpt_status write_buffered(ckpt_sink *to, const ckpt_content *content, ckpt_error *err) {
  ckpt_buffered *b = NULL;
  CKPT_TRY(ckpt_buffered_new(&b, to, err));
  ckpt_status st = content->write(ckpt_buffered_sink(b), content, err);
  if (st == CKPT_OK) st = ckpt_buffered_flush(b, err);
  ckpt_buffered_free(b);
  return st;
}

static ckpt_status named(ckpt_status st, const char *name, ckpt_error *err) {
  return st == CKPT_OK ? CKPT_OK : ckpt_fail_in(err, st, name);
}

static ckpt_status write_and_sync(ckpt_output *o, const char *name, const ckpt_content *content, ckpt_error *err) {
  CKPT_TRY(write_buffered(ckpt_output_sink(o), content, err));
  CKPT_TRY(ckpt_output_flush(o, err));
  return sync_and_check(o, name, content, err);
}

/* All that comes before the name does not wait for the rehearsal; the name does. */
static ckpt_status write_beside_rehearsal(ckpt_output *o, const char *name, const ckpt_content *content,
                                          ckpt_error *err) {
  errand e = {.content = content};
  ckpt_beside_start(&e.beside, rehearse, &e);
  ckpt_status st = write_and_sync(o, name, content, err);
  return st == CKPT_OK ? named(join(&e, CKPT_OK, err), name, err) : join(&e, st, err);
}

static ckpt_status rehearse_and_write(ckpt_output *o, const char *name, const ckpt_content *content, ckpt_error *err) {
  if (content->long_rehearsal) return write_beside_rehearsal(o, name, content, err);
  if (content->rehearse != NULL) CKPT_TRY(named(content->rehearse(content, err), name, err));
  return write_and_sync(o, name, content, err);
}

ckpt_status ckpt_save_publish(ckpt_dir *dir, const char *name, const ckpt_content *content, ckpt_error *err) {
  ckpt_output *o = NULL;
  CKPT_TRY(ckpt_output_begin(&o, dir, content->size, err));
  ckpt_status st = rehearse_and_write(o, name, content, err);
  if (st == CKPT_OK) return ckpt_output_commit(o, name, err);
  ckpt_output_abandon(o);
  return st;
}

/* ---- pth ---- */

enum { LONG_PICKLE = 1 << 17 }; /* from here on to read it takes longer than to start a thread */

typedef struct pth_file {
  const ckpt_pickle *pickle;
  char prefix[256];
} pth_file;

static ckpt_status write_pth(ckpt_sink *sink, const ckpt_content *content, ckpt_error *err) {
  const pth_file *file = content->data;
  return ckpt_pth_write(sink, file->pickle, file->prefix, err);
}

static ckpt_status check_pth(ckpt_mapping *map, const char *name, const ckpt_content *content, ckpt_error *err) {
  const pth_file *file = content->data;
  return named(ckpt_pth_check(map, file->pickle, err), name, err);
}

static ckpt_status rehearse_pth(const ckpt_content *content, ckpt_error *err) {
  const pth_file *file = content->data;
  return ckpt_pth_rehearse(file->pickle, err);
}

static ckpt_status publish_pickle(ckpt_dir *dir, const char *name, const ckpt_pickle *pickle, uint64_t *bytes,
                                  ckpt_error *err) {
  pth_file file = {.pickle = pickle};
  ckpt_content content = {0, &file, write_pth, check_pth, rehearse_pth, pickle->n >= LONG_PICKLE};
  CKPT_TRY(ckpt_pth_prefix(file.prefix, sizeof file.prefix, name, err));
  CKPT_TRY(ckpt_pth_measure(&content.size, pickle, file.prefix, err));
  CKPT_TRY(ckpt_save_publish(dir, name, &content, err));
  if (bytes != NULL) *bytes = content.size;
  return CKPT_OK;
}

ckpt_status ckpt_checkpoint_publish(ckpt_dir *dir, const char *name, const ckpt_value *root, uint64_t *bytes,
                                    ckpt_error *err) {
  ckpt_pickle pickle = {0};
  CKPT_TRY(ckpt_pickle_write(&pickle, root, err));
  ckpt_status st = publish_pickle(dir, name, &pickle, bytes, err);
  ckpt_pickle_free(&pickle);
  return st;
}

/* A flat dict of the chosen tensors. Second names of one value follow each other and stay one. */
static ckpt_status flat_dict(ckpt_value **out, ckpt_document *doc, const ckpt_flat *flat, const size_t *chosen,
                             size_t n, ckpt_error *err) {
  ckpt_value *copy = NULL, *dict = NULL;
  CKPT_TRY(ckpt_value_new_dict(&dict, doc, false, err));
  for (size_t i = 0; i < n; i++) {
    const ckpt_flat_tensor *t = &flat->tensors[chosen[i]];
    bool same = i > 0 && flat->tensors[chosen[i - 1]].value == t->value;
    if (!same) CKPT_TRY(ckpt_value_clone(&copy, doc, t->value, err));
    CKPT_TRY(ckpt_value_set(dict, doc, t->name, copy, err));
  }
  *out = dict;
  return CKPT_OK;
}

static ckpt_status save_flat_pth(const ckpt_save_job *job, const char *name, const size_t *chosen, size_t n,
                                 ckpt_error *err) {
  ckpt_document *doc = NULL;
  ckpt_value *dict = NULL;
  CKPT_TRY(ckpt_document_new(&doc, err));
  ckpt_status st = flat_dict(&dict, doc, job->flat, chosen, n, err);
  if (st == CKPT_OK) st = ckpt_checkpoint_publish(job->dir, name, dict, NULL, err);
  ckpt_document_release(doc);
  return st;
}

/* ---- safetensors ---- */

static ckpt_status write_safetensors(ckpt_sink *sink, const ckpt_content *content, ckpt_error *err) {
  return ckpt_safetensors_write(sink, content->data, err);
}

typedef struct lists {
  ckpt_safetensors_tensor *tensors;
  ckpt_safetensors_pair *metadata;
  size_t n, n_metadata;
} lists;

/* The tensors to write; ties and the caller's pairs as metadata. */
static ckpt_status fill_lists(lists *l, const ckpt_save_job *job, const size_t *chosen, size_t n, ckpt_error *err) {
  for (size_t i = 0; i < job->options->n_metadata; i++)
    l->metadata[l->n_metadata++] =
        (ckpt_safetensors_pair){job->options->metadata[2 * i], job->options->metadata[2 * i + 1]};
  for (size_t i = 0; i < n; i++) {
    const ckpt_flat_tensor *t = &job->flat->tensors[chosen[i]];
    const char *kept = job->flat->tensors[t->kept].name;
    if (t->kept == chosen[i]) {
      l->tensors[l->n++] = (ckpt_safetensors_tensor){t->name, ckpt_value_tensor(t->value)};
      if (t->copied) CKPT_TRY(ckpt_save_report_add(job->report, CKPT_SAVED_COPIED, t->name, err));
    } else {
      l->metadata[l->n_metadata++] = (ckpt_safetensors_pair){t->name, kept};
      CKPT_TRY(ckpt_save_report_add(job->report, CKPT_SAVED_TIED, t->name, err));
      CKPT_TRY(ckpt_save_report_add(job->report, CKPT_SAVED_KEPT, kept, err));
    }
  }
  return CKPT_OK;
}

static ckpt_status publish_lists(const ckpt_save_job *job, const char *name, const lists *l, ckpt_error *err) {
  ckpt_safetensors file = {0};
  CKPT_TRY(ckpt_safetensors_prepare(&file, l->tensors, l->n, l->metadata, l->n_metadata, err));
  ckpt_content content = {file.size, &file, write_safetensors, check_opens, NULL, false};
  ckpt_status st = ckpt_save_publish(job->dir, name, &content, err);
  ckpt_safetensors_free(&file);
  return st;
}

static ckpt_status save_safetensors(const ckpt_save_job *job, const char *name, const size_t *chosen, size_t n,
                                    ckpt_error *err) {
  lists l = {0};
  l.tensors = calloc(n + 1, sizeof *l.tensors);
  l.metadata = calloc(n + job->options->n_metadata + 1, sizeof *l.metadata);
  ckpt_status st = CKPT_OK;
  if (l.tensors == NULL || l.metadata == NULL) CKPT_GO(ckpt_fail_nomem(err, (n + 1) * sizeof *l.metadata));
  CKPT_GO(fill_lists(&l, job, chosen, n, err));
  CKPT_GO(publish_lists(job, name, &l, err));
done:
  free(l.tensors);
  free(l.metadata);
  return st;
}

ckpt_status ckpt_save_tensors(const ckpt_save_job *job, const char *name, const size_t *chosen, size_t n,
                              ckpt_error *err) {
  CKPT_TRY(job->safetensors ? save_safetensors(job, name, chosen, n, err) : save_flat_pth(job, name, chosen, n, err));
  return ckpt_save_report_add(job->report, CKPT_SAVED_FILES, name, err);
}

/* ---- what to do ---- */

static ckpt_status refuse_metadata(const ckpt_save_job *job, ckpt_error *err) {
  if (job->safetensors || job->options->n_metadata == 0) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "a pth file has no place for metadata ('%.100s')",
                   job->options->metadata[0]);
}

static ckpt_status save_whole(const ckpt_save_job *job, const ckpt_value *root, ckpt_error *err) {
  CKPT_TRY(refuse_metadata(job, err));
  CKPT_TRY(ckpt_checkpoint_publish(job->dir, job->name, root, NULL, err));
  return ckpt_save_report_add(job->report, CKPT_SAVED_FILES, job->name, err);
}

static ckpt_status save_all_tensors(const ckpt_save_job *job, ckpt_error *err) {
  CKPT_TRY(refuse_metadata(job, err));
  size_t n = job->flat->n, *all = malloc((n + 1) * sizeof *all);
  if (all == NULL) return ckpt_fail_nomem(err, (n + 1) * sizeof *all);
  for (size_t i = 0; i < n; i++) all[i] = i;
  ckpt_status st = ckpt_save_tensors(job, job->name, all, n, err);
  free(all);
  return st;
}

/* A metadata pair that reads as a tie where there is none would give the reader a tensor that nobody saved. */
static ckpt_status check_pair(const ckpt_save_job *job, const ckpt_strmap *names, const char *key, const char *value,
                              ckpt_error *err) {
  size_t named = ckpt_strmap_get(names, key, strlen(key)), kept = ckpt_strmap_get(names, value, strlen(value));
  if (named != SIZE_MAX && job->flat->tensors[named].kept != named)
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "the metadata key '%.100s' is the name of a tied tensor", key);
  if (named == SIZE_MAX && kept != SIZE_MAX)
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1,
                     "the metadata '%.100s' = '%.100s' would say that tensor '%.100s' has a second name", key, value,
                     value);
  return CKPT_OK;
}

static ckpt_status check_pairs(const ckpt_save_job *job, ckpt_strmap *names, ckpt_strmap *keys, ckpt_error *err) {
  for (size_t i = 0; i < job->flat->n; i++)
    CKPT_TRY(ckpt_strmap_set(names, job->flat->tensors[i].name, strlen(job->flat->tensors[i].name), i, err));
  for (size_t i = 0; i < job->options->n_metadata; i++) {
    const char *key = job->options->metadata[2 * i], *value = job->options->metadata[2 * i + 1];
    if (ckpt_strmap_get(keys, key, strlen(key)) != SIZE_MAX)
      return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "the metadata key '%.100s' is given twice", key);
    CKPT_TRY(ckpt_strmap_set(keys, key, strlen(key), i, err));
    CKPT_TRY(check_pair(job, names, key, value, err));
  }
  return CKPT_OK;
}

static ckpt_status check_metadata(const ckpt_save_job *job, ckpt_error *err) {
  ckpt_strmap names = {0}, keys = {0};
  if (!job->safetensors || job->options->n_metadata == 0) return CKPT_OK;
  ckpt_status st = check_pairs(job, &names, &keys, err);
  ckpt_strmap_free(&names);
  ckpt_strmap_free(&keys);
  return st;
}

static ckpt_status save_split(const ckpt_save_job *job, const ckpt_split *split, ckpt_error *err) {
  const char *format = job->safetensors ? "safetensors" : split->n > 1 ? "a set of pth files" : "a flat pth file";
  CKPT_TRY(ckpt_flat_check(job->flat, job->options, format, job->report, err));
  CKPT_TRY(check_metadata(job, err));
  return split->n > 1 ? ckpt_shards_save(job, split, err) : save_all_tensors(job, err);
}

static ckpt_status save_flat(const ckpt_save_job *job, const ckpt_value *root, ckpt_error *err) {
  ckpt_split split = {0};
  CKPT_TRY(ckpt_split_new(&split, job->flat, job->safetensors, job->options->shard_bytes, err));
  bool whole = split.n <= 1 && !job->safetensors && !job->options->tensors_only;
  ckpt_status st = whole ? save_whole(job, root, err) : save_split(job, &split, err);
  ckpt_split_free(&split);
  return st;
}

static bool takes_all(const ckpt_tensor *t) {
  (void)t;
  return true;
}

static ckpt_status run(const ckpt_save_job *job, const ckpt_value *root, ckpt_error *err) {
  ckpt_flat flat = {0};
  if (!job->safetensors && !job->options->tensors_only && job->options->shard_bytes == 0)
    return save_whole(job, root, err);
  CKPT_TRY(ckpt_flat_new(&flat, root, job->safetensors ? ckpt_safetensors_takes : takes_all, err));
  ckpt_save_job with_flat = *job;
  with_flat.flat = &flat;
  ckpt_status st = save_flat(&with_flat, root, err);
  ckpt_flat_free(&flat);
  return st;
}

/* ---- public ---- */

static bool ends_with(const char *text, const char *suffix) {
  size_t n = strlen(text), k = strlen(suffix);
  return n >= k && strcmp(text + n - k, suffix) == 0;
}

static ckpt_status choose_format(bool *safetensors, const char *name, const char *format, ckpt_error *err) {
  *safetensors = format == NULL ? ends_with(name, ".safetensors") : strcmp(format, "safetensors") == 0;
  if (format == NULL || *safetensors || strcmp(format, "pth") == 0) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "'%.60s' is no format to save in: 'pth' and 'safetensors' are", format);
}

/* The directory of a path; *name gets the rest. */
static ckpt_status open_parent(ckpt_dir **out, const char **name, const char *path, ckpt_error *err) {
  const char *slash = strrchr(path, '/');
  size_t n = slash == NULL ? 1 : slash == path ? 1 : (size_t)(slash - path);
  char *parent = malloc(n + 1);
  if (parent == NULL) return ckpt_fail_nomem(err, n + 1);
  memcpy(parent, slash == NULL ? "." : path, n);
  parent[n] = '\0';
  *name = slash == NULL ? path : slash + 1;
  ckpt_status st = ckpt_dir_open(out, parent, false, false, NULL, err);
  free(parent);
  return st;
}

ckpt_status ckpt_save_file_as(ckpt_save_report **report, const char *path, const ckpt_value *root,
                              const ckpt_save_options *options, ckpt_error *err) {
  static const ckpt_save_options none = {0};
  ckpt_save_job job = {.options = options == NULL ? &none : options};
  CKPT_TRY(open_parent(&job.dir, &job.name, path, err));
  ckpt_status st = CKPT_OK;
  CKPT_GO(choose_format(&job.safetensors, job.name, options == NULL ? "pth" : options->format, err));
  CKPT_GO(ckpt_save_report_new(&job.report, err));
  CKPT_GO(run(&job, root, err));
  if (report != NULL) {
    *report = job.report;
    job.report = NULL;
  }
done:
  ckpt_save_report_free(job.report);
  ckpt_dir_close(job.dir);
  return st;
}

ckpt_status ckpt_save_file(const char *path, const ckpt_value *root, ckpt_error *err) {
  ckpt_dir *dir = NULL;
  const char *name = NULL;
  CKPT_TRY(open_parent(&dir, &name, path, err));
  ckpt_status st = ckpt_checkpoint_publish(dir, name, root, NULL, err);
  ckpt_dir_close(dir);
  return st;
}
