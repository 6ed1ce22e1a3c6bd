/*
 * pickle_read.c - opcode table and machine: value stack, mark stack, memo. Opcodes and arguments are those of CPython's
 * pickletools (protocols 0 to 5). Every length is compared with the bytes that remain before anything is allocated.
 */
#include "pickle_read.h"

#include <stdlib.h>

#include "pickle_text.h"

typedef struct vector {
  void **items;
  size_t n, capacity;
} vector;

typedef struct machine {
  ckpt_document *doc;
  const unsigned char *data;
  size_t size, pos, op; /* op: where the current opcode lies */
  const char *name;
  const ckpt_pickle_hooks *hooks;
  vector stack; /* ckpt_value * */
  vector dicts; /* ckpt_dict *, to be settled at the end */
  vector memo;  /* ckpt_value *, NULL for a hole */
  size_t memo_count;
  size_t *marks; /* heights of the stack */
  size_t n_marks, mark_capacity;
  ckpt_value *small[256]; /* integers 0..255 have no identity */
  bool stopped;
} machine;

typedef ckpt_status (*opcode)(machine *m, ckpt_error *err);

size_t ckpt_pickle_memory_limit(size_t size) {
  size_t limit;
  return ckpt_mul_size(&limit, size, 128) && ckpt_add_size(&limit, limit, 1 << 16) ? limit : SIZE_MAX;
}

/* ---- errors ---- */

static ckpt_status bad(const machine *m, ckpt_error *err, ckpt_status status, const char *what) {
  return ckpt_fail(err, status, (int64_t)m->op, "%s+0x%zx: %s", m->name, m->op, what);
}

/* Puts the position before what a builder said. */
static ckpt_status at_op(const machine *m, ckpt_status status, ckpt_error *err) {
  if (status == CKPT_OK || err == NULL) return status;
  char where[300];
  ckpt_error kept = *err;
  ckpt_fail(err, kept.status, -1, "%s+0x%zx", m->name, m->op);
  memcpy(where, err->message, sizeof where);
  where[sizeof where - 1] = '\0';
  *err = kept;
  err->position = (int64_t)m->op;
  return ckpt_fail_in(err, status, where);
}

/* ---- vectors, stack, marks ---- */

static ckpt_status grow(vector *v, size_t need, ckpt_error *err) {
  if (need <= v->capacity) return CKPT_OK;
  size_t capacity = v->capacity == 0 ? 64 : v->capacity * 2;
  while (capacity < need) capacity *= 2;
  void **items = realloc(v->items, capacity * sizeof *items);
  if (items == NULL) return ckpt_fail_nomem(err, capacity * sizeof *items);
  memset(items + v->capacity, 0, (capacity - v->capacity) * sizeof *items);
  v->items = items;
  v->capacity = capacity;
  return CKPT_OK;
}

static ckpt_status vector_push(vector *v, void *item, ckpt_error *err) {
  CKPT_TRY(grow(v, v->n + 1, err));
  v->items[v->n++] = item;
  return CKPT_OK;
}

/* Pushes a value that a builder made; NULL is the builder's failure. */
static ckpt_status push(machine *m, ckpt_value *v, ckpt_error *err) {
  if (v == NULL) return at_op(m, err == NULL ? CKPT_E_CORRUPT : err->status, err);
  return vector_push(&m->stack, v, err);
}

static size_t stack_floor(const machine *m) { return m->n_marks == 0 ? 0 : m->marks[m->n_marks - 1]; }

static ckpt_status pop(ckpt_value **out, machine *m, ckpt_error *err) {
  if (m->stack.n <= stack_floor(m)) return bad(m, err, CKPT_E_CORRUPT, "the stack is empty where a value is needed");
  *out = m->stack.items[--m->stack.n];
  return CKPT_OK;
}

static ckpt_status top(ckpt_value **out, machine *m, ckpt_error *err) {
  CKPT_TRY(pop(out, m, err));
  m->stack.n++;
  return CKPT_OK;
}

/* Takes off what lies above the last mark; the items stay readable until the next push. */
static ckpt_status pop_mark(ckpt_value ***items, size_t *n, machine *m, ckpt_error *err) {
  if (m->n_marks == 0) return bad(m, err, CKPT_E_CORRUPT, "there is no mark on the stack");
  size_t height = m->marks[--m->n_marks];
  *items = (ckpt_value **)m->stack.items + height;
  *n = m->stack.n - height;
  m->stack.n = height;
  return CKPT_OK;
}

