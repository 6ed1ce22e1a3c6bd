/*
 * test_pickle_read.c - the pickle machine on bytes written by hand: every opcode of protocols 0 to 5, cut at every
 * length and changed at every byte; what is refused, with which words and at which byte; depth; hooks.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "pickle_read.h"
#include "repr.h"

#define P(literal) (literal), sizeof(literal) - 1

typedef struct good {
  unsigned char op; /* what the row is about; it is in `bytes` */
  const char *bytes;
  size_t n;
  ckpt_kind kind;
  const char *repr;
} good;

static const good goods[] = {
    /* atoms */
    {'N', P("N."), CKPT_NONE, "None"},
    {0x88, P("\x88."), CKPT_BOOLEAN, "True"},
    {0x89, P("\x89."), CKPT_BOOLEAN, "False"},
    {'I', P("I01\n."), CKPT_BOOLEAN, "True"},
    {'I', P("I00\n."), CKPT_BOOLEAN, "False"},
    {'I', P("I1\n."), CKPT_INT, "1"},
    {'I', P("I-500\n."), CKPT_INT, "-500"},
    {'I', P("I9223372036854775807\n."), CKPT_INT, "9223372036854775807"},
    {'I', P("I-9223372036854775808\n."), CKPT_INT, "-9223372036854775808"},
    {'I', P("I9223372036854775808\n."), CKPT_BIGINT, "0x8000000000000000"},
    {'L', P("L5L\n."), CKPT_INT, "5"},
    {'L', P("L5\n."), CKPT_INT, "5"},
    {'L', P("L-9223372036854775809L\n."), CKPT_BIGINT, "-0x8000000000000001"},
    {'L', P("L1208925819614629174706176L\n."), CKPT_BIGINT, "0x100000000000000000000"},
    {'J', P("J\xff\xff\xff\xff."), CKPT_INT, "-1"},
    {'J', P("J\x00\x00\x00\x80."), CKPT_INT, "-2147483648"},
    {'J', P("J\x01\x02\x03\x04."), CKPT_INT, "67305985"},
    {'K', P("K\xff."), CKPT_INT, "255"},
    {'M', P("M\xfe\xff."), CKPT_INT, "65534"},
    {0x8a, P("\x8a\x00."), CKPT_INT, "0"},
    {0x8a, P("\x8a\x01\xff."), CKPT_INT, "-1"},
    {0x8a, P("\x8a\x05\x00\x00\x00\x80\x00."), CKPT_INT, "2147483648"},
    {0x8a, P("\x8a\x08\0\0\0\0\0\0\0\x80."), CKPT_INT, "-9223372036854775808"},
    {0x8a, P("\x8a\x09\0\0\0\0\0\0\0\x80\0."), CKPT_BIGINT, "0x8000000000000000"},
    {0x8a, P("\x8a\x09\xff\xff\xff\xff\xff\xff\xff\x7f\xff."), CKPT_BIGINT, "-0x8000000000000001"},
    {0x8a, P("\x8a\x0b\5\0\0\0\0\0\0\0\0\0\0."), CKPT_INT, "5"}, /* redundant sign bytes */
    {0x8b, P("\x8b\2\0\0\0\0\1."), CKPT_INT, "256"},
    {0x8b, P("\x8b\0\0\0\0."), CKPT_INT, "0"},
    {'F', P("F1.5\n."), CKPT_FLOAT, "1.5"},
    {'F', P("F-1e-05\n."), CKPT_FLOAT, "-1e-05"},
    {'F', P("Finf\n."), CKPT_FLOAT, "inf"},
    {'F', P("Fnan\n."), CKPT_FLOAT, "nan"},
    {'G', P("G\x3f\xf8\0\0\0\0\0\0."), CKPT_FLOAT, "1.5"},
    {'G', P("G\x80\0\0\0\0\0\0\0."), CKPT_FLOAT, "-0.0"},
    {'G', P("G\xff\xf0\0\0\0\0\0\0."), CKPT_FLOAT, "-inf"},
    {'G', P("G\x3f\xb9\x99\x99\x99\x99\x99\x9a."), CKPT_FLOAT, "0.1"},
    /* texts */
    {'S', P("S'abc'\n."), CKPT_STR, "'abc'"},
    {'S', P("S\"it's\"\n."), CKPT_STR, "\"it's\""},
    {'S', P("S''\n."), CKPT_STR, "''"},
    {'S', P("S'\\x41\\102\\n\\t\\\\\\''\n."), CKPT_STR, "\"AB\\n\\t\\\\'\""},
    {'S', P("S'\\xff'\n."), CKPT_BYTES, "b'\\xff'"}, /* a Python 2 str that is no UTF-8 */
    {'S', P("S'\\xc3\\xa9'\n."), CKPT_STR, "'\xc3\xa9'"},
    {'T', P("T\3\0\0\0a'c."), CKPT_STR, "\"a'c\""},
    {'T', P("T\0\0\0\0."), CKPT_STR, "''"},
    {'U', P("U\2\xff\xfe."), CKPT_BYTES, "b'\\xff\\xfe'"},
    {'U', P("U\3abc."), CKPT_STR, "'abc'"},
    {'V', P("Vab\n."), CKPT_STR, "'ab'"},
    {'V', P("V\\u00e9\xe9\n."), CKPT_STR, "'\xc3\xa9\xc3\xa9'"},
    {'V', P("V\\U0001f600\\x12\n."), CKPT_STR, "'\xf0\x9f\x98\x80\\\\x12'"},
    {'V', P("V\\\\u0041\\\n."), CKPT_STR, "'\\\\\\\\u0041\\\\'"}, /* the second backslash is no escape's */
    {'X', P("X\3\0\0\0a\xc3\xa9."), CKPT_STR, "'a\xc3\xa9'"},
    {'X', P("X\3\0\0\0\xed\xa0\x80."), CKPT_STR, "'\xed\xa0\x80'"}, /* a lone surrogate */
    {0x8c, P("\x8c\1a."), CKPT_STR, "'a'"},
    {0x8d, P("\x8d\1\0\0\0\0\0\0\0a."), CKPT_STR, "'a'"},
    {'B', P("B\2\0\0\0\xff\0."), CKPT_BYTES, "b'\\xff\\x00'"},
    {'C', P("C\1a."), CKPT_BYTES, "b'a'"},
    {0x8e,
     P("\x8e\2\0\0\0\0\0\0\0.."
       ".."),
     CKPT_BYTES, "b'..'"},
    {0x96, P("\x96\1\0\0\0\0\0\0\0a."), CKPT_BYTEARRAY, "bytearray(b'a')"},
    /* containers */
    {']', P("]."), CKPT_LIST, "[]"},
    {')', P(")."), CKPT_TUPLE, "()"},
    {'}', P("}."), CKPT_DICT, "{}"},
    {0x8f, P("\x8f."), CKPT_SET, "set()"},
    {'(', P("(l."), CKPT_LIST, "[]"},
    {'l', P("(K\1K\2l."), CKPT_LIST, "[1, 2]"},
    {'t', P("(K\1K\2K\3K\4t."), CKPT_TUPLE, "(1, 2, 3, 4)"},
    {'t', P("(t."), CKPT_TUPLE, "()"},
    {'d', P("(K\1K\2d."), CKPT_DICT, "{1: 2}"},
    {'d', P("(d."), CKPT_DICT, "{}"},
    {0x85, P("K\1\x85."), CKPT_TUPLE, "(1,)"},
    {0x86, P("K\1K\2\x86."), CKPT_TUPLE, "(1, 2)"},
    {0x87, P("K\1K\2K\3\x87."), CKPT_TUPLE, "(1, 2, 3)"},
    {'a', P("]K\1aK\2a."), CKPT_LIST, "[1, 2]"},
    {'e', P("](K\1K\2e(K\3e(e."), CKPT_LIST, "[1, 2, 3]"},
    {'s', P("}K\1K\2s."), CKPT_DICT, "{1: 2}"},
    {'u', P("}(K\1K\2K\3K\4u."), CKPT_DICT, "{1: 2, 3: 4}"},
    {'u', P("}(K\1K\2K\3K\4u(K\1K\5\x88K\6u."), CKPT_DICT, "{1: 6, 3: 4}"}, /* 1 == True, the first key stays */
    {0x90, P("\x8f(K\1K\2\x90."), CKPT_SET, "{1, 2}"},
    {0x91, P("(K\1\x91."), CKPT_FROZENSET, "frozenset({1})"},
    /* stack and memo */
    {'0',
     P("K\1K\2"
       "0."),
     CKPT_INT, "1"},
    {'0', P("K\1(0."), CKPT_INT, "1"}, /* POP takes a mark as well */
    {'1',
     P("K\1(K\2K\3"
       "1."),
     CKPT_INT, "1"},
    {'2', P("]2\x86."), CKPT_TUPLE, "([], [])"},
    {'p', P("K\7p5\n0g5\n."), CKPT_INT, "7"},
    {'g', P("K\7p0\n0g0\n."), CKPT_INT, "7"},
    {'q',
     P("K\7q\5"
       "0h\5."),
     CKPT_INT, "7"},
    {'h',
     P("K\7q\0K\5q\0"
       "0h\0."),
     CKPT_INT, "5"}, /* stored twice: the later one */
    {'r',
     P("K\7r\5\0\0\0"
       "0j\5\0\0\0."),
     CKPT_INT, "7"},
    {'j',
     P("K\7q\1"
       "0j\1\0\0\0."),
     CKPT_INT, "7"},
    {0x94, P("K\7\x94K\5\x94h\0."), CKPT_INT, "7"},
    {0x94, P("K\7q\3K\5\x94h\1."), CKPT_INT, "5"}, /* the number is the memo's size */
    /* objects */
    {'c', P("cos\nsystem\n."), CKPT_CLASS, "os.system"},
    {'c', P("ca.b\nC.D\n."), CKPT_CLASS, "a.b.C.D"},
    {0x93, P("\x8c\2os\x8c\6system\x93."), CKPT_CLASS, "os.system"},
    {'R', P("cm\nC\n)R."), CKPT_OBJECT, "<m.C>"},
    {0x81, P("cm\nC\n)\x81."), CKPT_OBJECT, "<m.C>"},
    {0x92, P("cm\nC\n)}\x92."), CKPT_OBJECT, "<m.C>"},
    {'i', P("(K\1im\nC\n."), CKPT_OBJECT, "<m.C>"},
    {'o', P("(cm\nC\nK\1o."), CKPT_OBJECT, "<m.C>"},
    {'b', P("cm\nC\n)R}b."), CKPT_OBJECT, "<m.C>"},
    {'P', P("P12\n."), CKPT_OBJECT, "<>"},
    {'Q', P("K\1\x85Q."), CKPT_OBJECT, "<>"},
    {'a', P("cm\nC\n)RK\1a."), CKPT_OBJECT, "<m.C>"},
    {'s', P("cm\nC\n)RK\1K\2s."), CKPT_OBJECT, "<m.C>"},
    /* framing */
    {0x80, P("\x80\2N."), CKPT_NONE, "None"},
    {0x80, P("\x80\5\x80\0N."), CKPT_NONE, "None"},
    {0x95, P("\x80\4\x95\2\0\0\0\0\0\0\0N."), CKPT_NONE, "None"},
    {'.', P("K\1K\2."), CKPT_INT, "2"}, /* what else is on the stack does not matter */
};

