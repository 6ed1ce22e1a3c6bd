/* checkpoints.h - the trainer's whole dealings with the checkpointer: open and load, save. See checkpoints.c. */
#ifndef TRAINER_CHECKPOINTS_H
#define TRAINER_CHECKPOINTS_H

#include <ckpt/checkpointer.h>

#include "trainer.h"

/*
 * Binds all of *t, which must outlive *out, and loads into it as the policy decides. *out is NULL before, and closed by
 * the caller after, even if this fails.
 */
ckpt_status checkpoints_open(ckpt_checkpointer **out, ckpt_load_report *report,
                             const ckpt_checkpointer_options *options, trainer *t, ckpt_error *err);

/* Saves the finished epoch; *improved: it is the best so far, in the policy's opinion. */
ckpt_status checkpoints_save(bool *improved, ckpt_checkpointer *cp, trainer *t, ckpt_error *err);

#endif
