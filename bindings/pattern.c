/*
 * pattern.c - see pattern.h.
 *
 * A pattern is read where it stands, item by item. An item is a single ('x', '.', '%a', '[set]') with an optional
 * quantifier, or one of ( ) $ %b %f %1. Only quantifiers and parentheses recurse, at most DEPTH deep.
 */
#include "pattern.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <string.h>

#include "sandbox.h"

#define DEPTH 200
#define OPEN (-1)
#define STEPS_PER_CHARGE 4000
#define STEPS_PER_STEP 8 /* of the budget */

enum { ALPHA = 1, DIGIT = 2, LOWER = 4, SPACE = 8, UPPER = 16, HEX = 32, CONTROL = 64, PUNCT = 128, ZERO = 256 };

/* Classes of the characters in the "C" locale. */
static unsigned classes_of(unsigned char c) {
  unsigned k = 0;
  if (c >= 'a' && c <= 'z') k |= ALPHA | LOWER;
  if (c >= 'A' && c <= 'Z') k |= ALPHA | UPPER;
  if (c >= '0' && c <= '9') k |= DIGIT | HEX;
  if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')) k |= HEX;
  if (c == ' ' || (c >= 9 && c <= 13)) k |= SPACE;
  if (c < 32 || c == 127) k |= CONTROL;
  if (c == 0) k |= ZERO;
  if (c > 32 && c < 127 && (k & (ALPHA | DIGIT)) == 0) k |= PUNCT;
  return k;
}

/* The classes that a letter after % stands for; 0: it stands for itself. */
static unsigned class_mask(unsigned char letter) {
  switch (letter | 32) {
    case 'a': return ALPHA;
    case 'c': return CONTROL;
    case 'd': return DIGIT;
    case 'g': return ALPHA | DIGIT | PUNCT;
    case 'l': return LOWER;
    case 'p': return PUNCT;
    case 's': return SPACE;
    case 'u': return UPPER;
    case 'w': return ALPHA | DIGIT;
    case 'x': return HEX;
    case 'z': return ZERO; /* of Lua 5.1, and still there */
    default: return 0;
  }
}

static bool is_letter(unsigned char c) { return (classes_of(c) & ALPHA) != 0; }

/* %c of the pattern against a character. */
static bool in_class(unsigned char c, unsigned char letter) {
  unsigned mask = is_letter(letter) ? class_mask(letter) : 0;
  if (mask == 0) return letter == c;
  return ((classes_of(c) & mask) != 0) == (letter >= 'a');
}

/* The set from its '[' at p to its ']' at last. */
static bool in_set(ckpt_matcher *m, unsigned char c, const char *p, const char *last) {
  bool found = true;
  m->steps += (unsigned)((last - p) >> 2);
  if (p[1] == '^') {
    found = false;
    p++;
  }
  for (p++; p < last; p++) {
    if (*p == '%') {
      p++;
      if (in_class(c, (unsigned char)*p)) return found;
    } else if (p[1] == '-' && p + 2 < last) {
      if ((unsigned char)*p <= c && c <= (unsigned char)p[2]) return found;
      p += 2;
    } else if ((unsigned char)*p == c) {
      return found;
    }
  }
  return !found;
}

/* ---- items ------------------------------------------------------------------------------------------- */

void ckpt_matcher_settle(ckpt_matcher *m) {
  unsigned steps = m->steps / STEPS_PER_STEP;
  m->steps = 0;
  ckpt_sandbox_charge(m->L, steps);
}

static inline void step(ckpt_matcher *m) {
  if (++m->steps >= STEPS_PER_CHARGE) ckpt_matcher_settle(m);
}

/* After the ']' of the set whose first character (after [ and ^) is at p: a ']' there stands for itself. */
static const char *set_end(const ckpt_matcher *m, const char *p) {
  do {
    if (p == m->pattern_end) luaL_error(m->L, "malformed pattern (missing ']')");
    if (*p++ == '%' && p < m->pattern_end) p++;
  } while (*p != ']' || p == m->pattern_end);
  return p + 1;
}

/* After the single at p, before its quantifier. */
static const char *single_end(const ckpt_matcher *m, const char *p) {
  if (*p == '[') return set_end(m, p[1] == '^' ? p + 2 : p + 1);
  if (*p != '%') return p + 1;
  if (p + 1 == m->pattern_end) luaL_error(m->L, "malformed pattern (ends with '%%')");
  return p + 2;
}

