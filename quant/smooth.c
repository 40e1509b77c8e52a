/* SPDX-License-Identifier: MIT */
/* quant/smooth.c - see smooth.h. Tests: tests/quant/test_awq.c. */
#include "quant/smooth.h"

#include <math.h>

static const float LEAST = 1e-5f;

void nib_smooth_weight_max(float *most, const float *w, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < cols; i++) {
            const float a = fabsf(w[r * cols + i]);
            most[i] = a > most[i] ? a : most[i];
        }
}

void nib_smooth_scales(float *s, const float *x_max, const float *w_max, size_t cols, double alpha)
{
    for (size_t i = 0; i < cols; i++) {
        const double w = w_max[i] > LEAST ? w_max[i] : LEAST;
        const double v = pow(x_max[i], alpha) / pow(w, 1 - alpha);
        s[i] = v > LEAST ? (float)v : LEAST;
    }
}
