/*
 * driver.c - the C side of the graph tests: reads requests from its standard input, answers on its standard output.
 * All numbers are little-endian, u32 unless said otherwise.
 *
 *   request  'R'  storages, pickle                read this pickle
 *            'M'  u64 seed                        make a graph of this seed
 *   answer   status (u8, 0: fine)  text           the graph's description, or what was wrong
 *            pickle, storages                     the graph as ckpt writes it; absent after a failure
 *
 *   text, pickle   n, n bytes          storages   n, n times: n key bytes, n data bytes
 *
 * What is read or made is also cloned: the copy must have the same description and the same pickle; and what is written
 * is read again: it must have the same description, too.
 */
#include <stdio.h>
#include <stdlib.h>

#include "describe.h"
#include "make.h"
#include "pickle_write.h"
#include "torch_build.h"

typedef struct blob {
  unsigned char *bytes;
  uint32_t n;
} blob;

typedef struct request {
  blob *keys, *data;
  uint32_t n;
  blob pickle;
} request;

/* ---- streams ---- */

static void get(void *out, size_t n) {
  if (fread(out, 1, n, stdin) != n) exit(3);
}

static uint32_t get_u32(void) {
  unsigned char b[4];
  get(b, 4);
  return ckpt_le32(b);
}

static blob get_blob(void) {
  blob b = {NULL, get_u32()};
  b.bytes = malloc((size_t)b.n + 1);
  if (b.bytes == NULL) exit(3);
  get(b.bytes, b.n);
  b.bytes[b.n] = '\0';
  return b;
}

static void put_u32(size_t v) {
  unsigned char b[4];
  ckpt_put32(b, (uint32_t)v);
  fwrite(b, 1, 4, stdout);
}

static void put_blob(const void *bytes, size_t n) {
  put_u32(n);
  fwrite(bytes, 1, n, stdout);
}

static request get_request(void) {
  request r = {.n = get_u32()};
  r.keys = calloc(r.n + 1, sizeof *r.keys);
  r.data = calloc(r.n + 1, sizeof *r.data);
  if (r.keys == NULL || r.data == NULL) exit(3);
  for (uint32_t i = 0; i < r.n; i++) {
    r.keys[i] = get_blob();
    r.data[i] = get_blob();
  }
  r.pickle = get_blob();
  return r;
}

static void free_request(request *r) {
  for (uint32_t i = 0; i < r->n; i++) {
    free(r->keys[i].bytes);
    free(r->data[i].bytes);
  }
  free(r->keys);
  free(r->data);
  free(r->pickle.bytes);
}

/* ---- answers ---- */

static void fail(const ckpt_error *err) {
  fputc(1, stdout);
  put_blob(err->message, strlen(err->message));
}

static void put_pickle(const ckpt_pickle *p) {
  put_blob(p->bytes, p->n);
  put_u32(p->n_storages);
  for (size_t i = 0; i < p->n_storages; i++) {
    char key[24];
    unsigned char *data = NULL;
    put_blob(key, (size_t)snprintf(key, sizeof key, "%zu", i));
    if (ckpt_storage_data(&data, p->storages[i], NULL) != CKPT_OK) exit(3);
    put_blob(data, ckpt_storage_size(p->storages[i]));
  }
}

/* ---- reading ---- */

static ckpt_status find_storage(ckpt_storage **out, void *context, const char *key, uint64_t bytes, unsigned swap_unit,
                                ckpt_error *err) {
  const request *r = context;
  (void)swap_unit;
  for (uint32_t i = 0; i < r->n; i++) {
    if (strcmp((const char *)r->keys[i].bytes, key) != 0) continue;
    if (r->data[i].n != bytes) return ckpt_fail(err, CKPT_E_CORRUPT, -1, "storage '%s' of another size", key);
    return ckpt_storage_borrow(out, r->data[i].bytes, r->data[i].n, err);
  }
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "storage '%s' is missing", key);
}

static ckpt_status read_pickle(ckpt_value **root, ckpt_document *doc, request *r, ckpt_error *err) {
  ckpt_torch_builder *builder = NULL;
  size_t used = 0;
  CKPT_TRY(ckpt_torch_builder_new(&builder, doc, find_storage, r, err));
  ckpt_pickle_hooks hooks = ckpt_torch_builder_hooks(builder);
  ckpt_status st = ckpt_pickle_read(root, &used, doc, r->pickle.bytes, r->pickle.n, "pickle", &hooks, err);
  ckpt_torch_builder_free(builder);
  if (st == CKPT_OK && used != r->pickle.n) return ckpt_fail(err, CKPT_E_CORRUPT, -1, "%zu bytes used", used);
  return st;
}

