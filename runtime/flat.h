/*
 * flat.h - a value as formats without structure hold it: its tensors under the names that a listing gives them.
 */
#ifndef CKPT_FLAT_H
#define CKPT_FLAT_H

#include "listing.h"
#include "report.h"

typedef struct ckpt_flat_tensor {
  const char *name;
  const ckpt_value *value;
  size_t storage; /* group number of the storage, as in the listing */
  size_t kept;    /* the tensor that this is a second name of (an equal view of the same storage); itself if of none */
  bool copied;    /* shares bytes with an earlier view of another shape, offset or dtype */
} ckpt_flat_tensor;

typedef struct ckpt_flat { /* zeroed: empty */
  ckpt_listing *listing;   /* owns the names */
  ckpt_flat_tensor *tensors;
  size_t n;
  const char **lost; /* paths of what is no tensor: plain values, empty containers, objects, attributes */
  size_t n_lost;
  const char **alien; /* tensors that the format cannot hold */
  size_t n_alien;
} ckpt_flat;

/* True if the format has a place for the tensor. */
typedef bool (*ckpt_flat_takes)(const ckpt_tensor *t);

/* The tensors in the order of the listing, second names behind the first. The value must outlive the result. */
ckpt_status ckpt_flat_new(ckpt_flat *out, const ckpt_value *root, ckpt_flat_takes takes, ckpt_error *err);
void ckpt_flat_free(ckpt_flat *flat);

/*
 * CKPT_E_UNSUPPORTED, with the first paths and their number, where something would be lost that the options do not say
 * to drop, or where two tensors have one name. What may be lost goes to the report as dropped; so does `_metadata`, the
 * version numbers that PyTorch keeps as an attribute of a state dict, which no format of others has a place for.
 */
ckpt_status ckpt_flat_check(const ckpt_flat *flat, const ckpt_save_options *options, const char *format,
                            ckpt_save_report *report, ckpt_error *err);

#endif
