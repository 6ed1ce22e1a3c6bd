/*
 * sandbox_find.c - string.find, match, gmatch and gsub over pattern.c. Arguments and results are Lua's own; a search
 * charges what the matcher counts, a plain find the bytes it reads.
 */
#include <string.h>

#include "pattern.h"
#include "sandbox_inside.h"

typedef struct text {
  const char *s, *p; /* subject and pattern */
  size_t n, size;
} text;

static text check_text(lua_State *L) {
  text t;
  t.s = luaL_checklstring(L, 1, &t.n);
  t.p = luaL_checklstring(L, 2, &t.size);
  ckpt_sandbox_charge(L, 1 + t.size / CKPT_SANDBOX_BYTES_PER_STEP);
  return t;
}

/* Index (from 0) of the place that argument `arg` names, which may lie behind a subject of n bytes. */
static size_t start_of(lua_State *L, int arg, size_t n) {
  lua_Integer init = luaL_optinteger(L, arg, 1);
  if (init > 0) return (size_t)(init - 1);
  return init == 0 || init < -(lua_Integer)n ? 0 : n - (size_t)-init;
}

static bool is_plain(const char *p, size_t size) {
  for (size_t i = 0; i < size; i++)
    if (p[i] != '\0' && strchr("^$*+?.([%-", p[i]) != NULL) return false;
  return true;
}

static int push_none(lua_State *L) {
  luaL_pushfail(L);
  return 1;
}

/* memmem is linear; the standard library's search is not. */
static int find_plain(lua_State *L, const text *t, size_t start) {
  ckpt_sandbox_charge(L, (t->n - start + t->size) / CKPT_SANDBOX_BYTES_PER_STEP);
  const char *at = memmem(t->s + start, t->n - start, t->p, t->size);
  if (at == NULL) return push_none(L);
  lua_pushinteger(L, at - t->s + 1);
  lua_pushinteger(L, at - t->s + (lua_Integer)t->size);
  return 2;
}

static int search(lua_State *L, bool find) {
  text t = check_text(L);
  size_t start = start_of(L, 3, t.n);
  if (start > t.n) return push_none(L);
  if (find && (lua_toboolean(L, 4) || is_plain(t.p, t.size))) return find_plain(L, &t, start);
  ckpt_matcher m;
  const char *s = t.s + start;
  ckpt_matcher_init(&m, L, t.s, t.n, t.p, t.size);
  const char *e = t.size > 0 && *t.p == '^' ? ckpt_matcher_at(&m, s, t.p + 1) : ckpt_matcher_from(&m, &s, t.p);
  ckpt_matcher_settle(&m);
  if (e == NULL) return push_none(L);
  if (!find) return ckpt_matcher_push_all(&m, s, e);
  lua_pushinteger(L, s - t.s + 1);
  lua_pushinteger(L, e - t.s);
  return 2 + ckpt_matcher_push_all(&m, NULL, NULL);
}

int ckpt_sandbox_find(lua_State *L) { return search(L, true); }
int ckpt_sandbox_match(lua_State *L) { return search(L, false); }

/* ---- gmatch ------------------------------------------------------------------------------------------ */

/* Upvalues: subject, pattern, where to search from, where the last match ended (-1: nowhere). */
static int next_match(lua_State *L) {
  size_t n, size;
  const char *subject = lua_tolstring(L, lua_upvalueindex(1), &n);
  const char *pattern = lua_tolstring(L, lua_upvalueindex(2), &size), *e = NULL;
  lua_Integer start = lua_tointeger(L, lua_upvalueindex(3)), last = lua_tointeger(L, lua_upvalueindex(4));
  ckpt_matcher m;
  ckpt_sandbox_charge(L, 1);
  ckpt_matcher_init(&m, L, subject, n, pattern, size);
  for (const char *s = subject + start; s <= m.subject_end; s++) {
    e = ckpt_matcher_from(&m, &s, pattern);
    if (e == NULL) break;
    if (e - subject == last) continue;
    ckpt_matcher_settle(&m);
    lua_pushinteger(L, e - subject);
    lua_copy(L, -1, lua_upvalueindex(3));
    lua_replace(L, lua_upvalueindex(4));
    return ckpt_matcher_push_all(&m, s, e);
  }
  ckpt_matcher_settle(&m);
  return 0;
}

