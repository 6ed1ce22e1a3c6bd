/*
 * fuzz_pth.c - whole files of torch.save and torch.jit.save. What opens is used, verified, sanitized and written; what
 * was written opens, and has equal values.
 */
#include "pickle_edit.h"
#include "pth.h"
#include "zip_edit.h"

static const ckpt_open_options options = {.limits = {1000, 100000, 100000, 1000, 1000}};

/* With CRCs of 0, which count as absent, the writer's own are new. */
static void read_back(const ckpt_value *root, const fuzz_memory *file) {
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  bool same = false;
  ckpt_open_options verify = options;
  verify.verify = true;
  verify.limits.opcodes = verify.limits.memo = 1000000;
  ckpt_status st = ckpt_checkpoint_open_memory(&cp, file->bytes, file->n, "m", &verify, &err);
  CHECK(st == CKPT_OK || st == CKPT_E_LIMIT || st == CKPT_E_CORRUPT);
  if (st == CKPT_OK && ckpt_value_equal(&same, root, ckpt_checkpoint_root(cp), &err) == CKPT_OK)
    CHECK(same || fuzz_is_odd(root));
  ckpt_checkpoint_close(cp);
}

static void write(const ckpt_value *root, bool compare) {
  ckpt_pickle pickle = {0};
  fuzz_memory out = FUZZ_MEMORY;
  ckpt_error err = {0};
  ckpt_status st = ckpt_pickle_write(&pickle, root, &err);
  fuzz_check_error(st, &err);
  if (st == CKPT_OK) {
    st = ckpt_pth_write(&out.sink, &pickle, "m", &err);
    fuzz_check_error(st, &err);
  }
  if (st == CKPT_OK && compare) read_back(root, &out);
  ckpt_pickle_free(&pickle);
  free(out.bytes);
}

static void sanitize(const ckpt_value *root) {
  ckpt_document *doc = NULL;
  ckpt_value *clean = NULL;
  ckpt_changes *changes = NULL;
  ckpt_error err = {0};
  CHECK(ckpt_document_new(&doc, &err) == CKPT_OK);
  ckpt_status st = ckpt_value_sanitize(&clean, &changes, doc, root, CKPT_WEIGHTS_ONLY_2_6, &err);
  fuzz_check_error(st, &err);
  if (st == CKPT_OK) write(clean, false);
  ckpt_changes_free(changes);
  ckpt_document_release(doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  if (size < 4 || memcmp(data, "PK\3\4", 4) != 0) return -1;
  ckpt_open_options o = options;
  o.lenient = size % 2 == 0;
  ckpt_status st = ckpt_checkpoint_open_memory(&cp, data, size, "m", &o, &err);
  fuzz_check_open(st, &err);
  if (st == CKPT_OK) {
    st = ckpt_checkpoint_verify(cp, &err);
    fuzz_check_error(st, &err);
    fuzz_use(cp);
    write(ckpt_checkpoint_root(cp), st == CKPT_OK);
    sanitize(ckpt_checkpoint_root(cp));
  }
  ckpt_checkpoint_close(cp);
  return 0;
}

static size_t payload(const char *name, uint8_t *data, size_t size, size_t max, unsigned seed) {
  size_t n = strlen(name);
  bool is_pickle = n > 4 && strcmp(name + n - 4, ".pkl") == 0;
  return is_pickle ? pickle_edit(data, size, max, seed) : LLVMFuzzerMutate(data, size, max);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed) {
  return zip_edit(data, size, max, seed, payload);
}
