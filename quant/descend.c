/* SPDX-License-Identifier: MIT */
/* quant/descend.c - coordinate descent on codes and scales under the full Hessian.
 *
 * With e = w - q the error of a row is e' H e. Moving e by a step s changes it by s'Hs + 2 s'g,
 * g = H e, exactly. A sweep goes through the sub-blocks in order; in each it
 *   - tries the current grid and its neighbours (scale and minimum codes one step away; for formats
 *     with a scale of their own per block, a little larger and smaller; the other shift): under
 *     each, one pass in which every column, or vector of columns, takes the code that is best given
 *     all others;
 *   - keeps the grid with the largest decrease, in every row for itself;
 * and before a block's sub-blocks it refits the super-scales d and dmin by least squares. Every
 * step is accepted by its exact decrease, so the error never grows. g is computed where it is
 * looked at and not before: for a stretch of columns by one matrix product, inside the stretch by
 * adding what has moved since. Tests: tests/quant/test_solver.c. */
#include "quant/chunk.h"

#include "base/linalg.h"

#include <math.h>
#include <string.h>

enum { L = NIB_LANES, STRETCH = 128, CANDIDATES = 9 };

/* Whole blocks. */
static size_t stretch_cols(const nib_codec *c)
{
    return c->block > STRETCH ? c->block : STRETCH / c->block * c->block;
}

size_t nib_chunk_tmp(const nib_codec *c, size_t lazy)
{
    size_t stretch = stretch_cols(c), sub = c->sub;
    size_t descend = 2 * stretch        /* g and moves                             */
                     + 4 * c->block     /* directions of the super-scales, times H */
                     + 4 * sub;         /* trial: moves; values, codes as bytes, the best too */
    size_t round = lazy + 2 * c->block; /* sums, a block in stored order */
    return L * (descend > round ? descend : round);
}

void nib_chunk_grid(const nib_chunk *ch, size_t s, nib_lane_grid *grid)
{
    size_t b = s * ch->codec->sub / ch->codec->block;
    for (int l = 0; l < L; l++) {
        const float sc = ch->sc[s * L + l];
        grid->scale[l] = nib_codec_step(ch->codec, ch->d[b * L + l], (int)sc);
        grid->offset[l] = ch->dmin[b * L + l] * ch->mn[s * L + l];
        grid->zero[l] = ch->zero[b * L + l];
        grid->minus[l] = ch->codec->points_sign == NIB_SHIFT_SUB && sc >= NIB_SHIFT_BIT;
    }
}

/* Parameters of one sub-block in every lane. */
typedef struct {
    float d[L], dmin[L], zero[L], sc[L], mn[L];
} trial;

