/*
 * run.h - the inside of a checkpointer: what the trainer bound, what a policy planned, and what becomes of it.
 *
 *   checkpointer.c  opening, closing, log, options, metrics
 *   slots.c         what is bound, by group and path
 *   run_document.c  slots -> the document that is saved (PyTorch's optimizer layout)
 *   run_tables.c    run and source as the policy sees them
 *   plan.c          the policy's answers as C structures, checked (plan_load.c: those about a load)
 *   run_load.c      candidates, load plan, all-or-nothing transfer into the slots (load_stage.h: what is made ready)
 *   load_report.c   what a load did, for each tensor of the model
 *   run_ask.c       further questions to the policy: is a save due, what is kept, what may go
 *   run_save.c      save plan, publish, aliases, ledger, retirement
 *   run_async.c     the same in a thread of its own, from a snapshot (run_snapshot.c)
 *   run_trust.c     what becomes of a policy that fails
 *   run_model.c     a run's directory in memory, for saves that are only played
 *   run_prune.c     removing what no pool wants, pins
 *   run_recover.c   aliases that are gone, checkpoints that are not valid
 */
#ifndef CKPT_RUN_H
#define CKPT_RUN_H

#include <ckpt/checkpointer.h>

#include <stdatomic.h>

#include "checkpoint.h"
#include "expression.h"
#include "ledger.h"
#include "sandbox.h"
#include "strmap.h"

/* ---- slots ---- */

typedef enum ckpt_slot_kind {
  CKPT_SLOT_TENSOR,
  CKPT_SLOT_INT,
  CKPT_SLOT_DOUBLE,
  CKPT_SLOT_BOOL,
  CKPT_SLOT_STRING
} ckpt_slot_kind;

typedef struct ckpt_slot {
  char *group, *path; /* path: the state dict's key, or keys joined by dots */
  ckpt_slot_kind kind;
  bool buffer;                  /* a model tensor that is no parameter */
  int param_group;              /* of a parameter */
  size_t parameter_index;       /* of a parameter: its optimizer index, set by ckpt_parameters */
  ckpt_tensor *tensor, *frozen; /* frozen: its copy in a snapshot, while a document is made of one */
  union {
    int64_t *integer;
    double *number;
    bool *boolean;
    char *string; /* owned */
  } at;
  union { /* memory of a slot that Lua made */
    int64_t integer;
    double number;
    bool boolean;
  } own;
} ckpt_slot;

typedef struct ckpt_strings {
  char **items;
  size_t n, capacity;
} ckpt_strings;

typedef struct ckpt_load_record ckpt_load_record; /* load_report.h */

struct ckpt_checkpointer {
  const ckpt_io *io; /* NULL: the system's */
  ckpt_dir *dir;     /* NULL for ranks other than 0 whose directory does not exist */
  char *path, *policy, *weights;
  struct ckpt_model *model; /* the directory in memory; NULL: the one on the disk */
  struct ckpt_async *async; /* saves under way in a thread; NULL before the first */
  bool asynchronous;        /* the save that is being made was asked to be */
  uint64_t async_memory;
  ckpt_ledger *ledger; /* of the directory on the disk, as it was last read */
  ckpt_ledger_stamp stamp;
  bool auto_resume;
  int rank;
  void (*log)(void *user, ckpt_log_level level, const char *line);
  void *log_user;
  ckpt_sandbox *sandbox;
  int policy_ref;                  /* the policy's table in the sandbox's registry */
  char *rules_path;                /* the rule file that the option `map` names, NULL: none; */
  int rules_ref;                   /* and what it returned */
  ckpt_sandbox_budget load_budget; /* of plan_load */
  ckpt_slot **slots;
  size_t n_slots, slot_capacity;
  ckpt_strmap slot_index;  /* "group\npath" */
  ckpt_strings slot_names; /* the keys of slot_index */
  ckpt_strings groups;
  ckpt_strings option_names, option_values;
  ckpt_metric *metrics;   /* of the epoch that is saved; those of an earlier one are dropped */
  int64_t *metric_epochs; /* the epoch that each was first saved with, INT64_MIN before */
  size_t n_metrics;
  int64_t epoch, step, next_epoch;
  int64_t clock, now;    /* clock: the time that was set, INT64_MIN: the system's; now: of the call that is under way */
  atomic_bool requested; /* by ckpt_request_save, perhaps in a signal handler */
  bool signal, final;    /* this save was requested; it is the last */
  ckpt_load_record *record;    /* of the last load; NULL: none */
  struct ckpt_save_plan *done; /* what the last save did */
  int policy_failures;         /* CKPT_POLICY_FAILURES once the policy is set aside */
  int failures_in_row[3];      /* by ckpt_asked */
  ckpt_strings told;           /* causes that have been reported */
};

