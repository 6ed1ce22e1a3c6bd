/*
 * plan.c - asks the policy and turns its tables into C structures (a load plan's in plan_load.c). Everything that a
 * table can get wrong is found here, with the name of the field, before anything acts on it.
 *
 * Inside the gate C owns nothing: what is built hangs on the structure that the caller frees.
 */
#include <stdlib.h>

#include "lua_types.h"
#include "plan_read.h"
#include "value.h"

typedef struct question {
  ckpt_checkpointer *cp;
  ckpt_run_view view;
  const char *function;
  const ckpt_checkpoint *source;
  const char *file, *path, *mode;
  void *plan;
  ckpt_error err;
} question;

/* ---- candidates ---- */

static void read_candidate(lua_State *L, ckpt_candidates *out) {
  int t = lua_gettop(L);
  if (!lua_istable(L, t)) luaL_error(L, "a candidate must be a table { file =, mode = }");
  ckpt_candidate *c = ckpt_plan_grow(L, (void **)&out->items, &out->n, &out->capacity, sizeof *c);
  ckpt_plan_string(L, t, "file", &c->file);
  c->must = ckpt_plan_bool(L, t, "must", false);
  lua_getfield(L, t, "mode");
  const char *mode = lua_tostring(L, -1);
  c->resume = mode != NULL && strcmp(mode, "resume") == 0;
  if (c->file == NULL || (!c->resume && (mode == NULL || strcmp(mode, "pretrain") != 0)))
    luaL_error(L, "a candidate must have a file and the mode 'resume' or 'pretrain'");
  lua_pop(L, 1);
}

static void read_candidates(question *q, lua_State *L) {
  if (!lua_istable(L, -1)) luaL_error(L, "candidates must return a list, not %s", luaL_typename(L, -1));
  for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, -1); i <= n; i++) {
    lua_rawgeti(L, -1, i);
    read_candidate(L, q->plan);
    lua_pop(L, 1);
  }
}

/* ---- save plan ---- */

static void check_name(question *q, lua_State *L, const char *name) {
  if (name != NULL) ckpt_plan_must(L, ckpt_name_check(name, &q->err), &q->err);
  if (name != NULL && strcmp(name, CKPT_LEDGER_NAME) == 0) luaL_error(L, "'%s' is the run's ledger", name);
}

static void read_setting(lua_State *L, ckpt_save_plan *out, ckpt_slot *slot) {
  ckpt_setting *s = ckpt_plan_grow(L, (void **)&out->set, &out->n_set, &out->set_capacity, sizeof *s);
  s->slot = slot;
  switch (slot->kind) {
    case CKPT_SLOT_INT:
      if (!lua_isinteger(L, -1)) ckpt_plan_nonsense(L, slot->path, "an integer");
      s->integer = lua_tointeger(L, -1);
      break;
    case CKPT_SLOT_DOUBLE:
      if (lua_type(L, -1) != LUA_TNUMBER) ckpt_plan_nonsense(L, slot->path, "a number");
      s->number = lua_tonumber(L, -1);
      break;
    case CKPT_SLOT_BOOL:
      if (!lua_isboolean(L, -1)) ckpt_plan_nonsense(L, slot->path, "true or false");
      s->boolean = lua_toboolean(L, -1);
      break;
    default: s->string = ckpt_plan_copy(L, slot->path);
  }
}

/* The value of `set` at a slot's place: on the top, nil if the plan does not name it. */
static void push_setting(lua_State *L, int set, const ckpt_slot *slot) {
  const char *path = slot->path;
  lua_getfield(L, set, slot->group);
  for (;;) {
    const char *dot = strchr(path, '.');
    if (!lua_istable(L, -1)) {
      lua_pop(L, 1);
      lua_pushnil(L);
      return;
    }
    lua_pushlstring(L, path, dot == NULL ? strlen(path) : (size_t)(dot - path));
    lua_rawget(L, -2);
    lua_remove(L, -2);
    if (dot == NULL) return;
    path = dot + 1;
  }
}

