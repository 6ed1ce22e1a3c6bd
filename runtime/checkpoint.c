/* checkpoint.c - one door for every format, found by content when reading. Writing is save.c's. */
#include "checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "bare_pickle.h"
#include "check.h"
#include "dcp.h"
#include "dir.h"
#include "pth.h"
#include "pth_legacy.h"
#include "pth_tar.h"
#include "safetensors.h"
#include "shards.h"
#include "zip_check.h"
#include "zip_strict.h"

struct ckpt_checkpoint {
  ckpt_document *doc;
  ckpt_value *metadata; /* of the document; NULL: none */
  const char *format;
  uint64_t bytes;
  size_t save; /* wanted */
  ckpt_trust trust;
  ckpt_saves saves;
  const ckpt_save_format *stream; /* NULL: a format of one save to a file */
  ckpt_mapping *map;              /* the file, or the index of a set; NULL for a directory */
  ckpt_zip *zip;
  ckpt_shards shards;
  ckpt_dcp *dcp;
};

/* ---- open ---- */

typedef ckpt_status (*reader)(ckpt_checkpoint *cp, ckpt_error *err);

static ckpt_status read_zip(ckpt_checkpoint *cp, ckpt_error *err) {
  CKPT_TRY(ckpt_zip_open(&cp->zip, cp->map, 0, ckpt_mapping_size(cp->map), err));
  CKPT_TRY(ckpt_zip_check_strict(cp->map, 0, ckpt_mapping_size(cp->map), err));
  return ckpt_pth_read(&cp->doc, &cp->format, cp->zip, err);
}

static ckpt_status read_safetensors(ckpt_checkpoint *cp, ckpt_error *err) {
  cp->format = "safetensors";
  return ckpt_safetensors_read(&cp->doc, &cp->metadata, cp->map, err);
}

static ckpt_status read_tar(ckpt_checkpoint *cp, ckpt_error *err) {
  cp->format = "torch-tar";
  return ckpt_tar_read(&cp->doc, cp->map, err);
}

static ckpt_status read_stream(ckpt_checkpoint *cp, const ckpt_save_format *stream, ckpt_error *err) {
  cp->stream = stream;
  return ckpt_saves_read(&cp->doc, &cp->saves, stream, cp->map, cp->save, err);
}

static ckpt_status read_legacy(ckpt_checkpoint *cp, ckpt_error *err) {
  cp->format = "torch-legacy";
  return read_stream(cp, &ckpt_legacy_format, err);
}

static ckpt_status read_pickle(ckpt_checkpoint *cp, ckpt_error *err) {
  cp->format = "pickle";
  return read_stream(cp, &ckpt_bare_pickle_format, err);
}

static bool starts(const ckpt_mapping *map, const void *bytes, size_t n) {
  return ckpt_mapping_size(map) >= n && memcmp(ckpt_mapping_data(map), bytes, n) == 0;
}

static bool is_zip(const ckpt_mapping *map) { return starts(map, "PK\3\4", 4); }

/* What a file is, by its first bytes; a format that cannot be read yet is named in the refusal. */
typedef struct format {
  bool (*is)(const ckpt_mapping *map);
  reader read; /* NULL: refused as `name` */
  const char *name;
} format;

static bool is_legacy(const ckpt_mapping *map) { return ckpt_legacy_begins(map, 0); }

static bool is_pickle(const ckpt_mapping *map) { return ckpt_bare_pickle_marked(map, 0); }
static bool is_preview(const ckpt_mapping *map) { return starts(map, "PYTORCH1", 8); }

static const format formats[] = {
    {is_zip, read_zip, "a PyTorch zip file"},
    {is_preview, NULL, "a file of a PyTorch preview release"},
    {is_legacy, read_legacy, "a PyTorch legacy file (before 1.6)"},
    {ckpt_tar_is, read_tar, "a PyTorch 0.1 tar file"},
    {ckpt_safetensors_is, read_safetensors, "a safetensors file"},
    {is_pickle, read_pickle, "a bare pickle"},
};

