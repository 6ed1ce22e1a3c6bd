/*
 * zip_strict.c - see zip_strict.h.
 *
 * Invariant: nothing here believes that ckpt_zip_open has looked at anything; every length is compared with the bytes
 * that are there. Positions (`at`) count from the archive's first byte, those in messages from the file's.
 */
#include "zip_strict.h"

#include <stdlib.h>

#include "pickle_text.h"

enum { END_SIZE = 22, END64_SIZE = 56, LOCATOR_SIZE = 20, CENTRAL_SIZE = 46, LOCAL_SIZE = 30 };
enum { FLAG_DESCRIPTOR = 0x0008, FLAG_UTF8 = 0x0800 };
enum { EXTRA_ZIP64 = 0x0001, EXTRA_UNICODE_NAME = 0x7075, EXTRA_UNICODE_COMMENT = 0x6375 };
#define FULL32 0xffffffffu

typedef struct extent {
  uint64_t begin, end; /* of header, bytes and descriptor; `end` without one where there may be one */
  size_t entry;        /* where its directory entry is */
} extent;

typedef struct layout {
  const ckpt_mapping *map;
  const unsigned char *base;
  size_t size, start; /* start: of the archive in the file */
  uint64_t directory, directory_size, n;
  extent *extents;
} layout;

/* One side of a record: what a header and its extra field say. */
typedef struct header {
  uint16_t flags, method;
  uint32_t time, crc;
  uint64_t packed, size, offset;
  const unsigned char *name;
  size_t name_n;
} header;

static ckpt_status fail(const layout *p, uint64_t at, const char *what, ckpt_error *err) {
  return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)(p->start + at),
                   "the zip archive can be read in more than one way: at byte %llu, %s",
                   (unsigned long long)(p->start + at), what);
}

static ckpt_status fail_record(const layout *p, uint64_t at, const header *h, const char *what, ckpt_error *err) {
  int n = (int)(h->name_n < 200 ? h->name_n : 200);
  return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)(p->start + at),
                   "record '%.*s' (byte %llu) can be read in more than one way: %s", n, (const char *)h->name,
                   (unsigned long long)(p->start + at), what);
}

static bool signed_as(const layout *p, uint64_t at, size_t length, const char *signature) {
  return at <= p->size && length <= p->size - at && memcmp(p->base + at, signature, 4) == 0;
}

/* ---- the end ---- */

/* A 32-bit field beside its 64-bit one: the same, or full because that does not fit (or, as some do, always). */
static bool agrees(uint64_t narrow, uint64_t full, uint64_t wide) { return narrow == wide || narrow == full; }

static ckpt_status read_end64(layout *p, size_t end, ckpt_error *err) {
  size_t locator = end - LOCATOR_SIZE;
  if (locator < END64_SIZE || !signed_as(p, locator - END64_SIZE, END64_SIZE, "PK\6\6") ||
      ckpt_le64(p->base + locator + 8) != locator - END64_SIZE)
    return fail(p, locator, "a zip64 locator that does not point to the record before it", err);
  const unsigned char *e = p->base + locator - END64_SIZE, *e32 = p->base + end;
  bool whole = ckpt_le64(e + 4) == END64_SIZE - 12 && ckpt_le32(e + 16) == 0 && ckpt_le32(e + 20) == 0;
  whole = whole && ckpt_le32(p->base + locator + 4) == 0 && ckpt_le32(p->base + locator + 16) == 1;
  if (!whole) return fail(p, locator - END64_SIZE, "a zip64 end record of another size, or of several disks", err);
  p->n = ckpt_le64(e + 32);
  p->directory_size = ckpt_le64(e + 40);
  p->directory = ckpt_le64(e + 48);
  bool same = ckpt_le64(e + 24) == p->n && agrees(ckpt_le16(e32 + 8), 0xffff, p->n) &&
              agrees(ckpt_le16(e32 + 10), 0xffff, p->n) && agrees(ckpt_le32(e32 + 12), FULL32, p->directory_size) &&
              agrees(ckpt_le32(e32 + 16), FULL32, p->directory);
  return same ? CKPT_OK : fail(p, end, "the two end records do not say the same", err);
}