static float clampf(float x, float lo, float hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

/* A scale code `by` steps away. With shifts, bit 3 is one, and stays. */
static float next_scale(const nib_codec *c, float sc, float by)
{
    if (c->points_sign != NIB_SHIFT_SUB || !c->vec) return clampf(sc + by, c->sc_min, c->sc_max);
    const float shift = sc >= NIB_SHIFT_BIT ? NIB_SHIFT_BIT : 0;
    return shift + clampf(sc - shift + by, 0, NIB_SHIFT_BIT - 1);
}

/* A free scale that is a little larger (by = 1) or smaller. */
static float next_free_scale(const nib_codec *c, float d, float by, float step)
{
    if (c->scale_type == NIB_F8_E8M0) return nib_scale_stored(c->scale_type, d * exp2f(by));
    return nib_scale_stored(c->scale_type, d * (1 + by * step));
}

/* How many candidates there are. */
static int n_candidates(const nib_codec *c)
{
    if (c->fixed_d && c->sc_min == c->sc_max) return 1;
    if (c->vec && c->points_sign == NIB_SHIFT_SUB) return 4;
    return c->mn_max ? CANDIDATES : 3;
}

/* Candidate t of sub-block s: false when there are no more. step: relative change of free scales.
 */
static bool candidate(const nib_chunk *ch, size_t s, int t, float step, trial *p)
{
    const nib_codec *c = ch->codec;
    const bool own_scale = c->sc_min == c->sc_max, has_min = c->mn_max > 0;
    static const int move[CANDIDATES][2] = {{0, 0}, {1, 0},   {-1, 0}, {0, 1}, {0, -1},
                                            {1, 1}, {-1, -1}, {1, -1}, {-1, 1}};
    if (t >= n_candidates(c)) return false;
    size_t b = s * c->sub / c->block;
    float ds = (float)move[t][0], dm = (float)move[t][1];
    for (int l = 0; l < L; l++) {
        float d = ch->d[b * L + l], dmin = ch->dmin[b * L + l];
        float sc = ch->sc[s * L + l], mn = ch->mn[s * L + l];
        if (own_scale) {
            if (has_min) dmin = nib_scale_stored(c->scale_type, dmin + dm * step * 4 * d);
            d = next_free_scale(c, d, ds, step);
        } else if (!has_min && t == 3) { /* the other shift */
            sc += sc >= NIB_SHIFT_BIT ? -NIB_SHIFT_BIT : NIB_SHIFT_BIT;
        } else {
            sc = next_scale(c, sc, ds);
            if (has_min) mn = clampf(mn + dm, 0, c->mn_max);
        }
        p->d[l] = d, p->dmin[l] = dmin, p->sc[l] = sc, p->mn[l] = mn;
        p->zero[l] = ch->zero[b * L + l];
    }
    return true;
}

static void trial_grid(const nib_codec *c, const trial *p, nib_lane_grid *grid)
{
    for (int l = 0; l < L; l++) {
        grid->scale[l] = nib_codec_step(c, p->d[l], (int)p->sc[l]);
        grid->offset[l] = p->dmin[l] * p->mn[l];
        grid->zero[l] = p->zero[l];
        grid->minus[l] = c->points_sign == NIB_SHIFT_SUB && p->sc[l] >= NIB_SHIFT_BIT;
    }
}

/* The stretch of columns that a sweep is in. */
typedef struct {
    size_t i1, i2;
    float *g; /* [i2-i1][lane] H e: as it was at the start of the stretch until a column's sub-block
                 is reached, then as it is */
    float *move; /* [i2-i1][lane] what e has moved by since g was computed */
} stretch;

/* What a trial of a sub-block leads to. */
typedef struct {
    float gain[L];
    trial param;
    float *value;  /* [sub][lane] */
    uint8_t *code; /* [sub][lane] */
} outcome;

/* Lane by lane, keep the trial where it gained more. The first is always kept: where weights are
 * too large for the format no gain is a number. */
static void keep_better(size_t n, const outcome *o, outcome *best)
{
    bool better[L], any = false;
    for (int l = 0; l < L; l++) {
        better[l] = best->gain[l] == -INFINITY || o->gain[l] > best->gain[l];
        any = any || better[l];
    }
    if (!any) return;
    for (int l = 0; l < L; l++) {
        if (!better[l]) continue;
        best->gain[l] = o->gain[l];
        best->param.d[l] = o->param.d[l], best->param.dmin[l] = o->param.dmin[l];
        best->param.sc[l] = o->param.sc[l], best->param.mn[l] = o->param.mn[l];
    }
    for (size_t i = 0; i < n; i++)
        for (int l = 0; l < L; l++) {
            const size_t at = i * L + (size_t)l;
            best->value[at] = better[l] ? o->value[at] : best->value[at];
            best->code[at] = better[l] ? o->code[at] : best->code[at];
        }
}

/* Bring g of the columns [j, j + n) up to date with what the columns [from, to) have moved. */
static void catch_up(const nib_chunk *ch, const stretch *s, size_t j, size_t n, size_t from,
                     size_t to)
{
    for (size_t i = j; i < j + n; i++)
        ch->k->pull(to - from, ch->h + i * ch->cols + from, s->move + (from - s->i1) * L,
                    s->g + (i - s->i1) * L);
}

/* Columns [j, j + n) take new values: [n][lane]. move: what e moves by, [n][lane]. */
static void take_values(nib_chunk *ch, size_t j, size_t n, const float *value, float *move)
{
    const float *w = ch->w + j * L;
    float *q = ch->q + j * L, *e = ch->work + j * L;
    for (size_t i = 0; i < n * L; i++) {
        move[i] = q[i] - value[i];
        q[i] = value[i];
        e[i] = w[i] - value[i];
    }
}

/* Best grid and codes of sub-block s, for which g is up to date. */
static void improve_sub(nib_chunk *ch, const stretch *st, size_t s, float step, float *gained)
{
    const size_t n = ch->codec->sub, j0 = s * n, b = j0 / ch->codec->block, at = (j0 - st->i1) * L;
    float *move = ch->tmp + L * (2 * stretch_cols(ch->codec) + 4 * ch->codec->block);
    outcome o = {.value = move + n * L, .code = (uint8_t *)(move + 3 * n * L)};
    outcome best = {.value = move + 2 * n * L, .code = o.code + n * L};
    nib_lane_grid grid;

    for (int l = 0; l < L; l++) best.gain[l] = -INFINITY;
    for (int t = 0; candidate(ch, s, t, step, &o.param); t++) {
        const float *h = ch->h + j0 * ch->cols + j0, *from = ch->q + j0 * L;
        trial_grid(ch->codec, &o.param, &grid);
        if (ch->codec->vec)
            ch->k->descend_points(ch->codec, &grid, n, h, ch->cols, from,
                                  t ? NULL : ch->code + j0 * L, st->g + at, o.value, move, o.code,
                                  o.gain);
        else
            ch->k->descend(&ch->levels, &grid, n, h, ch->cols, from, st->g + at, o.value, move,
                           o.code, o.gain);
        keep_better(n, &o, &best);
    }
    take_values(ch, j0, n, best.value, st->move + at);
    memcpy(ch->code + j0 * L, best.code, n * L);
    memcpy(ch->d + b * L, best.param.d, sizeof best.param.d);
    memcpy(ch->dmin + b * L, best.param.dmin, sizeof best.param.dmin);
    memcpy(ch->sc + s * L, best.param.sc, sizeof best.param.sc);
    memcpy(ch->mn + s * L, best.param.mn, sizeof best.param.mn);
    for (int l = 0; l < L; l++) gained[l] += best.gain[l];
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
            u[i * L + l] =
                nib_codec_sub_scale(c, (int)ch->sc[s * L + l]) * (level - ch->zero[b * L + l]);
            v[i * L + l] = -ch->mn[s * L + l];
        }
    }
}

