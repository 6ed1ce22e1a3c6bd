/*
 * arena.h - memory that is given out piece by piece and freed at once. Pieces are aligned to 16 bytes and zeroed.
 * A limit bounds what a hostile file can make the reader take.
 */
#ifndef CKPT_ARENA_H
#define CKPT_ARENA_H

#include "base.h"

typedef struct ckpt_arena_block ckpt_arena_block;

typedef struct ckpt_arena {
  ckpt_arena_block *blocks; /* newest first */
  size_t used, limit;       /* bytes given out; limit 0: none */
} ckpt_arena;

/* NULL with *err filled (CKPT_E_NOMEM, CKPT_E_LIMIT). */
void *ckpt_arena_alloc(ckpt_arena *a, size_t size, ckpt_error *err);

/* A NUL-terminated copy of n bytes. */
char *ckpt_arena_copy(ckpt_arena *a, const void *bytes, size_t n, ckpt_error *err);

void ckpt_arena_free(ckpt_arena *a);

#endif
