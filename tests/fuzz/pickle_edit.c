/* pickle_edit.c - see pickle_edit.h. */
#include "pickle_edit.h"

#include "pickle_read.h"

enum { MAX_OPS = 2048, MAX_STACK = 512, MAX_MEMO = 256, MAX_OUT = 1 << 14 };

/* What an opcode leaves on the stack, as far as the ones after it care. */
typedef enum kind { ANY, MARK, LIST, DICT, SET, TUPLE, CLASS, OBJECT, STR } kind;

typedef struct op {
  const uint8_t *at;
  size_t n;
} op;

typedef struct editor {
  op ops[MAX_OPS];
  size_t n;
  uint8_t stack[MAX_STACK], memo[MAX_MEMO];
  size_t height, memoized;
  uint8_t *out;
  size_t out_n;
  unsigned state;
} editor;

static unsigned next(editor *e) { return e->state = e->state * 1103515245u + 12345u, e->state >> 16; }

/* ---- snippets: what may be put in anywhere ---- */

#define P(text) \
  { (const uint8_t *)(text), sizeof(text) - 1 }
static const op snippets[] = {P("N"),
                              P("\x88"),
                              P("\x89"),
                              P("K\7"),
                              P("M\1\2"),
                              P("J\xff\xff\xff\xff"),
                              P("\x8a\1\x80"),
                              P("\x8a\x09\1\2\3\4\5\6\7\x08\x09"),
                              P("G\x3f\xf0\0\0\0\0\0\0"),
                              P("G\x7f\xf8\0\0\0\0\0\0"),
                              P("X\1\0\0\0a"),
                              P("X\0\0\0\0"),
                              P("X\2\0\0\0\xc3\xa9"),
                              P("\x8c\1b"),
                              P("C\2xy"),
                              P("B\1\0\0\0z"),
                              P("U\1s"),
                              P("U\1\xff"),
                              P("T\2\0\0\0st"),
                              P("Vtext\\u1234\n"),
                              P("S'quoted\\x41'\n"),
                              P("I12\n"),
                              P("I01\n"),
                              P("L-123456789012345678901L\n"),
                              P("F1.5\n"),
                              P("\x96\2\0\0\0\0\0\0\0ba"),
                              P("]"),
                              P("}"),
                              P(")"),
                              P("\x8f"),
                              P("("),
                              P("(l"),
                              P("(t"),
                              P("(d"),
                              P("(\x91"),
                              P("a"),
                              P("e"),
                              P("s"),
                              P("u"),
                              P("\x90"),
                              P("t"),
                              P("l"),
                              P("d"),
                              P("\x85"),
                              P("\x86"),
                              P("\x87"),
                              P("\x91"),
                              P("0"),
                              P("1"),
                              P("2"),
                              P("q\0"),
                              P("q\1"),
                              P("q\2"),
                              P("\x94"),
                              P("h\0"),
                              P("h\1"),
                              P("h\2"),
                              P("r\3\0\0\0"),
                              P("j\3\0\0\0"),
                              P("p4\n"),
                              P("g4\n"),
                              P("cm\nC\n"),
                              P("cbuiltins\nset\n"),
                              P("cbuiltins\nfrozenset\n"),
                              P("c__builtin__\nbytearray\n"),
                              P("ccollections\nOrderedDict\n"),
                              P("ccollections\nCounter\n"),
                              P("ccopyreg\n__newobj_ex__\n"),
                              P("c_codecs\nencode\n"),
                              P("cbuiltins\ngetattr\n"),
                              P("cbuiltins\ncomplex\n"),
                              P("cnumpy\nndarray\n"),
                              P("cnumpy.core.multiarray\n_reconstruct\n"),
                              P("cnumpy.core.multiarray\nscalar\n"),
                              P("cnumpy\ndtype\n"),
                              P("ctorch\nSize\n"),
                              P("ctorch\ndevice\n"),
                              P("ctorch\nfloat32\n"),
                              P("ctorch\nuint16\n"),
                              P("ctorch\nFloatStorage\n"),
                              P("ctorch\nLongStorage\n"),
                              P("ctorch._utils\n_rebuild_tensor_v2\n"),
                              P("ctorch._utils\n_rebuild_tensor_v3\n"),
                              P("ctorch._utils\n_rebuild_parameter\n"),
                              P("ctorch._utils\n_rebuild_qtensor\n"),
                              P("ctorch._utils\n_rebuild_sparse_tensor\n"),
                              P("ctorch._tensor\n_rebuild_from_type_v2\n"),
                              P("ctorch\nper_tensor_affine\n"),
                              P("c__torch__\nM\n"),
                              P("R"),
                              P("\x81"),
                              P("b"),
                              P("o"),
                              P("im\nI\n"),
                              P("}\x92"),
                              P("X\1\0\0\0mX\1\0\0\0n\x93"),
                              P("Q"),
                              P("Pid\n"),
                              P("\x80\4"),
                              P("\x95\1\0\0\0\0\0\0\0"),
                              P("ccollections\nOrderedDict\n)R"),
                              P("(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpuK\4tQ"),
                              P("K\2K\2\x86"),
                              P("K\2K\1\x86"),
                              P("K\0"),
                              P("K\4\x85"),
                              P("K\1\x85"),
                              P("c_codecs\nencode\nX\2\0\0\0\xc3\xa9X\6\0\0\0latin1\x86R"),
                              P("cbuiltins\nset\n(K\1K\2l\x85R")};

