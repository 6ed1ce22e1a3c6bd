/*
 * torch_build.c - see torch_build.h.
 *
 *   persistent id  ("storage", torch.FloatStorage, "0", "cpu", numel)
 *   tensor         _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, {"conj": True}])
 *                  _rebuild_tensor_v3(..., hooks, torch.uint16[, metadata])
 */
#include "torch_build.h"

#include <stdio.h>
#include <stdlib.h>

#include "numpy.h"
#include "quantized.h"

typedef ckpt_status (*rebuild)(ckpt_tensor **out, const ckpt_value *args, ckpt_error *err);

/* What a callable is; a pickle names each once and calls it thousands of times. */
typedef struct role {
  const ckpt_value *callable;
  rebuild call;
  bool ordered;
} role;

enum { ROLES = 4 };

struct ckpt_torch_builder {
  ckpt_document *doc;
  role roles[ROLES]; /* those met last */
  size_t next_role;
  ckpt_find_storage find;
  void *context;
  ckpt_strmap keys;   /* storage key -> place in `storages`; of those that are not in `numbered` */
  uint32_t *numbered; /* a key that is a small number -> place + 1, 0: none */
  size_t n_numbered;
  ckpt_storage **storages; /* borrowed: the document owns them */
  size_t n, capacity;
};

static ckpt_status bad(ckpt_error *err, const char *what) { return ckpt_fail(err, CKPT_E_CORRUPT, -1, "%s", what); }

/* ---- arguments ---- */

static const ckpt_value *arg(const ckpt_value *tuple, size_t i) {
  return i < tuple->as.seq.n ? tuple->as.seq.items[i] : NULL;
}

static ckpt_status arg_int(int64_t *out, const ckpt_value *tuple, size_t i, const char *what, ckpt_error *err) {
  const ckpt_value *v = arg(tuple, i);
  if (v == NULL || v->kind != CKPT_INT)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a tensor whose %s is no integer", what);
  *out = v->as.integer;
  return CKPT_OK;
}

static ckpt_status arg_bool(bool *out, const ckpt_value *tuple, size_t i, const char *what, ckpt_error *err) {
  const ckpt_value *v = arg(tuple, i);
  if (v == NULL || v->kind != CKPT_BOOLEAN)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a tensor whose %s is no bool", what);
  *out = v->as.boolean;
  return CKPT_OK;
}

/* A tuple or list of integers, such as a size. */
static ckpt_status arg_dims(int *n, int64_t *dims, const ckpt_value *tuple, size_t i, const char *what,
                            ckpt_error *err) {
  const ckpt_value *v = arg(tuple, i);
  if (v == NULL || (v->kind != CKPT_TUPLE && v->kind != CKPT_LIST))
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a tensor whose %s is no tuple", what);
  if (v->as.seq.n > CKPT_MAX_DIMS)
    return ckpt_fail(err, CKPT_E_LIMIT, -1, "a tensor of %zu dimensions; at most %d are supported", v->as.seq.n,
                     CKPT_MAX_DIMS);
  *n = (int)v->as.seq.n;
  for (size_t k = 0; k < v->as.seq.n; k++) CKPT_TRY(arg_int(&dims[k], v, k, what, err));
  return CKPT_OK;
}

/* A CLASS such as torch.uint16. */
static ckpt_status arg_dtype(ckpt_dtype *out, const ckpt_value *tuple, size_t i, ckpt_error *err) {
  const ckpt_value *v = arg(tuple, i);
  size_t n;
  if (v == NULL || v->kind != CKPT_CLASS || v->as.text.module != 5 || memcmp(v->as.text.bytes, "torch", 5) != 0)
    return bad(err, "a tensor whose dtype is no torch dtype");
  ckpt_status st = ckpt_dtype_parse(out, ckpt_value_class_name(v, &n), err);
  if (st == CKPT_E_NOTFOUND && err != NULL) err->status = CKPT_E_UNSUPPORTED; /* not found are files */
  return st == CKPT_E_NOTFOUND ? CKPT_E_UNSUPPORTED : st;
}

