/*
 * sandbox_budget.c - steps, time and memory of a policy (see sandbox.h).
 *
 * Invariants
 *   - `used` is the sum of all blocks Lua holds and of what is held for it, and never above `memory_limit`. A shrink or
 *     a free never fails.
 *   - `exhausted` means the budget is spent: the hook fires at each instruction and raises. `stopped` means that it has
 *     been raised once and `place` is known; from then on the heap does not grow either.
 *   - The value raised is a light userdata and the place lies in a C buffer: stopping needs no memory.
 *   - Instructions are charged in cells of CELL. The hook may fire more often, to look at the clock, but charges only
 *     where a cell ends, so that what is charged does not depend on when it was looked.
 *
 * How often the clock is looked at. A single instruction may be long: a table lookup walks a chain of colliding keys
 * (integers that a script chose), an __index chain visits many tables, `next` skips empty slots, two strings are
 * compared. All are bounded by the heap, the last by the longest string. So the next look comes after as many
 * instructions as fit, at that price, into half of the time that is left and 5 ms. The heap may grow meanwhile: when it
 * passes twice what the price was made for, the cell is closed and the hook set anew.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sandbox_inside.h"

#define CELL 1000
#define BYTES_PER_STEP CKPT_SANDBOX_BYTES_PER_STEP
#define MARK_LEAST ((size_t)64 << 10)
#define STRING_MARK_LEAST ((size_t)4 << 10)
#define INSTRUCTION_NS 2000 /* of the worst ordinary one, such as a call that grows the stack */
#define BYTES_PER_NS 8      /* of heap that one instruction may walk: 24-byte slots at 3 ns */
#define STRING_NS 2         /* to read a byte of a string, as a numeral */
#define SLACK_NS 5000000
#define NODES_LEAST ((size_t)24 << 13)
#define STEP_COLLECTOR ((size_t)64 << 10)

static const char stop_mark, memory_mark; /* their addresses are what is raised */

static void on_hook(lua_State *L, lua_Debug *ar);

