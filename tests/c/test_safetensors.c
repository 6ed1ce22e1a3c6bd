// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup
/*
 * test_safetensors.c - reading: what is in a file, every rule that refuses one, cuts and changed bytes at every place,
 * every allocation failing. Writing: the header byte by byte. Files of the library itself:
 * tests/lua/safetensors_spec.lua.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "alloc_faults.h"
#include "checkpoint.h"
#include "json_read.h"
#include "safetensors.h"
#include "safetensors_write.h"

/* ---- files in memory ---- */

typedef struct file {
  unsigned char *bytes; /* exactly so many on the heap: the sanitizer sees a read behind them */
  size_t n;
} file;

static file make_file(const char *header, size_t header_n, uint64_t told, size_t data_n) {
  file f = {malloc(8 + header_n + data_n), 8 + header_n + data_n};
  assert_non_null(f.bytes);
  ckpt_put64(f.bytes, told);
  memcpy(f.bytes + 8, header, header_n);
  for (size_t i = 0; i < data_n; i++) f.bytes[8 + header_n + i] = (unsigned char)i;
  return f;
}

static ckpt_status open_bytes(ckpt_checkpoint **out, const void *bytes, size_t n, ckpt_error *err) {
  ckpt_mapping *map = NULL;
  CKPT_TRY(ckpt_mapping_memory(&map, bytes, n, err));
  ckpt_status st = ckpt_checkpoint_open_mapping(out, map, "f", NULL, err);
  ckpt_mapping_release(map);
  return st;
}

static ckpt_checkpoint *open_good(const file *f) {
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  if (open_bytes(&cp, f->bytes, f->n, &err) != CKPT_OK) fail_msg("%s", err.message);
  return cp;
}

static file with_header(const char *header, size_t data_n) {
  return make_file(header, strlen(header), strlen(header), data_n);
}

/* ---- what is in a file ---- */

#define W "\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[4,28]}"
#define B "\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}"

static void tensors_come_in_the_order_of_the_data(void **state) {
  (void)state;
  file f = with_header("{" W "," B "}  ", 28);
  ckpt_checkpoint *cp = open_good(&f);
  ckpt_value *root = ckpt_checkpoint_root(cp);
  assert_string_equal(ckpt_checkpoint_format(cp), "safetensors");
  assert_int_equal(ckpt_checkpoint_bytes(cp), f.n);
  assert_null(ckpt_checkpoint_metadata(cp));
  assert_int_equal(ckpt_value_kind(root), CKPT_DICT);
  assert_false(ckpt_value_is_ordered(root));
  assert_int_equal(ckpt_value_pair_count(root), 2);
  assert_string_equal(ckpt_value_text(ckpt_value_pair_key(root, 0), NULL), "b");
  ckpt_tensor *w = ckpt_tensor_retain(ckpt_value_tensor(ckpt_value_get(root, "w")));
  ckpt_checkpoint_close(cp);
  const void *data = NULL; /* the tensor keeps the mapping */
  assert_int_equal(ckpt_tensor_data(&data, w, NULL), CKPT_OK);
  assert_ptr_equal(data, f.bytes + f.n - 24);
  assert_int_equal(ckpt_tensor_dtype(w), CKPT_F32);
  assert_int_equal(ckpt_tensor_ndim(w), 2);
  assert_int_equal(ckpt_tensor_shape(w)[1], 3);
  assert_int_equal(ckpt_tensor_stride(w)[0], 3);
  assert_int_equal(ckpt_tensor_heap_bytes(w), 0);
  ckpt_tensor_release(w);
  free(f.bytes);
}

