/*
 * lua_inside.c - what is inside a checkpoint beyond plain tensors: numpy arrays, sparse, nested and quantised tensors,
 * attributes of tensors, and sanitised copies. Dimensions count from 1.
 */
#include "lua_types.h"
#include "value.h"

/* ---- arguments ---- */

/* A document that the stack owns while something is built in it. */
static ckpt_document **new_document_box(lua_State *L) {
  ckpt_document **box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = NULL;
  luaL_setmetatable(L, "ckpt.document");
  return box;
}

static const ckpt_value *check_object(lua_State *L, int index, ckpt_document **doc) {
  const ckpt_value *v = ckpt_lua_test_value(L, index, doc);
  if (v == NULL) luaL_typeerror(L, index, CKPT_T_VALUE);
  return v;
}

static int fail(lua_State *L, const ckpt_error *err) { return ckpt_lua_fail(L, err); }

/* An empty box for a tensor that is about to be made. */
static ckpt_tensor **new_tensor_box(lua_State *L) { return (ckpt_tensor **)ckpt_lua_new_box(L, CKPT_T_TENSOR); }

/* ---- tensors that are more than tensors ---- */

/* The file says more of it than its numbers: a Parameter, one with attributes, of a subclass, of another device. */
static bool says_more(const ckpt_value *v) {
  static const char *const plain[] = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor",
                                      "_rebuild_meta_tensor_no_storage"};
  if (v->made == NULL || v->made->how != CKPT_BY_REDUCE) return false;
  for (size_t i = 0; i < CKPT_COUNTOF(plain); i++)
    if (ckpt_value_is_class(v->made->callable, "torch._utils", plain[i])) return false;
  return true;
}

void ckpt_lua_push_tensor_value(lua_State *L, ckpt_document *doc, ckpt_value *v) {
  ckpt_lua_push_tensor(L, v->as.tensor);
  if (!says_more(v)) return;
  ckpt_lua_push_box(L, doc, v);
  lua_setiuservalue(L, -2, 1);
}

ckpt_value *ckpt_lua_tensor_value(lua_State *L, int index, ckpt_document **doc) {
  ckpt_value *v = lua_getiuservalue(L, index, 1) == LUA_TUSERDATA ? ckpt_lua_test_value(L, -1, doc) : NULL;
  lua_pop(L, 1);
  return v;
}

/* ckpt.attributes(tensor) -> the attributes that Python had hung on it, or nil */
static int module_attributes(lua_State *L) {
  ckpt_document *doc;
  ckpt_lua_check_tensor(L, 1);
  const ckpt_value *v = ckpt_lua_tensor_value(L, 1, &doc);
  ckpt_value *state = v == NULL ? NULL : ckpt_value_object_state(v);
  if (state == NULL)
    lua_pushnil(L);
  else
    ckpt_lua_push_value(L, doc, state);
  return 1;
}

/* ---- numpy ---- */

/* Lua's own string for str and bytes, Lua's numbers, a box for the rest. */
static void push_item(lua_State *L, ckpt_document *doc, ckpt_value *v) {
  if (v->kind == CKPT_BYTES)
    lua_pushlstring(L, v->as.text.bytes, v->as.text.n);
  else
    ckpt_lua_push_value(L, doc, v);
}

/* list, shape: strings or objects in row-major order */
static int push_items(lua_State *L, ckpt_document *doc, const ckpt_array *a) {
  ckpt_error err;
  luaL_argcheck(L, a->count <= INT32_MAX / 2, 1, "too many elements for a table");
  ckpt_document **made = new_document_box(L);
  if (ckpt_document_new(made, &err) != CKPT_OK) return fail(L, &err);
  lua_createtable(L, (int)a->count, 0);
  for (int64_t i = 0; i < a->count; i++) {
    ckpt_value *item = NULL;
    if (ckpt_array_item(&item, *made, a, i, &err) != CKPT_OK) return fail(L, &err);
    push_item(L, a->kind == 'O' ? doc : *made, item);
    lua_rawseti(L, -2, i + 1);
  }
  ckpt_lua_push_dims(L, a->ndim, a->shape);
  return 2;
}

static int push_scalar(lua_State *L, ckpt_document *doc, const ckpt_array *a) {
  ckpt_error err;
  ckpt_value *item = NULL;
  ckpt_document **made = new_document_box(L);
  if (ckpt_document_new(made, &err) != CKPT_OK) return fail(L, &err);
  if (ckpt_array_item(&item, *made, a, 0, &err) != CKPT_OK) return fail(L, &err);
  push_item(L, a->kind == 'O' ? doc : *made, item);
  return 1;
}

