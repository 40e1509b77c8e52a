/* SPDX-License-Identifier: MIT */
/* quant/dot.h - packed rows times vectors of f32: what a model computes for one token.
 *
 * Rows are multiplied as they lie: a block's levels meet the vector's values, and the sum its
 * scale,
 *
 *     sum of ((D level) - B) x  =  D (sum of level x) - B (sum of x)
 *
 * so each packed byte is read once and the vector stays in f32. The result differs from that of
 * decoded weights by the rounding of f32 sums alone. Formats without a kernel are decoded block by
 * block. Sums run over 8 lanes in a fixed order; builds with fused multiply-add round once where
 * plain C does twice. A vector's result does not depend on how many others go with it.
 *
 * One source (dot_kern.c), compiled for each instruction set. */
#ifndef NIB_QUANT_DOT_H
#define NIB_QUANT_DOT_H

#include "quant/codec.h"

/* Vectors of a product: x[n], each of `cols` values, `step` apart, and the sums of each one's runs
 * of 32 columns, `sum_step` apart, from nib_dot_sums(). */
typedef struct {
    const float *x, *sum;
    size_t n, cols, step, sum_step;
} nib_dot_in;

/* Sums that a vector of `cols` values has. */
static inline size_t nib_dot_n_sums(size_t cols)
{
    return cols / 32;
}
void nib_dot_sums(float *sum, const float *x, size_t cols);

/* y[i * y_step + r] = row r . x[i], for n_rows packed rows at w, `cols` a multiple of the block. */
void nib_dot(const nib_codec *c, float *y, size_t y_step, const uint8_t *w, size_t n_rows,
             const nib_dot_in *in, unsigned cpu);

#endif
