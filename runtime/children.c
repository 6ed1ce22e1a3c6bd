/* children.c - see children.h. */
#include "children.h"

#include <stdio.h>
#include <stdlib.h>

#include "repr.h"

/* ---- paths ---- */

ckpt_status ckpt_path_new(ckpt_path *path, ckpt_error *err) {
  path->text = malloc(CKPT_MAX_PATH);
  path->length = 0;
  if (path->text == NULL) return ckpt_fail_nomem(err, CKPT_MAX_PATH);
  path->text[0] = '\0';
  return CKPT_OK;
}

void ckpt_path_free(ckpt_path *path) {
  free(path->text);
  path->text = NULL;
}

void ckpt_path_cut(ckpt_path *path, size_t length) {
  path->length = length;
  path->text[length] = '\0';
}

const char *ckpt_path_shown(const ckpt_path *path) { return path->text + (path->text[0] == '.' ? 1 : 0); }

static ckpt_status append(ckpt_path *p, const char *text, size_t n, ckpt_error *err) {
  if (n >= CKPT_MAX_PATH - p->length)
    return ckpt_fail(err, CKPT_E_LIMIT, -1, "a path longer than %d bytes begins '%.60s'", CKPT_MAX_PATH, p->text);
  memcpy(p->text + p->length, text, n);
  p->length += n;
  p->text[p->length] = '\0';
  return CKPT_OK;
}

static ckpt_status append_index(ckpt_path *p, size_t i, ckpt_error *err) {
  char text[32];
  int n = snprintf(text, sizeof text, "[%zu]", i);
  return append(p, text, (size_t)n, err);
}

static ckpt_status append_key(ckpt_path *p, const ckpt_value *key, ckpt_error *err) {
  CKPT_TRY(append(p, ".", 1, err));
  if (key->kind == CKPT_STR) return append(p, key->as.text.bytes, key->as.text.n, err);
  char *text = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_repr(&text, &n, key, CKPT_MAX_PATH, err));
  ckpt_status st = append(p, text, n, err);
  free(text);
  return st;
}

/* ---- parts ---- */

bool ckpt_value_has_children(const ckpt_value *v) {
  return v->kind == CKPT_LIST || v->kind == CKPT_TUPLE || v->kind == CKPT_DICT || v->kind == CKPT_SET ||
         v->kind == CKPT_FROZENSET || (v->kind == CKPT_OBJECT && v->made->how != CKPT_BY_PERSID) ||
         (v->kind == CKPT_TENSOR && ckpt_value_state(v) != NULL);
}

static size_t state_children(const ckpt_value *state) {
  if (state == NULL) return 0;
  return state->kind == CKPT_DICT ? state->as.dict->flat.n / 2 : 1;
}

static ckpt_status state_child(const ckpt_value **out, ckpt_path *p, const ckpt_value *state, size_t i,
                               ckpt_error *err) {
  if (state->kind != CKPT_DICT) {
    *out = state;
    return append(p, ".state", 6, err);
  }
  *out = state->as.dict->flat.items[2 * i + 1];
  return append_key(p, state->as.dict->flat.items[2 * i], err);
}

static ckpt_status argument(const ckpt_value **out, ckpt_path *p, const ckpt_value *args, size_t i, ckpt_error *err) {
  *out = args->as.seq.items[i];
  CKPT_TRY(append(p, ".args", 5, err));
  return append_index(p, i, err);
}

ckpt_status ckpt_value_child(const ckpt_value **out, ckpt_path *path, const ckpt_value *v, size_t i, ckpt_error *err) {
  size_t args = v->kind == CKPT_OBJECT && v->made->args != NULL ? v->made->args->as.seq.n : 0;
  if (i < args) return argument(out, path, v->made->args, i, err);
  i -= args;
  size_t kwargs = v->kind == CKPT_OBJECT && v->made->kwargs != NULL ? 1 : 0;
  if (i < kwargs) {
    *out = v->made->kwargs;
    return append(path, ".kwargs", 7, err);
  }
  i -= kwargs;
  size_t items = v->kind == CKPT_DICT ? 0 : ckpt_value_count(v);
  if (i < items) {
    *out = ckpt_value_item(v, i);
    return append_index(path, i, err);
  }
  i -= items;
  size_t pairs = ckpt_value_pair_count(v);
  if (i < pairs) {
    *out = ckpt_value_pair_value(v, i);
    return append_key(path, ckpt_value_pair_key(v, i), err);
  }
  i -= pairs;
  const ckpt_value *state = ckpt_value_state(v);
  if (i < state_children(state)) return state_child(out, path, state, i, err);
  *out = NULL;
  return CKPT_OK;
}
