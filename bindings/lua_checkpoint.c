/*
 * lua_checkpoint.c - type ckpt.checkpoint: an open file. Saving is lua_save.c's.
 */
#include <stdlib.h>
#include <string.h>

#include "lua_types.h"
#include "value.h"

static ckpt_checkpoint *check_checkpoint(lua_State *L) { return ckpt_lua_check_box(L, 1, CKPT_T_CHECKPOINT); }

/* { depth = 1.., ... }: the table on top of the stack */
static void check_limits(lua_State *L, ckpt_limits *limits) {
  static const char *const names[] = {"depth", "opcodes", "memo", "entries", "header"};
  size_t *const fields[] = {&limits->depth, &limits->opcodes, &limits->memo, &limits->entries, &limits->header};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (lua_getfield(L, -1, names[i]) != LUA_TNIL) {
      luaL_argcheck(L, lua_isinteger(L, -1) && lua_tointeger(L, -1) >= 1, 2, "limits must be integers from 1 on");
      *fields[i] = (size_t)lua_tointeger(L, -1);
    }
    lua_pop(L, 1);
  }
}

/* { verify = bool, save = 1.., lenient = bool, limits = {...} }, at argument 2 */
static ckpt_open_options check_open_options(lua_State *L) {
  ckpt_open_options options = {.verify = false};
  if (!lua_istable(L, 2)) return options;
  lua_getfield(L, 2, "verify");
  options.verify = lua_toboolean(L, -1);
  if (lua_getfield(L, 2, "save") != LUA_TNIL) {
    luaL_argcheck(L, lua_isinteger(L, -1) && lua_tointeger(L, -1) >= 1, 2, "save must be an integer from 1 on");
    options.save = (size_t)lua_tointeger(L, -1) - 1;
  }
  lua_getfield(L, 2, "lenient");
  options.lenient = lua_toboolean(L, -1);
  if (lua_getfield(L, 2, "limits") == LUA_TTABLE) check_limits(L, &options.limits);
  lua_pop(L, 4);
  return options;
}

