/* SPDX-License-Identifier: MIT */
/* quant/ggml_search.h - the reference's searches for scales, one block per lane.
 *
 * Private to ggml_encode.c. Each function is the scalar procedure of ggml's quantizers with every
 * operation and its order kept, carried out on LANES blocks at once; where a block would stop early
 * or branch, its lane is masked. Arrays are transposed: x[i] holds element i of every block. No
 * search stores the codes of its best trial: it returns what makes them, and they are made again.
 *
 * Error sums written w*x*l are ((w*x)*l), w*d^2 is w*(d*d), all in binary32. */
#ifndef NIB_QUANT_GGML_SEARCH_H
#define NIB_QUANT_GGML_SEARCH_H

#include "quant/vec.h"

enum { SUB_MAX = 32 }; /* weights that one search sees, at most */

/* ---- extremes ---- */

typedef struct {
    vf amax, max; /* largest magnitude, and the first value that has it */
} peak;

NIB_INLINE peak find_peak(const vf *x, int n)
{
    peak p = {v_set(0), v_set(0)};
    for (int i = 0; i < n; i++) {
        vf a = v_abs(x[i]);
        vm more = v_gt(a, p.amax);
        p.amax = v_max(a, p.amax);
        p.max = v_sel(more, x[i], p.max);
    }
    return p;
}

NIB_INLINE vf sum_squares(const vf *x, int n)
{
    vf s = v_set(0);
    for (int i = 0; i < n; i++) s += x[i] * x[i];
    return s;
}

/* Blocks that are all but zero get scale 0. */
NIB_INLINE vm tiny(vf amax)
{
    return v_gt(v_set(1e-15f), amax);
}

/* ---- scale alone, codes -N .. N-1 ---- */

typedef struct {
    vf scale;
    vf inverse; /* codes are round(inverse * x); 0 = none, every code 0 */
} sym_fit;

typedef struct {
    vf xl, ll; /* sums of w x l and w l l */
} sums;

NIB_INLINE sums sym_sums(const vf *x, const vf *w, const vf *wx, int n, float N, vf inverse)
{
    sums s = {v_set(0), v_set(0)};
    for (int i = 0; i < n; i++) {
        vf l = v_code(inverse * x[i], -N, N - 1);
        s.xl += wx[i] * l;
        s.ll += w[i] * l * l;
    }
    return s;
}

/* 19 inverse scales around -N/max; the best by (sum w x l)^2 / sum w l l. */
NIB_INLINE sym_fit sym_search(const vf *x, const vf *w, int n, float N)
{
    vf wx[SUB_MAX];
    for (int i = 0; i < n; i++) wx[i] = w[i] * x[i];
    peak p = find_peak(x, n);
    vm dead = tiny(p.amax);
    vf max = v_sel(dead, v_set(1), p.max);
    sym_fit f = {.inverse = v_set(-N) / max};
    sums s = sym_sums(x, w, wx, n, N, f.inverse);
    f.scale = v_div0(s.xl, s.ll);
    vf best = f.scale * s.xl;
    for (int t = -9; t <= 9; t++) {
        if (t == 0) continue;
        vf inverse = v_set(-(N + 0.1f * (float)t)) / max;
        s = sym_sums(x, w, wx, n, N, inverse);
        vm better = m_and(v_gt(s.ll, v_set(0)), v_gt(s.xl * s.xl, best * s.ll));
        if (!m_any(better)) continue;
        vf scale = s.xl / v_sel(better, s.ll, v_set(1));
        f.scale = v_sel(better, scale, f.scale);
        f.inverse = v_sel(better, inverse, f.inverse);
        best = v_sel(better, scale * s.xl, best);
    }
    f.scale = v_sel(dead, v_set(0), f.scale);
    f.inverse = v_sel(dead, v_set(0), f.inverse);
    return f;
}

/* The stored code, 0 .. 2N-1. */
NIB_INLINE vf sym_code(const sym_fit *f, vf x, float N)
{
    return v_sel(v_eq(f->inverse, v_set(0)), v_set(0), v_code(f->inverse * x, -N, N - 1) + N);
}

