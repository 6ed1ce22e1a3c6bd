/*
 * saver.c SCENARIO POLICIES DIR ACK OFFSET [BUG] - makes the saves of a scenario in DIR. Each time the checkpointer
 * says that a save is durable, a block that tells so is written into ACK at OFFSET: that file is the very disk that
 * DIR's file system is on, past its end, so the block takes its place in the log of the disk's writes.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tables.h"
#include "scenario.h"

typedef struct saver {
  const scenario *scenario;
  const char *dir;
  int ack_fd;
  off_t ack_at;
  ack said;
  run_state state;
  ckpt_checkpointer *cp;
} saver;

static bool acknowledge(saver *s, int save) {
  char path[4096], block[ACK_BYTES];
  struct stat st;
  s->said.save = save;
  snprintf(path, sizeof path, "%s/ckpt.jsonl", s->dir);
  s->said.ledger_bytes = stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
  s->said.ledger_hash = hash_file(path, s->said.ledger_bytes);
  ack_write(block, &s->said);
  if (pwrite(s->ack_fd, block, sizeof block, s->ack_at) == (ssize_t)sizeof block) return true;
  perror("saver: the acknowledgement cannot be written");
  return false;
}

static ckpt_status save(saver *s, int n, ckpt_error *err) {
  bool improved = false;
  ckpt_status st = scenario_fill(s->cp, &s->state, s->scenario, n, err);
  if (!st) st = s->scenario->async ? ckpt_save_async(s->cp, n + 1, err) : ckpt_save(s->cp, n + 1, err);
  if (!st)
    st = s->scenario->async ? ckpt_save_best_async(s->cp, n + 1, &improved, err)
                            : ckpt_save_best(s->cp, n + 1, &improved, err);
  if (!st && improved) s->said.best = n; /* said only once it is waited for */
  return st;
}

static ckpt_status make_saves(saver *s, ckpt_error *err) {
  for (int n = 0; n < SCENARIO_SAVES; n++) {
    ckpt_status st = save(s, n, err);
    bool waits = n % 2 == 1 || n == SCENARIO_SAVES - 1;
    if (!st && s->scenario->async && waits) st = ckpt_wait(s->cp, err);
    if (st) return st;
    if ((waits || !s->scenario->async) && !acknowledge(s, n)) return CKPT_E_IO;
  }
  return CKPT_OK;
}

int main(int argc, char **argv) {
  ckpt_io io;
  ckpt_error err = {0};
  const char *bug = argc > 6 ? argv[6] : "none";
  saver s = {.said = {.save = SCENARIO_NONE, .best = SCENARIO_NONE}};
  if (argc < 6 || (s.scenario = scenario_find(argv[1])) == NULL || !tables_bug(&io, bug)) {
    fprintf(stderr, "usage: saver SCENARIO POLICIES DIR ACK OFFSET [no-file-sync|no-dir-sync|in-place]\n");
    return 2;
  }
  s.dir = argv[3];
  s.ack_fd = open(argv[4], O_WRONLY | O_CLOEXEC);
  s.ack_at = (off_t)strtoll(argv[5], NULL, 10);
  if (s.ack_fd < 0) return perror(argv[4]), 1;
  ckpt_status st = scenario_open(&s.cp, &s.state, s.scenario, argv[2], s.dir, bug, &err);
  if (!st) st = make_saves(&s, &err);
  ckpt_checkpointer_close(s.cp);
  free(s.state.w);
  close(s.ack_fd);
  if (st) fprintf(stderr, "saver: %s\n", err.message);
  return st ? 1 : 0;
}
