/* SPDX-License-Identifier: MIT */
/* quant/lanes.c - see lanes.h. Compiled once per instruction set; NIB_ISA is its name, c for
 * plain C. The loops over lanes are written for the compiler to vectorize. */
#include "quant/lanes.h"

#include <string.h>

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

static void feed(size_t n, const float *restrict u, const float *restrict e, float *restrict w)
{
    for (size_t k = 1; k < n; k++) {
        float f = u[k];
        float *restrict row = w + k * L;
        for (int l = 0; l < L; l++) row[l] += f * e[l];
    }
}

static void descend(const nib_levels *lv, const nib_lane_grid *grid, size_t n, const float *h,
                    size_t ldh, float *restrict q, float *restrict g, uint8_t *code, float *gain)
{
    for (size_t i = 0; i < n; i++) {
        float target[L], value[L], delta[L];
        const float hii = h[i * ldh + i], inv = 1.0f / hii;
        float *restrict qi = q + i * L, *restrict gi = g + i * L;
        for (int l = 0; l < L; l++) target[l] = qi[l] + gi[l] * inv;
        round_lanes(lv, grid, target, value, code + i * L);
        for (int l = 0; l < L; l++) {
            delta[l] = value[l] - qi[l];
            gain[l] += delta[l] * (2.0f * gi[l] - hii * delta[l]);
            qi[l] = value[l];
        }
        for (size_t k = 0; k < n; k++) {
            float f = h[i * ldh + k];
            float *restrict row = g + k * L;
            for (int l = 0; l < L; l++) row[l] -= f * delta[l];
        }
    }
}

extern const nib_lanes TABLE;
const nib_lanes TABLE = {round_lanes, feed, descend};
