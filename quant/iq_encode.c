/* SPDX-License-Identifier: MIT */
/* quant/iq_encode.c - the reference's quantizers of formats with codebooks of vectors.
 *
 * Compiled once per instruction set (NIB_ISA); bytes equal those of ggml, sums run in the order of
 * the elements. All trials of a scale go side by side, one per lane: levels and sums of each are
 * independent of the others. What is off the codebook goes to the best of its neighbours: what a
 * weight costs at each level is computed once, and a neighbour costs a sum of such numbers, eight
 * neighbours at a time. Tests: tests/quant/test_golden.c, tests/quant/test_kernels.c. */
#include "quant/iq_encode.h"

#include "quant/vec.h"

#include <float.h>

enum { N = 256, SUB = 32, TRIALS = 32, VECTORS = 8, DIM = 8, LEVELS = 8 };

/* ---- the nearest neighbour ---- */

/* What weight i of a vector costs at each level: m[i] (y[level] - x[i])^2, with the operations'
 * order. Levels beyond those of the codebook repeat them. */
NIB_INLINE void level_costs(float cost[][LEVELS], const float *x, const float *m, int dim,
                            const float *y)
{
    for (int i = 0; i < dim; i++)
        for (int l = 0; l < LEVELS; l++) {
            const float d = y[l] - x[i];
            cost[i][l] = m[i] * d * d;
        }
}

/* The neighbour that costs least, the first of several: its packed levels. */
NIB_INLINE uint16_t nearest(const uint16_t *near, float cost[][LEVELS], int dim, int bits)
{
    const int count = near[0];
    const uint16_t *list = near + 1;
#if defined(__AVX2__)
    __m256 best = _mm256_set1_ps(FLT_MAX), c[DIM];
    __m256i where = _mm256_setzero_si256(), at = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for (int i = 0; i < dim; i++) c[i] = _mm256_loadu_ps(cost[i]);
    for (int k = 0; k < count; k += 8) {
        __m256i p = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(list + k)));
        __m256 sum = _mm256_permutevar8x32_ps(c[0], p);
        for (int i = 1; i < dim; i++)
            sum += _mm256_permutevar8x32_ps(c[i], _mm256_srli_epi32(p, bits * i));
        __m256 less = _mm256_cmp_ps(sum, best, _CMP_LT_OQ);
        best = _mm256_blendv_ps(best, sum, less);
        where = _mm256_blendv_epi8(where, at, _mm256_castps_si256(less));
        at = _mm256_add_epi32(at, _mm256_set1_epi32(8));
    }
    __m256 m = _mm256_min_ps(best, _mm256_permute2f128_ps(best, best, 1)); /* the least of all */
    m = _mm256_min_ps(m, _mm256_shuffle_ps(m, m, 0x4e));
    m = _mm256_min_ps(m, _mm256_shuffle_ps(m, m, 0xb1));
    const __m256 least = _mm256_cmp_ps(best, m, _CMP_EQ_OQ);
    __m256i w = _mm256_blendv_epi8(_mm256_set1_epi32(INT32_MAX), where, _mm256_castps_si256(least));
    w = _mm256_min_epi32(w, _mm256_permute2x128_si256(w, w, 1));
    w = _mm256_min_epi32(w, _mm256_shuffle_epi32(w, 0x4e));
    w = _mm256_min_epi32(w, _mm256_shuffle_epi32(w, 0xb1));
    return list[_mm256_cvtsi256_si32(w)];
#else
    const unsigned mask = LEVELS - 1;
    float least = FLT_MAX;
    int first = 0;
    for (int k = 0; k < count; k++) {
        float sum = cost[0][list[k] & mask];
        for (int i = 1; i < dim; i++) sum += cost[i][list[k] >> bits * i & mask];
        if (sum < least) least = sum, first = k;
    }
    return list[first];
#endif
}

/* ---- signs and magnitudes: IQ2, IQ3 ---- */

typedef struct {
    const nib_points *p;
    int sub, dim, bits, levels; /* of the sub-block; of p, as constants                        */
    int trials;                 /* on either side                                               */
    float step;
    float sigma; /* times the mean square                                                 */
    float plain; /* weights without importances: plain * mean square + x^2                */
    bool even;   /* signs of eight are even                                               */
    bool ones;   /* without importances: as if they were 1                                */
    bool loose;  /* nothing is on the grid before the first trial, and the last pass looks */
                 /* at all vectors where one is off it                                    */
    bool pos;    /* first scale by the search of iq2_xxs; the last pass looks at all      */
    float empty; /* sub-blocks with no magnitude above (0) or from this on are empty       */
    float fudge; /* on the stored d                                                       */
} iq_how;

