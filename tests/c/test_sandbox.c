// LDFLAGS: -Wl,--wrap=realloc,--wrap=malloc,--wrap=calloc,--wrap=free
/*
 * test_sandbox.c - the closed Lua state: what can be reached, what is stopped, what is found, what errors say.
 *
 * The allocator of the C library is wrapped: each block of the Lua heap is counted here too, so that the memory limit
 * is not taken on the sandbox's own word, and any allocation can be made to fail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above first */
#include <cmocka.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../../bindings/sandbox.h"
#include "../../runtime/base.h"

/* ---- The allocator ----------------------------------------------------------------------------------- */

void *__real_realloc(void *p, size_t size);
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void __real_free(void *p);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void __wrap_free(void *p);

#define SLOTS (1u << 22) /* more than 64 MiB of the smallest blocks */
static struct {
  void *p;
  size_t size;
} slots[SLOTS];
static size_t live, peak, blocks;
static long countdown = -1; /* allocations until one fails; -1: none does */
static bool fail_on;        /* every later one fails too */
static bool failed;

static size_t slot_of(const void *p) {
  size_t i = (size_t)(((uintptr_t)p >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 40) & (SLOTS - 1);
  while (slots[i].p != NULL && slots[i].p != p) i = (i + 1) & (SLOTS - 1);
  return i;
}

static void track(void *p, size_t size) {
  size_t i = slot_of(p);
  slots[i].p = p;
  slots[i].size = size;
  live += size;
  blocks++;
  if (live > peak) peak = live;
}

/* Closes the gap that a removal leaves, as linear probing needs. */
static bool untrack(const void *p) {
  size_t i = slot_of(p);
  if (p == NULL || slots[i].p == NULL) return false;
  live -= slots[i].size;
  blocks--;
  slots[i].p = NULL;
  for (size_t k = (i + 1) & (SLOTS - 1); slots[k].p != NULL; k = (k + 1) & (SLOTS - 1)) {
    void *moved = slots[k].p;
    size_t size = slots[k].size;
    slots[k].p = NULL;
    size_t to = slot_of(moved);
    slots[to].p = moved;
    slots[to].size = size;
  }
  return true;
}

static bool refuse(void) {
  if (countdown < 0) return false;
  if (countdown > 0) countdown--;
  if (countdown > 0) return false;
  if (failed && !fail_on) return false;
  failed = true;
  return true;
}

void *__wrap_realloc(void *p, size_t size) {
  if (refuse()) return NULL;
  untrack(p);
  void *q = __real_realloc(p, size);
  if (q != NULL) track(q, size);
  return q;
}

void *__wrap_malloc(size_t size) { return refuse() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t n, size_t size) { return refuse() ? NULL : __real_calloc(n, size); }

void __wrap_free(void *p) {
  untrack(p);
  __real_free(p);
}

/* ---- Helpers ----------------------------------------------------------------------------------------- */

static const char default_text[] = "return { name = 'built-in default', map = require 'maps.vgg' }";
static const char pet_text[] = "return { name = 'built-in pet' }";
static const char vgg_text[] = "return { 'built-in vgg' }";
static const char binary_text[] = "\x1bLua\x54 and so on";

static const struct ckpt_embedded embedded[] = {{"policies/default.lua", default_text, sizeof default_text - 1},
                                                {"policies/maps/vgg.lua", vgg_text, sizeof vgg_text - 1},
                                                {"policies/pet.lua", pet_text, sizeof pet_text - 1},
                                                {"policies/maps/binary.lua", binary_text, sizeof binary_text - 1},
                                                {"scripts/inspect.lua", pet_text, sizeof pet_text - 1},
                                                {NULL, NULL, 0}};

static char directory[256], printed[1024];

static void collect(void *user, const char *line) {
  assert_ptr_equal(user, printed);
  size_t n = strlen(printed);
  snprintf(printed + n, sizeof printed - n, "%s|", line);
}

static void write_bytes(const char *path, const char *bytes, size_t size) {
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(bytes, 1, size, f), size);
  assert_int_equal(fclose(f), 0);
}

static void write_text(const char *path, const char *text) { write_bytes(path, text, strlen(text)); }

static ckpt_sandbox *open_with(size_t memory, uint64_t steps) {
  ckpt_sandbox *s = NULL;
  ckpt_error err = {.message = ""};
  ckpt_sandbox_options o = {.memory_limit = memory,
                            .budget = {.steps = steps},
                            .base_dir = "policies",
                            .embedded = embedded,
                            .print = collect,
                            .user = printed};
  if (ckpt_sandbox_new(&s, &o, &err) != CKPT_OK) fail_msg("%s", err.message);
  printed[0] = '\0';
  return s;
}

static ckpt_sandbox *open_default(void) { return open_with((size_t)16 << 20, 1000000); }

/* Runs `text` as policies/x.lua; the result is released. */
static ckpt_status run(ckpt_sandbox *s, const char *text, ckpt_error *err) {
  int ref = LUA_NOREF;
  write_text("policies/x.lua", text);
  ckpt_status st = ckpt_sandbox_load(&ref, s, "policies/x.lua", err);
  if (st == CKPT_OK) luaL_unref(ckpt_sandbox_state(s), LUA_REGISTRYINDEX, ref);
  assert_int_equal(lua_gettop(ckpt_sandbox_state(s)), 0);
  return st;
}

static void must_run(ckpt_sandbox *s, const char *text) {
  ckpt_error err = {.message = ""};
  if (run(s, text, &err) != CKPT_OK) fail_msg("%s\n%s", text, err.message);
}

/* The whole message. */
static void must_say(ckpt_sandbox *s, const char *text, const char *message) {
  ckpt_error err = {.message = ""};
  assert_int_equal(run(s, text, &err), CKPT_E_POLICY);
  assert_int_equal(err.status, CKPT_E_POLICY);
  assert_string_equal(err.message, message);
}

static void must_contain(ckpt_sandbox *s, const char *text, const char *part) {
  ckpt_error err = {.message = ""};
  ckpt_status st = run(s, text, &err);
  if (st != CKPT_E_POLICY || strstr(err.message, part) == NULL)
    fail_msg("%s\n-> status %d, '%s' instead of '%s'", text, st, err.message, part);
}

static void must_run_fresh(const char *text) {
  ckpt_sandbox *s = open_default();
  must_run(s, text);
  ckpt_sandbox_free(s);
}