/* ---- storages ---- */

/* The key, a string, or an integer as Python would format it. */
static ckpt_status key_text(char *out, size_t size, const ckpt_value *key, ckpt_error *err) {
  int n = -1;
  if (key != NULL && key->kind == CKPT_STR) {
    size_t length = key->as.text.n;
    if (length >= size || memchr(key->as.text.bytes, 0, length) != NULL)
      return bad(err, "a storage whose key is no short string");
    memcpy(out, key->as.text.bytes, length + 1);
    return CKPT_OK;
  }
  if (key != NULL && key->kind == CKPT_INT) n = snprintf(out, size, "%lld", (long long)key->as.integer);
  return n >= 0 && (size_t)n < size ? CKPT_OK : bad(err, "a storage whose key is no short string");
}

static ckpt_status read_class(ckpt_dtype *dtype, const ckpt_value *cls, ckpt_error *err) {
  size_t n = 0;
  if (cls == NULL || cls->kind != CKPT_CLASS) return bad(err, "a storage without a class");
  const char *name = ckpt_value_class_name(cls, &n);
  if (ckpt_dtype_of_storage_class(dtype, name, n) == CKPT_OK) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "'%.64s' is no storage class", cls->as.text.bytes);
}

bool ckpt_storage_id_is(const ckpt_value *id) {
  const ckpt_value *tag = id->kind == CKPT_TUPLE ? arg(id, 0) : NULL;
  return tag != NULL && tag->kind == CKPT_STR && strcmp(tag->as.text.bytes, "storage") == 0;
}

ckpt_status ckpt_storage_id_read(ckpt_storage_id *out, const ckpt_value *id, ckpt_error *err) {
  ckpt_storage_id read = {0};
  if (id->as.seq.n < 5) return bad(err, "a storage's persistent id with fewer than five parts");
  CKPT_TRY(key_text(read.key, sizeof read.key, arg(id, 2), err));
  CKPT_TRY(read_class(&read.dtype, arg(id, 1), err));
  const ckpt_value *numel = arg(id, 4);
  uint64_t itemsize = ckpt_dtype_size(read.dtype);
  if (numel->kind != CKPT_INT || numel->as.integer < 0 ||
      __builtin_mul_overflow((uint64_t)numel->as.integer, itemsize, &read.bytes))
    return bad(err, "a storage whose number of elements is no count");
  read.numel = (uint64_t)numel->as.integer;
  *out = read;
  return CKPT_OK;
}

/* The number that a key says, if it is one that Python would write and no larger than the storages so far let expect.
 */
static bool key_number(size_t *out, const ckpt_torch_builder *b, const char *key) {
  size_t n = 0, limit = 4 * b->n + 1024;
  if (key[0] == '\0' || (key[0] == '0' && key[1] != '\0')) return false;
  for (const char *p = key; *p != '\0'; p++) {
    if (*p < '0' || *p > '9' || n >= limit) return false;
    n = 10 * n + (size_t)(*p - '0');
  }
  *out = n;
  return n < limit && b->n < UINT32_MAX;
}

static ckpt_status room_for_number(ckpt_torch_builder *b, size_t number, ckpt_error *err) {
  size_t n = 2 * number + 64;
  if (number < b->n_numbered) return CKPT_OK;
  uint32_t *more = realloc(b->numbered, n * sizeof *more);
  if (more == NULL) return ckpt_fail_nomem(err, n * sizeof *more);
  memset(more + b->n_numbered, 0, (n - b->n_numbered) * sizeof *more);
  b->numbered = more;
  b->n_numbered = n;
  return CKPT_OK;
}

/* The place of the storage of that key, or SIZE_MAX. A key may have come too early to be numbered. */
static size_t find_key(const ckpt_torch_builder *b, const char *key) {
  size_t number;
  bool small = key_number(&number, b, key) && number < b->n_numbered;
  if (small && b->numbered[number] != 0) return b->numbered[number] - 1;
  return b->keys.count == 0 ? SIZE_MAX : ckpt_strmap_get(&b->keys, key, strlen(key));
}

