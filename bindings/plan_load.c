/*
 * plan_load.c - the policy's answer to plan_load as a C structure. What a load needs is checked strictly; what only the
 * report shows (rule, note, unfilled, dropped, suggestions) is optional, so that a policy of ten lines need not say it.
 */
#include <stdlib.h>

#include "expr.h"
#include "plan_read.h"

/* ---- assignments ---- */

/* { "index_select", 1, { 2, 1, 0 } } on the top, as an expression of what is below it; that goes. */
static void wrap(lua_State *L, const char *to) {
  if (!lua_istable(L, -1)) luaL_error(L, "assignment to '%s': an operation must be a table { name, ... }", to);
  int op = lua_gettop(L), n = (int)lua_rawlen(L, op);
  luaL_checkstack(L, 4, "operations");
  lua_createtable(L, n, 1);
  for (int i = 1; i <= n; i++) {
    lua_rawgeti(L, op, i);
    lua_rawseti(L, -2, i);
  }
  lua_pushvalue(L, op - 1);
  lua_setfield(L, -2, "of");
  lua_replace(L, op - 1);
  lua_settop(L, op - 1);
}

/* Pushes the assignment's expression: `expr`, or `from` under its `ops`. False: nothing is to be done to `from`. */
static bool push_expression(lua_State *L, int t, const char *to) {
  if (lua_getfield(L, t, "expr") != LUA_TNIL) return lua_type(L, -1) != LUA_TSTRING;
  lua_pop(L, 1);
  if (lua_getfield(L, t, "from") != LUA_TSTRING) luaL_error(L, "an assignment must have 'to' and 'from'");
  lua_Integer n = ckpt_plan_list(L, t, "ops");
  int list = lua_gettop(L);
  lua_pushvalue(L, list - 1);
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, list, i);
    wrap(L, to);
  }
  return n > 0;
}

typedef struct sources {
  ckpt_strings *list;
  ckpt_error err;
  ckpt_status st;
} sources;

static void add_source(void *context, const char *key) {
  sources *s = context;
  if (s->st == CKPT_OK && !ckpt_strings_has(s->list, key)) s->st = ckpt_strings_add(s->list, key, strlen(key), &s->err);
}

static void read_assignment(lua_State *L, ckpt_load_plan *out) {
  ckpt_error err;
  int t = lua_gettop(L);
  if (!lua_istable(L, t)) luaL_error(L, "an assignment must be a table { to =, from = }");
  ckpt_assignment *a = ckpt_plan_grow(L, (void **)&out->assign, &out->n_assign, &out->assign_capacity, sizeof *a);
  sources s = {.list = &a->sources, .st = CKPT_OK};
  ckpt_plan_string(L, t, "to", &a->to);
  if (a->to == NULL) luaL_error(L, "an assignment must have 'to' and 'from'");
  ckpt_plan_string(L, t, "rule", &a->rule);
  ckpt_plan_string(L, t, "note", &a->note);
  a->overlap = ckpt_plan_bool(L, t, "overlap", false);
  if (push_expression(L, t, a->to)) {
    if (ckpt_lua_read_expr(&a->expr, L, -1, &err) != CKPT_OK)
      luaL_error(L, "assignment to '%s': %s", a->to, err.message);
    ckpt_sandbox_copy_out(L, a->expr->nodes * sizeof(ckpt_expr_node) + a->expr->integers * sizeof(int64_t));
    ckpt_expr_keys(a->expr, add_source, &s);
  } else {
    add_source(&s, lua_tostring(L, -1));
  }
  ckpt_plan_must(L, s.st, &s.err);
}

static void read_group_source(lua_State *L, ckpt_load_plan *out) {
  int t = lua_gettop(L);
  if (!lua_istable(L, t)) luaL_error(L, "an entry of 'values' must be a table { group =, from = }");
  ckpt_group_source *g = ckpt_plan_grow(L, (void **)&out->values, &out->n_values, &out->value_capacity, sizeof *g);
  ckpt_plan_string(L, t, "group", &g->group);
  ckpt_plan_string(L, t, "from", &g->from);
  if (g->group == NULL || g->from == NULL) luaL_error(L, "an entry of 'values' must have 'group' and 'from'");
}

/* ---- what the report shows ---- */

static const char *const statuses[] = {"matched", "partial", "missing", "mismatched", "colliding", "reset"};

static ckpt_load_status read_status(lua_State *L, int t, const char *to) {
  lua_getfield(L, t, "status");
  const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "missing";
  for (int i = CKPT_LOAD_MISSING; i <= CKPT_LOAD_RESET; i++)
    if (strcmp(text, statuses[i]) == 0) {
      lua_pop(L, 1);
      return (ckpt_load_status)i;
    }
  luaL_error(L, "unfilled '%s': '%s' is no status; known: missing, mismatched, colliding, reset", to, text);
  return CKPT_LOAD_MISSING;
}

static void read_unfilled(lua_State *L, ckpt_load_plan *out) {
  int t = lua_gettop(L);
  if (!lua_istable(L, t)) luaL_error(L, "an entry of 'unfilled' must be a table { to =, status = }");
  ckpt_unfilled *u = ckpt_plan_grow(L, (void **)&out->unfilled, &out->n_unfilled, &out->unfilled_capacity, sizeof *u);
  ckpt_plan_string(L, t, "to", &u->to);
  if (u->to == NULL) luaL_error(L, "an entry of 'unfilled' must have 'to'");
  ckpt_plan_string(L, t, "from", &u->from);
  ckpt_plan_string(L, t, "rule", &u->rule);
  ckpt_plan_string(L, t, "note", &u->note);
  u->status = read_status(L, t, u->to);
}