/* ckpt_checkpointer_open with a table of its own below the run's directory; NULL: the system's. See io.h. */
ckpt_status ckpt_checkpointer_open_io(ckpt_checkpointer **out, const ckpt_checkpointer_options *options,
                                      const ckpt_io *io, ckpt_error *err);

/* ---- a policy that fails during training (run_trust.c) ---- */

#define CKPT_POLICY_FAILURES 3

typedef enum ckpt_asked { CKPT_ASKED_SAVE, CKPT_ASKED_BEST, CKPT_ASKED_DUE } ckpt_asked;

/* Notes that a function of the policy has worked, or why it has not; the save is made all the same. */
void ckpt_policy_worked(ckpt_checkpointer *cp, ckpt_asked what);
void ckpt_policy_failed(ckpt_checkpointer *cp, ckpt_asked what, const char *message);

/* ---- slots ---- */

/* The slot of a path in a group, or NULL. */
ckpt_slot *ckpt_slot_find(const ckpt_checkpointer *cp, const char *group, const char *path);
ckpt_status ckpt_slot_add(ckpt_slot **out, ckpt_checkpointer *cp, const char *group, const char *path,
                          ckpt_slot_kind kind, ckpt_error *err);
ckpt_status ckpt_slot_bind_tensor(ckpt_checkpointer *cp, const char *group, const char *path, ckpt_tensor *t,
                                  bool buffer, ckpt_error *err);
/* Makes the slot with memory of its own, or writes into the one that is bound. */
ckpt_status ckpt_slot_set_int(ckpt_checkpointer *cp, const char *group, const char *path, int64_t v, ckpt_error *err);
ckpt_status ckpt_slot_set_double(ckpt_checkpointer *cp, const char *group, const char *path, double v, ckpt_error *err);
ckpt_status ckpt_slot_set_bool(ckpt_checkpointer *cp, const char *group, const char *path, bool v, ckpt_error *err);
void ckpt_slots_free(ckpt_checkpointer *cp);
bool ckpt_slot_is_parameter(const ckpt_slot *s);

/* Parameters in the order of their optimizer indices (by param group, then by binding). Free the array. */
ckpt_status ckpt_parameters(ckpt_slot ***out, size_t *n, const ckpt_checkpointer *cp, ckpt_error *err);

/* The parameter that an optimizer tensor slot "<parameter>.<slot>" belongs to (longest name), and its rest. */
const ckpt_slot *ckpt_slot_owner(const char **rest, const ckpt_checkpointer *cp, const ckpt_slot *slot);

/* "lr" -> group 0, "lr"; "1.lr" -> group 1, "lr". */
int ckpt_optimizer_path(const char **key, const char *path);

ckpt_status ckpt_strings_add(ckpt_strings *s, const char *text, size_t n, ckpt_error *err);
ckpt_status ckpt_strings_addf(ckpt_strings *s, ckpt_error *err, const char *format, ...) CKPT_PRINTF(3, 4);
bool ckpt_strings_has(const ckpt_strings *s, const char *text);
void ckpt_strings_free(ckpt_strings *s);

/* Begins the saves of an epoch: metrics that were saved with another one are forgotten. */
void ckpt_begin_epoch(ckpt_checkpointer *cp, int64_t epoch);

/* Loads the rule file that the option `map` names (KEY.lua), once: the policy gets it as run.rules. */
ckpt_status ckpt_read_rules(ckpt_checkpointer *cp, ckpt_error *err);

void ckpt_log(const ckpt_checkpointer *cp, ckpt_log_level level, const char *format, ...) CKPT_PRINTF(3, 4);

/* ---- what a save holds ---- */

/* A document of the groups in `parts` (NULL: all). Its tensors are the bound arrays, or what is frozen of them. */
ckpt_status ckpt_run_document(ckpt_document **out, const ckpt_checkpointer *cp, const ckpt_strings *parts,
                              ckpt_error *err);

/* ---- plans ---- */

typedef struct ckpt_candidate {
  char *file; /* as the policy wrote it */
  bool resume, must;
} ckpt_candidate;

