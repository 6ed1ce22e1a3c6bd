// LDFLAGS: -Wl,--wrap=realloc,--wrap=malloc,--wrap=calloc,--wrap=free
/*
 * test_sandbox_reach.c - what a policy can reach, and what it cannot (T19): the list of all C functions that can be
 * found from a policy's environment and arguments by keys, metatables and upvalues; scripts that try to get further;
 * and that two sandboxes share nothing. tests/e2e/sandbox_calls.sh looks at the system calls of it.
 */
#include <lualib.h>

#include "sandbox_fixture.h"

#include "../../bindings/run.h"

#define MEMORY_PART "for one string): stopped"

/* ---- the list ------------------------------------------------------------------------------------------ */

/*
 * By the first path found, in the order of the walk: keys by name, then `.meta`, `^n` for upvalue n, `#n` for a user
 * value. A function that is not here is new: is it safe for a policy, does it charge what it does?
 */
static const char *const golden[] = {
#include "sandbox_golden.h"
};

typedef struct walk {
  char (*names)[160];
  size_t n, capacity;
  int seen; /* a table of what was visited */
} walk;

static void visit(lua_State *L, walk *w, const char *path);

static void note(walk *w, const char *path) {
  assert_true(w->n < w->capacity);
  snprintf(w->names[w->n++], sizeof w->names[0], "%s", path);
}

/* Whether the value on the top is new; functions without upvalues are compared by address, as Lua does. */
static bool is_new(lua_State *L, const walk *w) {
  lua_pushvalue(L, -1);
  if (lua_rawget(L, w->seen) != LUA_TNIL) {
    lua_pop(L, 1);
    return false;
  }
  lua_pop(L, 1);
  lua_pushvalue(L, -1);
  lua_pushboolean(L, 1);
  lua_rawset(L, w->seen);
  return true;
}

static void join(char *out, size_t size, const char *path, const char *how, const char *name) {
  snprintf(out, size, "%s%s%s", path, how, name);
}

/* The keys that are names in their order, so that the first path of a thing is the same each time; then the rest. */
static void visit_table(lua_State *L, walk *w, const char *path) {
  int t = lua_gettop(L);
  char names[256][64], below[160];
  size_t n = 0;
  for (lua_pushnil(L); lua_next(L, t) != 0; lua_pop(L, 1)) {
    if (lua_type(L, -2) == LUA_TSTRING) {
      assert_true(n < CKPT_COUNTOF(names));
      snprintf(names[n++], sizeof names[0], "%s", lua_tostring(L, -2));
      continue;
    }
    join(below, sizeof below, path, ".", "*");
    visit(L, w, below);
    lua_pushvalue(L, -2);
    visit(L, w, below);
    lua_pop(L, 1);
  }
  qsort(names, n, sizeof names[0], (int (*)(const void *, const void *))strcmp);
  for (size_t i = 0; i < n; i++) {
    join(below, sizeof below, path, *path != '\0' ? "." : "", names[i]);
    lua_getfield(L, t, names[i]);
    visit(L, w, below);
    lua_settop(L, t);
  }
}

static void visit_upvalues(lua_State *L, walk *w, const char *path) {
  char below[160];
  for (int i = 1; lua_getupvalue(L, -1, i) != NULL; i++) {
    snprintf(below, sizeof below, "%s^%d", path, i);
    visit(L, w, below);
    lua_pop(L, 1);
  }
}

