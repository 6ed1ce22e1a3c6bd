/*
 * lua_plan.c - see lua_plan.h. What C gathers for an answer hangs on one userdata until the answer is a Lua table, so
 * that nothing is lost when Lua raises in between.
 */
#include "lua_plan.h"

#include <stdlib.h>

#define ANSWER "ckpt.answer"

typedef struct answer {
  ckpt_checkpointer *cp; /* kept alive by the first argument */
  ckpt_load_record *load;
  ckpt_save_plan save;
  ckpt_run_view view;
  ckpt_strings rows; /* file and reasons, alternately */
  char *text;        /* a further word of the answer */
} answer;

static int answer_gc(lua_State *L) {
  answer *a = luaL_checkudata(L, 1, ANSWER);
  ckpt_load_record_free(a->load);
  ckpt_save_plan_free(&a->save);
  ckpt_run_view_free(&a->view);
  ckpt_strings_free(&a->rows);
  free(a->text);
  *a = (answer){0};
  return 0;
}

void ckpt_lua_open_answer(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", answer_gc}, {NULL, NULL}};
  ckpt_lua_new_type(L, ANSWER, meta, NULL);
}

static answer *new_answer(lua_State *L) {
  ckpt_checkpointer *cp = ckpt_lua_check_checkpointer(L);
  answer *a = lua_newuserdatauv(L, sizeof *a, 0);
  *a = (answer){.cp = cp};
  luaL_setmetatable(L, ANSWER);
  return a;
}

void ckpt_lua_set_list(lua_State *L, const char *field, const char *const *items, size_t n) {
  lua_createtable(L, (int)n, 0);
  for (size_t i = 0; i < n; i++) {
    lua_pushstring(L, items[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, field);
}

/* ---- load ---- */

/* What the policy planned, beside the report of it. `fault`: why a load would fail, NULL where it would not. */
static void push_load_plan(lua_State *L, const ckpt_load_plan *p, const char *fault) {
  lua_pushstring(L, p->refuse);
  lua_setfield(L, -2, "refuse");
  lua_pushstring(L, fault);
  lua_setfield(L, -2, "fault");
  lua_pushstring(L, p->contract);
  lua_setfield(L, -2, "contract");
  lua_pushstring(L, p->select);
  lua_setfield(L, -2, "select");
  lua_pushstring(L, p->optimizer);
  lua_setfield(L, -2, "optimizer");
  ckpt_lua_set_list(L, "log", (const char *const *)p->log.items, p->log.n);
}

int ckpt_lua_plan_load(lua_State *L) {
  ckpt_error err;
  answer *a = new_answer(L);
  ckpt_status st = ckpt_load_run(&a->load, a->cp, true, &err);
  if (a->load == NULL) return ckpt_lua_fail(L, &err);
  const ckpt_load_plan *p = &a->load->plan;
  ckpt_load_report report = ckpt_load_record_view(a->load);
  if (st == CKPT_E_POLICY) return ckpt_lua_fail(L, &err);
  ckpt_lua_push_report(L, &report);
  push_load_plan(L, p, st == CKPT_OK || p->refuse != NULL ? NULL : err.message);
  return 1;
}

/* ---- save ---- */

static void push_save_plan(lua_State *L, const ckpt_save_plan *p) {
  lua_newtable(L);
  lua_pushstring(L, p->file);
  lua_setfield(L, -2, "file");
  lua_pushstring(L, p->reason);
  lua_setfield(L, -2, "reason");
  lua_pushboolean(L, p->result);
  lua_setfield(L, -2, "result");
  lua_pushboolean(L, p->reuse);
  lua_setfield(L, -2, "reuse");
  ckpt_lua_set_list(L, "aliases", (const char *const *)p->aliases.items, p->aliases.n);
  ckpt_lua_set_list(L, "retire", (const char *const *)p->retire.items, p->retire.n);
  ckpt_lua_set_list(L, "why", (const char *const *)p->why.items, p->why.n);
  ckpt_lua_set_list(L, "log", (const char *const *)p->log.items, p->log.n);
}

int ckpt_lua_plan_save(lua_State *L) {
  ckpt_error err;
  lua_settop(L, 3);
  answer *a = new_answer(L);
  ckpt_begin_call(a->cp);
  ckpt_begin_epoch(a->cp, ckpt_lua_check_integer(L, 2));
  if (ckpt_plan_save(&a->save, a->cp, lua_toboolean(L, 3), &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  push_save_plan(L, &a->save);
  return 1;
}

int ckpt_lua_done(lua_State *L) {
  const ckpt_checkpointer *cp = ckpt_lua_check_checkpointer(L);
  if (cp->done == NULL) return 0;
  push_save_plan(L, cp->done);
  return 1;
}

int ckpt_lua_due(lua_State *L) {
  ckpt_error err;
  bool due = false;
  answer *a = new_answer(L);
  ckpt_begin_call(a->cp);
  ckpt_begin_epoch(a->cp, ckpt_lua_check_integer(L, 2));
  a->cp->signal = ckpt_save_requested(a->cp);
  if (ckpt_ask_due(&due, &a->text, a->cp, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_pushboolean(L, due);
  lua_pushstring(L, a->text);
  return 2;
}

int ckpt_lua_prune(lua_State *L) {
  ckpt_error err;
  lua_settop(L, 2);
  answer *a = new_answer(L);
  if (ckpt_prune(&a->save, &a->text, a->cp, lua_toboolean(L, 2), &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  push_save_plan(L, &a->save);
  lua_pushstring(L, a->text);
  lua_setfield(L, -2, "spared");
  return 1;
}

int ckpt_lua_pin(lua_State *L) {
  ckpt_error err;
  bool pinned = lua_isnoneornil(L, 3) || lua_toboolean(L, 3);
  answer *a = new_answer(L);
  if (ckpt_pin(a->cp, ckpt_lua_check_text(L, 2), pinned, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_pushboolean(L, 1);
  return 1;
}

/* ---- a run that is only played ---- */

int ckpt_lua_peak(lua_State *L) {
  const ckpt_checkpointer *cp = ckpt_lua_check_checkpointer(L);
  if (cp->model == NULL) return 0;
  lua_pushinteger(L, (lua_Integer)cp->model->most_files);
  lua_pushinteger(L, (lua_Integer)cp->model->most_bytes);
  return 2;
}

/* ---- what is there and why ---- */

static void push_rows(lua_State *L, const ckpt_strings *rows) {
  lua_newtable(L);
  for (size_t i = 0; i + 1 < rows->n; i += 2) {
    lua_newtable(L);
    lua_pushstring(L, rows->items[i]);
    lua_setfield(L, -2, "file");
    lua_pushstring(L, rows->items[i + 1]);
    lua_setfield(L, -2, "why");
    lua_rawseti(L, -2, (lua_Integer)(i / 2) + 1);
  }
}

static int push_files_of(lua_State *L, const char *function) {
  ckpt_error err;
  answer *a = new_answer(L);
  if (ckpt_ask_files(&a->rows, a->cp, function, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  push_rows(L, &a->rows);
  return 1;
}

int ckpt_lua_kept(lua_State *L) { return push_files_of(L, "kept"); }
int ckpt_lua_ranking(lua_State *L) { return push_files_of(L, "ranking"); }

int ckpt_lua_files(lua_State *L) {
  ckpt_error err;
  answer *a = new_answer(L);
  if (ckpt_run_view_read(&a->view, a->cp, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  ckpt_push_files(L, &a->view);
  ckpt_push_ledger(L, a->view.ledger);
  return 2;
}
