/* base.c - see base.h. */
#include "base.h"

#include <stdarg.h>
#include <stdio.h>

const char *ckpt_status_text(ckpt_status status) {
  switch (status) {
#define CKPT_X(name, value, text) \
  case CKPT_##name: return text;
    CKPT_STATUS_MAP(CKPT_X)
#undef CKPT_X
  }
  return "unknown status";
}

/* "E_NOMEM" -> "nomem", at compile time a table so that the result is static. */
const char *ckpt_status_name(ckpt_status status) {
  switch (status) {
    case CKPT_OK: return "ok";
    case CKPT_E_NOMEM: return "nomem";
    case CKPT_E_ARGUMENT: return "argument";
    case CKPT_E_IO: return "io";
    case CKPT_E_NOTFOUND: return "notfound";
    case CKPT_E_EXISTS: return "exists";
    case CKPT_E_BUSY: return "busy";
    case CKPT_E_FORMAT: return "format";
    case CKPT_E_CORRUPT: return "corrupt";
    case CKPT_E_UNSUPPORTED: return "unsupported";
    case CKPT_E_LIMIT: return "limit";
    case CKPT_E_TYPE: return "type";
    case CKPT_E_RANGE: return "range";
    case CKPT_E_SHAPE: return "shape";
    case CKPT_E_POLICY: return "policy";
    case CKPT_E_CONTRACT: return "contract";
  }
  return "unknown";
}

static void fill(ckpt_error *err, ckpt_status status, int sys, int64_t position) {
  err->status = status;
  err->sys = sys;
  err->position = position;
}

ckpt_status ckpt_fail(ckpt_error *err, ckpt_status status, int64_t position, const char *format, ...) {
  if (err == NULL) return status;
  va_list args;
  va_start(args, format);
  fill(err, status, 0, position);
  vsnprintf(err->message, sizeof err->message, format, args);
  va_end(args);
  return status;
}

/* strerror_r comes in two kinds; this takes the text from either. */
static const char *errno_text(int sys, char *buffer, size_t size) { return strerror_r(sys, buffer, size); }

ckpt_status ckpt_fail_errno(ckpt_error *err, int sys, const char *format, ...) {
  if (err == NULL) return CKPT_E_IO;
  va_list args;
  va_start(args, format);
  fill(err, CKPT_E_IO, sys, -1);
  int n = vsnprintf(err->message, sizeof err->message, format, args);
  va_end(args);
  if (n >= 0 && (size_t)n < sizeof err->message) {
    char text[96];
    snprintf(err->message + n, sizeof err->message - (size_t)n, ": %s", errno_text(sys, text, sizeof text));
  }
  return CKPT_E_IO;
}

ckpt_status ckpt_fail_nomem(ckpt_error *err, size_t bytes) {
  return ckpt_fail(err, CKPT_E_NOMEM, -1, "out of memory: %zu bytes could not be had", bytes);
}

ckpt_status ckpt_fail_in(ckpt_error *err, ckpt_status status, const char *context) {
  if (err == NULL) return status;
  char kept[sizeof err->message];
  memcpy(kept, err->message, sizeof kept);
  int n = snprintf(err->message, sizeof err->message, "%s: ", context);
  if (n >= 0 && (size_t)n < sizeof err->message)
    snprintf(err->message + n, sizeof err->message - (size_t)n, "%s", kept);
  return err->status;
}
