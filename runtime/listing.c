/*
 * listing.c - every tensor and object of a value with its path (see ckpt_listing_new in ckpt.h), or all that is in it.
 *
 * A walk without recursion: a stack of places, each a value and how much of it has been walked. What is reached a
 * second time is walked again only to note the aliases inside it, within a budget, so that a file of nested shared
 * containers ("billion laughs") costs no more than its size.
 */
#include <stdlib.h>

#include "children.h"
#include "listing.h"
#include "ptrmap.h"

enum { MAX_REVISITS = 1000000, MAX_PATHS = 1 << 28 /* bytes of all paths together */ };

typedef struct place {
  const ckpt_value *value;
  size_t next, path; /* next child; length of the path that leads here */
  bool in_object;    /* this is an opaque object, or lies in one */
  bool again;        /* this was walked before, at another path, or lies in such a container */
} place;

struct ckpt_listing {
  ckpt_arena arena;
  ckpt_listing_entry *entries;
  size_t n, capacity;
};

typedef enum listing_kind { OF_NOTE, LEAVES, EVERYTHING } listing_kind; /* OF_NOTE: tensors and opaque objects */

typedef struct walk {
  ckpt_listing *list;
  place *places;
  size_t n, capacity;
  ckpt_path path;       /* of the current place */
  ckpt_ptrmap seen;     /* value -> 0 while it is on the stack, 1 when done */
  ckpt_ptrmap entries;  /* value -> its entry */
  ckpt_ptrmap storages; /* storage -> group */
  size_t n_storages, n_aliases, revisits;
  listing_kind kind;
  bool attribute; /* the child at hand is an attribute of an OrderedDict */
  ckpt_error *err;
} walk;

/* What a listing for people leaves out is an error in one that a file is written from. */
static ckpt_status too_many(const walk *w, const char *what) {
  if (w->kind != LEAVES) return CKPT_OK;
  return ckpt_fail(w->err, CKPT_E_LIMIT, -1, "too many %s: shared values are reached in more ways than are counted",
                   what);
}

/* ---- entries ---- */

/* The path of the container around the current place, as part of the path that is shown. */
static size_t parent_length(const walk *w) {
  size_t skip = (size_t)(ckpt_path_shown(&w->path) - w->path.text);
  size_t length = w->n == 0 ? 0 : w->places[w->n - 1].path;
  return length < skip ? 0 : length - skip;
}

static const char *copy_path(walk *w) {
  const char *shown = ckpt_path_shown(&w->path);
  return ckpt_arena_copy(&w->list->arena, shown, w->path.length - (size_t)(shown - w->path.text), w->err);
}

static ckpt_status group_of(size_t *out, walk *w, const ckpt_value *v) {
  const ckpt_storage *s = v->kind == CKPT_TENSOR ? ckpt_tensor_storage(v->as.tensor) : NULL;
  *out = s == NULL ? SIZE_MAX : ckpt_ptrmap_get(&w->storages, s);
  if (s == NULL || *out != SIZE_MAX) return CKPT_OK;
  *out = w->n_storages++;
  return ckpt_ptrmap_set(&w->storages, s, *out, w->err);
}

