/* storage.c - see storage.h. */
#include "storage.h"

#include <stdatomic.h>
#include <stdlib.h>

struct ckpt_storage {
  atomic_int refs;
  size_t size;
  _Atomic(unsigned char *) data; /* NULL: not yet fetched */
  atomic_bool heap;              /* data is ours to free */
  bool writable;
  atomic_bool given; /* `room` is somebody's */
  unsigned swap_unit;
  const ckpt_storage_source *source; /* NULL: the bytes were there from the beginning */
  void *context;
  ckpt_zip *zip; /* of a record */
  size_t index;
  int64_t room[15]; /* see ckpt_storage_room */
};

static ckpt_status make(ckpt_storage **out, size_t size, ckpt_error *err) {
  ckpt_storage *s = calloc(1, sizeof *s);
  if (s == NULL) return ckpt_fail_nomem(err, sizeof *s);
  atomic_init(&s->refs, 1);
  s->size = size;
  *out = s;
  return CKPT_OK;
}

ckpt_status ckpt_storage_new(ckpt_storage **out, size_t size, ckpt_error *err) {
  ckpt_storage *s = NULL;
  CKPT_TRY(make(&s, size, err));
  unsigned char *data = calloc(1, size == 0 ? 1 : size);
  if (data == NULL) {
    free(s);
    return ckpt_fail_nomem(err, size);
  }
  atomic_init(&s->data, data);
  atomic_init(&s->heap, true);
  s->writable = true;
  *out = s;
  return CKPT_OK;
}

ckpt_status ckpt_storage_borrow(ckpt_storage **out, void *data, size_t size, ckpt_error *err) {
  ckpt_storage *s = NULL;
  CKPT_TRY(make(&s, size, err));
  atomic_init(&s->data, data);
  s->writable = true;
  *out = s;
  return CKPT_OK;
}

ckpt_status ckpt_storage_from(ckpt_storage **out, size_t size, const ckpt_storage_source *source, void *context,
                              ckpt_error *err) {
  ckpt_storage *s = NULL;
  ckpt_status st = make(&s, size, err);
  if (st != CKPT_OK) {
    source->drop(context);
    return st;
  }
  s->source = source;
  s->context = context;
  *out = s;
  return CKPT_OK;
}

/* ---- spans of a mapping ---- */

static void drop_mapping(void *context) { ckpt_mapping_release(context); }

static void used_mapping(void *context, size_t n) {
  if (context != NULL) ckpt_mapping_used(context, n);
}

static ckpt_status fetch_unplaced(unsigned char **out, bool *heap, void *context, ckpt_error *err) {
  (void)out, (void)heap, (void)context;
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "the file does not hold the storage's bytes");
}

/* The context of a span is its mapping; its bytes are there from the beginning, so that fetch is for pending ones. */
static const ckpt_storage_source span_source = {.fetch = fetch_unplaced, .drop = drop_mapping, .used = used_mapping};

ckpt_status ckpt_storage_pending(ckpt_storage **out, size_t size, ckpt_error *err) {
  return ckpt_storage_from(out, size, &span_source, NULL, err);
}

ckpt_status ckpt_storage_place(ckpt_storage *s, ckpt_mapping *map, uint64_t offset, ckpt_error *err) {
  size_t end = ckpt_mapping_size(map);
  if (offset > end || s->size > end - offset)
    return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)end,
                     "the file ends at byte %zu, before the %zu bytes that a storage has from byte %llu on", end,
                     s->size, (unsigned long long)offset);
  s->context = ckpt_mapping_retain(map);
  const unsigned char *at = ckpt_mapping_data(map);
  atomic_store(&s->data, (unsigned char *)(uintptr_t)at + offset); /* never written through: it is not writable */
  return CKPT_OK;
}

