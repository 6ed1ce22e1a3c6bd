/*
 * key.h - values as keys of dicts and items of sets: equality and hash as Python has them.
 *
 * Numbers are equal by value, whatever their kind (1 == 1.0 == True); texts and class names by their bytes; tuples and
 * inert value objects (complex, torch.device) item by item; frozensets of such atoms whatever their order. Everything
 * else is equal only to itself. Both functions look at a bounded part of a value (a hostile tuple may be exponentially
 * large): what is nested deeper than CKPT_KEY_DEPTH is equal only to itself.
 */
#ifndef CKPT_KEY_H
#define CKPT_KEY_H

#include "value.h"

enum { CKPT_KEY_DEPTH = 32 };

bool ckpt_key_equal(const ckpt_value *a, const ckpt_value *b);

/* Equal keys have equal hashes. */
size_t ckpt_key_hash(const ckpt_value *v);

/* Equality of what has no parts: numbers, texts, classes, None. False for any other kind, even for one value. */
bool ckpt_atom_equal(const ckpt_value *a, const ckpt_value *b);

/* True for what can be a key or an item of a set in Python: no list, dict, set or bytearray, and no tuple of such. */
bool ckpt_value_is_hashable(const ckpt_value *v);

#endif
