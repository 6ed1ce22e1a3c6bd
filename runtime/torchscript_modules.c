/*
 * torchscript_modules.c - see torchscript_modules.h.
 *
 * A walk without recursion: a stack of modules, each with how many of its fields are done and the length of the dotted
 * name that leads to it. A module that is reached twice (shared) is entered twice, under both names, as PyTorch's
 * state_dict() does; the document's memory limit bounds what nested sharing can make of a small file.
 */
#include "torchscript_modules.h"

#include <stdlib.h>

#include "ptrmap.h"

typedef struct place {
  const ckpt_value *module;
  ckpt_value *about; /* its entry in _metadata */
  size_t next, name; /* next field; length of the module's name */
} place;

typedef struct walk {
  ckpt_document *doc;
  ckpt_script_code *code;
  ckpt_value *names, *metadata; /* the OrderedDicts that are made */
  place *places;
  size_t n, capacity;
  char *name; /* of the current field */
  size_t length, name_capacity;
  ckpt_ptrmap open; /* modules on the stack */
  ckpt_error *err;  /* never NULL inside */
} walk;

/* ---- objects ---- */

bool ckpt_script_is_object(const ckpt_value *v) {
  static const char word[] = "__torch__";
  if (v->kind != CKPT_OBJECT || v->made->how == CKPT_BY_PERSID || v->made->callable->kind != CKPT_CLASS) return false;
  size_t n = v->made->callable->as.text.module;
  const char *module = v->made->callable->as.text.bytes;
  return n >= sizeof word - 1 && memcmp(module, word, sizeof word - 1) == 0 && (n == 9 || module[9] == '.');
}

static ckpt_value *word(ckpt_document *doc, const char *text, ckpt_error *err) {
  return ckpt_value_make_text(doc, CKPT_STR, text, strlen(text), err);
}

/* dict[key] = item for a key that must not be there yet. */
static ckpt_status add(ckpt_value *dict, ckpt_document *doc, ckpt_value *key, ckpt_value *item, ckpt_error *err) {
  if (key == NULL || item == NULL) return err->status;
  if (ckpt_dict_find(dict->as.dict, key) == SIZE_MAX) return ckpt_dict_put(dict->as.dict, doc, key, item, err);
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "two fields have the name '%.200s'",
                   key->kind == CKPT_STR ? key->as.text.bytes : "?");
}

/* The class's name as a string, over the same bytes. */
static ckpt_status add_class(ckpt_value *dict, ckpt_document *doc, const ckpt_value *object, ckpt_error *err) {
  ckpt_value *name = ckpt_value_make(doc, CKPT_STR, err);
  if (name == NULL) return err->status;
  name->as.text.bytes = object->made->callable->as.text.bytes;
  name->as.text.n = object->made->callable->as.text.n;
  return add(dict, doc, word(doc, "__class__", err), name, err);
}

static ckpt_status add_fields(ckpt_value *dict, ckpt_document *doc, const ckpt_value *object, ckpt_error *err) {
  ckpt_value *state = object->as.object->state, *args = object->made->args;
  if (args->as.seq.n > 0) {
    bool single = args->as.seq.n == 1;
    CKPT_TRY(add(dict, doc, word(doc, single ? "value" : "__args__", err), single ? args->as.seq.items[0] : args, err));
  }
  if (state == NULL) return CKPT_OK;
  if (state->kind != CKPT_DICT) return add(dict, doc, word(doc, "__state__", err), state, err);
  const ckpt_seq *flat = &state->as.dict->flat;
  for (size_t i = 0; i + 1 < flat->n; i += 2) CKPT_TRY(add(dict, doc, flat->items[i], flat->items[i + 1], err));
  return CKPT_OK;
}

static ckpt_status no_items(const ckpt_value *object, ckpt_error *err) {
  if (object->as.object->items.n == 0 && object->as.object->dict.flat.n == 0 && object->made->kwargs == NULL)
    return CKPT_OK;
  return ckpt_fail(err, CKPT_E_CORRUPT, -1, "an object of class '%.200s' that is used as a list or dict",
                   object->made->callable->as.text.bytes);
}

