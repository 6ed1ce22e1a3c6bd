/*
 * pth_legacy.c - see pth_legacy.h. The object is read twice: first only its persistent ids, which tell the element size
 * of every storage and so where the bytes of each lie; then, with all bytes in place, for its values.
 */
#include "pth_legacy.h"

#include <stdlib.h>

#include "legacy_view.h"
#include "torch_build.h"
#include "torch_old.h"

#define RECORD "file" /* stands before offsets in messages: they count from the file's first byte */

enum { PROTOCOL_VERSION = 1001 };

typedef struct place {
  const char *key;
  uint64_t numel, itemsize, offset;
  bool found;
} place;

typedef struct stream {
  ckpt_mapping *map;
  const unsigned char *data;
  size_t size, pos;
  ckpt_document *ids; /* holds the keys */
  ckpt_strmap by_key; /* key -> index into places */
  place *places;
  size_t n, capacity;
} stream;

/* ---- the magic number ---- */

static bool take(const unsigned char **p, size_t *n, const void *bytes, size_t length) {
  if (*n < length || memcmp(*p, bytes, length) != 0) return false;
  *p += length;
  *n -= length;
  return true;
}

bool ckpt_legacy_begins(const ckpt_mapping *map, size_t pos) {
  static const char binary[] = "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
                    text[] = "L119547037146038801333356L\n.";
  const unsigned char *p = ckpt_mapping_data(map) + pos;
  size_t n = ckpt_mapping_size(map) - pos;
  if (n > 2 && p[0] == 0x80 && p[1] <= 5) { /* PROTO, since protocol 2 */
    p += 2;
    n -= 2;
  }
  if (n > 9 && p[0] == 0x95) { /* FRAME, since protocol 4 */
    p += 9;
    n -= 9;
  }
  return take(&p, &n, binary, sizeof binary - 1) || take(&p, &n, text, sizeof text - 1);
}

/* ---- pickles ---- */

/* The pickle at the current position; its values go into `doc`. */
static ckpt_status read_pickle(ckpt_value **out, stream *s, ckpt_document *doc, const ckpt_pickle_hooks *hooks,
                               ckpt_error *err) {
  size_t extent = ckpt_pickle_extent(s->data, s->pos, s->size);
  return ckpt_pickle_read_at(out, &s->pos, doc, s->data, s->pos, extent, RECORD, hooks, err);
}

/* A new document for the pickle at the current position. */
static ckpt_status document_here(ckpt_document **out, const stream *s, ckpt_error *err) {
  size_t extent = ckpt_pickle_extent(s->data, s->pos, s->size);
  CKPT_TRY(ckpt_document_make(out, ckpt_pickle_memory_limit(extent - s->pos), err));
  ckpt_document_set_limits(*out, &ckpt_mapping_trust(s->map)->limits);
  return CKPT_OK;
}

/* Steps over a pickle; *integer gets its value if that is an integer. */
static ckpt_status skip_pickle(int64_t *integer, stream *s, ckpt_error *err) {
  ckpt_document *doc = NULL;
  ckpt_value *v = NULL;
  CKPT_TRY(document_here(&doc, s, err));
  ckpt_status st = read_pickle(&v, s, doc, NULL, err);
  if (st == CKPT_OK && v->kind == CKPT_INT) *integer = v->as.integer;
  ckpt_document_release(doc);
  return st;
}

static ckpt_status read_head(stream *s, ckpt_error *err) {
  int64_t version = 0, ignored;
  CKPT_TRY(skip_pickle(&ignored, s, err)); /* the magic number, which has been recognised */
  size_t at = s->pos;
  CKPT_TRY(skip_pickle(&version, s, err));
  if (version != PROTOCOL_VERSION)
    return ckpt_fail(err, CKPT_E_UNSUPPORTED, (int64_t)at,
                     RECORD "+0x%zx: protocol version %lld of the legacy format; PyTorch's is %d", at,
                     (long long)version, PROTOCOL_VERSION);
  return skip_pickle(&ignored, s, err); /* sys_info */
}

/* ---- which storages there are ---- */

