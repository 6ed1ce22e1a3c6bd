/*
 * run_tables.c - the run and the opened file as plain tables, for the policy. Names and shapes only: every tensor that
 * a policy sees is a meta tensor, so it can neither read nor write data.
 */
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>

#include "expr.h"
#include "lua_types.h"
#include "run.h"

/* ---- what is read from the disk before Lua is entered ---- */

/* The directory in memory: of saves that are only played, or as it will be when those under way are done. */
static const ckpt_model *model_of(const ckpt_checkpointer *cp) {
  return cp->model != NULL ? cp->model : ckpt_async_ahead(cp);
}

ckpt_status ckpt_run_ledger(const ckpt_ledger **out, ckpt_checkpointer *cp, ckpt_error *err) {
  const ckpt_model *m = model_of(cp);
  if (m == NULL && cp->dir != NULL) CKPT_TRY(ckpt_ledger_refresh(&cp->ledger, &cp->stamp, cp->dir, err));
  *out = m != NULL ? m->ledger : cp->ledger;
  return CKPT_OK;
}

ckpt_status ckpt_run_view_read(ckpt_run_view *out, ckpt_checkpointer *cp, ckpt_error *err) {
  const ckpt_model *m = model_of(cp);
  ckpt_run_view view = {.borrowed = m != NULL};
  CKPT_TRY(ckpt_run_ledger(&view.ledger, cp, err));
  if (m != NULL) {
    view.files = m->files;
    view.n_files = m->n;
  } else if (cp->dir != NULL) {
    CKPT_TRY(ckpt_dir_list(&view.files, &view.n_files, cp->dir, err));
  }
  *out = view;
  return CKPT_OK;
}

void ckpt_run_view_free(ckpt_run_view *view) {
  if (!view->borrowed) ckpt_dir_list_free(view->files, view->n_files);
  *view = (ckpt_run_view){0};
}

/* ---- small helpers: each leaves the table on the top ---- */

static void set_string(lua_State *L, const char *key, const char *value) {
  if (value == NULL) return;
  lua_pushstring(L, value);
  lua_setfield(L, -2, key);
}

static void set_integer(lua_State *L, const char *key, int64_t value) {
  if (value == INT64_MIN) return;
  lua_pushinteger(L, value);
  lua_setfield(L, -2, key);
}

static void set_boolean(lua_State *L, const char *key, bool value) {
  lua_pushboolean(L, value);
  lua_setfield(L, -2, key);
}

