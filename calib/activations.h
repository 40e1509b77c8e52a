/* SPDX-License-Identifier: MIT */
/* calib/activations.h - measure the ranges of a model's activations on sample text.
 *
 * One histogram (quant/hist.h) for each input of the blocks' linear weights, all filled in one run
 * of the model; a window is a batch of the moving average. The ranges do not depend on the number
 * of threads or on how many windows run at a time. */
#ifndef NIB_CALIB_ACTIVATIONS_H
#define NIB_CALIB_ACTIVATIONS_H

#include "calib/ranges.h"
#include "calib/text.h"

/* `percentile`, between 0 and 100, serves that method alone. NIB_ENUMERIC names the weight whose
 * input is not finite or always 0. On failure *out is empty. */
NIB_MUST_USE nib_code nib_measure_ranges(nib_ranges *out, const nib_model *m, const nib_windows *w,
                                         nib_range_method method, double percentile,
                                         const nib_ctx *ctx, nib_err *err);

#endif
