/*
 * expr.h - expressions as Lua tables: a key, or { operation, arguments..., of = expression or list of them }. What is
 * read is a tree of runtime/expression.h, free of Lua, which is evaluated over whatever tensors there are.
 */
#ifndef CKPT_EXPR_H
#define CKPT_EXPR_H

#include "expression.h"
#include "lua_types.h"

/*
 * The expression at `index`. *out (NULL before) is the caller's, and is set before anything can raise: it must hang on
 * what the caller frees. CKPT_E_ARGUMENT for what is malformed, naming the operation; CKPT_E_LIMIT for what is too
 * large. Raises only for want of memory or steps.
 */
ckpt_status ckpt_lua_read_expr(ckpt_expr **out, lua_State *L, int index, ckpt_error *err);

/* A function of a context for ckpt_expr_evaluate: tensors of a value that is a dict. */
ckpt_tensor *ckpt_expr_find_in_value(void *dict, const char *key);

/* The type whose box owns an expression while Lua works with it. */
void ckpt_lua_open_expr(lua_State *L);

/*
 * infer(expression, tensors) -> shape, dtype; apply(expression, tensors) -> tensor. Or nil, message, code. `tensors` is
 * a state dict or a table of tensors by key; for infer also of { shape =, dtype = }.
 */
int ckpt_lua_infer(lua_State *L);
int ckpt_lua_apply(lua_State *L);

/* infer in a policy's environment: it charges what it does. */
int ckpt_lua_policy_infer(lua_State *L);

#endif
