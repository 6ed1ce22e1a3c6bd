/*
 * align.c - suffix alignment in near-linear time.
 *
 * Reversed, "w is a suffix of m" becomes "w is a prefix of m", and in sorted order the prefixes of a string come before
 * it. So both lists are sorted by their reversed bytes and swept once; a stack holds the sources that are prefixes of
 * each other, and what is left on it at a target are exactly the sources that are suffixes of that target.
 */
#include "base.h"

#include <stdlib.h>

typedef struct name {
  const char *end; /* behind the last byte */
  size_t n, index;
  bool is_target;
} name;

/* How many bytes two names have in common at their ends. */
static size_t common(const name *a, const name *b) {
  size_t n = a->n < b->n ? a->n : b->n, i = 0;
  while (i < n && a->end[-1 - (ptrdiff_t)i] == b->end[-1 - (ptrdiff_t)i]) i++;
  return i;
}

static bool is_suffix(const name *a, const name *of) { return common(a, of) == a->n; }

/* By reversed bytes; of equal names the sources first, and those in their own order. */
static int compare(const void *pa, const void *pb) {
  const name *a = pa, *b = pb;
  size_t i = common(a, b);
  if (i < a->n && i < b->n)
    return (unsigned char)a->end[-1 - (ptrdiff_t)i] < (unsigned char)b->end[-1 - (ptrdiff_t)i] ? -1 : 1;
  if (a->n != b->n) return a->n < b->n ? -1 : 1;
  if (a->is_target != b->is_target) return a->is_target ? 1 : -1;
  return a->index < b->index ? -1 : a->index > b->index;
}

static bool at_boundary(const name *target, const name *source, char boundary) {
  if (boundary == '\0' || source->n == target->n) return true;
  return source->n > 0 && target->end[-1 - (ptrdiff_t)source->n] == boundary;
}

static void fill(name *names, size_t n, const char *const *texts, bool is_target) {
  for (size_t i = 0; i < n; i++) {
    size_t length = strlen(texts[i]);
    names[i] = (name){texts[i] + length, length, i, is_target};
  }
}

/* The longest source on the stack that fits; the stack is no deeper than the target is long. */
static size_t pick(const name *target, const name *names, const size_t *stack, size_t depth, char boundary) {
  while (depth > 0 && !at_boundary(target, &names[stack[depth - 1]], boundary)) depth--;
  return depth == 0 ? SIZE_MAX : names[stack[depth - 1]].index;
}

static void sweep(size_t *out, const name *names, size_t n, size_t *stack, char boundary) {
  size_t depth = 0;
  for (size_t i = 0; i < n; i++) {
    while (depth > 0 && !is_suffix(&names[stack[depth - 1]], &names[i])) depth--;
    if (names[i].is_target) {
      out[names[i].index] = pick(&names[i], names, stack, depth, boundary);
      continue;
    }
    if (depth > 0 && names[stack[depth - 1]].n == names[i].n)
      depth--; /* an equal source: the last wins, and the stack stays short */
    stack[depth++] = i;
  }
}

ckpt_status ckpt_align(size_t **out, size_t n_targets, const char *const *targets, size_t n_sources,
                       const char *const *sources, char boundary, ckpt_error *err) {
  size_t n = n_targets + n_sources;
  name *names = calloc(n + 1, sizeof *names);
  size_t *found = calloc(n_targets + 1, sizeof *found), *stack = calloc(n + 1, sizeof *stack);
  ckpt_status st = CKPT_OK;
  if (names == NULL || found == NULL || stack == NULL) {
    free(found);
    st = ckpt_fail_nomem(err, n * sizeof *names);
  } else {
    fill(names, n_sources, sources, false);
    fill(names + n_sources, n_targets, targets, true);
    qsort(names, n, sizeof *names, compare);
    sweep(found, names, n, stack, boundary);
    *out = found;
  }
  free(names);
  free(stack);
  return st;
}