ckpt_status ckpt_storage_span(ckpt_storage **out, ckpt_mapping *map, uint64_t offset, uint64_t size, ckpt_error *err) {
  ckpt_storage *s = NULL;
  if (size > SIZE_MAX) return ckpt_fail(err, CKPT_E_LIMIT, -1, "a storage of %llu bytes", (unsigned long long)size);
  CKPT_TRY(ckpt_storage_pending(&s, (size_t)size, err));
  ckpt_status st = ckpt_storage_place(s, map, offset, err);
  if (st != CKPT_OK) {
    ckpt_storage_release(s);
    return st;
  }
  *out = s;
  return CKPT_OK;
}

/* ---- records of an archive ---- */

/* The context is the storage itself, which holds its place in the archive. */
static ckpt_status fetch_record(unsigned char **out, bool *heap, void *context, ckpt_error *err) {
  const ckpt_storage *s = context;
  *heap = !ckpt_zip_entry_at(s->zip, s->index)->stored;
  if (*heap) return ckpt_zip_read(out, s->zip, s->index, err);
  const unsigned char *span = NULL;
  CKPT_TRY(ckpt_zip_span(&span, s->zip, s->index, err));
  *out = (unsigned char *)(uintptr_t)span; /* never written through: the storage is not writable */
  return CKPT_OK;
}

static void drop_record(void *context) { ckpt_zip_release(((ckpt_storage *)context)->zip); }

static bool record_lies(const void *context) {
  const ckpt_storage *s = context;
  return ckpt_zip_entry_at(s->zip, s->index)->stored;
}

static void used_record(void *context, size_t n) { ckpt_zip_used(((ckpt_storage *)context)->zip, n); }

static const ckpt_storage_source record_source = {
    .fetch = fetch_record, .drop = drop_record, .lies = record_lies, .used = used_record};

ckpt_status ckpt_storage_record(ckpt_storage **out, ckpt_zip *zip, size_t index, ckpt_error *err) {
  const ckpt_zip_entry *e = ckpt_zip_entry_at(zip, index);
  ckpt_storage *s = NULL;
  if (e->size > SIZE_MAX) return ckpt_fail(err, CKPT_E_LIMIT, -1, "record '%s' is too large", e->name);
  CKPT_TRY(make(&s, (size_t)e->size, err));
  s->zip = ckpt_zip_retain(zip);
  s->index = index;
  s->source = &record_source;
  s->context = s;
  *out = s;
  return CKPT_OK;
}

/* ---- counting ---- */

void ckpt_storage_set_swap(ckpt_storage *s, unsigned unit) { s->swap_unit = unit; }
unsigned ckpt_storage_swap(const ckpt_storage *s) { return s->swap_unit; }

ckpt_storage *ckpt_storage_retain(ckpt_storage *s) {
  atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
  return s;
}

void ckpt_storage_release(ckpt_storage *s) {
  if (s == NULL || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1) return;
  if (atomic_load(&s->heap)) free(atomic_load(&s->data));
  if (s->source != NULL) s->source->drop(s->context);
  free(s);
}

void *ckpt_storage_room(ckpt_storage *s, size_t n) {
  return n > sizeof s->room || atomic_exchange(&s->given, true) ? NULL : s->room;
}

size_t ckpt_storage_size(const ckpt_storage *s) { return s->size; }
bool ckpt_storage_is_writable(const ckpt_storage *s) { return s->writable; }

size_t ckpt_storage_heap_bytes(const ckpt_storage *s) { return atomic_load(&s->heap) ? s->size : 0; }

/* ---- the bytes ---- */

static void swap_bytes(unsigned char *data, size_t size, unsigned unit) {
  for (size_t i = 0; i + unit <= size; i += unit)
    for (unsigned a = 0, b = unit - 1; a < b; a++, b--) {
      unsigned char t = data[i + a];
      data[i + a] = data[i + b];
      data[i + b] = t;
    }
}

