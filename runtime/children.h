/*
 * children.h - the parts of a value, one by one, with the piece of path that leads to each.
 *
 * Order: constructor arguments (`.args[i]`), keyword arguments (`.kwargs`), items (`[i]`), pairs (`.key`), state: the
 * fields of a dict state, or `.state` for a state of another kind. A persistent id has no parts; a tensor
 * has its attributes.
 */
#ifndef CKPT_CHILDREN_H
#define CKPT_CHILDREN_H

#include "way.h"

enum { CKPT_MAX_PATH = 1 << 16 };

typedef struct ckpt_path {
  char *text; /* of CKPT_MAX_PATH bytes, NUL-terminated */
  size_t length;
} ckpt_path;

ckpt_status ckpt_path_new(ckpt_path *path, ckpt_error *err);
void ckpt_path_free(ckpt_path *path);

/* Back to a length that it had. */
void ckpt_path_cut(ckpt_path *path, size_t length);

/* The path as it is shown: without its leading dot. */
const char *ckpt_path_shown(const ckpt_path *path);

/* The piece of path that a step is shown as. CKPT_E_LIMIT for a path that is too long. */
ckpt_status ckpt_path_append(ckpt_path *path, const ckpt_way *way, ckpt_error *err);

bool ckpt_value_has_children(const ckpt_value *v);

/* Part number i, its piece appended to the path; NULL past the last. CKPT_E_LIMIT for a path that is too long. */
ckpt_status ckpt_value_child(const ckpt_value **out, ckpt_path *path, const ckpt_value *v, size_t i, ckpt_error *err);

#endif
