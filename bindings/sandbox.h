/*
 * sandbox.h - the closed Lua state in which a policy runs.
 *
 * Memory: one counter for the Lua heap and the C objects that belong to Lua values; growth beyond `memory_limit` is
 * refused, never a byte more is handed out.
 *
 * Steps: a budget that every call through the gate gets afresh. A step is one Lua instruction (counted in thousands),
 * 16 bytes allocated, or the work that a library function charges before or while it does it: bytes read, entries
 * moved, steps of a match. The count depends on the script and what it is given, on nothing else: no clock, no address,
 * no hash seed takes part (tables with objects for keys aside).
 *
 * Time: behind the steps there is a deadline, for what is one instruction and yet long (two megabytes compared). It is
 * CPU time of the thread: a policy cannot wait for anything, and a busy machine must not make a good one fail.
 *
 * Once either is spent every further instruction raises, so that pcall cannot swallow it.
 *
 * One sandbox is used by one thread at a time. Nothing but ckpt_sandbox_call may enter Lua. While a call runs the
 * thread's locale is "C".
 */
#ifndef CKPT_SANDBOX_H
#define CKPT_SANDBOX_H

#include <ckpt/ckpt.h>
#include <lua.h>

#include "embed.h"

#define CKPT_SANDBOX_MEMORY ((size_t)64 << 20) /* when memory_limit is 0 */
#define CKPT_SANDBOX_STEPS UINT64_C(50000000)  /* when steps is 0 */
#define CKPT_SANDBOX_DEADLINE UINT64_C(2000)   /* milliseconds, when deadline is 0 */
#define CKPT_SANDBOX_TEXT ((size_t)1 << 20)    /* largest policy file */
#define CKPT_SANDBOX_STRING ((size_t)4 << 20)  /* longest string */
#define CKPT_SANDBOX_LINES 1000                /* of print in one call; the rest is dropped, which is said */

typedef struct ckpt_sandbox ckpt_sandbox;

typedef struct ckpt_sandbox_budget { /* of one call */
  uint64_t steps;                    /* 0: 50 million */
  uint64_t deadline;                 /* milliseconds of CPU time; 0: 2000 */
} ckpt_sandbox_budget;

typedef struct ckpt_sandbox_options {
  size_t memory_limit;                         /* bytes; 0: 64 MiB */
  ckpt_sandbox_budget budget;                  /* of each call that brings none of its own */
  const char *base_dir;                        /* where `require` looks first, copied; NULL: built-in texts only */
  const struct ckpt_embedded *embedded;        /* borrowed; NULL: none */
  void (*print)(void *user, const char *line); /* gets each line of print, without newline; NULL: dropped */
  void *user;
} ckpt_sandbox_options;

/* CKPT_E_LIMIT if an empty environment does not fit into the memory limit, CKPT_E_NOMEM if the system has no more. */
ckpt_status ckpt_sandbox_new(ckpt_sandbox **out, const ckpt_sandbox_options *options, ckpt_error *err);
void ckpt_sandbox_free(ckpt_sandbox *s);

lua_State *ckpt_sandbox_state(ckpt_sandbox *s);

/* Bytes in use: the Lua heap and what is held for it. */
int64_t ckpt_sandbox_memory(const ckpt_sandbox *s);

/* Steps that the last call spent. */
uint64_t ckpt_sandbox_steps(const ckpt_sandbox *s);

/*
 * Runs a policy and keeps its single result as registry reference *ref_out (LUA_REFNIL for nil). A bare name
 * ("default") is the built-in "policies/default.lua", or else a file; anything else is the path of a regular file of
 * at most 1 MiB. CKPT_E_NOTFOUND lists the built-in policies; CKPT_E_IO; CKPT_E_POLICY for what the text does wrong.
 */
ckpt_status ckpt_sandbox_load(int *ref_out, ckpt_sandbox *s, const char *path_or_name, ckpt_error *err);

/*
 * The gate: runs fn(L), protected, with `arg` as a light userdata argument and a fresh budget (a call from within a
 * call goes on with the budget of the outer one). Results leave through `arg`. Whatever is raised is CKPT_E_POLICY
 * with a sentence that names file and line; a system out of memory is CKPT_E_NOMEM. The stack is as it was.
 */
ckpt_status ckpt_sandbox_call(ckpt_sandbox *s, lua_CFunction fn, void *arg, ckpt_error *err);

/* The same with another budget (NULL: the sandbox's own). */
ckpt_status ckpt_sandbox_call_with(ckpt_sandbox *s, const ckpt_sandbox_budget *budget, lua_CFunction fn, void *arg,
                                   ckpt_error *err);

/* Pushes the environment table. Not protected: for use inside the gate. */
void ckpt_sandbox_push_env(lua_State *L);

/* ---- For C functions that policies call -------------------------------------------------------------- */

ckpt_sandbox *ckpt_sandbox_of(lua_State *L);

/* Takes steps from the budget; raises when it is spent. Charge before working. */
void ckpt_sandbox_charge(lua_State *L, uint64_t steps);

/*
 * Counts memory outside of Lua as the sandbox's, after a collection if need be; raises if there is no room. For an
 * object of Lua's, give it back with ckpt_sandbox_unhold when the object dies.
 */
void ckpt_sandbox_hold(lua_State *L, size_t bytes);
void ckpt_sandbox_unhold(ckpt_sandbox *s, size_t bytes);

/* For what is copied out of the policy's answer: steps for the bytes, and memory until the call ends. */
void ckpt_sandbox_copy_out(lua_State *L, size_t bytes);

/* Before a table of the policy becomes a document: charges the heap, which bounds it; the bytes that it may have. */
size_t ckpt_sandbox_expect_document(lua_State *L);

#endif
