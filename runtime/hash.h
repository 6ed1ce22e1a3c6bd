/*
 * hash.h - the hash of a byte string, eight bytes at a time. It decides places in tables and nothing else: no order
 * that anybody sees comes of it, and it is another one whenever this file changes.
 */
#ifndef CKPT_HASH_H
#define CKPT_HASH_H

#include "base.h"

/* Both halves of the product, so that each bit of either factor reaches the low bits. */
static inline uint64_t ckpt_hash_mix(uint64_t a, uint64_t b) {
  unsigned __int128 product = (unsigned __int128)a * b;
  return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* The last bytes of a string whose other ones were taken eight at a time. */
static inline uint64_t ckpt_hash_tail(const unsigned char *p, size_t n) {
  if (n >= 4) return ckpt_le32(p) | (uint64_t)ckpt_le32(p + n - 4) << 32;
  return n == 0 ? 0 : p[0] | (uint64_t)p[n / 2] << 8 | (uint64_t)p[n - 1] << 16;
}

static inline uint64_t ckpt_hash_bytes(const void *bytes, size_t n) {
  const unsigned char *p = (const unsigned char *)bytes;
  uint64_t h = (n + 1) * UINT64_C(0x9e3779b97f4a7c15);
  for (; n >= 8; n -= 8, p += 8) h = ckpt_hash_mix(h ^ ckpt_le64(p), UINT64_C(0xe7037ed1a0b428db));
  return ckpt_hash_mix(h ^ ckpt_hash_tail(p, n), UINT64_C(0x8ebc6af09c88c6e3));
}

#endif
