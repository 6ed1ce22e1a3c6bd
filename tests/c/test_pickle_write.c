/*
 * test_pickle_write.c - values to protocol 2, byte for byte. What stands here as expected was written by CPython 3.11
 * and PyTorch 1.13, or is put together by the rules of the format where it is long.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "pickle_read.h"
#include "pickle_write.h"

#define P(literal) (literal), sizeof(literal) - 1
#define DIMS(...) ((const int64_t[]){__VA_ARGS__})

static int set_up(void **state) { return ckpt_document_new((ckpt_document **)state, NULL) != CKPT_OK; }

static int tear_down(void **state) {
  ckpt_document_release(*state);
  return 0;
}

static ckpt_value *read_bytes(ckpt_document *doc, const void *bytes, size_t n) {
  ckpt_value *v = NULL;
  ckpt_error err = {0};
  if (ckpt_pickle_read(&v, NULL, doc, bytes, n, "data.pkl", NULL, &err) != CKPT_OK) fail_msg("%s", err.message);
  return v;
}

static ckpt_pickle written(const ckpt_value *v) {
  ckpt_pickle p = {0};
  ckpt_error err = {0};
  if (ckpt_pickle_write(&p, v, &err) != CKPT_OK) fail_msg("%s", err.message);
  return p;
}

static void print_bytes(const char *what, const unsigned char *bytes, size_t n) {
  print_message("%s:", what);
  for (size_t i = 0; i < n; i++) print_message(bytes[i] > 32 && bytes[i] < 127 ? " %c" : " %02x", bytes[i]);
  print_message("\n");
}

static bool writes(const ckpt_value *v, const void *bytes, size_t n) {
  ckpt_pickle p = written(v);
  bool same = p.n == n && memcmp(p.bytes, bytes, n) == 0;
  if (!same && n < 2000) print_bytes("wanted", bytes, n);
  if (!same && p.n < 2000) print_bytes("got   ", p.bytes, p.n);
  ckpt_pickle_free(&p);
  return same;
}

/* ---- what was read, written ---- */

typedef struct row {
  const char *name, *in;
  size_t in_n;
  const char *out; /* pickle.dumps(pickle.loads(in), 2) */
  size_t out_n;
} row;

