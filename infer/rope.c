/* SPDX-License-Identifier: MIT */
/* infer/rope.c - angles of the rotary embedding under the scalings of longer contexts; the pairs'
 * divisors of Llama 3 are model.c's. Formulas: Transformers' modeling_rope_utils.py.
 * Tests: tests/run/test_arch_golden.c. */
#include "infer/model.h"

#include <math.h>

static const double PI = 3.14159265358979323846;

/* The pair whose wavelength fits `turns` times into the original context. */
static double pair_of(const nib_hparams *hp, double turns)
{
    return hp->rope_dim * log(hp->yarn.n_ctx_orig / (turns * 2 * PI)) /
           (2 * log((double)hp->rope_base));
}

/* How much of pair i's step is divided by the factor: YaRN (Peng et al. 2023). */
static double yarn_ramp(const nib_hparams *hp, uint32_t i)
{
    double low = pair_of(hp, (double)hp->yarn.beta_fast);
    double high = pair_of(hp, (double)hp->yarn.beta_slow);
    if (!hp->yarn.not_truncated) low = floor(low), high = ceil(high);
    low = fmax(low, 0);
    high = fmin(high, hp->rope_dim - 1.0);
    if (low == high) high += 0.001;
    return fmin(fmax((i - low) / (high - low), 0), 1);
}

double nib_yarn_magnitude(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

double nib_rope_magnitude(const nib_hparams *hp)
{
    const nib_rope_yarn *y = &hp->yarn;
    const double factor = (double)hp->rope_factor;
    if (hp->rope_scaling != NIB_ROPE_YARN && hp->rope_scaling != NIB_ROPE_LONGROPE) return 1;
    if (y->attn_factor > 0) return (double)y->attn_factor;
    if (hp->rope_scaling == NIB_ROPE_LONGROPE)
        return factor <= 1 ? 1 : sqrt(1 + log(factor) / log((double)y->n_ctx_orig));
    if (y->mscale > 0 && y->mscale_all > 0)
        return nib_yarn_magnitude(factor, (double)y->mscale) /
               nib_yarn_magnitude(factor, (double)y->mscale_all);
    return nib_yarn_magnitude(factor, 1);
}

double nib_rope_step(const nib_hparams *hp, const float *divisor, uint32_t i, size_t n_ctx,
                     double *magnitude)
{
    const double at = -2.0 * i / hp->rope_dim, factor = (double)hp->rope_factor;
    const double most = hp->n_ctx_train, part = hp->rope_dim;
    double base = (double)hp->rope_base;
    *magnitude = nib_rope_magnitude(hp);
    if (hp->rope_scaling == NIB_ROPE_DYNAMIC && (double)n_ctx > most)
        base *= pow(factor * (double)n_ctx / most - (factor - 1), part / (part - 2));
    double step = pow(base, at);
    if (hp->rope_scaling == NIB_ROPE_LINEAR) step /= factor;
    if (hp->rope_scaling == NIB_ROPE_YARN) {
        const double ramp = yarn_ramp(hp, i);
        step = step / factor * ramp + step * (1 - ramp);
    }
    if (hp->rope_scaling == NIB_ROPE_LONGROPE)
        step /= (double)(n_ctx > hp->yarn.n_ctx_orig ? hp->rope_long : hp->rope_short)[i];
    return divisor ? step / (double)divisor[i] : step;
}
