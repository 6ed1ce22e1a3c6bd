/*
 * load_stage.h - everything that a load will write, made ready and checked before anything is written.
 *
 *   load_stage.c      tensors, plain values, the model
 *   load_optimizer.c  the optimizer's state, by parameter name
 *
 * What the contract can be about (shapes, dtypes) is collected over the whole model and told in one go; what is wrong
 * with the plan itself, or with the file, ends the staging at once.
 */
#ifndef CKPT_LOAD_STAGE_H
#define CKPT_LOAD_STAGE_H

#include "load_report.h"
#include "transfer.h"

typedef struct ckpt_moves {
  ckpt_move *items; /* both tensors retained */
  size_t n, capacity;
} ckpt_moves;

typedef struct ckpt_stage {
  ckpt_checkpointer *cp;
  const ckpt_checkpoint *source;
  ckpt_load_record *record;
  bool resume;
  bool dry;           /* nothing will be written, so no data is read */
  ckpt_moves whole;   /* into all of what is bound */
  ckpt_moves corners; /* `to` is a view of a part of it, `from` contiguous and of the same dtype */
  bool last_is_corner;
  ckpt_setting *settings;
  size_t n_settings, setting_capacity;
  size_t kept;            /* bound things that the file does not have */
  size_t n_faults;        /* model keys whose source cannot go where the plan wants it */
  ckpt_error fault;       /* the first of them */
  const ckpt_value *dict; /* the file's state dict */
  ckpt_strmap by_target;  /* model key -> place in the plan's assignments */
  ckpt_error *err;
} ckpt_stage;

/* The assignment's result over the sources that `find` gives, lazily. CKPT_E_POLICY for a source that is not there. */
ckpt_status ckpt_stage_result(ckpt_tensor **out, ckpt_stage *s, const ckpt_assignment *a, ckpt_expr_find find,
                              void *context);

/* Readies a copy. Shape and cast are checked; `overlap`: of what both have in common, whatever the sizes. */
ckpt_status ckpt_stage_tensor(ckpt_stage *s, const char *what, ckpt_tensor *to, ckpt_tensor *from, bool overlap);

/* Readies a slot from a value of the file; what the file does not have (or has as None) stays as it is. */
ckpt_status ckpt_stage_slot(ckpt_stage *s, ckpt_slot *slot, const ckpt_value *v);

/* The optimizer's state dict at `path` of the file. */
ckpt_status ckpt_stage_optimizer(ckpt_stage *s, const char *path);

/* The whole of the record's plan. On failure the record still tells what was found. */
ckpt_status ckpt_stage_plan(ckpt_stage *s);

/* Writes. Cannot fail: shapes, casts and bytes have been looked at. */
void ckpt_stage_commit(ckpt_stage *s);
void ckpt_stage_free(ckpt_stage *s);

#endif
