/* pickle_machine.c - see pickle_machine.h. */
#include "pickle_machine.h"

#include <stdlib.h>

#include "depth.h"

/* ---- errors ---- */

ckpt_status ckpt_machine_fail(const ckpt_machine *m, ckpt_error *err, ckpt_status status, const char *what) {
  return ckpt_fail(err, status, (int64_t)m->op, "%s+0x%zx: %s", m->name, m->op, what);
}

/* Puts the position before what a builder said. */
ckpt_status ckpt_machine_at(const ckpt_machine *m, ckpt_status status, ckpt_error *err) {
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

static ckpt_status too_deep(const ckpt_machine *m, ckpt_error *err) {
  return ckpt_fail(err, CKPT_E_LIMIT, (int64_t)m->op, "%s+0x%zx: values lie more than %zu levels deep in one another",
                   m->name, m->op, m->limits.depth);
}

/* ---- vectors, stack, marks ---- */

ckpt_status ckpt_vector_grow(ckpt_vector *v, size_t need, ckpt_error *err) {
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

ckpt_status ckpt_machine_keep(ckpt_vector *v, void *item, ckpt_error *err) {
  CKPT_TRY(ckpt_vector_grow(v, v->n + 1, err));
  v->items[v->n++] = item;
  return CKPT_OK;
}

/*
 * Without a mark, no pickler has more than three values of one level on the stack (an object, a key, an item): what
 * grows beyond is too deep, and is told so before it takes memory.
 */
static bool is_pile(const ckpt_machine *m) {
  return m->n_marks == 0 && m->stack.n == m->stack.capacity && m->stack.n / 4 > m->limits.depth;
}

/* Pushes a value that a builder made; NULL is the builder's failure. */
ckpt_status ckpt_machine_push_slowly(ckpt_machine *m, ckpt_value *v, ckpt_error *err) {
  if (v == NULL) return ckpt_machine_at(m, err == NULL ? CKPT_E_CORRUPT : err->status, err);
  if (is_pile(m)) return too_deep(m, err);
  return ckpt_machine_keep(&m->stack, v, err);
}

size_t ckpt_machine_floor(const ckpt_machine *m) { return m->n_marks == 0 ? 0 : m->marks[m->n_marks - 1]; }

ckpt_status ckpt_machine_pop(ckpt_value **out, ckpt_machine *m, ckpt_error *err) {
  if (m->stack.n <= ckpt_machine_floor(m))
    return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "the stack is empty where a value is needed");
  *out = m->stack.items[--m->stack.n];
  return CKPT_OK;
}

ckpt_status ckpt_machine_top(ckpt_value **out, ckpt_machine *m, ckpt_error *err) {
  CKPT_TRY(ckpt_machine_pop(out, m, err));
  m->stack.n++;
  return CKPT_OK;
}

/* Takes off what lies above the last mark; the items stay readable until the next push. */
ckpt_status ckpt_machine_pop_mark(ckpt_value ***items, size_t *n, ckpt_machine *m, ckpt_error *err) {
  if (m->n_marks == 0) return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "there is no mark on the stack");
  size_t height = m->marks[--m->n_marks];
  *items = m->stack.items == NULL ? NULL : (ckpt_value **)m->stack.items + height; /* NULL + 0 is undefined */
  *n = m->stack.n - height;
  m->stack.n = height;
  return CKPT_OK;
}

/* ---- arguments ---- */

ckpt_status ckpt_machine_cut_off(const ckpt_machine *m, uint64_t n, ckpt_error *err) {
  return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)m->op,
                   "%s+0x%zx: an argument of %llu bytes where only %zu remain: the pickle is cut off or corrupt",
                   m->name, m->op, (unsigned long long)n, m->size - m->pos);
}

/* A length and that many bytes. */
ckpt_status ckpt_machine_take_counted(const unsigned char **out, size_t *n, ckpt_machine *m, size_t length_bytes,
                                      ckpt_error *err) {
  uint64_t length = 0;
  CKPT_TRY(ckpt_machine_take_uint(&length, m, length_bytes, err));
  CKPT_TRY(ckpt_machine_take(out, m, length, err));
  *n = (size_t)length;
  return CKPT_OK;
}

