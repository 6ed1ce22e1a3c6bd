/*
 * pickle_read.c - the opcodes and their table. Opcodes and arguments are those of CPython's pickletools (protocols 0 to
 * 5).
 */
#include <stdlib.h>

#include "pickle_fold.h"
#include "pickle_text.h"

typedef ckpt_status (*opcode)(ckpt_machine *m, ckpt_error *err);

size_t ckpt_pickle_memory_limit(size_t size) {
  size_t limit;
  return ckpt_mul_size(&limit, size, 256) && ckpt_add_size(&limit, limit, 1 << 16) ? limit : SIZE_MAX;
}

/* ---- atoms ---- */

static ckpt_status push_int(ckpt_machine *m, int64_t i, ckpt_error *err) {
  bool is_small = i >= 0 && i < 256;
  if (is_small && m->small[i] != NULL) return ckpt_machine_push(m, m->small[i], err);
  ckpt_value *v = ckpt_value_make(m->doc, CKPT_INT, err);
  if (v == NULL) return ckpt_machine_push(m, NULL, err);
  v->as.integer = i;
  if (is_small) m->small[i] = v;
  return ckpt_machine_push(m, v, err);
}

static ckpt_status op_none(ckpt_machine *m, ckpt_error *err) {
  return ckpt_machine_push(m, ckpt_document_none(m->doc), err);
}
static ckpt_status op_true(ckpt_machine *m, ckpt_error *err) {
  return ckpt_machine_push(m, ckpt_document_bool(m->doc, true), err);
}
static ckpt_status op_false(ckpt_machine *m, ckpt_error *err) {
  return ckpt_machine_push(m, ckpt_document_bool(m->doc, false), err);
}

static ckpt_status op_binint(ckpt_machine *m, ckpt_error *err) {
  uint64_t v = 0;
  CKPT_TRY(ckpt_machine_take_uint(&v, m, 4, err));
  return push_int(m, (int32_t)(uint32_t)v, err);
}

static ckpt_status op_binint1(ckpt_machine *m, ckpt_error *err) {
  uint64_t v = 0;
  CKPT_TRY(ckpt_machine_take_uint(&v, m, 1, err));
  return push_int(m, (int64_t)v, err);
}

static ckpt_status op_binint2(ckpt_machine *m, ckpt_error *err) {
  uint64_t v = 0;
  CKPT_TRY(ckpt_machine_take_uint(&v, m, 2, err));
  return push_int(m, (int64_t)v, err);
}

static ckpt_status op_int(ckpt_machine *m, ckpt_error *err) {
  const unsigned char *s = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_machine_take_line(&s, &n, m, err));
  if (n == 2 && s[0] == '0' && (s[1] == '0' || s[1] == '1')) /* how protocols 0 and 1 write False and True */
    return ckpt_machine_push(m, ckpt_document_bool(m->doc, s[1] == '1'), err);
  return ckpt_machine_push(m, ckpt_pickle_decimal(m->doc, s, n, err), err);
}

static ckpt_status op_long(ckpt_machine *m, ckpt_error *err) {
  const unsigned char *s = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_machine_take_line(&s, &n, m, err));
  return ckpt_machine_push(m, ckpt_pickle_decimal(m->doc, s, n, err), err);
}

static ckpt_status push_long(ckpt_machine *m, size_t length_bytes, ckpt_error *err) {
  const unsigned char *s = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_machine_take_counted(&s, &n, m, length_bytes, err));
  return ckpt_machine_push(m, ckpt_pickle_long(m->doc, s, n, err), err);
}

static ckpt_status op_long1(ckpt_machine *m, ckpt_error *err) { return push_long(m, 1, err); }
static ckpt_status op_long4(ckpt_machine *m, ckpt_error *err) { return push_long(m, 4, err); }

static ckpt_status op_float(ckpt_machine *m, ckpt_error *err) {
  const unsigned char *s = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_machine_take_line(&s, &n, m, err));
  return ckpt_machine_push(m, ckpt_pickle_float(m->doc, s, n, err), err);
}

static ckpt_status op_binfloat(ckpt_machine *m, ckpt_error *err) {
  const unsigned char *p = NULL;
  CKPT_TRY(ckpt_machine_take(&p, m, 8, err));
  uint64_t bits = 0;
  for (int i = 0; i < 8; i++) bits = bits << 8 | p[i];
  ckpt_value *v = ckpt_value_make(m->doc, CKPT_FLOAT, err);
  if (v != NULL) memcpy(&v->as.number, &bits, 8);
  return ckpt_machine_push(m, v, err);
}

