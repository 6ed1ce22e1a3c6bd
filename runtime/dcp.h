/*
 * dcp.h - a torch.distributed.checkpoint directory, opened as one checkpoint.
 *
 *   DIR/.metadata         what there is (dcp_meta.h)
 *   DIR/__0_0.distcp      items one after the other, each a whole archive of torch.save:
 *   DIR/__1_0.distcp      | PK item | PK item | PK item |
 *
 * The root of the document is the dict that was saved. A tensor that one rank wrote whole is that item's tensor, in
 * place; one that several ranks wrote is put together when it is first looked at (dcp_chunks.h).
 */
#ifndef CKPT_DCP_H
#define CKPT_DCP_H

#include "value.h"

typedef struct ckpt_dcp ckpt_dcp;

/*
 * If `path` is a directory with a `.metadata`, or such a file itself, *dir gets the directory (free() it), else NULL.
 */
ckpt_status ckpt_dcp_find(char **dir, const char *path, ckpt_error *err);

/*
 * CKPT_E_CORRUPT: an item outside its file, a file that is missing, chunks that are not the tensor, an item of another
 * dtype or size than .metadata says; and what dcp_meta.h lists.
 */
ckpt_status ckpt_dcp_open(ckpt_dcp **out, const char *dir, const ckpt_trust *trust, ckpt_error *err);
void ckpt_dcp_close(ckpt_dcp *dcp);

ckpt_document *ckpt_dcp_document(const ckpt_dcp *dcp); /* borrowed */
uint64_t ckpt_dcp_bytes(const ckpt_dcp *dcp);          /* of all files together */

/* Reads every record of every item once and compares its CRC-32. */
ckpt_status ckpt_dcp_verify(const ckpt_dcp *dcp, ckpt_error *err);

#endif
