/*
 * fuzz_safetensors.c - safetensors files, and the index of a sharded set. What opens tiles the file: its tensors have
 * as many bytes as lie behind the header. Written again, it opens and is equal.
 */
#include "fuzz.h"
#include "safetensors.h"
#include "safetensors_write.h"
#include "shard_index.h"

enum { MAX_TENSORS = 64 };
static const ckpt_open_options options = {.verify = true, .limits = {100, 1000, 1000, 1000, 1 << 20}};

/* All but what metadata ties to another tensor of the file. */
static size_t collect(ckpt_safetensors_tensor *tensors, const ckpt_value *root) {
  size_t n = 0;
  for (size_t i = 0; i < ckpt_value_pair_count(root) && n < MAX_TENSORS; i++) {
    const char *name = ckpt_value_text(ckpt_value_pair_key(root, i), NULL);
    const ckpt_tensor *t = ckpt_value_tensor(ckpt_value_pair_value(root, i));
    CHECK(name != NULL && t != NULL);
    CHECK(ckpt_safetensors_takes(t));
    tensors[n++] = (ckpt_safetensors_tensor){name, t};
  }
  return n;
}

static void write_again(const ckpt_value *root) {
  ckpt_safetensors_tensor tensors[MAX_TENSORS];
  ckpt_safetensors file = {0};
  fuzz_memory out = FUZZ_MEMORY;
  ckpt_checkpoint *cp = NULL;
  ckpt_error err = {0};
  bool same = false;
  size_t n = collect(tensors, root);
  ckpt_status st = ckpt_safetensors_prepare(&file, tensors, n, NULL, 0, &err);
  fuzz_check_error(st, &err);
  if (st != CKPT_OK) return;
  if (ckpt_safetensors_write(&out.sink, &file, &err) == CKPT_OK) {
    CHECK(out.n == file.size);
    CHECK(ckpt_checkpoint_open_memory(&cp, out.bytes, out.n, "m", &options, &err) == CKPT_OK);
    CHECK(ckpt_value_equal(&same, root, ckpt_checkpoint_root(cp), &err) == CKPT_OK);
    CHECK(same || n == MAX_TENSORS);
  }
  ckpt_checkpoint_close(cp);
  ckpt_safetensors_free(&file);
  free(out.bytes);
}

static void read_index(const uint8_t *data, size_t size) {
  ckpt_mapping *map = NULL;
  ckpt_shard_index index = {0};
  ckpt_document *doc = NULL;
  ckpt_value *metadata = NULL;
  ckpt_error err = {0};
  if (ckpt_mapping_memory(&map, data, size, NULL) != CKPT_OK) return;
  if (ckpt_shard_index_is(map) && ckpt_document_new(&doc, NULL) == CKPT_OK) {
    ckpt_status st = ckpt_shard_index_parse(&index, &metadata, doc, map, &err);
    fuzz_check_error(st, &err);
    for (size_t i = 0; st == CKPT_OK && i < index.n; i++) {
      CHECK(strchr(index.rows[i].file, '/') == NULL && strcmp(index.rows[i].file, "..") != 0);
      CHECK(ckpt_shard_index_place(&index, &index.rows[i]) <= size);
    }
    if (st == CKPT_OK) ckpt_shard_index_free(&index);
  }
  ckpt_document_release(doc);
  ckpt_mapping_release(map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  ckpt_checkpoint *cp = NULL;
  ckpt_mapping *map = NULL;
  ckpt_error err = {0};
  read_index(data, size);
  if (ckpt_mapping_memory(&map, data, size, NULL) != CKPT_OK) return 0;
  bool is = ckpt_safetensors_is(map);
  ckpt_mapping_release(map);
  if (!is) return 0;
  ckpt_status st = ckpt_checkpoint_open_memory(&cp, data, size, "m", &options, &err);
  fuzz_check_open(st, &err);
  if (st == CKPT_OK) {
    fuzz_use(cp);
    write_again(ckpt_checkpoint_root(cp));
  }
  ckpt_checkpoint_close(cp);
  return 0;
}

/* The length in front is kept right most of the time. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed) {
  static uint8_t header[1 << 14];
  uint64_t n = size < 8 ? 0 : ckpt_le64(data);
  if (seed % 4 == 0 || size < 8 || n > size - 8 || n > sizeof header / 2) return LLVMFuzzerMutate(data, size, max);
  size_t rest = size - 8 - (size_t)n;
  memcpy(header, data + 8, (size_t)n);
  size_t made = LLVMFuzzerMutate(header, (size_t)n, sizeof header);
  if (8 + made + rest > max) return size;
  memmove(data + 8 + made, data + 8 + n, rest);
  memcpy(data + 8, header, made);
  ckpt_put64(data, made);
  return 8 + made + rest;
}