static const row rows[] = {
    {"int", P("\x80\x04K\x00."), P("\x80\x02K\x00.")},
    {"int", P("\x80\x04K\xff."), P("\x80\x02K\xff.")},
    {"int", P("\x80\x04\x95\x04\x00\x00\x00\x00\x00\x00\x00M\x00\x01."), P("\x80\x02M\x00\x01.")},
    {"int", P("\x80\x04\x95\x04\x00\x00\x00\x00\x00\x00\x00M\xff\xff."), P("\x80\x02M\xff\xff.")},
    {"int", P("\x80\x04\x95\x06\x00\x00\x00\x00\x00\x00\x00J\x00\x00\x01\x00."), P("\x80\x02J\x00\x00\x01\x00.")},
    {"int", P("\x80\x04\x95\x06\x00\x00\x00\x00\x00\x00\x00J\xff\xff\xff\x7f."), P("\x80\x02J\xff\xff\xff\x7f.")},
    {"int", P("\x80\x04\x95\x08\x00\x00\x00\x00\x00\x00\x00\x8a\x05\x00\x00\x00\x80\x00."),
     P("\x80\x02\x8a\x05\x00\x00\x00\x80\x00.")},
    {"int", P("\x80\x04\x95\x06\x00\x00\x00\x00\x00\x00\x00J\xff\xff\xff\xff."), P("\x80\x02J\xff\xff\xff\xff.")},
    {"int", P("\x80\x04\x95\x06\x00\x00\x00\x00\x00\x00\x00J\x00\x00\x00\x80."), P("\x80\x02J\x00\x00\x00\x80.")},
    {"int", P("\x80\x04\x95\x08\x00\x00\x00\x00\x00\x00\x00\x8a\x05\xff\xff\xff\x7f\xff."),
     P("\x80\x02\x8a\x05\xff\xff\xff\x7f\xff.")},
    {"int", P("\x80\x04\x95\x09\x00\x00\x00\x00\x00\x00\x00\x8a\x06\x00\x00\x00\x00\x00\x01."),
     P("\x80\x02\x8a\x06\x00\x00\x00\x00\x00\x01.")},
    {"int", P("\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f."),
     P("\x80\x02\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f.")},
    {"int", P("\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80."),
     P("\x80\x02\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80.")},
    {"int",
     P("\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\x00"
       "."),
     P("\x80\x02\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\x00.")},
    {"int",
     P("\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8a\x09\xff\xff\xff\xff\xff\xff\xff\x7f\xff"
       "."),
     P("\x80\x02\x8a\x09\xff\xff\xff\xff\xff\xff\xff\x7f\xff.")},
    {"none", P("\x80\x04N."), P("\x80\x02N.")},
    {"true", P("\x80\x04\x88."), P("\x80\x02\x88.")},
    {"float", P("\x80\x04\x95\n\x00\x00\x00\x00\x00\x00\x00G\xc0\x04\x00\x00\x00\x00\x00\x00."),
     P("\x80\x02G\xc0\x04\x00\x00\x00\x00\x00\x00.")},
    {"str", P("\x80\x04\x95\x07\x00\x00\x00\x00\x00\x00\x00\x8c\x03h\xc3\xa9\x94."),
     P("\x80\x02X\x03\x00\x00\x00h\xc3\xa9q\x00.")},
    {"empty str", P("\x80\x04\x95\x04\x00\x00\x00\x00\x00\x00\x00\x8c\x00\x94."), P("\x80\x02X\x00\x00\x00\x00q\x00.")},
    {"bytes",
     P("\x80\x04\x95\x07\x00\x00\x00\x00\x00\x00\x00"
       "C\x03\xff\x00"
       "a\x94."),
     P("\x80\x02"
       "c_codecs\nencode\nq\x00X\x04\x00\x00\x00\xc3\xbf\x00"
       "aq\x01X\x06\x00\x00\x00l"
       "atin1q\x02\x86q\x03Rq\x04.")},
    {"empty bytes",
     P("\x80\x04\x95\x04\x00\x00\x00\x00\x00\x00\x00"
       "C\x00\x94."),
     P("\x80\x02"
       "c__builtin__\nbytes\nq\x00)Rq\x01.")},
    {"bytearray",
     P("\x80\x05\x95\x0d\x00\x00\x00\x00\x00\x00\x00\x96\x02\x00\x00\x00\x00\x00\x00\x00"
       "ab\x94"
       "."),
     P("\x80\x02"
       "c__builtin__\nbytearray\nq\x00"
       "c_codecs\nencode\nq\x01X\x02\x00\x00\x00"
       "abq"
       "\x02X\x06\x00\x00\x00latin1q\x03\x86q\x04Rq\x05\x85q\x06Rq\x07.")},
    {"set of 2", P("\x80\x04\x95\x09\x00\x00\x00\x00\x00\x00\x00\x8f\x94(K\x01K\x02\x90."),
     P("\x80\x02"
       "c__builtin__\nset\nq\x00]q\x01(K\x01K\x02"
       "e\x85q\x02Rq\x03.")},
    {"empty set", P("\x80\x04\x8f\x94."),
     P("\x80\x02"
       "c__builtin__\nset\nq\x00]q\x01\x85q\x02Rq\x03.")},
    {"frozenset", P("\x80\x04\x95\x08\x00\x00\x00\x00\x00\x00\x00(K\x01K\x02\x91\x94."),
     P("\x80\x02"
       "c__builtin__\nfrozenset\nq\x00]q\x01(K\x01K\x02"
       "e\x85q\x02Rq\x03.")},
    {"empty frozenset", P("\x80\x04\x95\x04\x00\x00\x00\x00\x00\x00\x00(\x91\x94."),
     P("\x80\x02"
       "c__builtin__\nfrozenset\nq\x00]q\x01\x85q\x02Rq\x03.")},
    {"tuples",
     P("\x80\x04\x95\"\x00\x00\x00\x00\x00\x00\x00()K\x01\x85\x94K\x01K\x02\x86\x94K\x01K\x02K"
       "\x03\x87\x94(K\x01K\x02K\x03K\x04t\x94t\x94."),
     P("\x80\x02()K\x01\x85q\x00K\x01K\x02\x86q\x01K\x01K\x02K\x03\x87q\x02(K\x01K\x02K\x03K\x04"
       "tq\x03tq\x04.")},
    {"lists",
     P("\x80\x04\x95\x14\x00\x00\x00\x00\x00\x00\x00]\x94(]\x94]\x94K\x01"
       "a]\x94(K\x01K\x02"
       "ee"
       "."),
     P("\x80\x02]q\x00(]q\x01]q\x02K\x01"
       "a]q\x03(K\x01K\x02"
       "ee.")},
    {"dicts",
     P("\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00]\x94(}\x94}\x94K\x01K\x02s}\x94(K\x01K\x02K"
       "\x03K\x04ue."),
     P("\x80\x02]q\x00(}q\x01}q\x02K\x01K\x02s}q\x03(K\x01K\x02K\x03K\x04ue.")},
    {"sharing",
     P("\x80\x04\x95\x11\x00\x00\x00\x00\x00\x00\x00]\x94(]\x94h\x01\x8c\x01x\x94\x85\x94h\x02"
       "e."),
     P("\x80\x02]q\x00(]q\x01h\x01X\x01\x00\x00\x00xq\x02\x85q\x03h\x02"
       "e.")},
    {"bytes twice",
     P("\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00]\x94(C\x02zz\x94h\x01"
       "e."),
     P("\x80\x02]q\x00(c_codecs\nencode\nq\x01X\x02\x00\x00\x00zzq\x02X\x06\x00\x00\x00latin1q"
       "\x03\x86q\x04Rq\x05h\x05"
       "e.")},
    {"list in itself",
     P("\x80\x04\x95\x06\x00\x00\x00\x00\x00\x00\x00]\x94h\x00"
       "a."),
     P("\x80\x02]q\x00h\x00"
       "a.")},
    {"dict in itself", P("\x80\x04\x95\x08\x00\x00\x00\x00\x00\x00\x00}\x94K\x01h\x00s."),
     P("\x80\x02}q\x00K\x01h\x00s.")},
    {"tuple by list",
     P("\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00]\x94h\x00\x85\x94"
       "a0h\x01."),
     P("\x80\x02]q\x00h\x00\x85q\x01"
       "a0h\x01.")},
    {"tuple2 by list",
     P("\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00]\x94h\x00K\x01\x86\x94"
       "aK\x01"
       "00h\x01."),
     P("\x80\x02]q\x00h\x00K\x01\x86q\x01"
       "aK\x01"
       "00h\x01.")},
    {"tuple4 by list",
     P("\x80\x04\x95\x19\x00\x00\x00\x00\x00\x00\x00(]\x94(h\x00K\x01K\x02K\x03t\x94"
       "aK\x01K"
       "\x02K\x03"
       "1h\x01."),
     P("\x80\x02(]q\x00(h\x00K\x01K\x02K\x03tq\x01"
       "aK\x01K\x02K\x03"
       "1h\x01.")},
    {"ordered",
     P("\x80\x02"
       "ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00"
       "aq\x02K\x01X\x01"
       "\x00\x00\x00"
       "bq\x03K\x02u."),
     P("\x80\x02"
       "ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00"
       "aq\x02K\x01X\x01"
       "\x00\x00\x00"
       "bq\x03K\x02u.")},
    {"ordered1",
     P("\x80\x02"
       "ccollections\nOrderedDict\nq\x00)Rq\x01X\x01\x00\x00\x00"
       "aq\x02K\x01s."),
     P("\x80\x02"
       "ccollections\nOrderedDict\nq\x00)Rq\x01X\x01\x00\x00\x00"
       "aq\x02K\x01s.")},
    {"complex",
     P("\x80\x02"
       "c__builtin__\ncomplex\nq\x00G?\xf0\x00\x00\x00\x00\x00\x00G@\x00\x00\x00\x00"
       "\x00\x00\x00\x86q\x01Rq\x02."),
     P("\x80\x02"
       "c__builtin__\ncomplex\nq\x00G?\xf0\x00\x00\x00\x00\x00\x00G@\x00\x00\x00\x00"
       "\x00\x00\x00\x86q\x01Rq\x02.")},
    {"namespace",
     P("\x80\x02"
       "cargparse\nNamespace\nq\x00)\x81q\x01}q\x02X\x02\x00\x00\x00lrq\x03K\x01sb."),
     P("\x80\x02"
       "cargparse\nNamespace\nq\x00)\x81q\x01}q\x02X\x02\x00\x00\x00lrq\x03K\x01sb.")},
    {"defaultdict",
     P("\x80\x02"
       "ccollections\ndefaultdict\nq\x00"
       "c__builtin__\nlist\nq\x01\x85q\x02Rq\x03(K"
       "\x01]q\x04K\x02"
       "aK\x03]q\x05u."),
     P("\x80\x02"
       "ccollections\ndefaultdict\nq\x00"
       "c__builtin__\nlist\nq\x01\x85q\x02Rq\x03(K"
       "\x01]q\x04K\x02"
       "aK\x03]q\x05u.")},
    {"deque",
     P("\x80\x02"
       "ccollections\ndeque\nq\x00)K\x05\x86q\x01Rq\x02(K\x01K\x02"
       "e."),
     P("\x80\x02"
       "ccollections\ndeque\nq\x00)K\x05\x86q\x01Rq\x02(K\x01K\x02"
       "e.")},
    {"class",
     P("\x80\x02]q\x00(ccollections\nOrderedDict\nq\x01h\x01"
       "cargparse\nNamespace\nq\x02"
       "e."),
     P("\x80\x02]q\x00(ccollections\nOrderedDict\nq\x01h\x01"
       "cargparse\nNamespace\nq\x02"
       "e.")},
    {"range",
     P("\x80\x02"
       "c__builtin__\nxrange\nq\x00K\x00K\x03K\x01\x87q\x01Rq\x02."),
     P("\x80\x02"
       "c__builtin__\nxrange\nq\x00K\x00K\x03K\x01\x87q\x01Rq\x02.")},
    {"bytearray p2",
     P("\x80\x02"
       "c__builtin__\nbytearray\nq\x00"
       "c_codecs\nencode\nq\x01X\x02\x00\x00\x00"
       "abq"
       "\x02X\x06\x00\x00\x00latin1q\x03\x86q\x04Rq\x05\x85q\x06Rq\x07."),
     P("\x80\x02"
       "c__builtin__\nbytearray\nq\x00"
       "c_codecs\nencode\nq\x01X\x02\x00\x00\x00"
       "abq"
       "\x02X\x06\x00\x00\x00latin1q\x03\x86q\x04Rq\x05\x85q\x06Rq\x07.")},
    {"set p2",
     P("\x80\x02"
       "c__builtin__\nset\nq\x00]q\x01(K\x01K\x02"
       "e\x85q\x02Rq\x03."),
     P("\x80\x02"
       "c__builtin__\nset\nq\x00]q\x01(K\x01K\x02"
       "e\x85q\x02Rq\x03.")},
    {"names with dots",
     P("\x80\x04]\x94(\x8c\x01m\x94\x8c\x05"
       "A.B.C\x94\x93\x94h\x03h\x01\x8c\x03"
       "A.B\x94\x93\x94"
       "e."),
     P("\x80\x02]q\x00(c__builtin__\ngetattr\nq\x01h\x01"
       "cm\nA\nq\x02X\x01\x00\x00\x00"
       "Bq\x03\x86q\x04Rq\x05X\x01\x00\x00\x00"
       "Cq\x06\x86q\x07Rq\x08h\x08h\x01h\x02X\x01\x00\x00\x00"
       "Bq\x09\x86q\x0aRq\x0b"
       "e.")},
    {"items, and arguments that lead back",
     P("\x80\x02"
       "cm\nI\nq\x00]q\x01h\x00h\x01\x85q\x02Rq\x03(K\x07h\x01"
       "ea0h\x02R0h\x03."),
     P("\x80\x02"
       "cm\nI\nq\x00]q\x01h\x00h\x01\x85q\x02Rq\x03(K\x07h\x01"
       "ea0h\x02R0h\x03.")},
    {"set that leads back to itself", /* CPython makes the outer tuple anew where h\x07 is */
     P("\x80\x02"
       "c__builtin__\nset\nq\x00]q\x01"
       "cm\nN\nq\x02)\x81q\x03}q\x04X\x01\x00\x00\x00sq\x05h\x00]q\x06h\x03"
       "a\x85q\x07Rq\x08s"
       "ba\x85q\x09R0h\x08."),
     P("\x80\x02"
       "c__builtin__\nset\nq\x00]q\x01"
       "cm\nN\nq\x02)\x81q\x03}q\x04X\x01\x00\x00\x00sq\x05h\x00]q\x06h\x03"
       "a\x85q\x07Rq\x08s"
       "ba0h\x07R0h\x08.")},
    {"object in itself",
     P("\x80\x02"
       "cargparse\nNamespace\nq\x00)\x81q\x01}q\x02(X\x02\x00\x00\x00meq\x03h\x01X\x01"
       "\x00\x00\x00sq\x04]q\x05h\x01"
       "aub."),
     P("\x80\x02"
       "cargparse\nNamespace\nq\x00)\x81q\x01}q\x02(X\x02\x00\x00\x00meq\x03h\x01X\x01"
       "\x00\x00\x00sq\x04]q\x05h\x01"
       "aub.")},
};

