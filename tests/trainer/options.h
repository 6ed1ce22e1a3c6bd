/* options.h - the trainer's command line. */
#ifndef TRAINER_OPTIONS_H
#define TRAINER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum { OPTIONS_MAX_SET = 32 };

typedef struct options {
  const char *dir, *policy, *weights, *data, *dump; /* NULL where not given */
  const char *set[OPTIONS_MAX_SET + 1];             /* NULL-terminated "key=value" */
  int64_t epochs, rank, seed;
  int64_t kill_at_step, kill_in_save, kill_at_fsync;
  bool auto_resume, quiet, help;
} options;

/* False after a message on stderr if the command line is wrong. The strings are argv's. */
bool options_parse(options *o, int argc, char **argv);

void options_print_help(void);

#endif
