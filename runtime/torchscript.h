/*
 * torchscript.h - TorchScript archives (torch.jit.save, PyTorch 1.4 to today) as one state dict.
 *
 *   P/data.pkl  P/data/0 ...  P/code/__torch__.py ...  P/constants.pkl  P/constants/0 ...  [P/extra/NAME ...]
 *
 * data.pkl holds the tree of modules as objects of `__torch__` classes. The root of the document becomes an OrderedDict
 * of all their parameters, buffers and attributes by dotted name, in declaration order. What PyTorch's state dicts have
 * no entry for is kept in the attributes of the OrderedDict, which load_state_dict ignores:
 *
 *   _metadata     name of a module -> {"__class__": ..., "training": ...}, its fields that are None, and what modules
 *                 of torch.nn hold that is neither tensor nor module (`transposed` of a Conv2d)
 *   _constants    the tuple of constants.pkl, unless it is empty
 *   _extra_files  name -> text (bytes if it is no UTF-8), if there are any
 *
 * An object of a class that is no module is a dict of its fields behind "__class__"; what such an object or a module
 * gave as its state in place of fields stands under "__state__", an enum's value under "value". The program itself and
 * the inputs that a trace kept are no part of it.
 */
#ifndef CKPT_TORCHSCRIPT_H
#define CKPT_TORCHSCRIPT_H

#include "pth_archive.h"
#include "value.h"

/* True for an archive with constants.pkl, which is what torch.load goes by. */
bool ckpt_torchscript_is(const ckpt_archive *a);

ckpt_status ckpt_torchscript_read(ckpt_document **out, ckpt_archive *a, ckpt_error *err);

#endif
