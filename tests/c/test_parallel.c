// LDFLAGS: -Wl,--wrap=pthread_create,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup
/*
 * test_parallel.c - work spread over threads, and what is built on it: transfers into arrays, checksums of archives,
 * records summed beside their writing. With as many threads as the machine has, with none to be had, and after
 * ThreadSanitizer (make check-tsan).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above first */
#include <cmocka.h>
#include <libdeflate.h>
#include <signal.h>
#include <stdatomic.h>

#include "alloc_faults.h"
#include "parallel.h"
#include "transfer.h"
#include "zip_check.h"
#include "zip_write.h"

/* ---- threads that cannot be had ---- */

static int threads_allowed = 1000, threads_started;

int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*run)(void *), void *arg) {
  if (threads_allowed == 0) return 11; /* EAGAIN */
  threads_allowed--;
  threads_started++;
  return __real_pthread_create(t, a, run, arg);
}

static void allow(int threads) {
  threads_allowed = threads;
  threads_started = 0;
}

/* ---- parallel ---- */

enum { TASKS = 2000 };

static void count_task(void *context, size_t i) {
  atomic_int *done = context;
  atomic_fetch_add(&done[i], 1);
}

static void each_once(unsigned threads, size_t n) {
  atomic_int done[TASKS] = {0};
  ckpt_parallel(count_task, done, n, threads);
  for (size_t i = 0; i < TASKS; i++) assert_int_equal(done[i], i < n);
}

static void test_each_task_once(void **state) {
  (void)state;
  allow(1000);
  each_once(1, TASKS);
  assert_int_equal(threads_started, 0);
  each_once(4, TASKS);
  assert_int_equal(threads_started, 3);
  each_once(1000, TASKS);
  assert_int_equal(threads_started, 3 + 15); /* at most 16 */
  each_once(8, 0);
  each_once(8, 1);
  assert_int_equal(threads_started, 3 + 15); /* no task, no thread */
}

static void test_without_threads(void **state) {
  (void)state;
  for (int have = 0; have < 3; have++) {
    allow(have);
    each_once(8, TASKS);
    assert_int_equal(threads_started, have);
  }
}

static void test_little_work_needs_no_thread(void **state) {
  (void)state;
  assert_int_equal(ckpt_parallel_threads(1000), 1);
  assert_in_range(ckpt_parallel_threads((size_t)1 << 40), 1, 16);
}

static void read_mask(void *context) {
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, NULL, &mask);
  if (sigismember(&mask, SIGUSR1)) atomic_fetch_add((atomic_int *)context, 1);
}

/* The host's handlers do not run in our threads, and the host's own mask is as it was. */
static void test_signals(void **state) {
  (void)state;
  sigset_t before, after;
  atomic_int blocked = 0;
  allow(1000);
  pthread_sigmask(SIG_SETMASK, NULL, &before);
  ckpt_beside b;
  ckpt_beside_start(&b, read_mask, &blocked);
  ckpt_beside_join(&b);
  pthread_sigmask(SIG_SETMASK, NULL, &after);
  assert_int_equal(blocked, 1);
  assert_int_equal(sigismember(&after, SIGUSR1), sigismember(&before, SIGUSR1));
}

static void set_seven(void *context) { *(int *)context = 7; }

static void test_beside(void **state) {
  (void)state;
  for (int have = 0; have < 2; have++) {
    int value = 0;
    ckpt_beside b;
    allow(have);
    ckpt_beside_start(&b, set_seven, &value);
    if (have == 0) assert_int_equal(value, 7); /* done at once */
    ckpt_beside_join(&b);
    ckpt_beside_join(&b); /* a second one has nothing to do */
    assert_int_equal(value, 7);
  }
}

/* ---- transfers ---- */

enum { MOVES = 6, ROWS = 1030, COLUMNS = 1040 }; /* over the size from which threads are used */

typedef struct model {
  float *from[MOVES], *to[MOVES], *expected[MOVES];
  ckpt_move moves[MOVES];
} model;