/* A sub-block: signed weights became v with signs apart. */
typedef struct {
    float v[SUB], w[SUB], root[SUB], wv[SUB]; /* magnitudes, weights, their roots, w v           */
    bool minus[SUB];
    uint16_t packed[VECTORS]; /* levels                                                         */
} sub_block;

NIB_INLINE int n_vectors(const iq_how *h)
{
    return h->sub / h->dim;
}

NIB_INLINE float sum_of_squares(const float *x)
{
    float s = 0;
    for (int i = 0; i < N; i++) s += x[i] * x[i];
    return s;
}

/* Magnitudes and signs, an even number of them where the format wants that. */
NIB_INLINE void split(const iq_how *h, sub_block *b, const float *x)
{
    for (int at = 0; at < h->sub; at += 8) {
        int negative = 0;
        for (int i = at; i < at + 8; i++) {
            b->minus[i] = !(x[i] >= 0);
            b->v[i] = b->minus[i] ? -x[i] : x[i];
            negative += b->minus[i];
        }
        if (!h->even || negative % 2 == 0) continue;
        int least = at;
        float cost = b->w[at] * x[at] * x[at];
        for (int i = at + 1; i < at + 8; i++) {
            const float c = b->w[i] * x[i] * x[i];
            if (c < cost) cost = c, least = i;
        }
        b->v[least] = -b->v[least];
        b->minus[least] = !b->minus[least];
    }
}

/* Levels of one vector under id, on the grid or not. */
NIB_INLINE unsigned levels_of(const iq_how *h, const float *v, float id)
{
    unsigned packed = 0;
    for (int i = 0; i < h->dim; i++) {
        int l = nib_round_even(0.5f * (id * v[i] - 1));
        l = l < 0 ? 0 : l >= h->levels ? h->levels - 1 : l;
        packed |= (unsigned)l << h->bits * i;
    }
    return packed;
}

/* What the levels' odd numbers are under tau, repeated. */
NIB_INLINE void level_values(const iq_how *h, float *y, float tau)
{
    const int mask = h->bits == 2 ? 3 : 7;
    for (int l = 0; l < LEVELS; l++) y[l] = tau * (float)(2 * (l & mask) + 1);
}

/* The packed levels of a point: those given, or its best neighbour's. *on: it was one. */
NIB_INLINE uint16_t snap(const iq_how *h, const sub_block *b, int vector, unsigned packed,
                         const float *y, bool *on)
{
    const int32_t n = h->p->find[packed];
    float cost[DIM][LEVELS];
    *on = n >= 0;
    if (*on) return (uint16_t)packed;
    level_costs(cost, b->v + vector * h->dim, b->root + vector * h->dim, h->dim, y);
    return nearest(h->p->near + (-1 - n), cost, h->dim, h->bits);
}

typedef struct {
    float xl, ll;
} sums;

NIB_INLINE sums sums_of(const iq_how *h, const sub_block *b)
{
    sums s = {0, 0};
    const unsigned mask = (1u << h->bits) - 1;
    for (int i = 0; i < h->sub; i++) {
        const float q = (float)(2 * (b->packed[i / h->dim] >> i % h->dim * h->bits & mask) + 1);
        s.xl += b->wv[i] * q;
        s.ll += b->w[i] * q * q;
    }
    return s;
}

/* iq2_xxs: the search for positive codes up to 4 (pos_search), but a code is stored in a byte, so
 * that a weight below 0, of which there is one where signs were made even, counts 255. */
