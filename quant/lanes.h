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

/* The grid of one sub-block in every lane (see nib_block_param): D, zero and B. */
typedef struct {
    float scale[NIB_LANES], zero[NIB_LANES], offset[NIB_LANES];
} nib_lane_grid;

/* What the levels of a codec are. */
typedef struct {
    int n_codes;
    float level0;
    float level[256], middle[256]; /* codebooks: levels, and the middles between neighbours */
    bool codebook;
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
} nib_lanes;

/* The table for a NIB_CPU_* mask. */
const nib_lanes *nib_lanes_get(unsigned cpu);

#endif
