/* SPDX-License-Identifier: MIT */
/* quant/awq.c - see awq.h. */
#include "quant/awq.h"

#include "base/linalg.h"
#include "base/mem.h"
#include "base/par.h"

#include <math.h>
#include <string.h>

enum {
    RATIOS = 20,     /* tried: 0, 1/20 ... 19/20                                */
    CLIP_STEPS = 20, /* a step is this part of the largest weight ...           */
    CLIP_TRIED = 10, /* ... and so many are tried, the first with nothing cut   */
    CLIP_ROWS = 16,  /* rows of a task                                          */
};

/* ---- scales ---- */

static float largest(const float *w, size_t n)
{
    float top = 0;
    for (size_t i = 0; i < n; i++) top = fabsf(w[i]) > top ? fabsf(w[i]) : top;
    return top;
}

void nib_awq_weight_mean(float *mean, const nib_awq_linear *l, size_t n, size_t cols)
{
    size_t rows = 0;
    memset(mean, 0, cols * sizeof *mean);
    for (size_t k = 0; k < n; k++) rows += l[k].rows;
    const float share = 1 / (float)rows;
    for (size_t k = 0; k < n; k++)
        for (size_t r = 0; r < l[k].rows; r++)
            for (size_t at = 0; at < cols; at += l[k].group) {
                const size_t m = cols - at < l[k].group ? cols - at : l[k].group;
                const float *w = l[k].w + r * cols + at;
                const float scale = share / (largest(w, m) + 1e-6f);
                for (size_t i = 0; i < m; i++) mean[at + i] += fabsf(w[i]) * scale;
            }
}

void nib_awq_scales(float *s, const float *x_mean, const float *w_mean, size_t cols, double ratio)
{
    float high = 0, low = INFINITY;
    for (size_t i = 0; i < cols; i++) {
        double v = pow(x_mean[i], ratio);
        if (w_mean) v /= pow(w_mean[i], 1 - ratio) + 1e-4;
        s[i] = v > 1e-4 ? (float)v : 1e-4f;
        high = s[i] > high ? s[i] : high;
        low = s[i] < low ? s[i] : low;
    }
    const float middle = sqrtf(high * low);
    for (size_t i = 0; i < cols; i++) {
        s[i] /= middle;
        if (!isfinite(s[i]) || !(s[i] > 0)) s[i] = 1;
    }
}

/* Scales of the i-th trial; i = 0: none. */
static void trial(float *s, const float *x_mean, const float *w_mean, size_t cols, int i)
{
    if (i)
        nib_awq_scales(s, x_mean, w_mean, cols, (i - 1) / (double)RATIOS);
    else
        for (size_t k = 0; k < cols; k++) s[k] = 1;
}

nib_code nib_awq_search(nib_awq_choice *best, float *s, const float *x_mean, const float *w_mean,
                        size_t cols, nib_awq_loss *loss, void *arg, nib_err *err)
{
    int best_trial = -1;
    *best = (nib_awq_choice){.loss = INFINITY};
    for (int i = 0; i <= RATIOS; i++) {
        double now;
        trial(s, x_mean, w_mean, cols, i);
        nib_code rc = loss(arg, s, best->loss, &now, err);
        if (rc) return rc;
        if (!i) best->unscaled = now;
        if (!(now < best->loss)) continue;
        best->loss = now;
        best_trial = i;
    }
    if (best_trial < 0)
        return nib_fail(err, NIB_ENUMERIC, "no rescaling gives an output that is a number");
    best->ratio = best_trial ? (best_trial - 1) / (double)RATIOS : -1;
    trial(s, x_mean, w_mean, cols, best_trial);
    return NIB_OK;
}

/* ---- clipping ---- */

typedef struct {
    const float *w, *h;
    size_t cols;
    const nib_codec *c;
    float *limit;
    nib_buf *scratch; /* [threads] */
    unsigned cpu;
} clipping;

/* The block of h on its diagonal at column `at`, full. */
static void take_block(float *to, const float *h, size_t cols, size_t at, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = i; k < n; k++) to[i * n + k] = to[k * n + i] = h[(at + i) * cols + at + k];
}