/* ---- scale and minimum, codes 0 .. M ---- */

typedef struct {
    float M, r0, dr;
    int last;       /* trials 0 .. last */
    bool abs_error; /* else squared     */
} aff_how;

typedef struct {
    vf scale, min;    /* y = scale * code + min, min <= 0 */
    vf inverse, base; /* codes are round(inverse * (x - base)) */
} aff_fit;

NIB_INLINE vf aff_code(const aff_fit *f, vf x, float M)
{
    return v_code(f->inverse * (x - f->base), 0, M);
}

NIB_INLINE vf aff_error(const vf *x, const vf *w, const vf *l, int n, vf scale, vf min,
                        bool abs_error)
{
    vf err = v_set(0);
    for (int i = 0; i < n; i++) {
        vf d = (scale * l[i] + min) - x[i], e = d * d;
        if (abs_error) e = v_abs(d);
        err += w[i] * e;
    }
    return err;
}

NIB_INLINE aff_fit aff_search(const vf *x, const vf *w, int n, aff_how how)
{
    /* cppcheck-suppress ctuArrayIndex; what fills w is not seen */
    vf lo = x[0], hi = x[0], W = w[0], X = w[0] * x[0];
    for (int i = 1; i < n; i++) {
        lo = v_min(x[i], lo);
        hi = v_max(x[i], hi);
        W += w[i];
        X += w[i] * x[i];
    }
    lo = v_sel(v_gt(lo, v_set(0)), v_set(0), lo);
    vm live = v_gt(hi, lo);
    vf l[SUB_MAX];
    aff_fit f = {.min = lo, .base = lo};
    f.inverse = v_set(how.M) / v_sel(live, hi - lo, v_set(1));
    f.scale = v_set(1) / f.inverse;
    for (int i = 0; i < n; i++) l[i] = aff_code(&f, x[i], how.M);
    vf best = aff_error(x, w, l, n, f.scale, f.min, how.abs_error);

    for (int t = 0; t <= how.last; t++) {
        vf inverse = v_set((how.r0 + how.dr * (float)t) + how.M) / (hi - f.min);
        vf L1 = v_set(0), L2 = v_set(0), LX = v_set(0);
        for (int i = 0; i < n; i++) {
            l[i] = v_code(inverse * (x[i] - f.min), 0, how.M);
            vf wl = w[i] * l[i];
            L1 += wl;
            L2 += wl * l[i];
            LX += wl * x[i];
        }
        vf D = W * L2 - L1 * L1;
        vm use = m_and(live, v_gt(D, v_set(0)));
        D = v_sel(use, D, v_set(1));
        vf a = (W * LX - X * L1) / D;
        vf b = (L2 * X - L1 * LX) / D;
        vm above = v_gt(b, v_set(0));
        a = v_sel(above, v_div0(LX, L2), a);
        b = v_sel(above, v_set(0), b);
        vf err = aff_error(x, w, l, n, a, b, how.abs_error);
        vm better = m_and(use, v_gt(best, err));
        f.inverse = v_sel(better, inverse, f.inverse);
        f.base = v_sel(better, f.min, f.base);
        f.scale = v_sel(better, a, f.scale);
        f.min = v_sel(better, b, f.min);
        best = v_sel(better, err, best);
    }
    f.scale = v_sel(live, f.scale, v_set(0));
    f.inverse = v_sel(live, f.inverse, v_set(0));
    return f;
}

/* ---- codes moved one at a time: shared by the two searches below ---- */

/* One pass of coordinate descent over codes l[n] in lo .. hi; true when any moved. The two searches
 * differ in when sum w l l must be positive: before a code is put back (`rest`) or after. */
