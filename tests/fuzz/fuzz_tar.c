/* fuzz_tar.c - the tar files of PyTorch 0.1. The mutator edits one member and makes the checksums right again. */
#include "pickle_edit.h"

static const ckpt_open_options options = {.verify = true, .limits = {1000, 100000, 100000, 1000, 1000}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  if (size < 262 || memcmp(data + 257, "ustar", 5) != 0) return -1;
  if (memcmp(data, "PK\3\4", 4) == 0 || memcmp(data, "PYTORCH1", 8) == 0) return -1;
  ckpt_status st = ckpt_checkpoint_open_memory(&cp, data, size, "m", &options, &err);
  fuzz_check_open(st, &err);
  if (st == CKPT_OK) fuzz_use(cp);
  ckpt_checkpoint_close(cp);
  return 0;
}

static void fix_checksum(uint8_t *head) {
  unsigned sum = 0;
  char text[8];
  memset(head + 148, ' ', 8);
  for (int i = 0; i < 512; i++) sum += head[i];
  snprintf(text, sizeof text, "%06o", sum & 0777777);
  memcpy(head + 148, text, 7);
}

static size_t member_size(const uint8_t *head) {
  size_t n = 0;
  for (int i = 124; i < 135 && head[i] >= '0' && head[i] <= '7'; i++) n = n * 8 + (size_t)(head[i] - '0');
  return n;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed) {
  static uint8_t part[512];
  size_t at = 0;
  for (unsigned skip = seed % 4; skip > 0; skip--) {
    size_t next = at + 512 < size ? at + 512 + (member_size(data + at) + 511) / 512 * 512 : size;
    if (next + 512 > size) break;
    at = next;
  }
  if (seed % 5 == 0 || at + 1024 > size) return LLVMFuzzerMutate(data, size, max);
  size_t n = member_size(data + at), room = size - at - 512;
  if (n > room) n = room;
  if (n > sizeof part) n = sizeof part;
  memcpy(part, data + at + 512, n);
  size_t made = seed % 3 == 0 ? LLVMFuzzerMutate(part, n, n) : pickle_edit(part, n, n, seed / 4);
  memcpy(data + at + 512, part, made);
  if (seed % 7 == 0) LLVMFuzzerMutate(data + at, 512, 512);
  fix_checksum(data + at);
  return size;
}
