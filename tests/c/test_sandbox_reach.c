// LDFLAGS: -Wl,--wrap=realloc,--wrap=malloc,--wrap=calloc,--wrap=free
/* test_sandbox_reach.c - what a policy can reach, and what it cannot. */
#include "sandbox_fixture.h"

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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(env_is_the_golden_list),
      cmocka_unit_test(nothing_of_the_full_libraries_is_left),
      cmocka_unit_test(escapes_are_refused),
      cmocka_unit_test(two_sandboxes_share_nothing),
      cmocka_unit_test(random_is_the_same_in_every_sandbox),
  };
  return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
