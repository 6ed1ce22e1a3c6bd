/* pickle_text.c - see pickle_text.h. */
#include "pickle_text.h"

#include <locale.h>
#include <stdlib.h>

enum { MAX_DIGITS = 4300 }; /* Python's own limit for text to int (CVE-2020-10735) */

/* Length of the UTF-8 sequence at s, 0 if there is none. */
static size_t sequence(const unsigned char *s, size_t n) {
  if (s[0] < 0x80) return 1;
  size_t length = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
  if (s[0] < 0xc2 || s[0] > 0xf4 || n < length) return 0;
  for (size_t i = 1; i < length; i++)
    if ((s[i] & 0xc0) != 0x80) return 0;
  if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
  return length;
}

bool ckpt_utf8_valid(const unsigned char *s, size_t n) {
  while (n > 0) {
    if (n >= 8 && (ckpt_le64(s) & UINT64_C(0x8080808080808080)) == 0) { /* ASCII, as nearly all names are */
      s += 8;
      n -= 8;
      continue;
    }
    size_t length = sequence(s, n);
    if (length == 0) return false;
    s += length;
    n -= length;
  }
  return true;
}

static size_t put_utf8(char *out, uint32_t c) {
  if (c < 0x80) {
    out[0] = (char)c;
    return 1;
  }
  size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
  for (size_t i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
  out[0] = (char)(lead[n] | c);
  return n;
}

static int hex_digit(unsigned char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool hex(uint32_t *out, const unsigned char *s, size_t digits) {
  uint32_t v = 0;
  for (size_t i = 0; i < digits; i++) {
    int d = hex_digit(s[i]);
    if (d < 0) return false;
    v = v << 4 | (uint32_t)d;
  }
  *out = v;
  return true;
}

/*
 * What begins with the backslash at s: its length, 0 if Python refuses it. \uXXXX and \UXXXXXXXX are one code point; a
 * backslash before anything else stands for itself and takes no part in an escape that may follow.
 */
static size_t unicode_escape(uint32_t *c, const unsigned char *s, size_t n) {
  size_t digits = n < 2 ? 0 : s[1] == 'u' ? 4 : s[1] == 'U' ? 8 : 0;
  if (digits == 0) return 1;
  return n >= 2 + digits && hex(c, s + 2, digits) && *c <= 0x10ffff ? 2 + digits : 0;
}

/* The text in UTF-8 at `out`, which has room for twice its bytes; SIZE_MAX if an escape is broken. */
static size_t raw_unicode(char *out, const unsigned char *s, size_t n) {
  char *to = out;
  for (size_t i = 0; i < n;) {
    uint32_t c = s[i];
    size_t length = c == '\\' ? unicode_escape(&c, s + i, n - i) : 1;
    if (length == 0) return SIZE_MAX;
    to += put_utf8(to, c);
    i += length;
    if (length == 1 && c == '\\' && i < n) to += put_utf8(to, s[i++]);
  }
  return (size_t)(to - out);
}

ckpt_value *ckpt_pickle_raw_unicode(ckpt_document *doc, const unsigned char *s, size_t n, ckpt_error *err) {
  ckpt_value *v = NULL;
  char *out = malloc(2 * n + 1); /* a Latin-1 byte becomes at most two */
  if (out == NULL) {
    ckpt_fail_nomem(err, 2 * n + 1);
    return NULL;
  }
  size_t length = raw_unicode(out, s, n);
  if (length == SIZE_MAX)
    ckpt_fail(err, CKPT_E_CORRUPT, -1, "a \\u or \\U in a string is no code point of Unicode");
  else
    v = ckpt_value_make_text(doc, CKPT_STR, out, length, err);
  free(out);
  return v;
}

/* One backslash escape of a Python string at s (behind the backslash); gives the length it took. */
static size_t string_escape(char *out, const unsigned char *s, size_t n) {
  static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
  const char *at = s[0] == '\0' ? NULL : strchr(from, s[0]);
  uint32_t c = 0;
  if (at != NULL) {
    *out = to[at - from];
    return 1;
  }
  if (s[0] == 'x' && n >= 3 && hex(&c, s + 1, 2)) {
    *out = (char)c;
    return 3;
  }
  size_t i = 0;
  for (; i < 3 && i < n && s[i] >= '0' && s[i] <= '7'; i++) c = c * 8 + (uint32_t)(s[i] - '0');
  *out = (char)c;
  return i; /* 0: no escape that Python's repr writes */
}

ckpt_value *ckpt_pickle_quoted(ckpt_document *doc, const unsigned char *s, size_t n, ckpt_error *err) {
  if (n < 2 || (s[0] != '\'' && s[0] != '"') || s[n - 1] != s[0]) {
    ckpt_fail(err, CKPT_E_CORRUPT, -1, "a string without its quotes");
    return NULL;
  }
  char *out = malloc(n);
  if (out == NULL) {
    ckpt_fail_nomem(err, n);
    return NULL;
  }
  size_t length = 0;
  for (size_t i = 1; i < n - 1;) {
    if (s[i] != '\\' || i + 2 >= n) {
      out[length++] = (char)s[i++];
      continue;
    }
    size_t took = string_escape(&out[length], s + i + 1, n - 2 - i);
    if (took == 0) out[length] = '\\';
    length++;
    i += 1 + took;
  }
  ckpt_value *v = ckpt_pickle_bytestring(doc, out, length, err);
  free(out);
  return v;
}

ckpt_value *ckpt_pickle_bytestring(ckpt_document *doc, const void *s, size_t n, ckpt_error *err) {
  ckpt_value *v = ckpt_value_make_text(doc, ckpt_utf8_valid(s, n) ? CKPT_STR : CKPT_BYTES, s, n, err);
  if (v != NULL) v->bytestring = true;
  return v;
}

ckpt_value *ckpt_pickle_long(ckpt_document *doc, const unsigned char *s, size_t n, ckpt_error *err) {
  while (n > 1 && ((s[n - 1] == 0 && s[n - 2] < 0x80) || (s[n - 1] == 0xff && s[n - 2] >= 0x80))) n--;
  if (n > 8) return ckpt_value_make_text(doc, CKPT_BIGINT, s, n, err);
  uint64_t bits = n > 0 && s[n - 1] >= 0x80 ? UINT64_MAX : 0;
  for (size_t i = n; i-- > 0;) bits = bits << 8 | s[i];
  ckpt_value *v = ckpt_value_make(doc, CKPT_INT, err);
  if (v != NULL) v->as.integer = (int64_t)bits;
  return v;
}

/* Decimal digits to little-endian bytes, in place: bytes = bytes * 10 + digit. */
static size_t decimal_to_bytes(unsigned char *bytes, const unsigned char *digits, size_t n) {
  size_t used = 1;
  bytes[0] = 0;
  for (size_t i = 0; i < n; i++) {
    unsigned carry = (unsigned)(digits[i] - '0');
    for (size_t b = 0; b < used; b++) {
      carry += bytes[b] * 10u;
      bytes[b] = (unsigned char)carry;
      carry >>= 8;
    }
    if (carry != 0) bytes[used++] = (unsigned char)carry;
  }
  bytes[used++] = 0; /* room for the sign */
  return used;
}

static void negate(unsigned char *bytes, size_t n) {
  unsigned carry = 1;
  for (size_t i = 0; i < n; i++) {
    carry += (unsigned char)~bytes[i];
    bytes[i] = (unsigned char)carry;
    carry >>= 8;
  }
}

ckpt_value *ckpt_pickle_decimal(ckpt_document *doc, const unsigned char *s, size_t n, ckpt_error *err) {
  unsigned char bytes[MAX_DIGITS / 2];
  if (n > 0 && s[n - 1] == 'L') n--;
  bool negative = n > 0 && s[0] == '-';
  size_t sign = negative || (n > 0 && s[0] == '+') ? 1 : 0, digits = n - sign;
  if (digits > MAX_DIGITS) {
    ckpt_fail(err, CKPT_E_LIMIT, -1, "an integer of %zu digits; at most %d are read", digits, MAX_DIGITS);
    return NULL;
  }
  bool valid = digits > 0;
  for (size_t i = sign; i < n; i++) valid &= s[i] >= '0' && s[i] <= '9';
  if (!valid) {
    ckpt_fail(err, CKPT_E_CORRUPT, -1, "'%.*s' is no decimal integer", (int)(n < 40 ? n : 40), (const char *)s);
    return NULL;
  }
  size_t used = decimal_to_bytes(bytes, s + sign, digits);
  if (negative) negate(bytes, used);
  return ckpt_pickle_long(doc, bytes, used, err);
}

ckpt_value *ckpt_pickle_float(ckpt_document *doc, const unsigned char *s, size_t n, ckpt_error *err) {
  char text[64], *end = text;
  double number = 0;
  locale_t c = n == 0 || n >= sizeof text ? (locale_t)0 : newlocale(LC_ALL_MASK, "C", (locale_t)0);
  if (c != (locale_t)0) { /* the host program may run in a locale that writes 1,5 */
    memcpy(text, s, n);
    text[n] = '\0';
    number = strtod_l(text, &end, c);
    freelocale(c);
  }
  if (end == text || end != text + n) {
    ckpt_fail(err, CKPT_E_CORRUPT, -1, "'%.*s' is no float", (int)(n < 40 ? n : 40), (const char *)s);
    return NULL;
  }
  ckpt_value *v = ckpt_value_make(doc, CKPT_FLOAT, err);
  if (v != NULL) v->as.number = number;
  return v;
}
