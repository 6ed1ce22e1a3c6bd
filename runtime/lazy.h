/*
 * lazy.h - tensors that are computed when somebody first looks at their bytes.
 *
 * A result is a contiguous tensor over a storage of its own, whose context holds the operation, its parameters and its
 * sources. Invariants: everything that can be wrong with shapes and dtypes has been found when the result exists; what
 * is left to fail is memory and the files under the sources. Chains are at most CKPT_LAZY_DEPTH deep, beyond that a
 * result is computed at once; so is one over a tensor that can be written to, whose contents may be others by the time
 * somebody looks.
 *
 * A result need not be computed whole: a box of it (some entries of one dimension, all of those after it, one of each
 * before it) is a smaller result of the same kind. In row-major order the elements of a box follow each other, so that
 * boxes one after another are the result's bytes (lazy_range.c).
 */
#ifndef CKPT_LAZY_H
#define CKPT_LAZY_H

#include "tensor.h"

enum { CKPT_LAZY_DEPTH = 8 };

typedef struct ckpt_lazy {
  const struct ckpt_lazy_op *op;
  ckpt_tensor *result; /* meta: its shape and dtype */
  void *params;        /* a copy of the operation's own */
  size_t params_size;
  int depth; /* results under this one, itself counted */
  size_t n_sources;
  ckpt_tensor *sources[];
} ckpt_lazy;

/*
 * begin (or NULL) sets the result's bytes up, then part is called for each source in turn with its first element in
 * `data`: one source's bytes are at hand at a time. Neither is called for an empty result.
 *
 * cut (or NULL: only the whole can be computed) makes entries [first, first + *n) of dimension `dim` a result of their
 * own, or the first few of them: it may make *n smaller, down to 1. elementwise: each element depends on its own in the
 * only source.
 */
typedef struct ckpt_lazy_op {
  bool plain; /* part moves bytes: a source with conj or neg bits is first resolved into one without */
  void (*begin)(unsigned char *to, const ckpt_lazy *lazy);
  void (*part)(unsigned char *to, const ckpt_lazy *lazy, size_t i, const void *data);
  ckpt_status (*cut)(ckpt_lazy **out, int64_t *n, const ckpt_lazy *lazy, int dim, int64_t first, ckpt_error *err);
  bool elementwise;
} ckpt_lazy_op;

/* Sources and parameters of a result that is about to be made. `params` is copied. */
typedef struct ckpt_lazy_plan {
  const ckpt_lazy_op *op;
  ckpt_dtype dtype;
  int ndim;
  const int64_t *shape;
  size_t n_sources;
  const ckpt_tensor *const *sources;
  const void *params;
  size_t params_size;
} ckpt_lazy_plan;

/*
 * Sources are retained. The result requires a gradient if one of them does and its dtype can. All sources meta: so is
 * the result; some of them: CKPT_E_ARGUMENT. CKPT_E_LIMIT as ckpt_tensor_check_spread has it.
 */
ckpt_status ckpt_lazy_make(ckpt_tensor **out, const ckpt_lazy_plan *plan, ckpt_error *err);

/* What a plan says, without a tensor around it. free of NULL does nothing. */
ckpt_status ckpt_lazy_new(ckpt_lazy **out, const ckpt_lazy_plan *plan, ckpt_error *err);
void ckpt_lazy_free(ckpt_lazy *lazy);

/* The same operation on other sources, as many as it has, for a result of another shape. */
ckpt_status ckpt_lazy_again(ckpt_lazy **out, const ckpt_lazy *lazy, const int64_t *shape,
                            const ckpt_tensor *const *sources, ckpt_error *err);

/* The operation that gives its source's elements as they are. */
extern const ckpt_lazy_op ckpt_lazy_contiguous;

/* A cut of an operation that takes entry i of a dimension from entry i of every source. */
ckpt_status ckpt_lazy_cut_alike(ckpt_lazy **out, int64_t *n, const ckpt_lazy *lazy, int dim, int64_t first,
                                ckpt_error *err);

/* The same, from entry i + source_first of every source. */
ckpt_status ckpt_lazy_cut_from(ckpt_lazy **out, int64_t n, const ckpt_lazy *lazy, int dim, int64_t source_first,
                               ckpt_error *err);

/* Entries [first, first+n) of one source, as they are. */
ckpt_status ckpt_lazy_cut_copy(ckpt_lazy **out, int64_t n, const ckpt_lazy *lazy, size_t source, int dim, int64_t first,
                               ckpt_error *err);

/* A storage source's streams and range, of a context that is a ckpt_lazy. */
bool ckpt_lazy_streams(const void *context);
ckpt_status ckpt_lazy_range(unsigned char *to, size_t *done, void *context, size_t at, size_t n, ckpt_error *err);

#endif
