/* sandbox_string.c - functions of `string` and `utf8` that are not Lua's own, or not as they are; see sandbox_find.c.
 */
#include <string.h>

#include "../runtime/base.h"
#include "sandbox_inside.h"

#define BYTES_PER_STEP CKPT_SANDBOX_BYTES_PER_STEP

static uint64_t argument_bytes(lua_State *L) {
  uint64_t bytes = 0;
  for (int i = lua_gettop(L); i > 0; i--) bytes += ckpt_sandbox_bytes(L, i);
  return bytes;
}

int ckpt_sandbox_charged(lua_State *L) {
  ckpt_sandbox_charge(L, 1 + argument_bytes(L) / BYTES_PER_STEP);
  return ckpt_sandbox_stock(L);
}

/* pack, packsize, unpack: the format is a program, and each of its letters may give a result. */
int ckpt_sandbox_charged_bytes(lua_State *L) {
  if (ckpt_sandbox_bytes(L, 1) > CKPT_SANDBOX_RESULTS)
    return luaL_argerror(L, 1, "a format of more than 8000 characters");
  ckpt_sandbox_charge(L, 1 + ckpt_sandbox_bytes(L, 1) + argument_bytes(L) / BYTES_PER_STEP);
  return ckpt_sandbox_stock(L);
}

/* Replaces an object by its text, unless it has __tostring: the standard function would show its address. */
static void mask(lua_State *L, int arg) {
  int type = lua_type(L, arg);
  if (type <= LUA_TSTRING && type != LUA_TLIGHTUSERDATA) return;
  if (luaL_getmetafield(L, arg, "__tostring") != LUA_TNIL) {
    lua_pop(L, 1);
    return;
  }
  ckpt_sandbox_tolstring(L, arg);
  lua_replace(L, arg);
}

/* Masks the arguments of %s; %p is refused. */
static void mask_arguments(lua_State *L, const char *f, const char *end) {
  int top = lua_gettop(L), arg = 1;
  while (f < end && (f = memchr(f, '%', (size_t)(end - f))) != NULL) {
    f++;
    if (f < end && *f == '%') {
      f++;
      continue;
    }
    while (f < end && *f != '\0' && strchr("-+ #0123456789.", *f) != NULL) f++;
    arg++;
    if (f < end && *f == 'p') luaL_error(L, "invalid conversion '%%p' to 'format': a policy sees no addresses");
    if (f < end && *f == 's' && arg <= top) mask(L, arg);
  }
}

int ckpt_sandbox_format(lua_State *L) {
  size_t n;
  const char *f = luaL_checklstring(L, 1, &n);
  ckpt_sandbox_charge(L, 1 + argument_bytes(L) / BYTES_PER_STEP);
  mask_arguments(L, f, f + n);
  return ckpt_sandbox_stock(L);
}

/* Bytes of n copies of `bytes` with `sep` between them, SIZE_MAX if that overflows. */
static size_t repeated(size_t bytes, size_t sep, lua_Integer n) {
  size_t all, between, sum;
  if (!ckpt_mul_size(&all, bytes, (size_t)n) || !ckpt_mul_size(&between, sep, (size_t)n - 1)) return SIZE_MAX;
  return ckpt_add_size(&sum, all, between) ? sum : SIZE_MAX;
}

/* The first copies are written one by one, then what is there is doubled. */
static void fill(char *out, size_t size, const char *s, size_t n, const char *sep, size_t m) {
  size_t done = n < size ? n : size;
  memcpy(out, s, done);
  if (done < size) memcpy(out + done, sep, m);
  if (done < size) done += m;
  for (size_t more; done < size; done += more) {
    more = done < size - done ? done : size - done;
    memcpy(out + done, out, more);
  }
}

int ckpt_sandbox_rep(lua_State *L) {
  size_t n, m;
  const char *s = luaL_checklstring(L, 1, &n);
  lua_Integer times = luaL_checkinteger(L, 2);
  const char *sep = luaL_optlstring(L, 3, "", &m);
  size_t size = times > 0 ? repeated(n, m, times) : 0;
  if (size > CKPT_SANDBOX_STRING || size > ckpt_sandbox_memory_limit(L))
    return luaL_error(L, "string.rep: the result would not fit into the memory limit");
  ckpt_sandbox_charge(L, 1 + size / BYTES_PER_STEP);
  luaL_Buffer b;
  char *out = luaL_buffinitsize(L, &b, size);
  if (size > 0) fill(out, size, s, n, sep, m);
  luaL_pushresultsize(&b, size);
  return 1;
}

/* ---- results by the thousand ------------------------------------------------------------------------- */

/* Bytes from i to j (arguments first, first + 1; j is i if it is not given) of a string of n bytes. */
static size_t span(lua_State *L, int first, size_t n) {
  lua_Integer size = (lua_Integer)n, i = luaL_optinteger(L, first, 1), j = luaL_optinteger(L, first + 1, i);
  if (i < 0) i = i < -size ? 1 : size + i + 1;
  if (j < 0) j = j < -size ? 0 : size + j + 1;
  if (i < 1) i = 1;
  if (j > size) j = size;
  return j < i ? 0 : (size_t)(j - i) + 1;
}

static int give_many(lua_State *L, const char *message) {
  size_t n;
  luaL_checklstring(L, 1, &n);
  size_t results = span(L, 2, n);
  if (results > CKPT_SANDBOX_RESULTS) return luaL_error(L, "%s", message);
  ckpt_sandbox_charge(L, 1 + results);
  return ckpt_sandbox_stock(L);
}

int ckpt_sandbox_byte(lua_State *L) { return give_many(L, "string slice too long"); }
int ckpt_sandbox_codepoint(lua_State *L) { return give_many(L, "string slice too long"); }

/* ---- utf8.codes -------------------------------------------------------------------------------------- */

/* Iterator around the standard one (upvalue 1), which skips any number of continuation bytes in one call. */
static int next_code(lua_State *L) {
  size_t n;
  const char *s = luaL_checklstring(L, 1, &n);
  lua_Integer i = lua_tointeger(L, 2);
  size_t at = i > 0 && (size_t)i <= n ? (size_t)i : 0, end = at;
  while (end < n && ((unsigned char)s[end] & 0xC0) == 0x80) end++;
  ckpt_sandbox_charge(L, 1 + (end - at) / BYTES_PER_STEP);
  return ckpt_sandbox_stock(L);
}

int ckpt_sandbox_codes(lua_State *L) {
  ckpt_sandbox_charge(L, 1);
  int results = ckpt_sandbox_stock(L); /* iterator, string, 0 */
  lua_pushvalue(L, -results);
  lua_pushcclosure(L, next_code, 1);
  lua_replace(L, -results - 1);
  return results;
}
