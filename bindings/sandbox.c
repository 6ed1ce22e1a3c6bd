/* sandbox.c - the Lua state of a policy: its life and the gate (see sandbox.h). */
#include "sandbox_inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../runtime/base.h"

static const struct ckpt_embedded no_embedded[] = {{NULL, NULL, 0}};

ckpt_sandbox *ckpt_sandbox_of(lua_State *L) {
  ckpt_sandbox *s;
  memcpy(&s, lua_getextraspace(L), sizeof s);
  return s;
}

lua_State *ckpt_sandbox_state(ckpt_sandbox *s) { return s->L; }
int64_t ckpt_sandbox_memory(const ckpt_sandbox *s) { return (int64_t)s->used; }
uint64_t ckpt_sandbox_steps(const ckpt_sandbox *s) { return s->last; }
bool ckpt_sandbox_exhausted(lua_State *L) { return ckpt_sandbox_of(L)->exhausted; }
size_t ckpt_sandbox_memory_limit(lua_State *L) { return ckpt_sandbox_of(L)->memory_limit; }
const char *ckpt_sandbox_base_dir(const ckpt_sandbox *s) { return s->base_dir; }
const struct ckpt_embedded *ckpt_sandbox_embedded(const ckpt_sandbox *s) { return s->embedded; }
void ckpt_sandbox_push_env(lua_State *L) { lua_pushglobaltable(L); }

/* A long path keeps its end. */
void ckpt_sandbox_set_name(ckpt_sandbox *s, const char *name) {
  size_t size = strlen(name), room = sizeof s->name - 4;
  if (size < sizeof s->name)
    memcpy(s->name, name, size + 1);
  else
    snprintf(s->name, sizeof s->name, "...%s", name + size - room);
}

/* The host's function runs in the host's locale. A log is no disk to fill. */
void ckpt_sandbox_print(lua_State *L, const char *line) {
  ckpt_sandbox *s = ckpt_sandbox_of(L);
  if (s->print == NULL || s->printed > CKPT_SANDBOX_LINES) return;
  locale_t here = uselocale(s->host_locale);
  s->print(s->user, s->printed < CKPT_SANDBOX_LINES ? line : "... the policy prints more: dropped");
  s->printed++;
  uselocale(here);
}

/* ---- The gate ---------------------------------------------------------------------------------------- */

/* Message handler: leaves the value alone, since an error of any type may have no place of its own. */
static int on_error(lua_State *L) {
  ckpt_sandbox *s = ckpt_sandbox_of(L);
  if (!s->exhausted) ckpt_sandbox_note_place(L, s);
  return 1;
}

static void begin(ckpt_sandbox *s, const ckpt_sandbox_budget *budget) {
  if (s->depth++ > 0) return;
  s->host_locale = uselocale(s->c_locale);
  ckpt_sandbox_refill(s, budget);
}

static void end(ckpt_sandbox *s) {
  if (--s->depth > 0) return;
  ckpt_sandbox_unfill(s);
  uselocale(s->host_locale);
}

static ckpt_status enter(ckpt_sandbox *s, const ckpt_sandbox_budget *budget, lua_CFunction fn, void *arg,
                         ckpt_error *err) {
  lua_State *L = s->L;
  if (!lua_checkstack(L, 8)) return ckpt_fail(err, CKPT_E_NOMEM, -1, "%s: the Lua stack cannot grow", s->name);
  int top = lua_gettop(L);
  begin(s, budget);
  lua_pushcfunction(L, on_error);
  lua_pushcfunction(L, fn);
  lua_pushlightuserdata(L, arg);
  int status = lua_pcall(L, 1, 0, top + 1);
  ckpt_status st = status == LUA_OK ? CKPT_OK : ckpt_sandbox_fail(s, status, err);
  lua_settop(L, top);
  end(s);
  return st;
}

ckpt_status ckpt_sandbox_call(ckpt_sandbox *s, lua_CFunction fn, void *arg, ckpt_error *err) {
  return enter(s, &s->limits, fn, arg, err);
}

