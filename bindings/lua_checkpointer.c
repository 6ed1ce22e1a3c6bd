/*
 * lua_checkpointer.c - type ckpt.checkpointer: a run driven from Lua (tests, `ckpt plan`, scripts). Bound variables
 * live in the checkpointer; tensors are bound as they are, so a load writes into them.
 */
#include <stdlib.h>
#include <string.h>

#include "lua_types.h"
#include "lua_plan.h"
#include "run.h"

/* Lines that the run logged since they were last taken; C memory, because the log may speak while Lua must not be
 * entered. */
typedef struct holder {
  ckpt_checkpointer *cp;
  ckpt_strings lines;
} holder;

static void keep_line(void *user, ckpt_log_level level, const char *line) {
  holder *h = user;
  ckpt_strings_addf(&h->lines, NULL, "%s%s", level == CKPT_LOG_WARNING ? "warning: " : "", line);
}

static holder *check(lua_State *L) { return ckpt_lua_check_box(L, 1, CKPT_T_CHECKPOINTER); }

ckpt_checkpointer *ckpt_lua_check_checkpointer(lua_State *L) { return check(L)->cp; }

static int fail_or_true(lua_State *L, ckpt_status st, const ckpt_error *err) {
  if (st != CKPT_OK) return ckpt_lua_fail(L, err);
  lua_pushboolean(L, 1);
  return 1;
}

/* ---- opening ---- */

static const char *string_field(lua_State *L, const char *field) {
  lua_getfield(L, 1, field);
  const char *s = lua_isnil(L, -1) ? NULL : luaL_checkstring(L, -1);
  lua_pop(L, 1); /* the options table keeps it */
  return s;
}

static lua_Integer integer_field(lua_State *L, const char *field) {
  lua_getfield(L, 1, field);
  lua_Integer i = lua_isnil(L, -1) ? 0 : ckpt_lua_check_integer(L, lua_gettop(L));
  lua_pop(L, 1);
  return i;
}

/* set = { key = value } */
static ckpt_status apply_options(lua_State *L, ckpt_checkpointer *cp, ckpt_error *err) {
  ckpt_status st = CKPT_OK;
  lua_getfield(L, 1, "set");
  if (lua_istable(L, -1))
    for (lua_pushnil(L); st == CKPT_OK && lua_next(L, -2) != 0; lua_pop(L, 1)) {
      lua_pushvalue(L, -2);
      const char *value = luaL_tolstring(L, -2, NULL);
      st = ckpt_set_option(cp, lua_tostring(L, -2), value, err);
      lua_pop(L, 2);
    }
  lua_settop(L, 2);
  return st;
}

