/* safetensors.c - see safetensors.h. Messages give bytes of the file; a tensor's is where the header speaks of it. */
#include "safetensors.h"

#include <stdlib.h>

#include "json_read.h"

/* ---- dtypes ---- */

typedef struct row {
  const char *name;
  int dtype; /* -1: PyTorch has none */
  unsigned bits;
} row;

/* In the order in which the library writes tensors. */
static const row rows[] = {{"U64", CKPT_U64, 64},
                           {"I64", CKPT_I64, 64},
                           {"F64", CKPT_F64, 64},
                           {"C64", CKPT_C64, 64},
                           {"F32", CKPT_F32, 32},
                           {"U32", CKPT_U32, 32},
                           {"I32", CKPT_I32, 32},
                           {"BF16", CKPT_BF16, 16},
                           {"F16", CKPT_F16, 16},
                           {"U16", CKPT_U16, 16},
                           {"I16", CKPT_I16, 16},
                           {"F8_E5M2FNUZ", CKPT_F8_E5M2FNUZ, 8},
                           {"F8_E4M3FNUZ", CKPT_F8_E4M3FNUZ, 8},
                           {"F8_E8M0", CKPT_F8_E8M0FNU, 8},
                           {"F8_E4M3", CKPT_F8_E4M3FN, 8},
                           {"F8_E5M2", CKPT_F8_E5M2, 8},
                           {"I8", CKPT_I8, 8},
                           {"U8", CKPT_U8, 8},
                           {"F6_E3M2", -1, 6},
                           {"F6_E2M3", -1, 6},
                           {"F4", CKPT_F4_E2M1FN_X2, 4},
                           {"BOOL", CKPT_BOOL, 8}};

const char *ckpt_safetensors_dtype(ckpt_dtype dtype, size_t *rank) {
  for (size_t i = 0; i < CKPT_COUNTOF(rows); i++) {
    if (rows[i].dtype != (int)dtype) continue;
    if (rank != NULL) *rank = i;
    return rows[i].name;
  }
  return NULL;
}

static const row *find_row(const char *name) {
  for (size_t i = 0; i < CKPT_COUNTOF(rows); i++)
    if (strcmp(rows[i].name, name) == 0) return &rows[i];
  return NULL;
}

/* ---- the header ---- */

bool ckpt_safetensors_is(const ckpt_mapping *map) {
  const unsigned char *b = ckpt_mapping_data(map);
  if (ckpt_mapping_size(map) < 9) return false;
  bool begins = b[8] == '{' || memchr(" \t\r\n", b[8], 4) != NULL;
  return begins && ckpt_le64(b) < (uint64_t)1 << 32; /* pickles and text have more in these bytes */
}

typedef struct entry {
  const char *name;
  const row *dtype;
  const json_t *shape;
  uint64_t begin, end;
  size_t number; /* of the header's members, `__metadata__` counted */
} entry;

typedef struct reader {
  ckpt_mapping *map;
  const char *header;
  size_t header_n;
  uint64_t base, data_n; /* where the data lies */
  ckpt_document *doc;
  entry *entries; /* in the order of the header, then of the data */
  size_t n;
  ckpt_value *metadata;
} reader;

static ckpt_status find_header(reader *r, ckpt_error *err) {
  size_t size = ckpt_mapping_size(r->map);
  uint64_t n = ckpt_le64(ckpt_mapping_data(r->map));
  size_t most = ckpt_mapping_trust(r->map)->limits.header;
  if (n > most)
    return ckpt_fail(err, CKPT_E_LIMIT, 0, "a safetensors header of %llu bytes; at most %zu are allowed",
                     (unsigned long long)n, most);
  if (n > size - 8)
    return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)size,
                     "the safetensors header ends at byte %llu, the file at byte %zu", (unsigned long long)n + 8, size);
  r->header = (const char *)ckpt_mapping_data(r->map) + 8;
  r->header_n = (size_t)n;
  r->base = n + 8;
  r->data_n = size - r->base;
  if (n > 0 && r->header[0] == '{') return CKPT_OK;
  return ckpt_fail(err, CKPT_E_CORRUPT, 8, "the safetensors header at byte 8 must begin with '{'");
}

