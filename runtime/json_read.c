/* json_read.c - see json_read.h. */
#include "json_read.h"

enum { MAX_LEVELS = 127 };

/*
 * A scan that knows strings from structure and no more. In a text that is no JSON it finds something or other; the
 * parser says what is wrong then.
 */
typedef struct scan {
  const char *text;
  size_t n, at;
} scan;

/* The next character outside strings, '\0' at the end; a string counts as its first quote. */
static char next(scan *s) {
  if (s->at >= s->n) return '\0';
  char c = s->text[s->at++];
  if (c != '"') return c;
  while (s->at < s->n && s->text[s->at] != '"') s->at += s->text[s->at] == '\\' ? 2 : 1;
  s->at++;
  return c;
}

static bool opens(char c) { return c == '{' || c == '['; }
static bool closes(char c) { return c == '}' || c == ']'; }

/* An empty list takes jansson some 200 bytes: a text of nothing else would cost a hundred times its size. */
static ckpt_status check_cost(const char *text, size_t n, uint64_t base, const char *what, ckpt_error *err) {
  scan s = {text, n, 0};
  size_t level = 0, containers = 0;
  for (char c = next(&s); s.at <= n && c != '\0'; c = next(&s)) {
    if (opens(c)) {
      level++;
      containers++;
    }
    if (closes(c) && level > 0) level--;
    if (level > MAX_LEVELS)
      return ckpt_fail(err, CKPT_E_LIMIT, (int64_t)(base + s.at - 1), "%s nests more than %d levels deep at byte %llu",
                       what, MAX_LEVELS, (unsigned long long)(base + s.at - 1));
  }
  if (containers <= n / 8 + 256) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_LIMIT, (int64_t)base, "%s holds %zu lists and objects in %zu bytes, which nothing needs",
                   what, containers, n);
}

static ckpt_status fail_parse(const json_error_t *e, uint64_t base, const char *what, ckpt_error *err) {
  if (e->text[0] == '\0' || json_error_code(e) == json_error_out_of_memory)
    return ckpt_fail(err, CKPT_E_NOMEM, -1, "out of memory: %s cannot be parsed", what);
  uint64_t at = base + (e->position > 0 ? (uint64_t)e->position : 0);
  bool nul = json_error_code(e) == json_error_null_byte_in_key;
  return ckpt_fail(err, nul ? CKPT_E_UNSUPPORTED : CKPT_E_CORRUPT, (int64_t)at, "%s is wrong at byte %llu: %s", what,
                   (unsigned long long)at, e->text);
}

/* No NUL is JSON, but jansson (2.14) reads over one that follows a number. */
static ckpt_status check_nul(const char *text, size_t n, uint64_t base, const char *what, ckpt_error *err) {
  const char *nul = n == 0 ? NULL : memchr(text, '\0', n);
  if (nul == NULL) return CKPT_OK;
  uint64_t at = base + (size_t)(nul - text);
  return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)at, "%s is wrong at byte %llu: a NUL byte", what,
                   (unsigned long long)at);
}

ckpt_status ckpt_json_parse(json_t **out, const void *text, size_t n, uint64_t base, const char *what,
                            ckpt_error *err) {
  json_error_t e = {.text = ""};
  CKPT_TRY(check_nul(text, n, base, what, err));
  CKPT_TRY(check_cost(text, n, base, what, err));
  json_t *v = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
  if (v == NULL) return fail_parse(&e, base, what, err);
  *out = v;
  return CKPT_OK;
}

/* Moves behind the `count`th comma of the level that the scan is on. */
static void skip_members(scan *s, size_t count) {
  size_t level = 0;
  while (count > 0) {
    char c = next(s);
    if (c == '\0' || (closes(c) && level == 0)) return;
    if (opens(c)) level++;
    if (closes(c)) level--;
    if (c == ',' && level == 0) count--;
  }
}

static void skip_to_open(scan *s) {
  for (char c = next(s); c != '\0' && !opens(c);) c = next(s);
}

size_t ckpt_json_place(const void *text, size_t n, size_t i, size_t inner) {
  scan s = {text, n, 0};
  skip_to_open(&s);
  skip_members(&s, i);
  if (inner != SIZE_MAX) {
    skip_to_open(&s);
    skip_members(&s, inner);
  }
  while (s.at < n && memchr(" \t\r\n", s.text[s.at], 4) != NULL) s.at++;
  return s.at < n ? s.at : n;
}
