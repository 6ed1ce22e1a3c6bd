/*
 * load_report.h - the record of one load: the plan, and what became of each tensor of the model. It is what
 * ckpt_load_report shows, and it is made for a load that is only planned, too.
 *
 * It owns all that it names but the slots; shapes are copied, so that no file stays mapped for its sake.
 */
#ifndef CKPT_LOAD_REPORT_H
#define CKPT_LOAD_REPORT_H

#include "arena.h"
#include "run.h"

struct ckpt_load_record {
  ckpt_load_mode mode;
  int64_t epoch;
  char *path;
  ckpt_load_plan plan;
  ckpt_arena arena;         /* shapes, notes and names of entries and parameters */
  ckpt_load_entry *entries; /* in the order of the slots */
  size_t n_entries;
  ckpt_strmap index; /* model key -> place in entries */
  ckpt_load_parameter *parameters;
  size_t n_parameters;
  ckpt_load_suggestion *suggestions;
  ckpt_strings missing, unexpected, mismatched, dropped, violations;
  size_t matched;
  int64_t bytes, matched_bytes;
};

/* Takes over `plan` and `path` (both may be empty) even on failure. Each model slot has an entry, missing so far. */
ckpt_status ckpt_load_record_new(ckpt_load_record **out, const ckpt_checkpointer *cp, ckpt_load_plan *plan, char **path,
                                 ckpt_error *err);
void ckpt_load_record_free(ckpt_load_record *r); /* NULL does nothing */

/* The entry of a model key, or NULL. */
ckpt_load_entry *ckpt_load_record_find(const ckpt_load_record *r, const char *to);

/* Notes a source of the file: dtype and shape. */
ckpt_status ckpt_load_record_source(ckpt_load_record *r, ckpt_load_entry *e, const ckpt_tensor *source,
                                    ckpt_error *err);

/* A note that is the record's own. */
ckpt_status ckpt_load_record_note(ckpt_load_record *r, const char **note, const char *text, ckpt_error *err);

/* The names joined by ", ", the record's own; *out stays as it is for none. */
ckpt_status ckpt_load_record_join(ckpt_load_record *r, const char **out, const ckpt_strings *names, ckpt_error *err);

/* Once all is staged: the lists. `dict` is the file's state dict; `used` has the keys that fed something. */
ckpt_status ckpt_load_record_finish(ckpt_load_record *r, const ckpt_value *dict, const ckpt_strmap *used,
                                    ckpt_error *err);

/*
 * Asks the policy, opens what it chooses, readies everything; and, unless `dry`, writes it. *out is NULL where there
 * was no plan to record; after a failure it tells what was found until then. Free it.
 */
ckpt_status ckpt_load_run(ckpt_load_record **out, ckpt_checkpointer *cp, bool dry, ckpt_error *err);

/* The public report; `r` may be NULL (an empty one). */
ckpt_load_report ckpt_load_record_view(const ckpt_load_record *r);

#endif