static void read_settings(question *q, lua_State *L, int plan, ckpt_save_plan *out) {
  lua_getfield(L, plan, "set");
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    return;
  }
  if (!lua_istable(L, -1)) ckpt_plan_nonsense(L, "set", "a table of groups");
  int set = lua_gettop(L);
  for (size_t i = 0; i < q->cp->n_slots; i++) {
    if (q->cp->slots[i]->kind == CKPT_SLOT_TENSOR) continue;
    push_setting(L, set, q->cp->slots[i]);
    if (!lua_isnil(L, -1)) read_setting(L, out, q->cp->slots[i]);
    lua_settop(L, set);
  }
  lua_pop(L, 1);
}

static void read_extra(question *q, lua_State *L, int plan, ckpt_save_plan *out) {
  lua_getfield(L, plan, "extra");
  if (!lua_isnil(L, -1)) {
    if (!lua_istable(L, -1)) ckpt_plan_nonsense(L, "extra", "a table");
    size_t limit = ckpt_sandbox_expect_document(L);
    ckpt_plan_must(L, ckpt_document_make(&out->extra, limit, &q->err), &q->err);
    ckpt_value *root = ckpt_lua_to_value(L, -1, out->extra);
    if (ckpt_value_kind(root) != CKPT_DICT && ckpt_value_count(root) > 0)
      luaL_error(L, "the plan's 'extra' must be a dict");
    ckpt_document_set_root(out->extra, root);
  }
  lua_pop(L, 1);
}

/* A plan that removes what it writes, or names a file twice, is nonsense: the save must not depend on an order. */
static void check_save_plan(question *q, lua_State *L, const ckpt_save_plan *p) {
  check_name(q, L, p->file);
  for (size_t i = 0; i < p->aliases.n; i++) {
    check_name(q, L, p->aliases.items[i]);
    if (p->file == NULL || strcmp(p->file, p->aliases.items[i]) == 0)
      luaL_error(L, "the plan's alias '%s' needs a file of another name", p->aliases.items[i]);
  }
  for (size_t i = 0; i < p->retire.n; i++) {
    const char *name = p->retire.items[i];
    check_name(q, L, name);
    if (p->file == NULL || strcmp(name, p->file) == 0 || ckpt_strings_has(&p->aliases, name))
      luaL_error(L, "the plan retires '%s', which it does not replace by a new file", name);
  }
}

static void read_save_plan(question *q, lua_State *L) {
  ckpt_save_plan *out = q->plan;
  int plan = lua_gettop(L);
  if (!lua_istable(L, plan)) luaL_error(L, "%s must return a table, not %s", q->function, luaL_typename(L, plan));
  ckpt_plan_string(L, plan, "file", &out->file);
  ckpt_plan_string(L, plan, "reason", &out->reason);
  out->reuse = ckpt_plan_bool(L, plan, "reuse", false);
  out->async = ckpt_plan_bool(L, plan, "async", false);
  out->recycle = ckpt_plan_bool(L, plan, "recycle", false);
  out->result = ckpt_plan_bool(L, plan, "result", false);
  out->no_ledger = !ckpt_plan_bool(L, plan, "ledger", true);
  ckpt_plan_strings(L, plan, "aliases", &out->aliases);
  ckpt_plan_strings(L, plan, "retire", &out->retire);
  ckpt_plan_strings(L, plan, "why", &out->why);
  ckpt_plan_strings(L, plan, "log", &out->log);
  lua_getfield(L, plan, "parts");
  out->all_parts = lua_isnil(L, -1);
  lua_pop(L, 1);
  ckpt_plan_strings(L, plan, "parts", &out->parts);
  read_settings(q, L, plan, out);
  read_extra(q, L, plan, out);
  check_save_plan(q, L, out);
}

/* ---- asking ---- */

