/* SPDX-License-Identifier: MIT */
/* report/report.h - a comparison as a page for people: one HTML file that needs nothing else. */
#ifndef NIB_REPORT_REPORT_H
#define NIB_REPORT_REPORT_H

#include "base/ctx.h"
#include "report/comparison.h"

/* Write the page; weights of base and others are read for it, where both are models. `options` is
 * what stands behind the models in the command that measured it, quoted for a shell. NIB_EIO when
 * the file exists and !force. */
NIB_MUST_USE nib_code nib_report_write(const nib_comparison *c, const char *options,
                                       const char *path, bool force, const nib_ctx *ctx,
                                       nib_err *err);

#endif
