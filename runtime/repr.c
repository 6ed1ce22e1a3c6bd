/* repr.c - see repr.h. Depth is bounded by a constant, so that recursion is. */
#include "repr.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bigint.h"

enum { MAX_DEPTH = 50 };

typedef struct text {
  char *bytes;
  size_t n, capacity, limit;
  bool failed;
} text;

/* Nothing is added any more: what would be written has no end of its own where a value holds itself. */
static void give_up(text *t) {
  t->failed = true;
  t->limit = t->n;
}

static void add(text *t, const char *s, size_t n) {
  if (t->failed || t->n >= t->limit) return;
  if (t->capacity - t->n <= n) {
    size_t capacity = 2 * (t->capacity + n) + 64;
    char *more = realloc(t->bytes, capacity);
    if (more == NULL) {
      give_up(t);
      return;
    }
    t->bytes = more;
    t->capacity = capacity;
  }
  memcpy(t->bytes + t->n, s, n);
  t->n += n;
  t->bytes[t->n] = '\0';
}

static void add_text(text *t, const char *s) { add(t, s, strlen(s)); }

/* The shortest decimal that reads back as the same double, in Python's spelling. */
static void add_double(text *t, double d) {
  char s[40];
  if (isnan(d) || isinf(d)) {
    add_text(t, isnan(d) ? "nan" : d > 0 ? "inf" : "-inf");
    return;
  }
  double size = fabs(d);
  bool exponent = size >= 1e16 || (size != 0 && size < 1e-4); /* Python goes to exponents there, and only there */
  for (int digits = 1; digits <= 17; digits++) {
    snprintf(s, sizeof s, exponent ? "%.*e" : "%.*g", exponent ? digits - 1 : digits, d);
    if (strtod(s, NULL) == d) break;
  }
  if (exponent) {
    add_text(t, s);
    return;
  }
  if (strchr(s, 'e') != NULL) snprintf(s, sizeof s, "%.0f", d);
  add_text(t, s);
  if (strpbrk(s, ".e") == NULL) add_text(t, ".0");
}

static void add_quoted(text *t, const char *s, size_t n, bool is_bytes) {
  char quote = memchr(s, '\'', n) != NULL && memchr(s, '"', n) == NULL ? '"' : '\'';
  char c[8];
  if (is_bytes) add_text(t, "b");
  add(t, &quote, 1);
  for (size_t i = 0; i < n; i++) {
    unsigned char b = (unsigned char)s[i];
    if (b == (unsigned char)quote || b == '\\')
      snprintf(c, sizeof c, "\\%c", b);
    else if (b == '\n' || b == '\r' || b == '\t')
      snprintf(c, sizeof c, "\\%c", b == '\n' ? 'n' : b == '\r' ? 'r' : 't');
    else if (b < 0x20 || b == 0x7f || (is_bytes && b >= 0x80))
      snprintf(c, sizeof c, "\\x%02x", b);
    else
      snprintf(c, sizeof c, "%c", b);
    add_text(t, c);
  }
  add(t, &quote, 1);
}

/* In hexadecimal: decimal would be quadratic. */
static void add_bigint(text *t, const ckpt_value *v) {
  char *hex = NULL;
  size_t n = 0;
  if (ckpt_bigint_hex(&hex, &n, v, NULL) != CKPT_OK)
    give_up(t);
  else
    add(t, hex, n);
  free(hex);
}

static void add_value(text *t, const ckpt_value *v, int depth);

static void add_items(text *t, const ckpt_value *v, const char *open, const char *close, int depth) {
  size_t n = ckpt_value_count(v);
  add_text(t, open);
  for (size_t i = 0; i < n && t->n < t->limit; i++) {
    if (i > 0) add_text(t, ", ");
    add_value(t, ckpt_value_item(v, i), depth + 1);
  }
  if (v->kind == CKPT_TUPLE && n == 1 && open[0] == '(') add_text(t, ",");
  add_text(t, close);
}

static void add_tuple(text *t, const ckpt_value *v, int depth) {
  bool is_size =
      v->made != NULL && v->made->callable != NULL && ckpt_value_is_class(v->made->callable, "torch", "Size");
  if (is_size)
    add_items(t, v, "torch.Size([", "])", depth);
  else
    add_items(t, v, "(", ")", depth);
}

static void add_set(text *t, const ckpt_value *v, const char *none, const char *open, const char *close, int depth) {
  if (ckpt_value_count(v) == 0)
    add_text(t, none);
  else
    add_items(t, v, open, close, depth);
}

static void add_pairs(text *t, const ckpt_value *v, int depth) {
  size_t n = ckpt_value_pair_count(v);
  add_text(t, "{");
  for (size_t i = 0; i < n && t->n < t->limit; i++) {
    if (i > 0) add_text(t, ", ");
    add_value(t, ckpt_value_pair_key(v, i), depth + 1);
    add_text(t, ": ");
    add_value(t, ckpt_value_pair_value(v, i), depth + 1);
  }
  add_text(t, "}");
}

/* ---- objects that Python's own repr would show ---- */

/* As the parts of a complex are written: 1, not 1.0. */
static void add_part(text *t, double d) {
  size_t before = t->n;
  add_double(t, d);
  if (t->n >= before + 2 && memcmp(t->bytes + t->n - 2, ".0", 2) == 0) t->bytes[t->n -= 2] = '\0';
}

