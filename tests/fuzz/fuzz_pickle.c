/*
 * MSan: yes
 * fuzz_pickle.c - the pickle machine alone: what it reads is written, read again and written again; both writings are
 * the same bytes, and the values are equal. And with storages for tensors: calls that are taken whole are what the
 * opcodes one by one make of them.
 */
#include "pickle_edit.h"
#include "pickle_read.h"
#include "torch_build.h"

static const ckpt_limits limits = {1000, 100000, 100000, 1000, 1000};

static ckpt_status no_storage(ckpt_storage **out, void *context, const char *key, uint64_t bytes, unsigned swap_unit,
                              ckpt_error *err) {
  (void)out, (void)context, (void)bytes, (void)swap_unit;
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "there is no storage '%s'", key);
}

/* With torch's hooks, because bytes, sets and more are calls in the protocol that is written. */
static ckpt_status parse(ckpt_document **doc, ckpt_value **root, const uint8_t *data, size_t size, ckpt_error *err) {
  ckpt_torch_builder *builder = NULL;
  CKPT_TRY(ckpt_document_make(doc, ckpt_pickle_memory_limit(size), err));
  ckpt_document_set_limits(*doc, &limits);
  CKPT_TRY(ckpt_torch_builder_new(&builder, *doc, no_storage, NULL, err));
  ckpt_pickle_hooks hooks = ckpt_torch_builder_hooks(builder);
  ckpt_status st = ckpt_pickle_read(root, NULL, *doc, data, size, "data.pkl", &hooks, err);
  ckpt_torch_builder_free(builder);
  return st;
}

static void read_back(const ckpt_value *root, const ckpt_pickle *first) {
  ckpt_document *doc = NULL;
  ckpt_value *again = NULL;
  ckpt_pickle second = {0};
  ckpt_error err = {0};
  ckpt_status st = parse(&doc, &again, first->bytes, first->n, &err);
  if (st == CKPT_E_LIMIT) { /* written anew it may be longer in opcodes or values than it was */
    ckpt_document_release(doc);
    return;
  }
  CHECK(st == CKPT_OK);
  bool same = false;
  CHECK(ckpt_value_equal(&same, root, again, &err) == CKPT_OK);
  bool odd = fuzz_is_odd(root);
  CHECK(same || odd);
  st = ckpt_pickle_write(&second, again, &err);
  fuzz_check_error(st, &err);
  bool identical = st == CKPT_OK && second.n == first->n && memcmp(second.bytes, first->bytes, first->n) == 0;
  CHECK(identical || odd); /* a set that holds itself comes back as a call */
  ckpt_pickle_free(&second);
  ckpt_document_release(doc);
}

static ckpt_status some_storage(ckpt_storage **out, void *context, const char *key, uint64_t bytes, unsigned swap_unit,
                                ckpt_error *err) {
  return bytes <= 256 ? ckpt_storage_new(out, (size_t)bytes, err)
                      : no_storage(out, context, key, bytes, swap_unit, err);
}

/* The pickle that is written of what was read; its own status where it was not. */
static ckpt_status read_and_write(ckpt_pickle *out, const uint8_t *data, size_t size, bool whole, ckpt_error *err) {
  ckpt_document *doc = NULL;
  ckpt_torch_builder *builder = NULL;
  ckpt_value *root = NULL;
  ckpt_status st = ckpt_document_make(&doc, 0, err); /* whole calls take less memory */
  if (st != CKPT_OK) return st;
  ckpt_document_set_limits(doc, &limits);
  st = ckpt_torch_builder_new(&builder, doc, some_storage, NULL, err);
  if (st == CKPT_OK) {
    ckpt_pickle_hooks hooks = ckpt_torch_builder_hooks(builder);
    if (!whole) hooks.call = NULL;
    st = ckpt_pickle_read(&root, NULL, doc, data, size, "data.pkl", &hooks, err);
  }
  if (st == CKPT_OK) st = ckpt_pickle_write(out, root, err);
  ckpt_torch_builder_free(builder);
  ckpt_document_release(doc);
  return st;
}

static void compare_ways(const uint8_t *data, size_t size) {
  ckpt_pickle whole = {0}, one_by_one = {0};
  ckpt_error err = {0}, other = {0};
  ckpt_status st = read_and_write(&whole, data, size, true, &err);
  CHECK(read_and_write(&one_by_one, data, size, false, &other) == st);
  CHECK(strcmp(err.message, other.message) == 0 && err.position == other.position);
  CHECK(whole.n == one_by_one.n && whole.n_storages == one_by_one.n_storages);
  CHECK(whole.n == 0 || memcmp(whole.bytes, one_by_one.bytes, whole.n) == 0);
  ckpt_pickle_free(&whole);
  ckpt_pickle_free(&one_by_one);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  ckpt_document *doc = NULL;
  ckpt_value *root = NULL;
  ckpt_pickle pickle = {0};
  ckpt_error err = {0};
  size_t extent = ckpt_pickle_extent(data, 0, size);
  CHECK(extent <= size);
  compare_ways(data, size);
  ckpt_status st = parse(&doc, &root, data, size, &err);
  fuzz_check_error(st, &err);
  if (st == CKPT_OK) {
    st = ckpt_pickle_write(&pickle, root, &err);
    fuzz_check_error(st, &err);
    if (st == CKPT_OK) read_back(root, &pickle);
    ckpt_pickle_free(&pickle);
  }
  ckpt_document_release(doc);
  return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed) {
  return pickle_edit(data, size, max, seed);
}