/* Small things where CPython goes another way. */
static const row odd_rows[] = {
    {"set of 1", P("\x80\x04\x95\x07\x00\x00\x00\x00\x00\x00\x00\x8f\x94(K\x01\x90."),
     P("\x80\x02"
       "c__builtin__\nset\nq\x00]q\x01K\x01"
       "a\x85q\x02Rq\x03.")},
    {"frozenset of 1", P("\x80\x04\x95\x06\x00\x00\x00\x00\x00\x00\x00(K\x01\x91\x94."),
     P("\x80\x02"
       "c__builtin__\nfrozenset\nq\x00]q\x01K\x01"
       "a\x85q\x02Rq\x03.")},
    {"empty bytearray", P("\x80\x05\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x96\x00\x00\x00\x00\x00\x00\x00\x00\x94."),
     P("\x80\x02"
       "c__builtin__\nbytearray\nq\x00)Rq\x01.")},
};

static void check_row(const row *r) {
  ckpt_document *doc = NULL;
  assert_int_equal(ckpt_document_new(&doc, NULL), CKPT_OK);
  bool once = writes(read_bytes(doc, r->in, r->in_n), r->out, r->out_n);
  bool again =
      writes(read_bytes(doc, r->out, r->out_n), r->out, r->out_n); /* what was written is read and written alike */
  ckpt_document_release(doc);
  if (!once || !again) fail_msg("%s: other bytes", r->name);
}