static void must_say_fresh(const char *text, const char *message) {
  ckpt_sandbox *s = open_default();
  must_say(s, text, message);
  ckpt_sandbox_free(s);
}

/* ---- What can be reached ----------------------------------------------------------------------------- */

static const char *const golden[] = {
    "assert",       "error",          "getmetatable", "ipairs",        "math.abs",       "math.acos",
    "math.asin",    "math.atan",      "math.ceil",    "math.cos",      "math.deg",       "math.exp",
    "math.floor",   "math.fmod",      "math.log",     "math.max",      "math.min",       "math.modf",
    "math.rad",     "math.random",    "math.sin",     "math.sqrt",     "math.tan",       "math.tointeger",
    "math.type",    "math.ult",       "next",         "pairs",         "pcall",          "print",
    "rawequal",     "rawget",         "rawlen",       "rawset",        "require",        "select",
    "setmetatable", "string.byte",    "string.char",  "string.find",   "string.format",  "string.gmatch",
    "string.gsub",  "string.len",     "string.lower", "string.match",  "string.pack",    "string.packsize",
    "string.rep",   "string.reverse", "string.sub",   "string.unpack", "string.upper",   "table.concat",
    "table.insert", "table.move",     "table.pack",   "table.remove",  "table.sort",     "table.unpack",
    "tonumber",     "tostring",       "type",         "utf8.char",     "utf8.codepoint", "utf8.codes",
    "utf8.len",     "utf8.offset",    "xpcall"};

typedef struct walk {
  char names[256][32];
  size_t n;
} walk;

/* All keys and values are visited; a table in a table of the environment would be a finding. */
static void walk_table(lua_State *L, walk *w, const char *prefix) {
  int t = lua_gettop(L);
  assert_int_equal(lua_getmetatable(L, t), 0);
  for (lua_pushnil(L); lua_next(L, t); lua_pop(L, 1)) {
    assert_int_equal(lua_type(L, -2), LUA_TSTRING);
    assert_true(w->n < CKPT_COUNTOF(w->names));
    char name[32];
    snprintf(name, sizeof name, "%s%s%s", prefix, *prefix != '\0' ? "." : "", lua_tostring(L, -2));
    if (lua_isfunction(L, -1))
      strcpy(w->names[w->n++], name);
    else if (lua_istable(L, -1))
      assert_string_equal(prefix, "");
    else
      assert_true(lua_type(L, -1) == LUA_TNUMBER || lua_type(L, -1) == LUA_TSTRING);
    if (lua_istable(L, -1)) walk_table(L, w, name);
  }
}

static int walk_env(lua_State *L) {
  ckpt_sandbox_push_env(L);
  walk_table(L, lua_touserdata(L, 1), "");
  return 0;
}

static int by_name(const void *a, const void *b) { return strcmp(a, b); }

static void env_is_the_golden_list(void **state) {
  (void)state;
  static walk w;
  ckpt_sandbox *s = open_default();
  assert_int_equal(ckpt_sandbox_call(s, walk_env, &w, NULL), CKPT_OK);
  qsort(w.names, w.n, sizeof w.names[0], by_name);
  for (size_t i = 0; i < w.n && i < CKPT_COUNTOF(golden); i++) assert_string_equal(w.names[i], golden[i]);
  assert_int_equal(w.n, CKPT_COUNTOF(golden));
  ckpt_sandbox_free(s);
}

static int check_registry(lua_State *L) {
  static const char *const stock[] = {"_LOADED", "_PRELOAD", "_CLIBS"};
  for (size_t i = 0; i < CKPT_COUNTOF(stock); i++)
    if (lua_getfield(L, LUA_REGISTRYINDEX, stock[i]) != LUA_TNIL) return luaL_error(L, "%s is left", stock[i]);
  ckpt_sandbox_push_env(L);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
  return lua_rawequal(L, -1, -2) ? 0 : luaL_error(L, "the old globals are left");
}

static void nothing_of_the_full_libraries_is_left(void **state) {
  (void)state;
  ckpt_sandbox *s = open_default();
  assert_int_equal(ckpt_sandbox_call(s, check_registry, NULL, NULL), CKPT_OK);
  ckpt_sandbox_free(s);
}

static const char *const contained[] = {
    "assert(load == nil and loadstring == nil and dofile == nil and loadfile == nil)",
    "assert(io == nil and os == nil and debug == nil and package == nil and coroutine == nil)",
    "assert(collectgarbage == nil and warn == nil and _G == nil)",
    "assert(string.dump == nil and ('x').dump == nil and math.randomseed == nil)",
    "assert(getmetatable('') == false)",
    "assert(not pcall(setmetatable, '', {}))",
    "assert(not pcall(setmetatable, {}, { __gc = function() end }))",
    "assert(not pcall(setmetatable, {}, { __gc = true }))",
    "local hit = 0; local mt = {}; for i = 1, 100 do setmetatable({}, mt) end; mt.__gc = function() hit = hit + 1 end\n"
    "for i = 1, 20000 do local t = {} end; assert(hit == 0)",
    "local t = setmetatable({}, { __metatable = 'locked' }); assert(getmetatable(t) == 'locked')\n"
    "assert(not pcall(setmetatable, t, {}))",
    "assert(not pcall(require, 'io')); assert(not pcall(require, 'package')); assert(not pcall(require, 'debug'))",
    "for _, n in ipairs { '../x', '/etc/passwd', 'a..b', '.a', 'a.', '', 'a/b', 'a\\0b', 'a b', 'a\\\\b' } do\n"
    "  local ok, e = pcall(require, n); assert(not ok and e:find('a module name is', 1, true), e) end",
    "local ok, e = pcall(require, ('a'):rep(300)); assert(not ok)",
    "local ok, e = pcall(require, 'maps.binary'); assert(not ok and e:find('compiled Lua', 1, true), e)",
    "assert(#string.format('%s', string.rep) < 100)",
    "local e = setmetatable({}, { __tostring = function() return 'x' end }); assert(not pcall(error, e))",
    "string.rep = nil; assert(('x').rep == nil)",
    "assert(('10' + 1) == 11 and math.type('10' + 1) == 'integer')",
};

static void escapes_are_refused(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(contained); i++) must_run_fresh(contained[i]);
}

