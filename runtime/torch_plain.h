/*
 * torch_plain.h - tensors as torch.save says nearly all of them, taken at one glance: one call in place of the thirty
 * opcodes that it is made of, and one value in place of the fifteen that these build.
 *
 * Only a call whose every part is as usual is taken; whatever is in any way else, and all that is wrong, is left to the
 * machine, which finds the words. What a pickle asks for later of a call that was taken is read then (pickle_fold.h).
 */
#ifndef CKPT_TORCH_PLAIN_H
#define CKPT_TORCH_PLAIN_H

#include "torch_storages.h"

struct ckpt_machine;

enum { CKPT_WORDINGS = 4 };

typedef struct ckpt_torch_plain {
  const ckpt_value *function, *ordered;        /* _rebuild_tensor_v2 and OrderedDict, once they were met */
  const ckpt_wording *wordings[CKPT_WORDINGS]; /* those met last */
  ckpt_dtype dtypes[CKPT_WORDINGS];            /* of their storage classes */
  size_t next;
} ckpt_torch_plain;

/*
 * The machine has put a callable on its stack. *taken: it was _rebuild_tensor_v2, and the tensor of its call has taken
 * its place. CKPT_E_NOMEM only.
 */
ckpt_status ckpt_torch_plain_take(bool *taken, ckpt_torch_plain *plain, struct ckpt_machine *m,
                                  ckpt_torch_storages *storages, ckpt_error *err);

#endif
