/*
 * torch_plain.c - see torch_plain.h. The call, in pickle opcodes (h: from the memo, q: into the memo, K: an integer):
 *
 *   h function ( ( h 'storage' h class X key q h location K numel t q Q K offset
 *                  ) | K size \x85 q | K K \x86 q | K K K \x87 q | ( K... t q      and the strides likewise
 *                  \x88 | \x89 h OrderedDict ) R q t q R q
 *
 * All of what it puts into the memo is new there, and the numbers follow one another, as all picklers count.
 */
#include "torch_plain.h"

#include "pickle_fold.h"

enum { TENSOR_HEIGHT = 4 /* levels of values below a tensor: arguments, storage, its id, a string */ };

typedef struct scan {
  const ckpt_machine *m;
  const unsigned char *at, *end;
  size_t puts, opcodes;
} scan;

typedef struct call {
  ckpt_wording wording;
  const ckpt_value *ordered;
  char key[32];
  int64_t numel, offset, shape[CKPT_MAX_DIMS], stride[CKPT_MAX_DIMS];
  int ndim;
  bool grad;
} call;

/* ---- opcodes; each gives false where the pickle says something else ---- */

static bool next(scan *s, unsigned char code) {
  s->opcodes++;
  return s->at < s->end && *s->at++ == code;
}

static bool has(const scan *s, size_t n) { return (size_t)(s->end - s->at) >= n; }

/* The argument of an opcode that has a form of one byte and one of four. */
static bool index_of(size_t *out, scan *s, unsigned char narrow, unsigned char wide) {
  const unsigned char *p = s->at;
  s->opcodes++;
  if (has(s, 2) && *p == narrow) {
    *out = p[1];
    s->at += 2;
    return true;
  }
  if (!has(s, 5) || *p != wide) return false;
  *out = ckpt_le32(p + 1);
  s->at += 5;
  return true;
}

static bool get(ckpt_value **out, scan *s) {
  size_t i = 0;
  if (!index_of(&i, s, 'h', 'j') || i >= s->m->memo.n) return false;
  *out = s->m->memo.items[i];
  return *out != NULL && !ckpt_is_folded(*out);
}

static bool put(scan *s) {
  size_t i = 0;
  return index_of(&i, s, 'q', 'r') && i == s->m->memo.n + s->puts++;
}

static bool integer(int64_t *out, scan *s) {
  s->opcodes++;
  if (!has(s, 5)) return false; /* more than that is left of a call behind its last integer */
  const unsigned char *p = s->at;
  switch (p[0]) {
    case 'K':
      *out = p[1];
      s->at += 2;
      return true;
    case 'M':
      *out = ckpt_le16(p + 1);
      s->at += 3;
      return true;
    case 'J':
      *out = (int32_t)ckpt_le32(p + 1);
      s->at += 5;
      return true;
    default: return false; /* 2^31 elements: so rare that the machine may do it */
  }
}

static bool is_integer(const scan *s) { return s->at < s->end && (*s->at == 'K' || *s->at == 'M' || *s->at == 'J'); }

static bool key(call *c, scan *s) {
  size_t n = 0;
  s->opcodes++;
  if (!has(s, 5) || s->at[0] != 'X' || (n = ckpt_le32(s->at + 1)) >= sizeof c->key || !has(s, 5 + n)) return false;
  memcpy(c->key, s->at + 5, n);
  c->key[n] = '\0';
  s->at += 5 + n;
  for (size_t i = 0; i < n; i++)
    if (c->key[i] < '0' || c->key[i] > '9') return false;
  return put(s);
}

/* A tuple of integers. */
static bool dims(int *n, int64_t *out, scan *s) {
  static const unsigned char ends[] = {')', 0x85, 0x86, 0x87};
  bool marked = s->at < s->end && *s->at == '(';
  if (marked) next(s, '(');
  for (*n = 0; is_integer(s); ++*n)
    if (*n == CKPT_MAX_DIMS || !integer(&out[*n], s)) return false;
  if (!marked && *n > 3) return false;
  return next(s, marked ? 't' : ends[*n]) && (*n == 0 ? !marked : put(s));
}

static bool boolean(bool *out, scan *s) {
  s->opcodes++;
  if (s->at == s->end || (*s->at != 0x88 && *s->at != 0x89)) return false;
  *out = *s->at++ == 0x88;
  return true;
}

/* ---- the call ---- */

static bool scan_storage(call *c, scan *s) {
  return next(s, '(') && get(&c->wording.tag, s) && get(&c->wording.storage_class, s) && key(c, s) &&
         get(&c->wording.location, s) && integer(&c->numel, s) && next(s, 't') && put(s) && next(s, 'Q');
}

static bool scan_view(call *c, scan *s) {
  int n = 0;
  return integer(&c->offset, s) && dims(&c->ndim, c->shape, s) && dims(&n, c->stride, s) && n == c->ndim &&
         boolean(&c->grad, s);
}

static bool scan_call(call *c, scan *s) {
  ckpt_value *ordered = NULL;
  bool all = next(s, '(') && scan_storage(c, s) && scan_view(c, s) && get(&ordered, s) && next(s, ')') &&
             next(s, 'R') && put(s) && next(s, 't') && put(s) && next(s, 'R') && put(s);
  c->ordered = ordered;
  return all;
}

/* Whether the opcodes one by one would have met no limit, and end in the frame that they begin in. */
static bool is_within_limits(const scan *s) {
  const ckpt_machine *m = s->m;
  size_t memo = m->memo.n + s->puts, end = (size_t)(s->at - m->data);
  return memo <= m->size - m->start && m->memo_count + s->puts <= m->limits.memo &&
         s->opcodes <= m->limits.opcodes - m->opcodes && m->n_marks + 2 + TENSOR_HEIGHT < m->limits.depth &&
         (m->op >= m->frame_end || end <= m->frame_end);
}