/* The directory must fill what lies between its offset and the end records. */
static ckpt_status read_end(layout *p, ckpt_error *err) {
  size_t end = p->size - END_SIZE;
  if (p->size < END_SIZE || !signed_as(p, end, END_SIZE, "PK\5\6") || ckpt_le16(p->base + end + 20) != 0)
    return fail(p, p->size, "the file ends with other bytes than its end record", err);
  const unsigned char *e = p->base + end;
  p->n = ckpt_le16(e + 10);
  p->directory_size = ckpt_le32(e + 12);
  p->directory = ckpt_le32(e + 16);
  if (ckpt_le32(e + 4) != 0 || ckpt_le16(e + 8) != ckpt_le16(e + 10))
    return fail(p, end, "the end record speaks of several disks", err);
  bool wide = end >= LOCATOR_SIZE && signed_as(p, end - LOCATOR_SIZE, LOCATOR_SIZE, "PK\6\7");
  if (wide) CKPT_TRY(read_end64(p, end, err));
  size_t behind = wide ? end - LOCATOR_SIZE - END64_SIZE : end;
  if (p->directory > behind || p->directory_size != behind - p->directory)
    return fail(p, end, "the directory does not fill the bytes up to the end records", err);
  return p->n <= p->directory_size / CENTRAL_SIZE ? CKPT_OK : fail(p, end, "more entries than the directory has", err);
}

/* ---- one header ---- */

/* Puts the next 8 bytes of a zip64 field where the header's own 32 bits are full. */
static bool widen(uint64_t *value, const unsigned char **at, size_t *left) {
  if (*value != FULL32) return true;
  if (*left < 8) return false;
  *value = ckpt_le64(*at);
  *at += 8;
  *left -= 8;
  return true;
}

/* What is left over in a central zip64 field could be taken for something; in a local one PyTorch leaves the offset. */
static bool take_zip64(header *h, const unsigned char *at, size_t n, bool local) {
  return widen(&h->size, &at, &n) && widen(&h->packed, &at, &n) && widen(&h->offset, &at, &n) && (local || n == 0);
}

/* The fields must fill the extra bytes. NULL, or what is wrong. */
static const char *read_extra(header *h, const unsigned char *at, size_t left, bool local) {
  bool zip64 = false;
  while (left > 0) {
    if (left < 4 || ckpt_le16(at + 2) > left - 4) return "its extra field is cut off";
    size_t id = ckpt_le16(at), n = ckpt_le16(at + 2);
    if (id == EXTRA_UNICODE_NAME || id == EXTRA_UNICODE_COMMENT) return "its extra field gives it another name";
    if (id == EXTRA_ZIP64 && (zip64 || !take_zip64(h, at + 4, n, local))) return "its zip64 field has another length";
    zip64 |= id == EXTRA_ZIP64;
    at += 4 + n;
    left -= 4 + n;
  }
  bool full = h->size == FULL32 || h->packed == FULL32 || h->offset == FULL32;
  return full && !zip64 ? "its zip64 field is missing" : NULL;
}

/* The 22 bytes that both headers have, from the flags to the length of the name. */
static void read_common(header *h, const unsigned char *b) {
  *h = (header){.flags = ckpt_le16(b), .method = ckpt_le16(b + 2), .time = ckpt_le32(b + 4), .crc = ckpt_le32(b + 8)};
  h->packed = ckpt_le32(b + 12);
  h->size = ckpt_le32(b + 16);
  h->name_n = ckpt_le16(b + 20);
}

