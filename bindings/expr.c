/* expr.c - see expr.h. */
#include "expr.h"

#include <string.h>

#include "lua_tensor.h"
#include "reduce.h"
#include "sandbox.h"

#define BOX "ckpt.expression"

/* ---- reading ---- */

typedef struct reader {
  lua_State *L;
  ckpt_expr *expr;
  const ckpt_expr_op *op; /* that is being read */
  ckpt_error *err;
} reader;

static void *allocate(reader *r, size_t n, size_t size) {
  size_t bytes;
  if (!ckpt_mul_size(&bytes, n, size)) bytes = SIZE_MAX / 2;
  return ckpt_arena_alloc(&r->expr->arena, bytes == 0 ? 1 : bytes, r->err);
}

/* "permute: argument 1 must be a list of integers, not nil: { permute, { dims } }" */
static ckpt_status wrong(const reader *r, int arg, const char *expected) {
  return ckpt_fail(r->err, CKPT_E_ARGUMENT, -1, "%s: argument %d must be %s, not %s: { %s }", r->op->name, arg,
                   expected, luaL_typename(r->L, -1), r->op->usage);
}

static ckpt_status count_integers(reader *r, size_t n) {
  r->expr->integers += n;
  if (r->expr->integers <= CKPT_EXPR_INTEGERS) return CKPT_OK;
  return ckpt_fail(r->err, CKPT_E_LIMIT, -1, "%s: more than %d indices and sizes in one expression", r->op->name,
                   CKPT_EXPR_INTEGERS);
}

static ckpt_status read_integer(reader *r, int64_t *out, int arg) {
  if (!lua_isinteger(r->L, -1))
    return wrong(r, arg, lua_type(r->L, -1) == LUA_TNUMBER ? "a whole number (//)" : "an integer");
  *out = lua_tointeger(r->L, -1);
  return CKPT_OK;
}

static ckpt_status new_list(reader *r, ckpt_expr_list *out, size_t n) {
  CKPT_TRY(count_integers(r, n));
  out->items = allocate(r, n, sizeof *out->items);
  return out->items == NULL ? r->err->status : CKPT_OK;
}

/* The table on the top. */
static ckpt_status read_list(reader *r, ckpt_expr_list *out, int arg) {
  if (!lua_istable(r->L, -1)) return wrong(r, arg, "a list of integers");
  size_t n = (size_t)lua_rawlen(r->L, -1);
  CKPT_TRY(new_list(r, out, n));
  for (; out->n < n; out->n++) {
    lua_rawgeti(r->L, -1, (lua_Integer)out->n + 1);
    CKPT_TRY(read_integer(r, &out->items[out->n], arg));
    lua_pop(r->L, 1);
  }
  return CKPT_OK;
}

static ckpt_status read_number(const reader *r, ckpt_expr_node *node, int arg) {
  if (lua_type(r->L, -1) != LUA_TNUMBER) return wrong(r, arg, "a number");
  node->number =
      lua_isinteger(r->L, -1) ? ckpt_scalar_int(lua_tointeger(r->L, -1)) : ckpt_scalar_double(lua_tonumber(r->L, -1));
  node->has_number = true;
  return CKPT_OK;
}

static ckpt_status read_dtype(const reader *r, ckpt_expr_node *node, int arg) {
  ckpt_error unknown;
  if (lua_type(r->L, -1) != LUA_TSTRING) return wrong(r, arg, "the name of a dtype");
  node->has_dtype = true;
  if (ckpt_dtype_parse(&node->dtype, lua_tostring(r->L, -1), &unknown) == CKPT_OK) return CKPT_OK;
  return ckpt_fail(r->err, CKPT_E_ARGUMENT, -1, "%s: %s", r->op->name, unknown.message);
}

static ckpt_status read_mode(const reader *r, ckpt_expr_node *node, int arg) {
  static const char *const modes[] = {"nearest", "bilinear", "bicubic"};
  if (lua_type(r->L, -1) == LUA_TSTRING)
    for (int i = 0; i < 3; i++)
      if (strcmp(lua_tostring(r->L, -1), modes[i]) == 0) {
        node->mode = i;
        return CKPT_OK;
      }
  return wrong(r, arg, "'nearest', 'bilinear' or 'bicubic'");
}

