/* options.c - the trainer's command line, by getopt_long. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data.h"

enum { MAX_RANK = 1 << 20 };

static const struct option long_options[] = {
    {"dir", required_argument, NULL, 'd'},
    {"epochs", required_argument, NULL, 'e'},
    {"policy", required_argument, NULL, 'p'},
    {"weights", required_argument, NULL, 'w'},
    {"auto-resume", no_argument, NULL, 'a'},
    {"no-auto-resume", no_argument, NULL, 'A'},
    {"rank", required_argument, NULL, 'r'},
    {"seed", required_argument, NULL, 's'},
    {"set", required_argument, NULL, 'o'},
    {"data", required_argument, NULL, 'D'},
    {"rows", required_argument, NULL, 'n'},
    {"quiet", no_argument, NULL, 'q'},
    {"dump", required_argument, NULL, 'u'},
    {"kill-at-step", required_argument, NULL, 'k'},
    {"kill-in-save", required_argument, NULL, 'K'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

void options_print_help(void) {
  puts(
      "usage: trainer --dir DIR [options]\n"
      "Trains a small network on 8x8 handwritten digits, with checkpoints in DIR.\n"
      "  --epochs N          train until N epochs are finished (24)\n"
      "  --policy P          a Lua file, or a built-in policy (default)\n"
      "  --weights FILE      start from the weights of FILE when nothing is resumed\n"
      "  --no-auto-resume    do not resume from DIR; --auto-resume is the default\n"
      "  --rank N            only rank 0 writes (0)\n"
      "  --seed N            of the first weights and of all shuffling (1)\n"
      "  --set KEY=VALUE     an option for the policy; may be repeated\n"
      "  --data FILE         the digits ($CKPT_DATA, or tests/data/optdigits.pth above this program)\n"
      "  --rows N            use only the first N digits to train, and to test (all)\n"
      "  --quiet             print nothing but errors\n"
      "for tests:\n"
      "  --dump FILE         write weights, momentum, lr, epoch and random state at the end, raw\n"
      "  --kill-at-step N    SIGKILL to itself after the N-th step of the run\n"
      "  --kill-in-save N[:K] SIGKILL to itself at the K-th (1) fsync of its N-th save");
}

/* The number that `text` begins with, and what follows it; false after a message. */
static bool parse_prefix(int64_t *out, const char **rest, const char *name, const char *text) {
  char *end = NULL;
  errno = 0;
  long long v = strtoll(text, &end, 10);
  if (errno != 0 || end == text || v < 0) {
    fprintf(stderr, "trainer: --%s %s: expected a whole number, 0 or more\n", name, text);
    return false;
  }
  *out = v;
  *rest = end;
  return true;
}

static bool parse_number(int64_t *out, const char *name, const char *text) {
  const char *rest = NULL;
  if (!parse_prefix(out, &rest, name, text)) return false;
  if (*rest != '\0') fprintf(stderr, "trainer: --%s %s: '%s' follows the number\n", name, text, rest);
  return *rest == '\0';
}

static bool parse_rank(int *out, const char *text) {
  int64_t rank = 0;
  if (!parse_number(&rank, "rank", text)) return false;
  if (rank > MAX_RANK) fprintf(stderr, "trainer: --rank %s: at most %d\n", text, MAX_RANK);
  *out = (int)rank;
  return rank <= MAX_RANK;
}

static bool parse_kill_in_save(options *o, const char *text) {
  const char *rest = NULL;
  if (!parse_prefix(&o->kill_in_save, &rest, "kill-in-save", text)) return false;
  if (*rest == ':') return parse_number(&o->kill_at_fsync, "kill-in-save", rest + 1);
  if (*rest != '\0') fprintf(stderr, "trainer: --kill-in-save %s: expected N or N:K\n", text);
  return *rest == '\0';
}

static bool add_set(options *o, const char *pair) {
  size_t n = 0;
  while (o->set[n] != NULL) n++;
  if (n == OPTIONS_MAX_SET) fprintf(stderr, "trainer: --set may be given %d times at most\n", OPTIONS_MAX_SET);
  if (n < OPTIONS_MAX_SET) o->set[n] = pair;
  return n < OPTIONS_MAX_SET;
}

static bool take_string(const char **out, const char *text) {
  *out = text;
  return true;
}

static bool take_flag(bool *out, bool value) {
  *out = value;
  return true;
}

static bool take(options *o, int c) {
  switch (c) {
    case 'd': return take_string(&o->run.dir, optarg);
    case 'p': return take_string(&o->run.policy, optarg);
    case 'w': return take_string(&o->run.weights, optarg);
    case 'D': return take_string(&o->data, optarg);
    case 'u': return take_string(&o->dump, optarg);
    case 'o': return add_set(o, optarg);
    case 'e': return parse_number(&o->epochs, "epochs", optarg);
    case 'r': return parse_rank(&o->run.rank, optarg);
    case 's': return parse_number(&o->seed, "seed", optarg);
    case 'n': return parse_number(&o->rows, "rows", optarg);
    case 'k': return parse_number(&o->kill_at_step, "kill-at-step", optarg);
    case 'K': return parse_kill_in_save(o, optarg);
    case 'a': return take_flag(&o->run.auto_resume, true);
    case 'A': return take_flag(&o->run.auto_resume, false);
    case 'q': return take_flag(&o->quiet, true);
    case 'h': return take_flag(&o->help, true);
    default: return false;
  }
}

bool options_parse(options *o, int argc, char **argv) {
  *o = (options){.run = {.auto_resume = true}, .epochs = 24, .seed = 1, .rows = DATA_MAX_ROWS, .kill_at_fsync = 1};
  o->run.set = o->set;
  for (int c; (c = getopt_long(argc, argv, "h", long_options, NULL)) != -1;)
    if (!take(o, c)) return false;
  if (o->help) return true;
  if (optind < argc) fprintf(stderr, "trainer: '%s' is not an option; see --help\n", argv[optind]);
  if (o->run.dir == NULL) fprintf(stderr, "trainer: --dir is needed: where the checkpoints are; see --help\n");
  return optind == argc && o->run.dir != NULL;
}
