// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup
/*
 * test_memory.c - a run without memory: opening, resuming, recovering, saving (waited for, in a thread, over recycled
 * blocks), pruning, with each allocation failing once, and with all failing from there on. Whatever comes of it: no
 * crash, no descriptor left, the trainer's arrays all old or all new, and a directory that the next run resumes from
 * with nothing lost. Leaks are the sanitizer's to find.
 *
 * Each scenario takes every STRIDE-th allocation, beginning with another one each (opening, most of which is Lua's
 * compiler, every tenth of these); CKPT_MEMORY_STRIDE=1 takes all.
 */
#include "alloc_faults.h"
#include "publish_fixture.h"
#include "run.h"

enum { WEIGHTS = 64, EPOCHS = 3, DEFAULT_STRIDE = 11 };

typedef struct trainer {
  ckpt_checkpointer *cp;
  float w[WEIGHTS], momentum[WEIGHTS];
} trainer;

typedef struct scenario {
  const char *name, *fields;        /* of the policy */
  bool closed;                      /* begins with a run that is not open */
  void (*prepare)(const char *dir); /* after three epochs; may be NULL */
  ckpt_status (*act)(trainer *t, const char *dir, ckpt_error *err);
  int most; /* the newest epoch that may be there afterwards */
} scenario;

/* ---- a run ---- */

static void train(trainer *t, int epoch) {
  for (int i = 0; i < WEIGHTS; i++) {
    t->w[i] = (float)(epoch * 1000 + i);
    t->momentum[i] = -t->w[i];
  }
}

/* The epoch that both arrays are of; -1 if they are of none. */
static int epoch_in(const trainer *t) {
  trainer whole;
  int epoch = (int)t->w[0] / 1000;
  train(&whole, epoch);
  bool same = memcmp(t->w, whole.w, sizeof whole.w) == 0 && memcmp(t->momentum, whole.momentum, sizeof whole.w) == 0;
  return same ? epoch : -1;
}

static ckpt_status open_run(trainer *t, const char *dir, ckpt_error *err) {
  char policy[PATH_MAX + 64];
  int64_t shape[] = {WEIGHTS};
  snprintf(policy, sizeof policy, "%s.lua", dir);
  ckpt_checkpointer_options o = {.dir = dir, .policy = policy, .auto_resume = true};
  CKPT_TRY(ckpt_checkpointer_open(&t->cp, &o, err));
  CKPT_TRY(ckpt_bind_tensor(t->cp, "model", "w", CKPT_F32, t->w, 1, shape, err));
  return ckpt_bind_tensor(t->cp, "optimizer", "w.m", CKPT_F32, t->momentum, 1, shape, err);
}

static void close_run(trainer *t) {
  ckpt_checkpointer_close(t->cp);
  t->cp = NULL;
}

/* Epoch 2 is the best of the first three, epoch 4 of all. */
static double accuracy(int epoch) { return epoch == 2 ? 0.8 : epoch == 4 ? 0.9 : 0.5; }

static ckpt_status save_epoch(trainer *t, int epoch, bool async, ckpt_error *err) {
  bool improved;
  train(t, epoch);
  CKPT_TRY(ckpt_set_metric(t->cp, "acc", accuracy(epoch), err));
  CKPT_TRY((async ? ckpt_save_async : ckpt_save)(t->cp, epoch, err));
  CKPT_TRY((async ? ckpt_save_best_async : ckpt_save_best)(t->cp, epoch, &improved, err));
  return async ? ckpt_wait(t->cp, err) : CKPT_OK;
}

/* ---- the acts ---- */

static ckpt_status act_open(trainer *t, const char *dir, ckpt_error *err) { return open_run(t, dir, err); }

static ckpt_status act_load(trainer *t, const char *dir, ckpt_error *err) {
  ckpt_load_report report;
  (void)dir;
  return ckpt_load(t->cp, &report, err);
}

static ckpt_status act_save(trainer *t, const char *dir, ckpt_error *err) {
  (void)dir;
  return save_epoch(t, EPOCHS + 1, false, err);
}

static ckpt_status act_save_async(trainer *t, const char *dir, ckpt_error *err) {
  (void)dir;
  return save_epoch(t, EPOCHS + 1, true, err);
}

static ckpt_status act_prune(trainer *t, const char *dir, ckpt_error *err) {
  ckpt_save_plan plan = {0};
  char *spared = NULL;
  (void)dir;
  CKPT_TRY(ckpt_pin(t->cp, "model_epoch1.pth", true, err));
  ckpt_status st = ckpt_prune(&plan, &spared, t->cp, true, err);
  free(spared);
  if (st == CKPT_OK) ckpt_save_plan_free(&plan);
  return st;
}