static void as_cpython_writes_it(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(rows); i++) check_row(&rows[i]);
}

static void as_cpython_writes_sets_of_one(void **state) {
  (void)state;
  check_row(&odd_rows[0]);
  check_row(&odd_rows[1]);
}

static void as_cpython_writes_an_empty_bytearray(void **state) {
  (void)state;
  check_row(&odd_rows[2]);
}

/* The list behind a set goes out in batches of 1000, as any list does. */
static void sets_in_batches(void **state) {
  unsigned char in[2100] = "\x8f(", *to = in + 2;
  ckpt_document *doc = *state;
  for (int i = 0; i < 1001; i++, to += 2) memcpy(to, "K\1", 2);
  memcpy(to, "\x90.", 2);
  ckpt_pickle p = written(read_bytes(doc, in, 2006));
  assert_int_equal(p.n, 25 + 2000 + 12);
  assert_memory_equal(p.bytes + 21, "]q\1(K\1K\1", 8);
  assert_memory_equal(p.bytes + 25 + 2000, "e(K\1e\x85q\2Rq\3.", 12);
  ckpt_pickle_free(&p);
}

/* A Python 2 str stays one: U and T, in the length that fits. */
static void python2_strings(void **state) {
  char bytes[400] = "T\x2c\x01\0", wanted[400] = "\x80\x02T\x2c\x01\0";
  memset(bytes + 5, '\xfe', 300);
  bytes[305] = '.';
  memset(wanted + 7, '\xfe', 300);
  memcpy(wanted + 307, "q\0.", 3);
  assert_true(writes(read_bytes(*state, bytes, 306), wanted, 310));
  assert_true(writes(read_bytes(*state, P("T\2\0\0\0\xff\xfe.")), P("\x80\2U\2\xff\xfeq\0.")));
  assert_true(writes(read_bytes(*state, P("S'a'\n.")), P("\x80\2U\1aq\0.")));
}

static void long_integers(void **state) {
  char in[300] = "\x8b\x00\x01\0", out[300] = "\x80\x02\x8b\x00\x01\0";
  memset(in + 5, 1, 256);
  in[261] = '.';
  memset(out + 7, 1, 256);
  out[263] = '.';
  assert_true(writes(read_bytes(*state, in, 262), out, 264)); /* 256 bytes: LONG4 */
  memcpy(in, "\x8a\xff", 2);
  memset(in + 2, 1, 255);
  in[257] = '.';
  memcpy(out, "\x80\x02\x8a\xff", 4);
  memset(out + 4, 1, 255);
  out[259] = '.';
  assert_true(writes(read_bytes(*state, in, 258), out, 260)); /* 255 bytes: LONG1 */
}

/* ---- built by a program ---- */

static ckpt_value *make(ckpt_document *doc, ckpt_kind kind) {
  ckpt_value *v = ckpt_value_make(doc, kind, NULL);
  assert_non_null(v);
  return v;
}

