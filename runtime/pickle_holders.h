/*
 * pickle_holders.h - what of a graph is held by one holder only.
 *
 * The pickler asks when an object's arguments lead back to the object: it is then written a second time, inside the
 * first, which is dropped. Its arguments are in the memo by then, half written. For a list that others hold too this is
 * right: it stays that list, and will be filled. But the list of a set's items, or a dict of keyword arguments, is
 * copied at once by what it is given to: it must be written a second time as well.
 */
#ifndef CKPT_PICKLE_HOLDERS_H
#define CKPT_PICKLE_HOLDERS_H

#include "ptrmap.h"
#include "value.h"

/* For every value that is reached from `root`, how often it is referred to. The map is the caller's even on failure. */
ckpt_status ckpt_holders_count(ckpt_ptrmap *holders, const ckpt_value *root, ckpt_error *err);

/*
 * Takes out of the memo the lists and dicts among the arguments and keywords of `v` that nothing else holds, nor held
 * in the pickle that they came from, and a callable that was made for it alone (functools.partial, where protocols 2
 * and 3 have no keywords).
 */
ckpt_status ckpt_holders_forget(ckpt_ptrmap *memo, const ckpt_ptrmap *holders, const ckpt_value *v, ckpt_error *err);

#endif
