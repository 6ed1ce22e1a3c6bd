/*
 * torchscript_code.h - which classes of a TorchScript archive are modules. Only their declarations are looked at:
 *
 *   P/code/__torch__/torch/nn/modules/linear.py     class Linear(Module):
 *                                                     __parameters__ = ["weight", "bias", ]
 */
#ifndef CKPT_TORCHSCRIPT_CODE_H
#define CKPT_TORCHSCRIPT_CODE_H

#include "pth_archive.h"
#include "value.h"

typedef enum ckpt_script_kind {
  CKPT_SCRIPT_UNKNOWN, /* no source in the archive, as of classes that are compiled into PyTorch */
  CKPT_SCRIPT_MODULE,
  CKPT_SCRIPT_OTHER /* a class, enum, NamedTuple or interface */
} ckpt_script_kind;

typedef struct ckpt_script_code ckpt_script_code;

/* The archive must outlive it. */
ckpt_status ckpt_script_code_new(ckpt_script_code **out, const ckpt_archive *a, ckpt_error *err);
void ckpt_script_code_free(ckpt_script_code *code);

/* Each source is read at most once. CKPT_E_CORRUPT: its CRC; CKPT_E_LIMIT: more than 64 MiB of it. */
ckpt_status ckpt_script_code_kind(ckpt_script_kind *out, ckpt_script_code *code, const ckpt_value *class_,
                                  ckpt_error *err);

#endif