static void two_sandboxes_share_nothing(void **state) {
  (void)state;
  ckpt_sandbox *a = open_default(), *b = open_default();
  must_run(a, "string.upper = function() return 'pwned' end; x = 1; table.insert = nil");
  must_run(a, "assert(('a'):upper() == 'pwned' and x == 1)");
  must_run(b, "assert(('a'):upper() == 'A' and x == nil and table.insert)");
  ckpt_sandbox_free(a);
  ckpt_sandbox_free(b);
}

static void random_is_the_same_in_every_sandbox(void **state) {
  (void)state;
  for (int i = 0; i < 2; i++) {
    ckpt_sandbox *s = open_default();
    must_run(s, "print(math.random(1 << 40), math.random(1 << 40))");
    assert_string_equal(printed, "1062568359654\t71327831090|");
    ckpt_sandbox_free(s);
  }
}

/* ---- The library --------------------------------------------------------------------------------------- */

static const char *const library[] = {
    "assert(('ab'):rep(3) == 'ababab' and ('a'):rep(3, ',') == 'a,a,a' and ('a'):rep(0) == '' and ('a'):rep(-1) == '')",
    "assert(string.rep('', 1 << 62) == '' and string.rep('', 3, '-') == '--')",
    "local t = {}; table.insert(t, 'b'); table.insert(t, 1, 'a'); table.insert(t, 3, 'c')\n"
    "assert(table.concat(t, ',') == 'a,b,c' and not pcall(table.insert, t, 5, 'x') and not pcall(table.insert, t, 0, "
    "1))\n"
    "assert(not pcall(table.insert, t) and not pcall(table.insert, t, 1, 2, 3))",
    "local t = { 1, 2, 3 }; assert(table.remove(t, 1) == 1 and table.remove(t) == 3 and #t == 1)\n"
    "assert(table.remove(t) == 2 and table.remove(t) == nil and #t == 0 and not pcall(table.remove, t, 7))",
    "local t = { 1, 2, 3, 4 }; table.move(t, 1, 3, 2); assert(table.concat(t) == '1123')\n"
    "table.move(t, 2, 4, 1); assert(table.concat(t) == '1233'); local u = table.move(t, 1, 2, 2, { 9 })\n"
    "assert(table.concat(u) == '912' and table.move(t, 2, 1, 1) == t)",
    "assert(table.concat({}) == '' and table.concat({ 1, 2.5, 'x' }, '-', 2, 3) == '2.5-x')\n"
    "assert(not pcall(table.concat, { {} }))",
    "local a, b, c = table.unpack({ 1, 2, 3 }, 2); assert(a == 2 and b == 3 and c == nil)\n"
    "assert(select('#', table.unpack({}, 1, 3)) == 3 and select('#', table.unpack {}) == 0)",
    "local t = { 3, 1, 2 }; table.sort(t); assert(table.concat(t) == '123')\n"
    "table.sort(t, function(a, b) return a > b end); assert(table.concat(t) == '321')\n"
    "assert(not pcall(table.sort, { 1, 'x' }) and not pcall(table.sort, t, 3))",
    "assert(('hello'):find('l') == 3 and ('hello'):find('xyz') == nil and ('a.b'):find('.', 1, true) == 2)\n"
    "local a, b = ('abc'):find(''); assert(a == 1 and b == 0); a, b = ('abc'):find('', 4); assert(a == 4 and b == 3)\n"
    "assert(('abc'):find('', 5) == nil and ('abcabc'):find('b', -2) == 5 and ('abc'):find('a', -99) == 1)\n"
    "assert(('abc'):find('c', 99) == nil and ('a\\0b'):find('b', 1, true) == 3 and ('abc'):find('a', 0) == 1)",
    "assert(('conv1.weight'):match('^(%w+)%.(%w+)$') == 'conv1' and ('x=1'):match('(%w+)=(%w+)') == 'x')\n"
    "assert(('features.0.weight'):gsub('^features%.', 'f.') == 'f.0.weight')\n"
    "local n = 0; for w in ('one two three'):gmatch('%a+') do n = n + 1 end; assert(n == 3)",
    "local s, n = ('k=v, a=b'):gsub('(%w+)=(%w+)', '%2=%1'); assert(s == 'v=k, b=a' and n == 2)",
    "assert(utf8.len('\\u{e9}a') == 2 and utf8.char(233) == '\\u{e9}'); for p, c in utf8.codes('ab') do assert(c > 0) "
    "end",
    "assert(select(2, pcall(error, { 1 }))[1] == 1)",
    "local ok, e = xpcall(function() error('deep') end, function(m) return 'handled ' .. m end)\n"
    "assert(not ok and e == 'handled policies/x.lua:1: deep')",
    "assert(select('#', xpcall(function(...) return ... end, print, 1, nil, 3)) == 4)\n"
    "local ok, a, b = xpcall(function(x, y) return y, x end, print, 1, 2); assert(ok and a == 2 and b == 1)",
    "assert(not pcall(xpcall, print)); assert(select('#', xpcall(function() end, print)) == 1)",
    "assert(tonumber('0x10') == 16 and tonumber('z', 36) == 35 and tonumber('x') == nil and rawequal('a', 'a'))",
    "local big = ('line of text\\n'):rep(4000); local n = 0; for l in big:gmatch('[^\\n]+') do n = n + 1 end\n"
    "assert(n == 4000 and big:find('t\\n', 1, true) and #big:gsub('%s', '') > 0)",
};

static void library_behaves_like_lua(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(library); i++) must_run_fresh(library[i]);
}

static void print_goes_to_the_callback_line_by_line(void **state) {
  (void)state;
  ckpt_sandbox *s = open_default();
  must_run(s,
           "print('a', 1, nil, true); print(); print('two\\nlines'); print(setmetatable({}, "
           "{ __tostring = function() return 'T' end }))");
  assert_string_equal(printed, "a\t1\tnil\ttrue||two|lines|T|");
  ckpt_sandbox_free(s);
  ckpt_sandbox_options o = {.base_dir = NULL};
  assert_int_equal(ckpt_sandbox_new(&s, &o, NULL), CKPT_OK);
  must_run(s, "print('nobody listens')");
  ckpt_sandbox_free(s);
}

/* ---- Termination ---------------------------------------------------------------------------------------- */

#define STEPS "ran for more than"
#define MEMORY "of memory: stopped"
#define COSTLY "pattern too costly"

