/*
 * pickle_edit.h - a mutation of a pickle that keeps it one: opcodes are inserted, dropped, doubled or given other
 * arguments; then it is run over a stack of kinds, and what would not work there is dropped, so that what is left reads
 * to its end. Every eighth time the bytes are changed as they are.
 */
#ifndef CKPT_PICKLE_EDIT_H
#define CKPT_PICKLE_EDIT_H

#include "fuzz.h"

size_t pickle_edit(uint8_t *data, size_t size, size_t max, unsigned seed);

#endif
