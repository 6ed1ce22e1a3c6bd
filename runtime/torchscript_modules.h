/*
 * torchscript_modules.h - from a tree of module objects to a state dict; see torchscript.h for the rules.
 */
#ifndef CKPT_TORCHSCRIPT_MODULES_H
#define CKPT_TORCHSCRIPT_MODULES_H

#include "torchscript_code.h"

/*
 * Gives *out an OrderedDict of the fields of `module` and of the modules below it, with its `_metadata`. The objects
 * stay as they are. CKPT_E_CORRUPT: a module inside itself, two fields of one dotted name, a field whose name is no
 * string.
 */
ckpt_status ckpt_script_flatten(ckpt_value **out, ckpt_document *doc, ckpt_script_code *code, const ckpt_value *module,
                                ckpt_error *err);

/* True for an object of a `__torch__` class. */
bool ckpt_script_is_object(const ckpt_value *v);

/* Makes an object of a `__torch__` class the dict of its fields, in place, so that all who share it see the dict. */
ckpt_status ckpt_script_to_dict(ckpt_value *object, ckpt_document *doc, ckpt_error *err);

#endif