/* Each must end with an error that contains `part`; NULL: must end well, since the work is refused or trivial. */
static const struct {
  const char *text, *part;
} hostile[] = {
    {"while true do end", STEPS},
    {"local function f() return f() end f()", STEPS},
    {"::top:: goto top", STEPS},
    {"for i = 1, math.huge do end", STEPS},
    {"repeat until false", STEPS},
    {"while true do pcall(function() while true do end end) end", STEPS},
    {"while true do pcall(error) end", STEPS},
    {"local function f() pcall(f) while true do end end f()", STEPS},
    {"xpcall(function() while true do end end, function() while true do end end)", STEPS},
    {"while true do xpcall(function() while true do end end, function(m) while true do end return m end) end", STEPS},
    {"while true do xpcall(error, function() end) end", STEPS},
    {"local function deep(n) return n > 0 and 1 + deep(n - 1) or 0 end; deep(50) -- call frames that need no memory\n"
     "local function loop() while true do end end; xpcall(loop, loop)",
     STEPS},
    {"xpcall(error, function() while true do end end)", STEPS},
    {"local t = setmetatable({}, { __close = function() while true do end end }); local x <close> = t", STEPS},
    {"local t = setmetatable({}, { __close = function() while true do end end })\n"
     "local ok = pcall(function() local x <close> = t; local y <close> = t; while true do end end); while true do end",
     STEPS},
    {"local t = setmetatable({}, { __index = function() while true do end end }); return t.x", STEPS},
    {"return setmetatable({}, { __len = function() while true do end end }), #setmetatable({}, { __len = function() "
     "while true do end end })",
     STEPS},
    {"print(setmetatable({}, { __tostring = function() while true do end end }))", STEPS},
    {"error(setmetatable({}, { __tostring = function() while true do end end }))", STEPS},
    {"for k in pairs(setmetatable({}, { __pairs = function() while true do end end })) do end", STEPS},
    {"table.sort({ 1, 2, 3 }, function() while true do end end)", STEPS},
    {"('x'):gsub('x', function() while true do end end)", STEPS},
    {"for c in ('x'):rep(100):gmatch('') do while true do end end", STEPS},
    {"local s = ('x'):rep(1000000); s:gsub('.', pcall)", STEPS},
    {"local s = ('x'):rep(900000); while true do pcall(s.gsub, s, '.', pcall) end", STEPS},
    {"return ('a'):rep(30000):find(('a-'):rep(6) .. 'b')", COSTLY},
    {"return ('a'):rep(30000):find(('a*'):rep(30) .. 'b')", COSTLY},
    {"return ('x'):rep(500000):find('.-b')", COSTLY},
    {"return ('x'):rep(260):find('.-.-.-.-b')", COSTLY},
    {"return ('a'):rep(40):match(('a?'):rep(40) .. ('a'):rep(40))", COSTLY},
    {"return ('('):rep(200000):find('%b()')", COSTLY},
    {"return ('a'):rep(100000):find('(a*)%1b')", COSTLY},
    {"return ('x '):rep(100000):gsub('%s+$', '')", COSTLY},
    {"for w in ('a'):rep(100000):gmatch('a*b') do end", COSTLY},
    {"return ('x'):rep(100000):find('[%]]-]b')", COSTLY},
    {"while true do pcall(string.find, ('a'):rep(30000), ('a-'):rep(6) .. 'b') end", STEPS},
    {"while true do local x = ('a'):rep(50):find('a*a*b') end", STEPS},
    {"while true do local f = ('a'):rep(300):gmatch('a*b'); f() end", STEPS},
    {"local s, p = ('a'):rep(4000000), ('a'):rep(2000000) .. 'b'; while true do local x = s:find(p, 1, true) end",
     STEPS},
    {"return string.rep('', 1 << 62)", NULL},
    {"return string.rep('', 1 << 62, '')", NULL},
    {"return string.rep('x', 1 << 62)", "would not fit"},
    {"return string.rep('xy', math.maxinteger, 'sep')", "would not fit"},
    {"return string.rep('x', 1 << 30)", "would not fit"},
    {"while true do pcall(string.rep, 'x', 1 << 30) end", STEPS},
    {"while true do local s = ('x'):rep(4000000) end", STEPS},
    {"local t = setmetatable({}, { __len = function() return 1 << 62 end }); table.insert(t, 1, 0)", NULL},
    {"local t = setmetatable({}, { __len = function() return 1 << 62 end }); table.remove(t)", NULL},
    {"local t = setmetatable({}, { __len = function() return 1 << 62 end }); table.concat(t); table.unpack(t)\n"
     "table.sort(t)",
     NULL},
    {"local t = {}; for i = 0, 61 do t[1 << i] = true end; for i = 1, #t > 9 and 9 or 1 do table.insert(t, 1, 0) end\n"
     "table.move(t, 1, 1 << 60, 2)",
     STEPS},
    {"table.move({}, 1, 1 << 62, 2)", STEPS},
    {"table.move({}, 1, math.maxinteger, 1, {})", STEPS},
    {"table.move(setmetatable({}, { __index = function() return 1 end }), 1, 1 << 61, 1)", STEPS},
    {"table.concat({}, '', 1, 1 << 62)", STEPS},
    {"table.concat({}, '', math.mininteger, math.maxinteger)", STEPS},
    {"table.unpack({}, 1, 1 << 62)", "too many results"},
    {"table.unpack({}, math.mininteger, math.maxinteger)", "too many results"},
    {"while true do pcall(table.unpack, {}, 1, 900000) end", STEPS},
    {"local t = {}; for i = 1, 40000 do t[i] = i end; while true do table.insert(t, 1, 0) end", STEPS},
    {"local t = {}; for i = 1, 40000 do t[i] = i end; while true do table.remove(t, 1) end", STEPS},
    {"local s = ('x'):rep(1000000); local t = {}; for i = 1, 5000 do t[i] = s end; table.sort(t)", STEPS},
    {"local t = {}; for i = 1, 100000 do t[i] = i end; while true do table.sort(t) end", STEPS},
    {"local a, b = ('x'):rep(4000000), ('x'):rep(3999999) .. 'x'\n"
     "local t = {}; for i = 1, 4000 do t[i] = i % 2 == 0 and a or b end; table.sort(t, rawequal)",
     STEPS},
    {"local a, b = ('x'):rep(2000000), ('x'):rep(1999999) .. 'x'; while true do local c = a == b end", STEPS},
    {"local a, b = ('x'):rep(2000000), ('x'):rep(1999999) .. 'x'; while true do local c = a < b end", STEPS},
    {"local a = ('x'):rep(2000000); while true do a:upper() end", STEPS},
    {"local a = ('x'):rep(2000000); while true do a:byte(1, 900000) end", STEPS},
    {"local a = ('x'):rep(2000000); while true do utf8.len(a) end", STEPS},
    {"local f = utf8.codes(''); local a = 'x' .. ('\\x80'):rep(2000000); while true do pcall(f, a, 1) end", STEPS},
    {"local a = ('x'):rep(2000000); while true do tonumber(a) end", STEPS},
    {"local a = ('x'):rep(1000000); while true do local b = a .. 'y' end", STEPS},
    {"local s = ('ab'):rep(1000000); while true do s:find(('.'):rep(200) .. 'c') end", STEPS},
    {"local f = ('!1'):rep(400000); while true do string.packsize(f) end", STEPS},
    {"local t = {}; for i = 1, 300000 do t[i] = i end; for i = 1, 300000 do t[i] = nil end; while true do next(t) end",
     STEPS},
    {"local t = {}; while true do t[#t + 1] = {} end", MEMORY},
    {"local s = 'x'; while true do s = s .. s end", MEMORY},
    {"local s = 'x'; while true do s = s:gsub('x', 'xx') end", STEPS},
    {"local t = { 'x' }; while true do t[1] = table.concat({ t[1], t[1] }) end", MEMORY},
    {"local t = {}; while true do pcall(function() t[#t + 1] = ('x'):rep(100000) .. #t end) end", STEPS},
    {"local function f(...) return f(1, ...) end return f()", STEPS},
    {"local function f() return 1 + f() end return f()", STEPS},
    {"return ('x'):rep(100):gsub('x', function() return ('x'):rep(500000) end)", STEPS},
    {"return ('x'):rep(1000):gsub('x', ('y'):rep(10000))", MEMORY},
    {"return string.format('%99999d', 1)", "invalid conversion"},
    {"local t = setmetatable({}, {}); getmetatable(t).__index = t; return t.x", "loop"},
    {"print(('x'):rep(900000)); while true do print(('x'):rep(1000)) end", STEPS},
};

