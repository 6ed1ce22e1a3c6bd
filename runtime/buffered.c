/* buffered.c - see buffered.h. */
#include "buffered.h"

#include <stdlib.h>

enum { ROOM = 1 << 18, LARGE = 1 << 15 }; /* of LARGE bytes and more a call of their own is cheap */

struct ckpt_buffered {
  ckpt_sink sink; /* first: the sink's address is the buffer's */
  ckpt_sink *to;
  size_t n;
  unsigned char bytes[ROOM];
};

ckpt_status ckpt_buffered_flush(ckpt_buffered *b, ckpt_error *err) {
  size_t n = b->n;
  b->n = 0;
  return n == 0 ? CKPT_OK : b->to->write(b->to, b->bytes, n, err);
}

static ckpt_status take(ckpt_sink *sink, const void *data, size_t size, ckpt_error *err) {
  ckpt_buffered *b = (ckpt_buffered *)sink;
  if (size >= LARGE || size > ROOM - b->n) CKPT_TRY(ckpt_buffered_flush(b, err));
  if (size >= LARGE) return b->to->write(b->to, data, size, err);
  if (size > 0) memcpy(b->bytes + b->n, data, size);
  b->n += size;
  return CKPT_OK;
}

ckpt_status ckpt_buffered_new(ckpt_buffered **out, ckpt_sink *to, ckpt_error *err) {
  ckpt_buffered *b = malloc(sizeof *b);
  if (b == NULL) return ckpt_fail_nomem(err, sizeof *b);
  b->sink.write = take;
  b->to = to;
  b->n = 0;
  *out = b;
  return CKPT_OK;
}

ckpt_sink *ckpt_buffered_sink(ckpt_buffered *b) { return &b->sink; }
void ckpt_buffered_free(ckpt_buffered *b) { free(b); }
