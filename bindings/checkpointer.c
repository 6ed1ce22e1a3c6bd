/* checkpointer.c - a run: opening and closing it, its log, options and metrics. See run.h for the other rooms. */
#include <ckpt/checkpointer.h>

#include <lauxlib.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "load_report.h"

#define POLICY_MEMORY ((size_t)256 << 20)
#define LOAD_STEPS UINT64_C(1000000000)
#define LOAD_DEADLINE 60000

void ckpt_log(const ckpt_checkpointer *cp, ckpt_log_level level, const char *format, ...) {
  char line[1024];
  va_list args;
  if (cp->log == NULL || cp->rank != 0) return;
  va_start(args, format);
  vsnprintf(line, sizeof line, format, args);
  va_end(args);
  cp->log(cp->log_user, level, line);
}

static void policy_print(void *user, const char *line) { ckpt_log(user, CKPT_LOG_INFO, "%s", line); }

/* ---- the policy ---- */

static const char *const functions[] = {"candidates", "plan_load", "due",     "plan_save",
                                        "plan_best",  "kept",      "ranking", "plan_prune"};

/* A policy is a table; the functions that it lacks are the default policy's. Stack: the two tables. */
static int complete_policy(lua_State *L) {
  const int *refs = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, refs[0]);
  lua_rawgeti(L, LUA_REGISTRYINDEX, refs[1]);
  if (lua_isfunction(L, 3)) lua_call(L, 0, 1); /* policies.default is a factory */
  if (lua_isfunction(L, 2)) {
    lua_pushvalue(L, 2);
    lua_call(L, 0, 1);
    lua_replace(L, 2);
  }
  if (!lua_istable(L, 2)) luaL_error(L, "a policy must return a table, not %s", luaL_typename(L, 2));
  for (size_t i = 0; i < CKPT_COUNTOF(functions); i++) {
    if (lua_getfield(L, 2, functions[i]) == LUA_TNIL) {
      lua_getfield(L, 3, functions[i]);
      lua_setfield(L, 2, functions[i]);
    }
    lua_pop(L, 1);
  }
  lua_pushvalue(L, 2);
  lua_rawseti(L, LUA_REGISTRYINDEX, refs[0]);
  return 0;
}

static ckpt_status load_policy(ckpt_checkpointer *cp, ckpt_error *err) {
  int refs[2];
  CKPT_TRY(ckpt_sandbox_load(&refs[0], cp->sandbox, cp->policy, err));
  CKPT_TRY(ckpt_sandbox_load(&refs[1], cp->sandbox, "default", err));
  CKPT_TRY(ckpt_sandbox_call(cp->sandbox, complete_policy, refs, err));
  cp->policy_ref = refs[0];
  return CKPT_OK;
}

/* Where `require` of a policy file looks first: beside it. A built-in policy lies nowhere: *out is NULL. */
static ckpt_status directory_of(char **out, const char *policy, ckpt_error *err) {
  const char *slash = strrchr(policy, '/');
  *out = NULL;
  if (strpbrk(policy, "/.") == NULL) return CKPT_OK;
  *out = slash == NULL ? strdup(".") : strndup(policy, slash == policy ? 1 : (size_t)(slash - policy));
  return *out == NULL ? ckpt_fail_nomem(err, strlen(policy) + 1) : CKPT_OK;
}

static ckpt_status open_policy(ckpt_checkpointer *cp, const ckpt_checkpointer_options *o, ckpt_error *err) {
  char *base = NULL;
  CKPT_TRY(directory_of(&base, cp->policy, err));
  ckpt_sandbox_options so = {.memory_limit = o->policy_memory != 0 ? o->policy_memory : POLICY_MEMORY,
                             .budget = {o->policy_steps, o->policy_deadline},
                             .base_dir = base,
                             .embedded = ckpt_embedded_files,
                             .print = policy_print,
                             .user = cp};
  cp->load_budget = (ckpt_sandbox_budget){o->policy_load_steps != 0 ? o->policy_load_steps : LOAD_STEPS,
                                          o->policy_load_deadline != 0 ? o->policy_load_deadline : LOAD_DEADLINE};
  ckpt_status st = ckpt_sandbox_new(&cp->sandbox, &so, err);
  free(base);
  if (st == CKPT_OK) st = ckpt_open_policy_library(cp->sandbox, err);
  return st == CKPT_OK ? load_policy(cp, err) : st;
}

/* ---- opening ---- */

static const char *option(const ckpt_checkpointer *cp, const char *key) {
  for (size_t i = 0; i < cp->option_names.n; i++)
    if (strcmp(cp->option_names.items[i], key) == 0) return cp->option_values.items[i];
  return NULL;
}