NIB_INLINE bool move_codes(const vf *x, const vf *w, vf *l, int n, float lo, float hi, bool rest,
                           sums *s)
{
    bool moved = false;
    for (int i = 0; i < n; i++) {
        vf wx = w[i] * x[i];
        vf xl = s->xl - wx * l[i], ll = s->ll - w[i] * l[i] * l[i];
        vm can = v_gt(xl, v_set(0));
        if (rest) can = m_and(can, v_gt(ll, v_set(0)));
        vf to = v_code(x[i] * ll / v_sel(can, xl, v_set(1)), lo, hi);
        can = m_and(can, m_not(v_eq(to, l[i])));
        xl += wx * to;
        ll += w[i] * to * to;
        if (!rest) can = m_and(can, v_gt(ll, v_set(0)));
        can = m_and(can, v_gt(xl * xl * s->ll, s->xl * s->xl * ll));
        if (!m_any(can)) continue;
        moved = true;
        l[i] = v_sel(can, to, l[i]);
        s->xl = v_sel(can, xl, s->xl);
        s->ll = v_sel(can, ll, s->ll);
    }
    return moved;
}

/* ---- scales of sub-blocks, x >= 0, codes l[n] in 0 .. M ---- */

NIB_INLINE vf pos_search(const vf *x, const vf *w, vf *l, int n, float M)
{
    vf max = v_set(0);
    for (int i = 0; i < n; i++) max = v_max(x[i], max);
    vm dead = tiny(max);
    max = v_sel(dead, v_set(1), max);
    vf inverse = v_set(M) / max, step = v_set(1) / inverse, best = v_set(0);
    for (int i = 0; i < n; i++) {
        vf d = x[i] - step * v_round(inverse * x[i]);
        best += w[i] * d * d;
    }
    for (int t = -4; t <= 4; t++) {
        if (t == 0) continue;
        vf inv = v_set(0.1f * (float)t + M) / max, err = v_set(0);
        step = v_set(1) / inv;
        for (int i = 0; i < n; i++) {
            vf d = x[i] - step * v_min(v_round(inv * x[i]), v_set(M));
            err += w[i] * d * d;
        }
        vm better = v_gt(best, err);
        best = v_sel(better, err, best);
        inverse = v_sel(better, inv, inverse);
    }
    sums s = {v_set(0), v_set(0)};
    for (int i = 0; i < n; i++) {
        l[i] = v_sel(dead, v_set(0), v_min(v_round(inverse * x[i]), v_set(M)));
        s.xl += w[i] * x[i] * l[i];
        s.ll += w[i] * l[i] * l[i];
    }
    for (int pass = 0; pass < 5; pass++)
        if (!move_codes(x, w, l, n, -4194304, M, true, &s)) break;
    return v_sel(v_gt(s.ll, v_set(0)), s.xl / v_sel(v_gt(s.ll, v_set(0)), s.ll, v_set(1)),
                 v_set(0));
}

/* ---- codes -4 .. 3 under weights x^2, stored as 0 .. 7 in l[16] ---- */

NIB_INLINE vf rms4_search(const vf *x, vf *l)
{
    enum { N = 4, n = 16 };
    vf w[n];
    peak p = find_peak(x, n);
    vm dead = tiny(p.amax);
    vf inverse = v_set(-N) / v_sel(dead, v_set(1), p.max);
    sums s = {v_set(0), v_set(0)};
    for (int i = 0; i < n; i++) {
        w[i] = x[i] * x[i];
        l[i] = v_code(inverse * x[i], -N, N - 1);
        s.xl += w[i] * x[i] * l[i];
        s.ll += w[i] * l[i] * l[i];
    }
    for (int pass = 0; pass < 5; pass++)
        if (!move_codes(x, w, l, n, -N, N - 1, false, &s)) break;
    for (int i = 0; i < n; i++) l[i] = v_sel(dead, v_set(0), l[i] + N);
    vm some = v_gt(s.ll, v_set(0));
    vf scale = v_sel(some, s.xl / v_sel(some, s.ll, v_set(1)), v_set(0));
    return v_sel(dead, v_set(0), scale);
}

/* ---- the 16 levels of IQ4 ---- */

