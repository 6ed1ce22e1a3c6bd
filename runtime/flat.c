/* flat.c - see flat.h. */
#include "flat.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- what is there ---- */

static size_t count_names(const ckpt_listing *listing) {
  size_t n = 0;
  for (size_t i = 0; i < ckpt_listing_count(listing); i++) n += 1 + ckpt_listing_entry_at(listing, i)->n_aliases;
  return n;
}

static void add_names(ckpt_flat *f, const ckpt_listing_entry *e) {
  for (size_t i = 0; i <= e->n_aliases; i++) {
    const char *name = i == 0 ? e->path : e->aliases[i - 1];
    f->tensors[f->n] = (ckpt_flat_tensor){name, e->value, e->storage, f->n, false};
    f->n++;
  }
}

static void add_paths(const char **list, size_t *n, const ckpt_listing_entry *e) {
  list[(*n)++] = e->path;
  for (size_t i = 0; i < e->n_aliases; i++) list[(*n)++] = e->aliases[i];
}

static bool is_container(const ckpt_value *v) {
  return v->kind == CKPT_DICT || v->kind == CKPT_LIST || v->kind == CKPT_TUPLE;
}

/* An empty container as a whole is a flat dict without tensors: nothing of it is lost. */
static void sort_out(ckpt_flat *f, const ckpt_value *root, ckpt_flat_takes takes) {
  for (size_t i = 0; i < ckpt_listing_count(f->listing); i++) {
    const ckpt_listing_entry *e = ckpt_listing_entry_at(f->listing, i);
    const ckpt_tensor *t = ckpt_value_tensor(e->value);
    if (e->value == root && is_container(root)) continue;
    if (t == NULL)
      add_paths(f->lost, &f->n_lost, e);
    else if (takes(t))
      add_names(f, e);
    else
      add_paths(f->alien, &f->n_alien, e);
  }
}

/* ---- sharing ---- */

/* The bytes of a storage that a view reaches. */
typedef struct extent {
  const ckpt_flat_tensor *of;
  const ckpt_tensor *tensor;
  size_t number;
  int64_t begin, end;
} extent;

static extent extent_of(const ckpt_flat *f, size_t i) {
  const ckpt_tensor *t = ckpt_value_tensor(f->tensors[i].value);
  int64_t size = (int64_t)ckpt_dtype_size(ckpt_tensor_dtype(t)), last = ckpt_tensor_offset(t);
  bool empty = ckpt_tensor_numel(t) == 0 || ckpt_tensor_is_meta(t);
  for (int d = 0; !empty && d < ckpt_tensor_ndim(t); d++)
    last += (ckpt_tensor_shape(t)[d] - 1) * ckpt_tensor_stride(t)[d]; /* checked when the tensor was made */
  if (empty) return (extent){&f->tensors[i], t, i, 0, 0};
  return (extent){&f->tensors[i], t, i, ckpt_tensor_offset(t) * size, (last + 1) * size};
}

static int order(int64_t a, int64_t b) { return a < b ? -1 : a > b; }

static int by_view(const ckpt_tensor *a, const ckpt_tensor *b) {
  int c = order((int64_t)ckpt_tensor_dtype(a), (int64_t)ckpt_tensor_dtype(b));
  if (c == 0) c = order(ckpt_tensor_ndim(a), ckpt_tensor_ndim(b));
  if (c == 0) c = order(ckpt_tensor_offset(a), ckpt_tensor_offset(b));
  if (c == 0) c = order(ckpt_tensor_conj(a) * 2 + ckpt_tensor_neg(a), ckpt_tensor_conj(b) * 2 + ckpt_tensor_neg(b));
  for (int d = 0; c == 0 && d < ckpt_tensor_ndim(a); d++) {
    c = order(ckpt_tensor_shape(a)[d], ckpt_tensor_shape(b)[d]);
    if (c == 0) c = order(ckpt_tensor_stride(a)[d], ckpt_tensor_stride(b)[d]);
  }
  return c;
}

/* Storage by storage; there from the front, wide before narrow, equal views side by side and the first name first. */
static int by_extent(const void *a, const void *b) {
  const extent *x = a, *y = b;
  if (x->of->storage != y->of->storage) return x->of->storage < y->of->storage ? -1 : 1;
  int c = order(x->begin, y->begin);
  if (c == 0) c = order(y->end, x->end);
  if (c == 0) c = by_view(x->tensor, y->tensor);
  return c != 0 ? c : x->number < y->number ? -1 : x->number > y->number;
}

static void mark_sharing(ckpt_flat *f, const extent *sorted) {
  int64_t reached = 0;
  for (size_t i = 0; i < f->n; i++) {
    const extent *e = &sorted[i], *before = i == 0 ? NULL : &sorted[i - 1];
    ckpt_flat_tensor *t = &f->tensors[e->number];
    if (before == NULL || before->of->storage != t->storage || t->storage == SIZE_MAX) {
      reached = e->end;
    } else if (e->begin == before->begin && e->end == before->end && by_view(e->tensor, before->tensor) == 0) {
      t->kept = before->of->kept;
    } else {
      t->copied = e->begin < reached && e->end > e->begin;
      if (e->end > reached) reached = e->end;
    }
  }
}

