/* report.c - see report.h. */
#include "report.h"

#include <stdlib.h>

#include "arena.h"

typedef struct list {
  const char **items;
  size_t n, capacity;
} list;

struct ckpt_save_report {
  ckpt_arena arena;
  list lists[CKPT_SAVED_COUNT];
};

ckpt_status ckpt_save_report_new(ckpt_save_report **out, ckpt_error *err) {
  ckpt_save_report *report = calloc(1, sizeof *report);
  if (report == NULL) return ckpt_fail_nomem(err, sizeof *report);
  *out = report;
  return CKPT_OK;
}

ckpt_status ckpt_save_report_add(ckpt_save_report *report, ckpt_saved which, const char *text, ckpt_error *err) {
  list *l = &report->lists[which];
  ckpt_error here = {0};
  if (l->n == l->capacity) {
    size_t capacity = l->capacity == 0 ? 16 : l->capacity * 2;
    const char **more = realloc(l->items, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
    l->items = more;
    l->capacity = capacity;
  }
  const char *copy = ckpt_arena_copy(&report->arena, text, strlen(text), &here);
  if (copy == NULL) {
    if (err != NULL) *err = here;
    return here.status;
  }
  l->items[l->n++] = copy;
  return CKPT_OK;
}

void ckpt_save_report_free(ckpt_save_report *report) {
  if (report == NULL) return;
  for (size_t i = 0; i < CKPT_SAVED_COUNT; i++) free(report->lists[i].items);
  ckpt_arena_free(&report->arena);
  free(report);
}

size_t ckpt_save_report_count(const ckpt_save_report *report, ckpt_saved which) { return report->lists[which].n; }

const char *ckpt_save_report_text(const ckpt_save_report *report, ckpt_saved which, size_t i) {
  return i < report->lists[which].n ? report->lists[which].items[i] : NULL;
}
