/* SPDX-License-Identifier: MIT */
/* quant/regrid.h - integer codes from one grid onto another without rounding: the same values, or
 * why the other grid does not hold them.
 *
 * Most formats of integers say scale * (code - zero) and differ in how many columns share a scale,
 * how it is stored, and which codes and zero points there are. A level, code - zero, under a scale
 * that both hold is one product of the same two numbers in either, so the values are equal bit for
 * bit. Formats with a minimum in place of a zero point (q4_1, q5_1) hold a group where scale * zero
 * is exact in the dtype of the minimum: then d * code - scale * zero has no rounding in f32. */
#ifndef NIB_QUANT_REGRID_H
#define NIB_QUANT_REGRID_H

#include "quant/codec.h"

typedef struct {
    int32_t n_codes;             /* 0 .. n_codes - 1                                       */
    int32_t zero_low, zero_high; /* zero points that can be stored; both alike: it has one */
    bool minimum;                /* what is stored is scale * zero, in scale_type          */
    size_t group;                /* columns that share scale and zero point                */
    nib_type scale_type;         /* F16, BF16 or F32 */
} nib_grid;

/* The grid of a block format; false: its values are not of this kind (codebooks, scales of
 * scales). */
bool nib_grid_of_codec(nib_grid *g, const nib_codec *c);

/* One row of integers. */
typedef struct {
    size_t cols;
    const uint8_t *code;      /* [cols]                                               */
    const float *scale;       /* [groups]                                             */
    const int32_t *zero;      /* [groups]                                             */
    const uint32_t *group_of; /* [cols] */
    const uint32_t *from;     /* [cols] column c of the result is this one here; NULL: the same */
} nib_grid_row;

typedef enum {
    NIB_HELD,
    NIB_HELD_NOT_SCALES, /* columns of one group have several scales   */
    NIB_HELD_NOT_SCALE,  /* its scale, or minimum, is none of the dtype */
    NIB_HELD_NOT_LEVELS, /* levels beyond the codes                    */
} nib_held;

/* code[cols] and param[cols / to->group, rounded up] of the same row on the grid `to`. A zero point
 * that all columns of a group have, and that can be stored, is kept; otherwise it is the one
 * nearest to the middle of the codes. *at, if not NULL, is the first column of the group that is
 * not held. */
nib_held nib_regrid_row(uint8_t *code, nib_block_param *param, const nib_grid *to,
                        const nib_grid_row *row, size_t *at);

#endif
