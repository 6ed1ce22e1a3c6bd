// LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup
/*
 * test_stream.c - computed tensors box by box: the bytes are those of the whole, whatever the chain of operations and
 * wherever it is cut; what is strided over a large file is gathered window by window; what a sink refuses, and memory
 * that there is not, ends it.
 */
#include "lazy.h"
#include "stream.h"
#include "tensor_fixture.h"

#include "alloc_faults.h"

#define OK(call) assert_int_equal((call), CKPT_OK)

enum { MOST = 4000, SIDE = 2300 /* of a square of int32 that is larger than a window */ };

/* ---- tensors whose bytes lie somewhere, as in a file ---- */

typedef struct place {
  unsigned char *bytes;
  size_t used;
} place;

static ckpt_status fetch(unsigned char **out, bool *heap, void *context, ckpt_error *err) {
  (void)err;
  *heap = false;
  *out = ((place *)context)->bytes;
  return CKPT_OK;
}

static void drop(void *context) { (void)context; }

static bool lies(const void *context) {
  (void)context;
  return true;
}

static void used(void *context, size_t n) { ((place *)context)->used += n; }

static ckpt_tensor *placed(place *p, ckpt_dtype dtype, int ndim, const int64_t *shape) {
  static const ckpt_storage_source calls = {.fetch = fetch, .drop = drop, .lies = lies, .used = used};
  ckpt_tensor *t = NULL, *meta = meta_of(dtype, ndim, shape);
  ckpt_storage *s = NULL;
  OK(ckpt_storage_from(&s, ckpt_tensor_nbytes(meta), &calls, p, NULL));
  ckpt_tensor_spec spec = {.dtype = dtype, .ndim = ndim, .shape = shape};
  OK(ckpt_tensor_make(&t, s, &spec, NULL));
  ckpt_storage_release(s);
  ckpt_tensor_release(meta);
  return t;
}

/* ---- random chains ---- */

static uint64_t state_of_random = 88172645463325252u;

static int64_t below(int64_t n) {
  state_of_random ^= state_of_random << 13;
  state_of_random ^= state_of_random >> 7;
  state_of_random ^= state_of_random << 17;
  return (int64_t)(state_of_random % (uint64_t)n);
}

/* One choice, to be done to two tensors alike. */
typedef struct step {
  int what, dim, other;
  int64_t a, b, index[6];
} step;

static step choose(const ckpt_tensor *t) {
  int ndim = ckpt_tensor_ndim(t);
  step s = {(int)below(10), (int)below(ndim), (int)below(ndim), 0, 0, {0}};
  int64_t size = ckpt_tensor_shape(t)[s.dim];
  s.a = below(size);
  s.b = s.a + 1 + below(size - s.a);
  for (size_t i = 0; i < CKPT_COUNTOF(s.index); i++)
    s.index[i] = below(2) == 0 && i > 0 ? (s.index[i - 1] + 1) % size : below(size);
  return s;
}

static ckpt_status pad(ckpt_tensor **out, const ckpt_tensor *t, const step *s) {
  int64_t before[CKPT_MAX_DIMS] = {0}, after[CKPT_MAX_DIMS] = {0};
  before[s->dim] = s->a % 3;
  after[s->other] = s->b % 3;
  return ckpt_tensor_pad(out, t, before, after, ckpt_scalar_int(7), NULL);
}

static ckpt_tensor *take(const ckpt_tensor *t, const step *s) {
  static const ckpt_dtype dtypes[] = {CKPT_F32, CKPT_F64, CKPT_F16, CKPT_I16};
  ckpt_tensor *out = NULL;
  const ckpt_tensor *twice[] = {t, t};
  switch (s->what) {
    case 0: OK(ckpt_tensor_to(&out, t, dtypes[s->a % 4], NULL)); break;
    case 1: OK(ckpt_tensor_transpose(&out, t, s->dim, s->other, NULL)); break;
    case 2: OK(ckpt_tensor_slice(&out, t, s->dim, s->a, s->b, 1 + s->b % 2, NULL)); break;
    case 3: OK(ckpt_tensor_index_select(&out, t, s->dim, 6, s->index, NULL)); break;
    case 4: OK(ckpt_tensor_flip(&out, t, s->dim == s->other ? 1 : 2, (const int[]){s->dim, s->other}, NULL)); break;
    case 5: OK(ckpt_tensor_roll(&out, t, s->a, s->dim, NULL)); break;
    case 6: OK(ckpt_tensor_cat(&out, 2, twice, s->dim, NULL)); break;
    case 7: OK(pad(&out, t, s)); break;
    case 8: OK(ckpt_tensor_scale(&out, t, ckpt_scalar_int(1 + s->a % 3), NULL)); break;
    default: OK(ckpt_tensor_add(&out, t, t, NULL)); break;
  }
  return out;
}

/* The same contents in memory of their own: what is made of it is computed at once, whole. */
static ckpt_tensor *owned(const ckpt_tensor *t) {
  ckpt_tensor *copy = NULL;
  OK(ckpt_tensor_new(&copy, ckpt_tensor_dtype(t), ckpt_tensor_ndim(t), ckpt_tensor_shape(t), NULL));
  OK(ckpt_tensor_copy(copy, t, NULL));
  return copy;
}

