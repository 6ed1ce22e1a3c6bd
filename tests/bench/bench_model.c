/* bench_model.c - the tensors: VGG16 at any size, and thousands of small ones with the names of a deep network. */
#include "bench.h"

static bool room(bench_model *m, size_t n) {
  *m = (bench_model){.names = calloc(n, sizeof *m->names),
                     .data = calloc(n, sizeof *m->data),
                     .ndim = calloc(n, sizeof *m->ndim),
                     .shape = calloc(n, sizeof *m->shape)};
  return m->names != NULL && m->data != NULL && m->ndim != NULL && m->shape != NULL;
}

/* Bytes that no file system and no compiler can guess, and no page that has not been touched. */
static bool fill(bench_model *m, size_t i) {
  size_t n = 1;
  for (int d = 0; d < m->ndim[i]; d++) n *= (size_t)m->shape[i][d];
  m->data[i] = aligned_alloc(64, (n * sizeof(float) + 63) / 64 * 64);
  if (m->data[i] == NULL) return false;
  uint64_t x = 0x9e3779b97f4a7c15u * (i + 1);
  for (size_t k = 0; k < n; k++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    m->data[i][k] = (float)(int32_t)x / 2147483648.0F;
  }
  m->bytes += n * sizeof(float);
  return true;
}

static bool add(bench_model *m, const char *name, int ndim, const int64_t *shape) {
  size_t i = m->n++;
  snprintf(m->names[i], sizeof m->names[i], "%s", name);
  m->ndim[i] = ndim;
  memcpy(m->shape[i], shape, (size_t)ndim * sizeof *shape);
  return fill(m, i);
}

static bool add_layer(bench_model *m, const char *name, int ndim, const int64_t *shape) {
  char full[80];
  snprintf(full, sizeof full, "%s.weight", name);
  if (!add(m, full, ndim, shape)) return false;
  snprintf(full, sizeof full, "%s.bias", name);
  return add(m, full, 1, shape);
}

/* torchvision's VGG16: 553 MB. Another size comes by other widths of its two hidden layers. */
bool bench_model_vgg16(bench_model *m, size_t bytes) {
  static const int convs[][3] = {{0, 3, 64},     {2, 64, 64},    {5, 64, 128},   {7, 128, 128},  {10, 128, 256},
                                 {12, 256, 256}, {14, 256, 256}, {17, 256, 512}, {19, 512, 512}, {21, 512, 512},
                                 {24, 512, 512}, {26, 512, 512}, {28, 512, 512}};
  char name[40];
  int64_t hidden = 4096 * (int64_t)bytes / 553000000;
  if (hidden < 16) hidden = 16;
  if (!room(m, 32)) return false;
  for (size_t i = 0; i < sizeof convs / sizeof *convs; i++) {
    snprintf(name, sizeof name, "features.%d", convs[i][0]);
    if (!add_layer(m, name, 4, (int64_t[]){convs[i][2], convs[i][1], 3, 3})) return false;
  }
  return add_layer(m, "classifier.0", 2, (int64_t[]){hidden, 25088}) &&
         add_layer(m, "classifier.3", 2, (int64_t[]){hidden, hidden}) &&
         add_layer(m, "classifier.6", 2, (int64_t[]){1000, hidden});
}

bool bench_model_many(bench_model *m, size_t n) {
  char name[96];
  if (!room(m, n)) return false;
  for (size_t i = 0; i < n; i++) {
    snprintf(name, sizeof name, "module.encoder.layers.%zu.attention.%s.%s", i / 8, i % 8 < 4 ? "self" : "output",
             (const char *[]){"query", "key", "value", "dense"}[i % 4]);
    if (i % 8 >= 4) name[0] = 'M';
    if (!add(m, name, 2, (int64_t[]){8, 4})) return false;
  }
  return true;
}

void bench_model_free(bench_model *m) {
  for (size_t i = 0; i < m->n; i++) free(m->data[i]);
  free(m->names);
  free(m->data);
  free(m->ndim);
  free(m->shape);
  *m = (bench_model){0};
}

static ckpt_status fill_dict(ckpt_value *dict, ckpt_document *doc, const bench_model *m, ckpt_error *err) {
  ckpt_status st = CKPT_OK;
  for (size_t i = 0; st == CKPT_OK && i < m->n; i++) {
    ckpt_tensor *t = NULL;
    ckpt_value *v = NULL;
    st = ckpt_tensor_borrow(&t, CKPT_F32, m->data[i], m->ndim[i], m->shape[i], err);
    if (st == CKPT_OK) st = ckpt_value_new_tensor(&v, doc, t, err);
    ckpt_tensor_release(t);
    if (st == CKPT_OK) st = ckpt_value_set(dict, doc, m->names[i], v, err);
  }
  return st;
}

ckpt_status bench_model_document(ckpt_document **out, const bench_model *m, ckpt_error *err) {
  ckpt_document *doc = NULL;
  ckpt_value *dict = NULL;
  ckpt_status st = ckpt_document_new(&doc, err);
  if (st == CKPT_OK) st = ckpt_value_new_dict(&dict, doc, true, err);
  if (st == CKPT_OK) st = fill_dict(dict, doc, m, err);
  if (st != CKPT_OK) {
    ckpt_document_release(doc);
    return st;
  }
  ckpt_document_set_root(doc, dict);
  *out = doc;
  return CKPT_OK;
}

/* model vgg16 BYTES | model many N */
double bench_model_op(bench *b, int n, char **args) {
  (void)n;
  double start = bench_now();
  size_t size = strtoull(args[1], NULL, 10);
  bench_model_free(&b->model);
  bool made = strcmp(args[0], "many") == 0 ? bench_model_many(&b->model, size) : bench_model_vgg16(&b->model, size);
  return made ? bench_now() - start : bench_fail(b, "no memory for the model");
}
