/*
 * pattern.h - Lua patterns, matched with a count of the work. What matches, what is captured and what is said about a
 * malformed pattern is as in Lua 5.4 in the "C" locale; but every step is counted, so that a pattern that backtracks
 * for hours is stopped by the budget of the policy that runs it.
 */
#ifndef CKPT_PATTERN_H
#define CKPT_PATTERN_H

#include <lua.h>
#include <stddef.h>

#define CKPT_PATTERN_CAPTURES 32
#define CKPT_PATTERN_POSITION (-2) /* length of a capture that is a position */

typedef struct ckpt_matcher {
  lua_State *L;
  const char *subject, *subject_end, *pattern_end;
  int depth;      /* of nested matches that are left */
  int captures;   /* open or closed */
  unsigned steps; /* taken and not yet charged */
  struct {
    const char *start;
    ptrdiff_t size; /* or CKPT_PATTERN_POSITION, or open */
  } capture[CKPT_PATTERN_CAPTURES];
} ckpt_matcher;

/* The subject and pattern are borrowed; both are followed by a NUL, as Lua's strings are. */
void ckpt_matcher_init(ckpt_matcher *m, lua_State *L, const char *subject, size_t n, const char *pattern, size_t size);

/* The end of a match that begins at s, or NULL. Forgets earlier captures. Raises for a malformed pattern. */
const char *ckpt_matcher_at(ckpt_matcher *m, const char *s, const char *pattern);

/*
 * The first match at or after *s, which becomes its beginning; NULL: none. The same as trying each place, but places
 * where a plain first character does not fit are skipped.
 */
const char *ckpt_matcher_from(ckpt_matcher *m, const char **s, const char *pattern);

/* Charges what was counted. To be called when a search ends. */
void ckpt_matcher_settle(ckpt_matcher *m);

/* Pushes capture i, or the whole match [s, e) if there are none and i is 0. Raises if there is no such capture. */
void ckpt_matcher_push(const ckpt_matcher *m, int i, const char *s, const char *e);

/* Pushes all captures, or the whole match if there are none and s is not NULL; how many. */
int ckpt_matcher_push_all(const ckpt_matcher *m, const char *s, const char *e);

#endif
