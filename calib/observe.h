/* SPDX-License-Identifier: MIT */
/* calib/observe.h - statistics of activations: accumulators that a forward pass feeds.
 *
 * An accumulator is a bare array that one function adds rows of activations to. Every element sums
 * in the order of the rows, in f64, so that neither the number of threads nor how rows are cut into
 * batches changes a bit of it. */
#ifndef NIB_CALIB_OBSERVE_H
#define NIB_CALIB_OBSERVE_H

#include "base/ctx.h"

#include <stddef.h>

/* sum[j] += x[0][j]^2 + x[1][j]^2 + ...; x is [rows][cols]. */
NIB_MUST_USE nib_code nib_observe_squares(double *sum, const float *x, size_t rows, size_t cols,
                                          const nib_ctx *ctx, nib_err *err);

#endif
