/*
 * zip_write.c - see zip_write.h. The layout is byte for byte that of PyTorch 2.7+ (its writer over miniz):
 *
 *   local header, 30 bytes       PK 3 4 | needed 0 | flags | method 0 | time, date 0 | crc, sizes 0 | name, extra
 * length name, then [1 0 | length | size, 0 | offset]         zip64: size or offset of 0xFFFFFFFF and more F B |
 * padding | Z...                                 to the next multiple of 64 payload, then PK 7 8 | crc | size | size
 * only if there is a payload; sizes of 8 bytes with zip64
 *   ...
 *   directory entry, 46 bytes    PK 1 2 | ... as above, with crc and sizes | name | [zip64 without F B]
 *   PK 6 6 (56 bytes), PK 6 7 (20 bytes), PK 5 6 (22 bytes)
 *
 * Invariant: `offset` is what the sink has been given; a record's `offset` is where its local header begins.
 */
#include "zip_write.h"

#include <assert.h>
#include <libdeflate.h>
#include <stdio.h>
#include <stdlib.h>

#include "parallel.h"

enum { ALIGNMENT = 64, MAX_NAME = 65535 };
enum {
  BLOCK = 1 << 18,
  FORGET = 4096,
  LARGE_BLOCK = 4 << 20,
  BESIDE = 8 << 20 /* from here on a thread is worth its start */
};

typedef struct record {
  size_t name, name_n; /* with prefix, in the writer's text */
  uint64_t size, offset;
  uint32_t crc;
} record;

struct ckpt_zip_writer {
  ckpt_sink *sink;
  char *prefix;
  char *text; /* all names */
  size_t text_n, text_capacity;
  uint64_t offset;
  record *records;
  size_t n, capacity;
  uint64_t id_names, id_crcs; /* the two halves of the serialization id */
  bool finished;
};

static bool big(uint64_t v) { return v >= UINT32_MAX; }
static uint32_t low32(uint64_t v) { return big(v) ? UINT32_MAX : (uint32_t)v; }

/* boost::hash_combine, as PyTorch folds the id. */
static uint64_t fold(uint64_t seed, uint64_t v) { return seed ^ (v + 0x9e3779b9u + (seed << 6) + (seed >> 2)); }

static ckpt_status put(ckpt_zip_writer *w, const void *data, size_t size, ckpt_error *err) {
  CKPT_TRY(w->sink->write(w->sink, data, size, err));
  w->offset += size;
  return CKPT_OK;
}

/* Length of a zip64 extra: 0, 12, 20 or 28 bytes. PyTorch puts the same fields into the local header as into the
 * directory. */
static size_t zip64_size(uint64_t size, uint64_t offset) {
  size_t n = (big(size) ? 16u : 0u) + (big(offset) ? 8u : 0u);
  return n == 0 ? 0 : n + 4;
}

static size_t padding(uint64_t offset, size_t name_n, size_t zip64) {
  uint64_t start = offset + 30 + name_n + 4 + zip64;
  return (size_t)((ALIGNMENT - start % ALIGNMENT) % ALIGNMENT);
}

static size_t descriptor_size(uint64_t size, size_t zip64) { return size == 0 ? 0 : zip64 > 0 ? 24 : 16; }

ckpt_status ckpt_zip_writer_new(ckpt_zip_writer **out, ckpt_sink *sink, const char *prefix, ckpt_error *err) {
  ckpt_zip_writer *w = calloc(1, sizeof *w);
  char *copy = strdup(prefix);
  if (w == NULL || copy == NULL) {
    free(w);
    free(copy);
    return ckpt_fail_nomem(err, sizeof *w);
  }
  w->sink = sink;
  w->prefix = copy;
  *out = w;
  return CKPT_OK;
}

void ckpt_zip_writer_free(ckpt_zip_writer *w) {
  if (w == NULL) return;
  free(w->text);
  free(w->records);
  free(w->prefix);
  free(w);
}

uint64_t ckpt_zip_writer_offset(const ckpt_zip_writer *w) { return w->offset; }

