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
#include "quant/int_kern.h"

#include <math.h>

enum { TRIALS = 2 * NIB_INT_TRIALS };
static const float FIRST = 1.25f, FACTOR = 0.94f; /* the last is 0.18 of the largest magnitude */

/* A level is the sum of the steps up to it. */
static nib_ladder levels_of(const nib_codec *c)
{
    nib_ladder v = {.n = c->n_codes};
    float before = 0;
    for (int k = 0; k < v.n; k++) {
        const float level = c->codebook ? c->codebook[k] : (float)(c->level0 + k);
        v.level[k] = k ? v.level[k - 1] + (level - before) : level;
        if (k) v.middle[k] = (level + before) / 2;
        v.top = fabsf(level) > v.top ? fabsf(level) : v.top;
        before = level;
    }
    return v;
}

/* The place in sc_level that is nearest to D, the first of two as near. */
static int16_t nearest_code(const nib_codec *c, float D)
{
    int low = c->sc_min, high = c->sc_max;
    while (low < high) { /* the first that is not below D, or the last */
        const int middle = (low + high) / 2;
        if (c->sc_level[middle] < D)
            low = middle + 1;
        else
            high = middle;
    }
    const bool before =
        low > c->sc_min && !(fabsf(c->sc_level[low] - D) < fabsf(c->sc_level[low - 1] - D));
    return (int16_t)(before ? low - 1 : low);
}

/* A scale is one of those that a code can say, and no number of its own. */
static bool has_codes(const nib_codec *c)
{
    return c->fixed_d && c->sc_level;
}

/* D as it can be stored: in *d, or as the code *sc of it. */
static float stored(const nib_codec *c, float D, float *d, int16_t *sc)
{
    if (!has_codes(c)) return *d = nib_scale_stored(c->scale_type, D);
    *sc = nearest_code(c, D);
    return c->sc_level[*sc];
}

static void fit_sub(const nib_codec *c, const nib_ladder *v, const float *x, const float *imp,
                    float *d, int16_t *sc, const nib_int_kern *kern)
{
    const bool fine = c->scale_type != NIB_F8_E8M0 && !has_codes(c);
    float at[TRIALS], D[TRIALS], one[TRIALS], most = 0, least = INFINITY;
    int16_t code[TRIALS];
    nib_ladder_sums s[TRIALS / NIB_INT_TRIALS];
    for (size_t i = 0; i < c->sub; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    at[0] = most / v->top * FIRST;
    for (int t = 1; t < TRIALS; t++) at[t] = at[t - 1] * FACTOR;
    for (int t = 0; t < TRIALS && fine; t += NIB_INT_TRIALS)
        kern->try_ladder(&s[t / NIB_INT_TRIALS], v, x, imp, c->sub, at + t);
    for (int t = 0; t < TRIALS; t++) {
        const nib_ladder_sums *sum = &s[t / NIB_INT_TRIALS];
        const int j = t % NIB_INT_TRIALS;
        one[t] = *d, code[t] = *sc;
        D[t] =
            stored(c, fine && sum->ll[j] > 0 ? sum->xl[j] / sum->ll[j] : at[t], &one[t], &code[t]);
    }
    for (int t = 0; t < TRIALS; t += NIB_INT_TRIALS)
        kern->try_ladder(&s[t / NIB_INT_TRIALS], v, x, imp, c->sub, D + t);
    for (int t = 0; t < TRIALS; t++) {
        const float e = s[t / NIB_INT_TRIALS].ee[t % NIB_INT_TRIALS];
        if (isfinite(D[t]) && e < least) least = e, *d = one[t], *sc = code[t];
    }
}

void nib_scale_fit(const nib_codec *c, nib_block_param *p, const nib_fit_in *in, size_t n,
                   unsigned cpu)
{
    float imp[NIB_BLOCK_MAX];
    const nib_ladder v = levels_of(c);
    const nib_int_kern *kern = nib_int_kern_get(cpu);
    nib_block_fit(c, p, in, n, cpu);
    if (!n || !in->imp) return;
    nib_block_importances(imp, in->imp, c);
    for (size_t i = 0; i < n; i++)
        for (size_t s = 0; s < c->block / c->sub; s++)
            fit_sub(c, &v, in[i].w + s * c->sub, imp + s * c->sub, &p[i].d, &p[i].sc[s], kern);
}

void nib_levels_fit(const nib_codec *c, nib_block_param *p, const nib_fit_in *in, size_t n,
                    unsigned cpu)
{
    const nib_ladder v = levels_of(c);
    const nib_int_kern *kern = nib_int_kern_get(cpu);
    bool weighted = false;
    for (size_t i = 0; n && in->imp && i < c->block; i++) weighted |= in->imp[i] > 0;
    for (size_t i = 0; i < n; i++) {
        float most = 0;
        for (size_t k = 0; k < c->block; k++)
            most = fabsf(in[i].w[k]) > most ? fabsf(in[i].w[k]) : most;
        p[i] = (nib_block_param){.d = most / v.top, .sc = {1}};
        if (weighted) fit_sub(c, &v, in[i].w, in->imp, &p[i].d, &p[i].sc[0], kern);
    }
}
