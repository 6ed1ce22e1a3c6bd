/* lua_report.c - a load's report as a table: the fields of ckpt_load_report under their own names. */
#include "lua_plan.h"

static void set_string(lua_State *L, const char *field, const char *value) {
  lua_pushstring(L, value); /* nil for NULL */
  lua_setfield(L, -2, field);
}

static void set_integer(lua_State *L, const char *field, int64_t value) {
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, field);
}

static void set_dims(lua_State *L, const char *field, int n, const int64_t *dims) {
  ckpt_lua_push_dims(L, n, dims);
  lua_setfield(L, -2, field);
}

static void push_entry(lua_State *L, const ckpt_load_entry *e) {
  static const char *const statuses[] = {"matched", "partial", "missing", "mismatched", "colliding", "reset"};
  lua_createtable(L, 0, 10);
  set_string(L, "to", e->to);
  set_string(L, "status", statuses[e->status]);
  set_string(L, "source", e->source);
  set_string(L, "rule", e->rule);
  set_string(L, "operations", e->operations);
  set_string(L, "note", e->note);
  set_string(L, "dtype", ckpt_dtype_name(e->model_dtype));
  set_dims(L, "shape", e->model_ndim, e->model_shape);
  if (e->file_ndim < 0) return;
  set_string(L, "file_dtype", ckpt_dtype_name(e->file_dtype));
  set_dims(L, "file_shape", e->file_ndim, e->file_shape);
}

static void set_entries(lua_State *L, const ckpt_load_report *r) {
  lua_createtable(L, (int)r->n_entries, 0);
  for (size_t i = 0; i < r->n_entries; i++) {
    push_entry(L, &r->entries[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "entries");
}

static void set_suggestions(lua_State *L, const ckpt_load_report *r) {
  lua_createtable(L, (int)r->n_suggestions, 0);
  for (size_t i = 0; i < r->n_suggestions; i++) {
    lua_createtable(L, 0, 2);
    set_string(L, "text", r->suggestions[i].text);
    set_integer(L, "matches", r->suggestions[i].matches);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "suggestions");
}

static void set_parameters(lua_State *L, const ckpt_load_report *r) {
  lua_createtable(L, (int)r->n_parameters, 0);
  for (size_t i = 0; i < r->n_parameters; i++) {
    const ckpt_load_parameter *p = &r->parameters[i];
    lua_createtable(L, 0, 5);
    set_string(L, "name", p->name);
    set_string(L, "source", p->source);
    set_integer(L, "slots", (int64_t)p->n_slots);
    set_integer(L, "moved", (int64_t)p->n_moved);
    set_string(L, "note", p->note);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "parameters");
}

void ckpt_lua_push_report(lua_State *L, const ckpt_load_report *r) {
  static const char *const modes[] = {"scratch", "pretrain", "resume"};
  luaL_checkstack(L, 8, "report");
  lua_createtable(L, 0, 20);
  set_string(L, "mode", modes[r->mode]);
  set_string(L, "path", r->path);
  set_string(L, "map", r->map);
  if (r->epoch != INT64_MIN) set_integer(L, "epoch", r->epoch);
  set_integer(L, "matched", (int64_t)r->matched);
  set_integer(L, "bytes", r->bytes);
  set_integer(L, "matched_bytes", r->matched_bytes);
  ckpt_lua_set_list(L, "missing", r->missing, r->n_missing);
  ckpt_lua_set_list(L, "unexpected", r->unexpected, r->n_unexpected);
  ckpt_lua_set_list(L, "mismatched", r->mismatched, r->n_mismatched);
  ckpt_lua_set_list(L, "dropped", r->dropped, r->n_dropped);
  ckpt_lua_set_list(L, "unfired", r->unfired, r->n_unfired);
  ckpt_lua_set_list(L, "violations", r->violations, r->n_violations);
  set_entries(L, r);
  set_suggestions(L, r);
  set_parameters(L, r);
}
