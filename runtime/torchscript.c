/* torchscript.c - see torchscript.h: the pickles and what is made of them. */
#include "torchscript.h"

#include <stdlib.h>

#include "pickle_text.h"
#include "torch_build.h"
#include "torchscript_modules.h"

typedef struct script {
  ckpt_document *doc;
  ckpt_archive *archive;
  ckpt_pickle_hooks torch; /* what tensors and Python's own types are made by */
  ckpt_value **objects;    /* of `__torch__` classes, in the order in which they were made */
  size_t n, capacity;
} script;

bool ckpt_torchscript_is(const ckpt_archive *a) { return ckpt_archive_find(a, "constants.pkl") != SIZE_MAX; }

/* ---- hooks ---- */

static ckpt_status keep_object(script *s, ckpt_value *v, ckpt_error *err) {
  if (s->n == s->capacity) {
    size_t capacity = s->capacity == 0 ? 64 : s->capacity * 2;
    ckpt_value **more = realloc(s->objects, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(err, capacity * sizeof *more);
    s->objects = more;
    s->capacity = capacity;
  }
  s->objects[s->n++] = v;
  return CKPT_OK;
}

/* build_intlist([...]) and restore_type_tag({...}, "Dict[str, int]"): the container, of which the result takes over
 * all. */
static ckpt_status plain_container(ckpt_value *v, const char *name, ckpt_error *err) {
  const ckpt_seq *args = &v->made->args->as.seq;
  const ckpt_value *inner = args->n == 0 ? NULL : args->items[0];
  if (inner == NULL || inner->made != NULL || (inner->kind != CKPT_LIST && inner->kind != CKPT_DICT))
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "torch.jit._pickle.%.64s of what is no list or dict", name);
  *v = *inner;
  return CKPT_OK;
}

static bool is_container_function(const ckpt_value *callable, const char **name) {
  static const char *const names[] = {"build_intlist", "build_tensorlist", "build_doublelist", "build_boollist",
                                      "restore_type_tag"};
  for (size_t i = 0; i < CKPT_COUNTOF(names); i++) {
    *name = names[i];
    if (ckpt_value_is_class(callable, "torch.jit._pickle", names[i])) return true;
  }
  return false;
}

static ckpt_value *tuple_of(ckpt_document *doc, ckpt_value *const *items, size_t n, ckpt_error *err) {
  ckpt_value *v = ckpt_value_make(doc, CKPT_TUPLE, err);
  for (size_t i = 0; v != NULL && i < n; i++)
    if (ckpt_seq_push(&v->as.seq, doc, items[i], err) != CKPT_OK) return NULL;
  return v;
}

/* torch.serialization._get_layout("torch.sparse_coo"), which is how Python spells a layout; the number is c10::Layout.
 */
static ckpt_value *layout(ckpt_document *doc, int64_t number, ckpt_error *err) {
  static const char module[] = "torch.serialization", function[] = "_get_layout";
  static const char *const names[] = {
      NULL, "torch.sparse_coo", "torch.sparse_csr", NULL, "torch.sparse_csc", "torch.sparse_bsr", "torch.sparse_bsc"};
  if (number < 0 || (uint64_t)number >= CKPT_COUNTOF(names) || names[number] == NULL) {
    ckpt_fail(err, CKPT_E_UNSUPPORTED, -1, "a sparse tensor of layout %lld", (long long)number);
    return NULL;
  }
  ckpt_value *name = ckpt_value_make_text(doc, CKPT_STR, names[number], strlen(names[number]), err);
  ckpt_value *args = name == NULL ? NULL : tuple_of(doc, &name, 1, err);
  ckpt_value *callable =
      args == NULL ? NULL : ckpt_value_make_class(doc, module, sizeof module - 1, function, sizeof function - 1, err);
  return callable == NULL ? NULL : ckpt_value_make_object(doc, CKPT_BY_REDUCE, callable, args, err);
}

/*
 * The C++ pickler has its own arguments for _rebuild_sparse_tensor: (layout number, size, requires_grad, indices...,
 * values, hooks). They become Python's: (layout, (indices..., values, size)).
 */