/* Whether the single [p, end) fits the character at s. */
static inline bool fits(ckpt_matcher *m, const char *s, const char *p, const char *end) {
  if (s >= m->subject_end) return false;
  switch (*p) {
    case '.': return true;
    case '%': return in_class((unsigned char)*s, (unsigned char)p[1]);
    case '[': return in_set(m, (unsigned char)*s, p, end - 1);
    default: return *p == *s;
  }
}

static const char *match(ckpt_matcher *m, const char *s, const char *p);

/* As many as possible, then one less until the rest fits. */
static const char *most(ckpt_matcher *m, const char *s, const char *p, const char *end) {
  ptrdiff_t n = 0;
  for (; fits(m, s + n, p, end); n++) step(m);
  if (end + 1 == m->pattern_end && m->depth > 0) return s + n; /* nothing follows that could fail */
  for (; n >= 0; n--) {
    const char *e = match(m, s + n, end + 1);
    if (e != NULL) return e;
  }
  return NULL;
}

static const char *fewest(ckpt_matcher *m, const char *s, const char *p, const char *end) {
  for (;; s++) {
    const char *e = match(m, s, end + 1);
    if (e != NULL || !fits(m, s, p, end)) return e;
    step(m);
  }
}

static const char *balanced(ckpt_matcher *m, const char *s, const char *p) {
  if (p + 1 >= m->pattern_end) luaL_error(m->L, "malformed pattern (missing arguments to '%%b')");
  if (s >= m->subject_end || *s != p[0]) return NULL;
  for (int level = 1; ++s < m->subject_end;) {
    step(m);
    if (*s == p[1]) {
      if (--level == 0) return s + 1;
    } else if (*s == p[0]) {
      level++;
    }
  }
  return NULL;
}

/* %f[set]: a place where the set begins to fit. A NUL stands before the subject and behind it. */
static bool frontier(ckpt_matcher *m, const char *s, const char *p, const char *end) {
  unsigned char before = s == m->subject ? 0 : (unsigned char)s[-1];
  unsigned char here = s < m->subject_end ? (unsigned char)*s : 0;
  return !in_set(m, before, p, end - 1) && in_set(m, here, p, end - 1);
}

/* ---- captures ---------------------------------------------------------------------------------------- */

static const char *open_capture(ckpt_matcher *m, const char *s, const char *p) {
  bool position = p[1] == ')';
  if (m->captures >= CKPT_PATTERN_CAPTURES) luaL_error(m->L, "too many captures");
  m->capture[m->captures].start = s;
  m->capture[m->captures].size = position ? CKPT_PATTERN_POSITION : OPEN;
  m->captures++;
  const char *e = match(m, s, p + (position ? 2 : 1));
  if (e == NULL) m->captures--;
  return e;
}

static int innermost_open(const ckpt_matcher *m) {
  for (int i = m->captures - 1; i >= 0; i--)
    if (m->capture[i].size == OPEN) return i;
  return luaL_error(m->L, "invalid pattern capture");
}

static const char *close_capture(ckpt_matcher *m, const char *s, const char *p) {
  int i = innermost_open(m);
  m->capture[i].size = s - m->capture[i].start;
  const char *e = match(m, s, p + 1);
  if (e == NULL) m->capture[i].size = OPEN;
  return e;
}

/* %1: the same bytes again. A position never fits. */
static const char *repeated(ckpt_matcher *m, const char *s, char digit) {
  int i = digit - '1';
  if (i < 0 || i >= m->captures || m->capture[i].size == OPEN) luaL_error(m->L, "invalid capture index %%%d", i + 1);
  ptrdiff_t n = m->capture[i].size;
  if (n < 0 || m->subject_end - s < n) return NULL;
  m->steps += (unsigned)n;
  step(m);
  return memcmp(m->capture[i].start, s, (size_t)n) == 0 ? s + n : NULL;
}

/* ---- matching ---------------------------------------------------------------------------------------- */

/* %b, %f and %1 at p: where the subject goes on, or NULL; *p moves behind the item. False: it is none of them. */
static bool match_special(ckpt_matcher *m, const char **s, const char **p) {
  char kind = (*p)[1];
  if (kind == 'b') {
    *s = balanced(m, *s, *p + 2);
    *p += 4;
  } else if (kind == 'f') {
    const char *set = *p + 2;
    if (*set != '[') luaL_error(m->L, "missing '[' after '%%f' in pattern");
    const char *end = single_end(m, set);
    if (!frontier(m, *s, set, end)) *s = NULL;
    *p = end;
  } else if (kind >= '0' && kind <= '9') {
    *s = repeated(m, *s, kind);
    *p += 2;
  } else {
    return false;
  }
  return true;
}