static ckpt_value *integer(ckpt_document *doc, int64_t i) {
  ckpt_value *v = NULL;
  assert_int_equal(ckpt_value_new_int(&v, doc, i, NULL), CKPT_OK);
  return v;
}

static void append(ckpt_value *list, ckpt_document *doc, ckpt_value *item) {
  assert_int_equal(ckpt_value_append(list, doc, item, NULL), CKPT_OK);
}

/* list(range(n)): an exact list keeps the mark in every batch unless it has one item in all. */
static size_t expect_list(unsigned char *out, int n) {
  size_t at = 5;
  memcpy(out, "\x80\2]q\0", 5);
  for (int i = 0; i < n; i++) {
    if (i % 1000 == 0 && n > 1) out[at++] = '(';
    out[at++] = 'K';
    out[at++] = (unsigned char)i;
    if (n > 1 && (i % 1000 == 999 || i == n - 1)) out[at++] = 'e';
  }
  if (n == 1) out[at++] = 'a';
  out[at++] = '.';
  return at;
}

static void batches_of_lists(void **state) {
  static const int sizes[] = {0, 1, 2, 999, 1000, 1001, 1002, 2000, 2001};
  static unsigned char wanted[10000];
  ckpt_document *doc = *state;
  for (size_t i = 0; i < CKPT_COUNTOF(sizes); i++) {
    ckpt_value *list = make(doc, CKPT_LIST);
    for (int k = 0; k < sizes[i]; k++) append(list, doc, integer(doc, k & 255));
    assert_true(writes(list, wanted, expect_list(wanted, sizes[i])));
  }
}

/* {i + 257: 0}, each key in two bytes: an exact dict as a list; what Python iterates over ends with SETITEM when one
 * pair is left. */
static size_t expect_dict(unsigned char *out, int n, bool ordered) {
  static const char dict[] = "\x80\2}q\0", ordered_dict[] =
                                               "\x80\2"
                                               "ccollections\nOrderedDict\nq\0)Rq\1";
  size_t at = ordered ? sizeof ordered_dict - 1 : sizeof dict - 1;
  memcpy(out, ordered ? ordered_dict : dict, at);
  for (int i = 0; i < n; i++) {
    bool alone = (ordered && i % 1000 == 0 && i == n - 1) || n == 1;
    if (i % 1000 == 0 && !alone) out[at++] = '(';
    memcpy(out + at, ((const unsigned char[]){'M', (unsigned char)(i + 257), (unsigned char)((i + 257) >> 8), 'K', 0}),
           5);
    at += 5;
    if (i % 1000 == 999 || i == n - 1) out[at++] = alone ? 's' : 'u';
  }
  out[at++] = '.';
  return at;
}

static void batches_of_dicts(void **state) {
  static const int sizes[] = {0, 1, 2, 999, 1000, 1001, 1002, 2000, 2001};
  static unsigned char wanted[20000];
  ckpt_document *doc = *state;
  for (size_t i = 0; i < 2 * CKPT_COUNTOF(sizes); i++) {
    int n = sizes[i / 2];
    ckpt_value *dict = NULL, *zero = integer(doc, 0);
    assert_int_equal(ckpt_value_new_dict(&dict, doc, i % 2 == 1, NULL), CKPT_OK);
    for (int k = 0; k < n; k++)
      assert_int_equal(ckpt_dict_put(dict->as.dict, doc, integer(doc, k + 257), zero, NULL), CKPT_OK);
    size_t length = expect_dict(wanted, n, i % 2 == 1);
    assert_true(writes(dict, wanted, length));
  }
}

static void metadata_of_an_ordered_dict(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *dict = NULL;
  assert_int_equal(ckpt_value_new_dict(&dict, doc, true, NULL), CKPT_OK);
  assert_int_equal(ckpt_value_set(dict, doc, "a", integer(doc, 1), NULL), CKPT_OK);
  dict->as.dict->state = make(doc, CKPT_DICT);
  ckpt_pickle p = written(dict);
  ckpt_value *back = read_bytes(doc, p.bytes, p.n);
  ckpt_pickle_free(&p);
  assert_int_equal(ckpt_value_object_state(back)->kind, CKPT_DICT);
  assert_int_equal(ckpt_value_pair_count(back), 1);
}

/* 300 strings, then the first and the last again: memo numbers of one byte and of four. */
static void the_memo_grows_beyond_a_byte(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *list = make(doc, CKPT_LIST), *texts[300];
  for (int i = 0; i < 300; i++) {
    assert_int_equal(ckpt_value_new_str(&texts[i], doc, "x", 1, NULL), CKPT_OK);
    append(list, doc, texts[i]);
  }
  append(list, doc, texts[0]);
  append(list, doc, texts[254]);
  append(list, doc, texts[255]);
  append(list, doc, texts[299]);
  ckpt_pickle p = written(list);
  static const char tail[] =
      "r\x2c\1\0\0h\1h\xff"
      "j\0\1\0\0j\x2c\1\0\0e.";
  assert_memory_equal(p.bytes + p.n - (sizeof tail - 1), tail, sizeof tail - 1);
  ckpt_value *back = read_bytes(doc, p.bytes, p.n);
  ckpt_pickle_free(&p);
  assert_int_equal(ckpt_value_count(back), 304);
  assert_ptr_equal(ckpt_value_item(back, 303), ckpt_value_item(back, 299));
  assert_ptr_not_equal(ckpt_value_item(back, 0), ckpt_value_item(back, 1));
}

/* ---- tensors ---- */

