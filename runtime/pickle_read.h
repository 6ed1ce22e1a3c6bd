/*
 * pickle_read.h - the pickle machine, protocols 0 to 5. It builds values and never runs anything: a REDUCE, NEWOBJ or
 * persistent id becomes an OBJECT that remembers what it would have called.
 */
#ifndef CKPT_PICKLE_READ_H
#define CKPT_PICKLE_READ_H

#include "value.h"

struct ckpt_machine;

/* What a format makes of the objects as they appear; each may change the OBJECT in place into another kind. */
typedef struct ckpt_pickle_hooks {
  void *context;
  ckpt_status (*persid)(void *context, ckpt_value *object, ckpt_error *err); /* made->args is the id */
  ckpt_status (*built)(void *context, ckpt_value *object, ckpt_error *err);  /* after REDUCE and NEWOBJ */
  /* Before BUILD gives `state` to what may not be an OBJECT; *done: it has been taken. */
  ckpt_status (*state)(bool *done, void *context, ckpt_value *to, ckpt_value *state, ckpt_error *err);
  /* The object that a persistent id names, where there is one already; NULL: persid makes something of a new one. */
  ckpt_value *(*known)(void *context, const ckpt_value *id);
  /* What made a tensor before is on the stack again: *taken if its whole call was read, and its value put there. */
  ckpt_status (*call)(bool *taken, void *context, struct ckpt_machine *m, ckpt_error *err);
} ckpt_pickle_hooks;

/*
 * Reads one pickle from the start of `data`; *used gets its length up to and with STOP, what follows is not looked at.
 * `name` stands in messages: "data.pkl+0x1f3: ...". Memory is bounded by the size of the pickle (CKPT_E_LIMIT); there
 * is no recursion, so depth costs no stack.
 */
ckpt_status ckpt_pickle_read(ckpt_value **out, size_t *used, ckpt_document *doc, const unsigned char *data, size_t size,
                             const char *name, const ckpt_pickle_hooks *hooks, ckpt_error *err);

/*
 * The same for the pickle that begins at data[start] of a file of several parts; positions in messages and *end count
 * from data[0]. ckpt_pickle_extent tells how large `size` need be.
 */
ckpt_status ckpt_pickle_read_at(ckpt_value **out, size_t *end, ckpt_document *doc, const unsigned char *data,
                                size_t start, size_t size, const char *name, const ckpt_pickle_hooks *hooks,
                                ckpt_error *err);

/*
 * How far any reader of the pickle at data[start] can come: just behind its STOP, or behind the opcode that is none,
 * or `size` where an argument is cut off. Looks at opcodes only, takes no memory. A pickle in a large file is bounded
 * by it, as a record is by its size.
 */
size_t ckpt_pickle_extent(const unsigned char *data, size_t start, size_t size);

/* The document limit that goes with a pickle of that size. */
size_t ckpt_pickle_memory_limit(size_t size);

#endif
