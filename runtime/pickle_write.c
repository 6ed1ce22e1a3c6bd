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
#include "pickle_tensor.h"
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

typedef struct writer {
  ckpt_pickle_out out;
  ckpt_storages_out storages;
  task *tasks;
  size_t n_tasks, task_capacity;
  ckpt_ptrmap begun;   /* objects whose making is being written or was -> 0; 1: a second time inside the first; and */
                       /* sets -> how often they were begun */
  ckpt_ptrmap holders; /* see pickle_holders.h; counted when first needed */
  const ckpt_value *root;
  const ckpt_value *current; /* being written: named when it cannot be */
  ckpt_error *err;           /* never NULL inside */
} writer;

/* ---- tasks ---- */

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

/* ---- containers ---- */

static ckpt_status write_tuple(writer *w, const ckpt_value *v) {
  size_t n = v->as.seq.n;
  if (n == 0) return ckpt_out_op(&w->out, ')');
  CKPT_TRY(push(w, (task){END_TUPLE, v, NULL, n}));
  for (size_t i = n; i-- > 0;) CKPT_TRY(push(w, save(v->as.seq.items[i])));
  return n > 3 ? ckpt_out_op(&w->out, '(') : CKPT_OK;
}

/* A tuple that holds itself (by way of a list) is in the memo by now: drop the parts and get it. */
static ckpt_status end_tuple(writer *w, const ckpt_value *v, size_t n) {
  size_t id = ckpt_ptrmap_get(&w->out.memo, v);
  if (id != SIZE_MAX) {
    if (n > 3) CKPT_TRY(ckpt_out_op(&w->out, '1'));
    for (size_t i = 0; n <= 3 && i < n; i++) CKPT_TRY(ckpt_out_op(&w->out, '0'));
    return ckpt_out_get(&w->out, id);
  }
  static const unsigned char codes[] = {0, 0x85, 0x86, 0x87};
  CKPT_TRY(ckpt_out_op(&w->out, n > 3 ? 't' : codes[n]));
  return ckpt_out_put(&w->out, v);
}

static ckpt_status write_list(writer *w, const ckpt_value *v) {
  CKPT_TRY(ckpt_out_op(&w->out, ']'));
  CKPT_TRY(ckpt_out_put(&w->out, v));
  return push(w, (task){ITEMS, v, NULL, 0});
}

static ckpt_status write_dict(writer *w, const ckpt_value *v) {
  if (!v->ordered) {
    CKPT_TRY(ckpt_out_op(&w->out, '}'));
    CKPT_TRY(ckpt_out_put(&w->out, v));
    return push(w, (task){PAIRS, v, NULL, 0});
  }
  CKPT_TRY(ckpt_out_global(&w->out, "collections.OrderedDict"));
  CKPT_TRY(ckpt_out_bytes(&w->out, ")R", 2));
  CKPT_TRY(ckpt_out_put(&w->out, v));
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
  return single ? CKPT_OK : ckpt_out_op(&w->out, '(');
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

/* ---- objects ---- */

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
  CKPT_TRY(ckpt_storages_number(&number, &w->storages, v->made->storage, v->made->storage, w->err));
  CKPT_TRY(ckpt_out_op(&w->out, '('));
  /* The memo entry is the tuple's: an object met again is asked for again, as Python's pickler does. */
  CKPT_TRY(push_all(w, (task[]){op('t'), {PUT, NULL, &v->made->storage, 0}, op('Q')}, 3));
  for (size_t i = 5; i-- > 0;) {
    task part = i == 2 ? (task){STORAGE_KEY, NULL, NULL, number} : save(id->as.seq.items[i]);
    CKPT_TRY(push(w, part));
  }
  return CKPT_OK;
}

