/* SPDX-License-Identifier: MIT */
/* quant/smooth.h - SmoothQuant (arXiv:2211.10438): activations with few large channels are made
 * easier to round by moving a part of their size into the weights that read them. */
#ifndef NIB_QUANT_SMOOTH_H
#define NIB_QUANT_SMOOTH_H

#include <stddef.h>

/* most[cols] = the larger of itself and |w| of each row of w[rows][cols]. Start with zeros. */
void nib_smooth_weight_max(float *most, const float *w, size_t rows, size_t cols);

/* s[cols] = x_max^alpha / w_max^(1 - alpha): inputs are divided by s, weights multiplied. x_max:
 * the largest |x| of each channel over the calibration text; w_max: that of all linears that read
 * it. alpha in [0, 1]: 0 leaves all difficulty to the activations, 1 gives all to the weights. Both
 * w_max and s are at least 1e-5, as in the public implementation. */
void nib_smooth_scales(float *s, const float *x_max, const float *w_max, size_t cols, double alpha);

#endif
