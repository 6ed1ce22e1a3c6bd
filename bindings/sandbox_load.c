/*
 * sandbox_load.c - where the texts of a sandbox come from: policy files, `require`, built-in texts (see sandbox.h).
 *
 * Invariants
 *   - Nothing in C is held across a call that can raise: a text in C memory lives only around luaL_loadbufferx, which
 *     is protected by itself, or belongs to a frame outside of the gate.
 *   - A chunk is named "@path", so that messages read "policies/x.lua:6: ...".
 *   - A module name is words joined by dots, so that no path made of it leaves the directory it starts from.
 */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../runtime/base.h"
#include "sandbox_inside.h"

static const char modules_key; /* its address is the registry key of the table of loaded modules */

/* ---- Texts ------------------------------------------------------------------------------------------- */

/* A policy's text: `text` is borrowed from the embedded list, or `owned`. */
typedef struct source {
  char *owned;
  const char *text;
  size_t size;
  const char *path; /* as messages show it */
} source;

static ckpt_status read_all(char *out, size_t *size, int fd, const char *path, ckpt_error *err) {
  enum { MAX_INTERRUPTIONS = 1000 };
  size_t n = 0;
  for (int tries = 0; n <= CKPT_SANDBOX_TEXT;) {
    ssize_t got = read(fd, out + n, CKPT_SANDBOX_TEXT + 1 - n);
    if (got < 0 && errno == EINTR && ++tries < MAX_INTERRUPTIONS) continue;
    if (got < 0) return ckpt_fail_errno(err, errno, "%s: cannot be read", path);
    if (got == 0) break;
    n += (size_t)got;
  }
  if (n > CKPT_SANDBOX_TEXT)
    return ckpt_fail(err, CKPT_E_POLICY, -1, "%s: larger than 1 MiB, which no policy is", path);
  *size = n;
  return CKPT_OK;
}

static ckpt_status read_regular(source *out, int fd, const char *path, ckpt_error *err) {
  struct stat info;
  if (fstat(fd, &info) != 0) return ckpt_fail_errno(err, errno, "%s: cannot be examined", path);
  if (!S_ISREG(info.st_mode)) return ckpt_fail(err, CKPT_E_POLICY, -1, "%s: not a regular file", path);
  char *text = malloc(CKPT_SANDBOX_TEXT + 1);
  if (text == NULL) return ckpt_fail_nomem(err, CKPT_SANDBOX_TEXT + 1);
  size_t size = 0;
  ckpt_status st = read_all(text, &size, fd, path, err);
  if (st != CKPT_OK) {
    free(text);
    return st;
  }
  *out = (source){.owned = text, .text = text, .size = size, .path = path};
  return CKPT_OK;
}

/* CKPT_E_NOTFOUND if there is no such file. A FIFO is opened without waiting for its writer, then refused. */
static ckpt_status read_file(source *out, const char *path, ckpt_error *err) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
    return ckpt_fail(err, CKPT_E_NOTFOUND, -1, "%s: no such file", path);
  if (fd < 0) return ckpt_fail_errno(err, errno, "%s: cannot be opened", path);
  ckpt_status st = read_regular(out, fd, path, err);
  close(fd);
  return st;
}

static bool find_embedded(source *out, const ckpt_sandbox *s, const char *name) {
  for (const struct ckpt_embedded *e = ckpt_sandbox_embedded(s); e->name != NULL; e++) {
    if (strcmp(e->name, name) != 0) continue;
    *out = (source){.text = e->text, .size = e->size, .path = e->name};
    return true;
  }
  return false;
}

/* Drops a byte order mark and a first line "#!..."; its newline stays, so that lines keep their numbers. */
static void skip_prelude(source *src) {
  const char *p = src->text, *end = src->text + src->size;
  if (src->size >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0) p += 3;
  if (p < end && *p == '#')
    while (p < end && *p != '\n') p++;
  src->text = p;
  src->size = (size_t)(end - p);
}

/* Hands a text to the compiler in pieces. */
typedef struct reader {
  const char *text;
  size_t left;
} reader;

/*
 * Each piece is charged and the clock looked at: the compiler walks its lists of jumps for each further `or` or
 * `elseif`, so that a text of 1 MiB can take it a minute.
 */
static const char *read_piece(lua_State *L, void *data, size_t *size) {
  enum { PIECE = 64 };
  reader *r = data;
  const char *piece = r->text;
  *size = r->left < PIECE ? r->left : PIECE;
  r->text += *size;
  r->left -= *size;
  ckpt_sandbox_look(L, PIECE);
  return piece;
}

