/*
 * sandbox.c - the Lua state of a policy: its memory, its steps and the gate (see sandbox.h).
 *
 * Invariants
 *   - `used` is the sum of all blocks Lua holds, and never above `memory_limit`. A shrink or a free never fails.
 *   - `exhausted` means the budget is spent: the hook fires at each instruction and raises. `stopped` means that it has
 *     been raised once and `place` is known; from then on the heap does not grow either.
 *   - The value raised is a light userdata and the place lies in a C buffer: stopping needs no memory.
 */
#include "sandbox.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../runtime/base.h"

#define HOOK_INTERVAL 1000    /* instructions between two looks at the budget */
#define HOOK_INTERVAL_LONG 10 /* the same once a string is so long that one comparison is real work */
#define LONG_STRING ((size_t)64 << 10)
#define BYTES_PER_STEP 16        /* of allocation */
#define NANOSECONDS_PER_STEP 200 /* ten to twenty times what an ordinary instruction takes */

struct ckpt_sandbox {
  lua_State *L;
  size_t used, memory_limit;
  uint64_t left, step_limit;
  uint64_t settled_left; /* `left` when the clock was last looked at */
  int64_t settled_time;
  int interval; /* of the hook */
  int depth;    /* of gate calls */
  bool refused; /* growth beyond memory_limit was refused in this call */
  bool exhausted, stopped;
  char place[LUA_IDSIZE + 16]; /* "policies/x.lua:12" of the error, or "" */
  char name[256];              /* the policy, for errors without a line */
  char *base_dir;              /* or NULL */
  const struct ckpt_embedded *embedded;
  void (*print)(void *user, const char *line);
  void *user;
};

static const char stop_mark; /* its address is what is raised when the budget is spent */

static const struct ckpt_embedded no_embedded[] = {{NULL, NULL, 0}};

ckpt_sandbox *ckpt_sandbox_of(lua_State *L) {
  ckpt_sandbox *s;
  memcpy(&s, lua_getextraspace(L), sizeof s);
  return s;
}

lua_State *ckpt_sandbox_state(ckpt_sandbox *s) { return s->L; }
int64_t ckpt_sandbox_memory(const ckpt_sandbox *s) { return (int64_t)s->used; }
bool ckpt_sandbox_exhausted(lua_State *L) { return ckpt_sandbox_of(L)->exhausted; }
size_t ckpt_sandbox_memory_limit(lua_State *L) { return ckpt_sandbox_of(L)->memory_limit; }
uint64_t ckpt_sandbox_step_limit(lua_State *L) { return ckpt_sandbox_of(L)->step_limit; }
const char *ckpt_sandbox_base_dir(const ckpt_sandbox *s) { return s->base_dir; }
const struct ckpt_embedded *ckpt_sandbox_embedded(const ckpt_sandbox *s) { return s->embedded; }
void ckpt_sandbox_push_env(lua_State *L) { lua_pushglobaltable(L); }

/* A long path keeps its end. */
void ckpt_sandbox_set_name(ckpt_sandbox *s, const char *name) {
  size_t size = strlen(name), room = sizeof s->name - 4;
  if (size < sizeof s->name)
    memcpy(s->name, name, size + 1);
  else
    snprintf(s->name, sizeof s->name, "...%s", name + size - room);
}

void ckpt_sandbox_print(lua_State *L, const char *line) {
  const ckpt_sandbox *s = ckpt_sandbox_of(L);
  if (s->print != NULL) s->print(s->user, line);
}

/* ---- Steps ------------------------------------------------------------------------------------------- */

static void on_hook(lua_State *L, lua_Debug *ar);

static int64_t cpu_time(void) {
  struct timespec t;
  if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) != 0) return 0;
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Does not raise: the allocator calls it too. The hook does, at the next instruction. */
static void take(ckpt_sandbox *s, uint64_t steps) {
  if (steps < s->left) {
    s->left -= steps;
    return;
  }
  s->left = 0;
  if (s->exhausted || s->L == NULL) return;
  s->exhausted = true;
  lua_sethook(s->L, on_hook, LUA_MASKCOUNT | LUA_MASKLINE, 1);
}

