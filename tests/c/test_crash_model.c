/*
 * test_crash_model.c - power loss after every call of a run's saves, on the file system of model_fs.h: every subset of
 * the directory operations that were not synced, torn and lost sectors, and power loss again in the recovery. After
 * each:
 *
 *   I1, I2  there is a whole checkpoint, at least as new as the last save that was acknowledged
 *   I3      an alias that was acknowledged is there, whole, and not older
 *   I4      the best is not worse than the best that was acknowledged
 *   I5      after the recovery there is no temporary file
 *   and     no file under a name of its own is torn; the ledger begins with every line that was acknowledged
 *
 * The real checkpointer saves, under the default policy: waited for and in its thread, into new files and over the
 * blocks of retired ones. Three savers with a bug must be caught by the same checks.
 * CKPT_MODEL_STATES: how many distinct states to see (default 120,000).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "model_fs.h"
#include "publish.h"
#include "run.h"
#include "strmap.h"

enum { SAVES = 9, WEIGHTS = 1500, MAX_OPS_ALL = 7, MAX_WHOLE = 32, MAX_ROUNDS = 640 };

static const double accuracy[SAVES] = {.5, .6, .55, .7, .65, .7, .6, .8, .75};
static const int epochs[SAVES] = {1, 2, 3, 4, 5, 6, 7, 7, 8}; /* epoch 7 is saved a second time */

/* ---- what is known ---- */

typedef struct whole { /* the bytes of a save */
  uint64_t hash;
  int save;
} whole;

typedef struct seen { /* a set of hashes */
  uint64_t *at;
  size_t n, capacity;
} seen;

typedef struct crash {
  model_fs fs;
  whole whole[MAX_WHOLE];
  int n_whole;
  int save, acknowledged, acknowledged_best; /* saves; -1: none */
  unsigned char *ledger;                     /* as it was acknowledged */
  size_t ledger_n;
  seen states;
  size_t wanted, violations, recoveries;
  unsigned choices; /* how many ways to tear files are tried at a time */
  uint64_t random;
  bool recovering, async;
  const char *policy; /* NULL: the default */
  char first[160];    /* the first violation */
  float weights[WEIGHTS];
} crash;

/* Eight bytes at a time: most of the time goes here. */
static uint64_t hash_bytes(uint64_t h, const void *data, size_t n) {
  const unsigned char *p = data;
  for (uint64_t word; n > 0; p += 8, n = n < 8 ? 0 : n - 8) {
    word = 0;
    memcpy(&word, p, n < 8 ? n : 8);
    h = (h ^ word) * UINT64_C(0x9fb21c651e98df25);
    h ^= h >> 29;
  }
  return h;
}

static uint64_t hash_content(const model_content *c) {
  return hash_bytes(UINT64_C(14695981039346656037) ^ c->n, c->bytes, c->n);
}

/* True if it was new. */
static bool remember(seen *s, uint64_t h) {
  if (s->n * 2 >= s->capacity) {
    seen bigger = {calloc(s->capacity == 0 ? 1 << 16 : s->capacity * 2, sizeof *s->at), 0,
                   s->capacity == 0 ? 1 << 16 : s->capacity * 2};
    for (size_t i = 0; i < s->capacity; i++)
      if (s->at[i] != 0) remember(&bigger, s->at[i]);
    free(s->at);
    *s = bigger;
  }
  h |= h == 0;
  size_t i = (size_t)h & (s->capacity - 1);
  for (; s->at[i] != 0; i = (i + 1) & (s->capacity - 1))
    if (s->at[i] == h) return false;
  s->at[i] = h;
  s->n++;
  return true;
}

/* The save that these are the bytes of, -1 if of none. */
static int save_of(const crash *c, const model_content *content) {
  uint64_t h = hash_content(content);
  for (int i = 0; i < c->n_whole; i++)
    if (c->whole[i].hash == h) return c->whole[i].save;
  return -1;
}

/* ---- the invariants ---- */

