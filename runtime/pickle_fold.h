/*
 * pickle_fold.h - calls that the machine took whole (torch_plain.h), and what happens if the pickle asks for their
 * parts after all.
 *
 * A call that was taken whole puts its own value into the memo and, where its parts would have gone, marks that say
 * where it begins. A GET that meets a mark has the call read once more, opcode by opcode, which fills the memo and
 * tells the value how it was made. Before a PUT replaces anything in the memo, which no pickler does, all calls are
 * read so, and no further one is taken whole: what a call was made of does not change under it.
 */
#ifndef CKPT_PICKLE_FOLD_H
#define CKPT_PICKLE_FOLD_H

#include "pickle_machine.h"

/* Whether an entry of the memo is such a mark. Values are aligned, so that the lowest bit of an address is free. */
static inline bool ckpt_is_folded(const void *entry) { return ((uintptr_t)entry & 1) != 0; }

/* The call at the current opcode put n things into the memo, of which only the last, its value, is there. */
ckpt_status ckpt_machine_fold(ckpt_machine *m, ckpt_value *v, size_t n, ckpt_error *err);

/* Reads the call again that the mark at memo[index] stands for; `step` runs the next opcode. */
ckpt_status ckpt_machine_unfold(ckpt_machine *m, size_t index, ckpt_status (*step)(ckpt_machine *m, ckpt_error *err),
                                ckpt_error *err);
ckpt_status ckpt_machine_unfold_all(ckpt_machine *m, ckpt_status (*step)(ckpt_machine *m, ckpt_error *err),
                                    ckpt_error *err);

#endif