/* g: of the block. Out: hu, hv: [block][lane], H times u and v. */
static void super_products(const nib_chunk *ch, size_t b, const float *g, const float *u,
                           const float *v, float *hu, float *hv, products *p)
{
    const size_t n = ch->codec->block, j0 = b * n;
    const float *h = ch->h + j0 * ch->cols + j0;
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

/* The best step of d and dmin in lane l, as they can be stored. Returns what the error decreases
 * by; 0: stay. */
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
    float new_d = nib_scale_stored(c->scale_type, (float)(*d + a));
    float new_dmin = nib_scale_stored(c->scale_type, (float)(*dmin + m));
    if (c->mn_max > 1 && new_dmin < 0) new_dmin = *dmin;
    a = (double)new_d - *d;
    m = (double)new_dmin - *dmin;
    double gain = 2 * (a * ug + m * vg) - (a * a * uu + 2 * a * m * uv + m * m * vv);
    if (!(gain > 0) || !isfinite(new_d) || !isfinite(new_dmin)) return 0;
    *d = new_d;
    *dmin = new_dmin;
    return gain;
}

/* The values of block b under its parameters: [block][lane]. */
static void block_values(const nib_chunk *ch, size_t b, float *value)
{
    const nib_codec *c = ch->codec;
    nib_lane_grid grid;
    for (size_t i = 0; i < c->block; i++) {
        const size_t col = b * c->block + i;
        if (i % c->sub == 0) nib_chunk_grid(ch, col / c->sub, &grid);
        for (size_t l = 0; l < L; l++) {
            float level = level_of(ch, ch->code[col * L + l]);
            value[i * L + l] = grid.scale[l] * (level - grid.zero[l]) - grid.offset[l];
        }
    }
}

/* Least-squares d and dmin of block b given codes and sub-scales. g of the block is up to date, and
 * is so afterwards. Returns what e moved by, [block][lane]; NULL: by nothing. */
