/*
 * lua_tensor.h - what the files of type ckpt.tensor share: lua_tensor.c has the type, its fields and the making of
 * tensors, lua_tensor_numbers.c numbers in and out, lua_tensor_ops.c views, computed tensors and statistics,
 * lua_tensor_compare.c comparison.
 */
#ifndef CKPT_LUA_TENSOR_H
#define CKPT_LUA_TENSOR_H

#include "lua_types.h"

/* An empty box on the top, for a tensor that is about to be made: nothing is held while Lua could raise. */
ckpt_tensor **ckpt_lua_tensor_box(lua_State *L);

/* The box on the top holds what was made, or nil, message, code. */
int ckpt_lua_tensor_made(lua_State *L, ckpt_status st, ckpt_tensor *const *t, const ckpt_error *err);

/* A writable copy of the logical contents. */
ckpt_status ckpt_lua_tensor_clone(ckpt_tensor **out, const ckpt_tensor *t, ckpt_error *err);

/* The name of a dtype, or raises. */
ckpt_dtype ckpt_lua_check_dtype(lua_State *L, int index);

/* The methods of the other files, into the table on the top. */
void ckpt_lua_tensor_numbers(lua_State *L);
void ckpt_lua_tensor_ops(lua_State *L);
void ckpt_lua_tensor_compare(lua_State *L);

/* A boolean, integer, float or { re, im } at `index`; raises as for argument `arg`. */
ckpt_scalar ckpt_lua_check_scalar(lua_State *L, int index, int arg);

/* Functions of the module. */
int ckpt_lua_cat(lua_State *L);
int ckpt_lua_stack(lua_State *L);
int ckpt_lua_mean(lua_State *L);

#endif
