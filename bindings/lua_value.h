/*
 * lua_value.h - what the files about values share: boxes over a value and its document, marks, arguments.
 *
 * A box is a full userdata that retains the document; its uservalue is the value. A mark is a Lua table whose metatable
 * says what it is in Python (field "__ckpt"): ckpt.tuple{1, 2} is the table itself, marked.
 *
 *   lua_value.c    the type: v[key], v[key] = x, #v, pairs, ==
 *   lua_read.c     functions that look: type, get, keys, object, equal, ...
 *   lua_edit.c     functions that change: put, append, insert, remove, ...
 *   lua_mark.c     constructors: list, tuple, bytes, class, object, ...
 *   lua_convert.c  Lua to Python, lua_mark_value.c marks of one piece
 *   lua_totable.c  Python to Lua
 *   lua_walk.c     walk and map
 */
#ifndef CKPT_LUA_VALUE_H
#define CKPT_LUA_VALUE_H

#include "lua_types.h"
#include "value.h"

/* X(id, name, kind): the constructor ckpt.<name>, and what ckpt.type says of it. */
#define CKPT_LUA_MARKS(X)                \
  X(LIST, "list", "list")                \
  X(TUPLE, "tuple", "tuple")             \
  X(SIZE, "size", "tuple")               \
  X(SET, "set", "set")                   \
  X(FROZENSET, "frozenset", "frozenset") \
  X(DICT, "dict", "dict")                \
  X(ITEMS, "items", "dict")              \
  X(ORDERED, "ordered", "dict")          \
  X(BYTES, "bytes", "bytes")             \
  X(BYTEARRAY, "bytearray", "bytearray") \
  X(BIGINT, "bigint", "int")             \
  X(COMPLEX, "complex", "object")        \
  X(DEVICE, "device", "object")          \
  X(DTYPE, "dtype", "class")             \
  X(CLASS, "class", "class")             \
  X(OBJECT, "object", "object")          \
  X(PARAMETER, "parameter", "tensor")

typedef enum ckpt_lua_mark {
  CKPT_MARK_NONE,
#define CKPT_X(id, name, kind) CKPT_MARK_##id,
  CKPT_LUA_MARKS(CKPT_X)
#undef CKPT_X
} ckpt_lua_mark;

/* The mark of a table, CKPT_MARK_NONE for anything else. */
ckpt_lua_mark ckpt_lua_mark_of(lua_State *L, int index);

/* Marks the table on the top. */
void ckpt_lua_set_mark(lua_State *L, ckpt_lua_mark mark);

/* "tuple", "bytes", ...: Python's name of what a mark stands for. */
const char *ckpt_lua_mark_kind(ckpt_lua_mark mark);

/* The value of a box; *doc is the document that it keeps. Raises for anything else. */
ckpt_value *ckpt_lua_check_value(lua_State *L, int index, ckpt_document **doc);

/* A box over what lies at `index`, in a new document. */
void ckpt_lua_push_built(lua_State *L, int index);

/* An argument that may be anything: a box, a checkpoint (its root), or what can be converted; the box takes its place.
 */
ckpt_value *ckpt_lua_any_value(lua_State *L, int index, ckpt_document **doc);

/* The place of the pair whose key is at `index` in a DICT or OBJECT, or SIZE_MAX. Leaves the stack as it was. */
size_t ckpt_lua_find_pair(lua_State *L, int index, ckpt_document *doc, const ckpt_dict *d);

/* The value of a mark of one piece, such as bytes or a class; NULL for those with parts. */
ckpt_value *ckpt_lua_mark_value(lua_State *L, int index, ckpt_lua_mark mark, ckpt_document *doc);

/* As ckpt_lua_to_value; a string is the one value that the document has for a key of that text. */
ckpt_value *ckpt_lua_to_key(lua_State *L, int index, ckpt_document *doc);

/* The fields of an object: its state if that is a dict, else NULL. */
ckpt_value *ckpt_lua_fields(const ckpt_value *v);

/* v[key] = x with the key and x at these places; nil takes out. Raises for what cannot be. */
void ckpt_lua_assign(lua_State *L, ckpt_document *doc, ckpt_value *v, int key, int x);

/* v[key]: a pair, else an item, else a field; NULL if there is none. */
ckpt_value *ckpt_lua_find(lua_State *L, ckpt_document *doc, const ckpt_value *v, int key);

/* Sets `how`, and `class` and `module` where the callable is a class, of the table on the top. */
void ckpt_lua_set_making(lua_State *L, const ckpt_made *made);

/* Pushes a box for a text that the runtime allocates: *box is freed with it. */
char **ckpt_lua_new_text(lua_State *L);

/* Raises with the message of a failed call. */
void ckpt_lua_must(lua_State *L, ckpt_status st, const ckpt_error *err);

/* Functions into the module's table on the top, and the metatables that they need. */
void ckpt_lua_open_read(lua_State *L);
void ckpt_lua_open_edit(lua_State *L);
void ckpt_lua_open_marks(lua_State *L);
void ckpt_lua_open_totable(lua_State *L);
void ckpt_lua_open_walk(lua_State *L);

/* What conversions need, also in a state without the module's functions: metatables of marks, a sort. */
void ckpt_lua_new_marks(lua_State *L);
void ckpt_lua_new_texts(lua_State *L);
void ckpt_lua_open_convert(lua_State *L);

#endif