/* Pushes policy[name], and below it the policy. */
static void push_function(lua_State *L, const ckpt_checkpointer *cp, const char *name) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, cp->policy_ref);
  lua_getfield(L, -1, name);
  if (!lua_isfunction(L, -1)) luaL_error(L, "the policy's '%s' must be a function, not %s", name, luaL_typename(L, -1));
  lua_insert(L, -2);
}

static int ask_candidates(lua_State *L) {
  question *q = lua_touserdata(L, 1);
  push_function(L, q->cp, q->function);
  ckpt_push_run(L, q->cp, &q->view);
  lua_call(L, 2, 1);
  read_candidates(q, L);
  return 0;
}

static int ask_load(lua_State *L) {
  question *q = lua_touserdata(L, 1);
  push_function(L, q->cp, q->function);
  ckpt_push_run(L, q->cp, &q->view);
  ckpt_push_source(L, q->source, q->file, q->path, q->mode);
  lua_call(L, 3, 1);
  ckpt_plan_read_load(L, q->plan);
  return 0;
}

static int ask_save(lua_State *L) {
  question *q = lua_touserdata(L, 1);
  push_function(L, q->cp, q->function);
  ckpt_push_run(L, q->cp, &q->view);
  lua_call(L, 2, 1);
  read_save_plan(q, L);
  return 0;
}

static ckpt_status ask(question *q, lua_CFunction how, ckpt_error *err) {
  CKPT_TRY(ckpt_read_rules(q->cp, err));
  CKPT_TRY(ckpt_run_view_read(&q->view, q->cp, err));
  const ckpt_sandbox_budget *budget = how == ask_load ? &q->cp->load_budget : NULL;
  ckpt_status st = ckpt_sandbox_call_with(q->cp->sandbox, budget, how, q, err);
  ckpt_close_source(ckpt_sandbox_state(q->cp->sandbox));
  ckpt_run_view_free(&q->view);
  return st;
}

ckpt_status ckpt_plan_candidates(ckpt_candidates *out, ckpt_checkpointer *cp, ckpt_error *err) {
  ckpt_candidates plan = {0};
  question q = {.cp = cp, .function = "candidates", .plan = &plan};
  ckpt_status st = ask(&q, ask_candidates, err);
  if (st == CKPT_OK)
    *out = plan;
  else
    ckpt_candidates_free(&plan);
  return st;
}

ckpt_status ckpt_plan_load(ckpt_load_plan *out, ckpt_checkpointer *cp, const ckpt_checkpoint *source, const char *file,
                           const char *path, const char *mode, ckpt_error *err) {
  ckpt_load_plan plan = {0};
  question q = {
      .cp = cp, .function = "plan_load", .source = source, .file = file, .path = path, .mode = mode, .plan = &plan};
  ckpt_status st = ask(&q, ask_load, err);
  if (st == CKPT_OK)
    *out = plan;
  else
    ckpt_load_plan_free(&plan);
  return st;
}

ckpt_status ckpt_plan_save(ckpt_save_plan *out, ckpt_checkpointer *cp, bool best, ckpt_error *err) {
  ckpt_save_plan plan = {0};
  question q = {.cp = cp, .function = best ? "plan_best" : "plan_save", .plan = &plan};
  ckpt_status st = ask(&q, ask_save, err);
  if (st == CKPT_OK)
    *out = plan;
  else
    ckpt_save_plan_free(&plan);
  return st;
}

/* ---- freeing ---- */

void ckpt_candidates_free(ckpt_candidates *c) {
  for (size_t i = 0; i < c->n; i++) free(c->items[i].file);
  free(c->items);
  *c = (ckpt_candidates){0};
}

void ckpt_save_plan_free(ckpt_save_plan *p) {
  for (size_t i = 0; i < p->n_set; i++) free(p->set[i].string);
  free(p->set);
  free(p->file);
  free(p->reason);
  ckpt_strings_free(&p->aliases);
  ckpt_strings_free(&p->retire);
  ckpt_strings_free(&p->why);
  ckpt_strings_free(&p->parts);
  ckpt_strings_free(&p->log);
  ckpt_document_release(p->extra);
  *p = (ckpt_save_plan){0};
}
