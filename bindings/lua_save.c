/*
 * lua_save.c - ckpt.save: a Lua value, or an open checkpoint as it was read, into a file or a sharded set.
 */
#include <string.h>

#include "lua_types.h"

#define T_DOCUMENT "ckpt.document"
#define T_REPORT "ckpt.save_report"

static int document_gc(lua_State *L) {
  ckpt_document **box = luaL_checkudata(L, 1, T_DOCUMENT);
  ckpt_document_release(*box);
  *box = NULL;
  return 0;
}

static int report_gc(lua_State *L) {
  ckpt_save_report **box = luaL_checkudata(L, 1, T_REPORT);
  ckpt_save_report_free(*box);
  *box = NULL;
  return 0;
}

/* ---- options ---- */

/* Pushes options[name], or nothing and false if it is nil; raises if it is of another type. */
static bool option(lua_State *L, const char *name, int type) {
  int found = lua_getfield(L, 3, name);
  if (found == LUA_TNIL) {
    lua_pop(L, 1);
    return false;
  }
  if (found != type)
    luaL_argerror(
        L, 3, lua_pushfstring(L, "'%s' must be a %s, not a %s", name, lua_typename(L, type), lua_typename(L, found)));
  return true;
}

static bool flag(lua_State *L, const char *name) {
  if (!option(L, name, LUA_TBOOLEAN)) return false;
  bool set = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return set;
}

static uint64_t shard_size(lua_State *L) {
  if (!option(L, "shard_size", LUA_TNUMBER)) return 0;
  if (!lua_isinteger(L, -1) || lua_tointeger(L, -1) <= 0)
    luaL_argerror(L, 3, "'shard_size' must be a positive integer, a number of bytes");
  lua_Integer size = lua_tointeger(L, -1);
  lua_pop(L, 1);
  return (uint64_t)size;
}

static const char *plain_text(lua_State *L, int index) {
  size_t n = 0;
  if (lua_type(L, index) != LUA_TSTRING) luaL_argerror(L, 3, "'metadata' must map strings to strings");
  const char *s = lua_tolstring(L, index, &n);
  if (memchr(s, '\0', n) != NULL) luaL_argerror(L, 3, "'metadata' must hold no NUL byte");
  return s;
}

static void check_names(lua_State *L) {
  static const char *const known[] = {"format", "tensors_only", "drop_unsupported", "shard_size", "metadata", NULL};
  for (lua_pushnil(L); lua_next(L, 3) != 0; lua_pop(L, 1)) {
    int i = 0;
    while (known[i] != NULL && (lua_type(L, -2) != LUA_TSTRING || strcmp(lua_tostring(L, -2), known[i]) != 0)) i++;
    if (known[i] == NULL)
      luaL_argerror(L, 3, lua_pushfstring(L, "there is no option '%s'", luaL_tolstring(L, -2, NULL)));
  }
}

/* Room for n pairs, on the stack. */
static const char **push_pairs(lua_State *L, size_t n) {
  return lua_newuserdatauv(L, (2 * n + 1) * sizeof(const char *), 0);
}

/* The pairs of the table on the top, which keeps the strings; leaves the array above it. */
static void given_metadata(lua_State *L, ckpt_save_options *o) {
  int table = lua_gettop(L);
  size_t n = 0;
  for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) n++;
  const char **pairs = push_pairs(L, n);
  for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
    pairs[2 * o->n_metadata] = plain_text(L, -2);
    pairs[2 * o->n_metadata + 1] = plain_text(L, -1);
    o->n_metadata++;
  }
  o->metadata = pairs;
}

static const char *c_text(const ckpt_value *v) {
  size_t n = 0;
  const char *s = ckpt_value_kind(v) == CKPT_STR ? ckpt_value_text(v, &n) : NULL;
  return s != NULL && strlen(s) == n ? s : NULL;
}

/* What a file said of itself stays with it; what it said of tied tensors is said anew. */
static void kept_metadata(lua_State *L, ckpt_save_options *o, const ckpt_checkpoint *cp) {
  const ckpt_value *metadata = ckpt_checkpoint_metadata(cp), *root = ckpt_checkpoint_root(cp);
  size_t n = metadata == NULL ? 0 : ckpt_value_pair_count(metadata);
  const char **pairs = push_pairs(L, n);
  for (size_t i = 0; i < n; i++) {
    const char *key = c_text(ckpt_value_pair_key(metadata, i)), *value = c_text(ckpt_value_pair_value(metadata, i));
    if (key == NULL || value == NULL || ckpt_value_get(root, key) != NULL || strcmp(key, "total_size") == 0) continue;
    pairs[2 * o->n_metadata] = key;
    pairs[2 * o->n_metadata + 1] = value;
    o->n_metadata++;
  }
  o->metadata = pairs;
}

