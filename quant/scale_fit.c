/* SPDX-License-Identifier: MIT */
/* quant/scale_fit.c - scales of formats whose reference knows no importances: 4-bit floats, three
 * levels, two bits, one.
 *
 * The reference takes them from the largest magnitude. Here scales from a little above that down to
 * a sixth of it are tried; under each every weight goes to its nearest level, and where the scale
 * can be any number it becomes the one that is best for these levels (least squares). The least
 * sum of importance times squared error wins; the first of those that are as good.
 * Tests: tests/quant/test_codec.c, tests/quant/test_solver.c. */
#include "quant/ggml_block.h"
#include "quant/lanes.h"

#include <math.h>

enum { TRIALS = 32, LEVELS_MAX = 16 };
static const float FIRST = 1.25f, FACTOR = 0.94f; /* the last is 0.18 of the largest magnitude */

/* Ascending levels, and the step to each from the one before, which is taken from `middle` on. */
typedef struct {
    float first, top, step[LEVELS_MAX], middle[LEVELS_MAX];
    int n;
} ladder;

static ladder levels_of(const nib_codec *c)
{
    ladder v = {.n = c->n_codes};
    float before = 0;
    for (int k = 0; k < v.n; k++) {
        const float level = c->codebook ? c->codebook[k] : (float)(c->level0 + k);
        if (k) v.step[k] = level - before, v.middle[k] = (level + before) / 2;
        if (!k) v.first = level;
        v.top = fabsf(level) > v.top ? fabsf(level) : v.top;
        before = level;
    }
    return v;
}

/* Sums over the weights x of importance times: x level, level^2, (x - D level)^2. */
typedef struct {
    float xl, ll, ee;
} sums;

static sums try_scale(const ladder *v, const float *x, const float *imp, size_t n, float D)
{
    sums s = {0, 0, 0};
    const float inverse = D > 0 ? 1 / D : 0;
    for (size_t i = 0; i < n; i++) {
        float level = v->first;
        for (int k = 1; k < v->n; k++) level += x[i] * inverse >= v->middle[k] ? v->step[k] : 0;
        const float e = x[i] - D * level;
        s.xl += imp[i] * x[i] * level;
        s.ll += imp[i] * level * level;
        s.ee += imp[i] * e * e;
    }
    return s;
}

/* The place in sc_level that is nearest to D. */
static int16_t nearest_code(const nib_codec *c, float D)
{
    int best = c->sc_min;
    for (int k = c->sc_min + 1; k <= c->sc_max; k++)
        if (fabsf(c->sc_level[k] - D) < fabsf(c->sc_level[best] - D)) best = k;
    return (int16_t)best;
}

/* D as it can be stored: in *d, or as the code *sc of it. */
static float stored(const nib_codec *c, float D, float *d, int16_t *sc)
{
    if (!c->fixed_d) return *d = nib_scale_stored(c->scale_type, D);
    *sc = nearest_code(c, D);
    return c->sc_level[*sc];
}

static void fit_sub(const nib_codec *c, const ladder *v, const float *x, const float *imp, float *d,
                    int16_t *sc)
{
    float most = 0, least = INFINITY;
    for (size_t i = 0; i < c->sub; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    float at = most / v->top * FIRST;
    for (int t = 0; t < TRIALS; t++, at *= FACTOR) {
        float one = *d;
        int16_t code = *sc;
        sums s = try_scale(v, x, imp, c->sub, at);
        const float fine =
            c->scale_type != NIB_F8_E8M0 && !c->fixed_d && s.ll > 0 ? s.xl / s.ll : at;
        const float D = stored(c, fine, &one, &code);
        if (!isfinite(D)) continue;
        s = try_scale(v, x, imp, c->sub, D);
        if (s.ee < least) least = s.ee, *d = one, *sc = code;
    }
}

void nib_scale_fit(const nib_codec *c, nib_block_param *p, const nib_fit_in *in, size_t n,
                   unsigned cpu)
{
    float imp[NIB_BLOCK_MAX];
    const ladder v = levels_of(c);
    nib_block_fit(c, p, in, n, cpu);
    if (!n || !in->imp) return;
    nib_block_importances(imp, in->imp, c);
    for (size_t i = 0; i < n; i++)
        for (size_t s = 0; s < c->block / c->sub; s++)
            fit_sub(c, &v, in[i].w + s * c->sub, imp + s * c->sub, &p[i].d, &p[i].sc[s]);
}

void nib_levels_fit(const nib_codec *c, nib_block_param *p, const nib_fit_in *in, size_t n,
                    unsigned cpu)
{
    const ladder v = levels_of(c);
    bool weighted = false;
    (void)cpu;
    for (size_t i = 0; n && in->imp && i < c->block; i++) weighted |= in->imp[i] > 0;
    for (size_t i = 0; i < n; i++) {
        float most = 0;
        for (size_t k = 0; k < c->block; k++)
            most = fabsf(in[i].w[k]) > most ? fabsf(in[i].w[k]) : most;
        p[i] = (nib_block_param){.d = most / v.top, .sc = {1}};
        if (weighted) fit_sub(c, &v, in[i].w, in->imp, &p[i].d, &p[i].sc[0]);
    }
}
