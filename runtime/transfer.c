/*
 * transfer.c - see transfer.h. The bytes are cut into as many equal shares as there are threads: a copy as long as it
 * can be is the fastest one, since the C library then writes past the caches. Read-ahead is asked for in advance, once
 * for each source.
 */
#include "transfer.h"

#include <stdlib.h>

#include "cast.h"
#include "parallel.h"

typedef struct source {
  const void *data;
  void *owned;
  unsigned char *to;
} source;

typedef struct piece { /* logical elements [start, start+count) of a move */
  size_t move;
  int64_t start, count;
} piece;

typedef struct transfer {
  const ckpt_move *moves;
  size_t n, bytes, share;
  source *sources;
  piece *pieces;
  size_t n_pieces;
} transfer;

/* ---- one after the other ---- */

static ckpt_status one_by_one(const ckpt_move *moves, size_t n, ckpt_error *err) {
  ckpt_status first = CKPT_OK;
  for (size_t i = 0; i < n; i++) {
    ckpt_status st = ckpt_tensor_copy(moves[i].to, moves[i].from, first == CKPT_OK ? err : NULL);
    if (first == CKPT_OK) first = st;
  }
  return first;
}

/* ---- what can be done at once ---- */

static bool is_simple(const ckpt_move *m) {
  return ckpt_tensor_check_writable(m->to, NULL) == CKPT_OK && !ckpt_tensor_is_meta(m->from) &&
         !ckpt_tensor_shares_storage(m->to, m->from) && ckpt_tensor_same_shape(m->to, m->from) &&
         ckpt_cast_check(ckpt_tensor_dtype(m->to), ckpt_tensor_dtype(m->from), NULL) == CKPT_OK &&
         ckpt_dtype_per_byte(ckpt_tensor_dtype(m->from)) == 1;
}

static int by_address(const void *pa, const void *pb) {
  const ckpt_tensor *const *a = pa, *const *b = pb;
  const void *x = NULL, *y = NULL;
  ckpt_tensor_data(&x, *a, NULL); /* a writable storage's bytes are there */
  ckpt_tensor_data(&y, *b, NULL);
  return (uintptr_t)x < (uintptr_t)y ? -1 : (uintptr_t)x > (uintptr_t)y;
}

static bool are_apart(const ckpt_tensor *a, const ckpt_tensor *b) {
  const void *x = NULL, *y = NULL;
  ckpt_tensor_data(&x, a, NULL);
  ckpt_tensor_data(&y, b, NULL);
  return (uintptr_t)y - (uintptr_t)x >= ckpt_tensor_nbytes(a);
}

/* Tied weights may be bound twice: then the order counts. */
static bool are_disjoint(const ckpt_move *moves, size_t n) {
  const ckpt_tensor **sorted = malloc((n + 1) * sizeof *sorted);
  if (sorted == NULL) return false;
  for (size_t i = 0; i < n; i++) sorted[i] = moves[i].to;
  qsort(sorted, n, sizeof *sorted, by_address);
  bool apart = true;
  for (size_t i = 1; apart && i < n; i++) apart = are_apart(sorted[i - 1], sorted[i]);
  free(sorted);
  return apart;
}

static bool can_spread(const ckpt_move *moves, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (!is_simple(&moves[i])) return false;
  return are_disjoint(moves, n);
}

/* ---- cutting ---- */

/* Elements in a share, in whole slices of the first dimension where a slice is smaller than that. */
static int64_t step_of(const transfer *t, const ckpt_tensor *from) {
  int64_t step = (int64_t)(t->share / ckpt_dtype_size(ckpt_tensor_dtype(from))), slice = ckpt_tensor_numel(from);
  if (ckpt_tensor_ndim(from) > 0 && slice > 0) slice /= ckpt_tensor_shape(from)[0];
  if (slice > 0 && step >= slice) step -= step % slice;
  return step < 1 ? 1 : step;
}

static size_t count_pieces(const transfer *t) {
  size_t n = 0;
  for (size_t i = 0; i < t->n; i++) {
    int64_t step = step_of(t, t->moves[i].from), numel = ckpt_tensor_numel(t->moves[i].from);
    n += (size_t)(numel / step + (numel % step != 0));
  }
  return n;
}

static void cut(transfer *t) {
  for (size_t i = 0; i < t->n; i++) {
    int64_t step = step_of(t, t->moves[i].from), numel = ckpt_tensor_numel(t->moves[i].from);
    for (int64_t at = 0; at < numel; at += step)
      t->pieces[t->n_pieces++] = (piece){i, at, numel - at < step ? numel - at : step};
  }
}

static ckpt_status read_sources(transfer *t, ckpt_error *err) {
  for (size_t i = 0; i < t->n; i++) {
    const void *to = NULL;
    source *s = &t->sources[i];
    CKPT_TRY(ckpt_tensor_data(&to, t->moves[i].to, err));
    CKPT_TRY(ckpt_tensor_read(&s->data, &s->owned, t->moves[i].from, err));
    s->to = (unsigned char *)(uintptr_t)to; /* can_spread saw that it is writable */
    ckpt_storage_expect(ckpt_tensor_storage(t->moves[i].from));
  }
  return CKPT_OK;
}

/* ---- copying ---- */

static void copy_piece(void *context, size_t i) {
  const transfer *t = context;
  const piece *p = &t->pieces[i];
  const ckpt_move *m = &t->moves[p->move];
  const source *s = &t->sources[p->move];
  ckpt_dtype dtype = ckpt_tensor_dtype(m->to);
  ckpt_tensor_cast_range(s->to + (size_t)p->start * ckpt_dtype_size(dtype), dtype, m->from, s->data, p->start,
                         p->count);
}

static ckpt_status run(transfer *t, unsigned threads, ckpt_error *err) {
  t->share = t->bytes / threads + 4096;
  t->pieces = malloc((count_pieces(t) + 1) * sizeof *t->pieces);
  if (t->sources == NULL || t->pieces == NULL) return one_by_one(t->moves, t->n, err);
  CKPT_TRY(read_sources(t, err));
  cut(t);
  ckpt_parallel(copy_piece, t, t->n_pieces, threads);
  return CKPT_OK;
}

ckpt_status ckpt_transfer(const ckpt_move *moves, size_t n, ckpt_error *err) {
  transfer t = {.moves = moves, .n = n};
  for (size_t i = 0; i < n; i++) t.bytes += ckpt_tensor_nbytes(moves[i].from);
  unsigned threads = ckpt_parallel_threads(t.bytes);
  if (threads < 2 || !can_spread(moves, n)) return one_by_one(moves, n, err);
  t.sources = calloc(n + 1, sizeof *t.sources);
  ckpt_status st = run(&t, threads, err);
  for (size_t i = 0; t.sources != NULL && i < n; i++) free(t.sources[i].owned);
  free(t.sources);
  free(t.pieces);
  return st;
}