/* ---- taking apart ---- */

/* The extent of one opcode is what ckpt_pickle_extent makes of it with a STOP behind. */
static size_t op_length(const uint8_t *data, size_t at, size_t size) {
  static const uint8_t fixed[256] = {['J'] = 4, ['K'] = 1,  ['M'] = 2,  ['G'] = 8,  ['h'] = 1,  ['q'] = 1, ['j'] = 4,
                                     ['r'] = 4, [0x80] = 1, [0x82] = 1, [0x83] = 2, [0x84] = 4, [0x95] = 8};
  static const uint8_t counted[256] = {['T'] = 4,  ['U'] = 1,  ['X'] = 4,  ['B'] = 4,  ['C'] = 1, [0x8a] = 1,
                                       [0x8b] = 4, [0x8c] = 1, [0x8d] = 8, [0x8e] = 8, [0x96] = 8};
  uint8_t code = data[at];
  size_t left = size - at - 1;
  if (strchr("cFILPSVgpi", code) != NULL && code != 0) {
    size_t n = 1;
    for (int lines = code == 'c' || code == 'i' ? 2 : 1; lines > 0; lines--) {
      const uint8_t *end = at + n < size ? memchr(data + at + n, '\n', size - at - n) : NULL;
      if (end == NULL) return 0;
      n = (size_t)(end - data) + 1 - at;
    }
    return n;
  }
  if (counted[code] > 0) {
    uint64_t n = 0;
    if (left < counted[code]) return 0;
    for (size_t i = counted[code]; i-- > 0;) n = n << 8 | data[at + 1 + i];
    return n > left - counted[code] ? 0 : 1 + counted[code] + (size_t)n;
  }
  return fixed[code] > left ? 0 : 1u + fixed[code];
}

static void take_apart(editor *e, const uint8_t *data, size_t size) {
  for (size_t at = 0; at < size && e->n < MAX_OPS - 8;) {
    size_t n = op_length(data, at, size);
    if (n == 0 || data[at] == '.') break;
    e->ops[e->n++] = (op){data + at, n};
    at += n;
  }
}

/* ---- changing ---- */

static void insert(editor *e, size_t at, op o) {
  memmove(e->ops + at + 1, e->ops + at, (e->n - at) * sizeof *e->ops);
  e->ops[at] = o;
  e->n++;
}

static void drop(editor *e, size_t at) {
  memmove(e->ops + at, e->ops + at + 1, (e->n - at - 1) * sizeof *e->ops);
  e->n--;
}