static ckpt_status add_entry(walk *w, const ckpt_value *v) {
  ckpt_listing *l = w->list;
  if (l->n == l->capacity) {
    size_t capacity = l->capacity == 0 ? 64 : l->capacity * 2;
    ckpt_listing_entry *more = realloc(l->entries, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(w->err, capacity * sizeof *more);
    l->entries = more;
    l->capacity = capacity;
  }
  bool again = w->n > 0 && w->places[w->n - 1].again;
  ckpt_listing_entry e = {.path = copy_path(w), .value = v, .storage = SIZE_MAX, .depth = w->n, .again = again};
  e.parent = parent_length(w);
  if (e.path == NULL) return w->err->status;
  CKPT_TRY(group_of(&e.storage, w, v));
  CKPT_TRY(ckpt_ptrmap_set(&w->entries, v, l->n, w->err));
  l->entries[l->n++] = e;
  return CKPT_OK;
}

/* Alias arrays double, so their capacity is the next power of two. */
static ckpt_status add_alias(walk *w, size_t at) {
  if (w->n_aliases++ >= CKPT_MAX_ALIASES) return too_many(w, "second names");
  ckpt_listing_entry *e = &w->list->entries[at];
  const char *path = copy_path(w);
  if (path == NULL) return w->err->status;
  bool full = (e->n_aliases & (e->n_aliases - 1)) == 0; /* 0, 1, 2, 4, ... */
  const char **aliases = (const char **)(uintptr_t)e->aliases;
  if (full) {
    aliases = ckpt_arena_alloc(&w->list->arena, (e->n_aliases == 0 ? 1 : 2 * e->n_aliases) * sizeof *aliases, w->err);
    if (aliases == NULL) return w->err->status;
    for (size_t i = 0; i < e->n_aliases; i++) aliases[i] = e->aliases[i];
  }
  aliases[e->n_aliases++] = path;
  e->aliases = aliases;
  return CKPT_OK;
}

/* ---- the walk ---- */

/* Leaves are of what has a place of its own: a sparse tensor or a numpy array is an object there, around its parts. */
static bool is_object(const walk *w, const ckpt_value *v) {
  return ckpt_value_is_opaque(v) || (w->kind == LEAVES && v->kind == CKPT_OBJECT);
}

static ckpt_status enter(walk *w, const ckpt_value *v, bool again) {
  if (w->n == w->capacity) {
    size_t capacity = w->capacity == 0 ? 64 : w->capacity * 2;
    place *more = realloc(w->places, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(w->err, capacity * sizeof *more);
    w->places = more;
    w->capacity = capacity;
  }
  bool in_object = is_object(w, v) || (w->n > 0 && w->places[w->n - 1].in_object);
  again |= w->n > 0 && w->places[w->n - 1].again;
  w->places[w->n++] = (place){v, 0, w->path.length, in_object, again};
  return ckpt_ptrmap_set(&w->seen, v, 0, w->err);
}

/* Only what can be one and the same thing in two places has aliases: a shared string is a matter of the pickle. */
static bool has_identity(const walk *w, const ckpt_value *v) {
  return v->kind == CKPT_TENSOR || is_object(w, v) || (ckpt_value_has_children(v) && v->kind != CKPT_TUPLE);
}

static bool is_leaf(const walk *w, const ckpt_value *v) {
  if (v->kind == CKPT_TENSOR || ckpt_value_is_opaque(v)) return false;
  if (w->attribute || !ckpt_value_has_children(v)) return true;
  if (v->kind == CKPT_OBJECT) return false;
  return ckpt_value_count(v) == 0 && ckpt_value_state(v) == NULL;
}

static ckpt_status check_name(const walk *w, const ckpt_value *v) {
  bool whole = memchr(w->path.text, 0, w->path.length) == NULL;
  if (w->kind != LEAVES || v->kind != CKPT_TENSOR || whole) return CKPT_OK;
  return ckpt_fail(w->err, CKPT_E_UNSUPPORTED, -1, "the path of a tensor holds a NUL: it begins '%.200s'",
                   w->path.text);
}

/* Of what makes up an object only tensors and further opaque objects are told. */
static bool is_listed(const walk *w, const ckpt_value *v) {
  if (w->kind == EVERYTHING || v->kind == CKPT_TENSOR || ckpt_value_is_opaque(v)) return true;
  return is_object(w, v) && !(w->n > 0 && w->places[w->n - 1].in_object);
}

/* A value at the current path: list it, note an alias, go into it. */
static ckpt_status visit(walk *w, const ckpt_value *v) {
  if (w->kind == LEAVES && is_leaf(w, v)) return w->n > 0 && w->places[w->n - 1].in_object ? CKPT_OK : add_entry(w, v);
  bool listed = is_listed(w, v);
  size_t at = listed && has_identity(w, v) ? ckpt_ptrmap_get(&w->entries, v) : SIZE_MAX;
  CKPT_TRY(check_name(w, v));
  if (listed) CKPT_TRY(at == SIZE_MAX ? add_entry(w, v) : add_alias(w, at));
  if (!ckpt_value_has_children(v)) return CKPT_OK;
  size_t seen = ckpt_ptrmap_get(&w->seen, v);
  if (seen == 0) return CKPT_OK; /* a cycle */
  if (seen != SIZE_MAX && ++w->revisits > MAX_REVISITS) return too_many(w, "shared containers");
  return enter(w, v, seen != SIZE_MAX && has_identity(w, v));
}

static ckpt_status step(walk *w) {
  place *p = &w->places[w->n - 1];
  const ckpt_value *v = NULL;
  ckpt_path_cut(&w->path, p->path);
  w->attribute = p->value->kind == CKPT_DICT && p->next >= ckpt_value_pair_count(p->value);
  if (w->revisits > 0 && ++w->revisits > MAX_REVISITS) w->revisits = MAX_REVISITS;
  CKPT_TRY(ckpt_value_child(&v, &w->path, p->value, p->next++, w->err));
  if (v != NULL) return visit(w, v);
  w->n--;
  return ckpt_ptrmap_set(&w->seen, p->value, 1, w->err);
}

static ckpt_status run(walk *w, const ckpt_value *root) {
  CKPT_TRY(ckpt_path_new(&w->path, w->err));
  CKPT_TRY(visit(w, root));
  while (w->n > 0) CKPT_TRY(step(w));
  return CKPT_OK;
}

static ckpt_status make(ckpt_listing **out, const ckpt_value *root, listing_kind kind, ckpt_error *err) {
  ckpt_error here = {0};
  walk w = {.list = calloc(1, sizeof(ckpt_listing)), .kind = kind, .err = &here};
  if (w.list != NULL) w.list->arena.limit = MAX_PATHS;
  ckpt_status st = w.list == NULL ? ckpt_fail_nomem(&here, sizeof(ckpt_listing)) : run(&w, root);
  ckpt_path_free(&w.path);
  free(w.places);
  ckpt_ptrmap_free(&w.seen);
  ckpt_ptrmap_free(&w.entries);
  ckpt_ptrmap_free(&w.storages);
  if (st == CKPT_OK) {
    *out = w.list;
    return CKPT_OK;
  }
  ckpt_listing_free(w.list);
  if (err != NULL) *err = here;
  return st;
}

ckpt_status ckpt_listing_new(ckpt_listing **out, const ckpt_value *root, ckpt_error *err) {
  return make(out, root, OF_NOTE, err);
}

ckpt_status ckpt_listing_everything(ckpt_listing **out, const ckpt_value *root, ckpt_error *err) {
  return make(out, root, EVERYTHING, err);
}

ckpt_status ckpt_listing_leaves(ckpt_listing **out, const ckpt_value *root, ckpt_error *err) {
  return make(out, root, LEAVES, err);
}

void ckpt_listing_free(ckpt_listing *listing) {
  if (listing == NULL) return;
  ckpt_arena_free(&listing->arena);
  free(listing->entries);
  free(listing);
}

size_t ckpt_listing_count(const ckpt_listing *listing) { return listing->n; }

const ckpt_listing_entry *ckpt_listing_entry_at(const ckpt_listing *listing, size_t i) {
  return i < listing->n ? &listing->entries[i] : NULL;
}
