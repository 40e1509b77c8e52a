/* SPDX-License-Identifier: MIT */
/* quant/chunk.h - the solvers' work on NIB_LANES rows: weights, codes and parameters, transposed.
 * Private to gptq.c and descend.c. */
#ifndef NIB_QUANT_CHUNK_H
#define NIB_QUANT_CHUNK_H

#include "base/mem.h"
#include "quant/lanes.h"

typedef struct {
    const nib_codec *codec;
    const nib_lanes *k;
    nib_levels levels;
    size_t cols, n_blocks, n_subs;
    const float *h;         /* [cols][cols] damped Hessian, full */
    float *w;               /* [cols][L] original weights                                */
    float *work;            /* [cols][L] w - q; while rounding, as columns are ordered   */
    float *q;               /* [cols][L] quantized values                                */
    uint8_t *code;          /* [cols][L]                                                 */
    float *d, *dmin, *zero; /* [n_blocks][L]                                     */
    float *sc, *mn;         /* [n_subs][L], whole numbers                        */
    float *tmp;             /* scratch, nib_chunk_tmp() floats                   */
    float *row;             /* [L][block] the rows of a block                    */
    nib_buf memory[8];      /* of the arrays above                               */
} nib_chunk;

/* Floats of scratch that a solve with this codec needs. */
size_t nib_chunk_tmp(const nib_codec *c, size_t lazy);

/* The grid of sub-block s (counted over the row). */
void nib_chunk_grid(const nib_chunk *ch, size_t s, nib_lane_grid *grid);

/* Sets work; returns the sum over the lanes of (w-q)' H (w-q). */
double nib_chunk_error(nib_chunk *ch);

/* Coordinate descent from ch->q: at most `sweeps` sweeps; stops when one gains less than a
 * thousandth of the error. q, code and parameters are improved. */
void nib_chunk_descend(nib_chunk *ch, unsigned sweeps);

#endif
