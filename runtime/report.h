/*
 * report.h - filling the report of a save (see ckpt.h).
 */
#ifndef CKPT_REPORT_H
#define CKPT_REPORT_H

#include "base.h"

ckpt_status ckpt_save_report_new(ckpt_save_report **out, ckpt_error *err);
ckpt_status ckpt_save_report_add(ckpt_save_report *report, ckpt_saved list, const char *text, ckpt_error *err);

#endif