static const float *refit_super(nib_chunk *ch, const stretch *st, size_t b, float *gained)
{
    const size_t n = ch->codec->block;
    float *g = st->g + (b * n - st->i1) * L;
    float *u = ch->tmp + L * 2 * stretch_cols(ch->codec), *v = u + n * L, *hu = v + n * L;
    float *hv = hu + n * L, a[L], m[L];
    products p;
    bool moved = false;
    super_directions(ch, b, u, v);
    super_products(ch, b, g, u, v, hu, hv, &p);
    for (size_t l = 0; l < L; l++) {
        const float d = ch->d[b * L + l], dmin = ch->dmin[b * L + l];
        const double gain = super_step(ch->codec, &p, l, &ch->d[b * L + l], &ch->dmin[b * L + l]);
        a[l] = ch->d[b * L + l] - d;
        m[l] = ch->dmin[b * L + l] - dmin;
        gained[l] += (float)gain;
        moved = moved || gain > 0;
    }
    if (!moved) return NULL;
    for (size_t i = 0; i < n * L; i++) g[i] -= a[i % L] * hu[i] + m[i % L] * hv[i];
    block_values(ch, b, v);
    take_values(ch, b * n, n, v, u);
    return u;
}

static void improve_block(nib_chunk *ch, const stretch *st, size_t b, float step, float *gained)
{
    const nib_codec *c = ch->codec;
    const size_t n = c->block, j0 = b * n;
    catch_up(ch, st, j0, n, st->i1, j0);
    const float *refit = c->fixed_d ? NULL : refit_super(ch, st, b, gained);
    for (size_t j = j0; j < j0 + n; j += c->sub) {
        catch_up(ch, st, j, c->sub, j0, j);
        improve_sub(ch, st, j / c->sub, step, gained);
    }
    float *move = st->move + (j0 - st->i1) * L;
    for (size_t i = 0; refit && i < n * L; i++) move[i] += refit[i];
}

/* g of a stretch; returns the sum of e g over it. */
static double stretch_error(nib_chunk *ch, const stretch *st)
{
    const size_t n = st->i2 - st->i1;
    const float *e = ch->work + st->i1 * L;
    double error = 0;
    nib_gemm_nn(n, L, ch->cols, ch->h + st->i1 * ch->cols, ch->cols, ch->work, L, st->g, L, 0);
    for (size_t i = 0; i < n * L; i++) error += (double)e[i] * st->g[i];
    return error;
}

/* The stretch at column i1. */
static stretch stretch_at(const nib_chunk *ch, size_t i1)
{
    const size_t width = stretch_cols(ch->codec);
    return (stretch){.i1 = i1,
                     .i2 = i1 + width < ch->cols ? i1 + width : ch->cols,
                     .g = ch->tmp,
                     .move = ch->tmp + L * width};
}

double nib_chunk_error(nib_chunk *ch)
{
    double error = 0;
    for (size_t i = 0; i < ch->cols * L; i++) ch->work[i] = ch->w[i] - ch->q[i];
    for (size_t i1 = 0; i1 < ch->cols;) {
        const stretch st = stretch_at(ch, i1);
        error += stretch_error(ch, &st);
        i1 = st.i2;
    }
    return error;
}

/* Returns the error, each stretch's share of it as met: part before, part after the sweep. */
static double sweep(nib_chunk *ch, float step, float *gained)
{
    const size_t block = ch->codec->block;
    double error = 0;
    for (size_t i1 = 0; i1 < ch->cols;) {
        const stretch st = stretch_at(ch, i1);
        error += stretch_error(ch, &st);
        for (size_t j = i1; j < st.i2; j += block) improve_block(ch, &st, j / block, step, gained);
        i1 = st.i2;
    }
    return error;
}

void nib_chunk_descend(nib_chunk *ch, unsigned sweeps)
{
    float step = 1.0f / 32;
    for (size_t i = 0; i < ch->cols * L; i++) ch->work[i] = ch->w[i] - ch->q[i];
    for (unsigned n = 0; n < sweeps; n++, step /= 2) {
        float gained[L] = {0};
        double sum = 0;
        const double error = sweep(ch, step, gained);
        for (int l = 0; l < L; l++) sum += gained[l];
        if (sum < 1e-3 * error) break;
    }
}