/* Arguments `first` to the last one as integers of one list. The node's table is on the top. */
static ckpt_status read_rest(reader *r, ckpt_expr_list *out, int first) {
  size_t n = (size_t)lua_rawlen(r->L, -1);
  if (n <= (size_t)first) return ckpt_fail(r->err, CKPT_E_ARGUMENT, -1, "{ %s }: nothing is named", r->op->usage);
  CKPT_TRY(new_list(r, out, n - (size_t)first));
  for (; out->n < n - (size_t)first; out->n++) {
    int arg = first + (int)out->n;
    lua_rawgeti(r->L, -1, arg + 1);
    CKPT_TRY(read_integer(r, &out->items[out->n], arg));
    lua_pop(r->L, 1);
  }
  return CKPT_OK;
}

/* The value on the top as the argument of that kind. */
static ckpt_status read_argument(reader *r, ckpt_expr_node *node, char kind, int arg) {
  switch (kind) {
    case 'i': return read_integer(r, &node->integer[node->n_integers++], arg);
    case 'l': return read_list(r, &node->list[node->n_lists++], arg);
    case 'n': return read_number(r, node, arg);
    case 't': return read_dtype(r, node, arg);
    default: return read_mode(r, node, arg);
  }
}

/* The node's table is on the top, and again when this has succeeded. */
static ckpt_status read_arguments(reader *r, ckpt_expr_node *node) {
  bool optional = false;
  int arg = 0;
  for (const char *a = r->op->arguments; *a != '\0'; a++) {
    if (*a == '?') optional = true;
    if (*a == '?') continue;
    if (*a == 'r') return read_rest(r, &node->list[node->n_lists++], 1);
    lua_rawgeti(r->L, -1, ++arg + 1);
    if (!(optional && lua_isnil(r->L, -1))) CKPT_TRY(read_argument(r, node, *a, arg));
    lua_pop(r->L, 1);
  }
  lua_rawgeti(r->L, -1, arg + 2);
  bool more = !lua_isnil(r->L, -1);
  lua_pop(r->L, 1);
  if (!more) return CKPT_OK;
  return ckpt_fail(r->err, CKPT_E_ARGUMENT, -1, "%s: too many arguments: { %s }", r->op->name, r->op->usage);
}

static ckpt_status read_node(reader *r, ckpt_expr_node **out, int depth);

/* Whether the table on the top is a list of operands: its first item is no operation's name followed by its own. */
static bool is_list(lua_State *L) {
  lua_rawgeti(L, -1, 1);
  bool node = lua_type(L, -1) == LUA_TSTRING && ckpt_expr_find_op(lua_tostring(L, -1)) != NULL;
  lua_pop(L, 1);
  if (!node) return true;
  lua_pushliteral(L, "of");
  node = lua_rawget(L, -2) != LUA_TNIL;
  lua_pop(L, 1);
  lua_rawgeti(L, -1, 2);
  node |= lua_type(L, -1) == LUA_TNUMBER || lua_type(L, -1) == LUA_TTABLE;
  lua_pop(L, 1);
  return !node;
}

static ckpt_status read_operand_list(reader *r, ckpt_expr_node *node, int depth) {
  size_t n = (size_t)lua_rawlen(r->L, -1);
  if (n == 0 || n > CKPT_EXPR_NODES)
    return ckpt_fail(r->err, CKPT_E_ARGUMENT, -1, "%s: 'of' is a list of %zu operands", r->op->name, n);
  node->of = allocate(r, n, sizeof(ckpt_expr_node *));
  if (node->of == NULL) return r->err->status;
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(r->L, -1, (lua_Integer)i + 1);
    CKPT_TRY(read_node(r, &node->of[i], depth + 1));
    node->n_of++;
    lua_pop(r->L, 1);
  }
  return CKPT_OK;
}

