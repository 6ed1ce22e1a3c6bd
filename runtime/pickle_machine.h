/*
 * pickle_machine.h - what the pickle opcodes work on: value stack, mark stack, memo, and the bytes of their arguments.
 *
 * Every length is compared with the bytes that remain before it is believed. `err` is never NULL in here.
 */
#ifndef CKPT_PICKLE_MACHINE_H
#define CKPT_PICKLE_MACHINE_H

#include "pickle_read.h"

typedef struct ckpt_vector {
  void **items;
  size_t n, capacity;
} ckpt_vector;

typedef struct ckpt_machine {
  ckpt_document *doc;
  const unsigned char *data;
  size_t start, size, pos, op; /* data[start..size) is the pickle; op: where the current opcode lies */
  const char *name;
  const ckpt_pickle_hooks *hooks;
  ckpt_vector stack; /* ckpt_value * */
  ckpt_vector dicts; /* ckpt_dict *, to be settled at the end */
  ckpt_vector memo;  /* ckpt_value *, NULL for a hole */
  size_t memo_count;
  size_t *marks; /* heights of the stack */
  size_t n_marks, mark_capacity;
  ckpt_value *small[256]; /* integers 0..255 have no identity */
  ckpt_object *spare;     /* memory for the next object, or NULL */
  bool stopped;
  ckpt_limits limits; /* SIZE_MAX: none */
  size_t opcodes;
  size_t frame_end;        /* of the frame that op lies in; 0 before the first */
  bool loose;              /* a value was filled after it had become part of another: heights say nothing */
  const ckpt_value *maker; /* what made a tensor last: its next call may be one to take whole */
  bool folded;             /* calls were taken whole (pickle_fold.h); their marks may be in the memo */
  bool one_by_one;         /* none is taken whole any more, or for now */
} ckpt_machine;

/* fail and at put "name+0xoffset: " before a message; push takes NULL as the failure of the builder that gave it. */
ckpt_status ckpt_machine_fail(const ckpt_machine *m, ckpt_error *err, ckpt_status status, const char *what);
ckpt_status ckpt_machine_at(const ckpt_machine *m, ckpt_status status, ckpt_error *err);
ckpt_status ckpt_vector_grow(ckpt_vector *v, size_t need, ckpt_error *err);
ckpt_status ckpt_machine_keep(ckpt_vector *v, void *item, ckpt_error *err);
ckpt_status ckpt_machine_push_slowly(ckpt_machine *m, ckpt_value *v, ckpt_error *err);
size_t ckpt_machine_floor(const ckpt_machine *m);
ckpt_status ckpt_machine_pop(ckpt_value **out, ckpt_machine *m, ckpt_error *err);
ckpt_status ckpt_machine_top(ckpt_value **out, ckpt_machine *m, ckpt_error *err);
ckpt_status ckpt_machine_pop_mark(ckpt_value ***items, size_t *n, ckpt_machine *m, ckpt_error *err);
ckpt_status ckpt_machine_take_counted(const unsigned char **out, size_t *n, ckpt_machine *m, size_t length_bytes,
                                      ckpt_error *err);
ckpt_status ckpt_machine_take_line(const unsigned char **out, size_t *n, ckpt_machine *m, ckpt_error *err);
ckpt_status ckpt_machine_mark(ckpt_machine *m, ckpt_error *err);
ckpt_status ckpt_machine_put(ckpt_machine *m, uint64_t index, ckpt_error *err);
ckpt_status ckpt_machine_get(ckpt_machine *m, uint64_t index, ckpt_error *err);

/* Fetches the limits of the document. */
void ckpt_machine_limit(ckpt_machine *m);

/* `item` (may be NULL) becomes a part of `to`; all: n of them do. CKPT_E_LIMIT if that makes it too deep. */
ckpt_status ckpt_machine_hold(ckpt_machine *m, ckpt_value *to, ckpt_value *item, ckpt_error *err);
ckpt_status ckpt_machine_hold_all(ckpt_machine *m, ckpt_value *to, ckpt_value *const *items, size_t n, ckpt_error *err);

/* CKPT_E_LIMIT where heights did not tell how deep `root` is, and it is too deep. */
ckpt_status ckpt_machine_check_depth(const ckpt_machine *m, const ckpt_value *root, ckpt_error *err);

/* What is said of an argument of n bytes that the pickle does not have. */
ckpt_status ckpt_machine_cut_off(const ckpt_machine *m, uint64_t n, ckpt_error *err);

static inline ckpt_status ckpt_machine_take(const unsigned char **out, ckpt_machine *m, uint64_t n, ckpt_error *err) {
  if (n > m->size - m->pos) return ckpt_machine_cut_off(m, n, err);
  *out = m->data + m->pos;
  m->pos += (size_t)n;
  return CKPT_OK;
}

/* A little-endian unsigned argument of 1, 2, 4 or 8 bytes. */
static inline ckpt_status ckpt_machine_take_uint(uint64_t *out, ckpt_machine *m, size_t bytes, ckpt_error *err) {
  const unsigned char *p = NULL;
  CKPT_TRY(ckpt_machine_take(&p, m, bytes, err));
  switch (bytes) {
    case 1: *out = p[0]; break;
    case 2: *out = ckpt_le16(p); break;
    case 4: *out = ckpt_le32(p); break;
    default: *out = ckpt_le64(p);
  }
  return CKPT_OK;
}

static inline ckpt_status ckpt_machine_push(ckpt_machine *m, ckpt_value *v, ckpt_error *err) {
  if (v == NULL || m->stack.n == m->stack.capacity) return ckpt_machine_push_slowly(m, v, err);
  m->stack.items[m->stack.n++] = v;
  return CKPT_OK;
}

void ckpt_machine_free(ckpt_machine *m);

#endif