static ckpt_status python_sparse(script *s, ckpt_value *v, ckpt_error *err) {
  const ckpt_seq *args = &v->made->args->as.seq;
  if (args->n == 0 || args->items[0]->kind != CKPT_INT) return CKPT_OK;
  int64_t number = args->items[0]->as.integer;
  size_t parts = number == 1 ? 2 : 3;
  if (args->n != 4 + parts)
    return ckpt_fail(err, CKPT_E_CORRUPT, -1, "a sparse tensor made of %zu arguments, not %zu", args->n, 4 + parts);
  ckpt_value *data[4];
  for (size_t i = 0; i < parts; i++) data[i] = args->items[3 + i];
  data[parts] = args->items[1];
  ckpt_value *both[2] = {layout(s->doc, number, err), NULL};
  if (both[0] != NULL) both[1] = tuple_of(s->doc, data, parts + 1, err);
  ckpt_value *all = both[1] == NULL ? NULL : tuple_of(s->doc, both, 2, err);
  if (all == NULL) return err->status;
  v->made->args = all;
  return CKPT_OK;
}

/* Storage classes that only TorchScript knows are no use to PyTorch: such tensors are written as our own. */
static bool is_foreign_spelling(const ckpt_value *v) {
  return v->kind == CKPT_TENSOR && ckpt_dtype_rebuild(ckpt_tensor_dtype(v->as.tensor)) == CKPT_REBUILD_V3;
}

static ckpt_status on_built(void *context, ckpt_value *v, ckpt_error *err) {
  script *s = context;
  const char *name = NULL;
  if (ckpt_script_is_object(v)) return keep_object(s, v, err);
  if (is_container_function(v->made->callable, &name)) return plain_container(v, name, err);
  if (ckpt_value_is_class(v->made->callable, "torch._utils", "_rebuild_sparse_tensor"))
    CKPT_TRY(python_sparse(s, v, err));
  CKPT_TRY(s->torch.built(s->torch.context, v, err));
  if (is_foreign_spelling(v)) v->made = NULL;
  return CKPT_OK;
}

static ckpt_status on_persid(void *context, ckpt_value *v, ckpt_error *err) {
  const script *s = context;
  return s->torch.persid(s->torch.context, v, err);
}

/* ---- pickles ---- */

typedef struct pickle {
  const char *name, *storages;
  const unsigned char *bytes;
  unsigned char *heap;
  size_t n;
} pickle;

static ckpt_status load(pickle *p, const ckpt_archive *a, ckpt_error *err) {
  size_t i = ckpt_archive_find(a, p->name);
  if (i == SIZE_MAX) return ckpt_fail(err, CKPT_E_FORMAT, -1, "record '%s/%s' is missing", a->prefix, p->name);
  return ckpt_archive_bytes(&p->bytes, &p->n, &p->heap, a, i, err);
}

/* The same key in another pickle is another storage: each pickle has a builder of its own. */
static ckpt_status read(ckpt_value **out, script *s, const pickle *p, ckpt_error *err) {
  ckpt_torch_builder *builder = NULL;
  s->archive->storages = p->storages;
  CKPT_TRY(ckpt_torch_builder_new(&builder, s->doc, ckpt_archive_storage, s->archive, err));
  s->torch = ckpt_torch_builder_hooks(builder);
  ckpt_pickle_hooks hooks = {.context = s, .persid = on_persid, .built = on_built};
  ckpt_status st = ckpt_pickle_read(out, NULL, s->doc, p->bytes, p->n, p->name, &hooks, err);
  ckpt_torch_builder_free(builder);
  return st;
}

/* ---- the state dict and its attributes ---- */

static ckpt_status flatten(ckpt_value **root, script *s, const ckpt_value *module, ckpt_error *err) {
  ckpt_script_code *code = NULL;
  CKPT_TRY(ckpt_script_code_new(&code, s->archive, err));
  ckpt_status st = ckpt_script_flatten(root, s->doc, code, module, err);
  ckpt_script_code_free(code);
  return st;
}

/* Text where it is text, so that weights_only takes it. */
static ckpt_status read_extra(ckpt_value **out, script *s, size_t i, ckpt_error *err) {
  const unsigned char *bytes = NULL;
  unsigned char *heap = NULL;
  size_t n = 0;
  CKPT_TRY(ckpt_archive_bytes(&bytes, &n, &heap, s->archive, i, err));
  ckpt_status st = ckpt_utf8_valid(bytes, n) ? ckpt_value_new_str(out, s->doc, (const char *)bytes, n, err)
                                             : ckpt_value_new_bytes(out, s->doc, bytes, n, err);
  free(heap);
  return st;
}