static ckpt_status read_one_operand(reader *r, ckpt_expr_node *node, int depth) {
  node->of = allocate(r, 1, sizeof(ckpt_expr_node *));
  if (node->of == NULL) return r->err->status;
  CKPT_TRY(read_node(r, &node->of[0], depth + 1));
  node->n_of = 1;
  return CKPT_OK;
}

/* The field `of` of the table on the top. */
static ckpt_status read_operands(reader *r, ckpt_expr_node *node, int depth) {
  const ckpt_expr_op *op = r->op;
  lua_pushliteral(r->L, "of");
  bool none = lua_rawget(r->L, -2) == LUA_TNIL;
  ckpt_status st = CKPT_OK;
  if (none != (op->of == 0))
    return ckpt_fail(r->err, CKPT_E_ARGUMENT, -1, none ? "%s: 'of' says nothing to work on" : "%s: it takes no 'of'",
                     op->name);
  if (!none && op->of == 2 && lua_istable(r->L, -1) && is_list(r->L))
    st = read_operand_list(r, node, depth);
  else if (!none)
    st = read_one_operand(r, node, depth);
  if (st == CKPT_OK) lua_pop(r->L, 1);
  return st;
}

static ckpt_status find_op(reader *r) {
  lua_rawgeti(r->L, -1, 1);
  const char *name = lua_type(r->L, -1) == LUA_TSTRING ? lua_tostring(r->L, -1) : NULL;
  r->op = name == NULL ? NULL : ckpt_expr_find_op(name);
  if (r->op == NULL)
    return ckpt_fail(r->err, CKPT_E_ARGUMENT, -1, "'%.100s' is no operation",
                     name == NULL ? luaL_typename(r->L, -1) : name);
  lua_pop(r->L, 1);
  return CKPT_OK;
}

static ckpt_status read_key(reader *r, ckpt_expr_node *node) {
  size_t n;
  const char *key = lua_tolstring(r->L, -1, &n);
  if (memchr(key, '\0', n) != NULL) return ckpt_fail(r->err, CKPT_E_ARGUMENT, -1, "a key holds a NUL byte");
  node->key = ckpt_arena_copy(&r->expr->arena, key, n, r->err);
  return node->key == NULL ? r->err->status : CKPT_OK;
}

static ckpt_status new_node(reader *r, ckpt_expr_node **out, int depth) {
  if (depth > CKPT_EXPR_DEPTH)
    return ckpt_fail(r->err, CKPT_E_LIMIT, -1, "an expression of more than %d levels", CKPT_EXPR_DEPTH);
  if (++r->expr->nodes > CKPT_EXPR_NODES)
    return ckpt_fail(r->err, CKPT_E_LIMIT, -1, "an expression of more than %d parts", CKPT_EXPR_NODES);
  luaL_checkstack(r->L, 8, "expression");
  *out = allocate(r, 1, sizeof **out);
  return *out == NULL ? r->err->status : CKPT_OK;
}

/* The expression on the top. On failure the stack is not restored: the caller does that once. */
static ckpt_status read_node(reader *r, ckpt_expr_node **out, int depth) {
  CKPT_TRY(new_node(r, out, depth));
  if (lua_type(r->L, -1) == LUA_TSTRING) return read_key(r, *out);
  if (!lua_istable(r->L, -1))
    return ckpt_fail(r->err, CKPT_E_ARGUMENT, -1, "an expression is a key or { operation, ... }, not %s",
                     luaL_typename(r->L, -1));
  CKPT_TRY(find_op(r));
  (*out)->op = r->op;
  CKPT_TRY(read_arguments(r, *out));
  return read_operands(r, *out, depth);
}

ckpt_status ckpt_lua_read_expr(ckpt_expr **out, lua_State *L, int index, ckpt_error *err) {
  ckpt_error here = {.message = ""};
  int top = lua_gettop(L);
  CKPT_TRY(ckpt_expr_new(out, err));
  reader r = {L, *out, NULL, &here};
  lua_pushvalue(L, index);
  ckpt_status st = read_node(&r, &(*out)->root, 0);
  lua_settop(L, top);
  if (st != CKPT_OK && err != NULL) *err = here;
  return st;
}