/* Opcodes whose meaning is not in the file. */
static const unsigned char refused_ops[] = {0x82, 0x83, 0x84, 0x97, 0x98};

/* All opcodes of pickletools, protocols 0 to 5. */
static const char all_ops[] =
    "(.012FIJKLMNPQRSTUVXabcd}eghijl]opqrst)uGBC\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b"
    "\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98";

static ckpt_document *document_for(size_t n) {
  ckpt_document *doc = NULL;
  assert_int_equal(ckpt_document_make(&doc, ckpt_pickle_memory_limit(n), NULL), CKPT_OK);
  return doc;
}

/* In memory of exactly that size, so that the sanitizer sees a read past the end. */
static ckpt_status read_copy(ckpt_value **out, size_t *used, ckpt_document *doc, const char *bytes, size_t n,
                             ckpt_error *err) {
  unsigned char *copy = malloc(n);
  if (n > 0) memcpy(copy, bytes, n);
  ckpt_status st = ckpt_pickle_read(out, used, doc, copy, n, "data.pkl", NULL, err);
  free(copy);
  return st;
}

static void every_opcode_has_a_row(void **state) {
  (void)state;
  assert_int_equal(sizeof all_ops - 1, 68);
  for (size_t k = 0; k < sizeof all_ops - 1; k++) {
    unsigned char op = (unsigned char)all_ops[k];
    bool found = memchr(refused_ops, op, sizeof refused_ops) != NULL;
    for (size_t i = 0; i < CKPT_COUNTOF(goods); i++) found |= goods[i].op == op;
    if (!found) fail_msg("opcode 0x%02x has no row", op);
  }
}

