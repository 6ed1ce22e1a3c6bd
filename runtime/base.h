/*
 * base.h - what every other file of the runtime stands on: filling errors, checked arithmetic, little-endian access.
 */
#ifndef CKPT_BASE_H
#define CKPT_BASE_H

#include <ckpt/ckpt.h>
#include <string.h>

/* Fills *err (which may be NULL) and returns `status`. `position` is a byte offset or -1. */
ckpt_status ckpt_fail(ckpt_error *err, ckpt_status status, int64_t position, const char *format, ...) CKPT_PRINTF(4, 5);

/* The same with errno: `sys` is kept in the error and its text follows the message after ": ". */
ckpt_status ckpt_fail_errno(ckpt_error *err, int sys, const char *format, ...) CKPT_PRINTF(3, 4);

/* CKPT_E_NOMEM with the number of bytes that were asked for. */
ckpt_status ckpt_fail_nomem(ckpt_error *err, size_t bytes);

/* Puts "`context`: " before a message that a lower layer filled; returns err->status, or `status` without err. */
ckpt_status ckpt_fail_in(ckpt_error *err, ckpt_status status, const char *context);

/* Leaves the calling function with the status of a failed call. */
#define CKPT_TRY(call)                          \
  do {                                          \
    ckpt_status ckpt_try_ = (call);             \
    if (ckpt_try_ != CKPT_OK) return ckpt_try_; \
  } while (0)

/* The same for functions with a `done:` label and a variable `st`. */
#define CKPT_GO(call)             \
  do {                            \
    st = (call);                  \
    if (st != CKPT_OK) goto done; \
  } while (0)

#define CKPT_COUNTOF(a) (sizeof(a) / sizeof((a)[0]))

static inline bool ckpt_add_size(size_t *out, size_t a, size_t b) { return !__builtin_add_overflow(a, b, out); }
static inline bool ckpt_mul_size(size_t *out, size_t a, size_t b) { return !__builtin_mul_overflow(a, b, out); }
static inline bool ckpt_add_i64(int64_t *out, int64_t a, int64_t b) { return !__builtin_add_overflow(a, b, out); }
static inline bool ckpt_mul_i64(int64_t *out, int64_t a, int64_t b) { return !__builtin_mul_overflow(a, b, out); }

static inline uint16_t ckpt_le16(const void *p) {
  const unsigned char *b = p;
  return (uint16_t)(b[0] | b[1] << 8);
}
static inline uint32_t ckpt_le32(const void *p) {
  const unsigned char *b = p;
  return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}
static inline uint64_t ckpt_le64(const void *p) {
  const unsigned char *b = p;
  return (uint64_t)ckpt_le32(b) | (uint64_t)ckpt_le32(b + 4) << 32;
}
static inline void ckpt_put16(void *p, uint16_t v) {
  unsigned char *b = p;
  b[0] = (unsigned char)v;
  b[1] = (unsigned char)(v >> 8);
}
static inline void ckpt_put32(void *p, uint32_t v) {
  ckpt_put16(p, (uint16_t)v);
  ckpt_put16((unsigned char *)p + 2, (uint16_t)(v >> 16));
}
static inline void ckpt_put64(void *p, uint64_t v) {
  ckpt_put32(p, (uint32_t)v);
  ckpt_put32((unsigned char *)p + 4, (uint32_t)(v >> 32));
}

#endif
