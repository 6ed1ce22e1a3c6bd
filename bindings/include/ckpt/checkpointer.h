/*
 * checkpointer.h - checkpoints of a training run, decided by a Lua policy.
 *
 *   ckpt_checkpointer *cp;
 *   ckpt_checkpointer_options opt = {.dir = "runs/digits", .policy = "policies/digits.lua", .auto_resume = true};
 *   if (ckpt_checkpointer_open(&cp, &opt, &err) != CKPT_OK) ...
 *   ckpt_bind_tensor(cp, "model", "fc1.weight", CKPT_F32, fc1_w, 2, (int64_t[]){128, 64}, &err);
 *   ckpt_bind_tensor(cp, "optimizer", "fc1.weight.momentum_buffer", CKPT_F32, fc1_m, 2, (int64_t[]){128, 64}, &err);
 *   ckpt_bind_double(cp, "optimizer", "lr", &lr, &err);
 *   ckpt_load(cp, &report, &err);
 *   for (int64_t epoch = ckpt_next_epoch(cp); epoch <= last; epoch++) {
 *     ...
 *     ckpt_set_metric(cp, "acc", acc, &err);
 *     ckpt_save(cp, epoch, &err);
 *     ckpt_save_best(cp, epoch, &improved, &err);
 *   }
 *   ckpt_checkpointer_close(cp);
 *
 * The trainer's arrays and variables are bound, not copied: they must outlive the checkpointer. A load writes into them
 * only after the whole plan has been checked, and a failed load leaves every one of them untouched. A policy that
 * fails never costs a checkpoint: the save is then made under `model_epoch<N>.pth` and nothing is deleted.
 * One checkpointer is used by one thread at a time.
 */
#ifndef CKPT_CHECKPOINTER_H
#define CKPT_CHECKPOINTER_H

#include <ckpt/ckpt.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ckpt_checkpointer ckpt_checkpointer;

typedef enum ckpt_log_level { CKPT_LOG_INFO, CKPT_LOG_WARNING } ckpt_log_level;

typedef struct ckpt_checkpointer_options {
  const char *dir;        /* the run's directory, made if need be by rank 0 */
  const char *policy;     /* a Lua file, or the name of a built-in policy ("default", "pet"); NULL: "default" */
  const char *weights;    /* file to transfer weights from when nothing is resumed; NULL: none */
  bool auto_resume;       /* resume from `dir` when it holds a checkpoint */
  int rank;               /* only rank 0 locks the directory, writes and logs */
  const char *const *set; /* NULL-terminated "key=value" strings: the policy's run.options; NULL: none */
  /*
   * What one call of the policy may use. Steps are Lua instructions and what library functions charge for their work,
   * the same on every machine; the deadline is milliseconds of CPU time, for what is one step and yet long. A plan_load
   * looks at every tensor and has a budget of its own.
   */
  size_t policy_memory;          /* bytes of the policy's Lua state and what belongs to it; 0: 256 MiB */
  uint64_t policy_steps;         /* 0: 50 million */
  uint64_t policy_deadline;      /* 0: 2,000 ms */
  uint64_t policy_load_steps;    /* 0: 1,000 million */
  uint64_t policy_load_deadline; /* 0: 60,000 ms */
  void (*log)(void *user, ckpt_log_level level, const char *line); /* NULL: silent. `line` has no newline */
  void *log_user;
  uint64_t async_memory;   /* bytes that snapshots of saves under way may take; less than two: one at a time */
  bool simulate;           /* saves are only played, in memory, beginning with what `dir` holds: nothing is written */
  uint64_t simulate_bytes; /* the size of each new file then */
} ckpt_checkpointer_options;