static void check_good(const good *g) {
  ckpt_document *doc = document_for(g->n);
  ckpt_value *v = NULL;
  ckpt_error err = {0};
  size_t used = 0, n = 0;
  char *text = NULL;
  assert_non_null(memchr(g->bytes, g->op, g->n));
  if (read_copy(&v, &used, doc, g->bytes, g->n, &err) != CKPT_OK) fail_msg("%s: %s", g->repr, err.message);
  assert_int_equal(ckpt_repr(&text, &n, v, 1000, NULL), CKPT_OK);
  assert_string_equal(text, g->repr);
  assert_int_equal(n, strlen(text));
  assert_int_equal(ckpt_value_kind(v), g->kind);
  assert_int_equal(used, strstr(g->repr, "b'..'") != NULL ? g->n - 1 : g->n);
  free(text);
  ckpt_document_release(doc);
}

static void every_opcode(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(goods); i++) check_good(&goods[i]);
}

static void cut_at_every_length(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(goods); i++) {
    size_t whole = strstr(goods[i].repr, "b'..'") != NULL ? goods[i].n - 1 : goods[i].n;
    for (size_t n = 0; n < whole; n++) {
      ckpt_document *doc = document_for(goods[i].n);
      ckpt_value *v = NULL;
      ckpt_error err = {0};
      size_t used = 99;
      assert_int_not_equal(read_copy(&v, &used, doc, goods[i].bytes, n, &err), CKPT_OK);
      assert_true(err.status == CKPT_E_CORRUPT || err.status == CKPT_E_LIMIT); /* a memo index beyond what is left */
      assert_int_equal(strncmp(err.message, "data.pkl+0x", 11), 0);
      assert_in_range(err.position, 0, n);
      assert_null(v);
      assert_int_equal(used, 99);
      ckpt_document_release(doc);
    }
  }
}

/* Whatever comes of it, nothing may be read or written where it should not. */
static void changed_at_every_byte(void **state) {
  (void)state;
  char bytes[64];
  for (size_t i = 0; i < CKPT_COUNTOF(goods); i++)
    for (size_t at = 0; at < goods[i].n; at++)
      for (int change = 1; change < 256; change++) {
        ckpt_document *doc = document_for(goods[i].n);
        ckpt_value *v = NULL;
        ckpt_error err = {0};
        assert_true(goods[i].n <= sizeof bytes);
        memcpy(bytes, goods[i].bytes, goods[i].n);
        bytes[at] = (char)(bytes[at] ^ change);
        ckpt_status st = read_copy(&v, NULL, doc, bytes, goods[i].n, &err);
        assert_int_equal(st, err.status);
        assert_int_equal(st == CKPT_OK, v != NULL);
        ckpt_document_release(doc);
      }
}

/* ---- what is refused ---- */

typedef struct refused {
  const char *bytes;
  size_t n;
  ckpt_status status;
  int64_t position;
  const char *message; /* behind "data.pkl+0x..: " */
} refused;

#define NO_STOP "the pickle ends without STOP"
#define EMPTY "the stack is empty where a value is needed"
#define NO_MARK "there is no mark on the stack"
#define FEW "too few values for a tuple"
#define NO_LINE "a line without its end: the pickle is cut off or corrupt"
#define TWO_STATES "BUILD twice on one object, with two states"
#define NO_INDEX "a memo index that is no number"
#define NOT_UTF8 "a string that is not UTF-8"
#define NOT_UNICODE "a \\u or \\U in a string is no code point of Unicode"
#define EXTENSION "an extension code, whose meaning lies in the program that wrote it"
#define OUT_OF_BAND "an out-of-band buffer, which is not in the file"
#define MISSING(n, left) "an argument of " n " bytes where only " left " remain: the pickle is cut off or corrupt"

