/* pickle_out.c - see pickle_out.h. The opcodes are those that CPython's C pickler chooses in protocol 2. */
#include "pickle_out.h"

#include <stdlib.h>

void ckpt_out_free(ckpt_pickle_out *w) {
  free(w->bytes);
  ckpt_ptrmap_free(&w->memo);
  ckpt_strmap_free(&w->classes);
}

ckpt_status ckpt_out_grow(ckpt_pickle_out *w, size_t n) {
  size_t capacity = w->capacity == 0 ? 4096 : w->capacity;
  while (capacity - w->n < n) capacity *= 2;
  unsigned char *more = realloc(w->bytes, capacity);
  if (more == NULL) return ckpt_fail_nomem(w->err, capacity);
  w->bytes = more;
  w->capacity = capacity;
  return CKPT_OK;
}

/* ---- memo ---- */

ckpt_status ckpt_out_get(ckpt_pickle_out *w, size_t id) {
  return id < 256 ? ckpt_out_uint(w, 'h', id, 1) : ckpt_out_uint(w, 'j', id, 4);
}

ckpt_status ckpt_out_number(ckpt_pickle_out *w, size_t *id) {
  *id = w->memo_count++;
  return *id < 256 ? ckpt_out_uint(w, 'q', *id, 1) : ckpt_out_uint(w, 'r', *id, 4);
}

ckpt_status ckpt_out_put(ckpt_pickle_out *w, const void *key) {
  size_t id;
  CKPT_TRY(ckpt_out_number(w, &id));
  return ckpt_ptrmap_set(&w->memo, key, id, w->err);
}

/* ---- numbers ---- */

static size_t long_at(unsigned char *to, int64_t v) {
  size_t n = 4; /* minimal two's complement: n bytes hold -limit to limit - 1 */
  for (int64_t limit = INT64_C(1) << 31; n < 8 && (v < -limit || v >= limit); n++)
    limit = n == 7 ? INT64_MAX : limit * 256;
  to[0] = 0x8a;
  to[1] = (unsigned char)n;
  ckpt_put64(to + 2, (uint64_t)v);
  return 2 + n;
}

size_t ckpt_out_int_at(unsigned char *to, int64_t v) {
  if (v < INT32_MIN || v > INT32_MAX) return long_at(to, v);
  to[0] = v >= 0 && v < 256 ? 'K' : v >= 0 && v < 65536 ? 'M' : 'J';
  ckpt_put32(to + 1, (uint32_t)v);
  return to[0] == 'K' ? 2 : to[0] == 'M' ? 3 : 5;
}

ckpt_status ckpt_out_int(ckpt_pickle_out *w, int64_t v) {
  CKPT_TRY(ckpt_out_room(w, CKPT_LONGEST_INT));
  w->n += ckpt_out_int_at(w->bytes + w->n, v);
  return CKPT_OK;
}

ckpt_status ckpt_out_bigint(ckpt_pickle_out *w, const ckpt_value *v) {
  size_t n = v->as.text.n;
  if (n > INT32_MAX) return ckpt_fail(w->err, CKPT_E_UNSUPPORTED, -1, "an integer of %zu bytes", n);
  CKPT_TRY(n < 256 ? ckpt_out_uint(w, 0x8a, n, 1) : ckpt_out_uint(w, 0x8b, n, 4));
  return ckpt_out_bytes(w, v->as.text.bytes, n);
}

ckpt_status ckpt_out_float(ckpt_pickle_out *w, double d) {
  uint64_t bits;
  unsigned char b[9] = {'G'};
  memcpy(&bits, &d, 8);
  for (int i = 0; i < 8; i++) b[1 + i] = (unsigned char)(bits >> (56 - 8 * i));
  return ckpt_out_bytes(w, b, 9);
}

/* ---- texts ---- */

ckpt_status ckpt_out_text(ckpt_pickle_out *w, const char *s, size_t n) {
  if (n > UINT32_MAX) return ckpt_fail(w->err, CKPT_E_UNSUPPORTED, -1, "a string of %zu bytes", n);
  CKPT_TRY(ckpt_out_uint(w, 'X', n, 4));
  return ckpt_out_bytes(w, s, n);
}

ckpt_status ckpt_out_bytestring(ckpt_pickle_out *w, const ckpt_value *v) {
  size_t n = v->as.text.n;
  if (n > INT32_MAX) return ckpt_fail(w->err, CKPT_E_UNSUPPORTED, -1, "a string of %zu bytes", n);
  CKPT_TRY(n < 256 ? ckpt_out_uint(w, 'U', n, 1) : ckpt_out_uint(w, 'T', n, 4));
  CKPT_TRY(ckpt_out_bytes(w, v->as.text.bytes, n));
  return ckpt_out_put(w, v);
}

