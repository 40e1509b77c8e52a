/* SPDX-License-Identifier: MIT */
/* quant/lanes.c - see lanes.h. Compiled once per instruction set, NIB_ISA; the loops over lanes
 * are written for the compiler to vectorize. Tests: tests/quant/test_solver.c. */
#include "quant/lanes.h"

#include "quant/vec.h"

#define PASTE2(a, b) a##b
#define PASTE(a, b) PASTE2(a, b)
#define TABLE PASTE(nib_lanes_, NIB_ISA)

enum { L = NIB_LANES };

static void round_codebook(const nib_levels *lv, const nib_lane_grid *g, const float *restrict w,
                           float *restrict value, uint8_t *restrict code)
{
    float x[L], idx[L], lev[L];
    for (int l = 0; l < L; l++) {
        float s = g->scale[l] == 0 ? 1.0f : g->scale[l];
        x[l] = (w[l] + g->offset[l]) / s;
        idx[l] = 0;
        lev[l] = lv->level[0];
    }
    for (int k = 0; k + 1 < lv->n_codes; k++) {
        float mid = lv->middle[k], next = lv->level[k + 1], at = (float)(k + 1);
        for (int l = 0; l < L; l++) {
            lev[l] = x[l] >= mid ? next : lev[l];
            idx[l] = x[l] >= mid ? at : idx[l];
        }
    }
    for (int l = 0; l < L; l++) {
        value[l] = g->scale[l] * lev[l] - g->offset[l];
        code[l] = (uint8_t)(int)idx[l];
    }
}

static void round_small(const nib_small_float *small, const nib_lane_grid *g,
                        const float *restrict w, float *restrict value, uint8_t *restrict code)
{
    const nib_small_float f = *small;
    int place[L];
    for (int l = 0; l < L; l++) {
        const float s = g->scale[l] == 0 ? 1.0f : g->scale[l];
        const float x = nib_small_round(&f, (w[l] + g->offset[l]) / s);
        value[l] = g->scale[l] * x - g->offset[l];
        place[l] = nib_small_place(&f, x);
    }
    for (int l = 0; l < L; l++) code[l] = (uint8_t)place[l];
}

static void round_integers(const nib_levels *lv, const nib_lane_grid *g, const float *restrict w,
                           float *restrict value, uint8_t *restrict code)
{
    const float top = (float)(lv->n_codes - 1), level0 = lv->level0, magic = 12582912.0f;
    for (int l = 0; l < L; l++) {
        float s = g->scale[l] == 0 ? 1.0f : g->scale[l];
        float t = (w[l] + g->offset[l]) / s + (g->zero[l] - level0);
        t = t > 0 ? t : 0;
        t = t < top ? t : top;
        t = (t + magic) - magic; /* to nearest even */
        value[l] = g->scale[l] * (t + (level0 - g->zero[l])) - g->offset[l];
        code[l] = (uint8_t)(int)t;
    }
}

static void round_lanes(const nib_levels *lv, const nib_lane_grid *g, const float *w, float *value,
                        uint8_t *code)
{
    if (lv->small)
        round_small(lv->small, g, w, value, code);
    else if (lv->codebook)
        round_codebook(lv, g, w, value, code);
    else
        round_integers(lv, g, w, value, code);
}

static void pull(size_t n, const float *f, const float *x, float *sum)
{
    enum { REGISTERS = 8 };
    for (int half = 0; half < L; half += REGISTERS * LANES) {
        vf acc[REGISTERS];
        const float *from = x + half;
        for (int r = 0; r < REGISTERS; r++) acc[r] = v_load(sum + half + r * LANES);
        for (size_t k = 0; k < n; k++, from += L)
            for (int r = 0; r < REGISTERS; r++) acc[r] += v_set(f[k]) * v_load(from + r * LANES);
        for (int r = 0; r < REGISTERS; r++) v_store(sum + half + r * LANES, acc[r]);
    }
}