/* CPU time: a busy machine does not fail the test. */
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void hostile_scripts_end(void **state) {
  (void)state;
  double slowest = 0;
  for (size_t i = 0; i < CKPT_COUNTOF(hostile); i++) {
    alarm(20);
    bool memory = hostile[i].part != NULL && strcmp(hostile[i].part, MEMORY) == 0;
    ckpt_sandbox *s = open_with((size_t)(memory ? 2 : 16) << 20, 1000000);
    double start = now();
    if (hostile[i].part != NULL)
      must_contain(s, hostile[i].text, hostile[i].part);
    else
      must_run(s, hostile[i].text);
    double took = now() - start;
    if (took > slowest) slowest = took;
    if (took > 3) fail_msg("%.2f s for a million steps: %s", took, hostile[i].text);
    must_run(s, "assert(1 + 1 == 2 and #('x'):rep(1000) == 1000)");
    ckpt_sandbox_free(s);
    alarm(0);
  }
  print_message("%zu hostile scripts, the slowest took %.2f s\n", CKPT_COUNTOF(hostile), slowest);
}

static void exhaustion_names_the_line(void **state) {
  (void)state;
  must_say_fresh("\nlocal function f()\n  while true do end\nend\npcall(f)\n",
                 "policies/x.lua:3: ran for more than 1,000,000 steps: stopped");
  ckpt_sandbox *s = open_with(0, 0);
  must_say(s, "while true do end", "policies/x.lua:1: ran for more than 50,000,000 steps: stopped");
  must_say(s, "table.concat({}, '', 1, 1 << 62)", "policies/x.lua:1: ran for more than 50,000,000 steps: stopped");
  ckpt_sandbox_free(s);
}

static int loop_once(lua_State *L) {
  const char *text = lua_touserdata(L, 1);
  if (luaL_loadbufferx(L, text, strlen(text), "@loop.lua", "t") != LUA_OK) return lua_error(L);
  lua_call(L, 0, 0);
  return 0;
}

static void each_call_has_a_fresh_budget(void **state) {
  (void)state;
  ckpt_sandbox *s = open_with(0, 100000);
  char text[] = "for i = 1, 60000 do end";
  for (int i = 0; i < 50; i++) assert_int_equal(ckpt_sandbox_call(s, loop_once, text, NULL), CKPT_OK);
  char twice[] = "for i = 1, 120000 do end";
  assert_int_equal(ckpt_sandbox_call(s, loop_once, twice, NULL), CKPT_E_POLICY);
  assert_int_equal(ckpt_sandbox_call(s, loop_once, text, NULL), CKPT_OK);
  ckpt_sandbox_free(s);
}

static int call_inner(lua_State *L) {
  ckpt_status *inner = lua_touserdata(L, 1);
  char text[] = "while true do end";
  *inner = ckpt_sandbox_call(ckpt_sandbox_of(L), loop_once, text, NULL);
  ckpt_sandbox_charge(L, 1);
  return 0;
}

static void an_inner_call_spends_the_outer_budget(void **state) {
  (void)state;
  ckpt_sandbox *s = open_default();
  ckpt_error err;
  ckpt_status inner = CKPT_OK;
  assert_int_equal(ckpt_sandbox_call(s, call_inner, &inner, &err), CKPT_E_POLICY);
  assert_int_equal(inner, CKPT_E_POLICY);
  assert_string_equal(err.message, "loop.lua:1: ran for more than 1,000,000 steps: stopped");
  must_run(s, "for i = 1, 1000 do end");
  ckpt_sandbox_free(s);
}

static int collect_all(lua_State *L) {
  lua_gc(L, LUA_GCCOLLECT);
  return 0;
}