/* ckpt.array(v): of a numpy array a tensor, or (strings, objects) a flat list and its shape; of a scalar its value */
static int module_array(lua_State *L) {
  ckpt_error err;
  ckpt_document *doc;
  ckpt_array a;
  if (ckpt_value_array(&a, check_object(L, 1, &doc), &err) != CKPT_OK) return fail(L, &err);
  if (a.scalar) return push_scalar(L, doc, &a);
  if (a.kind == 'O' || a.kind == 'S' || a.kind == 'U') return push_items(L, doc, &a);
  ckpt_tensor **t = new_tensor_box(L);
  return ckpt_array_tensor(t, &a, &err) == CKPT_OK ? 1 : fail(L, &err);
}

/* ckpt.complex_parts(v) -> re, im: of a complex, or a numpy complex scalar */
static int module_complex_parts(lua_State *L) {
  ckpt_error err;
  ckpt_document *doc;
  double re, im;
  if (ckpt_value_complex(&re, &im, check_object(L, 1, &doc), &err) != CKPT_OK) return fail(L, &err);
  lua_pushnumber(L, re);
  lua_pushnumber(L, im);
  return 2;
}

/* ---- sparse and nested ---- */

/* Sets a field of the table on the top. */
static void set_tensor(lua_State *L, const char *field, ckpt_tensor *t) {
  if (t == NULL) return;
  ckpt_lua_push_tensor(L, t);
  lua_setfield(L, -2, field);
}

static void set_integer(lua_State *L, const char *field, int64_t i) {
  lua_pushinteger(L, i);
  lua_setfield(L, -2, field);
}

/* ckpt.sparse(v) -> { layout, shape, nnz, sparse_ndim, dense_ndim, values, and indices | compressed, plain } */
static int module_sparse(lua_State *L) {
  ckpt_error err;
  ckpt_document *doc;
  ckpt_sparse s;
  if (ckpt_value_sparse(&s, check_object(L, 1, &doc), &err) != CKPT_OK) return fail(L, &err);
  lua_createtable(L, 0, 10);
  lua_pushstring(L, ckpt_layout_name(s.layout));
  lua_setfield(L, -2, "layout");
  ckpt_lua_push_dims(L, s.ndim, s.shape);
  lua_setfield(L, -2, "shape");
  set_integer(L, "nnz", s.nnz);
  set_integer(L, "sparse_ndim", s.sparse_ndim);
  set_integer(L, "dense_ndim", s.dense_ndim);
  if (s.layout == CKPT_SPARSE_COO) {
    lua_pushboolean(L, s.coalesced);
    lua_setfield(L, -2, "coalesced");
  }
  set_tensor(L, "indices", s.indices);
  set_tensor(L, "compressed", s.compressed);
  set_tensor(L, "plain", s.plain);
  set_tensor(L, "values", s.values);
  return 1;
}

/* ckpt.dense(v) -> a dense tensor of a sparse one */
static int module_dense(lua_State *L) {
  ckpt_error err;
  ckpt_document *doc;
  const ckpt_value *v = check_object(L, 1, &doc);
  ckpt_tensor **t = new_tensor_box(L);
  return ckpt_value_to_dense(t, v, &err) == CKPT_OK ? 1 : fail(L, &err);
}