ckpt_status ckpt_script_to_dict(ckpt_value *object, ckpt_document *doc, ckpt_error *err) {
  ckpt_error here = {0};
  ckpt_value *dict = ckpt_value_make(doc, CKPT_DICT, &here);
  if (dict != NULL && no_items(object, &here) == CKPT_OK && add_class(dict, doc, object, &here) == CKPT_OK &&
      add_fields(dict, doc, object, &here) == CKPT_OK) {
    object->kind = CKPT_DICT;
    object->made = NULL;
    object->as.dict = dict->as.dict;
    return CKPT_OK;
  }
  if (err != NULL) *err = here;
  return here.status;
}

/* ---- names ---- */

static ckpt_status append(walk *w, const char *text, size_t n) {
  size_t need;
  if (!ckpt_add_size(&need, w->length, n + 2)) return ckpt_fail_nomem(w->err, SIZE_MAX);
  if (need > w->name_capacity) {
    size_t capacity = need * 2;
    char *more = realloc(w->name, capacity);
    if (more == NULL) return ckpt_fail_nomem(w->err, capacity);
    w->name = more;
    w->name_capacity = capacity;
  }
  memcpy(w->name + w->length, text, n);
  w->length += n;
  w->name[w->length] = '\0';
  return CKPT_OK;
}

static ckpt_status append_field(walk *w, const place *p, const char *field, size_t n) {
  w->length = p->name;
  if (w->length > 0) CKPT_TRY(append(w, ".", 1));
  return append(w, field, n);
}

static ckpt_value *current_name(walk *w) { return ckpt_value_make_text(w->doc, CKPT_STR, w->name, w->length, w->err); }

/* ---- modules ---- */

static const ckpt_value *field_of(const ckpt_value *object, const char *name) {
  const ckpt_value *state = object->as.object->state;
  return state != NULL && state->kind == CKPT_DICT ? ckpt_value_get(state, name) : NULL;
}

/* The source decides; without one, `training`, which every nn.Module has. */
static ckpt_status is_module(bool *out, walk *w, const ckpt_value *v) {
  ckpt_script_kind kind = CKPT_SCRIPT_UNKNOWN;
  *out = false;
  if (!ckpt_script_is_object(v) || v->made->how != CKPT_BY_NEWOBJ) return CKPT_OK;
  CKPT_TRY(ckpt_script_code_kind(&kind, w->code, v->made->callable, w->err));
  const ckpt_value *training = field_of(v, "training");
  *out =
      kind == CKPT_SCRIPT_MODULE || (kind == CKPT_SCRIPT_UNKNOWN && training != NULL && training->kind == CKPT_BOOLEAN);
  return CKPT_OK;
}

/*
 * What PyTorch's state dicts have no entry for, so that load_state_dict would call it unexpected: what is None, flags
 * of every nn.Module, and what torch.nn's own modules hold that is no tensor and no module (`transposed` of a Conv2d,
 * `_flat_weights` of an LSTM).
 */
static bool is_bookkeeping(const ckpt_value *module, const ckpt_value *key, const ckpt_value *item) {
  static const char own[] = "__torch__.torch.nn.modules.";
  const char *name = key->as.text.bytes;
  if (item->kind == CKPT_NONE) return true;
  if (strncmp(module->made->callable->as.text.bytes, own, sizeof own - 1) == 0)
    return item->kind != CKPT_TENSOR && item->kind != CKPT_OBJECT;
  return item->kind == CKPT_BOOLEAN && (strcmp(name, "training") == 0 || strcmp(name, "_is_full_backward_hook") == 0);
}