/* ---- arguments ---- */

static ckpt_status take(const unsigned char **out, machine *m, uint64_t n, ckpt_error *err) {
  if (n > m->size - m->pos)
    return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)m->op,
                     "%s+0x%zx: an argument of %llu bytes where only %zu remain: the pickle is cut off or corrupt", m->name,
                     m->op, (unsigned long long)n, m->size - m->pos);
  *out = m->data + m->pos;
  m->pos += (size_t)n;
  return CKPT_OK;
}

/* A little-endian unsigned argument of 1, 2, 4 or 8 bytes. */
static ckpt_status take_uint(uint64_t *out, machine *m, size_t bytes, ckpt_error *err) {
  const unsigned char *p = NULL;
  CKPT_TRY(take(&p, m, bytes, err));
  uint64_t v = 0;
  for (size_t i = bytes; i-- > 0;) v = v << 8 | p[i];
  *out = v;
  return CKPT_OK;
}

/* A length and that many bytes. */
static ckpt_status take_counted(const unsigned char **out, size_t *n, machine *m, size_t length_bytes, ckpt_error *err) {
  uint64_t length = 0;
  CKPT_TRY(take_uint(&length, m, length_bytes, err));
  CKPT_TRY(take(out, m, length, err));
  *n = (size_t)length;
  return CKPT_OK;
}

static ckpt_status take_line(const unsigned char **out, size_t *n, machine *m, ckpt_error *err) {
  const unsigned char *start = m->data + m->pos, *end = memchr(start, '\n', m->size - m->pos);
  if (end == NULL) return bad(m, err, CKPT_E_CORRUPT, "a line without its end: the pickle is cut off or corrupt");
  *out = start;
  *n = (size_t)(end - start);
  m->pos += *n + 1;
  return CKPT_OK;
}

/* ---- atoms ---- */

static ckpt_status push_int(machine *m, int64_t i, ckpt_error *err) {
  bool is_small = i >= 0 && i < 256;
  if (is_small && m->small[i] != NULL) return push(m, m->small[i], err);
  ckpt_value *v = ckpt_value_make(m->doc, CKPT_INT, err);
  if (v == NULL) return push(m, NULL, err);
  v->as.integer = i;
  if (is_small) m->small[i] = v;
  return push(m, v, err);
}

static ckpt_status op_none(machine *m, ckpt_error *err) { return push(m, ckpt_document_none(m->doc), err); }
static ckpt_status op_true(machine *m, ckpt_error *err) { return push(m, ckpt_document_bool(m->doc, true), err); }
static ckpt_status op_false(machine *m, ckpt_error *err) { return push(m, ckpt_document_bool(m->doc, false), err); }

static ckpt_status op_binint(machine *m, ckpt_error *err) {
  uint64_t v = 0;
  CKPT_TRY(take_uint(&v, m, 4, err));
  return push_int(m, (int32_t)(uint32_t)v, err);
}

static ckpt_status op_binint1(machine *m, ckpt_error *err) {
  uint64_t v = 0;
  CKPT_TRY(take_uint(&v, m, 1, err));
  return push_int(m, (int64_t)v, err);
}

static ckpt_status op_binint2(machine *m, ckpt_error *err) {
  uint64_t v = 0;
  CKPT_TRY(take_uint(&v, m, 2, err));
  return push_int(m, (int64_t)v, err);
}

static ckpt_status op_int(machine *m, ckpt_error *err) {
  const unsigned char *s = NULL;
  size_t n = 0;
  CKPT_TRY(take_line(&s, &n, m, err));
  if (n == 2 && s[0] == '0' && (s[1] == '0' || s[1] == '1')) /* how protocols 0 and 1 write False and True */
    return push(m, ckpt_document_bool(m->doc, s[1] == '1'), err);
  return push(m, ckpt_pickle_decimal(m->doc, s, n, err), err);
}

static ckpt_status op_long(machine *m, ckpt_error *err) {
  const unsigned char *s = NULL;
  size_t n = 0;
  CKPT_TRY(take_line(&s, &n, m, err));
  return push(m, ckpt_pickle_decimal(m->doc, s, n, err), err);
}

