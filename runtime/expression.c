/* expression.c - see expression.h. */
#include "expression.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "reduce.h"
#include "view.h"

/* ---- arguments ---- */

static ckpt_status to_int(int *out, int64_t given, ckpt_error *err) {
  if (given < -CKPT_MAX_DIMS || given > CKPT_MAX_DIMS)
    return ckpt_fail(err, CKPT_E_RANGE, -1, "there is no dimension %lld", (long long)given);
  *out = (int)given;
  return CKPT_OK;
}

static ckpt_status to_dims(int out[CKPT_MAX_DIMS], const ckpt_expr_list *list, ckpt_error *err) {
  if (list->n > CKPT_MAX_DIMS) return ckpt_fail(err, CKPT_E_RANGE, -1, "%zu dimensions are named", list->n);
  for (size_t i = 0; i < list->n; i++) CKPT_TRY(to_int(&out[i], list->items[i], err));
  return CKPT_OK;
}

/* A dimension of t, counted from its first one. */
static ckpt_status to_dim(int *out, int64_t given, const ckpt_tensor *t, ckpt_error *err) {
  int dim = 0;
  CKPT_TRY(to_int(&dim, given, err));
  return ckpt_view_dim(out, dim, ckpt_tensor_ndim(t), err);
}

/* ---- operations: each is handed its operands ---- */

#define OPERATION(name)                                                                                     \
  static ckpt_status name(ckpt_tensor **out, const ckpt_expr_node *node, ckpt_tensor *const *of, bool meta, \
                          ckpt_error *err)
#define ONE_DIM \
  int dim = 0;  \
  (void)meta;   \
  CKPT_TRY(to_dim(&dim, node->integer[0], of[0], err))

OPERATION(op_index_select) {
  ONE_DIM;
  int64_t size = ckpt_tensor_shape(of[0])[dim];
  const ckpt_expr_list *list = &node->list[0];
  size_t bytes = (list->n + 1) * sizeof(int64_t);
  int64_t *index = malloc(bytes);
  if (index == NULL) return ckpt_fail_nomem(err, bytes);
  for (size_t i = 0; i < list->n; i++) {
    int64_t given = list->items[i];
    index[i] = given < 0 && given >= -size ? given + size : given;
  }
  ckpt_status st = ckpt_tensor_index_select(out, of[0], dim, list->n, index, err);
  free(index);
  return st;
}

static int64_t from_end(int64_t i, int64_t size) { return i < 0 && i >= -size ? i + size : i; }

OPERATION(op_slice) {
  ONE_DIM;
  int64_t size = ckpt_tensor_shape(of[0])[dim];
  int64_t first = from_end(node->integer[1], size),
          stop = node->n_integers > 2 ? from_end(node->integer[2], size) : size;
  return ckpt_tensor_slice(out, of[0], dim, first, stop, node->n_integers > 3 ? node->integer[3] : 1, err);
}

OPERATION(op_flip) {
  int dims[CKPT_MAX_DIMS];
  (void)meta;
  CKPT_TRY(to_dims(dims, &node->list[0], err));
  return ckpt_tensor_flip(out, of[0], (int)node->list[0].n, dims, err);
}

OPERATION(op_roll) {
  ONE_DIM;
  return ckpt_tensor_roll(out, of[0], node->integer[1], dim, err);
}

OPERATION(op_transpose) {
  ONE_DIM;
  int other = 0;
  CKPT_TRY(to_dim(&other, node->integer[1], of[0], err));
  return ckpt_tensor_transpose(out, of[0], dim, other, err);
}

OPERATION(op_permute) {
  int dims[CKPT_MAX_DIMS];
  (void)meta;
  CKPT_TRY(to_dims(dims, &node->list[0], err));
  if (node->list[0].n != (size_t)ckpt_tensor_ndim(of[0]))
    return ckpt_fail(err, CKPT_E_SHAPE, -1, "it names %zu dimensions of a tensor of %d", node->list[0].n,
                     ckpt_tensor_ndim(of[0]));
  return ckpt_tensor_permute(out, of[0], dims, err);
}

OPERATION(op_reshape) {
  (void)meta;
  if (node->list[0].n > CKPT_MAX_DIMS) return ckpt_fail(err, CKPT_E_LIMIT, -1, "too many dimensions");
  return ckpt_tensor_reshape(out, of[0], (int)node->list[0].n, node->list[0].items, err);
}

