/* quantized.c - see quantized.h. */
#include "quantized.h"

#include <stdio.h>
#include <stdlib.h>

static const ckpt_tensor *tensor_of(const ckpt_value *v) { return v->kind == CKPT_TENSOR ? v->as.tensor : NULL; }

/* ---- from a file's words ---- */

/* Files of old hold Python lists: a tensor of doubles or int64 is made of them. */
static ckpt_status tensor_of_list(ckpt_tensor **out, const ckpt_value *list, ckpt_dtype dtype, ckpt_error *err) {
  int64_t n = (int64_t)list->as.seq.n;
  ckpt_tensor *t = NULL;
  const void *data = NULL;
  CKPT_TRY(ckpt_tensor_new(&t, dtype, 1, &n, err));
  ckpt_status st = ckpt_tensor_data(&data, t, err);
  for (int64_t i = 0; st == CKPT_OK && i < n; i++) {
    const ckpt_value *item = list->as.seq.items[i];
    double d = 0;
    if ((dtype == CKPT_I64 && item->kind != CKPT_INT) || ckpt_value_double(&d, item, NULL) != CKPT_OK)
      st = ckpt_fail(err, CKPT_E_CORRUPT, -1, "a quantised tensor whose scales or zero points are no numbers");
    else if (dtype == CKPT_I64)
      ((int64_t *)(uintptr_t)data)[i] = item->as.integer;
    else
      ((double *)(uintptr_t)data)[i] = d;
  }
  if (st == CKPT_OK)
    *out = t;
  else
    ckpt_tensor_release(t);
  return st;
}

/* One more reference to a tensor of numbers, whether the file has a tensor or a list. */
static ckpt_status numbers(ckpt_tensor **out, const ckpt_value *v, ckpt_dtype dtype, ckpt_error *err) {
  if (v->kind == CKPT_LIST) return tensor_of_list(out, v, dtype, err);
  if (v->kind != CKPT_TENSOR)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a quantised tensor whose scales or zero points are no tensor");
  *out = ckpt_tensor_retain(v->as.tensor);
  return CKPT_OK;
}

static ckpt_status give(ckpt_tensor *t, const ckpt_quantization *q, ckpt_error *err) {
  ckpt_quantizer *quantizer = NULL;
  CKPT_TRY(ckpt_quantizer_new(&quantizer, q, t, err));
  ckpt_tensor_set_quantizer(t, quantizer);
  return CKPT_OK;
}

static ckpt_status read_per_tensor(ckpt_tensor *t, const ckpt_seq *q, ckpt_error *err) {
  ckpt_quantization made = {.scheme = CKPT_PER_TENSOR_AFFINE};
  if (q->n != 3 || ckpt_value_double(&made.scale, q->items[1], NULL) != CKPT_OK ||
      ckpt_value_int(&made.zero_point, q->items[2], NULL) != CKPT_OK)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a quantised tensor without a scale and an integer zero point");
  return give(t, &made, err);
}

static ckpt_status read_per_channel(ckpt_tensor *t, ckpt_qscheme scheme, const ckpt_seq *q, ckpt_error *err) {
  int64_t axis = 0;
  ckpt_dtype zero_dtype = scheme == CKPT_PER_CHANNEL_AFFINE ? CKPT_I64 : CKPT_F64;
  if (q->n != 4 || ckpt_value_int(&axis, q->items[3], NULL) != CKPT_OK || axis < 0 || axis > CKPT_MAX_DIMS)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a quantised tensor without scales, zero points and an axis");
  ckpt_quantization made = {.scheme = scheme, .axis = (int)axis};
  ckpt_status st = numbers(&made.scales, q->items[1], CKPT_F64, err);
  if (st == CKPT_OK) st = numbers(&made.zero_points, q->items[2], zero_dtype, err);
  if (st == CKPT_OK) st = give(t, &made, err);
  ckpt_tensor_release(made.scales);
  ckpt_tensor_release(made.zero_points);
  return st;
}