/* Light C function: source, chunk name -> the compiled chunk. */
static int compile(lua_State *L) {
  const source *src = lua_touserdata(L, 1);
  reader r = {src->text, src->size};
  return lua_load(L, read_piece, &r, lua_tostring(L, 2), "t") == LUA_OK ? 1 : lua_error(L);
}

/* Pushes the compiled chunk, or raises; frees the text in any case. `chunk` is "@path" and lies on the stack. */
static void push_chunk(lua_State *L, source *src, const char *chunk) {
  skip_prelude(src);
  bool binary = src->size > 0 && src->text[0] == LUA_SIGNATURE[0];
  int status = LUA_ERRSYNTAX;
  if (!binary) {
    lua_pushcfunction(L, compile);
    lua_pushlightuserdata(L, src);
    lua_pushstring(L, chunk);
    status = lua_pcall(L, 2, 1, 0);
  }
  free(src->owned);
  src->owned = NULL;
  if (binary) luaL_error(L, "%s:1: is compiled Lua; a policy must be Lua source text", chunk + 1);
  if (status != LUA_OK) lua_error(L);
}

/* ---- require ----------------------------------------------------------------------------------------- */

static bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

/* Words joined by single dots: nothing that could leave a directory. */
static bool is_module_name(const char *name, size_t size) {
  bool word = false;
  for (size_t i = 0; i < size; i++) {
    if (!is_word(name[i]) && !(name[i] == '.' && word)) return false;
    word = name[i] != '.';
  }
  return word;
}

/* A module is looked for under its whole name, and without a leading "policies.". */
typedef struct search {
  const char *base; /* or NULL */
  char whole[256], rest[256];
  bool prefixed;
} search;

static void name_to_path(char *out, const char *name) {
  size_t i = 0;
  for (; name[i] != '\0'; i++) out[i] = name[i] == '.' ? '/' : name[i];
  out[i] = '\0';
}

static void plan_search(search *q, const ckpt_sandbox *s, const char *name) {
  q->prefixed = strncmp(name, "policies.", 9) == 0;
  q->base = ckpt_sandbox_base_dir(s);
  name_to_path(q->whole, name);
  name_to_path(q->rest, q->prefixed ? name + 9 : name);
}

/* The i-th place to look, or false after the last. Only the last is a built-in name. */
static bool place_at(char *out, size_t size, const search *q, int i, bool *built_in) {
  *built_in = false;
  if (q->base == NULL)
    i += 2;
  else if (i >= 1 && !q->prefixed)
    i += 1;
  if (i > 2) return false;
  *built_in = i == 2;
  if (i == 2)
    snprintf(out, size, "policies/%s.lua", q->rest);
  else
    snprintf(out, size, "%s/%s.lua", q->base, i == 0 ? q->whole : q->rest);
  return true;
}

static int raise_not_found(lua_State *L, const search *q, const char *name) {
  char path[CKPT_SANDBOX_PATH + 300];
  bool built_in;
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (int i = 0; place_at(path, sizeof path, q, i, &built_in); i++) {
    luaL_addstring(&b, i > 0 ? ", " : "");
    luaL_addstring(&b, built_in ? "no built-in '" : "no file '");
    luaL_addstring(&b, path);
    luaL_addchar(&b, '\'');
  }
  luaL_pushresult(&b);
  return luaL_error(L, "require: there is no module '%s': %s", name, lua_tostring(L, -1));
}

/* Whether the main chunk of that name is being run: then requiring it again would never end. */
static bool is_running(lua_State *L, const char *chunk) {
  lua_Debug ar;
  for (int level = 1; lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "S", &ar);
    if (strcmp(ar.what, "main") == 0 && strcmp(ar.source, chunk) == 0) return true;
  }
  return false;
}

/* Pushes the table of loaded modules: by the name they were required by, and by "@path". */
static void push_modules(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &modules_key) == LUA_TTABLE) return;
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &modules_key);
  lua_replace(L, -2);
}

/* modules[key at -2] = value at -1, which stays. `modules` is at index 2. */
static void remember(lua_State *L, const char *key) {
  lua_pushvalue(L, -1);
  lua_setfield(L, 2, key);
}

/* Stack: name, modules -> the module's value on the top. Frees the text in any case. */
static void run_module(lua_State *L, source *src, const char *chunk) {
  push_chunk(L, src, chunk);
  lua_call(L, 0, 1);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_pushboolean(L, 1);
  }
  remember(L, chunk);
}

