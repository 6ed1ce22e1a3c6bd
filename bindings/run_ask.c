/*
 * run_ask.c - further questions to the policy: is a save due, which files are kept or best, what may go.
 *
 * Inside the gate C owns nothing: what is built hangs on the question.
 */
#include <lauxlib.h>
#include <stdlib.h>

#include "run.h"

typedef struct question {
  ckpt_checkpointer *cp;
  ckpt_run_view view;
  const char *function;
  bool due;
  ckpt_strings *rows;   /* of ask_files */
  ckpt_save_plan *plan; /* of ask_prune */
  ckpt_strings text;    /* of ask_due */
  ckpt_error err;
} question;

static void add(question *q, lua_State *L, ckpt_strings *list, const char *text) {
  ckpt_sandbox_copy_out(L, strlen(text) + sizeof(char *));
  if (ckpt_strings_add(list, text, strlen(text), &q->err) != CKPT_OK) luaL_error(L, "%s", q->err.message);
}

/* Pushes policy[name], and above it the policy. */
static void push_function(lua_State *L, const question *q) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, q->cp->policy_ref);
  lua_getfield(L, -1, q->function);
  if (!lua_isfunction(L, -1))
    luaL_error(L, "the policy's '%s' must be a function, not %s", q->function, luaL_typename(L, -1));
  lua_insert(L, -2);
}

static ckpt_status ask(question *q, lua_CFunction how, ckpt_error *err) {
  CKPT_TRY(ckpt_run_view_read(&q->view, q->cp, err));
  ckpt_status st = ckpt_sandbox_call(q->cp->sandbox, how, q, err);
  ckpt_run_view_free(&q->view);
  return st;
}

/* ---- due ---- */

static int ask_due(lua_State *L) {
  question *q = lua_touserdata(L, 1);
  push_function(L, q);
  ckpt_push_moment(L, q->cp, q->view.ledger);
  lua_call(L, 2, 2);
  if (!lua_isboolean(L, -2)) return luaL_error(L, "due must return true or false, not %s", luaL_typename(L, -2));
  q->due = lua_toboolean(L, -2);
  if (lua_type(L, -1) == LUA_TSTRING) add(q, L, &q->text, lua_tostring(L, -1));
  return 0;
}

ckpt_status ckpt_ask_due(bool *due, char **why, ckpt_checkpointer *cp, ckpt_error *err) {
  question q = {.cp = cp, .function = "due"};
  CKPT_TRY(ckpt_run_ledger(&q.view.ledger, cp, err));
  ckpt_status st = ckpt_sandbox_call(cp->sandbox, ask_due, &q, err);
  if (st == CKPT_OK) *due = q.due;
  if (st == CKPT_OK && why != NULL && q.text.n > 0) {
    *why = q.text.items[0];
    q.text.n = 0; /* it is the caller's */
  }
  ckpt_strings_free(&q.text);
  return st;
}

/* ---- files and reasons ---- */

/* The reasons on the top, joined by commas. */
static const char *push_joined(lua_State *L, const char *function) {
  luaL_Buffer b;
  int reasons = lua_gettop(L);
  if (!lua_istable(L, reasons)) luaL_error(L, "%s: the reasons of a file must be a list", function);
  luaL_buffinit(L, &b);
  for (lua_Integer k = 1, n = (lua_Integer)lua_rawlen(L, reasons); k <= n; k++) {
    ckpt_sandbox_charge(L, 1);
    if (k > 1) luaL_addstring(&b, ", ");
    lua_rawgeti(L, reasons, k);
    if (!lua_isstring(L, -1)) luaL_error(L, "%s: a reason must be a string, not %s", function, luaL_typename(L, -1));
    luaL_addvalue(&b);
  }
  luaL_pushresult(&b);
  return lua_tostring(L, -1);
}

static int ask_files(lua_State *L) {
  question *q = lua_touserdata(L, 1);
  push_function(L, q);
  ckpt_push_run(L, q->cp, &q->view);
  lua_call(L, 2, 1);
  if (!lua_istable(L, -1)) return luaL_error(L, "%s must return a list, not %s", q->function, luaL_typename(L, -1));
  int list = lua_gettop(L);
  for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, list); i <= n; i++) {
    lua_rawgeti(L, list, i);
    if (!lua_istable(L, -1)) return luaL_error(L, "%s: an entry must be a table { file =, reasons = }", q->function);
    if (lua_getfield(L, -1, "file") != LUA_TSTRING) return luaL_error(L, "%s: an entry must have a file", q->function);
    const char *file = lua_tostring(L, -1);
    lua_getfield(L, -2, "reasons");
    const char *why = push_joined(L, q->function);
    add(q, L, q->rows, file);
    add(q, L, q->rows, why);
    lua_settop(L, list);
  }
  return 0;
}

ckpt_status ckpt_ask_files(ckpt_strings *rows, ckpt_checkpointer *cp, const char *function, ckpt_error *err) {
  question q = {.cp = cp, .function = function, .rows = rows};
  ckpt_begin_call(cp);
  return ask(&q, ask_files, err);
}

/* ---- prune ---- */

static void read_list(question *q, lua_State *L, const char *field, ckpt_strings *out) {
  if (lua_getfield(L, -1, field) != LUA_TNIL && !lua_istable(L, -1))
    luaL_error(L, "the plan's '%s' must be a list, not %s", field, luaL_typename(L, -1));
  for (lua_Integer i = 1, n = lua_isnil(L, -1) ? 0 : (lua_Integer)lua_rawlen(L, -1); i <= n; i++) {
    if (lua_rawgeti(L, -1, i) != LUA_TSTRING) luaL_error(L, "the plan's '%s' must be a list of strings", field);
    add(q, L, out, lua_tostring(L, -1));
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

static int ask_prune(lua_State *L) {
  question *q = lua_touserdata(L, 1);
  push_function(L, q);
  ckpt_push_run(L, q->cp, &q->view);
  lua_call(L, 2, 1);
  if (!lua_istable(L, -1)) return luaL_error(L, "plan_prune must return a table, not %s", luaL_typename(L, -1));
  read_list(q, L, "retire", &q->plan->retire);
  read_list(q, L, "why", &q->plan->why);
  for (size_t i = 0; i < q->plan->retire.n; i++) {
    const char *name = q->plan->retire.items[i];
    if (ckpt_name_check(name, &q->err) != CKPT_OK) luaL_error(L, "%s", q->err.message);
    if (strcmp(name, CKPT_LEDGER_NAME) == 0) luaL_error(L, "'%s' is the run's ledger", name);
  }
  return 0;
}

ckpt_status ckpt_ask_prune(ckpt_save_plan *plan, ckpt_checkpointer *cp, ckpt_error *err) {
  question q = {.cp = cp, .function = "plan_prune", .plan = plan};
  ckpt_begin_call(cp);
  ckpt_status st = ask(&q, ask_prune, err);
  if (st != CKPT_OK) ckpt_save_plan_free(plan);
  return st;
}
