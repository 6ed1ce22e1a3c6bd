/*
 * legacy_view.h - storages that are a part of another one (view metadata of the legacy stream). The bytes are written
 * once, as the root; so that tensors over root and view still share them when they are written anew, a tensor over a
 * view becomes one over the root, its offset counted from there. A view that no tensor covers stays a storage itself.
 *
 *   ("storage", class, root key, location, elements of the root, (view key, offset in elements, elements))
 */
#ifndef CKPT_LEGACY_VIEW_H
#define CKPT_LEGACY_VIEW_H

#include "file.h"
#include "pickle_read.h"

typedef struct ckpt_legacy_views ckpt_legacy_views;

/* For the values of `doc`, whose storages lie in `map`. */
ckpt_status ckpt_legacy_views_new(ckpt_legacy_views **out, ckpt_document *doc, ckpt_mapping *map, ckpt_error *err);
void ckpt_legacy_views_free(ckpt_legacy_views *views);

/* After the torch builder has found the root of a storage's id: the part that the id means. */
ckpt_status ckpt_legacy_views_persid(ckpt_legacy_views *views, ckpt_value *v, ckpt_error *err);

/* What `torch` (the builder's hooks) makes of an object, moved to the root if it is a tensor over a view. */
ckpt_status ckpt_legacy_views_built(ckpt_legacy_views *views, ckpt_value *v, const ckpt_pickle_hooks *torch,
                                    ckpt_error *err);

#endif