static void calls_leave_nothing_behind(void **state) {
  (void)state;
  ckpt_sandbox *s = open_default();
  char text[] = "local t = {} for i = 1, 10 do t[i] = ('x'):rep(i) end pcall(error, {})";
  int64_t before = 0;
  for (int i = 0; i < 3000; i++) {
    assert_int_equal(ckpt_sandbox_call(s, loop_once, text, NULL), CKPT_OK);
    if (i == 10) assert_int_equal(ckpt_sandbox_call(s, collect_all, NULL, NULL), CKPT_OK);
    if (i == 10) before = ckpt_sandbox_memory(s);
  }
  assert_int_equal(ckpt_sandbox_call(s, collect_all, NULL, NULL), CKPT_OK);
  assert_int_equal(ckpt_sandbox_memory(s), before);
  ckpt_sandbox_free(s);
}

/* ---- Memory --------------------------------------------------------------------------------------------- */

static void memory_limit_holds_exactly(void **state) {
  (void)state;
  const size_t limit = (size_t)1 << 20;
  size_t outside = live;
  ckpt_sandbox *s = open_with(limit, 0);
  peak = live;
  must_run(s,
           "local t, size = {}, 1 << 18\n"
           "while size > 0 do if not pcall(function() t = { t, ('x'):rep(size) } end) then size = size >> 1 end end");
  assert_true(peak - outside <= limit);
  assert_true(peak - outside > limit - 256);
  assert_int_equal(live - outside, ckpt_sandbox_memory(s));
  must_run(s, "assert(#('x'):rep(100000) == 100000)");
  ckpt_sandbox_free(s);
  assert_int_equal(live, outside);
}

static void a_shrink_never_fails(void **state) {
  (void)state;
  void *ud;
  ckpt_sandbox *s = open_default();
  lua_Alloc allocate = lua_getallocf(ckpt_sandbox_state(s), &ud);
  int64_t before = ckpt_sandbox_memory(s);
  void *p = allocate(ud, NULL, LUA_TTABLE, 1000);
  assert_int_equal(ckpt_sandbox_memory(s), before + 1000);
  countdown = 1;
  fail_on = true;
  void *q = allocate(ud, p, 1000, 10), *r = allocate(ud, q, 10, 2000);
  countdown = -1;
  assert_ptr_equal(q, p);
  assert_null(r);
  assert_int_equal(ckpt_sandbox_memory(s), before + 10);
  assert_null(allocate(ud, q, 10, 0));
  assert_int_equal(ckpt_sandbox_memory(s), before);
  ckpt_sandbox_free(s);
}

static void out_of_memory_has_its_sentence(void **state) {
  (void)state;
  ckpt_sandbox *s = open_with(0, 0);
  must_say(s, "local t = {}\nwhile true do t[#t + 1] = {} end",
           "policies/x.lua: used more than 64 MiB of memory: stopped");
  must_run(s, "local t = {} for i = 1, 1000 do t[i] = {} end");
  ckpt_sandbox_free(s);
  s = open_with(300000, 0);
  must_say(s, "local t = {}\nwhile true do t[#t + 1] = {} end",
           "policies/x.lua: used more than 300000 bytes of memory: stopped");
  ckpt_sandbox_free(s);
}

static void a_limit_too_small_for_the_libraries_is_refused(void **state) {
  (void)state;
  static const size_t limits[] = {1, 100, 2000, 5000, 10000};
  for (size_t i = 0; i < CKPT_COUNTOF(limits); i++) {
    ckpt_error err;
    ckpt_sandbox *s = NULL;
    ckpt_sandbox_options o = {.memory_limit = limits[i]};
    assert_int_equal(ckpt_sandbox_new(&s, &o, &err), CKPT_E_LIMIT);
    assert_null(s);
    assert_non_null(strstr(err.message, "an empty policy environment does not fit into"));
  }
  assert_int_equal(blocks, 0);
}

/* One life of a sandbox: everything that allocates. */
static ckpt_status live_once(ckpt_error *err) {
  ckpt_sandbox *s = NULL;
  ckpt_sandbox_options o = {.base_dir = "policies", .embedded = embedded, .print = collect, .user = printed};
  int ref = 12345;
  ckpt_status st = ckpt_sandbox_new(&s, &o, err);
  if (st != CKPT_OK) assert_null(s);
  if (st == CKPT_OK) st = ckpt_sandbox_load(&ref, s, "policies/oom.lua", err);
  if (st != CKPT_OK) assert_int_equal(ref, 12345);
  ckpt_sandbox_free(s);
  return st;
}

static void fail_each(bool all_later, long *reached) {
  for (long n = 1;; n++) {
    ckpt_error err = {.message = ""};
    countdown = n;
    fail_on = all_later;
    failed = false;
    ckpt_status st = live_once(&err);
    countdown = -1;
    if (st != CKPT_OK && st != CKPT_E_NOMEM) fail_msg("allocation %ld: status %d, %s", n, st, err.message);
    if (failed && all_later) assert_int_equal(st, CKPT_E_NOMEM);
    if (blocks != 0) fail_msg("allocation %ld: %zu blocks left", n, blocks);
    *reached = n;
    if (!failed) return;
  }
}

static void every_allocation_may_fail(void **state) {
  (void)state;
  long once = 0, all = 0;
  write_text("policies/oom.lua",
             "local m = require 'default'; local t = {} for i = 1, 20 do t[i] = { i .. '' } end\n"
             "local c = {} for w in ('a b c'):gmatch('%a') do table.insert(c, w) end\n"
             "table.sort(c, function(a, b) return a > b end) print(table.concat(c))\n"
             "return { m, t, tostring(m) }");
  fail_each(true, &all);
  fail_each(false, &once);
  assert_true(all > 200);
  assert_true(once > 200);
}

/* ---- Texts ---------------------------------------------------------------------------------------------- */

static int field_is(lua_State *L) {
  const char *const *want = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, atoi(want[0]));
  lua_getfield(L, -1, "name");
  if (strcmp(luaL_checkstring(L, -1), want[1]) != 0) return luaL_error(L, "name is %s", lua_tostring(L, -1));
  return 0;
}

/* Loads and compares the field `name` of the result. */
static void must_load(const char *path, const char *name) {
  ckpt_sandbox *s = open_default();
  ckpt_error err = {.message = ""};
  int ref = LUA_NOREF;
  char number[16];
  if (ckpt_sandbox_load(&ref, s, path, &err) != CKPT_OK) fail_msg("%s", err.message);
  snprintf(number, sizeof number, "%d", ref);
  const char *want[] = {number, name};
  if (ckpt_sandbox_call(s, field_is, want, &err) != CKPT_OK) fail_msg("%s", err.message);
  ckpt_sandbox_free(s);
}