static ckpt_status push_long(machine *m, size_t length_bytes, ckpt_error *err) {
  const unsigned char *s = NULL;
  size_t n = 0;
  CKPT_TRY(take_counted(&s, &n, m, length_bytes, err));
  return push(m, ckpt_pickle_long(m->doc, s, n, err), err);
}

static ckpt_status op_long1(machine *m, ckpt_error *err) { return push_long(m, 1, err); }
static ckpt_status op_long4(machine *m, ckpt_error *err) { return push_long(m, 4, err); }

static ckpt_status op_float(machine *m, ckpt_error *err) {
  const unsigned char *s = NULL;
  size_t n = 0;
  CKPT_TRY(take_line(&s, &n, m, err));
  return push(m, ckpt_pickle_float(m->doc, s, n, err), err);
}

static ckpt_status op_binfloat(machine *m, ckpt_error *err) {
  const unsigned char *p = NULL;
  CKPT_TRY(take(&p, m, 8, err));
  uint64_t bits = 0;
  for (int i = 0; i < 8; i++) bits = bits << 8 | p[i];
  ckpt_value *v = ckpt_value_make(m->doc, CKPT_FLOAT, err);
  if (v != NULL) memcpy(&v->as.number, &bits, 8);
  return push(m, v, err);
}

/* ---- texts ---- */

static ckpt_status push_text(machine *m, ckpt_kind kind, size_t length_bytes, ckpt_error *err) {
  const unsigned char *s = NULL;
  size_t n = 0;
  CKPT_TRY(take_counted(&s, &n, m, length_bytes, err));
  if (kind == CKPT_STR && !ckpt_utf8_valid(s, n)) return bad(m, err, CKPT_E_CORRUPT, "a string that is not UTF-8");
  return push(m, ckpt_value_make_text(m->doc, kind, s, n, err), err);
}

static ckpt_status op_short_binunicode(machine *m, ckpt_error *err) { return push_text(m, CKPT_STR, 1, err); }
static ckpt_status op_binunicode(machine *m, ckpt_error *err) { return push_text(m, CKPT_STR, 4, err); }
static ckpt_status op_binunicode8(machine *m, ckpt_error *err) { return push_text(m, CKPT_STR, 8, err); }
static ckpt_status op_short_binbytes(machine *m, ckpt_error *err) { return push_text(m, CKPT_BYTES, 1, err); }
static ckpt_status op_binbytes(machine *m, ckpt_error *err) { return push_text(m, CKPT_BYTES, 4, err); }
static ckpt_status op_binbytes8(machine *m, ckpt_error *err) { return push_text(m, CKPT_BYTES, 8, err); }
static ckpt_status op_bytearray8(machine *m, ckpt_error *err) { return push_text(m, CKPT_BYTEARRAY, 8, err); }

static ckpt_status push_bytestring(machine *m, size_t length_bytes, ckpt_error *err) {
  const unsigned char *s = NULL;
  size_t n = 0;
  CKPT_TRY(take_counted(&s, &n, m, length_bytes, err));
  return push(m, ckpt_pickle_bytestring(m->doc, s, n, err), err);
}

static ckpt_status op_short_binstring(machine *m, ckpt_error *err) { return push_bytestring(m, 1, err); }

static ckpt_status op_binstring(machine *m, ckpt_error *err) {
  if (m->size - m->pos >= 4 && m->data[m->pos + 3] >= 0x80) /* the length is signed in CPython */
    return bad(m, err, CKPT_E_CORRUPT, "a string of negative length");
  return push_bytestring(m, 4, err);
}

static ckpt_status op_unicode(machine *m, ckpt_error *err) {
  const unsigned char *s = NULL;
  size_t n = 0;
  CKPT_TRY(take_line(&s, &n, m, err));
  return push(m, ckpt_pickle_raw_unicode(m->doc, s, n, err), err);
}

static ckpt_status op_string(machine *m, ckpt_error *err) {
  const unsigned char *s = NULL;
  size_t n = 0;
  CKPT_TRY(take_line(&s, &n, m, err));
  return push(m, ckpt_pickle_quoted(m->doc, s, n, err), err);
}

/* ---- containers ---- */

