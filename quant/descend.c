/* SPDX-License-Identifier: MIT */
/* quant/descend.c - coordinate descent on codes and scales under the full Hessian.
 *
 * The error of a row is e(q) = (w-q)' H (w-q), with gradient -2 g, g = H (w-q). Moving q by a step
 * s changes it by s'Hs - 2 s'g, exactly. A sweep goes through the sub-blocks in order; in each it
 *   - tries the current grid and its neighbours (scale and minimum codes one step away; for formats
 * with a scale of their own per block, a little larger and smaller): under each, one pass in which
 * every column takes the code that is best given all other columns;
 *   - keeps the grid with the largest decrease, in every row for itself;
 * and before a block's sub-blocks it refits the super-scales d and dmin by least squares. Every
 * step is accepted by its exact decrease, so the error never grows. g is kept exact inside the
 * current stretch of columns and brought up to date outside by one matrix product per stretch. */
#include "quant/chunk.h"

#include "base/half.h"
#include "base/linalg.h"

#include <math.h>
#include <string.h>

enum { L = NIB_LANES, STRETCH = 128, CANDIDATES = 9 };

static size_t stretch_cols(const nib_codec *c)
{
    return c->block > STRETCH ? c->block : STRETCH;
}

size_t nib_chunk_tmp(const nib_codec *c, size_t lazy)
{
    size_t stretch = stretch_cols(c), sub = c->sub;
    size_t descend = stretch        /* q before the stretch, then its change    */
                     + 4 * c->block /* directions of the super-scales, times H  */
                     + 4 * sub;     /* trial q, g, best q, and codes as bytes   */
    size_t feed = lazy + c->block;  /* scaled errors, a block in stored order   */
    return L * (descend > feed ? descend : feed);
}

void nib_chunk_grid(const nib_chunk *ch, size_t s, nib_lane_grid *grid)
{
    size_t b = s * ch->codec->sub / ch->codec->block;
    for (int l = 0; l < L; l++) {
        grid->scale[l] = ch->d[b * L + l] * ch->sc[s * L + l];
        grid->offset[l] = ch->dmin[b * L + l] * ch->mn[s * L + l];
        grid->zero[l] = ch->zero[b * L + l];
    }
}

/* Parameters of one sub-block in every lane. */
typedef struct {
    float d[L], dmin[L], zero[L], sc[L], mn[L];
} trial;

static float f16_round(float x)
{
    return nib_f16_to_f32(nib_f32_to_f16(x));
}

