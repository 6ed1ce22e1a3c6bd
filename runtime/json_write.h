/*
 * json_write.h - JSON text as others' writers make it, byte for byte: the safetensors library (serde_json) leaves all
 * of UTF-8 as it is, Python's json.dumps writes everything beyond ASCII as \uXXXX.
 */
#ifndef CKPT_JSON_WRITE_H
#define CKPT_JSON_WRITE_H

#include "base.h"

typedef struct ckpt_text { /* zeroed: empty; free(bytes) */
  char *bytes;             /* NUL-terminated once something was added */
  size_t n, capacity;
} ckpt_text;

ckpt_status ckpt_text_add(ckpt_text *t, const void *bytes, size_t n, ckpt_error *err);
ckpt_status ckpt_text_print(ckpt_text *t, ckpt_error *err, const char *format, ...) CKPT_PRINTF(3, 4);

/* A string in quotes; `ascii` as Python does. CKPT_E_UNSUPPORTED if it is not UTF-8. */
ckpt_status ckpt_text_string(ckpt_text *t, const char *s, bool ascii, ckpt_error *err);

#endif
