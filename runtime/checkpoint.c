/* checkpoint.c - one door for every format, found by content when reading. Writing is save.c's. */
#include "checkpoint.h"

#include <stdlib.h>

#include "check.h"
#include "dcp.h"
#include "pth.h"
#include "safetensors.h"
#include "shards.h"

struct ckpt_checkpoint {
  ckpt_mapping *map;
  ckpt_zip *zip;
  ckpt_dcp *dcp; /* a directory of torch.distributed.checkpoint, in place of map and zip */
  ckpt_document *doc;
  ckpt_value *metadata; /* of the document; NULL: none */
  const char *format;
  ckpt_shards shards; /* of a set: cp->map is its index then */
};

/* ---- open ---- */

typedef ckpt_status (*reader)(ckpt_checkpoint *cp, ckpt_error *err);

static ckpt_status read_zip(ckpt_checkpoint *cp, ckpt_error *err) {
  CKPT_TRY(ckpt_zip_open(&cp->zip, cp->map, 0, ckpt_mapping_size(cp->map), err));
  return ckpt_pth_read(&cp->doc, &cp->format, cp->zip, err);
}

static ckpt_status read_safetensors(ckpt_checkpoint *cp, ckpt_error *err) {
  cp->format = "safetensors";
  return ckpt_safetensors_read(&cp->doc, &cp->metadata, cp->map, err);
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

static bool is_legacy(const ckpt_mapping *map) {
  return starts(map, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e", 15);
}

static bool is_tar(const ckpt_mapping *map) {
  return ckpt_mapping_size(map) >= 262 && memcmp(ckpt_mapping_data(map) + 257, "ustar", 5) == 0;
}

static bool is_pickle(const ckpt_mapping *map) {
  return ckpt_mapping_size(map) >= 2 && ckpt_mapping_data(map)[0] == 0x80 && ckpt_mapping_data(map)[1] <= 5;
}

static const format formats[] = {
    {is_zip, read_zip, "a PyTorch zip file"},
    {is_tar, NULL, "a PyTorch 0.1 tar file"},
    {is_legacy, NULL, "a PyTorch legacy file (before 1.6)"},
    {ckpt_safetensors_is, read_safetensors, "a safetensors file"},
    {is_pickle, NULL, "a bare pickle"},
};

static ckpt_status read_any(ckpt_checkpoint *cp, ckpt_error *err) {
  if (ckpt_mapping_size(cp->map) == 0) return ckpt_fail(err, CKPT_E_FORMAT, 0, "the file is empty");
  for (size_t i = 0; i < CKPT_COUNTOF(formats); i++) {
    if (!formats[i].is(cp->map)) continue;
    if (formats[i].read != NULL) return formats[i].read(cp, err);
    return ckpt_fail(err, CKPT_E_UNSUPPORTED, 0, "%s: this version of ckpt does not read it", formats[i].name);
  }
  const unsigned char *b = ckpt_mapping_data(cp->map);
  return ckpt_fail(err, CKPT_E_FORMAT, 0,
                   "not a checkpoint: it begins with the bytes %02x %02x, which is no known format", b[0],
                   ckpt_mapping_size(cp->map) > 1 ? b[1] : 0);
}

static ckpt_status open_mapping(ckpt_checkpoint *cp, const ckpt_open_options *options, ckpt_error *err) {
  CKPT_TRY(read_any(cp, err));
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

static ckpt_status read_dcp(ckpt_checkpoint *cp, const char *dir, const ckpt_open_options *options, ckpt_error *err) {
  CKPT_TRY(ckpt_dcp_open(&cp->dcp, dir, err));
  cp->doc = ckpt_document_retain(ckpt_dcp_document(cp->dcp));
  cp->format = "torch-dcp";
  return options != NULL && options->verify ? ckpt_checkpoint_verify(cp, err) : CKPT_OK;
}

static ckpt_status open_dcp(ckpt_checkpoint **out, const char *dir, const char *path, const ckpt_open_options *options,
                            ckpt_error *err) {
  ckpt_checkpoint *cp = calloc(1, sizeof *cp);
  if (cp == NULL) return ckpt_fail_nomem(err, sizeof *cp);
  ckpt_status st = read_dcp(cp, dir, options, err);
  if (st != CKPT_OK) {
    ckpt_checkpoint_close(cp);
    return ckpt_fail_in(err, st, path);
  }
  *out = cp;
  return CKPT_OK;
}

static ckpt_status read_set(ckpt_checkpoint *cp, const char *path, ckpt_error *err) {
  cp->format = "sharded";
  return ckpt_shards_read(&cp->shards, &cp->doc, &cp->metadata, cp->map, path, err);
}

static ckpt_status open_set(ckpt_checkpoint **out, ckpt_mapping *map, const char *path,
                            const ckpt_open_options *options, ckpt_error *err) {
  ckpt_checkpoint *cp = calloc(1, sizeof *cp);
  if (cp == NULL) return ckpt_fail_nomem(err, sizeof *cp);
  cp->map = ckpt_mapping_retain(map);
  ckpt_status st = read_set(cp, path, err);
  if (st == CKPT_OK && options != NULL && options->verify) st = ckpt_checkpoint_verify(cp, err);
  if (st != CKPT_OK) {
    ckpt_checkpoint_close(cp);
    return ckpt_fail_in(err, st, path);
  }
  *out = cp;
  return CKPT_OK;
}

static ckpt_status open_file(ckpt_checkpoint **out, const char *path, const ckpt_open_options *options,
                             ckpt_error *err) {
  ckpt_mapping *map = NULL;
  CKPT_TRY(ckpt_mapping_open(&map, path, err));
  bool set = ckpt_shard_index_is(map);
  ckpt_status st =
      set ? open_set(out, map, path, options, err) : ckpt_checkpoint_open_mapping(out, map, path, options, err);
  ckpt_mapping_release(map);
  return st;
}

ckpt_status ckpt_checkpoint_open(ckpt_checkpoint **out, const char *path, const ckpt_open_options *options,
                                 ckpt_error *err) {
  char *dir = NULL, *index = NULL;
  CKPT_TRY(ckpt_dcp_find(&dir, path, err));
  if (dir != NULL) {
    ckpt_status opened = open_dcp(out, dir, path, options, err);
    free(dir);
    return opened;
  }
  CKPT_TRY(ckpt_shards_find(&index, path, err));
  ckpt_status st = open_file(out, index == NULL ? path : index, options, err);
  free(index);
  return st;
}

void ckpt_checkpoint_close(ckpt_checkpoint *cp) {
  if (cp == NULL) return;
  ckpt_document_release(cp->doc);
  ckpt_shards_close(&cp->shards);
  ckpt_zip_release(cp->zip);
  ckpt_mapping_release(cp->map);
  ckpt_dcp_close(cp->dcp);
  free(cp);
}

const char *ckpt_checkpoint_format(const ckpt_checkpoint *cp) { return cp->format; }
uint64_t ckpt_checkpoint_bytes(const ckpt_checkpoint *cp) {
  if (cp->dcp != NULL) return ckpt_dcp_bytes(cp->dcp);
  return ckpt_mapping_size(cp->map) + ckpt_shards_bytes(&cp->shards);
}
ckpt_document *ckpt_checkpoint_document(const ckpt_checkpoint *cp) { return cp->doc; }
ckpt_value *ckpt_checkpoint_root(const ckpt_checkpoint *cp) { return ckpt_document_root(cp->doc); }
ckpt_value *ckpt_checkpoint_metadata(const ckpt_checkpoint *cp) { return cp->metadata; }

ckpt_status ckpt_checkpoint_check_contents(const ckpt_checkpoint *cp, ckpt_error *err) {
  return ckpt_value_check(ckpt_document_root(cp->doc), err);
}

ckpt_status ckpt_checkpoint_verify(const ckpt_checkpoint *cp, ckpt_error *err) {
  if (cp->dcp != NULL) CKPT_TRY(ckpt_dcp_verify(cp->dcp, err));
  for (size_t i = 0; cp->zip != NULL && i < ckpt_zip_count(cp->zip); i++) CKPT_TRY(ckpt_zip_check(cp->zip, i, err));
  CKPT_TRY(ckpt_shards_verify(&cp->shards, err));
  return ckpt_checkpoint_check_contents(cp, err);
}

size_t ckpt_checkpoint_record_count(const ckpt_checkpoint *cp) { return cp->zip == NULL ? 0 : ckpt_zip_count(cp->zip); }

ckpt_record ckpt_checkpoint_record(const ckpt_checkpoint *cp, size_t i) {
  const ckpt_zip_entry *e = ckpt_zip_entry_at(cp->zip, i);
  return (ckpt_record){e->name, e->size, e->crc};
}

ckpt_status ckpt_checkpoint_check_record(const ckpt_checkpoint *cp, size_t i, ckpt_error *err) {
  return ckpt_zip_check(cp->zip, i, err);
}