static void set_strings(lua_State *L, const char *key, char *const *items, size_t n) {
  lua_createtable(L, (int)n, 0);
  for (size_t i = 0; i < n; i++) {
    lua_pushstring(L, items[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, key);
}

static void set_metrics(lua_State *L, const ckpt_metric *metrics, size_t n) {
  lua_createtable(L, 0, (int)n);
  for (size_t i = 0; i < n; i++) {
    lua_pushnumber(L, metrics[i].value);
    lua_setfield(L, -2, metrics[i].name);
  }
  lua_setfield(L, -2, "metrics");
}

/* ---- run ---- */

void ckpt_push_files(lua_State *L, const ckpt_run_view *view) {
  lua_createtable(L, (int)view->n_files, 0);
  for (size_t i = 0; i < view->n_files; i++) {
    const ckpt_dir_entry *e = &view->files[i];
    lua_createtable(L, 0, 4);
    set_string(L, "name", e->name);
    set_integer(L, "bytes", (int64_t)e->bytes);
    set_integer(L, "mtime", e->mtime);
    set_integer(L, "inode", (int64_t)e->inode);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
}

static void push_ledger_entry(lua_State *L, const ckpt_ledger_entry *e) {
  lua_createtable(L, 0, 10);
  set_string(L, "event", e->event);
  set_integer(L, "time", e->time);
  set_integer(L, "epoch", e->epoch);
  set_integer(L, "step", e->step);
  set_string(L, "file", e->file);
  set_integer(L, "bytes", (int64_t)e->bytes);
  set_boolean(L, "best", e->best);
  set_strings(L, "aliases", e->aliases, e->n_aliases);
  set_strings(L, "retired", e->retired, e->n_retired);
  set_metrics(L, e->metrics, e->n_metrics);
}

void ckpt_push_ledger(lua_State *L, const ckpt_ledger *ledger) {
  size_t n = ledger == NULL ? 0 : ledger->n;
  lua_createtable(L, (int)n, 0);
  for (size_t i = 0; i < n; i++) {
    push_ledger_entry(L, &ledger->entries[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
}

/* The model's ledger only grows: the policy sees one and the same table, longer each time. */
static void push_model_ledger(lua_State *L, ckpt_model *m) {
  if (m->table == LUA_NOREF) {
    lua_newtable(L);
    m->table = luaL_ref(L, LUA_REGISTRYINDEX);
  }
  lua_rawgeti(L, LUA_REGISTRYINDEX, m->table);
  for (; m->pushed < m->ledger->n; m->pushed++) {
    push_ledger_entry(L, &m->ledger->entries[m->pushed]);
    lua_rawseti(L, -2, (lua_Integer)m->pushed + 1);
  }
}

static void set_options(lua_State *L, const ckpt_checkpointer *cp) {
  lua_newtable(L);
  for (size_t i = 0; i < cp->option_names.n; i++) set_string(L, cp->option_names.items[i], cp->option_values.items[i]);
  lua_setfield(L, -2, "options");
}

static void push_slot_value(lua_State *L, const ckpt_slot *s) {
  switch (s->kind) {
    case CKPT_SLOT_INT: lua_pushinteger(L, *s->at.integer); break;
    case CKPT_SLOT_DOUBLE: lua_pushnumber(L, *s->at.number); break;
    case CKPT_SLOT_BOOL: lua_pushboolean(L, *s->at.boolean); break;
    default: lua_pushstring(L, s->at.string);
  }
}

/* Replaces the table on the top by its sub-table of that key, made if need be. */
static void enter_table(lua_State *L, const char *key, size_t n) {
  lua_pushlstring(L, key, n);
  lua_pushvalue(L, -1);
  if (lua_rawget(L, -3) != LUA_TTABLE) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -2);
    lua_pushvalue(L, -2);
    lua_rawset(L, -5);
  }
  lua_replace(L, -3);
  lua_pop(L, 1);
}

/* values[group][a][b] = value, for the path "a.b". The values table is on the top. */
static void set_slot(lua_State *L, const ckpt_slot *s) {
  const char *path = s->path;
  lua_pushvalue(L, -1);
  enter_table(L, s->group, strlen(s->group));
  for (const char *dot; (dot = strchr(path, '.')) != NULL; path = dot + 1) enter_table(L, path, (size_t)(dot - path));
  push_slot_value(L, s);
  lua_setfield(L, -2, path);
  lua_pop(L, 1);
}

static void set_values(lua_State *L, const ckpt_checkpointer *cp) {
  lua_newtable(L);
  for (size_t i = 0; i < cp->n_slots; i++)
    if (cp->slots[i]->kind != CKPT_SLOT_TENSOR) set_slot(L, cp->slots[i]);
  lua_setfield(L, -2, "values");
}

/* What one tensor of a state dict takes, and the steps that making it is worth. */
enum { ENTRY_BYTES = 400, ENTRY_STEPS = 8 };

/* Before n tensors are added to the state dict on the top. */
static void expect_entries(lua_State *L, size_t n) {
  ckpt_sandbox_charge(L, n * ENTRY_STEPS);
  ckpt_lua_hold(L, -1, n * ENTRY_BYTES);
}

/* Adds name -> meta tensor of the same dtype and shape. */
static void add_meta(lua_State *L, ckpt_state_dict *sd, const char *name, const ckpt_tensor *t) {
  ckpt_error err;
  ckpt_tensor *meta = NULL;
  ckpt_status st = ckpt_tensor_meta(&meta, ckpt_tensor_dtype(t), ckpt_tensor_ndim(t), ckpt_tensor_shape(t), &err);
  if (st == CKPT_OK) st = ckpt_state_dict_set(sd, name, meta, &err);
  ckpt_tensor_release(meta);
  if (st != CKPT_OK) luaL_error(L, "%s", err.message);
}

/* Pushes an empty state dict that the stack owns. */
static ckpt_state_dict *push_state_dict(lua_State *L) {
  ckpt_lua_new_state_dict(L);
  return ckpt_lua_check_state_dict(L, -1);
}

static void set_model(lua_State *L, const ckpt_checkpointer *cp) {
  ckpt_state_dict *sd = push_state_dict(L);
  expect_entries(L, cp->n_slots);
  for (size_t i = 0; i < cp->n_slots; i++) {
    const ckpt_slot *s = cp->slots[i];
    if (s->kind == CKPT_SLOT_TENSOR && strcmp(s->group, "model") == 0) add_meta(L, sd, s->path, s->tensor);
  }
  lua_setfield(L, -2, "model");
}

static bool is_save(const ckpt_ledger_entry *e) {
  return e->file != NULL && e->epoch != INT64_MIN && (strcmp(e->event, "save") == 0 || strcmp(e->event, "best") == 0);
}

static bool is_earlier(const ckpt_ledger_entry *e, const ckpt_checkpointer *cp) {
  int64_t step = e->step == INT64_MIN ? 0 : e->step, now = cp->step == INT64_MIN ? 0 : cp->step;
  return e->epoch < cp->epoch || (e->epoch == cp->epoch && step < now);
}

/* The last save before this epoch and step: entries behind it in the ledger are of a run that went back since. */
static void set_last(lua_State *L, const ckpt_checkpointer *cp, const ckpt_ledger *ledger) {
  for (size_t i = ledger == NULL ? 0 : ledger->n; i-- > 0;) {
    const ckpt_ledger_entry *e = &ledger->entries[i];
    if (!is_save(e) || !is_earlier(e, cp)) continue;
    lua_createtable(L, 0, 3);
    set_integer(L, "epoch", e->epoch);
    set_integer(L, "step", e->step);
    set_integer(L, "time", e->time);
    lua_setfield(L, -2, "last");
    return;
  }
}

void ckpt_push_moment(lua_State *L, const ckpt_checkpointer *cp, const ckpt_ledger *ledger) {
  luaL_checkstack(L, 12, "run");
  lua_newtable(L);
  set_string(L, "dir", cp->path);
  set_integer(L, "epoch", cp->epoch);
  set_integer(L, "step", cp->step);
  set_integer(L, "time", cp->now);
  set_boolean(L, "signal", cp->signal);
  set_boolean(L, "final", cp->final);
  set_metrics(L, cp->metrics, cp->n_metrics);
  set_options(L, cp);
  set_last(L, cp, ledger);
}

void ckpt_push_run(lua_State *L, const ckpt_checkpointer *cp, const ckpt_run_view *view) {
  ckpt_push_moment(L, cp, view->ledger);
  set_string(L, "weights", cp->weights);
  set_boolean(L, "auto_resume", cp->auto_resume);
  set_integer(L, "rank", cp->rank);
  ckpt_push_files(L, view);
  lua_setfield(L, -2, "files");
  if (cp->model != NULL)
    push_model_ledger(L, cp->model);
  else
    ckpt_push_ledger(L, view->ledger);
  lua_setfield(L, -2, "ledger");
  set_strings(L, "parts", cp->groups.items, cp->groups.n);
  set_values(L, cp);
  set_model(L, cp);
  if (cp->rules_path == NULL) return;
  lua_rawgeti(L, LUA_REGISTRYINDEX, cp->rules_ref);
  lua_setfield(L, -2, "rules");
}

/* ---- source ---- */

enum { MAX_DEPTH = 12, MAX_PLAIN = 50000 };

/* Pushes a plain value, or nothing (false) for tensors, objects, None and what lies too deep. *left counts down. */
static bool push_plain(lua_State *L, const ckpt_value *v, int depth, int *left);

static void push_plain_items(lua_State *L, const ckpt_value *v, int depth, int *left) {
  lua_newtable(L);
  for (size_t i = 0; i < ckpt_value_count(v) && *left > 0; i++) {
    if (!push_plain(L, ckpt_value_item(v, i), depth + 1, left)) lua_pushboolean(L, 0); /* keeps the places */
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
}

static void push_plain_pairs(lua_State *L, const ckpt_value *v, int depth, int *left) {
  lua_newtable(L);
  for (size_t i = 0; i < ckpt_value_pair_count(v) && *left > 0; i++) {
    const ckpt_value *key = ckpt_value_pair_key(v, i);
    if (key->kind != CKPT_STR && key->kind != CKPT_INT) continue;
    if (key->kind == CKPT_STR)
      lua_pushlstring(L, key->as.text.bytes, key->as.text.n);
    else
      lua_pushinteger(L, key->as.integer);
    if (push_plain(L, ckpt_value_pair_value(v, i), depth + 1, left))
      lua_rawset(L, -3);
    else
      lua_pop(L, 1);
  }
}

static bool push_plain(lua_State *L, const ckpt_value *v, int depth, int *left) {
  luaL_checkstack(L, 8, "values of a checkpoint");
  if (depth > MAX_DEPTH || --*left <= 0) return false;
  switch (v->kind) {
    case CKPT_BOOLEAN: lua_pushboolean(L, v->as.boolean); return true;
    case CKPT_INT: lua_pushinteger(L, v->as.integer); return true;
    case CKPT_FLOAT: lua_pushnumber(L, v->as.number); return true;
    case CKPT_STR: lua_pushlstring(L, v->as.text.bytes, v->as.text.n); return true;
    case CKPT_LIST:
    case CKPT_TUPLE: push_plain_items(L, v, depth, left); return true;
    case CKPT_DICT: push_plain_pairs(L, v, depth, left); return true;
    default: return false;
  }
}

static void set_keys(lua_State *L, const ckpt_value *root) {
  lua_newtable(L);
  lua_Integer n = 0;
  for (size_t i = 0; i < ckpt_value_pair_count(root); i++) {
    const ckpt_value *key = ckpt_value_pair_key(root, i);
    if (key->kind != CKPT_STR) continue;
    lua_pushlstring(L, key->as.text.bytes, key->as.text.n);
    lua_rawseti(L, -2, ++n);
  }
  lua_setfield(L, -2, "keys");
}

/* The one cell of a state that says which file is open to its policy; NULL outside of a call. */
static const char source_key = 0;

static const ckpt_checkpoint **source_cell(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &source_key);
  const ckpt_checkpoint **cell = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return cell;
}

void ckpt_close_source(lua_State *L) {
  const ckpt_checkpoint **cell = source_cell(L);
  if (cell != NULL) *cell = NULL;
}

/* source.state_dict(path) -> state dict of meta tensors, or nil */
static int source_state_dict(lua_State *L) {
  const ckpt_checkpoint *source = *source_cell(L);
  if (source == NULL) return luaL_error(L, "source.state_dict was kept beyond its plan_load");
  const char *path = luaL_optstring(L, 1, "");
  const ckpt_value *v = ckpt_value_at(ckpt_checkpoint_root(source), path);
  if (v == NULL || v->kind != CKPT_DICT) return 0;
  ckpt_state_dict *sd = push_state_dict(L);
  expect_entries(L, ckpt_value_pair_count(v));
  for (size_t i = 0; i < ckpt_value_pair_count(v); i++) {
    const ckpt_value *key = ckpt_value_pair_key(v, i);
    const ckpt_tensor *t = ckpt_value_tensor(ckpt_value_pair_value(v, i));
    if (key->kind == CKPT_STR && t != NULL) add_meta(L, sd, key->as.text.bytes, t);
  }
  return 1;
}

/* What the file says of itself, texts by name: the marks of rule sets are among them. */
static void set_metadata(lua_State *L, const ckpt_checkpoint *source) {
  const ckpt_value *v = ckpt_checkpoint_metadata(source);
  int left = MAX_PLAIN;
  if (v == NULL || v->kind != CKPT_DICT) return;
  if (push_plain(L, v, 0, &left)) lua_setfield(L, -2, "metadata");
}

void ckpt_push_source(lua_State *L, const ckpt_checkpoint *source, const char *file, const char *path,
                      const char *mode) {
  luaL_checkstack(L, 12, "source");
  lua_newtable(L);
  set_string(L, "mode", mode);
  set_string(L, "file", file);
  set_string(L, "path", path);
  if (source == NULL) return;
  int left = MAX_PLAIN;
  set_string(L, "format", ckpt_checkpoint_format(source));
  set_keys(L, ckpt_checkpoint_root(source));
  if (!push_plain(L, ckpt_checkpoint_root(source), 0, &left)) lua_newtable(L);
  lua_setfield(L, -2, "values");
  set_metadata(L, source);
  *source_cell(L) = source;
  lua_pushcfunction(L, source_state_dict);
  lua_setfield(L, -2, "state_dict");
}

/* ---- the policy's `ckpt` ---- */

static void unhold(void *user, size_t bytes) { ckpt_sandbox_unhold(user, bytes); }

static int refuse_change(lua_State *L) {
  return luaL_error(L, "a policy cannot change a state dict: it says what shall be done");
}

/* The types of a policy: what tells of names, shapes and dtypes, and nothing that makes, reads or changes a tensor. */
static void open_policy_types(lua_State *L) {
  static const char *const methods[] = {"stride", "is_contiguous", "is_meta"};
  ckpt_lua_meter meter = {ckpt_sandbox_hold, unhold, ckpt_sandbox_of(L)};
  ckpt_lua_set_meter(L, &meter);
  ckpt_lua_open_types(L);
  luaL_getmetatable(L, CKPT_T_TENSOR);
  lua_newtable(L);
  lua_getfield(L, -2, "__methods");
  for (size_t i = 0; i < CKPT_COUNTOF(methods); i++) {
    lua_getfield(L, -1, methods[i]);
    lua_setfield(L, -3, methods[i]);
  }
  lua_pop(L, 1);
  lua_setfield(L, -2, "__methods");
  luaL_getmetatable(L, CKPT_T_STATE_DICT);
  lua_pushcfunction(L, refuse_change);
  lua_setfield(L, -2, "__newindex");
  lua_pop(L, 2);
}

/* Steps for a list of names: what aligning them may read. Every entry counts, also a name that is there twice. */
static void charge_names(lua_State *L, int index) {
  luaL_checktype(L, index, LUA_TTABLE);
  for (lua_Unsigned i = 1, n = lua_rawlen(L, index); i <= n; i++) {
    lua_rawgeti(L, index, (lua_Integer)i);
    ckpt_sandbox_charge(L, 8 + (lua_type(L, -1) == LUA_TSTRING ? (uint64_t)lua_rawlen(L, -1) : 0));
    lua_pop(L, 1);
  }
}

static int policy_align(lua_State *L) {
  charge_names(L, 1);
  charge_names(L, 2);
  return ckpt_lua_align(L);
}

static int open_library(lua_State *L) {
  open_policy_types(L);
  const ckpt_checkpoint **cell = lua_newuserdatauv(L, sizeof *cell, 0);
  *cell = NULL;
  lua_rawsetp(L, LUA_REGISTRYINDEX, &source_key);
  ckpt_sandbox_push_env(L);
  lua_newtable(L);
  lua_pushcfunction(L, policy_align);
  lua_setfield(L, -2, "align");
  lua_pushcfunction(L, ckpt_lua_policy_infer);
  lua_setfield(L, -2, "infer");
  ckpt_lua_push_none(L);
  lua_setfield(L, -2, "none");
  lua_setfield(L, -2, "ckpt");
  return 0;
}

ckpt_status ckpt_open_policy_library(ckpt_sandbox *s, ckpt_error *err) {
  return ckpt_sandbox_call(s, open_library, NULL, err);
}
