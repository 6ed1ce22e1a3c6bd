/*
 * lua_plan.c - see lua_plan.h. What C gathers for an answer hangs on one userdata until the answer is a Lua table, so
 * that nothing is lost when Lua raises in between.
 */
#include "lua_plan.h"

#include <stdlib.h>

#define ANSWER "ckpt.answer"

typedef struct answer {
  ckpt_checkpointer *cp; /* kept alive by the first argument */
  ckpt_checkpoint *source;
  char *path;
  ckpt_candidate chosen; /* its file is owned where there is a source */
  ckpt_load_plan load;
  ckpt_save_plan save;
  ckpt_run_view view;
  ckpt_strings rows; /* file and reasons, alternately */
} answer;

static int answer_gc(lua_State *L) {
  answer *a = luaL_checkudata(L, 1, ANSWER);
  ckpt_load_plan_free(&a->load);
  ckpt_save_plan_free(&a->save);
  ckpt_run_view_free(&a->view);
  ckpt_strings_free(&a->rows);
  if (a->source != NULL) free(a->chosen.file);
  ckpt_checkpoint_close(a->source);
  free(a->path);
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

/* A load plan as a table; what the policy planned, not yet compared with the arrays. */
static void push_load_plan(lua_State *L, const ckpt_load_plan *p) {
  lua_newtable(L);
  lua_pushstring(L, p->refuse);
  lua_setfield(L, -2, "refuse");
  lua_pushstring(L, p->select);
  lua_setfield(L, -2, "select");
  lua_pushstring(L, p->optimizer);
  lua_setfield(L, -2, "optimizer");
  lua_createtable(L, (int)p->n_assign, 0);
  for (size_t i = 0; i < p->n_assign; i++) {
    lua_createtable(L, 0, 3);
    lua_pushstring(L, p->assign[i].to);
    lua_setfield(L, -2, "to");
    lua_pushstring(L, p->assign[i].from);
    lua_setfield(L, -2, "from");
    lua_pushinteger(L, (lua_Integer)p->assign[i].n_ops);
    lua_setfield(L, -2, "ops");
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "assign");
  ckpt_lua_set_list(L, "mismatched", (const char *const *)p->mismatched.items, p->mismatched.n);
  ckpt_lua_set_list(L, "log", (const char *const *)p->log.items, p->log.n);
}

int ckpt_lua_plan_load(lua_State *L) {
  ckpt_error err;
  answer *a = new_answer(L);
  ckpt_status st = ckpt_choose_source(&a->source, &a->path, &a->chosen, a->cp, &err);
  if (st != CKPT_OK) return ckpt_lua_fail(L, &err);
  const char *mode = a->source == NULL ? "scratch" : a->chosen.resume ? "resume" : "pretrain";
  st = ckpt_plan_load(&a->load, a->cp, a->source, a->chosen.file, a->path, mode, &err);
  if (st != CKPT_OK) return ckpt_lua_fail(L, &err);
  push_load_plan(L, &a->load);
  lua_pushstring(L, mode);
  lua_setfield(L, -2, "mode");
  lua_pushstring(L, a->path);
  lua_setfield(L, -2, "path");
  return 1;
}

/* ---- save ---- */

int ckpt_lua_plan_save(lua_State *L) {
  ckpt_error err;
  answer *a = new_answer(L);
  const ckpt_save_plan *p = &a->save;
  ckpt_begin_epoch(a->cp, ckpt_lua_check_integer(L, 2));
  if (ckpt_plan_save(&a->save, a->cp, lua_toboolean(L, 3), &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_newtable(L);
  lua_pushstring(L, p->file);
  lua_setfield(L, -2, "file");
  lua_pushboolean(L, p->result);
  lua_setfield(L, -2, "result");
  lua_pushboolean(L, p->reuse);
  lua_setfield(L, -2, "reuse");
  ckpt_lua_set_list(L, "aliases", (const char *const *)p->aliases.items, p->aliases.n);
  ckpt_lua_set_list(L, "retire", (const char *const *)p->retire.items, p->retire.n);
  ckpt_lua_set_list(L, "log", (const char *const *)p->log.items, p->log.n);
  return 1;
}

/* ---- what is there and why ---- */

static int ask_kept(lua_State *L) {
  answer *q = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, q->cp->policy_ref);
  if (lua_getfield(L, -1, "kept") != LUA_TFUNCTION) return 0;
  lua_insert(L, -2);
  ckpt_push_run(L, q->cp, &q->view);
  lua_call(L, 2, 1);
  if (!lua_istable(L, -1)) return luaL_error(L, "kept must return a list");
  int list = lua_gettop(L);
  for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, list); i <= n; i++) {
    lua_rawgeti(L, list, i);
    lua_getfield(L, -1, "file");
    lua_getfield(L, -2, "reasons");
    luaL_checktype(L, -1, LUA_TTABLE);
    luaL_Buffer b;
    size_t n_file;
    int reasons = lua_gettop(L);
    luaL_buffinit(L, &b);
    for (lua_Integer k = 1, m = (lua_Integer)lua_rawlen(L, reasons); k <= m; k++) {
      ckpt_sandbox_charge(L, 1);
      if (k > 1) luaL_addstring(&b, ", ");
      lua_rawgeti(L, reasons, k);
      luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    ckpt_sandbox_copy_out(L, lua_rawlen(L, -1));
    luaL_checklstring(L, reasons - 1, &n_file);
    ckpt_sandbox_copy_out(L, n_file);
    ckpt_strings_addf(&q->rows, NULL, "%s", luaL_checkstring(L, reasons - 1));
    ckpt_strings_addf(&q->rows, NULL, "%s", lua_tostring(L, -1));
    lua_settop(L, list);
  }
  return 0;
}

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

int ckpt_lua_kept(lua_State *L) {
  ckpt_error err;
  answer *a = new_answer(L);
  ckpt_status st = ckpt_run_view_read(&a->view, a->cp, &err);
  if (st == CKPT_OK) st = ckpt_sandbox_call(a->cp->sandbox, ask_kept, a, &err);
  if (st != CKPT_OK) return ckpt_lua_fail(L, &err);
  push_rows(L, &a->rows);
  return 1;
}

int ckpt_lua_files(lua_State *L) {
  ckpt_error err;
  answer *a = new_answer(L);
  if (ckpt_run_view_read(&a->view, a->cp, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  ckpt_push_files(L, &a->view);
  ckpt_push_ledger(L, a->view.ledger);
  return 2;
}
