/*
 * repr.h - a value as Python's repr() writes it: for keys in paths, and for people.
 */
#ifndef CKPT_REPR_H
#define CKPT_REPR_H

#include "value.h"

/*
 * *out is NUL-terminated and the caller's to free. At most about `limit` bytes are made; what is longer, deeper than 50
 * levels, or not plain data is shown as "...". Tensors and objects are shown as <tensor> and <module.Class>.
 */
ckpt_status ckpt_repr(char **out, size_t *n, const ckpt_value *v, size_t limit, ckpt_error *err);

#endif
