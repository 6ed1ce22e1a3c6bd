/* strided.c - see strided.h. */
#include "strided.h"

/* Dimensions that matter, innermost first: those of size 1 are gone, those that run on in both regions are one. */
typedef struct loops {
  int n;
  int64_t size[CKPT_MAX_DIMS], to[CKPT_MAX_DIMS], from[CKPT_MAX_DIMS];
} loops;

static void add_loop(loops *l, int64_t size, int64_t to, int64_t from) {
  int last = l->n - 1;
  if (size == 1) return;
  if (last >= 0 && to == l->to[last] * l->size[last] && from == l->from[last] * l->size[last]) {
    l->size[last] *= size;
    return;
  }
  l->size[l->n] = size;
  l->to[l->n] = to;
  l->from[l->n++] = from;
}

/* ---- one run of elements; the steps are in bytes ---- */

#define RUN(bytes)                                                      \
  case bytes:                                                           \
    for (int64_t i = 0; i < n; i++, to += to_step, from += from_step) { \
      memcpy(to, from, bytes);                                          \
    }                                                                   \
    break

static void copy_run(unsigned char *to, int64_t to_step, const unsigned char *from, int64_t from_step, int64_t n,
                     size_t size) {
  if (to_step == (int64_t)size && from_step == (int64_t)size) {
    memcpy(to, from, (size_t)n * size);
    return;
  }
  switch (size) {
    RUN(1);
    RUN(2);
    RUN(4);
    RUN(8);
    default: /* 16, the largest dtype */
      for (int64_t i = 0; i < n; i++, to += to_step, from += from_step) memcpy(to, from, size);
  }
}

/* ---- all runs ---- */

/*
 * A transpose reads down columns: taken in bands of the innermost two dimensions, each line of memory is fetched once
 * and not once for every element in it. The second loop becomes TILE wide, a third goes over the bands.
 */
enum { TILE = 16 };

static bool reads_columns(const loops *l) {
  return l->n >= 2 && l->n < CKPT_MAX_DIMS && l->from[0] != 1 && l->from[1] == 1 && l->size[1] % TILE == 0 &&
         l->size[1] > TILE;
}

/* [.., size, n] becomes [.., size/TILE, n, TILE]: the order in which elements are copied is free. */
static void tile(loops *l) {
  for (int i = l->n; i > 2; i--) {
    l->size[i] = l->size[i - 1];
    l->to[i] = l->to[i - 1];
    l->from[i] = l->from[i - 1];
  }
  int64_t rows = l->size[0], to = l->to[0], from = l->from[0];
  l->n++;
  l->size[2] = l->size[1] / TILE;
  l->to[2] = l->to[1] * TILE;
  l->from[2] = l->from[1] * TILE;
  l->size[0] = TILE;
  l->to[0] = l->to[1];
  l->from[0] = l->from[1];
  l->size[1] = rows;
  l->to[1] = to;
  l->from[1] = from;
}

static void run_loops(const loops *l, unsigned char *to, const unsigned char *from, size_t size) {
  int64_t index[CKPT_MAX_DIMS] = {0}, bytes = (int64_t)size;
  for (;;) {
    copy_run(to, l->to[0] * bytes, from, l->from[0] * bytes, l->size[0], size);
    int d = 1;
    while (d < l->n && ++index[d] == l->size[d]) {
      to -= (l->size[d] - 1) * l->to[d] * bytes;
      from -= (l->size[d] - 1) * l->from[d] * bytes;
      index[d++] = 0;
    }
    if (d >= l->n) return;
    to += l->to[d] * bytes;
    from += l->from[d] * bytes;
  }
}

void ckpt_strided_copy(unsigned char *to, const int64_t *to_stride, ckpt_region from, int ndim, const int64_t *shape,
                       size_t size) {
  loops l = {.n = 0};
  for (int i = ndim - 1; i >= 0; i--) {
    if (shape[i] == 0) return;
    add_loop(&l, shape[i], to_stride[i], from.stride[i]);
  }
  if (l.n == 0) {
    memcpy(to, from.at, size);
    return;
  }
  if (reads_columns(&l)) tile(&l);
  run_loops(&l, to, from.at, size);
}

void ckpt_strided_rows(int64_t *stride, int ndim, const int64_t *shape) {
  int64_t run = 1;
  for (int i = ndim - 1; i >= 0; i--) {
    stride[i] = run;
    if (shape[i] > 1) run *= shape[i];
  }
}

void ckpt_strided_fill(unsigned char *to, size_t n, const void *element, size_t size) {
  const unsigned char *bytes = element;
  bool same = true;
  for (size_t i = 1; i < size; i++) same &= bytes[i] == bytes[0];
  if (same) {
    if (n > 0) memset(to, bytes[0], n * size);
    return;
  }
  for (size_t i = 0; i < n; i++) memcpy(to + i * size, element, size);
}