typedef struct ckpt_candidates {
  ckpt_candidate *items;
  size_t n, capacity;
} ckpt_candidates;

typedef struct ckpt_assignment {
  char *to;
  ckpt_strings sources; /* keys of the file, each once; none for a constant */
  ckpt_expr *expr;      /* what is made of them; NULL: the one source as it is */
  char *rule, *note;    /* for the report; NULL: nothing to say */
  bool overlap;         /* only what file and model have in common is copied */
} ckpt_assignment;

typedef struct ckpt_unfilled { /* a model key that the plan does not fill, and why */
  char *to, *from, *rule, *note;
  ckpt_load_status status;
} ckpt_unfilled;

typedef struct ckpt_proposal { /* "did you mean" */
  char *text;
  int64_t matches;
} ckpt_proposal;

typedef struct ckpt_twins { /* sources that a rule takes for one: they must have the same bytes */
  char *a, *b, *rule;
} ckpt_twins;

typedef struct ckpt_group_source {
  char *group, *from;
} ckpt_group_source;

typedef struct ckpt_load_plan {
  char *select, *optimizer, *refuse, *map, *contract;
  bool no_options; /* of the optimizer only the state comes back, not the learning rate and the like */
  ckpt_assignment *assign;
  size_t n_assign, assign_capacity;
  ckpt_unfilled *unfilled;
  size_t n_unfilled, unfilled_capacity;
  ckpt_twins *checks;
  size_t n_checks, check_capacity;
  ckpt_proposal *suggestions;
  size_t n_suggestions, suggestion_capacity;
  ckpt_group_source *values;
  size_t n_values, value_capacity;
  ckpt_strings mismatched, log, violations, unfired;
  ckpt_strings dropped, dropped_by; /* file keys, and the rule of each */
  bool has_next_epoch;
  int64_t next_epoch;
} ckpt_load_plan;

typedef struct ckpt_setting { /* a value that a save plan changes in a slot */
  ckpt_slot *slot;
  int64_t integer;
  double number;
  bool boolean;
  char *string;
} ckpt_setting;

typedef struct ckpt_save_plan {
  char *file;   /* NULL: nothing is written */
  char *reason; /* why it is (not) the best, or due; may be NULL */
  bool reuse, result, no_ledger, all_parts;
  bool async, recycle; /* in a thread; over the blocks of a retired file */
  ckpt_strings aliases, retire, parts, log;
  ckpt_strings why;     /* beside each of `retire`, as far as the policy says */
  ckpt_document *extra; /* root is a dict, or NULL */
  ckpt_setting *set;
  size_t n_set, set_capacity;
} ckpt_save_plan;

/* Puts the value into the slot; with `undo` the slot's value of before is left in it, so that a second call takes it
 * back. */
void ckpt_setting_swap(ckpt_setting *s);

/* Each asks the policy through the sandbox. On failure the plan holds nothing. */
ckpt_status ckpt_plan_candidates(ckpt_candidates *out, ckpt_checkpointer *cp, ckpt_error *err);
ckpt_status ckpt_plan_load(ckpt_load_plan *out, ckpt_checkpointer *cp, const ckpt_checkpoint *source, const char *file,
                           const char *path, const char *mode, ckpt_error *err);
ckpt_status ckpt_plan_save(ckpt_save_plan *out, ckpt_checkpointer *cp, bool best, ckpt_error *err);

/* What is saved where the policy cannot say: all of it, as model_epoch<N>.pth and model_latest.pth. Nothing is retired.
 */
ckpt_status ckpt_plan_without_policy(ckpt_save_plan *plan, const ckpt_checkpointer *cp, ckpt_error *err);
void ckpt_candidates_free(ckpt_candidates *c);
void ckpt_load_plan_free(ckpt_load_plan *p);
void ckpt_save_plan_free(ckpt_save_plan *p);

/* ---- tables for the policy (inside the gate; may raise) ---- */

typedef struct ckpt_run_view { /* what a run table needs of the disk, read before Lua is entered */
  ckpt_dir_entry *files;
  size_t n_files;
  bool borrowed;             /* the files are the model's */
  const ckpt_ledger *ledger; /* borrowed; NULL: none */
} ckpt_run_view;

ckpt_status ckpt_run_view_read(ckpt_run_view *out, ckpt_checkpointer *cp, ckpt_error *err);
void ckpt_run_view_free(ckpt_run_view *view);
/* Lists of tables: the files, and the entries of the ledger (NULL: none). */
void ckpt_push_files(lua_State *L, const ckpt_run_view *view);
void ckpt_push_ledger(lua_State *L, const ckpt_ledger *ledger);

