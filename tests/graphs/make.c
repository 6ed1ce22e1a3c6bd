/*
 * make.c - see make.h. Values are made bottom-up out of those made before, which gives sharing; at the end some are put
 * into containers that were made earlier, which gives cycles.
 *
 * What may be a key or a set's item is of few kinds and holds its serial number, so that no two are equal for Python
 * and so that describe.py can sort a set: by the name of the kind, then by serial. Sets are made in that order.
 */
#include "make.h"

#include <stdio.h>

enum { MAX_VALUES = 4096, STORAGES = 4, KEYS = 64 };

typedef struct key {
  ckpt_value *value;
  int rank;
} key;

typedef struct typed_storage {
  ckpt_storage *storage;
  ckpt_dtype dtype;
} typed_storage;

typedef struct maker {
  ckpt_document *doc;
  uint64_t state;
  ckpt_value *values[MAX_VALUES];
  size_t n;
  key keys[KEYS]; /* in the order of their serials */
  size_t n_keys;
  typed_storage storages[STORAGES];
  size_t n_storages;
  ckpt_error *err;
} maker;

typedef ckpt_status (*making)(ckpt_value **out, maker *m);

/* ---- chance ---- */

static uint64_t next(maker *m) { /* splitmix64 */
  uint64_t z = (m->state += 0x9e3779b97f4a7c15u);
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

static size_t below(maker *m, size_t n) { return (size_t)(next(m) % n); }
static bool chance(maker *m, size_t one_in) { return below(m, one_in) == 0; }
static ckpt_value *any(maker *m) { return m->values[below(m, m->n)]; }

/* ---- atoms ---- */

static ckpt_status make_none(ckpt_value **out, maker *m) { return ckpt_value_new_none(out, m->doc, m->err); }
static ckpt_status make_bool(ckpt_value **out, maker *m) {
  return ckpt_value_new_bool(out, m->doc, chance(m, 2), m->err);
}

static ckpt_status make_int(ckpt_value **out, maker *m) {
  uint64_t edge = (UINT64_C(1) << below(m, 64)) - (uint64_t)below(m, 3);
  return ckpt_value_new_int(out, m->doc, (int64_t)(chance(m, 2) ? edge : ~edge), m->err);
}

/* 9 to 300 bytes, about 255 among them; the top byte makes the number minimal. */
static ckpt_status make_bigint(ckpt_value **out, maker *m) {
  unsigned char b[300];
  size_t n = chance(m, 4) ? 253 + below(m, 48) : 9 + below(m, 30);
  for (size_t i = 0; i < n; i++) b[i] = (unsigned char)next(m);
  b[n - 1] = (unsigned char)(chance(m, 2) ? 1 + below(m, 127) : 128 + below(m, 127));
  *out = ckpt_value_make_text(m->doc, CKPT_BIGINT, b, n, m->err);
  return *out == NULL ? m->err->status : CKPT_OK;
}

static ckpt_status make_float(ckpt_value **out, maker *m) {
  static const double special[] = {0.0, -0.0, 1.5, -0.1, 1e300, 5e-324, 1e16, 1e-5, 123456789.125, 1.0 / 3};
  double d = special[below(m, CKPT_COUNTOF(special))];
  uint64_t bits = next(m);
  if (chance(m, 8)) bits = UINT64_C(0x7ff0000000000000) | (uint64_t)below(m, 2) << 63;
  if (chance(m, 3)) memcpy(&d, &bits, 8);
  return ckpt_value_new_double(out, m->doc, d, m->err);
}

static ckpt_status make_str(ckpt_value **out, maker *m) {
  static const char *const pieces[] = {
      "a",     "layer.weight", "\xc3\xa9", "\xe4\xb8\xad", "\xf0\x9f\x98\x80", "\xed\xa0\x80", "\n\t",
      "'\"\\", "\xed\xbf\xbf", "",         "_metadata"};
  char s[1200];
  size_t n = 0, count = chance(m, 20) ? 60 : below(m, 5);
  for (size_t i = 0; i < count; i++) {
    const char *piece = pieces[below(m, CKPT_COUNTOF(pieces))];
    memcpy(s + n, piece, strlen(piece));
    n += strlen(piece);
    if (chance(m, 6)) s[n++] = '\0';
  }
  return ckpt_value_new_str(out, m->doc, s, n, m->err);
}

static ckpt_status make_raw(ckpt_value **out, maker *m, ckpt_kind kind) {
  unsigned char b[600];
  size_t n = chance(m, 10) ? 250 + below(m, 20) : below(m, 12);
  for (size_t i = 0; i < n; i++) b[i] = (unsigned char)next(m);
  *out = ckpt_value_make_text(m->doc, kind, b, n, m->err);
  return *out == NULL ? m->err->status : CKPT_OK;
}

static ckpt_status make_bytes(ckpt_value **out, maker *m) { return make_raw(out, m, CKPT_BYTES); }
static ckpt_status make_bytearray(ckpt_value **out, maker *m) { return make_raw(out, m, CKPT_BYTEARRAY); }

static ckpt_value *class_named(maker *m, const char *module, const char *name) {
  return ckpt_value_make_class(m->doc, module, strlen(module), name, strlen(name), m->err);
}

static ckpt_status make_class(ckpt_value **out, maker *m) {
  static const char *const names[][2] = {{"collections", "OrderedDict"},
                                         {"graph_classes", "Node"},
                                         {"graph_classes", "Outer.Inner"},
                                         {"torch", "float32"},
                                         {"builtins", "len"}};
  size_t i = below(m, CKPT_COUNTOF(names));
  *out = class_named(m, names[i][0], names[i][1]);
  return *out == NULL ? m->err->status : CKPT_OK;
}

/* ---- keys ---- */

static ckpt_status object(ckpt_value **out, maker *m, ckpt_how how, const char *name, ckpt_value *args) {
  ckpt_value *cls = class_named(m, "graph_classes", name);
  *out = cls == NULL ? NULL : ckpt_value_make_object(m->doc, how, cls, args, m->err);
  return *out == NULL ? m->err->status : CKPT_OK;
}

/* A Node, hashed by its identity: {"serial": n}, and perhaps anything else. */
static ckpt_status make_node(ckpt_value **out, maker *m, int64_t serial) {
  ckpt_value *state = NULL, *number = NULL, *node = NULL;
  CKPT_TRY(object(&node, m, CKPT_BY_NEWOBJ, "Node", ckpt_document_empty_tuple(m->doc)));
  CKPT_TRY(ckpt_value_new_dict(&state, m->doc, false, m->err));
  CKPT_TRY(ckpt_value_new_int(&number, m->doc, serial, m->err));
  CKPT_TRY(ckpt_value_set(state, m->doc, "serial", number, m->err));
  if (m->n > 0) CKPT_TRY(ckpt_value_set(state, m->doc, "other", any(m), m->err));
  node->as.object->state = state;
  *out = node;
  return CKPT_OK;
}

/* (serial, "x") or {serial, "x"}. */
static ckpt_status make_pair(ckpt_value **out, maker *m, ckpt_kind kind, int64_t serial) {
  ckpt_value *v = ckpt_value_make(m->doc, kind, m->err), *item = NULL;
  if (v == NULL) return m->err->status;
  CKPT_TRY(ckpt_value_new_int(&item, m->doc, serial, m->err));
  CKPT_TRY(ckpt_seq_push(&v->as.seq, m->doc, item, m->err));
  CKPT_TRY(ckpt_value_new_str(&item, m->doc, "x", 1, m->err));
  CKPT_TRY(ckpt_seq_push(&v->as.seq, m->doc, item, m->err));
  *out = v;
  return CKPT_OK;
}

/* Ranks follow the names that describe.py sorts by: bytes, float, frozenset, int, node, str, tuple. */
static ckpt_status make_key(maker *m) {
  int64_t serial = (int64_t)m->n_keys + 2; /* 0 and 1 are False and True */
  int rank = (int)below(m, 7);
  char text[32];
  ckpt_value *v = NULL;
  size_t n = (size_t)snprintf(text, sizeof text, "key%08lld", (long long)serial);
  switch (rank) {
    case 0: CKPT_TRY(ckpt_value_new_bytes(&v, m->doc, text, n, m->err)); break;
    case 1: CKPT_TRY(ckpt_value_new_double(&v, m->doc, (double)serial + 0.5, m->err)); break;
    case 2: CKPT_TRY(make_pair(&v, m, CKPT_FROZENSET, serial)); break;
    case 3: CKPT_TRY(ckpt_value_new_int(&v, m->doc, serial, m->err)); break;
    case 4: CKPT_TRY(make_node(&v, m, serial)); break;
    case 5: CKPT_TRY(ckpt_value_new_str(&v, m->doc, text, n, m->err)); break;
    default: CKPT_TRY(make_pair(&v, m, CKPT_TUPLE, serial));
  }
  m->keys[m->n_keys++] = (key){v, rank};
  return CKPT_OK;
}

/* ---- containers ---- */

static size_t some(maker *m) {
  if (chance(m, 400)) return 990 + below(m, 1100); /* beyond a pickler's batch */
  return below(m, 6);
}

static ckpt_status make_list(ckpt_value **out, maker *m) {
  CKPT_TRY(ckpt_value_new_list(out, m->doc, m->err));
  for (size_t i = some(m); i > 0; i--) CKPT_TRY(ckpt_value_append(*out, m->doc, any(m), m->err));
  return CKPT_OK;
}

static ckpt_status make_tuple(ckpt_value **out, maker *m) {
  CKPT_TRY(ckpt_value_new_tuple(out, m->doc, m->err));
  for (size_t i = below(m, 6); i > 0; i--) CKPT_TRY(ckpt_value_append(*out, m->doc, any(m), m->err));
  return CKPT_OK;
}

static ckpt_status fill_dict(maker *m, ckpt_dict *d, size_t n) {
  for (size_t i = 0; i < n; i++) CKPT_TRY(ckpt_dict_put(d, m->doc, m->keys[below(m, m->n_keys)].value, any(m), m->err));
  return CKPT_OK;
}

/* More pairs than there are keys: integers from 1000 on. */
static ckpt_status fill_long_dict(maker *m, ckpt_dict *d, size_t n) {
  for (size_t i = 0; i < n; i++) {
    ckpt_value *number = NULL;
    CKPT_TRY(ckpt_value_new_int(&number, m->doc, 1000 + (int64_t)i, m->err));
    CKPT_TRY(ckpt_dict_put(d, m->doc, number, any(m), m->err));
  }
  return CKPT_OK;
}

static ckpt_status make_dict(ckpt_value **out, maker *m) {
  CKPT_TRY(ckpt_value_new_dict(out, m->doc, false, m->err));
  size_t n = some(m);
  return n < 100 ? fill_dict(m, (*out)->as.dict, n) : fill_long_dict(m, (*out)->as.dict, n);
}

static ckpt_status make_ordered(ckpt_value **out, maker *m) {
  ckpt_value *state = NULL;
  size_t n = some(m);
  CKPT_TRY(ckpt_value_new_dict(out, m->doc, true, m->err));
  CKPT_TRY(n < 100 ? fill_dict(m, (*out)->as.dict, n) : fill_long_dict(m, (*out)->as.dict, n));
  if (!chance(m, 3)) return CKPT_OK;
  CKPT_TRY(ckpt_value_new_dict(&state, m->doc, false, m->err));
  CKPT_TRY(ckpt_value_set(state, m->doc, "_metadata", any(m), m->err));
  (*out)->as.dict->state = state;
  return CKPT_OK;
}

static ckpt_status push_long_set(maker *m, ckpt_value *set, size_t n) {
  for (size_t i = 0; i < n; i++) {
    ckpt_value *number = NULL;
    CKPT_TRY(ckpt_value_new_int(&number, m->doc, 1000 + (int64_t)i, m->err));
    CKPT_TRY(ckpt_seq_push(&set->as.seq, m->doc, number, m->err));
  }
  return CKPT_OK;
}

static ckpt_status make_set(ckpt_value **out, maker *m) {
  ckpt_value *set = ckpt_value_make(m->doc, chance(m, 2) ? CKPT_SET : CKPT_FROZENSET, m->err);
  if (set == NULL) return m->err->status;
  *out = set;
  if (chance(m, 200)) return push_long_set(m, set, 990 + below(m, 1100));
  size_t one_in = 1 + below(m, 12);
  for (int rank = 0; rank < 7; rank++)
    for (size_t i = 0; i < m->n_keys; i++)
      if (m->keys[i].rank == rank && chance(m, one_in))
        CKPT_TRY(ckpt_seq_push(&set->as.seq, m->doc, m->keys[i].value, m->err));
  return CKPT_OK;
}

/* ---- objects ---- */

static ckpt_status tuple_of(ckpt_value **out, maker *m, ckpt_value *a, ckpt_value *b) {
  CKPT_TRY(ckpt_value_new_tuple(out, m->doc, m->err));
  CKPT_TRY(ckpt_value_append(*out, m->doc, a, m->err));
  return b == NULL ? CKPT_OK : ckpt_value_append(*out, m->doc, b, m->err);
}

static ckpt_status make_list_object(ckpt_value **out, maker *m) {
  CKPT_TRY(object(out, m, CKPT_BY_NEWOBJ, "MyList", ckpt_document_empty_tuple(m->doc)));
  for (size_t i = some(m); i > 0; i--) CKPT_TRY(ckpt_seq_push(&(*out)->as.object->items, m->doc, any(m), m->err));
  return CKPT_OK;
}

static ckpt_status make_dict_object(ckpt_value **out, maker *m) {
  CKPT_TRY(object(out, m, CKPT_BY_NEWOBJ, "MyDict", ckpt_document_empty_tuple(m->doc)));
  return fill_dict(m, &(*out)->as.object->dict, some(m) % 100);
}

static ckpt_status make_reduced(ckpt_value **out, maker *m) {
  ckpt_value *args = NULL;
  CKPT_TRY(tuple_of(&args, m, any(m), any(m)));
  CKPT_TRY(object(out, m, CKPT_BY_REDUCE, "make_reduced", args));
  ckpt_value *state = any(m);
  if (state->kind != CKPT_NONE && chance(m, 2)) (*out)->as.object->state = state; /* None would be no state */
  return CKPT_OK;
}

static ckpt_status make_with_keywords(ckpt_value **out, maker *m) {
  ckpt_value *args = NULL, *kwargs = NULL;
  CKPT_TRY(tuple_of(&args, m, any(m), NULL));
  CKPT_TRY(ckpt_value_new_dict(&kwargs, m->doc, false, m->err));
  CKPT_TRY(ckpt_value_set(kwargs, m->doc, "key", any(m), m->err));
  CKPT_TRY(object(out, m, CKPT_BY_NEWOBJ_EX, "NewArgsEx", args));
  (*out)->made->kwargs = kwargs;
  return CKPT_OK;
}

static ckpt_status make_object(ckpt_value **out, maker *m) {
  static const making kinds[] = {make_list_object, make_dict_object, make_reduced, make_with_keywords};
  return kinds[below(m, CKPT_COUNTOF(kinds))](out, m);
}

/* ---- tensors ---- */

static ckpt_dtype any_dtype(maker *m) {
  ckpt_dtype dtype;
  do dtype = (ckpt_dtype)below(m, CKPT_DTYPE_COUNT);
  while (ckpt_dtype_rebuild(dtype) == CKPT_REBUILD_Q);
  return dtype;
}

static ckpt_status make_storage(maker *m) {
  ckpt_storage *s = NULL;
  unsigned char *data = NULL;
  ckpt_dtype dtype = any_dtype(m);
  size_t size = ckpt_dtype_size(dtype) * below(m, 40);
  CKPT_TRY(ckpt_storage_new(&s, size, m->err));
  CKPT_TRY(ckpt_document_own_storage(m->doc, s, m->err));
  CKPT_TRY(ckpt_storage_data(&data, s, m->err));
  for (size_t i = 0; i < size; i++) data[i] = (unsigned char)next(m);
  m->storages[m->n_storages++] = (typed_storage){s, dtype};
  return CKPT_OK;
}

/* Any shape and stride that stays inside `numel` elements. */
static void any_view(maker *m, int64_t *shape, int64_t *stride, int64_t *offset, int ndim, int64_t numel) {
  int64_t left = numel == 0 ? 0 : numel - 1;
  *offset = left == 0 ? 0 : (int64_t)below(m, (size_t)left);
  left -= *offset;
  for (int i = 0; i < ndim; i++) {
    stride[i] = (int64_t)below(m, 5);
    shape[i] = numel == 0 ? 0 : (int64_t)below(m, 4);
    if (shape[i] > 1 && (shape[i] - 1) * stride[i] > left) shape[i] = 1;
    if (shape[i] > 1) left -= (shape[i] - 1) * stride[i];
  }
}

static ckpt_status make_tensor(ckpt_value **out, maker *m) {
  if (m->n_storages == 0 || (m->n_storages < STORAGES && chance(m, 3))) CKPT_TRY(make_storage(m));
  typed_storage s = m->storages[below(m, m->n_storages)];
  bool meta = chance(m, 12);
  int64_t shape[5], stride[5], numel = (int64_t)(ckpt_storage_size(s.storage) / ckpt_dtype_size(s.dtype));
  ckpt_numeric numeric = ckpt_dtype_numeric(s.dtype);
  ckpt_tensor_spec spec = {.dtype = s.dtype, .shape = shape, .stride = stride};
  ckpt_tensor *t = NULL;
  spec.ndim = numel == 0 ? 1 + (int)below(m, 4) : (int)below(m, 5);
  any_view(m, shape, stride, &spec.offset, spec.ndim, numel);
  if (meta) spec.offset = 0;
  spec.requires_grad = (numeric == CKPT_NUM_FLOAT || numeric == CKPT_NUM_COMPLEX) && chance(m, 3);
  spec.conj = !meta && numeric == CKPT_NUM_COMPLEX && chance(m, 2);
  spec.neg = !meta && (numeric == CKPT_NUM_FLOAT || numeric == CKPT_NUM_COMPLEX) && chance(m, 4);
  CKPT_TRY(ckpt_tensor_make(&t, meta ? NULL : s.storage, &spec, m->err));
  ckpt_status st = ckpt_value_new_tensor(out, m->doc, t, m->err);
  ckpt_tensor_release(t);
  return st;
}

/* ---- graphs ---- */

static ckpt_status make_value(maker *m) {
  static const making kinds[] = {make_none,    make_bool, make_int,    make_int,    make_bigint,    make_float,
                                 make_float,   make_str,  make_str,    make_bytes,  make_bytearray, make_class,
                                 make_list,    make_list, make_tuple,  make_tuple,  make_dict,      make_dict,
                                 make_ordered, make_set,  make_object, make_object, make_tensor,    make_tensor};
  ckpt_value *v = NULL;
  if (m->n_keys < KEYS && (m->n_keys < 3 || chance(m, 4))) CKPT_TRY(make_key(m));
  CKPT_TRY(kinds[below(m, m->n == 0 ? 8 : CKPT_COUNTOF(kinds))](&v, m));
  m->values[m->n++] = v;
  if (chance(m, 3)) m->values[m->n++] = m->keys[below(m, m->n_keys)].value;
  return CKPT_OK;
}

/* Puts a value into one that was perhaps made before it. */
static ckpt_status tie(maker *m) {
  ckpt_value *to = any(m), *what = any(m);
  if (to->kind == CKPT_LIST) return ckpt_value_append(to, m->doc, what, m->err);
  if (to->kind == CKPT_DICT) return ckpt_dict_put(to->as.dict, m->doc, m->keys[0].value, what, m->err);
  if (to->kind != CKPT_OBJECT) return CKPT_OK;
  ckpt_value *state = to->as.object->state;
  if (state != NULL && state->kind == CKPT_DICT && ckpt_value_get(state, "serial") != NULL)
    return ckpt_value_set(state, m->doc, "tie", what, m->err);
  return CKPT_OK;
}

/* The last values in a list, so that all of the graph is reached; sometimes a chain of lists, hundreds deep. */
static ckpt_status make_root(ckpt_value **out, maker *m) {
  ckpt_value *root = NULL;
  CKPT_TRY(ckpt_value_new_list(&root, m->doc, m->err));
  for (size_t i = m->n > 8 ? m->n - 8 : 0; i < m->n; i++)
    CKPT_TRY(ckpt_value_append(root, m->doc, m->values[i], m->err));
  for (size_t depth = chance(m, 200) ? below(m, 3000) : 0; depth > 0; depth--) {
    ckpt_value *outer = NULL;
    CKPT_TRY(depth % 2 == 0 ? ckpt_value_new_list(&outer, m->doc, m->err)
                            : ckpt_value_new_tuple(&outer, m->doc, m->err));
    CKPT_TRY(ckpt_value_append(outer, m->doc, root, m->err));
    root = outer;
  }
  *out = root;
  return CKPT_OK;
}

ckpt_status make_graph(ckpt_value **out, ckpt_document *doc, uint64_t seed, ckpt_error *err) {
  maker m = {.doc = doc, .state = seed, .err = err};
  size_t n = chance(&m, 10) ? 100 + below(&m, 300) : 1 + below(&m, 30);
  for (size_t i = 0; i < n; i++) CKPT_TRY(make_value(&m));
  for (size_t i = below(&m, n / 4 + 3); i > 0; i--) CKPT_TRY(tie(&m));
  return make_root(out, &m);
}
