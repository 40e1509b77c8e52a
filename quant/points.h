/* SPDX-License-Identifier: MIT */
/* quant/points.h - codebooks of vectors: which levels 8 or 4 neighbouring weights may have
 * together.
 *
 * GGUF's IQ1, IQ2 and IQ3 formats store the number of a point of a codebook for each run of `dim`
 * weights. A point is a level for each of them, 0 .. levels-1, packed into one number. What a level
 * stands for, and how signs or shifts make more of it, is in nib_codec's codebook:
 *
 *   signs      code = levels + l for +value(l), levels - 1 - l for -value(l)
 *   shifts     code = 2 l + (1 where 1/8 is added, 0 where it is taken off)
 *
 * Private to quant/. The tables are ggml's, in its order; packed points ascend. */
#ifndef NIB_QUANT_POINTS_H
#define NIB_QUANT_POINTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What goes with a point. */
typedef enum {
    NIB_SIGNS_FREE, /* a sign for each weight                                                */
    NIB_SIGNS_EVEN, /* the same, but of 8 weights an even number is negative                 */
    NIB_SHIFT_OWN,  /* a shift for each point                                                */
    NIB_SHIFT_SUB,  /* one for the sub-block, in its scale code                               */
} nib_points_sign;

/* Of the scale codes of NIB_SHIFT_SUB: the shift is taken off. */
enum { NIB_SHIFT_BIT = 8 };

typedef struct {
    const uint16_t *point; /* [n] ascending; level of weight i in bits bits * i ..           */
    uint16_t n;
    uint8_t dim, bits, levels;
    uint8_t shells;      /* of neighbours, see below                                        */
    const int8_t *value; /* [levels] what a level is decoded to                             */
    uint32_t near_size;
    /* Filled in by nib_points_ready(). find[packed]: the number of that point; where there is
     * none, -1 - k, near[k] then being how many points are its neighbours and the following ones
     * these points, packed: all whose distance is one of the `shells` smallest that occur, nearest
     * first and, at one distance, ascending; the last one is repeated up to a multiple of 8. */
    int32_t *find;
    uint16_t *near;
} nib_points;

extern const nib_points nib_points_iq1, nib_points_iq2_xxs, nib_points_iq2_xs, nib_points_iq2_s,
    nib_points_iq3_xxs, nib_points_iq3_s;

/* Builds find and near of all codebooks, once in a process; any thread may call it. */
void nib_points_ready(void);

/* The low 7 of 8 sign bits whose number is even say what the eighth is. */
static inline uint8_t nib_even_signs(unsigned low7)
{
    unsigned x = low7 & 127, parity = x ^ x >> 4;
    parity ^= parity >> 2;
    return (uint8_t)(x | ((parity ^ parity >> 1) & 1) << 7);
}

#endif