static ckpt_status push_seq(machine *m, ckpt_kind kind, ckpt_value *const *items, size_t n, ckpt_error *err) {
  if (kind == CKPT_TUPLE && n == 0) return push(m, ckpt_document_empty_tuple(m->doc), err);
  ckpt_value *v = ckpt_value_make(m->doc, kind, err);
  if (v == NULL) return push(m, NULL, err);
  if (n > 0) {
    v->as.seq.items = ckpt_arena_alloc(ckpt_document_arena(m->doc), n * sizeof *items, err);
    if (v->as.seq.items == NULL) return push(m, NULL, err);
    memcpy(v->as.seq.items, items, n * sizeof *items);
    v->as.seq.n = v->as.seq.capacity = n;
  }
  return push(m, v, err);
}

static ckpt_status push_marked(machine *m, ckpt_kind kind, ckpt_error *err) {
  ckpt_value **items = NULL;
  size_t n = 0;
  CKPT_TRY(pop_mark(&items, &n, m, err));
  return push_seq(m, kind, items, n, err);
}

static ckpt_status op_empty_list(machine *m, ckpt_error *err) { return push_seq(m, CKPT_LIST, NULL, 0, err); }
static ckpt_status op_empty_tuple(machine *m, ckpt_error *err) { return push_seq(m, CKPT_TUPLE, NULL, 0, err); }
static ckpt_status op_empty_set(machine *m, ckpt_error *err) { return push_seq(m, CKPT_SET, NULL, 0, err); }
static ckpt_status op_list(machine *m, ckpt_error *err) { return push_marked(m, CKPT_LIST, err); }
static ckpt_status op_tuple(machine *m, ckpt_error *err) { return push_marked(m, CKPT_TUPLE, err); }
static ckpt_status op_frozenset(machine *m, ckpt_error *err) { return push_marked(m, CKPT_FROZENSET, err); }

static ckpt_status push_tuple_of(machine *m, size_t n, ckpt_error *err) {
  if (m->stack.n - stack_floor(m) < n) return bad(m, err, CKPT_E_CORRUPT, "too few values for a tuple");
  m->stack.n -= n;
  return push_seq(m, CKPT_TUPLE, (ckpt_value **)m->stack.items + m->stack.n, n, err);
}

static ckpt_status op_tuple1(machine *m, ckpt_error *err) { return push_tuple_of(m, 1, err); }
static ckpt_status op_tuple2(machine *m, ckpt_error *err) { return push_tuple_of(m, 2, err); }
static ckpt_status op_tuple3(machine *m, ckpt_error *err) { return push_tuple_of(m, 3, err); }

static ckpt_status add_items(machine *m, ckpt_value *to, ckpt_value *const *items, size_t n, ckpt_error *err) {
  ckpt_seq *seq = to->kind == CKPT_LIST ? &to->as.seq : to->kind == CKPT_OBJECT ? &to->as.object->items : NULL;
  if (seq == NULL) return bad(m, err, CKPT_E_CORRUPT, "items appended to what is no list");
  for (size_t i = 0; i < n; i++) CKPT_TRY(at_op(m, ckpt_seq_push(seq, m->doc, items[i], err), err));
  return CKPT_OK;
}

static ckpt_status op_append(machine *m, ckpt_error *err) {
  ckpt_value *item = NULL, *to = NULL;
  CKPT_TRY(pop(&item, m, err));
  CKPT_TRY(top(&to, m, err));
  return add_items(m, to, &item, 1, err);
}

static ckpt_status op_appends(machine *m, ckpt_error *err) {
  ckpt_value **items = NULL, *to = NULL;
  size_t n = 0;
  CKPT_TRY(pop_mark(&items, &n, m, err));
  CKPT_TRY(top(&to, m, err));
  return add_items(m, to, items, n, err);
}

static ckpt_status op_additems(machine *m, ckpt_error *err) {
  ckpt_value **items = NULL, *to = NULL;
  size_t n = 0;
  CKPT_TRY(pop_mark(&items, &n, m, err));
  CKPT_TRY(top(&to, m, err));
  if (to->kind != CKPT_SET) return bad(m, err, CKPT_E_CORRUPT, "items added to what is no set");
  for (size_t i = 0; i < n; i++) CKPT_TRY(at_op(m, ckpt_seq_push(&to->as.seq, m->doc, items[i], err), err));
  return CKPT_OK;
}

