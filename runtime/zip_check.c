/*
 * zip_check.c - see zip_check.h. Stored records are cut into pieces whose CRCs are computed by whoever is free and then
 * joined. A piece is read once and its pages let go. A record that does not agree is given to ckpt_zip_check, which
 * finds the words for it.
 *
 * A CRC is a polynomial over GF(2) modulo P. Appending n zero bytes multiplies it by x^(8n), so that
 * crc(a b) = crc(a) x^(8 |b|) + crc(b). Bit 31 holds x^0, bit 0 holds x^31.
 */
#include "zip_check.h"

#include <libdeflate.h>
#include <stdlib.h>

#include "parallel.h"

#define POLYNOMIAL 0xedb88320u
#define ONE (1u << 31)
#define X8 (1u << 23)

enum { PIECE = 1 << 20, EXPECTED = 16 /* groups that are read ahead */ };

typedef struct piece {
  size_t record, start, n;
  uint32_t crc;
} piece;

typedef struct group { /* neighbouring pieces of together about PIECE bytes: one task */
  size_t first, n;
} group;

typedef struct check {
  ckpt_zip *zip;
  piece *pieces;
  group *groups;
  size_t n, n_groups;
  bool keep;
} check;

static uint32_t times(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (uint32_t bit = ONE; bit != 0; bit >>= 1) {
    if ((a & bit) != 0) product ^= b;
    b = (b & 1) != 0 ? b >> 1 ^ POLYNOMIAL : b >> 1;
  }
  return product;
}

/* x^(8n), by which n bytes behind a CRC multiply it. */
static uint32_t shift_of(uint64_t n) {
  uint32_t shift = ONE;
  for (uint32_t power = X8; n > 0; n >>= 1, power = times(power, power))
    if ((n & 1) != 0) shift = times(shift, power);
  return shift;
}

uint32_t ckpt_crc32_join(uint32_t a, uint32_t b, uint64_t b_size) { return times(shift_of(b_size), a) ^ b; }

static bool is_piecewise(const ckpt_zip_entry *e) { return e->stored && e->crc != 0; }

/* At most. */
static size_t pieces_of(const ckpt_zip_entry *e) { return is_piecewise(e) ? (size_t)(e->size / PIECE) + 2 : 0; }

/* How far the bytes lie behind a multiple of PIECE in memory: pieces end at such, so that none reaches into two folios.
 */
static size_t offset_of(ckpt_zip *z, size_t record) {
  const unsigned char *bytes = NULL;
  return ckpt_zip_span(&bytes, z, record, NULL) == CKPT_OK ? (uintptr_t)bytes % PIECE : 0;
}

static void cut(check *c) {
  for (size_t i = 0; i < ckpt_zip_count(c->zip); i++) {
    const ckpt_zip_entry *e = ckpt_zip_entry_at(c->zip, i);
    if (!is_piecewise(e)) continue;
    for (size_t at = 0, n, room = PIECE - offset_of(c->zip, i); at < e->size; at += n, room = PIECE) {
      n = e->size - at < room ? (size_t)e->size - at : room;
      c->pieces[c->n++] = (piece){i, at, n, 0};
    }
  }
}

/* There are at most as many groups as pieces. */
static void make_groups(check *c) {
  size_t bytes = PIECE;
  for (size_t i = 0; i < c->n; i++) {
    if (bytes >= PIECE) {
      c->groups[c->n_groups++] = (group){i, 0};
      bytes = 0;
    }
    c->groups[c->n_groups - 1].n++;
    bytes += c->pieces[i].n;
  }
}

/* Where a piece lies; stored records have a span. */
static const unsigned char *bytes_of(const check *c, const piece *p) {
  const unsigned char *bytes = NULL;
  return ckpt_zip_span(&bytes, c->zip, p->record, NULL) == CKPT_OK ? bytes + p->start : NULL;
}

/* Asks for what comes a while later, so that the disk is never waited for twice. */
static void expect_ahead(const check *c, size_t i) {
  if (i >= c->n_groups) return;
  const piece *first = &c->pieces[c->groups[i].first], *last = first + c->groups[i].n - 1;
  const unsigned char *from = bytes_of(c, first), *to = bytes_of(c, last) + last->n;
  if (from < to) ckpt_mapping_expect(ckpt_zip_mapping(c->zip), from, (size_t)(to - from));
}

static void sum_group(void *context, size_t i) {
  const check *c = context;
  const group *g = &c->groups[i];
  const piece *last = &c->pieces[g->first + g->n - 1];
  expect_ahead(c, i + EXPECTED);
  for (size_t k = 0; k < g->n; k++) {
    piece *p = &c->pieces[g->first + k];
    p->crc = libdeflate_crc32(0, bytes_of(c, p), p->n);
  }
  const unsigned char *from = bytes_of(c, &c->pieces[g->first]), *to = bytes_of(c, last) + last->n;
  if (from < to && !c->keep) ckpt_mapping_forget_folios(ckpt_zip_mapping(c->zip), from, (size_t)(to - from));
}

/* The pieces of record i, which begin at *at. */
static uint32_t joined(const check *c, size_t i, size_t *at, uint32_t shift) {
  uint32_t crc = 0;
  for (; *at < c->n && c->pieces[*at].record == i; ++*at) {
    const piece *p = &c->pieces[*at];
    crc = p->start == 0 ? p->crc : p->n == PIECE ? times(shift, crc) ^ p->crc : ckpt_crc32_join(crc, p->crc, p->n);
  }
  return crc;
}

static ckpt_status compare(const check *c, ckpt_error *err) {
  size_t at = 0;
  const uint32_t shift = shift_of(PIECE);
  for (size_t i = 0; i < ckpt_zip_count(c->zip); i++) {
    const ckpt_zip_entry *e = ckpt_zip_entry_at(c->zip, i);
    if (is_piecewise(e) ? joined(c, i, &at, shift) != e->crc : !e->stored) CKPT_TRY(ckpt_zip_check(c->zip, i, err));
  }
  return CKPT_OK;
}

ckpt_status ckpt_zip_check_all(ckpt_zip *z, bool keep, ckpt_error *err) {
  size_t n = 0, bytes = 0, all = ckpt_mapping_size(ckpt_zip_mapping(z));
  for (size_t i = 0; i < ckpt_zip_count(z); i++) {
    const ckpt_zip_entry *e = ckpt_zip_entry_at(z, i);
    n += pieces_of(e);
    if (is_piecewise(e)) bytes += (size_t)e->size;
  }
  check c = {z, malloc((n + 1) * sizeof *c.pieces), malloc((n + 1) * sizeof *c.groups), 0, 0, keep};
  ckpt_status st = CKPT_OK;
  if (c.pieces == NULL || c.groups == NULL) CKPT_GO(ckpt_fail_nomem(err, (n + 1) * sizeof *c.pieces));
  cut(&c);
  make_groups(&c);
  ckpt_parallel(sum_group, &c, c.n_groups, ckpt_parallel_threads(bytes));
  if (!keep) ckpt_mapping_forget(ckpt_zip_mapping(z), ckpt_mapping_data(ckpt_zip_mapping(z)), all);
  CKPT_GO(compare(&c, err));
done:
  free(c.pieces);
  free(c.groups);
  return st;
}