/* The bytes of arguments are copied to where they can be changed; lengths inside stay, or the op becomes another. */
static void change_argument(editor *e, op *o, uint8_t *room) {
  if (o->n < 2 || o->n > 64) return;
  memcpy(room, o->at, o->n);
  size_t at = 1 + next(e) % (o->n - 1);
  room[at] = next(e) % 2 == 0 ? (uint8_t)next(e) : (uint8_t)(room[at] + 1);
  if (op_length(room, 0, o->n) == o->n) *o = (op){room, o->n};
}

static void change(editor *e) {
  static uint8_t rooms[8][64];
  for (unsigned i = 1 + next(e) % 6; i > 0; i--) {
    size_t at = e->n == 0 ? 0 : next(e) % e->n;
    switch (next(e) % 8) {
      case 0:
        if (e->n > 0) drop(e, at);
        break;
      case 1:
        if (e->n > 0 && e->n < MAX_OPS - 1) insert(e, next(e) % e->n, e->ops[at]);
        break;
      case 2:
        if (e->n > 0) change_argument(e, &e->ops[at], rooms[i % 8]);
        break;
      default:
        if (e->n < MAX_OPS - 1) insert(e, at, snippets[next(e) % CKPT_COUNTOF(snippets)]);
    }
  }
}

/* ---- running over kinds ---- */

static uint8_t kind_at(const editor *e, size_t below) {
  return e->height > below ? e->stack[e->height - 1 - below] : MARK;
}

/* Values above the topmost mark, or all there are. */
static size_t above_mark(const editor *e) {
  size_t n = 0;
  while (n < e->height && kind_at(e, n) != MARK) n++;
  return n;
}

static bool has_mark(const editor *e) { return above_mark(e) < e->height; }

static bool push(editor *e, size_t takes, uint8_t leaves) {
  if (above_mark(e) < takes || e->height - takes >= MAX_STACK - 1) return false;
  e->height -= takes;
  e->stack[e->height++] = leaves;
  return true;
}

static bool close_mark(editor *e, int leaves) { /* -1: nothing, the target below stays */
  if (!has_mark(e)) return false;
  e->height -= above_mark(e) + 1;
  return leaves < 0 || push(e, 0, (uint8_t)leaves);
}

/* Items for what lies below the mark: a container of that kind, or an object. */
static bool fill(editor *e, uint8_t target, bool pairs) {
  size_t n = above_mark(e);
  if (!has_mark(e) || (pairs && n % 2 != 0)) return false;
  uint8_t below = kind_at(e, n + 1);
  return (below == target || (below == OBJECT && target != SET)) && close_mark(e, -1);
}

static bool fill_one(editor *e, size_t items, uint8_t target) {
  uint8_t below = above_mark(e) > items ? kind_at(e, items) : MARK;
  if (below != target && below != OBJECT) return false;
  e->height -= items;
  return true;
}

static size_t memo_index(const op *o) {
  return o->at[0] == 'q' || o->at[0] == 'h' || o->at[0] == 'j' || o->at[0] == 'r' ? o->at[1] : (size_t)(o->at[1] & 7);
}

static bool put(editor *e, size_t index) {
  if (above_mark(e) == 0 || index >= MAX_MEMO) return false;
  if (e->memo[index] == 0) e->memoized++;
  e->memo[index] = (uint8_t)(kind_at(e, 0) + 1);
  return true;
}

static bool get(editor *e, size_t index) {
  return index < MAX_MEMO && e->memo[index] != 0 && push(e, 0, (uint8_t)(e->memo[index] - 1));
}

static bool call(editor *e) {
  return kind_at(e, 0) == TUPLE && (kind_at(e, 1) == CLASS || kind_at(e, 1) == OBJECT) && push(e, 2, OBJECT);
}

static bool pop(editor *e) {
  if (e->height == 0) return false;
  e->height--;
  return true;
}