/* ---- what its words mean ---- */

static bool is_function(ckpt_torch_plain *plain, const ckpt_value *v) {
  if (v == plain->function) return true;
  if (!ckpt_value_is_class(v, "torch._utils", "_rebuild_tensor_v2")) return false;
  plain->function = v;
  return true;
}

static bool is_ordered(ckpt_torch_plain *plain, const ckpt_value *v) {
  if (v == plain->ordered) return true;
  if (!ckpt_value_is_class(v, "collections", "OrderedDict")) return false;
  plain->ordered = v;
  return true;
}

static bool same_wording(const ckpt_wording *a, const ckpt_wording *b) {
  return a != NULL && a->storage_class == b->storage_class && a->tag == b->tag && a->location == b->location;
}

/* The dtype that a wording means, if it is such a one. */
static bool means(ckpt_dtype *out, const ckpt_wording *w) {
  size_t n = 0;
  if (w->tag->kind != CKPT_STR || w->tag->as.text.n != 7 || memcmp(w->tag->as.text.bytes, "storage", 7) != 0)
    return false;
  if (w->storage_class->kind != CKPT_CLASS || w->location->kind != CKPT_STR) return false;
  const char *name = ckpt_value_class_name(w->storage_class, &n);
  return ckpt_dtype_of_storage_class(out, name, n) == CKPT_OK && ckpt_dtype_rebuild(*out) == CKPT_REBUILD_V2;
}

/* What the machine notes of each value that is fetched from the memo. */
static void note_recalled(const ckpt_wording *w) {
  w->tag->recalled = w->storage_class->recalled = w->location->recalled = true;
}

/* SIZE_MAX: the words are not the usual ones; *err has it if there was no memory. */
static size_t wording_of(ckpt_torch_plain *plain, const ckpt_wording *w, ckpt_document *doc, ckpt_error *err) {
  ckpt_dtype dtype = CKPT_U8;
  for (size_t i = 0; i < CKPT_WORDINGS; i++)
    if (same_wording(plain->wordings[i], w)) return i;
  if (!means(&dtype, w)) return SIZE_MAX;
  ckpt_wording *copy = ckpt_arena_alloc(ckpt_document_arena(doc), sizeof *copy, err);
  if (copy == NULL) return SIZE_MAX;
  size_t at = plain->next++ % CKPT_WORDINGS;
  *copy = *w;
  note_recalled(copy);
  plain->wordings[at] = copy;
  plain->dtypes[at] = dtype;
  return at;
}

/* ---- the tensor ---- */

static ckpt_status make_tensor(ckpt_tensor **out, const call *c, ckpt_dtype dtype, ckpt_torch_storages *storages,
                               ckpt_error *err) {
  ckpt_storage *s = NULL;
  uint64_t bytes;
  if (c->numel < 0 || __builtin_mul_overflow((uint64_t)c->numel, (uint64_t)ckpt_dtype_size(dtype), &bytes))
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "no count");
  CKPT_TRY(ckpt_torch_storages_get(&s, storages, c->key, bytes, ckpt_dtype_swap_unit(dtype), err));
  ckpt_tensor_spec spec = {.dtype = dtype,
                           .ndim = c->ndim,
                           .shape = c->shape,
                           .stride = c->stride,
                           .offset = c->offset,
                           .requires_grad = c->grad};
  return ckpt_tensor_make(out, s, &spec, err);
}

static ckpt_status make_value(ckpt_value **out, const call *c, ckpt_torch_plain *plain, ckpt_torch_storages *storages,
                              ckpt_error *err) {
  ckpt_tensor *t = NULL;
  size_t wording = wording_of(plain, &c->wording, storages->doc, err);
  if (wording == SIZE_MAX) return err->status != CKPT_OK ? err->status : CKPT_E_CORRUPT;
  CKPT_TRY(make_tensor(&t, c, plain->dtypes[wording], storages, err));
  CKPT_TRY(ckpt_document_own_tensor(storages->doc, t, err));
  ckpt_value *v = ckpt_value_make(storages->doc, CKPT_TENSOR, err);
  if (v == NULL) return err->status;
  v->as.tensor = t;
  v->as.said = plain->wordings[wording];
  v->height = TENSOR_HEIGHT;
  *out = v;
  return ckpt_document_note_tensor(storages->doc, v, err);
}

ckpt_status ckpt_torch_plain_take(bool *taken, ckpt_torch_plain *plain, ckpt_machine *m, ckpt_torch_storages *storages,
                                  ckpt_error *err) {
  call c;
  ckpt_value *v = NULL;
  ckpt_error here = {0};
  scan s = {.m = m, .at = m->data + m->pos, .end = m->data + m->size};
  *taken = false;
  if (!is_function(plain, m->stack.items[m->stack.n - 1]) || !scan_call(&c, &s) || !is_within_limits(&s) ||
      !is_ordered(plain, c.ordered))
    return CKPT_OK;
  ckpt_status st = make_value(&v, &c, plain, storages, &here);
  if (st == CKPT_OK) st = ckpt_machine_fold(m, v, s.puts, &here);
  if (st == CKPT_E_NOMEM && err != NULL) *err = here;
  if (st != CKPT_OK) return st == CKPT_E_NOMEM ? st : CKPT_OK; /* the machine says what is wrong */
  m->stack.items[m->stack.n - 1] = v;
  m->pos = (size_t)(s.at - m->data);
  m->opcodes += s.opcodes;
  *taken = true;
  return CKPT_OK;
}