/* The next storage gets that key. */
static ckpt_status remember_key(ckpt_torch_builder *b, const char *key, ckpt_error *err) {
  size_t number;
  if (key_number(&number, b, key)) {
    CKPT_TRY(room_for_number(b, number, err));
    b->numbered[number] = (uint32_t)b->n + 1;
    return CKPT_OK;
  }
  ckpt_error here = {0};
  char *copy = ckpt_arena_copy(ckpt_document_arena(b->doc), key, strlen(key), &here);
  if (copy != NULL) return ckpt_strmap_set(&b->keys, copy, strlen(copy), b->n, err);
  if (err != NULL) *err = here;
  return here.status;
}

static ckpt_status remember(ckpt_torch_builder *b, const char *key, ckpt_storage *s, ckpt_error *err) {
  if (b->n == b->capacity) {
    size_t capacity = b->capacity == 0 ? 64 : b->capacity * 2;
    ckpt_storage **more = realloc(b->storages, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
    b->storages = more;
    b->capacity = capacity;
  }
  CKPT_TRY(remember_key(b, key, err));
  b->storages[b->n++] = s;
  return CKPT_OK;
}

/* The storage of that key: one object however often the file names it, and always of the same size. */
static ckpt_status get_storage(ckpt_storage **out, ckpt_torch_builder *b, const char *key, uint64_t bytes,
                               unsigned swap, ckpt_error *err) {
  size_t at = find_key(b, key);
  if (at == SIZE_MAX) {
    ckpt_storage *s = NULL;
    CKPT_TRY(b->find(&s, b->context, key, bytes, swap, err));
    CKPT_TRY(ckpt_document_own_storage(b->doc, s, err));
    CKPT_TRY(remember(b, key, s, err));
    at = b->n - 1;
  }
  if (ckpt_storage_size(b->storages[at]) != bytes)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "storage '%s' is said to hold %llu bytes here and %zu elsewhere", key,
                     (unsigned long long)bytes, ckpt_storage_size(b->storages[at]));
  *out = b->storages[at];
  return CKPT_OK;
}

/* Only ("storage", class, key, location, numel[, view]) is torch's; any other id stays an inert object. */
static ckpt_status on_persid(void *context, ckpt_value *v, ckpt_error *err) {
  ckpt_storage_id id;
  if (!ckpt_storage_id_is(v->made->args)) return CKPT_OK;
  CKPT_TRY(ckpt_storage_id_read(&id, v->made->args, err));
  return get_storage(&v->made->storage, context, id.key, id.bytes, ckpt_dtype_swap_unit(id.dtype), err);
}

/* ---- tensors ---- */

static const ckpt_value *storage_id(const ckpt_value *args) {
  const ckpt_value *v = arg(args, 0);
  bool is_storage = v != NULL && v->kind == CKPT_OBJECT && v->made->storage != NULL;
  return is_storage ? v->made->args : NULL;
}

static ckpt_status become_tensor(ckpt_torch_builder *b, ckpt_value *v, ckpt_tensor *t, ckpt_error *err) {
  CKPT_TRY(ckpt_document_own_tensor(b->doc, t, err));
  v->kind = CKPT_TENSOR;
  v->as.tensor = t;
  return ckpt_document_note_tensor(b->doc, v, err);
}

static ckpt_status make_view(ckpt_tensor **out, const ckpt_value *args, ckpt_storage *storage,
                             const ckpt_tensor_spec *spec, ckpt_error *err) {
  ckpt_status st = ckpt_tensor_make(out, storage, spec, err);
  if (st == CKPT_OK || err == NULL) return st;
  char where[160], key[64];
  const ckpt_value *id = storage_id(args);
  if (id == NULL || key_text(key, sizeof key, arg(id, 2), NULL) != CKPT_OK) snprintf(key, sizeof key, "?");
  snprintf(where, sizeof where, "a %s tensor of %d dimensions over storage '%s'", ckpt_dtype_name(spec->dtype),
           spec->ndim, key);
  ckpt_fail_in(err, st, where);
  return err->status = st == CKPT_E_RANGE ? CKPT_E_CORRUPT : st;
}

