/* SPDX-License-Identifier: MIT */
/* calib/accumulate.h - statistics of activations: accumulators that a forward pass feeds.
 *
 * An accumulator is a bare array that one function adds rows of activations to. The result
 * never depends on the number of threads. */
#ifndef NIB_CALIB_ACCUMULATE_H
#define NIB_CALIB_ACCUMULATE_H

#include "base/ctx.h"

#include <stddef.h>

/* sum[j] += x[0][j]^2 + x[1][j]^2 + ..., in the order of the rows and in f64, so that how rows are
 * cut into batches does not change a bit of it either. x is [rows][cols]. */
NIB_MUST_USE nib_code nib_accumulate_squares(double *sum, const float *x, size_t rows, size_t cols,
                                             const nib_ctx *ctx, nib_err *err);

/* sum[j] += |x[0][j]| + |x[1][j]| + ..., in the order of the rows and in f64, and most[j] = the
 * largest |x[.][j]| so far. x is [rows][cols]. */
NIB_MUST_USE nib_code nib_accumulate_sizes(double *sum, float *most, const float *x, size_t rows,
                                           size_t cols, const nib_ctx *ctx, nib_err *err);

/* Second moments: h[i][j] += sum over the rows of x[.][i] x[.][j], for i <= j (the upper triangle
 * of h[cols][cols]); x is [rows][cols]. Sums of one call are f32 (a matrix product), so give it a
 * few thousand rows at a time; cut into the same batches, the result does not depend on the number
 * of threads. */
NIB_MUST_USE nib_code nib_accumulate_hessian(float *h, const float *x, size_t rows, size_t cols,
                                             const nib_ctx *ctx, nib_err *err);

/* d[i][j] += sum over the rows of (y[.][i] - x[.][i]) x[.][j], for all i and j of d[cols][cols]:
 * how far inputs x have drifted from what they were, y, both [rows][cols]; the difference is left
 * in y. Otherwise as above. */
NIB_MUST_USE nib_code nib_accumulate_drift(float *d, float *y, const float *x, size_t rows,
                                           size_t cols, const nib_ctx *ctx, nib_err *err);

#endif