static void violated(crash *c, const char *what, const char *name) {
  if (c->violations++ == 0)
    snprintf(c->first, sizeof c->first, "save %d%s: %s%s%s", c->save, c->recovering ? ", in its recovery" : "", what,
             name[0] == '\0' ? "" : ": ", name);
}

static bool is_checkpoint(const char *name) {
  size_t n = strlen(name);
  return name[0] != '.' && n > 4 && strcmp(name + n - 4, ".pth") == 0;
}

static int save_named(const crash *c, const model_state *s, const char *name) {
  int i = model_find(&s->names, name);
  return i < 0 ? -1 : save_of(c, &s->content[s->names.at[i].file]);
}

static void check_files(crash *c, const model_state *s) {
  int newest = -1;
  for (int i = 0; i < s->names.n; i++) {
    if (!is_checkpoint(s->names.at[i].name)) continue;
    int save = save_of(c, &s->content[s->names.at[i].file]);
    if (save < 0) violated(c, "a checkpoint is torn", s->names.at[i].name);
    if (save > newest) newest = save;
  }
  if (newest < c->acknowledged) violated(c, "an acknowledged save is lost", "");
}

static void check_aliases(crash *c, const model_state *s) {
  if (c->acknowledged >= 0 && save_named(c, s, "model_latest.pth") < c->acknowledged)
    violated(c, "the alias is absent or older", "model_latest.pth");
  if (c->acknowledged_best < 0) return;
  int best = save_named(c, s, "model_best.pth");
  if (best < 0 || accuracy[best] < accuracy[c->acknowledged_best])
    violated(c, "the best is absent or worse", "model_best.pth");
}

static void check_ledger(crash *c, const model_state *s) {
  int i = model_find(&s->names, "ckpt.jsonl");
  const model_content *l = i < 0 ? NULL : &s->content[s->names.at[i].file];
  if (c->ledger_n == 0) return;
  if (l == NULL || l->n < c->ledger_n || memcmp(l->bytes, c->ledger, c->ledger_n) != 0)
    violated(c, "an acknowledged line is lost", "ckpt.jsonl");
}

/* ---- recovery, with power loss in it ---- */

static void lose_power(crash *c, const model_fs *fs);

static void after_recovery_call(void *arg) {
  crash *c = arg;
  lose_power(c, (const model_fs *)c->fs.arg);
}

static void recover(crash *c, const model_state *s) {
  static model_fs again; /* large */
  ckpt_dir *dir = NULL;
  ckpt_error err = {0};
  c->recovering = true;
  c->recoveries++;
  model_boot(&again, s, c->random | 1);
  again.arg = c;
  void *outer = c->fs.arg;
  c->fs.arg = &again;
  again.after = after_recovery_call;
  if (ckpt_dir_open(&dir, MODEL_PATH, false, true, &again.io, &err) != CKPT_OK) violated(c, err.message, "");
  ckpt_dir_close(dir);
  for (int i = 0; i < again.now.n; i++)
    if (strncmp(again.now.at[i].name, ".tmp-ckpt-", 10) == 0)
      violated(c, "a temporary file stayed", again.now.at[i].name);
  model_free(&again);
  c->fs.arg = outer;
  c->recovering = false;
}

static uint64_t hash_state(const model_state *s) {
  uint64_t sum = 0; /* names in any order */
  for (int i = 0; i < s->names.n; i++) {
    const model_content *l = &s->content[s->names.at[i].file];
    sum += hash_bytes(hash_content(l), s->names.at[i].name, strlen(s->names.at[i].name)) * 0x9e3779b97f4a7c15;
  }
  return sum;
}

static void one_state(crash *c, const model_fs *fs, uint64_t ops, uint64_t choice) {
  static model_state outer, inner;
  model_state *s = c->recovering ? &inner : &outer;
  model_crash(s, fs, ops, choice);
  if (remember(&c->states, hash_state(s) ^ (uint64_t)(c->acknowledged + 1))) {
    check_files(c, s);
    check_aliases(c, s);
    check_ledger(c, s);
    if (!c->recovering) recover(c, s);
  }
  model_state_free(s);
}