OPERATION(op_unsqueeze) {
  int dim = 0;
  (void)meta;
  CKPT_TRY(to_int(&dim, node->integer[0], err));
  return ckpt_tensor_unsqueeze(out, of[0], dim, err);
}

/* PyTorch leaves a dimension of another size as it is; here that is a mistake in the rule. */
OPERATION(op_squeeze) {
  ONE_DIM;
  if (ckpt_tensor_shape(of[0])[dim] != 1)
    return ckpt_fail(err, CKPT_E_SHAPE, -1, "dimension %d has size %lld, not 1", dim,
                     (long long)ckpt_tensor_shape(of[0])[dim]);
  return ckpt_tensor_squeeze(out, of[0], 1, &dim, err);
}

OPERATION(op_repeat) {
  ONE_DIM;
  return ckpt_tensor_repeat(out, of[0], dim, node->integer[1], err);
}

OPERATION(op_sum) {
  ONE_DIM;
  return ckpt_tensor_sum(out, of[0], dim, err);
}

OPERATION(op_mean) {
  ONE_DIM;
  return ckpt_tensor_mean(out, of[0], dim, err);
}

OPERATION(op_scale) {
  (void)meta;
  return ckpt_tensor_scale(out, of[0], node->number, err);
}

static ckpt_status add_all(ckpt_tensor **out, const ckpt_expr_node *node, ckpt_tensor *const *of, ckpt_error *err) {
  ckpt_tensor *sum = ckpt_tensor_retain(of[0]);
  for (size_t i = 1; i < node->n_of; i++) {
    ckpt_tensor *next = NULL;
    ckpt_status st = ckpt_tensor_add(&next, sum, of[i], err);
    ckpt_tensor_release(sum);
    if (st != CKPT_OK) return st;
    sum = next;
  }
  *out = sum;
  return CKPT_OK;
}

OPERATION(op_add) {
  (void)meta;
  if (node->has_number == (node->n_of > 1))
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "it takes one tensor and a number, or several tensors");
  return node->has_number ? ckpt_tensor_add_number(out, of[0], node->number, err) : add_all(out, node, of, err);
}

OPERATION(op_cast) {
  (void)meta;
  return ckpt_tensor_to(out, of[0], node->dtype, err);
}

OPERATION(op_pad) {
  ONE_DIM;
  int64_t before[CKPT_MAX_DIMS] = {0}, after[CKPT_MAX_DIMS] = {0};
  before[dim] = node->integer[1];
  after[dim] = node->integer[2];
  return ckpt_tensor_pad(out, of[0], before, after, node->has_number ? node->number : ckpt_scalar_int(0), err);
}

/* [heads, a, b, rest] with a and b exchanged, as [heads * a * b, rest]. */
static ckpt_status exchange(ckpt_tensor **out, const ckpt_tensor *t, const int64_t split[3], ckpt_error *err) {
  int64_t shape[CKPT_MAX_DIMS + 2];
  int ndim = ckpt_tensor_ndim(t);
  ckpt_tensor *apart = NULL, *turned = NULL;
  ckpt_status st;
  memcpy(shape, split, 3 * sizeof *shape);
  memcpy(shape + 3, ckpt_tensor_shape(t) + 1, (size_t)(ndim - 1) * sizeof *shape);
  CKPT_GO(ckpt_tensor_reshape(&apart, t, ndim + 2, shape, err));
  CKPT_GO(ckpt_tensor_transpose(&turned, apart, 1, 2, err));
  st = ckpt_tensor_reshape(out, turned, ndim, ckpt_tensor_shape(t), err);
done:
  ckpt_tensor_release(apart);
  ckpt_tensor_release(turned);
  return st;
}

/* Half of a head's rows. Any number of heads that divides them gives the right shape, and wrong values: where the size
 * of a head is given too, it must agree (llama.cpp#3364). */
static ckpt_status rope_half(int64_t *half, const ckpt_expr_node *node, const ckpt_tensor *t, ckpt_error *err) {
  int64_t heads = node->integer[0], all;
  int64_t size = ckpt_tensor_ndim(t) > 0 ? ckpt_tensor_shape(t)[0] : 0;
  if (size <= 0 || heads <= 0 || !ckpt_mul_i64(&all, heads, 2) || size % all != 0)
    return ckpt_fail(err, CKPT_E_SHAPE, -1, "2 x %lld heads do not divide a first dimension of %lld", (long long)heads,
                     (long long)size);
  *half = size / all;
  if (node->n_integers < 2 || node->integer[1] == 2 * *half) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_SHAPE, -1, "%lld heads of %lld are not a first dimension of %lld", (long long)heads,
                   (long long)node->integer[1], (long long)size);
}