/* The newest is no checkpoint any more. */
static void spoil(const char *dir) {
  char path[PATH_MAX];
  assert_int_equal(truncate(join(path, dir, "model_epoch3.pth"), 700), 0);
}

static void drop_aliases(const char *dir) {
  char path[PATH_MAX];
  assert_int_equal(unlink(join(path, dir, "model_latest.pth")), 0);
  assert_int_equal(unlink(join(path, dir, "model_best.pth")), 0);
}

static const scenario scenarios[] = {
    {"opening", "", true, drop_aliases, act_open, 3},
    {"resuming", "", false, NULL, act_load, 3},
    {"resuming beside a broken file", "", false, spoil, act_load, 2},
    {"saving", "policy.keep = { last = 2, best = 1 }", false, NULL, act_save, 4},
    {"saving in a thread", "policy.keep = { last = 2, best = 1 }", false, NULL, act_save_async, 4},
    {"saving over recycled blocks", "policy.keep, policy.recycle = { last = 1, best = 1 }, true", false, NULL, act_save,
     4},
    {"pruning", "policy.keep = { last = 1, best = 1 }", false, NULL, act_prune, 3},
};

/* ---- one directory for each allocation ---- */

static void copy_text(const char *from, const char *to) {
  char text[4096];
  int a = open(from, O_RDONLY), b = open(to, O_WRONLY | O_CREAT | O_EXCL, 0600);
  for (ssize_t n; (n = read(a, text, sizeof text)) > 0;) assert_int_equal(write(b, text, (size_t)n), n);
  close(a);
  close(b);
}

/* Files that are written once may be shared with the model of the directory; those that are appended to may not. */
static void copy_directory(const char *from, const char *to) {
  DIR *d = opendir(from);
  char a[PATH_MAX], b[PATH_MAX];
  assert_int_equal(mkdir(to, 0700), 0);
  for (struct dirent *e; (e = readdir(d)) != NULL;) {
    if (e->d_name[0] == '.') continue;
    join(a, from, e->d_name);
    join(b, to, e->d_name);
    if (strcmp(e->d_name, "ckpt.jsonl") == 0)
      copy_text(a, b);
    else
      assert_int_equal(link(a, b), 0);
  }
  closedir(d);
}

static void write_policy(const char *dir, const char *fields) {
  char path[PATH_MAX + 64];
  snprintf(path, sizeof path, "%s.lua", dir);
  FILE *f = fopen(path, "w");
  fprintf(f, "local policy = require 'policies.default'()\npolicy.keep = { last = 9 }\n%s\nreturn policy\n", fields);
  fclose(f);
}

static void make_model(const char *dir, const scenario *s) {
  trainer t = {0};
  ckpt_error err = {0};
  write_policy(dir, "");
  if (open_run(&t, dir, &err) != CKPT_OK) fail_msg("%s", err.message);
  for (int epoch = 1; epoch <= EPOCHS; epoch++)
    if (save_epoch(&t, epoch, false, &err) != CKPT_OK) fail_msg("%s", err.message);
  close_run(&t);
  if (s->prepare != NULL) s->prepare(dir);
}

/* ---- what must hold ---- */

typedef struct outcome {
  const scenario *s;
  size_t nth;
  ckpt_status st;
  const char *message;
} outcome;

