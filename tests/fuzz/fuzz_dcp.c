/*
 * MSan: yes
 * fuzz_dcp.c - the `.metadata` of a torch.distributed.checkpoint: items, chunks, paths. No item is opened.
 */
#include "dcp_chunks.h"
#include "dcp_meta.h"
#include "dcp_nest.h"
#include "pickle_edit.h"

static void use(const ckpt_dcp_meta *meta) {
  ckpt_dcp_nest nest = {0};
  ckpt_error err = {0};
  CHECK(ckpt_document_make(&nest.doc, 16 << 20, NULL) == CKPT_OK);
  if (ckpt_value_new_dict(&nest.root, nest.doc, false, NULL) == CKPT_OK)
    for (size_t i = 0; i < meta->n; i++) {
      const ckpt_dcp_entry *e = &meta->entries[i];
      if (e->tensor) fuzz_check_error(ckpt_dcp_check_chunks(e, &err), &err);
      for (size_t k = 0; e->tensor && k < e->n_chunks; k++)
        CHECK(e->chunks[k].item == NULL || strchr(e->chunks[k].item->file, '/') == NULL);
      ckpt_status st = ckpt_dcp_nest_put(&nest, e->fqn, e->path, ckpt_document_none(nest.doc), &err);
      fuzz_check_error(st, &err);
    }
  ckpt_document_release(nest.doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const ckpt_trust trust = {.limits = {1000, 100000, 100000, 1000, 1000}};
  ckpt_mapping *map = NULL;
  ckpt_dcp_meta meta = {0};
  ckpt_error err = {0};
  if (ckpt_mapping_memory(&map, data, size, NULL) != CKPT_OK) return 0;
  ckpt_mapping_set_trust(map, &trust);
  ckpt_status st = ckpt_dcp_meta_read(&meta, map, &err);
  fuzz_check_error(st, &err);
  if (st == CKPT_OK) use(&meta);
  if (st == CKPT_OK) ckpt_dcp_meta_free(&meta);
  ckpt_mapping_release(map);
  return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed) {
  return pickle_edit(data, size, max, seed);
}