/* Arguments that lead back to their object: what only its making holds is written once more, once. */
static ckpt_status begin_object(writer *w, const ckpt_value *v) {
  size_t begun = ckpt_ptrmap_get(&w->begun, v);
  if (begun != 1) CKPT_TRY(ckpt_ptrmap_set(&w->begun, v, begun == SIZE_MAX ? 0 : 1, w->err));
  if (begun != 0) return CKPT_OK;
  if (w->holders.count == 0) CKPT_TRY(ckpt_holders_count(&w->holders, w->root, w->err));
  return ckpt_holders_forget(&w->out.memo, &w->holders, v, w->err);
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
  CKPT_TRY(ckpt_out_global(&w->out, "copy_reg.__newobj_ex__")); /* does what protocol 4 has an opcode for */
  CKPT_TRY(push_all(w, (task[]){op(0x87), {PUT, NULL, made, 0}, op('R')}, 3));
  return push_all(w, (task[]){save(made->callable), save(made->args), save(made->kwargs)}, 3);
}

/*
 * If its arguments led back to the object, it has been written whole meanwhile: this one is dropped for that one. Else
 * it is memoised, and given its items, pairs and state.
 */
static ckpt_status end_reduce(writer *w, const ckpt_value *v) {
  size_t id = ckpt_ptrmap_get(&w->out.memo, v);
  if (id != SIZE_MAX) {
    CKPT_TRY(ckpt_out_op(&w->out, '0'));
    return ckpt_out_get(&w->out, id);
  }
  CKPT_TRY(ckpt_out_put(&w->out, v));
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
  CKPT_TRY(ckpt_out_uint(&w->out, 'X', n + high, 4));
  for (size_t i = 0; i < n; i++) {
    unsigned char two[2] = {(unsigned char)(0xc0 | s[i] >> 6), (unsigned char)(0x80 | (s[i] & 0x3f))};
    CKPT_TRY(s[i] < 0x80 ? ckpt_out_bytes(&w->out, &s[i], 1) : ckpt_out_bytes(&w->out, two, 2));
  }
  return ckpt_out_number(&w->out, &id);
}

/* Leaves the bytes object on the stack, not memoised. */
static ckpt_status write_raw_bytes(writer *w, const ckpt_value *v) {
  static const char latin1_word[] = "latin1";
  size_t id;
  if (v->as.text.n == 0) {
    CKPT_TRY(ckpt_out_global(&w->out, "__builtin__.bytes"));
    return ckpt_out_bytes(&w->out, ")R", 2);
  }
  CKPT_TRY(ckpt_out_global(&w->out, "_codecs.encode"));
  CKPT_TRY(write_latin1(w, (const unsigned char *)v->as.text.bytes, v->as.text.n));
  CKPT_TRY(ckpt_out_word(&w->out, latin1_word));
  CKPT_TRY(ckpt_out_op(&w->out, 0x86));
  CKPT_TRY(ckpt_out_number(&w->out, &id));
  return ckpt_out_op(&w->out, 'R');
}

static ckpt_status write_bytes(writer *w, const ckpt_value *v) {
  if (v->bytestring) return ckpt_out_bytestring(&w->out, v);
  CKPT_TRY(write_raw_bytes(w, v));
  return ckpt_out_put(&w->out, v);
}

static ckpt_status write_bytearray(writer *w, const ckpt_value *v) {
  size_t id;
  CKPT_TRY(ckpt_out_global(&w->out, "__builtin__.bytearray"));
  if (v->as.text.n == 0) {
    CKPT_TRY(ckpt_out_bytes(&w->out, ")R", 2));
    return ckpt_out_put(&w->out, v);
  }
  CKPT_TRY(write_raw_bytes(w, v));
  CKPT_TRY(ckpt_out_number(&w->out, &id));
  CKPT_TRY(ckpt_out_op(&w->out, 0x85));
  CKPT_TRY(ckpt_out_number(&w->out, &id));
  CKPT_TRY(ckpt_out_op(&w->out, 'R'));
  return ckpt_out_put(&w->out, v);
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
  CKPT_TRY(ckpt_out_global(&w->out, v->kind == CKPT_SET ? "__builtin__.set" : "__builtin__.frozenset"));
  CKPT_TRY(ckpt_out_op(&w->out, ']'));
  CKPT_TRY(ckpt_out_number(&w->out, &id));
  const task end[] = {{ITEMS, v, NULL, 0}, op(0x85), {PUT, NULL, &v->as, 0}, op('R'), {END_REDUCE, v, NULL, 0}};
  return push_all(w, end, CKPT_COUNTOF(end));
}