static void advance(ckpt_tensor **lazy, ckpt_tensor **eager) {
  step s = choose(*lazy);
  ckpt_tensor *next = take(*lazy, &s), *now = take(*eager, &s), *copy = owned(now);
  ckpt_tensor_release(now);
  ckpt_tensor_release(*lazy);
  ckpt_tensor_release(*eager);
  *lazy = next;
  *eager = copy;
}

/* All of a result in ranges of random lengths. */
static void assert_ranges(const ckpt_tensor *t, const unsigned char *wanted) {
  size_t n = ckpt_tensor_nbytes(t), size = ckpt_dtype_size(ckpt_tensor_dtype(t)), done = 0;
  ckpt_storage *s = ckpt_tensor_storage(t);
  for (size_t at = 0; at < n; at += done) {
    size_t left = n - at, wish = size * (size_t)(1 + below(64));
    unsigned char *piece = malloc(left < wish ? left : wish); /* of this very size: a byte too many is seen */
    done = 0;
    OK(ckpt_storage_range(piece, &done, s, at, left < wish ? left : wish, NULL));
    assert_true(done > 0 && done <= wish && done <= left && done % size == 0);
    assert_memory_equal(piece, wanted + at, done);
    free(piece);
  }
}

static void ranges_are_the_whole(void **state) {
  (void)state;
  int streamed = 0;
  source s;
  count_up(&s);
  place p = {s.bytes, 0};
  for (int round = 0; round < 4000; round++) {
    ckpt_tensor *lazy = placed(&p, CKPT_I32, 3, DIMS(4, 3, 5)), *eager = owned(lazy), *result = NULL;
    for (int i = 0; i < 6 && ckpt_tensor_numel(lazy) < MOST; i++) advance(&lazy, &eager);
    const void *wanted = NULL;
    OK(ckpt_tensor_data(&wanted, eager, NULL));
    OK(ckpt_tensor_contiguous(&result, lazy, NULL));
    if (ckpt_storage_streams(ckpt_tensor_storage(result)) && ckpt_tensor_offset(result) == 0) {
      assert_ranges(result, wanted);
      streamed++;
    }
    ckpt_tensor_release(result);
    ckpt_tensor_release(lazy);
    ckpt_tensor_release(eager);
  }
  assert_true(streamed > 2000);
}

/* ---- sinks ---- */

typedef struct memory {
  ckpt_sink sink; /* first */
  unsigned char *bytes;
  size_t n, room, largest;
} memory;

static ckpt_status keep(ckpt_sink *sink, const void *data, size_t size, ckpt_error *err) {
  memory *m = (memory *)sink;
  if (size > m->room - m->n) return ckpt_fail(err, CKPT_E_IO, -1, "the sink is full");
  memcpy(m->bytes + m->n, data, size);
  m->n += size;
  if (size > m->largest) m->largest = size;
  return CKPT_OK;
}

static unsigned char *square(void) {
  unsigned char *bytes = malloc((size_t)SIDE * SIDE * 4);
  for (size_t i = 0; i < (size_t)SIDE * SIDE; i++) ckpt_put32(bytes + 4 * i, (uint32_t)i);
  return bytes;
}

static void large_transposes_are_gathered_in_windows(void **state) {
  (void)state;
  place p = {square(), 0};
  ckpt_tensor *t = placed(&p, CKPT_I32, 2, DIMS(SIDE, SIDE)), *across = NULL, *cast = NULL;
  size_t room = (size_t)SIDE * SIDE * 8;
  memory m = {{keep}, malloc(room), 0, room, 0};
  OK(ckpt_tensor_transpose(&across, t, 0, 1, NULL));
  OK(ckpt_tensor_to(&cast, across, CKPT_F64, NULL));
  OK(ckpt_tensor_stream(&m.sink, cast, NULL));
  assert_int_equal(m.n, room);
  assert_true(m.largest <= CKPT_MAPPING_WINDOW);
  assert_true(p.used >= room / 2); /* all of the file was let go as it passed */
  for (size_t i = 0; i < (size_t)SIDE * SIDE; i++) {
    double v;
    memcpy(&v, m.bytes + 8 * i, 8);
    if (v != (double)(i % SIDE * SIDE + i / SIDE)) fail_msg("element %zu is %g", i, v);
  }
  assert_int_equal(ckpt_tensor_heap_bytes(cast), 0);
  ckpt_tensor_release(cast);
  ckpt_tensor_release(across);
  ckpt_tensor_release(t);
  free(m.bytes);
  free(p.bytes);
}