static void every_dtype_has_its_name(void **state) {
  (void)state;
  static const struct {
    const char *name;
    ckpt_dtype dtype;
    int bytes;
  } all[] = {{"BOOL", CKPT_BOOL, 1},
             {"U8", CKPT_U8, 1},
             {"I8", CKPT_I8, 1},
             {"F8_E5M2", CKPT_F8_E5M2, 1},
             {"F8_E4M3", CKPT_F8_E4M3FN, 1},
             {"F8_E8M0", CKPT_F8_E8M0FNU, 1},
             {"F8_E4M3FNUZ", CKPT_F8_E4M3FNUZ, 1},
             {"F8_E5M2FNUZ", CKPT_F8_E5M2FNUZ, 1},
             {"I16", CKPT_I16, 2},
             {"U16", CKPT_U16, 2},
             {"F16", CKPT_F16, 2},
             {"BF16", CKPT_BF16, 2},
             {"I32", CKPT_I32, 4},
             {"U32", CKPT_U32, 4},
             {"F32", CKPT_F32, 4},
             {"C64", CKPT_C64, 8},
             {"F64", CKPT_F64, 8},
             {"I64", CKPT_I64, 8},
             {"U64", CKPT_U64, 8}};
  for (size_t i = 0; i < CKPT_COUNTOF(all); i++) {
    char header[128];
    snprintf(header, sizeof header, "{\"x\":{\"dtype\":\"%s\",\"shape\":[],\"data_offsets\":[0,%d]}}", all[i].name,
             all[i].bytes);
    file f = with_header(header, (size_t)all[i].bytes);
    ckpt_checkpoint *cp = open_good(&f);
    ckpt_tensor *t = ckpt_value_tensor(ckpt_value_get(ckpt_checkpoint_root(cp), "x"));
    assert_int_equal(ckpt_tensor_dtype(t), all[i].dtype);
    assert_int_equal(ckpt_tensor_numel(t), 1);
    assert_string_equal(ckpt_safetensors_dtype(all[i].dtype, NULL), all[i].name);
    ckpt_checkpoint_close(cp);
    free(f.bytes);
  }
  for (ckpt_dtype d = CKPT_U8; d < CKPT_DTYPE_COUNT; d++) { /* and no other has one, but F4 */
    bool found = d == CKPT_F4_E2M1FN_X2;
    for (size_t i = 0; i < CKPT_COUNTOF(all); i++) found |= all[i].dtype == d;
    assert_int_equal(ckpt_safetensors_dtype(d, NULL) != NULL, found);
  }
}

static void two_f4_are_one_element(void **state) {
  (void)state;
  file f = with_header("{\"x\":{\"dtype\":\"F4\",\"shape\":[2,6],\"data_offsets\":[0,6]}}", 6);
  ckpt_checkpoint *cp = open_good(&f);
  ckpt_tensor *t = ckpt_value_tensor(ckpt_value_get(ckpt_checkpoint_root(cp), "x"));
  assert_int_equal(ckpt_tensor_dtype(t), CKPT_F4_E2M1FN_X2);
  assert_int_equal(ckpt_tensor_shape(t)[0], 2);
  assert_int_equal(ckpt_tensor_shape(t)[1], 3);
  ckpt_checkpoint_close(cp);
  free(f.bytes);
}

static void metadata_is_kept(void **state) {
  (void)state;
  file f = with_header("{\"__metadata__\":{\"format\":\"pt\",\"\":\"a\\u0000b\"}," B "}", 4);
  ckpt_checkpoint *cp = open_good(&f);
  ckpt_value *m = ckpt_checkpoint_metadata(cp);
  size_t n = 0;
  assert_int_equal(ckpt_value_pair_count(m), 2);
  assert_string_equal(ckpt_value_text(ckpt_value_get(m, "format"), NULL), "pt");
  assert_memory_equal(ckpt_value_text(ckpt_value_get(m, ""), &n), "a\0b", 4);
  assert_int_equal(n, 3);
  assert_int_equal(ckpt_value_pair_count(ckpt_checkpoint_root(cp)), 1);
  ckpt_checkpoint_close(cp);
  free(f.bytes);
}

/* c and d are second names of b; "loop" names a second name and "b" is a tensor itself: neither makes one. */
static void ties_are_restored(void **state) {
  (void)state;
  file f = with_header(
      "{\"__metadata__\":{\"c\":\"b\",\"loop\":\"c\",\"d\":\"b\",\"b\":\"w\",\"x\":\"y\"}," B "," W "}", 28);
  ckpt_checkpoint *cp = open_good(&f);
  ckpt_value *root = ckpt_checkpoint_root(cp);
  assert_int_equal(ckpt_value_pair_count(root), 4);
  assert_string_equal(ckpt_value_text(ckpt_value_pair_key(root, 2), NULL), "c");
  assert_ptr_equal(ckpt_value_get(root, "c"), ckpt_value_get(root, "b"));
  assert_ptr_equal(ckpt_value_get(root, "d"), ckpt_value_get(root, "b"));
  assert_ptr_not_equal(ckpt_value_get(root, "b"), ckpt_value_get(root, "w"));
  assert_null(ckpt_value_get(root, "loop"));
  ckpt_checkpoint_close(cp);
  free(f.bytes);
}