static ckpt_status add_place(stream *s, const ckpt_storage_id *id, ckpt_error *err) {
  if (s->n == s->capacity) {
    size_t capacity = s->capacity == 0 ? 64 : s->capacity * 2;
    place *more = realloc(s->places, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
    s->places = more;
    s->capacity = capacity;
  }
  size_t n = strlen(id->key);
  const char *key = ckpt_arena_copy(ckpt_document_arena(s->ids), id->key, n, err);
  if (key == NULL) return err->status;
  CKPT_TRY(ckpt_strmap_set(&s->by_key, key, n, s->n, err));
  s->places[s->n++] = (place){key, id->numel, ckpt_dtype_size(id->dtype), 0, false};
  return CKPT_OK;
}

/* The first id of a key decides; whether the others agree is seen when the values are built. */
static ckpt_status note_id(void *context, ckpt_value *v, ckpt_error *err) {
  stream *s = context;
  ckpt_storage_id id;
  if (!ckpt_storage_id_is(v->made->args)) return CKPT_OK;
  CKPT_TRY(ckpt_storage_id_read(&id, v->made->args, err));
  return ckpt_strmap_get(&s->by_key, id.key, strlen(id.key)) == SIZE_MAX ? add_place(s, &id, err) : CKPT_OK;
}

static ckpt_status note_ids(stream *s, ckpt_error *err) {
  ckpt_pickle_hooks hooks = {.context = s, .persid = note_id};
  ckpt_value *ignored;
  return read_pickle(&ignored, s, s->ids, &hooks, err);
}

/* ---- where their bytes lie ---- */

static ckpt_status fail_at(const stream *s, const char *key, const char *what, ckpt_error *err) {
  return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)s->pos, RECORD "+0x%zx: storage '%.64s' %s", s->pos, key, what);
}

/* Number of elements and elements, at the current position. */
static ckpt_status find_bytes(stream *s, place *p, ckpt_error *err) {
  if (s->size - s->pos < 8) return fail_at(s, p->key, "has no size: the file is cut off", err);
  uint64_t numel = ckpt_le64(s->data + s->pos), left = s->size - s->pos - 8, bytes = p->numel * p->itemsize;
  if (numel != p->numel)
    return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)s->pos,
                     RECORD "+0x%zx: storage '%.64s' has %lld elements here, %llu in the object", s->pos, p->key,
                     (long long)numel, (unsigned long long)p->numel);
  if (bytes > left)
    return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)s->pos,
                     RECORD "+0x%zx: storage '%.64s' needs %llu bytes, the file has %llu more: it is cut off", s->pos,
                     p->key, (unsigned long long)bytes, (unsigned long long)left);
  p->offset = s->pos + 8;
  p->found = true;
  s->pos += 8 + (size_t)bytes;
  return CKPT_OK;
}

static ckpt_status check_key(place **out, const stream *s, size_t list, const ckpt_value *key, ckpt_error *err) {
  if (key->kind != CKPT_STR)
    return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)list, RECORD "+0x%zx: a storage key that is no string", list);
  size_t at = ckpt_strmap_get(&s->by_key, key->as.text.bytes, key->as.text.n);
  const char *fault = at == SIZE_MAX ? "is in the list of keys, but not in the object" : NULL;
  if (at != SIZE_MAX && s->places[at].found) fault = "is twice in the list of keys";
  if (fault != NULL)
    return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)list, RECORD "+0x%zx: storage '%.64s' %s", list, key->as.text.bytes,
                     fault);
  *out = &s->places[at];
  return CKPT_OK;
}

static ckpt_status find_all(stream *s, size_t list, const ckpt_value *keys, ckpt_error *err) {
  if (keys->kind != CKPT_LIST)
    return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)list, RECORD "+0x%zx: a %s where the list of storage keys should be",
                     list, ckpt_kind_name(ckpt_value_kind(keys)));
  for (size_t i = 0; i < keys->as.seq.n; i++) {
    place *p = NULL;
    CKPT_TRY(check_key(&p, s, list, keys->as.seq.items[i], err));
    CKPT_TRY(find_bytes(s, p, err));
  }
  for (size_t i = 0; i < s->n; i++)
    if (!s->places[i].found)
      return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)list,
                       RECORD "+0x%zx: storage '%.64s' is in the object, but not in the list of keys", list,
                       s->places[i].key);
  return CKPT_OK;
}

static ckpt_status find_storages(stream *s, ckpt_error *err) {
  ckpt_document *doc = NULL;
  ckpt_value *keys = NULL;
  size_t list = s->pos;
  CKPT_TRY(document_here(&doc, s, err));
  ckpt_status st = read_pickle(&keys, s, doc, NULL, err);
  if (st == CKPT_OK) st = find_all(s, list, keys, err);
  ckpt_document_release(doc);
  return st;
}

