/*
 * value.h - the inside of values, for the files that build, read and write them.
 *
 * A value is what a checkpoint means by it; `made`, where set, is how the file said it (a REDUCE, NEWOBJ or persistent
 * id): the writer says it the same way, so that what was read is written back unchanged. A value's address is its
 * identity: what was one object in Python is one ckpt_value, and is written as one.
 */
#ifndef CKPT_VALUE_H
#define CKPT_VALUE_H

#include "arena.h"
#include "strmap.h"
#include "tensor.h"
#include "trust.h"

typedef struct ckpt_seq {
  ckpt_value **items;
  size_t n, capacity;
} ckpt_seq;

typedef struct ckpt_made {
  ckpt_how how;
  ckpt_value *callable, *args, *kwargs;
  ckpt_storage *storage; /* of a torch persistent id, retained by the document */
} ckpt_made;

/* How a file says its plain tensors: _rebuild_tensor_v2(('storage', class, key, location, numel), ...). */
typedef struct ckpt_wording {
  ckpt_value *tag, *storage_class, *location;
} ckpt_wording;

typedef struct ckpt_dict {
  ckpt_seq flat;     /* key, value, key, value... */
  ckpt_value *state; /* attributes of an OrderedDict (BUILD), such as {"_metadata": ...} */
  uint32_t *table;   /* of a large dict: 1-based pair numbers by the key's hash, 0 for a free slot */
  bool unsettled;    /* pairs were pushed raw; the reader settles the dict at the end */
  size_t slots;      /* a power of two, at least twice the number of pairs */
} ckpt_dict;

typedef struct ckpt_object { /* what an OBJECT was given after it was made, in Python's order */
  ckpt_seq items;
  ckpt_dict dict;
  ckpt_value *state;
} ckpt_object;

struct ckpt_value {
  uint8_t kind;    /* ckpt_kind */
  bool ordered;    /* DICT: an OrderedDict */
  bool bytestring; /* STR or BYTES that came from a Python 2 str */
  bool recalled;   /* fetched from a pickle's memo: it is not only a part of how one object was made */
  bool held;       /* while a pickle is read: it is part of another value... */
  uint16_t height; /* ...and has so many levels of values below it (depth.h) */
  union {
    bool boolean;
    int64_t integer;
    double number;
    struct {
      const char *bytes; /* NUL-terminated; a CLASS is "module.name" */
      size_t n, module;  /* module: length of the module of a CLASS */
    } text;
    ckpt_seq seq;
    ckpt_dict *dict;
    struct {
      ckpt_tensor *tensor;      /* retained by the document */
      const ckpt_wording *said; /* of a plain tensor of a file, which then has no `made`; else NULL */
    };
    ckpt_object *object;
  } as;
  ckpt_made *made;
};

/* A document whose values may take at most `limit` bytes (0: no limit). */
ckpt_status ckpt_document_make(ckpt_document **out, size_t limit, ckpt_error *err);
ckpt_arena *ckpt_document_arena(ckpt_document *doc);

/* What the pickles of this document may ask for; NULL, which it is until it is set: anything. */
void ckpt_document_set_limits(ckpt_document *doc, const ckpt_limits *limits);
const ckpt_limits *ckpt_document_limits(const ckpt_document *doc);

/* The document releases these when it goes; the reference passes to it even on failure. */
ckpt_status ckpt_document_own_tensor(ckpt_document *doc, ckpt_tensor *t, ckpt_error *err);
ckpt_status ckpt_document_own_storage(ckpt_document *doc, ckpt_storage *s, ckpt_error *err);

/*
 * The value of this document that stands for a tensor: who has only the tensor finds how the file said it. The last
 * value that was noted for it, NULL if none was.
 */
ckpt_status ckpt_document_note_tensor(ckpt_document *doc, ckpt_value *v, ckpt_error *err);
ckpt_value *ckpt_document_value_of(ckpt_document *doc, const ckpt_tensor *t);

