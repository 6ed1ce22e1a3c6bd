/*
 * bigint.c - long integers to text and back. Hexadecimal is linear; decimal is quadratic and therefore limited, as in
 * Python itself.
 */
#include "bigint.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "pickle_text.h"

enum { MAX_DECIMAL_BYTES = 1 << 14 };

/* ---- magnitude ---- */

static bool is_negative(const ckpt_value *v) { return (unsigned char)v->as.text.bytes[v->as.text.n - 1] >= 0x80; }

static void negate(unsigned char *bytes, size_t n) {
  unsigned carry = 1;
  for (size_t i = 0; i < n; i++) {
    carry += (unsigned char)~bytes[i];
    bytes[i] = (unsigned char)carry;
    carry >>= 8;
  }
}

/* The absolute value in n bytes, little-endian. */
static void magnitude(unsigned char *out, const ckpt_value *v) {
  memcpy(out, v->as.text.bytes, v->as.text.n);
  if (is_negative(v)) negate(out, v->as.text.n);
}

bool ckpt_bigint_double(double *out, const ckpt_value *v) {
  enum { MAX_BYTES = 130 }; /* 2^1024 is beyond any double */
  unsigned char bytes[MAX_BYTES];
  size_t n = v->as.text.n, low = 0;
  if (n > MAX_BYTES) return false;
  magnitude(bytes, v);
  while (bytes[n - 1] == 0) n--;
  while (bytes[low] == 0) low++;
  if (n - low > 8) return false; /* more than 53 bits of content */
  uint64_t bits = 0;
  for (size_t i = n; i-- > low;) bits = bits << 8 | bytes[i];
  double d = (double)bits;
  if (d >= 18446744073709551616.0 || (uint64_t)d != bits) return false;
  d = ldexp(d, (int)(8 * low));
  if (isinf(d)) return false;
  *out = is_negative(v) ? -d : d;
  return true;
}

/* ---- to text ---- */

ckpt_status ckpt_bigint_hex(char **out, size_t *n, const ckpt_value *v, ckpt_error *err) {
  static const char digits[] = "0123456789abcdef";
  size_t bytes = v->as.text.n, length = 0;
  unsigned char *copy = malloc(bytes);
  char *text = malloc(2 * bytes + 4);
  if (copy == NULL || text == NULL) {
    free(copy);
    free(text);
    return ckpt_fail_nomem(err, 3 * bytes);
  }
  magnitude(copy, v);
  if (is_negative(v)) text[length++] = '-';
  text[length++] = '0';
  text[length++] = 'x';
  size_t start = length;
  for (size_t i = 2 * bytes; i-- > 0;) {
    unsigned digit = (unsigned)copy[i / 2] >> (i % 2 * 4) & 15u;
    if (digit != 0 || length > start) text[length++] = digits[digit];
  }
  text[length] = '\0';
  free(copy);
  *out = text;
  *n = length;
  return CKPT_OK;
}

/* Divides by 10^9 in place and gives the remainder; *n shrinks with the number. */
static uint32_t divide(uint32_t *limbs, size_t *n) {
  uint64_t rest = 0;
  for (size_t i = *n; i-- > 0;) {
    rest = rest << 32 | limbs[i];
    limbs[i] = (uint32_t)(rest / 1000000000u);
    rest %= 1000000000u;
  }
  while (*n > 0 && limbs[*n - 1] == 0) --*n;
  return (uint32_t)rest;
}

/* Writes from the end of `text` (`size` bytes) to the front; gives where it begins. */
static size_t write_decimal(char *text, size_t size, uint32_t *limbs, size_t n, bool negative) {
  size_t at = size - 1;
  text[at] = '\0';
  do {
    uint32_t group = divide(limbs, &n);
    for (int i = 0; i < 9 && (n > 0 || group > 0 || i == 0); i++, group /= 10) text[--at] = (char)('0' + group % 10);
  } while (n > 0);
  if (negative) text[--at] = '-';
  return at;
}

