/* torch_call.c - see torch_call.h. */
#include "torch_call.h"

bool ckpt_torch_can_call(const ckpt_tensor *t) { return ckpt_dtype_rebuild(ckpt_tensor_dtype(t)) != CKPT_REBUILD_Q; }

static ckpt_status add_int(ckpt_value *tuple, ckpt_document *doc, int64_t i, ckpt_error *err) {
  ckpt_value *v = NULL;
  CKPT_TRY(ckpt_value_new_int(&v, doc, i, err));
  return ckpt_value_append(tuple, doc, v, err);
}

static ckpt_status add_str(ckpt_value *tuple, ckpt_document *doc, const char *s, ckpt_error *err) {
  ckpt_value *v = NULL;
  CKPT_TRY(ckpt_value_new_str(&v, doc, s, strlen(s), err));
  return ckpt_value_append(tuple, doc, v, err);
}

static ckpt_status add_dims(ckpt_value *tuple, ckpt_document *doc, const int64_t *dims, int n, ckpt_error *err) {
  ckpt_value *v = NULL;
  CKPT_TRY(ckpt_value_new_tuple(&v, doc, err));
  for (int i = 0; i < n; i++) CKPT_TRY(add_int(v, doc, dims[i], err));
  return ckpt_value_append(tuple, doc, v, err);
}

static ckpt_status add_dtype(ckpt_value *tuple, ckpt_document *doc, ckpt_dtype dtype, ckpt_error *err) {
  ckpt_value *v = NULL;
  CKPT_TRY(ckpt_value_new_dtype(&v, doc, dtype, err));
  return ckpt_value_append(tuple, doc, v, err);
}

static ckpt_status add_ordered(ckpt_value *tuple, ckpt_document *doc, ckpt_error *err) {
  ckpt_value *v = NULL;
  CKPT_TRY(ckpt_value_new_dict(&v, doc, true, err));
  return ckpt_value_append(tuple, doc, v, err);
}

static ckpt_status set_flag(ckpt_value *dict, ckpt_document *doc, const char *name, bool on, ckpt_error *err) {
  return on ? ckpt_value_set(dict, doc, name, ckpt_document_bool(doc, true), err) : CKPT_OK;
}

static ckpt_status add_bits(ckpt_value *tuple, ckpt_document *doc, const ckpt_tensor *t, ckpt_error *err) {
  ckpt_value *v = NULL;
  if (!ckpt_tensor_conj(t) && !ckpt_tensor_neg(t)) return CKPT_OK;
  CKPT_TRY(ckpt_value_new_dict(&v, doc, false, err));
  CKPT_TRY(set_flag(v, doc, "conj", ckpt_tensor_conj(t), err));
  CKPT_TRY(set_flag(v, doc, "neg", ckpt_tensor_neg(t), err));
  return ckpt_value_append(tuple, doc, v, err);
}

/* ("storage", torch.FloatStorage, "0", "cpu", numel) */
static ckpt_status storage_id(ckpt_value **out, ckpt_document *doc, const ckpt_tensor *t, ckpt_error *err) {
  ckpt_value *id = NULL, *cls = NULL;
  ckpt_dtype dtype = ckpt_tensor_dtype(t);
  bool untyped = ckpt_dtype_rebuild(dtype) == CKPT_REBUILD_V3;
  size_t unit = untyped ? 1 : ckpt_dtype_size(dtype), bytes = ckpt_storage_size(ckpt_tensor_storage(t));
  if (bytes % unit != 0)
    return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "a storage of %zu bytes under a %s tensor", bytes,
                     ckpt_dtype_name(dtype));
  CKPT_TRY(ckpt_value_new_tuple(&id, doc, err));
  CKPT_TRY(add_str(id, doc, "storage", err));
  CKPT_TRY(ckpt_value_new_class(&cls, doc, untyped ? "torch.storage" : "torch", ckpt_dtype_storage_class(dtype), err));
  CKPT_TRY(ckpt_value_append(id, doc, cls, err));
  CKPT_TRY(add_str(id, doc, "0", err));
  CKPT_TRY(add_str(id, doc, "cpu", err));
  CKPT_TRY(add_int(id, doc, (int64_t)(bytes / unit), err));
  *out = id;
  return CKPT_OK;
}

static ckpt_status add_storage(ckpt_value *tuple, ckpt_document *doc, const ckpt_tensor *t, ckpt_error *err) {
  ckpt_value *id = NULL, *v = NULL;
  CKPT_TRY(storage_id(&id, doc, t, err));
  CKPT_TRY(ckpt_value_new_object(&v, doc, CKPT_BY_PERSID, NULL, id, NULL, err));
  CKPT_TRY(ckpt_document_own_storage(doc, ckpt_storage_retain(ckpt_tensor_storage(t)), err));
  v->made->storage = ckpt_tensor_storage(t);
  return ckpt_value_append(tuple, doc, v, err);
}

static ckpt_status meta_args(ckpt_value *args, ckpt_document *doc, const ckpt_tensor *t, ckpt_error *err) {
  int n = ckpt_tensor_ndim(t);
  CKPT_TRY(add_dtype(args, doc, ckpt_tensor_dtype(t), err));
  CKPT_TRY(add_dims(args, doc, ckpt_tensor_shape(t), n, err));
  CKPT_TRY(add_dims(args, doc, ckpt_tensor_stride(t), n, err));
  return ckpt_value_append(args, doc, ckpt_document_bool(doc, ckpt_tensor_requires_grad(t)), err);
}

static ckpt_status view_args(ckpt_value *args, ckpt_document *doc, const ckpt_tensor *t, bool v3, ckpt_error *err) {
  int n = ckpt_tensor_ndim(t);
  CKPT_TRY(add_storage(args, doc, t, err));
  CKPT_TRY(add_int(args, doc, ckpt_tensor_offset(t), err));
  CKPT_TRY(add_dims(args, doc, ckpt_tensor_shape(t), n, err));
  CKPT_TRY(add_dims(args, doc, ckpt_tensor_stride(t), n, err));
  CKPT_TRY(ckpt_value_append(args, doc, ckpt_document_bool(doc, ckpt_tensor_requires_grad(t)), err));
  CKPT_TRY(add_ordered(args, doc, err));
  if (v3) CKPT_TRY(add_dtype(args, doc, ckpt_tensor_dtype(t), err));
  return add_bits(args, doc, t, err);
}

ckpt_status ckpt_torch_call(ckpt_value **function, ckpt_value **args, ckpt_document *doc, const ckpt_tensor *t,
                            ckpt_error *err) {
  ckpt_value *f = NULL, *tuple = NULL;
  bool meta = ckpt_tensor_is_meta(t), v3 = ckpt_dtype_rebuild(ckpt_tensor_dtype(t)) == CKPT_REBUILD_V3;
  const char *name = meta ? "_rebuild_meta_tensor_no_storage" : v3 ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2";
  CKPT_TRY(ckpt_value_new_class(&f, doc, "torch._utils", name, err));
  CKPT_TRY(ckpt_value_new_tuple(&tuple, doc, err));
  CKPT_TRY(meta ? meta_args(tuple, doc, t, err) : view_args(tuple, doc, t, v3, err));
  *function = f;
  *args = tuple;
  return CKPT_OK;
}
