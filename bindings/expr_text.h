/*
 * expr_text.h - what a person reads of an expression, and what an optimizer's state may go through with its parameter.
 */
#ifndef CKPT_EXPR_TEXT_H
#define CKPT_EXPR_TEXT_H

#include "expression.h"

enum { CKPT_EXPR_TEXT = 240 };

/* "transpose(0, 1), slice(0, 0, 4)": the operations in the order in which they are done, cut short by dots where there
 * are too many; "" for a mere key. Returns out. */
const char *ckpt_expr_text(char out[CKPT_EXPR_TEXT], const ckpt_expr *e);

/* Whether every operation only puts elements elsewhere, leaves some out or changes their dtype. */
bool ckpt_expr_rearranges(const ckpt_expr *e);

#endif
