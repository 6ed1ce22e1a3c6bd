/*
 * ledger.h - ckpt.jsonl, the run's journal: one JSON object a line, appended durably beside the checkpoints.
 *
 *   {"event":"save","time":1764000000,"epoch":12,"step":1440,"file":"model_epoch12.pth","bytes":411838,
 *    "aliases":["model_latest.pth"],"retired":["model_epoch9.pth"],"best":false,"metrics":{"acc":0.9527}}
 *
 * Paths are relative, so the directory may move. A last line without its newline (a crash while appending) is
 * ignored; the next append starts on a new line. A line that is no JSON object is skipped and counted, never fatal:
 * files and ledger together are the truth, and best and retention are recomputed from them after a restart. Numbers
 * that JSON cannot hold (NaN, infinities) are written as the strings "nan", "inf", "-inf" and read back.
 */
#ifndef CKPT_LEDGER_H
#define CKPT_LEDGER_H

#include "publish.h"

#define CKPT_LEDGER_NAME "ckpt.jsonl"

typedef struct ckpt_metric {
  char *name;
  double value;
} ckpt_metric;

typedef struct ckpt_ledger_entry {
  char *event;               /* "save", "best", "load", ... */
  int64_t time, epoch, step; /* INT64_MIN: not recorded */
  char *file;                /* may be NULL */
  uint64_t bytes;
  bool best;
  size_t n_aliases, n_retired, n_metrics;
  char **aliases, **retired;
  ckpt_metric *metrics;
} ckpt_ledger_entry;

typedef struct ckpt_ledger {
  size_t n, skipped;          /* skipped: lines that could not be read */
  ckpt_ledger_entry *entries; /* oldest first */
  size_t capacity;
} ckpt_ledger;

/* What a ledger file looked like when it was read; zeroed: never. */
typedef struct ckpt_ledger_stamp {
  bool known;
  uint64_t inode;
  int64_t bytes, seconds, nanoseconds;
} ckpt_ledger_stamp;

/* Reads the ledger of a directory; an absent file is an empty ledger. */
ckpt_status ckpt_ledger_read(ckpt_ledger **out, ckpt_dir *dir, ckpt_error *err);
void ckpt_ledger_free(ckpt_ledger *ledger);

/* Reads *ledger (NULL: none yet) again if the file has changed since *stamp. On failure both are as they were. */
ckpt_status ckpt_ledger_refresh(ckpt_ledger **ledger, ckpt_ledger_stamp *stamp, ckpt_dir *dir, ckpt_error *err);

/* Adds a copy of an entry to a ledger in memory, as an append and a new reading would. */
ckpt_status ckpt_ledger_add(ckpt_ledger *ledger, const ckpt_ledger_entry *entry, ckpt_error *err);

/* Whether the last "pin" or "unpin" of the file is a "pin". */
bool ckpt_ledger_pinned(const ckpt_ledger *ledger, const char *file);

/*
 * Appends one entry durably. It is one write to a descriptor that appends, and readers skip what is torn: a pin may be
 * appended while another process, which holds the directory's lock, saves.
 */
ckpt_status ckpt_ledger_append(ckpt_dir *dir, const ckpt_ledger_entry *entry, ckpt_error *err);

#endif
