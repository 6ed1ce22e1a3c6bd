/*
 * main.c - the executable `ckpt`: a Lua state, the module, and scripts/main.lua. All else is Lua.
 *
 * Scripts and policies are embedded; in a development tree (the executable lies in build/, beside it scripts/main.lua)
 * they are read from the disk, so that an edit counts at once.
 */
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "embed.h"
#include "host.h"
#include "lua_types.h"

extern const struct ckpt_embedded ckpt_embedded_scripts[];
int luaopen_ckpt(lua_State *L);

/* The development tree's root with its final '/', or "". */
static void find_tree(char *out, size_t size) {
  char path[4096], probe[4200];
  ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
  out[0] = '\0';
  if (n <= 0) return;
  path[n] = '\0';
  for (int up = 0; up < 3; up++) { /* build/ckpt, build/asan/ckpt */
    char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path) return;
    *slash = '\0';
    if (up == 0 && strstr(path, "/build") == NULL) return;
    snprintf(probe, sizeof probe, "%s/scripts/main.lua", path);
    if (access(probe, R_OK) != 0) continue;
    snprintf(out, size, "%s/", path);
    return;
  }
}

static const struct ckpt_embedded *find_embedded(const char *name) {
  const struct ckpt_embedded *tables[] = {ckpt_embedded_scripts, ckpt_embedded_files};
  for (size_t t = 0; t < 2; t++)
    for (const struct ckpt_embedded *e = tables[t]; e->name != NULL; e++)
      if (strcmp(e->name, name) == 0) return e;
  return NULL;
}

/* Loads a text by its name in the tree; pushes the chunk, or leaves the stack as it was. */
static int load_text(lua_State *L, const char *name) {
  const char *tree = lua_tostring(L, lua_upvalueindex(1));
  const struct ckpt_embedded *e = find_embedded(name);
  if (tree[0] != '\0' && strchr(name, '/') != NULL) {
    const char *path = lua_pushfstring(L, "%s%s", tree, name);
    if (access(path, R_OK) == 0) {
      if (luaL_loadfilex(L, path, "t") != LUA_OK) lua_error(L);
      lua_remove(L, -2);
      return 1;
    }
    lua_pop(L, 1);
  }
  if (e == NULL) return 0;
  lua_pushfstring(L, "=%s", name);
  if (luaL_loadbufferx(L, e->text, e->size, lua_tostring(L, -1), "t") != LUA_OK) lua_error(L);
  lua_remove(L, -2);
  return 1;
}

/* A package searcher: "scripts.x" and "policies.x" are the tree's own, "argparse" and "dkjson" are embedded. */
static int searcher(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  luaL_gsub(L, name, ".", "/");
  const char *path = lua_pushfstring(L, "%s.lua", lua_tostring(L, -1));
  return load_text(L, path);
}

/* Before the searchers of the disk: what the executable was built with does not depend on where it runs. */
static void add_searcher(lua_State *L, const char *tree) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "searchers");
  for (lua_Integer i = (lua_Integer)lua_rawlen(L, -1); i >= 2; i--) {
    lua_rawgeti(L, -1, i);
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushstring(L, tree);
  lua_pushcclosure(L, searcher, 1);
  lua_rawseti(L, -2, 2);
  lua_pop(L, 2);
}

static void set_arguments(lua_State *L, int argc, char **argv) {
  lua_createtable(L, argc, 0);
  for (int i = 0; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i);
  }
  lua_setglobal(L, "arg");
}

typedef struct start {
  int argc, status;
  char **argv;
} start;

static int is_terminal(lua_State *L) {
  lua_pushboolean(L, isatty(luaL_optinteger(L, 1, 1) == 2 ? STDERR_FILENO : STDOUT_FILENO));
  return 1;
}

static int run(lua_State *L) {
  start *s = lua_touserdata(L, 1);
  char tree[4200];
  find_tree(tree, sizeof tree);
  lua_pushboolean(L, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");
  luaL_openlibs(L);
  luaL_requiref(L, "ckpt", luaopen_ckpt, 0);
  lua_pushcfunction(L, is_terminal);
  lua_setfield(L, -2, "is_terminal");
  set_arguments(L, s->argc, s->argv);
  add_searcher(L, tree);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "scripts.main");
  lua_call(L, 1, 1);
  lua_getglobal(L, "arg");
  ckpt_lua_push_host(L);
  lua_call(L, 2, 1);
  s->status = (int)luaL_optinteger(L, -1, 0);
  return 0;
}

static int traceback(lua_State *L) {
  luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
  return 1;
}

int main(int argc, char **argv) {
  lua_State *L = luaL_newstate();
  start s = {argc, 0, argv};
  if (L == NULL) {
    fputs("ckpt: out of memory\n", stderr);
    return 3;
  }
  lua_pushcfunction(L, traceback);
  lua_pushcfunction(L, run);
  lua_pushlightuserdata(L, &s);
  if (lua_pcall(L, 1, 0, 1) != LUA_OK) {
    fprintf(stderr, "ckpt: %s\n", lua_tostring(L, -1));
    s.status = 3;
  }
  lua_close(L);
  if ((ferror(stdout) | fflush(stdout)) != 0) { /* a full disk may have shown at any line */
    fputs("ckpt: the output could not be written whole\n", stderr);
    if (s.status == 0) s.status = 3;
  }
  return s.status;
}
