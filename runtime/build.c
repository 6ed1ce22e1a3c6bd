/* build.c - new values of the kinds that a checkpoint may hold beyond scalars, lists and dicts. */
#include "value.h"

static ckpt_status give(ckpt_value **out, ckpt_value *v, const ckpt_error *here, ckpt_error *err) {
  if (v == NULL) {
    if (err != NULL) *err = *here;
    return here->status;
  }
  *out = v;
  return CKPT_OK;
}

ckpt_status ckpt_value_new_bytearray(ckpt_value **out, ckpt_document *doc, const void *s, size_t n, ckpt_error *err) {
  ckpt_error here = {0};
  return give(out, ckpt_value_make_text(doc, CKPT_BYTEARRAY, s, n, &here), &here, err);
}

ckpt_status ckpt_value_new_set(ckpt_value **out, ckpt_document *doc, bool frozen, ckpt_error *err) {
  ckpt_error here = {0};
  return give(out, ckpt_value_make(doc, frozen ? CKPT_FROZENSET : CKPT_SET, &here), &here, err);
}

ckpt_status ckpt_value_new_class(ckpt_value **out, ckpt_document *doc, const char *module, const char *name,
                                 ckpt_error *err) {
  ckpt_error here = {0};
  if (*module == '\0' || *name == '\0' || strchr(module, '\n') != NULL || strchr(name, '\n') != NULL)
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "'%.100s' in module '%.100s' is no name of Python", name, module);
  ckpt_value *v = ckpt_value_make_class(doc, module, strlen(module), name, strlen(name), &here);
  return give(out, v, &here, err);
}

static ckpt_status check_parts(const ckpt_value *callable, const ckpt_value *args, const ckpt_value *kwargs,
                               ckpt_how how, ckpt_error *err) {
  bool persid = how == CKPT_BY_PERSID;
  if (!persid && (callable == NULL || (callable->kind != CKPT_CLASS && callable->kind != CKPT_OBJECT)))
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "an object needs a class or a function that makes it");
  if (args == NULL || (!persid && args->kind != CKPT_TUPLE))
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "an object's arguments must be a tuple");
  if (how == CKPT_BY_NEWOBJ_EX ? kwargs == NULL || kwargs->kind != CKPT_DICT : kwargs != NULL)
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1,
                     "an object has keyword arguments, in a dict, if it is made by newobj_ex");
  return CKPT_OK;
}

ckpt_status ckpt_value_new_object(ckpt_value **out, ckpt_document *doc, ckpt_how how, ckpt_value *callable,
                                  ckpt_value *args, ckpt_value *kwargs, ckpt_error *err) {
  ckpt_error here = {0};
  CKPT_TRY(check_parts(callable, args, kwargs, how, err));
  ckpt_value *v = ckpt_value_make_object(doc, how, callable, args, &here);
  if (v != NULL) v->made->kwargs = kwargs;
  return give(out, v, &here, err);
}

/* ---- what Python itself and torch know ---- */

/* callable(items...), where the items are in a tuple. */
static ckpt_status call(ckpt_value **out, ckpt_document *doc, const char *module, const char *name, ckpt_value *args,
                        ckpt_error *err) {
  ckpt_value *callable = NULL;
  CKPT_TRY(ckpt_value_new_class(&callable, doc, module, name, err));
  return ckpt_value_new_object(out, doc, CKPT_BY_REDUCE, callable, args, NULL, err);
}

static ckpt_status tuple_of(ckpt_value **out, ckpt_document *doc, ckpt_value *const *items, size_t n, ckpt_error *err) {
  ckpt_value *v = NULL;
  CKPT_TRY(ckpt_value_new_tuple(&v, doc, err));
  for (size_t i = 0; i < n; i++) CKPT_TRY(ckpt_value_append(v, doc, items[i], err));
  *out = v;
  return CKPT_OK;
}

ckpt_status ckpt_value_new_complex(ckpt_value **out, ckpt_document *doc, double re, double im, ckpt_error *err) {
  ckpt_value *parts[2], *args = NULL;
  CKPT_TRY(ckpt_value_new_double(&parts[0], doc, re, err));
  CKPT_TRY(ckpt_value_new_double(&parts[1], doc, im, err));
  CKPT_TRY(tuple_of(&args, doc, parts, 2, err));
  return call(out, doc, "__builtin__", "complex", args, err);
}

