// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup
/*
 * test_lua_values.c - the Lua functions about values when memory ends: Lua's own from the n-th allocation on, or one of
 * the core's. Each time the script fails or ends well; then the state is closed, and nothing may be left (the sanitizer
 * looks for what C holds).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <lauxlib.h>
#include <lualib.h>

extern int luaopen_ckpt(lua_State *L);

/* ---- allocations that fail ---- */

static size_t core_countdown, core_seen; /* 1: the core's next one fails; 0: none */
static size_t lua_left, lua_seen;        /* growths that Lua still gets; SIZE_MAX: all */

static bool refuse(void) {
  core_seen++;
  return core_countdown > 0 && --core_countdown == 0;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

void *__wrap_malloc(size_t n) { return refuse() ? NULL : __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t size) { return refuse() ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t n) { return refuse() ? NULL : __real_realloc(p, n); }
char *__wrap_strdup(const char *s) { return refuse() ? NULL : __real_strdup(s); }
char *__wrap_strndup(const char *s, size_t n) { return refuse() ? NULL : __real_strndup(s, n); }

static void *lua_memory(void *context, void *p, size_t before, size_t after) {
  (void)context;
  if (after == 0) {
    free(p);
    return NULL;
  }
  bool grows = p == NULL || after > before;
  if (grows) {
    lua_seen++;
    if (lua_left == 0) return NULL;
    if (lua_left != SIZE_MAX) lua_left--;
  }
  return __real_realloc(p, after);
}

/* ---- the script ---- */

static const char script[] =
    "local ckpt = ...\n"
    "local w = assert(ckpt.tensor('float32', { 2 }, { 1, 2 }))\n"
    "local shared = { 1, ckpt.tuple { 2, 'x' } }\n"
    "local t = { a = shared, b = shared, p = ckpt.parameter(w), big = ckpt.bigint '123456789012345678901234567890',\n"
    "  s = ckpt.set { 1, 2, 2 }, c = ckpt.complex(1, 2), d = ckpt.device 'cuda:1', z = ckpt.size { 2 },\n"
    "  o = ckpt.object { class = 'argparse.Namespace', how = 'newobj', state = ckpt.dict { lr = 1, w = w } },\n"
    "  od = ckpt.ordered({ { 'k', w }, { ckpt.tuple { 1 }, 'v' } }, { _metadata = ckpt.dict {} }), by = ckpt.bytes 'x' "
    "}\n"
    "t.self = t\n"
    "local v = assert(ckpt.value(t))\n"
    "for i = 1, 12 do v['k' .. i] = { i } end\n"
    "for i = 1, 12, 2 do v['k' .. i] = nil end\n"
    "ckpt.insert(v.a, 1, v) ckpt.append(v.a, ckpt.value { 5 }) ckpt.add(v.s, 9) ckpt.remove(v.s, 1)\n"
    "ckpt.put(v, ckpt.tuple { 1, 2 }, ckpt.none) v.o.lr = 2 ckpt.set_state(v.od, { x = 1 })\n"
    "local n = 0\n"
    "for path, x in ckpt.walk(v) do n = n + #path if ckpt.type(x) == 'tensor' then n = n + 1 end end\n"
    "for k in pairs(v) do n = n + #tostring(k) end\n"
    "local tables = ckpt.totable(v)\n"
    "for k in pairs(tables.od) do n = n + #tostring(k) end\n"
    "assert(assert(ckpt.equal(tables, v)))\n"
    "assert(assert(ckpt.hex(v.big)) and assert(ckpt.decimal(v.big)) and tostring(v) and ckpt.keys(v) and "
    "ckpt.object(v.o))\n"
    "assert(ckpt.get(v, ckpt.tuple { 1, 2 }) == ckpt.none)\n"
    "local copy = assert(ckpt.map(v, function(path) if path == 'od.k' then return w:clone() end end))\n"
    "assert(copy.self == copy)\n"
    "local sd = assert(ckpt.state_dict(ckpt.dict { model = ckpt.items { { 'm.a', w }, { 'm.b', w }, { 5, 6 } } }))\n"
    "assert(ckpt.strip_prefix(sd, 'm.') == 2 and assert(ckpt.rename(sd, 'a', 'c')) and ckpt.remove(sd, 'b'))\n"
    "local d = ckpt.value(ckpt.dict { ['m.a'] = 1 })\n"
    "assert(assert(ckpt.strip_prefix(d, 'm.')) == 1)\n";

static int run_script(lua_State *L) {
  lua_settop(L, 2); /* chunk, module */
  lua_call(L, 1, 0);
  return 0;
}

/* A new state, in which the script runs with these many allocations; what it said, "" for nothing. */
static void run(char message[200], size_t lua_growths, size_t core_nth) {
  message[0] = '\0';
  core_countdown = 0;
  lua_left = SIZE_MAX;
  lua_State *L = lua_newstate(lua_memory, NULL);
  assert_non_null(L);
  luaL_openlibs(L);
  lua_pushcfunction(L, run_script);
  assert_int_equal(luaL_loadstring(L, script), LUA_OK);
  luaL_requiref(L, "ckpt", luaopen_ckpt, 0);
  lua_gc(L, LUA_GCCOLLECT);
  lua_left = lua_growths;
  lua_seen = core_seen = 0;
  core_countdown = core_nth;
  int status = lua_pcall(L, 2, 0, 0);
  core_countdown = 0;
  lua_left = SIZE_MAX;
  if (status != LUA_OK) strncat(message, lua_tostring(L, -1) == NULL ? "?" : lua_tostring(L, -1), 199);
  lua_close(L);
}

static void it_runs(void **state) {
  (void)state;
  char message[200];
  run(message, SIZE_MAX, 0);
  assert_string_equal(message, "");
  assert_true(lua_seen > 500);
  assert_true(core_seen > 50);
}

static void memory_of_lua_ends(void **state) {
  (void)state;
  char message[200];
  run(message, SIZE_MAX, 0);
  size_t all = lua_seen;
  for (size_t n = 0; n < all; n += n < 200 ? 1 : 7) {
    run(message, n, 0);
    if (message[0] != '\0') assert_string_equal(message, "not enough memory");
  }
}

static void memory_of_the_core_ends(void **state) {
  (void)state;
  char message[200];
  size_t n = 1;
  do {
    run(message, SIZE_MAX, n);
    if (message[0] != '\0' && strstr(message, "memory") == NULL) fail_msg("allocation %zu: %s", n, message);
  } while (core_seen >= n++);
  assert_true(n > 50);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(it_runs),
      cmocka_unit_test(memory_of_lua_ends),
      cmocka_unit_test(memory_of_the_core_ends),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
