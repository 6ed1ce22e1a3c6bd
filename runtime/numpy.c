/*
 * numpy.c - see numpy.h. Invariant of every ckpt_array that is given out: count is the product of the shape, and the
 * bytes (or the objects) are exactly as many.
 */
#include "numpy.h"

/* ---- numpy's names ---- */

/* `name` in numpy.core or numpy._core, module `part` ("multiarray", "numeric"). */
static bool is_core(const ckpt_value *v, const char *part, const char *name) {
  static const char *const roots[] = {"numpy.core.", "numpy._core."};
  size_t n, m = strlen(part);
  const char *text = v == NULL || v->kind != CKPT_CLASS ? NULL : v->as.text.bytes;
  if (text == NULL) return false;
  for (size_t i = 0; i < CKPT_COUNTOF(roots); i++) {
    size_t root = strlen(roots[i]);
    if (v->as.text.module != root + m || memcmp(text, roots[i], root) != 0 || memcmp(text + root, part, m) != 0)
      continue;
    const char *found = ckpt_value_class_name(v, &n);
    return n == strlen(name) && memcmp(found, name, n) == 0;
  }
  return false;
}

static const ckpt_value *callable_of(const ckpt_value *v) {
  return v->kind == CKPT_OBJECT && v->made->how == CKPT_BY_REDUCE ? v->made->callable : NULL;
}

static bool is_scalar(const ckpt_value *v) { return is_core(callable_of(v), "multiarray", "scalar"); }
static bool is_reconstructed(const ckpt_value *v) { return is_core(callable_of(v), "multiarray", "_reconstruct"); }
static bool is_from_buffer(const ckpt_value *v) { return is_core(callable_of(v), "numeric", "_frombuffer"); }

bool ckpt_value_is_array(const ckpt_value *v) { return is_scalar(v) || is_reconstructed(v) || is_from_buffer(v); }

static const ckpt_value *item(const ckpt_value *tuple, size_t i) {
  return i < tuple->as.seq.n ? tuple->as.seq.items[i] : NULL;
}

static ckpt_status bad(ckpt_error *err, const char *what) {
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a numpy array %s", what);
}

/* ---- dtype ---- */

static bool is_text(const ckpt_value *v) { return v != NULL && (v->kind == CKPT_STR || v->kind == CKPT_BYTES); }

/* "f8": a letter and the bytes of an element ('U': its characters). */
static ckpt_status read_code(ckpt_array *a, const ckpt_value *code, ckpt_error *err) {
  const char *s = is_text(code) ? code->as.text.bytes : "";
  size_t n = is_text(code) ? code->as.text.n : 0, size = 0;
  bool valid = n >= 2 && n <= 9 && strchr("biufcSUMmOV", s[0]) != NULL;
  for (size_t i = 1; valid && i < n; i++) {
    valid = s[i] >= '0' && s[i] <= '9';
    size = size * 10 + (size_t)(s[i] - '0');
  }
  if (!valid) return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "a numpy array of an unknown dtype '%.20s'", s);
  a->kind = s[0];
  a->itemsize = s[0] == 'U' ? 4 * size : size;
  return CKPT_OK;
}

/* '<', '>', '|' (no matter), '=' (of the machine that wrote it: all that PyTorch runs on are little-endian). */
static ckpt_status read_order(ckpt_array *a, const ckpt_value *order, ckpt_error *err) {
  if (!is_text(order) || order->as.text.n != 1 || strchr("<>|=", order->as.text.bytes[0]) == NULL)
    return bad(err, "whose dtype has no byte order");
  a->big_endian = order->as.text.bytes[0] == '>';
  return CKPT_OK;
}

/* State (version, order, subdtype, names, fields, itemsize, ...); the oldest begins with the order. */
static ckpt_status read_dtype_state(ckpt_array *a, const ckpt_value *state, ckpt_error *err) {
  if (state->kind != CKPT_TUPLE || state->as.seq.n < 2) return bad(err, "whose dtype has no state");
  size_t first = item(state, 0)->kind == CKPT_INT ? 1 : 0;
  CKPT_TRY(read_order(a, item(state, first), err));
  for (size_t i = first + 1; i < first + 4; i++) {
    const ckpt_value *part = item(state, i);
    if (part != NULL && part->kind != CKPT_NONE)
      return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "a numpy array of records, which are no plain values");
  }
  return CKPT_OK;
}

