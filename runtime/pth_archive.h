/*
 * pth_archive.h - what PyTorch's zip files have in common, whoever wrote them: one folder with all records, a version,
 * a byte order, and storages as records of a sub-folder.
 *
 *   P/data.pkl  P/data/0 ...  P/version  P/byteorder        P: the folder, named by the first record
 */
#ifndef CKPT_PTH_ARCHIVE_H
#define CKPT_PTH_ARCHIVE_H

#include "storage.h"

typedef struct ckpt_archive {
  ckpt_zip *zip; /* borrowed */
  char prefix[256];
  bool big_endian;
  size_t last;          /* what ckpt_archive_next found last */
  const char *storages; /* sub-folder of the storages that ckpt_archive_storage finds: "data" */
} ckpt_archive;

/*
 * Looks at the folder, the version and the byte order. CKPT_E_FORMAT: not PyTorch's archive; CKPT_E_UNSUPPORTED: a
 * newer version, a torch.package, or TorchScript of PyTorch 1.0 to 1.3, by name.
 */
ckpt_status ckpt_archive_open(ckpt_archive *out, ckpt_zip *zip, ckpt_error *err);

/* Index of the record P/name, SIZE_MAX if there is none. */
size_t ckpt_archive_find(const ckpt_archive *a, const char *name);

/* The same where it is likely to be the one behind the one that was found so last. */
size_t ckpt_archive_next(ckpt_archive *a, const char *name);

/*
 * The bytes of record `i`, its CRC checked. *heap is to be freed; it is NULL when they lie in the mapping.
 */
ckpt_status ckpt_archive_bytes(const unsigned char **out, size_t *n, unsigned char **heap, const ckpt_archive *a,
                               size_t i, ckpt_error *err);

/* A ckpt_find_storage (torch_build.h); the context is the archive. */
ckpt_status ckpt_archive_storage(ckpt_storage **out, void *context, const char *key, uint64_t bytes, unsigned swap_unit,
                                 ckpt_error *err);

#endif
