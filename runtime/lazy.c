/* lazy.c - see lazy.h. */
#include "lazy.h"

#include <stdlib.h>

/* ---- computing ---- */

/* The bytes of the source that is being added; a source that follows itself is read once. */
typedef struct reading {
  const ckpt_tensor *source;
  const void *data;
  void *owned;
} reading;

static ckpt_status read_source(reading *r, const ckpt_tensor *source, ckpt_error *err) {
  if (r->source == source) return CKPT_OK;
  free(r->owned);
  *r = (reading){NULL, NULL, NULL};
  CKPT_TRY(ckpt_tensor_read(&r->data, &r->owned, source, err));
  r->source = source;
  return CKPT_OK;
}

static ckpt_status compute(unsigned char *to, const ckpt_lazy *lazy, ckpt_error *err) {
  reading r = {NULL, NULL, NULL};
  ckpt_status st = CKPT_OK;
  if (ckpt_tensor_numel(lazy->result) == 0) return CKPT_OK;
  if (lazy->op->begin != NULL) lazy->op->begin(to, lazy);
  for (size_t i = 0; st == CKPT_OK && i < lazy->n_sources; i++) {
    if (ckpt_tensor_numel(lazy->sources[i]) == 0) continue;
    st = read_source(&r, lazy->sources[i], err);
    if (st == CKPT_OK) lazy->op->part(to, lazy, i, r.data);
  }
  free(r.owned);
  return st;
}

static ckpt_status fetch(unsigned char **out, bool *heap, void *context, ckpt_error *err) {
  const ckpt_lazy *lazy = context;
  size_t bytes = ckpt_tensor_nbytes(lazy->result);
  unsigned char *data = malloc(bytes == 0 ? 1 : bytes);
  if (data == NULL) return ckpt_fail_nomem(err, bytes);
  ckpt_status st = compute(data, lazy, err);
  if (st != CKPT_OK) {
    free(data);
    return st;
  }
  *out = data;
  *heap = true;
  return CKPT_OK;
}

void ckpt_lazy_free(ckpt_lazy *lazy) {
  if (lazy == NULL) return;
  for (size_t i = 0; i < lazy->n_sources; i++) ckpt_tensor_release(lazy->sources[i]);
  ckpt_tensor_release(lazy->result);
  free(lazy->params);
  free(lazy);
}

static void drop(void *context) { ckpt_lazy_free(context); }

static const ckpt_storage_source lazy_source = {
    .fetch = fetch, .drop = drop, .streams = ckpt_lazy_streams, .range = ckpt_lazy_range};

/* ---- making ---- */

static const ckpt_lazy *lazy_under(const ckpt_tensor *t) {
  return ckpt_tensor_is_meta(t) ? NULL : ckpt_storage_context(ckpt_tensor_storage(t), &lazy_source);
}

static int depth_of(const ckpt_tensor *t) {
  const ckpt_lazy *lazy = lazy_under(t);
  return lazy == NULL ? 0 : lazy->depth;
}

static ckpt_status check_sources(size_t *meta, const ckpt_lazy_plan *plan, ckpt_error *err) {
  *meta = 0;
  for (size_t i = 0; i < plan->n_sources; i++) {
    *meta += ckpt_tensor_is_meta(plan->sources[i]);
    CKPT_TRY(ckpt_tensor_check_spread(plan->sources[i], err));
    CKPT_TRY(ckpt_tensor_check_packed(plan->sources[i], err));
  }
  if (*meta == 0 || *meta == plan->n_sources) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "%zu of %zu tensors are meta: they have no data", *meta, plan->n_sources);
}

/* A strided view of a result whose elements stand where they stood in its source. */
static bool can_swap(const ckpt_lazy *under, const ckpt_tensor *t) {
  return under != NULL && under->op->elementwise && !ckpt_tensor_is_contiguous(t) && !ckpt_tensor_conj(t) &&
         !ckpt_tensor_neg(t) && ckpt_tensor_is_contiguous(under->sources[0]) &&
         ckpt_tensor_numel(t) <= ckpt_tensor_numel(under->sources[0]) && !ckpt_storage_lies(ckpt_tensor_storage(t));
}

/* The operation of the view instead of the view of the operation, which would have to be computed whole. */
static ckpt_status swap_view(ckpt_tensor **out, const ckpt_lazy *under, const ckpt_tensor *t, ckpt_error *err) {
  ckpt_tensor *view = NULL;
  const ckpt_tensor *base = under->sources[0];
  CKPT_TRY(ckpt_tensor_view(&view, base, ckpt_tensor_offset(base) + ckpt_tensor_offset(t), ckpt_tensor_ndim(t),
                            ckpt_tensor_shape(t), ckpt_tensor_stride(t), err));
  ckpt_lazy_plan plan = {under->op, ckpt_tensor_dtype(t),          ckpt_tensor_ndim(t), ckpt_tensor_shape(t),
                         1,         (const ckpt_tensor *[]){view}, under->params,       under->params_size};
  ckpt_status st = ckpt_lazy_make(out, &plan, err);
  ckpt_tensor_release(view);
  return st;
}