/* A name that every reader and every file system takes for the same file below the archive's folder. */
static const char *name_fault(const header *h) {
  const unsigned char *s = h->name, *end = s + h->name_n;
  bool ascii = true;
  for (const unsigned char *c = s; c < end; c++) {
    ascii &= *c < 0x80;
    if (*c < 0x20 || *c == 0x7f || *c == '\\' || *c == ':') return "its name holds a character that no plain name has";
  }
  if (h->name_n == 0 || s[0] == '/') return "its name is empty or absolute";
  if (!ascii && ((h->flags & FLAG_UTF8) == 0 || !ckpt_utf8_valid(s, h->name_n)))
    return "its name is not marked as UTF-8, or is none";
  while (s < end) {
    const unsigned char *slash = memchr(s, '/', (size_t)(end - s)), *stop = slash == NULL ? end : slash;
    size_t n = (size_t)(stop - s);
    if (n == 0 || (n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.'))
      return "its name has an empty part, or leads elsewhere by '.' or '..'";
    s = slash == NULL ? end : slash + 1;
  }
  return NULL;
}

/* ---- the two headers of a record ---- */

/* All but the name, of which check_gap needs nothing. */
static ckpt_status read_entry(header *h, size_t *length, const layout *p, uint64_t at, ckpt_error *err) {
  uint64_t behind = p->directory + p->directory_size;
  if (behind - at < CENTRAL_SIZE || !signed_as(p, at, CENTRAL_SIZE, "PK\1\2"))
    return fail(p, at, "an entry of the directory is missing or cut off", err);
  const unsigned char *b = p->base + at;
  read_common(h, b + 8);
  size_t extra = ckpt_le16(b + 30);
  *length = CENTRAL_SIZE + h->name_n + extra;
  h->offset = ckpt_le32(b + 42);
  h->name = b + CENTRAL_SIZE;
  if (behind - at < *length) return fail(p, at, "an entry of the directory is cut off", err);
  if (ckpt_le16(b + 32) != 0) return fail_record(p, at, h, "it has a comment", err);
  if (ckpt_le16(b + 34) != 0) return fail_record(p, at, h, "it lies on another disk", err);
  const char *fault = read_extra(h, h->name + h->name_n, extra, false);
  return fault == NULL ? CKPT_OK : fail_record(p, at, h, fault, err);
}

static ckpt_status read_central(header *h, size_t *length, const layout *p, uint64_t at, ckpt_error *err) {
  CKPT_TRY(read_entry(h, length, p, at, err));
  const char *fault = name_fault(h);
  return fault == NULL ? CKPT_OK : fail_record(p, at, h, fault, err);
}

static ckpt_status read_local(header *h, uint64_t *data, const layout *p, const header *c, ckpt_error *err) {
  uint64_t at = c->offset;
  if (at > p->directory || p->directory - at < LOCAL_SIZE || !signed_as(p, at, LOCAL_SIZE, "PK\3\4"))
    return fail_record(p, at, c, "the directory points to where no record begins", err);
  const unsigned char *b = p->base + at;
  read_common(h, b + 6);
  h->name = b + LOCAL_SIZE;
  size_t extra = ckpt_le16(b + 28);
  *data = at + LOCAL_SIZE + h->name_n + extra;
  if (*data > p->directory || c->packed > p->directory - *data)
    return fail_record(p, at, c, "it reaches into the directory", err);
  const char *fault = read_extra(h, h->name + h->name_n, extra, true);
  return fault == NULL ? CKPT_OK : fail_record(p, at, c, fault, err);
}

/* With a descriptor to follow, a header may leave these at 0. */
static bool same_or_later(const header *local, uint64_t said, uint64_t meant) {
  return said == meant || (said == 0 && (local->flags & FLAG_DESCRIPTOR) != 0);
}

static const char *compare(const header *l, const header *c) {
  if (l->name_n != c->name_n || memcmp(l->name, c->name, c->name_n) != 0) return "its header has another name";
  if (l->flags != c->flags || l->method != c->method || l->time != c->time)
    return "its header has another method, time or flag than the directory";
  bool same =
      same_or_later(l, l->crc, c->crc) && same_or_later(l, l->packed, c->packed) && same_or_later(l, l->size, c->size);
  return same ? NULL : "its header has another size or CRC-32 than the directory";
}

/* What follows the bytes: nothing, or a descriptor in one of the four forms that are in use. */
static bool is_descriptor(const unsigned char *b, uint64_t n, const header *c) {
  if (n == 16 || n == 24) {
    if (memcmp(b, "PK\7\10", 4) != 0) return false;
    b += 4;
    n -= 4;
  }
  if (n != 12 && n != 20) return false;
  bool wide = n == 20;
  return ckpt_le32(b) == c->crc && (wide ? ckpt_le64(b + 4) : ckpt_le32(b + 4)) == c->packed &&
         (wide ? ckpt_le64(b + 12) : ckpt_le32(b + 8)) == c->size;
}

/* ---- all records ---- */

enum { WINDOW = 2 << 20 }; /* what one page fault may bring */

/* Headers lie as far apart as the records are long: what was passed is let go, or a look at each would hold the file.
 */
static void pass(const layout *p, uint64_t *passed, uint64_t at) {
  if (at < *passed || at - *passed < WINDOW) return;
  ckpt_mapping_forget(p->map, p->base + *passed, (size_t)(at - *passed));
  *passed = at;
}

static int by_place(const void *pa, const void *pb) {
  const extent *a = pa, *b = pb;
  return a->begin < b->begin ? -1 : a->begin > b->begin;
}

static ckpt_status read_records(layout *p, ckpt_error *err) {
  uint64_t at = p->directory, last = 0, passed = 0;
  bool sorted = true;
  for (size_t i = 0; i < p->n; i++) {
    header central = {0}, local = {0};
    size_t length = 0;
    uint64_t data = 0;
    CKPT_TRY(read_central(&central, &length, p, at, err));
    CKPT_TRY(read_local(&local, &data, p, &central, err));
    const char *fault = compare(&local, &central);
    if (fault != NULL) return fail_record(p, central.offset, &central, fault, err);
    p->extents[i] = (extent){central.offset, data + central.packed, (size_t)at};
    sorted &= central.offset >= last;
    last = central.offset;
    at += length;
    pass(p, &passed, last);
  }
  if (at != p->directory + p->directory_size) return fail(p, at, "bytes of the directory that are no entry of it", err);
  if (!sorted) qsort(p->extents, (size_t)p->n, sizeof *p->extents, by_place);
  return CKPT_OK;
}

/* From the end of a record's bytes to the next record, or the directory. */
static ckpt_status check_gap(const layout *p, const extent *e, uint64_t next, ckpt_error *err) {
  header c = {0};
  size_t length = 0;
  CKPT_TRY(read_entry(&c, &length, p, e->entry, err));
  if (next < e->end) return fail_record(p, e->end, &c, "the next record begins inside it", err);
  uint64_t n = next - e->end;
  if ((c.flags & FLAG_DESCRIPTOR) == 0)
    return n == 0 ? CKPT_OK : fail_record(p, e->end, &c, "bytes follow it that no entry speaks of", err);
  if (is_descriptor(p->base + e->end, n, &c)) return CKPT_OK;
  return fail_record(p, e->end, &c, "what follows it is not the descriptor that its flags announce", err);
}

static ckpt_status check_all(layout *p, ckpt_error *err) {
  CKPT_TRY(read_records(p, err));
  if (p->n > 0 && p->extents[0].begin != 0) return fail(p, 0, "bytes before the first record", err);
  uint64_t passed = 0;
  for (size_t i = 0; i < p->n; i++) {
    CKPT_TRY(check_gap(p, &p->extents[i], i + 1 < p->n ? p->extents[i + 1].begin : p->directory, err));
    pass(p, &passed, p->extents[i].begin);
  }
  pass(p, &passed, p->directory);
  return p->n > 0 || p->directory == 0 ? CKPT_OK : fail(p, 0, "bytes that no entry speaks of", err);
}

ckpt_status ckpt_zip_check_strict(const ckpt_mapping *map, size_t offset, size_t size, ckpt_error *err) {
  layout p = {.map = map, .base = ckpt_mapping_data(map) + offset, .size = size, .start = offset};
  if (ckpt_mapping_trust(map)->lenient) return CKPT_OK;
  CKPT_TRY(read_end(&p, err));
  p.extents = calloc((size_t)p.n + 1, sizeof *p.extents);
  if (p.extents == NULL) return ckpt_fail_nomem(err, ((size_t)p.n + 1) * sizeof *p.extents);
  ckpt_status st = check_all(&p, err);
  free(p.extents);
  return st;
}
