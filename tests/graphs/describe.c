/* describe.c - see describe.h. A stack of values and literal lines: depth costs no stack of C. */
#include "describe.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "ptrmap.h"
#include "repr.h"

typedef struct todo {
  const ckpt_value *value;
  const char *line; /* instead of a value */
  size_t count;     /* appended to a line that is not "-" */
} todo;

typedef struct walk {
  text *out;
  todo *todo;
  size_t n, capacity;
  ckpt_ptrmap numbers, storages;
  size_t n_nodes, n_storages;
} walk;

/* ---- text ---- */

void text_add(text *t, const void *bytes, size_t n) {
  if (t->capacity - t->n < n + 1) {
    t->capacity = 2 * (t->capacity + n) + 4096;
    t->bytes = realloc(t->bytes, t->capacity);
    if (t->bytes == NULL) exit(3);
  }
  if (n > 0) memcpy(t->bytes + t->n, bytes, n);
  t->n += n;
  t->bytes[t->n] = '\0';
}

void text_printf(text *t, const char *format, ...) {
  char line[512];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(line, sizeof line, format, args);
  va_end(args);
  if (n < 0 || (size_t)n >= sizeof line) exit(3);
  text_add(t, line, (size_t)n);
}

static void add_hex(text *t, const void *bytes, size_t n) {
  static const char digits[] = "0123456789abcdef";
  for (size_t i = 0; i < n; i++) {
    unsigned char b = ((const unsigned char *)bytes)[i];
    char two[2] = {digits[b >> 4], digits[b & 15]};
    text_add(t, two, 2);
  }
}

static void add_counted(text *t, char kind, const ckpt_value *v) {
  text_printf(t, "%c%zu:", kind, v->as.text.n);
  text_add(t, v->as.text.bytes, v->as.text.n);
  text_add(t, "\n", 1);
}

/* ---- what is still to be walked ---- */

static void later(walk *w, todo t) {
  if (w->n == w->capacity) {
    w->capacity = w->capacity == 0 ? 256 : 2 * w->capacity;
    w->todo = realloc(w->todo, w->capacity * sizeof *w->todo);
    if (w->todo == NULL) exit(3);
  }
  w->todo[w->n++] = t;
}

static void later_value(walk *w, const ckpt_value *v) { later(w, (todo){v, "-", 0}); }

/* Pushes are in reverse: what is pushed last is walked first. */
static void later_seq(walk *w, const ckpt_seq *seq) {
  for (size_t i = seq->n; i-- > 0;) later_value(w, seq->items[i]);
}

/* ---- atoms ---- */

static void put_int(walk *w, int64_t i) {
  unsigned char b[8];
  size_t n = 8;
  ckpt_put64(b, (uint64_t)i);
  while (n > 1 && ((b[n - 1] == 0 && b[n - 2] < 0x80) || (b[n - 1] == 0xff && b[n - 2] >= 0x80))) n--;
  text_add(w->out, "i", 1);
  add_hex(w->out, b, n);
  text_add(w->out, "\n", 1);
}

static void put_float(walk *w, const ckpt_value *v) {
  uint64_t bits;
  char *repr = NULL;
  size_t n = 0;
  memcpy(&bits, &v->as.number, 8);
  if (ckpt_repr(&repr, &n, v, 100, NULL) != CKPT_OK) exit(3);
  text_printf(w->out, "f%016llx %s\n", (unsigned long long)bits, repr);
  free(repr);
}

static void put_class(walk *w, const ckpt_value *v) {
  size_t n = 0;
  const char *name = ckpt_value_class_name(v, &n);
  text_add(w->out, "c", 1);
  text_add(w->out, v->as.text.bytes, v->as.text.module);
  text_add(w->out, " ", 1);
  text_add(w->out, name, n);
  text_add(w->out, "\n", 1);
}

/* ---- tensors ---- */

