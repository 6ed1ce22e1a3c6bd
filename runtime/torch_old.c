/*
 * torch_old.c - see torch_old.h. State layouts as torch/_tensor.py and torch/nn/parameter.py still take them:
 * (storage, offset, size, stride), (requires_grad, volatile, hooks), (data, grad, hooks, requires_grad, volatile).
 */
#include "torch_old.h"

/* ---- classes ---- */

static bool in_module(const ckpt_value *cls, const char *module) {
  size_t n = strlen(module);
  return cls->as.text.module == n && memcmp(cls->as.text.bytes, module, n) == 0;
}

bool ckpt_torch_old_tensor_class(ckpt_dtype *dtype, const ckpt_value *cls) {
  static const char tail[] = "Tensor", storage[] = "Storage";
  char name[64];
  size_t n = 0, cut = sizeof tail - 1;
  if (cls == NULL || cls->kind != CKPT_CLASS) return false;
  const char *text = ckpt_value_class_name(cls, &n);
  if (n <= cut || n > 40 || memcmp(text + n - cut, tail, cut) != 0) return false;
  if (!in_module(cls, "torch") && !in_module(cls, "torch.cuda")) return false;
  memcpy(name, text, n - cut);
  memcpy(name + n - cut, storage, sizeof storage);
  return ckpt_dtype_of_storage_class(dtype, name, strlen(name)) == CKPT_OK;
}

static bool is_parameter(const ckpt_value *cls) {
  return cls != NULL && ckpt_value_is_class(cls, "torch.nn.parameter", "Parameter");
}

static bool is_variable(const ckpt_value *cls) {
  return cls != NULL && ckpt_value_is_class(cls, "torch.autograd.variable", "Variable");
}

/* ---- saying it in today's words ---- */

static ckpt_status no_hooks(ckpt_value **out, ckpt_document *doc, ckpt_error *err) {
  return ckpt_value_new_dict(out, doc, true, err);
}

static ckpt_status tuple_of(ckpt_value **out, ckpt_document *doc, ckpt_value *const *items, size_t n, ckpt_error *err) {
  ckpt_value *tuple = NULL;
  CKPT_TRY(ckpt_value_new_tuple(&tuple, doc, err));
  for (size_t i = 0; i < n; i++) CKPT_TRY(ckpt_value_append(tuple, doc, items[i], err));
  *out = tuple;
  return CKPT_OK;
}

/* v becomes torch._utils.<function>(*items), and what the format makes of that. */
static ckpt_status call(const ckpt_torch_old *old, ckpt_value *v, const char *function, ckpt_value *const *items,
                        size_t n, ckpt_error *err) {
  ckpt_value *args = NULL;
  CKPT_TRY(tuple_of(&args, old->doc, items, n, err));
  ckpt_value *cls = ckpt_value_make_class(old->doc, "torch._utils", 12, function, strlen(function), err);
  ckpt_value *made = cls == NULL ? NULL : ckpt_value_make_object(old->doc, CKPT_BY_REDUCE, cls, args, err);
  if (made == NULL) return err->status;
  made->held = v->held; /* what it was made of before it still holds */
  made->height = v->height;
  *v = *made;
  return old->next.built(old->next.context, v, err);
}

static ckpt_status become_parameter(const ckpt_torch_old *old, ckpt_value *v, ckpt_value *data, bool grad,
                                    ckpt_error *err) {
  ckpt_value *hooks = NULL;
  CKPT_TRY(no_hooks(&hooks, old->doc, err));
  ckpt_value *items[] = {data, ckpt_document_bool(old->doc, grad), hooks};
  return call(old, v, "_rebuild_parameter", items, CKPT_COUNTOF(items), err);
}

static ckpt_status become_variable(const ckpt_torch_old *old, ckpt_value *v, const ckpt_tensor *data, bool grad,
                                   ckpt_error *err) {
  ckpt_tensor *t = NULL;
  CKPT_TRY(ckpt_tensor_with_grad(&t, data, grad, err));
  CKPT_TRY(ckpt_document_own_tensor(old->doc, t, err));
  v->kind = CKPT_TENSOR;
  v->as.tensor = t;
  v->made = NULL; /* written as torch.save writes a tensor of today */
  return CKPT_OK;
}

