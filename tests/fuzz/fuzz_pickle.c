/*
 * MSan: yes
 * fuzz_pickle.c - the pickle machine alone: what it reads is written, read again and written again; both writings are
 * the same bytes, and the values are equal.
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  ckpt_document *doc = NULL;
  ckpt_value *root = NULL;
  ckpt_pickle pickle = {0};
  ckpt_error err = {0};
  size_t extent = ckpt_pickle_extent(data, 0, size);
  CHECK(extent <= size);
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