static void views_and_places(void **state) {
  (void)state;
  source s;
  count_up(&s);
  place p = {s.bytes, 0};
  unsigned char bytes[64];
  memory m = {{keep}, bytes, 0, sizeof bytes, 0};
  ckpt_tensor *t = placed(&p, CKPT_I32, 2, DIMS(4, 4)), *part = NULL, *own = owned(t), *across = NULL;
  OK(ckpt_tensor_slice(&part, t, 0, 1, 3, 1, NULL));
  OK(ckpt_tensor_stream(&m.sink, part, NULL));
  assert_int_equal(m.n, 32);
  assert_memory_equal(bytes, s.bytes + 16, 32);
  m.n = 0;
  OK(ckpt_tensor_transpose(&across, own, 0, 1, NULL)); /* of memory that can be written to */
  OK(ckpt_tensor_stream(&m.sink, across, NULL));
  for (uint32_t i = 0; i < 16; i++) assert_int_equal(ckpt_le32(bytes + 4 * i), i % 4 * 4 + i / 4);
  ckpt_tensor_release(across);
  ckpt_tensor_release(own);
  ckpt_tensor_release(part);
  ckpt_tensor_release(t);
}

static void a_sink_that_fails_ends_it(void **state) {
  (void)state;
  source s;
  ckpt_error err = {.status = CKPT_OK};
  count_up(&s);
  place p = {s.bytes, 0};
  ckpt_tensor *t = placed(&p, CKPT_I32, 1, DIMS(16)), *cast = NULL;
  unsigned char bytes[64];
  memory m = {{keep}, bytes, 0, 63, 0};
  OK(ckpt_tensor_to(&cast, t, CKPT_F32, NULL));
  assert_int_equal(ckpt_tensor_stream(&m.sink, cast, &err), CKPT_E_IO);
  assert_string_equal(err.message, "the sink is full");
  ckpt_tensor_release(cast);
  ckpt_tensor_release(t);
}

/* What can only be had whole: the source is asked once and nothing stays. */
static void what_is_deflated_is_had_whole(void **state) {
  (void)state;
  source s;
  count_up(&s);
  unsigned char bytes[64];
  memory m = {{keep}, bytes, 0, sizeof bytes, 0};
  ckpt_tensor *t = sourced(&s, CKPT_I32, 1, DIMS(16)), *turned = NULL;
  OK(ckpt_tensor_flip(&turned, t, 1, (const int[]){0}, NULL));
  assert_false(ckpt_storage_streams(ckpt_tensor_storage(turned)));
  OK(ckpt_tensor_stream(&m.sink, turned, NULL));
  for (uint32_t i = 0; i < 16; i++) assert_int_equal(ckpt_le32(bytes + 4 * i), 15 - i);
  assert_int_equal(s.fetched, 1);
  assert_int_equal(ckpt_tensor_heap_bytes(turned), 0);
  ckpt_tensor_release(turned);
  ckpt_tensor_release(t);
}

/* ---- memory ---- */

/* A view of a cast of a selection, joined with itself, padded: every kind of cut. */
static ckpt_status chain(ckpt_tensor **out, ckpt_tensor *made[], const ckpt_tensor *t, ckpt_error *err) {
  CKPT_TRY(ckpt_tensor_index_select(&made[0], t, 0, 3, DIMS(2, 0, 1), err));
  CKPT_TRY(ckpt_tensor_to(&made[1], made[0], CKPT_F64, err));
  CKPT_TRY(ckpt_tensor_transpose(&made[2], made[1], 0, 1, err));
  CKPT_TRY(ckpt_tensor_cat(&made[3], 2, (const ckpt_tensor *[]){made[2], made[2]}, 0, err));
  CKPT_TRY(ckpt_tensor_roll(&made[4], made[3], 1, 1, err));
  return ckpt_tensor_pad(out, made[4], DIMS(1, 0), DIMS(0, 1), ckpt_scalar_int(9), err);
}

static ckpt_status make_and_pass(void *context, ckpt_error *err) {
  unsigned char bytes[512];
  size_t done = 0;
  ckpt_tensor *made[5] = {NULL}, *t = NULL;
  ckpt_status st = chain(&t, made, context, err);
  for (size_t at = 0; st == CKPT_OK && at < ckpt_tensor_nbytes(t); at += done) /* two rows of four numbers at a time */
    st = ckpt_storage_range(bytes, &done, ckpt_tensor_storage(t), at,
                            ckpt_tensor_nbytes(t) - at < 64 ? ckpt_tensor_nbytes(t) - at : 64, err);
  for (size_t i = 0; i < CKPT_COUNTOF(made); i++) ckpt_tensor_release(made[i]);
  ckpt_tensor_release(t);
  return st;
}

static void every_allocation_can_fail(void **state) {
  (void)state;
  source s;
  count_up(&s);
  place p = {s.bytes, 0};
  ckpt_tensor *t = placed(&p, CKPT_I32, 2, DIMS(3, 4));
  assert_true(fail_each_allocation(make_and_pass, t) > 50);
  ckpt_tensor_release(t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ranges_are_the_whole),
      cmocka_unit_test(large_transposes_are_gathered_in_windows),
      cmocka_unit_test(views_and_places),
      cmocka_unit_test(a_sink_that_fails_ends_it),
      cmocka_unit_test(what_is_deflated_is_had_whole),
      cmocka_unit_test(every_allocation_can_fail),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