/* Three plain copies, a transposed one, and casts to and from other dtypes. */
static void model_new(model *m) {
  const int64_t shape[] = {ROWS, COLUMNS}, turned[] = {COLUMNS, ROWS};
  for (size_t i = 0; i < MOVES; i++) {
    ckpt_tensor *base = NULL, *view = NULL;
    ckpt_dtype from = i == 4 ? CKPT_I32 : CKPT_F32, to = i == 5 ? CKPT_F64 : CKPT_F32;
    size_t bytes = (size_t)ROWS * COLUMNS * (to == CKPT_F64 ? 8 : 4);
    m->from[i] = malloc((size_t)ROWS * COLUMNS * 4);
    m->to[i] = calloc(1, bytes);
    m->expected[i] = calloc(1, bytes);
    for (size_t k = 0; k < (size_t)ROWS * COLUMNS; k++) {
      if (i == 4)
        ckpt_put32(m->from[i] + k, (uint32_t)(k * 7 + i));
      else
        m->from[i][k] = (float)(k * 3 + i);
    }
    assert_int_equal(ckpt_tensor_borrow(&base, from, m->from[i], 2, shape, NULL), CKPT_OK);
    if (i == 3)
      assert_int_equal(ckpt_tensor_transpose(&view, base, 0, 1, NULL), CKPT_OK);
    else
      view = ckpt_tensor_retain(base);
    m->moves[i].from = view;
    assert_int_equal(ckpt_tensor_borrow(&m->moves[i].to, to, m->expected[i], 2, i == 3 ? turned : shape, NULL),
                     CKPT_OK);
    assert_int_equal(ckpt_tensor_copy(m->moves[i].to, view, NULL), CKPT_OK);
    ckpt_tensor_release(m->moves[i].to);
    assert_int_equal(ckpt_tensor_borrow(&m->moves[i].to, to, m->to[i], 2, i == 3 ? turned : shape, NULL), CKPT_OK);
    ckpt_tensor_release(base);
  }
}

static void model_free(model *m) {
  for (size_t i = 0; i < MOVES; i++) {
    ckpt_tensor_release(m->moves[i].from);
    ckpt_tensor_release(m->moves[i].to);
    free(m->from[i]);
    free(m->to[i]);
    free(m->expected[i]);
  }
}

static void assert_copied(const model *m) {
  for (size_t i = 0; i < MOVES; i++)
    assert_memory_equal(m->to[i], m->expected[i], (size_t)ROWS * COLUMNS * (i == 5 ? 8 : 4));
}

static void clear(model *m) {
  for (size_t i = 0; i < MOVES; i++) memset(m->to[i], 0, (size_t)ROWS * COLUMNS * (i == 5 ? 8 : 4));
}

static void test_transfer(void **state) {
  (void)state;
  model m;
  model_new(&m);
  for (int have = 0; have < 4; have++) {
    allow(have == 3 ? 1000 : have);
    clear(&m);
    assert_int_equal(ckpt_transfer(m.moves, MOVES, NULL), CKPT_OK);
    assert_copied(&m);
  }
  model_free(&m);
}

static ckpt_status transfer_all(void *context, ckpt_error *err) {
  model *m = context;
  clear(m);
  ckpt_status st = ckpt_transfer(m->moves, MOVES, err);
  size_t kept = alloc_countdown;
  alloc_countdown = 0;
  if (st == CKPT_OK) assert_copied(m);
  alloc_countdown = kept;
  return st;
}

/* A plan is a help: without memory for it the tensors are copied one after the other. */
static void test_transfer_without_memory(void **state) {
  (void)state;
  model m;
  model_new(&m);
  allow(1000);
  for (size_t nth = 1; nth < 6; nth++) {
    ckpt_error err = {0};
    alloc_countdown = nth;
    assert_int_equal(transfer_all(&m, &err), CKPT_OK);
    alloc_countdown = 0;
  }
  model_free(&m);
}