ckpt_status ckpt_machine_take_line(const unsigned char **out, size_t *n, ckpt_machine *m, ckpt_error *err) {
  const unsigned char *start = m->data + m->pos, *end = memchr(start, '\n', m->size - m->pos);
  if (end == NULL)
    return ckpt_machine_fail(m, err, CKPT_E_CORRUPT, "a line without its end: the pickle is cut off or corrupt");
  *out = start;
  *n = (size_t)(end - start);
  m->pos += *n + 1;
  return CKPT_OK;
}

ckpt_status ckpt_machine_mark(ckpt_machine *m, ckpt_error *err) {
  if (m->n_marks >= m->limits.depth) return too_deep(m, err); /* each is a container that is not yet whole */
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

/* ---- memo ---- */

/* Picklers number from 0, so an index beyond the pickle's own size is hostile: it would cost memory out of proportion.
 */
ckpt_status ckpt_machine_put(ckpt_machine *m, uint64_t index, ckpt_error *err) {
  ckpt_value *v = NULL;
  CKPT_TRY(ckpt_machine_top(&v, m, err));
  if (index >= m->size - m->start)
    return ckpt_fail(err, CKPT_E_LIMIT, (int64_t)m->op, "%s+0x%zx: memo index %llu in a pickle of %zu bytes", m->name,
                     m->op, (unsigned long long)index, m->size - m->start);
  if (m->memo_count >= m->limits.memo)
    return ckpt_fail(err, CKPT_E_LIMIT, (int64_t)m->op, "%s+0x%zx: more than %zu entries in the memo", m->name, m->op,
                     m->limits.memo);
  if (index >= m->memo.capacity) CKPT_TRY(ckpt_vector_grow(&m->memo, (size_t)index + 1, err));
  if (m->memo.n <= index) m->memo.n = (size_t)index + 1;
  if (m->memo.items[index] == NULL) m->memo_count++;
  m->memo.items[index] = v;
  return CKPT_OK;
}

ckpt_status ckpt_machine_get(ckpt_machine *m, uint64_t index, ckpt_error *err) {
  ckpt_value *v = index < m->memo.n ? m->memo.items[index] : NULL;
  if (v == NULL)
    return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)m->op, "%s+0x%zx: memo entry %llu was never stored", m->name, m->op,
                     (unsigned long long)index);
  v->recalled = true;
  return ckpt_machine_push(m, v, err);
}

/* ---- limits ---- */

enum { ANY_DEPTH = UINT16_MAX }; /* what heights can count to */

void ckpt_machine_limit(ckpt_machine *m) {
  const ckpt_limits *given = ckpt_document_limits(m->doc);
  m->limits = (ckpt_limits){SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX};
  if (given != NULL) m->limits = *given;
  if (m->limits.depth >= ANY_DEPTH) m->limits.depth = SIZE_MAX;
}

ckpt_status ckpt_machine_hold(ckpt_machine *m, ckpt_value *to, ckpt_value *item, ckpt_error *err) {
  if (item == NULL) return CKPT_OK;
  item->held = true;
  m->loose |= to->held; /* so are all cycles: from then on heights are no bounds at all */
  if (item->height < to->height) return CKPT_OK;
  if (item->height >= m->limits.depth && !m->loose) return too_deep(m, err);
  if (item->height < ANY_DEPTH) to->height = (uint16_t)(item->height + 1);
  return CKPT_OK;
}

ckpt_status ckpt_machine_hold_all(ckpt_machine *m, ckpt_value *to, ckpt_value *const *items, size_t n,
                                  ckpt_error *err) {
  for (size_t i = 0; i < n; i++) CKPT_TRY(ckpt_machine_hold(m, to, items[i], err));
  return CKPT_OK;
}

ckpt_status ckpt_machine_check_depth(const ckpt_machine *m, const ckpt_value *root, ckpt_error *err) {
  bool deeper = false;
  if (!m->loose || m->limits.depth == SIZE_MAX) return CKPT_OK;
  CKPT_TRY(ckpt_value_deeper(&deeper, root, m->limits.depth, err));
  return deeper ? too_deep(m, err) : CKPT_OK;
}

void ckpt_machine_free(ckpt_machine *m) {
  if (m == NULL) return;
  free(m->stack.items);
  free(m->dicts.items);
  free(m->memo.items);
  free(m->marks);
  free(m);
}
