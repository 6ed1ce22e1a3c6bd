/* remedy.c - see remedy.h. */
#include "remedy.h"

#include "numpy.h"
#include "sparse.h"
#include "weights_only.h"

enum { MAX_LONG1 = 255 }; /* bytes of an integer; longer ones need an opcode that weights_only does not take */

static const ckpt_value *item(const ckpt_value *tuple, size_t i) {
  return tuple != NULL && i < tuple->as.seq.n ? tuple->as.seq.items[i] : NULL;
}

static bool made_by(const ckpt_value *v, const char *module, const char *name) {
  return v->made != NULL && v->made->callable != NULL && ckpt_value_is_class(v->made->callable, module, name);
}

/* ---- objects that are containers ---- */

/* copyreg._reconstructor(class, base, state): how protocols 0 and 1 say a class derived from dict or list. */
static const ckpt_value *base_value(const ckpt_value *v) {
  bool is = made_by(v, "copy_reg", "_reconstructor") || made_by(v, "copyreg", "_reconstructor");
  return is ? item(v->made->args, 2) : NULL;
}

const ckpt_seq *ckpt_remedy_items(const ckpt_value *v) {
  if (v->kind != CKPT_OBJECT) return v->kind >= CKPT_LIST && v->kind <= CKPT_FROZENSET ? &v->as.seq : NULL;
  const ckpt_value *base = base_value(v), *first = item(v->made->args, 0);
  if (v->as.object->items.n > 0) return &v->as.object->items;
  if (base != NULL && base->kind == CKPT_LIST) return &base->as.seq;
  if (!made_by(v, "collections", "deque")) return NULL;
  return first != NULL && first->kind == CKPT_LIST ? &first->as.seq : &v->as.object->items;
}

const ckpt_dict *ckpt_remedy_pairs(const ckpt_value *v) {
  if (v->kind != CKPT_OBJECT) return v->kind == CKPT_DICT ? v->as.dict : NULL;
  const ckpt_value *base = base_value(v), *first = item(v->made->args, 0);
  const ckpt_dict *own = &v->as.object->dict;
  if (own->flat.n > 0 || made_by(v, "collections", "defaultdict")) return own;
  if (base != NULL && base->kind == CKPT_DICT) return base->as.dict;
  if (!made_by(v, "collections", "Counter")) return NULL;
  return first != NULL && first->kind == CKPT_DICT ? first->as.dict : own;
}

/* ---- names ---- */

static bool is_rebuilt(const ckpt_value *v, const char *name) { return made_by(v, "torch._utils", name); }

static bool is_from_type(const ckpt_value *v) { return made_by(v, "torch._tensor", "_rebuild_from_type_v2"); }

static bool is_device_tensor(const ckpt_value *v) {
  return is_rebuilt(v, "_rebuild_device_tensor_from_cpu_tensor") ||
         is_rebuilt(v, "_rebuild_device_tensor_from_numpy") || is_rebuilt(v, "_rebuild_xla_tensor");
}

/* A tensor that is said to be more than a tensor. */
static bool has_wrapper(const ckpt_value *v) {
  return is_from_type(v) || is_device_tensor(v) || is_rebuilt(v, "_rebuild_parameter_with_state");
}

/* The dtype, where that is what there is to say. */
static const char *tensor_name(const ckpt_tensor *t) {
  ckpt_dtype dtype = ckpt_tensor_dtype(t);
  return ckpt_dtype_rebuild(dtype) == CKPT_REBUILD_V2 ? "tensor" : ckpt_dtype_name(dtype);
}

const char *ckpt_remedy_class(const ckpt_value *v) {
  if (v->kind == CKPT_CLASS) return v->as.text.bytes;
  if (v->kind == CKPT_TENSOR && !has_wrapper(v)) return tensor_name(v->as.tensor);
  if (v->kind == CKPT_BYTES && v->bytestring) return "str";
  const ckpt_made *m = v->kind == CKPT_OBJECT || v->kind == CKPT_TENSOR ? v->made : NULL;
  const ckpt_value *cls = m == NULL ? NULL : m->callable;
  if (cls != NULL && is_from_type(v) && item(m->args, 1) != NULL) cls = item(m->args, 1);
  if (cls != NULL && base_value(v) != NULL) cls = item(m->args, 0);
  return cls != NULL && cls->kind == CKPT_CLASS ? cls->as.text.bytes : ckpt_kind_name(ckpt_value_kind(v));
}

/* ---- tensors ---- */

/* A storage's persistent id of an allowed class. */
static bool is_storage(ckpt_profile profile, const ckpt_value *v) {
  return v != NULL && v->kind == CKPT_OBJECT && v->made->how == CKPT_BY_PERSID && v->made->storage != NULL &&
         v->made->args->kind == CKPT_TUPLE && ckpt_weights_only_takes(profile, item(v->made->args, 1));
}

