/* SPDX-License-Identifier: MIT */
/* quant/retarget.h - weights that make up for what their inputs have drifted by.
 *
 * A layer that follows quantized ones sees x~ where the original model has x. The weights whose
 * output on x~ is nearest to W x are W (sum of x x~') H^-1 with H = sum of x~ x~', that is W + W D
 * H^-1 with the drift D = sum of (x - x~) x~'. GPTAQ (arXiv:2504.02692) puts terms of the same
 * problem into each column's update; here it is solved first, in closed form, and what is solved
 * for is the result. */
#ifndef NIB_QUANT_RETARGET_H
#define NIB_QUANT_RETARGET_H

#include "quant/gptq.h"

/* w[rows][cols] += alpha w D H^-1, H being the damped Hessian that the solver has prepared and
 * d[cols][cols] the drift of the same inputs, of which as much counts off the diagonal as of H:
 * with few tokens it is no better known. alpha = 1: the weights nearest to the original
 * output; less, a step on the way there. Parallel over rows; the same bits for any number of
 * threads. */
NIB_MUST_USE nib_code nib_retarget(float *w, size_t rows, const float *d, double alpha,
                                   const nib_gptq *g, const nib_ctx *ctx, nib_err *err);

#endif
