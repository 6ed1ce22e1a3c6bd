/* ledger.c - see ledger.h. JSON by jansson, one object a line. */
#include "ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "dir.h"

/* ---- reading ---- */

static ckpt_status read_all(char **out, size_t *n, ckpt_dir *dir, int fd, ckpt_error *err) {
  size_t capacity = 1 << 16, used = 0;
  char *text = malloc(capacity);
  if (text == NULL) return ckpt_fail_nomem(err, capacity);
  for (ssize_t got;; used += (size_t)got) {
    if (capacity - used < 4096) {
      char *more = realloc(text, capacity *= 2);
      if (more == NULL) break;
      text = more;
    }
    got = dir->io->pread(dir->io->self, fd, text + used, capacity - used, (off_t)used);
    if (got == 0) {
      *out = text;
      *n = used;
      return CKPT_OK;
    }
    if (got < 0) break;
  }
  ckpt_status st = ckpt_dir_fail(dir, CKPT_LEDGER_NAME, "the ledger cannot be read", err);
  free(text);
  return st;
}

static int64_t get_integer(const json_t *o, const char *key) {
  const json_t *v = json_object_get(o, key);
  return json_is_integer(v) ? json_integer_value(v) : INT64_MIN;
}

static char *get_string(const json_t *o, const char *key) {
  const char *s = json_string_value(json_object_get(o, key));
  return s == NULL ? NULL : strdup(s);
}

/* Strings of an array; what is no string is left out. */
static bool get_strings(char ***out, size_t *n, const json_t *o, const char *key) {
  const json_t *a = json_object_get(o, key);
  size_t count = json_array_size(a);
  char **items = calloc(count + 1, sizeof *items);
  *out = items;
  for (size_t i = 0; items != NULL && i < count; i++) {
    const char *s = json_string_value(json_array_get(a, i));
    if (s != NULL && (items[*n] = strdup(s)) != NULL) ++*n;
  }
  return items != NULL;
}

static bool number_of(double *out, const json_t *v) {
  static const struct {
    const char *text;
    double value;
  } words[] = {{"nan", NAN}, {"inf", INFINITY}, {"-inf", -INFINITY}};
  const char *s = json_string_value(v);
  if (json_is_number(v)) {
    *out = json_number_value(v);
    return true;
  }
  for (size_t i = 0; s != NULL && i < CKPT_COUNTOF(words); i++) {
    *out = words[i].value;
    if (strcmp(s, words[i].text) == 0) return true;
  }
  return false;
}

static bool get_metrics(ckpt_ledger_entry *e, const json_t *o) {
  const json_t *m = json_object_get(o, "metrics");
  const char *key;
  json_t *v;
  e->metrics = calloc(json_object_size(m) + 1, sizeof *e->metrics);
  if (e->metrics == NULL) return false;
  json_object_foreach((json_t *)(uintptr_t)m, key, v) {
    ckpt_metric *metric = &e->metrics[e->n_metrics];
    if (number_of(&metric->value, v) && (metric->name = strdup(key)) != NULL) e->n_metrics++;
  }
  return true;
}

static bool fill_entry(ckpt_ledger_entry *e, const json_t *o) {
  int64_t bytes = get_integer(o, "bytes");
  *e = (ckpt_ledger_entry){.event = get_string(o, "event"),
                           .time = get_integer(o, "time"),
                           .epoch = get_integer(o, "epoch"),
                           .step = get_integer(o, "step"),
                           .file = get_string(o, "file"),
                           .bytes = bytes < 0 ? 0 : (uint64_t)bytes,
                           .best = json_is_true(json_object_get(o, "best"))};
  return get_strings(&e->aliases, &e->n_aliases, o, "aliases") && get_strings(&e->retired, &e->n_retired, o, "retired") &&
         get_metrics(e, o);
}

static ckpt_status add_line(ckpt_ledger *l, size_t *capacity, const char *line, size_t n, ckpt_error *err) {
  if (l->n == *capacity) {
    size_t more = *capacity == 0 ? 64 : *capacity * 2;
    ckpt_ledger_entry *bigger = realloc(l->entries, more * sizeof *bigger);
    if (bigger == NULL) return ckpt_fail_nomem(err, more * sizeof *bigger);
    l->entries = bigger;
    *capacity = more;
  }
  json_error_t ignored;
  json_t *o = json_loadb(line, n, 0, &ignored);
  bool valid = json_is_object(o) && json_is_string(json_object_get(o, "event"));
  bool filled = valid && fill_entry(&l->entries[l->n++], o);
  json_decref(o);
  if (!valid) l->skipped++;
  return !valid || filled ? CKPT_OK : ckpt_fail_nomem(err, n);
}

static ckpt_status parse(ckpt_ledger *l, const char *text, size_t n, ckpt_error *err) {
  size_t capacity = 0;
  for (const char *end; n > 0 && (end = memchr(text, '\n', n)) != NULL;) { /* what follows the last newline was torn off */
    size_t length = (size_t)(end - text);
    if (length > 0) CKPT_TRY(add_line(l, &capacity, text, length, err));
    text = end + 1;
    n -= length + 1;
  }
  return CKPT_OK;
}

