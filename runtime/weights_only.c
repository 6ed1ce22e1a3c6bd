/* weights_only.c - see weights_only.h; the lists are those of torch/_weights_only_unpickler.py. */
#include "weights_only.h"

#define LIST(...) \
  (const char *const[]) { __VA_ARGS__, NULL }

typedef struct text {
  const char *bytes;
  size_t n;
} text;

static bool same(text t, const char *s) { return t.n == strlen(s) && memcmp(t.bytes, s, t.n) == 0; }

static bool in(text t, const char *const *list) {
  for (; *list != NULL; list++)
    if (same(t, *list)) return true;
  return false;
}

/* "FloatStorage": a word of the list before this ending. */
static bool ends_after(text t, const char *ending, const char *const *words) {
  size_t n = strlen(ending);
  if (t.n < n || memcmp(t.bytes + t.n - n, ending, n) != 0) return false;
  return in((text){t.bytes, t.n - n}, words);
}

/* ---- classes of tensors and storages, in both versions ---- */

static bool is_tensor_class(text module, text name) {
  const char *const *words = LIST("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte");
  bool dense = same(module, "torch") || same(module, "torch.cuda");
  bool sparse = same(module, "torch.sparse") || same(module, "torch.cuda.sparse");
  return ((dense || sparse) && ends_after(name, "Tensor", words)) || (dense && same(name, "BoolTensor"));
}

static bool is_storage_class(text module, text name) {
  const char *const *words = LIST("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool",
                                  "ComplexDouble", "ComplexFloat");
  const char *const *quantised = LIST("QInt8", "QUInt8", "QInt32", "QUInt4x2", "QUInt2x4");
  if (same(module, "torch.storage")) return in(name, LIST("TypedStorage", "UntypedStorage"));
  if (same(module, "torch") && ends_after(name, "Storage", quantised)) return true;
  return (same(module, "torch") || same(module, "torch.cuda")) && ends_after(name, "Storage", words);
}

/* ---- the rest ---- */

static bool is_common(text module, text name) {
  if (same(module, "collections")) return same(name, "OrderedDict");
  if (same(module, "torch")) return in(name, LIST("Size", "Tensor"));
  if (same(module, "torch.nn.parameter")) return same(name, "Parameter");
  if (same(module, "torch.serialization")) return same(name, "_get_layout");
  return same(module, "torch._utils") && in(name, LIST("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter",
                                                       "_rebuild_sparse_tensor", "_rebuild_meta_tensor_no_storage"));
}

static bool is_dtype(text name) {
  for (int i = 0; i < CKPT_DTYPE_COUNT; i++)
    if (same(name, ckpt_dtype_name((ckpt_dtype)i))) return true;
  return false;
}

static bool in_torch_2_6(text module, text name) {
  if (same(module, "collections")) return same(name, "Counter");
  if (same(module, "builtins") || same(module, "__builtin__")) return in(name, LIST("set", "bytearray", "complex"));
  if (same(module, "_codecs")) return same(name, "encode");
  if (same(module, "torch._tensor")) return same(name, "_rebuild_from_type_v2");
  if (same(module, "torch"))
    return is_dtype(name) || in(name, LIST("device", "per_tensor_affine", "per_tensor_symmetric", "per_channel_affine",
                                           "per_channel_symmetric", "per_channel_affine_float_qparams"));
  return same(module, "torch._utils") &&
         in(name, LIST("_rebuild_tensor_v3", "_rebuild_parameter_with_state", "_rebuild_qtensor",
                       "_rebuild_nested_tensor", "_rebuild_wrapper_subclass", "_rebuild_device_tensor_from_numpy",
                       "_rebuild_device_tensor_from_cpu_tensor"));
}

static bool in_torch_1_13(text module, text name) {
  if (same(module, "torch._utils")) return same(name, "_rebuild_sparse_csr_tensor");
  return same(module, "torch") && in(name, LIST("float16", "float32", "float64", "complex32", "complex64", "complex128",
                                                "int8", "int16", "int32", "int64"));
}

bool ckpt_weights_only_takes(ckpt_profile profile, const ckpt_value *cls) {
  if (cls == NULL || cls->kind != CKPT_CLASS) return false;
  text module = {cls->as.text.bytes, cls->as.text.module}, name;
  name.bytes = ckpt_value_class_name(cls, &name.n);
  if (is_common(module, name) || is_tensor_class(module, name) || is_storage_class(module, name)) return true;
  return profile == CKPT_WEIGHTS_ONLY_1_13 ? in_torch_1_13(module, name) : in_torch_2_6(module, name);
}

bool ckpt_weights_only_dtype(ckpt_profile profile, ckpt_dtype dtype) {
  return profile != CKPT_WEIGHTS_ONLY_1_13 || ckpt_dtype_rebuild(dtype) == CKPT_REBUILD_V2;
}
