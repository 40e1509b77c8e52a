/* SPDX-License-Identifier: MIT */
/* infer/linear_int8.h - inside infer/: a linear layer whose input is rounded, for linear.c. */
#ifndef NIB_INFER_LINEAR_INT8_H
#define NIB_INFER_LINEAR_INT8_H

#include "infer/linear.h"

/* nib_linear_apply() for a weight whose nib_tensor_act() is integers, in these:
 *
 *   y = (float)(sum of (x code - x zero) * weight code) * weight scale[out] * x scale[row] + bias
 *
 * The sum is exact, the rest is f32, from left to right, as in the kernels that engines use. Per
 * token, the symmetric scale is max |x| / 127; the asymmetric one (max - min) / 255 over a range
 * that holds 0, and zero = rint(-128 - min / scale); code = rint(x / scale) + zero, within -128 ..
 * 127. A row with a value that is NaN or infinite gives NaN. */
NIB_MUST_USE nib_code nib_linear_int8(nib_linear *l, const nib_tensor *w, const float *bias,
                                      const float *x, size_t rows, float *y, bool add,
                                      nib_err *err);

#endif
