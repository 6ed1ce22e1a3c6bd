/*
 * zip_plain.c - see zip_plain.h. The layout that is plain (numbers little-endian):
 *
 *   local header    PK 3 4 | needed 2 | flags 2 | method 2 | time 2 | date 2 | crc 4 | packed 4 | size 4 | name 2 |
 * extra 2
 *   ...             name, extra, bytes; crc and sizes 0 with flag 3, for then they follow the bytes
 *   directory       PK 1 2 | made 2 | the same from `needed` on | comment 2 | disk 2 | attributes 2, 4 | offset 4 |
 * name [1 0 | n 2 | those of size, packed, offset that are 0xFFFFFFFF, 8 each] [PK 6 6 | 44, 8 | made 2 | needed 2 |
 * disks 4, 4 | entries 8, 8 | size 8 | offset 8, then PK 6 7 | 0 | its offset 8 | 1] PK 5 6 | disks 2, 2 | entries 2, 2
 * | size 4 | offset 4 | comment 0
 *
 * The directory ends where the end records begin, and the end record is the last 22 bytes.
 */
#include "zip_plain.h"

#include <stdlib.h>

enum { END_SIZE = 22, END64_SIZE = 56, LOCATOR_SIZE = 20, CENTRAL_SIZE = 46, LOCAL_SIZE = 30 };
enum { MAX_ENTRIES = 1 << 24, MAX_COMMENT = 65535, DOS_DIRECTORY = 0x10 };
enum { FLAG_DESCRIPTOR = 0x0008, FLAG_UTF8 = 0x0800 };

typedef struct archive {
  const unsigned char *base;
  size_t size, directory, end; /* end: of the directory */
  uint64_t n;
} archive;

static bool is(const unsigned char *p, const char *signature) { return memcmp(p, signature, 4) == 0; }
static bool short32(uint32_t low, uint64_t v) { return low == UINT32_MAX || low == v; }

/* ---- end records ---- */

/* Another end record among the last bytes, even if it is only payload that looks like one, is for libzip to weigh. */
static bool is_only_end(const archive *a) {
  size_t low = a->size > END_SIZE + MAX_COMMENT ? a->size - END_SIZE - MAX_COMMENT : 0;
  const void *first = memmem(a->base + low, a->size - low, "PK\5\6", 4);
  return first == a->base + a->size - END_SIZE;
}

static bool read_end64(archive *a, const unsigned char *end) {
  const unsigned char *locator = end - LOCATOR_SIZE, *e = locator - END64_SIZE;
  size_t at = (size_t)(e - a->base);
  uint64_t size = ckpt_le64(e + 40), offset = ckpt_le64(e + 48);
  if (!is(e, "PK\6\6") || ckpt_le64(locator + 8) != at || ckpt_le32(locator + 4) != 0 || ckpt_le32(locator + 16) != 1)
    return false;
  a->n = ckpt_le64(e + 24);
  if (ckpt_le64(e + 4) != 44 || ckpt_le64(e + 16) != 0 || a->n != ckpt_le64(e + 32)) return false;
  if (offset > at || size != at - offset) return false;
  a->directory = (size_t)offset;
  a->end = at;
  uint16_t count = ckpt_le16(end + 10);
  return (count == UINT16_MAX || count == a->n) && short32(ckpt_le32(end + 12), size) &&
         short32(ckpt_le32(end + 16), offset);
}

static bool read_end32(archive *a, const unsigned char *end) {
  a->n = ckpt_le16(end + 10);
  a->directory = ckpt_le32(end + 16);
  a->end = (size_t)(end - a->base);
  return a->n < UINT16_MAX && a->directory <= a->end && ckpt_le32(end + 12) == a->end - a->directory;
}

static bool read_end(archive *a) {
  if (a->size < END_SIZE) return false;
  const unsigned char *end = a->base + a->size - END_SIZE;
  if (!is(end, "PK\5\6") || ckpt_le32(end + 4) != 0 || ckpt_le16(end + 20) != 0 || !is_only_end(a)) return false;
  if (ckpt_le16(end + 8) != ckpt_le16(end + 10)) return false;
  bool zip64 = a->size >= END_SIZE + LOCATOR_SIZE + END64_SIZE && is(end - LOCATOR_SIZE, "PK\6\7");
  if (zip64 ? !read_end64(a, end) : !read_end32(a, end)) return false;
  return a->n > 0 && a->n <= MAX_ENTRIES && a->n <= (a->end - a->directory) / CENTRAL_SIZE;
}

/* ---- entries ---- */

/* Printable ASCII, and no folder: of anything else libzip knows more. */
static bool is_plain_name(const unsigned char *name, size_t n) {
  bool plain = n > 0 && name[n - 1] != '/';
  for (size_t i = 0; i < n; i++) plain &= name[i] >= 0x20 && name[i] < 0x7f;
  return plain;
}