static const refused refusals[] = {
    {P(""), CKPT_E_CORRUPT, 0, NO_STOP},
    {P("N"), CKPT_E_CORRUPT, 1, NO_STOP},
    {P("\xff"), CKPT_E_CORRUPT, 0, "0xff is no pickle opcode"},
    {P("N\0."), CKPT_E_CORRUPT, 1, "0x00 is no pickle opcode"},
    {P("NNNNNNNNNNNNNNNNNN\n"), CKPT_E_CORRUPT, 18, "0x0a is no pickle opcode"},
    /* stack */
    {P("."), CKPT_E_CORRUPT, 0, EMPTY},
    {P("N(."), CKPT_E_CORRUPT, 2, EMPTY}, /* a mark hides what is below */
    {P("0."), CKPT_E_CORRUPT, 0, EMPTY},
    {P("2."), CKPT_E_CORRUPT, 0, EMPTY},
    {P("a."), CKPT_E_CORRUPT, 0, EMPTY},
    {P("]a."), CKPT_E_CORRUPT, 1, EMPTY},
    {P("](K\1a."), CKPT_E_CORRUPT, 4, EMPTY},
    {P("}K\1s."), CKPT_E_CORRUPT, 3, EMPTY},
    {P("(e."), CKPT_E_CORRUPT, 1, EMPTY},
    {P("(u."), CKPT_E_CORRUPT, 1, EMPTY},
    {P("(\x90."), CKPT_E_CORRUPT, 1, EMPTY},
    {P("R."), CKPT_E_CORRUPT, 0, EMPTY},
    {P(")R."), CKPT_E_CORRUPT, 1, EMPTY},
    {P(")\x81."), CKPT_E_CORRUPT, 1, EMPTY},
    {P(")}\x92."), CKPT_E_CORRUPT, 2, EMPTY},
    {P("Q."), CKPT_E_CORRUPT, 0, EMPTY},
    {P("}b."), CKPT_E_CORRUPT, 1, EMPTY},
    {P("\x8c\1a\x93."), CKPT_E_CORRUPT, 3, EMPTY},
    {P("q\0."), CKPT_E_CORRUPT, 0, EMPTY},
    {P("\x94."), CKPT_E_CORRUPT, 0, EMPTY},
    {P("\x85."), CKPT_E_CORRUPT, 0, FEW},
    {P("K\1\x86."), CKPT_E_CORRUPT, 2, FEW},
    {P("K\1K\2\x87."), CKPT_E_CORRUPT, 4, FEW},
    {P("K\1(\x85."), CKPT_E_CORRUPT, 3, FEW},
    /* marks */
    {P("l."), CKPT_E_CORRUPT, 0, NO_MARK},
    {P("t."), CKPT_E_CORRUPT, 0, NO_MARK},
    {P("d."), CKPT_E_CORRUPT, 0, NO_MARK},
    {P("]e."), CKPT_E_CORRUPT, 1, NO_MARK},
    {P("}u."), CKPT_E_CORRUPT, 1, NO_MARK},
    {P("1."), CKPT_E_CORRUPT, 0, NO_MARK},
    {P("o."), CKPT_E_CORRUPT, 0, NO_MARK},
    {P("im\nC\n."), CKPT_E_CORRUPT, 0, NO_MARK},
    {P("\x8f\x90."), CKPT_E_CORRUPT, 1, NO_MARK},
    {P("\x91."), CKPT_E_CORRUPT, 0, NO_MARK},
    {P("(ll."), CKPT_E_CORRUPT, 2, NO_MARK}, /* a mark serves once */
    /* containers */
    {P("N(K\1e."), CKPT_E_CORRUPT, 4, "items appended to what is no list"},
    {P("}K\1a."), CKPT_E_CORRUPT, 3, "items appended to what is no list"},
    {P(")K\1a."), CKPT_E_CORRUPT, 3, "items appended to what is no list"},
    {P("](K\1\x90."), CKPT_E_CORRUPT, 4, "items added to what is no set"},
    {P("}(K\1u."), CKPT_E_CORRUPT, 4, "a key without its value"},
    {P("(K\1K\2K\3d."), CKPT_E_CORRUPT, 7, "a key without its value"},
    {P("](K\1K\2u."), CKPT_E_CORRUPT, 6, "keys set in what is no dict"},
    {P("NK\1K\2s."), CKPT_E_CORRUPT, 5, "keys set in what is no dict"},
    /* memo */
    {P("h\0."), CKPT_E_CORRUPT, 0, "memo entry 0 was never stored"},
    {P("K\1q\2h\1."), CKPT_E_CORRUPT, 4, "memo entry 1 was never stored"},
    {P("g7\n."), CKPT_E_CORRUPT, 0, "memo entry 7 was never stored"},
    {P("j\xff\xff\xff\xff."), CKPT_E_CORRUPT, 0, "memo entry 4294967295 was never stored"},
    {P("K\1r\xff\xff\xff\xff."), CKPT_E_LIMIT, 2, "memo index 4294967295 in a pickle of 8 bytes"},
    {P("K\1p999999999999999999\n."), CKPT_E_LIMIT, 2, "memo index 999999999999999999 in a pickle of 23 bytes"},
    {P("K\1p9999999999999999999\n."), CKPT_E_CORRUPT, 2, NO_INDEX},
    {P("K\1p-1\n."), CKPT_E_CORRUPT, 2, NO_INDEX},
    {P("K\1p\n."), CKPT_E_CORRUPT, 2, NO_INDEX},
    {P("gx\n."), CKPT_E_CORRUPT, 0, NO_INDEX},
    /* objects */
    {P("(o."), CKPT_E_CORRUPT, 1, "OBJ without a class"},
    {P("K\1)R."), CKPT_E_CORRUPT, 3, "an object made by something that is no class or function"},
    {P("(K\1o."), CKPT_E_CORRUPT, 3, "an object made by something that is no class or function"},
    {P("cm\nC\nK\1R."), CKPT_E_CORRUPT, 7, "constructor arguments that are no tuple"},
    {P("cm\nC\n]\x81."), CKPT_E_CORRUPT, 6, "constructor arguments that are no tuple"},
    {P("K\1}b."), CKPT_E_CORRUPT, 3, "BUILD on what has no state"},
    {P("}}b."), CKPT_E_CORRUPT, 2, "BUILD on what has no state"},
    {P("cm\nC\n)R}bK\1b."), CKPT_E_UNSUPPORTED, 11, TWO_STATES},
    {P("cm\nC\n)RK\1bK\2b."), CKPT_E_UNSUPPORTED, 12, TWO_STATES},
    {P("cm\nC\n)R]b]b."), CKPT_E_UNSUPPORTED, 10, TWO_STATES},
    {P("cm\nC\n)RN}U\1aK\1s\x86"
       "bN}U\1aK\2s\x86"
       "b."),
     CKPT_E_UNSUPPORTED, 26, TWO_STATES},
    {P("K\1K\2\x93."), CKPT_E_CORRUPT, 4, "STACK_GLOBAL without two strings"},
    {P("c\xff\nC\n."), CKPT_E_CORRUPT, 0, "a name that is not UTF-8"},
    {P("cm\n\xc3\n."), CKPT_E_CORRUPT, 0, "a name that is not UTF-8"},
    /* framing and what lies outside */
    {P("\x80\6N."), CKPT_E_UNSUPPORTED, 0, "a pickle protocol later than 5"},
    {P("\x80\2\x95\3\0\0\0\0\0\0\0N."), CKPT_E_CORRUPT, 2, "a frame longer than the pickle"},
    {P("\x95\xff\xff\xff\xff\xff\xff\xff\xffN."), CKPT_E_CORRUPT, 0, "a frame longer than the pickle"},
    {P("\x82\1."), CKPT_E_UNSUPPORTED, 0, EXTENSION},
    {P("\x83\1\1."), CKPT_E_UNSUPPORTED, 0, EXTENSION},
    {P("\x84\1\1\1\1."), CKPT_E_UNSUPPORTED, 0, EXTENSION},
    {P("\x97."), CKPT_E_UNSUPPORTED, 0, OUT_OF_BAND},
    {P("N\x98."), CKPT_E_UNSUPPORTED, 1, OUT_OF_BAND},
    /* lengths */
    {P("K"), CKPT_E_CORRUPT, 0, MISSING("1", "0")},
    {P("J\1\2\3"), CKPT_E_CORRUPT, 0, MISSING("4", "3")},
    {P("X\4\0\0\0abc"), CKPT_E_CORRUPT, 0, MISSING("4", "3")},
    {P("X\xff\xff\xff\xff."), CKPT_E_CORRUPT, 0, MISSING("4294967295", "1")},
    {P("B\xff\xff\xff\xff."), CKPT_E_CORRUPT, 0, MISSING("4294967295", "1")},
    {P("\x8d\xff\xff\xff\xff\xff\xff\xff\xff."), CKPT_E_CORRUPT, 0, MISSING("18446744073709551615", "1")},
    {P("\x8e\0\0\0\0\0\0\0\x80."), CKPT_E_CORRUPT, 0, MISSING("9223372036854775808", "1")},
    {P("\x96\xff\xff\xff\xff\xff\xff\xff\xff."), CKPT_E_CORRUPT, 0, MISSING("18446744073709551615", "1")},
    {P("\x8b\xff\xff\xff\xff."), CKPT_E_CORRUPT, 0, MISSING("4294967295", "1")},
    {P("\x8a\xff."), CKPT_E_CORRUPT, 0, MISSING("255", "1")},
    {P("C\xff."), CKPT_E_CORRUPT, 0, MISSING("255", "1")},
    {P("T\xff\xff\xff\xff."), CKPT_E_CORRUPT, 0, "a string of negative length"},
    {P("I5"), CKPT_E_CORRUPT, 0, NO_LINE},
    {P("I"), CKPT_E_CORRUPT, 0, NO_LINE},
    {P("cm\nC"), CKPT_E_CORRUPT, 0, NO_LINE},
    {P("NP1"), CKPT_E_CORRUPT, 1, NO_LINE},
    /* texts */
    {P("X\2\0\0\0\xc3\x28."), CKPT_E_CORRUPT, 0, NOT_UTF8},
    {P("V\\u12\n."), CKPT_E_CORRUPT, 0, NOT_UNICODE},
    {P("V\\u12"
       "fg\n."),
     CKPT_E_CORRUPT, 0, NOT_UNICODE},
    {P("NVab\\U00110000\n."), CKPT_E_CORRUPT, 1, NOT_UNICODE},
    {P("X\2\0\0\0\xc0\x80."), CKPT_E_CORRUPT, 0, NOT_UTF8},
    {P("X\3\0\0\0\xe0\x9f\xbf."), CKPT_E_CORRUPT, 0, NOT_UTF8},
    {P("X\4\0\0\0\xf4\x90\x80\x80."), CKPT_E_CORRUPT, 0, NOT_UTF8},
    {P("X\1\0\0\0\xf0."), CKPT_E_CORRUPT, 0, NOT_UTF8},
    {P("\x8c\1\x80."), CKPT_E_CORRUPT, 0, NOT_UTF8},
    {P("Ix\n."), CKPT_E_CORRUPT, 0, "'x' is no decimal integer"},
    {P("NI\n."), CKPT_E_CORRUPT, 1, "'' is no decimal integer"},
    {P("L-L\n."), CKPT_E_CORRUPT, 0, "'-' is no decimal integer"},
    {P("I0x10\n."), CKPT_E_CORRUPT, 0, "'0x10' is no decimal integer"},
    {P("F\n."), CKPT_E_CORRUPT, 0, "'' is no float"},
    {P("F1,5\n."), CKPT_E_CORRUPT, 0, "'1,5' is no float"},
    {P("F1.5x\n."), CKPT_E_CORRUPT, 0, "'1.5x' is no float"},
    {P("Sabc\n."), CKPT_E_CORRUPT, 0, "a string without its quotes"},
    {P("S'\n."), CKPT_E_CORRUPT, 0, "a string without its quotes"},
    {P("S'abc\"\n."), CKPT_E_CORRUPT, 0, "a string without its quotes"},
};