static int64_t read_clock(clockid_t clock) {
  struct timespec t;
  if (clock_gettime(clock, &t) != 0) return 0;
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- stopping ---------------------------------------------------------------------------------------- */

/* Does not raise: the allocator calls it too. The hook does, at the next instruction. */
static void exhaust(ckpt_sandbox *s) {
  if (s->exhausted || s->L == NULL) return;
  s->exhausted = true;
  s->armed = 0;
  lua_sethook(s->L, on_hook, LUA_MASKCOUNT | LUA_MASKLINE, 1);
}

static void take(ckpt_sandbox *s, uint64_t steps) {
  if (steps < s->left) {
    s->left -= steps;
    return;
  }
  s->left = 0;
  exhaust(s);
}

void ckpt_sandbox_note_place(lua_State *L, ckpt_sandbox *s) {
  lua_Debug ar;
  s->place[0] = '\0';
  for (int level = 0; lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Sl", &ar);
    if (ar.currentline <= 0) continue;
    snprintf(s->place, sizeof s->place, "%s:%d", ar.short_src, ar.currentline);
    return;
  }
}

static void stop(lua_State *L, ckpt_sandbox *s) {
  if (!s->stopped) ckpt_sandbox_note_place(L, s);
  s->stopped = true;
  lua_pushlightuserdata(L, (void *)(uintptr_t)&stop_mark);
  lua_error(L);
}

/* ---- time -------------------------------------------------------------------------------------------- */

static int64_t deadline_ns(const ckpt_sandbox *s) { return (int64_t)s->current.deadline * 1000000; }

/*
 * Time that is left, at least 0. The clock of the wall is cheap and the clock of the thread is a system call: that one
 * is asked when by the other half of what was left is gone.
 */
static int64_t time_left(ckpt_sandbox *s) {
  int64_t wall = read_clock(CLOCK_MONOTONIC) - s->wall_start, left = deadline_ns(s) - (wall - s->idle);
  if (left > s->look_again) return left;
  int64_t busy = read_clock(CLOCK_THREAD_CPUTIME_ID) - s->cpu_start;
  s->idle = wall - busy;
  left = deadline_ns(s) - busy;
  s->look_again = left / 2;
  return left > 0 ? left : 0;
}

static void look(ckpt_sandbox *s) {
  s->unseen = 0;
  if (s->exhausted || time_left(s) > 0) return;
  s->late = true;
  exhaust(s);
}

/* Work of C functions is not seen by the hook: it brings its own look at the clock. */
void ckpt_sandbox_charge(lua_State *L, uint64_t steps) {
  ckpt_sandbox *s = ckpt_sandbox_of(L);
  take(s, steps);
  s->unseen += steps;
  if (s->unseen >= CELL) look(s);
  if (s->exhausted) stop(L, s);
}

void ckpt_sandbox_look(lua_State *L, uint64_t steps) {
  ckpt_sandbox *s = ckpt_sandbox_of(L);
  take(s, steps);
  look(s);
  if (s->exhausted) stop(L, s);
}

static int64_t price(const ckpt_sandbox *s) {
  return INSTRUCTION_NS + (int64_t)(s->mark / BYTES_PER_NS) + STRING_NS * (int64_t)s->string_mark;
}

/*
 * Sets the hook for as many instructions as may pass unseen: one of a few numbers that divide each other and CELL,
 * since setting it walks all active calls.
 */
static void arm(ckpt_sandbox *s, int64_t left) {
  static const int intervals[] = {CELL, 100, 10, 1};
  int64_t most = (left / 2 + SLACK_NS) / price(s);
  size_t i = 0;
  while (intervals[i] > 1 && (intervals[i] > most || s->cell % intervals[i] != 0)) i++;
  if (intervals[i] == s->armed) return; /* Lua counts anew by itself */
  s->armed = intervals[i];
  lua_sethook(s->L, on_hook, LUA_MASKCOUNT, s->armed);
}

static void on_hook(lua_State *L, lua_Debug *ar) {
  (void)ar;
  ckpt_sandbox *s = ckpt_sandbox_of(L);
  if (s->exhausted) stop(L, s);
  s->cell -= s->armed;
  if (s->cell <= 0) {
    s->cell = CELL;
    take(s, CELL);
  }
  look(s);
  if (s->exhausted) stop(L, s);
  arm(s, time_left(s));
}

/* A call now costs more at worst than the hook was set for: the cell counts as full, and a new one begins. */
static void close_cell(ckpt_sandbox *s) {
  if (s->depth == 0 || s->exhausted || s->L == NULL) return;
  s->cell = CELL;
  s->armed = 0;
  take(s, CELL);
  if (!s->exhausted) arm(s, time_left(s));
}

/* ---- memory ------------------------------------------------------------------------------------------ */

static void raise_marks(ckpt_sandbox *s, size_t string) {
  bool raised = false;
  for (; s->used > s->mark; raised = true) s->mark *= 2;
  for (; string > s->string_mark; raised = true) s->string_mark *= 2;
  if (raised) close_cell(s);
}

/* A refusal makes Lua collect all its garbage, which costs in proportion to the heap. */
static bool may_grow(ckpt_sandbox *s, size_t by) {
  if (s->stopped) return false;
  if (by > s->memory_limit - s->used) {
    s->refused = true;
    take(s, s->used / BYTES_PER_STEP);
    return false;
  }
  take(s, by / BYTES_PER_STEP);
  return true;
}

static void *grow(ckpt_sandbox *s, void *block, size_t from, size_t to) {
  if (!may_grow(s, to - from)) return NULL;
  void *p = realloc(block, to);
  if (p != NULL) s->used += to - from;
  return p;
}

/* Whether a table that asks for nodes must not have them. What has been refused once is refused until the call ends. */
static bool refuse_nodes(ckpt_sandbox *s, size_t size) {
  if (!s->colliding && (s->stopped || !ckpt_sandbox_nodes_collide(s, size))) return false;
  if (!s->colliding) ckpt_sandbox_note_place(s->L, s);
  s->colliding = s->stopped = true;
  exhaust(s);
  return true;
}

/* The least block that is looked at as the nodes of a table; a table has no type of its own for them. */
static bool is_nodes(const void *block, size_t osize, size_t nsize) {
  return block == NULL && osize == 0 && nsize >= NODES_LEAST;
}

/* `osize` is the size of `block`, but the type of the object to come if `block` is NULL. */
void *ckpt_sandbox_allocate(void *ud, void *block, size_t osize, size_t nsize) {
  ckpt_sandbox *s = ud;
  size_t from = block != NULL ? osize : 0;
  if (nsize == 0) {
    if (from >= NODES_LEAST) ckpt_sandbox_nodes_freed(s, block);
    free(block);
    s->used -= from;
    return NULL;
  }
  if (nsize <= from) {
    void *p = realloc(block, nsize);
    s->used -= from - nsize;
    return p != NULL ? p : block;
  }
  size_t string = block == NULL && osize == LUA_TSTRING ? nsize : 0;
  if (string > CKPT_SANDBOX_STRING) {
    s->refused = true;
    take(s, s->used / BYTES_PER_STEP);
    return NULL;
  }
  bool nodes = is_nodes(block, osize, nsize);
  if (nodes && refuse_nodes(s, nsize)) return NULL;
  void *p = grow(s, block, from, nsize);
  if (p != NULL && nodes) ckpt_sandbox_nodes_made(s, p, nsize);
  if (p != NULL && (s->used > s->mark || string > s->string_mark)) raise_marks(s, string);
  return p;
}

bool ckpt_sandbox_is_memory_mark(lua_State *L, int index) { return lua_touserdata(L, index) == &memory_mark; }

static bool hold(ckpt_sandbox *s, size_t bytes) {
  if (!may_grow(s, bytes)) return false;
  s->used += bytes;
  s->held += bytes;
  return true;
}

/* What is held does not press on the collector by itself: it is stepped as if the bytes were Lua's. */
void ckpt_sandbox_hold(lua_State *L, size_t bytes) {
  ckpt_sandbox *s = ckpt_sandbox_of(L);
  if (!hold(s, bytes)) {
    if (!s->stopped) lua_gc(L, LUA_GCCOLLECT);
    if (s->exhausted) stop(L, s);
    if (!hold(s, bytes)) {
      lua_pushlightuserdata(L, (void *)(uintptr_t)&memory_mark);
      lua_error(L);
    }
  }
  if (bytes >= STEP_COLLECTOR) lua_gc(L, LUA_GCSTEP, (int)(bytes >> 10));
  if (s->used > s->mark) raise_marks(s, 0);
}

void ckpt_sandbox_unhold(ckpt_sandbox *s, size_t bytes) {
  s->used -= bytes;
  s->held -= bytes;
}

void ckpt_sandbox_copy_out(lua_State *L, size_t bytes) {
  ckpt_sandbox_charge(L, 1);
  ckpt_sandbox_hold(L, bytes);
  ckpt_sandbox_of(L)->call_held += bytes;
}

size_t ckpt_sandbox_expect_document(lua_State *L) {
  const ckpt_sandbox *s = ckpt_sandbox_of(L);
  ckpt_sandbox_charge(L, (s->used - s->held) / (4 * BYTES_PER_STEP));
  return s->memory_limit - s->used;
}

/* ---- the budget of a call ---------------------------------------------------------------------------- */

static size_t mark_above(size_t least, size_t value) {
  while (least < value) least *= 2;
  return least;
}

void ckpt_sandbox_refill(ckpt_sandbox *s, const ckpt_sandbox_budget *budget) {
  s->current = *budget;
  s->left = budget->steps;
  s->refused = s->colliding = s->exhausted = s->stopped = s->late = false;
  s->place[0] = '\0';
  s->printed = 0;
  s->mark = mark_above(MARK_LEAST, s->used);
  s->string_mark = mark_above(STRING_MARK_LEAST, s->string_mark);
  s->wall_start = read_clock(CLOCK_MONOTONIC);
  s->cpu_start = read_clock(CLOCK_THREAD_CPUTIME_ID);
  s->idle = 0;
  s->look_again = deadline_ns(s) / 2;
  s->cell = CELL;
  s->armed = 0;
  arm(s, deadline_ns(s));
}

void ckpt_sandbox_unfill(ckpt_sandbox *s) {
  s->last = s->current.steps - s->left;
  ckpt_sandbox_unhold(s, s->call_held);
  s->call_held = 0;
  s->exhausted = s->stopped = false;
  s->left = UINT64_MAX;
  lua_sethook(s->L, NULL, 0, 0);
}