/* ckpt.open(path [, { verify = bool, save = n, lenient = bool, limits = {...} }]) */
static int module_open(lua_State *L) {
  ckpt_error err;
  const char *path = ckpt_lua_check_text(L, 1);
  ckpt_open_options options = check_open_options(L);
  void **box = ckpt_lua_new_box(L, CKPT_T_CHECKPOINT);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  ckpt_checkpoint *cp = NULL;
  if (ckpt_checkpoint_open(&cp, path, &options, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  *box = cp;
  return 1;
}

static int checkpoint_gc(lua_State *L) {
  ckpt_checkpoint_close(ckpt_lua_take_box(L, CKPT_T_CHECKPOINT));
  return 0;
}

static int checkpoint_close(lua_State *L) { return checkpoint_gc(L); }

static int checkpoint_tostring(lua_State *L) {
  luaL_checkudata(L, 1, CKPT_T_CHECKPOINT);
  lua_getiuservalue(L, 1, 1);
  lua_pushfstring(L, "checkpoint %s", lua_tostring(L, -1));
  return 1;
}

static int checkpoint_verify(lua_State *L) {
  ckpt_error err;
  if (ckpt_checkpoint_verify(check_checkpoint(L), &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_pushboolean(L, 1);
  return 1;
}

static void push_record(lua_State *L, ckpt_record r) {
  lua_createtable(L, 0, 3);
  lua_pushstring(L, r.name);
  lua_setfield(L, -2, "name");
  lua_pushinteger(L, (lua_Integer)r.bytes);
  lua_setfield(L, -2, "bytes");
  if (r.crc == 0) return;
  lua_pushinteger(L, r.crc);
  lua_setfield(L, -2, "crc");
}

/* cp:records() -> { { name, bytes, crc }, ... } of a zip file, {} for other formats */
static int checkpoint_records(lua_State *L) {
  const ckpt_checkpoint *cp = check_checkpoint(L);
  lua_newtable(L);
  for (size_t i = 0; i < ckpt_checkpoint_record_count(cp); i++) {
    push_record(L, ckpt_checkpoint_record(cp, i));
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* cp:check_record(i) -> true, or nil, message, code */
static int checkpoint_check_record(lua_State *L) {
  ckpt_error err;
  const ckpt_checkpoint *cp = check_checkpoint(L);
  lua_Integer i = ckpt_lua_check_integer(L, 2);
  luaL_argcheck(L, i >= 1 && (lua_Unsigned)i <= ckpt_checkpoint_record_count(cp), 2, "there is no such record");
  if (ckpt_checkpoint_check_record(cp, (size_t)i - 1, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_pushboolean(L, 1);
  return 1;
}

/* cp:check_contents() -> true, or nil, message, code: what cp:verify() looks at besides records */
static int checkpoint_check_contents(lua_State *L) {
  ckpt_error err;
  if (ckpt_checkpoint_check_contents(check_checkpoint(L), &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_pushboolean(L, 1);
  return 1;
}

static ckpt_value *find(lua_State *L, const ckpt_checkpoint *cp) {
  return ckpt_value_at(ckpt_checkpoint_root(cp), luaL_optstring(L, 2, ""));
}

/* cp:at([path]) -> the value there, or nil */
static int checkpoint_at(lua_State *L) {
  const ckpt_checkpoint *cp = check_checkpoint(L);
  ckpt_value *v = find(L, cp);
  if (v == NULL)
    lua_pushnil(L);
  else
    ckpt_lua_push_value(L, ckpt_checkpoint_document(cp), v);
  return 1;
}

/* cp:state_dict([path]) -> its tensors, names left out, where it was; or nil, message, code */
static int checkpoint_state_dict(lua_State *L) {
  const ckpt_checkpoint *cp = check_checkpoint(L);
  return ckpt_lua_push_state_dict_of(L, ckpt_checkpoint_root(cp), luaL_optstring(L, 2, NULL));
}

/* ---- listing ---- */

static int listing_gc(lua_State *L) {
  ckpt_listing **box = luaL_checkudata(L, 1, "ckpt.listing");
  ckpt_listing_free(*box);
  *box = NULL;
  return 0;
}

/* Of an object; copy_reg makes one of the class that it is given. */
static const ckpt_value *class_of(const ckpt_value *v) {
  const ckpt_value *cls = ckpt_value_object_class(v), *args = ckpt_value_object_args(v);
  bool by_function = cls != NULL && (ckpt_value_is_class(cls, "copy_reg", "_reconstructor") ||
                                     ckpt_value_is_class(cls, "copyreg", "_reconstructor"));
  return by_function && ckpt_value_count(args) > 0 ? ckpt_value_item(args, 0) : cls;
}

static void set_class(lua_State *L, const ckpt_value *v) {
  const ckpt_value *cls = class_of(v);
  size_t n = 0;
  const char *name = cls == NULL ? NULL : ckpt_value_text(cls, &n);
  lua_pushlstring(L, name == NULL ? "?" : name, name == NULL ? 1 : n);
  lua_setfield(L, -2, "class");
}

/* storage, its bytes and whether the file has them big-endian, into the table on the top */
static void set_storage(lua_State *L, const ckpt_listing_entry *e) {
  const ckpt_storage *s = ckpt_tensor_storage(ckpt_value_tensor(e->value));
  lua_pushinteger(L, (lua_Integer)e->storage);
  lua_setfield(L, -2, "storage");
  lua_pushinteger(L, (lua_Integer)ckpt_storage_size(s));
  lua_setfield(L, -2, "storage_bytes");
  lua_pushboolean(L, ckpt_storage_swap(s) > 1);
  lua_setfield(L, -2, "big_endian");
}

/* { name, storage, storage_bytes, big_endian, aliases } on the top */
static void push_place(lua_State *L, const ckpt_listing_entry *e) {
  lua_createtable(L, 0, 6);
  lua_pushstring(L, e->path);
  lua_setfield(L, -2, "name");
  if (e->storage != SIZE_MAX) set_storage(L, e);
  lua_newtable(L);
  for (size_t i = 0; i < e->n_aliases; i++) {
    lua_pushstring(L, e->aliases[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "aliases");
}

static void push_entry(lua_State *L, const ckpt_listing_entry *e) {
  ckpt_tensor *t = ckpt_value_tensor(e->value);
  push_place(L, e);
  if (t == NULL) {
    set_class(L, e->value);
  } else {
    ckpt_lua_push_tensor(L, t);
    lua_setfield(L, -2, "tensor");
  }
}

static ckpt_listing **new_listing_box(lua_State *L) {
  ckpt_listing **box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = NULL;
  luaL_setmetatable(L, "ckpt.listing");
  return box;
}

/* cp:list() -> tensors, objects: two lists in the order of the file, of { name, tensor | class, storage, aliases } */
static int checkpoint_list(lua_State *L) {
  ckpt_error err;
  const ckpt_checkpoint *cp = check_checkpoint(L);
  ckpt_listing **box = new_listing_box(L);
  if (ckpt_listing_new(box, ckpt_checkpoint_root(cp), &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_newtable(L);
  lua_newtable(L);
  lua_Integer tensors = 0, objects = 0;
  for (size_t i = 0; i < ckpt_listing_count(*box); i++) {
    const ckpt_listing_entry *e = ckpt_listing_entry_at(*box, i);
    push_entry(L, e);
    if (ckpt_value_tensor(e->value) != NULL)
      lua_rawseti(L, -3, ++tensors);
    else
      lua_rawseti(L, -2, ++objects);
  }
  return 2;
}

/* Upvalues: the checkpoint, the listing, the place in it. */
static int next_entry(lua_State *L) {
  const ckpt_checkpoint *cp = ckpt_lua_check_box(L, lua_upvalueindex(1), CKPT_T_CHECKPOINT);
  ckpt_listing *const *box = lua_touserdata(L, lua_upvalueindex(2));
  size_t i = (size_t)lua_tointeger(L, lua_upvalueindex(3));
  const ckpt_listing_entry *e = ckpt_listing_entry_at(*box, i);
  if (e == NULL) return 0;
  lua_pushinteger(L, (lua_Integer)i + 1);
  lua_replace(L, lua_upvalueindex(3));
  push_place(L, e);
  lua_pushstring(L, ckpt_kind_name(ckpt_value_kind(e->value)));
  lua_setfield(L, -2, "kind");
  lua_pushinteger(L, (lua_Integer)e->depth);
  lua_setfield(L, -2, "depth");
  lua_pushinteger(L, (lua_Integer)e->parent);
  lua_setfield(L, -2, "parent");
  if (e->again) {
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "again");
  }
  if (ckpt_value_kind(e->value) == CKPT_OBJECT) set_class(L, e->value);
  if (ckpt_value_is_opaque(e->value)) {
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "opaque");
  }
  ckpt_lua_push_value(L, ckpt_checkpoint_document(cp), (ckpt_value *)(uintptr_t)e->value);
  lua_setfield(L, -2, "value");
  return 1;
}

/* for entry in cp:entries() do: everything in the file, containers before what is in them */
static int checkpoint_entries(lua_State *L) {
  ckpt_error err;
  const ckpt_checkpoint *cp = check_checkpoint(L);
  lua_settop(L, 1);
  ckpt_listing **box = new_listing_box(L);
  if (ckpt_listing_everything(box, ckpt_checkpoint_root(cp), &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_pushinteger(L, 0);
  lua_pushcclosure(L, next_entry, 3);
  return 1;
}

/* cp:source([path]) -> text, file: the source that an old file holds of a class or an object's class; or nil */
static int checkpoint_source(lua_State *L) {
  const ckpt_value *v = find(L, check_checkpoint(L));
  if (v != NULL && ckpt_value_kind(v) == CKPT_OBJECT) v = class_of(v);
  ckpt_value *file = NULL;
  const ckpt_value *source = v == NULL ? NULL : ckpt_value_class_source(v, &file);
  if (source == NULL) {
    lua_pushnil(L);
    return 1;
  }
  size_t n = 0;
  const char *text = ckpt_value_text(source, &n);
  lua_pushlstring(L, text, n);
  text = ckpt_value_text(file, &n);
  lua_pushlstring(L, text, n);
  return 2;
}

static int checkpoint_index(lua_State *L) {
  const ckpt_checkpoint *cp = check_checkpoint(L);
  const char *field = luaL_checkstring(L, 2);
  if (strcmp(field, "format") == 0) {
    lua_pushstring(L, ckpt_checkpoint_format(cp));
  } else if (strcmp(field, "bytes") == 0) {
    lua_pushinteger(L, (lua_Integer)ckpt_checkpoint_bytes(cp));
  } else if (strcmp(field, "saves") == 0) {
    lua_pushinteger(L, (lua_Integer)ckpt_checkpoint_saves(cp));
  } else if (strcmp(field, "trailing") == 0) {
    lua_pushinteger(L, (lua_Integer)ckpt_checkpoint_trailing(cp));
  } else if (strcmp(field, "metadata") == 0) {
    ckpt_value *metadata = ckpt_checkpoint_metadata(cp);
    if (metadata == NULL)
      lua_pushnil(L);
    else
      ckpt_lua_push_value(L, ckpt_checkpoint_document(cp), metadata);
  } else if (strcmp(field, "path") == 0) {
    lua_getiuservalue(L, 1, 1);
  } else {
    luaL_getmetafield(L, 1, "__methods");
    lua_getfield(L, -1, field);
  }
  return 1;
}

void ckpt_lua_open_checkpoint(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", checkpoint_gc},
                                  {"__close", checkpoint_gc},
                                  {"__index", checkpoint_index},
                                  {"__tostring", checkpoint_tostring},
                                  {NULL, NULL}};
  static const luaL_Reg methods[] = {{"at", checkpoint_at},
                                     {"state_dict", checkpoint_state_dict},
                                     {"list", checkpoint_list},
                                     {"entries", checkpoint_entries},
                                     {"verify", checkpoint_verify},
                                     {"records", checkpoint_records},
                                     {"check_record", checkpoint_check_record},
                                     {"source", checkpoint_source},
                                     {"check_contents", checkpoint_check_contents},
                                     {"close", checkpoint_close},
                                     {NULL, NULL}};
  static const luaL_Reg listing[] = {{"__gc", listing_gc}, {NULL, NULL}};
  static const char *const fields[] = {"format", "bytes", "path", "metadata", "saves", "trailing", NULL};
  static const luaL_Reg functions[] = {{"open", module_open}, {NULL, NULL}};
  ckpt_lua_new_type(L, "ckpt.listing", listing, NULL);
  ckpt_lua_new_type(L, CKPT_T_CHECKPOINT, meta, methods);
  ckpt_lua_set_fields(L, CKPT_T_CHECKPOINT, fields);
  luaL_setfuncs(L, functions, 0); /* into the module's table on the top */
}