static void visit_user_values(lua_State *L, walk *w, const char *path) {
  char below[160];
  for (int i = 1; lua_getiuservalue(L, -1, i) != LUA_TNONE; i++) {
    snprintf(below, sizeof below, "%s#%d", path, i);
    visit(L, w, below);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

static void visit(lua_State *L, walk *w, const char *path) {
  char below[160];
  luaL_checkstack(L, 20, "walk");
  if (lua_type(L, -1) < LUA_TTABLE && lua_type(L, -1) != LUA_TLIGHTUSERDATA) return;
  if (lua_islightuserdata(L, -1)) fail_msg("%s is an address", path);
  if (!is_new(L, w)) return;
  if (lua_iscfunction(L, -1)) note(w, path);
  if (lua_getmetatable(L, -1)) {
    join(below, sizeof below, path, ".", "meta");
    visit(L, w, below);
    lua_pop(L, 1);
  }
  if (lua_istable(L, -1)) visit_table(L, w, path);
  if (lua_isfunction(L, -1)) visit_upvalues(L, w, path);
  if (lua_type(L, -1) == LUA_TUSERDATA) visit_user_values(L, w, path);
}

static int walk_env(lua_State *L) {
  walk *w = lua_touserdata(L, 1);
  lua_newtable(L);
  w->seen = lua_gettop(L);
  ckpt_sandbox_push_env(L);
  visit(L, w, "");
  lua_pushliteral(L, "");
  lua_getmetatable(L, -1);
  visit(L, w, "''.meta");
  return 0;
}

static void ignore_line(void *user, ckpt_log_level level, const char *line) {
  (void)user;
  if (level == CKPT_LOG_WARNING) print_message("# %s\n", line);
}

/* A run whose policy has kept all that it was ever given as globals. */
static ckpt_checkpointer *open_greedy_run(void) {
  static float w[2] = {1, 2};
  static double best = 0.5;
  ckpt_error err = {.message = ""};
  ckpt_checkpointer *cp = NULL;
  write_text("policies/greedy.lua",
             "return { candidates = function(p, run) given_run1 = run\n"
             "    return { { file = 'model.pth', mode = 'resume' } } end,\n"
             "  plan_load = function(p, run, source) given_run2, given_source = run, source\n"
             "    given_sd = source.state_dict('model'); given_tensor = given_sd.w; given_pairs = { pairs(given_sd) }\n"
             "    given_iterators = { pairs({ b = 1, a = 2 }), ('x'):gmatch('x'), utf8.codes('x'), ipairs({}) }\n"
             "    return { select = 'model', assign = { { to = 'w', from = 'w' } } } end,\n"
             "  plan_save = function(p, run) given_run3 = run; return { file = 'model.pth' } end }");
  ckpt_checkpointer_options o = {
      .dir = "run", .policy = "policies/greedy.lua", .auto_resume = true, .log = ignore_line};
  if (ckpt_checkpointer_open(&cp, &o, &err) != CKPT_OK) fail_msg("%s", err.message);
  assert_int_equal(ckpt_bind_tensor(cp, "model", "w", CKPT_F32, w, 1, (int64_t[]){2}, &err), CKPT_OK);
  assert_int_equal(ckpt_bind_double(cp, "info", "best", &best, &err), CKPT_OK);
  assert_int_equal(ckpt_save(cp, 1, &err), CKPT_OK);
  if (ckpt_load(cp, NULL, &err) != CKPT_OK) fail_msg("%s", err.message);
  return cp;
}

static bool listed(const char *name) {
  for (size_t i = 0; i < CKPT_COUNTOF(golden); i++)
    if (strcmp(golden[i], name) == 0) return true;
  return false;
}

static bool walked(const walk *w, const char *name) {
  for (size_t i = 0; i < w->n; i++)
    if (strcmp(w->names[i], name) == 0) return true;
  return false;
}

static void all_that_can_be_reached_is_listed(void **state) {
  (void)state;
  static char names[1024][160];
  walk w = {.names = names, .capacity = CKPT_COUNTOF(names)};
  ckpt_error err = {.message = ""};
  ckpt_checkpointer *cp = open_greedy_run();
  ckpt_sandbox_budget large = {.steps = UINT64_C(1000000000)};
  if (ckpt_sandbox_call_with(cp->sandbox, &large, walk_env, &w, &err) != CKPT_OK) fail_msg("%s", err.message);
  size_t faults = 0;
  for (size_t i = 0; i < w.n; i++)
    if (!listed(names[i])) faults++, print_error("    \"%s\", // is not in sandbox_golden.h\n", names[i]);
  for (size_t i = 0; i < CKPT_COUNTOF(golden); i++)
    if (!walked(&w, golden[i])) faults++, print_error("\"%s\" of sandbox_golden.h is not there\n", golden[i]);
  assert_int_equal(faults, 0);
  print_message("T19: %zu C functions can be reached, as listed\n", w.n);
  ckpt_checkpointer_close(cp);
}

/* ---- what must not exist ------------------------------------------------------------------------------- */

static const char *const forbidden[] = {
    "collectgarbage", "dofile",  "load", "loadfile", "warn",      "string.dump",         "math.randomseed",
    "coroutine.*",    "debug.*", "io.*", "os.*",     "package.*", "package.searchers.*", "require"};

typedef struct hunt {
  lua_CFunction functions[256];
  size_t n, found;
} hunt;

static void add_forbidden(lua_State *L, hunt *h) {
  if (lua_iscfunction(L, -1)) {
    assert_true(h->n < CKPT_COUNTOF(h->functions));
    h->functions[h->n++] = lua_tocfunction(L, -1);
  }
  lua_pop(L, 1);
}

/* "io.*": all functions of a table; "string.dump": one. */
static void add_name(lua_State *L, hunt *h, const char *name) {
  char copy[64];
  snprintf(copy, sizeof copy, "%s", name);
  lua_pushglobaltable(L);
  for (char *rest = copy, *part; (part = strtok_r(rest, ".", &rest)) != NULL;) {
    if (strcmp(part, "*") == 0) {
      for (lua_pushnil(L); lua_next(L, -2) != 0;) add_forbidden(L, h);
      return;
    }
    lua_getfield(L, -1, part);
  }
  add_forbidden(L, h);
}

static void collect_forbidden(hunt *h) {
  lua_State *L = luaL_newstate();
  assert_non_null(L);
  luaL_openlibs(L);
  for (size_t i = 0; i < CKPT_COUNTOF(forbidden); i++) {
    add_name(L, h, forbidden[i]);
    lua_settop(L, 0);
  }
  lua_close(L);
}

/* The whole state from its registry on: even what a policy cannot reach is not there. */
static int walk_registry(lua_State *L) {
  hunt *h = lua_touserdata(L, 1);
  static char names[4096][160];
  walk w = {.names = names, .capacity = CKPT_COUNTOF(names)};
  lua_gc(L, LUA_GCCOLLECT);
  lua_newtable(L);
  w.seen = lua_gettop(L);
  lua_pushvalue(L, LUA_REGISTRYINDEX);
  visit(L, &w, "registry");
  lua_settop(L, w.seen);
  for (lua_pushnil(L); lua_next(L, w.seen) != 0; lua_pop(L, 1)) {
    lua_CFunction f = lua_tocfunction(L, -2);
    for (size_t i = 0; f != NULL && i < h->n; i++)
      if (f == h->functions[i]) h->found++;
  }
  return 0;
}

static void nothing_dangerous_exists_in_the_state(void **state) {
  (void)state;
  hunt h = {.n = 0};
  ckpt_error err = {.message = ""};
  collect_forbidden(&h);
  assert_true(h.n > 60);
  ckpt_sandbox *s = open_default();
  ckpt_sandbox_budget large = {.steps = UINT64_C(1000000000)};
  if (ckpt_sandbox_call_with(s, &large, walk_registry, &h, &err) != CKPT_OK) fail_msg("%s", err.message);
  assert_int_equal(h.found, 0);
  print_message("T19: none of %zu functions of io, os, debug, package, coroutine, load, ... is in the state\n", h.n);
  ckpt_sandbox_free(s);
}

static int check_registry(lua_State *L) {
  static const char *const stock[] = {"_LOADED", "_PRELOAD", "_CLIBS"};
  for (size_t i = 0; i < CKPT_COUNTOF(stock); i++)
    if (lua_getfield(L, LUA_REGISTRYINDEX, stock[i]) == LUA_TTABLE) return luaL_error(L, "%s is left", stock[i]);
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

/* ---- attempts ------------------------------------------------------------------------------------------ */

/* Each ends well: what it tries fails, which it asserts. Names of CVEs say whose idea it was. */
static const char *const contained[] = {
    "assert(load == nil and loadstring == nil and dofile == nil and loadfile == nil)",
    "assert(io == nil and os == nil and debug == nil and package == nil and coroutine == nil)",
    "assert(collectgarbage == nil and warn == nil and _G == nil and _ENV ~= nil)",
    "assert(string.dump == nil and ('x').dump == nil and math.randomseed == nil)",
    "assert(not pcall(function() return package.loadlib('libc.so.6', 'system') end)) -- CVE-2022-0543",
    "assert(not pcall(require, 'ffi') and not pcall(require, 'posix') and not pcall(require, 'socket'))",
    "for _, n in ipairs { 'io', 'os', 'debug', 'package', 'coroutine', 'string', '_G' } do assert(not pcall(require, "
    "n)) end",
    "assert(getmetatable('') == false)",
    "assert(not pcall(setmetatable, '', {}))",
    "assert(not pcall(function() getmetatable('').__index = {} end)) -- CVE-2025-46818, CVE-2022-24735",
    "assert(getmetatable(1) == nil and getmetatable(true) == nil and getmetatable(nil) == nil and getmetatable(print) "
    "== nil)",
    "assert(not pcall(setmetatable, 1, {}) and not pcall(setmetatable, print, {}) and not pcall(setmetatable, nil, "
    "{}))",
    "assert(not pcall(setmetatable, {}, { __gc = function() end }))",
    "assert(not pcall(setmetatable, {}, { __gc = true }))",
    "assert(not pcall(setmetatable, {}, { __mode = 'k' }) and not pcall(setmetatable, {}, { __mode = 'kv' }))",
    "local hit = 0; local mt = {}; for i = 1, 100 do setmetatable({}, mt) end; mt.__gc = function() hit = hit + 1 end\n"
    "for i = 1, 20000 do local t = {} end; assert(hit == 0)",
    "local hit = 0; local mt = setmetatable({}, { __index = { __gc = function() hit = 1 end } })\n"
    "for i = 1, 100 do setmetatable({}, mt) end; for i = 1, 20000 do local t = {} end; assert(hit == 0)",
    "local mt = {}; local t = setmetatable({}, mt); rawset(mt, '__gc', print); assert(not pcall(setmetatable, t, mt))",
    "local mt = {}; setmetatable(mt, mt); local t = setmetatable({}, mt); mt.__gc = print; mt.__mode = 'k'\n"
    "t[{}] = 1; for i = 1, 20000 do local x = {} end; assert(next(t) ~= nil)",
    "local t = setmetatable({}, { __metatable = 'locked' }); assert(getmetatable(t) == 'locked')\n"
    "assert(not pcall(setmetatable, t, {}))",
    "local mt = { __index = {} }; local t = setmetatable({}, mt); assert(getmetatable(t) == mt)",
    "for _, n in ipairs { '../x', '/etc/passwd', 'a..b', '.a', 'a.', '', 'a/b', 'a\\0b', 'a b', 'a\\\\b', '~', '*' } "
    "do\n"
    "  local ok, e = pcall(require, n); assert(not ok and e:find('a module name is', 1, true), e) end",
    "local ok, e = pcall(require, ('a'):rep(300)); assert(not ok)",
    "local ok, e = pcall(require, 'maps.binary'); assert(not ok and e:find('compiled Lua', 1, true), e) -- "
    "CVE-2015-4335",
    "assert(not pcall(require, setmetatable({}, { __tostring = function() return 'io' end })))",
    "assert(not pcall(require, { 'io' }) and not pcall(require, nil) and not pcall(require, print))",
    "assert(#string.format('%s', string.rep) < 100)",
    "assert(tostring({}) == 'table' and tostring(print) == 'function' and not tostring(print):find('0x', 1, true))",
    "assert(not string.format('%s', {}):find('0x', 1, true) and not pcall(string.format, '%p', {}))",
    "assert(not pcall(string.format, '%-10p', print) and not pcall(string.format, '%s%p', 1, {}))",
    "local t = setmetatable({}, { __name = 'x' }); assert(tostring(t) == 'x')",
    "local e = setmetatable({}, { __tostring = function() return 'x' end }); assert(not pcall(error, e))",
    "local ok, e = pcall(error, setmetatable({}, { __tostring = function() return {} end })); assert(not ok and "
    "type(e) == "
    "'table')",
    "string.rep = nil; assert(('x').rep == nil)",
    "string.format = function() return 'mine' end; assert(('x'):format() == 'mine')",
    "assert(('10' + 1) == 11 and math.type('10' + 1) == 'integer')",
    "_ENV = { assert = assert, pcall = pcall }; assert(not pcall(function() return io.open end))",
    "local e = _ENV; e._G = e; assert(_G.io == nil and _G._G == e)",
    "assert(not pcall(function() return _ENV.debug.getregistry() end))",
    "local f = string.gsub; local g = {}; for k, v in pairs(_ENV) do g[#g + 1] = k end; assert(#g > 20)\n"
    "for _, k in ipairs(g) do assert(k ~= 'io' and k ~= 'os' and k ~= 'debug') end",
    "assert(select('#', table.unpack({}, 1, 100)) == 100 and not pcall(table.unpack, {}, 1, 1e8)) -- CVE-2025-46817",
    "assert(not pcall(table.unpack, {}, math.mininteger, math.maxinteger) and not pcall(table.unpack, {}, 1, 1 << 31))",
    "assert(not pcall(table.unpack, {}, -1, math.maxinteger) and not pcall(table.unpack, {}, 0, 0x7fffffff))",
    "assert(not pcall(string.rep, 'x', 1 << 62) and not pcall(string.rep, 'abc', math.maxinteger // 2))",
    "assert(not pcall(string.pack, 'i17', 1) and not pcall(string.unpack, 'i16', 'x') and not pcall(string.unpack, "
    "'s8', "
    "('\\xff'):rep(9))) -- CVE-2018-11219, CVE-2020-14147",
    "assert(not pcall(string.unpack, 'z', 'x') and not pcall(string.unpack, 'b', 'x', 99) and not "
    "pcall(string.packsize, 's'))",
    "assert(not pcall(string.format, '%99999d', 1) and not pcall(string.format, ('%'):rep(999) .. 'z'))",
    "assert(not pcall(string.format, '%.99999f', 1) and #string.format('%.99f', 1e300) > 300) -- CVE-2024-31449",
    "assert(not pcall(string.format, '%d') and not pcall(string.format, '%d', 'x') and not pcall(string.format, '%q', "
    "{}))",
    "assert(not pcall(string.find, ('a'):rep(300), ('('):rep(300)) and not pcall(string.find, 'x', '%') and "
    "not pcall(string.find, 'x', '[a'))",
    "assert(not pcall(string.gsub, 'x', 'x', '%2') and not pcall(string.find, 'x', '(') and not pcall(string.find, "
    "'x', '%f'))",
    "local t = {}; t[t] = t; local n = 0; for k, v in pairs(t) do n = n + 1; assert(k == t and v == t) end; assert(n "
    "== 1)",
    "local t = { 1, 2, 3 }; for k in pairs(t) do t[k] = nil end; assert(next(t) == nil)",
    "local t = { a = 1, b = 2, c = 3 }; for k in pairs(t) do t[k] = nil end; assert(next(t) == nil)",
    "local t = {}; for i = 1, 100 do t[i] = i end; table.sort(t, function(a, b) t[1] = nil; return a < b end); "
    "assert(#t == "
    "100)",
    "local t = { 3, 2, 1 }; assert(not pcall(table.sort, t, function() error 'x' end)); assert(table.concat(t) == "
    "'321')",
    "local s = 'x'; local r = s:gsub('.', function() string.gsub = nil; return 'y' end); assert(r == 'y')",
    "local it = ('abc'):gmatch('.'); local a = it(); string.gmatch = nil; assert(a == 'a' and it() == 'b' and it() == "
    "'c')",
    "local function f() return pcall(f) end; f()",
    "local ok, e = xpcall(error, function() error('again') end); assert(not ok)",
    "local x <close> = nil; local y <const> = 1; assert(not pcall(function() local z <close> = 5 end))",
    "local log = ''; do local a <close> = setmetatable({}, { __close = function() log = log .. 'a' end }) end; "
    "assert(log == 'a')",
    "math.huge = 1; math.pi = 3; assert(math.huge == 1)",
    "local t = setmetatable({}, { __index = function(t, k) return k end, __newindex = function() end }); t.x = 1\n"
    "assert(t.x == 'x' and rawget(t, 'x') == nil)",
    "goto done; do local x = 1 end; ::done:: assert(true)",
    "-- [==[ long ]]\nassert([==[a]]b]==] == 'a]]b') -- CVE-2025-46819",
    "assert(utf8.char(0x7FFFFFFF) ~= nil and not pcall(utf8.char, 1 << 31) and not pcall(utf8.codepoint, '\\xff'))",
    "assert(not pcall(utf8.offset, 'x', 1, 99) and utf8.len('\\xff') == nil and not pcall(utf8.codes))",
    "assert(math.tointeger('x') == nil and not pcall(math.random, 2, 1) and math.random(0) ~= nil)",
};

/* Whether a sandbox that stood by is as it was. */
static void must_be_untouched(ckpt_sandbox *other) {
  must_run(other,
           "assert(('a'):upper() == 'A' and ('x'):rep(3) == 'xxx' and string.format('%d', 1) == '1')\n"
           "assert(math.huge > 1 and math.pi > 3.1 and getmetatable('') == false and x == nil and _G == nil)\n"
           "assert(string.gsub and string.gmatch and table.insert and require and ('abc'):gsub('b', 'x') == 'axc')");
}

static void escapes_are_refused(void **state) {
  (void)state;
  assert_true(CKPT_COUNTOF(contained) >= 60);
  ckpt_sandbox *other = open_default();
  for (size_t i = 0; i < CKPT_COUNTOF(contained); i++) {
    must_run_fresh(contained[i]);
    must_be_untouched(other);
  }
  ckpt_sandbox_free(other);
  print_message("T19: %zu attempts, none got out, none was seen by another sandbox\n", CKPT_COUNTOF(contained));
}

static void two_sandboxes_share_nothing(void **state) {
  (void)state;
  ckpt_sandbox *a = open_default(), *b = open_default();
  must_run(a,
           "string.upper = function() return 'pwned' end; x = 1; table.insert = nil; string.gsub = nil; math.huge = 0");
  must_run(a, "assert(('a'):upper() == 'pwned' and x == 1)");
  must_be_untouched(b);
  ckpt_sandbox_free(a);
  must_be_untouched(b);
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

/* ---- what a policy answers ----------------------------------------------------------------------------- */

/* Bodies of plan_save; the checkpoint must be there after each, and what is in it must be data. */
static const struct {
  const char *body, *part;
} answers[] = {
    {"return { file = 'a.pth', extra = { x = setmetatable({ class = 'posix.system', args = { 'true' } }, { __ckpt = 16 "
     "}) } }",
     NULL},
    {"local mt = { __ckpt = 16 }; local t = setmetatable({ class = 'os.system' }, mt); mt.__ckpt = 15\n"
     "return { file = 'a.pth', extra = { x = t } }",
     NULL},
    {"return { file = 'a.pth', extra = { x = print } }", "no counterpart"},
    {"return { file = 'a.pth', extra = { x = run.model.w } }", NULL},
    {"run.model.w = nil", "cannot change a state dict"},
    {"run.model.w:fill(0)", "attempt to call a nil value"},
    {"return { file = run.model.w:storage() }", "attempt to call a nil value"},
    {"return run.model.w:clone()", "attempt to call a nil value"},
    {"local s = ('x'):rep(1000000); local t = {}; for i = 1, 100000 do t[i] = s end; return { file = 'a.pth', log = t "
     "}",
     MEMORY_PART},
    {"local s = ('x'):rep(1000000); local t = {}; for i = 1, 100000 do t[i] = s end; return { file = 'a.pth', aliases "
     "= t }",
     MEMORY_PART},
    {"local s = ('x'):rep(1000000); local t = {}; for i = 1, 100000 do t[i] = s end\n"
     "return { file = 'a.pth', extra = { t = t } }",
     ""},
    {"local t = {}; for i = 1, 300000 do t[i] = i end; return { file = 'a.pth', extra = { t = t } }", NULL},
    {"local t = {}; t.t = t; return { file = 'a.pth', extra = t }", NULL},
    {"return setmetatable({}, { __index = function() while true do end end })", "ran for more than"},
    {"local mt = { __index = function(t, k) return setmetatable({}, getmetatable(t)) end }; return setmetatable({}, "
     "mt)",
     ""},
    {"return { file = '/etc/passwd' }", "is no name for a checkpoint"},
    {"return { file = 'a.pth', aliases = { '../../x' } }", "is no name for a checkpoint"},
    {"return { file = 'a.pth', retire = { '/etc/passwd' } }", "is no name for a checkpoint"},
    {"return { file = 'ckpt.jsonl' }", "ledger"},
};

static char warnings[4096];

static void keep_warnings(void *user, ckpt_log_level level, const char *line) {
  (void)user;
  size_t n = strlen(warnings);
  if (level == CKPT_LOG_WARNING) snprintf(warnings + n, sizeof warnings - n, "%s\n", line);
}

static void count_objects(const ckpt_value *v, size_t *objects) {
  ckpt_kind kind = ckpt_value_kind(v);
  if (kind == CKPT_OBJECT) ++*objects;
  for (size_t i = 0; (kind == CKPT_LIST || kind == CKPT_TUPLE) && i < ckpt_value_count(v); i++)
    count_objects(ckpt_value_item(v, i), objects);
  for (size_t i = 0; kind == CKPT_DICT && i < ckpt_value_pair_count(v); i++)
    count_objects(ckpt_value_pair_value(v, i), objects);
}

static void check_file(const char *name) {
  ckpt_error err = {.message = ""};
  ckpt_checkpoint *file = NULL;
  size_t objects = 0;
  char path[64];
  snprintf(path, sizeof path, "answers/%s", name);
  if (ckpt_checkpoint_open(&file, path, NULL, &err) != CKPT_OK) fail_msg("%s", err.message);
  if (strcmp(name, "a.pth") == 0) {
    const ckpt_value *x = ckpt_value_get(ckpt_checkpoint_root(file), "x");
    if (x != NULL && ckpt_value_kind(x) != CKPT_TENSOR) count_objects(x, &objects);
  }
  assert_int_equal(objects, 0);
  ckpt_checkpoint_close(file);
}

static void no_answer_costs_a_checkpoint(void **state) {
  (void)state;
  static float w[2] = {1, 2};
  for (size_t i = 0; i < CKPT_COUNTOF(answers); i++) {
    char text[1024];
    ckpt_error err = {.message = ""};
    ckpt_checkpointer *cp = NULL;
    snprintf(text, sizeof text, "return { plan_save = function(policy, run)\n%s\nend }", answers[i].body);
    write_text("policies/answer.lua", text);
    assert_int_equal(system("rm -rf answers"), 0);
    warnings[0] = '\0';
    ckpt_checkpointer_options o = {.dir = "answers",
                                   .policy = "policies/answer.lua",
                                   .policy_memory = (size_t)32 << 20,
                                   .policy_steps = 20000000,
                                   .log = keep_warnings};
    if (ckpt_checkpointer_open(&cp, &o, &err) != CKPT_OK) fail_msg("%s", err.message);
    assert_int_equal(ckpt_bind_tensor(cp, "model", "w", CKPT_F32, w, 1, (int64_t[]){2}, &err), CKPT_OK);
    if (ckpt_save(cp, 7, &err) != CKPT_OK) fail_msg("%s\n%s", answers[i].body, err.message);
    bool failed_as_said = answers[i].part != NULL && strstr(warnings, answers[i].part) != NULL && warnings[0] != '\0';
    if (answers[i].part != NULL ? !failed_as_said : warnings[0] != '\0')
      fail_msg("%s\n-> %s", answers[i].body, warnings);
    check_file(answers[i].part != NULL ? "model_epoch7.pth" : "a.pth");
    ckpt_checkpointer_close(cp);
  }
}

static int no_clean_up(void **state) {
  (void)state;
  return 0;
}

/* For sandbox_calls.sh: nothing but the scripts, and no `rm` afterwards. */
static int run_attempts(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(escapes_are_refused),
                                     cmocka_unit_test(two_sandboxes_share_nothing)};
  return cmocka_run_group_tests(tests, make_directory, no_clean_up);
}

int main(void) {
  if (getenv("CKPT_ONLY_ATTEMPTS") != NULL) return run_attempts();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_that_can_be_reached_is_listed),     cmocka_unit_test(nothing_dangerous_exists_in_the_state),
      cmocka_unit_test(nothing_of_the_full_libraries_is_left), cmocka_unit_test(escapes_are_refused),
      cmocka_unit_test(two_sandboxes_share_nothing),           cmocka_unit_test(random_is_the_same_in_every_sandbox),
      cmocka_unit_test(no_answer_costs_a_checkpoint),
  };
  return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