ckpt_status ckpt_quantized_read(ckpt_tensor *t, const ckpt_value *qparams, ckpt_error *err) {
  if (qparams == NULL || qparams->kind != CKPT_TUPLE || qparams->as.seq.n == 0)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a quantised tensor without a scheme");
  const ckpt_seq *q = &qparams->as.seq;
  if (ckpt_value_is_class(q->items[0], "torch", "per_tensor_affine")) return read_per_tensor(t, q, err);
  if (ckpt_value_is_class(q->items[0], "torch", "per_channel_affine"))
    return read_per_channel(t, CKPT_PER_CHANNEL_AFFINE, q, err);
  if (ckpt_value_is_class(q->items[0], "torch", "per_channel_affine_float_qparams"))
    return read_per_channel(t, CKPT_PER_CHANNEL_AFFINE_FLOAT_QPARAMS, q, err);
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a quantised tensor of an unknown scheme");
}

/* ---- into a file's words ---- */

typedef struct sayer { /* makes values until one fails */
  ckpt_document *doc;
  ckpt_error *err;
  ckpt_status st;
} sayer;

static ckpt_value *made(sayer *s, ckpt_value *v) {
  if (v == NULL && s->st == CKPT_OK) s->st = s->err->status;
  return v;
}

static ckpt_value *integer(sayer *s, int64_t i) {
  ckpt_value *v = made(s, ckpt_value_make(s->doc, CKPT_INT, s->err));
  if (v != NULL) v->as.integer = i;
  return v;
}

static ckpt_value *number(sayer *s, double d) {
  ckpt_value *v = made(s, ckpt_value_make(s->doc, CKPT_FLOAT, s->err));
  if (v != NULL) v->as.number = d;
  return v;
}

static ckpt_value *text(sayer *s, const char *t) {
  return made(s, ckpt_value_make_text(s->doc, CKPT_STR, t, strlen(t), s->err));
}

static ckpt_value *global(sayer *s, const char *module, const char *name) {
  return made(s, ckpt_value_make_class(s->doc, module, strlen(module), name, strlen(name), s->err));
}

static ckpt_value *tensor(sayer *s, ckpt_tensor *t) {
  ckpt_value *v = NULL;
  if (s->st == CKPT_OK) s->st = ckpt_value_new_tensor(&v, s->doc, t, s->err);
  return v;
}

static ckpt_value *tuple(sayer *s, ckpt_value *const *items, size_t n) {
  if (n == 0) return ckpt_document_empty_tuple(s->doc);
  ckpt_value *v = made(s, ckpt_value_make(s->doc, CKPT_TUPLE, s->err));
  for (size_t i = 0; s->st == CKPT_OK && i < n; i++) s->st = ckpt_seq_push(&v->as.seq, s->doc, items[i], s->err);
  return v;
}

static ckpt_value *dims(sayer *s, const int64_t *d, int n) {
  ckpt_value *items[CKPT_MAX_DIMS];
  for (int i = 0; i < n; i++) items[i] = integer(s, d[i]);
  return tuple(s, items, (size_t)n);
}

/* ("storage", torch.QInt8Storage, key, "cpu", numel): the writer puts the key that the storage gets. */
static ckpt_value *storage_id(sayer *s, const ckpt_tensor *t) {
  ckpt_storage *storage = ckpt_tensor_storage(t);
  ckpt_dtype dtype = ckpt_tensor_dtype(t);
  size_t numel = ckpt_storage_size(storage) / ckpt_dtype_size(dtype);
  ckpt_value *id = tuple(s,
                         (ckpt_value *[]){text(s, "storage"), global(s, "torch", ckpt_dtype_storage_class(dtype)),
                                          text(s, "0"), text(s, "cpu"), integer(s, (int64_t)numel)},
                         5);
  ckpt_value *v = made(s, ckpt_value_make_object(s->doc, CKPT_BY_PERSID, NULL, id, s->err));
  if (s->st == CKPT_OK) s->st = ckpt_document_own_storage(s->doc, ckpt_storage_retain(storage), s->err);
  if (s->st == CKPT_OK) v->made->storage = storage;
  return v;
}