static ckpt_status add_pairs(machine *m, ckpt_value *to, ckpt_value *const *flat, size_t n, ckpt_error *err) {
  if (n % 2 != 0) return bad(m, err, CKPT_E_CORRUPT, "a key without its value");
  ckpt_dict *d = to->kind == CKPT_DICT ? to->as.dict : to->kind == CKPT_OBJECT ? &to->as.object->dict : NULL;
  if (d == NULL) return bad(m, err, CKPT_E_CORRUPT, "keys set in what is no dict");
  if (d->flat.n == 0 && n > 0) CKPT_TRY(vector_push(&m->dicts, d, err));
  for (size_t i = 0; i < n; i++) CKPT_TRY(at_op(m, ckpt_seq_push(&d->flat, m->doc, flat[i], err), err));
  return CKPT_OK;
}

static ckpt_status op_empty_dict(machine *m, ckpt_error *err) {
  return push(m, ckpt_value_make(m->doc, CKPT_DICT, err), err);
}

static ckpt_status op_dict(machine *m, ckpt_error *err) {
  ckpt_value **flat = NULL;
  size_t n = 0;
  CKPT_TRY(pop_mark(&flat, &n, m, err));
  ckpt_value *v = ckpt_value_make(m->doc, CKPT_DICT, err);
  if (v == NULL) return push(m, NULL, err);
  CKPT_TRY(add_pairs(m, v, flat, n, err));
  return push(m, v, err);
}

static ckpt_status op_setitem(machine *m, ckpt_error *err) {
  ckpt_value *pair[2] = {NULL, NULL}, *to = NULL;
  CKPT_TRY(pop(&pair[1], m, err));
  CKPT_TRY(pop(&pair[0], m, err));
  CKPT_TRY(top(&to, m, err));
  return add_pairs(m, to, pair, 2, err);
}

static ckpt_status op_setitems(machine *m, ckpt_error *err) {
  ckpt_value **flat = NULL, *to = NULL;
  size_t n = 0;
  CKPT_TRY(pop_mark(&flat, &n, m, err));
  CKPT_TRY(top(&to, m, err));
  return add_pairs(m, to, flat, n, err);
}

/* ---- stack and memo ---- */

static ckpt_status op_mark(machine *m, ckpt_error *err) {
  if (m->n_marks == m->mark_capacity) {
    size_t capacity = m->mark_capacity == 0 ? 64 : m->mark_capacity * 2;
    size_t *marks = realloc(m->marks, capacity * sizeof *marks);
    if (marks == NULL) return ckpt_fail_nomem(err, capacity * sizeof *marks);
    m->marks = marks;
    m->mark_capacity = capacity;
  }
  m->marks[m->n_marks++] = m->stack.n;
  return CKPT_OK;
}

static ckpt_status op_pop(machine *m, ckpt_error *err) {
  ckpt_value *ignored;
  if (m->n_marks > 0 && m->stack.n == stack_floor(m)) {
    m->n_marks--; /* POP takes a mark off as well */
    return CKPT_OK;
  }
  return pop(&ignored, m, err);
}

static ckpt_status op_pop_mark(machine *m, ckpt_error *err) {
  ckpt_value **items;
  size_t n;
  return pop_mark(&items, &n, m, err);
}

static ckpt_status op_dup(machine *m, ckpt_error *err) {
  ckpt_value *v = NULL;
  CKPT_TRY(top(&v, m, err));
  return push(m, v, err);
}

/* Picklers number from 0, so an index beyond the pickle's own size is hostile: it would cost memory out of proportion. */
static ckpt_status put(machine *m, uint64_t index, ckpt_error *err) {
  ckpt_value *v = NULL;
  CKPT_TRY(top(&v, m, err));
  if (index >= m->size)
    return ckpt_fail(err, CKPT_E_LIMIT, (int64_t)m->op, "%s+0x%zx: memo index %llu in a pickle of %zu bytes", m->name,
                     m->op, (unsigned long long)index, m->size);
  CKPT_TRY(grow(&m->memo, (size_t)index + 1, err));
  if (m->memo.n <= index) m->memo.n = (size_t)index + 1;
  if (m->memo.items[index] == NULL) m->memo_count++;
  m->memo.items[index] = v;
  return CKPT_OK;
}

static ckpt_status get(machine *m, uint64_t index, ckpt_error *err) {
  ckpt_value *v = index < m->memo.n ? m->memo.items[index] : NULL;
  if (v == NULL)
    return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)m->op, "%s+0x%zx: memo entry %llu was never stored", m->name, m->op,
                     (unsigned long long)index);
  return push(m, v, err);
}

