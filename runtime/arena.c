/*
 * arena.c - see arena.h. Blocks double from 4 KiB to 2 MiB; a piece larger than a block gets a block of its own. A
 * block of 2 MiB is a huge page where the system has them: one page fault in place of 512, which is a quarter of the
 * time that reading a file of many tensors takes.
 */
#include "arena.h"

#include <stdlib.h>
#include <sys/mman.h>

struct ckpt_arena_block {
  ckpt_arena_block *next;
  size_t size, used;
  void *mapped; /* what to unmap, NULL for a block of malloc's */
  _Alignas(16) unsigned char bytes[];
};

#define HUGE ((size_t)2 << 20)

/* One aligned huge page of zeros, or NULL. */
static ckpt_arena_block *map_huge(void) {
  unsigned char *p = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return NULL;
  size_t before = (HUGE - (uintptr_t)p % HUGE) % HUGE;
  if (before > 0) munmap(p, before);
  munmap(p + before + HUGE, HUGE - before);
  madvise(p + before, HUGE, MADV_HUGEPAGE);
  ckpt_arena_block *b = (ckpt_arena_block *)(void *)(p + before);
  b->mapped = b;
  return b;
}

static ckpt_arena_block *new_block(ckpt_arena *a, size_t need, ckpt_error *err) {
  size_t size = a->blocks == NULL ? 4096 : a->blocks->size * 2, total;
  if (size >= HUGE - sizeof(ckpt_arena_block)) size = HUGE - sizeof(ckpt_arena_block);
  bool huge = size == HUGE - sizeof(ckpt_arena_block) && need <= size;
  if (size < need) size = need;
  if (!ckpt_add_size(&total, size, sizeof(ckpt_arena_block))) total = SIZE_MAX;
  ckpt_arena_block *b = huge ? map_huge() : calloc(1, total);
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
    if (a->blocks->mapped != NULL)
      munmap(a->blocks, HUGE);
    else
      free(a->blocks);
    a->blocks = next;
  }
  a->used = 0;
}