/* ---- texts ---- */

static ckpt_status push_text(ckpt_machine *m, ckpt_kind kind, size_t length_bytes, ckpt_error *err) {
  const unsigned char *s = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_machine_take_counted(&s, &n, m, length_bytes, err));
  if (kind == CKPT_STR && !ckpt_utf8_valid(s, n))
    return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "a string that is not UTF-8");
  return ckpt_machine_push(m, ckpt_value_make_text(m->doc, kind, s, n, err), err);
}

static ckpt_status op_short_binunicode(ckpt_machine *m, ckpt_error *err) { return push_text(m, CKPT_STR, 1, err); }
static ckpt_status op_binunicode(ckpt_machine *m, ckpt_error *err) { return push_text(m, CKPT_STR, 4, err); }
static ckpt_status op_binunicode8(ckpt_machine *m, ckpt_error *err) { return push_text(m, CKPT_STR, 8, err); }
static ckpt_status op_short_binbytes(ckpt_machine *m, ckpt_error *err) { return push_text(m, CKPT_BYTES, 1, err); }
static ckpt_status op_binbytes(ckpt_machine *m, ckpt_error *err) { return push_text(m, CKPT_BYTES, 4, err); }
static ckpt_status op_binbytes8(ckpt_machine *m, ckpt_error *err) { return push_text(m, CKPT_BYTES, 8, err); }
static ckpt_status op_bytearray8(ckpt_machine *m, ckpt_error *err) { return push_text(m, CKPT_BYTEARRAY, 8, err); }

static ckpt_status push_bytestring(ckpt_machine *m, size_t length_bytes, ckpt_error *err) {
  const unsigned char *s = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_machine_take_counted(&s, &n, m, length_bytes, err));
  return ckpt_machine_push(m, ckpt_pickle_bytestring(m->doc, s, n, err), err);
}

static ckpt_status op_short_binstring(ckpt_machine *m, ckpt_error *err) { return push_bytestring(m, 1, err); }

static ckpt_status op_binstring(ckpt_machine *m, ckpt_error *err) {
  if (m->size - m->pos >= 4 && m->data[m->pos + 3] >= 0x80) /* the length is signed in CPython */
    return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "a string of negative length");
  return push_bytestring(m, 4, err);
}

static ckpt_status op_unicode(ckpt_machine *m, ckpt_error *err) {
  const unsigned char *s = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_machine_take_line(&s, &n, m, err));
  return ckpt_machine_push(m, ckpt_pickle_raw_unicode(m->doc, s, n, err), err);
}

static ckpt_status op_string(ckpt_machine *m, ckpt_error *err) {
  const unsigned char *s = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_machine_take_line(&s, &n, m, err));
  return ckpt_machine_push(m, ckpt_pickle_quoted(m->doc, s, n, err), err);
}

/* ---- containers ---- */

static ckpt_status push_seq(ckpt_machine *m, ckpt_kind kind, ckpt_value *const *items, size_t n, ckpt_error *err) {
  if (kind == CKPT_TUPLE && n == 0) return ckpt_machine_push(m, ckpt_document_empty_tuple(m->doc), err);
  ckpt_value *v = ckpt_value_make(m->doc, kind, err);
  if (v == NULL) return ckpt_machine_push(m, NULL, err);
  if (n > 0) {
    v->as.seq.items = ckpt_arena_alloc(ckpt_document_arena(m->doc), n * sizeof *items, err);
    if (v->as.seq.items == NULL) return ckpt_machine_push(m, NULL, err);
    memcpy(v->as.seq.items, items, n * sizeof *items);
    v->as.seq.n = v->as.seq.capacity = n;
    CKPT_TRY(ckpt_machine_hold_all(m, v, items, n, err));
  }
  return ckpt_machine_push(m, v, err);
}

static ckpt_status push_marked(ckpt_machine *m, ckpt_kind kind, ckpt_error *err) {
  ckpt_value **items = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_machine_pop_mark(&items, &n, m, err));
  return push_seq(m, kind, items, n, err);
}

