/* lua_walk.c - ckpt.walk, everything of a value with its path; ckpt.map, a copy with other tensors. */
#include <stdlib.h>
#include <string.h>

#include "lua_value.h"

/* ---- walk ---- */

static int walk_gc(lua_State *L) {
  ckpt_walk **box = luaL_checkudata(L, 1, "ckpt.walk");
  ckpt_walk_free(*box);
  *box = NULL;
  return 0;
}

/* path, value, whether it was given before. Upvalues: the value's box, the walk's. */
static int next_step(lua_State *L) {
  ckpt_error err;
  ckpt_document *doc;
  ckpt_walk_step step;
  ckpt_lua_check_value(L, lua_upvalueindex(1), &doc);
  ckpt_walk **walk = lua_touserdata(L, lua_upvalueindex(2));
  ckpt_lua_must(L, ckpt_walk_next(&step, *walk, &err), &err);
  if (step.value == NULL) return 0;
  lua_pushlstring(L, step.path, step.length);
  ckpt_lua_push_value(L, doc, step.value);
  lua_pushboolean(L, step.again);
  return 3;
}

static int value_walk(lua_State *L) {
  ckpt_error err;
  ckpt_document *doc;
  const ckpt_value *v = ckpt_lua_any_value(L, 1, &doc);
  lua_settop(L, 1);
  ckpt_walk **walk = lua_newuserdatauv(L, sizeof *walk, 0);
  *walk = NULL;
  luaL_setmetatable(L, "ckpt.walk");
  ckpt_lua_must(L, ckpt_walk_new(walk, v, &err), &err);
  lua_pushcclosure(L, next_step, 2);
  return 1;
}

/* ---- map ---- */

typedef struct mapping { /* what the function said, in a userdata */
  ckpt_listing *list;
  ckpt_tensor **to; /* by entry of the list: NULL where nothing was said */
  bool *drop;
  size_t n, next; /* entries; the one that is asked for next */
} mapping;

static int map_gc(lua_State *L) {
  mapping *m = luaL_checkudata(L, 1, "ckpt.mapping");
  for (size_t i = 0; m->to != NULL && i < m->n; i++) ckpt_tensor_release(m->to[i]);
  free(m->to);
  free(m->drop);
  ckpt_listing_free(m->list);
  *m = (mapping){0};
  return 0;
}

static mapping *new_mapping(lua_State *L, const ckpt_value *v, ckpt_status *st, ckpt_error *err) {
  mapping *m = lua_newuserdatauv(L, sizeof *m, 0);
  *m = (mapping){0};
  luaL_setmetatable(L, "ckpt.mapping");
  *st = ckpt_listing_new(&m->list, v, err);
  if (*st != CKPT_OK) return m;
  m->n = ckpt_listing_count(m->list);
  m->to = calloc(m->n + 1, sizeof *m->to);
  m->drop = calloc(m->n + 1, sizeof *m->drop);
  if (m->to == NULL || m->drop == NULL) luaL_error(L, "out of memory");
  return m;
}

/* All paths of a tensor that is left out, into the table at `names`. */
static void add_names(lua_State *L, int names, const ckpt_listing_entry *e) {
  lua_Integer n = (lua_Integer)lua_rawlen(L, names);
  lua_pushstring(L, e->path);
  lua_rawseti(L, names, ++n);
  for (size_t i = 0; i < e->n_aliases; i++) {
    lua_pushstring(L, e->aliases[i]);
    lua_rawseti(L, names, ++n);
  }
}

/* Asks the function at 2 about one tensor; names of those left out go into the table at `names`. */
static void ask(lua_State *L, mapping *m, size_t i, int names) {
  const ckpt_listing_entry *e = ckpt_listing_entry_at(m->list, i);
  ckpt_tensor *t = ckpt_value_tensor(e->value);
  if (t == NULL) return;
  lua_pushvalue(L, 2);
  lua_pushstring(L, e->path);
  ckpt_lua_push_tensor(L, t);
  lua_call(L, 2, 1);
  if (luaL_testudata(L, -1, CKPT_T_TENSOR) != NULL) {
    m->to[i] = ckpt_tensor_retain(ckpt_lua_check_tensor(L, -1));
  } else if (lua_isboolean(L, -1) && !lua_toboolean(L, -1)) {
    m->drop[i] = true;
    add_names(L, names, e);
  } else if (!lua_isnil(L, -1)) {
    luaL_error(L, "the function said %s of '%s': a tensor, false or nil expected", luaL_typename(L, -1), e->path);
  }
  lua_settop(L, names);
}

/* ckpt_map_function: gives what was said before, in the same order. */
static ckpt_status answer(void *context, ckpt_tensor **t, const char *path, ckpt_error *err) {
  mapping *m = context;
  const ckpt_listing_entry *e = ckpt_listing_entry_at(m->list, m->next);
  while (e != NULL && ckpt_value_tensor(e->value) == NULL) e = ckpt_listing_entry_at(m->list, ++m->next);
  if (e == NULL || ckpt_value_tensor(e->value) != *t || strcmp(e->path, path) != 0) {
    if (err != NULL) *err = (ckpt_error){CKPT_E_ARGUMENT, 0, -1, "the value was changed while it was mapped"};
    return CKPT_E_ARGUMENT;
  }
  if (m->drop[m->next])
    *t = NULL;
  else if (m->to[m->next] != NULL && m->to[m->next] != *t) /* the tensor itself is no change: nobody would release it */
    *t = ckpt_tensor_retain(m->to[m->next]);
  m->next++;
  return CKPT_OK;
}

/* ckpt.map(v, f) -> a copy of v, names left out. f(path, tensor) gives another tensor, nil to keep it, false to drop.
 */
static int value_map(lua_State *L) {
  ckpt_error err;
  ckpt_document *doc;
  ckpt_status st;
  ckpt_value *out = NULL;
  const ckpt_value *v = ckpt_lua_any_value(L, 1, &doc);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  mapping *m = new_mapping(L, v, &st, &err);
  if (st != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_newtable(L);
  for (size_t i = 0; i < m->n; i++) ask(L, m, i, 4);
  ckpt_document **box = (ckpt_document **)ckpt_lua_new_box(L, CKPT_T_VALUE);
  if (ckpt_document_new(box, &err) != CKPT_OK || ckpt_value_map(&out, *box, v, answer, m, &err) != CKPT_OK)
    return ckpt_lua_fail(L, &err);
  ckpt_document_set_root(*box, out);
  ckpt_lua_push_value(L, *box, out);
  lua_pushvalue(L, 4);
  return 2;
}

void ckpt_lua_open_walk(lua_State *L) {
  static const luaL_Reg functions[] = {{"walk", value_walk}, {"map", value_map}, {NULL, NULL}};
  static const luaL_Reg walk[] = {{"__gc", walk_gc}, {NULL, NULL}};
  static const luaL_Reg map[] = {{"__gc", map_gc}, {NULL, NULL}};
  ckpt_lua_new_type(L, "ckpt.walk", walk, NULL);
  ckpt_lua_new_type(L, "ckpt.mapping", map, NULL);
  luaL_setfuncs(L, functions, 0);
}
