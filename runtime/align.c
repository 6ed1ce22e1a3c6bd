/*
 * align.c - suffix alignment in near-linear time.
 *
 * A name is hashed from its last byte to its first, so that on the way each of its suffixes has been hashed too. The
 * sources go into a table; a target asks it for every suffix whose length some source has, and takes the longest.
 *
 * With 100,000 names no table fits the processor's own cache, and a look at it costs more than to hash a name. So most
 * suffixes are turned away by how they begin, and most of the others by a filter of a byte for each slot; hashes are
 * computed in one pass and used in the next, and what a name will look at is asked for while those before it are dealt
 * with. The hash begins with an address,
 * that nobody can make names that all meet in one place.
 */
#include "parallel.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { AHEAD = 16, BATCH = 32 };

typedef struct slot {
  uint32_t tag, source; /* low half of the hash; number of the source + 1, 0: free */
} slot;

typedef struct opening { /* the first bytes that sources of one length have */
  uint64_t set[4];
} opening;

typedef struct table {
  const char *const *sources;
  slot *slots;       /* a power of two, a quarter of them free at least */
  uint64_t *filter;  /* a word for each eight slots: two bits for each source */
  opening *openings; /* of the sources of each length */
  size_t n_lengths, n_sources, mask;
  unsigned shift; /* hash >> shift is a slot's number */
  uint64_t seed;
  char boundary;
} table;

typedef struct suffix { /* of a target */
  size_t n;             /* SIZE_MAX: none */
  uint64_t hash;
} suffix;

static uint64_t step(uint64_t hash, char c) { return (hash ^ (unsigned char)c) * UINT64_C(0x9e3779b97f4a7c15); }

static uint64_t filter_bits(uint64_t hash) { return UINT64_C(1) << (hash & 63) | UINT64_C(1) << (hash >> 6 & 63); }

static uint64_t *filter_word(const table *t, uint64_t hash) { return &t->filter[(hash >> t->shift) / 8]; }

#define HUGE ((size_t)2 << 20)

/* n zeroed bytes. Many lie in huge pages where the system has them: hundreds of page faults cost what the sweep does.
 */
static void *zeroed(size_t n) {
  size_t size = (n + HUGE - 1) / HUGE * HUGE;
  if (n < HUGE / 4) return calloc(1, n);
  void *p = aligned_alloc(HUGE, size);
  if (p == NULL) return NULL;
  madvise(p, size, MADV_HUGEPAGE);
  return memset(p, 0, n);
}

/* ---- the sources ---- */

static uint64_t hash_name(const table *t, const char *name, size_t n) {
  uint64_t hash = t->seed;
  for (; n > 0; n--) hash = step(hash, name[n - 1]);
  return hash;
}

static ckpt_status room_for_length(table *t, size_t n, ckpt_error *err) {
  if (n < t->n_lengths) return CKPT_OK;
  size_t more = 2 * n + 64;
  opening *openings = realloc(t->openings, more * sizeof *openings);
  if (openings == NULL) return ckpt_fail_nomem(err, more * sizeof *openings);
  memset(openings + t->n_lengths, 0, (more - t->n_lengths) * sizeof *openings);
  t->openings = openings;
  t->n_lengths = more;
  return CKPT_OK;
}

static void open_with(table *t, const char *name, size_t n) {
  unsigned char first = (unsigned char)name[0];
  t->openings[n].set[first / 64] |= UINT64_C(1) << first % 64;
}

static bool opens(const table *t, const char *from, size_t n) {
  unsigned char first = (unsigned char)from[0];
  return (t->openings[n].set[first / 64] >> first % 64 & 1) != 0;
}

/* The slot of an equal name, or the free one where it would go. */
static slot *find(const table *t, const char *name, uint64_t hash) {
  for (size_t at = (size_t)(hash >> t->shift);; at++) {
    slot *s = &t->slots[at & t->mask];
    if (s->source == 0) return s;
    if (s->tag == (uint32_t)hash && strcmp(t->sources[s->source - 1], name) == 0) return s;
  }
}

/* Of equal names the last one stays. */
static void insert_all(const table *t, const uint64_t *hashes) {
  for (size_t i = 0; i < t->n_sources; i++) {
    if (i + AHEAD < t->n_sources) __builtin_prefetch(&t->slots[hashes[i + AHEAD] >> t->shift], 1);
    slot *s = find(t, t->sources[i], hashes[i]);
    *s = (slot){(uint32_t)hashes[i], (uint32_t)i + 1};
    *filter_word(t, hashes[i]) |= filter_bits(hashes[i]);
  }
}

/* The names lie anywhere: each is asked for early, and looked at once. */
static ckpt_status hash_all(table *t, uint64_t *hashes, ckpt_error *err) {
  for (size_t i = 0; i < t->n_sources; i++) {
    if (i + AHEAD < t->n_sources) __builtin_prefetch(t->sources[i + AHEAD]);
    size_t n = strlen(t->sources[i]);
    CKPT_TRY(room_for_length(t, n, err));
    open_with(t, t->sources[i], n);
    hashes[i] = hash_name(t, t->sources[i], n);
  }
  return CKPT_OK;
}