static ckpt_status op_empty_list(ckpt_machine *m, ckpt_error *err) { return push_seq(m, CKPT_LIST, NULL, 0, err); }
static ckpt_status op_empty_tuple(ckpt_machine *m, ckpt_error *err) { return push_seq(m, CKPT_TUPLE, NULL, 0, err); }
static ckpt_status op_empty_set(ckpt_machine *m, ckpt_error *err) { return push_seq(m, CKPT_SET, NULL, 0, err); }
static ckpt_status op_list(ckpt_machine *m, ckpt_error *err) { return push_marked(m, CKPT_LIST, err); }
static ckpt_status op_tuple(ckpt_machine *m, ckpt_error *err) { return push_marked(m, CKPT_TUPLE, err); }
static ckpt_status op_frozenset(ckpt_machine *m, ckpt_error *err) { return push_marked(m, CKPT_FROZENSET, err); }

static ckpt_status push_tuple_of(ckpt_machine *m, size_t n, ckpt_error *err) {
  if (m->stack.n - ckpt_machine_floor(m) < n)
    return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "too few values for a tuple");
  m->stack.n -= n;
  return push_seq(m, CKPT_TUPLE, (ckpt_value **)m->stack.items + m->stack.n, n, err);
}

static ckpt_status op_tuple1(ckpt_machine *m, ckpt_error *err) { return push_tuple_of(m, 1, err); }
static ckpt_status op_tuple2(ckpt_machine *m, ckpt_error *err) { return push_tuple_of(m, 2, err); }
static ckpt_status op_tuple3(ckpt_machine *m, ckpt_error *err) { return push_tuple_of(m, 3, err); }

static ckpt_status add_items(ckpt_machine *m, ckpt_value *to, ckpt_value *const *items, size_t n, ckpt_error *err) {
  ckpt_seq *seq = to->kind == CKPT_LIST ? &to->as.seq : to->kind == CKPT_OBJECT ? &to->as.object->items : NULL;
  if (seq == NULL) return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "items appended to what is no list");
  CKPT_TRY(ckpt_machine_hold_all(m, to, items, n, err));
  for (size_t i = 0; i < n; i++) CKPT_TRY(ckpt_machine_at(m, ckpt_seq_push(seq, m->doc, items[i], err), err));
  return CKPT_OK;
}

static ckpt_status op_append(ckpt_machine *m, ckpt_error *err) {
  ckpt_value *item = NULL, *to = NULL;
  CKPT_TRY(ckpt_machine_pop(&item, m, err));
  CKPT_TRY(ckpt_machine_top(&to, m, err));
  return add_items(m, to, &item, 1, err);
}

static ckpt_status op_appends(ckpt_machine *m, ckpt_error *err) {
  ckpt_value **items = NULL, *to = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_machine_pop_mark(&items, &n, m, err));
  CKPT_TRY(ckpt_machine_top(&to, m, err));
  return add_items(m, to, items, n, err);
}

static ckpt_status op_additems(ckpt_machine *m, ckpt_error *err) {
  ckpt_value **items = NULL, *to = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_machine_pop_mark(&items, &n, m, err));
  CKPT_TRY(ckpt_machine_top(&to, m, err));
  if (to->kind != CKPT_SET) return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "items added to what is no set");
  CKPT_TRY(ckpt_machine_hold_all(m, to, items, n, err));
  for (size_t i = 0; i < n; i++) CKPT_TRY(ckpt_machine_at(m, ckpt_seq_push(&to->as.seq, m->doc, items[i], err), err));
  return CKPT_OK;
}

static ckpt_status add_pairs(ckpt_machine *m, ckpt_value *to, ckpt_value *const *flat, size_t n, ckpt_error *err) {
  if (n % 2 != 0) return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "a key without its value");
  ckpt_dict *d = to->kind == CKPT_DICT ? to->as.dict : to->kind == CKPT_OBJECT ? &to->as.object->dict : NULL;
  if (d == NULL) return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "keys set in what is no dict");
  CKPT_TRY(ckpt_machine_hold_all(m, to, flat, n, err));
  if (!d->unsettled && n > 0) CKPT_TRY(ckpt_machine_keep(&m->dicts, d, err));
  d->unsettled = true;
  for (size_t i = 0; i < n; i++) CKPT_TRY(ckpt_machine_at(m, ckpt_seq_push(&d->flat, m->doc, flat[i], err), err));
  return CKPT_OK;
}

static ckpt_status op_empty_dict(ckpt_machine *m, ckpt_error *err) {
  return ckpt_machine_push(m, ckpt_value_make(m->doc, CKPT_DICT, err), err);
}

