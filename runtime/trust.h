/*
 * trust.h - how far a file is believed: the limits that a caller set or left at their defaults, and whether a zip
 * archive may be one that another reader reads differently. It goes with the mapping of the file, and with the document
 * that is made of it.
 */
#ifndef CKPT_TRUST_H
#define CKPT_TRUST_H

#include "base.h"

typedef struct ckpt_trust {
  ckpt_limits limits; /* none of them 0 */
  bool lenient;
} ckpt_trust;

/* What `options` (may be NULL) say, with defaults for what they leave open. */
ckpt_trust ckpt_trust_of(const ckpt_open_options *options);

/* Options that say the same, for a file that another one leads to. */
ckpt_open_options ckpt_trust_options(const ckpt_trust *trust);

#endif
