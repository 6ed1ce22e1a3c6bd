/*
 * main.c - trains a small network on handwritten digits, with checkpoints decided by a policy.
 *
 * Standard output: one line about the load, one per epoch, and what the policy logs. Errors go to stderr. Exit status:
 * 0 ok, 1 failed, 2 bad usage, 3 bad file.
 */
#include <stdio.h>
#include <stdlib.h>

#include "checkpoints.h"
#include "killing.h"
#include "options.h"

static int exit_status(ckpt_status st) {
  switch (st) {
    case CKPT_OK: return 0;
    case CKPT_E_ARGUMENT: return 2;
    case CKPT_E_NOTFOUND:
    case CKPT_E_FORMAT:
    case CKPT_E_CORRUPT:
    case CKPT_E_UNSUPPORTED:
    case CKPT_E_LIMIT:
    case CKPT_E_TYPE:
    case CKPT_E_SHAPE: return 3;
    default: return 1;
  }
}

static int report(const ckpt_error *err) {
  fprintf(stderr, "trainer: %s\n", err->message);
  return exit_status(err->status);
}

/* Lines are flushed one by one, so that a killed run has shown how far it came. */
static void log_line(void *user, ckpt_log_level level, const char *line) {
  const options *o = user;
  if (level == CKPT_LOG_WARNING) fprintf(stderr, "trainer: warning: %s\n", line);
  if (level != CKPT_LOG_WARNING && !o->quiet) printf("%s\n", line);
  fflush(stdout);
}

static void print_list(const char *title, const char *const *names, size_t n) {
  for (size_t i = 0; i < n; i++) printf("  %s: %s\n", title, names[i]);
}

static void print_load(const ckpt_load_report *r, int64_t next_epoch) {
  if (r->mode == CKPT_SCRATCH) {
    printf("load: scratch, epoch %lld is next\n", (long long)next_epoch);
    return;
  }
  printf("load: %s %s, epoch %lld is next\n", r->mode == CKPT_RESUMED ? "resumed" : "pre-trained", r->path,
         (long long)next_epoch);
  printf("load: %zu matched, %zu missing, %zu unexpected, %zu mismatched\n", r->matched, r->n_missing, r->n_unexpected,
         r->n_mismatched);
  print_list("missing", r->missing, r->n_missing);
  print_list("unexpected", r->unexpected, r->n_unexpected);
  print_list("mismatched", r->mismatched, r->n_mismatched);
}

static void print_epoch(const trainer *t, double lr, bool improved) {
  printf("epoch %3lld  step %5lld  loss %.4f  acc %.4f  lr %g%s\n", (long long)t->iteration, (long long)t->step,
         t->loss, t->cur_acc, lr, improved ? "  best" : "");
  fflush(stdout);
}

static ckpt_status save(bool *improved, ckpt_checkpointer *cp, trainer *t, ckpt_error *err) {
  killing_save_begins();
  ckpt_status st = checkpoints_save(improved, cp, t, err);
  killing_save_ends();
  if (st == CKPT_OK && *improved) trainer_set_best(t);
  return st;
}

static ckpt_status train(trainer *t, ckpt_checkpointer *cp, const data_set *data, const options *o, ckpt_error *err) {
  for (int64_t epoch = ckpt_next_epoch(cp); epoch <= o->epochs; epoch++) {
    double lr = t->optimizer.lr;
    bool improved = false;
    trainer_run_epoch(t, &data->train, killing_on_step);
    trainer_evaluate(t, &data->test);
    ckpt_status st = save(&improved, cp, t, err);
    if (st != CKPT_OK) return st;
    if (!o->quiet) print_epoch(t, lr, improved);
  }
  return CKPT_OK;
}

static ckpt_status run(trainer *t, const data_set *data, options *o, ckpt_error *err) {
  ckpt_checkpointer *cp = NULL;
  ckpt_load_report loaded;
  o->run.log = log_line;
  o->run.log_user = o;
  ckpt_status st = checkpoints_open(&cp, &loaded, &o->run, t, err);
  if (st == CKPT_OK && !o->quiet) print_load(&loaded, ckpt_next_epoch(cp));
  if (st == CKPT_OK) st = train(t, cp, data, o, err);
  ckpt_checkpointer_close(cp);
  return st;
}

static int load_data(data_set *data, const options *o) {
  char path[4096];
  ckpt_error err = {0};
  bool found =
      o->data != NULL ? snprintf(path, sizeof path, "%s", o->data) < (int)sizeof path : data_find(path, sizeof path);
  if (found) return data_load(data, path, &err) == CKPT_OK ? 0 : report(&err);
  fprintf(stderr, "trainer: the digits (tests/data/optdigits.pth) are not found; give them by --data\n");
  return 3;
}

static int finish(const trainer *t, const options *o) {
  if (o->dump == NULL || trainer_dump(t, o->dump)) return 0;
  fprintf(stderr, "trainer: %s: the dump cannot be written\n", o->dump);
  return 1;
}

int main(int argc, char **argv) {
  static trainer t;
  static data_set data;
  options o;
  ckpt_error err = {0};
  if (!options_parse(&o, argc, argv)) return 2;
  if (o.help) {
    options_print_help();
    return 0;
  }
  int status = load_data(&data, &o);
  if (status != 0) return status;
  data_keep(&data, o.rows);
  trainer_init(&t, (uint64_t)o.seed);
  killing_plan(o.kill_at_step, o.kill_in_save, o.kill_at_fsync);
  return run(&t, &data, &o, &err) == CKPT_OK ? finish(&t, &o) : report(&err);
}