/* e[n] = w rounded after clamping to +-limit, less w. */
static void clipped_error(const clipping *k, const float *w, const float *imp, float limit,
                          float *clamped, float *e)
{
    const nib_codec *c = k->c;
    const size_t n = c->block;
    nib_block_param p;
    uint8_t code[NIB_BLOCK_MAX];
    for (size_t i = 0; i < n; i++)
        clamped[i] = w[i] > limit ? limit : w[i] < -limit ? -limit : w[i];
    c->fit(c, &p, &(nib_fit_in){.w = clamped, .imp = imp}, 1, k->cpu);
    for (size_t i = 0; i < n; i += NIB_BLOCK_MAX) {
        const size_t m = n - i < NIB_BLOCK_MAX ? n - i : NIB_BLOCK_MAX;
        nib_codec_round(c, &p, i, m, clamped + i, code, e + i);
    }
    for (size_t i = 0; i < n; i++) e[i] -= w[i];
}

/* One group of n rows. hg: its block of h; e, he: [n * CLIP_TRIED][group]; clamped: [2][group]. */
static void clip_group(const clipping *k, size_t row, size_t n, size_t at, const float *hg,
                       float *e, float *he, float *clamped)
{
    const size_t group = k->c->block;
    float *imp = clamped + group;
    for (size_t i = 0; i < group; i++) imp[i] = hg[i * group + i];
    for (size_t t = 0; t < n * CLIP_TRIED; t++) {
        const float *w = k->w + (row + t / CLIP_TRIED) * k->cols + at;
        const float limit = largest(w, group) * (1 - (float)(t % CLIP_TRIED) / CLIP_STEPS);
        clipped_error(k, w, imp, limit, clamped, e + t * group);
    }
    nib_gemm_nn(n * CLIP_TRIED, group, group, e, group, hg, group, he, group, 0);
    for (size_t r = 0; r < n; r++) {
        double least = INFINITY;
        const float top = largest(k->w + (row + r) * k->cols + at, group);
        float *limit = k->limit + ((row + r) * k->cols + at) / group;
        *limit = top;
        for (size_t t = 0; t < CLIP_TRIED; t++) {
            const size_t from = (r * CLIP_TRIED + t) * group;
            double error = 0;
            for (size_t i = 0; i < group; i++) error += (double)e[from + i] * he[from + i];
            if (!(error < least)) continue;
            least = error;
            *limit = top * (1 - (float)t / CLIP_STEPS);
        }
    }
}

static nib_code clip_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const clipping *k = arg;
    const size_t group = k->c->block, tried = CLIP_ROWS * CLIP_TRIED * group;
    float *hg =
        nib_buf_reserve(&k->scratch[thread], group * group + 2 * tried + 2 * group, sizeof *hg);
    if (!hg) return nib_fail_nomem(err, "work memory");
    float *e = hg + group * group, *he = e + tried;
    for (size_t at = 0; at < k->cols; at += group) {
        take_block(hg, k->h, k->cols, at, group);
        clip_group(k, begin, end - begin, at, hg, e, he, he + tried);
    }
    return NIB_OK;
}

nib_code nib_awq_clip(float *limit, const float *w, size_t rows, size_t cols, const nib_codec *c,
                      const float *h, const nib_ctx *ctx, nib_err *err)
{
    clipping k = {w,       h, cols, c, limit, nib_calloc((size_t)ctx->threads, sizeof *k.scratch),
                  ctx->cpu};
    if (!k.scratch) return nib_fail_nomem(err, "work memory");
    nib_code rc = nib_par_for(ctx->threads, rows, CLIP_ROWS, clip_rows, &k, err);
    for (int i = 0; i < ctx->threads; i++) nib_buf_free(&k.scratch[i]);
    nib_free(k.scratch);
    return rc;
}

void nib_awq_clamp(float *w, const float *limit, size_t rows, size_t cols, size_t group)
{
    for (size_t i = 0; i < rows * cols; i++) {
        const float m = limit[i / group];
        w[i] = w[i] > m ? m : w[i] < -m ? -m : w[i];
    }
}