OPERATION(op_rope_split) {
  int64_t half = 0;
  (void)meta;
  CKPT_TRY(rope_half(&half, node, of[0], err));
  return exchange(out, of[0], (const int64_t[]){node->integer[0], half, 2}, err);
}

OPERATION(op_rope_merge) {
  int64_t half = 0;
  (void)meta;
  CKPT_TRY(rope_half(&half, node, of[0], err));
  return exchange(out, of[0], (const int64_t[]){node->integer[0], 2, half}, err);
}

OPERATION(op_resize) {
  int dims[CKPT_MAX_DIMS];
  (void)meta;
  CKPT_TRY(to_dims(dims, &node->list[0], err));
  if (node->list[0].n != node->list[1].n)
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "%zu dimensions and %zu sizes", node->list[0].n, node->list[1].n);
  return ckpt_tensor_resize(out, of[0], (int)node->list[0].n, dims, node->list[1].items, (ckpt_resize)node->mode, err);
}

/* One piece of a split: all sizes are looked at, so that those of its siblings are right too. */
OPERATION(op_split) {
  ONE_DIM;
  const ckpt_expr_list *sizes = &node->list[0];
  int64_t piece = node->integer[1], first = 0, sum = 0, size = ckpt_tensor_shape(of[0])[dim];
  for (size_t i = 0; i < sizes->n; i++) {
    if (sizes->items[i] < 0 || !ckpt_add_i64(&sum, sum, sizes->items[i]))
      return ckpt_fail(err, CKPT_E_RANGE, -1, "size %lld cannot be", (long long)sizes->items[i]);
    if ((int64_t)i < piece) first = sum;
  }
  if (sum != size)
    return ckpt_fail(err, CKPT_E_SHAPE, -1, "the sizes add up to %lld, dimension %d has %lld", (long long)sum, dim,
                     (long long)size);
  if (piece < 0 || piece >= (int64_t)sizes->n)
    return ckpt_fail(err, CKPT_E_RANGE, -1, "there is no piece %lld of %zu", (long long)piece, sizes->n);
  return ckpt_tensor_slice(out, of[0], dim, first, first + sizes->items[piece], 1, err);
}

/* PyTorch would make unequal or fewer pieces; a rule says how many there are and names each. */
OPERATION(op_chunk) {
  ONE_DIM;
  int64_t n = node->integer[1], piece = node->integer[2], size = ckpt_tensor_shape(of[0])[dim];
  if (n < 1 || size % n != 0)
    return ckpt_fail(err, CKPT_E_SHAPE, -1, "dimension %d of size %lld has no %lld equal pieces", dim, (long long)size,
                     (long long)n);
  if (piece < 0 || piece >= n)
    return ckpt_fail(err, CKPT_E_RANGE, -1, "there is no piece %lld of %lld", (long long)piece, (long long)n);
  return ckpt_tensor_slice(out, of[0], dim, size / n * piece, size / n * (piece + 1), 1, err);
}

OPERATION(op_cat) {
  ONE_DIM;
  return ckpt_tensor_cat(out, node->n_of, (const ckpt_tensor *const *)of, dim, err);
}

OPERATION(op_stack) {
  int dim = 0;
  (void)meta;
  CKPT_TRY(to_int(&dim, node->integer[0], err));
  return ckpt_tensor_stack(out, node->n_of, (const ckpt_tensor *const *)of, dim, err);
}

static ckpt_status make_full(ckpt_tensor **out, const ckpt_expr_node *node, ckpt_scalar value, bool meta,
                             ckpt_error *err) {
  if (node->list[0].n > CKPT_MAX_DIMS) return ckpt_fail(err, CKPT_E_LIMIT, -1, "too many dimensions");
  return ckpt_tensor_full(out, node->has_dtype ? node->dtype : CKPT_F32, (int)node->list[0].n, node->list[0].items,
                          value, meta, err);
}

OPERATION(op_zeros) {
  (void)of;
  return make_full(out, node, ckpt_scalar_int(0), meta, err);
}