/* What all rebuild functions begin with: storage, offset, size, stride. */
typedef struct view_args {
  int64_t offset, shape[CKPT_MAX_DIMS], stride[CKPT_MAX_DIMS];
  int ndim;
} view_args;

static ckpt_status read_view(view_args *view, const ckpt_value *args, ckpt_error *err) {
  int n = 0;
  if (storage_id(args) == NULL) return bad(err, "a tensor without a storage");
  CKPT_TRY(arg_int(&view->offset, args, 1, "storage offset", err));
  CKPT_TRY(arg_dims(&view->ndim, view->shape, args, 2, "size", err));
  CKPT_TRY(arg_dims(&n, view->stride, args, 3, "stride", err));
  return n == view->ndim ? CKPT_OK : bad(err, "a tensor whose size and stride differ in length");
}

static bool metadata_flag(const ckpt_value *metadata, const char *name) {
  const ckpt_value *v = metadata == NULL || metadata->kind != CKPT_DICT ? NULL : ckpt_value_get(metadata, name);
  return v != NULL && v->kind == CKPT_BOOLEAN && v->as.boolean;
}

static ckpt_status build_view(ckpt_tensor **out, const ckpt_value *args, ckpt_dtype dtype, bool requires_grad,
                              const ckpt_value *metadata, ckpt_error *err) {
  view_args view;
  CKPT_TRY(read_view(&view, args, err));
  ckpt_tensor_spec spec = {dtype,
                           view.ndim,
                           view.shape,
                           view.stride,
                           view.offset,
                           requires_grad,
                           metadata_flag(metadata, "conj"),
                           metadata_flag(metadata, "neg")};
  return make_view(out, args, arg(args, 0)->made->storage, &spec, err);
}

static ckpt_status storage_dtype(ckpt_dtype *out, const ckpt_value *args, ckpt_error *err) {
  if (storage_id(args) == NULL) return bad(err, "a tensor without a storage");
  return read_class(out, arg(storage_id(args), 1), err);
}

static ckpt_status rebuild_v1(ckpt_tensor **out, const ckpt_value *args, ckpt_error *err) {
  ckpt_dtype dtype = CKPT_U8;
  if (args->as.seq.n != 4) return bad(err, "_rebuild_tensor takes 4 arguments");
  CKPT_TRY(storage_dtype(&dtype, args, err));
  return build_view(out, args, dtype, false, NULL, err);
}

static ckpt_status rebuild_v2(ckpt_tensor **out, const ckpt_value *args, ckpt_error *err) {
  ckpt_dtype dtype = CKPT_U8;
  bool grad = false;
  if (args->as.seq.n < 6 || args->as.seq.n > 7) return bad(err, "_rebuild_tensor_v2 takes 6 or 7 arguments");
  CKPT_TRY(storage_dtype(&dtype, args, err));
  CKPT_TRY(arg_bool(&grad, args, 4, "requires_grad", err));
  return build_view(out, args, dtype, grad, arg(args, 6), err);
}

static ckpt_status rebuild_v3(ckpt_tensor **out, const ckpt_value *args, ckpt_error *err) {
  ckpt_dtype dtype = CKPT_U8;
  bool grad = false;
  if (args->as.seq.n < 7 || args->as.seq.n > 8) return bad(err, "_rebuild_tensor_v3 takes 7 or 8 arguments");
  CKPT_TRY(arg_bool(&grad, args, 4, "requires_grad", err));
  CKPT_TRY(arg_dtype(&dtype, args, 6, err));
  CKPT_TRY(build_view(out, args, dtype, grad, arg(args, 7), err));
  /* An untyped storage says nothing of its elements: a big-endian file is swapped by the tensor's dtype. */
  ckpt_storage *s = arg(args, 0)->made->storage;
  if (ckpt_storage_swap(s) != 0) ckpt_storage_set_swap(s, ckpt_dtype_swap_unit(dtype));
  return CKPT_OK;
}