static uint64_t place_of(const reader *r, const entry *e) {
  return 8 + ckpt_json_place(r->header, r->header_n, e->number, SIZE_MAX);
}

/* "safetensors header, byte 10, tensor 'w': `what`" */
static ckpt_status fail_entry(const reader *r, const entry *e, ckpt_status st, const char *what, ckpt_error *err) {
  uint64_t at = place_of(r, e);
  return ckpt_fail(err, st, (int64_t)at, "safetensors header, byte %llu, tensor '%.200s': %s", (unsigned long long)at,
                   e->name, what);
}

/* ---- one tensor's entry ---- */

static bool is_size(const json_t *v) { return json_is_integer(v) && json_integer_value(v) >= 0; }

static ckpt_status read_offsets(reader *r, entry *e, const json_t *info, ckpt_error *err) {
  const json_t *offsets = json_object_get(info, "data_offsets");
  const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
  if (json_array_size(offsets) != 2 || !is_size(begin) || !is_size(end))
    return fail_entry(r, e, CKPT_E_CORRUPT, "data_offsets must be a list of two integers, none negative", err);
  e->begin = (uint64_t)json_integer_value(begin);
  e->end = (uint64_t)json_integer_value(end);
  if (e->end < e->begin) return fail_entry(r, e, CKPT_E_CORRUPT, "its data_offsets end before they begin", err);
  if (e->end > r->data_n) return fail_entry(r, e, CKPT_E_CORRUPT, "its data_offsets lie behind the file's end", err);
  return CKPT_OK;
}

static ckpt_status read_dtype(reader *r, entry *e, const json_t *info, ckpt_error *err) {
  const json_t *name = json_object_get(info, "dtype");
  if (!json_is_string(name)) return fail_entry(r, e, CKPT_E_CORRUPT, "its dtype must be a string", err);
  e->dtype = find_row(json_string_value(name));
  if (e->dtype == NULL || strlen(json_string_value(name)) != json_string_length(name))
    return fail_entry(r, e, CKPT_E_CORRUPT, "its dtype is none that the format knows", err);
  if (e->dtype->dtype < 0)
    return fail_entry(r, e, CKPT_E_UNSUPPORTED, "its dtype is one of 6 bits, which PyTorch does not have", err);
  return CKPT_OK;
}

/* Multiplied from left to right like the library does: [0, big, big] is empty, [big, big, 0] is refused. */
static ckpt_status check_bytes(reader *r, const entry *e, ckpt_error *err) {
  int64_t bits = 1;
  bool fits = true;
  for (size_t i = 0; i < json_array_size(e->shape); i++)
    fits = fits && ckpt_mul_i64(&bits, bits, json_integer_value(json_array_get(e->shape, i)));
  if (!fits || !ckpt_mul_i64(&bits, bits, (int64_t)e->dtype->bits))
    return fail_entry(r, e, CKPT_E_CORRUPT, "its number of bits does not fit in 63 bits", err);
  if (bits % 8 != 0) return fail_entry(r, e, CKPT_E_CORRUPT, "its last byte is not full", err);
  if ((uint64_t)bits / 8 == e->end - e->begin) return CKPT_OK;
  uint64_t at = place_of(r, e);
  return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)at,
                   "safetensors header, byte %llu, tensor '%.200s': it has %llu bytes, its shape and dtype need %lld",
                   (unsigned long long)at, e->name, (unsigned long long)(e->end - e->begin), (long long)(bits / 8));
}