OPERATION(op_ones) {
  (void)of;
  return make_full(out, node, ckpt_scalar_int(1), meta, err);
}

OPERATION(op_full) {
  (void)of;
  return make_full(out, node, node->number, meta, err);
}

static const ckpt_expr_op operations[] = {
    {"index_select", "il", 1, op_index_select, "index_select, dim, { indices }"},
    {"slice", "ii?ii", 1, op_slice, "slice, dim, first [, stop [, step]]"},
    {"flip", "r", 1, op_flip, "flip, dim, ..."},
    {"roll", "ii", 1, op_roll, "roll, dim, shift"},
    {"transpose", "ii", 1, op_transpose, "transpose, dim, dim"},
    {"permute", "l", 1, op_permute, "permute, { dims }"},
    {"reshape", "l", 1, op_reshape, "reshape, { sizes }"},
    {"unsqueeze", "i", 1, op_unsqueeze, "unsqueeze, dim"},
    {"squeeze", "i", 1, op_squeeze, "squeeze, dim"},
    {"repeat", "ii", 1, op_repeat, "repeat, dim, times"},
    {"sum", "i", 1, op_sum, "sum, dim"},
    {"mean", "i", 1, op_mean, "mean, dim"},
    {"scale", "n", 1, op_scale, "scale, number"},
    {"add", "?n", 2, op_add, "add [, number]"},
    {"cast", "t", 1, op_cast, "cast, dtype"},
    {"pad", "iii?n", 1, op_pad, "pad, dim, before, after [, value]"},
    {"rope_split", "i?i", 1, op_rope_split, "rope_split, heads [, size of a head]"},
    {"rope_merge", "i?i", 1, op_rope_merge, "rope_merge, heads [, size of a head]"},
    {"resize", "llm", 1, op_resize, "resize, { dims }, { sizes }, mode"},
    {"split", "ili", 1, op_split, "split, dim, { sizes }, piece"},
    {"chunk", "iii", 1, op_chunk, "chunk, dim, n, piece"},
    {"cat", "i", 2, op_cat, "cat, dim"},
    {"stack", "i", 2, op_stack, "stack, dim"},
    {"zeros", "l?t", 0, op_zeros, "zeros, { sizes } [, dtype]"},
    {"ones", "l?t", 0, op_ones, "ones, { sizes } [, dtype]"},
    {"full", "nl?t", 0, op_full, "full, value, { sizes } [, dtype]"},
};

const ckpt_expr_op *ckpt_expr_op_at(size_t i) { return i < CKPT_COUNTOF(operations) ? &operations[i] : NULL; }

const ckpt_expr_op *ckpt_expr_find_op(const char *name) {
  for (size_t i = 0; i < CKPT_COUNTOF(operations); i++)
    if (strcmp(operations[i].name, name) == 0) return &operations[i];
  return NULL;
}

/* ---- messages ---- */

typedef struct text {
  char buffer[400];
  size_t n;
} text;

static void add(text *t, const char *format, ...) CKPT_PRINTF(2, 3);
static void add(text *t, const char *format, ...) {
  va_list list;
  va_start(list, format);
  int n = vsnprintf(t->buffer + t->n, sizeof t->buffer - t->n, format, list);
  va_end(list);
  if (n > 0) t->n = t->n + (size_t)n < sizeof t->buffer ? t->n + (size_t)n : sizeof t->buffer - 1;
}

static void add_list(text *t, const ckpt_expr_list *list) {
  add(t, "{");
  for (size_t i = 0; i < list->n && i < 6; i++) add(t, "%s%lld", i > 0 ? ", " : "", (long long)list->items[i]);
  add(t, list->n > 6 ? ", ...}" : "}");
}

static void add_number(text *t, ckpt_scalar v) {
  if (v.kind == CKPT_SCALAR_INT)
    add(t, "%lld", (long long)v.whole);
  else
    add(t, "%g", v.real);
}

static void add_argument(text *t, const ckpt_expr_node *node, char kind, int *integers, int *lists) {
  static const char *const modes[] = {"nearest", "bilinear", "bicubic"};
  switch (kind) {
    case 'i': add(t, "%lld", (long long)node->integer[(*integers)++]); break;
    case 'l': add_list(t, &node->list[(*lists)++]); break;
    case 'r': add_list(t, &node->list[(*lists)++]); break;
    case 'n': add_number(t, node->number); break;
    case 't': add(t, "%s", ckpt_dtype_name(node->dtype)); break;
    default: add(t, "%s", modes[node->mode]);
  }
}