/*
 * Pickles of protocols 0 and 1 have no mark: what parses as such to the last byte is one, anything else is no
 * checkpoint, and the refusal says what the attempt met.
 */
static ckpt_status read_unmarked(ckpt_checkpoint *cp, ckpt_error *err) {
  ckpt_error here = {0};
  const unsigned char *b = ckpt_mapping_data(cp->map);
  size_t size = ckpt_mapping_size(cp->map);
  ckpt_status st = read_pickle(cp, &here);
  if (st == CKPT_OK && cp->saves.end < size)
    st = ckpt_fail(&here, CKPT_E_FORMAT, (int64_t)cp->saves.end, "file+0x%zx: what follows is none", cp->saves.end);
  if (st == CKPT_OK) return CKPT_OK;
  if (st == CKPT_E_NOMEM || st == CKPT_E_NOTFOUND) {
    if (err != NULL) *err = here;
    return st;
  }
  return ckpt_fail(err, CKPT_E_FORMAT, 0,
                   "not a checkpoint: it begins with the bytes %02x %02x, which is no known format (as a pickle of "
                   "protocol 0 or 1: %s)",
                   b[0], size > 1 ? b[1] : 0, here.message);
}

static ckpt_status read_any(ckpt_checkpoint *cp, ckpt_error *err) {
  if (ckpt_mapping_size(cp->map) == 0) return ckpt_fail(err, CKPT_E_FORMAT, 0, "the file is empty");
  for (size_t i = 0; i < CKPT_COUNTOF(formats); i++) {
    if (!formats[i].is(cp->map)) continue;
    if (formats[i].read != NULL) return formats[i].read(cp, err);
    return ckpt_fail(err, CKPT_E_UNSUPPORTED, 0, "%s: this version of ckpt does not read it", formats[i].name);
  }
  return read_unmarked(cp, err);
}

/* ---- what lies in one file, and what lies in several ---- */

static ckpt_status read_file(ckpt_checkpoint *cp, const char *path, ckpt_error *err) {
  (void)path;
  cp->bytes = ckpt_mapping_size(cp->map);
  return read_any(cp, err);
}

static ckpt_status read_set(ckpt_checkpoint *cp, const char *path, ckpt_error *err) {
  cp->format = "sharded";
  CKPT_TRY(ckpt_shards_read(&cp->shards, &cp->doc, &cp->metadata, cp->map, path, err));
  cp->bytes = ckpt_mapping_size(cp->map) + ckpt_shards_bytes(&cp->shards);
  return CKPT_OK;
}

static ckpt_status read_dcp(ckpt_checkpoint *cp, const char *dir, ckpt_error *err) {
  cp->format = "torch-dcp";
  CKPT_TRY(ckpt_dcp_open(&cp->dcp, dir, &cp->trust, err));
  cp->doc = ckpt_document_retain(ckpt_dcp_document(cp->dcp));
  cp->bytes = ckpt_dcp_bytes(cp->dcp);
  return CKPT_OK;
}

typedef ckpt_status (*path_reader)(ckpt_checkpoint *cp, const char *path, ckpt_error *err);

/* A value of the wrong kind, size or shape is the caller's fault elsewhere; in a file it is the file's. */
static ckpt_status corrupt(ckpt_error *err) {
  if (err != NULL) err->status = CKPT_E_CORRUPT;
  return CKPT_E_CORRUPT;
}