static ckpt_value *tensor_value(ckpt_document *doc, ckpt_tensor *t) {
  ckpt_value *v = NULL;
  assert_int_equal(ckpt_value_new_tensor(&v, doc, t, NULL), CKPT_OK);
  ckpt_tensor_release(t);
  return v;
}

static ckpt_tensor *fresh(ckpt_dtype dtype, int ndim, const int64_t *shape) {
  ckpt_tensor *t = NULL;
  assert_int_equal(ckpt_tensor_new(&t, dtype, ndim, shape, NULL), CKPT_OK);
  return t;
}

static ckpt_tensor *view(const ckpt_tensor *base, int64_t offset, int ndim, const int64_t *shape,
                         const int64_t *stride) {
  ckpt_tensor *t = NULL;
  assert_int_equal(ckpt_tensor_view(&t, base, offset, ndim, shape, stride, NULL), CKPT_OK);
  return t;
}

/* {'a': torch.arange(6.).reshape(2, 3)}, the example of torch-format.md 2.2 */
static const char example[] =
    "\x80\x02\x7d\x71\x00\x58\x01\0\0\0\x61\x71\x01"
    "ctorch._utils\n_rebuild_tensor_v2\n"
    "\x71\x02\x28\x28\x58\x07\0\0\0storage\x71\x03"
    "ctorch\nFloatStorage\n"
    "\x71\x04\x58\x01\0\0\0"
    "0\x71\x05\x58\x03\0\0\0"
    "cpu\x71\x06\x4b\x06\x74\x71\x07\x51\x4b\x00\x4b\x02\x4b\x03\x86\x71\x08\x4b\x03\x4b\x01\x86\x71\x09\x89"
    "ccollections\nOrderedDict\n"
    "\x71\x0a\x29\x52\x71\x0b\x74\x71\x0c\x52\x71\x0d\x73\x2e";

static void the_example_of_the_format(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *dict = make(doc, CKPT_DICT);
  ckpt_tensor *t = fresh(CKPT_F32, 2, DIMS(2, 3));
  assert_int_equal(sizeof example - 1, 166);
  assert_int_equal(ckpt_value_set(dict, doc, "a", tensor_value(doc, t), NULL), CKPT_OK);
  ckpt_pickle p = written(dict);
  assert_int_equal(p.n, 166);
  assert_memory_equal(p.bytes, example, 166);
  assert_int_equal(p.n_storages, 1);
  assert_ptr_equal(p.storages[0], ckpt_tensor_storage(t));
  ckpt_pickle_free(&p);
  assert_null(p.bytes);
}

/* OrderedDict(w=t, v=t[1:], s=tensor(7), h=empty(0, 3, bfloat16), again=t, t=t.t()) */
static const char ordered_pickle[] =
    "\x80\x02"
    "ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00wq\x02"
    "ctorch._utils"
    "\n_rebuild_tensor_v2\nq\x03((X\x07\x00\x00\x00storageq\x04"
    "ctorch\nFloatStorage\nq\x05X"
    "\x01\x00\x00\x00"
    "0q\x06X\x03\x00\x00\x00"
    "cpuq\x07K\x06tq\x08QK\x00K\x02K\x03\x86q\x09K"
    "\x03K\x01\x86q\n\x89h\x00)Rq\x0btq\x0cRq\x0dX\x01\x00\x00\x00vq\x0eh\x03((h\x04h\x05h"
    "\x06h\x07K\x06tq\x0fQK\x03K\x01K\x03\x86q\x10K\x03K\x01\x86q\x11\x89h\x00)Rq\x12tq\x13Rq"
    "\x14X\x01\x00\x00\x00sq\x15h\x03((h\x04"
    "ctorch\nLongStorage\nq\x16X\x01\x00\x00\x00"
    "1q"
    "\x17h\x07K\x01tq\x18QK\x00))\x89h\x00)Rq\x19tq\x1aRq\x1bX\x01\x00\x00\x00hq\x1ch\x03((h"
    "\x04"
    "ctorch\nBFloat16Storage\nq\x1dX\x01\x00\x00\x00"
    "2q\x1eh\x07K\x00tq\x1fQK\x00K\x00"
    "K\x03\x86q K\x03K\x01\x86q!\x89h\x00)Rq\"tq#Rq$X\x05\x00\x00\x00"
    "againq%h\x0dX\x01\x00"
    "\x00\x00tq&h\x03((h\x04h\x05h\x06h\x07K\x06tq'QK\x00K\x03K\x02\x86q(K\x01K\x03\x86q)\x89"
    "h\x00)Rq*tq+Rq,u.";

static void tensors_that_share(void **state) {
  ckpt_document *doc = *state;
  ckpt_value *dict = NULL;
  ckpt_tensor *t = fresh(CKPT_F32, 2, DIMS(2, 3)), *s = fresh(CKPT_I64, 0, NULL);
  assert_int_equal(ckpt_value_new_dict(&dict, doc, true, NULL), CKPT_OK);
  struct {
    const char *key;
    ckpt_tensor *t;
  } pairs[] = {{"w", ckpt_tensor_retain(t)},     {"v", view(t, 3, 2, DIMS(1, 3), DIMS(3, 1))},
               {"s", ckpt_tensor_retain(s)},     {"h", fresh(CKPT_BF16, 2, DIMS(0, 3))},
               {"again", ckpt_tensor_retain(t)}, {"t", view(t, 0, 2, DIMS(3, 2), DIMS(1, 3))}};
  for (size_t i = 0; i < CKPT_COUNTOF(pairs); i++)
    assert_int_equal(ckpt_value_set(dict, doc, pairs[i].key, tensor_value(doc, pairs[i].t), NULL), CKPT_OK);
  assert_true(writes(dict, P(ordered_pickle)));
  ckpt_pickle p = written(dict);
  assert_int_equal(p.n_storages, 3);
  assert_ptr_equal(p.storages[1], ckpt_tensor_storage(s));
  ckpt_pickle_free(&p);
  ckpt_tensor_release(t);
  ckpt_tensor_release(s);
}