/* An item at p that may match in several ways, with all that follows; false: match its single once and go on. */
static bool match_rest(ckpt_matcher *m, const char **result, const char *s, const char *p, const char *end) {
  switch (end == m->pattern_end ? '\0' : *end) {
    case '*': *result = most(m, s, p, end); return true;
    case '+': *result = most(m, s + 1, p, end); return true;
    case '-': *result = fewest(m, s, p, end); return true;
    case '?': *result = match(m, s + 1, end + 1); return *result != NULL;
    default: return false;
  }
}

static bool may_be_none(const ckpt_matcher *m, const char *end) {
  return end != m->pattern_end && (*end == '*' || *end == '?' || *end == '-');
}

static const char *match_items(ckpt_matcher *m, const char *s, const char *p) {
  while (p != m->pattern_end) {
    step(m);
    if (*p == '(') return open_capture(m, s, p);
    if (*p == ')') return close_capture(m, s, p);
    if (*p == '$' && p + 1 == m->pattern_end) return s == m->subject_end ? s : NULL;
    if (*p == '%' && match_special(m, &s, &p)) {
      if (s == NULL) return NULL;
      continue;
    }
    const char *end = single_end(m, p), *result = NULL;
    bool fit = fits(m, s, p, end), none = may_be_none(m, end);
    if (!fit && !none) return NULL;
    if (fit && match_rest(m, &result, s, p, end)) return result;
    if (!none) s++;
    p = none ? end + 1 : end;
  }
  return s;
}

static const char *match(ckpt_matcher *m, const char *s, const char *p) {
  if (m->depth-- == 0) luaL_error(m->L, "pattern too complex");
  const char *e = match_items(m, s, p);
  m->depth++;
  return e;
}

void ckpt_matcher_init(ckpt_matcher *m, lua_State *L, const char *subject, size_t n, const char *pattern, size_t size) {
  m->L = L;
  m->subject = subject;
  m->subject_end = subject + n;
  m->pattern_end = pattern + size;
  m->steps = 0;
  m->captures = 0;
}

const char *ckpt_matcher_at(ckpt_matcher *m, const char *s, const char *pattern) {
  m->captures = 0;
  m->depth = DEPTH;
  return match(m, s, pattern);
}

/* The character that every match begins with, or -1. */
static int first_character(const ckpt_matcher *m, const char *p) {
  if (p == m->pattern_end || strchr("(.[%$)", *p) != NULL) return -1;
  if (p + 1 != m->pattern_end && strchr("*?-", p[1]) != NULL && p[1] != '\0') return -1;
  return (unsigned char)*p;
}

const char *ckpt_matcher_from(ckpt_matcher *m, const char **s, const char *pattern) {
  int first = first_character(m, pattern);
  for (;; ++*s) {
    if (first >= 0) {
      const char *at = memchr(*s, first, (size_t)(m->subject_end - *s));
      if (at == NULL) return NULL;
      m->steps += (unsigned)((at - *s) >> 4);
      *s = at;
    }
    const char *e = ckpt_matcher_at(m, *s, pattern);
    if (e != NULL || *s >= m->subject_end) return e;
  }
}

void ckpt_matcher_push(const ckpt_matcher *m, int i, const char *s, const char *e) {
  if (i >= m->captures) {
    if (i != 0) luaL_error(m->L, "invalid capture index %%%d", i + 1);
    lua_pushlstring(m->L, s, (size_t)(e - s));
    return;
  }
  ptrdiff_t n = m->capture[i].size;
  if (n == OPEN) luaL_error(m->L, "unfinished capture");
  if (n == CKPT_PATTERN_POSITION)
    lua_pushinteger(m->L, m->capture[i].start - m->subject + 1);
  else
    lua_pushlstring(m->L, m->capture[i].start, (size_t)n);
}

int ckpt_matcher_push_all(const ckpt_matcher *m, const char *s, const char *e) {
  int n = m->captures == 0 && s != NULL ? 1 : m->captures;
  luaL_checkstack(m->L, n, "too many captures");
  for (int i = 0; i < n; i++) ckpt_matcher_push(m, i, s, e);
  return n;
}
