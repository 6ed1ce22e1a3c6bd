/* json_write.c - see json_write.h. */
#include "json_write.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static ckpt_status reserve(ckpt_text *t, size_t more, ckpt_error *err) {
  size_t need;
  if (!ckpt_add_size(&need, t->n, more) || !ckpt_add_size(&need, need, 1)) return ckpt_fail_nomem(err, SIZE_MAX);
  if (need <= t->capacity) return CKPT_OK;
  size_t capacity = t->capacity < 256 ? 256 : t->capacity;
  while (capacity < need && capacity <= SIZE_MAX / 2) capacity *= 2;
  if (capacity < need) capacity = need;
  char *bytes = realloc(t->bytes, capacity);
  if (bytes == NULL) return ckpt_fail_nomem(err, capacity);
  t->bytes = bytes;
  t->capacity = capacity;
  return CKPT_OK;
}

ckpt_status ckpt_text_add(ckpt_text *t, const void *bytes, size_t n, ckpt_error *err) {
  CKPT_TRY(reserve(t, n, err));
  if (n > 0) memcpy(t->bytes + t->n, bytes, n);
  t->n += n;
  t->bytes[t->n] = '\0';
  return CKPT_OK;
}

ckpt_status ckpt_text_print(ckpt_text *t, ckpt_error *err, const char *format, ...) {
  char line[128];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(line, sizeof line, format, args);
  va_end(args);
  return ckpt_text_add(t, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1, err);
}

/* ---- strings ---- */

/* The bytes of the character at s, 0 if it is not UTF-8; *out gets its number. Surrogates and overlong forms are not.
 */
static size_t decode(uint32_t *out, const unsigned char *s) {
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  size_t n = s[0] < 0x80 ? 1 : (s[0] & 0xe0) == 0xc0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : (s[0] & 0xf8) == 0xf0 ? 4 : 0;
  if (n <= 1) {
    *out = s[0];
    return n;
  }
  uint32_t c = s[0] & (0xffu >> (n + 1));
  for (size_t i = 1; i < n; i++) {
    if ((s[i] & 0xc0) != 0x80) return 0;
    c = c << 6 | (s[i] & 0x3f);
  }
  *out = c;
  return c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
}

static ckpt_status add_escaped(ckpt_text *t, uint32_t c, ckpt_error *err) {
  static const char named[] = "\"\"\\\\\bb\ff\nn\rr\tt";
  for (size_t i = 0; i + 1 < sizeof named; i += 2)
    if (c == (unsigned char)named[i]) return ckpt_text_print(t, err, "\\%c", named[i + 1]);
  if (c < 0x10000) return ckpt_text_print(t, err, "\\u%04x", (unsigned)c);
  c -= 0x10000;
  return ckpt_text_print(t, err, "\\u%04x\\u%04x", (unsigned)(0xd800 + (c >> 10)), (unsigned)(0xdc00 + (c & 0x3ff)));
}

ckpt_status ckpt_text_string(ckpt_text *t, const char *s, bool ascii, ckpt_error *err) {
  CKPT_TRY(ckpt_text_add(t, "\"", 1, err));
  for (size_t n = 0; *s != '\0'; s += n) {
    uint32_t c = 0;
    n = decode(&c, (const unsigned char *)s);
    if (n == 0) return ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "'%.100s' is not UTF-8, which JSON has to be", s);
    bool plain = c >= 0x20 && c != '"' && c != '\\' && !(ascii && c >= 0x7f);
    CKPT_TRY(plain ? ckpt_text_add(t, s, n, err) : add_escaped(t, c, err));
  }
  return ckpt_text_add(t, "\"", 1, err);
}