static float byte_search(const sub_block *b)
{
    enum { M = 4 };
    float max = 0;
    int code[SUB];
    for (int i = 0; i < SUB; i++) max = b->v[i] > max ? b->v[i] : max;
    if (max < 1e-15f) return 0;
    float inverse = M / max, best = 0, step = 1 / inverse;
    for (int i = 0; i < SUB; i++) {
        const float d = b->v[i] - step * (float)(nib_round_even(inverse * b->v[i]) & 255);
        best += b->w[i] * d * d;
    }
    for (int t = -4; t <= 4; t++) {
        if (t == 0) continue;
        const float inv = (0.1f * (float)t + M) / max, st = 1 / inv;
        float error = 0;
        for (int i = 0; i < SUB; i++) {
            const int l = nib_round_even(inv * b->v[i]);
            const float d = b->v[i] - st * (float)(l < M ? l : M);
            error += b->w[i] * d * d;
        }
        if (error < best) best = error, inverse = inv;
    }
    sums s = {0, 0};
    for (int i = 0; i < SUB; i++) {
        const int r = nib_round_even(inverse * b->v[i]), l = r < M ? r : M;
        s.xl += b->wv[i] * (float)l;
        s.ll += b->w[i] * (float)l * (float)l;
        code[i] = l & 255;
    }
    for (int pass = 0, moved = 1; pass < 5 && moved; pass++) {
        moved = 0;
        for (int i = 0; i < SUB; i++) {
            const float k = (float)code[i];
            float xl = s.xl - b->wv[i] * k, ll = s.ll - b->w[i] * k * k;
            if (!(xl > 0 && ll > 0)) continue;
            const int r = nib_round_even(b->v[i] * ll / xl), l = r < M ? r : M;
            if (l == code[i]) continue;
            xl += b->wv[i] * (float)l;
            ll += b->w[i] * (float)l * (float)l;
            if (!(xl * xl * s.ll > s.xl * s.xl * ll)) continue;
            code[i] = l & 255, s = (sums){xl, ll}, moved = 1;
        }
    }
    return s.ll > 0 ? s.xl / s.ll : 0;
}

/* All trials: packed[vector][trial], and the sums of each. */
typedef struct {
    uint32_t packed[VECTORS][TRIALS];
    uint32_t on[TRIALS]; /* a bit for each vector that was a point */
    float xl[TRIALS], ll[TRIALS];
} trials;

NIB_INLINE void trial_levels(const iq_how *h, trials *t, const sub_block *b, const float *id,
                             int padded)
{
    for (int at = 0; at < padded; at += LANES) {
        const vf inverse = v_load(id + at);
        for (int n = 0; n < n_vectors(h); n++) {
            vi packed = v_bits(v_set(0));
            for (int i = 0; i < h->dim; i++) {
                vf l = v_code(v_set(0.5f) * (inverse * b->v[n * h->dim + i] - 1.0f), 0,
                              (float)(h->levels - 1));
                packed |= v_int(l) << h->bits * i;
            }
            memcpy(&t->packed[n][at], &packed, sizeof packed);
        }
    }
}

NIB_INLINE void trial_sums(const iq_how *h, trials *t, const sub_block *b, int padded)
{
    const int mask = (1 << h->bits) - 1;
    for (int at = 0; at < padded; at += LANES) {
        vf xl = v_set(0), ll = v_set(0);
        for (int n = 0; n < n_vectors(h); n++) {
            vi packed;
            memcpy(&packed, &t->packed[n][at], sizeof packed);
            for (int i = 0; i < h->dim; i++, packed >>= h->bits) {
                const vf q = v_float(((packed & mask) << 1) | 1);
                xl += v_set(b->wv[n * h->dim + i]) * q;
                ll += v_set(b->w[n * h->dim + i]) * q * q;
            }
        }
        v_store(t->xl + at, xl);
        v_store(t->ll + at, ll);
    }
}

