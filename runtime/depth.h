/*
 * depth.h - how deep a value graph is. Nothing in the runtime recurses on values, but the program that reads them may.
 */
#ifndef CKPT_DEPTH_H
#define CKPT_DEPTH_H

#include "value.h"

/*
 * Whether a walk from `root`, each value entered once in the order of its parts, gets more than `limit` values below
 * the root at any time. The walk's own place is kept in an array.
 */
ckpt_status ckpt_value_deeper(bool *out, const ckpt_value *root, size_t limit, ckpt_error *err);

#endif