/* What follows P/extra/ in a record's name, or NULL. */
static const char *extra_name(const script *s, size_t i) {
  const char *name = ckpt_zip_entry_at(s->archive->zip, i)->name + strlen(s->archive->prefix) + 1;
  return strncmp(name, "extra/", 6) == 0 ? name + 6 : NULL;
}

static ckpt_status add_extras(ckpt_value *attributes, script *s, ckpt_error *err) {
  ckpt_value *extras = NULL, *item = NULL;
  for (size_t i = 0; i < ckpt_zip_count(s->archive->zip); i++) {
    const char *name = extra_name(s, i);
    if (name == NULL) continue;
    if (extras == NULL) CKPT_TRY(ckpt_value_new_dict(&extras, s->doc, false, err));
    CKPT_TRY(read_extra(&item, s, i, err));
    CKPT_TRY(ckpt_value_set(extras, s->doc, name, item, err));
  }
  return extras == NULL ? CKPT_OK : ckpt_value_set(attributes, s->doc, "_extra_files", extras, err);
}

static ckpt_status add_attributes(ckpt_value *root, script *s, ckpt_value *constants, ckpt_error *err) {
  ckpt_value *attributes = root->as.dict->state;
  bool empty = constants->kind == CKPT_TUPLE && constants->as.seq.n == 0;
  if (!empty) CKPT_TRY(ckpt_value_set(attributes, s->doc, "_constants", constants, err));
  return add_extras(attributes, s, err);
}

static ckpt_status read_both(script *s, const pickle *data, const pickle *constants, ckpt_error *err) {
  ckpt_value *root = NULL, *more = NULL;
  CKPT_TRY(read(&root, s, data, err));
  CKPT_TRY(read(&more, s, constants, err));
  if (ckpt_script_is_object(root)) {
    CKPT_TRY(flatten(&root, s, root, err));
    CKPT_TRY(add_attributes(root, s, more, err));
  }
  for (size_t i = 0; i < s->n; i++) CKPT_TRY(ckpt_script_to_dict(s->objects[i], s->doc, err));
  ckpt_document_set_root(s->doc, root);
  return CKPT_OK;
}

/* Dotted names come on top of the objects, files of text on top of both. */
static size_t memory_limit(const ckpt_archive *a, const script *s, size_t data, size_t constants) {
  size_t limit = ckpt_pickle_memory_limit(data), more = ckpt_pickle_memory_limit(constants);
  if (!ckpt_mul_size(&limit, limit, 2) || !ckpt_add_size(&limit, limit, more)) return SIZE_MAX;
  for (size_t i = 0; i < ckpt_zip_count(a->zip); i++) {
    uint64_t size = extra_name(s, i) == NULL ? 0 : ckpt_zip_entry_at(a->zip, i)->size + 65536 + 1024;
    if (__builtin_add_overflow(limit, size, &limit)) return SIZE_MAX;
  }
  return limit;
}

static ckpt_status make(ckpt_document **out, script *s, const pickle *data, const pickle *constants, ckpt_error *err) {
  CKPT_TRY(ckpt_document_make(&s->doc, memory_limit(s->archive, s, data->n, constants->n), err));
  ckpt_document_set_limits(s->doc, &ckpt_zip_trust(s->archive->zip)->limits);
  ckpt_status st = read_both(s, data, constants, err);
  if (st != CKPT_OK) {
    ckpt_document_release(s->doc);
    return st;
  }
  *out = s->doc;
  return CKPT_OK;
}

ckpt_status ckpt_torchscript_read(ckpt_document **out, ckpt_archive *a, ckpt_error *err) {
  script s = {.archive = a};
  pickle data = {.name = "data.pkl", .storages = "data"};
  pickle constants = {.name = "constants.pkl", .storages = "constants"};
  ckpt_status st = load(&data, a, err);
  if (st == CKPT_OK) st = load(&constants, a, err);
  if (st == CKPT_OK) st = make(out, &s, &data, &constants, err);
  free(data.heap);
  free(constants.heap);
  free(s.objects);
  return st;
}