/* One array bound under two names: the last source wins, as if it had been done in order. */
static void test_transfer_into_one_array_twice(void **state) {
  (void)state;
  enum { N = 3 << 20 };
  const int64_t shape[] = {N};
  float *a = malloc(N * sizeof *a), *b = malloc(N * sizeof *b), *to = calloc(N, sizeof *to);
  for (size_t i = 0; i < N; i++) {
    a[i] = 1;
    b[i] = 2;
  }
  ckpt_move moves[2];
  assert_int_equal(ckpt_tensor_borrow(&moves[0].from, CKPT_F32, a, 1, shape, NULL), CKPT_OK);
  assert_int_equal(ckpt_tensor_borrow(&moves[1].from, CKPT_F32, b, 1, shape, NULL), CKPT_OK);
  for (int i = 0; i < 2; i++) assert_int_equal(ckpt_tensor_borrow(&moves[i].to, CKPT_F32, to, 1, shape, NULL), CKPT_OK);
  allow(1000);
  assert_int_equal(ckpt_transfer(moves, 2, NULL), CKPT_OK);
  assert_memory_equal(to, b, N * sizeof *b);
  for (int i = 0; i < 2; i++) {
    ckpt_tensor_release(moves[i].from);
    ckpt_tensor_release(moves[i].to);
  }
  free(a);
  free(b);
  free(to);
}

/* What cannot be copied is told, and everything else is copied. */
static void test_transfer_of_a_wrong_shape(void **state) {
  (void)state;
  model m;
  ckpt_error err = {0};
  model_new(&m);
  ckpt_tensor *narrow = NULL, *right = m.moves[1].to;
  assert_int_equal(ckpt_tensor_borrow(&narrow, CKPT_F32, m.to[1], 1, (int64_t[]){5}, NULL), CKPT_OK);
  m.moves[1].to = narrow;
  allow(1000);
  assert_int_equal(ckpt_transfer(m.moves, MOVES, &err), CKPT_E_SHAPE);
  assert_int_equal(err.status, CKPT_E_SHAPE);
  memcpy(m.to[1], m.expected[1], (size_t)ROWS * COLUMNS * 4);
  assert_copied(&m);
  ckpt_tensor_release(narrow);
  m.moves[1].to = right;
  model_free(&m);
}

/* ---- archives ---- */

typedef struct memory {
  ckpt_sink sink;
  unsigned char *bytes;
  size_t n, capacity;
} memory;

static ckpt_status grow_memory(ckpt_sink *sink, const void *data, size_t size, ckpt_error *err) {
  memory *m = (memory *)sink;
  (void)err;
  if (m->capacity - m->n < size) m->bytes = __real_realloc(m->bytes, m->capacity = 2 * (m->n + size));
  memcpy(m->bytes + m->n, data, size);
  m->n += size;
  return CKPT_OK;
}

enum { LARGE = 9 << 20, RECORDS = 40 }; /* LARGE: summed by a thread beside the writing */

static memory archive_new(const unsigned char *data) {
  memory m = {.sink.write = grow_memory};
  ckpt_zip_writer *w = NULL;
  char name[40];
  assert_int_equal(ckpt_zip_writer_new(&w, &m.sink, "a", NULL), CKPT_OK);
  assert_int_equal(ckpt_zip_writer_add(w, "large", data, LARGE, NULL), CKPT_OK);
  for (size_t i = 0; i < RECORDS; i++) {
    snprintf(name, sizeof name, "data/%zu", i);
    assert_int_equal(ckpt_zip_writer_add(w, name, data + i, i * 50001, NULL), CKPT_OK);
  }
  assert_int_equal(ckpt_zip_writer_finish(w, NULL), CKPT_OK);
  ckpt_zip_writer_free(w);
  return m;
}

static unsigned char *noise(size_t n) {
  unsigned char *data = malloc(n);
  uint32_t x = 1;
  for (size_t i = 0; i < n; i++) data[i] = (unsigned char)((x = x * 1664525 + 1013904223) >> 24);
  return data;
}

