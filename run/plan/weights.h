/* SPDX-License-Identifier: MIT */
/* run/plan/weights.h - weights of a plan's tensor, out of its source. */
#ifndef NIB_RUN_PLAN_WEIGHTS_H
#define NIB_RUN_PLAN_WEIGHTS_H

#include "run/plan/plan.h"

/* Rows [row, row + n) as f32 into w[n][t->cols]; t->src is not NULL. `raw` is work memory, one per
 * thread. Checked as below. */
NIB_MUST_USE nib_code nib_weights_read(const nib_plan *p, const nib_plan_tensor *t, uint64_t row,
                                       uint64_t n, float *w, nib_buf *raw, unsigned cpu,
                                       nib_err *err);
/* n blocks as they lie in the source, from block `first` of the tensor on, can be copied: all
 * values are finite, or NIB_ENUMERIC names the first that is not, or the rows of a block that is
 * damaged otherwise. `w` is work memory. */
NIB_MUST_USE nib_code nib_weights_check_stored(const nib_plan_tensor *t, const void *data,
                                               uint64_t first, size_t n, nib_buf *w, unsigned cpu,
                                               nib_err *err);

#endif
