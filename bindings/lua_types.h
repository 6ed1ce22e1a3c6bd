/*
 * lua_types.h - the Lua types of the module: one metatable each, a box that holds one counted C object.
 *
 * A box is pushed empty, with its metatable, before the object exists; then it is filled. So nothing in C is held
 * across a call that can raise. __gc and __close empty the box and may run twice.
 */
#ifndef CKPT_LUA_TYPES_H
#define CKPT_LUA_TYPES_H

#include <ckpt/ckpt.h>
#include <lauxlib.h>
#include <lua.h>

#define CKPT_T_TENSOR "ckpt.tensor"
#define CKPT_T_STATE_DICT "ckpt.state_dict"
#define CKPT_T_VALUE "ckpt.value"
#define CKPT_T_CHECKPOINT "ckpt.checkpoint"
#define CKPT_T_CHECKPOINTER "ckpt.checkpointer"
#define CKPT_T_MARK "ckpt.mark" /* none, bytes: what a Lua value alone cannot say */

/* Makes the metatables of this state, once. Safe to call again. */
void ckpt_lua_open_types(lua_State *L);
void ckpt_lua_open_tensor(lua_State *L);
void ckpt_lua_open_state_dict(lua_State *L);
void ckpt_lua_open_value(lua_State *L);
void ckpt_lua_open_checkpoint(lua_State *L);
void ckpt_lua_open_save(lua_State *L);
void ckpt_lua_open_checkpointer(lua_State *L);
void ckpt_lua_open_inside(lua_State *L);

/* A metatable with __name, __metatable = false and these functions; `methods` go behind __index unless it has one. */
void ckpt_lua_new_type(lua_State *L, const char *name, const luaL_Reg *meta, const luaL_Reg *methods);

/* The names that a type's __index knows beside its methods, NULL at the end: for ckpt.api. */
void ckpt_lua_set_fields(lua_State *L, const char *type, const char *const *names);

/* ckpt.api, of the module's table on the top. */
void ckpt_lua_open_api(lua_State *L);

/* An empty box of a type; counted in ckpt.live() until it is emptied. */
void **ckpt_lua_new_box(lua_State *L, const char *type);

/* The object of a box at `index`; raises for another type or an emptied box. */
void *ckpt_lua_check_box(lua_State *L, int index, const char *type);

/* Takes the object out of the box for __gc; NULL if it is empty already. */
void *ckpt_lua_take_box(lua_State *L, const char *type);

/*
 * Memory of objects is not Lua's. A host that limits a state counts it with these: hold may raise, unhold not. Without
 * them (the zero of the type) nothing is counted.
 */
typedef struct ckpt_lua_meter {
  void (*hold)(lua_State *L, size_t bytes);
  void (*unhold)(void *user, size_t bytes);
  void *user;
} ckpt_lua_meter;

/* To be set before the first box is made. */
void ckpt_lua_set_meter(lua_State *L, const ckpt_lua_meter *meter);

/* Counts bytes for the box at `index` until it is emptied. Raises where the host refuses them. */
void ckpt_lua_hold(lua_State *L, int index, size_t bytes);

/* Boxes of this state that hold something. */
lua_Integer ckpt_lua_live(lua_State *L);

/* nil, message, code */
int ckpt_lua_fail(lua_State *L, const ckpt_error *err);

/* A string argument without NULs, such as a path. */
const char *ckpt_lua_check_text(lua_State *L, int index);

/* Integers by lua_isinteger, not by conversion; raises with the argument's number. */
lua_Integer ckpt_lua_check_integer(lua_State *L, int index);

/* Tensors: pushes a box with a reference of its own. */
void ckpt_lua_push_tensor(lua_State *L, ckpt_tensor *t);
ckpt_tensor *ckpt_lua_check_tensor(lua_State *L, int index);
void ckpt_lua_push_dims(lua_State *L, int n, const int64_t *dims);

/* Reads a table of integers into dims; raises if it is none, too long, or (with `positive`) negative. */
int ckpt_lua_check_dims(lua_State *L, int index, int64_t *dims, int max);

/* State dicts. */
ckpt_state_dict *ckpt_lua_check_state_dict(lua_State *L, int index);

/* state dict, names left out, where it was; or nil, message, code. `where` NULL: where people keep it. */
int ckpt_lua_push_state_dict_of(lua_State *L, const ckpt_value *root, const char *where);

/* Scalars become Lua's own, the rest a box over (document, value). The document is retained. */
void ckpt_lua_push_value(lua_State *L, ckpt_document *doc, ckpt_value *v);

/* The value in a box, or NULL if there is no box at `index`; a box over any value. */
ckpt_value *ckpt_lua_test_value(lua_State *L, int index, ckpt_document **doc);
void ckpt_lua_push_box(lua_State *L, ckpt_document *doc, ckpt_value *v);

/*
 * A tensor of a file that is more than a tensor (a Parameter, one with attributes, a subclass) keeps its value, so that
 * it is saved again as what it was. tensor_value gives that, or NULL.
 */
void ckpt_lua_push_tensor_value(lua_State *L, ckpt_document *doc, ckpt_value *v);
ckpt_value *ckpt_lua_tensor_value(lua_State *L, int index, ckpt_document **doc);

/* The value of what lies at `index`, built in `doc`. Raises for what has no Python counterpart. */
ckpt_value *ckpt_lua_to_value(lua_State *L, int index, ckpt_document *doc);

/* The module's functions about values (lua_value.h). */
void ckpt_lua_value_functions(lua_State *L);

/* align(targets, sources [, boundary]) -> list of indices or false; also in the policies' environment. */
int ckpt_lua_align(lua_State *L);

/* Constructors: a tensor by the arguments; an empty state dict, whatever they are. */
int ckpt_lua_new_tensor(lua_State *L);
int ckpt_lua_new_state_dict(lua_State *L);
void ckpt_lua_state_dict_functions(lua_State *L);

/* Pushes ckpt.none. */
void ckpt_lua_push_none(lua_State *L);

#endif