/* The best of all trials: scale, levels into b; returns which vectors were points in it. */
NIB_INLINE uint32_t try_scales(const iq_how *h, sub_block *b, float range, float *scale)
{
    const int n = 2 * h->trials + 1, padded = (n + LANES - 1) / LANES * LANES;
    const float first = (float)(2 * h->levels - 1);
    float id[TRIALS], best = 0;
    trials t;
    int taken = -1;
    for (int k = 0; k < padded; k++) {
        const int at = (k < n ? k : n - 1) - h->trials;
        id[k] = (first + (float)at * h->step) / range;
    }
    trial_levels(h, &t, b, id, padded);
    for (int k = 0; k < n; k++) {
        float y[LEVELS];
        level_values(h, y, 1 / id[k]);
        t.on[k] = 0;
        for (int v = 0; v < n_vectors(h); v++) {
            bool on;
            t.packed[v][k] = snap(h, b, v, t.packed[v][k], y, &on);
            t.on[k] |= (uint32_t)on << v;
        }
    }
    for (int v = 0; v < n_vectors(h); v++)
        for (int k = n; k < padded; k++) t.packed[v][k] = 0;
    trial_sums(h, &t, b, padded);
    for (int k = 0; k < n; k++) {
        if (!(t.ll[k] > 0 && t.xl[k] * t.xl[k] > best * t.ll[k])) continue;
        *scale = t.xl[k] / t.ll[k];
        best = *scale * t.xl[k];
        taken = k;
    }
    for (int v = 0; v < n_vectors(h); v++)
        b->packed[v] = taken < 0 ? 0 : (uint16_t)t.packed[v][taken];
    return taken < 0 ? (h->loose ? 0 : UINT32_MAX) : t.on[taken];
}

/* Levels once more under the scale that was found, and the scale for them. */
NIB_INLINE void settle(const iq_how *h, sub_block *b, uint32_t on, float *scale)
{
    const uint32_t all = (1u << n_vectors(h)) - 1;
    float y[LEVELS];
    if (h->pos || (h->loose && (on & all) != all)) on = 0;
    if ((on & all) == all || !(*scale > 0)) return;
    const float id = 1 / *scale;
    level_values(h, y, *scale);
    for (int v = 0; v < n_vectors(h); v++) {
        bool point;
        if (on >> v & 1) continue;
        b->packed[v] = snap(h, b, v, levels_of(h, b->v + v * h->dim, id), y, &point);
    }
    const sums s = sums_of(h, b);
    if (s.ll > 0) *scale = s.xl / s.ll;
}

/* Codes of a sub-block; returns its scale. */
NIB_INLINE float search_sub(const iq_how *h, sub_block *b, const float *x)
{
    float max;
    split(h, b, x);
    for (int v = 0; v < VECTORS; v++) b->packed[v] = 0;
    max = b->v[0];
    for (int i = 1; i < h->sub; i++) max = b->v[i] > max ? b->v[i] : max;
    if (h->empty > 0 ? max < h->empty : max == 0) goto empty;
    for (int i = 0; i < h->sub; i++) {
        b->root[i] = sqrtf(b->w[i]);
        b->wv[i] = b->w[i] * b->v[i];
    }
    float scale = h->pos ? byte_search(b) : max / (float)(2 * h->levels - 1);
    const float range = h->pos ? scale * 3 : max;
    if (!(range > 0)) goto empty;
    const uint32_t on = try_scales(h, b, range, &scale);
    settle(h, b, on, &scale);
    if (scale < 0) {
        scale = -scale;
        for (int i = 0; i < h->sub; i++) b->minus[i] = !b->minus[i];
    }
    return scale;
empty:
    for (int i = 0; i < h->sub; i++) b->minus[i] = false;
    return 0;
}

NIB_INLINE void sub_weights(const iq_how *h, float *w, const float *x, const float *imp,
                            float sigma2)
{
    for (int i = 0; i < h->sub; i++) {
        if (imp)
            w[i] = imp[i] * sqrtf(sigma2 + x[i] * x[i]);
        else if (h->ones)
            w[i] = sqrtf(sigma2 + x[i] * x[i]);
        else
            w[i] = h->plain * sigma2 + x[i] * x[i];
    }
}

NIB_INLINE int scale_code(float v, int top)
{
    const int l = nib_round_even(0.5f * (v - 1));
    return l < 0 ? 0 : l > top ? top : l;
}

NIB_INLINE void search_signed(const iq_how *h, nib_block_param *p, uint8_t *code, const float *x,
                              const float *imp)
{
    float scale[NIB_SUB_MAX], top = 0;
    const float sigma2 = h->sigma * sum_of_squares(x) / N;
    const unsigned mask = (1u << h->bits) - 1;
    const int subs = N / h->sub;
    *p = (nib_block_param){0};
    for (int s = 0; s < subs; s++) {
        sub_block b;
        sub_weights(h, b.w, x + s * h->sub, imp ? imp + s * h->sub : NULL, sigma2);
        scale[s] = search_sub(h, &b, x + s * h->sub);
        top = scale[s] > top ? scale[s] : top;
        for (int i = 0; i < h->sub; i++) {
            const int l = (int)(b.packed[i / h->dim] >> i % h->dim * h->bits & mask);
            code[s * h->sub + i] = (uint8_t)(b.minus[i] ? h->levels - 1 - l : h->levels + l);
        }
    }
    if (!(top > 0)) {
        for (int i = 0; i < N && h->even; i++) code[i] = (uint8_t)h->levels;
        return;
    }
    const float d = top / 31, id = 1 / d;
    p->d = nib_f16_to_f32(nib_f32_to_f16(d * h->fudge));
    for (int s = 0; s < subs; s++) p->sc[s] = (int16_t)scale_code(id * scale[s], 15);
}

