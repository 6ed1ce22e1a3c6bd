// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup
/*
 * test_load.c - ckpt_load through the public header: the report, and that a load which fails, at whatever allocation or
 * condition, leaves every bound byte as it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include <ckpt/checkpointer.h>

#include "alloc_faults.h"

#define OK(call) assert_int_equal((call), CKPT_OK)
#define SHAPE(...) ((const int64_t[]){__VA_ARGS__})

/* ---- a trainer ---- */

typedef struct trainer {
  float conv[6], head[6], moment[6], step, ema[6];
  double lr;
  int64_t iteration;
} trainer;

static char dir[64], policy[96], weights[96];

static const char rules[] =
    "return { load = { optimizer = true, on_mismatch = 'overlap', rgb2bgr = true, %s\n"
    "  map = { id = 'mine', stages = { {\n"
    "    { 'conv1.{s}', to = 'stem.{s}', op = { { 'flip', 0 }, { 'cast', 'float32' } } }, { 'fc.{s}', to = 'head.{s}' "
    "},\n"
    "    { 'gone', to = 'nowhere' } } }, first_conv = 'stem.weight' } } }\n";

static void write_policy(const char *more) {
  FILE *f = fopen(policy, "w");
  assert_non_null(f);
  fprintf(f, rules, more);
  assert_int_equal(fclose(f), 0);
}

static void fill(trainer *t, float start) {
  memset(t, 0, sizeof *t); /* its padding is compared too */
  for (int i = 0; i < 6; i++) {
    t->conv[i] = start + (float)i;
    t->head[i] = start + 10 + (float)i;
    t->moment[i] = start + 20 + (float)i;
    t->ema[i] = start + 30 + (float)i;
  }
  t->step = start;
  t->lr = start;
  t->iteration = (int64_t)start;
}

static ckpt_checkpointer *open_run(trainer *t, const char *file, const char *conv, const char *head, int64_t rows) {
  char slot[64];
  ckpt_error err = {0};
  ckpt_checkpointer *cp = NULL;
  ckpt_checkpointer_options o = {.dir = dir, .policy = file == NULL ? NULL : policy, .weights = file};
  ckpt_status st = ckpt_checkpointer_open(&cp, &o, &err);
  if (st != CKPT_OK) fail_msg("%s", err.message);
  OK(ckpt_bind_tensor(cp, "model", conv, CKPT_F32, t->conv, 4, SHAPE(2, 3, 1, 1), &err));
  OK(ckpt_bind_tensor(cp, "model", head, CKPT_F32, t->head, 2, SHAPE(rows, 6 / rows), &err));
  snprintf(slot, sizeof slot, "%s.exp_avg", conv);
  OK(ckpt_bind_tensor(cp, "optimizer", slot, CKPT_F32, t->moment, 4, SHAPE(2, 3, 1, 1), &err));
  snprintf(slot, sizeof slot, "%s.step", conv);
  OK(ckpt_bind_tensor(cp, "optimizer", slot, CKPT_F32, &t->step, 0, NULL, &err));
  OK(ckpt_bind_double(cp, "optimizer", "lr", &t->lr, &err));
  OK(ckpt_bind_int(cp, "scheduler", "iteration", &t->iteration, &err));
  return cp;
}

/* A file of another model: conv1.weight [2,3,1,1] and fc.weight [2,3]. */
static int set_up(void **state) {
  static trainer t;
  (void)state;
  snprintf(dir, sizeof dir, "/tmp/ckpt-test-load-XXXXXX");
  if (mkdtemp(dir) == NULL) return 1;
  snprintf(policy, sizeof policy, "%s/policy.lua", dir);
  snprintf(weights, sizeof weights, "%s/model_epoch1.pth", dir);
  fill(&t, 100);
  ckpt_checkpointer *cp = open_run(&t, NULL, "conv1.weight", "fc.weight", 2);
  OK(ckpt_save(cp, 1, NULL));
  ckpt_checkpointer_close(cp);
  write_policy("");
  return 0;
}

static int tear_down(void **state) {
  char command[128];
  (void)state;
  snprintf(command, sizeof command, "rm -rf %s", dir);
  return system(command);
}

/* What a load must make of a trainer that was filled with 0: head is [3,2] here, so it gets the corner [2,2]. */
static void expected(trainer *t) {
  static const float conv[] = {105, 104, 103, 102, 101, 100}, moment[] = {125, 124, 123, 122, 121, 120};
  fill(t, 0);
  memcpy(t->conv, conv, sizeof conv);
  memcpy(t->moment, moment, sizeof moment);
  t->head[0] = 110;
  t->head[1] = 111;
  t->head[2] = 113;
  t->head[3] = 114;
  t->step = 100;
}

/* ---- tests ---- */