static ckpt_status op_dict(ckpt_machine *m, ckpt_error *err) {
  ckpt_value **flat = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_machine_pop_mark(&flat, &n, m, err));
  ckpt_value *v = ckpt_value_make(m->doc, CKPT_DICT, err);
  if (v == NULL) return ckpt_machine_push(m, NULL, err);
  CKPT_TRY(add_pairs(m, v, flat, n, err));
  return ckpt_machine_push(m, v, err);
}

static ckpt_status op_setitem(ckpt_machine *m, ckpt_error *err) {
  ckpt_value *pair[2] = {NULL, NULL}, *to = NULL;
  CKPT_TRY(ckpt_machine_pop(&pair[1], m, err));
  CKPT_TRY(ckpt_machine_pop(&pair[0], m, err));
  CKPT_TRY(ckpt_machine_top(&to, m, err));
  return add_pairs(m, to, pair, 2, err);
}

static ckpt_status op_setitems(ckpt_machine *m, ckpt_error *err) {
  ckpt_value **flat = NULL, *to = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_machine_pop_mark(&flat, &n, m, err));
  CKPT_TRY(ckpt_machine_top(&to, m, err));
  return add_pairs(m, to, flat, n, err);
}

/* ---- stack and memo ---- */

static ckpt_status op_pop(ckpt_machine *m, ckpt_error *err) {
  ckpt_value *ignored;
  if (m->n_marks > 0 && m->stack.n == ckpt_machine_floor(m)) {
    m->n_marks--; /* POP takes a mark off as well */
    return CKPT_OK;
  }
  return ckpt_machine_pop(&ignored, m, err);
}

static ckpt_status op_pop_mark(ckpt_machine *m, ckpt_error *err) {
  ckpt_value **items;
  size_t n;
  return ckpt_machine_pop_mark(&items, &n, m, err);
}

static ckpt_status op_dup(ckpt_machine *m, ckpt_error *err) {
  ckpt_value *v = NULL;
  CKPT_TRY(ckpt_machine_top(&v, m, err));
  return ckpt_machine_push(m, v, err);
}

static ckpt_status line_index(uint64_t *out, ckpt_machine *m, ckpt_error *err) {
  const unsigned char *s = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_machine_take_line(&s, &n, m, err));
  uint64_t v = 0;
  bool valid = n > 0 && n <= 18;
  for (size_t i = 0; valid && i < n; i++) {
    valid = s[i] >= '0' && s[i] <= '9';
    v = v * 10 + (uint64_t)(s[i] - '0');
  }
  if (!valid) return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "a memo index that is no number");
  *out = v;
  return CKPT_OK;
}

static ckpt_status step(ckpt_machine *m, ckpt_error *err);

static ckpt_status put(ckpt_machine *m, uint64_t index, ckpt_error *err) {
  bool replaces = m->folded && !m->one_by_one && index < m->memo.n && m->memo.items[index] != NULL;
  if (replaces) CKPT_TRY(ckpt_machine_unfold_all(m, step, err));
  return ckpt_machine_put(m, index, err);
}

static ckpt_status get(ckpt_machine *m, uint64_t index, ckpt_error *err) {
  bool taken;
  if (index < m->memo.n && ckpt_is_folded(m->memo.items[index]))
    CKPT_TRY(ckpt_machine_unfold(m, (size_t)index, step, err));
  CKPT_TRY(ckpt_machine_get(m, index, err));
  bool is_maker = m->stack.items[m->stack.n - 1] == m->maker && m->hooks->call != NULL && !m->one_by_one;
  return is_maker ? ckpt_machine_at(m, m->hooks->call(&taken, m->hooks->context, m, err), err) : CKPT_OK;
}

static ckpt_status put_uint(ckpt_machine *m, size_t bytes, ckpt_error *err) {
  uint64_t index = 0;
  CKPT_TRY(ckpt_machine_take_uint(&index, m, bytes, err));
  return put(m, index, err);
}

static ckpt_status get_uint(ckpt_machine *m, size_t bytes, ckpt_error *err) {
  uint64_t index = 0;
  CKPT_TRY(ckpt_machine_take_uint(&index, m, bytes, err));
  return get(m, index, err);
}

static ckpt_status op_put(ckpt_machine *m, ckpt_error *err) {
  uint64_t index = 0;
  CKPT_TRY(line_index(&index, m, err));
  return put(m, index, err);
}

