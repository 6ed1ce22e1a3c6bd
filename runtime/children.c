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

static ckpt_status append_word(ckpt_path *p, const char *word, ckpt_error *err) {
  return append(p, word, strlen(word), err);
}

ckpt_status ckpt_path_append(ckpt_path *p, const ckpt_way *way, ckpt_error *err) {
  switch (way->step) {
    case CKPT_STEP_KEY: return append_key(p, way->key, err);
    case CKPT_STEP_STATE: return append_word(p, ".state", err);
    case CKPT_STEP_KWARGS: return append_word(p, ".kwargs", err);
    case CKPT_STEP_ARGS: return append_word(p, ".args", err);
    case CKPT_STEP_ARG: CKPT_TRY(append_word(p, ".args", err)); return append_index(p, way->index, err);
    case CKPT_STEP_ITEM: return append_index(p, way->index, err);
    default: return CKPT_OK;
  }
}

ckpt_status ckpt_value_child(const ckpt_value **out, ckpt_path *path, const ckpt_value *v, size_t i, ckpt_error *err) {
  ckpt_way way = {0};
  *out = ckpt_way_child(&way, v, i);
  return *out == NULL ? CKPT_OK : ckpt_path_append(path, &way, err);
}