/* ---- the values ---- */

typedef struct values {
  ckpt_pickle_hooks torch;
  ckpt_legacy_views *views;
  ckpt_torch_old old;
} values;

static ckpt_status get_storage(ckpt_storage **out, void *context, const char *key, uint64_t bytes, unsigned swap_unit,
                               ckpt_error *err) {
  const stream *s = context;
  const place *p = &s->places[ckpt_strmap_get(&s->by_key, key, strlen(key))]; /* every id has been noted */
  (void)bytes, (void)swap_unit; /* the builder compares; the stream is little-endian whatever wrote it */
  return ckpt_storage_span(out, s->map, p->offset, p->numel * p->itemsize, err);
}

static ckpt_status on_persid(void *context, ckpt_value *v, ckpt_error *err) {
  values *b = context;
  const ckpt_value *id = v->made->args;
  if (id->kind != CKPT_TUPLE || id->as.seq.n == 0) return CKPT_OK;
  const ckpt_value *tag = id->as.seq.items[0];
  if (tag->kind == CKPT_STR && strcmp(tag->as.text.bytes, "module") == 0) return ckpt_torch_old_module(v, 1, err);
  CKPT_TRY(b->torch.persid(b->torch.context, v, err));
  return v->made->storage == NULL ? CKPT_OK : ckpt_legacy_views_persid(b->views, v, err);
}

static ckpt_status on_built(void *context, ckpt_value *v, ckpt_error *err) {
  values *b = context;
  CKPT_TRY(ckpt_legacy_views_built(b->views, v, &b->torch, err));
  return ckpt_torch_old_built(&b->old, v, err);
}

static ckpt_status on_state(bool *done, void *context, ckpt_value *to, ckpt_value *state, ckpt_error *err) {
  values *b = context;
  return ckpt_torch_old_state(done, &b->old, to, state, err);
}

static ckpt_status build(ckpt_document *doc, stream *s, ckpt_torch_builder *torch, ckpt_error *err) {
  values b = {.torch = ckpt_torch_builder_hooks(torch)};
  ckpt_pickle_hooks hooks = {.context = &b, .persid = on_persid, .built = on_built, .state = on_state};
  ckpt_value *root = NULL;
  CKPT_TRY(ckpt_legacy_views_new(&b.views, doc, s->map, err));
  b.old = (ckpt_torch_old){doc, {.context = &b, .built = on_built}};
  ckpt_status st = read_pickle(&root, s, doc, &hooks, err);
  if (st == CKPT_OK) ckpt_document_set_root(doc, root);
  ckpt_legacy_views_free(b.views);
  return st;
}

static ckpt_status read_values(ckpt_document **out, stream *s, ckpt_error *err) {
  ckpt_document *doc = NULL;
  ckpt_torch_builder *torch = NULL;
  CKPT_TRY(document_here(&doc, s, err));
  ckpt_status st = ckpt_torch_builder_new(&torch, doc, get_storage, s, err);
  if (st == CKPT_OK) st = build(doc, s, torch, err);
  ckpt_torch_builder_free(torch);
  if (st == CKPT_OK)
    *out = doc;
  else
    ckpt_document_release(doc);
  return st;
}

/* ---- one save ---- */

static ckpt_status read_save(ckpt_document **out, stream *s, ckpt_error *err) {
  CKPT_TRY(read_head(s, err));
  size_t object = s->pos;
  CKPT_TRY(document_here(&s->ids, s, err));
  CKPT_TRY(note_ids(s, err));
  CKPT_TRY(find_storages(s, err));
  size_t end = s->pos;
  s->pos = object;
  if (out != NULL) CKPT_TRY(read_values(out, s, err));
  s->pos = end;
  return CKPT_OK;
}

static ckpt_status read_at(ckpt_document **out, size_t *end, ckpt_mapping *map, size_t start, ckpt_error *err) {
  ckpt_error here = {0};
  stream s = {.map = map, .data = ckpt_mapping_data(map), .size = ckpt_mapping_size(map), .pos = start};
  ckpt_status st = read_save(out, &s, &here);
  ckpt_document_release(s.ids);
  ckpt_strmap_free(&s.by_key);
  free(s.places);
  if (st == CKPT_OK)
    *end = s.pos;
  else if (err != NULL)
    *err = here;
  return st;
}

const ckpt_save_format ckpt_legacy_format = {ckpt_legacy_begins, read_at};
