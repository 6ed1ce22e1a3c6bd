/* changes.c - see changes.h. */
#include "changes.h"

#include <stdlib.h>

#include "arena.h"

enum { MAX_TEXTS = 1 << 28 };

struct ckpt_changes {
  ckpt_arena arena;
  ckpt_change *list;
  size_t n, capacity;
};

ckpt_status ckpt_changes_new(ckpt_changes **out, ckpt_error *err) {
  ckpt_changes *c = calloc(1, sizeof *c);
  if (c == NULL) return ckpt_fail_nomem(err, sizeof *c);
  c->arena.limit = MAX_TEXTS;
  *out = c;
  return CKPT_OK;
}

static ckpt_status room(ckpt_changes *c, ckpt_error *err) {
  if (c->n < c->capacity) return CKPT_OK;
  size_t capacity = c->capacity == 0 ? 16 : c->capacity * 2;
  ckpt_change *more = realloc(c->list, capacity * sizeof *more);
  if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
  c->list = more;
  c->capacity = capacity;
  return CKPT_OK;
}

ckpt_status ckpt_changes_add(ckpt_changes *changes, const ckpt_change *change, ckpt_error *err) {
  ckpt_error here = {0};
  CKPT_TRY(room(changes, err));
  ckpt_change copy = *change;
  copy.path = ckpt_arena_copy(&changes->arena, change->path, strlen(change->path), &here);
  if (copy.path != NULL)
    copy.class_name = ckpt_arena_copy(&changes->arena, change->class_name, strlen(change->class_name), &here);
  if (copy.path == NULL || copy.class_name == NULL) {
    if (err != NULL) *err = here;
    return here.status;
  }
  changes->list[changes->n++] = copy;
  return CKPT_OK;
}

size_t ckpt_changes_count(const ckpt_changes *changes) { return changes->n; }

const ckpt_change *ckpt_changes_at(const ckpt_changes *changes, size_t i) {
  return i < changes->n ? &changes->list[i] : NULL;
}

void ckpt_changes_free(ckpt_changes *changes) {
  if (changes == NULL) return;
  ckpt_arena_free(&changes->arena);
  free(changes->list);
  free(changes);
}
