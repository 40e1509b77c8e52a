/* SPDX-License-Identifier: MIT */
/* run/write/write_rounded.h - the tensors of a plan that are rounded without a look at activations,
 * but not by the format's encoder as they are written: all that folders pack, and what HQQ fits. */
#ifndef NIB_RUN_WRITE_WRITE_ROUNDED_H
#define NIB_RUN_WRITE_WRITE_ROUNDED_H

#include "formats/solved_file.h"
#include "run/plan/plan.h"

/* Put each of the plan's `n_rounded` tensors into `side`, at its place: to nearest, or by HQQ. */
NIB_MUST_USE nib_code nib_write_rounded(nib_solved_file *side, const nib_plan *p,
                                        const nib_ctx *ctx, nib_err *err);

#endif
