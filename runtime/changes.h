/*
 * changes.h - the report of a sanitised copy: what was dropped and what became of the rest. Texts lie in an arena of
 * its own.
 */
#ifndef CKPT_CHANGES_H
#define CKPT_CHANGES_H

#include "base.h"

ckpt_status ckpt_changes_new(ckpt_changes **out, ckpt_error *err);

/* Copies the texts. CKPT_E_LIMIT when all paths together take more than 256 MiB. */
ckpt_status ckpt_changes_add(ckpt_changes *changes, const ckpt_change *change, ckpt_error *err);

#endif
