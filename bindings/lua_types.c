/* lua_types.c - boxes, metatables and argument checks that all types share. */
#include "expr.h"

#include <string.h>

/* ---- the count of living boxes: one userdata in the registry, found by the address of its key ---- */

static const char live_key = 0;

typedef struct boxes {
  lua_Integer live;
  ckpt_lua_meter meter;
} boxes;

static boxes *boxes_of(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &live_key) != LUA_TUSERDATA) {
    lua_pop(L, 1);
    boxes *made = lua_newuserdatauv(L, sizeof *made, 0);
    *made = (boxes){0};
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &live_key);
  }
  boxes *all = lua_touserdata(L, -1);
  lua_pop(L, 1); /* the registry keeps it */
  return all;
}

lua_Integer ckpt_lua_live(lua_State *L) { return boxes_of(L)->live; }

void ckpt_lua_set_meter(lua_State *L, const ckpt_lua_meter *meter) { boxes_of(L)->meter = *meter; }

/* ---- types and boxes ---- */

void ckpt_lua_new_type(lua_State *L, const char *name, const luaL_Reg *meta, const luaL_Reg *methods) {
  if (luaL_newmetatable(L, name) != 0) {
    luaL_setfuncs(L, meta, 0);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    if (methods != NULL) {
      lua_newtable(L);
      luaL_setfuncs(L, methods, 0);
      if (lua_getfield(L, -2, "__index") == LUA_TFUNCTION) {
        lua_pop(L, 1);
        lua_setfield(L, -2, "__methods");
      } else {
        lua_pop(L, 1);
        lua_setfield(L, -2, "__index");
      }
    }
  }
  lua_pop(L, 1);
}

void ckpt_lua_set_fields(lua_State *L, const char *type, const char *const *names) {
  luaL_getmetatable(L, type);
  lua_newtable(L);
  for (lua_Integer i = 0; names[i] != NULL; i++) {
    lua_pushstring(L, names[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "__fields");
  lua_pop(L, 1);
}

typedef struct box {
  void *object; /* first: a box is also a void ** */
  boxes *all;
  size_t held; /* memory of the object that the meter knows of */
} box;

void **ckpt_lua_new_box(lua_State *L, const char *type) {
  enum { OBJECT_BYTES = 256 }; /* about what a tensor without data takes */
  boxes *all = boxes_of(L);
  box *b = lua_newuserdatauv(L, sizeof *b, 1);
  *b = (box){NULL, all, 0};
  ++all->live;
  luaL_setmetatable(L, type);
  ckpt_lua_hold(L, -1, OBJECT_BYTES);
  return &b->object;
}

void ckpt_lua_hold(lua_State *L, int index, size_t bytes) {
  box *b = lua_touserdata(L, index);
  if (b->all == NULL || b->all->meter.hold == NULL) return;
  b->all->meter.hold(L, bytes);
  b->held += bytes;
}

void *ckpt_lua_check_box(lua_State *L, int index, const char *type) {
  box *b = luaL_checkudata(L, index, type);
  if (b->object == NULL) luaL_argerror(L, index, "it is closed");
  return b->object;
}

void *ckpt_lua_take_box(lua_State *L, const char *type) {
  box *b = luaL_checkudata(L, 1, type);
  void *object = b->object;
  b->object = NULL;
  if (b->all == NULL) return object;
  --b->all->live;
  if (b->held > 0) b->all->meter.unhold(b->all->meter.user, b->held);
  *b = (box){0};
  return object;
}

int ckpt_lua_fail(lua_State *L, const ckpt_error *err) {
  luaL_pushfail(L);
  lua_pushstring(L, err->message);
  lua_pushstring(L, ckpt_status_name(err->status));
  return 3;
}

/* ---- arguments ---- */

const char *ckpt_lua_check_text(lua_State *L, int index) {
  size_t n;
  const char *s = luaL_checklstring(L, index, &n);
  if (memchr(s, '\0', n) != NULL) luaL_argerror(L, index, "it holds a NUL byte");
  return s;
}

lua_Integer ckpt_lua_check_integer(lua_State *L, int index) {
  if (!lua_isinteger(L, index)) luaL_typeerror(L, index, "integer");
  return lua_tointeger(L, index);
}

void ckpt_lua_push_dims(lua_State *L, int n, const int64_t *dims) {
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    lua_pushinteger(L, dims[i]);
    lua_rawseti(L, -2, i + 1);
  }
}

int ckpt_lua_check_dims(lua_State *L, int index, int64_t *dims, int max) {
  luaL_checktype(L, index, LUA_TTABLE);
  lua_Unsigned n = lua_rawlen(L, index);
  if (n > (lua_Unsigned)max) luaL_argerror(L, index, "too many entries");
  for (int i = 0; i < (int)n; i++) {
    lua_rawgeti(L, index, i + 1);
    if (!lua_isinteger(L, -1)) luaL_argerror(L, index, "every entry must be an integer");
    dims[i] = lua_tointeger(L, -1);
    lua_pop(L, 1);
  }
  return (int)n;
}

void ckpt_lua_open_types(lua_State *L) {
  boxes_of(L);
  ckpt_lua_open_tensor(L);
  ckpt_lua_open_state_dict(L);
  ckpt_lua_open_value(L);
  ckpt_lua_open_expr(L);
}