static void reports(void **state) {
  (void)state;
  trainer t, want;
  ckpt_load_report r;
  fill(&t, 0);
  expected(&want);
  ckpt_checkpointer *cp = open_run(&t, weights, "net.stem.weight", "net.head.weight", 3);
  OK(ckpt_load(cp, &r, NULL));
  assert_memory_equal(&t, &want, sizeof t);
  assert_int_equal(r.mode, CKPT_PRETRAINED);
  assert_string_equal(r.path, weights);
  assert_string_equal(r.map, "mine (by the policy)");
  assert_int_equal(r.n_entries, 2);
  const ckpt_load_entry *conv = &r.entries[0], *head = &r.entries[1];
  assert_string_equal(conv->to, "net.stem.weight");
  assert_int_equal(conv->status, CKPT_LOAD_MATCHED);
  assert_string_equal(conv->source, "conv1.weight");
  assert_string_equal(conv->rule, "1.1");
  assert_string_equal(conv->operations, "flip(0), cast(float32), index_select(1, [2, 1, 0])");
  assert_int_equal(conv->file_ndim, 4);
  assert_int_equal(conv->file_shape[1], 3);
  assert_int_equal(head->status, CKPT_LOAD_PARTIAL);
  assert_int_equal(head->model_shape[0], 3);
  assert_int_equal(head->file_shape[0], 2);
  assert_string_equal(head->note,
                      "2 to 2 of dimension 0 stay as initialised; the file's 2 to 2 of dimension 1 are "
                      "left out");
  assert_int_equal(r.bytes, 48);
  assert_int_equal(r.matched_bytes, 40);
  assert_int_equal(r.n_parameters, 1);
  assert_int_equal(r.parameters[0].n_moved, 2);
  assert_null(r.parameters[0].note);
  assert_int_equal(r.n_unfired, 1);
  assert_string_equal(r.unfired[0], "1.3");
  assert_int_equal(r.n_violations + r.n_missing + r.n_unexpected + r.n_dropped, 0);
  ckpt_checkpointer_close(cp);
}

static void refuses(void **state) {
  (void)state;
  trainer t, before;
  ckpt_load_report r;
  ckpt_error err;
  write_policy("require = { must = { '*.conv9' }, matched = 2 },");
  fill(&t, 0);
  fill(&before, 0);
  ckpt_checkpointer *cp = open_run(&t, weights, "net.stem.weight", "net.head.weight", 3);
  assert_int_equal(ckpt_load(cp, &r, &err), CKPT_E_CONTRACT);
  assert_memory_equal(&t, &before, sizeof t);
  assert_int_equal(r.n_violations, 2);
  assert_string_equal(r.violations[1], "load.require.must names '*.conv9', which no model key matches");
  assert_int_equal(r.entries[0].status, CKPT_LOAD_MATCHED); /* it would have been */
  assert_non_null(strstr(err.message, r.violations[0]));
  ckpt_checkpointer_close(cp);
}

/* The last thing that is looked at does not fit: the file's iteration as the double that is bound here. */
static void fails_late(void **state) {
  (void)state;
  trainer t, before;
  ckpt_load_report r;
  FILE *f = fopen(policy, "w");
  assert_non_null(f);
  fprintf(f, "return { resume = { '%s' } }\n", weights);
  assert_int_equal(fclose(f), 0);
  fill(&t, 0);
  fill(&before, 0);
  ckpt_checkpointer_options o = {.dir = dir, .policy = policy, .auto_resume = true};
  ckpt_checkpointer *cp = NULL;
  OK(ckpt_checkpointer_open(&cp, &o, NULL));
  OK(ckpt_bind_tensor(cp, "model", "conv1.weight", CKPT_F32, t.conv, 4, SHAPE(2, 3, 1, 1), NULL));
  OK(ckpt_bind_tensor(cp, "model", "fc.weight", CKPT_F32, t.head, 2, SHAPE(2, 3), NULL));
  OK(ckpt_bind_tensor(cp, "optimizer", "conv1.weight.exp_avg", CKPT_F32, t.moment, 1, SHAPE(6), NULL));
  assert_int_equal(ckpt_load(cp, &r, NULL), CKPT_E_SHAPE);
  assert_memory_equal(&t, &before, sizeof t);
  assert_int_equal(ckpt_next_epoch(cp), 1);
  ckpt_checkpointer_close(cp);
}

/* Loads with the nth allocation failing; whether it was met. Written is all or nothing. */
static bool load_short(ckpt_checkpointer *cp, trainer *t, size_t nth, size_t *failed) {
  trainer before, want;
  ckpt_load_report r;
  ckpt_error err = {0};
  fill(t, 0);
  fill(&before, 0);
  expected(&want);
  alloc_countdown = nth;
  alloc_seen = 0;
  ckpt_status st = ckpt_load(cp, &r, &err);
  bool met = nth > 0 && alloc_countdown == 0;
  alloc_countdown = 0;
  *failed += st != CKPT_OK;
  assert_memory_equal(t, st == CKPT_OK ? &want : &before, sizeof want);
  assert_true(met || st == CKPT_OK);
  assert_true(st == CKPT_OK || err.message[0] != '\0');
  return met;
}

/* Lua collects and tries again where it gets no memory, so that most of the policy's allocations may fail once. */
static void out_of_memory(void **state) {
  (void)state;
  trainer t;
  ckpt_checkpointer *cp = open_run(&t, weights, "net.stem.weight", "net.head.weight", 3);
  size_t nth = 1, failed = 0;
  for (; load_short(cp, &t, nth, &failed); nth++) assert_true(nth < 100000);
  assert_true(nth > 500 && failed > 50);
  ckpt_checkpointer_close(cp);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void) {
  static const struct CMUnitTest tests[] = {TEST(reports), TEST(refuses), TEST(fails_late), TEST(out_of_memory)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
