/*
 * fuzz_lua_policy.c - a policy and what it is asked, under limits.
 *
 * Input: a byte with the length of the sequence of calls, the calls, and the text. The mutator puts whole statements
 * of a list into texts, so that most of them compile. Oracles, for each input:
 *   - every call ends as success, a policy's error or a want of memory, with a sentence;
 *   - no more steps than the budget, no byte beyond the memory limit;
 *   - the same input in a second state gives the same answers, words and steps;
 *   - a third state, which stands by, is what it was.
 */
#include <lauxlib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../bindings/sandbox.h"

enum { STEPS = 30000, MEMORY = 1 << 20, MOST_CALLS = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__asan_default_options(void);

/* States live on between inputs, so that a search for leaks after each finds nothing and takes most of the time. */
const char *__asan_default_options(void) { return "detect_leaks=0:quarantine_size_mb=16"; }
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room);

static const char *const statements[] = {
    "while true do end ",
    "while true do pcall(function() while true do end end) end ",
    "local t = {} for i = 1, 100 do t[i] = {} end ",
    "local s = ('x'):rep(1000) ",
    "s = s and s .. s or 'x' ",
    "xpcall(error, function(e) return e end) ",
    "pcall(error, setmetatable({}, { __tostring = function() return 'x' end })) ",
    "local c <close> = setmetatable({}, { __close = function() error 'x' end }) ",
    "local mt = {} mt.__index = mt setmetatable(mt, nil) ",
    "t = setmetatable({}, { __index = function(t, k) return k end, __newindex = rawset, __call = print }) ",
    "t = setmetatable({}, { __lt = function() return true end, __eq = function() return true end }) ",
    "pcall(setmetatable, {}, { __gc = print }) ",
    "pcall(setmetatable, {}, { __mode = 'k' }) ",
    "pcall(table.sort, { 3, 1, 2, 'x' }) ",
    "table.sort({ 3, 1, 2 }, function(a, b) return a > b end) ",
    "for k, v in pairs({ b = 1, a = 2, 3 }) do print(k, v) end ",
    "for a, b in ('a=1,b=2'):gmatch('(%w+)=(%w+)') do print(a, b) end ",
    "print(('x y'):gsub('%w', { x = 1 })) ",
    "print(('x'):rep(3), #_ENV, next({})) ",
    "print(select('#', table.unpack({}, 1, 200))) ",
    "table.move({ 1, 2, 3 }, 1, 3, 2, {}) ",
    "pcall(require, 'maps.x') ",
    "print(pcall(string.format, '%5.2f %s %q', 1, {}, 'x')) ",
    "print(pcall(string.unpack, '<i4z', 'abcdefg')) ",
    "for p, c in utf8.codes('a\\u{e9}') do print(p, c) end ",
    "goto l1 ::l1:: ",
    "local function f(...) return select('#', ...) > 0 and f(...) end ",
    "calls = (calls or 0) + 1 ",
    "kept = kept or {} kept[#kept + 1] = calls ",
    "return function(run) return { file = 'x' .. run.epoch, log = { 'a' } } end ",
    "return { plan_save = function(p, run) return run end } ",
    "error({}) ",
    "string.rep = nil ",
    "_ENV = {} ",
};

/* ---- running ------------------------------------------------------------------------------------------- */

typedef struct life {
  uint64_t steps[MOST_CALLS + 1];
  ckpt_status status[MOST_CALLS + 1];
  char words[MOST_CALLS + 1][sizeof((ckpt_error *)0)->message];
  char lines[2000];
  int64_t memory;
} life;

static void collect(void *user, const char *line) {
  life *l = user;
  size_t n = strlen(l->lines);
  snprintf(l->lines + n, sizeof l->lines - n, "%s\n", line);
}

typedef struct call {
  const char *text;
  size_t size;
  int epoch;
} call;

/* Compiles the text at the first call; calls what it returned, if that can be called, at the others. */
static int run_call(lua_State *L) {
  static const char result_key;
  const call *c = lua_touserdata(L, 1);
  if (c->epoch == 0) {
    if (luaL_loadbufferx(L, c->text, c->size, "=p", "t") != LUA_OK) return lua_error(L);
    lua_call(L, 0, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &result_key);
    return 0;
  }
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &result_key) == LUA_TTABLE) lua_getfield(L, -1, "plan_save");
  if (!lua_isfunction(L, -1)) return 0;
  lua_createtable(L, 0, 1);
  lua_pushinteger(L, c->epoch);
  lua_setfield(L, -2, "epoch");
  lua_call(L, 1, 1);
  luaL_tolstring(L, -1, NULL);
  return 0;
}

static void fault(const char *what, const life *l, int i) {
  fprintf(stderr, "%s: call %d: status %d, %llu steps, '%s'\n", what, i, l->status[i], (unsigned long long)l->steps[i],
          l->words[i]);
  abort();
}