static void policies_are_found(void **state) {
  (void)state;
  write_text("policies/mine.lua", "return { name = 'mine' }");
  must_load("policies/mine.lua", "mine");
  must_load("default", "built-in default");
  must_load("pet", "built-in pet");
  write_text("bare", "return { name = 'a file without suffix' }");
  must_load("bare", "a file without suffix");
  write_bytes("policies/bom.lua", "\xEF\xBB\xBF#!/usr/bin/lua\nreturn { name = 'bom' }", 41);
  must_load("policies/bom.lua", "bom");
}

static void must_not_load(const char *path, ckpt_status status, const char *message) {
  ckpt_sandbox *s = open_default();
  ckpt_error err = {.message = ""};
  int ref = 777;
  assert_int_equal(ckpt_sandbox_load(&ref, s, path, &err), status);
  assert_int_equal(ref, 777);
  assert_string_equal(err.message, message);
  assert_int_equal(ckpt_sandbox_load(&ref, s, path, NULL), status);
  ckpt_sandbox_free(s);
}

static void what_is_no_policy_is_refused(void **state) {
  (void)state;
  must_not_load("policies/none.lua", CKPT_E_NOTFOUND,
                "policies/none.lua: there is no such policy file, nor a built-in policy of that name "
                "(built in: default, pet)");
  must_not_load("vgg", CKPT_E_NOTFOUND,
                "vgg: there is no such policy file, nor a built-in policy of that name (built in: default, pet)");
  must_not_load("policies", CKPT_E_POLICY, "policies: not a regular file");
  assert_int_equal(mkfifo("policies/fifo.lua", 0600), 0);
  must_not_load("policies/fifo.lua", CKPT_E_POLICY, "policies/fifo.lua: not a regular file");
  write_bytes("policies/code.lua", "\x1bLuaT", 5);
  must_not_load("policies/code.lua", CKPT_E_POLICY,
                "policies/code.lua:1: is compiled Lua; a policy must be Lua source text");
  write_bytes("policies/code2.lua", "#!x\n\x1bLua", 8);
  must_not_load("policies/code2.lua", CKPT_E_POLICY, "policies/code2.lua:2: unexpected symbol near '<\\27>'");
}

static void a_text_over_one_mebibyte_is_refused(void **state) {
  (void)state;
  static char text[(1 << 20) + 1];
  memset(text, '-', sizeof text);
  write_bytes("policies/long.lua", text, sizeof text);
  must_not_load("policies/long.lua", CKPT_E_POLICY, "policies/long.lua: larger than 1 MiB, which no policy is");
  static const char tail[] = "\nreturn { name = 'longest' }";
  memcpy(text + sizeof text - strlen(tail), tail, strlen(tail));
  write_bytes("policies/long.lua", text + 1, sizeof text - 1);
  must_load("policies/long.lua", "longest");
}

static void an_unreadable_file_says_why(void **state) {
  (void)state;
  assert_int_equal(symlink("loop.lua", "policies/loop.lua"), 0);
  must_not_load("policies/loop.lua", CKPT_E_IO,
                "policies/loop.lua: cannot be opened: Too many levels of symbolic links");
}

static void require_looks_beside_the_policy_first(void **state) {
  (void)state;
  must_run_fresh(
      "assert(require('maps.vgg')[1] == 'built-in vgg' and require('policies.maps.vgg')[1] == 'built-in vgg')");
  must_run_fresh(
      "assert(require('default').name == 'built-in default' and require('default') == require('policies.default'))");
  write_text("policies/maps/own.lua", "count = (count or 0) + 1; return { 'own', where = ... }");
  must_run_fresh(
      "assert(require('maps.own')[1] == 'own' and require('policies.maps.own') == require('maps.own'))\n"
      "assert(count == 1)");
  write_text("policies/maps/vgg.lua", "return { 'file vgg' }");
  must_run_fresh(
      "assert(require('maps.vgg')[1] == 'file vgg' and require('policies.maps.vgg')[1] == 'file vgg')\n"
      "assert(require('default').map[1] == 'file vgg')");
  assert_int_equal(unlink("policies/maps/vgg.lua"), 0);
  write_text("policies/nothing.lua", "shared = 'seen'");
  must_run_fresh("assert(require('nothing') == true and shared == 'seen' and require('nothing') == true)");
  assert_int_equal(mkdir("policies/policies", 0700), 0);
  write_text("policies/policies/mine.lua", "return { name = 'inner' }");
  must_run_fresh("assert(require('policies.mine').name == 'inner' and require('mine').name == 'mine')");
}

static void require_without_a_directory_knows_the_built_in_texts(void **state) {
  (void)state;
  ckpt_sandbox *s = NULL;
  ckpt_sandbox_options o = {.embedded = embedded};
  assert_int_equal(ckpt_sandbox_new(&s, &o, NULL), CKPT_OK);
  must_run(s, "assert(require('maps.vgg')[1] == 'built-in vgg')");
  must_say(s, "require 'mine'",
           "policies/x.lua:1: require: there is no module 'mine': no built-in 'policies/mine.lua'");
  ckpt_sandbox_free(s);
  o = (ckpt_sandbox_options){.base_dir = ""};
  assert_int_equal(ckpt_sandbox_new(&s, &o, NULL), CKPT_OK);
  must_run(s, "assert(require('policies.mine').name == 'mine')");
  must_say(s, "require 'default'",
           "policies/x.lua:1: require: there is no module 'default': no file './default.lua', "
           "no built-in 'policies/default.lua'");
  ckpt_sandbox_free(s);
}

