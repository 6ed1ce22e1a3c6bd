/*
 * pickle_write.c - a pickler without recursion: a stack of tasks, the next one on top.
 *
 * To write a value is to push, in reverse, what its opcodes are made of: SAVE tasks for its parts, OP tasks for single
 * opcodes, PUT for the memo. The order of opcodes and memo entries is CPython's (Modules/_pickle.c: save_tuple,
 * batch_list_exact, batch_dict_exact, batch_dict, save_reduce).
 */
#include "pickle_write.h"

#include <stdlib.h>

#include "pickle_holders.h"
#include "way.h"

enum { BATCH = 1000, MAX_SETS_IN_ITSELF = 64 };

typedef enum task_kind {
  SAVE,       /* value */
  OP,         /* opcode byte in `n` */
  PUT,        /* memoise `key` */
  END_TUPLE,  /* value: opcode and memo of a tuple whose items are written; n: 1 if it began with a mark */
  END_REDUCE, /* value: memo, or take it back if the object was written while its own arguments were */
  ITEMS,      /* value's list items from `n` on */
  PAIRS,      /* value's pairs from `n` on */
  STORAGE_KEY /* number of the storage in `n` */
} task_kind;

typedef struct task {
  task_kind kind;
  const ckpt_value *value;
  const void *key;
  size_t n;
} task;

typedef struct numbered { /* what is known of a storage's number */
  size_t type;            /* of the storage class that it is written as, SIZE_MAX while none was asked for */
  size_t key;             /* memo number of its key string, SIZE_MAX while it is not written */
} numbered;

typedef struct global {
  const char *text;
  size_t id; /* memo number */
} global;

typedef struct writer {
  unsigned char *bytes;
  size_t n, capacity;
  task *tasks;
  size_t n_tasks, task_capacity;
  ckpt_ptrmap memo;
  size_t memo_count;
  ckpt_ptrmap begun;   /* objects whose making is being written or was -> 0; 1: a second time inside the first; and */
                       /* sets -> how often they were begun */
  ckpt_ptrmap holders; /* see pickle_holders.h; counted when first needed */
  const ckpt_value *root;
  ckpt_strmap classes; /* "module.name" -> memo number: Python memoises the one class object */
  global globals[4];   /* those written last */
  size_t next_global;
  ckpt_ptrmap storage_ids; /* storage (or a typed view of it) -> its number */
  ckpt_storage **storages;
  numbered *numbers; /* as many as storages */
  size_t n_storages, storage_capacity;
  const ckpt_value *current; /* being written: named when it cannot be */
  ckpt_error *err;           /* never NULL inside */
} writer;

/* ---- output ---- */

static ckpt_status room_for(writer *w, size_t n) {
  size_t capacity = w->capacity == 0 ? 4096 : w->capacity;
  while (capacity - w->n < n) capacity *= 2;
  unsigned char *more = realloc(w->bytes, capacity);
  if (more == NULL) return ckpt_fail_nomem(w->err, capacity);
  w->bytes = more;
  w->capacity = capacity;
  return CKPT_OK;
}

static ckpt_status emit(writer *w, const void *bytes, size_t n) {
  if (w->capacity - w->n < n) CKPT_TRY(room_for(w, n));
  if (n > 0) memcpy(w->bytes + w->n, bytes, n);
  w->n += n;
  return CKPT_OK;
}

static ckpt_status emit_op(writer *w, unsigned char op) {
  if (w->n == w->capacity) CKPT_TRY(room_for(w, 1));
  w->bytes[w->n++] = op;
  return CKPT_OK;
}

/* Opcode with a little-endian argument of 1, 2, 4 or 8 bytes. */
static ckpt_status emit_uint(writer *w, unsigned char op, uint64_t v, size_t bytes) {
  if (w->capacity - w->n < 9) CKPT_TRY(room_for(w, 9));
  w->bytes[w->n] = op;
  ckpt_put64(w->bytes + w->n + 1, v);
  w->n += 1 + bytes;
  return CKPT_OK;
}