static ckpt_status add_source(ckpt_lazy *lazy, const ckpt_tensor *t, ckpt_error *err) {
  ckpt_tensor *source = NULL;
  if (lazy->op->plain && (ckpt_tensor_conj(t) || ckpt_tensor_neg(t)))
    CKPT_TRY(ckpt_tensor_contiguous(&source, t, err));
  else if (can_swap(lazy_under(t), t))
    CKPT_TRY(swap_view(&source, lazy_under(t), t, err));
  else
    source = ckpt_tensor_retain((ckpt_tensor *)(uintptr_t)t); /* only its count changes */
  int depth = depth_of(source) + 1;
  lazy->sources[lazy->n_sources++] = source;
  if (depth > lazy->depth) lazy->depth = depth;
  return CKPT_OK;
}

static ckpt_status fill(ckpt_lazy *lazy, const ckpt_lazy_plan *plan, ckpt_error *err) {
  if (plan->params_size > 0) {
    lazy->params = malloc(plan->params_size);
    if (lazy->params == NULL) return ckpt_fail_nomem(err, plan->params_size);
    memcpy(lazy->params, plan->params, plan->params_size);
    lazy->params_size = plan->params_size;
  }
  for (size_t i = 0; i < plan->n_sources; i++) CKPT_TRY(add_source(lazy, plan->sources[i], err));
  return ckpt_tensor_meta(&lazy->result, plan->dtype, plan->ndim, plan->shape, err);
}

ckpt_status ckpt_lazy_new(ckpt_lazy **out, const ckpt_lazy_plan *plan, ckpt_error *err) {
  size_t bytes;
  if (!ckpt_mul_size(&bytes, plan->n_sources, sizeof(ckpt_tensor *)) || !ckpt_add_size(&bytes, bytes, sizeof **out))
    return ckpt_fail(err, CKPT_E_LIMIT, -1, "%zu tensors are too many", plan->n_sources);
  ckpt_lazy *lazy = calloc(1, bytes);
  if (lazy == NULL) return ckpt_fail_nomem(err, bytes);
  lazy->op = plan->op;
  ckpt_status st = fill(lazy, plan, err);
  if (st != CKPT_OK) {
    ckpt_lazy_free(lazy);
    return st;
  }
  *out = lazy;
  return CKPT_OK;
}

static bool at_once(const ckpt_lazy *lazy) {
  if (lazy->depth > CKPT_LAZY_DEPTH) return true;
  for (size_t i = 0; i < lazy->n_sources; i++)
    if (ckpt_storage_is_writable(ckpt_tensor_storage(lazy->sources[i]))) return true;
  return false;
}

static ckpt_status compute_now(ckpt_storage **out, const ckpt_lazy *lazy, ckpt_error *err) {
  ckpt_storage *s = NULL;
  unsigned char *data;
  CKPT_TRY(ckpt_storage_new(&s, ckpt_tensor_nbytes(lazy->result), err));
  ckpt_status st = ckpt_storage_data(&data, s, err);
  if (st == CKPT_OK) st = compute(data, lazy, err);
  if (st != CKPT_OK) {
    ckpt_storage_release(s);
    return st;
  }
  *out = s;
  return CKPT_OK;
}

/* Takes `lazy` over, also on failure. */
static ckpt_status make_storage(ckpt_storage **out, ckpt_lazy *lazy, ckpt_error *err) {
  if (!at_once(lazy)) return ckpt_storage_from(out, ckpt_tensor_nbytes(lazy->result), &lazy_source, lazy, err);
  ckpt_status st = compute_now(out, lazy, err);
  ckpt_lazy_free(lazy);
  return st;
}

static bool requires_grad(const ckpt_lazy_plan *plan) {
  ckpt_numeric n = ckpt_dtype_numeric(plan->dtype);
  bool any = false;
  for (size_t i = 0; i < plan->n_sources; i++) any |= ckpt_tensor_requires_grad(plan->sources[i]);
  return any && (n == CKPT_NUM_FLOAT || n == CKPT_NUM_COMPLEX);
}

ckpt_status ckpt_lazy_make(ckpt_tensor **out, const ckpt_lazy_plan *plan, ckpt_error *err) {
  ckpt_tensor_spec spec = {
      .dtype = plan->dtype, .ndim = plan->ndim, .shape = plan->shape, .requires_grad = requires_grad(plan)};
  size_t meta = 0;
  ckpt_lazy *lazy = NULL;
  ckpt_storage *s = NULL;
  CKPT_TRY(check_sources(&meta, plan, err));
  if (meta > 0) return ckpt_tensor_make(out, NULL, &spec, err);
  CKPT_TRY(ckpt_lazy_new(&lazy, plan, err));
  CKPT_TRY(make_storage(&s, lazy, err));
  ckpt_status st = ckpt_tensor_make(out, s, &spec, err);
  ckpt_storage_release(s);
  return st;
}
