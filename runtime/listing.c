/*
 * listing.c - every tensor and object of a value with its path (see ckpt_listing_new in ckpt.h).
 *
 * A walk without recursion: a stack of places, each a value and how much of it has been walked. What is reached a
 * second time is walked again only to note the aliases inside it, within a budget, so that a file of nested shared
 * containers ("billion laughs") costs no more than its size.
 */
#include <stdio.h>
#include <stdlib.h>

#include "listing.h"
#include "ptrmap.h"
#include "repr.h"

enum { MAX_PATH = 1 << 16, MAX_REVISITS = 1000000, MAX_PATHS = 1 << 28 /* bytes of all paths together */ };

typedef struct place {
  const ckpt_value *value;
  size_t next, path; /* next child; length of the path that leads here */
  bool in_object;    /* this is an opaque object, or lies in one */
} place;

struct ckpt_listing {
  ckpt_arena arena;
  ckpt_listing_entry *entries;
  size_t n, capacity;
};

typedef struct walk {
  ckpt_listing *list;
  place *places;
  size_t n, capacity;
  char *path; /* of the current place; MAX_PATH bytes */
  size_t length;
  ckpt_ptrmap seen;     /* value -> 0 while it is on the stack, 1 when done */
  ckpt_ptrmap entries;  /* value -> its entry */
  ckpt_ptrmap storages; /* storage -> group */
  size_t n_storages, n_aliases, revisits;
  bool leaves;    /* see listing.h */
  bool attribute; /* the child at hand is an attribute of an OrderedDict */
  ckpt_error *err;
} walk;

/* What a listing for people leaves out is an error in one that a file is written from. */
static ckpt_status too_many(const walk *w, const char *what) {
  if (!w->leaves) return CKPT_OK;
  return ckpt_fail(w->err, CKPT_E_LIMIT, -1, "too many %s: shared values are reached in more ways than are counted",
                   what);
}

/* ---- entries ---- */

/* The path without its leading dot. */
static const char *copy_path(walk *w) {
  size_t skip = w->length > 0 && w->path[0] == '.' ? 1 : 0;
  return ckpt_arena_copy(&w->list->arena, w->path + skip, w->length - skip, w->err);
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
  ckpt_listing_entry e = {copy_path(w), v, SIZE_MAX, 0, NULL};
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

/* ---- paths ---- */

static ckpt_status append(walk *w, const char *text, size_t n) {
  if (n >= MAX_PATH - w->length)
    return ckpt_fail(w->err, CKPT_E_LIMIT, -1, "a path longer than %d bytes begins '%.60s'", MAX_PATH, w->path);
  memcpy(w->path + w->length, text, n);
  w->length += n;
  w->path[w->length] = '\0';
  return CKPT_OK;
}

static ckpt_status append_index(walk *w, size_t i) {
  char text[32];
  int n = snprintf(text, sizeof text, "[%zu]", i);
  return append(w, text, (size_t)n);
}

static ckpt_status append_key(walk *w, const ckpt_value *key) {
  CKPT_TRY(append(w, ".", 1));
  if (key->kind == CKPT_STR) return append(w, key->as.text.bytes, key->as.text.n);
  char *text = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_repr(&text, &n, key, MAX_PATH, w->err));
  ckpt_status st = append(w, text, n);
  free(text);
  return st;
}

/* ---- children ---- */

static bool is_container(const ckpt_value *v) {
  return v->kind == CKPT_LIST || v->kind == CKPT_TUPLE || v->kind == CKPT_DICT || v->kind == CKPT_SET ||
         v->kind == CKPT_FROZENSET || (v->kind == CKPT_OBJECT && v->made->how != CKPT_BY_PERSID);
}

static const ckpt_value *state_of(const ckpt_value *v) {
  if (v->kind == CKPT_DICT) return v->as.dict->state;
  return v->kind == CKPT_OBJECT ? v->as.object->state : NULL;
}

static size_t state_children(const ckpt_value *state) {
  if (state == NULL) return 0;
  return state->kind == CKPT_DICT ? state->as.dict->flat.n / 2 : 1;
}

/* A field of an object's dict state, or `.state` for a state of another kind. */
static ckpt_status state_child(const ckpt_value **out, walk *w, const ckpt_value *state, size_t i) {
  if (state->kind != CKPT_DICT) {
    *out = state;
    return append(w, ".state", 6);
  }
  *out = state->as.dict->flat.items[2 * i + 1];
  return append_key(w, state->as.dict->flat.items[2 * i]);
}