/* [ones(2, requires_grad=True), zeros(1, 2, 1, 3, dtype=bool)] */
static const char grad_pickle[] =
    "\x80\x02]q\x00(ctorch._utils\n_rebuild_tensor_v2\nq\x01((X\x07\x00\x00\x00storageq\x02"
    "ctorch\nFloatStorage\nq\x03X\x01\x00\x00\x00"
    "0q\x04X\x03\x00\x00\x00"
    "cpuq\x05K\x02tq"
    "\x06QK\x00K\x02\x85q\x07K\x01\x85q\x08\x88"
    "ccollections\nOrderedDict\nq\x09)Rq\ntq\x0bR"
    "q\x0ch\x01((h\x02"
    "ctorch\nBoolStorage\nq\x0dX\x01\x00\x00\x00"
    "1q\x0eh\x05K\x06tq\x0fQK"
    "\x00(K\x01K\x02K\x01K\x03tq\x10(K\x06K\x03K\x03K\x01tq\x11\x89h\x09)Rq\x12tq\x13Rq\x14"
    "e.";

static void gradients_and_four_dimensions(void **state) {
  ckpt_document *doc = *state;
  ckpt_tensor *t = fresh(CKPT_F32, 1, DIMS(2)), *grad = NULL, *base = fresh(CKPT_BOOL, 1, DIMS(6));
  ckpt_value *list = make(doc, CKPT_LIST);
  assert_int_equal(ckpt_tensor_with_grad(&grad, t, true, NULL), CKPT_OK);
  append(list, doc, tensor_value(doc, grad));
  append(list, doc, tensor_value(doc, view(base, 0, 4, DIMS(1, 2, 1, 3), DIMS(6, 3, 3, 1))));
  assert_true(writes(list, P(grad_pickle)));
  ckpt_tensor_release(t);
  ckpt_tensor_release(base);
}

/* [torch.empty(2, 3, device='meta')] */
static const char meta_pickle[] =
    "\x80\x02]q\x00"
    "ctorch._utils\n_rebuild_meta_tensor_no_storage\nq\x01(ctorch\nfloat32\nq"
    "\x02K\x02K\x03\x86q\x03K\x03K\x01\x86q\x04\x89tq\x05Rq\x06"
    "a.";

static void meta_tensors(void **state) {
  ckpt_document *doc = *state;
  ckpt_tensor *t = NULL;
  ckpt_value *list = make(doc, CKPT_LIST);
  assert_int_equal(ckpt_tensor_meta(&t, CKPT_F32, 2, DIMS(2, 3), NULL), CKPT_OK);
  append(list, doc, tensor_value(doc, t));
  assert_true(writes(list, P(meta_pickle)));
}

/* torch.empty(3, dtype=torch.uint16): v3 over an untyped storage that counts bytes (PyTorch 2.14, torch-format.md 2.2)
 */
static const char uint16_pickle[] =
    "\x80\x02"
    "ctorch._utils\n_rebuild_tensor_v3\nq\0((X\7\0\0\0storageq\1ctorch.storage\nUntypedStorage\nq\2"
    "X\1\0\0\0"
    "0q\3X\3\0\0\0"
    "cpuq\4K\6tq\5QK\0K\3\x85q\6K\1\x85q\7\x89"
    "ccollections\nOrderedDict\nq\x08)Rq\x09"
    "ctorch\nuint16\nq\ntq\x0bRq\x0c.";

static void dtypes_without_a_storage_class(void **state) {
  assert_true(writes(tensor_value(*state, fresh(CKPT_U16, 1, DIMS(3))), P(uint16_pickle)));
}

static void conjugate_and_negative_bits(void **state) {
  static const char tail[] = "}q\x0aX\4\0\0\0conjq\x0b\x88stq\x0cRq\x0d.";
  ckpt_document *doc = *state;
  ckpt_tensor *base = fresh(CKPT_C64, 1, DIMS(2)), *t = NULL;
  ckpt_tensor_spec spec = {.dtype = CKPT_C64, .ndim = 1, .shape = DIMS(2), .conj = true};
  assert_int_equal(ckpt_tensor_make(&t, ckpt_tensor_storage(base), &spec, NULL), CKPT_OK);
  ckpt_pickle p = written(tensor_value(doc, t));
  assert_memory_equal(p.bytes + p.n - (sizeof tail - 1), tail, sizeof tail - 1);
  ckpt_pickle_free(&p);
  spec.neg = true;
  assert_int_equal(ckpt_tensor_make(&t, ckpt_tensor_storage(base), &spec, NULL), CKPT_OK);
  p = written(tensor_value(doc, t));
  ckpt_value *metadata = ckpt_value_item(ckpt_value_object_args(read_bytes(doc, p.bytes, p.n)), 6);
  ckpt_pickle_free(&p);
  assert_ptr_equal(ckpt_value_get(metadata, "conj"), ckpt_document_bool(doc, true));
  assert_ptr_equal(ckpt_value_get(metadata, "neg"), ckpt_document_bool(doc, true));
  ckpt_tensor_release(base);
}