static ckpt_status rebuild_q(ckpt_tensor **out, const ckpt_value *args, ckpt_error *err) {
  ckpt_dtype dtype = CKPT_U8;
  bool grad = false;
  if (args->as.seq.n != 7) return bad(err, "_rebuild_qtensor takes 7 arguments");
  CKPT_TRY(storage_dtype(&dtype, args, err));
  CKPT_TRY(arg_bool(&grad, args, 5, "requires_grad", err));
  ckpt_tensor *t = NULL;
  CKPT_TRY(build_view(&t, args, dtype, grad, NULL, err));
  ckpt_status st = ckpt_quantized_read(t, arg(args, 4), err);
  if (st == CKPT_OK)
    *out = t;
  else
    ckpt_tensor_release(t);
  return st;
}

static ckpt_status rebuild_meta(ckpt_tensor **out, const ckpt_value *args, ckpt_error *err) {
  view_args view = {0};
  int n = 0;
  ckpt_tensor_spec spec = {.shape = view.shape, .stride = view.stride};
  if (args->as.seq.n != 4) return bad(err, "_rebuild_meta_tensor_no_storage takes 4 arguments");
  CKPT_TRY(arg_dtype(&spec.dtype, args, 0, err));
  CKPT_TRY(arg_dims(&spec.ndim, view.shape, args, 1, "size", err));
  CKPT_TRY(arg_dims(&n, view.stride, args, 2, "stride", err));
  CKPT_TRY(arg_bool(&spec.requires_grad, args, 3, "requires_grad", err));
  if (n != spec.ndim) return bad(err, "a tensor whose size and stride differ in length");
  return ckpt_tensor_make(out, NULL, &spec, err);
}

/* Parameter: the inner tensor, with requires_grad of its own. */
static ckpt_status rebuild_parameter(ckpt_tensor **out, const ckpt_value *args, ckpt_error *err) {
  bool grad = false;
  const ckpt_value *inner = arg(args, 0);
  if (args->as.seq.n < 3 || inner->kind != CKPT_TENSOR) return bad(err, "a parameter without a tensor");
  CKPT_TRY(arg_bool(&grad, args, 1, "requires_grad", err));
  return ckpt_tensor_with_grad(out, inner->as.tensor, grad, err);
}

/* _rebuild_device_tensor_from_cpu_tensor(tensor, dtype, device, requires_grad): the data lie in the file all the same.
 */
static ckpt_status rebuild_from_cpu(ckpt_tensor **out, const ckpt_value *args, ckpt_error *err) {
  bool grad = false;
  const ckpt_value *inner = arg(args, 0);
  if (args->as.seq.n != 4 || inner->kind != CKPT_TENSOR) return bad(err, "a device tensor without a tensor");
  CKPT_TRY(arg_bool(&grad, args, 3, "requires_grad", err));
  return ckpt_tensor_with_grad(out, inner->as.tensor, grad, err);
}

static ckpt_status cast_tensor(ckpt_tensor **t, ckpt_dtype dtype, ckpt_error *err) {
  ckpt_tensor *cast = NULL;
  if (ckpt_tensor_dtype(*t) == dtype) return CKPT_OK;
  CKPT_TRY(ckpt_tensor_new(&cast, dtype, ckpt_tensor_ndim(*t), ckpt_tensor_shape(*t), err));
  ckpt_status st = ckpt_tensor_copy(cast, *t, err);
  ckpt_tensor_release(st == CKPT_OK ? *t : cast);
  if (st == CKPT_OK) *t = cast;
  return st;
}