static ckpt_status line_index(uint64_t *out, machine *m, ckpt_error *err) {
  const unsigned char *s = NULL;
  size_t n = 0;
  CKPT_TRY(take_line(&s, &n, m, err));
  uint64_t v = 0;
  bool valid = n > 0 && n <= 18;
  for (size_t i = 0; valid && i < n; i++) {
    valid = s[i] >= '0' && s[i] <= '9';
    v = v * 10 + (uint64_t)(s[i] - '0');
  }
  if (!valid) return bad(m, err, CKPT_E_CORRUPT, "a memo index that is no number");
  *out = v;
  return CKPT_OK;
}

static ckpt_status put_uint(machine *m, size_t bytes, ckpt_error *err) {
  uint64_t index = 0;
  CKPT_TRY(take_uint(&index, m, bytes, err));
  return put(m, index, err);
}

static ckpt_status get_uint(machine *m, size_t bytes, ckpt_error *err) {
  uint64_t index = 0;
  CKPT_TRY(take_uint(&index, m, bytes, err));
  return get(m, index, err);
}

static ckpt_status op_put(machine *m, ckpt_error *err) {
  uint64_t index = 0;
  CKPT_TRY(line_index(&index, m, err));
  return put(m, index, err);
}

static ckpt_status op_get(machine *m, ckpt_error *err) {
  uint64_t index = 0;
  CKPT_TRY(line_index(&index, m, err));
  return get(m, index, err);
}

static ckpt_status op_binput(machine *m, ckpt_error *err) { return put_uint(m, 1, err); }
static ckpt_status op_long_binput(machine *m, ckpt_error *err) { return put_uint(m, 4, err); }
static ckpt_status op_binget(machine *m, ckpt_error *err) { return get_uint(m, 1, err); }
static ckpt_status op_long_binget(machine *m, ckpt_error *err) { return get_uint(m, 4, err); }
static ckpt_status op_memoize(machine *m, ckpt_error *err) { return put(m, m->memo_count, err); }

/* ---- objects ---- */

static ckpt_status op_global(machine *m, ckpt_error *err) {
  const unsigned char *module = NULL, *name = NULL;
  size_t module_n = 0, name_n = 0;
  CKPT_TRY(take_line(&module, &module_n, m, err));
  CKPT_TRY(take_line(&name, &name_n, m, err));
  if (!ckpt_utf8_valid(module, module_n) || !ckpt_utf8_valid(name, name_n))
    return bad(m, err, CKPT_E_CORRUPT, "a name that is not UTF-8");
  return push(m, ckpt_value_make_class(m->doc, (const char *)module, module_n, (const char *)name, name_n, err), err);
}

static ckpt_status op_stack_global(machine *m, ckpt_error *err) {
  ckpt_value *name = NULL, *module = NULL;
  CKPT_TRY(pop(&name, m, err));
  CKPT_TRY(pop(&module, m, err));
  if (name->kind != CKPT_STR || module->kind != CKPT_STR)
    return bad(m, err, CKPT_E_CORRUPT, "STACK_GLOBAL without two strings");
  return push(m, ckpt_value_make_class(m->doc, module->as.text.bytes, module->as.text.n, name->as.text.bytes,
                                       name->as.text.n, err), err);
}

/* Pushes an OBJECT and lets the format have a look at it. */
static ckpt_status push_object(machine *m, ckpt_how how, ckpt_value *callable, ckpt_value *args, ckpt_value *kwargs,
                               ckpt_error *err) {
  if (callable != NULL && callable->kind != CKPT_CLASS && callable->kind != CKPT_OBJECT)
    return bad(m, err, CKPT_E_CORRUPT, "an object made by something that is no class or function");
  if (how != CKPT_BY_PERSID && args->kind != CKPT_TUPLE)
    return bad(m, err, CKPT_E_CORRUPT, "constructor arguments that are no tuple");
  ckpt_value *v = ckpt_value_make_object(m->doc, how, callable, args, err);
  if (v == NULL) return push(m, NULL, err);
  v->made->kwargs = kwargs;
  CKPT_TRY(push(m, v, err));
  ckpt_status (*hook)(void *, ckpt_value *, ckpt_error *) = how == CKPT_BY_PERSID ? m->hooks->persid : m->hooks->built;
  return hook == NULL ? CKPT_OK : at_op(m, hook(m->hooks->context, v, err), err);
}

