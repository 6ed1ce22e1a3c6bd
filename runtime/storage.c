/* storage.c - see storage.h. */
#include "storage.h"

#include <stdatomic.h>
#include <stdlib.h>

struct ckpt_storage {
  atomic_int refs;
  size_t size;
  _Atomic(unsigned char *) data; /* NULL: a record not yet located */
  atomic_bool heap;              /* data is ours to free */
  bool writable;
  unsigned swap_unit;
  ckpt_zip *zip;
  size_t index;
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

ckpt_status ckpt_storage_record(ckpt_storage **out, ckpt_zip *zip, size_t index, unsigned swap_unit, ckpt_error *err) {
  const ckpt_zip_entry *e = ckpt_zip_entry_at(zip, index);
  if (e->size > SIZE_MAX) return ckpt_fail(err, CKPT_E_LIMIT, -1, "record '%s' is too large", e->name);
  ckpt_storage *s = NULL;
  CKPT_TRY(make(&s, (size_t)e->size, err));
  s->zip = ckpt_zip_retain(zip);
  s->index = index;
  s->swap_unit = swap_unit;
  *out = s;
  return CKPT_OK;
}

void ckpt_storage_set_swap(ckpt_storage *s, unsigned swap_unit) {
  if (s->swap_unit != 0) s->swap_unit = swap_unit;
}

ckpt_storage *ckpt_storage_retain(ckpt_storage *s) {
  atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
  return s;
}

void ckpt_storage_release(ckpt_storage *s) {
  if (s == NULL || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1) return;
  if (atomic_load(&s->heap)) free(atomic_load(&s->data));
  ckpt_zip_release(s->zip);
  free(s);
}

size_t ckpt_storage_size(const ckpt_storage *s) { return s->size; }
bool ckpt_storage_is_writable(const ckpt_storage *s) { return s->writable; }

size_t ckpt_storage_heap_bytes(const ckpt_storage *s) { return atomic_load(&s->heap) ? s->size : 0; }

static void swap_bytes(unsigned char *data, size_t size, unsigned unit) {
  for (size_t i = 0; i + unit <= size; i += unit)
    for (unsigned a = 0, b = unit - 1; a < b; a++, b--) {
      unsigned char t = data[i + a];
      data[i + a] = data[i + b];
      data[i + b] = t;
    }
}

/* Bytes of a record that cannot be used where they lie: deflated, or big-endian. */
static ckpt_status load_copy(unsigned char **out, ckpt_storage *s, ckpt_error *err) {
  CKPT_TRY(ckpt_zip_read(out, s->zip, s->index, err));
  if (s->swap_unit > 1) swap_bytes(*out, s->size, s->swap_unit);
  return CKPT_OK;
}

static ckpt_status locate(unsigned char **out, bool *heap, ckpt_storage *s, ckpt_error *err) {
  *heap = !ckpt_zip_entry_at(s->zip, s->index)->stored || s->swap_unit > 1;
  if (*heap) return load_copy(out, s, err);
  const unsigned char *span;
  CKPT_TRY(ckpt_zip_span(&span, s->zip, s->index, err));
  *out = (unsigned char *)(uintptr_t)span; /* never written through: the storage is not writable */
  return CKPT_OK;
}

ckpt_status ckpt_storage_data(unsigned char **out, ckpt_storage *s, ckpt_error *err) {
  unsigned char *data = atomic_load_explicit(&s->data, memory_order_acquire);
  if (data == NULL && s->zip != NULL) {
    bool heap;
    CKPT_TRY(locate(&data, &heap, s, err));
    unsigned char *before = NULL;
    if (atomic_compare_exchange_strong(&s->data, &before, data)) {
      atomic_store(&s->heap, heap);
    } else {
      if (heap) free(data);
      data = before;
    }
  }
  *out = data;
  return CKPT_OK;
}