/* What the library takes, too. */
static void odd_files_that_are_fine(void **state) {
  (void)state;
  static const struct {
    const char *header;
    size_t data, tensors;
  } good[] = {
      {"{}", 0, 0},
      {"{}      \n\t\r ", 0, 0},
      {"{ \"__metadata__\" : null , " B " }", 4, 1},
      {"{\"__metadata__\":{}," B "}", 4, 1},
      {"{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, 1},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"more\":[{\"x\":1.5e3}]}}", 1, 1},
      {"{\"z\":{\"dtype\":\"F32\",\"shape\":[0,9223372036854775807],\"data_offsets\":[4,4]}," B "}", 4, 2},
      {"{\"z\":{\"dtype\":\"F32\",\"shape\":[3,0],\"data_offsets\":[0,0]}," B "}", 4, 2},
      {"{\"\\ud83d\\ude00\\u00e9\":{\"dtype\":\"U8\",\"shape\":[1,1],\"data_offsets\":[0,1]}}", 1, 1},
  };
  for (size_t i = 0; i < CKPT_COUNTOF(good); i++) {
    file f = with_header(good[i].header, good[i].data);
    ckpt_checkpoint *cp = open_good(&f);
    assert_int_equal(ckpt_value_pair_count(ckpt_checkpoint_root(cp)), good[i].tensors);
    ckpt_checkpoint_close(cp);
    free(f.bytes);
  }
}

/* ---- what is refused ---- */

typedef struct bad {
  const char *header;
  size_t data;
  ckpt_status status;
  int64_t position;
  const char *message;
} bad;

#define T(inner) "{\"t\":{" inner "}}"
#define IN_T "safetensors header, byte 9, tensor 't': "

