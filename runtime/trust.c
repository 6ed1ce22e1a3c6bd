/* trust.c - see trust.h. The defaults are stated in ckpt.h, at ckpt_limits. */
#include "trust.h"

static size_t or_default(size_t limit, size_t by_default) { return limit == 0 ? by_default : limit; }

ckpt_trust ckpt_trust_of(const ckpt_open_options *options) {
  static const ckpt_open_options none = {0};
  const ckpt_open_options *o = options == NULL ? &none : options;
  const ckpt_limits *l = &o->limits;
  ckpt_trust trust = {.lenient = o->lenient};
  trust.limits.depth = or_default(l->depth, 1000);
  trust.limits.opcodes = or_default(l->opcodes, 50000000);
  trust.limits.memo = or_default(l->memo, 10000000);
  trust.limits.entries = or_default(l->entries, 1000000);
  trust.limits.header = or_default(l->header, 100000000);
  return trust;
}

ckpt_open_options ckpt_trust_options(const ckpt_trust *trust) {
  return (ckpt_open_options){.limits = trust->limits, .lenient = trust->lenient};
}
