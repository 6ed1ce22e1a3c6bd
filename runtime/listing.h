/*
 * listing.h - the listing of ckpt.h, with the leaves: for formats that hold tensors only, and must know what else is
 * there.
 */
#ifndef CKPT_LISTING_H
#define CKPT_LISTING_H

#include "value.h"

/*
 * As ckpt_listing_new, and with an entry, without aliases, for every plain value, empty container and known object
 * (each time it is reached), and for every attribute of an OrderedDict, which is not walked. Nothing is cut short:
 * CKPT_E_LIMIT where ckpt_listing_new would stop counting aliases, CKPT_E_UNSUPPORTED for a tensor whose path holds a
 * NUL.
 */
ckpt_status ckpt_listing_leaves(ckpt_listing **out, const ckpt_value *root, ckpt_error *err);

#endif