/* `name` begins messages; the reader gets `path`. */
static ckpt_status open_by(ckpt_checkpoint **out, path_reader read, ckpt_mapping *map, const char *path,
                           const char *name, const ckpt_open_options *options, ckpt_error *err) {
  ckpt_checkpoint *cp = calloc(1, sizeof *cp);
  if (cp == NULL) return ckpt_fail_nomem(err, sizeof *cp);
  if (map != NULL) cp->map = ckpt_mapping_retain(map);
  cp->save = options == NULL ? 0 : options->save;
  cp->trust = ckpt_trust_of(options);
  if (map != NULL) ckpt_mapping_set_trust(map, &cp->trust);
  cp->saves = (ckpt_saves){1, map == NULL ? 0 : ckpt_mapping_size(map)};
  ckpt_status st = read(cp, path, err);
  if (st == CKPT_OK && cp->save >= cp->saves.count) st = ckpt_saves_no_such(cp->save, cp->saves.count, err);
  if (st == CKPT_OK && options != NULL && options->verify) st = ckpt_checkpoint_verify(cp, err);
  if (st == CKPT_E_TYPE || st == CKPT_E_RANGE || st == CKPT_E_SHAPE) st = corrupt(err);
  if (st != CKPT_OK) {
    ckpt_checkpoint_close(cp);
    return ckpt_fail_in(err, st, name);
  }
  *out = cp;
  return CKPT_OK;
}

ckpt_status ckpt_checkpoint_open_mapping(ckpt_checkpoint **out, ckpt_mapping *map, const char *name,
                                         const ckpt_open_options *options, ckpt_error *err) {
  return open_by(out, read_file, map, name, name, options, err);
}

static ckpt_status open_path(ckpt_checkpoint **out, const char *path, const ckpt_open_options *options,
                             ckpt_error *err) {
  ckpt_mapping *map = NULL;
  CKPT_TRY(ckpt_mapping_open(&map, path, err));
  path_reader read = ckpt_shard_index_is(map) ? read_set : read_file;
  ckpt_status st = open_by(out, read, map, path, path, options, err);
  ckpt_mapping_release(map);
  return st;
}

ckpt_status ckpt_checkpoint_open(ckpt_checkpoint **out, const char *path, const ckpt_open_options *options,
                                 ckpt_error *err) {
  char *dir = NULL, *index = NULL;
  CKPT_TRY(ckpt_dcp_find(&dir, path, err));
  if (dir == NULL) CKPT_TRY(ckpt_shards_find(&index, path, err));
  ckpt_status st = dir != NULL ? open_by(out, read_dcp, NULL, dir, path, options, err)
                               : open_path(out, index == NULL ? path : index, options, err);
  free(dir);
  free(index);
  return st;
}

/* *map is NULL for what is no regular file. */
static ckpt_status map_in(ckpt_mapping **map, ckpt_dir *dir, const char *name, const char *path, ckpt_error *err) {
  struct stat info;
  int fd = ckpt_dir_open_file(dir, name, O_RDONLY, &info);
  if (fd < 0 && errno == EINVAL) return CKPT_OK;
  if (fd < 0 && errno == ENOENT) return ckpt_fail(err, CKPT_E_NOTFOUND, -1, "%s: there is no such file", path);
  if (fd < 0 && errno == ELOOP)
    return ckpt_fail_errno(err, ELOOP, "%s: a symbolic link, which is not followed in the directory of a run", path);
  if (fd < 0) return ckpt_fail_errno(err, errno, "%s: the file cannot be opened", path);
  ckpt_status st = ckpt_mapping_open_fd(map, fd, path, err);
  ckpt_io_close(dir->io, fd);
  return st;
}

static ckpt_status open_in(ckpt_checkpoint **out, ckpt_dir *dir, const char *name, const char *path,
                           const ckpt_open_options *options, ckpt_error *err) {
  ckpt_mapping *map = NULL;
  CKPT_TRY(map_in(&map, dir, name, path, err));
  bool single = map != NULL && !ckpt_shard_index_is(map);
  ckpt_status st = single ? ckpt_checkpoint_open_mapping(out, map, path, options, err)
                          : ckpt_checkpoint_open(out, path, options, err);
  ckpt_mapping_release(map);
  return st;
}

