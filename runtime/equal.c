/*
 * equal.c - deep equality of two value graphs (ckpt_value_equal in ckpt.h).
 *
 * The way automata are compared (Hopcroft and Karp): two values that are to be equal are put into one class, and only
 * the parts of values that were in different classes are looked at. So cycles end, sharing costs nothing, and there are
 * fewer comparisons than values. Depth costs no stack.
 */
#include <stdlib.h>

#include "key.h"
#include "ptrmap.h"

typedef struct pair {
  const ckpt_value *a, *b;
} pair;

typedef struct comparison {
  ckpt_ptrmap numbers; /* value -> its place in `parents` */
  size_t *parents;     /* union-find */
  size_t n_parents, parents_capacity;
  pair *todo;
  size_t n_todo, todo_capacity;
  bool different;
  ckpt_error *err;
} comparison;

/* ---- classes ---- */

static ckpt_status number_of(size_t *out, comparison *c, const ckpt_value *v) {
  *out = ckpt_ptrmap_get(&c->numbers, v);
  if (*out != SIZE_MAX) return CKPT_OK;
  if (c->n_parents == c->parents_capacity) {
    size_t capacity = c->parents_capacity == 0 ? 64 : c->parents_capacity * 2;
    size_t *more = realloc(c->parents, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(c->err, capacity * sizeof *more);
    c->parents = more;
    c->parents_capacity = capacity;
  }
  *out = c->n_parents;
  c->parents[c->n_parents] = *out;
  c->n_parents++;
  return ckpt_ptrmap_set(&c->numbers, v, *out, c->err);
}

static size_t class_of(comparison *c, size_t i) {
  for (; c->parents[i] != i; i = c->parents[i]) c->parents[i] = c->parents[c->parents[i]];
  return i;
}

/* Puts both into one class; *known if they were in one already. */
static ckpt_status join(bool *known, comparison *c, const ckpt_value *a, const ckpt_value *b) {
  size_t i = 0, j = 0;
  CKPT_TRY(number_of(&i, c, a));
  CKPT_TRY(number_of(&j, c, b));
  i = class_of(c, i);
  j = class_of(c, j);
  *known = i == j;
  c->parents[j] = i;
  return CKPT_OK;
}

static ckpt_status push(comparison *c, const ckpt_value *a, const ckpt_value *b) {
  if (a == b) return CKPT_OK;
  if (a == NULL || b == NULL) {
    c->different = true;
    return CKPT_OK;
  }
  if (c->n_todo == c->todo_capacity) {
    size_t capacity = c->todo_capacity == 0 ? 64 : c->todo_capacity * 2;
    pair *more = realloc(c->todo, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(c->err, capacity * sizeof *more);
    c->todo = more;
    c->todo_capacity = capacity;
  }
  c->todo[c->n_todo++] = (pair){a, b};
  return CKPT_OK;
}

static void differ_unless(comparison *c, bool same) { c->different |= !same; }

/* ---- tensors and storages ---- */

/* Both are of one dtype and shape and have data. */
static ckpt_status contents_equal(bool *same, const ckpt_tensor *a, const ckpt_tensor *b, ckpt_error *err) {
  unsigned char x[4096], y[4096];
  const void *from_a, *from_b;
  int64_t n = ckpt_tensor_numel(a);
  size_t bytes = ckpt_tensor_nbytes(a), size = ckpt_dtype_size(ckpt_tensor_dtype(a));
  int64_t step = ckpt_dtype_per_byte(ckpt_tensor_dtype(a)) * (int64_t)(sizeof x / size);
  CKPT_TRY(ckpt_tensor_check_spread(a, err));
  CKPT_TRY(ckpt_tensor_check_spread(b, err));
  CKPT_TRY(ckpt_tensor_check_packed(a, err));
  CKPT_TRY(ckpt_tensor_check_packed(b, err));
  CKPT_TRY(ckpt_tensor_data(&from_a, a, err));
  CKPT_TRY(ckpt_tensor_data(&from_b, b, err));
  for (int64_t at = 0; at < n && *same; at += step, bytes -= sizeof x / size * size) {
    size_t length = bytes < sizeof x / size * size ? bytes : sizeof x / size * size;
    ckpt_tensor_gather(x, a, from_a, at, n - at < step ? n - at : step);
    ckpt_tensor_gather(y, b, from_b, at, n - at < step ? n - at : step);
    *same = memcmp(x, y, length) == 0;
  }
  return CKPT_OK;
}

static bool same_shape(const ckpt_tensor *a, const ckpt_tensor *b) {
  int n = ckpt_tensor_ndim(a);
  return n == ckpt_tensor_ndim(b) &&
         (n == 0 || memcmp(ckpt_tensor_shape(a), ckpt_tensor_shape(b), (size_t)n * sizeof(int64_t)) == 0);
}

/* Scale and zero point of a quantised tensor, as _rebuild_qtensor was given them. */
static const ckpt_value *quantiser(const ckpt_value *v) {
  bool called = v->made != NULL && v->made->args != NULL && v->made->args->kind == CKPT_TUPLE &&
                ckpt_dtype_numeric(ckpt_tensor_dtype(v->as.tensor)) == CKPT_NUM_QUANT;
  return called && v->made->args->as.seq.n == 7 ? v->made->args->as.seq.items[4] : NULL;
}

static ckpt_status compare_tensors(comparison *c, const ckpt_value *v, const ckpt_value *w) {
  const ckpt_tensor *a = v->as.tensor, *b = w->as.tensor;
  bool same = ckpt_tensor_dtype(a) == ckpt_tensor_dtype(b) && same_shape(a, b) &&
              ckpt_tensor_is_meta(a) == ckpt_tensor_is_meta(b);
  if (same && !ckpt_tensor_is_meta(a) && ckpt_tensor_numel(a) > 0) CKPT_TRY(contents_equal(&same, a, b, c->err));
  differ_unless(c, same);
  return push(c, quantiser(v), quantiser(w));
}

static ckpt_status compare_storages(comparison *c, ckpt_storage *a, ckpt_storage *b) {
  unsigned char *x, *y;
  bool same = ckpt_storage_size(a) == ckpt_storage_size(b);
  if (same && ckpt_storage_size(a) > 0) {
    CKPT_TRY(ckpt_storage_data(&x, a, c->err));
    CKPT_TRY(ckpt_storage_data(&y, b, c->err));
    same = memcmp(x, y, ckpt_storage_size(a)) == 0;
  }
  differ_unless(c, same);
  return CKPT_OK;
}

/* ---- containers ---- */

static ckpt_status compare_items(comparison *c, const ckpt_seq *a, const ckpt_seq *b) {
  differ_unless(c, a->n == b->n);
  for (size_t i = 0; i < a->n && !c->different; i++) CKPT_TRY(push(c, a->items[i], b->items[i]));
  return CKPT_OK;
}

/* By keys; with `ordered` also in one order. */
static ckpt_status compare_pairs(comparison *c, const ckpt_dict *a, const ckpt_dict *b, bool ordered) {
  differ_unless(c, a->flat.n == b->flat.n);
  for (size_t i = 0; i < a->flat.n / 2 && !c->different; i++) {
    size_t at = ckpt_dict_find(b, a->flat.items[2 * i]);
    if (at == SIZE_MAX || (ordered && at != i)) {
      c->different = true;
      break;
    }
    CKPT_TRY(push(c, a->flat.items[2 * i + 1], b->flat.items[2 * at + 1]));
  }
  return CKPT_OK;
}

/* By way of a dict of b's items; *n counts them without doubles. */
static ckpt_status compare_sets(comparison *c, const ckpt_seq *a, const ckpt_seq *b) {
  ckpt_document *scratch = NULL;
  ckpt_dict in_b = {0}, in_a = {0};
  CKPT_TRY(ckpt_document_new(&scratch, c->err));
  ckpt_status st = CKPT_OK;
  for (size_t i = 0; st == CKPT_OK && i < b->n; i++) st = ckpt_dict_put(&in_b, scratch, b->items[i], NULL, c->err);
  for (size_t i = 0; st == CKPT_OK && i < a->n; i++) {
    differ_unless(c, ckpt_dict_find(&in_b, a->items[i]) != SIZE_MAX);
    st = ckpt_dict_put(&in_a, scratch, a->items[i], NULL, c->err);
  }
  differ_unless(c, in_a.flat.n == in_b.flat.n);
  ckpt_document_release(scratch);
  return st;
}

static ckpt_status compare_objects(comparison *c, const ckpt_value *a, const ckpt_value *b) {
  const ckpt_object *x = a->as.object, *y = b->as.object;
  const ckpt_made *m = a->made, *n = b->made;
  differ_unless(c, m->how == n->how && (m->storage == NULL) == (n->storage == NULL));
  if (c->different) return CKPT_OK;
  if (m->storage != NULL) { /* the key and the device of a storage are not what it is */
    CKPT_TRY(push(c, m->args->as.seq.items[1], n->args->as.seq.items[1]));
    return compare_storages(c, m->storage, n->storage);
  }
  CKPT_TRY(push(c, m->callable, n->callable));
  CKPT_TRY(push(c, m->args, n->args));
  CKPT_TRY(push(c, m->kwargs, n->kwargs));
  CKPT_TRY(push(c, x->state, y->state));
  CKPT_TRY(compare_items(c, &x->items, &y->items));
  return compare_pairs(c, &x->dict, &y->dict, false);
}

/* ---- one pair ---- */

static bool is_set(const ckpt_value *v) { return v->kind == CKPT_SET || v->kind == CKPT_FROZENSET; }
static bool is_bytes(const ckpt_value *v) { return v->kind == CKPT_BYTES || v->kind == CKPT_BYTEARRAY; }

/* Kinds that Python's == looks at across: bytes and bytearray, set and frozenset. */
static bool comparable(const ckpt_value *a, const ckpt_value *b) {
  return a->kind == b->kind || (is_set(a) && is_set(b)) || (is_bytes(a) && is_bytes(b));
}

static ckpt_status compare_inside(comparison *c, const ckpt_value *a, const ckpt_value *b) {
  bool known = false;
  CKPT_TRY(join(&known, c, a, b));
  if (known) return CKPT_OK;
  switch (a->kind) {
    case CKPT_LIST:
    case CKPT_TUPLE: return compare_items(c, &a->as.seq, &b->as.seq);
    case CKPT_SET:
    case CKPT_FROZENSET: return compare_sets(c, &a->as.seq, &b->as.seq);
    case CKPT_DICT: return compare_pairs(c, a->as.dict, b->as.dict, a->ordered && b->ordered);
    case CKPT_TENSOR: return compare_tensors(c, a, b);
    case CKPT_OBJECT: return compare_objects(c, a, b);
    default:
      differ_unless(c, a->as.text.n == b->as.text.n && memcmp(a->as.text.bytes, b->as.text.bytes, a->as.text.n) == 0);
      return CKPT_OK;
  }
}

static bool is_atom(const ckpt_value *v) { return v->kind <= CKPT_STR || v->kind == CKPT_CLASS; }

static ckpt_status compare(comparison *c, const ckpt_value *a, const ckpt_value *b) {
  if (is_atom(a) || is_atom(b)) {
    differ_unless(c, ckpt_atom_equal(a, b));
    return CKPT_OK;
  }
  if (comparable(a, b)) return compare_inside(c, a, b);
  c->different = true;
  return CKPT_OK;
}

static ckpt_status run(comparison *c, const ckpt_value *a, const ckpt_value *b) {
  CKPT_TRY(push(c, a, b));
  while (c->n_todo > 0 && !c->different) {
    pair p = c->todo[--c->n_todo];
    CKPT_TRY(compare(c, p.a, p.b));
  }
  return CKPT_OK;
}

ckpt_status ckpt_value_equal(bool *out, const ckpt_value *a, const ckpt_value *b, ckpt_error *err) {
  ckpt_error here = {0};
  comparison c = {.err = &here};
  ckpt_status st = run(&c, a, b);
  ckpt_ptrmap_free(&c.numbers);
  free(c.parents);
  free(c.todo);
  if (st == CKPT_OK)
    *out = !c.different;
  else if (err != NULL)
    *err = here;
  return st;
}