/*
 * Opens the run: locks the directory (CKPT_E_BUSY if another process has it), loads the policy (CKPT_E_POLICY with
 * file and line). Left-overs of a killed writer are removed, and an alias of the last save or the last best that is
 * missing is made again; nothing else in the directory is changed. One that belongs to another user than us or root is
 * refused (CKPT_E_IO), for its owner could exchange files under our hands; "foreign_dir=true" in `set` takes it. In it
 * no symbolic link is followed, and what becomes of its path while it is open does not matter.
 */
CKPT_API ckpt_status ckpt_checkpointer_open(ckpt_checkpointer **out, const ckpt_checkpointer_options *options,
                                            ckpt_error *err);
CKPT_API void ckpt_checkpointer_close(ckpt_checkpointer *cp);

/* ---- Binding ----------------------------------------------------------------------------------------- */

/*
 * Binds a contiguous array. Group "model" holds the state dict, in the order of binding; group "optimizer" holds slots,
 * named <parameter>.<slot>, written in PyTorch's layout (state by index, param_groups with params and param_names).
 * Any other group name becomes a dict of its own at the top of the file. CKPT_E_EXISTS for a name bound twice.
 */
CKPT_API ckpt_status ckpt_bind_tensor(ckpt_checkpointer *cp, const char *group, const char *name, ckpt_dtype dtype,
                                      void *data, int ndim, const int64_t *shape, ckpt_error *err);

/* A tensor of the model that no optimizer steps (running_mean, num_batches_tracked): it takes no parameter index. */
CKPT_API ckpt_status ckpt_bind_buffer(ckpt_checkpointer *cp, const char *name, ckpt_dtype dtype, void *data, int ndim,
                                      const int64_t *shape, ckpt_error *err);

/*
 * Binds a plain variable. `path` is a key, or keys joined by dots ("info.best_acc"). In group "optimizer" a path such
 * as "lr" goes into param_groups[0], "1.lr" into param_groups[1]. It is saved with the rest and set by a resume.
 */
CKPT_API ckpt_status ckpt_bind_int(ckpt_checkpointer *cp, const char *group, const char *path, int64_t *value,
                                   ckpt_error *err);
CKPT_API ckpt_status ckpt_bind_double(ckpt_checkpointer *cp, const char *group, const char *path, double *value,
                                      ckpt_error *err);
CKPT_API ckpt_status ckpt_bind_bool(ckpt_checkpointer *cp, const char *group, const char *path, bool *value,
                                    ckpt_error *err);

/* A string that is saved as it is now; a resume changes it, ckpt_get_string reads it (borrowed until the next call). */
CKPT_API ckpt_status ckpt_set_string(ckpt_checkpointer *cp, const char *group, const char *path, const char *value,
                                     ckpt_error *err);
CKPT_API const char *ckpt_get_string(const ckpt_checkpointer *cp, const char *group, const char *path);

/* Puts a bound parameter into param_groups[group] instead of 0. Groups are numbered without gaps. */
CKPT_API ckpt_status ckpt_set_param_group(ckpt_checkpointer *cp, const char *parameter, int group, ckpt_error *err);

/* ---- Loading ----------------------------------------------------------------------------------------- */

typedef enum ckpt_load_mode { CKPT_SCRATCH, CKPT_PRETRAINED, CKPT_RESUMED } ckpt_load_mode;

/* What became of one tensor of the model. */
typedef enum ckpt_load_status {
  CKPT_LOAD_MATCHED,    /* filled */
  CKPT_LOAD_PARTIAL,    /* filled where file and model overlap; the rest is as it was initialised */
  CKPT_LOAD_MISSING,    /* nothing in the file fits */
  CKPT_LOAD_MISMATCHED, /* what fits has another shape, or a dtype that cannot be cast */
  CKPT_LOAD_COLLIDING,  /* what fits, fits several model keys, or several fit this one */
  CKPT_LOAD_RESET       /* the policy leaves it as initialised (load.reset) */
} ckpt_load_status;

/*
 * One row of a load's report. Shapes have `ndim` sizes; those of the file are of the (first) source before any
 * operation, and there are none (source NULL, file_ndim -1) where nothing in the file fits.
 */
