/* split.c - see split.h. A block is what must stay together: the tensors of one storage, or one tensor without any. */
#include "split.h"

#include <stdlib.h>

typedef struct block {
  uint64_t bytes;
  size_t file; /* in the order in which files were begun */
  bool placed;
} block;

typedef struct splitter {
  const ckpt_flat *flat;
  block *blocks; /* by storage group; behind them one for each tensor, used by those without storage */
  size_t groups;
  size_t *finals; /* number that a file, by its beginning, gets by its end */
  size_t begun, ended, current;
  uint64_t filled, total; /* bytes in the current file, in all */
} splitter;

static block *block_of(const splitter *s, size_t i) {
  size_t group = s->flat->tensors[i].storage;
  return &s->blocks[group == SIZE_MAX ? s->groups + i : group];
}

static uint64_t bytes_of(const ckpt_flat_tensor *t, size_t number, bool safetensors, const block *b) {
  const ckpt_tensor *tensor = ckpt_value_tensor(t->value);
  const ckpt_storage *storage = ckpt_tensor_storage(tensor);
  if (safetensors) return t->kept == number ? ckpt_tensor_nbytes(tensor) : 0;
  return storage == NULL || b->bytes > 0 ? 0 : ckpt_storage_size(storage);
}

static ckpt_status measure(splitter *s, bool safetensors, ckpt_error *err) {
  for (size_t i = 0; i < s->flat->n; i++) {
    block *b = block_of(s, i);
    uint64_t bytes = bytes_of(&s->flat->tensors[i], i, safetensors, b);
    if (__builtin_add_overflow(s->total, bytes, &s->total) || s->total > INT64_MAX)
      return ckpt_fail(err, CKPT_E_LIMIT, -1, "the tensors need more than 2^63 bytes");
    b->bytes += bytes;
  }
  return CKPT_OK;
}

static void end_file(splitter *s, size_t file) { s->finals[file] = s->ended++; }

/* A file for itself takes its number at once, before the one that is still being filled. */
static void place(splitter *s, block *b, uint64_t max) {
  b->placed = true;
  if (b->bytes > max) {
    b->file = s->begun++;
    end_file(s, b->file);
    return;
  }
  if (s->current != SIZE_MAX && s->filled + b->bytes > max) {
    end_file(s, s->current);
    s->current = SIZE_MAX;
  }
  if (s->current == SIZE_MAX) {
    s->current = s->begun++;
    s->filled = 0;
  }
  b->file = s->current;
  s->filled += b->bytes;
}

static ckpt_status run(ckpt_split *out, splitter *s, bool safetensors, uint64_t max, ckpt_error *err) {
  CKPT_TRY(measure(s, safetensors, err));
  for (size_t i = 0; i < s->flat->n; i++)
    if (!block_of(s, i)->placed) place(s, block_of(s, i), max == 0 ? UINT64_MAX : max);
  if (s->current != SIZE_MAX) end_file(s, s->current);
  for (size_t i = 0; i < s->flat->n; i++) out->file[i] = s->finals[block_of(s, i)->file];
  out->n = s->ended;
  out->total = s->total;
  return CKPT_OK;
}

ckpt_status ckpt_split_new(ckpt_split *out, const ckpt_flat *flat, bool safetensors, uint64_t max, ckpt_error *err) {
  splitter s = {.flat = flat, .current = SIZE_MAX};
  for (size_t i = 0; i < flat->n; i++)
    if (flat->tensors[i].storage != SIZE_MAX && flat->tensors[i].storage >= s.groups)
      s.groups = flat->tensors[i].storage + 1;
  ckpt_split split = {0};
  s.blocks = calloc(s.groups + flat->n + 1, sizeof *s.blocks);
  s.finals = calloc(flat->n + 1, sizeof *s.finals);
  split.file = calloc(flat->n + 1, sizeof *split.file);
  bool made = s.blocks != NULL && s.finals != NULL && split.file != NULL;
  ckpt_status st =
      made ? run(&split, &s, safetensors, max, err) : ckpt_fail_nomem(err, (s.groups + flat->n + 1) * sizeof *s.blocks);
  free(s.blocks);
  free(s.finals);
  if (st == CKPT_OK)
    *out = split;
  else
    ckpt_split_free(&split);
  return st;
}

void ckpt_split_free(ckpt_split *split) {
  free(split->file);
  *split = (ckpt_split){0};
}
