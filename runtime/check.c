/* check.c - see check.h. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>

#include "numpy.h"
#include "quantized.h"
#include "sparse.h"
#include "way.h"

static ckpt_status check_sparse(const ckpt_value *v, ckpt_error *err) {
  ckpt_sparse s;
  CKPT_TRY(ckpt_value_sparse(&s, v, err));
  return ckpt_sparse_check_indices(&s, err);
}

static ckpt_status check_nested(const ckpt_value *v, ckpt_error *err) {
  size_t n = 0;
  CKPT_TRY(ckpt_value_nested_count(&n, v, err));
  for (size_t i = 0; i < n; i++) {
    ckpt_tensor *t = NULL;
    CKPT_TRY(ckpt_value_nested_tensor(&t, v, i, err));
    ckpt_tensor_release(t);
  }
  return CKPT_OK;
}

/* A dtype that PyTorch lacks is no fault of the file. */
static ckpt_status check_array(const ckpt_value *v, ckpt_error *err) {
  ckpt_array a;
  ckpt_status st = ckpt_value_array(&a, v, err);
  return st == CKPT_E_UNSUPPORTED ? CKPT_OK : st;
}

static ckpt_status check_one(const ckpt_value *v, ckpt_error *err) {
  if (v->kind == CKPT_TENSOR) return ckpt_quantized_check(v, err);
  if (v->kind != CKPT_OBJECT) return CKPT_OK;
  if (ckpt_value_is_sparse(v)) return check_sparse(v, err);
  if (ckpt_value_is_nested(v)) return check_nested(v, err);
  return ckpt_value_is_array(v) ? check_array(v, err) : CKPT_OK;
}

static ckpt_status name_place(const ckpt_places *p, size_t at, ckpt_status st, ckpt_error *err) {
  char *path = NULL, where[200];
  if (err == NULL || ckpt_places_path(&path, p, at, NULL) != CKPT_OK) return st;
  snprintf(where, sizeof where, "%.199s", path);
  free(path);
  return where[0] == '\0' ? st : ckpt_fail_in(err, st, where);
}

ckpt_status ckpt_value_check(const ckpt_value *root, ckpt_error *err) {
  ckpt_places p = {0};
  ckpt_way start = {.step = CKPT_STEP_ROOT};
  size_t at = 0;
  ckpt_status st = ckpt_places_add(&p, root, &start, NULL, err);
  if (st == CKPT_OK) st = ckpt_places_walk(&p, 0, err);
  for (; st == CKPT_OK && at < p.n; at++) {
    st = check_one(p.at[at].value, err);
    if (st != CKPT_OK) st = name_place(&p, at, st, err);
  }
  ckpt_places_free(&p);
  return st;
}
