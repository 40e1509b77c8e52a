/* SPDX-License-Identifier: MIT */
/* quant/codec_int.c - see codec_int.h. */
#include "quant/codec_int.h"

#include "base/half.h"

#include <math.h>
#include <stdio.h>

typedef struct {
    float scale, zero;
} grid;

float nib_int_scale(nib_type type, float scale)
{
    switch (type) {
    case NIB_F16: return nib_f16_to_f32(nib_f32_to_f16(scale));
    case NIB_BF16: return nib_bf16_to_f32(nib_f32_to_bf16(scale));
    default: return scale;
    }
}

/* What takes the place of a scale of 0. */
static float epsilon(nib_type type)
{
    return type == NIB_F16 ? 0x1p-10f : type == NIB_BF16 ? 0x1p-7f : 0x1p-23f;
}

/* Before it is rounded to the dtype it is stored in. */
static float range_scale(const nib_int_codec *ic, float lo, float hi)
{
    const float top = (float)(ic->codec.n_codes - 1), least = (float)ic->zero_min;
    const float a = -lo > hi ? -lo : hi, floor = ic->grid == NIB_GRID_AWQ ? 1e-5f : 0;
    if (ic->sym && ic->grid == NIB_GRID_AWQ) return (a > floor ? a : floor) / ((top - 1) / 2);
    if (ic->sym) return 2 * a / top;
    const float scale = (hi - lo > floor ? hi - lo : floor) / top;
    return rintf(-lo / scale) < least ? hi / (top - least) : scale;
}

static grid make_grid(const nib_int_codec *ic, float lo, float hi)
{
    const float top = (float)(ic->codec.n_codes - 1), least = (float)ic->zero_min;
    float scale = nib_int_scale(ic->scale_type, range_scale(ic, lo, hi));
    if (ic->grid == NIB_GRID_CT && scale == 0) scale = epsilon(ic->scale_type);
    float zero = ic->sym ? (top + 1) / 2 : scale > 0 ? rintf(-lo / scale) : 0;
    return (grid){scale, zero < least ? least : zero > top ? top : zero};
}

static float power_error(const nib_int_codec *ic, grid g, const float *w, size_t n)
{
    const float top = (float)(ic->codec.n_codes - 1);
    float error = 0;
    for (size_t i = 0; i < n; i++) {
        float t = rintf(w[i] / g.scale) + g.zero;
        t = t < 0 ? 0 : t > top ? top : t;
        error += powf(fabsf(g.scale * (t - g.zero) - w[i]), 2.4f);
    }
    return error;
}

static grid search_grid(const nib_int_codec *ic, float lo, float hi, const float *w, size_t n)
{
    grid best = make_grid(ic, lo, hi);
    float least = INFINITY;
    for (int i = 0; i < 80; i++) {
        float p = 1 - (float)i / 100;
        grid g = make_grid(ic, p * lo, p * hi);
        if (!(g.scale > 0)) continue;
        float error = power_error(ic, g, w, n);
        if (error < least) least = error, best = g;
    }
    return best;
}

static void fit(const nib_codec *c, nib_block_param *p, const nib_fit_in *in)
{
    const nib_int_codec *ic = (const nib_int_codec *)c;
    float lo = 0, hi = 0;
    for (size_t i = 0; i < c->block; i++) {
        lo = in->w[i] < lo ? in->w[i] : lo;
        hi = in->w[i] > hi ? in->w[i] : hi;
    }
    if (lo == 0 && hi == 0 && ic->grid == NIB_GRID_GPTQ) lo = -1, hi = 1;
    grid g = ic->search ? search_grid(ic, lo, hi, in->w, c->block) : make_grid(ic, lo, hi);
    *p = (nib_block_param){.d = g.scale, .zero = (int32_t)g.zero, .sc = {1}};
}

static nib_type type_of(unsigned bits)
{
    switch (bits) {
    case 2: return NIB_INT2;
    case 3: return NIB_INT3;
    case 4: return NIB_INT4;
    case 8: return NIB_INT8;
    default: return NIB_TYPE_COUNT;
    }
}

char *nib_int_codec_name(char *buf, size_t n, unsigned bits, uint64_t group)
{
    if (group)
        snprintf(buf, n, "int%u-g%llu", bits, (unsigned long long)group);
    else
        snprintf(buf, n, "int%u-row", bits);
    return buf;
}

nib_int_codec nib_int_codec_make(unsigned bits, size_t group, bool sym)
{
    return (nib_int_codec){
        .codec = {.type = type_of(bits),
                  .name = "int",
                  .block = (uint32_t)group,
                  .sub = (uint32_t)group,
                  .tile_rows = 1,
                  .quantized = true,
                  .n_codes = (uint16_t)(1u << bits),
                  .sc_min = 1,
                  .sc_max = 1,
                  .fit = fit},
        .sym = sym,
        .scale_type = NIB_F32,
    };
}
