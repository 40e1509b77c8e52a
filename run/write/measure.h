/* SPDX-License-Identifier: MIT */
/* run/write/measure.h - how far what was written is from what was read, tensor by tensor: the root
 * of the mean square of the difference, relative to that of the weights. */
#ifndef NIB_RUN_WRITE_MEASURE_H
#define NIB_RUN_WRITE_MEASURE_H

#include "formats/solved_file.h"
#include "run/plan/plan.h"

/* Sums of squares, of a tensor or a part of it; they add up. */
typedef struct {
    double diff, weight;
    double largest; /* difference */
} nib_difference;

/* Go on with n more weights and what they have become. */
void nib_difference_add(nib_difference *d, const float *w, const float *now, size_t n);
void nib_difference_join(nib_difference *d, const nib_difference *more);
/* The relative error; 0 where all weights are 0 and stayed so. */
double nib_difference_error(const nib_difference *d);

/* p->error of the tensors that were solved or rounded into `side`, which all are there. Unknown
 * (below 0) where channels were rescaled: then other weights compute the same. */
NIB_MUST_USE nib_code nib_measure_staged(nib_solved_file *side, const nib_plan *p,
                                         const nib_ctx *ctx, nib_err *err);

#endif