static void descend(const nib_levels *lv, const nib_lane_grid *grid, size_t n, const float *h,
                    size_t ldh, const float *from, const float *g, float *value, float *move,
                    uint8_t *code, float *gain)
{
    memset(gain, 0, L * sizeof *gain);
    for (size_t i = 0; i < n; i++) {
        float gi[L], target[L];
        const float hii = h[i * ldh + i], inv = 1.0f / hii, *at = from + i * L;
        float *restrict to = value + i * L, *restrict m = move + i * L;
        memcpy(gi, g + i * L, sizeof gi);
        pull(i, h + i * ldh, move, gi);
        for (int l = 0; l < L; l++) target[l] = at[l] + gi[l] * inv;
        round_lanes(lv, grid, target, to, code + i * L);
        for (int l = 0; l < L; l++) {
            m[l] = at[l] - to[l];
            gain[l] -= m[l] * (2.0f * gi[l] + hii * m[l]);
        }
    }
}

/* ---- points ---- */

enum { V = NIB_VEC_MAX, HALF = 256, LEVELS = 8 };

/* What half a point is worth: table[packed], the sum over its columns of weight (2 t value -
 * value^2), which is the larger the nearer. */
static void half_scores(vf *table, const nib_points *p, const float *value, const float *weight,
                        const vf *t)
{
    uint8_t at[81];
    size_t n = 1;
    at[0] = 0;
    table[0] = v_set(0);
    for (unsigned i = 0; i < p->dim / 2u; i++) {
        const size_t known = n;
        for (unsigned l = p->levels; l-- > 0;) { /* level 0, which takes the old place, last */
            const vf s = v_set(weight[i]) * (v_set(2 * value[l]) * t[i] - value[l] * value[l]);
            for (size_t k = 0; k < known; k++) {
                table[at[k] | l << p->bits * i] = table[at[k]] + s;
                if (l) at[n++] = (uint8_t)(at[k] | l << p->bits * i);
            }
        }
    }
}

/* The best point of one vector in each lane; *number is its number. */
static vf best_point(const nib_points *p, const float *value, const float *weight, const vf *t,
                     vf *number)
{
    vf low[HALF], high[HALF], best = v_set(-INFINITY), k = v_set(0);
    const unsigned half = p->dim / 2u, bits = half * p->bits, mask = (1u << bits) - 1;
    half_scores(low, p, value, weight, t);
    half_scores(high, p, value, weight + half, t + half);
    *number = v_set(0);
    for (size_t j = 0; j < p->n; j++) {
        const vf s = low[p->point[j] & mask] + high[p->point[j] >> bits];
        const vm more = v_gt(s, best);
        best = v_max(s, best);
        *number = v_sel(more, k, *number);
        k += v_set(1);
    }
    return best;
}

/* t becomes magnitudes and minus[i] says which were negative; where of 8 an odd number were, the
 * one that costs least changes its sign, and its magnitude is below 0. */
static void split_signs(const nib_codec *c, const float *weight, vf *t, vf *minus)
{
    vf odd = v_set(0), least = v_set(INFINITY), which = v_set(0);
    for (unsigned i = 0; i < c->vec; i++) {
        minus[i] = v_sel(v_gt(v_set(0), t[i]), v_set(1), v_set(0));
        t[i] = v_abs(t[i]);
        odd = v_sel(v_eq(minus[i], odd), v_set(0), v_set(1));
        const vf cost = v_set(weight[i]) * t[i];
        const vm less = v_gt(least, cost);
        least = v_sel(less, cost, least);
        which = v_sel(less, v_set((float)i), which);
    }
    for (unsigned i = 0; i < c->vec && c->points_sign == NIB_SIGNS_EVEN; i++) {
        const vm flip = m_and(v_eq(odd, v_set(1)), v_eq(which, v_set((float)i)));
        t[i] = v_sel(flip, -t[i], t[i]);
        minus[i] = v_sel(flip, v_set(1) - minus[i], minus[i]);
    }
}

