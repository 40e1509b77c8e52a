/* SPDX-License-Identifier: MIT */
/* quant/hqq.c - see hqq.h. Rows are fitted side by side, sub-block by sub-block. */
#include "quant/hqq.h"

#include "base/mem.h"
#include "base/par.h"
#include "quant/codec_int.h"
#include "quant/lanes.h"

#include <math.h>

enum { L = NIB_LANES, ITERATIONS = 20 };

/* 10^(-1/1.3): below it shrink() is 0. */
static const float SHRUNK = 0.17f;

typedef struct {
    const nib_codec *c;
    const nib_lanes *k;
    nib_levels levels;
    const float *w;
    size_t rows, cols;
    float *value;
    uint8_t *code;
    nib_block_param *param;
    float *memory; /* [threads][each] */
    size_t each;
    unsigned cpu;
} job;

/* A sub-block of so many rows: [sub][lane]. */
typedef struct {
    float *w, *q;
    uint8_t *code;
} tile;

/* Of the columns of a sub-block in one lane; targets are w - e. */
typedef struct {
    double error[L], level[L], target[L], product[L], square[L];
} sums;

bool nib_hqq_fits(const nib_codec *c)
{
    return c->fit && !c->finish;
}

static tile tile_of(const job *j, int thread)
{
    float *w = j->memory + (size_t)thread * j->each;
    float *q = w + (size_t)j->c->sub * L;
    return (tile){w, q, (uint8_t *)(q + (size_t)j->c->sub * L)};
}

/* Parameters of the block that column `at` of a row belongs to. */
static nib_block_param *param_at(const job *j, size_t row, size_t at)
{
    return &j->param[(row * j->cols + at) / j->c->block];
}

static void load(const job *j, size_t row, size_t n, size_t at, tile *t)
{
    for (size_t i = 0; i < j->c->sub; i++)
        for (size_t l = n; l < L; l++) t->w[i * L + l] = 0;
    for (size_t l = 0; l < n; l++) {
        const float *w = j->w + (row + l) * j->cols + at;
        for (size_t i = 0; i < j->c->sub; i++) t->w[i * L + l] = w[i];
    }
}

static void grid_of(const job *j, size_t row, size_t n, size_t at, nib_lane_grid *g)
{
    const size_t sub = at % j->c->block / j->c->sub;
    *g = (nib_lane_grid){.scale = {0}};
    for (size_t l = 0; l < n; l++) {
        const nib_block_param *p = param_at(j, row + l, at);
        g->scale[l] = p->d * nib_codec_sub_scale(j->c, p->sc[sub]);
        g->zero[l] = p->zero;
        g->offset[l] = p->dmin * (float)p->mn[sub];
        g->minus[l] = j->c->points_sign == NIB_SHIFT_SUB && p->sc[sub] >= NIB_SHIFT_BIT;
    }
}

static void round_tile(const job *j, const nib_lane_grid *g, tile *t)
{
    static const float even[NIB_VEC_MAX] = {1, 1, 1, 1, 1, 1, 1, 1};
    const nib_codec *c = j->c;
    const size_t step = c->vec ? c->vec : 1;
    for (size_t i = 0; i < c->sub; i += step)
        if (c->vec)
            j->k->round_points(c, L, even, g->scale, g->minus, t->w + i * L, t->q + i * L,
                               t->code + i * L);
        else
            j->k->round(&j->levels, g, t->w + i * L, t->q + i * L, t->code + i * L);
}

static float shrink(float x)
{
    const float a = fabsf(x), left = a - powf(a, -0.3f) / 10;
    return left > 0 ? copysignf(left, x) : 0;
}

static void add_up(const job *j, const tile *t, sums *s)
{
    *s = (sums){.error = {0}};
    for (size_t i = 0; i < j->c->sub; i++)
        for (size_t l = 0; l < L; l++) {
            const size_t at = i * L + l;
            const float x = t->w[at], error = x - t->q[at];
            const double target = fabsf(error) > SHRUNK ? x - shrink(error) : x;
            const double level = j->levels.codebook ? j->levels.level[t->code[at]]
                                                    : j->levels.level0 + (float)t->code[at];
            s->error[l] += fabsf(error);
            s->level[l] += level;
            s->target[l] += target;
            s->product[l] += target * level;
            s->square[l] += level * level;
        }
}

/* The code of the scale of a sub-block that is nearest to D. */
static int16_t nearest_scale(const nib_codec *c, const nib_block_param *p, size_t sub, double D)
{
    const int shift = c->vec && c->points_sign == NIB_SHIFT_SUB ? p->sc[sub] & NIB_SHIFT_BIT : 0;
    int best = p->sc[sub];
    for (int sc = c->sc_min; sc <= c->sc_max; sc++) {
        if (shift != (c->vec && c->points_sign == NIB_SHIFT_SUB ? sc & NIB_SHIFT_BIT : 0)) continue;
        if (fabs((double)p->d * nib_codec_sub_scale(c, sc) - D) <
            fabs((double)p->d * nib_codec_sub_scale(c, best) - D))
            best = sc;
    }
    return (int16_t)best;
}

/* The scale for the levels less their zero point. */
static void fit_scale(const nib_codec *c, nib_block_param *p, size_t sub, const sums *s, size_t l)
{
    const double z = p->zero, n = c->sub;
    const double square = s->square[l] - 2 * z * s->level[l] + n * z * z;
    const double D = (s->product[l] - z * s->target[l]) / square;
    if (!(square > 0) || !isfinite((float)D)) return;
    if (c->sc_min != c->sc_max) {
        p->sc[sub] = nearest_scale(c, p, sub, D);
        return;
    }
    const float d = nib_scale_stored(c->scale_type, (float)D);
    if (isfinite(d) && d != 0) p->d = d;
}

