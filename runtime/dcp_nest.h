/*
 * dcp_nest.h - from entries with paths back to nested dicts and lists, as PyTorch's set_element does
 * (torch/distributed/checkpoint/_traverse.py): a name is a key of a dict, an integer an index into a list, and places
 * of a list that nothing was saved for are None.
 */
#ifndef CKPT_DCP_NEST_H
#define CKPT_DCP_NEST_H

#include "value.h"

typedef struct ckpt_dcp_nest {
  ckpt_document *doc;
  ckpt_value *root; /* a dict */
  size_t cells;     /* made so far in lists */
} ckpt_dcp_nest;

/*
 * Puts `item`, a value of nest->doc, at `path` (NULL: under the key `fqn`); *path belongs to any document.
 * CKPT_E_CORRUPT: two values at one place, a name into a list, an index into a dict, a way through a value;
 * CKPT_E_LIMIT: lists with more than 2^20 places.
 */
ckpt_status ckpt_dcp_nest_put(ckpt_dcp_nest *nest, const char *fqn, const ckpt_value *path, ckpt_value *item,
                              ckpt_error *err);

#endif