/* ---- sources ---- */

ckpt_tensor *ckpt_expr_find_in_value(void *dict, const char *key) {
  const ckpt_value *v = ckpt_value_get(dict, key);
  return v == NULL ? NULL : ckpt_value_tensor(v);
}

/* Tensors of a state dict, or of a table that holds a box for each key. */
typedef struct lookup {
  lua_State *L;
  const ckpt_state_dict *sd; /* or NULL: the table at `table` */
  int table;
} lookup;

/* Does not raise: a raw get of a string that is there already, and nothing is made. */
static ckpt_tensor *find(void *context, const char *key) {
  const lookup *l = context;
  if (l->sd != NULL) return ckpt_state_dict_get(l->sd, key);
  lua_pushstring(l->L, key);
  lua_rawget(l->L, l->table);
  ckpt_tensor **box = luaL_testudata(l->L, -1, CKPT_T_TENSOR);
  ckpt_tensor *t = box == NULL ? NULL : *box;
  lua_pop(l->L, 1);
  return t;
}

/* What shape and dtype a meta tensor is to have. */
typedef struct description {
  ckpt_dtype dtype;
  int ndim;
  int64_t shape[CKPT_MAX_DIMS];
} description;

static void describe_tensor(description *d, const ckpt_tensor *t) {
  d->dtype = ckpt_tensor_dtype(t);
  d->ndim = ckpt_tensor_ndim(t);
  if (d->ndim > 0) memcpy(d->shape, ckpt_tensor_shape(t), (size_t)d->ndim * sizeof *d->shape);
}

/* { shape =, dtype = } on the top. On failure the stack is the caller's to restore. */
static ckpt_status describe_table(description *d, lua_State *L, const char *key, ckpt_error *err) {
  lua_pushliteral(L, "shape");
  if (lua_rawget(L, -2) != LUA_TTABLE || lua_rawlen(L, -1) > CKPT_MAX_DIMS)
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "'%.200s' has no shape", key);
  for (int n = (int)lua_rawlen(L, -1); d->ndim < n; d->ndim++) {
    lua_rawgeti(L, -1, d->ndim + 1);
    if (!lua_isinteger(L, -1)) return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "'%.200s' has no shape of integers", key);
    d->shape[d->ndim] = lua_tointeger(L, -1);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  lua_pushliteral(L, "dtype");
  if (lua_rawget(L, -2) != LUA_TSTRING) return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "'%.200s' has no dtype", key);
  CKPT_TRY(ckpt_dtype_parse(&d->dtype, lua_tostring(L, -1), err));
  lua_pop(L, 1);
  return CKPT_OK;
}

/* A meta tensor like the one on the top (a box or { shape =, dtype = }) takes its place; nil for what is neither. */
static ckpt_status make_meta(lua_State *L, const char *key, ckpt_error *err) {
  description d = {.ndim = 0};
  ckpt_tensor **box = luaL_testudata(L, -1, CKPT_T_TENSOR);
  if (box != NULL && *box != NULL) {
    describe_tensor(&d, *box);
  } else if (lua_istable(L, -1)) {
    CKPT_TRY(describe_table(&d, L, key, err));
  } else {
    lua_pop(L, 1);
    lua_pushnil(L);
    return CKPT_OK;
  }
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  lua_replace(L, -2);
  return ckpt_tensor_meta(made, d.dtype, d.ndim, d.shape, err);
}

/* metas[key] = a meta tensor of what tensors[key] is; tensors at 2, metas at 4. */
static ckpt_status add_meta(lua_State *L, const char *key, ckpt_error *err) {
  lua_pushstring(L, key);
  lua_pushvalue(L, -1);
  if (lua_rawget(L, 4) != LUA_TNIL) {
    lua_pop(L, 2);
    return CKPT_OK;
  }
  lua_pop(L, 1);
  lua_pushvalue(L, -1);
  lua_gettable(L, 2); /* a state dict answers through its __index */
  CKPT_TRY(make_meta(L, key, err));
  lua_rawset(L, 4);
  return CKPT_OK;
}