static ckpt_status op_get(ckpt_machine *m, ckpt_error *err) {
  uint64_t index = 0;
  CKPT_TRY(line_index(&index, m, err));
  return get(m, index, err);
}

static ckpt_status op_binput(ckpt_machine *m, ckpt_error *err) { return put_uint(m, 1, err); }
static ckpt_status op_long_binput(ckpt_machine *m, ckpt_error *err) { return put_uint(m, 4, err); }
static ckpt_status op_binget(ckpt_machine *m, ckpt_error *err) { return get_uint(m, 1, err); }
static ckpt_status op_long_binget(ckpt_machine *m, ckpt_error *err) { return get_uint(m, 4, err); }
static ckpt_status op_memoize(ckpt_machine *m, ckpt_error *err) { return put(m, m->memo_count, err); }

/* ---- objects ---- */

static ckpt_status op_global(ckpt_machine *m, ckpt_error *err) {
  const unsigned char *module = NULL, *name = NULL;
  size_t module_n = 0, name_n = 0;
  CKPT_TRY(ckpt_machine_take_line(&module, &module_n, m, err));
  CKPT_TRY(ckpt_machine_take_line(&name, &name_n, m, err));
  if (!ckpt_utf8_valid(module, module_n) || !ckpt_utf8_valid(name, name_n))
    return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "a name that is not UTF-8");
  return ckpt_machine_push(
      m, ckpt_value_make_class(m->doc, (const char *)module, module_n, (const char *)name, name_n, err), err);
}

static ckpt_status op_stack_global(ckpt_machine *m, ckpt_error *err) {
  ckpt_value *name = NULL, *module = NULL;
  CKPT_TRY(ckpt_machine_pop(&name, m, err));
  CKPT_TRY(ckpt_machine_pop(&module, m, err));
  if (name->kind != CKPT_STR || module->kind != CKPT_STR)
    return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "STACK_GLOBAL without two strings");
  return ckpt_machine_push(m,
                           ckpt_value_make_class(m->doc, module->as.text.bytes, module->as.text.n, name->as.text.bytes,
                                                 name->as.text.n, err),
                           err);
}

/* TorchScript's classes; PyTorch's C++ pickler gives the value of such an enum as it is, not in a tuple. */
static bool takes_bare_argument(const ckpt_value *callable) {
  return callable != NULL && callable->kind == CKPT_CLASS && strncmp(callable->as.text.bytes, "__torch__.", 10) == 0;
}

static ckpt_status check_args(ckpt_value **args, ckpt_machine *m, ckpt_how how, const ckpt_value *callable,
                              ckpt_error *err) {
  if (how == CKPT_BY_PERSID || (*args)->kind == CKPT_TUPLE) return CKPT_OK;
  if (how != CKPT_BY_REDUCE || !takes_bare_argument(callable))
    return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "constructor arguments that are no tuple");
  CKPT_TRY(push_seq(m, CKPT_TUPLE, args, 1, err));
  return ckpt_machine_pop(args, m, err);
}

/* Pushes an OBJECT and lets the format have a look at it. */
static ckpt_status push_object(ckpt_machine *m, ckpt_how how, ckpt_value *callable, ckpt_value *args,
                               ckpt_value *kwargs, ckpt_error *err) {
  if (callable != NULL && callable->kind != CKPT_CLASS && callable->kind != CKPT_OBJECT)
    return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "an object made by something that is no class or function");
  CKPT_TRY(check_args(&args, m, how, callable, err));
  ckpt_value *v = ckpt_value_make_object_in(m->spare, m->doc, how, callable, args, err);
  if (v == NULL) return ckpt_machine_push(m, NULL, err);
  ckpt_object *object = v->as.object;
  m->spare = NULL;
  v->made->kwargs = kwargs;
  ckpt_value *const parts[] = {callable, args, kwargs};
  CKPT_TRY(ckpt_machine_hold_all(m, v, parts, CKPT_COUNTOF(parts), err));
  CKPT_TRY(ckpt_machine_push(m, v, err));
  ckpt_status (*hook)(void *, ckpt_value *, ckpt_error *) = how == CKPT_BY_PERSID ? m->hooks->persid : m->hooks->built;
  if (hook != NULL) CKPT_TRY(ckpt_machine_at(m, hook(m->hooks->context, v, err), err));
  if (v->kind != CKPT_OBJECT) m->spare = object; /* a tensor, say: the next one gets it */
  if (v->kind == CKPT_TENSOR) m->maker = callable;
  return CKPT_OK;
}