static ckpt_status make_object(machine *m, ckpt_how how, ckpt_error *err) {
  ckpt_value *args = NULL, *callable = NULL, *kwargs = NULL;
  if (how == CKPT_BY_NEWOBJ_EX) CKPT_TRY(pop(&kwargs, m, err));
  CKPT_TRY(pop(&args, m, err));
  CKPT_TRY(pop(&callable, m, err));
  return push_object(m, how, callable, args, kwargs, err);
}

static ckpt_status op_reduce(machine *m, ckpt_error *err) { return make_object(m, CKPT_BY_REDUCE, err); }
static ckpt_status op_newobj(machine *m, ckpt_error *err) { return make_object(m, CKPT_BY_NEWOBJ, err); }
static ckpt_status op_newobj_ex(machine *m, ckpt_error *err) { return make_object(m, CKPT_BY_NEWOBJ_EX, err); }

/* INST and OBJ, Python 2's old-style instances: class(*items above the mark). */
static ckpt_status op_inst(machine *m, ckpt_error *err) {
  ckpt_value *args = NULL, *callable = NULL;
  CKPT_TRY(push_marked(m, CKPT_TUPLE, err));
  CKPT_TRY(op_global(m, err));
  CKPT_TRY(pop(&callable, m, err));
  CKPT_TRY(pop(&args, m, err));
  return push_object(m, CKPT_BY_REDUCE, callable, args, NULL, err);
}

static ckpt_status op_obj(machine *m, ckpt_error *err) {
  ckpt_value **items = NULL, *args = NULL;
  size_t n = 0;
  CKPT_TRY(pop_mark(&items, &n, m, err));
  if (n == 0) return bad(m, err, CKPT_E_CORRUPT, "OBJ without a class");
  ckpt_value *callable = items[0];
  CKPT_TRY(push_seq(m, CKPT_TUPLE, items + 1, n - 1, err));
  CKPT_TRY(pop(&args, m, err));
  return push_object(m, CKPT_BY_REDUCE, callable, args, NULL, err);
}

static ckpt_status op_build(machine *m, ckpt_error *err) {
  ckpt_value *state = NULL, *to = NULL;
  CKPT_TRY(pop(&state, m, err));
  CKPT_TRY(top(&to, m, err));
  ckpt_value **at = NULL;
  if (to->kind == CKPT_OBJECT) at = &to->as.object->state;
  if (to->kind == CKPT_DICT && to->ordered) at = &to->as.dict->state;
  if (at == NULL) return bad(m, err, CKPT_E_CORRUPT, "BUILD on what has no state");
  if (*at != NULL) return bad(m, err, CKPT_E_UNSUPPORTED, "BUILD twice on one object");
  *at = state;
  return CKPT_OK;
}

static ckpt_status op_binpersid(machine *m, ckpt_error *err) {
  ckpt_value *id = NULL;
  CKPT_TRY(pop(&id, m, err));
  return push_object(m, CKPT_BY_PERSID, NULL, id, NULL, err);
}

static ckpt_status op_persid(machine *m, ckpt_error *err) {
  const unsigned char *s = NULL;
  size_t n = 0;
  CKPT_TRY(take_line(&s, &n, m, err));
  ckpt_value *id = ckpt_pickle_bytestring(m->doc, s, n, err);
  if (id == NULL) return push(m, NULL, err);
  return push_object(m, CKPT_BY_PERSID, NULL, id, NULL, err);
}

/* ---- framing ---- */

static ckpt_status op_proto(machine *m, ckpt_error *err) {
  uint64_t version = 0;
  CKPT_TRY(take_uint(&version, m, 1, err));
  return version <= 5 ? CKPT_OK : bad(m, err, CKPT_E_UNSUPPORTED, "a pickle protocol later than 5");
}

static ckpt_status op_frame(machine *m, ckpt_error *err) {
  uint64_t length = 0;
  CKPT_TRY(take_uint(&length, m, 8, err));
  return length <= m->size - m->pos ? CKPT_OK : bad(m, err, CKPT_E_CORRUPT, "a frame longer than the pickle");
}

static ckpt_status op_stop(machine *m, ckpt_error *err) {
  (void)err;
  m->stopped = true;
  return CKPT_OK;
}

static ckpt_status op_extension(machine *m, ckpt_error *err) {
  return bad(m, err, CKPT_E_UNSUPPORTED, "an extension code, whose meaning lies in the program that wrote it");
}