static void fill_budget(ckpt_sandbox_budget *out, const ckpt_sandbox_budget *given) {
  out->steps = given->steps != 0 ? given->steps : CKPT_SANDBOX_STEPS;
  out->deadline = given->deadline != 0 ? given->deadline : CKPT_SANDBOX_DEADLINE;
  if (out->deadline > INT64_MAX / 2000000) out->deadline = INT64_MAX / 2000000;
}

ckpt_status ckpt_sandbox_call_with(ckpt_sandbox *s, const ckpt_sandbox_budget *budget, lua_CFunction fn, void *arg,
                                   ckpt_error *err) {
  ckpt_sandbox_budget full = s->limits;
  if (budget != NULL) fill_budget(&full, budget);
  return enter(s, &full, fn, arg, err);
}

/* ---- Life -------------------------------------------------------------------------------------------- */

/* Reached only if something raises outside of the gate, which is a bug of the host: Lua aborts after this. */
static int on_panic(lua_State *L) {
  const ckpt_sandbox *s = ckpt_sandbox_of(L);
  if (s->print != NULL) s->print(s->user, "panic: a Lua error was raised outside of the sandbox's gate");
  return 0;
}

static int build(lua_State *L) {
  ckpt_sandbox_open_libs(L);
  return 0;
}

static ckpt_status fill_options(ckpt_sandbox *s, const ckpt_sandbox_options *o, ckpt_error *err) {
  s->memory_limit = o->memory_limit != 0 ? o->memory_limit : CKPT_SANDBOX_MEMORY;
  fill_budget(&s->limits, &o->budget);
  s->embedded = o->embedded != NULL ? o->embedded : no_embedded;
  s->print = o->print;
  s->user = o->user;
  s->left = UINT64_MAX;
  s->mark = s->string_mark = 1;
  s->c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
  if (s->c_locale == (locale_t)0) return ckpt_fail_nomem(err, sizeof *s);
  ckpt_sandbox_set_name(s, "policy");
  if (o->base_dir == NULL) return CKPT_OK;
  if (strlen(o->base_dir) >= CKPT_SANDBOX_PATH)
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "the policy's directory has a path of more than %d bytes",
                     CKPT_SANDBOX_PATH);
  const char *dir = o->base_dir[0] != '\0' ? o->base_dir : ".";
  s->base_dir = malloc(strlen(dir) + 1);
  if (s->base_dir == NULL) return ckpt_fail_nomem(err, strlen(dir) + 1);
  memcpy(s->base_dir, dir, strlen(dir) + 1);
  return CKPT_OK;
}

static ckpt_status start(ckpt_sandbox *s, ckpt_error *err) {
  static const ckpt_sandbox_budget own = {UINT64_MAX, INT64_MAX / 2000000};
  lua_State *L = lua_newstate(ckpt_sandbox_allocate, s);
  if (L == NULL) return ckpt_sandbox_fail_new(s, CKPT_OK, err);
  s->L = L;
  memcpy(lua_getextraspace(L), &s, sizeof s);
  lua_atpanic(L, on_panic);
  ckpt_status st = enter(s, &own, build, NULL, err);
  return st == CKPT_OK ? st : ckpt_sandbox_fail_new(s, st, err);
}

ckpt_status ckpt_sandbox_new(ckpt_sandbox **out, const ckpt_sandbox_options *options, ckpt_error *err) {
  ckpt_sandbox *s = calloc(1, sizeof *s);
  if (s == NULL) return ckpt_fail_nomem(err, sizeof *s);
  ckpt_status st = fill_options(s, options, err);
  if (st == CKPT_OK) st = start(s, err);
  if (st != CKPT_OK) {
    ckpt_sandbox_free(s);
    return st;
  }
  *out = s;
  return CKPT_OK;
}

void ckpt_sandbox_free(ckpt_sandbox *s) {
  if (s == NULL) return;
  if (s->L != NULL) lua_close(s->L);
  if (s->c_locale != (locale_t)0) freelocale(s->c_locale);
  free(s->base_dir);
  free(s);
}
