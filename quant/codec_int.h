/* SPDX-License-Identifier: MIT */
/* quant/codec_int.h - integer groups: b-bit codes, a scale and a zero point for `group` columns.
 *
 * value = scale * (code - zero). The number format of GPTQ folders and, with other packings, of
 * most integer checkpoints. Made on demand, since bits and group size are the user's; how codes are
 * packed into words is the container's business, so pack, unpack, encode and decode are not there.
 *
 * Grid (arXiv:2210.17323 and its public code): lo = min(0, min w), hi = max(0, max w);
 * asymmetric: scale = (hi - lo) / (2^b - 1), zero = round(-lo / scale);
 * symmetric: scale = 2 max(-lo, hi) / (2^b - 1), zero = 2^(b-1). */
#ifndef NIB_QUANT_CODEC_INT_H
#define NIB_QUANT_CODEC_INT_H

#include "quant/codec.h"

typedef struct {
    nib_codec codec; /* first: fit() finds the rest from it */
    bool sym;
    bool f16_scale; /* scales are rounded to f16 before they are used, as they will be stored */
    bool search;    /* shrink the range for the least error of power 2.4, 80 steps of 1/100   */
} nib_int_codec;

/* bits 2..8, group >= 1. */
nib_int_codec nib_int_codec_make(unsigned bits, size_t group, bool sym, bool f16_scale,
                                 bool search);

#endif