/* What takes the whole numbers that a format's zero points are. */
static float whole_zero(const nib_codec *c, double z)
{
    const float least = (float)((const nib_int_codec *)c)->zero_min, top = (float)(c->n_codes - 1);
    const float whole = rintf((float)z);
    return whole < least ? least : whole > top ? top : whole;
}

static void fit_sub(const nib_codec *c, nib_block_param *p, size_t sub, const sums *s, size_t l)
{
    const double n = c->sub, D = (double)p->d * nib_codec_sub_scale(c, p->sc[sub]);
    const double minimum = (D * s->level[l] - s->target[l]) / n;
    if (c->mn_max == 1) {
        p->dmin = (float)minimum;
    } else if (c->mn_max) {
        const double mn = p->dmin > 0 ? rint(minimum / p->dmin) : 0;
        p->mn[sub] = (int16_t)(mn > c->mn_max ? c->mn_max : mn > 0 ? mn : 0);
    } else {
        if (c->zero != NIB_ZERO_FIXED && D != 0)
            p->zero = c->zero == NIB_ZERO_REAL ? (float)(minimum / D) : whole_zero(c, minimum / D);
        if (c->zero != NIB_ZERO_REAL) fit_scale(c, p, sub, s, l);
    }
}

/* One round of all sub-blocks of n rows. Returns the sum of |w - q| before it. */
static double improve(const job *j, size_t row, size_t n, tile *t)
{
    nib_lane_grid g;
    sums s;
    double error = 0;
    for (size_t at = 0; at < j->cols; at += j->c->sub) {
        load(j, row, n, at, t);
        grid_of(j, row, n, at, &g);
        round_tile(j, &g, t);
        add_up(j, t, &s);
        for (size_t l = 0; l < n; l++) {
            error += s.error[l];
            fit_sub(j->c, param_at(j, row + l, at), at % j->c->block / j->c->sub, &s, l);
        }
    }
    return error;
}

static void fit_rows(const job *j, size_t row, size_t n)
{
    nib_fit_in in[L] = {0};
    nib_block_param p[L];
    for (size_t at = 0; at < j->cols; at += j->c->block) {
        for (size_t l = 0; l < n; l++) in[l].w = j->w + (row + l) * j->cols + at;
        j->c->fit(j->c, p, in, n, j->cpu);
        for (size_t l = 0; l < n; l++) *param_at(j, row + l, at) = p[l];
    }
}

/* Parameters as they can be stored. */
static void store_params(const job *j, size_t row, size_t n)
{
    const nib_codec *c = j->c;
    for (size_t at = 0; at < n * j->cols; at += c->block) {
        nib_block_param *p = param_at(j, row, at);
        if (c->mn_max == 1) p->dmin = nib_scale_stored(c->scale_type, p->dmin);
        if (c->zero == NIB_ZERO_REAL) p->zero = nib_scale_stored(c->scale_type, p->zero);
    }
}

static void round_rows(const job *j, size_t row, size_t n, tile *t)
{
    nib_lane_grid g;
    for (size_t at = 0; at < j->cols; at += j->c->sub) {
        load(j, row, n, at, t);
        grid_of(j, row, n, at, &g);
        round_tile(j, &g, t);
        for (size_t l = 0; l < n; l++)
            for (size_t i = 0; i < j->c->sub; i++) {
                j->value[(row + l) * j->cols + at + i] = t->q[i * L + l];
                j->code[(row + l) * j->cols + at + i] = t->code[i * L + l];
            }
    }
}

static nib_code fit_task(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    const job *j = arg;
    const size_t n = end - begin;
    tile t = tile_of(j, thread);
    double least = INFINITY;
    nib_code rc = nib_codec_check(j->c, j->w + begin * j->cols, n * j->cols, err);
    if (rc) return rc;
    fit_rows(j, begin, n);
    for (int i = 0; i < ITERATIONS; i++) {
        const double error = improve(j, begin, n, &t);
        if (!(error < least)) break;
        least = error;
    }
    store_params(j, begin, n);
    round_rows(j, begin, n, &t);
    return NIB_OK;
}

nib_code nib_hqq_rows(const nib_codec *c, const float *w, size_t rows, size_t cols, float *value,
                      uint8_t *code, nib_block_param *param, const nib_ctx *ctx, nib_err *err)
{
    job j = {.c = c,
             .k = nib_lanes_get(ctx->cpu),
             .w = w,
             .rows = rows,
             .cols = cols,
             .value = value,
             .code = code,
             .param = param,
             .cpu = ctx->cpu};
    if (cols % c->block)
        return nib_fail(err, NIB_EINVAL,
                        "%s: rows of %zu weights are no multiple of its block of %u", c->name, cols,
                        c->block);
    nib_levels_init(&j.levels, c);
    j.each = (size_t)c->sub * L * 9 / 4; /* two tiles of floats, and one of bytes */
    if (!(j.memory = nib_alloc((size_t)ctx->threads, j.each * sizeof *j.memory)))
        return nib_fail_nomem(err, "rounding");
    nib_code rc = nib_par_for(ctx->threads, rows, L, fit_task, &j, err);
    nib_free(j.memory);
    return rc;
}
