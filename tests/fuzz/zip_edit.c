/* zip_edit.c - see zip_edit.h. */
#include "zip_edit.h"

#include "zip_read.h"
#include "zip_write.h"

enum { MAX_RECORDS = 64, MAX_PAYLOAD = 1 << 14 };

typedef struct edit {
  ckpt_zip *zip;
  ckpt_zip_writer *writer;
  zip_edit_payload payload;
  unsigned state;
  char prefix[64];
  size_t chosen;
  unsigned what;
} edit;

static unsigned next(edit *e) { return e->state = e->state * 1103515245u + 12345u, e->state >> 16; }

/* The name below the archive's folder. */
static const char *inner(const char *name) {
  const char *slash = strchr(name, '/');
  return slash == NULL ? name : slash + 1;
}

static size_t change(edit *e, const char *name, uint8_t *bytes, size_t n) {
  if (e->payload != NULL) return e->payload(name, bytes, n, MAX_PAYLOAD, next(e));
  return LLVMFuzzerMutate(bytes, n, MAX_PAYLOAD);
}

static void add(edit *e, const char *name, const uint8_t *bytes, size_t n) {
  ckpt_zip_writer_add(e->writer, name, bytes, n, NULL);
}

static void copy_record(edit *e, size_t i) {
  static uint8_t bytes[MAX_PAYLOAD];
  static const char *const names[] = {"data.pkl",      "version",     "byteorder",         "data/0",        "data/1",
                                      "constants.pkl", "constants/0", "code/__torch__.py", ".data/version", "extra/a"};
  unsigned char *read = NULL;
  const char *name = inner(ckpt_zip_entry_at(e->zip, i)->name);
  size_t n = (size_t)ckpt_zip_entry_at(e->zip, i)->size;
  if (n > MAX_PAYLOAD || ckpt_zip_read(&read, e->zip, i, NULL) != CKPT_OK) return;
  if (n > 0) memcpy(bytes, read, n);
  free(read);
  bool mine = i == e->chosen;
  if (mine && e->what == 0) return;
  if (mine && e->what == 1) name = names[next(e) % CKPT_COUNTOF(names)];
  if (mine && e->what > 2) n = change(e, name, bytes, n);
  add(e, name, bytes, n);
  if (mine && e->what == 2) add(e, names[next(e) % CKPT_COUNTOF(names)], bytes, n);
}

static void find_prefix(edit *e) {
  const char *name = ckpt_zip_entry_at(e->zip, 0)->name, *slash = strchr(name, '/');
  size_t n = slash == NULL ? 0 : (size_t)(slash - name);
  if (n == 0 || n >= sizeof e->prefix) n = 0;
  memcpy(e->prefix, n == 0 ? "m" : name, n == 0 ? 2 : n);
  e->prefix[n == 0 ? 1 : n] = '\0';
}

static size_t lay_out(edit *e, uint8_t *data, size_t size, size_t max) {
  fuzz_memory out = FUZZ_MEMORY;
  size_t n = ckpt_zip_count(e->zip);
  find_prefix(e);
  if (ckpt_zip_writer_new(&e->writer, &out.sink, e->prefix, NULL) != CKPT_OK) return size;
  e->chosen = next(e) % n;
  if (next(e) % 2 == 0) e->chosen = 0; /* the pickle, in most */
  e->what = next(e) % 12;
  for (size_t i = 0; i < n; i++)
    if (strcmp(inner(ckpt_zip_entry_at(e->zip, i)->name), ".data/serialization_id") != 0) copy_record(e, i);
  bool fits = ckpt_zip_writer_finish(e->writer, NULL) == CKPT_OK && out.n <= max;
  ckpt_zip_writer_free(e->writer);
  if (fits) memcpy(data, out.bytes, size = out.n);
  free(out.bytes);
  return size;
}

size_t zip_edit(uint8_t *data, size_t size, size_t max, unsigned seed, zip_edit_payload payload) {
  static const ckpt_trust any = {.limits = {100, 1000, 1000, MAX_RECORDS, 1000}, .lenient = true};
  edit e = {.payload = payload, .state = seed};
  ckpt_mapping *map = NULL;
  if (next(&e) % 4 == 0 || ckpt_mapping_memory(&map, data, size, NULL) != CKPT_OK)
    return LLVMFuzzerMutate(data, size, max);
  ckpt_mapping_set_trust(map, &any);
  if (ckpt_zip_open(&e.zip, map, 0, size, NULL) == CKPT_OK && ckpt_zip_count(e.zip) > 0)
    size = lay_out(&e, data, size, max);
  else
    size = LLVMFuzzerMutate(data, size, max);
  ckpt_zip_release(e.zip);
  ckpt_mapping_release(map);
  return size;
}
