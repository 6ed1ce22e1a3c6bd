/*
 * lazy.h - tensors that are computed when somebody first looks at their bytes.
 *
 * A result is a contiguous tensor over a storage of its own, whose context holds the operation, its parameters and its
 * sources. Invariants: everything that can be wrong with shapes and dtypes has been found when the result exists; what
 * is left to fail is memory and the files under the sources. Chains are at most CKPT_LAZY_DEPTH deep, beyond that a
 * result is computed at once; so is one over a tensor that can be written to, whose contents may be others by the time
 * somebody looks.
 */
#ifndef CKPT_LAZY_H
#define CKPT_LAZY_H

#include "tensor.h"

enum { CKPT_LAZY_DEPTH = 8 };

typedef struct ckpt_lazy {
  const struct ckpt_lazy_op *op;
  ckpt_tensor *result; /* meta: its shape and dtype */
  void *params;        /* a copy of the operation's own */
  int depth;           /* results under this one, itself counted */
  size_t n_sources;
  ckpt_tensor *sources[];
} ckpt_lazy;

/*
 * begin (or NULL) sets the result's bytes up, then part is called for each source in turn with its first element in
 * `data`: one source's bytes are at hand at a time. Neither is called for an empty result.
 */
typedef struct ckpt_lazy_op {
  bool plain; /* part moves bytes: a source with conj or neg bits is first resolved into one without */
  void (*begin)(unsigned char *to, const ckpt_lazy *lazy);
  void (*part)(unsigned char *to, const ckpt_lazy *lazy, size_t i, const void *data);
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

#endif
