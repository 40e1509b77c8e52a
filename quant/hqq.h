/* SPDX-License-Identifier: MIT */
/* quant/hqq.h - half-quadratic quantization (HQQ: Badri and Shaji 2023, mobiusml.github.io/hqq_blog),
 * a fit of each block's parameters that needs no data.
 *
 * The aim is the least sum of |w - q|^0.7, which large errors count less in than in squares. With
 * an error e of its own for each weight it falls into two steps that are done in turn, at most 20
 * times and as long as the mean of |w - q| falls:
 *
 *   e = shrink(w - q), shrink(x) = sign(x) max(|x| - |x|^-0.3 / 10, 0)
 *   the parameters of the block that make least of (w - e - q)^2, the codes staying as they are
 *
 * Published is the fit of a zero point that is any number, under the scale that covers the extremes
 * of the group. That is what happens where a format has such zero points or minimums. Where zero
 * points are whole numbers, or there are none, the scale is what is fitted. It starts from what
 * the format's own fit() finds without importances.
 *
 * The mean is of 128 rows, where the original takes it of the whole matrix. Note that 10 is for
 * weights as they are: an error below 0.17 is shrunk to nothing, and then these are plain least
 * squares. */
#ifndef NIB_QUANT_HQQ_H
#define NIB_QUANT_HQQ_H

#include "base/ctx.h"
#include "quant/codec.h"

/* Is there anything in the format to be fitted so? */
bool nib_hqq_fits(const nib_codec *c);

/* value[rows][cols], code[rows][cols], param[rows][cols / block]: what w[rows][cols] becomes in a
 * format that nib_hqq_fits(). cols is a multiple of the block. value may be w. Parallel over rows;
 * the same for any number of threads. */
NIB_MUST_USE nib_code nib_hqq_rows(const nib_codec *c, const float *w, size_t rows, size_t cols,
                                   float *value, uint8_t *code, nib_block_param *param,
                                   const nib_ctx *ctx, nib_err *err);

#endif