/* Leaves on the stack what the options point to. True if the checkpoint says of itself what the new file cannot. */
static bool read_options(lua_State *L, ckpt_save_options *o, const ckpt_checkpoint *cp, const char *path) {
  size_t n = strlen(path), k = strlen(".safetensors");
  bool safetensors = n >= k && strcmp(path + n - k, ".safetensors") == 0, given = false;
  if (!lua_isnoneornil(L, 3)) {
    luaL_checktype(L, 3, LUA_TTABLE);
    check_names(L);
    if (option(L, "format", LUA_TSTRING)) {
      o->format = lua_tostring(L, -1);
      safetensors = strcmp(o->format, "safetensors") == 0;
    }
    o->tensors_only = flag(L, "tensors_only");
    o->drop_unsupported = flag(L, "drop_unsupported");
    o->shard_bytes = shard_size(L);
    given = option(L, "metadata", LUA_TTABLE);
    if (given) given_metadata(L, o);
  }
  if (given || cp == NULL) return false;
  kept_metadata(L, o, cp);
  bool lost = !safetensors && o->n_metadata > 0;
  if (lost) o->n_metadata = 0;
  return lost;
}

/* ---- the report ---- */

static void set_list(lua_State *L, const ckpt_save_report *report, ckpt_saved which, const char *field) {
  size_t n = ckpt_save_report_count(report, which);
  lua_newtable(L);
  for (size_t i = 0; i < n; i++) {
    lua_pushstring(L, ckpt_save_report_text(report, which, i));
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, field);
}

static void set_tied(lua_State *L, const ckpt_save_report *report) {
  lua_newtable(L);
  for (size_t i = 0; i < ckpt_save_report_count(report, CKPT_SAVED_TIED); i++) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, ckpt_save_report_text(report, CKPT_SAVED_TIED, i));
    lua_setfield(L, -2, "name");
    lua_pushstring(L, ckpt_save_report_text(report, CKPT_SAVED_KEPT, i));
    lua_setfield(L, -2, "kept");
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "tied");
}

static void push_report(lua_State *L, const ckpt_save_report *report, bool metadata_lost) {
  lua_createtable(L, 0, 4);
  set_list(L, report, CKPT_SAVED_FILES, "files");
  set_tied(L, report);
  set_list(L, report, CKPT_SAVED_COPIED, "copied");
  set_list(L, report, CKPT_SAVED_DROPPED, "dropped");
  if (!metadata_lost) return;
  lua_getfield(L, -1, "dropped");
  lua_pushliteral(L, "__metadata__");
  lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
  lua_pop(L, 1);
}

/* ---- saving ---- */

static int save(lua_State *L, const char *path, const ckpt_value *root, const ckpt_save_options *options,
                bool metadata_lost) {
  ckpt_error err;
  ckpt_save_report **report = lua_newuserdatauv(L, sizeof *report, 0);
  *report = NULL;
  luaL_setmetatable(L, T_REPORT);
  if (ckpt_save_file_as(report, path, root, options, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  push_report(L, *report, metadata_lost);
  return 1;
}

/* ckpt.save(path, value [, options]) -> report; a checkpoint as value is saved whole, as it was read */
static int module_save(lua_State *L) {
  ckpt_error err;
  ckpt_save_options options = {0};
  const char *path = ckpt_lua_check_text(L, 1);
  luaL_checkany(L, 2);
  lua_settop(L, 3);
  if (luaL_testudata(L, 2, CKPT_T_CHECKPOINT) != NULL) {
    const ckpt_checkpoint *cp = ckpt_lua_check_box(L, 2, CKPT_T_CHECKPOINT);
    bool metadata_lost = read_options(L, &options, cp, path);
    return save(L, path, ckpt_checkpoint_root(cp), &options, metadata_lost);
  }
  read_options(L, &options, NULL, path);
  ckpt_document **box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = NULL;
  luaL_setmetatable(L, T_DOCUMENT);
  if (ckpt_document_new(box, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  return save(L, path, ckpt_lua_to_value(L, 2, *box), &options, false);
}

void ckpt_lua_open_save(lua_State *L) {
  static const luaL_Reg document[] = {{"__gc", document_gc}, {NULL, NULL}};
  static const luaL_Reg report[] = {{"__gc", report_gc}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"save", module_save}, {NULL, NULL}};
  ckpt_lua_new_type(L, T_DOCUMENT, document, NULL);
  ckpt_lua_new_type(L, T_REPORT, report, NULL);
  luaL_setfuncs(L, functions, 0); /* into the module's table on the top */
}
