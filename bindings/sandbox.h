/*
 * sandbox.h - the closed Lua state in which a policy runs.
 *
 * Memory: one counter, refused growth beyond `memory_limit`, never a byte more. Steps: a budget that every call through
 * the gate gets afresh. A step is one Lua instruction, 16 bytes allocated, or the work that a library function charges
 * (bytes read, entries moved); and since a single instruction can compare megabytes, no step may take more than 200 ns
 * of the thread's CPU time on average: what took longer is charged at that rate. A policy of ordinary instructions is
 * far below, so that the last rule never touches it and its step count depends on nothing but itself.
 * Once the budget is spent every further instruction raises, so that pcall cannot swallow it.
 *
 * One sandbox is used by one thread at a time. Nothing but ckpt_sandbox_call may enter Lua.
 */
#ifndef CKPT_SANDBOX_H
#define CKPT_SANDBOX_H

#include <ckpt/ckpt.h>
#include <lua.h>

#include "embed.h"

#define CKPT_SANDBOX_MEMORY ((size_t)64 << 20) /* when memory_limit is 0 */
#define CKPT_SANDBOX_STEPS UINT64_C(50000000)  /* when step_limit is 0 */
#define CKPT_SANDBOX_TEXT ((size_t)1 << 20)    /* largest policy file */

typedef struct ckpt_sandbox ckpt_sandbox;

typedef struct ckpt_sandbox_options {
  size_t memory_limit;                         /* bytes of the Lua heap; 0: 64 MiB */
  uint64_t step_limit;                         /* of one call; 0: 50 million */
  const char *base_dir;                        /* where `require` looks first, copied; NULL: built-in texts only */
  const struct ckpt_embedded *embedded;        /* borrowed; NULL: none */
  void (*print)(void *user, const char *line); /* gets each line of print, without newline; NULL: dropped */
  void *user;
} ckpt_sandbox_options;

/* CKPT_E_LIMIT if an empty environment does not fit into the memory limit, CKPT_E_NOMEM if the system has no more. */
ckpt_status ckpt_sandbox_new(ckpt_sandbox **out, const ckpt_sandbox_options *options, ckpt_error *err);
void ckpt_sandbox_free(ckpt_sandbox *s);

lua_State *ckpt_sandbox_state(ckpt_sandbox *s);

/* Bytes of the Lua heap in use. */
int64_t ckpt_sandbox_memory(const ckpt_sandbox *s);

/*
 * Runs a policy and keeps its single result as registry reference *ref_out (LUA_REFNIL for nil). A bare name
 * ("default") is the built-in "policies/default.lua", or else a file; anything else is the path of a regular file of
 * at most 1 MiB. CKPT_E_NOTFOUND lists the built-in policies; CKPT_E_IO; CKPT_E_POLICY for what the text does wrong.
 */
ckpt_status ckpt_sandbox_load(int *ref_out, ckpt_sandbox *s, const char *path_or_name, ckpt_error *err);

/*
 * The gate: runs fn(L), protected, with `arg` as a light userdata argument and a fresh step budget (a call from within
 * a call goes on with the budget of the outer one). Results leave through `arg`. Whatever is raised is CKPT_E_POLICY
 * with a sentence that names file and line; a system out of memory is CKPT_E_NOMEM. The stack is as it was.
 */
ckpt_status ckpt_sandbox_call(ckpt_sandbox *s, lua_CFunction fn, void *arg, ckpt_error *err);

/* Pushes the environment table. Not protected: for use inside the gate. */
void ckpt_sandbox_push_env(lua_State *L);

/* ---- For C functions that policies call -------------------------------------------------------------- */

ckpt_sandbox *ckpt_sandbox_of(lua_State *L);

/* Takes steps from the budget; raises when it is spent. Charge before working. */
void ckpt_sandbox_charge(lua_State *L, uint64_t steps);

/* Charges the CPU time that a long piece of work took beyond the steps charged for it; raises like the above. */
void ckpt_sandbox_settle(lua_State *L);

/* ---- Between sandbox.c, sandbox_lib.c and sandbox_load.c --------------------------------------------- */

#define CKPT_SANDBOX_PATH 4096 /* bytes of base_dir with its NUL */

const char *ckpt_sandbox_base_dir(const ckpt_sandbox *s); /* or NULL */
const struct ckpt_embedded *ckpt_sandbox_embedded(const ckpt_sandbox *s);
void ckpt_sandbox_set_name(ckpt_sandbox *s, const char *name);
bool ckpt_sandbox_exhausted(lua_State *L);
size_t ckpt_sandbox_memory_limit(lua_State *L);
uint64_t ckpt_sandbox_step_limit(lua_State *L);
void ckpt_sandbox_print(lua_State *L, const char *line);
int ckpt_sandbox_require(lua_State *L); /* the function `require` */

/* Builds the environment in a new state and makes it the table of globals. Raises. */
void ckpt_sandbox_open_libs(lua_State *L);

#endif