static ckpt_status make_object(ckpt_machine *m, ckpt_how how, ckpt_error *err) {
  ckpt_value *args = NULL, *callable = NULL, *kwargs = NULL;
  if (how == CKPT_BY_NEWOBJ_EX) CKPT_TRY(ckpt_machine_pop(&kwargs, m, err));
  CKPT_TRY(ckpt_machine_pop(&args, m, err));
  CKPT_TRY(ckpt_machine_pop(&callable, m, err));
  return push_object(m, how, callable, args, kwargs, err);
}

static ckpt_status op_reduce(ckpt_machine *m, ckpt_error *err) { return make_object(m, CKPT_BY_REDUCE, err); }
static ckpt_status op_newobj(ckpt_machine *m, ckpt_error *err) { return make_object(m, CKPT_BY_NEWOBJ, err); }
static ckpt_status op_newobj_ex(ckpt_machine *m, ckpt_error *err) { return make_object(m, CKPT_BY_NEWOBJ_EX, err); }

/* INST and OBJ, Python 2's old-style instances: class(*items above the mark). */
static ckpt_status op_inst(ckpt_machine *m, ckpt_error *err) {
  ckpt_value *args = NULL, *callable = NULL;
  CKPT_TRY(push_marked(m, CKPT_TUPLE, err));
  CKPT_TRY(op_global(m, err));
  CKPT_TRY(ckpt_machine_pop(&callable, m, err));
  CKPT_TRY(ckpt_machine_pop(&args, m, err));
  return push_object(m, CKPT_BY_REDUCE, callable, args, NULL, err);
}

static ckpt_status op_obj(ckpt_machine *m, ckpt_error *err) {
  ckpt_value **items = NULL, *args = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_machine_pop_mark(&items, &n, m, err));
  if (n == 0) return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "OBJ without a class");
  ckpt_value *callable = items[0];
  CKPT_TRY(push_seq(m, CKPT_TUPLE, items + 1, n - 1, err));
  CKPT_TRY(ckpt_machine_pop(&args, m, err));
  return push_object(m, CKPT_BY_REDUCE, callable, args, NULL, err);
}

static uint64_t bits_of(double d) {
  uint64_t bits;
  memcpy(&bits, &d, sizeof bits);
  return bits;
}

static bool same_seq(const ckpt_seq *a, const ckpt_seq *b, int *budget);

/* Whether two states say the same, as far as so many values can tell. */
static bool same_state(const ckpt_value *a, const ckpt_value *b, int *budget) {
  if (a == b) return true;
  if (--*budget < 0 || a->kind != b->kind || a->made != NULL || b->made != NULL) return false;
  switch (a->kind) {
    case CKPT_INT: return a->as.integer == b->as.integer;
    case CKPT_FLOAT: return bits_of(a->as.number) == bits_of(b->as.number);
    case CKPT_TUPLE: return same_seq(&a->as.seq, &b->as.seq, budget);
    case CKPT_DICT: return same_seq(&a->as.dict->flat, &b->as.dict->flat, budget);
    default: break;
  }
  const char *text = ckpt_value_text(a, NULL);
  return text != NULL && a->as.text.n == b->as.text.n && memcmp(text, b->as.text.bytes, a->as.text.n) == 0;
}

static bool same_seq(const ckpt_seq *a, const ckpt_seq *b, int *budget) {
  bool same = a->n == b->n && a->n < (size_t)*budget;
  for (size_t i = 0; same && i < a->n; i++) same = same_state(a->items[i], b->items[i], budget);
  return same;
}

static ckpt_status state_hook(bool *done, ckpt_machine *m, ckpt_value *to, ckpt_value *state, ckpt_error *err) {
  if (m->hooks->state == NULL) return CKPT_OK;
  return ckpt_machine_at(m, m->hooks->state(done, m->hooks->context, to, state, err), err);
}