/* The run as ckpt_ask_due shows it: without files, ledger, model, parts and values. */
void ckpt_push_moment(lua_State *L, const ckpt_checkpointer *cp, const ckpt_ledger *ledger);
void ckpt_push_run(lua_State *L, const ckpt_checkpointer *cp, const ckpt_run_view *view);
/* `mode` is "resume", "pretrain" or "scratch". */
void ckpt_push_source(lua_State *L, const ckpt_checkpoint *source, const char *file, const char *path,
                      const char *mode);

/* Ends what ckpt_push_source gave: a policy that kept source.state_dict gets an error from it. Cannot raise. */
void ckpt_close_source(lua_State *L);

/* Adds `ckpt` (align, infer, none) to the environment of a new sandbox. */
ckpt_status ckpt_open_policy_library(ckpt_sandbox *s, ckpt_error *err);

/* ---- further questions (run_ask.c) ---- */

/* The ledger as it is now, borrowed until the next call; NULL: there is none. */
ckpt_status ckpt_run_ledger(const ckpt_ledger **out, ckpt_checkpointer *cp, ckpt_error *err);

/* Whether a save of cp->epoch is due; *why (may be NULL) is the caller's. */
ckpt_status ckpt_ask_due(bool *due, char **why, ckpt_checkpointer *cp, ckpt_error *err);

/* Asks `kept` or `ranking`: file and reasons, alternately. */
ckpt_status ckpt_ask_files(ckpt_strings *rows, ckpt_checkpointer *cp, const char *function, ckpt_error *err);

/* Asks plan_prune: `retire` and `why` of the plan. */
ckpt_status ckpt_ask_prune(ckpt_save_plan *plan, ckpt_checkpointer *cp, ckpt_error *err);

/* ---- acting (run_save.c, run_prune.c) ---- */

/* Reads the clock for the call that begins. */
void ckpt_begin_call(ckpt_checkpointer *cp);

/* Enters an event into the ledger, on the disk or in the model. */
ckpt_status ckpt_run_append(ckpt_checkpointer *cp, const ckpt_ledger_entry *entry, ckpt_error *err);

/* Takes what is pinned out of a plan's `retire`; the names that stay are logged. */
ckpt_status ckpt_spare_pinned(ckpt_checkpointer *cp, ckpt_save_plan *plan, ckpt_error *err);

/*
 * Removes what no pool wants; `plan` tells what and why, *spared (NULL: none; the caller's) the newest valid checkpoint
 * where the policy wanted it gone. Without `act` nothing is done. CKPT_E_CONTRACT if no checkpoint of the run is valid.
 */
ckpt_status ckpt_prune(ckpt_save_plan *plan, char **spared, ckpt_checkpointer *cp, bool act, ckpt_error *err);

/* CKPT_OK if the file of that directory opens and all of its checksums hold. */
ckpt_status ckpt_verify_in(ckpt_dir *dir, const char *name, ckpt_error *err);

/* ---- mending (run_recover.c): what is done, or cannot be, is logged ---- */

/* When a run is opened: a mending that was interrupted; missing aliases of the last save and the last best. */
void ckpt_recover(ckpt_checkpointer *cp);

/* Files of the run's directory that are not valid, while another one was loaded: set aside as NAME.corrupt. */
void ckpt_recover_invalid(ckpt_checkpointer *cp, const ckpt_strings *files);

/* Enters a pin, or its end, into the ledger of the run's directory, which another process may be using. */
ckpt_status ckpt_pin(ckpt_checkpointer *cp, const char *file, bool pinned, ckpt_error *err);

/* ---- a save on the disk (run_save.c), by whichever thread ---- */

typedef struct ckpt_save_job {
  ckpt_dir *dir;
  ckpt_save_plan plan;
  ckpt_document *doc; /* NULL: the plan reuses a file */
  ckpt_ledger_entry entry;
  char event[8];
  bool keep_all;    /* a save before it failed, that its plan counted on: nothing is retired */
  ckpt_error stays; /* why a file that was to go could not be removed; status CKPT_OK: all went */
} ckpt_save_job;

/* Publishes the document, moves the aliases, enters the line, retires: in this order. */
ckpt_status ckpt_save_job_do(ckpt_save_job *job, ckpt_error *err);

