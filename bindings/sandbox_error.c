/* sandbox_error.c - the sentence for a policy that failed or was stopped (see sandbox.h). */
#include <stdio.h>
#include <string.h>

#include "../runtime/base.h"
#include "sandbox_inside.h"

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

static ckpt_status fail_budget(const ckpt_sandbox *s, ckpt_error *err) {
  char amount[32];
  if (s->colliding)
    return ckpt_fail(err, CKPT_E_POLICY, -1, "%s: numbers chosen as keys of a table make it slow: stopped",
                     place_of(s));
  group_digits(amount, sizeof amount, s->late ? s->current.deadline : s->current.steps);
  return ckpt_fail(err, CKPT_E_POLICY, -1,
                   s->late ? "%s: ran for more than %s ms: stopped" : "%s: ran for more than %s steps: stopped",
                   place_of(s), amount);
}

static ckpt_status fail_memory(const ckpt_sandbox *s, ckpt_error *err) {
  if (!s->refused) return ckpt_fail(err, CKPT_E_NOMEM, -1, "%s: out of memory", s->name);
  char limit[32], string[32];
  memory_text(limit, sizeof limit, s->memory_limit);
  memory_text(string, sizeof string, CKPT_SANDBOX_STRING);
  return ckpt_fail(err, CKPT_E_POLICY, -1, "%s: used more than %s of memory (%s for one string): stopped", s->name,
                   limit, string);
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
ckpt_status ckpt_sandbox_fail(ckpt_sandbox *s, int status, ckpt_error *err) {
  bool memory = status == LUA_ERRMEM || ckpt_sandbox_is_memory_mark(s->L, -1);
  if (memory && !s->stopped && !s->colliding) return fail_memory(s, err);
  const char *text = s->exhausted ? "" : error_text(s->L);
  return s->exhausted ? fail_budget(s, err) : fail_text(s, text, err);
}

ckpt_status ckpt_sandbox_fail_new(const ckpt_sandbox *s, ckpt_status st, ckpt_error *err) {
  if (!s->refused) return st == CKPT_OK || st == CKPT_E_NOMEM ? ckpt_fail_nomem(err, sizeof *s) : st;
  char limit[32];
  memory_text(limit, sizeof limit, s->memory_limit);
  return ckpt_fail(err, CKPT_E_LIMIT, -1, "an empty policy environment does not fit into %s of memory", limit);
}