int ckpt_sandbox_gmatch(lua_State *L) {
  text t = check_text(L);
  size_t start = start_of(L, 3, t.n);
  lua_settop(L, 2);
  lua_pushinteger(L, start > t.n ? (lua_Integer)t.n + 1 : (lua_Integer)start);
  lua_pushinteger(L, -1);
  lua_pushcclosure(L, next_match, 4);
  return 1;
}

/* ---- gsub -------------------------------------------------------------------------------------------- */

/* A string with %0 to %9 and %%. */
static void add_template(ckpt_matcher *m, luaL_Buffer *b, const char *s, const char *e) {
  lua_State *L = m->L;
  size_t n;
  const char *t = lua_tolstring(L, 3, &n), *end = t + n;
  for (const char *at; (at = memchr(t, '%', (size_t)(end - t))) != NULL; t = at + 2) {
    luaL_addlstring(b, t, (size_t)(at - t));
    char c = at[1];
    m->steps += 8;
    if (c == '%') {
      luaL_addchar(b, '%');
    } else if (c == '0') {
      luaL_addlstring(b, s, (size_t)(e - s));
    } else if (c >= '1' && c <= '9') {
      ckpt_matcher_push(m, c - '1', s, e);
      luaL_addvalue(b);
    } else {
      luaL_error(L, "invalid use of '%c' in replacement string", '%');
    }
  }
  luaL_addlstring(b, t, (size_t)(end - t));
}

/* Pushes what the function or table at 3 gives for the match. */
static void push_replacement(ckpt_matcher *m, const char *s, const char *e) {
  lua_State *L = m->L;
  if (lua_type(L, 3) == LUA_TFUNCTION) {
    lua_pushvalue(L, 3);
    lua_call(L, ckpt_matcher_push_all(m, s, e), 1);
  } else {
    ckpt_matcher_push(m, 0, s, e);
    lua_gettable(L, 3);
  }
}

/* Adds what stands for the match [s, e); false: the match itself. */
static bool add_match(ckpt_matcher *m, luaL_Buffer *b, const char *s, const char *e) {
  lua_State *L = m->L;
  if (lua_isstring(L, 3)) {
    add_template(m, b, s, e);
    return true;
  }
  push_replacement(m, s, e);
  if (!lua_toboolean(L, -1)) {
    lua_pop(L, 1);
    luaL_addlstring(b, s, (size_t)(e - s));
    return false;
  }
  if (!lua_isstring(L, -1)) luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
  luaL_addvalue(b);
  return true;
}

/* Replaces up to `most` matches; how many. *changed: whether any replacement was more than the match itself. */
static lua_Integer replace(ckpt_matcher *m, luaL_Buffer *b, const char **at, const char *pattern, lua_Integer most,
                           bool *changed) {
  bool anchored = pattern != m->pattern_end && *pattern == '^';
  const char *s = *at, *last = NULL;
  lua_Integer n = 0;
  pattern += anchored ? 1 : 0;
  while (n < most) {
    const char *e = ckpt_matcher_at(m, s, pattern);
    if (e != NULL && e != last) {
      n++;
      m->steps += 8;
      ckpt_matcher_settle(m);
      if (add_match(m, b, s, e)) *changed = true;
      s = last = e;
    } else if (s < m->subject_end) {
      luaL_addchar(b, *s++);
    } else {
      break;
    }
    if (anchored) break;
  }
  ckpt_matcher_settle(m);
  *at = s;
  return n;
}

int ckpt_sandbox_gsub(lua_State *L) {
  text t = check_text(L);
  int type = lua_type(L, 3);
  lua_Integer most = luaL_optinteger(L, 4, (lua_Integer)t.n + 1);
  luaL_argexpected(L, type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION || type == LUA_TTABLE, 3,
                   "string/function/table");
  luaL_Buffer b;
  ckpt_matcher m;
  const char *s = t.s;
  bool changed = false;
  luaL_buffinit(L, &b);
  ckpt_matcher_init(&m, L, t.s, t.n, t.p, t.size);
  lua_Integer n = replace(&m, &b, &s, t.p, most, &changed);
  if (changed) {
    luaL_addlstring(&b, s, (size_t)(m.subject_end - s));
    luaL_pushresult(&b);
  } else {
    lua_pushvalue(L, 1);
  }
  lua_pushinteger(L, n);
  return 2;
}