typedef struct metas {
  lua_State *L;
  ckpt_status st;
  ckpt_error *err;
} metas;

static void visit_key(void *context, const char *key) {
  metas *m = context;
  if (m->st == CKPT_OK) m->st = add_meta(m->L, key, m->err);
}

/* ---- infer, apply ---- */

static int box_gc(lua_State *L) {
  ckpt_expr_free(ckpt_lua_take_box(L, BOX));
  return 0;
}

void ckpt_lua_open_expr(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", box_gc}, {"__close", box_gc}, {NULL, NULL}};
  ckpt_lua_new_type(L, BOX, meta, NULL);
}

/* Leaves the box at 3; empties it at once when the caller is done (close_box). */
static ckpt_status read_first(ckpt_expr **out, lua_State *L, ckpt_error *err) {
  lua_settop(L, 2);
  ckpt_expr **box = (ckpt_expr **)ckpt_lua_new_box(L, BOX);
  ckpt_status st = ckpt_lua_read_expr(box, L, 1, err);
  *out = *box;
  return st;
}

/* The memory of a tree is not Lua's: it does not wait for the collector. */
static void close_box(lua_State *L) {
  lua_pushcfunction(L, box_gc);
  lua_pushvalue(L, 3);
  lua_call(L, 1, 0);
}

static int closed_fail(lua_State *L, const ckpt_error *err) {
  close_box(L);
  return ckpt_lua_fail(L, err);
}

static void check_tensors(lua_State *L) {
  if (luaL_testudata(L, 2, CKPT_T_STATE_DICT) == NULL) luaL_checktype(L, 2, LUA_TTABLE);
}

static int infer(lua_State *L, void (*charge)(lua_State *L, uint64_t steps)) {
  ckpt_error err = {.message = ""};
  ckpt_expr *expr = NULL;
  check_tensors(L);
  if (read_first(&expr, L, &err) != CKPT_OK) return closed_fail(L, &err);
  if (charge != NULL) charge(L, 4 * expr->nodes + expr->integers);
  lua_newtable(L);
  metas m = {L, CKPT_OK, &err};
  ckpt_expr_keys(expr, visit_key, &m);
  if (m.st != CKPT_OK) return closed_fail(L, &err);
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  int at = lua_gettop(L);
  lookup l = {L, NULL, 4};
  luaL_checkstack(L, 8, "infer");
  if (ckpt_expr_evaluate(made, expr, find, &l, true, &err) != CKPT_OK) return closed_fail(L, &err);
  close_box(L);
  ckpt_lua_push_dims(L, ckpt_tensor_ndim(*made), ckpt_tensor_shape(*made));
  lua_pushstring(L, ckpt_dtype_name(ckpt_tensor_dtype(*made)));
  ckpt_tensor_release(*made);
  *(ckpt_tensor **)lua_touserdata(L, at) = NULL;
  return 2;
}

int ckpt_lua_infer(lua_State *L) { return infer(L, NULL); }

int ckpt_lua_policy_infer(lua_State *L) { return infer(L, ckpt_sandbox_charge); }

int ckpt_lua_apply(lua_State *L) {
  ckpt_error err = {.message = ""};
  ckpt_expr *expr = NULL;
  check_tensors(L);
  if (read_first(&expr, L, &err) != CKPT_OK) return closed_fail(L, &err);
  lookup l = {L, NULL, 2};
  if (luaL_testudata(L, 2, CKPT_T_STATE_DICT) != NULL) l.sd = ckpt_lua_check_state_dict(L, 2);
  ckpt_tensor **made = ckpt_lua_tensor_box(L);
  luaL_checkstack(L, 8, "apply");
  ckpt_status st = ckpt_expr_evaluate(made, expr, find, &l, false, &err);
  close_box(L);
  return ckpt_lua_tensor_made(L, st, made, &err);
}
