/*
 * ledger.c - ckpt.jsonl, see ledger.h. Reading takes what it can: a field of the wrong type is as good as absent, a
 * line that is no JSON object is counted and skipped. Writing is strict, so that what is read back is what was written.
 */
#include "ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "dir.h"

#define MAX_LEDGER ((off_t)1 << 30) /* bytes: millions of lines, and no reason to believe a file that is larger */
#define NOT_RECORDED INT64_MIN

/* ---- numbers ---- */

static const struct {
  const char *text;
  double value;
} specials[] = {{"nan", NAN}, {"inf", INFINITY}, {"-inf", -INFINITY}};

static json_t *number_to_json(double value) {
  if (isnan(value)) return json_string(specials[0].text);
  if (isinf(value)) return json_string(specials[value > 0 ? 1 : 2].text);
  return json_real(value);
}

static bool number_from_json(double *out, const json_t *v) {
  if (json_is_number(v)) {
    *out = json_number_value(v);
    return true;
  }
  for (size_t i = 0; json_is_string(v) && i < CKPT_COUNTOF(specials); i++)
    if (strcmp(json_string_value(v), specials[i].text) == 0) {
      *out = specials[i].value;
      return true;
    }
  return false;
}

/* Integers may have gone through a tool that writes 12.0. */
static int64_t integer_from_json(const json_t *v, int64_t otherwise) {
  if (json_is_integer(v)) return json_integer_value(v);
  double d = json_real_value(v);
  if (!json_is_real(v) || !(fabs(d) < 0x1p63) || d != floor(d)) return otherwise;
  return (int64_t)d;
}

/* ---- reading ---- */

static void free_strings(char **list, size_t n) {
  for (size_t i = 0; i < n; i++) free(list[i]);
  free(list);
}

static void free_entry(ckpt_ledger_entry *e) {
  free(e->event);
  free(e->file);
  free_strings(e->aliases, e->n_aliases);
  free_strings(e->retired, e->n_retired);
  for (size_t i = 0; i < e->n_metrics; i++) free(e->metrics[i].name);
  free(e->metrics);
}

/* A string with a NUL in it is no name and no event. */
static bool is_text(const json_t *v) {
  return json_is_string(v) && strlen(json_string_value(v)) == json_string_length(v);
}

static ckpt_status copy_text(char **out, const char *text, ckpt_error *err) {
  char *copy = strdup(text);
  if (copy == NULL) return ckpt_fail_nomem(err, strlen(text) + 1);
  *out = copy;
  return CKPT_OK;
}

static ckpt_status read_strings(char ***out, size_t *n, const json_t *array, ckpt_error *err) {
  size_t size = json_array_size(array);
  if (size == 0) return CKPT_OK;
  *out = calloc(size, sizeof **out);
  if (*out == NULL) return ckpt_fail_nomem(err, size * sizeof **out);
  for (size_t i = 0; i < size; i++) {
    const json_t *item = json_array_get(array, i);
    if (!is_text(item)) continue;
    CKPT_TRY(copy_text(&(*out)[*n], json_string_value(item), err));
    ++*n;
  }
  return CKPT_OK;
}

static ckpt_status read_metrics(ckpt_ledger_entry *e, json_t *object, ckpt_error *err) {
  const char *name;
  json_t *v;
  size_t size = json_object_size(object);
  if (size == 0) return CKPT_OK;
  e->metrics = calloc(size, sizeof *e->metrics);
  if (e->metrics == NULL) return ckpt_fail_nomem(err, size * sizeof *e->metrics);
  json_object_foreach(object, name, v) {
    ckpt_metric *m = &e->metrics[e->n_metrics];
    if (!number_from_json(&m->value, v)) continue;
    CKPT_TRY(copy_text(&m->name, name, err));
    e->n_metrics++;
  }
  return CKPT_OK;
}

static ckpt_status read_entry(ckpt_ledger_entry *e, const json_t *line, ckpt_error *err) {
  const json_t *event = json_object_get(line, "event"), *file = json_object_get(line, "file");
  int64_t bytes = integer_from_json(json_object_get(line, "bytes"), 0);
  e->time = integer_from_json(json_object_get(line, "time"), NOT_RECORDED);
  e->epoch = integer_from_json(json_object_get(line, "epoch"), NOT_RECORDED);
  e->step = integer_from_json(json_object_get(line, "step"), NOT_RECORDED);
  e->bytes = bytes < 0 ? 0 : (uint64_t)bytes;
  e->best = json_is_true(json_object_get(line, "best"));
  CKPT_TRY(copy_text(&e->event, is_text(event) ? json_string_value(event) : "", err));
  if (is_text(file)) CKPT_TRY(copy_text(&e->file, json_string_value(file), err));
  CKPT_TRY(read_strings(&e->aliases, &e->n_aliases, json_object_get(line, "aliases"), err));
  CKPT_TRY(read_strings(&e->retired, &e->n_retired, json_object_get(line, "retired"), err));
  return read_metrics(e, json_object_get(line, "metrics"), err);
}