/* Level k is nearest from middle[k-1] (included) to middle[k]. */
static const float iq4_middle[15] = {-115.5f, -93.5f, -74.0f, -57.0f, -42.0f, -28.5f, -16.0f, -4.5f,
                                     7.0f,    19.0f,  31.5f,  45.5f,  61.0f,  79.0f,  101.0f};
static const float iq4_level[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                    1,    13,   25,  38,  53,  69,  89,  113};

NIB_INLINE vf iq4_code(vf v)
{
    vf n = v_set(0);
    for (int k = 0; k < 15; k++) n += v_sel(v_ge(v, v_set(iq4_middle[k])), v_set(1), v_set(0));
    return n;
}

/* The level nearest to v: a binary search in which node k of the tree has sons 2k and 2k + 1. */
NIB_INLINE vf iq4_nearest(vf v)
{
#if defined(__AVX512F__)
    const vf tree = _mm512_setr_ps(0, -4.5f, -57.0f, 45.5f, -93.5f, -28.5f, 19.0f, 79.0f, -115.5f,
                                   -74.0f, -42.0f, -16.0f, 7.0f, 31.5f, 61.0f, 101.0f);
    __m512i one = _mm512_set1_epi32(1), k = one;
    for (int depth = 0; depth < 4; depth++) {
        vm right = v_ge(v, _mm512_permutexvar_ps(k, tree));
        k = _mm512_add_epi32(k, k);
        k = _mm512_mask_add_epi32(k, right, k, one);
    }
    return _mm512_permutexvar_ps(k, v_load(iq4_level));
#elif defined(__AVX2__)
    const vf top = _mm256_setr_ps(0, -4.5f, -57.0f, 45.5f, -93.5f, -28.5f, 19.0f, 79.0f);
    const vf leaf = _mm256_setr_ps(-115.5f, -74.0f, -42.0f, -16.0f, 7.0f, 31.5f, 61.0f, 101.0f);
    __m256i k = _mm256_set1_epi32(1);
    for (int depth = 0; depth < 4; depth++) {
        vm right = v_ge(v, _mm256_permutevar8x32_ps(depth < 3 ? top : leaf, k));
        k = _mm256_sub_epi32(_mm256_add_epi32(k, k), _mm256_castps_si256(right));
    }
    vf low = _mm256_permutevar8x32_ps(v_load(iq4_level), k);
    vf high = _mm256_permutevar8x32_ps(v_load(iq4_level + 8), k);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(k, 28)));
#else
    vf y = v_set(iq4_level[0]);
    for (int k = 0; k < 15; k++)
        y += v_sel(v_ge(v, v_set(iq4_middle[k])), v_set(iq4_level[k + 1] - iq4_level[k]), v_set(0));
    return y;
#endif
}

NIB_INLINE sums iq4_sums(const vf *x, const vf *w, int n, vf inverse)
{
    sums s = {v_set(0), v_set(0)};
    for (int i = 0; i < n; i++) {
        vf q = iq4_nearest(inverse * x[i]), wq = w[i] * q;
        s.xl += wq * x[i];
        s.ll += wq * q;
    }
    return s;
}

/* Scale of a sub-block. */
NIB_INLINE vf iq4_search(const vf *x, const vf *w, int n)
{
    peak p = find_peak(x, n);
    vm dead = tiny(p.amax);
    vf max = v_sel(dead, v_set(1), p.max);
    sums s = iq4_sums(x, w, n, v_set(1) / (max / v_set(127)));
    vf d = v_div0(s.xl, s.ll), best = d * s.xl;
    for (int t = -7; t <= 7; t++) {
        s = iq4_sums(x, w, n, v_set((float)t + iq4_level[0]) / max);
        vm better = m_and(v_gt(s.ll, v_set(0)), v_gt(s.xl * s.xl, best * s.ll));
        if (!m_any(better)) continue;
        vf scale = s.xl / v_sel(better, s.ll, v_set(1));
        d = v_sel(better, scale, d);
        best = v_sel(better, scale * s.xl, best);
    }
    return v_sel(dead, v_set(0), d);
}

#endif