static void add_text(lua_State *L, ckpt_strings *out, const char *text) {
  ckpt_error err;
  ckpt_plan_must(L, ckpt_strings_add(out, text, strlen(text), &err), &err);
}

static void read_dropped(lua_State *L, ckpt_load_plan *out) {
  int t = lua_gettop(L);
  if (!lua_istable(L, t)) luaL_error(L, "an entry of 'dropped' must be a table { from =, rule = }");
  lua_getfield(L, t, "from");
  lua_getfield(L, t, "rule");
  const char *from = lua_tostring(L, -2), *rule = lua_tostring(L, -1);
  if (from == NULL) luaL_error(L, "an entry of 'dropped' must have 'from'");
  add_text(L, &out->dropped, from);
  add_text(L, &out->dropped_by, rule == NULL ? "" : rule);
}

static void read_check(lua_State *L, ckpt_load_plan *out) {
  int t = lua_gettop(L);
  if (!lua_istable(L, t)) luaL_error(L, "an entry of 'checks' must be a table { key, key }");
  ckpt_twins *c = ckpt_plan_grow(L, (void **)&out->checks, &out->n_checks, &out->check_capacity, sizeof *c);
  lua_rawgeti(L, t, 1);
  c->a = ckpt_plan_copy(L, "checks");
  lua_rawgeti(L, t, 2);
  c->b = ckpt_plan_copy(L, "checks");
  ckpt_plan_string(L, t, "rule", &c->rule);
}

static void read_suggestion(lua_State *L, ckpt_load_plan *out) {
  int t = lua_gettop(L);
  if (!lua_istable(L, t)) luaL_error(L, "an entry of 'suggestions' must be a table { text =, matches = }");
  ckpt_proposal *p =
      ckpt_plan_grow(L, (void **)&out->suggestions, &out->n_suggestions, &out->suggestion_capacity, sizeof *p);
  ckpt_plan_string(L, t, "text", &p->text);
  if (p->text == NULL) luaL_error(L, "an entry of 'suggestions' must have 'text'");
  lua_getfield(L, t, "matches");
  p->matches = lua_tointeger(L, -1);
}

/* ---- the whole ---- */

static void each(lua_State *L, int plan, const char *field, void (*read)(lua_State *L, ckpt_load_plan *out),
                 ckpt_load_plan *out) {
  lua_Integer n = ckpt_plan_list(L, plan, field);
  int list = lua_gettop(L);
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, list, i);
    read(L, out);
    lua_settop(L, list);
  }
  lua_pop(L, 1);
}

void ckpt_plan_read_load(lua_State *L, ckpt_load_plan *out) {
  int plan = lua_gettop(L);
  if (!lua_istable(L, plan)) luaL_error(L, "plan_load must return a table, not %s", luaL_typename(L, plan));
  ckpt_plan_string(L, plan, "select", &out->select);
  ckpt_plan_string(L, plan, "optimizer", &out->optimizer);
  out->no_options = !ckpt_plan_bool(L, plan, "optimizer_options", true);
  ckpt_plan_string(L, plan, "refuse", &out->refuse);
  ckpt_plan_string(L, plan, "map", &out->map);
  ckpt_plan_string(L, plan, "contract", &out->contract);
  each(L, plan, "assign", read_assignment, out);
  each(L, plan, "values", read_group_source, out);
  each(L, plan, "unfilled", read_unfilled, out);
  each(L, plan, "dropped", read_dropped, out);
  each(L, plan, "checks", read_check, out);
  each(L, plan, "suggestions", read_suggestion, out);
  ckpt_plan_strings(L, plan, "mismatched", &out->mismatched);
  ckpt_plan_strings(L, plan, "violations", &out->violations);
  ckpt_plan_strings(L, plan, "unfired", &out->unfired);
  ckpt_plan_strings(L, plan, "log", &out->log);
  lua_getfield(L, plan, "next_epoch");
  if (!lua_isnil(L, -1) && !lua_isinteger(L, -1)) ckpt_plan_nonsense(L, "next_epoch", "an integer");
  out->has_next_epoch = lua_isinteger(L, -1);
  out->next_epoch = lua_tointeger(L, -1);
}

/* ---- freeing ---- */

static void free_assignment(ckpt_assignment *a) {
  ckpt_expr_free(a->expr);
  ckpt_strings_free(&a->sources);
  free(a->to);
  free(a->rule);
  free(a->note);
}

static void free_unfilled(ckpt_unfilled *u) {
  free(u->to);
  free(u->from);
  free(u->rule);
  free(u->note);
}

static void free_lists(ckpt_load_plan *p) {
  ckpt_strings *lists[] = {&p->mismatched, &p->log, &p->violations, &p->unfired, &p->dropped, &p->dropped_by};
  for (size_t i = 0; i < CKPT_COUNTOF(lists); i++) ckpt_strings_free(lists[i]);
}

void ckpt_load_plan_free(ckpt_load_plan *p) {
  for (size_t i = 0; i < p->n_assign; i++) free_assignment(&p->assign[i]);
  for (size_t i = 0; i < p->n_unfilled; i++) free_unfilled(&p->unfilled[i]);
  for (size_t i = 0; i < p->n_suggestions; i++) free(p->suggestions[i].text);
  for (size_t i = 0; i < p->n_values; i++) {
    free(p->values[i].group);
    free(p->values[i].from);
  }
  for (size_t i = 0; i < p->n_checks; i++) {
    free(p->checks[i].a);
    free(p->checks[i].b);
    free(p->checks[i].rule);
  }
  free_lists(p);
  free(p->checks);
  free(p->assign);
  free(p->unfilled);
  free(p->suggestions);
  free(p->values);
  free(p->select);
  free(p->optimizer);
  free(p->refuse);
  free(p->map);
  free(p->contract);
  *p = (ckpt_load_plan){0};
}
