/* SPDX-License-Identifier: MIT */
/* quant/scaled.c - see scaled.h. */
#include "quant/scaled.h"

#include <math.h>

enum { AT_ONCE = 16, ROOM = 16, LEAST = -100, MOST = 100 };

static void fit_some(const nib_scaled_codec *s, nib_block_param *p, const nib_fit_in *in, size_t n,
                     unsigned cpu)
{
    float w[AT_ONCE][NIB_BLOCK_MAX];
    nib_fit_in divided[AT_ONCE];
    const float f = *s->factor, inverse = 1 / f;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < s->base->block; k++) w[i][k] = in[i].w[k] * inverse;
        divided[i] = (nib_fit_in){w[i], in[i].imp, in[i].row_mean_square * inverse * inverse};
    }
    s->base->fit(s->base, p, divided, n, cpu);
    for (size_t i = 0; i < n; i++) p[i].d *= f;
}

static void fit(const nib_codec *c, nib_block_param *p, const nib_fit_in *in, size_t n,
                unsigned cpu)
{
    for (size_t i = 0; i < n; i += AT_ONCE)
        fit_some((const nib_scaled_codec *)c, p + i, in + i, n - i < AT_ONCE ? n - i : AT_ONCE,
                 cpu);
}

void nib_scaled_codec_make(nib_scaled_codec *c, const nib_codec *base, const float *factor)
{
    *c = (nib_scaled_codec){.codec = *base, .base = base, .factor = factor};
    c->codec.fit = fit;
}

float nib_scaled_factor(const nib_codec *base, float most)
{
    int e;
    if (!(most > 0)) return 1;
    const float part = frexpf(most / (nib_codec_most(base) / ROOM), &e);
    e -= part == 0.5f; /* a power of two already */
    return ldexpf(1, e < LEAST ? LEAST : e > MOST ? MOST : e);
}
