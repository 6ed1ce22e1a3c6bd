/*
 * MSan: yes
 * fuzz_legacy.c - the formats that are streams of pickles: torch.save before 1.6, bare pickles, several of them in one
 * file. Everything is opened by its content.
 */
#include "pickle_edit.h"
#include "pickle_read.h"

static const ckpt_open_options options = {.verify = true, .limits = {1000, 100000, 100000, 1000, 1000}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  ckpt_checkpoint *cp = NULL;
  ckpt_pickle pickle = {0};
  ckpt_error err = {0};
  bool other = size >= 4 && memcmp(data, "PK\3\4", 4) == 0;
  other |= size > 262 && memcmp(data + 257, "ustar", 5) == 0;
  other |= size > 8 && ckpt_le64(data) < (uint64_t)1 << 32;
  if (other) return 0;
  ckpt_status st = ckpt_checkpoint_open_memory(&cp, data, size, "m", &options, &err);
  fuzz_check_open(st, &err);
  if (st == CKPT_OK) {
    fuzz_use(cp);
    st = ckpt_pickle_write(&pickle, ckpt_checkpoint_root(cp), &err);
    fuzz_check_error(st, &err);
    ckpt_pickle_free(&pickle);
  }
  ckpt_checkpoint_close(cp);
  return 0;
}

/* One of the pickles in the stream is edited as one, what stands before and behind it stays. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed) {
  static uint8_t part[1 << 14];
  size_t start = 0, end = ckpt_pickle_extent(data, 0, size);
  for (unsigned skip = seed % 6; skip > 0 && end < size; skip--) {
    start = end;
    end = ckpt_pickle_extent(data, start, size);
  }
  size_t n = end - start, rest = size - end;
  if (seed % 5 == 0 || n > sizeof part / 2) return LLVMFuzzerMutate(data, size, max);
  memcpy(part, data + start, n);
  size_t made = pickle_edit(part, n, sizeof part, seed / 6);
  if (start + made + rest > max) return LLVMFuzzerMutate(data, size, max);
  memmove(data + start + made, data + end, rest);
  memcpy(data + start, part, made);
  return start + made + rest;
}
