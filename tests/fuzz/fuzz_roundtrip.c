/*
 * fuzz_roundtrip.c - bytes are taken as instructions for an object graph; the graph is written as a .pth file, read and
 * found equal; its tensors are written as safetensors, read and found equal.
 */
#include "fuzz.h"
#include "pth.h"
#include "safetensors_write.h"

enum { MAX_VALUES = 256 };

typedef struct maker {
  const uint8_t *data;
  size_t size, at;
  ckpt_document *doc;
  ckpt_value *values[MAX_VALUES];
  size_t n;
  bool has_nan;
} maker;

static unsigned take(maker *m) { return m->at < m->size ? m->data[m->at++] : 0; }
static ckpt_value *any(maker *m) { return m->n == 0 ? ckpt_document_none(m->doc) : m->values[take(m) % m->n]; }

static int64_t take_int(maker *m) {
  uint64_t v = 0;
  for (unsigned i = take(m) % 9; i > 0; i--) v = v << 8 | take(m);
  return (int64_t)v;
}

static double take_double(maker *m) {
  double d;
  uint64_t bits = (uint64_t)take_int(m) * 0x0101010101010101u;
  memcpy(&d, &bits, sizeof d);
  m->has_nan |= d != d;
  return d;
}

static size_t take_text(const char **out, maker *m) {
  size_t n = take(m) % 16, left = m->size - m->at;
  if (n > left) n = left;
  *out = (const char *)m->data + m->at;
  m->at += n;
  return n;
}

static ckpt_status make_str(ckpt_value **out, maker *m) {
  const char *text;
  char ascii[16];
  size_t n = take_text(&text, m);
  for (size_t i = 0; i < n; i++) ascii[i] = (char)(text[i] & 0x7f);
  return ckpt_value_new_str(out, m->doc, ascii, n, NULL);
}

static ckpt_status make_bytes(ckpt_value **out, maker *m, bool array) {
  const char *text;
  size_t n = take_text(&text, m);
  return array ? ckpt_value_new_bytearray(out, m->doc, text, n, NULL)
               : ckpt_value_new_bytes(out, m->doc, text, n, NULL);
}

/* Of every dtype that can be made, with a view of it now and then. */
static ckpt_status make_tensor(ckpt_value **out, maker *m) {
  ckpt_tensor *t = NULL, *view = NULL;
  const void *data = NULL;
  int64_t shape[3] = {take(m) % 4, take(m) % 4, take(m) % 3};
  int ndim = (int)(take(m) % 4);
  ckpt_dtype dtype = (ckpt_dtype)(take(m) % CKPT_DTYPE_COUNT);
  if (ckpt_dtype_rebuild(dtype) == CKPT_REBUILD_Q) dtype = CKPT_F32;
  CKPT_TRY(ckpt_tensor_new(&t, dtype, ndim, shape, NULL));
  if (ckpt_tensor_data(&data, t, NULL) == CKPT_OK && ckpt_tensor_numel(t) > 0)
    memset((void *)(uintptr_t)data, (int)take(m), (size_t)ckpt_tensor_numel(t) * ckpt_dtype_size(dtype));
  if (ndim >= 2 && take(m) % 2 == 0 && ckpt_tensor_transpose(&view, t, 0, 1, NULL) == CKPT_OK) {
    ckpt_tensor_release(t);
    t = view;
  }
  ckpt_status st = take(m) % 4 == 0 ? ckpt_value_new_parameter(out, m->doc, t, true, NULL)
                                    : ckpt_value_new_tensor(out, m->doc, t, NULL);
  ckpt_tensor_release(t);
  return st;
}

static ckpt_status make_filled(ckpt_value **out, maker *m, int kind) {
  unsigned n = take(m) % 6;
  CKPT_TRY(kind == 0   ? ckpt_value_new_list(out, m->doc, NULL)
           : kind == 1 ? ckpt_value_new_tuple(out, m->doc, NULL)
                       : ckpt_value_new_set(out, m->doc, kind == 3, NULL));
  for (; n > 0; n--) {
    ckpt_value *item = any(m);
    ckpt_status st = kind < 2 ? ckpt_value_append(*out, m->doc, item, NULL) : CKPT_OK;
    if (kind == 2 && item->kind == CKPT_STR) st = ckpt_value_add(*out, m->doc, item, NULL);
    CKPT_TRY(st);
  }
  return CKPT_OK;
}

static ckpt_status make_dict(ckpt_value **out, maker *m) {
  CKPT_TRY(ckpt_value_new_dict(out, m->doc, take(m) % 2 == 0, NULL));
  for (unsigned n = take(m) % 6; n > 0; n--) {
    ckpt_value *key = any(m);
    if (key->kind == CKPT_STR || key->kind == CKPT_INT) CKPT_TRY(ckpt_value_put(*out, m->doc, key, any(m), NULL));
  }
  return CKPT_OK;
}

static ckpt_status make_object(ckpt_value **out, maker *m) {
  ckpt_value *cls = NULL, *args = NULL, *kwargs = NULL;
  ckpt_how how = take(m) % 2 == 0 ? CKPT_BY_REDUCE : CKPT_BY_NEWOBJ;
  CKPT_TRY(ckpt_value_new_class(&cls, m->doc, "some.module", "Class", NULL));
  CKPT_TRY(ckpt_value_new_tuple(&args, m->doc, NULL));
  if (take(m) % 2 == 0) CKPT_TRY(ckpt_value_append(args, m->doc, any(m), NULL));
  CKPT_TRY(ckpt_value_new_object(out, m->doc, how, cls, args, kwargs, NULL));
  return take(m) % 2 == 0 ? ckpt_value_set_state(*out, any(m), NULL) : CKPT_OK;
}

