/*
 * alloc_faults.h - allocations that fail on demand, for programs that are linked with
 * -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup (the first line of the test says so).
 */
#ifndef CKPT_TEST_ALLOC_FAULTS_H
#define CKPT_TEST_ALLOC_FAULTS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "base.h"

static _Atomic size_t alloc_countdown; /* 1: the next one fails; 0: none */
static _Atomic size_t alloc_seen;      /* since the countdown was set */
static _Atomic bool alloc_lasting;     /* those after the one that failed fail too, */
static _Atomic bool alloc_failing;     /* as they do now */

static inline bool alloc_refused(void) {
  alloc_seen++;
  bool hit = alloc_countdown > 0 && --alloc_countdown == 0;
  if (hit && alloc_lasting) alloc_failing = true;
  return hit || alloc_failing;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

void *__wrap_malloc(size_t n) { return alloc_refused() ? NULL : __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t size) { return alloc_refused() ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t n) { return alloc_refused() ? NULL : __real_realloc(p, n); }
char *__wrap_strdup(const char *s) { return alloc_refused() ? NULL : __real_strdup(s); }
char *__wrap_strndup(const char *s, size_t n) { return alloc_refused() ? NULL : __real_strndup(s, n); }

/*
 * jansson is a shared library, whose calls the linker does not wrap. With its allocations failing too any error will
 * do: where its lexer gets no memory it sees a wrong token.
 */
static bool alloc_any_error;
static inline void fail_jansson_too(bool on) {
  json_set_alloc_funcs(on ? __wrap_malloc : __real_malloc, free);
  alloc_any_error = on;
}

/*
 * Runs the operation with its 1st, 2nd, ... allocation failing until it has not met the failing one any more; each
 * failure must be CKPT_E_NOMEM and say so. Gives the number of allocations.
 */
static inline size_t fail_each_allocation(ckpt_status (*run)(void *context, ckpt_error *err), void *context) {
  for (size_t nth = 1;; nth++) {
    ckpt_error err = {0};
    alloc_countdown = nth;
    alloc_seen = 0;
    ckpt_status st = run(context, &err);
    bool met = alloc_countdown == 0;
    size_t made = alloc_seen;
    alloc_countdown = 0;
    if (st != CKPT_OK && !alloc_any_error &&
        (st != CKPT_E_NOMEM || err.status != CKPT_E_NOMEM || strstr(err.message, "out of memory") == NULL))
      fail_msg("allocation %zu: %s, '%s'", nth, ckpt_status_name(st), err.message);
    if (!met) assert_int_equal(st, CKPT_OK);
    if (!met) return made;
    assert_true(nth < 100000);
  }
}

#endif
