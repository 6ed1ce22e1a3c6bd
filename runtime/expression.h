/*
 * expression.h - what becomes of the tensors of a file: a tree whose leaves are keys and whose nodes are operations.
 *
 * A tree is built by whoever read it (bindings/expr.c), owned as a whole, and evaluated over tensors that a callback
 * finds: over meta tensors that gives shape and dtype, over those of a file lazy tensors, by the same code, so that
 * what is accepted for the one is accepted for the other. A tree comes from an untrusted policy: nodes, integers and
 * depth are bounded when it is built, sizes and indices are checked when it is evaluated.
 */
#ifndef CKPT_EXPRESSION_H
#define CKPT_EXPRESSION_H

#include "arena.h"
#include "tensor.h"

enum { CKPT_EXPR_NODES = 1 << 16, CKPT_EXPR_INTEGERS = 1 << 20, CKPT_EXPR_DEPTH = 100 };

typedef struct ckpt_expr_op ckpt_expr_op;

typedef struct ckpt_expr_list {
  int64_t *items;
  size_t n;
} ckpt_expr_list;

/* One node; its arguments in the order in which the operation's `arguments` names them. */
typedef struct ckpt_expr_node ckpt_expr_node;
struct ckpt_expr_node {
  const ckpt_expr_op *op; /* NULL: a key */
  const char *key;
  int64_t integer[4];
  int n_integers, n_lists;
  ckpt_expr_list list[2];
  bool has_number, has_dtype;
  ckpt_scalar number;
  ckpt_dtype dtype;
  int mode; /* ckpt_resize */
  ckpt_expr_node **of;
  size_t n_of;
};

/*
 * arguments: i an integer, l a list of integers, r the rest as integers, n a number, t a dtype, m a mode; what follows
 * ? may be left out. of: how many operands, 0, 1, or 2 for one or more; add takes two or one and a number.
 */
struct ckpt_expr_op {
  const char *name, *arguments;
  int of;
  ckpt_status (*apply)(ckpt_tensor **out, const ckpt_expr_node *node, ckpt_tensor *const *of, bool meta,
                       ckpt_error *err);
  const char *usage; /* "permute, { dims }" */
};

typedef struct ckpt_expr {
  ckpt_arena arena;
  ckpt_expr_node *root;
  size_t nodes, integers; /* so far */
} ckpt_expr;

/* Free of NULL does nothing. */
ckpt_status ckpt_expr_new(ckpt_expr **out, ckpt_error *err);
void ckpt_expr_free(ckpt_expr *e);

/* The operation of that name, or NULL; the i-th of all, or NULL past the end. */
const ckpt_expr_op *ckpt_expr_find_op(const char *name);
const ckpt_expr_op *ckpt_expr_op_at(size_t i);

/* The tensor of a key, borrowed, or NULL. */
typedef ckpt_tensor *(*ckpt_expr_find)(void *context, const char *key);

/*
 * `meta`: the tensors that are found are meta, and so is the result. Messages name the operation, its arguments and
 * what it was applied to. CKPT_E_NOTFOUND for a key that is not found. Thread-safe as `find` is.
 */
ckpt_status ckpt_expr_evaluate(ckpt_tensor **out, const ckpt_expr *e, ckpt_expr_find find, void *context, bool meta,
                               ckpt_error *err);

/* Calls `visit` with each key of the tree, in order, as often as it stands there. */
void ckpt_expr_keys(const ckpt_expr *e, void (*visit)(void *context, const char *key), void *context);

#endif