static ckpt_status read_dtype(ckpt_array *a, const ckpt_value *dtype, ckpt_error *err) {
  const ckpt_value *f = dtype == NULL ? NULL : callable_of(dtype);
  if (f == NULL || !ckpt_value_is_class(f, "numpy", "dtype") || dtype->made->args->as.seq.n == 0)
    return bad(err, "without a dtype");
  CKPT_TRY(read_code(a, item(dtype->made->args, 0), err));
  if (dtype->as.object->state == NULL) return CKPT_OK;
  return read_dtype_state(a, dtype->as.object->state, err);
}

/* ---- shape ---- */

static ckpt_status read_shape(ckpt_array *a, const ckpt_value *shape, ckpt_error *err) {
  bool overflow = false, empty = false;
  if (shape == NULL || (shape->kind != CKPT_TUPLE && shape->kind != CKPT_LIST)) return bad(err, "without a shape");
  if (shape->as.seq.n > CKPT_MAX_DIMS)
    return ckpt_fail(err, CKPT_E_LIMIT, -1, "a numpy array of %zu dimensions; at most %d are supported",
                     shape->as.seq.n, CKPT_MAX_DIMS);
  a->ndim = (int)shape->as.seq.n;
  a->count = 1;
  for (int i = 0; i < a->ndim; i++) {
    const ckpt_value *size = shape->as.seq.items[i];
    if (size->kind != CKPT_INT || size->as.integer < 0) return bad(err, "whose shape is no list of sizes");
    a->shape[i] = size->as.integer;
    empty |= a->shape[i] == 0;
    overflow |= !ckpt_mul_i64(&a->count, a->count, a->shape[i]);
  }
  if (overflow && !empty) return bad(err, "whose number of elements does not fit in 63 bits");
  if (empty) a->count = 0;
  return CKPT_OK;
}

/* Strides of dense elements whose dimensions run, from the slowest to the fastest, as `order` says. */
static void set_strides(ckpt_array *a, const int *order) {
  int64_t run = 1;
  for (int i = a->ndim - 1; i >= 0; i--) {
    int dim = order[i];
    a->stride[dim] = a->count == 0 ? 1 : run;
    if (a->count > 0) run *= a->shape[dim]; /* at most count */
  }
}

static void set_order(ckpt_array *a, bool fortran) {
  int order[CKPT_MAX_DIMS] = {0};
  for (int i = 0; i < a->ndim; i++) order[i] = fortran ? a->ndim - 1 - i : i;
  set_strides(a, order);
}

/* Dimension axes[i] of the bytes is dimension i of the array; `shape` is that of the bytes. */
static ckpt_status permute(ckpt_array *a, const ckpt_value *axes, ckpt_error *err) {
  int order[CKPT_MAX_DIMS] = {0};
  int64_t shape[CKPT_MAX_DIMS];
  bool seen[CKPT_MAX_DIMS] = {false};
  if (axes->kind != CKPT_TUPLE && axes->kind != CKPT_LIST) return bad(err, "whose axes are no list");
  if (axes->as.seq.n != (size_t)a->ndim) return bad(err, "with an axis too many or too few");
  memcpy(shape, a->shape, sizeof shape);
  for (int i = 0; i < a->ndim; i++) {
    const ckpt_value *axis = axes->as.seq.items[i];
    bool valid = axis->kind == CKPT_INT && axis->as.integer >= 0 && axis->as.integer < a->ndim;
    if (!valid || seen[axis->as.integer]) return bad(err, "whose axes are no permutation");
    seen[axis->as.integer] = true;
    order[axis->as.integer] = i;
    a->shape[i] = shape[axis->as.integer];
  }
  set_strides(a, order);
  return CKPT_OK;
}

/* ---- contents ---- */

/* The bytes; a Python 2 string is bytes too. */
static ckpt_status read_bytes(ckpt_array *a, const ckpt_value *data, ckpt_error *err) {
  bool is_bytes = data != NULL && (is_text(data) || data->kind == CKPT_BYTEARRAY);
  int64_t need;
  if (!is_bytes || (data->kind == CKPT_STR && !data->bytestring)) return bad(err, "without bytes");
  if (a->itemsize == 0 && a->count > 1) return bad(err, "of many elements that take no bytes");
  if (!ckpt_mul_i64(&need, a->count, (int64_t)a->itemsize) || (uint64_t)need != data->as.text.n)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a numpy array of %lld elements of %zu bytes over %zu bytes",
                     (long long)a->count, a->itemsize, data->as.text.n);
  a->bytes = (const unsigned char *)data->as.text.bytes;
  return CKPT_OK;
}

