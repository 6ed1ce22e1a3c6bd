/*
 * data.h - the digits, read through the checkpoint reader itself: tests/data/optdigits.pth is a PyTorch checkpoint.
 *
 * A row is 64 numbers 0..1 (8x8 counts of dark pixels, 0..16 in the file) and a class 0..9.
 */
#ifndef TRAINER_DATA_H
#define TRAINER_DATA_H

#include <ckpt/ckpt.h>

#include "net.h"

enum { DATA_MAX_ROWS = 4096 };

typedef struct data_split {
  uint32_t n;
  float x[DATA_MAX_ROWS][NET_INPUTS];
  uint8_t y[DATA_MAX_ROWS];
} data_split;

typedef struct data_set {
  data_split train, test;
} data_set;

/* On failure *out may be half filled. */
ckpt_status data_load(data_set *out, const char *path, ckpt_error *err);

/* Only the first `n` rows of each part stay, one at least. */
void data_keep(data_set *data, int64_t n);

/* Looks for the data set: $CKPT_DATA, then tests/data/optdigits.pth at or above the executable. False: not found. */
bool data_find(char *out, size_t size);

#endif
