/* checkpoint.c - one door for every format: found by content when reading, checked before it gets its name when
 * written. */
#include "checkpoint.h"

#include <stdlib.h>

#include "bare_pickle.h"
#include "pth.h"
#include "pth_legacy.h"
#include "pth_tar.h"

struct ckpt_checkpoint {
  ckpt_mapping *map;
  ckpt_zip *zip;
  ckpt_document *doc;
  const char *format;
  size_t save; /* wanted */
  ckpt_saves saves;
  const ckpt_save_format *stream; /* NULL: a format of one save to a file */
};

/* ---- open ---- */

typedef ckpt_status (*reader)(ckpt_checkpoint *cp, ckpt_error *err);

static ckpt_status read_zip(ckpt_checkpoint *cp, ckpt_error *err) {
  CKPT_TRY(ckpt_zip_open(&cp->zip, cp->map, 0, ckpt_mapping_size(cp->map), err));
  return ckpt_pth_read(&cp->doc, &cp->format, cp->zip, err);
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

static bool is_safetensors(const ckpt_mapping *map) {
  size_t size = ckpt_mapping_size(map);
  return size >= 9 && ckpt_mapping_data(map)[8] == '{' && ckpt_le64(ckpt_mapping_data(map)) <= size - 8;
}

static bool is_pickle(const ckpt_mapping *map) { return ckpt_bare_pickle_marked(map, 0); }
static bool is_preview(const ckpt_mapping *map) { return starts(map, "PYTORCH1", 8); }

static const format formats[] = {
    {is_zip, read_zip, "a PyTorch zip file"},
    {is_preview, NULL, "a file of a PyTorch preview release"},
    {is_legacy, read_legacy, "a PyTorch legacy file (before 1.6)"},
    {ckpt_tar_is, read_tar, "a PyTorch 0.1 tar file"},
    {is_safetensors, NULL, "a safetensors file"},
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

static ckpt_status open_mapping(ckpt_checkpoint *cp, const ckpt_open_options *options, ckpt_error *err) {
  cp->save = options == NULL ? 0 : options->save;
  cp->saves = (ckpt_saves){1, ckpt_mapping_size(cp->map)};
  CKPT_TRY(read_any(cp, err));
  if (cp->save >= cp->saves.count) return ckpt_saves_no_such(cp->save, cp->saves.count, err);
  return options != NULL && options->verify ? ckpt_checkpoint_verify(cp, err) : CKPT_OK;
}

ckpt_status ckpt_checkpoint_open_mapping(ckpt_checkpoint **out, ckpt_mapping *map, const char *name,
                                         const ckpt_open_options *options, ckpt_error *err) {
  ckpt_checkpoint *cp = calloc(1, sizeof *cp);
  if (cp == NULL) return ckpt_fail_nomem(err, sizeof *cp);
  cp->map = ckpt_mapping_retain(map);
  ckpt_status st = open_mapping(cp, options, err);
  if (st != CKPT_OK) {
    ckpt_checkpoint_close(cp);
    return ckpt_fail_in(err, st, name);
  }
  *out = cp;
  return CKPT_OK;
}

ckpt_status ckpt_checkpoint_open(ckpt_checkpoint **out, const char *path, const ckpt_open_options *options,
                                 ckpt_error *err) {
  ckpt_mapping *map = NULL;
  CKPT_TRY(ckpt_mapping_open(&map, path, err));
  ckpt_status st = ckpt_checkpoint_open_mapping(out, map, path, options, err);
  ckpt_mapping_release(map);
  return st;
}

void ckpt_checkpoint_close(ckpt_checkpoint *cp) {
  if (cp == NULL) return;
  ckpt_document_release(cp->doc);
  ckpt_zip_release(cp->zip);
  ckpt_mapping_release(cp->map);
  free(cp);
}

const char *ckpt_checkpoint_format(const ckpt_checkpoint *cp) { return cp->format; }
uint64_t ckpt_checkpoint_bytes(const ckpt_checkpoint *cp) { return ckpt_mapping_size(cp->map); }
ckpt_document *ckpt_checkpoint_document(const ckpt_checkpoint *cp) { return cp->doc; }
ckpt_value *ckpt_checkpoint_root(const ckpt_checkpoint *cp) { return ckpt_document_root(cp->doc); }

size_t ckpt_checkpoint_saves(const ckpt_checkpoint *cp) { return cp->saves.count; }
uint64_t ckpt_checkpoint_trailing(const ckpt_checkpoint *cp) { return ckpt_mapping_size(cp->map) - cp->saves.end; }

ckpt_status ckpt_checkpoint_verify(const ckpt_checkpoint *cp, ckpt_error *err) {
  if (cp->stream != NULL) return ckpt_saves_check(&cp->saves, cp->stream, cp->map, err);
  for (size_t i = 0; cp->zip != NULL && i < ckpt_zip_count(cp->zip); i++) CKPT_TRY(ckpt_zip_check(cp->zip, i, err));
  return CKPT_OK;
}

/* ---- save ---- */

/* What was written must read back before it gets a name: a fault of ours is found while the old file is still there. */
static ckpt_status check_output(const ckpt_output *o, const char *name, ckpt_error *err) {
  ckpt_mapping *map = NULL;
  ckpt_checkpoint *cp = NULL;
  CKPT_TRY(ckpt_mapping_open_fd(&map, ckpt_output_fd(o), name, err));
  ckpt_status st = ckpt_checkpoint_open_mapping(&cp, map, name, NULL, err);
  ckpt_checkpoint_close(cp);
  ckpt_mapping_release(map);
  return st;
}

static ckpt_status write_output(ckpt_output *o, const ckpt_pickle *pickle, const char *prefix, const char *name,
                                ckpt_error *err) {
  CKPT_TRY(ckpt_pth_write(ckpt_output_sink(o), pickle, prefix, err));
  return check_output(o, name, err);
}

static ckpt_status publish_pickle(ckpt_dir *dir, const char *name, const ckpt_pickle *pickle, uint64_t *bytes,
                                  ckpt_error *err) {
  char prefix[256];
  ckpt_output *o = NULL;
  CKPT_TRY(ckpt_pth_prefix(prefix, sizeof prefix, name, err));
  uint64_t size = 0;
  CKPT_TRY(ckpt_pth_measure(&size, pickle, prefix, err));
  CKPT_TRY(ckpt_output_begin(&o, dir, size, err));
  ckpt_status st = write_output(o, pickle, prefix, name, err);
  if (st != CKPT_OK) {
    ckpt_output_abandon(o);
    return st;
  }
  CKPT_TRY(ckpt_output_commit(o, name, err));
  if (bytes != NULL) *bytes = size;
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

ckpt_status ckpt_save_file(const char *path, const ckpt_value *root, ckpt_error *err) {
  const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
  size_t n = slash == NULL ? 1 : slash == path ? 1 : (size_t)(slash - path);
  char *parent = malloc(n + 1);
  if (parent == NULL) return ckpt_fail_nomem(err, n + 1);
  memcpy(parent, slash == NULL ? "." : path, n);
  parent[n] = '\0';
  ckpt_dir *dir = NULL;
  ckpt_status st = ckpt_dir_open(&dir, parent, false, false, NULL, err);
  if (st == CKPT_OK) st = ckpt_checkpoint_publish(dir, name, root, NULL, err);
  ckpt_dir_close(dir);
  free(parent);
  return st;
}
