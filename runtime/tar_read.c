/* tar_read.c - see tar_read.h. */
#include "tar_read.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>

typedef struct reader {
  struct archive *archive;
  const ckpt_mapping *map;
} reader;

/* Where libarchive looks for a header that the file is too short for, its position is no place of the file. */
static int64_t position(const reader *r) {
  int64_t at = archive_read_header_position(r->archive), end = (int64_t)ckpt_mapping_size(r->map);
  return at >= 0 && at <= end ? at : end;
}

static ckpt_status broken(const reader *r, ckpt_error *err) {
  int64_t at = position(r);
  const char *text = archive_error_string(r->archive);
  if (archive_errno(r->archive) == ENOMEM) return ckpt_fail_nomem(err, 0);
  return ckpt_fail(err, CKPT_E_CORRUPT, at, "the tar archive is broken at byte %lld: %s", (long long)at,
                   text == NULL ? "libarchive does not say why" : text);
}

static ckpt_status unusable(const reader *r, const char *name, const char *what, ckpt_error *err) {
  int64_t at = position(r);
  return ckpt_fail(err, CKPT_E_CORRUPT, at, "byte %lld: tar member '%s' %s", (long long)at, name, what);
}

/* libarchive hands out the mapping's own bytes; sparse or otherwise scattered ones would have gaps. */
static ckpt_status find_bytes(ckpt_tar_member *m, const reader *r, uint64_t size, ckpt_error *err) {
  const void *block = NULL;
  size_t n = 0;
  la_int64_t offset = 0;
  const unsigned char *data = ckpt_mapping_data(r->map), *start = NULL;
  uint64_t have = 0;
  for (int st; (st = archive_read_data_block(r->archive, &block, &n, &offset)) != ARCHIVE_EOF; have += n) {
    if (st != ARCHIVE_OK && st != ARCHIVE_WARN) return broken(r, err);
    if (have == 0) start = block;
    if (n > 0 && ((uint64_t)offset != have || (const unsigned char *)block != start + have))
      return unusable(r, m->name, "does not lie in one piece", err);
  }
  uint64_t at = start == NULL ? 0 : (uint64_t)((uintptr_t)start - (uintptr_t)data);
  if (have != size || at > ckpt_mapping_size(r->map) || have > ckpt_mapping_size(r->map) - at)
    return unusable(r, m->name, "does not lie whole in the file", err);
  m->offset = at;
  m->size = size;
  m->found = true;
  return CKPT_OK;
}

static ckpt_status take_entry(ckpt_tar_member *m, const reader *r, struct archive_entry *e, ckpt_error *err) {
  bool regular = archive_entry_filetype(e) == AE_IFREG && archive_entry_hardlink(e) == NULL;
  if (!regular) return unusable(r, m->name, "is no regular file", err);
  if (m->found) return unusable(r, m->name, "is there twice", err);
  return find_bytes(m, r, (uint64_t)archive_entry_size(e), err);
}

static ckpt_status next_entry(bool *more, ckpt_tar_member *members, size_t n, const reader *r, ckpt_error *err) {
  struct archive_entry *e = NULL;
  int st = archive_read_next_header(r->archive, &e);
  *more = st != ARCHIVE_EOF;
  if (!*more) return CKPT_OK;
  if (st != ARCHIVE_OK && st != ARCHIVE_WARN) return broken(r, err);
  const char *name = archive_entry_pathname(e);
  for (size_t i = 0; name != NULL && i < n; i++)
    if (strcmp(name, members[i].name) == 0) return take_entry(&members[i], r, e, err);
  return CKPT_OK;
}

static ckpt_status read_all(ckpt_tar_member *members, size_t n, const reader *r, ckpt_error *err) {
  const unsigned char *data = ckpt_mapping_data(r->map);
  if (archive_read_support_format_tar(r->archive) != ARCHIVE_OK ||
      archive_read_open_memory(r->archive, data, ckpt_mapping_size(r->map)) != ARCHIVE_OK)
    return broken(r, err);
  for (bool more = true; more;) CKPT_TRY(next_entry(&more, members, n, r, err));
  return CKPT_OK;
}

ckpt_status ckpt_tar_find(ckpt_tar_member *members, size_t n, const ckpt_mapping *map, ckpt_error *err) {
  reader r = {archive_read_new(), map};
  if (r.archive == NULL) return ckpt_fail_nomem(err, 0);
  ckpt_status st = read_all(members, n, &r, err);
  archive_read_free(r.archive);
  return st;
}
