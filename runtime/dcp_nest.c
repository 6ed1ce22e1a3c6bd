/* dcp_nest.c - see dcp_nest.h. */
#include "dcp_nest.h"

enum { MAX_CELLS = 1 << 20 };

static ckpt_status bad(const char *fqn, const char *what, ckpt_error *err) {
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, ".metadata: '%.200s': %s", fqn, what);
}

static ckpt_status make(ckpt_value **out, ckpt_document *doc, ckpt_kind kind, ckpt_error *err) {
  return kind == CKPT_DICT ? ckpt_value_new_dict(out, doc, false, err) : ckpt_value_new_list(out, doc, err);
}

static ckpt_status put_text(ckpt_dcp_nest *nest, ckpt_value *dict, const char *text, size_t n, ckpt_value *item,
                            ckpt_error *err) {
  ckpt_value *key = NULL;
  if (strlen(text) == n) return ckpt_value_set(dict, nest->doc, text, item, err); /* equal keys are one value */
  CKPT_TRY(ckpt_value_new_str(&key, nest->doc, text, n, err));
  return ckpt_dict_put(dict->as.dict, nest->doc, key, item, err);
}

/* Where the value under `key` of `holder` is kept; *at stays NULL if there is none yet. */
static ckpt_status look(ckpt_value ***at, ckpt_dcp_nest *nest, ckpt_value *holder, const ckpt_value *key,
                        const char *fqn, ckpt_error *err) {
  bool named = key->kind == CKPT_STR;
  if (holder->made != NULL || (holder->kind != CKPT_DICT && holder->kind != CKPT_LIST))
    return bad(fqn, "its path leads through a value that is saved whole", err);
  if (named != (holder->kind == CKPT_DICT))
    return bad(
        fqn,
        named ? "its path has a name where others have an index" : "its path has an index where others have a name",
        err);
  if (named) {
    size_t i = ckpt_dict_find(holder->as.dict, key);
    *at = i == SIZE_MAX ? NULL : &holder->as.dict->flat.items[2 * i + 1];
    return CKPT_OK;
  }
  ckpt_seq *seq = &holder->as.seq;
  for (; seq->n <= (uint64_t)key->as.integer; nest->cells++) {
    if (nest->cells >= MAX_CELLS)
      return ckpt_fail(err, CKPT_E_LIMIT, -1, ".metadata: '%.200s': index %lld makes lists of more than %d places", fqn,
                       (long long)key->as.integer, MAX_CELLS);
    CKPT_TRY(ckpt_seq_push(seq, nest->doc, ckpt_document_none(nest->doc), err));
  }
  ckpt_value **cell = &seq->items[key->as.integer];
  *at = (*cell)->kind == CKPT_NONE ? NULL : cell;
  return CKPT_OK;
}

static ckpt_status set(ckpt_dcp_nest *nest, ckpt_value *holder, const ckpt_value *key, ckpt_value *item,
                       ckpt_error *err) {
  if (key->kind == CKPT_STR) return put_text(nest, holder, key->as.text.bytes, key->as.text.n, item, err);
  holder->as.seq.items[key->as.integer] = item; /* look() made the place */
  return CKPT_OK;
}

ckpt_status ckpt_dcp_nest_put(ckpt_dcp_nest *nest, const char *fqn, const ckpt_value *path, ckpt_value *item,
                              ckpt_error *err) {
  ckpt_value *holder = nest->root, **at = NULL, flat = {.kind = CKPT_STR};
  const ckpt_value *alone = &flat, *const *keys = path == NULL ? &alone : (const ckpt_value *const *)path->as.seq.items;
  size_t n = path == NULL ? 1 : path->as.seq.n;
  flat.as.text.bytes = fqn;
  flat.as.text.n = strlen(fqn);
  for (size_t i = 0; i + 1 < n; i++) {
    CKPT_TRY(look(&at, nest, holder, keys[i], fqn, err));
    ckpt_value *next = at == NULL ? NULL : *at;
    if (next == NULL) {
      CKPT_TRY(make(&next, nest->doc, keys[i + 1]->kind == CKPT_STR ? CKPT_DICT : CKPT_LIST, err));
      CKPT_TRY(set(nest, holder, keys[i], next, err));
    }
    holder = next;
  }
  CKPT_TRY(look(&at, nest, holder, keys[n - 1], fqn, err));
  if (at != NULL) return bad(fqn, "another entry has the same path", err);
  return set(nest, holder, keys[n - 1], item, err);
}