/* Whether anything of the files that have names depends on how they are torn. */
static bool is_dirty(const model_fs *fs) {
  for (int i = 0; i < MODEL_FILES; i++) {
    if (fs->files[i].memfd < 0 || !model_named(fs, i)) continue;
    if (model_size(&fs->files[i]) != fs->files[i].synced_n) return true;
    for (size_t b = 0; b < sizeof fs->files[i].dirty; b++)
      if (fs->files[i].dirty[b] != 0) return true;
  }
  return false;
}

static void lose_power(crash *c, const model_fs *fs) {
  uint64_t subsets = UINT64_C(1) << (fs->n_ops < MAX_OPS_ALL ? fs->n_ops : MAX_OPS_ALL);
  unsigned choices = is_dirty(fs) ? c->choices : 1;
  for (uint64_t k = 0; k < subsets; k++) {
    uint64_t ops = fs->n_ops <= MAX_OPS_ALL ? k : model_next_random(&c->random);
    for (unsigned choice = 0; choice < choices; choice++)
      one_state(c, fs, ops, choice < 3 ? choice : model_next_random(&c->random) | 4);
  }
}

static void after_call(void *arg) { lose_power(arg, &((crash *)arg)->fs); }

/* ---- the run ---- */

static void load_named(model_content *out, const model_fs *fs, const char *name) {
  int i = model_find(&fs->now, name);
  *out = (model_content){NULL, 0};
  if (i >= 0) *out = model_left(&fs->files[fs->now.at[i].file], 1);
}

/* model_left takes only what is dirty from the file itself; what was synced is the same there. */
static void learn(crash *c, const char *name) {
  model_content content;
  load_named(&content, &c->fs, name);
  assert_non_null(content.bytes);
  assert_true(c->n_whole < MAX_WHOLE);
  c->whole[c->n_whole++] = (whole){hash_content(&content), c->save};
  free(content.bytes);
}

static void acknowledge(crash *c, bool improved) {
  model_content ledger;
  c->acknowledged = c->save;
  if (improved) c->acknowledged_best = c->save;
  load_named(&ledger, &c->fs, "ckpt.jsonl");
  free(c->ledger);
  c->ledger = ledger.bytes;
  c->ledger_n = ledger.n;
}

static ckpt_status save_one(crash *c, ckpt_checkpointer *cp, bool *improved, ckpt_error *err) {
  ckpt_set_step(cp, c->save);
  for (int i = 0; i < WEIGHTS; i++) c->weights[i] = (float)(c->save * 1000 + i);
  CKPT_TRY(ckpt_set_metric(cp, "acc", accuracy[c->save], err));
  if (!c->async) {
    CKPT_TRY(ckpt_save(cp, epochs[c->save], err));
    return ckpt_save_best(cp, epochs[c->save], improved, err);
  }
  CKPT_TRY(ckpt_save_async(cp, epochs[c->save], err));
  CKPT_TRY(ckpt_save_best_async(cp, epochs[c->save], improved, err));
  return ckpt_wait(cp, err);
}

static void run(crash *c, bool learning) {
  ckpt_checkpointer *cp = NULL;
  ckpt_error err = {0};
  ckpt_checkpointer_options options = {.dir = MODEL_PATH, .policy = c->policy};
  if (!learning) c->fs.after = after_call;
  c->fs.arg = c;
  c->acknowledged = c->acknowledged_best = -1;
  assert_int_equal(ckpt_checkpointer_open_io(&cp, &options, &c->fs.io, &err), CKPT_OK);
  assert_int_equal(ckpt_bind_tensor(cp, "model", "w", CKPT_F32, c->weights, 1, (int64_t[]){WEIGHTS}, &err), CKPT_OK);
  for (c->save = 0; c->save < SAVES; c->save++) {
    bool improved = false;
    if (save_one(c, cp, &improved, &err) != CKPT_OK) fail_msg("save %d: %s", c->save, err.message);
    if (learning) learn(c, "model_latest.pth");
    acknowledge(c, improved);
    if (!learning && c->states.n >= c->wanted) break;
  }
  ckpt_checkpointer_close(cp);
}

