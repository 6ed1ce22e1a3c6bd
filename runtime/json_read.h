/*
 * json_read.h - JSON from files that nobody vouches for: jansson parses, after a look that bounds what it will cost.
 */
#ifndef CKPT_JSON_READ_H
#define CKPT_JSON_READ_H

#include <jansson.h>

#include "base.h"

/*
 * Parses `n` bytes that lie at byte `base` of a file; `what` begins messages ("the header"). Refused beyond JSON's own
 * grammar: equal keys, keys with a NUL, integers beyond 63 bits, invalid UTF-8, more than 127 levels, and far more
 * lists and objects than text. Free *out with json_decref; objects keep the order of the text.
 */
ckpt_status ckpt_json_parse(json_t **out, const void *text, size_t n, uint64_t base, const char *what, ckpt_error *err);

/*
 * Where in a text that was parsed member number `i` of the outermost object begins, or (inner not SIZE_MAX) member
 * number `inner` of the object that is member i's value. For messages: the parser does not keep places.
 */
size_t ckpt_json_place(const void *text, size_t n, size_t i, size_t inner);

#endif
