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
    if (lv->codebook)
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

extern const nib_lanes TABLE;
const nib_lanes TABLE = {round_lanes, pull, descend};