static void settle(ckpt_sandbox *s) {
  int64_t now = cpu_time();
  uint64_t due = now > s->settled_time ? (uint64_t)(now - s->settled_time) / NANOSECONDS_PER_STEP : 0;
  uint64_t paid = s->settled_left - s->left;
  if (due > paid) take(s, due - paid);
  s->settled_time = now;
  s->settled_left = s->left;
}

/* "policies/x.lua:12" of the innermost Lua function. Allocates nothing. */
static void note_place(lua_State *L, ckpt_sandbox *s) {
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
  if (!s->stopped) note_place(L, s);
  s->stopped = true;
  lua_pushlightuserdata(L, (void *)(uintptr_t)&stop_mark);
  lua_error(L);
}

static void on_hook(lua_State *L, lua_Debug *ar) {
  (void)ar;
  ckpt_sandbox *s = ckpt_sandbox_of(L);
  take(s, (uint64_t)s->interval);
  settle(s);
  if (s->exhausted) stop(L, s);
}

void ckpt_sandbox_charge(lua_State *L, uint64_t steps) {
  ckpt_sandbox *s = ckpt_sandbox_of(L);
  take(s, steps);
  if (s->exhausted) stop(L, s);
}

void ckpt_sandbox_settle(lua_State *L) {
  ckpt_sandbox *s = ckpt_sandbox_of(L);
  settle(s);
  if (s->exhausted) stop(L, s);
}

/* ---- Memory ------------------------------------------------------------------------------------------ */

/* A refusal makes Lua collect all its garbage, which costs in proportion to the heap. */
static bool may_grow(ckpt_sandbox *s, size_t from, size_t to) {
  if (s->stopped) return false;
  if (to - from > s->memory_limit - s->used) {
    s->refused = true;
    take(s, s->used / BYTES_PER_STEP);
    return false;
  }
  take(s, (to - from) / BYTES_PER_STEP);
  return true;
}

/* One comparison of two long strings is one instruction: look at the clock more often from now on. */
static void watch_closely(ckpt_sandbox *s) {
  s->interval = HOOK_INTERVAL_LONG;
  if (s->depth > 0 && !s->exhausted) lua_sethook(s->L, on_hook, LUA_MASKCOUNT, s->interval);
}

static void *grow(ckpt_sandbox *s, void *block, size_t from, size_t to) {
  if (!may_grow(s, from, to)) return NULL;
  void *p = realloc(block, to);
  if (p != NULL) s->used += to - from;
  return p;
}

/* lua_Alloc. `osize` is the size of `block`, but the type of the object to come if `block` is NULL. */
static void *allocate(void *ud, void *block, size_t osize, size_t nsize) {
  ckpt_sandbox *s = ud;
  size_t from = block != NULL ? osize : 0;
  if (nsize == 0) {
    free(block);
    s->used -= from;
    return NULL;
  }
  if (nsize <= from) {
    void *p = realloc(block, nsize);
    s->used -= from - nsize;
    return p != NULL ? p : block;
  }
  void *p = grow(s, block, from, nsize);
  bool string = block == NULL && osize == LUA_TSTRING;
  if (p != NULL && string && nsize >= LONG_STRING && s->interval > HOOK_INTERVAL_LONG) watch_closely(s);
  return p;
}

/* ---- Errors ------------------------------------------------------------------------------------------ */

/* 50000000 -> "50,000,000". */
static void group_digits(char *out, size_t size, uint64_t n) {
  char digits[24];
  int count = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
  size_t o = 0;
  for (int i = 0; i < count && o + 2 < size; i++) {
    if (i > 0 && (count - i) % 3 == 0) out[o++] = ',';
    out[o++] = digits[i];
  }
  out[o] = '\0';
}

static void memory_text(char *out, size_t size, size_t bytes) {
  if (bytes % ((size_t)1 << 20) == 0)
    snprintf(out, size, "%zu MiB", bytes >> 20);
  else if (bytes % 1024 == 0)
    snprintf(out, size, "%zu KiB", bytes >> 10);
  else
    snprintf(out, size, "%zu bytes", bytes);
}

static const char *place_of(const ckpt_sandbox *s) { return s->place[0] != '\0' ? s->place : s->name; }

