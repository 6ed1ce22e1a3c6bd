/*
 * sandbox_nodes.c - tables whose numeric keys collide.
 *
 * Lua hashes an integer by its remainder and a float by its first bits, both of which a script can choose. When a table
 * of n colliding keys grows, each is looked up among those before it: n^2 / 2 steps within one instruction, which no
 * hook sees and no error ends (65,536 keys: 2 s; what 64 MiB hold: minutes). So when a table asks for its next, larger
 * vector of nodes, vectors of half that size and of the same size are looked through first, and the growth is refused
 * if their numeric keys would collide in the new one. Strings and objects cannot be chosen so: their hashes hang on a
 * seed and on addresses, which a policy does not see.
 *
 * This reads the nodes as Lua 5.4 lays them out, 24 bytes each:
 *
 *   0 value   8 its type   9 the key's type   12 next   16 key
 *
 * Were they laid out otherwise, nothing would be found: the vectors are blocks of our own allocator and are only read.
 */
#include <math.h>
#include <string.h>

#include "sandbox_inside.h"

enum { NODE = 24, LEAST = 13, MOST = 40, BUCKETS = 4096, TYPE_OF_VALUE = 8, TYPE_OF_KEY = 9, KEY = 16 };
enum { INTEGER_KEY = 0x03, FLOAT_KEY = 0x13 };

/* k if a block of that size may be a vector of 2^k nodes, else 0. */
static int log2_of(size_t size) {
  size_t n = size / NODE;
  if (size % NODE != 0 || (n & (n - 1)) != 0 || n < (size_t)1 << LEAST) return 0;
  int k = LEAST;
  while (k < MOST && (size_t)1 << k < n) k++;
  return k;
}

/* ---- Lua's hashes -------------------------------------------------------------------------------------- */

static uint64_t hash_float(double x) {
  int exponent;
  double n = frexp(x, &exponent) * 2147483648.0;
  if (!(n >= -9223372036854775808.0 && n < 9223372036854775808.0)) return 0;
  unsigned u = (unsigned)exponent + (unsigned)(int64_t)n;
  return u <= 0x7FFFFFFFu ? u : ~u;
}

/* The hash of the node's key if it is a number and its value is there. */
static bool numeric_hash(uint64_t *out, const unsigned char *node) {
  if ((node[TYPE_OF_VALUE] & 0x0F) == 0) return false;
  if (node[TYPE_OF_KEY] == INTEGER_KEY) {
    memcpy(out, node + KEY, sizeof *out);
    return true;
  }
  double x;
  memcpy(&x, node + KEY, sizeof x);
  *out = node[TYPE_OF_KEY] == FLOAT_KEY ? hash_float(x) : 0;
  return node[TYPE_OF_KEY] == FLOAT_KEY;
}

/* About how many steps it takes to put the numeric keys of a vector into one of 2^k nodes, and how many they are. */
static double cost_of(const unsigned char *nodes, int log2, int k, double *keys) {
  uint32_t count[BUCKETS] = {0};
  uint64_t modulus = ((uint64_t)1 << k) - 1, hash;
  double cost = 0;
  *keys = 0;
  for (size_t i = 0; i < (size_t)1 << log2; i++) {
    if (!numeric_hash(&hash, nodes + i * NODE)) continue;
    uint32_t place = (uint32_t)(hash % modulus) * 2654435761u;
    cost += count[place >> 20]++;
    ++*keys;
  }
  return cost;
}

/* ---- the vectors of a state ---------------------------------------------------------------------------- */

void ckpt_sandbox_nodes_made(ckpt_sandbox *s, const void *p, size_t size) {
  int k = log2_of(size);
  if (k == 0 || s->n_vectors == CKPT_SANDBOX_VECTORS) return;
  s->vectors[s->n_vectors].nodes = p;
  s->vectors[s->n_vectors++].log2 = k;
}

void ckpt_sandbox_nodes_freed(ckpt_sandbox *s, const void *p) {
  for (int i = 0; i < s->n_vectors; i++) {
    if (s->vectors[i].nodes != p) continue;
    s->vectors[i] = s->vectors[--s->n_vectors];
    return;
  }
}

bool ckpt_sandbox_nodes_collide(const ckpt_sandbox *s, size_t size) {
  enum { ALWAYS = 4000000 };
  int k = log2_of(size);
  for (int i = 0; k > LEAST && i < s->n_vectors; i++) {
    int log2 = s->vectors[i].log2;
    if (log2 != k && log2 != k - 1) continue;
    double keys, cost = cost_of(s->vectors[i].nodes, log2, k, &keys);
    if (cost > ALWAYS + keys * keys / BUCKETS) return true; /* twice what keys at random cost */
  }
  return false;
}