/* A module at the current name: its entry in _metadata, and a place on the stack. */
static ckpt_status enter(walk *w, const ckpt_value *module) {
  if (ckpt_ptrmap_get(&w->open, module) == 0)
    return ckpt_fail(w->err, CKPT_E_CORRUPT, -1, "module '%.200s' lies inside itself", w->name);
  if (w->n == w->capacity) {
    size_t capacity = w->capacity == 0 ? 32 : w->capacity * 2;
    place *more = realloc(w->places, capacity * sizeof *more);
    if (more == NULL) return ckpt_fail_nomem(w->err, capacity * sizeof *more);
    w->places = more;
    w->capacity = capacity;
  }
  CKPT_TRY(no_items(module, w->err));
  ckpt_value *about = ckpt_value_make(w->doc, CKPT_DICT, w->err);
  if (about == NULL) return w->err->status;
  CKPT_TRY(add_class(about, w->doc, module, w->err));
  CKPT_TRY(add(w->metadata, w->doc, current_name(w), about, w->err));
  w->places[w->n++] = (place){module, about, 0, w->length};
  return ckpt_ptrmap_set(&w->open, module, 0, w->err);
}

static ckpt_status visit(walk *w, const place *p, ckpt_value *key, ckpt_value *item) {
  bool module = false;
  if (key->kind != CKPT_STR)
    return ckpt_fail(w->err, CKPT_E_CORRUPT, -1, "module '%.200s' has a field whose name is a %s", w->name,
                     ckpt_kind_name(ckpt_value_kind(key)));
  if (is_bookkeeping(p->module, key, item)) return add(p->about, w->doc, key, item, w->err);
  CKPT_TRY(append_field(w, p, key->as.text.bytes, key->as.text.n));
  CKPT_TRY(is_module(&module, w, item));
  return module ? enter(w, item) : add(w->names, w->doc, current_name(w), item, w->err);
}

/* A state that is no dict of fields is one entry. */
static ckpt_status visit_state(walk *w, const place *p, ckpt_value *state) {
  CKPT_TRY(append_field(w, p, "__state__", 9));
  return add(w->names, w->doc, current_name(w), state, w->err);
}

static ckpt_status step(walk *w) {
  place *p = &w->places[w->n - 1];
  ckpt_value *state = p->module->as.object->state;
  size_t i = p->next++, fields = state == NULL ? 0 : state->kind == CKPT_DICT ? state->as.dict->flat.n / 2 : 1;
  const place now = *p; /* entering a module moves the places */
  if (i >= fields) {
    w->n--;
    return ckpt_ptrmap_set(&w->open, now.module, 1, w->err);
  }
  w->length = now.name;
  w->name[w->length] = '\0';
  if (state->kind != CKPT_DICT) return visit_state(w, &now, state);
  return visit(w, &now, state->as.dict->flat.items[2 * i], state->as.dict->flat.items[2 * i + 1]);
}

static ckpt_status run(walk *w, const ckpt_value *module) {
  w->names = ckpt_value_make(w->doc, CKPT_DICT, w->err);
  w->metadata = ckpt_value_make(w->doc, CKPT_DICT, w->err);
  if (w->names == NULL || w->metadata == NULL) return w->err->status;
  w->names->ordered = w->metadata->ordered = true;
  CKPT_TRY(append(w, "", 0));
  CKPT_TRY(enter(w, module));
  while (w->n > 0) CKPT_TRY(step(w));
  w->names->as.dict->state = ckpt_value_make(w->doc, CKPT_DICT, w->err);
  if (w->names->as.dict->state == NULL) return w->err->status;
  return ckpt_value_set(w->names->as.dict->state, w->doc, "_metadata", w->metadata, w->err);
}

ckpt_status ckpt_script_flatten(ckpt_value **out, ckpt_document *doc, ckpt_script_code *code, const ckpt_value *module,
                                ckpt_error *err) {
  ckpt_error here = {0};
  walk w = {.doc = doc, .code = code, .err = &here};
  ckpt_status st = run(&w, module);
  free(w.places);
  free(w.name);
  ckpt_ptrmap_free(&w.open);
  if (st != CKPT_OK) {
    if (err != NULL) *err = here;
    return st;
  }
  *out = w.names;
  return CKPT_OK;
}