static ckpt_status fail_steps(const ckpt_sandbox *s, ckpt_error *err) {
  char steps[32];
  group_digits(steps, sizeof steps, s->step_limit);
  return ckpt_fail(err, CKPT_E_POLICY, -1, "%s: ran for more than %s steps: stopped", place_of(s), steps);
}

static ckpt_status fail_memory(const ckpt_sandbox *s, ckpt_error *err) {
  if (!s->refused) return ckpt_fail(err, CKPT_E_NOMEM, -1, "%s: out of memory", s->name);
  char limit[32];
  memory_text(limit, sizeof limit, s->memory_limit);
  return ckpt_fail(err, CKPT_E_POLICY, -1, "%s: used more than %s of memory: stopped", s->name, limit);
}

/* Whether a message begins with "file:line: ". */
static bool has_place(const char *text) {
  for (const char *p = strchr(text, ':'); p != NULL; p = strchr(p + 1, ':')) {
    size_t digits = strspn(p + 1, "0123456789");
    if (digits > 0 && p > text && strncmp(p + 1 + digits, ": ", 2) == 0) return true;
    if (p[1] == ' ') return false;
  }
  return false;
}

/* An error is one line of a log. */
static void make_one_line(char *text) {
  for (; *text != '\0'; text++)
    if ((unsigned char)*text < ' ') *text = ' ';
}

static ckpt_status fail_text(const ckpt_sandbox *s, const char *text, ckpt_error *err) {
  if (has_place(text))
    ckpt_fail(err, CKPT_E_POLICY, -1, "%s", text);
  else
    ckpt_fail(err, CKPT_E_POLICY, -1, "%s: %s", place_of(s), text);
  if (err != NULL) make_one_line(err->message);
  return CKPT_E_POLICY;
}

/* Light C function: an error value of any type -> a string. */
static int describe(lua_State *L) {
  if (lua_type(L, 1) == LUA_TNUMBER || luaL_getmetafield(L, 1, "__tostring") != LUA_TNIL)
    luaL_tolstring(L, 1, NULL);
  else
    lua_pushfstring(L, "raised a %s value instead of a message", luaL_typename(L, 1));
  return 1;
}

/* Text of the error value on the top of the stack; a string is left on the stack to hold it. */
static const char *error_text(lua_State *L) {
  if (lua_type(L, -1) == LUA_TSTRING) return lua_tostring(L, -1);
  if (!lua_checkstack(L, 3)) return "raised something that cannot be shown";
  lua_pushcfunction(L, describe);
  lua_pushvalue(L, -2);
  if (lua_pcall(L, 1, 1, 0) != LUA_OK || lua_type(L, -1) != LUA_TSTRING) return "raised something that cannot be shown";
  return lua_tostring(L, -1);
}

/*
 * Describing runs the policy's __tostring, so only after it is it known whether the budget has lasted. A heap that is
 * full costs steps too, but it is the heap that is to blame then.
 */
static ckpt_status fail_lua(ckpt_sandbox *s, int status, ckpt_error *err) {
  if (status == LUA_ERRMEM && !s->stopped) return fail_memory(s, err);
  const char *text = s->exhausted ? "" : error_text(s->L);
  return s->exhausted ? fail_steps(s, err) : fail_text(s, text, err);
}

/* ---- The gate ---------------------------------------------------------------------------------------- */

/* Message handler: leaves the value alone, since an error of any type may have no place of its own. */
static int on_error(lua_State *L) {
  ckpt_sandbox *s = ckpt_sandbox_of(L);
  if (!s->exhausted) note_place(L, s);
  return 1;
}

static void refill(ckpt_sandbox *s, uint64_t steps) {
  s->left = s->settled_left = steps;
  s->settled_time = cpu_time();
  s->refused = s->exhausted = s->stopped = false;
  s->place[0] = '\0';
  lua_sethook(s->L, on_hook, LUA_MASKCOUNT, s->interval);
}

static void leave(ckpt_sandbox *s) {
  s->exhausted = s->stopped = false;
  s->left = UINT64_MAX;
  lua_sethook(s->L, NULL, 0, 0);
}

