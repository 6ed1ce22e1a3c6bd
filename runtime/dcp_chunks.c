/* dcp_chunks.c - see dcp_chunks.h. */
#include "dcp_chunks.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- checks ---- */

typedef struct dims_text {
  char text[120];
} dims_text;

/* "(2, 3)", cut where it gets long. */
static dims_text show(const int64_t *dims, int n) {
  dims_text t = {"("};
  size_t at = 1;
  for (int i = 0; i < n && at < sizeof t.text - 30; i++)
    at += (size_t)snprintf(t.text + at, sizeof t.text - at, i == 0 ? "%lld" : ", %lld", (long long)dims[i]);
  snprintf(t.text + at, sizeof t.text - at, n == 1 ? ",)" : ")");
  return t;
}

static bool is_empty(const int64_t *sizes, int n) {
  for (int i = 0; i < n; i++)
    if (sizes[i] == 0) return true;
  return false;
}

static ckpt_status check_inside(const ckpt_dcp_entry *e, size_t i, ckpt_error *err) {
  const ckpt_dcp_chunk *c = &e->chunks[i];
  for (int d = 0; d < e->ndim; d++)
    if (c->offsets[d] > e->shape[d] || c->sizes[d] > e->shape[d] - c->offsets[d])
      return ckpt_fail(err, CKPT_E_CORRUPT, -1, "chunk %zu, at %s of size %s, reaches outside the tensor of size %s", i,
                       show(c->offsets, e->ndim).text, show(c->sizes, e->ndim).text, show(e->shape, e->ndim).text);
  return CKPT_OK;
}

static bool overlap(const ckpt_dcp_entry *e, size_t a, size_t b) {
  const ckpt_dcp_chunk *p = &e->chunks[a], *q = &e->chunks[b];
  for (int d = 0; d < e->ndim; d++)
    if (p->offsets[d] >= q->offsets[d] + q->sizes[d] || q->offsets[d] >= p->offsets[d] + p->sizes[d]) return false;
  return true;
}

typedef struct order { /* the chunks that hold anything, by their offset in one dimension */
  const ckpt_dcp_entry *entry;
  size_t *items;
  size_t n;
  int dim;
} order;

static int by_offset(const void *a, const void *b, void *context) {
  const order *o = context;
  int64_t x = o->entry->chunks[*(const size_t *)a].offsets[o->dim];
  int64_t y = o->entry->chunks[*(const size_t *)b].offsets[o->dim];
  return (x > y) - (x < y);
}

static void sort(order *o, int dim) {
  o->dim = dim;
  qsort_r(o->items, o->n, sizeof *o->items, by_offset, o);
}

/* The dimension in which the chunks begin at the most places: along it the fewest lie side by side. */
static void choose_dim(order *o) {
  size_t best = 0;
  int dim = 0;
  for (int d = 0; d < o->entry->ndim; d++) {
    size_t places = 1;
    sort(o, d);
    for (size_t i = 1; i < o->n; i++) places += by_offset(&o->items[i - 1], &o->items[i], o) != 0;
    if (places <= best) continue;
    best = places;
    dim = d;
  }
  sort(o, dim);
}

/* Compares each chunk with those that begin before it ends. */
static ckpt_status sweep(const order *o, ckpt_error *err) {
  const ckpt_dcp_chunk *chunks = o->entry->chunks;
  size_t budget = 1000000 + 256 * o->n;
  for (size_t i = 0; i < o->n; i++) {
    const ckpt_dcp_chunk *c = &chunks[o->items[i]];
    for (size_t k = i + 1; k < o->n && chunks[o->items[k]].offsets[o->dim] < c->offsets[o->dim] + c->sizes[o->dim];
         k++) {
      if (overlap(o->entry, o->items[i], o->items[k]))
        return ckpt_fail(err, CKPT_E_CORRUPT, -1, "the chunks at %s and at %s overlap",
                         show(c->offsets, o->entry->ndim).text, show(chunks[o->items[k]].offsets, o->entry->ndim).text);
      if (budget-- == 0)
        return ckpt_fail(err, CKPT_E_LIMIT, -1, "%zu chunks lie in too many places to be checked", o->n);
    }
  }
  return CKPT_OK;
}

