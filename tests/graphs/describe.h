/*
 * describe.h - a value graph as text, one line for each node in the order of a walk: the same text that describe.py
 * makes of Python's objects. Two graphs have one text exactly if they are isomorphic.
 *
 *   N T F            None, True, False
 *   i<hex>           an integer, minimal little-endian two's complement
 *   f<hex> <repr>    a float: its bits, and how people read it
 *   s<n>:<bytes>     a str, UTF-8; b<n>:<bytes> bytes (also of Python 2 strings)
 *   t0 z0            the empty tuple and the empty frozenset, which have no identity
 *   @<k>             the k-th node with an identity, met before
 *
 * Nodes with an identity are numbered from 0 as they are met:
 *
 *   a<n>:<bytes>     bytearray
 *   l<n> t<n> Z<n>   list, tuple, torch.Size of n items, which follow
 *   S<n> z<n>        set, frozenset
 *   d<n> o<n>        dict, OrderedDict: n keys and values follow; after an OrderedDict its attributes or "-"
 *   c<module> <name> a class or function (these have no identity)
 *   O<how>           object: callable, arguments, keywords ("-" for none), l<items>, d<pairs>, state or "-"
 *   X<...>           tensor: how it is rebuilt, dtype, shape, stride, offset, flags, storage; then what belongs to it
 */
#ifndef TESTS_GRAPHS_DESCRIBE_H
#define TESTS_GRAPHS_DESCRIBE_H

#include "value.h"

typedef struct text {
  char *bytes;
  size_t n, capacity;
} text;

/* Both end the process when memory does: this is a test. */
void text_add(text *t, const void *bytes, size_t n);
void text_printf(text *t, const char *format, ...) CKPT_PRINTF(2, 3);

void describe(text *out, const ckpt_value *root);

#endif
