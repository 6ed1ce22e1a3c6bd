/*
 * host_files.c - directories and files as the batch commands look at them, and a journal in a directory that is theirs
 * while they run. See host.h.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host.h"
#include "publish.h"

#define T_JOURNAL "ckpt.host.journal"
#define T_LISTING "ckpt.host.listing"

/* nil, message, code; CKPT_E_NOTFOUND where there is nothing. */
static int fail_at(lua_State *L, const char *path, const char *what) {
  ckpt_error err;
  if (errno == ENOENT || errno == ENOTDIR)
    ckpt_fail(&err, CKPT_E_NOTFOUND, -1, "%.300s: there is no such file", path);
  else
    ckpt_fail_errno(&err, errno, "%.300s: %s", path, what);
  return ckpt_lua_fail(L, &err);
}

/* ---- looking ---- */

static void set_integer(lua_State *L, const char *name, lua_Integer n) {
  lua_pushinteger(L, n);
  lua_setfield(L, -2, name);
}

/* stat(path) -> { kind, bytes, mtime (nanoseconds), inode, device } */
static int host_stat(lua_State *L) {
  struct stat st;
  const char *path = ckpt_lua_check_text(L, 1);
  if (stat(path, &st) != 0) return fail_at(L, path, "it cannot be looked at");
  lua_createtable(L, 0, 5);
  lua_pushstring(L, S_ISDIR(st.st_mode) ? "directory" : S_ISREG(st.st_mode) ? "file" : "other");
  lua_setfield(L, -2, "kind");
  set_integer(L, "bytes", (lua_Integer)st.st_size);
  set_integer(L, "mtime", (lua_Integer)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
  set_integer(L, "inode", (lua_Integer)st.st_ino);
  set_integer(L, "device", (lua_Integer)st.st_dev);
  return 1;
}

static int listing_gc(lua_State *L) {
  DIR **box = luaL_checkudata(L, 1, T_LISTING);
  if (*box != NULL) closedir(*box);
  *box = NULL;
  return 0;
}

/* names(dir) -> list of the names in it, hidden ones too, in no order */
static int host_names(lua_State *L) {
  const char *path = ckpt_lua_check_text(L, 1);
  DIR **box = lua_newuserdatauv(L, sizeof(DIR *), 0);
  *box = NULL;
  luaL_setmetatable(L, T_LISTING);
  *box = opendir(path);
  if (*box == NULL) return fail_at(L, path, "the directory cannot be read");
  lua_newtable(L);
  errno = 0;
  for (const struct dirent *e; (e = readdir(*box)) != NULL; errno = 0) {
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
    lua_pushstring(L, e->d_name);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
  }
  return errno == 0 ? 1 : fail_at(L, path, "the directory cannot be read");
}

/* real_path(path) -> the path from the root, without links */
static int host_real_path(lua_State *L) {
  char found[PATH_MAX];
  const char *path = ckpt_lua_check_text(L, 1);
  if (realpath(path, found) == NULL) return fail_at(L, path, "it cannot be found");
  lua_pushstring(L, found);
  return 1;
}

/* make_directory(path): with its parents; true also where it is there already */
static int host_make_directory(lua_State *L) {
  ckpt_error err;
  ckpt_dir *dir = NULL;
  if (ckpt_dir_open(&dir, ckpt_lua_check_text(L, 1), true, false, NULL, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  ckpt_dir_close(dir);
  lua_pushboolean(L, 1);
  return 1;
}

/* ---- the journal ---- */

/* journal(dir) -> what appends to files in it; the directory is made, and locked until the journal is closed */
static int host_journal(lua_State *L) {
  ckpt_error err;
  const char *path = ckpt_lua_check_text(L, 1);
  ckpt_dir **box = lua_newuserdatauv(L, sizeof(ckpt_dir *), 0);
  *box = NULL;
  luaL_setmetatable(L, T_JOURNAL);
  return ckpt_dir_open(box, path, true, true, NULL, &err) == CKPT_OK ? 1 : ckpt_lua_fail(L, &err);
}

/* journal:append(name, text): on the disk when it returns true */
static int journal_append(lua_State *L) {
  ckpt_error err;
  size_t n;
  ckpt_dir **box = luaL_checkudata(L, 1, T_JOURNAL);
  const char *name = ckpt_lua_check_text(L, 2), *text = luaL_checklstring(L, 3, &n);
  luaL_argcheck(L, *box != NULL, 1, "the journal is closed");
  if (ckpt_dir_append(*box, name, text, n, &err) != CKPT_OK) return ckpt_lua_fail(L, &err);
  lua_pushboolean(L, 1);
  return 1;
}

static int journal_close(lua_State *L) {
  ckpt_dir **box = luaL_checkudata(L, 1, T_JOURNAL);
  ckpt_dir_close(*box);
  *box = NULL;
  return 0;
}

/* ---- the rest ---- */

/* sha256(text) -> hexadecimal digits */
static int host_sha256(lua_State *L) {
  unsigned char sum[32];
  char text[65];
  size_t n;
  const char *bytes = luaL_checklstring(L, 1, &n);
  if (EVP_Digest(bytes, n, sum, NULL, EVP_sha256(), NULL) != 1) return luaL_error(L, "no SHA-256 in libcrypto");
  for (size_t i = 0; i < sizeof sum; i++) snprintf(text + 2 * i, 3, "%02x", sum[i]);
  lua_pushlstring(L, text, 64);
  return 1;
}

/* now() -> seconds of a clock that nobody sets */
static int host_now(lua_State *L) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  lua_pushnumber(L, (lua_Number)t.tv_sec + (lua_Number)t.tv_nsec / 1e9);
  return 1;
}

/* processors() -> how many this process may use */
static int host_processors(lua_State *L) {
  long n = sysconf(_SC_NPROCESSORS_ONLN);
  lua_pushinteger(L, n < 1 ? 1 : (lua_Integer)n);
  return 1;
}

void ckpt_lua_host_files(lua_State *L) {
  static const luaL_Reg listing[] = {{"__gc", listing_gc}, {NULL, NULL}};
  static const luaL_Reg journal[] = {{"__gc", journal_close}, {"__close", journal_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"append", journal_append}, {"close", journal_close}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"stat", host_stat},
                                       {"names", host_names},
                                       {"real_path", host_real_path},
                                       {"make_directory", host_make_directory},
                                       {"journal", host_journal},
                                       {"sha256", host_sha256},
                                       {"now", host_now},
                                       {"processors", host_processors},
                                       {NULL, NULL}};
  ckpt_lua_new_type(L, T_LISTING, listing, NULL);
  ckpt_lua_new_type(L, T_JOURNAL, journal, methods);
  luaL_setfuncs(L, functions, 0);
}