/* _rebuild_device_tensor_from_numpy(array, dtype, device, requires_grad): bfloat16 comes as float32. */
static ckpt_status rebuild_from_numpy(ckpt_tensor **out, const ckpt_value *args, ckpt_error *err) {
  ckpt_array a;
  ckpt_dtype dtype = CKPT_U8;
  ckpt_tensor *t = NULL;
  bool grad = false;
  if (args->as.seq.n != 4) return bad(err, "_rebuild_device_tensor_from_numpy takes 4 arguments");
  CKPT_TRY(ckpt_value_array(&a, arg(args, 0), err));
  CKPT_TRY(arg_dtype(&dtype, args, 1, err));
  CKPT_TRY(arg_bool(&grad, args, 3, "requires_grad", err));
  CKPT_TRY(ckpt_array_tensor(&t, &a, err));
  ckpt_status st = cast_tensor(&t, dtype, err);
  if (st == CKPT_OK) st = ckpt_tensor_with_grad(out, t, grad, err);
  ckpt_tensor_release(t);
  return st;
}

typedef struct rebuilder {
  const char *name;
  rebuild call;
} rebuilder;

static const rebuilder rebuilders[] = {
    {"_rebuild_tensor_v2", rebuild_v2},
    {"_rebuild_tensor_v3", rebuild_v3},
    {"_rebuild_parameter", rebuild_parameter},
    {"_rebuild_parameter_with_state", rebuild_parameter},
    {"_rebuild_tensor", rebuild_v1},
    {"_rebuild_qtensor", rebuild_q},
    {"_rebuild_meta_tensor_no_storage", rebuild_meta},
    {"_rebuild_device_tensor_from_cpu_tensor", rebuild_from_cpu},
    {"_rebuild_device_tensor_from_numpy", rebuild_from_numpy},
    {"_rebuild_xla_tensor", rebuild_from_numpy},
};

static rebuild find_rebuild(const ckpt_value *callable) {
  for (size_t i = 0; i < CKPT_COUNTOF(rebuilders); i++)
    if (ckpt_value_is_class(callable, "torch._utils", rebuilders[i].name)) return rebuilders[i].call;
  return NULL;
}

/* A parameter or device tensor around what is no strided tensor (sparse, nested, a subclass) stays an object. */
static bool wraps_object(rebuild call, const ckpt_value *args) {
  const ckpt_value *inner = arg(args, 0);
  return (call == rebuild_parameter || call == rebuild_from_cpu) && inner != NULL && inner->kind == CKPT_OBJECT;
}

static ckpt_status build_tensor(ckpt_torch_builder *b, ckpt_value *v, rebuild call, const ckpt_value *args,
                                ckpt_error *err) {
  ckpt_tensor *t = NULL;
  if (wraps_object(call, args)) return CKPT_OK;
  CKPT_TRY(call(&t, args, err));
  return become_tensor(b, v, t, err);
}

/* _rebuild_from_type_v2(function, type, args, state): a tensor with attributes, or a subclass. */
static ckpt_status from_type(ckpt_torch_builder *b, ckpt_value *v, ckpt_error *err) {
  const ckpt_value *function = arg(v->made->args, 0), *args = arg(v->made->args, 2);
  if (function == NULL || args == NULL || args->kind != CKPT_TUPLE) return CKPT_OK;
  rebuild call = find_rebuild(function);
  return call == NULL ? CKPT_OK : build_tensor(b, v, call, args, err);
}

/* ---- Python's own types ---- */

static bool is_builtin(const ckpt_value *callable, const char *name) {
  return ckpt_value_is_class(callable, "__builtin__", name) || ckpt_value_is_class(callable, "builtins", name);
}

static ckpt_status ordered_dict(ckpt_torch_builder *b, ckpt_value *v, ckpt_error *err) {
  const ckpt_value *args = v->made->args, *pairs = arg(args, 0);
  if (args->as.seq.n > 1 || (pairs != NULL && pairs->kind != CKPT_LIST)) return CKPT_OK;
  ckpt_dict *dict = ckpt_arena_alloc(ckpt_document_arena(b->doc), sizeof *dict, err);
  if (dict == NULL) return err->status;
  for (size_t i = 0; pairs != NULL && i < pairs->as.seq.n; i++) { /* Python 2 wrote OrderedDict([[k, v], ...]) */
    const ckpt_value *pair = pairs->as.seq.items[i];
    bool is_pair = (pair->kind == CKPT_LIST || pair->kind == CKPT_TUPLE) && pair->as.seq.n == 2;
    if (!is_pair) return bad(err, "an OrderedDict made of what are no pairs");
    CKPT_TRY(ckpt_dict_put(dict, b->doc, pair->as.seq.items[0], pair->as.seq.items[1], err));
  }
  v->kind = CKPT_DICT;
  v->ordered = true;
  v->as.dict = dict;
  v->made = NULL;
  return CKPT_OK;
}

