/*
 * align.c - suffix alignment in near-linear time.
 *
 * Reversed, "w is a suffix of m" becomes "w is a prefix of m", and in sorted order the prefixes of a string come before
 * it. So both lists are sorted by their reversed bytes and swept once; a stack holds the sources that are prefixes of
 * each other, and what is left on it at a target are exactly the sources that are suffixes of that target.
 *
 * Keys of a model share long ends ("...conv1.weight"), which a sort by comparison would read again and again. Here
 * eight bytes at a time are sorted as one number, and only names that agree in them go on to the next eight.
 */
#include "base.h"

#include <stdlib.h>

enum { AHEAD = 12 }; /* names to ask the memory for in advance */

typedef struct name {
  const char *end; /* behind the last byte */
  size_t n;
  size_t rank; /* number among the sources; the targets come behind them */
  uint64_t key;
} name;

typedef struct group { /* names that agree in their last `depth` bytes, with the keys of the next eight */
  size_t first, n, depth;
} group;

/* Eight bytes, the last first, from `depth` bytes before the end; zeros where the name is over (it holds none). */
static uint64_t key_at(const name *a, size_t depth) {
  size_t left = a->n - depth;
  uint64_t key = 0;
  if (left >= 8) return ckpt_le64(a->end - depth - 8);
  for (size_t i = 0; i < left; i++) key |= (uint64_t)(unsigned char)a->end[-1 - (ptrdiff_t)(depth + i)] << (56 - 8 * i);
  return key;
}

static void swap(name *a, name *b) {
  name kept = *a;
  *a = *b;
  *b = kept;
}

/* The names lie anywhere by now: each is asked for while those before it are looked at. */
static void load_keys(name *names, group g) {
  name *first = names + g.first;
  for (size_t i = 0; i < g.n; i++) {
    if (i + AHEAD < g.n) __builtin_prefetch(first[i + AHEAD].end - (ptrdiff_t)g.depth - 1);
    first[i].key = key_at(&first[i], g.depth);
  }
}

/* Chosen by a hash, so that no usual order of names is a bad one. */
static uint64_t pivot(const name *names, group g) {
  return names[g.first + (size_t)((g.first + g.n * 31 + g.depth) * UINT64_C(0x9e3779b97f4a7c15) >> 32) % g.n].key;
}

/* Puts smaller keys before `key` and larger ones behind it; `middle` becomes the group of the equal ones. */
static void partition(name *names, group g, uint64_t key, group *middle) {
  size_t low = g.first, high = g.first + g.n;
  for (size_t i = low; i < high;) {
    if (names[i].key < key)
      swap(&names[i++], &names[low++]);
    else if (names[i].key > key)
      swap(&names[i], &names[--high]);
    else
      i++;
  }
  *middle = (group){low, high - low, g.depth};
}

static int by_rank(const void *pa, const void *pb) {
  const name *a = pa, *b = pb;
  return a->rank < b->rank ? -1 : a->rank > b->rank;
}

/* Names with the same eight bytes: either they are over, and equal, or the next eight decide. */
static void descend(name *names, group g, group *todo, size_t *pending) {
  if (g.n < 2) return;
  if ((names[g.first].key & 0xff) == 0) {
    qsort(names + g.first, g.n, sizeof *names, by_rank);
    return;
  }
  g.depth += 8;
  load_keys(names, g);
  todo[(*pending)++] = g;
}

/* By reversed bytes; of equal names the sources first, and those in their own order. `todo` has room for n/2 + 1. */
static void sort(name *names, size_t n, group *todo) {
  size_t pending = 0;
  todo[pending++] = (group){0, n, 0};
  load_keys(names, todo[0]);
  while (pending > 0) {
    group g = todo[--pending], middle;
    if (g.n < 2) continue;
    partition(names, g, pivot(names, g), &middle);
    group low = {g.first, middle.first - g.first, g.depth};
    group high = {middle.first + middle.n, g.n - low.n - middle.n, g.depth};
    if (low.n > 1) todo[pending++] = low;
    if (high.n > 1) todo[pending++] = high;
    descend(names, middle, todo, &pending);
  }
}

static bool is_suffix(const name *a, const name *of) {
  return a->n <= of->n && memcmp(a->end - a->n, of->end - a->n, a->n) == 0;
}

static bool at_boundary(const name *target, const name *source, char boundary) {
  if (boundary == '\0' || source->n == target->n) return true;
  return source->n > 0 && target->end[-1 - (ptrdiff_t)source->n] == boundary;
}

/* The longest source on the stack that fits; the stack is no deeper than the target is long. */
static size_t pick(const name *target, const name *names, const size_t *stack, size_t depth, char boundary) {
  while (depth > 0 && !at_boundary(target, &names[stack[depth - 1]], boundary)) depth--;
  return depth == 0 ? SIZE_MAX : names[stack[depth - 1]].rank;
}

static void sweep(size_t *out, const name *names, size_t n, size_t n_sources, size_t *stack, char boundary) {
  size_t depth = 0;
  for (size_t i = 0; i < n; i++) {
    if (i + AHEAD < n) __builtin_prefetch(names[i + AHEAD].end - 1);
    while (depth > 0 && !is_suffix(&names[stack[depth - 1]], &names[i])) depth--;
    if (names[i].rank >= n_sources) {
      out[names[i].rank - n_sources] = pick(&names[i], names, stack, depth, boundary);
      continue;
    }
    if (depth > 0 && names[stack[depth - 1]].n == names[i].n) depth--; /* equal: the last wins, the stack stays short */
    stack[depth++] = i;
  }
}

static void fill(name *names, size_t n, const char *const *texts, size_t rank) {
  for (size_t i = 0; i < n; i++) {
    size_t length = strlen(texts[i]);
    names[i] = (name){texts[i] + length, length, rank + i, 0};
  }
}

ckpt_status ckpt_align(size_t **out, size_t n_targets, const char *const *targets, size_t n_sources,
                       const char *const *sources, char boundary, ckpt_error *err) {
  size_t n = n_targets + n_sources;
  name *names = calloc(n + 1, sizeof *names);
  group *todo = calloc(n / 2 + 1, sizeof *todo);
  size_t *found = calloc(n_targets + 1, sizeof *found), *stack = calloc(n + 1, sizeof *stack);
  ckpt_status st = CKPT_OK;
  if (names == NULL || todo == NULL || found == NULL || stack == NULL) {
    free(found);
    st = ckpt_fail_nomem(err, n * sizeof *names);
  } else {
    fill(names, n_sources, sources, 0);
    fill(names + n_sources, n_targets, targets, n_sources);
    sort(names, n, todo);
    sweep(found, names, n, n_sources, stack, boundary);
    *out = found;
  }
  free(names);
  free(todo);
  free(stack);
  return st;
}