static ckpt_status become_tensor(const ckpt_torch_old *old, ckpt_value *v, const ckpt_value *state, ckpt_error *err) {
  ckpt_value *hooks = NULL, *const *s = state->as.seq.items;
  CKPT_TRY(no_hooks(&hooks, old->doc, err));
  ckpt_value *items[] = {s[0], s[1], s[2], s[3], ckpt_document_bool(old->doc, false), hooks};
  return call(old, v, "_rebuild_tensor_v2", items, CKPT_COUNTOF(items), err);
}

/* ---- hooks ---- */

ckpt_status ckpt_torch_old_built(const ckpt_torch_old *old, ckpt_value *v, ckpt_error *err) {
  if (v->kind != CKPT_OBJECT || v->made->args->as.seq.n == 0) return CKPT_OK;
  const ckpt_seq *args = &v->made->args->as.seq;
  bool given = args->n > 1 && args->items[1]->kind == CKPT_BOOLEAN;
  if (args->items[0]->kind != CKPT_TENSOR || args->n > 2) return CKPT_OK;
  if (is_parameter(v->made->callable))
    return become_parameter(old, v, args->items[0], !given || args->items[1]->as.boolean, err);
  return is_variable(v->made->callable) ? become_variable(old, v, args->items[0]->as.tensor, false, err) : CKPT_OK;
}

static bool is_flag(const ckpt_value *v) { return v->kind == CKPT_BOOLEAN; }

/* (requires_grad, volatile, hooks) for a Parameter or Variable that has become a tensor. */
static ckpt_status set_grad(bool *done, const ckpt_torch_old *old, ckpt_value *to, const ckpt_seq *state,
                            ckpt_error *err) {
  if (state->n != 3 || !is_flag(state->items[0])) return CKPT_OK;
  bool grad = state->items[0]->as.boolean;
  *done = true;
  if (to->made == NULL) return become_variable(old, to, to->as.tensor, grad, err);
  if (ckpt_value_is_class(to->made->callable, "torch._utils", "_rebuild_parameter"))
    return become_parameter(old, to, to->made->args->as.seq.items[0], grad, err);
  *done = false;
  return CKPT_OK;
}

/* The whole of an object that was made empty. */
static ckpt_status fill(bool *done, const ckpt_torch_old *old, ckpt_value *to, const ckpt_value *state,
                        ckpt_error *err) {
  const ckpt_seq *parts = &state->as.seq;
  const ckpt_value *cls = to->made->callable;
  ckpt_dtype dtype = CKPT_U8;
  if (parts->n == 4 && ckpt_torch_old_tensor_class(&dtype, cls)) {
    CKPT_TRY(become_tensor(old, to, state, err));
    *done = true;
    if (to->kind != CKPT_TENSOR || ckpt_tensor_dtype(to->as.tensor) == dtype) return CKPT_OK;
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a %s over a storage of %s", cls->as.text.bytes,
                     ckpt_dtype_name(ckpt_tensor_dtype(to->as.tensor)));
  }
  if (parts->n != 5 || parts->items[0]->kind != CKPT_TENSOR || !is_flag(parts->items[3])) return CKPT_OK;
  *done = is_parameter(cls) || is_variable(cls);
  bool grad = parts->items[3]->as.boolean;
  if (is_parameter(cls)) return become_parameter(old, to, parts->items[0], grad, err);
  return *done ? become_variable(old, to, parts->items[0]->as.tensor, grad, err) : CKPT_OK;
}

ckpt_status ckpt_torch_old_state(bool *done, const ckpt_torch_old *old, ckpt_value *to, ckpt_value *state,
                                 ckpt_error *err) {
  if (state->kind != CKPT_TUPLE) return CKPT_OK;
  if (to->kind == CKPT_TENSOR) return set_grad(done, old, to, &state->as.seq, err);
  bool is_empty = to->kind == CKPT_OBJECT && to->made->how != CKPT_BY_PERSID && to->made->args->as.seq.n == 0;
  return is_empty ? fill(done, old, to, state, err) : CKPT_OK;
}

ckpt_status ckpt_torch_old_module(ckpt_value *v, size_t at, ckpt_error *err) {
  const ckpt_seq *id = &v->made->args->as.seq;
  if (id->n <= at || id->items[at]->kind != CKPT_CLASS)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a module's persistent id without a class");
  v->kind = CKPT_CLASS;
  v->as.text = id->items[at]->as.text;
  return CKPT_OK;
}