static void require_errors_say_where(void **state) {
  (void)state;
  must_say_fresh("\nlocal m = require 'policies.maps.none'",
                 "policies/x.lua:2: require: there is no module 'policies.maps.none': no file "
                 "'policies/policies/maps/none.lua', no file 'policies/maps/none.lua', no built-in "
                 "'policies/maps/none.lua'");
  write_text("policies/a.lua", "return require 'b'");
  write_text("policies/b.lua", "return (require 'a')");
  must_say_fresh("require 'a'",
                 "policies/b.lua:1: require: 'policies/a.lua' requires itself, by way of others or directly");
  must_say_fresh("require 'x'",
                 "policies/x.lua:1: require: 'policies/x.lua' requires itself, by way of others or directly");
  must_run_fresh(
      "assert(not pcall(require, 'a')); local ok, e = pcall(require, 'a'); assert(e:find 'requires itself', e)");
  write_text("policies/bad.lua", "return {\n  x = = 1 }");
  must_say_fresh("require 'bad'", "policies/bad.lua:2: unexpected symbol near '='");
  write_text("policies/raise.lua", "\nerror('no good')");
  must_say_fresh("require 'raise'", "policies/raise.lua:2: no good");
  assert_int_equal(mkdir("policies/dir.lua", 0700), 0);
  must_say_fresh("require 'dir'", "policies/x.lua:1: require: policies/dir.lua: not a regular file");
  must_say_fresh("require 'a/b'",
                 "policies/x.lua:1: require: a module name is words of letters, digits, '_' and '-' "
                 "joined by dots");
  must_say_fresh("require {}", "policies/x.lua:1: bad argument #1 to 'require' (string expected, got table)");
}

/* ---- Errors --------------------------------------------------------------------------------------------- */

static void errors_of_any_type_are_sentences(void **state) {
  (void)state;
  must_say_fresh("\n\nerror('wrong')", "policies/x.lua:3: wrong");
  must_say_fresh("\nerror('wrong', 0)", "policies/x.lua:2: wrong");
  must_say_fresh("\nerror()", "policies/x.lua:2: raised a nil value instead of a message");
  must_say_fresh("\nerror({})", "policies/x.lua:2: raised a table value instead of a message");
  must_say_fresh("\nerror(print)", "policies/x.lua:2: raised a function value instead of a message");
  must_say_fresh("\nerror(12.5)", "policies/x.lua:2: 12.5");
  must_say_fresh("\nerror(setmetatable({}, { __tostring = function() return 'an object' end }))",
                 "policies/x.lua:2: an object");
  must_say_fresh("\nerror(setmetatable({}, { __tostring = function() return {} end }))",
                 "policies/x.lua:2: raised something that cannot be shown");
  must_say_fresh("\nerror(setmetatable({}, { __tostring = function() error('again') end }))",
                 "policies/x.lua:2: raised something that cannot be shown");
  must_say_fresh("local x = nil\nreturn x.y", "policies/x.lua:2: attempt to index a nil value (local 'x')");
  must_say_fresh("assert(false)", "policies/x.lua:1: assertion failed!");
  must_say_fresh("return {\n  x = = 1 }", "policies/x.lua:2: unexpected symbol near '='");
  must_say_fresh("error('two\\nlines', 0)", "policies/x.lua:1: two lines");
  must_say_fresh("('x'):rep({})", "policies/x.lua:1: bad argument #1 to 'rep' (number expected, got table)");
  must_say_fresh("\n('a'):rep(9000):find('.-b')", "policies/x.lua:2: pattern too costly for a subject of 9000 bytes");
  must_say_fresh("string.upper()", "policies/x.lua:1: bad argument #1 to 'upper' (string expected, got no value)");
}

static void a_long_error_is_cut_not_lost(void **state) {
  (void)state;
  ckpt_sandbox *s = open_default();
  ckpt_error err = {.message = ""};
  assert_int_equal(run(s, "error(('y'):rep(5000))", &err), CKPT_E_POLICY);
  assert_int_equal(strlen(err.message), sizeof err.message - 1);
  assert_memory_equal(err.message, "policies/x.lua:1: yyy", 21);
  assert_int_equal(run(s, "error('x')", NULL), CKPT_E_POLICY);
  ckpt_sandbox_free(s);
  s = open_with((size_t)256 << 20, 0);
  must_contain(s, "local function f() return 1 + f() end return f()", "policies/x.lua:1: stack overflow");
  ckpt_sandbox_free(s);
}

static void free_of_null_does_nothing(void **state) {
  (void)state;
  ckpt_sandbox_free(NULL);
  assert_int_equal(blocks, 0);
}

/* ---- Main ----------------------------------------------------------------------------------------------- */

static int make_directory(void **state) {
  (void)state;
  const char *tmp = getenv("TMPDIR");
  snprintf(directory, sizeof directory, "%s/ckpt-sandbox-XXXXXX", tmp != NULL ? tmp : "/tmp");
  if (mkdtemp(directory) == NULL || chdir(directory) != 0) return -1;
  return mkdir("policies", 0700) != 0 || mkdir("policies/maps", 0700) != 0 ? -1 : 0;
}

static int remove_directory(void **state) {
  (void)state;
  char command[300];
  if (chdir("/") != 0) return -1;
  snprintf(command, sizeof command, "rm -rf '%s'", directory);
  return system(command) == 0 ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(env_is_the_golden_list),
      cmocka_unit_test(nothing_of_the_full_libraries_is_left),
      cmocka_unit_test(escapes_are_refused),
      cmocka_unit_test(two_sandboxes_share_nothing),
      cmocka_unit_test(random_is_the_same_in_every_sandbox),
      cmocka_unit_test(library_behaves_like_lua),
      cmocka_unit_test(print_goes_to_the_callback_line_by_line),
      cmocka_unit_test(hostile_scripts_end),
      cmocka_unit_test(exhaustion_names_the_line),
      cmocka_unit_test(each_call_has_a_fresh_budget),
      cmocka_unit_test(an_inner_call_spends_the_outer_budget),
      cmocka_unit_test(calls_leave_nothing_behind),
      cmocka_unit_test(memory_limit_holds_exactly),
      cmocka_unit_test(a_shrink_never_fails),
      cmocka_unit_test(out_of_memory_has_its_sentence),
      cmocka_unit_test(a_limit_too_small_for_the_libraries_is_refused),
      cmocka_unit_test(every_allocation_may_fail),
      cmocka_unit_test(policies_are_found),
      cmocka_unit_test(what_is_no_policy_is_refused),
      cmocka_unit_test(a_text_over_one_mebibyte_is_refused),
      cmocka_unit_test(an_unreadable_file_says_why),
      cmocka_unit_test(require_looks_beside_the_policy_first),
      cmocka_unit_test(require_without_a_directory_knows_the_built_in_texts),
      cmocka_unit_test(require_errors_say_where),
      cmocka_unit_test(errors_of_any_type_are_sentences),
      cmocka_unit_test(a_long_error_is_cut_not_lost),
      cmocka_unit_test(free_of_null_does_nothing),
  };
  return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
