/*
 * file.h - a read-only mapping of a file, counted, so that a storage can outlive the checkpoint it came from.
 */
#ifndef CKPT_FILE_H
#define CKPT_FILE_H

#include "trust.h"

typedef struct ckpt_mapping ckpt_mapping;

/* Maps a regular file whole. An empty file maps to size 0. The message begins with the path. */
ckpt_status ckpt_mapping_open(ckpt_mapping **out, const char *path, ckpt_error *err);

/* The same for a name below an open directory. */
ckpt_status ckpt_mapping_open_at(ckpt_mapping **out, int dir, const char *name, ckpt_error *err);

/* The same for a descriptor, which stays the caller's. `name` is used in messages. */
ckpt_status ckpt_mapping_open_fd(ckpt_mapping **out, int fd, const char *name, ckpt_error *err);

/* A mapping over memory that the caller owns and that must outlive it (tests, items inside another file). */
ckpt_status ckpt_mapping_memory(ckpt_mapping **out, const void *data, size_t size, ckpt_error *err);

ckpt_mapping *ckpt_mapping_retain(ckpt_mapping *m);
void ckpt_mapping_release(ckpt_mapping *m);
/* How far the file is believed: the defaults, until it is set, which is before anybody reads. */
void ckpt_mapping_set_trust(ckpt_mapping *m, const ckpt_trust *trust);
const ckpt_trust *ckpt_mapping_trust(const ckpt_mapping *m);

const unsigned char *ckpt_mapping_data(const ckpt_mapping *m);

/*
 * `n` more bytes of the mapping have been looked at and are done with. Once in CKPT_MAPPING_WINDOW of them the pages
 * are taken out of this process (not out of the page cache), so that who goes through a file of any size holds little
 * of it. Only a hint: what is looked at again is found again. Thread-safe.
 */
enum { CKPT_MAPPING_WINDOW = 16 << 20 };
void ckpt_mapping_used(ckpt_mapping *m, size_t n);
size_t ckpt_mapping_size(const ckpt_mapping *m);

/*
 * Hints for bytes of the mapping, which change nothing but speed and memory: they will be read soon (the system reads
 * ahead); they have been read for now (their pages leave this process's memory, not the page cache).
 */
void ckpt_mapping_expect(const ckpt_mapping *m, const void *at, size_t size);
void ckpt_mapping_forget(const ckpt_mapping *m, const void *at, size_t size);

/*
 * The same for who reads a piece beside other readers: one who comes late to the end of a piece would bring back all of
 * a large folio whose other pieces are done with, so all of it goes.
 */
void ckpt_mapping_forget_folios(const ckpt_mapping *m, const void *at, size_t size);

#endif