/* The Latin-1 text that _codecs.encode turns back into bytes; 0 if a character is outside. */
static bool latin1(unsigned char *out, size_t *n, const ckpt_value *text) {
  const unsigned char *s = (const unsigned char *)text->as.text.bytes;
  size_t length = 0;
  for (size_t i = 0; i < text->as.text.n; length++) {
    if (s[i] >= 0x80 && (s[i] & 0xfc) != 0xc0) return false;
    out[length] = s[i] < 0x80 ? s[i] : (unsigned char)((s[i] & 3) << 6 | (s[i + 1] & 0x3f));
    i += s[i] < 0x80 ? 1 : 2;
  }
  *n = length;
  return true;
}

static ckpt_status become_bytes(ckpt_torch_builder *b, ckpt_value *v, ckpt_kind kind, const ckpt_value *text,
                                ckpt_error *err) {
  size_t n = text == NULL ? 0 : text->as.text.n;
  unsigned char *bytes = ckpt_arena_alloc(ckpt_document_arena(b->doc), n + 1, err);
  if (bytes == NULL) return err->status;
  if (text != NULL && text->kind == CKPT_STR && !latin1(bytes, &n, text)) return bad(err, "bytes that are not Latin-1");
  if (text != NULL && text->kind != CKPT_STR) memcpy(bytes, text->as.text.bytes, n);
  bytes[n] = '\0';
  v->kind = (uint8_t)kind;
  v->as.text.bytes = (const char *)bytes;
  v->as.text.n = n;
  return CKPT_OK;
}

static ckpt_status encoded_bytes(ckpt_torch_builder *b, ckpt_value *v, ckpt_error *err) {
  const ckpt_value *text = arg(v->made->args, 0), *codec = arg(v->made->args, 1);
  if (text == NULL || text->kind != CKPT_STR || codec == NULL || codec->kind != CKPT_STR ||
      (strcmp(codec->as.text.bytes, "latin1") != 0 && strcmp(codec->as.text.bytes, "latin-1") != 0))
    return bad(err, "_codecs.encode of anything but a string to latin1");
  return become_bytes(b, v, CKPT_BYTES, text, err);
}

static ckpt_status set_of(ckpt_value *v, ckpt_kind kind) {
  const ckpt_value *items = arg(v->made->args, 0);
  if (v->made->args->as.seq.n != 1 || (items->kind != CKPT_LIST && items->kind != CKPT_TUPLE)) return CKPT_OK;
  v->kind = (uint8_t)kind;
  v->as.seq = items->as.seq; /* shared with the list, which nothing else can reach but the writer */
  return CKPT_OK;
}

/* getattr(Outer, "Inner"), which is how protocols before 4 name a class inside a class. */
static ckpt_status inner_class(ckpt_torch_builder *b, ckpt_value *v, ckpt_error *err) {
  const ckpt_value *outer = arg(v->made->args, 0), *name = arg(v->made->args, 1);
  bool named = v->made->args->as.seq.n == 2 && outer->kind == CKPT_CLASS && name->kind == CKPT_STR;
  if (!named) return CKPT_OK;
  ckpt_value *cls =
      ckpt_value_make_class(b->doc, outer->as.text.bytes, outer->as.text.n, name->as.text.bytes, name->as.text.n, err);
  if (cls == NULL) return err->status;
  v->kind = CKPT_CLASS;
  v->as.text = cls->as.text;
  v->as.text.module = outer->as.text.module;
  v->made = NULL;
  return CKPT_OK;
}

