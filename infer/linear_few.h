/* SPDX-License-Identifier: MIT */
/* infer/linear_few.h - inside infer/: a linear layer for few rows, for linear.c: a token that is
 * being generated, the tokens that a draft proposed, one of each beam. */
#ifndef NIB_INFER_LINEAR_FEW_H
#define NIB_INFER_LINEAR_FEW_H

#include "infer/linear.h"

/* nib_linear_apply() for at most NIB_FEW_ROWS rows, by the kernels of quant/dot.h: weights
 * stay in memory, packed, and are multiplied as they lie. A row has the same bits whatever others
 * go with it. */
NIB_MUST_USE nib_code nib_linear_few(nib_linear *l, const nib_tensor *w, const float *bias,
                                     const float *x, size_t rows, float *y, bool add, nib_err *err);

#endif