static ckpt_status read_shape(reader *r, entry *e, const json_t *info, ckpt_error *err) {
  e->shape = json_object_get(info, "shape");
  bool good = json_is_array(e->shape);
  size_t n = json_array_size(e->shape);
  for (size_t i = 0; i < n; i++) good = good && is_size(json_array_get(e->shape, i));
  if (!good) return fail_entry(r, e, CKPT_E_CORRUPT, "its shape must be a list of integers, none negative", err);
  if (n > CKPT_MAX_DIMS) return fail_entry(r, e, CKPT_E_LIMIT, "it has more than 64 dimensions", err);
  CKPT_TRY(check_bytes(r, e, err));
  bool odd = e->dtype->bits == 4 && (n == 0 || json_integer_value(json_array_get(e->shape, n - 1)) % 2 != 0);
  if (odd) return fail_entry(r, e, CKPT_E_UNSUPPORTED, "PyTorch pairs F4 values, its last dimension must be even", err);
  return CKPT_OK;
}

static ckpt_status read_entry(reader *r, const char *name, const json_t *info, size_t number, ckpt_error *err) {
  entry e = {.name = name, .number = number};
  if (!json_is_object(info)) return fail_entry(r, &e, CKPT_E_CORRUPT, "it must be described by an object", err);
  CKPT_TRY(read_dtype(r, &e, info, err));
  CKPT_TRY(read_offsets(r, &e, info, err));
  CKPT_TRY(read_shape(r, &e, info, err));
  r->entries[r->n++] = e;
  return CKPT_OK;
}

/* ---- metadata ---- */

static ckpt_status read_metadata(reader *r, json_t *info, size_t number, ckpt_error *err) {
  entry e = {.name = CKPT_SAFETENSORS_METADATA, .number = number};
  if (json_is_null(info)) return CKPT_OK;
  uint64_t at = place_of(r, &e);
  bool good = json_is_object(info);
  for (void *i = json_object_iter(info); i != NULL; i = json_object_iter_next(info, i))
    good = good && json_is_string(json_object_iter_value(i));
  if (!good)
    return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)at,
                     "safetensors header, byte %llu: __metadata__ must be an object of strings",
                     (unsigned long long)at);
  CKPT_TRY(ckpt_value_new_dict(&r->metadata, r->doc, false, err));
  for (void *i = json_object_iter(info); i != NULL; i = json_object_iter_next(info, i)) {
    const json_t *text = json_object_iter_value(i);
    ckpt_value *v = NULL;
    CKPT_TRY(ckpt_value_new_str(&v, r->doc, json_string_value(text), json_string_length(text), err));
    CKPT_TRY(ckpt_value_set(r->metadata, r->doc, json_object_iter_key(i), v, err));
  }
  return CKPT_OK;
}

static ckpt_status read_header(reader *r, json_t *header, ckpt_error *err) {
  size_t n = json_object_size(header), number = 0;
  r->entries = calloc(n + 1, sizeof *r->entries);
  if (r->entries == NULL) return ckpt_fail_nomem(err, (n + 1) * sizeof *r->entries);
  for (void *i = json_object_iter(header); i != NULL; i = json_object_iter_next(header, i), number++) {
    const char *name = json_object_iter_key(i);
    if (strcmp(name, CKPT_SAFETENSORS_METADATA) == 0)
      CKPT_TRY(read_metadata(r, json_object_iter_value(i), number, err));
    else
      CKPT_TRY(read_entry(r, name, json_object_iter_value(i), number, err));
  }
  return CKPT_OK;
}

/* ---- the data ---- */

static int by_place(const void *a, const void *b) {
  const entry *x = a, *y = b;
  if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
  if (x->end != y->end) return x->end < y->end ? -1 : 1;
  return x->number < y->number ? -1 : x->number > y->number;
}

/* Laid side by side, the tensors must fill the data: no hole, no byte in two of them, none behind the last. */
static ckpt_status check_tiling(const reader *r, ckpt_error *err) {
  uint64_t at = 0;
  for (size_t i = 0; i < r->n; at = r->entries[i++].end) {
    const entry *e = &r->entries[i];
    if (e->begin == at) continue;
    return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)(r->base + e->begin),
                     "safetensors data: tensor '%.200s' begins at byte %llu, %s", e->name,
                     (unsigned long long)(r->base + e->begin),
                     i == 0          ? "and nothing is before it"
                     : e->begin < at ? "inside the one before it"
                                     : "behind a hole");
  }
  if (at == r->data_n) return CKPT_OK;
  return ckpt_fail(err, CKPT_E_CORRUPT, (int64_t)(r->base + at),
                   "safetensors data: the last tensor ends at byte %llu, the file at byte %llu",
                   (unsigned long long)(r->base + at), (unsigned long long)(r->base + r->data_n));
}