static ckpt_status add_entry(ckpt_ledger *ledger, const json_t *line, ckpt_error *err) {
  if (ledger->n == ledger->capacity) {
    size_t more = ledger->capacity == 0 ? 64 : ledger->capacity * 2;
    ckpt_ledger_entry *bigger = realloc(ledger->entries, more * sizeof *bigger);
    if (bigger == NULL) return ckpt_fail_nomem(err, more * sizeof *bigger);
    ledger->entries = bigger;
    ledger->capacity = more;
  }
  ckpt_ledger_entry *e = &ledger->entries[ledger->n++];
  memset(e, 0, sizeof *e);
  return read_entry(e, line, err);
}

/* An integer too large for 64 bits must not cost the line: then all integers are read as reals. */
static json_t *parse_line(const char *line, size_t size) {
  json_t *v = json_loadb(line, size, JSON_ALLOW_NUL, NULL);
  if (v == NULL) v = json_loadb(line, size, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
  if (json_is_object(v)) return v;
  json_decref(v);
  return NULL;
}

static bool is_blank(const char *line, size_t size) {
  for (size_t i = 0; i < size; i++)
    if (strchr(" \t\r", line[i]) == NULL || line[i] == '\0') return false;
  return true;
}

/* Lines end with a newline; what follows the last one was torn by a crash. */
static ckpt_status read_lines(ckpt_ledger *ledger, const char *text, size_t size, ckpt_error *err) {
  const char *end = text + size, *newline;
  for (const char *line = text; (newline = memchr(line, '\n', (size_t)(end - line))) != NULL; line = newline + 1) {
    size_t length = (size_t)(newline - line);
    if (is_blank(line, length)) continue;
    json_t *v = parse_line(line, length);
    if (v == NULL) {
      ledger->skipped++;
      continue;
    }
    ckpt_status st = add_entry(ledger, v, err);
    json_decref(v);
    if (st != CKPT_OK) return st;
  }
  return CKPT_OK;
}

static ckpt_status read_text(char **out, size_t *size, int fd, off_t bytes, ckpt_dir *dir, ckpt_error *err) {
  if (bytes > MAX_LEDGER)
    return ckpt_fail(err, CKPT_E_LIMIT, -1, "%s/%s: %lld bytes, a ledger has at most %lld", dir->path, CKPT_LEDGER_NAME,
                     (long long)bytes, (long long)MAX_LEDGER);
  char *text = malloc((size_t)bytes + 1);
  if (text == NULL) return ckpt_fail_nomem(err, (size_t)bytes + 1);
  ssize_t n = ckpt_io_read_at(dir->io, fd, text, (size_t)bytes, 0);
  if (n < 0) {
    free(text);
    return ckpt_dir_fail(dir, CKPT_LEDGER_NAME, "the ledger cannot be read", err);
  }
  *out = text;
  *size = (size_t)n;
  return CKPT_OK;
}

static ckpt_status load_text(char **out, size_t *size, ckpt_dir *dir, ckpt_error *err) {
  struct stat st;
  int fd = ckpt_dir_open_file(dir, CKPT_LEDGER_NAME, O_RDONLY, &st);
  if (fd < 0 && errno == ENOENT) return CKPT_OK;
  if (fd < 0) return ckpt_dir_fail(dir, CKPT_LEDGER_NAME, "the ledger cannot be opened", err);
  ckpt_status status = read_text(out, size, fd, st.st_size, dir, err);
  ckpt_io_close(dir->io, fd);
  return status;
}

ckpt_status ckpt_ledger_read(ckpt_ledger **out, ckpt_dir *dir, ckpt_error *err) {
  char *text = NULL;
  size_t size = 0;
  CKPT_TRY(load_text(&text, &size, dir, err));
  ckpt_ledger *ledger = calloc(1, sizeof *ledger);
  ckpt_status st = ledger == NULL ? ckpt_fail_nomem(err, sizeof *ledger) : CKPT_OK;
  if (st == CKPT_OK && size > 0) st = read_lines(ledger, text, size, err);
  free(text);
  if (st != CKPT_OK) {
    ckpt_ledger_free(ledger);
    return st;
  }
  *out = ledger;
  return CKPT_OK;
}

void ckpt_ledger_free(ckpt_ledger *ledger) {
  if (ledger == NULL) return;
  for (size_t i = 0; i < ledger->n; i++) free_entry(&ledger->entries[i]);
  free(ledger->entries);
  free(ledger);
}

static ckpt_status look_at(ckpt_ledger_stamp *stamp, ckpt_dir *dir, ckpt_error *err) {
  struct stat st;
  *stamp = (ckpt_ledger_stamp){.known = true};
  if (dir->io->statat(dir->io->ctx, dir->fd, CKPT_LEDGER_NAME, &st) == 0)
    *stamp = (ckpt_ledger_stamp){true, st.st_ino, st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec};
  else if (errno != ENOENT)
    return ckpt_dir_fail(dir, CKPT_LEDGER_NAME, "the ledger cannot be looked at", err);
  return CKPT_OK;
}

static bool same_stamp(const ckpt_ledger_stamp *a, const ckpt_ledger_stamp *b) {
  return a->known && b->known && a->inode == b->inode && a->bytes == b->bytes && a->seconds == b->seconds &&
         a->nanoseconds == b->nanoseconds;
}

/* The file is looked at before it is read: what is appended in between is read now and once more the next time. */
ckpt_status ckpt_ledger_refresh(ckpt_ledger **ledger, ckpt_ledger_stamp *stamp, ckpt_dir *dir, ckpt_error *err) {
  ckpt_ledger_stamp now;
  ckpt_ledger *read = NULL;
  CKPT_TRY(look_at(&now, dir, err));
  if (*ledger != NULL && same_stamp(stamp, &now)) return CKPT_OK;
  CKPT_TRY(ckpt_ledger_read(&read, dir, err));
  ckpt_ledger_free(*ledger);
  *ledger = read;
  *stamp = now;
  return CKPT_OK;
}

bool ckpt_ledger_pinned(const ckpt_ledger *ledger, const char *file) {
  for (size_t i = ledger == NULL ? 0 : ledger->n; i-- > 0;) {
    const ckpt_ledger_entry *e = &ledger->entries[i];
    bool pin = strcmp(e->event, "pin") == 0, about = pin || strcmp(e->event, "unpin") == 0;
    if (about && e->file != NULL && strcmp(e->file, file) == 0) return pin;
  }
  return false;
}

/* ---- writing ---- */

static ckpt_status nomem_in_json(ckpt_error *err) {
  return ckpt_fail(err, CKPT_E_NOMEM, -1, "out of memory: a line for %s cannot be built", CKPT_LEDGER_NAME);
}

static ckpt_status put(json_t *object, const char *key, json_t *value, ckpt_error *err) {
  return json_object_set_new_nocheck(object, key, value) == 0 ? CKPT_OK : nomem_in_json(err);
}

/* JSON is UTF-8: a string that is not is told from a lack of memory by trying it unchecked. */
static ckpt_status make_text(json_t **out, const char *text, ckpt_error *err) {
  json_t *v = json_string(text);
  if (v == NULL) {
    v = json_string_nocheck(text);
    if (v == NULL) return nomem_in_json(err);
    json_decref(v);
    return ckpt_fail(err, CKPT_E_ARGUMENT, -1, "%s: a name is not valid UTF-8, JSON cannot hold it", CKPT_LEDGER_NAME);
  }
  *out = v;
  return CKPT_OK;
}

static ckpt_status put_text(json_t *object, const char *key, const char *text, ckpt_error *err) {
  json_t *v = NULL;
  if (text == NULL) return CKPT_OK;
  CKPT_TRY(make_text(&v, text, err));
  return put(object, key, v, err);
}

static ckpt_status put_integer(json_t *object, const char *key, int64_t value, ckpt_error *err) {
  return value == NOT_RECORDED ? CKPT_OK : put(object, key, json_integer(value), err);
}

static ckpt_status put_strings(json_t *object, const char *key, char *const *list, size_t n, ckpt_error *err) {
  if (n == 0) return CKPT_OK;
  json_t *array = json_array();
  CKPT_TRY(put(object, key, array, err)); /* `object` owns it now, or it is gone */
  for (size_t i = 0; i < n; i++) {
    json_t *v = NULL;
    CKPT_TRY(make_text(&v, list[i], err));
    if (json_array_append_new(array, v) != 0) return nomem_in_json(err);
  }
  return CKPT_OK;
}

static ckpt_status put_metrics(json_t *object, const ckpt_metric *metrics, size_t n, ckpt_error *err) {
  if (n == 0) return CKPT_OK;
  json_t *inner = json_object();
  CKPT_TRY(put(object, "metrics", inner, err));
  for (size_t i = 0; i < n; i++) {
    json_t *name = NULL;
    CKPT_TRY(make_text(&name, metrics[i].name, err)); /* checks the key */
    json_decref(name);
    CKPT_TRY(put(inner, metrics[i].name, number_to_json(metrics[i].value), err));
  }
  return CKPT_OK;
}

static ckpt_status fill_line(json_t *line, const ckpt_ledger_entry *e, ckpt_error *err) {
  uint64_t bytes = e->bytes < INT64_MAX ? e->bytes : INT64_MAX;
  CKPT_TRY(put_text(line, "event", e->event, err));
  CKPT_TRY(put_integer(line, "time", e->time, err));
  CKPT_TRY(put_integer(line, "epoch", e->epoch, err));
  CKPT_TRY(put_integer(line, "step", e->step, err));
  CKPT_TRY(put_text(line, "file", e->file, err));
  if (e->file != NULL) CKPT_TRY(put_integer(line, "bytes", (int64_t)bytes, err));
  CKPT_TRY(put_strings(line, "aliases", e->aliases, e->n_aliases, err));
  CKPT_TRY(put_strings(line, "retired", e->retired, e->n_retired, err));
  CKPT_TRY(put(line, "best", json_boolean(e->best), err));
  return put_metrics(line, e->metrics, e->n_metrics, err);
}

/* The fewest digits with which every metric of the line reads back as it is: 0.9527, not 0.95269999999999999. */
static size_t digits_needed(const ckpt_ledger_entry *e) {
  int digits = 15;
  for (size_t i = 0; i < e->n_metrics; i++) {
    double value = e->metrics[i].value;
    for (char text[40]; isfinite(value) && digits < 17; digits++) {
      snprintf(text, sizeof text, "%.*g", digits, value);
      if (strtod(text, NULL) == value) break;
    }
  }
  return (size_t)digits;
}

/* An earlier line that a crash tore has no newline: ours must not become its end. */
static ckpt_status is_torn(bool *torn, ckpt_dir *dir, ckpt_error *err) {
  struct stat st;
  char last = '\n';
  int fd = ckpt_dir_open_file(dir, CKPT_LEDGER_NAME, O_RDONLY, &st);
  if (fd < 0 && errno == ENOENT) return CKPT_OK;
  if (fd < 0) return ckpt_dir_fail(dir, CKPT_LEDGER_NAME, "the ledger cannot be opened", err);
  ssize_t n = st.st_size == 0 ? 0 : ckpt_io_read_at(dir->io, fd, &last, 1, st.st_size - 1);
  ckpt_status status = n < 0 ? ckpt_dir_fail(dir, CKPT_LEDGER_NAME, "the ledger cannot be read", err) : CKPT_OK;
  ckpt_io_close(dir->io, fd);
  if (status == CKPT_OK) *torn = last != '\n';
  return status;
}

/* One write for the whole line, with the newline that ends it and, after a torn line, the one that begins it. */
static ckpt_status append_line(ckpt_dir *dir, const char *text, ckpt_error *err) {
  bool torn = false;
  CKPT_TRY(is_torn(&torn, dir, err));
  size_t n = strlen(text) + 2;
  char *line = malloc(n + 1);
  if (line == NULL) return ckpt_fail_nomem(err, n + 1);
  snprintf(line, n + 1, "%s%s\n", torn ? "\n" : "", text);
  ckpt_status st = ckpt_dir_append(dir, CKPT_LEDGER_NAME, line, strlen(line), err);
  free(line);
  return st;
}

ckpt_status ckpt_ledger_append(ckpt_dir *dir, const ckpt_ledger_entry *entry, ckpt_error *err) {
  json_t *line = json_object();
  if (line == NULL) return nomem_in_json(err);
  char *text = NULL;
  ckpt_status st = fill_line(line, entry, err);
  if (st == CKPT_OK) {
    text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(digits_needed(entry)));
    st = text == NULL ? nomem_in_json(err) : append_line(dir, text, err);
  }
  free(text);
  json_decref(line);
  return st;
}

/* By way of the JSON that a file would hold, so that nothing is kept here that would be lost there. */
ckpt_status ckpt_ledger_add(ckpt_ledger *ledger, const ckpt_ledger_entry *entry, ckpt_error *err) {
  json_t *line = json_object();
  if (line == NULL) return nomem_in_json(err);
  ckpt_status st = fill_line(line, entry, err);
  if (st == CKPT_OK) st = add_entry(ledger, line, err);
  json_decref(line);
  return st;
}