static ckpt_status read_text(char **out, size_t *n, ckpt_dir *dir, ckpt_error *err) {
  const ckpt_io *io = dir->io;
  int fd = io->openat(io->self, dir->fd, CKPT_LEDGER_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);
  if (fd < 0 && errno == ENOENT) return CKPT_OK;
  if (fd < 0) return ckpt_dir_fail(dir, CKPT_LEDGER_NAME, "the ledger cannot be opened", err);
  ckpt_status st = read_all(out, n, dir, fd, err);
  io->close(io->self, fd);
  return st;
}

ckpt_status ckpt_ledger_read(ckpt_ledger **out, ckpt_dir *dir, ckpt_error *err) {
  char *text = NULL;
  size_t n = 0;
  CKPT_TRY(read_text(&text, &n, dir, err));
  ckpt_ledger *l = calloc(1, sizeof *l);
  ckpt_status st = l == NULL ? ckpt_fail_nomem(err, sizeof *l) : parse(l, text, n, err);
  free(text);
  if (st != CKPT_OK) {
    ckpt_ledger_free(l);
    return st;
  }
  *out = l;
  return CKPT_OK;
}

static void free_strings(char **items, size_t n) {
  for (size_t i = 0; i < n; i++) free(items[i]);
  free(items);
}

void ckpt_ledger_free(ckpt_ledger *ledger) {
  if (ledger == NULL) return;
  for (size_t i = 0; i < ledger->n; i++) {
    ckpt_ledger_entry *e = &ledger->entries[i];
    free(e->event);
    free(e->file);
    free_strings(e->aliases, e->n_aliases);
    free_strings(e->retired, e->n_retired);
    for (size_t k = 0; k < e->n_metrics; k++) free(e->metrics[k].name);
    free(e->metrics);
  }
  free(ledger->entries);
  free(ledger);
}

/* ---- appending ---- */

static json_t *json_of_number(double v) {
  if (isnan(v)) return json_string("nan");
  return isinf(v) ? json_string(v > 0 ? "inf" : "-inf") : json_real(v);
}

static json_t *json_of_strings(char *const *items, size_t n) {
  json_t *a = json_array();
  for (size_t i = 0; i < n; i++) json_array_append_new(a, json_string(items[i]));
  return a;
}

static void set_integer(json_t *o, const char *key, int64_t v) {
  if (v != INT64_MIN) json_object_set_new(o, key, json_integer(v));
}

static json_t *json_of_entry(const ckpt_ledger_entry *e) {
  json_t *o = json_object(), *metrics = json_object();
  json_object_set_new(o, "event", json_string(e->event));
  set_integer(o, "time", e->time);
  set_integer(o, "epoch", e->epoch);
  set_integer(o, "step", e->step);
  if (e->file != NULL) json_object_set_new(o, "file", json_string(e->file));
  set_integer(o, "bytes", (int64_t)e->bytes);
  json_object_set_new(o, "aliases", json_of_strings(e->aliases, e->n_aliases));
  json_object_set_new(o, "retired", json_of_strings(e->retired, e->n_retired));
  json_object_set_new(o, "best", json_boolean(e->best));
  for (size_t i = 0; i < e->n_metrics; i++)
    json_object_set_new(metrics, e->metrics[i].name, json_of_number(e->metrics[i].value));
  json_object_set_new(o, "metrics", metrics);
  return o;
}

/* True if the file ends in the middle of a line: a crash while appending. The next line then starts afresh. */
static bool is_torn(ckpt_dir *dir) {
  const ckpt_io *io = dir->io;
  struct stat st;
  char last = '\n';
  int fd = io->openat(io->self, dir->fd, CKPT_LEDGER_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);
  if (fd < 0) return false;
  if (io->statat(io->self, dir->fd, CKPT_LEDGER_NAME, &st) == 0 && st.st_size > 0)
    io->pread(io->self, fd, &last, 1, st.st_size - 1);
  io->close(io->self, fd);
  return last != '\n';
}

ckpt_status ckpt_ledger_append(ckpt_dir *dir, const ckpt_ledger_entry *entry, ckpt_error *err) {
  json_t *o = json_of_entry(entry);
  char *line = o == NULL ? NULL : json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(17));
  json_decref(o);
  size_t n = line == NULL ? 0 : strlen(line), torn = is_torn(dir);
  char *whole = line == NULL ? NULL : malloc(n + 3);
  ckpt_status st = whole == NULL ? ckpt_fail_nomem(err, n + 3) : CKPT_OK;
  if (whole != NULL) {
    whole[0] = '\n';
    memcpy(whole + torn, line, n);
    whole[torn + n] = '\n';
    st = ckpt_dir_append(dir, CKPT_LEDGER_NAME, whole, torn + n + 1, err);
  }
  free(line);
  free(whole);
  return st;
}