static void check_refused(const refused *r) {
  ckpt_document *doc = document_for(r->n);
  ckpt_value *v = NULL;
  ckpt_error err = {0};
  char wanted[300];
  snprintf(wanted, sizeof wanted, "data.pkl+0x%llx: %s", (unsigned long long)r->position, r->message);
  ckpt_status st = read_copy(&v, NULL, doc, r->bytes, r->n, &err);
  assert_string_equal(err.message, wanted);
  assert_int_equal(st, r->status);
  assert_int_equal(err.status, r->status);
  assert_int_equal(err.position, r->position);
  assert_null(v);
  assert_int_equal(read_copy(&v, NULL, doc, r->bytes, r->n, NULL), r->status); /* nobody listens */
  ckpt_document_release(doc);
}

static void refused_with_words_and_byte(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(refusals); i++) check_refused(&refusals[i]);
}

static void a_float_has_no_nul(void **state) {
  (void)state;
  ckpt_document *doc = document_for(20);
  ckpt_value *v = NULL;
  ckpt_error err = {0};
  ckpt_status st = read_copy(&v, NULL, doc, P("F1.5\0x\n."), &err);
  ckpt_document_release(doc);
  assert_int_equal(st, CKPT_E_CORRUPT);
  assert_string_equal(err.message, "data.pkl+0x0: '1.5' is no float");
}

