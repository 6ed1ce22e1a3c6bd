/* embed.h - texts (policies, maps, scripts) that the Makefile puts into the binary. The list ends with name NULL. */
#ifndef CKPT_EMBED_H
#define CKPT_EMBED_H

#include <stddef.h>

struct ckpt_embedded {
  const char *name; /* path in the source tree: "policies/default.lua" */
  const char *text; /* NUL-terminated */
  size_t size;      /* without the NUL */
};

extern const struct ckpt_embedded ckpt_embedded_files[];

#endif
