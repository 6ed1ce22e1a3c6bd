/* rng.c - xoshiro256**, seeded by splitmix64. */
#include "rng.h"

#include <string.h>

static uint64_t rotate(uint64_t x, int k) { return x << k | x >> (64 - k); }

static uint64_t get64(const uint8_t *p) {
  uint64_t v = 0;
  for (int i = 7; i >= 0; i--) v = v << 8 | p[i];
  return v;
}

static void put64(uint8_t *p, uint64_t v) {
  for (int i = 0; i < 8; i++) p[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t splitmix(uint64_t *x) {
  uint64_t z = (*x += 0x9e3779b97f4a7c15u);
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

void rng_seed(rng *r, uint64_t seed) {
  for (int i = 0; i < 4; i++) put64(r->state + 8 * i, splitmix(&seed));
}

uint64_t rng_next(rng *r) {
  uint64_t s[4];
  for (int i = 0; i < 4; i++) s[i] = get64(r->state + 8 * i);
  uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= t;
  s[3] = rotate(s[3], 45);
  for (int i = 0; i < 4; i++) put64(r->state + 8 * i, s[i]);
  return result;
}

float rng_uniform(rng *r, float limit) {
  float unit = (float)(rng_next(r) >> 40) * 0x1p-24f;
  return limit * (2 * unit - 1);
}

/* Uniform in 0..n-1 (Lemire): the high half of a product, with the biased low part drawn again. */
static uint32_t below(rng *r, uint32_t n) {
  uint32_t biased = -n % n;
  uint64_t product;
  do product = (rng_next(r) >> 32) * n;
  while ((uint32_t)product < biased);
  return (uint32_t)(product >> 32);
}

void rng_permutation(rng *r, uint32_t *order, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) order[i] = i;
  for (uint32_t i = n; i > 1; i--) {
    uint32_t j = below(r, i), swap = order[i - 1];
    order[i - 1] = order[j];
    order[j] = swap;
  }
}