/* ckpt.checkpointer{ dir =, policy =, weights =, auto_resume =, rank =, set =, simulate =, bytes = } */
static int new_checkpointer(lua_State *L) {
  ckpt_error err;
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  ckpt_checkpointer_options o = {.dir = string_field(L, "dir"),
                                 .policy = string_field(L, "policy"),
                                 .weights = string_field(L, "weights"),
                                 .rank = (int)integer_field(L, "rank"),
                                 .policy_memory = (size_t)integer_field(L, "policy_memory"),
                                 .policy_steps = (uint64_t)integer_field(L, "policy_steps"),
                                 .policy_deadline = (uint64_t)integer_field(L, "policy_deadline"),
                                 .policy_load_steps = (uint64_t)integer_field(L, "policy_load_steps"),
                                 .policy_load_deadline = (uint64_t)integer_field(L, "policy_load_deadline"),
                                 .log = keep_line};
  lua_getfield(L, 1, "auto_resume");
  o.auto_resume = lua_isnil(L, -1) || lua_toboolean(L, -1);
  lua_getfield(L, 1, "simulate");
  o.simulate = lua_toboolean(L, -1);
  o.simulate_bytes = (uint64_t)integer_field(L, "bytes");
  lua_pop(L, 2);
  void **box = ckpt_lua_new_box(L, CKPT_T_CHECKPOINTER);
  holder *h = calloc(1, sizeof *h);
  if (h == NULL) return luaL_error(L, "out of memory");
  *box = h;
  o.log_user = h;
  if (ckpt_checkpointer_open(&h->cp, &o, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  if (apply_options(L, h->cp, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  return 1;
}

static int checkpointer_gc(lua_State *L) {
  holder *h = ckpt_lua_take_box(L, CKPT_T_CHECKPOINTER);
  if (h == NULL) return 0;
  ckpt_checkpointer_close(h->cp);
  ckpt_strings_free(&h->lines);
  free(h);
  return 0;
}

/* ---- binding ---- */

static int bind_tensor(lua_State *L) {
  ckpt_error err;
  ckpt_status st = ckpt_slot_bind_tensor(check(L)->cp, ckpt_lua_check_text(L, 2), ckpt_lua_check_text(L, 3),
                                         ckpt_lua_check_tensor(L, 4), lua_toboolean(L, 5), &err);
  return fail_or_true(L, st, &err);
}

/* cp:set(group, path, value): binds a variable of the checkpointer's own, or changes it */
static int set_value(lua_State *L) {
  ckpt_error err = {0};
  ckpt_checkpointer *cp = check(L)->cp;
  const char *group = ckpt_lua_check_text(L, 2), *path = ckpt_lua_check_text(L, 3);
  ckpt_status st;
  if (lua_isinteger(L, 4))
    st = ckpt_slot_set_int(cp, group, path, lua_tointeger(L, 4), &err);
  else if (lua_type(L, 4) == LUA_TNUMBER)
    st = ckpt_slot_set_double(cp, group, path, lua_tonumber(L, 4), &err);
  else if (lua_isboolean(L, 4))
    st = ckpt_slot_set_bool(cp, group, path, lua_toboolean(L, 4), &err);
  else
    st = ckpt_set_string(cp, group, path, ckpt_lua_check_text(L, 4), &err);
  return fail_or_true(L, st, &err);
}

static int get_value(lua_State *L) {
  const ckpt_slot *s = ckpt_slot_find(check(L)->cp, luaL_checkstring(L, 2), luaL_checkstring(L, 3));
  if (s == NULL) return 0;
  switch (s->kind) {
    case CKPT_SLOT_INT: lua_pushinteger(L, *s->at.integer); break;
    case CKPT_SLOT_DOUBLE: lua_pushnumber(L, *s->at.number); break;
    case CKPT_SLOT_BOOL: lua_pushboolean(L, *s->at.boolean); break;
    case CKPT_SLOT_STRING: lua_pushstring(L, s->at.string); break;
    default: ckpt_lua_push_tensor(L, s->tensor);
  }
  return 1;
}

static int set_option(lua_State *L) {
  ckpt_error err;
  const char *value = lua_isnoneornil(L, 3) ? NULL : luaL_tolstring(L, 3, NULL);
  return fail_or_true(L, ckpt_set_option(check(L)->cp, ckpt_lua_check_text(L, 2), value, &err), &err);
}

static int set_metric(lua_State *L) {
  ckpt_error err;
  return fail_or_true(L, ckpt_set_metric(check(L)->cp, ckpt_lua_check_text(L, 2), luaL_checknumber(L, 3), &err), &err);
}

/* cp:set_time(seconds), nil: the system's */
static int set_time(lua_State *L) {
  ckpt_checkpointer *cp = check(L)->cp;
  ckpt_set_time(cp, lua_isnoneornil(L, 2) ? INT64_MIN : ckpt_lua_check_integer(L, 2));
  return 0;
}

static int set_final(lua_State *L) {
  ckpt_set_final(check(L)->cp, lua_isnoneornil(L, 2) || lua_toboolean(L, 2));
  return 0;
}

static int request_save(lua_State *L) {
  ckpt_request_save(check(L)->cp);
  return 0;
}

static int set_step(lua_State *L) {
  ckpt_set_step(check(L)->cp, ckpt_lua_check_integer(L, 2));
  return 0;
}

/* ---- load and save ---- */

/* cp:load() -> report; or nil, message, code and, where the contract is not met, the report */
static int load(lua_State *L) {
  ckpt_error err;
  ckpt_load_report report;
  ckpt_status st = ckpt_load(check(L)->cp, &report, &err);
  int n = st == CKPT_OK ? 0 : ckpt_lua_fail(L, &err);
  if (st != CKPT_OK && report.n_entries == 0) return n;
  ckpt_lua_push_report(L, &report);
  return n + 1;
}

/* cp:save(epoch) -> true, and whether a file was written; or nil, message, code */
static int save(lua_State *L) {
  ckpt_error err;
  const ckpt_checkpointer *cp = check(L)->cp;
  if (ckpt_save(check(L)->cp, ckpt_lua_check_integer(L, 2), &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_pushboolean(L, 1);
  lua_pushboolean(L, cp->done != NULL && cp->done->file != NULL);
  return 2;
}

/* cp:save_best(epoch) -> improved, or nil, message, code */
static int save_best(lua_State *L) {
  ckpt_error err;
  bool improved = false;
  if (ckpt_save_best(check(L)->cp, ckpt_lua_check_integer(L, 2), &improved, &err) != CKPT_OK)
    return ckpt_lua_fail(L, &err);
  lua_pushboolean(L, improved);
  return 1;
}

/* cp:save_async(epoch) -> true */
static int save_async(lua_State *L) {
  ckpt_error err;
  return fail_or_true(L, ckpt_save_async(check(L)->cp, ckpt_lua_check_integer(L, 2), &err), &err);
}

/* cp:save_best_async(epoch) -> improved */
static int save_best_async(lua_State *L) {
  ckpt_error err;
  bool improved = false;
  if (ckpt_save_best_async(check(L)->cp, ckpt_lua_check_integer(L, 2), &improved, &err) != CKPT_OK)
    return ckpt_lua_fail(L, &err);
  lua_pushboolean(L, improved);
  return 1;
}

/* cp:wait() -> true */
static int wait_all(lua_State *L) {
  ckpt_error err;
  return fail_or_true(L, ckpt_wait(check(L)->cp, &err), &err);
}

static int next_epoch(lua_State *L) {
  lua_pushinteger(L, ckpt_next_epoch(check(L)->cp));
  return 1;
}

/* cp:log() -> the lines logged since the last call */
static int take_log(lua_State *L) {
  holder *h = check(L);
  lua_createtable(L, (int)h->lines.n, 0);
  for (size_t i = 0; i < h->lines.n; i++) {
    lua_pushstring(L, h->lines.items[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  ckpt_strings_free(&h->lines);
  return 1;
}

void ckpt_lua_open_checkpointer(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", checkpointer_gc}, {"__close", checkpointer_gc}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"bind", bind_tensor},
                                     {"set", set_value},
                                     {"get", get_value},
                                     {"set_option", set_option},
                                     {"set_metric", set_metric},
                                     {"set_step", set_step},
                                     {"load", load},
                                     {"save", save},
                                     {"save_best", save_best},
                                     {"save_async", save_async},
                                     {"save_best_async", save_best_async},
                                     {"wait", wait_all},
                                     {"next_epoch", next_epoch},
                                     {"log", take_log},
                                     {"plan_load", ckpt_lua_plan_load},
                                     {"plan_save", ckpt_lua_plan_save},
                                     {"kept", ckpt_lua_kept},
                                     {"ranking", ckpt_lua_ranking},
                                     {"done", ckpt_lua_done},
                                     {"due", ckpt_lua_due},
                                     {"prune", ckpt_lua_prune},
                                     {"pin", ckpt_lua_pin},
                                     {"peak", ckpt_lua_peak},
                                     {"set_time", set_time},
                                     {"set_final", set_final},
                                     {"request_save", request_save},
                                     {"files", ckpt_lua_files},
                                     {"close", checkpointer_gc},
                                     {NULL, NULL}};
  ckpt_lua_open_answer(L);
  ckpt_lua_new_type(L, CKPT_T_CHECKPOINTER, meta, methods);
  lua_pushcfunction(L, new_checkpointer);
  lua_setfield(L, -2, "checkpointer");
}
