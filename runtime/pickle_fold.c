/* pickle_fold.c - see pickle_fold.h. */
#include "pickle_fold.h"

static void *mark_of(size_t start) { return (void *)(uintptr_t)(2 * start + 1); }
static size_t start_of(const void *mark) { return (uintptr_t)mark >> 1; }

ckpt_status ckpt_machine_fold(ckpt_machine *m, ckpt_value *v, size_t n, ckpt_error *err) {
  size_t first = m->memo.n;
  CKPT_TRY(ckpt_vector_grow(&m->memo, first + n, err));
  for (size_t i = 0; i + 1 < n; i++) m->memo.items[first + i] = mark_of(m->op);
  m->memo.items[first + n - 1] = v;
  m->memo.n += n;
  m->memo_count += n;
  m->folded = true;
  return CKPT_OK;
}

/* Up to the call's own REDUCE: the one behind which no mark of the call's is left. */
static ckpt_status replay(ckpt_machine *m, ckpt_status (*step)(ckpt_machine *m, ckpt_error *err), ckpt_error *err) {
  size_t marks = m->n_marks;
  do CKPT_TRY(step(m, err));
  while (m->n_marks > marks || m->data[m->op] != 'R');
  return CKPT_OK;
}

/* The value that the call gave, from the PUT that follows it; and how it was made, from the value on the stack. */
static void join(ckpt_machine *m) {
  const unsigned char *put = m->data + m->pos;
  ckpt_value *again = m->stack.items[--m->stack.n];
  ckpt_value *v = m->memo.items[put[0] == 'q' ? put[1] : ckpt_le32(put + 1)];
  v->made = again->made;
  v->as.said = NULL;
}

/* All limits were met when the call was taken; only the memory is new. */
ckpt_status ckpt_machine_unfold(ckpt_machine *m, size_t index, ckpt_status (*step)(ckpt_machine *m, ckpt_error *err),
                                ckpt_error *err) {
  const ckpt_limits limits = m->limits;
  size_t pos = m->pos, op = m->op;
  bool one_by_one = m->one_by_one;
  m->limits = (ckpt_limits){SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX};
  m->one_by_one = true;
  m->pos = start_of(m->memo.items[index]);
  CKPT_TRY(replay(m, step, err));
  join(m);
  m->one_by_one = one_by_one;
  m->limits = limits;
  m->pos = pos;
  m->op = op;
  return CKPT_OK;
}

ckpt_status ckpt_machine_unfold_all(ckpt_machine *m, ckpt_status (*step)(ckpt_machine *m, ckpt_error *err),
                                    ckpt_error *err) {
  m->one_by_one = true;
  m->folded = false;
  for (size_t i = 0; i < m->memo.n; i++)
    if (ckpt_is_folded(m->memo.items[i])) CKPT_TRY(ckpt_machine_unfold(m, i, step, err));
  return CKPT_OK;
}
