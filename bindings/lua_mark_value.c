/*
 * lua_mark_value.c - Lua to Python: the marks that are one piece, such as ckpt.bytes(s): not filled later, without
 * parts that may be shared.
 */
#include "lua_value.h"

typedef struct piece {
  lua_State *L;
  ckpt_document *doc;
  ckpt_error err;
} piece;

static void must(piece *p, ckpt_status st) { ckpt_lua_must(p->L, st, &p->err); }

/* Field i of a mark as a string without NUL. */
static const char *mark_text(piece *p, int index, int i) {
  lua_rawgeti(p->L, index, i);
  if (lua_type(p->L, -1) != LUA_TSTRING) luaL_error(p->L, "a mark of ckpt without its text");
  return ckpt_lua_check_text(p->L, lua_gettop(p->L));
}

static ckpt_value *from_text(piece *p, int index, ckpt_lua_mark mark) {
  size_t n;
  ckpt_value *v = NULL;
  lua_rawgeti(p->L, index, 1);
  const char *s = lua_tolstring(p->L, -1, &n);
  if (s == NULL) luaL_error(p->L, "a mark of ckpt without its text");
  if (mark == CKPT_MARK_BYTES)
    must(p, ckpt_value_new_bytes(&v, p->doc, s, n, &p->err));
  else if (mark == CKPT_MARK_BYTEARRAY)
    must(p, ckpt_value_new_bytearray(&v, p->doc, s, n, &p->err));
  else
    must(p, ckpt_value_new_int_text(&v, p->doc, s, n, &p->err));
  lua_pop(p->L, 1);
  return v;
}

static ckpt_value *from_class(piece *p, int index) {
  ckpt_value *v = NULL;
  const char *module = mark_text(p, index, 1), *name = mark_text(p, index, 2);
  must(p, ckpt_value_new_class(&v, p->doc, module, name, &p->err));
  lua_pop(p->L, 2);
  return v;
}

static ckpt_value *from_dtype(piece *p, int index) {
  ckpt_value *v = NULL;
  ckpt_dtype dtype = CKPT_F32;
  must(p, ckpt_dtype_parse(&dtype, mark_text(p, index, 1), &p->err));
  must(p, ckpt_value_new_dtype(&v, p->doc, dtype, &p->err));
  lua_pop(p->L, 1);
  return v;
}

static ckpt_value *from_device(piece *p, int index) {
  ckpt_value *v = NULL;
  const char *type = mark_text(p, index, 1);
  lua_rawgeti(p->L, index, 2);
  lua_Integer i = lua_isinteger(p->L, -1) ? lua_tointeger(p->L, -1) : -1;
  if (*type == '\0' || i > INT16_MAX) luaL_error(p->L, "'%s' with index %I is no device of torch", type, i);
  must(p, ckpt_value_new_device(&v, p->doc, type, (int)i, &p->err));
  lua_pop(p->L, 2);
  return v;
}

static ckpt_value *from_complex(piece *p, int index) {
  ckpt_value *v = NULL;
  lua_rawgeti(p->L, index, 1);
  lua_rawgeti(p->L, index, 2);
  must(p, ckpt_value_new_complex(&v, p->doc, lua_tonumber(p->L, -2), lua_tonumber(p->L, -1), &p->err));
  lua_pop(p->L, 2);
  return v;
}

static ckpt_value *from_parameter(piece *p, int index) {
  ckpt_value *v = NULL;
  lua_rawgeti(p->L, index, 1);
  lua_rawgeti(p->L, index, 2);
  const ckpt_tensor *t = ckpt_lua_check_tensor(p->L, lua_gettop(p->L) - 1);
  must(p, ckpt_value_new_parameter(&v, p->doc, t, lua_toboolean(p->L, -1), &p->err));
  lua_pop(p->L, 2);
  return v;
}

static ckpt_value *from_size(piece *p, int index) {
  int64_t dims[CKPT_MAX_DIMS];
  ckpt_value *v = NULL;
  int n = ckpt_lua_check_dims(p->L, index, dims, CKPT_MAX_DIMS);
  must(p, ckpt_value_new_size(&v, p->doc, (size_t)n, dims, &p->err));
  return v;
}

static ckpt_value *from_mark(piece *p, int index, ckpt_lua_mark mark) {
  switch (mark) {
    case CKPT_MARK_BYTES:
    case CKPT_MARK_BYTEARRAY:
    case CKPT_MARK_BIGINT: return from_text(p, index, mark);
    case CKPT_MARK_CLASS: return from_class(p, index);
    case CKPT_MARK_DTYPE: return from_dtype(p, index);
    case CKPT_MARK_DEVICE: return from_device(p, index);
    case CKPT_MARK_COMPLEX: return from_complex(p, index);
    case CKPT_MARK_PARAMETER: return from_parameter(p, index);
    case CKPT_MARK_SIZE: return from_size(p, index);
    default: return NULL;
  }
}

ckpt_value *ckpt_lua_mark_value(lua_State *L, int index, ckpt_lua_mark mark, ckpt_document *doc) {
  piece p = {.L = L, .doc = doc};
  return from_mark(&p, index, mark);
}
