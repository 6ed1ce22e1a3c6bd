/*
 * saves.h - files of several saves one behind the other, as several torch.save or pickle.dump calls on one open file
 * leave them. Each format says how a save begins and where it ends; nothing else separates them.
 */
#ifndef CKPT_SAVES_H
#define CKPT_SAVES_H

#include "file.h"
#include "value.h"

typedef struct ckpt_save_format {
  /* Whether the bytes at `pos` may begin a save that follows another. */
  bool (*begins)(const ckpt_mapping *map, size_t pos);

  /* Reads the save that begins at `start` into a new document (NULL: only finds its end, checking as much). */
  ckpt_status (*read)(ckpt_document **out, size_t *end, ckpt_mapping *map, size_t start, ckpt_error *err);
} ckpt_save_format;

typedef struct ckpt_saves {
  size_t count, end; /* saves in the file, and where the last one ends: what follows is no save */
} ckpt_saves;

/*
 * Reads save number `wanted` (0-based) and counts all. What follows the wanted one and is no whole save is left for
 * check: PyTorch never looks at it. CKPT_E_NOTFOUND if there are fewer saves.
 */
ckpt_status ckpt_saves_read(ckpt_document **out, ckpt_saves *saves, const ckpt_save_format *format, ckpt_mapping *map,
                            size_t wanted, ckpt_error *err);

/* The refusal of a save that is not there; also of save 2 of a format that holds one. Numbers in it count from 1. */
ckpt_status ckpt_saves_no_such(size_t wanted, size_t count, ckpt_error *err);

/* CKPT_E_CORRUPT if what follows the last save begins as one and is broken. */
ckpt_status ckpt_saves_check(const ckpt_saves *saves, const ckpt_save_format *format, ckpt_mapping *map,
                             ckpt_error *err);

#endif