/* Bytes that lie in place are not ours to swap: a copy of them is. */
static ckpt_status swapped(unsigned char **data, bool *heap, const ckpt_storage *s, ckpt_error *err) {
  if (!*heap) {
    unsigned char *copy = malloc(s->size == 0 ? 1 : s->size);
    if (copy == NULL) return ckpt_fail_nomem(err, s->size);
    if (s->size > 0) memcpy(copy, *data, s->size);
    *data = copy;
    *heap = true;
  }
  swap_bytes(*data, s->size, s->swap_unit);
  return CKPT_OK;
}

static ckpt_status fetch(unsigned char **data, bool *heap, ckpt_storage *s, ckpt_error *err) {
  CKPT_TRY(s->source->fetch(data, heap, s->context, err));
  return s->swap_unit > 1 ? swapped(data, heap, s, err) : CKPT_OK;
}

/* Bytes in place are kept at once: they cost nothing. */
static unsigned char *keep(ckpt_storage *s, unsigned char *data, bool heap) {
  unsigned char *before = NULL;
  if (atomic_compare_exchange_strong(&s->data, &before, data)) {
    atomic_store(&s->heap, heap);
    return data;
  }
  if (heap) free(data);
  return before;
}

ckpt_status ckpt_storage_data(unsigned char **out, ckpt_storage *s, ckpt_error *err) {
  unsigned char *data = atomic_load_explicit(&s->data, memory_order_acquire);
  if (data == NULL && s->source != NULL) {
    bool heap = false;
    CKPT_TRY(fetch(&data, &heap, s, err));
    data = keep(s, data, heap);
  }
  *out = data;
  return CKPT_OK;
}

ckpt_status ckpt_storage_read(const unsigned char **out, void **owned, ckpt_storage *s, ckpt_error *err) {
  unsigned char *data = atomic_load_explicit(&s->data, memory_order_acquire);
  bool heap = false;
  if (data == NULL && s->source != NULL) {
    CKPT_TRY(fetch(&data, &heap, s, err));
    if (!heap) data = keep(s, data, false);
  }
  *out = data;
  *owned = heap ? data : NULL;
  return CKPT_OK;
}

bool ckpt_storage_lies(const ckpt_storage *s) {
  if (atomic_load(&s->data) != NULL) return true;
  return s->source != NULL && s->swap_unit <= 1 && s->source->lies != NULL && s->source->lies(s->context);
}

void ckpt_storage_used(ckpt_storage *s, size_t n) {
  if (s->source != NULL && s->source->used != NULL && !atomic_load(&s->heap)) s->source->used(s->context, n);
}

bool ckpt_storage_streams(const ckpt_storage *s) {
  return s->source != NULL && s->swap_unit <= 1 && s->source->streams != NULL && s->source->streams(s->context);
}

ckpt_status ckpt_storage_range(unsigned char *to, size_t *done, ckpt_storage *s, size_t at, size_t n, ckpt_error *err) {
  return s->source->range(to, done, s->context, at, n, err);
}

void *ckpt_storage_context(const ckpt_storage *s, const ckpt_storage_source *source) {
  return s->source == source ? s->context : NULL;
}

/* ---- hints ---- */

/* The mapping under the bytes, if they lie in one. */
static const ckpt_mapping *mapping_of(const ckpt_storage *s) {
  if (atomic_load(&s->heap) || atomic_load(&s->data) == NULL) return NULL;
  if (s->source == &span_source) return s->context;
  return s->source == &record_source ? ckpt_zip_mapping(s->zip) : NULL;
}

bool ckpt_storage_is_mapped(const ckpt_storage *s) { return mapping_of(s) != NULL; }

void ckpt_storage_expect(const ckpt_storage *s) {
  const ckpt_mapping *m = mapping_of(s);
  if (m != NULL) ckpt_mapping_expect(m, atomic_load(&s->data), s->size);
}

void ckpt_storage_forget(const ckpt_storage *s, const void *at, size_t size) {
  const ckpt_mapping *m = mapping_of(s);
  if (m != NULL) ckpt_mapping_forget(m, at, size);
}