typedef struct ckpt_load_entry {
  const char *to; /* model key */
  ckpt_load_status status;
  const char *source;     /* file key, or several joined by ", "; NULL: none */
  const char *rule;       /* id of the mapping rule that led here; NULL: none */
  const char *operations; /* what is done to the source on the way, as text; NULL: nothing */
  const char *note;       /* why it is not filled, or which part is; NULL: nothing to say */
  ckpt_dtype file_dtype, model_dtype;
  int file_ndim, model_ndim;
  const int64_t *file_shape, *model_shape;
} ckpt_load_entry;

/* What became of the optimizer's state of one parameter. */
typedef struct ckpt_load_parameter {
  const char *name;   /* parameter of the model */
  const char *source; /* its name in the file's optimizer; NULL: none, or found by its place */
  size_t n_slots;     /* bound slots: exp_avg, step, ... */
  size_t n_moved;     /* of those, how many the file fills */
  const char *note;   /* why the rest stays as it is; NULL: all moved */
} ckpt_load_parameter;

/* What would have matched more. */
typedef struct ckpt_load_suggestion {
  const char *text; /* "--strip module." */
  int64_t matches;  /* model keys that would be matched then */
} ckpt_load_suggestion;

/*
 * The one report of a load. All pointers are borrowed from the checkpointer until its next load or its end. Lists are
 * in the order of the model (entries, missing), of the file (unexpected, dropped) or of the rules.
 */
typedef struct ckpt_load_report {
  ckpt_load_mode mode;
  const char *path; /* file that was loaded, NULL for scratch */
  int64_t epoch;    /* epoch of the resumed file, or INT64_MIN */
  size_t matched;   /* model tensors that were filled, wholly or in part */
  size_t n_missing, n_unexpected, n_mismatched;
  const char *const *missing;    /* model keys left as they were initialised */
  const char *const *unexpected; /* file keys that fed nothing and that no rule dropped */
  const char *const *mismatched; /* model keys whose source has another shape: "key: file [..], model [..]" */
  const char *map;               /* the rule set and how it was chosen, or NULL */
  size_t n_entries, n_dropped, n_unfired, n_violations, n_suggestions, n_parameters;
  const ckpt_load_entry *entries;          /* one for each tensor of the model, in the order of binding */
  const char *const *dropped;              /* "key (rule id)": file keys that a rule dropped */
  const char *const *unfired;              /* rules that met no key */
  const char *const *violations;           /* conditions of the contract that are not met, one sentence each */
  const ckpt_load_suggestion *suggestions; /* the best first */
  const ckpt_load_parameter *parameters;   /* of the optimizer, those with bound slots */
  int64_t bytes, matched_bytes;            /* of the model's tensors, and of what was filled of them */
} ckpt_load_report;

/*
 * Resumes, pre-trains or leaves the model as initialised, as the policy decides. CKPT_E_CONTRACT: the policy refused
 * the match; CKPT_E_POLICY; or what opening a file gives. On failure all bound memory is as it was, whenever the fault
 * was found. `report` may be NULL. It is filled after CKPT_E_CONTRACT, _SHAPE and _UNSUPPORTED too, and then says what
 * would have been loaded and what is in the way; after any other failure it is empty (no entries).
 * A newer checkpoint of the run that is not valid (CKPT_E_CORRUPT, CKPT_E_FORMAT) is set aside as NAME.corrupt once
 * another has been loaded (by rank 0); its aliases go to other saves.
 */
CKPT_API ckpt_status ckpt_load(ckpt_checkpointer *cp, ckpt_load_report *report, ckpt_error *err);

/* 1 for a new run; after a resume the epoch after the one that was saved. */
CKPT_API int64_t ckpt_next_epoch(const ckpt_checkpointer *cp);

/* ---- Saving ------------------------------------------------------------------------------------------ */