/* Sizes and offset, from the zip64 extra where they do not fit; it holds those and nothing else. */
static bool read_numbers(ckpt_zip_place *e, const unsigned char *p, size_t name_n, size_t extra_n) {
  uint64_t *const numbers[] = {&e->info.size, &e->info.packed, &(uint64_t){0}};
  const size_t places[] = {24, 20, 42};
  const unsigned char *extra = p + CENTRAL_SIZE + name_n;
  size_t used = 0;
  for (int i = 0; i < 3; i++) {
    *numbers[i] = ckpt_le32(p + places[i]);
    if (*numbers[i] != UINT32_MAX) continue;
    used += 8;
    if (extra_n < 4 + used) return false;
    *numbers[i] = ckpt_le64(extra + 4 + used - 8);
  }
  e->header = (size_t)*numbers[2];
  if (used == 0) return extra_n == 0;
  return extra_n == 4 + used && ckpt_le16(extra) == 1 && ckpt_le16(extra + 2) == used;
}

static bool is_plain_extra(const unsigned char *p, size_t n) {
  while (n >= 4) {
    size_t field = (size_t)4 + ckpt_le16(p + 2);
    if (field > n) return false;
    p += field;
    n -= field;
  }
  return n == 0;
}

/* The local header says what the directory says, and the bytes lie before the directory. */
static bool read_local(ckpt_zip_place *e, const archive *a, const unsigned char *central, size_t name_n) {
  if (e->header >= a->directory || a->directory - e->header < LOCAL_SIZE + name_n) return false;
  const unsigned char *p = a->base + e->header;
  bool later = (ckpt_le16(p + 6) & FLAG_DESCRIPTOR) != 0;
  static const unsigned char zeros[12];
  if (!is(p, "PK\3\4") || memcmp(p + 4, central + 6, 10) != 0) return false;
  if (memcmp(p + 14, central + 16, 12) != 0 && !(later && memcmp(p + 14, zeros, 12) == 0)) return false;
  size_t extra_n = ckpt_le16(p + 28), head = LOCAL_SIZE + name_n + extra_n;
  if (ckpt_le16(p + 26) != name_n || memcmp(p + LOCAL_SIZE, central + CENTRAL_SIZE, name_n) != 0) return false;
  if (a->directory - e->header < head || !is_plain_extra(p + LOCAL_SIZE + name_n, extra_n)) return false;
  e->data = e->header + head;
  return e->info.packed <= a->directory - e->data;
}

/* The entry at *at, which moves on. */
static bool read_entry(ckpt_zip_place *e, size_t *at, const archive *a) {
  const unsigned char *p = a->base + *at;
  if (a->end - *at < CENTRAL_SIZE || !is(p, "PK\1\2")) return false;
  size_t name_n = ckpt_le16(p + 28), extra_n = ckpt_le16(p + 30), whole = CENTRAL_SIZE + name_n + extra_n;
  bool plain = (ckpt_le16(p + 8) & ~(FLAG_DESCRIPTOR | FLAG_UTF8)) == 0 && ckpt_le16(p + 10) == 0 &&
               ckpt_le32(p + 32) == 0 && (ckpt_le32(p + 38) & DOS_DIRECTORY) == 0; /* comment and disk */
  if (!plain || whole > a->end - *at || !is_plain_name(p + CENTRAL_SIZE, name_n)) return false;
  *at += whole;
  e->info.crc = ckpt_le32(p + 16);
  e->info.stored = true;
  if (!read_numbers(e, p, name_n, extra_n) || e->info.size != e->info.packed) return false;
  return read_local(e, a, p, name_n);
}

/* ---- all ---- */

/* Names are shorter than the directory, each by more than the NUL that it gets. */
static void copy_name(ckpt_zip_place *e, char **text, const unsigned char *central) {
  size_t n = ckpt_le16(central + 28);
  memcpy(*text, central + CENTRAL_SIZE, n);
  (*text)[n] = '\0';
  e->info.name = *text;
  *text += n + 1;
}

static bool read_all(ckpt_zip_directory *d, const archive *a) {
  size_t at = a->directory;
  char *text = d->names;
  for (size_t i = 0; i < d->n; i++) {
    const unsigned char *central = a->base + at;
    ckpt_zip_place *e = &d->entries[i];
    if (!read_entry(e, &at, a)) return false;
    copy_name(e, &text, central);
    if (e->info.packed == 0) e->header = e->data = 0;
  }
  return at == a->end;
}

ckpt_status ckpt_zip_plain(ckpt_zip_directory *out, bool *plain, const unsigned char *base, size_t size,
                           ckpt_error *err) {
  archive a = {.base = base, .size = size};
  *plain = false;
  if (!read_end(&a)) return CKPT_OK;
  ckpt_zip_directory d = {malloc((size_t)a.n * sizeof *d.entries), (size_t)a.n, a.directory,
                          malloc(a.end - a.directory)};
  bool room = d.entries != NULL && d.names != NULL;
  *plain = room && read_all(&d, &a);
  if (*plain) {
    *out = d;
    return CKPT_OK;
  }
  free(d.entries);
  free(d.names);
  return room ? CKPT_OK : ckpt_fail_nomem(err, (size_t)a.n * sizeof *d.entries);
}