static ckpt_status make_tensor(ckpt_tensor **out, const reader *r, const entry *e, ckpt_error *err) {
  int64_t shape[CKPT_MAX_DIMS] = {0};
  size_t n = json_array_size(e->shape);
  for (size_t i = 0; i < n; i++) shape[i] = json_integer_value(json_array_get(e->shape, i));
  if (e->dtype->bits == 4) shape[n - 1] /= 2;
  ckpt_tensor_spec spec = {.dtype = (ckpt_dtype)e->dtype->dtype, .ndim = (int)n, .shape = shape};
  ckpt_storage *s = NULL;
  CKPT_TRY(ckpt_storage_span(&s, r->map, r->base + e->begin, e->end - e->begin, err));
  ckpt_status st = ckpt_tensor_make(out, s, &spec, err);
  ckpt_storage_release(s);
  return st;
}

static ckpt_status add_tensor(ckpt_value *root, const reader *r, const entry *e, ckpt_error *err) {
  ckpt_tensor *t = NULL;
  ckpt_value *v = NULL;
  CKPT_TRY(make_tensor(&t, r, e, err));
  ckpt_status st = ckpt_value_new_tensor(&v, r->doc, t, err);
  ckpt_tensor_release(t);
  return st == CKPT_OK ? ckpt_value_set(root, r->doc, e->name, v, err) : st;
}

/* Second names stand behind the first `n`, so that a name that was restored is never taken for a tensor of the file. */
static ckpt_status restore_ties(ckpt_value *root, const reader *r, ckpt_error *err) {
  const ckpt_dict *tensors = ckpt_value_dict(root);
  size_t pairs = r->metadata == NULL ? 0 : ckpt_value_pair_count(r->metadata);
  for (size_t i = 0; i < pairs; i++) {
    size_t n = 0;
    const char *kept = ckpt_value_text(ckpt_value_pair_value(r->metadata, i), &n);
    const char *name = ckpt_value_text(ckpt_value_pair_key(r->metadata, i), NULL);
    size_t at = ckpt_dict_find_text(tensors, kept, n);
    if (at >= r->n || ckpt_value_get(root, name) != NULL) continue;
    CKPT_TRY(ckpt_value_set(root, r->doc, name, ckpt_value_pair_value(root, at), err));
  }
  return CKPT_OK;
}

static ckpt_status build(reader *r, ckpt_error *err) {
  ckpt_value *root = NULL;
  qsort(r->entries, r->n, sizeof *r->entries, by_place);
  CKPT_TRY(check_tiling(r, err));
  CKPT_TRY(ckpt_value_new_dict(&root, r->doc, false, err));
  for (size_t i = 0; i < r->n; i++) CKPT_TRY(add_tensor(root, r, &r->entries[i], err));
  CKPT_TRY(restore_ties(root, r, err));
  ckpt_document_set_root(r->doc, root);
  return CKPT_OK;
}

static ckpt_status read_all(reader *r, ckpt_error *err) {
  json_t *header = NULL;
  CKPT_TRY(find_header(r, err));
  CKPT_TRY(ckpt_json_parse(&header, r->header, r->header_n, 8, "the safetensors header", err));
  ckpt_status st = ckpt_document_new(&r->doc, err);
  if (st == CKPT_OK) st = read_header(r, header, err);
  if (st == CKPT_OK) st = build(r, err);
  json_decref(header);
  return st;
}

ckpt_status ckpt_safetensors_read(ckpt_document **out, ckpt_value **metadata, ckpt_mapping *map, ckpt_error *err) {
  reader r = {.map = map};
  ckpt_status st = read_all(&r, err);
  free(r.entries);
  if (st != CKPT_OK) {
    ckpt_document_release(r.doc);
    return st;
  }
  *metadata = r.metadata;
  *out = r.doc;
  return CKPT_OK;
}
