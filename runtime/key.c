/* key.c - see key.h. Both walks keep their place in an array of fixed size. */
#include "key.h"

#include "bigint.h"
#include "hash.h"

enum { MAX_STEPS = 1 << 16, MAX_HASHED = 64 };

/* ---- numbers ---- */

static bool is_number(const ckpt_value *v) {
  return v->kind == CKPT_INT || v->kind == CKPT_FLOAT || v->kind == CKPT_BOOLEAN || v->kind == CKPT_BIGINT;
}

/* The number as a double; *exact is false where the double stands for another number too. */
static double as_double(bool *exact, const ckpt_value *v) {
  double d = 0;
  *exact = true;
  switch (v->kind) {
    case CKPT_FLOAT: return v->as.number;
    case CKPT_BOOLEAN: return (double)v->as.boolean;
    case CKPT_INT:
      d = (double)v->as.integer;
      *exact = d < 9223372036854775808.0 && (int64_t)d == v->as.integer;
      return d;
    default: *exact = ckpt_bigint_double(&d, v); return d;
  }
}

static bool numbers_equal(const ckpt_value *a, const ckpt_value *b) {
  bool exact_a, exact_b;
  if (a->kind == CKPT_INT && b->kind == CKPT_INT) return a->as.integer == b->as.integer;
  if (a->kind == CKPT_BIGINT && b->kind == CKPT_BIGINT)
    return a->as.text.n == b->as.text.n && memcmp(a->as.text.bytes, b->as.text.bytes, a->as.text.n) == 0;
  double x = as_double(&exact_a, a), y = as_double(&exact_b, b);
  return exact_a && exact_b && x == y;
}

/* ---- atoms ---- */

bool ckpt_atom_equal(const ckpt_value *a, const ckpt_value *b) {
  if (is_number(a) && is_number(b)) return numbers_equal(a, b);
  if (a->kind != b->kind) return false;
  if (a->kind == CKPT_NONE) return true;
  const char *text = ckpt_value_text(a, NULL);
  return text != NULL && a->as.text.n == b->as.text.n && memcmp(text, b->as.text.bytes, a->as.text.n) == 0;
}

static uint64_t hash_number(const ckpt_value *v) {
  bool exact;
  double d = as_double(&exact, v) + 0.0; /* -0.0 equals 0.0 */
  if (exact) return ckpt_hash_bytes(&d, sizeof d);
  return v->kind == CKPT_INT ? ckpt_hash_bytes(&v->as.integer, 8) : ckpt_hash_bytes(v->as.text.bytes, v->as.text.n);
}

/* ---- parts ---- */

/* complex, torch.device and their like: what the constructor was given is all there is. */
static bool is_value_object(const ckpt_value *v) {
  return v->kind == CKPT_OBJECT && !ckpt_value_is_opaque(v) && v->made->how == CKPT_BY_REDUCE &&
         v->made->callable != NULL && v->made->args != NULL && v->as.object->state == NULL &&
         v->as.object->items.n + v->as.object->dict.flat.n == 0;
}

static size_t part_count(const ckpt_value *v) {
  if (v->kind == CKPT_TUPLE) return v->as.seq.n;
  return is_value_object(v) ? 2 : 0;
}

static const ckpt_value *part(const ckpt_value *v, size_t i) {
  if (v->kind == CKPT_TUPLE) return v->as.seq.items[i];
  return i == 0 ? v->made->callable : v->made->args;
}

static bool has_parts(const ckpt_value *v) { return v->kind == CKPT_TUPLE || is_value_object(v); }

/* ---- equality ---- */

static bool contains_atom(const ckpt_seq *items, const ckpt_value *v) {
  for (size_t i = 0; i < items->n; i++)
    if (items->items[i] == v || ckpt_atom_equal(items->items[i], v)) return true;
  return false;
}

static bool frozensets_equal(size_t *steps, const ckpt_seq *a, const ckpt_seq *b) {
  if (a->n != b->n || a->n > MAX_STEPS || (*steps += a->n * a->n) > MAX_STEPS) return false;
  for (size_t i = 0; i < a->n; i++)
    if (!contains_atom(b, a->items[i])) return false;
  return true;
}

typedef struct frame {
  const ckpt_value *a, *b;
  size_t next;
} frame;