ckpt_status ckpt_value_new_device(ckpt_value **out, ckpt_document *doc, const char *type, int index, ckpt_error *err) {
  ckpt_value *parts[2], *args = NULL;
  CKPT_TRY(ckpt_value_new_str(&parts[0], doc, type, strlen(type), err));
  CKPT_TRY(ckpt_value_new_int(&parts[1], doc, index, err));
  CKPT_TRY(tuple_of(&args, doc, parts, index < 0 ? 1 : 2, err));
  return call(out, doc, "torch", "device", args, err);
}

ckpt_status ckpt_value_new_dtype(ckpt_value **out, ckpt_document *doc, ckpt_dtype dtype, ckpt_error *err) {
  return ckpt_value_new_class(out, doc, "torch", ckpt_dtype_name(dtype), err);
}

/* A TUPLE to everyone but the writer. */
ckpt_status ckpt_value_new_size(ckpt_value **out, ckpt_document *doc, size_t n, const int64_t *dims, ckpt_error *err) {
  ckpt_error here = {0};
  ckpt_value *v = NULL, *inner = NULL, *callable = NULL, *args = NULL, *dim = NULL;
  CKPT_TRY(ckpt_value_new_tuple(&v, doc, err));
  for (size_t i = 0; i < n; i++) {
    CKPT_TRY(ckpt_value_new_int(&dim, doc, dims[i], err));
    CKPT_TRY(ckpt_value_append(v, doc, dim, err));
  }
  CKPT_TRY(ckpt_value_new_class(&callable, doc, "torch", "Size", err));
  CKPT_TRY(tuple_of(&inner, doc, v->as.seq.items, n, err));
  CKPT_TRY(tuple_of(&args, doc, &inner, 1, err));
  v->made = ckpt_arena_alloc(ckpt_document_arena(doc), sizeof *v->made, &here);
  if (v->made == NULL) return give(out, NULL, &here, err);
  *v->made = (ckpt_made){CKPT_BY_REDUCE, callable, args, NULL, NULL};
  *out = v;
  return CKPT_OK;
}

/* ---- parameters ---- */

static bool may_require_grad(const ckpt_tensor *t) {
  ckpt_numeric kind = ckpt_dtype_numeric(ckpt_tensor_dtype(t));
  return kind == CKPT_NUM_FLOAT || kind == CKPT_NUM_COMPLEX;
}

/* The inner tensor of a parameter never requires a gradient itself. */
static ckpt_status inner_tensor(ckpt_value **out, ckpt_document *doc, const ckpt_tensor *t, bool grad,
                                ckpt_error *err) {
  ckpt_tensor *handle = NULL;
  CKPT_TRY(ckpt_tensor_with_grad(&handle, t, grad, err));
  ckpt_status st = ckpt_value_new_tensor(out, doc, handle, err);
  ckpt_tensor_release(handle);
  return st;
}

ckpt_status ckpt_value_new_parameter(ckpt_value **out, ckpt_document *doc, const ckpt_tensor *t, bool requires_grad,
                                     ckpt_error *err) {
  ckpt_error here = {0};
  ckpt_value *v = NULL, *parts[3], *args = NULL, *callable = NULL;
  if (requires_grad && !may_require_grad(t))
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "a parameter of dtype %s cannot require a gradient",
                     ckpt_dtype_name(ckpt_tensor_dtype(t)));
  CKPT_TRY(inner_tensor(&parts[0], doc, t, false, err));
  CKPT_TRY(ckpt_value_new_bool(&parts[1], doc, requires_grad, err));
  CKPT_TRY(ckpt_value_new_dict(&parts[2], doc, true, err));
  CKPT_TRY(tuple_of(&args, doc, parts, 3, err));
  CKPT_TRY(ckpt_value_new_class(&callable, doc, "torch._utils", "_rebuild_parameter", err));
  CKPT_TRY(inner_tensor(&v, doc, t, requires_grad, err));
  v->made = ckpt_arena_alloc(ckpt_document_arena(doc), sizeof *v->made, &here);
  if (v->made == NULL) return give(out, NULL, &here, err);
  *v->made = (ckpt_made){CKPT_BY_REDUCE, callable, args, NULL, NULL};
  *out = v;
  return CKPT_OK;
}
