/*
 * clone.h - copies of value graphs from one document into another: sharing and cycles kept, storages shared.
 *
 * A cloner remembers what it has copied: a value that two calls reach is one value in the copy too. The sources must
 * live and stay as they are while the cloner does.
 */
#ifndef CKPT_CLONE_H
#define CKPT_CLONE_H

#include "value.h"

typedef struct ckpt_cloner ckpt_cloner;

/*
 * Asked once for each tensor: *out gives its copy (of the target document), *drop leaves it out. If neither is set the
 * tensor is copied as it is. What is left out disappears from dicts and sets; an item of a list or tuple becomes None.
 */
typedef ckpt_status (*ckpt_clone_tensor)(void *context, ckpt_value **out, bool *drop, ckpt_cloner *c,
                                         const ckpt_value *v, ckpt_error *err);

ckpt_status ckpt_cloner_new(ckpt_cloner **out, ckpt_document *doc, ckpt_clone_tensor tensor, void *context,
                            ckpt_error *err);
void ckpt_cloner_free(ckpt_cloner *c);

/* The copy, complete. After a failure the cloner is only good to be freed. */
ckpt_status ckpt_cloner_copy(ckpt_value **out, ckpt_cloner *c, const ckpt_value *v, ckpt_error *err);

/* Inside a callback: the copy, which may be filled only later. NULL for NULL and for what is left out. */
ckpt_status ckpt_cloner_refer(ckpt_value **out, ckpt_cloner *c, const ckpt_value *v);

ckpt_document *ckpt_cloner_document(const ckpt_cloner *c);

#endif
