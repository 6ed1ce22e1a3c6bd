/*
 * pickle_text.h - the texts of protocol 0 and Python 2: escapes, decimal integers of any length, floats.
 */
#ifndef CKPT_PICKLE_TEXT_H
#define CKPT_PICKLE_TEXT_H

#include "value.h"

/* Valid UTF-8, lone surrogates allowed as three bytes each (Python's "surrogatepass"). */
bool ckpt_utf8_valid(const unsigned char *s, size_t n);

/* Each gives a new value of `doc`; NULL with *err filled, without the position, which the caller knows. */
ckpt_value *ckpt_pickle_raw_unicode(ckpt_document *doc, const unsigned char *s, size_t n, ckpt_error *err); /* V */
ckpt_value *ckpt_pickle_quoted(ckpt_document *doc, const unsigned char *s, size_t n, ckpt_error *err);      /* S */
ckpt_value *ckpt_pickle_decimal(ckpt_document *doc, const unsigned char *s, size_t n, ckpt_error *err);     /* I L */
ckpt_value *ckpt_pickle_float(ckpt_document *doc, const unsigned char *s, size_t n, ckpt_error *err);       /* F */

/* Little-endian two's complement of any length, as LONG1 and LONG4 have it: an INT if it fits, else a BIGINT. */
ckpt_value *ckpt_pickle_long(ckpt_document *doc, const unsigned char *s, size_t n, ckpt_error *err);

/* A Python 2 str: STR if it is UTF-8, else BYTES; marked so that it is written as it came. */
ckpt_value *ckpt_pickle_bytestring(ckpt_document *doc, const void *s, size_t n, ckpt_error *err);

#endif
