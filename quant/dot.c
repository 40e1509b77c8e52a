/* SPDX-License-Identifier: MIT */
/* quant/dot.c - see dot.h: which kernel, and formats that have none. */
#include "quant/dot_impl.h"

#include "base/cpu.h"

#include <string.h>

extern const nib_dot_kern nib_dot_c, nib_dot_avx2, nib_dot_avx512;

void nib_dot_sums(float *sum, const float *x, size_t cols)
{
    for (size_t i = 0; i < cols / 32; i++, x += 32) {
        float s[32];
        memcpy(s, x, sizeof s);
        for (size_t n = 16; n; n /= 2)
            for (size_t j = 0; j < n; j++) s[j] += s[j + n];
        sum[i] = s[0];
    }
}

/* A row of any format, decoded some blocks at a time. */
static void decode_and_dot(const nib_codec *c, const nib_dot_kern *kern, float *y, const uint8_t *w,
                           const nib_dot_in *in, unsigned cpu)
{
    float value[2 * NIB_BLOCK_MAX];
    nib_dot_in part = *in;
    const size_t each = sizeof value / sizeof *value / c->block * c->block;
    memset(y, 0, in->n * sizeof *y);
    for (size_t at = 0; at < in->cols; at += part.cols) {
        part.cols = in->cols - at < each ? in->cols - at : each;
        part.x = in->x + at;
        c->decode(value, w, part.cols / c->block, cpu);
        kern->decoded(y, value, &part);
        w += part.cols / c->block * c->bytes;
    }
}

void nib_dot(const nib_codec *c, float *y, size_t y_step, const uint8_t *w, size_t n_rows,
             const nib_dot_in *in, unsigned cpu)
{
    const nib_dot_kern *kern = NIB_KERNELS(nib_dot, cpu);
    const size_t row = in->cols / c->block * c->bytes;
    for (size_t r = 0; r < n_rows; r++, w += row)
        for (size_t i = 0; i < in->n; i += NIB_DOT_VECTORS) {
            float now[NIB_DOT_VECTORS];
            nib_dot_in some = *in;
            some.x += i * in->step;
            if (in->sum) some.sum += i * in->sum_step;
            some.n = in->n - i < NIB_DOT_VECTORS ? in->n - i : NIB_DOT_VECTORS;
            if (kern->of[c->type])
                kern->of[c->type](now, w, &some);
            else
                decode_and_dot(c, kern, now, w, &some, cpu);
            for (size_t k = 0; k < some.n; k++) y[(i + k) * y_step + r] = now[k];
        }
}
