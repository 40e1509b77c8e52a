/* SPDX-License-Identifier: MIT */
/* quant/act.c - see act.h. */
#include "quant/act.h"

#include "quant/codec_float.h"

#include <math.h>

/* The floats of those that are, and of how many channels each the scale is; 0: see nib_act_quant.
 */
static const struct {
    const nib_small_float *small;
    size_t group;
} floats[NIB_ACT_NUMBERS] = {
    [NIB_ACT_FP8] = {&nib_e4m3, 0},
    [NIB_ACT_NVFP4] = {&nib_e2m1, NIB_NVFP4_GROUP},
    [NIB_ACT_MXFP4] = {&nib_e2m1, NIB_MX_GROUP},
    [NIB_ACT_MXFP8] = {&nib_e4m3, NIB_MX_GROUP},
};

nib_act_range nib_act_range_on(const nib_range *r, const nib_act_quant *a)
{
    switch (a->number) {
    case NIB_ACT_FP8: return (nib_act_range){r->amax / nib_e4m3.top, 0};
    case NIB_ACT_NVFP4: return (nib_act_range){nib_e4m3.top * nib_e2m1.top / r->amax, 0};
    default: return (nib_act_range){a->sym ? r->scale : r->asym_scale, a->sym ? 0 : r->zero};
    }
}

/* NaN where one is not finite. */
static float largest(const float *x, size_t n)
{
    float top = 0, odd = 0;
    for (size_t i = 0; i < n; i++) {
        top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
        odd += x[i] - x[i];
    }
    return odd == 0 ? top : NAN;
}

static void round_group(const nib_small_float *small, const float *x, float *y, size_t n,
                        float scale)
{
    const nib_small_float f = *small;
    for (size_t i = 0; i < n; i++) y[i] = scale * nib_small_round(&f, x[i] / scale);
}

static float scale_of(const nib_act_quant *a, float most)
{
    if (isnan(most)) return NAN;
    if (a->number == NIB_ACT_MXFP4 || a->number == NIB_ACT_MXFP8)
        return nib_mx_scale(floats[a->number].small, most);
    if (a->number == NIB_ACT_NVFP4) {
        const float s = nib_small_round(&nib_e4m3, a->range.scale * (most / nib_e2m1.top));
        return (s > 0 ? s : 0.125f) / a->range.scale;
    }
    if (a->scheme == NIB_ACT_TENSOR) return a->range.scale;
    if (a->most > 0 && most > a->most) most = a->most;
    return most > 0 ? most / nib_e4m3.top : nib_scale_epsilon(NIB_F32);
}

void nib_act_round(const nib_act_quant *a, const float *x, float *y, size_t n)
{
    const size_t fixed = floats[a->number].group, group = fixed      ? fixed
                                                          : a->group ? (size_t)a->group
                                                                     : n;
    for (size_t i = 0; i < n; i += group) {
        const size_t k = n - i < group ? n - i : group;
        round_group(floats[a->number].small, x + i, y + i, k, scale_of(a, largest(x + i, k)));
    }
}
