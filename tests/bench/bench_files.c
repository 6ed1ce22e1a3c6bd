/* bench_files.c - files: saving, opening, verifying, loading, the pickle alone. */
#include <unistd.h>

#include "bench.h"
#include "pickle_read.h"
#include "transfer.h"
#include "zip_read.h"

/* save PATH: the model's own arrays into a new file, durable. */
double bench_save(bench *b, int n, char **args) {
  (void)n;
  ckpt_error err = {0};
  ckpt_document *doc = NULL;
  unlink(args[0]);
  double start = bench_now();
  ckpt_status st = bench_model_document(&doc, &b->model, &err);
  if (st == CKPT_OK) st = ckpt_save_file(args[0], ckpt_document_root(doc), &err);
  ckpt_document_release(doc);
  return st == CKPT_OK ? bench_now() - start : bench_failed(b, &err);
}

/* open PATH: until the values are there, and closed again. */
double bench_open(bench *b, int n, char **args) {
  (void)n;
  ckpt_error err = {0};
  ckpt_checkpoint *cp = NULL;
  double start = bench_now();
  ckpt_status st = ckpt_checkpoint_open(&cp, args[0], NULL, &err);
  ckpt_checkpoint_close(cp);
  return st == CKPT_OK ? bench_now() - start : bench_failed(b, &err);
}

double bench_verify(bench *b, int n, char **args) {
  (void)n;
  ckpt_error err = {0};
  ckpt_checkpoint *cp = NULL;
  ckpt_open_options options = {.verify = true};
  double start = bench_now();
  ckpt_status st = ckpt_checkpoint_open(&cp, args[0], &options, &err);
  ckpt_checkpoint_close(cp);
  return st == CKPT_OK ? bench_now() - start : bench_failed(b, &err);
}

static ckpt_status bind_all(ckpt_checkpointer *run, const bench_model *m, ckpt_error *err) {
  ckpt_status st = CKPT_OK;
  for (size_t i = 0; st == CKPT_OK && i < m->n; i++)
    st = ckpt_bind_tensor(run, "model", m->names[i], CKPT_F32, m->data[i], m->ndim[i], m->shape[i], err);
  return st;
}

static ckpt_status open_run(ckpt_checkpointer **out, const bench_model *m, const ckpt_checkpointer_options *options,
                            ckpt_error *err) {
  ckpt_status st = ckpt_checkpointer_open(out, options, err);
  return st == CKPT_OK ? bind_all(*out, m, err) : st;
}

/* load PATH DIR: ckpt_load of the weights into the bound arrays: checksums, the policy's plan, the copy. */
double bench_load(bench *b, int n, char **args) {
  (void)n;
  ckpt_error err = {0};
  ckpt_checkpointer *run = NULL;
  ckpt_load_report report = {0};
  ckpt_checkpointer_options options = {.dir = args[1], .weights = args[0]};
  ckpt_status st = open_run(&run, &b->model, &options, &err);
  double start = bench_now();
  if (st == CKPT_OK) st = ckpt_load(run, &report, &err);
  double took = bench_now() - start;
  size_t matched = report.matched;
  ckpt_checkpointer_close(run);
  if (st != CKPT_OK) return bench_failed(b, &err);
  return matched == b->model.n ? took : bench_fail(b, "%zu of %zu tensors were loaded", matched, b->model.n);
}

static ckpt_status plan_moves(ckpt_move *moves, const bench_model *m, const ckpt_value *dict, ckpt_error *err) {
  ckpt_status st = CKPT_OK;
  for (size_t i = 0; st == CKPT_OK && i < m->n; i++) {
    const ckpt_value *v = ckpt_value_get(dict, m->names[i]);
    if (v == NULL) return ckpt_fail(err, CKPT_E_NOTFOUND, -1, "the file has no '%s'", m->names[i]);
    moves[i].from = ckpt_value_tensor(v);
    st = ckpt_tensor_borrow(&moves[i].to, CKPT_F32, m->data[i], m->ndim[i], m->shape[i], err);
  }
  return st;
}

static ckpt_status copy_all(const bench_model *m, const char *path, ckpt_move *moves, ckpt_error *err) {
  ckpt_checkpoint *cp = NULL;
  ckpt_status st = ckpt_checkpoint_open(&cp, path, NULL, err);
  if (st == CKPT_OK) st = plan_moves(moves, m, ckpt_checkpoint_root(cp), err);
  if (st == CKPT_OK) st = ckpt_transfer(moves, m->n, err);
  ckpt_checkpoint_close(cp);
  return st;
}

/* copy PATH: open, look up, copy: what ckpt_load does after the checksums and beside the policy. */
double bench_copy(bench *b, int n, char **args) {
  (void)n;
  ckpt_error err = {0};
  ckpt_move *moves = calloc(b->model.n, sizeof *moves);
  if (moves == NULL) return bench_fail(b, "no memory");
  double start = bench_now();
  ckpt_status st = copy_all(&b->model, args[0], moves, &err);
  double took = bench_now() - start;
  for (size_t i = 0; i < b->model.n; i++) ckpt_tensor_release(moves[i].to);
  free(moves);
  return st == CKPT_OK ? took : bench_failed(b, &err);
}

/* save_latest DIR EPOCH: ckpt_save of the default policy: a new file, the alias model_latest.pth, a line in the ledger.
 */
