/*
 * storage.h - counted bytes under tensors: owned, borrowed from the caller, a span of a mapped file, or bytes that a
 * source finds, inflates or computes at first use. Immutable handles; the first use may race and is decided by
 * compare-and-swap.
 */
#ifndef CKPT_STORAGE_H
#define CKPT_STORAGE_H

#include "zip_read.h"

typedef struct ckpt_storage ckpt_storage;

/*
 * Where a storage's bytes come from. fetch gives them where they lie, or (*heap set) in memory that free() takes; it
 * may run in several threads at once, and again after a failure. drop lets go of the context when the storage goes,
 * or when it could not be made. The others are optional:
 *   lies     whether fetch costs nothing, because the bytes lie somewhere
 *   used     n bytes that lie somewhere have been looked at and are done with
 *   streams  whether range costs no more than the bytes it gives
 *   range    writes the bytes from `at` on, at least one element of them and at most n; *done gets how many
 */
typedef struct ckpt_storage_source {
  ckpt_status (*fetch)(unsigned char **out, bool *heap, void *context, ckpt_error *err);
  void (*drop)(void *context);
  bool (*lies)(const void *context);
  void (*used)(void *context, size_t n);
  bool (*streams)(const void *context);
  ckpt_status (*range)(unsigned char *to, size_t *done, void *context, size_t at, size_t n, ckpt_error *err);
} ckpt_storage_source;

ckpt_status ckpt_storage_new(ckpt_storage **out, size_t size, ckpt_error *err); /* zeroed */
ckpt_status ckpt_storage_borrow(ckpt_storage **out, void *data, size_t size, ckpt_error *err);

/* `size` bytes from `source`, which is static; the context passes to the storage even on failure. */
ckpt_status ckpt_storage_from(ckpt_storage **out, size_t size, const ckpt_storage_source *source, void *context,
                              ckpt_error *err);

/* Bytes [offset, offset+size) of a mapping, which is retained; CKPT_E_CORRUPT if it ends before. */
ckpt_status ckpt_storage_span(ckpt_storage **out, ckpt_mapping *map, uint64_t offset, uint64_t size, ckpt_error *err);

/* Record `index` of an archive; retains it. */
ckpt_status ckpt_storage_record(ckpt_storage **out, ckpt_zip *zip, size_t index, ckpt_error *err);

/*
 * `size` bytes whose place is not known yet (a legacy file tells it after its objects); place gives it, as
 * ckpt_storage_span does, before anything has looked at them.
 */
ckpt_status ckpt_storage_pending(ckpt_storage **out, size_t size, ckpt_error *err);
ckpt_status ckpt_storage_place(ckpt_storage *s, ckpt_mapping *map, uint64_t offset, ckpt_error *err);

/*
 * The fetched bytes are big-endian: they are swapped in units of `unit` (0: little-endian, as they are) when they are
 * first looked at. Only before that; a storage that has been looked at keeps its bytes.
 */
void ckpt_storage_set_swap(ckpt_storage *s, unsigned unit);
unsigned ckpt_storage_swap(const ckpt_storage *s);

ckpt_storage *ckpt_storage_retain(ckpt_storage *s);
void ckpt_storage_release(ckpt_storage *s);
size_t ckpt_storage_size(const ckpt_storage *s);
size_t ckpt_storage_heap_bytes(const ckpt_storage *s);
bool ckpt_storage_is_writable(const ckpt_storage *s);

/* The bytes, kept from then on. Fails only where a source does: CKPT_E_CORRUPT, CKPT_E_NOMEM, CKPT_E_LIMIT. */
ckpt_status ckpt_storage_data(unsigned char **out, ckpt_storage *s, ckpt_error *err);

/*
 * The bytes for one reading: what ckpt_storage_data has kept, what lies in place, or memory that the caller frees
 * (*owned, else NULL), so that nothing stays behind.
 */
ckpt_status ckpt_storage_read(const unsigned char **out, void **owned, ckpt_storage *s, ckpt_error *err);

/*
 * n bytes, zeroed, that are freed with the storage; the first who asks gets them, NULL where there are none. The one
 * tensor that most storages have lives there: one allocation in place of two.
 */
void *ckpt_storage_room(ckpt_storage *s, size_t n);

/* Whether the bytes lie somewhere: ckpt_storage_data then costs nothing and cannot fail. */
bool ckpt_storage_lies(const ckpt_storage *s);

/* n of the bytes that lie somewhere have been looked at and are done with (ckpt_mapping_used). */
void ckpt_storage_used(ckpt_storage *s, size_t n);

/* Whether ckpt_storage_range gives the bytes piece by piece, at no more than their own cost. */
bool ckpt_storage_streams(const ckpt_storage *s);

/* Of a storage that streams: the bytes from `at` on, which is a multiple of its element size; see the source's range.
 */
ckpt_status ckpt_storage_range(unsigned char *to, size_t *done, ckpt_storage *s, size_t at, size_t n, ckpt_error *err);

/*
 * Hints for a storage whose bytes lie in a mapping, nothing for any other: all of it will be read soon; the `size`
 * bytes at `at` have been read for now.
 */
bool ckpt_storage_is_mapped(const ckpt_storage *s);
void ckpt_storage_expect(const ckpt_storage *s);
void ckpt_storage_forget(const ckpt_storage *s, const void *at, size_t size);

/* The context of a storage that ckpt_storage_from made of `source`, NULL for any other. */
void *ckpt_storage_context(const ckpt_storage *s, const ckpt_storage_source *source);

#endif