static ckpt_status make_one(ckpt_value **out, maker *m) {
  switch (take(m) % 16) {
    case 0: return ckpt_value_new_none(out, m->doc, NULL);
    case 1: return ckpt_value_new_bool(out, m->doc, take(m) % 2 == 0, NULL);
    case 2: return ckpt_value_new_int(out, m->doc, take_int(m), NULL);
    case 3: return ckpt_value_new_double(out, m->doc, take_double(m), NULL);
    case 4: return make_bytes(out, m, false);
    case 5: return make_bytes(out, m, true);
    case 6: return make_filled(out, m, 0);
    case 7: return make_filled(out, m, 1);
    case 8: return make_filled(out, m, 2);
    case 9: return make_filled(out, m, 3);
    case 10: return make_dict(out, m);
    case 11: return make_object(out, m);
    case 12:
    case 13: return make_tensor(out, m);
    default: return make_str(out, m);
  }
}

/* Cycles: a list or dict made earlier takes the last value in. */
static void close_cycle(maker *m) {
  ckpt_value *to = any(m), *item = any(m);
  if (to->kind == CKPT_LIST) (void)ckpt_value_append(to, m->doc, item, NULL);
  if (to->kind == CKPT_DICT) (void)ckpt_value_set(to, m->doc, "cycle", item, NULL);
}

static ckpt_value *make_root(maker *m) {
  ckpt_value *root = NULL;
  while (m->at < m->size && m->n < MAX_VALUES)
    if (make_one(&m->values[m->n], m) == CKPT_OK) m->n++;
  if (m->n > 4) close_cycle(m);
  CHECK(ckpt_value_new_list(&root, m->doc, NULL) == CKPT_OK);
  for (size_t i = m->n > 8 ? m->n - 8 : 0; i < m->n; i++)
    CHECK(ckpt_value_append(root, m->doc, m->values[i], NULL) == CKPT_OK);
  return root;
}

static void through_pth(const ckpt_value *root, bool has_nan) {
  static const ckpt_open_options options = {.verify = true};
  ckpt_pickle pickle = {0}, again = {0};
  fuzz_memory out = FUZZ_MEMORY;
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  bool same = false;
  CHECK(ckpt_pickle_write(&pickle, root, &err) == CKPT_OK);
  CHECK(ckpt_pth_write(&out.sink, &pickle, "m", &err) == CKPT_OK);
  CHECK(ckpt_checkpoint_open_memory(&cp, out.bytes, out.n, "m", &options, &err) == CKPT_OK);
  CHECK(ckpt_value_equal(&same, root, ckpt_checkpoint_root(cp), &err) == CKPT_OK);
  CHECK(same || has_nan);
  CHECK(ckpt_pickle_write(&again, ckpt_checkpoint_root(cp), &err) == CKPT_OK);
  CHECK(pickle.n == again.n && memcmp(pickle.bytes, again.bytes, pickle.n) == 0);
  ckpt_checkpoint_close(cp);
  ckpt_pickle_free(&pickle);
  ckpt_pickle_free(&again);
  free(out.bytes);
}

static size_t collect(ckpt_safetensors_tensor *tensors, char (*names)[16], const maker *m) {
  size_t n = 0;
  for (size_t i = 0; i < m->n && n < 32; i++) {
    const ckpt_tensor *t = ckpt_value_tensor(m->values[i]);
    if (t == NULL || !ckpt_safetensors_takes(t)) continue;
    snprintf(names[n], sizeof names[n], "t%zu", i);
    tensors[n] = (ckpt_safetensors_tensor){names[n], t};
    n++;
  }
  return n;
}

static void through_safetensors(const maker *m) {
  static const ckpt_open_options options = {.verify = true};
  ckpt_safetensors_tensor tensors[32];
  char names[32][16];
  ckpt_safetensors file = {0};
  fuzz_memory out = FUZZ_MEMORY;
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  size_t n = collect(tensors, names, m);
  CHECK(ckpt_safetensors_prepare(&file, tensors, n, NULL, 0, &err) == CKPT_OK);
  CHECK(ckpt_safetensors_write(&out.sink, &file, &err) == CKPT_OK);
  CHECK(ckpt_checkpoint_open_memory(&cp, out.bytes, out.n, "m", &options, &err) == CKPT_OK);
  for (size_t i = 0; i < n; i++) {
    bool same = false;
    const ckpt_tensor *t = ckpt_value_tensor(ckpt_value_get(ckpt_checkpoint_root(cp), tensors[i].name));
    CHECK(t != NULL && ckpt_tensor_equal(&same, t, tensors[i].tensor, &err) == CKPT_OK && same);
  }
  ckpt_checkpoint_close(cp);
  ckpt_safetensors_free(&file);
  free(out.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  maker m = {.data = data, .size = size};
  CHECK(ckpt_document_new(&m.doc, NULL) == CKPT_OK);
  const ckpt_value *root = make_root(&m);
  through_pth(root, m.has_nan);
  through_safetensors(&m);
  ckpt_document_release(m.doc);
  return 0;
}
