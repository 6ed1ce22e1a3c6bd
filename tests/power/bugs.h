/*
 * bugs.h - I/O tables of savers that are wrong, each in one way. A replay that does not catch them proves nothing.
 *
 *   no-file-sync   fsync of a file does nothing
 *   no-dir-sync    fsync of a directory does nothing
 *   in-place       a name that is taken changes hands by writing over the file that has it, synced afterwards
 */
#ifndef POWER_BUGS_H
#define POWER_BUGS_H

#include "io.h"

/* The system's calls but for that bug; "none": without one. False: there is no such bug. */
bool bugs_table(ckpt_io *out, const char *bug);

#endif