static void unknown_opcodes(void **state) {
  (void)state;
  for (int code = 0; code < 256; code++) {
    char bytes[3] = {'N', (char)code, '\n'}, wanted[80];
    ckpt_document *doc = document_for(3);
    ckpt_value *v = NULL;
    ckpt_error err = {0};
    bool known = code != 0 && strchr(all_ops, (char)code) != NULL;
    snprintf(wanted, sizeof wanted, "data.pkl+0x1: 0x%02x is no pickle opcode", (unsigned)code);
    read_copy(&v, NULL, doc, bytes, 3, &err);
    assert_int_equal(strcmp(err.message, wanted) == 0, !known);
    ckpt_document_release(doc);
  }
}

static void what_follows_stop_is_not_read(void **state) {
  (void)state;
  ckpt_document *doc = document_for(20);
  ckpt_value *v = NULL;
  size_t used = 0;
  assert_int_equal(read_copy(&v, &used, doc, "K\1.\xff\xff garbage", 12, NULL), CKPT_OK);
  assert_int_equal(used, 3);
  assert_int_equal(v->as.integer, 1);
  ckpt_document_release(doc);
}

/* ---- what values are like ---- */

static ckpt_value *read_ok(ckpt_document *doc, const char *bytes, size_t n) {
  ckpt_value *v = NULL;
  ckpt_error err = {0};
  if (read_copy(&v, NULL, doc, bytes, n, &err) != CKPT_OK) fail_msg("%s", err.message);
  return v;
}

static void identity_is_kept(void **state) {
  (void)state;
  ckpt_document *doc = document_for(100);
  ckpt_value *v = read_ok(doc, P("](]q\0h\0]e."));
  assert_ptr_equal(ckpt_value_item(v, 0), ckpt_value_item(v, 1));
  assert_ptr_not_equal(ckpt_value_item(v, 0), ckpt_value_item(v, 2));
  v = read_ok(doc, P("]q\0h\0a."));
  assert_ptr_equal(ckpt_value_item(v, 0), v);
  v = read_ok(doc, P("}q\0K\1h\0s."));
  assert_ptr_equal(ckpt_value_pair_value(v, 0), v);
  v = read_ok(doc, P("](NN)(t\x88\x88K\5K\5e.")); /* these have no identity */
  for (size_t i = 0; i < 8; i += 2) assert_ptr_equal(ckpt_value_item(v, i), ckpt_value_item(v, i + 1));
  ckpt_document_release(doc);
}

static void python2_strings_are_marked(void **state) {
  (void)state;
  ckpt_document *doc = document_for(100);
  assert_true(read_ok(doc, P("U\1a."))->bytestring);
  assert_true(read_ok(doc, P("U\1\xff."))->bytestring);
  assert_true(read_ok(doc, P("T\1\0\0\0a."))->bytestring);
  assert_true(read_ok(doc, P("S'a'\n."))->bytestring);
  assert_false(read_ok(doc, P("Va\n."))->bytestring);
  assert_false(read_ok(doc, P("X\1\0\0\0a."))->bytestring);
  assert_false(read_ok(doc, P("C\1a."))->bytestring);
  ckpt_document_release(doc);
}

static void big_integers(void **state) {
  (void)state;
  char bytes[5003] = "\x8b\x86\x13"; /* LONG4 of 4998 bytes */
  ckpt_document *doc = document_for(sizeof bytes + 1);
  size_t n = 0;
  memset(bytes + 5, 0x7e, sizeof bytes - 6);
  bytes[sizeof bytes - 1] = '.';
  bytes[1] = (char)((sizeof bytes - 6) & 0xff);
  bytes[2] = (char)((sizeof bytes - 6) >> 8);
  ckpt_value *v = read_ok(doc, bytes, sizeof bytes);
  assert_int_equal(v->kind, CKPT_BIGINT);
  assert_memory_equal(ckpt_value_text(v, &n), bytes + 5, sizeof bytes - 6);
  assert_int_equal(n, sizeof bytes - 6);
  ckpt_document_release(doc);
}

static void decimal_integers_are_limited(void **state) {
  (void)state;
  char bytes[4400];
  ckpt_document *doc = document_for(sizeof bytes);
  ckpt_value *v = NULL;
  ckpt_error err = {0};
  memset(bytes, '9', sizeof bytes);
  memcpy(bytes, "L-", 2);
  memcpy(bytes + 2 + 4300, "L\n.", 3);
  v = read_ok(doc, bytes, 2 + 4300 + 3);
  assert_int_equal(v->kind, CKPT_BIGINT);
  assert_int_equal(v->as.text.n, 1786); /* ceil((4300 * log2(10) + 1) / 8) */
  memcpy(bytes + 2 + 4300, "9L\n.", 4);
  assert_int_equal(read_copy(&v, NULL, doc, bytes, 2 + 4301 + 3, &err), CKPT_E_LIMIT);
  assert_string_equal(err.message, "data.pkl+0x0: an integer of 4301 digits; at most 4300 are read");
  ckpt_document_release(doc);
}

static void parts_of_objects(void **state) {
  (void)state;
  ckpt_document *doc = document_for(200);
  ckpt_value *v = read_ok(doc, P("cm\nC\nK\1\x85\x81(K\2K\3eK\4K\5sK\6b."));
  assert_int_equal(v->made->how, CKPT_BY_NEWOBJ);
  assert_true(ckpt_value_is_class(ckpt_value_object_class(v), "m", "C"));
  assert_int_equal(ckpt_value_item(ckpt_value_object_args(v), 0)->as.integer, 1);
  assert_int_equal(ckpt_value_count(v), 2);
  assert_int_equal(ckpt_value_item(v, 1)->as.integer, 3);
  assert_int_equal(ckpt_value_pair_count(v), 1);
  assert_int_equal(ckpt_value_pair_value(v, 0)->as.integer, 5);
  assert_int_equal(ckpt_value_object_state(v)->as.integer, 6);
  v = read_ok(doc, P("cm\nC\n)}\x92."));
  assert_int_equal(v->made->how, CKPT_BY_NEWOBJ_EX);
  assert_int_equal(v->made->kwargs->kind, CKPT_DICT);
  v = read_ok(doc, P("(K\7im\nC\n."));
  assert_int_equal(v->made->how, CKPT_BY_REDUCE);
  assert_int_equal(ckpt_value_item(ckpt_value_object_args(v), 0)->as.integer, 7);
  v = read_ok(doc, P("(cm\nC\nK\7K\x08o."));
  assert_int_equal(ckpt_value_count(ckpt_value_object_args(v)), 2);
  ckpt_document_release(doc);
}