/* One run with all its power losses: first without any, to learn what is whole. */
static void scenario(crash *c, void (*weaken)(model_fs *fs), unsigned choices, uint64_t seed) {
  model_init(&c->fs, seed);
  run(c, true);
  model_free(&c->fs);
  free(c->ledger);
  c->ledger = NULL;
  c->ledger_n = 0;
  model_init(&c->fs, seed);
  weaken(&c->fs);
  c->choices = choices;
  c->random = seed;
  run(c, false);
  model_free(&c->fs);
  free(c->ledger);
  c->ledger = NULL;
  c->ledger_n = 0;
  c->n_whole = 0;
}

static void strong(model_fs *fs) { (void)fs; }
static void named_files_only(model_fs *fs) { fs->no_unnamed = true; }
static void no_file_sync(model_fs *fs) { fs->no_file_sync = true; }
static void no_dir_sync(model_fs *fs) { fs->no_dir_sync = true; }
static void late_dir_sync(model_fs *fs) { fs->late_dir_sync = true; }

static size_t states_wanted(void) {
  const char *text = getenv("CKPT_MODEL_STATES");
  return text == NULL ? 120000 : (size_t)strtoull(text, NULL, 10);
}

static void nothing_is_lost(bool async, const char *policy) {
  static crash c;
  size_t wanted = states_wanted() / 3;
  memset(&c, 0, sizeof c);
  c.async = async;
  c.policy = policy;
  c.wanted = wanted;
  for (unsigned round = 0; c.states.n < wanted && round < MAX_ROUNDS; round++) {
    scenario(&c, round == 0 ? strong : named_files_only, 64, 1 + round);
    if (c.violations > 0) fail_msg("%zu violations; the first: %s", c.violations, c.first);
  }
  assert_true(c.states.n >= wanted);
  print_message("# %zu distinct states, %zu recoveries with power loss in them, 0 violations\n", c.states.n,
                c.recoveries);
  free(c.states.at);
}

static void nothing_acknowledged_is_lost(void **state) {
  (void)state;
  nothing_is_lost(false, NULL);
}

static void nothing_is_lost_by_the_thread(void **state) {
  (void)state;
  nothing_is_lost(true, NULL);
}

static void nothing_is_lost_over_recycled_blocks(void **state) {
  char path[] = "/tmp/ckpt-recycle-XXXXXX.lua";
  static const char text[] =
      "local policy = require 'policies.default'()\n"
      "policy.recycle, policy.keep = true, { last = 2, best = 1 }\nreturn policy\n";
  int fd = mkstemps(path, 4);
  (void)state;
  assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
  close(fd);
  nothing_is_lost(false, path);
  unlink(path);
}

static void savers_with_a_bug_are_caught(void **state) {
  static const struct {
    const char *name;
    void (*weaken)(model_fs *fs);
  } bugs[] = {{"files not synced", no_file_sync},
              {"directory not synced", no_dir_sync},
              {"old files unlinked before the directory is synced", late_dir_sync}};
  (void)state;
  for (size_t i = 0; i < CKPT_COUNTOF(bugs); i++) {
    static crash c;
    memset(&c, 0, sizeof c);
    c.wanted = 2000;
    scenario(&c, bugs[i].weaken, 8, 7);
    print_message("# %s: %zu violations in %zu states; %s\n", bugs[i].name, c.violations, c.states.n, c.first);
    free(c.states.at);
    assert_true(c.violations > 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(nothing_acknowledged_is_lost),
      cmocka_unit_test(nothing_is_lost_by_the_thread),
      cmocka_unit_test(nothing_is_lost_over_recycled_blocks),
      cmocka_unit_test(savers_with_a_bug_are_caught),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