static void add_complex(text *t, double re, double im) {
  bool alone = re == 0 && !signbit(re);
  if (!alone) {
    add_text(t, "(");
    add_part(t, re);
    if (!signbit(im) || isnan(im)) add_text(t, "+");
  }
  add_part(t, im);
  add_text(t, alone ? "j" : "j)");
}

static void add_device(text *t, const ckpt_value *v, int depth) {
  const ckpt_value *args = v->made->args;
  add_text(t, "device(type=");
  add_value(t, ckpt_value_item(args, 0), depth + 1);
  if (ckpt_value_count(args) > 1) add_text(t, ", index=");
  if (ckpt_value_count(args) > 1) add_value(t, ckpt_value_item(args, 1), depth + 1);
  add_text(t, ")");
}

/* A call as it was made: range(0, 10, 2), Counter({'a': 2}). */
static void add_call(text *t, const char *name, const ckpt_value *v, int depth) {
  const ckpt_value *args = v->made->args;
  add_text(t, name);
  add_text(t, "(");
  for (size_t i = 0; i < ckpt_value_count(args) && t->n < t->limit; i++) {
    if (i > 0) add_text(t, ", ");
    add_value(t, ckpt_value_item(args, i), depth + 1);
  }
  add_text(t, ")");
}

typedef struct call_name {
  const char *module, *name, *shown;
} call_name;

static const char *shown_call(const ckpt_value *f) {
  static const call_name calls[] = {{"__builtin__", "xrange", "range"},
                                    {"builtins", "range", "range"},
                                    {"__builtin__", "slice", "slice"},
                                    {"builtins", "slice", "slice"},
                                    {"collections", "Counter", "Counter"}};
  for (size_t i = 0; i < CKPT_COUNTOF(calls); i++)
    if (ckpt_value_is_class(f, calls[i].module, calls[i].name)) return calls[i].shown;
  return NULL;
}

static bool add_known(text *t, const ckpt_value *v, int depth) {
  double re, im;
  const ckpt_value *f = v->made->how == CKPT_BY_REDUCE ? v->made->callable : NULL;
  if (f == NULL) return false;
  bool is_complex = !ckpt_value_is_array(v) && ckpt_value_complex(&re, &im, v, NULL) == CKPT_OK;
  bool is_device = ckpt_value_is_class(f, "torch", "device") && ckpt_value_count(v->made->args) > 0;
  const char *call = shown_call(f);
  if (is_complex)
    add_complex(t, re, im);
  else if (is_device)
    add_device(t, v, depth);
  else if (call != NULL)
    add_call(t, call, v, depth);
  return is_complex || is_device || call != NULL;
}

static void add_object(text *t, const ckpt_value *v, int depth) {
  const ckpt_value *cls = v->made->callable;
  if (add_known(t, v, depth)) return;
  add_text(t, "<");
  if (cls != NULL && cls->kind == CKPT_CLASS) add(t, cls->as.text.bytes, cls->as.text.n);
  add_text(t, ">");
}

static void add_scalar(text *t, const ckpt_value *v) {
  char s[32];
  switch (v->kind) {
    case CKPT_BOOLEAN: add_text(t, v->as.boolean ? "True" : "False"); break;
    case CKPT_INT:
      snprintf(s, sizeof s, "%lld", (long long)v->as.integer);
      add_text(t, s);
      break;
    case CKPT_BIGINT: add_bigint(t, v); break;
    case CKPT_FLOAT: add_double(t, v->as.number); break;
    case CKPT_STR: add_quoted(t, v->as.text.bytes, v->as.text.n, false); break;
    case CKPT_BYTES: add_quoted(t, v->as.text.bytes, v->as.text.n, true); break;
    case CKPT_BYTEARRAY:
      add_text(t, "bytearray(");
      add_quoted(t, v->as.text.bytes, v->as.text.n, true);
      add_text(t, ")");
      break;
    case CKPT_CLASS: add(t, v->as.text.bytes, v->as.text.n); break;
    case CKPT_TENSOR: add_text(t, "<tensor>"); break;
    default: add_text(t, "None");
  }
}

static void add_value(text *t, const ckpt_value *v, int depth) {
  if (depth > MAX_DEPTH) {
    add_text(t, "...");
    return;
  }
  switch (v->kind) {
    case CKPT_LIST: add_items(t, v, "[", "]", depth); break;
    case CKPT_TUPLE: add_tuple(t, v, depth); break;
    case CKPT_SET: add_set(t, v, "set()", "{", "}", depth); break;
    case CKPT_FROZENSET: add_set(t, v, "frozenset()", "frozenset({", "})", depth); break;
    case CKPT_DICT: add_pairs(t, v, depth); break;
    case CKPT_OBJECT: add_object(t, v, depth); break;
    default: add_scalar(t, v);
  }
}

ckpt_status ckpt_repr(char **out, size_t *n, const ckpt_value *v, size_t limit, ckpt_error *err) {
  text t = {.limit = limit};
  locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0); /* the host program may run in a locale that writes 1,5 */
  if (c == (locale_t)0) return ckpt_fail_nomem(err, limit);
  locale_t before = uselocale(c); /* of this thread */
  add(&t, "", 0);
  add_value(&t, v, 0);
  uselocale(before);
  freelocale(c);
  if (t.failed || t.bytes == NULL) {
    free(t.bytes);
    return ckpt_fail_nomem(err, limit);
  }
  if (t.n >= t.limit) {
    t.limit = SIZE_MAX;
    add_text(&t, "...");
  }
  *out = t.bytes;
  *n = t.n;
  return CKPT_OK;
}