/* Whether the op works on this stack; if so, it has been done. */
static bool run(editor *e, const op *o) {
  switch (o->at[0]) {
    case '(': return e->height < MAX_STACK - 2 && (e->stack[e->height++] = MARK, true);
    case ']': return push(e, 0, LIST);
    case '}': return push(e, 0, DICT);
    case 0x8f: return push(e, 0, SET);
    case ')': return push(e, 0, TUPLE);
    case 'l': return close_mark(e, LIST);
    case 't': return close_mark(e, TUPLE);
    case 'd': return above_mark(e) % 2 == 0 && close_mark(e, DICT);
    case 0x91: return close_mark(e, ANY);
    case '1': return close_mark(e, -1);
    case 'e': return fill(e, LIST, false);
    case 'u': return fill(e, DICT, true);
    case 0x90: return fill(e, SET, false);
    case 'a': return fill_one(e, 1, LIST);
    case 's': return fill_one(e, 2, DICT);
    case 'b': return above_mark(e) > 1 && kind_at(e, 1) == OBJECT && pop(e);
    case '0': return pop(e);
    case '2': return above_mark(e) > 0 && push(e, 0, kind_at(e, 0));
    case 0x85: return push(e, 1, TUPLE);
    case 0x86: return push(e, 2, TUPLE);
    case 0x87: return push(e, 3, TUPLE);
    case 'c': return push(e, 0, CLASS);
    case 0x93: return kind_at(e, 0) == STR && kind_at(e, 1) == STR && push(e, 2, CLASS);
    case 'R':
    case 0x81: return call(e);
    case 0x92: return kind_at(e, 0) == DICT && kind_at(e, 1) == TUPLE && kind_at(e, 2) == CLASS && push(e, 3, OBJECT);
    case 'o':
      return has_mark(e) && above_mark(e) > 0 && kind_at(e, above_mark(e) - 1) == CLASS && close_mark(e, OBJECT);
    case 'i': return close_mark(e, OBJECT);
    case 'Q': return push(e, 1, OBJECT);
    case 'P': return push(e, 0, OBJECT);
    case 'q':
    case 'r':
    case 'p': return put(e, memo_index(o));
    case 0x94: return put(e, e->memoized);
    case 'h':
    case 'j':
    case 'g': return get(e, memo_index(o));
    case 'X':
    case 'V':
    case 0x8c:
    case 0x8d: return push(e, 0, STR);
    case 0x80: return o->at[1] <= 5;
    case 0x95: return e->out_n + 9 < MAX_OUT;
    case 0x82:
    case 0x83:
    case 0x84:
    case 0x97:
    case 0x98:
    case '.': return false;
    default: return push(e, 0, ANY);
  }
}

static void emit(editor *e, const uint8_t *at, size_t n) {
  memcpy(e->out + e->out_n, at, n);
  e->out_n += n;
}

static void repair(editor *e) {
  for (size_t i = 0; i < e->n; i++)
    if (e->out_n + e->ops[i].n < MAX_OUT - 2 * MAX_STACK && run(e, &e->ops[i])) emit(e, e->ops[i].at, e->ops[i].n);
  while (has_mark(e)) {
    close_mark(e, TUPLE);
    emit(e, (const uint8_t *)"t", 1);
  }
  if (e->height == 0) emit(e, (const uint8_t *)"N", 1);
  for (; e->height > 1; e->height--) emit(e, (const uint8_t *)"\x86", 1);
  emit(e, (const uint8_t *)".", 1);
}

size_t pickle_edit(uint8_t *data, size_t size, size_t max, unsigned seed) {
  static editor e;
  static uint8_t out[MAX_OUT];
  memset(&e, 0, sizeof e);
  e.state = seed;
  e.out = out;
  if (next(&e) % 8 == 0) return LLVMFuzzerMutate(data, size, max);
  take_apart(&e, data, size);
  change(&e);
  repair(&e);
  if (e.out_n > max) return LLVMFuzzerMutate(data, size, max);
  memcpy(data, e.out, e.out_n);
  return e.out_n;
}