/* pickle.py builds an object a second time if its arguments lead back to it: the state is the same, or says the same.
 */
static void built_twice_with_one_state(void **state) {
  static const struct {
    const char *bytes;
    size_t n;
  } same[] = {{P("cm\nC\n)R}q\1bh\1b.")},
              {P("cm\nC\n)RJ\xff\xff\xff\xff"
                 "bI-1\nb.")},
              {P("cm\nC\n)RG12345678"
                 "bG12345678"
                 "b.")},
              {P("cm\nC\n)RU\1abU\1ab.")},
              {P("cm\nC\n)RN}U\1aK\1s\x86"
                 "bN}U\1aK\1s\x86"
                 "b.")}};
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(same); i++) {
    ckpt_document *doc = NULL;
    ckpt_value *v = NULL;
    ckpt_error err = {0};
    assert_int_equal(ckpt_document_new(&doc, NULL), CKPT_OK);
    if (read_copy(&v, NULL, doc, same[i].bytes, same[i].n, &err) != CKPT_OK) fail_msg("%zu: %s", i, err.message);
    assert_non_null(ckpt_value_object_state(v));
    ckpt_document_release(doc);
  }
}

/* A dict in the file may repeat a key; large ones are hashed only when the pickle is done. */
static void large_dicts_are_settled(void **state) {
  (void)state;
  enum { N = 300 };
  char bytes[2 + 2 * 5 * N + 3] = "}(";
  size_t n = 2;
  for (int i = 0; i < 2 * N; i++, n += 5)
    memcpy(bytes + n, ((const char[]){'M', (char)(i % N & 0xff), (char)(i % N >> 8), 'K', (char)(i / N)}), 5);
  memcpy(bytes + n, "u.", 2);
  ckpt_document *doc = document_for(n + 2);
  ckpt_value *v = read_ok(doc, bytes, n + 2), probe = {.kind = CKPT_INT};
  assert_int_equal(ckpt_value_count(v), N);
  for (int i = 0; i < N; i++) {
    probe.as.integer = i;
    assert_int_equal(ckpt_dict_find(v->as.dict, &probe), i);
    assert_int_equal(ckpt_value_pair_value(v, (size_t)i)->as.integer, 1);
  }
  ckpt_document_release(doc);
}

/* ---- memory and depth ---- */

static ckpt_status read_many(const char *before, const char *item, const char *after, size_t count) {
  size_t a = strlen(before), b = strlen(item), c = strlen(after), n = a + b * count + c;
  char *bytes = malloc(n);
  memcpy(bytes, before, a);
  for (size_t i = 0; i < count; i++) memcpy(bytes + a + b * i, item, b);
  memcpy(bytes + n - c, after, c);
  ckpt_document *doc = document_for(n);
  ckpt_value *v = NULL;
  ckpt_error err = {0};
  ckpt_status st = ckpt_pickle_read(&v, NULL, doc, (unsigned char *)bytes, n, "data.pkl", NULL, &err);
  if (st != CKPT_OK) print_message("%.2s: %s\n", item, err.message);
  ckpt_document_release(doc);
  free(bytes);
  return st;
}

/* What a pickler writes must fit the memory that goes with its length, however dense it is. */
static void the_limit_lets_dense_pickles_pass(void **state) {
  (void)state;
  static const char *const items[] = {"N", "]", "\x8f", ")", "K\5", "U\1a", "C\1a", "}\x94", "]\x94", "NN"};
  for (size_t i = 0; i < CKPT_COUNTOF(items); i++) assert_int_equal(read_many("(", items[i], "l.", 200000), CKPT_OK);
  assert_int_equal(read_many("cm\nC\nq\x01(", "h\1)R", "l.", 100000), CKPT_OK);
  assert_int_equal(read_many("(", "NN", "d.", 100000), CKPT_OK);
}

/* pickletools.optimize() takes the memo opcodes away: one byte for an empty dict. */
static void the_limit_lets_empty_dicts_pass(void **state) {
  (void)state;
  assert_int_equal(read_many("(", "}", "l.", 200000), CKPT_OK);
}

static void the_documents_limit_holds(void **state) {
  (void)state;
  ckpt_document *doc = NULL;
  ckpt_value *v = NULL;
  ckpt_error err = {0};
  assert_int_equal(ckpt_document_make(&doc, 112, NULL), CKPT_OK);
  assert_int_equal(read_copy(&v, NULL, doc, P("N]]]l."), &err), CKPT_E_LIMIT);
  assert_string_equal(err.message, "data.pkl+0x3: the objects need more than the 112 bytes allowed for them");
  assert_int_equal(err.position, 3);
  ckpt_document_release(doc);
  assert_true(ckpt_pickle_memory_limit(SIZE_MAX / 2) == SIZE_MAX);
}

enum { DEEP = 1000000 };

static void *read_deep(void *arg) {
  bool *good_ones = arg;
  good_ones[0] = read_many("(", "]((((NN0", "l.", 1) == CKPT_OK; /* the innermost mark only */
  good_ones[1] = read_many("", "]", ".", DEEP) == CKPT_OK;
  good_ones[2] = read_many(")", "\x85", ".", DEEP) == CKPT_OK;
  good_ones[3] = read_many("N", "(", "l.", DEEP) == CKPT_OK;
  return NULL;
}