static float clampf(float x, float lo, float hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

/* Candidate t of sub-block s: false when there are no more. step: relative change of free scales.
 */
static bool candidate(const nib_chunk *ch, size_t s, int t, float step, trial *p)
{
    const nib_codec *c = ch->codec;
    const bool own_scale = c->sc_min == c->sc_max, has_min = c->mn_max > 0;
    static const int move[CANDIDATES][2] = {{0, 0}, {1, 0},   {-1, 0}, {0, 1}, {0, -1},
                                            {1, 1}, {-1, -1}, {1, -1}, {-1, 1}};
    if (t >= (has_min ? CANDIDATES : 3)) return false;
    size_t b = s * c->sub / c->block;
    float ds = (float)move[t][0], dm = (float)move[t][1];
    for (int l = 0; l < L; l++) {
        float d = ch->d[b * L + l], dmin = ch->dmin[b * L + l];
        float sc = ch->sc[s * L + l], mn = ch->mn[s * L + l];
        if (own_scale) {
            if (has_min) dmin = f16_round(dmin + dm * step * 4 * d);
            d = f16_round(d * (1 + ds * step));
        } else {
            sc = clampf(sc + ds, c->sc_min, c->sc_max);
            if (has_min) mn = clampf(mn + dm, 0, c->mn_max);
        }
        p->d[l] = d, p->dmin[l] = dmin, p->sc[l] = sc, p->mn[l] = mn;
        p->zero[l] = ch->zero[b * L + l];
    }
    return true;
}

static void trial_grid(const trial *p, nib_lane_grid *grid)
{
    for (int l = 0; l < L; l++) {
        grid->scale[l] = p->d[l] * p->sc[l];
        grid->offset[l] = p->dmin[l] * p->mn[l];
        grid->zero[l] = p->zero[l];
    }
}

/* Lane by lane, keep the trial where it gained more. The first is always kept: where weights are
 * too large for the format no gain is a number. */
static void keep_better(size_t n, const float *gain, const float *q, const uint8_t *code,
                        const trial *p, float *best_gain, float *best_q, uint8_t *best_code,
                        trial *best)
{
    for (int l = 0; l < L; l++) {
        const bool first = best_gain[l] == -INFINITY;
        if (!first && !(gain[l] > best_gain[l])) continue;
        best_gain[l] = gain[l];
        best->d[l] = p->d[l], best->dmin[l] = p->dmin[l], best->zero[l] = p->zero[l];
        best->sc[l] = p->sc[l], best->mn[l] = p->mn[l];
        for (size_t i = 0; i < n; i++) {
            best_q[i * L + l] = q[i * L + l];
            best_code[i * L + l] = code[i * L + l];
        }
    }
}

/* g += H[.., j0..j0+n) * change for the columns [from, to). */
static void spread(nib_chunk *ch, size_t from, size_t to, size_t j0, size_t n, const float *change)
{
    if (from >= to) return;
    nib_gemm_nn(to - from, L, n, ch->h + from * ch->cols + j0, ch->cols, change, L,
                ch->g + from * L, L, 1);
}

/* Best grid and codes of sub-block s; columns [i1, i2) are the stretch whose g is kept exact. */
static void improve_sub(nib_chunk *ch, size_t s, size_t i1, size_t i2, float step, float *gained)
{
    const size_t n = ch->codec->sub, j0 = s * n, b = j0 / ch->codec->block;
    float *q = ch->tmp + L * (stretch_cols(ch->codec) + 4 * ch->codec->block);
    float *g = q + n * L, *best_q = g + n * L;
    uint8_t *code = (uint8_t *)(best_q + n * L), *best_code = code + n * L;
    float *q0 = ch->q + j0 * L, gain[L], best_gain[L];
    trial p, best;
    nib_lane_grid grid;

    for (int l = 0; l < L; l++) best_gain[l] = -INFINITY;
    for (int t = 0; candidate(ch, s, t, step, &p); t++) {
        memcpy(q, q0, n * L * sizeof *q);
        memcpy(g, ch->g + j0 * L, n * L * sizeof *g);
        memset(gain, 0, sizeof gain);
        trial_grid(&p, &grid);
        ch->k->descend(&ch->levels, &grid, n, ch->h + j0 * ch->cols + j0, ch->cols, q, g, code,
                       gain);
        keep_better(n, gain, q, code, &p, best_gain, best_q, best_code, &best);
    }
    for (size_t i = 0; i < n * L; i++) { /* the change, old - new, takes the place of the trial */
        q[i] = q0[i] - best_q[i];
        q0[i] = best_q[i];
    }
    memcpy(ch->code + j0 * L, best_code, n * L);
    memcpy(ch->d + b * L, best.d, sizeof best.d);
    memcpy(ch->dmin + b * L, best.dmin, sizeof best.dmin);
    memcpy(ch->sc + s * L, best.sc, sizeof best.sc);
    memcpy(ch->mn + s * L, best.mn, sizeof best.mn);
    for (int l = 0; l < L; l++) gained[l] += best_gain[l];
    spread(ch, i1, i2, j0, n, q);
}

static float level_of(const nib_chunk *ch, uint8_t code)
{
    return ch->codec->codebook ? ch->levels.level[code] : ch->levels.level0 + (float)code;
}

/* What a refit of block b knows in every lane. u and v are the directions in which its values move
 * with d and dmin; the rest is their products under H, and with g. */
typedef struct {
    double uu[L], uv[L], vv[L], ug[L], vg[L];
} products;

/* u, v: [block][lane]. */
static void super_directions(const nib_chunk *ch, size_t b, float *u, float *v)
{
    const nib_codec *c = ch->codec;
    for (size_t i = 0; i < c->block; i++) {
        const size_t col = b * c->block + i, s = col / c->sub;
        for (size_t l = 0; l < L; l++) {
            float level = level_of(ch, ch->code[col * L + l]);
            u[i * L + l] = ch->sc[s * L + l] * (level - ch->zero[b * L + l]);
            v[i * L + l] = -ch->mn[s * L + l];
        }
    }
}

/* hu, hv: [block][lane], scratch. */
static void super_products(const nib_chunk *ch, size_t b, const float *u, const float *v, float *hu,
                           float *hv, products *p)
{
    const size_t n = ch->codec->block, j0 = b * n;
    const float *h = ch->h + j0 * ch->cols + j0, *g = ch->g + j0 * L;
    nib_gemm_nn(n, L, n, h, ch->cols, u, L, hu, L, 0);
    if (ch->codec->mn_max)
        nib_gemm_nn(n, L, n, h, ch->cols, v, L, hv, L, 0);
    else
        memset(hv, 0, n * L * sizeof *hv);
    memset(p, 0, sizeof *p);
    for (size_t i = 0; i < n; i++)
        for (size_t l = 0; l < L; l++) {
            const size_t at = i * L + l;
            p->uu[l] += (double)u[at] * hu[at];
            p->uv[l] += (double)v[at] * hu[at];
            p->vv[l] += (double)v[at] * hv[at];
            p->ug[l] += (double)u[at] * g[at];
            p->vg[l] += (double)v[at] * g[at];
        }
}

/* The best step (a, m) of d and dmin in lane l, as far as f16 has it. Returns what the error
 * decreases by; 0: stay. */
static double super_step(const nib_codec *c, const products *p, size_t l, float *d, float *dmin)
{
    const double uu = p->uu[l], uv = p->uv[l], vv = p->vv[l], ug = p->ug[l], vg = p->vg[l];
    const double det = uu * vv - uv * uv;
    double a = 0, m = 0;
    if (c->mn_max && det > 1e-6 * uu * vv) {
        a = (ug * vv - vg * uv) / det;
        m = (vg * uu - ug * uv) / det;
    } else if (uu > 0) {
        a = ug / uu;
    }
    float new_d = f16_round((float)(*d + a)), new_dmin = f16_round((float)(*dmin + m));
    if (c->mn_max > 1 && new_dmin < 0) new_dmin = *dmin;
    a = (double)new_d - *d;
    m = (double)new_dmin - *dmin;
    double gain = 2 * (a * ug + m * vg) - (a * a * uu + 2 * a * m * uv + m * m * vv);
    if (!(gain > 0) || !isfinite(new_d) || !isfinite(new_dmin)) return 0;
    *d = new_d;
    *dmin = new_dmin;
    return gain;
}

/* The values of block b under its parameters; change = old - new, [block][lane]. */
static void revalue_block(nib_chunk *ch, size_t b, float *change)
{
    const nib_codec *c = ch->codec;
    nib_lane_grid grid;
    for (size_t i = 0; i < c->block; i++) {
        const size_t col = b * c->block + i;
        float *q = ch->q + col * L;
        if (i % c->sub == 0) nib_chunk_grid(ch, col / c->sub, &grid);
        for (size_t l = 0; l < L; l++) {
            float level = level_of(ch, ch->code[col * L + l]);
            float value = grid.scale[l] * (level - grid.zero[l]) - grid.offset[l];
            change[i * L + l] = q[l] - value;
            q[l] = value;
        }
    }
}

/* Least-squares d and dmin of block b given codes and sub-scales; columns [i1, i2) are the stretch
 * whose g is kept exact. */
static void refit_super(nib_chunk *ch, size_t b, size_t i1, size_t i2, float *gained)
{
    const size_t n = ch->codec->block;
    float *u = ch->tmp + L * stretch_cols(ch->codec), *v = u + n * L, *hu = v + n * L;
    products p;
    bool moved = false;
    super_directions(ch, b, u, v);
    super_products(ch, b, u, v, hu, hu + n * L, &p);
    for (size_t l = 0; l < L; l++) {
        double gain = super_step(ch->codec, &p, l, &ch->d[b * L + l], &ch->dmin[b * L + l]);
        gained[l] += (float)gain;
        moved = moved || gain > 0;
    }
    if (!moved) return;
    revalue_block(ch, b, u);
    spread(ch, i1, i2, b * n, n, u);
}

/* g = H (w - q); returns the error summed over the lanes. */
double nib_chunk_error(nib_chunk *ch)
{
    double error = 0;
    for (size_t i = 0; i < ch->cols * L; i++) ch->work[i] = ch->w[i] - ch->q[i];
    nib_gemm_nn(ch->cols, L, ch->cols, ch->h, ch->cols, ch->work, L, ch->g, L, 0);
    for (size_t i = 0; i < ch->cols * L; i++) error += (double)ch->work[i] * ch->g[i];
    return error;
}

static void sweep(nib_chunk *ch, float step, float *gained)
{
    const nib_codec *c = ch->codec;
    const size_t width = stretch_cols(c);
    float *before = ch->tmp;
    for (size_t i1 = 0; i1 < ch->cols; i1 += width) {
        size_t i2 = i1 + width < ch->cols ? i1 + width : ch->cols;
        memcpy(before, ch->q + i1 * L, (i2 - i1) * L * sizeof *before);
        for (size_t j = i1; j < i2; j += c->block) {
            refit_super(ch, j / c->block, i1, i2, gained);
            for (size_t s = j / c->sub; s < (j + c->block) / c->sub; s++)
                improve_sub(ch, s, i1, i2, step, gained);
        }
        for (size_t i = 0; i < (i2 - i1) * L; i++) before[i] -= ch->q[i1 * L + i];
        spread(ch, 0, i1, i1, i2 - i1, before);
        spread(ch, i2, ch->cols, i1, i2 - i1, before);
    }
}

void nib_chunk_descend(nib_chunk *ch, unsigned sweeps)
{
    double error = nib_chunk_error(ch);
    float step = 1.0f / 32;
    for (unsigned n = 0; n < sweeps; n++, step /= 2) {
        float gained[L] = {0};
        double sum = 0;
        sweep(ch, step, gained);
        for (int l = 0; l < L; l++) sum += gained[l];
        error -= sum;
        if (sum < 1e-3 * error) break;
    }
}
