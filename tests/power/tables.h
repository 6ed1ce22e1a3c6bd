/*
 * tables.h - I/O tables beside the system's own: that of a file system without hard links, where new files have
 * temporary names and aliases are copies (or reflinks); and those of savers that are wrong, each in one way. A replay
 * that does not catch these proves nothing.
 *
 *   no-file-sync   fsync of a file does nothing
 *   no-dir-sync    fsync of a directory does nothing
 *   in-place       a name that is taken changes hands by writing over the file that has it, synced afterwards
 */
#ifndef POWER_TABLES_H
#define POWER_TABLES_H

#include "io.h"

/* The system's calls but for that bug; "none": without one. False: there is no such bug. */
bool tables_bug(ckpt_io *out, const char *bug);

void tables_take_links(ckpt_io *io);

#endif