/* The value of a metric in this epoch, for the policy and the ledger. NaN is allowed. The next epoch starts without. */
CKPT_API ckpt_status ckpt_set_metric(ckpt_checkpointer *cp, const char *name, double value, ckpt_error *err);
CKPT_API void ckpt_set_step(ckpt_checkpointer *cp, int64_t step);

/* The time that is told to the policy and written into the ledger, in seconds since 1970; INT64_MIN: the system's. */
CKPT_API void ckpt_set_time(ckpt_checkpointer *cp, int64_t seconds);

/* Sets run.options[key] for the policy ("copy_latest" = "false"); NULL takes it away. */
CKPT_API ckpt_status ckpt_set_option(ckpt_checkpointer *cp, const char *key, const char *value, ckpt_error *err);

/*
 * Asks for a save at the next ckpt_save whatever the policy's intervals (`when`) say. Async-signal-safe, also from
 * another thread: it is what a SIGTERM or SIGUSR1 handler of the trainer calls. ckpt_save_requested is as cheap, for a
 * loop that wants to leave early; the save that is made takes the request back.
 */
CKPT_API void ckpt_request_save(ckpt_checkpointer *cp);
CKPT_API bool ckpt_save_requested(const ckpt_checkpointer *cp);

/* The saves from now on are the run's last: the policy's `when` makes them unless it says final = false. */
CKPT_API void ckpt_set_final(ckpt_checkpointer *cp, bool final);

/*
 * Whether ckpt_save would write now, at this epoch and the step that is set: to be asked before costly work (an
 * evaluation, gathering shards). Reads no more than the ledger's date; false for ranks other than 0. A policy that
 * fails says true, as ckpt_save would then write.
 */
CKPT_API ckpt_status ckpt_should_save(ckpt_checkpointer *cp, int64_t epoch, bool *due, ckpt_error *err);

/*
 * Saves as the policy says, if a save is due (`when` of the policy; else always): a new file that is complete and
 * durable before an alias moves or an old file goes.
 * Ranks other than 0 do nothing. A failing policy is logged as a warning and the save made without it; an error of
 * the disk is returned, and every file and alias is then as it was (where the file system has hard links). What only
 * could not be removed is a warning; the next save tries again.
 */
CKPT_API ckpt_status ckpt_save(ckpt_checkpointer *cp, int64_t epoch, ckpt_error *err);

/* The same for the best checkpoint. *improved (may be NULL) tells whether the policy took this one as the best. */
CKPT_API ckpt_status ckpt_save_best(ckpt_checkpointer *cp, int64_t epoch, bool *improved, ckpt_error *err);

/* ---- Saving beside the training ---------------------------------------------------------------------- */

/*
 * The same, but the trainer waits only for the policy's plan and a snapshot of what is bound (memory that is kept for
 * the next one); a thread writes, moves aliases, enters the ledger and retires, each only after what comes before it is
 * durable. So does a policy with `async = true` for ckpt_save and ckpt_save_best. *improved tells what the policy
 * decided, not yet that it is on the disk.
 * Calls wait while more snapshots are under way than `async_memory` allows. A save that fails in the thread is the
 * error of the next ckpt_save..., which makes its own save nevertheless, or of ckpt_wait or ckpt_load; saves planned
 * on it retire nothing. Log lines come with the next call. ckpt_checkpointer_close waits, and logs a failure.
 * Without a thread to be had the save is made at once.
 */
CKPT_API ckpt_status ckpt_save_async(ckpt_checkpointer *cp, int64_t epoch, ckpt_error *err);
CKPT_API ckpt_status ckpt_save_best_async(ckpt_checkpointer *cp, int64_t epoch, bool *improved, ckpt_error *err);

/* Waits until all saves under way are done; the first failure among them that no call has told yet. */
CKPT_API ckpt_status ckpt_wait(ckpt_checkpointer *cp, ckpt_error *err);

#ifdef __cplusplus
}
#endif
#endif