static ckpt_status make_table(table *t, ckpt_error *err) {
  size_t slots = 64;
  t->shift = 58;
  for (; slots - slots / 4 < t->n_sources; slots *= 2) t->shift--;
  t->mask = slots - 1;
  size_t n = slots * sizeof *t->slots + slots + t->n_sources * sizeof(uint64_t);
  t->slots = zeroed(n);
  if (t->slots == NULL) return ckpt_fail_nomem(err, n);
  t->filter = (uint64_t *)(void *)(t->slots + slots); /* of as many bytes as there are slots */
  uint64_t *hashes = t->filter + slots / sizeof *t->filter;
  t->seed = (uint64_t)(uintptr_t)t->slots * UINT64_C(0xe7037ed1a0b428db);
  CKPT_TRY(room_for_length(t, 0, err));
  CKPT_TRY(hash_all(t, hashes, err));
  insert_all(t, hashes);
  return CKPT_OK;
}

static void free_table(table *t) {
  free(t->slots);
  free(t->openings);
}

/* ---- a target ---- */

/* Whether the last n of its bytes, of `all`, may stand for it. */
static bool at_boundary(const table *t, const char *name, size_t all, size_t n) {
  return t->boundary == '\0' || n == all || (n > 0 && name[all - n - 1] == t->boundary);
}

/* The longest suffix of less than `below` bytes that the filter lets pass. */
static suffix longest(const table *t, const char *name, size_t below) {
  suffix found = {SIZE_MAX, 0};
  uint64_t hash = t->seed;
  size_t all = strlen(name);
  for (size_t n = 0; n < below; n++) {
    const char *from = name + all - n;
    if (opens(t, from, n) && (~*filter_word(t, hash) & filter_bits(hash)) == 0 && at_boundary(t, name, all, n))
      found = (suffix){n, hash};
    if (n == all || n + 1 == t->n_lengths) break;
    hash = step(hash, from[-1]);
  }
  return found;
}

/* The source that is such a suffix, and the shorter ones if none is. */
static size_t resolve(const table *t, const char *name, suffix s) {
  for (size_t all = strlen(name); s.n != SIZE_MAX; s = longest(t, name, s.n)) {
    const slot *found = find(t, name + all - s.n, s.hash);
    if (found->source != 0) return found->source - 1;
  }
  return SIZE_MAX;
}

/* The text that will be compared, if the first slot has it. */
static void expect(const table *t, suffix s) {
  const slot *first = &t->slots[s.hash >> t->shift];
  if (s.n != SIZE_MAX && first->source != 0) __builtin_prefetch(t->sources[first->source - 1]);
}

/* Up to BATCH of the targets that are `left`. */
static void align(size_t *out, const table *t, const char *const *targets, size_t left) {
  suffix s[BATCH];
  size_t n = left < BATCH ? left : BATCH;
  for (size_t i = 0; i < n; i++) {
    if (i + BATCH < left) __builtin_prefetch(targets[i + BATCH]);
    s[i] = longest(t, targets[i], SIZE_MAX);
    __builtin_prefetch(&t->slots[s[i].hash >> t->shift]);
  }
  for (size_t i = 0; i < n; i++) expect(t, s[i]);
  for (size_t i = 0; i < n; i++) out[i] = resolve(t, targets[i], s[i]);
}

enum { PORTION = 4096, TYPICAL_NAME = 64 };

typedef struct job {
  const table *t;
  const char *const *targets;
  size_t n;
  size_t *out;
} job;

static void align_portion(void *context, size_t i) {
  const job *j = context;
  size_t from = i * PORTION, to = j->n - from < PORTION ? j->n : from + PORTION;
  for (size_t at = from; at < to; at += BATCH) align(j->out + at, j->t, j->targets + at, to - at);
}

static void align_all(size_t *out, const table *t, const char *const *targets, size_t n) {
  job j = {t, targets, n, out};
  ckpt_parallel(align_portion, &j, (n + PORTION - 1) / PORTION, ckpt_parallel_threads(n * TYPICAL_NAME));
}

ckpt_status ckpt_align(size_t **out, size_t n_targets, const char *const *targets, size_t n_sources,
                       const char *const *sources, char boundary, ckpt_error *err) {
  table t = {.sources = sources, .n_sources = n_sources, .boundary = boundary};
  if (n_sources > UINT32_MAX / 4) return ckpt_fail(err, CKPT_E_LIMIT, -1, "%zu names to align with", n_sources);
  size_t *found = zeroed((n_targets + 1) * sizeof *found);
  ckpt_status st = found == NULL ? ckpt_fail_nomem(err, n_targets * sizeof *found) : make_table(&t, err);
  if (st == CKPT_OK) align_all(found, &t, targets, n_targets);
  free_table(&t);
  if (st != CKPT_OK) {
    free(found);
    return st;
  }
  *out = found;
  return CKPT_OK;
}
