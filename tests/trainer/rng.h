/*
 * rng.h - xoshiro256** (Blackman and Vigna, public domain) whose whole state is 32 bytes, so that a checkpoint holds
 * it.
 *
 * The bytes are the four 64-bit words in little-endian order. Never all zero.
 */
#ifndef TRAINER_RNG_H
#define TRAINER_RNG_H

#include <stddef.h>
#include <stdint.h>

enum { RNG_BYTES = 32 };

typedef struct rng {
  uint8_t state[RNG_BYTES];
} rng;

void rng_seed(rng *r, uint64_t seed);
uint64_t rng_next(rng *r);

/* Uniform in [-limit, limit). */
float rng_uniform(rng *r, float limit);

/* order[0..n) becomes a random permutation of 0..n-1; what it was does not matter. */
void rng_permutation(rng *r, uint32_t *order, uint32_t n);

#endif
