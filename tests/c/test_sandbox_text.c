// LDFLAGS: -Wl,--wrap=realloc,--wrap=malloc,--wrap=calloc,--wrap=free
/* test_sandbox_text.c - policy files and require: what is found, what is refused. */
#include "sandbox_fixture.h"

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
  ckpt_sandbox *s = open_with((size_t)16 << 20, 3000000);
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(policies_are_found),
      cmocka_unit_test(what_is_no_policy_is_refused),
      cmocka_unit_test(a_text_over_one_mebibyte_is_refused),
      cmocka_unit_test(an_unreadable_file_says_why),
      cmocka_unit_test(require_looks_beside_the_policy_first),
      cmocka_unit_test(require_without_a_directory_knows_the_built_in_texts),
      cmocka_unit_test(require_errors_say_where),
  };
  return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
