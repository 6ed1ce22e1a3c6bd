/*
 * fuzz_lua_pattern.c - string.find, match, gmatch and gsub of a policy beside Lua's own: the same results, the same
 * captures, the same error messages.
 *
 * Input: one byte for the function, one for the start, then subject, pattern and replacement, each behind a byte with
 * its length. Texts are short, since Lua's own matcher cannot be stopped; ours goes first, and an input that takes it
 * more than a budget's worth is left alone.
 */
#include <lauxlib.h>
#include <lualib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../bindings/sandbox.h"

enum { MOST_SUBJECT = 40, MOST_PATTERN = 24, MOST_REPLACEMENT = 12, STEPS = 300000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__asan_default_options(void);

/* States live on between inputs, so that a search for leaks after each finds nothing and takes most of the time. */
const char *__asan_default_options(void) { return "detect_leaks=0:quarantine_size_mb=16"; }

typedef struct input {
  uint8_t function;
  int start;
  const uint8_t *text[3];
  size_t size[3];
} input;

static bool read_input(input *in, const uint8_t *data, size_t size) {
  static const size_t most[] = {MOST_SUBJECT, MOST_PATTERN, MOST_REPLACEMENT};
  if (size < 5) return false;
  in->function = data[0] % 6;
  in->start = (int)(data[1] % 16) - 6;
  size_t at = 2;
  for (int i = 0; i < 3; i++) {
    size_t n = at < size ? data[at++] % (most[i] + 1) : 0;
    if (n > size - at) n = size - at;
    in->text[i] = data + at;
    in->size[i] = n;
    at += n;
  }
  return true;
}

/* What is called in both states. All results, or the error, become one string. */
static const char script[] =
    "local f, s, p, r, i = ...\n"
    "local function show(...)\n"
    "  local t = { select('#', ...) }\n"
    "  for k = 1, select('#', ...) do t[#t + 1] = math.type((select(k, ...))) or type((select(k, ...)))\n"
    "    t[#t + 1] = tostring((select(k, ...))) end\n"
    "  return table.concat(t, '\\1')\n"
    "end\n"
    "local function all(...)\n"
    "  local out = {}\n"
    "  for a, b, c in string.gmatch(...) do out[#out + 1] = show(a, b, c) end\n"
    "  return table.concat(out, '\\2')\n"
    "end\n"
    "local call = { [0] = function() return show(string.find(s, p, i)) end,\n"
    "  function() return show(string.match(s, p, i)) end,\n"
    "  function() return all(s, p, i) end,\n"
    "  function() return show(string.gsub(s, p, r)) end,\n"
    "  function() return show(string.gsub(s, p, function(a, b) if b then return b end return #a > 1 and a end, 3)) "
    "end,\n"
    "  function() return show(string.gsub(s, p, { a = 'x', ab = 1, [1] = 'one' })) end }\n"
    "return show(pcall(call[f]))\n";

typedef struct question {
  const input *in;
  char answer[65536];
  size_t size;
} question;

/* Pushes the compiled script, which the registry keeps. */
static void push_script(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, script) == LUA_TFUNCTION) return;
  if (luaL_loadbufferx(L, script, sizeof script - 1, "=x", "t") != LUA_OK) lua_error(L);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, script);
}

/* Light C function: runs the script in whichever state. */
static int ask(lua_State *L) {
  question *q = lua_touserdata(L, 1);
  push_script(L);
  lua_pushinteger(L, q->in->function);
  for (int i = 0; i < 3; i++) lua_pushlstring(L, (const char *)q->in->text[i], q->in->size[i]);
  lua_pushinteger(L, q->in->start);
  lua_call(L, 5, 1);
  const char *s = lua_tolstring(L, -1, &q->size);
  if (q->size > sizeof q->answer) q->size = sizeof q->answer;
  memcpy(q->answer, s, q->size);
  return 0;
}

static lua_State *stock(void) {
  static lua_State *L;
  if (L != NULL) return L;
  L = luaL_newstate();
  if (L == NULL) abort();
  luaL_openlibs(L);
  return L;
}

static ckpt_sandbox *ours(void) {
  static ckpt_sandbox *s;
  const ckpt_sandbox_options o = {.budget = {STEPS, 10000}};
  if (s == NULL && ckpt_sandbox_new(&s, &o, NULL) != CKPT_OK) abort();
  return s;
}

static void ask_stock(question *q) {
  lua_State *L = stock();
  lua_pushcfunction(L, ask);
  lua_pushlightuserdata(L, q);
  if (lua_pcall(L, 1, 0, 0) != LUA_OK) abort();
}

static void show(const char *who, const question *q) {
  fprintf(stderr, "%s: ", who);
  for (size_t i = 0; i < q->size; i++)
    fprintf(stderr, q->answer[i] >= ' ' && q->answer[i] < 127 ? "%c" : "\\x%02x", (unsigned char)q->answer[i]);
  fputc('\n', stderr);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static question mine, theirs;
  ckpt_error err = {.message = ""};
  input in;
  if (!read_input(&in, data, size)) return 0;
  mine.in = theirs.in = &in;
  if (ckpt_sandbox_call(ours(), ask, &mine, &err) != CKPT_OK) {
    if (strstr(err.message, "ran for more than") == NULL) fprintf(stderr, "%s\n", err.message), abort();
    return 0;
  }
  ask_stock(&theirs);
  if (mine.size == theirs.size && memcmp(mine.answer, theirs.answer, mine.size) == 0) return 0;
  fprintf(stderr, "function %d, start %d, '%.*s' with '%.*s' -> '%.*s'\n", in.function, in.start, (int)in.size[0],
          (const char *)in.text[0], (int)in.size[1], (const char *)in.text[1], (int)in.size[2],
          (const char *)in.text[2]);
  show("ours  ", &mine);
  show("Lua's ", &theirs);
  abort();
}
