/* SPDX-License-Identifier: MIT */
/* run/write/write_carried.h - the tensors of a plan that are not rounded again: integers of the
 * source on the grid of the output, and plain numbers in another order or dtype. */
#ifndef NIB_RUN_WRITE_WRITE_CARRIED_H
#define NIB_RUN_WRITE_WRITE_CARRIED_H

#include "run/plan/plan.h"
#include "formats/solved_file.h"

/* Put each tensor that is `carried` into `side`, at its place. NIB_EFORMAT: one no longer is as the
 * plan found it. */
NIB_MUST_USE nib_code nib_write_carried(nib_solved_file *side, const nib_plan *p,
                                        const nib_ctx *ctx, nib_err *err);

#endif
