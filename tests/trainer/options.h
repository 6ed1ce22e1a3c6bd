/* options.h - the trainer's command line. */
#ifndef TRAINER_OPTIONS_H
#define TRAINER_OPTIONS_H

#include <ckpt/checkpointer.h>

enum { OPTIONS_MAX_SET = 32 };

typedef struct options {
  ckpt_checkpointer_options run; /* dir, policy, weights, auto_resume, rank, set */
  const char *set[OPTIONS_MAX_SET + 1];
  const char *data, *dump; /* NULL where not given */
  int64_t epochs, seed, rows;
  int64_t kill_at_step, kill_in_save, kill_at_fsync;
  bool quiet, help;
} options;

/* False after a message on stderr if the command line is wrong. The strings are argv's; *o may not move. */
bool options_parse(options *o, int argc, char **argv);

void options_print_help(void);

#endif