/* The words of the file can stay: a function on the list, over a storage on the list or a tensor. */
static bool words_can_stay(ckpt_profile profile, const ckpt_value *v) {
  const ckpt_value *first = item(v->made->args, 0);
  if (v->made->how != CKPT_BY_REDUCE || !ckpt_weights_only_takes(profile, v->made->callable)) return false;
  if (is_rebuilt(v, "_rebuild_meta_tensor_no_storage")) return ckpt_weights_only_takes(profile, first);
  if (is_rebuilt(v, "_rebuild_parameter") || is_rebuilt(v, "_rebuild_parameter_with_state"))
    return first->kind == CKPT_TENSOR;
  return is_storage(profile, first);
}

/* _rebuild_from_type_v2(function, type, args, state) */
static bool type_can_stay(ckpt_profile profile, const ckpt_value *v) {
  const ckpt_value *args = v->made->args, *inner = item(args, 2);
  return ckpt_weights_only_takes(profile, v->made->callable) && ckpt_weights_only_takes(profile, item(args, 0)) &&
         ckpt_weights_only_takes(profile, item(args, 1)) && inner != NULL && inner->kind == CKPT_TUPLE &&
         is_storage(profile, item(inner, 0));
}

static ckpt_remedy of_tensor(bool *quiet, ckpt_profile profile, const ckpt_value *v) {
  const ckpt_tensor *t = v->as.tensor;
  bool has_quantizer = ckpt_tensor_quantizer(t) != NULL;
  if (!ckpt_weights_only_dtype(profile, ckpt_tensor_dtype(t))) return has_quantizer ? CKPT_TO_NUMBERS : CKPT_DROP;
  if (profile == CKPT_WEIGHTS_ONLY_1_13 && (ckpt_tensor_conj(t) || ckpt_tensor_neg(t))) return CKPT_TO_NUMBERS;
  if (v->made == NULL) return CKPT_KEEP;
  if (is_from_type(v)) return type_can_stay(profile, v) ? CKPT_KEEP : CKPT_TO_TENSOR;
  if (is_device_tensor(v)) return CKPT_TO_TENSOR;
  if (words_can_stay(profile, v)) return CKPT_KEEP;
  *quiet = !is_rebuilt(v, "_rebuild_parameter_with_state");
  return CKPT_TO_TENSOR;
}

/* ---- sparse and nested tensors ---- */

/* Every wrapper down to the function that rebuilds is on the list, and of an allowed type. */
static bool wrappers_can_stay(ckpt_profile profile, const ckpt_value *v) {
  const ckpt_value *inner = ckpt_composite_args(v);
  while (v->made->args != inner) {
    if (!ckpt_weights_only_takes(profile, v->made->callable)) return false;
    if (is_from_type(v)) /* its arguments are the function's, or those of a Parameter: not on the list of types */
      return ckpt_weights_only_takes(profile, item(v->made->args, 1)) && item(v->made->args, 2) == inner &&
             ckpt_weights_only_takes(profile, item(v->made->args, 0));
    v = item(v->made->args, 0);
  }
  return ckpt_weights_only_takes(profile, v->made->callable);
}

/*
 * PyTorch 1.13 has a function for CSR alone, none for the other compressed layouts, and COO without the word whether it
 * is coalesced; later ones have one function for all.
 */
static ckpt_remedy of_sparse(bool *quiet, ckpt_profile profile, const ckpt_value *v, const ckpt_sparse *s) {
  const ckpt_value *args = ckpt_composite_args(v), *function = ckpt_composite_function(v);
  bool csr_function = ckpt_value_is_class(function, "torch._utils", "_rebuild_sparse_csr_tensor"),
       right = !csr_function;
  if (!ckpt_weights_only_dtype(profile, ckpt_tensor_dtype(s->values))) return CKPT_DROP;
  if (profile == CKPT_WEIGHTS_ONLY_1_13) {
    if (s->layout > CKPT_SPARSE_CSR) return CKPT_DROP;
    right = s->layout == CKPT_SPARSE_COO ? item(args, 1)->as.seq.n == 3 : csr_function;
  }
  if (right) return wrappers_can_stay(profile, v) ? CKPT_KEEP : CKPT_TO_INNER;
  *quiet = v->made->args == args;
  return CKPT_TO_SPARSE;
}

static ckpt_status of_composite(ckpt_remedy *out, bool *quiet, ckpt_profile profile, const ckpt_value *v,
                                ckpt_error *err) {
  ckpt_sparse s;
  size_t n;
  if (ckpt_value_is_sparse(v)) {
    CKPT_TRY(ckpt_value_sparse(&s, v, err));
    *out = of_sparse(quiet, profile, v, &s);
    return CKPT_OK;
  }
  CKPT_TRY(ckpt_value_nested_count(&n, v, err));
  *out = ckpt_weights_only_takes(profile, ckpt_composite_function(v)) ? CKPT_TO_INNER : CKPT_DROP;
  if (wrappers_can_stay(profile, v)) *out = CKPT_KEEP;
  return CKPT_OK;
}

