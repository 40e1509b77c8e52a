/* SPDX-License-Identifier: MIT */
/* quant/lanes.h - inner loops of the solvers, many rows side by side.
 *
 * Rows of a weight are independent under a shared Hessian, so the solvers keep NIB_LANES rows of a
 * matrix transposed, [column][lane], and every loop below runs over lanes: each row's order of
 * operations is the same as alone, so the results do not depend on the instruction set. One source,
 * lanes.c, is compiled once per instruction set. Nothing here allocates or fails. */
#ifndef NIB_QUANT_LANES_H
#define NIB_QUANT_LANES_H

#include "quant/codec.h"

enum { NIB_LANES = 128 }; /* rows side by side */

/* The grid of one sub-block in every lane (see nib_block_param): D, zero and B. minus: of
 * NIB_SHIFT_SUB, whether the shift is taken off. */
typedef struct {
    float scale[NIB_LANES], zero[NIB_LANES], offset[NIB_LANES];
    uint8_t minus[NIB_LANES];
} nib_lane_grid;

/* What the levels of a codec are. */
typedef struct {
    int n_codes;
    float level0;
    float level[256], middle[256]; /* codebooks: levels, and the middles between neighbours */
    bool codebook;
    const nib_small_float *small;
    const nib_codec *codec;
} nib_levels;

void nib_levels_init(nib_levels *lv, const nib_codec *c);

typedef struct {
    /* Nearest grid value of w[lane]: value[lane] and code[lane]. */
    void (*round)(const nib_levels *lv, const nib_lane_grid *g, const float *w, float *value,
                  uint8_t *code);

    /* sum[lane] += f[0] x[0][lane] + .. + f[n-1] x[n-1][lane], in this order. */
    void (*pull)(size_t n, const float *f, const float *x, float *sum);

    /* One coordinate-descent pass over the n columns of a sub-block. Column i in turn goes to the
     * grid point nearest to the minimum of the error given all other columns, from[i] + g[i] /
     * h[i][i]. With e = w - q the error is e' H e, and g = H e as it was before the pass. Out: the
     * new values, their codes, move = from - value, and gain[lane], what the error decreases by.
     * h: [n][n] with leading dimension ldh; from, g, value, move, code: [n][lane]. */
    void (*descend)(const nib_levels *lv, const nib_lane_grid *grid, size_t n, const float *h,
                    size_t ldh, const float *from, const float *g, float *value, float *move,
                    uint8_t *code, float *gain);

    /* The rest is for codecs with points. Nearest points of vectors w[vec][lanes] where column i
     * counts weight[i] > 0; lanes is a multiple of 16, as many are grid.scale and grid.minus. */
    void (*round_points)(const nib_codec *c, size_t lanes, const float *weight, const float *scale,
                         const uint8_t *minus, const float *w, float *value, uint8_t *code);

    /* The vec columns of a vector go to the point that makes least of move' a move + 2 move' g,
     * move = from - value; a[vec][vec] with leading dimension lda, positive definite. All points
     * would be too many: the nearest one where each column counts by its diagonal, then steps in a
     * metric that is above a, which make nothing worse (majorization). from, g, value, move, code:
     * [vec][lane]; gain[lane] what the sum decreases by, negative where all points make it worse.
     */
    void (*take_point)(const nib_codec *c, const nib_lane_grid *grid, const float *a, size_t lda,
                       const float *from, const float *g, float *value, float *move, uint8_t *code,
                       float *gain);

    /* As descend, vector by vector. old[n][lane]: the codes of `from` under this grid, which stay
     * where no point gains; NULL where `from` is on another grid. */
    void (*descend_points)(const nib_codec *c, const nib_lane_grid *grid, size_t n, const float *h,
                           size_t ldh, const float *from, const uint8_t *old, const float *g,
                           float *value, float *move, uint8_t *code, float *gain);
} nib_lanes;

/* The table for a NIB_CPU_* mask. */
const nib_lanes *nib_lanes_get(unsigned cpu);

#endif