/* Child number i of v in the order arguments, items, pairs, state; *out stays NULL past the last. */
static ckpt_status child(const ckpt_value **out, walk *w, const ckpt_value *v, size_t i) {
  size_t args = v->kind == CKPT_OBJECT && v->made->args != NULL ? v->made->args->as.seq.n : 0;
  if (i < args) {
    *out = v->made->args->as.seq.items[i];
    CKPT_TRY(append(w, ".args", 5));
    return append_index(w, i);
  }
  i -= args;
  size_t items = v->kind == CKPT_DICT ? 0 : ckpt_value_count(v);
  if (i < items) {
    *out = ckpt_value_item(v, i);
    return append_index(w, i);
  }
  i -= items;
  size_t pairs = ckpt_value_pair_count(v);
  if (i < pairs) {
    *out = ckpt_value_pair_value(v, i);
    return append_key(w, ckpt_value_pair_key(v, i));
  }
  i -= pairs;
  w->attribute = v->kind == CKPT_DICT;
  return i < state_children(state_of(v)) ? state_child(out, w, state_of(v), i) : CKPT_OK;
}

/* ---- the walk ---- */

static ckpt_status enter(walk *w, const ckpt_value *v) {
  if (w->n == w->capacity) {
    size_t capacity = w->capacity == 0 ? 64 : w->capacity * 2;
    place *more = realloc(w->places, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(w->err, capacity * sizeof *more);
    w->places = more;
    w->capacity = capacity;
  }
  bool in_object = ckpt_value_is_opaque(v) || (w->n > 0 && w->places[w->n - 1].in_object);
  w->places[w->n++] = (place){v, 0, w->length, in_object};
  return ckpt_ptrmap_set(&w->seen, v, 0, w->err);
}

static bool is_leaf(const walk *w, const ckpt_value *v) {
  if (v->kind == CKPT_TENSOR || ckpt_value_is_opaque(v)) return false;
  if (w->attribute || v->kind == CKPT_OBJECT || !is_container(v)) return true;
  return ckpt_value_count(v) == 0 && state_of(v) == NULL;
}

static ckpt_status check_name(const walk *w, const ckpt_value *v) {
  if (!w->leaves || v->kind != CKPT_TENSOR || memchr(w->path, '\0', w->length) == NULL) return CKPT_OK;
  return ckpt_fail(w->err, CKPT_E_UNSUPPORTED, -1, "the path of a tensor holds a NUL: it begins '%.200s'", w->path);
}

/* A value at the current path: list it, note an alias, go into it. */
static ckpt_status visit(walk *w, const ckpt_value *v) {
  if (w->leaves && is_leaf(w, v)) return w->n > 0 && w->places[w->n - 1].in_object ? CKPT_OK : add_entry(w, v);
  bool listed = v->kind == CKPT_TENSOR || ckpt_value_is_opaque(v);
  size_t at = listed ? ckpt_ptrmap_get(&w->entries, v) : SIZE_MAX;
  CKPT_TRY(check_name(w, v));
  if (listed) CKPT_TRY(at == SIZE_MAX ? add_entry(w, v) : add_alias(w, at));
  if (!is_container(v)) return CKPT_OK;
  size_t seen = ckpt_ptrmap_get(&w->seen, v);
  if (seen == 0) return CKPT_OK; /* a cycle */
  if (seen != SIZE_MAX && ++w->revisits > MAX_REVISITS) return too_many(w, "shared containers");
  return enter(w, v);
}

static ckpt_status step(walk *w) {
  place *p = &w->places[w->n - 1];
  const ckpt_value *v = NULL;
  w->length = p->path;
  w->attribute = false;
  if (w->revisits > 0 && ++w->revisits > MAX_REVISITS) w->revisits = MAX_REVISITS;
  CKPT_TRY(child(&v, w, p->value, p->next++));
  if (v != NULL) return visit(w, v);
  w->n--;
  return ckpt_ptrmap_set(&w->seen, p->value, 1, w->err);
}

static ckpt_status run(walk *w, const ckpt_value *root) {
  w->path[0] = '\0';
  CKPT_TRY(visit(w, root));
  while (w->n > 0) CKPT_TRY(step(w));
  return CKPT_OK;
}

static ckpt_status make(ckpt_listing **out, const ckpt_value *root, bool leaves, ckpt_error *err) {
  ckpt_error here = {0};
  walk w = {.list = calloc(1, sizeof(ckpt_listing)), .path = malloc(MAX_PATH), .leaves = leaves, .err = &here};
  if (w.list != NULL) w.list->arena.limit = MAX_PATHS;
  ckpt_status st = w.list == NULL || w.path == NULL ? ckpt_fail_nomem(&here, MAX_PATH) : run(&w, root);
  free(w.path);
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
  return make(out, root, false, err);
}

ckpt_status ckpt_listing_leaves(ckpt_listing **out, const ckpt_value *root, ckpt_error *err) {
  return make(out, root, true, err);
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