static ckpt_status op_out_of_band(machine *m, ckpt_error *err) {
  return bad(m, err, CKPT_E_UNSUPPORTED, "an out-of-band buffer, which is not in the file");
}

static const opcode opcodes[256] = {
    ['('] = op_mark,          ['.'] = op_stop,           ['0'] = op_pop,             ['1'] = op_pop_mark,
    ['2'] = op_dup,           ['F'] = op_float,          ['I'] = op_int,             ['J'] = op_binint,
    ['K'] = op_binint1,       ['L'] = op_long,           ['M'] = op_binint2,         ['N'] = op_none,
    ['P'] = op_persid,        ['Q'] = op_binpersid,      ['R'] = op_reduce,          ['S'] = op_string,
    ['T'] = op_binstring,     ['U'] = op_short_binstring, ['V'] = op_unicode,        ['X'] = op_binunicode,
    ['a'] = op_append,        ['b'] = op_build,          ['c'] = op_global,          ['d'] = op_dict,
    ['}'] = op_empty_dict,    ['e'] = op_appends,        ['g'] = op_get,             ['h'] = op_binget,
    ['i'] = op_inst,          ['j'] = op_long_binget,    ['l'] = op_list,            [']'] = op_empty_list,
    ['o'] = op_obj,           ['p'] = op_put,            ['q'] = op_binput,          ['r'] = op_long_binput,
    ['s'] = op_setitem,       ['t'] = op_tuple,          [')'] = op_empty_tuple,     ['u'] = op_setitems,
    ['G'] = op_binfloat,      ['B'] = op_binbytes,       ['C'] = op_short_binbytes,  [0x80] = op_proto,
    [0x81] = op_newobj,       [0x82] = op_extension,     [0x83] = op_extension,      [0x84] = op_extension,
    [0x85] = op_tuple1,       [0x86] = op_tuple2,        [0x87] = op_tuple3,         [0x88] = op_true,
    [0x89] = op_false,        [0x8a] = op_long1,         [0x8b] = op_long4,          [0x8c] = op_short_binunicode,
    [0x8d] = op_binunicode8,  [0x8e] = op_binbytes8,     [0x8f] = op_empty_set,      [0x90] = op_additems,
    [0x91] = op_frozenset,    [0x92] = op_newobj_ex,     [0x93] = op_stack_global,   [0x94] = op_memoize,
    [0x95] = op_frame,        [0x96] = op_bytearray8,    [0x97] = op_out_of_band,    [0x98] = op_out_of_band,
};

static ckpt_status run(machine *m, ckpt_error *err) {
  while (!m->stopped) {
    m->op = m->pos;
    if (m->pos == m->size) return bad(m, err, CKPT_E_CORRUPT, "the pickle ends without STOP");
    unsigned char code = m->data[m->pos++];
    if (opcodes[code] == NULL)
      return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)m->op, "%s+0x%zx: 0x%02x is no pickle opcode", m->name, m->op, code);
    CKPT_TRY(opcodes[code](m, err));
  }
  return CKPT_OK;
}

static ckpt_status finish(ckpt_value **out, machine *m, ckpt_error *err) {
  CKPT_TRY(pop(out, m, err));
  for (size_t i = 0; i < m->dicts.n; i++) CKPT_TRY(at_op(m, ckpt_dict_settle(m->dicts.items[i], m->doc, err), err));
  return CKPT_OK;
}

ckpt_status ckpt_pickle_read(ckpt_value **out, size_t *used, ckpt_document *doc, const unsigned char *data, size_t size,
                             const char *name, const ckpt_pickle_hooks *hooks, ckpt_error *err) {
  static const ckpt_pickle_hooks none = {0};
  ckpt_error here = {0};
  machine *m = calloc(1, sizeof *m);
  if (m == NULL) return ckpt_fail_nomem(err, sizeof *m);
  *m = (machine){.doc = doc, .data = data, .size = size, .name = name, .hooks = hooks == NULL ? &none : hooks};
  ckpt_value *root = NULL;
  ckpt_status st = run(m, &here);
  if (st == CKPT_OK) st = finish(&root, m, &here);
  if (st == CKPT_OK) {
    *out = root;
    if (used != NULL) *used = m->pos;
  } else if (err != NULL) {
    *err = here;
  }
  free(m->stack.items);
  free(m->dicts.items);
  free(m->memo.items);
  free(m->marks);
  free(m);
  return st;
}