static const char *rebuild_name(const ckpt_value *v, size_t *n) {
  static const char *const made_here[] = {"_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor"};
  const ckpt_tensor *t = v->as.tensor;
  if (v->made != NULL) return ckpt_value_class_name(v->made->callable, n);
  const char *name =
      ckpt_tensor_is_meta(t) ? "_rebuild_meta_tensor_no_storage" : made_here[ckpt_dtype_rebuild(ckpt_tensor_dtype(t))];
  *n = strlen(name);
  return name;
}

static void put_dims(walk *w, const int64_t *dims, int n) {
  text_add(w->out, " (", 2);
  for (int i = 0; i < n; i++) text_printf(w->out, i == 0 ? "%lld" : ",%lld", (long long)dims[i]);
  text_add(w->out, ")", 1);
}

/* A storage's number, and at its first appearance its bytes. */
static void put_storage(walk *w, ckpt_storage *s) {
  size_t number = ckpt_ptrmap_get(&w->storages, s);
  unsigned char *data = NULL;
  if (number != SIZE_MAX) {
    text_printf(w->out, " #%zu\n", number);
    return;
  }
  if (ckpt_ptrmap_set(&w->storages, s, w->n_storages, NULL) != CKPT_OK) exit(3);
  text_printf(w->out, " #%zu=", w->n_storages++);
  if (ckpt_storage_data(&data, s, NULL) != CKPT_OK) exit(3);
  add_hex(w->out, data, ckpt_storage_size(s));
  text_add(w->out, "\n", 1);
}

/* What a rebuild function takes beside the view: the inner tensor of a parameter and its state, a scale, attributes. */
static void later_extras(walk *w, const ckpt_value *v, const char *name, size_t n) {
  static const struct {
    const char *name;
    size_t first, second;
  } extras[] = {{"_rebuild_parameter", 0, SIZE_MAX},
                {"_rebuild_parameter_with_state", 0, 3},
                {"_rebuild_qtensor", 4, SIZE_MAX},
                {"_rebuild_from_type_v2", 1, 3}};
  for (size_t i = 0; v->made != NULL && i < CKPT_COUNTOF(extras); i++) {
    if (strlen(extras[i].name) != n || memcmp(extras[i].name, name, n) != 0) continue;
    if (extras[i].second != SIZE_MAX) later_value(w, v->made->args->as.seq.items[extras[i].second]);
    later_value(w, v->made->args->as.seq.items[extras[i].first]);
  }
}

static void put_tensor(walk *w, const ckpt_value *v) {
  const ckpt_tensor *t = v->as.tensor;
  size_t n = 0;
  const char *name = rebuild_name(v, &n);
  text_add(w->out, "X", 1);
  text_add(w->out, name, n);
  text_printf(w->out, " %s", ckpt_dtype_name(ckpt_tensor_dtype(t)));
  put_dims(w, ckpt_tensor_shape(t), ckpt_tensor_ndim(t));
  put_dims(w, ckpt_tensor_stride(t), ckpt_tensor_ndim(t));
  text_printf(w->out, " %lld%s%s%s", (long long)ckpt_tensor_offset(t), ckpt_tensor_requires_grad(t) ? " grad" : "",
              ckpt_tensor_conj(t) ? " conj" : "", ckpt_tensor_neg(t) ? " neg" : "");
  later_extras(w, v, name, n);
  if (ckpt_tensor_is_meta(t))
    text_add(w->out, " meta\n", 6);
  else
    put_storage(w, ckpt_tensor_storage(t));
}

/* ---- nodes ---- */

static void put_object(walk *w, const ckpt_value *v) {
  static const char *const how[] = {"reduce", "newobj", "newobj_ex", "persid"};
  const ckpt_object *o = v->as.object;
  text_printf(w->out, "O%s\n", how[v->made->how]);
  later_value(w, o->state);
  later_seq(w, &o->dict.flat);
  later(w, (todo){NULL, "d", o->dict.flat.n / 2});
  later_seq(w, &o->items);
  later(w, (todo){NULL, "l", o->items.n});
  later_value(w, v->made->kwargs);
  later_value(w, v->made->args);
  later_value(w, v->made->callable);
}