/* Python's own pickler (pickle.py) builds an object twice if its arguments lead back to it. */
static ckpt_status op_build(ckpt_machine *m, ckpt_error *err) {
  ckpt_value *state = NULL, *to = NULL;
  bool done = false;
  int budget = 256;
  CKPT_TRY(ckpt_machine_pop(&state, m, err));
  CKPT_TRY(ckpt_machine_top(&to, m, err));
  CKPT_TRY(ckpt_machine_hold(m, to, state, err));
  CKPT_TRY(state_hook(&done, m, to, state, err));
  if (done) return CKPT_OK;
  ckpt_value **at = NULL;
  if (to->kind == CKPT_OBJECT) at = &to->as.object->state;
  if (to->kind == CKPT_DICT && to->ordered) at = &to->as.dict->state;
  if (at == NULL) return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "BUILD on what has no state");
  if (*at != NULL && !same_state(*at, state, &budget))
    return ckpt_machine_fail(m, err, CKPT_E_UNSUPPORTED, "BUILD twice on one object, with two states");
  *at = state;
  return CKPT_OK;
}

static ckpt_status push_persid(ckpt_machine *m, ckpt_value *id, ckpt_error *err) {
  ckpt_value *known = m->hooks->known == NULL ? NULL : m->hooks->known(m->hooks->context, id);
  return known != NULL ? ckpt_machine_push(m, known, err) : push_object(m, CKPT_BY_PERSID, NULL, id, NULL, err);
}

static ckpt_status op_binpersid(ckpt_machine *m, ckpt_error *err) {
  ckpt_value *id = NULL;
  CKPT_TRY(ckpt_machine_pop(&id, m, err));
  return push_persid(m, id, err);
}

static ckpt_status op_persid(ckpt_machine *m, ckpt_error *err) {
  const unsigned char *s = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_machine_take_line(&s, &n, m, err));
  ckpt_value *id = ckpt_pickle_bytestring(m->doc, s, n, err);
  return id == NULL ? ckpt_machine_push(m, NULL, err) : push_persid(m, id, err);
}

/* ---- framing ---- */

static ckpt_status op_proto(ckpt_machine *m, ckpt_error *err) {
  uint64_t version = 0;
  CKPT_TRY(ckpt_machine_take_uint(&version, m, 1, err));
  return version <= 5 ? CKPT_OK : ckpt_machine_fail(m, err, CKPT_E_UNSUPPORTED, "a pickle protocol later than 5");
}

static ckpt_status op_frame(ckpt_machine *m, ckpt_error *err) {
  uint64_t length = 0;
  CKPT_TRY(ckpt_machine_take_uint(&length, m, 8, err));
  if (length > m->size - m->pos) return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "a frame longer than the pickle");
  if (m->op < m->frame_end) return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "a frame inside a frame");
  m->frame_end = m->pos + (size_t)length;
  return CKPT_OK;
}

static ckpt_status op_stop(ckpt_machine *m, ckpt_error *err) {
  (void)err;
  m->stopped = true;
  return CKPT_OK;
}

static ckpt_status op_extension(ckpt_machine *m, ckpt_error *err) {
  return ckpt_machine_fail(m, err, CKPT_E_UNSUPPORTED,
                           "an extension code, whose meaning lies in the program that wrote it");
}

static ckpt_status op_out_of_band(ckpt_machine *m, ckpt_error *err) {
  return ckpt_machine_fail(m, err, CKPT_E_UNSUPPORTED, "an out-of-band buffer, which is not in the file");
}

