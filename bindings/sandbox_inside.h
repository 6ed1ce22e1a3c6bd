/*
 * sandbox_inside.h - what the files of the sandbox share.
 *
 *   sandbox.c          life, the gate
 *   sandbox_budget.c   steps, time, memory
 *   sandbox_nodes.c    tables whose keys collide
 *   sandbox_error.c    what a stopped or failed policy is told in one sentence
 *   sandbox_lib.c      the environment: allow-lists of functions
 *   sandbox_base.c     basic functions of our own; metatables
 *   sandbox_order.c    next and pairs in an order that is the same everywhere
 *   sandbox_string.c   string and utf8; sandbox_find.c find, match, gmatch, gsub over pattern.c
 *   sandbox_table.c    table
 *   sandbox_load.c     policy files and require
 */
#ifndef CKPT_SANDBOX_INSIDE_H
#define CKPT_SANDBOX_INSIDE_H

#include <lauxlib.h>
#include <locale.h>

#include "sandbox.h"

#define CKPT_SANDBOX_VECTORS 1024

struct ckpt_sandbox {
  lua_State *L;
  /* memory */
  size_t used, memory_limit; /* `held` is in `used` */
  size_t held;               /* by C objects that belong to Lua values */
  size_t call_held;          /* in `held`: by what this call copied out, given back when it ends */
  size_t mark, string_mark;  /* powers of two that no heap and no string of this call was above so far */
  bool refused;              /* growth beyond memory_limit was refused in this call */
  bool colliding;            /* a table was not let grow, since its keys collide */
  int n_vectors;             /* large vectors of nodes that are in use */
  struct {
    const unsigned char *nodes;
    int log2;
  } vectors[CKPT_SANDBOX_VECTORS];
  /* steps */
  ckpt_sandbox_budget limits, current; /* current: of the call that runs */
  uint64_t left, last;                 /* last: spent by the last call */
  uint64_t unseen;                     /* charged by C functions since the clock was looked at */
  int cell, armed;                     /* instructions until CELL are charged, until the hook fires */
  /* time, in nanoseconds */
  int64_t cpu_start, wall_start, idle, look_again;
  bool late; /* the time is up, not the steps */
  bool exhausted, stopped;
  int depth; /* of gate calls */
  int printed;
  locale_t c_locale, host_locale;
  char place[LUA_IDSIZE + 16]; /* "policies/x.lua:12" of the error, or "" */
  char name[256];              /* the policy, for errors without a line */
  char *base_dir;              /* or NULL */
  const struct ckpt_embedded *embedded;
  void (*print)(void *user, const char *line);
  void *user;
};

/* ---- sandbox_budget.c ---- */

/* lua_Alloc over a ckpt_sandbox. */
void *ckpt_sandbox_allocate(void *ud, void *block, size_t osize, size_t nsize);

/* Begins and ends the budget of a call; no hook is set between calls. */
void ckpt_sandbox_refill(ckpt_sandbox *s, const ckpt_sandbox_budget *budget);
void ckpt_sandbox_unfill(ckpt_sandbox *s);

/* "policies/x.lua:12" of the innermost Lua function into s->place. Allocates nothing. */
void ckpt_sandbox_note_place(lua_State *L, ckpt_sandbox *s);

/* Charges and looks at the clock in any case. */
void ckpt_sandbox_look(lua_State *L, uint64_t steps);

/* Whether the value at `index` is what is raised when memory for C objects is refused. */
bool ckpt_sandbox_is_memory_mark(lua_State *L, int index);

/* ---- sandbox_nodes.c: for blocks that are no objects ---- */

void ckpt_sandbox_nodes_made(ckpt_sandbox *s, const void *p, size_t size);
void ckpt_sandbox_nodes_freed(ckpt_sandbox *s, const void *p);

/* Whether a table that asks for a block of this size holds keys that would collide in it. */
bool ckpt_sandbox_nodes_collide(const ckpt_sandbox *s, size_t size);

/* ---- sandbox_error.c ---- */

/* The status and sentence of a failed lua_pcall, whose error value is on the top. */
ckpt_status ckpt_sandbox_fail(ckpt_sandbox *s, int status, ckpt_error *err);
ckpt_status ckpt_sandbox_fail_new(const ckpt_sandbox *s, ckpt_status st, ckpt_error *err);

/* ---- the library: each is a function of the environment ---- */

/* Runs the standard function that is upvalue 1, in the frame of the function that replaces it. */
int ckpt_sandbox_stock(lua_State *L);

/* Bytes of a string argument, 0 for anything else. Nothing is converted. */
size_t ckpt_sandbox_bytes(lua_State *L, int arg);

/* Pushes the text of a value as tostring gives it: without addresses, which differ from run to run. */
void ckpt_sandbox_tolstring(lua_State *L, int index);

/* Makes it the table at `index`'s metatable: a copy of its metamethods. The metatable or nil is on the top. */
int ckpt_sandbox_setmetatable(lua_State *L);
int ckpt_sandbox_getmetatable(lua_State *L);
int ckpt_sandbox_tostring(lua_State *L);
int ckpt_sandbox_l_print(lua_State *L);
int ckpt_sandbox_xpcall(lua_State *L);
int ckpt_sandbox_next(lua_State *L);
int ckpt_sandbox_pairs(lua_State *L);
int ckpt_sandbox_require(lua_State *L);

/* A standard function whose work is a pass over its string arguments; the same at sixteen times the price. */
int ckpt_sandbox_charged(lua_State *L);
int ckpt_sandbox_charged_bytes(lua_State *L);
int ckpt_sandbox_format(lua_State *L);
int ckpt_sandbox_rep(lua_State *L);
int ckpt_sandbox_byte(lua_State *L);
int ckpt_sandbox_codepoint(lua_State *L);
int ckpt_sandbox_codes(lua_State *L);
int ckpt_sandbox_find(lua_State *L);
int ckpt_sandbox_match(lua_State *L);
int ckpt_sandbox_gmatch(lua_State *L);
int ckpt_sandbox_gsub(lua_State *L);

int ckpt_sandbox_insert(lua_State *L);
int ckpt_sandbox_remove(lua_State *L);
int ckpt_sandbox_move(lua_State *L);
int ckpt_sandbox_concat(lua_State *L);
int ckpt_sandbox_unpack(lua_State *L);
int ckpt_sandbox_sort(lua_State *L);

/* ---- texts and directories ---- */

#define CKPT_SANDBOX_PATH 4096 /* bytes of base_dir with its NUL */

const char *ckpt_sandbox_base_dir(const ckpt_sandbox *s); /* or NULL */
const struct ckpt_embedded *ckpt_sandbox_embedded(const ckpt_sandbox *s);
void ckpt_sandbox_set_name(ckpt_sandbox *s, const char *name);
bool ckpt_sandbox_exhausted(lua_State *L);
size_t ckpt_sandbox_memory_limit(lua_State *L);
void ckpt_sandbox_print(lua_State *L, const char *line);

/* Builds the environment in a new state and makes it the table of globals. Raises. */
void ckpt_sandbox_open_libs(lua_State *L);

#define CKPT_SANDBOX_BYTES_PER_STEP 16
#define CKPT_SANDBOX_RESULTS 8000 /* most results that one function gives: varargs are copied at each use */

#endif
