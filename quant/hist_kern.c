/* SPDX-License-Identifier: MIT */
/* quant/hist_kern.c - hist.h's loops, once per NIB_ISA. Tests: tests/quant/test_range.c. */
#include "quant/hist.h"
#include "quant/vec.h"

#ifndef NIB_ISA
#define NIB_ISA c
#endif
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define TABLE JOIN(nib_hist_kern, NIB_ISA)

enum { STEP = 64 }; /* values at a time; a shorter rest is padded */

typedef struct {
    vf lo, hi, bad; /* bad: 0, or NaN from the first value on that is not finite */
} reach;

NIB_INLINE void reach_add(reach *r, vf x)
{
    r->lo = v_min(r->lo, x);
    r->hi = v_max(r->hi, x);
    r->bad = r->bad + x * v_set(0);
}

static bool extremes(const float *x, size_t n, float *lo, float *hi)
{
    float l[LANES], h[LANES];
    reach a = {v_set(x[0]), v_set(x[0]), v_set(0)}, b = a;
    size_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        reach_add(&a, v_load(x + i));
        reach_add(&b, v_load(x + i + LANES));
    }
    for (; i < n; i++) reach_add(&a, v_set(x[i]));
    reach_add(&a, b.lo);
    reach_add(&a, b.hi);
    v_store(l, a.lo);
    v_store(h, a.hi);
    *lo = l[0], *hi = h[0];
    for (int k = 1; k < LANES; k++) {
        if (l[k] < *lo) *lo = l[k];
        if (h[k] > *hi) *hi = h[k];
    }
    *lo += 0.0f, *hi += 0.0f; /* one zero, whichever the lanes held */
    vf bad = a.bad + b.bad;
    return !m_any(m_not(v_eq(bad, v_set(0))));
}

/* Where the counters of STEP values are. */
NIB_INLINE void places(int32_t at[STEP], const float *x, vf per_bin, vf last)
{
    for (int i = 0; i < STEP; i += LANES) {
        vi k = v_int(v_min(v_abs(v_load(x + i)) * per_bin, last));
        memcpy(at + i, &k, sizeof k);
    }
    for (int i = 0; i < STEP; i++) at[i] = 4 * at[i] + i % 4;
}

static void count(uint32_t *to, size_t n_bins, const float *x, size_t n, float per_bin)
{
    const vf scale = v_set(per_bin), last = v_set((float)(n_bins - 1));
    int32_t at[STEP];
    float rest[STEP] = {0};
    for (; n >= STEP; x += STEP, n -= STEP) {
        places(at, x, scale, last);
        for (int i = 0; i < STEP; i++) to[at[i]]++;
    }
    if (n) memcpy(rest, x, n * sizeof *x);
    places(at, rest, scale, last);
    for (size_t i = 0; i < n; i++) to[at[i]]++;
}

extern const nib_hist_kern TABLE;
const nib_hist_kern TABLE = {extremes, count};
