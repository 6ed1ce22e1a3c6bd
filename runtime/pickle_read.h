/*
 * pickle_read.h - the pickle machine, protocols 0 to 5. It builds values and never runs anything: a REDUCE, NEWOBJ or
 * persistent id becomes an OBJECT that remembers what it would have called.
 */
#ifndef CKPT_PICKLE_READ_H
#define CKPT_PICKLE_READ_H

#include "value.h"

/* What a format makes of the objects as they appear; each may change the OBJECT in place into another kind. */
typedef struct ckpt_pickle_hooks {
  void *context;
  ckpt_status (*persid)(void *context, ckpt_value *object, ckpt_error *err); /* made->args is the id */
  ckpt_status (*built)(void *context, ckpt_value *object, ckpt_error *err);  /* after REDUCE and NEWOBJ */
} ckpt_pickle_hooks;

/*
 * Reads one pickle from the start of `data`; *used gets its length up to and with STOP, what follows is not looked at.
 * `name` stands in messages: "data.pkl+0x1f3: ...". Memory is bounded by the size of the pickle (CKPT_E_LIMIT); there
 * is no recursion, so depth costs no stack.
 */
ckpt_status ckpt_pickle_read(ckpt_value **out, size_t *used, ckpt_document *doc, const unsigned char *data, size_t size,
                             const char *name, const ckpt_pickle_hooks *hooks, ckpt_error *err);

/* The document limit that goes with a pickle of that size. */
size_t ckpt_pickle_memory_limit(size_t size);

#endif