static bool is_allowed(const ckpt_checkpointer *cp, const char *key) {
  const char *text = option(cp, key);
  return text != NULL && strcmp(text, "true") == 0;
}

/* Only rank 0 writes; the others read what is there, and there may be nothing yet. */
static ckpt_status open_directory(ckpt_checkpointer *cp, ckpt_error *err) {
  if (cp->rank == 0) {
    CKPT_TRY(ckpt_dir_open(&cp->dir, cp->path, true, true, cp->io, err));
    return is_allowed(cp, "foreign_dir") ? CKPT_OK : ckpt_dir_check_owner(cp->dir, err);
  }
  ckpt_status st = ckpt_dir_open(&cp->dir, cp->path, false, false, cp->io, err);
  return st == CKPT_E_NOTFOUND ? CKPT_OK : st;
}

static ckpt_status copy_text(char **out, const char *text, ckpt_error *err) {
  if (text == NULL || text[0] == '\0') return CKPT_OK;
  *out = strdup(text);
  return *out == NULL ? ckpt_fail_nomem(err, strlen(text) + 1) : CKPT_OK;
}

static ckpt_status set_pair(ckpt_checkpointer *cp, const char *pair, ckpt_error *err) {
  const char *equals = strchr(pair, '=');
  if (equals == NULL || equals == pair)
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "option '%s' is not of the form key=value", pair);
  char *key = strndup(pair, (size_t)(equals - pair));
  if (key == NULL) return ckpt_fail_nomem(err, strlen(pair));
  ckpt_status st = ckpt_set_option(cp, key, equals + 1, err);
  free(key);
  return st;
}

static ckpt_status open_run(ckpt_checkpointer *cp, const ckpt_checkpointer_options *o, ckpt_error *err) {
  if (o->dir == NULL || o->dir[0] == '\0') return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "a run needs a directory");
  CKPT_TRY(copy_text(&cp->path, o->dir, err));
  CKPT_TRY(copy_text(&cp->weights, o->weights, err));
  CKPT_TRY(copy_text(&cp->policy, o->policy == NULL ? "default" : o->policy, err));
  for (size_t i = 0; o->set != NULL && o->set[i] != NULL; i++) CKPT_TRY(set_pair(cp, o->set[i], err));
  CKPT_TRY(open_policy(cp, o, err));
  if (o->simulate) return ckpt_model_new(&cp->model, cp->path, o->simulate_bytes, err);
  CKPT_TRY(open_directory(cp, err));
  if (cp->rank == 0) ckpt_recover(cp);
  return CKPT_OK;
}

ckpt_status ckpt_checkpointer_open(ckpt_checkpointer **out, const ckpt_checkpointer_options *options, ckpt_error *err) {
  return ckpt_checkpointer_open_io(out, options, NULL, err);
}

ckpt_status ckpt_checkpointer_open_io(ckpt_checkpointer **out, const ckpt_checkpointer_options *options,
                                      const ckpt_io *io, ckpt_error *err) {
  ckpt_error here = {0};
  ckpt_checkpointer *cp = calloc(1, sizeof *cp);
  if (cp == NULL) return ckpt_fail_nomem(err, sizeof *cp);
  cp->io = io;
  cp->auto_resume = options->auto_resume;
  cp->rank = options->rank;
  cp->log = options->log;
  cp->log_user = options->log_user;
  cp->async_memory = options->async_memory;
  cp->next_epoch = 1;
  cp->step = cp->epoch = cp->clock = cp->now = INT64_MIN;
  atomic_init(&cp->requested, false);
  ckpt_status st = open_run(cp, options, &here);
  if (st == CKPT_OK) {
    *out = cp;
    return CKPT_OK;
  }
  ckpt_checkpointer_close(cp);
  if (err != NULL) *err = here;
  return st;
}

void ckpt_checkpointer_close(ckpt_checkpointer *cp) {
  if (cp == NULL) return;
  ckpt_async_free(cp);
  ckpt_sandbox_free(cp->sandbox);
  ckpt_dir_close(cp->dir);
  ckpt_model_free(cp->model);
  ckpt_ledger_free(cp->ledger);
  if (cp->done != NULL) ckpt_save_plan_free(cp->done);
  free(cp->done);
  ckpt_slots_free(cp);
  ckpt_strings_free(&cp->option_names);
  ckpt_strings_free(&cp->option_values);
  ckpt_load_record_free(cp->record);
  ckpt_strings_free(&cp->told);
  for (size_t i = 0; i < cp->n_metrics; i++) free(cp->metrics[i].name);
  free(cp->metrics);
  free(cp->metric_epochs);
  free(cp->path);
  free(cp->rules_path);
  free(cp->policy);
  free(cp->weights);
  free(cp);
}

/* ---- epoch, metrics, options ---- */

