/*
 * sanitize.c - a copy of a value graph that torch.load(weights_only=True) takes. remedy.c says what becomes of a value,
 * this file makes it: each value once, empty, and filled when its turn comes (as in clone.c), so that sharing and
 * cycles come out as they went in and depth costs no stack.
 *
 * What was dropped or changed is walked at the end for tensors that were lost with it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "changes.h"
#include "numpy.h"
#include "remedy.h"
#include "sparse.h"
#include "way.h"
#include "weights_only.h"

enum { MAX_LISTS_PER_ITEM = 8 }; /* an array of strings may have many dimensions of one element each */

typedef struct result {
  ckpt_value *to; /* NULL: dropped */
  ckpt_remedy remedy;
} result;

typedef struct loss { /* a value that was dropped or changed, and the path that leads to it */
  const ckpt_value *value;
  char *path;
} loss;

typedef struct sanitizer {
  ckpt_document *doc;
  ckpt_profile profile;
  ckpt_places places; /* what has been reached, and... */
  result *results;    /* ...what became of it */
  size_t capacity;
  loss *losses;
  size_t n_losses, loss_capacity;
  ckpt_changes *changes;
  ckpt_error *err; /* never NULL */
} sanitizer;

/* ---- the report ---- */

static ckpt_status remember_loss(sanitizer *s, const ckpt_value *v, char *path) {
  if (s->n_losses == s->loss_capacity) {
    size_t capacity = s->loss_capacity == 0 ? 16 : s->loss_capacity * 2;
    loss *more = realloc(s->losses, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(s->err, capacity * sizeof *more);
    s->losses = more;
    s->loss_capacity = capacity;
  }
  s->losses[s->n_losses++] = (loss){v, path};
  return CKPT_OK;
}

static ckpt_status report(sanitizer *s, const ckpt_value *v, const ckpt_way *way, bool dropped, const char *into) {
  char *path = NULL;
  CKPT_TRY(ckpt_places_path_by(&path, &s->places, way, s->err));
  ckpt_change change = {path, ckpt_remedy_class(v), dropped, into};
  ckpt_status st = ckpt_changes_add(s->changes, &change, s->err);
  char *kept = st == CKPT_OK ? strdup(path) : NULL;
  free(path);
  if (st != CKPT_OK) return st;
  if (kept == NULL) return ckpt_fail_nomem(s->err, 1);
  st = remember_loss(s, v, kept);
  if (st != CKPT_OK) free(kept);
  return st;
}

/* An error that a part of the file is to blame for gets the part's path. */
static ckpt_status blame(sanitizer *s, ckpt_status st, const ckpt_way *way) {
  char *path = NULL;
  if (st == CKPT_E_NOMEM || ckpt_places_path_by(&path, &s->places, way, NULL) != CKPT_OK) return st;
  if (path[0] != '\0') ckpt_fail_in(s->err, st, path);
  free(path);
  return st;
}

/* ---- making values, empty ---- */

static ckpt_status made(ckpt_value **out, sanitizer *s, ckpt_value *v) {
  if (v == NULL) return s->err->status;
  *out = v;
  return CKPT_OK;
}

static ckpt_status empty(ckpt_value **out, sanitizer *s, ckpt_kind kind) {
  return made(out, s, ckpt_value_make(s->doc, kind, s->err));
}

/* A tensor that this file has just made: the value takes over the reference. */
static ckpt_status hand_over(ckpt_value **out, sanitizer *s, ckpt_tensor *t) {
  ckpt_status st = ckpt_value_new_tensor(out, s->doc, t, s->err);
  ckpt_tensor_release(t);
  return st;
}

static ckpt_status make_numbers(ckpt_value **out, sanitizer *s, const ckpt_value *v) {
  ckpt_tensor *t = NULL;
  const ckpt_tensor *from = v->as.tensor;
  if (ckpt_tensor_quantizer(from) != NULL) {
    CKPT_TRY(ckpt_tensor_dequantize(&t, from, s->err));
    return hand_over(out, s, t);
  }
  CKPT_TRY(ckpt_tensor_check_spread(from, s->err));
  CKPT_TRY(ckpt_tensor_new(&t, ckpt_tensor_dtype(from), ckpt_tensor_ndim(from), ckpt_tensor_shape(from), s->err));
  ckpt_status st = ckpt_tensor_copy(t, from, s->err);
  if (st == CKPT_OK) return hand_over(out, s, t);
  ckpt_tensor_release(t);
  return st;
}

/* Lists in lists, as the shape says, must not be far more than what is in them. */
static ckpt_status check_lists(sanitizer *s, const ckpt_array *a) {
  int64_t n = 0, inner = 1;
  for (int d = a->ndim - 1; d > 0 && a->count > 0; d--) n += a->count / (inner *= a->shape[d]);
  if (a->count == 0 || (n - 1) / MAX_LISTS_PER_ITEM < a->count) return CKPT_OK;
  return ckpt_fail(s->err, CKPT_E_LIMIT, -1, "a numpy array of %lld elements would become %lld lists",
                   (long long)a->count, (long long)n);
}

static ckpt_status make_array(ckpt_value **out, sanitizer *s, const ckpt_value *v) {
  ckpt_array a;
  ckpt_tensor *t = NULL;
  CKPT_TRY(ckpt_value_array(&a, v, s->err));
  bool text = a.kind == 'S' || a.kind == 'U', alone = a.ndim == 0;
  bool tensor = !text && (!a.scalar || (s->profile == CKPT_WEIGHTS_ONLY_1_13 && strchr("fc", a.kind) != NULL));
  if (a.kind == 'O' || (text && !alone)) CKPT_TRY(check_lists(s, &a));
  if (a.kind == 'O' || (text && !alone)) return empty(out, s, CKPT_LIST);
  if (!tensor) return ckpt_array_item(out, s->doc, &a, 0, s->err);
  CKPT_TRY(ckpt_array_tensor(&t, &a, s->err));
  return hand_over(out, s, t);
}

/* A float or complex as a tensor without dimensions, bytes as a row of uint8. */
static ckpt_status make_scalar_tensor(ckpt_value **out, sanitizer *s, const ckpt_value *v) {
  ckpt_tensor *t = NULL;
  const void *data = NULL;
  double parts[2] = {0, 0};
  bool is_bytes = v->kind == CKPT_BYTES || v->kind == CKPT_BYTEARRAY;
  int64_t n = is_bytes ? (int64_t)v->as.text.n : 0;
  if (v->kind == CKPT_OBJECT) CKPT_TRY(ckpt_value_complex(&parts[0], &parts[1], v, s->err));
  if (v->kind == CKPT_FLOAT) parts[0] = v->as.number;
  ckpt_dtype dtype = is_bytes ? CKPT_U8 : v->kind == CKPT_FLOAT ? CKPT_F64 : CKPT_C128;
  CKPT_TRY(ckpt_tensor_new(&t, dtype, is_bytes ? 1 : 0, &n, s->err));
  ckpt_status st = ckpt_tensor_data(&data, t, s->err);
  size_t size = is_bytes ? (size_t)n : ckpt_dtype_size(dtype);
  if (st == CKPT_OK && size > 0)
    memcpy((void *)(uintptr_t)data, is_bytes ? (const void *)v->as.text.bytes : parts, size);
  if (st == CKPT_OK) return hand_over(out, s, t);
  ckpt_tensor_release(t);
  return st;
}

/* _codecs.encode("", "latin1"): the short way to say no bytes, builtins.bytes(), is not on the list. */
static ckpt_status make_bytes(ckpt_value **out, sanitizer *s, const ckpt_value *v) {
  ckpt_value *bytes = NULL, *args = NULL, *part = NULL, *encode = NULL;
  CKPT_TRY(ckpt_value_new_bytes(&bytes, s->doc, v->as.text.bytes, v->as.text.n, s->err));
  if (v->as.text.n == 0) {
    CKPT_TRY(empty(&args, s, CKPT_TUPLE));
    CKPT_TRY(ckpt_value_new_str(&part, s->doc, "", 0, s->err));
    CKPT_TRY(ckpt_value_append(args, s->doc, part, s->err));
    CKPT_TRY(ckpt_value_new_str(&part, s->doc, "latin1", 6, s->err));
    CKPT_TRY(ckpt_value_append(args, s->doc, part, s->err));
    CKPT_TRY(made(&encode, s, ckpt_value_make_class(s->doc, "_codecs", 7, "encode", 6, s->err)));
    bytes->made = ckpt_arena_alloc(ckpt_document_arena(s->doc), sizeof *bytes->made, s->err);
    if (bytes->made == NULL) return s->err->status;
    *bytes->made = (ckpt_made){CKPT_BY_REDUCE, encode, args, NULL, NULL};
  }
  *out = bytes;
  return CKPT_OK;
}

/* torch.device("cuda", 0): "cuda:0" */
static ckpt_status make_text(ckpt_value **out, sanitizer *s, const ckpt_value *v) {
  const ckpt_seq *args = &v->made->args->as.seq;
  char text[64];
  int n = args->n > 1 && args->items[1]->kind == CKPT_INT
              ? snprintf(text, sizeof text, "%.30s:%lld", args->items[0]->as.text.bytes,
                         (long long)args->items[1]->as.integer)
              : snprintf(text, sizeof text, "%.60s", args->items[0]->as.text.bytes);
  return ckpt_value_new_str(out, s->doc, text, (size_t)n, s->err);
}

static ckpt_status make_object(ckpt_value **out, sanitizer *s) {
  ckpt_value *v = NULL;
  CKPT_TRY(empty(&v, s, CKPT_OBJECT));
  v->as.object = ckpt_arena_alloc(ckpt_document_arena(s->doc), sizeof *v->as.object, s->err);
  if (v->as.object == NULL) return s->err->status;
  *out = v;
  return CKPT_OK;
}

static ckpt_status make_text_copy(ckpt_value **out, sanitizer *s, const ckpt_value *v) {
  ckpt_value *copy = NULL;
  CKPT_TRY(made(&copy, s, ckpt_value_make_text(s->doc, (ckpt_kind)v->kind, v->as.text.bytes, v->as.text.n, s->err)));
  copy->as.text.module = v->as.text.module;
  *out = copy;
  return CKPT_OK;
}

static ckpt_status make_same(ckpt_value **out, sanitizer *s, const ckpt_value *v) {
  switch (v->kind) {
    case CKPT_STR:
    case CKPT_BYTEARRAY:
    case CKPT_BIGINT:
    case CKPT_CLASS: return make_text_copy(out, s, v);
    case CKPT_TENSOR: return ckpt_value_new_tensor(out, s->doc, v->as.tensor, s->err);
    case CKPT_OBJECT: return make_object(out, s);
    default: break;
  }
  CKPT_TRY(empty(out, s, (ckpt_kind)v->kind));
  if (v->kind == CKPT_INT || v->kind == CKPT_FLOAT) (*out)->as = v->as;
  (*out)->ordered = v->ordered;
  return CKPT_OK;
}

static ckpt_status make(ckpt_value **out, sanitizer *s, ckpt_remedy remedy, const ckpt_value *v) {
  switch (remedy) {
    case CKPT_KEEP: return make_same(out, s, v);
    case CKPT_TO_LIST: return empty(out, s, CKPT_LIST);
    case CKPT_TO_SET: return empty(out, s, CKPT_SET);
    case CKPT_TO_DICT: return empty(out, s, CKPT_DICT);
    case CKPT_TO_TENSOR: return ckpt_value_new_tensor(out, s->doc, v->as.tensor, s->err);
    case CKPT_TO_NUMBERS: return make_numbers(out, s, v);
    case CKPT_TO_BYTES: return make_bytes(out, s, v);
    case CKPT_TO_TEXT: return make_text(out, s, v);
    case CKPT_TO_INNER:
    case CKPT_TO_SPARSE: return make_object(out, s);
    case CKPT_FROM_ARRAY: return make_array(out, s, v);
    case CKPT_FROM_SCALAR: return make_scalar_tensor(out, s, v);
    default: *out = NULL; return CKPT_OK;
  }
}

/* ---- the copy of a value, perhaps not filled yet ---- */

static ckpt_status remember(sanitizer *s, const ckpt_value *v, const ckpt_way *way, result r) {
  CKPT_TRY(ckpt_places_add(&s->places, v, way, NULL, s->err));
  if (s->places.n > s->capacity) {
    size_t capacity = s->capacity == 0 ? 64 : s->capacity * 2;
    result *more = realloc(s->results, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(s->err, capacity * sizeof *more);
    s->results = more;
    s->capacity = capacity;
  }
  s->results[s->places.n - 1] = r;
  return CKPT_OK;
}

/* Of the two objects that are made, one is a tensor to a person. */
static const char *name_of(const ckpt_value *to, ckpt_remedy remedy) {
  if (to->kind != CKPT_OBJECT) return ckpt_kind_name(ckpt_value_kind(to));
  return remedy == CKPT_FROM_ARRAY ? "complex" : "tensor";
}

static ckpt_status decide(ckpt_value **out, sanitizer *s, const ckpt_value *v, const ckpt_way *way) {
  result r = {NULL, CKPT_KEEP};
  bool quiet = false;
  ckpt_status st = ckpt_remedy_of(&r.remedy, &quiet, s->profile, v, s->err);
  if (st == CKPT_OK) st = make(&r.to, s, r.remedy, v);
  if (st != CKPT_OK) return blame(s, st, way);
  CKPT_TRY(remember(s, v, way, r));
  bool changed = r.remedy != CKPT_KEEP && r.remedy != CKPT_DROP && !quiet;
  if (changed) CKPT_TRY(report(s, v, way, false, name_of(r.to, r.remedy)));
  *out = r.to;
  return CKPT_OK;
}

/* NULL: it is dropped, and the caller reports it. */
static ckpt_status copy_of(ckpt_value **out, sanitizer *s, const ckpt_value *v, const ckpt_way *way) {
  size_t at = ckpt_ptrmap_get(&s->places.seen, v);
  if (at != SIZE_MAX) {
    *out = s->results[at].to;
    return CKPT_OK;
  }
  bool plain_empty = v->kind == CKPT_TUPLE && v->made == NULL && v->as.seq.n == 0;
  if (v->kind == CKPT_NONE)
    *out = ckpt_document_none(s->doc);
  else if (v->kind == CKPT_BOOLEAN)
    *out = ckpt_document_bool(s->doc, v->as.boolean);
  else if (plain_empty)
    *out = ckpt_document_empty_tuple(s->doc);
  else
    return decide(out, s, v, way);
  return CKPT_OK;
}

/* ---- filling ---- */

static bool is_key(const ckpt_value *v) {
  return v->kind != CKPT_LIST && v->kind != CKPT_DICT && v->kind != CKPT_SET && v->kind != CKPT_BYTEARRAY;
}

/* What is dropped from a list or tuple leaves None, from a set nothing. */
static ckpt_status put_item(sanitizer *s, ckpt_value *to, const ckpt_value *item, const ckpt_way *way) {
  ckpt_value *copy = NULL;
  CKPT_TRY(copy_of(&copy, s, item, way));
  bool is_set = to->kind == CKPT_SET;
  if (is_set && copy != NULL && !is_key(copy)) copy = NULL;
  if (copy == NULL) CKPT_TRY(report(s, item, way, true, is_set ? "" : "None"));
  if (copy == NULL && is_set) return CKPT_OK;
  return ckpt_seq_push(&to->as.seq, s->doc, copy == NULL ? ckpt_document_none(s->doc) : copy, s->err);
}

static ckpt_status fill_items(sanitizer *s, size_t at, ckpt_value *to, const ckpt_seq *from) {
  for (size_t i = 0; i < from->n; i++) {
    ckpt_way way = {.parent = at, .step = CKPT_STEP_ITEM, .index = i};
    CKPT_TRY(put_item(s, to, from->items[i], &way));
  }
  return CKPT_OK;
}

/* A key that became a tensor is none any more. */
static ckpt_status copy_key(ckpt_value **out, sanitizer *s, const ckpt_value *key, const ckpt_way *way) {
  ckpt_value *copy = NULL;
  CKPT_TRY(copy_of(&copy, s, key, way));
  bool fits = copy != NULL && is_key(copy) && (copy->kind != CKPT_TENSOR || key->kind == CKPT_TENSOR);
  *out = fits ? copy : NULL;
  return fits ? CKPT_OK : report(s, key, way, true, "");
}

static ckpt_status fill_pairs(sanitizer *s, size_t at, ckpt_value *to, const ckpt_dict *from) {
  for (size_t i = 0; i < from->flat.n; i += 2) {
    const ckpt_value *from_item = from->flat.items[i + 1];
    ckpt_way way = {.parent = at, .step = CKPT_STEP_KEY, .key = from->flat.items[i]};
    ckpt_value *key = NULL, *item = NULL;
    CKPT_TRY(copy_key(&key, s, way.key, &way));
    if (key != NULL) CKPT_TRY(copy_of(&item, s, from_item, &way));
    if (item == NULL) {
      CKPT_TRY(report(s, from_item, &way, true, ""));
      continue;
    }
    CKPT_TRY(ckpt_seq_push(&to->as.dict->flat, s->doc, key, s->err));
    CKPT_TRY(ckpt_seq_push(&to->as.dict->flat, s->doc, item, s->err));
  }
  return CKPT_OK;
}

/* The attributes of an OrderedDict, such as _metadata. */
static ckpt_status fill_state(sanitizer *s, size_t at, ckpt_value *to, const ckpt_value *state) {
  ckpt_way way = {.parent = at, .step = CKPT_STEP_WITHIN};
  ckpt_value *copy = NULL;
  if (state == NULL) return CKPT_OK;
  if (state->kind != CKPT_DICT) {
    way.step = CKPT_STEP_STATE;
    return report(s, state, &way, true, "");
  }
  CKPT_TRY(copy_of(&copy, s, state, &way));
  to->as.dict->state = copy;
  return CKPT_OK;
}

static ckpt_status fill_words(sanitizer *s, size_t at, ckpt_value *to, const ckpt_made *words) {
  ckpt_made copy = {.how = words->how, .storage = words->storage};
  ckpt_way way = {.parent = at, .step = CKPT_STEP_ARGS};
  if (words->callable != NULL) CKPT_TRY(copy_of(&copy.callable, s, words->callable, &way));
  CKPT_TRY(copy_of(&copy.args, s, words->args, &way));
  if (copy.storage != NULL) CKPT_TRY(ckpt_document_own_storage(s->doc, ckpt_storage_retain(copy.storage), s->err));
  to->made = ckpt_arena_alloc(ckpt_document_arena(s->doc), sizeof copy, s->err);
  if (to->made == NULL) return s->err->status;
  *to->made = copy;
  return CKPT_OK;
}

/* Lists in lists as the shape says; `at` is the place of the array. */
static ckpt_status fill_array(sanitizer *s, size_t at, ckpt_value *to, const ckpt_array *a) {
  ckpt_value *lists[CKPT_MAX_DIMS] = {to};
  int64_t inner[CKPT_MAX_DIMS + 1] = {0};
  int n = a->ndim == 0 ? 1 : a->ndim;
  inner[n] = 1;
  for (int d = n - 1; d > 0; d--) inner[d] = inner[d + 1] * a->shape[d];
  for (int64_t i = 0; i < a->count; i++) {
    for (int d = 1; d < n; d++) {
      if (i % inner[d] != 0) continue;
      CKPT_TRY(empty(&lists[d], s, CKPT_LIST));
      CKPT_TRY(ckpt_seq_push(&lists[d - 1]->as.seq, s->doc, lists[d], s->err));
    }
    ckpt_value *item = NULL;
    ckpt_way way = {.parent = at, .step = CKPT_STEP_ITEM, .index = (size_t)i};
    CKPT_TRY(ckpt_array_item(&item, s->doc, a, i, s->err));
    CKPT_TRY(a->kind == 'O' ? put_item(s, lists[n - 1], item, &way)
                            : ckpt_seq_push(&lists[n - 1]->as.seq, s->doc, item, s->err));
  }
  return CKPT_OK;
}

static ckpt_status fill_inner(sanitizer *s, size_t at, ckpt_value *to, const ckpt_value *from) {
  ckpt_made words = {.how = CKPT_BY_REDUCE};
  words.callable = (ckpt_value *)(uintptr_t)ckpt_composite_function(from);
  words.args = (ckpt_value *)(uintptr_t)ckpt_composite_args(from);
  return fill_words(s, at, to, &words);
}

/* function(layout, data), in the words of the profile's PyTorch (remedy.c). */
static ckpt_status fill_sparse(sanitizer *s, size_t at, ckpt_value *to, const ckpt_value *from) {
  ckpt_sparse parts;
  ckpt_way way = {.parent = at, .step = CKPT_STEP_ARG};
  ckpt_value *args = NULL, *data = NULL, *part = NULL;
  const ckpt_value *old = ckpt_composite_args(from), *old_data = old->as.seq.items[1];
  bool early = s->profile == CKPT_WEIGHTS_ONLY_1_13;
  CKPT_TRY(ckpt_value_sparse(&parts, from, s->err));
  const char *name = early && parts.layout == CKPT_SPARSE_CSR ? "_rebuild_sparse_csr_tensor" : "_rebuild_sparse_tensor";
  size_t n = early && parts.layout == CKPT_SPARSE_COO ? 3 : old_data->as.seq.n;
  CKPT_TRY(fill_inner(s, at, to, from));
  CKPT_TRY(empty(&args, s, CKPT_TUPLE));
  CKPT_TRY(empty(&data, s, CKPT_TUPLE));
  CKPT_TRY(copy_of(&part, s, old->as.seq.items[0], &way));
  CKPT_TRY(ckpt_seq_push(&args->as.seq, s->doc, part, s->err));
  CKPT_TRY(ckpt_seq_push(&args->as.seq, s->doc, data, s->err));
  way.index = 1;
  for (size_t i = 0; i < n; i++) {
    CKPT_TRY(copy_of(&part, s, old_data->as.seq.items[i], &way));
    CKPT_TRY(ckpt_seq_push(&data->as.seq, s->doc, part, s->err));
  }
  to->made->args = args;
  return made(&to->made->callable, s, ckpt_value_make_class(s->doc, "torch._utils", 12, name, strlen(name), s->err));
}

static ckpt_status fill_same(sanitizer *s, size_t at, ckpt_value *to, const ckpt_value *from) {
  switch (from->kind) {
    case CKPT_TUPLE:
      if (from->made != NULL && ckpt_weights_only_takes(s->profile, from->made->callable)) /* torch.Size */
        CKPT_TRY(fill_words(s, at, to, from->made));
      return fill_items(s, at, to, &from->as.seq);
    case CKPT_LIST:
    case CKPT_SET: return fill_items(s, at, to, &from->as.seq);
    case CKPT_DICT: CKPT_TRY(fill_pairs(s, at, to, from->as.dict)); return fill_state(s, at, to, from->as.dict->state);
    case CKPT_TENSOR:
    case CKPT_OBJECT: return from->made == NULL ? CKPT_OK : fill_words(s, at, to, from->made);
    default: return CKPT_OK;
  }
}

static ckpt_status fill(sanitizer *s, size_t at) {
  ckpt_array a;
  result r = s->results[at];
  const ckpt_value *from = s->places.at[at].value;
  switch (r.remedy) {
    case CKPT_KEEP: return fill_same(s, at, r.to, from);
    case CKPT_TO_LIST:
    case CKPT_TO_SET: return fill_items(s, at, r.to, ckpt_remedy_items(from));
    case CKPT_TO_DICT: return fill_pairs(s, at, r.to, ckpt_remedy_pairs(from));
    case CKPT_TO_INNER: return fill_inner(s, at, r.to, from);
    case CKPT_TO_SPARSE: return fill_sparse(s, at, r.to, from);
    case CKPT_FROM_ARRAY:
      if (r.to->kind != CKPT_LIST) return CKPT_OK;
      CKPT_TRY(ckpt_value_array(&a, from, s->err));
      return fill_array(s, at, r.to, &a);
    default: return CKPT_OK;
  }
}

/* Dicts are hashed last, when their keys are filled. */
static ckpt_status settle(sanitizer *s) {
  for (size_t i = 0; i < s->places.n; i++) {
    ckpt_value *v = s->results[i].to;
    if (v != NULL && v->kind == CKPT_DICT) CKPT_TRY(ckpt_dict_settle(v->as.dict, s->doc, s->err));
  }
  return CKPT_OK;
}

/* ---- what was lost ---- */

static bool is_kept(const sanitizer *s, const ckpt_value *v) {
  size_t at = ckpt_ptrmap_get(&s->places.seen, v);
  return at != SIZE_MAX && s->results[at].to != NULL;
}

static ckpt_status report_lost(sanitizer *s, const loss *l, const ckpt_places *lost, size_t at) {
  char *rest = NULL, *path = NULL;
  CKPT_TRY(ckpt_places_path(&rest, lost, at, s->err));
  const char *joint = l->path[0] == '\0' || rest[0] == '\0' || rest[0] == '[' ? "" : ".";
  if (asprintf(&path, "%s%s%s", l->path, joint, rest) < 0) path = NULL;
  free(rest);
  if (path == NULL) return ckpt_fail_nomem(s->err, strlen(l->path));
  ckpt_change change = {path, "tensor", true, ""};
  ckpt_status st = ckpt_changes_add(s->changes, &change, s->err);
  free(path);
  return st;
}

/* Every value below what was dropped or changed, once; the tensors among them that are nowhere in the copy. */
static ckpt_status find_lost(sanitizer *s) {
  ckpt_places lost = {0};
  ckpt_status st = CKPT_OK;
  for (size_t i = 0; st == CKPT_OK && i < s->n_losses; i++) {
    ckpt_way start = {.step = CKPT_STEP_ROOT};
    size_t from = lost.n;
    st = ckpt_places_add(&lost, s->losses[i].value, &start, NULL, s->err);
    if (st == CKPT_OK) st = ckpt_places_walk(&lost, from, s->err);
    for (size_t at = from + 1; st == CKPT_OK && at < lost.n; at++)
      if (lost.at[at].value->kind == CKPT_TENSOR && !is_kept(s, lost.at[at].value))
        st = report_lost(s, &s->losses[i], &lost, at);
  }
  ckpt_places_free(&lost);
  return st;
}

/* ---- the whole ---- */

static ckpt_status run(ckpt_value **out, sanitizer *s, const ckpt_value *v) {
  ckpt_way start = {.step = CKPT_STEP_ROOT};
  CKPT_TRY(copy_of(out, s, v, &start));
  if (*out == NULL)
    return ckpt_fail(s->err, CKPT_E_UNSUPPORTED, -1,
                     "the whole value is one %.200s, which would be dropped: save its state dict instead",
                     ckpt_remedy_class(v));
  for (size_t i = 0; i < s->places.n; i++) CKPT_TRY(fill(s, i));
  CKPT_TRY(settle(s));
  return find_lost(s);
}

ckpt_status ckpt_value_sanitize(ckpt_value **out, ckpt_changes **changes, ckpt_document *doc, const ckpt_value *v,
                                ckpt_profile profile, ckpt_error *err) {
  ckpt_error here = {0};
  sanitizer s = {.doc = doc, .profile = profile, .err = &here};
  ckpt_value *copy = NULL;
  ckpt_status st = ckpt_changes_new(&s.changes, &here);
  if (st == CKPT_OK) st = run(&copy, &s, v);
  for (size_t i = 0; i < s.n_losses; i++) free(s.losses[i].path);
  free(s.losses);
  free(s.results);
  ckpt_places_free(&s.places);
  if (st == CKPT_OK) {
    *out = copy;
    *changes = s.changes;
    return CKPT_OK;
  }
  ckpt_changes_free(s.changes);
  if (err != NULL) *err = here;
  return st;
}