static ckpt_status read_objects(ckpt_array *a, const ckpt_value *data, ckpt_error *err) {
  if (data == NULL || data->kind != CKPT_LIST || data->as.seq.n != (size_t)a->count)
    return bad(err, "of objects whose list is not as long as its shape says");
  set_order(a, false);
  a->objects = data;
  return CKPT_OK;
}

static ckpt_status read_contents(ckpt_array *a, const ckpt_value *data, ckpt_error *err) {
  return a->kind == 'O' ? read_objects(a, data, err) : read_bytes(a, data, err);
}

/* ---- the three spellings ---- */

/* scalar(dtype, bytes), or scalar(dtype, object) */
static ckpt_status read_scalar(ckpt_array *a, const ckpt_value *v, ckpt_error *err) {
  const ckpt_value *args = v->made->args, *data = item(args, 1);
  a->scalar = true;
  a->count = 1;
  CKPT_TRY(read_dtype(a, item(args, 0), err));
  if (a->kind != 'O') return read_bytes(a, data, err);
  a->objects = data;
  return data == NULL ? bad(err, "of one object that is missing") : CKPT_OK;
}

/* State ([version,] shape, dtype, fortran, data) */
static ckpt_status read_reconstructed(ckpt_array *a, const ckpt_value *v, ckpt_error *err) {
  const ckpt_value *state = v->as.object->state, *cls = item(v->made->args, 0);
  if (cls == NULL || (!ckpt_value_is_class(cls, "numpy", "ndarray") && !ckpt_value_is_class(cls, "numpy", "memmap")))
    return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "an array of a class derived from numpy's");
  if (state == NULL || state->kind != CKPT_TUPLE || state->as.seq.n < 4) return bad(err, "without its state");
  size_t first = state->as.seq.n == 4 ? 0 : 1;
  const ckpt_value *fortran = item(state, first + 2);
  CKPT_TRY(read_shape(a, item(state, first), err));
  CKPT_TRY(read_dtype(a, item(state, first + 1), err));
  bool is_fortran =
      (fortran->kind == CKPT_BOOLEAN && fortran->as.boolean) || (fortran->kind == CKPT_INT && fortran->as.integer != 0);
  set_order(a, is_fortran);
  return read_contents(a, item(state, first + 3), err);
}

/* _frombuffer(bytes, dtype, shape, order[, axes]): order 'C', 'F', or 'K' with the axes of the bytes */
static ckpt_status read_from_buffer(ckpt_array *a, const ckpt_value *v, ckpt_error *err) {
  const ckpt_value *args = v->made->args, *order = item(args, 3), *axes = item(args, 4);
  CKPT_TRY(read_dtype(a, item(args, 1), err));
  CKPT_TRY(read_shape(a, item(args, 2), err));
  if (!is_text(order) || order->as.text.n != 1 || strchr("CFK", order->as.text.bytes[0]) == NULL)
    return bad(err, "without an order of its axes");
  set_order(a, order->as.text.bytes[0] == 'F');
  if (order->as.text.bytes[0] == 'K' && axes != NULL && axes->kind != CKPT_NONE) CKPT_TRY(permute(a, axes, err));
  return read_contents(a, item(args, 0), err);
}

ckpt_status ckpt_value_array(ckpt_array *out, const ckpt_value *v, ckpt_error *err) {
  ckpt_array a = {0};
  if (is_scalar(v))
    CKPT_TRY(read_scalar(&a, v, err));
  else if (is_reconstructed(v))
    CKPT_TRY(read_reconstructed(&a, v, err));
  else if (is_from_buffer(v))
    CKPT_TRY(read_from_buffer(&a, v, err));
  else
    return ckpt_fail(err, CKPT_E_TYPE, -1, "a %s where a numpy array was expected", ckpt_kind_name(ckpt_value_kind(v)));
  *out = a;
  return CKPT_OK;
}
