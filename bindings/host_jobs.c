/*
 * host_jobs.c - Lua functions in processes of their own. A job is a fork that calls one function, sends the text that
 * it returns through a pipe, and ends; a crash, or a limit that it runs into, is its own. It dies with its parent: a
 * batch that is killed leaves nobody behind who goes on writing.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base.h"
#include "host.h"

#define T_JOB "ckpt.host.job"

enum { MAX_JOBS = 1024 };

typedef struct job {
  pid_t pid; /* 0: none, or waited for */
  int fd;    /* -1: closed */
  char *text;
  size_t n, capacity;
} job;

/* ---- the process of a job ---- */

static void send(int fd, const char *text, size_t n) {
  while (n > 0) {
    ssize_t k = write(fd, text, n);
    if (k < 0 && errno != EINTR) _exit(1);
    if (k < 0) continue;
    text += k;
    n -= (size_t)k;
  }
}

/* Memory of its own: the mapped files do not count. A sanitizer's shadow would, so there is no limit under one. */
static void limit_memory(lua_Integer bytes) {
#if !defined(__SANITIZE_ADDRESS__)
  struct rlimit r = {(rlim_t)bytes, (rlim_t)bytes};
  if (bytes > 0) setrlimit(RLIMIT_DATA, &r);
#else
  (void)bytes;
#endif
}

/* The function is on the top. Nothing of the parent's is flushed or closed here: _exit. */
static _Noreturn void work(lua_State *L, int fd, pid_t parent, lua_Integer bytes) {
  size_t n = 0;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  limit_memory(bytes);
  int failed = lua_pcall(L, 0, 1, 0) != LUA_OK;
  const char *text = lua_tolstring(L, -1, &n);
  send(fd, text == NULL ? "" : text, text == NULL ? 0 : n);
  _exit(failed);
}

/* ---- the parent ---- */

static int fail_sys(lua_State *L, const char *what) {
  ckpt_error err;
  ckpt_fail_errno(&err, errno, "%s", what);
  return ckpt_lua_fail(L, &err);
}

/* start(function [, bytes]) -> job; the function returns a text, and has at most so many bytes of memory */
static int host_start(lua_State *L) {
  int ends[2];
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_Integer bytes = luaL_optinteger(L, 2, 0);
  job *j = lua_newuserdatauv(L, sizeof *j, 0);
  *j = (job){.fd = -1};
  luaL_setmetatable(L, T_JOB);
  if (pipe2(ends, O_CLOEXEC) != 0) return fail_sys(L, "no pipe can be made");
  j->fd = ends[0];
  pid_t parent = getpid(), pid = fork();
  if (pid == 0) {
    lua_pushvalue(L, 1);
    work(L, ends[1], parent, bytes);
  }
  close(ends[1]);
  if (pid < 0) return fail_sys(L, "no process can be started");
  j->pid = pid;
  return 1;
}

static bool make_room(job *j) {
  if (j->capacity - j->n >= 4096) return true;
  size_t capacity = j->capacity == 0 ? 8192 : 2 * j->capacity;
  char *more = realloc(j->text, capacity);
  if (more == NULL) return false;
  j->text = more;
  j->capacity = capacity;
  return true;
}

/* What there is to read; true at the end. */
static bool receive(lua_State *L, job *j) {
  if (!make_room(j)) luaL_error(L, "not enough memory");
  ssize_t k = read(j->fd, j->text + j->n, j->capacity - j->n);
  if (k > 0) j->n += (size_t)k;
  return k == 0 || (k < 0 && errno != EINTR && errno != EAGAIN);
}

static int reap(job *j) {
  int status = 0;
  close(j->fd);
  j->fd = -1;
  while (waitpid(j->pid, &status, 0) < 0 && errno == EINTR) continue;
  j->pid = 0;
  return status;
}

/* -> index, text, "exit" or "signal", its number */
static int push_end(lua_State *L, job *j, lua_Integer index) {
  int status = reap(j);
  lua_pushinteger(L, index);
  lua_pushlstring(L, j->text == NULL ? "" : j->text, j->n);
  lua_pushstring(L, WIFSIGNALED(status) ? "signal" : "exit");
  lua_pushinteger(L, WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
  return 4;
}

/* wait(jobs, seconds) -> the index of one that has ended, its text, how it ended; or nil when the time is over */
static int host_wait(lua_State *L) {
  struct pollfd fds[MAX_JOBS];
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_Number seconds = luaL_checknumber(L, 2);
  size_t n = (size_t)lua_rawlen(L, 1);
  luaL_argcheck(L, n <= MAX_JOBS, 1, "too many jobs");
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, 1, (lua_Integer)i + 1);
    fds[i] = (struct pollfd){.fd = ((job *)luaL_checkudata(L, -1, T_JOB))->fd, .events = POLLIN};
    lua_pop(L, 1);
  }
  if (poll(fds, (nfds_t)n, (int)(seconds * 1000)) <= 0) return 0;
  for (size_t i = 0; i < n; i++) {
    if (fds[i].revents == 0) continue;
    lua_rawgeti(L, 1, (lua_Integer)i + 1);
    job *j = lua_touserdata(L, -1);
    if (receive(L, j)) return push_end(L, j, (lua_Integer)i + 1);
  }
  lua_pushboolean(L, 0); /* something has come: the time is not over, and nobody has ended */
  return 1;
}

static int job_gc(lua_State *L) {
  job *j = luaL_checkudata(L, 1, T_JOB);
  if (j->pid > 0) kill(j->pid, SIGKILL);
  if (j->pid > 0) reap(j);
  if (j->fd >= 0) close(j->fd);
  free(j->text);
  *j = (job){.fd = -1};
  return 0;
}

void ckpt_lua_host_jobs(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", job_gc}, {"__close", job_gc}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"start", host_start}, {"wait", host_wait}, {NULL, NULL}};
  ckpt_lua_new_type(L, T_JOB, meta, NULL);
  luaL_setfuncs(L, functions, 0);
}

void ckpt_lua_push_host(lua_State *L) {
  lua_newtable(L);
  ckpt_lua_host_files(L);
  ckpt_lua_host_jobs(L);
}