static ckpt_value *qparams_of(sayer *s, const ckpt_quantization *q) {
  bool per_tensor = q->scheme == CKPT_PER_TENSOR_AFFINE; /* PyTorch says the same of both kinds per channel */
  ckpt_value *scheme = global(s, "torch", per_tensor ? "per_tensor_affine" : "per_channel_affine");
  if (per_tensor) return tuple(s, (ckpt_value *[]){scheme, number(s, q->scale), integer(s, q->zero_point)}, 3);
  return tuple(s, (ckpt_value *[]){scheme, tensor(s, q->scales), tensor(s, q->zero_points), integer(s, q->axis)}, 4);
}

/* The OrderedDict of hooks, which is always empty. */
static ckpt_value *no_hooks(sayer *s) {
  ckpt_value *v = made(s, ckpt_value_make(s->doc, CKPT_DICT, s->err));
  if (v != NULL) v->ordered = true;
  return v;
}

ckpt_status ckpt_quantized_say(ckpt_value *v, ckpt_document *doc, ckpt_error *err) {
  ckpt_error here = {0};
  sayer s = {doc, &here, CKPT_OK};
  const ckpt_tensor *t = v->as.tensor;
  int n = ckpt_tensor_ndim(t);
  ckpt_value *qparams = qparams_of(&s, ckpt_quantizer_get(ckpt_tensor_quantizer(t)));
  ckpt_value *args =
      tuple(&s,
            (ckpt_value *[]){storage_id(&s, t), integer(&s, ckpt_tensor_offset(t)), dims(&s, ckpt_tensor_shape(t), n),
                             dims(&s, ckpt_tensor_stride(t), n), qparams,
                             ckpt_document_bool(doc, ckpt_tensor_requires_grad(t)), no_hooks(&s)},
            7);
  ckpt_value *callable = global(&s, "torch._utils", "_rebuild_qtensor");
  ckpt_made *words = ckpt_arena_alloc(ckpt_document_arena(doc), sizeof *words, &here);
  if (words == NULL) s.st = here.status;
  if (s.st != CKPT_OK) {
    if (err != NULL) *err = here;
    return s.st;
  }
  *words = (ckpt_made){CKPT_BY_REDUCE, callable, args, NULL, NULL};
  v->made = words;
  return CKPT_OK;
}

/* ---- looking ---- */

static ckpt_status quantizer_of(const ckpt_quantizer **out, const ckpt_tensor *t, ckpt_error *err) {
  if (ckpt_dtype_numeric(ckpt_tensor_dtype(t)) != CKPT_NUM_QUANT)
    return ckpt_fail(err, CKPT_E_TYPE, -1, "a %s tensor is not quantised", ckpt_dtype_name(ckpt_tensor_dtype(t)));
  *out = ckpt_tensor_quantizer(t);
  if (*out == NULL) return ckpt_fail(err, CKPT_E_TYPE, -1, "a quantised tensor whose scale is not known");
  return CKPT_OK;
}

ckpt_status ckpt_tensor_quantization(ckpt_quantization *out, const ckpt_tensor *t, ckpt_error *err) {
  const ckpt_quantizer *q = NULL;
  CKPT_TRY(quantizer_of(&q, t, err));
  *out = *ckpt_quantizer_get(q);
  return CKPT_OK;
}

static ckpt_status not_a_tensor(const ckpt_value *v, ckpt_error *err) {
  return ckpt_fail(err, CKPT_E_TYPE, -1, "a %s where a quantised tensor was expected",
                   ckpt_kind_name(ckpt_value_kind(v)));
}

ckpt_status ckpt_value_quantization(ckpt_quantization *out, const ckpt_value *v, ckpt_error *err) {
  return tensor_of(v) == NULL ? not_a_tensor(v, err) : ckpt_tensor_quantization(out, tensor_of(v), err);
}

ckpt_status ckpt_value_dequantize(ckpt_tensor **out, const ckpt_value *v, ckpt_error *err) {
  return tensor_of(v) == NULL ? not_a_tensor(v, err) : ckpt_tensor_dequantize(out, tensor_of(v), err);
}

ckpt_status ckpt_quantized_check(const ckpt_value *v, ckpt_error *err) {
  const ckpt_quantizer *q = tensor_of(v) == NULL ? NULL : ckpt_tensor_quantizer(tensor_of(v));
  double *scales = NULL, *zero_points = NULL;
  if (q == NULL) return CKPT_OK;
  CKPT_TRY(ckpt_quantizer_numbers(&scales, &zero_points, q, err));
  free(scales);
  free(zero_points);
  return CKPT_OK;
}

