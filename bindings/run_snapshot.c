/*
 * run_snapshot.c - a copy of the bound arrays at one moment, for a save that goes on while the trainer does.
 *
 * Copying was chosen over a forked child with copy-on-write pages: a fork stalls less (page tables only: 5 ms for
 * 553 MB where the copy takes 60), but each page that the trainer then writes costs a fault, the child of a
 * program with threads may call next to nothing, and device memory does not fork. So: always a copy, into memory
 * that is kept, on all cores. `make bench` measures both.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "parallel.h"
#include "ptrmap.h"
#include "run.h"
#include "tensor.h"

enum { ALIGNMENT = 64, PIECE = 4 << 20 };

typedef struct part { /* one bound memory and its place in the snapshot */
  ckpt_storage *from, *to;
  const unsigned char *data;
  size_t at, size;
} part;

typedef struct freezer {
  ckpt_checkpointer *cp;
  const ckpt_strings *parts;
  ckpt_snapshot *snapshot;
  ckpt_ptrmap seen; /* storage -> its part */
  part *list;
  size_t n;
  ckpt_error *err;
} freezer;

/* ---- memory ---- */

static size_t padded(size_t size) { return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

void ckpt_snapshot_free(ckpt_snapshot *s) {
  if (s->bytes != NULL) munmap(s->bytes, s->capacity);
  *s = (ckpt_snapshot){0};
}

/* Huge pages: fewer faults the first time. */
ckpt_status ckpt_snapshot_reserve(ckpt_snapshot *s, size_t size, ckpt_error *err) {
  if (size <= s->capacity) return CKPT_OK;
  ckpt_snapshot_free(s);
  void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return ckpt_fail_nomem(err, size);
  madvise(p, size, MADV_HUGEPAGE);
  *s = (ckpt_snapshot){p, size};
  return CKPT_OK;
}

/* ---- what there is to copy ---- */

static bool is_wanted(const ckpt_slot *slot, const ckpt_strings *parts) {
  return slot->kind == CKPT_SLOT_TENSOR && (parts == NULL || ckpt_strings_has(parts, slot->group));
}

/* An upper bound: memory that is bound twice counts twice. */
size_t ckpt_snapshot_size(const ckpt_checkpointer *cp, const ckpt_strings *parts) {
  size_t size = 0;
  for (size_t i = 0; i < cp->n_slots; i++)
    if (is_wanted(cp->slots[i], parts)) size += padded(ckpt_storage_size(ckpt_tensor_storage(cp->slots[i]->tensor)));
  return size;
}

static ckpt_status add_part(freezer *f, ckpt_storage *from, size_t *at) {
  unsigned char *data = NULL;
  part *p = &f->list[f->n];
  if (ckpt_ptrmap_get(&f->seen, from) != SIZE_MAX) return CKPT_OK;
  CKPT_TRY(ckpt_storage_data(&data, from, f->err));
  *p = (part){from, NULL, data, *at, ckpt_storage_size(from)};
  CKPT_TRY(ckpt_storage_borrow(&p->to, f->snapshot->bytes + *at, p->size, f->err));
  *at += padded(p->size);
  return ckpt_ptrmap_set(&f->seen, from, f->n++, f->err);
}

static ckpt_status add_parts(freezer *f) {
  size_t at = 0;
  f->list = calloc(f->cp->n_slots + 1, sizeof *f->list);
  if (f->list == NULL) return ckpt_fail_nomem(f->err, (f->cp->n_slots + 1) * sizeof *f->list);
  for (size_t i = 0; i < f->cp->n_slots; i++) {
    const ckpt_slot *slot = f->cp->slots[i];
    if (is_wanted(slot, f->parts)) CKPT_TRY(add_part(f, ckpt_tensor_storage(slot->tensor), &at));
  }
  return CKPT_OK;
}

static ckpt_status add_views(freezer *f) {
  for (size_t i = 0; i < f->cp->n_slots; i++) {
    ckpt_slot *slot = f->cp->slots[i];
    if (!is_wanted(slot, f->parts)) continue;
    ckpt_tensor_spec spec = ckpt_tensor_spec_of(slot->tensor);
    size_t n = ckpt_ptrmap_get(&f->seen, ckpt_tensor_storage(slot->tensor));
    CKPT_TRY(ckpt_tensor_make(&slot->frozen, f->list[n].to, &spec, f->err));
  }
  return CKPT_OK;
}

/* ---- copying ---- */

typedef struct piece {
  unsigned char *to;
  const unsigned char *from;
  size_t size;
} piece;

static void copy_piece(void *context, size_t i) {
  const piece *p = (const piece *)context + i;
  memcpy(p->to, p->from, p->size);
}

static size_t count_pieces(const freezer *f, size_t *bytes) {
  size_t n = 0;
  *bytes = 0;
  for (size_t i = 0; i < f->n; i++) {
    n += (f->list[i].size + PIECE - 1) / PIECE;
    *bytes += f->list[i].size;
  }
  return n;
}

static ckpt_status copy(freezer *f) {
  size_t bytes, n = count_pieces(f, &bytes), k = 0;
  piece *pieces = malloc((n + 1) * sizeof *pieces);
  if (pieces == NULL) return ckpt_fail_nomem(f->err, (n + 1) * sizeof *pieces);
  for (size_t i = 0; i < f->n; i++)
    for (size_t at = 0; at < f->list[i].size; at += PIECE) {
      size_t size = f->list[i].size - at < PIECE ? f->list[i].size - at : PIECE;
      pieces[k++] = (piece){f->snapshot->bytes + f->list[i].at + at, f->list[i].data + at, size};
    }
  ckpt_parallel(copy_piece, pieces, k, ckpt_parallel_threads(bytes));
  free(pieces);
  return CKPT_OK;
}

/* ---- freezing ---- */

void ckpt_snapshot_thaw(ckpt_checkpointer *cp) {
  for (size_t i = 0; i < cp->n_slots; i++) {
    ckpt_tensor_release(cp->slots[i]->frozen);
    cp->slots[i]->frozen = NULL;
  }
}

ckpt_status ckpt_snapshot_freeze(ckpt_snapshot *s, ckpt_checkpointer *cp, const ckpt_strings *parts, ckpt_error *err) {
  freezer f = {.cp = cp, .parts = parts, .snapshot = s, .err = err};
  ckpt_status st = ckpt_snapshot_reserve(s, ckpt_snapshot_size(cp, parts), err);
  if (st == CKPT_OK) st = add_parts(&f);
  if (st == CKPT_OK) st = add_views(&f);
  if (st == CKPT_OK) st = copy(&f);
  if (st != CKPT_OK) ckpt_snapshot_thaw(cp);
  for (size_t i = 0; f.list != NULL && i < f.n; i++) ckpt_storage_release(f.list[i].to);
  ckpt_ptrmap_free(&f.seen);
  free(f.list);
  return st;
}
