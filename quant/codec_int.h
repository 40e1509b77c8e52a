/* SPDX-License-Identifier: MIT */
/* quant/codec_int.h - integer groups: b-bit codes, a scale and a zero point for `group` columns.
 *
 * value = scale * (code - zero). The number format of GPTQ folders and, with other packings, of
 * most integer checkpoints. Made on demand, since bits and group size are the user's; how codes are
 * packed into words is the container's business, so pack, unpack, encode and decode are not there.
 *
 * Grids, with lo = min(0, min w), hi = max(0, max w), a = max(-lo, hi):
 *
 *                  asymmetric: scale        zero                   symmetric: scale, zero = 2^(b-1)
 *   GPTQ           (hi - lo) / (2^b - 1)    round(-lo / scale)     2 a / (2^b - 1)
 *   AWQ            the same, floor 1e-5     the same, in range     a / (2^(b-1) - 1), floor 1e-5
 *   compressed-t.  as GPTQ                  as GPTQ                as GPTQ
 *   HQQ            (max - min) / (2^b - 1)  -min / scale, any number
 *
 * They differ too where all weights are 0: GPTQ (arXiv:2210.17323 and its public code) then takes
 * lo = -1 and hi = 1, compressed-tensors the epsilon of the scale's dtype as scale; AWQ's floors
 * (AutoAWQ) are of the range, before it is divided. AutoAWQ does not take lo and hi to 0; where all
 * weights of a group are of one sign it clips them, so that is not followed. HQQ's scale is 1 where
 * max - min is 1e-4 or less, else at least 1/20000; its zero point is a whole number with 4 bits.
 */
#ifndef NIB_QUANT_CODEC_INT_H
#define NIB_QUANT_CODEC_INT_H

#include "quant/codec.h"

typedef enum { NIB_GRID_GPTQ, NIB_GRID_AWQ, NIB_GRID_CT, NIB_GRID_HQQ } nib_int_grid;

/* How a group's scale and zero point are found. */
typedef enum {
    NIB_SCALES_RANGE, /* as above, from the extremes of its weights                               */
    NIB_SCALES_SQUARE, /* for the least sum of importance times squared error: scales of 0.15 to */
                       /* 1.1 of the range, each refitted by least squares, zero points near the */
                       /* range's; symmetric ones of either sign, since a code more is below 0   */
    NIB_SCALES_POWER,  /* GPTQ's search: the least error of power 2.4, the range shrunk by 1/100 */
                       /* to 80/100; knows no importances                                        */
} nib_int_scales;

typedef struct {
    nib_codec codec; /* first: fit() finds the rest from it */
    bool sym;
    /* The caller's to change; nib_int_codec_make() sets GPTQ's grid, the range, and 0, f32 in
     * codec.scale_type (scales are rounded to it before they are used). */
    nib_int_grid grid;
    nib_int_scales scales;
    unsigned zero_min; /* least zero point of an asymmetric grid: 1 where 0 cannot be stored */
    /* Of floats (codec_float.h). common: the largest magnitude that the scale of a matrix is to
     * cover; 0: its own. */
    size_t tile_rows, tile_cols;
    float common;
} nib_int_codec;

/* "int4-g128"; group 0 is for whole rows, "int4-row", or the whole tensor, "int8-tensor". Returns
 * buf. */
char *nib_int_codec_name(char *buf, size_t n, unsigned bits, uint64_t group, bool per_tensor);

/* bits 2..8, group >= 1. The name is "int"; the type one of NIB_INT2 ... where there is one, else
 * NIB_TYPE_COUNT. */
nib_int_codec nib_int_codec_make(unsigned bits, size_t group, bool sym);
/* One grid for a whole matrix, that of its range. */
void nib_int_codec_per_tensor(nib_int_codec *c);

#endif