static ckpt_status push(writer *w, task t) {
  if (w->n_tasks == w->task_capacity) {
    size_t capacity = w->task_capacity == 0 ? 256 : w->task_capacity * 2;
    task *more = realloc(w->tasks, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(w->err, capacity * sizeof *more);
    w->tasks = more;
    w->task_capacity = capacity;
  }
  w->tasks[w->n_tasks++] = t;
  return CKPT_OK;
}

/* Pushes tasks so that they run in the order given. */
static ckpt_status push_all(writer *w, const task *tasks, size_t n) {
  while (n-- > 0) CKPT_TRY(push(w, tasks[n]));
  return CKPT_OK;
}

static task save(const ckpt_value *v) { return (task){SAVE, v, NULL, 0}; }
static task op(unsigned char code) { return (task){OP, NULL, NULL, code}; }

/* ---- memo ---- */

static ckpt_status emit_get(writer *w, size_t id) {
  return id < 256 ? emit_uint(w, 'h', id, 1) : emit_uint(w, 'j', id, 4);
}

static ckpt_status emit_put(writer *w, size_t *id) {
  *id = w->memo_count++;
  return *id < 256 ? emit_uint(w, 'q', *id, 1) : emit_uint(w, 'r', *id, 4);
}

static ckpt_status put(writer *w, const void *key) {
  size_t id;
  CKPT_TRY(emit_put(w, &id));
  return ckpt_ptrmap_set(&w->memo, key, id, w->err);
}

/* A tensor that a program made is one object wherever it is put; a tensor of a file is one node. */
static const void *identity(const ckpt_value *v) {
  bool by_program = v->kind == CKPT_TENSOR && v->made == NULL && v->as.said == NULL;
  return by_program ? (const void *)v->as.tensor : v;
}

/* ---- atoms ---- */

static ckpt_status write_int(writer *w, int64_t v) {
  if (v >= 0 && v < 256) return emit_uint(w, 'K', (uint64_t)v, 1);
  if (v >= 0 && v < 65536) return emit_uint(w, 'M', (uint64_t)v, 2);
  if (v >= INT32_MIN && v <= INT32_MAX) return emit_uint(w, 'J', (uint64_t)v, 4);
  size_t n = 4; /* minimal two's complement: n bytes hold -limit to limit - 1 */
  for (int64_t limit = INT64_C(1) << 31; n < 8 && (v < -limit || v >= limit); n++)
    limit = n == 7 ? INT64_MAX : limit * 256;
  unsigned char b[10] = {0x8a, (unsigned char)n};
  ckpt_put64(b + 2, (uint64_t)v);
  return emit(w, b, 2 + n);
}

static ckpt_status write_bigint(writer *w, const ckpt_value *v) {
  size_t n = v->as.text.n;
  if (n > INT32_MAX) return ckpt_fail(w->err, CKPT_E_UNSUPPORTED, -1, "an integer of %zu bytes", n);
  CKPT_TRY(n < 256 ? emit_uint(w, 0x8a, n, 1) : emit_uint(w, 0x8b, n, 4));
  return emit(w, v->as.text.bytes, n);
}

static ckpt_status write_float(writer *w, double d) {
  uint64_t bits;
  unsigned char b[9] = {'G'};
  memcpy(&bits, &d, 8);
  for (int i = 0; i < 8; i++) b[1 + i] = (unsigned char)(bits >> (56 - 8 * i));
  return emit(w, b, 9);
}

static ckpt_status write_text(writer *w, const char *s, size_t n) {
  if (n > UINT32_MAX) return ckpt_fail(w->err, CKPT_E_UNSUPPORTED, -1, "a string of %zu bytes", n);
  CKPT_TRY(emit_uint(w, 'X', n, 4));
  return emit(w, s, n);
}

static ckpt_status write_bytestring(writer *w, const ckpt_value *v) {
  size_t n = v->as.text.n;
  if (n > INT32_MAX) return ckpt_fail(w->err, CKPT_E_UNSUPPORTED, -1, "a string of %zu bytes", n);
  CKPT_TRY(n < 256 ? emit_uint(w, 'U', n, 1) : emit_uint(w, 'T', n, 4));
  CKPT_TRY(emit(w, v->as.text.bytes, n));
  return put(w, v);
}

static ckpt_status write_str(writer *w, const ckpt_value *v) {
  if (v->bytestring) return write_bytestring(w, v);
  CKPT_TRY(write_text(w, v->as.text.bytes, v->as.text.n));
  return put(w, v);
}

static ckpt_status write_word(writer *w, const char *word) {
  size_t id = ckpt_ptrmap_get(&w->memo, word);
  if (id != SIZE_MAX) return emit_get(w, id);
  CKPT_TRY(write_text(w, word, strlen(word)));
  return put(w, word);
}

/* `text` is "module.name" and must outlive the writer. */
static ckpt_status write_plain_class(writer *w, const char *text, size_t module, size_t n) {
  size_t id = ckpt_strmap_get(&w->classes, text, n);
  if (id != SIZE_MAX) return emit_get(w, id);
  if (memchr(text, '\n', n) != NULL) return ckpt_fail(w->err, CKPT_E_UNSUPPORTED, -1, "a class name with a line end");
  CKPT_TRY(emit_op(w, 'c'));
  CKPT_TRY(emit(w, text, module));
  CKPT_TRY(emit_op(w, '\n'));
  CKPT_TRY(emit(w, text + module + 1, n - module - 1));
  CKPT_TRY(emit_op(w, '\n'));
  CKPT_TRY(emit_put(w, &id));
  return ckpt_strmap_set(&w->classes, text, n, id, w->err);
}

/* `text` is static; the few that every tensor names are found by their addresses. */
static ckpt_status write_global(writer *w, const char *text) {
  const char *dot;
  for (size_t i = 0; i < CKPT_COUNTOF(w->globals); i++)
    if (w->globals[i].text == text) return emit_get(w, w->globals[i].id);
  dot = strrchr(text, '.');
  CKPT_TRY(write_plain_class(w, text, (size_t)(dot - text), strlen(text)));
  w->globals[w->next_global++ % CKPT_COUNTOF(w->globals)] =
      (global){text, ckpt_strmap_get(&w->classes, text, strlen(text))};
  return CKPT_OK;
}

/* Before protocol 4 a GLOBAL has no dots: Outer.Inner is getattr(Outer, "Inner"). */
static ckpt_status write_class(writer *w, const ckpt_value *v) {
  const char *text = v->as.text.bytes, *end = text + v->as.text.n, *name = text + v->as.text.module + 1;
  const char *dot = memchr(name, '.', (size_t)(end - name));
  size_t id;
  if (dot == NULL) return write_plain_class(w, text, v->as.text.module, v->as.text.n);
  for (const char *p = dot; p < end; p++)
    if (*p == '.') CKPT_TRY(write_global(w, "__builtin__.getattr"));
  CKPT_TRY(write_plain_class(w, text, v->as.text.module, (size_t)(dot - text)));
  while (dot != end) {
    const char *part = dot + 1, *next = memchr(part, '.', (size_t)(end - part));
    dot = next == NULL ? end : next;
    CKPT_TRY(write_text(w, part, (size_t)(dot - part)));
    CKPT_TRY(emit_put(w, &id));
    CKPT_TRY(emit_op(w, 0x86));
    CKPT_TRY(emit_put(w, &id));
    CKPT_TRY(emit_op(w, 'R'));
    if (dot != end) CKPT_TRY(emit_put(w, &id));
  }
  return put(w, v);
}

/* ---- containers ---- */

static ckpt_status write_tuple(writer *w, const ckpt_value *v) {
  size_t n = v->as.seq.n;
  if (n == 0) return emit_op(w, ')');
  CKPT_TRY(push(w, (task){END_TUPLE, v, NULL, n}));
  for (size_t i = n; i-- > 0;) CKPT_TRY(push(w, save(v->as.seq.items[i])));
  return n > 3 ? emit_op(w, '(') : CKPT_OK;
}

/* A tuple that holds itself (by way of a list) is in the memo by now: drop the parts and get it. */
static ckpt_status end_tuple(writer *w, const ckpt_value *v, size_t n) {
  size_t id = ckpt_ptrmap_get(&w->memo, v);
  if (id != SIZE_MAX) {
    if (n > 3) CKPT_TRY(emit_op(w, '1'));
    for (size_t i = 0; n <= 3 && i < n; i++) CKPT_TRY(emit_op(w, '0'));
    return emit_get(w, id);
  }
  static const unsigned char codes[] = {0, 0x85, 0x86, 0x87};
  CKPT_TRY(emit_op(w, n > 3 ? 't' : codes[n]));
  return put(w, v);
}

static ckpt_status write_list(writer *w, const ckpt_value *v) {
  CKPT_TRY(emit_op(w, ']'));
  CKPT_TRY(put(w, v));
  return push(w, (task){ITEMS, v, NULL, 0});
}

static ckpt_status write_dict(writer *w, const ckpt_value *v) {
  if (!v->ordered) {
    CKPT_TRY(emit_op(w, '}'));
    CKPT_TRY(put(w, v));
    return push(w, (task){PAIRS, v, NULL, 0});
  }
  CKPT_TRY(write_global(w, "collections.OrderedDict"));
  CKPT_TRY(emit(w, ")R", 2));
  CKPT_TRY(put(w, v));
  const ckpt_value *state = v->as.dict->state;
  if (state != NULL) CKPT_TRY(push_all(w, (task[]){save(state), op('b')}, 2));
  return push(w, (task){PAIRS, v, NULL, 0});
}

/*
 * One batch. An exact list or dict of one entry, and the last single entry of what Python iterates over (an
 * OrderedDict, an object's items), go without a mark.
 */
static ckpt_status write_batch(writer *w, task t, ckpt_value *const *flat, size_t total, size_t width, bool exact) {
  size_t left = total - t.n;
  if (left == 0) return CKPT_OK;
  bool single = left == 1 && (!exact || total == 1);
  size_t count = left < BATCH ? left : BATCH;
  t.n += count;
  if (left > count) CKPT_TRY(push(w, (task){t.kind, t.value, NULL, t.n}));
  unsigned char one = width == 1 ? 'a' : 's', many = width == 1 ? 'e' : 'u';
  CKPT_TRY(push(w, op(single ? one : many)));
  for (size_t i = t.n * width; i-- > (t.n - count) * width;) CKPT_TRY(push(w, save(flat[i])));
  return single ? CKPT_OK : emit_op(w, '(');
}

static ckpt_status write_items(writer *w, task t) {
  const ckpt_value *v = t.value;
  const ckpt_seq *seq = v->kind == CKPT_OBJECT ? &v->as.object->items : &v->as.seq;
  return write_batch(w, t, seq->items, seq->n, 1, v->kind != CKPT_OBJECT);
}

static ckpt_status write_pairs(writer *w, task t) {
  const ckpt_dict *d = ckpt_value_dict(t.value);
  return write_batch(w, t, d->flat.items, d->flat.n / 2, 2, t.value->kind == CKPT_DICT && !t.value->ordered);
}

/* ---- storages and tensors ---- */

static ckpt_status room_for_storage(writer *w) {
  if (w->n_storages < w->storage_capacity) return CKPT_OK;
  size_t capacity = w->storage_capacity == 0 ? 64 : w->storage_capacity * 2;
  ckpt_storage **more = realloc(w->storages, capacity * sizeof *more);
  if (more == NULL) return ckpt_fail_nomem(w->err, capacity * sizeof *more);
  w->storages = more;
  numbered *numbers = realloc(w->numbers, capacity * sizeof *numbers);
  if (numbers == NULL) return ckpt_fail_nomem(w->err, capacity * sizeof *numbers);
  w->numbers = numbers;
  w->storage_capacity = capacity;
  return CKPT_OK;
}

/* A storage's number in order of first appearance. `key` tells apart what must not share a record. */
static ckpt_status number_storage(size_t *out, writer *w, ckpt_storage *s, const void *key) {
  *out = ckpt_ptrmap_get(&w->storage_ids, key);
  if (*out != SIZE_MAX) return CKPT_OK;
  CKPT_TRY(room_for_storage(w));
  *out = w->n_storages;
  w->numbers[w->n_storages] = (numbered){SIZE_MAX, SIZE_MAX};
  w->storages[w->n_storages++] = s;
  return ckpt_ptrmap_set(&w->storage_ids, key, *out, w->err);
}

static ckpt_status write_storage_key(writer *w, size_t number) {
  if (w->numbers[number].key != SIZE_MAX) return emit_get(w, w->numbers[number].key);
  char text[24];
  size_t n = 0, digits = number;
  do {
    text[sizeof text - ++n] = (char)('0' + digits % 10);
    digits /= 10;
  } while (digits > 0);
  CKPT_TRY(write_text(w, text + sizeof text - n, n));
  return emit_put(w, &w->numbers[number].key);
}

/*
 * A persistent id that came from a file: the same tuple with the storage's new key. What is memoised is the tuple,
 * which nothing gets again: a storage object that the file memoised (TorchScript does) is written once more, as Python
 * would.
 */
static ckpt_status write_persid(writer *w, const ckpt_value *v) {
  const ckpt_value *id = v->made->args;
  size_t number;
  if (v->made->storage == NULL || id->kind != CKPT_TUPLE)
    return ckpt_fail(w->err, CKPT_E_UNSUPPORTED, -1, "a persistent id of something that the file does not hold");
  CKPT_TRY(number_storage(&number, w, v->made->storage, v->made->storage));
  CKPT_TRY(emit_op(w, '('));
  /* The memo entry is the tuple's: an object met again is asked for again, as Python's pickler does. */
  CKPT_TRY(push_all(w, (task[]){op('t'), {PUT, NULL, &v->made->storage, 0}, op('Q')}, 3));
  for (size_t i = 5; i-- > 0;) {
    task part = i == 2 ? (task){STORAGE_KEY, NULL, NULL, number} : save(id->as.seq.items[i]);
    CKPT_TRY(push(w, part));
  }
  return CKPT_OK;
}

/* One storage under two storage classes would be read back with the first one's dtype: it gets a record for each. */
static ckpt_status number_typed(size_t *number, writer *w, ckpt_storage *s, ckpt_dtype dtype) {
  size_t type = ckpt_dtype_rebuild(dtype) == CKPT_REBUILD_V3 ? CKPT_DTYPE_COUNT : (size_t)dtype;
  CKPT_TRY(number_storage(number, w, s, s));
  numbered *first = &w->numbers[*number];
  if (first->type == SIZE_MAX) first->type = type;
  if (first->type == type) return CKPT_OK;
  return number_storage(number, w, s, (const char *)s + 2 + type); /* an address inside the allocation: nobody else's */
}

static ckpt_status write_dims(writer *w, const int64_t *dims, int n) {
  static const unsigned char codes[] = {')', 0x85, 0x86, 0x87};
  if (n > 3) CKPT_TRY(emit_op(w, '('));
  for (int i = 0; i < n; i++) CKPT_TRY(write_int(w, dims[i]));
  CKPT_TRY(emit_op(w, n > 3 ? 't' : codes[n]));
  size_t id;
  return n == 0 ? CKPT_OK : emit_put(w, &id);
}

static ckpt_status write_class_of(writer *w, ckpt_dtype dtype) {
  static const char *const names[CKPT_DTYPE_COUNT] = {
#define NAME_V2(storage) "torch." storage
#define NAME_V3(storage) "torch.storage." storage
#define NAME_Q(storage) "torch." storage
#define CKPT_X(id, name, bytes, rebuild, storage, numeric) NAME_##rebuild(storage),
      CKPT_DTYPE_MAP(CKPT_X)
#undef CKPT_X
  };
  return write_global(w, names[dtype]);
}

static ckpt_status write_dtype(writer *w, ckpt_dtype dtype) {
  static const char *const names[CKPT_DTYPE_COUNT] = {
#define CKPT_X(id, name, bytes, rebuild, storage, numeric) "torch." name,
      CKPT_DTYPE_MAP(CKPT_X)
#undef CKPT_X
  };
  return write_global(w, names[dtype]);
}

static ckpt_status write_own_persid(writer *w, const ckpt_tensor *t) {
  static const char storage_word[] = "storage", cpu_word[] = "cpu";
  ckpt_storage *s = ckpt_tensor_storage(t);
  ckpt_dtype dtype = ckpt_tensor_dtype(t);
  bool untyped = ckpt_dtype_rebuild(dtype) == CKPT_REBUILD_V3;
  size_t number, unit = untyped ? 1 : ckpt_dtype_size(dtype), id;
  if (ckpt_storage_size(s) % unit != 0)
    return ckpt_fail(w->err, CKPT_E_UNSUPPORTED, -1, "a storage of %zu bytes under a %s tensor", ckpt_storage_size(s),
                     ckpt_dtype_name(dtype));
  CKPT_TRY(number_typed(&number, w, s, dtype));
  CKPT_TRY(emit_op(w, '('));
  CKPT_TRY(write_word(w, storage_word));
  CKPT_TRY(write_class_of(w, dtype));
  CKPT_TRY(write_storage_key(w, number));
  CKPT_TRY(write_word(w, cpu_word));
  CKPT_TRY(write_int(w, (int64_t)(ckpt_storage_size(s) / unit)));
  CKPT_TRY(emit_op(w, 't'));
  CKPT_TRY(emit_put(w, &id));
  return emit_op(w, 'Q');
}

/* A string or class, which is in the memo or goes there. */
static ckpt_status save_word(writer *w, const ckpt_value *v) {
  size_t id = ckpt_ptrmap_get(&w->memo, v);
  if (id != SIZE_MAX) return emit_get(w, id);
  return v->kind == CKPT_STR ? write_str(w, v) : write_class(w, v);
}

static ckpt_status write_empty_ordered_dict(writer *w) {
  size_t id;
  CKPT_TRY(write_global(w, "collections.OrderedDict"));
  CKPT_TRY(emit(w, ")R", 2));
  return emit_put(w, &id);
}

static ckpt_status write_bits(writer *w, const ckpt_tensor *t) {
  static const char conj_word[] = "conj", neg_word[] = "neg";
  size_t id;
  CKPT_TRY(emit_op(w, '}'));
  CKPT_TRY(emit_put(w, &id));
  if (ckpt_tensor_conj(t)) {
    CKPT_TRY(write_word(w, conj_word));
    CKPT_TRY(emit(w, "\x88s", 2));
  }
  if (!ckpt_tensor_neg(t)) return CKPT_OK;
  CKPT_TRY(write_word(w, neg_word));
  return emit(w, "\x88s", 2);
}

static ckpt_status write_meta(writer *w, const ckpt_tensor *t) {
  int n = ckpt_tensor_ndim(t);
  size_t id;
  CKPT_TRY(write_global(w, "torch._utils._rebuild_meta_tensor_no_storage"));
  CKPT_TRY(emit_op(w, '('));
  CKPT_TRY(write_dtype(w, ckpt_tensor_dtype(t)));
  CKPT_TRY(write_dims(w, ckpt_tensor_shape(t), n));
  CKPT_TRY(write_dims(w, ckpt_tensor_stride(t), n));
  CKPT_TRY(emit_op(w, ckpt_tensor_requires_grad(t) ? 0x88 : 0x89));
  CKPT_TRY(emit_op(w, 't'));
  CKPT_TRY(emit_put(w, &id));
  CKPT_TRY(emit_op(w, 'R'));
  return put(w, t);
}

/* A tensor that a program made, as torch.save writes it. */
static ckpt_status write_tensor(writer *w, const ckpt_tensor *t) {
  ckpt_rebuild rebuild = ckpt_dtype_rebuild(ckpt_tensor_dtype(t));
  int n = ckpt_tensor_ndim(t);
  size_t id;
  if (rebuild == CKPT_REBUILD_Q)
    return ckpt_fail(w->err, CKPT_E_UNSUPPORTED, -1, "a quantised tensor without its scale");
  if (ckpt_tensor_is_meta(t)) return write_meta(w, t);
  bool v3 = rebuild == CKPT_REBUILD_V3;
  CKPT_TRY(write_global(w, v3 ? "torch._utils._rebuild_tensor_v3" : "torch._utils._rebuild_tensor_v2"));
  CKPT_TRY(emit_op(w, '('));
  CKPT_TRY(write_own_persid(w, t));
  CKPT_TRY(write_int(w, ckpt_tensor_offset(t)));
  CKPT_TRY(write_dims(w, ckpt_tensor_shape(t), n));
  CKPT_TRY(write_dims(w, ckpt_tensor_stride(t), n));
  CKPT_TRY(emit_op(w, ckpt_tensor_requires_grad(t) ? 0x88 : 0x89));
  CKPT_TRY(write_empty_ordered_dict(w));
  if (v3) CKPT_TRY(write_dtype(w, ckpt_tensor_dtype(t)));
  if (ckpt_tensor_conj(t) || ckpt_tensor_neg(t)) CKPT_TRY(write_bits(w, t));
  CKPT_TRY(emit_op(w, 't'));
  CKPT_TRY(emit_put(w, &id));
  CKPT_TRY(emit_op(w, 'R'));
  return put(w, t);
}

/* A plain tensor of a file, with that file's own words. None of them pushes a task. */
static ckpt_status write_said(writer *w, const ckpt_value *v) {
  const ckpt_tensor *t = v->as.tensor;
  ckpt_storage *s = ckpt_tensor_storage(t);
  const ckpt_wording *said = v->as.said;
  int n = ckpt_tensor_ndim(t);
  size_t number, id;
  CKPT_TRY(number_storage(&number, w, s, s));
  CKPT_TRY(write_global(w, "torch._utils._rebuild_tensor_v2"));
  CKPT_TRY(emit(w, "((", 2));
  CKPT_TRY(save_word(w, said->tag));
  CKPT_TRY(save_word(w, said->storage_class));
  CKPT_TRY(write_storage_key(w, number));
  CKPT_TRY(save_word(w, said->location));
  CKPT_TRY(write_int(w, (int64_t)(ckpt_storage_size(s) / ckpt_dtype_size(ckpt_tensor_dtype(t)))));
  CKPT_TRY(emit_op(w, 't'));
  CKPT_TRY(emit_put(w, &id));
  CKPT_TRY(emit_op(w, 'Q'));
  CKPT_TRY(write_int(w, ckpt_tensor_offset(t)));
  CKPT_TRY(write_dims(w, ckpt_tensor_shape(t), n));
  CKPT_TRY(write_dims(w, ckpt_tensor_stride(t), n));
  CKPT_TRY(emit_op(w, ckpt_tensor_requires_grad(t) ? 0x88 : 0x89));
  CKPT_TRY(write_empty_ordered_dict(w));
  CKPT_TRY(emit_op(w, 't'));
  CKPT_TRY(emit_put(w, &id));
  CKPT_TRY(emit_op(w, 'R'));
  return put(w, v);
}

/* ---- objects ---- */

/* Arguments that lead back to their object: what only its making holds is written once more, once. */
static ckpt_status begin_object(writer *w, const ckpt_value *v) {
  size_t begun = ckpt_ptrmap_get(&w->begun, v);
  if (begun != 1) CKPT_TRY(ckpt_ptrmap_set(&w->begun, v, begun == SIZE_MAX ? 0 : 1, w->err));
  if (begun != 0) return CKPT_OK;
  if (w->holders.count == 0) CKPT_TRY(ckpt_holders_count(&w->holders, w->root, w->err));
  return ckpt_holders_forget(&w->memo, &w->holders, v, w->err);
}

/* An object as the file said it: callable, arguments, then what it was given. */
static ckpt_status write_made(writer *w, const ckpt_value *v) {
  const ckpt_made *made = v->made;
  if (made->how == CKPT_BY_PERSID) return write_persid(w, v);
  CKPT_TRY(begin_object(w, v));
  CKPT_TRY(push(w, (task){END_REDUCE, v, NULL, 0}));
  if (made->how != CKPT_BY_NEWOBJ_EX) {
    unsigned char code = made->how == CKPT_BY_NEWOBJ ? 0x81 : 'R';
    return push_all(w, (task[]){save(made->callable), save(made->args), op(code)}, 3);
  }
  CKPT_TRY(write_global(w, "copy_reg.__newobj_ex__")); /* does what protocol 4 has an opcode for */
  CKPT_TRY(push_all(w, (task[]){op(0x87), {PUT, NULL, made, 0}, op('R')}, 3));
  return push_all(w, (task[]){save(made->callable), save(made->args), save(made->kwargs)}, 3);
}

/*
 * If its arguments led back to the object, it has been written whole meanwhile: this one is dropped for that one. Else
 * it is memoised, and given its items, pairs and state.
 */
static ckpt_status end_reduce(writer *w, const ckpt_value *v) {
  size_t id = ckpt_ptrmap_get(&w->memo, v);
  if (id != SIZE_MAX) {
    CKPT_TRY(emit_op(w, '0'));
    return emit_get(w, id);
  }
  CKPT_TRY(put(w, v));
  if (v->kind != CKPT_OBJECT) return CKPT_OK;
  const ckpt_value *state = v->as.object->state;
  if (state != NULL) CKPT_TRY(push_all(w, (task[]){save(state), op('b')}, 2));
  return push_all(w, (task[]){{ITEMS, v, NULL, 0}, {PAIRS, v, NULL, 0}}, 2);
}

/* Latin-1 bytes as UTF-8 text, the way Python 3 writes bytes in protocol 2. */
static ckpt_status write_latin1(writer *w, const unsigned char *s, size_t n) {
  size_t high = 0, id;
  for (size_t i = 0; i < n; i++) high += s[i] >= 0x80;
  if (n + high > UINT32_MAX) return ckpt_fail(w->err, CKPT_E_UNSUPPORTED, -1, "%zu bytes in one object", n);
  CKPT_TRY(emit_uint(w, 'X', n + high, 4));
  for (size_t i = 0; i < n; i++) {
    unsigned char two[2] = {(unsigned char)(0xc0 | s[i] >> 6), (unsigned char)(0x80 | (s[i] & 0x3f))};
    CKPT_TRY(s[i] < 0x80 ? emit(w, &s[i], 1) : emit(w, two, 2));
  }
  return emit_put(w, &id);
}

/* Leaves the bytes object on the stack, not memoised. */
static ckpt_status write_raw_bytes(writer *w, const ckpt_value *v) {
  static const char latin1_word[] = "latin1";
  size_t id;
  if (v->as.text.n == 0) {
    CKPT_TRY(write_global(w, "__builtin__.bytes"));
    return emit(w, ")R", 2);
  }
  CKPT_TRY(write_global(w, "_codecs.encode"));
  CKPT_TRY(write_latin1(w, (const unsigned char *)v->as.text.bytes, v->as.text.n));
  CKPT_TRY(write_word(w, latin1_word));
  CKPT_TRY(emit_op(w, 0x86));
  CKPT_TRY(emit_put(w, &id));
  return emit_op(w, 'R');
}

static ckpt_status write_bytes(writer *w, const ckpt_value *v) {
  if (v->bytestring) return write_bytestring(w, v);
  CKPT_TRY(write_raw_bytes(w, v));
  return put(w, v);
}

static ckpt_status write_bytearray(writer *w, const ckpt_value *v) {
  size_t id;
  CKPT_TRY(write_global(w, "__builtin__.bytearray"));
  if (v->as.text.n == 0) {
    CKPT_TRY(emit(w, ")R", 2));
    return put(w, v);
  }
  CKPT_TRY(write_raw_bytes(w, v));
  CKPT_TRY(emit_put(w, &id));
  CKPT_TRY(emit_op(w, 0x85));
  CKPT_TRY(emit_put(w, &id));
  CKPT_TRY(emit_op(w, 'R'));
  return put(w, v);
}

/*
 * Items that lead back to their set have it written inside itself, until they are all in the memo. One that never comes
 * into the memo (a tuple) would go on for ever; Python's pickler ends in a RecursionError there.
 */
static ckpt_status begin_set(writer *w, const ckpt_value *v) {
  size_t begun = ckpt_ptrmap_get(&w->begun, v);
  if (begun == SIZE_MAX) begun = 0;
  if (begun == MAX_SETS_IN_ITSELF)
    return ckpt_fail(w->err, CKPT_E_UNSUPPORTED, -1, "a set whose items hold it, which protocol 2 cannot say");
  return ckpt_ptrmap_set(&w->begun, v, begun + 1, w->err);
}

/* set([items]) and frozenset([items]): the list is nobody's but ours. */
static ckpt_status write_set(writer *w, const ckpt_value *v) {
  size_t id;
  CKPT_TRY(begin_set(w, v));
  CKPT_TRY(write_global(w, v->kind == CKPT_SET ? "__builtin__.set" : "__builtin__.frozenset"));
  CKPT_TRY(emit_op(w, ']'));
  CKPT_TRY(emit_put(w, &id));
  const task end[] = {{ITEMS, v, NULL, 0}, op(0x85), {PUT, NULL, &v->as, 0}, op('R'), {END_REDUCE, v, NULL, 0}};
  return push_all(w, end, CKPT_COUNTOF(end));
}

/* ---- the machine ---- */

static ckpt_status write_value(writer *w, const ckpt_value *v) {
  if (v->made != NULL && v->kind != CKPT_CLASS) return write_made(w, v);
  switch (v->kind) {
    case CKPT_NONE: return emit_op(w, 'N');
    case CKPT_BOOLEAN: return emit_op(w, v->as.boolean ? 0x88 : 0x89);
    case CKPT_INT: return write_int(w, v->as.integer);
    case CKPT_BIGINT: return write_bigint(w, v);
    case CKPT_FLOAT: return write_float(w, v->as.number);
    case CKPT_STR: return write_str(w, v);
    case CKPT_BYTES: return write_bytes(w, v);
    case CKPT_BYTEARRAY: return write_bytearray(w, v);
    case CKPT_LIST: return write_list(w, v);
    case CKPT_TUPLE: return write_tuple(w, v);
    case CKPT_DICT: return write_dict(w, v);
    case CKPT_SET:
    case CKPT_FROZENSET: return write_set(w, v);
    case CKPT_TENSOR: return v->as.said != NULL ? write_said(w, v) : write_tensor(w, v->as.tensor);
    case CKPT_CLASS: return write_class(w, v);
    default: return ckpt_fail(w->err, CKPT_E_UNSUPPORTED, -1, "an object of no known making");
  }
}

static ckpt_status save_value(writer *w, const ckpt_value *v) {
  w->current = v;
  size_t id = ckpt_ptrmap_get(&w->memo, identity(v));
  return id != SIZE_MAX ? emit_get(w, id) : write_value(w, v);
}

static ckpt_status run_task(writer *w, task t) {
  switch (t.kind) {
    case SAVE: return save_value(w, t.value);
    case OP: return emit_op(w, (unsigned char)t.n);
    case PUT: return put(w, t.key);
    case END_TUPLE: return end_tuple(w, t.value, t.n);
    case END_REDUCE: return end_reduce(w, t.value);
    case ITEMS: return write_items(w, t);
    case PAIRS: return write_pairs(w, t);
    default: return write_storage_key(w, t.n);
  }
}

static ckpt_status run(writer *w, const ckpt_value *root) {
  CKPT_TRY(emit(w, "\x80\x02", 2));
  CKPT_TRY(push(w, save(root)));
  while (w->n_tasks > 0) CKPT_TRY(run_task(w, w->tasks[--w->n_tasks]));
  return emit_op(w, '.');
}

/* Puts the path of the value that could not be written before the message. */
static void name_culprit(const writer *w, const ckpt_value *root) {
  ckpt_places p = {0};
  ckpt_way start = {.step = CKPT_STEP_ROOT};
  char *path = NULL;
  if (w->err->status != CKPT_E_UNSUPPORTED) return;
  ckpt_status st = ckpt_places_add(&p, root, &start, NULL, NULL);
  if (st == CKPT_OK) st = ckpt_places_walk(&p, 0, NULL);
  size_t at = st == CKPT_OK ? ckpt_ptrmap_get(&p.seen, w->current) : SIZE_MAX;
  if (at != SIZE_MAX && ckpt_places_path(&path, &p, at, NULL) == CKPT_OK && path[0] != '\0')
    ckpt_fail_in(w->err, w->err->status, path);
  free(path);
  ckpt_places_free(&p);
}

ckpt_status ckpt_pickle_write(ckpt_pickle *out, const ckpt_value *root, ckpt_error *err) {
  ckpt_error here = {0};
  writer w = {.root = root, .err = &here};
  ckpt_status st = run(&w, root);
  if (st == CKPT_OK) {
    *out = (ckpt_pickle){w.bytes, w.n, w.storages, w.n_storages};
  } else {
    name_culprit(&w, root);
    free(w.bytes);
    free(w.storages);
    if (err != NULL) *err = here;
  }
  free(w.tasks);
  ckpt_ptrmap_free(&w.memo);
  ckpt_ptrmap_free(&w.begun);
  ckpt_ptrmap_free(&w.holders);
  ckpt_strmap_free(&w.classes);
  ckpt_ptrmap_free(&w.storage_ids);
  free(w.numbers);
  return st;
}

void ckpt_pickle_free(ckpt_pickle *p) {
  free(p->bytes);
  free(p->storages);
  *p = (ckpt_pickle){0};
}