/* What a save under the plan holds: ckpt_run_document and the plan's `extra`. */
ckpt_status ckpt_save_document(ckpt_document **out, const ckpt_checkpointer *cp, const ckpt_save_plan *plan,
                               ckpt_error *err);

/* What was saved becomes the trainer's to ask for (its log lines, ckpt_checkpointer.done); takes the plan. */
ckpt_status ckpt_save_done(ckpt_checkpointer *cp, ckpt_save_plan *plan, ckpt_error *err);

/* The same of a save on the disk; what it could not remove is a warning. */
ckpt_status ckpt_save_job_done(ckpt_checkpointer *cp, ckpt_save_job *job, ckpt_error *err);

/* ---- saves in a thread (run_async.c) ---- */

/*
 * Takes the job: a snapshot of what it saves is made now, all else happens in the thread. Waits while the snapshots
 * that are under way and this one would need more memory than they may have. The job's plan is the thread's from then
 * on, or, on failure, freed.
 */
ckpt_status ckpt_async_submit(ckpt_checkpointer *cp, ckpt_save_job *job, ckpt_error *err);

/* Tells of the saves that have ended: logs, settings taken back, the first error. With `all` waits for every one. */
ckpt_status ckpt_async_reap(ckpt_checkpointer *cp, bool all, ckpt_error *err);

/* The directory as it will be when all is done; NULL while nothing is under way. */
struct ckpt_model *ckpt_async_ahead(const ckpt_checkpointer *cp);

/* Waits, and ends the thread. */
void ckpt_async_free(ckpt_checkpointer *cp);

/* ---- snapshots (run_snapshot.c) ---- */

typedef struct ckpt_snapshot { /* zeroed: no memory yet */
  unsigned char *bytes;
  size_t capacity;
} ckpt_snapshot;

/* Bytes that a snapshot of the groups in `parts` (NULL: all) takes. */
size_t ckpt_snapshot_size(const ckpt_checkpointer *cp, const ckpt_strings *parts);

/* Makes room for so many bytes, if need be anew. */
ckpt_status ckpt_snapshot_reserve(ckpt_snapshot *s, size_t size, ckpt_error *err);
void ckpt_snapshot_free(ckpt_snapshot *s);

/*
 * Copies what the groups have bound, each memory once, on all cores; the slots' `frozen` are views of the copies,
 * shared as the bound ones are. They are the caller's to thaw, and use the snapshot's memory.
 */
ckpt_status ckpt_snapshot_freeze(ckpt_snapshot *s, ckpt_checkpointer *cp, const ckpt_strings *parts, ckpt_error *err);
void ckpt_snapshot_thaw(ckpt_checkpointer *cp);

/* ---- a directory in memory (run_model.c) ---- */

typedef struct ckpt_model {
  ckpt_dir_entry *files; /* sorted by name */
  size_t n, capacity;
  ckpt_ledger *ledger;
  uint64_t bytes;  /* of a new file */
  uint64_t inodes; /* the last that was given out */
  size_t most_files;
  uint64_t most_bytes; /* at once, each file counted once */
  int table;           /* the ledger as the policy has it, in the sandbox's registry; LUA_NOREF before */
  size_t pushed;       /* entries in it */
} ckpt_model;

/* A model of what the directory at `path` holds; of an empty one if it is not there. */
ckpt_status ckpt_model_new(ckpt_model **out, const char *path, uint64_t bytes, ckpt_error *err);
void ckpt_model_free(ckpt_model *model);

/* The same of an open directory. */
ckpt_status ckpt_model_of(ckpt_model **out, ckpt_dir *dir, uint64_t bytes, ckpt_error *err);

/* The file under its name (unless the plan reuses one), its aliases, the ledger's line, retirement. */
ckpt_status ckpt_model_do(ckpt_model *model, const ckpt_save_plan *plan, const ckpt_ledger_entry *entry, int64_t now,
                          ckpt_error *err);

/* ---- finding out, without doing (for `ckpt plan`) ---- */

/* Opens the candidates in order; *source is NULL for scratch. Each refused one is logged, and those of the run's
 * directory that are not valid are added to `invalid`. Free *path and, with a source, chosen->file. */
ckpt_status ckpt_choose_source(ckpt_checkpoint **source, char **path, ckpt_candidate *chosen, ckpt_strings *invalid,
                               ckpt_checkpointer *cp, ckpt_error *err);

#endif