static ckpt_status compare_pickles(const ckpt_value *a, const ckpt_value *b, ckpt_error *err) {
  ckpt_pickle p = {0}, q = {0};
  ckpt_status st = ckpt_pickle_write(&p, a, err);
  if (st == CKPT_OK) st = ckpt_pickle_write(&q, b, err);
  if (st == CKPT_OK && (p.n != q.n || p.n_storages != q.n_storages || memcmp(p.bytes, q.bytes, p.n) != 0))
    st = ckpt_fail(err, CKPT_E_CORRUPT, -1, "the clone is written differently");
  ckpt_pickle_free(&p);
  ckpt_pickle_free(&q);
  return st;
}

static ckpt_status check_clone(const ckpt_value *root, ckpt_error *err) {
  ckpt_document *doc = NULL;
  ckpt_value *copy = NULL;
  text a = {0}, b = {0};
  CKPT_TRY(ckpt_document_new(&doc, err));
  ckpt_status st = ckpt_value_clone(&copy, doc, root, err);
  if (st == CKPT_OK) {
    describe(&a, root);
    describe(&b, copy);
    bool same = a.n == b.n && memcmp(a.bytes, b.bytes, a.n) == 0;
    st = same ? compare_pickles(root, copy, err) : ckpt_fail(err, CKPT_E_CORRUPT, -1, "the clone is another graph");
  }
  free(a.bytes);
  free(b.bytes);
  ckpt_document_release(doc);
  return st;
}

/* ---- answering ---- */

static ckpt_status find_written(ckpt_storage **out, void *context, const char *key, uint64_t bytes, unsigned swap_unit,
                                ckpt_error *err) {
  const ckpt_pickle *p = context;
  size_t i = (size_t)strtoull(key, NULL, 10);
  (void)swap_unit;
  if (i >= p->n_storages || ckpt_storage_size(p->storages[i]) != bytes)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "storage '%s' was not written", key);
  *out = ckpt_storage_retain(p->storages[i]);
  return CKPT_OK;
}

static ckpt_status describe_written(text *out, ckpt_pickle *p, ckpt_error *err) {
  ckpt_document *doc = NULL;
  ckpt_torch_builder *builder = NULL;
  ckpt_value *root = NULL;
  CKPT_TRY(ckpt_document_make(&doc, ckpt_pickle_memory_limit(p->n), err));
  ckpt_status st = ckpt_torch_builder_new(&builder, doc, find_written, p, err);
  if (st == CKPT_OK) {
    ckpt_pickle_hooks hooks = ckpt_torch_builder_hooks(builder);
    st = ckpt_pickle_read(&root, NULL, doc, p->bytes, p->n, "written", &hooks, err);
  }
  ckpt_torch_builder_free(builder);
  if (st == CKPT_OK) describe(out, root);
  ckpt_document_release(doc);
  return st;
}

static void answer(const ckpt_value *root) {
  ckpt_pickle p = {0};
  ckpt_error err = {0};
  text t = {0}, again = {0};
  ckpt_status st = ckpt_pickle_write(&p, root, &err);
  if (st == CKPT_OK) st = describe_written(&again, &p, &err);
  if (st == CKPT_OK) describe(&t, root);
  if (st == CKPT_OK && (t.n != again.n || memcmp(t.bytes, again.bytes, t.n) != 0))
    st = ckpt_fail(&err, CKPT_E_CORRUPT, -1, "what was written is read as another graph");
  if (st != CKPT_OK) {
    fail(&err);
  } else {
    fputc(0, stdout);
    put_blob(t.bytes, t.n);
    put_pickle(&p);
  }
  ckpt_pickle_free(&p);
  free(t.bytes);
  free(again.bytes);
}

static void read_one(void) {
  request r = get_request();
  ckpt_document *doc = NULL;
  ckpt_value *root = NULL;
  ckpt_error err = {0};
  ckpt_status st = ckpt_document_make(&doc, ckpt_pickle_memory_limit(r.pickle.n), &err);
  if (st == CKPT_OK) st = read_pickle(&root, doc, &r, &err);
  if (st == CKPT_OK) st = check_clone(root, &err);
  if (st == CKPT_OK)
    answer(root);
  else
    fail(&err);
  ckpt_document_release(doc);
  free_request(&r);
}

/* ---- making ---- */

static void make_one(void) {
  unsigned char seed[8];
  ckpt_document *doc = NULL;
  ckpt_value *root = NULL;
  ckpt_error err = {0};
  get(seed, 8);
  ckpt_status st = ckpt_document_new(&doc, &err);
  if (st == CKPT_OK) st = make_graph(&root, doc, ckpt_le64(seed), &err);
  if (st == CKPT_OK) st = check_clone(root, &err);
  if (st == CKPT_OK)
    answer(root);
  else
    fail(&err);
  ckpt_document_release(doc);
}

int main(void) {
  for (int c = getchar(); c != EOF; c = getchar()) {
    if (c == 'R')
      read_one();
    else if (c == 'M')
      make_one();
    else
      return 3;
    if (fflush(stdout) != 0) return 3;
  }
  return 0;
}