static const opcode opcodes[256] = {
    ['('] = ckpt_machine_mark,
    ['.'] = op_stop,
    ['0'] = op_pop,
    ['1'] = op_pop_mark,
    ['2'] = op_dup,
    ['F'] = op_float,
    ['I'] = op_int,
    ['J'] = op_binint,
    ['K'] = op_binint1,
    ['L'] = op_long,
    ['M'] = op_binint2,
    ['N'] = op_none,
    ['P'] = op_persid,
    ['Q'] = op_binpersid,
    ['R'] = op_reduce,
    ['S'] = op_string,
    ['T'] = op_binstring,
    ['U'] = op_short_binstring,
    ['V'] = op_unicode,
    ['X'] = op_binunicode,
    ['a'] = op_append,
    ['b'] = op_build,
    ['c'] = op_global,
    ['d'] = op_dict,
    ['}'] = op_empty_dict,
    ['e'] = op_appends,
    ['g'] = op_get,
    ['h'] = op_binget,
    ['i'] = op_inst,
    ['j'] = op_long_binget,
    ['l'] = op_list,
    [']'] = op_empty_list,
    ['o'] = op_obj,
    ['p'] = op_put,
    ['q'] = op_binput,
    ['r'] = op_long_binput,
    ['s'] = op_setitem,
    ['t'] = op_tuple,
    [')'] = op_empty_tuple,
    ['u'] = op_setitems,
    ['G'] = op_binfloat,
    ['B'] = op_binbytes,
    ['C'] = op_short_binbytes,
    [0x80] = op_proto,
    [0x81] = op_newobj,
    [0x82] = op_extension,
    [0x83] = op_extension,
    [0x84] = op_extension,
    [0x85] = op_tuple1,
    [0x86] = op_tuple2,
    [0x87] = op_tuple3,
    [0x88] = op_true,
    [0x89] = op_false,
    [0x8a] = op_long1,
    [0x8b] = op_long4,
    [0x8c] = op_short_binunicode,
    [0x8d] = op_binunicode8,
    [0x8e] = op_binbytes8,
    [0x8f] = op_empty_set,
    [0x90] = op_additems,
    [0x91] = op_frozenset,
    [0x92] = op_newobj_ex,
    [0x93] = op_stack_global,
    [0x94] = op_memoize,
    [0x95] = op_frame,
    [0x96] = op_bytearray8,
    [0x97] = op_out_of_band,
    [0x98] = op_out_of_band,
};

/* Readers that take a frame as a buffer of its own would read other opcodes behind it. */
static ckpt_status straddles(const ckpt_machine *m, ckpt_error *err) {
  return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "an opcode that begins in a frame and ends behind it");
}

/* The next opcode of a call that was read before. */
static ckpt_status step(ckpt_machine *m, ckpt_error *err) {
  m->op = m->pos;
  return opcodes[m->data[m->pos++]](m, err);
}

static ckpt_status run(ckpt_machine *m, ckpt_error *err) {
  while (!m->stopped) {
    m->op = m->pos;
    if (++m->opcodes > m->limits.opcodes)
      return ckpt_fail(err, CKPT_E_LIMIT, (int64_t)m->op, "%s+0x%zx: more than %zu opcodes", m->name, m->op,
                       m->limits.opcodes);
    if (m->pos == m->size) return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "the pickle ends without STOP");
    unsigned char code = m->data[m->pos++];
    if (opcodes[code] == NULL)
      return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)m->op, "%s+0x%zx: 0x%02x is no pickle opcode", m->name, m->op,
                       code);
    CKPT_TRY(opcodes[code](m, err));
    if (m->op < m->frame_end && m->pos > m->frame_end) return straddles(m, err);
  }
  return CKPT_OK;
}

static ckpt_status finish(ckpt_value **out, ckpt_machine *m, ckpt_error *err) {
  CKPT_TRY(ckpt_machine_pop(out, m, err));
  for (size_t i = 0; i < m->dicts.n; i++)
    CKPT_TRY(ckpt_machine_at(m, ckpt_dict_settle(m->dicts.items[i], m->doc, err), err));
  return ckpt_machine_check_depth(m, *out, err);
}

ckpt_status ckpt_pickle_read_at(ckpt_value **out, size_t *end, ckpt_document *doc, const unsigned char *data,
                                size_t start, size_t size, const char *name, const ckpt_pickle_hooks *hooks,
                                ckpt_error *err) {
  static const ckpt_pickle_hooks none = {0};
  ckpt_error here = {0};
  ckpt_machine *m = calloc(1, sizeof *m);
  if (m == NULL) return ckpt_fail_nomem(err, sizeof *m);
  *m = (ckpt_machine){.doc = doc, .data = data, .start = start, .size = size, .pos = start};
  m->name = name;
  m->hooks = hooks == NULL ? &none : hooks;
  ckpt_machine_limit(m);
  ckpt_value *root = NULL;
  ckpt_status st = run(m, &here);
  if (st == CKPT_OK) st = finish(&root, m, &here);
  if (st == CKPT_OK) {
    *out = root;
    if (end != NULL) *end = m->pos;
  } else if (err != NULL) {
    *err = here;
  }
  ckpt_machine_free(m);
  return st;
}

ckpt_status ckpt_pickle_read(ckpt_value **out, size_t *used, ckpt_document *doc, const unsigned char *data, size_t size,
                             const char *name, const ckpt_pickle_hooks *hooks, ckpt_error *err) {
  return ckpt_pickle_read_at(out, used, doc, data, 0, size, name, hooks, err);
}