static ckpt_status enter(ckpt_sandbox *s, lua_CFunction fn, void *arg, uint64_t steps, ckpt_error *err) {
  lua_State *L = s->L;
  if (!lua_checkstack(L, 8)) return ckpt_fail(err, CKPT_E_NOMEM, -1, "%s: the Lua stack cannot grow", s->name);
  int top = lua_gettop(L);
  if (s->depth == 0) refill(s, steps);
  s->depth++;
  lua_pushcfunction(L, on_error);
  lua_pushcfunction(L, fn);
  lua_pushlightuserdata(L, arg);
  int status = lua_pcall(L, 1, 0, top + 1);
  ckpt_status st = status == LUA_OK ? CKPT_OK : fail_lua(s, status, err);
  lua_settop(L, top);
  s->depth--;
  if (s->depth == 0) leave(s);
  return st;
}

ckpt_status ckpt_sandbox_call(ckpt_sandbox *s, lua_CFunction fn, void *arg, ckpt_error *err) {
  return enter(s, fn, arg, s->step_limit, err);
}

/* ---- Life -------------------------------------------------------------------------------------------- */

/* Reached only if something raises outside of the gate, which is a bug of the host: Lua aborts after this. */
static int on_panic(lua_State *L) {
  ckpt_sandbox_print(L, "panic: a Lua error was raised outside of the sandbox's gate");
  return 0;
}

static int build(lua_State *L) {
  ckpt_sandbox_open_libs(L);
  return 0;
}

static ckpt_status fail_new(const ckpt_sandbox *s, ckpt_status st, ckpt_error *err) {
  if (!s->refused) return st == CKPT_OK || st == CKPT_E_NOMEM ? ckpt_fail_nomem(err, sizeof *s) : st;
  char limit[32];
  memory_text(limit, sizeof limit, s->memory_limit);
  return ckpt_fail(err, CKPT_E_LIMIT, -1, "an empty policy environment does not fit into %s of memory", limit);
}

static ckpt_status fill_options(ckpt_sandbox *s, const ckpt_sandbox_options *o, ckpt_error *err) {
  s->memory_limit = o->memory_limit != 0 ? o->memory_limit : CKPT_SANDBOX_MEMORY;
  s->step_limit = o->step_limit != 0 ? o->step_limit : CKPT_SANDBOX_STEPS;
  s->embedded = o->embedded != NULL ? o->embedded : no_embedded;
  s->print = o->print;
  s->user = o->user;
  s->left = s->settled_left = UINT64_MAX;
  s->interval = HOOK_INTERVAL;
  ckpt_sandbox_set_name(s, "policy");
  if (o->base_dir == NULL) return CKPT_OK;
  if (strlen(o->base_dir) >= CKPT_SANDBOX_PATH)
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "the policy's directory has a path of more than %d bytes",
                     CKPT_SANDBOX_PATH);
  const char *dir = o->base_dir[0] != '\0' ? o->base_dir : ".";
  s->base_dir = malloc(strlen(dir) + 1);
  if (s->base_dir == NULL) return ckpt_fail_nomem(err, strlen(dir) + 1);
  memcpy(s->base_dir, dir, strlen(dir) + 1);
  return CKPT_OK;
}

static ckpt_status start(ckpt_sandbox *s, ckpt_error *err) {
  lua_State *L = lua_newstate(allocate, s);
  if (L == NULL) return fail_new(s, CKPT_OK, err);
  s->L = L;
  memcpy(lua_getextraspace(L), &s, sizeof s);
  lua_atpanic(L, on_panic);
  ckpt_status st = enter(s, build, NULL, UINT64_MAX, err);
  return st == CKPT_OK ? st : fail_new(s, st, err);
}

ckpt_status ckpt_sandbox_new(ckpt_sandbox **out, const ckpt_sandbox_options *options, ckpt_error *err) {
  ckpt_sandbox *s = calloc(1, sizeof *s);
  if (s == NULL) return ckpt_fail_nomem(err, sizeof *s);
  ckpt_status st = fill_options(s, options, err);
  if (st == CKPT_OK) st = start(s, err);
  if (st != CKPT_OK) {
    ckpt_sandbox_free(s);
    return st;
  }
  *out = s;
  return CKPT_OK;
}

void ckpt_sandbox_free(ckpt_sandbox *s) {
  if (s == NULL) return;
  if (s->L != NULL) lua_close(s->L);
  free(s->base_dir);
  free(s);
}