/* ---- dequantising ---- */

typedef struct job {
  const ckpt_tensor *t;
  const unsigned char *from; /* its first element */
  float *to;
  const double *scales, *zero_points;
  int64_t channels, inner; /* the pair of element i is number i / inner % channels */
} job;

static double stored(const unsigned char *p, ckpt_dtype dtype) {
  if (dtype == CKPT_QI8) return (int8_t)p[0];
  return dtype == CKPT_QI32 ? (int32_t)ckpt_le32(p) : p[0];
}

/* Packed elements lie from the low bits up. */
static double stored_packed(const unsigned char *data, ckpt_dtype dtype, int64_t i) {
  int64_t per = ckpt_dtype_per_byte(dtype);
  unsigned bits = 8 / (unsigned)per;
  return (unsigned)data[i / per] >> (bits * (unsigned)(i % per)) & ((1u << bits) - 1);
}

static void put(const job *j, int64_t i, double q) {
  int64_t c = i / j->inner % j->channels;
  j->to[i] = (float)((q - j->zero_points[c]) * j->scales[c]);
}

static void run(const job *j) {
  unsigned char buffer[1 << 12];
  ckpt_dtype dtype = ckpt_tensor_dtype(j->t);
  size_t size = ckpt_dtype_size(dtype);
  int64_t n = ckpt_tensor_numel(j->t), step = (int64_t)(sizeof buffer / size);
  if (ckpt_dtype_per_byte(dtype) > 1) {
    for (int64_t i = 0; i < n; i++) put(j, i, stored_packed(j->from, dtype, i));
    return;
  }
  for (int64_t at = 0; at < n; at += step) {
    int64_t count = n - at < step ? n - at : step;
    ckpt_tensor_gather(buffer, j->t, j->from, at, count);
    for (int64_t i = 0; i < count; i++) put(j, at + i, stored(buffer + (size_t)i * size, dtype));
  }
}

static void set_channels(job *j, const ckpt_quantization *q) {
  j->channels = j->inner = 1;
  if (q->scheme == CKPT_PER_TENSOR_AFFINE) return;
  j->channels = ckpt_tensor_shape(j->t)[q->axis];
  for (int i = q->axis + 1; i < ckpt_tensor_ndim(j->t); i++) j->inner *= ckpt_tensor_shape(j->t)[i];
}

static ckpt_status dequantize_into(ckpt_tensor *made_tensor, const ckpt_tensor *t, const ckpt_quantizer *q,
                                   ckpt_error *err) {
  double *scales = NULL, *zero_points = NULL;
  const void *from = NULL, *to = NULL;
  CKPT_TRY(ckpt_tensor_data(&from, t, err));
  CKPT_TRY(ckpt_tensor_data(&to, made_tensor, err));
  CKPT_TRY(ckpt_quantizer_numbers(&scales, &zero_points, q, err));
  job j = {.t = t, .from = from, .to = (float *)(uintptr_t)to, .scales = scales, .zero_points = zero_points};
  set_channels(&j, ckpt_quantizer_get(q));
  if (ckpt_tensor_numel(t) > 0) run(&j);
  free(scales);
  free(zero_points);
  return CKPT_OK;
}

ckpt_status ckpt_tensor_dequantize(ckpt_tensor **out, const ckpt_tensor *t, ckpt_error *err) {
  const ckpt_quantizer *q = NULL;
  ckpt_tensor *t32 = NULL;
  CKPT_TRY(quantizer_of(&q, t, err));
  CKPT_TRY(ckpt_tensor_check_spread(t, err));
  CKPT_TRY(ckpt_tensor_check_packed(t, err));
  CKPT_TRY(ckpt_tensor_new(&t32, CKPT_F32, ckpt_tensor_ndim(t), ckpt_tensor_shape(t), err));
  ckpt_status st = dequantize_into(t32, t, q, err);
  if (st != CKPT_OK) {
    ckpt_tensor_release(t32);
    return st;
  }
  *out = t32;
  return CKPT_OK;
}