/* ]]]]...aaaa: a million lists, each in the one before. */
static void *read_nested(void *arg) {
  char *bytes = malloc(2 * DEEP);
  memset(bytes, ']', DEEP);
  memset(bytes + DEEP, 'a', DEEP - 1);
  bytes[2 * DEEP - 1] = '.';
  ckpt_document *doc = NULL;
  ckpt_value *v = NULL;
  size_t depth = 0;
  if (ckpt_document_make(&doc, ckpt_pickle_memory_limit(2 * DEEP), NULL) == CKPT_OK)
    ckpt_pickle_read(&v, NULL, doc, (unsigned char *)bytes, 2 * DEEP, "data.pkl", NULL, NULL);
  for (; v != NULL; v = ckpt_value_item(v, 0)) depth++;
  *(size_t *)arg = depth;
  ckpt_document_release(doc);
  free(bytes);
  return NULL;
}

static void on_a_small_stack(void *(*run)(void *), void *arg) {
  pthread_t thread;
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  assert_int_equal(pthread_attr_setstacksize(&attr, 64 << 10), 0);
  assert_int_equal(pthread_create(&thread, &attr, run, arg), 0);
  pthread_join(thread, NULL);
  pthread_attr_destroy(&attr);
}

static void depth_costs_no_stack(void **state) {
  (void)state;
  bool good_ones[4] = {false};
  size_t depth = 0;
  on_a_small_stack(read_nested, &depth);
  assert_int_equal(depth, DEEP);
  on_a_small_stack(read_deep, good_ones);
  for (int i = 0; i < 4; i++) assert_true(good_ones[i]);
}

/* ---- hooks ---- */

typedef struct seen {
  int persids, built;
  int refuse_at; /* the call that fails, counted from 1; 0: none */
} seen;

static ckpt_status note(seen *s, int *counter, ckpt_value *v, ckpt_error *err) {
  assert_int_equal(v->kind, CKPT_OBJECT);
  ++*counter;
  if (s->persids + s->built == s->refuse_at) return ckpt_fail(err, CKPT_E_TYPE, -1, "not this one");
  return CKPT_OK;
}

static ckpt_status on_persid(void *context, ckpt_value *v, ckpt_error *err) {
  seen *s = context;
  assert_int_equal(v->made->how, CKPT_BY_PERSID);
  assert_non_null(v->made->args);
  return note(s, &s->persids, v, err);
}

/* Makes an integer of the object, as the torch builder makes tensors. */
static ckpt_status on_built(void *context, ckpt_value *v, ckpt_error *err) {
  seen *s = context;
  assert_int_not_equal(v->made->how, CKPT_BY_PERSID);
  CKPT_TRY(note(s, &s->built, v, err));
  v->kind = CKPT_INT;
  v->as.integer = 100 + s->built;
  return CKPT_OK;
}

static const char hooked[] = "](P1\nK\1\x85Qcm\nC\n)Rcm\nC\n)\x81(im\nC\n(cm\nC\noe.";

static void hooks_see_every_object(void **state) {
  (void)state;
  seen s = {0};
  ckpt_pickle_hooks hooks = {.context = &s, .persid = on_persid, .built = on_built};
  ckpt_document *doc = document_for(sizeof hooked);
  ckpt_value *v = NULL;
  ckpt_error err = {0};
  ckpt_status st = ckpt_pickle_read(&v, NULL, doc, (const unsigned char *)hooked, sizeof hooked - 1, "x", &hooks, &err);
  assert_string_equal(err.message, "");
  assert_int_equal(st, CKPT_OK);
  assert_int_equal(s.persids, 2);
  assert_int_equal(s.built, 4);
  assert_int_equal(ckpt_value_count(v), 6);
  for (size_t i = 2; i < 6; i++) assert_int_equal(ckpt_value_item(v, i)->as.integer, 99 + i);
  ckpt_document_release(doc);
}

static void a_hooks_error_gets_the_position(void **state) {
  (void)state;
  static const size_t positions[] = {2, 8, 15, 22, 24, 35};
  for (int k = 0; k < 6; k++) {
    seen s = {.refuse_at = k + 1};
    ckpt_pickle_hooks hooks = {.context = &s, .persid = on_persid, .built = on_built};
    ckpt_document *doc = document_for(sizeof hooked);
    ckpt_value *v = NULL;
    ckpt_error err = {0};
    char wanted[60];
    snprintf(wanted, sizeof wanted, "x+0x%zx: not this one", positions[k]);
    assert_int_equal(
        ckpt_pickle_read(&v, NULL, doc, (const unsigned char *)hooked, sizeof hooked - 1, "x", &hooks, &err),
        CKPT_E_TYPE);
    assert_string_equal(err.message, wanted);
    assert_int_equal(err.position, positions[k]);
    assert_int_equal(s.persids + s.built, k + 1);
    assert_null(v);
    ckpt_document_release(doc);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_opcode_has_a_row),
      cmocka_unit_test(every_opcode),
      cmocka_unit_test(cut_at_every_length),
      cmocka_unit_test(changed_at_every_byte),
      cmocka_unit_test(refused_with_words_and_byte),
      cmocka_unit_test(a_float_has_no_nul),
      cmocka_unit_test(unknown_opcodes),
      cmocka_unit_test(what_follows_stop_is_not_read),
      cmocka_unit_test(identity_is_kept),
      cmocka_unit_test(python2_strings_are_marked),
      cmocka_unit_test(big_integers),
      cmocka_unit_test(decimal_integers_are_limited),
      cmocka_unit_test(parts_of_objects),
      cmocka_unit_test(built_twice_with_one_state),
      cmocka_unit_test(large_dicts_are_settled),
      cmocka_unit_test(the_limit_lets_dense_pickles_pass),
      cmocka_unit_test(the_limit_lets_empty_dicts_pass),
      cmocka_unit_test(the_documents_limit_holds),
      cmocka_unit_test(depth_costs_no_stack),
      cmocka_unit_test(hooks_see_every_object),
      cmocka_unit_test(a_hooks_error_gets_the_position),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
