/* SPDX-License-Identifier: MIT */
/* quant/codec_int.c - see codec_int.h. */
#include "quant/codec_int.h"

#include "quant/hist.h"
#include "quant/int_kern.h"

#include <math.h>
#include <stdio.h>

typedef struct {
    float scale, zero;
} grid;

/* The weights of a group, their importances (NULL: all alike), and lo <= 0 <= hi. */
typedef struct {
    const float *w, *imp;
    size_t n;
    float lo, hi;
} int_group;

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

/* HQQ's: lo and hi are the weights' own, and the zero point any number, but with 4 bits whole at
 * first. */
static grid own_range_grid(const nib_int_codec *ic, float lo, float hi)
{
    const float top = (float)(ic->codec.n_codes - 1), least = 5e-5f; /* 1 / 20000 */
    const float scale = hi - lo > 1e-4f ? (hi - lo) / top : 1;
    grid g = {nib_scale_stored(ic->codec.scale_type, scale > least ? scale : least), 0};
    g.zero = -lo / g.scale;
    if (ic->codec.n_codes == 16) g.zero = rintf(g.zero);
    g.zero = nib_scale_stored(ic->codec.scale_type, g.zero);
    return g;
}

static grid range_grid(const nib_int_codec *ic, float lo, float hi)
{
    if (ic->grid == NIB_GRID_HQQ) return own_range_grid(ic, lo, hi);
    const float top = (float)(ic->codec.n_codes - 1), least = (float)ic->zero_min;
    float scale = nib_scale_stored(ic->codec.scale_type, range_scale(ic, lo, hi));
    if (ic->grid == NIB_GRID_CT && scale == 0) scale = nib_scale_epsilon(ic->codec.scale_type);
    float zero = ic->sym ? (top + 1) / 2 : scale > 0 ? rintf(-lo / scale) : 0;
    return (grid){scale, zero < least ? least : zero > top ? top : zero};
}

/* ---- GPTQ's own search ---- */

static float power_error(const nib_int_codec *ic, grid g, const int_group *x)
{
    const float top = (float)(ic->codec.n_codes - 1);
    float error = 0;
    for (size_t i = 0; i < x->n; i++) {
        float t = rintf(x->w[i] / g.scale) + g.zero;
        t = t < 0 ? 0 : t > top ? top : t;
        error += powf(fabsf(g.scale * (t - g.zero) - x->w[i]), 2.4f);
    }
    return error;
}

static grid power_search(const nib_int_codec *ic, const int_group *x)
{
    grid best = range_grid(ic, x->lo, x->hi);
    float least = INFINITY;
    for (int i = 0; i < 80; i++) {
        float p = 1 - (float)i / 100;
        grid g = range_grid(ic, p * x->lo, p * x->hi);
        if (!(g.scale > 0)) continue;
        float error = power_error(ic, g, x);
        if (error < least) least = error, best = g;
    }
    return best;
}

/* ---- least squares ---- */

enum { ZEROS = 2 }; /* zero points tried on either side of the range's */

/* Scales that are tried: the largest, in shares of what covers all weights or of the best so far,
 * and what each is of the one before. The last of the coarse ones is 0.15: all but the weights in
 * the middle are cut off. The fine ones go from one coarse step above the best to one below. */
typedef struct {
    float first, factor;
} ladder;

static const ladder coarse = {1.1f, 0.8757f}, fine = {1.142f, 0.9825f};

typedef struct {
    grid g;
    float error;
} choice;

/* Sum of imp (q - w)^2. */
static float error_of(const nib_int_kern *k, const int_group *x, grid g, float top)
{
    nib_int_sums s;
    float step[NIB_INT_TRIALS];
    for (int i = 0; i < NIB_INT_TRIALS; i++) step[i] = g.scale;
    k->try_steps(&s, x->w, x->imp, x->n, step, -g.zero, top - g.zero);
    return s.ee[0];
}

/* Levels under each scale of the ladder, then the scale that is best for these levels. */
static void climb(choice *best, const nib_int_kern *k, const int_group *x, grid from, ladder way,
                  float top)
{
    nib_int_sums s;
    float step[NIB_INT_TRIALS], at = from.scale * way.first;
    for (int i = 0; i < NIB_INT_TRIALS; i++, at *= way.factor) step[i] = at;
    k->try_steps(&s, x->w, x->imp, x->n, step, -from.zero, top - from.zero);
    for (int i = 0; i < NIB_INT_TRIALS; i++) {
        if (!(s.ll[i] > 0)) continue;
        const float more = s.el[i] / s.ll[i], error = s.ee[i] - more * s.el[i];
        if (error < best->error) *best = (choice){{step[i] + more, from.zero}, error};
    }
}

/* The scale that covers lo .. hi with this zero point. */
static grid covering(float lo, float hi, float zero, float top)
{
    const float below = zero > 0 ? -lo / zero : 0, above = zero < top ? hi / (top - zero) : 0;
    return (grid){below > above ? below : above, zero};
}