static void check_call(const ckpt_sandbox *s, const life *l, int i) {
  ckpt_status st = l->status[i];
  if (st != CKPT_OK && st != CKPT_E_POLICY && st != CKPT_E_NOMEM) fault("a status of its own", l, i);
  if (st != CKPT_OK && l->words[i][0] == '\0') fault("no words", l, i);
  if (l->steps[i] > STEPS) fault("more steps than there are", l, i);
  if (ckpt_sandbox_memory(s) > MEMORY) fault("more memory than there is", l, i);
}

static void live_once(life *l, const uint8_t *calls, int n, const char *text, size_t size) {
  ckpt_sandbox *s = NULL;
  ckpt_sandbox_options o = {.memory_limit = MEMORY, .budget = {STEPS, 100000}, .print = collect, .user = l};
  memset(l, 0, sizeof *l);
  if (ckpt_sandbox_new(&s, &o, NULL) != CKPT_OK) abort();
  for (int i = 0; i <= n; i++) {
    ckpt_error err = {.message = ""};
    call c = {text, size, i == 0 ? 0 : 1 + calls[i - 1]};
    l->status[i] = ckpt_sandbox_call(s, run_call, &c, &err);
    l->steps[i] = ckpt_sandbox_steps(s);
    snprintf(l->words[i], sizeof l->words[i], "%s", err.message);
    check_call(s, l, i);
  }
  l->memory = ckpt_sandbox_memory(s);
  ckpt_sandbox_free(s);
}

/* Steps may differ by how a table grew from which keys were removed: that hangs on the seed of its hash. */
static void compare(const life *a, const life *b, int n) {
  for (int i = 0; i <= n; i++) {
    bool spent = a->steps[i] == STEPS || b->steps[i] == STEPS;
    if (spent) return;
    if (a->status[i] != b->status[i] || strcmp(a->words[i], b->words[i]) != 0) fault("not the same answer", b, i);
    uint64_t more = a->steps[i] > b->steps[i] ? a->steps[i] - b->steps[i] : b->steps[i] - a->steps[i];
    if (more > 2000) fault("not the same steps", b, i);
  }
  if (strcmp(a->lines, b->lines) != 0) {
    fprintf(stderr, "printed\n%s\nthen\n%s\n", a->lines, b->lines);
    abort();
  }
}

/* ---- a state that stands by ---------------------------------------------------------------------------- */

static int probe(lua_State *L) {
  static const char text[] =
      "assert(('a'):upper() == 'A' and ('x'):rep(3) == 'xxx' and calls == nil and kept == nil)\n"
      "assert(getmetatable('') == false and string.rep and table.sort and next({}) == nil)";
  if (luaL_loadbufferx(L, text, sizeof text - 1, "=probe", "t") != LUA_OK) return lua_error(L);
  lua_call(L, 0, 0);
  return 0;
}

static void check_bystander(void) {
  static ckpt_sandbox *s;
  const ckpt_sandbox_options o = {.memory_limit = MEMORY};
  ckpt_error err = {.message = ""};
  if (s == NULL && ckpt_sandbox_new(&s, &o, &err) != CKPT_OK) abort();
  if (ckpt_sandbox_call(s, probe, NULL, &err) == CKPT_OK) return;
  fprintf(stderr, "%s\n", err.message);
  abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static life first, second;
  if (size < 1 || size > 4096) return 0;
  int n = data[0] % (MOST_CALLS + 1);
  if ((size_t)n + 1 > size) return 0;
  const char *text = (const char *)data + 1 + n;
  live_once(&first, data + 1, n, text, size - 1 - (size_t)n);
  live_once(&second, data + 1, n, text, size - 1 - (size_t)n);
  compare(&first, &second, n);
  check_bystander();
  return 0;
}

/* ---- mutation ------------------------------------------------------------------------------------------ */

static unsigned next_random(unsigned *seed) {
  *seed = *seed * 1103515245u + 12345u;
  return *seed >> 16;
}

/* Puts a statement at a place where one may begin: the start, the end, or behind a space. */
static size_t insert_statement(uint8_t *data, size_t size, size_t room, unsigned *seed) {
  const char *s = statements[next_random(seed) % (sizeof statements / sizeof *statements)];
  size_t n = strlen(s), head = 1 + (size > 0 ? data[0] % (MOST_CALLS + 1) : 0);
  if (size < head || size + n > room) return LLVMFuzzerMutate(data, size, room);
  size_t at = head + (size > head ? next_random(seed) % (size - head + 1) : 0);
  while (at > head && at < size && data[at - 1] != ' ') at--;
  memmove(data + at + n, data + at, size - at);
  memcpy(data + at, s, n);
  return size + n;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed) {
  return next_random(&seed) % 4 != 0 ? insert_statement(data, size, room, &seed) : LLVMFuzzerMutate(data, size, room);
}
