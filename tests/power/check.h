/*
 * check.h - what must hold of a run's directory after a power loss, given what had been acknowledged before it:
 *
 *   I1, I2  there is a whole checkpoint, at least as new as the last save that was acknowledged
 *   I3      model_latest.pth is there, whole, and not older; no file under any name of a checkpoint is torn
 *   I4      model_best.pth is not worse than the best that was acknowledged
 *   -       the ledger begins with the bytes that it had at the acknowledgement
 *   I5      a manager opens the directory, resumes, saves; then there is no temporary file, and each block of the file
 *           system that is in use belongs to a file of the directory
 *
 * Each function returns true if that is so, and otherwise says in `why` what is not.
 */
#ifndef POWER_CHECK_H
#define POWER_CHECK_H

#include <stdint.h>

#include "scenario.h"

enum { WHY_BYTES = 600 };

typedef struct checked {
  const scenario *scenario;
  const char *policies, *dir;
  uint64_t empty_blocks; /* in use on the file system before the directory was made; UINT64_MAX: not to be counted */
} checked;

bool check_left(char why[WHY_BYTES], const checked *c, const ack *a);
bool check_recovery(char why[WHY_BYTES], const checked *c, const ack *a);

/* Blocks in use on the file system that `path` is on. */
uint64_t blocks_in_use(const char *path);

#endif