ckpt_status ckpt_checkpoint_open_in(ckpt_checkpoint **out, ckpt_dir *dir, const char *name,
                                    const ckpt_open_options *options, ckpt_error *err) {
  size_t n = strlen(dir->path) + strlen(name) + 2;
  char *path = malloc(n);
  if (path == NULL) return ckpt_fail_nomem(err, n);
  snprintf(path, n, "%s/%s", dir->path, name);
  ckpt_status st = open_in(out, dir, name, path, options, err);
  free(path);
  return st;
}

ckpt_status ckpt_checkpoint_open_memory(ckpt_checkpoint **out, const void *data, size_t size, const char *name,
                                        const ckpt_open_options *options, ckpt_error *err) {
  ckpt_mapping *map = NULL;
  CKPT_TRY(ckpt_mapping_memory(&map, size == 0 ? "" : data, size, err));
  ckpt_status st = open_by(out, read_file, map, name, name, options, err);
  ckpt_mapping_release(map);
  return st;
}

void ckpt_checkpoint_close(ckpt_checkpoint *cp) {
  if (cp == NULL) return;
  ckpt_document_release(cp->doc);
  ckpt_shards_close(&cp->shards);
  ckpt_dcp_close(cp->dcp);
  ckpt_zip_release(cp->zip);
  ckpt_mapping_release(cp->map);
  free(cp);
}

const char *ckpt_checkpoint_format(const ckpt_checkpoint *cp) { return cp->format; }
uint64_t ckpt_checkpoint_bytes(const ckpt_checkpoint *cp) { return cp->bytes; }
ckpt_document *ckpt_checkpoint_document(const ckpt_checkpoint *cp) { return cp->doc; }
ckpt_value *ckpt_checkpoint_root(const ckpt_checkpoint *cp) { return ckpt_document_root(cp->doc); }
ckpt_value *ckpt_checkpoint_metadata(const ckpt_checkpoint *cp) { return cp->metadata; }

size_t ckpt_checkpoint_saves(const ckpt_checkpoint *cp) { return cp->saves.count; }

uint64_t ckpt_checkpoint_trailing(const ckpt_checkpoint *cp) {
  return cp->map == NULL ? 0 : ckpt_mapping_size(cp->map) - cp->saves.end;
}

size_t ckpt_checkpoint_record_count(const ckpt_checkpoint *cp) { return cp->zip == NULL ? 0 : ckpt_zip_count(cp->zip); }

ckpt_record ckpt_checkpoint_record(const ckpt_checkpoint *cp, size_t i) {
  const ckpt_zip_entry *e = ckpt_zip_entry_at(cp->zip, i);
  return (ckpt_record){e->name, e->size, e->crc};
}

ckpt_status ckpt_checkpoint_check_record(const ckpt_checkpoint *cp, size_t i, ckpt_error *err) {
  return ckpt_zip_check(cp->zip, i, err);
}

ckpt_status ckpt_checkpoint_check_contents(const ckpt_checkpoint *cp, ckpt_error *err) {
  if (cp->stream != NULL) CKPT_TRY(ckpt_saves_check(&cp->saves, cp->stream, cp->map, err));
  if (cp->dcp != NULL) CKPT_TRY(ckpt_dcp_verify(cp->dcp, err));
  CKPT_TRY(ckpt_shards_verify(&cp->shards, err));
  return ckpt_value_check(ckpt_document_root(cp->doc), err);
}

static ckpt_status verify(const ckpt_checkpoint *cp, bool keep, ckpt_error *err) {
  if (cp->zip != NULL) CKPT_TRY(ckpt_zip_check_all(cp->zip, keep, err));
  return ckpt_checkpoint_check_contents(cp, err);
}

ckpt_status ckpt_checkpoint_verify(const ckpt_checkpoint *cp, ckpt_error *err) { return verify(cp, false, err); }
ckpt_status ckpt_checkpoint_verify_to_read(const ckpt_checkpoint *cp, ckpt_error *err) { return verify(cp, true, err); }