static ckpt_status find_sharing(ckpt_flat *f, ckpt_error *err) {
  extent *extents = malloc((f->n + 1) * sizeof *extents);
  if (extents == NULL) return ckpt_fail_nomem(err, (f->n + 1) * sizeof *extents);
  for (size_t i = 0; i < f->n; i++) extents[i] = extent_of(f, i);
  qsort(extents, f->n, sizeof *extents, by_extent);
  mark_sharing(f, extents);
  free(extents);
  return CKPT_OK;
}

/* ---- making ---- */

static ckpt_status fill(ckpt_flat *f, const ckpt_value *root, ckpt_flat_takes takes, ckpt_error *err) {
  CKPT_TRY(ckpt_listing_leaves(&f->listing, root, err));
  size_t n = count_names(f->listing) + 1;
  f->tensors = calloc(n, sizeof *f->tensors);
  f->lost = calloc(n, sizeof *f->lost);
  f->alien = calloc(n, sizeof *f->alien);
  if (f->tensors == NULL || f->lost == NULL || f->alien == NULL) return ckpt_fail_nomem(err, n * sizeof *f->tensors);
  sort_out(f, root, takes);
  return find_sharing(f, err);
}

ckpt_status ckpt_flat_new(ckpt_flat *out, const ckpt_value *root, ckpt_flat_takes takes, ckpt_error *err) {
  ckpt_flat f = {0};
  ckpt_status st = fill(&f, root, takes, err);
  if (st == CKPT_OK)
    *out = f;
  else
    ckpt_flat_free(&f);
  return st;
}

void ckpt_flat_free(ckpt_flat *f) {
  ckpt_listing_free(f->listing);
  free(f->tensors);
  free(f->lost);
  free(f->alien);
  *f = (ckpt_flat){0};
}

/* ---- checking ---- */

static bool is_version_attribute(const char *path) {
  static const char name[] = "_metadata";
  size_t n = strlen(path), k = sizeof name - 1;
  return n >= k && strcmp(path + n - k, name) == 0 && (n == k || path[n - k - 1] == '.');
}

/* "what: 'a', 'b', 'c' and 7 more" */
static ckpt_status fail_paths(const char *what, const char *const *paths, size_t n, const char *advice,
                              ckpt_error *err) {
  char list[320] = "";
  size_t used = 0, shown = 0;
  while (shown < n && shown < 5 && used < 240) {
    int more = snprintf(list + used, sizeof list - used, "%s'%.60s'", shown == 0 ? "" : ", ", paths[shown]);
    used += (size_t)more;
    shown++;
  }
  if (shown < n) snprintf(list + used, sizeof list - used, " and %zu more", n - shown);
  return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "%s: %s; %s", what, list, advice);
}

static ckpt_status drop(ckpt_save_report *report, const char *const *paths, size_t n, ckpt_error *err) {
  for (size_t i = 0; i < n; i++) CKPT_TRY(ckpt_save_report_add(report, CKPT_SAVED_DROPPED, paths[i], err));
  return CKPT_OK;
}

static ckpt_status check_lost(const ckpt_flat *f, const char *format, ckpt_error *err) {
  const char **paths = calloc(f->n_lost + 1, sizeof *paths);
  if (paths == NULL) return ckpt_fail_nomem(err, (f->n_lost + 1) * sizeof *paths);
  size_t n = 0;
  for (size_t i = 0; i < f->n_lost; i++)
    if (!is_version_attribute(f->lost[i])) paths[n++] = f->lost[i];
  char what[64];
  snprintf(what, sizeof what, "%s holds tensors only, not", format);
  ckpt_status st = n == 0 ? CKPT_OK : fail_paths(what, paths, n, "tensors_only drops them", err);
  free(paths);
  return st;
}

static ckpt_status check_unique(const ckpt_flat *f, ckpt_error *err) {
  ckpt_strmap seen = {0};
  ckpt_status st = CKPT_OK;
  for (size_t i = 0; st == CKPT_OK && i < f->n; i++) {
    const char *name = f->tensors[i].name;
    if (ckpt_strmap_get(&seen, name, strlen(name)) == SIZE_MAX)
      st = ckpt_strmap_set(&seen, name, strlen(name), i, err);
    else
      st = ckpt_fail(err, CKPT_E_UNSUPPORTED, -1,
                     "two tensors would have the name '%.200s': one of their keys holds the dot", name);
  }
  ckpt_strmap_free(&seen);
  return st;
}

ckpt_status ckpt_flat_check(const ckpt_flat *f, const ckpt_save_options *options, const char *format,
                            ckpt_save_report *report, ckpt_error *err) {
  char what[64];
  snprintf(what, sizeof what, "%s has no place for these tensors", format);
  if (!options->tensors_only) CKPT_TRY(check_lost(f, format, err));
  if (f->n_alien > 0 && !options->drop_unsupported)
    return fail_paths(what, f->alien, f->n_alien, "drop_unsupported leaves them out", err);
  CKPT_TRY(check_unique(f, err));
  CKPT_TRY(drop(report, f->lost, f->n_lost, err));
  return drop(report, f->alien, f->n_alien, err);
}
