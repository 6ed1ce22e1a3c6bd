// LDFLAGS: -Wl,--wrap=realloc,--wrap=malloc,--wrap=calloc,--wrap=free
/* test_sandbox.c - the closed Lua state: the functions of its library, and what errors say. */
#include "sandbox_fixture.h"

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
  must_say_fresh("\n('a'):rep(9000):find('.-b')", "policies/x.lua:2: ran for more than 1,000,000 steps: stopped");
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(library_behaves_like_lua),         cmocka_unit_test(print_goes_to_the_callback_line_by_line),
      cmocka_unit_test(errors_of_any_type_are_sentences), cmocka_unit_test(a_long_error_is_cut_not_lost),
      cmocka_unit_test(free_of_null_does_nothing),
  };
  return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