typedef enum verdict { EQUAL, DIFFERENT, LOOK_INSIDE } verdict;

static verdict compare(size_t *steps, const ckpt_value *a, const ckpt_value *b) {
  if (a == b || ckpt_atom_equal(a, b)) return EQUAL;
  if (a->kind != b->kind || ++*steps > MAX_STEPS) return DIFFERENT;
  if (a->kind == CKPT_FROZENSET) return frozensets_equal(steps, &a->as.seq, &b->as.seq) ? EQUAL : DIFFERENT;
  return has_parts(a) && has_parts(b) && part_count(a) == part_count(b) ? LOOK_INSIDE : DIFFERENT;
}

static bool parts_equal(size_t steps, const ckpt_value *a, const ckpt_value *b) {
  frame frames[CKPT_KEY_DEPTH];
  size_t n = 1;
  frames[0] = (frame){a, b, 0};
  while (n > 0) {
    frame *f = &frames[n - 1];
    if (f->next == part_count(f->a)) {
      n--;
      continue;
    }
    const ckpt_value *x = part(f->a, f->next), *y = part(f->b, f->next);
    f->next++;
    verdict said = compare(&steps, x, y);
    if (said == DIFFERENT || (said == LOOK_INSIDE && n == CKPT_KEY_DEPTH)) return false;
    if (said == LOOK_INSIDE) frames[n++] = (frame){x, y, 0};
  }
  return true;
}

bool ckpt_key_equal(const ckpt_value *a, const ckpt_value *b) {
  size_t steps = 0;
  verdict said = compare(&steps, a, b);
  return said == LOOK_INSIDE ? parts_equal(steps, a, b) : said == EQUAL;
}

/* ---- hash ---- */

static uint64_t hash_flat(const ckpt_value *v) {
  size_t n = 0;
  if (is_number(v)) return hash_number(v);
  const char *text = ckpt_value_text(v, &n);
  if (text != NULL) return ckpt_hash_bytes(text, n);
  if (v->kind == CKPT_NONE) return 0x9e3779b97f4a7c15u;
  if (v->kind == CKPT_FROZENSET) return ckpt_hash_bytes(&v->as.seq.n, sizeof v->as.seq.n);
  if (has_parts(v)) return part_count(v) * 0xff51afd7ed558ccdu;
  return (uint64_t)(uintptr_t)v * 0x9e3779b97f4a7c15u >> 24;
}

/* The first MAX_HASHED parts in a fixed order; those of equal keys are equal. */
static uint64_t hash_parts(const ckpt_value *v) {
  const ckpt_value *stack[MAX_HASHED];
  size_t n = 1, taken = 0;
  uint64_t h = 0;
  stack[0] = v;
  while (n > 0) {
    const ckpt_value *x = stack[--n];
    size_t parts = part_count(x), room = MAX_HASHED - ++taken - n;
    h = (h ^ hash_flat(x)) * 0x9e3779b97f4a7c15u;
    for (size_t i = parts < room ? parts : room; i-- > 0;) stack[n++] = part(x, i);
  }
  return h;
}

size_t ckpt_key_hash(const ckpt_value *v) {
  uint64_t h = has_parts(v) ? hash_parts(v) : hash_flat(v);
  return (size_t)(h ^ h >> 29);
}

static bool is_mutable(const ckpt_value *v) {
  return v->kind == CKPT_LIST || v->kind == CKPT_DICT || v->kind == CKPT_SET || v->kind == CKPT_BYTEARRAY;
}

bool ckpt_value_is_hashable(const ckpt_value *v) {
  const ckpt_value *stack[CKPT_KEY_DEPTH];
  size_t places[CKPT_KEY_DEPTH] = {0}, n = 1;
  stack[0] = v;
  for (size_t steps = 0; n > 0 && steps < MAX_STEPS; steps++) {
    const ckpt_value *x = stack[n - 1];
    if (is_mutable(x)) return false;
    if (x->kind != CKPT_TUPLE || places[n - 1] == x->as.seq.n) {
      n--;
      continue;
    }
    const ckpt_value *next = x->as.seq.items[places[n - 1]++];
    if (n == CKPT_KEY_DEPTH) continue;
    stack[n] = next;
    places[n++] = 0;
  }
  return true;
}