/* The one STR of this document for a key of these bytes, as Python interns names. */
ckpt_status ckpt_document_intern(ckpt_value **out, ckpt_document *doc, const char *key, size_t n, ckpt_error *err);

/* Raw builders: NULL with *err filled. */
ckpt_value *ckpt_value_make(ckpt_document *doc, ckpt_kind kind, ckpt_error *err);
ckpt_value *ckpt_value_make_text(ckpt_document *doc, ckpt_kind kind, const void *bytes, size_t n, ckpt_error *err);
ckpt_value *ckpt_value_make_class(ckpt_document *doc, const char *module, size_t module_n, const char *name,
                                  size_t name_n, ckpt_error *err);
ckpt_value *ckpt_value_make_object(ckpt_document *doc, ckpt_how how, ckpt_value *callable, ckpt_value *args,
                                   ckpt_error *err);

/* The same with memory of the document's for the object: what another value had that turned out to be none. */
ckpt_value *ckpt_value_make_object_in(ckpt_object *room, ckpt_document *doc, ckpt_how how, ckpt_value *callable,
                                      ckpt_value *args, ckpt_error *err);

ckpt_status ckpt_seq_push(ckpt_seq *seq, ckpt_document *doc, ckpt_value *item, ckpt_error *err);

/* Shared values of a document: None, True, False and the empty tuple have no identity. */
ckpt_value *ckpt_document_none(ckpt_document *doc);
ckpt_value *ckpt_document_bool(ckpt_document *doc, bool b);
ckpt_value *ckpt_document_empty_tuple(ckpt_document *doc);

/* True for a CLASS of exactly this module and name. */
bool ckpt_value_is_class(const ckpt_value *v, const char *module, const char *name);
const char *ckpt_value_class_name(const ckpt_value *v, size_t *n); /* behind the module */

/* The pairs of a DICT or an OBJECT, NULL if it has none. */
const ckpt_dict *ckpt_value_dict(const ckpt_value *v);

/*
 * Dicts compare keys as Python does (key.h).
 * find gives the number of the pair, or SIZE_MAX; put replaces the value of an equal key in its place, or appends;
 * remove takes a pair out, the others keep their order.
 * settle joins equal keys of pairs that were pushed raw (the last value at the first place) and hashes them.
 */
size_t ckpt_dict_find(const ckpt_dict *d, const ckpt_value *key);
size_t ckpt_dict_find_text(const ckpt_dict *d, const char *key, size_t n);
ckpt_status ckpt_dict_put(ckpt_dict *d, ckpt_document *doc, ckpt_value *key, ckpt_value *item, ckpt_error *err);
ckpt_status ckpt_dict_put_hashed(ckpt_dict *d, ckpt_document *doc, ckpt_value *key, size_t hash, ckpt_value *item,
                                 ckpt_error *err); /* the hash is ckpt_key_hash's */
void ckpt_dict_remove(ckpt_dict *d, size_t pair);
void ckpt_dict_set_keys(ckpt_dict *d, ckpt_value *const *keys); /* as many as pairs, all different */
ckpt_status ckpt_dict_settle(ckpt_dict *d, ckpt_document *doc, ckpt_error *err);

/* Takes out the doubles of a SET or FROZENSET whose items were pushed raw. */
ckpt_status ckpt_set_settle(ckpt_value *set, ckpt_error *err);

/* True for an OBJECT that a person should know of: not torch.device and its like, which weights_only takes too. */
bool ckpt_value_is_opaque(const ckpt_value *v);

/* Notes what a state dict could not take; cut at a NUL. */
ckpt_status ckpt_state_dict_skip(ckpt_state_dict *sd, const char *name, size_t n, ckpt_error *err);

/* Copies a value graph into another document (clone.h): sharing and cycles kept, storages shared. */
ckpt_status ckpt_value_clone(ckpt_value **out, ckpt_document *doc, const ckpt_value *v, ckpt_error *err);

#endif