static ckpt_status check_overlaps(const ckpt_dcp_entry *e, ckpt_error *err) {
  order o = {.entry = e, .items = malloc((e->n_chunks + 1) * sizeof *o.items)};
  if (o.items == NULL) return ckpt_fail_nomem(err, e->n_chunks * sizeof *o.items);
  for (size_t i = 0; i < e->n_chunks; i++)
    if (!is_empty(e->chunks[i].sizes, e->ndim)) o.items[o.n++] = i;
  choose_dim(&o);
  ckpt_status st = sweep(&o, err);
  free(o.items);
  return st;
}

/* Without overlaps, chunks inside the tensor are complete if they hold as many elements. */
static ckpt_status check_sum(const ckpt_dcp_entry *e, int64_t numel, ckpt_error *err) {
  int64_t sum = 0;
  for (size_t i = 0; i < e->n_chunks; i++) {
    int64_t n = 1;
    for (int d = 0; d < e->ndim; d++) n *= e->chunks[i].sizes[d]; /* at most numel: it lies inside */
    sum += n;
  }
  if (sum == numel) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "the chunks hold %lld of the tensor's %lld elements", (long long)sum,
                   (long long)numel);
}

ckpt_status ckpt_dcp_check_chunks(const ckpt_dcp_entry *e, ckpt_error *err) {
  ckpt_tensor *meta = NULL;
  CKPT_TRY(ckpt_tensor_meta(&meta, e->dtype, e->ndim, e->shape, err)); /* its number of elements is a number */
  int64_t numel = ckpt_tensor_numel(meta);
  ckpt_tensor_release(meta);
  for (size_t i = 0; i < e->n_chunks; i++) CKPT_TRY(check_inside(e, i, err));
  if (numel == 0) return CKPT_OK;
  if (e->ndim > 0) CKPT_TRY(check_overlaps(e, err));
  return check_sum(e, numel, err);
}

bool ckpt_dcp_is_whole(const ckpt_dcp_entry *e) {
  return e->n_chunks == 1 && e->chunks[0].item != NULL &&
         (e->ndim == 0 || memcmp(e->chunks[0].sizes, e->shape, (size_t)e->ndim * sizeof *e->shape) == 0);
}

/* ---- the lazily assembled storage ---- */

typedef struct assembly {
  size_t n, bytes, element;
  int ndim;
  ckpt_tensor **parts;
  int64_t *numbers; /* shape[ndim], then offsets[ndim] of each part */
} assembly;

static void drop(void *context) {
  assembly *a = context;
  for (size_t i = 0; i < a->n; i++) ckpt_tensor_release(a->parts[i]);
  free(a->parts);
  free(a->numbers);
  free(a);
}

/* Rows are as long as possible: dimensions that the part spans whole belong to them. */
static void paste(unsigned char *to, const assembly *a, const ckpt_tensor *t, const void *from,
                  const int64_t *offsets) {
  const int64_t *full = a->numbers, *sizes = ckpt_tensor_shape(t);
  int last = a->ndim - 1;
  int64_t run = sizes[last], strides[CKPT_MAX_DIMS];
  strides[last] = 1;
  for (int d = last - 1; d >= 0; d--) strides[d] = strides[d + 1] * full[d + 1];
  while (last > 0 && sizes[last] == full[last]) run *= sizes[--last];
  int64_t rows = ckpt_tensor_numel(t) / run;
  for (int64_t r = 0; r < rows; r++) {
    int64_t at = offsets[last] * strides[last], rest = r;
    for (int d = last - 1; d >= 0; d--) {
      at += (offsets[d] + rest % sizes[d]) * strides[d];
      rest /= sizes[d];
    }
    ckpt_tensor_gather(to + (size_t)at * a->element, t, from, r * run, run);
  }
}

