/*
 * fuzz_zip.c - the container alone: what is accepted has records that lie apart and inside the file; what is accepted
 * as plain has, besides, no more bytes in records than the file has.
 */
#include "zip_edit.h"
#include "zip_strict.h"
#include "zip_read.h"

static const ckpt_trust trusts[] = {{.limits = {1000, 100000, 100000, 1000, 1000}, .lenient = false},
                                    {.limits = {1000, 100000, 100000, 1000, 1000}, .lenient = true}};

/* Two records never share a byte. */
static void check_apart(ckpt_zip *zip, size_t i, size_t k) {
  const unsigned char *a = NULL, *b = NULL;
  const ckpt_zip_entry *x = ckpt_zip_entry_at(zip, i), *y = ckpt_zip_entry_at(zip, k);
  if (x->size == 0 || y->size == 0 || ckpt_zip_span(&a, zip, i, NULL) != CKPT_OK ||
      ckpt_zip_span(&b, zip, k, NULL) != CKPT_OK)
    return;
  CHECK(a + x->size <= b || b + y->size <= a);
}

static void use(ckpt_zip *zip, const uint8_t *data, size_t size) {
  uint64_t packed = 0;
  size_t n = ckpt_zip_count(zip);
  for (size_t i = 0; i < n; i++) {
    const ckpt_zip_entry *e = ckpt_zip_entry_at(zip, i);
    const unsigned char *span = NULL;
    unsigned char *bytes = NULL;
    ckpt_error err = {0};
    packed += e->packed;
    CHECK(ckpt_zip_find(zip, e->name) == i);
    if (ckpt_zip_span(&span, zip, i, NULL) == CKPT_OK && e->size > 0)
      CHECK(span >= data && span + e->size <= data + size);
    fuzz_check_error(ckpt_zip_check(zip, i, &err), &err);
    ckpt_status st = ckpt_zip_read(&bytes, zip, i, &err);
    fuzz_check_error(st, &err);
    if (st == CKPT_OK && span != NULL && e->size > 0) CHECK(memcmp(bytes, span, (size_t)e->size) == 0);
    free(bytes);
    for (size_t k = i + 1; k < n && k < i + 16; k++) check_apart(zip, i, k);
  }
  CHECK(packed <= size);
}

static bool try(const ckpt_trust *trust, const uint8_t *data, size_t size) {
  ckpt_mapping *map = NULL;
  ckpt_zip *zip = NULL;
  ckpt_error err = {0};
  if (ckpt_mapping_memory(&map, data, size, NULL) != CKPT_OK) return false;
  ckpt_mapping_set_trust(map, trust);
  ckpt_status st = ckpt_zip_open(&zip, map, 0, size, &err);
  fuzz_check_open(st, &err);
  if (st == CKPT_OK) {
    use(zip, data, size);
    st = ckpt_zip_check_strict(map, 0, size, &err);
    fuzz_check_open(st, &err);
  }
  ckpt_zip_release(zip);
  ckpt_mapping_release(map);
  return st == CKPT_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  bool strict = try(&trusts[0], data, size), lenient = try(&trusts[1], data, size);
  CHECK(lenient || !strict);
  return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed) {
  return seed % 2 == 0 ? LLVMFuzzerMutate(data, size, max) : zip_edit(data, size, max, seed, NULL);
}