static ckpt_status builtin(ckpt_torch_builder *b, ckpt_value *v, ckpt_error *err) {
  const ckpt_value *f = v->made->callable, *first = arg(v->made->args, 0);
  size_t n = v->made->args->as.seq.n;
  bool has_bytes = n == 1 && (first->kind == CKPT_BYTES || first->kind == CKPT_BYTEARRAY);
  if (is_builtin(f, "bytes") && n == 0) return become_bytes(b, v, CKPT_BYTES, NULL, err);
  if (is_builtin(f, "bytearray") && (n == 0 || has_bytes)) return become_bytes(b, v, CKPT_BYTEARRAY, first, err);
  if (is_builtin(f, "set")) return set_of(v, CKPT_SET);
  if (is_builtin(f, "getattr")) return inner_class(b, v, err);
  return is_builtin(f, "frozenset") ? set_of(v, CKPT_FROZENSET) : CKPT_OK;
}

/* copyreg.__newobj_ex__(class, args, kwargs): what the opcode of protocol 4 does, of all that it is done with. */
static bool become_newobj_ex(ckpt_value *v) {
  const ckpt_value *f = v->made->callable;
  const ckpt_seq *args = &v->made->args->as.seq;
  if (!ckpt_value_is_class(f, "copy_reg", "__newobj_ex__") && !ckpt_value_is_class(f, "copyreg", "__newobj_ex__"))
    return false;
  if (args->n != 3 || args->items[1]->kind != CKPT_TUPLE) return false;
  if (args->items[0]->kind != CKPT_CLASS && args->items[0]->kind != CKPT_OBJECT) return false;
  *v->made = (ckpt_made){CKPT_BY_NEWOBJ_EX, args->items[0], args->items[1], args->items[2], NULL};
  return true;
}

static const role *role_of(ckpt_torch_builder *b, const ckpt_value *f) {
  for (size_t i = 0; i < ROLES; i++)
    if (b->roles[i].callable == f) return &b->roles[i];
  role *r = &b->roles[b->next_role++ % ROLES];
  *r = (role){f, find_rebuild(f), ckpt_value_is_class(f, "collections", "OrderedDict")};
  return r;
}

static ckpt_status on_built(void *context, ckpt_value *v, ckpt_error *err) {
  ckpt_torch_builder *b = context;
  const ckpt_value *f = v->made->callable;
  if (f->kind != CKPT_CLASS || v->made->how != CKPT_BY_REDUCE) return CKPT_OK;
  const role *r = role_of(b, f);
  if (r->call != NULL) return build_tensor(b, v, r->call, v->made->args, err);
  if (r->ordered) return ordered_dict(b, v, err);
  if (become_newobj_ex(v)) return CKPT_OK;
  if (ckpt_value_is_class(f, "torch._tensor", "_rebuild_from_type_v2")) return from_type(b, v, err);
  if (ckpt_value_is_class(f, "_codecs", "encode")) return encoded_bytes(b, v, err);
  if (ckpt_value_is_class(f, "torch", "Size")) return set_of(v, CKPT_TUPLE);
  return builtin(b, v, err);
}

/* ---- builder ---- */

ckpt_status ckpt_torch_builder_new(ckpt_torch_builder **out, ckpt_document *doc, ckpt_find_storage find, void *context,
                                   ckpt_error *err) {
  ckpt_torch_builder *b = calloc(1, sizeof *b);
  if (b == NULL) return ckpt_fail_nomem(err, sizeof *b);
  b->doc = doc;
  b->find = find;
  b->context = context;
  *out = b;
  return CKPT_OK;
}

void ckpt_torch_builder_free(ckpt_torch_builder *b) {
  if (b == NULL) return;
  ckpt_strmap_free(&b->keys);
  free(b->numbered);
  free(b->storages);
  free(b);
}

ckpt_pickle_hooks ckpt_torch_builder_hooks(ckpt_torch_builder *b) {
  return (ckpt_pickle_hooks){.context = b, .persid = on_persid, .built = on_built};
}