/* Never worse than the range's, and that where it is as good. */
static grid square_search(const nib_int_codec *ic, const int_group *x, unsigned cpu)
{
    const nib_int_kern *k = nib_int_kern_get(cpu);
    const float top = (float)(ic->codec.n_codes - 1), least = (float)ic->zero_min;
    const grid range = range_grid(ic, x->lo, x->hi);
    const float error = error_of(k, x, range, top);
    const float z0 = ic->sym ? range.zero : fmaxf(range.zero - ZEROS, least);
    const float z1 = ic->sym ? range.zero : fminf(range.zero + ZEROS, top);
    choice best = {range, error};
    for (float z = z0; z <= z1; z++)
        climb(&best, k, x, covering(x->lo, x->hi, z, top), coarse, top);
    if (ic->sym) { /* the other way round there is a code more above 0 */
        const grid g = covering(-x->hi, -x->lo, range.zero, top);
        climb(&best, k, x, (grid){-g.scale, g.zero}, coarse, top);
    }
    climb(&best, k, x, best.g, fine, top);
    best.g.scale = nib_scale_stored(ic->codec.scale_type, best.g.scale);
    if (ic->codec.zero == NIB_ZERO_REAL)
        best.g.zero = nib_scale_stored(ic->codec.scale_type, best.g.zero);
    return error_of(k, x, best.g, top) < error ? best.g : range;
}

/* ---- the codec ---- */

static grid fit_group(const nib_int_codec *ic, int_group *x, unsigned cpu)
{
    if (ic->grid == NIB_GRID_HQQ) x->lo = x->hi = x->w[0];
    for (size_t i = 0; i < x->n; i++) {
        x->lo = x->w[i] < x->lo ? x->w[i] : x->lo;
        x->hi = x->w[i] > x->hi ? x->w[i] : x->hi;
    }
    if (x->lo == 0 && x->hi == 0 && ic->grid == NIB_GRID_GPTQ) x->lo = -1, x->hi = 1;
    switch (ic->scales) {
    case NIB_SCALES_SQUARE: return square_search(ic, x, cpu);
    case NIB_SCALES_POWER: return power_search(ic, x);
    default: return range_grid(ic, x->lo, x->hi);
    }
}

static bool any(const float *imp, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (imp[i] > 0) return true;
    return false;
}

static void fit(const nib_codec *c, nib_block_param *p, const nib_fit_in *in, size_t n,
                unsigned cpu)
{
    const float *imp = n && in->imp && any(in->imp, c->block) ? in->imp : NULL;
    for (size_t i = 0; i < n; i++) {
        int_group x = {.w = in[i].w, .imp = imp, .n = c->block};
        const grid g = fit_group((const nib_int_codec *)c, &x, cpu);
        p[i] = (nib_block_param){.d = g.scale, .zero = g.zero, .sc = {1}};
    }
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

char *nib_int_codec_name(char *buf, size_t n, unsigned bits, uint64_t group, bool per_tensor)
{
    if (group)
        snprintf(buf, n, "int%u-g%llu", bits, (unsigned long long)group);
    else
        snprintf(buf, n, "int%u-%s", bits, per_tensor ? "tensor" : "row");
    return buf;
}

nib_int_codec nib_int_codec_make(unsigned bits, size_t group, bool sym)
{
    return (nib_int_codec){
        .codec = {.type = type_of(bits),
                  .name = "int",
                  .block = (uint32_t)group,
                  .sub = (uint32_t)group,
                  .quantized = true,
                  .n_codes = (uint16_t)(1u << bits),
                  .zero = sym ? NIB_ZERO_FIXED : NIB_ZERO_WHOLE,
                  .sc_min = 1,
                  .sc_max = 1,
                  .scale_type = NIB_F32,
                  .fit = fit},
        .sym = sym,
    };
}

/* From the extremes of all: those of rows of zeros have a scale too, which is none. */
static nib_code finish_tensor(const nib_codec *c, nib_block_param *p, const nib_fit_matrix *m,
                              const nib_ctx *ctx, nib_err *err)
{
    const nib_int_codec *ic = (const nib_int_codec *)c;
    const size_t n = m->rows * (m->cols / c->block);
    int_group x = {.n = 0};
    (void)err;
    nib_hist_kern_get(ctx->cpu)->extremes(m->w, m->rows * m->cols, &x.lo, &x.hi);
    x.lo = fminf(x.lo, 0), x.hi = fmaxf(x.hi, 0);
    if (x.lo == 0 && x.hi == 0 && ic->grid == NIB_GRID_GPTQ) x.lo = -1, x.hi = 1;
    const grid g = range_grid(ic, x.lo, x.hi);
    for (size_t i = 0; i < n; i++) p[i].d = g.scale, p[i].zero = g.zero;
    return NIB_OK;
}

void nib_int_codec_per_tensor(nib_int_codec *c)
{
    c->codec.fixed_d = true;
    c->codec.finish = finish_tensor;
}
