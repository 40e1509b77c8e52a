/* SPDX-License-Identifier: MIT */
/* infer/delta.c - see delta.h. Sums are in f64: errors of a state go on through all tokens after.
 * Tests: tests/run/test_arch_golden.c. */
#include "infer/delta.h"

#include "base/par.h"

#include <math.h>
#include <string.h>

size_t nib_delta_channels(const nib_hparams *hp)
{
    return 2 * (size_t)hp->n_lin_k * hp->lin_k_dim + (size_t)hp->n_lin_v * hp->lin_v_dim;
}

/* ---- convolution ---- */

static nib_code convolve(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const nib_delta *d = arg;
    const size_t width = nib_delta_channels(&d->g->m->hp), taps = d->g->m->hp.lin_taps;
    (void)thread, (void)err;
    for (size_t seq = begin; seq < end; seq++) {
        float *x = d->x + seq * d->n_tok * width;
        for (size_t t = d->n_tok; t-- > 0;) /* rows before this one are still as they were */
            for (size_t c = 0; c < width; c++) {
                double sum = 0;
                for (size_t back = 0; back < taps && back <= t; back++)
                    sum += (double)d->kernel[c * taps + taps - 1 - back] *
                           (double)x[(t - back) * width + c];
                x[t * width + c] = (float)(sum / (1 + exp(-sum)));
            }
    }
    return NIB_OK;
}

nib_code nib_delta_convolve(const nib_delta *d, nib_err *err)
{
    return nib_par_for(d->g->ctx.threads, d->n_seq, 1, convolve, (void *)d, err);
}

/* ---- the delta rule ---- */

/* to = x of length 1, times `by`. */
static void to_length(double *to, const float *x, size_t n, double by)
{
    double sum = 1e-6;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    for (size_t i = 0; i < n; i++) to[i] = (double)x[i] * by / sqrt(sum);
}

/* One token of one head: state[k_dim][v_dim]; `sum`: [v_dim]. */
static void head_token(double *state, float *out, double *sum, const double *q, const double *k,
                       const float *v, double beta, double decay, size_t k_dim, size_t v_dim)
{
    memset(sum, 0, v_dim * sizeof *sum);
    for (size_t i = 0; i < k_dim; i++)
        for (size_t j = 0; j < v_dim; j++) {
            state[i * v_dim + j] *= decay;
            sum[j] += state[i * v_dim + j] * k[i];
        }
    for (size_t i = 0; i < k_dim; i++)
        for (size_t j = 0; j < v_dim; j++)
            state[i * v_dim + j] += k[i] * ((double)v[j] - sum[j]) * beta;
    memset(sum, 0, v_dim * sizeof *sum);
    for (size_t i = 0; i < k_dim; i++)
        for (size_t j = 0; j < v_dim; j++) sum[j] += state[i * v_dim + j] * q[i];
    for (size_t j = 0; j < v_dim; j++) out[j] = (float)sum[j];
}

/* Tasks are numbered sequence by sequence, value head by value head. */
static nib_code attend(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const nib_delta *d = arg;
    const nib_hparams *hp = &d->g->m->hp;
    const size_t k_dim = hp->lin_k_dim, v_dim = hp->lin_v_dim, heads = hp->n_lin_v;
    const size_t width = nib_delta_channels(hp), keys = hp->n_lin_k * k_dim;
    double *work =
        nib_buf_reserve(&d->g->scratch[thread], k_dim * v_dim + 2 * k_dim + v_dim, sizeof *work);
    if (!work) return nib_fail_nomem(err, "a state of linear attention");
    double *q = work + k_dim * v_dim, *k = q + k_dim, *sum = k + k_dim;
    for (size_t i = begin; i < end; i++) {
        const size_t seq = i / heads, h = i % heads;
        const size_t of = d->g->m->tiled_heads ? h % hp->n_lin_k : h / (heads / hp->n_lin_k);
        memset(work, 0, k_dim * v_dim * sizeof *work);
        for (size_t t = 0; t < d->n_tok; t++) {
            const size_t row = seq * d->n_tok + t;
            const float *x = d->x + row * width;
            to_length(q, x + of * k_dim, k_dim, 1 / sqrt((double)k_dim));
            to_length(k, x + keys + of * k_dim, k_dim, 1);
            head_token(work, d->out + (row * heads + h) * v_dim, sum, q, k,
                       x + 2 * keys + h * v_dim, 1 / (1 + exp(-(double)d->beta[row * heads + h])),
                       (double)d->decay[row * heads + h], k_dim, v_dim);
        }
    }
    return NIB_OK;
}

nib_code nib_delta_attend(const nib_delta *d, nib_err *err)
{
    return nib_par_for(d->g->ctx.threads, d->n_seq * d->g->m->hp.n_lin_v, 1, attend, (void *)d,
                       err);
}
