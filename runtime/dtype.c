/* dtype.c - the dtype table of ckpt.h, looked up. */
#include "dtype.h"

typedef struct row {
  const char *name;
  size_t bytes;
  ckpt_rebuild rebuild;
  const char *storage;
  ckpt_numeric numeric;
} row;

static const row rows[CKPT_DTYPE_COUNT] = {
#define CKPT_X(id, name, bytes, rebuild, storage, numeric) \
  {name, bytes, CKPT_REBUILD_##rebuild, storage, CKPT_NUM_##numeric},
    CKPT_DTYPE_MAP(CKPT_X)
#undef CKPT_X
};

const char *ckpt_dtype_name(ckpt_dtype dtype) { return rows[dtype].name; }
size_t ckpt_dtype_size(ckpt_dtype dtype) { return rows[dtype].bytes; }
ckpt_rebuild ckpt_dtype_rebuild(ckpt_dtype dtype) { return rows[dtype].rebuild; }
ckpt_numeric ckpt_dtype_numeric(ckpt_dtype dtype) { return rows[dtype].numeric; }
const char *ckpt_dtype_storage_class(ckpt_dtype dtype) { return rows[dtype].storage; }

ckpt_status ckpt_dtype_parse(ckpt_dtype *out, const char *name, ckpt_error *err) {
  for (int i = 0; i < CKPT_DTYPE_COUNT; i++) {
    if (strcmp(rows[i].name, name) != 0) continue;
    *out = (ckpt_dtype)i;
    return CKPT_OK;
  }
  return ckpt_fail(err, CKPT_E_NOTFOUND, -1, "'%.64s' is no dtype; one is float32", name);
}

typedef struct alias {
  const char *name;
  ckpt_dtype dtype;
} alias;

/* Names that only TorchScript writes for dtypes without a Python storage class. */
static const alias script_classes[] = {
    {"UntypedStorage", CKPT_U8},
    {"ComplexHalfStorage", CKPT_C32},
    {"UInt16Storage", CKPT_U16},
    {"UInt32Storage", CKPT_U32},
    {"UInt64Storage", CKPT_U64},
    {"Float8_e5m2Storage", CKPT_F8_E5M2},
    {"Float8_e4m3fnStorage", CKPT_F8_E4M3FN},
    {"Float8_e5m2fnuzStorage", CKPT_F8_E5M2FNUZ},
    {"Float8_e4m3fnuzStorage", CKPT_F8_E4M3FNUZ},
    {"Float8_e8m0fnuStorage", CKPT_F8_E8M0FNU},
};

static bool same(const char *a, const char *b, size_t length) {
  return length > 0 && a[0] == b[0] && strlen(a) == length && memcmp(a, b, length) == 0;
}

ckpt_status ckpt_dtype_of_storage_class(ckpt_dtype *out, const char *name, size_t length) {
  for (int i = 0; i < CKPT_DTYPE_COUNT; i++) {
    if (rows[i].rebuild == CKPT_REBUILD_V3 || !same(rows[i].storage, name, length)) continue;
    *out = (ckpt_dtype)i;
    return CKPT_OK;
  }
  for (size_t i = 0; i < CKPT_COUNTOF(script_classes); i++) {
    if (!same(script_classes[i].name, name, length)) continue;
    *out = script_classes[i].dtype;
    return CKPT_OK;
  }
  return CKPT_E_NOTFOUND;
}

int64_t ckpt_dtype_per_byte(ckpt_dtype dtype) {
  if (dtype == CKPT_QU4X2) return 2;
  return dtype == CKPT_QU2X4 ? 4 : 1;
}

unsigned ckpt_dtype_swap_unit(ckpt_dtype dtype) {
  unsigned bytes = (unsigned)rows[dtype].bytes;
  return rows[dtype].numeric == CKPT_NUM_COMPLEX ? bytes / 2 : bytes;
}