#define MUST(condition)                                                                                    \
  do {                                                                                                     \
    if (!(condition))                                                                                      \
      fail_msg("%s, allocation %zu%s, %s: %s: does not hold: %s", o->s->name, o->nth,                      \
               alloc_lasting ? " and all after it" : "", ckpt_status_name(o->st), o->message, #condition); \
  } while (0)

/* The epoch of a file that is whole; 0 if there is none of that name, -1 if it is broken. */
static int epoch_of(const char *dir, const char *name) {
  static const ckpt_open_options verify = {.verify = true};
  char path[PATH_MAX];
  int64_t epoch = -1;
  ckpt_checkpoint *cp = NULL;
  if (access(join(path, dir, name), F_OK) != 0) return 0;
  if (ckpt_checkpoint_open(&cp, path, &verify, NULL) != CKPT_OK) return -1;
  ckpt_value_int(&epoch, ckpt_value_get(ckpt_checkpoint_root(cp), "epoch"), NULL);
  ckpt_checkpoint_close(cp);
  return (int)epoch;
}

static void check_arrays(const outcome *o, const trainer *t, int before) {
  int now = epoch_in(t);
  if (o->s->act == act_load)
    MUST(o->st == CKPT_OK ? now == o->s->most : now == before);
  else
    MUST(now == before || now == EPOCHS + 1);
}

/* A new run, with memory: it resumes from the newest, every name is whole, nothing temporary is left. */
static void check_directory(const outcome *o, const char *dir) {
  trainer t = {0};
  ckpt_error err = {0};
  ckpt_load_report report;
  MUST(open_run(&t, dir, &err) == CKPT_OK);
  MUST(ckpt_load(t.cp, &report, &err) == CKPT_OK);
  int newest = epoch_in(&t), at_least = o->st == CKPT_OK || o->s->most < EPOCHS ? o->s->most : EPOCHS;
  close_run(&t);
  MUST(newest >= at_least && newest <= o->s->most);
  int latest = epoch_of(dir, "model_latest.pth"), best = epoch_of(dir, "model_best.pth");
  MUST(latest >= at_least && latest <= o->s->most);
  MUST(best == 2 || (best == 4 && o->s->most == 4)); /* a policy without memory does not say that 4 is the best */
  MUST(count_names(dir, ".tmp-ckpt-") == 0);
  if (o->s->prepare == spoil) MUST(count_names(dir, "model_epoch3.pth.corrupt") == 1);
}

/* ---- the loop ---- */

static size_t stride_of(const scenario *s) {
  const char *text = getenv("CKPT_MEMORY_STRIDE");
  size_t stride = text == NULL ? DEFAULT_STRIDE : strtoul(text, NULL, 10);
  return s->closed && stride > 1 ? 10 * stride : stride;
}

/* Whether the failing allocation was met. */
static bool run_once(const scenario *s, const char *dir, size_t nth, size_t *failed) {
  trainer t = {0};
  ckpt_error err = {0};
  int fds = count_fds();
  train(&t, 9);
  if (!s->closed && open_run(&t, dir, &err) != CKPT_OK) fail_msg("%s", err.message);
  alloc_countdown = nth;
  ckpt_status st = s->act(&t, dir, &err);
  if (alloc_lasting && s->closed) close_run(&t); /* with what has been made, and still without memory */
  bool met = alloc_countdown == 0;
  alloc_countdown = 0;
  alloc_failing = false;
  outcome *o = &(outcome){s, nth, st, err.message};
  close_run(&t);
  MUST(st == err.status || st == CKPT_OK);
  MUST(met || st == CKPT_OK);
  MUST(st == CKPT_OK || err.message[0] != '\0');
  check_arrays(o, &t, 9);
  check_directory(o, dir);
  MUST(count_fds() == fds);
  *failed += st != CKPT_OK;
  return met;
}

static void go_through(const char *top, const scenario *s, size_t first, size_t *points, size_t *failed) {
  char model[PATH_MAX], dir[PATH_MAX + 32];
  snprintf(model, sizeof model, "%s/model", top);
  make_model(model, s);
  bool met = true;
  for (size_t nth = first; met; nth += stride_of(s)) {
    snprintf(dir, sizeof dir, "%s/%zu", top, nth);
    copy_directory(model, dir);
    write_policy(dir, s->fields);
    met = run_once(s, dir, nth, failed);
    *points += met;
    scratch_remove(dir);
    strcat(dir, ".lua");
    unlink(dir);
    assert_true(nth < 10000000);
  }
  scratch_remove(model);
}

static void each_allocation(bool lasting) {
  size_t all = 0;
  alloc_lasting = lasting;
  for (size_t i = 0; i < CKPT_COUNTOF(scenarios); i++) {
    char *top = scratch_new();
    size_t points = 0, failed = 0;
    go_through(top, &scenarios[i], 1 + i % stride_of(&scenarios[i]), &points, &failed);
    print_message("%s: %zu allocations, %zu ended in an error\n", scenarios[i].name, points, failed);
    assert_true(points > 0 && failed > 0);
    all += points;
    scratch_free(top);
  }
  print_message("%zu in all\n", all);
  alloc_lasting = false;
}

static void each_fails_once(void **state) {
  (void)state;
  each_allocation(false);
}

static void all_fail_from_each_on(void **state) {
  (void)state;
  each_allocation(true);
}

int main(void) {
  static const struct CMUnitTest tests[] = {cmocka_unit_test(each_fails_once), cmocka_unit_test(all_fail_from_each_on)};
  if (access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 0); /* tens of thousands of syncs */
  return cmocka_run_group_tests(tests, NULL, NULL);
}