static ckpt_status paste_all(unsigned char *to, const assembly *a, ckpt_error *err) {
  for (size_t i = 0; i < a->n; i++) {
    const void *from = NULL;
    if (a->parts[i] == NULL || ckpt_tensor_numel(a->parts[i]) == 0) continue;
    CKPT_TRY(ckpt_tensor_data(&from, a->parts[i], err));
    paste(to, a, a->parts[i], from, a->numbers + (i + 1) * (size_t)a->ndim);
  }
  return CKPT_OK;
}

static ckpt_status fetch(unsigned char **out, bool *heap, void *context, ckpt_error *err) {
  const assembly *a = context;
  unsigned char *bytes = malloc(a->bytes == 0 ? 1 : a->bytes);
  if (bytes == NULL) return ckpt_fail_nomem(err, a->bytes);
  ckpt_status st = paste_all(bytes, a, err);
  if (st != CKPT_OK) {
    free(bytes);
    return st;
  }
  *out = bytes;
  *heap = true;
  return CKPT_OK;
}

static const ckpt_storage_source assembly_source = {.fetch = fetch, .drop = drop};

static assembly *new_assembly(const ckpt_dcp_entry *e, size_t bytes) {
  size_t ndim = (size_t)e->ndim;
  assembly *a = calloc(1, sizeof *a);
  if (a == NULL) return NULL;
  *a = (assembly){.bytes = bytes, .element = ckpt_dtype_size(e->dtype), .ndim = e->ndim};
  a->parts = calloc(e->n_chunks + 1, sizeof(ckpt_tensor *));
  a->numbers = calloc((e->n_chunks + 1) * (ndim == 0 ? 1 : ndim), sizeof(int64_t));
  if (a->parts != NULL && a->numbers != NULL) return a;
  drop(a);
  return NULL;
}

static void fill(assembly *a, const ckpt_dcp_entry *e, ckpt_tensor *const *parts) {
  size_t ndim = (size_t)e->ndim, each = ndim * sizeof(int64_t);
  if (ndim > 0) memcpy(a->numbers, e->shape, each);
  for (size_t i = 0; i < e->n_chunks; i++) {
    if (ndim > 0) memcpy(a->numbers + (i + 1) * ndim, e->chunks[i].offsets, each);
    a->parts[i] = parts[i] == NULL ? NULL : ckpt_tensor_retain(parts[i]);
  }
  a->n = e->n_chunks;
}

/* What a chunk must be for its elements to be copied. */
static ckpt_status check_parts(const ckpt_dcp_entry *e, ckpt_tensor *const *parts, ckpt_error *err) {
  if (ckpt_dtype_rebuild(e->dtype) == CKPT_REBUILD_Q)
    return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "a %s tensor in chunks: each has a scale of its own",
                     ckpt_dtype_name(e->dtype));
  for (size_t i = 0; i < e->n_chunks; i++)
    if (parts[i] != NULL) CKPT_TRY(ckpt_tensor_check_spread(parts[i], err));
  return CKPT_OK;
}

ckpt_status ckpt_dcp_join(ckpt_tensor **out, const ckpt_dcp_entry *e, ckpt_tensor *const *parts, ckpt_error *err) {
  ckpt_tensor_spec spec = {.dtype = e->dtype, .ndim = e->ndim, .shape = e->shape, .requires_grad = e->requires_grad};
  ckpt_tensor *meta = NULL;
  ckpt_storage *s = NULL;
  CKPT_TRY(check_parts(e, parts, err));
  CKPT_TRY(ckpt_tensor_make(&meta, NULL, &spec, err));
  size_t bytes = ckpt_tensor_nbytes(meta);
  ckpt_tensor_release(meta);
  assembly *a = new_assembly(e, bytes);
  if (a == NULL) return ckpt_fail_nomem(err, e->n_chunks * sizeof(ckpt_tensor *));
  fill(a, e, parts);
  CKPT_TRY(ckpt_storage_from(&s, bytes, &assembly_source, a, err));
  ckpt_status st = ckpt_tensor_make(out, s, &spec, err);
  ckpt_storage_release(s);
  return st;
}
