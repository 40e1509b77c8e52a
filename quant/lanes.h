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

enum { NIB_LANES = 64 }; /* rows side by side */

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

    /* GPTQ inside a block: w[k][lane] += u[k] * e[lane] for k = 1 .. n-1; u is a row of the
     * factor from the current column on, w starts at the current column. */
    void (*feed)(size_t n, const float *u, const float *e, float *w);

    /* One coordinate-descent pass over the n columns of a sub-block. For column i in turn the value
     * is moved to the grid point nearest to the minimum of the error given all other columns, q[i]
     * + g[i] / h[i][i]; g = H (w - q) is kept up to date within the n columns and the decrease of
     * (w-q)' H (w-q) is added to gain[lane]. h: [n][n] with leading dimension ldh; q, g: [n][lane];
     * code: [n][lane]. */
    void (*descend)(const nib_levels *lv, const nib_lane_grid *grid, size_t n, const float *h,
                    size_t ldh, float *q, float *g, uint8_t *code, float *gain);
} nib_lanes;

/* The table for a NIB_CPU_* mask. */
const nib_lanes *nib_lanes_get(unsigned cpu);

#endif