static const bad bads[] = {
    /* the tensors must fill the data */
    {"{\"t\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, CKPT_E_CORRUPT, 62,
     "safetensors data: tensor 't' begins at byte 62, and nothing is before it"},
    {"{" B ",\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[5,6]}}", 6, CKPT_E_CORRUPT, 120,
     "tensor 't' begins at byte 120, behind a hole"},
    {"{" B ",\"t\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[3,6]}}", 6, CKPT_E_CORRUPT, 118,
     "tensor 't' begins at byte 118, inside the one before it"},
    {"{" B ",\"t\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]}}", 4, CKPT_E_CORRUPT, 117,
     "tensor 't' begins at byte 117, inside the one before it"},
    {"{" B ",\"t\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, CKPT_E_CORRUPT, -2,
     "inside the one"},
    {"{" B "}", 5, CKPT_E_CORRUPT, 67, "the last tensor ends at byte 67, the file at byte 68"},
    {"{}", 1, CKPT_E_CORRUPT, 10, "the last tensor ends at byte 10, the file at byte 11"},
    {"{" B "}", 3, CKPT_E_CORRUPT, 9, "tensor 'b': its data_offsets lie behind the file's end"},
    /* one tensor */
    {T("\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,1]"), 3, CKPT_E_CORRUPT, 9,
     IN_T "its data_offsets end before they begin"},
    {T("\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,3]"), 3, CKPT_E_CORRUPT, 9,
     IN_T "it has 3 bytes, its shape and dtype need 2"},
    {T("\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]"), 0, CKPT_E_CORRUPT, 9,
     IN_T "its number of bits does not fit in 63 bits"},
    {T("\"dtype\":\"F32\",\"shape\":[4611686018427387904,4,0],\"data_offsets\":[0,0]"), 0, CKPT_E_CORRUPT, 9,
     IN_T "its number of bits does not fit in 63 bits"},
    {T("\"dtype\":\"F32\",\"shape\":[576460752303423488],\"data_offsets\":[0,0]"), 0, CKPT_E_CORRUPT, 9,
     IN_T "its number of bits does not fit in 63 bits"},
    {T("\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]"), 1, CKPT_E_CORRUPT, 9,
     IN_T "its last byte is not full"},
    {T("\"dtype\":\"F4\",\"shape\":[],\"data_offsets\":[0,0]"), 0, CKPT_E_CORRUPT, 9, IN_T "its last byte is not full"},
    {T("\"dtype\":\"F4\",\"shape\":[2,3],\"data_offsets\":[0,3]"), 3, CKPT_E_UNSUPPORTED, 9,
     IN_T "PyTorch pairs F4 values, its last dimension must be even"},
    {T("\"dtype\":\"F6_E2M3\",\"shape\":[4],\"data_offsets\":[0,3]"), 3, CKPT_E_UNSUPPORTED, 9,
     IN_T "its dtype is one of 6 bits, which PyTorch does not have"},
    {T("\"dtype\":\"F6_E3M2\",\"shape\":[4],\"data_offsets\":[0,3]"), 3, CKPT_E_UNSUPPORTED, 9, "6 bits"},
    {T("\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]"), 4, CKPT_E_CORRUPT, 9,
     IN_T "its dtype is none that the format knows"},
    {T("\"dtype\":\"C128\",\"shape\":[1],\"data_offsets\":[0,16]"), 16, CKPT_E_CORRUPT, 9,
     "none that the format knows"},
    {T("\"dtype\":\"U8\\u0000\",\"shape\":[1],\"data_offsets\":[0,1]"), 1, CKPT_E_CORRUPT, 9, "none that the format"},
    {T("\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,1]"), 1, CKPT_E_CORRUPT, 9, IN_T "its dtype must be a string"},
    {T("\"shape\":[1],\"data_offsets\":[0,1]"), 1, CKPT_E_CORRUPT, 9, IN_T "its dtype must be a string"},
    {T("\"dtype\":\"U8\",\"data_offsets\":[0,1]"), 1, CKPT_E_CORRUPT, 9,
     IN_T "its shape must be a list of integers, none negative"},
    {T("\"dtype\":\"U8\",\"shape\":1,\"data_offsets\":[0,1]"), 1, CKPT_E_CORRUPT, 9, "its shape must be a list"},
    {T("\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]"), 1, CKPT_E_CORRUPT, 9, "its shape must be a list"},
    {T("\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]"), 1, CKPT_E_CORRUPT, 9, "its shape must be a list"},
    {T("\"dtype\":\"U8\",\"shape\":[\"1\"],\"data_offsets\":[0,1]"), 1, CKPT_E_CORRUPT, 9, "its shape must be a list"},
    {T("\"dtype\":\"U8\",\"shape\":[1]"), 1, CKPT_E_CORRUPT, 9,
     IN_T "data_offsets must be a list of two integers, none negative"},
    {T("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]"), 1, CKPT_E_CORRUPT, 9, "data_offsets must be a list"},
    {T("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]"), 1, CKPT_E_CORRUPT, 9, "data_offsets must be a list"},
    {T("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[-1,0]"), 1, CKPT_E_CORRUPT, 9, "data_offsets must be a list"},
    {T("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0.0,1]"), 1, CKPT_E_CORRUPT, 9, "data_offsets must be a list"},
    {T("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,true]"), 1, CKPT_E_CORRUPT, 9,
     "data_offsets must be a list"},
    {T("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,18446744073709551616]"), 1, CKPT_E_CORRUPT, -2, "too big"},
    {T("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":null"), 1, CKPT_E_CORRUPT, 9, "data_offsets must be a list"},
    {"{\"t\":null}", 0, CKPT_E_CORRUPT, 9, IN_T "it must be described by an object"},
    {"{\"t\":[\"U8\",[1],[0,1]]}", 1, CKPT_E_CORRUPT, 9, IN_T "it must be described by an object"},
    {"{" B ",\n  \"t\":3}", 4, CKPT_E_CORRUPT, 66, "safetensors header, byte 66, tensor 't': it must be described"},
    /* metadata */
    {"{\"__metadata__\":{\"a\":1}}", 0, CKPT_E_CORRUPT, 9,
     "safetensors header, byte 9: __metadata__ must be an object of strings"},
    {"{\"__metadata__\":{\"a\":null}}", 0, CKPT_E_CORRUPT, 9, "__metadata__ must be an object of strings"},
    {"{\"__metadata__\":[]}", 0, CKPT_E_CORRUPT, 9, "__metadata__ must be an object of strings"},
    {"{\"__metadata__\":\"x\"}", 0, CKPT_E_CORRUPT, 9, "__metadata__ must be an object of strings"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, CKPT_E_CORRUPT, -2, "duplicate object key"},
    /* JSON */
    {"{" B "," B "}", 4, CKPT_E_CORRUPT, -2, "duplicate object key"},
    {T("\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]"), 1, CKPT_E_CORRUPT, -2, "duplicate"},
    {"{}x", 0, CKPT_E_CORRUPT, 11, "the safetensors header is wrong at byte 11: end of file expected near 'x'"},
    {"{}{}", 0, CKPT_E_CORRUPT, -2, "end of file expected"},
    {"{" B "", 4, CKPT_E_CORRUPT, -2, "is wrong at byte"},
    {"{\"t\"}", 0, CKPT_E_CORRUPT, -2, "':' expected"},
    {"{'t':1}", 0, CKPT_E_CORRUPT, -2, "is wrong at byte"},
    {"{\"t\":1,}", 0, CKPT_E_CORRUPT, -2, "is wrong at byte"},
    {"{\"t\":NaN}", 0, CKPT_E_CORRUPT, -2, "is wrong at byte"},
    {"{\"t\":01}", 0, CKPT_E_CORRUPT, -2, "is wrong at byte"},
    {"{\"t\":\"\\ud800\"}", 0, CKPT_E_CORRUPT, -2, "is wrong at byte"},
    {"{\"t\xff\":1}", 0, CKPT_E_CORRUPT, -2, "unable to decode byte 0xff"},
    {"{\"t\xc0\x80\":1}", 0, CKPT_E_CORRUPT, -2, "unable to decode byte 0xc0"},
    {"{\"t\n\":1}", 0, CKPT_E_CORRUPT, -2, "is wrong at byte"},
    {"{\"t\\u0000\":1}", 0, CKPT_E_UNSUPPORTED, -2, "NUL byte in object key not supported"},
    {"{\xef\xbb\xbf}", 0, CKPT_E_CORRUPT, -2, "is wrong at byte"},
    {" {}", 0, CKPT_E_CORRUPT, 8, "the safetensors header at byte 8 must begin with '{'"},
    {"\n{}", 0, CKPT_E_CORRUPT, 8, "the safetensors header at byte 8 must begin with '{'"},
};

static void refuse(const void *bytes, size_t n, const bad *b) {
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  ckpt_status st = open_bytes(&cp, bytes, n, &err);
  if (st != b->status || strstr(err.message, b->message) == NULL || (b->position != -2 && err.position != b->position))
    fail_msg("%s\n  gave %s at %lld: %s", b->header == NULL ? b->message : b->header, ckpt_status_name(st),
             (long long)err.position, err.message);
  assert_null(cp);
  assert_true(err.position >= 0);
}

static void every_rule_refuses(void **state) {
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(bads); i++) {
    file f = with_header(bads[i].header, bads[i].data);
    refuse(f.bytes, f.n, &bads[i]);
    free(f.bytes);
  }
}

/* Places where a parser might read over it: behind the text, between tokens, behind a number, in a string. */
static void a_nul_is_refused_wherever_it_is(void **state) {
  (void)state;
  static const char header[] = "{" B "} ";
  for (size_t i = 1; i < sizeof header; i++) {
    char text[sizeof header + 1];
    bad b = {NULL, 0, CKPT_E_CORRUPT, (int64_t)(8 + i), "a NUL byte"};
    memcpy(text, header, i);
    text[i] = '\0';
    memcpy(text + i + 1, header + i, sizeof header - i);
    file f = make_file(text, sizeof header, sizeof header, 4);
    refuse(f.bytes, f.n, &b);
    free(f.bytes);
  }
}

static void lengths_are_refused(void **state) {
  (void)state;
  static const struct {
    uint64_t told;
    bad b;
  } cases[] = {
      {100000001, {NULL, 0, CKPT_E_LIMIT, 0, "a safetensors header of 100000001 bytes; at most 100000000 are allowed"}},
      {100000000, {NULL, 0, CKPT_E_CORRUPT, 10, "the safetensors header ends at byte 100000008, the file at byte 10"}},
      {3, {NULL, 0, CKPT_E_CORRUPT, 10, "the safetensors header ends at byte 11, the file at byte 10"}},
      {1, {NULL, 0, CKPT_E_CORRUPT, -2, "the safetensors header is wrong at byte"}},
      {0, {NULL, 0, CKPT_E_CORRUPT, 8, "must begin with '{'"}},
      {UINT64_MAX, {NULL, 0, CKPT_E_FORMAT, 0, "not a checkpoint"}},
  };
  for (size_t i = 0; i < CKPT_COUNTOF(cases); i++) {
    file f = make_file("{}", 2, cases[i].told, 0);
    refuse(f.bytes, f.n, &cases[i].b);
    free(f.bytes);
  }
}

static void dimensions_are_counted(void **state) {
  (void)state;
  for (int n = CKPT_MAX_DIMS; n <= CKPT_MAX_DIMS + 1; n++) {
    char header[400];
    int at = snprintf(header, sizeof header, "{\"t\":{\"dtype\":\"U8\",\"data_offsets\":[0,1],\"shape\":[1");
    for (int i = 1; i < n; i++) at += snprintf(header + at, sizeof header - (size_t)at, ",1");
    snprintf(header + at, sizeof header - (size_t)at, "]}}");
    file f = with_header(header, 1);
    if (n == CKPT_MAX_DIMS) ckpt_checkpoint_close(open_good(&f));
    if (n > CKPT_MAX_DIMS)
      refuse(f.bytes, f.n, &(bad){header, 0, CKPT_E_LIMIT, 9, IN_T "it has more than 64 dimensions"});
    free(f.bytes);
  }
}

static char *repeat(char *at, const char *text, size_t n) {
  for (size_t i = 0; i < n; i++, at += strlen(text)) memcpy(at, text, strlen(text));
  return at;
}

static file nested(size_t lists) {
  static const char before[] = "{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":";
  char *header = calloc(1, sizeof before + 2 * lists + 8), *at = repeat(header, before, 1);
  at = repeat(at, "[", lists);
  at = repeat(at, "]", lists);
  repeat(at, "}}", 1);
  file f = with_header(header, 1);
  free(header);
  return f;
}

static void nesting_is_limited(void **state) {
  (void)state;
  file f = nested(125);
  ckpt_checkpoint_close(open_good(&f));
  free(f.bytes);
  for (size_t lists = 126; lists < 1000000; lists *= 20) {
    f = nested(lists);
    refuse(f.bytes, f.n, &(bad){"nested", 0, CKPT_E_LIMIT, 189, "nests more than 127 levels deep at byte 189"});
    free(f.bytes);
  }
}

static void lists_for_nothing_are_limited(void **state) {
  (void)state;
  char *header = calloc(1, 100000);
  char *at = repeat(header, "{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":[[]", 1);
  repeat(repeat(at, ",[]", 30000), "]}}", 1);
  file f = with_header(header, 1);
  refuse(f.bytes, f.n, &(bad){"lists", 0, CKPT_E_LIMIT, 8, "holds 30006 lists and objects in 90062 bytes"});
  free(header);
  free(f.bytes);
}

/* ---- cut and changed ---- */

static file sample(void) {
  return with_header("{\"__metadata__\":{\"c\":\"b\",\"f\":\"pt\"}," W "," B
                     ",\"e\":{\"dtype\":\"F4\",\"shape\":[0,2],\"data_offsets\":[28,28]}} ",
                     28);
}

static void a_cut_file_is_refused(void **state) {
  (void)state;
  file f = sample();
  for (size_t n = 0; n < f.n; n++) {
    unsigned char *cut = malloc(n == 0 ? 1 : n);
    ckpt_checkpoint *cp = NULL;
    ckpt_error err = {0};
    memcpy(cut, f.bytes, n);
    assert_int_not_equal(open_bytes(&cp, cut, n, &err), CKPT_OK);
    assert_true(err.position >= 0);
    free(cut);
  }
  free(f.bytes);
}

/* Whatever a byte becomes, the file is refused, or its tensors lie in it. */
static void a_changed_byte_is_harmless(void **state) {
  (void)state;
  file f = sample();
  size_t opened = 0;
  for (size_t at = 0; at < f.n; at++)
    for (int byte = 0; byte < 256; byte++) {
      unsigned char before = f.bytes[at];
      ckpt_checkpoint *cp = NULL;
      ckpt_error err = {0};
      f.bytes[at] = (unsigned char)byte;
      if (open_bytes(&cp, f.bytes, f.n, &err) == CKPT_OK) {
        char hex[65];
        for (size_t i = 0; i < ckpt_value_pair_count(ckpt_checkpoint_root(cp)); i++) {
          ckpt_tensor *t = ckpt_value_tensor(ckpt_value_pair_value(ckpt_checkpoint_root(cp), i));
          assert_int_equal(ckpt_tensor_sha256(hex, t, &err), CKPT_OK);
        }
        opened++;
      }
      ckpt_checkpoint_close(cp);
      f.bytes[at] = before;
    }
  assert_true(opened > 28 * 256); /* the data can be anything */
  free(f.bytes);
}

/* ---- writing ---- */

typedef struct memory_sink {
  ckpt_sink sink;
  unsigned char bytes[3 << 20];
  size_t n;
} memory_sink;

static ckpt_status memory_write(ckpt_sink *sink, const void *data, size_t size, ckpt_error *err) {
  memory_sink *m = (memory_sink *)sink;
  if (m->n + size > sizeof m->bytes) return ckpt_fail(err, CKPT_E_LIMIT, -1, "the sink is full");
  memcpy(m->bytes + m->n, data, size);
  m->n += size;
  return CKPT_OK;
}

static ckpt_tensor *tensor(ckpt_dtype dtype, int ndim, const int64_t *shape) {
  ckpt_tensor *t = NULL;
  const void *data = NULL;
  assert_int_equal(ckpt_tensor_new(&t, dtype, ndim, shape, NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_data(&data, t, NULL), CKPT_OK);
  for (size_t i = 0; i < ckpt_tensor_nbytes(t); i++) ((unsigned char *)(uintptr_t)data)[i] = (unsigned char)(i + 1);
  return t;
}

static ckpt_status write_to(memory_sink *m, ckpt_safetensors_tensor *tensors, size_t n, ckpt_safetensors_pair *pairs,
                            size_t n_pairs, ckpt_error *err) {
  ckpt_safetensors f = {0};
  m->sink.write = memory_write;
  m->n = 0;
  CKPT_TRY(ckpt_safetensors_prepare(&f, tensors, n, pairs, n_pairs, err));
  ckpt_status st = ckpt_safetensors_write(&m->sink, &f, err);
  if (st == CKPT_OK) assert_int_equal(m->n, f.size);
  ckpt_safetensors_free(&f);
  return st;
}

static void bytes_are_as_the_format_says(void **state) {
  (void)state;
  static memory_sink m;
  ckpt_tensor *a = tensor(CKPT_U8, 1, (int64_t[]){3}), *b = tensor(CKPT_F32, 2, (int64_t[]){1, 2}), *t = NULL;
  ckpt_tensor *f4 = tensor(CKPT_F4_E2M1FN_X2, 1, (int64_t[]){2});
  assert_int_equal(ckpt_tensor_view(&t, b, 0, 2, (int64_t[]){2, 2}, (int64_t[]){0, 1}, NULL), CKPT_OK);
  ckpt_safetensors_tensor tensors[] = {{"z", a}, {"y", a}, {"b\"\x01", t}, {"f", f4}};
  ckpt_safetensors_pair pairs[] = {{"q", "2"}, {"p", "\n1"}};
  assert_int_equal(write_to(&m, tensors, 4, pairs, 2, NULL), CKPT_OK);
  static const char header[] =
      "{\"__metadata__\":{\"p\":\"\\n1\",\"q\":\"2\"},\"b\\\"\\u0001\":{\"dtype\":\"F32\",\"shape\":[2,2],"
      "\"data_offsets\":[0,16]},\"y\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[16,19]},\"z\":{\"dtype\":"
      "\"U8\","
      "\"shape\":[3],\"data_offsets\":[19,22]},\"f\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[22,24]}}";
  static const char data[] = "\1\2\3\4\5\6\7\10\1\2\3\4\5\6\7\10\1\2\3\1\2\3\1\2";
  size_t padded = (sizeof header - 1 + 7) / 8 * 8;
  assert_int_equal(ckpt_le64(m.bytes), padded);
  assert_memory_equal(m.bytes + 8, header, sizeof header - 1);
  for (size_t i = sizeof header - 1; i < padded; i++) assert_int_equal(m.bytes[8 + i], ' ');
  assert_int_equal(m.n, 8 + padded + sizeof data - 1);
  assert_memory_equal(m.bytes + 8 + padded, data, sizeof data - 1);
  ckpt_tensor *all[] = {a, b, t, f4};
  for (size_t i = 0; i < CKPT_COUNTOF(all); i++) ckpt_tensor_release(all[i]);
}

static void no_tensor_at_all_is_a_file(void **state) {
  (void)state;
  static memory_sink m;
  assert_int_equal(write_to(&m, NULL, 0, NULL, 0, NULL), CKPT_OK);
  assert_int_equal(m.n, 16);
  assert_memory_equal(m.bytes, "\10\0\0\0\0\0\0\0{}      ", 16);
}

static void names_that_cannot_be_written(void **state) {
  (void)state;
  static memory_sink m;
  static const struct {
    const char *name, *message;
  } cases[] = {{"__metadata__", "a tensor named __metadata__ cannot be in a safetensors file"},
               {"a\xff", "is not UTF-8, which JSON has to be"},
               {"a\xed\xa0\x80", "is not UTF-8"},
               {"a\xc0\x80", "is not UTF-8"},
               {"a\xf4\x90\x80\x80", "is not UTF-8"},
               {"a\xe2\x82", "is not UTF-8"}};
  ckpt_tensor *t = tensor(CKPT_U8, 0, NULL);
  for (size_t i = 0; i < CKPT_COUNTOF(cases); i++) {
    ckpt_error err = {0};
    ckpt_safetensors_tensor one = {cases[i].name, t};
    assert_int_equal(write_to(&m, &one, 1, NULL, 0, &err), CKPT_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, cases[i].message));
    assert_int_equal(m.n, 0);
  }
  ckpt_tensor_release(t);
}

/* A view that repeats a byte 2^40 times is not spelled out. */
static void a_view_without_end_is_refused(void **state) {
  (void)state;
  static memory_sink m;
  ckpt_error err = {0};
  ckpt_tensor *one = tensor(CKPT_U8, 1, (int64_t[]){1}), *wide = NULL;
  assert_int_equal(ckpt_tensor_view(&wide, one, 0, 1, (int64_t[]){(int64_t)1 << 40}, (int64_t[]){0}, NULL), CKPT_OK);
  ckpt_safetensors_tensor t = {"wide", wide};
  assert_int_equal(write_to(&m, &t, 1, NULL, 0, &err), CKPT_E_LIMIT);
  assert_non_null(strstr(err.message, "wide: the view spreads a storage of 1 bytes over 1099511627776"));
  ckpt_tensor_release(wide);
  ckpt_tensor_release(one);
}

/* More than one block of the buffer, neither contiguous nor without the negative bit. */
static void large_views_are_gathered(void **state) {
  (void)state;
  enum { N = 600000 };
  static memory_sink m;
  static float data[N];
  ckpt_storage *s = NULL;
  ckpt_tensor *t = NULL;
  ckpt_safetensors_tensor one = {"t", NULL};
  for (int i = 0; i < N; i++) data[i] = (float)i;
  assert_int_equal(ckpt_storage_borrow(&s, data, sizeof data, NULL), CKPT_OK);
  ckpt_tensor_spec spec = {
      .dtype = CKPT_F32, .ndim = 2, .shape = (int64_t[]){2, N / 2}, .stride = (int64_t[]){1, 2}, .neg = true};
  assert_int_equal(ckpt_tensor_make(&t, s, &spec, NULL), CKPT_OK);
  one.tensor = t;
  assert_int_equal(write_to(&m, &one, 1, NULL, 0, NULL), CKPT_OK);
  for (size_t i = 0; i < N; i++) {
    float found;
    memcpy(&found, m.bytes + m.n - sizeof data + i * sizeof found, sizeof found);
    if (found != -(float)(i < N / 2 ? 2 * i : 2 * (i - N / 2) + 1)) fail_msg("element %zu is %g", i, (double)found);
  }
  ckpt_tensor_release(t);
  ckpt_storage_release(s);
}

/* ---- allocations ---- */

static ckpt_status read_sample(void *context, ckpt_error *err) {
  const file *f = context;
  ckpt_checkpoint *cp = NULL;
  ckpt_status st = open_bytes(&cp, f->bytes, f->n, err);
  if (st == CKPT_OK) assert_int_equal(ckpt_value_pair_count(ckpt_checkpoint_root(cp)), 4);
  ckpt_checkpoint_close(cp);
  return st;
}

static void every_allocation_fails_while_reading(void **state) {
  (void)state;
  file f = sample();
  assert_true(fail_each_allocation(read_sample, &f) > 10);
  fail_jansson_too(true);
  assert_true(fail_each_allocation(read_sample, &f) > 60);
  fail_jansson_too(false);
  free(f.bytes);
}

static ckpt_status write_sample(void *context, ckpt_error *err) {
  static memory_sink m;
  ckpt_tensor *t = context, *column = NULL;
  CKPT_TRY(ckpt_tensor_view(&column, t, 0, 1, (int64_t[]){2}, (int64_t[]){2}, err));
  ckpt_safetensors_tensor tensors[] = {{"b", t}, {"a", column}};
  ckpt_safetensors_pair pair = {"p", "q"};
  ckpt_status st = write_to(&m, tensors, 2, &pair, 1, err);
  ckpt_tensor_release(column);
  return st;
}

static void every_allocation_fails_while_writing(void **state) {
  (void)state;
  ckpt_tensor *t = tensor(CKPT_F32, 2, (int64_t[]){2, 2});
  assert_true(fail_each_allocation(write_sample, t) >= 3);
  ckpt_tensor_release(t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tensors_come_in_the_order_of_the_data),
      cmocka_unit_test(every_dtype_has_its_name),
      cmocka_unit_test(two_f4_are_one_element),
      cmocka_unit_test(metadata_is_kept),
      cmocka_unit_test(ties_are_restored),
      cmocka_unit_test(odd_files_that_are_fine),
      cmocka_unit_test(every_rule_refuses),
      cmocka_unit_test(a_nul_is_refused_wherever_it_is),
      cmocka_unit_test(lengths_are_refused),
      cmocka_unit_test(dimensions_are_counted),
      cmocka_unit_test(nesting_is_limited),
      cmocka_unit_test(lists_for_nothing_are_limited),
      cmocka_unit_test(a_cut_file_is_refused),
      cmocka_unit_test(a_changed_byte_is_harmless),
      cmocka_unit_test(bytes_are_as_the_format_says),
      cmocka_unit_test(no_tensor_at_all_is_a_file),
      cmocka_unit_test(names_that_cannot_be_written),
      cmocka_unit_test(a_view_without_end_is_refused),
      cmocka_unit_test(large_views_are_gathered),
      cmocka_unit_test(every_allocation_fails_while_reading),
      cmocka_unit_test(every_allocation_fails_while_writing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