static void put_dict(walk *w, const ckpt_value *v) {
  const ckpt_dict *d = v->as.dict;
  text_printf(w->out, "%c%zu\n", v->ordered ? 'o' : 'd', d->flat.n / 2);
  if (v->ordered) later_value(w, d->state);
  later_seq(w, &d->flat);
}

static void put_seq(walk *w, char kind, const ckpt_value *v) {
  text_printf(w->out, "%c%zu\n", kind, v->as.seq.n);
  later_seq(w, &v->as.seq);
}

static bool has_identity(const ckpt_value *v) {
  switch (v->kind) {
    case CKPT_TUPLE: return v->as.seq.n > 0 || v->made != NULL;
    case CKPT_FROZENSET: return v->as.seq.n > 0;
    case CKPT_BYTEARRAY:
    case CKPT_LIST:
    case CKPT_DICT:
    case CKPT_SET:
    case CKPT_TENSOR:
    case CKPT_OBJECT: return true;
    default: return false;
  }
}

static const void *identity(const ckpt_value *v) {
  return v->kind == CKPT_TENSOR && v->made == NULL ? (const void *)v->as.tensor : v;
}

static void put_value(walk *w, const ckpt_value *v) {
  switch (v->kind) {
    case CKPT_NONE: text_add(w->out, "N\n", 2); break;
    case CKPT_BOOLEAN: text_add(w->out, v->as.boolean ? "T\n" : "F\n", 2); break;
    case CKPT_INT: put_int(w, v->as.integer); break;
    case CKPT_BIGINT:
      text_add(w->out, "i", 1);
      add_hex(w->out, v->as.text.bytes, v->as.text.n);
      text_add(w->out, "\n", 1);
      break;
    case CKPT_FLOAT: put_float(w, v); break;
    case CKPT_STR: add_counted(w->out, 's', v); break;
    case CKPT_BYTES: add_counted(w->out, 'b', v); break;
    case CKPT_BYTEARRAY: add_counted(w->out, 'a', v); break;
    case CKPT_LIST: put_seq(w, 'l', v); break;
    case CKPT_TUPLE: put_seq(w, v->made != NULL ? 'Z' : 't', v); break;
    case CKPT_SET: put_seq(w, 'S', v); break;
    case CKPT_FROZENSET: put_seq(w, 'z', v); break;
    case CKPT_DICT: put_dict(w, v); break;
    case CKPT_TENSOR: put_tensor(w, v); break;
    case CKPT_CLASS: put_class(w, v); break;
    default: put_object(w, v);
  }
}

static void visit(walk *w, const ckpt_value *v) {
  size_t number = has_identity(v) ? ckpt_ptrmap_get(&w->numbers, identity(v)) : SIZE_MAX;
  if (number != SIZE_MAX) {
    text_printf(w->out, "@%zu\n", number);
    return;
  }
  if (has_identity(v) && ckpt_ptrmap_set(&w->numbers, identity(v), w->n_nodes++, NULL) != CKPT_OK) exit(3);
  put_value(w, v);
}

static void put_line(walk *w, todo t) {
  if (t.line[0] == '-')
    text_add(w->out, "-\n", 2);
  else
    text_printf(w->out, "%s%zu\n", t.line, t.count);
}

void describe(text *out, const ckpt_value *root) {
  walk w = {.out = out};
  later_value(&w, root);
  while (w.n > 0) {
    todo t = w.todo[--w.n];
    if (t.value != NULL)
      visit(&w, t.value);
    else
      put_line(&w, t);
  }
  free(w.todo);
  ckpt_ptrmap_free(&w.numbers);
  ckpt_ptrmap_free(&w.storages);
}
