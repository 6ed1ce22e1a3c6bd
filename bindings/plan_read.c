/* plan_read.c - see plan_read.h. */
#include "plan_read.h"

#include <stdlib.h>

void ckpt_plan_must(lua_State *L, ckpt_status st, const ckpt_error *err) {
  if (st != CKPT_OK) luaL_error(L, "%s", err->message);
}

int ckpt_plan_nonsense(lua_State *L, const char *field, const char *expected) {
  return luaL_error(L, "the plan's '%s' must be %s, not %s", field, expected, luaL_typename(L, -1));
}

char *ckpt_plan_copy(lua_State *L, const char *field) {
  size_t n;
  if (lua_type(L, -1) != LUA_TSTRING) ckpt_plan_nonsense(L, field, "a string");
  const char *s = lua_tolstring(L, -1, &n);
  if (memchr(s, '\0', n) != NULL) luaL_error(L, "the plan's '%s' holds a NUL byte", field);
  ckpt_sandbox_copy_out(L, n + 1);
  char *copy = strdup(s);
  if (copy == NULL) luaL_error(L, "out of memory");
  return copy;
}

void ckpt_plan_string(lua_State *L, int t, const char *field, char **out) {
  lua_getfield(L, t, field);
  if (lua_toboolean(L, -1)) *out = ckpt_plan_copy(L, field);
  lua_pop(L, 1);
}

bool ckpt_plan_bool(lua_State *L, int t, const char *field, bool otherwise) {
  lua_getfield(L, t, field);
  if (!lua_isnil(L, -1) && !lua_isboolean(L, -1)) ckpt_plan_nonsense(L, field, "true or false");
  bool b = lua_isnil(L, -1) ? otherwise : lua_toboolean(L, -1);
  lua_pop(L, 1);
  return b;
}

lua_Integer ckpt_plan_list(lua_State *L, int t, const char *field) {
  lua_getfield(L, t, field);
  if (lua_isnil(L, -1)) return 0;
  if (!lua_istable(L, -1)) ckpt_plan_nonsense(L, field, "a list");
  return (lua_Integer)lua_rawlen(L, -1);
}

void ckpt_plan_strings(lua_State *L, int t, const char *field, ckpt_strings *out) {
  ckpt_error err;
  lua_Integer n = ckpt_plan_list(L, t, field);
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, -1, i);
    if (lua_type(L, -1) != LUA_TSTRING) ckpt_plan_nonsense(L, field, "a list of strings");
    ckpt_sandbox_copy_out(L, lua_rawlen(L, -1) + sizeof(char *));
    ckpt_plan_must(L, ckpt_strings_add(out, lua_tostring(L, -1), strlen(lua_tostring(L, -1)), &err), &err);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

void *ckpt_plan_grow(lua_State *L, void **items, size_t *n, size_t *capacity, size_t size) {
  ckpt_sandbox_copy_out(L, size);
  if (*n == *capacity) {
    size_t more = *capacity == 0 ? 16 : *capacity * 2;
    void *bigger = realloc(*items, more * size);
    if (bigger == NULL) luaL_error(L, "out of memory");
    *items = bigger;
    *capacity = more;
  }
  void *item = (char *)*items + (*n)++ * size;
  memset(item, 0, size);
  return item;
}