static ckpt_status room_for_name(ckpt_zip_writer *w, size_t n, ckpt_error *err) {
  size_t capacity = w->text_capacity == 0 ? 4096 : w->text_capacity;
  if (w->text_capacity - w->text_n >= n) return CKPT_OK;
  while (capacity - w->text_n < n) capacity *= 2;
  char *more = realloc(w->text, capacity);
  if (more == NULL) return ckpt_fail_nomem(err, capacity);
  w->text = more;
  w->text_capacity = capacity;
  return CKPT_OK;
}

static ckpt_status new_record(record **out, ckpt_zip_writer *w, const char *name, uint64_t size, ckpt_error *err) {
  size_t prefix_n = strlen(w->prefix), name_n = strlen(name), n = prefix_n + 1 + name_n;
  if (n > MAX_NAME)
    return ckpt_fail(err, CKPT_E_LIMIT, -1, "record '%.100s...': a name of %zu bytes, a zip archive holds at most %d",
                     name, n, MAX_NAME);
  if (w->n == w->capacity) {
    size_t capacity = w->capacity == 0 ? 64 : w->capacity * 2;
    record *more = realloc(w->records, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
    w->records = more;
    w->capacity = capacity;
  }
  CKPT_TRY(room_for_name(w, n, err));
  char *full = w->text + w->text_n;
  memcpy(full, w->prefix, prefix_n);
  full[prefix_n] = '/';
  memcpy(full + prefix_n + 1, name, name_n);
  w->records[w->n] = (record){w->text_n, n, size, w->offset, 0};
  w->text_n += n;
  *out = &w->records[w->n++];
  return CKPT_OK;
}

enum { SHORT_NAME = 64, LONGEST_EXTRA = 28 + 4 + ALIGNMENT };

/* A header of n bytes, which has room for a short name and the extra field: in one piece, if the name is short. */
static ckpt_status put_header(ckpt_zip_writer *w, unsigned char *h, size_t n, const record *r,
                              const unsigned char *extra, size_t extra_n, ckpt_error *err) {
  bool one = r->name_n <= SHORT_NAME;
  if (!one) CKPT_TRY(put(w, h, n, err));
  if (!one) CKPT_TRY(put(w, w->text + r->name, r->name_n, err));
  if (!one) return put(w, extra, extra_n, err);
  memcpy(h + n, w->text + r->name, r->name_n);
  memcpy(h + n + r->name_n, extra, extra_n);
  return put(w, h, n + r->name_n + extra_n, err);
}

static size_t fill_zip64(unsigned char *to, const record *r, bool both) {
  size_t z = zip64_size(r->size, r->offset), at = 4;
  if (z == 0) return 0;
  memset(to, 0, z);
  to[0] = 1;
  ckpt_put16(to + 2, (uint16_t)(z - 4));
  if (big(r->size)) {
    ckpt_put64(to + at, r->size);
    if (both) ckpt_put64(to + at + 8, r->size); /* else the compressed size stays 0 */
    at += 16;
  }
  if (big(r->offset)) ckpt_put64(to + at, r->offset);
  return z;
}

static ckpt_status put_local(ckpt_zip_writer *w, const record *r, ckpt_error *err) {
  unsigned char h[30 + SHORT_NAME + LONGEST_EXTRA] = {'P', 'K', 3, 4}, extra[LONGEST_EXTRA];
  size_t z = fill_zip64(extra, r, false), pad = padding(r->offset, r->name_n, z);
  ckpt_put16(h + 6, r->size == 0 ? 0x0800 : 0x0808);
  ckpt_put16(h + 26, (uint16_t)r->name_n);
  ckpt_put16(h + 28, (uint16_t)(z + 4 + pad));
  memcpy(extra + z, "FB", 2);
  ckpt_put16(extra + z + 2, (uint16_t)pad);
  memset(extra + z + 4, 'Z', pad);
  return put_header(w, h, 30, r, extra, z + 4 + pad, err);
}

typedef struct checksum {
  const unsigned char *data;
  size_t size;
  uint32_t crc;
} checksum;

static void sum(void *context) {
  checksum *c = context;
  c->crc = libdeflate_crc32(0, c->data, c->size);
}

static ckpt_status put_beside(uint32_t *crc, ckpt_zip_writer *w, const unsigned char *data, size_t size,
                              ckpt_error *err) {
  checksum c = {data, size, 0};
  ckpt_beside b;
  ckpt_status st = CKPT_OK;
  ckpt_beside_start(&b, sum, &c);
  for (size_t at = 0, n; st == CKPT_OK && at < size; at += n) {
    n = size - at < LARGE_BLOCK ? size - at : LARGE_BLOCK;
    st = put(w, data + at, n, err);
  }
  ckpt_beside_join(&b);
  *crc = c.crc;
  return st;
}

/* Block by block while it is in the cache. A block of a mapping ends at a multiple of its size, in one folio. */
static ckpt_status put_passing(uint32_t *crc, ckpt_zip_writer *w, const unsigned char *data, size_t size,
                               const ckpt_storage *mapped, ckpt_error *err) {
  *crc = 0;
  for (size_t at = 0, n, room; at < size; at += n) {
    room = BLOCK - (mapped == NULL ? 0 : (uintptr_t)(data + at) % BLOCK);
    n = size - at < room ? size - at : room;
    *crc = libdeflate_crc32(*crc, data + at, n);
    CKPT_TRY(put(w, data + at, n, err));
    if (mapped != NULL && n >= FORGET) ckpt_storage_forget(mapped, data + at, n);
  }
  return CKPT_OK;
}

static ckpt_status put_descriptor(ckpt_zip_writer *w, const record *r, ckpt_error *err) {
  unsigned char d[24] = {'P', 'K', 7, 8};
  bool zip64 = zip64_size(r->size, r->offset) > 0;
  if (r->size == 0) return CKPT_OK;
  ckpt_put32(d + 4, r->crc);
  if (zip64) {
    ckpt_put64(d + 8, r->size);
    ckpt_put64(d + 16, r->size);
  } else {
    ckpt_put32(d + 8, (uint32_t)r->size);
    ckpt_put32(d + 12, (uint32_t)r->size);
  }
  w->id_crcs = fold(w->id_crcs, r->crc);
  return put(w, d, zip64 ? 24 : 16, err);
}

/*
 * PyTorch folds std::hash of the names in the order of a libstdc++ hash table, which nothing reads. Ours is FNV-1a in
 * the order of the records: as deterministic, and equal for files of equal names.
 */
static uint64_t name_hash(const char *name) {
  uint64_t h = 0xcbf29ce484222325u;
  for (; *name != '\0'; name++) h = (h ^ (unsigned char)*name) * 0x100000001b3u;
  return h;
}

static ckpt_status add(ckpt_zip_writer *w, const char *name, const void *data, size_t size, const ckpt_storage *mapped,
                       ckpt_error *err) {
  record *r = NULL;
  bool beside = mapped == NULL && size >= BESIDE && ckpt_parallel_threads(size) > 1;
  assert(!w->finished);
  CKPT_TRY(new_record(&r, w, name, size, err));
  w->id_names = fold(w->id_names, name_hash(name));
  CKPT_TRY(put_local(w, r, err));
  CKPT_TRY(beside ? put_beside(&r->crc, w, data, size, err) : put_passing(&r->crc, w, data, size, mapped, err));
  return put_descriptor(w, r, err);
}

/* Passes a record's bytes on and takes their CRC-32. */
typedef struct payload {
  ckpt_sink sink; /* first: the sink's address is the payload's */
  ckpt_zip_writer *writer;
  uint32_t crc;
} payload;

static ckpt_status write_payload(ckpt_sink *sink, const void *data, size_t size, ckpt_error *err) {
  payload *p = (payload *)sink;
  const unsigned char *bytes = data;
  for (size_t at = 0, n; at < size; at += n) {
    n = size - at < BLOCK ? size - at : BLOCK;
    p->crc = libdeflate_crc32(p->crc, bytes + at, n);
    CKPT_TRY(put(p->writer, bytes + at, n, err));
  }
  return CKPT_OK;
}

ckpt_status ckpt_zip_writer_add_from(ckpt_zip_writer *w, const char *name, uint64_t size, ckpt_zip_fill fill,
                                     void *context, ckpt_error *err) {
  record *r = NULL;
  payload p = {{write_payload}, w, 0};
  assert(!w->finished);
  CKPT_TRY(new_record(&r, w, name, size, err));
  w->id_names = fold(w->id_names, name_hash(name));
  CKPT_TRY(put_local(w, r, err));
  uint64_t start = w->offset;
  CKPT_TRY(fill(&p.sink, context, err));
  assert(w->offset - start == size);
  (void)start;
  r->crc = p.crc;
  return put_descriptor(w, r, err);
}

ckpt_status ckpt_zip_writer_add(ckpt_zip_writer *w, const char *name, const void *data, size_t size, ckpt_error *err) {
  return add(w, name, data, size, NULL, err);
}

ckpt_status ckpt_zip_writer_add_storage(ckpt_zip_writer *w, const char *name, const ckpt_storage *s, const void *data,
                                        ckpt_error *err) {
  return add(w, name, data, ckpt_storage_size(s), ckpt_storage_is_mapped(s) ? s : NULL, err);
}

static ckpt_status put_central(ckpt_zip_writer *w, const record *r, ckpt_error *err) {
  unsigned char h[46 + SHORT_NAME + LONGEST_EXTRA] = {'P', 'K', 1, 2}, extra[LONGEST_EXTRA];
  size_t z = fill_zip64(extra, r, true);
  ckpt_put16(h + 8, r->size == 0 ? 0x0800 : 0x0808);
  ckpt_put32(h + 16, r->crc);
  ckpt_put32(h + 20, low32(r->size));
  ckpt_put32(h + 24, low32(r->size));
  ckpt_put16(h + 28, (uint16_t)r->name_n);
  ckpt_put16(h + 30, (uint16_t)z);
  ckpt_put32(h + 42, low32(r->offset));
  return put_header(w, h, 46, r, extra, z, err);
}

static ckpt_status put_end(ckpt_zip_writer *w, uint64_t start, ckpt_error *err) {
  unsigned char e[56 + 20 + 22] = {'P', 'K', 6, 6}, *locator = e + 56, *end = e + 76;
  uint64_t size = w->offset - start, zip64_at = w->offset;
  ckpt_put64(e + 4, 44);
  ckpt_put16(e + 12, 0x031e);
  ckpt_put16(e + 14, 45);
  ckpt_put64(e + 24, w->n);
  ckpt_put64(e + 32, w->n);
  ckpt_put64(e + 40, size);
  ckpt_put64(e + 48, start);
  memcpy(locator, "PK\6\7", 4);
  ckpt_put64(locator + 8, zip64_at);
  ckpt_put32(locator + 16, 1);
  memcpy(end, "PK\5\6", 4);
  uint16_t count = w->n >= UINT16_MAX ? UINT16_MAX : (uint16_t)w->n;
  ckpt_put16(end + 8, count);
  ckpt_put16(end + 10, count);
  ckpt_put32(end + 12, low32(size));
  ckpt_put32(end + 16, low32(start));
  return put(w, e, sizeof e, err);
}

ckpt_status ckpt_zip_writer_finish(ckpt_zip_writer *w, ckpt_error *err) {
  char id[48];
  snprintf(id, sizeof id, "%020llu%020llu", (unsigned long long)w->id_names, (unsigned long long)w->id_crcs);
  CKPT_TRY(ckpt_zip_writer_add(w, ".data/serialization_id", id, 40, err));
  w->finished = true;
  uint64_t start = w->offset;
  for (size_t i = 0; i < w->n; i++) CKPT_TRY(put_central(w, &w->records[i], err));
  return put_end(w, start, err);
}

bool ckpt_zip_measure_add(ckpt_zip_measure *m, size_t name_n, uint64_t size) {
  size_t n = m->prefix_n + 1 + name_n, z = zip64_size(size, m->offset);
  uint64_t head = 30 + n + z + 4 + padding(m->offset, n, z) + descriptor_size(size, z);
  m->central += 46 + n + z;
  return !__builtin_add_overflow(m->offset, size, &m->offset) && !__builtin_add_overflow(m->offset, head, &m->offset);
}

bool ckpt_zip_measure_end(uint64_t *total, ckpt_zip_measure *m) {
  return ckpt_zip_measure_add(m, strlen(".data/serialization_id"), 40) &&
         !__builtin_add_overflow(m->offset, m->central + 98, total);
}
