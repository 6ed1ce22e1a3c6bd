/* arena.c - see arena.h. Blocks double from 4 KiB to 1 MiB; a piece larger than a block gets a block of its own. */
#include "arena.h"

#include <stdlib.h>

struct ckpt_arena_block {
  ckpt_arena_block *next;
  size_t size, used;
  _Alignas(16) unsigned char bytes[];
};

static ckpt_arena_block *new_block(ckpt_arena *a, size_t need, ckpt_error *err) {
  size_t size = a->blocks == NULL ? 4096 : a->blocks->size * 2;
  if (size > (size_t)1 << 20) size = (size_t)1 << 20;
  if (size < need) size = need;
  size_t total;
  if (!ckpt_add_size(&total, size, sizeof(ckpt_arena_block))) total = SIZE_MAX;
  ckpt_arena_block *b = calloc(1, total);
  if (b == NULL) {
    ckpt_fail_nomem(err, total);
    return NULL;
  }
  b->size = size;
  b->next = a->blocks;
  a->blocks = b;
  return b;
}

static void *alloc_slowly(ckpt_arena *a, size_t size, ckpt_error *err) {
  size_t total;
  if (!ckpt_add_size(&size, size, 15) || !ckpt_add_size(&total, a->used, size &= ~(size_t)15)) {
    ckpt_fail_nomem(err, SIZE_MAX);
    return NULL;
  }
  if (a->limit != 0 && total > a->limit) {
    ckpt_fail(err, CKPT_E_LIMIT, -1, "the objects need more than the %zu bytes allowed for them", a->limit);
    return NULL;
  }
  ckpt_arena_block *b = a->blocks;
  if (b == NULL || b->size - b->used < size) b = new_block(a, size, err);
  if (b == NULL) return NULL;
  void *p = b->bytes + b->used;
  b->used += size;
  a->used = total;
  return p;
}

/* A piece of a block that has room for it, within the limit, which is nearly always so. */
void *ckpt_arena_alloc(ckpt_arena *a, size_t size, ckpt_error *err) {
  ckpt_arena_block *b = a->blocks;
  if (b == NULL || size > b->size - b->used || b->size - b->used < 16) return alloc_slowly(a, size, err);
  size = (size + 15) & ~(size_t)15;
  if (size > b->size - b->used || (a->limit != 0 && size > a->limit - a->used)) return alloc_slowly(a, size, err);
  void *p = b->bytes + b->used;
  b->used += size;
  a->used += size;
  return p;
}

char *ckpt_arena_copy(ckpt_arena *a, const void *bytes, size_t n, ckpt_error *err) {
  size_t size;
  if (!ckpt_add_size(&size, n, 1)) {
    ckpt_fail_nomem(err, SIZE_MAX);
    return NULL;
  }
  char *s = ckpt_arena_alloc(a, size, err);
  if (s != NULL && n > 0) memcpy(s, bytes, n);
  return s;
}

void ckpt_arena_free(ckpt_arena *a) {
  while (a->blocks != NULL) {
    ckpt_arena_block *next = a->blocks->next;
    free(a->blocks);
    a->blocks = next;
  }
  a->used = 0;
}