/* ckpt.nested(v) -> list of the tensors that a nested one is made of */
static int module_nested(lua_State *L) {
  ckpt_error err;
  ckpt_document *doc;
  size_t n = 0;
  const ckpt_value *v = check_object(L, 1, &doc);
  if (ckpt_value_nested_count(&n, v, &err) != CKPT_OK) return fail(L, &err);
  lua_newtable(L);
  for (size_t i = 0; i < n; i++) {
    ckpt_tensor **t = new_tensor_box(L);
    if (ckpt_value_nested_tensor(t, v, i, &err) != CKPT_OK) return fail(L, &err);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* ---- quantised ---- */

/* ckpt.quantization(t) -> { scheme, scale, zero_point } or { scheme, scales, zero_points, axis } */
static int module_quantization(lua_State *L) {
  ckpt_error err;
  ckpt_quantization q;
  if (ckpt_tensor_quantization(&q, ckpt_lua_check_tensor(L, 1), &err) != CKPT_OK) return fail(L, &err);
  lua_createtable(L, 0, 4);
  lua_pushstring(L, ckpt_qscheme_name(q.scheme));
  lua_setfield(L, -2, "scheme");
  if (q.scheme == CKPT_PER_TENSOR_AFFINE) {
    lua_pushnumber(L, q.scale);
    lua_setfield(L, -2, "scale");
    set_integer(L, "zero_point", q.zero_point);
    return 1;
  }
  set_tensor(L, "scales", q.scales);
  set_tensor(L, "zero_points", q.zero_points);
  set_integer(L, "axis", q.axis + 1);
  return 1;
}

/* ckpt.dequantize(t) -> float32 tensor */
static int module_dequantize(lua_State *L) {
  ckpt_error err;
  const ckpt_tensor *t = ckpt_lua_check_tensor(L, 1);
  ckpt_tensor **made = new_tensor_box(L);
  return ckpt_tensor_dequantize(made, t, &err) == CKPT_OK ? 1 : fail(L, &err);
}

/* ---- sanitised copies ---- */

static int changes_gc(lua_State *L) {
  ckpt_changes **box = luaL_checkudata(L, 1, "ckpt.changes");
  ckpt_changes_free(*box);
  *box = NULL;
  return 0;
}

static void push_change(lua_State *L, const ckpt_change *c) {
  lua_createtable(L, 0, 4);
  lua_pushstring(L, c->path);
  lua_setfield(L, -2, "name");
  lua_pushstring(L, c->class_name);
  lua_setfield(L, -2, "class");
  lua_pushstring(L, c->dropped ? "dropped" : "changed");
  lua_setfield(L, -2, "what");
  if (c->into[0] == '\0') return;
  lua_pushstring(L, c->into);
  lua_setfield(L, -2, "into");
}

static ckpt_profile check_profile(lua_State *L, int index) {
  static const char *const names[] = {"2.6", "1.13", NULL};
  return luaL_checkoption(L, index, "2.6", names) == 0 ? CKPT_WEIGHTS_ONLY_2_6 : CKPT_WEIGHTS_ONLY_1_13;
}

/* The value of a checkpoint, of a box, or of anything that Lua can say; what is built hangs on the stack. */
static const ckpt_value *any_value(lua_State *L, int index, ckpt_error *err) {
  ckpt_document *doc;
  const ckpt_value *v = ckpt_lua_test_value(L, index, &doc);
  if (v != NULL) return v;
  if (luaL_testudata(L, index, CKPT_T_CHECKPOINT) != NULL)
    return ckpt_checkpoint_root(ckpt_lua_check_box(L, index, CKPT_T_CHECKPOINT));
  ckpt_document **built = new_document_box(L);
  return ckpt_document_new(built, err) == CKPT_OK ? ckpt_lua_to_value(L, index, *built) : NULL;
}

/* ckpt.sanitize(x [, profile]) -> value, list of { name, class, what = "dropped" | "changed", into } */
static int module_sanitize(lua_State *L) {
  ckpt_error err;
  luaL_checkany(L, 1);
  ckpt_profile profile = check_profile(L, 2);
  ckpt_value *clean = NULL;
  const ckpt_value *v = any_value(L, 1, &err);
  if (v == NULL) return fail(L, &err);
  ckpt_changes **changes = lua_newuserdatauv(L, sizeof *changes, 0);
  *changes = NULL;
  luaL_setmetatable(L, "ckpt.changes");
  ckpt_document **doc = new_document_box(L);
  if (ckpt_document_new(doc, &err) != CKPT_OK) return fail(L, &err);
  if (ckpt_value_sanitize(&clean, changes, *doc, v, profile, &err) != CKPT_OK) return fail(L, &err);
  ckpt_lua_push_value(L, *doc, clean);
  lua_newtable(L);
  for (size_t i = 0; i < ckpt_changes_count(*changes); i++) {
    push_change(L, ckpt_changes_at(*changes, i));
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 2;
}

void ckpt_lua_open_inside(lua_State *L) {
  static const luaL_Reg functions[] = {{"array", module_array},
                                       {"attributes", module_attributes},
                                       {"complex_parts", module_complex_parts},
                                       {"sparse", module_sparse},
                                       {"dense", module_dense},
                                       {"nested", module_nested},
                                       {"quantization", module_quantization},
                                       {"dequantize", module_dequantize},
                                       {"sanitize", module_sanitize},
                                       {NULL, NULL}};
  static const luaL_Reg meta[] = {{"__gc", changes_gc}, {NULL, NULL}};
  ckpt_lua_new_type(L, "ckpt.changes", meta, NULL);
  luaL_setfuncs(L, functions, 0); /* into the module's table on the top */
}