/* Points of the vector t in units of the grid; number[vec / dim]. */
static void signed_points(const nib_codec *c, const float *value, const float *weight, vf *t,
                          vf *number, vf *minus)
{
    split_signs(c, weight, t, minus);
    for (unsigned at = 0; at < c->vec; at += c->points->dim)
        best_point(c->points, value, weight + at, t + at, number + at / c->points->dim);
}

/* The same with shifts, both or that of `sub`: minus[0] is 1 where it is taken off. */
static void shifted_points(const nib_codec *c, const float *value, const float *weight, const vf *t,
                           vf sub, vf *number, vf *minus)
{
    vf cost[2], found[2];
    for (int k = 0; k < 2; k++) {
        vf u[V], far = v_set(0);
        for (int i = 0; i < V; i++) {
            u[i] = t[i] + v_set(k ? 1.0f : -1.0f);
            far += v_set(weight[i]) * u[i] * u[i];
        }
        cost[k] = far - best_point(c->points, value, weight, u, &found[k]);
    }
    vm off = v_gt(cost[0], cost[1]);
    if (c->points_sign == NIB_SHIFT_SUB) off = v_eq(sub, v_set(1));
    *number = v_sel(off, found[1], found[0]);
    minus[0] = v_sel(off, v_set(1), v_set(0));
}

/* Codes and values of `here` lanes. number, minus: as stored from lanes. */
static void put_points(const nib_codec *c, size_t here, size_t stride, const float *scale,
                       float (*number)[LANES], float (*minus)[LANES], float *value, uint8_t *code)
{
    const nib_points *p = c->points;
    const unsigned mask = (1u << p->bits) - 1;
    const bool shifted = c->points_sign == NIB_SHIFT_OWN || c->points_sign == NIB_SHIFT_SUB;
    for (size_t l = 0; l < here; l++)
        for (unsigned i = 0; i < c->vec; i++) {
            const unsigned packed = p->point[(int)number[i / p->dim][l]];
            const unsigned level = packed >> i % p->dim * p->bits & mask;
            const bool off = minus[shifted ? 0 : i][l] != 0;
            const unsigned k = shifted ? 2 * level + !off
                               : off   ? p->levels - 1 - level
                                       : p->levels + level;
            code[i * stride + l] = (uint8_t)k;
            value[i * stride + l] = scale[l] * c->codebook[k];
        }
}

static void round_points(const nib_codec *c, size_t lanes, const float *weight, const float *scale,
                         const uint8_t *minus, const float *w, float *value, uint8_t *code)
{
    const bool shifted = c->points_sign == NIB_SHIFT_OWN || c->points_sign == NIB_SHIFT_SUB;
    float level[LEVELS];
    for (int l = 0; l < c->points->levels; l++)
        level[l] = (shifted ? 8.0f : 1.0f) * (float)c->points->value[l];
    for (size_t at = 0; at < lanes; at += LANES) {
        float nearest[2][LANES], signs[V][LANES], sub[LANES];
        vf t[V], number[2], off[V], D = v_load(scale + at);
        D = v_sel(v_eq(D, v_set(0)), v_set(1), D);
        for (unsigned i = 0; i < c->vec; i++) t[i] = v_load(w + i * lanes + at) / D;
        for (int l = 0; l < LANES; l++) sub[l] = minus[at + (size_t)l];
        number[1] = v_set(0);
        if (shifted)
            shifted_points(c, level, weight, t, v_load(sub), number, off);
        else
            signed_points(c, level, weight, t, number, off);
        for (int k = 0; k < 2; k++) v_store(nearest[k], number[k]);
        for (unsigned i = 0; i < (shifted ? 1 : c->vec); i++) v_store(signs[i], off[i]);
        put_points(c, LANES, lanes, scale + at, nearest, signs, value + at, code + at);
    }
}