/* ---- other objects ---- */

static ckpt_status of_array(ckpt_remedy *out, ckpt_profile profile, const ckpt_value *v, ckpt_error *err) {
  ckpt_array a;
  ckpt_dtype dtype = CKPT_U8;
  ckpt_status st = ckpt_value_array(&a, v, err);
  if (st != CKPT_OK && st != CKPT_E_UNSUPPORTED) return st;
  bool no_bytes = profile == CKPT_WEIGHTS_ONLY_1_13;
  bool listed = st == CKPT_OK && strchr(no_bytes ? "OU" : "OUS", a.kind) != NULL;
  bool is_number = st == CKPT_OK && ckpt_array_dtype(&dtype, &a, NULL) == CKPT_OK;
  bool as_tensor = is_number && !(a.scalar && strchr("biuMm", a.kind) != NULL);
  if (as_tensor && !ckpt_weights_only_dtype(profile, dtype)) is_number = false;
  *out = listed || is_number ? CKPT_FROM_ARRAY : CKPT_DROP;
  return CKPT_OK;
}

static bool is_complex(const ckpt_value *v) {
  double re, im;
  return ckpt_value_complex(&re, &im, v, NULL) == CKPT_OK;
}

static bool args_are(const ckpt_value *v, ckpt_kind kind) {
  const ckpt_value *first = item(v->made->args, 0);
  return first != NULL && first->kind == kind;
}

static ckpt_status of_object(ckpt_remedy *out, bool *quiet, ckpt_profile profile, const ckpt_value *v,
                             ckpt_error *err) {
  bool old = profile == CKPT_WEIGHTS_ONLY_1_13;
  *out = CKPT_DROP;
  if (v->made->how == CKPT_BY_PERSID) {
    if (is_storage(profile, v)) *out = CKPT_KEEP;
    return CKPT_OK;
  }
  if (ckpt_value_is_sparse(v) || ckpt_value_is_nested(v)) return of_composite(out, quiet, profile, v, err);
  if (ckpt_value_is_array(v)) return of_array(out, profile, v, err);
  if (is_complex(v))
    *out = old ? CKPT_FROM_SCALAR : CKPT_KEEP;
  else if (made_by(v, "torch", "device") && args_are(v, CKPT_STR))
    *out = old ? CKPT_TO_TEXT : CKPT_KEEP;
  else if (made_by(v, "torch.serialization", "_get_layout") && args_are(v, CKPT_STR))
    *out = CKPT_KEEP;
  else if (made_by(v, "collections", "Counter") && args_are(v, CKPT_DICT) && v->as.object->dict.flat.n == 0 && !old)
    *out = CKPT_KEEP;
  else if (ckpt_remedy_pairs(v) != NULL)
    *out = CKPT_TO_DICT;
  else if (ckpt_remedy_items(v) != NULL)
    *out = CKPT_TO_LIST;
  return CKPT_OK;
}

/* ---- plain values ---- */

static ckpt_remedy of_bytes(bool *quiet, ckpt_profile profile, const ckpt_value *v) {
  if (profile == CKPT_WEIGHTS_ONLY_1_13) return CKPT_FROM_SCALAR;
  *quiet = !v->bytestring;
  return v->kind == CKPT_BYTES ? CKPT_TO_BYTES : CKPT_KEEP;
}

ckpt_status ckpt_remedy_of(ckpt_remedy *out, bool *quiet, ckpt_profile profile, const ckpt_value *v, ckpt_error *err) {
  bool old = profile == CKPT_WEIGHTS_ONLY_1_13;
  *quiet = false;
  *out = CKPT_KEEP;
  switch (v->kind) {
    case CKPT_FLOAT: *out = old ? CKPT_FROM_SCALAR : CKPT_KEEP; break;
    case CKPT_BIGINT: *out = v->as.text.n > MAX_LONG1 ? CKPT_DROP : CKPT_KEEP; break;
    case CKPT_BYTES:
    case CKPT_BYTEARRAY: *out = of_bytes(quiet, profile, v); break;
    case CKPT_SET: *out = old ? CKPT_TO_LIST : CKPT_KEEP; break;
    case CKPT_FROZENSET: *out = old ? CKPT_TO_LIST : CKPT_TO_SET; break;
    case CKPT_CLASS: *out = ckpt_weights_only_takes(profile, v) ? CKPT_KEEP : CKPT_DROP; break;
    case CKPT_TENSOR: *out = of_tensor(quiet, profile, v); break;
    case CKPT_OBJECT: return of_object(out, quiet, profile, v, err);
    default: break;
  }
  return CKPT_OK;
}