static void test_sums_beside_the_writing(void **state) {
  (void)state;
  unsigned char *data = noise(LARGE);
  allow(0);
  memory alone = archive_new(data);
  allow(1000);
  memory beside = archive_new(data);
  assert_int_equal(alone.n, beside.n);
  assert_memory_equal(alone.bytes, beside.bytes, alone.n);
  free(alone.bytes);
  free(beside.bytes);
  free(data);
}

static ckpt_zip *open_archive(const memory *m, ckpt_mapping **map) {
  ckpt_zip *z = NULL;
  assert_int_equal(ckpt_mapping_memory(map, m->bytes, m->n, NULL), CKPT_OK);
  assert_int_equal(ckpt_zip_open(&z, *map, 0, m->n, NULL), CKPT_OK);
  return z;
}

static void test_check_all(void **state) {
  (void)state;
  unsigned char *data = noise(LARGE);
  memory m = archive_new(data);
  ckpt_mapping *map = NULL;
  ckpt_zip *z = open_archive(&m, &map);
  for (int have = 0; have < 2; have++) {
    allow(have * 1000);
    assert_int_equal(ckpt_zip_check_all(z, NULL), CKPT_OK);
    for (size_t i = 0; i < ckpt_zip_count(z); i++) { /* the record that has changed is the one that is named */
      const unsigned char *bytes = NULL;
      const ckpt_zip_entry *e = ckpt_zip_entry_at(z, i);
      ckpt_error err = {0}, one = {0};
      assert_int_equal(ckpt_zip_span(&bytes, z, i, NULL), CKPT_OK);
      if (e->size == 0) continue;
      unsigned char *last = m.bytes + (bytes - m.bytes) + e->size - 1;
      *last ^= 1;
      assert_int_equal(ckpt_zip_check_all(z, &err), CKPT_E_CORRUPT);
      assert_int_equal(ckpt_zip_check(z, i, &one), CKPT_E_CORRUPT);
      assert_string_equal(err.message, one.message);
      *last ^= 1;
    }
  }
  ckpt_zip_release(z);
  ckpt_mapping_release(map);
  free(m.bytes);
  free(data);
}

static ckpt_status check_all(void *context, ckpt_error *err) { return ckpt_zip_check_all(context, err); }

static void test_check_all_without_memory(void **state) {
  (void)state;
  unsigned char *data = noise(LARGE);
  memory m = archive_new(data);
  ckpt_mapping *map = NULL;
  ckpt_zip *z = open_archive(&m, &map);
  allow(0); /* the countdown is the tests' own, not the threads' */
  assert_int_equal(fail_each_allocation(check_all, z), 2);
  ckpt_zip_release(z);
  ckpt_mapping_release(map);
  free(m.bytes);
  free(data);
}

static void test_joined_sums(void **state) {
  (void)state;
  unsigned char *data = noise(70000);
  for (size_t n = 0; n <= 70000; n = n < 20 ? n + 1 : n * 3 + 1)
    for (size_t at = 0; at <= n; at = at < 20 ? at + 1 : at * 2 + 1) {
      uint32_t a = libdeflate_crc32(0, data, at), b = libdeflate_crc32(0, data + at, n - at);
      assert_int_equal(ckpt_crc32_join(a, b, n - at), libdeflate_crc32(0, data, n));
    }
  free(data);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_each_task_once),
      cmocka_unit_test(test_without_threads),
      cmocka_unit_test(test_little_work_needs_no_thread),
      cmocka_unit_test(test_signals),
      cmocka_unit_test(test_beside),
      cmocka_unit_test(test_transfer),
      cmocka_unit_test(test_transfer_without_memory),
      cmocka_unit_test(test_transfer_into_one_array_twice),
      cmocka_unit_test(test_transfer_of_a_wrong_shape),
      cmocka_unit_test(test_sums_beside_the_writing),
      cmocka_unit_test(test_check_all),
      cmocka_unit_test(test_check_all_without_memory),
      cmocka_unit_test(test_joined_sums),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
