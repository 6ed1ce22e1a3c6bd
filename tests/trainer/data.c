/* data.c - from the tensors of a checkpoint to rows of floats; every number of the file is checked. */
#include "data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- reading ---- */

static ckpt_status bad(ckpt_error *err, const char *name, const char *what) {
  if (err != NULL) {
    *err = (ckpt_error){.status = CKPT_E_FORMAT, .position = -1};
    snprintf(err->message, sizeof err->message, "the data set's '%s' is not %s", name, what);
  }
  return CKPT_E_FORMAT;
}

/* The bytes of the uint8 tensor of that name; `*rows` is its first dimension, `row` the numbers in one. */
static ckpt_status find_bytes(const uint8_t **out, uint32_t *rows, const ckpt_value *root, const char *name,
                              int64_t row, ckpt_error *err) {
  const void *data = NULL;
  const ckpt_value *v = ckpt_value_at(root, name);
  ckpt_tensor *t = v == NULL ? NULL : ckpt_value_tensor(v);
  if (t == NULL || ckpt_tensor_dtype(t) != CKPT_U8 || ckpt_tensor_ndim(t) < 1 || !ckpt_tensor_is_contiguous(t))
    return bad(err, name, "a contiguous uint8 tensor");
  int64_t n = ckpt_tensor_shape(t)[0];
  if (n < 1 || n > DATA_MAX_ROWS || ckpt_tensor_numel(t) != n * row) return bad(err, name, "of the expected shape");
  ckpt_status st = ckpt_tensor_data(&data, t, err);
  if (st != CKPT_OK) return st;
  *out = data;
  *rows = (uint32_t)n;
  return CKPT_OK;
}

static ckpt_status read_pixels(data_split *s, const ckpt_value *root, const char *name, ckpt_error *err) {
  const uint8_t *p = NULL;
  ckpt_status st = find_bytes(&p, &s->n, root, name, NET_INPUTS, err);
  if (st != CKPT_OK) return st;
  for (size_t i = 0; i < s->n; i++)
    for (size_t k = 0; k < NET_INPUTS; k++) {
      if (p[i * NET_INPUTS + k] > 16) return bad(err, name, "in 0..16");
      s->x[i][k] = (float)p[i * NET_INPUTS + k] / 16;
    }
  return CKPT_OK;
}

static ckpt_status read_classes(data_split *s, const ckpt_value *root, const char *name, ckpt_error *err) {
  const uint8_t *p = NULL;
  uint32_t n = 0;
  ckpt_status st = find_bytes(&p, &n, root, name, 1, err);
  if (st != CKPT_OK) return st;
  if (n != s->n) return bad(err, name, "as long as its pixels");
  for (size_t i = 0; i < n; i++) {
    if (p[i] >= NET_CLASSES) return bad(err, name, "in 0..9");
    s->y[i] = p[i];
  }
  return CKPT_OK;
}

static ckpt_status read_all(data_set *out, const ckpt_value *root, ckpt_error *err) {
  ckpt_status st = read_pixels(&out->train, root, "train_x", err);
  if (st == CKPT_OK) st = read_classes(&out->train, root, "train_y", err);
  if (st == CKPT_OK) st = read_pixels(&out->test, root, "test_x", err);
  if (st == CKPT_OK) st = read_classes(&out->test, root, "test_y", err);
  return st;
}

ckpt_status data_load(data_set *out, const char *path, ckpt_error *err) {
  ckpt_checkpoint *file = NULL;
  ckpt_status st = ckpt_checkpoint_open(&file, path, NULL, err);
  if (st != CKPT_OK) return st;
  st = read_all(out, ckpt_checkpoint_root(file), err);
  ckpt_checkpoint_close(file);
  return st;
}

/* ---- finding ---- */

bool data_find(char *out, size_t size) {
  char dir[2048];
  const char *given = getenv("CKPT_DATA");
  if (given != NULL) return snprintf(out, size, "%s", given) < (int)size;
  ssize_t n = readlink("/proc/self/exe", dir, sizeof dir - 1);
  if (n < 0) return false;
  dir[n] = '\0';
  for (char *slash = strrchr(dir, '/'); slash != NULL; slash = strrchr(dir, '/')) {
    *slash = '\0';
    int length = snprintf(out, size, "%s/tests/data/optdigits.pth", dir);
    if (length < (int)size && access(out, R_OK) == 0) return true;
  }
  return false;
}

static void keep(data_split *s, int64_t n) {
  if (n < s->n) s->n = n < 1 ? 1 : (uint32_t)n;
}

void data_keep(data_set *data, int64_t n) {
  keep(&data->train, n);
  keep(&data->test, n);
}