int64_t ckpt_next_epoch(const ckpt_checkpointer *cp) { return cp->next_epoch; }
void ckpt_set_step(ckpt_checkpointer *cp, int64_t step) { cp->step = step; }
void ckpt_set_time(ckpt_checkpointer *cp, int64_t seconds) { cp->clock = seconds; }
void ckpt_set_final(ckpt_checkpointer *cp, bool final) { cp->final = final; }

/* Lock-free, so that a signal handler may do it. */
void ckpt_request_save(ckpt_checkpointer *cp) { atomic_store(&cp->requested, true); }
bool ckpt_save_requested(const ckpt_checkpointer *cp) { return atomic_load(&cp->requested); }

void ckpt_begin_call(ckpt_checkpointer *cp) { cp->now = cp->clock == INT64_MIN ? time(NULL) : cp->clock; }

ckpt_status ckpt_set_metric(ckpt_checkpointer *cp, const char *name, double value, ckpt_error *err) {
  for (size_t i = 0; i < cp->n_metrics; i++) {
    if (strcmp(cp->metrics[i].name, name) != 0) continue;
    cp->metrics[i].value = value;
    cp->metric_epochs[i] = INT64_MIN;
    return CKPT_OK;
  }
  ckpt_metric *more = realloc(cp->metrics, (cp->n_metrics + 1) * sizeof *more);
  if (more == NULL) return ckpt_fail_nomem(err, (cp->n_metrics + 1) * sizeof *more);
  cp->metrics = more;
  int64_t *epochs = realloc(cp->metric_epochs, (cp->n_metrics + 1) * sizeof *epochs);
  if (epochs == NULL) return ckpt_fail_nomem(err, (cp->n_metrics + 1) * sizeof *epochs);
  cp->metric_epochs = epochs;
  epochs[cp->n_metrics] = INT64_MIN;
  char *copy = strdup(name);
  if (copy == NULL) return ckpt_fail_nomem(err, strlen(name) + 1);
  cp->metrics[cp->n_metrics++] = (ckpt_metric){copy, value};
  return CKPT_OK;
}

void ckpt_begin_epoch(ckpt_checkpointer *cp, int64_t epoch) {
  size_t kept = 0;
  cp->epoch = epoch;
  for (size_t i = 0; i < cp->n_metrics; i++) {
    if (cp->metric_epochs[i] != INT64_MIN && cp->metric_epochs[i] != epoch) {
      free(cp->metrics[i].name);
      continue;
    }
    cp->metrics[kept] = cp->metrics[i];
    cp->metric_epochs[kept++] = epoch;
  }
  cp->n_metrics = kept;
}

/* A name in maps/ has no suffix. */
static const char *rule_file(const ckpt_checkpointer *cp) {
  const char *map = option(cp, "map");
  size_t n = map == NULL ? 0 : strlen(map);
  return n > 4 && strcmp(map + n - 4, ".lua") == 0 ? map : NULL;
}

ckpt_status ckpt_read_rules(ckpt_checkpointer *cp, ckpt_error *err) {
  const char *path = rule_file(cp);
  if (path == NULL || (cp->rules_path != NULL && strcmp(path, cp->rules_path) == 0)) return CKPT_OK;
  char *copy = strdup(path);
  if (copy == NULL) return ckpt_fail_nomem(err, strlen(path) + 1);
  ckpt_status st = ckpt_sandbox_load(&cp->rules_ref, cp->sandbox, path, err);
  if (st == CKPT_E_NOTFOUND) ckpt_fail(err, st, -1, "%s: there is no such rule file", path);
  if (st != CKPT_OK) {
    free(copy);
    return st;
  }
  free(cp->rules_path);
  cp->rules_path = copy;
  return CKPT_OK;
}

static void remove_option(ckpt_checkpointer *cp, size_t i) {
  ckpt_strings *lists[] = {&cp->option_names, &cp->option_values};
  for (size_t k = 0; k < CKPT_COUNTOF(lists); k++) {
    free(lists[k]->items[i]);
    lists[k]->items[i] = lists[k]->items[--lists[k]->n];
  }
}

ckpt_status ckpt_set_option(ckpt_checkpointer *cp, const char *key, const char *value, ckpt_error *err) {
  for (size_t i = 0; i < cp->option_names.n; i++)
    if (strcmp(cp->option_names.items[i], key) == 0) {
      remove_option(cp, i);
      break;
    }
  if (value == NULL) return CKPT_OK;
  CKPT_TRY(ckpt_strings_add(&cp->option_names, key, strlen(key), err));
  ckpt_status st = ckpt_strings_add(&cp->option_values, value, strlen(value), err);
  if (st != CKPT_OK) free(cp->option_names.items[--cp->option_names.n]);
  return st;
}