/* PyTorch would read the second with the first one's dtype: each gets a record. */
static void one_storage_under_two_dtypes(void **state) {
  ckpt_document *doc = *state;
  ckpt_tensor *floats = fresh(CKPT_F32, 1, DIMS(4)), *ints = NULL;
  ckpt_value *list = make(doc, CKPT_LIST);
  ckpt_tensor_spec spec = {.dtype = CKPT_I32, .ndim = 1, .shape = DIMS(4)};
  assert_int_equal(ckpt_tensor_make(&ints, ckpt_tensor_storage(floats), &spec, NULL), CKPT_OK);
  append(list, doc, tensor_value(doc, ckpt_tensor_retain(ints)));
  append(list, doc, tensor_value(doc, floats));
  append(list, doc, tensor_value(doc, ints));
  ckpt_pickle p = written(list);
  assert_int_equal(p.n_storages, 2);
  assert_ptr_equal(p.storages[0], p.storages[1]);
  ckpt_pickle_free(&p);
}

/* ---- what cannot be written ---- */

static void refuses(const ckpt_value *v, const char *message) {
  ckpt_pickle p = {.n = 77};
  ckpt_error err = {0};
  assert_int_equal(ckpt_pickle_write(&p, v, &err), CKPT_E_UNSUPPORTED);
  assert_string_equal(err.message, message);
  assert_int_equal(p.n, 77);
  assert_int_equal(ckpt_pickle_write(&p, v, NULL), CKPT_E_UNSUPPORTED);
}

static void refused_values(void **state) {
  ckpt_document *doc = *state;
  ckpt_tensor *base = NULL, *t = NULL;
  static char bytes[6];
  ckpt_tensor_spec spec = {.dtype = CKPT_F32, .ndim = 1, .shape = DIMS(1)};
  refuses(read_bytes(doc, P("]K\1Qa.")), "[0]: a persistent id of something that the file does not hold");
  refuses(read_bytes(doc, P("]K\1\x85Qa.")), "[0]: a persistent id of something that the file does not hold");
  refuses(read_bytes(doc, P("\x8c\3m\nn\x8c\1C\x93.")), "a class name with a line end");
  refuses(tensor_value(doc, fresh(CKPT_QU8, 1, DIMS(2))), "a quantised tensor without its scale");
  assert_int_equal(ckpt_tensor_borrow(&base, CKPT_U8, bytes, 1, DIMS(6), NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_make(&t, ckpt_tensor_storage(base), &spec, NULL), CKPT_OK);
  refuses(tensor_value(doc, t), "a storage of 6 bytes under a float32 tensor");
  ckpt_tensor_release(base);
}

/* ---- depth ---- */

enum { DEEP = 1000000 };

/* A million lists in each other, read, written, read again: on 64 KiB of stack. */
static void *write_nested(void *arg) {
  unsigned char *bytes = malloc(2 * DEEP);
  ckpt_document *doc = NULL;
  ckpt_value *v = NULL;
  ckpt_pickle p = {0};
  size_t depth = 0;
  memset(bytes, ']', DEEP);
  memset(bytes + DEEP, 'a', DEEP - 1);
  bytes[2 * DEEP - 1] = '.';
  ckpt_status st = ckpt_document_new(&doc, NULL);
  if (st == CKPT_OK) st = ckpt_pickle_read(&v, NULL, doc, bytes, 2 * DEEP, "a", NULL, NULL);
  if (st == CKPT_OK) st = ckpt_pickle_write(&p, v, NULL);
  if (st == CKPT_OK) st = ckpt_pickle_read(&v, NULL, doc, p.bytes, p.n, "b", NULL, NULL);
  for (; st == CKPT_OK && v != NULL; v = ckpt_value_item(v, 0)) depth++;
  *(size_t *)arg = depth;
  ckpt_pickle_free(&p);
  ckpt_document_release(doc);
  free(bytes);
  return NULL;
}

static void depth_costs_no_stack(void **state) {
  (void)state;
  pthread_t thread;
  pthread_attr_t attr;
  size_t depth = 0;
  pthread_attr_init(&attr);
  assert_int_equal(pthread_attr_setstacksize(&attr, 64 << 10), 0);
  assert_int_equal(pthread_create(&thread, &attr, write_nested, &depth), 0);
  pthread_join(thread, NULL);
  pthread_attr_destroy(&attr);
  assert_int_equal(depth, DEEP);
}

#define WITH_DOCUMENT(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(as_cpython_writes_it),
      cmocka_unit_test(as_cpython_writes_sets_of_one),
      cmocka_unit_test(as_cpython_writes_an_empty_bytearray),
      WITH_DOCUMENT(sets_in_batches),
      WITH_DOCUMENT(python2_strings),
      WITH_DOCUMENT(long_integers),
      WITH_DOCUMENT(batches_of_lists),
      WITH_DOCUMENT(batches_of_dicts),
      WITH_DOCUMENT(metadata_of_an_ordered_dict),
      WITH_DOCUMENT(the_memo_grows_beyond_a_byte),
      WITH_DOCUMENT(the_example_of_the_format),
      WITH_DOCUMENT(tensors_that_share),
      WITH_DOCUMENT(gradients_and_four_dimensions),
      WITH_DOCUMENT(meta_tensors),
      WITH_DOCUMENT(dtypes_without_a_storage_class),
      WITH_DOCUMENT(conjugate_and_negative_bits),
      WITH_DOCUMENT(one_storage_under_two_dtypes),
      WITH_DOCUMENT(refused_values),
      cmocka_unit_test(depth_costs_no_stack),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