double bench_save_latest(bench *b, int n, char **args) {
  (void)n;
  ckpt_error err = {0};
  ckpt_checkpointer *run = NULL;
  ckpt_checkpointer_options options = {.dir = args[0]};
  ckpt_status st = open_run(&run, &b->model, &options, &err);
  double start = bench_now();
  if (st == CKPT_OK) st = ckpt_save(run, strtoll(args[1], NULL, 10), &err);
  double took = bench_now() - start;
  ckpt_checkpointer_close(run);
  return st == CKPT_OK ? took : bench_failed(b, &err);
}

/* ---- the pickle alone ---- */

static ckpt_status adam_state(ckpt_value *state, ckpt_document *doc, const bench_model *m, ckpt_error *err) {
  static const char *const slots[] = {"step", "exp_avg", "exp_avg_sq"};
  ckpt_status st = CKPT_OK;
  for (size_t i = 0; st == CKPT_OK && i < m->n; i++) {
    ckpt_value *index = NULL, *of = NULL;
    st = ckpt_value_new_int(&index, doc, (int64_t)i, err);
    if (st == CKPT_OK) st = ckpt_value_new_dict(&of, doc, false, err);
    for (size_t k = 0; st == CKPT_OK && k < 3; k++) {
      ckpt_tensor *t = NULL;
      ckpt_value *v = NULL;
      st = ckpt_tensor_borrow(&t, CKPT_F32, m->data[(i + k) % m->n], k == 0 ? 0 : m->ndim[i], m->shape[i], err);
      if (st == CKPT_OK) st = ckpt_value_new_tensor(&v, doc, t, err);
      ckpt_tensor_release(t);
      if (st == CKPT_OK) st = ckpt_value_set(of, doc, slots[k], v, err);
    }
    if (st == CKPT_OK) st = ckpt_value_put(state, doc, index, of, err);
  }
  return st;
}

/* optimizer PATH N: Adam's state dict of N parameters: three tensors each, two dicts deep. */
double bench_optimizer(bench *b, int n, char **args) {
  (void)n;
  ckpt_error err = {0};
  ckpt_document *doc = NULL;
  ckpt_value *root = NULL, *state = NULL;
  bench_model m = {0};
  if (!bench_model_many(&m, strtoull(args[1], NULL, 10))) return bench_fail(b, "no memory for the model");
  double start = bench_now();
  ckpt_status st = ckpt_document_new(&doc, &err);
  if (st == CKPT_OK) st = ckpt_value_new_dict(&root, doc, false, &err);
  if (st == CKPT_OK) st = ckpt_value_new_dict(&state, doc, false, &err);
  if (st == CKPT_OK) st = ckpt_value_set(root, doc, "state", state, &err);
  if (st == CKPT_OK) st = adam_state(state, doc, &m, &err);
  if (st == CKPT_OK) st = ckpt_save_file(args[0], root, &err);
  ckpt_document_release(doc);
  bench_model_free(&m);
  return st == CKPT_OK ? bench_now() - start : bench_failed(b, &err);
}

static double parse(bench *b, ckpt_zip *zip, const char *name) {
  ckpt_error err = {0};
  unsigned char *bytes = NULL;
  size_t i = ckpt_zip_find(zip, name), n;
  if (i == SIZE_MAX) return bench_fail(b, "there is no record '%s'", name);
  if (ckpt_zip_read(&bytes, zip, i, &err) != CKPT_OK) return bench_failed(b, &err);
  n = (size_t)ckpt_zip_entry_at(zip, i)->size;
  ckpt_document *doc = NULL;
  ckpt_value *root = NULL;
  double start = bench_now();
  ckpt_status st = ckpt_document_make(&doc, 0, &err);
  if (st == CKPT_OK) st = ckpt_pickle_read(&root, NULL, doc, bytes, n, name, NULL, &err);
  double took = bench_now() - start;
  ckpt_document_release(doc);
  free(bytes);
  return st == CKPT_OK ? took / ((double)n / 1e6) : bench_failed(b, &err);
}

/* pickle PATH: seconds for a megabyte of the file's pickle, without storages and tensors. */
double bench_pickle(bench *b, int n, char **args) {
  (void)n;
  ckpt_error err = {0};
  ckpt_mapping *map = NULL;
  ckpt_zip *zip = NULL;
  char name[300];
  const char *slash = strrchr(args[0], '/'), *base = slash == NULL ? args[0] : slash + 1;
  snprintf(name, sizeof name, "%.*s/data.pkl", (int)(strrchr(base, '.') - base), base);
  ckpt_status st = ckpt_mapping_open(&map, args[0], &err);
  if (st == CKPT_OK) st = ckpt_zip_open(&zip, map, 0, ckpt_mapping_size(map), &err);
  double took = st == CKPT_OK ? parse(b, zip, name) : bench_failed(b, &err);
  ckpt_zip_release(zip);
  ckpt_mapping_release(map);
  return took;
}

/* resave FROM TO: the whole file, value for value, into a new one: what `ckpt convert` does when nothing is to change.
 */
double bench_resave(bench *b, int n, char **args) {
  (void)n;
  ckpt_error err = {0};
  ckpt_checkpoint *cp = NULL;
  double start = bench_now();
  ckpt_status st = ckpt_checkpoint_open(&cp, args[0], NULL, &err);
  if (st == CKPT_OK) st = ckpt_save_file(args[1], ckpt_checkpoint_root(cp), &err);
  ckpt_checkpoint_close(cp);
  return st == CKPT_OK ? bench_now() - start : bench_failed(b, &err);
}