static bool has_argument(const ckpt_expr_node *node, char kind, int integers) {
  if (kind == 'i') return integers < node->n_integers;
  if (kind == 'n') return node->has_number;
  return kind != 't' || node->has_dtype;
}

/* "permute({0, 2, 1}) of float32 [64, 3]" */
static void describe(text *t, const ckpt_expr_node *node, ckpt_tensor *const *of) {
  char shape[CKPT_SHAPE_TEXT];
  int integers = 0, lists = 0, shown = 0;
  add(t, "%s(", node->op->name);
  for (const char *a = node->op->arguments; *a != '\0'; a++) {
    if (*a == '?' || !has_argument(node, *a, integers)) continue;
    add(t, "%s", shown++ > 0 ? ", " : "");
    add_argument(t, node, *a, &integers, &lists);
  }
  add(t, ")");
  for (size_t i = 0; i < node->n_of && i < 4; i++)
    add(t, "%s%s %s", i == 0 ? " of " : ", ", ckpt_dtype_name(ckpt_tensor_dtype(of[i])),
        ckpt_view_shape_text(shape, ckpt_tensor_ndim(of[i]), ckpt_tensor_shape(of[i])));
  if (node->n_of > 4) add(t, " and %zu more", node->n_of - 4);
}

/* ---- evaluation ---- */

typedef struct evaluation {
  ckpt_expr_find find;
  void *context;
  bool meta;
  ckpt_error *err;
} evaluation;

static ckpt_status find_source(ckpt_tensor **out, const evaluation *e, const char *key) {
  ckpt_tensor *t = e->find(e->context, key);
  if (t == NULL) return ckpt_fail(e->err, CKPT_E_NOTFOUND, -1, "there is no tensor '%s'", key);
  *out = ckpt_tensor_retain(t);
  return CKPT_OK;
}

static ckpt_status evaluate(ckpt_tensor **out, const evaluation *e, const ckpt_expr_node *node);

static ckpt_status apply(ckpt_tensor **out, const evaluation *e, const ckpt_expr_node *node, ckpt_tensor **of) {
  for (size_t i = 0; i < node->n_of; i++) CKPT_TRY(evaluate(&of[i], e, node->of[i]));
  ckpt_status st = node->op->apply(out, node, of, e->meta, e->err);
  if (st == CKPT_OK || st == CKPT_E_NOMEM) return st;
  text t = {.n = 0};
  describe(&t, node, of);
  return ckpt_fail_in(e->err, st, t.buffer);
}

static ckpt_status evaluate(ckpt_tensor **out, const evaluation *e, const ckpt_expr_node *node) {
  if (node->op == NULL) return find_source(out, e, node->key);
  ckpt_tensor *one = NULL, **of = &one;
  if (node->n_of > 1) of = calloc(node->n_of, sizeof *of);
  if (of == NULL) return ckpt_fail_nomem(e->err, node->n_of * sizeof *of);
  ckpt_status st = apply(out, e, node, of);
  for (size_t i = 0; i < node->n_of; i++) ckpt_tensor_release(of[i]);
  if (of != &one) free(of);
  return st;
}

ckpt_status ckpt_expr_evaluate(ckpt_tensor **out, const ckpt_expr *e, ckpt_expr_find find, void *context, bool meta,
                               ckpt_error *err) {
  evaluation here = {find, context, meta, err};
  return evaluate(out, &here, e->root);
}

/* ---- life ---- */

ckpt_status ckpt_expr_new(ckpt_expr **out, ckpt_error *err) {
  *out = calloc(1, sizeof **out);
  return *out == NULL ? ckpt_fail_nomem(err, sizeof **out) : CKPT_OK;
}

void ckpt_expr_free(ckpt_expr *e) {
  if (e == NULL) return;
  ckpt_arena_free(&e->arena);
  free(e);
}

static void visit_keys(const ckpt_expr_node *node, void (*visit)(void *context, const char *key), void *context) {
  if (node->op == NULL) visit(context, node->key);
  for (size_t i = 0; i < node->n_of; i++) visit_keys(node->of[i], visit, context);
}

void ckpt_expr_keys(const ckpt_expr *e, void (*visit)(void *context, const char *key), void *context) {
  visit_keys(e->root, visit, context);
}