/* ---- three levels and a shift: IQ1 ---- */

typedef struct {
    float x[SUB], w[SUB];
    uint8_t place[SUB]; /* positions by value, ascending; equal ones in order */
} ternary_sub;

static const float lane_number[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* Two cuts of the sorted weights and which vectors' shifts are taken off. */
typedef struct {
    int i1, i2, minus;
    float scale, best;
} ternary_fit;

static const float shifted_levels[2][4] = {{-0.875f, 0.125f, 1.125f, 0},
                                           {-1.125f, -0.125f, 0.875f, 0}};

/* A weight's place is how many are less than it, or equal and before it. */
NIB_INLINE void sort_values(ternary_sub *b, int n)
{
    vf before[SUB / LANES], x[SUB / LANES];
    float at[SUB];
    for (int k = 0; k < n / LANES; k++) x[k] = v_load(b->x + k * LANES), before[k] = v_set(0);
    for (int i = 0; i < n; i++) {
        const vf one = v_set(1), none = v_set(0), v = v_set(b->x[i]);
        const int own = i / LANES; /* registers behind it come after it, and so do later lanes */
        for (int k = 0; k < own; k++) before[k] += v_sel(v_gt(x[k], v), one, none);
        for (int k = own + 1; k < n / LANES; k++) before[k] += v_sel(v_ge(x[k], v), one, none);
        const vm later = v_gt(v_load(lane_number), v_set((float)(i % LANES)));
        const vm less = v_gt(x[own], v), same = m_and(v_eq(x[own], v), later);
        before[own] += v_sel(less, one, none) + v_sel(same, one, none);
    }
    for (int k = 0; k < n / LANES; k++) v_store(at + k * LANES, before[k]);
    for (int i = 0; i < n; i++) b->place[(int)at[i]] = (uint8_t)i;
}

/* Sums of a first cut with LANES second ones, from `i2` on, for each variant of the shifts. */
typedef struct {
    int i1, i2;
    vf xl[4], ll[4];
} cut_sums;
enum { CUTS = (SUB + 1) * ((SUB + LANES) / LANES) };

/* The reference goes through all second cuts of a first one, and all variants of each, and takes
 * what has xl^2 > best * ll, best being xl^2 / ll of the last that it took, each rounded. What it
 * ends with is within rounding of the largest of all, so only what comes within a thousandth of
 * that is tried in its order. Those left out could change the end only by a chain of more than 4000
 * others, each better than the one before by less than rounding; there are 1122 at most. Where
 * numbers are so small or large that rounding is another, all are tried. */
NIB_INLINE ternary_fit best_cut(cut_sums *c, int n_cuts, int variants, int n)
{
    const float near = 1 - 1e-3f;
    vf most = v_set(0), square = v_set(0);
    float e[LANES], x2[LANES], top = 0, top2 = 0;
    for (int i = 0; i < n_cuts; i++) {
        const vm inside = v_gt(v_set((float)(n + 1 - c[i].i2)), v_load(lane_number));
        for (int k = 0; k < variants; k++) {
            const vf x = c[i].xl[k] * c[i].xl[k];
            const vf l = c[i].ll[k] = v_sel(inside, c[i].ll[k], v_set(0));
            const vm fits = v_gt(l, v_set(0));
            most = v_max(v_sel(fits, x / l, v_set(0)), most);
            square = v_max(v_sel(fits, x, v_set(0)), square);
        }
    }
    v_store(e, most);
    v_store(x2, square);
    for (int i = 0; i < LANES; i++) {
        top = e[i] > top ? e[i] : top;
        top2 = x2[i] > top2 ? x2[i] : top2;
    }
    const bool plain = top > 1e-28f && top < 1e36f && top2 > 1e-28f && top2 < 1e36f;
    const vf least = v_set(plain ? near * top : 0);
    ternary_fit f = {.i1 = -1, .best = -FLT_MAX};
    for (int i = 0; i < n_cuts; i++) {
        unsigned close[4], any = 0;
        for (int k = 0; k < variants; k++) {
            const vf x = c[i].xl[k] * c[i].xl[k], l = c[i].ll[k];
            close[k] = m_bits(m_and(v_gt(l, v_set(0)), v_ge(x, least * l)));
            any |= close[k];
        }
        for (int j = 0; any >> j; j++)
            for (int k = 0; k < variants; k++) {
                float x[LANES], l[LANES];
                if (!(close[k] >> j & 1)) continue;
                v_store(x, c[i].xl[k]);
                v_store(l, c[i].ll[k]);
                if (!(x[j] * x[j] > f.best * l[j])) continue;
                const float scale = x[j] / l[j];
                f = (ternary_fit){c[i].i1, c[i].i2 + j, k, scale, scale * x[j]};
            }
    }
    return f;
}

/* 32 weights, one shift. */
static ternary_fit cut_s(const ternary_sub *b)
{
    enum { n = 32, ROOM = n + 1 + LANES };
    float P[ROOM] = {0}, W[ROOM] = {0};
    cut_sums all[CUTS], *c = all;
    for (int j = 0; j < n; j++) {
        const int i = b->place[j];
        P[j + 1] = P[j] + b->w[i] * b->x[i];
        W[j + 1] = W[j] + b->w[i];
    }
    for (int i1 = 0; i1 <= n; i1++)
        for (int i2 = i1; i2 <= n; i2 += LANES, c++) {
            const vf p = v_load(P + i2), w = v_load(W + i2);
            c->i1 = i1, c->i2 = i2;
            for (int k = 0; k < 2; k++) {
                const float *q = shifted_levels[k];
                c->xl[k] =
                    v_set(P[i1] * q[0]) + (p - v_set(P[i1])) * q[1] + (v_set(P[n]) - p) * q[2];
                c->ll[k] = v_set(W[i1] * q[0] * q[0]) + (w - v_set(W[i1])) * q[1] * q[1] +
                           (v_set(W[n]) - w) * q[2] * q[2];
            }
        }
    return best_cut(all, (int)(c - all), 2, n);
}

/* 16 weights, a shift for each 8. The rule since September 2026: sums of each vector by
 * themselves, over the common order. */
static ternary_fit cut_m(const ternary_sub *b)
{
    enum { n = 16, ROOM = n + 1 + LANES };
    static const float a[2] = {0.75f, 1.25f}, c2[2] = {-1.25f, -0.75f};
    float P[2][ROOM] = {{0}}, W[2][ROOM] = {{0}};
    cut_sums all[CUTS], *c = all;
    for (int j = 0; j < n; j++)
        for (int h = 0; h < 2; h++) {
            const int i = b->place[j];
            P[h][j + 1] = i / 8 == h ? P[h][j] + b->w[i] * b->x[i] : P[h][j];
            W[h][j + 1] = i / 8 == h ? W[h][j] + b->w[i] : W[h][j];
        }
    for (int i1 = 0; i1 <= n; i1++)
        for (int i2 = i1; i2 <= n; i2 += LANES, c++) {
            vf X[2][2], Y[2][2]; /* [vector][shift] */
            c->i1 = i1, c->i2 = i2;
            for (int h = 0; h < 2; h++)
                for (int s = 0; s < 2; s++) {
                    const float q2 = shifted_levels[s][2];
                    X[h][s] = v_set(P[h][n] * q2) - (v_load(P[h] + i2) + v_set(P[h][i1]));
                    Y[h][s] =
                        c2[s] * v_load(W[h] + i2) + v_set(a[s] * W[h][i1] + W[h][n] * q2 * q2);
                }
            for (int k = 0; k < 4; k++) {
                c->xl[k] = X[0][k >> 1] + X[1][k & 1];
                c->ll[k] = Y[0][k >> 1] + Y[1][k & 1];
            }
        }
    return best_cut(all, (int)(c - all), 4, n);
}

/* Levels of n weights by the cuts, on points; vectors whose shift is taken off in *minus, a bit
 * each. Returns the scale, 0 where nothing fits. */
NIB_INLINE float fit_ternary(const ternary_sub *b, ternary_fit f, int n, uint8_t *level,
                             unsigned *minus)
{
    float scale = f.scale;
    bool off = false;
    const int vectors = n / 8;
    memset(level, 0, (size_t)n);
    *minus = 0;
    if (f.i1 < 0) return 0;
    for (int j = 0; j < n; j++) level[b->place[j]] = (uint8_t)(j < f.i1 ? 0 : j < f.i2 ? 1 : 2);
    /* One shift for all, or the first vector's in bit 1 of two. */
    *minus = n == SUB ? (f.minus ? 15 : 0) : (unsigned)(f.minus >> 1 | (f.minus & 1) << 1);
    if (scale < 0) {
        for (int i = 0; i < n; i++) level[i] = (uint8_t)(2 - level[i]);
        scale = -scale;
        *minus ^= (1u << vectors) - 1;
    }
    for (int v = 0; v < vectors; v++) {
        const float *q = shifted_levels[*minus >> v & 1];
        unsigned packed = 0;
        float cost[DIM][LEVELS], y[LEVELS];
        for (int i = 0; i < 8; i++) packed |= (unsigned)level[8 * v + i] << 2 * i;
        if (nib_points_iq1.find[packed] >= 0) continue;
        off = true;
        for (int l = 0; l < LEVELS; l++) y[l] = scale * q[l & 3];
        level_costs(cost, b->x + 8 * v, b->w + 8 * v, 8, y);
        packed = nearest(nib_points_iq1.near + (-1 - nib_points_iq1.find[packed]), cost, 8, 2);
        for (int i = 0; i < 8; i++) level[8 * v + i] = packed >> 2 * i & 3;
    }
    if (!off) return scale;
    sums s = {0, 0};
    for (int i = 0; i < n; i++) {
        const float q = shifted_levels[*minus >> i / 8 & 1][level[i]];
        s.xl += b->w[i] * q * b->x[i];
        s.ll += b->w[i] * q * q;
    }
    return s.xl > 0 && s.ll > 0 ? s.xl / s.ll : scale;
}

/* The sub-blocks of a block, n weights each: levels, scales, shifts; returns the largest scale. */
NIB_INLINE float search_ternary(ternary_sub *all, const float *x, const float *imp, int n,
                                uint8_t *level, float *scale, unsigned *minus)
{
    const float sigma2 = 2 * sum_of_squares(x) / N;
    float top = 0;
    for (int s = 0; s < N / n; s++, x += n) {
        ternary_sub *b = &all[s];
        float peak = 0;
        memcpy(b->x, x, (size_t)n * sizeof *x);
        for (int i = 0; i < n; i++) {
            const float a = fabsf(x[i]);
            peak = a > peak ? a : peak;
            if (imp || n == SUB)
                b->w[i] = (imp ? imp[s * n + i] : 1) * sqrtf(sigma2 + x[i] * x[i]);
            else
                b->w[i] = x[i] * x[i];
        }
        memset(level + s * n, 0, (size_t)n);
        scale[s] = 0, minus[s] = 0;
        if (peak < (n == SUB ? 1e-12f : 1e-7f)) continue;
        sort_values(b, n);
        scale[s] = fit_ternary(b, n == SUB ? cut_s(b) : cut_m(b), n, level + s * n, &minus[s]);
        top = scale[s] > top ? scale[s] : top;
    }
    return top;
}

/* Levels to codes. */
NIB_INLINE void put_ternary(uint8_t *code, const uint8_t *level, const unsigned *minus, int n)
{
    for (int i = 0; i < N; i++)
        code[i] = (uint8_t)(2 * level[i] + !(minus[i / n] >> i % n / 8 & 1));
}

static void block_iq1_s(nib_block_param *p, uint8_t *code, const float *x, const float *imp)
{
    enum { n = 32 };
    ternary_sub b[N / n];
    uint8_t level[N];
    float scale[N / n];
    unsigned minus[N / n];
    const float top = search_ternary(b, x, imp, n, level, scale, minus);
    *p = (nib_block_param){0};
    if (top > 0) {
        const float d = top / 15, id = 1 / d;
        p->d = nib_f16_to_f32(nib_f32_to_f16(d * 1.125f));
        for (int s = 0; s < N / n; s++)
            p->sc[s] = (int16_t)(scale_code(id * scale[s], 7) | (minus[s] ? 8 : 0));
    } else {
        memset(minus, 0, sizeof minus);
    }
    put_ternary(code, level, minus, n);
}

static void block_iq1_m(nib_block_param *p, uint8_t *code, const float *x, const float *imp)
{
    enum { n = 16 };
    ternary_sub b[N / n];
    uint8_t level[N];
    float scale[N / n];
    unsigned minus[N / n];
    const float top = search_ternary(b, x, imp, n, level, scale, minus);
    *p = (nib_block_param){0};
    if (top > 0) {
        float d = top / 15;
        const float id = 1 / d;
        sums sum = {0, 0};
        for (int s = 0; s < N / n; s++) {
            p->sc[s] = (int16_t)scale_code(id * scale[s], 7);
            for (int i = 0; i < n; i++) {
                const float q = shifted_levels[minus[s] >> i / 8 & 1][level[s * n + i]] *
                                (float)(2 * p->sc[s] + 1);
                sum.xl += b[s].w[i] * q * b[s].x[i];
                sum.ll += b[s].w[i] * q * q;
            }
        }
        if (sum.ll > 0) d = sum.xl / sum.ll;
        p->d = nib_f16_to_f32(nib_f32_to_f16(d * 1.1125f));
    } else {
        memset(minus, 0, sizeof minus);
    }
    put_ternary(code, level, minus, n);
}

/* ---- every lane's block ---- */

typedef void search_block(nib_block_param *p, uint8_t *code, const float *x, const float *imp);

/* Idle lanes repeat the block before. */
NIB_INLINE void each_lane(nib_block_param *p, uint8_t *code, const nib_lane_in *in,
                          search_block *search)
{
    nib_points_ready();
    for (int lane = 0; lane < LANES; lane++) {
        if (lane && in->w[lane] == in->w[lane - 1] && in->imp[lane] == in->imp[lane - 1]) {
            p[lane] = p[lane - 1];
            memcpy(code + lane * N, code + (lane - 1) * N, N);
            continue;
        }
        search(&p[lane], code + lane * N, in->w[lane], in->imp[lane]);
    }
}

#define SIGNED(name, points, ...)                                                                  \
    static void block_##name(nib_block_param *p, uint8_t *code, const float *x, const float *imp)  \
    {                                                                                              \
        static const iq_how how = {.p = &nib_points_##points, __VA_ARGS__};                        \
        search_signed(&how, p, code, x, imp);                                                      \
    }
#define OF_8(s) .sub = s, .dim = 8, .bits = 2, .levels = 3
#define OF_4 .sub = 32, .dim = 4, .bits = 3, .levels = 8

SIGNED(iq2_xxs, iq2_xxs, OF_8(32), .trials = 6, .step = 0.1f, .sigma = 1, .even = true,
       .ones = true, .pos = true, .empty = 1e-15f, .fudge = 1)
SIGNED(iq2_xs, iq2_xs, OF_8(16), .trials = 9, .step = 0.1f, .sigma = 1, .even = true, .ones = true,
       .empty = 1e-15f, .fudge = 1)
SIGNED(iq2_s, iq2_s, OF_8(16), .trials = 9, .step = 0.1f, .sigma = 2, .plain = 0.25f,
       .empty = 1e-8f, .fudge = 0.9875f)
SIGNED(iq3_xxs, iq3_xxs, OF_4, .trials = 15, .step = 0.2f, .sigma = 2, .even = true, .empty = 1e-8f,
       .fudge = 1.0125f)
SIGNED(iq3_s, iq3_s, OF_4, .trials = 9, .step = 0.2f, .sigma = 2, .loose = true, .fudge = 1.033f)

#define SEARCH(name)                                                                               \
    void NIB_IQ_SEARCH(name)(nib_block_param * p, uint8_t * code, const nib_lane_in *in)           \
    {                                                                                              \
        each_lane(p, code, in, block_##name);                                                      \
    }

SEARCH(iq2_xxs)
SEARCH(iq2_xs)
SEARCH(iq2_s)
SEARCH(iq3_xxs)
SEARCH(iq3_s)
SEARCH(iq1_s)
SEARCH(iq1_m)
