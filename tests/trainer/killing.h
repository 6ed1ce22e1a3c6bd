/*
 * killing.h - test aid: the trainer kills itself (SIGKILL, nothing is cleaned up) at a chosen place.
 *
 * In an epoch: after a chosen optimizer step. In a save: at a chosen fsync of it, before that fsync takes place. For
 * this the program is linked with -Wl,--wrap=fsync and the static libckpt.a: the library's calls then come here first.
 * The first fsync of a save is that of the new file's bytes: all is written, nothing has a name yet.
 */
#ifndef TRAINER_KILLING_H
#define TRAINER_KILLING_H

#include <stdint.h>

/* 0 means never. `in_save` and `at_fsync` count from 1, saves in this process and fsyncs in that save. */
void killing_plan(int64_t at_step, int64_t in_save, int64_t at_fsync);

void killing_on_step(int64_t step);

/* To be called around the saving of an epoch. */
void killing_save_begins(void);
void killing_save_ends(void);

#endif