/* ---- the machine ---- */

static ckpt_status write_value(writer *w, const ckpt_value *v) {
  if (v->made != NULL && v->kind != CKPT_CLASS) return write_made(w, v);
  switch (v->kind) {
    case CKPT_NONE: return ckpt_out_op(&w->out, 'N');
    case CKPT_BOOLEAN: return ckpt_out_op(&w->out, v->as.boolean ? 0x88 : 0x89);
    case CKPT_INT: return ckpt_out_int(&w->out, v->as.integer);
    case CKPT_BIGINT: return ckpt_out_bigint(&w->out, v);
    case CKPT_FLOAT: return ckpt_out_float(&w->out, v->as.number);
    case CKPT_STR: return ckpt_out_str(&w->out, v);
    case CKPT_BYTES: return write_bytes(w, v);
    case CKPT_BYTEARRAY: return write_bytearray(w, v);
    case CKPT_LIST: return write_list(w, v);
    case CKPT_TUPLE: return write_tuple(w, v);
    case CKPT_DICT: return write_dict(w, v);
    case CKPT_SET:
    case CKPT_FROZENSET: return write_set(w, v);
    case CKPT_TENSOR: return ckpt_out_tensor(&w->out, &w->storages, v);
    case CKPT_CLASS: return ckpt_out_class(&w->out, v);
    default: return ckpt_fail(w->err, CKPT_E_UNSUPPORTED, -1, "an object of no known making");
  }
}

static ckpt_status save_value(writer *w, const ckpt_value *v) {
  w->current = v;
  if (v->kind == CKPT_STR && v->made == NULL) return ckpt_out_str(&w->out, v);
  size_t id = ckpt_ptrmap_get(&w->out.memo, v->kind == CKPT_TENSOR ? ckpt_tensor_identity(v) : v);
  return id != SIZE_MAX ? ckpt_out_get(&w->out, id) : write_value(w, v);
}

static ckpt_status run_task(writer *w, task t) {
  switch (t.kind) {
    case SAVE: return save_value(w, t.value);
    case OP: return ckpt_out_op(&w->out, (unsigned char)t.n);
    case PUT: return ckpt_out_put(&w->out, t.key);
    case END_TUPLE: return end_tuple(w, t.value, t.n);
    case END_REDUCE: return end_reduce(w, t.value);
    case ITEMS: return write_items(w, t);
    case PAIRS: return write_pairs(w, t);
    default: return ckpt_storages_key(&w->out, &w->storages, t.n);
  }
}

static ckpt_status run(writer *w, const ckpt_value *root) {
  CKPT_TRY(ckpt_out_bytes(&w->out, "\x80\x02", 2));
  CKPT_TRY(push(w, save(root)));
  while (w->n_tasks > 0) CKPT_TRY(run_task(w, w->tasks[--w->n_tasks]));
  return ckpt_out_op(&w->out, '.');
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
  writer w = {.out = {.err = &here}, .root = root, .err = &here};
  ckpt_status st = run(&w, root);
  if (st == CKPT_OK) {
    *out = (ckpt_pickle){w.out.bytes, w.out.n, w.storages.storages, w.storages.n};
    w.out.bytes = NULL;
  } else {
    name_culprit(&w, root);
    free(w.storages.storages);
    if (err != NULL) *err = here;
  }
  free(w.tasks);
  ckpt_out_free(&w.out);
  ckpt_storages_out_free(&w.storages);
  ckpt_ptrmap_free(&w.begun);
  ckpt_ptrmap_free(&w.holders);
  return st;
}

void ckpt_pickle_free(ckpt_pickle *p) {
  free(p->bytes);
  free(p->storages);
  *p = (ckpt_pickle){0};
}