static ckpt_status bigint_decimal(char **out, size_t *n, const ckpt_value *v, ckpt_error *err) {
  size_t bytes = v->as.text.n, count = bytes / 4 + 1, size = 3 * bytes + 16;
  if (bytes > MAX_DECIMAL_BYTES)
    return ckpt_fail(err, CKPT_E_LIMIT, -1,
                     "an integer of %zu bytes is not spelled in decimal (at most %d are): ask for "
                     "hexadecimal",
                     bytes, MAX_DECIMAL_BYTES);
  uint32_t *limbs = calloc(count, sizeof *limbs);
  char *text = malloc(size);
  if (limbs == NULL || text == NULL) {
    free(limbs);
    free(text);
    return ckpt_fail_nomem(err, size);
  }
  unsigned char *raw = (unsigned char *)limbs;
  magnitude(raw, v);
  for (size_t i = 0; i < count; i++) limbs[i] = ckpt_le32(raw + 4 * i);
  size_t at = write_decimal(text, size, limbs, count, is_negative(v));
  free(limbs);
  *n = size - 1 - at;
  memmove(text, text + at, *n + 1);
  *out = text;
  return CKPT_OK;
}

static ckpt_status int_text(char **out, size_t *n, int64_t i, bool hex, ckpt_error *err) {
  char text[32];
  uint64_t size = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
  snprintf(text, sizeof text, hex ? "%s0x%llx" : "%s%llu", i < 0 ? "-" : "", (unsigned long long)size);
  char *copy = strdup(text);
  if (copy == NULL) return ckpt_fail_nomem(err, sizeof text);
  *out = copy;
  *n = strlen(copy);
  return CKPT_OK;
}

ckpt_status ckpt_value_int_text(char **out, size_t *n, const ckpt_value *v, bool hex, ckpt_error *err) {
  if (v->kind == CKPT_INT) return int_text(out, n, v->as.integer, hex, err);
  if (v->kind != CKPT_BIGINT)
    return ckpt_fail(err, CKPT_E_TYPE, -1, "a %s where an int was expected", ckpt_kind_name(ckpt_value_kind(v)));
  return hex ? ckpt_bigint_hex(out, n, v, err) : bigint_decimal(out, n, v, err);
}

/* ---- from text ---- */

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static ckpt_status no_integer(const char *text, size_t n, ckpt_error *err) {
  return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "'%.*s' is no integer: digits, or 0x and hexadecimal digits, are",
                   (int)(n < 40 ? n : 40), text);
}

/* `digits` has the n digits behind "0x". */
static ckpt_status from_hex(ckpt_value **out, ckpt_document *doc, const char *digits, size_t n, bool negative,
                            ckpt_error *err) {
  size_t bytes = n / 2 + 2;
  unsigned char *raw = calloc(1, bytes);
  if (raw == NULL) return ckpt_fail_nomem(err, bytes);
  for (size_t i = 0; i < n; i++) raw[i / 2] |= (unsigned char)(hex_digit(digits[n - 1 - i]) << (i % 2 * 4));
  if (negative) negate(raw, bytes);
  ckpt_error here = {0};
  ckpt_value *v = ckpt_pickle_long(doc, raw, bytes, &here);
  free(raw);
  if (v == NULL) {
    if (err != NULL) *err = here;
    return here.status;
  }
  *out = v;
  return CKPT_OK;
}

ckpt_status ckpt_value_new_int_text(ckpt_value **out, ckpt_document *doc, const char *text, size_t n, ckpt_error *err) {
  size_t sign = n > 0 && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  bool hex = n - sign > 2 && text[sign] == '0' && (text[sign + 1] == 'x' || text[sign + 1] == 'X'), valid = n > sign;
  size_t first = sign + (hex ? 2 : 0);
  for (size_t i = first; i < n; i++) valid &= hex ? hex_digit(text[i]) >= 0 : text[i] >= '0' && text[i] <= '9';
  if (!valid) return no_integer(text, n, err);
  if (hex) return from_hex(out, doc, text + first, n - first, text[0] == '-', err);
  ckpt_error here = {0};
  ckpt_value *v = ckpt_pickle_decimal(doc, (const unsigned char *)text, n, &here);
  if (v == NULL) {
    if (err != NULL) *err = here;
    return here.status;
  }
  *out = v;
  return CKPT_OK;
}