/* Loads what lies at `path`: false if nothing does. All that can raise comes before the text or in run_module. */
static bool try_place(lua_State *L, const char *path, bool built_in) {
  const char *chunk = lua_pushfstring(L, "@%s", path);
  if (lua_getfield(L, 2, chunk) != LUA_TNIL) return true;
  lua_pop(L, 1);
  luaL_checkstack(L, 8, "require");
  ckpt_error err = {.message = ""};
  source src = {.owned = NULL};
  ckpt_sandbox *s = ckpt_sandbox_of(L);
  ckpt_status st = built_in ? (find_embedded(&src, s, path) ? CKPT_OK : CKPT_E_NOTFOUND) : read_file(&src, path, &err);
  if (st == CKPT_E_NOTFOUND) return false;
  if (st != CKPT_OK) luaL_error(L, "require: %s", err.message);
  if (is_running(L, chunk)) {
    free(src.owned);
    luaL_error(L, "require: '%s' requires itself, by way of others or directly", path);
  }
  run_module(L, &src, chunk);
  return true;
}

int ckpt_sandbox_require(lua_State *L) {
  size_t size;
  const char *name = luaL_checklstring(L, 1, &size);
  search q;
  lua_settop(L, 1);
  if (!is_module_name(name, size) || size >= sizeof q.whole)
    return luaL_error(L, "require: a module name is words of letters, digits, '_' and '-' joined by dots");
  ckpt_sandbox_charge(L, 100);
  push_modules(L);
  if (lua_getfield(L, 2, name) != LUA_TNIL) return 1;
  lua_pop(L, 1);
  plan_search(&q, ckpt_sandbox_of(L), name);
  char path[CKPT_SANDBOX_PATH + 300];
  bool built_in;
  for (int i = 0; place_at(path, sizeof path, &q, i, &built_in); i++) {
    if (!try_place(L, path, built_in)) continue;
    remember(L, name);
    return 1;
  }
  return raise_not_found(L, &q, name);
}

/* ---- Loading a policy -------------------------------------------------------------------------------- */

/* "default, pet": the embedded texts in policies/ itself. */
static void list_built_in(char *out, size_t size, const struct ckpt_embedded *e) {
  size_t n = 0;
  snprintf(out, size, "none");
  for (; e->name != NULL && n < size; e++) {
    size_t length = strlen(e->name);
    if (length < 14 || strncmp(e->name, "policies/", 9) != 0 || strchr(e->name + 9, '/') != NULL) continue;
    if (strcmp(e->name + length - 4, ".lua") != 0) continue;
    if (strcmp(e->name, "policies/rules.lua") == 0) continue; /* a library, no policy */
    n += (size_t)snprintf(out + n, size - n, "%s%.*s", n > 0 ? ", " : "", (int)(length - 13), e->name + 9);
  }
}

static ckpt_status fail_no_policy(const ckpt_sandbox *s, const char *path, ckpt_error *err) {
  char names[256];
  list_built_in(names, sizeof names, ckpt_sandbox_embedded(s));
  return ckpt_fail(err, CKPT_E_NOTFOUND, -1,
                   "%s: there is no such policy file, nor a built-in policy of that name (built in: %s)", path, names);
}

static bool find_policy(source *out, const ckpt_sandbox *s, const char *name) {
  char path[300];
  size_t size = strlen(name);
  if (size > 255 || !is_module_name(name, size) || strchr(name, '.') != NULL) return false;
  snprintf(path, sizeof path, "policies/%s.lua", name);
  return find_embedded(out, s, path);
}

typedef struct load_call {
  source src;
  int ref;
} load_call;

static int run_policy(lua_State *L) {
  load_call *call = lua_touserdata(L, 1);
  const char *chunk = lua_pushfstring(L, "@%s", call->src.path);
  push_chunk(L, &call->src, chunk);
  lua_call(L, 0, 1);
  call->ref = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

ckpt_status ckpt_sandbox_load(int *ref_out, ckpt_sandbox *s, const char *path_or_name, ckpt_error *err) {
  load_call call = {.ref = LUA_NOREF};
  ckpt_status st = CKPT_OK;
  if (!find_policy(&call.src, s, path_or_name)) st = read_file(&call.src, path_or_name, err);
  if (st == CKPT_E_NOTFOUND) return fail_no_policy(s, path_or_name, err);
  if (st != CKPT_OK) return st;
  ckpt_sandbox_set_name(s, call.src.path);
  st = ckpt_sandbox_call(s, run_policy, &call, err);
  free(call.src.owned);
  if (st == CKPT_OK) *ref_out = call.ref;
  return st;
}