/* after = g + a move; returns nothing where it is, gain in each lane. */
static void gain_of(unsigned vec, const float *a, size_t lda, const float *g, const float *move,
                    float *after, float *gain)
{
    memset(gain, 0, L * sizeof *gain);
    for (unsigned i = 0; i < vec; i++) {
        memcpy(after + i * L, g + i * L, L * sizeof *after);
        pull(vec, a + i * lda, move, after + i * L);
        for (size_t l = 0; l < L; l++)
            gain[l] -= move[i * L + l] * (g[i * L + l] + after[i * L + l]);
    }
}

static void take_point(const nib_codec *c, const nib_lane_grid *grid, const float *a, size_t lda,
                       const float *from, const float *g, float *value, float *move, uint8_t *code,
                       float *gain)
{
    enum { STEPS = 2 };
    const unsigned vec = c->vec;
    float weight[V] = {0}, above[V], t[V * L] = {0}, after[V * L];
    for (unsigned i = 0; i < vec; i++) {
        weight[i] = a[i * lda + i];
        above[i] = 0;
        for (unsigned k = 0; k < vec; k++) above[i] += fabsf(a[i * lda + k]);
        const float inverse = 1 / weight[i];
        for (size_t at = i * L; at < (i + 1) * L; at++) t[at] = from[at] + g[at] * inverse;
    }
    round_points(c, L, weight, grid->scale, grid->minus, t, value, code);
    for (size_t at = 0; at < vec * L; at++) move[at] = from[at] - value[at];
    gain_of(vec, a, lda, g, move, after, gain);
    for (int step = 0; step < STEPS; step++) {
        float other[V * L], way[V * L], won[L];
        uint8_t found[V * L];
        for (unsigned i = 0; i < vec; i++) {
            const float inverse = 1 / above[i];
            for (size_t at = i * L; at < (i + 1) * L; at++) t[at] = value[at] + after[at] * inverse;
        }
        round_points(c, L, above, grid->scale, grid->minus, t, other, found);
        if (!memcmp(found, code, vec * L)) return;
        for (size_t at = 0; at < vec * L; at++) way[at] = from[at] - other[at];
        float next[V * L];
        gain_of(vec, a, lda, g, way, next, won);
        for (size_t at = 0; at < vec * L; at++) {
            const bool better = won[at % L] > gain[at % L];
            value[at] = better ? other[at] : value[at];
            move[at] = better ? way[at] : move[at];
            after[at] = better ? next[at] : after[at];
            code[at] = better ? found[at] : code[at];
        }
        for (size_t l = 0; l < L; l++) gain[l] = won[l] > gain[l] ? won[l] : gain[l];
    }
}

static void descend_points(const nib_codec *c, const nib_lane_grid *grid, size_t n, const float *h,
                           size_t ldh, const float *from, const uint8_t *old, const float *g,
                           float *value, float *move, uint8_t *code, float *gain)
{
    memset(gain, 0, L * sizeof *gain);
    for (size_t i = 0; i < n; i += c->vec) {
        float gi[V * L], more[L];
        const size_t at = i * L, many = c->vec * L;
        memcpy(gi, g + at, many * sizeof *gi);
        for (unsigned k = 0; k < c->vec; k++) pull(i, h + (i + k) * ldh, move, gi + k * L);
        take_point(c, grid, h + i * ldh + i, ldh, from + at, gi, value + at, move + at, code + at,
                   more);
        for (size_t l = 0; l < many && old; l++) {
            if (more[l % L] > 0) continue;
            value[at + l] = from[at + l], move[at + l] = 0, code[at + l] = old[at + l];
        }
        for (size_t l = 0; l < L; l++) gain[l] += old && !(more[l] > 0) ? 0 : more[l];
    }
}

extern const nib_lanes TABLE;
const nib_lanes TABLE = {round_lanes, pull, descend, round_points, take_point, descend_points};