ckpt_status ckpt_out_str(ckpt_pickle_out *w, const ckpt_value *v) {
  size_t *id = NULL;
  CKPT_TRY(ckpt_ptrmap_place(&id, &w->memo, v, w->err));
  if (*id != SIZE_MAX) return ckpt_out_get(w, *id);
  if (v->bytestring) return ckpt_out_bytestring(w, v);
  CKPT_TRY(ckpt_out_text(w, v->as.text.bytes, v->as.text.n));
  return ckpt_out_number(w, id);
}

ckpt_status ckpt_out_word(ckpt_pickle_out *w, const char *word) {
  size_t id = ckpt_ptrmap_get(&w->memo, word);
  if (id != SIZE_MAX) return ckpt_out_get(w, id);
  CKPT_TRY(ckpt_out_text(w, word, strlen(word)));
  return ckpt_out_put(w, word);
}

/* ---- classes ---- */

/* `text` is "module.name" and must outlive the pickler. */
static ckpt_status plain_class(ckpt_pickle_out *w, const char *text, size_t module, size_t n) {
  size_t id = ckpt_strmap_get(&w->classes, text, n);
  if (id != SIZE_MAX) return ckpt_out_get(w, id);
  if (memchr(text, '\n', n) != NULL) return ckpt_fail(w->err, CKPT_E_UNSUPPORTED, -1, "a class name with a line end");
  CKPT_TRY(ckpt_out_op(w, 'c'));
  CKPT_TRY(ckpt_out_bytes(w, text, module));
  CKPT_TRY(ckpt_out_op(w, '\n'));
  CKPT_TRY(ckpt_out_bytes(w, text + module + 1, n - module - 1));
  CKPT_TRY(ckpt_out_op(w, '\n'));
  CKPT_TRY(ckpt_out_number(w, &id));
  return ckpt_strmap_set(&w->classes, text, n, id, w->err);
}

ckpt_status ckpt_out_global(ckpt_pickle_out *w, const char *text) {
  const char *dot;
  for (size_t i = 0; i < CKPT_COUNTOF(w->globals); i++)
    if (w->globals[i].text == text) return ckpt_out_get(w, w->globals[i].id);
  dot = strrchr(text, '.');
  CKPT_TRY(plain_class(w, text, (size_t)(dot - text), strlen(text)));
  w->globals[w->next_global++ % CKPT_COUNTOF(w->globals)] =
      (ckpt_global){text, ckpt_strmap_get(&w->classes, text, strlen(text))};
  return CKPT_OK;
}

/* Before protocol 4 a GLOBAL has no dots: Outer.Inner is getattr(Outer, "Inner"). */
static ckpt_status inner_class(ckpt_pickle_out *w, const ckpt_value *v, const char *dot) {
  const char *text = v->as.text.bytes, *end = text + v->as.text.n;
  size_t id;
  for (const char *p = dot; p < end; p++)
    if (*p == '.') CKPT_TRY(ckpt_out_global(w, "__builtin__.getattr"));
  CKPT_TRY(plain_class(w, text, v->as.text.module, (size_t)(dot - text)));
  while (dot != end) {
    const char *part = dot + 1, *next = memchr(part, '.', (size_t)(end - part));
    dot = next == NULL ? end : next;
    CKPT_TRY(ckpt_out_text(w, part, (size_t)(dot - part)));
    CKPT_TRY(ckpt_out_number(w, &id));
    CKPT_TRY(ckpt_out_op(w, 0x86));
    CKPT_TRY(ckpt_out_number(w, &id));
    CKPT_TRY(ckpt_out_op(w, 'R'));
    if (dot != end) CKPT_TRY(ckpt_out_number(w, &id));
  }
  return ckpt_out_put(w, v);
}

ckpt_status ckpt_out_class(ckpt_pickle_out *w, const ckpt_value *v) {
  const char *text = v->as.text.bytes, *end = text + v->as.text.n, *name = text + v->as.text.module + 1;
  const char *dot = memchr(name, '.', (size_t)(end - name));
  if (dot == NULL) return plain_class(w, text, v->as.text.module, v->as.text.n);
  size_t id = ckpt_ptrmap_get(&w->memo, v);
  return id != SIZE_MAX ? ckpt_out_get(w, id) : inner_class(w, v, dot);
}
